//! `networking.k8s.io/v1 NetworkPolicy` (pkg/apis/networking/validation/validation.go and v1/defaults.go of Kubernetes).

use super::collect::Counts;
use super::meta::Meta;
use super::{cidr, selector};
use crate::document::{Fields, Place, Value};
use crate::net::{Direction, PortRange, Transport};
use crate::policy::model::{Action, Namespaces, NetworkPolicy, Peer, Port, Rule, Selector, Who};
use crate::policy::names::check_port_name;

/// The transports of the API. No other word is known to it, and none is taken in another case.
pub(super) const TRANSPORTS: [(&str, Transport); 3] =
    [("TCP", Transport::Tcp), ("UDP", Transport::Udp), ("SCTP", Transport::Sctp)];

/// Reads the policy whose fields `apiVersion`, `kind`, `metadata` were read from `object`.
pub(super) fn read(object: &mut Fields<'_>, meta: &Meta<'_>, counts: &mut Counts) -> Option<NetworkPolicy> {
    let origin = object.object().origin();
    let mut policy = NetworkPolicy {
        namespace: meta.namespace.to_owned(),
        name: meta.name.to_owned(),
        pods: Selector::default(),
        ingress: Some(Vec::new()),
        egress: None,
        origin,
    };
    // An empty spec denies all ingress of the namespace (facts: S1, S2).
    let Some(place) = object.not_null("spec") else { return Some(policy) };
    let mut spec = place.fields()?;
    let pods = spec.not_null("podSelector").map(|place| selector::read(&place));
    let ingress = rules(&mut spec, Direction::Ingress, meta.namespace, counts);
    let egress = rules(&mut spec, Direction::Egress, meta.namespace, counts);
    let types = spec.not_null("policyTypes").and_then(|place| policy_types(&place));
    let types = match types {
        Some(types) if !types.is_empty() => types,
        // SetDefaults_NetworkPolicy: Ingress always, Egress where there is a rule for it.
        Some(_) | None if egress.is_empty() => vec![Direction::Ingress],
        Some(_) | None => Direction::BOTH.to_vec(),
    };
    for (direction, rules) in [(Direction::Ingress, &ingress), (Direction::Egress, &egress)] {
        if !types.contains(&direction)
            && !rules.is_empty()
            && let Some(place) = spec.not_null(direction.name())
        {
            place.warn(format!("has no effect, for policyTypes do not name {}", word(direction)));
        }
    }
    spec.finish();
    policy.pods = pods.unwrap_or_else(|| Some(Selector::default()))?;
    policy.ingress = types.contains(&Direction::Ingress).then_some(ingress);
    policy.egress = types.contains(&Direction::Egress).then_some(egress);
    Some(policy)
}

const fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "Ingress",
        Direction::Egress => "Egress",
    }
}

/// At most two entries; that they are the same one is no error to the API server.
fn policy_types(place: &Place<'_>) -> Option<Vec<Direction>> {
    let items = place.items()?;
    if items.len() > 2 {
        place.refuse("expected at most two entries");
        return None;
    }
    let words = Direction::BOTH.map(|direction| (word(direction), direction));
    Some(items.filter_map(|item| item.word(&words)).collect())
}

fn rules(spec: &mut Fields<'_>, direction: Direction, namespace: &str, counts: &mut Counts) -> Vec<Rule> {
    let Some(list) = spec.not_null(direction.name()) else { return Vec::new() };
    let items = list.items().into_iter().flatten();
    items.filter_map(|item| rule(&item, direction, namespace, counts)).collect()
}

fn rule(place: &Place<'_>, direction: Direction, namespace: &str, counts: &mut Counts) -> Option<Rule> {
    counts.rule(place)?;
    let mut fields = place.fields()?;
    let others = match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    let peers: Vec<Peer> = items(&mut fields, others, |item| peer(item, namespace, counts));
    let ports: Vec<(Port, Place<'_>)> = items(&mut fields, "ports", |item| Some((port(item)?, item.clone())));
    if direction == Direction::Egress && peers.iter().any(|peer| matches!(peer.who, Who::Block { .. })) {
        // A name is looked up at the pod that is reached, and a block names no pods (facts: P5).
        for (_, place) in ports.iter().filter(|(port, _)| matches!(port, Port::Named { .. })) {
            place.warn("a port's name matches nothing in an ipBlock; write its number");
        }
    }
    fields.finish();
    let ports = ports.into_iter().map(|(port, _)| port).collect();
    Some(Rule { action: Action::Accept, peers, ports, name: None, origin: place.origin() })
}

fn items<'a, T>(fields: &mut Fields<'a>, name: &'static str, read: impl FnMut(&Place<'a>) -> Option<T>) -> Vec<T> {
    let mut read = read;
    let list = fields.not_null(name).and_then(|list| list.items());
    list.into_iter().flatten().filter_map(|item| read(&item)).collect()
}

