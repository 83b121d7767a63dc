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

use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::Serialize;
use serde_json::Value;
use serde_json::ser::PrettyFormatter;
use serde_json::value::RawValue;

use super::{Call, Hook, Kin, Registered, kin_of_entry};
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

// --- Reading with places --------------------------------------------------------------------------------------------

/// A specification's text with the places of its hooks.
struct Spec<'a> {
    text: &'a str,
    top: Members<'a>,
    /// The value of `hooks`, which is missing, null or an object.
    hooks: Option<(Range<usize>, Option<Members<'a>>)>,
}

/// A list's place, and those of its entries.
type List = (Range<usize>, Vec<Range<usize>>);

/// An entry of a stage's list.
struct Listed {
    index: usize,
    place: Range<usize>,
    kin: Kin,
    value: Value,
}

impl Listed {
    fn hook(&self) -> Option<Hook> {
        Hook::deserialize(&self.value).ok()
    }

    fn change(&self, stage: &str, added: bool) -> Change {
        let entry = self.hook().and_then(|hook| serde_json::to_string(&hook).ok());
        Change { added, at: at(stage, self.index), entry: entry.unwrap_or_else(|| self.value.to_string()) }
    }
}

impl<'a> Spec<'a> {
    fn read(text: &'a str) -> Result<Spec<'a>, String> {
        let start = text.len() - text.trim_start().len();
        let top = Members::read(text, start..text.trim_end().len(), "the specification")?;
        let hooks = match top.find("hooks") {
            None => None,
            Some(place) if &text[place.clone()] == "null" => Some((place, None)),
            Some(place) => Some((place.clone(), Some(Members::read(text, place, "hooks")?))),
        };
        let spec = Spec { text, top, hooks };
        for stage in spec.stages() {
            spec.list(&stage)?;
        }
        Ok(spec)
    }

    fn stages(&self) -> Vec<String> {
        let members = self.hooks.iter().flat_map(|(_, members)| members);
        members.flat_map(|members| members.all.iter().map(|(key, _)| key.clone())).collect()
    }

    /// The place of a stage's list, and those of its entries; `None` where it is missing.
    fn list(&self, stage: &str) -> Result<Option<List>, String> {
        let Some((_, Some(members))) = &self.hooks else { return Ok(None) };
        let Some(place) = members.find(stage) else { return Ok(None) };
        if &self.text[place.clone()] == "null" {
            return Ok(Some((place, Vec::new())));
        }
        let entries: Vec<&RawValue> = serde_json::from_str(&self.text[place.clone()])
            .map_err(|_| expected(self.text, &place, &format!("hooks.{stage}: expected a list")))?;
        let entries = entries.into_iter().map(|entry| place_of(self.text, entry)).collect();
        Ok(Some((place, entries)))
    }

    fn listed(&self, stage: &str) -> Vec<Listed> {
        let entries = self.list(stage).ok().flatten().map(|(_, entries)| entries).unwrap_or_default();
        let read = |(index, place): (usize, Range<usize>)| {
            let value: Value = serde_json::from_str(&self.text[place.clone()]).unwrap_or_default();
            Listed { index, place, kin: kin_of_entry(&value, stage), value }
        };
        entries.into_iter().enumerate().map(read).collect()
    }
}

/// The members of an object, with the places of their values.
struct Members<'a> {
    text: &'a str,
    place: Range<usize>,
    all: Vec<(String, Range<usize>)>,
}

impl<'a> Members<'a> {
    fn read(text: &'a str, place: Range<usize>, what: &str) -> Result<Members<'a>, String> {
        let members: RawMembers = serde_json::from_str(&text[place.clone()])
            .map_err(|_| expected(text, &place, &format!("{what}: expected an object")))?;
        let mut all: Vec<(String, Range<usize>)> = Vec::with_capacity(members.0.len());
        for (key, value) in members.0 {
            // Some readers keep the first, others the last.
            if all.iter().any(|(known, _)| *known == key) {
                return Err(expected(text, &place_of(text, value), &format!("{what}: a key stands twice")));
            }
            all.push((key, place_of(text, value)));
        }
        Ok(Members { text, place, all })
    }

    fn find(&self, key: &str) -> Option<Range<usize>> {
        self.all.iter().find(|(known, _)| known == key).map(|(_, place)| place.clone())
    }

    /// The blanks before the first key: how this object is laid out.
    fn layout(&self) -> &'a str {
        blanks(&self.text[self.place.start + 1..])
    }

    /// The text without a member.
    fn without(&self, key: &str) -> String {
        let index = self.all.iter().position(|(known, _)| known == key).unwrap_or(self.all.len());
        let end = |index: usize| self.all[index].1.end;
        let gap = match index {
            0 if self.all.len() > 1 => {
                let comma = end(0) + blanks(&self.text[end(0)..]).len();
                self.place.start + 1..comma + 1
            }
            0 => self.place.start + 1..end(0),
            _ => end(index - 1)..end(index),
        };
        spliced(self.text, gap, "")
    }
}

