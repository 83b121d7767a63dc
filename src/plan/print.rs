//! A plan for people and for programs.

use std::fmt;

use serde_json::{Value, json};

use super::uncovered::NotCovered;
use super::{Plan, Step};
use crate::net::Origin;
use crate::nft::filter::{Denial, Layer, Otherwise, PolicyLayer, Ruling, Run, Tier};
use crate::nft::ruleset::Table;
use crate::nft::text::comment;
use crate::policy::names::NamedPort;
use crate::printable;
use crate::settings::Identity;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "container {}", self.id)?;
        writeln!(f, "\nidentity (what policies select it by)")?;
        for part in parts(&self.identity) {
            let origin = part.origin.map_or_else(String::new, |origin| format!("    ({origin})"));
            // A manifest's pod may have labels that nobody checked.
            writeln!(f, "  {:<10} {}{origin}", part.name, printable::line(&part.text))?;
        }
        if let Some(failure) = &self.identity.labels_unknown {
            writeln!(f, "  the labels may be others: {}", printable::line(&failure.cause.to_string()))?;
        }
        writeln!(f, "\nsteps")?;
        for (n, step) in self.steps.iter().enumerate() {
            writeln!(f, "  {}. {}", n + 1, headline(step))?;
            if let Step::Sysctls(writes) = step {
                for write in writes {
                    writeln!(f, "       {write}    ({})", write.origin())?;
                }
            }
        }
        if !self.layers.is_empty() {
            writeln!(f, "\nlayers (a packet passes only if every layer of its direction lets it)")?;
        }
        for layer in &self.layers {
            writeln!(f, "  {}", layer_headline(layer))?;
            layer.exceptions.iter().try_for_each(|entry| writeln!(f, "       open     {}", entry.origin))?;
            for entry in &layer.entries {
                writeln!(f, "       {}    {}", if entry.deny { "deny " } else { "allow" }, entry.origin)?;
            }
        }
        for layer in &self.policies {
            writeln!(f, "\n{} policies (the first tier that decides does)", layer.direction)?;
            for tier in &layer.tiers {
                writeln!(f, "  {}: {}    ({})", tier.name, otherwise(tier, layer.denial), tier.origin)?;
                for run in &tier.runs {
                    said(run).into_iter().try_for_each(|line| writeln!(f, "       {:<6}  {line}", ruling(run)))?;
                }
            }
        }
        if !self.notes.is_empty() {
            writeln!(f, "\nnotes")?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "  - {}", printable::line(note)))?;
        if !self.not_covered.is_empty() {
            writeln!(f, "\nnot covered (what the rules do not govern)")?;
        }
        self.not_covered.iter().try_for_each(|one| writeln!(f, "{one}"))
    }
}

impl fmt::Display for NotCovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NotCovered { gap, what, place } = self;
        let (what, place) = (printable::line(what), printable::line(place));
        write!(f, "  {}: {what}    ({place})\n       {}", gap.name(), gap.remedy())
    }
}

impl NotCovered {
    /// As JSON: `name`, `weight`, `what`, `where`, `remedy`.
    pub fn to_json(&self) -> Value {
        let NotCovered { gap, what, place } = self;
        json!({
            "name": gap.name(), "weight": gap.weight().name(), "what": what, "where": place, "remedy": gap.remedy(),
        })
    }
}

const fn ruling(run: &Run) -> &'static str {
    match run.ruling {
        Ruling::Accept => "accept",
        Ruling::Deny => "deny",
        Ruling::Pass => "pass",
    }
}

fn otherwise(tier: &Tier, denied: Denial) -> String {
    match tier.otherwise {
        Otherwise::Deny => format!("{} what nothing accepts", denial(denied)),
        Otherwise::Continue => "what nothing matches goes on".to_owned(),
    }
}

/// A line for each place a run's rules were written at: of peers that come and go with how many there are now.
fn said(run: &Run) -> Vec<String> {
    let mut lines: Vec<String> = run.entries.iter().map(|entry| entry.origin.to_string()).collect();
    lines.dedup();
    lines.extend(run.groups.iter().map(|group| {
        let count = group.members.len();
        format!("{}: {count} {} now", group.origin, if count == 1 { "peer" } else { "peers" })
    }));
    lines
}

/// One line of an identity.
struct Part<'a> {
    name: &'static str,
    text: String,
    origin: Option<&'a Origin>,
}

fn parts(identity: &Identity) -> [Part<'_>; 4] {
    let list = |items: Vec<String>| if items.is_empty() { "none".to_owned() } else { items.join(",") };
    let labels = identity.labels.value.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let ports = identity.ports.value.iter().map(ToString::to_string).collect();
    let pod = identity.pod.as_ref();
    [
        Part { name: "namespace", text: identity.namespace.value.clone(), origin: Some(&identity.namespace.origin) },
        Part {
            name: "pod",
            text: pod.map_or_else(|| "unknown".to_owned(), |pod| pod.value.clone()),
            origin: pod.map(|pod| &pod.origin),
        },
        Part { name: "labels", text: list(labels), origin: Some(&identity.labels.origin) },
        Part { name: "ports", text: list(ports), origin: Some(&identity.ports.origin) },
    ]
}

