//! Flows that the kernel tracks: what an entry holds, and what a table would say of a flow if it began now.
//!
//! Every packet of a known flow passes, so a rule only ever judges a flow's first packet. A table
//! that became stricter therefore has to be asked again about flows that began under the old one. [`Flow::may_begin`]
//! asks it; `kernel::conntrack` ends the flows it would not let begin, and the next packet is a first one.

pub mod uapi;
pub mod wire;

use std::net::IpAddr;

use crate::net::{Direction, Packet, Payload, Transport};
use crate::nft::ruleset::Table;

/// One entry of the connection tracking table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The first packet's addresses as it was sent, before any NAT.
    pub original: Tuple,
    /// What the answer to it looks like: the other way round, NAT included.
    pub reply: Tuple,
    /// `IPS_*`.
    pub status: u32,
    /// Tells this entry from most later ones with the same addresses (`CTA_ID`).
    pub id: u32,
    /// `CTA_ZONE`, where it is not 0.
    pub zone: Option<u16>,
}

/// One direction of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Source address.
    pub source: IpAddr,
    /// Destination address, of the same family.
    pub destination: IpAddr,
    /// IANA protocol number.
    pub protocol: u8,
    /// What tells flows between the same two apart.
    pub ends: Ends,
    /// `CTA_TUPLE_ZONE`, where this direction has one of its own.
    pub zone: Option<u16>,
}

/// What tells flows of one protocol between two addresses apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ends {
    /// Ports; of GRE its keys.
    Ports {
        /// At the source.
        source: u16,
        /// At the destination.
        destination: u16,
    },
    /// ICMP or ICMPv6.
    Icmp {
        /// Type of message.
        kind: u8,
        /// Code of it.
        code: u8,
        /// The identifier of an echo.
        id: u16,
    },
    /// Nothing: the protocol is all there is.
    Nothing,
}

impl Flow {
    /// Whether `table` would let the flow begin now in a namespace with the addresses `own`.
    ///
    /// Addresses are those that the chains see: they stand behind destination NAT and before source NAT in every hook, so
    /// the destination is where answers come from. A flow between two of its own addresses stays inside and is not asked
    /// about. Where neither end is its own, the flow is routed through, and both directions are asked as the forward chain
    /// does. An address that `own` lacks thus makes the question stricter, never laxer.
    pub fn may_begin(&self, table: &Table, own: &[IpAddr]) -> bool {
        let [egress, ingress] = self.questions(own);
        [egress, ingress].into_iter().flatten().all(|packet| table.decide(&packet).outcome.passes())
    }

    /// The first packet as egress and as ingress of the namespace, where it is that.
    fn questions(&self, own: &[IpAddr]) -> [Option<Packet>; 2] {
        let (from, to) = (self.original.source, self.reply.source);
        let is_own = |address: IpAddr| address.is_loopback() || own.contains(&address);
        let payload = self.payload();
        let packet = |direction, peer| Packet { direction, peer, payload };
        let (leaves, arrives) = (!is_own(to), !is_own(from));
        [leaves.then(|| packet(Direction::Egress, to)), arrives.then(|| packet(Direction::Ingress, from))]
    }

    /// What the first packet carried. The port is the one answers come from, which is that behind destination NAT.
    fn payload(&self) -> Payload {
        let number = self.original.protocol;
        match (self.original.ends, self.reply.ends) {
            (Ends::Icmp { kind, .. }, _) => Payload::Icmp { kind },
            (Ends::Ports { .. }, Ends::Ports { source: port, .. }) => Transport::ALL
                .into_iter()
                .find(|transport| transport.number() == number)
                .map_or(Payload::Other(number), |protocol| Payload::Transport { protocol, port }),
            (Ends::Ports { .. } | Ends::Nothing, _) => Payload::Other(number),
        }
    }

