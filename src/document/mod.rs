//! YAML and JSON text as a tree in which every node knows its line and column, and a strict reader of that tree.
//!
//! Both the configuration file and policy documents come through here. The reader ([`Place`], [`Fields`]) collects
//! every problem instead of stopping at the first; nothing may be used while there is one.
//!
//! What is YAML is decided by the core schema of YAML 1.2, and where older readers see something else (`yes` is a
//! boolean in YAML 1.1, `12:30` a number in base 60) the text is refused with "quote it": two programs must not read
//! one policy differently. There are no merge keys (`<<`), keys are strings, and a key stands once.
//!
//! The parser underneath is `granit-parser`, the maintained successor of `saphyr-parser` (MIT or Apache-2.0), chosen
//! over it because it forbids unsafe code and arithmetic panics by lint, is fuzzed for panics, bounds nesting and keys
//! in the scanner, joins JSON's surrogate pairs, and can go on with the next document after a syntax error. JSON takes
//! the same road: it is a subset of YAML's flow style but for a bare U+007F in a string and keys beyond 1024
//! characters, which no manifest holds and which are refused.

mod build;
mod decode;
mod scalar;
mod suggest;

pub use decode::{Fields, Place, Report, clipped, shown};
pub use suggest::suggest;

use crate::error::Finding;

/// Longest document text in bytes.
pub const MAX_BYTES: usize = 8 << 20;
/// Deepest nesting. Kubernetes objects stay below 20.
pub const MAX_DEPTH: usize = 64;
/// Most nodes (scalars, sequences, mappings) that are held at once: of a document, or of one item of a list that is
/// handed out item by item.
pub const MAX_NODES: usize = 500_000;
/// Most nodes of one text that are held for anchors or copied by aliases: what an alias may cost beyond its own text.
pub const MAX_ALIASED: usize = 10_000;
/// Most documents of one text, empty ones too. Twice as many as there may be objects.
pub const MAX_DOCUMENTS: usize = 200_000;
/// Most problems told of one text. The text is hostile long before.
pub const MAX_FINDINGS: usize = 1000;

/// A value and where its text begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Line, counted from 1.
    pub line: u32,
    /// Column in characters, counted from 1.
    pub column: u32,
}

impl Node {
    /// The value of the field `name`, where this is an object that has it.
    pub fn field(&self, name: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(key, _)| key.text == name).map(|(_, node)| node),
            Value::Null
            | Value::Bool(_)
            | Value::Int { .. }
            | Value::Float { .. }
            | Value::Str { .. }
            | Value::Seq(_) => None,
        }
    }

    /// Whether this is a manifest, as opposed to a configuration: it has `apiVersion` and `kind`.
    pub fn is_manifest(&self) -> bool {
        self.field("apiVersion").is_some() && self.field("kind").is_some()
    }
}

/// What a node is, by the core schema.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`, `~` or nothing at all.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number that fits.
    Int {
        /// Its value.
        value: i64,
        /// As it was written: `0x10` is 16, and a message should say `0x10`.
        text: String,
    },
    /// A number with a point or an exponent, or a whole one beyond 64 bits.
    Float {
        /// Its value; may be infinite or not a number.
        value: f64,
        /// As it was written.
        text: String,
    },
    /// Text.
    Str {
        /// The text.
        text: String,
        /// Written without quotes.
        plain: bool,
    },
    /// A list.
    Seq(Vec<Node>),
    /// An object, in the order in which it was written; no key stands twice.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The key.
    pub text: String,
    /// Line, counted from 1.
    pub line: u32,
    /// Column in characters, counted from 1.
    pub column: u32,
}

/// The documents of `bytes`, empty ones left out. Problems are added to `findings`; the trees are then what could be
/// made out, good only to find more problems in.
pub fn parse(file: &str, bytes: &[u8], findings: &mut Vec<Finding>) -> Vec<Node> {
    struct Roots(Vec<Node>);
    impl Visitor for Roots {
        fn wants_items(&self, _: &[(Key, Node)]) -> bool {
            false
        }

        fn item(&mut self, _: &[(Key, Node)], _: usize, _: Node) -> bool {
            true
        }

        fn document(&mut self, root: Node, _: Option<usize>) -> bool {
            self.0.push(root);
            true
        }
    }
    let mut roots = Roots(Vec::new());
    walk(file, bytes, (MAX_BYTES, "MAX_BYTES"), findings, &mut roots);
    roots.0
}

/// What is done with documents as they are read, so that no more than one of them is held. Each method says whether
/// reading goes on.
pub trait Visitor {
    /// Whether this document's `items` are wanted one by one. `before` are its fields that stand before them.
    fn wants_items(&self, before: &[(Key, Node)]) -> bool;

    /// One of them. The document itself may yet turn out to be broken, and is then never handed out.
    fn item(&mut self, before: &[(Key, Node)], index: usize, item: Node) -> bool;

    /// A document that is not empty; `items` is how many were handed out, and the list is empty in the tree.
    fn document(&mut self, root: Node, items: Option<usize>) -> bool;
}

/// Hands the documents of `bytes` to `visitor` as they come. `limit` is the most bytes and the limit's name. Problems
/// are added to `findings`.
pub fn walk(
    file: &str,
    bytes: &[u8],
    limit: (usize, &'static str),
    findings: &mut Vec<Finding>,
    visitor: &mut dyn Visitor,
) {
    let mut refuse = |position, message: String| {
        findings.push(Finding { file: file.to_owned(), position: Some(position), at: String::new(), message });
    };
    let (limit, name) = limit;
    if bytes.len() > limit {
        refuse((1, 1), format!("is longer than {limit} bytes ({name})"));
        return;
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            refuse(position_of(&bytes[..error.valid_up_to()]), "is not UTF-8 from here on".to_owned());
            return;
        }
    };
    // The scanner takes U+0000 for the end of input (granit_parser::char_traits::is_z), so what stands behind one
    // would silently not count.
    if let Some(nul) = bytes.iter().position(|byte| *byte == 0) {
        refuse(position_of(&bytes[..nul]), "a NUL character".to_owned());
        return;
    }
    build::Builder::new(file, text, findings).documents(visitor);
}

/// Line and column of the end of `before`, which need not be UTF-8 at its very end.
fn position_of(before: &[u8]) -> (u32, u32) {
    let text = String::from_utf8_lossy(before);
    let line = text.matches('\n').count() + 1;
    let column = text.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    (build::capped(line), build::capped(column))
}

/// A value as a message names it: `the integer 0x10`.
pub fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nothing (null)".to_owned(),
        Value::Bool(value) => format!("the boolean {value}"),
        Value::Int { text, .. } => format!("the integer {text}"),
        Value::Float { text, .. } => format!("the number {text}"),
        Value::Str { text, .. } => format!("the string {}", shown(text)),
        Value::Seq(_) => "a list".to_owned(),
        Value::Map(_) => "an object".to_owned(),
    }
}

#[cfg(test)]
mod tests;
