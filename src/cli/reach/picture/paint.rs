//! What every drawing needs: text that fits and means nothing to XML, and colours.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::printable;

/// Width of a character of the monospaced font, in thousandths of its size. DejaVu Sans Mono has 602, Menlo 602, Consolas 550.
const CHARACTER: usize = 610;

/// Text for XML and HTML, between tags and in attributes. Manifests chose it.
pub(super) fn xml(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    // Control characters and noncharacters (XML 1.0, production 2) are among what is escaped as odd.
    for c in printable::line(text).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// How many columns a character takes, in tenths. What is not ASCII may come from any font: the widest is a square.
fn tenths(c: char) -> usize {
    if c.is_ascii() || matches!(c, '×' | '…' | '→') { 10 } else { 17 }
}

/// Columns that a text takes.
pub(super) fn columns(text: &str) -> usize {
    text.chars().map(tenths).sum::<usize>().div_ceil(10)
}

/// Pixels that a text takes in the monospaced font of that size.
pub(super) fn pixels(text: &str, size: usize) -> usize {
    (columns(text) * size * CHARACTER).div_ceil(1000)
}

/// At most so many columns: the middle goes, for names differ at their ends.
pub(super) fn fitted(text: &str, most: usize) -> Cow<'_, str> {
    if columns(text) <= most {
        return Cow::Borrowed(text);
    }
    let room = most.saturating_sub(1) * 10;
    let take = |chars: &mut dyn Iterator<Item = char>, room: usize| -> Vec<char> {
        let mut left = room;
        let mut taken = Vec::new();
        for c in chars {
            let Some(rest) = left.checked_sub(tenths(c)) else { break };
            left = rest;
            taken.push(c);
        }
        taken
    };
    let head = take(&mut text.chars(), room * 3 / 5);
    let used: usize = head.iter().copied().map(tenths).sum();
    let mut tail = take(&mut text.chars().rev(), room - used);
    tail.reverse();
    Cow::Owned(head.into_iter().chain(['…']).chain(tail).collect())
}

/// The words that have room: of a list of ports the first.
pub(super) fn first_words(text: &str, most: usize) -> String {
    if columns(text) <= most {
        return text.to_owned();
    }
    let line = wrapped(text, most.saturating_sub(2)).into_iter().next().unwrap_or_default();
    format!("{line} …")
}

/// Lines of at most so many columns, broken between words.
pub(super) fn wrapped(text: &str, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_ascii_whitespace() {
        let word = fitted(word, most);
        match lines.last_mut() {
            Some(line) if columns(line) + 1 + columns(&word) <= most => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word.into_owned()),
        }
    }
    lines
}

/// Fills that people with any kind of colour vision tell apart (after Okabe and Ito), dark lines of the same hue for a light
/// page, and light ones for a dark page. The first is for what passes entirely; further kinds take the others in turn, and a
/// letter tells those of one colour apart.
const COLOURS: [[&str; 3]; 7] = [
    ["#a9cbe8", "#2b6ca3", "#86b9e6"],
    ["#f0a830", "#a86a00", "#f0a830"],
    ["#4fc3a1", "#00795a", "#4fc3a1"],
    ["#e58fbb", "#a83a78", "#e58fbb"],
    ["#f2e55c", "#857900", "#f2e55c"],
    ["#f08457", "#b8410f", "#f08457"],
    ["#b3a5f0", "#5a47b8", "#b3a5f0"],
];

/// Which colour a kind has.
pub(super) fn colour(kind: usize, first_is_everything: bool) -> usize {
    match (kind, first_is_everything) {
        (0, true) => 0,
        (kind, true) => 1 + (kind - 1) % (COLOURS.len() - 1),
        (kind, false) => 1 + kind % (COLOURS.len() - 1),
    }
}

/// `A` to `Z`, `AA`, and so on; nothing for what passes entirely.
pub(super) fn letter(kind: usize, first_is_everything: bool) -> String {
    let Some(mut number) = kind.checked_sub(usize::from(first_is_everything)) else { return String::new() };
    let mut letters = Vec::new();
    loop {
        letters.push(char::from(b'A' + (number % 26) as u8));
        match (number / 26).checked_sub(1) {
            Some(rest) => number = rest,
            None => break,
        }
    }
    letters.into_iter().rev().collect()
}

/// The style of a drawing, of a light page and, where the reader's is dark, a dark one. Every class begins with `nl-`, for the
/// drawing may stand in a page among others.
pub(super) fn style() -> String {
    let mut css = String::from(
        ".nl-page{fill:#ffffff}.nl{font-family:system-ui,'DejaVu Sans',Helvetica,Arial,sans-serif}\
         .nl text{fill:#1b2530}.nl .nl-m{font-family:ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace}\
         .nl .nl-soft{fill:#5b6875}.nl .nl-b{font-weight:600}.nl-block{fill:#eef1f4}.nl-moot{fill:#d8dee4}.nl .nl-in{fill:#10151a}\
         .nl-box{fill:#f6f8fa;stroke:#d0d7de}.nl-node{fill:#ffffff;stroke:#7a8794;stroke-width:1.2}.nl-many{stroke-dasharray:4 3}\
         .nl-bar{fill:#1b2530}.nl-wire{fill:none;stroke-width:1.6}",
    );
    let mut dark = String::from(
        ".nl-page{fill:#11161c}.nl text{fill:#e3e9ef}.nl .nl-soft{fill:#98a5b3}.nl-block{fill:#1c242d}.nl-moot{fill:#36424f}\
         .nl .nl-in{fill:#10151a}.nl-box{fill:#171e26;stroke:#323d49}.nl-node{fill:#212b36;stroke:#8896a5}.nl-bar{fill:#e3e9ef}",
    );
    for (index, [fill, line, line_in_the_dark]) in COLOURS.into_iter().enumerate() {
        let _ = write!(css, ".nl-f{index}{{fill:{fill}}}.nl-l{index}{{stroke:{line}}}.nl-a{index}{{fill:{line}}}");
        let _ = write!(dark, ".nl-l{index}{{stroke:{line_in_the_dark}}}.nl-a{index}{{fill:{line_in_the_dark}}}");
    }
    format!("{css}@media (prefers-color-scheme:dark){{{dark}}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_nothing_to_xml() {
        assert_eq!(xml("a<b>&\"'\u{0}\u{ffff}"), r"a&lt;b&gt;&amp;&quot;&#39;\u{0}\u{ffff}");
    }

    #[test]
    fn a_name_that_is_cut_keeps_both_ends() {
        assert_eq!(fitted("web", 3), "web");
        assert_eq!(fitted("checkout-frontend-7f9c", 11), "checko…7f9c");
        assert_eq!(fitted("名前名前名前名前", 9), "名前…名前");
        assert_eq!(fitted("ab", 1), "…");
    }

    #[test]
    fn lines_are_broken_between_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("onetwothree", 7), ["one…ree"].map(str::to_owned));
    }

    #[test]
    fn kinds_are_lettered_from_a_on() {
        assert_eq!([0, 1, 26, 27].map(|kind| letter(kind, true)), ["", "A", "Z", "AA"]);
        assert_eq!(letter(0, false), "A");
        assert_ne!(colour(1, true), colour(0, true));
        assert_ne!(colour(0, false), 0, "the colour of everything stands for nothing else");
    }
}
