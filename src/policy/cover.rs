//! The shortest list that allows some flows and nothing else.
//!
//! An entry is a block of addresses times a range of ports times a protocol, or TCP and UDP at once. Those that allow nothing
//! beside what was seen, and are contained in no other such entry, are the candidates; the fewest of them that together allow
//! all of it are chosen. That is the covering that minimizers of logic solve, and it is solved the same way: an entry without
//! which something is not allowed is in every answer, which leaves little or nothing of what programs do to search through.
//! [`STEPS`] bounds the search; beyond it the answer is still exact in what it allows, and may have more entries than need be.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use crate::net::{AddrRange, Cidr, Family, PortRange, Service, Transport, Transports, bits_of, merge, subtract};

/// What is spoken to a peer, as far as a list can tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Spoken {
    /// ICMP or ICMPv6, as the peer's family says.
    Icmp,
    /// A transport and a port from 1 on.
    Port(Transport, u16),
}

/// A flow that an entry can allow: who, and what is spoken. A peer is one address; a block where it was widened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seen {
    peer: Cidr,
    spoken: Spoken,
}

impl Seen {
    /// `None` where the grammar has no entry for exactly that: port 0, and IPv4-mapped addresses, which never appear in a
    /// packet.
    pub fn new(peer: IpAddr, spoken: Spoken) -> Option<Seen> {
        let mapped = match peer {
            IpAddr::V4(_) => false,
            IpAddr::V6(address) => address.to_ipv4_mapped().is_some(),
        };
        let nowhere = matches!(spoken, Spoken::Port(_, 0));
        (!mapped && !nowhere).then_some(Seen { peer: Cidr::host(peer), spoken })
    }

    /// Who.
    pub const fn peer(&self) -> Cidr {
        self.peer
    }
}

/// An entry that allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Allowing {
    /// Who.
    pub peers: Cidr,
    /// What.
    pub service: Service,
}

/// As a list has it.
impl fmt::Display for Allowing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peers = |f: &mut fmt::Formatter<'_>| match self.peers.family() {
            Family::V4 => write!(f, "{}", self.peers),
            // Without them the last group could be taken for a port.
            Family::V6 => write!(f, "[{}]", self.peers),
        };
        match self.service {
            Service::Everything => peers(f),
            Service::Icmp => f.write_str("icmp/").and_then(|()| peers(f)),
            Service::Ports { transports, ports } => {
                if let Transports::One(one) = transports {
                    write!(f, "{one}/")?;
                }
                peers(f)?;
                if ports == PortRange::ALL { Ok(()) } else { write!(f, ":{ports}") }
            }
        }
    }
}

/// A block in the place of the addresses that were seen in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Widened {
    /// The block.
    pub block: Cidr,
    /// How many of its addresses were seen.
    pub seen: usize,
}

/// Puts the block of `v4` or `v6` bits in the place of the addresses in it that are spoken to alike, where there are two or
/// more. An address alone in its block stays as it is.
pub fn widen(seen: &BTreeSet<Seen>, v4: Option<u8>, v6: Option<u8>) -> (BTreeSet<Seen>, Vec<Widened>) {
    let block = |one: &Seen| {
        let len = match one.peer.family() {
            Family::V4 => v4,
            Family::V6 => v6,
        };
        len.and_then(|len| Cidr::containing(one.peer.first(), len))
    };
    let mut alike: BTreeMap<(Cidr, Spoken), Vec<Seen>> = BTreeMap::new();
    let mut wider = BTreeSet::new();
    for one in seen {
        match block(one) {
            Some(block) => alike.entry((block, one.spoken)).or_default().push(*one),
            None => {
                wider.insert(*one);
            }
        }
    }
    let mut widened: BTreeMap<Cidr, BTreeSet<Cidr>> = BTreeMap::new();
    for ((block, spoken), ones) in alike {
        if ones.len() > 1 && !block.is_host() {
            wider.insert(Seen { peer: block, spoken });
            widened.entry(block).or_default().extend(ones.iter().map(|one| one.peer));
        } else {
            wider.extend(ones);
        }
    }
    (wider, widened.into_iter().map(|(block, peers)| Widened { block, seen: peers.len() }).collect())
}

