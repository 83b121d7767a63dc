//! A host of its own: policies, configuration and run directory, and containers whose processes are holders of
//! namespaces.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use super::namespace::Namespace;

/// Runs to its end, as a runtime runs a hook: no environment, standard input from a file.
pub(crate) fn timed(command: &mut Command, input: &Path) -> Duration {
    command.env_clear().stdin(File::open(input).expect("the input opens")).stdout(Stdio::null());
    command.stderr(Stdio::piped());
    let begun = Instant::now();
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let status = child.wait().expect("it ends");
    let took = begun.elapsed();
    if !status.success() {
        let said = std::io::read_to_string(child.stderr.take().expect("a pipe")).unwrap_or_default();
        panic!("{command:?}: {status}: {said}");
    }
    took
}

/// A host's files.
pub(crate) struct Rig {
    netlatch: PathBuf,
    dir: TempDir,
}

impl Rig {
    pub(crate) fn new(netlatch: &Path) -> Rig {
        let rig = Rig { netlatch: netlatch.to_owned(), dir: tempfile::tempdir().expect("a directory") };
        let config = format!("policies: {}\n", rig.path("policies").display());
        fs::write(rig.path("config.yaml"), config).expect("a file");
        let bundle = json!({
            "ociVersion": "1.0.2",
            "process": {"cwd": "/", "args": ["/bin/true"], "user": {"uid": 0, "gid": 0}, "capabilities": {}},
            "root": {"path": "rootfs"},
            "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "network"}]},
        });
        fs::create_dir(rig.path("bundle")).expect("a directory");
        fs::write(rig.path("bundle/config.json"), bundle.to_string()).expect("a file");
        rig
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a policy file.
    pub(crate) fn write(&self, file: &str, text: &str) {
        fs::create_dir_all(self.path("policies")).expect("a directory");
        fs::write(self.path("policies").join(file), text).expect("a file");
    }

    /// `netlatch COMMAND` with this host's files.
    pub(crate) fn command(&self, command: &str) -> Command {
        let mut netlatch = Command::new(&self.netlatch);
        netlatch.arg(command).arg("--config").arg(self.path("config.yaml")).arg("--run-dir").arg(self.path("run"));
        netlatch
    }

    /// A stage, from its start to its end.
    pub(crate) fn stage(&self, stage: &str, end: &End) -> Duration {
        let file = self.state(stage, end, "{}");
        timed(&mut self.command(stage), &file)
    }

    /// What a runtime writes for a stage, in a file; with these annotations beside those that say who the container is.
    pub(crate) fn state(&self, stage: &str, end: &End, annotations: &str) -> PathBuf {
        let mut state = json!({
            "ociVersion": "1.0.2-dev", "id": end.id, "status": "creating", "pid": end.namespace.pid(),
            "bundle": self.path("bundle"),
            "annotations": serde_json::from_str::<serde_json::Value>(annotations).expect("JSON"),
        });
        state["annotations"]["io.netlatch.namespace"] = "shop".into();
        state["annotations"]["io.netlatch.labels"] = end.labels.as_str().into();
        if stage == "poststop" {
            super::namespace::end(end.namespace.pid());
            state["status"] = "stopped".into();
            state.as_object_mut().expect("an object").remove("pid");
        }
        let file = self.path("state.json");
        fs::write(&file, state.to_string()).expect("a file");
        file
    }

    /// `netlatch plan` of a container: all of a start but the kernel's part. Its rules go to `rules`.
    pub(crate) fn plan(&self, end: &End, rules: &Path) -> Duration {
        // Written by the stage before.
        assert!(self.path("state.json").exists(), "container {} was started", end.id);
        let mut plan = Command::new(&self.netlatch);
        plan.arg("plan").arg("--config").arg(self.path("config.yaml"));
        plan.arg("--state").arg(self.path("state.json")).args(["--format", "nft"]).env_clear();
        let begun = Instant::now();
        let output = plan.output().expect("it starts");
        let took = begun.elapsed();
        assert!(output.status.success(), "{plan:?}: {}", String::from_utf8_lossy(&output.stderr));
        fs::write(rules, output.stdout).expect("a file");
        took
    }
}

/// A container.
pub(crate) struct End {
    pub(crate) namespace: Namespace,
    pub(crate) number: usize,
    id: String,
    labels: String,
}

impl End {
    /// One with an address of each family, by its number.
    pub(crate) fn new(number: usize, labels: &str) -> End {
        let namespace = Namespace::new();
        let [v4, v6] = addresses(number);
        namespace.ip_batch(&format!("addr add {v4}/32 dev lo\naddr add {v6}/128 dev lo\n"));
        End { namespace, number, id: format!("bench-{number}"), labels: labels.to_owned() }
    }
}

pub(crate) fn addresses(number: usize) -> [String; 2] {
    [format!("10.1.{}.{}", number / 250, number % 250 + 1), format!("fd01::{:x}", number + 1)]
}
