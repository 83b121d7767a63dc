//! The machine's files, or those below a folder that is taken for `/`: an image, a chroot, a machine that was copied.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, open, openat2};

use super::{MAX_NAMES, MAX_SYSTEM_FILE};
use crate::error::{Cause, Failure};

/// Where programs are looked for, in this order. Never `PATH`: that is whoever called us.
const PROGRAMS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// A file system to look at.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
    path: PathBuf,
    /// Who owns it, and so may own what is believed in it.
    owner: u32,
    /// It is this machine's own.
    live: bool,
}

/// Why a file was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// There is none.
    Missing,
    /// In words.
    Because(String),
}

/// What is known of a file without reading it.
#[derive(Clone, Copy, Debug)]
pub(super) struct About {
    stat: Stat,
}

impl About {
    pub(super) fn is_folder(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode) == FileType::Directory
    }

    pub(super) fn is_file(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode) == FileType::RegularFile
    }

    pub(super) fn is_executable(&self) -> bool {
        self.is_file() && self.stat.st_mode & 0o111 != 0
    }

    /// When it was put where it is, in seconds of the epoch: a package keeps the time of its last writing from where it was
    /// built, and nobody can keep this one.
    pub(super) fn changed(&self) -> i64 {
        self.stat.st_ctime
    }
}

impl Tree {
    /// The machine's own without `root`.
    ///
    /// # Errors
    /// [`Cause::Io`] where there is no such folder.
    pub(super) fn at(root: Option<&Path>) -> Result<Tree, Failure> {
        let path = root.unwrap_or(Path::new("/")).to_owned();
        let failed = |errno: rustix::io::Errno| {
            let cause = Cause::Io { path: path.display().to_string(), errno: named(errno) };
            Failure::new("look at a file system", cause)
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = open(&path, flags, Mode::empty()).map_err(failed)?;
        let owner = fstat(&fd).map_err(failed)?.st_uid;
        let live = root.is_none();
        Ok(Tree { root: fd, path, owner, live })
    }

    /// Whether it is this machine's own, so that its programs may be asked and its processes are there.
    pub(super) fn is_live(&self) -> bool {
        self.live
    }

    /// A path as the operator finds it.
    pub(super) fn shown(&self, path: &str) -> String {
        self.below(path).display().to_string()
    }

    /// A path of this tree as one of the machine.
    pub(super) fn below(&self, path: &str) -> PathBuf {
        self.path.join(path.trim_start_matches('/'))
    }

    /// Links are followed as they would be with this tree at `/`.
    fn open(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let relative = path.trim_start_matches('/');
        let relative = if relative.is_empty() { "." } else { relative };
        // A pipe or a device must not hold anybody up; openat2(2) takes neither flag beside `O_PATH`.
        let unblocked = if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NONBLOCK | OFlags::NOCTTY };
        let flags = flags | OFlags::CLOEXEC | unblocked;
        let resolve = if self.live { ResolveFlags::empty() } else { ResolveFlags::IN_ROOT };
        let from = if self.live && path.starts_with('/') {
            openat2(CWD, path, flags, Mode::empty(), resolve)
        } else {
            openat2(&self.root, relative, flags, Mode::empty(), resolve)
        };
        from.map_err(named)
    }

    pub(super) fn about(&self, path: &str) -> Option<About> {
        let fd = self.open(path, OFlags::PATH).ok()?;
        fstat(&fd).ok().map(|stat| About { stat })
    }

    /// Reads a regular file whole.
    pub(super) fn read(&self, path: &str) -> Result<String, Unread> {
        let because = |errno: Errno| match errno {
            Errno::ENOENT | Errno::ENOTDIR => Unread::Missing,
            errno => Unread::Because(format!("it cannot be read ({errno:?})")),
        };
        let fd = self.open(path, OFlags::RDONLY).map_err(because)?;
        let stat = fstat(&fd).map_err(|error| because(named(error)))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Unread::Because("it is not a regular file".to_owned()));
        }
        let mut bytes = Vec::new();
        let read = std::fs::File::from(fd).take(MAX_SYSTEM_FILE as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|error| because(crate::error::errno_of(&error)))?;
        if bytes.len() > MAX_SYSTEM_FILE {
            return Err(Unread::Because(format!("it is longer than {MAX_SYSTEM_FILE} bytes (MAX_SYSTEM_FILE)")));
        }
        String::from_utf8(bytes).map_err(|_| Unread::Because("it is not UTF-8".to_owned()))
    }

    /// The names in a folder, sorted; none where there is no such folder.
    pub(super) fn names(&self, folder: &str) -> Vec<String> {
        let Ok(fd) = self.open(folder, OFlags::RDONLY | OFlags::DIRECTORY) else { return Vec::new() };
        let Ok(entries) = Dir::read_from(&fd) else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().to_str().ok().map(str::to_owned));
        let mut names: Vec<String> = names.filter(|name| name != "." && name != "..").take(MAX_NAMES).collect();
        names.sort();
        names
    }

    /// The files of a folder that end so, by name, with their paths.
    pub(super) fn files(&self, folder: &str, end: &str) -> Vec<(String, String)> {
        let names = self.names(folder).into_iter().filter(|name| name.ends_with(end));
        let with_path = names.map(|name| (format!("{}/{name}", folder.trim_end_matches('/')), name));
        with_path.filter(|(path, _)| self.about(path).is_some_and(|about| !about.is_folder())).collect()
    }

    /// Where a program is, if it is installed.
    pub(super) fn program(&self, name: &str) -> Option<String> {
        let paths = PROGRAMS.iter().map(|folder| format!("{folder}/{name}"));
        paths.into_iter().find(|path| self.about(path).is_some_and(|about| about.is_executable()))
    }

    /// Who but the tree's owner may change a file, or put another in its place: in words, the first that is found.
    pub(super) fn changeable(&self, path: &str) -> Option<String> {
        Path::new(path).ancestors().find_map(|part| {
            let part = part.to_str().filter(|part| !part.is_empty())?;
            let About { stat } = self.about(part)?;
            let what = if part == path { "it".to_owned() } else { self.shown(part) };
            let sticky = part != path && stat.st_mode & 0o1000 != 0;
            match () {
                () if ![0, self.owner].contains(&stat.st_uid) => {
                    Some(format!("{what} belongs to user {}", stat.st_uid))
                }
                () if stat.st_mode & 0o022 != 0 && !sticky => {
                    Some(format!("{what} may be written by others (mode {:04o})", stat.st_mode & 0o7777))
                }
                () => None,
            }
        })
    }
}

fn named(errno: rustix::io::Errno) -> Errno {
    Errno::from_raw(errno.raw_os_error())
}
