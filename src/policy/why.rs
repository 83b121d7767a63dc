//! Answers in words: which policy, which rule, where it was written.

use std::fmt::{self, Write as _};
use std::net::IpAddr;

use super::flow::{Answer, Pair, Ways};
use super::lookup::End;
use super::model::{Action, ClusterPolicy, NetworkPolicy, Rule};
use super::verdict::{Cited, Judgement, Why};
use super::world::Pod;
use crate::net::{Direction, Family, Origin};
use crate::printable;

/// Most policies that one sentence names.
const NAMED: usize = 3;

/// A place as a sentence has it: `spec.ingress[0] (web.yaml:12)`.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a>(pub &'a Origin);

impl fmt::Display for Placed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Origin::File { path, line, at } if at.is_empty() => write!(f, "({}:{line})", printable::line(path)),
            Origin::File { path, line, at } => write!(f, "{at} ({}:{line})", printable::line(path)),
            other @ (Origin::Builtin(_) | Origin::Annotation { .. } | Origin::Bundle { .. }) => write!(f, "({other})"),
        }
    }
}

/// `NetworkPolicy shop/allow-web`.
impl fmt::Display for NetworkPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NetworkPolicy {}/{}", self.namespace, self.name)
    }
}

/// `ClusterNetworkPolicy quarantine`.
impl fmt::Display for ClusterPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// `shop/web`.
impl fmt::Display for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A pod's name, or an address.
impl fmt::Display for End<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.pod, self.addresses.first()) {
            (Some(pod), _) => pod.fmt(f),
            (None, Some(address)) => address.fmt(f),
            (None, None) => f.write_str("nobody"),
        }
    }
}

/// `ClusterNetworkPolicy quarantine spec.ingress[0] (file:line), rule "deny-all"`.
impl fmt::Display for Cited<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.policy, Placed(&self.rule.origin))?;
        named(f, self.rule)
    }
}

fn named(f: &mut fmt::Formatter<'_>, rule: &Rule) -> fmt::Result {
    match &rule.name {
        Some(name) => write!(f, ", rule {name:?}"),
        None => Ok(()),
    }
}

impl fmt::Display for Judgement<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for passed in &self.passed {
            write!(f, "passed on by {passed}, then ")?;
        }
        self.why.fmt(f)
    }
}

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::NoPod => f.write_str("allowed, no pod that policies could govern"),
            Why::HostNetwork => f.write_str("allowed, on the host's network, where policies govern nobody"),
            Why::Itself => f.write_str("allowed, a pod always reaches itself"),
            Why::OwnNode => f.write_str("allowed, comes from the pod's own node"),
            Why::Cluster(cited) => match cited.rule.action {
                Action::Accept => write!(f, "accepted by {cited}"),
                Action::Deny => write!(f, "denied by {cited}"),
                Action::Pass => write!(f, "passed on by {cited}"),
            },
            Why::Network(policy, rule) => {
                write!(f, "allowed by {policy} {}", Placed(&rule.origin))?;
                named(f, rule)
            }
            Why::Isolated(policies) => {
                f.write_str("denied, isolated by ")?;
                for (index, policy) in policies.iter().take(NAMED).enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{policy} {}", Placed(&policy.origin))?;
                }
                match policies.len().saturating_sub(NAMED) {
                    0 => {}
                    more => write!(f, " and {more} more")?,
                }
                f.write_str(" and no rule allows it")
            }
            Why::Free => f.write_str("allowed, no policy isolates it and no rule denies it"),
        }
    }
}

impl Answer<'_> {
    /// Why, in one line: both halves.
    pub fn why(&self, from: &End<'_>, to: &End<'_>) -> String {
        let mut text = String::new();
        self.write(&mut text, from, to);
        text
    }

    fn write(&self, text: &mut String, from: &End<'_>, to: &End<'_>) {
        match &self.ways {
            Ways::Pairs(pairs, chosen) => write_pairs(text, pairs, *chosen, from, to),
            Ways::Service(service, endpoints) => {
                let denied: Vec<_> = endpoints.iter().filter(|(_, answer)| !answer.allowed()).collect();
                let _ = write!(
                    text,
                    "service {}/{} with {} behind the port, ",
                    service.namespace,
                    service.name,
                    counted(endpoints.len(), "endpoint")
                );
                let told = match denied.first() {
                    None => {
                        text.push_str("all allowed");
                        endpoints.first()
                    }
                    Some(first) => {
                        let _ = write!(text, "{} denied", denied.len());
                        Some(*first)
                    }
                };
                if let Some((endpoint, answer)) = told {
                    let end = End { pod: endpoint.pod, addresses: vec![endpoint.address] };
                    let _ = write!(text, "; {} port {}: ", endpoint.address, endpoint.port);
                    answer.write(text, from, &end);
                }
            }
        }
    }
}

/// `1 endpoint`, `3 endpoints`.
pub fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn write_pairs(text: &mut String, pairs: &[Pair<'_>], chosen: usize, from: &End<'_>, to: &End<'_>) {
    let pair = &pairs[chosen];
    let _ = write!(text, "egress of {from}: {}; ingress of {to}: {}", pair.egress, pair.ingress);
    // The first that came to something else.
    let halves = |pair: &Pair<'_>| (pair.egress.allowed(), pair.ingress.allowed());
    if let Some(other) = pairs.iter().find(|other| halves(other) != halves(pair)) {
        let _ = write!(text, "; that is {}, but {} ", family(pair), family(other));
        match (other.allowed(), other.egress.allowed()) {
            (true, _) => text.push_str("is allowed"),
            (false, false) => {
                let _ = write!(text, "is not: {} of {from}: {}", Direction::Egress, other.egress);
            }
            (false, true) => {
                let _ = write!(text, "is not: {} of {to}: {}", Direction::Ingress, other.ingress);
            }
        }
    }
    let families: Vec<Option<Family>> = [pair.from, pair.to].map(|address| address.map(Family::of)).into();
    if let [Some(a), Some(b)] = families[..]
        && a != b
    {
        text.push_str("; they have no family in common");
    }
}

fn family(pair: &Pair<'_>) -> String {
    let known: Option<IpAddr> = pair.to.or(pair.from);
    known.map_or_else(|| "without addresses".to_owned(), |address| Family::of(address).to_string())
}
