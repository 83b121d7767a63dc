//! A table does to every packet what a plain reading of its policy layer says.

#[path = "support/tiers.rs"]
#[allow(dead_code)]
mod tiers;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlatch::net::{
    AddrRange, Direction, Family, Member, Packet, Payload, PortRange, Service, Transport, Transports, bits_of, merge,
};
use netlatch::nft::build::build;
use netlatch::nft::filter::{
    Denial, Entry, Filter, Group, Ipv6Traffic, Layer, Otherwise, Peers, PolicyLayer, Ruling, Run, Tier,
};
use netlatch::nft::ruleset::{Kind, Table, Verdict};
use proptest::prelude::*;

const V4: u128 = 0x0a01_0000;
const V6: u128 = 0x2001_0db8 << 96;

// --- The reading ----------------------------------------------------------------------------------------------------

fn entry_matches(entry: &Entry, packet: &Packet) -> bool {
    let addr = bits_of(packet.peer);
    let ranges = entry.ranges(Family::of(packet.peer));
    ranges.iter().any(|range| range.first <= addr && addr <= range.last) && entry.service.contains(packet.payload)
}

fn group_matches(group: &Group, packet: &Packet) -> bool {
    group.members.iter().any(|member| {
        let port_fits = match (member.port, packet.payload) {
            (None, payload) => group.service.is_some_and(|service| service.contains(payload)),
            (Some(wanted), Payload::Transport { protocol, port }) => wanted == (protocol, port),
            (Some(_), Payload::Icmp { .. } | Payload::Other(_)) => false,
        };
        member.address == packet.peer && port_fits
    })
}

/// First match in a tier; `Pass` asks the next; what nothing decides passes.
fn policy_lets(policy: &PolicyLayer, packet: &Packet) -> bool {
    for tier in &policy.tiers {
        let decided = tier.runs.iter().find(|run| {
            run.entries.iter().any(|entry| entry_matches(entry, packet))
                || run.groups.iter().any(|group| group_matches(group, packet))
        });
        match (decided.map(|run| run.ruling), tier.otherwise) {
            (Some(Ruling::Accept), _) => return true,
            (Some(Ruling::Deny), _) | (None, Otherwise::Deny) => return false,
            (Some(Ruling::Pass), _) | (None, Otherwise::Continue) => {}
        }
    }
    true
}

fn layer_lets(layer: &Layer, packet: &Packet) -> bool {
    let says = |deny| layer.entries.iter().any(|entry| entry.deny == deny && entry_matches(entry, packet));
    layer.exceptions.iter().any(|entry| entry_matches(entry, packet))
        || !says(true) && (says(false) || layer.otherwise == Otherwise::Continue)
}

// --- The inputs -----------------------------------------------------------------------------------------------------

fn ranges(base: u128) -> impl Strategy<Value = Vec<AddrRange>> {
    let range = (0u128..24, 0u128..6)
        .prop_map(move |(first, more)| AddrRange { first: base + first, last: base + first + more });
    let family = if base == V4 { Family::V4 } else { Family::V6 };
    prop_oneof![
        3 => Just(Vec::new()),
        6 => prop::collection::vec(range, 1..4).prop_map(merge),
        1 => Just(vec![AddrRange::everything(family)]),
    ]
}

fn service() -> impl Strategy<Value = Service> {
    let transports = prop::sample::select(vec![
        Transports::One(Transport::Tcp),
        Transports::One(Transport::Udp),
        Transports::One(Transport::Sctp),
        Transports::TcpUdp,
        Transports::All,
    ]);
    let ports = prop_oneof![
        3 => (1u16..12, 0u16..5).prop_map(|(first, more)| PortRange::new(first, first + more).unwrap()),
        3 => (1u16..12).prop_map(|port| PortRange::new(port, port).unwrap()),
        1 => Just(PortRange::ALL),
    ];
    prop_oneof![
        2 => Just(Service::Everything),
        1 => Just(Service::Icmp),
        5 => (transports, ports).prop_map(|(transports, ports)| Service::Ports { transports, ports }),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    (any::<bool>(), ranges(V4), ranges(V6), service()).prop_map(|(deny, v4, v6, service)| Entry {
        deny,
        peers: Peers::ranges(v4, v6),
        service,
        origin: "an entry".into(),
    })
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0u32..32).prop_map(|low| IpAddr::from(Ipv4Addr::from_bits(V4 as u32 + low))),
        (0u128..32).prop_map(|low| IpAddr::from(Ipv6Addr::from_bits(V6 + low))),
    ]
}

