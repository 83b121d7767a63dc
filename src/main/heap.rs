//! The heap of the process.
//!
//! What is told to the system about memory takes longer in a start than all that is done in it, so it is told once: the first pages
//! come in one call that makes them present, where touching them one by one would fault on each. What is freed is kept, for a
//! start is over before anybody would have gained by it. Small blocks come from lists by size, large ones are mappings of their own, and
//! what is between comes from a general allocator. And where there is no memory left (RLIMIT_AS, a cgroup's limit) the
//! process ends with one line and its own exit code; the standard library would write another line and raise SIGABRT.
//!
//! The C library's own allocator does none of this in a way that can be relied on: which one that is depends on how the program
//! was linked, see scripts/build.rs.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use dlmalloc::{Allocator, Dlmalloc};
use nix::libc;

/// What a typical start allocates, in bytes, which is asked of the system at once; and the least of what is asked for later.
const ROOM: usize = 192 << 10;
const MORE: usize = 64 << 10;
/// From how many bytes on a block is a mapping of its own. Lists of 100,000 entries go through two dozen of these.
const ALONE: usize = 256 << 10;
/// Up to how many bytes a block is one of a few sizes, and how far these are apart.
const SMALL: usize = 256;
const STEP: usize = 16;
/// How much small blocks are cut from at a time.
const CHUNK: usize = 4 << 10;
/// How many of those that were freed are kept for the next, and how many bytes of them.
const SPARES: usize = 8;
const MOST_SPARE: usize = 12 << 20;
/// A page, in bytes.
pub(crate) const PAGE: usize = 4096;

#[global_allocator]
static HEAP: Heap = Heap {
    taken: AtomicBool::new(false),
    inner: UnsafeCell::new(Inner {
        general: Dlmalloc::new_with_allocator(Pages { has_room: AtomicBool::new(false) }),
        spare: Spare { blocks: [(0, 0); SPARES] },
    }),
};

/// The allocator of the process, and whether somebody is in there.
///
/// Not a [`std::sync::Mutex`]: that takes two atomic operations and a look at whether this thread panics, a twelfth of what the
/// program does by itself in a start. A start has one thread; the commands that have more allocate little at once.
struct Heap {
    taken: AtomicBool,
    inner: UnsafeCell<Inner>,
}

thread_local! {
    static SIZES: UnsafeCell<Sizes> =
        const { UnsafeCell::new(Sizes { free: [ptr::null_mut(); SMALL / STEP], room: ptr::null_mut(), left: 0 }) };
}

/// Free blocks of each small size, and room to cut more from. Documents come to thousands of small strings and tables, and a general
/// allocator takes a tenth of the time in which they are read.
///
/// Each thread has its own and needs no lock. A block that another thread frees stays with that one.
struct Sizes {
    /// The first of each size; in a free block stands the next.
    free: [*mut u8; SMALL / STEP],
    room: *mut u8,
    left: usize,
}

impl Sizes {
    /// Works with those of this thread.
    fn with<T>(work: impl FnOnce(&mut Sizes) -> T) -> T {
        // SAFETY: nothing in `work` allocates by way of these, so that nobody else has them now; they have no destructor, so
        // that they are there as long as the thread is.
        SIZES.with(|sizes| work(unsafe { &mut *sizes.get() }))
    }

    fn take(&mut self, size: usize) -> *mut u8 {
        let first = self.free[size];
        if !first.is_null() {
            // SAFETY: a free block, in which `put` wrote the next.
            self.free[size] = unsafe { first.cast::<*mut u8>().read() };
            return first;
        }
        let bytes = (size + 1) * STEP;
        if self.left < bytes {
            // SAFETY: any size will do. What is left of the last one is given up.
            self.room = or_end(|| HEAP.with(|heap| unsafe { heap.malloc(CHUNK, STEP) }));
            self.left = CHUNK;
        }
        let block = self.room;
        // SAFETY: that much is left.
        self.room = unsafe { block.add(bytes) };
        self.left -= bytes;
        block
    }

