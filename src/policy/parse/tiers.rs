//! The cluster tiers: `ClusterNetworkPolicy` in v1alpha2, and the `AdminNetworkPolicy` and `BaselineAdminNetworkPolicy` in
//! v1alpha1 that it replaces.
//!
//! What is required here is what the CRDs of kubernetes-sigs/network-policy-api require
//! (config/crd/experimental/policy.networking.k8s.io_*.yaml; those of v1alpha1 as they were before they were removed).
//! Where this is stricter, it says so.

use super::collect::Counts;
use super::kind::Kind;
use super::meta::Meta;
use super::network_policy::{TRANSPORTS, port_number};
use super::{cidr, selector};
use crate::document::{Fields, Place, shown};
use crate::net::{Direction, PortRange, Transport};
use crate::policy::model::{Action, ClusterPolicy, Namespaces, Peer, Port, Rule, Selector, Subject, Tier, Who};
use crate::policy::names::check_port_name;

/// What differs between the three kinds.
#[derive(Debug)]
struct Dialect {
    kind: &'static str,
    /// The words for actions.
    actions: &'static [(&'static str, Action)],
    /// Most rules of a direction, peers of a rule and ports of a rule.
    most: usize,
    /// Fields of an egress peer.
    egress_peers: &'static [&'static str],
    /// The field that holds ports.
    ports: &'static str,
    read_port: fn(&Place<'_>) -> Option<Port>,
}

const CLUSTER: Dialect = Dialect {
    kind: "ClusterNetworkPolicy",
    actions: &[("Accept", Action::Accept), ("Deny", Action::Deny), ("Pass", Action::Pass)],
    most: 25,
    egress_peers: &["namespaces", "pods", "networks", "nodes", "domainNames"],
    ports: "protocols",
    read_port: protocol,
};

const ADMIN: Dialect = Dialect {
    kind: "AdminNetworkPolicy",
    actions: &[("Allow", Action::Accept), ("Deny", Action::Deny), ("Pass", Action::Pass)],
    most: 100,
    egress_peers: &["namespaces", "pods", "networks", "nodes", "domainNames"],
    ports: "ports",
    read_port: admin_port,
};

const BASELINE: Dialect = Dialect {
    kind: "BaselineAdminNetworkPolicy",
    actions: &[("Allow", Action::Accept), ("Deny", Action::Deny)],
    egress_peers: &["namespaces", "pods", "networks", "nodes"],
    ..ADMIN
};

const TIERS: [(&str, Tier); 2] = [("Admin", Tier::Admin), ("Baseline", Tier::Baseline)];

/// Most entries of `networks` and `domainNames`, in both versions.
const MOST_ENTRIES: usize = 25;
/// Longest name of a rule, in characters.
const LONGEST_NAME: usize = 100;

/// Reads the policy whose fields `apiVersion`, `kind`, `metadata` were read from `object`. `kind` is one of the three.
pub(super) fn read(object: &mut Fields<'_>, kind: Kind, meta: &Meta<'_>, counts: &mut Counts) -> Option<ClusterPolicy> {
    let dialect = match kind {
        Kind::ClusterNetworkPolicy => CLUSTER,
        Kind::AdminNetworkPolicy => ADMIN,
        Kind::BaselineAdminNetworkPolicy => BASELINE,
        Kind::NetworkPolicy | Kind::Namespace | Kind::Pod | Kind::Node | Kind::Service | Kind::EndpointSlice => {
            return None;
        }
    };
    let origin = object.object().origin();
    // The CRD's rule: self.metadata.name == 'default'.
    if kind == Kind::BaselineAdminNetworkPolicy
        && !meta.name.is_empty()
        && meta.name != "default"
        && let Some(name) = object.not_null("metadata").and_then(|place| place.fields()?.not_null("name"))
    {
        name.refuse("there is one BaselineAdminNetworkPolicy, and its name is default");
    }
    let mut spec = object.required("spec")?.fields()?;
    let tier = match kind {
        Kind::ClusterNetworkPolicy => spec.required("tier").and_then(|place| place.word(&TIERS)),
        Kind::BaselineAdminNetworkPolicy => Some(Tier::Baseline),
        Kind::AdminNetworkPolicy
        | Kind::NetworkPolicy
        | Kind::Namespace
        | Kind::Pod
        | Kind::Node
        | Kind::Service
        | Kind::EndpointSlice => Some(Tier::Admin),
    };
    let priority = match kind {
        Kind::BaselineAdminNetworkPolicy => Some(0),
        Kind::ClusterNetworkPolicy
        | Kind::AdminNetworkPolicy
        | Kind::NetworkPolicy
        | Kind::Namespace
        | Kind::Pod
        | Kind::Node
        | Kind::Service
        | Kind::EndpointSlice => spec.required("priority").and_then(|place| place.integer(0..=1000)),
    };
    let subject = spec.required("subject").and_then(|place| subject(&place));
    let ingress = rules(&mut spec, Direction::Ingress, &dialect, counts);
    let egress = rules(&mut spec, Direction::Egress, &dialect, counts);
    spec.finish();
    Some(ClusterPolicy {
        kind: dialect.kind,
        name: meta.name.to_owned(),
        tier: tier?,
        priority: u16::try_from(priority?).ok()?,
        subject: subject?,
        ingress,
        egress,
        origin,
    })
}

