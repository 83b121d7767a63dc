//! From policies to what governs one container: its tiers, with the peers sorted into those that stay and those that come
//! and go.
//!
//! Nothing here knows nftables. What comes out is a list of tiers, each a list of runs; `plan` makes rules and sets of them.
//! Rules that follow each other and come to the same are one run, and so is everything that network policies allow:
//! hundreds of policies become a few sets. What the tiers mean together is said in `verdict`, and a property test holds
//! the two against each other.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::IpAddr;

use super::model::{
    Action, ClusterPolicy, Namespaces, NetworkPolicy, Policies, Port, Rule, Selector, Subject, Tier, Who,
};
use super::watch::{Identity, WatchedGroup, WatchedPeer};
use super::world::Node;
use crate::net::{
    AddrRange, Cidr, Direction, Family, Origin, PortRange, SELF_ASSIGNED, Service, Transport, Transports, merge,
    subtract,
};

/// What the tiers say of one direction, in the order in which they are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Governed {
    /// The tiers that say anything. None: nothing governs this direction, and everything passes.
    pub tiers: Vec<GoverningTier>,
}

/// One tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoverningTier {
    /// `admin`, `network` or `default`.
    pub name: &'static str,
    /// Asked in order.
    pub runs: Vec<GoverningRun>,
    /// Whether what no run matches is denied: the container is isolated.
    pub isolates: bool,
    /// The policies, for messages.
    pub origin: String,
}

/// Rules that come to the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoverningRun {
    /// What becomes of a packet that any of them matches.
    pub action: Action,
    /// Peers whose addresses are known once and for all.
    pub blocks: Vec<Block>,
    /// Peers that come and go: with the service that is asked beside the set, or `None` where it is in the set.
    pub groups: Vec<(Option<Service>, WatchedGroup, String)>,
}

/// Addresses, and what is spoken to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// IPv4 addresses, merged.
    pub v4: Vec<AddrRange>,
    /// IPv6 addresses, merged.
    pub v6: Vec<AddrRange>,
    /// What is spoken.
    pub service: Service,
    /// Where it was written.
    pub origin: String,
    /// The one address that was written, where it was one: such a rule opens what is always denied.
    pub names: Option<IpAddr>,
}

/// Most pairs of a port and a part of a peer (a range of addresses, an exception, a condition on labels) that the rules of
/// one direction may come to. Within a rule they multiply, so that a file of a few hundred kilobytes could ask for
/// billions; the test is made before any is written down.
pub const MAX_PAIRS: usize = 1_000_000;

/// A rule that cannot be carried out. Each with where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsupported {
    /// It has domain names: they match no address here, so an egress that relies on them would be cut off.
    DomainNames(Origin),
    /// With it there are more than [`MAX_PAIRS`].
    Pairs(Origin),
}

impl NetworkPolicy {
    /// Whether it governs pods of this identity (S1).
    pub fn governs(&self, subject: &Identity) -> bool {
        self.namespace == subject.namespace && self.pods.selects(&subject.labels)
    }
}

impl ClusterPolicy {
    /// Whether it governs pods of this identity (C6).
    pub fn governs(&self, subject: &Identity) -> bool {
        match &self.subject {
            Subject::Namespaces(namespaces) => namespaces.selects(&subject.namespace_labels),
            Subject::Pods { namespaces, pods } => {
                namespaces.selects(&subject.namespace_labels) && pods.selects(&subject.labels)
            }
        }
    }
}

