//! YAML and JSON text.

use netlatch::document::{MAX_DEPTH, MAX_NODES, Node, Value, describe, parse};
use serde_json::{Map, Number};

/// A document keeps to the limits, and printed as JSON and read again it says the same.
pub(crate) fn holds(bytes: &[u8]) {
    let mut findings = Vec::new();
    let roots = parse("d.yaml", bytes, &mut findings);
    super::assert_findings(&findings);
    for root in roots {
        let mut nodes = 0;
        let depth = depth(&root, &mut nodes);
        assert!(depth <= MAX_DEPTH && nodes <= MAX_NODES, "{depth} levels, {nodes} nodes");
        let json = print(&root).to_string();
        // A document of nothing is none.
        if json == "null" {
            continue;
        }
        let mut findings = Vec::new();
        let again = parse("d.json", json.as_bytes(), &mut findings);
        // A name of a field may be longer than the scanner lets it be, and U+007F to U+009F stand bare in JSON, which YAML
        // does not take (1.2, 5.1).
        if findings.is_empty() {
            assert!(again.len() == 1 && same(&root, &again[0]), "{root:?}\n{json}\n{again:?}");
        } else {
            assert!(json.len() > 1024 || json.contains(|c| ('\u{7f}'..='\u{9f}').contains(&c)), "{json}: {findings:?}");
        }
    }
}

fn depth(node: &Node, nodes: &mut usize) -> usize {
    *nodes += 1;
    assert!(node.line > 0 && node.column > 0);
    super::assert_line(&describe(&node.value));
    1 + match &node.value {
        Value::Null | Value::Bool(_) | Value::Int { .. } | Value::Float { .. } | Value::Str { .. } => 0,
        Value::Seq(items) => items.iter().map(|item| depth(item, nodes)).max().unwrap_or(0),
        Value::Map(entries) => entries.iter().map(|(_, node)| depth(node, nodes)).max().unwrap_or(0),
    }
}

fn print(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int { value, .. } => (*value).into(),
        // JSON has neither infinity nor "not a number".
        Value::Float { value, .. } => Number::from_f64(*value).map_or(serde_json::Value::Null, Into::into),
        Value::Str { text, .. } => text.clone().into(),
        Value::Seq(items) => items.iter().map(print).collect(),
        Value::Map(entries) => {
            entries.iter().map(|(key, node)| (key.text.clone(), print(node))).collect::<Map<_, _>>().into()
        }
    }
}

/// Whether both say the same, in whatever order the fields stand.
fn same(one: &Node, other: &Node) -> bool {
    match (&one.value, &other.value) {
        (Value::Seq(one), Value::Seq(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(a, b)| same(a, b))
        }
        (Value::Map(one), Value::Map(other)) => {
            let mut both = [one, other].map(|entries| entries.iter().collect::<Vec<_>>());
            both.iter_mut().for_each(|entries| entries.sort_by(|a, b| a.0.text.cmp(&b.0.text)));
            let [one, other] = both;
            one.len() == other.len() && one.iter().zip(other).all(|(a, b)| a.0.text == b.0.text && same(&a.1, &b.1))
        }
        (Value::Int { value: one, .. }, Value::Int { value: other, .. }) => one == other,
        (Value::Float { value: one, .. }, Value::Float { value: other, .. }) => one == other,
        (Value::Float { value, .. }, Value::Null) => !value.is_finite(),
        (Value::Str { text: one, .. }, Value::Str { text: other, .. }) => one == other,
        (one, other) => one == other,
    }
}
