//! Laws of `explain` on random worlds: its verdict is the specification's, the ruleset never contradicts it, and what it
//! says is missing is missing.

#[path = "policy/random.rs"]
mod random;

use std::collections::BTreeMap;
use std::net::IpAddr;

use netlatch::explain::{Container, flow};
use netlatch::net::{Direction, Packet};
use netlatch::oci::{Mode, Requests};
use netlatch::plan::{Cluster, Facts, rules};
use netlatch::policy::lookup::{End, World};
use netlatch::policy::model::{Action, Policies};
use netlatch::policy::verdict::{Flow, Judge, Peer};
use netlatch::policy::watch::{Holder, Holders};
use netlatch::settings::{Config, Settings};
use netlatch::sysctl::Ipv6;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use random::{addresses, inventory, payloads, policies};

fn list() -> impl Strategy<Value = String> {
    let entries = [
        "*",
        "*:80",
        "10.0.0.0/29",
        "10.0.0.2",
        "tcp/10.0.0.0/8:80-82",
        "icmp/*",
        "@host",
        "@metadata",
        "169.254.169.254:80",
        "udp/169.254.169.254",
        "!10.0.0.3",
        "!udp/*",
    ];
    prop_oneof![
        1 => Just("none".to_owned()),
        6 => subsequence(entries.to_vec(), 1..5)
            .prop_filter("denies only", |entries| entries.iter().any(|entry| !entry.starts_with('!')))
            .prop_map(|entries| entries.join(", ")),
    ]
}

