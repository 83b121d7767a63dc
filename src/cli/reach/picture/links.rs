//! What passes, in as few arrows as can be.
//!
//! A world is mostly open: of n groups that no policy touches each reaches each, and n² arrows would hide the ten that
//! matter. So those that reach everything and are reached by everything among themselves are open and have no arrows; and
//! where all of a namespace, all pods or simply everyone may do the same, that is one arrow. What is drawn is no more and no less than
//! the cells: `tests/reach_picture.rs` reads it back.

use super::{Cell, Picture};

/// Who stands at an end of an arrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whom {
    /// Everyone, inside and outside.
    Everyone,
    /// Every pod.
    Pods,
    /// As a source, those that are open on their way out; as a destination, those that are open on their way in.
    Open,
    /// Every pod of a namespace.
    Namespace(usize),
    Group(usize),
}

/// An arrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) from: Whom,
    pub(super) to: Whom,
    /// Index of the kind.
    pub(super) kind: usize,
}

/// All arrows, and who needs none.
#[derive(Debug)]
pub(super) struct Links {
    /// Of each group, whether it reaches everything of all that are open on their way in.
    pub(super) open_out: Vec<bool>,
    /// Of each group, whether everything reaches it of all that are open on their way out.
    pub(super) open_in: Vec<bool>,
    /// The most comprehensive first.
    pub(super) arrows: Vec<Link>,
}

impl Links {
    pub(super) fn of(picture: &Picture) -> Links {
        let size = picture.groups.len();
        let (open_out, open_in) = open(picture).unwrap_or((vec![false; size], vec![false; size]));
        let mut covered = vec![false; size * size];
        for from in (0..size).filter(|from| open_out[*from]) {
            (0..size).filter(|to| open_in[*to]).for_each(|to| covered[from * size + to] = true);
        }
        let sources = sets(picture, &open_out);
        let destinations = sets(picture, &open_in);
        let mut pairs: Vec<(usize, usize)> =
            (0..sources.len()).flat_map(|from| (0..destinations.len()).map(move |to| (from, to))).collect();
        pairs.sort_by_key(|(from, to)| {
            (usize::MAX - sources[*from].1.len() * destinations[*to].1.len(), sources[*from].0, destinations[*to].0)
        });
        let mut arrows = Vec::new();
        for (from, to) in pairs {
            let ((from, sources), (to, destinations)) = (&sources[from], &destinations[to]);
            let cells = || sources.iter().flat_map(|from| destinations.iter().map(move |to| (*from, *to)));
            let Some(kind) = only_kind(picture, cells()) else { continue };
            let is_new = |(from, to): &(usize, usize)| {
                !covered[from * size + to] && picture.cell(*from, *to) == Cell::Passes(kind)
            };
            let new = cells().filter(is_new).count();
            let single = matches!((from, to), (Whom::Group(_), Whom::Group(_)));
            if new > usize::from(!single) {
                cells().for_each(|(from, to)| covered[from * size + to] = true);
                arrows.push(Link { from: *from, to: *to, kind });
            }
        }
        Links { open_out, open_in, arrows }
    }
}

/// The one kind of all these cells that are asked about.
fn only_kind(picture: &Picture, cells: impl Iterator<Item = (usize, usize)>) -> Option<usize> {
    let mut found = None;
    for (from, to) in cells {
        match (picture.cell(from, to), found) {
            (Cell::Moot, _) => {}
            (Cell::Passes(kind), None) => found = Some(kind),
            (Cell::Passes(kind), Some(known)) if kind == known => {}
            (Cell::Passes(_), Some(_)) | (Cell::Nothing, _) => return None,
        }
    }
    found
}

/// Who can stand at an end of an arrow, with their groups. A set that is another one too stands here once.
fn sets(picture: &Picture, open: &[bool]) -> Vec<(Whom, Vec<usize>)> {
    let all = 0..picture.groups.len();
    let filtered = |keep: &dyn Fn(usize) -> bool| -> Vec<usize> { all.clone().filter(|group| keep(*group)).collect() };
    let mut sets = vec![
        (Whom::Everyone, filtered(&|_| true)),
        (Whom::Pods, filtered(&|group| picture.groups[group].namespace.is_some())),
        (Whom::Open, filtered(&|group| open[group])),
    ];
    for namespace in 0..picture.namespaces.len() {
        let members = filtered(&|group| picture.groups[group].namespace == Some(namespace));
        sets.push((Whom::Namespace(namespace), members));
    }
    sets.retain(|(_, members)| members.len() > 1);
    let before = sets.clone();
    let mut index = 0;
    sets.retain(|(_, members)| {
        index += 1;
        !before[..index - 1].iter().any(|(_, earlier)| earlier == members)
    });
    sets.extend(all.map(|group| (Whom::Group(group), vec![group])));
    sets
}

/// The sources and destinations of which each source reaches each destination with everything: all, without the row or
/// column with the most gaps, until none has any. `None` where that is too little to speak of.
fn open(picture: &Picture) -> Option<(Vec<bool>, Vec<bool>)> {
    let size = picture.groups.len();
    let everything = picture.kinds.iter().position(|kind| kind.everything)?;
    let is_gap = |from: usize, to: usize| match picture.cell(from, to) {
        Cell::Nothing => true,
        Cell::Passes(kind) => kind != everything,
        Cell::Moot => false,
    };
    let (mut open_out, mut open_in) = (vec![true; size], vec![true; size]);
    let mut gaps = [vec![0; size], vec![0; size]];
    for (from, to) in (0..size).flat_map(|from| (0..size).map(move |to| (from, to))) {
        if is_gap(from, to) {
            gaps[0][from] += 1;
            gaps[1][to] += 1;
        }
    }
    loop {
        let left = [open_in.iter().filter(|open| **open).count(), open_out.iter().filter(|open| **open).count()];
        // The share of gaps, in millionths; the first of several worst ones.
        let share = |side: usize, group: usize| gaps[side][group] * 1_000_000 / left[side].max(1);
        let mut worst: Option<(usize, usize, usize)> = None;
        for side in [1, 0] {
            let open = if side == 0 { &open_out } else { &open_in };
            for group in (0..size).filter(|group| open[*group] && gaps[side][*group] > 0) {
                if worst.is_none_or(|(known, ..)| share(side, group) > known) {
                    worst = Some((share(side, group), side, group));
                }
            }
        }
        let Some((_, side, group)) = worst else { break };
        for other in 0..size {
            let (from, to) = if side == 0 { (group, other) } else { (other, group) };
            if is_gap(from, to) {
                gaps[1 - side][other] -= 1;
            }
        }
        if side == 0 { open_out[group] = false } else { open_in[group] = false }
    }
    let asked = |from: usize, to: usize| picture.cell(from, to) != Cell::Moot;
    let pairs = (0..size).flat_map(|from| (0..size).map(move |to| (from, to)));
    let all = pairs.clone().filter(|(from, to)| asked(*from, *to)).count();
    let open = pairs.filter(|(from, to)| asked(*from, *to) && open_out[*from] && open_in[*to]).count();
    (open >= 3 && open * 5 >= all).then_some((open_out, open_in))
}
