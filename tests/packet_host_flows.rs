//! `net-admin: host-side`: what is remembered of flows, for how long, and which ICMP errors belong to them.

mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, SockaddrIn, sendto};
use support::game::{ALLOWED, FORBIDDEN, LIST, at, link, own};
use support::link::send_frame;
use support::outside::{Scene, Wire};
use support::wire::{self, ACK, SYN};
use support::{Namespace, Outcome, probe, raw};

const PATIENCE: Duration = Duration::from_secs(3);
const SILENCE: Duration = Duration::from_millis(100);
const HOUR_S: u64 = 3600;

fn flush(scene: &Scene) {
    scene.arena.world.ctr.run("nft", &["flush", "ruleset"], "");
}

fn own_end(peer: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(own(peer), port)
}

fn comes_true(what: impl Fn() -> bool) -> bool {
    (0..2000).any(|_| {
        std::thread::sleep(Duration::from_millis(1));
        what()
    })
}

/// For how many seconds more the flows with a peer's port are remembered; `None` where there is none.
fn remembered(scene: &Scene, peer: IpAddr, port: u16) -> Option<u64> {
    let name = format!("netlatch-{}", scene.container.id);
    let text = scene.host.run("nft", &["-j", "list", "table", "netdev", &name], "");
    let listed: serde_json::Value = serde_json::from_str(&text).expect("nft prints JSON");
    let sets = listed["nftables"].as_array().expect("an array").iter().map(|object| &object["set"]);
    let elements = sets.flat_map(|set| set["elem"].as_array().cloned().unwrap_or_default());
    let of_it = elements.map(|element| element["elem"].clone()).filter(|element| {
        let key = &element["val"]["concat"];
        key[0] == peer.to_string() && key[2] == port
    });
    of_it.filter_map(|element| element["expires"].as_u64()).max()
}

/// The far side sends the container a TCP segment, from whatever address.
fn segment(scene: &Scene, from: SocketAddr, to: u16, flags: u8) {
    let world = &scene.arena.world;
    let ((index, far_mac), (_, mac)) = (link(&world.far, "eth0"), scene.arena.eth0);
    let packet = wire::tcp(from, own_end(from.ip(), to), flags, b"");
    let frame = wire::ethernet(far_mac, mac, wire::ether_type(&packet), &packet);
    world.far.within(|| send_frame(index, &frame)).unwrap();
    std::thread::sleep(SILENCE);
}

