//! A guide for a terminal: within its width, tables in columns.

use super::markdown::{Block, Span, Style, Text, parse};

/// The narrowest that is written for.
const NARROWEST: usize = 40;
/// What stands between two columns.
const GAP: usize = 2;

/// A guide as lines of at most `width` columns, but for its code. `styled` is for a terminal that knows bold; without it code
/// keeps its marks.
pub(super) fn render(guide: &str, width: usize, styled: bool) -> String {
    let page = Page { width: width.max(NARROWEST), styled };
    let mut out = String::new();
    let mut in_list = false;
    for block in parse(guide) {
        let item = matches!(block, Block::Item(..));
        let apart = !item || !in_list;
        if apart && !out.is_empty() {
            out.push('\n');
        }
        in_list = item;
        match block {
            Block::Heading(level, text) => page.heading(level, &text, &mut out),
            Block::Paragraph(text) => page.paragraph("", &text, &mut out),
            Block::Item(marker, text) => page.paragraph(&format!("{marker} "), &text, &mut out),
            Block::Code(lines) => {
                for line in lines {
                    out.push_str(if line.is_empty() { "" } else { "    " });
                    out.push_str(line);
                    out.push('\n');
                }
            }
            Block::Table(rows) => page.table(&rows, &mut out),
        }
    }
    out
}

struct Page {
    width: usize,
    styled: bool,
}

/// A piece of a line: what is shown, and whether in bold.
#[derive(Clone, Debug)]
struct Piece {
    bold: bool,
    text: String,
}

/// Pieces that no line is broken between.
type Word = Vec<Piece>;

fn columns(word: &[Piece]) -> usize {
    word.iter().map(|piece| piece.text.chars().count()).sum()
}

impl Page {
    fn heading(&self, level: usize, text: &Text, out: &mut String) {
        let title = if level == 1 { String::new() } else { format!("{} ", "#".repeat(level)) };
        let strong: Text = text.iter().map(|span| Span { style: Style::Strong, text: span.text.clone() }).collect();
        let words = self.words(&strong);
        let all: usize = words.iter().map(|word| columns(word) + 1).sum();
        // Without bold a title is underlined, and a heading keeps its mark.
        let mark = if self.styled { "" } else { &title };
        self.lines(&words, self.width, mark, out);
        if level == 1 && !self.styled {
            out.push_str(&"=".repeat(all.saturating_sub(1).min(self.width)));
            out.push('\n');
        }
    }

    fn paragraph(&self, marker: &str, text: &Text, out: &mut String) {
        self.lines(&self.words(text), self.width, marker, out);
    }

    /// Fills lines; those after the first are indented below what stands behind the marker.
    fn lines(&self, words: &[Word], width: usize, marker: &str, out: &mut String) {
        let indent = marker.chars().count();
        for (index, line) in filled(words, width - indent).iter().enumerate() {
            if index == 0 {
                out.push_str(marker);
            } else {
                out.extend(std::iter::repeat_n(' ', indent));
            }
            self.write(line, out);
            out.push('\n');
        }
    }

    /// Words with the spaces between them.
    fn write(&self, line: &[Word], out: &mut String) {
        let mut bold = false;
        let mut turn = |on: bool, out: &mut String| {
            if self.styled && on != bold {
                out.push_str(if on { "\x1b[1m" } else { "\x1b[0m" });
                bold = on;
            }
        };
        for (index, word) in line.iter().enumerate() {
            if index > 0 {
                let both = |word: Option<&Word>, end: fn(&Word) -> Option<&Piece>| {
                    word.and_then(end).is_some_and(|piece| piece.bold)
                };
                turn(both(line.get(index - 1), |word| word.last()) && both(Some(word), |word| word.first()), out);
                out.push(' ');
            }
            for piece in word {
                turn(piece.bold, out);
                out.push_str(&piece.text);
            }
        }
        turn(false, out);
    }

