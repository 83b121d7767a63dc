//! What holds for one container: built-in defaults < the configuration file < annotations, every value with its
//! source.
//!
//! **Annotations may only tighten.** Whoever builds an image can set them (podman before 4.6 copies image annotations
//! into the container), so nothing a container carries can widen what the admin wrote: its lists are layers of their
//! own that a packet must pass besides the admin's, and what contradicts the file is refused with both places named.

mod config;
mod identity;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

pub use config::{Config, DEFAULT_FILE, HostNetwork, NetAdmin, NetRaw, PolicyIcmp, RouterAdvertisements, check};
pub use identity::{Identity, complete, is_same_pod};

use crate::document::clipped;
use crate::error::{Cause, Failure};
use crate::net::{Direction, Family, Origin, Packet};
use crate::oci::{Annotation, Mode, OnDenied, Requests, Sourced};
use crate::policy::group::Group;
use crate::policy::list::List;
use crate::sysctl::{AllowList, Devconf, Ipv6, Setting, Write, disagreements, ipv6, same_value};

/// Where policies are read when nobody says otherwise.
pub const DEFAULT_POLICIES: &str = "/etc/netlatch/policies";

/// Who wrote a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LayerSource {
    /// The admin, for every container.
    Baseline,
    /// The container.
    Annotation,
}

/// A list that every packet of its direction must pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListLayer {
    /// Which packets.
    pub direction: Direction,
    /// Who wrote it.
    pub source: LayerSource,
    /// The list.
    pub list: List,
    /// Whether what it denies is dropped.
    pub mode: Mode,
    /// How.
    pub on_denied: OnDenied,
    /// Where it was written.
    pub origin: Origin,
}

/// What holds for a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The lists, the admin's before the container's.
    pub lists: Vec<ListLayer>,
    /// Groups that egress never reaches, see [`Settings::denies_always`].
    pub always_denied: Sourced<BTreeSet<Group>>,
    /// The admin's mode: of the baseline lists, the always-denied groups and policies.
    pub mode: Sourced<Mode>,
    /// Whether the container has IPv6.
    pub ipv6: Sourced<Ipv6>,
    /// Where its per-interface sysctls come from.
    pub devconf: Sourced<Devconf>,
    /// Sysctls by name, the admin's before the container's; one value for a file.
    pub sysctls: Vec<Setting>,
    /// Whether router advertisements pass.
    pub router_advertisements: Sourced<RouterAdvertisements>,
    /// What network policies say of ICMP.
    pub policy_icmp: Sourced<PolicyIcmp>,
    /// Whether it may hold `CAP_NET_ADMIN`.
    pub net_admin: Sourced<NetAdmin>,
    /// Whether it may hold `CAP_NET_RAW`, and what becomes of frames that nobody routed.
    pub net_raw: Sourced<NetRaw>,
    /// What happens on the host's network.
    pub host_network: Sourced<HostNetwork>,
    /// What policies select it by.
    pub identity: Identity,
    /// Where policies are read.
    pub policies: Sourced<PathBuf>,
    /// Whether the container carries any annotation of ours.
    pub explicit: bool,
}

impl Settings {
    /// Puts the three sources together. Without a file `config` is `None`.
    ///
    /// # Errors
    /// [`Cause::NotPermitted`] where an annotation asks for what the file does not grant, [`Cause::Contradiction`]
    /// where two places want different values of one sysctl.
    pub fn decide(config: Option<Config>, requests: Requests) -> Result<Settings, Failure> {
        let (mut config, mut requests) = (config.unwrap_or_default(), requests);
        check_permitted(&config, &requests)?;
        let lists = layers(&mut config, &mut requests);
        let ipv6 = decide_ipv6(config.ipv6, requests.ipv6)?;
        let devconf = decide_devconf(config.devconf, requests.devconf)?;
        let sysctls = decide_sysctls(config.sysctls, requests.sysctls, config.allow_sysctls, &ipv6)?;
        Ok(Settings {
            lists,
            always_denied: config
                .always_denied
                .unwrap_or_else(|| Sourced::builtin(BTreeSet::from([Group::Metadata]), "always-denied")),
            mode: config.mode.unwrap_or(Sourced::builtin(Mode::Enforce, "mode")),
            ipv6: ipv6.effective,
            devconf,
            sysctls,
            router_advertisements: config
                .router_advertisements
                .unwrap_or(Sourced::builtin(RouterAdvertisements::Drop, "router-advertisements")),
            policy_icmp: config.policy_icmp.unwrap_or(Sourced::builtin(PolicyIcmp::Rules, "policy-icmp")),
            net_admin: config.net_admin.unwrap_or(Sourced::builtin(NetAdmin::Refuse, "net-admin")),
            net_raw: config.net_raw.unwrap_or(Sourced::builtin(NetRaw::Guard, "net-raw")),
            host_network: config.host_network.unwrap_or(Sourced::builtin(HostNetwork::Skip, "host-network")),
            identity: Identity {
                namespace: requests.namespace.unwrap_or_else(|| Sourced::builtin("default".to_owned(), "namespace")),
                labels: requests.labels.unwrap_or_else(|| Sourced::builtin(BTreeMap::new(), "labels")),
                ports: requests.ports.unwrap_or_else(|| Sourced::builtin(Vec::new(), "ports")),
                pod: requests.pod,
                labels_unknown: requests.labels_unknown,
            },
            policies: config.policies.unwrap_or_else(|| Sourced::builtin(PathBuf::from(DEFAULT_POLICIES), "policies")),
            explicit: !requests.given.is_empty(),
        })
    }

