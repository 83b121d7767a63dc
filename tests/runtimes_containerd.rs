//! containerd, its shim and runc, from a spec that carries the hooks: `ctr run --config`, as a base runtime spec of CRI does.
//!
//! Ignored unless asked for, because each needs containerd: scripts/test.sh runs them where it is.

mod support;

use support::containerd::Containerd;
use support::machine::{ALLOWED, Machine, PROBES, is_locked, outcome, said};
use support::namespace::{all_at_once, run_with_input};

#[test]
#[ignore = "needs containerd and runc"]
fn containerd_starts_from_a_spec_with_hooks_what_is_locked_from_its_first_instruction() {
    let machine = Machine::new();
    let containerd = Containerd::new(&machine);
    for (id, in_spec, on_line) in [("spec", true, false), ("line", false, true)] {
        // The annotations are in the spec, or come with the command beside a spec that all containers share.
        let spec = containerd.spec(id, if in_spec { &[ALLOWED] } else { &[] }, &PROBES);
        let annotation = format!("io.netlatch.{ALLOWED}");
        let options = if on_line { vec!["--annotation", &annotation] } else { vec![] };
        let output = run_with_input(&mut containerd.start(id, &spec, &options), b"");
        assert!(output.status.success(), "{id}: {}", said(&output));
        is_locked(&serde_json::from_slice(&output.stdout).expect("a report"), id);
        assert_eq!(machine.forbidden_heard(), 0, "{id}");
        machine.is_clean(id);
    }
    // The contrast: the machine does count, and the prober does send.
    let mut spec = containerd.spec("bare", &[ALLOWED], &PROBES);
    spec["hooks"]["createRuntime"].as_array_mut().expect("an array").remove(0);
    let output = run_with_input(&mut containerd.start("bare", &spec, &[]), b"");
    let report = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!(outcome(&report, "tcp:10.9.1.1:80"), "connected", "{report}");
    assert!(machine.forbidden_heard() >= 4, "{report}");
}

#[test]
#[ignore = "needs containerd and runc"]
fn containerd_shows_why_a_bad_annotation_keeps_a_container_from_starting() {
    let machine = Machine::new();
    let containerd = Containerd::new(&machine);
    for bad in ["egress=10.9.1.1:99999", "egres=none"] {
        let spec = containerd.spec("bad", &[bad], &PROBES);
        let output = run_with_input(&mut containerd.start("bad", &spec, &[]), b"");
        assert!(!output.status.success() && output.stdout.is_empty(), "started: {}", said(&output));
        let key = bad.split_once('=').expect("KEY=VALUE").0;
        machine.refused("containerd", &output, 15, &format!("io.netlatch.{key}"));
        assert_eq!(machine.forbidden_heard(), 0, "{bad}");
        machine.is_clean(bad);
    }
}

#[test]
#[ignore = "needs containerd and runc"]
fn containerd_starts_thirty_at_once_that_are_locked_and_leave_nothing() {
    let machine = Machine::new();
    let containerd = Containerd::new(&machine);
    let start = |index: usize| {
        let id = format!("many-{index}");
        containerd.start(&id, &containerd.spec(&id, &[ALLOWED], &PROBES), &[])
    };
    for output in all_at_once((0..30).map(start).collect::<Vec<_>>().into_iter()) {
        assert!(output.status.success(), "{}", said(&output));
        is_locked(&serde_json::from_slice(&output.stdout).expect("a report"), "one of thirty");
    }
    assert_eq!(machine.forbidden_heard(), 0);
    machine.is_clean("thirty at once");
}
