//! The picture as SVG: the arrows where they are few enough to follow, and the matrix of all groups, which is always there.

use std::fmt::Write as _;

use serde_json::Value;

use super::circuit;
use super::links::Links;
use super::paint::{colour, columns, fitted, letter, pixels, style, wrapped, xml};
use super::{Cell, Picture};

/// Space around everything, in pixels, as everything here.
const MARGIN: usize = 24;
/// No narrower than this, for the words.
const NARROWEST: usize = 640;
/// Most columns of a name in the matrix.
const NAME: usize = 34;
/// Groups up to which each cell has a title of its own that a browser shows under the pointer.
const TITLED: usize = 120;
/// Lines of a legend's entry; the whole of it is in its title.
const LEGEND_LINES: usize = 4;

/// Something drawn from (0, 0) on.
pub(super) struct Drawing {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) body: String,
}

/// A file of its own.
pub fn svg(picture: &Picture) -> String {
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}", element(picture))
}

/// The `svg` element, which HTML takes as it is.
pub(super) fn element(picture: &Picture) -> String {
    let links = Links::of(picture);
    let circuit = circuit::draw(picture, &links);
    let matrix = matrix(picture);
    let widest = circuit.iter().chain([&matrix]).map(|part| part.width).max().unwrap_or(0);
    let inner = widest.max(NARROWEST - 2 * MARGIN);
    let mut body = String::new();
    let mut y = MARGIN + 22;
    write_text(&mut body, MARGIN, y, 22, "nl-b", "Who reaches whom");
    y += 22;
    for line in wrapped(&picture.subtitle(), inner / 8) {
        write_text(&mut body, MARGIN, y, 14, "nl-soft", &line);
        y += 18;
    }
    if let Some(verdict) = picture.verdict() {
        y += 16;
        write_text(&mut body, MARGIN, y, 18, "nl-b", verdict);
        y += 14;
    }
    let key = circuit.is_some().then(|| circuit::key(&links));
    for part in circuit.into_iter().chain([matrix, legend(picture, key, inner)]) {
        y += 14;
        let _ = writeln!(body, "<g transform=\"translate({MARGIN} {y})\">\n{}</g>", part.body);
        y += part.height;
    }
    let (width, height) = (inner + 2 * MARGIN, y + MARGIN);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"nl\" role=\"img\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\">\n<title>Who reaches whom: {}</title>\n<style>{}</style>\n{}\
         <rect class=\"nl-page\" width=\"{width}\" height=\"{height}\"/>\n{body}</svg>\n",
        xml(&picture.subtitle()),
        style(),
        symbols(picture, side(picture.groups.len())),
    )
}

/// A line of text.
pub(super) fn write_text(body: &mut String, x: usize, y: usize, size: usize, class: &str, text: &str) {
    let _ = writeln!(body, "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" class=\"{class}\">{}</text>", xml(text));
}

/// Side of a cell.
fn side(groups: usize) -> usize {
    match groups {
        0..=40 => 22,
        41..=100 => 16,
        _ => 10,
    }
}

impl Picture {
    /// Whether the first kind is everything.
    pub(super) fn first_is_everything(&self) -> bool {
        self.kinds.first().is_some_and(|kind| kind.everything)
    }
}

/// One cell of each kind, to be used wherever it stands.
fn symbols(picture: &Picture, side: usize) -> String {
    let mut defs = String::from("<defs>\n");
    let inner = side - if side > 10 { 2 } else { 1 };
    let first = picture.first_is_everything();
    for kind in 0..picture.kinds.len() {
        let letter = letter(kind, first);
        let _ = write!(
            defs,
            "<g id=\"nl-k{kind}\"><rect x=\"1\" y=\"1\" width=\"{inner}\" height=\"{inner}\" rx=\"2\" class=\"nl-f{}\"/>",
            colour(kind, first)
        );
        // A colour never says anything alone; where there is no room for a letter, titles say it.
        let half = side / 2;
        if letter.is_empty() {
            let _ = write!(defs, "<circle cx=\"{half}\" cy=\"{half}\" r=\"{}\" class=\"nl-a0\"/>", side / 8);
        } else if side > 10 {
            let size = side * 6 / 10 * 3 / (2 + letter.len());
            let _ = write!(
                defs,
                "<text x=\"{half}\" y=\"{}\" font-size=\"{size}\" text-anchor=\"middle\" class=\"nl-in nl-b\">{letter}</text>",
                half + size * 36 / 100,
            );
        }
        defs.push_str("</g>\n");
    }
    defs + "</defs>\n"
}

