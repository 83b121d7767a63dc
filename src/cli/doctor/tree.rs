//! The machine's files, or those below a folder that is taken for `/`: an image, a chroot, a machine that was copied.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use rustix::fs::{
    CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, StatVfs, StatVfsMountFlags, fstat, fstatvfs, open, openat2,
};

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

/// Whose affair something is: root's, or that of a user who runs containers without it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) name: String,
    pub(super) home: String,
}

pub(super) static ROOT: User = User { uid: 0, name: String::new(), home: String::new() };

impl User {
    /// As whom it runs, in a sentence.
    pub(super) fn shown(&self) -> &str {
        if self.uid == 0 { "root" } else { &self.name }
    }
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

    pub(super) fn owner(&self) -> u32 {
        self.stat.st_uid
    }

    /// Device and inode: two paths with the same are one file.
    pub(super) fn identity(&self) -> (u64, u64) {
        (self.stat.st_dev, self.stat.st_ino)
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
        let entries = self.entries(folder, end).into_iter();
        entries.filter(|(path, _)| self.about(path).is_some_and(|about| !about.is_folder())).collect()
    }

    /// Whatever is in a folder and ends so, by name, with its path: folders too, and links to nowhere.
    pub(super) fn entries(&self, folder: &str, end: &str) -> Vec<(String, String)> {
        let names = self.names(folder).into_iter().filter(|name| name.ends_with(end));
        names.map(|name| (format!("{}/{name}", folder.trim_end_matches('/')), name)).collect()
    }

    /// The users of this machine who may run containers of their own: those that /etc/passwd knows and that have something
    /// of podman's in their home.
    pub(super) fn users(&self) -> Vec<User> {
        let passwd = self.read("/etc/passwd").unwrap_or_default();
        let user = |line: &str| -> Option<User> {
            let mut fields = line.split(':');
            let (name, uid, home) = (fields.next()?, fields.nth(1)?.parse().ok()?, fields.nth(2)?);
            let of_podman = [".config/containers", ".local/share/containers"];
            let has = |folder: &&str| self.about(&format!("{home}/{folder}")).is_some_and(|about| about.is_folder());
            (uid != 0 && home.starts_with('/') && of_podman.iter().any(has)).then(|| User {
                uid,
                name: name.to_owned(),
                home: home.to_owned(),
            })
        };
        passwd.lines().filter_map(user).collect()
    }

    /// Where a program is, if it is installed.
    pub(super) fn program(&self, name: &str) -> Option<String> {
        self.programs(name).into_iter().next()
    }

    /// Wherever it is: each file once, for /bin is mostly a link to /usr/bin.
    pub(super) fn programs(&self, name: &str) -> Vec<String> {
        let (mut found, mut seen) = (Vec::new(), Vec::new());
        for path in PROGRAMS.iter().map(|folder| format!("{folder}/{name}")) {
            let Some(about) = self.about(&path).filter(About::is_executable) else { continue };
            if !seen.contains(&about.identity()) {
                seen.push(about.identity());
                found.push(path);
            }
        }
        found
    }

    /// A path without links, as this tree has it; `None` where it leads nowhere.
    fn real(&self, path: &str) -> Option<String> {
        let named = |fd: OwnedFd| std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok();
        let real = named(self.open(path, OFlags::PATH).ok()?)?;
        let below = match self.live {
            true => real,
            false => Path::new("/").join(real.strip_prefix(named(self.open("/", OFlags::PATH).ok()?)?).ok()?),
        };
        below.to_str().map(str::to_owned)
    }

