//! The stages of a container that has peers: where there are policies, or containers that follow who comes and goes.
//!
//! The registry's lock is held from the first look at who runs until every set that follows is changed ([`Peers`]).

use super::hook::{anchor, complete, present, record, told};
use super::load::{self, ConfigFile, Inputs};
use super::peers::{Peers, has_any};
use crate::error::{Cause, Failure};
use crate::kernel::apply::{Present, Site};
use crate::kernel::capability;
use crate::kernel::files::Trust;
use crate::kernel::link::global_addresses;
use crate::kernel::netns::{Inside, NamespaceId, Own, cookie};
use crate::kernel::proc::Procfs;
use crate::kernel::process::Deadline;
use crate::kernel::tables::Tables;
use crate::live::{self, Elsewhere};
use crate::plan::{Cluster, Facts, Plan};
use crate::policy::lookup::World;
use crate::registry::{Arrival, Container, Registry, Subject, started};

/// What a stage works with once the container's namespace is joined.
pub(super) struct Stay<'a> {
    pub(super) inputs: &'a Inputs,
    pub(super) registry: &'a Registry,
    pub(super) facts: &'a Facts,
    pub(super) own: &'a Own,
    pub(super) deadline: &'a Deadline,
}

/// createRuntime: the container is among the peers of those that run before it runs itself.
pub(super) fn protect(stay: &Stay<'_>, procfs: Procfs, inside: Inside) -> Result<(), Failure> {
    let Stay { inputs, registry, facts, own, deadline } = *stay;
    capability::keep_only(&capability::WHILE_VISITING)?;
    let addresses = global_addresses(&inside, deadline)?;
    let inventory = &inputs.manifests.inventory;
    let netns = inside.id();
    let closely = |subject: &Subject| subject.netns == netns || has_any(subject, &addresses);
    let mut peers = Peers::meet(registry, inventory, closely, None, deadline)?;
    let mut record = record(inputs, None, facts, &inside)?;
    record.addresses.clone_from(&addresses);
    record.started = inputs.state.pid.and_then(started);
    record.cookie = cookie(&inside)?;
    let identity = inputs.identity()?;
    peers.join(&record.id, netns, &identity)?;
    let mut arrival = Arrival {
        netns,
        cookie: record.cookie,
        container: Container { id: record.id.clone(), anchor: anchor(&record)? },
        addresses,
        identity,
        table: None,
        watch: None,
    };
    peers.enter(arrival.clone());

    let elsewhere = inventory.peers();
    let (plan, kept) = {
        let plan = plan(stay, &peers, netns, &elsewhere)?;
        let mut tables = Tables::open(&inside, *deadline)?;
        let present = present(&plan, inputs, &mut tables, &inside, registry)?;
        let kept = present == Present::Kept;
        let report = Site { inside: &inside, tables, procfs, present, deadline: *deadline }.apply(&plan)?;
        told(&plan, &report);
        (plan, kept)
    };
    if !kept {
        arrival.table = plan.table().map(|table| table.comment.clone());
        arrival.watch = (!plan.watch.is_empty()).then(|| plan.watch.clone());
    } else if let Some(before) = peers.known(netns) {
        arrival.table = before.table.as_deref().cloned();
        arrival.watch = before.watch.as_deref().cloned();
    }
    record.table = plan.table().map(|table| table.comment.clone());
    record.watch.clone_from(&arrival.watch);
    record.namespace_labels = Some(arrival.identity.namespace_labels.clone());
    registry.put(&record)?;
    peers.enter(arrival);
    drop(inside);
    peers.settle(own, &inputs.manifests, (!kept).then_some(netns))
}

/// The plan of a container that has been entered among its peers.
fn plan(stay: &Stay<'_>, peers: &Peers<'_>, netns: NamespaceId, elsewhere: &[Elsewhere<'_>]) -> Result<Plan, Failure> {
    let Stay { inputs, facts, .. } = *stay;
    let inventory = &inputs.manifests.inventory;
    let entered = || Failure::new("protect the container", Cause::Internal("it is not in the roster".to_owned()));
    let subject = peers.roster.find(netns).ok_or_else(entered)?;
    let pods = live::holders(&peers.roster, elsewhere);
    // Only services ask the specification.
    let world = if inventory.has_services() { live::world(&peers.roster, inventory) } else { World::default() };
    let cluster = Cluster {
        policies: &inputs.manifests.policies,
        identity: &subject.identity,
        pods: &pods,
        nodes: &inventory.nodes,
        host: &facts.node,
        world: &world,
        subject: &live::pod(subject),
    };
    crate::plan::plan(&inputs.state, inputs.bundle.as_ref(), &inputs.settings, facts, Some(&cluster))
}

/// poststart: addresses that came since (docker, user namespaces) are made known.
pub(super) fn verify(stay: &Stay<'_>, procfs: Procfs, inside: Inside) -> Result<(), Failure> {
    let Stay { inputs, registry, own, deadline, .. } = *stay;
    capability::keep_only(&capability::WHILE_VISITING)?;
    let addresses = global_addresses(&inside, deadline)?;
    let inventory = &inputs.manifests.inventory;
    let netns = inside.id();
    let closely = |subject: &Subject| subject.netns == netns || has_any(subject, &addresses);
    let mut peers = Peers::meet(registry, inventory, closely, None, deadline)?;
    let Some(mut record) = registry.record(&inputs.state.id) else {
        let problem = "it was not recorded at createRuntime; create the container anew".to_owned();
        return Err(Failure::new("verify the container's protection", Cause::ReadBack(problem)));
    };
    peers.found_at(netns, &addresses);
    let elsewhere = inventory.peers();
    let plan = plan(stay, &peers, netns, &elsewhere)?;
    let mut tables = complete(inputs, registry, procfs, &plan, &inside, Some(&record), deadline)?;
    if let (Some(table), Some(tables)) = (plan.table(), tables.as_mut()) {
        tables.reconcile(table)?;
    }
    drop(tables);
    if record.addresses != addresses {
        record.addresses = addresses;
        registry.put(&record)?;
    }
    drop(inside);
    peers.settle(own, &inputs.manifests, None)
}

/// poststop: forgets the container, and makes those forget it whose sets it was in. Nothing but the id counts: the
/// namespace is gone or about to be, and its rules with it. No failure: an engine could do nothing about it, and the next
/// start repairs what was left.
pub(super) fn forget(id: &str, config: &ConfigFile, registry: &Registry, deadline: &Deadline) -> Result<(), Failure> {
    if registry.forget_alone(id)? {
        return Ok(());
    }
    let own = Own::read()?;
    capability::keep_only(&capability::WHILE_VISITING)?;
    // Pods of manifests count where an address is theirs as well. Mistakes in there are the next start's to tell.
    let manifests = load::loaded(config, Trust::Guarded).map(|loaded| loaded.manifests).unwrap_or_default();
    let mut peers = Peers::meet(registry, &manifests.inventory, |_| false, Some(id), deadline)?;
    registry.forget(id)?;
    peers.roster.remove(id);
    peers.settle(&own, &manifests, None)
}