fn config() -> impl Strategy<Value = String> {
    let word = |words: &[&'static str]| prop::option::of(select(words.to_vec()));
    let list = || prop::option::of(list());
    let groups = prop::option::of(subsequence(vec!["metadata", "private", "host"], 0..3));
    let fields = (
        list(),
        list(),
        word(&["leave", "disable", "loopback-only"]),
        word(&["enforce", "audit"]),
        groups,
        any::<bool>(),
    );
    fields.prop_map(|(egress, ingress, ipv6, mode, groups, icmp)| {
        let quoted = [
            ("egress", egress),
            ("ingress", ingress),
            ("ipv6", ipv6.map(str::to_owned)),
            ("mode", mode.map(str::to_owned)),
        ];
        let lines = quoted.into_iter().filter_map(|(key, value)| Some(format!("{key}: \"{}\"\n", value?)));
        let icmp = icmp.then(|| "policy-icmp: accept\n".to_owned());
        let groups = groups.map(|groups| format!("always-denied: [{}]\n", groups.join(",")));
        lines.chain(icmp).chain(groups).collect()
    })
}

fn annotations() -> impl Strategy<Value = BTreeMap<String, String>> {
    let mode = prop::option::of(select(vec!["enforce", "audit"]));
    (prop::option::of(list()), prop::option::of(list()), mode).prop_map(|(egress, ingress, mode)| {
        let all = [("egress", egress), ("ingress", ingress), ("mode", mode.map(str::to_owned))];
        all.into_iter().filter_map(|(key, value)| Some((format!("io.netlatch.{key}"), value?))).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_verdict_is_the_specifications_and_the_ruleset_agrees(
        policies in policies(),
        inventory in inventory(),
        packets in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<prop::sample::Index>()), 30),
    ) {
        let world = World::new(inventory);
        let judge = Judge::new(&policies, &world);
        let pods = world.inventory().pods.iter().map(|pod| world.end_of(pod));
        let ends: Vec<End<'_>> = pods.chain(addresses().into_iter().map(|address| world.end_at(address))).collect();
        for (from, to, payload) in packets {
            let (from, to, payload) = (from.get(&ends), to.get(&ends), *payload.get(&payloads()));
            let answer = judge.flow(from, to, payload);
            let explanation = flow(&policies, &world, from, to, payload);
            prop_assert_eq!(explanation.allowed, answer.allowed());
            prop_assert_eq!((explanation.egress, explanation.ingress), (Some(answer.egress), Some(answer.ingress)));
            prop_assert_eq!(explanation.contradiction(), None, "{}\n{:?}", explanation.to_json(), policies);
            prop_assert!(!explanation.halves.is_empty());
        }
    }

    #[test]
    fn a_near_miss_misses_and_would_have_helped(
        policies in policies(),
        inventory in inventory(),
        direction in select(Direction::BOTH.to_vec()),
        pairs in prop::collection::vec((0..5usize, any::<prop::sample::Index>(), any::<prop::sample::Index>()), 30),
    ) {
        let world = World::new(inventory);
        let judge = Judge::new(&policies, &world);
        for (subject, address, payload) in pairs {
            let (subject, address) = (&world.inventory().pods[subject], *address.get(&addresses()));
            let peer = Peer { pod: world.pod_at(address), address: Some(address) };
            let payload = *payload.get(&payloads());
            let judgement = judge.decide(direction, subject, peer, payload);
            let misses = judge.nearest_misses(&judgement, direction, subject, peer, payload);
            prop_assert!(misses.is_empty() || !judgement.allowed());
            prop_assert!(misses.len() <= 3 && misses.is_sorted_by_key(|miss| miss.distance));
            let flow = Flow { world: &world, direction, subject, peer, payload };
            for miss in misses {
                prop_assert!(!miss.lacks.is_empty() && miss.rule.action != Action::Deny);
                prop_assert_eq!(flow.matches(miss.rule), !miss.governs, "{}", miss);
            }
        }
    }

    #[test]
    fn a_containers_own_verdict_is_that_of_lists_and_policies_and_the_ruleset_agrees(
        policies in policies(),
        inventory in inventory(),
        config in config(),
        annotations in annotations(),
    ) {
        let config = Config::parse("c.yaml", config.as_bytes()).expect("a configuration");
        let settings = Settings::decide(Some(config), Requests::parse(&annotations).expect("annotations"));
        let settings = settings.expect("settings");
        let world = World::new(inventory);
        let subject = &world.inventory().pods[0];
        let identity = subject.identity(world.inventory().namespace_labels(&subject.namespace));
        let peers = world.inventory().peers();
        let pods = Holders::new(peers.iter().map(|(identity, addresses)| Holder { identity, addresses }));
        let host: Vec<IpAddr> = subject.node.iter().flat_map(|node| world.addresses_of_node(node)).collect();
        let nodes = &world.inventory().nodes;
        let cluster =
            Cluster { policies: &policies, identity: &identity, pods: &pods, nodes, world: &world, subject };
        let facts = Facts { host: host.clone(), node: host.clone(), ..Facts::default() };
        let without = rules(&settings, &facts, None).expect("rules");
        let rules = rules(&settings, &facts, Some(&cluster)).expect("rules");
        let table = rules.table.as_ref();
        let container = Container { settings: &settings, policies: &policies, world: &world, subject, host: &host, table };
        let more = ["169.254.169.254", "fd00::1", "127.0.0.1"].map(|text| text.parse().expect("an address"));
        for peer in addresses().into_iter().chain(more).filter(|address| !subject.addresses.contains(address)) {
            for direction in Direction::BOTH {
                for payload in payloads() {
                    let explanation = container.explain(direction, peer, payload);
                    prop_assert_eq!(explanation.contradiction(), None, "{}\n{:?}\n{:?}", explanation.to_json(), policies, settings);
                    let packet = Packet { direction, peer, payload };
                    let enforced = settings.lists.iter().filter(|l| l.direction == direction && l.mode == Mode::Enforce);
                    let listed = enforced.map(|layer| &layer.list).all(|list| list.allows(&packet, &host));
                    prop_assert!(listed || !explanation.allowed || peer.is_loopback(), "{}", explanation.to_json());
                    let alone = Container { policies: &Policies::default(), table: without.table.as_ref(), ..container };
                    let alone = alone.explain(direction, peer, payload);
                    prop_assert_eq!(alone.contradiction(), None, "{}\n{:?}", alone.to_json(), settings);
                    let off = peer.is_ipv6() && !matches!(settings.ipv6.value, Ipv6::Leave | Ipv6::Enable);
                    let specified = settings.passes(&packet, &host) && !off;
                    prop_assert_eq!(alone.allowed, specified || peer.is_loopback(), "{}", alone.to_json());
                }
            }
        }
    }
}
