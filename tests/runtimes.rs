//! Real containers. The prober is their first process and sends to forbidden addresses with its first statements; the
//! far side counts what arrives.
//!
//! Ignored unless asked for, because each needs a runtime: scripts/test.sh runs those whose runtime is there.
//! `NETLATCH_STARTS` lowers the number of starts.

mod support;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use support::World;
use support::bundle::{Bundle, Runtime};
use support::world::attach_script;

/// The prober's first targets.
const FORBIDDEN: [&str; 2] = ["10.9.9.9", "2001:db8::9"];

fn starts(default: usize) -> usize {
    std::env::var("NETLATCH_STARTS").map_or(default, |text| text.parse().expect("NETLATCH_STARTS is a number"))
}

fn fresh_id() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("netlatch-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn forbidden_heard(world: &World) -> usize {
    FORBIDDEN.iter().map(|to| world.heard(to.parse::<IpAddr>().unwrap(), None)).sum()
}

fn outcome<'a>(report: &'a Value, probe: &str) -> &'a str {
    let probes = report["probes"].as_array().expect("an array");
    let found = probes.iter().find(|entry| entry["probe"] == probe);
    found.unwrap_or_else(|| panic!("no {probe} in {report}"))["outcome"].as_str().expect("a word")
}

/// A bundle in the namespace of `world`, locked by the hook.
fn locked_bundle(world: &World) -> Bundle {
    let mut bundle = Bundle::new(&["tcp:10.9.1.1:443", "tcp:[2001:db8::1]:443", "udp:10.9.1.1:53", "tcp:10.9.1.1:80"]);
    bundle.join(&world.ctr.path());
    bundle.annotate("egress", "10.9.1.1:443 [2001:db8::1]:443 udp/10.9.1.1:53");
    bundle.annotate("ingress", "none");
    bundle.protect();
    bundle
}

fn nothing_forbidden_arrives(runtime: Runtime, starts: usize) {
    for start in 1..=starts {
        let world = World::new();
        let bundle = locked_bundle(&world);
        let report = bundle.probe(runtime, &fresh_id());
        world.settle();
        assert_eq!(forbidden_heard(&world), 0, "start {start}: {report} {:?}", world.sniffer().all());
        assert_eq!(outcome(&report, "tcp:10.9.1.1:443"), "connected", "start {start}: {report}");
        assert_eq!(outcome(&report, "tcp:[2001:db8::1]:443"), "connected", "start {start}: {report}");
        assert_eq!(outcome(&report, "udp:10.9.1.1:53"), "sent", "start {start}: {report}");
        assert_eq!(outcome(&report, "tcp:10.9.1.1:80"), "refused", "start {start}: {report}");
        // A namespace given by path: no runtime touches its lo, the hook does.
        assert_eq!(report["lo"]["v4"], true, "start {start}: {report}");
        assert_eq!(report["lo"]["v6"], true, "start {start}: {report}");
    }
}

#[test]
#[ignore = "needs runc"]
fn runc_starts_and_nothing_forbidden_arrives() {
    nothing_forbidden_arrives(Runtime::Runc, starts(200));
}

#[test]
#[ignore = "needs crun"]
fn crun_starts_and_nothing_forbidden_arrives() {
    nothing_forbidden_arrives(Runtime::Crun, starts(20));
}

/// What the far side's pod and the rest of the world are to a container `shop/web`.
const POLICY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress, Egress]
  egress:
  - to: [{podSelector: {matchLabels: {app: db}}}]
    ports: [{port: 443}]
  - to: [{ipBlock: {cidr: 10.9.1.1/32}}]
    ports: [{port: 53, protocol: UDP}]
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
status: {podIPs: [{ip: 10.9.1.1}, {ip: '2001:db8::1'}]}
";

