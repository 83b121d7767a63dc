//! The OCI runtimes by themselves, the same of each: locked from the first instruction, refused with a reason, thirty at once,
//! nothing left. The network is attached between createRuntime and the first instruction, as docker does.
//!
//! Ignored unless asked for, because each needs a runtime: scripts/test.sh runs those whose runtime is there. No distribution
//! packages youki: `NETLATCH_YOUKI` names the binary, or it is where
//! `cargo install youki --locked --features v1,v2 --root target/runtimes` puts it.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::json;
use support::machine::{ALLOWED, Machine, PROBES, cgroup, is_locked, outcome, said};
use support::namespace::{all_at_once, run_with_input};

/// A runtime, on a machine that it starts containers on.
struct Runtime {
    name: &'static str,
    program: PathBuf,
    machine: Machine,
}

impl Runtime {
    fn runc() -> Runtime {
        Runtime { name: "runc", program: "runc".into(), machine: Machine::new() }
    }

    fn crun() -> Runtime {
        Runtime { name: "crun", program: "crun".into(), machine: Machine::new() }
    }

    fn youki() -> Runtime {
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/runtimes/bin/youki");
        let program = std::env::var_os("NETLATCH_YOUKI").map_or(built, PathBuf::from);
        Runtime { name: "youki", program, machine: Machine::new().with_cgroup_v2() }
    }

    /// `create` and `start`, not begun yet; it ends with the container, which has its standard streams. (`youki run` of 0.7.0
    /// waits for ever for a container that ends before it begins to wait, as one can while poststart hooks run.)
    fn start(&self, id: &str, annotations: &[&str], hooks: bool) -> Command {
        let mut shell = self.machine.command("sh");
        shell.args(["-c", r#""$1" --root "$2" create --bundle "$3" "$4" && "$1" --root "$2" start "$4""#, "sh"]);
        shell
            .arg(&self.program)
            .arg(self.machine.path("state"))
            .arg(bundle(&self.machine, id, annotations, hooks))
            .arg(id);
        shell
    }

    /// The same, to its end.
    fn run(&self, id: &str, annotations: &[&str], hooks: bool) -> Output {
        run_with_input(&mut self.start(id, annotations, hooks), b"")
    }

    /// `delete`, which calls the poststop hooks.
    fn delete(&self, id: &str) {
        let (program, root) = (self.program.to_str().expect("UTF-8"), self.machine.path("state"));
        self.machine.expect(program, &["--root", root.to_str().expect("UTF-8"), "delete", "--force", id], b"");
    }
}

/// A bundle in the machine's folder with these annotations, and with our hooks or without.
fn bundle(machine: &Machine, id: &str, annotations: &[&str], hooks: bool) -> String {
    let path = machine.path(id);
    fs::create_dir(&path).expect("a directory");
    let ours = |stage: &str| if hooks { vec![machine.entry(stage)] } else { vec![] };
    let mut created = ours("createRuntime");
    created.push(json!({"path": machine.attach_script()}));
    let annotations: serde_json::Map<_, _> = annotations
        .iter()
        .map(|text| text.split_once('=').expect("KEY=VALUE"))
        .map(|(key, value)| (format!("io.netlatch.{key}"), json!(value)))
        .collect();
    let args = [&["/prober", "patient"], &PROBES[..]].concat();
    let config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "cwd": "/", "args": args, "env": ["PATH=/"], "user": {"uid": 0, "gid": 0},
            "noNewPrivileges": true, "capabilities": {"bounding": [], "effective": [], "permitted": []},
        },
        "root": {"path": machine.path("rootfs"), "readonly": true},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro", "nosuid", "nodev", "noexec"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        ],
        "linux": {
            "namespaces": [
                {"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"},
            ],
            "cgroupsPath": format!("{}/{id}", cgroup(&machine.path(""))),
        },
        "annotations": annotations,
        "hooks": {"createRuntime": created, "poststart": ours("poststart"), "poststop": ours("poststop")},
    });
    fs::write(path.join("config.json"), config.to_string()).expect("a file");
    path.to_str().expect("UTF-8").to_owned()
}

