//! /run/netlatch: what is known of the containers on this host, and why starts failed.
//!
//! ```text
//! containers/<id>.json   one record (<id>.new: what takes its place, as long as it is written)
//! roster                 all running containers in one file; there only where some follow others
//! errors/<id>.json       why the last start of that container failed
//! lock                   held while rules are decided for a namespace that containers share, and for the roster
//! ```
//!
//! The directory is root's alone (0700). Records are for humans, `poststart`, containers that share a namespace, and to
//! make the roster from. Rules live in the kernel and not here: a lost directory loses no container's protection by
//! itself. But a container without annotations that then joins another's namespace can no longer tell a live neighbour's
//! rules from left-over ones, and replaces them by the baseline; and containers that run cannot follow those that start.

mod alive;
mod faults;
mod owner;
mod record;
mod roster;
mod shared;
mod stored;

pub use alive::{Anchor, started};
pub use faults::{Fault, MAX_ERRORS};
pub use owner::Owner;
pub use record::{Outside, Record, Records};
pub use roster::{Arrival, Container, Glance, Loaded, Look, Reaped, Roster, Subject, Unfinished};
pub use shared::Shared;
pub use stored::Stored;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::time::{ClockId, clock_gettime};

use crate::error::{Cause, Failure, errno_of};
use crate::kernel::checkpoint;
use crate::kernel::laps::{self, lap};
use crate::kernel::process::Deadline;

/// The default directory.
pub const RUN_DIR: &str = "/run/netlatch";

/// How long to wait before asking for the lock again: a start holds it for some hundred microseconds, or for a
/// millisecond where others follow it. The wait doubles up to the second value, so that many who wait cost little.
const LOCK_RETRY: (Duration, Duration) = (Duration::from_micros(100), Duration::from_millis(1));
/// How often what is in the way of a new file is taken away: two hooks of one container may write at once.
const WRITE_TRIES: usize = 8;
/// A record is some hundred bytes, or as long as what its container follows takes; a longer file is nobody's.
pub const MAX_RECORD: u64 = 64 << 20;

/// What lies where a file of ours belongs is no way elsewhere, and no pipe that waits for somebody at its other end.
const PLAIN: i32 = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;

/// The state directory.
#[derive(Clone, Debug)]
pub struct Registry {
    dir: PathBuf,
}

/// Proof that nobody else decides about shared namespaces or changes the roster, until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _held: Flock<File>,
}

/// Milliseconds since boot, suspended time included.
pub fn boot_ms() -> u64 {
    boot_ns() / 1_000_000
}

/// Nanoseconds since boot, suspended time included.
fn boot_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

impl Drop for Lock {
    fn drop(&mut self) {
        laps::unlocked();
    }
}

impl Registry {
    /// The registry in `dir`, which need not exist yet.
    pub fn at(dir: &Path) -> Registry {
        Registry { dir: dir.to_owned() }
    }

    /// Keeps others away from shared namespaces and from the roster until what is returned is dropped: between looking at
    /// what a namespace holds and recording what was put there, nobody else may do the same. A process that is killed
    /// lets go of it.
    ///
    /// # Errors
    /// [`Cause::RunDir`]; [`Cause::Deadline`] where another start does not come to its end in time.
    pub fn lock(&self, deadline: &Deadline) -> Result<Lock, Failure> {
        const DOING: &str = "wait for the start of other containers";
        let failed = |cause| Failure::new(DOING, cause);
        self.make("containers").map_err(failed)?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(PLAIN);
        let mut file = options.open(self.dir.join("lock")).map_err(|error| failed(self.cause(&error)))?;
        let (mut retry, longest) = LOCK_RETRY;
        lap("ask for the lock");
        loop {
            // Never a blocking flock: only poll's deadline is kept whatever signals are blocked.
            file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(held) => {
                    lap("wait for the lock");
                    laps::locked();
                    checkpoint::step("locked")?;
                    return Ok(Lock { _held: held });
                }
                Err((file, Errno::EAGAIN | Errno::EINTR)) => file,
                Err((_, errno)) => return Err(failed(self.cause(&errno.into()))),
            };
            deadline.check(DOING)?;
            std::thread::sleep(retry);
            retry = longest.min(retry * 2);
        }
    }

    fn path(&self, folder: &str, id: &str) -> PathBuf {
        self.dir.join(folder).join(format!("{id}.json"))
    }

    fn read(&self, folder: &str, id: &str) -> io::Result<Vec<u8>> {
        read_limited(&self.path(folder, id))
    }

    /// Writes a file in the place of whatever has its name, in one call. The reader is a later process, and a file that was
    /// cut counts as none: its writer has failed.
    fn write(&self, folder: &str, id: &str, bytes: &[u8]) -> Result<(), Cause> {
        self.write_at(folder, &self.path(folder, id), bytes)
    }

    /// The same, of a file that is as good as it was should this be interrupted. Only for who holds the lock: nobody else
    /// writes it then.
    ///
    /// What is new goes to its place at once: to rename it would cost a start more than all else in here where /run is on
    /// a disk.
    fn replace(&self, folder: &str, id: &str, bytes: &[u8]) -> Result<(), Cause> {
        let path = self.path(folder, id);
        if fs::symlink_metadata(&path).is_err() {
            return self.write_at(folder, &path, bytes);
        }
        let next = next(&path);
        self.write_at(folder, &next, bytes)?;
        fs::rename(&next, &path).map_err(|error| {
            let _ = fs::remove_file(&next);
            self.cause(&error)
        })
    }

    fn write_at(&self, folder: &str, path: &Path, bytes: &[u8]) -> Result<(), Cause> {
        self.check()?;
        let mut tries = WRITE_TRIES;
        loop {
            match write_new(path, bytes) {
                Ok(()) => return Ok(()),
                Err(error) if tries == 0 => return Err(self.cause(&error)),
                Err(error) if error.kind() == ErrorKind::NotFound => self.make(folder)?,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => match fs::remove_file(path) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(self.cause(&error)),
                    Ok(()) | Err(_) => {}
                },
                Err(error) => return Err(self.cause(&error)),
            }
            tries -= 1;
        }
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
        self.check()?;
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

/// Opens a plain file that is no longer than one of ours can be, and says how long it is.
fn open_limited(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().read(true).custom_flags(PLAIN).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(Errno::EINVAL.into());
    }
    if meta.len() > MAX_RECORD {
        return Err(ErrorKind::FileTooLarge.into());
    }
    Ok((file, meta.len()))
}

fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    let (mut file, _) = open_limited(path)?;
    // On the file itself, which tells its length, so that one read takes it whole.
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes a file that must not be there yet. One that cannot be written whole (ENOSPC) is taken away again.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    checkpoint::reach("file-open")
        .map_err(io::Error::from)
        .and_then(|()| file.write_all(bytes))
        .and_then(|()| Ok(checkpoint::reach("file-written")?))
        .inspect_err(|_| drop(fs::remove_file(path)))
}

/// Where the file that takes this one's place is written.
fn next(path: &Path) -> PathBuf {
    path.with_extension("new")
}
