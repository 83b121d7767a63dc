//! The stages as far as the container's network namespace, with states as runtimes write them.

mod support;

use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};
use support::container::hook_in;
use support::namespace::end;
use support::{Container, Namespace};

/// States captured from runtimes, PID where the process's number stood: runc 1.1.5, crun 1.8.1, and crun 1.27 to 1.29
/// below podman, which say "/" for the bundle (containers/crun#2025).
const STATES: [&str; 3] = [
    r#"{"ociVersion":"1.0.2-dev","id":"ohk1","status":"creating","pid":PID,"bundle":"/run/bundles/b","annotations":{"io.example.a":"b"}}"#,
    r#"{"ociVersion":"1.0","id":"ohk3","pid":PID,"root":"rootfs","bundle":"/run/bundles/b","status":"created","annotations":{"io.example.a":"b"}}"#,
    r#"{"ociVersion":"1.0","id":"ohk4","pid":PID,"root":"/var/x/intermediate-mountpoint-0.0","bundle":"/","status":"created","annotations":{"io.container.manager":"libpod"}}"#,
];

/// Each captured state for `pid`, bare, and asking for an egress list.
fn states(pid: u32) -> Vec<(Value, bool)> {
    let bare = STATES.map(|text| serde_json::from_str::<Value>(&text.replace("PID", &pid.to_string())).expect("JSON"));
    let asking = bare.clone().map(|mut state| {
        state["annotations"]["io.netlatch.egress"] = "none".into();
        (state, true)
    });
    bare.map(|state| (state, false)).into_iter().chain(asking).collect()
}

fn stage(stage: &str, state: &Value, config: &str) -> Output {
    let dir = tempfile::tempdir().expect("a directory");
    // The host's policies must not leak in.
    hook_in(&dir, stage, state, Some(&format!("policies: {}/none\n{config}", dir.path().display())))
}

