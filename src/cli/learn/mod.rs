//! `netlatch learn`: the list that would have allowed exactly what a container was seen to do, ready to be its annotation.
//!
//! What was seen is read as `inspect` reads it, from the sets that rules fill; [`lesson`] makes a list of it.

mod lesson;

use std::path::PathBuf;

use serde_json::{Value, json};

use self::lesson::{Lesson, Merge};
use super::inspect::denied::{full_sets, remembers};
use super::inspect::looking::Looking;
use super::inspect::report::{Now, Report, Running};
use super::inspect::{denied_json, known};
use super::output::{Output, Printed};
use super::{Outcome, print, print_json};
use crate::error::Failure;
use crate::kernel::{capability, process};
use crate::net::{Direction, Family};
use crate::nft::build::{AUDIT_TIMEOUT_S, DENIED_TIMEOUT_S};
use crate::printable;
use crate::registry::{RUN_DIR, Records, Registry};

/// The command line, as clap reads it.
#[derive(Debug, clap::Args)]
pub(super) struct Question {
    /// The container, by its id or a beginning that no other shares
    id: String,
    /// Who may connect, in place of what may be reached
    #[arg(long)]
    ingress: bool,
    /// What was denied lately too, where it is enforced already
    #[arg(long)]
    denied: bool,
    /// Addresses that are always denied (metadata services) too: each is opened by an entry of its own
    #[arg(long)]
    always_denied: bool,
    /// Two and more IPv4 addresses of a block of so many bits, spoken to alike, become the block
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u8).range(0..=32))]
    merge: Option<u8>,
    /// The same for IPv6
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u8).range(0..=128))]
    merge6: Option<u8>,
    #[command(flatten)]
    printed: Printed,
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The state directory
    #[arg(long, value_name = "DIR", default_value = RUN_DIR)]
    run_dir: PathBuf,
}

/// What the help says beyond its options.
pub(super) const HELP: &str = "\
Examples:
  netlatch learn web
  netlatch learn web --denied --merge 24
  netlatch learn web --ingress --json

Start the container with io.netlatch.egress: none and io.netlatch.mode: audit, let it do all that it has to, and ask. The \
list is one line on stdout: the entries that it has, and the fewest that allow what else was seen, and nothing that was not. \
Only --merge allows more, and then says how much. What no list can allow, or should not unasked, is said on stderr.

The exit code is 1 where no such container runs, or where nothing was recorded that a list could be made of.";

/// Answers.
pub(super) fn run(question: &Question) -> Result<Outcome, Failure> {
    process::lock_down()?;
    capability::require(&capability::REQUIRED, "look into a container's network")?;
    let registry = Registry::at(&question.run_dir);
    let Some(Records { read, damaged }) = known(&registry, &question.id, &question.run_dir)? else {
        return Ok(Outcome::Found);
    };
    registry.none_damaged(&damaged)?;
    let mut looking = Looking::begin(registry, question.config.clone(), &read)?;
    let Some(report) = read.into_iter().next().map(|record| looking.report(record)) else { return Ok(Outcome::Found) };
    let direction = if question.ingress { Direction::Ingress } else { Direction::Egress };
    let running = match &report.now {
        Now::Runs(running) => running,
        Now::Ended => {
            return nothing(&format!("container {} has ended, and what was remembered with it", report.record.id));
        }
        Now::Unknown(why) => return nothing(why),
    };
    match seen(question, direction, running) {
        Ok(()) => teach(question, direction, &report, running),
        Err(why) => nothing(&why),
    }
}

/// Says why there is no list.
fn nothing(why: &str) -> Result<Outcome, Failure> {
    remark(why);
    Ok(Outcome::Found)
}

fn remark(text: &str) {
    process::say(&format!("netlatch: {}\n", printable::line(text)));
}

/// Whether anything was remembered that can be learned from.
fn seen(question: &Question, direction: Direction, running: &Running) -> Result<(), String> {
    let how = format!(
        "start it with io.netlatch.{direction}: none and io.netlatch.mode: audit, let it do all that it has to, and ask again"
    );
    let Some(listing) = &running.listing else {
        return Err(format!("nothing filters the container, and so nothing was remembered; {how}"));
    };
    let audit = remembers(listing, direction, true);
    let denied = remembers(listing, direction, false);
    match (audit, question.denied && denied) {
        (true, _) | (_, true) => Ok(()),
        (false, false) if denied => {
            Err(format!("its {direction} rules are in force; --denied learns from what they denied lately, or {how}"))
        }
        (false, false) => Err(format!("no rule judges its {direction}, and so nothing was remembered; {how}")),
    }
}

