//! `netlatch inspect`: what the kernel holds of a container now, against what was recorded and what would be loaded today,
//! and what none of it covers. It changes nothing: no rule, no record, no roster.

mod json;
mod looking;
mod report;
mod text;

use std::path::PathBuf;

use self::looking::Looking;
use self::report::{Now, Report};
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
    /// For people or for programs
    #[arg(long, short = 'o', value_enum, default_value_t)]
    output: Output,
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The state directory
    #[arg(long, value_name = "DIR", default_value = RUN_DIR)]
    run_dir: PathBuf,
}

/// How the answer is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// What the help says beyond its options.
pub(super) const HELP: &str = "\
Examples:
  netlatch inspect
  netlatch inspect web
  netlatch inspect web --output json

Rules are read from the kernel, with what they have counted. \"not covered\" is what no rule governs, told from the \
container's bundle. The exit code is 1 where no such container is recorded, or it has ended.";

/// Answers.
pub(super) fn run(question: &Question) -> Result<Outcome, Failure> {
    process::lock_down()?;
    // Before the records, which others cannot read: who may not know must not be told that there are none.
    capability::require(&capability::REQUIRED, "look into a container's network")?;
    let registry = Registry::at(&question.run_dir);
    let mut records = registry.records()?;
    if let Some(id) = &question.id {
        match chosen(records, id) {
            Ok(meant) => records = meant,
            Err(begin_so) => {
                put(&text::unknown(id, &begin_so, &question.run_dir))?;
                return Ok(Outcome::Found);
            }
        }
    }
    let Records { read, damaged } = records;
    let mut looking = Looking::begin(registry.clone(), question.config.clone(), &read)?;
    let reports: Vec<Report> = read.into_iter().map(|record| looking.report(record)).collect();
    match (&question.id, question.output) {
        (Some(_), Output::Text) => put(&reports.iter().map(text::whole).collect::<String>())?,
        (Some(_), Output::Json) => {
            print_json(&reports.iter().map(|one| format!("{:#}\n", json::whole(one))).collect::<String>())?;
        }
        (None, Output::Text) if reports.is_empty() && !damaged.is_empty() => {}
        (None, Output::Text) => put(&text::table(&reports))?,
        (None, Output::Json) => print_json(&format!("{:#}\n", json::list(&reports)))?,
    }
    registry.none_damaged(&damaged)?;
    let ended = question.id.is_some() && reports.iter().any(|report| !matches!(report.now, Now::Runs(_)));
    Ok(if ended { Outcome::Found } else { Outcome::Done })
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
