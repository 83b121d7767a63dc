//! Reading a tree strictly: every mistake is reported with its place, none stops the reading.
//!
//! A reader returns `None` after it has reported why, so `?` leaves one field and not the document.

use std::cell::RefCell;
use std::fmt;
use std::ops::RangeInclusive;
use std::rc::Rc;

use super::{Key, MAX_FINDINGS, Node, Value, describe, scalar, suggest};
use crate::error::Finding;
use crate::net::Origin;

/// Where problems of one file are gathered.
#[derive(Debug)]
pub struct Report {
    file: String,
    findings: RefCell<Vec<Finding>>,
    warnings: RefCell<Vec<Finding>>,
}

impl Report {
    /// An empty report on `file`.
    pub fn new(file: impl Into<String>) -> Report {
        Report { file: file.into(), findings: RefCell::default(), warnings: RefCell::default() }
    }

    /// The root of a document, to be read.
    pub fn read<'a>(&'a self, root: &'a Node) -> Place<'a> {
        Place { node: root, path: None, report: self }
    }

    /// An item of the list `items` of a document, to be read.
    pub fn read_item<'a>(&'a self, item: &'a Node, index: usize) -> Place<'a> {
        let list = Some(Rc::new(Path { parent: None, step: Step::Field("items") }));
        Place { node: item, path: Some(Rc::new(Path { parent: list, step: Step::Item(index) })), report: self }
    }

    /// Whether so many problems were found that no more are told.
    pub fn is_full(&self) -> bool {
        self.findings.borrow().len() >= MAX_FINDINGS
    }

    /// The file that is reported on.
    pub fn file(&self) -> &str {
        &self.file
    }

    fn push(&self, into: &RefCell<Vec<Finding>>, finding: impl FnOnce() -> Finding) {
        let mut findings = into.borrow_mut();
        if findings.len() < MAX_FINDINGS {
            findings.push(finding());
        }
    }

    /// What was found: errors, then warnings.
    pub fn into_parts(self) -> (Vec<Finding>, Vec<Finding>) {
        (self.findings.into_inner(), self.warnings.into_inner())
    }
}

/// One more step into the object than `parent`.
#[derive(Debug)]
struct Path<'a> {
    parent: Option<Rc<Path<'a>>>,
    step: Step<'a>,
}

#[derive(Debug)]
enum Step<'a> {
    Field(&'a str),
    Item(usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = &self.parent {
            write!(f, "{parent}")?;
        }
        match self.step {
            Step::Item(index) => write!(f, "[{index}]"),
            Step::Field(name) if is_plain(name) && self.parent.is_some() => write!(f, ".{name}"),
            Step::Field(name) if is_plain(name) => f.write_str(name),
            Step::Field(name) => write!(f, "[{}]", shown(name)),
        }
    }
}

/// A key that needs no quotes in a dotted path.
fn is_plain(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// Foreign text as a message may hold it: quoted, control and invisible characters escaped, cut when long.
pub fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        None => format!("{text:?}"),
        Some((cut, _)) => format!("{:?}...", &text[..cut]),
    }
}

/// A message of bearable length: it may quote what somebody else wrote, and goes into one line.
pub fn clipped(mut message: String) -> String {
    const LONGEST: usize = 400;
    if let Some((cut, _)) = message.char_indices().nth(LONGEST) {
        message.truncate(cut);
        message.push_str("...");
    }
    message
}

/// A node with its path: a value about to be read.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    node: &'a Node,
    path: Option<Rc<Path<'a>>>,
    report: &'a Report,
}

