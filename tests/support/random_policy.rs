//! Random worlds: a few pods, machines elsewhere, and policies of every kind over them.
//!
//! Names, labels and ports come from so small an alphabet that policies meet: most select somebody, many overlap, and
//! some contradict each other.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::case::{Case, Expectation, External, Named, Node, Pod, Port};
use super::dice::Dice;

const NAMESPACES: [&str; 3] = ["x", "y", "z"];
const POD_LABELS: [(&str, &[&str]); 2] = [("app", &["a", "b", "c"]), ("tier", &["front", "back"])];
const NAMESPACE_LABELS: [(&str, &[&str]); 2] = [("team", &["red", "blue"]), ("env", &["prod", ""])];
const PORTS: [(u16, &str); 6] = [(80, "TCP"), (81, "TCP"), (80, "UDP"), (53, "UDP"), (80, "SCTP"), (81, "SCTP")];
/// Names that pods give to some of the ports; not the same everywhere.
const PORT_NAMES: [&str; 3] = ["http", "dns", "admin"];

/// A world of this many pods, all of one family, without expectations yet.
pub(crate) fn world(dice: &mut Dice, pods: usize) -> Case {
    let v4 = !dice.one_in(3);
    let address = |group: usize, host: usize| -> IpAddr {
        let text = if v4 { format!("10.244.{group}.{host}") } else { format!("fd00:244::{group}:{host}") };
        text.parse().expect("an address")
    };
    let namespaces = NAMESPACES.map(|name| Named { name: name.to_owned(), labels: labels(dice, &NAMESPACE_LABELS) });
    let pods = (0..pods).map(|i| {
        let group = dice.below(NAMESPACES.len());
        Pod {
            ns: NAMESPACES[group].to_owned(),
            name: format!("p{i}"),
            labels: labels(dice, &POD_LABELS),
            ip: address(group + 1, 10 + i),
            ports: ports(dice),
            host_network: false,
        }
    });
    let pods = pods.collect();
    let external = [("elsewhere", 9), ("a-node", 8)]
        .map(|(name, group)| External { name: name.to_owned(), ip: address(group, 1) });
    let node = Node { name: "n1".to_owned(), labels: labels(dice, &NAMESPACE_LABELS), ips: vec![external[1].ip] };
    let mut world = Case {
        id: format!("random world {}", dice.seed),
        namespaces: namespaces.to_vec(),
        pods,
        external: external.to_vec(),
        nodes: vec![node],
        ..Case::default()
    };
    world.documents = policies(dice, &world);
    world.expect = questions(&world);
    world
}

/// The same world some time later: other policies, and perhaps other labels.
pub(crate) fn later(dice: &mut Dice, world: &Case) -> Case {
    let mut later = world.clone();
    if dice.one_in(2) {
        let pod = dice.below(later.pods.len());
        later.pods[pod].labels = labels(dice, &POD_LABELS);
    }
    if dice.one_in(2) {
        let namespace = dice.below(later.namespaces.len());
        later.namespaces[namespace].labels = labels(dice, &NAMESPACE_LABELS);
    }
    if dice.one_in(2) {
        later.documents = policies(dice, &later);
    } else if !later.documents.is_empty() && dice.one_in(2) {
        later.documents.remove(dice.below(later.documents.len()));
    }
    later
}

/// Every end to every other, over every protocol and port; of two machines elsewhere nobody here can tell.
fn questions(world: &Case) -> Vec<Expectation> {
    let ends: Vec<String> = world.ends().into_iter().map(|(name, _)| name).collect();
    let is_pod = |name: &str| name.contains('/');
    let mut all = Vec::new();
    for from in &ends {
        for to in ends.iter().filter(|to| is_pod(from) || is_pod(to)) {
            for (port, proto) in PORTS {
                let (from, to, proto) = (from.clone(), to.clone(), proto.to_owned());
                all.push(Expectation { from, to, port, proto, allowed: true });
            }
        }
    }
    all
}

