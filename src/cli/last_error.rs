//! `netlatch last-error`: why a start failed. crun shows its user an exit code and nothing else.

use std::path::Path;

use super::{Outcome, print};
use crate::error::Failure;
use crate::printable;
use crate::registry::Registry;

pub(super) fn run(run_dir: &Path, id: Option<&str>) -> Result<Outcome, Failure> {
    match Registry::at(run_dir).fault(id)? {
        Some(fault) => {
            let who = if fault.id.is_empty() { "a container whose state could not be read" } else { &fault.id };
            let head = format!("{who}: {} exited with {} at {}", fault.stage, fault.code, utc(fault.time));
            print(&format!("{}\n{}\n", printable::line(&head), printable::line(&fault.message)))?;
            Ok(Outcome::Done)
        }
        None => {
            print("no failure is recorded\n")?;
            Ok(Outcome::Found)
        }
    }
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
