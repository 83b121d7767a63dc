//! What a namespace's filter must do, in the words of packets: the input of [`build`](super::build).

use std::ops::Deref;

use crate::net::{AddrRange, Cidr, Cited, Direction, Family, Member, Service};

/// Everything the table of one namespace is to enforce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// What becomes of IPv6 as such.
    pub ipv6: Ipv6Traffic,
    /// Whether router advertisements reach the container.
    pub router_advertisements: bool,
    /// The layers, in order. A packet passes only if every layer of its direction lets it.
    pub layers: Vec<Layer>,
    /// The tiers of policies, at most one value a direction. They are asked behind what is always denied and before
    /// the lists.
    pub policies: Vec<PolicyLayer>,
}

impl Filter {
    /// The families that reach the layers. Where IPv6 ends at the head of each chain, rules and sets for it would only
    /// cost time to load.
    pub const fn families(&self) -> &'static [Family] {
        match self.ipv6 {
            Ipv6Traffic::Filtered => &Family::BOTH,
            Ipv6Traffic::LoopbackOnly | Ipv6Traffic::Dropped => &[Family::V4],
        }
    }
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
    /// What it has nothing to say about, whatever its entries say of it. [`Entry::deny`] is not asked.
    pub exceptions: Vec<Entry>,
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
    /// With whom.
    pub peers: Peers,
    /// What is spoken.
    pub service: Service,
    /// What was written and where.
    pub origin: Cited,
}

/// The addresses of an entry. Long lists are of blocks, and a list may have 200,000 entries: one takes as little as it can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peers {
    /// One block.
    Block(Cidr),
    /// Ranges of each of [`Family::BOTH`], merged.
    Ranges(Box<[Vec<AddrRange>; 2]>),
}

impl Peers {
    /// Ranges of IPv4 and IPv6, merged.
    pub fn ranges(v4: Vec<AddrRange>, v6: Vec<AddrRange>) -> Peers {
        Peers::Ranges(Box::new([v4, v6]))
    }
}

impl Entry {
    /// The peers of one family.
    pub fn ranges(&self, family: Family) -> Ranges<'_> {
        match (&self.peers, family) {
            (Peers::Block(block), _) if block.family() == family => Ranges::One(block.range()),
            (Peers::Block(_), _) => Ranges::Several(&[]),
            (Peers::Ranges(ranges), Family::V4) => Ranges::Several(&ranges[0]),
            (Peers::Ranges(ranges), Family::V6) => Ranges::Several(&ranges[1]),
        }
    }

    /// Whether it has peers of a family. This and what follows are asked of each entry of a list several times over, where
    /// making its range would take longer than all else.
    pub fn has(&self, family: Family) -> bool {
        match &self.peers {
            Peers::Block(block) => block.family() == family,
            Peers::Ranges(_) => !self.ranges(family).is_empty(),
        }
    }

    /// Whether its peers of a family are all there are.
    pub fn is_of_everyone(&self, family: Family) -> bool {
        match &self.peers {
            Peers::Block(block) => block.prefix_len() == 0 && block.family() == family,
            Peers::Ranges(_) => *self.ranges(family) == [AddrRange::everything(family)],
        }
    }

    /// Whether its peers of a family are single addresses.
    pub fn is_of_hosts(&self, family: Family) -> bool {
        match &self.peers {
            Peers::Block(block) => block.is_host() || block.family() != family,
            Peers::Ranges(_) => self.ranges(family).iter().all(|range| range.first == range.last),
        }
    }
}

/// Merged ranges, borrowed where they are kept as such.
#[derive(Clone, Copy, Debug)]
pub enum Ranges<'a> {
    /// One that was a block.
    One(AddrRange),
    /// Any number.
    Several(&'a [AddrRange]),
}

impl Deref for Ranges<'_> {
    type Target = [AddrRange];

    fn deref(&self) -> &[AddrRange] {
        match self {
            Ranges::One(range) => std::slice::from_ref(range),
            Ranges::Several(ranges) => ranges,
        }
    }
}

/// The layer that policies make: tiers of ordered rules, of which the first match decides. Unlike a [`Layer`] it can
/// accept before a rule that denies. Who passes it goes on to the next layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyLayer {
    /// Which packets it judges.
    pub direction: Direction,
    /// What denial means here.
    pub denial: Denial,
    /// Asked in order; a packet that none of them decides passes.
    pub tiers: Vec<Tier>,
}

impl PolicyLayer {
    /// Whether it decides nothing: then it has no chain.
    pub fn is_empty(&self) -> bool {
        self.tiers.iter().all(Tier::is_empty)
    }
}

/// One tier of policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// A short word for chain and set names: `admin`, `network`, `default`.
    pub name: &'static str,
    /// Asked in order.
    pub runs: Vec<Run>,
    /// What becomes of packets that no run matches: the next tier is asked, or they are denied.
    pub otherwise: Otherwise,
    /// Where the tier was written, for the rule that denies what nothing accepts.
    pub origin: String,
}

impl Tier {
    /// Whether it decides nothing, now and whoever comes.
    pub fn is_empty(&self) -> bool {
        let is_empty = |run: &Run| run.entries.is_empty() && run.groups.is_empty();
        self.otherwise == Otherwise::Continue && self.runs.iter().all(is_empty)
    }
}

/// Rules that stand together and come to the same: their order among themselves means nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What becomes of a packet that matches any of them.
    pub ruling: Ruling,
    /// Addresses that are known once and for all. The ruling says what becomes of them; [`Entry::deny`] is not asked.
    pub entries: Vec<Entry>,
    /// Peers that come and go.
    pub groups: Vec<Group>,
}

/// What a run decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ruling {
    /// The packet passes the whole layer.
    Accept,
    /// It is denied.
    Deny,
    /// The next tier is asked; behind the last one the packet passes.
    Pass,
}

/// Peers that come and go, in a named set a family whose members change while the rules stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The sets' name without the family, unique in the table: `egress_network_1` makes `egress_network_1_v4`, `..._v6`.
    pub set: String,
    /// What is spoken to addresses in the set; `None` where every member has its own port.
    pub service: Option<Service>,
    /// Who is in it now, sorted, nobody twice. All with a port where `service` is `None`, all without one otherwise.
    pub members: Vec<Member>,
    /// What was written and where, for the rule's comment.
    pub origin: String,
}
