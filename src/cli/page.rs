//! What people read on stdout: lines that break where the terminal ends, in four colours.
//!
//! A colour says nothing that a word beside it does not say. And nobody else can colour anything: a [`Piece`] is made fit to be
//! printed where it is made, and the codes are put around pieces here alone. So [`Page::print`] writes what it has as it is.
//!
//! Commands come here and stages do not: this is the one place that reads the environment. JSON is never coloured or broken.

use std::borrow::Cow;
use std::env;
use std::ffi::OsStr;
use std::io::{self, IsTerminal};

use super::write;
use crate::error::Failure;
use crate::printable::{self, COLUMNS};

/// Narrower than this is not tried.
const NARROWEST: usize = 40;
/// Help is read like prose, and lines of prose are no longer.
const HELP_WIDTH: usize = 100;

/// When there are colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum When {
    /// On a terminal, unless NO_COLOR is set or TERM is dumb; elsewhere where CLICOLOR_FORCE is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The option of every command that prints for people.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(super) struct Look {
    /// When to use colours
    #[arg(long, value_name = "WHEN", value_enum, default_value_t, hide_possible_values = true)]
    #[arg(help = "Colours: auto (on a terminal, and NO_COLOR is not set), always or never")]
    color: When,
}

impl Look {
    /// A page as wide as the terminal.
    pub(super) fn page(self) -> Page {
        let around = Around::of_stdout();
        Page {
            width: around.width(COLUMNS),
            colour: around.has_colour(self.color),
            text: String::new(),
            style: Style::Plain,
        }
    }

    /// A page for lines that programs read as well: only a terminal breaks them.
    pub(super) fn page_of_lines(self) -> Page {
        let page = self.page();
        if io::stdout().is_terminal() { page } else { Page { width: usize::MAX, ..page } }
    }
}

/// What says how a page looks.
#[derive(Clone, Copy, Debug, Default)]
struct Around {
    terminal: bool,
    /// Columns of the terminal; `None` where it does not know, or there is none.
    columns: Option<usize>,
    /// `COLUMNS`
    wanted: Option<usize>,
    /// `NO_COLOR` is there and not empty (no-color.org).
    no_color: bool,
    /// `CLICOLOR_FORCE` is there, not empty and not 0 (bixense.com/clicolors).
    forced: bool,
    /// `TERM` is `dumb`, or nobody says what the terminal is.
    dumb: bool,
}

impl Around {
    fn of_stdout() -> Around {
        let said = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
        Around {
            terminal: io::stdout().is_terminal(),
            columns: size.map(|size| usize::from(size.ws_col)),
            wanted: said("COLUMNS").and_then(|text| text.to_str()?.parse().ok()),
            no_color: said("NO_COLOR").is_some(),
            forced: said("CLICOLOR_FORCE").is_some_and(|value| value != OsStr::new("0")),
            dumb: said("TERM").is_none_or(|term| term == OsStr::new("dumb")),
        }
    }

    /// Columns, or `otherwise` where nobody knows.
    fn width(self, otherwise: usize) -> usize {
        let known = |columns: Option<usize>| columns.filter(|columns| *columns > 0);
        known(self.wanted).or(known(self.columns)).unwrap_or(otherwise).max(NARROWEST)
    }

    const fn has_colour(self, when: When) -> bool {
        match when {
            When::Always => true,
            When::Never => false,
            When::Auto => !self.no_color && (self.forced || self.terminal && !self.dumb),
        }
    }
}

/// What a piece of text is to the eye.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Heading,
    /// As it should be.
    Good,
    /// It works, and may not be meant.
    Doubtful,
    /// Wrong, or denied.
    Bad,
}

impl Style {
    /// Select Graphic Rendition (ECMA-48, 8.3.117), in the terminal's own colours.
    const fn code(self) -> &'static str {
        match self {
            Style::Plain => "",
            Style::Heading => "\u{1b}[1m",
            Style::Good => "\u{1b}[32m",
            Style::Doubtful => "\u{1b}[33m",
            Style::Bad => "\u{1b}[31m",
        }
    }

    /// Text in this style, with whatever others wrote in it made fit to be printed in a line.
    pub(super) fn on<'a>(self, text: impl Into<Cow<'a, str>>) -> Piece<'a> {
        let text = match text.into() {
            Cow::Borrowed(text) => printable::line(text),
            Cow::Owned(text) => Cow::Owned(printable::line(&text).into_owned()),
        };
        Piece { style: self, text }
    }
}

const RESET: &str = "\u{1b}[0m";

