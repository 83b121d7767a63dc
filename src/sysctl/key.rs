//! The name of a sysctl below `net`, its value, and when two values are one.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::net::{Family, Origin};

/// The longest name taken, in bytes. The longest below /proc/sys/net on Linux 6.18 has 57.
pub const MAX_SYSCTL_NAME: usize = 128;

/// The longest value taken, in bytes: what `do_proc_dointvec` (kernel/sysctl.c) reads of a write, less the newline.
pub const MAX_SYSCTL_VALUE: usize = 4094;

/// The longest interface name in bytes: `IFNAMSIZ` less the NUL.
pub const MAX_INTERFACE: usize = 15;

/// The name of a sysctl below `net`: a path below /proc/sys that cannot lead anywhere else.
///
/// Keys compare by the file they mean, however they were spelled.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Relative to /proc/sys. Components hold no `/`, are not empty and are never `.` or `..`.
    path: String,
}

/// Why a text is not the name of a network sysctl.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not below `net`.
    #[error("`{0}` is not below `net.`; only network sysctls belong to a network namespace")]
    NotNet(String),
    /// Longer than [`MAX_SYSCTL_NAME`].
    #[error("a sysctl name of {0} bytes is longer than {MAX_SYSCTL_NAME} (MAX_SYSCTL_NAME)")]
    TooLong(usize),
    /// Outside `A-Za-z0-9_./@:-`.
    #[error("{character:?} cannot stand in a sysctl name ({name:?})")]
    Character {
        /// The whole text.
        name: String,
        /// The first that cannot.
        character: char,
    },
    /// Two separators in a row, or one at the end.
    #[error("`{0}` has an empty part")]
    Empty(String),
    /// `.` or `..` as a path component.
    #[error("`{0}` has a part that would be `.` or `..` as a file name")]
    Traversal(String),
    /// `IFNAME` for an interface, as Docker and the CNI tuning plugin take it.
    #[error("`{0}`: IFNAME stands for no interface here; name the interface, or `default` for all that come later")]
    Placeholder(String),
    /// Not a name that the kernel gives an interface (`dev_valid_name`, net/core/dev.c).
    #[error(
        "`{name}` is not an interface name: the kernel takes 1 to {MAX_INTERFACE} bytes without `/`, `:` or blanks"
    )]
    Interface {
        /// What stands in the interface's place.
        name: String,
    },
    /// Not the name of a file below an interface's folder.
    #[error("{0:?} is not the name of an interface's sysctl")]
    Leaf(String),
    /// A folder, not a value.
    #[error("`{0}` names a folder of sysctls, not one of them")]
    Folder(String),
    /// Below a per-interface folder there is one level of files.
    #[error("`{0}` goes deeper than any sysctl of an interface")]
    TooDeep(String),
}

