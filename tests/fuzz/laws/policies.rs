//! Manifests: policies and what their selectors speak of. The input is the content of one file.

use std::net::IpAddr;

use netlatch::net::{Direction, Origin, Packet, Payload, PortRange, Transport};
use netlatch::oci::{Requests, State};
use netlatch::plan::{Cluster, Facts, plan};
use netlatch::policy::lookup::World;
use netlatch::policy::model::{Labels, Policies, Port, Rule};
use netlatch::policy::parse::{Collector, MAX_OBJECTS, MAX_POLICIES, Manifests};
use netlatch::policy::reach::reach;
use netlatch::policy::verdict::Judge;
use netlatch::policy::watch::{Holder, Holders};
use netlatch::policy::world::Pod;
use netlatch::settings::{Config, Settings};

/// Pods that a plan is made for, addresses and payloads that are asked about.
const PODS: usize = 3;
const ADDRESSES: usize = 8;
const PAYLOADS: usize = 6;

/// What is accepted is planned for each of the first pods and for a container of nobody's; the ruleset does what the
/// specification says, and who can reach whom can be told.
pub(crate) fn holds(bytes: &[u8]) {
    let mut collector = Collector::new();
    collector.read("p.yaml", bytes);
    let outcome = collector.finish();
    super::assert_findings(&outcome.errors);
    outcome.warnings.iter().for_each(|warning| super::assert_line(&warning.to_string()));
    assert_eq!(outcome.manifests.is_some(), outcome.errors.is_empty());
    let Some(manifests) = outcome.manifests else { return };
    let Manifests { policies, inventory, declared } = &manifests;
    assert!(policies.network.len() + policies.cluster.len() <= MAX_POLICIES && inventory.pods.len() <= MAX_OBJECTS);
    let world = World::new(inventory.clone());
    let judge = Judge::new(policies, &world);
    let nobody = nobody();
    let own = inventory.pods.iter().filter(|pod| !pod.host_network).take(PODS);
    for subject in own.chain([&nobody]) {
        assert_compiled(policies, &world, &judge, subject);
    }
    if inventory.pods.len() <= 8 && policies.network.len() + policies.cluster.len() <= 8 {
        let reach = reach(policies, &judge, &world, declared).expect("few answers");
        assert!(inventory.pods.is_empty() || !reach.ends.is_empty());
    }
}

/// A container that no manifest tells of.
fn nobody() -> Pod {
    Pod {
        namespace: "default".into(),
        name: "nobody".into(),
        labels: Labels::new(),
        addresses: vec!["10.255.0.1".parse().expect("an address")],
        ports: Vec::new(),
        host_network: false,
        node: None,
        origin: Origin::Builtin("test"),
    }
}

fn assert_compiled(policies: &Policies, world: &World, judge: &Judge<'_>, subject: &Pod) {
    let config = Config::parse("c.yaml", b"always-denied: []\n").expect("a configuration");
    let settings = Settings::decide(Some(config), Requests::default()).expect("settings");
    let inventory = world.inventory();
    let identity = subject.identity(world.namespace_labels(&subject.namespace).into_owned());
    let peers = inventory.peers();
    let pods = Holders::new(peers.iter().map(|(identity, addresses)| Holder { identity, addresses }));
    let node: Vec<IpAddr> = subject.node.iter().flat_map(|node| world.addresses_of_node(node)).collect();
    let cluster = Cluster { policies, identity: &identity, pods: &pods, nodes: &inventory.nodes, world, subject };
    let state = State::parse(br#"{"ociVersion":"1.0","id":"c","pid":5}"#).expect("a state");
    let plan = match plan(&state, None, &settings, &Facts { node, ..Facts::default() }, Some(&cluster)) {
        Ok(plan) => plan,
        Err(failure) => return super::assert_failure(&failure, &[16, 41]),
    };
    super::assert_plan(&plan);
    for packet in packets(policies, world, subject) {
        let specified = judge.packet(packet.direction, subject, packet.peer, packet.payload);
        let decided = plan.table().is_none_or(|table| table.decide(&packet).outcome.passes());
        let table = plan.table().map(ToString::to_string);
        assert_eq!(specified, decided, "{packet:?} at {subject:?}\n{}", table.unwrap_or_default());
    }
}

/// Packets to and from who is spoken of, over the ports that are.
fn packets(policies: &Policies, world: &World, subject: &Pod) -> Vec<Packet> {
    let inventory = world.inventory();
    let mut addresses: Vec<IpAddr> = inventory.pods.iter().flat_map(|pod| &pod.addresses).copied().collect();
    addresses.extend(inventory.nodes.iter().flat_map(|node| &node.addresses));
    addresses.extend(inventory.services.iter().flat_map(|service| &service.addresses));
    addresses.extend(["8.8.8.8", "2606:4700::1"].map(|text| text.parse::<IpAddr>().expect("an address")));
    // Its own it reaches over loopback; those of one link are no peer's.
    addresses.retain(|address| !subject.addresses.contains(address));
    addresses.truncate(ADDRESSES);
    let rules = policies.network.iter().flat_map(|policy| Direction::BOTH.map(|direction| policy.rules(direction)));
    let rules = rules
        .flatten()
        .chain(policies.cluster.iter().flat_map(|policy| Direction::BOTH.map(|direction| policy.rules(direction))));
    let mut payloads = vec![Payload::Transport { protocol: Transport::Tcp, port: 80 }];
    payloads.extend(rules.flatten().flat_map(|rule: &Rule| &rule.ports).filter_map(|port| match port {
        Port::Number { transport, ports } => {
            Some(Payload::Transport { protocol: *transport, port: PortRange::first(*ports) })
        }
        Port::Named { .. } => None,
    }));
    payloads.truncate(PAYLOADS);
    payloads.extend([Payload::Icmp { kind: 8 }, Payload::Other(47)]);
    let mut packets = Vec::new();
    for peer in addresses {
        for payload in &payloads {
            packets.extend(Direction::BOTH.map(|direction| Packet { direction, peer, payload: *payload }));
        }
    }
    packets
}
