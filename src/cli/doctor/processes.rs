//! When a daemon was started, to be held against what it read then.

use super::tree::Tree;

/// Ticks a second of the times in /proc/PID/stat: `USER_HZ`, 100 on every architecture that Rust's Linux runs on.
const USER_HZ: i64 = 100;
/// /proc tells seconds, and so do files.
const SLACK: i64 = 1;

/// A daemon that runs.
#[derive(Clone, Debug)]
pub(super) struct Daemon {
    /// When it was started, in seconds of the epoch.
    pub(super) since: i64,
    /// Its arguments, its own name first.
    args: Vec<String>,
    /// Its environment, each `NAME=VALUE`. Empty where it may not be looked at.
    environment: Vec<String>,
}

impl Daemon {
    /// The first that was started of all processes of this name; `None` where none runs.
    pub(super) fn running(name: &str, tree: &Tree) -> Option<Daemon> {
        Daemon::all(name, tree).into_iter().next()
    }

    /// All processes of this name, in the order in which they were started.
    pub(super) fn all(name: &str, tree: &Tree) -> Vec<Daemon> {
        let boot = tree.read("/proc/stat").unwrap_or_default();
        let boot = boot.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<i64>().ok());
        let Some(boot) = boot else { return Vec::new() };
        let numbers = tree.names("/proc").into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        let of =
            numbers.filter(|number| tree.read(&format!("/proc/{number}/comm")).is_ok_and(|comm| comm.trim() == name));
        let ticks = |number: &String| -> Option<i64> {
            let stat = tree.read(&format!("/proc/{number}/stat")).ok()?;
            // The name, in parentheses, may hold anything; `starttime` is the 22nd field, the 20th behind it.
            stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
        };
        let strings = |number: &str, name: &str| -> Vec<String> {
            let text = tree.read(&format!("/proc/{number}/{name}")).unwrap_or_default();
            text.split_terminator('\0').map(str::to_owned).collect()
        };
        let mut started: Vec<(i64, String)> = of.filter_map(|number| Some((ticks(&number)?, number))).collect();
        started.sort();
        let daemon = |(ticks, number): (i64, String)| Daemon {
            since: boot + ticks / USER_HZ,
            args: strings(&number, "cmdline"),
            environment: strings(&number, "environ"),
        };
        started.into_iter().map(daemon).collect()
    }

    /// The value of an option that it was started with, `--option VALUE` or `--option=VALUE`, or else of a variable.
    pub(super) fn told(&self, options: &[&str], variable: &str) -> Option<String> {
        let mut args = self.args.iter().skip(1);
        while let Some(arg) = args.next() {
            match arg.split_once('=') {
                Some((name, value)) if options.contains(&name) => return Some(value.to_owned()),
                None if options.contains(&arg.as_str()) => return args.next().cloned(),
                Some(_) | None => {}
            }
        }
        let of = |pair: &String| Some(pair.strip_prefix(variable)?.strip_prefix('=')?.to_owned());
        self.environment.iter().find_map(of).filter(|value| !variable.is_empty() && !value.is_empty())
    }
}

/// Whether what was put in place at `changed` came after a daemon that was started at `started`.
pub(super) const fn came_after(changed: i64, started: i64) -> bool {
    changed > started + SLACK
}