/// What governs `subject` in one direction. `nodes` resolve peers that are nodes.
///
/// # Errors
/// The first rule that cannot be carried out.
pub fn govern(
    policies: &Policies,
    subject: &Identity,
    direction: Direction,
    nodes: &[Node],
) -> Result<Governed, Unsupported> {
    let compiler = Compiler { subject, direction, nodes, pairs: Cell::new(0) };
    let cluster = |tier: Tier| {
        let governing = policies.cluster.iter().filter(move |policy| policy.tier == tier && policy.governs(subject));
        governing.filter(|policy| !policy.rules(direction).is_empty()).collect::<Vec<_>>()
    };
    let mut tiers = Vec::new();
    let (admin, default) = (cluster(Tier::Admin), cluster(Tier::Baseline));
    tiers.extend(compiler.cluster_tier("admin", &admin)?);
    let isolating: Vec<_> = policies
        .network
        .iter()
        .filter(|policy| policy.governs(subject))
        .filter_map(|policy| Some((policy, policy.rules(direction)?)))
        .collect();
    if let Some((first, _)) = isolating.first() {
        let rules: Vec<&Rule> = isolating.iter().flat_map(|(_, rules)| *rules).collect();
        let and = if isolating.len() > 1 { format!(" (+{} more)", isolating.len() - 1) } else { String::new() };
        tiers.push(GoverningTier {
            name: "network",
            runs: vec![compiler.run(Action::Accept, &rules, "network", 1)?],
            isolates: true,
            origin: format!("NetworkPolicy {}/{} at {}{and}", first.namespace, first.name, first.origin),
        });
    }
    // Where a network policy isolates, its verdict is final (C3).
    if isolating.is_empty() {
        tiers.extend(compiler.cluster_tier("default", &default)?);
    }
    Ok(Governed { tiers })
}

struct Compiler<'a> {
    subject: &'a Identity,
    direction: Direction,
    nodes: &'a [Node],
    /// How many there are so far, against [`MAX_PAIRS`].
    pairs: Cell<usize>,
}