/// A connection from an address of the far side to the container's port: its two ends.
fn connected(scene: &Scene, from: IpAddr, port: u16) -> (TcpStream, TcpStream) {
    let world = &scene.arena.world;
    let listener = world.ctr.within(|| TcpListener::bind(own_end(from, port))).unwrap();
    let far = world.far.within(|| raw::connected_from(SocketAddr::new(from, 0), own_end(from, port)));
    let (ctr, _) = listener.accept().unwrap();
    for end in [&ctr, &far] {
        end.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    (ctr, far)
}

fn says(from: &mut TcpStream, to: &mut TcpStream) {
    from.write_all(b"hello").unwrap();
    to.read_exact(&mut [0; 5]).unwrap();
}

#[test]
fn a_flow_that_an_outsider_begins_is_remembered_for_long_once_the_container_takes_part() {
    let scene = Scene::started(Wire::Bridged, "host-side", &[("egress", LIST)]);
    flush(&scene);
    for from in FORBIDDEN {
        let from: IpAddr = from.parse().unwrap();
        let left = |port| remembered(&scene, from, port).unwrap_or_else(|| panic!("{from} port {port}: none"));
        // Open, answered with SYN and ACK, and then with a reset; and closed.
        let _listener = scene.arena.world.ctr.within(|| TcpListener::bind(own_end(from, 80))).unwrap();
        for (port, to) in [(5001, 80), (5002, 81)] {
            segment(&scene, SocketAddr::new(from, port), to, SYN);
            assert!(left(port) <= 60, "{from}: a SYN to {to}: {}", left(port));
            segment(&scene, SocketAddr::new(from, port), to, ACK);
            assert!(left(port) <= 60, "{from}: a SYN and an ACK to {to}: {}", left(port));
        }
        segment(&scene, SocketAddr::new(from, 5003), 81, ACK);
        assert!(left(5003) <= 60, "{from}: an ACK alone: {}", left(5003));

        let (mut ctr, mut far) = connected(&scene, from, 82);
        let port = far.local_addr().unwrap().port();
        says(&mut far, &mut ctr);
        says(&mut ctr, &mut far);
        assert!(left(port) > HOUR_S, "{from}: a connection: {}", left(port));
        // It goes on being remembered.
        says(&mut far, &mut ctr);
        assert!(left(port) > HOUR_S, "{from}: a connection: {}", left(port));

        let (server, client) = (own_end(from, 7777), SocketAddr::new(from, 5555));
        let server = scene.arena.world.ctr.within(|| UdpSocket::bind(server)).unwrap();
        let client = scene.arena.world.far.within(|| UdpSocket::bind(client)).unwrap();
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        client.send_to(b"?", server.local_addr().unwrap()).unwrap();
        server.recv(&mut [0; 4]).unwrap();
        assert!(left(5555) <= 60, "{from}: a datagram: {}", left(5555));
        server.send_to(b"!", client.local_addr().unwrap()).unwrap();
        client.recv(&mut [0; 4]).unwrap();
        assert!((61..=180).contains(&left(5555)), "{from}: an answered datagram: {}", left(5555));
    }
}

#[test]
fn a_connection_that_the_container_begins_is_remembered_for_long_as_soon_as_it_stands() {
    let scene = Scene::started(Wire::Bridged, "host-side", &[("egress", LIST), ("ingress", "none")]);
    flush(&scene);
    for to in ALLOWED {
        let to = at(to, 443);
        let stream = scene.arena.world.ctr.within(|| TcpStream::connect_timeout(&to, PATIENCE)).unwrap();
        let left = remembered(&scene, to.ip(), 443).unwrap();
        assert!(left > HOUR_S, "{to}: {left}");
        drop(stream);
        let ended = || remembered(&scene, to.ip(), 443).is_some_and(|left| left <= 60);
        assert!(comes_true(ended), "{to}: {:?}", remembered(&scene, to.ip(), 443));
        let echo = raw::icmp_echo(&scene.arena.world.ctr, to.ip(), PATIENCE);
        assert_eq!(echo, Outcome::Replied, "{to}");
    }
}

/// More SYNs from made-up addresses than are remembered.
fn flood(far: &Namespace, to: Ipv4Addr) {
    far.within(|| {
        let socket = raw::header_included_socket(to.into()).unwrap();
        let address = SockaddrIn::from(std::net::SocketAddrV4::new(to, 0));
        for n in 0..263_000_u32 {
            let from = SocketAddr::from((Ipv4Addr::from(0xc612_0000 | n >> 8), 1024 + (n & 0xff) as u16));
            let packet = wire::tcp(from, SocketAddr::from((to, 81)), SYN, b"");
            sendto(socket.as_raw_fd(), &packet, &address, MsgFlags::empty()).unwrap();
        }
    });
}

#[test]
fn made_up_syns_take_no_room_from_connections_that_stand_nor_from_the_containers_own() {
    let scene = Scene::started(Wire::Bridged, "host-side", &[("egress", LIST)]);
    flush(&scene);
    let to = Ipv4Addr::new(10, 9, 0, 2);
    let (mut ctr, mut far) = connected(&scene, FORBIDDEN[0].parse().unwrap(), 82);
    says(&mut far, &mut ctr);
    says(&mut ctr, &mut far);
    // Its resets, hundreds of thousands, are of no interest.
    scene
        .arena
        .world
        .ctr
        .nft_load("table ip quiet { chain out { type filter hook output priority 0; tcp sport 81 drop; }; }");
    flood(&scene.arena.world.far, to);
    says(&mut far, &mut ctr);
    says(&mut ctr, &mut far);
    let connect = |to| probe::tcp_connect(&scene.arena.world.ctr, at(to, 443), PATIENCE);
    assert_eq!(connect(ALLOWED[0]), Outcome::Connected);
    // Who cannot be remembered comes in, as everybody here, and is not answered unless the list says so.
    for (from, answered) in [(FORBIDDEN[0], false), (ALLOWED[0], true)] {
        let (server, client) = (own_end(to.into(), 7777), at(from, 5555));
        let server = scene.arena.world.ctr.within(|| UdpSocket::bind(server)).unwrap();
        let client = scene.arena.world.far.within(|| UdpSocket::bind(client)).unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        client.set_read_timeout(Some(if answered { PATIENCE } else { SILENCE })).unwrap();
        client.send_to(b"hello", server.local_addr().unwrap()).unwrap();
        server.recv(&mut [0; 16]).unwrap();
        server.send_to(b"hello", client.local_addr().unwrap()).unwrap();
        assert_eq!(client.recv(&mut [0; 16]).is_ok(), answered, "{from}");
    }
}

#[test]
fn syns_from_who_may_connect_take_no_room_from_anybody() {
    let scene = Scene::started(Wire::Bridged, "host-side", &[("ingress", "10.9.1.1:82 198.18.0.0/15")]);
    flush(&scene);
    flood(&scene.arena.world.far, Ipv4Addr::new(10, 9, 0, 2));
    let (mut ctr, mut far) = connected(&scene, ALLOWED[0].parse().unwrap(), 82);
    says(&mut far, &mut ctr);
    says(&mut ctr, &mut far);
    // What the container begins is, for the answer is judged.
    let connect = |to| probe::tcp_connect(&scene.arena.world.ctr, at(to, 443), PATIENCE);
    assert_eq!(connect(FORBIDDEN[0]), Outcome::Connected);
    assert!(remembered(&scene, FORBIDDEN[0].parse().unwrap(), 443).is_some());
}

#[test]
fn icmp_errors_about_a_ping_come_in() {
    // Routed: the host answers what lives for one hop only.
    let scene = Scene::started(Wire::Routed, "host-side", &[("egress", LIST), ("ingress", "none")]);
    flush(&scene);
    for to in ALLOWED {
        let to: IpAddr = to.parse().unwrap();
        let (request, exceeded) = if to.is_ipv4() { (8, 11) } else { (128, 3) };
        let packet = wire::icmp(own(to), to, 1, request, 0, &[0x6e, 0x6c, 0, 1, 1, 2, 3, 4]);
        let kinds = raw::icmp_heard(&scene.arena.world.ctr, to, &packet, PATIENCE, exceeded);
        assert!(kinds.contains(&exceeded), "{to}: {kinds:?}");
    }
}

#[test]
fn a_path_that_takes_less_is_told_of_fragments_and_of_answers() {
    let scene =
        Scene::started(Wire::Routed, "host-side", &[("egress", LIST), ("ingress", "10.0.0.0/8:7777 [::/0]:7777")]);
    flush(&scene);
    scene.host.ip_batch("link set far0 mtu 1400\n");
    let world = &scene.arena.world;
    let learned = |to: &str| {
        let told = || world.ctr.run("ip", &["route", "get", to], "").contains("mtu 1400");
        assert!(comes_true(told), "{to}: {}", world.ctr.run("ip", &["route", "get", to], ""));
    };
    // Over IPv6 the sender cuts packets up; of IPv4 the router does.
    let to = at(ALLOWED[1], 53);
    world.ctr.within(|| UdpSocket::bind(probe::any(to))?.send_to(&[0; 4000], to)).unwrap();
    learned(ALLOWED[1]);
    // Whom it may not reach itself is answered.
    for from in FORBIDDEN {
        let server = world.ctr.within(|| UdpSocket::bind(own_end(from.parse().unwrap(), 7777))).unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        let client = world.far.within(|| UdpSocket::bind(at(from, 5555))).unwrap();
        client.send_to(b"hello", server.local_addr().unwrap()).unwrap();
        let (_, peer) = server.recv_from(&mut [0; 16]).unwrap();
        server.send_to(&[0; 1440], peer).unwrap();
        learned(from);
    }
}
