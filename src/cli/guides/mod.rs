//! `netlatch help` and `netlatch man`: the guides and the commands' definitions, for a terminal and for man.

mod markdown;
pub(super) mod pages;
mod roff;
mod terminal;

use clap::Command;
use clap::builder::StyledStr;

use super::{Outcome, page, print, write};
use crate::docs::{GUIDES, guide};
use crate::document::suggest;
use crate::error::{Cause, Failure};

/// `netlatch help`.
#[derive(Debug, clap::Args)]
pub(super) struct Question {
    /// A guide, or a command with its own; without any, what there is
    #[arg(value_name = "TOPIC")]
    words: Vec<String>,
    /// Print the guide's Markdown as it is
    #[arg(long)]
    markdown: bool,
}

/// Lines that are longer are tiring to read.
const WIDEST: usize = 120;

/// Prints a guide, or what a command is about.
pub(super) fn help(mut command: Command, question: &Question) -> Result<Outcome, Failure> {
    if let [name] = &question.words[..]
        && let Some(guide) = guide(name)
    {
        if question.markdown {
            print(guide.text)?;
            return Ok(Outcome::Done);
        }
        // Bold is no colour, but who wants no colours has no use for escapes either.
        let (width, styled) = page::of_stdout();
        // Past the door that makes foreign text fit to be printed: the text is ours, and so are the escapes in it.
        write(&terminal::render(guide.text, width.min(WIDEST), styled))?;
        return Ok(Outcome::Done);
    }
    page::print_help(&of_command(&mut command, &question.words)?).map(|()| Outcome::Done)
}

/// The help of the command that is named by words, as it gives it itself.
fn of_command(command: &mut Command, words: &[String]) -> Result<StyledStr, Failure> {
    command.build();
    let (mut at, mut guides) = (&*command, GUIDES);
    for word in words {
        let Some(below) = at.find_subcommand(word) else {
            let names: Vec<&str> =
                guides.iter().map(|guide| guide.name).chain(at.get_subcommands().map(Command::get_name)).collect();
            let problem = format!("there is no guide and no command {word}{}", near(word, &names));
            return Err(Failure::new("print the help", Cause::Usage(problem)));
        };
        (at, guides) = (below, &[]);
    }
    let asking = ["netlatch"].into_iter().chain(words.iter().map(String::as_str)).chain(["--help"]);
    match command.try_get_matches_from_mut(asking) {
        Err(help) => Ok(help.render()),
        Ok(_) => Err(Failure::new("print the help", Cause::Internal("a command has no help".to_owned()))),
    }
}

/// `; did you mean a or b?`: those that have the word in them, and the one that differs by a slip.
fn near(word: &str, known: &[&str]) -> String {
    let lower = word.to_ascii_lowercase();
    let within = |name: &&&str| lower.len() > 2 && name.to_ascii_lowercase().contains(&lower);
    let mut near: Vec<&str> = known.iter().filter(within).copied().collect();
    near.extend(suggest(word, known.iter().copied()).filter(|slip| !near.contains(slip)));
    if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(" or ")) }
}

/// The guides as the help lists them.
pub(super) fn topics() -> String {
    let widest = GUIDES.iter().map(|guide| guide.name.len()).max().unwrap_or_default();
    GUIDES.iter().map(|guide| format!("  {:widest$}  {}\n", guide.name, guide.about)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_near_ones_are_those_that_hold_the_word_or_differ_by_a_slip() {
        let known = ["exit-codes", "configuration", "check", "limits"];
        for (word, said) in [
            ("exit", "; did you mean exit-codes?"),
            ("Config", "; did you mean configuration?"),
            ("limit", "; did you mean limits?"),
            ("chekc", "; did you mean check?"),
            ("i", ""),
            ("frobnicate", ""),
        ] {
            assert_eq!(near(word, &known), said, "{word}");
        }
    }
}