/// The one field of an object that has exactly one of `names` (`minProperties` and `maxProperties`: 1).
///
/// A peer of which we know no field may be one that a newer version of the API has. It says there to fail closed: such an
/// Accept rule matches nothing, such a Deny or Pass rule is "Deny all" (facts: C8). A policy that is half understood is
/// refused as a whole here, which is closed too and does not go unseen.
fn exactly_one<'a>(
    place: &Place<'a>,
    fields: &mut Fields<'a>,
    names: &[&'static str],
) -> Option<(&'static str, Place<'a>)> {
    let mut given = names.iter().filter_map(|name| Some((*name, fields.not_null(name)?))).collect::<Vec<_>>();
    match (given.pop(), given.is_empty()) {
        (Some(one), true) => Some(one),
        (_, none) => {
            let found = if none { "none" } else { "several" };
            place.refuse(format!("expected exactly one of {}, found {found}", names.join(", ")));
            None
        }
    }
}

/// The items of a list of `least` to `most`.
fn bounded<'a>(place: &Place<'a>, least: usize, most: usize) -> Option<Vec<Place<'a>>> {
    let items = place.items()?;
    if items.len() < least || items.len() > most {
        place.refuse(format!("expected {least} to {most} entries, found {}", items.len()));
        return None;
    }
    Some(items.collect())
}

fn subject(place: &Place<'_>) -> Option<Subject> {
    let mut fields = place.fields()?;
    let one = exactly_one(place, &mut fields, &["namespaces", "pods"]);
    fields.finish();
    match one? {
        ("pods", place) => namespaced_pod(&place).map(|(namespaces, pods)| Subject::Pods { namespaces, pods }),
        (_, place) => selector::read(&place).map(Subject::Namespaces),
    }
}

/// Both selectors have to be there. The CRD of v1alpha2 lets namespaceSelector be absent since February 2026, and means
/// every namespace then; whoever means that can write `{}`, which every version understands.
fn namespaced_pod(place: &Place<'_>) -> Option<(Selector, Selector)> {
    let mut fields = place.fields()?;
    let namespaces = fields.required("namespaceSelector").and_then(|place| selector::read(&place));
    let pods = fields.required("podSelector").and_then(|place| selector::read(&place));
    fields.finish();
    namespaces.zip(pods)
}

fn rules(spec: &mut Fields<'_>, direction: Direction, dialect: &Dialect, counts: &mut Counts) -> Vec<Rule> {
    let list = spec.not_null(direction.name()).and_then(|list| bounded(&list, 0, dialect.most));
    list.into_iter().flatten().filter_map(|item| rule(&item, direction, dialect, counts)).collect()
}

