//! The path every packet takes, whatever the list: loopback, replies, ICMP errors, neighbour discovery, forwarding.
//! Each test first shows that the way is open without rules, so that a closed way is the rules' doing.

mod support;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use support::world::{CLOSED, CTR, FAR, LOOPBACK_GOES_OUT};
use support::{Container, Namespace, Outcome, World, probe, raw};

const PATIENCE: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(300);

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(text: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address(text), port)
}

fn lo_up(world: &World) {
    world.ctr.ip_batch("link set lo up\n");
}

#[test]
fn a_container_always_reaches_itself() {
    for (egress, ingress) in [("none", "none"), ("10.9.1.1:443", "10.9.1.1:80"), ("*, !127.0.0.0/8, !10.9.0.2", "none")]
    {
        let world = World::new();
        Container::of(&world.ctr).with("egress", egress).with("ingress", ingress).lock();
        for own in ["127.0.0.1", "127.8.8.8", "::1", CTR[0], CTR[1]] {
            let tcp = world.ctr.within(|| TcpListener::bind((own, 0))).unwrap();
            let to = tcp.local_addr().unwrap();
            assert_eq!(probe::tcp_connect(&world.ctr, to, PATIENCE), Outcome::Connected, "{to} under {egress:?}");
            let udp = world.ctr.within(|| UdpSocket::bind((own, 0))).unwrap();
            let to = udp.local_addr().unwrap();
            assert_eq!(probe::udp_send(&world.ctr, to, b"self"), Outcome::Sent, "{to} under {egress:?}");
            udp.set_read_timeout(Some(PATIENCE)).unwrap();
            assert_eq!(udp.recv(&mut [0; 16]).unwrap(), 4, "{to} under {egress:?}");
            assert_eq!(raw::icmp_echo(&world.ctr, to.ip(), PATIENCE), Outcome::Replied, "{own} under {egress:?}");
        }
    }
}

#[test]
fn a_redirect_on_loopback_cannot_carry_a_packet_out() {
    // A process of the container with CAP_NET_ADMIN over it, or whoever prepared the namespace, sends what goes to
    // a loopback address elsewhere. The output hook still sees `lo` as the way out (facts/peers.md, bypass 21).
    for locked in [false, true] {
        let world = World::new();
        lo_up(&world);
        world.ctr.nft_load(LOOPBACK_GOES_OUT);
        if locked {
            Container::of(&world.ctr).with("egress", "10.9.1.1").lock();
        }
        for (to, source, lands) in [("127.0.0.53", CTR[0], "10.9.9.9"), (CTR[1], CTR[1], "2001:db8::9")] {
            let sent = world.ctr.within(|| UdpSocket::bind((source, 0)).unwrap().send_to(b"ride", at(to, 53)));
            world.settle();
            let arrived =
                if locked { world.heard(address(lands), None) > 0 } else { world.hears(address(lands), None) };
            assert_eq!(arrived, !locked, "{to} redirected to {lands} (sender: {sent:?})");
        }
    }
}

#[test]
fn a_socket_bound_to_eth0_cannot_send_to_loopback_addresses() {
    for locked in [false, true] {
        let world = World::new();
        lo_up(&world);
        if locked {
            Container::of(&world.ctr).with("egress", "none").lock();
        }
        for to in ["127.0.0.1", "127.8.8.8"] {
            let sent = raw::udp_bound_to(&world.ctr, "eth0", at(to, 53));
            world.settle();
            let arrived = if locked { world.heard(address(to), None) > 0 } else { world.hears(address(to), None) };
            assert_eq!(arrived, !locked, "{to} by eth0 (sender: {sent:?})");
        }
        // Kernels differ in whether they try ::1 on another interface at all; none may let it out when locked.
        let sent = raw::udp_bound_to(&world.ctr, "eth0", at("::1", 53));
        world.settle();
        assert!(!locked || world.heard(address("::1"), None) == 0, "::1 by eth0 (sender: {sent:?})");
    }
}

/// A UDP socket bound to an address that the container does not have. IPv6 grants it to any process; IPv4 takes it back
/// on the way out, unless the process holds CAP_NET_RAW.
fn forger(world: &World, from: SocketAddr) -> UdpSocket {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt};
    world.ctr.within(|| {
        let family = if from.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let forger = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).unwrap();
        if from.is_ipv4() {
            setsockopt(&forger, sockopt::IpTransparent, &true).unwrap();
        } else {
            setsockopt(&forger, sockopt::IpFreebind, &true).unwrap();
        }
        bind(std::os::fd::AsRawFd::as_raw_fd(&forger), &SockaddrStorage::from(from)).unwrap();
        UdpSocket::from(forger)
    })
}

