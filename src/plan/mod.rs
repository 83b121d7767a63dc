//! From what is wanted to an ordered list of steps: a plain value that can be printed, compared and applied.
//!
//! Close before open: the table goes first, so that whatever fails later leaves the namespace filtered; then the
//! sysctls, so that `::1` and duplicate address detection never appear where IPv6 is to be off; then `lo`.

pub mod layers;
mod policies;
mod print;
pub mod uncovered;

pub use policies::Cluster;

use std::net::IpAddr;

use self::policies::OfPolicies;
use self::uncovered::{Against, NotCovered, uncovered};
use crate::error::{Cause, Failure};
use crate::net::{Direction, Origin};
use crate::nft::build::{build, guard, signed};
use crate::nft::filter::{Denial, Filter, Ipv6Traffic, Layer, PolicyLayer};
use crate::nft::ruleset::Table;
use crate::oci::{Bundle, Mode, OnDenied, State};
use crate::policy::group::Group;
use crate::policy::watch::Watch;
use crate::settings::{Identity, LayerSource, ListLayer, NetAdmin, NetRaw, RouterAdvertisements, Settings};
use crate::sysctl::devconf::{LeftAlone, Source, writes};
use crate::sysctl::ipv6::{Ipv6, Write, steps};
use crate::sysctl::{contradictions, disagreements, give_way};

/// What must be known of this host and cannot be asked from inside the container's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The host's addresses, for `@host`; empty where nothing asks for them.
    pub host: Vec<IpAddr>,
    /// The addresses of the container's own node, for policies: this host's, as they are now.
    pub node: Vec<IpAddr>,
    /// The host's side of `devconf`.
    pub devconf: Source,
}

/// Which facts a container's settings ask for.
pub fn needs_host_addresses(settings: &Settings) -> bool {
    settings.always_denied.value.contains(&Group::Host) || settings.lists.iter().any(|layer| layer.list.mentions_host())
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Put the table in place of whatever carries its name, in one batch, and read it back.
    ReplaceTable(Box<Table>),
    /// Take away a table of an earlier plan: this one has nothing to filter.
    NoTable,
    /// Bring sysctls about, in this order, and read them back.
    Sysctls(Vec<Write>),
    /// Bring `lo` up as runc does, and read it back: flags, 127.0.0.1/8, and ::1/128 precisely where IPv6 is on.
    RaiseLoopback,
}

/// What will be done for one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The container's id.
    pub id: String,
    /// Who it is to policies.
    pub identity: Identity,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// What is to be enforced at the host's end of the container's links too, for it may undo what is in its own namespace:
    /// [`host_side`](crate::nft::build::host_side()).
    pub host_side: Option<Filter>,
    /// The layers of the table, for people.
    pub layers: Vec<Layer>,
    /// The tiers of policies in it, for people.
    pub policies: Vec<PolicyLayer>,
    /// Who belongs in the table's sets as pods come and go.
    pub watch: Watch,
    /// What was decided otherwise, and what could not be looked at.
    pub notes: Vec<String>,
    /// What none of this governs; empty where there is nothing to govern.
    pub not_covered: Vec<NotCovered>,
}

impl Plan {
    /// The table, where there is one.
    pub fn table(&self) -> Option<&Table> {
        self.steps.iter().find_map(|step| match step {
            Step::ReplaceTable(table) => Some(table.as_ref()),
            Step::NoTable | Step::Sysctls(_) | Step::RaiseLoopback => None,
        })
    }

    /// The sysctls, in order.
    pub fn sysctls(&self) -> impl Iterator<Item = &Write> {
        self.steps.iter().flat_map(|step| match step {
            Step::Sysctls(writes) => writes.as_slice(),
            Step::ReplaceTable(_) | Step::NoTable | Step::RaiseLoopback => &[],
        })
    }
}

