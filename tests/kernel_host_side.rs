//! How the rules at the host's side come and go: put there first, taken back by what fails, verified by the host alone, and
//! never another's.

mod support;

use std::os::unix::process::ExitStatusExt;

use serde_json::{Value, json};
use support::container::{Container, Dialect};
use support::game::{LIST, at};
use support::outside::{Scene, Wire};
use support::{Namespace, probe};

const CONFIG: &str = "net-admin: host-side\n";

/// A container that is to be protected at the host's side, before its createRuntime.
fn waiting() -> Scene {
    let mut scene = Scene::new(Wire::Routed);
    scene.container.annotations.insert("io.netlatch.egress".into(), LIST.into());
    scene.configure(CONFIG);
    scene
}

/// Behind it.
fn started() -> Scene {
    let scene = waiting();
    scene.must("createRuntime");
    assert_eq!(scene.tables(), [scene.own_table()]);
    scene
}

/// What the host holds of the container's rules, as text.
fn listed(scene: &Scene) -> String {
    let name = format!("netlatch-{}", scene.container.id);
    let text = scene.host.run("nft", &["list", "table", "netdev", &name], "");
    // What rules count and remember comes and goes.
    text.lines().filter(|line| !line.contains("counter") && !line.contains("expires")).collect::<Vec<_>>().join("\n")
}

/// Another container of the scene's host, with an interface of its own.
fn another(scene: &Scene, device: &str) -> (Namespace, Container) {
    let namespace = Namespace::in_user_namespace();
    let pid = namespace.pid();
    scene.host.ip_batch(&format!("link add {device} type veth peer name eth0 netns {pid}\nlink set {device} up\n"));
    namespace.ip_batch("addr add 10.7.0.2/24 dev eth0\nlink set eth0 up\nlink set lo up\n");
    let container = Container::of(&namespace).with("egress", LIST);
    let config = std::fs::read(scene.container.bundle().join("config.json")).unwrap();
    container.write_config(&serde_json::from_slice(&config).unwrap());
    (namespace, container)
}

