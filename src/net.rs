//! The shared nouns of the network: what the lists, the rules and the kernel modules all speak of.
//!
//! Values are checked where they are made; nobody re-checks a [`Cidr`] or a [`PortRange`].

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::printable;

mod plain;
mod written;

pub use plain::plain_block;
pub use written::{Cited, Writing, Written};

/// An IP family. Every rule exists for both or for neither (see the crate documentation).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both families, in the order in which rules are written.
    pub const BOTH: [Family; 2] = [Family::V4, Family::V6];

    /// Length of an address in bits.
    pub const fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }

    /// The family of `addr`.
    pub const fn of(addr: IpAddr) -> Family {
        match addr {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// The address of this family with the numeric value `bits` (the low 32 bits for IPv4).
    pub const fn address(self, bits: u128) -> IpAddr {
        match self {
            Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
            Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(bits)),
        }
    }

    /// The greatest address as a number.
    pub const fn max(self) -> u128 {
        match self {
            Family::V4 => u32::MAX as u128,
            Family::V6 => u128::MAX,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// Whether an address is link-local: chosen link by link, so that a host's two links may have the same one and it tells
/// nobody who is speaking.
pub const fn is_of_one_link(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// The addresses that everybody on an IPv6 link may give himself, unasked and besides any other (RFC 4291, 2.5.6): one says
/// of its holder that he is near, and not who he is.
pub const SELF_ASSIGNED: Cidr = Cidr { addr: IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), len: 10 };

/// The numeric value of an address.
pub const fn bits_of(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(a) => a.to_bits() as u128,
        IpAddr::V6(a) => a.to_bits(),
    }
}

/// An address block without host bits. A single address is a block of full length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cidr {
    addr: IpAddr,
    len: u8,
}

/// Why a text is not an address block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// Not an IP address, with or without `/length`.
    #[error("expected an IP address or a block such as 10.0.0.0/8, found {0:?}")]
    Syntax(String),
    /// The length is longer than the address.
    #[error("the prefix length of {text:?} is not a number from 0 to {max}")]
    Length {
        /// What was written.
        text: String,
        /// 32 or 128.
        max: u8,
    },
    /// There are bits set behind the prefix. Not accepted silently: one of the two halves is a typo.
    #[error("{text:?} has host bits set behind the prefix; the block would be {block}")]
    HostBits {
        /// What was written.
        text: String,
        /// What it would be without them.
        block: Cidr,
    },
}

impl Cidr {
    /// The block of length `len` around `addr`, host bits cleared. `None` when `len` exceeds the family's.
    pub const fn containing(addr: IpAddr, len: u8) -> Option<Cidr> {
        let family = Family::of(addr);
        if len > family.bits() {
            return None;
        }
        let host = family.bits() - len;
        let bits = bits_of(addr);
        let kept = if host == 128 { 0 } else { (bits >> host) << host };
        Some(Cidr { addr: family.address(kept), len })
    }

    /// The block that holds exactly `addr`.
    pub const fn host(addr: IpAddr) -> Cidr {
        Cidr { addr, len: Family::of(addr).bits() }
    }

    /// Every address of `family`.
    pub const fn everything(family: Family) -> Cidr {
        Cidr { addr: family.address(0), len: 0 }
    }

    /// Parses as the Kubernetes API does: host bits are allowed and cleared.
    pub fn parse_masked(text: &str) -> Result<Cidr, CidrError> {
        match text.parse() {
            Err(CidrError::HostBits { block, .. }) => Ok(block),
            other => other,
        }
    }

    /// The first address.
    pub const fn first(&self) -> IpAddr {
        self.addr
    }

    /// The prefix length in bits.
    pub const fn prefix_len(&self) -> u8 {
        self.len
    }

    /// The family.
    pub const fn family(&self) -> Family {
        Family::of(self.addr)
    }

    /// Whether this is exactly one address.
    pub const fn is_host(&self) -> bool {
        self.len == self.family().bits()
    }