fn transport() -> impl Strategy<Value = Transport> {
    prop::sample::select(Transport::ALL.to_vec())
}

/// A group without its set's name.
fn group() -> impl Strategy<Value = Group> {
    (prop::option::of(service()), prop::collection::btree_set((address(), transport(), 1u16..6), 0..10)).prop_map(
        |(service, members)| {
            let port = |at| service.is_none().then_some(at);
            let of = |(address, transport, number)| Member { address, port: port((transport, number)) };
            let mut members: Vec<Member> = members.into_iter().map(of).collect();
            members.sort_unstable();
            members.dedup();
            Group { set: String::new(), service, members, origin: "a group".into() }
        },
    )
}

fn run() -> impl Strategy<Value = Run> {
    let ruling = prop::sample::select(vec![Ruling::Accept, Ruling::Deny, Ruling::Pass]);
    (ruling, prop::collection::vec(entry(), 0..4), prop::collection::vec(group(), 0..3))
        .prop_map(|(ruling, entries, groups)| Run { ruling, entries, groups })
}

fn otherwise() -> impl Strategy<Value = Otherwise> {
    prop::sample::select(vec![Otherwise::Continue, Otherwise::Deny])
}

fn denial() -> impl Strategy<Value = Denial> {
    prop::sample::select(vec![Denial::Reject, Denial::Drop, Denial::Audit])
}

fn policy(direction: Direction) -> impl Strategy<Value = PolicyLayer> {
    let names = ["admin", "network", "default"];
    (prop::collection::vec((prop::collection::vec(run(), 0..4), otherwise()), 0..=3), denial()).prop_map(
        move |(tiers, denial)| {
            let mut count = 0;
            let mut tiers: Vec<Tier> = tiers
                .into_iter()
                .zip(names)
                .map(|((runs, otherwise), name)| Tier { name, runs, otherwise, origin: format!("tier {name}") })
                .collect();
            for group in tiers.iter_mut().flat_map(|tier| &mut tier.runs).flat_map(|run| &mut run.groups) {
                count += 1;
                group.set = format!("{direction}_network_{count}");
            }
            PolicyLayer { direction, denial, tiers }
        },
    )
}

fn layers(direction: Direction) -> impl Strategy<Value = Vec<Layer>> {
    let of = move |name: &'static str| {
        let exceptions = prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(entry(), 1..3)];
        let parts = (exceptions, prop::collection::vec(entry(), 0..4), otherwise(), denial());
        parts.prop_map(move |(exceptions, entries, otherwise, denial)| {
            let origin = format!("list {name}");
            Layer { name, direction, otherwise, denial, exceptions, entries, origin }
        })
    };
    let always = of("always").prop_map(|mut layer| {
        layer.otherwise = Otherwise::Continue;
        layer.entries.iter_mut().for_each(|entry| entry.deny = true);
        layer
    });
    (prop::option::of(always), prop::option::of(of("baseline")), prop::option::of(of("annotation")))
        .prop_map(|(always, baseline, annotation)| always.into_iter().chain(baseline).chain(annotation).collect())
}

fn packet(direction: Direction) -> impl Strategy<Value = Packet> {
    let payload = prop_oneof![
        8 => (transport(), 0u16..16).prop_map(|(protocol, port)| Payload::Transport { protocol, port }),
        1 => Just(Payload::Icmp { kind: 128 }),
        1 => Just(Payload::Icmp { kind: 8 }),
        1 => Just(Payload::Other(47)),
    ];
    (address(), payload).prop_map(move |(peer, payload)| Packet { direction, peer, payload })
}

