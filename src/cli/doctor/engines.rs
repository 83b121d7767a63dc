//! The engines that are installed, and whether each gets to know the hook.

mod containerd;
mod crio;
mod docker;
mod podman;

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use super::Programs;
use super::hook_files::HookFile;
use super::report::{Group, Report, Verdict};
use super::specs::Spec;
use super::tree::{ROOT, Tree, Unread, User};

/// Where podman and CRI-O read hook files unless told otherwise.
pub(super) const DEFAULT_FOLDER: &str = "/usr/share/containers/oci/hooks.d";
/// Where hook files are put as well, and podman does not look (libpod/container_internal.go: only where the list is empty).
pub(super) const OTHER_FOLDER: &str = "/etc/containers/oci/hooks.d";
const GROUP: Group = Group::Engines;

/// All hook files that lie in a folder that an engine reads, or that one might think it reads.
#[derive(Debug, Default)]
pub(super) struct Folders {
    pub(super) files: Vec<HookFile>,
    /// Folders that some engine reads.
    pub(super) read: Vec<String>,
    /// What engines' configurations say, by path; `None` where one is not there or cannot be read, which is said once.
    configurations: BTreeMap<String, Option<Table>>,
}

impl Folders {
    fn load(&mut self, folder: &str, user: &User, tree: &Tree) {
        if !self.files.iter().any(|file| file.folder == folder) {
            self.files.extend(HookFile::of_folder(folder, user, tree));
        }
    }

    fn configuration(&mut self, path: &str, engine: &str, tree: &Tree, report: &mut Report) -> Option<&Table> {
        let entry = self.configurations.entry(path.to_owned());
        entry.or_insert_with(|| table(path, tree, report, engine)).as_ref()
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
    folders.load(DEFAULT_FOLDER, &ROOT, tree);
    folders.load(OTHER_FOLDER, &ROOT, tree);
    podman::ask(tree, &mut folders, specs, report);
    crio::ask(tree, &mut folders, specs, report);
    containerd::ask(tree, &folders, programs, report);
    docker::ask(tree, specs, report);
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

/// A list of strings below some keys, and what it says of itself: containers.conf may have a table in it (`{append = true}`).
/// `None` where there is no such list.
fn list(table: &Table, section: &str, key: &str) -> Option<(Vec<String>, Option<bool>)> {
    let values = section.split('.').try_fold(table, |table, part| table.get(part)?.as_table())?.get(key)?.as_array()?;
    let append = values.iter().filter_map(Value::as_table).find_map(|of| of.get("append")?.as_bool());
    Some((values.iter().filter_map(Value::as_str).map(str::to_owned).collect(), append))
}

/// A list that one file after another sets, or adds to: what one says of that holds for those behind it as well.
#[derive(Debug)]
struct Layered {
    values: Vec<String>,
    append: bool,
}

impl Layered {
    fn take(&mut self, (values, append): (Vec<String>, Option<bool>)) {
        self.append = append.unwrap_or(self.append);
        self.values.retain(|_| self.append);
        self.values.extend(values);
    }
}

/// An engine that reads hook files.
struct Engine<'a> {
    /// As the report calls it.
    name: &'a str,
    /// Who starts containers by it.
    user: &'a User,
    /// The folders it reads, in this order.
    read: Vec<String>,
    /// What says so.
    why: String,
    /// How bad it is where it gets to know no hook.
    without: Verdict,
    /// Where it reads CDI specifications.
    devices: Vec<String>,
}

impl<'a> Engine<'a> {
    /// What the last of these files says, or the default. Whatever folder one of them names is loaded: hook files may lie there that
    /// a later file takes from it.
    fn configured(
        (name, user): (&'a str, &'a User),
        (files, section): (&[String], &str),
        folders: &mut Folders,
        tree: &Tree,
        report: &mut Report,
    ) -> Engine<'a> {
        let mut read = Layered { values: vec![DEFAULT_FOLDER.to_owned()], append: false };
        let mut devices = Layered { values: super::specs::FOLDERS.map(str::to_owned).to_vec(), append: false };
        let mut why = "by default".to_owned();
        for path in files {
            let Some(table) = folders.configuration(path, name, tree, report) else { continue };
            let (hooks, cdi) = (list(table, section, "hooks_dir"), list(table, section, "cdi_spec_dirs"));
            cdi.into_iter().for_each(|named| devices.take(named));
            let Some(named) = hooks else { continue };
            named.0.iter().for_each(|folder| folders.load(folder, user, tree));
            read.take(named);
            why = format!("as {} says", tree.shown(path));
        }
        Engine { name, user, read: read.values, why, without: Verdict::Problem, devices: devices.values }
    }
}

