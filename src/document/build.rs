//! From the parser's events to trees.

use std::borrow::Cow;
use std::collections::BTreeMap;

use granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::{
    Key, MAX_ALIASED, MAX_DEPTH, MAX_DOCUMENTS, MAX_FINDINGS, MAX_NODES, Node, Value, Visitor, clipped, describe,
    scalar, shown,
};
use crate::error::Finding;

/// The field whose items a [`Visitor`] may have one by one: that of Kubernetes' lists.
const ITEMS: &str = "items";

/// Objects with more keys than this have an index while they are built.
const FEW_KEYS: usize = 24;

pub(super) fn capped(number: usize) -> u32 {
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
    /// The visitor has seen enough.
    Enough,
}

/// A finished anchored node.
struct Anchored {
    node: Node,
    count: usize,
    depth: usize,
}

pub(super) struct Builder<'t, 'f> {
    parser: Parser<'t, StrInput<'t>>,
    text: &'t str,
    file: &'f str,
    findings: &'f mut Vec<Finding>,
    anchors: BTreeMap<usize, Anchored>,
    /// Nodes that are held now.
    nodes: usize,
    aliased: usize,
    documents: usize,
    /// How many items of the present document were handed out.
    items: Option<usize>,
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

impl<'t, 'f> Builder<'t, 'f> {
    pub(super) fn new(file: &'f str, text: &'t str, findings: &'f mut Vec<Finding>) -> Builder<'t, 'f> {
        let options = granit_parser::options! {
            emit_comments: false, flow_nesting_limit: MAX_DEPTH, block_nesting_limit: MAX_DEPTH
        };
        Builder {
            parser: Parser::new_from_str_with_options(text, options),
            text,
            file,
            findings,
            anchors: BTreeMap::new(),
            nodes: 0,
            aliased: 0,
            documents: 0,
            items: None,
        }
    }

    fn refuse(&mut self, position: (u32, u32), message: impl Into<String>) {
        if self.findings.len() >= MAX_FINDINGS {
            return;
        }
        let file = self.file.to_owned();
        let message = clipped(message.into());
        self.findings.push(Finding { file, position: Some(position), at: String::new(), message });
    }

    pub(super) fn documents(&mut self, visitor: &mut dyn Visitor) {
        while self.findings.len() < MAX_FINDINGS {
            (self.nodes, self.items) = (0, None);
            match self.document(visitor) {
                Ok(Some(root)) if root.value != Value::Null => {
                    if !visitor.document(root, self.items) {
                        return;
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(Stop::Enough) => return,
                Err(Stop::End) => {
                    // Items of a list may have been handed out: half a list must not pass for a whole one.
                    let end = super::position_of(self.text.as_bytes());
                    self.refuse(end, "the text ends inside a document");
                    return;
                }
                Err(Stop::Limit(position, message)) => {
                    self.refuse(position, message);
                    return;
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
                        Ok(false) | Err(_) => return,
                    }
                }
            }
        }
    }

    /// The next event that is content.
    fn content(&mut self) -> Result<(Event<'t>, Span), Stop> {
        loop {
            let (event, span) = self.next()?;
            if is_content(&event) {
                return Ok((event, span));
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
    fn document(&mut self, visitor: &mut dyn Visitor) -> Result<Option<Node>, Stop> {
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(None),
                Event::DocumentStart(..) => {
                    self.anchors.clear();
                    self.documents += 1;
                    if self.documents > MAX_DOCUMENTS {
                        let problem = format!("there are more than {MAX_DOCUMENTS} documents (MAX_DOCUMENTS)");
                        return Err(Stop::Limit(place_at(&span.start), problem));
                    }
                }
                Event::MappingStart(_, 0, tag) => {
                    let place = place_at(&span.start);
                    self.count(place, 1)?;
                    self.check_tag(tag.as_deref(), "map", place);
                    return Ok(Some(self.mapping(place, 1, Some(visitor))?.node));
                }
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
                (anchor, self.mapping((line, column), depth, None)?)
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

    /// The mapping whose start at `line` and `column` was just read. `visitor` is there for a document's root.
    fn mapping(
        &mut self,
        (line, column): (u32, u32),
        depth: usize,
        mut visitor: Option<&mut dyn Visitor>,
    ) -> Result<Built, Stop> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        // Of large objects only; a few keys are compared faster than they are copied.
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
            let place = (key.node.line, key.node.column);
            let text = self.key(key.node.value, place, &entries, &seen);
            let (event, span) = self.content()?;
            let value = match (&mut visitor, &text, &event) {
                (Some(visitor), Some(text), Event::SequenceStart(_, 0, tag))
                    if text == ITEMS && visitor.wants_items(&entries) =>
                {
                    let place = place_at(&span.start);
                    self.check_tag(tag.as_deref(), "seq", place);
                    self.hand_out(place, &entries, &mut **visitor)?
                }
                _ => self.node(event, span, depth + 1)?,
            };
            count += key.count + value.count;
            below = below.max(key.depth).max(value.depth);
            if let Some(text) = text {
                if entries.len() >= FEW_KEYS {
                    if seen.is_empty() {
                        seen.extend(entries.iter().map(|(key, _)| (key.text.clone(), key.line)));
                    }
                    seen.insert(text.clone(), place.0);
                }
                entries.push((Key { text, line: place.0, column: place.1 }, value.node));
            }
        }
    }

    /// A key's text, where it can be one and is the first of its kind.
    fn key(
        &mut self,
        key: Value,
        place: (u32, u32),
        entries: &[(Key, Node)],
        seen: &BTreeMap<String, u32>,
    ) -> Option<String> {
        let text = match key {
            Value::Str { text, plain: true } if text == "<<" => {
                self.refuse(place, "merge keys (<<) are not supported; write the fields out");
                return None;
            }
            Value::Str { text, plain: true } => {
                if let Some(kind) = scalar::elsewhere(&text) {
                    self.refuse(place, format!("the key {text} is {kind} to some YAML readers; quote it"));
                    return None;
                }
                text
            }
            Value::Str { text, plain: false } => text,
            other => {
                self.refuse(place, format!("a key must be a string, found {}; quote it", describe(&other)));
                return None;
            }
        };
        let first = if entries.len() <= FEW_KEYS {
            entries.iter().find(|(key, _)| key.text == text).map(|(key, _)| key.line)
        } else {
            seen.get(&text).copied()
        };
        if let Some(first) = first {
            let message = format!("the key {} stands twice, first in line {first}", shown(&text));
            self.refuse(place, message);
            return None;
        }
        Some(text)
    }

    /// The items of the list whose start was just read, each given to `visitor` and forgotten.
    fn hand_out(
        &mut self,
        (line, column): (u32, u32),
        before: &[(Key, Node)],
        visitor: &mut dyn Visitor,
    ) -> Result<Built, Stop> {
        self.count((line, column), 1)?;
        let held = self.nodes;
        let mut index = 0;
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                break;
            }
            if !is_content(&event) {
                continue;
            }
            // Below the root and its list.
            let item = self.node(event, span, 3)?;
            self.nodes = held;
            if !visitor.item(before, index, item.node) || self.findings.len() >= MAX_FINDINGS {
                return Err(Stop::Enough);
            }
            index += 1;
        }
        self.items = Some(index);
        Ok(Built { node: Node { value: Value::Seq(Vec::new()), line, column }, count: 1, depth: 1 })
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
