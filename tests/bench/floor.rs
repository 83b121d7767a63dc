//! The least that a start can take: joins a namespace, says to the kernel what a start says, hears what it hears, and decides
//! nothing. What a start takes longer than this is the hook's own work.
//!
//! `floor PID FILE`: FILE holds the datagrams, written by tests/bench/canned.rs: for each the protocol, how its answer ends,
//! its length in four bytes, and itself. With a third argument it says how long it took from its first line to its last.
#![no_main]

use std::ffi::{CStr, c_char, c_int};
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;

use nix::libc;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// What a datagram may have without being given room.
const SMALL: usize = 100_000;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

// SAFETY: the one symbol of this name, with the signature the C runtime calls it with. As in src/main/main.rs the standard library's
// start-up is left out.
#[unsafe(no_mangle)]
extern "C" fn main(count: c_int, arguments: *const *const c_char) -> c_int {
    let began = Instant::now();
    let argument = |n: usize| {
        // SAFETY: the C runtime hands over `count` strings that end with NUL and stay until the process ends.
        let text = unsafe { CStr::from_ptr(*arguments.add(n)) };
        text.to_str().expect("UTF-8")
    };
    let pid = argument(1).parse().ok().and_then(Pid::from_raw).expect("a pid");
    let process = pidfd_open(pid, PidfdFlags::empty()).expect("a process");
    let canned = fs::read(argument(2)).expect("the datagrams");
    setns(process, CloneFlags::CLONE_NEWNET).expect("the namespace can be joined");
    say_all(&canned);
    if count > 3 {
        eprintln!("{}", began.elapsed().as_nanos());
    }
    // SAFETY: ends the process, running nothing of it.
    unsafe { libc::_exit(0) }
}

fn say_all(canned: &[u8]) {
    let mut sockets: [Option<OwnedFd>; 2] = [None, None];
    let mut buffer = [0; 8192];
    let mut rest = canned;
    while let [protocol, whole, a, b, c, d, behind @ ..] = rest {
        let (datagram, next) = behind.split_at(u32::from_le_bytes([*a, *b, *c, *d]) as usize);
        rest = next;
        let socket = sockets[usize::from(*protocol)].get_or_insert_with(|| open(*protocol));
        if datagram.len() > SMALL {
            setsockopt(socket, sockopt::SndBufForce, &(datagram.len() * 2)).expect("there is room");
        }
        send(socket.as_raw_fd(), datagram, MsgFlags::empty()).expect("the kernel takes it");
        while hear(socket, &mut buffer) != Some(NLMSG_DONE) && *whole == 1 {}
    }
}

fn open(protocol: u8) -> OwnedFd {
    let protocol = if protocol == 0 { SockProtocol::NetlinkNetFilter } else { SockProtocol::NetlinkRoute };
    socket(AddressFamily::Netlink, SockType::Datagram, SockFlag::SOCK_CLOEXEC, protocol).expect("a socket")
}

/// The kind of the last message of a datagram. A refusal ends the program.
fn hear(socket: &OwnedFd, buffer: &mut [u8]) -> Option<u16> {
    let length = recv(socket.as_raw_fd(), buffer, MsgFlags::empty()).expect("an answer");
    let mut rest = &buffer[..length];
    let mut last = None;
    while let [a, b, c, d, low, high, ..] = rest {
        let (length, kind) = (u32::from_ne_bytes([*a, *b, *c, *d]), u16::from_ne_bytes([*low, *high]));
        assert!(kind != NLMSG_ERROR || rest[16..20] == [0; 4], "the kernel refuses it: {:?}", &rest[16..20]);
        last = Some(kind);
        rest = rest.get(length.next_multiple_of(4) as usize..).unwrap_or_default();
    }
    last
}
