//! Tables of who reaches whom, for people and for programs.
//!
//! A table merges ends that reach the same and are reached by the same, so that two hundred pods are as many lines as
//! there are kinds of them. It is a matrix where that fits the width, otherwise a list of who reaches each destination.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cli::page::{Page, Style, plain};
use crate::net::{Family, Transport};
use crate::policy::reach::{MAX_BLOCKS, Members, Reach, Spoken, Table};
use crate::policy::why::counted;
use crate::policy::world::Pod;
use crate::printable;

/// Most sources that a list names for a destination. Further ones are counted.
const MOST_SOURCES: usize = 12;

/// Ends of one line.
struct Line {
    /// Indexes of ends.
    ends: Vec<usize>,
    label: String,
}

/// For people.
pub(super) fn text(reach: &Reach<'_>, page: &mut Page) {
    let pods = reach.ends.iter().filter(|end| matches!(end, Members::Pods(_))).count();
    if pods == 0 {
        return page.line(Style::Plain, format!("{} in these manifests", counted(0, "pod")));
    }
    let totals = totals(reach);
    for (index, table) in reach.tables.iter().enumerate() {
        if index > 0 {
            page.blank();
        }
        page.line(Style::Heading, heading(&table.spoken));
        write_table(page, reach, table, &totals);
    }
    page.blank();
    let mut legend = |line: &str| page.put(&[], &[plain(line)], 0);
    legend("+ reaches, . does not; - itself, which it always reaches, or outside to outside.");
    legend("(n) is the number of pods on a line, +n more of them; all names: --output json.");
    legend("Whatever comes from a pod's own node is let in by every NetworkPolicy and is not shown.");
    if reach.blocks_left_out > 0 {
        legend(&format!("Of the address blocks in policies only the first {MAX_BLOCKS} are shown."));
    }
}

/// How many pods there are by namespace, and by namespace and the part of the name before its last dash.
#[derive(Default)]
struct Totals<'w> {
    namespaces: BTreeMap<&'w str, usize>,
    stems: BTreeMap<(&'w str, &'w str), usize>,
}

fn totals<'w>(reach: &Reach<'w>) -> Totals<'w> {
    let mut totals = Totals::default();
    for end in &reach.ends {
        if let Members::Pods(pods) = end {
            for pod in pods {
                *totals.namespaces.entry(&pod.namespace).or_default() += 1;
                *totals.stems.entry((&pod.namespace, stem(pod))).or_default() += 1;
            }
        }
    }
    totals
}

/// What a pod's name shares with those of its siblings: `web` of `web-0`; all of it where it has no dash.
pub(super) fn stem(pod: &Pod) -> &str {
    pod.name.rsplit_once('-').map_or(&pod.name, |(stem, _)| stem)
}

fn write_table(page: &mut Page, reach: &Reach<'_>, table: &Table, totals: &Totals<'_>) {
    let pods: Vec<usize> = (0..reach.ends.len()).filter(|end| matches!(reach.ends[*end], Members::Pods(_))).collect();
    let all = |value: bool| {
        pods.iter().all(|pod| {
            (0..reach.ends.len())
                .all(|end| table.reaches.is_set(*pod, end) == value && table.reaches.is_set(end, *pod) == value)
        })
    };
    if all(true) {
        return page.put(&[plain("  ")], &[plain("everyone reaches everyone, inside and outside")], 4);
    }
    if all(false) {
        return page.put(&[plain("  ")], &[plain("nobody reaches anybody else, inside or outside")], 4);
    }
    let lines = lines(reach, table, totals);
    let label_width = lines.iter().map(|line| line.label.chars().count()).max().unwrap_or(0);
    let digits = lines.len().to_string().len();
    let matrix_width = |label: usize| 2 + digits + 1 + label + 1 + lines.len() * (digits + 1);
    // Labels may be cut down to half the width, not below.
    let room = page.width().saturating_sub(matrix_width(0));
    if room >= label_width.min(page.width() / 2).min(20) {
        write_matrix(page, reach, table, &lines, digits, label_width.min(room));
    } else {
        write_list(page, reach, table, &lines);
    }
}

/// Ends with equal rows and equal columns, in the order of their first.
fn lines(reach: &Reach<'_>, table: &Table, totals: &Totals<'_>) -> Vec<Line> {
    let outside = |end: usize| matches!(reach.ends[end], Members::Outside(..));
    let columns = table.reaches.transposed();
    let mut known: BTreeMap<(bool, &[u64], &[u64]), usize> = BTreeMap::new();
    let mut lines: Vec<Line> = Vec::new();
    for end in 0..reach.ends.len() {
        let line = *known.entry((outside(end), table.reaches.row(end), columns.row(end))).or_insert(lines.len());
        match lines.get_mut(line) {
            Some(line) => line.ends.push(end),
            None => lines.push(Line { ends: vec![end], label: String::new() }),
        }
    }
    for line in &mut lines {
        line.label = label(reach, &line.ends, totals);
    }
    lines
}

