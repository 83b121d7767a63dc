//! The way into the container's network namespace, past the host's.
//!
//! Supported are a hook that is root on the host, whatever user namespaces the container has, and a hook that is root
//! of a user namespace which owns the container's network namespace, itself or through a child (rootless podman).
//! setns with `CLONE_NEWNET` alone suffices for both; the user namespace is never joined, because that would put this
//! process in reach of the container (CVE-2016-9962). See [`crate::kernel::capability`] for what is not supported.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use caps::Capability;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, stat};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};
use nix::unistd::{getpid, gettid};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::error::{Cause, Failure};
use crate::kernel::capability;

mod visit;

pub use visit::{Place, cookie, visit};

/// Where a container's network namespace is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// That of a process, by the pid in the state.
    Process(i32),
    /// That behind a path, as config.json names it.
    Path(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Process(pid) => write!(f, "the network namespace of process {pid}"),
            Target::Path(path) => write!(f, "the network namespace {}", shown(path)),
        }
    }
}

/// What tells one network namespace from another while both exist.
///
/// Inode numbers are used again once a namespace is gone: never keep one as a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespaceId {
    /// `st_dev`: the nsfs mount.
    pub dev: u64,
    /// `st_ino`: the number in `net:[...]`.
    pub ino: u64,
}

impl NamespaceId {
    fn of(stat: &FileStat) -> NamespaceId {
        NamespaceId { dev: stat.st_dev, ino: stat.st_ino }
    }
}

impl fmt::Display for NamespaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net:[{}]", self.ino)
    }
}

/// The namespaces that must never be touched: this thread's own, as it was before joining, and that of pid 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own {
    thread: NamespaceId,
    /// `None` where it may not be looked at. In a nested runtime pid 1 is the outer container's, so our own is the
    /// comparison that counts.
    init: Option<NamespaceId>,
}

impl Own {
    /// Reads both. To be called before joining anything.
    pub fn read() -> Result<Own, Failure> {
        let thread = own_id().map_err(|cause| Failure::new("tell this process's own network namespace", cause))?;
        let init = stat("/proc/1/ns/net").ok().map(|stat| NamespaceId::of(&stat));
        Ok(Own { thread, init })
    }

    /// Whether a namespace is one of these.
    pub(crate) fn is(&self, netns: NamespaceId) -> bool {
        netns == self.thread || self.init == Some(netns)
    }

    /// Refuses a thread that has joined another namespace since: a socket it opens would be that one's.
    pub(crate) fn still_here(&self) -> Result<(), Failure> {
        const DOING: &str = "open a socket of the host's";
        let id = own_id().map_err(|cause| Failure::new(DOING, cause))?;
        if id == self.thread {
            return Ok(());
        }
        Err(Failure::new(DOING, Cause::Internal(format!("this thread is in {id}, and the host's is {}", self.thread))))
    }

    /// Refuses what is not a container's. `moment` says when the comparison was made.
    fn refuse(&self, id: NamespaceId, moment: &str) -> Result<(), Cause> {
        if id == self.thread {
            return Err(Cause::HostNamespace(format!("{id} is the namespace this hook itself runs in{moment}")));
        }
        if Some(id) == self.init {
            return Err(Cause::HostNamespace(format!("{id} is the namespace of pid 1, the host's{moment}")));
        }
        Ok(())
    }
}

fn own_id() -> Result<NamespaceId, Cause> {
    // The same file for the first thread of a process, found with two directories less: 10 µs less in a fresh process.
    let own = if gettid() == getpid() { "/proc/self/ns/net" } else { "/proc/thread-self/ns/net" };
    match stat(own) {
        Ok(stat) => Ok(NamespaceId::of(&stat)),
        Err(errno) => Err(Cause::Procfs(format!("{own}: {errno:?}"))),
    }
}

thread_local! {
    /// Whether this thread has an [`Inside`]: with two, one of them would lie.
    static HELD: Cell<bool> = const { Cell::new(false) };
}

