//! Work for a process of its own: what only a process with one thread may do, or what would change all of this one.

use nix::errno::Errno;
use nix::libc;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

/// Runs `work` in a child of the calling thread, with its namespaces and capabilities. `work` must not allocate or lock: a
/// thread that is not in the child may hold the lock.
pub(crate) fn in_child(work: impl FnOnce() -> Result<(), Errno>) -> Result<(), Errno> {
    // SAFETY: the child calls only `work`, which the caller keeps to system calls, and `_exit`.
    let child = match unsafe { fork() }.expect("a child starts") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let code = work().err().map_or(0, |errno| errno as i32);
            // SAFETY: ends the child at once, without what belongs to its parent.
            unsafe { libc::_exit(code) }
        }
    };
    loop {
        match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, 0)) => return Ok(()),
            Ok(WaitStatus::Exited(_, errno)) => return Err(Errno::from_raw(errno)),
            Ok(other) => panic!("the child ended otherwise: {other:?}"),
            Err(Errno::EINTR) => {}
            Err(errno) => panic!("waitpid: {errno:?}"),
        }
    }
}