impl<'a> Place<'a> {
    /// The node itself.
    pub fn node(&self) -> &'a Node {
        self.node
    }

    /// The dotted path, empty at the root.
    pub fn path(&self) -> String {
        self.path.as_ref().map_or_else(String::new, |path| path.to_string())
    }

    /// This place as an origin of rules and values.
    pub fn origin(&self) -> Origin {
        Origin::File { path: self.report.file.clone(), line: self.node.line, at: self.path() }
    }

    /// Reports a problem with this value.
    pub fn refuse(&self, message: impl Into<String>) {
        let place = (self.node.line, self.node.column);
        self.report.push(&self.report.findings, || self.finding(place, message.into()));
    }

    /// Reports something that is allowed and probably not meant.
    pub fn warn(&self, message: impl Into<String>) {
        let place = (self.node.line, self.node.column);
        self.report.push(&self.report.warnings, || self.finding(place, message.into()));
    }

    fn finding(&self, position: (u32, u32), message: String) -> Finding {
        Finding { file: self.report.file.clone(), position: Some(position), at: self.path(), message: clipped(message) }
    }

    fn expected<T>(&self, what: &str) -> Option<T> {
        self.refuse(format!("expected {what}, found {}", describe(&self.node.value)));
        None
    }

    fn below(&self, node: &'a Node, step: Step<'a>) -> Place<'a> {
        Place { node, path: Some(Rc::new(Path { parent: self.path.clone(), step })), report: self.report }
    }

    /// Whether nothing is written here.
    pub fn is_null(&self) -> bool {
        self.node.value == Value::Null
    }

    /// A string. A number, a boolean and what other YAML readers take for one must be quoted.
    pub fn string(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Str { text, plain } => {
                if let Some(kind) = scalar::elsewhere(text).filter(|_| *plain) {
                    self.refuse(format!("expected a string, and {text} is {kind} to some YAML readers; quote it"));
                    return None;
                }
                Some(text)
            }
            Value::Bool(_) | Value::Int { .. } | Value::Float { .. } => {
                self.refuse(format!("expected a string, found {}; quote it", describe(&self.node.value)));
                None
            }
            Value::Null | Value::Seq(_) | Value::Map(_) => self.expected("a string"),
        }
    }

    /// `true` or `false`.
    pub fn boolean(&self) -> Option<bool> {
        match &self.node.value {
            Value::Bool(value) => Some(*value),
            Value::Null
            | Value::Int { .. }
            | Value::Float { .. }
            | Value::Str { .. }
            | Value::Seq(_)
            | Value::Map(_) => self.expected("true or false"),
        }
    }

    /// A whole number within `range`.
    pub fn integer(&self, range: RangeInclusive<i64>) -> Option<i64> {
        match &self.node.value {
            Value::Int { text, .. } if scalar::is_octal_elsewhere(text) => {
                self.refuse(format!("{text} is octal to some YAML readers; write it without the leading 0"));
                None
            }
            Value::Int { value, .. } if range.contains(value) => Some(*value),
            Value::Int { .. }
            | Value::Null
            | Value::Bool(_)
            | Value::Float { .. }
            | Value::Str { .. }
            | Value::Seq(_)
            | Value::Map(_) => self.expected(&format!("a whole number from {} to {}", range.start(), range.end())),
        }
    }

    /// One of these words.
    pub fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let text = self.string()?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let names = words.iter().map(|(word, _)| *word);
        let list = names.clone().collect::<Vec<_>>().join(", ");
        let hint = suggest(text, names).map_or_else(String::new, |word| format!("; did you mean {word}?"));
        self.refuse(format!("expected one of {list}, found {}{hint}", shown(text)));
        None
    }

    /// The items of a list.
    pub fn items(&self) -> Option<impl ExactSizeIterator<Item = Place<'a>> + use<'a>> {
        match &self.node.value {
            Value::Seq(items) => {
                let list = self.clone();
                Some(items.iter().enumerate().map(move |(index, item)| list.below(item, Step::Item(index))))
            }
            Value::Null
            | Value::Bool(_)
            | Value::Int { .. }
            | Value::Float { .. }
            | Value::Str { .. }
            | Value::Map(_) => self.expected("a list"),
        }
    }

    /// The strings of a list, each with its index and its line; what is no string is reported. Without a [`Place`] for each,
    /// since a list may have 200,000 items.
    pub fn strings(&self) -> Option<Vec<(usize, u32, &'a str)>> {
        let Value::Seq(items) = &self.node.value else { return self.expected("a list") };
        let mut strings = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let text = match &item.value {
                Value::Str { text, plain } if !*plain || scalar::elsewhere(text).is_none() => Some(text.as_str()),
                _ => self.below(item, Step::Item(index)).string(),
            };
            strings.extend(text.map(|text| (index, item.line, text)));
        }
        Some(strings)
    }

    /// An item of a list.
    pub fn item(&self, index: usize) -> Option<Place<'a>> {
        match &self.node.value {
            Value::Seq(items) => items.get(index).map(|item| self.below(item, Step::Item(index))),
            Value::Null
            | Value::Bool(_)
            | Value::Int { .. }
            | Value::Float { .. }
            | Value::Str { .. }
            | Value::Map(_) => None,
        }
    }

    fn map(&self) -> Option<&'a [(Key, Node)]> {
        match &self.node.value {
            Value::Map(entries) => Some(entries),
            Value::Null
            | Value::Bool(_)
            | Value::Int { .. }
            | Value::Float { .. }
            | Value::Str { .. }
            | Value::Seq(_) => self.expected("an object"),
        }
    }

    /// The entries of an object whose keys are data, such as labels.
    pub fn entries(&self) -> Option<impl ExactSizeIterator<Item = (&'a Key, Place<'a>)> + use<'a>> {
        let object = self.clone();
        Some(self.map()?.iter().map(move |(key, node)| (key, object.below(node, Step::Field(&key.text)))))
    }

    /// An object whose keys are fields. [`Fields::finish`] reports those nobody asked for.
    pub fn fields(&self) -> Option<Fields<'a>> {
        let entries = self.map()?;
        Some(Fields { object: self.clone(), entries, taken: vec![false; entries.len()], asked: Vec::new() })
    }
}

