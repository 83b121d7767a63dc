//! What `inspect` found, for people, in lines as wide as the terminal wherever they can be broken. Ids, comments and names of
//! links are others' words, and stay in their line.

use std::path::Path;

use super::denied::{Denied, Why, ago, full_sets};
use super::layers::{LayerNow, layers};
use super::report::{Compared, Guard, LinkNow, Now, Outer, Report, Running, VethState};
use crate::cli::page::{Page, Style, plain};
use crate::explain::spoken;
use crate::kernel::proc::Reading;
use crate::net::{Direction, Payload};
use crate::nft::wire::listing::{Counted, Does, ListedChain, ListedRule, Listing, Seen};
use crate::printable;

/// How much of what was remembered is shown.
const SEEN_SHOWN: usize = 40;
/// How many ids are named where a beginning does not tell which is meant.
const IDS_SHOWN: usize = 8;
/// How many entries are named that became one rule.
const ENTRIES_SHOWN: usize = 12;
/// What engines show of an id: as much always stands in the table.
const BRIEF_ID: usize = 12;

/// No container is meant, or more than one.
pub(super) fn unknown(id: &str, begin_so: &[String], run_dir: &Path) -> String {
    let said = match begin_so {
        [] => {
            format!("no container {id:?} is recorded in {}; `netlatch inspect` lists those that are", run_dir.display())
        }
        several => {
            let shown = several.iter().take(IDS_SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = several.len().saturating_sub(IDS_SHOWN);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            format!(
                "the ids of {} containers begin with {id:?}: {shown}{more}; give more of the one that is meant",
                several.len()
            )
        }
    };
    format!("{}\n", printable::line(&said))
}

/// A named line of a container, and lines without a name that belong to it.
fn field(page: &mut Page, name: &str, value: &str) {
    field_in(page, name, Style::Plain, value);
}

fn field_in(page: &mut Page, name: &str, style: Style, value: &str) {
    page.put(&[plain(format!("  {name:<10} "))], &[style.on(value)], 13);
}

fn heading(page: &mut Page, text: &str) {
    page.blank();
    page.line(Style::Heading, text);
}

/// Everything about one container; the rules as the kernel has them where they are asked for.
pub(super) fn whole(page: &mut Page, report: &Report, rules: bool) {
    let record = &report.record;
    page.put(&[], &[Style::Heading.on(format!("container {}", record.id))], 4);
    let process = record.pid.map_or_else(|| "none was named".to_owned(), |pid| pid.to_string());
    match &report.now {
        Now::Ended => field(page, "process", &format!("{process}, has ended")),
        Now::Unknown(why) => {
            field(page, "process", &process);
            field(page, "unknown", why);
        }
        Now::Runs(running) => {
            field(page, "process", &process);
            let cookie = record.cookie.map_or_else(String::new, |cookie| format!(", cookie {cookie}"));
            field(page, "namespace", &format!("net:[{}]{cookie}", record.netns.1));
            field(page, "identity", &identity(report));
            if let Some(bundle) = &record.bundle {
                field(page, "bundle", &printable::path(&bundle.display().to_string()));
            }
            state(page, running);
            if let Some(listing) = &running.listing {
                denied_lately(page, running, listing);
                layered(page, listing, running);
            }
            sysctls(page, &running.sysctls, rules);
            if let Some(listing) = running.listing.as_ref().filter(|_| rules) {
                tables(page, listing);
            }
            links(page, &running.links);
            not_covered(page, running);
        }
    }
}

fn identity(report: &Report) -> String {
    let labels: Vec<String> = report.record.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let labels = if labels.is_empty() { "no labels".to_owned() } else { labels.join(", ") };
    format!("namespace {}, {labels}", report.record.namespace)
}

/// What is in force, and whether it is what should be.
fn state(page: &mut Page, running: &Running) {
    field(page, "rules", &headline(running));
    if let Some(other) = &running.decided_by {
        field(page, "", &format!("container {other} shares the network, and its record decides"));
    }
    compared(page, &running.compared);
    field(page, "guard", &guard(&running.guard));
    compared(page, &running.guard.compared);
    if let Some(outer) = &running.host_side {
        field(page, "host side", &host_side(outer));
        outer.veths.iter().filter(|veth| veth.state == VethState::Gone).for_each(|veth| {
            field(page, "", &format!("{} does not lead into the container any more", veth.name));
        });
        outer.veths.iter().filter(|veth| veth.state == VethState::Past).for_each(|veth| {
            field_in(page, "", Style::Bad, &format!("{} leads into the container, past these rules", veth.name));
        });
        compared(page, &outer.compared);
    }
    if !running.sysctls.is_empty() {
        let off = running.sysctls.iter().filter(|reading| !reading.ok).count();
        let (all, style) = (running.sysctls.len(), if off == 0 { Style::Plain } else { Style::Bad });
        let said = if off == 0 { format!("{all}, as planned") } else { format!("{off} of {all} are not as planned") };
        field_in(page, "sysctls", style, &said);
    }
}

fn headline(running: &Running) -> String {
    let recorded = running.recorded.as_deref().unwrap_or("no table");
    match &running.listing {
        Some(listing) if listing.comment == recorded => format!("{} ({recorded})", running.verdict()),
        Some(listing) => {
            format!("{}: the kernel has {:?}, the record {recorded:?}", running.verdict(), listing.comment)
        }
        None => format!("{} (recorded: {recorded})", running.verdict()),
    }
}

fn compared(page: &mut Page, compared: &Compared) {
    match compared {
        Compared::Equal => {}
        Compared::Differs(differences) => {
            for one in differences {
                field_in(page, "", Style::Bad, &format!("differs from what a start would load: {one}"));
            }
        }
        Compared::Unknown(why) => field(page, "", &format!("not compared with what a start would load: {why}")),
    }
}

fn guard(guard: &Guard) -> String {
    let Guard { there, on, not_on, compared } = guard;
    if !there {
        let missing = matches!(compared, Compared::Differs(_));
        return if missing { "missing" } else { "none" }.to_owned();
    }
    let on = if on.is_empty() { "on no link".to_owned() } else { format!("on {}", on.join(", ")) };
    if not_on.is_empty() { on } else { format!("{on}; not on {}", not_on.join(", ")) }
}

fn host_side(outer: &Outer) -> String {
    let Outer { table, there, veths, .. } = outer;
    let table = format!("table netdev {table}");
    if !there {
        return format!("{table} is missing");
    }
    let judged = veths.iter().filter(|veth| veth.state == VethState::Judged).map(|veth| veth.name.as_str());
    let judged: Vec<&str> = judged.collect();
    if judged.is_empty() { format!("{table}, on no veth") } else { format!("{table}, on {}", judged.join(", ")) }
}

/// What each layer let through and denied, in the words of who wrote it.
fn layered(page: &mut Page, listing: &Listing, running: &Running) {
    let layers = layers(listing, &running.cited);
    for direction in Direction::BOTH {
        let of_this: Vec<&LayerNow> = layers.iter().filter(|layer| layer.direction == Some(direction)).collect();
        let (what, free) = match direction {
            Direction::Egress => ("what the container may reach", "nothing is filtered"),
            Direction::Ingress => ("who may reach the container", "nothing is filtered"),
        };
        heading(page, &format!("{direction}: {what}"));
        if of_this.is_empty() {
            page.put(&[plain("  ")], &[plain(free)], 2);
            continue;
        }
        counts(page, &of_this);
    }
    let before: Vec<&LayerNow> = layers.iter().filter(|layer| layer.direction.is_none()).collect();
    if before.iter().any(|layer| layer.denied().packets > 0) {
        page.blank();
        counts(page, &before);
    }
}

fn counts(page: &mut Page, layers: &[&LayerNow]) {
    let all = || layers.iter().flat_map(|layer| &layer.rules).map(|rule| rule.counted);
    let digits = |number: u64| number.to_string().len();
    let packets = all().map(|one| digits(one.packets)).max().unwrap_or(0).max("packets".len());
    let bytes = all().map(|one| digits(one.bytes)).max().unwrap_or(0).max("bytes".len());
    page.line(Style::Plain, format!("  {:>packets$}  {:>bytes$}  of packets that begin a flow", "packets", "bytes"));
    for layer in layers {
        // A layer of one origin says it once.
        let mut origins: Vec<&str> = layer.rules.iter().map(|rule| rule.from.as_str()).collect();
        origins.sort_unstable();
        origins.dedup();
        let title = layer.kind.title();
        let title = match origins.as_slice() {
            [one] if !one.is_empty() => format!("{title} ({one})"),
            _ => title.to_owned(),
        };
        page.put(&[plain("  ")], &[plain(title)], 4);
        for rule in &layer.rules {
            let Counted { packets: p, bytes: b } = rule.counted;
            let (word, style) = match rule.does {
                Does::Allows => ("let through", Style::Good),
                Does::Denies => ("denied", Style::Bad),
                Does::WouldDeny => ("would be denied", Style::Doubtful),
                Does::GoesOn => ("passed on", Style::Plain),
            };
            let from = match origins.len() {
                1 => String::new(),
                _ if rule.from.is_empty() => String::new(),
                _ => format!(" from {}", rule.from),
            };
            let head = plain(format!("  {p:>packets$}  {b:>bytes$}  "));
            let style = if p == 0 { Style::Plain } else { style };
            let body = [style.on(word), plain(": "), plain(rule.entry.as_str()), plain(from)];
            page.put(&[head], &body, packets + bytes + 8);
            if rule.entries.len() > 1 {
                let indent = packets + bytes + 8;
                let mut named =
                    rule.entries.iter().take(ENTRIES_SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
                if rule.entries.len() > ENTRIES_SHOWN {
                    named.push_str(&format!(" and {} more", rule.entries.len() - ENTRIES_SHOWN));
                }
                page.put(&[plain(" ".repeat(indent))], &[plain(named)], indent);
            }
        }
    }
}

/// Whom the rules remember, and who denies them.
fn denied_lately(page: &mut Page, running: &Running, listing: &Listing) {
    for (audit, title) in [
        (false, "denied lately (the latest first; forgotten after an hour)"),
        (true, "let through by audit, and otherwise denied (the latest first)"),
    ] {
        let of_this: Vec<&Denied> = running.denied.iter().filter(|denied| denied.audit == audit).collect();
        if of_this.is_empty() {
            continue;
        }
        heading(page, title);
        for denied in of_this.iter().take(SEEN_SHOWN) {
            one_denied(page, denied);
        }
        if of_this.len() > SEEN_SHOWN {
            page.line(Style::Plain, format!("  and {} more (--json has all)", of_this.len() - SEEN_SHOWN));
        }
    }
    for set in Direction::BOTH.into_iter().flat_map(|direction| full_sets(listing, direction)) {
        page.put(&[plain("  ")], &[Style::Doubtful.on(format!("set {set} is full: others are not remembered"))], 4);
    }
}

fn one_denied(page: &mut Page, denied: &Denied) {
    let end = match denied.direction {
        Direction::Egress => "to",
        Direction::Ingress => "from",
    };
    let when = format!("  {:>7} ago  ", ago(denied.ago_ms));
    page.put(&[plain(when)], &[Style::Bad.on(format!("{end} {}", shown(&denied.seen)))], 15);
    because(page, &denied.why, 15);
}

/// In words: `192.0.2.7, TCP port 443`.
pub(super) fn shown(seen: &Seen) -> String {
    match seen.payload() {
        Payload::Transport { protocol, port } => {
            format!("{}, {} port {port}", seen.address, protocol.name().to_ascii_uppercase())
        }
        other @ (Payload::Icmp { .. } | Payload::Other(_)) => format!("{}, {}", seen.address, spoken(other)),
    }
}

fn because(page: &mut Page, why: &Why, indent: usize) {
    let blanks = plain(" ".repeat(indent));
    let put = |page: &mut Page, text: String| page.put(std::slice::from_ref(&blanks), &[plain(text)], indent + 2);
    match why {
        Why::Layers(layers) => {
            for said in layers {
                put(page, format!("{}: {}", said.layer, said.why));
                for near in said.nearest.iter().take(1) {
                    put(page, format!("nearest: {}: {}", near.placed(), near.lacks.join(", and ")));
                }
            }
        }
        Why::Changed | Why::Kernels(_) | Why::Unknown => put(page, note(why).unwrap_or_default().to_owned()),
    }
}

/// What is to be said where no layer of today denies.
pub(super) const fn note(why: &Why) -> Option<&'static str> {
    match why {
        Why::Layers(_) => None,
        Why::Changed => Some("nothing denies it as things are now: its rules, or who it is, were others then"),
        Why::Kernels(who) => Some(who),
        Why::Unknown => Some("who denies it was not asked; `netlatch explain` tells"),
    }
}

/// Most sysctls that are shown where all of them are as planned.
const SYSCTLS_SHOWN: usize = 12;

fn sysctls(page: &mut Page, readings: &[Reading], all: bool) {
    let many = readings.len() > SYSCTLS_SHOWN && !all;
    let shown: Vec<&Reading> = readings.iter().filter(|reading| !many || !reading.ok).collect();
    if shown.is_empty() {
        return;
    }
    heading(page, if many { "sysctls that are not as planned" } else { "sysctls" });
    for reading in shown {
        let (mark, style) = if reading.ok { ("ok   ", Style::Good) } else { ("wrong", Style::Bad) };
        let now = match reading.found.as_deref() {
            Some(found) if reading.ok => format!("{} = {found}", reading.key),
            Some(found) => format!("{} = {found}, planned {} ({})", reading.key, reading.wanted, reading.origin),
            None if reading.ok => format!("{} is not there, and IPv6 is off without it", reading.key),
            None => format!("{} is not there, planned {} ({})", reading.key, reading.wanted, reading.origin),
        };
        page.put(&[plain("  "), style.on(mark), plain("  ")], &[plain(now)], 9);
    }
}

/// The rules as the kernel has them.
fn tables(page: &mut Page, listing: &Listing) {
    // Where packets come in first.
    let (base, others): (Vec<_>, Vec<_>) = listing.chains.iter().partition(|chain| chain.base.is_some());
    for chain in base.into_iter().chain(others) {
        heading(page, &format!("chain {}", chain_headline(chain)));
        chain.rules.iter().for_each(|one| rule(page, one));
    }
    if !listing.sets.is_empty() {
        heading(page, "sets");
    }
    for set in &listing.sets {
        let noun = if set.elements == 1 { "element" } else { "elements" };
        page.line(Style::Plain, format!("  {} ({}): {} {noun}", set.name, set.types(), set.elements));
    }
    for set in listing.sets.iter().filter(|set| !set.seen.is_empty()) {
        heading(page, &format!("remembered in {} (the latest first)", set.name));
        for seen in set.seen.iter().take(SEEN_SHOWN) {
            page.line(Style::Plain, format!("  {}", entry(seen)));
        }
        if set.seen.len() > SEEN_SHOWN {
            page.line(Style::Plain, format!("  and {} more (--json has all)", set.seen.len() - SEEN_SHOWN));
        }
    }
}

/// A rule, and below it what it has counted and where it was written, unless there is room behind it.
fn rule(page: &mut Page, rule: &ListedRule) {
    let counted = rule.counted.map(|counted| format!("{} packets, {} bytes", counted.packets, counted.bytes));
    let comment = (!rule.comment.is_empty()).then(|| format!("# {}", rule.comment));
    let whole: Vec<&str> =
        [Some(rule.text.as_str()), counted.as_deref(), comment.as_deref()].into_iter().flatten().collect();
    let whole = whole.join("    ");
    if 2 + whole.chars().count() <= page.width() {
        page.put(&[plain("  ")], &[plain(whole)], 6);
        return;
    }
    page.put(&[plain("  ")], &[plain(rule.text.as_str())], 6);
    let below: Vec<&str> = [counted.as_deref(), comment.as_deref()].into_iter().flatten().collect();
    if !below.is_empty() {
        page.put(&[plain("      ")], &[plain(below.join("    "))], 8);
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
pub(in crate::cli) fn entry(seen: &Seen) -> String {
    let protocol = protocol(seen.protocol);
    match seen.port {
        0 => format!("{protocol}/{}", seen.address),
        port => format!("{protocol}/{}", std::net::SocketAddr::new(seen.address, port)),
    }
}

pub(super) fn protocol(number: u8) -> String {
    match number {
        1 | 58 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        132 => "sctp".to_owned(),
        other => format!("protocol {other}"),
    }
}

fn links(page: &mut Page, links: &[LinkNow]) {
    heading(page, "links");
    for link in links {
        let ipv6 = match link.disable_ipv6.as_deref() {
            Some("0") => "IPv6 on",
            Some(_) => "IPv6 off",
            None => "no IPv6",
        };
        let addresses: Vec<String> =
            link.addresses.iter().map(|(address, prefix)| format!("{address}/{prefix}")).collect();
        let up = if link.up { "up" } else { "down" };
        let head = plain(format!("  {:<15} {up:<4}  {ipv6:<8}  ", link.name));
        page.put(&[head], &[plain(addresses.join(" "))], 34);
    }
}

fn not_covered(page: &mut Page, running: &Running) {
    if !running.not_covered.is_empty() {
        heading(page, "not covered (what the rules do not govern)");
    }
    for one in &running.not_covered {
        for text in one.to_string().lines() {
            // The remedy stands further in, and goes on there.
            let blanks = text.len() - text.trim_start().len();
            page.put(&[plain(&text[..blanks])], &[plain(text.trim_start())], blanks.max(4));
        }
    }
    if !running.notes.is_empty() {
        heading(page, "notes");
    }
    for note in &running.notes {
        page.put(&[plain("  - ")], &[plain(note.as_str())], 4);
    }
}

/// One line for each container, and below them why some could not be looked at.
pub(super) fn table(page: &mut Page, reports: &[Report]) {
    if reports.is_empty() {
        return page.line(Style::Plain, "no container is recorded");
    }
    let ids: Vec<&str> = reports.iter().map(|report| report.record.id.as_str()).collect();
    let wide = rows(reports, usize::MAX);
    let fits = wide.iter().all(|line| line.chars().count() <= page.width());
    let rows = if fits { wide } else { rows(reports, telling(&ids)) };
    rows.into_iter().for_each(|row| page.put(&[plain(row)], &[], 0));
    for report in reports {
        if let Now::Unknown(why) = &report.now {
            page.put(&[], &[plain(format!("{}: {why}", report.record.id))], 2);
        }
    }
}

/// How many characters of these ids are enough to tell one from another.
fn telling(ids: &[&str]) -> usize {
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    let common = |pair: &[&str]| pair[0].chars().zip(pair[1].chars()).take_while(|(a, b)| a == b).count();
    sorted.windows(2).map(|pair| common(pair) + 1).max().unwrap_or(0).max(BRIEF_ID)
}

/// The table with `most` characters of each id.
fn rows(reports: &[Report], most: usize) -> Vec<String> {
    let mut rows = vec![["CONTAINER", "PROCESS", "NAMESPACE", "COUNTED", "RULES"].map(str::to_owned)];
    rows.extend(reports.iter().map(|report| {
        let (counted, rules) = match &report.now {
            Now::Runs(running) => (running.listing.as_ref().map(Listing::denied), running.verdict()),
            Now::Ended => (None, "has ended"),
            Now::Unknown(_) => (None, "unknown"),
        };
        [
            printable::line(&report.record.id.chars().take(most).collect::<String>()).into_owned(),
            report.record.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            report.record.netns.1.to_string(),
            counted.map_or_else(|| "-".to_owned(), |counted| counted.packets.to_string()),
            rules.to_owned(),
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2), width(3)];
    let line = |[id, pid, netns, counted, rules]: &[String; 5]| {
        let [a, b, c, d] = widths;
        format!("{id:<a$}  {pid:<b$}  {netns:<c$}  {counted:<d$}  {rules}")
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_of_an_id_is_shown_as_tells_it_from_the_others() {
        assert_eq!(telling(&["abc", "abd"]), BRIEF_ID);
        let (a, b) = (format!("{}a", "0".repeat(40)), format!("{}b", "0".repeat(40)));
        assert_eq!(telling(&[&b, "1", &a]), 41);
        assert_eq!(telling(&[&a, &a[..20]]), 21);
    }
}
