//! Hooks that something goes wrong with, on a host of their own.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use super::container::{Container, Dialect, binary};
use super::engine::{Engine, Identity};
use super::host::Snapshot;
use super::live::addresses;
use super::namespace::{Namespace, run_with_input};

/// See src/kernel/checkpoint.rs.
const VARIABLE: &str = "NETLATCH_FAULT";

/// A host: the namespace its hooks run in, its configuration and its run directory. Dropped, it says what the hooks
/// changed in that namespace.
pub(crate) struct Host {
    pub(crate) engine: Engine,
    pub(crate) namespace: Namespace,
    before: Snapshot,
}

impl Host {
    /// One with this configuration and these policies.
    pub(crate) fn new(config: &str, policies: &[&str]) -> Host {
        let engine = Engine::with(config);
        for (i, policy) in policies.iter().enumerate() {
            engine.write(&format!("{i}.yaml"), policy);
        }
        let namespace = Namespace::new();
        // The host's own rules and addresses, which nobody may touch.
        namespace
            .ip_batch("link set lo up\nlink add eth0 type veth peer name far\naddr add 172.31.255.1/24 dev eth0\n");
        namespace
            .nft_load("table inet filter { chain input { type filter hook input priority 0; policy accept; }; }\n");
        let before = namespace.within(Snapshot::take);
        Host { engine, namespace, before }
    }

    /// A stage or command, with what is to go wrong.
    pub(crate) fn run(&self, command: &str, state: &Value, fault: &str) -> Output {
        let mut command = self.engine.command(command);
        command.env(VARIABLE, fault);
        self.within(&mut command, state)
    }

    /// Any command line, run on this host with `state` on its standard input.
    pub(crate) fn within(&self, command: &mut Command, state: &Value) -> Output {
        let input = if state.is_null() { String::new() } else { state.to_string() };
        self.namespace.within(|| run_with_input(command, input.as_bytes()))
    }

    /// A stage or command in a mount namespace of its own that `mounts` has changed.
    pub(crate) fn run_under(&self, mounts: &str, stage: &str, state: &Value) -> Output {
        let mut hook = self.engine.command(stage);
        if mounts.is_empty() {
            return self.within(&mut hook, state);
        }
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &format!("{mounts} || exit 99; exec \"$@\""), "sh"]);
        command.arg(hook.get_program()).args(hook.get_args());
        let output = self.within(&mut command, state);
        assert_ne!(output.status.code(), Some(99), "{mounts}: {}", text(&output));
        output
    }

    /// The same without a fault; a failure fails the test.
    pub(crate) fn must(&self, command: &str, state: &Value) {
        let output = self.run(command, state, "");
        assert!(output.status.success(), "{command} of {}: {}: {}", state["id"], output.status, text(&output));
        assert_eq!(text(&output), "", "{command} of {}", state["id"]);
    }

    /// The points that a stage passes, in their order.
    pub(crate) fn points(&self, command: &str, state: &Value) -> Vec<String> {
        let file = self.engine.path().join("points");
        let output = self.run(command, state, &format!("trace * 0 {}", file.display()));
        assert!(output.status.success(), "{command}: {}", text(&output));
        let points = std::fs::read_to_string(&file).expect("the points were written: a build with debug assertions");
        std::fs::remove_file(file).expect("a file");
        points.lines().map(str::to_owned).collect()
    }

    /// A container that has the addresses with this number, which its engine has attached already.
    pub(crate) fn pod(&self, number: usize) -> Namespace {
        let namespace = Namespace::new();
        attach(&namespace, number);
        namespace
    }

    /// Asserts that a stage was refused as a failure is: an exit code of the table, one line, kept where it is looked
    /// for. What is returned is the code and the line.
    pub(crate) fn refused(&self, case: &str, id: &str, output: &Output) -> (i32, String) {
        let (code, line) = refusal(case, output);
        let mut command = Command::new(binary());
        command.args(["last-error", id]).arg("--run-dir").arg(self.engine.run_dir()).env_clear();
        let kept = self.within(&mut command, &Value::Null);
        let kept = String::from_utf8_lossy(&kept.stdout).into_owned();
        let said = line.strip_prefix("netlatch: ").unwrap_or(&line);
        assert!(kept.contains(said) && kept.contains(&format!("exited with {code}")), "{case}: {line}: kept {kept:?}");
        (code, line)
    }

    /// What is in the run directory, by path below it.
    pub(crate) fn files(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        list(&self.engine.run_dir(), &self.engine.run_dir(), &mut found);
        found
    }

    /// Asserts that the host is as it was, and that nothing of ours runs.
    pub(crate) fn is_untouched(&self) {
        let differences = self.before.differences(&self.namespace.within(Snapshot::take));
        assert!(differences.is_empty(), "{}", differences.join("\n"));
        let run_dir = self.engine.run_dir().display().to_string();
        for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            assert!(!line.contains(&run_dir), "{} still runs: {line}", entry.path().display());
        }
    }
}

