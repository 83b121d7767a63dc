//! CRI-O, which reads hook files once, at its start.

use super::{Engine, Folders, GROUP, list};
use crate::cli::doctor::processes::{Daemon, came_after};
use crate::cli::doctor::report::Report;
use crate::cli::doctor::specs::Spec;
use crate::cli::doctor::tree::{ROOT, Tree};

const NAME: &str = "CRI-O";
const SECTION: &str = "crio.runtime";

pub(super) fn ask(tree: &Tree, folders: &mut Folders, specs: &[Spec], report: &mut Report) {
    let daemon = Daemon::running("crio", tree);
    if tree.program("crio").is_none() && daemon.is_none() {
        return report.not_applicable(GROUP, NAME, "not installed");
    }
    let told = |options: &[&str], variable| daemon.as_ref().and_then(|daemon| daemon.told(options, variable));
    let main = told(&["--config", "-c"], "CONTAINER_CONFIG").unwrap_or_else(|| "/etc/crio/crio.conf".to_owned());
    let below =
        told(&["--config-dir", "-d"], "CONTAINER_CONFIG_DIR").unwrap_or_else(|| "/etc/crio/crio.conf.d".to_owned());
    let mut files = vec![main];
    walk(&below, tree, 0, &mut files);
    let mut engine = Engine::configured((NAME, &ROOT), (&files, SECTION), folders, tree, report);
    if let Some(named) = told(&["--hooks-dir"], "CONTAINER_HOOKS_DIR") {
        engine.read = named.split(',').map(str::to_owned).collect();
        engine.why = "as the running daemon was told".to_owned();
    }
    engine.route(folders, specs, tree, report);
    let Some(Daemon { since, .. }) = daemon else { return };
    let late =
        folders.effective(&engine.read).into_iter().find(|file| file.is_ours() && came_after(file.changed, since));
    let late = late.map(|file| file.path.clone());
    // Only a file that has to do with hooks: CRI-O has other settings.
    let configured = files.into_iter().find(|path| {
        tree.about(path).is_some_and(|about| came_after(about.changed(), since))
            && folders
                .configuration(path, NAME, tree, report)
                .is_some_and(|of| list(of, SECTION, "hooks_dir").is_some())
    });
    if let Some(path) = late.or(configured) {
        let finding = "it was started before this file was put there, and reads hook files once, at its start";
        report.problem(GROUP, "CRI-O restarted", finding, "systemctl restart crio");
        report.found_in(tree.shown(&path));
    } else {
        report.ok(GROUP, "CRI-O restarted", "it runs, and has read what is there");
    }
}

/// Every file below a folder, as filepath.Walk comes by them (pkg/config `UpdateFromPath`): whatever its name ends in.
fn walk(folder: &str, tree: &Tree, depth: u32, files: &mut Vec<String>) {
    for (path, _) in tree.entries(folder, "") {
        match tree.about(&path) {
            Some(about) if about.is_folder() && depth < 8 => walk(&path, tree, depth + 1, files),
            Some(about) if about.is_folder() => {}
            Some(_) | None => files.push(path),
        }
    }
}
