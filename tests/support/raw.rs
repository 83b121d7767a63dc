//! Packets no ordinary socket sends: echo requests, TCP segments of a strange kind, router advertisements.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, SockaddrStorage, bind, connect,
    getsockopt, recv, sendto, setsockopt, socket, sockopt,
};

use super::namespace::Namespace;
use super::probe::Outcome;

/// Echo request and the wait for its reply.
pub(crate) fn icmp_echo(from: &Namespace, to: IpAddr, timeout: Duration) -> Outcome {
    icmp_echo_from(from, None, to, timeout)
}

/// The same from a chosen source address.
pub(crate) fn icmp_echo_from(from: &Namespace, source: Option<IpAddr>, to: IpAddr, timeout: Duration) -> Outcome {
    let protocol = if to.is_ipv4() { SockProtocol::Icmp } else { SockProtocol::IcmpV6 };
    let (request, reply) = if to.is_ipv4() { (8, 0) } else { (128, 129) };
    from.within(|| {
        let socket = raw_socket(to, protocol);
        if let Some(source) = source {
            bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(source, 0))).expect("the source is ours");
        }
        let mut packet = vec![request, 0, 0, 0, 0x6e, 0x6c, 0, 1];
        packet.extend_from_slice(b"netlatch");
        if to.is_ipv4() {
            // For ICMPv6 the kernel fills in the checksum.
            let sum = checksum(&packet).to_be_bytes();
            packet[2..4].copy_from_slice(&sum);
        }
        if let Err(errno) = send(&socket, &packet, to) {
            return refused(errno);
        }
        let deadline = Instant::now() + timeout;
        let mut buffer = [0; 2048];
        while wait_for(&socket, PollFlags::POLLIN, deadline) {
            match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(len) => {
                    // A raw IPv4 socket delivers the IP header too, an IPv6 one does not.
                    let skip = if to.is_ipv4() { usize::from(buffer[0] & 15) * 4 } else { 0 };
                    if buffer[..len].get(skip) == Some(&reply) {
                        return Outcome::Replied;
                    }
                }
                Err(errno) => return refused(errno),
            }
        }
        Outcome::TimedOut
    })
}

/// Sends a whole packet and returns the ICMP types that come in until `last` does.
pub(crate) fn icmp_heard(from: &Namespace, to: IpAddr, packet: &[u8], timeout: Duration, last: u8) -> Vec<u8> {
    let protocol = if to.is_ipv4() { SockProtocol::Icmp } else { SockProtocol::IcmpV6 };
    from.within(|| {
        let socket = raw_socket(to, protocol);
        header_included(to, packet).expect("a packet leaves");
        let (deadline, mut kinds, mut buffer) = (Instant::now() + timeout, Vec::new(), [0; 2048]);
        while !kinds.contains(&last) && wait_for(&socket, PollFlags::POLLIN, deadline) {
            let len = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()).expect("a message");
            // A raw IPv4 socket delivers the IP header too, an IPv6 one does not.
            let skip = if to.is_ipv4() { usize::from(buffer[0] & 15) * 4 } else { 0 };
            kinds.extend(buffer[..len].get(skip));
        }
        kinds
    })
}

/// A TCP segment without options from `source_port` of the sender's address `from_addr`.
pub(crate) fn tcp_segment(from: &Namespace, from_addr: Ipv4Addr, source_port: u16, to: SocketAddrV4, flags: u8) {
    let mut segment = [0; 20];
    segment[0..2].copy_from_slice(&source_port.to_be_bytes());
    segment[2..4].copy_from_slice(&to.port().to_be_bytes());
    segment[4..8].copy_from_slice(&0x1000_u32.to_be_bytes());
    segment[12] = 5 << 4;
    segment[13] = flags;
    segment[14..16].copy_from_slice(&1024_u16.to_be_bytes());
    let mut summed = Vec::from(from_addr.octets());
    summed.extend_from_slice(&to.ip().octets());
    summed.extend_from_slice(&[0, 6, 0, 20]);
    summed.extend_from_slice(&segment);
    segment[16..18].copy_from_slice(&checksum(&summed).to_be_bytes());
    from.within(|| {
        let socket = raw_socket(IpAddr::V4(*to.ip()), SockProtocol::Tcp);
        send(&socket, &segment, IpAddr::V4(*to.ip())).expect("a raw segment leaves the far side");
    });
}

