//! A bundle whose first process is the prober, and the runtimes that start it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::config::isolated;
use super::container::binary;
use super::namespace::run_with_input;

/// A directory with `config.json`, `rootfs/` and everything the hook and the runtime write.
pub(crate) struct Bundle {
    dir: TempDir,
    /// What goes into config.json at the next start.
    pub(crate) config: Value,
}

impl Bundle {
    /// A container with private namespaces and without capabilities; `probes` are the prober's arguments.
    pub(crate) fn new(probes: &[&str]) -> Bundle {
        let dir = tempfile::tempdir().expect("a directory");
        // The root user of a user namespace must get through.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
        for below in ["rootfs/proc", "rootfs/sys", "rootfs/dev"] {
            fs::create_dir_all(dir.path().join(below)).expect("a directory");
        }
        fs::copy(prober(), dir.path().join("rootfs/prober")).expect("the prober is copied");
        fs::write(dir.path().join("netlatch.yaml"), "").expect("a file");
        let args: Vec<&str> = [&["/prober"], probes].concat();
        let config = isolated(&args);
        Bundle { dir, config }
    }

    /// The bundle's directory.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Puts a policy document into the folder that the hook reads.
    pub(crate) fn policy(&mut self, document: &str) {
        let folder = self.dir.path().join("policies");
        fs::create_dir_all(&folder).expect("a directory");
        let count = fs::read_dir(&folder).expect("a directory").count();
        fs::write(folder.join(format!("{count}.yaml")), document).expect("a file");
        let config = format!("policies: {}\n", folder.display());
        fs::write(self.dir.path().join("netlatch.yaml"), config).expect("a file");
    }

    /// Adds an annotation; `key` is what follows `io.netlatch.`.
    pub(crate) fn annotate(&mut self, key: &str, value: &str) {
        self.config["annotations"][format!("io.netlatch.{key}")] = value.into();
    }

    /// Uses the network namespace at `path` instead of a private one.
    pub(crate) fn join(&mut self, path: &str) {
        for namespace in self.config["linux"]["namespaces"].as_array_mut().expect("an array") {
            if namespace["type"] == "network" {
                namespace["path"] = path.into();
            }
        }
    }

    /// Adds a user namespace in which root is nobody outside.
    pub(crate) fn map_users(&mut self) {
        let linux = &mut self.config["linux"];
        linux["namespaces"].as_array_mut().expect("an array").push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 200_000, "size": 65536}]);
        linux["uidMappings"] = map.clone();
        linux["gidMappings"] = map;
    }

    /// Registers the hook under its three stages.
    pub(crate) fn protect(&mut self) {
        for stage in ["createRuntime", "poststart", "poststop"] {
            let entry = self.entry(stage);
            self.add_hook(stage, entry);
        }
    }

    /// The hook's entry for a stage.
    pub(crate) fn entry(&self, stage: &str) -> Value {
        let config = self.path().join("netlatch.yaml");
        // No "timeout": crun 1.8.1 waits it out and fails the hook where the container ends at the same moment as a
        // poststart hook (one SIGCHLD stands for both).
        json!({
            "path": binary(),
            "args": ["netlatch", stage, "--config", config, "--run-dir", self.run_dir()],
        })
    }

    /// Appends to the hooks of a stage.
    pub(crate) fn add_hook(&mut self, stage: &str, entry: Value) {
        let hooks = &mut self.config["hooks"][stage];
        if hooks.is_null() {
            *hooks = json!([]);
        }
        hooks.as_array_mut().expect("an array").push(entry);
    }

    /// Appends a shell script to the hooks of a stage.
    pub(crate) fn add_script(&mut self, stage: &str, text: &str) {
        let path = self.path().join(format!("{stage}.sh"));
        fs::write(&path, text).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
        self.add_hook(stage, json!({"path": path}));
    }

    /// Where the hook keeps its records.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.path().join("run")
    }

    /// Whether a file of the run directory is named after `id`. The log may go on naming it.
    pub(crate) fn remembers(&self, id: &str) -> bool {
        let mut todo = vec![self.run_dir()];
        while let Some(dir) = todo.pop() {
            for path in fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
                if path.file_name().is_some_and(|name| name.to_string_lossy().contains(id)) {
                    return true;
                }
                if path.is_dir() {
                    todo.push(path);
                }
            }
        }
        false
    }

    /// Runs the runtime on the bundle as it is now: `command` is `run`, `create`, `start`, ...
    pub(crate) fn runtime(&self, runtime: Runtime, command: &str, id: &str) -> Output {
        fs::write(self.path().join("config.json"), self.config.to_string()).expect("config.json");
        let mut line = runtime.command();
        line.arg("--root").arg(self.path().join("runtime")).arg(command);
        if ["run", "create"].contains(&command) {
            line.arg("--bundle").arg(self.path());
        }
        if command == "delete" {
            line.arg("--force");
        }
        line.arg(id);
        if command == "create" {
            // The container keeps the standard streams of `create`; a pipe would keep this call waiting for it.
            let status = line.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
            let log = fs::File::create(self.path().join("create.log")).expect("a file");
            let status = status.stderr(log).status().expect("the runtime starts");
            let stderr = fs::read(self.path().join("create.log")).expect("a file");
            return Output { status, stdout: Vec::new(), stderr };
        }
        run_with_input(&mut line, b"")
    }

    /// Starts the container, waits for its end, and returns what the prober said.
    pub(crate) fn probe(&self, runtime: Runtime, id: &str) -> Value {
        let output = self.runtime(runtime, "run", id);
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{runtime:?} run: {}\n{stdout}\n{stderr}", output.status);
        serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{e} in the prober's {stdout:?}; {stderr}"))
    }
}

/// Who starts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runtime {
    /// runc.
    Runc,
    /// crun.
    Crun,
}

impl Runtime {
    fn command(self) -> Command {
        match self {
            Runtime::Runc => Command::new("runc"),
            Runtime::Crun => {
                // crun refuses cgroup v2 mounted beside v1; in a mount namespace of its own it can be taken away.
                let mut command = Command::new("unshare");
                command.args([
                    "--mount",
                    "sh",
                    "-c",
                    "umount /sys/fs/cgroup/unified 2>/dev/null; exec crun \"$@\"",
                    "crun",
                ]);
                command
            }
        }
    }
}

/// The prober, which cargo builds among the examples.
pub(crate) fn prober() -> PathBuf {
    let test = std::env::current_exe().expect("a path");
    let target = test.parent().and_then(Path::parent).expect("target/TRIPLE/PROFILE/deps/TEST");
    let prober = target.join("examples/prober");
    assert!(prober.exists(), "{} is missing: run `cargo build --example prober` first", prober.display());
    prober
}
