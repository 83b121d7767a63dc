//! SIGKILL at every point of every stage, and a failure at each: either all is in place or the start has failed, and
//! whoever comes next puts right what was left, told by `nft -j`.
//!
//! tests/packet_policy_killed.rs kills at moments that chance picks, and tells it by packets.
// Release builds have no faults to ask for.
#![cfg(debug_assertions)]

mod support;

use serde_json::Value;
use support::Namespace;
use support::container::{Container, Dialect};
use support::fault::{Host, attach, container, pod_of, refusal, rules, running, was_killed};
use support::live::{FRONT_LABELS, SHOP, WEB_LABELS, WEB_TAKES_FRONT};

const ASKED: [(&str, &str); 3] =
    [("egress", "10.0.0.0/8 192.0.2.7:443 !10.9.0.0/16"), ("ingress", "none"), ("ipv6", "disable")];

/// The rules of the plan, loaded by `nft`.
fn planned(host: &Host, container: &Container) -> Vec<Value> {
    let mut plan = std::process::Command::new(support::container::binary());
    plan.args(["plan", "--state", "-", "--format", "nft", "--config"]).arg(host.engine.config()).env_clear();
    let output = host.within(&mut plan, &container.state(Dialect::Runc));
    assert!(output.status.success(), "{}", support::fault::text(&output));
    let judge = Namespace::new();
    judge.nft_load(&String::from_utf8(output.stdout).unwrap());
    rules(&judge)
}

/// Everything that a container asked for with [`ASKED`] is there.
fn is_protected(case: &str, namespace: &Namespace, plan: &[Value]) {
    assert_eq!(rules(namespace), plan, "{case}");
    for name in ["all", "default", "lo"] {
        assert_eq!(namespace.sysctl(&format!("net/ipv6/conf/{name}/disable_ipv6")), "1", "{case}: {name}");
    }
    let lo = namespace.ip_json(&["addr", "show", "dev", "lo"]);
    assert!(lo[0]["flags"].as_array().unwrap().contains(&"UP".into()), "{case}: {lo}");
    assert_eq!(lo[0]["addr_info"].as_array().unwrap().len(), 1, "{case}: {lo}");
}

/// Nobody is remembered, and nothing is left over.
fn is_clean(case: &str, host: &Host) {
    let left: Vec<String> =
        host.files().into_iter().filter(|file| !["lock", "roster", "log"].contains(&&**file)).collect();
    assert!(left.iter().all(|file| file.starts_with("errors/") && file.ends_with(".json")), "{case}: {left:?}");
}

#[test]
fn a_start_killed_at_any_point_is_repaired_by_the_same_start() {
    let host = Host::new("", &[]);
    let first = Namespace::new();
    let one = container("one", &first, &ASKED);
    let plan = planned(&host, &one);
    let points = host.points("createRuntime", &one.state(Dialect::Runc));
    is_protected("undisturbed", &first, &plan);
    host.must("poststop", &one.ended(Dialect::Runc));
    for step in ["join", "decided", "send", "hear", "loaded", "table", "sysctl", "sysctls", "lo", "file-written", "end"]
    {
        assert!(points.iter().any(|point| point == step), "{step} is no point of {points:?}");
    }
    for (n, point) in points.iter().enumerate() {
        let case = format!("killed at {point}, the {}th of {}", n + 1, points.len());
        let namespace = Namespace::new();
        let victim = container("victim", &namespace, &ASKED);
        let state = victim.state(Dialect::Runc);
        let output = host.run("createRuntime", &state, &format!("kill * {}", n + 1));
        assert!(was_killed(&output), "{case}: {}", output.status);
        let left = rules(&namespace);
        assert!(left.is_empty() || left == plan, "{case}: half of the rules: {left:?}");
        host.must("createRuntime", &state);
        is_protected(&case, &namespace, &plan);
        host.must("poststart", &running(&victim));
        host.must("poststop", &victim.ended(Dialect::Runc));
        is_clean(&case, &host);
    }
    host.is_untouched();
}

