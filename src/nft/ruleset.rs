//! Our picture of an nf_tables table: chains, sets, rules.
//!
//! It speaks of "destination in set, port 443", never of registers. A [`Match`] contains what it depends on: an
//! address match its family, a port match the place of the port. The guards that a hand-written rule can forget
//! (`meta nfproto` before an address) are the encoder's business and nobody else's.

use std::hash::{Hash, Hasher};

use crate::net::{AddrRange, Family, PortRange};

/// The name of our table in every namespace.
pub const TABLE: &str = "netlatch";

/// Which packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TableFamily {
    /// Packets of both IP families, at the hooks of the IP stack.
    Inet,
    /// Frames of any protocol, at a device.
    Netdev,
}

impl TableFamily {
    /// The name as `nft` spells it.
    pub const fn name(self) -> &'static str {
        match self {
            TableFamily::Inet => "inet",
            TableFamily::Netdev => "netdev",
        }
    }
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Table {
    /// Its name: [`TABLE`] in a container's namespace.
    pub name: String,
    /// What it sees.
    pub family: TableFamily,
    /// Who made it and from what; `inspect` knows its own tables by it.
    pub comment: String,
    /// Sets, in order.
    pub sets: Vec<Set>,
    /// Chains, in an order in which a jump's target stands anywhere: the batch makes chains before rules.
    pub chains: Vec<Chain>,
    /// Its companion in family netdev, which is loaded, replaced and removed with it: see [`build::guard`](super::build::guard).
    pub guard: Option<Box<Table>>,
}

impl Table {
    /// A table with nothing in it.
    pub fn empty(family: TableFamily) -> Table {
        let (comment, sets, chains) = (String::new(), Vec::new(), Vec::new());
        Table { name: TABLE.to_owned(), family, comment, sets, chains, guard: None }
    }

    /// Whether another is the same but for the members of sets that come and go.
    pub fn differs_in_members_alone(&self, other: &Table) -> bool {
        let alike = |(this, that): (&Set, &Set)| {
            let same = (&this.name, &this.key, this.kind) == (&that.name, &that.key, that.kind);
            same && (this.kind == Kind::Members || this.spans == that.spans)
        };
        (&self.name, self.family, &self.comment) == (&other.name, other.family, &other.comment)
            && self.sets.len() == other.sets.len()
            && self.sets.iter().zip(&other.sets).all(alike)
            && (&self.chains, &self.guard) == (&other.chains, &other.guard)
    }

    /// The table and its companion, in the order in which they are loaded.
    pub fn parts(&self) -> impl Iterator<Item = &Table> {
        std::iter::once(self).chain(self.guard.as_deref())
    }

    /// Tells one plan from another: a hash in the manner of FNV-1a, by words, over everything but the comment, which carries it, and the elements of
    /// [`Kind::Members`] sets, which come and go under the same rules. Not a protection:
    /// whether the kernel still holds the plan is decided by reading it back. Another build may come to another
    /// number for the same table; then it is loaded once more.
    pub fn digest(&self) -> u64 {
        let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
        for part in self.parts() {
            (part.family, &part.sets, &part.chains).hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// FNV-1a's multiplier, of 64 bits.
const FNV_PRIME: u64 = 0x0100_0000_01b3;

struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    // Addresses and lengths at once: byte by byte, 100,000 ranges would take as long as sorting them.
    fn write_u64(&mut self, word: u64) {
        // The high bits of a product reach the low ones of the next.
        self.0 = (self.0.rotate_left(32) ^ word).wrapping_mul(FNV_PRIME);
    }

    fn write_u128(&mut self, word: u128) {
        self.write_u64(word as u64);
        self.write_u64((word >> 64) as u64);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}

/// One field of a set's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// `ipv4_addr`.
    Ipv4Addr,
    /// `ipv6_addr`.
    Ipv6Addr,
    /// `inet_proto`.
    InetProto,
    /// `inet_service`.
    InetService,
    /// `mark`: any 32 bits.
    Mark,
}

impl KeyType {
    /// The address type of a family.
    pub const fn address(family: Family) -> KeyType {
        match family {
            Family::V4 => KeyType::Ipv4Addr,
            Family::V6 => KeyType::Ipv6Addr,
        }
    }

    /// Bytes of a value in the packet.
    pub const fn width(self) -> usize {
        match self {
            KeyType::Ipv4Addr => 4,
            KeyType::Ipv6Addr => 16,
            KeyType::InetProto => 1,
            KeyType::InetService => 2,
            KeyType::Mark => 4,
        }
    }
}

/// How the kernel is to store a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Exact keys, in a hash table sized for them: `DESC_SIZE` halves the load time.
    Hash,
    /// Ranges: a tree for one field, `pipapo` for several.
    Interval,
    /// Filled by rules as packets pass: at most `size` elements, each forgotten after `timeout_s` seconds.
    Dynamic {
        /// Bound on the elements.
        size: u32,
        /// Seconds.
        timeout_s: u32,
    },
    /// Exact keys that come and go while the rules stay: a hash without a size. Of the kernel's hashes that leaves the
    /// one that grows (`nft_rhash_type`; `nft_hash_estimate` wants a size), and a size would bound what can be added.
    Members,
}

/// How often the kernel removes what a [`Kind::Dynamic`] set has forgotten, in seconds. Its own default is every second, for
/// each set of each container (`nft_set_gc_interval`).
pub const GC_INTERVAL_S: u32 = 30;

/// A named set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Name, unique in the table.
    pub name: String,
    /// The fields of its key.
    pub key: Vec<KeyType>,
    /// Storage.
    pub kind: Kind,
    /// Elements: `key.len()` ranges each, one after the other. Single values are ranges of one. The elements of a
    /// set never overlap: the kernel refuses that (`EEXIST`). They are sorted, except where several fields hold ranges.
    pub spans: Vec<AddrRange>,
}

