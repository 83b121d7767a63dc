//! What a table does to the first packet of a flow: the ruleset read as a decision.
//!
//! An evaluator of its own, so that the compilation can be tested against the specification without a kernel, and
//! `explain` can name the rule that decided. It sees packets as a network does: not over loopback, of a new flow.

use std::net::IpAddr;

use crate::net::{Direction, Family, Packet, Payload, Transport, Verdict as Outcome, bits_of, mask};
use crate::nft::build::OWN;
use crate::nft::ruleset::{Chain, Hook, Match, Rule, Side, State, Table, TableFamily, Verdict};

/// The kernel's own bound on nested jumps (`NFT_JUMP_STACK_SIZE`).
const JUMP_STACK_SIZE: usize = 16;

/// A decision and the rule that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'t> {
    /// What becomes of the packet.
    pub outcome: Outcome,
    /// The deciding rule with its chain's name; `None` where the chain's policy decided.
    pub rule: Option<Place<'t>>,
    /// The last rule that returned before: a layer or a tier lets a packet pass by returning from its chain, so that what
    /// accepts in the end says no more than that nothing denied.
    pub returned: Option<Place<'t>>,
}

/// A rule with its chain's name.
pub type Place<'t> = (&'t str, &'t Rule);

enum Flow<'t> {
    Done(Outcome, Place<'t>),
    Next,
}

