//! The commands. [`run`] is the whole program but for the process's own ends; [`hook`] is the screenful to read first.

mod ahead;
mod among;
mod args;
mod check;
pub mod doctor;
mod explain;
mod guides;
pub mod hook;
mod host_side;
mod inspect;
mod install;
mod last_error;
mod learn;
mod load;
mod output;
mod page;
mod peers;
mod plan;
pub mod reach;
mod reload;
mod schema;
mod told;
pub mod verify;

use std::ffi::OsString;
use std::io::{self, Write};

use crate::error::{Cause, Failure};
use crate::kernel::{laps, process};
use crate::printable;

/// The program's first line: from here on time is counted, where somebody asks for it.
pub fn begin() {
    laps::begin();
}

/// Runs the program with its arguments, the name not among them, and returns its exit code.
///
/// The stages are matched before any parser is built: they are on every container's start path.
pub fn run(args: &[OsString]) -> u8 {
    std::panic::set_hook(Box::new(|panic| give_up(panic.location())));
    let words: Vec<&str> = args.iter().map(|arg| arg.to_str().unwrap_or("\u{fffd}")).collect();
    let helps = words.iter().any(|word| matches!(*word, "--help" | "-h"));
    if let Some(stage) = words.first().copied().and_then(hook::Stage::from_name).filter(|_| !helps) {
        return hook::run(stage, &args[1..]);
    }
    match words.first().copied() {
        Some(refused @ ("createContainer" | "startContainer")) => hook::refuse(refused, &args[1..]),
        None => {
            hook::drain_quietly();
            let problem = "no stage and no command given; stages are createRuntime, prestart, poststart and poststop";
            finish(Err(Failure::new("tell what to do", Cause::Usage(problem.to_owned()))))
        }
        Some(_) => finish(args::run(args)),
    }
}

/// What a command came to, when it did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Done.
    Done,
    /// Not what one would wish: `check` has findings, `inspect` and `last-error` nothing to show, `install` left something.
    Found,
}

/// The one line on stderr, and the exit code.
fn finish(result: Result<Outcome, Failure>) -> u8 {
    match result {
        Ok(Outcome::Done) => 0,
        Ok(Outcome::Found) => 1,
        Err(failure) => {
            say(&failure);
            failure.exit_code()
        }
    }
}

/// A failure on stderr, in one line.
fn say(failure: &Failure) {
    process::say(&format!("netlatch: {}\n", printable::line(&failure.to_string())));
}

/// Of several problems the first is what the command ends with. The others are said before it.
fn ended_with(problems: Vec<Failure>) -> Result<Outcome, Failure> {
    let mut problems = problems.into_iter();
    let Some(first) = problems.next() else { return Ok(Outcome::Done) };
    problems.for_each(|other| say(&other));
    Err(first)
}

/// Ends the process where it cannot go on: one line as for every failure, for runc quotes the output of a failed hook, and
/// a code that crun can show. What panicked is not said, for it may hold what must not stand in a line: see [`crate::error`].
fn give_up(at: Option<&std::panic::Location<'_>>) -> ! {
    let place = at.map_or_else(|| "an unknown place".to_owned(), |at| format!("{}:{}", at.file(), at.line()));
    let failure = Failure::new("go on", Cause::Internal(format!("it panicked at {place}")));
    std::process::exit(finish(Err(failure)).into())
}

/// What is said, in parts, and the exit code where there is no memory left: made without any.
pub fn without_memory() -> ([&'static str; 3], u8) {
    let exit = Cause::Limit(String::new()).exit();
    (["netlatch: cannot go on: memory has run out (ENOMEM); ", exit.remedy, "\n"], exit.code)
}

/// Writes lines to stdout. Whatever foreign text is in them is made fit here, so that no command can forget it.
fn print(text: &str) -> Result<(), Failure> {
    write(&printable::lines(text))
}

/// The same for JSON.
fn print_json(text: &str) -> Result<(), Failure> {
    write(&printable::json(text))
}

/// A reader that went away (`| head`) is no failure.
fn write(text: &str) -> Result<(), Failure> {
    is_read(text).map(drop)
}

/// The same, for who goes on only as long as somebody reads.
fn is_read(text: &str) -> Result<bool, Failure> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => {
            let cause = Cause::Io { path: "stdout".to_owned(), errno: crate::error::errno_of(&error) };
            Err(Failure::new("print", cause))
        }
    }
}