    /// Whether `addr` lies inside. An IPv4-mapped IPv6 address is IPv6, as it is on the wire.
    pub const fn contains(&self, addr: IpAddr) -> bool {
        let range = self.range();
        let bits = bits_of(addr);
        range.first <= bits && bits <= range.last && self.is_same_family(addr)
    }

    const fn is_same_family(&self, addr: IpAddr) -> bool {
        matches!((self.addr, addr), (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)))
    }

    /// First and last address as numbers.
    pub const fn range(&self) -> AddrRange {
        let first = bits_of(self.addr);
        let host = self.family().bits() - self.len;
        let span = if host == 128 { u128::MAX } else { (1u128 << host) - 1 };
        AddrRange { first, last: first | span }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Cidr, CidrError> {
        if let Some(block) = plain_block(text) {
            return Ok(block);
        }
        let (addr, len) = match text.split_once('/') {
            None => (text, None),
            Some((addr, len)) => (addr, Some(len)),
        };
        let addr: IpAddr = addr.parse().map_err(|_| CidrError::Syntax(text.to_owned()))?;
        let max = Family::of(addr).bits();
        let len = match len {
            None => max,
            // `parse` alone would take "+8"; leading zeros are taken for what they look like: a mistake.
            Some(len) => Some(len)
                .filter(|l| l.bytes().all(|b| b.is_ascii_digit()) && (*l == "0" || !l.starts_with('0')))
                .and_then(|l| l.parse().ok())
                .filter(|l| *l <= max)
                .ok_or_else(|| CidrError::Length { text: text.to_owned(), max })?,
        };
        match Cidr::containing(addr, len) {
            Some(block) if block.addr == addr => Ok(block),
            Some(block) => Err(CidrError::HostBits { text: text.to_owned(), block }),
            None => Err(CidrError::Length { text: text.to_owned(), max }),
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_host() { write!(f, "{}", self.addr) } else { write!(f, "{}/{}", self.addr, self.len) }
    }
}

/// An inclusive range of addresses of one family, as numbers. What interval sets are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddrRange {
    /// First address.
    pub first: u128,
    /// Last address, not below `first`.
    pub last: u128,
}

impl AddrRange {
    /// Every address of `family`.
    pub const fn everything(family: Family) -> AddrRange {
        AddrRange { first: 0, last: family.max() }
    }

    /// The prefix length, where the range is exactly one block of `family`.
    pub const fn prefix_len(self, family: Family) -> Option<u8> {
        let span = self.last - self.first;
        let ones = span.trailing_ones();
        // A block's size is a power of two and its first address a multiple of it.
        if span.count_ones() == ones && self.first & span == 0 { Some(family.bits() - ones as u8) } else { None }
    }
}

/// The mask of a prefix of `family`: its first `length` bits set, of as many as an address has.
pub const fn mask(family: Family, length: u8) -> u128 {
    let rest = family.bits().saturating_sub(length);
    if rest >= 128 { 0 } else { family.max() >> rest << rest }
}

/// Sorts and joins ranges that overlap or touch. The kernel refuses overlapping intervals with `EEXIST`
/// (net/netfilter/nft_set_rbtree.c), and fewer elements load faster.
pub fn merge(mut ranges: Vec<AddrRange>) -> Vec<AddrRange> {
    ranges.sort_unstable();
    // In place: what is joined goes into the one before it.
    ranges.dedup_by(|range, last| {
        let joins = range.first <= last.last.saturating_add(1);
        if joins {
            last.last = last.last.max(range.last);
        }
        joins
    });
    ranges
}