    fn put(&mut self, block: *mut u8, size: usize) {
        // SAFETY: a block of at least `STEP` bytes that nobody uses any more, as aligned.
        unsafe { block.cast::<*mut u8>().write(self.free[size]) };
        self.free[size] = block;
    }
}

struct Inner {
    general: Dlmalloc<Pages>,
    spare: Spare,
}

/// Mappings that nobody uses any more, by address and length; a place without one has length 0.
///
/// A page that comes anew is cleared, charged and entered into the page table, 0.6 µs here where it comes with others and
/// 1.2 where it is touched alone (Linux 6.18 in a virtual machine): of a list of 100,000 entries as much as a sixth of the whole start.
struct Spare {
    blocks: [(usize, usize); SPARES],
}

impl Spare {
    /// Takes a mapping in; `false` where there is no place for it.
    fn put(&mut self, start: usize, length: usize) -> bool {
        let kept: usize = self.blocks.iter().map(|(_, length)| length).sum();
        let free = self.blocks.iter_mut().find(|(_, length)| *length == 0);
        match free {
            Some(free) if kept + length <= MOST_SPARE => *free = (start, length),
            Some(_) | None => return false,
        }
        true
    }

    /// Gives all of them back.
    fn give_up(&mut self) {
        let blocks = std::mem::replace(&mut self.blocks, [(0, 0); SPARES]);
        blocks.iter().for_each(|(start, length)| give_back(*start, *length));
    }

    /// The smallest that is long enough. What it is longer stays here where it could be a mapping of its own, and goes otherwise, so
    /// that every block is as long as its size says.
    fn take(&mut self, length: usize) -> Option<usize> {
        let fits = self.blocks.iter_mut().filter(|(_, there)| *there >= length);
        let block = fits.min_by_key(|(_, there)| *there)?;
        let (start, there) = *block;
        let rest = (start + length, there - length);
        *block = if rest.1 >= ALONE { rest } else { (0, 0) };
        if rest.1 < ALONE {
            give_back(rest.0, rest.1);
        }
        Some(start)
    }
}

// SAFETY: `inner` is reached through `Heap::locked` alone, which lets in one thread at a time.
unsafe impl Sync for Heap {}

impl Heap {
    fn with<T>(&self, work: impl FnOnce(&mut Dlmalloc<Pages>) -> T) -> T {
        self.locked(|inner| work(&mut inner.general))
    }

    fn locked<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        while self.taken.swap(true, Ordering::Acquire) {
            std::thread::yield_now();
        }
        // SAFETY: this thread alone has seen `taken` become true, and nothing in the allocator allocates or panics.
        let done = work(unsafe { &mut *self.inner.get() });
        self.taken.store(false, Ordering::Release);
        done
    }
}

/// Where a block comes from, which its size tells.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One of the small sizes, by number.
    Small(usize),
    /// The general allocator.
    General,
    /// A mapping of its own, which grows without being copied.
    Alone,
}

impl Kind {
    fn of(layout: &Layout) -> Kind {
        if layout.size() <= SMALL && layout.align() <= STEP {
            Kind::Small(layout.size().saturating_sub(1) / STEP)
        } else if layout.size() >= ALONE && layout.align() <= PAGE {
            Kind::Alone
        } else {
            Kind::General
        }
    }
}

/// A large block, with what was in there before. `flags` are those of mmap for one that comes anew.
fn alone(size: usize, flags: c_int) -> *mut u8 {
    let length = size.next_multiple_of(PAGE);
    HEAP.locked(|inner| inner.spare.take(length)).map_or_else(|| map(length, flags), |start| start as *mut u8)
}

fn give_back(start: usize, length: usize) {
    if length > 0 {
        // SAFETY: pages of a mapping of ours that nobody uses any more.
        unsafe { libc::munmap(start as *mut c_void, length) };
    }
}

