//! What a namespace's filter must do, in the words of packets: the input of [`build`](super::build).

use crate::net::{AddrRange, Direction, Family, Service};

/// Everything the table of one namespace is to enforce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// What becomes of IPv6 as such.
    pub ipv6: Ipv6Traffic,
    /// Whether router advertisements reach the container.
    pub router_advertisements: bool,
    /// The layers, in order. A packet passes only if every layer of its direction lets it.
    pub layers: Vec<Layer>,
}

/// What becomes of IPv6 packets before any layer is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipv6Traffic {
    /// They are filtered like IPv4.
    Filtered,
    /// They stay on the loopback interface.
    LoopbackOnly,
    /// None moves.
    Dropped,
}

/// One set of rules a packet must pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// A short word for chain and set names: `always`, `baseline`, `annotation`.
    pub name: &'static str,
    /// Which packets it judges.
    pub direction: Direction,
    /// What becomes of packets that no entry matches.
    pub otherwise: Otherwise,
    /// What denial means here.
    pub denial: Denial,
    /// Its entries; a denying one wins over every allowing one.
    pub entries: Vec<Entry>,
    /// Where the layer was written, for the rule that denies what nothing allows.
    pub origin: String,
}

/// What becomes of a packet that no entry of a layer matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Otherwise {
    /// It goes on to the next layer.
    Continue,
    /// It is denied.
    Deny,
}

/// What becomes of a denied packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Denial {
    /// The sender is told at once.
    Reject,
    /// It vanishes.
    Drop,
    /// It is remembered and passes: `mode: audit`.
    Audit,
}

/// Some addresses and a service, allowed or denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whether it denies.
    pub deny: bool,
    /// IPv4 peers, merged.
    pub v4: Vec<AddrRange>,
    /// IPv6 peers, merged.
    pub v6: Vec<AddrRange>,
    /// What is spoken.
    pub service: Service,
    /// What was written and where.
    pub origin: String,
}

impl Entry {
    /// The peers of one family.
    pub fn ranges(&self, family: Family) -> &[AddrRange] {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }
}