/// Proof that this thread is in a container's network namespace and not in the host's: the key to every function that
/// changes something.
///
/// setns moves a thread, not a process, so an `Inside` stays on its thread, and a thread has one at a time. Dropping it
/// does not lead back.
///
/// ```compile_fail,E0277
/// let inside = netlatch::kernel::netns::unshared().unwrap();
/// std::thread::spawn(move || println!("{}", inside.target()));
/// ```
///
/// ```compile_fail,E0277
/// let inside = netlatch::kernel::netns::unshared().unwrap();
/// std::thread::scope(|scope| scope.spawn(|| println!("{}", inside.target())));
/// ```
///
/// ```compile_fail,E0451
/// let id = netlatch::kernel::netns::NamespaceId { dev: 0, ino: 0 };
/// let on_this_thread = std::marker::PhantomData;
/// let inside = netlatch::kernel::netns::Inside { id, target: String::new(), on_this_thread };
/// ```
#[derive(Debug)]
pub struct Inside {
    id: NamespaceId,
    target: String,
    on_this_thread: PhantomData<*const ()>,
}

impl Inside {
    /// The namespace's identity.
    pub fn id(&self) -> NamespaceId {
        self.id
    }

    /// The namespace in words, for messages: "the network namespace of process 42".
    pub fn target(&self) -> &str {
        &self.target
    }

    fn new(id: NamespaceId, target: String) -> Inside {
        HELD.set(true);
        Inside { id, target, on_this_thread: PhantomData }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        HELD.set(false);
    }
}

/// Makes a fresh network namespace of its own on this thread and yields the key to it.
///
/// Nothing in it reaches anything: `lo` is down and there is no other link. It ends with the thread and its sockets.
pub fn unshared() -> Result<Inside, Failure> {
    const DOING: &str = "make a network namespace";
    let failed = |cause| Failure::new(DOING, cause);
    not_twice(DOING)?;
    let before = own_id().map_err(failed)?;
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| failed(refused("unshare", errno)))?;
    let id = own_id().map_err(failed)?;
    if id == before {
        return Err(failed(Cause::Internal("unshare reported success and the namespace is the same".into())));
    }
    Ok(Inside::new(id, "a network namespace of our own".into()))
}

/// Joins `target` with this thread, unless it is `own`.
///
/// The comparison is made before the join where the namespace can be looked at, so that the host's is not even entered,
/// and once more after it, which cannot be raced. After an error this thread may be in either namespace: end it.
///
/// # Errors
///
/// [`Cause::PidZero`], [`Cause::PidOne`], [`Cause::State`] for pids that name no process; [`Cause::ProcessGone`] for
/// dead ones and zombies; [`Cause::HostNamespace`]; [`Cause::NotANamespace`] for paths; [`Cause::CapabilityMissing`]
/// or [`Cause::Join`] where the kernel refuses.
pub fn enter(target: &Target, own: &Own) -> Result<Inside, Failure> {
    let doing = || format!("join {target}");
    not_twice(&doing())?;
    let id = match target {
        Target::Process(pid) => enter_process(*pid, own),
        Target::Path(path) => enter_path(path, own),
    };
    match id {
        Ok(id) => Ok(Inside::new(id, target.to_string())),
        Err(cause) => Err(Failure::new(doing(), cause)),
    }
}

fn not_twice(doing: &str) -> Result<(), Failure> {
    if HELD.get() {
        let problem = "this thread still holds the key to another namespace";
        return Err(Failure::new(doing, Cause::Internal(problem.into())));
    }
    Ok(())
}

