//! Docker's engine, whose containers get the hook by a CDI device: `docker run --device netlatch.io/net=on`.
//!
//! Ignored unless asked for, because each needs Docker 25 or later: scripts/test.sh runs them where it is, and scripts/engines.sh
//! with the engines of another release of Debian.

mod support;

use std::fs;

use support::docker::{DEVICE, Docker};
use support::machine::{Machine, PROBES, is_locked, outcome, said};
use support::namespace::{all_at_once, run_with_input};

/// What containers here are allowed: what [`ALLOWED`](support::machine::ALLOWED) has, and what Docker 28 announces on a network with
/// IPv6 by a raw socket of its own. What it announces by a packet socket is swallowed.
const ALLOWED: &str = "egress=10.9.1.1:443 [2001:db8::1]:443 udp/10.9.1.1:53 icmp/[ff02::1]";
const NETWORKS: [&str; 2] = ["--network=bridge", "--network=lab"];

#[test]
#[ignore = "needs Docker"]
fn docker_with_the_device_reaches_what_is_allowed_and_sends_nothing_else() {
    let machine = Machine::new();
    let docker = Docker::new(&machine);
    let report = docker.probe(&[DEVICE, "--network=lab"], &[ALLOWED], &PROBES);
    is_locked(&report, "lab");
    // docker0 has no IPv6.
    let report = docker.probe(&[DEVICE, "--network=bridge"], &[ALLOWED], &PROBES);
    assert_eq!(outcome(&report, "tcp:10.9.1.1:443"), "connected", "{report}");
    assert_eq!(outcome(&report, "tcp:10.9.1.1:80"), "refused", "{report}");
    let report = docker.probe(&[DEVICE, "--network=none"], &[ALLOWED], &PROBES);
    assert_eq!(report["lo"]["v4"], true, "{report}");
    assert_eq!(machine.forbidden_heard(), 0);
    machine.is_clean("with the device");
    // The contrast: the machine does count, and the prober does send.
    let report = docker.probe(&["--network=lab"], &[ALLOWED], &PROBES);
    assert_eq!(outcome(&report, "tcp:10.9.1.1:80"), "connected", "{report}");
    assert!(machine.forbidden_heard() >= 4, "{report}");
}

#[test]
#[ignore = "needs Docker"]
fn docker_shows_why_a_bad_annotation_keeps_a_container_from_starting() {
    let machine = Machine::new();
    let docker = Docker::new(&machine);
    for (bad, code) in [("egress=10.9.1.1:99999", 15), ("egres=none", 15)] {
        let output = run_with_input(&mut docker.start(&["--rm", DEVICE], &[bad], &PROBES), b"");
        assert!(!output.status.success() && output.stdout.is_empty(), "started: {}", said(&output));
        let key = bad.split_once('=').expect("KEY=VALUE").0;
        machine.refused("docker", &output, code, &format!("annotation io.netlatch.{key}"));
    }
    assert_eq!(machine.forbidden_heard(), 0);
    machine.is_clean("refused");
}

#[test]
#[ignore = "needs Docker"]
fn docker_starts_a_container_again_under_the_same_rules() {
    let machine = Machine::new();
    let docker = Docker::new(&machine);
    let options = ["--detach", "--name=again", "--network=lab", DEVICE];
    let output = run_with_input(&mut docker.start(&options, &[ALLOWED], &PROBES), b"");
    assert!(output.status.success(), "{}", said(&output));
    is_locked(&docker.report_of("again", 1), "first");
    docker.expect(&["start", "again"]);
    is_locked(&docker.report_of("again", 2), "docker start");
    docker.expect(&["restart", "again"]);
    is_locked(&docker.report_of("again", 3), "docker restart");
    docker.expect(&["rm", "--force", "again"]);
    // The engine itself starts it again.
    let options = ["--detach", "--name=failed", "--restart=on-failure:1", "--network=lab", DEVICE];
    let probes = [&PROBES[..], &["fail"]].concat();
    let output = run_with_input(&mut docker.start(&options, &[ALLOWED], &probes), b"");
    assert!(output.status.success(), "{}", said(&output));
    for start in [1, 2] {
        is_locked(&docker.report_of("failed", start), "--restart");
    }
    docker.expect(&["rm", "--force", "failed"]);
    assert_eq!(machine.forbidden_heard(), 0);
    machine.is_clean("again");
}

#[test]
#[ignore = "needs Docker"]
fn docker_containers_that_share_a_network_share_the_rules_of_the_first() {
    let machine = Machine::new();
    let docker = Docker::new(&machine);
    let sleep = ["run", "--detach", "--name=first", "--network=lab", DEVICE, "--annotation"];
    let annotation = format!("io.netlatch.{ALLOWED}");
    docker.expect(&[&sleep[..], &[&annotation, "prober", "/bin/busybox", "sleep", "1000"]].concat());
    for options in [&["--network=container:first"][..], &["--network=container:first", DEVICE]] {
        is_locked(&docker.probe(options, &[], &PROBES), "shared");
    }
    docker.expect(&["rm", "--force", "first"]);
    assert_eq!(machine.forbidden_heard(), 0);
    machine.is_clean("shared");
}

#[test]
#[ignore = "needs Docker"]
fn docker_on_the_hosts_network_starts_no_annotated_container_and_leaves_others_alone() {
    let machine = Machine::new();
    let docker = Docker::new(&machine);
    let options = ["--rm", "--network=host", DEVICE];
    let output = run_with_input(&mut docker.start(&options, &[ALLOWED], &PROBES), b"");
    assert!(!output.status.success() && output.stdout.is_empty(), "started: {}", said(&output));
    machine.refused("docker", &output, 24, "network");
    let output = run_with_input(&mut docker.start(&options, &[], &["tcp:10.9.1.1:443"]), b"");
    assert!(output.status.success(), "{}", said(&output));
    machine.is_forgotten("the host's network");
}

#[test]
#[ignore = "needs Docker"]
fn docker_ten_at_once_are_locked_and_leave_nothing() {
    let machine = Machine::new();
    let docker = Docker::new(&machine);
    fs::write(machine.path("netlatch.yaml"), ALLOWED.replace('=', ": '") + "'\n").expect("a file");
    let commands = (0..10).map(|n| docker.start(&["--rm", NETWORKS[n % 2], DEVICE], &[], &PROBES));
    for (number, output) in all_at_once(commands).into_iter().enumerate() {
        assert!(output.status.success(), "{number}: {}", said(&output));
        let report = serde_json::from_slice(&output.stdout).expect("a report");
        assert_eq!(outcome(&report, "tcp:10.9.1.1:443"), "connected", "{report}");
        assert_eq!(outcome(&report, "tcp:10.9.1.1:80"), "refused", "{report}");
    }
    assert_eq!(machine.forbidden_heard(), 0);
    machine.is_clean("ten at once");
}
