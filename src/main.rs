//! Collects arguments, calls, exits. No logic.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    close_inherited_descriptors();
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    netlatch::cli::run(&args)
}

/// runc leaks its sync socket, log pipe and exec.fifo to some stages, and a shim more. Nothing here was opened yet, and
/// no descriptor but stdin, stdout and stderr is ours.
///
/// The one place that needs an unsafe call: neither nix nor rustix wraps close_range(2). An error (a kernel before 5.9)
/// leaves descriptors open that this process never uses.
fn close_inherited_descriptors() {
    // SAFETY: closes descriptors by number and touches no memory. No object in this process owns one of them yet: it
    // is the first call of main, and the standard library opens none above 2 before it.
    unsafe { nix::libc::close_range(3, nix::libc::c_uint::MAX, 0) };
}
