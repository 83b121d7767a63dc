//! `netlatch verify` of real containers of runc, and `netlatch doctor` on a machine that is broken for real, in a mount
//! namespace of its own.
//!
//! Ignored unless asked for, because each needs a runtime: scripts/test.sh runs those whose runtime is there.

mod support;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use support::bundle::{Bundle, Runtime};
use support::container::binary;
use support::machine::{Machine, said};
use support::podman::Podman;
use support::schema::described;

fn parsed(output: &Output) -> Value {
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let text = String::from_utf8_lossy(&output.stdout);
    described(if text.contains("\"checks\"") { "doctor" } else { "verify" }, &text)
}

/// A container of runc that waits for its start: the hook was called, and it has a process.
struct Created {
    bundle: Bundle,
    id: String,
}

impl Created {
    fn new(name: &str, bundle: Bundle) -> Created {
        let id = format!("netlatch-verify-{}-{name}", std::process::id());
        let output = bundle.runtime(Runtime::Runc, "create", &id);
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        Created { bundle, id }
    }

    fn pid(&self) -> String {
        let state: Value =
            serde_json::from_slice(&self.bundle.runtime(Runtime::Runc, "state", &self.id).stdout).expect("JSON");
        state["pid"].to_string()
    }

    fn nft(&self, command: &[&str]) {
        let status = Command::new("nsenter").args(["--net", "--target", &self.pid(), "nft"]).args(command).status();
        assert!(status.expect("nsenter runs").success(), "{command:?}");
    }

    /// Where runc keeps it.
    fn state_dir(&self) -> String {
        format!("runc={}", self.bundle.path().join("runtime").display())
    }
}

impl Drop for Created {
    fn drop(&mut self) {
        let _ = self.bundle.runtime(Runtime::Runc, "delete", &self.id);
    }
}

#[test]
#[ignore = "needs runc"]
fn runc_containers_that_run_without_their_rules_are_named() {
    let host = Bundle::new(&[]);
    let container = |name: &str, hook: bool, annotated: bool| {
        let mut bundle = Bundle::new(&[]);
        if hook {
            bundle.add_hook("createRuntime", host.entry("createRuntime"));
        }
        if annotated {
            bundle.annotate("egress", "10.0.0.0/8:443, @internet:443");
        }
        Created::new(name, bundle)
    };
    let with = container("with", true, true);
    let without = container("without", false, true);
    let stranger = container("stranger", false, false);
    let flushed = container("flushed", true, true);
    let extra = container("extra", true, true);
    flushed.nft(&["flush", "ruleset"]);
    extra.nft(&["insert", "rule", "inet", "netlatch", "output", "counter", "accept"]);

    let verify = |args: &[&str]| {
        let mut command = Command::new(binary());
        command.arg("verify").args(args).arg("--json").arg("--run-dir").arg(host.run_dir());
        command.arg("--config").arg(host.path().join("netlatch.yaml")).arg("--hooks-dir").arg(host.path());
        for created in [&with, &without, &stranger, &flushed, &extra] {
            command.arg("--state-dir").arg(created.state_dir());
        }
        let output = command.output().expect("netlatch runs");
        (parsed(&output), output.status.code())
    };
    let (report, code) = verify(&["--all"]);
    assert_eq!(code, Some(1));
    assert_eq!(report["problems"], 3, "{report:#}");
    let of = |created: &Created| {
        let all = report["containers"].as_array().expect("a list");
        let one =
            all.iter().find(|one| one["id"] == created.id).unwrap_or_else(|| panic!("{}: {report:#}", created.id));
        (one["state"].as_str().expect("a word").to_owned(), one["details"].to_string())
    };
    assert_eq!(of(&with), ("as recorded".to_owned(), "[]".to_owned()));
    assert_eq!(of(&without).0, "unprotected");
    assert!(of(&without).1.contains("its config.json has no hook"), "{}", of(&without).1);
    assert_eq!(of(&stranger).0, "without netlatch");
    assert_eq!(of(&flushed).0, "drift");
    assert!(of(&flushed).1.contains("the rules are gone"), "{}", of(&flushed).1);
    assert_eq!(of(&extra).0, "drift");
    assert!(of(&extra).1.contains("chain output: added: counter accept"), "{}", of(&extra).1);

    assert_eq!(verify(&[&with.id]).1, Some(0));
    assert_eq!(verify(&[&extra.id]).1, Some(1));
    assert_eq!(verify(&[&without.id]).1, Some(1));
    assert_eq!(verify(&[&stranger.id]).1, Some(0));
}