/// Rows are sources, columns destinations, in blocks by namespace.
fn matrix(picture: &Picture) -> Drawing {
    let size = picture.groups.len();
    let (side, font) = match side(size) {
        side @ (22 | 16) => (side, side / 2 + 1),
        side => (side, 8),
    };
    let named = |group: usize| {
        let members = picture.groups[group].members.len();
        let count = if members > 1 && picture.groups[group].namespace.is_some() {
            format!(" ×{members}")
        } else {
            String::new()
        };
        format!("{}{count}", fitted(&picture.groups[group].name, NAME - columns(&count)))
    };
    let places: Vec<Option<usize>> = picture.groups.iter().map(|group| group.namespace).collect();
    let heading = |place: Option<usize>| place.map_or("outside", |namespace| picture.namespaces[namespace].as_str());
    let headings = places.iter().map(|place| pixels(&fitted(heading(*place), NAME), font + 1) + 14);
    let left = (0..size).map(|group| pixels(&named(group), font) + 26).chain(headings).max().unwrap_or(0).max(120);
    let full = |group: usize| fitted(&picture.full_name(group), NAME).into_owned();
    let longest = (0..size).map(|group| pixels(&full(group), font)).max().unwrap_or(0);
    // Slanted as long as neighbours then stay clear of each other.
    let slanted = side > 10;
    let top = if slanted { longest * 71 / 100 + font } else { longest } + 10;
    let overhang = if slanted { longest * 71 / 100 } else { 0 };
    let gap = font + 14;
    let starts: Vec<bool> = (0..size).map(|group| group == 0 || places[group] != places[group - 1]).collect();
    let offsets = |gap: usize, first: usize| -> Vec<usize> {
        let mut at = first;
        let offset = |group: usize| {
            at += if starts[group] { gap } else { 0 };
            (at, at += side).0
        };
        (0..size).map(offset).collect()
    };
    let (xs, ys) = (offsets(8, left), offsets(gap, top - 6));
    let mut body = String::new();
    write_text(
        &mut body,
        left.saturating_sub(pixels("from ↓ to →", font) + 8),
        top - 6,
        font,
        "nl-soft nl-m",
        "from ↓ to →",
    );
    let blocks: Vec<(usize, usize)> = (0..size)
        .filter(|group| starts[*group])
        .map(|first| {
            let end = (first + 1..size).find(|group| starts[*group]).unwrap_or(size);
            (first, end)
        })
        .collect();
    for (row, row_end) in &blocks {
        for (column, column_end) in &blocks {
            let class = if places[*row].is_none() && places[*column].is_none() { "nl-moot" } else { "nl-block" };
            let _ = writeln!(
                body,
                "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"3\" class=\"{class}\"/>",
                xs[*column],
                ys[*row],
                (column_end - column) * side,
                (row_end - row) * side
            );
        }
        let place = fitted(heading(places[*row]), NAME);
        write_text(&mut body, 0, ys[*row] - 6, font + 1, "nl-b nl-m", &place);
    }
    for group in 0..size {
        write_group(&mut body, picture, group, (left - 8, ys[group] + (side + font * 7 / 10) / 2), font, &named(group));
        let (x, y) = (xs[group] + side / 2, top - 2);
        let turn = if slanted { -45 } else { -90 };
        let _ = writeln!(
            body,
            "<text transform=\"translate({} {y}) rotate({turn})\" font-size=\"{font}\" class=\"nl-m\" data-column=\"{group}\">{}</text>",
            if slanted { x } else { x + font / 3 },
            xml(&full(group))
        );
    }
    for (from, y) in ys.iter().enumerate() {
        for (to, x) in xs.iter().enumerate() {
            write_cell(&mut body, picture, (from, to), (*x, *y), side);
        }
    }
    let width = xs.last().map_or(left, |x| x + side) + overhang;
    let height = ys.last().map_or(top, |y| y + side);
    Drawing { width, height, body }
}

/// The name of a row, and whoever is behind it.
fn write_group(body: &mut String, picture: &Picture, group: usize, (x, y): (usize, usize), font: usize, name: &str) {
    let known = &picture.groups[group];
    let namespace = known.namespace.map_or("", |namespace| &picture.namespaces[namespace]);
    let _ = writeln!(
        body,
        "<text x=\"{x}\" y=\"{y}\" font-size=\"{font}\" text-anchor=\"end\" class=\"nl-m\" data-group=\"{group}\" \
         data-namespace=\"{}\" data-members=\"{}\">{}<title>{}</title></text>",
        xml(namespace),
        xml(&Value::from(known.members.clone()).to_string()),
        xml(name),
        xml(&some(&known.members)),
    );
}

