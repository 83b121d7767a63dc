//! /run/netlatch: what is known of the containers on this host, and why starts failed.
//!
//! ```text
//! containers/<id>.json   one record
//! errors/<id>.json       why the last start of that container failed
//! lock                   held while rules are decided for a namespace that containers share
//! ```
//!
//! The directory is root's alone (0700). Records are for humans, `poststart` and containers that share a namespace. Rules
//! live in the kernel and not here: a lost directory loses no container's protection by itself. But a container without
//! annotations that then joins another's namespace can no longer tell a live neighbour's rules from left-over ones, and
//! replaces them by the baseline.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::error::{Cause, Failure, errno_of};
use crate::kernel::netns::NamespaceId;
use crate::kernel::process::Deadline;

/// The default directory.
pub const RUN_DIR: &str = "/run/netlatch";

/// How many failures are kept; the oldest go first.
const ERRORS_KEPT: usize = 128;
/// How long to wait before asking for the lock again: a start holds it for about a millisecond.
const LOCK_RETRY: std::time::Duration = std::time::Duration::from_millis(1);
/// A record is some hundred bytes; a longer file is nobody's.
const RECORD_LIMIT: u64 = 1 << 20;

/// What is known of one container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its id.
    pub id: String,
    /// The process that held its namespace when it was recorded.
    pub pid: Option<i32>,
    /// `st_dev` and `st_ino` of its network namespace. The number is used again once the namespace is gone.
    pub netns: (u64, u64),
    /// The comment of its table, with the plan's digest; `None` where nothing is filtered.
    pub table: Option<String>,
    /// Whether it carries annotations of ours.
    pub explicit: bool,
    /// The host's addresses as they were, where a rule names them.
    #[serde(default)]
    pub host: Vec<IpAddr>,
    /// Its Kubernetes namespace.
    pub namespace: String,
    /// Its labels.
    pub labels: std::collections::BTreeMap<String, String>,
    /// When it was recorded: milliseconds of `CLOCK_BOOTTIME`, which no clock change touches.
    pub recorded_ms: u64,
}

/// Why a start failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The container; empty where the state could not be read.
    pub id: String,
    /// The stage.
    pub stage: String,
    /// The exit code.
    pub code: u8,
    /// The line that went to stderr.
    pub message: String,
    /// Seconds since 1970, by the host's clock.
    pub time: u64,
}

/// The state directory.
#[derive(Clone, Debug)]
pub struct Registry {
    dir: PathBuf,
}

/// Milliseconds since boot, suspended time included.
pub fn boot_ms() -> u64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map_or(0, |time| time.tv_sec() as u64 * 1000 + time.tv_nsec() as u64 / 1_000_000)
}

impl Registry {
    /// The registry in `dir`, which need not exist yet.
    pub fn at(dir: &Path) -> Registry {
        Registry { dir: dir.to_owned() }
    }

