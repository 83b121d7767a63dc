//! `netlatch reload`: changed policies, applied to what runs, told by real packets.

mod support;

use std::net::SocketAddr;

use support::cluster::HOST;
use support::container::Dialect;
use support::live::{
    FRONT, FRONT_LABELS, Live, NOBODY_TAKES, PATIENCE, SILENCE, WEB, WEB_LABELS, WEB_TAKES_FRONT, addresses, flows,
};
use support::{Outcome, probe};

#[test]
fn reload_applies_a_tightened_policy_to_flows_that_stand() {
    let all_ports = WEB_TAKES_FRONT.replace("    ports: [{port: 80}, {port: 53, protocol: UDP}]\n", "");
    let mut live = Live::new(&[&all_ports], &[(WEB, 1), (FRONT, 2)]);
    live.start(WEB, WEB_LABELS);
    live.start(FRONT, FRONT_LABELS);
    let (mut client, mut server) = live.connection(FRONT, WEB);
    assert!(flows(&mut client, &mut server, PATIENCE) && flows(&mut server, &mut client, PATIENCE));
    // A reload without a change cuts nothing.
    live.engine.reload(&live.cluster.host);
    assert!(flows(&mut client, &mut server, PATIENCE) && flows(&mut server, &mut client, PATIENCE));
    live.engine.write("1.yaml", WEB_TAKES_FRONT);
    live.engine.reload(&live.cluster.host);
    assert!(!flows(&mut client, &mut server, SILENCE), "the flow to a port that is closed now goes on");
    live.check("after the policy was tightened", &[(FRONT, true)]);
    live.engine.write("1.yaml", NOBODY_TAKES);
    live.engine.reload(&live.cluster.host);
    live.check("after the policy was tightened further", &[(FRONT, false)]);
}

#[test]
fn reload_keeps_the_flows_that_stay_allowed() {
    let mut live = Live::new(&[&WEB_TAKES_FRONT.replace("port: 80", "port: 8080")], &[(WEB, 1), (FRONT, 2)]);
    live.start(WEB, WEB_LABELS);
    live.start(FRONT, FRONT_LABELS);
    let (mut client, mut server) = live.connection(FRONT, WEB);
    live.engine.write("1.yaml", &WEB_TAKES_FRONT.replace("[{port: 80}, {port: 53, protocol: UDP}]", "[{port: 8080}]"));
    live.engine.reload(&live.cluster.host);
    assert!(flows(&mut client, &mut server, PATIENCE), "a flow that is still allowed was cut");
    assert!(flows(&mut server, &mut client, PATIENCE), "the answers to a flow that is still allowed were cut");
}

#[test]
fn reload_admits_what_a_loosened_policy_allows() {
    let mut live = Live::new(&[NOBODY_TAKES], &[(WEB, 1), (FRONT, 2), ("shop/other", 3)]);
    for (name, labels) in [(WEB, WEB_LABELS), (FRONT, FRONT_LABELS), ("shop/other", "app=other")] {
        live.start(name, labels);
    }
    live.check("under the tight policy", &[(FRONT, false), ("shop/other", false)]);
    live.engine.write("2.yaml", WEB_TAKES_FRONT);
    live.check("written, not reloaded", &[(FRONT, false), ("shop/other", false)]);
    live.engine.reload(&live.cluster.host);
    live.check("after a policy was added", &[(FRONT, true), ("shop/other", false)]);
    live.engine.remove("2.yaml");
    live.engine.reload(&live.cluster.host);
    live.check("after it was removed again", &[(FRONT, false), ("shop/other", false)]);
}

#[test]
fn reload_begins_and_ends_the_isolation_of_what_runs() {
    let mut live = Live::new(&[], &[(WEB, 1), (FRONT, 2)]);
    live.start(WEB, WEB_LABELS);
    live.start(FRONT, FRONT_LABELS);
    let open = |live: &Live, passes: bool| {
        for at in addresses(1).map(|ip| SocketAddr::new(ip, 81)) {
            let (patience, wanted) = if passes { (PATIENCE, Outcome::Connected) } else { (SILENCE, Outcome::TimedOut) };
            assert_eq!(probe::tcp_connect(&live.cluster.end(FRONT).namespace, at, patience), wanted, "{at}");
        }
    };
    open(&live, true);
    live.engine.write("1.yaml", WEB_TAKES_FRONT);
    live.engine.reload(&live.cluster.host);
    open(&live, false);
    live.check("with the policy", &[(FRONT, true)]);
    live.engine.remove("1.yaml");
    live.engine.reload(&live.cluster.host);
    open(&live, true);
}