    fn lists_of(&self, direction: Direction) -> impl Iterator<Item = &ListLayer> {
        self.lists.iter().filter(move |layer| layer.direction == direction)
    }

    /// Whether the always-denied groups are the admin's word: written in the file, or standing before a baseline
    /// list. Otherwise they are there for the container's own egress list only.
    fn always_denied_is_the_admins(&self) -> bool {
        !matches!(self.always_denied.origin, Origin::Builtin(_))
            || self.lists_of(Direction::Egress).any(|layer| layer.source == LayerSource::Baseline)
    }

    /// The mode in which the always-denied groups are denied to egress; `None` where they are not: as long as the
    /// file does not name them they stand only before egress lists. (Policies that govern egress are the caller's to
    /// know, see `plan`; with one of them the groups are denied in [`Settings::mode`].)
    pub fn denies_always(&self) -> Option<Mode> {
        if self.always_denied_is_the_admins() {
            return Some(self.mode.value);
        }
        self.lists_of(Direction::Egress).map(|layer| layer.mode).next()
    }

    /// The lists whose entries of exactly one address open it where it is always denied, for what they let through to it.
    /// Where the denial is the admin's, only the admin's do.
    pub fn opening_lists(&self) -> impl Iterator<Item = &List> {
        let admins = self.always_denied_is_the_admins();
        self.lists_of(Direction::Egress)
            .filter(move |layer| !admins || layer.source == LayerSource::Baseline)
            .map(|layer| &layer.list)
    }

    /// Whether an entry of exactly its peer, and for what it carries, lets a packet past what is always denied.
    pub fn opens(&self, packet: &Packet) -> bool {
        self.opening_lists().any(|list| list.opens(packet))
    }

    /// **The specification** of lists and always-denied groups together: whether the first packet of a flow passes.
    /// `host` are the host's addresses, for `@host`.
    pub fn passes(&self, packet: &Packet, host: &[IpAddr]) -> bool {
        let denied = packet.direction == Direction::Egress
            && self.denies_always() == Some(Mode::Enforce)
            && self.always_denied.value.iter().any(|group| group.contains(packet.peer, host))
            && !self.opens(packet);
        !denied
            && self
                .lists_of(packet.direction)
                .filter(|layer| layer.mode == Mode::Enforce)
                .all(|layer| layer.list.allows(packet, host))
    }
}

fn not_permitted(asked: String, against: String) -> Failure {
    Failure::new(
        "do what the container's annotations ask for",
        Cause::NotPermitted { asked: clipped(asked), against: clipped(against) },
    )
}

fn check_permitted(config: &Config, requests: &Requests) -> Result<(), Failure> {
    let Some(allowed) = &config.allow_annotations else { return Ok(()) };
    for (key, kind) in &requests.given {
        if !allowed.value.contains(kind) {
            let names: Vec<&str> = Annotation::ALL
                .iter()
                .filter(|(_, kind)| allowed.value.contains(kind))
                .map(|(name, _)| *name)
                .collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let against = format!("{} permits {names}", allowed.origin);
            return Err(not_permitted(format!("the container carries the annotation {key}"), against));
        }
    }
    Ok(())
}

/// The admin's lists under the admin's mode, the container's under its own and, where it says none, the admin's.
fn layers(config: &mut Config, requests: &mut Requests) -> Vec<ListLayer> {
    let admins_mode = config.mode.as_ref().map(|mode| mode.value);
    let admins_answer = config.on_denied.as_ref().map(|on_denied| on_denied.value);
    let own_mode = requests.mode.as_ref().map(|mode| mode.value).or(admins_mode);
    let own_answer = requests.on_denied.as_ref().map(|on_denied| on_denied.value).or(admins_answer);
    let (baseline, own) = (LayerSource::Baseline, LayerSource::Annotation);
    [
        (Direction::Egress, baseline, config.egress.take(), admins_mode, admins_answer),
        (Direction::Ingress, baseline, config.ingress.take(), admins_mode, admins_answer),
        (Direction::Egress, own, requests.egress.take(), own_mode, own_answer),
        (Direction::Ingress, own, requests.ingress.take(), own_mode, own_answer),
    ]
    .into_iter()
    .filter_map(|(direction, source, list, mode, answer)| {
        let Sourced { value: list, origin } = list?;
        let usual = match direction {
            // The container's own program should fail at once; a stranger should learn nothing.
            Direction::Egress => OnDenied::Reject,
            Direction::Ingress => OnDenied::Drop,
        };
        Some(ListLayer {
            direction,
            source,
            list,
            mode: mode.unwrap_or_default(),
            on_denied: answer.unwrap_or(usual),
            origin,
        })
    })
    .collect()
}