/// `shop/web`, `shop/* (12)`, `shop/api shop/web (2)`, `outside`.
fn label(reach: &Reach<'_>, ends: &[usize], totals: &Totals<'_>) -> String {
    let mut pods: Vec<&Pod> = Vec::new();
    let mut blocks = Vec::new();
    for end in ends {
        match &reach.ends[*end] {
            Members::Pods(members) => pods.extend(members),
            Members::Outside(family, block) => blocks.push(outside(*family, block.as_ref().map(ToString::to_string))),
        }
    }
    pods.sort_by_key(|pod| (&pod.namespace, &pod.name));
    let mut parts: Vec<String> = Vec::new();
    for pods in pods.chunk_by(|a, b| a.namespace == b.namespace) {
        parts.extend(label_of(pods, totals));
    }
    parts.extend(blocks);
    let count = if pods.len() > 1 { format!(" ({})", pods.len()) } else { String::new() };
    printable::line(&(parts.join(" ") + &count)).into_owned()
}

/// Most words for the pods of one namespace on a line.
const MOST_WORDS: usize = 3;

/// Pods of one namespace. A star never stands for a pod that is not among them.
fn label_of(pods: &[&Pod], totals: &Totals<'_>) -> Vec<String> {
    let Some(namespace) = pods.first().map(|pod| pod.namespace.as_str()) else { return Vec::new() };
    if pods.len() > 1 && totals.namespaces.get(namespace) == Some(&pods.len()) {
        return vec![format!("{namespace}/*")];
    }
    let mut stems: BTreeMap<&str, Vec<&Pod>> = BTreeMap::new();
    pods.iter().for_each(|pod| stems.entry(stem(pod)).or_default().push(pod));
    let mut words: Vec<(String, usize)> = Vec::new();
    for (stem, pods) in stems {
        if pods.len() > 1 && totals.stems.get(&(namespace, stem)) == Some(&pods.len()) {
            words.push((format!("{namespace}/{stem}-*"), pods.len()));
        } else {
            words.extend(pods.iter().map(|pod| (pod.to_string(), 1)));
        }
    }
    if words.len() > MOST_WORDS {
        let left_out: usize = words.drain(MOST_WORDS - 1..).map(|(_, pods)| pods).sum();
        words.push((format!("+{left_out}"), left_out));
    }
    words.into_iter().map(|(word, _)| word).collect()
}

pub(super) fn outside(family: Family, block: Option<String>) -> String {
    match (block, family) {
        (Some(block), _) => block,
        (None, Family::V4) => "outside".to_owned(),
        (None, Family::V6) => "outside-IPv6".to_owned(),
    }
}

fn write_matrix(page: &mut Page, reach: &Reach<'_>, table: &Table, lines: &[Line], digits: usize, label: usize) {
    let numbers: String = (1..=lines.len()).map(|number| format!(" {number:>digits$}")).collect();
    page.put(&[plain(format!("  {:digits$} {:label$} ", "", "from \\ to")), plain(numbers)], &[], 0);
    for (number, from) in (1..).zip(lines) {
        let mut row = vec![plain(format!("  {number:>digits$} {:label$} ", shortened(&from.label, label)))];
        for to in lines {
            let cell = cell(reach, table, from, to);
            let style = if cell == '+' { Style::Good } else { Style::Plain };
            row.extend([plain(" ".repeat(digits)), style.on(cell.to_string())]);
        }
        page.put(&row, &[], 0);
    }
}

fn cell(reach: &Reach<'_>, table: &Table, from: &Line, to: &Line) -> char {
    let (source, destination) = (from.ends[0], to.ends[0]);
    let alone = match reach.ends[source] {
        Members::Pods(ref pods) => from.ends.len() == 1 && pods.len() == 1,
        // What is outside reaches what is outside without us.
        Members::Outside(..) => true,
    };
    let both_outside = [source, destination].iter().all(|end| matches!(reach.ends[*end], Members::Outside(..)));
    if both_outside || alone && source == destination {
        '-'
    } else if table.reaches.is_set(source, destination) {
        '+'
    } else {
        '.'
    }
}

fn write_list(page: &mut Page, reach: &Reach<'_>, table: &Table, lines: &[Line]) {
    for to in lines {
        let sources: Vec<&Line> = lines.iter().filter(|from| cell(reach, table, from, to) == '+').collect();
        let others = lines.iter().filter(|from| cell(reach, table, from, to) == '.').count();
        let from = match (sources.len(), others) {
            (0, _) => "nobody".to_owned(),
            (_, 0) => "everyone".to_owned(),
            (count, _) => {
                let named = sources.iter().take(MOST_SOURCES).map(|line| line.label.as_str());
                let named = named.collect::<Vec<_>>().join(", ");
                match count.saturating_sub(MOST_SOURCES) {
                    0 => named,
                    more => format!("{named} and {}", counted(more, "more line")),
                }
            }
        };
        page.put(&[plain("  ")], &[plain(format!("{} <- {from}", to.label))], 6);
    }
}

