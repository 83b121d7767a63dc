//! Who stands in a container's named sets, and how that changes as pods come and go.
//!
//! A container's rules stay as they are while its peers change: the rules ask named sets, and a [`Watch`] says which pods
//! belong in each. It is recorded with the container, so that whoever starts or stops later can bring the sets up to
//! date without knowing the policies they came from: these may have been edited since, and count from the next start or
//! `netlatch reload` on.
//!
//! What a pod contributes is a function of its own identity and addresses. So a change is computed for the addresses that
//! changed hands and for nobody else, and taking out is exactly the reverse of putting in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::compile::size;
use super::model::{Action, Labels, Namespaces, Port, Selector};
use super::names::NamedPort;
use crate::error::{Cause, Failure};
use crate::net::{Cidr, Member};

/// The namespace of what names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// The sets of ports of virtual addresses that may be sent to, without the family.
pub const SERVICES_ACCEPTED: &str = "egress_service_1";
/// The sets of those that may not.
pub const SERVICES_DENIED: &str = "egress_service_2";

/// Most questions that the selectors of one container's policies may ask: for each peer, of each identity that it may mean,
/// its conditions with their values, ports and exceptions. 10,000 policies among 10,000 pods ask some 200 million, in two
/// seconds; ten times that would miss the deadline of a start.
pub const MAX_QUESTIONS: usize = 300_000_000;

/// What `what` asks of the pods is more than can be answered in time.
pub fn too_many_questions(what: &str) -> Failure {
    let problem =
        format!("with {what} there are more than {MAX_QUESTIONS} questions to ask of the pods (MAX_QUESTIONS)");
    Failure::new("follow the policies", Cause::Limit(problem))
}

/// What selectors see of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// The name of its namespace.
    pub namespace: String,
    /// The labels of its namespace, its name among them.
    pub namespace_labels: Labels,
    /// Its own labels.
    pub labels: Labels,
    /// Its named ports.
    pub ports: Vec<NamedPort>,
}

impl Identity {
    /// Whether it is what a container has that says nothing of itself: the default namespace and no labels.
    pub fn is_anybody(&self) -> bool {
        self.namespace == DEFAULT_NAMESPACE && self.labels.is_empty()
    }
}

/// A pod with its addresses, as a peer.
#[derive(Clone, Copy, Debug)]
pub struct Holder<'a> {
    /// Who it is.
    pub identity: &'a Identity,
    /// Its addresses.
    pub addresses: &'a [IpAddr],
}

/// Who belongs in the named sets of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Watch {
    /// Whether the container's table has sets for IPv6: where IPv6 is off there are none.
    pub ipv6: bool,
    /// Whether it has sets for the virtual addresses of services ([`SERVICES_ACCEPTED`], [`SERVICES_DENIED`]).
    pub services: bool,
    /// One for each pair of sets.
    pub groups: Vec<WatchedGroup>,
}

/// Who belongs in one named set (of each family).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WatchedGroup {
    /// The sets' name, without the family.
    pub set: String,
    /// What becomes of members. Where an address is held by several pods at once, the packet does not tell them apart: to
    /// be denied, one that belongs here suffices; to be let through, or past a tier, all must belong.
    pub action: Action,
    /// Pods; sorted, nobody twice.
    pub peers: Vec<WatchedPeer>,
}

/// Some pods, and what is spoken to them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WatchedPeer {
    /// In which namespaces.
    pub namespaces: Namespaces,
    /// Which of them.
    pub pods: Selector,
    /// Of their addresses those alone that are in the first block and in none of the others: an `ipBlock` whose ports have
    /// names, which only pods can resolve. `None` for all their addresses.
    pub within: Option<(Cidr, Vec<Cidr>)>,
    /// The ports that go into the set beside the address: single ones, and names that each pod resolves for itself. Empty
    /// where the set holds addresses alone.
    pub ports: Vec<Port>,
}

impl WatchedPeer {
    /// Whether the pod is meant.
    pub fn selects(&self, identity: &Identity) -> bool {
        self.namespaces.selects(&identity.namespace, &identity.namespace_labels) && self.pods.selects(&identity.labels)
    }

