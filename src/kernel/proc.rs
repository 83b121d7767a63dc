//! Reading and writing /proc/sys/net, and only there.
//!
//! A privileged process that writes where a container can arrange the file tree is an old hole (CVE-2019-16884,
//! CVE-2019-19921, CVE-2025-52881). So /proc is opened once, before the join, and checked to be the root of a procfs;
//! everything else is opened below it with openat2(2), which follows no link and crosses no mount.
//!
//! Below /proc/sys, `net` is looked up in the network namespace of the calling thread (`net_ctl_header_lookup`,
//! net/sysctl_net.c), so the descriptor opened before setns(2) leads to the container's values after it.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use rustix::fs::{CWD, FsWord, Mode, OFlags, PROC_SUPER_MAGIC, RawDir, ResolveFlags, fstat, fstatfs, openat, openat2};
use rustix::io::pread;

use crate::error::{Cause, Failure};
use crate::net::Family;
use crate::sysctl::devconf::{Conf, Devconf, Present, Snapshot, Source, is_carried};
use crate::sysctl::key::{MAX_SYSCTL_VALUE, word};

mod apply;

pub use apply::{Drift, Reading, Report, Written};

/// A verified /proc/sys.
#[derive(Debug)]
pub struct Procfs {
    /// `O_PATH`.
    sys: OwnedFd,
}

/// The inode of `proc_root` (fs/proc/root.c).
const PROC_ROOT_INO: u64 = 1;

const OPENING: &str = "open /proc/sys";
const READING_HOST: &str = "read the host's sysctls";

/// No link, no mount, nothing above the starting point.
const STRICT: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_XDEV)
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// Longer than any value that can have been written, with its newline. A value that fills it was cut off, and is an
/// error instead.
const BUFFER: usize = MAX_SYSCTL_VALUE + 2;

/// nix prints an error by its name; rustix prints the text of strerror(3).
fn named(errno: rustix::io::Errno) -> Errno {
    Errno::from_raw(errno.raw_os_error())
}

fn procfs(path: &str, errno: Errno) -> Cause {
    Cause::Procfs(match errno {
        Errno::ENOSYS => "this kernel has no openat2 (ENOSYS); Linux 5.6 is the first that has".to_owned(),
        Errno::EXDEV => format!("something is mounted over {path} (EXDEV)"),
        Errno::ELOOP => format!("{path} is reached through a symbolic link (ELOOP)"),
        errno => format!("{path}: {errno:?}"),
    })
}

impl Procfs {
    /// Opens and checks /proc/sys. To be called before the container's namespace is joined.
    ///
    /// /proc/sys may be a mount of itself, which is how engines and systemd make it read-only for those inside; any
    /// other mount there, or below, is refused. There is no way round openat2(2): a kernel without it is refused too.
    pub fn open() -> Result<Procfs, Failure> {
        open().map(|sys| Procfs { sys }).map_err(|cause| Failure::new(OPENING, cause))
    }

    /// `net.core.devconf_inherit_init_net`, which only the initial network namespace has.
    pub fn knob(&self) -> Result<Option<u8>, Failure> {
        let path = "net/core/devconf_inherit_init_net";
        let value = self.value(path).map_err(|errno| self.unread(READING_HOST, path, errno))?;
        Ok(value.and_then(|text| text.parse().ok()))
    }

    /// What `mode` needs to know of this host: of the namespace this thread is in before it joins any other.
    pub fn source(&self, mode: Devconf) -> Result<Source, Failure> {
        match mode {
            Devconf::Leave => Ok(Source::Leave),
            Devconf::Host => Ok(Source::Host(Snapshot { ipv4: self.conf(Family::V4)?, ipv6: self.conf(Family::V6)? })),
            Devconf::KernelDefaults => Ok(Source::KernelDefaults(Present {
                ipv4: self.leaves(Family::V4)?.into_iter().collect(),
                ipv6: self.leaves(Family::V6)?.into_iter().collect(),
                boot_disable_ipv6: boot("disable_ipv6"),
                boot_autoconf: boot("autoconf"),
            })),
        }
    }

    fn open_at(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        openat2(&self.sys, path, flags | OFlags::CLOEXEC, Mode::empty(), STRICT).map_err(named)
    }

    fn walk(&self) -> Walk<'_> {
        Walk { procfs: self, folder: String::new(), opened: None }
    }

    fn value(&self, path: &str) -> Result<Option<String>, Errno> {
        self.walk().value(path)
    }

    fn unread(&self, doing: &str, path: &str, errno: Errno) -> Failure {
        Failure::new(doing, procfs(&format!("/proc/sys/{path}"), errno))
    }

    /// The files of `conf/default`; none on a kernel without the family.
    fn leaves(&self, family: Family) -> Result<Vec<String>, Failure> {
        self.list(&format!("net/{}/conf/default", word(family)), READING_HOST)
    }

    fn conf(&self, family: Family) -> Result<Conf, Failure> {
        let mut conf = Conf::default();
        let mut leaves = self.leaves(family)?;
        leaves.retain(|leaf| is_carried(family, leaf));
        let mut walk = self.walk();
        for (folder, values) in [("all", &mut conf.all), ("default", &mut conf.default)] {
            for leaf in &leaves {
                let path = format!("net/{}/conf/{folder}/{leaf}", word(family));
                let value = walk.value(&path).map_err(|errno| self.unread(READING_HOST, &path, errno))?;
                values.extend(value.map(|value| (leaf.clone(), value)));
            }
        }
        Ok(conf)
    }

    /// The names in a folder; none where it does not exist.
    fn list(&self, path: &str, doing: &str) -> Result<Vec<String>, Failure> {
        let failed = |errno| self.unread(doing, path, errno);
        let folder = match self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(folder) => folder,
            Err(Errno::ENOENT) => return Ok(Vec::new()),
            Err(errno) => return Err(failed(errno)),
        };
        let mut names = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut entries = RawDir::new(&folder, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|errno| failed(named(errno)))?;
            match entry.file_name().to_str() {
                Ok("." | "..") => {}
                Ok(name) => names.push(name.to_owned()),
                Err(_) => {
                    let problem = format!("/proc/sys/{path} holds a name that is not UTF-8: {:?}", entry.file_name());
                    return Err(Failure::new(doing, Cause::Procfs(problem)));
                }
            }
        }
        Ok(names)
    }
}

