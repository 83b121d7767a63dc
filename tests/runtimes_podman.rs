//! podman above runc and above crun, in every network it offers. The prober is the containers' first process and sends to
//! forbidden addresses with its first statements; the machine that podman runs on counts what leaves them.
//!
//! Ignored unless asked for, because each needs podman, runc and crun: scripts/test.sh runs them where these are.

mod support;

use std::fs;
use std::time::Duration;

use serde_json::json;
use support::machine::{ALLOWED, Machine, PROBES, is_locked, outcome, said};
use support::namespace::all_at_once;
use support::podman::{Log, Podman};

const RUNTIMES: [&str; 2] = ["runc", "crun"];
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
fn podman_calls_the_hook_for_annotated_containers_or_for_all_and_forgets_them() {
    let machine = Machine::new();
    let podman = Podman::new(&machine, "runc");
    // As far as the runtime's `create`: its namespaces exist, its process waits.
    let init = |name: &str, annotation: &str| {
        let options = ["--name", name, "--network", "none", "--annotation", annotation];
        let created = podman.container("create", &options, &[], &[]);
        assert!(created.status.success(), "{}", said(&created));
        podman.run(&["init", name])
    };
    let remove = |name: &str| podman.expect(&["rm", "--force", "--time", "0", name], b"");
    let starts = |name: &str, annotation: &str, known: usize| {
        let output = init(name, annotation);
        assert!(output.status.success(), "{annotation}: {}", said(&output));
        assert_eq!(machine.known(), known, "{annotation}: who is known at createRuntime");
        remove(name);
        assert_eq!(machine.known(), 0, "{annotation}: poststop was called");
    };
    starts("bare", "io.example.egress=none", 0);
    starts("locked", "io.netlatch.egress=none", 1);
    for misspelled in ["io.netlatch.egres=none", "io.netlatch/egress=none", "IO.netlatch.egress=none"] {
        let name = misspelled.replace(['/', '='], "-");
        let refused = init(&name, misspelled);
        assert!(!refused.status.success() && said(&refused).contains("exit status 15"), "{}", said(&refused));
        remove(&name);
    }
    podman.install("always");
    starts("all", "io.example.egress=none", 1);
}

#[test]
#[ignore = "needs podman, runc and crun"]
fn podman_without_a_network_keeps_a_working_loopback() {
    let machine = Machine::new();
    for runtime in RUNTIMES {
        let podman = Podman::new(&machine, runtime);
        for network in ["none", "ns:/run/netns/mine"] {
            machine.expect("ip", &["netns", "add", "mine"], b"");
            let report = podman.probe(&["--network", network], &["egress=none"], &[]);
            assert_eq!(report["lo"], json!({"flags": "0x9", "v4": true, "v6": true}), "{runtime} {network}: {report}");
            machine.expect("ip", &["netns", "delete", "mine"], b"");
        }
        let stays =
            podman.container("run", &["-d", "-i", "--name", "it", "--network", "none"], &["egress=none"], &["wait"]);
        assert!(stays.status.success(), "{}", said(&stays));
        assert_eq!(machine.known(), 1, "{runtime}: createRuntime was called");
        podman.expect(&["rm", "--force", "--time", "0", "it"], b"");
        machine.is_clean(runtime);
    }
}

#[test]
#[ignore = "needs podman, runc and crun"]
fn podman_on_the_hosts_network_starts_no_annotated_container_and_leaves_others_alone() {
    let machine = Machine::new();
    for runtime in RUNTIMES {
        let podman = Podman::new(&machine, runtime);
        podman.install("always");
        fs::write(machine.path("netlatch.yaml"), "egress: none\n").expect("a file");
        let before = machine.world.far.nft_json();
        let refused = podman.container("run", &["--rm", "--network", "host"], &["egress=none"], &[]);
        assert!(!refused.status.success() && refused.stdout.is_empty(), "{runtime} started: {}", said(&refused));
        machine.refused(runtime, &refused, 24, "namespace");
        let report = podman.probe(&["--network", "host"], &[], &[]);
        assert_eq!(
            report["lo"]["v4"], true,
            "{runtime}: what the file asks of all containers is not asked of the host"
        );
        assert_eq!(machine.world.far.nft_json(), before, "{runtime}: the machine's own rules");
        machine.is_clean(runtime);
    }
}

#[test]
#[ignore = "needs podman, runc and crun"]
fn podman_starts_no_container_with_a_bad_annotation_and_last_error_says_why() {
    let machine = Machine::new();
    for runtime in RUNTIMES {
        let podman = Podman::new(&machine, runtime);
        for bad in ["egress=10.9.1.1:99999", "egres=none"] {
            let refused = podman.container("run", &["--rm", "--network", "lab"], &[bad], &[]);
            assert!(!refused.status.success() && refused.stdout.is_empty(), "{runtime} started: {}", said(&refused));
            let key = bad.split_once('=').expect("KEY=VALUE").0;
            machine.refused(runtime, &refused, 15, &format!("io.netlatch.{key}"));
            assert_eq!(machine.forbidden_heard(), 0, "{runtime}");
            machine.is_clean(runtime);
        }
    }
}

