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

mod decode;
mod scalar;
mod suggest;

use std::borrow::Cow;
use std::collections::BTreeMap;

use granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

pub use decode::{Fields, Place, Report, clipped, shown};
pub use suggest::suggest;

use crate::error::Finding;

/// Longest document text in bytes.
pub const MAX_BYTES: usize = 8 << 20;
/// Deepest nesting. Kubernetes objects stay below 20.
pub const MAX_DEPTH: usize = 64;
/// Most nodes (scalars, sequences, mappings) of one text, all its documents together.
pub const MAX_NODES: usize = 500_000;
/// Most nodes of one text that are held for anchors or copied by aliases: what an alias may cost beyond its own text.
pub const MAX_ALIASED: usize = 10_000;
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
    let mut refuse = |position, message: String| {
        findings.push(Finding { file: file.to_owned(), position: Some(position), at: String::new(), message });
    };
    if bytes.len() > MAX_BYTES {
        refuse((1, 1), format!("is longer than {MAX_BYTES} bytes (MAX_BYTES)"));
        return Vec::new();
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            refuse(position_of(&bytes[..error.valid_up_to()]), "is not UTF-8 from here on".to_owned());
            return Vec::new();
        }
    };
    // The scanner takes U+0000 for the end of input (granit_parser::char_traits::is_z), so what stands behind one
    // would silently not count.
    if let Some(nul) = bytes.iter().position(|byte| *byte == 0) {
        refuse(position_of(&bytes[..nul]), "a NUL character".to_owned());
        return Vec::new();
    }
    let options =
        granit_parser::options! { emit_comments: false, flow_nesting_limit: MAX_DEPTH, block_nesting_limit: MAX_DEPTH };
    let mut builder = Builder {
        parser: Parser::new_from_str_with_options(text, options),
        text,
        file,
        findings,
        anchors: BTreeMap::new(),
        nodes: 0,
        aliased: 0,
    };
    builder.documents()
}

/// Line and column of the end of `before`, which need not be UTF-8 at its very end.
fn position_of(before: &[u8]) -> (u32, u32) {
    let text = String::from_utf8_lossy(before);
    let line = text.matches('\n').count() + 1;
    let column = text.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    (capped(line), capped(column))
}