/// Plans for a container. `bundle` is `None` where config.json is missing, `cluster` where there are no policies.
///
/// # Errors
/// [`Cause::Policy`] where a policy that governs the container asks for what cannot be done;
/// [`Cause::NetAdmin`], [`Cause::Contradiction`] and [`Cause::Bundle`] where config.json stands against the settings;
/// [`Cause::Limit`] where lists multiply past what can be loaded.
pub fn plan(
    state: &State,
    bundle: Option<&Bundle>,
    settings: &Settings,
    facts: &Facts,
    cluster: Option<&Cluster<'_>>,
) -> Result<Plan, Failure> {
    let mut notes = Vec::new();
    let Rules { table, filter, watch } = rules(settings, facts, cluster)?;
    let (writes, left_alone) = sysctls(settings, facts)?;
    let (mut outside, mut not_covered) = (false, Vec::new());
    if table.is_some() || !writes.is_empty() {
        outside = check_bundle(bundle, settings, &writes, &mut notes)?;
        not_covered = uncovered(bundle, &Against::planned(settings, table.as_ref(), filter.as_ref()));
    }
    let host_side = filter.as_ref().filter(|_| outside).map(stands_outside).transpose()?.cloned();
    let (layers, policies) = filter.map(|filter| (filter.layers, filter.policies)).unwrap_or_default();
    notes.extend(left_alone.iter().map(|left| format!("{} is left alone: {}", left.name, left.reason)));

    let first = table.map_or(Step::NoTable, |table| Step::ReplaceTable(Box::new(table)));
    let sysctls = (!writes.is_empty()).then_some(Step::Sysctls(writes));
    let steps = std::iter::once(first).chain(sysctls).chain([Step::RaiseLoopback]).collect();
    let (id, identity) = (state.id.clone(), settings.identity.clone());
    Ok(Plan { id, identity, steps, host_side, layers, policies, watch, notes, not_covered })
}

/// Whether the rules of a container may have to stand at the host's end of its links too: [`plan`] decides, but what that
/// takes has to be opened before the container's namespace is joined.
pub fn may_stand_outside(settings: &Settings, bundle: Option<&Bundle>) -> bool {
    let holds = bundle.is_some_and(|bundle| bundle.holds_capability("CAP_NET_ADMIN").is_some());
    holds && settings.net_admin.value == NetAdmin::HostSide
}

/// The filter, where it can be enforced at the host's end of a container's links.
///
/// # Errors
/// [`Cause::HostSide`] where it follows who comes and goes.
pub fn stands_outside(filter: &Filter) -> Result<&Filter, Failure> {
    let Some(group) = follows(filter) else { return Ok(filter) };
    let problem =
        format!("{group} selects peers that come and go, which only rules in the container's namespace follow");
    Err(Failure::new("protect a container that holds CAP_NET_ADMIN", Cause::HostSide(problem)))
}

/// The origin of a group of peers, where a filter has one.
fn follows(filter: &Filter) -> Option<&str> {
    let tiers = filter.policies.iter().flat_map(|policy| &policy.tiers);
    let mut groups = tiers.flat_map(|tier| &tier.runs).flat_map(|run| &run.groups);
    groups.next().map(|group| group.origin.as_str())
}

/// Looks at what config.json says against the plan. Whether the rules have to stand outside the container too.
fn check_bundle(
    bundle: Option<&Bundle>,
    settings: &Settings,
    writes: &[Write],
    notes: &mut Vec<String>,
) -> Result<bool, Failure> {
    let Some(bundle) = bundle else {
        // A missing config.json is tolerated where nobody asked for a check of it: crun before 1.30 passes "/" as the
        // bundle of some containers (containers/crun#2025). An admin who wrote `net-admin: refuse` did ask.
        let written = |origin: &Origin| !matches!(origin, Origin::Builtin(_));
        let asked = [
            ("CAP_NET_ADMIN", settings.net_admin.value != NetAdmin::Allow, &settings.net_admin.origin),
            ("CAP_NET_RAW", settings.net_raw.value == NetRaw::Refuse, &settings.net_raw.origin),
        ];
        if let Some((capability, _, origin)) = asked.iter().find(|(_, refuses, origin)| *refuses && written(origin)) {
            let problem = format!("it is missing (ENOENT), and {origin} asks for its capabilities");
            let cause = Cause::Bundle { file: "config.json".to_owned(), problem };
            return Err(Failure::new(format!("look for {capability}"), cause));
        }
        notes.push("config.json is missing: its capabilities and sysctls were not looked at".to_owned());
        return Ok(false);
    };
    let outside = check_capabilities(bundle, settings, notes)?;
    contradictions(writes, &bundle.sysctls, &bundle.file)?;
    Ok(outside)
}

/// Whether a container that runs under rules already would be let start with this bundle and these settings. `outside` is whether
/// its rules stand at the host's side, where they are put before it runs and never later.
///
/// # Errors
/// [`Cause::NetAdmin`], [`Cause::NetRaw`] and [`Cause::HostSide`] as [`plan`].
pub fn would_start(bundle: Option<&Bundle>, settings: &Settings, outside: bool) -> Result<(), Failure> {
    let Some(bundle) = bundle else { return Ok(()) };
    if check_capabilities(bundle, settings, &mut Vec::new())? && !outside {
        let problem = "its rules do not stand at the host's side, where they are put before it runs alone";
        return Err(Failure::new("protect a container that holds CAP_NET_ADMIN", Cause::HostSide(problem.to_owned())));
    }
    Ok(())
}