/// An identity as JSON: each part with its `value` and `origin`, `null` where it is not known.
fn identity_json(identity: &Identity) -> Value {
    let part = |value: Value, origin: &Origin| json!({ "value": value, "origin": origin.to_string() });
    let port = |port: &NamedPort| json!({ "name": port.name, "port": port.port, "protocol": port.protocol.name() });
    json!({
        "namespace": part(json!(identity.namespace.value), &identity.namespace.origin),
        "pod": identity.pod.as_ref().map(|pod| part(json!(pod.value), &pod.origin)),
        "labels": part(json!(identity.labels.value), &identity.labels.origin),
        "ports": part(identity.ports.value.iter().map(port).collect(), &identity.ports.origin),
        "labels-unknown": identity.labels_unknown.as_ref().map(|failure| failure.cause.to_string()),
    })
}

fn headline(step: &Step) -> String {
    match step {
        Step::ReplaceTable(table) => {
            let guard = table.guard.as_ref().map_or("", |_| "; with it table netdev netlatch, for what nobody routed");
            format!("replace table inet netlatch: {}, and read it back{guard}", size(table))
        }
        Step::NoTable => "no rules: nothing is filtered".to_owned(),
        Step::Sysctls(writes) => format!("set {} sysctls, and read them back", writes.len()),
        Step::RaiseLoopback => "bring lo up, and read it back".to_owned(),
    }
}

fn size(table: &Table) -> String {
    let rules: usize = table.chains.iter().map(|chain| chain.rules.len()).sum();
    let elements: usize = table.sets.iter().map(|set| set.len()).sum();
    format!("{} chains, {rules} rules, {} sets with {elements} elements", table.chains.len(), table.sets.len())
}

const fn denial(denial: Denial) -> &'static str {
    match denial {
        Denial::Reject => "reject",
        Denial::Drop => "drop",
        Denial::Audit => "audit",
    }
}

fn layer_headline(layer: &Layer) -> String {
    format!("{} {}: {} what is denied    ({})", layer.direction, layer.name, denial(layer.denial), layer.origin)
}

impl Plan {
    /// The plan as JSON: `id`, `identity`, `steps`, `layers`, `policies`, `notes`, `not-covered`.
    pub fn to_json(&self) -> Value {
        let step = |step: &Step| match step {
            Step::ReplaceTable(table) => json!({
                "step": "replace-table", "family": "inet", "table": "netlatch", "comment": comment(&table.comment),
                "nft": table.to_string(),
            }),
            Step::NoTable => json!({ "step": "no-table" }),
            Step::Sysctls(writes) => {
                let each = writes.iter().map(|w| json!({ "write": w.to_string(), "origin": w.origin().to_string() }));
                json!({ "step": "sysctls", "writes": each.collect::<Vec<_>>() })
            }
            Step::RaiseLoopback => json!({ "step": "raise-loopback", "link": "lo" }),
        };
        let layer = |layer: &Layer| {
            let entry =
                |entry: &crate::nft::filter::Entry| json!({ "deny": entry.deny, "origin": entry.origin.to_string() });
            json!({
                "direction": layer.direction.name(), "name": layer.name, "on-denied": denial(layer.denial),
                "origin": layer.origin,
                "opened": layer.exceptions.iter().map(|entry| entry.origin.to_string()).collect::<Vec<_>>(), "entries": layer.entries.iter().map(entry).collect::<Vec<_>>(),
            })
        };
        let policies = |layer: &PolicyLayer| {
            let run = |run: &Run| json!({ "ruling": ruling(run), "rules": said(run) });
            let tier = |tier: &Tier| {
                let denies = tier.otherwise == Otherwise::Deny;
                let runs: Vec<Value> = tier.runs.iter().map(run).collect();
                json!({ "tier": tier.name, "isolates": denies, "origin": tier.origin, "runs": runs })
            };
            json!({
                "direction": layer.direction.name(), "on-denied": denial(layer.denial),
                "tiers": layer.tiers.iter().map(tier).collect::<Vec<_>>(),
            })
        };
        json!({
            "id": self.id,
            "identity": identity_json(&self.identity),
            "steps": self.steps.iter().map(step).collect::<Vec<_>>(),
            "layers": self.layers.iter().map(layer).collect::<Vec<_>>(),
            "policies": self.policies.iter().map(policies).collect::<Vec<_>>(),
            "notes": self.notes,
            "not-covered": self.not_covered.iter().map(NotCovered::to_json).collect::<Vec<_>>(),
        })
    }
}
