//! Pictures of `netlatch reach`, read back: whether they say what its tables say.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

/// What a picture says: who is in which group, and what passes from one group to another.
#[derive(Debug)]
pub(crate) struct Drawn {
    pub(crate) members: Vec<Vec<String>>,
    /// Lists of what is spoken, as `reach --format json` writes it. What passes is all of them together.
    pub(crate) passes: BTreeMap<(usize, usize), Vec<Value>>,
}

fn values(text: &str) -> Vec<Value> {
    serde_json::from_str::<Vec<Value>>(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn names(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The matrix of an SVG picture.
pub(crate) fn matrix(svg: &str) -> Drawn {
    let document = roxmltree::Document::parse(svg).unwrap_or_else(|error| panic!("{error}: {svg}"));
    let number = |node: &roxmltree::Node<'_, '_>, name: &str| -> usize {
        node.attribute(name).and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{name} of {node:?}"))
    };
    let mut kinds = BTreeMap::new();
    let mut members = BTreeMap::new();
    for node in document.descendants() {
        if let (true, Some(spoken)) = (node.has_attribute("data-kind"), node.attribute("data-spoken")) {
            assert!(kinds.insert(number(&node, "data-kind"), values(spoken)).is_none(), "a kind stands once");
        }
        if let Some(named) = node.attribute("data-members") {
            assert!(members.insert(number(&node, "data-group"), names(named)).is_none(), "a group stands once");
        }
    }
    let mut passes = BTreeMap::new();
    for cell in document.descendants().filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "use"))) {
        if cell.has_attribute("data-from") {
            let pair = (number(&cell, "data-from"), number(&cell, "data-to"));
            let kind = number(&cell, "data-kind");
            assert_eq!(cell.attribute("href"), Some(format!("#nl-k{kind}").as_str()), "what is seen is what is meant");
            assert!(passes.insert(pair, kinds[&kind].clone()).is_none(), "a cell stands once");
        }
    }
    Drawn { members: members.into_values().collect(), passes }
}

fn unquoted(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        plain.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    plain
}

