//! Laws that hold for every set of policies, every world and every flow, by the specification.

#[path = "policy/random.rs"]
mod random;

use std::collections::BTreeSet;

use netlatch::net::{Direction, Payload, Transport};
use netlatch::policy::lookup::{End, World};
use netlatch::policy::model::*;
use netlatch::policy::reach::{Members, Spoken, reach};
use netlatch::policy::verdict::Judge;
use netlatch::policy::world::Pod;
use proptest::prelude::*;
use random::{addresses, in_v6, inventory, inventory_in_v6, network_policy, payloads, policies, policies_in_v6};

/// Every pod, by name, and every address.
fn ends(world: &World) -> Vec<End<'_>> {
    let pods = world.inventory().pods.iter().map(|pod| world.end_of(pod));
    pods.chain(addresses().into_iter().map(|address| world.end_at(address))).collect()
}

/// Both halves of every flow there can be.
fn all_halves(policies: &Policies, world: &World) -> Vec<(bool, bool)> {
    let judge = Judge::new(policies, world);
    let ends = ends(world);
    let mut halves = Vec::new();
    for from in &ends {
        for to in &ends {
            halves.extend(payloads().into_iter().map(|payload| {
                let answer = judge.flow(from, to, payload);
                (answer.egress, answer.ingress)
            }));
        }
    }
    halves
}

fn reversed(rule: &Rule) -> Rule {
    let mut rule = rule.clone();
    rule.peers.reverse();
    rule.ports.reverse();
    rule
}

