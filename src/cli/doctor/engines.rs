//! The engines that are installed, and whether each gets to know the hook.

use toml::{Table, Value};

use super::Programs;
use super::hook_files::HookFile;
use super::processes::{came_after, started};
use super::program;
use super::report::{Group, Report};
use super::specs::Spec;
use super::tree::{Tree, Unread};

/// Where podman and CRI-O read hook files unless told otherwise.
pub(super) const DEFAULT_FOLDER: &str = "/usr/share/containers/oci/hooks.d";
/// Where hook files are put as well, and podman does not look (libpod/container_internal.go: only where the list is empty).
pub(super) const OTHER_FOLDER: &str = "/etc/containers/oci/hooks.d";
const GROUP: Group = Group::Engines;
const CONTAINERS_CONF: [&str; 2] = ["/usr/share/containers/containers.conf", "/etc/containers/containers.conf"];

/// All hook files that lie in a folder that an engine reads, or that one might think it reads.
#[derive(Debug, Default)]
pub(super) struct Folders {
    pub(super) files: Vec<HookFile>,
    /// Folders that some engine reads.
    pub(super) read: Vec<String>,
}

impl Folders {
    fn load(&mut self, folder: &str, tree: &Tree) {
        if !self.files.iter().any(|file| file.folder == folder) {
            self.files.extend(HookFile::of_folder(folder, tree));
        }
    }

    /// What an engine calls that reads these folders: of files with the same name the one in the last folder counts.
    fn effective(&self, folders: &[String]) -> Vec<&HookFile> {
        let mut chosen: Vec<&HookFile> = Vec::new();
        for folder in folders {
            for file in self.files.iter().filter(|file| file.folder == *folder) {
                chosen.retain(|earlier| earlier.name != file.name);
                chosen.push(file);
            }
        }
        chosen.sort_by_key(|file| file.name.to_lowercase());
        chosen
    }
}

/// Asks about every engine, and returns the folders with what is in them.
pub(super) fn ask(tree: &Tree, specs: &[Spec], programs: &mut Programs, report: &mut Report) -> Folders {
    let mut folders = Folders::default();
    folders.load(DEFAULT_FOLDER, tree);
    folders.load(OTHER_FOLDER, tree);
    podman(tree, &mut folders, specs, report);
    crio(tree, &mut folders, specs, report);
    containerd(tree, &folders, programs, report);
    docker(tree, specs, report);
    folders
}

fn table(path: &str, tree: &Tree, report: &mut Report, engine: &str) -> Option<Table> {
    match tree.read(path) {
        Err(Unread::Missing) => None,
        Err(Unread::Because(why)) => {
            report.problem(GROUP, engine, format!("its configuration: {why}"), "mend the file");
            report.found_in(tree.shown(path));
            None
        }
        Ok(text) => match text.parse::<Table>() {
            Ok(table) => Some(table),
            Err(error) => {
                let finding = format!("its configuration is not TOML: {}", error.message());
                report.problem(GROUP, engine, finding, "mend the file; the engine does not start with it");
                report.found_in(tree.shown(path));
                None
            }
        },
    }
}

/// A list of strings below two keys. `None` where there is none; containers.conf may have tables among them
/// (`{append = true}`).
fn list(table: &Table, section: &str, key: &str) -> Option<(Vec<String>, bool)> {
    let values = section.split('.').try_fold(table, |table, part| table.get(part)?.as_table())?.get(key)?.as_array()?;
    let append = values.iter().filter_map(Value::as_table).any(|of| of.get("append") == Some(&Value::Boolean(true)));
    Some((values.iter().filter_map(Value::as_str).map(str::to_owned).collect(), append))
}

