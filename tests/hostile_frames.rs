//! Frames that the IP stack never sees: AF_PACKET in every form it has, onto eth0 and onto `lo`.

mod support;

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use nix::errno::Errno;
use support::container::{Dialect, hook_in};
use support::game::{ALLOWED, Arena, Ear, FORBIDDEN, LIST, NAIVE, at, datagram, own, play};
use support::link::{Way, send_frame, send_frame_as};
use support::wire::{self, ACK, ETH_P_8021Q, ETH_P_ARP, ETH_P_IP};
use support::{Container, Namespace, Outcome, World, probe, raw};

/// LOOPBACK_IFINDEX, include/net/flow.h.
const LOOPBACK: u32 = 1;
const PATIENCE: Duration = Duration::from_secs(5);

fn forbidden(port: u16) -> [SocketAddr; 2] {
    FORBIDDEN.map(|address| at(address, port))
}

/// The container's end of a flow with `to`.
fn own_end(to: SocketAddr, port: u16) -> SocketAddr {
    SocketAddr::new(own(to.ip()), port)
}

fn send_by(arena: &Arena, way: Way, packet: &[u8]) -> Result<usize, Errno> {
    let ((index, mac), far_mac) = (arena.eth0, arena.far_mac);
    arena.with_net_raw(|| way.send("eth0", index, mac, far_mac, packet))
}

/// As if it had come in by `lo`.
fn send_to_self(arena: &Arena, packet: &[u8]) -> Result<usize, Errno> {
    arena.with_net_raw(|| Way::Raw.send("lo", LOOPBACK, [0; 6], [0; 6], packet))
}

#[test]
fn a_frame_from_a_packet_socket_does_not_leave() {
    let games: Vec<(Way, SocketAddr)> =
        Way::ALL.into_iter().flat_map(|way| forbidden(80).map(|to| (way, to))).collect();
    play(NAIVE, &[("egress", LIST)], &games, |arena, (way, to), marker| {
        // TCP: every way of sending, offload too, can carry it.
        send_by(arena, *way, &wire::tcp(own_end(*to, 4242), *to, ACK, marker.bytes()))
    });
}

#[test]
fn a_large_segment_that_the_kernel_is_to_cut_up_does_not_leave() {
    play(NAIVE, &[("egress", LIST)], &forbidden(80), |arena, to, marker| {
        send_by(arena, Way::Offload, &wire::tcp(own_end(*to, 4242), *to, ACK, &marker.times(30_000)))
    });
}

#[test]
fn a_frame_from_a_packet_socket_does_not_leave_towards_an_allowed_address_either() {
    // Nobody can tell from its address who a frame is for: the link layer delivers it to any neighbour.
    let games = ALLOWED.map(|address| at(address, 80));
    play(NAIVE, &[("egress", LIST)], &games, |arena, to, marker| {
        send_by(arena, Way::Raw, &wire::tcp(own_end(*to, 4242), *to, ACK, marker.bytes()))
    });
}

#[test]
fn a_frame_that_carries_no_ip_does_not_leave() {
    /// What a frame may be dressed as.
    #[derive(Debug)]
    enum Dress {
        /// Any EtherType: experimental, LLDP, PPPoE, EAPOL, MACsec, batman, MPLS.
        Type(u16),
        /// IEEE 802.3 with an LLC header.
        Llc,
        /// A VLAN tag, and IP behind it.
        Tagged,
        /// ARP with something behind it.
        Arp,
        /// IP that its sender calls ARP: what rules ask for is what the socket's address says.
        Announced,
    }
    let types = [0x88b5, 0x88cc, 0x8863, 0x8864, 0x888e, 0x88e5, 0x4305, 0x8847, 0x0000, 0xffff].map(Dress::Type);
    let games: Vec<Dress> =
        types.into_iter().chain([Dress::Llc, Dress::Tagged, Dress::Arp, Dress::Announced]).collect();
    play(NAIVE, &[("egress", LIST)], &games, |arena, dress, marker| {
        let ((index, mac), far_mac) = (arena.eth0, arena.far_mac);
        let payload = marker.times(44);
        let to = forbidden(53)[0];
        let packet = wire::udp(own_end(to, 53), to, &payload);
        let frame = match dress {
            Dress::Announced => {
                let frame = wire::ethernet(mac, far_mac, ETH_P_IP, &packet);
                return arena.with_net_raw(|| send_frame_as(index, ETH_P_ARP, &frame));
            }
            Dress::Type(kind) => wire::ethernet(mac, far_mac, *kind, &payload),
            // Null SAPs, unnumbered information; the length stands where others have the type.
            Dress::Llc => wire::ethernet(mac, far_mac, 47, &[&[0, 0, 3][..], &payload].concat()),
            Dress::Tagged => {
                let tag = [&[0, 7][..], &ETH_P_IP.to_be_bytes(), &packet].concat();
                wire::ethernet(mac, far_mac, ETH_P_8021Q, &tag)
            }
            Dress::Arp => {
                let packet = wire::arp(1, (mac, own(to.ip())), ([0; 6], to.ip()));
                wire::ethernet(mac, [0xff; 6], ETH_P_ARP, &[&packet[..], &payload].concat())
            }
        };
        arena.with_net_raw(|| send_frame(index, &frame))
    });
}

