//! Both halves of a flow: who may open a connection to whom.
//!
//! S6: a connection needs the egress of its source and the ingress of its destination. An end that is no pod has no
//! policies, and its half is true.
//!
//! **Families.** Policies judge addresses, so each pair of addresses of one family is asked for itself. The flow is
//! allowed when one pair is, and its halves are that pair's; otherwise they are the first pair's. Ends that have no
//! family in common, or no addresses at all, are judged all the same: policy alone decides here, not routing.
//!
//! **Services.** A virtual address stands for what is behind it: each half is true when it is true for every endpoint of
//! the port, for nobody can know which one a connection will get. Where nothing stands behind the port, it is an address
//! like any other.

use std::net::IpAddr;

use super::lookup::{End, Endpoint};
use super::verdict::{Judge, Judgement, Peer, Why};
use super::world::{Pod, Service};
use crate::net::{Direction, Family, Payload};

/// Whether a flow may be, and why.
#[derive(Clone, Debug)]
pub struct Answer<'a> {
    /// The source's half.
    pub egress: bool,
    /// The destination's half.
    pub ingress: bool,
    /// How that came about.
    pub ways: Ways<'a>,
}

impl Answer<'_> {
    /// Whether the connection may be made.
    pub fn allowed(&self) -> bool {
        self.egress && self.ingress
    }
}

/// What was judged.
#[derive(Clone, Debug)]
pub enum Ways<'a> {
    /// Pairs of addresses, at least one, and the index of the one that the answer's halves are of.
    Pairs(Vec<Pair<'a>>, usize),
    /// The endpoints of a service, at least one.
    Service(&'a Service, Vec<(Endpoint<'a>, Answer<'a>)>),
}

/// One pair of addresses.
#[derive(Clone, Debug)]
pub struct Pair<'a> {
    /// The source's address; `None` where it has none.
    pub from: Option<IpAddr>,
    /// The destination's.
    pub to: Option<IpAddr>,
    /// The source's half.
    pub egress: Judgement<'a>,
    /// The destination's half.
    pub ingress: Judgement<'a>,
}

impl Pair<'_> {
    /// Whether both halves are true.
    pub fn allowed(&self) -> bool {
        self.egress.allowed() && self.ingress.allowed()
    }
}

impl<'a> Judge<'a> {
    /// Judges a flow.
    pub fn flow(&self, from: &End<'_>, to: &End<'_>, payload: Payload) -> Answer<'a> {
        if let (None, [address], Payload::Transport { protocol, port }) = (to.pod, to.addresses.as_slice(), payload) {
            let endpoints = self.world().endpoints(*address, protocol, port);
            if let (Some(service), false) = (self.world().service_at(*address), endpoints.is_empty()) {
                return self.service(from, service, endpoints, payload);
            }
        }
        self.pairs(from, to, payload, Judge::decide)
    }

    /// What the policies of `subject` say of a packet that leaves it or comes in, its peer known by the address alone,
    /// and for egress also by the service that the address may be of.
    pub fn packet(&self, direction: Direction, subject: &Pod, address: IpAddr, payload: Payload) -> bool {
        let plain = || {
            let peer = Peer { pod: self.world().pod_at(address), address: Some(address) };
            self.decide(direction, subject, peer, payload).allowed()
        };
        match (direction, payload) {
            (Direction::Egress, Payload::Transport { protocol, port }) if self.world().pod_at(address).is_none() => {
                let endpoints = self.world().endpoints(address, protocol, port);
                if endpoints.is_empty() || subject.addresses.contains(&address) || subject.host_network {
                    return plain();
                }
                endpoints.iter().all(|endpoint| {
                    let payload = Payload::Transport { protocol, port: endpoint.port };
                    let peer = Peer { pod: endpoint.pod, address: Some(endpoint.address) };
                    self.tiers(direction, subject, peer, payload).allowed()
                })
            }
            (Direction::Egress | Direction::Ingress, _) => plain(),
        }
    }

    fn service(
        &self,
        from: &End<'_>,
        service: &'a Service,
        endpoints: Vec<Endpoint<'a>>,
        payload: Payload,
    ) -> Answer<'a> {
        let judged: Vec<(Endpoint<'a>, Answer<'a>)> = endpoints
            .into_iter()
            .map(|endpoint| {
                let end = End { pod: endpoint.pod, addresses: vec![endpoint.address] };
                let payload = match payload {
                    Payload::Transport { protocol, .. } => Payload::Transport { protocol, port: endpoint.port },
                    Payload::Icmp { .. } | Payload::Other(_) => payload,
                };
                // N5: a pod that reaches itself by a service is judged like any other.
                let answer = self.pairs(from, &end, payload, Judge::tiers);
                (endpoint, answer)
            })
            .collect();
        let egress = judged.iter().all(|(_, answer)| answer.egress);
        let ingress = judged.iter().all(|(_, answer)| answer.ingress);
        Answer { egress, ingress, ways: Ways::Service(service, judged) }
    }

    fn pairs(&self, from: &End<'_>, to: &End<'_>, payload: Payload, decide: Decide<'a>) -> Answer<'a> {
        let mut pairs: Vec<Pair<'a>> = Vec::new();
        for (source, destination) in address_pairs(from, to) {
            let half = |direction, subject: Option<&Pod>, pod: Option<&Pod>, address| match subject {
                None => Judgement { why: Why::NoPod, passed: Vec::new() },
                // `tiers` does not ask.
                Some(subject) if subject.host_network => Judgement { why: Why::HostNetwork, passed: Vec::new() },
                Some(subject) => decide(self, direction, subject, Peer { pod, address }, payload),
            };
            pairs.push(Pair {
                from: source,
                to: destination,
                egress: half(Direction::Egress, from.pod, to.pod, destination),
                ingress: half(Direction::Ingress, to.pod, from.pod, source),
            });
        }
        let chosen = pairs.iter().position(Pair::allowed).unwrap_or(0);
        let (egress, ingress) = (pairs[chosen].egress.allowed(), pairs[chosen].ingress.allowed());
        Answer { egress, ingress, ways: Ways::Pairs(pairs, chosen) }
    }
}

type Decide<'a> = fn(&Judge<'a>, Direction, &Pod, Peer<'_>, Payload) -> Judgement<'a>;

/// At least one.
fn address_pairs(from: &End<'_>, to: &End<'_>) -> Vec<(Option<IpAddr>, Option<IpAddr>)> {
    let all = |end: &End<'_>| -> Vec<Option<IpAddr>> {
        if end.addresses.is_empty() { vec![None] } else { end.addresses.iter().copied().map(Some).collect() }
    };
    let (sources, destinations) = (all(from), all(to));
    let alike = |a: Option<IpAddr>, b: Option<IpAddr>| match (a, b) {
        (Some(a), Some(b)) => Family::of(a) == Family::of(b),
        (None, _) | (_, None) => true,
    };
    let pairs: Vec<_> = sources
        .iter()
        .flat_map(|source| destinations.iter().map(move |destination| (*source, *destination)))
        .filter(|(source, destination)| alike(*source, *destination))
        .collect();
    if pairs.is_empty() { vec![(sources[0], destinations[0])] } else { pairs }
}