/// The folders that an engine reads: what the last of its files says, or the default. Whatever folder one of them names is
/// loaded: hook files may lie there that a later file takes from it.
fn hook_folders(
    files: &[String],
    section: &str,
    engine: &str,
    folders: &mut Folders,
    tree: &Tree,
    report: &mut Report,
) -> (Vec<String>, String) {
    let mut found = (vec![DEFAULT_FOLDER.to_owned()], "by default".to_owned());
    for path in files {
        let Some(table) = table(path, tree, report, engine) else { continue };
        let Some((named, append)) = list(&table, section, "hooks_dir") else { continue };
        named.iter().for_each(|folder| folders.load(folder, tree));
        if append {
            found.0.extend(named);
        } else {
            found.0 = named;
        }
        found.1 = format!("as {} says", tree.shown(path));
    }
    found
}

fn podman(tree: &Tree, folders: &mut Folders, specs: &[Spec], report: &mut Report) {
    const NAME: &str = "podman";
    let Some(path) = tree.program(NAME) else {
        return report.not_applicable(GROUP, NAME, "not installed");
    };
    let mut files: Vec<String> = CONTAINERS_CONF.map(str::to_owned).to_vec();
    for folder in ["/usr/share/containers/containers.conf.d", "/etc/containers/containers.conf.d"] {
        files.extend(tree.files(folder, ".conf").into_iter().map(|(path, _)| path));
    }
    let version = program::said(tree, &path, &["--version"]);
    let version = version.as_deref().and_then(|said| said.trim().rsplit(' ').next()).map(str::to_owned);
    let (read, why) = hook_folders(&files, "engine", NAME, folders, tree, report);
    route(NAME, &read, &why, folders, specs, tree, report);
    let Some(number) = version.as_deref().and_then(numbers) else { return };
    if number < [5, 6, 0] {
        let finding = format!(
            "version {} forgets --hooks-dir at `podman start` and at restarts by --restart: those run without the hook",
            version.as_deref().unwrap_or_default()
        );
        report.warning(
            GROUP,
            "podman restarts",
            finding,
            "leave hook files in a folder of containers.conf; never use --hooks-dir",
        );
    }
    if ([3, 2, 0]..[4, 6, 0]).contains(&number) {
        let finding = format!(
            "version {} takes the annotations of an image for the container's: an image's author can set io.netlatch.*",
            version.as_deref().unwrap_or_default()
        );
        let remedy =
            "they can only tighten; say in allow-annotations which ones a container may carry, or update podman";
        report.warning(GROUP, "podman annotations", finding, remedy);
    }
}

fn crio(tree: &Tree, folders: &mut Folders, specs: &[Spec], report: &mut Report) {
    const NAME: &str = "CRI-O";
    if tree.program("crio").is_none() && tree.about("/etc/crio").is_none() {
        return report.not_applicable(GROUP, NAME, "not installed");
    }
    let mut files = vec!["/etc/crio/crio.conf".to_owned()];
    files.extend(tree.names("/etc/crio/crio.conf.d").into_iter().map(|name| format!("/etc/crio/crio.conf.d/{name}")));
    let (read, why) = hook_folders(&files, "crio.runtime", NAME, folders, tree, report);
    route(NAME, &read, &why, folders, specs, tree, report);
    let Some(since) = started("crio", tree) else { return };
    let late = folders.effective(&read).into_iter().find(|file| file.is_ours() && came_after(file.changed, since));
    let of_configuration =
        files.iter().find(|path| tree.about(path).is_some_and(|about| came_after(about.changed(), since)));
    if let Some(path) = late.map(|file| &file.path).or(of_configuration) {
        let finding = "it was started before this file was put there, and reads hook files once, at its start";
        report.problem(GROUP, "CRI-O restarted", finding, "systemctl restart crio");
        report.found_in(tree.shown(path));
    } else {
        report.ok(GROUP, "CRI-O restarted", "it runs, and has read what is there");
    }
}

