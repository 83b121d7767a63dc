//! Reading and writing /proc/sys/net, and only there.
//!
//! A privileged process that writes where a container can arrange the file tree is an old hole (CVE-2019-16884,
//! CVE-2019-19921, CVE-2025-52881). So /proc is opened once, before the join, and checked to be the root of a procfs;
//! everything else is opened below it with openat2(2), which follows no link and crosses no mount.
//!
//! Below /proc/sys, `net` is looked up in the network namespace of the calling thread (`net_ctl_header_lookup`,
//! net/sysctl_net.c), so the descriptor opened before setns(2) leads to the container's values after it.

use std::fmt;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use rustix::fs::{CWD, FsWord, Mode, OFlags, PROC_SUPER_MAGIC, RawDir, ResolveFlags, fstat, fstatfs, openat, openat2};
use rustix::io::{pread, pwrite};

use crate::error::{Cause, Failure};
use crate::kernel::netns::Inside;
use crate::net::{Family, Origin};
use crate::sysctl::devconf::{Conf, Devconf, Present, Snapshot, Source, is_carried};
use crate::sysctl::ipv6::{DISABLE_IPV6, Write};
use crate::sysctl::key::{Key, MAX_VALUE, Setting, is_interface_name, same_value, word};

/// A verified /proc/sys.
#[derive(Debug)]
pub struct Procfs {
    /// `O_PATH`.
    sys: OwnedFd,
}

/// What [`Procfs::write`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// The value was there; nothing was written.
    Already,
    /// It was another one, and now reads as asked.
    Changed {
        /// What it was.
        from: String,
    },
    /// `disable_ipv6` = 1 on a kernel without IPv6 (`ipv6.disable=1`): as asked, with no file to say so.
    NoIpv6,
}

/// One file of a plan and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which.
    pub key: Key,
    /// The value it holds now.
    pub value: String,
    /// What it took.
    pub written: Written,
}

/// A file that does not hold what the plan says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// Which.
    pub key: Key,
    /// The value asked for.
    pub wanted: String,
    /// What it holds; `None` where there is no such file.
    pub found: Option<String>,
    /// Where it was asked for.
    pub origin: Origin,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self.found.as_deref().unwrap_or("not there");
        write!(f, "{} is {found}, not {} ({})", self.key, self.wanted, self.origin)
    }
}

/// fs/proc/root.c: `PROC_ROOT_INO`.
const PROC_ROOT_INO: u64 = 1;

const OPENING: &str = "open /proc/sys";
const READING: &str = "read the container's sysctls";
const READING_HOST: &str = "read the host's sysctls";
const WRITING: &str = "set the container's sysctls";

