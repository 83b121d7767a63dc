//! Hooks in JSON documents of other kinds: CDI specifications, and base specifications of containers.

use serde_json::Value;

use super::Programs;
use super::call::{Call, Place};
use super::report::{Group, Report};
use super::tree::{ROOT, Tree, Unread};
use crate::document::{self, Node};

/// Where engines read CDI specifications. The second is for generated ones, which a reboot takes away.
pub(super) const FOLDERS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
const GROUP: Group = Group::HookFiles;

/// A document with hooks.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) path: String,
    calls: Vec<(String, Call)>,
}

impl Spec {
    /// A container's specification, or why it is none. The reason follows what it is a specification of.
    pub(super) fn of_container(path: &str, text: &str) -> Result<Spec, String> {
        let document: Value =
            serde_json::from_str(text).map_err(|error| format!("is not JSON (line {})", error.line()))?;
        let hooks = document.get("hooks").and_then(Value::as_object).into_iter().flatten();
        let calls = hooks.flat_map(|(stage, entries)| {
            let calls = entries.as_array().into_iter().flatten().filter_map(Call::of);
            calls.map(|call| (stage.clone(), call))
        });
        Ok(Spec { path: path.to_owned(), calls: calls.collect() })
    }

    /// A CDI specification, in JSON or YAML.
    fn of_device(path: &str, document: &Value) -> Result<Spec, String> {
        let devices = document.get("devices").and_then(Value::as_array).into_iter().flatten();
        let edits = devices.chain([document]).filter_map(|one| one.pointer("/containerEdits/hooks")?.as_array());
        let calls = edits.flatten().filter_map(|hook| {
            let stage = hook.get("hookName").and_then(Value::as_str).unwrap_or_default();
            Some((stage.to_owned(), Call::of(hook)?))
        });
        let spec = Spec { path: path.to_owned(), calls: calls.collect() };
        let lacks = ["cdiVersion", "kind"].into_iter().find(|key| !document.get(*key).is_some_and(Value::is_string));
        match lacks.filter(|_| !spec.calls.is_empty()) {
            Some(key) => Err(format!("it has no {key}")),
            None => Ok(spec),
        }
    }

    /// Whether it calls this program at a stage.
    pub(super) fn serves(&self, stage: &str) -> bool {
        self.calls.iter().any(|(named, _)| named == stage)
    }

    /// Whether it calls this program before the container's process begins.
    pub(super) fn protects(&self) -> bool {
        self.serves("createRuntime") || self.serves("prestart")
    }

    /// The stages at which it calls this program.
    pub(super) fn stages(&self) -> String {
        let stages: Vec<&str> = self.calls.iter().map(|(stage, _)| stage.as_str()).collect();
        stages.join(", ")
    }

    /// Whether it stands in one of these folders.
    pub(super) fn lies_in(&self, folders: &[String]) -> bool {
        let folder = self.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let known = |folder: &str| folder.trim_end_matches('/').replacen("/var/run/", "/run/", 1);
        folders.iter().any(|named| known(named) == known(folder))
    }

    /// Looks at each call.
    pub(super) fn judge(&self, tree: &Tree, programs: &mut Programs, report: &mut Report) {
        let file = tree.shown(&self.path);
        for (stage, call) in &self.calls {
            if ["createContainer", "startContainer"].contains(&stage.as_str()) {
                let finding = format!("{stage} runs inside the container's namespaces, and netlatch refuses it");
                report.problem(GROUP, "hook", finding, "write createRuntime in its place");
                report.found_in(&file);
            } else {
                let missing = "every start that calls it fails";
                call.judge(stage, Place { file: &file, missing, user: &ROOT }, tree, programs, report);
            }
        }
        if let Some(who) = tree.changeable(&self.path) {
            report.problem(
                GROUP,
                "hook",
                format!("it says what runs as root, and {who}"),
                "chown root:root and chmod go-w",
            );
            report.found_in(&file);
        }
    }
}

/// The CDI specifications that name this program.
pub(super) fn devices(tree: &Tree, report: &mut Report) -> Vec<Spec> {
    let mut found = Vec::new();
    let entries = FOLDERS.into_iter().flat_map(|folder| {
        let of = |end| tree.entries(folder, end).into_iter().filter(|(path, _)| is_file_or_nowhere(tree, path));
        [".json", ".yaml", ".yml"].into_iter().flat_map(of).collect::<Vec<_>>()
    });
    for (path, name) in entries {
        let read = match tree.read(&path) {
            Ok(text) => Ok(text),
            Err(Unread::Missing) => Err("it is a link to nowhere".to_owned()),
            Err(Unread::Because(why)) => Err(why),
        };
        // Another's device is its own affair.
        if !name.contains("netlatch") && !read.as_ref().is_ok_and(|text| text.contains("netlatch")) {
            continue;
        }
        let spec = read.and_then(|text| Spec::of_device(&path, &value_of(&path, &text)?));
        let mut problem = |finding: String, remedy: &str| {
            report.problem(GROUP, "CDI device", finding, remedy);
            report.found_in(tree.shown(&path));
        };
        match spec {
            Ok(_) if name.ends_with(".yml") => {
                problem("engines read .json and .yaml, and pass over it".to_owned(), "give it one of these ends");
            }
            Ok(spec) if spec.calls.is_empty() => {}
            Ok(spec) => {
                if !spec.protects() {
                    let finding = format!("it calls the hook at {}, and not at createRuntime: no rules", spec.stages());
                    problem(finding, "`netlatch install cdi` writes it anew");
                }
                found.push(spec);
            }
            Err(why) => problem(format!("{why}: engines pass over it"), "`netlatch install cdi` writes it anew"),
        }
    }
    // Two of the same folder have the same priority, and engines then give out neither.
    let twice = found.iter().enumerate().find_map(|(at, spec)| {
        let folder = |spec: &Spec| spec.path.rsplit_once('/').map(|(folder, _)| folder.to_owned());
        found[..at].iter().find(|other| folder(other) == folder(spec)).map(|other| (other, spec))
    });
    if let Some((one, other)) = twice {
        let finding = format!(
            "{} and {} are both of it: where a device stands in both, engines give out neither",
            one.path, other.path
        );
        report.warning(GROUP, "CDI device", finding, "leave one of them");
    }
    found
}

fn is_file_or_nowhere(tree: &Tree, path: &str) -> bool {
    tree.about(path).is_none_or(|about| !about.is_folder())
}

/// A document in JSON, or in YAML as the strict reader of this program has it: where older readers see something else in a
/// word, so may an engine.
fn value_of(path: &str, text: &str) -> Result<Value, String> {
    if path.ends_with(".json") {
        return serde_json::from_str(text).map_err(|error| format!("it is not JSON (line {})", error.line()));
    }
    let mut findings = Vec::new();
    let documents = document::parse(path, text.as_bytes(), &mut findings);
    match (findings.first(), documents.first()) {
        (Some(finding), _) => Err(format!("its YAML: {}", finding.message)),
        (None, Some(node)) => Ok(json(node)),
        (None, None) => Ok(Value::Null),
    }
}

fn json(node: &Node) -> Value {
    match &node.value {
        document::Value::Null => Value::Null,
        document::Value::Bool(value) => Value::Bool(*value),
        document::Value::Int { value, .. } => Value::from(*value),
        document::Value::Float { value, .. } => Value::from(*value),
        document::Value::Str { text, .. } => Value::String(text.clone()),
        document::Value::Seq(nodes) => nodes.iter().map(json).collect(),
        document::Value::Map(entries) => entries.iter().map(|(key, node)| (key.text.clone(), json(node))).collect(),
    }
}
