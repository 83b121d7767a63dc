//! podman above runc and above crun, in every network it offers. The prober is the containers' first process and sends to
//! forbidden addresses with its first statements; the machine that podman runs on counts what leaves them.
//!
//! Ignored unless asked for, because each needs podman, runc and crun: scripts/test.sh runs them where these are.

mod support;

use std::process::Output;

use serde_json::{Value, json};
use support::machine::Machine;
use support::podman::Podman;

const RUNTIMES: [&str; 2] = ["runc", "crun"];
const ALLOWED: &str = "egress=10.9.1.1:443 [2001:db8::1]:443 udp/10.9.1.1:53";
const PROBES: [&str; 4] = ["tcp:10.9.1.1:443", "tcp:[2001:db8::1]:443", "udp:10.9.1.1:53", "tcp:10.9.1.1:80"];

fn outcome<'a>(report: &'a Value, probe: &str) -> &'a str {
    let probes = report["probes"].as_array().expect("an array");
    let found = probes.iter().find(|entry| entry["probe"] == probe);
    found.unwrap_or_else(|| panic!("no {probe} in {report}"))["outcome"].as_str().expect("a word")
}

/// What [`ALLOWED`] names is reached, and nothing else.
fn is_locked(report: &Value, case: &str) {
    for (probe, expected) in PROBES.into_iter().zip(["connected", "connected", "sent", "refused"]) {
        assert_eq!(outcome(report, probe), expected, "{case}: {probe} in {report}");
    }
    assert_eq!(report["lo"]["v4"], true, "{case}: {report}");
    assert_eq!(report["lo"]["v6"], true, "{case}: {report}");
}

fn text(output: &Output) -> String {
    format!("{} {}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
#[ignore = "needs podman, runc and crun"]
fn podman_on_a_bridge_reaches_what_is_allowed_and_sends_nothing_else() {
    for runtime in RUNTIMES {
        let machine = Machine::new();
        let podman = Podman::new(&machine, runtime);
        for _ in 0..2 {
            let report = podman.probe(&["--network", "lab"], &[ALLOWED, "ingress=none"], &PROBES);
            is_locked(&report, runtime);
            assert_eq!(machine.forbidden_heard(), 0, "{runtime}: {report} {:?}", machine.world.sniffer().all());
        }
        machine.is_clean(runtime);
        // The contrast: the machine does count, and the prober does send.
        let report = podman.probe(&["--network", "lab"], &[], &PROBES);
        assert_eq!(outcome(&report, "tcp:10.9.1.1:80"), "connected", "{runtime}: {report}");
        assert!(machine.forbidden_heard() >= 2, "{runtime}: {report} {:?}", machine.world.sniffer().all());
    }
}

#[test]
#[ignore = "needs podman, runc and crun"]
fn podman_without_a_network_keeps_a_working_loopback() {
    let machine = Machine::new();
    for runtime in RUNTIMES {
        let podman = Podman::new(&machine, runtime);
        let report = podman.probe(&["--network", "none"], &["egress=none"], &[]);
        assert_eq!(report["lo"], json!({"flags": "0x9", "v4": true, "v6": true}), "{runtime}: {report}");
        machine.is_clean(runtime);
    }
}
