//! One packet, both ends: what becomes of it and why.
//!
//! Two are asked, and neither knows of the other: the specification ([`Judge`] and the lists' own meaning), which says why
//! and what was missing, and the ruleset that would be loaded ([`Table::decide`](crate::nft::ruleset::Table::decide)). Where
//! they come to different ends one of them is wrong, and that is a bug of ours, told as such.
//!
//! [`flow`] is for manifests alone, [`Container`] for everything one container would meet.

mod container;
mod print;
mod ruleset;

pub use container::Container;
pub use print::spoken;
pub use ruleset::{Decided, Ruleset, compare};

use std::net::IpAddr;

use self::ruleset::Tables;
use crate::net::{Direction, Family, Origin, Payload};
use crate::policy::flow::{Answer, Pair, Ways};
use crate::policy::lookup::{End, World};
use crate::policy::model::Policies;
use crate::policy::near::Miss;
use crate::policy::verdict::{Flow, Judge, Judgement, Peer, Why};
use crate::policy::why::{Placed, counted};
use crate::policy::world::{Pod, Service};

/// Most endpoints of a service that are told of, the denied ones first.
const TOLD: usize = 3;

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Who sends: a pod, a container's id or an address.
    pub from: String,
    /// Who is to get it.
    pub to: String,
    /// What is spoken.
    pub payload: Payload,
    /// Whether both halves let it pass.
    pub allowed: bool,
    /// The source's half; `None` where it was not asked.
    pub egress: Option<bool>,
    /// The destination's half.
    pub ingress: Option<bool>,
    /// What has to be known beside that, each a sentence.
    pub notes: Vec<String>,
    /// What was judged: both halves of each pair of addresses that is told of, or one container's alone.
    pub halves: Vec<Half>,
}

impl Explanation {
    /// The first half whose ruleset contradicts the specification: a bug.
    pub fn contradiction(&self) -> Option<&Half> {
        self.halves.iter().find(|half| half.is_contradiction())
    }
}

/// What stands at one end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Half {
    /// Which half.
    pub direction: Direction,
    /// At whose end: the source for egress, the destination for ingress.
    pub of: String,
    /// The other end, with the address on the packet where it is known.
    pub peer: String,
    /// What is spoken here: behind a service the port is another.
    pub payload: Payload,
    /// Whether all layers let it pass, says the specification.
    pub allowed: bool,
    /// What each layer says, in the order in which they are asked; at least one.
    pub layers: Vec<Said>,
    /// What the ruleset says.
    pub ruleset: Ruleset,
}

impl Half {
    fn is_contradiction(&self) -> bool {
        match self.ruleset {
            Ruleset::Differs { .. } => true,
            Ruleset::Agrees(_) | Ruleset::NotAsked(_) => false,
        }
    }
}

/// What one layer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// `policies`, `always-denied`, `baseline`, `annotation`, `ipv6` or `loopback`.
    pub layer: &'static str,
    /// Whether it lets the packet pass.
    pub allowed: bool,
    /// The rule that decided, with its place.
    pub why: String,
    /// Its place once more; `None` where nothing that was written decided.
    pub origin: Option<Origin>,
    /// What came near to allowing what is denied, the nearest first.
    pub nearest: Vec<Near>,
}

/// A rule that came near.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Near {
    /// The rule: `NetworkPolicy shop/web spec.ingress[0]`.
    pub rule: String,
    /// Where it was written.
    pub origin: Origin,
    /// What was missing, each a clause; at least one.
    pub lacks: Vec<String>,
    /// Whether it was written for this end. One that was not would allow the packet to others.
    pub governs: bool,
}

impl Near {
    fn of(miss: Miss<'_>) -> Near {
        let Miss { policy, rule, lacks, governs, .. } = miss;
        Near { rule: policy, origin: rule.origin.clone(), lacks, governs }
    }

    /// The rule with its place.
    pub fn placed(&self) -> String {
        format!("{} {}", self.rule, Placed(&self.origin))
    }
}

/// Explains a packet between two ends under policies alone, as [`Judge::flow`] judges it.
pub fn flow(policies: &Policies, world: &World, from: &End<'_>, to: &End<'_>, payload: Payload) -> Explanation {
    let judge = Judge::new(policies, world);
    let answer = judge.flow(from, to, payload);
    let mut asking = Asking { judge: &judge, tables: Tables::new(policies, world), notes: Vec::new() };
    let halves = match &answer.ways {
        Ways::Pairs(pairs, chosen) => asking.pairs(pairs, *chosen, from, to, payload),
        Ways::Service(service, endpoints) => {
            let mut halves = vec![asking.of_service(service, &answer, from, to, payload)];
            let behind = counted(endpoints.len(), "endpoint");
            let denied = endpoints.iter().filter(|(_, answer)| !answer.allowed()).count();
            let told = if denied == 0 { "all allowed".to_owned() } else { format!("{denied} denied") };
            asking.notes.push(format!("{to} is service {service} with {behind} behind the port, {told}"));
            let (allowed, denied): (Vec<_>, Vec<_>) = endpoints.iter().partition(|(_, answer)| answer.allowed());
            for (index, (endpoint, answer)) in denied.into_iter().chain(allowed).enumerate() {
                let end = End { pod: endpoint.pod, addresses: vec![endpoint.address] };
                let Ways::Pairs(pairs, chosen) = &answer.ways else { continue };
                let mut both = asking.pairs(pairs, *chosen, from, &end, at_port(payload, endpoint.port));
                for half in both.iter_mut().filter(|half| half.direction == Direction::Egress) {
                    half.ruleset = Ruleset::NotAsked("it sees the address of the service".to_owned());
                }
                if index < TOLD || both.iter().any(Half::is_contradiction) {
                    halves.extend(both);
                }
            }
            halves
        }
    };
    let Asking { notes, .. } = asking;
    Explanation {
        from: from.to_string(),
        to: to.to_string(),
        payload,
        allowed: answer.allowed(),
        egress: Some(answer.egress),
        ingress: Some(answer.ingress),
        notes,
        halves,
    }
}