#[test]
fn a_broken_file_changes_nothing() {
    let mut live = Live::new(&[WEB_TAKES_FRONT], &[(WEB, 1), (FRONT, 2)]);
    live.start(WEB, WEB_LABELS);
    live.start(FRONT, FRONT_LABELS);
    let before = [live.rules(WEB), live.rules(FRONT)];
    for broken in ["kind: [", &NOBODY_TAKES.replace("podSelector", "podSelecter")] {
        live.engine.write("1.yaml", NOBODY_TAKES);
        live.engine.write("2.yaml", broken);
        let output = live.engine.try_reload(&live.cluster.host);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{broken:?}");
        assert!(stderr.contains("2.yaml:"), "{stderr}");
        assert_eq!([live.rules(WEB), live.rules(FRONT)], before, "{broken:?}");
        live.check("after the refused reload", &[(FRONT, true)]);
        // And no container starts beside it.
        live.add("shop/next", 4);
        let next = live.container("shop/next", FRONT_LABELS);
        let output = live.engine.try_stage(&live.cluster.host, "createRuntime", &next.state(Dialect::Runc));
        assert!(!output.status.success(), "{broken:?}");
        live.check("after the refused start", &[(FRONT, true), ("shop/next", false)]);
        live.cluster.kill("shop/next");
    }
}

#[test]
fn reload_makes_a_missed_poststop_good() {
    let mut live = Live::new(&[WEB_TAKES_FRONT], &[(WEB, 1), (FRONT, 2)]);
    live.start(WEB, WEB_LABELS);
    live.start(FRONT, FRONT_LABELS);
    live.check("with front", &[(FRONT, true)]);
    live.kill(FRONT);
    live.add("nobody", 2);
    live.engine.reload(&live.cluster.host);
    live.check("after the reload", &[("nobody", false)]);
}

#[test]
fn the_hosts_addresses_that_a_reload_brings_into_the_rules_are_still_meant_at_poststart() {
    let mut live = Live::new(&[WEB_TAKES_FRONT], &[(WEB, 1)]);
    live.start(WEB, WEB_LABELS);
    let before = std::fs::read_to_string(live.engine.config()).unwrap();
    std::fs::write(live.engine.config(), format!("{before}egress: \"*, !@host\"\n")).unwrap();
    live.engine.reload(&live.cluster.host);
    let rules = live.cluster.end(WEB).namespace.run("nft", &["list", "table", "inet", "netlatch"], "");
    assert!(rules.contains(HOST[0]), "{rules}");
    live.started(WEB);
    // And back.
    std::fs::write(live.engine.config(), before).unwrap();
    live.engine.reload(&live.cluster.host);
    live.started(WEB);
}

#[test]
fn labels_of_a_namespace_that_a_reload_brings_are_those_of_each_container_there() {
    let policy = WEB_TAKES_FRONT.replace(
        "{podSelector: {matchLabels: {app: front}}}",
        "{podSelector: {matchLabels: {app: front}}, namespaceSelector: {matchLabels: {team: x}}}",
    );
    let mut live = Live::new(&[&policy], &[(WEB, 1), (FRONT, 2)]);
    live.start(WEB, WEB_LABELS);
    let both = live.pair(FRONT, FRONT_LABELS);
    for container in &both {
        live.engine.start(&live.cluster.host, container);
    }
    live.check("before the namespace has the label", &[(FRONT, false)]);
    live.engine.write("0-shop.yaml", "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: x}}}\n");
    live.engine.reload(&live.cluster.host);
    live.check("when it has it", &[(FRONT, true)]);
    // Whatever is known of them now is in their records.
    std::fs::remove_file(live.engine.run_dir().join("roster")).unwrap();
    live.engine.start(&live.cluster.host, &live.container("shop/web", WEB_LABELS));
    live.engine.stop(&live.cluster.host, &both[1]);
    live.check("after the stop of one of two", &[(FRONT, true)]);
}
