//! Ways around the way out: loopback, forwarding, related flows, groups of addresses that no list names, a cloud's metadata.

mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use support::game::{ALLOWED, Arena, FORBIDDEN, LIST, NAIVE, at, datagram, own, play};
use support::link::{Way, set};
use support::wire::{self, ACK};
use support::world::{CTR, LOOPBACK_GOES_OUT};
use support::{Container, Namespace, Outcome, World, probe, raw};

const PATIENCE: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(300);

fn forbidden(port: u16) -> [SocketAddr; 2] {
    FORBIDDEN.map(|address| at(address, port))
}

/// What a container inherits where the host forwards, and a process that is root inside may write where /proc/sys is not
/// read-only.
fn forwards(arena: &Arena) {
    arena.world.ctr.set_sysctl("net/ipv4/ip_forward", "1");
    arena.world.ctr.set_sysctl("net/ipv6/conf/all/forwarding", "1");
}

#[test]
fn a_translation_of_what_goes_to_loopback_carries_nothing_out() {
    // Whoever prepared the namespace has what goes to a local resolver go elsewhere. The output hook still sees `lo`.
    for locked in [false, true] {
        let arena = if locked { Arena::ours(&[("egress", LIST)]) } else { Arena::naive(NAIVE) };
        arena.world.ctr.nft_load(LOOPBACK_GOES_OUT);
        arena.passes_what_is_allowed();
        arena.stops_what_is_forbidden(&FORBIDDEN);
        for (from, to) in [(CTR[0], "127.0.0.53"), (CTR[1], CTR[1])] {
            let marker = arena.marker();
            let sent = arena.with_nothing(|| UdpSocket::bind(at(from, 0))?.send_to(marker.bytes(), at(to, 53)));
            std::thread::sleep(Duration::from_millis(60));
            let arrived = if locked { arena.arrived(&marker) > 0 } else { arena.hears(&marker) };
            assert_eq!(arrived, !locked, "{to} (sender: {sent:?})");
        }
    }
}

#[test]
fn a_socket_bound_to_a_device_carries_nothing_to_a_loopback_address_out() {
    // `ip daddr 127.0.0.0/8 accept` is true of it, and who is on the link may take it.
    let by_address = NAIVE.replace("oif lo accept", "ip daddr 127.0.0.0/8 accept");
    play(&by_address, &[("egress", LIST)], &["127.0.0.1", "127.8.8.8"], |arena, to, marker| {
        arena.with_nothing(|| {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            setsockopt(&socket, sockopt::BindToDevice, &"eth0".into())?;
            socket.send_to(marker.bytes(), at(to, 53))
        })
    });
}

#[test]
fn a_frame_onto_loopback_is_not_turned_round_and_forwarded() {
    // A container inherits forwarding from its host. What a packet socket puts on `lo` comes in there and leaves by eth0; an
    // ordinary socket's packet has its route with it and does not.
    let games = [("10.9.77.7", FORBIDDEN[0]), ("2001:db8::77", FORBIDDEN[1])];
    play(NAIVE, &[("egress", LIST)], &games, |arena, (from, to), marker| {
        forwards(arena);
        let packet = wire::udp(at(from, 4242), at(to, 53), marker.bytes());
        arena.with_net_raw(|| Way::Raw.send("lo", 1, [0; 6], [0; 6], &packet))
    });
}

#[test]
fn a_namespace_behind_the_container_is_no_way_out() {
    // With CAP_NET_ADMIN: a second namespace whose packets the container forwards. `output` never sees them.
    let nested = |ctr: &Namespace| {
        let nested = Namespace::new();
        ctr.set_sysctl("net/ipv4/ip_forward", "1");
        ctr.set_sysctl("net/ipv6/conf/all/forwarding", "1");
        ctr.ip_batch(&format!(
            "link add inner type veth peer name eth0 netns {}\n\
             addr add 10.77.0.1/24 dev inner\naddr add fd77::1/64 dev inner nodad\nlink set inner up\n",
            nested.pid()
        ));
        nested.ip_batch(
            "addr add 10.77.0.2/24 dev eth0\naddr add fd77::2/64 dev eth0 nodad\nlink set eth0 up\n\
             route add default via 10.77.0.1\nroute add default via fd77::1\n",
        );
        nested
    };
    for locked in [false, true] {
        let arena = if locked { Arena::ours(&[("egress", LIST)]) } else { Arena::naive(NAIVE) };
        let nested = nested(&arena.world.ctr);
        // For a packet that it forwards the container asks for neighbours from its link-local address.
        while !arena.world.ctr.run("ip", &["-6", "addr", "show", "tentative"], "").is_empty() {
            std::thread::sleep(Duration::from_millis(20));
        }
        arena.passes_what_is_allowed();
        arena.stops_what_is_forbidden(&FORBIDDEN);
        // What the container may do, the namespace behind it may do; and nothing else.
        for to in ALLOWED.into_iter().chain(FORBIDDEN) {
            let marker = arena.marker();
            let passes = !locked || ALLOWED.contains(&to);
            let arrived = (0..if passes { 30 } else { 3 }).any(|_| {
                let _ = nested.within(|| datagram(at(to, 53), &marker));
                std::thread::sleep(Duration::from_millis(60));
                arena.arrived(&marker) > 0
            });
            assert_eq!(arrived, passes, "{to}, locked: {locked}");
        }
    }
}