#[test]
fn a_start_that_fails_at_any_point_says_so_and_leaves_rules_in_force() {
    let host = Host::new("", &[]);
    let first = Namespace::new();
    let one = container("one", &first, &ASKED);
    let plan = planned(&host, &one);
    let points = host.points("createRuntime", &one.state(Dialect::Runc));
    host.must("poststop", &one.ended(Dialect::Runc));
    let loaded = points.iter().position(|point| point == "loaded").unwrap();
    let mut failed = 0;
    for (n, point) in points.iter().enumerate() {
        let case = format!("failed at {point}, the {}th of {}", n + 1, points.len());
        let namespace = Namespace::new();
        let victim = container("victim", &namespace, &ASKED);
        let state = victim.state(Dialect::Runc);
        let output = host.run("createRuntime", &state, &format!("errno:{} * {}", nix::libc::EIO, n + 1));
        if output.status.success() {
            // A lost answer that was not needed: reading back has decided.
            is_protected(&case, &namespace, &plan);
        } else {
            failed += 1;
            let said = support::fault::text(&output);
            assert_eq!(said.trim_end().lines().count(), 1, "{case}: {said}");
            assert!((10..=63).contains(&output.status.code().unwrap()), "{case}: {}", output.status);
            if n >= loaded {
                assert_eq!(rules(&namespace), plan, "{case}: what failed behind the rules left them");
            }
        }
        host.must("createRuntime", &state);
        is_protected(&case, &namespace, &plan);
        host.must("poststop", &victim.ended(Dialect::Runc));
        is_clean(&case, &host);
    }
    assert!(failed + 2 > points.len(), "{failed} of {points:?}");
    host.is_untouched();
}

/// A host with policies, on which web follows the fronts.
struct Shop {
    host: Host,
    web: (Container, Namespace),
    front: (Container, Namespace),
}

/// Web's rules with the front alone, and with a second one of number 3.
struct Pictures {
    alone: Vec<Value>,
    both: Vec<Value>,
    /// The second's own.
    second: Vec<Value>,
}

impl Shop {
    fn new() -> Shop {
        let host = Host::new("ingress: \"@private\"\n", &[SHOP, WEB_TAKES_FRONT]);
        let (web, front) = (host.pod(1), host.pod(2));
        let web = (pod_of("web", WEB_LABELS, &web), web);
        let front = (pod_of("front", FRONT_LABELS, &front), front);
        host.must("createRuntime", &web.0.state(Dialect::Runc));
        host.must("createRuntime", &front.0.state(Dialect::Runc));
        Shop { host, web, front }
    }

    fn web(&self) -> Vec<Value> {
        rules(&self.web.1)
    }

    /// A start that nothing disturbs, and its stop.
    fn pictures(&self) -> Pictures {
        let alone = self.web();
        let (second, namespace) = self.second();
        self.host.must("createRuntime", &second.state(Dialect::Runc));
        let (both, own) = (self.web(), rules(&namespace));
        assert_ne!(alone, both, "web follows who comes");
        self.stop(&second);
        assert_eq!(self.web(), alone);
        Pictures { alone, both, second: own }
    }

    fn second(&self) -> (Container, Namespace) {
        let namespace = self.host.pod(3);
        (pod_of("second", FRONT_LABELS, &namespace), namespace)
    }

    fn stop(&self, container: &Container) {
        self.host.must("poststop", &container.ended(Dialect::Runc));
    }

    /// Web and the front stop, and nothing is left.
    fn close(self, case: &str) {
        self.stop(&self.front.0);
        self.stop(&self.web.0);
        is_clean(case, &self.host);
        self.host.is_untouched();
    }
}