/// The part of [`check_bundle`] that concerns capabilities.
fn check_capabilities(bundle: &Bundle, settings: &Settings, notes: &mut Vec<String>) -> Result<bool, Failure> {
    let mut outside = false;
    if let Some(held) = bundle.holds_capability("CAP_NET_ADMIN") {
        match settings.net_admin.value {
            NetAdmin::Refuse => {
                return Err(Failure::new("protect the container", Cause::NetAdmin(held.to_string())));
            }
            // Without one it holds the capability over the host's namespace too, which its veth names: RTM_NEWLINK with
            // IFLA_TARGET_NETNSID or IFLA_LINK_NETNSID (`rtnl_get_net_ns_capable`) makes it another link, without rules.
            NetAdmin::HostSide if !bundle.user_namespace => {
                let problem = "without a user namespace its CAP_NET_ADMIN makes links in the host's network as well";
                let doing = "protect a container that holds CAP_NET_ADMIN";
                return Err(Failure::new(doing, Cause::HostSide(problem.to_owned())));
            }
            NetAdmin::HostSide => outside = true,
            NetAdmin::Allow => {
                notes.push(format!("unprotected: the container's {held} holds CAP_NET_ADMIN, which the admin allows"))
            }
        }
    }
    if let Some(held) = bundle.holds_capability("CAP_NET_RAW") {
        match settings.net_raw.value {
            NetRaw::Refuse => return Err(Failure::new("protect the container", Cause::NetRaw(held.to_string()))),
            NetRaw::Guard => {}
            NetRaw::Allow => notes.push(format!(
                "unguarded: the container's {held} holds CAP_NET_RAW, and {} lets packet sockets send past the rules",
                settings.net_raw.origin
            )),
        }
    }
    Ok(outside)
}

/// Devconf gives way to what is named, and both to what `ipv6` says: its writes come before the named ones, so that
/// `default` is closed before anything that could wake an interface.
fn sysctls(settings: &Settings, facts: &Facts) -> Result<(Vec<Write>, Vec<LeftAlone>), Failure> {
    let carried = writes(&facts.devconf, settings.ipv6.value, &settings.devconf.origin);
    let ipv6 = steps(settings.ipv6.value, &settings.ipv6.origin);
    disagreements(&ipv6, &settings.sysctls)?;
    let mut devconf = carried.writes;
    give_way(&mut devconf, &settings.sysctls);
    let named = settings.sysctls.iter().cloned().map(Write::One);
    Ok((ipv6.into_iter().chain(devconf).chain(named).collect(), carried.left_alone))
}

/// The sysctls that a plan brings about, in their order: what a running container's are held against.
///
/// # Errors
/// [`Cause::Contradiction`], as [`plan`].
pub fn sysctl_writes(settings: &Settings, facts: &Facts) -> Result<Vec<Write>, Failure> {
    sysctls(settings, facts).map(|(writes, _)| writes)
}

/// The part of a plan that can be brought about again while the container runs: `netlatch reload`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The table; `None` where nothing is filtered.
    pub table: Option<Table>,
    /// What it was built from.
    pub filter: Option<Filter>,
    /// Who belongs in its sets.
    pub watch: Watch,
}

