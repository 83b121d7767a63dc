//! containerd, whose CRI plugin brings the hook to pods by a base specification of containers.

use std::collections::BTreeSet;

use regex_lite::Regex;
use toml::{Table, Value};

use super::{DEFAULT_FOLDER, Folders, GROUP, OTHER_FOLDER, numbers, table};
use crate::cli::doctor::hook_files::annotation_keys;
use crate::cli::doctor::processes::{Daemon, came_after};
use crate::cli::doctor::program;
use crate::cli::doctor::report::Report;
use crate::cli::doctor::specs::Spec;
use crate::cli::doctor::tree::{Tree, Unread};
use crate::cli::doctor::{MAX_NAMES, Programs};

const NAME: &str = "containerd";
/// The keys that hold the CRI plugin's runtimes, of versions 1, 2 and 3 of its configuration.
const CRI: [&str; 3] = ["cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"];

pub(super) fn ask(tree: &Tree, folders: &Folders, programs: &mut Programs, report: &mut Report) {
    let program = tree.program(NAME);
    // dockerd starts one of its own where there is none, and needs no CRI plugin.
    let of_docker =
        |daemon: &Daemon| daemon.told(&["--config", "-c"], "").is_some_and(|path| path.contains("/docker/"));
    let daemon = Daemon::all(NAME, tree).into_iter().find(|daemon| !of_docker(daemon));
    if program.is_none() && daemon.is_none() {
        return report.not_applicable(GROUP, NAME, "not installed");
    }
    let said = program.and_then(|path| program::said(tree, &path, &["--version"]));
    let version = said.and_then(|said| said.split_ascii_whitespace().find_map(numbers));
    let path = daemon.as_ref().and_then(|daemon| daemon.told(&["--config", "-c"], ""));
    let path = path.unwrap_or_else(|| "/etc/containerd/config.toml".to_owned());
    let config = Config::load(&path, version, tree, report);
    let is_cri = |name: &String| CRI.contains(&name.as_str());
    if config.disabled.iter().any(is_cri) {
        let finding = "installed without its CRI plugin: `ctr` and docker bring specifications of their own";
        return report.not_applicable(GROUP, NAME, finding);
    }
    let of =
        |runtime: &Value| runtime.get("base_runtime_spec")?.as_str().filter(|path| !path.is_empty()).map(str::to_owned);
    let mut hooked = BTreeSet::new();
    for (name, runtime) in config.runtimes() {
        let Some(base) = of(runtime) else { continue };
        let engine = format!("{NAME}, {name}");
        if base_spec(&base, &engine, tree, programs, report) {
            hooked.insert(name.clone());
            passes_annotations(&engine, runtime, tree.shown(&path), report);
            config.restarted(&base, daemon.as_ref(), tree, report);
        }
    }
    if hooked.is_empty() {
        // What is wrong with one that there is has been said.
        if !config.runtimes().any(|(_, runtime)| of(runtime).is_some()) {
            none(&config, folders, report);
            report.found_in(tree.shown(&path));
        }
        return;
    }
    let usual = config.usual();
    let others = config.runtimes().filter(|(_, runtime)| of(runtime).is_none()).map(|(name, _)| name.clone());
    let others =
        others.chain([usual.clone()].into_iter().filter(|usual| !config.runtimes().any(|(name, _)| name == usual)));
    for name in others.collect::<BTreeSet<_>>() {
        let (engine, remedy) =
            (format!("{NAME}, {name}"), "set its base_runtime_spec and pod_annotations too, and restart containerd");
        if name == usual {
            let finding = "it is the default runtime and has no base_runtime_spec: pods without a RuntimeClass start without the hook";
            report.problem(GROUP, &engine, finding, remedy);
        } else {
            let finding = "it has no base_runtime_spec: pods of its RuntimeClass start without the hook";
            report.warning(GROUP, &engine, finding, remedy);
        }
        report.found_in(tree.shown(&path));
    }
}

/// No runtime has a base specification.
fn none(config: &Config, folders: &Folders, report: &mut Report) {
    let known = |folder: &str| [DEFAULT_FOLDER, OTHER_FOLDER].contains(&folder);
    let hook_files = folders.files.iter().any(|file| file.serves("createRuntime") && known(&file.folder));
    if hook_files && config.nri_disabled != Some(true) {
        let finding =
            "no base_runtime_spec; hook files are there, but whether NRI's hook-injector runs cannot be seen from here";
        let remedy = "run the hook-injector plugin of NRI, or set base_runtime_spec; then `netlatch verify --all`";
        report.warning(GROUP, NAME, finding, remedy);
    } else {
        let finding = "no runtime of its configuration has a base_runtime_spec with the hook: pods start without it";
        let remedy = "`ctr oci spec | netlatch install containerd --spec -`, set base_runtime_spec to that file, and restart containerd";
        report.warning(GROUP, NAME, finding, remedy);
    }
}