/// The entries that together allow exactly `seen`, in the order of their addresses; as few as there can be, see [`STEPS`].
pub fn cover(seen: &BTreeSet<Seen>) -> Vec<Allowing> {
    // Blocks of one length are to each other as addresses are.
    let mut axes: BTreeMap<(Family, u8), Axis> = BTreeMap::new();
    for one in seen {
        let (family, len) = (one.peer.family(), one.peer.prefix_len());
        let axis = axes.entry((family, len)).or_default();
        let at = bits_of(one.peer.first()).checked_shr(u32::from(family.bits() - len)).unwrap_or(0);
        axis.entry(at).or_default().add(one.spoken);
    }
    let mut entries: Vec<Allowing> = Vec::new();
    for ((family, len), axis) in axes {
        entries.extend(choose(&candidates(axis)).into_iter().map(|one| one.entry(family, len)));
    }
    entries.sort_by_key(|entry| (entry.peers.family(), entry.peers, order(entry.service)));
    entries
}

const fn order(service: Service) -> (u8, u16) {
    match service {
        Service::Everything => (0, 0),
        Service::Ports { transports: Transports::One(Transport::Tcp), ports } => (2, ports.first()),
        Service::Ports { transports: Transports::One(Transport::Udp), ports } => (3, ports.first()),
        Service::Ports { transports: Transports::One(Transport::Sctp), ports } => (4, ports.first()),
        Service::Ports { transports: _, ports } => (1, ports.first()),
        Service::Icmp => (5, 0),
    }
}

/// What is spoken to each of the blocks of one length, by their number.
type Axis = BTreeMap<u128, Spokens>;

/// What is spoken to all of some addresses: the ports of each transport, merged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Spokens {
    icmp: bool,
    ports: [Vec<AddrRange>; 3],
}

const fn index(transport: Transport) -> usize {
    match transport {
        Transport::Tcp => 0,
        Transport::Udp => 1,
        Transport::Sctp => 2,
    }
}

fn common(a: &[AddrRange], b: &[AddrRange]) -> Vec<AddrRange> {
    subtract(a, &subtract(a, b))
}

impl Spokens {
    /// Ports come in ascending order.
    fn add(&mut self, spoken: Spoken) {
        match spoken {
            Spoken::Icmp => self.icmp = true,
            Spoken::Port(transport, port) => {
                let (ports, port) = (&mut self.ports[index(transport)], u128::from(port));
                ports.push(AddrRange { first: port, last: port });
                *ports = merge(std::mem::take(ports));
            }
        }
    }

    fn common(&self, other: &Spokens) -> Spokens {
        let ports = [0, 1, 2].map(|at| common(&self.ports[at], &other.ports[at]));
        Spokens { icmp: self.icmp && other.icmp, ports }
    }

    fn is_empty(&self) -> bool {
        !self.icmp && self.ports.iter().all(Vec::is_empty)
    }

    /// The widest ranges of one transport, or of TCP and UDP.
    fn ranges(&self, what: What) -> Vec<AddrRange> {
        match what {
            What::Icmp => self.icmp.then_some(AddrRange { first: 0, last: 0 }).into_iter().collect(),
            What::One(transport) => self.ports[index(transport)].clone(),
            What::TcpAndUdp => common(&self.ports[0], &self.ports[1]),
        }
    }
}

/// What an entry can say before its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    TcpAndUdp,
    One(Transport),
    Icmp,
}

impl What {
    const ALL: [What; 5] =
        [What::TcpAndUdp, What::One(Transport::Tcp), What::One(Transport::Udp), What::One(Transport::Sctp), What::Icmp];

    fn service(self, ports: PortRange) -> Service {
        match self {
            What::TcpAndUdp => Service::Ports { transports: Transports::TcpUdp, ports },
            What::One(transport) => Service::Ports { transports: Transports::One(transport), ports },
            What::Icmp => Service::Icmp,
        }
    }
}

/// An entry that could be chosen: a block whose number is `at`, so many bits shorter than those that were seen.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    at: u128,
    shorter: u8,
    what: What,
    ports: AddrRange,
    /// What it allows of what was seen, by number.
    cells: Vec<usize>,
}

impl Candidate {
    fn entry(&self, family: Family, len: u8) -> Allowing {
        let len = len - self.shorter;
        let first = self.at.checked_shl(u32::from(family.bits() - len)).unwrap_or(0);
        let peers = Cidr::containing(family.address(first), len).unwrap_or(Cidr::everything(family));
        let ports = PortRange::new(self.ports.first as u16, self.ports.last as u16).unwrap_or(PortRange::ALL);
        Allowing { peers, service: self.what.service(ports) }
    }
}

