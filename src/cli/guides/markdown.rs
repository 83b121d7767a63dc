//! The Markdown of the guides, and no more of it: headings, paragraphs, lists of one level, tables and fenced code. What is
//! not known is text.

/// A part of a guide that stands by itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Block<'g> {
    /// A heading; the title of the guide has level 1.
    Heading(usize, Text),
    /// Running text.
    Paragraph(Text),
    /// An item of a list, with what stands before it.
    Item(&'g str, Text),
    /// The lines of a fenced block.
    Code(Vec<&'g str>),
    /// Rows of cells, the head first.
    Table(Vec<Vec<Text>>),
}

/// Words and how they are set.
pub(super) type Text = Vec<Span>;

/// Some words set alike.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) style: Style,
    pub(super) text: String,
}

/// How words are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Strong,
    Code,
    /// The name of the guide that the words before it lead to.
    Guide,
}

/// A guide as blocks.
pub(super) fn parse(text: &str) -> Vec<Block<'_>> {
    let mut lines = Lines { rest: text.lines().collect::<Vec<_>>().into_iter().peekable() };
    let links = Links::of(text);
    let mut blocks = Vec::new();
    while let Some(line) = lines.rest.next() {
        if line.trim().is_empty() || definition(line).is_some() {
            continue;
        }
        blocks.push(if line.starts_with("<!--") {
            let mut last = line;
            while !last.contains("-->") {
                let Some(line) = lines.rest.next() else { break };
                last = line;
            }
            continue;
        } else if line.starts_with("```") {
            let mut code = Vec::new();
            while let Some(line) = lines.rest.next().filter(|line| !line.starts_with("```")) {
                code.push(line);
            }
            Block::Code(code)
        } else if let Some((level, title)) = heading(line) {
            Block::Heading(level, links.text(title))
        } else if line.starts_with('|') {
            let mut rows = vec![cells(line)];
            while let Some(row) = lines.rest.next_if(|line| line.starts_with('|')) {
                rows.push(cells(row));
            }
            let is_rule = |row: &Vec<String>| {
                row.iter().all(|cell| cell.contains('-') && cell.trim_matches([':', '-']).is_empty())
            };
            rows.retain(|row| !is_rule(row));
            Block::Table(rows.iter().map(|row| row.iter().map(|cell| links.text(cell)).collect()).collect())
        } else if let Some((marker, first)) = item(line) {
            Block::Item(marker, links.text(&lines.joined(first)))
        } else {
            Block::Paragraph(links.text(&lines.joined(line)))
        });
    }
    blocks
}

struct Lines<'g> {
    rest: std::iter::Peekable<std::vec::IntoIter<&'g str>>,
}

impl Lines<'_> {
    /// A line with those that go on with it.
    fn joined(&mut self, first: &str) -> String {
        let mut text = first.trim().to_owned();
        while let Some(line) = self.rest.next_if(|line| !begins(line)) {
            text.push(' ');
            text.push_str(line.trim());
        }
        text
    }
}

/// Whether a line ends the paragraph before it.
fn begins(line: &str) -> bool {
    line.trim().is_empty()
        || ["```", "|", "<!--"].iter().any(|mark| line.starts_with(mark))
        || heading(line).is_some()
        || item(line).is_some()
}

fn heading(line: &str) -> Option<(usize, &str)> {
    let title = line.trim_start_matches('#');
    let level = line.len() - title.len();
    title.strip_prefix(' ').filter(|_| (1..=6).contains(&level)).map(|title| (level, title))
}

/// An item's marker, and the text behind it.
fn item(line: &str) -> Option<(&str, &str)> {
    let (marker, text) = line.split_once(' ')?;
    let number = marker.strip_suffix('.').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    (number || marker == "-" || marker == "*").then_some((marker, text))
}

/// The cells of a row. A bar within one is written `\|`, in code too.
fn cells(row: &str) -> Vec<String> {
    let row = row.trim().trim_start_matches('|');
    let mut cells = vec![String::new()];
    let mut escaped = false;
    for c in row.chars() {
        let last = cells.len() - 1;
        match c {
            '|' if escaped => {
                cells[last].pop();
                cells[last].push('|');
            }
            '|' => cells.push(String::new()),
            c => cells[last].push(c),
        }
        escaped = c == '\\' && !escaped;
    }
    // What is behind the last bar.
    if cells.last().is_some_and(|cell| cell.trim().is_empty()) {
        cells.pop();
    }
    cells.iter().map(|cell| cell.trim().to_owned()).collect()
}

/// `[name]: target`
fn definition(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix('[')?.split_once("]: ").filter(|(name, target)| !name.contains(']') && !target.contains(' '))
}

/// The targets of links, by name.
struct Links<'g>(Vec<(&'g str, &'g str)>);