/// What is in `from` (merged) and not in `holes` (merged).
pub fn subtract(from: &[AddrRange], holes: &[AddrRange]) -> Vec<AddrRange> {
    let mut left = Vec::with_capacity(from.len() + holes.len());
    let mut at = 0;
    for range in from {
        let mut first = range.first;
        let mut open = true;
        while at < holes.len() && holes[at].last < first {
            at += 1;
        }
        let mut hole = at;
        while hole < holes.len() && holes[hole].first <= range.last {
            if holes[hole].first > first {
                left.push(AddrRange { first, last: holes[hole].first - 1 });
            }
            if holes[hole].last >= range.last {
                open = false;
                break;
            }
            first = holes[hole].last + 1;
            hole += 1;
        }
        if open {
            left.push(AddrRange { first, last: range.last });
        }
    }
    left
}

/// A transport protocol that has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Transport {
    /// All of them.
    pub const ALL: [Transport; 3] = [Transport::Tcp, Transport::Udp, Transport::Sctp];

    /// The IANA protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Transport::Tcp => 6,
            Transport::Udp => 17,
            Transport::Sctp => 132,
        }
    }

    /// The name as `nft` and our lists spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
            Transport::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The transports of a [`Service`]: one, or those that are meant together where none is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transports {
    /// It alone.
    One(Transport),
    /// What a port means in a list.
    TcpUdp,
    /// All of them.
    All,
}

impl Transports {
    /// Each of them.
    pub const fn each(self) -> &'static [Transport] {
        match self {
            Transports::One(Transport::Tcp) => &[Transport::Tcp],
            Transports::One(Transport::Udp) => &[Transport::Udp],
            Transports::One(Transport::Sctp) => &[Transport::Sctp],
            Transports::TcpUdp => &[Transport::Tcp, Transport::Udp],
            Transports::All => &Transport::ALL,
        }
    }
}

/// An inclusive range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// Every port.
    pub const ALL: PortRange = PortRange { first: 0, last: u16::MAX };

    /// From `first` to `last`; `None` where `last` is below `first`.
    pub const fn new(first: u16, last: u16) -> Option<PortRange> {
        if first <= last { Some(PortRange { first, last }) } else { None }
    }

    /// First port.
    pub const fn first(self) -> u16 {
        self.first
    }

    /// Last port.
    pub const fn last(self) -> u16 {
        self.last
    }

    /// Whether `port` lies inside.
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

/// Whether a packet goes out of the container or comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the container to a peer.
    Egress,
    /// From a peer to the container.
    Ingress,
}

impl Direction {
    /// Both, in the order in which chains are written.
    pub const BOTH: [Direction; 2] = [Direction::Egress, Direction::Ingress];

    /// The word used in keys, chain names and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Direction::Egress => "egress",
            Direction::Ingress => "ingress",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What stands behind the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Payload {
    /// A transport header with its destination port.
    Transport {
        /// Which protocol.
        protocol: Transport,
        /// Destination port.
        port: u16,
    },
    /// ICMP for IPv4, ICMPv6 for IPv6, with its type.
    Icmp {
        /// ICMP or ICMPv6 type, as the family says.
        kind: u8,
    },
    /// Any other protocol, by its number.
    Other(u8),
}

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// Every protocol.
    Everything,
    /// ICMP towards IPv4 peers, ICMPv6 towards IPv6 peers.
    Icmp,
    /// Transports with a range of destination ports. For ingress these are the container's own ports.
    Ports {
        /// One, or several.
        transports: Transports,
        /// Destination ports.
        ports: PortRange,
    },
}

impl Service {
    /// Whether `payload` is spoken of.
    pub fn contains(&self, payload: Payload) -> bool {
        match (self, payload) {
            (Service::Everything, _) | (Service::Icmp, Payload::Icmp { .. }) => true,
            (Service::Ports { transports, ports }, Payload::Transport { protocol, port }) => {
                transports.each().contains(&protocol) && ports.contains(port)
            }
            (Service::Icmp | Service::Ports { .. }, _) => false,
        }
    }
}

/// One element of a set whose members come and go: an address, or an address with one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// The address.
    pub address: IpAddr,
    /// The transport and destination port, in sets that hold them.
    pub port: Option<(Transport, u16)>,
}