fn said(output: &Output) -> String {
    assert!(output.stdout.is_empty());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A refusal: the code, one line, and `named` in it.
fn refused(output: &Output, code: i32, named: &str) {
    let line = said(output);
    assert_eq!(output.status.code(), Some(code), "{line}");
    assert!(line.starts_with("netlatch: cannot ") && line.trim_end().lines().count() == 1, "{line}");
    assert!(line.contains(named), "{named} in {line}");
}

/// A process of our own namespace, which ends with the test.
struct Bystander(Child);

impl Bystander {
    fn new() -> Bystander {
        Bystander(Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("cat starts"))
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The number of a process that has ended and was reaped.
fn dead() -> u32 {
    let mut child = Command::new("true").spawn().expect("true starts");
    child.wait().expect("true ends");
    child.id()
}

#[test]
fn pids_that_are_no_containers_are_refused_each_with_its_own_code() {
    for stage_name in ["createRuntime", "prestart"] {
        for (pid, code, named) in [(0, 21, "pid 0"), (1, 22, "pid 1")] {
            for (state, _) in states(pid) {
                refused(&stage(stage_name, &state, ""), code, named);
            }
        }
        for (state, _) in states(dead()) {
            refused(&stage(stage_name, &state, ""), 23, "has ended (ESRCH)");
        }
    }
}

#[test]
fn a_container_that_is_gone_at_poststart_is_no_failure() {
    for (state, _) in states(dead()) {
        let output = stage("poststart", &state, "");
        assert_eq!((output.status.code(), said(&output).as_str()), (Some(0), ""));
    }
}

#[test]
fn our_own_namespace_is_refused_to_who_asks_and_skipped_for_who_does_not() {
    let bystander = Bystander::new();
    for (state, asks) in states(bystander.0.id()) {
        for stage_name in ["createRuntime", "poststart"] {
            for config in ["", "egress: none\n", "host-network: skip\n"] {
                let output = stage(stage_name, &state, config);
                if asks {
                    refused(&output, 24, "net:[");
                } else {
                    assert_eq!((output.status.code(), said(&output).as_str()), (Some(0), ""), "{config}");
                }
            }
            refused(&stage(stage_name, &state, "host-network: refuse\n"), 24, "net:[");
        }
    }
}

#[test]
fn a_state_without_a_pid_needs_a_namespace_by_path_in_config_json() {
    let namespace = Namespace::new();
    let container = Container::of(&namespace).with("egress", "none");
    let mut state = container.state(support::container::Dialect::Runc);
    state.as_object_mut().expect("an object").remove("pid");
    refused(&stage("createRuntime", &state, ""), 20, "no pid");

    let network = json!({"type": "network", "path": namespace.path()});
    container.write_config(&json!({"ociVersion": "1.0.2", "linux": {"namespaces": [network]}}));
    let output = stage("createRuntime", &state, "");
    assert_eq!((output.status.code(), said(&output).as_str()), (Some(0), ""));
    assert!(!namespace.nft_json().is_empty());
}

#[test]
fn a_path_that_is_no_network_namespace_is_refused() {
    let namespace = Namespace::new();
    let container = Container::of(&namespace).with("egress", "none");
    let mut state = container.state(support::container::Dialect::Runc);
    state.as_object_mut().expect("an object").remove("pid");
    let other = format!("/proc/{}/ns/uts", namespace.pid());
    for path in ["/dev/null", "/etc", other.as_str()] {
        let network = json!({"type": "network", "path": path});
        container.write_config(&json!({"ociVersion": "1.0.2", "linux": {"namespaces": [network]}}));
        refused(&stage("createRuntime", &state, ""), 25, path);
    }
}

#[test]
fn every_captured_state_protects_a_container_and_poststop_forgets_it() {
    for (state, asks) in states(u32::MAX) {
        let namespace = Namespace::new();
        let mut state = state;
        state["pid"] = namespace.pid().into();
        let dir = tempfile::tempdir().expect("a directory");
        let config = format!("policies: {}/none\n", dir.path().display());
        for stage_name in ["createRuntime", "poststart", "poststop", "poststop"] {
            if stage_name == "poststop" {
                if state["status"] != "stopped" {
                    end(namespace.pid());
                }
                // No pid from runc, 0 from crun.
                match state.get("root") {
                    Some(_) => state["pid"] = 0.into(),
                    None => drop(state.as_object_mut().expect("an object").remove("pid")),
                }
                state["status"] = "stopped".into();
            }
            let output = hook_in(&dir, stage_name, &state, Some(&config));
            assert_eq!((output.status.code(), said(&output).as_str()), (Some(0), ""), "{stage_name} of {state}");
            let record = dir.path().join(format!("run/containers/{}.json", state["id"].as_str().expect("an id")));
            assert_eq!(record.exists(), stage_name != "poststop", "{stage_name}");
        }
        assert_eq!(!namespace.nft_json().is_empty(), asks, "a table for who asks for one");
    }
}

#[test]
fn nft_takes_what_plan_prints() {
    let namespace = Namespace::new();
    let dir = tempfile::tempdir().expect("a directory");
    let lists = [
        "none",
        "@internet:443, !203.0.113.0/24",
        "10.0.0.0/8, [2001:db8::/32]:8443, tcp/203.0.113.0/24:8000-8999, udp/1.1.1.1:53, icmp/192.0.2.0/24, *:443",
    ];
    for list in lists {
        for mode in ["enforce", "audit"] {
            let annotations =
                json!({"io.netlatch.egress": list, "io.netlatch.ingress": list, "io.netlatch.mode": mode});
            let state = json!({"ociVersion": "1.0.2", "id": "x", "annotations": annotations});
            let file = dir.path().join("config.yaml");
            std::fs::write(&file, format!("policies: {}/none\n", dir.path().display())).expect("a file");
            let mut command = Command::new(support::container::binary());
            command.args(["plan", "--state", "-", "--format", "nft", "--config"]).arg(&file).env_clear();
            let output = support::namespace::run_with_input(&mut command, state.to_string().as_bytes());
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            namespace.run("nft", &["-c", "-f", "-"], &String::from_utf8(output.stdout).expect("UTF-8"));
        }
    }
}
