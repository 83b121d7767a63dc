//! podman: of root, and of users who run containers without root.

use super::{Engine, Folders, GROUP, numbers};
use crate::cli::doctor::program;
use crate::cli::doctor::report::{Report, Verdict};
use crate::cli::doctor::specs::Spec;
use crate::cli::doctor::tree::{ROOT, Tree, User};
use crate::settings::DEFAULT_FILE;

const NAME: &str = "podman";
const USR: &str = "/usr/share/containers/containers.conf";
const ETC: &str = "/etc/containers/containers.conf";

pub(super) fn ask(tree: &Tree, folders: &mut Folders, specs: &[Spec], report: &mut Report) {
    let Some(path) = tree.program(NAME) else {
        return report.not_applicable(GROUP, NAME, "not installed");
    };
    let version = program::said(tree, &path, &["--version"]);
    let version = version.as_deref().and_then(|said| said.trim().rsplit(' ').next()).unwrap_or_default();
    let number = numbers(version);
    let engine = |name, user, folders: &mut Folders, report: &mut Report| {
        let files = files(tree, number, user);
        Engine::configured((name, user), (&files, "engine"), folders, tree, report)
    };
    let mut system = engine(NAME, &ROOT, folders, report);
    let users: Vec<(User, String)> =
        tree.users().into_iter().map(|user| (user.clone(), format!("podman of {}", user.name))).collect();
    let theirs: Vec<Engine<'_>> = users.iter().map(|(user, name)| engine(name, user, folders, report)).collect();
    // Where only users have installed the hook, for themselves, nobody has said that root's containers are to have it.
    let own = |engine: &&Engine<'_>| engine.read != system.read;
    if theirs.iter().filter(own).any(|engine| folders.effective(&engine.read).iter().any(|file| file.starts())) {
        system.without = Verdict::Warning;
    }
    system.route(folders, specs, tree, report);
    theirs.iter().for_each(|engine| rootless(engine, &system, folders, specs, tree, report));
    by_version(version, number, report);
}

/// The files of containers.conf(5), in the order in which each overrides those before it (containers/common
/// `systemConfigs`; since podman 6 container-libs `configfile.Read`).
fn files(tree: &Tree, version: Option<[u32; 3]>, user: &User) -> Vec<String> {
    let rootless = user.uid != 0;
    let own = rootless.then(|| format!("{}/.config/containers/containers.conf", user.home));
    let special = if rootless { "rootless" } else { "rootful" };
    let below = |folder: String| tree.files(&folder, ".conf");
    let paths = |folder: String| below(folder).into_iter().map(|(path, _)| path);
    if version.is_some_and(|version| version >= [6, 0, 0]) {
        // One main file, and of drop-ins with the same name the last.
        let mut main = own.iter().map(String::as_str).chain([ETC, USR]);
        let mut dropped = std::collections::BTreeMap::new();
        for conf in [USR, ETC] {
            let of_special = format!("{}.{special}.conf.d", conf.trim_end_matches(".conf"));
            let of_user = rootless.then(|| format!("{of_special}/{}", user.uid));
            for folder in [Some(format!("{conf}.d")), Some(of_special), of_user].into_iter().flatten() {
                dropped.extend(below(folder).into_iter().map(|(path, name)| (name, path)));
            }
        }
        if let Some(conf) = &own {
            dropped.extend(below(format!("{conf}.d")).into_iter().map(|(path, name)| (name, path)));
        }
        let main = main.find(|path| tree.about(path).is_some()).map(str::to_owned);
        return main.into_iter().chain(dropped.into_values()).collect();
    }
    let mut files = vec![USR.to_owned(), ETC.to_owned()];
    files.extend(paths(format!("{ETC}.d")));
    if let Some(own) = own {
        let of_all = ETC.replace("containers.conf", "containers.rootless.conf");
        files.extend([of_all.clone()]);
        files.extend(paths(format!("{of_all}.d")));
        files.extend(paths(format!("{of_all}.d/{}", user.uid)));
        files.extend([own.clone()]);
        files.extend(paths(format!("{own}.d")));
    }
    files
}

