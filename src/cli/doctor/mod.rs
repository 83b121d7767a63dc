//! `netlatch doctor`: whether containers really come through the hook on this machine, and what to do where they do not.
//!
//! Engines pass over a hook in silence in many ways: a program that is missing, a folder that is not read, a daemon that was not
//! restarted. Nothing is changed, and no container is looked at: that is `netlatch verify`.

mod call;
mod engines;
mod hook_files;
mod machine;
mod processes;
mod program;
mod report;
mod runtimes;
mod specs;
mod tree;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use self::engines::Folders;
use self::hook_files::HookFile;
use self::report::{Group, Report, Verdict};
use self::tree::{ROOT, Tree};
use super::page::Look;
use super::{Outcome, check, print_json};
use crate::document::MAX_BYTES;
use crate::error::Failure;
use crate::kernel::files::{ReadError, Trust, read_regular};
use crate::kernel::process;
use crate::registry::RUN_DIR;
use crate::settings::{DEFAULT_FILE, DEFAULT_POLICIES};

/// Longest file that is looked at, in bytes. Engines' configurations and hook files are some kilobytes.
pub const MAX_SYSTEM_FILE: usize = 4 << 20;
/// Most names of a folder that are looked at.
pub const MAX_NAMES: usize = 10_000;
/// Most that is read of what a program says of itself, in bytes. `runc features` says some ten kilobytes.
pub const MAX_SAID: usize = 1 << 20;

/// The command line, as clap reads it.
#[derive(Debug, clap::Args)]
pub(super) struct Question {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Exit with 1 on warnings too
    #[arg(long)]
    strict: bool,
    /// A folder to take for /: its files are looked at, and neither this kernel nor any program is asked
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// The state directory
    #[arg(long, value_name = "DIR", default_value = RUN_DIR)]
    run_dir: PathBuf,
    #[command(flatten)]
    look: Look,
}

/// What the help says beyond its options.
pub(super) const HELP: &str = "\
Kernel features are tried in a network namespace of their own, where nobody is. Runtimes and engines are asked what they are by \
the path they were found at. Each finding says what to do.

The exit code is 1 where there is a problem: containers start unprotected, or do not start.";

/// Where podman and CRI-O read hook files unless told otherwise.
pub(super) const HOOKS_D: &str = engines::DEFAULT_FOLDER;

/// The hook file in a folder of this machine's that calls the hook for every container.
pub(super) fn hook_file_for_all(folder: &str) -> Option<String> {
    let files = HookFile::of_folder(folder, &ROOT, &Tree::at(None).ok()?);
    files.into_iter().find(|file| file.is_for_all() && file.serves("createRuntime")).map(|file| file.path)
}

/// Whether a hook of a config.json calls this program.
pub(super) fn calls_us(hook: &serde_json::Value) -> bool {
    call::Call::of(hook).is_some()
}

/// What calls name.
#[derive(Debug, Default)]
struct Programs {
    /// Programs that were looked at, and what comes of it where they are missing.
    judged: BTreeSet<(String, &'static str)>,
    told: BTreeSet<Told>,
}

/// What a call says beside the stage.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Told {
    /// `--config`.
    config: Option<String>,
    /// `--run-dir`.
    run_dir: Option<String>,
}

/// Answers.
pub(super) fn run(question: &Question) -> Result<Outcome, Failure> {
    process::lock_down()?;
    let tree = Tree::at(question.root.as_deref())?;
    let mut report = Report::default();
    machine::kernel(&tree, &mut report);
    machine::capabilities(&tree, &mut report);
    runtimes::ask(&tree, &mut report);
    let mut programs = Programs::default();
    let devices = specs::devices(&tree, &mut report);
    let folders = engines::ask(&tree, &devices, &mut programs, &mut report);
    hook_files(&folders, &tree, &mut programs, &mut report);
    devices.iter().for_each(|spec| spec.judge(&tree, &mut programs, &mut report));
    Programs::commands(&tree, &mut report);
    let told = programs.told;
    // Where every call names another one, nobody reads the default.
    let configs: BTreeSet<&str> = told.iter().map(|told| told.config.as_deref().unwrap_or(DEFAULT_FILE)).collect();
    let configs = if configs.is_empty() { BTreeSet::from([DEFAULT_FILE]) } else { configs };
    configs.iter().for_each(|file| configuration(file, &tree, &mut report));
    policies(&configs, &tree, &mut report);
    let asked = question.run_dir.to_str();
    let run_dirs: BTreeSet<Option<&str>> =
        told.iter().map(|told| told.run_dir.as_deref().or(asked)).chain([asked]).collect();
    run_dirs.iter().for_each(|path| state(*path, &tree, &mut report));
    if question.json {
        print_json(&format!("{:#}\n", report.json()))?;
    } else {
        let mut page = question.look.page();
        report.text(&mut page);
        page.print()?;
    }
    let found = match report.worst() {
        Verdict::Problem => true,
        Verdict::Warning => question.strict,
        Verdict::Ok | Verdict::NotApplicable => false,
    };
    Ok(if found { Outcome::Found } else { Outcome::Done })
}

