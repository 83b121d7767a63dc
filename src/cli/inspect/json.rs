//! What `inspect` found, for programs.

use serde_json::{Value, json};

use super::denied::{Denied, Why};
use super::layers::{LayerNow, RuleNow, layers};
use super::report::{Compared, Guard, LinkNow, Now, Outer, Report, Veth};
use super::text::{entry, protocol};
use crate::explain::{Near, Said};
use crate::kernel::proc::Reading;
use crate::net::Direction;
use crate::nft::wire::listing::{Counted, Does, ListedChain, ListedRule, ListedSet, Listing, Seen};
use crate::plan::uncovered::NotCovered;

/// All containers, each in short.
pub(super) fn list(reports: &[Report]) -> Value {
    let each = reports.iter().map(|report| {
        let mut short = common(report);
        if let (Now::Runs(running), Some(short)) = (&report.now, short.as_object_mut()) {
            let counted = running.listing.as_ref().map(Listing::denied);
            short.insert("counted-packets".to_owned(), json!(counted.map(|counted| counted.packets)));
        }
        short
    });
    each.collect()
}

fn common(report: &Report) -> Value {
    let Report { record, now } = report;
    json!({
        "id": record.id,
        "pid": record.pid,
        "running": matches!(now, Now::Runs(_)),
        "problem": match now { Now::Unknown(why) => Some(why), Now::Ended | Now::Runs(_) => None },
        "namespace": { "inode": record.netns.1, "cookie": record.cookie },
        "rules": match now { Now::Runs(running) => Some(running.verdict()), Now::Ended | Now::Unknown(_) => None },
    })
}

/// Everything about one container.
pub(super) fn whole(report: &Report) -> Value {
    let mut all = common(report);
    let record = &report.record;
    let Some(members) = all.as_object_mut() else { return all };
    members.insert("identity".to_owned(), json!({ "namespace": record.namespace, "labels": record.labels }));
    members.insert("bundle".to_owned(), json!(record.bundle));
    members.insert("recorded-table".to_owned(), json!(record.table));
    let Now::Runs(running) = &report.now else { return all };
    let of_kernel = running.listing.as_ref();
    let more = [
        ("decided-by", json!(running.decided_by)),
        ("table", json!(of_kernel.map(|listing| &listing.comment))),
        ("compared", compared(&running.compared)),
        ("guard", guard(&running.guard)),
        ("host-side", running.host_side.as_ref().map_or(Value::Null, host_side)),
        (
            "layers",
            of_kernel.into_iter().flat_map(|held| layers(held, &running.cited)).map(|one| layer(&one)).collect(),
        ),
        ("denied-lately", running.denied.iter().map(denied).collect()),
        ("sysctls", running.sysctls.iter().map(sysctl).collect()),
        ("chains", of_kernel.into_iter().flat_map(|listing| &listing.chains).map(chain).collect()),
        ("sets", of_kernel.into_iter().flat_map(|listing| &listing.sets).map(set).collect()),
        ("links", running.links.iter().map(link).collect()),
        ("not-covered", running.not_covered.iter().map(NotCovered::to_json).collect()),
        ("notes", json!(running.notes)),
    ];
    members.extend(more.map(|(name, value)| (name.to_owned(), value)));
    all
}

fn compared(compared: &Compared) -> Value {
    let (result, details) = match compared {
        Compared::Equal => ("equal", Vec::new()),
        Compared::Differs(differences) => ("differs", differences.clone()),
        Compared::Unknown(why) => ("not-compared", vec![why.clone()]),
    };
    json!({ "result": result, "details": details })
}

fn guard(guard: &Guard) -> Value {
    json!({ "there": guard.there, "on": guard.on, "not-on": guard.not_on, "compared": compared(&guard.compared) })
}

fn host_side(outer: &Outer) -> Value {
    let veth = |veth: &Veth| json!({ "name": veth.name, "state": veth.state.name() });
    json!({
        "table": outer.table, "there": outer.there, "compared": compared(&outer.compared),
        "veths": outer.veths.iter().map(veth).collect::<Vec<_>>(),
    })
}

fn layer(layer: &LayerNow) -> Value {
    let sum = |counted: Counted| json!({ "packets": counted.packets, "bytes": counted.bytes });
    let rule = |rule: &RuleNow| {
        let RuleNow { entry, from, entries, does, counted } = rule;
        json!({
            "entry": entry, "from": from, "entries": entries, "does": word(*does), "packets": counted.packets, "bytes": counted.bytes,
        })
    };
    json!({
        "direction": layer.direction.map(Direction::name), "layer": layer.kind.name(),
        "allowed": sum(layer.allowed()), "denied": sum(layer.denied()),
        "rules": layer.rules.iter().map(rule).collect::<Vec<_>>(),
    })
}

const fn word(does: Does) -> &'static str {
    match does {
        Does::Allows => "allows",
        Does::Denies => "denies",
        Does::WouldDeny => "would-deny",
        Does::GoesOn => "passes-on",
    }
}

/// Somebody who was denied lately.
pub(in crate::cli) fn denied(one: &Denied) -> Value {
    let said = |said: &Said| {
        let near = |near: &Near| json!({ "rule": near.rule, "origin": near.origin.to_string(), "lacks": near.lacks });
        json!({ "layer": said.layer, "why": said.why, "nearest": said.nearest.iter().map(near).collect::<Vec<_>>() })
    };
    let by: Vec<Value> = match &one.why {
        Why::Layers(layers) => layers.iter().map(said).collect(),
        Why::Kernels(_) | Why::Changed | Why::Unknown => Vec::new(),
    };
    let Seen { address, port, .. } = one.seen;
    json!({
        "direction": one.direction.name(), "address": address, "protocol": protocol(one.seen.protocol), "port": port,
        "entry": entry(&one.seen), "ago-ms": one.ago_ms, "audit": one.audit, "by": by, "note": super::text::note(&one.why),
    })
}

fn sysctl(reading: &Reading) -> Value {
    let Reading { key, wanted, found, ok, origin } = reading;
    json!({ "key": key.to_string(), "wanted": wanted, "now": found, "ok": ok, "origin": origin.to_string() })
}

fn chain(chain: &ListedChain) -> Value {
    let rule = |rule: &ListedRule| {
        let ListedRule { text, comment, counted, does: _ } = rule;
        json!({
            "rule": text, "comment": comment,
            "packets": counted.map(|counted| counted.packets), "bytes": counted.map(|counted| counted.bytes),
        })
    };
    json!({
        "name": chain.name,
        "hook": chain.base.as_ref().map(|base| &base.hook),
        "priority": chain.base.as_ref().map(|base| base.priority),
        "policy": chain.base.as_ref().map(|base| if base.accepts { "accept" } else { "drop" }),
        "rules": chain.rules.iter().map(rule).collect::<Vec<_>>(),
    })
}

fn set(set: &ListedSet) -> Value {
    let seen = |seen: &Seen| {
        json!({
            "address": seen.address, "protocol": protocol(seen.protocol), "port": seen.port, "entry": entry(seen),
            "expires-in-ms": seen.expires_ms,
        })
    };
    json!({
        "name": set.name, "type": set.types(), "elements": set.elements, "dynamic": set.dynamic,
        "remembered": set.seen.iter().map(seen).collect::<Vec<_>>(),
    })
}

fn link(link: &LinkNow) -> Value {
    let addresses: Vec<String> = link.addresses.iter().map(|(address, prefix)| format!("{address}/{prefix}")).collect();
    json!({ "name": link.name, "up": link.up, "addresses": addresses, "disable-ipv6": link.disable_ipv6 })
}
