//! What is allowed and probably not meant, as far as it shows in all manifests together.

use std::collections::{BTreeMap, BTreeSet};

use super::Manifests;
use crate::error::Finding;
use crate::net::Origin;
use crate::policy::compile::parts;
use crate::policy::model::{Labels, NetworkPolicy, Tier};

/// The warnings.
pub(super) fn of(manifests: &Manifests) -> Vec<Finding> {
    let mut warnings = equal_priorities(manifests);
    warnings.extend(unknown_namespaces(manifests));
    warnings.extend(idle(manifests));
    warnings
}

/// A finding at the beginning of the line where `origin` is, which is all that an origin remembers.
fn at(origin: &Origin, field: &str, message: String) -> Finding {
    let (file, position, at) = match origin {
        Origin::File { path, line, at } => (path.clone(), Some((*line, 1)), at.clone()),
        Origin::Builtin(_) | Origin::Annotation { .. } | Origin::Bundle { .. } => {
            (origin.to_string(), None, String::new())
        }
    };
    let dot = if at.is_empty() { "" } else { "." };
    Finding { file, position, at: format!("{at}{dot}{field}"), message }
}

/// "The implementation can apply any of the matching policies" (facts: C1); here it is the first by name.
fn equal_priorities(manifests: &Manifests) -> Vec<Finding> {
    let mut warnings = Vec::new();
    // They are sorted by tier and priority.
    for pair in manifests.policies.cluster.windows(2) {
        let [first, second] = pair else { continue };
        if (first.tier, first.priority) == (second.tier, second.priority) {
            let tier = match first.tier {
                Tier::Admin => "Admin",
                Tier::Baseline => "Baseline",
            };
            let message = format!(
                "{} has the priority {} in tier {tier} as well ({}), and is asked first because of its name",
                first.name, first.priority, first.origin
            );
            warnings.push(at(&second.origin, "spec.priority", message));
        }
    }
    warnings
}

/// A namespace whose labels nobody knows is selected by its name alone. Only where some Namespace object is there: without
/// any it is plain that none was meant to be.
fn unknown_namespaces(manifests: &Manifests) -> Vec<Finding> {
    let known: BTreeSet<&str> =
        manifests.inventory.namespaces.iter().map(|namespace| namespace.name.as_str()).collect();
    if known.is_empty() {
        return Vec::new();
    }
    let policies = manifests.policies.network.iter().map(|policy| (policy.namespace.as_str(), &policy.origin));
    let pods = manifests.inventory.pods.iter().map(|pod| (pod.namespace.as_str(), &pod.origin));
    let mut used: BTreeMap<&str, &Origin> = BTreeMap::new();
    for (namespace, origin) in policies.chain(pods) {
        used.entry(namespace).or_insert(origin);
    }
    used.into_iter()
        .filter(|(namespace, _)| !known.contains(namespace))
        .map(|(namespace, origin)| {
            let message = format!("there is no Namespace object for {namespace}, so its labels are not known");
            at(origin, "metadata.namespace", message)
        })
        .collect()
}

/// Most conditions of policies times pods that are compared to find policies that select nobody. Those behind are not looked at:
/// every start would wait for it.
pub const MAX_COMPARISONS: usize = 5_000_000;

/// Policies that select none of the pods that were read. Only where pods of their namespace were read at all: on a host the
/// folder need not hold those that are started there.
fn idle(manifests: &Manifests) -> Vec<Finding> {
    let mut pods: BTreeMap<&str, BTreeSet<&Labels>> = BTreeMap::new();
    for pod in manifests.inventory.pods.iter().filter(|pod| !pod.host_network) {
        pods.entry(&pod.namespace).or_default().insert(&pod.labels);
    }
    let mut compared = 0usize;
    let mut selects = |policy: &&NetworkPolicy| {
        let Some(all) = pods.get(policy.namespace.as_str()) else { return true };
        compared = compared.saturating_add(all.len().saturating_mul(parts(&policy.pods)));
        compared > MAX_COMPARISONS || all.iter().any(|labels| policy.pods.selects(labels))
    };
    let idle = manifests.policies.network.iter().filter(|policy| !selects(policy));
    idle.map(|policy| {
        let message = format!("selects none of the pods of namespace {} in these files", policy.namespace);
        at(&policy.origin, "spec.podSelector", message)
    })
    .collect()
}