#[test]
#[ignore = "needs podman, runc and crun"]
fn podman_containers_that_share_a_network_share_the_rules_of_the_first() {
    for runtime in RUNTIMES {
        let machine = Machine::new();
        let podman = Podman::new(&machine, runtime);
        let first =
            podman.container("run", &["-d", "-i", "--name", "first", "--network", "lab"], &[ALLOWED], &["wait"]);
        assert!(first.status.success(), "{}", said(&first));
        let join = ["--network", "container:first"];
        is_locked(&podman.probe(&join, &[], &PROBES), runtime);
        is_locked(&podman.probe(&join, &[ALLOWED], &PROBES), runtime);
        let other = podman.container("run", &[&["--rm"], &join[..]].concat(), &["egress=*"], &[]);
        assert!(!other.status.success() && other.stdout.is_empty(), "{runtime} started: {}", said(&other));
        // The others' end took nothing from the first.
        is_locked(&podman.probe(&join, &[], &PROBES), runtime);
        assert_eq!(machine.forbidden_heard(), 0, "{runtime}");
        podman.expect(&["rm", "--force", "--time", "0", "first"], b"");
        machine.is_clean(runtime);
    }
}

#[test]
#[ignore = "needs podman, runc and crun"]
fn podman_pods_are_locked_for_every_member() {
    for runtime in RUNTIMES {
        let machine = Machine::new();
        let podman = Podman::new(&machine, runtime);
        let pod = |name: &str| {
            let infra = ["--infra-image", "prober", "--infra-command", "/bin/busybox sleep 1000"];
            podman.expect(&[&["pod", "create", "--name", name, "--network", "lab"], &infra[..]].concat(), b"");
        };
        // The members ask; the infra container, which they cannot annotate, is nobody's concern.
        pod("asked");
        for _ in 0..2 {
            let log = podman.fresh_log();
            let options = ["-d", "-i", "--pod", "asked", &log.option()];
            let run = podman.container("run", &options, &[ALLOWED], &[&PROBES[..], &["wait"]].concat());
            assert!(run.status.success(), "{runtime}: {}", said(&run));
            is_locked(&log.report(1), runtime);
        }
        podman.expect(&["pod", "rm", "--force", "--time", "0", "asked"], b"");
        machine.is_clean(runtime);
        // The machine's file asks, of the infra container first.
        podman.install("always");
        fs::write(machine.path("netlatch.yaml"), format!("{}\n", ALLOWED.replace('=', ": '") + "'")).expect("a file");
        pod("told");
        is_locked(&podman.probe(&["--pod", "told"], &[], &PROBES), runtime);
        assert_eq!(machine.known(), 1, "{runtime}: the infra container");
        podman.expect(&["pod", "rm", "--force", "--time", "0", "told"], b"");
        assert_eq!(machine.forbidden_heard(), 0, "{runtime}");
        machine.is_clean(runtime);
    }
}

#[test]
#[ignore = "needs podman, runc and crun"]
fn podman_with_a_user_namespace_is_locked_before_its_network_comes() {
    for runtime in RUNTIMES {
        let machine = Machine::new();
        let podman = Podman::new(&machine, runtime);
        let maps = ["--uidmap", "0:200000:65536", "--gidmap", "0:200000:65536"];
        for users in [&maps[..], &["--userns=auto:size=65536"]] {
            let report = podman.probe(&[&["--network", "lab"], users].concat(), &[ALLOWED], &PROBES);
            is_locked(&report, runtime);
            assert_eq!(machine.forbidden_heard(), 0, "{runtime} {users:?}");
            // podman 4.3.1 leaves such a container's named namespace and veth behind, with the hook and without.
            machine.is_forgotten(&format!("{runtime} {users:?}"));
        }
    }
}

#[test]
#[ignore = "needs podman, runc and crun"]
fn podman_calls_the_hook_again_at_restart_and_start_where_it_is_told_of_it() {
    for runtime in RUNTIMES {
        let machine = Machine::new();
        let podman = Podman::new(&machine, runtime);
        let log = podman.fresh_log();
        let options = ["-d", "-i", "--name", "it", "--network", "lab", &log.option()];
        let run = podman.container("run", &options, &[ALLOWED], &[&PROBES[..], &["wait"]].concat());
        assert!(run.status.success(), "{}", said(&run));
        is_locked(&log.report(1), runtime);
        podman.expect(&["restart", "--time", "0", "it"], b"");
        is_locked(&log.report(2), runtime);
        podman.expect(&["stop", "--time", "0", "it"], b"");
        machine.is_clean(runtime);
        podman.expect(&["start", "it"], b"");
        is_locked(&log.report(3), runtime);
        assert_eq!(machine.forbidden_heard(), 0, "{runtime}");
        assert_eq!(machine.known(), 1, "{runtime}");

        // Told of no hooks at the command that starts it, podman calls none: nothing of ours runs that could say so.
        podman.without_hooks().expect(&["restart", "--time", "0", "it"], b"");
        let report = log.report(4);
        assert_eq!(outcome(&report, "tcp:10.9.1.1:80"), "connected", "{runtime}: {report}");
        assert!(machine.forbidden_heard() > 0, "{runtime}: {report}");
        podman.expect(&["rm", "--force", "--time", "0", "it"], b"");
        machine.is_clean(runtime);
    }
}

