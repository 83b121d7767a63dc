//! podman on a [`Machine`], with storage, state, configuration and hooks that are nobody else's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};

use super::machine::{Machine, cgroup};

/// podman above one OCI runtime.
pub(crate) struct Podman<'a> {
    /// Where it runs.
    pub(crate) machine: &'a Machine,
    /// What it calls: `runc` or `crun`.
    pub(crate) runtime: &'static str,
    hooks: bool,
}

/// A host may start fewer processes and open fewer files than podman's defaults ask for.
const LIMITS: [&str; 4] = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"];

impl<'a> Podman<'a> {
    /// With an image `prober`, a network `lab` and the files of hooks.d/ as they are, but for the binary's place and two
    /// directories that are not the host's.
    pub(crate) fn new(machine: &'a Machine, runtime: &'static str) -> Podman<'a> {
        let podman = Podman { machine, runtime, hooks: true };
        if !podman.hooks_dir().exists() {
            fs::create_dir(podman.hooks_dir()).expect("a directory");
            podman.install("");
            podman.expect(&["import", "-", "prober"], &machine.archive());
            let lab = ["--subnet", "10.11.0.0/16", "--ipv6", "--subnet", "fd97::/64", "--disable-dns", "lab"];
            podman.expect(&[&["network", "create"][..], &lab].concat(), b"");
        }
        podman
    }

    /// The same podman, called without `--hooks-dir`.
    pub(crate) fn without_hooks(&self) -> Podman<'a> {
        Podman { hooks: false, ..*self }
    }

    /// Puts a set of hook files in the place of another: `""` for annotated containers, `always` for all.
    pub(crate) fn install(&self, set: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("hooks.d").join(set);
        for entry in fs::read_dir(folder).expect("the set is there").map(|entry| entry.expect("an entry").path()) {
            if entry.is_file() {
                let text = fs::read_to_string(&entry).expect("a readable file");
                let mut file: Value = serde_json::from_str(&text).expect("JSON");
                let stage = file["stages"][0].as_str().expect("one stage").to_owned();
                let ours = self.machine.entry(&stage);
                file["hook"]["path"] = ours["path"].clone();
                file["hook"]["args"] = ours["args"].clone();
                fs::write(self.hooks_dir().join(entry.file_name().expect("a name")), file.to_string()).expect("a file");
            }
        }
    }

    fn hooks_dir(&self) -> PathBuf {
        self.machine.path("hooks.d")
    }

    /// `podman ARGS`.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.run_with_input(args, b"")
    }

    fn run_with_input(&self, args: &[&str], input: &[u8]) -> Output {
        let mut command = self.machine.command("podman");
        for (option, folder) in [
            ("--root", "storage"),
            ("--runroot", "runroot"),
            ("--tmpdir", "tmp-podman"),
            ("--network-config-dir", "networks"),
        ] {
            command.arg(option).arg(self.machine.path(folder));
        }
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--runtime", self.runtime]);
        if self.hooks {
            command.arg("--hooks-dir").arg(self.hooks_dir());
        }
        super::namespace::run_with_input(command.args(args), input)
    }

    /// The same; a failure fails the test. Returns its standard output.
    pub(crate) fn expect(&self, args: &[&str], input: &[u8]) -> String {
        let output = self.run_with_input(args, input);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "podman with {} {args:?}: {}: {stderr}", self.runtime, output.status);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// `podman VERB OPTIONS --annotation io.netlatch.ANNOTATION... prober /prober PROBES`.
    pub(crate) fn container(&self, verb: &str, options: &[&str], annotations: &[&str], probes: &[&str]) -> Output {
        let cgroup = cgroup(&self.machine.path(""));
        let annotations: Vec<String> =
            annotations.iter().map(|text| format!("--annotation=io.netlatch.{text}")).collect();
        let mut args = vec![verb, "--cgroup-parent", &cgroup];
        args.extend(LIMITS);
        args.extend(options);
        args.extend(annotations.iter().map(String::as_str));
        args.extend(["prober", "/prober"]);
        args.extend(probes);
        self.run(&args)
    }

    /// Runs one to its end and returns what the prober said.
    pub(crate) fn probe(&self, options: &[&str], annotations: &[&str], probes: &[&str]) -> Value {
        let output = self.container("run", &[&["--rm"], options].concat(), annotations, probes);
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "podman with {} {options:?}: {}: {stdout} {stderr}", self.runtime, output.status);
        serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{e} in the prober's {stdout:?}; {stderr}"))
    }

    /// What the prober of a container in the background has said so far, the answers of all its starts.
    pub(crate) fn reports(&self, name: &str) -> Vec<Value> {
        let logs = self.expect(&["logs", name], b"");
        logs.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {logs}"))).collect()
    }

    /// A field of `podman inspect`.
    pub(crate) fn inspect(&self, name: &str) -> Value {
        let text = self.expect(&["inspect", name], b"");
        serde_json::from_str::<Value>(&text).map_or(json!(null), |list| list[0].clone())
    }
}