#[test]
#[ignore = "needs podman"]
fn podman_containers_without_the_hook_are_named_wherever_they_are_kept() {
    // A user's state is in no folder that is looked at by default: only conmon knows it.
    for (user, runtime) in [("root", "runc"), ("lab", "crun")] {
        let machine = Machine::new();
        let podman = if user == "root" { Podman::new(&machine, runtime) } else { Podman::rootless(&machine, runtime) };
        let missed = podman.without_hooks();
        let wait = ["wait"];
        for (podman, name, annotations) in
            [(&podman, "bare", &[][..]), (&podman, "locked", &["egress=none"]), (&missed, "missed", &["egress=none"])]
        {
            let run = podman.container("run", &["-d", "-i", "--name", name, "--network", "none"], annotations, &wait);
            assert!(run.status.success(), "{user} {name}: {}", said(&run));
        }
        // Nobody's container: a process in a network of its own.
        let mut stranger = machine.command("unshare");
        let mut stranger = stranger.args(["--net", "sleep", "1000"]).spawn().expect("unshare runs");
        let config = machine.path("netlatch.yaml");
        if user == "lab" {
            // What a user may change is not believed, and root's is.
            std::os::unix::fs::chown(&config, Some(0), Some(0)).expect("an owner");
            machine.expect("chown", &["-R", "0:0", machine.run_dir().to_str().expect("UTF-8")], b"");
        }
        let verify = ["verify", "--all", "--json", "--config", config.to_str().expect("UTF-8")];
        let named = |report: &Value, key: &str, of: &str| {
            let all = report["containers"].as_array().expect("a list");
            all.iter().find(|one| one[key] == *of).map(|one| one["state"].clone())
        };
        let output = machine.netlatch(&verify);
        let report = parsed(&output);
        let state = |name: &str| {
            let id = podman.expect(&["inspect", "--format", "{{.ID}}", name], b"");
            named(&report, "id", id.trim())
        };
        let states = ["bare", "locked", "missed"].map(state);
        let expected = ["without netlatch", "as recorded", "unprotected"].map(|word| Some(Value::from(word)));
        assert_eq!(states, expected, "{user}: {report:#}");
        assert_eq!(named(&report, "source", "process"), Some("no runtime's".into()), "{user}: {report:#}");
        assert_eq!((&report["problems"], output.status.code()), (&1.into(), Some(1)), "{user}: {report:#}");
        for name in ["bare", "locked", "missed"] {
            podman.expect(&["rm", "--force", "--time", "0", name], b"");
        }
        // What it started ends with the machine.
        stranger.kill().and_then(|()| stranger.wait()).expect("it ran");
    }
}

/// What `doctor` says on this machine with these folders in place of its own, after `then`.
fn doctor(then: &str) -> Value {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = format!(
        "set -e; umask 022
         cp -r {hooks} /tmp/netlatch-hooks.$$; cp {binary} /tmp/netlatch-bin.$$
         mount -t tmpfs -o mode=755 none /usr/share/containers
         mount -t tmpfs -o mode=755 none /usr/libexec
         mkdir -p /usr/share/containers/oci/hooks.d /usr/libexec/oci/hooks.d
         cp /tmp/netlatch-hooks.$$/*.json /usr/share/containers/oci/hooks.d
         cp /tmp/netlatch-bin.$$ /usr/libexec/oci/hooks.d/netlatch
         chmod 755 /usr/libexec/oci/hooks.d/netlatch
         chmod 644 /usr/share/containers/oci/hooks.d/*
         rm -r /tmp/netlatch-hooks.$$ /tmp/netlatch-bin.$$
         {then}
         {binary} doctor --json || true",
        hooks = project.join("hooks.d").display(),
        binary = binary().display(),
    );
    parsed(&Command::new("unshare").args(["--mount", "sh", "-c", &script]).output().expect("unshare runs"))
}

fn verdicts(report: &Value, question: &str) -> Vec<(String, String)> {
    let checks = report["checks"].as_array().expect("a list");
    let word = |check: &Value, key: &str| check[key].as_str().expect("a word").to_owned();
    let of = checks.iter().filter(|check| check["question"] == question);
    of.map(|check| (word(check, "verdict"), word(check, "finding"))).collect()
}

#[test]
#[ignore = "needs podman"]
fn podman_on_this_machine_is_seen_to_call_the_hook_or_not() {
    let well = doctor("");
    assert_eq!(verdicts(&well, "podman")[0].0, "ok", "{well:#}");
    let program = &verdicts(&well, "program")[0];
    assert!(program.0 == "ok" && program.1.contains(concat!("netlatch ", env!("CARGO_PKG_VERSION"))), "{program:?}");

    let gone = doctor("rm /usr/libexec/oci/hooks.d/netlatch");
    assert_eq!(verdicts(&gone, "program")[0].0, "problem", "{gone:#}");
    let other = doctor("printf '#!/bin/sh\\necho netlatch 0.0.1\\n' > /usr/libexec/oci/hooks.d/netlatch");
    assert_eq!(verdicts(&other, "program")[0].0, "warning", "{other:#}");
    assert!(verdicts(&other, "program")[0].1.contains("netlatch 0.0.1"));
    // A program that others may write is not even asked.
    let dir = tempfile::tempdir().expect("a folder");
    let marker = dir.path().join("asked");
    let tell = format!("printf '#!/bin/sh\\ntouch {}\\n' > /usr/libexec/oci/hooks.d/netlatch", marker.display());
    doctor(&tell);
    assert!(marker.exists(), "root's own is");
    std::fs::remove_file(&marker).expect("it is there");
    let open = doctor(&format!("{tell}; chmod 777 /usr/libexec/oci/hooks.d/netlatch"));
    assert!(verdicts(&open, "program")[0].1.contains("may be written by others (mode 0777)"), "{open:#}");
    assert!(!marker.exists());
    // One that never answers holds nobody up for long.
    let silent = doctor("printf '#!/bin/sh\\nexec sleep 1000\\n' > /usr/libexec/oci/hooks.d/netlatch");
    assert!(verdicts(&silent, "program")[0].1.contains("it does not say its version"), "{silent:#}");
    let elsewhere = doctor("mv /usr/share/containers/oci/hooks.d /usr/share/containers/oci/elsewhere");
    assert_eq!(verdicts(&elsewhere, "podman")[0].0, "problem", "{elsewhere:#}");
}

#[test]
#[ignore = "needs runc"]
fn runc_says_itself_that_it_has_such_hooks() {
    let output = Command::new(binary()).args(["doctor", "--json"]).env_clear().output().expect("netlatch runs");
    let report = parsed(&output);
    let runc = &verdicts(&report, "runc")[0];
    assert!(runc.0 == "ok" && runc.1.contains("createRuntime hooks"), "{runc:?}");
}