/// Whether an engine that reads hook files gets to know the hook.
fn route(
    engine: &str,
    read: &[String],
    why: &str,
    folders: &mut Folders,
    specs: &[Spec],
    tree: &Tree,
    report: &mut Report,
) {
    for folder in read {
        folders.load(folder, tree);
        if !folders.read.contains(folder) {
            folders.read.push(folder.clone());
        }
    }
    let effective = folders.effective(read);
    let ours: Vec<_> = effective.iter().filter(|file| file.is_ours()).collect();
    let shown = read.join(", ");
    let serving = |stage: &str| ours.iter().filter(|file| file.serves(stage)).count();
    let starts = serving("createRuntime") + serving("prestart");
    if starts == 0 {
        let shadowed = read.iter().flat_map(|folder| folders.files.iter().filter(move |file| file.folder == *folder));
        let shadowed = shadowed.into_iter().find(|file| file.serves("createRuntime"));
        let elsewhere = folders.files.iter().find(|file| file.serves("createRuntime") && !read.contains(&file.folder));
        let missing: Vec<&str> =
            read.iter().filter(|folder| tree.about(folder).is_none()).map(String::as_str).collect();
        let remedy = format!(
            "put the hook files of hooks.d into {}, or name their folder as hooks_dir",
            read.last().map_or("a folder", String::as_str)
        );
        if let Some(file) = shadowed {
            let finding =
                format!("a later folder has another file named {}, and that one counts: nothing is called", file.name);
            report.problem(GROUP, engine, finding, "give one of them another name");
            report.found_in(tree.shown(&file.path));
        } else if let Some(file) = elsewhere {
            let finding = format!(
                "the hook files are in {}, and it reads {shown} ({why}): containers start without the hook",
                file.folder
            );
            report.problem(GROUP, engine, finding, &remedy);
            report.found_in(tree.shown(&file.path));
        } else if !ours.is_empty() {
            let finding = format!("no hook file in {shown} names createRuntime: containers start without rules");
            report.problem(GROUP, engine, finding, &remedy);
        } else if let Some(spec) = specs.iter().find(|spec| spec.is_ours()) {
            let finding =
                "no hook file; only containers with --device netlatch.io/net=on are protected, by the CDI device";
            report.warning(
                GROUP,
                engine,
                finding,
                "install hook files too, so that nobody has to remember (`netlatch install`)",
            );
            report.found_in(tree.shown(&spec.path));
        } else {
            let nothing = if missing.len() == read.len() { ", which is not there" } else { "" };
            let finding = format!(
                "no hook file of netlatch's in {shown}{nothing} ({why}): every container starts without the hook"
            );
            report.problem(GROUP, engine, finding, &remedy);
        }
        return;
    }
    let for_whom = if ours.iter().any(|file| file.serves("createRuntime") && file.is_for_all()) {
        "every container"
    } else {
        "annotated containers"
    };
    report.ok(GROUP, engine, format!("calls the hook for {for_whom}; reads {shown} ({why})"));
    if starts > 1 {
        let names: Vec<&str> = ours
            .iter()
            .filter(|file| file.serves("createRuntime") || file.serves("prestart"))
            .map(|file| file.name.as_str())
            .collect();
        report.warning(
            GROUP,
            engine,
            format!("{} call the hook at each start: it runs {starts} times", names.join(" and ")),
            "leave one of them",
        );
    }
    for (stage, without) in [
        ("poststart", "sysctls that runc writes later and interfaces that come later are not looked after"),
        ("poststop", "records of containers that have ended stay until `netlatch reload`"),
    ] {
        if serving(stage) == 0 {
            let finding = format!("the hook is not called at {stage}: {without}");
            report.warning(GROUP, engine, finding, "install all three hook files");
        }
    }
    order(engine, &effective, report);
}

