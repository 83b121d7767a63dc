//! What is done with /proc/sys/net inside the container's namespace.

use std::fmt;

use nix::errno::Errno;
use rustix::fs::OFlags;
use rustix::io::pwrite;

use super::{Procfs, Walk, contents, named, procfs};
use crate::error::{Cause, Failure};
use crate::kernel::checkpoint;
use crate::kernel::netns::Inside;
use crate::net::{Family, Origin};
use crate::sysctl::ipv6::{DISABLE_IPV6, Write};
use crate::sysctl::key::{Key, Setting, is_interface_name, same_value, word};

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

/// One file of a plan as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Which.
    pub key: Key,
    /// The value asked for.
    pub wanted: String,
    /// What it holds; `None` where there is no such file.
    pub found: Option<String>,
    /// Whether that is as asked.
    pub ok: bool,
    /// Where it was asked for.
    pub origin: Origin,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self.found.as_deref().unwrap_or("not there");
        write!(f, "{} is {found}, not {} ({})", self.key, self.wanted, self.origin)
    }
}

const READING: &str = "read the container's sysctls";
const WRITING: &str = "set the container's sysctls";

impl Procfs {
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
        self.bring_about(&mut self.walk(), setting)
    }

    fn bring_about(&self, walk: &mut Walk<'_>, setting: &Setting) -> Result<Written, Failure> {
        match self.put(walk, &setting.key, &setting.value) {
            Ok(Some(written)) => Ok(written),
            Ok(None) => Err(refused(setting, self.absence(&setting.key))),
            Err(Stop::Procfs(cause)) => Err(Failure::new(WRITING, cause)),
            Err(Stop::Sysctl(problem)) => Err(refused(setting, problem)),
        }
    }

    /// Writes a plan in its order and stops at the first that fails.
    pub fn apply(&self, inside: &Inside, writes: &[Write]) -> Result<Vec<Report>, Failure> {
        let mut walk = self.walk();
        let mut interfaces = Interfaces::default();
        let mut reports = Vec::with_capacity(writes.len());
        for write in writes {
            match write {
                Write::One(setting) => {
                    let written = self.bring_about(&mut walk, setting)?;
                    reports.push(Report { key: setting.key.clone(), value: setting.value.clone(), written });
                }
                Write::EachInterface { family, leaf, value, origin } => {
                    for interface in interfaces.of(self, inside, *family)? {
                        let key = Key::of_conf(*family, interface, leaf);
                        let setting = Setting { key, value: value.clone(), origin: origin.clone() };
                        match self.bring_about(&mut walk, &setting) {
                            Ok(written) => reports.push(Report { key: setting.key, value: setting.value, written }),
                            Err(_) if self.lacks_interface(*family, interface) => {}
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
        let differing = self.readings(inside, writes)?.into_iter().filter(|reading| !reading.ok);
        Ok(differing
            .map(|Reading { key, wanted, found, ok: _, origin }| Drift { key, wanted, found, origin })
            .collect())
    }

    /// Reads everything a plan sets, on the interfaces there are now, in the plan's order.
    pub fn readings(&self, inside: &Inside, writes: &[Write]) -> Result<Vec<Reading>, Failure> {
        let mut walk = self.walk();
        let mut interfaces = Interfaces::default();
        let mut readings = Vec::new();
        for write in writes {
            match write {
                Write::One(setting) => readings.push(self.reading(&mut walk, &setting.key, &setting.value, write)?),
                Write::EachInterface { family, leaf, value, origin: _ } => {
                    for interface in interfaces.of(self, inside, *family)? {
                        let reading = self.reading(&mut walk, &Key::of_conf(*family, interface, leaf), value, write)?;
                        let gone = !reading.ok && self.lacks_interface(*family, interface);
                        readings.extend((!gone).then_some(reading));
                    }
                }
            }
        }
        Ok(readings)
    }

    fn reading(&self, walk: &mut Walk<'_>, key: &Key, wanted: &str, write: &Write) -> Result<Reading, Failure> {
        let found = walk.value(key.path()).map_err(|errno| self.unread(READING, key.path(), errno))?;
        let ok = match &found {
            Some(found) => same_value(found, wanted),
            None => self.is_off_without_a_file(key, wanted),
        };
        let (wanted, origin) = (wanted.to_owned(), write.origin().clone());
        Ok(Reading { key: key.clone(), wanted, found, ok, origin })
    }

    /// [`Procfs::write`] without words; `None` where there is no such file.
    fn put(&self, walk: &mut Walk<'_>, key: &Key, wanted: &str) -> Result<Option<Written>, Stop> {
        let path = key.path();
        let file = match walk.open(path, OFlags::RDWR) {
            Ok(file) => file,
            Err(Errno::ENOENT | Errno::ENOTDIR) => {
                return Ok(self.is_off_without_a_file(key, wanted).then_some(Written::NoIpv6));
            }
            Err(errno @ (Errno::EROFS | Errno::EACCES | Errno::EPERM)) => {
                return match walk.value(path) {
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
        checkpoint::reach("sysctl").map_err(|errno| Stop::Sysctl(format!("it was kept from being set ({errno:?})")))?;
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
            Some((family, interface, _)) if self.has_family(family) && self.lacks_interface(family, interface) => {
                format!("there is no interface {interface} (ENOENT)")
            }
            _ => "this kernel has no such key in a container's namespace (ENOENT)".to_owned(),
        }
    }

    fn has_family(&self, family: Family) -> bool {
        self.open_at(&format!("net/{}/conf", word(family)), OFlags::PATH).is_ok()
    }

    /// Only where the kernel says so: a folder that cannot be opened for another reason is not one that is gone.
    fn lacks_interface(&self, family: Family, interface: &str) -> bool {
        let path = format!("net/{}/conf/{interface}", word(family));
        matches!(self.open_at(&path, OFlags::PATH), Err(Errno::ENOENT))
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, Mode, OFlags, openat};

    use super::*;
    use crate::kernel::netns::unshared;
    use crate::sysctl::devconf;
    use crate::sysctl::devconf::{Conf, Devconf, Source};
    use crate::sysctl::ipv6::{Ipv6, steps};

    /// A folder in place of /proc/sys, for kernels that are not the one at hand.
    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Procfs) {
        let dir = tempfile::tempdir().unwrap();
        for (path, value) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, value).unwrap();
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let sys = openat(CWD, dir.path(), flags, Mode::empty()).unwrap();
        (dir, Procfs { sys })
    }

    fn setting(name: &str, value: &str) -> Setting {
        Setting::new(Key::parse(name).unwrap(), value, Origin::Builtin("test")).unwrap()
    }

    /// Runs `test` on a thread of its own: an `Inside` is for one.
    fn inside(test: impl FnOnce(&Inside) + Send) {
        std::thread::scope(|scope| {
            scope.spawn(|| test(&unshared().unwrap())).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
    }

    #[test]
    fn a_kernel_without_ipv6_has_it_off_already() {
        let (_dir, procfs) =
            tree(&[("net/ipv4/conf/all/forwarding", "0\n"), ("net/ipv4/conf/default/forwarding", "0\n")]);
        inside(|inside| {
            let plan = steps(Ipv6::Disable, &Origin::Builtin("test"));
            let reports = procfs.apply(inside, &plan).unwrap();
            assert!(reports.iter().all(|report| report.written == Written::NoIpv6), "{reports:?}");
            assert_eq!(reports.len(), 3);
            assert_eq!(procfs.verify(inside, &plan), Ok(vec![]));
            let enable = steps(Ipv6::Enable, &Origin::Builtin("test"));
            let text = procfs.apply(inside, &enable).unwrap_err().to_string();
            assert!(text.contains("this kernel has no such key"), "{text}");
            assert_eq!(procfs.verify(inside, &enable).unwrap().len(), 3);
            let loopback = steps(Ipv6::LoopbackOnly, &Origin::Builtin("test"));
            assert!(procfs.apply(inside, &loopback).is_err());
            let Ok(Source::Host(snapshot)) = procfs.source(Devconf::Host) else { panic!() };
            assert_eq!(snapshot.ipv6, Conf::default());
            let writes = devconf::writes(&Source::Host(snapshot), Ipv6::Leave, &Origin::Builtin("test"));
            assert_eq!(writes.writes.len(), 4);
        });
    }

    #[test]
    fn a_missing_interface_is_not_a_kernel_without_ipv6() {
        let (_dir, procfs) = tree(&[("net/ipv6/conf/lo/disable_ipv6", "0\n")]);
        inside(|inside| {
            let text = procfs.write(inside, &setting("net.ipv6.conf.eth0.disable_ipv6", "1")).unwrap_err().to_string();
            assert!(text.contains("there is no interface eth0 (ENOENT)"), "{text}");
        });
    }

    #[test]
    fn no_link_is_followed() {
        let (dir, procfs) = tree(&[("kernel/panic", "0\n"), ("net/ipv4/x", "0\n")]);
        symlink("../../kernel/panic", dir.path().join("net/ipv4/ip_forward")).unwrap();
        symlink("ipv4", dir.path().join("net/ipv9")).unwrap();
        inside(|inside| {
            for name in ["net.ipv4.ip_forward", "net.ipv9.x"] {
                let failure = procfs.write(inside, &setting(name, "1")).unwrap_err();
                assert_eq!(failure.exit_code(), 30, "{failure}");
                assert!(failure.to_string().contains("symbolic link (ELOOP)"), "{failure}");
            }
        });
        assert_eq!(fs::read_to_string(dir.path().join("kernel/panic")).unwrap(), "0\n");
    }

    #[test]
    fn an_interface_that_cannot_be_opened_is_not_one_that_is_gone() {
        let (dir, procfs) =
            tree(&[("net/ipv6/conf/lo/disable_ipv6", "0\n"), ("net/ipv6/conf/all/disable_ipv6", "0\n")]);
        fs::create_dir_all(dir.path().join("net/ipv6/conf/default")).unwrap();
        fs::write(dir.path().join("net/ipv6/conf/default/disable_ipv6"), "0\n").unwrap();
        symlink("lo", dir.path().join("net/ipv6/conf/eth0")).unwrap();
        inside(|inside| {
            let plan = steps(Ipv6::Disable, &Origin::Builtin("test"));
            assert_eq!(procfs.apply(inside, &plan).unwrap_err().exit_code(), 30);
            assert_eq!(procfs.verify(inside, &plan).unwrap_err().exit_code(), 30);
        });
    }

    #[test]
    fn an_equal_value_is_not_written() {
        // A write would leave no newline: nothing else tells the two apart in a plain file.
        let (dir, procfs) = tree(&[("net/ipv4/ip_forward", "1\n")]);
        inside(|inside| {
            assert_eq!(procfs.write(inside, &setting("net.ipv4.ip_forward", "0x1")), Ok(Written::Already));
            assert_eq!(fs::read_to_string(dir.path().join("net/ipv4/ip_forward")).unwrap(), "1\n");
            assert!(matches!(procfs.write(inside, &setting("net.ipv4.ip_forward", "0")), Ok(Written::Changed { .. })));
        });
    }

    #[test]
    fn an_interface_that_cannot_be_one_is_refused() {
        let (_dir, procfs) = tree(&[("net/ipv4/conf/fifteen-bytes.x/rp_filter", "0\n")]);
        inside(|inside| {
            assert_eq!(procfs.interfaces(inside, Family::V4).map(|names| names.len()), Ok(1));
        });
        let (_dir, procfs) = tree(&[("net/ipv4/conf/a b/rp_filter", "0\n")]);
        inside(|inside| {
            assert_eq!(procfs.interfaces(inside, Family::V4).unwrap_err().exit_code(), 30);
            assert_eq!(procfs.interfaces(inside, Family::V6), Ok(vec![]));
        });
    }
}