fn labels(dice: &mut Dice, all: &[(&str, &[&str])]) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for (key, values) in all {
        if !dice.one_in(3) {
            labels.insert((*key).to_owned(), (*dice.pick(values)).to_owned());
        }
    }
    labels
}

fn ports(dice: &mut Dice) -> Vec<Port> {
    let mut numbers = PORTS;
    dice.shuffle(&mut numbers);
    let named = PORT_NAMES.iter().zip(numbers);
    named.map(|(name, (port, proto))| Port { name: Some((*name).to_owned()), port, proto: proto.to_owned() }).collect()
}

fn policies(dice: &mut Dice, world: &Case) -> Vec<(String, String)> {
    let mut objects = Vec::new();
    for i in 0..1 + dice.below(4) {
        objects.push(network_policy(dice, world, i));
    }
    // No two of one priority: which is asked first would be an implementation's choice.
    let mut priorities: Vec<usize> = (0..20).collect();
    dice.shuffle(&mut priorities);
    for (i, priority) in (0..dice.below(4)).zip(&priorities) {
        let tier = if dice.one_in(3) { "Baseline" } else { "Admin" };
        objects.push(cluster_policy(dice, world, i, tier, *priority));
    }
    if dice.one_in(3) {
        objects.push(old_policy(dice, world, "AdminNetworkPolicy", Some(priorities[19])));
    }
    if dice.one_in(3) {
        objects.push(old_policy(dice, world, "BaselineAdminNetworkPolicy", None));
    }
    dice.shuffle(&mut objects);
    objects.iter().enumerate().map(|(i, object)| (format!("policy-{i}.yaml"), yaml(object))).collect()
}

fn network_policy(dice: &mut Dice, world: &Case, number: usize) -> Value {
    let mut spec = json!({"podSelector": selector(dice, &POD_LABELS)});
    let mut types = Vec::new();
    for (direction, field, peers) in [("Ingress", "ingress", "from"), ("Egress", "egress", "to")] {
        if dice.one_in(2) {
            continue;
        }
        types.push(direction);
        let rules: Vec<Value> = (0..dice.below(3)).map(|_| network_rule(dice, world, peers)).collect();
        // A list that is not there and one that is empty are the same, except where the types are left to be guessed.
        if !rules.is_empty() || dice.one_in(2) {
            spec[field] = rules.into();
        }
    }
    if !types.is_empty() {
        spec["policyTypes"] = types.into();
    }
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": format!("np-{number}"), "namespace": *dice.pick(&NAMESPACES)},
        "spec": spec,
    })
}

fn network_rule(dice: &mut Dice, world: &Case, field: &str) -> Value {
    let mut rule = Map::new();
    if !dice.one_in(5) {
        let peers: Vec<Value> = (0..1 + dice.below(3)).map(|_| network_peer(dice, world)).collect();
        rule.insert(field.to_owned(), peers.into());
    }
    if !dice.one_in(3) {
        let ports: Vec<Value> = (0..1 + dice.below(3)).map(|_| network_port(dice)).collect();
        rule.insert("ports".to_owned(), ports.into());
    }
    rule.into()
}

fn network_peer(dice: &mut Dice, world: &Case) -> Value {
    match dice.below(4) {
        0 => json!({"podSelector": selector(dice, &POD_LABELS)}),
        1 => json!({"namespaceSelector": namespace_selector(dice)}),
        2 => json!({"podSelector": selector(dice, &POD_LABELS), "namespaceSelector": namespace_selector(dice)}),
        _ => {
            let (cidr, narrower) = block(dice, world);
            if dice.one_in(2) {
                json!({"ipBlock": {"cidr": cidr}})
            } else {
                json!({"ipBlock": {"cidr": cidr, "except": [narrower]}})
            }
        }
    }
}

