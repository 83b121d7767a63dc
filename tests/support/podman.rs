//! podman on a [`Machine`], with storage, state, configuration and hooks that are nobody else's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::machine::{LAB, Machine, cgroup};

/// podman above one OCI runtime.
pub(crate) struct Podman<'a> {
    /// Where it runs.
    pub(crate) machine: &'a Machine,
    /// What it calls: `runc` or `crun`.
    pub(crate) runtime: &'static str,
    hooks: bool,
    root: bool,
}

/// A host may let containers start fewer processes and open fewer files than podman's defaults ask for.
const CONFIG: &str = "\
[containers]
log_driver = \"k8s-file\"
default_ulimits = [\"nofile=1024:1024\", \"nproc=1000:1000\"]
[network]
network_backend = \"netavark\"
default_rootless_network_cmd = \"slirp4netns\"
";

impl<'a> Podman<'a> {
    /// With an image `prober`, a network `lab` and the files of hooks.d/ as they are, but for the binary's place and two
    /// directories that are not the host's.
    pub(crate) fn new(machine: &'a Machine, runtime: &'static str) -> Podman<'a> {
        Podman::of(machine, runtime, true)
    }

    /// The same of the user `lab`, whose the hook's folder is too.
    pub(crate) fn rootless(machine: &'a Machine, runtime: &'static str) -> Podman<'a> {
        for folder in ["storage", "runroot", "tmp-podman", "networks", "netlatch", "logs"] {
            let path = machine.path(folder);
            fs::create_dir_all(&path).expect("a directory");
            std::os::unix::fs::chown(&path, Some(LAB), Some(LAB)).expect("an owner");
        }
        let file = machine.path("netlatch.yaml");
        std::os::unix::fs::chown(file, Some(LAB), Some(LAB)).expect("an owner");
        Podman::of(machine, runtime, false)
    }

    fn of(machine: &'a Machine, runtime: &'static str, root: bool) -> Podman<'a> {
        let podman = Podman { machine, runtime, hooks: true, root };
        if !podman.hooks_dir().exists() {
            fs::create_dir(podman.hooks_dir()).expect("a directory");
            fs::create_dir_all(machine.path("logs")).expect("a directory");
            podman.install("");
            fs::write(machine.path("containers.conf"), CONFIG).expect("a file");
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

    /// Whether it calls the hooks of `--hooks-dir` when `--restart` starts a container again, as podman since 5.6 does.
    pub(crate) fn remembers_hooks(&self) -> bool {
        let said = self.expect(&["version", "--format", "{{.Client.Version}}"], b"");
        let mut numbers = said.trim().split('.').map(|number| number.parse::<u32>().unwrap_or(0));
        (numbers.next(), numbers.next()) >= (Some(5), Some(6))
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
        super::namespace::run_with_input(&mut self.command(args), input)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.machine.command(if self.root { "podman" } else { "setpriv" });
        if !self.root {
            let lab = LAB.to_string();
            command.args(["--reuid", &lab, "--regid", &lab, "--clear-groups", "podman"]);
            command.env("HOME", "/run/lab").env("XDG_RUNTIME_DIR", "/run/lab").current_dir("/");
        }
        command.env("CONTAINERS_CONF", self.machine.path("containers.conf"));
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
        command.args(args);
        command
    }

    /// The same; a failure fails the test. Returns its standard output.
    pub(crate) fn expect(&self, args: &[&str], input: &[u8]) -> String {
        let output = self.run_with_input(args, input);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "podman with {} {args:?}: {}: {stderr}", self.runtime, output.status);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// `podman VERB OPTIONS --annotation=io.netlatch.ANNOTATION... prober /prober PROBES`, not started yet.
    pub(crate) fn start(&self, verb: &str, options: &[&str], annotations: &[&str], probes: &[&str]) -> Command {
        let cgroup = cgroup(&self.machine.path(""));
        let annotations: Vec<String> =
            annotations.iter().map(|text| format!("--annotation=io.netlatch.{text}")).collect();
        let mut args = vec![verb];
        // Who is not root may make none under v1, and podman does without.
        if self.root {
            args.extend(["--cgroup-parent", &cgroup]);
        }
        args.extend(options);
        args.extend(annotations.iter().map(String::as_str));
        args.extend(["prober", "/prober", "patient"]);
        args.extend(probes);
        self.command(&args)
    }

    /// The same, to the end of podman's command.
    pub(crate) fn container(&self, verb: &str, options: &[&str], annotations: &[&str], probes: &[&str]) -> Output {
        super::namespace::run_with_input(&mut self.start(verb, options, annotations, probes), b"")
    }

    /// Runs one to its end and returns what the prober said.
    pub(crate) fn probe(&self, options: &[&str], annotations: &[&str], probes: &[&str]) -> Value {
        let log = self.fresh_log();
        let mut command = self.start("run", &[&["--rm", &log.option()], options].concat(), annotations, probes);
        let output = super::namespace::run_with_input(&mut command, b"");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "podman with {} {options:?}: {}: {stderr}", self.runtime, output.status);
        log.report(1)
    }

    /// A file for what a container says. `podman run` itself loses what a container says that ends at once.
    pub(crate) fn fresh_log(&self) -> Log {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Log(self.machine.path(&format!("logs/{}", NEXT.fetch_add(1, Ordering::Relaxed))))
    }
}

/// What a container has said, all its starts.
pub(crate) struct Log(PathBuf);

impl Log {
    /// What is written to this file, as conmon and containerd do.
    pub(crate) fn at(path: PathBuf) -> Log {
        Log(path)
    }

    /// As an option of `podman run`.
    pub(crate) fn option(&self) -> String {
        format!("--log-opt=path={}", self.0.display())
    }

    /// What the prober says at its `start`th start, once it has said so.
    pub(crate) fn report(&self, start: usize) -> Value {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            // A line: time, stream, F for a full line, text.
            let text = fs::read_to_string(&self.0).unwrap_or_default();
            if let Some(line) = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).nth(start - 1) {
                let report = line.splitn(4, ' ').last().expect("the last of at least one");
                return serde_json::from_str(report).unwrap_or_else(|e| panic!("{e}: {text}"));
            }
            assert!(Instant::now() < deadline, "start {start}: {text}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}
