//! The `log` sink: the system's log socket where there is one, else a bounded file in the state directory.
//!
//! It never blocks and never fails: a log that cannot be written must not decide whether a container starts.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::printable;

/// syslog(3)'s datagram socket; journald listens on it too.
const SOCKET: &str = "/dev/log";
/// The file's greatest size; then it becomes `log.1`, whose predecessor goes.
pub const MAX_LOG: u64 = 1 << 20;
/// facility daemon (3).
const FACILITY: u8 = 3 << 3;

struct Sink {
    file: PathBuf,
}

/// Installs the sink. The file is `log` in `run_dir`. Only the first call counts.
pub fn install(run_dir: &std::path::Path) {
    if log::set_boxed_logger(Box::new(Sink { file: run_dir.join("log") })).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

impl Log for Sink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Info
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        // The file is for what somebody will look for; that a start went well is not worth a write on every start.
        let noteworthy = record.level() <= Level::Warn;
        if !noteworthy && !std::path::Path::new(SOCKET).exists() {
            return;
        }
        let message = record.args().to_string();
        let line = printable::line(&message);
        let pid = std::process::id();
        let sent = self.send(&format!("<{}>netlatch[{pid}]: {line}", FACILITY | severity(record.level()))).is_some();
        if !sent && noteworthy {
            let _ = self.append(&format!("{} netlatch[{pid}]: {line}\n", record.level()));
        }
    }

    fn flush(&self) {}
}

impl Sink {
    fn send(&self, datagram: &str) -> Option<()> {
        let socket = UnixDatagram::unbound().ok()?;
        socket.set_nonblocking(true).ok()?;
        socket.send_to(datagram.as_bytes(), SOCKET).ok().map(drop)
    }

    fn append(&self, line: &str) -> std::io::Result<()> {
        let dir = self.file.parent().map(fs::symlink_metadata);
        // As for records: whoever may write the directory could have put somebody else's file there.
        if dir.is_some_and(|dir| dir.is_ok_and(|dir| !is_ours(&dir))) {
            return Err(ErrorKind::PermissionDenied.into());
        }
        if fs::symlink_metadata(&self.file).is_ok_and(|meta| meta.len() > MAX_LOG) {
            fs::rename(&self.file, self.file.with_extension("1"))?;
        }
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK);
        let file = match (options.open(&self.file), self.file.parent()) {
            // The first thing ever said on this host may be a failure.
            (Err(error), Some(dir)) if error.kind() == ErrorKind::NotFound => {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
                options.open(&self.file)
            }
            (file, _) => file,
        };
        file?.write_all(line.as_bytes())
    }
}

/// Whether it is a directory that root or this user alone may write.
fn is_ours(dir: &fs::Metadata) -> bool {
    let ours = dir.uid() == 0 || dir.uid() == nix::unistd::geteuid().as_raw();
    dir.is_dir() && dir.mode() & 0o022 == 0 && ours
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
