//! Laws that hold for every list and every packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlatch::net::{Direction, Origin, Packet, Payload, Transport};
use netlatch::nft::build::{build, host_side};
use netlatch::nft::filter::{Denial, Filter, Ipv6Traffic};
use netlatch::plan::layers;
use netlatch::policy::group::Group;
use netlatch::policy::list::List;
use proptest::prelude::*;

const HOST: [&str; 2] = ["10.1.0.1", "2001:db8::1"];

fn host() -> Vec<IpAddr> {
    HOST.iter().map(|addr| addr.parse().unwrap()).collect()
}

/// A small universe, so that entries overlap, nest and touch, and packets hit their edges.
fn peer() -> impl Strategy<Value = String> {
    let v4 = (0u32..16, 24u8..=32).prop_map(|(low, len)| {
        let addr = Ipv4Addr::from_bits(0x0a01_0000 | (low << (32 - len).min(4)) & !((1u64 << (32 - len)) - 1) as u32);
        if len == 32 { addr.to_string() } else { format!("{addr}/{len}") }
    });
    let v6 = (0u128..16, 120u8..=128).prop_map(|(low, len)| {
        let base = 0x2001_0db8_u128 << 96;
        let addr = Ipv6Addr::from_bits(base | low & !((1u128 << (128 - len)) - 1));
        if len == 128 { format!("[{addr}]") } else { format!("[{addr}/{len}]") }
    });
    let groups = prop::sample::select(vec!["@internet", "@private", "@host", "@metadata"]).prop_map(str::to_owned);
    prop_oneof![4 => v4, 4 => v6, 1 => groups, 1 => Just("*".to_owned()), 1 => Just("0.0.0.0/0".to_owned()), 1 => Just("[::/0]".to_owned())]
}

fn entry() -> impl Strategy<Value = String> {
    let ports = prop_oneof![
        3 => Just(String::new()),
        3 => (1u16..12).prop_map(|port| format!(":{port}")),
        3 => (1u16..12, 0u16..6).prop_map(|(first, more)| format!(":{first}-{}", first + more)),
        1 => Just(":1-65535".to_owned()),
    ];
    let protocol = prop::sample::select(vec!["", "", "", "tcp/", "udp/", "sctp/", "icmp/"]);
    (prop::bool::weighted(0.25), protocol, peer(), ports).prop_map(|(deny, protocol, peer, ports)| {
        let ports = if protocol == "icmp/" { String::new() } else { ports };
        format!("{}{protocol}{peer}{ports}", if deny { "!" } else { "" })
    })
}

/// A list of up to 12 entries, of which one at least allows.
fn list() -> impl Strategy<Value = String> {
    prop_oneof![
        1 => Just("none".to_owned()),
        9 => prop::collection::vec(entry(), 1..12).prop_map(|mut entries| {
            if entries.iter().all(|entry| entry.starts_with('!')) {
                entries.push("10.1.0.0/30:3-5".to_owned());
            }
            entries.join(", ")
        }),
    ]
}

fn packet(direction: Direction) -> impl Strategy<Value = Packet> {
    let peer = prop_oneof![
        4 => (0u32..40).prop_map(|low| IpAddr::from(Ipv4Addr::from_bits(0x0a01_0000 | low))),
        4 => (0u128..40).prop_map(|low| IpAddr::from(Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) | low))),
        1 => prop::sample::select(vec!["169.254.169.254", "8.8.8.8", "fd00:ec2::254", "2606::1", "64:ff9b::a9fe:a9fe", "255.255.255.255"])
            .prop_map(|addr| addr.parse().unwrap()),
    ];
    let payload = prop_oneof![
        6 => (prop::sample::select(Transport::ALL.to_vec()), prop_oneof![0u16..20, Just(65535)])
            .prop_map(|(protocol, port)| Payload::Transport { protocol, port }),
        1 => Just(Payload::Icmp { kind: 128 }),
        1 => Just(Payload::Icmp { kind: 8 }),
        1 => Just(Payload::Other(47)),
    ];
    (peer, payload).prop_map(move |(peer, payload)| Packet { direction, peer, payload })
}

fn origin() -> Origin {
    Origin::Annotation { key: "io.netlatch.egress".into() }
}

fn parse(text: &str) -> List {
    List::parse(text, &origin()).unwrap()
}

fn direction() -> impl Strategy<Value = Direction> {
    prop::sample::select(Direction::BOTH.to_vec())
}

