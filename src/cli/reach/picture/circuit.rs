//! The arrows, drawn like a circuit: namespaces are boards, groups are chips on them, and wires run between.
//!
//! Chips stand in columns, so that most wires go to the right. A wire leaves at the right of its source, keeps to the spaces
//! between columns and between boards, and enters at the left of its destination, where it says what passes. Each has its own
//! track there and its own row at a chip, so no wire runs over a chip, a word or along another. Wires that bring the same to the same
//! chip join before it.

use std::collections::BTreeMap;

use super::Picture;
use super::boards::Layout;
use super::links::{Link, Links, Whom};
use super::paint::fitted;
use super::svg::Drawing;

/// Arrows up to which they can be followed.
const MOST_ARROWS: usize = 40;
/// And the groups that may stand there.
const MOST_CHIPS: usize = 36;
/// Columns of chips; longer ways run back.
const COLUMNS: usize = 5;
/// Height of a row of a chip. Wires leave at a third of a row and come in at two, so that none meets another head on.
pub(super) const ROW: usize = 18;
/// Most columns of text on a chip.
const NAME: usize = 28;

/// What a wire is soldered to.
pub(super) struct Chip {
    pub(super) whom: Whom,
    /// One that stands for many can only be a source or a destination: whom it means may differ.
    pub(super) is_source: bool,
    pub(super) board: usize,
    pub(super) column: usize,
    /// Nets that come in, and nets that it feeds.
    pub(super) nets_in: Vec<usize>,
    pub(super) nets_out: Vec<usize>,
    pub(super) label: String,
    pub(super) y: usize,
}

impl Chip {
    pub(super) fn rows(&self) -> usize {
        self.nets_in.len().max(self.nets_out.len()).max(2)
    }
}

/// Wires that bring the same to the same chip.
pub(super) struct Net {
    pub(super) kind: usize,
    pub(super) to: usize,
    pub(super) from: Vec<usize>,
}

/// The arrows; `None` where there are none, or too many for anybody to follow.
pub(super) fn draw(picture: &Picture, links: &Links<'_>) -> Option<Drawing> {
    if links.arrows.is_empty() || links.arrows.len() > MOST_ARROWS || picture.groups.len() > MOST_CHIPS {
        return None;
    }
    let (mut chips, nets) = wired(picture, links);
    rank(&mut chips, &nets);
    Some(Layout::new(picture, links, chips, nets).drawn())
}

pub(super) fn is_any_open(links: &Links<'_>) -> bool {
    links.open_out.contains(&true)
}

