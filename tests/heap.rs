//! The allocator of src/main/heap.rs, which is this program's here: no block lies in another, and what is in one stays as it was written
//! through growing, shrinking and a change of thread.

#[path = "support/dice.rs"]
#[expect(dead_code, reason = "what other tests ask of it")]
mod dice;
#[path = "../src/main/heap.rs"]
mod heap;

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, realloc};
use std::process::Command;
use std::sync::mpsc::channel;
use std::{env, fs, thread};

use dice::Dice;
use nix::sys::resource::{Resource, setrlimit};

/// A block with what was written into it.
struct Block {
    place: *mut u8,
    layout: Layout,
    mark: u8,
}

// SAFETY: nobody else has it.
unsafe impl Send for Block {}

/// The byte at a place of a block: another one in the next, and in the next page.
fn byte(mark: u8, at: usize) -> u8 {
    mark.wrapping_add((at as u8).wrapping_mul(7)).wrapping_add((at >> 12) as u8)
}

impl Block {
    fn new(dice: &mut Dice) -> Block {
        let layout = Layout::from_size_align(length(dice), 1 << dice.below(7)).unwrap();
        let zeroed = dice.below(4) == 0;
        // SAFETY: no length is 0.
        let place = unsafe { if zeroed { alloc_zeroed(layout) } else { alloc(layout) } };
        assert!(!place.is_null() && place.addr().is_multiple_of(layout.align()), "{layout:?}");
        let mut block = Block { place, layout, mark: dice.below(256) as u8 };
        if zeroed {
            assert!(block.bytes().iter().all(|byte| *byte == 0), "{layout:?}");
        }
        block.write();
        block
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: as many bytes are its own.
        unsafe { std::slice::from_raw_parts_mut(self.place, self.layout.size()) }
    }

    fn write(&mut self) {
        let mark = self.mark;
        self.bytes().iter_mut().enumerate().for_each(|(at, place)| *place = byte(mark, at));
    }

    fn look(&mut self, length: usize) {
        let (mark, layout) = (self.mark, self.layout);
        let wrong = self.bytes()[..length].iter().enumerate().position(|(at, found)| *found != byte(mark, at));
        assert_eq!(wrong, None, "{layout:?}");
    }

    fn resize(&mut self, size: usize) {
        let before = self.layout.size();
        // SAFETY: it is of that layout, and no length is 0.
        self.place = unsafe { realloc(self.place, self.layout, size) };
        self.layout = Layout::from_size_align(size, self.layout.align()).unwrap();
        assert!(!self.place.is_null() && self.place.addr().is_multiple_of(self.layout.align()), "{:?}", self.layout);
        self.look(before.min(size));
        self.write();
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.look(self.layout.size());
        // SAFETY: it is of that layout, and nobody has it any more.
        unsafe { dealloc(self.place, self.layout) };
    }
}

/// Around every border that the allocator knows, and between them.
fn length(dice: &mut Dice) -> usize {
    let border = [1, 16, 256, 4096, 16 << 10, 256 << 10, 1 << 20][dice.below(7)];
    match dice.below(3) {
        0 => (border + dice.below(4)).saturating_sub(2).max(1),
        _ => 1 + dice.below(2 * border),
    }
}

#[test]
fn blocks_keep_what_was_written_into_them() {
    const THREADS: usize = 3;
    let ends: Vec<_> = (0..THREADS).map(|_| channel::<Block>()).collect();
    let (senders, receivers): (Vec<_>, Vec<_>) = ends.into_iter().unzip();
    thread::scope(|scope| {
        for (number, receiver) in receivers.into_iter().enumerate() {
            let next = senders[(number + 1) % THREADS].clone();
            scope.spawn(move || {
                let mut dice = Dice::new(&format!("blocks-{number}"));
                let mut blocks: Vec<Block> = Vec::new();
                for _ in 0..1_200 {
                    match dice.below(8) {
                        0..=2 => blocks.push(Block::new(&mut dice)),
                        3 if !blocks.is_empty() => {
                            let at = dice.below(blocks.len());
                            blocks[at].resize(length(&mut dice));
                        }
                        // Another thread frees it.
                        4 if !blocks.is_empty() => {
                            let at = dice.below(blocks.len());
                            // Who has come to his end takes none any more.
                            let _ = next.send(blocks.swap_remove(at));
                        }
                        _ => {
                            drop(receiver.try_recv());
                            if blocks.len() > 40 {
                                let at = dice.below(blocks.len());
                                blocks.swap_remove(at);
                            }
                        }
                    }
                }
            });
        }
    });
}

/// Says to a copy of this program that it is one.
const LIMITED: &str = "NETLATCH_TEST_LIMITED";

#[test]
fn what_is_kept_is_given_up_before_memory_ends() {
    const MB: usize = 1 << 20;
    if env::var_os(LIMITED).is_none() {
        let myself = env::current_exe().unwrap();
        let arguments = ["--exact", "what_is_kept_is_given_up_before_memory_ends", "--nocapture"];
        let output = Command::new(myself).args(arguments).env(LIMITED, "1").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        return;
    }
    let blocks: Vec<Vec<u8>> = (0..8).map(|_| vec![1; MB]).collect();
    drop(blocks);
    let pages: u64 = fs::read_to_string("/proc/self/statm").unwrap().split(' ').next().unwrap().parse().unwrap();
    let most = pages * 4096 + 2 * MB as u64;
    setrlimit(Resource::RLIMIT_AS, most, most).unwrap();
    let large: Vec<u8> = Vec::with_capacity(9 * MB);
    assert_eq!(large.capacity(), 9 * MB);
    // It is kept in its turn, and missing to one that grows.
    drop(large);
    let mut grown = vec![1_u8; MB];
    grown.reserve_exact(8 * MB);
    assert_eq!(grown, [1; MB]);
}