// SAFETY: every call goes to the allocator as it came, or to a mapping of its own; which of them a block came from its size tells.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match Kind::of(&layout) {
            Kind::Small(size) => Sizes::with(|sizes| sizes.take(size)),
            // SAFETY: the caller's promises are those that are asked for, here and below.
            Kind::General => or_end(|| self.with(|heap| unsafe { heap.malloc(layout.size(), layout.align()) })),
            // Who says beforehand how much will be needed mostly needs it: it comes in one call.
            Kind::Alone => or_end(|| alone(layout.size(), libc::MAP_POPULATE)),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match Kind::of(&layout) {
            Kind::Small(size) => Sizes::with(|sizes| sizes.put(block, size)),
            // SAFETY: as above, and `block` came from there.
            Kind::General => self.with(|heap| unsafe { heap.free(block, layout.size(), layout.align()) }),
            Kind::Alone => {
                let (start, length) = (block as usize, layout.size().next_multiple_of(PAGE));
                if !self.locked(|inner| inner.spare.put(start, length)) {
                    give_back(start, length);
                }
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match Kind::of(&layout) {
            // SAFETY: a block of as many bytes.
            Kind::Small(_) => unsafe {
                let block = self.alloc(layout);
                ptr::write_bytes(block, 0, layout.size());
                block
            },
            // SAFETY: as above.
            Kind::General => or_end(|| self.with(|heap| unsafe { heap.calloc(layout.size(), layout.align()) })),
            Kind::Alone => or_end(|| map(layout.size(), 0)),
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: what is asked for of the caller.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (Kind::of(&layout), Kind::of(&wanted)) {
            (Kind::Small(is), Kind::Small(will_be)) if is == will_be => block,
            (Kind::General, Kind::General) => {
                // SAFETY: as above, and `block` came from there.
                or_end(|| self.with(|heap| unsafe { heap.realloc(block, layout.size(), layout.align(), size) }))
            }
            // SAFETY: a mapping from above, which its only owner wants longer or shorter.
            (Kind::Alone, Kind::Alone) => or_end(|| unsafe { remap(block, layout.size(), size, libc::MREMAP_MAYMOVE) }),
            // SAFETY: as many bytes as fit into both are copied into a block of its own, and the old one is freed as it came.
            (_, kind) => unsafe {
                // What grows is twice as long as it needs to be, so that its pages come as they are touched.
                let new = if kind == Kind::Alone { or_end(|| alone(size, 0)) } else { self.alloc(wanted) };
                ptr::copy_nonoverlapping(block, new, size.min(layout.size()));
                self.dealloc(block, layout);
                new
            },
        }
    }
}

/// Zeros for nobody else; null where there is no room.
fn map(size: usize, flags: c_int) -> *mut u8 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags;
    // SAFETY: a mapping of its own, at a place that the kernel chooses.
    let start = unsafe { libc::mmap(ptr::null_mut(), size, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if start == libc::MAP_FAILED { ptr::null_mut() } else { start.cast() }
}

/// A mapping with another length; null where there is no room.
///
/// # Safety
/// It is one of [`map`], and nobody uses what lies behind its new end.
unsafe fn remap(start: *mut u8, before: usize, after: usize, flags: c_int) -> *mut u8 {
    // SAFETY: asked for.
    let start = unsafe { libc::mremap(start.cast(), before, after, flags) };
    if start == libc::MAP_FAILED { ptr::null_mut() } else { start.cast() }
}

/// The C library's allocator is this one, too: where there is no memory left it must not say so in its own way, as to the
/// standard library, which asks it for the name of a thread. (musl leaves that to whoever defines all of these, glibc does not.)
#[cfg(all(musl, not(test)))]
mod c {
    use std::ffi::{c_int, c_void};
    use std::ptr;

    use nix::libc;

    use super::{HEAP, or_end};

    #[unsafe(no_mangle)]
    extern "C" fn malloc(size: usize) -> *mut u8 {
        // SAFETY: any size will do.
        or_end(|| HEAP.with(|heap| unsafe { heap.c_malloc(size) }))
    }

    #[unsafe(no_mangle)]
    extern "C" fn calloc(count: usize, size: usize) -> *mut u8 {
        let Some(size) = count.checked_mul(size) else { return ptr::null_mut() };
        let block = malloc(size);
        // SAFETY: as many bytes were just allocated.
        unsafe { ptr::write_bytes(block, 0, size) };
        block
    }

    /// # Safety
    /// `block` is null, or came from here and was not freed.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn realloc(block: *mut u8, size: usize) -> *mut u8 {
        if block.is_null() {
            return malloc(size);
        }
        // SAFETY: asked for.
        or_end(|| HEAP.with(|heap| unsafe { heap.c_realloc(block, size) }))
    }

    /// # Safety
    /// As above.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn free(block: *mut u8) {
        if !block.is_null() {
            // SAFETY: asked for.
            HEAP.with(|heap| unsafe { heap.c_free(block) });
        }
    }

    #[unsafe(no_mangle)]
    extern "C" fn aligned_alloc(align: usize, size: usize) -> *mut u8 {
        // SAFETY: any size will do, and the alignment is a power of two, as the standard wants it.
        or_end(|| HEAP.with(|heap| unsafe { heap.c_memalign(align, size) }))
    }

    #[unsafe(no_mangle)]
    extern "C" fn memalign(align: usize, size: usize) -> *mut u8 {
        aligned_alloc(align, size)
    }

    /// # Safety
    /// `block` may be written.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn posix_memalign(block: *mut *mut c_void, align: usize, size: usize) -> c_int {
        if !align.is_power_of_two() || align < size_of::<*mut c_void>() {
            return libc::EINVAL;
        }
        // SAFETY: asked for.
        unsafe { *block = aligned_alloc(align, size).cast() };
        0
    }
}