/// Hooks of the same stage are called in the order of their files' names.
fn order(engine: &str, effective: &[&HookFile], report: &mut Report) {
    let Some(at) = effective.iter().position(|file| file.serves("createRuntime")) else { return };
    let others = |files: &[&HookFile]| -> Vec<String> {
        let of_stage = files.iter().filter(|file| file.is_anothers_at("createRuntime"));
        of_stage.map(|file| file.name.clone()).collect()
    };
    let (before, after) = (others(&effective[..at]), others(&effective[at..]));
    let said = |when: &str, names: Vec<String>| (!names.is_empty()).then(|| format!("{when} it {}", names.join(", ")));
    let said: Vec<String> = [said("before", before), said("after", after)].into_iter().flatten().collect();
    if !said.is_empty() {
        report.ok(GROUP, engine, format!("other createRuntime hooks: {}", said.join("; ")));
    }
}

/// The keys that hold the CRI plugin's runtimes, of version 3 of its configuration and of version 2.
const CRI: [&str; 2] = ["io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri"];

fn containerd(tree: &Tree, folders: &Folders, programs: &mut Programs, report: &mut Report) {
    const NAME: &str = "containerd";
    const CONFIG: &str = "/etc/containerd/config.toml";
    if tree.program(NAME).is_none() {
        return report.not_applicable(GROUP, NAME, "not installed");
    }
    let config = table(CONFIG, tree, report, NAME).unwrap_or_default();
    let disabled = config.get("disabled_plugins").and_then(Value::as_array).into_iter().flatten();
    let is_cri = |name: &str| name == "cri" || CRI.contains(&name);
    if disabled.filter_map(Value::as_str).any(is_cri) {
        return report.not_applicable(
            GROUP,
            NAME,
            "installed without its CRI plugin: `ctr` and docker bring specifications of their own",
        );
    }
    let plugins = config.get("plugins").and_then(Value::as_table);
    let cri = CRI.iter().find_map(|name| plugins?.get(*name)?.as_table()?.get("containerd")?.as_table());
    let runtimes = cri.and_then(|cri| cri.get("runtimes")?.as_table());
    let nri =
        plugins.and_then(|plugins| plugins.get("io.containerd.nri.v1.nri")?.as_table()?.get("disable")?.as_bool());
    let mut routes = 0;
    for (name, runtime) in runtimes.into_iter().flatten() {
        let engine = format!("containerd, {name}");
        let Some(base) = runtime.get("base_runtime_spec").and_then(Value::as_str).filter(|path| !path.is_empty())
        else {
            continue;
        };
        if base_spec(base, &engine, tree, programs, report) {
            routes += 1;
            passes_annotations(&engine, runtime, tree.shown(CONFIG), report);
            restarted(base, tree, report);
        }
    }
    if routes == 0 {
        let hook_files = folders
            .files
            .iter()
            .any(|file| file.serves("createRuntime") && [DEFAULT_FOLDER, OTHER_FOLDER].contains(&file.folder.as_str()));
        match (nri, hook_files) {
            (Some(false) | None, true) => report.warning(
                GROUP,
                NAME,
                "no base_runtime_spec; hook files are there, but whether NRI's hook-injector runs cannot be seen from here",
                "run the hook-injector plugin of NRI, or set base_runtime_spec; then `netlatch verify --all`",
            ),
            (Some(true), _) | (_, false) => report.warning(
                GROUP,
                NAME,
                "no runtime of its configuration has a base_runtime_spec with the hook: containers start without it",
                "set base_runtime_spec to the output of `ctr oci spec` with the hooks in it, and restart containerd",
            ),
        }
        report.found_in(tree.shown(CONFIG));
    }
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
        Ok(spec) if spec.serves("createRuntime") => {
            report.ok(GROUP, engine, "its base_runtime_spec has the hook");
            report.found_in(&file);
            spec.judge(tree, programs, report);
            true
        }
        Ok(_) => {
            report.problem(
                GROUP,
                engine,
                "its base_runtime_spec calls no hook of netlatch's",
                "put the hooks into it, and restart containerd",
            );
            report.found_in(file);
            false
        }
    }
}

