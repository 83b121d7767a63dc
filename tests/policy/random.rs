//! Random worlds, small enough that policies, labels, blocks and ports meet all the time.

// Every test file compiles this module and uses its own part of it.
#![allow(dead_code)]

use std::net::{IpAddr, Ipv6Addr};

use netlatch::net::{Cidr, Origin, Payload, PortRange, Transport};
use netlatch::policy::model::*;
use netlatch::policy::names::NamedPort;
use netlatch::policy::world::{Inventory, Namespace, Node, Pod, Service, ServicePort, TargetPort};
use proptest::prelude::*;

fn here() -> Origin {
    Origin::Builtin("test")
}

fn one_of<T: Clone + std::fmt::Debug + 'static>(items: &[T]) -> impl Strategy<Value = T> + use<T> {
    prop::sample::select(items.to_vec())
}

fn labels() -> impl Strategy<Value = Labels> {
    let pair = (one_of(&["app", "tier"]), one_of(&["a", "b"]));
    prop::collection::btree_map(
        pair.prop_map(|(key, _)| key.to_owned()),
        one_of(&["a", "b"]).prop_map(str::to_owned),
        0..3,
    )
}

fn selector() -> impl Strategy<Value = Selector> {
    let operators = [Operator::In, Operator::In, Operator::NotIn, Operator::Exists, Operator::DoesNotExist];
    let requirement =
        (one_of(&["app", "tier"]), one_of(&operators), one_of(&["a", "b"])).prop_map(|(key, operator, value)| {
            Requirement {
                key: key.to_owned(),
                operator,
                values: match operator {
                    Operator::In | Operator::NotIn => vec![value.to_owned()],
                    Operator::Exists | Operator::DoesNotExist => Vec::new(),
                },
            }
        });
    prop::collection::vec(requirement, 0..2).prop_map(|requirements| Selector { requirements })
}

fn port() -> impl Strategy<Value = Port> {
    let ranges = [(80, 80), (81, 81), (80, 82), (0, u16::MAX)];
    let range = one_of(&ranges).prop_map(|(first, last)| PortRange::new(first, last).unwrap());
    let transport = || one_of(&[Transport::Tcp, Transport::Tcp, Transport::Udp]);
    prop_oneof![
        3 => (transport(), range).prop_map(|(transport, ports)| Port::Number { transport, ports }),
        1 => (prop::option::of(transport()), one_of(&["http", "dns"]))
            .prop_map(|(transport, name)| Port::Named { transport, name: name.to_owned() }),
    ]
}

fn cidr() -> impl Strategy<Value = Cidr> {
    one_of(&["0.0.0.0/0", "10.0.0.0/29", "10.0.0.4/30", "10.0.0.2", "10.0.0.12/30", "169.254.169.254"])
        .prop_map(|text| text.parse().unwrap())
}

fn who(namespace: &'static str) -> impl Strategy<Value = Who> {
    let namespaces =
        prop_oneof![Just(Namespaces::Own(namespace.to_owned())), selector().prop_map(Namespaces::Selected)];
    prop_oneof![
        4 => (namespaces, selector()).prop_map(|(namespaces, pods)| Who::Pods { namespaces, pods }),
        2 => (cidr(), prop::option::of(cidr()))
            .prop_map(|(cidr, hole)| Who::Block { cidr, except: hole.into_iter().collect() }),
        1 => selector().prop_map(Who::Nodes),
    ]
}

fn rule(namespace: &'static str, actions: &[Action], least: usize) -> impl Strategy<Value = Rule> + use<> {
    let peers = prop::collection::vec(who(namespace), least..3);
    (one_of(actions), peers, prop::collection::vec(port(), 0..3)).prop_map(|(action, peers, ports)| Rule {
        action,
        peers: peers.into_iter().map(|who| Peer { who, origin: here() }).collect(),
        ports,
        name: None,
        origin: here(),
    })
}

