//! Reading files that tell us what to do, and whom we believe when they do; and, in [`place`], putting files where engines
//! look.

pub mod place;
mod way;

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use rustix::fs::{FileType, Mode, OFlags, Stat};

use self::way::{Last, Place};

/// Whose files are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Only files of root or of our own user that nobody else may write, in folders where nobody else may put another in
    /// their place: the configuration, a bundle.
    Guarded,
    /// As [`Trust::Guarded`], in a folder that was looked at before ([`believe_folder`]): policies.
    Listed,
    /// Any: `check` and `plan` on somebody's draft.
    Any,
}

/// Why a file was not read. Messages follow the file's name and a colon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// There is none (`ENOENT`, `ENOTDIR`).
    Missing,
    /// The last part of the path is a symbolic link, or another part one of procfs.
    Symlink,
    /// A folder, device, socket or pipe.
    NotRegular,
    /// It belongs to neither root nor us.
    Owner {
        /// The owner's user id.
        uid: u32,
    },
    /// Its group or everybody may write it.
    Writable {
        /// The permission bits.
        mode: u32,
    },
    /// Somebody else may change what the path leads to.
    Way {
        /// The folder where, or a link there.
        folder: PathBuf,
        /// Whose it is; `None` where others may write it.
        owner: Option<u32>,
        /// Its permission bits.
        mode: u32,
    },
    /// It has another name as well, and stands where others may put such names.
    Linked,
    /// Longer than the limit.
    TooLong {
        /// The limit in bytes.
        limit: usize,
        /// Its name.
        name: &'static str,
    },
    /// The kernel refused.
    Errno(Errno),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Missing => f.write_str("the file is missing (ENOENT)"),
            ReadError::Symlink => {
                f.write_str("is a symbolic link, or leads through one of /proc; name the file itself")
            }
            ReadError::NotRegular => f.write_str("is not a regular file"),
            ReadError::Owner { uid } => {
                write!(f, "belongs to user {uid}; only a file of root's or of our own user's is believed (chown it)")
            }
            ReadError::Writable { mode } => {
                write!(f, "may be written by others (mode {mode:04o}) and is not believed (chmod go-w)")
            }
            ReadError::Way { folder, owner: Some(uid), .. } => {
                write!(f, "is reached through {}, which user {uid} may change, and is not believed", folder.display())
            }
            ReadError::Way { folder, owner: None, mode } => {
                let folder = folder.display();
                write!(f, "is reached through {folder}, which others may write (mode {mode:04o}), and is not believed")
            }
            ReadError::Linked => f.write_str("is a hard link in a folder of others and is not believed"),
            ReadError::TooLong { limit, name } => write!(f, "is longer than {limit} bytes ({name})"),
            ReadError::Errno(errno) => write!(f, "{errno:?}"),
        }
    }
}

impl std::error::Error for ReadError {}

