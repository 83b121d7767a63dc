//! What the process does to itself, judged by /proc. Its own program: a umask and the dumpable flag are the process's.

use std::fs;
use std::os::fd::BorrowedFd;

use netlatch::error::Cause;
use netlatch::kernel::process::{DEADLINE, Deadline, drain, lock_down};

fn status(field: &str) -> String {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(":\t")).expect("a field").to_owned()
}

#[test]
fn a_locked_down_process_gains_nothing_and_shows_nothing() {
    assert_eq!(nix::sys::prctl::get_dumpable(), Ok(true));
    assert_eq!(status("NoNewPrivs"), "0");
    lock_down().unwrap();
    assert_eq!(status("NoNewPrivs"), "1");
    assert_eq!(status("Umask"), "0077");
    assert_eq!(nix::sys::prctl::get_dumpable(), Ok(false));
}

#[test]
fn a_closed_descriptor_is_said_to_be_closed() {
    // SAFETY: nothing is read through it: the number lies beyond any limit on open files, so it is open nowhere, which
    // is the point.
    let closed = unsafe { BorrowedFd::borrow_raw(i32::MAX) };
    let failure = drain(closed, (100, "a limit"), &Deadline::after(DEADLINE)).unwrap_err();
    assert_eq!(failure.exit_code(), 12);
    assert_eq!(failure.cause, Cause::State("stdin is closed or not open for reading (EBADF)".into()));
}
