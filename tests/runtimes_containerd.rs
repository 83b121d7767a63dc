//! containerd, its shim and runc, from a spec that carries the hooks: `ctr run --config`, as a base runtime spec of CRI does.
//!
//! Ignored unless asked for, because each needs containerd: scripts/test.sh runs them where it is.

mod support;

use std::fs;

use serde_json::json;
use support::containerd::Containerd;
use support::cri::Kubelet;
use support::machine::{ALLOWED, Machine, PROBES, is_locked, outcome, said};
use support::namespace::{all_at_once, run_with_input};

#[test]
#[ignore = "needs containerd and runc"]
fn containerd_starts_from_a_spec_with_hooks_what_is_locked_from_its_first_instruction() {
    let machine = Machine::new();
    let containerd = Containerd::new(&machine);
    let spec = containerd.spec("asked", &[ALLOWED], &PROBES);
    let output = run_with_input(&mut containerd.start("asked", &spec, &[]), b"");
    assert!(output.status.success(), "{}", said(&output));
    is_locked(&serde_json::from_slice(&output.stdout).expect("a report"), "asked");
    assert_eq!(machine.forbidden_heard(), 0);
    machine.is_clean("asked");
    // The contrast: the machine does count, and the prober does send.
    let mut spec = containerd.spec("bare", &[ALLOWED], &PROBES);
    spec["hooks"] = json!({"createRuntime": [{"path": machine.attach_script()}]});
    let output = run_with_input(&mut containerd.start("bare", &spec, &[]), b"");
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(&output)));
    assert_eq!(outcome(&report, "tcp:10.9.1.1:80"), "connected", "{report}");
    assert!(machine.forbidden_heard() >= 4, "{report}");
}

#[test]
#[ignore = "needs containerd and runc"]
fn containerd_passes_over_annotations_beside_a_spec_and_the_file_holds_all_the_same() {
    let machine = Machine::new();
    let containerd = Containerd::new(&machine);
    // `ctr` 1.6 takes from its command line only the id where it has --config.
    let beside = ["--annotation", "io.netlatch.egress=none"];
    fs::write(machine.path("netlatch.yaml"), ALLOWED.replace('=', ": '") + "'\n").expect("a file");
    let spec = containerd.spec("told", &[], &PROBES);
    let output = run_with_input(&mut containerd.start("told", &spec, &beside), b"");
    assert!(output.status.success(), "{}", said(&output));
    is_locked(&serde_json::from_slice(&output.stdout).expect("a report"), "told");
    assert_eq!(machine.forbidden_heard(), 0);
    machine.is_clean("told");
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

#[test]
#[ignore = "needs containerd and runc"]
fn containerd_locks_a_pods_container_by_the_pods_annotations_with_a_base_spec() {
    let machine = Machine::new();
    let kubelet = Kubelet::new(&machine);
    let pod = kubelet.start("web", &[ALLOWED], &PROBES).unwrap_or_else(|(_, why)| panic!("{why}"));
    is_locked(&pod.report(), "web");
    kubelet.remove(&pod);
    let Err((pod, why)) = kubelet.start("bad", &["egres=none"], &PROBES) else { panic!("started") };
    assert!(why.contains("io.netlatch.egres"), "the kubelet is told: {why}");
    kubelet.remove(&pod);
    assert_eq!(machine.forbidden_heard(), 0);
    machine.is_clean("pods");
    let pod = kubelet.start("bare", &[], &PROBES).unwrap_or_else(|(_, why)| panic!("{why}"));
    assert_eq!(outcome(&pod.report(), "tcp:10.9.1.1:80"), "connected", "nobody asked for anything");
    assert!(machine.forbidden_heard() > 0);
    kubelet.remove(&pod);
}

/// For every pod of `shop`, the namespace that the kubelet says its pods are in.
const POLICY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: all, namespace: NAMESPACE}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress:
  - to: [{ipBlock: {cidr: 10.9.1.1/32}}]
    ports: [{port: 443}]
";

#[test]
#[ignore = "needs containerd and runc"]
fn containerd_tells_the_namespace_that_policies_select_a_pod_by() {
    let machine = Machine::new();
    let policies = machine.path("policies");
    fs::create_dir(&policies).expect("a directory");
    fs::write(machine.path("netlatch.yaml"), format!("policies: {}\n", policies.display())).expect("a file");
    let kubelet = Kubelet::new(&machine);
    for (namespace, heard) in [("shop", false), ("other", true)] {
        fs::write(policies.join("all.yaml"), POLICY.replace("NAMESPACE", namespace)).expect("a file");
        let pod = kubelet.start(namespace, &[], &PROBES[..1]).unwrap_or_else(|(_, why)| panic!("{why}"));
        assert_eq!(outcome(&pod.report(), "tcp:10.9.1.1:443"), "connected", "{namespace}");
        assert_eq!(machine.forbidden_heard() > 0, heard, "{namespace}");
        kubelet.remove(&pod);
        machine.is_clean(namespace);
    }
}
