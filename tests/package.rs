//! The Debian package, installed, upgraded and purged below a folder of its own: dpkg's own root and database, nothing of
//! this machine's. Ignored unless asked for, because it needs cargo-deb and dpkg; scripts/test.sh has a tier for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Builds the package under a version.
fn package(out: &Path, version: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/deb.sh");
    let mut command = Command::new(script);
    command.arg("--debug").env("OUT", out).env("VERSION", version);
    let output = command.output().expect("the script starts");
    assert!(output.status.success(), "{}", text(&output));
    let packages = fs::read_dir(out).unwrap().map(|entry| entry.unwrap().path());
    let of_version = |path: &PathBuf| path.to_string_lossy().contains(&format!("_{version}_"));
    packages.into_iter().find(of_version).unwrap_or_else(|| panic!("no package: {}", text(&output)))
}

/// dpkg with a root of its own.
fn dpkg(root: &Path, args: &[&str]) -> String {
    let mut command = Command::new("dpkg");
    command.arg("--root").arg(root).arg("--force-not-root").arg("--force-confold").arg("--log=/dev/null").args(args);
    let output = command.output().expect("dpkg");
    assert!(output.status.success(), "dpkg {args:?}: {}", text(&output));
    text(&output)
}

/// The files and links below a folder, without dpkg's own.
fn files(root: &Path) -> Vec<String> {
    let (mut folders, mut found) = (vec![root.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                folders.extend((path != root.join("var/lib/dpkg")).then_some(path));
            } else {
                found.push(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}

#[test]
#[ignore = "needs cargo-deb and dpkg"]
fn the_package_is_installed_used_upgraded_and_purged_without_a_trace() {
    let dir = tempfile::tempdir().unwrap();
    let (out, root) = (dir.path().join("out"), dir.path().join("root"));
    fs::create_dir(&out).unwrap();
    for folder in ["updates", "info", "triggers", "parts"] {
        fs::create_dir_all(root.join("var/lib/dpkg").join(folder)).unwrap();
    }
    for file in ["status", "available"] {
        fs::write(root.join("var/lib/dpkg").join(file), "").unwrap();
    }
    let (old, new) = (package(&out, "0.1.0-1"), package(&out, "0.1.0-2"));

    dpkg(&root, &["--install", old.to_str().unwrap()]);
    let installed = files(&root);
    for file in [
        "etc/netlatch/config.yaml",
        "usr/bin/netlatch",
        "usr/libexec/oci/hooks.d/netlatch",
        "usr/share/bash-completion/completions/netlatch",
        "usr/share/containers/oci/hooks.d/10-netlatch-createRuntime.json",
        "usr/share/containers/oci/hooks.d/10-netlatch-poststart.json",
        "usr/share/containers/oci/hooks.d/10-netlatch-poststop.json",
        "usr/share/fish/vendor_completions.d/netlatch.fish",
        "usr/share/netlatch/config.schema.json",
        "usr/share/zsh/vendor-completions/_netlatch",
    ] {
        assert!(installed.iter().any(|one| one == file), "{file}: {installed:?}");
    }
    assert!(installed.iter().any(|one| one.starts_with("usr/share/man/man1/netlatch.1")), "{installed:?}");
    let link = fs::read_link(root.join("usr/bin/netlatch")).unwrap();
    assert_eq!(link, Path::new("../libexec/oci/hooks.d/netlatch"));

    // By its name, and by the path that its own hook files name.
    let file = root.join("usr/share/containers/oci/hooks.d/10-netlatch-createRuntime.json");
    let file: serde_json::Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let hook = root.join(file["hook"]["path"].as_str().unwrap().trim_start_matches('/'));
    for program in [root.join("usr/bin/netlatch"), hook.clone()] {
        let output = Command::new(&program).arg("--version").env_clear().output().unwrap();
        assert!(output.status.success() && text(&output).starts_with("netlatch "), "{}", text(&output));
    }
    let config = root.join("etc/netlatch/config.yaml");
    let output = Command::new(&hook).arg("check").arg(&config).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    // What the package has is what `netlatch install` would write.
    let output = Command::new(&hook).args(["install", "--destdir"]).arg(&root).output().unwrap();
    assert!(output.status.success() && text(&output).matches("unchanged ").count() == 4, "{}", text(&output));

    // An upgrade keeps what the admin wrote.
    fs::write(&config, "egress: none\n").unwrap();
    dpkg(&root, &["--install", new.to_str().unwrap()]);
    assert!(dpkg(&root, &["--status", "netlatch"]).contains("Version: 0.1.0-2"));
    assert_eq!(fs::read_to_string(&config).unwrap(), "egress: none\n");
    assert_eq!(files(&root), installed);

    dpkg(&root, &["--remove", "netlatch"]);
    assert_eq!(files(&root), ["etc/netlatch/config.yaml"]);
    dpkg(&root, &["--purge", "netlatch"]);
    assert_eq!(files(&root), Vec::<String>::new());
}