fn a_policy_holds_from_the_first_instruction(runtime: Runtime, starts: usize) {
    for start in 1..=starts {
        // Every second time the engine attaches the network after createRuntime, as docker does.
        let late = start % 2 == 0;
        let world = if late { World::waiting() } else { World::new() };
        let mut bundle =
            Bundle::new(&["tcp:10.9.1.1:443", "tcp:[2001:db8::1]:443", "udp:10.9.1.1:53", "tcp:10.9.1.1:80"]);
        bundle.policy(POLICY);
        bundle.annotate("namespace", "shop");
        bundle.annotate("labels", "app=web");
        bundle.protect();
        if late {
            bundle.add_script("createRuntime", &attach_script());
        } else {
            bundle.join(&world.ctr.path());
        }
        let report = world.far.within(|| bundle.probe(runtime, &fresh_id()));
        world.settle();
        let case = format!("start {start}: {report}");
        assert_eq!(forbidden_heard(&world), 0, "{case} {:?}", world.sniffer().all());
        assert_eq!(outcome(&report, "tcp:10.9.1.1:443"), "connected", "{case}");
        assert_eq!(outcome(&report, "tcp:[2001:db8::1]:443"), "connected", "{case}");
        assert_eq!(outcome(&report, "udp:10.9.1.1:53"), "sent", "{case}");
        // A policy drops and does not reject.
        assert_eq!(outcome(&report, "tcp:10.9.1.1:80"), "timed out", "{case}");
    }
}

#[test]
#[ignore = "needs runc"]
fn runc_starts_under_a_policy_that_holds_from_the_first_instruction() {
    a_policy_holds_from_the_first_instruction(Runtime::Runc, starts(200) / 10);
}

#[test]
#[ignore = "needs crun"]
fn crun_starts_under_a_policy_that_holds_from_the_first_instruction() {
    a_policy_holds_from_the_first_instruction(Runtime::Crun, starts(20) / 4);
}

#[test]
#[ignore = "needs runc"]
fn runc_without_the_hook_lets_the_first_packets_out() {
    // The contrast: the far side does count, and the prober does send.
    let world = World::new();
    let mut bundle = locked_bundle(&world);
    bundle.config["hooks"] = json!({});
    let report = bundle.probe(Runtime::Runc, &fresh_id());
    world.settle();
    for to in FORBIDDEN {
        assert!(world.heard(to.parse().unwrap(), None) >= 2, "UDP and TCP to {to}: {report}");
    }
}

#[test]
#[ignore = "needs runc"]
fn runc_with_a_network_attached_after_create_runtime_is_locked_too() {
    // Docker's order, and podman's with a user namespace: at createRuntime there is only lo.
    for users in [false, true] {
        for start in 1..=starts(200) / 10 {
            let world = World::waiting();
            let mut bundle = Bundle::new(&["tcp:10.9.1.1:443", "tcp:[2001:db8::1]:443"]);
            bundle.annotate("egress", "10.9.1.1:443 [2001:db8::1]:443");
            bundle.annotate("ingress", "none");
            bundle.protect();
            bundle.add_script("createRuntime", &attach_script());
            if users {
                bundle.map_users();
            }
            // The runtime and the hook see the far side as the host's network.
            let report = world.far.within(|| bundle.probe(Runtime::Runc, &fresh_id()));
            world.settle();
            let case = format!("users {users}, start {start}: {report}");
            assert_eq!(forbidden_heard(&world), 0, "{case}");
            assert_eq!(outcome(&report, "tcp:10.9.1.1:443"), "connected", "{case}");
            assert_eq!(outcome(&report, "tcp:[2001:db8::1]:443"), "connected", "{case}");
        }
    }
}

fn loopback_alone(runtime: Runtime, users: bool) {
    let mut bundle = Bundle::new(&[]);
    bundle.annotate("egress", "none");
    bundle.protect();
    if users {
        bundle.map_users();
    }
    let report = bundle.probe(runtime, &fresh_id());
    // IFF_UP | IFF_LOOPBACK as sysfs prints them.
    assert_eq!(report["lo"], json!({"flags": "0x9", "v4": true, "v6": true}), "{report}");
    assert_eq!(report["inet6"], 1, "{report}");
}

#[test]
#[ignore = "needs runc"]
fn runc_with_a_private_namespace_keeps_a_working_loopback() {
    loopback_alone(Runtime::Runc, false);
}

#[test]
#[ignore = "needs runc"]
fn runc_with_a_user_namespace_keeps_a_working_loopback() {
    loopback_alone(Runtime::Runc, true);
}

#[test]
#[ignore = "needs crun"]
fn crun_with_a_private_namespace_keeps_a_working_loopback() {
    loopback_alone(Runtime::Crun, false);
}

