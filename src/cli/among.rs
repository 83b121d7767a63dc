//! The stages of a container that has peers: where there are policies, or containers that follow who comes and goes.
//!
//! The registry's lock is held from the look at who runs that counts until every set that follows is changed ([`Peers`]). A start
//! has its rules before that, where it can ([`Ahead`]).

use std::net::IpAddr;
use std::time::Duration;

use super::ahead::Ahead;
use super::hook::{Joined, anchor, complete, join, present, record};
use super::host_side::{Side, Standing, withdraw};
use super::load::{self, ConfigFile, Inputs};
use super::peers::{Peers, has_any};
use super::told::Told;
use crate::error::{Cause, Failure};
use crate::kernel::apply::{Present, Report, Site};
use crate::kernel::capability;
use crate::kernel::checkpoint;
use crate::kernel::files::Trust;
use crate::kernel::link::global_addresses;
use crate::kernel::netns::{Inside, NamespaceId, Own, cookie};
use crate::kernel::proc::Procfs;
use crate::kernel::process::Deadline;
use crate::kernel::tables::Tables;
use crate::live;
use crate::plan::{Cluster, Facts, Plan};
use crate::registry::{Arrival, Glance, Record, Registry, Roster, Subject, boot_ms, started};

/// What a stage works with once the container's namespace is joined.
pub(super) struct Stay<'a> {
    pub(super) inputs: &'a Inputs,
    pub(super) registry: &'a Registry,
    pub(super) facts: &'a Facts,
    pub(super) own: &'a Own,
    pub(super) deadline: &'a Deadline,
}

/// createRuntime: the container is among the peers of those that run before it runs itself.
pub(super) fn protect(stay: &Stay<'_>, procfs: Procfs, inside: Inside, side: Option<Side>) -> Result<Told, Failure> {
    let Stay { inputs, facts, own, deadline, .. } = *stay;
    capability::keep_only(&capability::WHILE_VISITING)?;
    let addresses = global_addresses(&inside, deadline)?;
    let netns = inside.id();
    let mut record = record(inputs, None, facts, &inside)?;
    record.addresses.clone_from(&addresses);
    record.started = inputs.state.pid.and_then(started);
    record.cookie = cookie(&inside)?;
    let mut arrival = Arrival {
        netns,
        cookie: record.cookie,
        id: record.id.clone(),
        anchor: anchor(&record)?,
        addresses: addresses.clone(),
        identity: inputs.identity()?,
        table: None,
        watch: None,
    };
    let ahead = if side.is_none() { Ahead::go(stay, &procfs, &inside, &arrival)? } else { None };
    let Met { mut peers, inside } = meet(stay, inside, &addresses, ahead.as_ref().map(Ahead::glance))?;
    record.recorded_ms = boot_ms();
    peers.join(&record.id, (netns, record.cookie), &arrival.identity)?;
    peers.enter(arrival.clone());
    checkpoint::step("entered")?;

    let raise = |plan: &Plan, side: Side| side.raise(plan, inputs.state.pid, &inside, &peers.lock, deadline);
    let Brought { plan, kept, report, standing } = match ahead {
        Some(ahead) => ahead.catch_up(stay, &procfs, &inside, &peers)?,
        None => {
            let plan = plan(stay, &peers.roster, netns)?;
            let standing = side.map(|side| raise(&plan, side)).transpose()?;
            Brought { standing, ..bring_about(stay, &procfs, &inside, plan)? }
        }
    };
    let told = Told::protected(&plan, &report);
    if !kept {
        arrival.table = plan.table().map(|table| table.comment.clone());
        arrival.watch = (!plan.watch.is_empty()).then(|| plan.watch.clone());
    } else if let Some(before) = peers.known(netns, record.cookie) {
        arrival.table = before.table.as_deref().cloned();
        arrival.watch = before.watch.as_deref().cloned();
    }
    record.table = plan.table().map(|table| table.comment.clone());
    record.watch.clone_from(&arrival.watch);
    record.outside = standing.as_ref().and_then(Standing::outside).cloned();
    record.namespace_labels = Some(arrival.identity.namespace_labels.clone());
    peers.enter(arrival);
    drop(inside);
    // Where somebody lived before there are flows, too: that of a peer that is gone has to end there as well.
    let is_new = peers.known(netns, record.cookie).is_none();
    peers.recording = Some(record);
    let changed = peers.settle(own, &inputs.manifests, (!kept && is_new).then_some(netns))?;
    if let Some(standing) = standing {
        standing.keep();
    }
    Ok(told.among(&addresses, &changed))
}