#[test]
fn a_container_cannot_claim_a_neighbours_address() {
    // CVE-2020-10749 and its like: an ARP answer makes the neighbour send to the container what is for another.
    let stolen: IpAddr = "10.9.77.7".parse().unwrap();
    let claim = |arena: &Arena| {
        let ((index, _), far_mac) = (arena.eth0, arena.far_mac);
        let liar = [2, 0, 0, 0, 6, 0x66];
        let packet = wire::arp(2, (liar, stolen), (far_mac, "10.9.0.1".parse().unwrap()));
        let sent = arena.with_net_raw(|| send_frame(index, &wire::ethernet(liar, far_mac, ETH_P_ARP, &packet)));
        let known = arena.world.far.run("ip", &["neigh", "show", "10.9.77.7"], "");
        (known.contains("02:00:00:00:06:66"), sent)
    };
    for locked in [false, true] {
        let arena = Arena::naive(NAIVE);
        if locked {
            arena.world.ctr.run("nft", &["flush", "ruleset"], "");
            arena.lock(&[("egress", LIST)]);
        }
        // An entry may change again at once, not only after a second.
        arena.world.far.set_sysctl("net/ipv4/neigh/eth0/locktime", "0");
        // The far side knows the neighbour, as a switch or a gateway does that has talked to it.
        arena.world.far.ip_batch("neigh add 10.9.77.7 lladdr 02:00:00:00:00:07 dev eth0 nud stale\n");
        let mut sent = None;
        let believed = (0..20).any(|_| {
            std::thread::sleep(Duration::from_millis(5));
            let (believed, by) = claim(&arena);
            sent = Some(by);
            believed
        });
        assert_eq!(believed, !locked, "sender: {sent:?}");
        // Docker 28 announces addresses so, and takes a failure for its own.
        assert!(matches!(sent, Some(Ok(_))), "sender: {sent:?}");
        arena.passes_what_is_allowed();
    }
}

#[test]
fn what_is_forged_onto_loopback_makes_no_answer_of_what_is_denied() {
    // A frame on `lo` comes in as from outside: conntrack takes it for the beginning of a flow of the forbidden address,
    // and the container's next packet to it for the answer, which is established.
    play(NAIVE, &[("egress", LIST)], &forbidden(53), |arena, to, marker| {
        let forged = send_to_self(arena, &wire::udp(*to, own_end(*to, 5555), b"forged"));
        let answered = arena.with_nothing(|| UdpSocket::bind(own_end(*to, 5555))?.send_to(marker.bytes(), to));
        (forged, answered)
    });
}

#[test]
fn the_containers_own_stack_answers_no_forged_question() {
    // The answer is the kernel's: a reset, a "port unreachable" that quotes the question, an echo.
    #[derive(Debug)]
    enum Question {
        Echo(SocketAddr),
        ClosedPort(SocketAddr),
    }
    let games: Vec<Question> =
        forbidden(53).into_iter().flat_map(|from| [Question::Echo(from), Question::ClosedPort(from)]).collect();
    play(NAIVE, &[("egress", LIST)], &games, |arena, question, marker| match question {
        Question::Echo(from) => {
            let kind = if from.is_ipv4() { 8 } else { 128 };
            let rest = [&[1, 2, 3, 4][..], marker.bytes()].concat();
            send_to_self(arena, &wire::icmp(from.ip(), own(from.ip()), 64, kind, 0, &rest))
        }
        // The quotation of an ICMP error is related to the flow that it is about.
        Question::ClosedPort(from) => send_to_self(arena, &wire::udp(*from, own_end(*from, 9), marker.bytes())),
    });
}

#[test]
fn a_packet_socket_primes_no_connection_for_a_raw_one() {
    // The first datagram makes the peer answer, so that conntrack sees the peer begin; what an ordinary raw socket sends then
    // is an answer, which is established (facts/peers.md, bypass 4).
    play(NAIVE, &[("egress", LIST)], &forbidden(53), |arena, to, marker| {
        let own_end = own_end(*to, 4343);
        let primed = send_by(arena, Way::Raw, &wire::udp(own_end, *to, b"prime"));
        let answered = (0..50).any(|_| {
            std::thread::sleep(Duration::from_millis(1));
            !arena.world.pump().is_empty()
        });
        let packet = wire::udp(own_end, *to, marker.bytes());
        (primed, answered, arena.with_net_raw(|| raw::header_included(to.ip(), &packet)))
    });
}

