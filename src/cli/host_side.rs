//! The rules at the host's end of a container's links, for one that holds CAP_NET_ADMIN and may undo those in its own
//! namespace (`net-admin: host-side`).
//!
//! What works on the host is opened while this thread is there, before it joins the container's namespace ([`Side::open`]).
//! At createRuntime the rules are put there before anything else is done, and taken away again by whatever fails later
//! ([`Standing`]). The devices and addresses they were made for are recorded: what the container says of itself once it runs
//! counts for nothing, at poststart neither.
//!
//! Whose a table is stands in its comment ([`Owner`]). So a poststop that comes late leaves the table of the next container
//! with that id alone, and the next start finds what a missed one left, with or without records.

use nix::errno::Errno;
use std::time::Duration;

use super::load::{self, Inputs};
use crate::error::{Cause, Failure};
use crate::kernel::checkpoint;
use crate::kernel::host_end::{DOING, HostSide};
use crate::kernel::link::own_addresses;
use crate::kernel::netns::{Inside, NamespaceId, Own};
use crate::kernel::process::Deadline;
use crate::kernel::tables::HostTables;
use crate::kernel::userns::{apart, is_apart_or_gone};
use crate::nft::build::{container_of, host_side, host_table, owned};
use crate::nft::filter::Filter;
use crate::nft::ruleset::Table;
use crate::plan::{Plan, Rules, may_stand_outside, stands_outside};
use crate::registry::{Lock, Outside, Owner, Record, Registry};
use crate::settings::{NetAdmin, Settings};

/// How long a process may take to end behind the runtime's back.
const ON_THE_WAY_OUT: Duration = Duration::from_secs(1);

/// What works on the host.
#[derive(Debug)]
pub(super) struct Side {
    ends: HostSide,
    tables: HostTables,
    /// The network namespace of the container's process, where that is proven to be in a user namespace of its own.
    apart: Result<NamespaceId, Failure>,
    /// Whether the container's rules would have to stand there, had it any.
    may: bool,
}

impl Side {
    /// Opens the sockets; `None` where no rules of the container stand there.
    ///
    /// # Errors
    /// As [`HostSide::open`] and [`HostTables::open`].
    pub(super) fn open(
        inputs: &Inputs,
        before: Option<&Record>,
        own: &Own,
        deadline: &Deadline,
    ) -> Result<Option<Side>, Failure> {
        let recorded = before.is_some_and(|record| record.outside.is_some());
        let may = may_stand_outside(&inputs.settings, inputs.bundle.as_ref());
        if !recorded && !may {
            return Ok(None);
        }
        // Kept for later: a process that is gone by now is said to be by the join.
        let apart = apart(inputs.state.pid, own);
        Ok(Some(Side { ends: HostSide::open(own)?, tables: HostTables::open(own, *deadline)?, apart, may }))
    }

    /// Whether the container's `CAP_NET_ADMIN` counts for nothing on the host.
    fn is_apart(&self, inside: &Inside) -> Result<(), Failure> {
        match &self.apart {
            Ok(netns) if *netns == inside.id() => Ok(()),
            Ok(_) => {
                let problem = "the container's process went elsewhere meanwhile".to_owned();
                Err(Failure::new(DOING, Cause::HostSide(problem)))
            }
            Err(failure) => Err(failure.clone()),
        }
    }

    /// Takes away the tables of containers that ended without a poststop. No start depends on that.
    pub(super) fn sweep(&mut self, registry: &Registry, deadline: &Deadline) {
        let swept = registry.lock(deadline).and_then(|_held| {
            for (name, comment) in self.tables.all()? {
                let (Some(owner), Some(id)) = (Owner::in_comment(&comment), container_of(&name)) else { continue };
                if owner.is_gone(registry.record(&id).as_ref()) {
                    log::warn!("container {id}: it ended without a poststop; its rules at the host's side are removed");
                    self.tables.remove(&name)?;
                }
            }
            Ok(())
        });
        swept.unwrap_or_else(|failure| log::warn!("{failure}"));
    }

