//! `netlatch inspect`: what the kernel holds of a container now, what came of each rule and who was denied why, against what was
//! recorded and what would be loaded today; and what none of it covers. It changes nothing: no rule, no record, no roster.

pub(super) mod denied;
mod json;
mod layers;
pub(super) mod looking;
pub(super) mod report;
mod text;
mod watch;

pub(super) use json::denied as denied_json;
pub(super) use text::entry;
use text::unknown;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use self::looking::Looking;
use self::report::{Now, Report};
use super::output::{Output, Printed};
use super::page::Look;
use super::{Outcome, print as put, print_json};
use crate::error::Failure;
use crate::kernel::capability;
use crate::kernel::process;
use crate::registry::{RUN_DIR, Records, Registry};

/// The command line, as clap reads it.
#[derive(Debug, clap::Args)]
pub(super) struct Question {
    /// The container, by its id or a beginning that no other shares; without it, one line for each that is recorded
    id: Option<String>,
    /// The rules as the kernel has them, too, and every sysctl
    #[arg(long, requires = "id")]
    rules: bool,
    /// Go on and show what changes, looking again every so many seconds
    #[arg(long, short = 'w', value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2")]
    #[arg(requires = "id")]
    watch: Option<NonZeroU32>,
    #[command(flatten)]
    printed: Printed,
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
  netlatch inspect
  netlatch inspect web
  netlatch inspect web --watch
  netlatch inspect web --watch=10 --json

Rules are read from the kernel, with what they have counted: of packets that begin a flow, for those of established ones \
are let through before any list is asked. Who was denied lately is told with what denies it. \"not covered\" is what no rule \
governs, told from the container's bundle. The exit code is 1 where no such container is recorded, or it has ended.

With --watch a terminal is painted anew each time; elsewhere the whole is printed once and then a line for each change, with \
the seconds since the beginning; with --json one object a line each time. It goes on until the container has ended (exit \
code 1), or SIGINT, SIGTERM or a reader that went away ends it (0).";

/// Answers.
pub(super) fn run(question: &Question) -> Result<Outcome, Failure> {
    process::lock_down()?;
    // Before the records, which others cannot read: who may not know must not be told that there are none.
    capability::require(&capability::REQUIRED, "look into a container's network")?;
    if let (Some(id), Some(seconds)) = (&question.id, question.watch) {
        return watch::watch(question, id, seconds);
    }
    let registry = Registry::at(&question.run_dir);
    let (Records { read, damaged }, whole) = match &question.id {
        None => (registry.records()?, false),
        Some(id) => match known(&registry, id, &question.run_dir)? {
            Some(records) => (records, true),
            None => return Ok(Outcome::Found),
        },
    };
    let mut looking = Looking::begin(registry.clone(), question.config.clone(), &read)?;
    let reports: Vec<Report> = read.into_iter().map(|record| looking.report(record)).collect();
    match (whole, question.printed.output()) {
        (true, Output::Text) => {
            let mut page = question.look.page();
            reports.iter().for_each(|report| text::whole(&mut page, report, question.rules));
            page.print()?;
        }
        (true, Output::Json) => {
            print_json(&reports.iter().map(|one| format!("{:#}\n", json::whole(one))).collect::<String>())?;
        }
        (false, Output::Text) if reports.is_empty() && !damaged.is_empty() => {}
        (false, Output::Text) => {
            let mut page = question.look.page();
            text::table(&mut page, &reports);
            page.print()?;
        }
        (false, Output::Json) => print_json(&format!("{:#}\n", json::list(&reports)))?,
    }
    registry.none_damaged(&damaged)?;
    let ended = whole && reports.iter().any(|report| !matches!(report.now, Now::Runs(_)));
    Ok(if ended { Outcome::Found } else { Outcome::Done })
}

/// The record of the container that is meant; `None` where it was said that none is, or which could be.
pub(super) fn known(registry: &Registry, id: &str, run_dir: &Path) -> Result<Option<Records>, Failure> {
    match chosen(registry.records()?, id) {
        Ok(meant) => Ok(Some(meant)),
        Err(begin_so) => {
            put(&unknown(id, &begin_so, run_dir))?;
            Ok(None)
        }
    }
}

/// The record of the container of this id; else of the only one whose id begins so, as engines take it. Otherwise the ids of
/// those that do, of which there are none or several.
fn chosen(records: Records, id: &str) -> Result<Records, Vec<String>> {
    let Records { read, damaged } = records;
    let ids = || read.iter().map(|record| &record.id).chain(&damaged);
    let exact = ids().any(|one| one == id);
    let means = |one: &&String| if exact { *one == id } else { !id.is_empty() && one.starts_with(id) };
    let meant: Vec<String> = ids().filter(means).cloned().collect();
    let [only] = meant.as_slice() else { return Err(meant) };
    Ok(Records {
        read: read.into_iter().filter(|record| record.id == *only).collect(),
        damaged: damaged.into_iter().filter(|one| one == only).collect(),
    })
}
