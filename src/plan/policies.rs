//! Where Kubernetes policies meet nftables: from what governs a container to the [`PolicyLayer`]s of its filter.

use std::net::IpAddr;

use super::layers::Opening;
use crate::error::{Cause, Failure, Finding};
use crate::net::{AddrRange, Direction, Family, Member, Origin, Service, is_of_one_link};
use crate::nft::filter::{Denial, Entry, Group, Otherwise, Peers, PolicyLayer, Ruling, Run, Tier};
use crate::oci::Mode;
use crate::policy::compile::{Block, GoverningRun, GoverningTier, MAX_PAIRS, Unsupported, govern};
use crate::policy::lookup::World;
use crate::policy::model::{Action, Policies};
use crate::policy::service::{Ports, ports};
use crate::policy::watch::{
    Holders, Identity, MAX_QUESTIONS, SERVICES_ACCEPTED, SERVICES_DENIED, Watch, too_many_questions,
};
use crate::policy::world::{Node, Pod};
use crate::settings::{PolicyIcmp, Settings};

/// What policies and the pods they speak of look like from one container.
#[derive(Clone, Copy, Debug)]
pub struct Cluster<'a> {
    /// The policies.
    pub policies: &'a Policies,
    /// Who the container is.
    pub identity: &'a Identity,
    /// Every pod there is, this one among them.
    pub pods: &'a Holders<'a>,
    /// The nodes of the inventory, for peers that are nodes.
    pub nodes: &'a [Node],
    /// The same pods as the specification looks at them: asked for services alone.
    pub world: &'a World,
    /// The container in it.
    pub subject: &'a Pod,
}

/// What policies come to.
#[derive(Debug, Default)]
pub(super) struct OfPolicies {
    /// At most one layer a direction.
    pub(super) layers: Vec<PolicyLayer>,
    /// Who belongs in their sets.
    pub(super) watch: Watch,
    /// What rules let through to an address by naming exactly that.
    pub(super) opened: Vec<Opening>,
    /// What the selectors ask, against [`MAX_QUESTIONS`].
    questions: usize,
}

impl OfPolicies {
    pub(super) fn governs_egress(&self) -> bool {
        self.layers.iter().any(|layer| layer.direction == Direction::Egress)
    }
}

/// The layers of what governs `cluster.identity`. `node` are the addresses of its node.
///
/// # Errors
/// [`Cause::Policy`] for domain names, [`Cause::Limit`] for more than can be asked for in time.
pub(super) fn of(cluster: &Cluster<'_>, settings: &Settings, node: &[IpAddr]) -> Result<OfPolicies, Failure> {
    let mut all = OfPolicies::default();
    for direction in Direction::BOTH {
        let governed = govern(cluster.policies, cluster.identity, direction, cluster.nodes)
            .map_err(|rule| Failure::new("follow the policies", unsupported(&rule)))?;
        if governed.tiers.is_empty() {
            continue;
        }
        let services = if direction == Direction::Egress { of_services(cluster)? } else { None };
        all.watch.services |= services.is_some();
        let mut tiers: Vec<Tier> = services.into_iter().collect();
        for tier in governed.tiers {
            let isolates = tier.isolates;
            let mut tier = of_tier(tier, direction, cluster, &mut all)?;
            if let Some(first) = tier.runs.first_mut().filter(|_| isolates) {
                first.entries.extend(of_icmp(settings));
                first.groups.extend((direction == Direction::Ingress).then(|| of_node(node)));
            }
            tiers.push(tier);
        }
        let denial = match settings.mode.value {
            Mode::Audit => Denial::Audit,
            // Kubernetes' conformance tests take a refusal for a failure (C12).
            Mode::Enforce => Denial::Drop,
        };
        all.layers.push(PolicyLayer { direction, denial, tiers });
    }
    Ok(all)
}

fn unsupported(rule: &Unsupported) -> Cause {
    let origin = match rule {
        Unsupported::DomainNames(origin) => origin,
        Unsupported::Pairs(origin) => {
            let problem = format!("with {origin} there are more than {MAX_PAIRS} pairs of a port and a part of a peer");
            return Cause::Limit(format!("{problem} (MAX_PAIRS)"));
        }
    };
    let message = "domainNames are not supported yet, and govern this container; write networks or pods".to_owned();
    Cause::Policy(vec![match origin {
        Origin::File { path, line, at } => {
            Finding { file: path.clone(), position: Some((*line, 1)), at: at.clone(), message }
        }
        Origin::Builtin(_) | Origin::Annotation { .. } | Origin::Bundle { .. } => {
            Finding { file: origin.to_string(), position: None, at: String::new(), message }
        }
    }])
}

fn of_tier(
    tier: GoverningTier,
    direction: Direction,
    cluster: &Cluster<'_>,
    all: &mut OfPolicies,
) -> Result<Tier, Failure> {
    let runs: Result<Vec<Run>, Failure> =
        tier.runs.into_iter().map(|run| of_run(run, direction, cluster, all)).collect();
    let otherwise = if tier.isolates { Otherwise::Deny } else { Otherwise::Continue };
    Ok(Tier { name: tier.name, runs: runs?, otherwise, origin: tier.origin })
}

