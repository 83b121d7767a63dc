//! `netlatch reach` as a picture: what is drawn, before anything is drawn.
//!
//! Pods of one namespace that reach the same and are reached by the same, with everything that is spoken, are one group. What
//! passes from one group to another is one of a few kinds, each a set of the tables of [`Reach`]. That much holds everything
//! that the tables say, in few enough pieces to be looked at; [`svg`], [`html`] and [`dot`] draw it.
//!
//! Layout libraries for Rust (layout-rs, rust-sugiyama) know neither boxes in boxes nor labels on edges; Graphviz does, and
//! gets [`dot`].

mod boards;
mod circuit;
mod dot;
mod html;
mod links;
mod paint;
mod svg;

pub use dot::dot;
pub use html::html;
pub use svg::svg;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::table::{heading, outside, spoken, stem};
use crate::error::{Cause, Failure};
use crate::policy::reach::{Members, Reach, Spoken, joined};
use crate::policy::world::Pod;
use crate::printable;

/// Most groups that are drawn. Of more nobody would see anything.
pub const MAX_GROUPS: usize = 300;

/// Most words of a group's name; further pods are counted.
const MOST_WORDS: usize = 3;

/// What is drawn.
#[derive(Debug)]
pub struct Picture {
    /// Namespaces with pods, by name.
    namespaces: Vec<String>,
    /// By namespace and name; what is outside last.
    groups: Vec<Group>,
    /// What passes, the one that passes most often first.
    kinds: Vec<Kind>,
    /// By source, then destination.
    cells: Vec<Cell>,
    /// What each table speaks of.
    tables: Vec<Vec<Spoken>>,
    counts: Counts,
}

/// What the title counts.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    pods: usize,
    policies: usize,
    blocks_left_out: usize,
}

/// Who is drawn as one.
#[derive(Debug)]
struct Group {
    /// Index of its namespace; `None` outside.
    namespace: Option<usize>,
    /// Within its namespace: `web-*`.
    name: String,
    /// Everyone in it, as `reach` names them elsewhere.
    members: Vec<String>,
}

/// What passes, where not nothing does.
#[derive(Debug)]
struct Kind {
    /// The tables in which it passes.
    set: Set,
    /// `everything`, `TCP 80; UDP 53`.
    name: String,
    /// The same for programs.
    spoken: Vec<Value>,
    /// Whether nothing is left out.
    everything: bool,
}

/// What passes from one group to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    Nothing,
    /// Index of the kind.
    Passes(usize),
    /// Nobody asks: a pod reaches itself, and what is outside reaches the outside without us.
    Moot,
}

/// A set of tables, by index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Set(Vec<u64>);

impl Set {
    fn none(size: usize) -> Set {
        Set(vec![0; size.div_ceil(64)])
    }

    fn insert(&mut self, index: usize) {
        self.0[index / 64] |= 1 << (index % 64);
    }

    fn contains(&self, index: usize) -> bool {
        self.0[index / 64] >> (index % 64) & 1 == 1
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    fn join(&mut self, other: &Set) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word |= other);
    }

    fn meet(&mut self, other: &Set) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word &= other);
    }

    /// What is not in the other.
    fn without(&self, other: &Set) -> Set {
        Set(self.0.iter().zip(&other.0).map(|(word, other)| word & !other).collect())
    }
}

impl Picture {
    /// Sums up what the tables say under this many policies.
    ///
    /// # Errors
    /// [`Cause::Limit`] where there are more than [`MAX_GROUPS`].
    pub fn new(reach: &Reach<'_>, policies: usize) -> Result<Picture, Failure> {
        let drafts = drafts(reach);
        if drafts.len() > MAX_GROUPS {
            let cause = Cause::Limit(format!(
                "{} groups of pods differ in whom they reach, more than anybody could see in a picture of {MAX_GROUPS} (MAX_GROUPS)",
                drafts.len()
            ));
            return Err(Failure::new("draw who reaches whom", cause));
        }
        let tables: Vec<Vec<Spoken>> = reach.tables.iter().map(|table| table.spoken.clone()).collect();
        let (kinds, cells) = cells(reach, &tables, &drafts);
        let mut namespaces: Vec<String> = Vec::new();
        let mut groups = Vec::new();
        let sizes = drafts.iter().fold(BTreeMap::<&str, usize>::new(), |mut sizes, draft| {
            draft.pods.iter().for_each(|pod| *sizes.entry(&pod.namespace).or_default() += 1);
            sizes
        });
        let stems = drafts.iter().flat_map(|draft| &draft.pods).fold(BTreeMap::new(), |mut stems, pod| {
            *stems.entry((pod.namespace.as_str(), stem(pod))).or_default() += 1;
            stems
        });
        for draft in &drafts {
            let Some(namespace) = draft.namespace else {
                let names = |end: &usize| match &reach.ends[*end] {
                    Members::Outside(family, block) => outside(*family, block.as_ref().map(ToString::to_string)),
                    Members::Pods(_) => String::new(),
                };
                let members: Vec<String> = draft.ends.iter().map(names).collect();
                groups.push(Group { namespace: None, name: counted_words(members.clone()), members });
                continue;
            };
            let shown = printable::line(namespace).into_owned();
            if namespaces.last() != Some(&shown) {
                namespaces.push(shown);
            }
            let whole = draft.pods.len() > 1 && sizes.get(namespace) == Some(&draft.pods.len());
            let name = if whole { "every pod".to_owned() } else { words(&draft.pods, &stems) };
            let members = draft.pods.iter().map(ToString::to_string).collect();
            groups.push(Group { namespace: Some(namespaces.len() - 1), name, members });
        }
        let pods = sizes.values().sum();
        let counts = Counts { pods, policies, blocks_left_out: reach.blocks_left_out };
        Ok(Picture { namespaces, groups, kinds, cells, tables, counts })
    }