/// A block around some end's address, and a narrower one in it.
fn block(dice: &mut Dice, world: &Case) -> (String, String) {
    let ends = world.ends();
    let ip = dice.pick(&ends).1;
    let lengths: &[usize] = if ip.is_ipv4() { &[0, 8, 16, 23, 24, 29, 31] } else { &[0, 16, 32, 110, 112, 120, 127] };
    let (wide, full) = (*dice.pick(lengths), if ip.is_ipv4() { 32 } else { 128 });
    let narrow = wide + 1 + dice.below(full - wide);
    (prefix(ip, wide), prefix(ip, narrow))
}

fn prefix(ip: IpAddr, length: usize) -> String {
    match ip {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - length as u32).unwrap_or(0);
            format!("{}/{length}", std::net::Ipv4Addr::from(u32::from(v4) & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - length as u32).unwrap_or(0);
            format!("{}/{length}", std::net::Ipv6Addr::from(u128::from(v6) & mask))
        }
    }
}

fn network_port(dice: &mut Dice) -> Value {
    let (port, proto) = *dice.pick(&PORTS);
    match dice.below(6) {
        0 => json!({"protocol": proto}),
        1 => json!({"port": port}),
        2 => json!({"port": port, "endPort": port + 1, "protocol": proto}),
        3 => json!({"port": *dice.pick(&PORT_NAMES), "protocol": proto}),
        _ => json!({"port": port, "protocol": proto}),
    }
}

fn cluster_policy(dice: &mut Dice, world: &Case, number: usize, tier: &str, priority: usize) -> Value {
    let mut spec = json!({"tier": tier, "priority": priority, "subject": subject(dice)});
    for (field, peers) in [("ingress", "from"), ("egress", "to")] {
        let rules: Vec<Value> = (0..dice.below(4))
            .map(|_| {
                let mut rule = cluster_rule(dice, world, peers, "Accept", true);
                if let Some(ports) = rule.as_object_mut().and_then(|rule| rule.remove("ports")) {
                    rule["protocols"] = ports.as_array().into_iter().flatten().map(protocol).collect();
                }
                rule
            })
            .collect();
        if !rules.is_empty() {
            spec[field] = rules.into();
        }
    }
    json!({
        "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
        "metadata": {"name": format!("cnp-{number}")}, "spec": spec,
    })
}

/// A port of v1alpha1 in the words of v1alpha2.
fn protocol(port: &Value) -> Value {
    let under = |protocol: &Value, destination: Value| json!({protocol.as_str().expect("a protocol").to_ascii_lowercase(): {"destinationPort": destination}});
    if let Some(number) = port.get("portNumber") {
        under(&number["protocol"], json!({"number": number["port"]}))
    } else if let Some(range) = port.get("portRange") {
        under(&range["protocol"], json!({"range": {"start": range["start"], "end": range["end"]}}))
    } else {
        json!({"destinationNamedPort": port["namedPort"]})
    }
}

fn old_policy(dice: &mut Dice, world: &Case, kind: &str, priority: Option<usize>) -> Value {
    let mut spec = json!({"subject": subject(dice)});
    if let Some(priority) = priority {
        spec["priority"] = priority.into();
    }
    for (field, peers) in [("ingress", "from"), ("egress", "to")] {
        let rules: Vec<Value> =
            (0..dice.below(4)).map(|_| cluster_rule(dice, world, peers, "Allow", priority.is_some())).collect();
        if !rules.is_empty() {
            spec[field] = rules.into();
        }
    }
    json!({
        "apiVersion": "policy.networking.k8s.io/v1alpha1", "kind": kind,
        "metadata": {"name": "default"}, "spec": spec,
    })
}

fn subject(dice: &mut Dice) -> Value {
    if dice.one_in(2) {
        json!({"namespaces": namespace_selector(dice)})
    } else {
        json!({"pods": {"namespaceSelector": namespace_selector(dice), "podSelector": selector(dice, &POD_LABELS)}})
    }
}

