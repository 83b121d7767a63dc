//! The log: one record for each stage, with what was done and how long it took, and warnings on the way.
//!
//! A record goes to the first of these that takes it: the journal (`journal`), which keeps its fields apart; the system's
//! log socket (`syslog`); a bounded file of JSON lines in the state directory (`file`). Each is tried and none is looked for
//! first: that costs a call less, and nothing can change in between.
//!
//! It never waits and never fails: a log that cannot be written must not decide whether a container starts. Sockets are
//! found by path, so that the network namespace this thread is in does not matter. src/docs/logs.md is for those who read.

mod file;
mod journal;
mod syslog;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::{Instant, SystemTime};

use log::{Level, LevelFilter, Log, Metadata};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, sendto, socket};

use crate::printable;
pub use file::{MAX_LOG, utc};

/// Who speaks: `journalctl -t netlatch`.
const IDENTIFIER: &str = "netlatch";
/// The longest value of a field in bytes; what is longer is cut. All fields together stay below what a datagram may hold
/// (`net.core.wmem_default`, 212,992 bytes), so that the journal never needs a memfd.
const LONGEST: usize = 8 << 10;

/// A field of a record, beside MESSAGE and its like. The guide `logs` has a row for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The full id.
    ContainerId,
    /// The same; conmon's and docker's records hold the full id under this name.
    ContainerIdFull,
    /// What the engine calls it, where it says so in an annotation.
    ContainerName,
    /// The stage's name, or `reload`.
    Stage,
    /// `done`, `skipped` or `failed`.
    Result,
    /// The program's exit code.
    ExitCode,
    /// Microseconds since the program began.
    Duration,
    /// The comment of the table in force: who made it, and its plan's digest.
    Table,
    /// `loaded`, `unchanged`, `reconciled`, `kept` (another container's), `none`.
    TableResult,
    /// How many rules the table has.
    Rules,
    /// The sysctls that were otherwise and were set, separated by blanks.
    Sysctls,
    /// `up` where `lo` was brought up, or found so.
    Loopback,
    /// The container's own addresses, where policies ask for them.
    Addresses,
    /// Whose rules were changed, or tried to be, for the container's sake; at `reload` whose were changed. For each network
    /// namespace the id of one container.
    Peers,
    /// Interfaces that came after createRuntime and are guarded since.
    Interfaces,
    /// What the rules do not cover although somebody asked for it.
    NotCovered,
}

impl Field {
    /// Every field, in the order in which they are sent.
    pub const ALL: [Field; 16] = [
        Field::ContainerId,
        Field::ContainerIdFull,
        Field::ContainerName,
        Field::Stage,
        Field::Result,
        Field::ExitCode,
        Field::Duration,
        Field::Table,
        Field::TableResult,
        Field::Rules,
        Field::Sysctls,
        Field::Loopback,
        Field::Addresses,
        Field::Peers,
        Field::Interfaces,
        Field::NotCovered,
    ];

    /// Its name in the journal and in the file. Names are a contract.
    pub const fn name(self) -> &'static str {
        match self {
            Field::ContainerId => "CONTAINER_ID",
            Field::ContainerIdFull => "CONTAINER_ID_FULL",
            Field::ContainerName => "CONTAINER_NAME",
            Field::Stage => "NETLATCH_STAGE",
            Field::Result => "NETLATCH_RESULT",
            Field::ExitCode => "NETLATCH_EXIT_CODE",
            Field::Duration => "NETLATCH_DURATION_USEC",
            Field::Table => "NETLATCH_TABLE",
            Field::TableResult => "NETLATCH_TABLE_RESULT",
            Field::Rules => "NETLATCH_RULES",
            Field::Sysctls => "NETLATCH_SYSCTLS",
            Field::Loopback => "NETLATCH_LO",
            Field::Addresses => "NETLATCH_ADDRESSES",
            Field::Peers => "NETLATCH_PEERS",
            Field::Interfaces => "NETLATCH_INTERFACES",
            Field::NotCovered => "NETLATCH_NOT_COVERED",
        }
    }
}

/// How a stage ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All of it was done.
    Done,
    /// The container was left alone, in the host's network.
    Skipped,
    /// It could not be done. But for poststop the container does not start.
    Failed,
}

impl Ending {
    /// Every one.
    pub const ALL: [Ending; 3] = [Ending::Done, Ending::Skipped, Ending::Failed];

    /// Its name in NETLATCH_RESULT.
    pub const fn name(self) -> &'static str {
        match self {
            Ending::Done => "done",
            Ending::Skipped => "skipped",
            Ending::Failed => "failed",
        }
    }

    /// MESSAGE_ID: drawn at random once, and never changed, for people filter by it.
    pub const fn message_id(self) -> &'static str {
        match self {
            Ending::Done => "ea243c99f6a24bf18500fecc4240b90d",
            Ending::Skipped => "ef823dca9b1f46669bc214106fa07efb",
            Ending::Failed => "6ae35e13a341486ab0c7739002b76b7d",
        }
    }

    const fn severity(self) -> u8 {
        match self {
            Ending::Done => 6,
            Ending::Skipped => 4,
            Ending::Failed => 3,
        }
    }
}