/// The first packet of a new flow, as a filter sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Packet {
    /// Which way it goes.
    pub direction: Direction,
    /// The other end: the destination of egress, the source of ingress.
    pub peer: IpAddr,
    /// What it carries.
    pub payload: Payload,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It passes.
    Accept,
    /// It is refused with an answer to the sender.
    Reject,
    /// It vanishes.
    Drop,
}

impl Verdict {
    /// Whether the packet passes.
    pub const fn passes(self) -> bool {
        matches!(self, Verdict::Accept)
    }
}

/// Where a rule or a value was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// Built into the program: the name of the default.
    Builtin(&'static str),
    /// A place in a file.
    File {
        /// The file as the operator named it.
        path: String,
        /// Line, counted from 1.
        line: u32,
        /// The dotted path in the object, such as `egress.allow[2]`.
        at: String,
    },
    /// An annotation of the container.
    Annotation {
        /// The whole key.
        key: String,
    },
    /// config.json's own `linux.sysctl`.
    Bundle {
        /// The dotted path in the document.
        at: String,
    },
}

impl Origin {
    /// Whether the container, not the admin, wrote it.
    pub const fn is_annotation(&self) -> bool {
        matches!(self, Origin::Annotation { .. })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Builtin(name) => write!(f, "built-in {name}"),
            Origin::File { path, line, at } if at.is_empty() => write!(f, "{}:{line}", printable::line(path)),
            Origin::File { path, line, at } => write!(f, "{}:{line} {at}", printable::line(path)),
            Origin::Annotation { key } => write!(f, "annotation {}", printable::line(key)),
            Origin::Bundle { at } => write!(f, "config.json {}", printable::line(at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u128, last: u128) -> AddrRange {
        AddrRange { first, last }
    }

    #[test]
    fn a_block_with_host_bits_is_refused_with_the_block_that_was_meant() {
        let error = "10.0.0.7/8".parse::<Cidr>().unwrap_err();
        assert!(error.to_string().contains("10.0.0.0/8"), "{error}");
        assert_eq!(Cidr::parse_masked("10.0.0.7/8").unwrap().to_string(), "10.0.0.0/8");
    }

    #[test]
    fn lengths_are_plain_decimal_and_within_the_family() {
        for text in ["10.0.0.0/33", "10.0.0.0/+8", "10.0.0.0/08", "10.0.0.0/", "::/129", "10.0.0.0/8/8", "10.0.0/8"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
        for text in ["0.0.0.0/0", "::/0", "10.0.0.0/8", "2001:db8::/32", "192.0.2.7"] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_mapped_address_is_not_ipv4() {
        let block: Cidr = "10.0.0.0/8".parse().unwrap();
        assert!(!block.contains("::ffff:10.0.0.1".parse().unwrap()));
        assert!(!block.contains("::a00:1".parse().unwrap()));
        assert!(block.contains("10.255.255.255".parse().unwrap()));
    }

    #[test]
    fn merge_joins_what_overlaps_or_touches() {
        let merged =
            merge(vec![range(5, 9), range(0, 1), range(2, 2), range(7, 12), range(20, u128::MAX), range(30, 31)]);
        assert_eq!(merged, [range(0, 2), range(5, 12), range(20, u128::MAX)]);
    }

    #[test]
    fn subtract_leaves_the_rims() {
        let from = [range(0, 10), range(20, 30), range(40, u128::MAX)];
        assert_eq!(
            subtract(&from, &[range(0, 2), range(5, 6), range(9, 22), range(30, 30), range(50, u128::MAX)]),
            [range(3, 4), range(7, 8), range(23, 29), range(40, 49)]
        );
        assert_eq!(subtract(&from, &[]), from);
        assert_eq!(subtract(&from, &[range(0, u128::MAX)]), []);
        assert_eq!(subtract(&from, &[range(12, 14)]), from);
    }
}
