//! Frames past the IP stack: every way that an AF_PACKET socket has to send one. The standard library, nix and rustix
//! know no link layer address to send to and no ring, so this file asks libc.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use nix::libc;

use super::wire::{self, ETH_P_IP, ETH_P_IPV6, Mac};

/// linux/net.h, linux/if_packet.h; struct virtio_net_hdr of linux/virtio_net.h.
const SOCK_PACKET: i32 = 10;
const PACKET_VERSION: i32 = 10;
const PACKET_TX_RING: i32 = 13;
const PACKET_VNET_HDR: i32 = 15;
const PACKET_QDISC_BYPASS: i32 = 20;
const TPACKET_V2: i32 = 1;
const TP_STATUS_AVAILABLE: u32 = 0;
const TP_STATUS_SEND_REQUEST: u32 = 1;
/// TPACKET2_HDRLEN - sizeof(struct sockaddr_ll): where a frame to send begins in its slot.
const TPACKET2_DATA: usize = 32;
const VIRTIO_NET_HDR_F_NEEDS_CSUM: u8 = 1;
const VIRTIO_NET_HDR_GSO_TCPV4: u8 = 1;
const VIRTIO_NET_HDR_GSO_TCPV6: u8 = 4;

/// A way to send a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// SOCK_RAW: the frame with its Ethernet header.
    Raw,
    /// SOCK_DGRAM: the kernel writes the Ethernet header.
    Datagram,
    /// SOCK_PACKET, the type of Linux 2.0: the interface by its name.
    Obsolete,
    /// SOCK_RAW with PACKET_QDISC_BYPASS: `packet_direct_xmit`, no traffic control.
    QdiscBypass,
    /// SOCK_DGRAM with PACKET_QDISC_BYPASS.
    DatagramQdiscBypass,
    /// A ring of frames that the kernel takes from shared memory.
    Ring,
    /// A ring with PACKET_QDISC_BYPASS.
    RingQdiscBypass,
    /// PACKET_VNET_HDR: one big TCP segment that the kernel cuts up.
    Offload,
}

impl Way {
    /// Every one.
    pub(crate) const ALL: [Way; 8] = [
        Way::Raw,
        Way::Datagram,
        Way::Obsolete,
        Way::QdiscBypass,
        Way::DatagramQdiscBypass,
        Way::Ring,
        Way::RingQdiscBypass,
        Way::Offload,
    ];

    /// Sends an IP packet by interface `index`, called `name`, in the calling thread's namespace. [`Way::Offload`] wants
    /// TCP without options.
    pub(crate) fn send(self, name: &str, index: u32, from: Mac, to: Mac, packet: &[u8]) -> Result<usize, Errno> {
        let kind = wire::ether_type(packet);
        let frame = wire::ethernet(from, to, kind, packet);
        match self {
            Way::Raw => send_to(&open(libc::SOCK_RAW)?, index, kind, to, &frame),
            Way::Datagram => send_to(&open(libc::SOCK_DGRAM)?, index, kind, to, packet),
            Way::Obsolete => send_by_name(&open(SOCK_PACKET)?, name, kind, &frame),
            Way::QdiscBypass => send_to(&without_qdisc(open(libc::SOCK_RAW)?)?, index, kind, to, &frame),
            Way::DatagramQdiscBypass => send_to(&without_qdisc(open(libc::SOCK_DGRAM)?)?, index, kind, to, packet),
            Way::Ring => send_by_ring(&open(libc::SOCK_RAW)?, index, kind, &frame),
            Way::RingQdiscBypass => send_by_ring(&without_qdisc(open(libc::SOCK_RAW)?)?, index, kind, &frame),
            Way::Offload => {
                let socket = open(libc::SOCK_RAW)?;
                set(&socket, libc::SOL_PACKET, PACKET_VNET_HDR, &1i32)?;
                send_to(&socket, index, kind, to, &[&offload(kind), &frame[..]].concat())
            }
        }
    }
}

/// Sends a whole frame, whatever is in it.
pub(crate) fn send_frame(index: u32, frame: &[u8]) -> Result<usize, Errno> {
    send_frame_as(index, u16::from_be_bytes([frame[12], frame[13]]), frame)
}

/// The same, and tells the kernel that it is of type `kind`.
pub(crate) fn send_frame_as(index: u32, kind: u16, frame: &[u8]) -> Result<usize, Errno> {
    let to = frame[..6].try_into().expect("six bytes");
    send_to(&open(libc::SOCK_RAW)?, index, kind, to, frame)
}

fn open(kind: i32) -> Result<OwnedFd, Errno> {
    socket_of(libc::AF_PACKET, kind, 0)
}

/// A socket of any family, type and protocol by their numbers.
pub(crate) fn socket_of(family: i32, kind: i32, protocol: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: no pointers are passed.
    let fd = Errno::result(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn without_qdisc(socket: OwnedFd) -> Result<OwnedFd, Errno> {
    set(&socket, libc::SOL_PACKET, PACKET_QDISC_BYPASS, &1i32)?;
    Ok(socket)
}

/// setsockopt for options that no safe interface knows.
pub(crate) fn set<T>(socket: &OwnedFd, level: i32, name: i32, value: &T) -> Result<(), Errno> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is valid for reads of `len` bytes, and the kernel keeps no pointer to it.
    Errno::result(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, ptr::from_ref(value).cast(), len) })?;
    Ok(())
}

fn link_address(index: u32, kind: u16, to: Mac) -> libc::sockaddr_ll {
    let mut address = [0; 8];
    address[..6].copy_from_slice(&to);
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: kind.to_be(),
        sll_ifindex: i32::try_from(index).expect("an index"),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: address,
    }
}

