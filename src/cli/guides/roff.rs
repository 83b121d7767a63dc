//! A guide as a man page's source, for man-db and mandoc.

use super::markdown::{Block, Style, Text, parse};
use super::pages::title_of_guide;

/// The page of a guide, from its title on.
pub(super) fn page(title: &str, section: char, about: &str, guide: &str) -> String {
    let mut out = format!(
        ".TH \"{}\" \"{section}\" \"\" \"netlatch {}\" \"Netlatch\"\n.nh\n.ad l\n.SH NAME\n{title} \\- {}\n",
        title.to_uppercase(),
        env!("CARGO_PKG_VERSION"),
        escaped(about)
    );
    let mut begun = false;
    let mut in_list = false;
    for block in parse(guide) {
        let item = matches!(block, Block::Item(..));
        // What stands before the first heading needs one.
        if !begun && !matches!(block, Block::Heading(..)) {
            out.push_str(".SH DESCRIPTION\n");
            begun = true;
        }
        match block {
            Block::Heading(1, _) => {}
            Block::Heading(level, text) => {
                let words: String = text.iter().map(|span| span.text.as_str()).collect();
                let (macro_, words) = if level == 2 { ("SH", words.to_uppercase()) } else { ("SS", words) };
                out.push_str(&format!(".{macro_} \"{}\"\n", escaped(&words).replace('"', "\\(dq")));
                begun = true;
            }
            Block::Paragraph(text) => line(".PP\n", &text, &mut out),
            Block::Item(marker, text) => {
                let marker = if marker.len() > 1 { marker } else { "\\(bu" };
                let close = if in_list { ".PD 0\n" } else { "" };
                line(&format!("{close}.IP \"{marker}\" 3\n"), &text, &mut out);
                if in_list {
                    out.push_str(".PD\n");
                }
            }
            Block::Code(lines) => literal(&lines, &mut out),
            Block::Table(rows) => table(&rows, &mut out),
        }
        in_list = item;
    }
    out
}

/// Lines that stay as they are.
pub(super) fn literal(lines: &[&str], out: &mut String) {
    out.push_str(".PP\n.RS 4\n.nf\n");
    for text in lines {
        out.push_str(&guarded(&escaped(text)));
        out.push('\n');
    }
    out.push_str(".fi\n.RE\n");
}

/// A row is a tag, and below it the other cells: a page is too narrow for columns of sentences. Cells behind the second say what
/// they are.
fn table(rows: &[Vec<Text>], out: &mut String) {
    let Some((head, rows)) = rows.split_first() else { return };
    for row in rows {
        let Some((tag, cells)) = row.split_first() else { continue };
        line(".TP\n", tag, out);
        for (index, cell) in cells.iter().enumerate().filter(|(_, cell)| !cell.is_empty()) {
            if index > 0 {
                out.push_str(".br\n");
                let names = head.get(index + 1).map(set).unwrap_or_default();
                if !names.is_empty() {
                    out.push_str(&format!("\\fI{}:\\fR ", names));
                }
            }
            out.push_str(&guarded(&set(cell)));
            out.push('\n');
        }
    }
}

fn line(before: &str, text: &Text, out: &mut String) {
    out.push_str(before);
    out.push_str(&guarded(&set(text)));
    out.push('\n');
}

/// Words in their fonts.
fn set(text: &Text) -> String {
    text.iter()
        .map(|span| match span.style {
            Style::Plain => escaped(&span.text),
            // A long name may be broken behind its parts, and else sticks out.
            Style::Code if span.text.len() > 40 => format!("\\fB{}\\fR", escaped(&span.text).replace('_', "_\\:")),
            Style::Strong | Style::Code => format!("\\fB{}\\fR", escaped(&span.text)),
            Style::Guide => {
                let (title, section) = title_of_guide(&span.text);
                format!(" (see \\fB{}\\fR({section}))", escaped(&title))
            }
        })
        .collect()
}

/// Text in which nothing is a request's: a hyphen stays the one that is typed, a quote too.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '\'' => out.push_str("\\(aq"),
            '`' => out.push_str("\\(ga"),
            '^' => out.push_str("\\(ha"),
            '~' => out.push_str("\\(ti"),
            '\u{2026}' => out.push_str("..."),
            c if c.is_ascii() => out.push(c),
            c => out.push_str(&format!("\\[u{:04X}]", u32::from(c))),
        }
    }
    out
}

/// A line that begins no request.
pub(super) fn guarded(line: &str) -> String {
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_what_the_guide_says() {
        let guide = "# T\nText of `a-b`, 'x'.\n\n## Part\n- one\n- two\n\n| k | v | else |\n|---|---|---|\n| `.k` | 1 | \\2 |\n\n```sh\n.x -y\n```\n";
        let page = page("netlatch-t", '7', "a thing", guide);
        let (_, body) = page.split_once("\n.SH DESCRIPTION\n").unwrap();
        assert_eq!(
            body,
            "\
.PP
Text of \\fBa\\-b\\fR, \\(aqx\\(aq.
.SH \"PART\"
.IP \"\\(bu\" 3
one
.PD 0
.IP \"\\(bu\" 3
two
.PD
.TP
\\fB.k\\fR
1
.br
\\fIelse:\\fR \\e2
.PP
.RS 4
.nf
\\&.x \\-y
.fi
.RE
"
        );
    }
}
