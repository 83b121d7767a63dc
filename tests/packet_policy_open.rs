//! What the API leaves open, or to whoever stands where we stand: ICMP, the node, services, cloud metadata; told by real
//! packets.

mod support;

use std::net::{IpAddr, SocketAddr, TcpListener};

use support::cluster::HOST;
use support::live::{
    FRONT, FRONT_LABELS, FRONT_SENDS_TO_WEB, Live, NOBODY_TAKES, PATIENCE, SILENCE, WEB, WEB_LABELS, WEB_TAKES_FRONT,
    addresses,
};
use support::{Outcome, probe, raw};

/// Web takes everything from front.
fn web_takes_all_of_front() -> String {
    WEB_TAKES_FRONT.replace("    ports: [{port: 80}, {port: 53, protocol: UDP}]\n", "")
}

/// What becomes of an echo request to web, by family.
fn ping(live: &Live, from: &str, passes: bool) -> [Outcome; 2] {
    let (end, web) = (live.cluster.end(from), &live.cluster.end(WEB).addresses);
    [0, 1].map(|family| {
        let patience = if passes { PATIENCE } else { SILENCE };
        raw::icmp_echo_from(&end.namespace, Some(end.addresses[family]), web[family], patience)
    })
}

fn both(outcome: Outcome) -> [Outcome; 2] {
    [outcome, outcome]
}

#[test]
fn icmp_goes_with_rules_that_have_no_ports() {
    let mut live = Live::new(&[], &[(WEB, 1), (FRONT, 2), ("shop/other", 3)]);
    live.start(WEB, WEB_LABELS);
    live.start(FRONT, FRONT_LABELS);
    assert_eq!(ping(&live, FRONT, true), both(Outcome::Replied), "without a policy");
    for (policy, passes) in [(NOBODY_TAKES, false), (WEB_TAKES_FRONT, false), (&web_takes_all_of_front(), true)] {
        live.engine.write("1.yaml", policy);
        live.engine.reload(&live.cluster.host);
        let told = if passes { Outcome::Replied } else { Outcome::TimedOut };
        assert_eq!(ping(&live, FRONT, passes), both(told), "{policy}");
        assert_eq!(ping(&live, "shop/other", false), both(Outcome::TimedOut), "{policy}");
    }
}

#[test]
fn icmp_passes_where_the_file_says_so() {
    let mut live = Live::with("policy-icmp: accept\n", &[NOBODY_TAKES], &[(WEB, 1), (FRONT, 2)]);
    live.start(WEB, WEB_LABELS);
    assert_eq!(ping(&live, FRONT, true), both(Outcome::Replied));
    live.check("nothing but ICMP", &[(FRONT, false)]);
}

#[test]
fn icmp_leaves_to_whom_a_rule_without_ports_names() {
    let mut live = Live::new(&[FRONT_SENDS_TO_WEB], &[(WEB, 1), (FRONT, 2), ("shop/second", 3)]);
    live.start(FRONT, FRONT_LABELS);
    assert_eq!(ping(&live, FRONT, false), both(Outcome::NotPermitted), "before web is known");
    live.start(WEB, WEB_LABELS);
    assert_eq!(ping(&live, FRONT, true), both(Outcome::Replied), "to web");
    live.engine.write("1.yaml", &FRONT_SENDS_TO_WEB.replace("  - to:", "  - ports: [{port: 80}]\n    to:"));
    live.engine.reload(&live.cluster.host);
    assert_eq!(ping(&live, FRONT, false), both(Outcome::NotPermitted), "where the rule has ports");
}

#[test]
fn cloud_metadata_is_denied_under_an_egress_policy_that_does_not_name_it() {
    const ANYWHERE: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: anywhere, namespace: shop}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress:
  - to: [{ipBlock: {cidr: 0.0.0.0/0}}]