/// A part of a line.
#[derive(Clone, Debug)]
pub(super) struct Piece<'a> {
    style: Style,
    text: Cow<'a, str>,
}

impl Piece<'_> {
    fn columns(&self) -> usize {
        columns(&self.text)
    }
}

fn columns(text: &str) -> usize {
    text.chars().count()
}

/// Text in no style.
pub(super) fn plain<'a>(text: impl Into<Cow<'a, str>>) -> Piece<'a> {
    Style::Plain.on(text)
}

/// Lines for stdout.
#[derive(Debug)]
pub(super) struct Page {
    width: usize,
    colour: bool,
    /// Made fit to be printed, with our own codes in it.
    text: String,
    /// What the last code said.
    style: Style,
}

impl Page {
    /// Columns of a line.
    pub(super) const fn width(&self) -> usize {
        self.width
    }

    /// A page for nobody's terminal.
    #[cfg(test)]
    pub(super) fn plain(width: usize) -> Page {
        Page { width, colour: false, text: String::new(), style: Style::Plain }
    }

    /// Ends the line; an empty one where none was begun.
    pub(super) fn blank(&mut self) {
        self.stretch(Style::Plain, "\n");
    }

    /// A line in one style.
    pub(super) fn line<'a>(&mut self, style: Style, text: impl Into<Cow<'a, str>>) {
        self.put(&[], &[style.on(text)], 4);
    }

    /// `head` as it is, and `body` behind it, broken between words where the line would be too long: further lines begin with
    /// `indent` blanks. A word that is longer than a line stays whole.
    pub(super) fn put(&mut self, head: &[Piece<'_>], body: &[Piece<'_>], indent: usize) {
        let mut used: usize = head.iter().map(Piece::columns).sum();
        let whole = used + body.iter().map(Piece::columns).sum::<usize>();
        head.iter().for_each(|piece| self.stretch(piece.style, &piece.text));
        // As it was written where that fits, blanks and all.
        if whole <= self.width {
            body.iter().for_each(|piece| self.stretch(piece.style, &piece.text));
            return self.blank();
        }
        let mut behind_word = false;
        for word in words(body) {
            let length: usize = word.iter().map(|(_, part)| columns(part)).sum();
            let too_long = used + usize::from(behind_word) + length > self.width;
            // The first may as well stay behind the head, where the next line has no more room for it.
            if too_long && (behind_word || used > indent && indent + length <= self.width) {
                self.text.truncate(self.text.trim_end_matches(' ').len());
                self.blank();
                self.text.extend(std::iter::repeat_n(' ', indent));
                (used, behind_word) = (indent, false);
            }
            if behind_word {
                self.text.push(' ');
                used += 1;
            }
            word.iter().for_each(|(style, part)| self.stretch(*style, part));
            used += length;
            behind_word = true;
        }
        self.blank();
    }

    /// Goes on in a style, until another is wanted or the line ends.
    fn stretch(&mut self, style: Style, text: &str) {
        if self.colour && style != self.style && !text.is_empty() {
            self.text.push_str(if self.style == Style::Plain { "" } else { RESET });
            self.text.push_str(style.code());
            self.style = style;
        }
        self.text.push_str(text);
    }

    /// What clap says, whose codes are those of [`STYLES`]. Any other escape is shown and not obeyed.
    fn coded(&mut self, text: &str) {
        let mut parts = text.split("\u{1b}[");
        self.text.push_str(&printable::lines(parts.next().unwrap_or_default()));
        for part in parts {
            let code = part.find(|c: char| !c.is_ascii_digit() && c != ';').filter(|at| part[*at..].starts_with('m'));
            match code {
                Some(end) if self.colour => {
                    self.text.push_str("\u{1b}[");
                    self.text.push_str(&part[..=end]);
                }
                Some(_) => {}
                None => self.text.push_str(&printable::lines("\u{1b}[")),
            }
            self.text.push_str(&printable::lines(&part[code.map_or(0, |end| end + 1)..]));
        }
    }

    /// Writes it to stdout.
    pub(super) fn print(self) -> Result<(), Failure> {
        write(&self.text)
    }

    /// What it has, ready to be written as it is.
    pub(super) fn into_text(self) -> String {
        self.text
    }
}