#[test]
fn a_forged_question_does_not_make_an_answer_of_what_is_denied() {
    // The first packet pretends to come from the forbidden address, so conntrack takes the next for its answer.
    let list = "10.9.0.0/16, !10.9.9.9, 2001:db8::1, fd99::/64";
    for (own, forbidden) in [(CTR[0], "10.9.9.9"), (CTR[1], "2001:db8::9")] {
        for locked in [false, true] {
            let world = World::new();
            lo_up(&world);
            if locked {
                Container::of(&world.ctr).with("egress", list).lock();
            }
            let forger = forger(&world, at(forbidden, 53));
            let socket = world.ctr.within(|| UdpSocket::bind(at(own, 5555))).unwrap();
            let asked = forger.send_to(b"forged", at(own, 5555));
            let sent = socket.send_to(b"answer", at(forbidden, 53));
            world.settle();
            let arrived =
                if locked { world.heard(address(forbidden), None) > 0 } else { world.hears(address(forbidden), None) };
            assert_eq!(arrived, !locked, "{forbidden} (forger: {asked:?}, sender: {sent:?})");
        }
    }
}

#[test]
fn a_forged_source_does_not_leave() {
    for (forged, to) in [("10.9.9.9", "10.9.1.1"), ("2001:db8::9", "2001:db8::1")] {
        for locked in [false, true] {
            let world = World::new();
            if locked {
                Container::of(&world.ctr).with("egress", "10.9.1.1 2001:db8::1").lock();
            }
            // The neighbour's address first: while the link-local address is tentative, the kernel has none to ask for
            // it with on a forger's behalf.
            world.ctr.within(|| UdpSocket::bind(probe::any(at(to, 9))).unwrap().send_to(b"own", at(to, 9))).unwrap();
            assert!(world.hears(address(to), Some(9)), "{to}");
            let sent = forger(&world, at(forged, 53)).send_to(b"forged", at(to, 53));
            world.settle();
            let arrived =
                if locked { world.heard(address(to), Some(53)) > 0 } else { world.hears(address(to), Some(53)) };
            assert_eq!(arrived, !locked, "{to} from {forged} (sender: {sent:?})");
        }
    }
}

#[test]
fn replies_to_what_was_allowed_come_in_under_ingress_none() {
    let world = World::new();
    Container::of(&world.ctr).with("egress", "10.9.1.1:53 [2001:db8::1]:53").with("ingress", "none").lock();
    for to in ["10.9.1.1", "2001:db8::1"] {
        let to = at(to, 53);
        assert_eq!(probe::tcp_connect(&world.ctr, to, PATIENCE), Outcome::Connected, "{to}");
        let socket = world.ctr.within(|| UdpSocket::bind(probe::any(to))).unwrap();
        socket.send_to(b"ask", to).unwrap();
        assert!(world.hears(to.ip(), Some(53)));
        while world.pump().is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let (len, from) = socket.recv_from(&mut [0; 16]).expect("the answer comes in");
        assert_eq!((len, from), (3, to));
    }
}

#[test]
fn icmp_errors_about_our_own_packets_come_in_under_ingress_none() {
    let world = World::new();
    Container::of(&world.ctr).with("egress", "10.9.0.1 fd99::1").with("ingress", "none").lock();
    for to in FAR {
        let to = at(to, CLOSED);
        let socket = world.ctr.within(|| {
            let socket = UdpSocket::bind(probe::any(to))?;
            socket.connect(to)?;
            socket.send(b"nobody there")?;
            Ok::<_, std::io::Error>(socket)
        });
        let socket = socket.unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let error = socket.recv(&mut [0; 16]).expect_err("nobody answers on that port");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{to}: port unreachable must come in");
    }
}

