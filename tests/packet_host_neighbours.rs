//! `net-admin: host-side`: what a container says of addresses to its neighbours, by ARP and by neighbour discovery.

mod support;

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use support::Namespace;
use support::game::{LIST, Marker, link};
use support::link::send_frame;
use support::outside::{Scene, Wire};
use support::wire::{self, ETH_P_ARP, ETH_P_IPV6, Mac};

const SILENCE: Duration = Duration::from_millis(100);
/// Another container's.
const NEIGHBOUR: [&str; 2] = ["10.9.0.50", "fd99::50"];
const ITS_MAC: &str = "02:00:00:00:00:50";
const OWN: [&str; 2] = ["10.9.0.2", "fd99::2"];
const BROADCAST: Mac = [0xff; 6];
const ALL_NODES: Mac = [0x33, 0x33, 0, 0, 0, 1];
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Neighbour discovery about `target` with the sender's link layer address and `ballast` behind it.
fn discovery(kind: u8, from: &str, to: &str, target: &str, mac: Mac, ballast: &[u8]) -> Vec<u8> {
    let (flags, option) = if kind == ADVERTISEMENT { (0x20, 2) } else { (0, 1) };
    let body = [&[flags, 0, 0, 0][..], &octets(address(target)), &[option, 1], &mac, ballast].concat();
    wire::icmp(address(from), address(to), 255, kind, 0, &body)
}

/// A frame of the container's.
fn leaves(scene: &Scene, to: Mac, kind: u16, payload: &[u8]) {
    let (index, mac) = scene.arena.eth0;
    let frame = wire::ethernet(mac, to, kind, payload);
    scene.arena.world.ctr.within(|| send_frame(index, &frame)).unwrap();
}

/// The hardware address that a namespace has for one of the link's.
fn known(namespace: &Namespace, of: &str) -> String {
    namespace.run("ip", &["neigh", "show", of, "dev", "eth0"], "")
}

/// A container with these lists, and a neighbour of another that the far side knows.
fn beside(mode: &str, annotations: &[(&str, &str)]) -> Scene {
    let scene = Scene::started(Wire::Bridged, mode, annotations);
    scene.arena.world.ctr.run("nft", &["flush", "ruleset"], "");
    let far = &scene.arena.world.far;
    // Otherwise the first answer counts, for a second.
    far.set_sysctl("net/ipv4/neigh/eth0/locktime", "0");
    for address in NEIGHBOUR {
        far.ip_batch(&format!("neigh replace {address} lladdr {ITS_MAC} dev eth0 nud reachable\n"));
    }
    // An entry of this very jiffy is not changed.
    std::thread::sleep(SILENCE);
    scene
}

/// The marker, in what leaves behind an address.
fn arrived(scene: &Scene, marker: &Marker) -> bool {
    std::thread::sleep(SILENCE);
    scene.arena.arrived(marker) > 0
}