/// A router advertisement for `prefix`/64 with autonomous addresses, to all nodes on interface `index`.
pub(crate) fn router_advertisement(from: &Namespace, index: u32, prefix: std::net::Ipv6Addr) {
    let mut packet = vec![134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    packet.extend_from_slice(&[3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 0x0e, 0x10, 0, 0, 0, 0]);
    packet.extend_from_slice(&prefix.octets());
    from.within(|| {
        let all_nodes = "ff02::1".parse().expect("an address");
        let socket = raw_socket(IpAddr::V6(all_nodes), SockProtocol::IcmpV6);
        // RFC 4861, 6.1.2: only with hop limit 255 is it believed.
        setsockopt(&socket, sockopt::Ipv6MulticastHops, &255).expect("a socket option");
        let to = SockaddrIn6::from(SocketAddrV6::new(all_nodes, 0, 0, index));
        sendto(socket.as_raw_fd(), &packet, &to, MsgFlags::empty()).expect("an advertisement leaves the far side");
    });
}

/// A neighbour solicitation with hop limit 255 to any address, as a process with CAP_NET_RAW can make one.
pub(crate) fn neighbour_solicitation(from: &Namespace, to: std::net::Ipv6Addr) -> Result<usize, Errno> {
    let mut packet = vec![135, 0, 0, 0, 0, 0, 0, 0];
    packet.extend_from_slice(&to.octets());
    from.within(|| {
        let socket = raw_socket(IpAddr::V6(to), SockProtocol::IcmpV6);
        setsockopt(&socket, sockopt::Ipv6Ttl, &255).expect("a socket option");
        send(&socket, &packet, IpAddr::V6(to))
    })
}

/// Opens a TCP connection from a chosen source address, in the calling thread's namespace, and closes it.
pub(crate) fn connect_from(source: SocketAddr, to: SocketAddr, timeout: Duration) -> std::io::Result<()> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, None)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(source))?;
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) => return Ok(()),
        Err(Errno::EINPROGRESS) => {}
        Err(errno) => return Err(errno.into()),
    }
    if !wait_for(&socket, PollFlags::POLLOUT, Instant::now() + timeout) {
        return Err(std::io::ErrorKind::TimedOut.into());
    }
    match getsockopt(&socket, sockopt::SocketError)? {
        0 => Ok(()),
        errno => Err(std::io::Error::from_raw_os_error(errno)),
    }
}

/// A TCP connection from a chosen source address, in the calling thread's namespace.
pub(crate) fn connected_from(source: SocketAddr, to: SocketAddr) -> std::net::TcpStream {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket opens");
    bind(socket.as_raw_fd(), &SockaddrStorage::from(source)).expect("the source is ours");
    connect(socket.as_raw_fd(), &SockaddrStorage::from(to)).expect("the connection stands");
    socket.into()
}

/// Sends a datagram from a UDP socket that is bound to `device` (SO_BINDTODEVICE).
pub(crate) fn udp_bound_to(from: &Namespace, device: &str, to: SocketAddr) -> std::io::Result<usize> {
    from.within(|| {
        let udp = std::net::UdpSocket::bind(super::probe::any(to))?;
        setsockopt(&udp, sockopt::BindToDevice, &device.into())?;
        udp.send_to(b"bound", to)
    })
}

/// Sends a packet whose IP header is the caller's work (IP_HDRINCL, IPV6_HDRINCL), in the calling thread's namespace.
/// `towards` is where routing is told that it goes.
pub(crate) fn header_included(towards: IpAddr, packet: &[u8]) -> Result<usize, Errno> {
    send(&header_included_socket(towards)?, packet, towards)
}

/// The same by interface `index`, as a multicast address needs it.
pub(crate) fn header_included_by(index: u32, towards: IpAddr, packet: &[u8]) -> Result<usize, Errno> {
    let socket = header_included_socket(towards)?;
    match towards {
        IpAddr::V4(_) => send(&socket, packet, towards),
        IpAddr::V6(to) => {
            let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, index));
            sendto(socket.as_raw_fd(), packet, &to, MsgFlags::empty())
        }
    }
}

/// A raw socket that takes packets with their headers.
pub(crate) fn header_included_socket(towards: IpAddr) -> Result<OwnedFd, Errno> {
    // IPPROTO_RAW implies the option for both families.
    let family = if towards.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)
}

fn raw_socket(towards: IpAddr, protocol: SockProtocol) -> OwnedFd {
    let family = if towards.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).expect("a raw socket opens")
}

fn send(socket: &OwnedFd, packet: &[u8], to: IpAddr) -> Result<usize, Errno> {
    match to {
        IpAddr::V4(to) => {
            let to = SockaddrIn::from(SocketAddrV4::new(to, 0));
            sendto(socket.as_raw_fd(), packet, &to, MsgFlags::empty())
        }
        IpAddr::V6(to) => {
            let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, 0));
            sendto(socket.as_raw_fd(), packet, &to, MsgFlags::empty())
        }
    }
}

fn wait_for(socket: &OwnedFd, what: PollFlags, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    let left = PollTimeout::try_from(left.as_millis()).unwrap_or(PollTimeout::MAX);
    let mut fds = [PollFd::new(socket.as_fd(), what)];
    loop {
        match poll(&mut fds, left) {
            Ok(ready) => return ready > 0,
            Err(Errno::EINTR) => {}
            Err(errno) => panic!("poll: {errno:?}"),
        }
    }
}

fn refused(errno: Errno) -> Outcome {
    match errno {
        Errno::EPERM | Errno::EACCES => Outcome::NotPermitted,
        Errno::ECONNREFUSED => Outcome::Refused,
        Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::EADDRNOTAVAIL => Outcome::Unreachable,
        other => panic!("a raw sender failed in a way no test expects: {other:?}"),
    }
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}