fn starts(scene: &Scene, container: &Container) {
    let output = scene.stage_of("createRuntime", &container.state(Dialect::Runc), "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn record(scene: &Scene) -> Value {
    let file = scene.run_dir().join("containers").join(format!("{}.json", scene.container.id));
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

#[test]
fn a_container_that_holds_cap_net_admin_has_its_rules_on_the_host_until_it_stops() {
    let scene = started();
    let recorded = &record(&scene)["outside"];
    assert_eq!(recorded["devices"], json!(["ctr0"]));
    let addresses: Vec<&str> = recorded["addresses"].as_array().unwrap().iter().flat_map(Value::as_str).collect();
    assert_eq!(addresses[0], "10.9.0.2");
    assert!(addresses.contains(&"fd99::2") && addresses.iter().any(|own| own.starts_with("fe80::")), "{addresses:?}");
    assert!(listed(&scene).contains("device \"ctr0\""), "{}", listed(&scene));
    scene.must("poststart");
    scene.arena.world.ctr.end();
    scene.must("poststop");
    assert_eq!(scene.tables(), [""; 0]);
    scene.must("poststop");
}

#[test]
fn nothing_stands_on_the_host_for_others() {
    for (capabilities, config) in
        [(&["CAP_NET_RAW"][..], CONFIG), (&["CAP_NET_ADMIN"], "net-admin: allow\n"), (&["CAP_NET_ADMIN"], "")]
    {
        let scene = waiting();
        scene.give(capabilities);
        scene.configure(config);
        let code = if config.is_empty() { 28 } else { 0 };
        assert_eq!(scene.stage("createRuntime", "").status.code(), Some(code), "{config}");
        assert_eq!(scene.tables(), [""; 0], "{config}");
    }
    // What denies nothing need not stand anywhere.
    let mut scene = waiting();
    scene.container.annotations.insert("io.netlatch.mode".into(), "audit".into());
    scene.must("createRuntime");
    scene.must("poststart");
    assert_eq!(scene.tables(), [""; 0]);
}

#[test]
fn a_container_whose_packets_would_pass_nothing_on_the_host_does_not_start() {
    for (commands, said) in [
        ("link del eth0\n", "has no interface but lo yet"),
        ("link add m0 link eth0 type macvlan\n", "m0 is a macvlan and no veth"),
        ("link add one type veth peer name two\n", "is a veth with both ends there"),
    ] {
        let scene = waiting();
        scene.arena.world.ctr.ip_batch(commands);
        let line = scene.fails("createRuntime", 19);
        assert!(line.contains("cannot enforce the rules at the host's side: ") && line.contains(said), "{line}");
        assert_eq!(scene.tables(), [""; 0], "{commands}");
    }
}

#[test]
fn a_container_whose_process_is_in_the_hosts_user_namespace_does_not_start_whatever_its_configuration_says() {
    for rules in [true, false] {
        let mut scene = Scene::of(Wire::Routed, Namespace::new());
        if rules {
            scene.container.annotations.insert("io.netlatch.egress".into(), LIST.into());
        }
        scene.configure(CONFIG);
        if rules {
            let line = scene.fails("createRuntime", 19);
            assert!(line.contains("is in the host's user namespace"), "{line}");
        } else {
            // Nothing has to hold.
            scene.must("createRuntime");
        }
        assert_eq!(scene.tables(), [""; 0]);
    }
    // Nor is one verified whose state names another process.
    let mut scene = started();
    let elsewhere = Namespace::new();
    scene.must("poststart");
    scene.container.pid = elsewhere.pid();
    scene.host.ip_batch(&format!("link add other0 type veth peer name eth0 netns {}\n", elsewhere.pid()));
    let line = scene.fails("poststart", 19);
    assert!(line.contains("is in the host's user namespace"), "{line}");
}

#[test]
fn whatever_fails_later_takes_the_rules_back() {
    for point in ["host-side", "loaded", "decided", "table", "lo", "end"] {
        for nth in [1, 2] {
            let scene = waiting();
            let output = scene.stage("createRuntime", &format!("errno:5 {point} {nth}"));
            if output.status.success() {
                // Passed fewer times than that.
                assert_eq!((nth, scene.tables()), (2, vec![scene.own_table()]), "{point}");
                continue;
            }
            assert_eq!(scene.tables(), [""; 0], "{point}, time {nth}: {}", String::from_utf8_lossy(&output.stderr));
            scene.must("createRuntime");
            assert_eq!(scene.tables(), [scene.own_table()], "{point}");
        }
    }
}

#[test]
fn a_start_that_was_killed_is_swept_by_the_next_one_and_by_its_own_poststop() {
    for by_poststop in [false, true] {
        let scene = waiting();
        let output = scene.stage("createRuntime", "kill decided 1");
        assert_eq!(output.status.signal(), Some(9));
        assert_eq!(scene.tables(), [scene.own_table()], "killed behind it");
        let (_namespace, other) = another(&scene, "other0");
        let theirs = format!("table netdev netlatch-{}", other.id);
        // As long as its process is there it is a container's.
        starts(&scene, &other);
        let mut both = [scene.own_table(), theirs.clone()];
        both.sort();
        assert_eq!(scene.tables(), both);
        let (host, ended) = (&scene.host, scene.own_table());
        if by_poststop {
            // Whose process is gone by then. The scene's other parts go on.
            let stopped = scene.container.stopped(Dialect::Runc);
            scene.arena.world.ctr.end();
            assert!(scene.stage_of("poststop", &stopped, "").status.success());
        } else {
            scene.arena.world.ctr.end();
            starts(&scene, &other);
        }
        let listed = host.run("nft", &["list", "tables"], "");
        assert!(!listed.contains(&ended) && listed.contains(&theirs), "{listed}");
    }
}

#[test]
fn nobody_takes_the_rules_of_a_container_that_runs() {
    let scene = started();
    let before = listed(&scene);
    // A poststop that comes late, of an earlier container with this id.
    scene.must("poststop");
    assert_eq!(listed(&scene), before);
    // Its record lost, with all others: a poststop, and another's start.
    std::fs::remove_dir_all(scene.run_dir()).unwrap();
    scene.must("poststop");
    let (_namespace, other) = another(&scene, "other0");
    starts(&scene, &other);
    assert_eq!(listed(&scene), before);
    // A container of another runtime with the same id.
    let state = json!({"id": scene.container.id, "pid": other.pid, "bundle": other.bundle(), "status": "creating",
        "ociVersion": "1.0.2", "annotations": {"io.netlatch.egress": LIST}});
    let output = scene.stage_of("createRuntime", &state, "");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(19), "{said}");
    assert!(said.ends_with("; stop that container first, or give this one another id\n"), "{said}");
    assert_eq!(listed(&scene), before);
}

#[test]
fn processes_that_outlive_the_first_one_keep_their_rules() {
    let scene = started();
    // In the container's namespace, as with the host's pid namespace.
    let mut left =
        scene.arena.world.ctr.within(|| std::process::Command::new("sleep").arg("600").spawn().expect("sleep starts"));
    scene.arena.world.ctr.end();
    let (_namespace, other) = another(&scene, "other0");
    starts(&scene, &other);
    let with_them = scene.tables();
    left.kill().unwrap();
    left.wait().unwrap();
    starts(&scene, &other);
    let without = scene.tables();
    assert!(with_them.contains(&scene.own_table()), "{with_them:?}");
    assert!(!without.contains(&scene.own_table()), "{without:?}");
}

#[test]
fn started_once_more_it_has_the_same_rules_and_keeps_them_where_that_fails() {
    let scene = started();
    let before = listed(&scene);
    scene.must("createRuntime");
    assert_eq!(listed(&scene), before);
    assert_eq!(scene.stage("createRuntime", "errno:5 decided 1").status.code(), Some(63));
    assert_eq!(listed(&scene), before);
}

#[test]
fn poststart_believes_the_host_and_not_the_container() {
    let scene = started();
    scene.must("poststart");
    // What it makes of its own side changes nothing of what is expected on the host's.
    let ctr = &scene.arena.world.ctr;
    ctr.ip_batch("addr add 10.9.0.77/32 dev eth0\nlink add m0 link eth0 type macvlan\nlink set eth0 down\n");
    ctr.ip_batch("link set eth0 name renamed\nlink add one type veth peer name two\n");
    scene.must("poststart");

    // A way in past the rules.
    scene.host.ip_batch(&format!("link add late0 type veth peer name eth1 netns {}\n", ctr.pid()));
    let said = scene.fails("poststart", 19);
    assert!(said.contains("late0 leads into "), "{said}");
    scene.host.ip_batch("link del late0\n");
    scene.must("poststart");

    let name = format!("netlatch-{}", scene.container.id);
    scene.host.nft_load(&format!("insert rule netdev {name} from_ingress accept\n"));
    scene.fails("poststart", 34);
    scene.host.run("nft", &["delete", "table", "netdev", &name], "");
    scene.fails("poststart", 34);
}

#[test]
fn without_a_record_or_under_another_configuration_poststart_fails() {
    let scene = started();
    scene.configure("net-admin: allow\n");
    let said = scene.fails("poststart", 34);
    assert!(said.contains("the configuration changed since createRuntime"), "{said}");
    scene.configure("net-admin: host-side\negress: '10.0.0.0/8'\n");
    scene.fails("poststart", 34);
    scene.configure(CONFIG);
    scene.must("poststart");
    std::fs::remove_dir_all(scene.run_dir()).unwrap();
    let said = scene.fails("poststart", 34);
    assert!(said.contains("it was not recorded at createRuntime"), "{said}");
}

#[test]
fn a_reload_brings_the_hosts_side_up_to_date() {
    let scene = started();
    let ctr = &scene.arena.world.ctr;
    ctr.run("nft", &["flush", "ruleset"], "");
    let to = at("10.9.1.1", 443);
    let connect = || probe::tcp_connect(ctr, to, std::time::Duration::from_millis(500));
    assert_eq!(connect(), support::Outcome::Connected);
    let before = listed(&scene);
    let reload = || scene.command("reload", b"", "");
    let output = reload();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(listed(&scene), before, "nothing changed");
    // The admin closes that address.
    scene.configure("net-admin: host-side\negress: '10.9.2.0/24'\n");
    let output = reload();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    ctr.run("nft", &["flush", "ruleset"], "");
    assert_eq!(connect(), support::Outcome::TimedOut);
    scene.must("poststop");
}

#[test]
fn rules_that_come_while_it_runs_stand_at_the_hosts_side_too() {
    const LATER: &str = "net-admin: host-side\negress: '10.9.2.0/24'\n";
    let scene = Scene::new(Wire::Routed);
    scene.configure(CONFIG);
    scene.must("createRuntime");
    scene.must("poststart");
    assert_eq!(scene.tables(), [""; 0], "nothing is denied");
    scene.configure(LATER);
    scene.fails("poststart", 34);
    // What it makes of itself meanwhile is not believed.
    let ctr = &scene.arena.world.ctr;
    ctr.ip_batch("addr add 10.9.0.77/32 dev eth0\n");
    let reload = || scene.command("reload", b"", "");
    let output = reload();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(scene.tables(), [scene.own_table()]);
    let text = listed(&scene);
    assert!(text.contains("10.9.0.2") && !text.contains("10.9.0.77"), "{text}");
    ctr.run("nft", &["flush", "ruleset"], "");
    let connect = || probe::tcp_connect(ctr, at("10.9.1.1", 443), std::time::Duration::from_millis(500));
    assert_eq!(connect(), support::Outcome::TimedOut);
    // A way past them.
    scene.host.ip_batch(&format!("link add late0 type veth peer name eth1 netns {}\n", ctr.pid()));
    let output = reload();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(19), "{said}");
    assert!(said.contains("late0 leads into "), "{said}");
    scene.host.ip_batch("link del late0\n");
    assert!(reload().status.success());
    // And they go again.
    scene.configure(CONFIG);
    assert!(reload().status.success());
    assert_eq!(scene.tables(), [""; 0]);
    scene.configure(LATER);
    assert!(reload().status.success());
    ctr.end();
    scene.must("poststop");
    assert_eq!(scene.tables(), [""; 0]);
}

