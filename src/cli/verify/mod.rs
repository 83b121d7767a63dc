//! `netlatch verify`: the kernel against what was recorded, and who runs without having come through the hook.
//!
//! A container is a problem where its rules, sysctls or `lo` are not those of its plan, and where something says that it should
//! have come through the hook and it did not: its config.json names the hook, it carries annotations of ours, or a hook file
//! for every container lies where podman and CRI-O look. All others are named as "without netlatch", and are nobody's mistake
//! unless `--strict` says so. Whoever lives in a network namespace of which nothing tells that is looked at is named as well. Nothing is
//! changed.

mod drift;
mod found;
mod looking;
mod print;
mod processes;

use std::collections::BTreeSet;
use std::path::PathBuf;

use self::found::{Found, Kept, Running, StateDir};
use self::looking::Looking;
use self::print::{State, Verified};
use super::load::ConfigFile;
use super::page::Look;
use super::{Outcome, doctor, print as put, print_json};
use crate::error::Failure;
use crate::kernel::capability;
use crate::kernel::process::{self, Deadline};
use crate::printable;
use crate::registry::{RUN_DIR, Record, Records, Registry};

/// How long the whole may take: with a thousand containers each is visited.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(120);

/// Longest state file of a runtime in bytes. runc's has the whole configuration in it.
pub const MAX_STATE_FILE: usize = 16 << 20;
/// Most containers of one folder that are looked at.
pub const MAX_FOUND: usize = 20_000;

/// The command line, as clap reads it.
#[derive(Debug, clap::Args)]
pub(super) struct Question {
    /// The container, by its id or a beginning that no other shares
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    id: Option<String>,
    /// Every container that runs, recorded or not
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Containers that nothing asks to come through the hook count as problems too
    #[arg(long)]
    strict: bool,
    /// Where a runtime keeps its containers, in place of the usual folders: runc, crun, youki, containerd or storage (podman's and
    /// CRI-O's run root)
    #[arg(long = "state-dir", value_name = "NAME=DIR", value_parser = StateDir::parse)]
    state_dirs: Vec<StateDir>,
    /// Where podman and CRI-O read hook files
    #[arg(long, value_name = "DIR", default_value = doctor::HOOKS_D)]
    hooks_dir: String,
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The state directory
    #[arg(long, value_name = "DIR", default_value = RUN_DIR)]
    run_dir: PathBuf,
    #[command(flatten)]
    look: Look,
}

/// What the help says beyond its options.
pub(super) const HELP: &str = "\
Examples:
  netlatch verify web
  netlatch verify --all
  netlatch verify --all --state-dir runc=/run/mine

The exit code is 1 where a container has other rules, sysctls or another lo than it started with, where one that should have come \
through the hook did not, and where one cannot be looked at.";

/// Answers.
pub(super) fn run(question: &Question) -> Result<Outcome, Failure> {
    process::lock_down()?;
    capability::require(&capability::REQUIRED, "look into a container's network")?;
    let deadline = Deadline::after(DEADLINE);
    let registry = Registry::at(&question.run_dir);
    let Records { read: records, damaged } = registry.records()?;
    let usual = question.state_dirs.is_empty();
    let (mut dirs, mut kept) = (question.state_dirs.clone(), Vec::new());
    if usual {
        let (told, monitored) = processes::told();
        dirs = [StateDir::defaults(), told].concat();
        kept = monitored;
    }
    let for_all = doctor::hook_file_for_all(&question.hooks_dir);
    let elsewhere = Elsewhere { dirs: &dirs, kept: &kept, for_all, usual };
    let mut looking = Looking::begin(registry, &ConfigFile::new(question.config.clone()), deadline)?;
    let mut all = match &question.id {
        Some(id) => {
            let found = one(id, &records, &elsewhere, &mut looking);
            if found.is_empty() && !damaged.contains(id) {
                let said = format!(
                    "no container {id:?} is recorded or runs, or several begin so; `netlatch verify --all` lists them"
                );
                put(&format!("{}\n", printable::line(&said)))?;
                return Ok(Outcome::Found);
            }
            found
        }
        None => everybody(&records, &elsewhere, &mut looking),
    };
    // Of whom nothing is known, nobody says that all is well.
    let asked = damaged.into_iter().filter(|damaged| question.id.as_ref().is_none_or(|id| id == damaged));
    all.extend(asked.map(Verified::damaged));
    if question.json {
        print_json(&format!("{:#}\n", print::json(&all)))?;
    } else {
        let mut page = question.look.page();
        print::text(&all, &mut page);
        page.print()?;
    }
    let is_problem =
        |one: &Verified| one.state.is_problem() || question.strict && matches!(one.state, State::Without(_));
    Ok(if all.iter().any(is_problem) { Outcome::Found } else { Outcome::Done })
}

