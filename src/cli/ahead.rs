//! What a start does before it asks for the lock: nearly all of it.
//!
//! Rules take a millisecond to plan, load and read back, and of those who start at once only one at a time has the lock. So a
//! container whose namespace nobody else can know yet gets its rules first, from a glance at who runs. What counts is who runs
//! under the lock, where the container is recorded: where that is somebody else by then the rules catch up, before anybody is
//! told of the container and long before its first instruction. A start that fails in between leaves the namespace filtered.

use super::among::{Brought, Stay, bring_about, plan};
use super::peers::Peers;
use crate::error::Failure;
use crate::kernel::apply::{Present, Report, Site};
use crate::kernel::checkpoint;
use crate::kernel::laps::lap;
use crate::kernel::netns::Inside;
use crate::kernel::proc::Procfs;
use crate::kernel::tables::Tables;
use crate::live;
use crate::oci::NetworkNamespace;
use crate::plan::Plan;
use crate::registry::{Arrival, Glance, Roster};

/// A container that has its rules, and who ran when they were planned.
pub(super) struct Ahead {
    glance: Glance,
    /// The same with the container entered.
    entered: Roster,
    plan: Plan,
    report: Report,
}

impl Ahead {
    /// Plans among those who run at a glance, and carries that out. `None` where it has to be done under the lock: there is no
    /// roster, or the namespace may be others' as well, or has rules already.
    ///
    /// # Errors
    /// As [`plan`] and [`Site::apply`]. They would be the same under the lock.
    pub(super) fn go(
        stay: &Stay<'_>,
        procfs: &Procfs,
        inside: &Inside,
        arrival: &Arrival,
    ) -> Result<Option<Ahead>, Failure> {
        let Stay { inputs, registry, deadline, .. } = *stay;
        if inputs.bundle.as_ref().is_none_or(|bundle| bundle.network != Some(NetworkNamespace::New)) {
            return Ok(None);
        }
        let Some(glance) = registry.glance() else { return Ok(None) };
        let mut tables = Tables::open(inside, *deadline)?;
        if tables.comment()?.is_some() {
            return Ok(None);
        }
        let mut entered = glance.roster().clone();
        entered.enter(arrival.clone());
        lap("glance at who runs");
        let plan = plan(stay, &entered, inside.id())?;
        lap("plan");
        let present = Present::Replaceable(None);
        let report = Site { inside, tables, procfs, present, deadline: *deadline }.apply(&plan)?;
        checkpoint::step("ahead")?;
        Ok(Some(Ahead { glance, entered, plan, report }))
    }

    /// Who ran when the rules were planned.
    pub(super) fn glance(&self) -> &Glance {
        &self.glance
    }

    /// Under the lock: makes the rules those that follow from who runs now, the container entered.
    ///
    /// # Errors
    /// As [`plan`], [`Tables::catch_up`] and [`bring_about`].
    pub(super) fn catch_up(
        self,
        stay: &Stay<'_>,
        procfs: &Procfs,
        inside: &Inside,
        peers: &Peers<'_>,
    ) -> Result<Brought, Failure> {
        let Ahead { entered, plan: was, report, .. } = self;
        let done = |plan| Brought { plan, kept: false, report, standing: None };
        if peers.glanced {
            return Ok(done(was));
        }
        let (netns, inventory) = (inside.id(), &stay.inputs.manifests.inventory);
        // Of who it is itself, and of services, more may follow than who is in which set.
        let mut changes = None;
        if !inventory.has_services() && entered.find(netns) == peers.roster.find(netns) {
            changes = Some(live::caught_up(&entered, &peers.roster, &inventory.peers(), &was.watch));
            lap("find who came and went");
        }
        if changes.as_ref().is_some_and(Vec::is_empty) {
            return Ok(done(was));
        }
        if let (Some(changes), Some(table)) = (changes, was.table()) {
            let mut tables = Tables::open(inside, *stay.deadline)?;
            // Whatever else has come there is looked at as if nothing had been done.
            if tables.comment()?.as_ref() == Some(&table.comment) {
                tables.update(&changes)?;
                lap("catch up");
                return Ok(done(was));
            }
        }
        let plan = plan(stay, &peers.roster, netns)?;
        lap("plan again");
        if plan.steps == was.steps {
            return Ok(done(plan));
        }
        if let (Some(old), Some(new)) = (was.table(), plan.table())
            && new.differs_in_members_alone(old)
        {
            let mut tables = Tables::open(inside, *stay.deadline)?;
            // Whatever else has come there is looked at as if nothing had been done.
            if tables.comment()?.as_ref() == Some(&new.comment) {
                tables.catch_up(old, new)?;
                lap("catch up");
                return Ok(done(plan));
            }
        }
        bring_about(stay, procfs, inside, plan)
    }
}
