//! What starts and stops pods on a host: policies in a folder, and the hook run for each pod as a runtime runs it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::container::{Container, Dialect, binary};
use super::namespace::{Namespace, end, run_with_input};

/// Who a pod is to policies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// Its labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// Its named ports as the annotation has them: `http=8080/tcp`.
    pub(crate) ports: Vec<String>,
}

impl Identity {
    /// `shop/web`, with labels written `app=web,tier=front`.
    pub(crate) fn new(name: &str, labels: &str) -> Identity {
        let (namespace, name) = name.split_once('/').expect("namespace/name");
        let labels = labels.split(',').filter_map(|label| label.split_once('='));
        Identity {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            ports: Vec::new(),
        }
    }

    /// The container's id: what an id may not hold becomes `-`.
    pub(crate) fn id(&self) -> String {
        let text = format!("{}_{}", self.namespace, self.name);
        text.chars().map(|c| if c.is_ascii_alphanumeric() || "_.".contains(c) { c } else { '-' }).collect()
    }

    /// The pod, with a process of its own in `namespace`.
    pub(crate) fn container(&self, namespace: &Namespace) -> Container {
        let mut container = Container::of(namespace).with("namespace", &self.namespace);
        container.pid = namespace.process();
        container.id = self.id();
        if !self.labels.is_empty() {
            let labels: Vec<String> = self.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            container = container.with("labels", &labels.join(","));
        }
        if !self.ports.is_empty() {
            container = container.with("ports", &self.ports.join(","));
        }
        container
    }
}

/// A host's configuration, policies and run directory.
pub(crate) struct Engine {
    dir: TempDir,
}

impl Engine {
    /// One without policies.
    pub(crate) fn new() -> Engine {
        Engine::with("")
    }

    /// One whose configuration says this as well.
    pub(crate) fn with(config: &str) -> Engine {
        let engine = Engine { dir: tempfile::tempdir().expect("a directory") };
        std::fs::create_dir(engine.policies()).expect("a directory");
        let text = format!("policies: {}\n{config}", engine.policies().display());
        std::fs::write(engine.config(), text).expect("the configuration is written");
        engine
    }

    /// The configuration file.
    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("config.yaml")
    }

    /// The folder of the policies.
    pub(crate) fn policies(&self) -> PathBuf {
        self.dir.path().join("policies")
    }

    /// The run directory.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    /// A place for other files.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file into the folder of the policies.
    pub(crate) fn write(&self, file: &str, text: &str) {
        std::fs::write(self.policies().join(file), text).expect("the policy is written");
    }

    /// Removes a file from it.
    pub(crate) fn remove(&self, file: &str) {
        std::fs::remove_file(self.policies().join(file)).expect("the policy is removed");
    }

    /// Puts these files in the place of what is in the folder.
    pub(crate) fn replace(&self, files: &[(String, String)]) {
        for old in std::fs::read_dir(self.policies()).expect("a directory").flatten() {
            std::fs::remove_file(old.path()).expect("the policy is removed");
        }
        for (file, text) in files {
            self.write(file, text);
        }
    }

    /// `netlatch COMMAND` with this host's files, not started yet; without environment.
    pub(crate) fn command(&self, command: &str) -> Command {
        let mut netlatch = Command::new(binary());
        netlatch.arg(command).arg("--config").arg(self.config()).arg("--run-dir").arg(self.run_dir()).env_clear();
        netlatch
    }

    /// A stage with this state, run on `host`.
    pub(crate) fn try_stage(&self, host: &Namespace, stage: &str, state: &Value) -> Output {
        host.within(|| run_with_input(&mut self.command(stage), state.to_string().as_bytes()))
    }

    /// The same; a failure fails the test.
    pub(crate) fn stage(&self, host: &Namespace, stage: &str, state: &Value) {
        let output = self.try_stage(host, stage, state);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stage} of {}: {}: {stderr}", state["id"], output.status);
    }

    /// createRuntime.
    pub(crate) fn start(&self, host: &Namespace, container: &Container) {
        self.stage(host, "createRuntime", &container.state(Dialect::Runc));
    }

    /// poststart: the process runs by now.
    pub(crate) fn started(&self, host: &Namespace, container: &Container) {
        let mut state = container.state(Dialect::Runc);
        state["status"] = json!("running");
        self.stage(host, "poststart", &state);
    }

    /// The end of the container's process, and poststop.
    pub(crate) fn stop(&self, host: &Namespace, container: &Container) {
        end(container.pid);
        self.stage(host, "poststop", &container.stopped(Dialect::Runc));
    }

    /// `netlatch reload`.
    pub(crate) fn try_reload(&self, host: &Namespace) -> Output {
        host.within(|| run_with_input(&mut self.command("reload"), b""))
    }

    /// The same; a failure fails the test.
    pub(crate) fn reload(&self, host: &Namespace) {
        let output = self.try_reload(host);
        assert!(output.status.success(), "reload: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
}