fn rule(place: &Place<'_>, direction: Direction, dialect: &Dialect, counts: &mut Counts) -> Option<Rule> {
    counts.rule(place)?;
    let mut fields = place.fields()?;
    let name = fields.not_null("name").and_then(|place| {
        let name = place.string()?;
        if name.chars().count() > LONGEST_NAME {
            place.refuse(format!("is longer than {LONGEST_NAME} characters"));
        }
        Some(name.to_owned())
    });
    let action = fields.required("action").and_then(|place| place.word(dialect.actions));
    let (others, known) = match direction {
        Direction::Ingress => ("from", ["namespaces", "pods"].as_slice()),
        Direction::Egress => ("to", dialect.egress_peers),
    };
    let list = fields.required(others).and_then(|list| bounded(&list, 1, dialect.most));
    let mut peers = Vec::new();
    for item in list.into_iter().flatten() {
        peer(&item, known, action, counts, &mut peers);
    }
    let places = fields.not_null(dialect.ports).and_then(|list| bounded(&list, 1, dialect.most)).unwrap_or_default();
    let has_no_names = |peer: &Peer| match peer.who {
        Who::Block { .. } | Who::Nodes(_) | Who::DomainNames(_) => true,
        Who::Pods { .. } => false,
    };
    let nameless = peers.iter().any(has_no_names);
    let mut ports = Vec::new();
    for place in &places {
        let Some(port) = (dialect.read_port)(place) else { continue };
        // The CRD's rule: "networks/nodes/domainNames peer cannot be set with namedPorts".
        if nameless && matches!(port, Port::Named { .. }) {
            place.refuse("a port's name cannot stand beside networks, nodes or domainNames, where no port has one");
        }
        ports.push(port);
    }
    fields.finish();
    Some(Rule { action: action?, peers, ports, name, origin: place.origin() })
}

fn peer(
    place: &Place<'_>,
    known: &[&'static str],
    action: Option<Action>,
    counts: &mut Counts,
    peers: &mut Vec<Peer>,
) -> Option<()> {
    let mut fields = place.fields()?;
    let one = exactly_one(place, &mut fields, known);
    fields.finish();
    let (field, value) = one?;
    let who = match field {
        "namespaces" => {
            let namespaces = Namespaces::Selected(selector::read(&value)?);
            Who::Pods { namespaces, pods: Selector::default() }
        }
        "pods" => {
            let (namespaces, pods) = namespaced_pod(&value)?;
            Who::Pods { namespaces: Namespaces::Selected(namespaces), pods }
        }
        "nodes" => Who::Nodes(selector::read(&value)?),
        "domainNames" => {
            // The API text: "DomainNames is only supported for Accept rules". As we match no address by name, a Deny
            // would deny nothing.
            if matches!(action, Some(Action::Deny | Action::Pass)) {
                value.refuse("domain names can only be accepted");
            }
            Who::DomainNames(distinct(&value, domain_name)?)
        }
        // networks: each block is a peer with its own place.
        _ => {
            for (block, item) in distinct(&value, |item| Some((cidr::strict(item)?, item.clone())))? {
                counts.cidr(&item)?;
                peers.push(Peer { who: Who::Block { cidr: block, except: Vec::new() }, origin: item.origin() });
            }
            return Some(());
        }
    };
    peers.push(Peer { who, origin: place.origin() });
    Some(())
}

/// The entries of a list of strings in which none stands twice (`x-kubernetes-list-type: set`).
fn distinct<'a, T>(place: &Place<'a>, read: impl Fn(&Place<'a>) -> Option<T>) -> Option<Vec<T>> {
    let mut texts: Vec<&str> = Vec::new();
    let mut entries = Vec::new();
    for item in bounded(place, 1, MOST_ENTRIES)? {
        let Some(entry) = read(&item) else { continue };
        let Some(text) = item.string() else { continue };
        if texts.contains(&text) {
            item.refuse("stands twice");
        }
        texts.push(text);
        entries.push(entry);
    }
    Some(entries)
}

fn domain_name(place: &Place<'_>) -> Option<String> {
    let text = place.string()?;
    if !is_domain_pattern(text) {
        place.refuse(format!("{} is no domain name such as kubernetes.io or *.kubernetes.io", shown(text)));
        return None;
    }
    Some(text.to_owned())
}

/// The CRD's pattern
/// `^(\*\.)?([a-zA-z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?\.)+[a-zA-z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?\.?$`,
/// with its slip: `A-z` holds six signs more.
fn is_domain_pattern(text: &str) -> bool {
    let text = text.strip_prefix("*.").unwrap_or(text);
    let text = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.first().is_some_and(|b| b.is_ascii_digit() || (b'A'..=b'z').contains(b))
            && bytes.iter().skip(1).all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && (bytes.len() == 1 || bytes.last().is_some_and(u8::is_ascii_alphanumeric))
    };
    text.contains('.') && text.split('.').all(label)
}