/// Reads a whole regular file of at most `limit.0` bytes; `limit.1` is the limit's name for the message.
///
/// The last part of `path` is not followed where it is a link, and a pipe does not block (`O_NONBLOCK` before the type
/// is known). Links before it are followed, each looked at: see the module `way`. That a file is missing is believed only
/// where it would be.
///
/// # Errors
/// See [`ReadError`].
pub fn read_regular(path: &Path, limit: (usize, &'static str), trust: Trust) -> Result<Vec<u8>, ReadError> {
    let place = match trust {
        Trust::Any | Trust::Listed => Place::default(),
        Trust::Guarded => way::believe(folder_of(path), Last::Ours)?,
    };
    read(path, limit, (trust != Trust::Any).then_some(place))
}

/// Reads a bundle's config.json as [`read_regular`] with [`Trust::Guarded`] does, but that the bundle itself may belong to
/// somebody else, whom only the file can name: podman gives the bundle of a container with a user namespace to the
/// container's root. That owner is returned.
///
/// # Errors
/// See [`ReadError`].
pub fn read_of_bundle(path: &Path, limit: (usize, &'static str)) -> Result<(Vec<u8>, Option<u32>), ReadError> {
    let folder = folder_of(path);
    let place = way::believe(folder, Last::AnyOwner)?;
    match read(path, limit, Some(place)) {
        // Who owns the folder may have taken it away.
        Err(ReadError::Missing) if place.foreign.is_some() => {
            Err(ReadError::Way { folder: folder.to_owned(), owner: place.foreign, mode: 0 })
        }
        bytes => Ok((bytes?, place.foreign)),
    }
}

/// Whether what is listed in a folder, and what is not, is root's or our own doing.
///
/// # Errors
/// [`ReadError::Way`], [`ReadError::Missing`], [`ReadError::Errno`].
pub fn believe_folder(folder: &Path) -> Result<(), ReadError> {
    way::believe(folder, Last::Ours).map(drop)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    }
}

/// No link in the last place, and no pipe or device that would hold the reader up.
const TO_READ: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// Why a file could not be opened so.
fn unopened(errno: Errno) -> ReadError {
    match errno {
        Errno::ENOENT | Errno::ENOTDIR => ReadError::Missing,
        Errno::ELOOP => ReadError::Symlink,
        // A socket, or a device without a driver.
        Errno::ENXIO => ReadError::NotRegular,
        other => ReadError::Errno(other),
    }
}

/// `place` is that of a file that has to be believed.
fn read(path: &Path, limit: (usize, &'static str), place: Option<Place>) -> Result<Vec<u8>, ReadError> {
    let file = rustix::fs::open(path, TO_READ, Mode::empty()).map_err(|error| unopened(errno(error)))?;
    let stat = rustix::fs::fstat(&file).map_err(|error| ReadError::Errno(errno(error)))?;
    if let Some(place) = place.filter(|_| is_regular(&stat)) {
        believe(stat.st_uid, stat.st_mode, rustix::process::geteuid().as_raw())?;
        // Another's file of that name, which its owner never meant to be read here (`fs.protected_hardlinks` 0).
        if (place.shared || place.foreign.is_some()) && stat.st_nlink > 1 {
            return Err(ReadError::Linked);
        }
    }
    read_open(&file, &stat, limit)
}

fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

/// All of an open file, if it is a regular one.
fn read_open(file: &OwnedFd, stat: &Stat, limit: (usize, &'static str)) -> Result<Vec<u8>, ReadError> {
    if !is_regular(stat) {
        return Err(ReadError::NotRegular);
    }
    let (limit, name) = limit;
    let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
    if size > limit {
        return Err(ReadError::TooLong { limit, name });
    }
    // One byte more than fstat says, so that the common file takes one read and one that finds the end.
    let mut bytes = vec![0; size + 1];
    let mut filled = 0;
    loop {
        match rustix::io::read(file, &mut bytes[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(ReadError::Errno(errno(error))),
        }
        if filled > limit {
            return Err(ReadError::TooLong { limit, name });
        }
        if filled == bytes.len() {
            bytes.resize(bytes.len() * 2, 0);
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Whether a file of `uid` with `mode` can only have been written by root or by `us`.
fn believe(uid: u32, mode: u32, us: u32) -> Result<(), ReadError> {
    if uid != 0 && uid != us {
        return Err(ReadError::Owner { uid });
    }
    if mode & 0o022 != 0 {
        return Err(ReadError::Writable { mode: mode & 0o7777 });
    }
    Ok(())
}

fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const LIMIT: (usize, &str) = (1000, "LIMIT");

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn write(path: &Path, size: usize, mode: u32) {
        std::fs::write(path, vec![b'x'; size]).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_guarded_file_is_read_whole() {
        let folder = folder();
        for size in [0, 1, 999, 1000] {
            let path = folder.path().join("f");
            write(&path, size, 0o644);
            assert_eq!(read_regular(&path, LIMIT, Trust::Guarded).map(|bytes| bytes.len()), Ok(size));
        }
    }

    #[test]
    fn what_is_no_regular_file_is_refused_without_waiting() {
        let folder = folder();
        let at = |name: &str| folder.path().join(name);
        write(&at("f"), 5, 0o644);
        symlink(at("f"), at("link")).unwrap();
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        let read = |name: &str| read_regular(&at(name), LIMIT, Trust::Any).unwrap_err();
        assert_eq!(read("missing"), ReadError::Missing);
        assert_eq!(read("f/below"), ReadError::Missing);
        assert_eq!(read("link"), ReadError::Symlink);
        assert_eq!(read("pipe"), ReadError::NotRegular);
        assert_eq!(read("socket"), ReadError::NotRegular);
        assert_eq!(read(""), ReadError::NotRegular);
        assert_eq!(read_regular(Path::new("/dev/null"), LIMIT, Trust::Any), Err(ReadError::NotRegular));
        assert_eq!(read_regular(Path::new("/a\0b"), LIMIT, Trust::Any), Err(ReadError::Errno(Errno::EINVAL)));
        drop(socket);
    }

    #[test]
    fn a_file_that_others_may_write_is_not_believed() {
        let folder = folder();
        for (mode, good) in
            [(0o600, true), (0o644, true), (0o444, true), (0o664, false), (0o646, false), (0o666, false)]
        {
            let path = folder.path().join(format!("{mode:o}"));
            write(&path, 5, mode);
            assert_eq!(read_regular(&path, LIMIT, Trust::Guarded).is_ok(), good, "{mode:o}");
            assert!(read_regular(&path, LIMIT, Trust::Any).is_ok());
        }
    }

    #[test]
    fn a_file_of_another_user_is_not_believed() {
        assert_eq!(believe(0, 0o100644, 1000), Ok(()));
        assert_eq!(believe(1000, 0o100644, 1000), Ok(()));
        assert_eq!(believe(1000, 0o100644, 0), Err(ReadError::Owner { uid: 1000 }));
        // The owner of a file that this user namespace does not map.
        assert_eq!(believe(65534, 0o100600, 0), Err(ReadError::Owner { uid: 65534 }));
    }

    #[test]
    fn a_file_longer_than_the_limit_is_refused_by_name() {
        let folder = folder();
        let path = folder.path().join("f");
        write(&path, 1001, 0o644);
        let error = read_regular(&path, LIMIT, Trust::Guarded).unwrap_err();
        assert_eq!(error.to_string(), "is longer than 1000 bytes (LIMIT)");
        // procfs says a size of 0 and then goes on.
        let proc = read_regular(Path::new("/proc/self/status"), (100, "LIMIT"), Trust::Any);
        assert!(matches!(proc, Err(ReadError::TooLong { .. })));
        assert!(read_regular(Path::new("/proc/self/status"), (100_000, "LIMIT"), Trust::Any).unwrap().len() > 100);
    }
}
