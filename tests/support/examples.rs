//! The fenced blocks of README and of the guides, and what is done with each.
//!
//! A comment before a block says what its language does not:
//!
//! ```text
//! <!-- not run: WHY -->    nobody tries it
//! <!-- file: NAME -->      what NAME holds when later commands of the document run
//! <!-- fails -->           a command that is to end with an error
//! ```
//!
//! A `text` block right behind an `sh` block is what the commands print. There `…` stands for anything within a line, and a line
//! of nothing else for any lines.

use std::fs;
use std::path::Path;
use std::process::Output;

use netlatch::docs::GUIDES;

/// A fenced block.
#[derive(Debug)]
pub(crate) struct Example {
    /// `policies.md:12`
    pub(crate) place: String,
    /// What stands behind the fence's mark.
    pub(crate) language: String,
    /// What is in it.
    pub(crate) text: String,
    /// What the comment before it says.
    pub(crate) mark: Option<Mark>,
    /// What its commands print.
    pub(crate) printed: Option<String>,
}

/// A comment before a block.
#[derive(Debug)]
pub(crate) enum Mark {
    NotRun(String),
    File(String),
    Fails,
}

impl Mark {
    fn of(line: &str) -> Option<Mark> {
        let inner = line.strip_prefix("<!-- ")?.strip_suffix(" -->")?;
        match inner.split_once(": ") {
            Some(("not run", why)) => Some(Mark::NotRun(why.to_owned())),
            Some(("file", name)) => Some(Mark::File(name.to_owned())),
            None if inner == "fails" => Some(Mark::Fails),
            Some(_) | None => panic!("no mark of an example: {line}"),
        }
    }
}

/// Every document for users, by its name.
pub(crate) fn documents() -> Vec<(String, String)> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = ("README".to_owned(), fs::read_to_string(readme).expect("README.md"));
    let guides = GUIDES.iter().map(|guide| (guide.name.to_owned(), guide.text.to_owned()));
    std::iter::once(readme).chain(guides).collect()
}

/// Whether a document's commands are for a machine: they install things and start containers.
pub(crate) fn is_for_a_machine(document: &str) -> bool {
    document == "README" || document.starts_with("recipe-")
}

/// The blocks of a document.
pub(crate) fn examples(name: &str, text: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let (mut mark, mut apart) = (None, true);
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        if line.starts_with("<!--") {
            mark = Mark::of(line);
        } else if let Some(language) = line.strip_prefix("```") {
            let inner: String = lines
                .by_ref()
                .map(|(_, line)| line)
                .take_while(|line| *line != "```")
                .map(|line| format!("{line}\n"))
                .collect();
            let place = format!("{name}.md:{}", index + 1);
            let mark = mark.take();
            match examples.last_mut() {
                Some(before) if language == "text" && before.language == "sh" && !apart && mark.is_none() => {
                    before.printed = Some(inner);
                }
                Some(_) | None => {
                    let language = language.to_owned();
                    examples.push(Example { place, language, text: inner, mark, printed: None });
                }
            }
            apart = false;
        } else if !line.trim().is_empty() {
            apart = true;
            assert!(mark.is_none(), "{name}.md:{}: a mark before no block", index + 1);
        }
    }
    examples
}

impl Example {
    /// The commands have ended as the document says, and printed what it shows.
    pub(crate) fn judge(&self, output: &Output) {
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let fails = matches!(self.mark, Some(Mark::Fails));
        assert_eq!(output.status.success(), !fails, "{}: {}\n{said}", self.place, self.text);
        if let Some(printed) = &self.printed {
            let (wanted, got): (Vec<&str>, Vec<&str>) =
                (printed.lines().collect(), said.lines().map(str::trim_end).collect());
            assert!(agree(&wanted, &got), "{}: {}\n--- shown\n{printed}--- printed\n{said}", self.place, self.text);
        }
    }
}

/// Whether lines are as they are shown.
fn agree(shown: &[&str], printed: &[&str]) -> bool {
    match (shown.split_first(), printed.split_first()) {
        (None, _) => printed.is_empty(),
        (Some((&"…", rest)), _) => (0..=printed.len()).any(|skipped| agree(rest, &printed[skipped..])),
        (Some(_), None) => false,
        (Some((line, shown)), Some((said, printed))) => agrees(line, said) && agree(shown, printed),
    }
}

fn agrees(shown: &str, printed: &str) -> bool {
    let mut parts = shown.split('…');
    let Some(mut rest) = printed.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some((_, behind)) = rest.split_once(part) else { return false };
        rest = behind;
    }
    rest.ends_with(last)
}