";
    let at: SocketAddr = "169.254.169.254:80".parse().unwrap();
    let mut live = Live::new(&[], &[(WEB, 1), (FRONT, 2)]);
    live.cluster.add(&[("metadata", &[at.ip()])]);
    let other = SocketAddr::new(at.ip(), 8081);
    let _listeners =
        [at, other].map(|at| live.cluster.end("metadata").namespace.within(|| TcpListener::bind(at)).unwrap());
    live.start(FRONT, FRONT_LABELS);
    let reached = |live: &Live, at: SocketAddr, passes: bool| {
        let patience = if passes { PATIENCE } else { SILENCE };
        let outcome = probe::tcp_connect(&live.cluster.end(FRONT).namespace, at, patience);
        assert_eq!(outcome == Outcome::Connected, passes, "{at}: {outcome:?}");
    };
    reached(&live, at, true);
    live.engine.write("1.yaml", ANYWHERE);
    live.engine.reload(&live.cluster.host);
    reached(&live, at, false);
    reached(&live, SocketAddr::new(addresses(1)[0], 80), true);
    let one = ANYWHERE.replace("0.0.0.0/0", "169.254.169.254/32");
    live.engine.write("1.yaml", &one);
    live.engine.reload(&live.cluster.host);
    reached(&live, at, true);
    reached(&live, other, true);
    // A rule that names it for one port, and one that lets everything through to anybody.
    live.engine.write("1.yaml", ANYWHERE);
    live.engine.write("2.yaml", &format!("{}    ports: [{{port: 80}}]\n", one.replace("anywhere", "metadata")));
    live.engine.reload(&live.cluster.host);
    reached(&live, at, true);
    reached(&live, other, false);
    reached(&live, SocketAddr::new(addresses(1)[0], 80), true);
}

#[test]
fn a_service_is_as_open_as_all_that_stand_behind_it() {
    const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIPs: [10.96.0.1]
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}, {port: 81, targetPort: 8081}]
";
    const TO_GOOD: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: to-good, namespace: shop}
spec:
  podSelector: {matchLabels: {app: front}}
  policyTypes: [Egress]
  egress:
  - to: [{podSelector: {matchLabels: {tier: good}}}]
    ports: [{port: 8080}]
";
    // Whoever translates the virtual address stands outside the container, so here it is an end of its own.
    let vip: IpAddr = "10.96.0.1".parse().unwrap();
    let mut live = Live::new(&[SERVICE, TO_GOOD], &[(WEB, 1), (FRONT, 2), ("shop/second", 3)]);
    live.cluster.add(&[("vip", &[vip])]);
    let namespace = &live.cluster.end("vip").namespace;
    let _listeners = [80, 81].map(|port| namespace.within(|| TcpListener::bind((vip, port))).unwrap());
    let reached = |live: &Live, when: &str, wanted: [bool; 2]| {
        let outcomes = [(80, wanted[0]), (81, wanted[1])].map(|(port, passes)| {
            let patience = if passes { PATIENCE } else { SILENCE };
            probe::tcp_connect(&live.cluster.end(FRONT).namespace, SocketAddr::new(vip, port), patience)
        });
        assert_eq!(outcomes.map(|outcome| outcome == Outcome::Connected), wanted, "{when}: {outcomes:?}");
    };
    live.start(WEB, "app=web,tier=good");
    live.start(FRONT, FRONT_LABELS);
    reached(&live, "with an endpoint that is allowed", [true, false]);
    live.start("shop/second", "app=web");
    reached(&live, "with one more that is not", [false, false]);
    live.stop("shop/second");
    reached(&live, "after its stop", [true, false]);
    live.stop(WEB);
    reached(&live, "without endpoints", [false, false]);
}

#[test]
fn the_host_itself_is_the_node_of_its_containers() {
    let mut live = Live::new(&[NOBODY_TAKES], &[(WEB, 1), ("another-node", 5)]);
    live.start(WEB, WEB_LABELS);
    let v4 = SocketAddr::new(addresses(1)[0], 80);
    let v6 = SocketAddr::new(addresses(1)[1], 80);
    for (at, host) in [v4, v6].into_iter().zip(HOST) {
        assert_eq!(probe::tcp_connect(&live.cluster.host, at, PATIENCE), Outcome::Connected, "{host} to {at}");
    }
    live.check("from another node", &[("another-node", false)]);
    // Ingress alone: the container does not reach its node under an egress policy that does not say so.
    live.engine.write(
        "2.yaml",
        &NOBODY_TAKES
            .replace("podSelector: {}", "podSelector: {}, policyTypes: [Egress]")
            .replace("nobody-takes", "nobody-sends"),
    );
    live.engine.reload(&live.cluster.host);
    for host in HOST.map(|host| host.parse::<IpAddr>().unwrap()) {
        let _listener = live.cluster.host.within(|| TcpListener::bind((host, 80))).unwrap();
        let at = SocketAddr::new(host, 80);
        assert_eq!(probe::tcp_connect(&live.cluster.end(WEB).namespace, at, SILENCE), Outcome::TimedOut, "{at}");
    }
    for at in [v4, v6] {
        assert_eq!(probe::tcp_connect(&live.cluster.host, at, PATIENCE), Outcome::Connected, "{at} again");
    }
}