fn without_ipv6(runtime: Runtime, private: bool) {
    let world = World::new();
    let mut bundle = Bundle::new(&["tcp:10.9.1.1:443", "tcp:[2001:db8::1]:443"]);
    if !private {
        bundle.join(&world.ctr.path());
    }
    bundle.annotate("egress", "*:443");
    bundle.annotate("ipv6", "disable");
    bundle.protect();
    let report = bundle.probe(runtime, &fresh_id());
    assert_eq!(report["disable_ipv6"], json!({"all": "1", "default": "1", "lo": "1"}), "{report}");
    assert_eq!(report["inet6"], 0, "no interface keeps an IPv6 address: {report}");
    assert_eq!(report["lo"]["v4"], true, "{report}");
    assert_eq!(report["lo"]["v6"], false, "{report}");
    if !private {
        assert_eq!(outcome(&report, "tcp:10.9.1.1:443"), "connected", "{report}");
        assert_ne!(outcome(&report, "tcp:[2001:db8::1]:443"), "connected", "{report}");
        assert_eq!(world.heard("2001:db8::1".parse().unwrap(), None), 0);
    }
}

#[test]
#[ignore = "needs runc"]
fn runc_with_ipv6_disabled_has_no_ipv6_address() {
    without_ipv6(Runtime::Runc, true);
    without_ipv6(Runtime::Runc, false);
}

#[test]
#[ignore = "needs crun"]
fn crun_with_ipv6_disabled_has_no_ipv6_address() {
    without_ipv6(Runtime::Crun, true);
    without_ipv6(Runtime::Crun, false);
}

#[test]
#[ignore = "needs runc"]
fn runc_shows_why_a_bad_annotation_keeps_the_container_from_starting() {
    for (key, value) in [("egress", "10.9.1.1:99999"), ("egress", "10.0.0.7/8"), ("egres", "none"), ("ipv6", "off")] {
        let world = World::new();
        let mut bundle = locked_bundle(&world);
        bundle.config["annotations"] = json!({});
        bundle.annotate(key, value);
        let output = bundle.runtime(Runtime::Runc, "run", &fresh_id());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && output.stdout.is_empty(), "io.netlatch.{key}={value} started: {stderr}");
        assert!(stderr.contains("exit status 15"), "{stderr}");
        assert!(stderr.contains(&format!("io.netlatch.{key}")), "the message names the annotation: {stderr}");
        assert_eq!(forbidden_heard(&world), 0);
    }
}

#[test]
#[ignore = "needs crun"]
fn crun_does_not_start_a_container_with_a_bad_annotation() {
    let world = World::new();
    let mut bundle = locked_bundle(&world);
    bundle.annotate("egress", "10.9.1.1:99999");
    let output = bundle.runtime(Runtime::Crun, "run", &fresh_id());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && output.stdout.is_empty(), "{stderr}");
    assert!(stderr.contains("exit code: 15"), "crun shows the code and nothing else: {stderr}");
    assert_eq!(forbidden_heard(&world), 0);
}

#[test]
#[ignore = "needs runc"]
fn runc_runs_poststart_and_poststop_and_then_nothing_is_remembered() {
    let world = World::new();
    let bundle = locked_bundle(&world);
    let id = fresh_id();
    let step = |command: &str| {
        let output = bundle.runtime(Runtime::Runc, command, &id);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "runc {command}: {stderr}");
        // runc 1.1 reports a failed poststop hook in its log and succeeds all the same.
        assert!(!stderr.contains("hook"), "runc {command}: {stderr}");
    };
    step("create");
    assert!(bundle.remembers(&id), "createRuntime leaves a record");
    step("start");
    step("delete");
    assert!(!bundle.remembers(&id), "poststop forgets");
}

#[test]
#[ignore = "needs runc"]
fn runc_with_a_sysctl_that_contradicts_the_annotation_does_not_start() {
    // runc writes config.json's own sysctls after createRuntime, so they would win.
    let world = World::new();
    let mut bundle = locked_bundle(&world);
    bundle.annotate("ipv6", "disable");
    bundle.config["linux"]["sysctl"] = json!({"net.ipv6.conf.all.disable_ipv6": "0"});
    let output = bundle.runtime(Runtime::Runc, "run", &fresh_id());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && output.stdout.is_empty(), "{stderr}");
    assert!(stderr.contains("exit status 18") && stderr.contains("disable_ipv6"), "{stderr}");
}