    /// Whether the namespace exchanges packets with `peer` in this flow, as its chains see addresses.
    pub fn touches(&self, peer: IpAddr) -> bool {
        self.original.source == peer || self.reply.source == peer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{AddrRange, Family, PortRange, Service, Transports, bits_of};
    use crate::nft::build::build;
    use crate::nft::filter::{Denial, Entry, Filter, Ipv6Traffic, Layer, Otherwise, Peers};

    const OWN: [&str; 2] = ["10.9.0.2", "fd99::2"];

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// One layer that allows one service of one address.
    fn allowing(direction: Direction, peer: &str, service: Service) -> Layer {
        let peer = address(peer);
        let range = AddrRange { first: bits_of(peer), last: bits_of(peer) };
        let of = |family| if Family::of(peer) == family { vec![range] } else { Vec::new() };
        let [v4, v6] = Family::BOTH.map(of);
        let entry = Entry { deny: false, peers: Peers::ranges(v4, v6), service, origin: "".into() };
        Layer {
            name: "baseline",
            direction,
            otherwise: Otherwise::Deny,
            denial: Denial::Drop,
            exceptions: Vec::new(),
            entries: vec![entry],
            origin: String::new(),
        }
    }

    fn table(layers: Vec<Layer>) -> Table {
        let filter = Filter { ipv6: Ipv6Traffic::Filtered, router_advertisements: false, layers, policies: Vec::new() };
        build(&filter, String::new()).unwrap()
    }

    fn port(port: u16) -> Service {
        Service::Ports { transports: Transports::One(Transport::Tcp), ports: PortRange::new(port, port).unwrap() }
    }

    fn flow(protocol: u8, from: (&str, u16), to: (&str, u16)) -> Flow {
        let tuple = |(source, from): (&str, u16), (destination, to): (&str, u16)| Tuple {
            source: address(source),
            destination: address(destination),
            protocol,
            ends: Ends::Ports { source: from, destination: to },
            zone: None,
        };
        Flow { original: tuple(from, to), reply: tuple(to, from), status: 0, id: 0, zone: None }
    }

    fn may_begin(flow: &Flow, layers: Vec<Layer>) -> bool {
        flow.may_begin(&table(layers), &OWN.map(address))
    }

    #[test]
    fn a_flow_is_asked_about_by_the_end_that_began_it() {
        for (own, peer, other) in [(OWN[0], "10.1.1.1", "10.1.1.2"), (OWN[1], "2001:db8::1", "2001:db8::2")] {
            let layers =
                || vec![allowing(Direction::Egress, peer, port(443)), allowing(Direction::Ingress, other, port(80))];
            for (from, to, begins) in [
                ((own, 4000), (peer, 443), true),
                ((own, 443), (peer, 4000), false),
                ((own, 4000), (other, 443), false),
                ((other, 4000), (own, 80), true),
                ((other, 80), (own, 4000), false),
                ((peer, 443), (own, 4000), false),
            ] {
                assert_eq!(may_begin(&flow(6, from, to), layers()), begins, "{from:?} {to:?}");
                assert!(!may_begin(&flow(17, from, to), layers()), "UDP {from:?} {to:?}");
            }
        }
    }

    #[test]
    fn what_stays_inside_is_not_asked_about() {
        let nothing = || [Direction::Egress, Direction::Ingress].map(|d| allowing(d, "192.0.2.1", port(1))).to_vec();
        for (from, to) in [(OWN[0], OWN[0]), (OWN[0], "127.0.0.1"), ("127.0.0.1", "127.8.8.8"), ("::1", OWN[1])] {
            assert!(may_begin(&flow(6, (from, 1), (to, 2)), nothing()), "{from} {to}");
        }
        assert!(!may_begin(&flow(6, (OWN[0], 1), ("10.9.0.3", 2)), nothing()));
    }

    #[test]
    fn a_flow_that_is_routed_through_needs_both_directions() {
        let egress = || allowing(Direction::Egress, "10.1.1.1", port(443));
        let through = flow(6, ("10.200.0.2", 4000), ("10.1.1.1", 443));
        let ingress = |peer| allowing(Direction::Ingress, peer, port(443));
        assert!(may_begin(&through, vec![egress()]));
        assert!(may_begin(&through, vec![egress(), ingress("10.200.0.2")]));
        assert!(!may_begin(&through, vec![egress(), ingress("10.200.0.3")]));
        assert!(!may_begin(&through, vec![ingress("10.200.0.2"), allowing(Direction::Egress, "10.1.1.2", port(443))]));
    }

    #[test]
    fn destination_nat_is_seen_as_the_chains_see_it() {
        // A service address and port that the namespace itself translates to an endpoint.
        let mut translated = flow(6, (OWN[0], 4000), ("10.96.0.1", 80));
        translated.reply.source = address("10.1.1.1");
        translated.reply.ends = Ends::Ports { source: 8080, destination: 4000 };
        assert!(may_begin(&translated, vec![allowing(Direction::Egress, "10.1.1.1", port(8080))]));
        assert!(!may_begin(&translated, vec![allowing(Direction::Egress, "10.96.0.1", port(80))]));
        assert!(translated.touches(address("10.1.1.1")) && !translated.touches(address("10.96.0.1")));
    }

    #[test]
    fn icmp_and_protocols_without_ports_are_asked_about_as_what_they_are() {
        let mut echo = flow(1, (OWN[0], 0), ("10.1.1.1", 0));
        echo.original.ends = Ends::Icmp { kind: 8, code: 0, id: 1 };
        echo.reply.ends = Ends::Icmp { kind: 0, code: 0, id: 1 };
        assert!(may_begin(&echo, vec![allowing(Direction::Egress, "10.1.1.1", Service::Icmp)]));
        assert!(!may_begin(&echo, vec![allowing(Direction::Egress, "10.1.1.1", port(8))]));
        // GRE has keys where others have ports.
        let gre = flow(47, (OWN[0], 1), ("10.1.1.1", 443));
        assert!(!may_begin(&gre, vec![allowing(Direction::Egress, "10.1.1.1", port(443))]));
        assert!(may_begin(&gre, vec![allowing(Direction::Egress, "10.1.1.1", Service::Everything)]));
    }
}
