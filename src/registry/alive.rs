//! Whether what was recorded is still there.
//!
//! Processes end without a word (a missed poststop, a crash), and their numbers are given out again.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::kill;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::error::errno_of;
use crate::kernel::netns::{NamespaceId, Target};
use crate::kernel::process::Deadline;

/// What keeps a container's network namespace in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// The container's first process.
    Process {
        /// Its number.
        pid: i32,
        /// When it started, which no later process with its number shares: see [`started`].
        started: u64,
    },
    /// A path that the namespace is mounted at, where the runtime named no process.
    Path(PathBuf),
}

impl Anchor {
    /// Whether it may still be there, at the price of one system call, 0.25 µs for a process. A process that took over
    /// another's number passes.
    pub fn may_hold(&self, netns: NamespaceId) -> bool {
        match self {
            Anchor::Process { pid, .. } => exists(*pid),
            Anchor::Path(_) => self.holds(netns),
        }
    }

    /// Whether it is still there: the process, or `netns` behind the path.
    ///
    /// Where a process is now is not asked. The first of a container may go elsewhere by unshare(2) and leave others behind
    /// it: that must not take the container out of the sets that deny it.
    pub fn holds(&self, netns: NamespaceId) -> bool {
        match self {
            Anchor::Process { .. } => self.is_living_process(),
            Anchor::Path(path) => still(Target::Path(path.clone()), netns),
        }
    }

    /// Whether it is a process that lives, wherever.
    pub(super) fn is_living_process(&self) -> bool {
        match self {
            Anchor::Process { pid, started } => match stat(*pid) {
                Ok(Some(stat)) => stat.started == *started && stat.is_alive(),
                // What may not be looked at (hidepid; no descriptor left, no memory) is not said to be gone: that would take
                // it out of the sets that deny it.
                Ok(None) => is_hidden(*pid),
                Err(_) => exists(*pid),
            },
            Anchor::Path(_) => false,
        }
    }

    /// Whether it is a process that lives and does not end before `patience` does. Who is on his way out is waited for: of a
    /// killed process the first thread may be a zombie while others still end.
    pub fn goes_on(&self, patience: Duration) -> bool {
        let Anchor::Process { pid, .. } = self else { return false };
        // rustix asserts that a number is not negative.
        let pidfd = Some(*pid)
            .filter(|pid| *pid > 0)
            .and_then(Pid::from_raw)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        // Asked behind the opening: by then the number may be another's.
        let lives = self.is_living_process();
        match pidfd {
            Some(pidfd) if lives => Deadline::after(patience).wait_readable(pidfd, "wait for a process").is_err(),
            Some(_) | None => lives,
        }
    }

    /// Where the namespace is to be joined. A process whose first thread has ended while others run has its namespaces
    /// behind these only.
    pub(super) fn target(&self, netns: NamespaceId) -> Target {
        match self {
            Anchor::Path(path) => Target::Path(path.clone()),
            Anchor::Process { pid, .. } => match stat(*pid).ok().flatten() {
                Some(stat) if stat.ended => {
                    let there = |target: &Target| target.namespace() == Ok(netns);
                    threads(*pid).find(there).unwrap_or(Target::Process(*pid))
                }
                Some(_) | None => Target::Process(*pid),
            },
        }
    }
}

/// Whether there is a process with this number. 0 and negative numbers mean groups of processes to kill(2).
fn exists(pid: i32) -> bool {
    pid > 0 && kill(nix::unistd::Pid::from_raw(pid), None) != Err(Errno::ESRCH)
}

/// Whether there is a process with this number that /proc tells nothing of: mounted with `hidepid`, it keeps from who has no
/// CAP_SYS_PTRACE what others run (`proc_pid_permission`: EPERM at 1, ENOENT at 2). Who may not be looked at is not said to
/// be gone.
pub(super) fn is_hidden(pid: i32) -> bool {
    exists(pid) && !matches!(stat(pid), Ok(Some(_))) && exists(pid)
}

/// Whether `netns` is behind `target`. What may not be looked at is not said to be gone.
fn still(target: Target, netns: NamespaceId) -> bool {
    match target.namespace() {
        Ok(id) => id == netns,
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ESRCH) => false,
        Err(_) => true,
    }
}

/// The namespaces of a process's threads.
fn threads(pid: i32) -> impl Iterator<Item = Target> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    threads.filter_map(|entry| Some(Target::Path(entry.ok()?.path().join("ns/net"))))
}

/// Where to find the processes that are in `netns`: a look at every thread of the host.
pub(super) fn inhabitants(netns: NamespaceId) -> impl Iterator<Item = Target> {
    let numbers = fs::read_dir("/proc").into_iter().flatten();
    let processes = numbers.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    processes.flat_map(threads).filter(move |thread| thread.namespace() == Ok(netns))
}

