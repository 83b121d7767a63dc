//! Chooses sets for the entries of a layer.
//!
//! Per family and per kind of entry (allow, deny) the layout is chosen by the data:
//!
//! * single addresses with single ports, of every protocol: one hash of `address . protocol . port`;
//! * addresses without ports: one set; a hash where all are single addresses, else ranges, or a hash for each length of
//!   prefix ([`blocks`](super::blocks)), whichever the kernel loads and reads back faster;
//! * ports whatever the address: one port range, or one set of ranges;
//! * the rest: boxes of address range × port range, made disjoint. Either one rule and one address set per group of
//!   ports that share their addresses, or one `pipapo` set of all boxes, whichever the kernel loads faster.
//!
//! One or two ranges stand in rules of their own: a set would have to be declared, filled and read back. Entries for
//! TCP and UDP together keep one set, guarded by `meta l4proto @set`, rather than being written twice, unless there is
//! only one rule to guard and no set behind it.

use std::collections::BTreeMap;

use crate::net::{AddrRange, Family, PortRange, Service, Transport, merge};
use crate::nft::blocks::{Blocks, RULE_NS, SET_NS, blocks, cheapest_ns, tree_ns};
use crate::nft::filter::{Entry, Ranges};

/// Most boxes one layer may come to. Nested port ranges over many addresses multiply; an input past this limit is
/// refused where it is built, before the kernel sees it.
pub const MAX_BOXES: usize = 500_000;

