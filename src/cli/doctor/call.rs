//! One call of the hook, as a hook file, a CDI specification or a config.json has it: program, arguments, time.

use serde_json::Value;

use super::report::{Group, Report};
use super::tree::{Tree, Unread};
use super::{Programs, program};
use crate::cli::hook::Stage;
use crate::kernel::process::DEADLINE;

/// A call of ours.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) path: String,
    /// `argv`, the program's name first.
    pub(super) args: Vec<String>,
    pub(super) timeout: Option<i64>,
}

impl Call {
    /// The call in a JSON object with `path`, `args`, `timeout`; `None` where it is none of ours. Ours is what is called so,
    /// or calls itself so: also one that was renamed by mistake.
    pub(super) fn of(entry: &Value) -> Option<Call> {
        let path = entry.get("path").and_then(Value::as_str).unwrap_or_default().to_owned();
        let args = entry.get("args").and_then(Value::as_array).into_iter().flatten();
        let args: Vec<String> = args.map(|arg| arg.as_str().unwrap_or_default().to_owned()).collect();
        let is_ours = |name: &str| name.rsplit('/').next().is_some_and(|name| name.starts_with("netlatch"));
        let timeout = entry.get("timeout").and_then(Value::as_i64);
        (is_ours(&path) || args.first().is_some_and(|arg| is_ours(arg))).then_some(Call { path, args, timeout })
    }

    /// Looks at the program and at the arguments of a call at this stage.
    pub(super) fn judge(&self, stage: &str, file: &str, tree: &Tree, programs: &mut Programs, report: &mut Report) {
        let group = Group::HookFiles;
        let question = format!("call at {stage}");
        let before = report.checks.len();
        if let Err((finding, remedy)) = self.arguments(stage, tree) {
            report.problem(group, &question, finding, remedy);
            report.found_in(file);
        }
        match self.timeout {
            Some(timeout) if timeout <= 0 => {
                let finding = format!("the timeout is {timeout}, and runc kills the hook at once");
                report.problem(group, &question, finding, "write 15, or leave it out");
                report.found_in(file);
            }
            Some(timeout) if timeout.unsigned_abs() <= DEADLINE.as_secs() => {
                let finding =
                    format!("the timeout of {timeout} s is not longer than netlatch's own of {} s", DEADLINE.as_secs());
                report.warning(group, &question, finding, "write 15: netlatch then ends first, and says why");
                report.found_in(file);
            }
            Some(_) | None => {}
        }
        if report.checks.len() == before {
            report.ok(group, &question, self.args.join(" "));
            report.found_in(file);
        }
        programs.judge(&self.path, file, tree, report);
    }

    fn arguments(&self, stage: &str, tree: &Tree) -> Result<(), (String, &'static str)> {
        let Some(named) = self.args.get(1) else {
            let finding =
                "no stage among the arguments: the hook fails, and with it every start that calls it".to_owned();
            return Err((finding, "write \"args\": [\"netlatch\", STAGE], the program's name first"));
        };
        if Stage::from_name(named).is_none_or(|known| known.name() != stage) {
            let finding = format!("it is registered under {stage} and called with {named:?}");
            return Err((finding, "make both the same: createRuntime, poststart or poststop"));
        }
        let mut rest = self.args[2..].iter();
        while let Some(arg) = rest.next() {
            let (name, value) = match arg.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (arg.as_str(), rest.next().cloned()),
            };
            match (name, value) {
                ("--config", Some(path)) if tree.read(&path) == Err(Unread::Missing) => {
                    return Err((
                        format!("it names the configuration {path}, which is not there: every start fails"),
                        "write that file, or take --config away",
                    ));
                }
                ("--config" | "--run-dir", Some(value)) if !value.is_empty() => {}
                _ => return Err((format!("unknown argument {arg:?}: every start fails"), "take it away")),
            }
        }
        Ok(())
    }
}

impl Programs {
    /// Looks at the program that a call names, once.
    fn judge(&mut self, path: &str, file: &str, tree: &Tree, report: &mut Report) {
        if !self.judged.insert(path.to_owned()) {
            return;
        }
        let (group, question) = (Group::HookFiles, "program");
        let shown = tree.shown(path);
        let about = tree.about(path);
        if !path.starts_with('/') {
            report.problem(
                group,
                question,
                format!("{path:?} is no absolute path"),
                "write the absolute path; runc does not search PATH",
            );
        } else if about.is_none() {
            report.problem(
                group,
                question,
                format!("{shown} is not there: podman passes over the hook file in silence, and containers start unprotected"),
                "install the program there (`netlatch install`), or remove what is left of it: the hook file",
            );
        } else if about.is_some_and(|about| !about.is_executable()) {
            report.problem(group, question, format!("{shown} cannot be executed"), "chmod 755");
        } else if let Some(who) = tree.changeable(path) {
            report.problem(
                group,
                question,
                format!("{shown} runs as root, and {who}"),
                "make root the owner (chown root:root) and keep others from writing (chmod go-w)",
            );
        } else {
            self.version(path, &shown, tree, report);
        }
        report.found_in(file);
    }

    fn version(&self, path: &str, shown: &str, tree: &Tree, report: &mut Report) {
        let ours = concat!("netlatch ", env!("CARGO_PKG_VERSION"));
        match program::said(tree, path, &["--version"]) {
            Some(said) if said.trim() == ours => report.ok(Group::HookFiles, "program", format!("{shown}, {ours}")),
            Some(said) => {
                let said = said.lines().next().unwrap_or_default().to_owned();
                let finding = format!("{shown} says it is {said:?}, and this is {ours}");
                report.warning(Group::HookFiles, "program", finding, "install the same version in both places");
            }
            None if tree.is_live() => {
                let finding = format!("{shown} does not say its version");
                report.warning(Group::HookFiles, "program", finding, "is it this program? install it anew");
            }
            None => report.ok(Group::HookFiles, "program", shown.to_owned()),
        }
    }
}
