//! Hooks in JSON documents of other kinds: CDI specifications, and base specifications of containers.

use serde_json::Value;

use super::Programs;
use super::call::Call;
use super::report::{Group, Report};
use super::tree::{Tree, Unread};

/// Where engines read CDI specifications. The second is for generated ones, which a reboot takes away.
const FOLDERS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
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

    /// A CDI specification.
    fn of_device(path: &str, text: &str) -> Result<Spec, String> {
        let document: Value =
            serde_json::from_str(text).map_err(|error| format!("it is not JSON (line {})", error.line()))?;
        let devices = document.get("devices").and_then(Value::as_array).into_iter().flatten();
        let edits = devices.chain([&document]).filter_map(|one| one.pointer("/containerEdits/hooks")?.as_array());
        let calls = edits.flatten().filter_map(|hook| {
            let stage = hook.get("hookName").and_then(Value::as_str).unwrap_or_default();
            Some((stage.to_owned(), Call::of(hook)?))
        });
        Ok(Spec { path: path.to_owned(), calls: calls.collect() })
    }

    /// Whether it calls this program at a stage.
    pub(super) fn serves(&self, stage: &str) -> bool {
        self.calls.iter().any(|(named, _)| named == stage)
    }

    /// Whether it is a device of ours that protects.
    pub(super) fn is_ours(&self) -> bool {
        self.serves("createRuntime")
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
                call.judge(stage, &file, tree, programs, report);
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

/// The CDI specifications that name this program. One in YAML is not looked into.
pub(super) fn devices(tree: &Tree, report: &mut Report) -> Vec<Spec> {
    let mut found = Vec::new();
    for folder in FOLDERS {
        for (path, name) in tree.files(folder, ".json") {
            let spec = match tree.read(&path) {
                Ok(text) => Spec::of_device(&path, &text),
                Err(Unread::Missing) => Err("it is a link to nowhere".to_owned()),
                Err(Unread::Because(why)) => Err(why),
            };
            match spec {
                Ok(spec) if !spec.calls.is_empty() => found.push(spec),
                Ok(_) => {}
                Err(why) if name.contains("netlatch") => {
                    report.problem(
                        GROUP,
                        "CDI device",
                        format!("{why}: engines pass over it"),
                        "`netlatch install cdi` writes it anew",
                    );
                    report.found_in(tree.shown(&path));
                }
                // Another's device is its own affair.
                Err(_) => {}
            }
        }
    }
    found
}