/// Each word in its pieces: a style may end within one.
fn words<'p>(pieces: &'p [Piece<'_>]) -> Vec<Vec<(Style, &'p str)>> {
    let mut words = vec![Vec::new()];
    for piece in pieces {
        for (index, part) in piece.text.split(' ').enumerate() {
            if index > 0 {
                words.push(Vec::new());
            }
            if let Some(word) = words.last_mut().filter(|_| !part.is_empty()) {
                word.push((piece.style, part));
            }
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// How clap writes help: headings as everywhere, and what is to be typed.
pub(super) const STYLES: clap::builder::Styles = {
    use clap::builder::styling::Style;
    clap::builder::Styles::plain().header(Style::new().bold()).usage(Style::new().bold()).literal(Style::new().bold())
};

/// How wide help is.
pub(super) fn help_width() -> usize {
    Around::of_stdout().width(HELP_WIDTH).min(HELP_WIDTH)
}

/// Prints help, or the version.
pub(super) fn print_help(text: &clap::builder::StyledStr) -> Result<(), Failure> {
    let mut page = Look::default().page();
    page.coded(&text.ansi().to_string());
    page.print()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_for_terminals_and_for_those_who_ask() {
        let terminal = Around { terminal: true, ..Around::default() };
        let pipe = Around::default();
        for (around, auto) in [
            (terminal, true),
            (pipe, false),
            (Around { no_color: true, ..terminal }, false),
            (Around { dumb: true, ..terminal }, false),
            (Around { forced: true, ..pipe }, true),
            (Around { forced: true, dumb: true, ..terminal }, true),
            (Around { forced: true, no_color: true, ..terminal }, false),
        ] {
            assert_eq!(around.has_colour(When::Auto), auto, "{around:?}");
            assert!(around.has_colour(When::Always) && !around.has_colour(When::Never));
        }
    }

    #[test]
    fn what_is_asked_for_is_wider_than_what_is_there() {
        let around = |wanted, columns| Around { wanted, columns, ..Around::default() }.width(COLUMNS);
        assert_eq!(around(Some(120), Some(90)), 120);
        assert_eq!(around(None, Some(90)), 90);
        // A terminal that nobody gave a size says 0.
        assert_eq!((around(None, Some(0)), around(Some(0), None)), (COLUMNS, COLUMNS));
        assert_eq!(around(Some(1), None), NARROWEST);
    }

    fn put(width: usize, head: &[Piece<'_>], body: &[Piece<'_>], indent: usize) -> String {
        let mut page = Page::plain(width);
        page.put(head, body, indent);
        page.into_text()
    }

    #[test]
    fn words_go_to_the_next_line_where_they_do_not_fit() {
        assert_eq!(put(12, &[plain("  a  ")], &[plain("b   c")], 4), "  a  b   c\n");
        assert_eq!(put(7, &[], &[plain("a   longer-than-it b")], 2), "a\n  longer-than-it\n  b\n");
        // Behind a head that leaves no room the first word goes too, and leaves no blanks behind.
        assert_eq!(put(10, &[plain("headline  ")], &[plain("one two")], 2), "headline\n  one two\n");
        assert_eq!(put(10, &[plain("headline  ")], &[plain("longer-than-it")], 2), "headline  longer-than-it\n");
        assert_eq!(put(usize::MAX, &[], &[plain("a ".repeat(500))], 2).lines().count(), 1);
    }

    #[test]
    fn a_word_of_two_styles_is_one_word() {
        let body = [Style::Bad.on("denied"), plain(": it"), plain(" is"), Style::Good.on(" so")];
        assert_eq!(put(9, &[], &body, 1), "denied:\n it is so\n");
        let mut page = Page { colour: true, ..Page::plain(9) };
        page.put(&[], &body, 1);
        assert_eq!(page.into_text(), "\u{1b}[31mdenied\u{1b}[0m:\n it is \u{1b}[32mso\u{1b}[0m\n");
    }

    #[test]
    fn nobody_else_colours_anything() {
        let mut page = Page { colour: true, ..Page::plain(80) };
        page.line(Style::Heading, "a\u{1b}[31mb\nc\u{202e}");
        assert_eq!(page.into_text(), "\u{1b}[1ma\\u{1b}[31mb\\u{a}c\\u{202e}\u{1b}[0m\n");
    }

    #[test]
    fn of_clap_only_colours_pass() {
        let said = "\u{1b}[1mUsage\u{1b}[0m: \u{1b}[2J\u{1b}]0;x\u{7}\u{1b}[";
        let coded = |colour| {
            let mut page = Page { colour, ..Page::plain(80) };
            page.coded(said);
            page.into_text()
        };
        assert_eq!(coded(true), "\u{1b}[1mUsage\u{1b}[0m: \\u{1b}[2J\\u{1b}]0;x\\u{7}\\u{1b}[");
        assert_eq!(coded(false), "Usage: \\u{1b}[2J\\u{1b}]0;x\\u{7}\\u{1b}[");
    }
}