#[test]
fn a_reload_says_of_whom_nothing_was_proven() {
    for (before, commands) in [("net-admin: allow\n", ""), (CONFIG, "link add m0 link eth0 type macvlan\n")] {
        let scene = Scene::new(Wire::Routed);
        scene.arena.world.ctr.ip_batch(commands);
        scene.configure(before);
        scene.must("createRuntime");
        scene.configure("net-admin: host-side\negress: '10.9.2.0/24'\n");
        for _ in 0..2 {
            let output = scene.command("reload", b"", "");
            let said = String::from_utf8_lossy(&output.stdout);
            assert_eq!(output.status.code(), Some(19), "{said}");
            let line = format!("{}: failed: cannot enforce the rules at the host's side: ", scene.container.id);
            assert!(said.lines().any(|said| said.starts_with(&line)), "{said}");
            assert_eq!(scene.tables(), [""; 0]);
        }
        // Those inside hold as far as they do.
        assert!(scene.arena.world.ctr.run("nft", &["list", "tables"], "").contains("table inet netlatch"));
    }
}

#[test]
fn containers_with_peers_have_theirs_too() {
    let scene = waiting();
    let policies = scene.run_dir().parent().unwrap().join("policies");
    std::fs::create_dir(&policies).unwrap();
    let config = format!("net-admin: host-side\npolicies: {}\n", policies.display());
    let policy = |peer: &str| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: default}}\n\
             spec: {{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{peer}]}}]}}\n"
        )
    };
    std::fs::write(policies.join("p.yaml"), policy("{ipBlock: {cidr: 10.0.0.0/8}}")).unwrap();
    scene.configure(&config);
    for point in ["entered", "host-side", "loaded", "lo"] {
        let output = scene.stage("createRuntime", &format!("errno:5 {point} 1"));
        assert_eq!(output.status.code(), Some(63), "{point}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(scene.tables(), [""; 0], "{point}");
    }
    scene.must("createRuntime");
    assert_eq!(scene.tables(), [scene.own_table()]);
    scene.must("poststart");
    let pid = scene.arena.world.ctr.pid();
    scene.host.ip_batch(&format!("link add late0 type veth peer name eth1 netns {pid}\n"));
    scene.fails("poststart", 19);
    // Peers that come and go cannot be followed out there.
    let output = {
        std::fs::write(policies.join("p.yaml"), policy("{podSelector: {}}")).unwrap();
        scene.command("reload", b"", "")
    };
    assert_eq!(output.status.code(), Some(19), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(scene.tables(), [scene.own_table()]);
    scene.arena.world.ctr.end();
    scene.must("poststop");
    assert_eq!(scene.tables(), [""; 0]);
}