    fn cell(&self, from: usize, to: usize) -> Cell {
        self.cells[from * self.groups.len() + to]
    }

    /// `shop/web-*`, `outside`.
    fn full_name(&self, group: usize) -> String {
        let group = &self.groups[group];
        match group.namespace {
            Some(namespace) => format!("{}/{}", self.namespaces[namespace], group.name),
            None => group.name.clone(),
        }
    }

    /// `30 pods in 4 namespaces, 12 policies; 14 groups`.
    fn subtitle(&self) -> String {
        let word = |count: usize, one: &str, more: &str| format!("{count} {}", if count == 1 { one } else { more });
        let groups = self.groups.iter().filter(|group| group.namespace.is_some()).count();
        format!(
            "{} in {}, {}; {}",
            word(self.counts.pods, "pod", "pods"),
            word(self.namespaces.len(), "namespace", "namespaces"),
            word(self.counts.policies, "policy", "policies"),
            word(groups, "group", "groups"),
        )
    }

    /// What is true of all pairs at once, where something is.
    fn verdict(&self) -> Option<&'static str> {
        let mut asked = self.cells.iter().filter(|cell| **cell != Cell::Moot).peekable();
        asked.peek()?;
        let all = |wanted: &dyn Fn(Cell) -> bool| asked.clone().all(|cell| wanted(*cell));
        if all(&|cell| matches!(cell, Cell::Passes(kind) if self.kinds[kind].everything)) {
            return Some("Everyone reaches everyone, inside and outside.");
        }
        all(&|cell| cell == Cell::Nothing).then_some("Nobody reaches anybody else, inside or outside.")
    }

    /// What can be read nowhere else in a picture.
    fn notes(&self) -> Vec<String> {
        let mut notes = vec![
            "Pods of a namespace that reach the same and are reached by the same are one group; ×n is how many they are."
                .to_owned(),
            "Whatever comes from a pod's own node is let in by every NetworkPolicy and is not shown.".to_owned(),
        ];
        if self.counts.blocks_left_out > 0 {
            let most = crate::policy::reach::MAX_BLOCKS;
            notes.push(format!("Of the address blocks in policies only the first {most} are shown."));
        }
        notes
    }

    /// The groups with their members, for programs.
    fn groups_json(&self) -> Vec<Value> {
        let of = |group: &Group| {
            let namespace = group.namespace.map(|namespace| &self.namespaces[namespace]);
            json!({"namespace": namespace, "name": group.name, "members": group.members})
        };
        self.groups.iter().map(of).collect()
    }
}

/// A group before it has a name.
struct Draft<'w> {
    /// `None` outside.
    namespace: Option<&'w str>,
    /// Indexes of ends; all have the same bits.
    ends: Vec<usize>,
    pods: Vec<&'w Pod>,
}

/// Ends of several namespaces taken apart, and then those put together that no table tells apart.
fn drafts<'w>(reach: &Reach<'w>) -> Vec<Draft<'w>> {
    let mut classes: Vec<usize> = vec![0; reach.ends.len()];
    // One table after the other, so that never more than one is held turned round.
    for table in &reach.tables {
        let columns = table.reaches.transposed();
        let mut known = BTreeMap::new();
        for (end, class) in classes.iter_mut().enumerate() {
            let next = known.len();
            *class = *known.entry((*class, table.reaches.row(end), columns.row(end))).or_insert(next);
        }
    }
    let mut drafts: BTreeMap<(bool, Option<&str>, usize), Draft<'w>> = BTreeMap::new();
    for (end, members) in reach.ends.iter().enumerate() {
        let mut join = |namespace: Option<&'w str>, pod: Option<&'w Pod>| {
            let draft = drafts.entry((namespace.is_none(), namespace, classes[end]));
            let draft = draft.or_insert_with(|| Draft { namespace, ends: Vec::new(), pods: Vec::new() });
            if draft.ends.last() != Some(&end) {
                draft.ends.push(end);
            }
            draft.pods.extend(pod);
        };
        match members {
            Members::Pods(pods) => pods.iter().for_each(|pod| join(Some(&pod.namespace), Some(pod))),
            Members::Outside(..) => join(None, None),
        }
    }
    let mut drafts: Vec<Draft<'w>> = drafts.into_values().collect();
    drafts.iter_mut().for_each(|draft| draft.pods.sort_by_key(|pod| &pod.name));
    let first = |draft: &Draft<'w>| draft.pods.first().map(|pod| pod.name.as_str());
    drafts.sort_by(|a, b| {
        (a.namespace.is_none(), a.namespace, first(a)).cmp(&(b.namespace.is_none(), b.namespace, first(b)))
    });
    drafts
}

