//! What `inspect` found, for people, in lines that a terminal of 80 columns shows whole wherever they can be broken. Ids,
//! comments and names of links are others' words, and stay in their line.

use std::fmt::Write;
use std::path::Path;

use super::report::{Compared, Guard, LinkNow, Now, Outer, Report, Running, VethState};
use crate::nft::wire::listing::{ListedChain, ListedRule, Listing, Seen};
use crate::printable::{self, COLUMNS, wrapped};

/// How much of what was remembered is shown.
const SEEN_SHOWN: usize = 40;
/// How many ids are named where a beginning does not tell which is meant.
const IDS_SHOWN: usize = 8;
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
fn field(out: &mut String, name: &str, value: &str) {
    out.push_str(&wrapped(&format!("  {name:<10} "), value, 13));
}

/// Everything about one container.
pub(super) fn whole(report: &Report) -> String {
    let mut text = String::new();
    let out = &mut text;
    let record = &report.record;
    let _ = writeln!(out, "container {}", printable::line(&record.id));
    let process = record.pid.map_or_else(|| "none was named".to_owned(), |pid| pid.to_string());
    match &report.now {
        Now::Ended => field(out, "process", &format!("{process}, has ended")),
        Now::Unknown(why) => {
            field(out, "process", &process);
            field(out, "unknown", why);
        }
        Now::Runs(running) => {
            field(out, "process", &process);
            let cookie = record.cookie.map_or_else(String::new, |cookie| format!(", cookie {cookie}"));
            field(out, "namespace", &format!("net:[{}]{cookie}", record.netns.1));
            field(out, "identity", &identity(report));
            if let Some(bundle) = &record.bundle {
                field(out, "bundle", &printable::path(&bundle.display().to_string()));
            }
            state(out, running);
            if let Some(listing) = &running.listing {
                tables(out, listing);
            }
            links(out, &running.links);
            not_covered(out, running);
        }
    }
    text
}

fn identity(report: &Report) -> String {
    let labels: Vec<String> = report.record.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let labels = if labels.is_empty() { "no labels".to_owned() } else { labels.join(", ") };
    format!("namespace {}, {labels}", report.record.namespace)
}

/// What is in force, and whether it is what should be.
fn state(out: &mut String, running: &Running) {
    field(out, "rules", &headline(running));
    if let Some(other) = &running.decided_by {
        field(out, "", &format!("container {other} shares the network, and its record decides"));
    }
    compared(out, &running.compared);
    field(out, "guard", &guard(&running.guard));
    compared(out, &running.guard.compared);
    if let Some(outer) = &running.host_side {
        field(out, "host side", &host_side(outer));
        outer.veths.iter().filter(|veth| veth.state == VethState::Gone).for_each(|veth| {
            field(out, "", &format!("{} does not lead into the container any more", veth.name));
        });
        outer.veths.iter().filter(|veth| veth.state == VethState::Past).for_each(|veth| {
            field(out, "", &format!("{} leads into the container, past these rules", veth.name));
        });
        compared(out, &outer.compared);
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

fn compared(out: &mut String, compared: &Compared) {
    match compared {
        Compared::Equal => {}
        Compared::Differs(differences) => {
            for one in differences {
                field(out, "", &format!("differs from what a start would load: {one}"));
            }
        }
        Compared::Unknown(why) => field(out, "", &format!("not compared with what a start would load: {why}")),
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

fn tables(out: &mut String, listing: &Listing) {
    // Where packets come in first.
    let (base, others): (Vec<_>, Vec<_>) = listing.chains.iter().partition(|chain| chain.base.is_some());
    for chain in base.into_iter().chain(others) {
        let _ = writeln!(out, "\nchain {}", printable::line(&chain_headline(chain)));
        chain.rules.iter().for_each(|one| rule(out, one));
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

/// A rule, and below it what it has counted and where it was written, unless there is room behind it.
fn rule(out: &mut String, rule: &ListedRule) {
    let counted = rule.counted.map(|counted| format!("{} packets, {} bytes", counted.packets, counted.bytes));
    let comment = (!rule.comment.is_empty()).then(|| format!("# {}", rule.comment));
    let whole: Vec<&str> =
        [Some(rule.text.as_str()), counted.as_deref(), comment.as_deref()].into_iter().flatten().collect();
    let whole = printable::line(&whole.join("    ")).into_owned();
    if 2 + whole.chars().count() <= COLUMNS {
        let _ = writeln!(out, "  {whole}");
        return;
    }
    out.push_str(&wrapped("  ", &rule.text, 6));
    let below: Vec<&str> = [counted.as_deref(), comment.as_deref()].into_iter().flatten().collect();
    if !below.is_empty() {
        out.push_str(&wrapped("      ", &below.join("    "), 8));
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
pub(super) fn entry(seen: &Seen) -> String {
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
        out.push_str(&wrapped(&format!("  {:<15} {up:<4}  {ipv6:<8}  ", link.name), &addresses.join(" "), 34));
    }
}

fn not_covered(out: &mut String, running: &Running) {
    if !running.not_covered.is_empty() {
        let _ = writeln!(out, "\nnot covered (what the rules do not govern)");
    }
    for one in &running.not_covered {
        for text in one.to_string().lines() {
            // The remedy stands further in, and goes on there.
            let blanks = text.len() - text.trim_start().len();
            out.push_str(&wrapped(&text[..blanks], text.trim_start(), blanks.max(4)));
        }
    }
    if !running.notes.is_empty() {
        let _ = writeln!(out, "\nnotes");
    }
    for note in &running.notes {
        out.push_str(&wrapped("  - ", note, 4));
    }
}

/// One line for each container, and below them why some could not be looked at.
pub(super) fn table(reports: &[Report]) -> String {
    if reports.is_empty() {
        return "no container is recorded\n".to_owned();
    }
    let ids: Vec<&str> = reports.iter().map(|report| report.record.id.as_str()).collect();
    let wide = rows(reports, usize::MAX);
    let fits = wide.lines().all(|line| line.chars().count() <= COLUMNS);
    let mut text = if fits { wide } else { rows(reports, telling(&ids)) };
    for report in reports {
        if let Now::Unknown(why) = &report.now {
            text.push_str(&wrapped("", &format!("{}: {why}", report.record.id), 2));
        }
    }
    text
}

/// How many characters of these ids are enough to tell one from another.
fn telling(ids: &[&str]) -> usize {
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    let common = |pair: &[&str]| pair[0].chars().zip(pair[1].chars()).take_while(|(a, b)| a == b).count();
    sorted.windows(2).map(|pair| common(pair) + 1).max().unwrap_or(0).max(BRIEF_ID)
}

/// The table with `most` characters of each id.
fn rows(reports: &[Report], most: usize) -> String {
    let mut rows = vec![["CONTAINER", "PROCESS", "NAMESPACE", "COUNTED", "RULES"].map(str::to_owned)];
    rows.extend(reports.iter().map(|report| {
        let (counted, rules) = match &report.now {
            Now::Runs(running) => (running.listing.as_ref().map(Listing::counted), running.verdict()),
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
        format!("{id:<a$}  {pid:<b$}  {netns:<c$}  {counted:<d$}  {rules}\n")
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