    /// Why the kernel starts no such file on this machine, in words: binfmt_elf and binfmt_script look at its first bytes. It is
    /// not left to execve(2) alone, for execvp(3) gives what the kernel refuses to a shell.
    pub(super) fn no_program(&self, path: &str) -> Option<&'static str> {
        // `e_ident` and `e_type` come before `e_machine`.
        let head = |path: &str| -> Option<[u8; 20]> {
            let mut head = [0; 20];
            let file = std::fs::File::from(self.open(path, OFlags::RDONLY).ok()?);
            let mut bytes = Vec::new();
            file.take(20).read_to_end(&mut bytes).ok()?;
            head[..bytes.len()].copy_from_slice(&bytes);
            Some(head)
        };
        let this = head(path)?;
        match this {
            [b'#', b'!', ..] => None,
            [0x7f, b'E', b'L', b'F', ..] if !self.live => None,
            [0x7f, b'E', b'L', b'F', ..] => {
                let own = head("/proc/self/exe")?;
                // Class and byte order, and the machine.
                (this[4..6] != own[4..6] || this[18..] != own[18..]).then_some("it is another architecture's")
            }
            _ => Some("it is no program"),
        }
    }

    /// Whether a file is the program that runs here, or has the same bytes.
    pub(super) fn is_this_program(&self, path: &str) -> bool {
        const SELF: &str = "/proc/self/exe";
        let (Some(this), Some(other)) = (self.about(SELF), self.about(path)) else { return false };
        let open = |path: &str| self.open(path, OFlags::RDONLY).map(|fd| BufReader::new(std::fs::File::from(fd)));
        let same = || -> Option<bool> {
            let (mut this, mut other) = (open(SELF).ok()?, open(path).ok()?);
            loop {
                let (a, b) = (this.fill_buf().ok()?, other.fill_buf().ok()?);
                let read = a.len().min(b.len());
                if a[..read] != b[..read] || (read == 0 && a.len() != b.len()) {
                    return Some(false);
                }
                if read == 0 {
                    return Some(true);
                }
                this.consume(read);
                other.consume(read);
            }
        };
        this.identity() == other.identity() || this.stat.st_size == other.stat.st_size && same() == Some(true)
    }

    /// Whether the file system forbids to execute what is there (`ST_NOEXEC`). A folder for a tree has no mounts of its own.
    pub(super) fn is_noexec(&self, path: &str) -> bool {
        self.live && self.mounted(path).is_some_and(|of| of.f_flag.contains(StatVfsMountFlags::NOEXEC))
    }

    /// Why nothing new can be written at a path, or where it would be made: in words.
    pub(super) fn unwritable(&self, path: &str) -> Option<&'static str> {
        let there = Path::new(path).ancestors().filter_map(Path::to_str).find(|part| self.about(part).is_some())?;
        let of = self.mounted(there).filter(|_| self.live)?;
        match () {
            () if of.f_flag.contains(StatVfsMountFlags::RDONLY) => Some("it is on a file system mounted read-only"),
            () if of.f_blocks > 0 && of.f_bavail == 0 => Some("its file system is full"),
            () if of.f_files > 0 && of.f_ffree == 0 => Some("its file system has no inodes left"),
            () => None,
        }
    }

    fn mounted(&self, path: &str) -> Option<StatVfs> {
        fstatvfs(self.open(path, OFlags::PATH).ok()?).ok()
    }

    /// Who but root may change a file, or put another in its place: in words, the first that is found.
    pub(super) fn changeable(&self, path: &str) -> Option<String> {
        self.changeable_by_others_than(&ROOT, path)
    }

    /// Who but root and the user whose affair it is may: links are looked at by where they are and by where they lead.
    pub(super) fn changeable_by_others_than(&self, user: &User, path: &str) -> Option<String> {
        let real = self.real(path).filter(|real| real != path);
        self.on_the_way(user, path).or_else(|| self.on_the_way(user, &real?))
    }

    fn on_the_way(&self, user: &User, path: &str) -> Option<String> {
        Path::new(path).ancestors().find_map(|part| {
            let part = part.to_str().filter(|part| !part.is_empty())?;
            let About { stat } = self.about(part)?;
            let what = if part == path { "it".to_owned() } else { self.shown(part) };
            let sticky = part != path && stat.st_mode & 0o1000 != 0;
            match () {
                () if ![0, self.owner, user.uid].contains(&stat.st_uid) => {
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
