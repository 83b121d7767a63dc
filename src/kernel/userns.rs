//! Whose user namespace a container's process is in.
//!
//! A veth names the host's network namespace to the one at its other end, and who holds CAP_NET_ADMIN over both makes links in both
//! (`rtnl_get_net_ns_capable`). config.json may name a user namespace that is the host's own, or a runtime may not make one. So
//! the process is asked. It is in one below the host's, or what it holds counts on the host.

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open};
use nix::sys::stat::{FileStat, Mode, fstatat, stat};

use crate::error::{Cause, Failure};
use crate::kernel::host_end::DOING;
use crate::kernel::netns::{NamespaceId, Own};

/// Proves that a process is in another user namespace than this one and that of pid 1, and returns the network namespace that it
/// is in. `own` says that this thread has not joined another: a user namespace's process may look at no other's.
///
/// # Errors
/// [`Cause::HostSide`] where it is not, where that cannot be told, and where there is no process.
pub fn apart(pid: Option<i32>, own: &Own) -> Result<NamespaceId, Failure> {
    own.still_here()?;
    let failed = |problem: String| Failure::new(DOING, Cause::HostSide(problem));
    let Some(pid) = pid else {
        return Err(failed("the state names no process whose user namespace could be told".to_owned()));
    };
    let said = look_at(pid).map_err(|errno| failed(untold(pid, errno)))?;
    if said.is_hosts { Err(failed(hosts(pid))) } else { Ok(said.netns) }
}

/// The same of a container that runs, whose first process may have ended: then others count, which began in its namespace.
///
/// This thread may be in any network namespace.
///
/// # Errors
/// As [`apart`].
pub fn is_apart_or_gone(pid: Option<i32>) -> Result<(), Failure> {
    let failed = |problem: String| Failure::new(DOING, Cause::HostSide(problem));
    match pid.map(|pid| (pid, look_at(pid))) {
        None | Some((_, Err(Errno::ENOENT | Errno::ESRCH))) => Ok(()),
        Some((pid, Err(errno))) => Err(failed(untold(pid, errno))),
        Some((pid, Ok(said))) if said.is_hosts => Err(failed(hosts(pid))),
        Some((_, Ok(_))) => Ok(()),
    }
}

fn untold(pid: i32, errno: Errno) -> String {
    format!("the user namespace of process {pid} cannot be told ({errno:?})")
}

fn hosts(pid: i32) -> String {
    format!(
        "process {pid} is in the host's user namespace, where its CAP_NET_ADMIN makes links in the host's network as well"
    )
}

struct Said {
    is_hosts: bool,
    netns: NamespaceId,
}

fn look_at(pid: i32) -> Result<Said, Errno> {
    // An open /proc/PID belongs to one process and never to a later one with its number.
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let process = open(format!("/proc/{pid}").as_str(), flags, Mode::empty())?;
    let of_it = |name: &str| fstatat(&process, name, AtFlags::empty());
    let (users, network) = (of_it("ns/user")?, of_it("ns/net")?);
    let here = stat("/proc/thread-self/ns/user")?;
    // Who is root of a user namespace may not look at pid 1. Nor at any other process of a namespace above his.
    let first = stat("/proc/1/ns/user").ok();
    let is_hosts = is_same(&users, &here) || first.is_some_and(|first| is_same(&users, &first));
    Ok(Said { is_hosts, netns: NamespaceId { dev: network.st_dev, ino: network.st_ino } })
}

fn is_same(one: &FileStat, other: &FileStat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_in_our_own_user_namespace_is_not_apart_nor_is_nobody() {
        let own = Own::read().unwrap();
        for (pid, said) in [
            (Some(std::process::id() as i32), "is in the host's user namespace"),
            (Some(1), "process 1"),
            (Some(4_194_305), "ENOENT"),
            (None, "names no process"),
        ] {
            let failure = apart(pid, &own).unwrap_err();
            assert_eq!(failure.exit_code(), 19, "{failure}");
            assert!(failure.to_string().contains(said), "{failure}");
        }
    }
}