fn send_to(socket: &OwnedFd, index: u32, kind: u16, to: Mac, bytes: &[u8]) -> Result<usize, Errno> {
    send_to_address(socket, bytes, &link_address(index, kind, to))
}

/// struct sockaddr_pkt of linux/if_packet.h: a name where others have an index.
fn send_by_name(socket: &OwnedFd, name: &str, kind: u16, frame: &[u8]) -> Result<usize, Errno> {
    #[repr(C)]
    struct Address {
        family: u16,
        device: [u8; 14],
        protocol: u16,
    }
    let mut device = [0; 14];
    device[..name.len()].copy_from_slice(name.as_bytes());
    send_to_address(socket, frame, &Address { family: libc::AF_PACKET as u16, device, protocol: kind.to_be() })
}

fn send_to_address<A>(socket: &OwnedFd, bytes: &[u8], address: &A) -> Result<usize, Errno> {
    let len = size_of::<A>() as libc::socklen_t;
    let to = ptr::from_ref(address).cast();
    // SAFETY: `bytes` and `address` are valid for reads of the lengths passed, and the call keeps neither.
    let sent = unsafe { libc::sendto(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0, to, len) };
    Errno::result(sent).map(|sent| sent as usize)
}

/// One frame by a ring of one slot.
fn send_by_ring(socket: &OwnedFd, index: u32, kind: u16, frame: &[u8]) -> Result<usize, Errno> {
    const SLOT: usize = 4096;
    assert!(frame.len() <= SLOT - TPACKET2_DATA, "the frame fits into its slot");
    set(socket, libc::SOL_PACKET, PACKET_VERSION, &TPACKET_V2)?;
    // struct tpacket_req: block size, blocks, frame size, frames.
    set(socket, libc::SOL_PACKET, PACKET_TX_RING, &[SLOT as u32, 1, SLOT as u32, 1])?;
    let ring = Mapping::new(socket, SLOT, 0)?;
    let address = link_address(index, kind, frame[..6].try_into().expect("six bytes"));
    let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: `address` is valid for reads of `len` bytes, and the call does not keep it.
    Errno::result(unsafe { libc::bind(socket.as_raw_fd(), ptr::from_ref(&address).cast(), len) })?;
    ring.write(TPACKET2_DATA, frame);
    // struct tpacket2_hdr: status, length of the frame.
    ring.write(4, &(frame.len() as u32).to_ne_bytes());
    ring.word(0).store(TP_STATUS_SEND_REQUEST, Ordering::Release);
    // SAFETY: no data and no address: the kernel looks into the ring, which is mapped.
    let sent = unsafe { libc::sendto(socket.as_raw_fd(), ptr::null(), 0, 0, ptr::null(), 0) };
    let sent = Errno::result(sent)? as usize;
    // The kernel gives the slot back once it is done with it.
    let done = (0..1000).any(|_| {
        std::thread::sleep(std::time::Duration::from_micros(100));
        ring.word(0).load(Ordering::Acquire) == TP_STATUS_AVAILABLE
    });
    assert!(done, "the slot comes back");
    Ok(sent)
}

/// A struct virtio_net_hdr for TCP without options in segments of 1000 bytes.
fn offload(kind: u16) -> Vec<u8> {
    let (gso, network) = match kind {
        ETH_P_IP => (VIRTIO_NET_HDR_GSO_TCPV4, 20),
        ETH_P_IPV6 => (VIRTIO_NET_HDR_GSO_TCPV6, 40),
        other => panic!("{other:#x} is not segmented here"),
    };
    let start: u16 = 14 + network;
    let fields = [start + 20, 1000, start, 16];
    let mut header = vec![VIRTIO_NET_HDR_F_NEEDS_CSUM, gso];
    header.extend(fields.iter().flat_map(|field| field.to_ne_bytes()));
    header
}

/// Memory shared with the kernel, or of our own where it is anonymous.
pub(crate) struct Mapping {
    start: *mut u8,
    len: usize,
}

impl Mapping {
    /// Maps what the socket has at that offset.
    pub(crate) fn new(socket: &OwnedFd, len: usize, offset: i64) -> Result<Mapping, Errno> {
        Mapping::map(socket.as_raw_fd(), libc::MAP_SHARED | libc::MAP_POPULATE, len, offset)
    }

    /// Anonymous memory.
    pub(crate) fn anonymous(len: usize) -> Result<Mapping, Errno> {
        Mapping::map(-1, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, len, 0)
    }

    fn map(fd: i32, flags: i32, len: usize, offset: i64) -> Result<Mapping, Errno> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses where, so nothing that is mapped is replaced.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, access, flags, fd, offset) };
        if start == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(Mapping { start: start.cast(), len }) }
    }

    /// Where it begins, as the kernel is told of it.
    pub(crate) fn address(&self) -> u64 {
        self.start as u64
    }

    /// Writes `bytes` at an offset.
    pub(crate) fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.len, "inside the mapping");
        // SAFETY: the range is inside the mapping, which lives as long as `self`; a `&[u8]` cannot point into it, for none
        // is ever made.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.add(at), bytes.len()) };
    }

    /// A word that the kernel reads and writes too.
    pub(crate) fn word(&self, at: usize) -> &AtomicU32 {
        assert!(at + 4 <= self.len && at.is_multiple_of(4), "a word inside the mapping");
        // SAFETY: inside the mapping, which is page aligned and lives as long as `self`; the kernel's accesses are atomic.
        unsafe { AtomicU32::from_ptr(self.start.add(at).cast()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length, and no reference into it outlives `self`.
        unsafe { libc::munmap(self.start.cast(), self.len) };
    }
}
