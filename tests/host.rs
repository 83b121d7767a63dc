//! The host is what it was: whatever the hook is asked to do, rules, links, routes and sysctls of the namespace it
//! started in stay byte for byte the same.

mod support;

use std::sync::Mutex;

use serde_json::json;
use support::container::Dialect;
use support::host::Snapshot;
use support::{Container, World, hook};

/// The tests of this file compare one and the same host.
static HOST: Mutex<()> = Mutex::new(());

/// Asks for everything the hook can change.
fn demanding(world: &World) -> Container {
    Container::of(&world.ctr)
        .with("egress", "@internet:443, 10.9.0.0/16, !10.9.9.9, [2001:db8::/32]:53, icmp/*")
        .with("ingress", "tcp/10.9.0.0/16:8000-8999")
        .with("ipv6", "disable")
        .with("devconf", "kernel-defaults")
        .with("sysctl.net.ipv4.ip_unprivileged_port_start", "0")
}

fn untouched(work: impl FnOnce()) {
    let _alone = HOST.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    // Modules that the first use brings along add files to /proc/sys/net; let them come before the comparison.
    let warm = World::new();
    warm.ctr.nft_load("table inet warm { chain c { type filter hook output priority 0; ct state new counter; }; }\n");
    let before = Snapshot::take();
    work();
    let differences = before.differences(&Snapshot::take());
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn a_whole_life_of_a_container_leaves_the_host_as_it_was() {
    untouched(|| {
        for dialect in Dialect::ALL {
            let world = World::new();
            let container = demanding(&world);
            for stage in ["createRuntime", "poststart"] {
                let output = hook(stage, &container.state(dialect), None);
                assert!(output.status.success(), "{stage}: {}", String::from_utf8_lossy(&output.stderr));
            }
            assert!(!world.ctr.nft_json().is_empty());
            let output = hook("poststop", &container.stopped(dialect), None);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    });
}

#[test]
fn a_state_that_names_a_process_of_the_host_is_refused_and_changes_nothing() {
    untouched(|| {
        let world = World::new();
        let us = i32::try_from(std::process::id()).unwrap();
        // (pid, exit code): crun's pid 0 and runc's pid 1 inside the container, and a process of our own namespace.
        for (pid, code) in [(0, 21), (1, 22), (us, 24)] {
            let mut container = demanding(&world);
            container.pid = pid;
            let output = hook("createRuntime", &container.state(Dialect::Runc), None);
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(code), "pid {pid}: {stderr}");
            assert_eq!(stderr.trim_end().lines().count(), 1, "{stderr}");
        }
    });
}

#[test]
fn a_start_that_fails_leaves_the_host_as_it_was() {
    untouched(|| {
        let world = World::new();
        let container = demanding(&world).with("egress", "10.9.1.1:99999");
        let output = hook("createRuntime", &container.state(Dialect::Crun), None);
        assert_eq!(output.status.code(), Some(15), "{}", String::from_utf8_lossy(&output.stderr));
        for garbage in [json!({}), json!([]), json!(null), json!({"pid": world.ctr.pid()})] {
            let output = hook("createRuntime", &garbage, None);
            assert_eq!(output.status.code(), Some(12), "{garbage}: {}", String::from_utf8_lossy(&output.stderr));
        }
    });
}