fn capped(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn place_at(marker: &Marker) -> (u32, u32) {
    (capped(marker.line()), capped(marker.col()).saturating_add(1))
}

/// Why building a document stopped.
enum Stop {
    /// The text does not parse; the next document may.
    Syntax(ScanError),
    /// A limit, with the place. There is no going on.
    Limit((u32, u32), String),
    /// The text ends inside a document. The parser reports that itself; this is for its iterator ending first.
    End,
}

/// A finished anchored node.
struct Anchored {
    node: Node,
    count: usize,
    depth: usize,
}

struct Builder<'t, 'f> {
    parser: Parser<'t, StrInput<'t>>,
    text: &'t str,
    file: &'f str,
    findings: &'f mut Vec<Finding>,
    anchors: BTreeMap<usize, Anchored>,
    nodes: usize,
    aliased: usize,
}

/// A node with the number of nodes in it and the levels below it.
struct Built {
    node: Node,
    count: usize,
    depth: usize,
}

impl Built {
    const fn null((line, column): (u32, u32)) -> Built {
        Built { node: Node { value: Value::Null, line, column }, count: 1, depth: 1 }
    }
}

impl<'t> Builder<'t, '_> {
    fn refuse(&mut self, position: (u32, u32), message: impl Into<String>) {
        if self.findings.len() >= MAX_FINDINGS {
            return;
        }
        let file = self.file.to_owned();
        let message = clipped(message.into());
        self.findings.push(Finding { file, position: Some(position), at: String::new(), message });
    }

    fn documents(&mut self) -> Vec<Node> {
        let mut roots = Vec::new();
        loop {
            if self.findings.len() >= MAX_FINDINGS {
                return roots;
            }
            match self.document() {
                Ok(Some(root)) if root.value != Value::Null => roots.push(root),
                Ok(Some(_)) => {}
                Ok(None) | Err(Stop::End) => return roots,
                Err(Stop::Limit(position, message)) => {
                    self.refuse(position, message);
                    return roots;
                }
                Err(Stop::Syntax(error)) => {
                    let at = *error.marker();
                    let hint = match at.byte_offset().and_then(|at| self.text.as_bytes().get(at)) {
                        // What a list's entries begin with, and YAML has other uses for.
                        Some(sign @ (b'*' | b'@' | b'`' | b'%')) => {
                            format!("; quote a text that begins with {}", char::from(*sign))
                        }
                        Some(_) | None => String::new(),
                    };
                    let message = match error.kind() {
                        ErrorKind::RecursionLimitExceeded => too_deep(),
                        _ => error.info().replace('\n', ", ") + &hint,
                    };
                    self.refuse(place_at(&at), message);
                    match self.parser.proceed_next_document() {
                        Ok(true) => {}
                        Ok(false) | Err(_) => return roots,
                    }
                }
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'t>, Span), Stop> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(Stop::Syntax(error)),
            None => Err(Stop::End),
        }
    }

    /// The next document's root; `None` at the end of the text.
    fn document(&mut self) -> Result<Option<Node>, Stop> {
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(None),
                Event::DocumentStart(..) => self.anchors.clear(),
                event if is_content(&event) => return Ok(Some(self.node(event, span, 1)?.node)),
                // StreamStart, DocumentEnd, comments.
                _ => {}
            }
        }
    }

    /// Builds the node that begins with `event`, which is content. `depth` counts from 1.
    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Built, Stop> {
        let (line, column) = place_at(&span.start);
        self.count((line, column), 1)?;
        if depth > MAX_DEPTH {
            return Err(Stop::Limit((line, column), too_deep()));
        }
        let (anchor, built) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tag_place = span.tag_start().map_or((line, column), |at| place_at(&at));
                let value = self.scalar(text, style, tag.as_deref(), tag_place);
                (anchor, Built { node: Node { value, line, column }, count: 1, depth: 1 })
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), "seq", (line, column));
                let mut items = Vec::new();
                let (mut count, mut below) = (1, 0);
                loop {
                    let (event, span) = self.next()?;
                    if matches!(event, Event::SequenceEnd) {
                        break;
                    }
                    if !is_content(&event) {
                        continue;
                    }
                    let item = self.node(event, span, depth + 1)?;
                    (count, below) = (count + item.count, below.max(item.depth));
                    items.push(item.node);
                }
                (anchor, Built { node: Node { value: Value::Seq(items), line, column }, count, depth: below + 1 })
            }
            Event::MappingStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), "map", (line, column));
                (anchor, self.mapping((line, column), depth)?)
            }
            Event::Alias(id) => return self.alias(id, (line, column), depth),
            // `is_content` lets nothing else through.
            _ => (0, Built::null((line, column))),
        };
        if anchor != 0 {
            self.charge((line, column), built.count)?;
            let node = built.node.clone();
            self.anchors.insert(anchor, Anchored { node, count: built.count, depth: built.depth });
        }
        Ok(built)
    }

    /// The mapping whose start at `line` and `column` was just read.
    fn mapping(&mut self, (line, column): (u32, u32), depth: usize) -> Result<Built, Stop> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        // Not a HashMap: its random seed is a system call on the hook's way.
        let mut seen: BTreeMap<String, u32> = BTreeMap::new();
        let (mut count, mut below) = (1, 0);
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(Built { node: Node { value: Value::Map(entries), line, column }, count, depth: below + 1 });
            }
            if !is_content(&event) {
                continue;
            }
            let key = self.node(event, span, depth + 1)?;
            let (event, span) = loop {
                let (event, span) = self.next()?;
                if is_content(&event) {
                    break (event, span);
                }
            };
            let value = self.node(event, span, depth + 1)?;
            count += key.count + value.count;
            below = below.max(key.depth).max(value.depth);
            let place = (key.node.line, key.node.column);
            let text = match key.node.value {
                Value::Str { text, plain: true } if text == "<<" => {
                    self.refuse(place, "merge keys (<<) are not supported; write the fields out");
                    continue;
                }
                Value::Str { text, plain: true } => {
                    if let Some(kind) = scalar::elsewhere(&text) {
                        self.refuse(place, format!("the key {text} is {kind} to some YAML readers; quote it"));
                        continue;
                    }
                    text
                }
                Value::Str { text, plain: false } => text,
                other => {
                    self.refuse(place, format!("a key must be a string, found {}; quote it", describe(&other)));
                    continue;
                }
            };
            if let Some(first) = seen.get(&text) {
                let message = format!("the key {} stands twice, first in line {first}", shown(&text));
                self.refuse(place, message);
                continue;
            }
            seen.insert(text.clone(), place.0);
            entries.push((Key { text, line: place.0, column: place.1 }, value.node));
        }
    }

    fn alias(&mut self, id: usize, place: (u32, u32), depth: usize) -> Result<Built, Stop> {
        let Some((count, levels)) = self.anchors.get(&id).map(|anchored| (anchored.count, anchored.depth)) else {
            // Known to the parser and not finished: we are inside it.
            self.refuse(place, "the alias stands inside what it names");
            return Ok(Built::null(place));
        };
        if depth + levels - 1 > MAX_DEPTH {
            return Err(Stop::Limit(place, too_deep()));
        }
        self.charge(place, count)?;
        self.count(place, count)?;
        let node = self.anchors.get(&id).map(|anchored| anchored.node.clone());
        Ok(node.map_or_else(|| Built::null(place), |node| Built { node, count, depth: levels }))
    }

    fn count(&mut self, place: (u32, u32), nodes: usize) -> Result<(), Stop> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return Err(Stop::Limit(place, format!("holds more than {MAX_NODES} values (MAX_NODES)")));
        }
        Ok(())
    }

    fn charge(&mut self, place: (u32, u32), nodes: usize) -> Result<(), Stop> {
        self.aliased += nodes;
        if self.aliased > MAX_ALIASED {
            let message = format!("anchors and aliases stand for more than {MAX_ALIASED} values (MAX_ALIASED)");
            return Err(Stop::Limit(place, message));
        }
        Ok(())
    }

    fn scalar(&mut self, text: Cow<'t, str>, style: ScalarStyle, tag: Option<&Tag>, place: (u32, u32)) -> Value {
        let text = text.into_owned();
        let quoted = |text| Value::Str { text, plain: false };
        match tag {
            None if matches!(style, ScalarStyle::Plain) => scalar::resolve(text),
            None => quoted(text),
            // `!` alone is the non-specific tag: "this is a string, whatever it looks like".
            Some(tag) if tag.is_yaml_core_schema_tag("str") || tag.parts() == ("", "!") => quoted(text),
            Some(tag) => {
                self.refuse_tag(tag, place);
                // What was probably meant, so that one mistake is not told twice.
                quoted(tag.original() + &text)
            }
        }
    }

    fn check_tag(&mut self, tag: Option<&Tag>, fitting: &str, place: (u32, u32)) {
        if let Some(tag) = tag
            && !tag.is_yaml_core_schema_tag(fitting)
        {
            self.refuse_tag(tag, place);
        }
    }

    fn refuse_tag(&mut self, tag: &Tag, place: (u32, u32)) {
        let tag = shown(&tag.original());
        self.refuse(place, format!("the tag {tag} is not supported; quote a text that begins with !"));
    }
}

const fn is_content(event: &Event<'_>) -> bool {
    matches!(event, Event::Scalar(..) | Event::SequenceStart(..) | Event::MappingStart(..) | Event::Alias(_))
}

fn too_deep() -> String {
    format!("nests deeper than {MAX_DEPTH} levels (MAX_DEPTH)")
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
