//! The specification of Kubernetes policy against what is compiled from it: the same verdict on every packet of random
//! worlds, by `policy::verdict`'s plain reading and by the ruleset's evaluator.

use std::net::IpAddr;

use proptest::prelude::*;

use netlatch::net::{Cidr, Direction, Origin, Packet, Payload, PortRange, Transport};
use netlatch::oci::Requests;
use netlatch::plan::{Cluster, Facts, Rules, rules};
use netlatch::policy::lookup::World;
use netlatch::policy::model::*;
use netlatch::policy::names::NamedPort;
use netlatch::policy::verdict::Judge;
use netlatch::policy::watch::{Holder, Holders};
use netlatch::policy::world::{EndpointSlice, Inventory, Namespace, Node, Pod, Service, ServicePort, TargetPort};
use netlatch::settings::{Config, Settings};

fn here() -> Origin {
    Origin::Builtin("test")
}

fn labels() -> impl Strategy<Value = Labels> {
    prop::collection::btree_map(
        prop::sample::select(vec!["app", "tier"]).prop_map(str::to_owned),
        prop::sample::select(vec!["a", "b"]).prop_map(str::to_owned),
        0..=2,
    )
}

fn selector() -> impl Strategy<Value = Selector> {
    let operator = prop::sample::select(vec![
        Operator::In,
        Operator::In,
        Operator::NotIn,
        Operator::Exists,
        Operator::DoesNotExist,
    ]);
    let requirement =
        (prop::sample::select(vec!["app", "tier"]), operator, prop::sample::subsequence(vec!["a", "b", "c"], 1..=2))
            .prop_map(|(key, operator, values)| Requirement {
                key: key.to_owned(),
                operator,
                values: match operator {
                    Operator::In | Operator::NotIn => values.into_iter().map(str::to_owned).collect(),
                    Operator::Exists | Operator::DoesNotExist => Vec::new(),
                },
            });
    prop::collection::vec(requirement, 0..=1).prop_map(|requirements| Selector { requirements })
}

const SPACES: [&str; 2] = ["x", "y"];
const NAMES: [&str; 2] = ["http", "dns"];

fn transport() -> impl Strategy<Value = Transport> {
    prop::sample::select(vec![Transport::Tcp, Transport::Tcp, Transport::Udp, Transport::Sctp])
}

fn port() -> impl Strategy<Value = Port> {
    let range = prop_oneof![
        (79u16..=82).prop_map(|p| PortRange::new(p, p).unwrap()),
        (79u16..=81).prop_map(|p| PortRange::new(p, p + 1).unwrap()),
        Just(PortRange::ALL),
    ];
    prop_oneof![
        3 => (transport(), range).prop_map(|(transport, ports)| Port::Number { transport, ports }),
        1 => (prop::option::of(transport()), prop::sample::select(NAMES.to_vec()))
            .prop_map(|(transport, name)| Port::Named { transport, name: name.to_owned() }),
    ]
}

fn cidr() -> impl Strategy<Value = Cidr> {
    prop::sample::select(vec![
        "0.0.0.0/0",
        "::/0",
        "10.0.0.0/29",
        "10.0.0.4/30",
        "10.0.0.2",
        "10.0.0.9",
        "fd00::/125",
        "fd00::4/126",
        "fd00::3",
    ])
    .prop_map(|text| text.parse().unwrap())
}

fn who(own: &'static str) -> impl Strategy<Value = Who> {
    let namespaces = prop_oneof![Just(Namespaces::Own(own.to_owned())), selector().prop_map(Namespaces::Selected),];
    prop_oneof![
        4 => (namespaces, selector()).prop_map(|(namespaces, pods)| Who::Pods { namespaces, pods }),
        2 => (cidr(), prop::collection::vec(cidr(), 0..=1)).prop_map(|(cidr, except)| {
            let except = except.into_iter().filter(|e| e.family() == cidr.family()).collect();
            Who::Block { cidr, except }
        }),
    ]
}

fn rule(own: &'static str, action: impl Strategy<Value = Action>, least: usize) -> impl Strategy<Value = Rule> {
    (action, prop::collection::vec(who(own), least..=2), prop::collection::vec(port(), 0..=2)).prop_map(
        |(action, peers, ports)| Rule {
            action,
            peers: peers.into_iter().map(|who| Peer { who, origin: here() }).collect(),
            ports,
            name: None,
            origin: here(),
        },
    )
}

fn network_policy() -> impl Strategy<Value = NetworkPolicy> {
    prop::sample::select(SPACES.to_vec()).prop_flat_map(|namespace| {
        let rules =
            || prop::option::weighted(0.7, prop::collection::vec(rule(namespace, Just(Action::Accept), 0), 0..=2));
        (selector(), rules(), rules()).prop_map(move |(pods, ingress, egress)| NetworkPolicy {
            namespace: namespace.to_owned(),
            name: "p".to_owned(),
            pods,
            ingress,
            egress,
            origin: here(),
        })
    })
}

fn cluster_policy() -> impl Strategy<Value = ClusterPolicy> {
    let action = || prop::sample::select(vec![Action::Accept, Action::Deny, Action::Pass]);
    let rules = || prop::collection::vec(rule("x", action(), 1), 0..=3);
    let subject = prop_oneof![
        selector().prop_map(Subject::Namespaces),
        (selector(), selector()).prop_map(|(namespaces, pods)| Subject::Pods { namespaces, pods }),
    ];
    let tier = prop::sample::select(vec![Tier::Admin, Tier::Baseline]);
    (tier, subject, rules(), rules()).prop_map(|(tier, subject, ingress, egress)| ClusterPolicy {
        kind: "ClusterNetworkPolicy",
        name: "c".to_owned(),
        tier,
        priority: 0,
        subject,
        ingress,
        egress,
        origin: here(),
    })
}