/// v1alpha2: `tcp`, `udp`, `sctp` with a `destinationPort`, or a `destinationNamedPort`.
fn protocol(place: &Place<'_>) -> Option<Port> {
    let mut fields = place.fields()?;
    let one = exactly_one(place, &mut fields, &["tcp", "udp", "sctp", "destinationNamedPort"]);
    fields.finish();
    let (transport, value) = match one? {
        ("tcp", value) => (Transport::Tcp, value),
        ("udp", value) => (Transport::Udp, value),
        ("sctp", value) => (Transport::Sctp, value),
        (_, value) => return named(&value),
    };
    let mut fields = value.fields()?;
    // minProperties: 1, and there is one property.
    let place = fields.required("destinationPort");
    fields.finish();
    let place = place?;
    let mut fields = place.fields()?;
    let one = exactly_one(&place, &mut fields, &["number", "range"]);
    fields.finish();
    let ports = match one? {
        ("number", value) => port_number(&value).and_then(|number| PortRange::new(number, number)),
        (_, value) => {
            let mut fields = value.fields()?;
            // The CRD's rule: "Start port must be less than End port".
            let ports = range(&value, &mut fields, false);
            fields.finish();
            ports
        }
    };
    Some(Port::Number { transport, ports: ports? })
}

/// v1alpha1: `portNumber`, `portRange` or `namedPort`.
fn admin_port(place: &Place<'_>) -> Option<Port> {
    let mut fields = place.fields()?;
    let one = exactly_one(place, &mut fields, &["portNumber", "portRange", "namedPort"]);
    fields.finish();
    let (field, value) = one?;
    if field == "namedPort" {
        return named(&value);
    }
    let mut fields = value.fields()?;
    // The CRD takes any string for a protocol; a word we do not know must not become another one.
    let transport = fields.not_null("protocol").map_or(Some(Transport::Tcp), |place| place.word(&TRANSPORTS));
    let ports = if field == "portNumber" {
        let number = fields.required("port").and_then(|place| port_number(&place));
        number.and_then(|number| PortRange::new(number, number))
    } else {
        range(&value, &mut fields, true)
    };
    fields.finish();
    Some(Port::Number { transport: transport?, ports: ports? })
}

/// `start` and `end`, which may be `equal` only in v1alpha1: it says the same in words and checks nothing.
fn range(place: &Place<'_>, fields: &mut Fields<'_>, equal: bool) -> Option<PortRange> {
    let start = fields.required("start").and_then(|place| port_number(&place));
    let end = fields.required("end").and_then(|place| port_number(&place));
    let (start, end) = (start?, end?);
    let ports = PortRange::new(start, end).filter(|_| equal || start < end);
    if ports.is_none() {
        place.refuse(format!("start, {start}, must be below end, {end}"));
    }
    ports
}

/// The name of a port. The CRDs take any string; one that no pod can give a port is probably a mistake.
fn named(place: &Place<'_>) -> Option<Port> {
    let name = place.string()?;
    if name.is_empty() {
        // To the API's client the same as a missing field: see `exactly_one`.
        place.refuse("is empty");
        return None;
    }
    if let Err(problem) = check_port_name(name) {
        place.warn(format!("matches nothing: {problem}"));
    }
    Some(Port::Named { transport: None, name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domain_names_follow_the_pattern_of_the_crd() {
        for name in
            ["kubernetes.io", "*.kubernetes.io", "a.b.", "A_b.c-d.io", "0.1", "_dns.example.org", "x.^", "*.a.b"]
        {
            assert!(is_domain_pattern(name), "{name}");
        }
        for name in [
            "",
            "localhost",
            "*",
            "*.io",
            "a..b",
            ".a.b",
            "a.b..",
            "a.-b",
            "a-.b",
            "*a.b",
            "a.*.b",
            "a b.c",
            "a.b_",
            "ä.de",
        ] {
            assert!(!is_domain_pattern(name), "{name}");
        }
    }
}