    fn words(&self, text: &Text) -> Vec<Word> {
        let mut words: Vec<Word> = Vec::new();
        let mut joined = false;
        for span in text {
            let (bold, shown) = match span.style {
                Style::Plain => (false, span.text.clone()),
                Style::Code if self.styled => (true, span.text.clone()),
                Style::Code => (false, format!("`{}`", span.text)),
                Style::Strong => (true, span.text.clone()),
                Style::Guide => (false, format!(" (see {})", span.text)),
            };
            for (index, part) in shown.split(' ').enumerate() {
                joined &= index == 0;
                if part.is_empty() {
                    joined = false;
                    continue;
                }
                let piece = Piece { bold, text: part.to_owned() };
                match words.last_mut() {
                    Some(word) if joined => word.push(piece),
                    Some(_) | None => words.push(vec![piece]),
                }
                joined = true;
            }
        }
        words
    }

    fn table(&self, rows: &[Vec<Text>], out: &mut String) {
        let mut rows: Vec<Vec<Vec<Word>>> =
            rows.iter().map(|row| row.iter().map(|cell| self.words(cell)).collect()).collect();
        // A head without words names nothing.
        let named = rows.first().is_some_and(|head| head.iter().any(|cell| !cell.is_empty()));
        let ruled = named && !self.styled;
        if named {
            let bold = |words: &mut Vec<Word>| words.iter_mut().flatten().for_each(|piece| piece.bold = true);
            rows[0].iter_mut().for_each(bold);
            if ruled {
                let lined = |cell: &Vec<Word>| {
                    let length = cell.iter().map(|word| columns(word) + 1).sum::<usize>().saturating_sub(1);
                    if length == 0 { Vec::new() } else { vec![vec![Piece { bold: false, text: "-".repeat(length) }]] }
                };
                let rule = rows[0].iter().map(lined).collect();
                rows.insert(1, rule);
            }
        } else if !rows.is_empty() {
            rows.remove(0);
        }
        let widths = self.widths(&rows);
        let cells: Vec<Vec<Vec<Vec<Word>>>> = rows
            .iter()
            .map(|row| row.iter().zip(&widths).map(|(cell, width)| filled(cell, *width)).collect())
            .collect();
        // Where the first column goes on below itself, nothing else tells where a row begins.
        let apart = cells.iter().any(|row| row.first().is_some_and(|first| first.len() > 1));
        for (index, row) in cells.iter().enumerate() {
            if apart && index > usize::from(named) + usize::from(ruled) {
                out.push('\n');
            }
            for line in 0..row.iter().map(Vec::len).max().unwrap_or_default() {
                let mut missing = 0;
                for (cell, width) in row.iter().zip(&widths) {
                    let words = cell.get(line).map_or(&[][..], Vec::as_slice);
                    if !words.is_empty() {
                        out.extend(std::iter::repeat_n(' ', missing));
                        self.write(words, out);
                        missing = 0;
                    }
                    let used: usize = words.iter().map(|word| columns(word) + 1).sum();
                    missing += width - used.saturating_sub(1) + GAP;
                }
                out.push('\n');
            }
        }
    }

    /// How wide each column is: as wide as it wants where there is room, and else the narrow ones as they want and the others
    /// alike.
    fn widths(&self, rows: &[Vec<Vec<Word>>]) -> Vec<usize> {
        let count = rows.iter().map(Vec::len).max().unwrap_or_default();
        let wanted = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            let length = |cell: &Vec<Word>| cell.iter().map(|word| columns(word) + 1).sum::<usize>().saturating_sub(1);
            cells.map(length).max().unwrap_or_default().max(1)
        };
        let mut widths: Vec<usize> = (0..count).map(wanted).collect();
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by_key(|column| widths[*column]);
        let mut room = self.width.saturating_sub(GAP * count.saturating_sub(1));
        for (done, column) in order.into_iter().enumerate() {
            widths[column] = widths[column].min(room / (count - done)).max(1);
            room = room.saturating_sub(widths[column]);
        }
        widths
    }
}