/// No link, no mount, nothing above the starting point.
const STRICT: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_XDEV)
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// Longer than any value: the kernel prints at most a page of one (`proc_dostring`, `proc_do_large_bitmap` take the
/// reader's buffer as their limit), and [`MAX_VALUE`] is what can be written.
const BUFFER: usize = MAX_VALUE + 2;

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

    /// A value of the namespace this thread is in before it joins any other.
    pub fn read_host(&self, key: &Key) -> Result<Option<String>, Failure> {
        self.value(key.path()).map_err(|errno| self.unread(READING_HOST, key.path(), errno))
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

    /// The names below `conf` but `all` and `default`: every interface, `lo` too, of the container's namespace. Empty
    /// on a kernel without the family.
    pub fn interfaces(&self, _: &Inside, family: Family) -> Result<Vec<String>, Failure> {
        let path = format!("net/{}/conf", word(family));
        let mut names = self.list(&path, READING)?;
        names.retain(|name| name != "all" && name != "default");
        match names.iter().find(|name| !is_interface_name(name)) {
            None => Ok(names),
            Some(name) => {
                let problem = format!("{name:?} below /proc/sys/{path} is not an interface name");
                Err(Failure::new(READING, Cause::Procfs(problem)))
            }
        }
    }

    /// A value of the container's; `None` where this kernel has no such key.
    pub fn read(&self, _: &Inside, key: &Key) -> Result<Option<String>, Failure> {
        self.value(key.path()).map_err(|errno| self.unread(READING, key.path(), errno))
    }

    /// Brings a value about: reads, writes only what differs, reads back.
    ///
    /// A read-only /proc/sys that holds the value already is no failure (moby#47751, netavark#825).
    pub fn write(&self, _: &Inside, setting: &Setting) -> Result<Written, Failure> {
        match self.put(&setting.key, &setting.value) {
            Ok(Some(written)) => Ok(written),
            Ok(None) => Err(refused(setting, self.absence(&setting.key))),
            Err(Stop::Procfs(cause)) => Err(Failure::new(WRITING, cause)),
            Err(Stop::Sysctl(problem)) => Err(refused(setting, problem)),
        }
    }

    /// Writes a plan in its order and stops at the first that fails.
    pub fn apply(&self, inside: &Inside, writes: &[Write]) -> Result<Vec<Report>, Failure> {
        let mut interfaces = Interfaces::default();
        let mut reports = Vec::with_capacity(writes.len());
        for write in writes {
            match write {
                Write::One(setting) => {
                    let written = self.write(inside, setting)?;
                    reports.push(Report { key: setting.key.clone(), value: setting.value.clone(), written });
                }
                Write::EachInterface { family, leaf, value, origin } => {
                    for interface in interfaces.of(self, inside, *family)? {
                        let key = Key::of_conf(*family, interface, leaf);
                        let setting = Setting { key, value: value.clone(), origin: origin.clone() };
                        match self.write(inside, &setting) {
                            Ok(written) => reports.push(Report { key: setting.key, value: setting.value, written }),
                            Err(_) if !self.has_interface(*family, interface) => {}
                            Err(failure) => return Err(failure),
                        }
                    }
                }
            }
        }
        Ok(reports)
    }

    /// Reads everything a plan sets, on the interfaces there are now, and returns what differs.
    pub fn verify(&self, inside: &Inside, writes: &[Write]) -> Result<Vec<Drift>, Failure> {
        let mut interfaces = Interfaces::default();
        let mut drifts = Vec::new();
        for write in writes {
            match write {
                Write::One(setting) => drifts.extend(self.drift(inside, &setting.key, &setting.value, write)?),
                Write::EachInterface { family, leaf, value, origin: _ } => {
                    for interface in interfaces.of(self, inside, *family)? {
                        let drift = self.drift(inside, &Key::of_conf(*family, interface, leaf), value, write)?;
                        drifts.extend(drift.filter(|_| self.has_interface(*family, interface)));
                    }
                }
            }
        }
        Ok(drifts)
    }

    fn drift(&self, inside: &Inside, key: &Key, wanted: &str, write: &Write) -> Result<Option<Drift>, Failure> {
        let found = self.read(inside, key)?;
        let good = match &found {
            Some(found) => same_value(found, wanted),
            None => self.is_off_without_a_file(key, wanted),
        };
        let drift = || Drift { key: key.clone(), wanted: wanted.to_owned(), found, origin: write.origin().clone() };
        Ok((!good).then(drift))
    }

    /// [`Procfs::write`] without words; `None` where there is no such file.
    fn put(&self, key: &Key, wanted: &str) -> Result<Option<Written>, Stop> {
        let path = key.path();
        let file = match self.open_at(path, OFlags::RDWR) {
            Ok(file) => file,
            Err(Errno::ENOENT | Errno::ENOTDIR) => {
                return Ok(self.is_off_without_a_file(key, wanted).then_some(Written::NoIpv6));
            }
            Err(errno @ (Errno::EROFS | Errno::EACCES | Errno::EPERM)) => {
                return match self.value(path) {
                    Ok(Some(now)) if same_value(&now, wanted) => Ok(Some(Written::Already)),
                    Ok(Some(now)) => Err(Stop::Sysctl(format!("it is {now} and {}", unwritable(errno)))),
                    Ok(None) => Ok(None),
                    Err(_) => Err(Stop::Sysctl(unwritable(errno))),
                };
            }
            Err(Errno::EISDIR) => return Err(Stop::Sysctl("it is a folder of sysctls, not one".to_owned())),
            Err(errno) => return Err(Stop::Procfs(procfs(&format!("/proc/sys/{path}"), errno))),
        };
        let unread = |errno| Stop::Sysctl(format!("it cannot be read ({errno:?})"));
        let from = contents(&file).map_err(unread)?;
        if same_value(&from, wanted) {
            return Ok(Some(Written::Already));
        }
        // At offset 0 and in one piece: sysctl files take nothing else (`sysctl_writes_strict`).
        match pwrite(&file, wanted.as_bytes(), 0).map_err(named) {
            Ok(taken) if taken == wanted.len() => {}
            Ok(taken) => return Err(Stop::Sysctl(format!("the kernel took {taken} bytes of {}", wanted.len()))),
            Err(errno @ (Errno::EINVAL | Errno::ERANGE)) => {
                return Err(Stop::Sysctl(format!("the kernel does not take this value ({errno:?})")));
            }
            Err(errno) => return Err(Stop::Sysctl(format!("it is {from} and {}", unwritable(errno)))),
        }
        let now = contents(&file).map_err(unread)?;
        if !same_value(&now, wanted) {
            return Err(Stop::Sysctl(format!("after the write it reads {now}")));
        }
        Ok(Some(Written::Changed { from }))
    }

    /// A kernel without IPv6 has no net/ipv6 at all, and IPv6 off.
    fn is_off_without_a_file(&self, key: &Key, wanted: &str) -> bool {
        matches!(key.as_conf(), Some((Family::V6, _, DISABLE_IPV6)))
            && same_value(wanted, "1")
            && matches!(self.open_at("net/ipv6/conf", OFlags::PATH), Err(Errno::ENOENT))
    }

    /// Why there is no such file, in words.
    fn absence(&self, key: &Key) -> String {
        match key.as_conf() {
            Some((family, interface, _)) if self.has_family(family) && !self.has_interface(family, interface) => {
                format!("there is no interface {interface} (ENOENT)")
            }
            _ => "this kernel has no such key in a container's namespace (ENOENT)".to_owned(),
        }
    }

    fn has_family(&self, family: Family) -> bool {
        self.open_at(&format!("net/{}/conf", word(family)), OFlags::PATH).is_ok()
    }

    fn has_interface(&self, family: Family, interface: &str) -> bool {
        self.open_at(&format!("net/{}/conf/{interface}", word(family)), OFlags::PATH).is_ok()
    }

    fn open_at(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        openat2(&self.sys, path, flags | OFlags::CLOEXEC, Mode::empty(), STRICT).map_err(named)
    }

    fn value(&self, path: &str) -> Result<Option<String>, Errno> {
        match self.open_at(path, OFlags::RDONLY) {
            Ok(file) => contents(&file).map(Some),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            Err(errno) => Err(errno),
        }
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
        for leaf in self.leaves(family)? {
            if !is_carried(family, &leaf) {
                continue;
            }
            for (folder, values) in [("all", &mut conf.all), ("default", &mut conf.default)] {
                let path = format!("net/{}/conf/{folder}/{leaf}", word(family));
                let value = self.value(&path).map_err(|errno| self.unread(READING_HOST, &path, errno))?;
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

/// What stopped a write.
enum Stop {
    /// /proc/sys is not what it was.
    Procfs(Cause),
    /// The file itself.
    Sysctl(String),
}

fn refused(setting: &Setting, problem: String) -> Failure {
    let value = format!("{} ({})", setting.value, setting.origin);
    Failure::new(WRITING, Cause::Sysctl { key: setting.key.to_string(), value, problem })
}

fn unwritable(errno: Errno) -> String {
    match errno {
        Errno::EROFS => "/proc/sys is read-only here (EROFS)".to_owned(),
        Errno::EACCES | Errno::EPERM => format!("this process may not write it ({errno:?})"),
        errno => format!("the write failed with {errno:?}"),
    }
}

/// The interfaces of a namespace but `lo`, asked for once a family.
#[derive(Default)]
struct Interfaces {
    ipv4: Option<Vec<String>>,
    ipv6: Option<Vec<String>>,
}

impl Interfaces {
    fn of(&mut self, procfs: &Procfs, inside: &Inside, family: Family) -> Result<&[String], Failure> {
        let known = match family {
            Family::V4 => &mut self.ipv4,
            Family::V6 => &mut self.ipv6,
        };
        if known.is_none() {
            let mut names = procfs.interfaces(inside, family)?;
            names.retain(|name| name != "lo");
            *known = Some(names);
        }
        Ok(known.as_deref().unwrap_or_default())
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