fn is_locked_and_leaves_nothing(runtime: &Runtime, has_loopback: bool) {
    let machine = &runtime.machine;
    let output = runtime.run("asked", &[ALLOWED], true);
    assert!(output.status.success(), "{}", said(&output));
    is_locked(&serde_json::from_slice(&output.stdout).expect("a report"), runtime.name);
    assert_eq!(machine.forbidden_heard(), 0);
    assert_eq!(machine.known(), 1, "createRuntime leaves a record");
    runtime.delete("asked");
    machine.is_clean("asked");
    // The contrast: the machine does count, and the prober does send.
    let output = runtime.run("bare", &[], false);
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(&output)));
    assert_eq!(outcome(&report, "tcp:10.9.1.1:80"), "connected", "{report}");
    assert_eq!(report["lo"]["v4"], has_loopback, "{report}");
    assert!(machine.forbidden_heard() >= 4, "{report}");
    runtime.delete("bare");
}

#[test]
#[ignore = "needs runc"]
fn runc_alone_starts_what_is_locked_from_its_first_instruction_and_leaves_nothing() {
    is_locked_and_leaves_nothing(&Runtime::runc(), true);
}

#[test]
#[ignore = "needs crun"]
fn crun_alone_starts_what_is_locked_from_its_first_instruction_and_leaves_nothing() {
    is_locked_and_leaves_nothing(&Runtime::crun(), true);
}

#[test]
#[ignore = "needs youki"]
fn youki_starts_what_is_locked_from_its_first_instruction_has_a_loopback_and_leaves_nothing() {
    // It brings no lo up; only the hook does.
    is_locked_and_leaves_nothing(&Runtime::youki(), false);
}

fn a_bad_annotation_is_refused_with_a_reason(runtime: &Runtime) {
    for (id, bad) in [("value", "egress=10.9.1.1:99999"), ("key", "egres=none")] {
        let output = runtime.run(id, &[bad], true);
        assert!(!output.status.success() && output.stdout.is_empty(), "started: {}", said(&output));
        let key = bad.split_once('=').expect("KEY=VALUE").0;
        runtime.machine.refused(runtime.name, &output, 15, &format!("io.netlatch.{key}"));
        assert_eq!(runtime.machine.forbidden_heard(), 0, "{bad}");
        runtime.machine.is_clean(bad);
    }
}

#[test]
#[ignore = "needs crun"]
fn crun_shows_a_code_for_a_bad_annotation_and_last_error_says_why() {
    a_bad_annotation_is_refused_with_a_reason(&Runtime::crun());
}

#[test]
#[ignore = "needs youki"]
fn youki_shows_why_a_bad_annotation_keeps_a_container_from_starting() {
    a_bad_annotation_is_refused_with_a_reason(&Runtime::youki());
}

fn thirty_at_once_are_locked_and_leave_nothing(runtime: &Runtime) {
    let ids: Vec<String> = (0..30).map(|index| format!("many-{index}")).collect();
    for output in all_at_once(ids.iter().map(|id| runtime.start(id, &[ALLOWED], true))) {
        assert!(output.status.success(), "{}", said(&output));
        is_locked(&serde_json::from_slice(&output.stdout).expect("a report"), "one of thirty");
    }
    assert_eq!(runtime.machine.forbidden_heard(), 0);
    ids.iter().for_each(|id| runtime.delete(id));
    runtime.machine.is_clean("thirty at once");
}

#[test]
#[ignore = "needs runc"]
fn runc_starts_thirty_at_once_that_are_locked_and_leave_nothing() {
    thirty_at_once_are_locked_and_leave_nothing(&Runtime::runc());
}

#[test]
#[ignore = "needs crun"]
fn crun_starts_thirty_at_once_that_are_locked_and_leave_nothing() {
    thirty_at_once_are_locked_and_leave_nothing(&Runtime::crun());
}

#[test]
#[ignore = "needs youki"]
fn youki_starts_thirty_at_once_that_are_locked_and_leave_nothing() {
    thirty_at_once_are_locked_and_leave_nothing(&Runtime::youki());
}