/// The container of this id; else the only one whose id begins so, as engines take it. None where there is no such one.
fn one(id: &str, records: &[Record], elsewhere: &Elsewhere<'_>, looking: &mut Looking) -> Vec<Verified> {
    let begins = |other: &str| !id.is_empty() && other.starts_with(id);
    let matching: Vec<&Record> = records.iter().filter(|record| begins(&record.id)).collect();
    let Running { found, unread } = found::running(elsewhere.dirs, elsewhere.kept);
    if let Some(record) = matching.iter().find(|record| record.id == id).or(matching.first()) {
        if record.id != id && matching.len() > 1 {
            return Vec::new();
        }
        // One that was started again without the hook has the record of its former life.
        let again = found.iter().find(|found| found.id == record.id).filter(|_| !looking.runs(&record.id));
        return vec![match again {
            Some(found) => elsewhere.unrecorded(found, looking),
            None => looking.recorded(record),
        }];
    }
    let exact = found.iter().filter(|found| found.id == id);
    let found: Vec<_> = exact.chain(found.iter().filter(|found| begins(&found.id) && found.id != id)).collect();
    match found.as_slice() {
        [first, rest @ ..] if first.id == id || rest.is_empty() => vec![elsewhere.unrecorded(first, looking)],
        // What is kept of it may be what cannot be read.
        [] => unread.into_iter().filter(|unread| unread.id == id).map(Verified::from).collect(),
        [_, ..] => Vec::new(),
    }
}

/// What is known of containers beside our own records.
struct Elsewhere<'q> {
    dirs: &'q [StateDir],
    kept: &'q [Kept],
    /// Nobody has named the folders, so that all processes are looked at as well.
    usual: bool,
    /// The hook file that is meant for every container of podman's and CRI-O's.
    for_all: Option<String>,
}

impl Elsewhere<'_> {
    fn unrecorded(&self, found: &Found, looking: &Looking) -> Verified {
        looking.unrecorded(found, self.for_all.as_deref())
    }
}

fn everybody(records: &[Record], elsewhere: &Elsewhere<'_>, looking: &mut Looking) -> Vec<Verified> {
    // Whoever has ended without a poststop is `netlatch reload`'s affair.
    let running = records.iter().filter(|record| looking.runs(&record.id)).collect::<Vec<_>>();
    let mut all: Vec<Verified> = running.iter().map(|record| looking.recorded(record)).collect();
    let ids: BTreeSet<&str> = running.iter().map(|record| record.id.as_str()).collect();
    let pids: BTreeSet<i32> = running.iter().filter_map(|record| record.pid).collect();
    let Running { found, unread } = found::running(elsewhere.dirs, elsewhere.kept);
    let mut known: BTreeSet<_> = found.iter().filter_map(|found| processes::netns(found.pid)).collect();
    known.extend(running.iter().filter_map(|record| looking.netns(&record.id)));
    for found in found {
        if !ids.contains(found.id.as_str()) && !pids.contains(&found.pid) {
            all.push(elsewhere.unrecorded(&found, looking));
        }
    }
    all.extend(unread.into_iter().filter(|unread| !ids.contains(unread.id.as_str())).map(Verified::from));
    if elsewhere.usual {
        let strangers = processes::elsewhere(&|netns| known.contains(&netns) || looking.is_own(netns));
        all.extend(strangers.into_iter().map(|(pid, comm)| looking.nobodys(pid, &comm)));
    }
    // One may end while others are looked at.
    all.retain(|one| one.state != State::Ended);
    all
}
