//! `netlatch last-error`: why a start failed. crun shows its user an exit code and nothing else.

use std::path::Path;

use super::{Outcome, print};
use crate::error::Failure;
use crate::logging::utc;
use crate::printable;
use crate::registry::Registry;

pub(super) fn run(run_dir: &Path, id: Option<&str>) -> Result<Outcome, Failure> {
    match Registry::at(run_dir).fault(id)? {
        Some(fault) => {
            let who = if fault.id.is_empty() { "a container whose state could not be read" } else { &fault.id };
            let head = format!("{who}: {} exited with {} at {}", fault.stage, fault.code, utc(fault.time));
            print(&format!("{}\n{}\n", printable::line(&head), printable::line(&fault.message)))?;
            Ok(Outcome::Done)
        }
        None => {
            print("no failure is recorded\n")?;
            Ok(Outcome::Found)
        }
    }
}