impl Hash for Set {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.name, &self.key, self.kind).hash(state);
        if self.kind != Kind::Members {
            self.spans.hash(state);
        }
    }
}

impl Set {
    /// The elements, each a slice of one range per field.
    pub fn elements(&self) -> std::slice::ChunksExact<'_, AddrRange> {
        self.spans.chunks_exact(self.key.len().max(1))
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.elements().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Whether the set holds `values`, one number per field.
    pub fn contains(&self, values: &[u128]) -> bool {
        let holds = |element: &[AddrRange]| element.iter().zip(values).all(|(s, v)| s.first <= *v && *v <= s.last);
        if self.kind == Kind::Interval && self.key.len() > 1 {
            return self.elements().any(holds);
        }
        // The last element that does not begin behind the values is the only one that can hold them.
        let at = |index: usize| &self.spans[index * self.key.len()..(index + 1) * self.key.len()];
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            let begins_behind = at(middle).iter().map(|span| &span.first).gt(values);
            (low, high) = if begins_behind { (low, middle) } else { (middle + 1, high) };
        }
        low.checked_sub(1).is_some_and(|index| holds(at(index)))
    }
}

/// Where a base chain hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// Packets for this namespace.
    Input,
    /// Packets routed through it.
    Forward,
    /// Packets it sends.
    Output,
    /// Frames that a device has received; of family netdev, as the first three are of inet.
    Ingress,
    /// Frames that are about to leave through a device (Linux 5.16); of family netdev.
    Egress,
}

impl Hook {
    /// The name as `nft` spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Ingress => "ingress",
            Hook::Egress => "egress",
        }
    }
}

/// What makes a chain a base chain. Ours are of type filter, priority filter (0).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Base {
    /// Where it hangs.
    pub hook: Hook,
    /// Whether its policy is accept; drop otherwise.
    pub accepts: bool,
    /// Of family netdev: the devices it hangs on, by name. Those that do not exist join it when they come (Linux 6.16).
    pub devices: Vec<String>,
    /// Whether it hangs on whatever other devices there are too, when the table is loaded.
    pub every_device: bool,
}

/// A chain with its rules.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Chain {
    /// Name, unique in the table.
    pub name: String,
    /// Present for a base chain.
    pub base: Option<Base>,
    /// Rules in order.
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// All must hold.
    pub matches: Vec<Match>,
    /// What is done on the way.
    pub statements: Vec<Statement>,
    /// What is decided; `None` goes on to the next rule.
    pub verdict: Option<Verdict>,
    /// Its reason or origin; what `nft list ruleset` shows as its comment.
    pub comment: String,
}

impl Rule {
    /// Whether it counts what it decides, as every rule does by which a layer of ours denies.
    pub fn counts(&self) -> bool {
        self.statements.contains(&Statement::Count)
    }
}

