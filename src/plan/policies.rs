//! Where Kubernetes policies meet nftables: from what governs a container to the [`PolicyLayer`]s of its filter.

use std::net::IpAddr;

use super::layers::Opening;
use crate::error::{Cause, Failure, Finding};
use crate::net::{AddrRange, Direction, Family, Member, Origin, Service, is_of_one_link};
use crate::nft::filter::{Denial, Entry, Group, Otherwise, PolicyLayer, Ruling, Run, Tier};
use crate::oci::Mode;
use crate::policy::compile::{Block, GoverningRun, GoverningTier, govern};
use crate::policy::lookup::World;
use crate::policy::model::{Action, Policies};
use crate::policy::service::{Ports, ports};
use crate::policy::watch::{Holders, Identity, SERVICES_ACCEPTED, SERVICES_DENIED, Watch};
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
}

impl OfPolicies {
    pub(super) fn governs_egress(&self) -> bool {
        self.layers.iter().any(|layer| layer.direction == Direction::Egress)
    }
}

/// The layers of what governs `cluster.identity`. `node` are the addresses of its node.
///
/// # Errors
/// [`Cause::Policy`] for domain names.
pub(super) fn of(cluster: &Cluster<'_>, settings: &Settings, node: &[IpAddr]) -> Result<OfPolicies, Failure> {
    let mut all = OfPolicies::default();
    for direction in Direction::BOTH {
        let governed = govern(cluster.policies, cluster.identity, direction, cluster.nodes)
            .map_err(|rule| Failure::new("follow the policies", Cause::Policy(vec![unsupported(&rule.origin)])))?;
        if governed.tiers.is_empty() {
            continue;
        }
        let services = (direction == Direction::Egress).then(|| of_services(cluster)).flatten();
        all.watch.services |= services.is_some();
        let mut tiers: Vec<Tier> = services.into_iter().collect();
        for tier in governed.tiers {
            let isolates = tier.isolates;
            let mut tier = of_tier(tier, direction, cluster, &mut all);
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

fn unsupported(origin: &Origin) -> Finding {
    let message = "domainNames are not supported yet, and govern this container; write networks or pods".to_owned();
    match origin {
        Origin::File { path, line, at } => {
            Finding { file: path.clone(), position: Some((*line, 1)), at: at.clone(), message }
        }
        Origin::Builtin(_) | Origin::Annotation { .. } | Origin::Bundle { .. } => {
            Finding { file: origin.to_string(), position: None, at: String::new(), message }
        }
    }
}

fn of_tier(tier: GoverningTier, direction: Direction, cluster: &Cluster<'_>, all: &mut OfPolicies) -> Tier {
    let runs = tier.runs.into_iter().map(|run| of_run(run, direction, cluster, all)).collect();
    let otherwise = if tier.isolates { Otherwise::Deny } else { Otherwise::Continue };
    Tier { name: tier.name, runs, otherwise, origin: tier.origin }
}

fn of_run(run: GoverningRun, direction: Direction, cluster: &Cluster<'_>, all: &mut OfPolicies) -> Run {
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
    let entry =
        |block: Block| Entry { deny: false, v4: block.v4, v6: block.v6, service: block.service, origin: block.origin };
    let groups = run.groups.into_iter().map(|(service, watched, origin)| {
        let members = watched.members(cluster.pods);
        let group = Group { set: watched.set.clone(), service, members, origin };
        all.watch.groups.push(watched);
        group
    });
    Run { ruling, groups: groups.collect(), entries: run.blocks.into_iter().map(entry).collect() }
}

/// `policy-icmp: accept`: what the API leaves undefined passes the network policies, and nothing else.
fn of_icmp(settings: &Settings) -> Option<Entry> {
    let everyone = |family| vec![AddrRange::everything(family)];
    (settings.policy_icmp.value == PolicyIcmp::Accept).then(|| Entry {
        deny: false,
        v4: everyone(Family::V4),
        v6: everyone(Family::V6),
        service: Service::Icmp,
        origin: settings.policy_icmp.origin.to_string(),
    })
}

/// Virtual addresses of services come before every tier: what is on the packet is not who will get it. The sets follow
/// the pods behind them.
fn of_services(cluster: &Cluster<'_>) -> Option<Tier> {
    if !cluster.world.inventory().has_services() {
        return None;
    }
    let Ports { accepted, denied } = ports(cluster.policies, cluster.world, cluster.subject);
    let run = |ruling, set: &str, members| {
        let origin = "services, by their endpoints".to_owned();
        let group = Group { set: set.to_owned(), service: None, members, origin };
        Run { ruling, entries: Vec::new(), groups: vec![group] }
    };
    Some(Tier {
        name: "service",
        runs: vec![run(Ruling::Accept, SERVICES_ACCEPTED, accepted), run(Ruling::Deny, SERVICES_DENIED, denied)],
        otherwise: Otherwise::Continue,
        origin: "services".to_owned(),
    })
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