/// Whether no process of this host is in `netns`: a look at every thread. Who cannot be looked at may be, but for pid 1: its
/// network is the host's, and in a nested runtime it may not be looked at.
pub(super) fn is_deserted(netns: NamespaceId) -> bool {
    let Ok(numbers) = fs::read_dir("/proc") else { return false };
    let processes =
        numbers.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).filter(|pid: &i32| *pid != 1);
    processes.flat_map(threads).all(|thread| match thread.namespace() {
        Ok(id) => id != netns,
        // It ended meanwhile, or is a zombie.
        Err(Errno::ENOENT | Errno::ESRCH) => true,
        Err(_) => false,
    })
}

/// What /proc/PID/stat says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    started: u64,
    /// The first thread has ended.
    ended: bool,
    threads: u32,
}

impl Stat {
    /// A zombie that is the last thread of its process is not. With others beside it the container runs: to be taken for
    /// dead, and with it out of the sets that deny it, must not be a matter of one pthread_exit.
    fn is_alive(self) -> bool {
        !self.ended || self.threads > 1
    }
}

/// `None` where there is no such process; an error where that cannot be told.
fn stat(pid: i32) -> Result<Option<Stat>, Errno> {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(text) => Ok(parse(&text)),
        Err(error) => match errno_of(&error) {
            // ESRCH: it ended between open and read.
            Errno::ENOENT | Errno::ESRCH => Ok(None),
            errno => Err(errno),
        },
    }
}

/// proc_pid_stat(5), `do_task_stat`: behind the name, which may hold spaces and parentheses, field 3 is the state, 20 the
/// number of threads and 22 the start.
fn parse(stat: &str) -> Option<Stat> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X");
    let threads = fields.nth(16)?.parse().ok()?;
    let started = fields.nth(1)?.parse().ok()?;
    Some(Stat { started, ended, threads })
}

/// When the process started, in clock ticks since boot (field 22 of /proc/PID/stat); `None` where there is none, or where
/// it may not be looked at.
pub fn started(pid: i32) -> Option<u64> {
    stat(pid).ok().flatten().map(|stat| stat.started)
}

/// Clock ticks of /proc in milliseconds. `USER_HZ` is 100 on every architecture Linux containers run on.
pub(super) fn ticks_to_ms(ticks: u64) -> u64 {
    ticks.saturating_mul(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_hides_nothing() {
        let line = "42 (a) Z (b)) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 7 0 98765 1 2\n";
        assert_eq!(parse(line), Some(Stat { started: 98765, ended: false, threads: 7 }));
        assert_eq!(parse("42 (a) Z 1 2"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn a_process_is_told_from_a_later_one_with_its_number() {
        let pid = std::process::id() as i32;
        let netns = Target::Process(pid).namespace().unwrap();
        let anchor = |started| Anchor::Process { pid, started };
        let own = started(pid).unwrap();
        assert!(anchor(own).may_hold(netns) && anchor(own).holds(netns));
        // The same number, given to a process that began at another time.
        assert!(anchor(own - 1).may_hold(netns) && !anchor(own - 1).holds(netns));
        // It may have gone elsewhere, and others stayed.
        assert!(anchor(own).holds(NamespaceId { ino: netns.ino + 1, ..netns }));
        for pid in [0, -1, i32::MIN, 4_194_305] {
            let gone = Anchor::Process { pid, started: own };
            assert!(!gone.may_hold(netns) && !gone.holds(netns), "{pid}");
        }
    }

    #[test]
    fn a_process_that_is_about_to_end_does_not_go_on() {
        let anchor = |pid| Anchor::Process { pid, started: started(pid).unwrap() };
        assert!(anchor(std::process::id() as i32).goes_on(Duration::from_millis(10)));
        assert!(!Anchor::Process { pid: std::process::id() as i32, started: 1 }.goes_on(Duration::from_secs(30)));
        let mut child = std::process::Command::new("sleep").arg("0.05").spawn().unwrap();
        let child_is = anchor(child.id() as i32);
        assert!(!child_is.goes_on(Duration::from_secs(30)));
        child.wait().unwrap();
        assert!(!child_is.goes_on(Duration::from_secs(30)));
        assert!(!Anchor::Path("/proc/self/ns/net".into()).goes_on(Duration::ZERO));
    }

    #[test]
    fn a_path_holds_the_namespace_that_is_behind_it() {
        let here = PathBuf::from("/proc/self/ns/net");
        let netns = Target::Path(here.clone()).namespace().unwrap();
        assert!(Anchor::Path(here.clone()).holds(netns));
        assert!(!Anchor::Path(here).holds(NamespaceId { ino: 1, ..netns }));
        assert!(!Anchor::Path("/nowhere/ns".into()).may_hold(netns));
        // The file that unmounting a named namespace leaves behind.
        assert!(!Anchor::Path("/proc/self/stat".into()).holds(netns));
    }
}
