//! A machine as a folder, for `netlatch doctor --root`: whole as it is made, and then broken.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use super::container::binary;
use super::schema::described;

/// Where the program is.
pub(crate) const PROGRAM: &str = "/usr/libexec/oci/hooks.d/netlatch";
/// Where podman and CRI-O read hook files.
pub(crate) const HOOKS_D: &str = "/usr/share/containers/oci/hooks.d";
/// The hook file that protects.
pub(crate) const CREATE: &str = "/usr/share/containers/oci/hooks.d/10-netlatch-createRuntime.json";

/// A machine's files in a folder.
pub(crate) struct Machine {
    dir: tempfile::TempDir,
}

impl Machine {
    /// Nothing is installed.
    pub(crate) fn bare() -> Machine {
        let machine = Machine { dir: tempfile::tempdir().expect("a folder") };
        machine.mode("/", 0o755);
        machine.program("/usr/sbin/runc");
        machine
    }

    /// One with podman, on which the hook is installed as README says.
    pub(crate) fn with_podman() -> Machine {
        let machine = Machine::bare();
        machine.program("/usr/bin/podman");
        machine.hook(HOOKS_D, "");
        machine
    }

    /// Puts the program and a set of hook files in place.
    pub(crate) fn hook(&self, folder: &str, set: &str) {
        self.program(PROGRAM);
        for stage in ["createRuntime", "poststart", "poststop"] {
            let name = format!("10-netlatch-{stage}.json");
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("hooks.d").join(set).join(&name);
            self.write(&format!("{folder}/{name}"), &fs::read_to_string(file).expect("a hook file"));
        }
    }

    /// A path of it as one of this machine.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    /// Whatever the umask says: others may write nothing.
    pub(crate) fn mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(mode)).expect("a mode");
    }

    /// Writes a file, and the folders it is in.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let folders: Vec<&Path> = Path::new(path).ancestors().skip(1).collect();
        for folder in folders.iter().rev().filter_map(|folder| folder.to_str()).filter(|folder| *folder != "/") {
            if !self.path(folder).exists() {
                fs::create_dir(self.path(folder)).expect("a folder");
                self.mode(folder, 0o755);
            }
        }
        fs::write(self.path(path), text).expect("a file");
        self.mode(path, 0o644);
    }

    /// A program that fails whatever it is asked.
    pub(crate) fn program(&self, path: &str) {
        self.write(path, "#!/bin/sh\nexit 1\n");
        self.mode(path, 0o755);
    }

    /// Takes a file or a folder away.
    pub(crate) fn remove(&self, path: &str) {
        let path = self.path(path);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("it was there");
    }

    /// Changes a JSON file.
    pub(crate) fn edit(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut document = serde_json::from_str(&fs::read_to_string(self.path(path)).expect("a file")).expect("JSON");
        change(&mut document);
        self.write(path, &document.to_string());
    }

    /// What `netlatch doctor` says of it.
    pub(crate) fn doctor(&self, args: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.arg("doctor").arg("--root").arg(self.dir.path()).args(args).env_clear();
        command.output().expect("netlatch runs")
    }

    /// What it finds, with the exit code.
    pub(crate) fn asked(&self, args: &[&str]) -> (Vec<Value>, i32) {
        let output = self.doctor(&[&["--json"], args].concat());
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        let report = described("doctor", &String::from_utf8_lossy(&output.stdout));
        let checks = report["checks"].as_array().expect("a list").clone();
        let count = |verdict: &str| checks.iter().filter(|check| check["verdict"] == verdict).count();
        assert_eq!(report["problems"], count("problem"));
        assert_eq!(report["warnings"], count("warning"));
        for check in &checks {
            let bad = ["problem", "warning"].contains(&check["verdict"].as_str().expect("a word"));
            assert_eq!(check["remedy"].is_string(), bad, "a remedy precisely where something is wrong: {check}");
            assert!(check["finding"].as_str().is_some_and(|finding| !finding.is_empty()), "{check}");
        }
        (checks, output.status.code().expect("a code"))
    }

    /// The findings of one verdict.
    pub(crate) fn said(&self, verdict: &str) -> Vec<String> {
        let of =
            |check: &Value| format!("{}: {}", check["question"].as_str().unwrap(), check["finding"].as_str().unwrap());
        self.asked(&[]).0.iter().filter(|check| check["verdict"] == verdict).map(of).collect()
    }

    /// Precisely one problem, which says this; `file` is where.
    pub(crate) fn has_one_problem(&self, says: &str, file: &str) {
        let (checks, code) = self.asked(&[]);
        let problems: Vec<&Value> = checks.iter().filter(|check| check["verdict"] == "problem").collect();
        assert_eq!(problems.len(), 1, "{says}: {problems:#?}");
        assert!(problems[0]["finding"].as_str().unwrap().contains(says), "{says}: {:#}", problems[0]);
        assert_eq!(code, 1, "{says}");
        if !file.is_empty() {
            assert_eq!(problems[0]["file"], self.path(file).display().to_string(), "{says}: {:#}", problems[0]);
        }
    }

    /// Neither a problem nor a warning.
    pub(crate) fn is_well(&self) {
        let (checks, code) = self.asked(&["--strict"]);
        let bad = |check: &&Value| ["problem", "warning"].contains(&check["verdict"].as_str().unwrap());
        assert_eq!((checks.iter().filter(bad).collect::<Vec<_>>(), code), (vec![], 0));
    }
}
