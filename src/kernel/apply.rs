//! Carries a plan out, in its order, and reads back what it did.

use nix::errno::Errno;

use crate::error::{Cause, Failure};
use crate::kernel::checkpoint;
use crate::kernel::laps::lap;
use crate::kernel::link::check_loopback;
use crate::kernel::netns::Inside;
use crate::kernel::proc::{Procfs, Report as SysctlReport, Written};
use crate::kernel::process::Deadline;
use crate::kernel::tables::{Installed, Tables};
use crate::plan::{Plan, Step};
use crate::sysctl::ipv6::Write;

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What became of the table; `None` where the plan has none, or it was left to another container's.
    pub table: Option<Installed>,
    /// Sysctls that were otherwise and were set; at poststart those that the runtime wrote after createRuntime, or that
    /// belong to interfaces that came later.
    pub sysctls: Vec<SysctlReport>,
    /// At poststart: interfaces that came later and are guarded since.
    pub guarded: Vec<String>,
}

/// What to do with the table that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Present {
    /// There is none, or one with this comment that may be replaced.
    Replaceable(Option<String>),
    /// It belongs to a container that shares the namespace, and holds everything this plan asks for and more.
    Kept,
}

/// A container's namespace with everything that is needed to work in it.
#[derive(Debug)]
pub struct Site<'i> {
    /// The key to it.
    pub inside: &'i Inside,
    /// Its rules.
    pub tables: Tables<'i>,
    /// Its sysctls.
    pub procfs: &'i Procfs,
    /// What to do with the table that is there.
    pub present: Present,
    /// When all of it must be done.
    pub deadline: Deadline,
}

impl Site<'_> {
    /// Carries `plan` out.
    ///
    /// # Errors
    /// The first step that fails. What was done before it stays: the table is first, so the namespace is then filtered.
    pub fn apply(&mut self, plan: &Plan) -> Result<Report, Failure> {
        let mut report = Report::default();
        for step in &plan.steps {
            self.deadline.check("protect the container")?;
            match (step, &self.present) {
                (Step::ReplaceTable(_) | Step::NoTable, Present::Kept) => {}
                (Step::ReplaceTable(table), Present::Replaceable(comment)) => {
                    report.table = Some(self.tables.install(table, comment.as_deref())?);
                }
                (Step::NoTable, Present::Replaceable(Some(_))) => self.tables.remove()?,
                (Step::NoTable, Present::Replaceable(None)) => {}
                // A container that shares the namespace asked for its own, within the same baseline: bringing the
                // baseline about again would undo that.
                (Step::Sysctls(_), Present::Kept) => {}
                (Step::Sysctls(writes), Present::Replaceable(_)) => report.sysctls = self.sysctls(writes)?,
                (Step::RaiseLoopback, _) => {
                    let found = self.tables.links()?.raise_loopback(&self.deadline)?;
                    check_loopback(&found)?;
                }
            }
            lap(name(step));
            checkpoint::step(name(step))?;
        }
        Ok(report)
    }

    /// Verifies the table and lo, and brings the sysctls about again: the runtime may have written its own after us
    /// (runc, youki), and interfaces may have come (docker, podman in a user namespace).
    ///
    /// # Errors
    /// A table that differs is an error and is not mended: whoever changed it is at work.
    pub fn complete(&mut self, plan: &Plan) -> Result<Report, Failure> {
        let mut report = Report::default();
        for step in &plan.steps {
            self.deadline.check("verify the container's protection")?;
            match (step, &self.present) {
                (Step::ReplaceTable(table), Present::Replaceable(_)) => {
                    report.guarded = self.tables.guard_late(table)?;
                    self.tables.verify(table)?;
                }
                (Step::ReplaceTable(_) | Step::Sysctls(_), Present::Kept) | (Step::NoTable, _) => {}
                (Step::Sysctls(writes), Present::Replaceable(_)) => report.sysctls = self.sysctls(writes)?,
                (Step::RaiseLoopback, _) => {
                    let found = self.tables.links()?.loopback(&self.deadline)?;
                    check_loopback(&found)?;
                }
            }
            checkpoint::step(name(step))?;
        }
        Ok(report)
    }

    /// Brings sysctls about, and returns those that were not so before.
    fn sysctls(&self, writes: &[Write]) -> Result<Vec<SysctlReport>, Failure> {
        let mut reports = self.procfs.apply(self.inside, writes)?;
        reports.retain(|report| matches!(report.written, Written::Changed { .. }));
        Ok(reports)
    }
}

/// What a test calls a step.
const fn name(step: &Step) -> &'static str {
    match step {
        Step::ReplaceTable(_) | Step::NoTable => "table",
        Step::Sysctls(_) => "sysctls",
        Step::RaiseLoopback => "lo",
    }
}

/// Whether a failure means that the container's process has ended.
pub fn is_gone(failure: &Failure) -> bool {
    matches!(failure.cause, Cause::ProcessGone(_) | Cause::Join { errno: Errno::ESRCH, .. })
}
