//! Sockets that write more of their packets than others: forged sources, headers of their own, marks, protocols that no rule
//! thought of.

mod support;

use std::fmt;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, sendto, setsockopt, socket,
    sockopt,
};
use support::game::{ALLOWED, FORBIDDEN, LIST, NAIVE, at, datagram, own, play};
use support::link::{set, socket_of};
use support::wire;
use support::{probe, raw};

fn forbidden(port: u16) -> [SocketAddr; 2] {
    FORBIDDEN.map(|address| at(address, port))
}

fn open(to: SocketAddr, kind: SockType, protocol: Option<SockProtocol>) -> Result<OwnedFd, Errno> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol)
}

fn send(socket: &OwnedFd, bytes: &[u8], to: SocketAddr) -> Result<usize, Errno> {
    sendto(socket.as_raw_fd(), bytes, &SockaddrStorage::from(to), MsgFlags::empty())
}

#[test]
fn rules_for_ipv4_alone_are_no_rules_for_ipv6() {
    let ipv4_alone = "table ip naive { chain output { type filter hook output priority 0; policy drop; \
                      ct state established,related accept; ip daddr 10.9.1.1 accept; }; }";
    play(ipv4_alone, &[("egress", LIST)], &[forbidden(53)[1]], |arena, to, marker| {
        arena.with_nothing(|| datagram(*to, marker))
    });
    // The other way round: an IPv6 socket speaks IPv4 where it is given a mapped address.
    let ipv6_alone = "table ip6 naive { chain output { type filter hook output priority 0; policy drop; \
                      icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept; ip6 daddr 2001:db8::1 accept; }; }";
    play(ipv6_alone, &[("egress", LIST)], &[at("::ffff:10.9.9.9", 53)], |arena, to, marker| {
        arena.with_nothing(|| datagram(*to, marker))
    });
}

#[test]
fn a_mapped_address_on_the_wire_is_no_way_around_a_list() {
    let games = ["::ffff:10.9.9.9", "::ffff:10.9.1.1", "::10.9.9.9", "64:ff9b::10.9.9.9", "2002:a09:909::1"];
    play("", &[("egress", LIST)], &games.map(|to| at(to, 53)), |arena, to, marker| {
        let packet = wire::udp(SocketAddr::new(own(to.ip()), 4242), *to, marker.bytes());
        arena.with_net_raw(|| raw::header_included(to.ip(), &packet))
    });
}

#[test]
fn a_forged_source_is_no_way_around_a_rule_about_the_containers_own_address() {
    // Rules on a host are written about a container's address. Whoever sends from another one is not meant.
    const ABOUT_AN_ADDRESS: &str = "table inet naive { chain output { type filter hook output priority 0; policy accept; \
        ip saddr 10.9.0.2 ip daddr != 10.9.1.1 drop; \
        ip6 saddr fd99::2 ip6 daddr { 2001:db8::9, 2001:db8::666 } drop; }; }";
    #[derive(Debug)]
    enum Forger {
        /// IP_TRANSPARENT, IPV6_TRANSPARENT: CAP_NET_RAW.
        Transparent,
        /// IPV6_FREEBIND: any process.
        Freebind,
        /// IP_HDRINCL, IPV6_HDRINCL.
        Header,
    }
    let games = [
        (Forger::Transparent, FORBIDDEN[0], "10.9.77.7"),
        (Forger::Header, FORBIDDEN[0], "10.9.77.7"),
        (Forger::Header, FORBIDDEN[0], "203.0.113.5"),
        (Forger::Header, FORBIDDEN[0], ALLOWED[0]),
        (Forger::Transparent, FORBIDDEN[1], "2001:db8::77"),
        (Forger::Freebind, FORBIDDEN[1], "2001:db8::77"),
        (Forger::Header, FORBIDDEN[1], "2001:db8::77"),
        (Forger::Header, FORBIDDEN[1], ALLOWED[1]),
    ];
    play(ABOUT_AN_ADDRESS, &[("egress", LIST)], &games, |arena, (forger, to, source), marker| {
        let (from, to) = (at(source, 4242), at(to, 53));
        let bound = |socket: OwnedFd| {
            bind(socket.as_raw_fd(), &SockaddrStorage::from(from))?;
            send(&socket, marker.bytes(), to)
        };
        match forger {
            Forger::Freebind => arena.with_nothing(|| {
                let socket = open(to, SockType::Datagram, None)?;
                setsockopt(&socket, sockopt::IpFreebind, &true)?;
                bound(socket)
            }),
            Forger::Transparent => arena.with_net_raw(|| {
                let socket = open(to, SockType::Datagram, None)?;
                if to.is_ipv4() {
                    setsockopt(&socket, sockopt::IpTransparent, &true)?;
                } else {
                    set(&socket, libc::SOL_IPV6, libc::IPV6_TRANSPARENT, &1i32)?;
                }
                bound(socket)
            }),
            Forger::Header => {
                let packet = wire::udp(from, to, marker.bytes());
                arena.with_net_raw(|| raw::header_included(to.ip(), &packet))
            }
        }
    });
}

