//! A real container that holds CAP_NET_ADMIN, with `net-admin: host-side`. Its rules inside are flushed before its process
//! runs, as it could itself with its first statement.
//!
//! Ignored unless asked for, because each needs a runtime: scripts/test.sh runs those whose runtime is there.

mod support;

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};
use support::bundle::{Bundle, Runtime};
use support::outside::{Scene, Wire};

/// The prober's first targets.
const FORBIDDEN: [&str; 2] = ["10.9.9.9", "2001:db8::9"];
const ALLOWED: [&str; 2] = ["10.9.1.1", "2001:db8::1"];

/// A container in the scene's namespaces that tries the allowed addresses too. Its user namespace owns its network.
fn bundle(scene: &Scene, mode: &str) -> Bundle {
    let world = &scene.arena.world;
    let mut bundle = Bundle::new(&["tcp:10.9.1.1:443", "tcp:[2001:db8::1]:443"]);
    fs::write(bundle.path().join("netlatch.yaml"), format!("net-admin: {mode}\n")).unwrap();
    let admin = ["CAP_NET_ADMIN"];
    bundle.config["process"]["capabilities"] = json!({"bounding": admin, "effective": admin, "permitted": admin});
    bundle.join(&world.ctr.path());
    namespaces(&mut bundle).push(json!({"type": "user", "path": format!("/proc/{}/ns/user", world.ctr.pid())}));
    // As the namespace has them already; runc 1.1 asks.
    let map = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    bundle.annotate("egress", "10.9.1.1:443 [2001:db8::1]:443");
    bundle.protect();
    bundle
}

fn namespaces(bundle: &mut Bundle) -> &mut Vec<Value> {
    bundle.config["linux"]["namespaces"].as_array_mut().expect("an array")
}

fn flushed_and_held(runtime: Runtime, name: &str) {
    for wire in Wire::ALL {
        for mode in ["allow", "host-side"] {
            let case = format!("{runtime:?}, {wire:?}, {mode}");
            let scene = Scene::new(wire);
            let world = &scene.arena.world;
            let bundle = bundle(&scene, mode);
            let id = format!("{name}-{}-{wire:?}-{mode}", std::process::id());
            let run = |command: &str| {
                let output = scene.host.within(|| bundle.runtime(runtime, command, &id));
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                // crun calls poststart at `start`, and of late it starts nothing where that finds the rules gone.
                let noticed = said.contains("exit code: 34");
                assert!(output.status.success() || noticed, "{case}: {command}: {said}");
                noticed
            };
            run("create");
            let tables = scene.tables();
            let name = format!("table netdev netlatch-{id}");
            assert_eq!(tables, if mode == "allow" { vec![] } else { vec![name] }, "{case}");
            world.ctr.run("nft", &["flush", "ruleset"], "");
            if run("start") {
                // It ran until poststart had looked.
                let heard = FORBIDDEN.iter().any(|to| world.heard(to.parse().unwrap(), None) > 0);
                assert!(!heard || mode == "allow", "{case}");
                scene.host.within(|| bundle.runtime(runtime, "delete", &id));
                continue;
            }
            for to in ALLOWED {
                assert!(world.hears(to.parse().unwrap(), Some(443)), "{case}: {to}");
            }
            std::thread::sleep(Duration::from_millis(100));
            for to in FORBIDDEN {
                let heard = world.heard(to.parse::<IpAddr>().unwrap(), None);
                assert_eq!(heard > 0, mode == "allow", "{case}: {to} heard {heard} packets");
            }
            run("delete");
            assert_eq!(scene.tables(), [""; 0], "{case}");
        }
    }
}

/// The host's user namespace, by a path in config.json or by none there.
fn refused_in_the_hosts_user_namespace(runtime: Runtime, name: &str) {
    for path in [Some("/proc/self/ns/user"), None] {
        let scene = Scene::new(Wire::Routed);
        let mut bundle = bundle(&scene, "host-side");
        namespaces(&mut bundle).pop();
        if path.is_none() {
            let linux = bundle.config["linux"].as_object_mut().expect("an object");
            linux.retain(|key, _| !key.ends_with("Mappings"));
        }
        namespaces(&mut bundle).extend(path.map(|path| json!({"type": "user", "path": path})));
        let id = format!("{name}-{}-{}", std::process::id(), path.is_some());
        let output = scene.host.within(|| bundle.runtime(runtime, "create", &id));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{runtime:?}, {path:?}: {said}");
        // No process can join the user namespace that it is in (`userns_install`), so these runtimes do not come to the hook.
        let by = match (path, runtime) {
            (Some(_), _) => "nvalid argument",
            (None, Runtime::Runc) => "exit status 19",
            (None, Runtime::Crun) => "exit code: 19",
        };
        assert!(said.contains(by), "{runtime:?}: {said}");
        assert_eq!(scene.tables(), [""; 0], "{runtime:?}, {path:?}");
    }
}

#[test]
#[ignore = "needs runc"]
fn runc_starts_a_container_that_flushes_its_rules_and_reaches_nothing_more() {
    flushed_and_held(Runtime::Runc, "runc");
}

#[test]
#[ignore = "needs crun"]
fn crun_starts_a_container_that_flushes_its_rules_and_reaches_nothing_more() {
    flushed_and_held(Runtime::Crun, "crun");
}

#[test]
#[ignore = "needs runc"]
fn runc_holds_nobody_at_the_hosts_side_who_is_in_its_user_namespace() {
    refused_in_the_hosts_user_namespace(Runtime::Runc, "runc-users");
}

#[test]
#[ignore = "needs crun"]
fn crun_holds_nobody_at_the_hosts_side_who_is_in_its_user_namespace() {
    refused_in_the_hosts_user_namespace(Runtime::Crun, "crun-users");
}