#[test]
fn an_icmp_error_about_a_permitted_flow_carries_nothing_to_a_forbidden_address() {
    // It is related to the flow whose header it quotes; what else it carries, and to whom, is the sender's choice.
    let errors = NAIVE.replace(
        "oif lo accept",
        "oif lo accept\nicmp type { destination-unreachable, time-exceeded } accept\n\
         icmpv6 type { destination-unreachable, packet-too-big, time-exceeded } accept",
    );
    // Destination unreachable, packet too big, time exceeded, parameter problem; redirect.
    let kinds = [(FORBIDDEN[0], 3), (FORBIDDEN[0], 11), (FORBIDDEN[1], 1), (FORBIDDEN[1], 2), (FORBIDDEN[1], 3)];
    play(&errors, &[("egress", LIST)], &kinds, |arena, (to, kind), marker| {
        let to: IpAddr = to.parse().unwrap();
        let permitted = at(support::game::like(to, ALLOWED), 53);
        let own = SocketAddr::new(own(to), 4242);
        arena.with_net_raw(|| {
            // The flow is there.
            let flow = UdpSocket::bind(own).and_then(|socket| socket.send_to(b"flow", permitted));
            // The flow as it was sent, its answer, and a flow that would be of the forbidden address.
            let quotes =
                [(own, permitted), (permitted, own), (SocketAddr::new(to, 53), own), (own, SocketAddr::new(to, 53))];
            let sent: Vec<_> = quotes
                .map(|(from, to_)| {
                    let quoted = wire::udp(from, to_, &marker.times(40));
                    let packet = wire::icmp(own.ip(), to, 64, *kind, 1, &[&[0; 4][..], &quoted].concat());
                    raw::header_included(to, &packet)
                })
                .to_vec();
            (flow, sent)
        })
    });
}