/// What was brought about in a container's namespace.
pub(super) struct Brought {
    pub(super) plan: Plan,
    /// Whether a neighbour's rules were left there.
    pub(super) kept: bool,
    pub(super) report: Report,
    /// What stands at the host's side.
    pub(super) standing: Option<Standing>,
}

/// Carries a plan out, whatever is there.
pub(super) fn bring_about(stay: &Stay<'_>, procfs: &Procfs, inside: &Inside, plan: Plan) -> Result<Brought, Failure> {
    let Stay { inputs, registry, deadline, .. } = *stay;
    let mut tables = Tables::open(inside, *deadline)?;
    let present = present(&plan, inputs, &mut tables, inside, registry)?;
    let kept = present == Present::Kept;
    let report = Site { inside, tables, procfs, present, deadline: *deadline }.apply(&plan)?;
    Ok(Brought { plan, kept, report, standing: None })
}

/// A container that has met its peers.
struct Met<'r> {
    peers: Peers<'r>,
    inside: Inside,
}

/// Meets them. Who has any of the container's `addresses` is looked at closely.
fn meet<'r>(
    stay: &Stay<'r>,
    inside: Inside,
    addresses: &[IpAddr],
    glance: Option<&Glance>,
) -> Result<Met<'r>, Failure> {
    let Stay { inputs, registry, deadline, .. } = *stay;
    let netns = inside.id();
    let closely = |subject: &Subject| subject.netns == netns || has_any(subject, addresses);
    let mut peers = Peers::meet(registry, glance, &inputs.manifests.inventory, closely, None, deadline)?;
    let inside = asked_around(stay, &mut peers, inside)?;
    Ok(Met { peers, inside })
}

/// Where the roster was made just now, the addresses of those who run are asked for before anything is planned with them:
/// records of containers without policies have none. `inside` is left for that and joined again.
fn asked_around(stay: &Stay<'_>, peers: &mut Peers<'_>, inside: Inside) -> Result<Inside, Failure> {
    if !peers.rebuilt {
        return Ok(inside);
    }
    let netns = inside.id();
    drop(inside);
    peers.ask_addresses(stay.own, Some(netns));
    match join(stay.inputs, stay.own)? {
        Joined::Inside(inside) if inside.id() == netns => Ok(inside),
        Joined::Inside(_) | Joined::Skipped(_) => {
            let problem = "the container's process went elsewhere meanwhile".to_owned();
            Err(Failure::new("join the container's network", Cause::State(problem)))
        }
    }
}

/// The plan of a container that has been entered among its peers.
pub(super) fn plan(stay: &Stay<'_>, roster: &Roster, netns: NamespaceId) -> Result<Plan, Failure> {
    let Stay { inputs, facts, .. } = *stay;
    let inventory = &inputs.manifests.inventory;
    let entered = || Failure::new("protect the container", Cause::Internal("it is not in the roster".to_owned()));
    let subject = roster.find(netns).ok_or_else(entered)?;
    let elsewhere = inventory.peers();
    let pods = live::holders(roster, &elsewhere);
    // Only services ask the specification.
    let world = live::world(roster, inventory);
    let cluster = Cluster {
        policies: &inputs.manifests.policies,
        identity: &subject.identity,
        pods: &pods,
        nodes: &inventory.nodes,
        world: &world,
        subject: &live::pod(subject),
    };
    crate::plan::plan(&inputs.state, inputs.bundle.as_ref(), &inputs.settings, facts, Some(&cluster))
}