impl Compiler<'_> {
    /// Counts what `parts` of a peer times `ports` come to; a rule without ports speaks of one thing, everything.
    fn count(&self, ports: usize, parts: usize, origin: &Origin) -> Result<(), Unsupported> {
        let pairs = self.pairs.get().saturating_add(ports.max(1).saturating_mul(parts.max(1)));
        self.pairs.set(pairs);
        if pairs > MAX_PAIRS { Err(Unsupported::Pairs(origin.clone())) } else { Ok(()) }
    }

    fn cluster_tier(
        &self,
        name: &'static str,
        policies: &[&ClusterPolicy],
    ) -> Result<Option<GoverningTier>, Unsupported> {
        let Some(first) = policies.first() else { return Ok(None) };
        let rules: Vec<&Rule> = policies.iter().flat_map(|policy| policy.rules(self.direction)).collect();
        let mut runs: Vec<GoverningRun> = Vec::new();
        for same in rules.chunk_by(|one, next| one.action == next.action) {
            let action = same.first().map_or(Action::Deny, |rule| rule.action);
            let groups: usize = runs.iter().map(|run| run.groups.len()).sum();
            runs.push(self.run(action, same, name, groups + 1)?);
        }
        let and = if policies.len() > 1 { format!(" (+{} more)", policies.len() - 1) } else { String::new() };
        let origin = format!("{} {} at {}{and}", first.kind, first.name, first.origin);
        Ok(Some(GoverningTier { name, runs, isolates: false, origin }))
    }

    /// `number` is that of the run's first group within its tier.
    fn run(&self, action: Action, rules: &[&Rule], tier: &str, number: usize) -> Result<GoverningRun, Unsupported> {
        let mut blocks = Vec::new();
        // By the service that is asked beside the set; `None` where members have ports of their own.
        let mut gathered = Groups::new();
        for rule in rules {
            let ports = self.ports(rule);
            let services = services(rule, &ports);
            // A denial is for those as well of whom nobody can say who they are, see `verdict`: of those among `v6`, what
            // is said by labels or by the names of ports.
            let feared = |services: Vec<Service>, v6: &[AddrRange], origin: &str| {
                let own = [SELF_ASSIGNED.range()];
                let meant = subtract(&own, &subtract(&own, v6));
                of(if action == Action::Deny { &services } else { &[] }, Vec::new(), meant, origin, None)
            };
            let with_names = || services.iter().copied().chain(could_be_named(&ports)).collect::<Vec<_>>();
            let anyone = rule.peers.is_empty();
            if anyone {
                self.count(ports.len(), 1, &rule.origin)?;
                let everyone = |family| vec![AddrRange::everything(family)];
                let origin = rule.origin.to_string();
                blocks.extend(of(&services, everyone(Family::V4), everyone(Family::V6), &origin, None));
                blocks.extend(feared(could_be_named(&ports).collect(), &everyone(Family::V6), &origin));
                // A name that each pod resolves for itself: only pods can be meant.
                gather_ports(&mut gathered, &named(&ports), &Pods::anyone(None), &origin);
            }
            for peer in &rule.peers {
                let origin = peer.origin.to_string();
                match &peer.who {
                    Who::Pods { namespaces, pods } => {
                        self.count(ports.len(), size(namespaces, pods), &peer.origin)?;
                        let meant = Pods { namespaces: namespaces.clone(), pods: pods.clone(), within: None };
                        if rule.ports.is_empty() {
                            gather(&mut gathered, Some(Spoken::Everything), &meant, Vec::new(), &origin);
                        }
                        gather_ports(&mut gathered, &ports, &meant, &origin);
                        blocks.extend(feared(with_names(), &[SELF_ASSIGNED.range()], &origin));
                    }
                    Who::Block { cidr, except } => {
                        self.count(ports.len(), 1 + except.len(), &peer.origin)?;
                        let holes =
                            merge(except.iter().filter(|e| e.family() == cidr.family()).map(|e| e.range()).collect());
                        let ranges = subtract(&[cidr.range()], &holes);
                        let names = (cidr.is_host() && action == Action::Accept).then(|| cidr.first());
                        let (v4, v6) = match cidr.family() {
                            Family::V4 => (ranges, Vec::new()),
                            Family::V6 => (Vec::new(), ranges),
                        };
                        blocks.extend(feared(could_be_named(&ports).collect(), &v6, &origin));
                        blocks.extend(of(&services, v4, v6, &origin, names));
                        let meant = Pods::anyone(Some((*cidr, except.clone())));
                        gather_ports(&mut gathered, &named(&ports), &meant, &origin);
                    }
                    Who::Nodes(selector) => {
                        let nodes = self.nodes.iter().filter(|node| selector.selects(&node.labels));
                        let addresses: Vec<IpAddr> = nodes.flat_map(|node| node.addresses.iter().copied()).collect();
                        self.count(ports.len(), addresses.len() + self.nodes.len() * parts(selector), &peer.origin)?;
                        let of_family = |family| {
                            let own = addresses.iter().filter(|address| Family::of(**address) == family);
                            merge(own.map(|address| Cidr::host(*address).range()).collect())
                        };
                        blocks.extend(of(&services, of_family(Family::V4), of_family(Family::V6), &origin, None));
                        blocks.extend(feared(with_names(), &[SELF_ASSIGNED.range()], &origin));
                    }
                    Who::DomainNames(_) => return Err(Unsupported::DomainNames(peer.origin.clone())),
                }
            }
        }
        let groups = gathered.into_iter().enumerate().map(|(index, (spoken, gathered))| {
            let set = format!("{}_{tier}_{}", self.direction, number + index);
            let peers = gathered.peers.into_iter().map(|(meant, mut ports)| {
                ports.sort_unstable();
                ports.dedup();
                let Pods { namespaces, pods, within } = meant;
                WatchedPeer { namespaces, pods, within, ports }
            });
            let service = spoken.map(Spoken::service);
            (service, WatchedGroup { set, action, peers: peers.collect() }, gathered.origins.said())
        });
        Ok(GoverningRun { action, blocks, groups: groups.collect() })
    }

    /// The rule's ports with the names resolved that are the container's own (P5): those of ingress.
    fn ports(&self, rule: &Rule) -> Vec<Port> {
        let resolve = |port: &Port| match port {
            Port::Named { transport, name } if self.direction == Direction::Ingress => {
                let own = self
                    .subject
                    .ports
                    .iter()
                    .filter(|own| own.name == *name && transport.is_none_or(|transport| transport == own.protocol));
                own.filter_map(|own| {
                    Some(Port::Number { transport: own.protocol, ports: PortRange::new(own.port, own.port)? })
                })
                .collect()
            }
            Port::Named { .. } | Port::Number { .. } => vec![port.clone()],
        };
        rule.ports.iter().flat_map(resolve).collect()
    }
}

/// How much there is to be asked of a pod.
pub(super) fn size(namespaces: &Namespaces, pods: &Selector) -> usize {
    parts(pods)
        + match namespaces {
            Namespaces::Own(_) => 0,
            Namespaces::Selected(selector) => parts(selector),
        }
}