/// How the arrows are read.
pub(super) fn key(links: &Links<'_>) -> &'static str {
    if is_any_open(links) {
        "An arrow says what may pass along it. A thick edge is closed: at a thick left edge only arrows come in, at a thick right one only \
         arrows go out. Those without a thick right edge reach those without a thick left one with everything, and no arrow says so."
    } else {
        "An arrow says what may pass along it. Nothing else passes."
    }
}

/// All of a namespace to all of it: said on the board, without a wire.
pub(super) fn is_within(link: &Link) -> bool {
    matches!(link.from, Whom::Namespace(_)) && link.from == link.to
}

fn wired(picture: &Picture, links: &Links<'_>) -> (Vec<Chip>, Vec<Net>) {
    let mut keys: BTreeMap<(usize, bool, Whom), bool> = BTreeMap::new();
    let namespaces = picture.namespaces.len();
    // Everyone's board is the first, the outside the last.
    let board = |whom: Whom| match whom {
        Whom::Everyone | Whom::Pods | Whom::Open | Whom::OpenPods => 0,
        Whom::Namespace(namespace) => 1 + namespace,
        Whom::Group(group) => picture.groups[group].namespace.map_or(1 + namespaces, |namespace| 1 + namespace),
    };
    let is_one = |whom: Whom| matches!(whom, Whom::Group(_));
    (0..picture.groups.len()).for_each(|group| {
        keys.insert((board(Whom::Group(group)), true, Whom::Group(group)), true);
    });
    let wires = || links.arrows.iter().filter(|link| !is_within(link));
    for link in wires() {
        keys.insert((board(link.from), is_one(link.from), link.from), true);
        if !is_one(link.to) {
            keys.entry((board(link.to), is_one(link.to), link.to)).or_insert(false);
        }
    }
    // One that is a source as well as a destination of many stands there twice.
    let mut chips: Vec<Chip> = Vec::new();
    let mut known: BTreeMap<(Whom, bool), usize> = BTreeMap::new();
    for (board, _, whom) in keys.into_keys() {
        let ends = [(true, wires().any(|link| link.from == whom)), (false, wires().any(|link| link.to == whom))];
        for (is_source, _) in
            ends.into_iter().filter(|(is_source, is_end)| *is_end && !is_one(whom) || is_one(whom) && *is_source)
        {
            known.insert((whom, is_source), chips.len());
            if is_one(whom) {
                known.insert((whom, false), chips.len());
            }
            chips.push(Chip {
                whom,
                is_source,
                board,
                column: 0,
                nets_in: Vec::new(),
                nets_out: Vec::new(),
                label: label(picture, whom),
                y: 0,
            });
        }
    }
    let mut nets: Vec<Net> = Vec::new();
    for link in wires() {
        let (Some(from), Some(to)) = (known.get(&(link.from, true)), known.get(&(link.to, false))) else { continue };
        match nets.iter_mut().find(|net| net.to == *to && net.kind == link.kind) {
            Some(net) => net.from.push(*from),
            None => nets.push(Net { kind: link.kind, to: *to, from: vec![*from] }),
        }
    }
    for (index, net) in nets.iter_mut().enumerate() {
        net.from.sort_unstable();
        chips[net.to].nets_in.push(index);
        net.from.iter().for_each(|from| chips[*from].nets_out.push(index));
    }
    (chips, nets)
}

pub(super) fn label(picture: &Picture, whom: Whom) -> String {
    match whom {
        Whom::Everyone => "everyone".to_owned(),
        Whom::Pods => "every pod".to_owned(),
        Whom::Open => "everyone open".to_owned(),
        Whom::OpenPods => "every open pod".to_owned(),
        Whom::Namespace(_) => "every pod here".to_owned(),
        Whom::Group(group) => {
            let known = &picture.groups[group];
            match known.members.len() {
                count if count > 1 && known.namespace.is_some() => {
                    format!("{} ×{count}", fitted(&known.name, NAME - 2 - count.to_string().len()))
                }
                _ => fitted(&known.name, NAME).into_owned(),
            }
        }
    }
}

/// Columns: one further than the furthest source, cycles cut where a walk from the first chip closes them.
fn rank(chips: &mut [Chip], nets: &[Net]) {
    let size = chips.len();
    let next =
        |chip: usize| nets.iter().filter(move |net| net.from.contains(&chip) && net.to != chip).map(|net| net.to);
    // 0 unseen, 1 on the way, 2 left behind.
    let (mut state, mut order, mut forward) = (vec![0; size], Vec::new(), Vec::new());
    let mut roots: Vec<usize> = (0..size).collect();
    roots.sort_by_key(|chip| chips[*chip].nets_in.len());
    for root in roots {
        let mut way: Vec<(usize, Vec<usize>)> = Vec::new();
        if state[root] == 0 {
            state[root] = 1;
            way.push((root, next(root).collect()));
        }
        while let Some((chip, ahead)) = way.last_mut() {
            let chip = *chip;
            let Some(to) = ahead.pop() else {
                state[chip] = 2;
                order.push(chip);
                way.pop();
                continue;
            };
            if state[to] != 1 {
                forward.push((chip, to));
            }
            if state[to] == 0 {
                state[to] = 1;
                way.push((to, next(to).collect()));
            }
        }
    }
    for chip in order.iter().rev() {
        for (_, to) in forward.iter().filter(|(from, _)| from == chip) {
            chips[*to].column = chips[*to].column.max((chips[*chip].column + 1).min(COLUMNS - 1));
        }
    }
    // Who has no wire stands where there is room on his board.
    let columns = chips.iter().map(|chip| chip.column).max().unwrap_or(0) + 1;
    for chip in 0..size {
        if chips[chip].nets_in.is_empty() && chips[chip].nets_out.is_empty() {
            let load = |column: usize| {
                let here = |other: &usize| {
                    let other = &chips[*other];
                    let placed = !other.nets_in.is_empty() || !other.nets_out.is_empty();
                    other.board == chips[chip].board && other.column == column && placed
                };
                let before = (0..chip).filter(|other| {
                    let other = &chips[*other];
                    other.board == chips[chip].board
                        && other.column == column
                        && other.nets_in.is_empty()
                        && other.nets_out.is_empty()
                });
                (0..size).filter(here).map(|other| chips[other].rows() + 1).sum::<usize>() + before.count() * 3
            };
            let free = (0..columns).min_by_key(|column| load(*column)).unwrap_or(0);
            chips[chip].column = free;
        }
    }
}
