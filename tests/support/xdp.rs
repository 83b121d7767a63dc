//! One frame by AF_XDP: a socket, a page of user memory, a TX ring, and no program. `__xsk_generic_xmit` (net/xdp/xsk.c)
//! hands the frame to `__dev_direct_xmit`, past netfilter and traffic control.

use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::Ordering;

use nix::errno::Errno;
use nix::libc;

use super::link::{Mapping, set, socket_of};

const PAGE: usize = 4096;
/// Slots of each ring: a power of two.
const SLOTS: u32 = 2;

/// An AF_XDP socket on a queue.
pub(crate) struct Xdp {
    socket: OwnedFd,
    memory: Mapping,
}

impl Xdp {
    /// Opens one on the first queue of interface `index` in the calling thread's namespace, in copy mode, which every
    /// driver knows.
    pub(crate) fn open(index: u32) -> Result<Xdp, Errno> {
        let xdp = Xdp::unbound()?;
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: libc::XDP_COPY,
            sxdp_ifindex: index,
            sxdp_queue_id: 0,
            sxdp_shared_umem_fd: 0,
        };
        let len = size_of::<libc::sockaddr_xdp>() as libc::socklen_t;
        // SAFETY: `address` is valid for reads of `len` bytes, and the call does not keep it.
        Errno::result(unsafe { libc::bind(xdp.socket.as_raw_fd(), ptr::from_ref(&address).cast(), len) })?;
        Ok(xdp)
    }

    /// A socket with its memory and rings, on no interface yet.
    fn unbound() -> Result<Xdp, Errno> {
        let socket = socket_of(libc::AF_XDP, libc::SOCK_RAW, 0)?;
        let memory = Mapping::anonymous(PAGE)?;
        // struct xdp_umem_reg_v1: address, length, size of a chunk, headroom.
        set(&socket, libc::SOL_XDP, libc::XDP_UMEM_REG, &[memory.address(), PAGE as u64, PAGE as u64])?;
        for ring in [libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING, libc::XDP_TX_RING] {
            set(&socket, libc::SOL_XDP, ring, &SLOTS)?;
        }
        Ok(Xdp { socket, memory })
    }

    /// Sends one frame.
    pub(crate) fn send(&self, frame: &[u8]) -> Result<usize, Errno> {
        let offsets = self.offsets()?;
        let size = offsets.tx.desc as usize + SLOTS as usize * size_of::<libc::xdp_desc>();
        let ring = Mapping::new(&self.socket, size, libc::XDP_PGOFF_TX_RING)?;
        self.memory.write(0, frame);
        // struct xdp_desc: address in the memory (0), length, options.
        ring.write(offsets.tx.desc as usize + 8, &(frame.len() as u32).to_ne_bytes());
        ring.word(offsets.tx.producer as usize).store(1, Ordering::Release);
        // SAFETY: no data and no address: the kernel looks into the ring, which is mapped.
        let sent = unsafe { libc::sendto(self.socket.as_raw_fd(), ptr::null(), 0, libc::MSG_DONTWAIT, ptr::null(), 0) };
        Errno::result(sent).map(|_| frame.len())
    }

    fn offsets(&self) -> Result<libc::xdp_mmap_offsets, Errno> {
        let ring = || libc::xdp_ring_offset { producer: 0, consumer: 0, desc: 0, flags: 0 };
        let mut offsets = libc::xdp_mmap_offsets { rx: ring(), tx: ring(), fr: ring(), cr: ring() };
        let mut len = size_of::<libc::xdp_mmap_offsets>() as libc::socklen_t;
        let fd = self.socket.as_raw_fd();
        let to = ptr::from_mut(&mut offsets).cast();
        // SAFETY: `offsets` is valid for writes of `len` bytes, and the call keeps neither pointer.
        Errno::result(unsafe { libc::getsockopt(fd, libc::SOL_XDP, libc::XDP_MMAP_OFFSETS, to, &mut len) })?;
        Ok(offsets)
    }
}
