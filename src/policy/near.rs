//! The rules that almost allowed a denied packet, and what was missing.
//!
//! Every rule that could have allowed it gets a distance: the sum of what it lacks. A label counts 1, a namespace or port
//! 2, a peer of another kind more than any of these together usually do. The nearest are told; among equals the first
//! ones read. A rule that is not asked, standing behind the one that decided, is not near. This is advice: it decides
//! nothing.

use std::fmt::{self, Write as _};

use super::lookup::World;
use super::model::{Action, ClusterPolicy, Labels, Namespaces, Port, Rule, Selector, Tier, Who};
use super::verdict::{Flow, Judge, Judgement, Peer, Why};
use super::why::Placed;
use super::world::Pod;
use crate::net::{Direction, Family, Payload, PortRange};
use crate::printable;

/// What a rule lacks beyond this is no near miss.
const FAR: u32 = 12;

/// Most near misses that are told.
const TOLD: usize = 3;

/// A rule that almost allowed a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miss<'a> {
    /// The policy, such as `NetworkPolicy shop/allow-web`.
    pub policy: String,
    /// Its rule.
    pub rule: &'a Rule,
    /// What was missing, each a clause; at least one.
    pub lacks: Vec<String>,
    /// How far off it was.
    pub distance: u32,
    /// Whether the policy governs the pod. One that does not would allow the packet, and was written for other pods.
    pub governs: bool,
}

impl fmt::Display for Miss<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.policy, Placed(&self.rule.origin), self.lacks.join(", and "))
    }
}

/// What is missing, and how much of it.
#[derive(Debug, Default)]
struct Gap {
    lacks: Vec<String>,
    distance: u32,
}

impl Gap {
    fn of(distance: u32, lack: String) -> Gap {
        // It may cite labels of the inventory, which nobody checked.
        Gap { lacks: vec![printable::line(&lack).into_owned()], distance }
    }

    fn and(mut self, other: Gap) -> Gap {
        self.lacks.extend(other.lacks);
        Gap { lacks: self.lacks, distance: self.distance + other.distance }
    }
}

impl<'a> Judge<'a> {
    /// The rules that came nearest to allowing what `judgement` denies, at most three, the nearest first; none where it is
    /// allowed. Where no rule that governs the pod comes near, those that would allow the packet to other pods of its
    /// namespace: the label that is wrong may be the pod's own.
    pub fn nearest_misses(
        &self,
        judgement: &Judgement<'a>,
        direction: Direction,
        subject: &Pod,
        peer: Peer<'_>,
        payload: Payload,
    ) -> Vec<Miss<'a>> {
        let denied_in = match &judgement.why {
            _ if judgement.allowed() => return Vec::new(),
            Why::Cluster(cited) => Some(cited.policy.tier),
            Why::Isolated(_) => None,
            Why::NoPod | Why::HostNetwork | Why::Itself | Why::OwnNode | Why::Network(..) | Why::Free => {
                return Vec::new();
            }
        };
        let flow = Flow { world: self.world(), direction, subject, peer, payload };
        let near = Near { flow };
        let governing = self.governing(direction, subject);
        let mut misses = Vec::new();
        let mut add = |policy: &dyn fmt::Display, rule: &'a Rule, gap: Gap, governs: bool| {
            if gap.distance <= FAR && !gap.lacks.is_empty() {
                let Gap { lacks, distance } = gap;
                misses.push(Miss { policy: policy.to_string(), rule, lacks, distance, governs });
            }
        };
        // Passing on is as good where what comes next allows.
        let next = Judgement { why: flow.behind_admin(&governing, &mut Vec::new()), passed: Vec::new() };
        for (policy, rule) in asked(&flow, &governing.admin) {
            let helps = match rule.action {
                Action::Accept => true,
                Action::Deny => false,
                Action::Pass => next.allowed(),
            };
            if helps {
                add(policy, rule, near.rule(rule), true);
            }
        }
        if denied_in == Some(Tier::Baseline) {
            for (policy, rule) in asked(&flow, &governing.baseline).filter(|(_, rule)| rule.action != Action::Deny) {
                add(policy, rule, near.rule(rule), true);
            }
        }
        if denied_in != Some(Tier::Admin) {
            for policy in self.network_policies_in(&subject.namespace) {
                let governs = policy.pods.selects(&subject.labels);
                for rule in policy.rules(direction).into_iter().flatten() {
                    if governs {
                        add(policy, rule, near.rule(rule), true);
                    } else if flow.matches(rule) {
                        let whose = format!("its podSelector does not select {subject}: the labels");
                        add(policy, rule, near.selector(&policy.pods, &subject.labels, &whose, 1), false);
                    }
                }
            }
        }
        misses.sort_by_key(|miss| (!miss.governs, miss.distance));
        let governs = misses.first().is_some_and(|miss| miss.governs);
        misses.retain(|miss| miss.governs == governs);
        misses.truncate(TOLD);
        misses
    }
}

/// The rules of a tier that are asked in vain: all before the one that matches.
fn asked<'p, 'a>(
    flow: &Flow<'_>,
    tier: &'p [&'a ClusterPolicy],
) -> impl Iterator<Item = (&'a ClusterPolicy, &'a Rule)> + use<'p, 'a> {
    let rules = tier.iter().flat_map(|policy| policy.rules(flow.direction).iter().map(|rule| (*policy, rule)));
    let asked: Vec<_> = rules.take_while(|(_, rule)| !flow.matches(rule)).collect();
    asked.into_iter()
}