/// The fields of an object.
#[derive(Debug)]
pub struct Fields<'a> {
    object: Place<'a>,
    entries: &'a [(Key, Node)],
    taken: Vec<bool>,
    asked: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// The object they are in.
    pub fn object(&self) -> &Place<'a> {
        &self.object
    }

    /// The field `name`, if it is there; its value may be null.
    pub fn optional(&mut self, name: &'static str) -> Option<Place<'a>> {
        self.asked.push(name);
        let index = self.entries.iter().position(|(key, _)| key.text == name)?;
        let (key, node) = self.entries.get(index)?;
        if let Some(taken) = self.taken.get_mut(index) {
            *taken = true;
        }
        Some(self.object.below(node, Step::Field(&key.text)))
    }

    /// The field `name` unless it is missing or null, which to the Kubernetes API are the same.
    pub fn not_null(&mut self, name: &'static str) -> Option<Place<'a>> {
        self.optional(name).filter(|place| !place.is_null())
    }

    /// The field `name`; missing or null is reported, with the path it would have and the position of the object that
    /// lacks it.
    pub fn required(&mut self, name: &'static str) -> Option<Place<'a>> {
        let found = self.not_null(name);
        if found.is_none() {
            self.object.below(self.object.node, Step::Field(name)).refuse("the field is missing");
        }
        found
    }

    /// Reports every field that was not asked for.
    pub fn finish(self) {
        for ((key, _), _) in self.entries.iter().zip(&self.taken).filter(|(_, taken)| !**taken) {
            let report = self.object.report;
            report.push(&report.findings, || {
                let hint = suggest(&key.text, self.asked.iter().copied())
                    .map_or_else(String::new, |word| format!("; did you mean {word}?"));
                self.object.finding((key.line, key.column), format!("unknown field {}{hint}", shown(&key.text)))
            });
        }
    }
}