impl Engine<'_> {
    /// Whether it gets to know the hook; the files of ours that it reads.
    fn route(&self, folders: &mut Folders, specs: &[Spec], tree: &Tree, report: &mut Report) {
        for folder in &self.read {
            folders.load(folder, self.user, tree);
            if !folders.read.contains(folder) {
                folders.read.push(folder.clone());
            }
        }
        let effective = folders.effective(&self.read);
        let ours: Vec<&HookFile> = effective.iter().copied().filter(|file| file.is_ours()).collect();
        let starting: Vec<&HookFile> = ours.iter().copied().filter(|file| file.starts()).collect();
        if starting.is_empty() {
            return self.without(&ours, folders, specs, tree, report);
        }
        let for_all = starting.iter().any(|file| file.is_for_all());
        let for_whom = if for_all { "every container" } else { "annotated containers" };
        let (read, why) = (self.read.join(", "), &self.why);
        report.ok(GROUP, self.name, format!("calls the hook for {for_whom}; reads {read} ({why})"));
        if starting.len() > 1 {
            let names: Vec<&str> = starting.iter().map(|file| file.name.as_str()).collect();
            let finding =
                format!("{} call the hook at each start: it runs {} times", names.join(" and "), starting.len());
            report.warning(GROUP, self.name, finding, "leave one of them");
        }
        for (stage, without) in [
            ("poststart", "sysctls that runc writes later and interfaces that come later are not looked after"),
            ("poststop", "records of containers that have ended stay until `netlatch reload`"),
        ] {
            if !ours.iter().any(|file| file.serves(stage)) {
                let finding = format!("the hook is not called at {stage}: {without}");
                report.warning(GROUP, self.name, finding, "install all three hook files");
            }
        }
        let told: BTreeSet<_> = ours.iter().filter_map(|file| Some(file.call()?.told())).collect();
        if told.len() > 1 {
            let finding = "its hook files name different configurations or state directories: what one stage records the others do not find";
            report.warning(GROUP, self.name, finding, "give all three the same --config and --run-dir");
        }
        order(self.name, &effective, report);
    }

    /// Nothing of ours is called before a container's process begins.
    fn without(&self, ours: &[&HookFile], folders: &Folders, specs: &[Spec], tree: &Tree, report: &mut Report) {
        let (shown, why) = (self.read.join(", "), &self.why);
        let of_read = |file: &&HookFile| self.read.contains(&file.folder);
        let shadowed = folders.files.iter().filter(of_read).find(|file| file.starts());
        let elsewhere = folders.files.iter().find(|file| file.starts() && !of_read(file));
        let folder = self.read.last().map_or("a folder", String::as_str);
        let remedy = format!(
            "put the hook files of hooks.d into {folder} (`netlatch install`), or name their folder as hooks_dir"
        );
        let mut put = |finding: String, remedy: &str, file: Option<&str>| {
            match self.without {
                Verdict::Problem => report.problem(GROUP, self.name, finding, remedy),
                Verdict::Warning | Verdict::Ok | Verdict::NotApplicable => {
                    report.warning(GROUP, self.name, finding, remedy)
                }
            }
            if let Some(file) = file {
                report.found_in(tree.shown(file));
            }
        };
        if let Some(file) = shadowed {
            let finding =
                format!("a later folder has another file named {}, and that one counts: nothing is called", file.name);
            return put(finding, "give one of them another name", Some(&file.path));
        }
        if let Some(file) = elsewhere {
            let finding = format!(
                "the hook files are in {}, and it reads {shown} ({why}): containers start without the hook",
                file.folder
            );
            return put(finding, &remedy, Some(&file.path));
        }
        if let Some(file) = ours.first() {
            let finding = format!("no hook file in {shown} names createRuntime: containers start without rules");
            // What is wrong with a file that cannot be read is said of the file.
            let file = file.call().map(|_| file.path.as_str());
            return put(finding, &remedy, file.filter(|_| ours.len() == 1));
        }
        if let Some(spec) = specs.iter().find(|spec| spec.protects() && spec.lies_in(&self.devices)) {
            let finding =
                "no hook file; only containers with --device netlatch.io/net=on are protected, by the CDI device";
            let remedy = "install hook files too, so that nobody has to remember (`netlatch install`)";
            report.warning(GROUP, self.name, finding, remedy);
            return report.found_in(tree.shown(&spec.path));
        }
        let missing = self.read.iter().all(|folder| tree.about(folder).is_none());
        let nothing = if missing { ", which is not there" } else { "" };
        // A file that was set aside, or that a package manager left beside the one it did not replace.
        let names = self.read.iter().flat_map(|folder| tree.entries(folder, ""));
        let aside = names.into_iter().find(|(_, name)| name.contains("netlatch") && !name.ends_with(".json"));
        let beside = aside.as_ref().map_or(String::new(), |(_, name)| format!(" ({name} does not end in .json)"));
        let finding = format!(
            "no hook file of netlatch's in {shown}{nothing} ({why}){beside}: every container starts without the hook"
        );
        put(finding, &remedy, aside.as_ref().map(|(path, _)| path.as_str()));
    }
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