    /// Puts the rules of `plan` at the host's end of every link of the container, and reads them back. Nothing inside was
    /// touched yet. The lock is held until the container is recorded: a poststop looks whose a table is and removes it then.
    ///
    /// # Errors
    /// [`Cause::HostSide`] where a link has no such end, and where this hook may not change the host's namespace;
    /// [`Cause::SameId`] where another container of that id runs; as [`HostTables::install`].
    pub(super) fn raise(
        mut self,
        plan: &Plan,
        pid: Option<i32>,
        inside: &Inside,
        _: &Lock,
        deadline: &Deadline,
    ) -> Result<Standing, Failure> {
        let name = host_table(&plan.id)?;
        let owner = Owner::of(pid, inside.id());
        let present = self.tables.comment(&name).map_err(not_permitted)?;
        let before = present.as_deref().and_then(Owner::in_comment);
        // Two runtimes may have given one id twice: the rules of the first must not go for the second's.
        if before.is_some_and(|before| before != owner && before.goes_on(ON_THE_WAY_OUT)) {
            let problem = format!("another container with the id {} runs, and its rules have the name {name}", plan.id);
            return Err(Failure::new(DOING, Cause::SameId(problem)));
        }
        let (table, outside) = match &plan.host_side {
            Some(filter) => {
                let outside = self.proven(&name, owner, inside, deadline)?;
                if outside.addresses.is_empty() {
                    log::warn!(
                        "{} has no address yet: nothing it sends will pass the rules at the host's side",
                        inside.target()
                    );
                }
                (table_of(filter, &outside)?, Some(outside))
            }
            // Rules may come while it runs, and what they are to hang on can be proven now or never.
            None if self.may => {
                let proven = self.proven(&name, owner, inside, deadline);
                (None, proven.inspect_err(|failure| log::info!("container {}: {failure}", plan.id)).ok())
            }
            None => (None, None),
        };
        let Some(table) = table else {
            if present.is_some() {
                self.tables.remove(&name)?;
            }
            return Ok(Standing { tables: self.tables, outside, removed_on_failure: false });
        };
        // Called once more for a container that runs, a failure leaves it what it has.
        let removed_on_failure = before != Some(owner);
        let mut standing = Standing { tables: self.tables, outside, removed_on_failure };
        standing.tables.install(&table).map_err(not_permitted)?;
        checkpoint::step("host-side")?;
        Ok(standing)
    }

    /// What rules at the host's side are made for: proven, and before the container's process runs.
    fn proven(&mut self, name: &str, owner: Owner, inside: &Inside, deadline: &Deadline) -> Result<Outside, Failure> {
        self.is_apart(inside)?;
        let ends = self.ends.ends(inside, deadline)?;
        let addresses = own_addresses(inside, deadline)?;
        let devices: Vec<String> = ends.into_iter().map(|end| end.name).collect();
        Ok(Outside { table: name.to_owned(), whose: owner.to_string(), devices, addresses })
    }

    /// poststart: whether what was put there still stands, and every link of the container's runs through it.
    ///
    /// # Errors
    /// [`Cause::ReadBack`] where the rules differ, or were never recorded; [`Cause::HostSide`] for a link that came later.
    pub(super) fn verify(
        mut self,
        plan: &Plan,
        record: Option<&Record>,
        inside: &Inside,
        deadline: &Deadline,
    ) -> Result<(), Failure> {
        let differs = |problem: &str| {
            Failure::new(
                "verify the rules at the host's side",
                Cause::ReadBack(format!("{problem}; create the container anew")),
            )
        };
        const CHANGED: &str =
            "the configuration changed since createRuntime, or config.json did: other rules would be put there now";
        let outside = record.and_then(|record| record.outside.as_ref());
        let (filter, outside) = match (&plan.host_side, outside) {
            (None, None) => return Ok(()),
            (None, Some(outside)) => {
                return self.nothing_stands(outside).and_then(|so| match so {
                    true => Ok(()),
                    false => Err(differs(CHANGED)),
                });
            }
            (Some(filter), None) => {
                let nobody = Outside { table: host_table(&plan.id)?, ..Outside::default() };
                return match table_of(filter, &nobody)? {
                    None => Ok(()),
                    Some(_) => Err(differs("it was not recorded at createRuntime")),
                };
            }
            (Some(filter), Some(outside)) => (filter, outside),
        };
        let Some(table) = table_of(filter, outside)? else {
            return if self.nothing_stands(outside)? { Ok(()) } else { Err(differs(CHANGED)) };
        };
        self.is_apart(inside)?;
        self.tables.verify(&table)?;
        no_way_past(&mut self.ends, outside, inside, deadline)
    }

    fn nothing_stands(&mut self, outside: &Outside) -> Result<bool, Failure> {
        Ok(self.tables.comment(&outside.table)?.is_none())
    }
}

/// Whether every link of the host's that leads into the container is one that the rules hang on.
fn no_way_past(ends: &mut HostSide, outside: &Outside, inside: &Inside, deadline: &Deadline) -> Result<(), Failure> {
    let ends = ends.veths_into(inside, deadline)?;
    match ends.iter().find(|end| !outside.devices.contains(&end.name)) {
        None => Ok(()),
        Some(end) => {
            let problem = format!("{} leads into {} since createRuntime, past the rules", end.name, inside.target());
            Err(Failure::new(DOING, Cause::HostSide(problem)))
        }
    }
}

/// What `netlatch reload` brings about at the host's side of one container.
#[derive(Debug)]
pub(super) struct Reloaded {
    outside: Outside,
    /// `None` where nothing is denied any more.
    table: Option<Table>,
    /// Its first process.
    pid: Option<i32>,
}

impl Reloaded {
    /// Whether rules of a container may have to stand there, at the price of a look into its config.json.
    pub(super) fn may_be(record: &Record, settings: &Settings) -> bool {
        // Where config.json cannot be read any more it says nothing.
        let bundle = || record.bundle.as_deref().and_then(|dir| load::bundle_in(dir).ok().flatten());
        record.outside.is_some()
            || (settings.net_admin.value == NetAdmin::HostSide && may_stand_outside(settings, bundle().as_ref()))
    }

