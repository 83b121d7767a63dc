//! The man pages: one for each command, made of its definition, and one for each guide.

use std::path::Path;

use clap::Command;

use super::near;
use super::roff::{escaped, guarded, literal, page};
use crate::cli::args::FOUND;
use crate::cli::{Outcome, print};
use crate::docs::GUIDES;
use crate::error::{Cause, EXIT_INTERNAL, EXITS, Failure, errno_of};

const DOING: &str = "print the man page";

/// `netlatch man`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Question {
    /// Which page: a command (`check`), a guide (`policies`) or a file as --list has it; without it, netlatch(1)
    page: Option<String>,
    /// Write all pages below this folder, into man1, man5 and man7
    #[arg(long, value_name = "DIR", conflicts_with = "page")]
    dir: Option<std::path::PathBuf>,
    /// List all pages, as files of a folder for man pages
    #[arg(long, conflicts_with_all = ["page", "dir"])]
    list: bool,
}

/// A page: its name without the section's number, the section, and its source.
struct Page {
    name: String,
    section: char,
    text: String,
}

impl Page {
    fn file(&self) -> String {
        format!("man{0}/{1}.{0}", self.section, self.name)
    }

    fn is(&self, wanted: &str) -> bool {
        let short = self.name.strip_prefix("netlatch-").unwrap_or(&self.name);
        wanted == self.file()
            || wanted == self.name
            || wanted == short
            || wanted == format!("{}.{}", self.name, self.section)
    }
}

/// The page of a guide: the one about the configuration file goes by the file's.
pub(super) fn title_of_guide(name: &str) -> (String, char) {
    if name == "configuration" { ("netlatch.yaml".to_owned(), '5') } else { (format!("netlatch-{name}"), '7') }
}

/// Prints or writes pages.
pub(in crate::cli) fn run(command: Command, question: &Question) -> Result<Outcome, Failure> {
    let pages = pages(command)?;
    if let Some(dir) = &question.dir {
        for page in &pages {
            write(&dir.join(page.file()), &page.text)?;
        }
    } else if question.list {
        print(&pages.iter().map(|page| page.file() + "\n").collect::<String>())?;
    } else {
        let wanted = question.page.as_deref().unwrap_or("netlatch");
        let guide = |page: &&Page| wanted == "configuration" && page.name == "netlatch.yaml";
        let found = pages.iter().find(|page| page.is(wanted)).or_else(|| pages.iter().find(guide));
        let Some(page) = found else {
            let names: Vec<&str> = pages.iter().map(|page| page.name.trim_start_matches("netlatch-")).collect();
            let problem = format!("there is no page {wanted}{}; see `netlatch man --list`", near(wanted, &names));
            return Err(Failure::new(DOING, Cause::Usage(problem)));
        };
        print(&page.text)?;
    }
    Ok(Outcome::Done)
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::new("write the man page", Cause::Io { path: path.display().to_string(), errno: errno_of(&error) })
    };
    path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(failed)?;
    std::fs::write(path, text).map_err(failed)
}

/// All of them, the main one first.
fn pages(command: Command) -> Result<Vec<Page>, Failure> {
    // What clap adds to commands that have some of their own.
    let mut command = command.mut_subcommands(|command| command.disable_help_subcommand(true));
    command.build();
    let mut pages = Vec::new();
    of_commands(&command, "netlatch", &mut pages)?;
    for guide in GUIDES {
        let (name, section) = title_of_guide(guide.name);
        let mut text = page(&name, section, guide.about, guide.text);
        text.push_str(&see_also(&name));
        pages.push(Page { name, section, text });
    }
    Ok(pages)
}

fn of_commands(command: &Command, name: &str, pages: &mut Vec<Page>) -> Result<(), Failure> {
    let main = pages.is_empty();
    let man = clap_mangen::Man::new(command.clone())
        .title(name)
        .source(concat!("netlatch ", env!("CARGO_PKG_VERSION")))
        .manual("Netlatch");
    let mut text = Vec::new();
    let rendered = man
        .render_title(&mut text)
        .and_then(|()| man.render_name_section(&mut text))
        .and_then(|()| man.render_synopsis_section(&mut text))
        .and_then(|()| man.render_description_section(&mut text))
        .and_then(|()| man.render_options_section(&mut text))
        .and_then(|()| if command.has_subcommands() { man.render_subcommands_section(&mut text) } else { Ok(()) });
    rendered.map_err(|error| Failure::new(DOING, Cause::Internal(error.to_string())))?;
    let mut text = String::from_utf8_lossy(&text).replace(".SH SUBCOMMANDS\n", ".SH COMMANDS\n");
    if main {
        text.push_str(".SH \"EXIT STATUS\"\n");
        let found = [(0, "done"), (1, FOUND)].into_iter();
        let others = EXITS.iter().chain([&EXIT_INTERNAL]).map(|exit| (exit.code, exit.meaning));
        for (code, meaning) in found.chain(others) {
            text.push_str(&format!(".TP\n{code}\n{}\n", guarded(&escaped(meaning))));
        }
    } else if let Some(notes) = command.get_after_long_help().or_else(|| command.get_after_help()) {
        text.push_str(".SH NOTES\n");
        text.push_str(&notes_of(&notes.to_string()));
    }
    text.push_str(&see_also(name));
    pages.push(Page { name: name.to_owned(), section: '1', text });
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        of_commands(below, &format!("{name}-{}", below.get_name()), pages)?;
    }
    Ok(())
}

/// What stands below a command's help: indented lines as they are, others filled.
fn notes_of(notes: &str) -> String {
    let mut out = String::new();
    let mut lines = notes.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with(' ') {
            let mut as_they_are = vec![line];
            while let Some(line) = lines.next_if(|line| line.starts_with(' ')) {
                as_they_are.push(line);
            }
            literal(&as_they_are, &mut out);
        } else if !line.is_empty() {
            out.push_str(&format!(".PP\n{}\n", guarded(&escaped(line))));
        }
    }
    out
}

/// The other pages: of the main one all guides, of others the main one.
fn see_also(name: &str) -> String {
    let guides = GUIDES.iter().map(|guide| title_of_guide(guide.name));
    let main = [("netlatch".to_owned(), '1')].into_iter();
    let others: Vec<String> = main
        .chain(guides)
        .filter(|(other, section)| other != name && (name == "netlatch" || *section != '7'))
        .map(|(other, section)| format!("\\fB{}\\fR({section})", escaped(&other)))
        .collect();
    format!(".SH \"SEE ALSO\"\n{}\n", others.join(",\n"))
}
