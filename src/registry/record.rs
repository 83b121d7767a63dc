//! The record of one container, and how it comes and goes.
//!
//! # Who needs the lock
//!
//! As long as no policy is in force there is no roster, nobody follows anybody, and a start or a stop only writes or
//! removes its record: [`Registry::put_alone`], [`Registry::forget_alone`]. The first start that has policies makes the
//! roster, out of the records. Nobody is lost between the two:
//!
//! * who starts writes the record first and looks for the roster's file then;
//! * who makes the roster creates its file first ([`Registry::roster`]) and lists the records then.
//!
//! Whichever comes second sees what the other did: either the builder finds the record, whole, or the start finds the
//! file, takes the lock and enters itself. (Both may happen, and entering twice is entering once.) A record that the
//! builder reads half written is one whose writer has not looked yet.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::path::PathBuf;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::alive::{self, Anchor};
use super::{Lock, Registry, next};
use crate::error::{Cause, Failure, errno_of};
use crate::kernel::checkpoint;
use crate::kernel::netns::NamespaceId;
use crate::policy::model::Labels;
use crate::policy::names::NamedPort;
use crate::policy::watch::Watch;

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
    pub labels: BTreeMap<String, String>,
    /// When it was recorded: milliseconds of `CLOCK_BOOTTIME`, which no clock change touches.
    pub recorded_ms: u64,
    // What follows is missing in the records of earlier versions.
    /// When the process started, see [`started`](super::started).
    #[serde(default)]
    pub started: Option<u64>,
    /// The path its namespace was joined by, where the state named no process.
    #[serde(default)]
    pub netns_path: Option<PathBuf>,
    /// The cookie of its namespace ([`cookie`](crate::kernel::netns::cookie)).
    #[serde(default)]
    pub cookie: Option<u64>,
    /// The addresses of its namespace ([`global_addresses`](crate::kernel::link::global_addresses)).
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// Its named ports.
    #[serde(default)]
    pub ports: Vec<NamedPort>,
    /// The labels of its Kubernetes namespace; `None` where nobody looked them up.
    #[serde(default)]
    pub namespace_labels: Option<Labels>,
    /// The annotations that decided about it: ours, and those of its engine that its identity came from.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Its bundle. A hint, as everywhere.
    #[serde(default)]
    pub bundle: Option<PathBuf>,
    /// Whom its named sets follow.
    #[serde(default)]
    pub watch: Option<Watch>,
    /// What stands at the host's end of its links, or may come to.
    #[serde(default)]
    pub outside: Option<Outside>,
}

/// The rules at the host's end of a container's links: what they were made for, at createRuntime. A container that can undo
/// its own rules can also take devices and addresses of its own choice later, and those do not count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outside {
    /// The table's name, in the host's namespace.
    pub table: String,
    /// Whose it is, as its comment says.
    pub whose: String,
    /// The devices it hangs on.
    pub devices: Vec<String>,
    /// The addresses the container may send from.
    pub addresses: Vec<IpAddr>,
}

/// All records there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// Those that can be read, oldest first.
    pub read: Vec<Record>,
    /// The ids of the others: what lies in their place is damaged, or no record.
    pub damaged: Vec<String>,
}

/// What lies where a container's record belongs.
enum Found {
    Record(Box<Record>),
    Damaged,
    Nothing,
}

impl Record {
    /// What keeps its namespace in place; `None` where the record names neither process nor path, or a process that has
    /// ended so that the number alone is known.
    pub fn anchor(&self) -> Option<Anchor> {
        match (self.pid, self.started, &self.netns_path) {
            (Some(pid), Some(started), _) => Some(Anchor::Process { pid, started }),
            // An earlier version's: a process that started after the record was written only has its number.
            (Some(pid), None, _) => {
                let started = alive::started(pid).filter(|ticks| alive::ticks_to_ms(*ticks) <= self.recorded_ms)?;
                Some(Anchor::Process { pid, started })
            }
            (None, _, Some(path)) => Some(Anchor::Path(path.clone())),
            (None, _, None) => None,
        }
    }