fn of_run(
    run: GoverningRun,
    direction: Direction,
    cluster: &Cluster<'_>,
    all: &mut OfPolicies,
) -> Result<Run, Failure> {
    let ruling = match run.action {
        Action::Accept => Ruling::Accept,
        Action::Deny => Ruling::Deny,
        Action::Pass => Ruling::Pass,
    };
    if direction == Direction::Egress {
        let opening = |block: &Block| {
            let (service, origin) = (block.service, block.origin.clone());
            block.names.map(|address| Opening { address, service, origin })
        };
        all.opened.extend(run.blocks.iter().filter_map(opening));
    }
    let entry = |block: Block| Entry {
        deny: false,
        peers: Peers::ranges(block.v4, block.v6),
        service: block.service,
        origin: block.origin.into(),
    };
    let groups = run.groups.into_iter().map(|(service, watched, origin)| {
        // Before they are asked, for asking is what takes the time.
        all.questions = all.questions.saturating_add(watched.questions(cluster.pods));
        if all.questions > MAX_QUESTIONS {
            return Err(too_many_questions(&origin));
        }
        let members = watched.members(cluster.pods);
        let group = Group { set: watched.set.clone(), service, members, origin };
        all.watch.groups.push(watched);
        Ok(group)
    });
    let groups: Result<Vec<Group>, Failure> = groups.collect();
    Ok(Run { ruling, groups: groups?, entries: run.blocks.into_iter().map(entry).collect() })
}

/// `policy-icmp: accept`: what the API leaves undefined passes the network policies, and nothing else.
fn of_icmp(settings: &Settings) -> Option<Entry> {
    let everyone = |family| vec![AddrRange::everything(family)];
    (settings.policy_icmp.value == PolicyIcmp::Accept).then(|| Entry {
        deny: false,
        peers: Peers::ranges(everyone(Family::V4), everyone(Family::V6)),
        service: Service::Icmp,
        origin: settings.policy_icmp.origin.to_string().into(),
    })
}

/// Virtual addresses of services come before every tier: what is on the packet is not who will get it. The sets follow
/// the pods behind them.
fn of_services(cluster: &Cluster<'_>) -> Result<Option<Tier>, Failure> {
    if !cluster.world.inventory().has_services() {
        return Ok(None);
    }
    let Ports { accepted, denied } = ports(cluster.policies, cluster.world, cluster.subject)?;
    let run = |ruling, set: &str, members| {
        let origin = "services, by their endpoints".to_owned();
        let group = Group { set: set.to_owned(), service: None, members, origin };
        Run { ruling, entries: Vec::new(), groups: vec![group] }
    };
    Ok(Some(Tier {
        name: "service",
        runs: vec![run(Ruling::Accept, SERVICES_ACCEPTED, accepted), run(Ruling::Deny, SERVICES_DENIED, denied)],
        otherwise: Otherwise::Continue,
        origin: "services".to_owned(),
    }))
}

/// What comes from the pod's own node always passes the network policies (N1). A set of its own: the engine may make the
/// container's bridge, with an address of the host's, only after its createRuntime.
///
/// Link-local addresses are left out. They are chosen link by link, and a neighbour may choose one that this host has on
/// another link.
fn of_node(node: &[IpAddr]) -> Group {
    let mut members: Vec<Member> = node
        .iter()
        .filter(|address| !address.is_loopback() && !is_of_one_link(**address))
        .map(|address| Member { address: *address, port: None })
        .collect();
    members.sort_unstable();
    members.dedup();
    Group {
        set: "ingress_node".to_owned(),
        service: Some(Service::Everything),
        members,
        origin: "the container's own node".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Requests;
    use crate::policy::model::{NetworkPolicy, Operator, Peer, Requirement, Rule, Selector, Who};
    use crate::policy::watch::Holder;
    use crate::policy::world::Inventory;

    /// The failure of a policy whose one selector has so many values, among so many pods that it may mean.
    fn asked(values: usize, pods: usize) -> Option<Failure> {
        let pod = |n: usize| {
            let labels = [("n".to_owned(), n.to_string())].into();
            Identity { namespace: "default".into(), labels, ..Identity::default() }
        };
        let identities: Vec<Identity> = (0..pods).map(pod).collect();
        let address = [IpAddr::from([10, 0, 0, 1])];
        let holders = Holders::new(identities.iter().map(|identity| Holder { identity, addresses: &address }));
        let values = (0..values).map(|n| format!("v{n}")).collect();
        let requirement = Requirement { key: "n".into(), operator: Operator::In, values };
        let who = Who::Pods {
            namespaces: crate::policy::model::Namespaces::Own("default".into()),
            pods: Selector { requirements: vec![requirement] },
        };
        let origin = Origin::Builtin("test");
        let rule = Rule {
            action: Action::Accept,
            peers: vec![Peer { who, origin: origin.clone() }],
            ports: Vec::new(),
            name: None,
            origin: origin.clone(),
        };
        let policy = NetworkPolicy {
            namespace: "default".into(),
            name: "p".into(),
            pods: Selector::default(),
            ingress: Some(vec![rule]),
            egress: None,
            origin,
        };
        let policies = Policies { network: vec![policy], cluster: Vec::new() };
        let (identity, world) = (pod(0), World::new(Inventory::default()));
        let subject = Pod::of_container("c", &identity, Vec::new());
        let cluster = Cluster {
            policies: &policies,
            identity: &identity,
            pods: &holders,
            nodes: &[],
            world: &world,
            subject: &subject,
        };
        let settings = Settings::decide(None, Requests::default()).unwrap();
        of(&cluster, &settings, &[]).err()
    }

    #[test]
    fn selectors_ask_at_most_so_much_and_are_refused_before_they_ask() {
        assert_eq!(asked(100, 100), None);
        // A selector, its condition and its values are asked of each pod.
        let failure = asked(100_000 - 2, MAX_QUESTIONS / 100_000 + 1).unwrap();
        assert_eq!(failure.exit_code(), 41);
        assert!(failure.to_string().contains("(MAX_QUESTIONS)"), "{failure}");
    }
}