fn cluster_rule(dice: &mut Dice, world: &Case, field: &str, accept: &str, may_pass: bool) -> Value {
    let action = *dice.pick(if may_pass { &[0, 1, 1, 2][..] } else { &[0, 1] });
    let action = [accept, "Deny", "Pass"][action];
    let mut rule = json!({"action": action});
    let blocks = field == "to" && dice.one_in(3);
    let peers: Vec<Value> = (0..1 + dice.below(2))
        .map(|_| match (blocks, dice.below(2)) {
            (true, 0) => json!({"networks": [block(dice, world).0]}),
            (true, _) => json!({"nodes": selector(dice, &NAMESPACE_LABELS)}),
            (false, 0) => json!({"namespaces": namespace_selector(dice)}),
            (false, _) => json!({"pods": {
                "namespaceSelector": namespace_selector(dice), "podSelector": selector(dice, &POD_LABELS),
            }}),
        })
        .collect();
    rule[field] = peers.into();
    if !dice.one_in(3) {
        let ports: Vec<Value> = (0..1 + dice.below(2))
            .map(|_| {
                let (port, protocol) = *dice.pick(&PORTS);
                match dice.below(4) {
                    0 => json!({"portRange": {"protocol": protocol, "start": port, "end": port + 1 + dice.below(2) as u16}}),
                    // No names beside networks and nodes (the CRD's rule).
                    1 if !blocks => json!({"namedPort": *dice.pick(&PORT_NAMES)}),
                    _ => json!({"portNumber": {"protocol": protocol, "port": port}}),
                }
            })
            .collect();
        rule["ports"] = ports.into();
    }
    rule
}

fn namespace_selector(dice: &mut Dice) -> Value {
    if dice.one_in(3) {
        return json!({"matchLabels": {"kubernetes.io/metadata.name": *dice.pick(&NAMESPACES)}});
    }
    selector(dice, &NAMESPACE_LABELS)
}

fn selector(dice: &mut Dice, all: &[(&str, &[&str])]) -> Value {
    let mut selector = Map::new();
    let (key, values) = *dice.pick(all);
    if dice.one_in(2) {
        selector.insert("matchLabels".to_owned(), json!({key: *dice.pick(values)}));
    }
    if dice.one_in(3) {
        let (key, values) = *dice.pick(all);
        let expression = match dice.below(4) {
            0 => json!({"key": key, "operator": "Exists"}),
            1 => json!({"key": key, "operator": "DoesNotExist"}),
            2 => json!({"key": key, "operator": "In", "values": [*dice.pick(values), *dice.pick(values)]}),
            _ => json!({"key": key, "operator": "NotIn", "values": [*dice.pick(values)]}),
        };
        selector.insert("matchExpressions".to_owned(), json!([expression]));
    }
    selector.into()
}

/// A document in block style, as people write it.
pub(crate) fn yaml(value: &Value) -> String {
    let mut text = String::new();
    block_of(value, 0, &mut text);
    text
}

fn block_of(value: &Value, indent: usize, text: &mut String) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(object) if !object.is_empty() => {
            for (key, value) in object {
                let _ = write!(text, "{pad}{key}:");
                below(value, indent + 2, text);
            }
        }
        Value::Array(array) if !array.is_empty() => {
            for value in array {
                let _ = write!(text, "{pad}-");
                below(value, indent + 2, text);
            }
        }
        // What is left is the same in JSON.
        Value::Object(_) | Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let _ = writeln!(text, "{pad}{value}");
        }
    }
}

fn below(value: &Value, indent: usize, text: &mut String) {
    let nested = value.as_object().map(|o| !o.is_empty()).or(value.as_array().map(|a| !a.is_empty()));
    if nested == Some(true) {
        text.push('\n');
        block_of(value, indent, text);
    } else {
        text.push(' ');
        block_of(value, 0, text);
    }
}