/// The members in order, their values as they stand.
struct RawMembers<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for RawMembers<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawMembers<'a>, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = RawMembers<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawMembers<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(RawMembers(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// Where a value stands: it borrows from `text`.
fn place_of(text: &str, value: &RawValue) -> Range<usize> {
    let start = value.get().as_ptr().addr() - text.as_ptr().addr();
    start..start + value.get().len()
}

fn expected(text: &str, place: &Range<usize>, what: &str) -> String {
    let before = &text[..place.start];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("{what} at line {line} column {column}")
}

/// JSON's blanks at the beginning.
fn blanks(text: &str) -> &str {
    &text[..text.len() - text.trim_start_matches([' ', '\t', '\n', '\r']).len()]
}

fn spliced(text: &str, gap: Range<usize>, new: &str) -> String {
    [&text[..gap.start], new, &text[gap.end..]].concat()
}

// --- Putting in and taking out --------------------------------------------------------------------------------------

/// The text with an entry put into a stage's list, which is made where it is missing.
fn added(text: &str, stage: Registered, hook: &Hook) -> Result<String, String> {
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
fn without(file: &str, text: &str, stage: Registered, one: &Listed) -> Result<String, Failure> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn call() -> Call {
        Call::default()
    }

    fn installed(text: &str) -> String {
        install("f", text, &call()).unwrap().text
    }

    fn hooks(text: &str) -> Value {
        serde_json::from_str::<Value>(text).unwrap()["hooks"].clone()
    }

    fn ours(stage: Registered) -> Value {
        serde_json::to_value(call().hook(stage).unwrap()).unwrap()
    }

    /// Specifications as people and programs write them.
    const TEXTS: [&str; 16] = [
        "{}",
        "{ }\n",
        "{\n}\n",
        r#"{"ociVersion":"1.0.2"}"#,
        "{\n\t\"ociVersion\": \"1.0.2\",\n\t\"root\": {\n\t\t\"path\": \"rootfs\"\n\t}\n}\n",
        "{\r\n  \"ociVersion\": \"1.0.2\"\r\n}",
        r#"{"hooks":null,"a":1}"#,
        r#"{"hooks":{},"a":1}"#,
        "{\n  \"hooks\": {\n  },\n  \"a\": 1.00000000000000000000E+07\n}",
        r#"{"a":18446744073709551616,"hooks":{"createRuntime":null,"poststop":[],"poststart":[ ]}}"#,
        "{\n  \"hooks\": {\n    \"createRuntime\": [\n      {\n        \"path\": \"/a\"\n      }\n    ]\n  }\n}",
        r#"{"hooks": {"createRuntime": [{"path": "/a"}, {"path": "/b"}], "prestart": [{"path": "/c"}]}, "z": 0}"#,
        r#"{"hooks":{"poststop":[{"path":"/a"}],"poststart":[{"path":"/b"}],"createRuntime":[{"path":"/c"}]}}"#,
        "  {\"\\u0068ooks\" : { \"poststop\" : [\n{\"path\": \"/a\"} , {\"path\": \"/b\"}\n] } , \"é\": \"\\ud83d\\ude00\"}  \n",
        "{\"linux\":{},\n\"hooks\":{\"createContainer\":[{\"path\":\"/x\"}]}}",
        r#"{"z":1,"hooks":{"createRuntime":[]}}"#,
    ];

    #[test]
    fn taking_out_is_the_inverse_of_putting_in_byte_for_byte() {
        for text in TEXTS {
            let with = install("f", text, &call()).unwrap();
            assert_eq!(with.changes.len(), 3, "{text}");
            let again = install("f", &with.text, &call()).unwrap();
            assert_eq!(
                (again.text.as_str(), again.changes.len(), again.left.len()),
                (with.text.as_str(), 0, 0),
                "{text}"
            );
            let without = uninstall("f", &with.text).unwrap();
            assert_eq!(without.text, text, "{}", with.text);
            assert_eq!((without.changes.len(), without.left), (3, vec![]), "{text}");
            let nothing = uninstall("f", text).unwrap();
            assert_eq!((nothing.text.as_str(), nothing.changes), (text, vec![]));
        }
    }

    #[test]
    fn only_the_hooks_are_another_value_and_other_hooks_stay_in_order() {
        for text in TEXTS {
            let with = installed(text);
            let (mut before, mut after): (Value, Value) =
                (serde_json::from_str(text).unwrap(), serde_json::from_str(&with).unwrap());
            for stage in Registered::ALL {
                let list = after["hooks"][stage.name()].as_array_mut().unwrap();
                let own = if stage == Registered::Poststop { list.remove(0) } else { list.pop().unwrap() };
                assert_eq!(own, ours(stage), "{with}");
                let old = before["hooks"][stage.name()].as_array().cloned().unwrap_or_default();
                assert_eq!(*list, old, "{with}");
                before["hooks"][stage.name()] = json!([]);
                after["hooks"][stage.name()] = json!([]);
            }
            assert_eq!(before, after);
        }
    }

    #[test]
    fn a_text_in_lines_gets_lines_and_one_without_gets_none() {
        let with = installed("{\n\t\"a\": 1\n}\n");
        assert!(
            with.starts_with("{\n\t\"a\": 1,\n\t\"hooks\": {\n\t\t\"createRuntime\": [\n\t\t\t{\n\t\t\t\t\"path\": "),
            "{with}"
        );
        assert!(with.ends_with("\n\t\t]\n\t}\n}\n"), "{with}");
        let with = installed(r#"{"a":1}"#);
        assert!(!with.contains([' ', '\n']), "{with}");
    }

    #[test]
    fn an_entry_that_is_out_of_place_or_out_of_date_is_put_right() {
        let stage = Registered::CreateRuntime;
        let mut entry = ours(stage);
        entry["path"] = json!("/old/netlatch");
        let text = json!({"hooks": {"createRuntime": [entry, {"path": "/cni"}, ours(stage)]}}).to_string();
        let with = install("f", &text, &call()).unwrap();
        assert_eq!(hooks(&with.text)["createRuntime"], json!([{"path": "/cni"}, ours(stage)]));
        let changes: Vec<_> = with.changes.iter().map(|change| (change.added, change.at.as_str())).collect();
        let expected = [
            (false, "hooks.createRuntime[2]"),
            (false, "hooks.createRuntime[0]"),
            (true, "hooks.createRuntime[1]"),
            (true, "hooks.poststart[0]"),
            (true, "hooks.poststop[0]"),
        ];
        assert_eq!(changes, expected);
        // Another hook came behind it since.
        let text = json!({"hooks": {"createRuntime": [ours(stage), {"path": "/cni"}]}}).to_string();
        assert_eq!(hooks(&installed(&text))["createRuntime"], json!([{"path": "/cni"}, ours(stage)]));
    }

    #[test]
    fn what_somebody_wrote_by_hand_is_left_and_said() {
        let told = Call { config: Some("/c".into()), ..call() };
        let text = install("f", r#"{"hooks":{}}"#, &told).unwrap().text;
        let with = install("f", &text, &call()).unwrap();
        assert_eq!((with.text.as_str(), with.left.len()), (text.as_str(), 3));
        assert_eq!(with.left[0], ("hooks.createRuntime[0]".to_owned(), TOLD));
        // The same once more is the same.
        assert!(install("f", &text, &told).unwrap().left.is_empty());
        assert_eq!(uninstall("f", &text).unwrap().text, r#"{"hooks":{}}"#);

        let mut altered = ours(Registered::CreateRuntime);
        altered["env"] = json!(["A=B"]);
        let text = json!({"hooks": {"createRuntime": [altered], "prestart": [{"path": "/x/netlatch"}]}}).to_string();
        let with = install("f", &text, &call()).unwrap();
        assert_eq!(with.left, [("hooks.createRuntime[0]".to_owned(), ALTERED)]);
        assert_eq!(hooks(&with.text)["createRuntime"], json!([altered]), "not called twice");
        let without = uninstall("f", &with.text).unwrap();
        assert_eq!(without.text, text);
        let left: Vec<_> = without.left.iter().map(|(at, _)| at.as_str()).collect();
        assert_eq!(left, ["hooks.createRuntime[0]", "hooks.prestart[0]"]);
    }

    #[test]
    fn entries_written_by_hand_as_the_guide_shows_them_go_without_a_trace() {
        let text = "{\"a\": 1,\n \"hooks\": {\"poststop\": [{\"timeout\": 15, \"args\": [\"netlatch\", \"poststop\"],\n \"path\": \"/x/netlatch\"}], \"createRuntime\": [{\"path\": \"/y\"}]}}";
        assert_eq!(
            uninstall("f", text).unwrap().text,
            "{\"a\": 1,\n \"hooks\": { \"createRuntime\": [{\"path\": \"/y\"}]}}"
        );
    }

    #[test]
    fn what_is_no_specification_is_refused_with_its_place() {
        for (text, named) in [
            ("", "EOF while parsing a value at line 1 column 0"),
            ("{\n  \"a\": }", "expected value at line 2 column 8"),
            ("[]", "expected a JSON object"),
            ("{} {}", "trailing characters at line 1 column 4"),
            ("{\n \"hooks\": 5}", "hooks: expected an object at line 2 column 11"),
            ("{\"hooks\": []}", "hooks: expected an object at line 1 column 11"),
            ("{\"hooks\": {\n\"poststop\": {}}}", "hooks.poststop: expected a list at line 2 column 13"),
            ("{\"hooks\": {\"prestart\": 1}}", "hooks.prestart: expected a list at line 1 column 24"),
            ("{\"hooks\": {}, \"hooks\": {}}", "the specification: a key stands twice at line 1 column 24"),
            ("{\"hooks\": {\"a\": [], \"a\": []}}", "hooks: a key stands twice at line 1 column 26"),
        ] {
            for failure in [install("f.json", text, &call()).unwrap_err(), uninstall("f.json", text).unwrap_err()] {
                assert_eq!(failure.exit_code(), 13);
                assert!(failure.to_string().contains(&format!("f.json: {named}")), "{text}: {failure}");
            }
        }
        let deep = "[".repeat(100_000);
        assert_eq!(install("f", &deep, &call()).unwrap_err().exit_code(), 13);
    }
}
