//! A container as the hook sees it: the state a runtime writes, its bundle, and the hook run on it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::namespace::{Namespace, run_with_input};

/// The hook's binary. `NETLATCH_BIN` names another one, to show what these tests make of a wrong one.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("NETLATCH_BIN").map_or_else(|| env!("CARGO_BIN_EXE_netlatch").into(), PathBuf::from)
}

/// Which runtime's dialect the state is written in (captured from runc 1.1.5 and crun 1.8.1; youki's from its code).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `creating`, ociVersion of the build.
    Runc,
    /// `created`, ociVersion "1.0", an extra key "root".
    Crun,
    /// `creating`, ociVersion of the spec.
    Youki,
    /// runc restoring a checkpoint: `stopped`, although there is a process.
    Restore,
}

impl Dialect {
    /// Every dialect.
    pub(crate) const ALL: [Dialect; 4] = [Dialect::Runc, Dialect::Crun, Dialect::Youki, Dialect::Restore];
}

/// A container in the making: who it is, where its process is, what it asks for.
pub(crate) struct Container {
    /// Its id.
    pub(crate) id: String,
    /// Its process.
    pub(crate) pid: i32,
    /// Its annotations.
    pub(crate) annotations: Map<String, Value>,
    dir: TempDir,
}

impl Container {
    /// One whose process is the holder of `namespace`, with a bundle whose config.json asks for nothing special.
    pub(crate) fn of(namespace: &Namespace) -> Container {
        let container = Container {
            id: format!("test-{}", namespace.pid()),
            pid: namespace.pid(),
            annotations: Map::new(),
            dir: tempfile::tempdir().expect("a directory"),
        };
        container.write_config(&json!({
            "ociVersion": "1.0.2",
            "process": {"cwd": "/", "args": ["/prober"], "user": {"uid": 0, "gid": 0}, "capabilities": {}},
            "root": {"path": "rootfs"},
            "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "network"}]},
        }));
        container
    }

    /// Adds an annotation; `key` is what follows `io.netlatch.`.
    pub(crate) fn with(mut self, key: &str, value: &str) -> Container {
        self.annotations.insert(format!("io.netlatch.{key}"), value.into());
        self
    }

    /// Replaces the bundle's config.json.
    pub(crate) fn write_config(&self, config: &Value) {
        std::fs::write(self.dir.path().join("config.json"), config.to_string()).expect("config.json is written");
    }

    /// The bundle's directory.
    pub(crate) fn bundle(&self) -> &Path {
        self.dir.path()
    }

    /// The state at createRuntime, as that runtime writes it.
    pub(crate) fn state(&self, dialect: Dialect) -> Value {
        let (version, status) = match dialect {
            Dialect::Runc => ("1.0.2-dev", "creating"),
            Dialect::Crun => ("1.0", "created"),
            Dialect::Youki => ("1.0.2", "creating"),
            Dialect::Restore => ("1.0.2-dev", "stopped"),
        };
        let mut state = json!({
            "ociVersion": version,
            "id": self.id,
            "status": status,
            "pid": self.pid,
            "bundle": self.bundle(),
            "annotations": self.annotations,
        });
        if dialect == Dialect::Crun {
            state["root"] = "rootfs".into();
        }
        state
    }

    /// Ends its process, and what a runtime then says at poststop.
    pub(crate) fn ended(&self, dialect: Dialect) -> Value {
        if Path::new(&format!("/proc/{}", self.pid)).exists() {
            super::namespace::end(self.pid);
        }
        self.stopped(dialect)
    }

    /// The state at poststop: no pid from runc, pid 0 from crun.
    pub(crate) fn stopped(&self, dialect: Dialect) -> Value {
        let mut state = self.state(dialect);
        state["status"] = "stopped".into();
        match dialect {
            Dialect::Crun => state["pid"] = 0.into(),
            Dialect::Runc | Dialect::Youki | Dialect::Restore => {
                state.as_object_mut().expect("an object").remove("pid");
            }
        }
        state
    }

    /// Runs the hook's createRuntime with a state as runc writes it and expects success.
    pub(crate) fn lock(&self) {
        let output = hook("createRuntime", &self.state(Dialect::Runc), None);
        assert!(
            output.status.success(),
            "createRuntime: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// Runs a stage as a runtime does: state on standard input, no environment, no other descriptors; with a run
/// directory of its own and the built-in defaults, or the configuration given.
pub(crate) fn hook(stage: &str, state: &Value, config: Option<&str>) -> Output {
    let dir = tempfile::tempdir().expect("a directory");
    hook_in(&dir, stage, state, config)
}

/// The same with a run directory that outlives the call.
pub(crate) fn hook_in(dir: &TempDir, stage: &str, state: &Value, config: Option<&str>) -> Output {
    let file = dir.path().join("config.yaml");
    // Without a file the built-in defaults hold, but a named one must exist: the host's own must not leak in.
    std::fs::write(&file, config.unwrap_or("")).expect("the configuration is written");
    let mut command = Command::new(binary());
    command.arg(stage).arg("--config").arg(&file).arg("--run-dir").arg(dir.path().join("run")).env_clear();
    run_with_input(&mut command, state.to_string().as_bytes())
}
