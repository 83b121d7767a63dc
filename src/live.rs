//! What changes in the named sets of running containers as others come and go.
//!
//! There is no daemon: whoever starts or stops does it, under the registry's lock. The hook of a container that starts puts
//! its addresses into the sets of every running container that selects it, before the container's first instruction; at
//! poststop they are taken out, before the engine gives them to another. What is to change is computed here, from two
//! pictures of the host and nothing else; only those whose sets change are visited.
//!
//! The order makes it safe to be killed anywhere: the roster is written with the new picture and marked unfinished, then
//! the sets are changed, then the mark goes. Whoever finds the mark brings every set about anew ([`sets`]).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;

use crate::error::Failure;
use crate::kernel::netns::NamespaceId;
use crate::net::Family;
use crate::nft::members::{self, Change, changes};
use crate::nft::ruleset::{Table, TableFamily};
use crate::policy::lookup::World;
use crate::policy::model::{Action, Policies};
use crate::policy::parse::Manifests;
use crate::policy::service::{Ports, ports};
use crate::policy::watch::{Difference, Holder, Holders, Identity, SERVICES_ACCEPTED, SERVICES_DENIED, Watch};
use crate::policy::world::{Inventory, Pod};
use crate::registry::{Roster, Subject};

/// A peer that is no container of this host: its identity and addresses, from a manifest.
pub type Elsewhere<'a> = (Identity, &'a [IpAddr]);

/// What one running container's sets are to gain and to lose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The changes, by set.
    pub changes: Vec<Change>,
    /// Addresses whose flows may have to end.
    pub tightened: Vec<IpAddr>,
}

/// Every pod there is: the roster's and the manifests'.
pub fn holders<'a>(roster: &'a Roster, elsewhere: &'a [Elsewhere<'a>]) -> Holders<'a> {
    let here = roster.subjects.iter().map(|subject| (&*subject.identity, subject.addresses.as_slice()));
    let there = elsewhere.iter().map(|(identity, held)| (identity, *held));
    Holders::new(here.chain(there).map(|(identity, addresses)| Holder { identity, addresses }))
}

/// The same of those only that have any of `addresses`, which are sorted.
fn holders_of<'a>(roster: &'a Roster, elsewhere: &'a [Elsewhere<'a>], addresses: &[IpAddr]) -> Holders<'a> {
    let is_meant = |address: &IpAddr| addresses.binary_search(address).is_ok();
    let here = roster.subjects.iter().map(|subject| (&*subject.identity, subject.addresses.as_slice()));
    let there = elsewhere.iter().map(|(identity, held)| (identity, *held));
    let meant = here.chain(there).filter(|(_, held)| held.iter().any(is_meant));
    Holders::new(meant.map(|(identity, addresses)| Holder { identity, addresses }))
}

/// The addresses that changed hands between two pictures of the host. A subject that is as it was moved nothing.
pub fn moved(before: &Roster, after: &Roster) -> BTreeSet<IpAddr> {
    let (old, new) = (not_in(after, before), not_in(before, after));
    let mut moved = BTreeSet::new();
    for (netns, was) in &old {
        match new.get(netns) {
            Some(is) if is_as_it_was(was, is) => {}
            Some(is) => moved.extend(was.addresses.iter().chain(&is.addresses)),
            None => moved.extend(&was.addresses),
        }
    }
    let come = new.iter().filter(|(netns, _)| !old.contains_key(netns));
    moved.extend(come.flat_map(|(_, is)| is.addresses.iter()));
    moved
}

/// The subjects of a picture, but for those that it visibly shares with the other one. They keep their place there, unless
/// somebody before them has gone.
fn not_in<'a>(other: &Roster, picture: &'a Roster) -> BTreeMap<NamespaceId, &'a Subject> {
    let shared = |(index, subject): &(usize, &Rc<Subject>)| {
        other.subjects.get(*index).is_some_and(|same| Rc::ptr_eq(subject, same))
    };
    let rest = picture.subjects.iter().enumerate().filter(|subject| !shared(subject));
    rest.map(|(_, subject)| (subject.netns, &**subject)).collect()
}

fn is_as_it_was(was: &Subject, is: &Subject) -> bool {
    was.addresses == is.addresses && (was.identity.is(&is.identity) || *was.identity == *is.identity)
}