fn enter_process(pid: i32, own: &Own) -> Result<NamespaceId, Cause> {
    let process = match pid {
        0 => return Err(Cause::PidZero),
        1 => return Err(Cause::PidOne),
        // rustix asserts that a pid is not negative.
        2.. => Pid::from_raw(pid),
        i32::MIN..0 => None,
    };
    let Some(process) = process else {
        return Err(Cause::State(format!("pid {pid} names no process")));
    };
    let pidfd = match pidfd_open(process, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(error) => match Errno::from_raw(error.raw_os_error()) {
            Errno::ESRCH => return Err(Cause::ProcessGone(pid)),
            // A thread that does not lead its process: EINVAL before Linux 6.9, ENOENT since.
            Errno::EINVAL | Errno::ENOENT => {
                return Err(Cause::State(format!("pid {pid} is a thread and not a process")));
            }
            // Before Linux 5.3.
            Errno::ENOSYS => return enter_by_procfs(pid, own),
            errno => return Err(refused("pidfd_open", errno)),
        },
    };

    // A look ahead. Where it is not allowed or races with a change, the comparison below decides.
    if let Ok(stat) = stat(format!("/proc/{pid}/ns/net").as_str()) {
        own.refuse(NamespaceId::of(&stat), "; it was not joined")?;
    }
    match setns(&pidfd, CloneFlags::CLONE_NEWNET) {
        Ok(()) => {}
        // A zombie has no namespaces any more (`prepare_nsset`: no nsproxy).
        Err(Errno::ESRCH) => return Err(Cause::ProcessGone(pid)),
        // Before Linux 5.8 a pidfd is no namespace.
        Err(Errno::EINVAL) => return enter_by_procfs(pid, own),
        Err(errno) => return Err(refused("setns on the pidfd", errno)),
    }
    let id = own_id()?;
    own.refuse(id, "; it was joined, and nothing was changed there")?;
    if ended(&pidfd) {
        return Err(Cause::ProcessGone(pid));
    }
    Ok(id)
}

/// Whether the process behind a pidfd has ended: a pidfd becomes readable then.
fn ended(pidfd: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    // Fails closed: what cannot be asked counts as ended.
    !matches!(poll(&mut polled, PollTimeout::ZERO), Ok(0))
}

/// The way for kernels whose pidfds cannot be joined (before 5.8) or do not exist (before 5.3).
///
/// An open /proc/PID belongs to one process and never to a later one with its number: everything is looked up through
/// it, and that the process lives is read through it at the end.
fn enter_by_procfs(pid: i32, own: &Own) -> Result<NamespaceId, Cause> {
    let gone_or = |errno: Errno, call: &str| match errno {
        Errno::ENOENT | Errno::ESRCH => Cause::ProcessGone(pid),
        errno => refused(call, errno),
    };
    let directory = open(format!("/proc/{pid}").as_str(), OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| gone_or(errno, "opening its /proc directory"))?;
    let namespace = openat(&directory, "ns/net", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| gone_or(errno, "opening its ns/net"))?;
    let id = join_file(&namespace, &format!("/proc/{pid}/ns/net"), own)?;
    // A process that has ended, reaped or not, has no open namespace to show.
    openat(&directory, "ns/net", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| gone_or(errno, "opening its ns/net again"))?;
    Ok(id)
}

/// A path as it goes into a message, which is one line.
fn shown(path: &Path) -> String {
    path.to_string_lossy().escape_debug().to_string()
}

fn enter_path(path: &Path, own: &Own) -> Result<NamespaceId, Cause> {
    let shown = shown(path);
    if !path.is_absolute() {
        return Err(Cause::NotANamespace { path: shown, found: "the path is not absolute".into() });
    }
    // O_NONBLOCK: a FIFO or a device must not hold the hook up.
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    match open(path, flags, Mode::empty()) {
        Ok(file) => join_file(&file, &shown, own),
        Err(errno) => Err(Cause::NotANamespace { path: shown, found: format!("it cannot be opened ({errno:?})") }),
    }
}