#[test]
fn a_start_among_peers_killed_at_any_point_is_repaired_by_the_same_start() {
    let shop = Shop::new();
    let Pictures { alone, both, second: own } = shop.pictures();
    let (second, _namespace) = shop.second();
    let points = shop.host.points("createRuntime", &second.state(Dialect::Runc));
    shop.stop(&second);
    for step in ["locked", "entered", "recorded", "roster-open", "roster-written", "finish"] {
        assert!(points.iter().any(|point| point == step), "{step} is no point of {points:?}");
    }
    for (n, point) in points.iter().enumerate() {
        let case = format!("killed at {point}, the {}th of {}", n + 1, points.len());
        let (second, namespace) = shop.second();
        let state = second.state(Dialect::Runc);
        assert!(was_killed(&shop.host.run("createRuntime", &state, &format!("kill * {}", n + 1))), "{case}");
        let web = shop.web();
        assert!(web == alone || web == both, "{case}: web's rules are neither: {web:?}");
        shop.host.must("createRuntime", &state);
        assert_eq!((shop.web(), rules(&namespace)), (both.clone(), own.clone()), "{case}");
        shop.host.must("poststart", &running(&second));
        shop.stop(&second);
        assert_eq!(shop.web(), alone, "{case}");
    }
    shop.close("starts killed");
}

#[test]
fn a_start_among_peers_killed_at_any_point_whose_container_goes_is_forgotten() {
    let shop = Shop::new();
    let Pictures { alone, .. } = shop.pictures();
    let (second, _namespace) = shop.second();
    let points = shop.host.points("createRuntime", &second.state(Dialect::Runc));
    shop.stop(&second);
    let other = Namespace::new();
    for (n, point) in points.iter().enumerate() {
        let case = format!("killed at {point}, the {}th of {}", n + 1, points.len());
        let (second, namespace) = shop.second();
        let output = shop.host.run("createRuntime", &second.state(Dialect::Runc), &format!("kill * {}", n + 1));
        assert!(was_killed(&output), "{case}");
        // The runtime gives up without a word. Whoever starts next takes it out of the sets.
        drop(namespace);
        let next = pod_of("next", "app=other", &other);
        shop.host.must("createRuntime", &next.state(Dialect::Runc));
        assert_eq!(shop.web(), alone, "{case}");
        shop.stop(&next);
        let files = shop.host.files();
        assert!(
            !files.iter().any(|file| file.starts_with("containers/") && file.contains("second")),
            "{case}: {files:?}"
        );
    }
    shop.close("starts killed for good");
}

#[test]
fn a_poststart_killed_at_any_point_is_repaired_by_the_same_poststart() {
    let shop = Shop::new();
    let Pictures { alone, both, second: own } = shop.pictures();
    let late = || {
        let namespace = Namespace::new();
        let second = pod_of("second", FRONT_LABELS, &namespace);
        shop.host.must("createRuntime", &second.state(Dialect::Runc));
        assert_eq!(shop.web(), alone);
        attach(&namespace, 3);
        (second, namespace)
    };
    let (second, namespace) = late();
    let points = shop.host.points("poststart", &running(&second));
    assert_eq!((shop.web(), rules(&namespace)), (both.clone(), own.clone()));
    shop.stop(&second);
    for (n, point) in points.iter().enumerate() {
        let case = format!("killed at {point}, the {}th of {}", n + 1, points.len());
        let (second, namespace) = late();
        assert!(was_killed(&shop.host.run("poststart", &running(&second), &format!("kill * {}", n + 1))), "{case}");
        assert_eq!(rules(&namespace), own, "{case}: its own rules stand whatever happens");
        shop.host.must("poststart", &running(&second));
        assert_eq!((shop.web(), rules(&namespace)), (both.clone(), own.clone()), "{case}");
        shop.stop(&second);
        assert_eq!(shop.web(), alone, "{case}");
    }
    shop.close("poststarts killed");
}