#[test]
fn a_neighbours_address_is_not_the_containers_to_claim() {
    // Whatever the lists say of the neighbour itself.
    for annotations in [
        &[("egress", LIST), ("ingress", "none")][..],
        &[("egress", "10.9.0.0/16 fd99::/16 ff02::/16")],
        &[("ingress", "10.9.1.1")],
    ] {
        for mode in ["allow", "host-side"] {
            let claims: [fn(&Scene); 6] = [
                |scene| {
                    let (mac, far) = (scene.arena.eth0.1, scene.arena.far_mac);
                    let claim = (mac, address(NEIGHBOUR[0]));
                    leaves(scene, far, ETH_P_ARP, &wire::arp(2, claim, (far, address("10.9.0.1"))));
                },
                |scene| {
                    let claim = (scene.arena.eth0.1, address(NEIGHBOUR[0]));
                    leaves(scene, BROADCAST, ETH_P_ARP, &wire::arp(1, claim, ([0; 6], address("10.9.0.1"))));
                },
                |scene| {
                    let claim = (scene.arena.eth0.1, address(NEIGHBOUR[0]));
                    leaves(scene, BROADCAST, ETH_P_ARP, &wire::arp(1, claim, claim));
                },
                |scene| {
                    let claim = discovery(ADVERTISEMENT, OWN[1], "ff02::1", NEIGHBOUR[1], scene.arena.eth0.1, &[]);
                    leaves(scene, ALL_NODES, ETH_P_IPV6, &claim);
                },
                |scene| {
                    let claim = discovery(ADVERTISEMENT, OWN[1], "fd99::1", NEIGHBOUR[1], scene.arena.eth0.1, &[]);
                    leaves(scene, scene.arena.far_mac, ETH_P_IPV6, &claim);
                },
                |scene| {
                    let from = NEIGHBOUR[1];
                    let claim = discovery(SOLICITATION, from, "ff02::1:ff00:1", "fd99::1", scene.arena.eth0.1, &[]);
                    leaves(scene, [0x33, 0x33, 0xff, 0, 0, 1], ETH_P_IPV6, &claim);
                },
            ];
            for (number, claim) in claims.into_iter().enumerate() {
                let scene = beside(mode, annotations);
                claim(&scene);
                std::thread::sleep(SILENCE);
                let of = NEIGHBOUR[usize::from(number > 2)];
                let said = known(&scene.arena.world.far, of);
                let case = format!("{annotations:?}, {mode}, claim {number}: {said}");
                assert_eq!(!said.contains(ITS_MAC), mode == "allow", "{case}");
            }
        }
    }
}

#[test]
fn its_own_addresses_are() {
    for annotations in [&[("egress", LIST), ("ingress", "none")][..], &[("ingress", "10.9.1.1")]] {
        let scene = beside("host-side", annotations);
        let (far, (_, mac)) = (&scene.arena.world.far, scene.arena.eth0);
        let shown = mac.map(|byte| format!("{byte:02x}")).join(":");
        for address in OWN {
            far.ip_batch(&format!("neigh replace {address} lladdr {ITS_MAC} dev eth0 nud reachable\n"));
        }
        let claim = (mac, address(OWN[0]));
        leaves(&scene, BROADCAST, ETH_P_ARP, &wire::arp(1, claim, claim));
        leaves(&scene, ALL_NODES, ETH_P_IPV6, &discovery(ADVERTISEMENT, OWN[1], "ff02::1", OWN[1], mac, &[]));
        std::thread::sleep(SILENCE);
        for address in OWN {
            assert!(known(far, address).contains(&shown), "{annotations:?}: {}", known(far, address));
        }
    }
}

#[test]
fn it_asks_whether_its_own_address_is_free_and_no_other() {
    let scene = beside("host-side", &[("egress", LIST), ("ingress", "none")]);
    let (mac, ear) = (scene.arena.eth0.1, &scene.arena.ear);
    let nobody = (mac, address("0.0.0.0"));
    leaves(&scene, BROADCAST, ETH_P_ARP, &wire::arp(1, nobody, ([0; 6], address(OWN[0]))));
    // Nobody answers for no address.
    leaves(&scene, BROADCAST, ETH_P_ARP, &wire::arp(2, nobody, ([0; 6], address("10.9.0.1"))));
    // The kernel's own.
    let ctr = &scene.arena.world.ctr;
    ctr.set_sysctl("net/ipv6/conf/eth0/accept_dad", "1");
    ctr.ip_batch("addr del fd99::2/64 dev eth0\naddr add fd99::2/64 dev eth0\naddr add fd99::60/64 dev eth0\n");
    let asked = |target: &str| {
        let target: Ipv6Addr = target.parse().unwrap();
        ear.count(|frame| {
            frame[12..14] == ETH_P_IPV6.to_be_bytes()
                && frame.get(22..38) == Some(&[0; 16])
                && frame.get(54) == Some(&SOLICITATION)
                && frame.get(62..78) == Some(&target.octets())
        })
    };
    let is_asked = (0..4000).any(|_| {
        std::thread::sleep(Duration::from_millis(1));
        asked(OWN[1]) > 0
    });
    assert!(is_asked, "duplicate address detection leaves");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(asked("fd99::60"), 0, "an address that is not the container's");
    let arp = |operation| {
        ear.count(|frame| {
            frame[12..14] == ETH_P_ARP.to_be_bytes() && frame[20..22] == [0, operation] && frame[28..32] == [0; 4]
        })
    };
    assert_eq!((arp(1), arp(2)), (1, 0));
}

