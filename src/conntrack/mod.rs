//! Flows that the kernel tracks: what an entry holds, and what a table would say of a flow if it began now.
//!
//! The chain `tracked` lets every packet of a known flow pass, so a rule only ever judges a flow's first packet. A table
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
    /// Tells this entry from a later one with the same addresses (`CTA_ID`).
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
