//! Puts our entries into a specification (a bundle's config.json, a base specification) and takes them out again.
//!
//! A specification is text that somebody else wrote and reads. It is changed where its hooks stand and nowhere else: what
//! serde would print anew keeps its meaning, but neither its order nor numbers that do not fit (`RLIM_INFINITY` does, a
//! larger one would become a float). So every change is a splice between places found by the parser, and taking out is
//! the inverse of putting in, byte for byte: `without` looks for the text that `added` makes the present one of. A
//! blank tells what was filled: nothing (`[x]`), an empty list or object (`[ x]`), or null (`[x ]`).
//!
//! **Where in a list.** createRuntime and poststart come last: other hooks attach the network there (nerdctl's runs CNI
//! in createRuntime), and what is written and verified per interface has to see the outcome. Nothing is lost by it: no
//! process of the container runs before the last createRuntime hook has ended. poststop comes first: peers stop taking the
//! address for this container's before CNI gives it to the next one, and runc ends the list at a hook that fails.

mod places;
mod splice;

use serde_json::Value;

use self::places::{Listed, Spec};
use self::splice::{added, without};
use super::{Call, Kin, Registered};
use crate::error::{Cause, Failure};
use crate::oci::bundle::MAX_BUNDLE;
use crate::oci::json;

/// A specification with a change made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patched {
    /// The whole text.
    pub text: String,
    /// What was changed, in order; empty where nothing was.
    pub changes: Vec<Change>,
    /// What is this program's by its name and was not touched: the place, and why.
    pub left: Vec<(String, &'static str)>,
}

/// An entry that was put in or taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Put in, or taken out.
    pub added: bool,
    /// Its place, such as `hooks.createRuntime[1]`.
    pub at: String,
    /// It, on one line.
    pub entry: String,
}

/// Why an entry, or a file of hooks.d, is not replaced.
pub const TOLD: &str = "calls netlatch with arguments of its own; uninstall it first to replace it";
/// Why it is neither replaced nor taken away.
pub const ALTERED: &str = "is not as an installation writes it";

/// Puts the program's entries in, or brings them up to date.
///
/// # Errors
/// [`Cause::Bundle`] where `text`, the content of `file`, is no specification.
pub fn install(file: &str, text: &str, call: &Call) -> Result<Patched, Failure> {
    check(file, text)?;
    let mut patched = Patched { text: text.to_owned(), changes: Vec::new(), left: Vec::new() };
    for stage in Registered::ALL {
        let wanted = call.hook(stage)?;
        let listed = read(file, &patched.text)?.listed(stage.name());
        let kept: Vec<_> = listed.iter().filter(|one| matches!(one.kin, Kin::Told | Kin::Altered)).collect();
        let same = |one: &&Listed| one.hook().as_ref() == Some(&wanted);
        if let [only] = kept[..]
            && same(&only)
        {
            continue;
        }
        if !kept.is_empty() {
            let why = |kin| if kin == Kin::Told { TOLD } else { ALTERED };
            patched.left.extend(kept.iter().map(|one| (at(stage.name(), one.index), why(one.kin))));
            continue;
        }
        let ours: Vec<_> = listed.iter().filter(|one| one.kin == Kin::Plain).collect();
        let place = match stage {
            Registered::CreateRuntime | Registered::Poststart => listed.len().saturating_sub(1),
            Registered::Poststop => 0,
        };
        if let [only] = ours[..]
            && same(&only)
            && only.index == place
        {
            continue;
        }
        for one in ours.iter().rev() {
            patched.text = without(file, &patched.text, stage, one)?;
            patched.changes.push(one.change(stage.name(), false));
        }
        patched.text = added(&patched.text, stage, &wanted).map_err(|problem| unusable(file, problem))?;
        let listed = read(file, &patched.text)?.listed(stage.name());
        let new = listed.iter().find(|one| one.hook().as_ref() == Some(&wanted));
        patched.changes.extend(new.map(|one| one.change(stage.name(), true)));
    }
    Ok(patched)
}

/// Takes the program's entries out.
///
/// # Errors
/// As [`install`].
pub fn uninstall(file: &str, text: &str) -> Result<Patched, Failure> {
    check(file, text)?;
    let mut patched = Patched { text: text.to_owned(), changes: Vec::new(), left: Vec::new() };
    // Last in, first out: then each is found as it was put in.
    for stage in Registered::ALL.into_iter().rev() {
        let listed = read(file, &patched.text)?.listed(stage.name());
        for one in listed.iter().rev().filter(|one| matches!(one.kin, Kin::Plain | Kin::Told)) {
            patched.text = without(file, &patched.text, stage, one)?;
            patched.changes.push(one.change(stage.name(), false));
        }
    }
    let spec = read(file, &patched.text)?;
    for stage in spec.stages() {
        let altered = spec.listed(&stage).into_iter().filter(|one| one.kin == Kin::Altered);
        patched.left.extend(altered.map(|one| (at(&stage, one.index), ALTERED)));
    }
    Ok(patched)
}

fn at(stage: &str, index: usize) -> String {
    format!("hooks.{stage}[{index}]")
}

fn unusable(file: &str, problem: String) -> Failure {
    Failure::new("change the specification", Cause::Bundle { file: file.to_owned(), problem })
}

fn read<'a>(file: &str, text: &'a str) -> Result<Spec<'a>, Failure> {
    Spec::read(text).map_err(|problem| unusable(file, problem))
}

/// The whole text once, for line and column are right only there.
fn check(file: &str, text: &str) -> Result<(), Failure> {
    if text.len() > MAX_BUNDLE {
        return Err(unusable(file, format!("is longer than {MAX_BUNDLE} bytes (MAX_BUNDLE)")));
    }
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(_)) => Ok(()),
        Ok(_) => Err(unusable(file, "expected a JSON object".to_owned())),
        Err(error) => Err(unusable(file, json::problem(&error))),
    }
}

#[cfg(test)]
mod tests;