/// One file after another. Where two in a row are in one folder, the folder is opened: to walk to it from /proc/sys
/// each time costs 5.0 µs a file, from there 3.6.
///
/// A folder below `net` belongs to the namespace in which it was opened, so a walk must not outlive a join.
struct Walk<'a> {
    procfs: &'a Procfs,
    /// Of the last file.
    folder: String,
    opened: Option<OwnedFd>,
}

impl Walk<'_> {
    fn open(&mut self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let Some((folder, leaf)) = path.rsplit_once('/') else { return self.procfs.open_at(path, flags) };
        if folder != self.folder {
            folder.clone_into(&mut self.folder);
            self.opened = None;
            return self.procfs.open_at(path, flags);
        }
        let folder = match self.opened.take() {
            Some(folder) => folder,
            None => self.procfs.open_at(folder, OFlags::PATH | OFlags::DIRECTORY)?,
        };
        let folder = self.opened.insert(folder);
        openat2(folder, leaf, flags | OFlags::CLOEXEC, Mode::empty(), STRICT).map_err(named)
    }

    /// `None` where there is no such file.
    fn value(&mut self, path: &str) -> Result<Option<String>, Errno> {
        match self.open(path, OFlags::RDONLY) {
            Ok(file) => contents(&file).map(Some),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}

/// From the start, without the newline. A `stable_secret` that was never set reads as `EIO`: no value.
fn contents(file: &OwnedFd) -> Result<String, Errno> {
    let mut buffer = [0; BUFFER];
    match pread(file, &mut buffer, 0).map_err(named) {
        Ok(read) if read == BUFFER => Err(Errno::EOVERFLOW),
        Ok(read) => Ok(String::from_utf8_lossy(&buffer[..read]).trim_end().to_owned()),
        Err(Errno::EIO) => Ok(String::new()),
        Err(errno) => Err(errno),
    }
}

/// A parameter the ipv6 module was loaded with.
fn boot(name: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/sys/module/ipv6/parameters/{name}")).ok()?;
    Some(text.trim_end().to_owned())
}

fn open() -> Result<OwnedFd, Cause> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let at = |path: &'static str| move |errno| procfs(path, named(errno));
    let proc = openat(CWD, "/proc", flags | OFlags::NOFOLLOW, Mode::empty()).map_err(at("/proc"))?;
    let dev = check_is_procfs(&proc, "/proc", PROC_ROOT_INO)?;
    match openat2(&proc, "sys", flags, Mode::empty(), STRICT) {
        Ok(sys) => Ok(sys),
        Err(rustix::io::Errno::XDEV) => {
            let across = STRICT.difference(ResolveFlags::NO_XDEV);
            let sys = openat2(&proc, "sys", flags, Mode::empty(), across).map_err(at("/proc/sys"))?;
            let hidden = inode_below_mount(&proc, "sys").map_err(at("/proc"))?;
            let over = || Cause::Procfs("something else is mounted over /proc/sys".to_owned());
            let hidden = hidden.ok_or_else(over)?;
            if check_is_procfs(&sys, "/proc/sys", hidden).map_err(|_| over())? != dev {
                return Err(over());
            }
            Ok(sys)
        }
        Err(errno) => Err(at("/proc/sys")(errno)),
    }
}

/// Checks file system and inode, and yields the device.
fn check_is_procfs(dir: &OwnedFd, path: &'static str, inode: u64) -> Result<u64, Cause> {
    let failed = |errno| procfs(path, named(errno));
    let kind: FsWord = fstatfs(dir).map_err(failed)?.f_type;
    if kind != PROC_SUPER_MAGIC {
        return Err(Cause::Procfs(format!("{path} is not a procfs (its file system is {kind:#x})")));
    }
    let stat = fstat(dir).map_err(failed)?;
    if stat.st_ino != inode {
        return Err(Cause::Procfs(format!("{path} is another part of a procfs (inode {})", stat.st_ino)));
    }
    Ok(stat.st_dev)
}

/// The inode of `name` itself, whatever is mounted over it: getdents(2) does not look at mounts.
fn inode_below_mount(dir: &OwnedFd, name: &str) -> rustix::io::Result<Option<u64>> {
    let dir = openat(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(&dir, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if entry.file_name().to_bytes() == name.as_bytes() {
            return Ok(Some(entry.ino()));
        }
    }
    Ok(None)
}