/// Lines of at most `width` columns. A word that is longer than one is broken.
fn filled(words: &[Word], width: usize) -> Vec<Vec<Word>> {
    let (mut lines, mut used): (Vec<Vec<Word>>, usize) = (Vec::new(), 0);
    for word in words.iter().flat_map(|word| broken(word, width)) {
        let wide = columns(&word);
        match lines.last_mut() {
            Some(line) if used + 1 + wide <= width => {
                line.push(word);
                used += 1 + wide;
            }
            Some(_) | None => {
                lines.push(vec![word]);
                used = wide;
            }
        }
    }
    lines
}

/// A word in parts that fit, each ending behind a mark where there is one in its second half.
fn broken(word: &Word, width: usize) -> Vec<Word> {
    if columns(word) <= width {
        return vec![word.clone()];
    }
    let characters: Vec<(bool, char)> =
        word.iter().flat_map(|piece| piece.text.chars().map(|c| (piece.bold, c))).collect();
    let (mut rest, mut parts) = (&characters[..], Vec::new());
    while !rest.is_empty() {
        let most = width.min(rest.len());
        let mark = |(_, c): &(bool, char)| matches!(c, '_' | '.' | '/' | '-' | ',' | '=' | ':');
        let behind_mark = rest[..most].iter().rposition(mark).map(|at| at + 1).filter(|at| at * 2 > most);
        let (part, others) = rest.split_at(if most == rest.len() { most } else { behind_mark.unwrap_or(most) });
        let pieces = part.chunk_by(|(a, _), (b, _)| a == b);
        parts.push(
            pieces.map(|piece| Piece { bold: piece[0].0, text: piece.iter().map(|(_, c)| c).collect() }).collect(),
        );
        rest = others;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_columns_and_wrap_within_them() {
        let text =
            "| name | what it is |\n|---|---|\n| `a` | one two three four five six seven eight nine |\n| bb | x |\n";
        assert_eq!(
            render(text, 40, false),
            "\
name  what it is
----  ----------
`a`   one two three four five six seven
      eight nine
bb    x
"
        );
    }

    #[test]
    fn bold_is_for_terminals_and_marks_for_others() {
        let text = "# T\n\n- **never** `a b`, [x][y]\n\n[y]: lists.md\n";
        assert_eq!(render(text, 80, false), "T\n=\n\n- never `a b`, x (see lists)\n");
        assert_eq!(render(text, 80, true), "\x1b[1mT\x1b[0m\n\n- \x1b[1mnever a b\x1b[0m, x (see lists)\n");
    }

    #[test]
    fn no_line_of_any_guide_but_code_is_wider_than_the_terminal() {
        for guide in crate::docs::GUIDES {
            for width in [0, 40, 60, 80, 100, 132, 1000] {
                for line in render(guide.text, width, false).lines().filter(|line| !line.starts_with("    ")) {
                    assert!(line.chars().count() <= width.max(NARROWEST), "{}, {width}: {line}", guide.name);
                    assert_eq!(line.trim_end(), line, "{}", guide.name);
                }
            }
        }
    }

    #[test]
    fn nothing_that_a_guide_says_is_left_out() {
        let letters = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).count();
        for guide in crate::docs::GUIDES {
            // But for what says how code is written, comments, and where links lead.
            let shown: String = guide
                .text
                .lines()
                .filter(|line| !["[", "```", "<!--"].iter().any(|mark| line.starts_with(mark)))
                .map(|line| line.to_owned() + "\n")
                .collect();
            let (shown, printed) = (letters(&shown), letters(&render(guide.text, 80, false)));
            assert!(printed * 20 > shown * 19 && printed < shown * 11 / 10, "{}: {printed} of {shown}", guide.name);
        }
    }
}