#[test]
fn a_poststop_killed_at_any_point_is_repaired_by_the_same_poststop() {
    let shop = Shop::new();
    let Pictures { alone, both, .. } = shop.pictures();
    let (second, _namespace) = shop.second();
    shop.host.must("createRuntime", &second.state(Dialect::Runc));
    let points = shop.host.points("poststop", &second.ended(Dialect::Runc));
    for (n, point) in points.iter().enumerate() {
        let case = format!("killed at {point}, the {}th of {}", n + 1, points.len());
        let (second, namespace) = shop.second();
        shop.host.must("createRuntime", &second.state(Dialect::Runc));
        assert_eq!(shop.web(), both, "{case}");
        drop(namespace);
        let stopped = second.ended(Dialect::Runc);
        assert!(was_killed(&shop.host.run("poststop", &stopped, &format!("kill * {}", n + 1))), "{case}");
        shop.host.must("poststop", &stopped);
        assert_eq!(shop.web(), alone, "{case}");
    }
    shop.close("poststops killed");
}

/// Web takes nothing but what one short rule says: its record is shorter than under [`WEB_TAKES_FRONT`].
const WEB_TAKES_ALL: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web-takes-all, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 80}]}]}
";

#[test]
fn a_reload_killed_at_any_point_is_made_good_by_the_next() {
    let shop = Shop::new();
    let policies = [WEB_TAKES_FRONT, WEB_TAKES_ALL];
    let reload = |fault: &str| shop.host.run("reload", &Value::Null, fault);
    let mut pictures = Vec::new();
    for policy in [1, 0] {
        shop.host.engine.write("1.yaml", policies[policy]);
        assert!(reload("").status.success());
        pictures.insert(0, (shop.web(), rules(&shop.front.1)));
    }
    assert_ne!(pictures[0], pictures[1]);
    // There and back: each way has points of its own, and records get shorter by one and longer by the other.
    for to in [1, 0] {
        shop.host.engine.write("1.yaml", policies[to]);
        let points = {
            let file = shop.host.engine.path().join("points");
            assert!(reload(&format!("trace * 0 {}", file.display())).status.success());
            let points = std::fs::read_to_string(&file).unwrap();
            std::fs::remove_file(file).unwrap();
            points
        };
        for (n, point) in points.lines().enumerate() {
            let case = format!("to {to}, killed at {point}, the {}th of {}", n + 1, points.lines().count());
            shop.host.engine.write("1.yaml", policies[1 - to]);
            assert!(reload("").status.success(), "{case}");
            assert_eq!((shop.web(), rules(&shop.front.1)), pictures[1 - to], "{case}");
            shop.host.engine.write("1.yaml", policies[to]);
            assert!(was_killed(&reload(&format!("kill * {}", n + 1))), "{case}");
            let web = shop.web();
            assert!(pictures.iter().any(|(picture, _)| *picture == web), "{case}: web's rules are neither: {web:?}");
            let again = reload("");
            assert!(again.status.success(), "{case}: {}", support::fault::text(&again));
            assert_eq!((shop.web(), rules(&shop.front.1)), pictures[to], "{case}");
        }
    }
    shop.close("reloads killed");
}

#[test]
fn a_stage_among_peers_that_fails_at_any_point_says_so_and_is_repaired() {
    let shop = Shop::new();
    let Pictures { alone, both, second: own } = shop.pictures();
    let (second, _namespace) = shop.second();
    let points = shop.host.points("createRuntime", &second.state(Dialect::Runc));
    shop.stop(&second);
    for (n, point) in points.iter().enumerate() {
        let case = format!("failed at {point}, the {}th of {}", n + 1, points.len());
        let (second, namespace) = shop.second();
        let state = second.state(Dialect::Runc);
        let output = shop.host.run("createRuntime", &state, &format!("errno:{} * {}", nix::libc::EIO, n + 1));
        if output.status.success() {
            assert_eq!(rules(&namespace), own, "{case}");
        } else if output.status.code() != Some(63) {
            refusal(&case, &output);
        }
        shop.host.must("createRuntime", &state);
        assert_eq!((shop.web(), rules(&namespace)), (both.clone(), own.clone()), "{case}");
        shop.stop(&second);
        assert_eq!(shop.web(), alone, "{case}");
    }
    shop.close("starts failed");
}