/// How much IPv6 is left: less is stricter.
const fn laxness(mode: Ipv6) -> u8 {
    match mode {
        Ipv6::Disable => 0,
        Ipv6::LoopbackOnly => 1,
        Ipv6::Leave => 2,
        Ipv6::Enable => 3,
    }
}

struct DecidedIpv6 {
    admins: Option<Sourced<Ipv6>>,
    effective: Sourced<Ipv6>,
}

fn decide_ipv6(admins: Option<Sourced<Ipv6>>, asked: Option<Sourced<Ipv6>>) -> Result<DecidedIpv6, Failure> {
    let effective = match (&admins, asked) {
        (Some(admins), Some(asked)) if laxness(asked.value) > laxness(admins.value) => {
            return Err(not_permitted(
                format!("{} asks for {}", asked.origin, asked.value),
                format!("{} says {}", admins.origin, admins.value),
            ));
        }
        (_, Some(asked)) => asked,
        (Some(admins), None) => admins.clone(),
        (None, None) => Sourced::builtin(Ipv6::Leave, "ipv6"),
    };
    Ok(DecidedIpv6 { admins, effective })
}

/// Neither host values nor compiled ones are the stricter, so an annotation counts only where the admin says nothing.
fn decide_devconf(
    admins: Option<Sourced<Devconf>>,
    asked: Option<Sourced<Devconf>>,
) -> Result<Sourced<Devconf>, Failure> {
    match (admins, asked) {
        (Some(admins), Some(asked)) if asked.value != admins.value => Err(not_permitted(
            format!("{} asks for {}", asked.origin, asked.value),
            format!("{} says {}", admins.origin, admins.value),
        )),
        (Some(decided), _) | (None, Some(decided)) => Ok(decided),
        (None, None) => Ok(Sourced::builtin(Devconf::Leave, "devconf")),
    }
}

fn decide_sysctls(
    admins: Vec<Setting>,
    asked: Vec<Setting>,
    allowed: Option<Sourced<AllowList>>,
    ipv6: &DecidedIpv6,
) -> Result<Vec<Setting>, Failure> {
    if asked.is_empty() {
        disagreements(&ipv6::steps(ipv6.effective.value, &ipv6.effective.origin), &admins)?;
        return Ok(admins);
    }
    let allowed = allowed.unwrap_or_else(|| Sourced::builtin(AllowList::default(), "allow-sysctls"));
    let as_writes = |settings: &[Setting]| settings.iter().cloned().map(Write::One).collect::<Vec<_>>();
    let admins_writes = as_writes(&admins);
    for setting in &asked {
        let asks = || format!("{} asks for {} = {}", setting.origin, setting.key, setting.value);
        if !allowed.value.permits(&setting.key) {
            let names: Vec<String> = allowed.value.patterns().iter().map(ToString::to_string).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return Err(not_permitted(asks(), format!("{} permits {names}", allowed.origin)));
        }
        let same = admins.iter().find(|admins| admins.key == setting.key);
        if let Some(admins) = same.filter(|admins| !same_value(&admins.value, &setting.value)) {
            return Err(not_permitted(asks(), format!("{} says {}", admins.origin, admins.value)));
        }
        // `leave` writes nothing that could be contradicted, and the admin who wrote it did not mean "enable".
        if let Some(mode) = ipv6.admins.as_ref().filter(|mode| mode.value == Ipv6::Leave)
            && setting.key.as_conf().is_some_and(|(family, _, leaf)| family == Family::V6 && leaf == ipv6::DISABLE_IPV6)
            && !same_value(&setting.value, "1")
        {
            return Err(not_permitted(asks(), format!("{} says {}", mode.origin, mode.value)));
        }
    }
    // Both ways: a file may be reached through `all` from either side.
    disagreements(&admins_writes, &asked)?;
    disagreements(&as_writes(&asked), &admins)?;
    let kept = |asked: &Setting| !admins.iter().any(|admins| admins.key == asked.key);
    let new: Vec<Setting> = asked.into_iter().filter(kept).collect();
    let mut sysctls = admins;
    sysctls.extend(new);
    disagreements(&ipv6::steps(ipv6.effective.value, &ipv6.effective.origin), &sysctls)?;
    Ok(sysctls)
}

#[cfg(test)]
mod tests;