#[test]
fn path_mtu_discovery_works_under_ingress_none() {
    let world = World::new();
    // The far side routes these two back the way they came, through a neck of 1300 bytes.
    for key in ["net/ipv4/conf/all/send_redirects", "net/ipv4/conf/eth0/send_redirects"] {
        world.far.set_sysctl(key, "0");
    }
    world.far.set_sysctl("net/ipv4/ip_forward", "1");
    world.far.set_sysctl("net/ipv6/conf/all/forwarding", "1");
    world.far.ip_batch(
        "route add 198.51.100.1/32 via 10.9.0.2 dev eth0 mtu lock 1300\n\
         route add 2001:db8:ffff::1/128 via fd99::2 dev eth0 mtu lock 1300\n",
    );
    Container::of(&world.ctr).with("egress", "198.51.100.1 2001:db8:ffff::1").with("ingress", "none").lock();
    for to in ["198.51.100.1", "2001:db8:ffff::1"] {
        // Not a port that the far side answers itself.
        let to_port = at(to, CLOSED);
        let socket = world.ctr.within(|| UdpSocket::bind(probe::any(to_port))).unwrap();
        socket.connect(to_port).unwrap();
        socket.send(&[0; 1400]).unwrap();
        assert!(world.hears(address(to), None));
        world.settle();
        let route = world.ctr.ip_json(&["route", "get", to]);
        assert_eq!(route[0]["metrics"][0]["mtu"], 1300, "{to}: the packet-too-big message must come in: {route}");
    }
}

#[test]
fn what_connection_tracking_calls_invalid_is_dropped_on_the_way_in() {
    // A segment without any flag: a closed port answers it with a reset, unless a rule drops it first.
    const RST: u8 = 4;
    let resets = |world: &World| {
        world.sniffer().count(|p| p.from == address(CTR[0]) && p.flags.is_some_and(|flags| flags & RST != 0))
    };
    for locked in [false, true] {
        let world = World::new();
        if locked {
            Container::of(&world.ctr).with("ingress", "*").lock();
        }
        let to = format!("{}:81", CTR[0]).parse().unwrap();
        // A link that came up a moment ago may not answer yet.
        let answered = (0..if locked { 1 } else { 20 }).any(|_| {
            raw::tcp_segment(&world.far, Ipv4Addr::new(10, 9, 0, 1), 4242, to, 0);
            std::thread::sleep(SILENCE);
            resets(&world) > 0
        });
        assert_eq!(answered, !locked, "{:?}", world.sniffer().all());
        // The port itself is allowed: an ordinary segment is answered.
        assert_eq!(probe::tcp_connect(&world.far, to.into(), PATIENCE), Outcome::Refused);
    }
}

#[test]
fn neighbour_discovery_works_with_an_empty_cache_and_everything_else_closed() {
    let world = World::new();
    Container::of(&world.ctr).with("egress", "[fd99::1]:443").with("ingress", "none").lock();
    world.ctr.run("ip", &["neigh", "flush", "all"], "");
    assert_eq!(probe::tcp_connect(&world.ctr, at(FAR[1], 443), PATIENCE), Outcome::Connected);
    // And the other way round: the far side finds the container.
    world.far.run("ip", &["neigh", "flush", "all"], "");
    assert_eq!(probe::tcp_connect(&world.ctr, at(FAR[1], 443), PATIENCE), Outcome::Connected);
}

#[test]
fn a_process_cannot_dress_its_packets_as_neighbour_discovery() {
    for locked in [false, true] {
        let world = World::new();
        if locked {
            Container::of(&world.ctr).with("egress", "10.9.1.1").lock();
        }
        let forbidden: std::net::Ipv6Addr = "2001:db8::9".parse().unwrap();
        let sent = raw::neighbour_solicitation(&world.ctr, forbidden);
        world.settle();
        let to = IpAddr::V6(forbidden);
        let arrived = if locked { world.heard(to, None) > 0 } else { world.hears(to, None) };
        assert_eq!(arrived, !locked, "sender: {sent:?}");
    }
}

#[test]
fn a_router_advertisement_from_the_neighbour_is_ignored() {
    // A list says who may talk to the container, not who may configure its addresses and routes.
    let lists: [&[(&str, &str)]; 4] =
        [&[], &[("egress", "*")], &[("egress", "*"), ("ingress", "none")], &[("egress", "*"), ("ingress", "*")]];
    for lists in lists {
        let world = World::new();
        if !lists.is_empty() {
            lists.iter().fold(Container::of(&world.ctr), |c, (key, list)| c.with(key, list)).lock();
        }
        let index = world.far.ip_json(&["link", "show", "eth0"])[0]["ifindex"].as_u64().unwrap();
        let taken = || world.ctr.run("ip", &["-6", "addr", "show", "dev", "eth0"], "").contains("2001:db8:bad");
        // A link that came up a moment ago may not listen yet.
        for _ in 0..20 {
            raw::router_advertisement(&world.far, u32::try_from(index).unwrap(), "2001:db8:bad::".parse().unwrap());
            std::thread::sleep(Duration::from_millis(20));
            if taken() {
                break;
            }
        }
        assert_eq!(taken(), lists.is_empty(), "{lists:?}: {}", world.ctr.run("ip", &["-6", "addr"], ""));
    }
}