#[test]
fn no_helper_opens_a_port_that_the_list_does_not() {
    // FTP's says in its control connection where the data goes. A helper that conntrack has makes that flow related.
    const WITH_HELPER: &str = "\
        table inet naive {
            ct helper control { type \"ftp\" protocol tcp; }
            chain assign { type filter hook output priority -150; tcp dport 21 ct helper set \"control\"; }
            chain output {
                type filter hook output priority 0; policy drop
                ct state established,related accept
                ip daddr 10.9.1.1 tcp dport 21 accept
            }
        }";
    for locked in [false, true] {
        let arena = Arena::new();
        if locked {
            arena.lock(&[("egress", "tcp/10.9.1.1:21")]);
        } else {
            arena.world.ctr.nft_load(WITH_HELPER);
        }
        // Port 21 is not led to the far side's server.
        arena.world.far.run(
            "nft",
            &["insert", "rule", "inet", "far", "everywhere", "tcp", "dport", "21", "accept"],
            "",
        );
        let server = arena.world.far.within(|| TcpListener::bind("[::]:21")).unwrap();
        let data = at("10.9.1.1", 6000);
        assert_ne!(probe::tcp_connect(&arena.world.ctr, data, SILENCE), Outcome::Connected);
        let control = arena.with_nothing(|| TcpStream::connect_timeout(&at("10.9.1.1", 21), PATIENCE)).unwrap();
        let (mut answering, _) = server.accept().unwrap();
        // The helper listens from the second line on.
        for line in ["220 ready\r\n", "227 Entering Passive Mode (10,9,1,1,23,112)\r\n"] {
            answering.write_all(line.as_bytes()).unwrap();
            assert_eq!((&control).read(&mut [0; 64]).unwrap(), line.len());
        }
        let patience = if locked { SILENCE } else { PATIENCE };
        let outcome = probe::tcp_connect(&arena.world.ctr, data, patience);
        assert_eq!(outcome == Outcome::Connected, !locked, "{outcome:?}");
    }
}

#[test]
fn groups_and_broadcasts_are_addresses_like_others() {
    let to_many = NAIVE.replace("oif lo accept", "oif lo accept\nfib daddr type { multicast, broadcast } accept");
    let games =
        ["224.0.0.251", "239.1.2.3", "255.255.255.255", "10.9.255.255", "ff02::fb", "ff02::1", "ff05::2", "ff0e::1"];
    play(&to_many, &[("egress", LIST)], &games, |arena, to, marker| {
        let index = arena.eth0.0;
        arena.with_nothing(|| {
            let to = match at(to, 5353) {
                SocketAddr::V6(to) => std::net::SocketAddrV6::new(*to.ip(), 5353, 0, index).into(),
                v4 => v4,
            };
            let socket = UdpSocket::bind(at(support::game::like(to.ip(), CTR), 0))?;
            if to.is_ipv4() {
                socket.set_broadcast(true)?;
                let interface = libc::in_addr { s_addr: u32::from(Ipv4Addr::new(10, 9, 0, 2)).to_be() };
                set(&socket.try_clone()?.into(), libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &interface)?;
            }
            socket.send_to(marker.bytes(), to)
        })
    });
}

#[test]
fn who_joins_a_group_tells_nobody_of_it_over_ipv4() {
    // An IGMP report is the kernel's own packet; its group is the process's choice: 28 bits a join.
    let igmp = NAIVE.replace("oif lo accept", "oif lo accept\nip protocol igmp accept");
    for locked in [false, true] {
        let arena = if locked { Arena::ours(&[("egress", LIST)]) } else { Arena::naive(&igmp) };
        let group = Ipv4Addr::new(239, 66, 77, 88);
        let socket = arena.with_nothing(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.join_multicast_v4(&group, &Ipv4Addr::new(10, 9, 0, 2)).unwrap();
            socket
        });
        let told = |frame: &[u8]| frame.windows(4).any(|window| window == group.octets());
        if locked {
            // Longer than IGMP_UNSOLICITED_REPORT_INTERVAL for IGMPv3, a second.
            std::thread::sleep(Duration::from_millis(1100));
            assert_eq!(arena.ear.count(told), 0);
        } else {
            assert!(arena.hears_frame(told));
        }
        drop(socket);
        arena.passes_what_is_allowed();
    }
}

#[test]
fn who_joins_a_group_tells_the_link_of_it_over_ipv6() {
    // A limit: a switch that snoops sends neighbour solicitations only to whom a report came from, so that reports must pass, and
    // the group in them is the process's choice. They go to ff02::16 on this link and no further: hop limit 1.
    let group: Ipv6Addr = "ff05::6e6c:6e6c:6e6c".parse().unwrap();
    let join = |arena: &Arena| {
        let index = arena.eth0.0;
        arena.with_nothing(|| {
            let socket = UdpSocket::bind("[::]:0").unwrap();
            let joined = socket.join_multicast_v6(&group, index);
            (socket, joined)
        })
    };
    let arena = Arena::ours(&[("egress", LIST)]);
    let (_member, joined) = join(&arena);
    joined.unwrap();
    let told = |frame: &[u8]| frame.windows(16).any(|window| window == group.octets());
    assert!(arena.hears_frame(told));
    let further = |frame: &[u8]| {
        told(frame) && (frame[21] != 1 || frame[38..54] != [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x16])
    };
    assert_eq!(arena.ear.count(further), 0);
    // Without IPv6 there is nobody to tell.
    let arena = Arena::ours(&[("egress", "10.9.1.1"), ("ipv6", "loopback-only")]);
    let _member = join(&arena);
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(arena.ear.count(told), 0);
}

#[test]
fn a_source_route_by_a_forbidden_address_is_not_taken() {
    // IP_OPTIONS. The packet goes to the first address of the route, and the rules judge that one.
    const LOOSE_SOURCE_ROUTE: u8 = 131;
    play("", &[("egress", LIST)], &[(FORBIDDEN[0], ALLOWED[0])], |arena, (by, to), marker| {
        let by: Ipv4Addr = by.parse().unwrap();
        let option = [&[1, LOOSE_SOURCE_ROUTE, 7, 4][..], &by.octets()].concat();
        let option: [u8; 8] = option.try_into().unwrap();
        arena.with_net_raw(|| {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            let socket = std::os::fd::OwnedFd::from(socket);
            set(&socket, libc::IPPROTO_IP, libc::IP_OPTIONS, &option)?;
            UdpSocket::from(socket).send_to(marker.bytes(), at(to, 53))
        })
    });
}