/// What containerd's files come to, as far as it concerns us.
#[derive(Debug, Default)]
struct Config {
    files: Vec<String>,
    /// The section of the CRI plugin that has the runtimes.
    cri: Table,
    disabled: Vec<String>,
    nri_disabled: Option<bool>,
}

impl Config {
    /// Reads a file and what it imports, each after the one that names it (`LoadConfig`). `containerd` is its version.
    fn load(path: &str, containerd: Option<[u32; 3]>, tree: &Tree, report: &mut Report) -> Config {
        let mut config = Config::default();
        let mut pending = std::collections::VecDeque::from([path.to_owned()]);
        while let Some(path) = pending.pop_front() {
            if config.files.contains(&path) || config.files.len() == MAX_NAMES {
                continue;
            }
            if !config.files.is_empty() && tree.about(&path).is_none() {
                report.problem(
                    GROUP,
                    NAME,
                    "it is imported and not there: containerd does not start",
                    "write it, or take the import away",
                );
                report.found_in(tree.shown(&path));
                continue;
            }
            config.files.push(path.clone());
            let Some(table) = table(&path, tree, report, NAME) else { continue };
            pending.extend(imports(&path, &table, tree));
            config.merge(&path, &table, containerd, tree, report);
        }
        config
    }

    fn merge(&mut self, path: &str, table: &Table, containerd: Option<[u32; 3]>, tree: &Tree, report: &mut Report) {
        let major = containerd.map(|[major, _, _]| major);
        let version = table.get("version").and_then(Value::as_integer).unwrap_or(0).max(1);
        if version > 2 && major == Some(1) {
            let finding =
                format!("its configuration is of version {version}, and containerd 1 does not start with that");
            report.problem(
                GROUP,
                NAME,
                finding,
                "write version = 2, and the names of its plugins as version 2 has them",
            );
            report.found_in(tree.shown(path));
        }
        let disabled = table.get("disabled_plugins").and_then(Value::as_array).into_iter().flatten();
        self.disabled.extend(disabled.filter_map(|name| name.as_str().map(str::to_owned)));
        let plugins = table.get("plugins").and_then(Value::as_table);
        let plugin = |name: &str| plugins?.get(name)?.as_table();
        self.nri_disabled =
            plugin("io.containerd.nri.v1.nri").and_then(|nri| nri.get("disable")?.as_bool()).or(self.nri_disabled);
        // containerd 2 renames what it knows of older versions, and takes its own names anywhere.
        let known: &[&str] = match (version, major.unwrap_or(0)) {
            (1, 0 | 1) => &CRI[..1],
            (1, _) => &CRI,
            (2, 0 | 1) => &CRI[1..2],
            (2, _) => &CRI[1..],
            // Since 2.4 it renames those of version 3 too.
            (3, _) if containerd >= Some([2, 4, 0]) => &CRI[1..],
            (_, _) => &CRI[2..],
        };
        for name in CRI {
            let Some(section) = plugin(name) else { continue };
            if known.contains(&name) {
                // containerd 1 replaces the whole section of a plugin by that of an import, and 2 merges them.
                if major.is_none_or(|major| major < 2) && version < 3 {
                    self.cri = section.clone();
                } else {
                    overlay(&mut self.cri, section);
                }
            } else if section.get("containerd").and_then(|of| of.get("runtimes")).is_some() {
                let finding = format!(
                    "it has runtimes in plugins.{name:?}, and a file of version {version} has them in {:?}: containerd passes over them",
                    known[0]
                );
                report.problem(GROUP, NAME, finding, "give the plugin the name that belongs to the version, or the file the version (`containerd config migrate`)");
                report.found_in(tree.shown(path));
            }
        }
    }

    fn containerd(&self) -> Option<&Table> {
        self.cri.get("containerd")?.as_table()
    }

    fn runtimes(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.containerd().and_then(|of| of.get("runtimes")?.as_table()).into_iter().flatten()
    }

    /// The runtime of pods that name none.
    fn usual(&self) -> String {
        let named = self.containerd().and_then(|of| of.get("default_runtime_name")?.as_str());
        named.filter(|name| !name.is_empty()).unwrap_or("runc").to_owned()
    }

    fn restarted(&self, base: &str, daemon: Option<&Daemon>, tree: &Tree, report: &mut Report) {
        const QUESTION: &str = "containerd restarted";
        let Some(Daemon { since, .. }) = daemon else { return };
        let late = |path: &&str| tree.about(path).is_some_and(|about| came_after(about.changed(), *since));
        if late(&base) {
            let finding = "it was started before its base_runtime_spec was written, and reads that once, at its start";
            report.problem(GROUP, QUESTION, finding, "systemctl restart containerd");
            report.found_in(tree.shown(base));
        } else if let Some(path) = self.files.iter().map(String::as_str).find(late) {
            let finding = "it was started before its configuration was written, and reads that once, at its start";
            report.problem(GROUP, QUESTION, finding, "systemctl restart containerd");
            report.found_in(tree.shown(path));
        } else {
            report.ok(GROUP, QUESTION, "it runs, and has read what is there");
        }
    }
}