struct Near<'w> {
    flow: Flow<'w>,
}

impl Near<'_> {
    fn world(&self) -> &World {
        self.flow.world
    }

    /// Who the peer is, in a sentence.
    fn peer(&self) -> &'static str {
        match self.flow.direction {
            Direction::Egress => "the destination",
            Direction::Ingress => "the source",
        }
    }

    fn rule(&self, rule: &Rule) -> Gap {
        let peers = if self.flow.matches_peers(rule) {
            Gap::default()
        } else {
            let gaps = rule.peers.iter().map(|peer| self.who(&peer.who));
            gaps.min_by_key(|gap| gap.distance).unwrap_or_default()
        };
        let ports = if self.flow.matches_ports(rule) { Gap::default() } else { Gap::of(2, self.ports(&rule.ports)) };
        peers.and(ports)
    }

    fn who(&self, who: &Who) -> Gap {
        let (peer, Peer { pod, address }) = (self.peer(), self.flow.peer);
        match who {
            Who::Pods { namespaces, pods } => match pod {
                None => Gap::of(8, format!("{peer} is no pod")),
                Some(pod) if pod.host_network => Gap::of(8, format!("{peer} is on the host's network")),
                Some(pod) => {
                    let there = match namespaces {
                        Namespaces::Own(own) if *own == pod.namespace => Gap::default(),
                        Namespaces::Own(own) => {
                            Gap::of(3, format!("{peer} is not in namespace {own} and there is no namespaceSelector"))
                        }
                        Namespaces::Selected(selector) => {
                            let labels = self.world().namespace_labels(&pod.namespace);
                            let what = format!("the labels of namespace {}", pod.namespace);
                            self.selector(selector, &labels, &what, 2)
                        }
                    };
                    there.and(self.selector(pods, &pod.labels, &format!("{peer}'s labels"), 1))
                }
            },
            Who::Block { cidr, except } => match address {
                None => Gap::of(8, format!("{peer} has no address yet")),
                Some(address) => match except.iter().find(|hole| cidr.contains(address) && hole.contains(address)) {
                    Some(hole) => Gap::of(1, format!("{address} is in the except block {hole} of {cidr}")),
                    None if Family::of(address) != cidr.family() => {
                        Gap::of(7, format!("{address} is {}, and {cidr} is not", Family::of(address)))
                    }
                    None => Gap::of(6, format!("{address} is not in {cidr}")),
                },
            },
            Who::Nodes(selector) => match address.and_then(|address| self.world().node_at(address)) {
                None => Gap::of(8, format!("{peer} is no node")),
                Some(node) => self.selector(selector, &node.labels, &format!("the labels of node {}", node.name), 1),
            },
            Who::DomainNames(names) => {
                Gap::of(8, format!("which addresses {} has is not known here", names.join(", ")))
            }
        }
    }

    /// What labels lack for a selector; `whose` begins the clause.
    fn selector(&self, selector: &Selector, labels: &Labels, whose: &str, weight: u32) -> Gap {
        let unmet = selector.requirements.iter().filter(|requirement| !requirement.holds(labels));
        unmet.fold(Gap::default(), |gap, requirement| {
            let clause = match labels.get(&requirement.key) {
                None => format!("{whose} lack {requirement}"),
                Some(value) => format!("{whose} have {}={value}, not {requirement}", requirement.key),
            };
            gap.and(Gap::of(weight, clause))
        })
    }

    fn ports(&self, ports: &[Port]) -> String {
        let (protocol, number) = match self.flow.payload {
            Payload::Transport { protocol, port } => (protocol, port),
            Payload::Icmp { .. } => return "the rule is for ports, and ICMP has none".to_owned(),
            Payload::Other(number) => return format!("the rule is for ports, and protocol {number} has none"),
        };
        let mut text = format!("{} {number} is not", protocol.name().to_ascii_uppercase());
        for (index, port) in ports.iter().enumerate() {
            text.push_str(if index == 0 { " " } else { " or " });
            let _ = match port {
                Port::Number { transport, ports } if *ports == PortRange::ALL => {
                    write!(text, "any {} port", transport.name().to_ascii_uppercase())
                }
                Port::Number { transport, ports } => {
                    write!(text, "{} {ports}", transport.name().to_ascii_uppercase())
                }
                Port::Named { name, .. } => write!(text, "{}", self.named(name)),
            };
        }
        text
    }

    /// What a name stands for at the pod the packet goes to.
    fn named(&self, name: &str) -> String {
        let pod = match self.flow.direction {
            Direction::Egress => self.flow.peer.pod.filter(|pod| !pod.host_network),
            Direction::Ingress => Some(self.flow.subject),
        };
        let Some(pod) = pod else { return format!("the port {name}, which only a pod can have") };
        let numbers: Vec<String> = pod
            .ports
            .iter()
            .filter(|port| port.name == name)
            .map(|port| format!("{} {}", port.protocol.name().to_ascii_uppercase(), port.port))
            .collect();
        if numbers.is_empty() {
            format!("the port {name}, which {pod} does not have")
        } else {
            format!("the port {name}, which is {} at {pod}", numbers.join(" and "))
        }
    }
}
