//! Putting files in place, for `netlatch install`: whole or not at all, and never anywhere else.
//!
//! A file is written beside its place, synced and renamed over it, so that an engine that reads at the same moment, or a
//! machine that loses power, finds the old one or the new one. The hook's own program is replaced so too: its path exists
//! at every moment. The last part of a path is never followed where it is a link.
//!
//! Paths are taken below a [`Root`], the host's `/` or another (`--destdir`), by openat2(2) with `RESOLVE_IN_ROOT`: an absolute
//! link in an image, such as `/var/run`, leads into the image and not into the host.

use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, openat2};

use super::{ReadError, errno};
use crate::error::{Cause, Failure};

/// Where paths begin.
#[derive(Debug)]
pub struct Root {
    /// For messages; empty where it is the host's.
    path: PathBuf,
    /// `None` where it is not there, so that nothing is in it.
    fd: Option<OwnedFd>,
}

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its content.
    pub bytes: Vec<u8>,
    /// Whose it is, and who may do what.
    pub standing: Standing,
}

/// Whose a file is, and who may do what with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Permission bits.
    pub mode: u32,
    /// Owner and group; `None` leaves the file ours.
    pub owner: Option<(u32, u32)>,
}

impl Standing {
    /// A file of ours that everybody may read.
    pub const READABLE: Standing = Standing { mode: 0o644, owner: None };
    /// A program of ours.
    pub const PROGRAM: Standing = Standing { mode: 0o755, owner: None };
}

impl Root {
    /// The host's, or the folder at `path`, which is made first if `make`.
    ///
    /// # Errors
    /// [`Cause::Io`].
    pub fn open(path: Option<&Path>, make: bool) -> Result<Root, Failure> {
        let fail = |errno| {
            let path = path.unwrap_or(Path::new("/")).display().to_string();
            Failure::new("open the root of what is installed", Cause::Io { path, errno })
        };
        if let (Some(path), true) = (path, make) {
            std::fs::create_dir_all(path).map_err(|error| fail(crate::error::errno_of(&error)))?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = match rustix::fs::open(path.unwrap_or(Path::new("/")), flags, Mode::empty()).map_err(errno) {
            Ok(fd) => Some(fd),
            Err(Errno::ENOENT) => None,
            Err(error) => return Err(fail(error)),
        };
        Ok(Root { path: path.map(Path::to_owned).unwrap_or_default(), fd })
    }

    /// A path below this root as the caller's shell would write it.
    pub fn shown(&self, path: &Path) -> PathBuf {
        self.path.join(below(path)).components().fold(PathBuf::new(), |mut whole, part| {
            if whole.as_os_str().is_empty() && self.path.as_os_str().is_empty() {
                whole.push("/");
            }
            whole.push(part);
            whole
        })
    }

    /// Reads a regular file, not following a link at its end. `limit.1` is the limit's name.
    ///
    /// # Errors
    /// [`ReadError::Missing`], [`ReadError::Symlink`], [`ReadError::NotRegular`], [`ReadError::TooLong`], the kernel's.
    pub fn read(&self, path: &Path, limit: (usize, &'static str)) -> Result<Found, ReadError> {
        let file = self.at(path, super::TO_READ).map_err(super::unopened)?;
        let stat = rustix::fs::fstat(&file).map_err(|error| ReadError::Errno(errno(error)))?;
        let bytes = super::read_open(&file, &stat, limit)?;
        let standing = Standing { mode: stat.st_mode & 0o7777, owner: Some((stat.st_uid, stat.st_gid)) };
        Ok(Found { bytes, standing })
    }

    /// Whether a path, links followed, leads to a file that may be executed.
    pub fn has_program(&self, path: &Path) -> bool {
        let stat = self.at(path, OFlags::PATH | OFlags::CLOEXEC).and_then(|fd| rustix::fs::fstat(fd).map_err(errno));
        stat.is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_mode & 0o111 != 0
        })
    }

    /// Whether there is something at a path.
    pub fn has(&self, path: &Path) -> bool {
        self.at(path, OFlags::PATH | OFlags::CLOEXEC).is_ok()
    }