    /// Keeps others away from shared namespaces until what is returned is dropped: between looking at what a namespace
    /// holds and recording what was put there, nobody else may do the same.
    ///
    /// # Errors
    /// [`Cause::RunDir`]; [`Cause::Deadline`] where another start does not come to its end in time.
    pub fn lock(&self, deadline: &Deadline) -> Result<impl Drop + use<>, Failure> {
        const DOING: &str = "wait for other containers of the namespace";
        let failed = |cause| Failure::new(DOING, cause);
        self.make("containers").map_err(failed)?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
        let mut file = options.open(self.dir.join("lock")).map_err(|error| failed(self.cause(&error)))?;
        loop {
            // Never a blocking flock: only poll's deadline is kept whatever signals are blocked.
            file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(held) => return Ok(held),
                Err((file, Errno::EAGAIN | Errno::EINTR)) => file,
                Err((_, errno)) => return Err(failed(self.cause(&errno.into()))),
            };
            deadline.check(DOING)?;
            std::thread::sleep(LOCK_RETRY);
        }
    }

    /// Writes a container's record.
    ///
    /// # Errors
    /// [`Cause::RunDir`].
    pub fn put(&self, record: &Record) -> Result<(), Failure> {
        let doing = || format!("record container {}", record.id);
        let bytes = serde_json::to_vec(record).map_err(|e| Failure::new(doing(), Cause::Internal(e.to_string())))?;
        self.write("containers", &record.id, &bytes).map_err(|cause| Failure::new(doing(), cause))
    }

    /// The record of a container; `None` where there is none that can be read.
    pub fn record(&self, id: &str) -> Option<Record> {
        self.read("containers", id).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok())
    }

    /// Forgets a container. What is not there is forgotten already.
    ///
    /// # Errors
    /// [`Cause::RunDir`].
    pub fn forget(&self, id: &str) -> Result<(), Failure> {
        match fs::remove_file(self.path("containers", id)) {
            Ok(()) => Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(()),
            Err(error) => Err(Failure::new(format!("forget container {id}"), self.cause(&error))),
        }
    }

    /// The records of other live containers in the namespace `netns`.
    ///
    /// Reads every record; asked only where a namespace holds a table of ours already, with other rules.
    pub fn sharing(&self, netns: NamespaceId, id: &str) -> Vec<Record> {
        let Ok(entries) = fs::read_dir(self.dir.join("containers")) else { return Vec::new() };
        let name = |entry: io::Result<fs::DirEntry>| {
            Some(entry.ok()?.file_name().into_string().ok()?.strip_suffix(".json")?.to_owned())
        };
        entries
            .filter_map(name)
            .filter(|other| other != id)
            .filter_map(|other| self.record(&other))
            .filter(|record| record.netns == (netns.dev, netns.ino) && record.is_alive())
            .collect()
    }

    /// Keeps why a start failed, for `netlatch last-error`.
    ///
    /// # Errors
    /// [`Cause::RunDir`]; the caller has a worse failure to report and says this one in the log.
    pub fn put_fault(&self, fault: &Fault) -> Result<(), Failure> {
        let name = if fault.id.is_empty() { "unknown" } else { &fault.id };
        let doing = "keep the reason for the failure";
        let bytes = serde_json::to_vec(fault).map_err(|e| Failure::new(doing, Cause::Internal(e.to_string())))?;
        self.write("errors", name, &bytes).map_err(|cause| Failure::new(doing, cause))?;
        let kept = self.faults_by_age();
        for (_, path) in kept.iter().rev().skip(ERRORS_KEPT) {
            let _ = fs::remove_file(path);
        }
        Ok(())
    }

    /// Why the last start of `id`, or of any container, failed.
    pub fn fault(&self, id: Option<&str>) -> Option<Fault> {
        let path = match id {
            Some(id) => self.path("errors", id),
            None => self.faults_by_age().pop()?.1,
        };
        serde_json::from_slice(&read_limited(&path).ok()?).ok()
    }

    /// Oldest first.
    fn faults_by_age(&self) -> Vec<((i64, i64), PathBuf)> {
        let Ok(entries) = fs::read_dir(self.dir.join("errors")) else { return Vec::new() };
        let aged = |entry: io::Result<fs::DirEntry>| {
            let entry = entry.ok().filter(|entry| entry.path().extension().is_some_and(|e| e == "json"))?;
            let meta = entry.metadata().ok()?;
            Some(((meta.mtime(), meta.mtime_nsec()), entry.path()))
        };
        let mut all: Vec<_> = entries.filter_map(aged).collect();
        all.sort_unstable();
        all
    }

    fn path(&self, folder: &str, id: &str) -> PathBuf {
        self.dir.join(folder).join(format!("{id}.json"))
    }

    fn read(&self, folder: &str, id: &str) -> io::Result<Vec<u8>> {
        read_limited(&self.path(folder, id))
    }

    /// Writes in one call, over what is there: the reader is a later process, and a record that was cut counts as none.
    /// Renaming a new file into place would cost a start more than all else in here where /run is on a disk.
    fn write(&self, folder: &str, id: &str, bytes: &[u8]) -> Result<(), Cause> {
        self.check()?;
        let path = self.path(folder, id);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
        let file = match options.open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.make(folder)?;
                options.open(&path)
            }
            other => other,
        };
        let written = file.and_then(|mut file| {
            file.write_all(bytes)?;
            let length = bytes.len() as u64;
            if file.metadata()?.len() == length { Ok(()) } else { file.set_len(length) }
        });
        written.map_err(|error| self.cause(&error))
    }

    /// Whoever may write the directory could make us overwrite files elsewhere or believe false records.
    fn check(&self) -> Result<(), Cause> {
        let unsafe_dir =
            |problem: &str| Cause::RunDir { path: self.dir.display().to_string(), problem: problem.to_owned() };
        match fs::symlink_metadata(&self.dir) {
            Ok(meta) if !meta.is_dir() => Err(unsafe_dir("it is not a directory")),
            Ok(meta) if meta.mode() & 0o022 != 0 => Err(unsafe_dir("others may write it")),
            Ok(meta) if meta.uid() != 0 && meta.uid() != nix::unistd::geteuid().as_raw() => {
                Err(unsafe_dir("it belongs to another user"))
            }
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(self.cause(&error)),
        }
    }

    fn make(&self, folder: &str) -> Result<(), Cause> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(self.dir.join(folder))
            .map_err(|error| self.cause(&error))?;
        self.check()
    }

    fn cause(&self, error: &io::Error) -> Cause {
        Cause::RunDir { path: self.dir.display().to_string(), problem: format!("{:?}", errno_of(error)) }
    }
}

fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(RECORD_LIMIT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Record {
    /// Whether its process still runs. A process that started after the record was written only has its number.
    fn is_alive(&self) -> bool {
        let Some(pid) = self.pid else { return false };
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
        // proc_pid_stat(5): field 22, starttime, in clock ticks since boot; field 2 may hold spaces and parentheses.
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let started = after_name.split_ascii_whitespace().nth(19).and_then(|ticks| ticks.parse::<u64>().ok());
        let state = after_name.split_ascii_whitespace().next();
        state != Some("Z") && started.is_some_and(|ticks| ticks * (1000 / USER_HZ) <= self.recorded_ms)
    }
}

/// Clock ticks of /proc a second (`USER_HZ`): 100 on every architecture Linux containers run on.
const USER_HZ: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, pid: u32) -> Record {
        Record {
            id: id.into(),
            pid: Some(pid as i32),
            netns: (4, 4026531840),
            table: Some("netlatch 0 plan 1".into()),
            explicit: true,
            host: vec!["10.0.0.1".parse().unwrap()],
            namespace: "default".into(),
            labels: [("app".to_owned(), "web".to_owned())].into(),
            recorded_ms: boot_ms(),
        }
    }

    #[test]
    fn a_record_comes_back_and_is_forgotten_twice_without_complaint() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::at(&dir.path().join("run"));
        assert_eq!(registry.record("a"), None);
        registry.forget("a").unwrap();
        registry.put(&record("a", 1)).unwrap();
        assert_eq!(registry.record("a").unwrap().host, record("a", 1).host);
        registry.forget("a").unwrap();
        registry.forget("a").unwrap();
        assert_eq!(registry.record("a"), None);
    }

    #[test]
    fn only_live_processes_share_a_namespace() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let registry = Registry::at(dir.path());
        let netns = NamespaceId { dev: 4, ino: 4026531840 };
        registry.put(&record("mine", std::process::id())).unwrap();
        registry.put(&record("other", std::process::id())).unwrap();
        registry.put(&record("dead", 4_000_000)).unwrap();
        // The same number, given to a process that began later.
        registry.put(&Record { recorded_ms: 1, ..record("recycled", std::process::id()) }).unwrap();
        fs::write(dir.path().join("containers/garbage.json"), "{").unwrap();
        let sharing: Vec<String> = registry.sharing(netns, "mine").into_iter().map(|record| record.id).collect();
        assert_eq!(sharing, ["other"]);
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let failure = Registry::at(dir.path()).put(&record("a", 1)).unwrap_err();
        assert_eq!(failure.exit_code(), 40);
        assert!(failure.to_string().contains("others may write it"), "{failure}");
    }

    #[test]
    fn the_newest_failures_are_kept_and_the_last_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::at(&dir.path().join("run"));
        let fault = |n: usize| Fault {
            id: format!("c{n}"),
            stage: "createRuntime".into(),
            code: 15,
            message: n.to_string(),
            time: 0,
        };
        for n in 0..ERRORS_KEPT + 5 {
            registry.put_fault(&fault(n)).unwrap();
        }
        assert_eq!(registry.fault(None).unwrap().id, format!("c{}", ERRORS_KEPT + 4));
        assert_eq!(registry.fault(Some("c50")).unwrap(), fault(50));
        assert_eq!(registry.faults_by_age().len(), ERRORS_KEPT);
    }
}
