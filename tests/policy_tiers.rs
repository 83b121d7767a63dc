//! What Kubernetes says about the cluster tiers, point by point: the C points of policy_checklist.rs, which has the list.

#[path = "policy/asked.rs"]
mod asked;

use asked::{Asked, DENY_INGRESS, cluster, on_x, policy};

const ACCEPT_INGRESS: &str = "ingress: [{action: Accept, from: [{namespaces: {}}]}]";
const PASS_INGRESS: &str = "ingress: [{action: Pass, from: [{namespaces: {}}]}]";

#[test]
fn c1_the_lower_priority_is_asked_first_then_the_name_and_rules_in_written_order() {
    let accept = |name: &str, priority| on_x(name, "Admin", priority, ACCEPT_INGRESS);
    let deny = |name: &str, priority| on_x(name, "Admin", priority, DENY_INGRESS);
    let flow = "y/a -> x/a TCP 80";
    for (policies, allowed) in [
        ([accept("a", 1), deny("b", 2)], true),
        ([accept("a", 2), deny("b", 1)], false),
        ([accept("a", 0), deny("b", 1000)], true),
        ([accept("a", 9), deny("b", 10)], true),
        // Equal: by name, for two starts must not differ.
        ([accept("a", 5), deny("b", 5)], true),
        ([deny("a", 5), accept("b", 5)], false),
        ([accept("b", 5), deny("a", 5)], false),
    ] {
        assert_eq!(Asked::of(&policies).halves(flow), (true, allowed), "{policies:?}");
    }
    let rules = "ingress: [{action: Deny, from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {pod: a}}}}]}, {action: Accept, from: [{namespaces: {}}]}, {action: Deny, from: [{namespaces: {}}]}]";
    Asked::of(&[on_x("p", "Admin", 1, rules)]).expect(&["y/b -> x/a TCP 80"], &["y/a -> x/a TCP 80"]);
}

#[test]
fn c2_accept_and_deny_end_it_and_pass_leaves_the_tier() {
    let isolated = policy("x", "p", "{podSelector: {}}");
    let flow = "y/a -> x/a TCP 80";
    Asked::of(&[on_x("a", "Admin", 1, ACCEPT_INGRESS), isolated.clone()]).expect(&[flow], &[]);
    Asked::of(&[on_x("a", "Admin", 1, DENY_INGRESS), policy("x", "p", "{podSelector: {}, ingress: [{}]}")])
        .expect(&[], &[flow]);
    // Pass in the Admin tier: the rest of the tier is skipped, network policies are asked, then the Baseline tier.
    let passing = [on_x("a", "Admin", 1, PASS_INGRESS), on_x("b", "Admin", 2, DENY_INGRESS)];
    Asked::of(&passing).expect(&[flow], &[]);
    Asked::of(&[passing.concat(), isolated]).expect(&[], &[flow]);
    Asked::of(&[passing.concat(), on_x("c", "Baseline", 1, DENY_INGRESS)]).expect(&[], &[flow]);
    // Pass in the Baseline tier: allowed.
    let asked = Asked::of(&[on_x("c", "Baseline", 1, PASS_INGRESS), on_x("d", "Baseline", 2, DENY_INGRESS)]);
    asked.expect(&[flow], &[]);
    assert!(asked.why(flow).contains("passed on by ClusterNetworkPolicy c spec.ingress[0]"), "{}", asked.why(flow));
}

#[test]
fn c3_where_a_network_policy_isolates_its_verdict_is_final() {
    let baseline = |rules: &str| on_x("base", "Baseline", 1, rules);
    let flow = "y/a -> x/a TCP 80";
    Asked::of(&[baseline(ACCEPT_INGRESS), policy("x", "p", "{podSelector: {}}")]).expect(&[], &[flow]);
    Asked::of(&[baseline(DENY_INGRESS), policy("x", "p", "{podSelector: {}, ingress: [{}]}")]).expect(&[flow], &[]);
    // Isolated for the other direction only.
    Asked::of(&[baseline(DENY_INGRESS), policy("x", "p", "{podSelector: {}, policyTypes: [Egress]}")])
        .expect(&[], &[flow]);
}