fn hook_files(folders: &Folders, tree: &Tree, programs: &mut Programs, report: &mut Report) {
    if !folders.files.iter().any(|file| file.is_ours()) {
        report.not_applicable(Group::HookFiles, "hook files", "none of netlatch's");
    }
    // Without an engine that reads hook files, those that lie there are not read by anybody.
    for file in &folders.files {
        let read = folders.read.contains(&file.folder);
        file.judge(read, tree, programs, report);
    }
}

/// What a start on this machine would read.
fn configuration(file: &str, tree: &Tree, report: &mut Report) {
    const GROUP: Group = Group::Configuration;
    let refused = if tree.is_live() {
        match read_regular(Path::new(file), (MAX_BYTES, "MAX_BYTES"), Trust::Guarded) {
            Ok(_) | Err(ReadError::Missing) => None,
            Err(error) => Some(error.to_string()),
        }
    } else {
        tree.changeable(file)
    };
    // What is not believed, or cannot be read, stops every start.
    match refused {
        Some(why) => {
            let finding = format!("{why}: no container with the hook starts");
            report.problem(GROUP, "configuration", finding, "mend the file or its rights");
            report.found_in(tree.shown(file));
        }
        // One that a call names and that is not there is said of the call.
        None if tree.about(file).is_none() && file != DEFAULT_FILE => return,
        None if tree.about(file).is_none() => {
            report.ok(GROUP, "configuration", format!("there is no {file}, so built-in defaults hold"));
        }
        None => report.ok(GROUP, "configuration", tree.shown(file)),
    }
    let root = (!tree.is_live()).then(|| tree.below("/"));
    let (errors, warnings) = check::installed(root.as_deref(), Path::new(file));
    for error in &errors {
        let remedy = "no container with the hook starts until it is mended; see `netlatch check`";
        report.problem(GROUP, "check", error.to_string(), remedy);
    }
    for warning in &warnings {
        report.warning(GROUP, "check", warning.to_string(), "see `netlatch check`");
    }
    if errors.is_empty() && warnings.is_empty() {
        report.ok(GROUP, "check", "nothing found in the configuration and the policies");
    }
}

/// The folder that is read where no configuration names another.
fn policies(configs: &BTreeSet<&str>, tree: &Tree, report: &mut Report) {
    const GROUP: Group = Group::Configuration;
    if configs.contains(DEFAULT_FILE)
        && tree.about(DEFAULT_POLICIES).is_some()
        && let Some(who) = tree.changeable(DEFAULT_POLICIES)
    {
        let finding = format!("{who}: no container with the hook starts");
        report.problem(GROUP, "policies", finding, "make the folder root's alone (chown root:root, chmod go-w)");
        report.found_in(tree.shown(DEFAULT_POLICIES));
    }
}

/// The state directory; `None` where its name is no text.
fn state(path: Option<&str>, tree: &Tree, report: &mut Report) {
    const GROUP: Group = Group::Configuration;
    const QUESTION: &str = "state directory";
    let Some(path) = path else {
        return report.warning(GROUP, QUESTION, "its name is not UTF-8", "name another one");
    };
    let shown = tree.shown(path);
    let stops = |why: &str| format!("{shown}: {why}; no container with the hook starts");
    match tree.about(path) {
        Some(about) if !about.is_folder() => report.problem(GROUP, QUESTION, stops("it is no folder"), "take it away"),
        Some(_) => match tree.changeable(path) {
            Some(who) => {
                report.problem(GROUP, QUESTION, stops(&who), "make it root's alone (chown root:root, chmod 700)")
            }
            None => match tree.unwritable(path) {
                Some(why) => report.problem(GROUP, QUESTION, stops(why), "make room there, or mount it to be written"),
                None => report.ok(GROUP, QUESTION, shown.clone()),
            },
        },
        None => match tree.unwritable(path) {
            Some(why) => report.problem(GROUP, QUESTION, stops(why), "make room there, or mount it to be written"),
            None => report.ok(GROUP, QUESTION, format!("{shown} is not there; the first start makes it")),
        },
    }
}
