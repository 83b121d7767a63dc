//! The ruleset, asked for itself.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;

use crate::error::Failure;
use crate::net::{Direction, Packet, Payload, is_of_one_link};
use crate::nft::ruleset::Table;
use crate::nft::verdict::Place;
use crate::oci::{Requests, Sourced};
use crate::plan::{Cluster, Facts, Rules, rules};
use crate::policy::lookup::World;
use crate::policy::model::Policies;
use crate::policy::verdict::{Judgement, Peer, Why};
use crate::policy::watch::{Holder, Holders, Identity};
use crate::policy::world::Pod;
use crate::settings::Settings;

/// What the ruleset of one end says of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruleset {
    /// The same as the specification.
    Agrees(Decided),
    /// Something else: a bug.
    Differs {
        /// Whether the ruleset lets the packet pass. The specification says the opposite.
        passes: bool,
        /// By what.
        by: Decided,
    },
    /// It was not asked, and why: a sentence's end.
    NotAsked(String),
}

/// What decided in a ruleset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decided {
    /// There is no table: nothing is filtered.
    NoTable,
    /// No rule; the base chain's policy.
    Policy,
    /// A rule; of what passes the last that let it past a layer, where there was one.
    Rule {
        /// Its chain.
        chain: String,
        /// Its comment.
        comment: String,
    },
}

/// Holds what the specification said against a table; `None` where nothing is to be loaded.
pub fn compare(specified: bool, table: Option<&Table>, packet: &Packet) -> Ruleset {
    let (passes, by) = match table.map(|table| table.decide(packet)) {
        None => (true, Decided::NoTable),
        Some(decision) => {
            // Of what passes: the rule of a layer that let it, rather than the accept behind all of them.
            let of_layers = |(chain, _): &Place<'_>| chain.starts_with(packet.direction.name());
            let favour = decision.returned.filter(|place| decision.outcome.passes() && of_layers(place));
            let by = favour.or(decision.rule).map_or(Decided::Policy, |(chain, rule)| Decided::Rule {
                chain: chain.to_owned(),
                comment: rule.comment.clone(),
            });
            (decision.outcome.passes(), by)
        }
    };
    if passes == specified { Ruleset::Agrees(by) } else { Ruleset::Differs { passes, by } }
}

/// A pod's rules, or why there can be none.
type Compiled = Rc<Result<Rules, Failure>>;

/// The tables that the pods of a world would get by its policies alone.
pub(super) struct Tables<'w> {
    policies: &'w Policies,
    world: &'w World,
    peers: Vec<(Identity, &'w [IpAddr])>,
    /// See [`held_by_several`].
    shared: BTreeSet<IpAddr>,
    /// By namespace and name.
    known: RefCell<BTreeMap<(String, String), Compiled>>,
}