#[test]
fn c4_what_matches_no_rule_falls_through() {
    let asked = Asked::of(&[on_x(
        "a",
        "Admin",
        1,
        "ingress: [{action: Accept, from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {pod: b}}}}]}]",
    )]);
    asked.expect(&["y/b -> x/a TCP 80", "y/a -> x/a TCP 80", "8.8.8.8 -> x/a TCP 80", "x/a -> y/b TCP 1"], &[]);
    assert!(asked.why("y/b -> x/a TCP 80").contains("accepted by"));
    assert!(asked.why("y/a -> x/a TCP 80").contains("no policy isolates it"));
}

#[test]
fn c5_accept_on_egress_does_not_excuse_the_destinations_ingress() {
    let asked = Asked::of(&[
        cluster("a", "Admin", 1, "subject: {namespaces: {}}, egress: [{action: Accept, to: [{namespaces: {}}]}]"),
        policy("x", "p", "{podSelector: {}, policyTypes: [Ingress, Egress]}"),
    ]);
    assert_eq!(asked.halves("x/b -> x/a TCP 80"), (true, false));
    asked.expect(&["x/a -> y/a TCP 80"], &["y/a -> x/a TCP 80"]);
}

#[test]
fn c6_the_subject_is_namespaces_or_pods_in_them_never_on_the_hosts_network() {
    let deny = |subject: &str| Asked::of(&[cluster("d", "Admin", 1, &format!("subject: {subject}, {DENY_INGRESS}"))]);
    deny("{namespaces: {}}").expect(&["y/a -> x/host1 TCP 80"], &["y/a -> x/a TCP 80", "y/a -> z/a TCP 80"]);
    deny("{namespaces: {matchLabels: {team: y}}}").expect(&["y/a -> x/a TCP 80"], &["x/a -> y/a TCP 80"]);
    deny("{pods: {namespaceSelector: {matchLabels: {team: x}}, podSelector: {matchLabels: {pod: a}}}}")
        .expect(&["y/a -> x/b TCP 80", "x/a -> y/a TCP 80"], &["y/a -> x/a TCP 80"]);
    let nobody = "{pods: {namespaceSelector: {matchLabels: {team: none}}, podSelector: {}}}";
    deny(nobody).expect(&["y/a -> x/b TCP 80"], &[]);
}

#[test]
fn c7_egress_peers_are_also_networks_and_nodes_which_are_addresses() {
    let out = |peer: &str| Asked::of(&[on_x("d", "Admin", 1, &format!("egress: [{{action: Deny, to: [{peer}]}}]"))]);
    out("{networks: [10.2.0.0/16, '2001:db8::/32']}").expect(
        &["x/a -> 8.8.8.8 TCP 80", "x/a -> x/b TCP 80", "x/a -> 2001:db9::1 TCP 80"],
        &["x/a -> y/b TCP 80", "x/a -> 10.2.9.9 ICMP", "x/a -> 2001:db8::1 UDP 1"],
    );
    out("{nodes: {}}").expect(
        &["x/a -> y/a TCP 80", "x/a -> 8.8.8.8 TCP 1"],
        &["x/a -> 10.0.0.1 TCP 80", "x/a -> 10.0.0.2 TCP 1", "x/a -> x/host2 TCP 1", "x/a -> fd00::1 TCP 1"],
    );
    out("{nodes: {matchLabels: {disk: ssd}}}").expect(&["x/a -> 10.0.0.2 TCP 80"], &["x/a -> 10.0.0.1 TCP 80"]);
    // A pod of both families: one of them is open.
    out("{networks: [10.2.0.0/16]}").expect(&["x/a -> y/a TCP 80"], &["x/a -> 10.2.0.1 TCP 80"]);
}

#[test]
fn c8_a_peer_that_only_a_newer_version_knows_is_refused_with_its_policy() {
    let mut collector = netlatch::policy::parse::Collector::new();
    let text = on_x("d", "Admin", 1, "egress: [{action: Accept, to: [{galaxies: {}}]}]");
    collector.read("p.yaml", text.as_bytes());
    let outcome = collector.finish();
    assert!(outcome.manifests.is_none());
    assert!(outcome.errors.iter().any(|error| error.to_string().contains("galaxies")), "{:?}", outcome.errors);
}

