//! The picture for Graphviz.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use super::Picture;
use super::links::{Links, Whom};
use super::paint::fitted;
use crate::printable;

/// Most columns of a label.
const LABEL: usize = 40;

/// A digraph: namespaces are clusters, and arrows that concern all of a namespace end at its border.
///
/// Our own attributes (`members`, `open`, `kind`, `spoken`) are for programs; Graphviz passes over them.
pub fn dot(picture: &Picture) -> String {
    let links = Links::of(picture);
    let mut text = String::from("digraph reach {\n");
    let title = format!("Who reaches whom: {}", picture.subtitle());
    let open = (0..picture.groups.len()).any(|group| links.open_out[group]);
    let rule =
        if open { "\\nWhat is open reaches all that is open, with everything and without an arrow." } else { "" };
    let _ = writeln!(
        text,
        "  graph [compound=true, rankdir=LR, newrank=true, nodesep=0.25, ranksep=0.9, fontname=\"Helvetica\", labelloc=t,"
    );
    let _ = writeln!(text, "         label=\"{}{rule}\"];", inside(&title));
    text.push_str(
        "  node [shape=box, style=\"rounded,filled\", fillcolor=white, color=\"#7a8794\", fontname=\"Helvetica\"];\n",
    );
    text.push_str("  edge [color=\"#2b6ca3\", fontname=\"Helvetica\", fontsize=10];\n");
    for (index, kind) in picture.kinds.iter().chain(&links.parts).enumerate() {
        let spoken = Value::from(kind.spoken.clone()).to_string();
        let _ = writeln!(
            text,
            "  // kind {index}: {}\n  kind{index} [style=invis, shape=point, width=0, height=0, spoken={}];",
            printable::line(&kind.name),
            quoted(&spoken)
        );
    }
    let mut groups = 0..picture.groups.len();
    for (namespace, name) in picture.namespaces.iter().enumerate() {
        let _ = writeln!(text, "  subgraph cluster_n{namespace} {{");
        let _ = writeln!(
            text,
            "    label={}; style=\"rounded,filled\"; color=\"#d0d7de\"; fillcolor=\"#f6f8fa\";",
            quoted(&fitted(name, LABEL))
        );
        let members =
            groups.by_ref().take(picture.groups.iter().filter(|group| group.namespace == Some(namespace)).count());
        members.for_each(|group| write_node(&mut text, "    ", picture, &links, group));
        text.push_str("  }\n");
    }
    groups.for_each(|group| write_node(&mut text, "  ", picture, &links, group));
    let many: BTreeMap<String, String> = links
        .arrows
        .iter()
        .flat_map(|link| [(link.from, true), (link.to, false)])
        .filter_map(|(whom, is_source)| many(whom, is_source))
        .collect();
    for (name, label) in many {
        let _ = writeln!(text, "  {name} [label=\"{label}\", shape=ellipse];");
    }
    for link in &links.arrows {
        let ((tail, ltail), (head, lhead)) = (end(picture, link.from, true), end(picture, link.to, false));
        let _ = write!(
            text,
            "  {tail} -> {head} [kind={}, label={}",
            link.kind,
            quoted(&fitted(&links.kind(link.kind).name, LABEL))
        );
        // An arrow within a cluster cannot be cut at its border; that it concerns all of it is said in words.
        let all = |whom: Whom| match whom {
            Whom::Namespace(namespace) => Some(namespace),
            Whom::Everyone | Whom::Pods | Whom::Open | Whom::OpenPods | Whom::Group(_) => None,
        };
        let place = |whom: Whom| match whom {
            Whom::Group(group) => picture.groups[group].namespace,
            whom => all(whom),
        };
        let inside = place(link.from).is_some() && place(link.from) == place(link.to);
        for (name, cluster) in [("tail", ltail), ("head", lhead)] {
            match cluster {
                Some(cluster) if inside => text.push_str(&format!(", {name}label=all, {name}=\"{cluster}\"")),
                Some(cluster) => text.push_str(&format!(", l{name}={cluster}")),
                None => {}
            }
        }
        text.push_str("];\n");
    }
    text + "}\n"
}

/// The node that stands for many.
fn many(whom: Whom, is_source: bool) -> Option<(String, String)> {
    let way = if is_source { "out" } else { "in" };
    let (name, label) = match whom {
        Whom::Everyone => ("everyone".to_owned(), "everyone".to_owned()),
        Whom::Pods => ("pods".to_owned(), "every pod".to_owned()),
        Whom::Open => (format!("open_{way}"), format!("everyone\\nopen on the way {way}")),
        Whom::OpenPods => (format!("open_pods_{way}"), format!("every pod\\nopen on the way {way}")),
        Whom::Namespace(_) | Whom::Group(_) => return None,
    };
    Some((name, label))
}

/// The node at which an arrow ends, and the cluster at whose border it is cut.
fn end(picture: &Picture, whom: Whom, is_source: bool) -> (String, Option<String>) {
    match whom {
        Whom::Everyone | Whom::Pods | Whom::Open | Whom::OpenPods => {
            (many(whom, is_source).map_or_else(String::new, |(name, _)| name), None)
        }
        Whom::Group(group) => (format!("g{group}"), None),
        Whom::Namespace(namespace) => {
            let inside = picture.groups.iter().position(|group| group.namespace == Some(namespace)).unwrap_or(0);
            (format!("g{inside}"), Some(format!("cluster_n{namespace}")))
        }
    }
}

fn write_node(text: &mut String, indent: &str, picture: &Picture, links: &Links, group: usize) {
    let known = &picture.groups[group];
    let count = if known.members.len() > 1 && known.namespace.is_some() {
        format!(" ×{}", known.members.len())
    } else {
        String::new()
    };
    let (open, said) = match (links.open_in[group], links.open_out[group]) {
        (true, true) => ("in out", "open"),
        (true, false) => ("in", "way out closed"),
        (false, true) => ("out", "way in closed"),
        (false, false) => ("", "closed"),
    };
    let name = inside(&format!("{}{count}", fitted(&known.name, LABEL)));
    let members = quoted(&Value::from(known.members.clone()).to_string());
    let _ = writeln!(text, "{indent}g{group} [label=\"{name}\\n{said}\", open=\"{open}\", members={members}];");
}

/// A quoted string of the DOT language. A backslash means something to labels, so it is doubled; there is no other escape.
fn quoted(text: &str) -> String {
    format!("\"{}\"", inside(text))
}

fn inside(text: &str) -> String {
    printable::line(text).replace('\\', "\\\\").replace('"', "\\\"")
}