/// Every list whose order means nothing, the other way round: network policies, their rules, and the peers and ports of
/// all rules.
fn turned_round(policies: &Policies) -> Policies {
    let mut turned = policies.clone();
    turned.network.reverse();
    for policy in &mut turned.network {
        for rules in [&mut policy.ingress, &mut policy.egress].into_iter().flatten() {
            *rules = rules.iter().rev().map(reversed).collect();
        }
    }
    for policy in &mut turned.cluster {
        for rules in [&mut policy.ingress, &mut policy.egress] {
            *rules = rules.iter().map(reversed).collect();
        }
    }
    turned
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_order_of_policies_and_of_what_is_in_them_never_matters(policies in policies(), inventory in inventory()) {
        let world = World::new(inventory);
        prop_assert_eq!(all_halves(&policies, &world), all_halves(&turned_round(&policies), &world));
    }

    #[test]
    fn one_more_network_policy_only_adds_to_what_an_isolated_pod_may(
        policies in policies(),
        inventory in inventory(),
        more in network_policy(),
    ) {
        let world = World::new(inventory);
        let mut with_more = policies.clone();
        with_more.network.push(more);
        let (before, after) = (Judge::new(&policies, &world), Judge::new(&with_more, &world));
        for direction in Direction::BOTH {
            for subject in &world.inventory().pods {
                if before.governing(direction, subject).network.is_empty() {
                    continue;
                }
                for (address, payload) in addresses().into_iter().flat_map(|a| payloads().into_iter().map(move |p| (a, p))) {
                    let had = before.packet(direction, subject, address, payload);
                    prop_assert!(!had || after.packet(direction, subject, address, payload), "{direction} {subject} {address} {payload:?}");
                }
            }
        }
    }

    #[test]
    fn both_families_are_treated_alike(policies in policies(), inventory in inventory()) {
        let (v4, v6) = (World::new(inventory.clone()), World::new(inventory_in_v6(&inventory)));
        let other = policies_in_v6(&policies);
        let (judge4, judge6) = (Judge::new(&policies, &v4), Judge::new(&other, &v6));
        for direction in Direction::BOTH {
            for (here, there) in v4.inventory().pods.iter().zip(&v6.inventory().pods) {
                for address in addresses() {
                    for payload in payloads() {
                        prop_assert_eq!(
                            judge4.packet(direction, here, address, payload),
                            judge6.packet(direction, there, in_v6(address), payload),
                            "{} {} {} {:?}", direction, here, address, payload
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_denied_flow_stays_denied_when_the_first_rule_asked_denies_everything(
        policies in policies(),
        inventory in inventory(),
    ) {
        let world = World::new(inventory);
        let everyone = Peer { who: Who::Block { cidr: "0.0.0.0/0".parse().unwrap(), except: Vec::new() }, origin: netlatch::net::Origin::Builtin("test") };
        let rule = Rule { action: Action::Deny, peers: vec![everyone.clone()], ports: Vec::new(), name: None, origin: everyone.origin.clone() };
        let first = ClusterPolicy {
            kind: "ClusterNetworkPolicy",
            name: "first".to_owned(),
            tier: Tier::Admin,
            priority: 0,
            subject: Subject::Namespaces(Selector::default()),
            ingress: vec![rule.clone()],
            egress: vec![rule],
            origin: everyone.origin,
        };
        let mut closed = policies;
        closed.cluster.insert(0, first);
        let judge = Judge::new(&closed, &world);
        for subject in world.inventory().pods.iter().filter(|pod| !pod.host_network) {
            let others = addresses().into_iter().filter(|address| address.is_ipv4() && !subject.addresses.contains(address));
            for address in others {
                for payload in payloads() {
                    prop_assert!(Direction::BOTH.iter().all(|direction| !judge.packet(*direction, subject, address, payload)));
                }
            }
        }
    }

    #[test]
    fn tables_say_of_every_pair_what_a_probe_says(policies in policies(), inventory in inventory()) {
        // Tables leave the own node out. Some pods have both families, and the blocks of tiers are IPv6.
        let mut inventory = inventory;
        inventory.pods.iter_mut().for_each(|pod| pod.node = None);
        for pod in inventory.pods.iter_mut().step_by(2) {
            let second: Vec<_> = pod.addresses.iter().map(|address| in_v6(*address)).collect();
            pod.addresses.extend(second);
        }
        // And one has no other address than one that says of nobody who he is.
        inventory.pods[3].addresses = vec!["fe80::4".parse().unwrap()];
        let policies = Policies { cluster: policies_in_v6(&policies).cluster, ..policies };
        let world = World::new(inventory);
        let judge = Judge::new(&policies, &world);
        let reach = reach(&policies, &judge, &world, &BTreeSet::new()).unwrap();
        let line = |pod: &Pod| {
            let is_in = |end: &Members<'_>| matches!(end, Members::Pods(pods) if pods.iter().any(|known| known.is(pod)));
            reach.ends.iter().position(is_in).expect("every pod has a line")
        };
        for payload in payloads() {
            let speaks = |spoken: &Spoken| match (*spoken, payload) {
                (Spoken::Ports(transport, ports), Payload::Transport { protocol, port }) => {
                    transport == protocol && ports.contains(port)
                }
                (Spoken::OtherPorts(transport), Payload::Transport { protocol, port }) => {
                    let shown = |spoken: &Spoken| matches!(spoken, Spoken::Ports(known, ports) if *known == protocol && ports.contains(port));
                    transport == protocol && !reach.tables.iter().any(|table| table.spoken.iter().any(shown))
                }
                (Spoken::Portless, Payload::Icmp { .. } | Payload::Other(_)) => true,
                (Spoken::Ports(..) | Spoken::OtherPorts(_) | Spoken::Portless, _) => false,
            };
            let tables: Vec<_> = reach.tables.iter().filter(|table| table.spoken.iter().any(speaks)).collect();
            prop_assert_eq!(tables.len(), 1, "{:?}", payload);
            for from in &world.inventory().pods {
                for to in world.inventory().pods.iter().filter(|to| !to.is(from)) {
                    let probe = judge.flow(&world.end_of(from), &world.end_of(to), payload).allowed();
                    prop_assert_eq!(tables[0].reaches.is_set(line(from), line(to)), probe, "{} {} {:?}", from, to, payload);
                }
            }
        }
        prop_assert!(reach.tables.iter().any(|table| table.spoken.contains(&Spoken::OtherPorts(Transport::Sctp))));
    }
}
