//! The capabilities this process holds, phase by phase, and what each is for.
//!
//! "Held" means over the user namespace this process is in: the host's root, or the root of the user namespace in which a
//! rootless engine runs its hooks (`podman unshare`, `unshare -Ur`). Namespaces below it are covered by the same
//! capabilities.
//!
//! Not supported is a runtime that an unprivileged user starts outside any user namespace (`runc run` as uid 1000): its
//! hook holds nothing over the namespace it would have to change and ends with the names of what it lacks.

use std::fmt::Write;

use caps::{CapSet, Capability, CapsHashSet};

use crate::error::{Cause, Failure};

/// What must be held, or nothing can be done.
///
/// * `CAP_SYS_ADMIN`: setns into a network namespace (`netns_install`).
/// * `CAP_NET_ADMIN`: rules, links and sysctls there.
pub const REQUIRED: [Capability; 2] = [Capability::CAP_SYS_ADMIN, Capability::CAP_NET_ADMIN];

/// What is kept before the first byte of input is parsed, where it is held at all.
///
/// Beside [`REQUIRED`]:
///
/// * `CAP_SYS_PTRACE`: setns on a pidfd and /proc/PID/ns ask `ptrace_may_access`. A container's first process is not dumpable and
///   holds more than we then do (`cap_ptrace_access_check`), so without it both say EPERM, to root as well. Seen with runc
///   and crun, with and without user namespaces. Before anything is dropped root passes by holding as much.
/// * `CAP_DAC_READ_SEARCH`: a bundle below a home directory of mode 0700, Debian's default, is out of root's reach
///   without it. (The bundles of podman's `--userns` belong to root and do not need it.)
///
/// Neither is [`REQUIRED`]: what fails without them says so itself.
pub const BEFORE_JOIN: [Capability; 4] =
    [Capability::CAP_SYS_ADMIN, Capability::CAP_NET_ADMIN, Capability::CAP_SYS_PTRACE, Capability::CAP_DAC_READ_SEARCH];

/// What is kept once this thread is in the container's namespace: rules, links and sysctls need nothing else
/// (`netlink_net_capable`, `net_ctl_permissions`).
pub const AFTER_JOIN: [Capability; 1] = [Capability::CAP_NET_ADMIN];

/// An error that names each of `needed` that is not effective. `doing` follows the word "cannot".
pub fn require(needed: &[Capability], doing: &str) -> Result<(), Failure> {
    let held = read(CapSet::Effective, doing)?;
    let missing: Vec<_> = needed.iter().filter(|capability| !held.contains(capability)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut names = String::new();
    for (i, capability) in missing.iter().enumerate() {
        let _ = write!(names, "{}{capability}", if i == 0 { "" } else { " and " });
    }
    Err(Failure::new(doing, Cause::CapabilityMissing(names)))
}

/// Drops, on this thread, every capability that is not in `kept`, and reads back that they are gone.
///
/// What remains is effective and permitted; nothing stays inheritable or ambient, since this program never executes
/// another. A capability in `kept` that was not held is not an error and is not gained.
pub fn keep_only(kept: &[Capability]) -> Result<(), Failure> {
    const DOING: &str = "drop capabilities";
    let permitted = read(CapSet::Permitted, DOING)?;
    let keep: CapsHashSet = kept.iter().copied().filter(|capability| permitted.contains(capability)).collect();

    // Effective first: the kernel refuses a permitted set that is smaller than the effective one.
    write(CapSet::Effective, &keep)?;
    write(CapSet::Permitted, &keep)?;
    // runc and podman leave it empty since CVE-2022-29162 and CVE-2022-27649, so the write is seldom needed.
    let inheritable = read(CapSet::Inheritable, DOING)?;
    if !inheritable.is_empty() {
        write(CapSet::Inheritable, &CapsHashSet::new())?;
    }

    // The kernel keeps effective within permitted, and ambient within permitted and inheritable (`cap_capset`): these two
    // sets say it all.
    let same = read(CapSet::Permitted, DOING)? == keep
        && (inheritable.is_empty() || read(CapSet::Inheritable, DOING)?.is_empty());
    if !same {
        let problem = "capset reported success and the sets read back differ";
        return Err(Failure::new(DOING, Cause::Internal(problem.into())));
    }
    Ok(())
}

/// Whether `capability` is missing from the effective set of this thread, or cannot be told. Only to word a message.
pub(crate) fn lacks(capability: Capability) -> bool {
    !caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
}

// The crate's errors hold strerror text, which must not reach a message. Neither call can fail for a reason of the
// caller's: capget reads this thread, and capset only ever shrinks its sets.
fn read(set: CapSet, doing: &str) -> Result<CapsHashSet, Failure> {
    caps::read(None, set).map_err(|_| Failure::new(doing, Cause::Internal("capget was refused".into())))
}

fn write(set: CapSet, value: &CapsHashSet) -> Result<(), Failure> {
    caps::set(None, set, value)
        .map_err(|_| Failure::new("drop capabilities", Cause::Internal("capset was refused".into())))
}