/// Which address of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Source.
    Source,
    /// Destination.
    Destination,
}

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Match {
    /// `meta nfproto`.
    Family(Family),
    /// `iif "lo"`.
    InLoopback,
    /// `oif "lo"`.
    OutLoopback,
    /// `fib daddr type local`.
    LocalDestination,
    /// `fib saddr type local`.
    LocalSource,
    /// `fib saddr type != local`.
    ForeignSource,
    /// `ct state ==`: a packet is in one state (`nft_ct_get_eval`), so no mask is needed.
    State(State),
    /// `meta l4proto`, by number.
    Protocol(u8),
    /// `meta l4proto @set`.
    ProtocolIn(String),
    /// `th dport`.
    Port(PortRange),
    /// `th dport @set`.
    PortIn(String),
    /// `icmpv6 type`, from the first to the last.
    Icmpv6Type(u8, u8),
    /// `meta rtclassid >= 0`: the IP stack has routed the packet. The expression reads the realm of the packet's route and
    /// does not match where there is none (`nft_meta_get_eval_rtclassid`).
    Routed,
    /// `meta protocol`: what the kernel takes the frame for, an `ETH_P_*`.
    EtherType(u16),
    /// `ip6 hoplimit`.
    HopLimit(u8),
    /// `meta skuid != 4294967295`: sent by a socket of some process. The kernel's own sockets have no file and so no
    /// user; for them the expression does not match (`nft_meta_get_eval_skugid`).
    UserSocket,
    /// `ip daddr` or `ip6 saddr`: one address, one block or one range. Cheaper than a set of one element, which would
    /// have to be declared, filled and read back.
    Address(Side, Family, AddrRange),
    /// `ip daddr @set`.
    AddressIn(Side, Family, String),
    /// `ip daddr & 255.255.255.0 == @set`: the first bits of an address, so many.
    BlockIn(Side, Family, u8, String),
    /// `ip daddr . th dport @set`.
    AddressPortIn(Side, Family, String),
    /// `ip daddr . meta l4proto . th dport @set`.
    AddressProtocolPortIn(Side, Family, String),
    /// `tcp flags & (fin | syn | rst | ack) != syn`: a segment that opens no connection.
    MidStream,
    /// `tcp flags & (fin | rst) != 0`: a segment that ends one.
    TcpEnds,
    /// `ether type`: what the frame itself says it is, a VLAN tag included. Unlike [`Match::EtherType`] a sender's socket has no say
    /// in it, and a tagged frame is a tagged frame also where the tag travels beside it (`nft_payload_copy_vlan`).
    FrameType(u16),
    /// `icmp type`, from the first to the last.
    IcmpType(u8, u8),
    /// Any fragment but the first: it has no ports.
    LaterFragment(Family),
    /// A first fragment: more follow.
    MoreFragments(Family),
    /// `ip daddr . ip id @set`: a fragment of a packet that [`Statement::RememberFragment`] has seen.
    KnownFragment(Side, Family, String),
    /// The peer's address, protocol, the peer's port and ours are in a set of [`Statement::RememberFlow`]. With `ports` false both
    /// ports are 0.
    KnownFlow {
        /// Which address is the peer's.
        side: Side,
        /// Its family.
        family: Family,
        /// Whether the packet has ports.
        ports: bool,
        /// A [`Kind::Dynamic`] set.
        set: String,
    },
    /// An ICMP error about a packet of a flow in such a set, that the container sent.
    KnownInner {
        /// Its family.
        family: Family,
        /// Whether the packet that is cited has ports.
        ports: bool,
        /// Of IPv6: whether it is a fragment. Of IPv4 that changes nothing.
        fragment: bool,
        /// A [`Kind::Dynamic`] set.
        set: String,
    },
    /// `tcp flags & (syn | rst) != 0`: a segment that does not prove that its sender takes part in the connection.
    TcpOpensOrResets,
    /// ARP as Ethernet and IPv4 have it: hardware and protocol type, and the lengths of their addresses.
    ArpOfIpv4,
    /// `arp saddr ip @set`.
    ArpSenderIn(String),
    /// `arp operation request arp saddr ip 0.0.0.0`: a question whether an address is free (RFC 5227, 1.1).
    ArpProbe,
    /// The address that a neighbour solicitation or advertisement is about is in a set.
    NeighbourTargetIn(String),
    /// More bytes than that from the network header on, padding included.
    LongerThan(u32),
}

/// A conntrack state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// No entry and no right to one (`NF_CT_STATE_INVALID_BIT`).
    Invalid,
    /// Part of a flow that was let through.
    Established,
    /// Caused by such a flow.
    Related,
    /// The first packet of a flow.
    New,
}

/// Something done on the way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Statement {
    /// `counter`.
    Count,
    /// `update @set { address . meta l4proto . th dport }`; with `ports` false the port is 0.
    Remember {
        /// Which address.
        side: Side,
        /// Its family.
        family: Family,
        /// Whether the packet has ports.
        ports: bool,
        /// A [`Kind::Dynamic`] set.
        set: String,
    },
    /// Remembers the flow a packet belongs to, or goes on remembering it; see [`Match::KnownFlow`]. Where the set is full the rule
    /// ends here (`nft_dynset_eval` breaks off).
    RememberFlow {
        /// Which address is the peer's.
        side: Side,
        /// Its family.
        family: Family,
        /// Whether the packet has ports.
        ports: bool,
        /// A [`Kind::Dynamic`] set.
        set: String,
        /// For how long, in seconds.
        timeout_s: u32,
    },
    /// `delete @set { ... }`: forgets the flow a packet belongs to.
    ForgetFlow {
        /// Which address is the peer's.
        side: Side,
        /// Its family.
        family: Family,
        /// Whether the packet has ports.
        ports: bool,
        /// A [`Kind::Dynamic`] set.
        set: String,
    },
    /// Remembers which packet a fragment belongs to, by the peer's address and the packet's identification.
    RememberFragment(Side, Family, String),
    /// `update @set { ip6 saddr }`.
    RememberAddress(Side, Family, String),
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The packet passes this table.
    Accept,
    /// It vanishes.
    Drop,
    /// It vanishes, and its sender is told that it left: `fwd to 0`, where there is no device (`nf_fwd_netdev_egress` frees
    /// it). Of family netdev, for a chain at egress since Linux 5.18.
    Swallow,
    /// Back to the rule behind the jump.
    Return,
    /// On to a chain, and back.
    Jump(String),
    /// On to a chain, not back.
    Goto(String),
    /// Refused with a TCP reset.
    RejectWithReset,
    /// Refused with ICMP or ICMPv6 port unreachable.
    Reject,
}