/// Folders with one folder for each interface, such as net/ipv4/conf.
pub(super) fn is_per_interface(parts: &[Cow<'_, str>]) -> bool {
    matches!(parts, [net, family, folder, ..]
        if net == "net" && matches!(family.as_ref(), "ipv4" | "ipv6") && matches!(folder.as_ref(), "conf" | "neigh"))
}

/// The parts of a name in either spelling, and whether it is the dotted one. Checks length and characters alone.
pub(super) fn split(text: &str) -> Result<(bool, Vec<Cow<'_, str>>), KeyError> {
    if text.len() > MAX_SYSCTL_NAME {
        return Err(KeyError::TooLong(text.len()));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '@' | ':' | '-');
    if let Some(character) = text.chars().find(|c| !allowed(*c)) {
        return Err(KeyError::Character { name: text.to_owned(), character });
    }
    let dotted = text.find(['.', '/']).is_none_or(|at| text.as_bytes()[at] == b'.');
    let parts = if dotted {
        text.split('.').map(|p| if p.contains('/') { p.replace('/', ".").into() } else { p.into() }).collect()
    } else {
        text.split('/').map(Cow::from).collect()
    };
    Ok((dotted, parts))
}

impl Key {
    /// Parses both spellings of sysctl(8): `net.ipv4.tcp_rmem` and `net/ipv4/tcp_rmem`. The first separator says
    /// which it is; the other one then stands for a dot inside a part (`net.ipv4.conf.eth0/100.rp_filter`,
    /// `net/ipv4/conf/eth0.100/rp_filter`). In the dotted spelling everything between `conf` and the last part is
    /// the interface, so `net.ipv4.conf.eth0.100.rp_filter` means the same file.
    pub fn parse(text: &str) -> Result<Key, KeyError> {
        let (dotted, mut parts) = split(text)?;
        if parts.iter().any(|p| p.is_empty()) {
            return Err(KeyError::Empty(text.to_owned()));
        }
        if parts.iter().any(|p| p == "." || p == "..") {
            return Err(KeyError::Traversal(text.to_owned()));
        }
        if parts[0] != "net" {
            return Err(KeyError::NotNet(text.to_owned()));
        }
        if parts.iter().any(|p| p == "IFNAME") {
            return Err(KeyError::Placeholder(text.to_owned()));
        }
        if is_per_interface(&parts) {
            if parts.len() < 5 {
                return Err(KeyError::Folder(text.to_owned()));
            }
            if dotted {
                let interface = parts[3..parts.len() - 1].join(".");
                parts.splice(3..parts.len() - 1, [Cow::from(interface)]);
            }
            if parts.len() > 5 {
                return Err(KeyError::TooDeep(text.to_owned()));
            }
            if !is_interface_name(&parts[3]) {
                return Err(KeyError::Interface { name: parts[3].to_string() });
            }
        } else if parts.len() < 3 {
            return Err(KeyError::Folder(text.to_owned()));
        }
        Ok(Key { path: parts.join("/") })
    }

    /// `net.FAMILY.conf.INTERFACE.LEAF`. The interface is a name as the kernel lists it, so it may hold what
    /// [`Key::parse`] does not take from an operator.
    pub fn conf(family: Family, interface: &str, leaf: &str) -> Result<Key, KeyError> {
        if !is_interface_name(interface) {
            return Err(KeyError::Interface { name: interface.to_owned() });
        }
        if !is_leaf_name(leaf) {
            return Err(KeyError::Leaf(leaf.to_owned()));
        }
        Ok(Key::of_conf(family, interface, leaf))
    }

    /// [`Key::conf`] of parts that are known to be good.
    pub(crate) fn of_conf(family: Family, interface: &str, leaf: &str) -> Key {
        debug_assert!(is_interface_name(interface) && is_leaf_name(leaf), "{interface:?} {leaf:?}");
        Key { path: format!("net/{}/conf/{interface}/{leaf}", word(family)) }
    }

    /// The path below /proc/sys, without a leading slash.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Family, interface (or `all`, or `default`) and leaf of a key below `net.*.conf`.
    pub fn as_conf(&self) -> Option<(Family, &str, &str)> {
        conf_of(&self.path)
    }
}

/// [`Key::as_conf`] of a path.
pub(super) fn conf_of(path: &str) -> Option<(Family, &str, &str)> {
    let mut parts = path.strip_prefix("net/")?.split('/');
    let family = match parts.next()? {
        "ipv4" => Family::V4,
        "ipv6" => Family::V6,
        _ => return None,
    };
    match (parts.next()?, parts.next()?, parts.next()?) {
        ("conf", interface, leaf) => Some((family, interface, leaf)),
        _ => None,
    }
}

/// The folder below /proc/sys/net.
pub(crate) const fn word(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

/// `dev_valid_name` (net/core/dev.c), which also keeps a path from leaving its folder.
pub(crate) fn is_interface_name(name: &str) -> bool {
    (1..=MAX_INTERFACE).contains(&name.len())
        && name != "."
        && name != ".."
        && !name.bytes().any(|b| matches!(b, b'/' | b':' | 0) || b.is_ascii_whitespace() || b == 0x0b)
}

/// A file below an interface's folder.
pub(crate) fn is_leaf_name(leaf: &str) -> bool {
    !leaf.is_empty() && leaf.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Key, KeyError> {
        Key::parse(text)
    }
}

/// As sysctl(8) prints it: dots between parts, a slash for each dot within one.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.path.split('/').enumerate() {
            if i > 0 {
                f.write_str(".")?;
            }
            for (j, piece) in part.split('.').enumerate() {
                if j > 0 {
                    f.write_str("/")?;
                }
                f.write_str(piece)?;
            }
        }
        Ok(())
    }
}

/// One sysctl with the value it is to hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Setting {
    /// Which.
    pub key: Key,
    /// As [`check_value`] left it.
    pub value: String,
    /// Where it was asked for.
    pub origin: Origin,
}

impl Setting {
    /// Checks the value.
    pub fn new(key: Key, value: &str, origin: Origin) -> Result<Setting, ValueError> {
        Ok(Setting { key, value: check_value(value)?.to_owned(), origin })
    }
}

/// Why a text is no sysctl's value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Nothing but blanks.
    #[error("the value is empty")]
    Empty,
    /// Longer than [`MAX_SYSCTL_VALUE`].
    #[error("a value of {0} bytes is longer than {MAX_SYSCTL_VALUE} (MAX_SYSCTL_VALUE)")]
    TooLong(usize),
    /// A newline, NUL or other control character, or something outside ASCII.
    #[error("{0:?} cannot stand in a sysctl's value")]
    Character(char),
}