/// What changes in the sets of those in `after` whose peers moved, by their place there. Whoever stays as it is is not
/// among them, and neither is the subject in the namespace `but`, whose table was made from the picture after.
pub fn updates(
    before: &Roster,
    after: &Roster,
    elsewhere: &[Elsewhere<'_>],
    but: Option<NamespaceId>,
) -> Vec<(usize, Update)> {
    let moved = moved(before, after);
    if moved.is_empty() {
        return Vec::new();
    }
    let addresses: Vec<IpAddr> = moved.into_iter().collect();
    let (old, new) = (holders_of(before, elsewhere, &addresses), holders_of(after, elsewhere, &addresses));
    let mut updates = Vec::new();
    // Replicas share a watch, and so the answer.
    for watch in after.watches() {
        let Some(update) = update(watch, &watch.differences(&addresses, &old, &new)) else { continue };
        let theirs = |subject: &Subject| subject.watch.as_ref().is_some_and(|own| own.is(watch));
        let watching = after.subjects.iter().enumerate().filter(|(_, subject)| theirs(subject));
        let others = watching.filter(|(_, subject)| Some(subject.netns) != but);
        updates.extend(others.map(|(index, _)| (index, update.clone())));
    }
    updates
}

/// What changes in the sets of one whose rules were made from the picture before, and follow `watch`: members that come and go.
/// As in [`updates`], of which this is the part of somebody who is not entered with a watch yet; services are not looked at.
pub fn caught_up(before: &Roster, after: &Roster, elsewhere: &[Elsewhere<'_>], watch: &Watch) -> Vec<Change> {
    let moved = moved(before, after);
    if moved.is_empty() {
        return Vec::new();
    }
    let addresses: Vec<IpAddr> = moved.into_iter().collect();
    let (old, new) = (holders_of(before, elsewhere, &addresses), holders_of(after, elsewhere, &addresses));
    update(watch, &watch.differences(&addresses, &old, &new)).map_or_else(Vec::new, |update| update.changes)
}

/// What changes in the sets of virtual addresses, where pods that stand behind one by their labels come or go. The policies
/// are those of now: a container whose rules are older has an answer of their age until `netlatch reload`.
///
/// # Errors
/// [`Cause::Limit`](crate::error::Cause::Limit) where services and policies have grown past what can be asked.
pub fn service_updates(
    before: &Roster,
    after: &Roster,
    manifests: &Manifests,
    but: Option<NamespaceId>,
) -> Result<Vec<(usize, Update)>, Failure> {
    let inventory = &manifests.inventory;
    let (old, new) = (not_in(after, before), not_in(before, after));
    let behind = |subject: &Subject, other: &BTreeMap<NamespaceId, &Subject>| {
        inventory.is_selected_by_service(&subject.identity.namespace, &subject.identity.labels)
            && other.get(&subject.netns).is_none_or(|was| !is_as_it_was(was, subject))
    };
    let came = new.values().any(|subject| behind(subject, &old));
    if !came && !old.values().any(|subject| behind(subject, &new)) {
        return Ok(Vec::new());
    }
    let (old, new) = (world(before, inventory), world(after, inventory));
    let update = |(index, subject): (usize, &Rc<Subject>)| {
        let watch = subject.watch.as_ref().filter(|watch| watch.services && Some(subject.netns) != but)?;
        let pod = pod(subject);
        let of = |world| ports(&manifests.policies, world, &pod);
        let (old, new) = match of(&old).and_then(|old| Ok((old, of(&new)?))) {
            Ok(both) => both,
            Err(failure) => return Some(Err(failure)),
        };
        let sets = [
            (SERVICES_ACCEPTED, Action::Accept, old.accepted, new.accepted),
            (SERVICES_DENIED, Action::Deny, old.denied, new.denied),
        ];
        let differences = sets.map(|(set, action, old, new)| Difference {
            set: set.to_owned(),
            add: new.iter().filter(|member| old.binary_search(member).is_err()).copied().collect(),
            remove: old.iter().filter(|member| new.binary_search(member).is_err()).copied().collect(),
            action,
        });
        Some(Ok((index, self::update(watch, &differences)?)))
    };
    after.subjects.iter().enumerate().filter_map(update).collect()
}

/// The sets of virtual addresses of a container as they should be, into a table of [`sets`].
///
/// # Errors
/// As there.
pub fn service_sets(
    table: &mut Table,
    watch: &Watch,
    policies: &Policies,
    world: &World,
    subject: &Subject,
) -> Result<(), Failure> {
    if watch.services {
        let Ports { accepted, denied } = ports(policies, world, &pod(subject))?;
        for (set, members) in [(SERVICES_ACCEPTED, accepted), (SERVICES_DENIED, denied)] {
            table.sets.extend(members::sets(set, families(watch), true, &members)?);
        }
    }
    Ok(())
}

/// The inventory with the pods of this host, for the specification: asked for services alone, and empty where there are none.
pub fn world(roster: &Roster, inventory: &Inventory) -> World {
    if !inventory.has_services() {
        return World::default();
    }
    let mut inventory = inventory.clone();
    inventory.pods.extend(roster.subjects.iter().map(|subject| pod(subject)));
    World::new(inventory)
}

/// A subject as the specification sees it. Its name is its first container's id.
pub fn pod(subject: &Subject) -> Pod {
    let id = subject.containers.first().map_or("", |container| &container.id);
    Pod::of_container(id, &subject.identity, subject.addresses.clone())
}

fn update(watch: &Watch, differences: &[Difference]) -> Option<Update> {
    let families = families(watch);
    let changes: Vec<Change> = differences.iter().flat_map(|d| changes(&d.set, families, &d.add, &d.remove)).collect();
    let tightened: BTreeSet<IpAddr> = differences.iter().flat_map(Difference::tightened).collect();
    (!changes.is_empty()).then(|| Update { changes, tightened: tightened.into_iter().collect() })
}

fn families(watch: &Watch) -> &'static [Family] {
    if watch.ipv6 { &Family::BOTH } else { &[Family::V4] }
}

/// The sets of a watch as they should be when `pods` are all there are: a table of sets alone, to bring the kernel's about.
///
/// # Errors
/// [`Cause::Internal`](crate::error::Cause::Internal) where a watch contradicts itself.
pub fn sets(watch: &Watch, pods: &Holders<'_>) -> Result<Table, Failure> {
    let mut table = Table::empty(TableFamily::Inet);
    for group in &watch.groups {
        let with_port = group.peers.iter().any(|peer| !peer.ports.is_empty());
        table.sets.extend(members::sets(&group.set, families(watch), with_port, &group.members(pods))?);
    }
    Ok(table)
}