/// Every entry that allows nothing else, but for those that another one contains.
fn candidates(axis: Axis) -> Vec<Candidate> {
    let mut cells: BTreeMap<(u128, Number, u128), usize> = BTreeMap::new();
    for (at, spoken) in &axis {
        let mut number = |what, port| {
            let next = cells.len();
            cells.entry((*at, what, port)).or_insert(next);
        };
        if spoken.icmp {
            number(ICMP, 0);
        }
        for (what, ranges) in spoken.ports.iter().enumerate() {
            ranges.iter().flat_map(|range| range.first..=range.last).for_each(|port| number(what as Number, port));
        }
    }
    let mut all = Vec::new();
    let (mut level, mut shorter) = (axis, 0u8);
    while !level.is_empty() {
        let mut above = Axis::new();
        for (at, spoken) in level.iter().filter(|(at, _)| *at & 1 == 0) {
            let Some(other) = level.get(&(at + 1)) else { continue };
            let both = spoken.common(other);
            if !both.is_empty() {
                above.insert(at >> 1, both);
            }
        }
        for (at, spoken) in &level {
            let parent = above.get(&(at >> 1));
            for what in What::ALL {
                let wider = parent.map(|parent| parent.ranges(what)).unwrap_or_default();
                let with_more = match what {
                    What::One(Transport::Tcp | Transport::Udp) => spoken.ranges(What::TcpAndUdp),
                    What::One(Transport::Sctp) | What::TcpAndUdp | What::Icmp => Vec::new(),
                };
                let ranges = spoken.ranges(what).into_iter();
                for ports in ranges.filter(|ports| !wider.contains(ports) && !with_more.contains(ports)) {
                    all.push(Candidate { at: *at, shorter, what, ports, cells: Vec::new() });
                }
            }
        }
        (level, shorter) = (above, shorter + 1);
    }
    for one in &mut all {
        let numbers: Vec<Number> = match one.what {
            What::Icmp => vec![ICMP],
            What::TcpAndUdp => Transports::TcpUdp.each().iter().map(|t| index(*t) as Number).collect(),
            What::One(transport) => vec![index(transport) as Number],
        };
        let first = one.at.checked_shl(u32::from(one.shorter)).unwrap_or(0);
        // As many as there are addresses in it, and each of them was seen.
        for at in first..=first | ((1u128 << one.shorter.min(127)) - 1) {
            for what in &numbers {
                let inside = cells.range((at, *what, one.ports.first)..=(at, *what, one.ports.last));
                one.cells.extend(inside.map(|(_, cell)| *cell));
            }
        }
    }
    all
}

/// [`Spokens::ports`]' index, or ICMP.
type Number = u8;
const ICMP: Number = 3;

/// Most steps of the search for the fewest, for each part of the answer that does not depend on the others.
pub const STEPS: usize = 20_000;

/// The fewest candidates that together have every cell.
fn choose(candidates: &[Candidate]) -> Vec<&Candidate> {
    let count = candidates.iter().flat_map(|one| &one.cells).max().map_or(0, |last| last + 1);
    let mut having: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (number, one) in candidates.iter().enumerate() {
        one.cells.iter().for_each(|cell| having[*cell].push(number));
    }
    let mut chosen: BTreeSet<usize> = having.iter().filter(|by| by.len() == 1).map(|by| by[0]).collect();
    let mut open = vec![true; count];
    for cell in chosen.iter().flat_map(|number| &candidates[*number].cells) {
        open[*cell] = false;
    }
    // What shares no candidate is decided apart.
    for start in 0..count {
        if !open[start] {
            continue;
        }
        let (mut part, mut next, mut met) = (vec![start], 0, BTreeSet::new());
        open[start] = false;
        while let Some(cell) = part.get(next).copied() {
            next += 1;
            for number in having[cell].iter().filter(|number| met.insert(**number)) {
                for other in &candidates[*number].cells {
                    if std::mem::take(&mut open[*other]) {
                        part.push(*other);
                    }
                }
            }
        }
        chosen.extend(fewest(candidates, &having, &part));
    }
    chosen.into_iter().map(|number| &candidates[number]).collect()
}

/// The fewest that have every cell of a part.
fn fewest(candidates: &[Candidate], having: &[Vec<usize>], part: &[usize]) -> Vec<usize> {
    let mut search = Search {
        candidates,
        having,
        part,
        had: part.iter().map(|cell| (*cell, 0)).collect(),
        taken: Vec::new(),
        best: greedily(candidates, having, part),
        steps: STEPS,
    };
    search.go_on();
    search.best
}

