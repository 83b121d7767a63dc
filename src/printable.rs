//! Strings that others chose, made fit to be printed: the one place that knows what could move a cursor, hide text or turn it
//! around.
//!
//! A container's author picks its id, annotations, labels and paths, a policy's author names, keys and values. Whoever reads
//! our output must see them as they are: a control sequence would be obeyed by the terminal, a newline would make one record
//! two, and a bidirectional mark shows `evil` where `live` is written (CVE-2021-42574). So all that leaves the program goes
//! through here once more, whatever came to the message: a failure's line, the log, `last-error`, every command's output.

use std::borrow::Cow;

/// Whether `c` is better not printed: a control or format character (bidirectional marks, joiners of no width, tags), a
/// separator other than the space, a private or unassigned one. `char::escape_debug` knows all of them, and takes marks that
/// combine with the character before for such, too: those are shown as they are.
fn is_odd(c: char) -> bool {
    !matches!(c, ' '..='~') && (c.is_control() || is_escaped(c) && !is_letter_mark(c))
}

fn is_escaped(c: char) -> bool {
    // Quotes and backslashes are two characters long, an escape more.
    c.escape_debug().len() > 2
}

/// Marks of ordinary writing that stand on the letter before: accents (U+0300), Indic vowels and their like are no danger.
fn is_letter_mark(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '\u{300}'..='\u{34e}' | '\u{350}'..='\u{36f}')
}

fn escaped(text: &str, keep: impl Fn(char) -> bool, write: impl Fn(&mut String, char)) -> Cow<'_, str> {
    let bad = |c: char| is_odd(c) && !keep(c);
    let Some(first) = text.find(bad) else { return Cow::Borrowed(text) };
    let mut safe = String::with_capacity(text.len() + 64);
    safe.push_str(&text[..first]);
    for c in text[first..].chars() {
        if bad(c) { write(&mut safe, c) } else { safe.push(c) }
    }
    Cow::Owned(safe)
}

fn write_rust(safe: &mut String, c: char) {
    safe.extend(c.escape_unicode());
}

/// One line: odd characters, newlines and tabs among them, become `\u{1b}`.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false, write_rust)
}

/// The same for text of our own that has lines and tabs.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| matches!(c, '\n' | '\t'), write_rust)
}

/// The same for JSON, which then means what it meant: inside a string an odd character is written as `\u001b`, and outside
/// of one it can only be white space.
pub fn json(text: &str) -> Cow<'_, str> {
    escaped(
        text,
        |c| c == '\n',
        |safe, c| match c {
            '\t' | '\r' => safe.push(' '),
            c => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| safe.push_str(&format!("\\u{unit:04x}"))),
        },
    )
}

/// How much of a path that others chose is shown in a message: a bundle's may be as long as the state that names it.
const PATH_SHOWN: usize = 200;

/// A path, or a name of the kind, whose middle is left out where it is over-long. Both ends tell one from another: engines put
/// their folder in front and the container's id behind.
pub fn path(text: &str) -> Cow<'_, str> {
    shortened(text, PATH_SHOWN)
}

/// At most `most` characters of a text, the middle left out.
fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    let (head, tail) = (most / 2, (most - 1) / 2);
    // Characters are not counted where there are not even as many bytes.
    if text.len() <= most || text.chars().nth(most).is_none() {
        return Cow::Borrowed(text);
    }
    let end = text.char_indices().nth(head).map_or(text.len(), |(at, _)| at);
    let start = text.char_indices().rev().nth(tail - 1).map_or(end, |(at, _)| at);
    Cow::Owned(format!("{}…{}", &text[..end], &text[start..]))
}

/// The columns of a terminal that nobody has widened.
pub const COLUMNS: usize = 80;

