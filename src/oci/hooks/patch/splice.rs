//! Putting an entry in and taking one out: the text between two places, and nothing else.

use std::ops::Range;

use serde::ser::Serialize;
use serde_json::ser::PrettyFormatter;

use super::places::{Listed, Members, Spec, spliced};
use super::unusable;
use crate::error::Failure;
use crate::oci::hooks::{Hook, Registered};

/// The text with an entry put into a stage's list, which is made where it is missing.
pub(super) fn added(text: &str, stage: Registered, hook: &Hook) -> Result<String, String> {
    let spec = Spec::read(text)?;
    let layout = if spec.top.all.is_empty() { "" } else { spec.top.layout() };
    // One step of indentation is what the outermost object has; a text without lines gets none.
    let unit = layout.rsplit_once('\n').map(|(_, step)| step);
    if let Some((_, Some(members))) = &spec.hooks {
        return Ok(match spec.list(stage.name())? {
            Some((place, entries)) => listed_too(text, place, &entries, stage, hook, unit),
            None => with_member(members, stage.name(), unit, |base| rendered(&[hook], unit, base)),
        });
    }
    // By hand: serde_json's maps are sorted, and a struct would have to have a field for each stage.
    let object = |base: &str| match unit {
        None => format!("{{\"{}\":{}}}", stage.name(), rendered(&[hook], unit, base)),
        Some(step) => {
            let inner = format!("{base}{step}");
            format!("{{\n{inner}\"{}\": {}\n{base}}}", stage.name(), rendered(&[hook], unit, &inner))
        }
    };
    Ok(match &spec.hooks {
        Some((place, _)) => {
            let mut object = object(unit.unwrap_or(""));
            object.insert(object.len() - 1, ' ');
            spliced(text, place.clone(), &object)
        }
        None => with_member(&spec.top, "hooks", unit, object),
    })
}

/// The text with a member put behind the last one of an object. `value` is told the indentation of the line it is on.
fn with_member(members: &Members<'_>, key: &str, unit: Option<&str>, value: impl Fn(&str) -> String) -> String {
    let colon = if unit.is_some() { ": " } else { ":" };
    let Some((_, last)) = members.all.last() else {
        let start = members.place.start + 1;
        let base = unit.unwrap_or("");
        return spliced(members.text, start..start, &format!(" \"{key}\"{colon}{}", value(base)));
    };
    let layout = members.layout();
    let base = layout.rsplit_once('\n').map_or("", |(_, base)| base);
    spliced(members.text, last.end..last.end, &format!(",{layout}\"{key}\"{colon}{}", value(base)))
}

/// The text with an entry put into a list that is there.
fn listed_too(
    text: &str,
    place: Range<usize>,
    entries: &[Range<usize>],
    stage: Registered,
    hook: &Hook,
    unit: Option<&str>,
) -> String {
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
        let entry = rendered(hook, None, "");
        let null = &text[place.clone()] == "null";
        return if null {
            spliced(text, place, &format!("[{entry} ]"))
        } else {
            spliced(text, place.start + 1..place.start + 1, &format!(" {entry}"))
        };
    };
    let layout = &text[place.start + 1..first.start];
    let base = layout.rsplit_once('\n').map(|(_, base)| base);
    let entry = rendered(hook, base.and(unit), base.unwrap_or(""));
    match stage {
        Registered::CreateRuntime | Registered::Poststart => {
            spliced(text, last.end..last.end, &format!(",{layout}{entry}"))
        }
        Registered::Poststop => spliced(text, first.start..first.start, &format!("{entry},{layout}")),
    }
}

/// A value in JSON; over several lines where there is a step of indentation, `base` being that of its first line.
fn rendered(value: &(impl Serialize + ?Sized), unit: Option<&str>, base: &str) -> String {
    let mut bytes = Vec::new();
    let done = match unit {
        None => serde_json::to_writer(&mut bytes, value),
        Some(unit) => {
            let formatter = PrettyFormatter::with_indent(unit.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))
        }
    };
    // A struct of strings and numbers, into memory: nothing of it can fail.
    debug_assert!(done.is_ok());
    String::from_utf8_lossy(&bytes).replace('\n', &format!("\n{base}"))
}

/// The text without an entry: that which [`added`] would make this one of, if there is one; else one in which no empty
/// list and no empty object is left of it.
pub(super) fn without(file: &str, text: &str, stage: Registered, one: &Listed) -> Result<String, Failure> {
    let failed = |problem| unusable(file, problem);
    let spec = Spec::read(text).map_err(failed)?;
    let (Some((hooks, Some(members))), Some((list, entries))) = (&spec.hooks, spec.list(stage.name()).map_err(failed)?)
    else {
        return Ok(text.to_owned());
    };
    let gap = match (entries.get(one.index + 1), one.index) {
        (_, index) if index > 0 => entries[index - 1].end..one.place.end,
        (Some(next), _) => one.place.start..next.start,
        (None, _) => list.start + 1..one.place.end,
    };
    let entry_gone = spliced(text, gap, "");
    if entries.len() > 1 {
        return Ok(entry_gone);
    }
    let mut before = Vec::new();
    if members.all.len() == 1 {
        before.extend([spec.top.without("hooks"), spliced(text, hooks.clone(), "null")]);
    }
    before.extend([members.without(stage.name()), spliced(text, list, "null"), entry_gone]);
    let hook = one.hook();
    let makes = |before: &&String| hook.as_ref().is_some_and(|hook| added(before, stage, hook).as_deref() == Ok(text));
    let exact = before.iter().find(makes).cloned();
    Ok(exact.unwrap_or_else(|| before.swap_remove(0)))
}