fn cells(reach: &Reach<'_>, tables: &[Vec<Spoken>], drafts: &[Draft<'_>]) -> (Vec<Kind>, Vec<Cell>) {
    let mut found: BTreeMap<Set, usize> = BTreeMap::new();
    let mut sets: Vec<Option<Set>> = Vec::with_capacity(drafts.len() * drafts.len());
    for (row, from) in drafts.iter().enumerate() {
        for (column, to) in drafts.iter().enumerate() {
            let outside = from.namespace.is_none() && to.namespace.is_none();
            if outside || row == column && from.pods.len() == 1 {
                sets.push(None);
                continue;
            }
            let (from, to) = (from.ends[0], to.ends[0]);
            let mut set = Set::none(tables.len());
            let passing = reach.tables.iter().enumerate().filter(|(_, table)| table.reaches.is_set(from, to));
            passing.for_each(|(index, _)| set.insert(index));
            if !set.is_empty() {
                *found.entry(set.clone()).or_default() += 1;
            }
            sets.push(Some(set));
        }
    }
    let mut kinds: Vec<(Kind, usize)> = found.into_iter().map(|(set, cells)| (kind(tables, set), cells)).collect();
    kinds.sort_by_key(|(kind, cells)| (!kind.everything, usize::MAX - cells, kind.set.clone()));
    let kinds: Vec<Kind> = kinds.into_iter().map(|(kind, _)| kind).collect();
    let known: BTreeMap<&Set, usize> = kinds.iter().enumerate().map(|(index, kind)| (&kind.set, index)).collect();
    let cell = |set: &Option<Set>| match set {
        None => Cell::Moot,
        Some(set) => known.get(set).map_or(Cell::Nothing, |kind| Cell::Passes(*kind)),
    };
    let cells = sets.iter().map(cell).collect();
    (kinds, cells)
}

fn kind(tables: &[Vec<Spoken>], set: Set) -> Kind {
    let said = |wanted: bool| -> Vec<Spoken> {
        let tables = tables.iter().enumerate().filter(|(index, _)| set.contains(*index) == wanted);
        let mut spoken: Vec<Spoken> = tables.flat_map(|(_, spoken)| spoken.iter().copied()).collect();
        spoken.sort();
        joined(spoken)
    };
    let (passes, fails) = (said(true), said(false));
    let name = match fails.len() {
        0 => "everything".to_owned(),
        // What is missing is said where that is the shorter list: all other ports pass.
        _ if passes.contains(&Spoken::Portless) && fails.iter().all(|spoken| matches!(spoken, Spoken::Ports(..))) => {
            format!("all but {}", heading(&fails))
        }
        _ => heading(&passes),
    };
    Kind { name, spoken: passes.iter().map(spoken).collect(), everything: fails.is_empty(), set }
}

/// Pods of one namespace, in a few words. A star never stands for a pod that is not among them.
fn words(pods: &[&Pod], stems: &BTreeMap<(&str, &str), usize>) -> String {
    let mut siblings: BTreeMap<&str, Vec<&Pod>> = BTreeMap::new();
    pods.iter().for_each(|pod| siblings.entry(stem(pod)).or_default().push(pod));
    let mut words: Vec<(String, usize)> = Vec::new();
    for (stem, pods) in siblings {
        let namespace = pods[0].namespace.as_str();
        if pods.len() > 1 && stems.get(&(namespace, stem)) == Some(&pods.len()) {
            words.push((format!("{}-*", printable::line(stem)), pods.len()));
        } else {
            words.extend(pods.iter().map(|pod| (printable::line(&pod.name).into_owned(), 1)));
        }
    }
    if words.len() > MOST_WORDS {
        let left_out: usize = words.drain(MOST_WORDS - 1..).map(|(_, pods)| pods).sum();
        words.push((format!("+{left_out}"), left_out));
    }
    words.into_iter().map(|(word, _)| word).collect::<Vec<_>>().join(" ")
}

fn counted_words(mut words: Vec<String>) -> String {
    if words.len() > MOST_WORDS {
        let left_out = words.drain(MOST_WORDS - 1..).count();
        words.push(format!("+{left_out}"));
    }
    words.join(" ")
}
