//! The runtimes that are installed, and what they do with hooks.

use serde_json::Value;

use super::engines::numbers;
use super::program;
use super::report::{Group, Report};
use super::tree::Tree;

const GROUP: Group = Group::Runtimes;
/// A runtime, and what it is called in its own `--version`.
const RUNTIMES: [&str; 3] = ["runc", "crun", "youki"];

pub(super) fn ask(tree: &Tree, report: &mut Report) {
    // Which of several an engine takes is the engine's own affair.
    let of = |name: &'static str| tree.programs(name).into_iter().map(move |path| (name, path));
    let installed: Vec<(&str, String)> = RUNTIMES.into_iter().flat_map(of).collect();
    if installed.is_empty() {
        let finding = "neither runc nor crun nor youki is where programs are";
        return report.warning(
            GROUP,
            "runtimes",
            finding,
            "netlatch is called by a runtime; install one, or look where yours is",
        );
    }
    for (name, path) in installed {
        if let Some(who) = tree.changeable(&path) {
            report.warning(GROUP, name, format!("it runs as root, and {who}"), "chown root:root and chmod go-w");
            report.found_in(tree.shown(&path));
            continue;
        }
        one(name, &path, tree, report);
    }
}

fn one(name: &str, path: &str, tree: &Tree, report: &mut Report) {
    if !tree.is_live() {
        return report.ok(GROUP, name, format!("{}, not asked: it is another machine's", tree.shown(path)));
    }
    let version = program::said(tree, path, &["--version"]).and_then(|said| {
        let line = said.lines().find(|line| line.contains("ersion"))?;
        line.split([' ', ':']).rfind(|word| word.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned)
    });
    let features = program::said(tree, path, &["features"]);
    let features: Option<Value> = features.and_then(|said| serde_json::from_str(&said).ok());
    let stages = features.as_ref().and_then(|features| features.get("hooks")?.as_array());
    let known = version.as_deref().unwrap_or("of unknown version");
    match stages {
        Some(stages) if !stages.iter().any(|stage| stage == "createRuntime") => {
            report.problem(GROUP, name, format!("{path} {known} has no createRuntime hooks"), "use a later version");
        }
        Some(_) => report.ok(GROUP, name, format!("{path} {known}: createRuntime hooks, as `{name} features` says")),
        // runc before 1.1 and crun before 1.9 have no such command; both have had these hooks since 2020.
        None => report.ok(GROUP, name, format!("{path} {known}; it has no `features` to ask for its hook stages")),
    }
    let Some(number) = version.as_deref().and_then(numbers) else { return };
    if name == "crun" && ([1, 27, 0]..[1, 30, 0]).contains(&number) {
        let finding = format!(
            "{known} may name \"/\" as the bundle (containers/crun#2025): capabilities of such containers are not looked at"
        );
        report.warning(
            GROUP,
            name,
            finding,
            "use 1.30 or later, or write `net-admin: refuse` so that such a container does not start",
        );
    }
    if name == "youki" && number < [0, 6, 0] {
        let finding = format!("{known} gives hooks a document that is no OCI state: every start with the hook fails");
        report.problem(GROUP, name, finding, "use 0.6 or later");
    }
    if name != "runc" && tree.program("criu").is_some() {
        let finding = format!(
            "CRIU is installed, and {name} calls no hook when it restores a checkpoint: the container runs without"
        );
        report.warning(GROUP, name, finding, "restore with runc, or look with `netlatch verify --all` afterwards");
    }
}