#[test]
fn a_namespace_routed_through_the_container_is_no_way_out() {
    for locked in [false, true] {
        let world = World::new();
        let nested = Namespace::new();
        world.ctr.set_sysctl("net/ipv4/ip_forward", "1");
        world.ctr.set_sysctl("net/ipv6/conf/all/forwarding", "1");
        world.ctr.ip_batch(&format!(
            "link add inner type veth peer name eth0 netns {}\n\
             addr add 10.77.0.1/24 dev inner\naddr add fd77::1/64 dev inner nodad\nlink set inner up\n",
            nested.pid()
        ));
        nested.ip_batch(
            "addr add 10.77.0.2/24 dev eth0\naddr add fd77::2/64 dev eth0 nodad\nlink set eth0 up\n\
             route add default via 10.77.0.1\nroute add default via fd77::1\n",
        );
        // A link that came up a moment ago may not answer yet.
        for gateway in ["10.77.0.1", "fd77::1"] {
            let answered = |_| raw::icmp_echo(&nested, address(gateway), SILENCE) == Outcome::Replied;
            assert!((0..20).any(answered), "{gateway} answers before anything is locked");
        }
        // For a packet that it forwards the container asks for neighbours from its link-local address.
        while !world.ctr.run("ip", &["-6", "addr", "show", "tentative"], "").is_empty() {
            std::thread::sleep(Duration::from_millis(20));
        }
        if locked {
            Container::of(&world.ctr).with("egress", "10.9.1.1").lock();
        }
        for to in ["10.9.9.9", "2001:db8::9"] {
            let arrived = (0..3).any(|_| {
                probe::udp_send(&nested, at(to, 53), b"around");
                std::thread::sleep(SILENCE);
                world.heard(address(to), Some(53)) > 0
            });
            assert_eq!(arrived, !locked, "{to}");
        }
    }
}

#[test]
fn a_datagram_of_4000_bytes_passes_in_fragments() {
    let world = World::new();
    Container::of(&world.ctr).with("egress", "udp/10.9.1.1:53 udp/[2001:db8::1]:53").lock();
    for to in ["10.9.1.1", "2001:db8::1"] {
        assert_eq!(probe::udp_send(&world.ctr, at(to, 53), &[7; 4000]), Outcome::Sent, "{to}");
        assert!(world.hears(address(to), None), "{to}");
        let deadline = std::time::Instant::now() + PATIENCE;
        let got = loop {
            let got = world.pump();
            if !got.is_empty() || std::time::Instant::now() > deadline {
                break got;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        assert_eq!(got.iter().map(|datagram| datagram.len).collect::<Vec<_>>(), [4000], "{to}");
    }
}

#[test]
fn the_rules_hold_for_a_namespace_that_belongs_to_a_user_namespace() {
    let world = World::around(Namespace::in_user_namespace());
    Container::of(&world.ctr).with("egress", "10.9.1.1:443").with("ingress", "none").lock();
    assert_eq!(probe::tcp_connect(&world.ctr, at("10.9.1.1", 443), PATIENCE), Outcome::Connected);
    assert_eq!(probe::tcp_connect(&world.ctr, at("10.9.9.9", 443), PATIENCE), Outcome::Refused);
    assert_eq!(world.heard(address("10.9.9.9"), None), 0);
}

#[test]
fn an_interface_that_appears_later_is_filtered_too() {
    // Docker, and podman with a user namespace, attach the network after createRuntime.
    let ctr = Namespace::new();
    Container::of(&ctr).with("egress", "10.9.1.1:443").with("ingress", "none").lock();
    let world = World::around(ctr);
    assert_eq!(probe::tcp_connect(&world.ctr, at("10.9.1.1", 443), PATIENCE), Outcome::Connected);
    for to in ["10.9.9.9", "2001:db8::9"] {
        assert_eq!(probe::tcp_connect(&world.ctr, at(to, 443), PATIENCE), Outcome::Refused, "{to}");
        assert_eq!(world.heard(address(to), None), 0, "{to}");
    }
    let inward = world.far.within(|| TcpStream::connect_timeout(&at(CTR[0], 22), SILENCE));
    assert!(inward.is_err());
}