/// Pod annotations reach the hook only where the runtime's options name them (`path.Match` of Go).
fn passes_annotations(engine: &str, runtime: &Value, file: String, report: &mut Report) {
    let patterns = runtime.get("pod_annotations").and_then(Value::as_array).into_iter().flatten();
    let passes = patterns.filter_map(Value::as_str).any(|pattern| match pattern.split_once('*') {
        Some((before, "")) => "io.netlatch.egress".starts_with(before),
        Some(_) | None => false,
    });
    if passes {
        report.ok(GROUP, engine, "pod annotations io.netlatch.* reach the hook");
    } else {
        let finding = "its pod_annotations do not name io.netlatch.*: what a pod asks for does not reach the hook";
        report.problem(GROUP, engine, finding, "pod_annotations = [\"io.netlatch.*\"], and restart containerd");
    }
    report.found_in(file);
}

fn restarted(base: &str, tree: &Tree, report: &mut Report) {
    let Some(since) = started("containerd", tree) else { return };
    if tree.about(base).is_some_and(|about| came_after(about.changed(), since)) {
        let finding = "it was started before its base_runtime_spec was written, and reads that once, at its start";
        report.problem(GROUP, "containerd restarted", finding, "systemctl restart containerd");
        report.found_in(tree.shown(base));
    } else {
        report.ok(GROUP, "containerd restarted", "it runs, and has read what is there");
    }
}

fn docker(tree: &Tree, specs: &[Spec], report: &mut Report) {
    const NAME: &str = "docker";
    const CONFIG: &str = "/etc/docker/daemon.json";
    if tree.program("dockerd").is_none() {
        return report.not_applicable(GROUP, NAME, "not installed");
    }
    let config = match tree.read(CONFIG) {
        Ok(text) => match serde_json::from_str::<serde_json::Value>(&text) {
            Ok(config) => config,
            Err(error) => {
                let finding = format!("its configuration is not JSON (line {})", error.line());
                report.problem(GROUP, NAME, finding, "mend the file; dockerd does not start with it");
                return report.found_in(tree.shown(CONFIG));
            }
        },
        Err(_) => serde_json::Value::Null,
    };
    let off = config.pointer("/features/cdi").and_then(serde_json::Value::as_bool) == Some(false);
    let Some(spec) = specs.iter().find(|spec| spec.is_ours()) else {
        let finding = "it has no hooks but through CDI, and there is no CDI device of netlatch's";
        return report.warning(
            GROUP,
            NAME,
            finding,
            "`netlatch install cdi`, then docker run --device netlatch.io/net=on",
        );
    };
    if off {
        report.problem(
            GROUP,
            NAME,
            "CDI is off in its configuration",
            "\"features\": {\"cdi\": true}, and restart docker",
        );
        return report.found_in(tree.shown(CONFIG));
    }
    report.ok(
        GROUP,
        NAME,
        "containers with --device netlatch.io/net=on are protected (docker 28.2 or later; others need features.cdi)",
    );
    report.found_in(tree.shown(&spec.path));
}

/// The first three numbers of a version.
pub(super) fn numbers(version: &str) -> Option<[u32; 3]> {
    let digits = |part: &str| part.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    let mut parts = version.trim_start_matches('v').split(['.', '+', '-', '~']);
    Some([digits(parts.next()?)?, digits(parts.next()?)?, parts.next().and_then(digits).unwrap_or(0)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(numbers("4.3.1"), Some([4, 3, 1]));
        assert_eq!(numbers("5.10"), Some([5, 10, 0]));
        assert_eq!(numbers("1.1.5+ds1"), Some([1, 1, 5]));
        assert_eq!(numbers("1.30-dev"), Some([1, 30, 0]));
        assert_eq!(numbers("unknown"), None);
        assert!(numbers("5.6.0") < numbers("5.10.0"));
    }
}