/// The one record of a stage.
#[derive(Clone, Debug)]
pub struct Entry {
    /// How it ended.
    pub ending: Ending,
    /// For people.
    pub message: String,
    /// For programs. What is known of every record ([`install`], [`concerns`]) is added.
    pub fields: Vec<(Field, String)>,
}

/// Where records go. Tests have other places.
#[derive(Debug)]
struct Places {
    journal: PathBuf,
    syslog: PathBuf,
    file: PathBuf,
}

/// Whom a record is about.
#[derive(Debug, Default)]
struct Whom {
    id: String,
    name: Option<String>,
}

#[derive(Debug)]
struct Sink {
    places: Places,
    stage: String,
    began: Instant,
    whom: RwLock<Whom>,
}

static SINK: OnceLock<Sink> = OnceLock::new();

/// Begins to log as `stage`. The file is `log` in `run_dir`. Only the first call counts.
pub fn install(run_dir: &Path, stage: &str) {
    let places = Places { journal: journal::SOCKET.into(), syslog: syslog::SOCKET.into(), file: run_dir.join("log") };
    let sink = SINK.get_or_init(|| Sink::new(places, stage));
    if log::set_logger(sink).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

/// Says which container all further records are about.
pub fn concerns(id: &str, name: Option<&str>) {
    if let Some(sink) = SINK.get() {
        let whom = Whom { id: id.to_owned(), name: name.map(str::to_owned) };
        *sink.whom.write().unwrap_or_else(PoisonError::into_inner) = whom;
    }
}

/// Writes the one record of a stage.
pub fn tell(entry: &Entry) {
    if let Some(sink) = SINK.get() {
        sink.tell(entry);
    }
}

/// One record on its way: its fields, made fit to be printed and short enough.
struct Said<'a> {
    severity: u8,
    pid: u32,
    at: SystemTime,
    message: Cow<'a, str>,
    fields: Vec<(&'static str, Cow<'a, str>)>,
}

impl Sink {
    fn new(places: Places, stage: &str) -> Sink {
        Sink { places, stage: stage.to_owned(), began: Instant::now(), whom: RwLock::default() }
    }

    fn tell(&self, entry: &Entry) {
        let Entry { ending, message, fields } = entry;
        let head = [("MESSAGE_ID", ending.message_id()), (Field::Result.name(), ending.name())];
        let own = fields.iter().map(|(field, value)| (field.name(), value.as_str()));
        let own: Vec<_> = head.into_iter().chain(own).collect();
        self.write(ending.severity(), message, &own);
    }

    fn write(&self, severity: u8, message: &str, own: &[(&'static str, &str)]) {
        let whom = self.whom.read().unwrap_or_else(PoisonError::into_inner);
        let micros = self.began.elapsed().as_micros().to_string();
        let id = (!whom.id.is_empty()).then_some(whom.id.as_str());
        let known = [
            (Field::Stage, Some(self.stage.as_str())),
            (Field::Duration, Some(micros.as_str())),
            (Field::ContainerId, id),
            (Field::ContainerIdFull, id),
            (Field::ContainerName, whom.name.as_deref()),
        ];
        let known = known.into_iter().filter_map(|(field, value)| Some((field.name(), value?)));
        let said = Said {
            severity,
            pid: process::id(),
            at: SystemTime::now(),
            message: fit(message),
            fields: known.chain(own.iter().copied()).map(|(name, value)| (name, fit(value))).collect(),
        };
        self.send(&said);
    }

    /// To the first that takes it. What none takes is lost.
    fn send(&self, said: &Said<'_>) {
        let Places { journal, syslog, file } = &self.places;
        if sent(journal, &journal::datagram(said)).is_ok() || sent(syslog, &syslog::datagram(said)).is_ok() {
            return;
        }
        let _ = file::append(file, &file::line(said));
    }
}

impl Log for Sink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Info
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            self.write(severity(record.level()), &record.args().to_string(), &[]);
        }
    }

    fn flush(&self) {}
}

/// Sends a datagram without waiting: a full socket is EAGAIN, one without a listener ECONNREFUSED, as is what is no socket.
fn sent(path: &Path, datagram: &[u8]) -> Result<(), Errno> {
    let address = UnixAddr::new(path)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
    sendto(std::os::fd::AsRawFd::as_raw_fd(&socket), datagram, &address, MsgFlags::MSG_NOSIGNAL).map(drop)
}

/// A value as it may leave the program: in one line, and not past [`LONGEST`].
fn fit(value: &str) -> Cow<'_, str> {
    let cut = |text: &str| text.floor_char_boundary(LONGEST);
    match printable::line(value) {
        Cow::Borrowed(text) => Cow::Borrowed(&text[..cut(text)]),
        Cow::Owned(mut text) => {
            text.truncate(cut(&text));
            Cow::Owned(text)
        }
    }
}

/// syslog(3) severities.
const fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

#[cfg(test)]
mod tests;