/// The rules for a container, without a look at its bundle.
///
/// # Errors
/// [`Cause::Policy`] and [`Cause::Limit`], as [`plan`].
pub fn rules(settings: &Settings, facts: &Facts, cluster: Option<&Cluster<'_>>) -> Result<Rules, Failure> {
    let ipv6 = match settings.ipv6.value {
        Ipv6::Leave | Ipv6::Enable => Ipv6Traffic::Filtered,
        Ipv6::Disable => Ipv6Traffic::Dropped,
        Ipv6::LoopbackOnly => Ipv6Traffic::LoopbackOnly,
    };
    let policies = cluster.map(|cluster| policies::of(cluster, settings, &facts.node)).transpose()?.unwrap_or_default();
    let always = always_denied(settings, facts, &policies);
    let lists = settings.lists.iter().map(|layer| {
        let name = match layer.source {
            LayerSource::Baseline => "baseline",
            LayerSource::Annotation => "annotation",
        };
        layers::of_list(
            name,
            layer.direction,
            &layer.list,
            denial(layer.mode, layer.on_denied),
            &facts.host,
            &layer.origin,
        )
    });
    let layers: Vec<Layer> = always.into_iter().chain(lists).collect();
    let router_advertisements = settings.router_advertisements.value == RouterAdvertisements::Accept;
    // The default drops them only where there is a table anyway; an admin who wrote it gets a table for it.
    let only_advertisements =
        !router_advertisements && !matches!(settings.router_advertisements.origin, Origin::Builtin(_));
    if layers.is_empty() && policies.layers.is_empty() && ipv6 == Ipv6Traffic::Filtered && !only_advertisements {
        return Ok(Rules::default());
    }
    let filter = Filter { ipv6, router_advertisements, layers, policies: policies.layers };
    let guard = match settings.net_raw.value {
        NetRaw::Guard | NetRaw::Refuse => guard(&filter),
        NetRaw::Allow => None,
    };
    let table = signed(build(&filter, String::new())?, guard);
    let watch = Watch { ipv6: ipv6 == Ipv6Traffic::Filtered, ..policies.watch };
    Ok(Rules { table: Some(table), filter: Some(filter), watch })
}

const fn denial(mode: Mode, on_denied: OnDenied) -> Denial {
    match (mode, on_denied) {
        (Mode::Audit, _) => Denial::Audit,
        (Mode::Enforce, OnDenied::Reject) => Denial::Reject,
        (Mode::Enforce, OnDenied::Drop) => Denial::Drop,
    }
}

/// The always-denied groups answer as the first egress list does.
///
/// They are denied wherever egress is filtered at all, by a policy too, and policies are the admin's word: what one of
/// them lets through to an address by naming exactly that is opened as by a list of the admin's.
fn always_denied(settings: &Settings, facts: &Facts, policies: &OfPolicies) -> Option<Layer> {
    let governed = policies.governs_egress().then_some(settings.mode.value);
    let mode = settings.denies_always().or(governed)?;
    let egress: Vec<&ListLayer> = settings.lists.iter().filter(|l| l.direction == Direction::Egress).collect();
    let on_denied = egress.first().map_or(OnDenied::Reject, |layer| layer.on_denied);
    let origin = settings.always_denied.origin.to_string();
    let lists: Vec<_> = settings.opening_lists().collect();
    let groups = settings.always_denied.value.iter().copied();
    layers::always_denied(groups, &lists, &policies.opened, denial(mode, on_denied), &facts.host, &origin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Requests;
    use crate::settings::Config;

    fn plan_under(config: &str) -> Plan {
        let state = State::parse(br#"{"ociVersion":"1.0","id":"c","pid":5,"annotations":{}}"#).unwrap();
        let config = Config::parse("c.yaml", config.as_bytes()).unwrap();
        let settings = Settings::decide(Some(config), Requests::default()).unwrap();
        plan(&state, None, &settings, &Facts::default(), None).unwrap()
    }

    #[test]
    fn router_advertisements_that_the_admin_drops_are_dropped_without_any_list() {
        let table = plan_under("router-advertisements: drop\n").table().map(ToString::to_string).unwrap_or_default();
        assert!(table.contains("icmpv6 type 134 drop"), "{table}");
        assert_eq!(plan_under("").table(), None);
        assert_eq!(plan_under("router-advertisements: accept\n").table(), None);
    }

    #[test]
    fn without_a_user_namespace_nothing_at_the_hosts_side_holds_and_it_does_not_start() {
        let bundle = |namespaces: &str| {
            let text = format!(
                r#"{{"process":{{"capabilities":{{"bounding":["CAP_NET_ADMIN"]}}}},"linux":{{"namespaces":[{namespaces}]}}}}"#
            );
            Bundle::parse("/b/config.json", text.as_bytes()).unwrap()
        };
        let state = State::parse(br#"{"ociVersion":"1.0","id":"c","pid":5,"annotations":{}}"#).unwrap();
        let config = Config::parse("c.yaml", b"egress: none\nnet-admin: host-side\n").unwrap();
        let settings = Settings::decide(Some(config), Requests::default()).unwrap();
        let plan_of = |bundle: &Bundle| plan(&state, Some(bundle), &settings, &Facts::default(), None);
        let failure = plan_of(&bundle(r#"{"type":"network"}"#)).unwrap_err();
        assert_eq!(failure.exit_code(), 19, "{failure}");
        let plan = plan_of(&bundle(r#"{"type":"network"},{"type":"user"}"#)).unwrap();
        assert!(plan.host_side.is_some());
    }
}