/// The value without blanks around it. Printable ASCII, and tabs between fields as the kernel prints them.
pub fn check_value(value: &str) -> Result<&str, ValueError> {
    // Only what a shell or YAML leaves at the rim; a newline there is refused like any other.
    let value = value.trim_matches([' ', '\t']);
    if value.is_empty() {
        return Err(ValueError::Empty);
    }
    if value.len() > MAX_SYSCTL_VALUE {
        return Err(ValueError::TooLong(value.len()));
    }
    match value.chars().find(|c| !matches!(c, ' '..='~' | '\t')) {
        Some(character) => Err(ValueError::Character(character)),
        None => Ok(value),
    }
}

/// Whether two values are one to the kernel: fields are apart by any blanks, a number may be decimal, `0x` or octal
/// (`strtoul_lenient` with base 0, kernel/sysctl.c), and a port list means its set (`proc_do_large_bitmap` prints
/// `1,2,3` as `1-3`). `+5` is no number there (`proc_get_long` takes `-` alone), so it equals only itself.
pub fn same_value(a: &str, b: &str) -> bool {
    let mut a = a.split_ascii_whitespace();
    let mut b = b.split_ascii_whitespace();
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if same_field(a, b) => {}
            _ => return false,
        }
    }
}

fn same_field(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    if let (Some(a), Some(b)) = (number(a), number(b)) {
        return a == b;
    }
    matches!((port_list(a), port_list(b)), (Some(a), Some(b)) if a == b)
}

fn number(field: &str) -> Option<i128> {
    let (sign, digits) = match field.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, field),
    };
    let (digits, radix) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (digits, 8),
        None => (digits, 10),
    };
    // `from_str_radix` alone would take a second sign.
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok().map(|n| sign * i128::from(n))
}