/// The same of all rules.
pub(super) fn size_of_rules<'r>(rules: impl IntoIterator<Item = &'r Rule>) -> usize {
    let of_peer = |who: &Who| match who {
        Who::Pods { namespaces, pods } => size(namespaces, pods),
        Who::Block { except, .. } => 1 + except.len(),
        Who::Nodes(selector) => parts(selector),
        Who::DomainNames(names) => names.len(),
    };
    let of = |rule: &Rule| 1 + rule.ports.len() + rule.peers.iter().map(|peer| of_peer(&peer.who)).sum::<usize>();
    rules.into_iter().map(of).sum()
}

/// The same of a selector: itself, its conditions and their values.
pub(in crate::policy) fn parts(selector: &Selector) -> usize {
    1 + selector.requirements.iter().map(|requirement| 1 + requirement.values.len()).sum::<usize>()
}

/// What is asked beside a set of addresses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Spoken {
    Everything,
    Ports(Transport, PortRange),
}

impl Spoken {
    fn service(self) -> Service {
        match self {
            Spoken::Everything => Service::Everything,
            Spoken::Ports(transport, ports) => Service::Ports { transports: Transports::One(transport), ports },
        }
    }
}

#[derive(Default)]
struct Gathered {
    peers: BTreeMap<Pods, Vec<Port>>,
    origins: Origins,
}

/// The first place and how many more.
#[derive(Default)]
struct Origins {
    first: Option<String>,
    count: usize,
}

impl Origins {
    fn add(&mut self, origin: &str) {
        self.count += 1;
        self.first.get_or_insert_with(|| origin.to_owned());
    }

    fn said(self) -> String {
        let first = self.first.unwrap_or_default();
        if self.count > 1 { format!("{first} (+{} more)", self.count - 1) } else { first }
    }
}

/// Pods of a rule, and of their addresses those that it means.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Pods {
    namespaces: Namespaces,
    pods: Selector,
    within: Option<(Cidr, Vec<Cidr>)>,
}

impl Pods {
    fn anyone(within: Option<(Cidr, Vec<Cidr>)>) -> Pods {
        Pods { namespaces: Namespaces::Selected(Selector::default()), pods: Selector::default(), within }
    }
}

type Groups = BTreeMap<Option<Spoken>, Gathered>;

fn gather(groups: &mut Groups, spoken: Option<Spoken>, meant: &Pods, ports: Vec<Port>, origin: &str) {
    let group = groups.entry(spoken).or_default();
    group.peers.entry(meant.clone()).or_default().extend(ports);
    group.origins.add(origin);
}

/// Puts pods into the groups of what is spoken to them.
fn gather_ports(groups: &mut Groups, ports: &[Port], meant: &Pods, origin: &str) {
    let mut single = Vec::new();
    for port in ports {
        match port {
            Port::Number { transport, ports } if ports.first() != ports.last() => {
                gather(groups, Some(Spoken::Ports(*transport, *ports)), meant, Vec::new(), origin);
            }
            Port::Number { .. } | Port::Named { .. } => single.push(port.clone()),
        }
    }
    if !single.is_empty() {
        gather(groups, None, meant, single, origin);
    }
}

/// The services of a rule that need no pod to resolve them. A rule without ports speaks of everything; one whose names
/// nobody resolves, of nothing.
fn services(rule: &Rule, ports: &[Port]) -> Vec<Service> {
    if rule.ports.is_empty() {
        return vec![Service::Everything];
    }
    let number = |port: &Port| match port {
        Port::Number { transport, ports } => {
            Some(Service::Ports { transports: Transports::One(*transport), ports: *ports })
        }
        Port::Named { .. } => None,
    };
    ports.iter().filter_map(number).collect()
}

/// The services that the names of `ports` may stand for at somebody of whom nothing is known.
fn could_be_named(ports: &[Port]) -> impl Iterator<Item = Service> {
    ports.iter().filter_map(|port| match port {
        Port::Named { transport, .. } => {
            let transports = transport.map_or(Transports::All, Transports::One);
            Some(Service::Ports { transports, ports: PortRange::ALL })
        }
        Port::Number { .. } => None,
    })
}

fn named(ports: &[Port]) -> Vec<Port> {
    ports.iter().filter(|port| matches!(port, Port::Named { .. })).cloned().collect()
}

