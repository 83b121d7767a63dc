//! One large set of addresses as several: a hash for each length of prefix, where a tree of ranges costs more.
//!
//! A tree of 100,000 ranges takes the kernel 130 ms to load and 290 to read back, for each datagram of a dump begins at
//! its start again (`nft_rbtree_walk`); nine hashes of the same blocks take 33 and less than one (Linux 6.18). A packet of a new
//! flow asks them one after the other, a mask and a lookup each, where the tree is one lookup of as many steps as it is deep.
//! src/docs/timings.md has what both layouts take beside the chosen one.

use std::cell::LazyCell;

use crate::net::{AddrRange, Family};
use crate::nft::filter::Entry;

/// Time of one object, in nanoseconds, measured on Linux 6.18: what is declared, loaded and read back. Only their proportions
/// matter.
pub(super) const SET_NS: usize = 22_000;
pub(super) const RULE_NS: usize = 10_000;
/// A range: two nodes of a tree.
pub(super) const RANGE_NS: usize = 3_500;
const HASHED_NS: usize = 1_500;
/// A range passed over on the way to where a datagram of a dump begins.
const PASSED_NS: usize = 50;
/// Ranges that a datagram of 32 KiB holds.
const RANGES_A_DATAGRAM: usize = 600;

/// What a tree of so many ranges costs, its set included.
pub(super) const fn tree_ns(ranges: usize) -> usize {
    SET_NS + ranges * RANGE_NS + ranges * (ranges / RANGES_A_DATAGRAM) / 2 * PASSED_NS
}

/// Blocks of one length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blocks {
    /// Bits of the prefix.
    pub(super) length: u8,
    /// Their first addresses, as ranges of one.
    pub(super) firsts: Vec<AddrRange>,
    /// The entries that led here, by index, in order.
    pub(super) entries: Vec<u32>,
}

/// How many blocks there are of each length.
pub(super) type Counts = [usize; 129];

/// What ranges cost at best, and where that is as [`blocks`], how many of them there are.
pub(super) fn cheapest_ns(ranges: &[AddrRange], family: Family) -> (usize, Option<Counts>) {
    let tree = tree_ns(ranges.len());
    // A range comes to two blocks for each length at most; counting stops where it cannot be worth it.
    let (mut counts, mut all): (Counts, _) = ([0; 129], 0);
    for range in ranges {
        each_block(*range, family, |_, length| {
            counts[usize::from(length)] += 1;
            all += 1;
        });
        if all * HASHED_NS > tree {
            return (tree, None);
        }
    }
    let lengths = counts.iter().filter(|count| **count > 0).count();
    let hashed = lengths * (SET_NS + RULE_NS) + all * HASHED_NS;
    // Addresses alone are one hash in any case. A packet asks set after set, so that a tree may cost somewhat more.
    if counts[usize::from(family.bits())] == ranges.len() && all == ranges.len() {
        return (SET_NS + ranges.len() * HASHED_NS, None);
    }
    let short = lengths <= most_lengths(ranges.len());
    if short && hashed * 5 < tree * 4 { (hashed, Some(counts)) } else { (tree, None) }
}

/// How many lengths a packet may be asked for one by one: a lookup in a tree takes about as long as half of them.
const fn most_lengths(ranges: usize) -> usize {
    8 + ranges.ilog2() as usize
}

/// The ranges as blocks by length, single ones first and then those of which there are most; `None` where a tree is the better way.
pub(super) fn blocks(ranges: &[AddrRange], family: Family, entries: &[Entry], indexes: &[u32]) -> Option<Vec<Blocks>> {
    if ranges.is_empty() {
        return None;
    }
    let counts = cheapest_ns(ranges, family).1?;
    let room =
        |(length, count)| Blocks { length, firsts: Vec::with_capacity(count), entries: Vec::with_capacity(count) };
    let mut by_length: Vec<Blocks> = (0..=family.bits()).zip(counts).map(room).collect();
    for range in ranges {
        each_block(*range, family, |block, length| {
            by_length[usize::from(length)].firsts.push(AddrRange { first: block.first, last: block.first });
        });
    }
    // Which of them each entry is in. Lists are often in order: then it is the next range.
    let places = LazyCell::new(|| Places::of(ranges));
    let mut next = 0;
    for index in indexes {
        let Some(entry) = entries.get(*index as usize) else { continue };
        for part in entry.ranges(family).iter() {
            let holds =
                |at: &usize| ranges.get(*at).is_some_and(|range| (range.first..=range.last).contains(&part.first));
            let at = Some(next).filter(holds).unwrap_or_else(|| places.first_not_before(part.first));
            next = at + 1;
            for range in ranges[at..].iter().take_while(|range| range.first <= part.last) {
                each_block(*range, family, |block, length| {
                    let entries = &mut by_length[usize::from(length)].entries;
                    if block.first <= part.last && part.first <= block.last && entries.last() != Some(index) {
                        entries.push(*index);
                    }
                });
            }
        }
    }
    let mut blocks: Vec<Blocks> = by_length.into_iter().filter(|blocks| !blocks.firsts.is_empty()).collect();
    // One alone is compared by the rule itself, in a fifth of the time that it takes to ask a set: it comes before all sets.
    blocks.sort_by_key(|blocks| (blocks.firsts.len() > 1, std::cmp::Reverse(blocks.firsts.len())));
    Some(blocks)
}