    /// What stands in the set for one address of a pod that is meant.
    fn members(&self, identity: &Identity, address: IpAddr, into: &mut BTreeSet<Member>) {
        if let Some((block, except)) = &self.within
            && (!block.contains(address) || except.iter().any(|hole| hole.contains(address)))
        {
            return;
        }
        if self.ports.is_empty() {
            into.insert(Member { address, port: None });
        }
        for port in &self.ports {
            match port {
                // Only single ports stand beside addresses; ranges are asked by a rule.
                Port::Number { transport, ports } => {
                    into.insert(Member { address, port: Some((*transport, ports.first())) });
                }
                Port::Named { transport, name } => {
                    let meant = |port: &&NamedPort| {
                        port.name == *name && transport.is_none_or(|transport| transport == port.protocol)
                    };
                    let named = identity.ports.iter().filter(meant);
                    into.extend(named.map(|port| Member { address, port: Some((port.protocol, port.port)) }));
                }
            }
        }
    }
}

impl WatchedGroup {
    fn of_address(&self, identity: &Identity, address: IpAddr) -> BTreeSet<Member> {
        let mut members = BTreeSet::new();
        for peer in self.peers.iter().filter(|peer| peer.selects(identity)) {
            peer.members(identity, address, &mut members);
        }
        members
    }

    /// What stands in the set for `address`, which all of `holders` have.
    fn of_shared<'a>(&self, holders: impl IntoIterator<Item = &'a Identity>, address: IpAddr) -> BTreeSet<Member> {
        let mut each = holders.into_iter().map(|identity| self.of_address(identity, address));
        let first = each.next().unwrap_or_default();
        each.fold(first, |so_far, next| if self.action == Action::Deny { &so_far | &next } else { &so_far & &next })
    }

    /// How many questions [`WatchedGroup::members`] asks of these pods at most, against [`MAX_QUESTIONS`].
    pub fn questions(&self, holders: &Holders<'_>) -> usize {
        let of = |peer: &WatchedPeer| {
            let asked = match &peer.namespaces {
                Namespaces::Own(namespace) => holders.in_namespace.get(namespace.as_str()).copied().unwrap_or_default(),
                Namespaces::Selected(_) => holders.by_identity.len(),
            };
            let except = peer.within.as_ref().map_or(0, |(_, except)| except.len());
            (size(&peer.namespaces, &peer.pods) + peer.ports.len() + except).saturating_mul(asked)
        };
        self.peers.iter().map(of).fold(0, usize::saturating_add)
    }

    /// Everything that stands in the set when these pods are all there are.
    pub fn members(&self, holders: &Holders<'_>) -> Vec<Member> {
        let mut members = BTreeSet::new();
        // Most peers mean one namespace alone, and are not asked about the others.
        let (mut of_one, mut of_any): (BTreeMap<&str, Vec<&WatchedPeer>>, Vec<&WatchedPeer>) = Default::default();
        for peer in &self.peers {
            match &peer.namespaces {
                Namespaces::Own(namespace) => of_one.entry(namespace).or_default().push(peer),
                Namespaces::Selected(_) => of_any.push(peer),
            }
        }
        for (identity, addresses) in &holders.by_identity {
            let asked = of_one.get(identity.namespace.as_str()).into_iter().flatten().chain(&of_any);
            for peer in asked.filter(|peer| peer.selects(identity)) {
                addresses.iter().for_each(|address| peer.members(identity, *address, &mut members));
            }
        }
        for (address, identities) in &holders.shared {
            members.retain(|member| member.address != *address);
            members.extend(self.of_shared(identities.iter().copied(), *address));
        }
        members.into_iter().collect()
    }
}

/// Pods with their addresses, gathered so that each identity is asked once.
#[derive(Debug, Default)]
pub struct Holders<'a> {
    by_identity: BTreeMap<&'a Identity, Vec<IpAddr>>,
    /// How many of them each namespace has.
    in_namespace: BTreeMap<&'a str, usize>,
    /// Every address with who has it, ascending.
    by_address: Vec<(IpAddr, &'a Identity)>,
    /// Addresses that several pods have.
    shared: BTreeMap<IpAddr, Vec<&'a Identity>>,
}