/// What `ask` asks for. Where there is no room, the mappings that are kept may be what is missing: it is asked once more without
/// them, and then the process ends.
fn or_end(ask: impl Fn() -> *mut u8) -> *mut u8 {
    let block = ask();
    if block.is_null() { or_end_without_spare(ask) } else { block }
}

#[cold]
fn or_end_without_spare(ask: impl Fn() -> *mut u8) -> *mut u8 {
    HEAP.locked(|inner| inner.spare.give_up());
    let block = ask();
    if block.is_null() { end_without_memory() } else { block }
}

#[cold]
fn end_without_memory() -> ! {
    let (line, code) = netlatch::cli::without_memory();
    for part in line {
        // SAFETY: the bytes of a string that outlives the call. Nothing could be done about an error.
        unsafe { libc::write(2, part.as_ptr().cast(), part.len()) };
    }
    // SAFETY: ends the process, running nothing of it.
    unsafe { libc::_exit(code.into()) }
}

/// Where the allocator gets its memory from.
struct Pages {
    has_room: AtomicBool,
}

// SAFETY: what is returned is mapped for nobody else, as long as was said, and zero; what is given back is nobody's any more.
unsafe impl Allocator for Pages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let size = size.max(if self.has_room.swap(true, Ordering::Relaxed) { MORE } else { ROOM });
        let start = map(size, libc::MAP_POPULATE);
        (start, if start.is_null() { 0 } else { size }, 0)
    }

    fn remap(&self, start: *mut u8, before: usize, after: usize, can_move: bool) -> *mut u8 {
        // SAFETY: a mapping from above, which its only owner wants longer or shorter.
        unsafe { remap(start, before, after, if can_move { libc::MREMAP_MAYMOVE } else { 0 }) }
    }

    fn free_part(&self, start: *mut u8, before: usize, after: usize) -> bool {
        // SAFETY: the end of a mapping from above, that nobody uses any more.
        unsafe { libc::munmap(start.add(after).cast(), before - after) == 0 }
    }

    fn free(&self, start: *mut u8, size: usize) -> bool {
        // SAFETY: a mapping from above that nobody uses any more.
        unsafe { libc::munmap(start.cast(), size) == 0 }
    }

    fn can_release_part(&self, _: u32) -> bool {
        true
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        PAGE
    }
}
