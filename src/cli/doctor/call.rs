//! One call of the hook, as a hook file, a CDI specification or a config.json has it: program, arguments, time.

use nix::errno::Errno;
use serde_json::Value;

use super::program::{self, Answer};
use super::report::{Group, Report};
use super::tree::{Tree, Unread, User};
use super::{Programs, Told};
use crate::cli::hook::Stage;
use crate::kernel::process::DEADLINE;

/// What this program says of itself.
const OURS: &str = concat!("netlatch ", env!("CARGO_PKG_VERSION"));

/// Where a call stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// The file, as the operator finds it.
    pub(super) file: &'a str,
    /// What comes of it where the program is missing: engines pass over such a hook file, and hand a specification's call to
    /// the runtime, which fails.
    pub(super) missing: &'static str,
    /// As whom the program runs.
    pub(super) user: &'a User,
}

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
    pub(super) fn judge(
        &self,
        stage: &str,
        place: Place<'_>,
        tree: &Tree,
        programs: &mut Programs,
        report: &mut Report,
    ) {
        let (group, file) = (Group::HookFiles, place.file);
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
        programs.judge(&self.path, place, tree, report);
        // A user's own configuration and state are the user's affair.
        if place.user.uid == 0 {
            programs.told.insert(self.told());
        }
    }

    /// What it is told beside the stage.
    pub(super) fn told(&self) -> Told {
        let rest = self.args.get(2..).unwrap_or_default();
        let of = |option: &str| {
            let at = rest.iter().position(|arg| arg == option || arg.starts_with(&format!("{option}=")))?;
            rest[at].split_once('=').map(|(_, value)| value.to_owned()).or_else(|| rest.get(at + 1).cloned())
        };
        Told { config: of("--config"), run_dir: of("--run-dir") }
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
    fn judge(&mut self, path: &str, place: Place<'_>, tree: &Tree, report: &mut Report) {
        if !self.judged.insert((path.to_owned(), place.missing)) {
            return;
        }
        let (group, question) = (Group::HookFiles, "program");
        let (shown, about) = (tree.shown(path), tree.about(path));
        if !path.starts_with('/') {
            let finding = format!("{path:?} is no absolute path: {}", place.missing);
            report.problem(group, question, finding, "write the absolute path");
        } else if about.is_none() {
            let finding = format!("{shown} is not there: {}", place.missing);
            let remedy = "install the program there (`netlatch install program`), or take the call away";
            report.problem(group, question, finding, remedy);
        } else if about.is_some_and(|about| !about.is_executable()) {
            let finding = format!("{shown} cannot be executed: every start that calls it fails");
            report.problem(group, question, finding, "chmod 755");
        } else if let Some(who) = tree.changeable_by_others_than(place.user, path) {
            let remedy = "make root the owner (chown root:root) and keep others from writing (chmod go-w)";
            let finding = format!("{shown} runs as {}, and {who}", place.user.shown());
            report.problem(group, question, finding, remedy);
        } else {
            self.version(path, &shown, tree, report);
        }
        report.found_in(place.file);
    }

    fn version(&self, path: &str, shown: &str, tree: &Tree, report: &mut Report) {
        const GROUP: Group = Group::HookFiles;
        let mut broken = |why: &str, remedy: &str| {
            let finding = format!("{shown} does not start: {why}; every container that calls it fails to start");
            report.problem(GROUP, "program", finding, remedy);
        };
        if let Some(why) = tree.no_program(path) {
            return broken(why, "install the program for this machine (`netlatch install program`)");
        }
        match program::ask(tree, path, &["--version"]) {
            Answer::Said(said) if said.trim() != OURS => {
                let said = said.lines().next().unwrap_or_default().to_owned();
                let finding = format!("{shown} says it is {said:?}, and this is {OURS}");
                report.warning(GROUP, "program", finding, "install the same version in both places");
            }
            Answer::Said(_) if tree.is_this_program(path) => {
                report.ok(GROUP, "program", format!("{shown}, {OURS}"));
            }
            Answer::Said(_) => {
                let finding = format!("{shown} says it is {OURS} as this is, and is another build");
                report.warning(
                    GROUP,
                    "program",
                    finding,
                    "install this one (`netlatch install program`), or ask that one",
                );
            }
            Answer::Silent => broken("it does not say its version", "install it anew (`netlatch install program`)"),
            Answer::Unstartable(Errno::EACCES) if tree.is_noexec(path) => {
                broken(
                    "its file system is mounted noexec",
                    "mount it with exec, or install elsewhere (`netlatch install --path`)",
                );
            }
            Answer::Unstartable(Errno::ENOENT) => {
                broken("its interpreter or loader is not there", "install the static build")
            }
            Answer::Unstartable(errno) => broken(&format!("{errno:?}"), "install it anew, and ask again as root"),
            Answer::Unasked => report.ok(GROUP, "program", shown.to_owned()),
        }
    }

    /// The commands that people type are another file than the hook that runtimes call, and may have stayed behind.
    pub(super) fn commands(tree: &Tree, report: &mut Report) {
        for path in tree.programs("netlatch") {
            if let Answer::Said(said) = program::ask(tree, &path, &["--version"])
                && said.trim() != OURS
            {
                let said = said.lines().next().unwrap_or_default().to_owned();
                let finding = format!("{} says it is {said:?}, and this is {OURS}", tree.shown(&path));
                report.warning(Group::HookFiles, "command", finding, "install the same version in both places");
            }
        }
    }
}