fn peer(place: &Place<'_>, namespace: &str, counts: &mut Counts) -> Option<Peer> {
    let mut fields = place.fields()?;
    let pods = fields.not_null("podSelector");
    let namespaces = fields.not_null("namespaceSelector");
    let block = fields.not_null("ipBlock");
    let who = match (&block, &pods, &namespaces) {
        (None, None, None) => {
            place.refuse("names nobody: expected podSelector, namespaceSelector or ipBlock");
            None
        }
        (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
            place.refuse("ipBlock stands alone in a peer; make two of it");
            None
        }
        (Some(block), None, None) => ip_block(block, counts),
        (None, _, _) => {
            let own = Some(Namespaces::Own(namespace.to_owned()));
            let namespaces = namespaces.as_ref().map_or(own, |place| selector::read(place).map(Namespaces::Selected));
            let pods = pods.as_ref().map_or_else(|| Some(Selector::default()), selector::read);
            namespaces.zip(pods).map(|(namespaces, pods)| Who::Pods { namespaces, pods })
        }
    };
    fields.finish();
    Some(Peer { who: who?, origin: place.origin() })
}

fn ip_block(place: &Place<'_>, counts: &mut Counts) -> Option<Who> {
    counts.cidr(place)?;
    let mut fields = place.fields()?;
    let block = fields.required("cidr").and_then(|place| cidr::legacy(&place));
    let except = items(&mut fields, "except", |item| {
        counts.cidr(item)?;
        let hole = cidr::legacy(item)?;
        if block.is_some_and(|block| !cidr::is_strictly_within(&hole, &block)) {
            item.refuse("must lie within cidr and be smaller than it");
            return None;
        }
        Some(hole)
    });
    fields.finish();
    Some(Who::Block { cidr: block?, except })
}

fn port(place: &Place<'_>) -> Option<Port> {
    let mut fields = place.fields()?;
    let transport = fields.not_null("protocol").map_or(Some(Transport::Tcp), |place| place.word(&TRANSPORTS));
    let number = fields.not_null("port");
    let end = fields.not_null("endPort");
    let ports = match (number, &end) {
        (None, None) => transport.map(|transport| Port::Number { transport, ports: PortRange::ALL }),
        (None, Some(end)) => {
            end.refuse("needs a port to begin with");
            None
        }
        (Some(name), _) if matches!(name.node().value, Value::Str { .. }) => {
            if let Some(end) = &end {
                end.refuse("needs a port that is a number");
            }
            let name = port_name(&name);
            transport.zip(name).map(|(transport, name)| Port::Named { transport: Some(transport), name })
        }
        (Some(number), None) => {
            let number = port_number(&number);
            let ports = number.and_then(|number| PortRange::new(number, number));
            transport.zip(ports).map(|(transport, ports)| Port::Number { transport, ports })
        }
        (Some(number), Some(end)) => {
            let (first, last) = (port_number(&number), port_number(end));
            let ports = first.zip(last).and_then(|(first, last)| {
                let ports = PortRange::new(first, last);
                if ports.is_none() {
                    end.refuse(format!("must not be below port, {first}"));
                }
                ports
            });
            transport.zip(ports).map(|(transport, ports)| Port::Number { transport, ports })
        }
    };
    fields.finish();
    ports
}

/// A port from 1 to 65535.
pub(super) fn port_number(place: &Place<'_>) -> Option<u16> {
    place.integer(1..=65535).and_then(|number| u16::try_from(number).ok())
}

/// A name that a pod can give a port.
pub(super) fn port_name(place: &Place<'_>) -> Option<String> {
    let name = place.string()?;
    check_port_name(name).map_err(|problem| place.refuse(format!("{problem}; a number stands without quotes"))).ok()?;
    Some(name.to_owned())
}