/// Always the one that has the most that is left.
fn greedily(candidates: &[Candidate], having: &[Vec<usize>], part: &[usize]) -> Vec<usize> {
    let mut left: BTreeSet<usize> = part.iter().copied().collect();
    let mut met: BTreeSet<usize> = part.iter().flat_map(|cell| &having[*cell]).copied().collect();
    let mut taken: Vec<usize> = Vec::new();
    while !left.is_empty() {
        let gain = |number: &usize| candidates[*number].cells.iter().filter(|cell| left.contains(cell)).count();
        let Some(most) = met.iter().copied().max_by_key(|number| (gain(number), std::cmp::Reverse(*number))) else {
            break;
        };
        for cell in &candidates[most].cells {
            left.remove(cell);
        }
        met.remove(&most);
        taken.push(most);
    }
    // What came first may have become needless.
    let is_needless = |number: usize, taken: &[usize]| {
        let of_part = candidates[number].cells.iter().filter(|cell| part.contains(cell));
        of_part.clone().all(|cell| having[*cell].iter().any(|other| *other != number && taken.contains(other)))
    };
    for number in taken.clone() {
        if is_needless(number, &taken) {
            taken.retain(|other| *other != number);
        }
    }
    taken
}

/// A search for fewer than the best that is known.
struct Search<'a> {
    candidates: &'a [Candidate],
    having: &'a [Vec<usize>],
    part: &'a [usize],
    /// How many of those taken have each cell.
    had: BTreeMap<usize, usize>,
    taken: Vec<usize>,
    best: Vec<usize>,
    steps: usize,
}

