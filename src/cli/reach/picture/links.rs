//! What passes, in as few arrows as can be.
//!
//! A world is mostly open: of n groups that no policy touches each reaches each, and n² arrows would hide the ten that
//! matter. So those that reach everything and are reached by everything among themselves are open and have no arrows; and
//! where all of a namespace, all pods or simply everyone may do the same, that is one arrow. Together the arrows say what the
//! cells say, no more and no less: `tests/reach_picture.rs` reads them back.

use super::{Cell, Kind, Picture, Set, kind};

/// Who stands at an end of an arrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whom {
    /// Everyone, inside and outside.
    Everyone,
    /// Every pod.
    Pods,
    /// As a source, those that are open on their way out; as a destination, those that are open on their way in.
    Open,
    /// The pods among those.
    OpenPods,
    /// Every pod of a namespace.
    Namespace(usize),
    Group(usize),
}

/// An arrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) from: Whom,
    pub(super) to: Whom,
    /// Index of [`Links::kinds`].
    pub(super) kind: usize,
}

/// All arrows, and who needs none.
#[derive(Debug)]
pub(super) struct Links<'p> {
    picture: &'p Picture,
    /// Of each group, whether it reaches everything of all that are open on their way in.
    pub(super) open_out: Vec<bool>,
    /// Of each group, whether everything reaches it of all that are open on their way out.
    pub(super) open_in: Vec<bool>,
    /// What passes along arrows that is no kind of the picture's: part of one. They are numbered after those.
    pub(super) parts: Vec<Kind>,
    /// The most comprehensive first.
    pub(super) arrows: Vec<Link>,
}

impl<'p> Links<'p> {
    pub(super) fn of(picture: &'p Picture) -> Links<'p> {
        let size = picture.groups.len();
        let (open_out, open_in) = open(picture).unwrap_or((vec![false; size], vec![false; size]));
        let mut links = Links { picture, open_out, open_in, parts: Vec::new(), arrows: Vec::new() };
        let nothing = Set::none(picture.tables.len());
        let mut covered = vec![nothing.clone(); size * size];
        for (from, to) in (0..size).flat_map(|from| (0..size).map(move |to| (from, to))) {
            if let (true, true, Some(set)) = (links.open_out[from], links.open_in[to], passes(picture, from, to)) {
                covered[from * size + to] = set.clone();
            }
        }
        let sources = sets(picture, &links.open_out);
        let destinations = sets(picture, &links.open_in);
        let mut pairs: Vec<(usize, usize)> =
            (0..sources.len()).flat_map(|from| (0..destinations.len()).map(move |to| (from, to))).collect();
        pairs.sort_by_key(|(from, to)| {
            (usize::MAX - sources[*from].1.len() * destinations[*to].1.len(), sources[*from].0, destinations[*to].0)
        });
        for (from, to) in pairs {
            let ((from, sources), (to, destinations)) = (&sources[from], &destinations[to]);
            let cells = || sources.iter().flat_map(|from| destinations.iter().map(move |to| (*from, *to)));
            let Some(common) = common(picture, cells()) else { continue };
            let (mut asked, mut new, mut missing) = (0usize, 0usize, nothing.clone());
            for (from, to) in cells().filter(|(from, to)| picture.cell(*from, *to) != Cell::Moot) {
                let here = common.without(&covered[from * size + to]);
                asked += 1;
                new += usize::from(!here.is_empty());
                missing.join(&here);
            }
            let single = matches!((from, to), (Whom::Group(_), Whom::Group(_)));
            // An arrow for many that only says something new of a few of them would mislead.
            if new == 0 || !single && (new == 1 || new * 2 < asked) {
                continue;
            }
            cells().for_each(|(from, to)| covered[from * size + to].join(&missing));
            let kind = links.number(missing);
            links.arrows.push(Link { from: *from, to: *to, kind });
        }
        links
    }

    /// The kind of that index.
    pub(super) fn kind(&self, index: usize) -> &Kind {
        let own = self.picture.kinds.len();
        if index < own { &self.picture.kinds[index] } else { &self.parts[index - own] }
    }

    fn number(&mut self, set: Set) -> usize {
        let known = self.picture.kinds.iter().chain(&self.parts).position(|kind| kind.set == set);
        known.unwrap_or_else(|| {
            self.parts.push(kind(&self.picture.tables, set));
            self.picture.kinds.len() + self.parts.len() - 1
        })
    }

    /// The groups that an end of an arrow stands for.
    pub(super) fn members(&self, whom: Whom, is_source: bool) -> Vec<usize> {
        let open = if is_source { &self.open_out } else { &self.open_in };
        members(self.picture, whom, open)
    }
}

fn passes(picture: &Picture, from: usize, to: usize) -> Option<&Set> {
    match picture.cell(from, to) {
        Cell::Passes(kind) => Some(&picture.kinds[kind].set),
        Cell::Nothing | Cell::Moot => None,
    }
}

/// What passes in all these cells that are asked about; `None` where that is nothing.
fn common(picture: &Picture, cells: impl Iterator<Item = (usize, usize)>) -> Option<Set> {
    let mut common: Option<Set> = None;
    for (from, to) in cells.filter(|(from, to)| picture.cell(*from, *to) != Cell::Moot) {
        let set = passes(picture, from, to)?;
        match &mut common {
            None => common = Some(set.clone()),
            Some(common) => common.meet(set),
        }
        if common.as_ref().is_some_and(Set::is_empty) {
            return None;
        }
    }
    common
}

fn members(picture: &Picture, whom: Whom, open: &[bool]) -> Vec<usize> {
    let is_pod = |group: usize| picture.groups[group].namespace.is_some();
    let is_meant = |group: &usize| match whom {
        Whom::Everyone => true,
        Whom::Pods => is_pod(*group),
        Whom::Open => open[*group],
        Whom::OpenPods => open[*group] && is_pod(*group),
        Whom::Namespace(namespace) => picture.groups[*group].namespace == Some(namespace),
        Whom::Group(only) => *group == only,
    };
    (0..picture.groups.len()).filter(is_meant).collect()
}

/// Who can stand at an end of an arrow, with their groups. A set that is another one too stands here once.
fn sets(picture: &Picture, open: &[bool]) -> Vec<(Whom, Vec<usize>)> {
    let many = [Whom::Everyone, Whom::Pods, Whom::Open, Whom::OpenPods].into_iter();
    let many = many.chain((0..picture.namespaces.len()).map(Whom::Namespace));
    let mut sets: Vec<(Whom, Vec<usize>)> = Vec::new();
    for whom in many {
        let members = members(picture, whom, open);
        if members.len() > 1 && !sets.iter().any(|(_, known)| *known == members) {
            sets.push((whom, members));
        }
    }
    sets.extend((0..picture.groups.len()).map(|group| (Whom::Group(group), vec![group])));
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
        for (other, gaps) in gaps[1 - side].iter_mut().enumerate() {
            let (from, to) = if side == 0 { (group, other) } else { (other, group) };
            *gaps -= usize::from(is_gap(from, to));
        }
        if side == 0 { open_out[group] = false } else { open_in[group] = false }
    }
    let asked = |from: usize, to: usize| picture.cell(from, to) != Cell::Moot;
    let pairs = (0..size).flat_map(|from| (0..size).map(move |to| (from, to)));
    let all = pairs.clone().filter(|(from, to)| asked(*from, *to)).count();
    let open = pairs.filter(|(from, to)| asked(*from, *to) && open_out[*from] && open_in[*to]).count();
    (open >= 3 && open * 5 >= all).then_some((open_out, open_in))
}
