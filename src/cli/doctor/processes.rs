//! When a daemon was started, to be held against what it read then.

use super::tree::Tree;

/// Ticks a second of the times in /proc/PID/stat: `USER_HZ`, 100 on every architecture that Rust's Linux runs on.
const USER_HZ: i64 = 100;
/// /proc tells seconds, and so do files.
const SLACK: i64 = 1;

/// When the first process of this name was started, in seconds of the epoch; `None` where none runs.
pub(super) fn started(name: &str, tree: &Tree) -> Option<i64> {
    let boot = tree.read("/proc/stat").ok()?;
    let boot: i64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    let numbers = tree.names("/proc").into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let of = numbers.filter(|number| tree.read(&format!("/proc/{number}/comm")).is_ok_and(|comm| comm.trim() == name));
    let ticks = |number: String| -> Option<i64> {
        let stat = tree.read(&format!("/proc/{number}/stat")).ok()?;
        // The name, in parentheses, may hold anything; `starttime` is the 22nd field, the 20th behind it.
        stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
    };
    of.filter_map(ticks).min().map(|ticks| boot + ticks / USER_HZ)
}

/// Whether what was put in place at `changed` came after a daemon that was started at `started`.
pub(super) const fn came_after(changed: i64, started: i64) -> bool {
    changed > started + SLACK
}