/// A network policy of one of two namespaces.
pub(crate) fn network_policy() -> impl Strategy<Value = NetworkPolicy> {
    one_of(&["x", "y"]).prop_flat_map(|namespace| {
        let list = || prop::collection::vec(rule(namespace, &[Action::Accept], 0), 0..3);
        let rules = move || prop::option::weighted(0.7, list());
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
    let rules = || prop::collection::vec(rule("x", &[Action::Accept, Action::Deny, Action::Pass], 1), 0..3);
    let subject = prop_oneof![
        selector().prop_map(Subject::Namespaces),
        (selector(), selector()).prop_map(|(namespaces, pods)| Subject::Pods { namespaces, pods }),
    ];
    (one_of(&[Tier::Admin, Tier::Baseline]), subject, rules(), rules()).prop_map(|(tier, subject, ingress, egress)| {
        ClusterPolicy {
            kind: "ClusterNetworkPolicy",
            name: "c".to_owned(),
            tier,
            priority: 0,
            subject,
            ingress,
            egress,
            origin: here(),
        }
    })
}

/// Policies of all tiers, in order.
pub(crate) fn policies() -> impl Strategy<Value = Policies> {
    (prop::collection::vec(network_policy(), 0..4), prop::collection::vec(cluster_policy(), 0..3)).prop_map(
        |(network, mut cluster)| {
            for (priority, policy) in (0..).zip(&mut cluster) {
                policy.priority = priority;
            }
            cluster.sort_by_key(|policy| (policy.tier, policy.priority));
            Policies { network, cluster }
        },
    )
}

/// Six pods in two namespaces on one of two nodes, IPv4 alone. The last may be on its node's network, the one before it
/// may have no address.
pub(crate) fn inventory() -> impl Strategy<Value = Inventory> {
    let pod = |index: usize| {
        let named = (one_of(&["http", "dns"]), 80u16..82, one_of(&[Transport::Tcp, Transport::Udp]));
        let named = prop::collection::vec(named, 0..3);
        (labels(), named, any::<bool>(), prop::option::of(one_of(&["n1", "n2"]))).prop_map(
            move |(labels, named, odd, node)| Pod {
                namespace: ["x", "y"][index % 2].to_owned(),
                name: format!("p{index}"),
                labels,
                addresses: match (index, odd) {
                    (4, true) => Vec::new(),
                    _ => vec![format!("10.0.0.{}", index + 1).parse().unwrap()],
                },
                ports: named
                    .into_iter()
                    .map(|(name, port, protocol)| NamedPort { name: name.to_owned(), port, protocol })
                    .collect(),
                host_network: index == 5 && odd,
                node: node.map(str::to_owned),
                origin: here(),
            },
        )
    };
    let pods: Vec<_> = (0..6).map(pod).collect();
    let namespace = |name: &'static str| {
        labels().prop_map(move |labels| Namespace { name: name.to_owned(), labels, origin: here() })
    };
    let node = |(name, address): (&'static str, &'static str)| {
        labels().prop_map(move |labels| Node {
            name: name.to_owned(),
            labels,
            addresses: vec![address.parse().unwrap()],
            origin: here(),
        })
    };
    let nodes = [("n1", "10.0.0.9"), ("n2", "10.0.0.10")].map(node);
    (pods, ["x", "y"].map(namespace), nodes, selector()).prop_map(|(pods, namespaces, nodes, selector)| Inventory {
        pods,
        namespaces: namespaces.into(),
        nodes: nodes.into(),
        services: vec![Service {
            namespace: "x".to_owned(),
            name: "s".to_owned(),
            addresses: vec!["10.0.0.11".parse().unwrap()],
            selector: Some(selector),
            ports: vec![ServicePort {
                name: String::new(),
                transport: Transport::Tcp,
                port: 443,
                target: TargetPort::Named("http".to_owned()),
            }],
            origin: here(),
        }],
        slices: Vec::new(),
    })
}

/// Addresses that are pods', nodes', the service's, nobody's, and anybody's.
pub(crate) fn addresses() -> Vec<IpAddr> {
    let others = ["8.8.8.8", "fe80::2"].map(|text| text.parse().unwrap());
    (1..=14).map(|last| IpAddr::from([10, 0, 0, last])).chain(others).collect()
}

/// What differs to some rule, and what does not.
pub(crate) fn payloads() -> Vec<Payload> {
    let transport = |protocol| [79, 80, 81, 82, 443].map(|port| Payload::Transport { protocol, port });
    let mut payloads: Vec<Payload> = [Transport::Tcp, Transport::Udp].into_iter().flat_map(transport).collect();
    payloads.extend([Payload::Icmp { kind: 8 }, Payload::Other(47)]);
    payloads
}

/// IPv4 as a part of IPv6: each address in the last 32 bits of fd00::/96.
pub(crate) fn in_v6(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V6(Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(v4.to_bits()))),
        IpAddr::V6(_) => address,
    }
}

fn block_in_v6(block: &Cidr) -> Cidr {
    Cidr::containing(in_v6(block.first()), block.prefix_len() + 96).unwrap()
}

/// The same policies of the same hosts in IPv6.
pub(crate) fn policies_in_v6(policies: &Policies) -> Policies {
    let mut policies = policies.clone();
    let network = policies.network.iter_mut().flat_map(|policy| [&mut policy.ingress, &mut policy.egress]).flatten();
    let cluster = policies.cluster.iter_mut().flat_map(|policy| [&mut policy.ingress, &mut policy.egress]);
    for peer in network.chain(cluster).flatten().flat_map(|rule| &mut rule.peers) {
        if let Who::Block { cidr, except } = &mut peer.who {
            *cidr = block_in_v6(cidr);
            except.iter_mut().for_each(|hole| *hole = block_in_v6(hole));
        }
    }
    policies
}

/// The same world in IPv6.
pub(crate) fn inventory_in_v6(inventory: &Inventory) -> Inventory {
    let mut inventory = inventory.clone();
    let pods = inventory.pods.iter_mut().flat_map(|pod| &mut pod.addresses);
    let nodes = inventory.nodes.iter_mut().flat_map(|node| &mut node.addresses);
    let services = inventory.services.iter_mut().flat_map(|service| &mut service.addresses);
    pods.chain(nodes).chain(services).for_each(|address| *address = in_v6(*address));
    inventory
}