/// `80,8080-8090` as merged ranges; a number with a leading zero is octal and so no plain one.
fn port_list(field: &str) -> Option<Vec<(u64, u64)>> {
    let plain = |text: &str| {
        let digits = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        digits.then(|| text.parse::<u64>().ok()).flatten()
    };
    let mut ranges = Vec::new();
    for item in field.split(',') {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let (first, last) = (plain(first)?, plain(last)?);
        if last < first {
            return None;
        }
        ranges.push((first, last));
    }
    ranges.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(range) if first <= range.1.saturating_add(1) => range.1 = range.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    Some(merged)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_key_stays_below_net_and_prints_as_itself(text in "(net[./]((ipv[46]|[a-zIFNAME]{1,6}|\\PC)[./]?){0,3}(conf|neigh)?)?[a-z0-9./:@_-]{0,24}") {
            if let Ok(key) = Key::parse(&text) {
                let parts: Vec<&str> = key.path().split('/').collect();
                prop_assert_eq!(parts[0], "net");
                prop_assert!(parts.len() >= 3);
                prop_assert!(parts.iter().all(|part| !matches!(*part, "" | "." | "..")));
                prop_assert_eq!(Key::parse(&key.to_string()), Ok(key.clone()));
                prop_assert_eq!(Key::parse(key.path()), Ok(key));
            }
        }

        #[test]
        fn same_value_is_an_equivalence(a in "[-+0-9x, \t]{0,6}", b in "[-+0-9x, \t]{0,6}") {
            prop_assert!(same_value(&a, &a));
            prop_assert_eq!(same_value(&a, &b), same_value(&b, &a));
        }
    }

    fn path(text: &str) -> String {
        Key::parse(text).unwrap_or_else(|e| panic!("{text}: {e}")).path().to_owned()
    }

    #[test]
    fn every_spelling_of_a_dotted_interface_is_one_file() {
        for text in
            ["net.ipv4.conf.eth0.100.rp_filter", "net.ipv4.conf.eth0/100.rp_filter", "net/ipv4/conf/eth0.100/rp_filter"]
        {
            assert_eq!(path(text), "net/ipv4/conf/eth0.100/rp_filter", "{text}");
            assert_eq!(Key::parse(text).unwrap().to_string(), "net.ipv4.conf.eth0/100.rp_filter");
        }
        assert_eq!(path("net.ipv6.neigh.a.b.c.retrans_time_ms"), "net/ipv6/neigh/a.b.c/retrans_time_ms");
        assert_eq!(path("net.ipv4.conf.a/b.c.arp_ignore"), "net/ipv4/conf/a.b.c/arp_ignore");
    }

    #[test]
    fn what_is_printed_parses_back() {
        for text in ["net.core.somaxconn", "net.ipv4.conf.all.rp_filter", "net.ipv6.conf.veth@x/1.accept_ra"] {
            let key = Key::parse(text).unwrap();
            assert_eq!(key.to_string(), text);
            assert_eq!(Key::parse(&key.to_string()).unwrap(), key);
        }
    }

    #[test]
    fn nothing_leads_out_of_net() {
        for text in [
            "kernel.pid_max",
            "net",
            "net.",
            "",
            ".",
            "/",
            "..",
            "net..ipv4",
            "net/../kernel/pid_max",
            "net.//.kernel.pid_max",
            "net/./ipv4/ip_forward",
            "net.ipv4.conf.//.//.//.rp_filter",
            "net.ipv4.conf.//.rp_filter",
            "net.ipv4.conf...rp_filter",
            "net/ipv4/conf/../rp_filter",
            "/proc/sys/net/ipv4/ip_forward",
            "net/ipv4/conf/eth0/../../ip_forward",
            "net/ipv4/ip_forward/",
            "network.x.y",
        ] {
            assert!(Key::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn characters_that_separate_or_hide_are_refused() {
        for text in [
            "net.ipv4.ip_forward\n",
            "net.ipv4.ip_forward\0",
            " net.ipv4.ip_forward",
            "net.ipv4.ip forward",
            "net.ipv4.ip_forward=1",
            "net.ipv4.ip_forward+kernel.x",
            "net.ipv4.ip_f\u{f6}rward",
            "net.ipv4.conf.*.rp_filter",
            "net\\ipv4",
        ] {
            assert!(matches!(Key::parse(text), Err(KeyError::Character { .. })), "{text:?}");
        }
    }

    #[test]
    fn interface_names_are_the_kernels() {
        assert!(Key::parse("net.ipv4.conf.fifteen-bytes.x.rp_filter").is_ok());
        for text in ["net.ipv4.conf.sixteen-bytes.xyz.rp_filter", "net.ipv4.conf.a:b.rp_filter"] {
            assert!(matches!(Key::parse(text), Err(KeyError::Interface { .. })), "{text}");
        }
        assert!(matches!(Key::parse("net.ipv6.conf.IFNAME.accept_ra"), Err(KeyError::Placeholder(_))));
        assert!(matches!(Key::parse("net.ipv6.conf.all"), Err(KeyError::Folder(_))));
        assert!(matches!(Key::parse("net/ipv6/conf/lo/x/y"), Err(KeyError::TooDeep(_))));
        assert!(matches!(Key::parse(&format!("net.{}", "a.".repeat(80))), Err(KeyError::TooLong(_))));
        assert!(Key::conf(Family::V6, "..", "accept_ra").is_err());
        assert!(Key::conf(Family::V6, "lo", "../x").is_err());
    }

    #[test]
    fn a_conf_key_knows_its_parts() {
        let key = Key::parse("net.ipv6.conf.eth0.7.accept_ra").unwrap();
        assert_eq!(key.as_conf(), Some((Family::V6, "eth0.7", "accept_ra")));
        assert_eq!(key, Key::conf(Family::V6, "eth0.7", "accept_ra").unwrap());
        assert_eq!(Key::parse("net.ipv6.neigh.lo.proxy_qlen").unwrap().as_conf(), None);
        assert_eq!(Key::parse("net.core.somaxconn").unwrap().as_conf(), None);
    }

    #[test]
    fn values_are_one_printable_line() {
        assert_eq!(check_value(" 4096\t131072 6291456\t"), Ok("4096\t131072 6291456"));
        for bad in ["1\n", "1\n2", "1\0", "\u{1b}[0m", "1\r", "\u{7f}", "\u{e9}", "", " \t"] {
            assert!(check_value(bad).is_err(), "{bad:?}");
        }
        assert!(check_value(&"1".repeat(MAX_SYSCTL_VALUE)).is_ok());
        assert_eq!(check_value(&"1".repeat(MAX_SYSCTL_VALUE + 1)), Err(ValueError::TooLong(MAX_SYSCTL_VALUE + 1)));
    }

    #[test]
    fn values_compare_as_the_kernel_prints_them() {
        for (a, b) in [
            ("1", "1\n"),
            ("4096 131072 6291456", "4096\t131072\t6291456\n"),
            ("0x10", "16"),
            ("010", "8"),
            ("-1", "-1\n"),
            ("-0", "0"),
            ("80,81,82", "80-82\n"),
            ("8080,80", "80,8080"),
            ("5-5", "5"),
            ("bbr", "bbr\n"),
        ] {
            assert!(same_value(a, b), "{a:?} {b:?}");
            assert!(same_value(b, a), "{b:?} {a:?}");
        }
        for (a, b) in [
            ("1", "0"),
            ("1", "1 1"),
            ("+5", "5"),
            ("08", "8"),
            ("1-1", "-1"),
            ("5-3", "3-5"),
            ("bbr", "cubic"),
            ("", "0"),
            ("-", "0"),
            ("0x", "0"),
            ("--1", "1"),
        ] {
            assert!(!same_value(a, b), "{a:?} {b:?}");
        }
    }
}
