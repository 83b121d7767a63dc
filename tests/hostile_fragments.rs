//! Packets in pieces, and packets whose transport header is hard to find: what must pass whole, and what must not pass by
//! being cut.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{MsgFlags, SockaddrStorage, sendto, setsockopt, sockopt};
use support::game::{ALLOWED, Arena, FORBIDDEN, LIST, at, own, play};
use support::link::set;
use support::wire::{self, DESTINATION_OPTIONS, FRAGMENT, UDP};
use support::{probe, raw};

/// One port of the allowed addresses.
const PORT_53: &str = "udp/10.9.1.1:53 udp/[2001:db8::1]:53";
const PATIENCE: Duration = Duration::from_secs(10);

/// Rules that decide by port and let pass what shows none, as filters without connection tracking do.
const BY_PORT: &str = "\
table inet naive {
    chain output {
        type filter hook output priority 0; policy drop
        ip frag-off & 0x1fff != 0 accept
        ip6 nexthdr { hopopt, ipv6-route, ipv6-frag, ah, ipv6-opts } accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, mld2-listener-report } accept
        udp dport 53 accept
    }
}
";

/// Each packet, refused or not, by a raw socket whose fragments nobody puts together on the way out (IP_NODEFRAG, which
/// IPv4 alone has).
fn send_all(to: SocketAddr, packets: &[Vec<u8>]) -> Vec<Result<usize, Errno>> {
    let socket = raw::header_included_socket(to.ip()).expect("a raw socket opens");
    if to.is_ipv4() {
        set(&socket, libc::SOL_IP, libc::IP_NODEFRAG, &1i32).expect("a socket option");
    }
    let towards = SockaddrStorage::from(SocketAddr::new(to.ip(), 0));
    let send = |packet: &Vec<u8>| sendto(socket.as_raw_fd(), packet, &towards, MsgFlags::empty());
    packets.iter().map(send).collect()
}

#[test]
fn a_large_datagram_to_an_allowed_address_arrives_in_fragments_and_a_forbidden_one_does_not() {
    let arena = Arena::ours(&[("egress", LIST)]);
    for (to, passes) in ALLOWED.map(|to| (to, true)).into_iter().chain(FORBIDDEN.map(|to| (to, false))) {
        let marker = arena.marker();
        let sent =
            arena.with_nothing(|| UdpSocket::bind(probe::any(at(to, 53)))?.send_to(&marker.times(4000), at(to, 53)));
        if passes {
            assert_eq!(sent.unwrap(), 4000, "{to}");
            assert!(arena.hears(&marker), "{to}");
            let got = (0..1000).find_map(|_| {
                std::thread::sleep(Duration::from_millis(1));
                arena.world.pump().first().map(|datagram| datagram.len)
            });
            assert_eq!(got, Some(4000), "{to}: the receiver puts it together again");
            assert!(arena.arrived(&marker) >= 3, "{to}: it came in pieces");
        } else {
            std::thread::sleep(Duration::from_millis(60));
            assert_eq!(arena.arrived(&marker), 0, "{to}: {sent:?}");
        }
    }
}

#[test]
fn a_fragment_that_shows_no_port_does_not_leave() {
    /// What the fragments are, and where the marker is.
    #[derive(Debug, Clone, Copy)]
    enum Cut {
        /// The first fragment ends with the UDP header.
        Tiny,
        /// There is no first fragment.
        Tail,
        /// The first fragment is complete and allowed; a second one writes another port over it.
        Overlap,
        /// Everything in one fragment.
        Atomic,
    }
    let cuts = [Cut::Tiny, Cut::Tail, Cut::Overlap, Cut::Atomic];
    let ends = [(FORBIDDEN[0], 54), (FORBIDDEN[1], 54), (ALLOWED[0], 54), (ALLOWED[1], 54)];
    let games: Vec<_> = cuts.into_iter().flat_map(|cut| ends.map(|(to, port)| (cut, to, port))).collect();
    // IPv4 has no fragment of everything: without an offset and without more to come it is none.
    let games: Vec<_> =
        games.into_iter().filter(|(cut, to, _)| !matches!(cut, Cut::Atomic) || to.contains(':')).collect();
    play(BY_PORT, &[("egress", PORT_53)], &games, |arena, (cut, to, port), marker| {
        let (from, to) = (SocketAddr::new(own(at(to, 0).ip()), 4242), at(to, *port));
        let piece = |at, more, bytes: &[u8]| wire::fragment(from.ip(), to.ip(), UDP, at, more, bytes);
        let whole = wire::udp_segment(from, to, &marker.times(64));
        // A first fragment for the allowed port, whatever follows; the rest of what it promises never comes.
        let decoy = wire::udp_segment(from, SocketAddr::new(to.ip(), 53), &[0; 64]);
        let packets = match cut {
            Cut::Tiny => vec![piece(0, true, &whole[..8]), piece(8, false, &whole[8..])],
            Cut::Tail => vec![piece(8, true, &whole[8..40]), piece(40, false, &whole[40..])],
            Cut::Overlap => {
                vec![piece(0, true, &decoy[..16]), piece(8, false, &whole[8..]), piece(0, true, &whole[..16])]
            }
            Cut::Atomic => vec![piece(0, false, &whole)],
        };
        arena.with_net_raw(|| send_all(to, &packets))
    });
}