    /// Writes a file, in one step for whoever looks at it; missing folders are made, with mode 0755.
    ///
    /// # Errors
    /// [`Cause::Io`]; then nothing is in its place but what was.
    pub fn put(&self, path: &Path, bytes: &[u8], standing: Standing) -> Result<(), Failure> {
        let fail = |errno| {
            let path = self.shown(path).display().to_string();
            Failure::new("put a file in place", Cause::Io { path, errno })
        };
        let (folder, name) = parts(path).ok_or_else(|| fail(Errno::EISDIR))?;
        let folder = self.folder(&folder).map_err(fail)?;
        match rustix::fs::statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(errno) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => return Err(fail(Errno::ELOOP)),
            Ok(_) | Err(_) => {}
        }
        // Not by the ending that engines look for, and another for each process that does this at once.
        let new = format!(".{}.new-{}", name.display(), std::process::id());
        let written = write_new(&folder, &new, bytes, standing)
            .and_then(|()| rustix::fs::renameat(&folder, &new, &folder, &name).map_err(errno));
        if let Err(error) = written {
            // Whatever has become of it: nothing is to be left.
            rustix::fs::unlinkat(&folder, &new, AtFlags::empty()).ok();
            return Err(fail(error));
        }
        rustix::fs::fsync(&folder).map_err(|error| fail(errno(error)))
    }

    /// Removes a file or a link; one that is missing is no error.
    ///
    /// # Errors
    /// [`Cause::Io`].
    pub fn remove(&self, path: &Path) -> Result<(), Failure> {
        let fail = |errno| {
            let path = self.shown(path).display().to_string();
            Failure::new("remove a file", Cause::Io { path, errno })
        };
        let (folder, name) = parts(path).ok_or_else(|| fail(Errno::EISDIR))?;
        let open = self.at(&folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC);
        let gone = open.and_then(|folder| rustix::fs::unlinkat(folder, &name, AtFlags::empty()).map_err(errno));
        match gone {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(fail(error)),
        }
    }

    fn at(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let root = self.fd.as_ref().ok_or(Errno::ENOENT)?;
        let below = below(path);
        let below = if below.as_os_str().is_empty() { Path::new(".") } else { &below };
        // EAGAIN: something was renamed while a `..` was followed.
        loop {
            match openat2(root, below, flags, Mode::empty(), ResolveFlags::IN_ROOT).map_err(errno) {
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                opened => return opened,
            }
        }
    }

    /// Opens a folder and makes what is missing of the way to it.
    fn folder(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match self.at(path, flags) {
            Err(Errno::ENOENT) => {}
            opened => return opened,
        }
        let (above, name) = parts(path).ok_or(Errno::ENOENT)?;
        match rustix::fs::mkdirat(self.folder(&above)?, &name, Mode::from_raw_mode(0o755)).map_err(errno) {
            Ok(()) | Err(Errno::EEXIST) => self.at(path, flags),
            Err(error) => Err(error),
        }
    }
}

