//! What `inspect` found, for people and for programs. Ids, comments and names of links are others' words, and stay in
//! their line.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::{Compared, LinkNow, Now, Report, Running, verdict};
use crate::nft::wire::listing::{ListedChain, ListedRule, ListedSet, Listing, Seen};
use crate::plan::uncovered::NotCovered;
use crate::printable;

/// How much of what was remembered is shown to people.
const SEEN_SHOWN: usize = 40;

pub(super) fn unknown(id: &str, run_dir: &Path) -> String {
    let dir = run_dir.display();
    let said = format!("no container {id:?} is recorded in {dir}, or several begin so; `netlatch inspect` lists them");
    printable::line(&said).into_owned()
}

/// Everything about one container.
pub(super) fn text(report: &Report) -> String {
    let mut text = String::new();
    let out = &mut text;
    let record = &report.record;
    let line = |out: &mut String, name: &str, value: &str| {
        let _ = writeln!(out, "  {name:<10} {}", printable::line(value));
    };
    let _ = writeln!(out, "container {}", printable::line(&record.id));
    let process = record.pid.map_or_else(|| "none was named".to_owned(), |pid| pid.to_string());
    match &report.now {
        Now::Ended => {
            line(out, "process", &format!("{process}, has ended"));
            return text;
        }
        Now::Unknown(why) => {
            line(out, "process", &process);
            line(out, "unknown", why);
            return text;
        }
        Now::Runs(running) => {
            line(out, "process", &process);
            let cookie = record.cookie.map_or_else(String::new, |cookie| format!(", cookie {cookie}"));
            line(out, "namespace", &format!("net:[{}]{cookie}", record.netns.1));
            line(out, "identity", &identity(report));
            if let Some(bundle) = &record.bundle {
                line(out, "bundle", &bundle.display().to_string());
            }
            line(out, "rules", &headline(running));
            if let Some(other) = &running.decided_by {
                line(out, "", &format!("container {other} shares the network, and its record decides"));
            }
            match &running.compared {
                Compared::Equal => {}
                Compared::Differs(differences) => {
                    differences
                        .iter()
                        .for_each(|one| line(out, "", &format!("differs from what a start would load: {one}")));
                }
                Compared::Unknown(why) => line(out, "", &format!("not compared with what a start would load: {why}")),
            }
            if let Some(listing) = &running.listing {
                tables(out, listing);
            }
            links(out, &running.links);
            if !running.not_covered.is_empty() {
                let _ = writeln!(out, "\nnot covered (what the rules do not govern)");
            }
            for one in &running.not_covered {
                for text in one.to_string().lines() {
                    let _ = writeln!(out, "{}", printable::line(text));
                }
            }
            if !running.notes.is_empty() {
                let _ = writeln!(out, "\nnotes");
            }
            for note in &running.notes {
                let _ = writeln!(out, "  - {}", printable::line(note));
            }
        }
    }
    text
}

fn identity(report: &Report) -> String {
    let labels: Vec<String> = report.record.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let labels = if labels.is_empty() { "no labels".to_owned() } else { labels.join(",") };
    format!("namespace {}, {labels}", report.record.namespace)
}

fn headline(running: &Running) -> String {
    let recorded = running.recorded.as_deref().unwrap_or("no table");
    match &running.listing {
        Some(listing) if listing.comment == recorded => format!("{} ({recorded})", verdict(running)),
        Some(listing) => format!("{}: the kernel has {:?}, the record {recorded:?}", verdict(running), listing.comment),
        None => format!("{} (recorded: {recorded})", verdict(running)),
    }
}

fn tables(out: &mut String, listing: &Listing) {
    // Where packets come in first.
    let (base, others): (Vec<_>, Vec<_>) = listing.chains.iter().partition(|chain| chain.base.is_some());
    for chain in base.into_iter().chain(others) {
        let _ = writeln!(out, "\nchain {}", printable::line(&chain_headline(chain)));
        for rule in &chain.rules {
            let counted =
                rule.counted.map_or_else(String::new, |c| format!("{} packets, {} bytes", c.packets, c.bytes));
            let comment = if rule.comment.is_empty() { String::new() } else { format!("    # {}", rule.comment) };
            let _ = writeln!(out, "  {counted:>28}  {}", printable::line(&format!("{}{comment}", rule.text)));
        }
    }
    if !listing.sets.is_empty() {
        let _ = writeln!(out, "\nsets");
    }
    for set in &listing.sets {
        let noun = if set.elements == 1 { "element" } else { "elements" };
        let _ = writeln!(out, "  {} ({}): {} {noun}", printable::line(&set.name), set.types(), set.elements);
    }
    for set in listing.sets.iter().filter(|set| !set.seen.is_empty()) {
        let _ = writeln!(out, "\nremembered in {} (the latest first)", printable::line(&set.name));
        for seen in set.seen.iter().take(SEEN_SHOWN) {
            let _ = writeln!(out, "  {}", entry(seen));
        }
        if set.seen.len() > SEEN_SHOWN {
            let _ = writeln!(out, "  and {} more (--output json has all)", set.seen.len() - SEEN_SHOWN);
        }
    }
}