#[test]
fn a_port_behind_extension_headers_is_found() {
    /// IPv6 extension headers, by the number that announces them.
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const AUTHENTICATION: u8 = 51;
    let chains: [&[u8]; 9] = [
        &[HOP_BY_HOP],
        &[DESTINATION_OPTIONS],
        &[ROUTING],
        &[AUTHENTICATION],
        &[HOP_BY_HOP, DESTINATION_OPTIONS, ROUTING],
        &[DESTINATION_OPTIONS, DESTINATION_OPTIONS, DESTINATION_OPTIONS],
        &[FRAGMENT],
        &[HOP_BY_HOP, FRAGMENT, DESTINATION_OPTIONS],
        &[ROUTING, AUTHENTICATION, DESTINATION_OPTIONS],
    ];
    let ends = [at(ALLOWED[1], 54), at(FORBIDDEN[1], 53)];
    let games: Vec<_> = chains.into_iter().flat_map(|chain| ends.map(|to| (chain, to))).collect();
    play(BY_PORT, &[("egress", PORT_53)], &games, |arena, (chain, to), marker| {
        let from = SocketAddr::new(own(to.ip()), 4242);
        let mut payload = wire::udp_segment(from, *to, marker.bytes());
        let mut next = UDP;
        for header in chain.iter().rev() {
            let bytes = match *header {
                // Padding to the eighth byte; nothing left to visit; no offset and nothing to follow; an empty digest.
                ROUTING => [next, 0, 4, 0, 0, 0, 0, 0],
                FRAGMENT => [next, 0, 0, 0, 0, 0, 0, 1],
                AUTHENTICATION => [next, 0, 0, 0, 0, 0, 0, 1],
                _ => [next, 0, 1, 4, 0, 0, 0, 0],
            };
            payload = [&bytes[..], &payload].concat();
            next = *header;
        }
        let packet = wire::ip(from.ip(), to.ip(), next, &payload);
        arena.with_net_raw(|| raw::header_included(to.ip(), &packet))
    });
}

#[test]
fn a_port_behind_ip_options_is_found() {
    // The header's length says where the ports are; a filter that looks 20 bytes in sees what the process wrote there.
    const AT_A_FIXED_PLACE: &str = "table inet naive { chain output { type filter hook output priority 0; policy drop; \
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept; ip6 nexthdr udp @nh,336,16 53 accept; \
        ip protocol udp @nh,176,16 53 accept; }; }";
    play(AT_A_FIXED_PLACE, &[("egress", PORT_53)], &[at(ALLOWED[0], 54)], |arena, to, marker| {
        let from = SocketAddr::new(own(to.ip()), 4242);
        let mut packet = wire::ip(from.ip(), to.ip(), UDP, &[]);
        // Four bytes of options that read as ports: no operation, no operation, 0x00 0x35 as "end of list" and padding.
        packet.extend([1, 1, 0, 53]);
        packet.extend(wire::udp_segment(from, *to, marker.bytes()));
        packet[0] = 0x46;
        arena.with_net_raw(|| raw::header_included(to.ip(), &packet))
    });
}

#[test]
fn segments_that_the_device_is_to_cut_up_pass_to_an_allowed_address() {
    // Eight megabytes of TCP leave as segments of up to 64 KiB and arrive complete.
    const LEN: usize = 8 << 20;
    let arena = Arena::ours(&[("egress", LIST), ("ingress", "none")]);
    for to in ALLOWED {
        let listener = arena.world.far.within(|| TcpListener::bind(at("::", 9))).unwrap();
        let received = std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut buffer = vec![0; 1 << 16];
                let mut sum = 0;
                loop {
                    match stream.read(&mut buffer).unwrap() {
                        0 => return sum,
                        len => sum += len,
                    }
                }
            });
            let mut stream =
                arena.with_nothing(|| TcpStream::connect_timeout(&at(to, 9), PATIENCE)).expect("the connection stands");
            stream.set_write_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(&vec![7; LEN]).unwrap();
            drop(stream);
            reader.join().unwrap()
        });
        assert_eq!(received, LEN, "{to}");
        let large = arena.ear.count(|frame| frame.len() > 3000);
        assert!(large > 0, "{to}: some left in one piece, to be cut up by the device");
        // And datagrams (UDP_SEGMENT).
        let marker = arena.marker();
        let sent = arena.with_nothing(|| {
            let socket = UdpSocket::bind(probe::any(at(to, 53)))?;
            setsockopt(&socket, sockopt::UdpGsoSegment, &1000)?;
            socket.send_to(&marker.times(8000), at(to, 53))
        });
        assert_eq!(sent.unwrap(), 8000, "{to}");
        assert!(arena.hears(&marker), "{to}");
    }
}
