//! The specification of Kubernetes policy against what is compiled from it: the same verdict on every packet of random
//! worlds, by `policy::verdict`'s plain reading and by the ruleset's evaluator.

#[path = "policy/random.rs"]
mod random;

use std::net::IpAddr;

use netlatch::net::{Direction, Packet, Payload, Transport};
use netlatch::oci::Requests;
use netlatch::plan::{Cluster, Facts, Rules, rules};
use netlatch::policy::lookup::World;
use netlatch::policy::model::{Policies, Port};
use netlatch::policy::verdict::Judge;
use netlatch::policy::watch::{Holder, Holders};
use netlatch::policy::world::{EndpointSlice, Inventory, Pod};
use netlatch::settings::{Config, Settings};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use random::{addresses, in_v6, inventory, inventory_in_v6, payloads, policies, policies_in_v6};

/// SCTP in the place of UDP.
fn with_sctp(transport: &mut Transport) {
    if *transport == Transport::Udp {
        *transport = Transport::Sctp;
    }
}

/// Everybody in both families; network policies and those of tiers in one each.
fn in_both(policies: &Policies, inventory: &Inventory, [network, cluster]: [bool; 2]) -> (Policies, Inventory) {
    let v6 = policies_in_v6(policies);
    let policies = Policies {
        network: if network { v6.network } else { policies.network.clone() },
        cluster: if cluster { v6.cluster } else { policies.cluster.clone() },
    };
    let (mut both, v6) = (inventory.clone(), inventory_in_v6(inventory));
    both.pods.iter_mut().zip(v6.pods).for_each(|(pod, v6)| pod.addresses.extend(v6.addresses));
    both.nodes.iter_mut().zip(v6.nodes).for_each(|(node, v6)| node.addresses.extend(v6.addresses));
    both.services.iter_mut().zip(v6.services).for_each(|(service, v6)| service.addresses.extend(v6.addresses));
    (policies, both)
}

fn speak_sctp(policies: &mut Policies, inventory: &mut Inventory) {
    let network = policies.network.iter_mut().flat_map(|policy| [&mut policy.ingress, &mut policy.egress]).flatten();
    let cluster = policies.cluster.iter_mut().flat_map(|policy| [&mut policy.ingress, &mut policy.egress]);
    for port in network.chain(cluster).flatten().flat_map(|rule| &mut rule.ports) {
        match port {
            Port::Number { transport, .. } => with_sctp(transport),
            Port::Named { transport, .. } => transport.iter_mut().for_each(with_sctp),
        }
    }
    inventory.pods.iter_mut().flat_map(|pod| &mut pod.ports).for_each(|port| with_sctp(&mut port.protocol));
}

/// The second and third pod behind the service, whatever it selects.
fn by_slices(inventory: &mut Inventory) {
    let service = &inventory.services[0];
    let slice = |family: usize| EndpointSlice {
        namespace: service.namespace.clone(),
        service: service.name.clone(),
        addresses: [1, 2].map(|pod: usize| inventory.pods[pod].addresses[family]).into(),
        ports: vec![(String::new(), Transport::Tcp, 80)],
        origin: service.origin.clone(),
    };
    inventory.slices = [0, 1].map(slice).into();
}

fn compiled(policies: &Policies, world: &World, subject: &Pod) -> Rules {
    let config = Config::parse("c.yaml", b"always-denied: []\n").unwrap();
    let settings = Settings::decide(Some(config), Requests::default()).unwrap();
    let inventory = world.inventory();
    let identity = subject.identity(inventory.namespace_labels(&subject.namespace));
    let peers = inventory.peers();
    let pods = Holders::new(peers.iter().map(|(identity, addresses)| Holder { identity, addresses }));
    // To a container of this host, this host is its node, and so is whoever is on its network.
    let node: Vec<IpAddr> = subject.node.iter().flat_map(|node| world.addresses_of_node(node)).collect();
    let cluster = Cluster { policies, identity: &identity, pods: &pods, nodes: &inventory.nodes, world, subject };
    rules(&settings, &Facts { node, ..Facts::default() }, Some(&cluster)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn the_compiled_rules_do_what_the_specification_says(
        policies in policies(),
        inventory in inventory(),
        v6 in any::<[bool; 2]>(),
        [sctp, slices] in any::<[bool; 2]>(),
        packets in prop::collection::vec((select(Direction::BOTH.to_vec()), any::<Index>(), any::<bool>(), any::<Index>()), 40),
    ) {
        let (mut policies, mut inventory) = in_both(&policies, &inventory, v6);
        if sctp {
            speak_sctp(&mut policies, &mut inventory);
        }
        if slices {
            by_slices(&mut inventory);
        }
        let world = World::new(inventory);
        let judge = Judge::new(&policies, &world);
        let subject = &world.inventory().pods[0];
        let rules = compiled(&policies, &world, subject);
        for (direction, address, v6, payload) in packets {
            let address = *address.get(&addresses());
            let peer = if v6 { in_v6(address) } else { address };
            let mut payload = *payload.get(&payloads());
            if let (Payload::Transport { protocol, .. }, true) = (&mut payload, sctp) {
                with_sctp(protocol);
            }
            if subject.addresses.contains(&peer) {
                continue;
            }
            let packet = Packet { direction, peer, payload };
            let specified = judge.packet(direction, subject, peer, payload);
            let decided = rules.table.as_ref().is_none_or(|table| table.decide(&packet).outcome.passes());
            let table = rules.table.as_ref().map(ToString::to_string);
            prop_assert_eq!(specified, decided, "{:?}\n{:?}\n{}", packet, policies, table.unwrap_or_default());
        }
    }
}