/// Gives a container its link and addresses.
pub(crate) fn attach(namespace: &Namespace, number: usize) {
    let [v4, v6] = addresses(number);
    namespace.ip_batch(&format!(
        "link add eth0 type veth peer name far\naddr add {v4}/32 dev eth0\naddr add {v6}/128 dev eth0 nodad\nlink set eth0 up\n"
    ));
}

/// An exit code of the table and one line, or the test fails.
pub(crate) fn refusal(case: &str, output: &Output) -> (i32, String) {
    let line = text(output);
    let code = output.status.code().unwrap_or_else(|| panic!("{case}: {}: {line}", output.status));
    assert!((10..=62).contains(&code), "{case}: exit code {code}: {line}");
    assert!(line.starts_with("netlatch: cannot ") && line.trim_end().lines().count() == 1, "{case}: {line:?}");
    assert!(output.stdout.is_empty(), "{case}");
    (code, line.trim_end().to_owned())
}

/// What came on standard error.
pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Whether it was SIGKILL that ended it.
pub(crate) fn was_killed(output: &Output) -> bool {
    output.status.signal() == Some(nix::libc::SIGKILL)
}

/// A container of this id in a namespace, with an annotation for each pair.
pub(crate) fn container(id: &str, namespace: &Namespace, annotations: &[(&str, &str)]) -> Container {
    let mut container = Container::of(namespace);
    container.id = id.to_owned();
    annotations.iter().fold(container, |container, (key, value)| container.with(key, value))
}

/// A pod of the namespace `shop` with one label.
pub(crate) fn pod_of(name: &str, label: &str, namespace: &Namespace) -> Container {
    Identity::new(&format!("shop/{name}"), label).container(namespace)
}

/// The state at poststart.
pub(crate) fn running(container: &Container) -> Value {
    let mut state = container.state(Dialect::Runc);
    state["status"] = json!("running");
    state
}

/// `nft -j list ruleset`, without what counts or has no order.
pub(crate) fn rules(namespace: &Namespace) -> Vec<Value> {
    let mut rules = namespace.nft_json();
    rules.iter_mut().for_each(settle);
    rules
}

/// Takes out of a listing what packets and time change.
pub(crate) fn settle(value: &mut Value) {
    match value {
        Value::Object(object) => {
            // What packets that were denied have put there.
            if object.get("flags").is_some_and(|flags| flags.to_string().contains("timeout")) {
                object.remove("elem");
            }
            for key in ["packets", "bytes", "expires"] {
                object.remove(key);
            }
            if let Some(elements) = object.get_mut("elem").and_then(Value::as_array_mut) {
                elements.sort_by_key(ToString::to_string);
            }
            object.values_mut().for_each(settle);
        }
        Value::Array(array) => array.iter_mut().for_each(settle),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn list(root: &Path, dir: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list(root, &path, found);
        } else {
            found.insert(path.strip_prefix(root).expect("below").display().to_string());
        }
    }
}

/// Something that stands where the state directory belongs.
pub(crate) type Change = dyn Fn(&Path);

/// A file stands there.
pub(crate) fn a_file(dir: &Path) {
    std::fs::write(dir, "").expect("a file");
}

/// A link to a folder stands there.
pub(crate) fn a_link(dir: &Path) {
    std::fs::create_dir(dir.with_extension("elsewhere")).expect("a folder");
    std::os::unix::fs::symlink(dir.with_extension("elsewhere"), dir).expect("a link");
}