impl Search<'_> {
    fn go_on(&mut self) {
        if self.steps == 0 {
            return;
        }
        self.steps -= 1;
        let open = self.part.iter().filter(|cell| self.had.get(cell) == Some(&0));
        let Some(hardest) = open.min_by_key(|cell| self.having[**cell].len()).copied() else {
            if self.taken.len() < self.best.len() {
                self.best.clone_from(&self.taken);
            }
            return;
        };
        // One more is needed at least.
        if self.taken.len() + 1 >= self.best.len() {
            return;
        }
        for number in &self.having[hardest] {
            self.take(*number, true);
            self.go_on();
            self.take(*number, false);
        }
    }

    fn take(&mut self, number: usize, in_hand: bool) {
        if in_hand {
            self.taken.push(number);
        } else {
            self.taken.pop();
        }
        for cell in &self.candidates[number].cells {
            if let Some(had) = self.had.get_mut(cell) {
                if in_hand { *had += 1 } else { *had -= 1 }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::net::{Direction, Origin, Packet, Payload};
    use crate::policy::list::List;

    fn seen(texts: &[&str]) -> BTreeSet<Seen> {
        let one = |text: &&str| {
            let (protocol, rest) = text.split_once('/').unwrap();
            let spoken = |transport, port: u16| Spoken::Port(transport, port);
            let (peer, spoken) = match protocol {
                "icmp" => (rest.parse().unwrap(), Spoken::Icmp),
                _ => {
                    let to: std::net::SocketAddr = rest.parse().unwrap();
                    let transport = Transport::ALL.into_iter().find(|t| t.name() == protocol).unwrap();
                    (to.ip(), spoken(transport, to.port()))
                }
            };
            Seen::new(peer, spoken).unwrap()
        };
        texts.iter().map(one).collect()
    }

    fn covered(texts: &[&str]) -> String {
        cover(&seen(texts)).iter().map(Allowing::to_string).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn what_is_together_exactly_a_block_a_range_or_both_transports_becomes_one_entry() {
        for (texts, list) in [
            (&[][..], ""),
            (&["tcp/10.0.0.1:80"], "tcp/10.0.0.1:80"),
            (&["tcp/10.0.0.1:53", "udp/10.0.0.1:53"], "10.0.0.1:53"),
            (&["tcp/10.0.0.1:80", "tcp/10.0.0.1:81", "tcp/10.0.0.1:83"], "tcp/10.0.0.1:80-81, tcp/10.0.0.1:83"),
            (&["tcp/10.0.0.2:80", "tcp/10.0.0.3:80"], "tcp/10.0.0.2/31:80"),
            // Neighbours that are no block.
            (&["tcp/10.0.0.1:80", "tcp/10.0.0.2:80"], "tcp/10.0.0.1:80, tcp/10.0.0.2:80"),
            (&["icmp/10.0.0.0", "icmp/10.0.0.1", "icmp/2001:db8::1"], "icmp/10.0.0.0/31, icmp/[2001:db8::1]"),
            (&["tcp/[2001:db8::2]:443", "tcp/[2001:db8::3]:443"], "tcp/[2001:db8::2/127]:443"),
            (&["sctp/10.0.0.1:9", "tcp/10.0.0.1:9"], "tcp/10.0.0.1:9, sctp/10.0.0.1:9"),
            // Overlapping is shorter than apart.
            (
                &["tcp/10.0.0.0:80", "tcp/10.0.0.0:81", "tcp/10.0.0.1:81", "tcp/10.0.0.1:82"],
                "tcp/10.0.0.0:80-81, tcp/10.0.0.1:81-82",
            ),
            (&["tcp/0.0.0.0:1", "tcp/255.255.255.255:65535"], "tcp/0.0.0.0:1, tcp/255.255.255.255:65535"),
        ] {
            assert_eq!(covered(texts), list);
        }
    }

    #[test]
    fn what_no_entry_says_exactly_is_refused_at_the_door() {
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(Seen::new(mapped, Spoken::Icmp), None);
        assert_eq!(Seen::new("10.0.0.1".parse().unwrap(), Spoken::Port(Transport::Udp, 0)), None);
    }

    #[test]
    fn a_block_is_widened_to_where_two_are_spoken_to_alike_and_nowhere_else() {
        let seen =
            seen(&["tcp/10.0.0.1:80", "tcp/10.0.0.9:80", "tcp/10.0.0.9:81", "tcp/10.0.1.1:80", "icmp/2001:db8::1"]);
        let (wider, widened) = widen(&seen, Some(24), Some(64));
        let list: Vec<String> = cover(&wider).iter().map(Allowing::to_string).collect();
        assert_eq!(list, ["tcp/10.0.0.0/24:80", "tcp/10.0.0.9:81", "tcp/10.0.1.1:80", "icmp/[2001:db8::1]"]);
        assert_eq!(widened, [Widened { block: "10.0.0.0/24".parse().unwrap(), seen: 2 }]);
        assert_eq!(widen(&seen, None, None), (seen.clone(), Vec::new()));
        // Everything, and blocks that are neighbours.
        let (wider, _) = widen(&seen, Some(0), None);
        assert!(cover(&wider).iter().any(|entry| entry.to_string() == "tcp/0.0.0.0/0:80"));
        let many: BTreeSet<Seen> =
            (0..4u32).map(|n| Seen::new(IpAddr::V4((0x0a00_0000 + (n << 7)).into()), Spoken::Icmp).unwrap()).collect();
        let (wider, widened) = widen(&many, Some(24), None);
        assert_eq!((cover(&wider)[0].to_string(), widened.len()), ("icmp/10.0.0.0/23".to_owned(), 2));
    }

    #[test]
    fn as_much_as_the_kernel_remembers_is_covered_at_once() {
        // Every other address of a network, every other port; and a scan.
        let apart = (0..64u32).flat_map(|a| {
            (1..64u16).map(move |p| {
                Seen::new(IpAddr::V4((0x0a00_0000 + 2 * a).into()), Spoken::Port(Transport::Tcp, 2 * p)).unwrap()
            })
        });
        assert_eq!(cover(&apart.collect()).len(), 64 * 63);
        let scan = (1..=4096u16).map(|p| Seen::new([10, 0, 0, 1].into(), Spoken::Port(Transport::Udp, p)).unwrap());
        assert_eq!(cover(&scan.collect()).len(), 1);
        // A stair: each step overlaps with the next.
        let stair = (0..64u32).flat_map(|a| {
            (0..64u16).filter(move |p| u32::from(*p) <= a).map(move |p| {
                Seen::new(IpAddr::V4((0x0a00_0000 + a).into()), Spoken::Port(Transport::Tcp, 1 + p)).unwrap()
            })
        });
        assert_eq!(cover(&stair.collect()).len(), 64);
    }

    /// A small world: six addresses of two families, ports 1 to 4, every protocol.
    fn world() -> Vec<Seen> {
        let peers = ["10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "2001:db8::", "2001:db8::1"];
        let ports = (1..=4u16).flat_map(|port| Transport::ALL.map(|transport| Spoken::Port(transport, port)));
        let spoken: Vec<Spoken> = ports.chain([Spoken::Icmp]).collect();
        let of = |peer: &str| {
            let peer: IpAddr = peer.parse().unwrap();
            spoken.iter().filter_map(move |spoken| Seen::new(peer, *spoken)).collect::<Vec<_>>()
        };
        peers.iter().flat_map(|peer| of(peer)).collect()
    }

    fn packets(peer: IpAddr) -> Vec<Packet> {
        let of = |payload| Packet { direction: Direction::Egress, peer, payload };
        let transports = (0..=6u16)
            .flat_map(|port| Transport::ALL.map(|protocol| Payload::Transport { protocol, port }))
            .chain([Payload::Icmp { kind: 8 }, Payload::Other(47)]);
        transports.map(of).collect()
    }

    fn is_seen(seen: &BTreeSet<Seen>, packet: &Packet) -> bool {
        let spoken = match packet.payload {
            Payload::Transport { protocol, port } => Spoken::Port(protocol, port),
            Payload::Icmp { .. } => Spoken::Icmp,
            Payload::Other(_) => return false,
        };
        Seen::new(packet.peer, spoken).is_some_and(|one| seen.contains(&one))
    }

    /// The least number of entries, found the long way: all sets of entries of that size, of every entry there is.
    fn least(seen: &BTreeSet<Seen>) -> usize {
        let peers: BTreeSet<Cidr> = seen.iter().map(|one| one.peer).collect();
        let blocks: BTreeSet<Cidr> = peers
            .iter()
            .flat_map(|peer| (0..4).filter_map(|n| Cidr::containing(peer.first(), peer.prefix_len() - n)))
            .collect();
        let mut entries = Vec::new();
        for peers in blocks {
            let size = 1u128 << (peers.family().bits() - peers.prefix_len());
            let addresses = || (0..size).map(|n| peers.family().address(peers.range().first + n));
            let holds = |spoken: &[Spoken]| -> Option<BTreeSet<Seen>> {
                let all: Option<BTreeSet<Seen>> =
                    addresses().flat_map(|a| spoken.iter().map(move |s| Seen::new(a, *s))).collect();
                all.filter(|all| all.is_subset(seen))
            };
            entries.extend(holds(&[Spoken::Icmp]));
            let one = Transport::ALL.map(Transports::One);
            for transports in one.into_iter().chain([Transports::TcpUdp]) {
                for (first, last) in (1..=4u16).flat_map(|first| (first..=4).map(move |last| (first, last))) {
                    let ports =
                        (first..=last).flat_map(|port| transports.each().iter().map(move |t| Spoken::Port(*t, port)));
                    entries.extend(holds(&ports.collect::<Vec<_>>()));
                }
            }
        }
        fn can(left: &BTreeSet<Seen>, entries: &[BTreeSet<Seen>], most: usize) -> bool {
            let Some(first) = left.first() else { return true };
            most > 0
                && entries
                    .iter()
                    .filter(|entry| entry.contains(first))
                    .any(|entry| can(&left.difference(entry).copied().collect(), entries, most - 1))
        }
        (0..).find(|most| can(seen, &entries, *most)).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn the_list_parses_and_allows_exactly_what_was_seen(picked in prop::collection::vec(any::<prop::sample::Index>(), 1..60)) {
            let world = world();
            let seen: BTreeSet<Seen> = picked.iter().map(|index| *index.get(&world)).collect();
            let text = cover(&seen).iter().map(Allowing::to_string).collect::<Vec<_>>().join(", ");
            let list = List::parse(&text, &Origin::Builtin("test")).unwrap();
            for peer in ["10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "9.255.255.255",
                         "2001:db8::", "2001:db8::1", "2001:db8::2"] {
                for packet in packets(peer.parse().unwrap()) {
                    prop_assert_eq!(list.allows(&packet, &[]), is_seen(&seen, &packet), "{}: {:?}", text, packet);
                }
            }
        }

        #[test]
        fn no_list_is_shorter(picked in prop::collection::vec(any::<prop::sample::Index>(), 1..24)) {
            // So small that much of it touches, and the greedy way is often not the shortest.
            let mut world = world();
            let near = |spoken| matches!(spoken, Spoken::Port(Transport::Tcp | Transport::Udp, ..=3));
            world.retain(|one| one.peer.range().last <= 0x0a00_0003 && near(one.spoken));
            let seen: BTreeSet<Seen> = picked.iter().map(|index| *index.get(&world)).collect();
            prop_assert_eq!(cover(&seen).len(), least(&seen));
        }
    }
}