/// The first few of many.
pub(super) fn some(members: &[String]) -> String {
    const MOST: usize = 20;
    match members.len().saturating_sub(MOST) {
        0 => members.join(", "),
        more => format!("{} and {more} more", members[..MOST].join(", ")),
    }
}

fn write_cell(body: &mut String, picture: &Picture, (from, to): (usize, usize), (x, y): (usize, usize), side: usize) {
    match picture.cell(from, to) {
        Cell::Nothing => {}
        Cell::Moot if picture.groups[from].namespace.is_none() => {}
        Cell::Moot => {
            let (a, b) = (side / 4, side * 3 / 4);
            let inset = if side > 10 { side - 2 } else { side - 1 };
            let _ = writeln!(
                body,
                "<rect x=\"{}\" y=\"{}\" width=\"{inset}\" height=\"{inset}\" rx=\"2\" class=\"nl-moot\"/>\
                 <path d=\"M{} {}L{} {}\" class=\"nl-l0\" opacity=\".35\"/>",
                x + 1,
                y + 1,
                x + a,
                y + b,
                x + b,
                y + a,
            );
        }
        Cell::Passes(kind) => {
            let _ = write!(
                body,
                "<use href=\"#nl-k{kind}\" x=\"{x}\" y=\"{y}\" data-from=\"{from}\" data-to=\"{to}\" data-kind=\"{kind}\""
            );
            if picture.groups.len() > TITLED {
                body.push_str("/>\n");
                return;
            }
            let names = [from, to].map(|group| xml(&picture.full_name(group)));
            let what = xml(&fitted(&picture.kinds[kind].name, 160));
            let _ = writeln!(body, "><title>{} → {}: {what}</title></use>", names[0], names[1]);
        }
    }
}

/// What the colours and letters stand for, and what else is to know. In as many columns as there is room for.
fn legend(picture: &Picture, key: Option<&'static str>, width: usize) -> Drawing {
    const FONT: usize = 12;
    let side = side(picture.groups.len());
    let mut body = String::new();
    let longest =
        picture.kinds.iter().map(|kind| pixels(&kind.name, FONT)).max().unwrap_or(0).max(pixels("nothing", FONT));
    let column = (34 + longest + 20).min(width);
    let columns = (width / column).max(1);
    let mut entries: Vec<String> = Vec::new();
    let mut lines_of = Vec::new();
    for (index, kind) in picture.kinds.iter().enumerate() {
        let mut lines = wrapped(&kind.name, (column - 34) * 100 / (FONT * 61));
        if lines.len() > LEGEND_LINES {
            lines.truncate(LEGEND_LINES);
            lines[LEGEND_LINES - 1].push_str(" …");
        }
        let spoken = Value::from(kind.spoken.clone()).to_string();
        let mut entry = format!(
            "data-kind=\"{index}\" data-spoken=\"{}\"><title>{}</title><use href=\"#nl-k{index}\"/>",
            xml(&spoken),
            xml(&kind.name)
        );
        for (line, text) in lines.iter().enumerate() {
            write_text(&mut entry, 34, side / 2 + 4 + line * 16, FONT, "nl-m", text);
        }
        entries.push(entry);
        lines_of.push(lines.len());
    }
    let mut nothing =
        format!("><rect x=\"1\" y=\"1\" width=\"{0}\" height=\"{0}\" rx=\"2\" class=\"nl-block\"/>", side - 2);
    write_text(&mut nothing, 34, side / 2 + 4, FONT, "nl-m", "nothing");
    entries.push(nothing);
    lines_of.push(1);
    let rows = entries.len().div_ceil(columns);
    let mut bottom = 8;
    for (index, (entry, lines)) in entries.iter().zip(&lines_of).enumerate() {
        // Where an entry has several lines there is one column.
        let (x, at) =
            if columns == 1 { (0, bottom) } else { (index / rows * column, 8 + index % rows * (side.max(16) + 4)) };
        let _ = writeln!(body, "<g transform=\"translate({x} {at})\" {entry}</g>");
        bottom = bottom.max(at + side.max(16) + (lines.max(&1) - 1) * 16 + 4);
    }
    let mut y = bottom + 16;
    for note in key.into_iter().map(str::to_owned).chain(picture.notes()) {
        for line in wrapped(&note, width / 7) {
            write_text(&mut body, 0, y, FONT, "nl-soft", &line);
            y += 16;
        }
    }
    Drawing { width, height: y, body }
}