#[test]
fn metadata_is_denied_under_a_list_that_allows_everything() {
    let everything_else = "table inet naive { chain output { type filter hook output priority 0; policy accept; \
        ip daddr 169.254.169.254 drop; }; }";
    let games = [
        "fd00:ec2::254",
        "169.254.170.2",
        "100.100.100.200",
        "168.63.129.16",
        "64:ff9b::169.254.169.254",
        "64:ff9b::a9fe:aa02",
    ];
    let everything = [("egress", "*")];
    let arena = Arena::naive(everything_else);
    arena.passes_what_is_allowed();
    arena.stops_what_is_forbidden(&["169.254.169.254", "::ffff:169.254.169.254"]);
    for to in games {
        let marker = arena.marker();
        let sent = arena.with_nothing(|| datagram(at(to, 80), &marker));
        assert!(arena.hears(&marker), "{to} gets around the naive rules; its sender saw {sent:?}");
    }
    let arena = Arena::ours(&everything);
    arena.passes_what_is_allowed();
    arena.stops_what_is_forbidden(&games);
    arena.stops_what_is_forbidden(&["169.254.169.254", "::ffff:169.254.169.254"]);
    // A raw packet is no other.
    for to in games.into_iter().chain(["169.254.169.254"]) {
        let marker = arena.marker();
        let to = at(to, 80);
        let packet = wire::tcp(SocketAddr::new(own(to.ip()), 4242), to, ACK, marker.bytes());
        let sent = arena.with_net_raw(|| raw::header_included(to.ip(), &packet));
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(arena.arrived(&marker), 0, "{to}: {sent:?}");
    }
    // And what is not metadata passes.
    let marker = arena.marker();
    arena.with_nothing(|| datagram(at(FORBIDDEN[0], 53), &marker)).unwrap();
    assert!(arena.hears(&marker));
}

#[test]
fn a_neighbour_that_advertises_itself_as_router_becomes_none() {
    let list = [("egress", LIST), ("ingress", "*")];
    for locked in [false, true] {
        let arena = if locked { Arena::ours(&list) } else { Arena::naive(NAIVE) };
        let routes = || arena.world.ctr.run("ip", &["-6", "route", "show", "default"], "");
        let taken = || routes().contains("proto ra");
        // A prefix, and behind it the option that names a resolver (RFC 8106): the kernel hands that on to whoever listens.
        let from: Ipv6Addr = "fe80::bad".parse().unwrap();
        let all_nodes: IpAddr = "ff02::1".parse().unwrap();
        let advertised = [
            &[64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0][..],
            &[25, 3, 0, 0, 0, 0, 0x0e, 0x10],
            &Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 0x53).octets(),
        ]
        .concat();
        let packet = wire::icmp(from.into(), all_nodes, 255, 134, 0, &advertised);
        let frame = wire::ethernet(arena.far_mac, [0x33, 0x33, 0, 0, 0, 1], wire::ETH_P_IPV6, &packet);
        let index = support::game::link(&arena.world.far, "eth0").0;
        // A link that came up a moment ago may not listen yet.
        for _ in 0..20 {
            arena.world.far.within(|| support::link::send_frame(index, &frame)).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            if taken() {
                break;
            }
        }
        assert_eq!(taken(), !locked, "{}", routes());
        arena.passes_what_is_allowed();
    }
}

#[test]
fn an_interface_that_comes_later_is_filtered_at_once() {
    // Docker, and podman with a user namespace, attach the network after createRuntime. A name is not waited for.
    for locked in [false, true] {
        let ctr = Namespace::new();
        // Rules that name the interfaces there are.
        let by_name = NAIVE.replace("oif lo accept", "oif lo accept\noifname != \"eth7\" accept");
        if locked {
            Container::of(&ctr).with("egress", LIST).lock();
        } else {
            ctr.nft_load(&by_name);
        }
        let arena = Arena::around(World::around(ctr));
        arena.passes_what_is_allowed();
        for to in forbidden(53) {
            let marker = arena.marker();
            let sent = arena.with_nothing(|| datagram(to, &marker));
            std::thread::sleep(Duration::from_millis(60));
            let arrived = if locked { arena.arrived(&marker) > 0 } else { arena.hears(&marker) };
            assert_eq!(arrived, !locked, "{to} (sender: {sent:?})");
        }
    }
}
