//! Collects arguments, calls, exits. No logic.
//!
//! The standard library's start-up is left out (`no_main`): it reads /proc/self/maps and installs handlers for stack
//! overflow, a twelfth of the time from exec to exit, on every container's start. What of it matters here is done below:
//! closed standard streams are opened, so that no file can become one, and SIGPIPE is ignored.
#![no_main]

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;

use nix::libc;

#[cfg(all(musl, not(debug_assertions)))]
mod blocks;
mod heap;

/// Called by the C runtime. `std::env::args_os` has no arguments where that is musl's: see scripts/build.rs.
// SAFETY: the one symbol of this name, with the signature the C runtime calls it with.
#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    netlatch::cli::begin();
    prepare();
    let count = usize::try_from(argc).unwrap_or_default();
    // SAFETY: the C runtime passes as many NUL-terminated strings as it says, and they stay where they are.
    let arg = |n| OsStr::from_bytes(unsafe { CStr::from_ptr(*argv.add(n)) }.to_bytes()).to_owned();
    let args: Vec<OsString> = (1..count).map(arg).collect();
    netlatch::cli::run(&args).into()
}

/// What parts of the standard library ask of glibc, where the C library is musl: see scripts/build.rs.
#[cfg(musl)]
mod unlike_glibc {
    use std::ffi::{c_char, c_int, c_void};

    /// The unwinder of libgcc: where the code stands that has this address. Nowhere, so that it looks for itself.
    #[unsafe(no_mangle)]
    extern "C" fn _dl_find_object(_: *mut c_void, _: *mut c_void) -> c_int {
        -1
    }

    /// `std::process`: since this one posix_spawn(3) says why a program did not start. musl's always has.
    #[unsafe(no_mangle)]
    extern "C" fn gnu_get_libc_version() -> *const c_char {
        c"2.24".as_ptr()
    }
}

/// Sets the process up before any other code runs.
///
/// runc leaks its sync socket, log pipe and exec.fifo to some stages, and a shim more; no descriptor but the standard
/// streams is ours. Neither nix nor rustix has safe wrappers for these calls. Their errors leave things as they were:
/// close_range(2) is missing before Linux 5.9, and then descriptors stay open that this process never uses. (By its number:
/// musl has no function for it before 1.2.6.)
fn prepare() {
    // SAFETY: closes descriptors by number and touches no memory. No object in this process owns one yet: these are the
    // first calls of main.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
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

/// Makes the pages of the stack present in one call, where touching them one by one would fault on each. (Those of the heap are,
/// see [`heap`].)
fn populate() {
    let here = 0_u8;
    let deep = std::ptr::from_ref(&here).addr() & !(heap::PAGE - 1);
    // SAFETY: the pages lie below this frame on a stack that the kernel has made 128 KiB deep (`setup_arg_pages`); populating
    // changes no content. An error (Linux before 5.14) leaves them to be touched one by one.
    unsafe { libc::madvise(std::ptr::without_provenance_mut(deep - STACK), STACK, libc::MADV_POPULATE_WRITE) };
}

/// How deep the stack of a typical start grows, in bytes.
const STACK: usize = 32 << 10;
