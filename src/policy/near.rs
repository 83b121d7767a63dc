//! The rule that almost allowed a denied packet, and what was missing.
//!
//! Every rule that could have allowed it gets a distance: the sum of what it lacks. A label counts 1, a namespace or port
//! 2, a peer of another kind more than any of these together usually do. The nearest is told; among equals the first
//! one read. This is advice: it decides nothing.

use std::fmt::{self, Write as _};

use super::lookup::World;
use super::model::{Action, Labels, Namespaces, Port, Rule, Selector, Who};
use super::verdict::{Flow, Judge, Peer, Why};
use super::why::Placed;
use super::world::Pod;
use crate::net::{Direction, Family, Payload};

/// What a rule lacks beyond this is no near miss.
const FAR: u32 = 12;

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
        Gap { lacks: vec![lack], distance }
    }

    fn and(mut self, other: Gap) -> Gap {
        self.lacks.extend(other.lacks);
        Gap { lacks: self.lacks, distance: self.distance + other.distance }
    }
}

impl<'a> Judge<'a> {
    /// The nearest rule that would have allowed what is denied; `None` where the packet is allowed, or no rule comes near.
    pub fn nearest_miss(
        &self,
        direction: Direction,
        subject: &Pod,
        peer: Peer<'_>,
        payload: Payload,
    ) -> Option<Miss<'a>> {
        let judgement = self.decide(direction, subject, peer, payload);
        if judgement.allowed() {
            return None;
        }
        let near = Near { flow: Flow { world: self.world(), direction, subject, peer, payload } };
        let governing = self.governing(direction, subject);
        let mut misses: Vec<Miss<'a>> = Vec::new();
        let mut add = |policy: &dyn fmt::Display, rule: &'a Rule, gap: Gap| {
            // Without a gap it matches, and stands behind the rule that decided.
            if gap.distance <= FAR && !gap.lacks.is_empty() {
                misses.push(Miss { policy: policy.to_string(), rule, lacks: gap.lacks, distance: gap.distance });
            }
        };
        let decided_by_cluster = matches!(judgement.why, Why::Cluster(_));
        if !decided_by_cluster {
            for policy in self.network_policies_in(&subject.namespace) {
                let Some(rules) = policy.rules(direction) else { continue };
                let what = format!("its podSelector does not select {subject}: the labels");
                for rule in rules {
                    // A policy for somebody else: its own selector is the first thing missing.
                    let governs = near.selector(&policy.pods, &subject.labels, &what, 2);
                    add(policy, rule, governs.and(near.rule(rule)));
                }
            }
        }
        for policy in governing.admin.iter().chain(&governing.baseline) {
            for rule in policy.rules(direction).iter().filter(|rule| rule.action == Action::Accept) {
                add(policy, rule, near.rule(rule));
            }
        }
        misses.into_iter().min_by_key(|miss| miss.distance)
    }
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
                Port::Number { transport, ports } if *ports == crate::net::PortRange::ALL => {
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