/// The arrows of a DOT picture, each for all whom it stands for, and what is open.
pub(crate) fn arrows(dot: &str) -> Drawn {
    let quoted = r#""((?:[^"\\]|\\.)*)""#;
    let pattern = |text: &str| Regex::new(&text.replace("QUOTED", quoted)).expect("a pattern");
    let node = pattern(r"^ *g(\d+) \[label=QUOTED, open=QUOTED, members=QUOTED\];$");
    let kind = pattern(r"^  kind(\d+) \[.*, spoken=QUOTED\];$");
    let cluster = pattern(r"^  subgraph cluster_n(\d+) \{$");
    let strings = pattern("QUOTED");
    let arrow = pattern(r"^  (\w+) -> (\w+) \[kind=(\d+), label=QUOTED(.*)\];$");
    let end = |name: &str, more: &str| -> Option<usize> {
        let found = pattern(&format!(r#"(?:l{name}=|[ ]{name}=")cluster_n(\d+)"#)).captures(more)?;
        Some(found[1].parse().expect("a number"))
    };
    let (mut members, mut open, mut namespaces, mut inside) = (Vec::new(), Vec::new(), Vec::new(), None);
    let mut kinds: Vec<Vec<Value>> = Vec::new();
    let mut drawn = Drawn { members: Vec::new(), passes: BTreeMap::new() };
    let mut ends: Vec<(Vec<usize>, Vec<usize>, usize)> = Vec::new();
    for line in dot.lines() {
        if let Some(found) = cluster.captures(line) {
            inside = Some(found[1].parse::<usize>().expect("a number"));
        } else if line == "  }" {
            inside = None;
        } else if let Some(found) = node.captures(line) {
            assert_eq!(found[1].parse(), Ok(members.len()), "groups stand in their order");
            members.push(names(&unquoted(&found[4])));
            open.push((found[3].contains("in"), found[3].contains("out")));
            namespaces.push(inside);
        } else if let Some(found) = kind.captures(line) {
            assert_eq!(found[1].parse(), Ok(kinds.len()), "kinds stand in their order");
            kinds.push(values(&unquoted(&found[2])));
        } else if let Some(found) = arrow.captures(line) {
            let meant = |name: &str, cut: Option<usize>| -> Vec<usize> {
                let one = name.strip_prefix('g').and_then(|number| number.parse::<usize>().ok());
                let is_meant = |group: &usize| match (cut, one, name) {
                    (Some(namespace), ..) => namespaces[*group] == Some(namespace),
                    (None, Some(one), _) => *group == one,
                    (None, None, "everyone") => true,
                    (None, None, "pods") => namespaces[*group].is_some(),
                    (None, None, "open_out") => open[*group].1,
                    (None, None, "open_in") => open[*group].0,
                    (None, None, "open_pods_out") => open[*group].1 && namespaces[*group].is_some(),
                    (None, None, "open_pods_in") => open[*group].0 && namespaces[*group].is_some(),
                    (None, None, other) => panic!("an arrow ends at {other}"),
                };
                (0..namespaces.len()).filter(is_meant).collect()
            };
            let more = &found[5];
            let kind = found[3].parse().expect("a number");
            ends.push((meant(&found[1], end("tail", more)), meant(&found[2], end("head", more)), kind));
        } else {
            assert!(!strings.replace_all(line, "").contains("->"), "an arrow of a form that nobody reads: {line}");
        }
    }
    for from in 0..open.len() {
        for to in (0..open.len()).filter(|to| open[from].1 && open[*to].0) {
            // The first kind is everything wherever anything is open.
            drawn.passes.insert((from, to), kinds[0].clone());
        }
    }
    for (sources, destinations, kind) in ends {
        for from in &sources {
            for to in &destinations {
                drawn.passes.entry((*from, *to)).or_default().extend(kinds[kind].clone());
            }
        }
    }
    drawn.members = members;
    drawn
}

/// Whether `wanted` is among what is spoken.
fn speaks(spoken: &[Value], wanted: &Value) -> bool {
    let port = |value: &Value, index: usize| value["ports"][index].as_u64();
    spoken.iter().filter(|known| known["proto"] == wanted["proto"]).any(|known| {
        match (port(known, 0), port(known, 1), port(wanted, 0), port(wanted, 1)) {
            (Some(first), Some(last), Some(from), Some(to)) => first <= from && to <= last,
            _ => known == wanted,
        }
    })
}

/// Where the picture and the tables of `reach --format json` differ.
pub(crate) fn differences(tables: &Value, drawn: &Drawn) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut ends: Vec<(String, usize, bool)> = Vec::new();
    for (index, end) in list(&tables["ends"]).iter().enumerate() {
        match end["pods"].as_array() {
            Some(pods) => ends.extend(pods.iter().map(|pod| (pod.as_str().expect("a name").to_owned(), index, false))),
            None => {
                let other = if end["family"] == "IPv6" { "outside-IPv6" } else { "outside" };
                ends.push((end["outside"].as_str().unwrap_or(other).to_owned(), index, true));
            }
        }
    }
    let mut groups: BTreeMap<&str, usize> = BTreeMap::new();
    for (group, members) in drawn.members.iter().enumerate() {
        for member in members {
            assert!(groups.insert(member, group).is_none(), "{member} is in one group");
        }
    }
    let mut differences = Vec::new();
    if groups.len() != ends.len() {
        differences.push(format!("{} are drawn of {}", groups.len(), ends.len()));
    }
    let nothing = Vec::new();
    for table in list(&tables["tables"]) {
        let reaches: Vec<Vec<usize>> = serde_json::from_value(table["reaches"].clone()).expect("indexes");
        let spoken = list(&table["spoken"]);
        let mut answered: BTreeMap<(usize, usize), bool> = BTreeMap::new();
        for (from, source, from_outside) in &ends {
            for (to, destination, to_outside) in &ends {
                if from == to || *from_outside && *to_outside {
                    continue;
                }
                let (Some(row), Some(column)) = (groups.get(from.as_str()), groups.get(to.as_str())) else {
                    differences.push(format!("{from} or {to} is not drawn"));
                    continue;
                };
                let expected = reaches[*source].contains(destination);
                let right = answered.entry((*row, *column)).or_insert_with(|| {
                    let passes = drawn.passes.get(&(*row, *column)).unwrap_or(&nothing);
                    let drawn: Vec<bool> = spoken.iter().map(|spoken| speaks(passes, spoken)).collect();
                    assert!(drawn.iter().all(|same| *same == drawn[0]), "what a table says together is drawn together");
                    drawn[0]
                });
                if *right != expected {
                    differences.push(format!("{from} to {to}: {expected} for {}", table["spoken"]));
                }
            }
        }
    }
    differences
}