impl Table {
    /// The decision of the base chain that sees `packet`: output for egress, input for ingress; of a table at the other end of
    /// the container's link ([`host_side`](super::build::host_side())) what the device received, or is to send. No such
    /// chain, or no such table in the kernel, lets everything pass.
    pub fn decide(&self, packet: &Packet) -> Decision<'_> {
        let hook = match (self.family, packet.direction) {
            (TableFamily::Inet, Direction::Egress) => Hook::Output,
            (TableFamily::Inet, Direction::Ingress) => Hook::Input,
            (TableFamily::Netdev, Direction::Egress) => Hook::Ingress,
            (TableFamily::Netdev, Direction::Ingress) => Hook::Egress,
        };
        let Some((chain, base)) =
            self.chains.iter().find_map(|c| c.base.as_ref().filter(|b| b.hook == hook).map(|b| (c, b)))
        else {
            return Decision { outcome: Outcome::Accept, rule: None, returned: None };
        };
        let mut returned = None;
        match self.walk(chain, packet, 0, &mut returned) {
            Flow::Done(outcome, rule) => Decision { outcome, rule: Some(rule), returned },
            Flow::Next => {
                let outcome = if base.accepts { Outcome::Accept } else { Outcome::Drop };
                Decision { outcome, rule: None, returned }
            }
        }
    }

    fn walk<'t>(
        &'t self,
        chain: &'t Chain,
        packet: &Packet,
        depth: usize,
        returned: &mut Option<Place<'t>>,
    ) -> Flow<'t> {
        for rule in &chain.rules {
            if !rule.matches.iter().all(|m| self.holds(m, packet)) {
                continue;
            }
            let place = (chain.name.as_str(), rule);
            let done = |outcome| Flow::Done(outcome, place);
            match &rule.verdict {
                None => {}
                Some(Verdict::Accept) => return done(Outcome::Accept),
                Some(Verdict::Drop | Verdict::Swallow) => return done(Outcome::Drop),
                Some(Verdict::Reject | Verdict::RejectWithReset) => return done(Outcome::Reject),
                Some(Verdict::Return) => {
                    *returned = Some(place);
                    return Flow::Next;
                }
                Some(Verdict::Jump(target) | Verdict::Goto(target)) => {
                    let goes = matches!(rule.verdict, Some(Verdict::Goto(_)));
                    // A missing target or a loop is what the kernel refuses to load; here it denies.
                    let Some(next) = self.chains.iter().find(|c| c.name == *target).filter(|_| depth < JUMP_STACK_SIZE)
                    else {
                        return done(Outcome::Drop);
                    };
                    match self.walk(next, packet, depth + 1, returned) {
                        Flow::Next if goes => return Flow::Next,
                        Flow::Next => {}
                        // Who counts is who denies; where it goes then is how.
                        Flow::Done(outcome, _) if !outcome.passes() && rule.counts() => return done(outcome),
                        decided @ Flow::Done(..) => return decided,
                    }
                }
            }
        }
        Flow::Next
    }

    fn holds(&self, condition: &Match, packet: &Packet) -> bool {
        let family = Family::of(packet.peer);
        let protocol = protocol_of(packet);
        let port = match packet.payload {
            Payload::Transport { port, .. } => Some(port),
            Payload::Icmp { .. } | Payload::Other(_) => None,
        };
        match condition {
            Match::Family(wanted) => family == *wanted,
            Match::InLoopback | Match::OutLoopback | Match::LocalDestination => false,
            // An ordinary packet's source is an address of the container.
            Match::LocalSource => true,
            Match::ForeignSource => false,
            Match::State(State::Established | State::Related | State::Invalid) => false,
            Match::State(State::New) => true,
            // The first segment of an ordinary connection is a SYN.
            Match::MidStream | Match::TcpEnds => false,
            Match::TcpOpensOrResets => protocol == Transport::Tcp.number(),
            Match::IcmpType(first, last) => {
                family == Family::V4
                    && matches!(packet.payload, Payload::Icmp { kind } if *first <= kind && kind <= *last)
            }
            // It is whole, and no flow is known yet.
            Match::LaterFragment(_) | Match::MoreFragments(_) | Match::KnownFragment(..) => false,
            Match::KnownFlow { .. } | Match::KnownInner { .. } => false,
            // It is no ARP, and small.
            Match::ArpOfIpv4 | Match::ArpSenderIn(_) | Match::ArpProbe | Match::LongerThan(_) => false,
            // Who speaks for an address has it.
            Match::NeighbourTargetIn(_) => family == Family::V6,
            Match::Protocol(number) => protocol == *number,
            Match::ProtocolIn(set) => self.in_set(set, &[protocol.into()]),
            Match::Port(ports) => port.is_some_and(|port| ports.contains(port)),
            Match::PortIn(set) => port.is_some_and(|port| self.in_set(set, &[port.into()])),
            Match::Icmpv6Type(first, last) => {
                family == Family::V6
                    && matches!(packet.payload, Payload::Icmp { kind } if *first <= kind && kind <= *last)
            }
            // An ordinary packet comes from the IP stack.
            Match::Routed => true,
            Match::EtherType(number) | Match::FrameType(number) => *number == ether_type(family),
            Match::UserSocket => packet.direction == Direction::Egress,
            // An ordinary packet's: neither neighbour discovery nor a multicast report.
            Match::HopLimit(limit) => *limit == 64,
            Match::Address(side, wanted, range) => {
                family == *wanted
                    && peer(*side, packet).map(bits_of).is_some_and(|bits| range.first <= bits && bits <= range.last)
            }
            // Its own address is the container's.
            Match::AddressIn(side, wanted, set) if set.starts_with(OWN) => {
                family == *wanted && peer(*side, packet).is_none()
            }
            Match::AddressIn(side, wanted, set) => {
                family == *wanted && peer(*side, packet).is_some_and(|addr| self.in_set(set, &[bits_of(addr)]))
            }
            Match::BlockIn(side, wanted, length, set) => {
                let first = |addr| bits_of(addr) & mask(family, *length);
                family == *wanted && peer(*side, packet).is_some_and(|addr| self.in_set(set, &[first(addr)]))
            }
            Match::AddressProtocolPortIn(side, wanted, set) => {
                family == *wanted
                    && peer(*side, packet)
                        .zip(port)
                        .is_some_and(|(a, port)| self.in_set(set, &[bits_of(a), protocol.into(), port.into()]))
            }
            Match::AddressPortIn(side, wanted, set) => {
                family == *wanted
                    && peer(*side, packet)
                        .zip(port)
                        .is_some_and(|(addr, port)| self.in_set(set, &[bits_of(addr), port.into()]))
            }
        }
    }

    fn in_set(&self, name: &str, values: &[u128]) -> bool {
        self.sets.iter().any(|set| set.name == name && set.contains(values))
    }
}

const fn ether_type(family: Family) -> u16 {
    match family {
        Family::V4 => 0x0800,
        Family::V6 => 0x86dd,
    }
}

fn protocol_of(packet: &Packet) -> u8 {
    match (packet.payload, packet.peer) {
        (Payload::Transport { protocol, .. }, _) => protocol.number(),
        (Payload::Icmp { .. }, IpAddr::V4(_)) => 1,
        (Payload::Icmp { .. }, IpAddr::V6(_)) => 58,
        (Payload::Other(number), _) => number,
    }
}

/// The peer's address, where `side` is the peer's side; the container's own is not known here.
fn peer(side: Side, packet: &Packet) -> Option<IpAddr> {
    (side == super::build::peer_side(packet.direction)).then_some(packet.peer)
}
