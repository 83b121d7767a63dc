//! One large set of addresses as several: a hash for each length of prefix, where a tree of ranges costs more.
//!
//! A tree of 100,000 ranges takes the kernel 320 ms to load and a second to read back, for each datagram of a dump begins at
//! its start again (`nft_rbtree_walk`); nine hashes of the same blocks take 70 and 80 (Linux 6.18). A packet of a new flow asks
//! them one after the other, a mask and a lookup each, where the tree is one lookup of as many steps as it is deep.

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

/// What ranges cost at best, and whether that is as [`blocks`].
pub(super) fn cheapest_ns(ranges: &[AddrRange], family: Family) -> (usize, bool) {
    let tree = tree_ns(ranges.len());
    // A range comes to two blocks for each length at most; counting stops where it cannot be worth it.
    let (mut counts, mut all) = ([0_usize; 129], 0);
    for range in ranges {
        each_block(*range, family, |_, length| {
            counts[usize::from(length)] += 1;
            all += 1;
        });
        if all * HASHED_NS > tree {
            return (tree, false);
        }
    }
    let lengths = counts.iter().filter(|count| **count > 0).count();
    let hashed = lengths * (SET_NS + RULE_NS) + all * HASHED_NS;
    // Addresses alone are one hash in any case. A packet asks set after set, so that a tree may cost somewhat more.
    if counts[usize::from(family.bits())] == ranges.len() && all == ranges.len() {
        return (SET_NS + ranges.len() * HASHED_NS, false);
    }
    let short = lengths <= most_lengths(ranges.len());
    if short && hashed * 5 < tree * 4 { (hashed, true) } else { (tree, false) }
}

/// How many lengths a packet may be asked for one by one: a lookup in a tree takes about as long as half of them.
const fn most_lengths(ranges: usize) -> usize {
    8 + ranges.ilog2() as usize
}

/// The ranges as blocks by length, those of which there are most first; `None` where a tree is the better way.
pub(super) fn blocks(ranges: &[AddrRange], family: Family, entries: &[Entry], indexes: &[u32]) -> Option<Vec<Blocks>> {
    if ranges.is_empty() || !cheapest_ns(ranges, family).1 {
        return None;
    }
    let mut all: Vec<(AddrRange, u8)> = Vec::with_capacity(ranges.len());
    let empty = |length| Blocks { length, firsts: Vec::new(), entries: Vec::new() };
    let mut by_length: Vec<Blocks> = (0..=family.bits()).map(empty).collect();
    for range in ranges {
        each_block(*range, family, |block, length| {
            by_length[usize::from(length)].firsts.push(AddrRange { first: block.first, last: block.first });
            all.push((block, length));
        });
    }
    // Which of them each entry is in.
    let places = Places::of(&all);
    for index in indexes {
        let Some(entry) = entries.get(*index as usize) else { continue };
        for range in entry.ranges(family).iter() {
            let at = places.first_not_before(range.first);
            for (_, length) in all[at..].iter().take_while(|(block, _)| block.first <= range.last) {
                let entries = &mut by_length[usize::from(*length)].entries;
                if entries.last() != Some(index) {
                    entries.push(*index);
                }
            }
        }
    }
    let mut blocks: Vec<Blocks> = by_length.into_iter().filter(|blocks| !blocks.firsts.is_empty()).collect();
    blocks.sort_by_key(|blocks| std::cmp::Reverse(blocks.firsts.len()));
    Some(blocks)
}

/// Finds blocks by address: which of as many pigeonholes the address falls into, and among the few in there. Halving 100,000
/// of them time and again goes past the processor's caches, and took a third of planning a list as long.
struct Places<'a> {
    /// Sorted and apart.
    blocks: &'a [(AddrRange, u8)],
    /// The first address of the first, and the bits of the distance from it that a pigeonhole does not tell apart.
    base: u128,
    shift: u32,
    /// How many blocks end in the pigeonholes before each.
    before: Vec<u32>,
}

impl<'a> Places<'a> {
    fn of(blocks: &'a [(AddrRange, u8)]) -> Places<'a> {
        let base = blocks.first().map_or(0, |(block, _)| block.first);
        let reach = blocks.last().map_or(0, |(block, _)| block.last - base);
        let holes = blocks.len().next_power_of_two().ilog2();
        let shift = (u128::BITS - reach.leading_zeros()).saturating_sub(holes);
        let mut places = Places { blocks, base, shift, before: Vec::with_capacity(blocks.len() * 2) };
        for (count, (block, _)) in blocks.iter().enumerate() {
            let hole = places.hole(block.last);
            while places.before.len() <= hole {
                places.before.push(count as u32);
            }
        }
        places
    }

    fn hole(&self, address: u128) -> usize {
        address.saturating_sub(self.base).checked_shr(self.shift).unwrap_or(0) as usize
    }

    /// The first block that does not end before `address`.
    fn first_not_before(&self, address: u128) -> usize {
        let at = |hole: usize| self.before.get(hole).map_or(self.blocks.len(), |count| *count as usize);
        let hole = self.hole(address);
        let (from, to) = (at(hole), at(hole.saturating_add(1)));
        from + self.blocks[from..to].partition_point(|(block, _)| block.last < address)
    }
}

/// The fewest blocks that make up a range, in order, each with its length.
fn each_block(range: AddrRange, family: Family, mut each: impl FnMut(AddrRange, u8)) {
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
    fn a_block_is_found_by_any_address() {
        for blocks in [
            vec![],
            vec![(0, 0)],
            vec![(u128::MAX, u128::MAX)],
            vec![(0, u128::MAX)],
            vec![(5, 5), (6, 9), (1 << 90, (1 << 90) + 7), (u128::MAX - 3, u128::MAX)],
            (0..300).map(|n| (n * 17, n * 17 + n % 9)).collect(),
        ] {
            let blocks: Vec<_> =
                blocks.iter().map(|(first, last)| (AddrRange { first: *first, last: *last }, 0)).collect();
            let places = Places::of(&blocks);
            let around = blocks.iter().flat_map(|(block, _)| [block.first, block.last]).chain([0, u128::MAX]);
            for address in around.flat_map(|at| [at.saturating_sub(1), at, at.saturating_add(1)]) {
                let wanted = blocks.partition_point(|(block, _)| block.last < address);
                assert_eq!(places.first_not_before(address), wanted, "{address} among {blocks:?}");
            }
        }
    }

    #[test]
    fn many_blocks_are_hashes_and_few_or_odd_ones_a_tree() {
        let block = |n: u128| AddrRange { first: n << 9, last: (n << 9) + (255 >> (n % 9)) };
        let odd = |n: u128| AddrRange { first: (n << 16) + 1, last: (n << 16) + 65_533 };
        let ranges = |count, of: &dyn Fn(u128) -> AddrRange| (1..=count).map(of).collect::<Vec<_>>();
        assert!(!cheapest_ns(&ranges(20, &block), Family::V4).1);
        assert!(cheapest_ns(&ranges(1000, &block), Family::V4).1);
        assert!(!cheapest_ns(&ranges(1000, &odd), Family::V4).1);
        let alone = |n: u128| AddrRange { first: 2 * n, last: 2 * n };
        assert!(!cheapest_ns(&ranges(1000, &alone), Family::V4).1, "one hash as it is");
    }
}