fn of(services: &[Service], v4: Vec<AddrRange>, v6: Vec<AddrRange>, origin: &str, names: Option<IpAddr>) -> Vec<Block> {
    if v4.is_empty() && v6.is_empty() {
        return Vec::new();
    }
    let block = |service: &Service| Block {
        v4: v4.clone(),
        v6: v6.clone(),
        service: *service,
        origin: origin.to_owned(),
        names,
    };
    services.iter().map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::model::{Peer, Requirement};
    use crate::policy::names::NamedPort;

    fn here() -> Origin {
        Origin::Builtin("test")
    }

    fn selector(key: &str, value: &str) -> Selector {
        let requirement =
            Requirement { key: key.into(), operator: crate::policy::model::Operator::In, values: vec![value.into()] };
        Selector { requirements: vec![requirement] }
    }

    fn pods(app: &str) -> Who {
        Who::Pods { namespaces: Namespaces::Own("shop".into()), pods: selector("app", app) }
    }

    fn rule(action: Action, peers: Vec<Who>, ports: Vec<Port>) -> Rule {
        let peers = peers.into_iter().map(|who| Peer { who, origin: here() }).collect();
        Rule { action, peers, ports, name: None, origin: here() }
    }

    fn tcp(first: u16, last: u16) -> Port {
        Port::Number { transport: Transport::Tcp, ports: PortRange::new(first, last).unwrap() }
    }

    fn named(name: &str) -> Port {
        Port::Named { transport: Some(Transport::Tcp), name: name.into() }
    }

    fn web() -> Identity {
        Identity {
            namespace: "shop".into(),
            labels: [("app".to_owned(), "web".to_owned())].into(),
            ports: vec![NamedPort { name: "http".into(), port: 8080, protocol: Transport::Tcp }],
            ..Identity::default()
        }
    }

    fn network(ingress: Option<Vec<Rule>>, egress: Option<Vec<Rule>>) -> NetworkPolicy {
        NetworkPolicy {
            namespace: "shop".into(),
            name: "p".into(),
            pods: selector("app", "web"),
            ingress,
            egress,
            origin: here(),
        }
    }

    fn cluster(priority: u16, ingress: Vec<Rule>) -> ClusterPolicy {
        ClusterPolicy {
            kind: "ClusterNetworkPolicy",
            name: format!("c{priority}"),
            tier: Tier::Admin,
            priority,
            subject: Subject::Namespaces(Selector::default()),
            ingress,
            egress: Vec::new(),
            origin: here(),
        }
    }

    fn ingress(policies: &Policies) -> Vec<GoverningTier> {
        govern(policies, &web(), Direction::Ingress, &[]).unwrap().tiers
    }

    #[test]
    fn what_network_policies_allow_is_one_run_and_its_groups_are_told_apart_by_service_alone() {
        let allow = |app: &str, ports| network(Some(vec![rule(Action::Accept, vec![pods(app)], ports)]), None);
        let policies = Policies {
            network: vec![
                allow("a", vec![tcp(80, 80)]),
                allow("b", vec![tcp(443, 443), tcp(8000, 8999)]),
                allow("c", vec![]),
                allow("a", vec![tcp(81, 81)]),
            ],
            cluster: vec![],
        };
        let tiers = ingress(&policies);
        assert_eq!((tiers.len(), tiers[0].name, tiers[0].isolates, tiers[0].runs.len()), (1, "network", true, 1));
        let groups = &tiers[0].runs[0].groups;
        let shape: Vec<_> =
            groups.iter().map(|(service, group, _)| (group.set.as_str(), *service, group.peers.len())).collect();
        let range =
            Service::Ports { transports: Transports::One(Transport::Tcp), ports: PortRange::new(8000, 8999).unwrap() };
        assert_eq!(
            shape,
            [
                ("ingress_network_1", None, 2),
                ("ingress_network_2", Some(Service::Everything), 1),
                ("ingress_network_3", Some(range), 1),
            ]
        );
        assert_eq!(groups[0].1.peers[0].ports, [tcp(80, 80), tcp(81, 81)], "one selector stands once");
    }

    #[test]
    fn names_of_ingress_are_the_containers_own_and_an_unknown_one_matches_nothing() {
        let block = Who::Block { cidr: "10.0.0.0/8".parse().unwrap(), except: vec!["10.1.0.0/16".parse().unwrap()] };
        let rules = vec![rule(Action::Accept, vec![block, pods("a")], vec![named("http"), named("nobody")])];
        let tiers = ingress(&Policies { network: vec![network(Some(rules), None)], cluster: vec![] });
        let run = &tiers[0].runs[0];
        assert_eq!(run.blocks.len(), 1);
        let Service::Ports { ports, .. } = run.blocks[0].service else { panic!("{run:?}") };
        assert_eq!((ports.first(), ports.last(), run.blocks[0].v4.len()), (8080, 8080, 2));
        assert_eq!(run.groups[0].1.peers[0].ports, [tcp(8080, 8080)]);
        let rules = vec![rule(Action::Accept, vec![], vec![named("nobody")])];
        let tiers = ingress(&Policies { network: vec![network(Some(rules), None)], cluster: vec![] });
        assert_eq!((tiers[0].runs[0].blocks.len(), tiers[0].runs[0].groups.len()), (0, 0));
    }

    #[test]
    fn names_of_egress_are_each_pods_own_in_an_address_block_too() {
        let block = Who::Block { cidr: "10.0.0.0/8".parse().unwrap(), except: vec![] };
        for (peers, within) in [(vec![block], true), (vec![pods("a")], false), (vec![], false)] {
            let rules = vec![rule(Action::Accept, peers, vec![named("http")])];
            let policies = Policies { network: vec![network(None, Some(rules))], cluster: vec![] };
            let tiers = govern(&policies, &web(), Direction::Egress, &[]).unwrap().tiers;
            let run = &tiers[0].runs[0];
            assert_eq!((run.blocks.len(), run.groups.len()), (0, 1));
            assert_eq!(run.groups[0].1.peers[0].within.is_some(), within);
        }
    }

    #[test]
    fn rules_of_the_cluster_tiers_keep_their_order_and_join_where_they_come_to_the_same() {
        let one = |action, app: &str| rule(action, vec![pods(app)], vec![]);
        let policies = Policies {
            network: vec![],
            cluster: vec![
                cluster(1, vec![one(Action::Accept, "a"), one(Action::Accept, "b"), one(Action::Deny, "c")]),
                cluster(2, vec![one(Action::Deny, "d"), one(Action::Pass, "e"), one(Action::Accept, "f")]),
            ],
        };
        let tiers = ingress(&policies);
        let runs: Vec<_> = tiers[0].runs.iter().map(|run| (run.action, run.groups[0].1.peers.len())).collect();
        assert_eq!(runs, [(Action::Accept, 2), (Action::Deny, 2), (Action::Pass, 1), (Action::Accept, 1)]);
        let sets: Vec<_> = tiers[0].runs.iter().map(|run| run.groups[0].1.set.as_str()).collect();
        assert_eq!(sets, ["ingress_admin_1", "ingress_admin_2", "ingress_admin_3", "ingress_admin_4"]);
        assert!(tiers[0].runs.iter().all(|run| run.groups[0].1.action == run.action));
    }

    #[test]
    fn a_network_policy_that_isolates_leaves_the_baseline_nothing_to_say() {
        let baseline =
            ClusterPolicy { tier: Tier::Baseline, ..cluster(1, vec![rule(Action::Deny, vec![pods("a")], vec![])]) };
        let mut policies = Policies { network: vec![], cluster: vec![baseline] };
        assert_eq!(ingress(&policies).iter().map(|tier| tier.name).collect::<Vec<_>>(), ["default"]);
        policies.network = vec![network(Some(vec![]), None)];
        assert_eq!(ingress(&policies).iter().map(|tier| tier.name).collect::<Vec<_>>(), ["network"]);
        policies.network = vec![network(None, Some(vec![]))];
        assert_eq!(ingress(&policies).iter().map(|tier| tier.name).collect::<Vec<_>>(), ["default"]);
    }

    #[test]
    fn domain_names_are_refused_where_they_would_govern() {
        let names = rule(Action::Accept, vec![Who::DomainNames(vec!["a.example".into()])], vec![]);
        let mut policy = cluster(1, vec![]);
        policy.egress = vec![names];
        let policies = Policies { network: vec![], cluster: vec![policy] };
        assert_eq!(govern(&policies, &web(), Direction::Egress, &[]), Err(Unsupported::DomainNames(here())));
        assert!(govern(&policies, &web(), Direction::Ingress, &[]).unwrap().tiers.is_empty());
    }
}