    /// What stands there for such a container, or is to, under these rules.
    ///
    /// # Errors
    /// As [`stands_outside`] and [`table_of`]. [`Cause::HostSide`] where nothing was proven of the container when it was created,
    /// though it holds `CAP_NET_ADMIN` and there are rules: it has had its chance to lie by now.
    pub(super) fn of(record: &Record, rules: &Rules) -> Result<Option<Reloaded>, Failure> {
        let nobody = || Ok(Outside { table: host_table(&record.id)?, ..Outside::default() });
        let outside = record.outside.clone().map_or_else(nobody, Ok)?;
        let filter = rules.filter.as_ref().map(stands_outside).transpose()?;
        let table = filter.map(|filter| table_of(filter, &outside)).transpose()?.flatten();
        match (&record.outside, &table) {
            (Some(_), _) => Ok(Some(Reloaded { outside, table, pid: record.pid })),
            (None, None) => Ok(None),
            (None, Some(_)) => {
                let problem = "what its rules would hang on was not proven when it was created; create it anew";
                Err(Failure::new(DOING, Cause::HostSide(problem.to_owned())))
            }
        }
    }
}

/// The host's side of the containers of `netlatch reload`.
#[derive(Debug)]
pub(super) struct Reloading {
    ends: HostSide,
    tables: HostTables,
}

impl Reloading {
    /// Opens the sockets.
    ///
    /// # Errors
    /// As [`Side::open`].
    pub(super) fn open(own: &Own, deadline: Deadline) -> Result<Reloading, Failure> {
        Ok(Reloading { ends: HostSide::open(own)?, tables: HostTables::open(own, deadline)? })
    }

    /// Puts the rules there. A table that is as it should be stays, with the flows that it remembers.
    ///
    /// # Errors
    /// As [`Side::raise`], for rules that were not there.
    pub(super) fn bring_about(
        &mut self,
        reloaded: &Reloaded,
        inside: &Inside,
        deadline: &Deadline,
    ) -> Result<(), Failure> {
        let Reloaded { outside, table, pid } = reloaded;
        let Some(table) = table else { return self.tables.remove(&outside.table) };
        let present = self.tables.comment(&table.name)?;
        let is_same = present.as_deref() == Some(&table.comment) && self.tables.verify(table).is_ok();
        if !is_same {
            self.tables.install(table)?;
        }
        // Behind it: they hold what they can in any case.
        is_apart_or_gone(*pid)?;
        no_way_past(&mut self.ends, outside, inside, deadline)
    }
}

/// The table that enforces `filter` for what was recorded of a container.
pub(super) fn table_of(filter: &Filter, outside: &Outside) -> Result<Option<Table>, Failure> {
    let table = host_side(filter, outside.table.clone(), &outside.devices, &outside.addresses)?;
    Ok(table.map(|table| owned(table, &outside.whose)))
}

/// Who is root of a user namespace only may change nothing outside it.
fn not_permitted(failure: Failure) -> Failure {
    match failure.cause {
        Cause::Netlink { errno: Errno::EPERM, .. } => {
            let problem = "this hook may not change the rules of the namespace it runs in (EPERM)".to_owned();
            Failure::new(DOING, Cause::HostSide(problem))
        }
        cause => Failure::new(failure.doing, cause),
    }
}

/// Rules that stand at the host's side. Dropped before [`Standing::keep`], they are taken away: nothing is left on the host for
/// a container that does not start.
#[derive(Debug)]
pub(super) struct Standing {
    tables: HostTables,
    outside: Option<Outside>,
    removed_on_failure: bool,
}

impl Standing {
    /// What was proven, for the record.
    pub(super) fn outside(&self) -> Option<&Outside> {
        self.outside.as_ref()
    }

    /// The container is protected: the rules stay.
    pub(super) fn keep(mut self) {
        self.removed_on_failure = false;
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        if let (true, Some(outside)) = (self.removed_on_failure, &self.outside) {
            self.tables.remove(&outside.table).unwrap_or_else(|failure| log::error!("{failure}"));
        }
    }
}

/// poststop: takes away what stands at the host's side for the container `id`, whatever is recorded of it.
///
/// # Errors
/// As [`HostTables::remove`].
pub(super) fn withdraw(id: &str, registry: &Registry, deadline: &Deadline) -> Result<(), Failure> {
    let name = host_table(id)?;
    let mut tables = HostTables::open(&Own::read()?, *deadline)?;
    // Asked without the lock first: most containers have none.
    if tables.comment(&name)?.is_none() {
        return Ok(());
    }
    let _held = match registry.lock(deadline) {
        Ok(held) => Some(held),
        // Who cannot use the directory does not start anything either.
        Err(Failure { cause: Cause::RunDir { .. }, .. }) => None,
        Err(failure) => return Err(failure),
    };
    let Some(comment) = tables.comment(&name)? else { return Ok(()) };
    if Owner::in_comment(&comment).is_some_and(|owner| owner.goes_on(ON_THE_WAY_OUT)) {
        log::info!("container {id}: another has its id by now, and its rules at the host's side stay");
        return Ok(());
    }
    tables.remove(&name)
}