#[test]
fn a_forged_source_does_not_leave_towards_an_allowed_address_either() {
    let sources = ["10.9.9.9", "203.0.113.5", "127.0.0.1", "255.255.255.255", "2001:db8::9", "::1", "ff02::1"];
    play("", &[("egress", LIST)], &sources, |arena, source, marker| {
        let from = at(source, 4242);
        let to = at(support::game::like(from.ip(), ALLOWED), 53);
        arena.with_net_raw(|| raw::header_included(to.ip(), &wire::udp(from, to, marker.bytes())))
    });
}

#[test]
fn where_a_raw_socket_says_it_sends_to_is_not_where_its_packet_goes() {
    // Routing takes the address of `sendto`, the rules take the header's.
    let games = [
        (ALLOWED[0], FORBIDDEN[0]),
        (ALLOWED[1], FORBIDDEN[1]),
        (FORBIDDEN[0], FORBIDDEN[0]),
        (FORBIDDEN[1], FORBIDDEN[1]),
        ("10.9.0.1", FORBIDDEN[0]),
        ("fd99::1", FORBIDDEN[1]),
    ];
    play("", &[("egress", LIST)], &games, |arena, (towards, to), marker| {
        let to = at(to, 53);
        let packet = wire::udp(SocketAddr::new(own(to.ip()), 4242), to, marker.bytes());
        arena.with_net_raw(|| raw::header_included(towards.parse().unwrap(), &packet))
    });
}

#[test]
fn a_mark_opens_nothing() {
    // CAP_NET_RAW is enough for SO_MARK since Linux 5.17.
    let marked = NAIVE.replace("oif lo accept", "oif lo accept\nmeta mark 0x539 accept");
    play(&marked, &[("egress", LIST)], &forbidden(53), |arena, to, marker| {
        arena.with_net_raw(|| {
            let socket = UdpSocket::bind(probe::any(*to))?;
            setsockopt(&socket, sockopt::Mark, &0x539)?;
            socket.send_to(marker.bytes(), to)
        })
    });
}

#[test]
fn no_protocol_is_forgotten() {
    // Every one of the 256, whatever the kernel knows of it: GRE, IPIP, ESP, SCTP, OSPF, UDP-Lite, 255.
    let known = "table inet naive { chain output { type filter hook output priority 0; policy accept; \
        meta l4proto { tcp, udp, icmp } ip daddr != 10.9.1.1 drop; meta l4proto { tcp, udp } ip6 daddr != 2001:db8::1 drop; }; }";
    play(known, &[("egress", LIST)], &forbidden(0), |arena, to, marker| {
        let from = own(to.ip());
        let packets: Vec<Vec<u8>> =
            (0..=255).map(|protocol| wire::ip(from, to.ip(), protocol, &marker.times(40))).collect();
        arena.with_net_raw(|| {
            packets.iter().map(|packet| raw::header_included(to.ip(), packet)).filter(Result::is_ok).count()
        })
    });
}

