//! Carries a plan out, in its order, and reads everything back.

use nix::errno::Errno;

use crate::error::Failure;
use crate::kernel::link::{Links, Raised, check_loopback};
use crate::kernel::netns::Inside;
use crate::kernel::proc::{Procfs, Report as SysctlReport, Written};
use crate::kernel::process::Deadline;
use crate::kernel::tables::{Installed, Tables};
use crate::net::Family;
use crate::plan::{Plan, Step};
use crate::sysctl::ipv6::DISABLE_IPV6;
use crate::sysctl::key::Key;

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What became of the table; `None` where the plan has none, or it was left to another container's.
    pub table: Option<Installed>,
    /// Sysctls written, with what they were.
    pub sysctls: Vec<SysctlReport>,
    /// What became of lo.
    pub loopback: Option<Raised>,
}

/// What to do with the table that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Present {
    /// There is none, or one with this comment that may be replaced.
    Replaceable(Option<String>),
    /// It belongs to a container that shares the namespace, and holds everything this plan asks for and more. So do
    /// the namespace's sysctls.
    Kept,
}

/// Carries `plan` out.
///
/// # Errors
/// The first step that fails. What was done before it stays: the table is first, so the namespace is then filtered.
pub fn apply(
    plan: &Plan,
    inside: &Inside,
    tables: &mut Tables<'_>,
    procfs: &Procfs,
    present: &Present,
    deadline: &Deadline,
) -> Result<Report, Failure> {
    let mut report = Report::default();
    for step in &plan.steps {
        deadline.check("protect the container")?;
        match (step, present) {
            (Step::ReplaceTable(_) | Step::NoTable, Present::Kept) => {}
            (Step::ReplaceTable(table), Present::Replaceable(comment)) => {
                report.table = Some(tables.install(table, comment.as_deref())?);
            }
            (Step::NoTable, Present::Replaceable(Some(_))) => tables.remove()?,
            (Step::NoTable, Present::Replaceable(None)) => {}
            // A container that shares the namespace asked for its own, within the same baseline: bringing the
            // baseline about again would undo that.
            (Step::Sysctls(_), Present::Kept) => {}
            (Step::Sysctls(writes), Present::Replaceable(_)) => {
                report.sysctls =
                    procfs.apply(inside, writes)?.into_iter().filter(|r| r.written != Written::Already).collect();
            }
            (Step::RaiseLoopback, _) => {
                let (raised, found) = Links::open(inside)?.raise_loopback(deadline)?;
                check_loopback(&found, ipv6_on_lo(inside, procfs)?)?;
                report.loopback = Some(raised);
            }
        }
    }
    Ok(report)
}

/// Whether lo has IPv6: never `conf/all`, which says nothing of any interface.
pub fn ipv6_on_lo(inside: &Inside, procfs: &Procfs) -> Result<bool, Failure> {
    let key = Key::conf(Family::V6, "lo", DISABLE_IPV6)
        .map_err(|error| Failure::new("look at lo", crate::error::Cause::Internal(error.to_string())))?;
    Ok(procfs.read(inside, &key)?.is_some_and(|value| value.trim() == "0"))
}

/// What poststart found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// Sysctls that the runtime wrote after createRuntime, or that belong to interfaces that came later.
    pub sysctls: Vec<SysctlReport>,
}

/// Verifies the table and lo, and brings the sysctls about again: the runtime may have written its own after us (runc,
/// youki), and interfaces may have come (docker, podman in a user namespace).
///
/// # Errors
/// A table that differs is an error and is not mended: whoever changed it is at work.
pub fn complete(
    plan: &Plan,
    inside: &Inside,
    tables: &mut Tables<'_>,
    procfs: &Procfs,
    present: &Present,
    deadline: &Deadline,
) -> Result<Completion, Failure> {
    let mut completion = Completion::default();
    for step in &plan.steps {
        deadline.check("verify the container's protection")?;
        match (step, present) {
            (Step::ReplaceTable(table), Present::Replaceable(_)) => tables.verify(table)?,
            (Step::ReplaceTable(_) | Step::Sysctls(_), Present::Kept) | (Step::NoTable, _) => {}
            (Step::Sysctls(writes), Present::Replaceable(_)) => {
                completion.sysctls =
                    procfs.apply(inside, writes)?.into_iter().filter(|r| r.written != Written::Already).collect();
            }
            (Step::RaiseLoopback, _) => {
                let found = Links::open(inside)?.loopback(deadline)?;
                check_loopback(&found, ipv6_on_lo(inside, procfs)?)?;
            }
        }
    }
    Ok(completion)
}

/// Whether a failure means that the container's process has ended.
pub fn is_gone(failure: &Failure) -> bool {
    matches!(failure.cause, crate::error::Cause::ProcessGone(_) | crate::error::Cause::Join { errno: Errno::ESRCH, .. })
}