/// `head`, and the words of `text` behind it, in lines of at most [`COLUMNS`]: those behind the first begin with `indent` blanks.
/// A word that is longer stands alone. Both are made fit to be printed; every line ends with a newline.
pub fn wrapped(head: &str, text: &str, indent: usize) -> String {
    let (mut lines, text) = (line(head).into_owned(), line(text));
    let width = |text: &str| text.chars().count();
    let mut used = width(&lines);
    // As it was written where that fits, blanks and all.
    if used + width(&text) <= COLUMNS {
        return lines + &text + "\n";
    }
    let mut begun = true;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if !begun && used + 1 + width(word) > COLUMNS {
            lines.push('\n');
            lines.extend(std::iter::repeat_n(' ', indent));
            (used, begun) = (indent, true);
        }
        if !begun {
            lines.push(' ');
            used += 1;
        }
        lines.push_str(word);
        used += width(word);
        begun = false;
    }
    lines + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_long_keeps_both_ends() {
        for (text, most, shown) in [
            ("", 5, ""),
            ("abcde", 5, "abcde"),
            ("ééééé", 5, "ééééé"),
            ("abcdef", 5, "ab…ef"),
            ("éabcdefé", 6, "éab…fé"),
            ("abcdefgh", 3, "a…h"),
        ] {
            assert_eq!(shortened(text, most), shown);
        }
        let long = path(&format!("/run/{}/config.json", "x".repeat(1 << 20))).into_owned();
        assert_eq!(long.chars().count(), PATH_SHOWN);
        assert!(long.starts_with("/run/xxx") && long.ends_with("xxx/config.json"), "{long}");
    }

    #[test]
    fn words_go_to_the_next_line_where_they_do_not_fit() {
        assert_eq!(wrapped("  a  ", "b   c", 4), "  a  b   c\n");
        let long = "x".repeat(COLUMNS);
        assert_eq!(wrapped("", &format!("a   {long} b\nc"), 2), format!("a\n  {long}\n  b\\u{{a}}c\n"));
        let words = "word ".repeat(40);
        let lines = wrapped("  name       ", &words, 13);
        assert!(lines.lines().all(|line| line.len() <= COLUMNS && !line.ends_with(' ')), "{lines}");
        assert!(lines.lines().skip(1).all(|line| line.starts_with(&format!("{}word", " ".repeat(13)))), "{lines}");
        assert_eq!(lines.matches("word").count(), 40);
    }

    #[test]
    fn what_could_move_a_terminal_or_turn_text_is_escaped() {
        assert_eq!(line("a\nb\u{1b}[31m\u{202e}c\u{2028}é"), r"a\u{a}b\u{1b}[31m\u{202e}c\u{2028}é");
        let bidi = ['\u{61c}', '\u{200e}', '\u{200f}', '\u{202a}', '\u{202e}', '\u{2066}', '\u{2069}'];
        let hidden = ['\u{200b}', '\u{200d}', '\u{feff}', '\u{ad}', '\u{e0041}', '\u{fe0f}', '\u{34f}', '\u{e000}'];
        let control = ['\0', '\u{7}', '\u{7f}', '\u{9b}', '\u{85}', '\r', '\u{2029}'];
        for c in bidi.into_iter().chain(hidden).chain(control) {
            let shown = line(&format!("a{c}b")).into_owned();
            assert_eq!(shown, format!("a\\u{{{:x}}}b", u32::from(c)));
            assert_eq!(line(&shown), shown, "escaping twice is escaping once");
        }
    }

    #[test]
    fn writing_of_people_is_left_as_it_is() {
        for text in ["", "plain \"quoted\" \\ text", "größe", "e\u{301}te\u{301}", "имя", "名前", "नाम", "שם", "✓"]
        {
            assert!(matches!(line(text), Cow::Borrowed(same) if same == text), "{text:?}: {}", line(text));
        }
        assert_eq!(lines("a\tb\nc\r"), "a\tb\nc\\u{d}");
    }

    #[test]
    fn json_means_what_it_meant() {
        let text = "{\"a\u{202e}\u{7f}\": \t\"\u{1f600}\u{e0041}\"}\r\n";
        let safe = json(text);
        assert_eq!(safe, "{\"a\\u202e\\u007f\":  \"\u{1f600}\\udb40\\udc41\"} \n");
        let values = [text, &safe].map(|text| serde_json::from_str::<serde_json::Value>(text).unwrap());
        assert_eq!(values[0], values[1]);
    }
}
