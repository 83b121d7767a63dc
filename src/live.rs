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

use crate::error::Failure;
use crate::kernel::netns::NamespaceId;
use crate::net::Family;
use crate::nft::members::{self, Change, changes};
use crate::nft::ruleset::Table;
use crate::policy::watch::{Difference, Holder, Holders, Identity, Watch};
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

/// The same of those only that have any of `addresses`.
fn holders_of<'a>(roster: &'a Roster, elsewhere: &'a [Elsewhere<'a>], addresses: &BTreeSet<IpAddr>) -> Holders<'a> {
    let here = roster.subjects.iter().map(|subject| (&*subject.identity, subject.addresses.as_slice()));
    let there = elsewhere.iter().map(|(identity, held)| (identity, *held));
    let meant = here.chain(there).filter(|(_, held)| held.iter().any(|address| addresses.contains(address)));
    Holders::new(meant.map(|(identity, addresses)| Holder { identity, addresses }))
}

/// The addresses that changed hands between two pictures of the host. A subject that is as it was moved nothing.
pub fn moved(before: &Roster, after: &Roster) -> BTreeSet<IpAddr> {
    let by_namespace = |roster: &'_ Roster| -> BTreeMap<NamespaceId, usize> {
        roster.subjects.iter().enumerate().map(|(index, subject)| (subject.netns, index)).collect()
    };
    let (old, new) = (by_namespace(before), by_namespace(after));
    let mut moved = BTreeSet::new();
    for (netns, index) in &old {
        let was = &before.subjects[*index];
        match new.get(netns).map(|index| &after.subjects[*index]) {
            Some(is) if is_as_it_was(was, is) => {}
            Some(is) => moved.extend(was.addresses.iter().chain(&is.addresses)),
            None => moved.extend(&was.addresses),
        }
    }
    let come = new.iter().filter(|(netns, _)| !old.contains_key(netns));
    moved.extend(come.flat_map(|(_, index)| after.subjects[*index].addresses.iter()));
    moved
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
    let (old, new) = (holders_of(before, elsewhere, &moved), holders_of(after, elsewhere, &moved));
    let addresses: Vec<IpAddr> = moved.into_iter().collect();
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
    let mut table = Table { comment: String::new(), sets: Vec::new(), chains: Vec::new() };
    for group in &watch.groups {
        let with_port = group.peers.iter().any(|peer| !peer.ports.is_empty());
        table.sets.extend(members::sets(&group.set, families(watch), with_port, &group.members(pods))?);
    }
    Ok(table)
}