fn policies() -> impl Strategy<Value = Policies> {
    (prop::collection::vec(network_policy(), 0..=3), prop::collection::vec(cluster_policy(), 0..=3)).prop_map(
        |(network, mut cluster)| {
            for (priority, policy) in cluster.iter_mut().enumerate() {
                policy.priority = priority as u16;
            }
            cluster.sort_by_key(|policy| (policy.tier, policy.priority));
            Policies { network, cluster }
        },
    )
}

/// Six pods of two namespaces, both families each; the last may be on the host's network. A service in front of the
/// second and third.
fn inventory() -> impl Strategy<Value = Inventory> {
    let pod = |index: usize| {
        let named = prop::collection::vec((prop::sample::select(NAMES.to_vec()), 80u16..=81, transport()), 0..=2);
        (labels(), named, prop::bool::weighted(0.1)).prop_map(move |(labels, named, host_network)| Pod {
            namespace: SPACES[index % 2].to_owned(),
            name: format!("p{index}"),
            labels,
            addresses: vec![
                format!("10.0.0.{}", index + 1).parse().unwrap(),
                format!("fd00::{}", index + 1).parse().unwrap(),
            ],
            ports: named
                .into_iter()
                .map(|(name, port, protocol)| NamedPort { name: name.to_owned(), port, protocol })
                .collect(),
            host_network: host_network && index == 5,
            node: Some("n".to_owned()),
            origin: here(),
        })
    };
    let pods: Vec<_> = (0..6).map(pod).collect();
    let namespaces: Vec<_> = SPACES
        .iter()
        .map(|name| labels().prop_map(move |labels| Namespace { name: (*name).to_owned(), labels, origin: here() }))
        .collect();
    (pods, namespaces).prop_map(|(pods, namespaces)| Inventory {
        pods,
        namespaces,
        nodes: vec![Node {
            name: "n".to_owned(),
            labels: Labels::new(),
            addresses: vec!["10.0.0.20".parse().unwrap()],
            origin: here(),
        }],
        services: vec![Service {
            namespace: "y".to_owned(),
            name: "s".to_owned(),
            addresses: vec!["10.96.0.1".parse().unwrap()],
            selector: None,
            ports: vec![ServicePort {
                name: String::new(),
                transport: Transport::Tcp,
                port: 443,
                target: TargetPort::Number(80),
            }],
            origin: here(),
        }],
        slices: vec![EndpointSlice {
            namespace: "y".to_owned(),
            service: "s".to_owned(),
            addresses: vec!["10.0.0.2".parse().unwrap(), "10.0.0.3".parse().unwrap()],
            ports: vec![(String::new(), Transport::Tcp, 80)],
            origin: here(),
        }],
    })
}

fn packet() -> impl Strategy<Value = Packet> {
    let v4 = (1u8..=12).prop_map(|n| format!("10.0.0.{n}"));
    let v6 = (1u8..=12).prop_map(|n| format!("fd00::{n:x}"));
    let other =
        prop::sample::select(vec!["10.0.0.20", "10.96.0.1", "8.8.8.8", "fe80::2", "febf::1"]).prop_map(str::to_owned);
    let payload = prop_oneof![
        6 => (transport(), prop::sample::select(vec![79u16, 80, 81, 82, 443]))
            .prop_map(|(protocol, port)| Payload::Transport { protocol, port }),
        1 => Just(Payload::Icmp { kind: 8 }),
        1 => Just(Payload::Other(47)),
    ];
    let direction = prop::sample::select(Direction::BOTH.to_vec());
    (direction, prop_oneof![4 => v4, 3 => v6, 2 => other], payload).prop_map(|(direction, peer, payload)| Packet {
        direction,
        peer: peer.parse().unwrap(),
        payload,
    })
}

fn compiled(policies: &Policies, world: &World, subject: &Pod) -> Rules {
    let config = Config::parse("c.yaml", b"always-denied: []\n").unwrap();
    let settings = Settings::decide(Some(config), Requests::default()).unwrap();
    let inventory = world.inventory();
    let identity = subject.identity(inventory.namespace_labels(&subject.namespace));
    let peers = inventory.peers();
    let pods = Holders::new(peers.iter().map(|(identity, addresses)| Holder { identity, addresses }));
    // To a container of this host, this host is its node, and so is whoever is on its network.
    let node: Vec<IpAddr> = world.addresses_of_node("n").collect();
    let cluster = Cluster { policies, identity: &identity, pods: &pods, nodes: &inventory.nodes, world, subject };
    rules(&settings, &Facts { node, ..Facts::default() }, Some(&cluster)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn the_compiled_rules_do_what_the_specification_says(
        policies in policies(),
        inventory in inventory(),
        packets in prop::collection::vec(packet(), 40),
    ) {
        let world = World::new(inventory);
        let judge = Judge::new(&policies, &world);
        let subject = &world.inventory().pods[0];
        let rules = compiled(&policies, &world, subject);
        for packet in packets.iter().filter(|packet| !subject.addresses.contains(&packet.peer)) {
            let specified = judge.packet(packet.direction, subject, packet.peer, packet.payload);
            let decided = rules.table.as_ref().is_none_or(|table| table.decide(packet).outcome.passes());
            let table = rules.table.as_ref().map(ToString::to_string);
            prop_assert_eq!(specified, decided, "{:?}\n{:?}\n{}", packet, policies, table.unwrap_or_default());
        }
    }
}
