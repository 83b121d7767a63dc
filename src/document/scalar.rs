//! What a plain scalar is: the core schema of YAML 1.2 (chapter 10.3.2), and where YAML 1.1 disagrees.

use super::Value;

/// The value of an unquoted scalar.
pub(super) fn resolve(text: String) -> Value {
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => match number(&text) {
            Some(Number::Int(value)) => Value::Int { value, text },
            Some(Number::Float(value)) => Value::Float { value, text },
            None => Value::Str { text, plain: true },
        },
    }
}

enum Number {
    Int(i64),
    Float(f64),
}

fn number(text: &str) -> Option<Number> {
    // Most texts are names and addresses, and are told from numbers by their first byte or a slash.
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) || text.contains('/') {
        return None;
    }
    let radix = |digits: &str, radix: u32| {
        let all = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
        all.then(|| i64::from_str_radix(digits, radix).map_or(Number::Float(f64::INFINITY), Number::Int))
    };
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8);
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    match unsigned {
        ".inf" | ".Inf" | ".INF" => {
            return Some(Number::Float(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY }));
        }
        ".nan" | ".NaN" | ".NAN" if unsigned.len() == text.len() => return Some(Number::Float(f64::NAN)),
        _ => {}
    }
    if !unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(match text.parse() {
            Ok(value) => Number::Int(value),
            Err(_) => Number::Float(text.parse().unwrap_or(f64::INFINITY)),
        });
    }
    // [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fits = digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent));
    // Rust's own grammar holds all of this one.
    fits.then(|| Number::Float(text.parse().unwrap_or(f64::NAN)))
}

/// What other readers take this plain text for, which the core schema calls a string. `y` and `n` are not among
/// them: YAML 1.1 has them as booleans, go-yaml (which is Kubernetes' reader) never did, and manifests name
/// namespaces so.
pub(super) fn elsewhere(text: &str) -> Option<&'static str> {
    match text {
        "yes" | "Yes" | "YES" | "no" | "No" | "NO" | "on" | "On" | "ON" | "off" | "Off" | "OFF" => {
            return Some("a boolean");
        }
        "=" | "<<" => return Some("special"),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !unsigned.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if unsigned.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'_' | b'.' | b':')) {
        if unsigned.contains(':') {
            // Base 60: 12:30 is 750. At most one point, at the end; an address such as 10.0.0.1:80 is none.
            let whole = unsigned.split_once('.').map_or(unsigned, |(whole, _)| whole);
            let mut parts = whole.split(':');
            let first = parts.next().unwrap_or_default();
            let sixty = |part: &str| part.len() <= 2 && part.parse::<u8>().is_ok_and(|value| value < 60);
            let base_60 = unsigned.matches('.').count() <= 1
                && whole.contains(':')
                && first.bytes().all(|byte| byte != b'.')
                && parts.all(sixty);
            return base_60.then_some("a number in base 60");
        }
        if unsigned.contains('_') && unsigned.matches('.').count() <= 1 {
            return Some("a number");
        }
    }
    if let Some(digits) = unsigned.strip_prefix("0b")
        && !digits.is_empty()
        && digits.bytes().all(|byte| matches!(byte, b'0' | b'1' | b'_'))
    {
        return Some("a number");
    }
    if let Some(digits) = unsigned.strip_prefix("0x")
        && !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'_')
    {
        return Some("a number");
    }
    is_date(text).then_some("a date")
}

/// `2001-12-14`, alone or with a time behind it.
fn is_date(text: &str) -> bool {
    if text.as_bytes().get(4) != Some(&b'-') {
        return false;
    }
    let date = text.split(['T', 't', ' ']).next().unwrap_or_default();
    let mut parts = date.split('-');
    let mut digits = |lengths: std::ops::RangeInclusive<usize>| {
        parts.next().is_some_and(|part| lengths.contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit()))
    };
    let three = digits(4..=4) && digits(1..=2) && digits(1..=2);
    // A time holds a colon; `2024-1-1 and more` is no date to anybody.
    three && parts.next().is_none() && (date.len() == text.len() || text.contains(':'))
}

/// Whether an integer's text means one number to some readers and another to the rest: `010` is 10 in YAML 1.2 and 8
/// in YAML 1.1.
pub(super) fn is_octal_elsewhere(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    unsigned.len() > 1 && unsigned.starts_with('0') && unsigned.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_core_schema_decides_what_a_plain_scalar_is() {
        for (text, value) in [("0", 0), ("-1", -1), ("+7", 7), ("0x10", 16), ("0o17", 15), ("010", 10)] {
            assert_eq!(resolve(text.into()), Value::Int { value, text: text.into() });
        }
        for text in
            ["1.", ".5", "1e3", "-1.5E-7", ".inf", "-.INF", "99999999999999999999", "0xfffffffffffffffffff", "1e999"]
        {
            assert!(matches!(resolve(text.into()), Value::Float { .. }), "{text}");
        }
        for text in [
            "y", "yes", "on", "0x", "0xg", "0o8", "-", "+", ".", "e5", "1e", "1e+", "1_000", "10.0.0.1", "--1", "-0x1",
            "+.nan", "inf", "nan",
        ] {
            assert_eq!(resolve(text.into()), Value::Str { text: text.into(), plain: true }, "{text}");
        }
    }

    #[test]
    fn what_older_readers_see_otherwise_is_known() {
        for text in [
            "yes",
            "No",
            "ON",
            "off",
            "12:30",
            "1:02:03",
            "190:20:30.15",
            "1_000",
            "0b101",
            "0x1_0",
            "-0x10",
            "2001-12-14",
            "2001-12-14T21:59:43.10-05:00",
            "2001-12-14 21:59:43",
            "=",
            "+1_0.5",
        ] {
            assert!(elsewhere(text).is_some(), "{text}");
        }
        for text in [
            "y",
            "n",
            "10.0.0.0/8",
            "10.0.0.1:80",
            "12:99",
            "1:2:3:4:5:6:7:8000",
            "2001:db8::/32",
            "v1.2",
            "a_b",
            "fd00::1",
            "2024-01-01-backup",
            "100-200",
            "_",
            "443/tcp",
            "nope",
            "192.0.2.7:8000-8999",
            "1.2.3_4.5",
        ] {
            assert!(elsewhere(text).is_none(), "{text}");
        }
    }
}