/// A user's own podman calls the hook as root of a user namespace, where the host's files are nobody's.
fn rootless(
    engine: &Engine<'_>,
    system: &Engine<'_>,
    folders: &mut Folders,
    specs: &[Spec],
    tree: &Tree,
    report: &mut Report,
) {
    let user = engine.user;
    // As for root: what is wrong with that is said there.
    if engine.read != system.read {
        engine.route(folders, specs, tree, report);
    }
    let effective = folders.effective(&engine.read);
    let Some(file) = effective.iter().find(|file| file.starts()) else { return };
    let told = file.call().map(|call| call.told()).unwrap_or_default();
    let is_own =
        |path: &String| path.starts_with(&user.home) || tree.about(path).is_some_and(|about| about.owner() == user.uid);
    let own = |path: &Option<String>| path.as_ref().is_some_and(is_own);
    let install = format!(
        "as {}: `netlatch install hooks.d --dir DIR --run-dir DIR --config FILE`, all below {}, and DIR as hooks_dir",
        user.name, user.home
    );
    let lacks = if !own(&told.run_dir) {
        "a --run-dir of the user's own"
    } else if !own(&told.config) && tree.about(DEFAULT_FILE).is_some() {
        "a --config of the user's own (/etc/netlatch/config.yaml is nobody's in a user namespace, and not believed)"
    } else {
        ""
    };
    if !lacks.is_empty() {
        let finding = format!("it calls the hook without {lacks}: containers that call it do not start");
        report.warning(GROUP, engine.name, finding, &install);
        report.found_in(tree.shown(&file.path));
    }
}

fn by_version(version: &str, number: Option<[u32; 3]>, report: &mut Report) {
    let Some(number) = number else { return };
    if number < [5, 6, 0] {
        let finding = format!(
            "version {version} forgets --hooks-dir at `podman start` and at restarts by --restart: those run without the hook"
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
            "version {version} takes the annotations of an image for the container's: an image's author can set io.netlatch.*"
        );
        let remedy =
            "they can only tighten; say in allow-annotations which ones a container may carry, or update podman";
        report.warning(GROUP, "podman annotations", finding, remedy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn podman_6_reads_one_main_file_and_the_last_drop_in_of_each_name() {
        let dir = tempfile::tempdir().unwrap();
        let bob = User { uid: 1000, name: "bob".to_owned(), home: "/home/bob".to_owned() };
        let own = "/home/bob/.config/containers/containers.conf";
        for path in [
            USR,
            "/usr/share/containers/containers.conf.d/1.conf",
            "/usr/share/containers/containers.conf.d/2.conf",
            ETC,
            "/etc/containers/containers.conf.d/1.conf",
            "/etc/containers/containers.rootful.conf.d/0.conf",
            "/etc/containers/containers.rootless.conf.d/1000/2.conf",
            own,
        ] {
            let path = dir.path().join(&path[1..]);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let tree = Tree::at(Some(dir.path())).unwrap();
        let (usr, etc) = ("/usr/share/containers", "/etc/containers");
        let dropped = |name: &str| format!("{etc}/containers.{name}");
        let of_root = [
            ETC.to_owned(),
            dropped("rootful.conf.d/0.conf"),
            dropped("conf.d/1.conf"),
            format!("{usr}/containers.conf.d/2.conf"),
        ];
        assert_eq!(files(&tree, Some([6, 0, 0]), &ROOT), of_root);
        let of_bob = [own.to_owned(), dropped("conf.d/1.conf"), dropped("rootless.conf.d/1000/2.conf")];
        assert_eq!(files(&tree, Some([6, 0, 0]), &bob), of_bob);
        // Before, each on top of the other, and nothing below /usr but the file.
        let before = [USR.to_owned(), ETC.to_owned(), dropped("conf.d/1.conf")];
        assert_eq!(files(&tree, Some([5, 7, 0]), &ROOT), before);
        assert_eq!(files(&tree, None, &bob).last().map(String::as_str), Some(own));
    }
}
