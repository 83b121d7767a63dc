//! `netlatch last-error`: why a start failed. crun shows its user an exit code and nothing else.

use std::path::Path;

use serde_json::{Value, json};

use super::page::{Look, Style, plain};
use super::{Outcome, print, print_json};
use crate::error::Failure;
use crate::logging::utc;
use crate::registry::{Fault, Registry};

pub(super) fn run(run_dir: &Path, id: Option<&str>, json: bool, look: Look) -> Result<Outcome, Failure> {
    let fault = Registry::at(run_dir).fault(id)?;
    match &fault {
        fault if json => print_json(&format!("{:#}\n", as_json(fault.as_ref())))?,
        Some(fault) => {
            let who = if fault.id.is_empty() { "a container whose state could not be read" } else { &fault.id };
            let mut page = look.page_of_lines();
            let code = Style::Bad.on(format!("exited with {}", fault.code));
            let pieces = [plain(format!("{who}: {} ", fault.stage)), code, plain(format!(" at {}", utc(fault.time)))];
            page.put(&[], &pieces, 4);
            page.put(&[], &[plain(&fault.message)], 4);
            page.print()?;
        }
        None => print("no failure is recorded\n")?,
    }
    Ok(if fault.is_some() { Outcome::Done } else { Outcome::Found })
}

/// For programs; null where nothing is recorded.
fn as_json(fault: Option<&Fault>) -> Value {
    fault.map_or(Value::Null, |fault| {
        json!({
            "id": (!fault.id.is_empty()).then_some(&fault.id), "stage": fault.stage, "code": fault.code,
            "time": utc(fault.time), "message": fault.message,
        })
    })
}