fn direction() -> impl Strategy<Value = Direction> {
    prop::sample::select(Direction::BOTH.to_vec())
}

fn table(filter: &Filter) -> Table {
    build(filter, String::new()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_table_decides_what_its_policies_and_lists_say(
        (policy, other, layers, packets) in direction().prop_flat_map(|d| {
            let other = prop::option::weighted(0.2, policy(if d == Direction::Egress { Direction::Ingress } else { Direction::Egress }));
            (policy(d), other, layers(d), prop::collection::vec(packet(d), 40))
        }),
        v6_off in prop::bool::weighted(0.1),
    ) {
        let ipv6 = if v6_off { Ipv6Traffic::Dropped } else { Ipv6Traffic::Filtered };
        let policies = [policy.clone()].into_iter().chain(other).collect();
        let table = table(&Filter { ipv6, router_advertisements: false, layers: layers.clone(), policies });
        for packet in packets {
            let specified = (policy.denial == Denial::Audit || policy_lets(&policy, &packet))
                && layers.iter().all(|layer| layer.denial == Denial::Audit || layer_lets(layer, &packet))
                && !(v6_off && packet.peer.is_ipv6());
            let decided = table.decide(&packet);
            prop_assert_eq!(decided.outcome.passes(), specified, "{:?}: {:?}\n{}", packet, decided.rule, table);
        }
    }

    #[test]
    fn what_a_policy_denies_in_audit_is_what_it_denies_in_earnest(
        (policy, packets) in direction().prop_flat_map(|d| (policy(d), prop::collection::vec(packet(d), 20))),
    ) {
        let chain = format!("{}_policy_audit", policy.direction);
        let table = table(&tiers::filter(vec![PolicyLayer { denial: Denial::Audit, ..policy.clone() }]));
        // The same table, but whoever comes to remember a packet drops it.
        let mut caught = table.clone();
        for rule in caught.chains.iter_mut().filter(|c| c.name == chain).flat_map(|c| &mut c.rules) {
            rule.verdict = Some(Verdict::Drop);
        }
        for packet in packets {
            prop_assert!(table.decide(&packet).outcome.passes(), "audit drops nothing\n{}", table);
            prop_assert_eq!(caught.decide(&packet).outcome.passes(), policy_lets(&policy, &packet), "{:?}\n{}", packet, table);
        }
    }

    #[test]
    fn who_comes_and_goes_changes_neither_rules_nor_digest(policy in policy(Direction::Ingress)) {
        let full = table(&tiers::filter(vec![policy.clone()]));
        let mut alone = policy;
        for group in alone.tiers.iter_mut().flat_map(|tier| &mut tier.runs).flat_map(|run| &mut run.groups) {
            group.members.clear();
        }
        let empty = table(&tiers::filter(vec![alone]));
        prop_assert_eq!(full.digest(), empty.digest());
        prop_assert_eq!(&full.chains, &empty.chains);
        let mut emptied = full;
        emptied.sets.iter_mut().filter(|set| set.kind == Kind::Members).for_each(|set| set.spans.clear());
        prop_assert_eq!(emptied, empty);
    }

    #[test]
    fn a_set_is_searched_as_if_it_were_read_from_end_to_end(
        (policy, values) in (policy(Direction::Egress), prop::collection::vec((0u128..40, prop::sample::select(vec![6u128, 17, 132]), 0u128..14), 40)),
    ) {
        for set in &table(&tiers::filter(vec![policy])).sets {
            for (low, protocol, port) in &values {
                let base = if set.name.ends_with('6') || set.name.ends_with("v6") { V6 } else { V4 };
                let values: Vec<u128> = match set.key.len() {
                    1 if set.key[0].width() < 4 => vec![*port],
                    1 => vec![base + low],
                    2 => vec![base + low, *port],
                    _ => vec![base + low, *protocol, *port],
                };
                let read = set.elements().any(|e| e.iter().zip(&values).all(|(s, v)| s.first <= *v && *v <= s.last));
                prop_assert_eq!(set.contains(&values), read, "{:?} in {:?}", values, set);
            }
        }
    }
}

// --- Their shape ----------------------------------------------------------------------------------------------------

fn chain(table: &Table, name: &str) -> Vec<String> {
    let chain = table.chains.iter().find(|chain| chain.name == name).unwrap_or_else(|| panic!("no {name} in\n{table}"));
    chain.rules.iter().map(ToString::to_string).collect()
}

#[test]
fn tiers_are_chains_that_lead_to_each_other_and_an_empty_one_is_left_out() {
    use tiers::{TCP, entry, group, policy, ports, run, tier};
    let admin = vec![
        run(Ruling::Pass, vec![entry(Service::Everything, &["10.1.0.0/16"])], vec![]),
        run(Ruling::Deny, vec![], vec![group("egress_admin_1", Some(ports(TCP, 80, 81)), &["10.0.0.1"])]),
    ];
    let network = vec![run(Ruling::Accept, vec![], vec![group("egress_network_1", None, &["10.0.0.2 tcp/80"])])];
    let tiers = vec![
        tier("admin", admin, Otherwise::Continue),
        tier("nothing", vec![run(Ruling::Deny, vec![], vec![])], Otherwise::Continue),
        tier("network", network, Otherwise::Deny),
        tier(
            "default",
            vec![run(Ruling::Deny, vec![entry(Service::Icmp, &["0.0.0.0/0", "::/0"])], vec![])],
            Otherwise::Continue,
        ),
    ];
    let table = table(&tiers::filter(vec![policy(Direction::Egress, Denial::Drop, tiers)]));
    assert_eq!(chain(&table, "egress"), ["jump egress_admin comment \"policies\""]);
    assert_eq!(
        chain(&table, "egress_admin"),
        [
            "ip daddr 10.1.0.0/16 counter goto egress_network comment \"policy of 10.1.0.0/16\"",
            "meta l4proto 6 th dport 80-81 ip daddr @egress_admin_1_v4 counter goto egress_drop comment \"policy of egress_admin_1\"",
            "meta l4proto 6 th dport 80-81 ip6 daddr @egress_admin_1_v6 counter goto egress_drop comment \"policy of egress_admin_1\"",
            "goto egress_network comment \"admin policies\"",
        ]
    );
    assert_eq!(
        chain(&table, "egress_network"),
        [
            "ip daddr . meta l4proto . th dport @egress_network_1_v4 counter return comment \"policy of egress_network_1\"",
            "ip6 daddr . meta l4proto . th dport @egress_network_1_v6 counter return comment \"policy of egress_network_1\"",
            "counter goto egress_drop comment \"network policies: nothing accepts it\"",
        ]
    );
    assert_eq!(
        chain(&table, "egress_default"),
        [
            "meta nfproto ipv4 meta l4proto 1 counter goto egress_drop comment \"policy of 0.0.0.0/0 ::/0\"",
            "meta nfproto ipv6 meta l4proto 58 counter goto egress_drop comment \"policy of 0.0.0.0/0 ::/0\"",
        ]
    );
    // Those of what was denied come last.
    let sets: Vec<(&str, usize)> = table.sets.iter().map(|set| (set.name.as_str(), set.len())).take(4).collect();
    let expected =
        [("egress_admin_1_v4", 1), ("egress_admin_1_v6", 0), ("egress_network_1_v4", 1), ("egress_network_1_v6", 0)];
    assert_eq!(sets, expected);
}

#[test]
fn policies_stand_behind_what_is_always_denied_and_before_the_lists() {
    use tiers::{entry, policy, run, tier};
    let layer = |name, otherwise, deny| Layer {
        name,
        direction: Direction::Egress,
        otherwise,
        denial: Denial::Reject,
        exceptions: Vec::new(),
        entries: vec![Entry { deny, ..entry(Service::Everything, &["10.9.0.0/16"]) }],
        origin: format!("list {name}"),
    };
    let always = || layer("always", Otherwise::Continue, true);
    let network = vec![run(Ruling::Accept, vec![entry(Service::Everything, &["10.0.0.0/8"])], vec![])];
    let tiers = vec![tier("network", network, Otherwise::Deny)];
    let with = |layers| {
        let policies = vec![policy(Direction::Egress, Denial::Drop, tiers.clone())];
        chain(&table(&Filter { layers, ..tiers::filter(policies) }), "egress")
    };
    let denied = "ip daddr 10.9.0.0/16 counter goto egress_reject comment \"policy of 10.9.0.0/16\"";
    let policies = "jump egress_network comment \"policies\"";
    assert_eq!(with(vec![always()]), [denied, policies]);
    let lists = vec![always(), layer("baseline", Otherwise::Deny, false), layer("annotation", Otherwise::Deny, false)];
    assert_eq!(
        with(lists),
        [
            denied,
            policies,
            "jump egress_baseline comment \"list baseline\"",
            "ip daddr 10.9.0.0/16 counter return comment \"policy of 10.9.0.0/16\"",
            "counter goto egress_reject comment \"list annotation: no entry allows it\"",
        ]
    );
}

#[test]
fn tcp_that_begins_in_the_middle_is_dropped_where_policies_are_enforced_and_only_there() {
    use tiers::{policy, tier};
    let rule = "ct state == new tcp flags & (fin | syn | rst | ack) != syn counter drop comment \"TCP that begins in the middle\"";
    let of = |policies| table(&tiers::filter(policies));
    let isolated = |denial| vec![policy(Direction::Ingress, denial, vec![tier("network", vec![], Otherwise::Deny)])];
    let where_ = |table: &Table| -> Vec<String> {
        let has = |name: &&String| chain(table, name).iter().any(|text| text == rule);
        table.chains.iter().map(|chain| chain.name.clone()).collect::<Vec<_>>().iter().filter(has).cloned().collect()
    };
    // What no layer judges asks no chain for the state of a flow, so it asks itself.
    assert_eq!(where_(&of(isolated(Denial::Drop))), ["output", "tracked"]);
    assert_eq!(chain(&of(isolated(Denial::Drop)), "tracked").last().unwrap(), rule);
    assert_eq!(where_(&of(isolated(Denial::Audit))), [""; 0], "audit drops nothing");
    let nothing = vec![policy(Direction::Ingress, Denial::Drop, vec![tier("network", vec![], Otherwise::Continue)])];
    assert_eq!(of(nothing), of(vec![]), "a layer that decides nothing is none");
}

#[test]
fn what_nobody_can_reach_has_its_sets_but_no_rules() {
    use tiers::{entry, group, policy, run, tier};
    let everyone = entry(Service::Everything, &["0.0.0.0/0", "::/0"]);
    let runs = vec![
        run(Ruling::Accept, vec![everyone], vec![group("a", None, &[])]),
        run(Ruling::Deny, vec![], vec![group("b", Some(Service::Everything), &["fd00::1"])]),
    ];
    let policies = vec![policy(Direction::Egress, Denial::Drop, vec![tier("network", runs, Otherwise::Deny)])];
    let table = table(&tiers::filter(policies));
    assert_eq!(chain(&table, "egress_network"), ["counter return comment \"policy of 0.0.0.0/0 ::/0\""]);
    let sets: Vec<&str> = table.sets.iter().map(|set| set.name.as_str()).collect();
    assert_eq!(sets, ["a_v4", "a_v6", "b_v4", "b_v6"]);
}

#[test]
fn a_member_of_another_kind_than_its_group_is_an_error() {
    use tiers::{group, policy, run, tier};
    for bad in [group("a", None, &["10.0.0.1"]), group("a", Some(Service::Everything), &["10.0.0.1 tcp/80"])] {
        let runs = vec![run(Ruling::Deny, vec![], vec![bad])];
        let policies = vec![policy(Direction::Egress, Denial::Drop, vec![tier("network", runs, Otherwise::Deny)])];
        assert!(build(&tiers::filter(policies), String::new()).is_err());
    }
}