fn teach(question: &Question, direction: Direction, report: &Report, running: &Running) -> Result<Outcome, Failure> {
    let settings = match &running.settings {
        Ok(settings) => settings,
        Err(why) => return nothing(&format!("what holds for the container is not known: {why}")),
    };
    let merge = Merge { v4: question.merge, v6: question.merge6, always_denied: question.always_denied };
    let seen = running.denied.iter().filter(|one| one.direction == direction && (one.audit || question.denied));
    let seen: Vec<_> = seen.collect();
    let Some(lesson) = Lesson::of(direction, settings, &running.host, &seen, &merge)? else {
        return nothing(&format!(
            "the container has no {direction} list, and no list opens what policies deny; change those, or start it with \
             io.netlatch.{direction}: none and io.netlatch.mode: audit"
        ));
    };
    let mut remarks = remarks(direction, running, &lesson, seen.len());
    remarks.extend(incomplete(question, direction, running));
    match question.printed.output() {
        Output::Text => {
            remarks.iter().for_each(|text| remark(text));
            print(&format!("{}\n", lesson.list()))?;
        }
        Output::Json => print_json(&format!("{:#}\n", to_json(direction, report, &lesson, &seen, &remarks)))?,
    }
    Ok(Outcome::Done)
}

/// What has to be known beside the list, each in a sentence.
fn remarks(direction: Direction, running: &Running, lesson: &Lesson, seen: usize) -> Vec<String> {
    let mut remarks = Vec::new();
    if let Some(other) = &running.decided_by {
        remarks.push(format!("the list is container {other}'s, which shares the network and decides"));
    }
    if let Some(origin) = &lesson.admins {
        remarks.push(format!(
            "the container has no {direction} list of its own; this is the admin's ({origin}), for every container"
        ));
    }
    if seen == 0 {
        remarks.push(format!("nothing was seen that the list as it is does not allow ({direction})"));
    }
    for widened in &lesson.widened {
        let block = widened.block;
        let bits = block.family().bits() - block.prefix_len();
        let holds = if bits < 64 { format!("{} addresses", 1u64 << bits) } else { format!("2^{bits} addresses") };
        let (family, seen) = (Family::V4 == block.family(), widened.seen);
        let option = if family { "--merge" } else { "--merge6" };
        remarks.push(format!("{block} is {holds}, and {seen} of them were seen ({option})"));
    }
    remarks.extend(lesson.left_out.iter().map(|(entry, why)| format!("left out: {entry}: {why}")));
    remarks.extend(lesson.still_denied.iter().map(|(entry, why)| format!("denied all the same: {entry}: {why}")));
    remarks
}

/// Why more may have been done than was seen.
fn incomplete(question: &Question, direction: Direction, running: &Running) -> Vec<String> {
    let Some(listing) = &running.listing else { return Vec::new() };
    let mut remarks = Vec::new();
    for set in full_sets(listing, direction) {
        remarks.push(format!("set {set} is full: what came later is not in the list; learn again under the new one"));
    }
    let hours = |seconds: u32| seconds / 3600;
    let (audit, denied) = (remembers(listing, direction, true), remembers(listing, direction, false));
    if audit {
        remarks.push(format!("what was last done more than {} hours ago is forgotten", hours(AUDIT_TIMEOUT_S)));
    }
    if question.denied && denied {
        remarks.push(format!(
            "what was denied more than {} hour ago is forgotten, and what a denied program would have done next is not known",
            hours(DENIED_TIMEOUT_S)
        ));
    }
    remarks
}

fn to_json(
    direction: Direction,
    report: &Report,
    lesson: &Lesson,
    seen: &[&super::inspect::denied::Denied],
    remarks: &[String],
) -> Value {
    let said = |pairs: &[(String, String)]| -> Vec<Value> {
        pairs.iter().map(|(entry, why)| json!({ "entry": entry, "why": why })).collect()
    };
    let widened = lesson.widened.iter().map(|one| json!({ "block": one.block.to_string(), "seen": one.seen }));
    json!({
        "id": report.record.id, "direction": direction.name(), "annotation": format!("io.netlatch.{direction}"),
        "list": lesson.list(), "kept": lesson.kept, "learned": lesson.learned,
        "seen": seen.iter().map(|one| denied_json(one)).collect::<Vec<_>>(),
        "widened": widened.collect::<Vec<_>>(),
        "left-out": said(&lesson.left_out), "still-denied": said(&lesson.still_denied), "notes": remarks,
    })
}