/// A way to speak that is neither plain UDP nor plain TCP.
#[derive(Debug, Clone, Copy)]
enum Speech {
    /// A socket of UDP-Lite.
    UdpLite,
    /// One datagram that the kernel cuts in pieces (UDP_SEGMENT).
    Segments,
    /// Data in the SYN.
    FastOpen,
    /// Multipath TCP.
    Multipath,
    /// An echo request from a socket that any process may open (ping_group_range).
    Ping,
}

#[test]
fn a_list_binds_every_way_to_speak() {
    let all = [Speech::UdpLite, Speech::Segments, Speech::FastOpen, Speech::Multipath, Speech::Ping];
    let games: Vec<Conversation> =
        all.into_iter().flat_map(|speech| forbidden(53).map(|to| Conversation { speech, to })).collect();
    play("", &[("egress", LIST)], &games, |arena, game, marker| {
        arena.world.ctr.set_sysctl("net/ipv4/ping_group_range", "0 0");
        // Without a cookie of the server's, which it has not given yet.
        arena.world.ctr.set_sysctl("net/ipv4/tcp_fastopen", "5");
        arena.with_nothing(|| game.say(marker))
    });
}

struct Conversation {
    speech: Speech,
    to: SocketAddr,
}

impl fmt::Debug for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} to {}", self.speech, self.to)
    }
}

impl Conversation {
    fn say(&self, marker: &support::game::Marker) -> Result<usize, Errno> {
        let to = self.to;
        let speak = |kind, protocol, flags, bytes: &[u8]| {
            let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 } as i32;
            let socket = socket_of(family, kind, protocol)?;
            sendto(socket.as_raw_fd(), bytes, &SockaddrStorage::from(to), MsgFlags::from_bits_retain(flags))
        };
        let (datagram, stream) = (libc::SOCK_DGRAM, libc::SOCK_STREAM);
        match self.speech {
            Speech::UdpLite => speak(datagram, libc::IPPROTO_UDPLITE, 0, marker.bytes()),
            Speech::Segments => {
                let socket = open(to, SockType::Datagram, None)?;
                setsockopt(&socket, sockopt::UdpGsoSegment, &1000)?;
                send(&socket, &marker.times(8000), to)
            }
            Speech::FastOpen => speak(stream, libc::IPPROTO_TCP, libc::MSG_FASTOPEN, marker.bytes()),
            Speech::Multipath => speak(stream, libc::IPPROTO_MPTCP, libc::MSG_FASTOPEN, marker.bytes()),
            Speech::Ping => {
                let (protocol, kind) = if to.is_ipv4() { (libc::IPPROTO_ICMP, 8) } else { (libc::IPPROTO_ICMPV6, 128) };
                let echo = [&[kind, 0, 0, 0, 0, 0, 0, 0][..], marker.bytes()].concat();
                speak(datagram, protocol, 0, &echo)
            }
        }
    }
}

#[test]
fn what_a_process_dresses_as_the_links_own_business_goes_to_the_list() {
    // Neighbour discovery must pass unasked, or IPv6 does not work. Only the kernel's does.
    let open_link = NAIVE.replace("nd-neighbor-advert,", "nd-neighbor-advert, nd-router-advert, nd-redirect,");
    let all_nodes: IpAddr = "ff02::1".parse().unwrap();
    let unicast: IpAddr = FORBIDDEN[1].parse().unwrap();
    // Type and hop limit; the payload after eight bytes is whatever it is.
    let kinds = [(135, 255), (136, 255), (134, 255), (137, 255), (143, 1)];
    let games: Vec<_> =
        kinds.into_iter().flat_map(|(kind, limit)| [(kind, limit, unicast), (kind, limit, all_nodes)]).collect();
    play(&open_link, &[("egress", LIST)], &games, |arena, (kind, limit, to), marker| {
        let rest = [&[0; 20][..], &marker.times(33)].concat();
        let packet = wire::icmp(own(*to), *to, *limit, *kind, 0, &rest);
        let index = arena.eth0.0;
        arena.with_net_raw(|| raw::header_included_by(index, *to, &packet))
    });
}
