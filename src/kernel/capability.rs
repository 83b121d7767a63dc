//! The capabilities this process holds, phase by phase, and what each is for.
//!
//! "Held" means over the user namespace this process is in: the host's root, or the root of the user namespace in
//! which a rootless engine runs its hooks (`podman unshare`, `unshare -Ur`). Namespaces below it are covered by the
//! same capabilities.
//!
//! Four of the five sets are reduced. The bounding set stays: it limits what exec can give, nothing is executed, and with
//! `no_new_privs` exec could give nothing.
//!
//! Not supported is a runtime that an unprivileged user starts outside any user namespace (`runc run` as uid 1000): its
//! hook holds nothing over the namespace it would have to change and ends with the names of what it lacks.

use caps::Capability;
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

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
/// * `CAP_SYS_PTRACE`: setns on a pidfd and /proc/PID/ns ask `ptrace_may_access`. A container's first process is not
///   dumpable and holds more than we then do (`cap_ptrace_access_check`), so without it both say EPERM, to root as
///   well. Seen with runc and crun, with and without user namespaces. Before anything is dropped root passes by
///   holding as much.
/// * `CAP_DAC_READ_SEARCH`: a bundle below a home directory of mode 0700, Debian's default, is out of root's reach
///   without it. So is the bundle of a container with podman's `--userns`, which belongs to the container's root and has
///   mode 0700.
///
/// Neither is [`REQUIRED`]: what fails without them says so itself.
pub const BEFORE_JOIN: [Capability; 4] =
    [Capability::CAP_SYS_ADMIN, Capability::CAP_NET_ADMIN, Capability::CAP_SYS_PTRACE, Capability::CAP_DAC_READ_SEARCH];

/// What is kept while the namespaces of other containers are visited, whose sets follow who starts and stops: each visit
/// is a setns on a pidfd, as the first join was (see [`BEFORE_JOIN`]), and changes rules.
///
/// So the thread holds `CAP_SYS_ADMIN` while it stands in a container's network namespace. Nobody in there gains by it:
/// the thread is in none of the container's other namespaces, cannot be traced
/// ([`lock_down`](crate::kernel::process::lock_down)), and reads there only what the kernel says over netlink. After the
/// last visit [`AFTER_JOIN`] is what is left.
pub const WHILE_VISITING: [Capability; 3] =
    [Capability::CAP_SYS_ADMIN, Capability::CAP_NET_ADMIN, Capability::CAP_SYS_PTRACE];

/// What is kept once this thread is in the container's namespace: rules, links and sysctls need nothing else
/// (`netlink_net_capable`, `net_ctl_permissions`).
pub const AFTER_JOIN: [Capability; 1] = [Capability::CAP_NET_ADMIN];

/// An error that names each of `needed` that is not effective. `doing` follows the word "cannot".
pub fn require(needed: &[Capability], doing: &str) -> Result<(), Failure> {
    let held = held(doing)?.effective;
    let missing: Vec<String> =
        needed.iter().filter(|capability| !held.contains(one(**capability))).map(Capability::to_string).collect();
    if missing.is_empty() { Ok(()) } else { Err(Failure::new(doing, Cause::CapabilityMissing(missing.join(" and ")))) }
}

/// Drops, on this thread, every capability that is not in `kept`, and reads back that they are gone.
///
/// What remains is effective and permitted; nothing stays inheritable or ambient, since this program never executes
/// another. A capability in `kept` that was not held is not an error and is not gained.
///
/// All sets are read, written and read back as one, in three system calls: the `caps` crate takes one for each set and
/// for each question, and is asked for names alone.
pub fn keep_only(kept: &[Capability]) -> Result<(), Failure> {
    const DOING: &str = "drop capabilities";
    let wanted = kept.iter().fold(CapabilitySet::empty(), |set, capability| set | one(*capability));
    let keep = wanted & held(DOING)?.permitted;
    let left = CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() };

    // A set only ever shrinks here, which the kernel grants to all. The ambient set follows: the kernel keeps it within
    // permitted and inheritable (`cap_capset`).
    set_capabilities(None, left).map_err(|_| Failure::new(DOING, refused("capset")))?;

    if held(DOING)? != left {
        let problem = "capset reported success and the sets read back differ";
        return Err(Failure::new(DOING, Cause::Internal(problem.into())));
    }
    Ok(())
}

/// Whether `capability` is missing from the effective set of this thread, or cannot be told. Only to word a message.
pub(crate) fn lacks(capability: Capability) -> bool {
    capabilities(None).map_or(true, |held| !held.effective.contains(one(capability)))
}

fn held(doing: &str) -> Result<CapabilitySets, Failure> {
    capabilities(None).map_err(|_| Failure::new(doing, refused("capget")))
}

fn one(capability: Capability) -> CapabilitySet {
    CapabilitySet::from_bits_retain(capability.bitmask())
}

/// A seccomp filter aside, neither call can be refused.
fn refused(call: &str) -> Cause {
    Cause::Confined(format!("{call} was refused"))
}