fn write_new(folder: &OwnedFd, name: &str, bytes: &[u8], standing: Standing) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o600)).map_err(errno)?;
    let mut left = bytes;
    while !left.is_empty() {
        match rustix::io::write(&file, left).map_err(errno) {
            Ok(count) => left = &left[count..],
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    if let Some((uid, gid)) = standing.owner {
        let stat = rustix::fs::fstat(&file).map_err(errno)?;
        if (stat.st_uid, stat.st_gid) != (uid, gid) {
            let owner = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
            rustix::fs::fchown(&file, Some(owner.0), Some(owner.1)).map_err(errno)?;
        }
    }
    // Behind the owner, for chown(2) takes set-user-ID bits away. The umask has no say.
    rustix::fs::fchmod(&file, Mode::from_raw_mode(standing.mode)).map_err(errno)?;
    rustix::fs::fsync(&file).map_err(errno)
}

/// The path without the `/` that it begins with; `.` says nothing.
fn below(path: &Path) -> PathBuf {
    path.components().filter(|part| !matches!(part, Component::RootDir | Component::CurDir)).collect()
}

/// The folder and the last part; `None` where that is no name.
fn parts(path: &Path) -> Option<(PathBuf, std::ffi::OsString)> {
    let name = path.file_name()?.to_owned();
    Some((path.parent().map(Path::to_owned).unwrap_or_default(), name))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    const LIMIT: (usize, &str) = (100, "LIMIT");

    fn root() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(Some(&dir.path().join("new/root")), true).unwrap();
        (dir, root)
    }

    fn code(failure: &Failure) -> Errno {
        match failure.cause {
            Cause::Io { errno, .. } => errno,
            ref other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_is_replaced_whole_and_folders_are_made() {
        let (_dir, root) = root();
        let path = Path::new("/a/b/c.json");
        assert_eq!(root.read(path, LIMIT), Err(ReadError::Missing));
        assert_eq!(root.shown(path), root.path.join("a/b/c.json"));
        for text in ["one", "another"] {
            root.put(path, text.as_bytes(), Standing::READABLE).unwrap();
            let found = root.read(path, LIMIT).unwrap();
            assert_eq!((found.bytes.as_slice(), found.standing.mode), (text.as_bytes(), 0o644));
        }
        // Somebody who reads goes on reading what was there.
        let before = fs::metadata(root.shown(path)).unwrap().ino();
        root.put(path, b"third", Standing::PROGRAM).unwrap();
        assert_ne!(fs::metadata(root.shown(path)).unwrap().ino(), before);
        assert!(root.has_program(path));
        assert_eq!(fs::read_dir(root.shown(Path::new("a/b"))).unwrap().count(), 1, "nothing else is left");
        root.remove(path).unwrap();
        root.remove(path).unwrap();
        root.remove(Path::new("/none/at/all")).unwrap();
        assert!(!root.has(path));
    }

    #[test]
    fn a_link_at_the_end_is_neither_followed_nor_replaced_and_those_before_stay_below_the_root() {
        let (dir, root) = root();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("f"), "theirs").unwrap();
        symlink(outside.join("f"), root.shown(Path::new("f"))).unwrap();
        assert_eq!(root.read(Path::new("/f"), LIMIT), Err(ReadError::Symlink));
        assert_eq!(code(&root.put(Path::new("/f"), b"x", Standing::READABLE).unwrap_err()), Errno::ELOOP);
        assert!(fs::symlink_metadata(root.shown(Path::new("f"))).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(outside.join("f")).unwrap(), "theirs");

        // As an image has it: an absolute link, and one that would climb out. The host has such a folder, too.
        let below = outside.strip_prefix("/").unwrap();
        fs::create_dir_all(root.path.join(below)).unwrap();
        symlink(&outside, root.shown(Path::new("absolute"))).unwrap();
        symlink(Path::new(&"../".repeat(20)).join(below), root.shown(Path::new("climbing"))).unwrap();
        for link in ["absolute", "climbing"] {
            root.put(&Path::new("/").join(link).join("cdi").join(link), b"x", Standing::READABLE).unwrap();
            assert!(root.path.join(below).join("cdi").join(link).exists());
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "the host's has what it had");
    }

    #[test]
    fn owner_and_mode_can_be_kept() {
        let (_dir, root) = root();
        let path = Path::new("f");
        root.put(path, b"x", Standing { mode: 0o640, owner: None }).unwrap();
        let before = root.read(path, LIMIT).unwrap().standing;
        root.put(path, b"y", before).unwrap();
        assert_eq!(root.read(path, LIMIT).unwrap().standing, before);
        assert_eq!(before.mode, 0o640);
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing_behind() {
        let (_dir, root) = root();
        fs::create_dir_all(root.shown(Path::new("folder/f"))).unwrap();
        // A folder in the file's place.
        assert_eq!(code(&root.put(Path::new("folder/f"), b"x", Standing::READABLE).unwrap_err()), Errno::EISDIR);
        assert_eq!(fs::read_dir(root.shown(Path::new("folder"))).unwrap().count(), 1);
        // A file in a folder's place.
        root.put(Path::new("file"), b"x", Standing::READABLE).unwrap();
        assert_eq!(code(&root.put(Path::new("file/f"), b"x", Standing::READABLE).unwrap_err()), Errno::ENOTDIR);
        assert_eq!(code(&root.put(Path::new("/"), b"x", Standing::READABLE).unwrap_err()), Errno::EISDIR);
        assert_eq!(root.read(Path::new("folder"), LIMIT), Err(ReadError::NotRegular));
        root.put(Path::new("long"), &[b'x'; 101], Standing::READABLE).unwrap();
        assert_eq!(root.read(Path::new("long"), LIMIT), Err(ReadError::TooLong { limit: 100, name: "LIMIT" }));
    }

    #[test]
    fn a_root_that_is_not_there_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(Some(&dir.path().join("none")), false).unwrap();
        assert_eq!(root.read(Path::new("/f"), LIMIT), Err(ReadError::Missing));
        assert!(!root.has(Path::new("/")));
        let host = Root::open(None, false).unwrap();
        assert_eq!(host.shown(Path::new("/etc/./x")), Path::new("/etc/x"));
        assert!(host.has(Path::new("/proc")));
        assert_eq!(fs::metadata("/").unwrap().permissions().mode() & 0o444, 0o444);
    }
}
