//! The file where there is no log service: JSON lines with the journal's field names, bounded, in the state directory.
//!
//! A line is one write to a file opened for appending, which the kernel makes whole: lines of two processes do not mix. When
//! the file is full it becomes `log.1`, whose predecessor goes. One process at a time does that, under a lock that nobody
//! waits for: who does not get it appends to the full file.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Result, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::UNIX_EPOCH;

use nix::fcntl::{Flock, FlockArg};

use super::{IDENTIFIER, Said};

/// The file's size in bytes past which it becomes `log.1`; so much and a line is kept twice.
pub const MAX_LOG: u64 = 1 << 20;

pub(super) fn line(said: &Said<'_>) -> String {
    let since = said.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = format!("{}.{:06}Z", utc(since.as_secs()).trim_end_matches('Z'), since.subsec_micros());
    let (severity, pid) = (said.severity.to_string(), said.pid.to_string());
    let head = [
        ("TIME", time.as_str()),
        ("PRIORITY", &severity),
        ("SYSLOG_IDENTIFIER", IDENTIFIER),
        ("SYSLOG_PID", &pid),
        ("MESSAGE", &said.message),
    ];
    let fields = said.fields.iter().map(|(name, value)| (*name, value.as_ref()));
    let mut line = String::with_capacity(512);
    for (name, value) in head.into_iter().chain(fields) {
        line.push(if line.is_empty() { '{' } else { ',' });
        line += &format!("\"{name}\":{}", serde_json::Value::from(value));
    }
    line + "}\n"
}

/// Appends a line. Never waits: neither for a lock nor for the reader of a pipe that somebody put there.
pub(super) fn append(path: &Path, line: &str) -> Result<()> {
    let dir = path.parent().ok_or(ErrorKind::NotFound)?;
    // As for records: whoever may write the directory could have put somebody else's file there.
    match fs::symlink_metadata(dir) {
        Ok(meta) if !is_ours(&meta) => return Err(ErrorKind::PermissionDenied.into()),
        // The first thing ever said on this host may be a failure.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        Ok(_) | Err(_) => {}
    }
    let (mut file, size) = open(path)?;
    if size > MAX_LOG {
        file = turned(path, file)?;
    }
    // In one call: `write_all` would put the rest of a line behind another's.
    let written = file.write(line.as_bytes())?;
    if written == line.len() { Ok(()) } else { Err(ErrorKind::WriteZero.into()) }
}

/// The file and its size.
fn open(path: &Path) -> Result<(File, u64)> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK);
    let file = options.open(path)?;
    // A pipe with a reader opens; so does a device.
    let meta = file.metadata()?;
    if meta.is_file() { Ok((file, meta.len())) } else { Err(ErrorKind::InvalidInput.into()) }
}

/// The file to append to after a full one: a new one, unless another process is about to begin it.
fn turned(path: &Path, full: File) -> Result<File> {
    match Flock::lock(full, FlockArg::LockExclusiveNonblock) {
        Ok(held) => {
            let now = fs::symlink_metadata(path);
            let (full, own) = (held.metadata()?, |now: &fs::Metadata| (now.dev(), now.ino()));
            // Who waited behind another's turn must not turn the new one.
            if now.is_ok_and(|now| own(&now) == own(&full)) {
                fs::rename(path, path.with_extension("1"))?;
            }
            open(path).map(|(file, _)| file)
        }
        Err((full, _)) => Ok(full),
    }
}

/// Whether it is a directory that root or this user alone may write.
fn is_ours(dir: &fs::Metadata) -> bool {
    let ours = dir.uid() == 0 || dir.uid() == nix::unistd::geteuid().as_raw();
    dir.is_dir() && dir.mode() & 0o022 == 0 && ours
}

/// Seconds since 1970 as RFC 3339 in UTC. Days to a date by counting 400-year cycles from 1 March, so that leap days come
/// last in each.
pub fn utc(seconds: u64) -> String {
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
    use super::{open, turned, utc};

    #[test]
    fn who_saw_a_full_file_that_another_has_turned_since_does_not_turn_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "full").unwrap();
        let seen = [open(&path).unwrap().0, open(&path).unwrap().0];
        for full in seen {
            std::io::Write::write_all(&mut turned(&path, full).unwrap(), b"new ").unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!((read("log.1"), read("log")), ("full".to_owned(), "new new ".to_owned()));
    }

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