impl<'g> Links<'g> {
    fn of(text: &'g str) -> Links<'g> {
        Links(text.lines().filter_map(definition).collect())
    }

    fn text(&self, text: &str) -> Text {
        let mut spans = Text::new();
        self.read(text, Style::Plain, &mut spans);
        spans
    }

    /// Appends what `text` says to `spans`; `around` is what plain words are set in.
    fn read(&self, mut text: &str, around: Style, spans: &mut Text) {
        while let Some(at) = text.find(['\\', '`', '*', '[']) {
            push(spans, around, &text[..at]);
            let rest = &text[at..];
            text = self.mark(rest, around, spans).unwrap_or_else(|| {
                // A mark that marks nothing is a character like others.
                push(spans, around, &rest[..1]);
                &rest[1..]
            });
        }
        push(spans, around, text);
    }

    /// What begins with a mark; returns what is behind it.
    fn mark<'t>(&self, text: &'t str, around: Style, spans: &mut Text) -> Option<&'t str> {
        if let Some(rest) = text.strip_prefix('\\') {
            let next = rest.chars().next().filter(char::is_ascii_punctuation)?;
            push(spans, around, &rest[..next.len_utf8()]);
            return Some(&rest[next.len_utf8()..]);
        }
        if text.starts_with('`') {
            let fence = &text[..text.len() - text.trim_start_matches('`').len()];
            let (code, rest) = text[fence.len()..].split_once(fence)?;
            push(spans, Style::Code, code);
            return Some(rest);
        }
        for mark in ["**", "*"] {
            let Some(inner) = text.strip_prefix(mark).filter(|inner| !inner.starts_with([' ', '*'])) else { continue };
            let (inner, rest) =
                inner.split_once(mark).filter(|(inner, _)| !inner.is_empty() && !inner.ends_with(' '))?;
            self.read(inner, Style::Strong, spans);
            return Some(rest);
        }
        let (shown, rest) = text.strip_prefix('[')?.split_once(']')?;
        let (target, rest) = if let Some(rest) = rest.strip_prefix('(') {
            rest.split_once(')')?
        } else {
            let (name, rest) = match rest.strip_prefix('[') {
                Some(rest) => rest.split_once(']')?,
                None => (shown, rest),
            };
            (self.0.iter().find(|(known, _)| *known == name)?.1, rest)
        };
        self.read(shown, around, spans);
        let guide = target.split('#').next().unwrap_or_default();
        if let Some(guide) = guide.strip_suffix(".md").filter(|guide| *guide != shown.trim_matches('`')) {
            push(spans, Style::Guide, guide);
        } else if target.starts_with("http") {
            push(spans, around, &format!(" ({target})"));
        }
        Some(rest)
    }
}

fn push(spans: &mut Text, style: Style, text: &str) {
    match spans.last_mut() {
        _ if text.is_empty() => {}
        Some(last) if last.style == style => last.text.push_str(text),
        Some(_) | None => spans.push(Span { style, text: text.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `plain *strong* {code} <guide>`
    fn shown(text: &Text) -> String {
        let span = |span: &Span| match span.style {
            Style::Plain => span.text.clone(),
            Style::Strong => format!("*{}*", span.text),
            Style::Code => format!("{{{}}}", span.text),
            Style::Guide => format!("<{}>", span.text),
        };
        text.iter().map(span).collect()
    }

    #[test]
    fn words_are_set_as_they_are_marked() {
        let links = Links(vec![("lists", "lists.md"), ("who", "annotations.md#who")]);
        for (text, set) in [
            ("plain", "plain"),
            ("a `code` b", "a {code} b"),
            ("``a ` b``", "{a ` b}"),
            ("**strong**, *too*", "*strong*, *too*"),
            ("**`CAP_NET_RAW` is guarded.**", "{CAP_NET_RAW}* is guarded.*"),
            ("5 * 3 * 2, a_b_c", "5 * 3 * 2, a_b_c"),
            (r"a\|b \` \a", r"a|b ` \a"),
            ("[lists] and [those][lists]", "lists and those<lists>"),
            ("[`x`][who] [here](#who) [file](LICENSE)", "{x}<annotations> here file"),
            ("[page](https://example.com/)", "page (https://example.com/)"),
            ("`[!] [protocol/]` [ID] a[0] ]", "{[!] [protocol/]} [ID] a[0] ]"),
            ("`open **open [open", "`open **open [open"),
            ("", ""),
        ] {
            assert_eq!(shown(&links.text(text)), set, "{text}");
        }
    }

    #[test]
    fn blocks_are_told_apart() {
        let text = "# Title\none\ntwo\n\n## Sub\n- a\n  more\n- b\n1. c\n```sh\n# no heading\n\n| no | table |\n```\n<!-- not run:\nwhy -->\n| a | b |\n|---|:-:|\n| `x \\| y` | |\nafter\n\n[x]: y\n";
        let blocks: Vec<String> = parse(text)
            .iter()
            .map(|block| match block {
                Block::Heading(level, text) => format!("h{level} {}", shown(text)),
                Block::Paragraph(text) => format!("p {}", shown(text)),
                Block::Item(marker, text) => format!("{marker} {}", shown(text)),
                Block::Code(lines) => format!("code {lines:?}"),
                Block::Table(rows) => {
                    let rows = rows.iter().map(|row| row.iter().map(shown).collect::<Vec<_>>().join("|"));
                    format!("table {}", rows.collect::<Vec<_>>().join(" / "))
                }
            })
            .collect();
        assert_eq!(
            blocks,
            [
                "h1 Title",
                "p one two",
                "h2 Sub",
                "- a more",
                "- b",
                "1. c",
                r##"code ["# no heading", "", "| no | table |"]"##,
                "table a|b / {x | y}|",
                "p after",
            ]
        );
    }

    #[test]
    fn what_is_cut_off_anywhere_is_read_all_the_same() {
        for guide in crate::docs::GUIDES {
            let ends = guide.text.char_indices().map(|(at, _)| at);
            for end in ends.step_by(97) {
                parse(&guide.text[..end]);
            }
        }
    }
}