#[test]
fn nothing_travels_behind_an_address() {
    for mode in ["allow", "host-side"] {
        let scene = beside(mode, &[("egress", LIST), ("ingress", "none")]);
        let mac = scene.arena.eth0.1;
        let own = (mac, address(OWN[0]));
        let arp = wire::arp(1, own, ([0; 6], address("10.9.0.1")));
        // Ethernet's shortest frame has room for 18 bytes behind it.
        for (len, passes) in [(18, true), (19, mode == "allow"), (1000, mode == "allow")] {
            let marker = scene.arena.marker();
            leaves(&scene, BROADCAST, ETH_P_ARP, &[&arp[..], &marker.times(len)].concat());
            assert_eq!(arrived(&scene, &marker), passes, "{mode}: {len} bytes behind ARP");
        }
        for (from, kind, target) in
            [(OWN[1], SOLICITATION, "fd99::1"), (OWN[1], ADVERTISEMENT, OWN[1]), ("::", SOLICITATION, OWN[1])]
        {
            // A nonce takes eight.
            for (len, passes) in [(0, true), (16, mode == "allow"), (1000, mode == "allow")] {
                let marker = scene.arena.marker();
                let ballast = [&[14, 1, 1, 2, 3, 4, 5, 6][..], &marker.times(len)].concat();
                let packet = discovery(kind, from, "ff02::1", target, mac, &ballast);
                let before = scene.arena.ear.count(|frame| frame.get(54) == Some(&kind));
                leaves(&scene, ALL_NODES, ETH_P_IPV6, &packet);
                std::thread::sleep(SILENCE);
                let heard = scene.arena.ear.count(|frame| frame.get(54) == Some(&kind)) > before;
                assert!(heard || !passes, "{mode}: {kind} from {from} with {len} bytes behind it");
                if len > 0 {
                    assert_eq!(arrived(&scene, &marker), passes, "{mode}: {kind} from {from} with {len} bytes");
                }
            }
        }
    }
}

#[test]
fn whoever_asks_is_heard_also_when_too_many_have_asked() {
    let scene = beside("host-side", &[("egress", "fd99::1"), ("ingress", "none")]);
    let world = &scene.arena.world;
    let ((index, far_mac), (_, mac)) = (link(&world.far, "eth0"), scene.arena.eth0);
    // The kernel's table of neighbours has room for 1024 in all namespaces together (gc_thresh3).
    world.ctr.nft_load(
        "table netdev few { chain in { type filter hook ingress device eth0 priority 0; ip6 saddr fd99::1:0/112 drop; }; }",
    );
    world.far.within(|| {
        for number in 0..5000_u16 {
            let from = format!("fd99::1:{number:x}");
            let packet = discovery(SOLICITATION, &from, "ff02::1:ff00:2", OWN[1], far_mac, &[]);
            send_frame(index, &wire::ethernet(far_mac, mac, ETH_P_IPV6, &packet)).unwrap();
        }
    });
    world.far.ip_batch("neigh flush all\n");
    let socket = world.far.within(|| std::net::UdpSocket::bind("[fd99::1]:0")).unwrap();
    socket.send_to(b"?", (OWN[1], 9)).unwrap();
    let found = (0..3000).any(|_| {
        std::thread::sleep(Duration::from_millis(1));
        known(&world.far, OWN[1]).contains("lladdr")
    });
    assert!(found, "{}", known(&world.far, OWN[1]));
}