/// Joins the namespace behind an open file. What is compared is what is joined, so one comparison, before, suffices.
fn join_file(file: &OwnedFd, path: &str, own: &Own) -> Result<NamespaceId, Cause> {
    let not_a_namespace = |found: &str| Cause::NotANamespace { path: path.into(), found: found.into() };
    let unreadable = |errno: Errno| Cause::Io { path: path.into(), errno };

    let stat = fstat(file).map_err(unreadable)?;
    if fstatfs(file).map_err(unreadable)?.filesystem_type() != NSFS_MAGIC {
        return Err(not_a_namespace(kind_of(&stat)));
    }
    let id = NamespaceId::of(&stat);
    own.refuse(id, "; it was not joined")?;
    match setns(file, CloneFlags::CLONE_NEWNET) {
        Ok(()) => Ok(id),
        Err(Errno::EINVAL) => Err(not_a_namespace("a namespace of another kind")),
        Err(errno) => Err(refused("setns", errno)),
    }
}

fn kind_of(stat: &FileStat) -> &'static str {
    match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFREG => "a regular file",
        SFlag::S_IFDIR => "a directory",
        SFlag::S_IFIFO => "a FIFO",
        SFlag::S_IFCHR | SFlag::S_IFBLK => "a device",
        _ => "a file of another kind",
    }
}

/// The kernel's refusal; EPERM is put down to the capability that is missing, where one is.
fn refused(call: &str, errno: Errno) -> Cause {
    if matches!(errno, Errno::EPERM | Errno::EACCES) {
        for capability in [Capability::CAP_SYS_ADMIN, Capability::CAP_SYS_PTRACE] {
            if capability::lacks(capability) {
                return Cause::CapabilityMissing(format!("{capability}, so {call} was refused with {errno:?}"));
            }
        }
    }
    Cause::Join { target: call.into(), errno }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};
    use std::thread;
    use std::time::Duration;

    /// A process in a network namespace of its own, seen to be there.
    fn sleeper() -> Child {
        let child = Command::new("unshare").args(["-n", "sleep", "60"]).stdin(Stdio::null()).spawn().expect("unshare");
        let comm = format!("/proc/{}/comm", child.id());
        while std::fs::read_to_string(&comm).unwrap() != "sleep\n" {
            thread::sleep(Duration::from_millis(2));
        }
        child
    }

    fn end(mut child: Child) {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn on_a_thread(test: impl FnOnce() + Send + 'static) {
        thread::spawn(test).join().unwrap();
    }

    #[test]
    fn without_pidfds_a_process_is_joined_through_procfs() {
        on_a_thread(|| {
            let child = sleeper();
            let pid = child.id() as i32;
            let id = enter_by_procfs(pid, &Own::read().unwrap()).unwrap();
            assert_eq!(id, NamespaceId::of(&stat(format!("/proc/{pid}/ns/net").as_str()).unwrap()));
            assert_eq!(id, own_id().unwrap());
            end(child);
        });
    }

    #[test]
    fn without_pidfds_dead_processes_and_zombies_are_gone_and_our_own_namespace_is_refused() {
        on_a_thread(|| {
            let own = Own::read().unwrap();
            let mut child = sleeper();
            let pid = child.id() as i32;
            child.kill().unwrap();
            let mut killed = String::new();
            while !killed.contains(") Z ") {
                killed = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            }
            assert_eq!(enter_by_procfs(pid, &own), Err(Cause::ProcessGone(pid)), "a zombie");
            child.wait().unwrap();
            assert_eq!(enter_by_procfs(pid, &own), Err(Cause::ProcessGone(pid)), "reaped");
            let here = std::process::id() as i32;
            assert!(matches!(enter_by_procfs(here, &own), Err(Cause::HostNamespace(_))));
        });
    }

    #[test]
    fn a_pidfd_tells_the_living_from_the_dead() {
        let child = sleeper();
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        assert!(!ended(&pidfd));
        end(child);
        assert!(ended(&pidfd));
    }
}
