//! The files in hooks.d folders, as podman and CRI-O read them (schema 1.0.0, containers/common `pkg/hooks`).
//!
//! A mistake in one of them either keeps every container of the host from starting or, worse, is passed over in silence.

use regex_lite::Regex;
use serde_json::Value;

use super::Programs;
use super::call::{Call, Place};
use super::report::{Group, Report};
use super::tree::{Tree, Unread, User};
use crate::oci::Annotation;
use crate::oci::annotations::PREFIX;

/// The stages of the schema. `precreate` is podman's own.
const STAGES: [&str; 7] =
    ["precreate", "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
/// Those that this program refuses (CVE-2025-23266).
const INSIDE: [&str; 2] = ["createContainer", "startContainer"];
const GROUP: Group = Group::HookFiles;
/// hooks.New of containers/common takes the missing program for a missing folder, and says nothing.
const PASSED_OVER: &str = "podman and CRI-O pass over the hook file in silence, and containers start unprotected";

/// A file of a hooks.d folder.
#[derive(Debug)]
pub(super) struct HookFile {
    pub(super) folder: String,
    pub(super) name: String,
    pub(super) path: String,
    content: Content,
    /// Whose engine reads it.
    user: User,
    /// When it was put there, in seconds of the epoch.
    pub(super) changed: i64,
}

#[derive(Debug)]
enum Content {
    /// Not to be read, and why.
    Broken(String),
    /// A link to nowhere, which engines pass over.
    Nowhere,
    /// Calls this program.
    Ours { call: Call, stages: Vec<String>, when: When },
    /// Calls another one, at these stages.
    Others { stages: Vec<String> },
}

/// For which containers a hook file is meant.
#[derive(Clone, Debug, Default)]
struct When {
    always: bool,
    /// A condition that nothing meets: `always` or `hasBindMounts`, and `false`.
    never: Option<&'static str>,
    annotations: Vec<(String, String)>,
    /// Conditions beside these, by name. All have to hold.
    others: Vec<&'static str>,
}

impl HookFile {
    /// Reads the files of a folder, in the order in which they are called.
    pub(super) fn of_folder(folder: &str, user: &User, tree: &Tree) -> Vec<HookFile> {
        let read = |(path, name): (String, String)| {
            let content = match tree.read(&path) {
                Ok(text) => Content::parse(&text),
                Err(Unread::Missing) => Content::Nowhere,
                Err(Unread::Because(why)) => Content::Broken(why),
            };
            let changed = tree.about(&path).map_or(0, |about| about.changed());
            HookFile { folder: folder.to_owned(), name, path, content, user: user.clone(), changed }
        };
        let mut files: Vec<HookFile> = tree.entries(folder, ".json").into_iter().map(read).collect();
        files.sort_by_key(|file| file.name.to_lowercase());
        files
    }

    /// Whether it calls this program, or was meant to.
    pub(super) fn is_ours(&self) -> bool {
        match &self.content {
            Content::Ours { .. } => true,
            Content::Broken(_) | Content::Nowhere => self.name.contains("netlatch"),
            Content::Others { .. } => false,
        }
    }

    /// What it calls, if that is this program.
    pub(super) fn call(&self) -> Option<&Call> {
        match &self.content {
            Content::Ours { call, .. } => Some(call),
            Content::Broken(_) | Content::Nowhere | Content::Others { .. } => None,
        }
    }

    /// Whether it calls this program at a stage.
    pub(super) fn serves(&self, stage: &str) -> bool {
        matches!(&self.content, Content::Ours { stages, .. } if stages.iter().any(|named| named == stage))
    }

    /// Whether it calls this program before the container's process begins.
    pub(super) fn starts(&self) -> bool {
        self.serves("createRuntime") || self.serves("prestart")
    }

    /// Whether it calls another program at a stage.
    pub(super) fn is_anothers_at(&self, stage: &str) -> bool {
        matches!(&self.content, Content::Others { stages } if stages.iter().any(|named| named == stage))
    }

    /// Whether it calls this program for every container.
    pub(super) fn is_for_all(&self) -> bool {
        matches!(&self.content, Content::Ours { when: When { always: true, never: None, others, annotations }, .. }
            if others.is_empty() && annotations.is_empty())
    }

    /// Looks at what the file says. `read` is whether an engine reads it.
    pub(super) fn judge(&self, read: bool, tree: &Tree, programs: &mut Programs, report: &mut Report) {
        let file = tree.shown(&self.path);
        match &self.content {
            Content::Broken(why) if read => {
                let finding = format!("{why}: no container of the host starts");
                report.problem(GROUP, "hook file", finding, "mend it or take it away");
                report.found_in(&file);
            }
            // Another's that nobody reads is nobody's business.
            Content::Broken(_) | Content::Nowhere if !self.is_ours() => {}
            Content::Nowhere => {
                let finding = "it is a link to nowhere: engines pass over it in silence";
                report.problem(
                    GROUP,
                    "hook file",
                    finding,
                    "put the file there (`netlatch install hooks.d`), or take the link away",
                );
                report.found_in(&file);
            }
            Content::Broken(why) => {
                report.warning(GROUP, "hook file", why.clone(), "mend it or take it away");
                report.found_in(&file);
            }
            Content::Others { stages } => {
                if let Some(stage) = stages.iter().find(|stage| !STAGES.contains(&stage.as_str())).filter(|_| read) {
                    let finding = format!("there is no stage {stage:?}: no container of the host starts");
                    report.problem(GROUP, "hook file", finding, "spell the stage as runtime-spec does");
                    report.found_in(&file);
                }
            }
            Content::Ours { call, stages, when } => {
                for stage in stages {
                    if !STAGES.contains(&stage.as_str()) {
                        let finding = format!("there is no stage {stage:?}: no container of the host starts");
                        report.problem(GROUP, "hook file", finding, "write createRuntime, poststart or poststop");
                        report.found_in(&file);
                    } else if INSIDE.contains(&stage.as_str()) {
                        let finding =
                            format!("{stage} runs inside the container's namespaces, and netlatch refuses it");
                        report.problem(GROUP, "hook file", finding, "write createRuntime in its place");
                        report.found_in(&file);
                    } else {
                        let place = Place { file: &file, missing: PASSED_OVER, user: &self.user };
                        call.judge(stage, place, tree, programs, report);
                    }
                }
                if stages.is_empty() {
                    report.problem(GROUP, "hook file", "it names no stage: nothing is called", "name one stage");
                    report.found_in(&file);
                }
                when.judge(&file, report);
                if let Some(who) = tree.changeable_by_others_than(&self.user, &self.path) {
                    let finding = format!("it says what runs as {}, and {who}", self.user.shown());
                    report.problem(GROUP, "hook file", finding, "chown root:root and chmod go-w");
                    report.found_in(&file);
                }
            }
        }
    }
}

impl Content {
    fn parse(text: &str) -> Content {
        let document: Value = match serde_json::from_str(text) {
            Ok(document) => document,
            Err(error) => {
                let (line, column) = (error.line(), error.column());
                return Content::Broken(format!("it is not JSON (line {line}, column {column})"));
            }
        };
        let strings = |value: Option<&Value>| -> Vec<String> {
            let strings = value.and_then(Value::as_array).into_iter().flatten();
            strings.map(|text| text.as_str().unwrap_or_default().to_owned()).collect()
        };
        let stages = strings(document.get("stages"));
        let version = document.get("version").and_then(Value::as_str);
        if version == Some("1.0.0")
            && let Some(wrong) = mistyped(&document)
        {
            return Content::Broken(wrong);
        }
        let hook = document.get("hook");
        match version {
            Some("1.0.0") => {}
            // Version 0.1.0 mostly stands in no file, and has a path for a hook.
            Some("0.1.0") | None if hook.is_some_and(Value::is_object) => {
                return Content::Broken("it has not version 1.0.0, and so is read as one of 0.1.0".to_owned());
            }
            Some("0.1.0") | None => {}
            Some(other) => return Content::Broken(format!("there is no version {other:?} of hook files")),
        }
        let Some(call) = hook.and_then(Call::of) else {
            // The stages of 0.1.0 are those of then.
            return Content::Others { stages: if version == Some("1.0.0") { stages } else { Vec::new() } };
        };
        let when = document.get("when");
        let annotations = when.and_then(|when| when.get("annotations")).and_then(Value::as_object);
        let others = [("commands", "commands"), ("hasBindMounts", "hasBindMounts")];
        let is = |key: &str, value: bool| when.and_then(|when| when.get(key)?.as_bool()) == Some(value);
        let when = When {
            never: ["always", "hasBindMounts"].into_iter().find(|key| is(key, false)),
            always: when.and_then(|when| when.get("always")).and_then(Value::as_bool).unwrap_or(false),
            annotations: annotations
                .into_iter()
                .flatten()
                .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
                .collect(),
            others: others
                .iter()
                .filter(|(key, _)| when.is_some_and(|when| when.get(*key).is_some()))
                .map(|(_, name)| *name)
                .collect(),
        };
        Content::Ours { call, stages, when }
    }
}

/// What Go's reader of this schema does not take: another type, or no stages. It does not mind unknown keys, nor `null` for what
/// may be left out.
fn mistyped(document: &Value) -> Option<String> {
    type Is = fn(&Value) -> bool;
    const STRINGS: Is = |value| value.as_array().is_some_and(|all| all.iter().all(Value::is_string));
    const NAMED: Is = |value| value.as_object().is_some_and(|all| all.values().all(Value::is_string));
    let types: [(&str, Is, &str); 11] = [
        ("/hook", Value::is_object, "an object"),
        ("/hook/path", Value::is_string, "a string"),
        ("/hook/args", STRINGS, "a list of strings"),
        ("/hook/env", STRINGS, "a list of strings"),
        ("/hook/timeout", Value::is_i64, "a whole number"),
        ("/when", Value::is_object, "an object"),
        ("/when/always", Value::is_boolean, "true or false"),
        ("/when/annotations", NAMED, "an object of strings"),
        ("/when/commands", STRINGS, "a list of strings"),
        ("/when/hasBindMounts", Value::is_boolean, "true or false"),
        ("/stages", STRINGS, "a list of strings"),
    ];
    let is_wrong =
        |(path, is, _): &&(&str, Is, &str)| document.pointer(path).is_some_and(|value| !value.is_null() && !is(value));
    if let Some((path, _, is)) = types.iter().find(is_wrong) {
        return Some(format!("{} has to be {is}", path[1..].replace('/', ".")));
    }
    document.get("stages").is_none_or(Value::is_null).then(|| "it has no stages".to_owned())
}

impl When {
    /// Go's expressions (RE2) are not anchored, and a container's annotations are matched one by one.
    fn judge(&self, file: &str, report: &mut Report) {
        let question = "for which containers";
        if let Some(key) = self.never {
            let finding = format!("`{key}` is false, which nothing meets: the hook is never called");
            report.problem(GROUP, question, finding, "take it away; all conditions have to hold");
            return report.found_in(file);
        }
        if !self.others.is_empty() {
            let finding = format!("all conditions have to hold, and {} narrows them", self.others.join(" and "));
            report.warning(GROUP, question, finding, "leave `always` or `annotations` alone there");
            report.found_in(file);
        }
        if self.annotations.is_empty() {
            if self.always {
                report.ok(GROUP, question, "all");
            } else {
                let finding = "`when` has no condition: the hook is never called";
                report.problem(
                    GROUP,
                    question,
                    finding,
                    "write `\"always\": true`, or the annotations that `netlatch install` writes",
                );
            }
            report.found_in(file);
            return;
        }
        let mut missed = Vec::new();
        for (key, value) in &self.annotations {
            let (Ok(key), Ok(value)) = (Regex::new(key), Regex::new(value)) else {
                let finding =
                    format!("an expression cannot be read: {key:?}: {value:?}; no container of the host starts");
                report.problem(GROUP, question, finding, "write the expression that hooks.d has");
                report.found_in(file);
                return;
            };
            let matches = |name: &str, text: &str| key.is_match(name) && value.is_match(text);
            missed.extend(
                annotation_keys().filter(|name| !matches(name, "none") || !matches(name, "10.0.0.0/8:443\n@internet")),
            );
            // A mistake in a key is refused by the hook, if only it is called.
            let misspelt = "io.netlatch.egres";
            missed.extend((!matches(misspelt, "none")).then(|| format!("{misspelt} (a misspelt key)")));
        }
        if missed.is_empty() {
            report.ok(GROUP, question, "those with an annotation of netlatch's");
        } else {
            let finding = format!("a container with no other annotation than {} starts without the hook", missed[0]);
            let more = if missed.len() > 1 { format!(" (and {} more)", missed.len() - 1) } else { String::new() };
            report.problem(GROUP, question, finding + &more, "write the expression that hooks.d has");
        }
        report.found_in(file);
    }
}

/// A key of each of our annotations.
pub(super) fn annotation_keys() -> impl Iterator<Item = String> {
    Annotation::ALL.iter().map(|(name, kind)| {
        let below = if *kind == Annotation::Sysctl { ".net.core.somaxconn" } else { "" };
        format!("{PREFIX}{name}{below}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_the_project_are_ours_and_for_whom_they_say() {
        let of = |text| Content::parse(text);
        let annotated = of(include_str!("../../../hooks.d/10-netlatch-createRuntime.json"));
        let always = of(include_str!("../../../hooks.d/always/10-netlatch-createRuntime.json"));
        for (content, for_all) in [(annotated, false), (always, true)] {
            let Content::Ours { call, stages, when } = content else { panic!("{content:?}") };
            assert_eq!(stages, ["createRuntime"]);
            assert_eq!(call.args, ["netlatch", "createRuntime"]);
            assert_eq!(when.always, for_all);
            let mut report = Report::default();
            when.judge("f", &mut report);
            assert_eq!(report.worst(), crate::cli::doctor::report::Verdict::Ok, "{:#}", report.json());
        }
    }
}