#[test]
#[ignore = "needs podman, runc and crun"]
fn podman_thirty_at_once_are_locked_and_leave_nothing() {
    for runtime in RUNTIMES {
        let machine = Machine::new();
        let podman = Podman::new(&machine, runtime);
        let logs: Vec<_> = (0..30).map(|_| podman.fresh_log()).collect();
        let start = |log: &Log| podman.start("run", &["--rm", "--network", "lab", &log.option()], &[ALLOWED], &PROBES);
        for (output, log) in all_at_once(logs.iter().map(start)).iter().zip(&logs) {
            assert!(output.status.success(), "{runtime}: {}", said(output));
            is_locked(&log.report(1), runtime);
        }
        assert_eq!(machine.forbidden_heard(), 0, "{runtime}");
        machine.is_clean(runtime);
    }
}

/// A container on the bridge that fails at once is started twice again; its log. podman before 5.6 calls no
/// hook then: the command that starts it again is not told of `--hooks-dir`.
fn started_again(podman: &Podman, users: &[&str]) -> Log {
    let log = podman.fresh_log();
    let says = log.option();
    let options = [&["-d", "--network", "lab", "--restart", "on-failure:2", &says], users].concat();
    let run = podman.container("run", &options, &[ALLOWED], &[&PROBES[..], &["fail"]].concat());
    assert!(run.status.success(), "{}", said(&run));
    log
}

#[test]
#[ignore = "needs podman, runc and crun"]
fn podman_starts_a_failed_container_again_in_the_same_namespace_under_the_same_rules() {
    for runtime in RUNTIMES {
        let machine = Machine::new();
        let podman = Podman::new(&machine, runtime);
        let log = started_again(&podman, &[]);
        for start in [1, 2, 3] {
            is_locked(&log.report(start), runtime);
        }
        assert_eq!(machine.forbidden_heard(), 0, "{runtime}");
        // Where it forgets, poststop was called after the first end, and nothing since: what runs then is known to nobody.
        if podman.remembers_hooks() {
            podman.expect(&["rm", "--all", "--force", "--time", "0"], b"");
        }
        machine.is_forgotten(runtime);
    }
}

#[test]
#[ignore = "needs podman, runc and crun"]
fn podman_that_forgets_hooks_starts_a_failed_container_with_a_user_namespace_again_without_any_rules() {
    for runtime in RUNTIMES {
        let machine = Machine::new();
        let users = ["--uidmap", "0:200000:65536", "--gidmap", "0:200000:65536"];
        let podman = Podman::new(&machine, runtime);
        let log = started_again(&podman, &users);
        is_locked(&log.report(1), runtime);
        // Its namespace is the runtime's, so the next start has a new one.
        if podman.remembers_hooks() {
            // podman 5.8.6 does not always get as far as a second one, with hooks and without.
            std::thread::sleep(Duration::from_secs(3));
            assert_eq!(machine.forbidden_heard(), 0, "{runtime}");
        } else {
            assert_eq!(outcome(&log.report(2), "tcp:10.9.1.1:80"), "connected", "{runtime}");
        }
    }
}

#[test]
#[ignore = "needs podman, runc and crun"]
fn podman_without_root_is_locked_in_each_of_its_networks() {
    for runtime in RUNTIMES {
        let machine = Machine::new();
        let podman = Podman::rootless(&machine, runtime);
        let report = podman.probe(&["--network", "none"], &["egress=none"], &[]);
        assert_eq!(report["lo"], json!({"flags": "0x9", "v4": true, "v6": true}), "{runtime}: {report}");
        is_locked(&podman.probe(&["--network", "slirp4netns"], &[ALLOWED], &PROBES), runtime);
        // podman routes no IPv6 from the bridge of a user who is not root.
        let report = podman.probe(&["--network", "lab"], &[ALLOWED], &PROBES);
        for (probe, expected) in [(PROBES[0], "connected"), (PROBES[2], "sent"), (PROBES[3], "refused")] {
            assert_eq!(outcome(&report, probe), expected, "{runtime}: {probe} in {report}");
        }
        assert_eq!(machine.forbidden_heard(), 0, "{runtime}: {report}");
        let refused = podman.container("run", &["--rm", "--network", "slirp4netns"], &["egres=none"], &[]);
        assert!(!refused.status.success() && refused.stdout.is_empty(), "{runtime} started: {}", said(&refused));
        machine.refused(runtime, &refused, 15, "io.netlatch.egres");
        machine.is_forgotten(runtime);
        // The contrast: the machine hears what slirp4netns says for the container.
        let report = podman.probe(&["--network", "slirp4netns"], &[], &PROBES);
        assert_eq!(outcome(&report, PROBES[3]), "connected", "{runtime}: {report}");
        assert!(machine.forbidden_heard() > 0, "{runtime}: {report}");
    }
}