fn denial() -> impl Strategy<Value = Denial> {
    prop::sample::select(vec![Denial::Reject, Denial::Drop, Denial::Audit])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_ruleset_decides_what_the_lists_say(
        (texts, packets) in (direction(), prop::collection::vec((list(), denial()), 1..3))
            .prop_flat_map(|(d, texts)| (Just(texts), prop::collection::vec(packet(d), 40))),
        v6_off in prop::bool::weighted(0.1),
        always in prop::option::of(denial()),
    ) {
        let lists: Vec<(List, Denial)> = texts.iter().map(|(text, denial)| (parse(text), *denial)).collect();
        let direction = packets[0].direction;
        let groups = (direction == Direction::Egress).then_some([Group::Metadata, Group::Private]);
        let opening = &lists[0].0;
        let always = always.filter(|_| groups.is_some());
        let first = always.and_then(|denial| {
            layers::always_denied(groups.into_iter().flatten(), &[opening], &[], denial, &host(), "always-denied")
        });
        let layers = first.into_iter().chain(lists.iter().zip(["baseline", "annotation"])
            .map(|((list, denial), name)| layers::of_list(name, direction, list, *denial, &host(), &origin()))).collect();
        let ipv6 = if v6_off { Ipv6Traffic::Dropped } else { Ipv6Traffic::Filtered };
        let filter = Filter { ipv6, router_advertisements: false, layers, policies: Vec::new() };
        let table = build(&filter, String::new()).unwrap();
        let at_the_host = host_side(&filter, "netlatch-x".to_owned(), &["p0".to_owned()], &[]).unwrap();
        for packet in packets {
            let denied_always = always.is_some_and(|denial| denial != Denial::Audit)
                && groups.into_iter().flatten().any(|group| group.contains(packet.peer, &host()))
                && !opening.opens(&packet);
            let specified = !denied_always
                && lists.iter().all(|(list, denial)| *denial == Denial::Audit || list.allows(&packet, &host()))
                && !(v6_off && packet.peer.is_ipv6());
            let decided = table.decide(&packet);
            prop_assert_eq!(decided.outcome.passes(), specified, "{:?} under {:?}: {:?}\n{}", packet, texts, decided.rule, table);
            // At the host's end of the link, where no router's messages come from a container.
            let of_router = packet.peer.is_ipv6() && matches!(packet.payload, Payload::Icmp { kind: 134 | 137 });
            if let Some(outside) = at_the_host.as_ref().filter(|_| !of_router) {
                let decided = outside.decide(&packet);
                prop_assert_eq!(decided.outcome.passes(), specified, "{:?} under {:?}: {:?}\n{}", packet, texts, decided.rule, outside);
            } else if !of_router {
                prop_assert!(specified, "{:?} under {:?} and nothing at the host's side", packet, texts);
            }
        }
    }

    #[test]
    fn the_order_of_entries_never_matters(text in list(), packets in prop::collection::vec(packet(Direction::Egress), 20), seed in any::<u64>()) {
        let mut entries: Vec<&str> = text.split(", ").collect();
        let by = (seed as usize) % entries.len();
        entries.rotate_left(by);
        let (one, other) = (parse(&text), parse(&entries.join(" ")));
        for packet in packets {
            prop_assert_eq!(one.allows(&packet, &host()), other.allows(&packet, &host()));
        }
    }

    #[test]
    fn metadata_is_reached_only_where_a_list_names_it_with_what_is_spoken_and_allows_it(text in list(), port in 1u16..12) {
        let list = parse(&text);
        let layers = layers::always_denied([Group::Metadata], &[&list], &[], Denial::Reject, &host(), "always-denied").into_iter()
            .chain([layers::of_list("annotation", Direction::Egress, &list, Denial::Reject, &host(), &origin())]).collect();
        let table = build(&Filter { ipv6: Ipv6Traffic::Filtered, router_advertisements: false, layers, policies: Vec::new() }, String::new()).unwrap();
        for peer in netlatch::policy::group::metadata() {
            let packet = Packet { direction: Direction::Egress, peer, payload: Payload::Transport { protocol: Transport::Tcp, port } };
            prop_assert_eq!(table.decide(&packet).outcome.passes(), list.opens(&packet) && list.allows(&packet, &host()));
        }
    }
}

proptest! {
    // Each case is some hundred entries.
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn many_blocks_decide_what_the_list_says(
        blocks in prop::collection::vec((any::<bool>(), 0u32..0x40_0000, 26u8..=32), 900..1000),
        ports in prop::sample::select(vec!["", ":443"]),
        near in prop::collection::vec((any::<prop::sample::Index>(), 0u8..4), 60),
        direction in direction(),
    ) {
        // The edges of blocks, and what lies just beyond them; IPv6 at the same place of its own addresses.
        let of = |(v6, low, length): (bool, u32, u8)| {
            let first = (0x0a00_0000 | low) & (u64::MAX << (32 - length)) as u32;
            let last = first | ((1u64 << (32 - length)) - 1) as u32;
            let at = move |bits: u32| if v6 {
                IpAddr::from(Ipv6Addr::from_bits(0x2001_0db8_u128 << 96 | u128::from(bits) << 64))
            } else {
                IpAddr::from(Ipv4Addr::from_bits(bits))
            };
            let text = if v6 { format!("[{}/{}]{ports}", at(first), length + 32) } else { format!("{}/{length}{ports}", at(first)) };
            (text, [first.wrapping_sub(1), first, last, last.wrapping_add(1)].map(at))
        };
        let texts: Vec<String> = blocks.iter().map(|block| of(*block).0).collect();
        let list = parse(&texts.join(" "));
        let layers = vec![layers::of_list("annotation", direction, &list, Denial::Reject, &host(), &origin())];
        let filter = Filter { ipv6: Ipv6Traffic::Filtered, router_advertisements: false, layers, policies: Vec::new() };
        let table = build(&filter, String::new()).unwrap();
        prop_assert!(table.to_string().contains(" == @"), "sets by length of prefix");
        for (index, edge) in near {
            let peer = of(*index.get(&blocks)).1[usize::from(edge)];
            let packet = Packet { direction, peer, payload: Payload::Transport { protocol: Transport::Tcp, port: 443 } };
            prop_assert_eq!(table.decide(&packet).outcome.passes(), list.allows(&packet, &host()), "{:?}\n{}", packet, table);
        }
    }
}
