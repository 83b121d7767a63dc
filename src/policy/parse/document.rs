//! Documents and lists: finds the objects in them.
//!
//! A list is read item by item, so that 5,000 pods in one file are never in memory as one tree.

use std::collections::BTreeMap;

use super::collect::Collector;
use super::kind::{self, Kind, What};
use crate::document::{Key, MAX_NODES, Node, Place, Report, Value, Visitor};

/// The reading of one file.
pub(super) struct Documents<'c, 'o> {
    collector: &'c mut Collector,
    report: Report,
    other: &'o mut dyn FnMut(&Place<'_>),
    /// Items of the present list that do not say what they are, while the list's own kind is still to come.
    waiting: Vec<(usize, Node)>,
    /// How many nodes these are.
    held: usize,
    /// Kinds of the items that do say it, each with the first of them.
    kinds: BTreeMap<Kind, usize>,
}

impl<'c, 'o> Documents<'c, 'o> {
    pub(super) fn new(
        collector: &'c mut Collector,
        report: Report,
        other: &'o mut dyn FnMut(&Place<'_>),
    ) -> Documents<'c, 'o> {
        Documents { collector, report, other, waiting: Vec::new(), held: 0, kinds: BTreeMap::new() }
    }

    pub(super) fn into_report(self) -> Report {
        self.report
    }

    fn forget(&mut self) {
        self.waiting.clear();
        self.kinds.clear();
        self.held = 0;
    }
}

fn text<'n>(fields: &'n [(Key, Node)], name: &str) -> Option<&'n str> {
    fields.iter().find(|(key, _)| key.text == name).and_then(|(_, node)| match &node.value {
        Value::Str { text, .. } => Some(text.as_str()),
        Value::Null | Value::Bool(_) | Value::Int { .. } | Value::Float { .. } | Value::Seq(_) | Value::Map(_) => None,
    })
}

/// What a list holds, if it says so before its items.
fn list_of(before: &[(Key, Node)]) -> Option<Option<Kind>> {
    match kind::named(text(before, "kind")?)? {
        What::List(kind) => Some(kind),
        What::Object(_) => None,
    }
}

/// A document or item with one of these fields claims to be a manifest.
fn is_manifest(node: &Node) -> bool {
    node.field("apiVersion").is_some() || node.field("kind").is_some()
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::Seq(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Map(entries) => 1 + entries.iter().map(|(_, node)| 1 + size(node)).sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Int { .. } | Value::Float { .. } | Value::Str { .. } => 1,
    }
}

/// Reads an object, or the items of a list. `expected` is the kind that the list around it says. Whether reading on is
/// of use.
fn manifest(collector: &mut Collector, place: &Place<'_>, expected: Option<Kind>) -> bool {
    if !is_manifest(place.node())
        && let Some(kind) = expected
    {
        return collector.object(place, kind);
    }
    let Some(mut fields) = place.fields() else { return true };
    let (version, name) = (fields.required("apiVersion"), fields.required("kind"));
    let Some((version, name)) = version.zip(name) else { return true };
    match (kind::read(&version, &name), expected) {
        (None, _) => true,
        (Some(What::Object(kind)), Some(expected)) if kind != expected => {
            name.refuse(format!("is an item of a {}List", expected.name()));
            true
        }
        (Some(What::Object(kind)), _) => collector.object(place, kind),
        (Some(What::List(kind)), _) => {
            let items = fields.not_null("items").and_then(|list| list.items());
            let read_on = items.into_iter().flatten().all(|item| manifest(collector, &item, kind));
            fields.optional("metadata");
            fields.finish();
            read_on
        }
    }
}

impl Visitor for Documents<'_, '_> {
    /// kubectl prints `apiVersion`, `items` and `kind` in this order.
    fn wants_items(&self, before: &[(Key, Node)]) -> bool {
        text(before, "apiVersion").is_some() && text(before, "kind").is_none_or(|kind| kind.ends_with("List"))
    }

    fn item(&mut self, before: &[(Key, Node)], index: usize, item: Node) -> bool {
        if index == 0 {
            self.forget();
        }
        if !is_manifest(&item) && list_of(before).is_none() {
            self.held += size(&item);
            if self.held > MAX_NODES {
                let place = self.report.read_item(&item, index);
                place.refuse(format!(
                    "the items up to here do not say their kind and hold more than {MAX_NODES} values (MAX_NODES); \
                     write the list's own kind before its items"
                ));
                return false;
            }
            self.waiting.push((index, item));
            return true;
        }
        // What a list says before its items is held against each of them at once.
        if list_of(before).is_none()
            && let Value::Map(fields) = &item.value
            && let Some(What::Object(kind)) = text(fields, "kind").and_then(kind::named)
        {
            self.kinds.entry(kind).or_insert(index);
        }
        let place = self.report.read_item(&item, index);
        manifest(self.collector, &place, list_of(before).flatten()) && !self.report.is_full()
    }

    fn document(&mut self, root: Node, items: Option<usize>) -> bool {
        if items.is_none() {
            self.forget();
        }
        let place = self.report.read(&root);
        if items.is_none() {
            if !is_manifest(&root) {
                (self.other)(&place);
                return !self.report.is_full();
            }
            return manifest(self.collector, &place, None) && !self.report.is_full();
        }
        let Some(mut fields) = place.fields() else { return true };
        let (version, name) = (fields.required("apiVersion"), fields.required("kind"));
        let what = version.zip(name.clone()).and_then(|(version, name)| kind::read(&version, &name));
        match (what, name) {
            (Some(What::List(expected)), Some(name)) => {
                for (index, item) in self.waiting.drain(..) {
                    manifest(self.collector, &self.report.read_item(&item, index), expected);
                }
                let foreign = self.kinds.iter().find(|(kind, _)| expected.is_some_and(|expected| **kind != expected));
                if let Some((kind, index)) = foreign {
                    name.refuse(format!("items[{index}] is a {}", kind.name()));
                }
                fields.optional("metadata");
                fields.optional("items");
                fields.finish();
            }
            (Some(What::Object(_)), _) => {
                if let Some(list) = fields.optional("items") {
                    list.refuse("only a list has items");
                }
            }
            (Some(What::List(_)) | None, _) => {}
        }
        !self.report.is_full()
    }
}