#[test]
fn neighbours_are_found_with_an_empty_cache_while_packet_sockets_are_closed() {
    let arena = Arena::ours(&[("egress", LIST), ("ingress", "none")]);
    for _ in 0..2 {
        for side in [&arena.world.ctr, &arena.world.far] {
            side.run("ip", &["neigh", "flush", "all"], "");
        }
        for to in ALLOWED {
            assert_eq!(probe::tcp_connect(&arena.world.ctr, at(to, 443), PATIENCE), Outcome::Connected, "{to}");
        }
        arena.passes_what_is_allowed();
        arena.stops_what_is_forbidden(&FORBIDDEN);
    }
    // And the container is found, where it takes connections.
    let arena = Arena::ours(&[("egress", LIST), ("ingress", "*")]);
    let listeners = ["0.0.0.0:22", "[::]:23"].map(|to| arena.world.ctr.within(|| TcpListener::bind(to)).unwrap());
    for side in [&arena.world.ctr, &arena.world.far] {
        side.run("ip", &["neigh", "flush", "all"], "");
    }
    for (listener, address) in listeners.iter().zip(support::world::CTR) {
        let to = at(address, listener.local_addr().unwrap().port());
        assert_eq!(probe::tcp_connect(&arena.world.far, to, PATIENCE), Outcome::Connected, "{to}");
    }
}

#[test]
fn an_interface_that_comes_later_is_closed_to_packet_sockets_too() {
    // Docker, and podman with a user namespace, attach the network after createRuntime.
    for locked in [false, true] {
        let ctr = Namespace::new();
        if locked {
            Container::of(&ctr).with("egress", LIST).lock();
        }
        let arena = Arena::around(World::around(ctr));
        if !locked {
            arena.world.ctr.nft_load(NAIVE);
        }
        arena.passes_what_is_allowed();
        arena.stops_what_is_forbidden(&FORBIDDEN);
        for to in forbidden(80) {
            let marker = arena.marker();
            let sent = send_by(&arena, Way::QdiscBypass, &wire::tcp(own_end(to, 4242), to, ACK, marker.bytes()));
            let arrived = if locked { arena.arrived(&marker) > 0 } else { arena.hears(&marker) };
            assert_eq!(arrived, !locked, "{to} (sender: {sent:?})");
        }
    }
}

#[test]
fn an_interface_that_comes_later_under_a_strange_name_is_closed_to_packet_sockets_by_poststart() {
    // Ordinary packets are filtered under any name. Whether packet sockets are, before poststart, depends on the name.
    let ctr = Namespace::new();
    let container = Container::of(&ctr).with("egress", LIST);
    let dir = tempfile::tempdir().unwrap();
    let hook = |stage| {
        let output = hook_in(&dir, stage, &container.state(Dialect::Crun), None);
        assert!(output.status.success(), "{stage}: {}", String::from_utf8_lossy(&output.stderr));
    };
    hook("createRuntime");
    let arena = Arena::around(World::around(ctr));
    arena.world.ctr.ip_batch("link set eth0 down\nlink set eth0 name strange\nlink set strange up\n");
    arena.world.ctr.ip_batch(
        "addr add fd99::2/64 dev strange nodad\nroute add default via 10.9.0.1\nroute add default via fd99::1\n",
    );
    let ((index, mac), far_mac) = (arena.eth0, arena.far_mac);
    let arrives = |to: SocketAddr| {
        let marker = arena.marker();
        let packet = wire::tcp(own_end(to, 4242), to, ACK, marker.bytes());
        let sent = arena.with_net_raw(|| Way::Raw.send("strange", index, mac, far_mac, &packet));
        std::thread::sleep(Duration::from_millis(60));
        (arena.arrived(&marker) > 0, sent)
    };
    arena.passes_what_is_allowed();
    arena.stops_what_is_forbidden(&FORBIDDEN);
    for to in forbidden(80) {
        assert!(arrives(to).0, "{to}: the limit that README names is still there");
    }
    hook("poststart");
    for to in forbidden(80) {
        assert_eq!(arrives(to), (false, Err(Errno::ENOBUFS)), "{to}");
    }
    arena.passes_what_is_allowed();
}

#[test]
fn what_is_denied_can_be_read_from_the_link_with_cap_net_raw() {
    // A packet socket hears what arrives before any rule is asked: `ptype_all` comes before `nf_ingress` in
    // __netif_receive_skb_core. No rule inside the namespace changes that; without CAP_NET_RAW there is no such socket.
    let arena = Arena::ours(&[("egress", LIST), ("ingress", "none")]);
    let listener = arena.world.ctr.within(|| UdpSocket::bind("0.0.0.0:53")).unwrap();
    listener.set_nonblocking(true).unwrap();
    let ear = arena.with_net_raw(Ear::here);
    let marker = arena.marker();
    arena.world.far.within(|| datagram(at("10.9.0.2", 53), &marker)).unwrap();
    std::thread::sleep(Duration::from_millis(60));
    assert!(listener.recv(&mut [0; 64]).is_err(), "the rules keep it from every ordinary socket");
    assert_eq!(ear.count(|frame| marker.is_in(frame)), 1);
    let refused = arena.with_nothing(|| send_frame(1, &[0; 60]));
    assert_eq!(refused, Err(Errno::EPERM));
}