impl<'a> Holders<'a> {
    /// Gathers pods.
    pub fn new(pods: impl IntoIterator<Item = Holder<'a>>) -> Holders<'a> {
        let mut holders = Holders::default();
        // Replicas have one identity between them, mostly: told apart by where it stands, it is compared once.
        let mut replicas: BTreeMap<*const Identity, (&'a Identity, Vec<IpAddr>)> = BTreeMap::new();
        for pod in pods.into_iter().filter(|pod| !pod.addresses.is_empty()) {
            let (_, theirs) = replicas.entry(pod.identity).or_insert_with(|| (pod.identity, Vec::new()));
            theirs.extend(pod.addresses);
            holders.by_address.extend(pod.addresses.iter().map(|address| (*address, pod.identity)));
        }
        for (identity, addresses) in replicas.into_values() {
            holders.by_identity.entry(identity).or_default().extend(addresses);
        }
        for identity in holders.by_identity.keys() {
            *holders.in_namespace.entry(&identity.namespace).or_default() += 1;
        }
        holders.by_address.sort_unstable_by_key(|(address, _)| place(*address));
        let same = holders.by_address.chunk_by(|(one, _), (other, _)| one == other).filter(|same| same.len() > 1);
        holders.shared = same.map(|same| (same[0].0, same.iter().map(|(_, identity)| *identity).collect())).collect();
        holders
    }

    /// Who has `address`; replicas more than once, in no order.
    fn of(&self, address: IpAddr) -> impl Iterator<Item = &'a Identity> {
        let from = self.by_address.partition_point(|(other, _)| place(*other) < place(address));
        let there = self.by_address[from..].iter().take_while(move |(other, _)| *other == address);
        there.map(|(_, identity)| *identity)
    }
}

/// Where an address stands among others. Their own order is the same, and compares byte by byte.
fn place(address: IpAddr) -> (bool, u128) {
    match address {
        IpAddr::V4(v4) => (false, v4.to_bits().into()),
        IpAddr::V6(v6) => (true, v6.to_bits()),
    }
}

/// What changes in one set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The sets' name, without the family.
    pub set: String,
    /// Who comes.
    pub add: Vec<Member>,
    /// Who goes.
    pub remove: Vec<Member>,
    /// What becomes of members.
    pub action: Action,
}

impl Difference {
    /// The addresses that may now reach less than before: flows that were let through may have to end. An address may also
    /// have been another pod's, whose flows the new one must not take over.
    pub fn tightened(&self) -> impl Iterator<Item = IpAddr> {
        let (add, remove) = match self.action {
            Action::Accept => (&[][..], self.remove.as_slice()),
            Action::Deny => (self.add.as_slice(), &[][..]),
            // Past a tier may be more or less.
            Action::Pass => (self.add.as_slice(), self.remove.as_slice()),
        };
        add.iter().chain(remove).map(|member| member.address)
    }
}