    fn write(&self, write: impl FnOnce(&[u8]) -> Result<(), Cause>) -> Result<(), Failure> {
        let failed = |cause| Failure::new(format!("record container {}", self.id), cause);
        let bytes = serde_json::to_vec(self).map_err(|error| failed(Cause::Internal(error.to_string())))?;
        write(&bytes).map_err(failed)
    }

    /// Whether what it tells of is still there.
    pub(super) fn is_alive(&self) -> bool {
        let netns = NamespaceId { dev: self.netns.0, ino: self.netns.1 };
        self.anchor().map_or_else(|| self.is_hidden(), |anchor| anchor.holds(netns))
    }

    /// Whether nothing can be known of its process, although there is one.
    pub(super) fn is_hidden(&self) -> bool {
        self.pid.is_some_and(alive::is_hidden)
    }
}

impl Registry {
    /// Writes a container's record. The lock must be held: [`Registry::put_alone`] is for who does not.
    ///
    /// # Errors
    /// [`Cause::RunDir`]; a record that was there is then as it was.
    pub fn put(&self, record: &Record) -> Result<(), Failure> {
        record.write(|bytes| self.replace("containers", &record.id, bytes))
    }

    /// The record of a container; `None` where there is none that can be read.
    pub fn record(&self, id: &str) -> Option<Record> {
        self.read("containers", id).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok())
    }

    /// Forgets a container, with what an interrupted [`Registry::put`] has left of it. What is not there is forgotten
    /// already. The lock must be held: [`Registry::forget_alone`] is for who does not.
    ///
    /// # Errors
    /// [`Cause::RunDir`].
    pub fn forget(&self, id: &str) -> Result<(), Failure> {
        self.unlink(id)?;
        let _ = fs::remove_file(next(&self.path("containers", id)));
        Ok(())
    }

    fn unlink(&self, id: &str) -> Result<(), Failure> {
        let failed = |cause| Failure::new(format!("forget container {id}"), cause);
        self.check().map_err(failed)?;
        checkpoint::step("forget")?;
        match fs::remove_file(self.path("containers", id)) {
            Ok(()) => Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(()),
            Err(error) => Err(failed(self.cause(&error))),
        }
    }

    /// Writes the record of a container that follows nobody, without the lock. `false` says that there is a roster: take
    /// the lock, write the record once more (whoever held the lock may have removed it) and enter the container there.
    ///
    /// # Errors
    /// [`Cause::RunDir`].
    pub fn put_alone(&self, record: &Record) -> Result<bool, Failure> {
        record.write(|bytes| self.write("containers", &record.id, bytes))?;
        Ok(!self.roster_exists())
    }

    /// Forgets a container without the lock. `false` says that there is a roster: take the lock and remove it there.
    ///
    /// # Errors
    /// [`Cause::RunDir`].
    pub fn forget_alone(&self, id: &str) -> Result<bool, Failure> {
        self.unlink(id)?;
        Ok(!self.roster_exists())
    }

    /// Forgets containers that were found dead. One that has started anew meanwhile, under the same id, keeps its record.
    /// What cannot be removed is said in the log: no start depends on it.
    pub fn forget_dead<'a>(&self, _: &Lock, dead: impl Iterator<Item = (&'a str, &'a Anchor)>) {
        for (id, held) in dead {
            let same = |record: &Record| record.anchor().is_none_or(|anchor| anchor == *held);
            if self.record(id).is_none_or(|record| same(&record)) {
                self.forget(id).unwrap_or_else(|failure| log::warn!("{failure}"));
            }
        }
    }

    /// Every record. One that is damaged is said in the log, too.
    ///
    /// # Errors
    /// [`Cause::RunDir`] where the directory is none of ours, or it cannot be told what is there (no descriptor left, no
    /// memory): whoever was passed over would be missing from the sets that deny it.
    pub fn records(&self) -> Result<Records, Failure> {
        let mut records = Records::default();
        for id in self.recorded()? {
            match self.find(&id)? {
                Found::Record(record) => records.read.push(*record),
                Found::Damaged => {
                    log::warn!("the record of container {id:?} cannot be read and is passed over");
                    records.damaged.push(id);
                }
                // It was forgotten since it was listed.
                Found::Nothing => {}
            }
        }
        records.read.sort_by(|a, b| (a.recorded_ms, &a.id).cmp(&(b.recorded_ms, &b.id)));
        records.damaged.sort();
        Ok(records)
    }

    /// Fails where any of `ids` has a damaged record. To be asked when all else is done: a record that was found half written
    /// is whole by then.
    ///
    /// # Errors
    /// [`Cause::RunDir`] with those that do.
    pub fn none_damaged(&self, ids: &[String]) -> Result<(), Failure> {
        let damaged: Vec<&str> = ids.iter().filter(|id| self.is_damaged(id)).map(String::as_str).collect();
        let path = match damaged.as_slice() {
            [] => return Ok(()),
            [only] => self.path("containers", only),
            [..] => self.dir.join("containers"),
        };
        let problem = match damaged.as_slice() {
            [_] => "it is damaged, and nothing is known of the container".to_owned(),
            many => format!("the records of {} are damaged, and nothing is known of these containers", many.join(", ")),
        };
        let path = path.display().to_string();
        Err(Failure::new("read the records of containers", Cause::RunDir { path, problem }))
    }

    fn is_damaged(&self, id: &str) -> bool {
        matches!(self.find(id), Ok(Found::Damaged))
    }

    /// The ids that there are records of.
    fn recorded(&self) -> Result<Vec<String>, Failure> {
        const DOING: &str = "list the records of containers";
        self.check().map_err(|cause| Failure::new(DOING, cause))?;
        let failed = |error: io::Error| Failure::new(DOING, self.cause(&error));
        let entries = match fs::read_dir(self.dir.join("containers")) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut ids = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            ids.extend(name.to_str().and_then(|name| name.strip_suffix(".json")).map(str::to_owned));
        }
        Ok(ids)
    }

    /// The record of a container; `None` where there is none, or something else in its place.
    ///
    /// # Errors
    /// [`Cause::RunDir`] where that cannot be told.
    pub fn look_up(&self, id: &str) -> Result<Option<Record>, Failure> {
        Ok(match self.find(id)? {
            Found::Record(record) => Some(*record),
            Found::Damaged | Found::Nothing => None,
        })
    }

    fn find(&self, id: &str) -> Result<Found, Failure> {
        match self.read("containers", id) {
            Ok(bytes) => {
                let record = serde_json::from_slice(&bytes).ok().filter(|record: &Record| record.id == id);
                Ok(record.map_or(Found::Damaged, |record| Found::Record(Box::new(record))))
            }
            Err(error) => match errno_of(&error) {
                Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EPERM => {
                    Err(Failure::new("read the records of containers", self.cause(&error)))
                }
                Errno::ENOENT => Ok(Found::Nothing),
                _ => Ok(Found::Damaged),
            },
        }
    }

    /// The records of other live containers in the namespace `netns`.
    ///
    /// Reads every record; asked only where a namespace holds a table of ours already, with other rules.
    ///
    /// # Errors
    /// As [`Registry::records`].
    pub fn sharing(&self, netns: NamespaceId, id: &str) -> Result<Vec<Record>, Failure> {
        let mut sharing = Vec::new();
        for other in self.recorded()?.into_iter().filter(|other| other != id) {
            let record = self.look_up(&other)?;
            sharing.extend(record.filter(|r| r.netns == (netns.dev, netns.ino) && r.is_alive()));
        }
        Ok(sharing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::netns::Target;
    use crate::net::Transport;
    use crate::policy::model::{Action, Namespaces, Operator, Port, Requirement, Selector};
    use crate::policy::watch::{WatchedGroup, WatchedPeer};
    use crate::registry::boot_ms;

    fn here() -> NamespaceId {
        Target::Process(std::process::id() as i32).namespace().unwrap()
    }

    fn record(id: &str, pid: u32) -> Record {
        Record {
            id: id.into(),
            pid: Some(pid as i32),
            netns: (here().dev, here().ino),
            table: Some("netlatch 0 plan 1".into()),
            explicit: true,
            host: vec!["10.0.0.1".parse().unwrap()],
            namespace: "default".into(),
            labels: [("app".to_owned(), "web".to_owned())].into(),
            recorded_ms: boot_ms(),
            started: None,
            netns_path: None,
            cookie: None,
            addresses: Vec::new(),
            ports: Vec::new(),
            namespace_labels: None,
            annotations: BTreeMap::new(),
            bundle: None,
            watch: None,
            outside: None,
        }
    }

    #[test]
    fn a_record_comes_back_and_is_forgotten_twice_without_complaint() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::at(&dir.path().join("run"));
        assert_eq!(registry.record("a"), None);
        registry.forget("a").unwrap();
        let selector = Selector {
            requirements: vec![Requirement { key: "app".into(), operator: Operator::NotIn, values: vec!["a".into()] }],
        };
        let peer = WatchedPeer {
            namespaces: Namespaces::Selected(selector.clone()),
            pods: selector,
            within: None,
            ports: vec![Port::Named { transport: None, name: "http".into() }],
        };
        let group = WatchedGroup { set: "egress_admin_1".into(), action: Action::Pass, peers: vec![peer] };
        let written = Record {
            pid: None,
            netns_path: Some("/run/netns/a".into()),
            cookie: Some(u64::MAX),
            addresses: vec!["2001:db8::1".parse().unwrap()],
            ports: vec![NamedPort { name: "http".into(), port: 80, protocol: Transport::Sctp }],
            namespace_labels: Some([("team".to_owned(), "x".to_owned())].into()),
            watch: Some(Watch { ipv6: true, services: false, groups: vec![group] }),
            ..record("a", 1)
        };
        registry.put(&written).unwrap();
        assert_eq!(registry.record("a"), Some(written));
        registry.forget("a").unwrap();
        registry.forget("a").unwrap();
        assert_eq!(registry.record("a"), None);
    }

    #[test]
    fn only_live_processes_share_a_namespace() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let registry = Registry::at(dir.path());
        let netns = here();
        registry.put(&record("mine", std::process::id())).unwrap();
        registry.put(&record("other", std::process::id())).unwrap();
        registry.put(&record("dead", 4_000_000)).unwrap();
        registry.put(&Record { netns: (4, 1), ..record("elsewhere", std::process::id()) }).unwrap();
        // The same number, given to a process that began later.
        registry.put(&Record { recorded_ms: 1, ..record("recycled", std::process::id()) }).unwrap();
        fs::write(dir.path().join("containers/garbage.json"), "{").unwrap();
        let sharing: Vec<String> =
            registry.sharing(netns, "mine").unwrap().into_iter().map(|record| record.id).collect();
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
    fn a_record_is_replaced_as_a_whole_and_forgotten_with_what_was_left_of_that() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::at(&dir.path().join("run"));
        let long = Record { annotations: [("a".to_owned(), "b".repeat(10_000))].into(), ..record("a", 1) };
        registry.put(&long).unwrap();
        let path = registry.path("containers", "a");
        let open = fs::File::open(&path).unwrap();
        let length = open.metadata().unwrap().len();
        let short = record("a", 1);
        registry.put(&short).unwrap();
        assert_eq!(registry.record("a"), Some(short));
        // Whoever has it open still has the old one: nothing was written over it.
        assert_eq!(open.metadata().unwrap().len(), length);
        fs::write(next(&path), "{").unwrap();
        assert_eq!(registry.records().unwrap().read.len(), 1);
        registry.put(&long).unwrap();
        assert_eq!(registry.record("a").unwrap().annotations, long.annotations);
        fs::write(next(&path), "{").unwrap();
        registry.forget("a").unwrap();
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
    }
}
