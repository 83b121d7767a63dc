//! Namespaces that were recorded: found again, told from others that took their number, and visited one after the
//! other by one thread.

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, getsockopt, socket};
use nix::sys::stat::stat;

use super::{Inside, NamespaceId, Own, Target, enter};
use crate::error::{Cause, Failure};

/// `SO_NETNS_COOKIE` (socket(7), Linux 5.14).
#[derive(Clone, Copy, Debug)]
struct NetnsCookie;

nix::getsockopt_impl!(
    NetnsCookie,
    libc::SOL_SOCKET,
    libc::SO_NETNS_COOKIE,
    u64,
    nix::sys::socket::sockopt::GetStruct<u64>
);

/// The kernel's own number of the namespace (`net->net_cookie`), which no other gets until the machine starts anew.
/// `None` before Linux 5.14, where [`NamespaceId`] and the processes inside have to do.
///
/// # Errors
/// [`Cause::Join`], which only a machine out of memory or descriptors can give.
pub fn cookie(inside: &Inside) -> Result<Option<u64>, Failure> {
    let failed = |target: &str, errno| {
        Failure::new(format!("identify {}", inside.target()), Cause::Join { target: target.into(), errno })
    };
    // Any socket knows its namespace; of all kinds this is the cheapest to make.
    let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .map_err(|errno| failed("socket(AF_UNIX)", errno))?;
    match getsockopt(&socket, NetnsCookie) {
        Ok(cookie) => Ok(Some(cookie)),
        Err(Errno::ENOPROTOOPT) => Ok(None),
        Err(errno) => Err(failed("getsockopt(SO_NETNS_COOKIE)", errno)),
    }
}

impl Target {
    /// The namespace behind it now.
    ///
    /// # Errors
    /// ENOENT and ESRCH say that there is none any more (a zombie's cannot be seen either), EACCES and EPERM that it
    /// may not be looked at.
    pub fn namespace(&self) -> Result<NamespaceId, Errno> {
        let stat = match self {
            Target::Process(pid) => stat(format!("/proc/{pid}/ns/net").as_str()),
            Target::Path(path) => stat(path),
        }?;
        Ok(NamespaceId::of(&stat))
    }
}

/// A namespace as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where it was found.
    pub target: Target,
    /// Its number then.
    pub id: NamespaceId,
    /// Its cookie, where it was read.
    pub cookie: Option<u64>,
}

/// Joins a recorded namespace; `None` where it is not behind its target any more: the process has ended, its number is
/// another's, the path leads elsewhere.
///
/// One thread visits any number of namespaces one after the other: each key is dropped before the next is asked for,
/// and the thread need not go back in between. `own` must have been read before the first join, for the comparison with
/// the host's namespace to mean anything. [`WHILE_VISITING`](crate::kernel::capability::WHILE_VISITING) must be held.
///
/// # Errors
/// Those of [`enter`] that say nothing of the namespace being gone; [`cookie`]'s.
pub fn visit(place: &Place, own: &Own) -> Result<Option<Inside>, Failure> {
    // A look ahead spares strangers the visit. What may not be looked at is decided below.
    match place.target.namespace() {
        Ok(id) if id != place.id => return Ok(None),
        Err(Errno::ENOENT | Errno::ESRCH) => return Ok(None),
        Ok(_) | Err(_) => {}
    }
    let inside = match enter(&place.target, own) {
        Ok(inside) => inside,
        Err(Failure { cause, .. }) if is_elsewhere(&cause, place, own) => return Ok(None),
        Err(failure) => return Err(failure),
    };
    if inside.id() != place.id {
        return Ok(None);
    }
    // A number is free again once a namespace is gone, and the process may have moved into another that got it.
    if let Some(recorded) = place.cookie
        && cookie(&inside)?.is_some_and(|found| found != recorded)
    {
        return Ok(None);
    }
    Ok(Some(inside))
}

/// Whether a refusal says that the target is not what was recorded. Named one by one: no other may make anybody believe
/// that a container is gone.
fn is_elsewhere(cause: &Cause, place: &Place, own: &Own) -> bool {
    // A state that cannot be is a pid that is a thread's now, the host's namespace one that is a process's of the host.
    // Unless this hook itself runs in the recorded namespace: that lives.
    matches!(cause, Cause::ProcessGone(_) | Cause::NotANamespace { .. } | Cause::State(_))
        || (matches!(cause, Cause::HostNamespace(_)) && own.refuse(place.id, "").is_ok())
}
