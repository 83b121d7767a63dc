//! youki, which never brings `lo` up and writes sysctls after the hooks.
//!
//! Ignored unless asked for, because each needs youki, which no distribution packages: `NETLATCH_YOUKI` names the binary, or it
//! is where `cargo install youki --locked --root target/runtimes` puts it. scripts/test.sh runs them where it is.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use support::machine::{ALLOWED, Machine, PROBES, cgroup, is_locked, outcome, said};
use support::namespace::{all_at_once, run_with_input};

fn youki() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/runtimes/bin/youki");
    std::env::var_os("NETLATCH_YOUKI").map_or(built, PathBuf::from)
}

/// A bundle in the machine's folder with these annotations, and whether it has our hooks. The network is attached between
/// createRuntime and the first instruction.
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

/// `youki create` and `youki start`, not begun yet; it ends with the container, which has its standard streams. (`youki run` of
/// 0.7.0 waits for ever for a container that ends before it begins to wait, as one can while poststart hooks run.)
fn start(machine: &Machine, id: &str, annotations: &[&str], hooks: bool) -> Command {
    let mut shell = machine.command("sh");
    shell.args(["-c", r#""$1" --root "$2" create --bundle "$3" "$4" && "$1" --root "$2" start "$4""#, "sh"]);
    shell.arg(youki()).arg(machine.path("youki")).arg(bundle(machine, id, annotations, hooks)).arg(id);
    shell
}

/// `youki delete`, which calls the poststop hooks.
fn delete(machine: &Machine, id: &str) {
    let youki = youki();
    let root = machine.path("youki");
    let args = ["--root", root.to_str().expect("UTF-8"), "delete", "--force", id];
    machine.expect(youki.to_str().expect("UTF-8"), &args, b"");
}

#[test]
#[ignore = "needs youki"]
fn youki_starts_what_is_locked_from_its_first_instruction_has_a_loopback_and_leaves_nothing() {
    let machine = Machine::new().with_cgroup_v2();
    let output = run_with_input(&mut start(&machine, "asked", &[ALLOWED], true), b"");
    assert!(output.status.success(), "{}", said(&output));
    is_locked(&serde_json::from_slice(&output.stdout).expect("a report"), "asked");
    assert_eq!(machine.forbidden_heard(), 0);
    assert_eq!(machine.known(), 1, "createRuntime leaves a record");
    delete(&machine, "asked");
    machine.is_clean("asked");
    // The contrast: the machine does count, the prober does send, and nobody but the hook brings lo up.
    let output = run_with_input(&mut start(&machine, "bare", &[], false), b"");
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(&output)));
    assert_eq!(outcome(&report, "tcp:10.9.1.1:80"), "connected", "{report}");
    assert_eq!(report["lo"]["v4"], false, "{report}");
    assert!(machine.forbidden_heard() >= 4, "{report}");
}

#[test]
#[ignore = "needs youki"]
fn youki_shows_why_a_bad_annotation_keeps_a_container_from_starting() {
    let machine = Machine::new().with_cgroup_v2();
    for (id, bad) in [("value", "egress=10.9.1.1:99999"), ("key", "egres=none")] {
        let output = run_with_input(&mut start(&machine, id, &[bad], true), b"");
        assert!(!output.status.success() && output.stdout.is_empty(), "started: {}", said(&output));
        let key = bad.split_once('=').expect("KEY=VALUE").0;
        machine.refused("youki", &output, 15, &format!("io.netlatch.{key}"));
        assert_eq!(machine.forbidden_heard(), 0, "{bad}");
        machine.is_clean(bad);
    }
}

#[test]
#[ignore = "needs youki"]
fn youki_starts_thirty_at_once_that_are_locked_and_leave_nothing() {
    let machine = Machine::new().with_cgroup_v2();
    let ids: Vec<String> = (0..30).map(|index| format!("many-{index}")).collect();
    for output in all_at_once(ids.iter().map(|id| start(&machine, id, &[ALLOWED], true))) {
        assert!(output.status.success(), "{}", said(&output));
        is_locked(&serde_json::from_slice(&output.stdout).expect("a report"), "one of thirty");
    }
    assert_eq!(machine.forbidden_heard(), 0);
    ids.iter().for_each(|id| delete(&machine, id));
    machine.is_clean("thirty at once");
}
