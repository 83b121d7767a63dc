//! `netlatch last-error`: why a start failed. crun shows its user an exit code and nothing else.

use std::path::Path;

use serde_json::{Value, json};

use super::page::{Look, Style, plain};
use super::{Outcome, print, print_json};
use crate::error::Failure;
use crate::registry::{Fault, Registry};

pub(super) fn run(run_dir: &Path, id: Option<&str>, json: bool, look: Look) -> Result<Outcome, Failure> {
    let fault = Registry::at(run_dir).fault(id)?;
    match &fault {
        fault if json => print_json(&format!("{:#}\n", as_json(fault.as_ref())))?,
        Some(fault) => {
            let who = if fault.id.is_empty() { "a container whose state could not be read" } else { &fault.id };
            let mut page = look.page_of_lines();
            let code = Style::Bad.on(format!("exited with {}", fault.code));
            let pieces = [plain(format!("{who}: {} ", fault.stage)), code, plain(format!(" at {}", utc(fault.time)))];
            page.put(&[], &pieces, 4);
            page.put(&[], &[plain(&fault.message)], 4);
            page.print()?;
        }
        None => print("no failure is recorded\n")?,
    }
    Ok(if fault.is_some() { Outcome::Done } else { Outcome::Found })
}

/// For programs; null where nothing is recorded.
fn as_json(fault: Option<&Fault>) -> Value {
    fault.map_or(Value::Null, |fault| {
        json!({
            "id": (!fault.id.is_empty()).then_some(&fault.id), "stage": fault.stage, "code": fault.code,
            "time": utc(fault.time), "message": fault.message,
        })
    })
}

/// Seconds since 1970 as RFC 3339 in UTC. Days to a date by counting 400-year cycles from 1 March, so that leap days come
/// last in each.
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (cycle, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (date, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = year + cycle * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{date:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn seconds_are_shown_as_a_date() {
        // As `date -u -d @N +%FT%TZ` prints them.
        for (seconds, shown) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_795_391_633, "2026-11-22T23:53:53Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds), shown);
        }
    }
}