/// Something one rule can ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// Which transports or protocol.
    pub(super) protocol: Protocol,
    /// Destination ports.
    pub(super) ports: Ports,
    /// Addresses.
    pub(super) peers: Peers,
    /// The entries that led here, by index, in order.
    pub(super) entries: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Protocol {
    Any,
    Icmp,
    Transports(&'static [Transport]),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ports {
    Any,
    Range(PortRange),
    Set(Vec<AddrRange>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Peers {
    /// Every address of the family.
    Any,
    /// One set of addresses.
    Set(Vec<AddrRange>),
    /// One set of blocks of a length in bits, by their first addresses.
    Blocks(u8, Vec<AddrRange>),
    /// One set of `address . port`, two spans an element; the ports are in here.
    WithPorts(Vec<AddrRange>),
    /// One set of `address . protocol . port`, three spans an element.
    Exact(Vec<AddrRange>),
}

/// An entry with its index and its ports.
type Item<'e> = (u32, PortRange, &'e Entry);

/// More than [`MAX_BOXES`] boxes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooManyBoxes;

/// The questions to ask for the entries of one family that are `chosen`.
pub(super) fn questions(
    entries: &[Entry],
    family: Family,
    chosen: impl Fn(&Entry) -> bool,
) -> Result<Vec<Question>, TooManyBoxes> {
    let mut classes: BTreeMap<Protocol, Vec<Item<'_>>> = BTreeMap::new();
    let (mut exact, mut exact_entries) = (Vec::new(), Vec::new());
    for (entry, index) in entries.iter().zip(0u32..) {
        if !chosen(entry) || !entry.has(family) {
            continue;
        }
        let (protocol, ports) = match entry.service {
            Service::Everything => (Protocol::Any, PortRange::ALL),
            Service::Icmp => (Protocol::Icmp, PortRange::ALL),
            Service::Ports { transports, ports } => {
                if ports.first() == ports.last() && entry.is_of_hosts(family) {
                    exact_entries.push(index);
                    let ranges = entry.ranges(family);
                    for transport in transports.each() {
                        exact.extend(ranges.iter().map(|r| [*r, number(*transport), span(ports)]));
                    }
                    continue;
                }
                (Protocol::Transports(transports.each()), ports)
            }
        };
        classes.entry(protocol).or_default().push((index, ports, entry));
    }
    let mut questions = Vec::new();
    if !exact.is_empty() {
        exact.sort_unstable();
        exact.dedup();
        let peers = Peers::Exact(exact.into_flattened());
        questions.push(Question { protocol: Protocol::Any, ports: Ports::Any, peers, entries: exact_entries });
    }
    for (protocol, items) in classes {
        let mut of_this = Vec::new();
        of_class(protocol, &items, family, &mut of_this)?;
        let mut of_this: Vec<Question> = of_this.into_iter().flat_map(|q| split(q, entries, family)).collect();
        if let (Protocol::Transports(several), [only]) = (protocol, of_this.as_slice())
            && several.len() > 1
            && matches!(&only.peers, Peers::Set(ranges) if ranges.len() == 1)
        {
            let one = |t| Question { protocol: Protocol::Transports(std::slice::from_ref(t)), ..only.clone() };
            of_this = several.iter().map(one).collect();
        }
        questions.extend(of_this);
    }
    Ok(questions)
}

/// At most this many ranges are asked for one by one.
const INLINE: usize = 2;

/// One question per range where there are few, each with the entries it is about.
fn split(question: Question, entries: &[Entry], family: Family) -> Vec<Question> {
    let ranges = match &question.peers {
        Peers::Set(ranges) if (2..=INLINE).contains(&ranges.len()) => ranges.clone(),
        Peers::Set(ranges) => {
            let Some(blocks) = blocks(ranges, family, entries, &question.entries) else { return vec![question] };
            let of = |blocks: Blocks| Question {
                peers: Peers::Blocks(blocks.length, blocks.firsts),
                entries: blocks.entries,
                protocol: question.protocol,
                ports: question.ports.clone(),
            };
            return blocks.into_iter().map(of).collect();
        }
        Peers::Any | Peers::Blocks(..) | Peers::WithPorts(_) | Peers::Exact(_) => return vec![question],
    };
    let meets = |index: &u32, range: AddrRange| {
        let overlaps = |other: &AddrRange| other.first <= range.last && range.first <= other.last;
        entries.get(*index as usize).is_some_and(|entry| entry.ranges(family).iter().any(overlaps))
    };
    let of = |range: &AddrRange| Question {
        peers: Peers::Set(vec![*range]),
        entries: question.entries.iter().filter(|index| meets(index, *range)).copied().collect(),
        ..question.clone()
    };
    ranges.iter().map(of).collect()
}

fn number(transport: Transport) -> AddrRange {
    let number = transport.number().into();
    AddrRange { first: number, last: number }
}

fn of_class(
    protocol: Protocol,
    items: &[Item<'_>],
    family: Family,
    questions: &mut Vec<Question>,
) -> Result<(), TooManyBoxes> {
    let whole = [AddrRange::everything(family)];
    let everyone = |entry: &Entry| entry.is_of_everyone(family);
    /// Those that are picked, by index.
    fn indexes(items: &[Item<'_>], pick: impl Fn(PortRange, &Entry) -> bool) -> Vec<u32> {
        items.iter().filter(|(_, ports, entry)| pick(*ports, entry)).map(|(index, _, _)| *index).collect()
    }

    // Ports whatever the address, and addresses whatever the port.
    let open_ports: Vec<AddrRange> =
        merge(items.iter().filter(|(_, _, entry)| everyone(entry)).map(|(_, ports, _)| span(*ports)).collect());
    if open_ports == [span(PortRange::ALL)] {
        let entries = indexes(items, |ports, entry| ports == PortRange::ALL || everyone(entry));
        questions.push(Question { protocol, ports: Ports::Any, peers: Peers::Any, entries });
        return Ok(());
    }
    if !open_ports.is_empty() {
        let ports = match open_ports.as_slice() {
            [one] => Ports::Range(port_range(*one)),
            _ => Ports::Set(open_ports),
        };
        questions.push(Question {
            protocol,
            ports,
            peers: Peers::Any,
            entries: indexes(items, |_, entry| everyone(entry)),
        });
    }
    let of_any_port = || items.iter().filter(|(_, ports, _)| *ports == PortRange::ALL);
    let mut any_port: Vec<AddrRange> = Vec::with_capacity(of_any_port().count());
    for (_, _, entry) in of_any_port() {
        match entry.ranges(family) {
            Ranges::One(range) => any_port.push(range),
            Ranges::Several(ranges) => any_port.extend_from_slice(ranges),
        }
    }
    let any_port = merge(any_port);
    if !any_port.is_empty() {
        let peers = if any_port == whole { Peers::Any } else { Peers::Set(any_port) };
        let entries = indexes(items, |ports, _| ports == PortRange::ALL);
        questions.push(Question { protocol, ports: Ports::Any, peers, entries });
    }

    // What is left has both.
    let both = |item: &&Item<'_>| item.1 != PortRange::ALL && !everyone(item.2);
    let rest: Vec<_> = items.iter().filter(both).copied().collect();
    boxes(protocol, &rest, family, questions)
}

/// Time of an element of a set of two fields, in nanoseconds, as in [`blocks`](super::blocks).
const PIPAPO_ELEMENT_NS: usize = 14_000;
/// A packet walks the groups' rules one by one; past this many, one `pipapo` lookup is the shorter way.
const GROUP_LIMIT: usize = 8;

fn boxes(
    protocol: Protocol,
    items: &[Item<'_>],
    family: Family,
    questions: &mut Vec<Question>,
) -> Result<(), TooManyBoxes> {
    if items.is_empty() {
        return Ok(());
    }
    let slices = slices(items, family)?;
    let mut groups: BTreeMap<&[AddrRange], Vec<AddrRange>> = BTreeMap::new();
    for (ports, ranges) in &slices {
        groups.entry(ranges).or_default().push(*ports);
    }
    let count: usize = slices.iter().map(|(_, ranges)| ranges.len()).sum();
    let grouped: usize = groups
        .iter()
        .map(|(ranges, ports)| {
            let port_set = if ports.len() > 1 { tree_ns(ports.len()) } else { 0 };
            // Few ranges stand in rules of their own.
            let address_set = if ranges.len() > INLINE { cheapest_ns(ranges, family).0 } else { RULE_NS };
            RULE_NS + address_set + port_set
        })
        .sum();
    let entries: Vec<u32> = items.iter().map(|(index, _, _)| *index).collect();
    if groups.len() <= GROUP_LIMIT && grouped <= SET_NS + RULE_NS + count * PIPAPO_ELEMENT_NS {
        for (ranges, ports) in groups {
            // The pieces are sorted and apart: the first that ends at or behind an entry's start is the one to ask.
            let speaks = |wanted: PortRange| {
                let at = ports.partition_point(|piece| piece.last < u128::from(wanted.first()));
                ports.get(at).is_some_and(|piece| piece.first <= u128::from(wanted.last()))
            };
            let entries = items.iter().filter(|(_, ports, _)| speaks(*ports)).map(|(index, _, _)| *index).collect();
            let peers = Peers::Set(ranges.to_vec());
            let ports = match ports.as_slice() {
                [one] => Ports::Range(port_range(*one)),
                _ => Ports::Set(ports),
            };
            questions.push(Question { protocol, ports, peers, entries });
        }
    } else {
        let spans = slices.iter().flat_map(|(ports, ranges)| ranges.iter().flat_map(|r| [*r, *ports])).collect();
        questions.push(Question { protocol, ports: Ports::Any, peers: Peers::WithPorts(spans), entries });
    }
    Ok(())
}

/// Cuts the ports where any entry's range begins or ends and gives each piece its merged addresses, so that no two
/// boxes overlap; neighbouring pieces with the same addresses are joined again.
fn slices(items: &[Item<'_>], family: Family) -> Result<Vec<(AddrRange, Vec<AddrRange>)>, TooManyBoxes> {
    let mut cuts: Vec<u32> =
        items.iter().flat_map(|(_, p, _)| [u32::from(p.first()), u32::from(p.last()) + 1]).collect();
    cuts.sort_unstable();
    cuts.dedup();
    let mut by_first: Vec<_> = items.to_vec();
    by_first.sort_unstable_by_key(|(_, ports, _)| ports.first());
    let mut next = by_first.into_iter().peekable();
    let mut active: Vec<(PortRange, Ranges<'_>)> = Vec::new();
    let mut slices: Vec<(AddrRange, Vec<AddrRange>)> = Vec::new();
    let mut work = 0usize;
    for cut in cuts.windows(2) {
        let (first, last) = (cut[0], cut[1] - 1);
        active.retain(|(ports, _)| u32::from(ports.last()) >= first);
        while let Some((_, ports, entry)) = next.next_if(|(_, ports, _)| u32::from(ports.first()) <= first) {
            active.push((ports, entry.ranges(family)));
        }
        // Counted before merging, so that the time spent is bounded too, not only what comes of it.
        work += active.iter().map(|(_, ranges)| ranges.len()).sum::<usize>();
        if work > MAX_BOXES {
            return Err(TooManyBoxes);
        }
        let ranges = merge(active.iter().flat_map(|(_, ranges)| ranges.iter().copied()).collect());
        if ranges.is_empty() {
            continue;
        }
        let (first, last) = (u128::from(first), u128::from(last));
        match slices.last_mut() {
            Some((ports, before)) if ports.last + 1 == first && *before == ranges => ports.last = last,
            _ => slices.push((AddrRange { first, last }, ranges)),
        }
    }
    Ok(slices)
}

fn span(ports: PortRange) -> AddrRange {
    AddrRange { first: ports.first().into(), last: ports.last().into() }
}

fn port_range(span: AddrRange) -> PortRange {
    // Spans of ports come from `span` and from cuts of it, so they fit.
    PortRange::new(span.first as u16, span.last as u16).unwrap_or(PortRange::ALL)
}