/// Finds ranges by address: which of as many pigeonholes the address falls into, and among the few in there. Halving 100,000
/// of them time and again goes past the processor's caches, and took a third of planning a list as long.
struct Places<'a> {
    /// Sorted and apart.
    ranges: &'a [AddrRange],
    /// The first address of the first, and the bits of the distance from it that a pigeonhole does not tell apart.
    base: u128,
    shift: u32,
    /// How many ranges end in the pigeonholes before each.
    before: Vec<u32>,
}

impl<'a> Places<'a> {
    fn of(ranges: &'a [AddrRange]) -> Places<'a> {
        let base = ranges.first().map_or(0, |range| range.first);
        let reach = ranges.last().map_or(0, |range| range.last - base);
        let holes = ranges.len().next_power_of_two().ilog2();
        let shift = (u128::BITS - reach.leading_zeros()).saturating_sub(holes);
        let mut places = Places { ranges, base, shift, before: Vec::with_capacity(ranges.len() * 2) };
        for (count, range) in ranges.iter().enumerate() {
            let hole = places.hole(range.last);
            while places.before.len() <= hole {
                places.before.push(count as u32);
            }
        }
        places
    }

    fn hole(&self, address: u128) -> usize {
        address.saturating_sub(self.base).checked_shr(self.shift).unwrap_or(0) as usize
    }

    /// The first range that does not end before `address`.
    fn first_not_before(&self, address: u128) -> usize {
        let at = |hole: usize| self.before.get(hole).map_or(self.ranges.len(), |count| *count as usize);
        let hole = self.hole(address);
        let (from, to) = (at(hole), at(hole.saturating_add(1)));
        from + self.ranges[from..to].partition_point(|range| range.last < address)
    }
}

/// The fewest blocks that make up a range, in order, each with its length.
fn each_block(range: AddrRange, family: Family, mut each: impl FnMut(AddrRange, u8)) {
    if let Some(length) = range.prefix_len(family) {
        return each(range, length);
    }
    let mut first = range.first;
    loop {
        // As large as its place allows, and as what is left.
        let aligned = if first == 0 { u32::from(family.bits()) } else { first.trailing_zeros() };
        let left = range.last - first;
        let fits = if left == u128::MAX { 128 } else { (left + 1).ilog2() };
        let ones = aligned.min(fits).min(u32::from(family.bits()));
        let last = first + u128::MAX.checked_shr(128 - ones).unwrap_or(0);
        each(AddrRange { first, last }, family.bits() - ones as u8);
        if last >= range.last {
            return;
        }
        first = last + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(range: AddrRange, family: Family) -> Vec<(AddrRange, u8)> {
        let mut blocks = Vec::new();
        each_block(range, family, |block, length| blocks.push((block, length)));
        blocks
    }

    #[test]
    fn a_range_is_cut_into_the_blocks_it_is_made_of() {
        let at = |first, last| AddrRange { first, last };
        assert_eq!(of(at(1, 6), Family::V4), [(at(1, 1), 32), (at(2, 3), 31), (at(4, 5), 31), (at(6, 6), 32)]);
        assert_eq!(of(at(0, 255), Family::V4), [(at(0, 255), 24)]);
        for family in [Family::V4, Family::V6] {
            let all = AddrRange::everything(family);
            assert_eq!(of(all, family), [(all, 0)], "{family:?}");
            let most = at(1, family.max());
            let blocks = of(most, family);
            assert_eq!(blocks.len(), usize::from(family.bits()), "{family:?}");
            assert!(blocks.iter().all(|(block, length)| block.prefix_len(family) == Some(*length)));
            assert_eq!((blocks[0].0.first, blocks.last().unwrap().0.last), (most.first, most.last));
            assert!(blocks.windows(2).all(|pair| pair[0].0.last + 1 == pair[1].0.first));
        }
    }

    #[test]
    fn a_range_is_found_by_any_address() {
        for ranges in [
            vec![],
            vec![(0, 0)],
            vec![(u128::MAX, u128::MAX)],
            vec![(0, u128::MAX)],
            vec![(5, 5), (6, 9), (1 << 90, (1 << 90) + 7), (u128::MAX - 3, u128::MAX)],
            (0..300).map(|n| (n * 17, n * 17 + n % 9)).collect(),
        ] {
            let ranges: Vec<_> = ranges.iter().map(|(first, last)| AddrRange { first: *first, last: *last }).collect();
            let places = Places::of(&ranges);
            let around = ranges.iter().flat_map(|range| [range.first, range.last]).chain([0, u128::MAX]);
            for address in around.flat_map(|at| [at.saturating_sub(1), at, at.saturating_add(1)]) {
                let wanted = ranges.partition_point(|range| range.last < address);
                assert_eq!(places.first_not_before(address), wanted, "{address} among {ranges:?}");
            }
        }
    }

    #[test]
    fn many_blocks_are_hashes_and_few_or_odd_ones_a_tree() {
        let block = |n: u128| AddrRange { first: n << 9, last: (n << 9) + (255 >> (n % 9)) };
        let odd = |n: u128| AddrRange { first: (n << 16) + 1, last: (n << 16) + 65_533 };
        let ranges = |count, of: &dyn Fn(u128) -> AddrRange| (1..=count).map(of).collect::<Vec<_>>();
        assert!(cheapest_ns(&ranges(20, &block), Family::V4).1.is_none());
        assert!(cheapest_ns(&ranges(1000, &block), Family::V4).1.is_some());
        assert!(cheapest_ns(&ranges(1000, &odd), Family::V4).1.is_none());
        let alone = |n: u128| AddrRange { first: 2 * n, last: 2 * n };
        assert!(cheapest_ns(&ranges(1000, &alone), Family::V4).1.is_none(), "one hash as it is");
    }
}