fn chain_headline(chain: &ListedChain) -> String {
    match &chain.base {
        Some(base) => {
            let policy = if base.accepts { "accept" } else { "drop" };
            format!("{} (hook {}, priority {}, policy {policy})", chain.name, base.hook, base.priority)
        }
        None => chain.name.clone(),
    }
}

/// As an entry of a list would say it.
fn entry(seen: &Seen) -> String {
    let protocol = protocol(seen.protocol);
    match seen.port {
        0 => format!("{protocol}/{}", seen.address),
        port => format!("{protocol}/{}", std::net::SocketAddr::new(seen.address, port)),
    }
}

fn protocol(number: u8) -> String {
    match number {
        1 | 58 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        132 => "sctp".to_owned(),
        other => format!("protocol {other}"),
    }
}

fn links(out: &mut String, links: &[LinkNow]) {
    let _ = writeln!(out, "\nlinks");
    for link in links {
        let ipv6 = match link.disable_ipv6.as_deref() {
            Some("0") => "IPv6 on",
            Some(_) => "IPv6 off",
            None => "no IPv6",
        };
        let addresses: Vec<String> =
            link.addresses.iter().map(|(address, prefix)| format!("{address}/{prefix}")).collect();
        let up = if link.up { "up" } else { "down" };
        let _ = writeln!(out, "  {:<15} {up:<4}  {ipv6:<8}  {}", printable::line(&link.name), addresses.join(" "));
    }
}

/// One line for each container.
pub(super) fn table(reports: &[Report]) -> String {
    if reports.is_empty() {
        return "no container is recorded\n".to_owned();
    }
    let mut rows = vec![["CONTAINER", "PROCESS", "NAMESPACE", "COUNTED", "RULES"].map(str::to_owned)];
    rows.extend(reports.iter().map(|report| {
        let counted = match &report.now {
            Now::Runs(running) => running.listing.as_ref().map(Listing::counted),
            Now::Ended | Now::Unknown(_) => None,
        };
        [
            printable::line(&report.record.id).into_owned(),
            report.record.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            report.record.netns.1.to_string(),
            counted.map_or_else(|| "-".to_owned(), |counted| counted.packets.to_string()),
            printable::line(&state(&report.now)).into_owned(),
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2), width(3)];
    let line = |[id, pid, netns, counted, rules]: &[String; 5]| {
        let [a, b, c, d] = widths;
        format!("{id:<a$}  {pid:<b$}  {netns:<c$}  {counted:<d$}  {rules}\n")
    };
    rows.iter().map(line).collect()
}

fn state(now: &Now) -> String {
    match now {
        Now::Ended => "has ended".to_owned(),
        Now::Unknown(why) => format!("unknown: {why}"),
        Now::Runs(running) => verdict(running).to_owned(),
    }
}

/// All containers, each in short.
pub(super) fn list(reports: &[Report]) -> Value {
    let each = reports.iter().map(|report| {
        let mut short = common(report);
        if let (Now::Runs(running), Some(short)) = (&report.now, short.as_object_mut()) {
            let counted = running.listing.as_ref().map(Listing::counted);
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
        "rules": match now { Now::Runs(running) => Some(verdict(running)), Now::Ended | Now::Unknown(_) => None },
    })
}

/// Everything about one container.
pub(super) fn json(report: &Report) -> Value {
    let mut all = common(report);
    let record = &report.record;
    let Some(members) = all.as_object_mut() else { return all };
    members.insert("identity".to_owned(), json!({ "namespace": record.namespace, "labels": record.labels }));
    members.insert("bundle".to_owned(), json!(record.bundle));
    members.insert("recorded-table".to_owned(), json!(record.table));
    let Now::Runs(running) = &report.now else { return all };
    let (compared, details) = match &running.compared {
        Compared::Equal => ("equal", Vec::new()),
        Compared::Differs(differences) => ("differs", differences.clone()),
        Compared::Unknown(why) => ("not-compared", vec![why.clone()]),
    };
    let of_kernel = running.listing.as_ref();
    let more = [
        ("decided-by", json!(running.decided_by)),
        ("table", json!(of_kernel.map(|listing| &listing.comment))),
        ("compared", json!({ "result": compared, "details": details })),
        ("chains", of_kernel.into_iter().flat_map(|listing| &listing.chains).map(chain_json).collect()),
        ("sets", of_kernel.into_iter().flat_map(|listing| &listing.sets).map(set_json).collect()),
        ("links", running.links.iter().map(link_json).collect()),
        ("not-covered", running.not_covered.iter().map(NotCovered::to_json).collect()),
        ("notes", json!(running.notes)),
    ];
    members.extend(more.map(|(name, value)| (name.to_owned(), value)));
    all
}

fn chain_json(chain: &ListedChain) -> Value {
    let rule = |rule: &ListedRule| {
        let ListedRule { text, comment, counted } = rule;
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

fn set_json(set: &ListedSet) -> Value {
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

fn link_json(link: &LinkNow) -> Value {
    let addresses: Vec<String> = link.addresses.iter().map(|(address, prefix)| format!("{address}/{prefix}")).collect();
    json!({ "name": link.name, "up": link.up, "addresses": addresses, "disable-ipv6": link.disable_ipv6 })
}
