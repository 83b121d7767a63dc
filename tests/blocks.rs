//! The functions of src/main/blocks.rs against those of the standard library: every length that takes another way, every overlap.
#![cfg(target_arch = "x86_64")]

#[path = "../src/main/blocks.rs"]
mod blocks;

/// What lies around must stay as it is.
const MARGIN: usize = 80;

fn some(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 131 + n / 251) as u8).collect()
}

/// All up to where the loops have gone round some times, and some long ones.
fn lengths() -> impl Iterator<Item = usize> {
    (0..=600).chain([1000, 4095, 4096, 4097, 65_537])
}

#[test]
fn memory_is_copied_whole_and_nothing_beside_it() {
    for length in lengths() {
        for (from_at, to_at) in [(0, 0), (1, 0), (0, 3), (7, 13)] {
            let from = some(length + from_at);
            let mut to = vec![0xaa; length + to_at + MARGIN];
            let mut wanted = to.clone();
            wanted[to_at..to_at + length].copy_from_slice(&from[from_at..]);
            let place = to[to_at..].as_mut_ptr();
            // SAFETY: both are as long.
            let returned = unsafe { blocks::memcpy(place, from[from_at..].as_ptr(), length) };
            assert_eq!((returned, &to), (place, &wanted), "{length} bytes from {from_at} to {to_at}");
        }
    }
}

#[test]
fn what_overlaps_arrives_as_it_was() {
    for length in lengths() {
        for distance in [0, 1, 2, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 79].into_iter().filter(|d| *d <= MARGIN) {
            for forward in [true, false] {
                let (from, to) = if forward { (0, distance) } else { (distance, 0) };
                let mut there = some(length + MARGIN);
                let mut wanted = there.clone();
                wanted.copy_within(from..from + length, to);
                let start = there.as_mut_ptr();
                // SAFETY: both lie within, for the margin is no shorter than the distance.
                unsafe { blocks::memmove(start.add(to), start.add(from), length) };
                assert!(there == wanted, "{length} bytes from {from} to {to}");
            }
        }
    }
}

#[test]
fn memory_is_filled_and_nothing_beside_it() {
    for length in lengths() {
        for at in [0, 1, 9] {
            for byte in [0, 0x5b, 0xff, -1, 0x1ff] {
                let mut there = some(length + at + MARGIN);
                let mut wanted = there.clone();
                wanted[at..at + length].fill(byte as u8);
                // SAFETY: as many are there.
                unsafe { blocks::memset(there[at..].as_mut_ptr(), byte, length) };
                assert!(there == wanted, "{length} of {byte} at {at}");
            }
        }
    }
}

#[test]
fn memory_is_compared_as_bytes_without_a_sign() {
    for length in lengths().filter(|length| *length <= 1000) {
        let one = some(length);
        let compare = |other: &[u8]| {
            // SAFETY: both are as long.
            unsafe {
                (
                    blocks::memcmp(one.as_ptr(), other.as_ptr(), length),
                    blocks::bcmp(one.as_ptr(), other.as_ptr(), length),
                )
            }
        };
        assert_eq!(compare(&one.clone()), (0, 0), "{length}");
        for at in (0..length).step_by(if length > 100 { 13 } else { 1 }).chain(length.checked_sub(1)) {
            for change in [1, 0x80, 0xff] {
                let mut other = one.clone();
                other[at] ^= change;
                // What differs behind it does not count.
                other[at + 1..].iter_mut().for_each(|byte| *byte = !*byte);
                let wanted = one[at].cmp(&other[at]) as i32;
                let (order, differs) = compare(&other);
                assert_eq!((order.signum(), differs != 0), (wanted, true), "{length}, at {at}");
            }
        }
    }
}