impl Watch {
    /// Whether there is nothing to follow.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && !self.services
    }

    /// What changes in the sets when `addresses` change hands: `before` and `after` are the pods that had, and that have,
    /// any of them. Sets that stay as they are are left out.
    pub fn differences(&self, addresses: &[IpAddr], before: &Holders<'_>, after: &Holders<'_>) -> Vec<Difference> {
        let of = |group: &WatchedGroup, holders: &Holders<'_>| {
            let each = addresses.iter().map(|address| group.of_shared(holders.of(*address), *address));
            each.fold(BTreeSet::new(), |so_far, next| &so_far | &next)
        };
        let difference = |group: &WatchedGroup| {
            let (old, new) = (of(group, before), of(group, after));
            Difference {
                set: group.set.clone(),
                add: new.difference(&old).copied().collect(),
                remove: old.difference(&new).copied().collect(),
                action: group.action,
            }
        };
        self.groups.iter().map(difference).filter(|d| !d.add.is_empty() || !d.remove.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{PortRange, Transport};
    use crate::policy::model::{Operator, Requirement};
    use crate::policy::world::NAMESPACE_NAME_LABEL;

    fn identity(app: &str, ports: &[(&str, u16)]) -> Identity {
        Identity {
            namespace: "shop".into(),
            namespace_labels: [(NAMESPACE_NAME_LABEL.to_owned(), "shop".to_owned())].into(),
            labels: [("app".to_owned(), app.to_owned())].into(),
            ports: ports
                .iter()
                .map(|(name, port)| NamedPort { name: (*name).into(), port: *port, protocol: Transport::Tcp })
                .collect(),
        }
    }

    fn group(app: &str, any: bool, ports: Vec<Port>) -> WatchedGroup {
        let requirement = Requirement { key: "app".into(), operator: Operator::In, values: vec![app.into()] };
        let pods = Selector { requirements: vec![requirement] };
        let peer = WatchedPeer { namespaces: Namespaces::Own("shop".into()), pods, within: None, ports };
        let action = if any { Action::Deny } else { Action::Accept };
        WatchedGroup { set: "s".into(), action, peers: vec![peer] }
    }

    fn addresses(text: &[&str]) -> Vec<IpAddr> {
        text.iter().map(|a| a.parse().unwrap()).collect()
    }

    fn shown(members: &[Member]) -> Vec<String> {
        members
            .iter()
            .map(|m| match m.port {
                None => m.address.to_string(),
                Some((transport, port)) => format!("{transport}/{}:{port}", m.address),
            })
            .collect()
    }

    #[test]
    fn each_pod_resolves_a_named_port_for_itself() {
        let (one, other, none) =
            (identity("web", &[("http", 80)]), identity("web", &[("http", 8080)]), identity("web", &[]));
        let (a, b, c) = (addresses(&["10.0.0.1", "fd00::1"]), addresses(&["10.0.0.2"]), addresses(&["10.0.0.3"]));
        let holders = Holders::new([
            Holder { identity: &one, addresses: &a },
            Holder { identity: &other, addresses: &b },
            Holder { identity: &none, addresses: &c },
        ]);
        let dns = Port::Number { transport: Transport::Udp, ports: PortRange::new(53, 53).unwrap() };
        let http = Port::Named { transport: Some(Transport::Tcp), name: "http".into() };
        assert_eq!(
            shown(&group("web", false, vec![dns, http]).members(&holders)),
            [
                "tcp/10.0.0.1:80",
                "udp/10.0.0.1:53",
                "tcp/10.0.0.2:8080",
                "udp/10.0.0.2:53",
                "udp/10.0.0.3:53",
                "tcp/fd00::1:80",
                "udp/fd00::1:53"
            ]
        );
        let udp = Port::Named { transport: Some(Transport::Udp), name: "http".into() };
        assert!(group("web", false, vec![udp]).members(&holders).is_empty());
    }

    #[test]
    fn an_address_of_two_pods_is_let_through_only_where_both_are_and_denied_where_either_is() {
        let (web, db) = (identity("web", &[]), identity("db", &[]));
        let (both, own) = (addresses(&["10.0.0.1", "10.0.0.2"]), addresses(&["10.0.0.1"]));
        let holders =
            Holders::new([Holder { identity: &web, addresses: &both }, Holder { identity: &db, addresses: &own }]);
        assert_eq!(shown(&group("web", false, vec![]).members(&holders)), ["10.0.0.2"]);
        assert_eq!(shown(&group("web", true, vec![]).members(&holders)), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(shown(&group("db", true, vec![]).members(&holders)), ["10.0.0.1"]);
    }

    #[test]
    fn what_a_pod_brings_is_what_it_takes_away() {
        let (web, db) = (identity("web", &[]), identity("db", &[]));
        let own = addresses(&["10.0.0.1", "fd00::1"]);
        let watch =
            Watch { ipv6: true, services: false, groups: vec![group("web", false, vec![]), group("db", true, vec![])] };
        let nobody = Holders::default();
        let web = Holders::new([Holder { identity: &web, addresses: &own }]);
        let db = Holders::new([Holder { identity: &db, addresses: &own }]);
        let come = watch.differences(&own, &nobody, &web);
        let go = watch.differences(&own, &web, &nobody);
        assert_eq!((come.len(), go.len()), (1, 1));
        assert_eq!((&come[0].add, &come[0].remove), (&go[0].remove, &go[0].add));
        assert_eq!(shown(&come[0].add), ["10.0.0.1", "fd00::1"]);
        // The address passes from one to the other: out of the one group, into the other.
        let hands = watch.differences(&own, &web, &db);
        assert_eq!(hands.len(), 2);
        assert_eq!((shown(&hands[0].remove), shown(&hands[1].add)), (shown(&come[0].add), shown(&come[0].add)));
        assert!(watch.differences(&own, &web, &web).is_empty());
        // Who leaves what is let through, or comes to what is denied, may have to lose its flows.
        let tightened = |differences: &[Difference]| differences.iter().flat_map(Difference::tightened).count();
        assert_eq!((tightened(&come), tightened(&go), tightened(&hands)), (0, 2, 4));
    }
}