/// poststart: addresses that came since (docker, user namespaces) are made known.
pub(super) fn verify(stay: &Stay<'_>, procfs: Procfs, inside: Inside, side: Option<Side>) -> Result<Told, Failure> {
    let Stay { inputs, registry, own, deadline, .. } = *stay;
    capability::keep_only(&capability::WHILE_VISITING)?;
    let addresses = global_addresses(&inside, deadline)?;
    let netns = inside.id();
    let Met { mut peers, inside } = meet(stay, inside, &addresses, None)?;
    let Some(mut record) = registry.record(&inputs.state.id) else {
        let problem = "it was not recorded at createRuntime; create the container anew".to_owned();
        return Err(Failure::new("verify the container's protection", Cause::ReadBack(problem)));
    };
    peers.found_at(netns, &addresses);
    let plan = plan(stay, &peers.roster, netns)?;
    if let Some(side) = side {
        side.verify(&plan, Some(&record), &inside, deadline)?;
    }
    let (mut tables, told) = complete(inputs, registry, &procfs, &plan, &inside, Some(&record), deadline)?;
    if let (Some(table), Some(tables)) = (plan.table(), tables.as_mut()) {
        tables.reconcile(table)?;
    }
    drop(tables);
    if record.addresses != addresses {
        record.addresses.clone_from(&addresses);
        registry.put(&record)?;
    }
    drop(inside);
    Ok(told.among(&addresses, &peers.settle(own, &inputs.manifests, None)?))
}

/// poststop: forgets the container, and makes those forget it whose sets it was in. Nothing but the id counts: the
/// namespace is gone or about to be, and its rules with it. No failure: an engine could do nothing about it, and the next
/// start repairs what was left.
///
/// `began` is when this stage did. runc lets go of the id before it calls us, so that another container may have it by now:
/// see [`is_of_another`].
pub(super) fn forget(
    id: &str,
    began: u64,
    config: &ConfigFile,
    registry: &Registry,
    deadline: &Deadline,
) -> Result<Told, Failure> {
    let another = || Told::done("another has its id by now and stays");
    let record = registry.record(id);
    // Without nf_tables, or without leave to use it, there is nothing to take away.
    withdraw(id, registry, deadline).unwrap_or_else(|failure| match &record {
        Some(Record { outside: Some(_), .. }) => log::warn!("{failure}"),
        Some(_) | None => log::debug!("{failure}"),
    });
    if record.is_some_and(|record| is_of_another(&record, began, ON_THE_WAY_OUT)) {
        return Ok(another());
    }
    if registry.forget_alone(id)? {
        return Ok(Told::done("forgotten"));
    }
    let own = Own::read()?;
    capability::keep_only(&capability::WHILE_VISITING)?;
    // Pods of manifests count where an address is theirs as well. Mistakes in there are the next start's to tell, which then
    // looks at everything again.
    let manifests = load::policies_under(config, Trust::Guarded);
    let partial = manifests.as_ref().err().map(ToString::to_string);
    let manifests = manifests.unwrap_or_default();
    let mut peers = Peers::meet(registry, None, &manifests.inventory, |_| false, Some(id), deadline)?;
    if let Some(problem) = partial {
        log::warn!("container {id}: forgotten without a look at the policies: {problem}");
        peers.partial = true;
    }
    // It may have come while the lock was waited for.
    if registry.record(id).is_some_and(|record| is_of_another(&record, began, Duration::ZERO)) {
        return Ok(another());
    }
    registry.forget(id)?;
    checkpoint::step("forgotten")?;
    peers.roster.remove(id);
    Ok(Told::done("forgotten").among(&[], &peers.settle(&own, &manifests, None)?))
}

/// How long a process may take to end behind the runtime's back. Who is taken for another's after it is forgotten by the
/// next start that finds it dead.
const ON_THE_WAY_OUT: Duration = Duration::from_secs(1);

/// Whether a stop that began then is that of an earlier container with the id of the recorded one. The state names no process
/// at poststop, but every runtime calls it behind the end of the first one: runc 1.1 and crun 1.8 leave a zombie at most,
/// whether it ended by itself, was killed, or never ran; podman calls them. So a recorded process that goes on is not the one
/// that was stopped.
fn is_of_another(record: &Record, began: u64, patience: Duration) -> bool {
    record.recorded_ms > began || record.anchor().is_some_and(|anchor| anchor.goes_on(patience))
}