#[test]
fn c9_protocols_are_ports_of_one_transport_or_a_name_and_none_is_everything() {
    let inward = |protocols: &str| {
        let rule = format!("ingress: [{{action: Deny, from: [{{namespaces: {{}}}}]{protocols}}}]");
        Asked::of(&[on_x("d", "Admin", 1, &rule)])
    };
    inward("").expect(&[], &["y/a -> x/a TCP 1", "y/a -> x/a ICMP", "y/a -> x/a SCTP 1"]);
    inward(", protocols: [{tcp: {destinationPort: {number: 80}}}, {udp: {destinationPort: {range: {start: 5, end: 7}}}}, {sctp: {destinationPort: {number: 9}}}]").expect(
        &["y/a -> x/a TCP 81", "y/a -> x/a UDP 80", "y/a -> x/a UDP 8", "y/a -> x/a SCTP 5", "y/a -> x/a ICMP"],
        &["y/a -> x/a TCP 80", "y/a -> x/a UDP 5", "y/a -> x/a UDP 7", "y/a -> x/a SCTP 9"],
    );
    // A name has the protocol that the container's port has.
    inward(", protocols: [{destinationNamedPort: dns}]")
        .expect(&["y/a -> x/a TCP 53", "y/a -> x/b UDP 53"], &["y/a -> x/a UDP 53"]);
    inward(", protocols: [{destinationNamedPort: http}]")
        .expect(&["y/a -> x/b TCP 80", "y/a -> x/a UDP 80"], &["y/a -> x/a TCP 80", "y/a -> x/b TCP 8080"]);
    let old = "---\napiVersion: policy.networking.k8s.io/v1alpha1\nkind: AdminNetworkPolicy\nmetadata: {name: old}\nspec: {priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}], ports: [{portNumber: {protocol: TCP, port: 80}}, {namedPort: dns}, {portRange: {protocol: UDP, start: 5, end: 7}}]}]}\n";
    Asked::of(&[old.to_owned()])
        .expect(&["y/a -> x/a TCP 81"], &["y/a -> x/a TCP 80", "y/a -> x/a UDP 53", "y/a -> x/a UDP 6"]);
}

#[test]
fn c10_a_domain_name_matches_no_address_here() {
    Asked::of(&[
        on_x("a", "Admin", 1, "egress: [{action: Accept, to: [{domainNames: [example.com, '*.example.org']}]}, {action: Deny, to: [{networks: [0.0.0.0/0]}]}]"),
    ])
    .expect(&[], &["x/a -> 93.184.216.34 TCP 443"]);
}

#[test]
fn c11_accepting_a_domain_name_does_not_open_dns() {
    Asked::of(&[
        on_x("a", "Admin", 1, "egress: [{action: Accept, to: [{domainNames: [example.com]}]}]"),
        policy("x", "p", "{podSelector: {}, policyTypes: [Egress]}"),
    ])
    .expect(&[], &["x/a -> 8.8.8.8 UDP 53", "x/a -> y/a UDP 53"]);
}

#[test]
fn c12_a_denial_names_the_rule_that_denies_so_that_it_can_drop() {
    let asked = Asked::of(&[on_x("quarantine", "Admin", 1, DENY_INGRESS)]);
    let why = asked.why("y/a -> x/a TCP 80");
    assert!(why.contains("denied by ClusterNetworkPolicy quarantine spec.ingress[0] (policies.yaml:5)"), "{why}");
}

#[test]
fn c13_the_own_address_is_not_subject_to_the_tiers() {
    Asked::of(&[cluster(
        "d",
        "Admin",
        0,
        "subject: {namespaces: {}}, egress: [{action: Deny, to: [{networks: ['0.0.0.0/0', '::/0']}]}]",
    )])
    .expect(&["x/a -> x/a TCP 80", "x/a -> 10.1.0.1 TCP 80"], &["x/a -> x/b TCP 80", "x/a -> 8.8.8.8 TCP 80"]);
}
