//! Where the arrows' chips, boards and wires stand, and how they are drawn; [`super::circuit`] says what they are.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use super::Picture;
use super::circuit::{Chip, Net, ROW, is_any_open, is_within, label};
use super::links::{Links, Whom};
use super::paint::{colour, columns, first_words, fitted, pixels, wrapped, xml};
use super::svg::{Drawing, some, write_text};

/// Between wires side by side.
const TRACK: usize = 9;
/// Between chips, above each other.
const GAP: usize = ROW;
const NAME_FONT: usize = 13;
const PORT_FONT: usize = 11;
/// Most columns of text on a wire.
const PORTS: usize = 20;

/// Where everything stands.
pub(super) struct Layout<'p> {
    picture: &'p Picture,
    links: &'p Links<'p>,
    chips: Vec<Chip>,
    nets: Vec<Net>,
    boards: Vec<Board>,
    /// Of each net, the height of its way between boards; `None` where all its sources stand in the column before.
    ways: Vec<Option<usize>>,
    /// Of each column, and of what is right of the last: vertical wires left of it, and what is to be said there.
    gutters: Vec<Gutter>,
    height: usize,
}

struct Board {
    index: usize,
    y: usize,
    height: usize,
    /// Lines of its name and of what all on it may do.
    words: Vec<(String, &'static str)>,
}

#[derive(Default)]
struct Gutter {
    x: usize,
    /// Of each vertical wire its track; by net, and by net and source.
    tracks: BTreeMap<(usize, Option<usize>), usize>,
    width: usize,
    /// For what is written on wires that come in.
    words: usize,
    /// Of the column of chips right of it.
    chips: usize,
}

/// Left of all columns, for the boards' names.
const HEADING: usize = 130;

impl<'p> Layout<'p> {
    pub(super) fn new(picture: &'p Picture, links: &'p Links<'p>, chips: Vec<Chip>, nets: Vec<Net>) -> Layout<'p> {
        let columns = chips.iter().map(|chip| chip.column).max().unwrap_or(0) + 1;
        let gutters = (0..=columns).map(|_| Gutter::default()).collect();
        let ways = vec![None; nets.len()];
        let mut layout = Layout { picture, links, chips, nets, boards: Vec::new(), ways, gutters, height: 0 };
        layout.place_boards();
        layout.settle_rows();
        layout.place_tracks();
        layout
    }

    /// Whether a wire needs a way between boards.
    fn is_direct(&self, net: &Net, from: usize) -> bool {
        self.chips[from].column + 1 == self.chips[net.to].column
    }

    fn place_boards(&mut self) {
        let mut y = 0;
        let last = self.chips.iter().map(|chip| chip.board).max().unwrap_or(0);
        for index in 0..=last {
            if !self.chips.iter().any(|chip| chip.board == index) {
                continue;
            }
            // Ways to chips of this board run above it.
            for (net, way) in self.nets.iter().zip(&mut self.ways) {
                let leads_here = self.chips[net.to].board == index;
                if leads_here && net.from.iter().any(|from| self.chips[*from].column + 1 != self.chips[net.to].column) {
                    y += TRACK;
                    *way = Some(y);
                }
            }
            // Rows are where every other row is, on whatever board.
            y = (y + 12).next_multiple_of(ROW);
            let words = self.words(index);
            let mut height = 0;
            for column in 0..self.gutters.len() {
                let mut below = y + GAP;
                for chip in self.chips.iter_mut().filter(|chip| chip.board == index && chip.column == column) {
                    chip.y = below;
                    below += chip.rows() * ROW + GAP;
                }
                height = height.max(below - y);
            }
            height = height.max((words.len() * 15 + 18).next_multiple_of(ROW));
            self.boards.push(Board { index, y, height, words });
            y += height;
        }
        self.height = y;
    }

    fn words(&self, board: usize) -> Vec<(String, &'static str)> {
        let room = HEADING * 100 / 61 / NAME_FONT - 2;
        let mut words = Vec::new();
        let Some(namespace) = board.checked_sub(1) else { return words };
        let Some(name) = self.picture.namespaces.get(namespace) else {
            words.push(("outside".to_owned(), "nl-b nl-m"));
            return words;
        };
        let name = wrapped(&fitted(name, 2 * room - 1), 2 * room);
        for line in name.iter().flat_map(|line| in_two(line, room)) {
            words.push((line, "nl-b nl-m"));
        }
        for link in self.links.arrows.iter().filter(|link| is_within(link) && link.from == Whom::Namespace(namespace)) {
            let kind = &self.links.kind(link.kind).name;
            let sentence = format!("all here reach each other: {}", fitted(kind, 2 * room));
            words.extend(wrapped(&sentence, room + 3).into_iter().map(|line| (line, "nl-soft")));
        }
        words
    }

    /// At each chip the rows of wires are in the order in which the wires come.
    fn settle_rows(&mut self) {
        let ys: Vec<usize> = self.chips.iter().map(|chip| chip.y).collect();
        for chip in 0..self.chips.len() {
            let mut nets_in = std::mem::take(&mut self.chips[chip].nets_in);
            nets_in.sort_by_key(|net| {
                let known = &self.nets[*net];
                let way = self.ways[*net].map_or(usize::MAX, |_| 0);
                (way.min(known.from.iter().map(|from| ys[*from]).min().unwrap_or(0)), *net)
            });
            let mut nets_out = std::mem::take(&mut self.chips[chip].nets_out);
            nets_out.sort_by_key(|net| (self.ways[*net].unwrap_or(ys[self.nets[*net].to]), *net));
            (self.chips[chip].nets_in, self.chips[chip].nets_out) = (nets_in, nets_out);
        }
    }

    /// Where a net comes in.
    fn entry(&self, net: usize) -> usize {
        let chip = &self.chips[self.nets[net].to];
        let row = chip.nets_in.iter().position(|known| *known == net).unwrap_or(0);
        chip.y + (chip.rows() - chip.nets_in.len()) * ROW / 2 / ROW * ROW + row * ROW + ROW * 2 / 3
    }

    /// Where a chip feeds a net.
    fn exit(&self, from: usize, net: usize) -> usize {
        let chip = &self.chips[from];
        let row = chip.nets_out.iter().position(|known| *known == net).unwrap_or(0);
        chip.y + (chip.rows() - chip.nets_out.len()) * ROW / 2 / ROW * ROW + row * ROW + ROW / 3
    }

    fn place_tracks(&mut self) {
        let mut x = HEADING;
        for index in 0..self.gutters.len() {
            // Vertical wires: the last piece of each net that comes in here, and the first of those that leave on a way.
            let mut pieces: Vec<(usize, usize, (usize, Option<usize>))> = Vec::new();
            for (number, net) in self.nets.iter().enumerate() {
                let (way, entry) = (self.ways[number], self.entry(number));
                if self.chips[net.to].column == index {
                    let exits = net.from.iter().filter(|from| self.is_direct(net, **from));
                    let ys: Vec<usize> = exits.map(|from| self.exit(*from, number)).chain(way).chain([entry]).collect();
                    let (first, last) = (ys.iter().min().copied().unwrap_or(0), ys.iter().max().copied().unwrap_or(0));
                    pieces.push((first, last, (number, None)));
                }
                for from in net.from.iter().filter(|from| self.chips[**from].column + 1 == index) {
                    if let (Some(way), false) = (way, self.is_direct(net, *from)) {
                        let exit = self.exit(*from, number);
                        pieces.push((exit.min(way), exit.max(way), (number, Some(*from))));
                    }
                }
            }
            // Those that leave stand left of those that arrive; of each, short ones are nearest to where they end.
            pieces.sort_by_key(|(first, last, key)| (key.1.is_none(), last - first, *first, *key));
            let mut taken: Vec<Vec<(usize, usize)>> = Vec::new();
            let mut tracks = BTreeMap::new();
            for (first, last, key) in pieces {
                let free =
                    |track: &Vec<(usize, usize)>| track.iter().all(|(from, to)| last + 10 < *from || *to + 10 < first);
                let track = taken.iter().position(free).unwrap_or(taken.len());
                if track == taken.len() {
                    taken.push(Vec::new());
                }
                taken[track].push((first, last));
                tracks.insert(key, track);
            }
            let chips = self.chips.iter().filter(|chip| chip.column == index);
            let chips = chips.map(|chip| pixels(&chip.label, NAME_FONT) + 28).max().unwrap_or(0);
            let here = self.nets.iter().filter(|net| self.chips[net.to].column == index);
            let words = here.map(|net| pixels(&self.says(net), PORT_FONT)).max();
            let words = words.map_or(0, |words| words + 22);
            let width = 12 + taken.len() * TRACK + 6;
            self.gutters[index] = Gutter { x, tracks, width, words, chips };
            x += width + words + chips;
        }
    }

    fn says(&self, net: &Net) -> String {
        first_words(&self.links.kind(net.kind).name, PORTS)
    }

    fn track(&self, gutter: usize, key: (usize, Option<usize>)) -> usize {
        let known = &self.gutters[gutter];
        known.x + 12 + known.tracks.get(&key).copied().unwrap_or(0) * TRACK
    }

    /// Left edge of a column's chips.
    fn left(&self, column: usize) -> usize {
        let gutter = &self.gutters[column];
        gutter.x + gutter.width + gutter.words
    }

    pub(super) fn drawn(&self) -> Drawing {
        let width = self.gutters.last().map_or(0, |gutter| gutter.x + gutter.width) + 10;
        let mut body = String::new();
        for board in &self.boards {
            if board.index > 0 {
                let _ = writeln!(
                    body,
                    "<rect x=\"0\" y=\"{}\" width=\"{width}\" height=\"{}\" rx=\"8\" class=\"nl-box\"/>",
                    board.y, board.height
                );
            }
            for (line, (text, class)) in board.words.iter().enumerate() {
                let size = if *class == "nl-soft" { PORT_FONT } else { NAME_FONT };
                write_text(&mut body, 12, board.y + 24 + line * 15, size, class, text);
            }
        }
        (0..self.nets.len()).for_each(|net| self.write_net(&mut body, net));
        self.chips.iter().for_each(|chip| self.write_chip(&mut body, chip));
        (0..self.nets.len()).for_each(|net| self.write_entry(&mut body, net));
        Drawing { width, height: self.height + 10, body }
    }

    /// The groups that an end stands for, for programs.
    fn groups(&self, whom: Whom, is_source: bool) -> String {
        let members = self.links.members(whom, is_source);
        members.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    fn write_net(&self, body: &mut String, number: usize) {
        let net = &self.nets[number];
        let column = self.chips[net.to].column;
        let (end, entry) = (self.left(column) - 7, self.entry(number));
        let trunk = self.track(column, (number, None));
        let colour = colour(net.kind, self.picture.first_is_everything());
        for from in &net.from {
            let chip = &self.chips[*from];
            let (start, exit) = (self.left(chip.column) + self.gutters[chip.column].chips, self.exit(*from, number));
            let mut points = vec![(start, exit)];
            match self.ways[number] {
                Some(way) if !self.is_direct(net, *from) => {
                    let riser = self.track(chip.column + 1, (number, Some(*from)));
                    points.extend([(riser, exit), (riser, way), (trunk, way)]);
                }
                _ => points.push((trunk, exit)),
            }
            points.extend([(trunk, entry), (end, entry)]);
            let what = &self.links.kind(net.kind).name;
            let names =
                [(chip, true), (&self.chips[net.to], false)].map(|(chip, is_source)| self.told(chip.whom, is_source));
            let _ = writeln!(
                body,
                "<path d=\"{}\" class=\"nl-wire nl-l{colour}\" data-net=\"{number}\" data-from=\"{}\" data-to=\"{}\" \
                 data-spoken=\"{}\"><title>{} → {}: {}</title></path>",
                rounded(&points),
                self.groups(chip.whom, true),
                self.groups(self.chips[net.to].whom, false),
                xml(&Value::from(self.links.kind(net.kind).spoken.clone()).to_string()),
                xml(&names[0]),
                xml(&names[1]),
                xml(&fitted(what, 160)),
            );
        }
    }

    fn told(&self, whom: Whom, is_source: bool) -> String {
        match whom {
            Whom::Group(group) => self.picture.full_name(group),
            Whom::Namespace(namespace) => format!("every pod of {}", self.picture.namespaces[namespace]),
            Whom::Everyone | Whom::Pods => label(self.picture, whom),
            Whom::Open | Whom::OpenPods => {
                format!("{} on the way {}", label(self.picture, whom), if is_source { "out" } else { "in" })
            }
        }
    }

    /// What passes, and the arrow's head.
    fn write_entry(&self, body: &mut String, number: usize) {
        let net = &self.nets[number];
        let (x, y) = (self.left(self.chips[net.to].column), self.entry(number));
        let colour = colour(net.kind, self.picture.first_is_everything());
        let _ = writeln!(
            body,
            "<g data-entry=\"{number}\"><path d=\"M{} {}L{} {y}L{} {}Z\" class=\"nl-a{colour}\"/>",
            x - 8,
            y - 4,
            x - 1,
            x - 8,
            y + 4
        );
        let says = self.says(net);
        let _ = writeln!(
            body,
            "<text x=\"{}\" y=\"{}\" font-size=\"{PORT_FONT}\" text-anchor=\"end\" class=\"nl-m\">{}</text></g>",
            x - 12,
            y - 3,
            xml(&says)
        );
    }

    fn write_chip(&self, body: &mut String, chip: &Chip) {
        let (x, width, height) = (self.left(chip.column), self.gutters[chip.column].chips, chip.rows() * ROW);
        let many = if matches!(chip.whom, Whom::Group(_)) { "" } else { " nl-many" };
        let group = match chip.whom {
            Whom::Group(group) => format!(" data-node=\"{group}\""),
            _ => String::new(),
        };
        let members = self.links.members(chip.whom, chip.is_source);
        let names: Vec<String> = members.iter().flat_map(|group| self.picture.groups[*group].members.clone()).collect();
        let _ = writeln!(
            body,
            "<g{group}><title>{}: {}</title><rect x=\"{x}\" y=\"{}\" width=\"{width}\" height=\"{height}\" rx=\"{}\" class=\"nl-node{many}\"/>",
            xml(&self.told(chip.whom, chip.is_source)),
            xml(&some(&names)),
            chip.y,
            if many.is_empty() { 5 } else { 14 },
        );
        if let (Whom::Group(group), true) = (chip.whom, is_any_open(self.links)) {
            for (is_open, x) in [(self.links.open_in[group], x), (self.links.open_out[group], x + width - 5)] {
                if !is_open {
                    let y = chip.y;
                    let _ = writeln!(
                        body,
                        "<rect x=\"{x}\" y=\"{y}\" width=\"5\" height=\"{height}\" rx=\"2\" class=\"nl-bar\"/>"
                    );
                }
            }
        }
        let (middle, y) = (x + width / 2, chip.y + height / 2 + 4);
        let _ = writeln!(
            body,
            "<text x=\"{middle}\" y=\"{y}\" font-size=\"{NAME_FONT}\" text-anchor=\"middle\" class=\"nl-m\">{}</text></g>",
            xml(&chip.label)
        );
    }
}

/// One line or two of a name without spaces.
fn in_two(text: &str, room: usize) -> Vec<String> {
    if columns(text) <= room {
        return vec![text.to_owned()];
    }
    let half = text.chars().count().div_ceil(2);
    vec![text.chars().take(half).collect(), text.chars().skip(half).collect()]
}

/// A path of upright and level pieces, its corners rounded.
fn rounded(points: &[(usize, usize)]) -> String {
    let mut points: Vec<(usize, usize)> = points.to_vec();
    points.dedup();
    // A corner is where the direction changes.
    let straight =
        |a: (usize, usize), b: (usize, usize), c: (usize, usize)| a.0 == b.0 && b.0 == c.0 || a.1 == b.1 && b.1 == c.1;
    let mut kept: Vec<(usize, usize)> = Vec::new();
    for point in points {
        while let [.., before, last] = kept[..] {
            if !straight(before, last, point) {
                break;
            }
            kept.pop();
        }
        kept.push(point);
    }
    let towards = |from: (usize, usize), to: (usize, usize), by: usize| {
        let step = |a: usize, b: usize| if a < b { a + by.min(b - a) } else { a - by.min(a - b) };
        (step(from.0, to.0), step(from.1, to.1))
    };
    let length = |a: (usize, usize), b: (usize, usize)| a.0.abs_diff(b.0) + a.1.abs_diff(b.1);
    let mut path = format!("M{} {}", kept[0].0, kept[0].1);
    for corner in kept.windows(3) {
        let [before, at, after] = [corner[0], corner[1], corner[2]];
        let radius = 6.min(length(before, at) / 2).min(length(at, after) / 2);
        let (begin, end) = (towards(at, before, radius), towards(at, after, radius));
        let _ = write!(path, "L{} {}Q{} {} {} {}", begin.0, begin.1, at.0, at.1, end.0, end.1);
    }
    let last = kept[kept.len() - 1];
    let _ = write!(path, "L{} {}", last.0, last.1);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners_are_rounded_and_straight_pieces_are_one() {
        assert_eq!(rounded(&[(0, 0), (10, 0), (20, 0)]), "M0 0L20 0");
        assert_eq!(rounded(&[(0, 0), (20, 0), (20, 20)]), "M0 0L14 0Q20 0 20 6L20 20");
    }
}
