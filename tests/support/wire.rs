//! Packets byte by byte, as a process writes them that leaves nothing to the kernel.

use std::net::{IpAddr, SocketAddr};

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const FRAGMENT: u8 = 44;
pub(crate) const ICMPV6: u8 = 58;
pub(crate) const DESTINATION_OPTIONS: u8 = 60;

pub(crate) const SYN: u8 = 2;
pub(crate) const ACK: u8 = 16;

pub(crate) const ETH_P_IP: u16 = 0x0800;
pub(crate) const ETH_P_ARP: u16 = 0x0806;
pub(crate) const ETH_P_8021Q: u16 = 0x8100;
pub(crate) const ETH_P_IPV6: u16 = 0x86dd;

/// A link layer address.
pub(crate) type Mac = [u8; 6];

/// An Ethernet frame.
pub(crate) fn ethernet(from: Mac, to: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), payload].concat()
}

/// The type field of a frame that carries this packet.
pub(crate) fn ether_type(packet: &[u8]) -> u16 {
    if packet[0] >> 4 == 6 { ETH_P_IPV6 } else { ETH_P_IP }
}

/// An IP packet that is not fragmented.
pub(crate) fn ip(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    ip_with_limit(from, to, protocol, 64, payload)
}

/// The same with a chosen TTL or hop limit.
pub(crate) fn ip_with_limit(from: IpAddr, to: IpAddr, protocol: u8, limit: u8, payload: &[u8]) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = [0x45, 0, 0, 0, 0x6e, 0x6c, 0, 0, limit, protocol, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            header[2..4].copy_from_slice(&length(20 + payload.len()));
            header[12..16].copy_from_slice(&from.octets());
            header[16..20].copy_from_slice(&to.octets());
            let sum = checksum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            [&header[..], payload].concat()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut header = vec![0x60, 0, 0, 0];
            header.extend(length(payload.len()));
            header.extend([protocol, limit]);
            header.extend(from.octets());
            header.extend(to.octets());
            [&header[..], payload].concat()
        }
        _ => panic!("{from} and {to} are of two families"),
    }
}

/// One fragment, `at` bytes into the packet's payload; `more` follow.
pub(crate) fn fragment(from: IpAddr, to: IpAddr, protocol: u8, at: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    assert_eq!(at % 8, 0, "offsets count in units of eight bytes");
    if from.is_ipv4() {
        let mut packet = ip(from, to, protocol, payload);
        let field = (at / 8) | if more { 0x2000 } else { 0 };
        packet[6..8].copy_from_slice(&field.to_be_bytes());
        packet[10..12].copy_from_slice(&[0, 0]);
        let sum = checksum(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet
    } else {
        let field = at | u16::from(more);
        let header = [&[protocol, 0][..], &field.to_be_bytes(), b"nltc"].concat();
        ip(from, to, FRAGMENT, &[&header[..], payload].concat())
    }
}

/// A UDP packet, IP header included.
pub(crate) fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    ip(from.ip(), to.ip(), UDP, &udp_segment(from, to, payload))
}

/// The same without the IP header.
pub(crate) fn udp_segment(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut segment = [from.port().to_be_bytes(), to.port().to_be_bytes(), length(8 + payload.len()), [0, 0]].concat();
    segment.extend(payload);
    let sum = transport_sum(from.ip(), to.ip(), UDP, &segment);
    segment[6..8].copy_from_slice(&sum.to_be_bytes());
    segment
}

/// A TCP packet, IP header included.
pub(crate) fn tcp(from: SocketAddr, to: SocketAddr, flags: u8, payload: &[u8]) -> Vec<u8> {
    ip(from.ip(), to.ip(), TCP, &tcp_segment(from, to, flags, payload))
}

/// The same without the IP header.
pub(crate) fn tcp_segment(from: SocketAddr, to: SocketAddr, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    segment.extend([0, 0, 0x10, 0, 0, 0, 0x20, 0, 5 << 4, flags, 4, 0, 0, 0, 0, 0]);
    segment.extend(payload);
    let sum = transport_sum(from.ip(), to.ip(), TCP, &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    segment
}

/// An ICMP or ICMPv6 message of `kind` and `code`, IP header with that TTL or hop limit included.
pub(crate) fn icmp(from: IpAddr, to: IpAddr, limit: u8, kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let protocol = if from.is_ipv4() { ICMP } else { ICMPV6 };
    let mut message = [&[kind, code, 0, 0][..], rest].concat();
    let sum = if from.is_ipv4() { checksum(&message) } else { transport_sum(from, to, ICMPV6, &message) };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ip_with_limit(from, to, protocol, limit, &message)
}

/// An ARP packet for Ethernet and IPv4: operation 1 asks, 2 answers.
pub(crate) fn arp(operation: u16, sender: (Mac, IpAddr), target: (Mac, IpAddr)) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4];
    packet.extend(operation.to_be_bytes());
    for (mac, address) in [sender, target] {
        packet.extend(mac);
        match address {
            IpAddr::V4(address) => packet.extend(address.octets()),
            IpAddr::V6(address) => panic!("ARP does not speak of {address}"),
        }
    }
    packet
}

/// RFC 1071.
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let pairs = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = pairs.sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

fn transport_sum(from: IpAddr, to: IpAddr, protocol: u8, segment: &[u8]) -> u16 {
    let octets = |address| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let pseudo = [octets(from), octets(to), vec![0, protocol], length(segment.len()).to_vec()].concat();
    checksum(&[&pseudo[..], segment].concat())
}

fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).expect("a packet of less than 64 KiB").to_be_bytes()
}
