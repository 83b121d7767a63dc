//! `net-admin: host-side`: what a container that holds CAP_NET_ADMIN does to its own side changes nothing.
//!
//! Every game is played twice, bridged and routed: first with `net-admin: allow`, where the rules stand inside alone and it must
//! win, then with `host-side`. What arrives is told by the far side.

mod support;

use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use nix::errno::Errno;
use support::game::{ALLOWED, FORBIDDEN, LIST, Marker, at, datagram, like, link, own};
use support::link::{Way, send_frame};
use support::outside::{Scene, Wire};
use support::wire::{self, ACK, ETH_P_8021Q};
use support::xdp::Xdp;
use support::{Namespace, Outcome, probe, raw};

/// Longer than a packet takes that must first ask for its neighbour.
const SILENCE: Duration = Duration::from_millis(100);

fn forbidden(port: u16) -> [SocketAddr; 2] {
    FORBIDDEN.map(|address| at(address, port))
}

fn own_end(to: SocketAddr, port: u16) -> SocketAddr {
    SocketAddr::new(own(to.ip()), port)
}

/// Waits for the marker at `to`.
fn arrives(scene: &Scene, to: IpAddr, marker: &Marker) -> bool {
    for _ in 0..2000 {
        if scene.reached(to, marker) > 0 {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

/// An ordinary datagram from `namespace` to each allowed address arrives.
fn passes_what_is_allowed(scene: &Scene, from: &Namespace, when: &str) {
    for to in ALLOWED {
        let marker = scene.arena.marker();
        let sent = from.within(|| datagram(at(to, 53), &marker));
        assert!(arrives(scene, at(to, 53).ip(), &marker), "{when}: to {to}; its sender saw {sent:?}");
    }
}

/// Plays a game. `attack` prepares what a process with CAP_NET_ADMIN can, and `shoot` tries to get the marker to an address
/// and says what its sender saw. Where it ends with a network that works, ordinary packets must pass behind it.
fn play<A, S: Debug>(
    annotations: &[(&str, &str)],
    targets: &[SocketAddr],
    attack: impl Fn(&Scene) -> A,
    shoot: impl Fn(&Scene, &A, SocketAddr, &Marker) -> S,
    behind: impl Fn(&Scene, &A, &str),
) {
    for wire in Wire::ALL {
        for mode in ["allow", "host-side"] {
            let scene = Scene::started(wire, mode, annotations);
            passes_what_is_allowed(&scene, &scene.arena.world.ctr, &format!("{wire:?}, {mode}, before"));
            let attacked = attack(&scene);
            for to in targets {
                let marker = scene.arena.marker();
                let sent = shoot(&scene, &attacked, *to, &marker);
                if mode == "allow" {
                    assert!(arrives(&scene, to.ip(), &marker), "{wire:?}: {to} is reached; its sender saw {sent:?}");
                } else {
                    std::thread::sleep(SILENCE);
                    let reached = scene.reached(to.ip(), &marker);
                    assert_eq!(reached, 0, "{wire:?}: {to} was REACHED; its sender saw {sent:?}");
                }
            }
            behind(&scene, &attacked, &format!("{wire:?}, {mode}, behind"));
        }
    }
}

fn flush(scene: &Scene) {
    scene.arena.world.ctr.run("nft", &["flush", "ruleset"], "");
}

fn still_passes(scene: &Scene, _: &(), when: &str) {
    passes_what_is_allowed(scene, &scene.arena.world.ctr, when);
}

#[test]
fn flushing_every_table_inside_changes_nothing() {
    play(
        &[("egress", LIST)],
        &forbidden(53),
        flush,
        |scene, (), to, marker| scene.arena.world.ctr.within(|| datagram(to, marker)),
        still_passes,
    );
    // TCP and ICMP as well.
    for wire in Wire::ALL {
        // Where nobody may begin, replies come in all the same.
        let scene = Scene::started(wire, "host-side", &[("egress", LIST), ("ingress", "none")]);
        flush(&scene);
        let ctr = &scene.arena.world.ctr;
        for (to, from) in ALLOWED.iter().zip(FORBIDDEN) {
            assert_eq!(probe::tcp_connect(ctr, at(to, 443), Duration::from_secs(3)), Outcome::Connected, "{wire:?}");
            assert_eq!(probe::tcp_connect(ctr, at(from, 443), SILENCE), Outcome::TimedOut, "{wire:?}");
            let echo = |to: &str, timeout| raw::icmp_echo(ctr, to.parse().unwrap(), timeout);
            assert_eq!(echo(to, Duration::from_secs(3)), Outcome::Replied, "{wire:?}");
            assert_eq!(echo(from, SILENCE), Outcome::TimedOut, "{wire:?}");
        }
    }
}

#[test]
fn an_interface_that_is_moved_into_a_nested_namespace_takes_its_rules_along() {
    let routes = |wire_gateway: &str| {
        format!(
            "link set lo up\naddr add 10.9.0.2/32 dev eth0\naddr add fd99::2/64 dev eth0 nodad\nlink set eth0 up\n\
             route add {wire_gateway}/32 dev eth0\nroute add default via {wire_gateway}\nroute add default via fd99::1\n"
        )
    };
    play(
        &[("egress", LIST)],
        &forbidden(53),
        |scene| {
            let nested = Namespace::new();
            scene.arena.world.ctr.ip_batch(&format!("link set eth0 netns {}\n", nested.pid()));
            nested.ip_batch(&routes("10.9.0.1"));
            nested
        },
        |_, nested, to, marker| nested.within(|| datagram(to, marker)),
        passes_what_is_allowed,
    );
}

#[test]
fn made_up_conntrack_entries_make_no_replies() {
    play(
        &[("egress", LIST)],
        &forbidden(53),
        |scene| {
            for to in forbidden(53) {
                let (peer, own) = (to.ip().to_string(), own(to.ip()).to_string());
                let entry = ["-I", "-p", "udp", "-s", &peer, "-d", &own, "--sport", "53", "--dport", "4242"];
                scene.arena.world.ctr.run("conntrack", &[&entry[..], &["-t", "600"]].concat(), "");
            }
        },
        |scene, (), to, marker| {
            scene.arena.world.ctr.within(|| UdpSocket::bind(own_end(to, 4242))?.send_to(marker.bytes(), to))
        },
        still_passes,
    );
}

#[test]
fn a_destination_that_is_rewritten_behind_the_rules_is_judged_as_it_leaves() {
    const MANGLE: &str = "\
        table inet mangle { chain late { type filter hook postrouting priority 500; \
            udp dport 4444 ip daddr 10.9.1.1 ip daddr set 10.9.9.9; \
            udp dport 4444 ip6 daddr 2001:db8::1 ip6 daddr set 2001:db8::9; }; }";
    play(
        &[("egress", LIST)],
        &forbidden(4444),
        |scene| scene.arena.world.ctr.nft_load(MANGLE),
        |scene, (), to, marker| {
            let towards = ALLOWED[usize::from(to.is_ipv6())];
            scene.arena.world.ctr.within(|| datagram(at(towards, 4444), marker))
        },
        still_passes,
    );
}

#[test]
fn no_source_but_its_own_leaves() {
    // As raw headers, as frames, and from an address that it gave itself.
    play(
        &[("egress", LIST)],
        &ALLOWED.map(|to| at(to, 53)),
        |scene| {
            flush(scene);
            scene.arena.world.ctr.ip_batch("addr add 10.9.0.77/32 dev eth0\naddr add fd99::77/128 dev eth0 nodad\n");
        },
        |scene, (), to, marker| {
            let source = if to.is_ipv4() { at("10.9.0.77", 4242) } else { at("fd99::77", 4242) };
            let forged = if to.is_ipv4() { at("10.9.0.78", 4242) } else { at("fd99::78", 4242) };
            let ((index, mac), far_mac) = (scene.arena.eth0, scene.arena.far_mac);
            scene.arena.world.ctr.within(|| {
                let given = UdpSocket::bind(source)?.send_to(marker.bytes(), to);
                let packet = wire::udp(forged, to, marker.bytes());
                let header = raw::header_included(to.ip(), &packet);
                let frame = send_frame(index, &wire::ethernet(mac, far_mac, wire::ether_type(&packet), &packet));
                given.map(|given| (given, header, frame))
            })
        },
        |scene, (), when| {
            // Its own address is chosen again.
            scene.arena.world.ctr.ip_batch("addr del 10.9.0.77/32 dev eth0\naddr del fd99::77/128 dev eth0\n");
            still_passes(scene, &(), when);
        },
    );
}

#[test]
fn a_packet_to_itself_from_a_forbidden_address_begins_no_flow() {
    // What comes back to it from outside would be a flow that it may answer. It may send to its own address, as whoever
    // may send to its network.
    play(
        &[("egress", "10.9.1.1 2001:db8::1 10.9.0.0/24 fd99::/64")],
        &forbidden(53),
        |scene| {
            flush(scene);
            let ((index, mac), far_mac) = (scene.arena.eth0, scene.arena.far_mac);
            for to in forbidden(53) {
                let packet = wire::udp(to, own_end(to, 4242), b"from nobody");
                let kind = wire::ether_type(&packet);
                scene.arena.world.ctr.within(|| {
                    send_frame(index, &wire::ethernet(mac, far_mac, kind, &packet)).unwrap();
                    // Over the bridge, straight back.
                    send_frame(index, &wire::ethernet(far_mac, mac, kind, &packet)).unwrap();
                });
            }
            std::thread::sleep(SILENCE);
        },
        |scene, (), to, marker| {
            scene.arena.world.ctr.within(|| UdpSocket::bind(own_end(to, 4242))?.send_to(marker.bytes(), to))
        },
        still_passes,
    );
}

#[test]
fn what_it_draws_here_of_its_neighbours_flows_is_not_its_own_to_answer() {
    // A bridge sends frames where it last saw their hardware address, and the container writes that as it likes.
    for mode in ["allow", "host-side"] {
        let scene = Scene::started(Wire::Bridged, mode, &[("egress", LIST)]);
        flush(&scene);
        let world = &scene.arena.world;
        let ((index, far_mac), (_, mac)) = (link(&world.far, "eth0"), scene.arena.eth0);
        for peer in forbidden(53) {
            let neighbour = like(peer.ip(), ["10.9.0.77", "fd99::77"]);
            let packet = wire::udp(peer, at(neighbour, 4242), b"to a neighbour");
            let frame = wire::ethernet(far_mac, mac, wire::ether_type(&packet), &packet);
            world.far.within(|| send_frame(index, &frame)).unwrap();
            std::thread::sleep(SILENCE);
            let marker = scene.arena.marker();
            let sent = world.ctr.within(|| UdpSocket::bind(own_end(peer, 4242))?.send_to(marker.bytes(), peer));
            std::thread::sleep(SILENCE);
            assert_eq!(scene.arena.arrived(&marker) > 0, mode == "allow", "{mode}, {peer}: {sent:?}");
        }
    }
}

#[test]
fn a_first_fragment_that_ends_before_its_port_does_not_leave_nor_do_the_others() {
    /// `IPPROTO_DSTOPTS`.
    const OPTIONS: u8 = 60;
    for wire in Wire::ALL {
        for (mode, port) in [("allow", 25), ("host-side", 25), ("host-side", 26)] {
            let scene = Scene::started(wire, mode, &[("egress", "*, !udp/*:25")]);
            flush(&scene);
            let ((index, mac), far_mac) = (scene.arena.eth0, scene.arena.far_mac);
            let to = at(ALLOWED[1], port);
            let marker = scene.arena.marker();
            let udp = wire::udp_segment(own_end(to, 4242), to, &marker.times(64));
            // PadN of four; UDP is 17.
            let options = [17, 0, 1, 4, 0, 0, 0, 0];
            let whole = [&options[..], &udp].concat();
            let cut = if port == 25 { 8 } else { 16 };
            for (at, more, part) in [(0, true, &whole[..cut]), (cut as u16, false, &whole[cut..])] {
                let packet = wire::fragment(own(to.ip()), to.ip(), OPTIONS, at, more, part);
                let frame = wire::ethernet(mac, far_mac, wire::ether_type(&packet), &packet);
                scene.arena.world.ctr.within(|| send_frame(index, &frame)).unwrap();
            }
            std::thread::sleep(SILENCE);
            let passes = mode == "allow" || port == 26;
            assert_eq!(scene.arena.arrived(&marker) > 0, passes, "{wire:?}, {mode}, port {port}");
        }
    }
}

#[test]
fn frames_from_packet_sockets_are_judged_like_any_others() {
    for way in Way::ALL {
        play(
            &[("egress", LIST)],
            &forbidden(80),
            flush,
            |scene, (), to, marker| {
                let ((index, mac), far_mac) = (scene.arena.eth0, scene.arena.far_mac);
                let packet = wire::tcp(own_end(to, 4242), to, ACK, marker.bytes());
                scene.arena.world.ctr.within(|| way.send("eth0", index, mac, far_mac, &packet))
            },
            still_passes,
        );
    }
}

#[test]
fn frames_from_xdp_sockets_are_judged_like_any_others() {
    // Past every hook inside, and past none here.
    play(
        &[("egress", LIST)],
        &forbidden(53),
        |_| (),
        |scene, (), to, marker| {
            let ((index, mac), far_mac) = (scene.arena.eth0, scene.arena.far_mac);
            let packet = wire::udp(own_end(to, 4242), to, marker.bytes());
            let frame = wire::ethernet(mac, far_mac, wire::ether_type(&packet), &packet);
            // The kernel lets go of a queue some time after its socket is closed.
            let opened = || {
                (0..1000).find_map(|_| match Xdp::open(index) {
                    Err(Errno::EBUSY) => {
                        std::thread::sleep(Duration::from_millis(1));
                        None
                    }
                    other => Some(other),
                })
            };
            scene.arena.world.ctr.within(|| opened().expect("the queue becomes free")?.send(&frame)).unwrap()
        },
        still_passes,
    );
}

#[test]
fn a_frame_of_another_kind_does_not_leave() {
    for wire in Wire::ALL {
        for mode in ["allow", "host-side"] {
            let scene = Scene::started(wire, mode, &[("egress", LIST)]);
            flush(&scene);
            let ((index, mac), far_mac) = (scene.arena.eth0, scene.arena.far_mac);
            let marker = scene.arena.marker();
            let to = forbidden(53)[0];
            let packet = wire::udp(own_end(to, 53), to, marker.bytes());
            let tag = |kind: u16| [&[0, 7][..], &kind.to_be_bytes(), &packet].concat();
            let frames = [
                wire::ethernet(mac, far_mac, ETH_P_8021Q, &tag(0x0800)),
                wire::ethernet(mac, far_mac, 0x88a8, &tag(0x0800)),
                wire::ethernet(mac, far_mac, 0x88b5, &marker.times(60)),
                wire::ethernet(mac, far_mac, 47, &[&[0, 0, 3][..], &marker.times(44)].concat()),
            ];
            let before = scene.arena.arrived(&marker);
            for frame in &frames {
                scene.arena.world.ctr.within(|| send_frame(index, frame)).unwrap();
            }
            std::thread::sleep(SILENCE);
            let arrived = scene.arena.arrived(&marker) - before;
            // A router passes on none of them anyway.
            let expected = if mode == "allow" && wire == Wire::Bridged { frames.len() } else { 0 };
            assert_eq!(arrived, expected, "{wire:?}, {mode}");
        }
    }
}

#[test]
fn four_kilobytes_of_udp_pass_in_fragments_and_not_to_a_forbidden_address() {
    for wire in Wire::ALL {
        for mode in ["allow", "host-side"] {
            let scene = Scene::started(wire, mode, &[("egress", LIST)]);
            flush(&scene);
            let world = &scene.arena.world;
            for to in ALLOWED {
                let marker = scene.arena.marker();
                let socket = world.ctr.within(|| {
                    let socket = UdpSocket::bind(probe::any(at(to, 53))).unwrap();
                    socket.send_to(&marker.times(4000), at(to, 53)).unwrap();
                    socket
                });
                let got = (0..1000).find_map(|_| {
                    std::thread::sleep(Duration::from_millis(1));
                    world.pump().first().map(|datagram| datagram.len)
                });
                assert_eq!(got, Some(4000), "{wire:?}, {mode}, {to}: the receiver puts it together again");
                // The answer comes back in fragments too.
                socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
                assert_eq!(socket.recv(&mut [0; 5000]).unwrap(), 4000, "{wire:?}, {mode}, {to}");
            }
            for to in forbidden(53) {
                let marker = scene.arena.marker();
                world.ctr.within(|| UdpSocket::bind(probe::any(to))?.send_to(&marker.times(4000), to)).unwrap();
                std::thread::sleep(SILENCE);
                assert_eq!(scene.arena.arrived(&marker) > 0, mode == "allow", "{wire:?}, {mode}, {to}");
                // And as fragments that follow nothing, or a first one that is allowed for another packet.
                let marker = scene.arena.marker();
                let allowed = at(ALLOWED[usize::from(to.is_ipv6())], 53);
                let ((index, mac), far_mac) = (scene.arena.eth0, scene.arena.far_mac);
                let first = wire::fragment(
                    own(to.ip()),
                    allowed.ip(),
                    wire::UDP,
                    0,
                    true,
                    &wire::udp_segment(own_end(to, 9), allowed, &[0; 1400])[..1400],
                );
                let later = wire::fragment(own(to.ip()), to.ip(), wire::UDP, 1400, false, &marker.times(400));
                world.ctr.within(|| {
                    for packet in [&first, &later] {
                        let kind = wire::ether_type(packet);
                        send_frame(index, &wire::ethernet(mac, far_mac, kind, packet)).unwrap();
                    }
                });
                std::thread::sleep(SILENCE);
                assert_eq!(scene.arena.arrived(&marker) > 0, mode == "allow", "{wire:?}, {mode}, {to}, fragments");
            }
        }
    }
}

#[test]
fn replies_pass_to_whom_it_may_not_reach_and_no_more() {
    for wire in Wire::ALL {
        let scene = Scene::started(wire, "host-side", &[("egress", LIST)]);
        flush(&scene);
        let world = &scene.arena.world;
        for from in FORBIDDEN {
            let server = world.ctr.within(|| UdpSocket::bind(own_end(at(from, 0), 7777))).unwrap();
            let client = world.far.within(|| UdpSocket::bind(at(from, 5555))).unwrap();
            for socket in [&server, &client] {
                socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
            }
            client.send_to(b"hello", own_end(at(from, 0), 7777)).unwrap();
            let (_, peer) = server.recv_from(&mut [0; 16]).unwrap();
            assert_eq!(peer, at(from, 5555), "{wire:?}");
            let marker = scene.arena.marker();
            server.send_to(marker.bytes(), peer).unwrap();
            assert_eq!(client.recv(&mut [0; 16]).unwrap(), marker.bytes().len(), "{wire:?}");
            // Another port of the same peer did not ask.
            let marker = scene.arena.marker();
            server.send_to(marker.bytes(), at(from, 5556)).unwrap();
            std::thread::sleep(SILENCE);
            assert_eq!(scene.arena.arrived(&marker), 0, "{wire:?}");
        }
    }
}

#[test]
fn who_may_connect_in_is_decided_outside_too() {
    for wire in Wire::ALL {
        for mode in ["allow", "host-side"] {
            let scene = Scene::started(wire, mode, &[("ingress", "10.9.1.1:7777 [2001:db8::1]:7777")]);
            flush(&scene);
            let world = &scene.arena.world;
            for (from, port, passes) in [
                (ALLOWED[0], 7777, true),
                (ALLOWED[1], 7777, true),
                (FORBIDDEN[0], 7777, mode == "allow"),
                (FORBIDDEN[1], 7777, mode == "allow"),
                (ALLOWED[0], 7778, mode == "allow"),
                (ALLOWED[1], 7778, mode == "allow"),
            ] {
                let own = own_end(at(from, 0), port);
                let server = world.ctr.within(|| UdpSocket::bind(own)).unwrap();
                let wait = if passes { Duration::from_secs(3) } else { SILENCE };
                server.set_read_timeout(Some(wait)).unwrap();
                let client = world.far.within(|| UdpSocket::bind(at(from, 0))).unwrap();
                client.send_to(b"hello", own).unwrap();
                let heard = server.recv(&mut [0; 16]).is_ok();
                assert_eq!(heard, passes, "{wire:?}, {mode}: from {from} to port {port}");
            }
        }
    }
}

#[test]
fn a_path_that_takes_less_is_told() {
    // Routed: the host answers with "fragmentation needed" and "packet too big".
    let scene = Scene::started(Wire::Routed, "host-side", &[("egress", LIST), ("ingress", "none")]);
    flush(&scene);
    scene.host.ip_batch("link set far0 mtu 1400\n");
    let ctr = &scene.arena.world.ctr;
    for to in ALLOWED {
        let marker = scene.arena.marker();
        ctr.within(|| {
            let socket = UdpSocket::bind(probe::any(at(to, 53))).unwrap();
            socket.send_to(&marker.times(1440), at(to, 53)).unwrap();
        });
        let learned = || ctr.run("ip", &["route", "get", to], "").contains("mtu 1400");
        let told = (0..2000).any(|_| {
            std::thread::sleep(Duration::from_millis(1));
            learned()
        });
        assert!(told, "{to}: {}", ctr.run("ip", &["route", "get", to], ""));
    }
}

#[test]
fn neighbours_are_found_in_both_families() {
    for wire in Wire::ALL {
        let scene = Scene::started(wire, "host-side", &[("egress", LIST), ("ingress", "none")]);
        flush(&scene);
        let world = &scene.arena.world;
        for round in 0..2 {
            for namespace in [&world.ctr, &world.far, &scene.host] {
                namespace.ip_batch("neigh flush all\n");
            }
            passes_what_is_allowed(&scene, &world.ctr, &format!("{wire:?}, round {round}"));
            let known = world.ctr.run("ip", &["neigh", "show", "dev", "eth0"], "");
            for gateway in ["10.9.0.1 ", "fd99::1 "] {
                let of_it = |line: &&str| wire == Wire::Bridged && gateway == "10.9.0.1 " || line.starts_with(gateway);
                assert!(known.lines().any(|line| of_it(&line) && line.contains("lladdr")), "{wire:?}: {known}");
            }
        }
        // And it is found by others.
        let asker = if wire == Wire::Bridged { &world.far } else { &scene.host };
        asker.ip_batch("neigh flush all\n");
        for to in ["10.9.0.2", "fd99::2"] {
            asker.within(|| UdpSocket::bind(probe::any(at(to, 9)))?.send_to(b"?", at(to, 9))).unwrap();
        }
        let found = (0..2000).any(|_| {
            std::thread::sleep(Duration::from_millis(1));
            let known = asker.run("ip", &["neigh", "show"], "");
            ["10.9.0.2 ", "fd99::2 "]
                .iter()
                .all(|of| known.lines().any(|line| line.starts_with(of) && line.contains("lladdr")))
        });
        assert!(found, "{wire:?}: {}", asker.run("ip", &["neigh", "show"], ""));
    }
}