/// At most `width` characters.
fn shortened(label: &str, width: usize) -> String {
    if label.chars().count() <= width {
        return label.to_owned();
    }
    // The count at the end says most.
    let tail = label.rfind(" (").map_or("", |at| &label[at..]);
    let kept = width.saturating_sub(tail.chars().count() + 1);
    label.chars().take(kept).chain(['~']).chain(tail.chars()).collect()
}

/// `TCP 80, 443; UDP 53; everything else`.
pub(super) fn heading(spoken: &[Spoken]) -> String {
    let mut parts: Vec<String> = Vec::new();
    let rest: Vec<Spoken> = Transport::ALL.into_iter().map(Spoken::OtherPorts).chain([Spoken::Portless]).collect();
    let everything_else = rest.iter().all(|rest| spoken.contains(rest));
    for transport in Transport::ALL {
        let ports: Vec<String> = spoken
            .iter()
            .filter_map(|spoken| match spoken {
                Spoken::Ports(known, range) if *known == transport => Some(range.to_string()),
                Spoken::Ports(..) | Spoken::OtherPorts(_) | Spoken::Portless => None,
            })
            .collect();
        let others = !everything_else && spoken.contains(&Spoken::OtherPorts(transport));
        let name = transport.name().to_ascii_uppercase();
        match (ports.is_empty(), others) {
            (true, true) => parts.push(format!("{name} to any other port")),
            (false, true) => parts.push(format!("{name} {} and any other", ports.join(", "))),
            (false, false) => parts.push(format!("{name} {}", ports.join(", "))),
            (true, false) => {}
        }
    }
    if everything_else {
        parts.push(if parts.is_empty() { "everything" } else { "everything else" }.to_owned());
    } else if spoken.contains(&Spoken::Portless) {
        parts.push("ICMP and other protocols".to_owned());
    }
    parts.join("; ")
}

/// For programs: the ends once, then each table as the indexes that each reaches.
pub fn json(reach: &Reach<'_>) -> Value {
    let ends: Vec<Value> = reach
        .ends
        .iter()
        .map(|end| match end {
            Members::Pods(pods) => json!({"pods": pods.iter().map(ToString::to_string).collect::<Vec<_>>()}),
            Members::Outside(family, block) => {
                json!({"outside": block.map(|block| block.to_string()), "family": family.to_string()})
            }
        })
        .collect();
    let tables: Vec<Value> = reach
        .tables
        .iter()
        .map(|table| {
            let all = 0..reach.ends.len();
            let reaches =
                |from: usize| -> Vec<usize> { all.clone().filter(|to| table.reaches.is_set(from, *to)).collect() };
            json!({
                "spoken": table.spoken.iter().map(spoken).collect::<Vec<_>>(),
                "reaches": all.clone().map(reaches).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({"ends": ends, "tables": tables, "blocksLeftOut": reach.blocks_left_out})
}

pub(super) fn spoken(spoken: &Spoken) -> Value {
    let name = |transport: &Transport| transport.name().to_ascii_uppercase();
    match spoken {
        Spoken::Ports(transport, range) => {
            json!({"proto": name(transport), "ports": [range.first(), range.last()]})
        }
        Spoken::OtherPorts(transport) => json!({"proto": name(transport), "ports": "others"}),
        Spoken::Portless => json!({"proto": "others"}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::PortRange;

    fn ports(first: u16, last: u16) -> Spoken {
        Spoken::Ports(Transport::Tcp, PortRange::new(first, last).unwrap())
    }

    #[test]
    fn a_heading_names_ports_and_what_else_goes_with_them() {
        let others = Transport::ALL.map(Spoken::OtherPorts);
        assert_eq!(heading(&[ports(80, 80), ports(90, 95)]), "TCP 80, 90-95");
        assert_eq!(heading(&[ports(80, 80), others[0]]), "TCP 80 and any other");
        assert_eq!(heading(&[others[1], Spoken::Portless]), "UDP to any other port; ICMP and other protocols");
        let all: Vec<Spoken> = others.into_iter().chain([Spoken::Portless]).collect();
        assert_eq!(heading(&all), "everything");
        assert_eq!(heading(&[&[ports(80, 80)], &all[..]].concat()), "TCP 80; everything else");
    }

    #[test]
    fn a_label_that_is_cut_keeps_its_count() {
        assert_eq!(shortened("shop/web", 8), "shop/web");
        assert_eq!(shortened("shop/web-front shop/api (12)", 16), "shop/web-f~ (12)");
    }
}