impl<'w> Tables<'w> {
    pub(super) fn new(policies: &'w Policies, world: &'w World) -> Tables<'w> {
        let peers = world.inventory().peers();
        let shared = held_by_several(&peers);
        Tables { policies, world, peers, shared, known: RefCell::default() }
    }

    /// Asks the table of `subject` about what `judgement` is of.
    pub(super) fn ask(
        &self,
        direction: Direction,
        subject: Option<&Pod>,
        judgement: &Judgement<'_>,
        peer: Peer<'_>,
        payload: Payload,
    ) -> Ruleset {
        let not = |why: &str| Ruleset::NotAsked(why.to_owned());
        match (&judgement.why, peer.address) {
            (Why::Itself, _) => not("what a pod sends to itself stays on lo"),
            // A neighbour may choose a link-local address that this node has on another link: it is no node's there.
            (Why::OwnNode, Some(address)) if address.is_loopback() || is_of_one_link(address) => {
                not("the node's address is of one link")
            }
            (
                Why::NoPod
                | Why::HostNetwork
                | Why::OwnNode
                | Why::Cluster(_)
                | Why::Network(..)
                | Why::Isolated(_)
                | Why::Free,
                address,
            ) => self.ask_plainly(direction, subject, judgement.allowed(), address, payload),
        }
    }

    pub(super) fn ask_plainly(
        &self,
        direction: Direction,
        subject: Option<&Pod>,
        specified: bool,
        address: Option<IpAddr>,
        payload: Payload,
    ) -> Ruleset {
        let not = |why: &str| Ruleset::NotAsked(why.to_owned());
        let Some(subject) = subject else { return not("there is no pod at this end") };
        if subject.host_network {
            return not("the host's network is never filtered");
        }
        let Some(peer) = address else { return not("the other end has no address yet") };
        if self.shared.contains(&peer) {
            return not(SEVERAL);
        }
        match &*self.of(subject) {
            Ok(rules) => compare(specified, rules.table.as_ref(), &Packet { direction, peer, payload }),
            Err(failure) => Ruleset::NotAsked(format!("there is none: {failure}")),
        }
    }

    fn of(&self, subject: &Pod) -> Compiled {
        let name = (subject.namespace.clone(), subject.name.clone());
        let mut known = self.known.borrow_mut();
        known.entry(name).or_insert_with(|| Rc::new(self.compile(subject))).clone()
    }

    fn compile(&self, subject: &Pod) -> Result<Rules, Failure> {
        let mut settings = Settings::decide(None, Requests::default())?;
        // Of policies alone.
        settings.always_denied = Sourced::builtin(BTreeSet::new(), "always-denied");
        let inventory = self.world.inventory();
        let identity = subject.identity(self.world.namespace_labels(&subject.namespace).into_owned());
        let pods = Holders::new(self.peers.iter().map(|(identity, addresses)| Holder { identity, addresses }));
        let node = subject.node.iter().flat_map(|node| self.world.addresses_of_node(node)).collect();
        let cluster = Cluster {
            policies: self.policies,
            identity: &identity,
            pods: &pods,
            nodes: &inventory.nodes,
            world: self.world,
            subject,
        };
        rules(&settings, &Facts { node, ..Facts::default() }, Some(&cluster))
    }
}

/// Why a table is not asked about an address of [`held_by_several`].
pub(super) const SEVERAL: &str = "several pods have the other end's address";

/// Addresses that pods have whom selectors can tell apart: a packet does not, and the two readings may differ in good
/// faith.
pub(super) fn held_by_several(peers: &[(Identity, &[IpAddr])]) -> BTreeSet<IpAddr> {
    let mut holders: BTreeMap<IpAddr, &Identity> = BTreeMap::new();
    let mut several = BTreeSet::new();
    for (identity, addresses) in peers {
        for address in *addresses {
            if holders.insert(*address, identity).is_some_and(|other| other != identity) {
                several.insert(*address);
            }
        }
    }
    several
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Transport;
    use crate::nft::ruleset::{Base, Chain, Hook, Rule, TableFamily, Verdict};

    fn table(verdict: Verdict) -> Table {
        let rule = Rule {
            matches: Vec::new(),
            statements: Vec::new(),
            verdict: Some(verdict),
            comment: "policies/web.yaml:12 spec.egress[0]".to_owned(),
        };
        let base = Some(Base { hook: Hook::Output, accepts: true, devices: Vec::new(), every_device: false });
        let chain = Chain { name: "output".to_owned(), base, rules: vec![rule] };
        Table { chains: vec![chain], ..Table::empty(TableFamily::Inet) }
    }

    const PACKET: Packet = Packet {
        direction: Direction::Egress,
        peer: IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)),
        payload: Payload::Transport { protocol: Transport::Tcp, port: 80 },
    };

    #[test]
    fn a_ruleset_that_contradicts_the_specification_is_told_with_the_rule_that_did() {
        let by =
            || Decided::Rule { chain: "output".to_owned(), comment: "policies/web.yaml:12 spec.egress[0]".to_owned() };
        let (drops, accepts) = (table(Verdict::Drop), table(Verdict::Accept));
        assert_eq!(compare(true, Some(&drops), &PACKET), Ruleset::Differs { passes: false, by: by() });
        assert_eq!(compare(false, Some(&accepts), &PACKET), Ruleset::Differs { passes: true, by: by() });
        assert_eq!(compare(false, None, &PACKET), Ruleset::Differs { passes: true, by: Decided::NoTable });
        assert_eq!(compare(false, Some(&drops), &PACKET), Ruleset::Agrees(by()));
        assert_eq!(compare(true, None, &PACKET), Ruleset::Agrees(Decided::NoTable));
        let ingress = Packet { direction: Direction::Ingress, ..PACKET };
        assert_eq!(compare(true, Some(&drops), &ingress), Ruleset::Agrees(Decided::Policy));
    }
}