fn at_port(payload: Payload, port: u16) -> Payload {
    match payload {
        Payload::Transport { protocol, .. } => Payload::Transport { protocol, port },
        Payload::Icmp { .. } | Payload::Other(_) => payload,
    }
}

struct Asking<'a, 'j> {
    judge: &'j Judge<'a>,
    tables: Tables<'a>,
    notes: Vec<String>,
}

impl<'a> Asking<'a, '_> {
    /// Both halves of the chosen pair, and those of every other that comes to another end or shows a bug.
    fn pairs(
        &mut self,
        pairs: &[Pair<'a>],
        chosen: usize,
        from: &End<'_>,
        to: &End<'_>,
        payload: Payload,
    ) -> Vec<Half> {
        let ends = |pair: &Pair<'_>| (pair.egress.allowed(), pair.ingress.allowed());
        let mut halves = Vec::new();
        let others = (0..pairs.len()).filter(|index| *index != chosen);
        for index in std::iter::once(chosen).chain(others) {
            let pair = &pairs[index];
            let both = [
                self.half(Direction::Egress, &pair.egress, from, (to, pair.to), payload),
                self.half(Direction::Ingress, &pair.ingress, to, (from, pair.from), payload),
            ];
            let differs = index != chosen && ends(pair) != ends(&pairs[chosen]);
            if differs && let Some(family) = pair.to.or(pair.from).map(Family::of) {
                let note = format!("{family} is judged otherwise; one family that is allowed is enough");
                if !self.notes.contains(&note) {
                    self.notes.push(note);
                }
            }
            if index == chosen || differs || both.iter().any(Half::is_contradiction) {
                halves.extend(both);
            }
        }
        if let Pair { from: Some(source), to: Some(destination), .. } = pairs[chosen]
            && Family::of(source) != Family::of(destination)
        {
            self.notes.push("they have no family in common".to_owned());
        }
        halves
    }

    fn half(
        &self,
        direction: Direction,
        judgement: &Judgement<'a>,
        own: &End<'_>,
        (other, address): (&End<'_>, Option<IpAddr>),
        payload: Payload,
    ) -> Half {
        let peer = Peer { pod: other.pod, address };
        let said = policies_say(self.judge, judgement, direction, own.pod, peer, payload);
        let ruleset = self.tables.ask(direction, own.pod, judgement, peer, payload);
        Half {
            direction,
            of: own.to_string(),
            peer: shown(other, address),
            payload,
            allowed: said.allowed,
            layers: vec![said],
            ruleset,
        }
    }

    /// The source's half as its own namespace sees it: the service's address is on the packet.
    fn of_service(
        &self,
        service: &Service,
        answer: &Answer<'a>,
        from: &End<'_>,
        to: &End<'_>,
        payload: Payload,
    ) -> Half {
        let address = to.addresses.first().copied();
        let verdict =
            if answer.egress { "allowed, every endpoint is" } else { "denied, not every endpoint is allowed" };
        let why = format!("{verdict} (service {service})");
        let said = Said { layer: "policies", allowed: answer.egress, why, origin: None, nearest: Vec::new() };
        let ruleset = self.tables.ask_plainly(Direction::Egress, from.pod, answer.egress, address, payload);
        Half {
            direction: Direction::Egress,
            of: from.to_string(),
            peer: shown(to, None),
            payload,
            allowed: answer.egress,
            layers: vec![said],
            ruleset,
        }
    }
}

/// `shop/web (10.0.0.1)`, `10.0.0.1`.
fn shown(end: &End<'_>, address: Option<IpAddr>) -> String {
    match (end.pod, address) {
        (Some(pod), Some(address)) => format!("{pod} ({address})"),
        (Some(_) | None, _) => end.to_string(),
    }
}

/// What policies say, in words.
fn policies_say<'a>(
    judge: &Judge<'a>,
    judgement: &Judgement<'a>,
    direction: Direction,
    subject: Option<&Pod>,
    peer: Peer<'_>,
    payload: Payload,
) -> Said {
    let nearest = subject.map(|subject| judge.nearest_misses(judgement, direction, subject, peer, payload));
    let mut why = judgement.to_string();
    if let (Why::Cluster(cited), Some(subject)) = (&judgement.why, subject) {
        let flow = Flow { world: judge.world(), direction, subject, peer, payload };
        if flow.is_feared(cited.rule) && !cited.rule.peers.iter().any(|peer| flow.matches_peer(&peer.who)) {
            why.push_str(", for nobody can say whose a link-local address is");
        }
    }
    Said {
        layer: "policies",
        allowed: judgement.allowed(),
        why,
        origin: origin_of(&judgement.why),
        nearest: nearest.into_iter().flatten().map(Near::of).collect(),
    }
}

fn origin_of(why: &Why<'_>) -> Option<Origin> {
    match why {
        Why::NoPod | Why::HostNetwork | Why::Itself | Why::OwnNode | Why::Free => None,
        Why::Cluster(cited) => Some(cited.rule.origin.clone()),
        Why::Network(_, rule) => Some(rule.origin.clone()),
        Why::Isolated(policies) => policies.first().map(|policy| policy.origin.clone()),
    }
}