/// What a file imports: paths from where it is, with `*` for any part of a name.
fn imports(file: &str, table: &Table, tree: &Tree) -> Vec<String> {
    let here = file.rsplit_once('/').map_or("", |(folder, _)| folder);
    let named = table.get("imports").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let absolute = |path: &str| if path.starts_with('/') { path.to_owned() } else { format!("{here}/{path}") };
    let expand = |path: String| -> Vec<String> {
        let Some((folder, pattern)) = path.rsplit_once('/').filter(|(_, name)| name.contains('*')) else {
            return vec![path];
        };
        let entries = tree.entries(folder, "").into_iter();
        entries.filter(|(_, name)| matches(pattern, name)).map(|(path, _)| path).collect()
    };
    named.flat_map(|path| expand(absolute(path))).collect()
}

/// Tables are merged key by key, and anything else is replaced.
fn overlay(under: &mut Table, over: &Table) {
    for (key, value) in over {
        match (under.get_mut(key).and_then(Value::as_table_mut), value.as_table()) {
            (Some(under), Some(over)) => overlay(under, over),
            _ => drop(under.insert(key.clone(), value.clone())),
        }
    }
}

/// `path.Match` and `filepath.Match` of Go, for names without a slash: `*`, `?`, `[a-z]`, `[^a-z]`, `\\x`.
fn matches(pattern: &str, name: &str) -> bool {
    let (mut expression, mut rest, mut class) = (String::from("^"), pattern.chars(), false);
    while let Some(character) = rest.next() {
        match character {
            '\\' => expression.extend(rest.next().into_iter().flat_map(|next| ['\\', next])),
            '[' if !class => {
                class = true;
                expression.push('[');
            }
            ']' if class => {
                class = false;
                expression.push(']');
            }
            '*' if !class => expression.push_str("[^/]*"),
            '?' if !class => expression.push_str("[^/]"),
            '-' | '^' if class => expression.push(character),
            other if other.is_ascii_alphanumeric() => expression.push(other),
            other if other.is_ascii() => expression.extend(['\\', other]),
            other => expression.push(other),
        }
    }
    Regex::new(&(expression + "$")).is_ok_and(|expression| expression.is_match(name))
}

/// Whether a base specification has the hook.
fn base_spec(path: &str, engine: &str, tree: &Tree, programs: &mut Programs, report: &mut Report) -> bool {
    let file = tree.shown(path);
    let spec = match tree.read(path) {
        Err(Unread::Missing) => {
            report.problem(
                GROUP,
                engine,
                "its base_runtime_spec is not there: containerd does not start",
                "write it, or take the key away",
            );
            report.found_in(file);
            return false;
        }
        Err(Unread::Because(why)) => {
            report.problem(GROUP, engine, format!("its base_runtime_spec: {why}"), "mend it");
            report.found_in(file);
            return false;
        }
        Ok(text) => Spec::of_container(path, &text),
    };
    match spec {
        Err(why) => {
            report.problem(GROUP, engine, format!("its base_runtime_spec {why}"), "mend it");
            report.found_in(file);
            false
        }
        Ok(spec) if spec.protects() => {
            report.ok(GROUP, engine, "its base_runtime_spec has the hook");
            report.found_in(&file);
            spec.judge(tree, programs, report);
            true
        }
        Ok(spec) => {
            let finding = match spec.stages() {
                none if none.is_empty() => "its base_runtime_spec calls no hook of netlatch's".to_owned(),
                stages => format!("its base_runtime_spec calls the hook at {stages}, and not at createRuntime"),
            };
            let remedy =
                "`ctr oci spec | netlatch install containerd --spec -` makes one that does; restart containerd";
            report.problem(GROUP, engine, finding, remedy);
            report.found_in(file);
            false
        }
    }
}

/// Pod annotations reach the hook only where the runtime's options name them.
fn passes_annotations(engine: &str, runtime: &Value, file: String, report: &mut Report) {
    let patterns = runtime.get("pod_annotations").and_then(Value::as_array).into_iter().flatten();
    let patterns: Vec<&str> = patterns.filter_map(Value::as_str).collect();
    let (passed, missed): (Vec<String>, Vec<String>) =
        annotation_keys().partition(|key| patterns.iter().any(|pattern| matches(pattern, key)));
    if missed.is_empty() {
        report.ok(GROUP, engine, "pod annotations io.netlatch.* reach the hook");
    } else {
        let which = if passed.is_empty() { "io.netlatch.*".to_owned() } else { missed.join(", ") };
        let finding =
            format!("its pod_annotations do not name {which}: what a pod asks for there does not reach the hook");
        report.problem(GROUP, engine, finding, "pod_annotations = [\"io.netlatch.*\"], and restart containerd");
    }
    report.found_in(file);
}
