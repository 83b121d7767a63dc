//! Collects arguments, calls, exits. No logic.
//!
//! The standard library's start-up is left out (`no_main`): it reads /proc/self/maps and installs handlers for stack
//! overflow, a twelfth of the time from exec to exit, on every container's start. What of it matters here is done below:
//! closed standard streams are opened, so that no file can become one, and SIGPIPE is ignored.
#![no_main]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{OsString, c_char, c_int};

use nix::libc;

/// Called by the C runtime. The arguments reach `std::env::args_os` by themselves (glibc passes them to `.init_array`).
// SAFETY: the one symbol of this name, with the signature the C runtime calls it with.
#[unsafe(no_mangle)]
extern "C" fn main(_argc: c_int, _argv: *const *const c_char) -> c_int {
    netlatch::cli::begin();
    prepare();
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    netlatch::cli::run(&args).into()
}

/// Sets the process up before any other code runs.
///
/// runc leaks its sync socket, log pipe and exec.fifo to some stages, and a shim more; no descriptor but the standard
/// streams is ours. Neither nix nor rustix has safe wrappers for these calls. Their errors leave things as they were:
/// close_range(2) is missing before Linux 5.9, and then descriptors stay open that this process never uses.
fn prepare() {
    // SAFETY: closes descriptors by number and touches no memory. No object in this process owns one yet: these are the
    // first calls of main.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
    for stream in 0..3 {
        // SAFETY: asks for a flag, and opens a constant, NUL-terminated path. The lowest free number is `stream`: those
        // below it were just seen to be open.
        unsafe {
            if libc::fcntl(stream, libc::F_GETFD) == -1 {
                libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
            }
        }
    }
    // A file that may not grow (RLIMIT_FSIZE) and a pipe without a reader are errors of a write, with a line of their own,
    // and no reason to be killed.
    for signal in [libc::SIGPIPE, libc::SIGXFSZ] {
        // SAFETY: SIG_IGN is a valid disposition; no handler is installed.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    populate();
}

/// Makes the first pages of heap and stack present in two calls, where touching them one by one would fault on each. A start
/// is over before it would have gained anything by giving memory back.
fn populate() {
    // SAFETY: changes how malloc goes about its work, before it has done any.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, KEPT);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
    }
    let mut room = Vec::<u8>::with_capacity(HEAP);
    let start = room.as_mut_ptr().align_offset(PAGE);
    let deep = std::ptr::from_mut(&mut room).addr() & !(PAGE - 1);
    // SAFETY: the pages lie inside an allocation of ours that nothing else refers to, and below this frame on a stack that the
    // kernel has made 128 KiB deep (`setup_arg_pages`); populating changes no content. An error (Linux before 5.14) leaves
    // them to be touched one by one.
    unsafe {
        let first = room.as_mut_ptr().add(start).cast();
        libc::madvise(first, HEAP - 2 * PAGE, libc::MADV_POPULATE_WRITE);
        libc::madvise(std::ptr::without_provenance_mut(deep - STACK), STACK, libc::MADV_POPULATE_WRITE);
    }
}

/// What a typical start allocates, in bytes.
const HEAP: usize = 176 << 10;
/// How deep its stack grows, in bytes.
const STACK: usize = 32 << 10;
/// What malloc would take from the kernel by itself, or give back, is no less than this, in bytes.
const KEPT: c_int = 1 << 20;
const PAGE: usize = 4096;

/// The system's allocator, which ends the process with one line and its own exit code where there is no memory left
/// (RLIMIT_AS, a cgroup's limit). The standard library would write another line and raise SIGABRT.
struct Heap;

#[global_allocator]
static ALLOCATOR: Heap = Heap;

// SAFETY: every call goes to the system's allocator as it came, and every block that is returned is the system's.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that `System` asks for.
        or_end(unsafe { System.alloc(layout) })
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above, and `block` came from `System`.
        unsafe { System.dealloc(block, layout) };
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        or_end(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above, and `block` came from `System`.
        or_end(unsafe { System.realloc(block, layout, size) })
    }
}

fn or_end(block: *mut u8) -> *mut u8 {
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
