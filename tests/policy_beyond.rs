//! What Kubernetes leaves open and this program decides: services, ends, families, near misses.

#[path = "policy/asked.rs"]
mod asked;

use asked::{Asked, on_a, on_x, policy};

#[test]
fn a_service_is_allowed_when_every_endpoint_is() {
    // 10.96.0.2:443 leads to y/a:8443 and x/b:8443 by its slice, 10.96.0.1:8000 to x/a:80 by its selector.
    let to = |labels: &str| {
        Asked::of(&[policy(
            "x",
            "p",
            &format!(
                "{{podSelector: {{matchLabels: {{pod: c}}}}, policyTypes: [Egress], egress: [{{to: [{{namespaceSelector: {{}}, podSelector: {{matchExpressions: [{labels}]}}}}], ports: [{{port: 8443}}, {{port: 80}}]}}]}}"
            ),
        )])
    };
    to("{key: pod, operator: In, values: [a, b]}").expect(
        &["x/c -> 10.96.0.2 TCP 443", "x/c -> 10.96.0.1 TCP 8000"],
        // No such port, no such protocol, no such service.
        &["x/c -> 10.96.0.2 TCP 8443", "x/c -> 10.96.0.2 UDP 443", "x/c -> 10.96.0.3 TCP 443", "x/c -> 10.96.0.2 ICMP"],
    );
    let one = to("{key: pod, operator: In, values: [a]}");
    one.expect(&["x/c -> 10.96.0.1 TCP 8000"], &["x/c -> 10.96.0.2 TCP 443"]);
    let why = one.why("x/c -> 10.96.0.2 TCP 443");
    assert!(
        why.starts_with("service y/both with 2 endpoints behind the port, 1 denied; 10.1.0.2 port 8443: "),
        "{why}"
    );
    // The endpoints' ingress counts as well.
    let closed = Asked::of(&[policy("y", "p", "{podSelector: {}}")]);
    assert_eq!(closed.halves("x/c -> 10.96.0.2 TCP 443"), (true, false));
}

#[test]
fn ends_are_pods_by_name_or_by_address() {
    let asked = on_a("ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]");
    asked.expect(&["10.1.0.2 -> 10.1.0.1 TCP 80"], &["10.1.0.3 -> fd00:1::1 TCP 80", "8.8.8.8 -> 10.1.0.1 TCP 80"]);
    assert_eq!(asked.halves("8.8.8.8 -> 9.9.9.9 TCP 80"), (true, true));
}

#[test]
fn a_pod_without_an_address_is_judged_by_selectors_and_blocks_match_it_never() {
    on_a("ingress: [{from: [{podSelector: {matchLabels: {pod: new}}}]}]").expect(&["x/new -> x/a TCP 80"], &[]);
    on_a("ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}, {ipBlock: {cidr: '::/0'}}]}]")
        .expect(&["x/b -> x/a TCP 80"], &["x/new -> x/a TCP 80"]);
}

#[test]
fn halves_are_of_one_family_that_both_have() {
    // IPv4 may leave and not come in, IPv6 the other way round: no family may do both.
    let asked = Asked::of(&[
        policy(
            "x",
            "out",
            "{podSelector: {matchLabels: {pod: b}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0}}]}]}",
        ),
        policy("x", "in", "{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{ipBlock: {cidr: '::/0'}}]}]}"),
    ]);
    assert_eq!(asked.halves("x/b -> x/a TCP 80"), (true, false));
    assert_eq!(asked.halves("fd00:1::2 -> x/a TCP 80"), (false, true));
}

#[test]
fn the_nearest_miss_says_what_was_missing() {
    let miss = |rules: &str, flow: &str| on_a(rules).nearest_miss(flow);
    for (rules, flow, lacks) in [
        (
            "ingress: [{from: [{podSelector: {matchLabels: {pod: c}}}], ports: [{port: 80}]}]",
            "x/c -> x/a TCP 81",
            "TCP 81 is not TCP 80",
        ),
        (
            "ingress: [{from: [{podSelector: {matchLabels: {tier: front}}}]}]",
            "x/b -> x/a TCP 80",
            "the source's labels lack tier=front",
        ),
        (
            "ingress: [{from: [{podSelector: {matchLabels: {pod: c}}}]}]",
            "x/b -> x/a TCP 80",
            "the source's labels have pod=b, not pod=c",
        ),
        (
            "ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]",
            "y/b -> x/a TCP 80",
            "the source is not in namespace x and there is no namespaceSelector",
        ),
        (
            "ingress: [{from: [{namespaceSelector: {matchLabels: {team: x}}, podSelector: {matchLabels: {pod: b}}}]}]",
            "y/b -> x/a TCP 80",
            "the labels of namespace y have team=y, not team=x",
        ),
        (
            "ingress: [{from: [{ipBlock: {cidr: 8.0.0.0/8, except: [8.8.0.0/16]}}]}]",
            "8.8.8.8 -> x/a TCP 80",
            "8.8.8.8 is in the except block 8.8.0.0/16 of 8.0.0.0/8",
        ),
        (
            "policyTypes: [Egress], egress: [{ports: [{port: http}]}]",
            "x/a -> x/b TCP 80",
            "TCP 80 is not the port http, which is TCP 8080 at x/b",
        ),
    ] {
        let miss = miss(rules, flow);
        assert!(miss.starts_with("NetworkPolicy x/p spec."), "{miss}");
        assert!(miss.ends_with(&format!("(policies.yaml:5): {lacks}")), "{flow}: {miss}");
    }
    // The policy was written for somebody else.
    let asked = Asked::of(&[
        policy("x", "deny", "{podSelector: {}}"),
        policy("x", "allow", "{podSelector: {matchLabels: {pod: a}}, ingress: [{}]}"),
    ]);
    assert_eq!(
        asked.nearest_miss("y/a -> x/b TCP 80"),
        "NetworkPolicy x/allow spec.ingress[0] (policies.yaml:10): its podSelector does not select x/b: the labels have pod=b, not pod=a"
    );
    assert_eq!(asked.nearest_miss("y/a -> x/a TCP 80"), "");
    // A rule that denies: what stands before it was asked, what stands behind it was not.
    let pods =
        |label: &str| format!("{{pods: {{namespaceSelector: {{}}, podSelector: {{matchLabels: {{{label}}}}}}}}}");
    let rules = format!(
        "ingress: [{{action: Accept, from: [{}]}}, {{action: Deny, from: [{{namespaces: {{}}}}]}}, {{action: Accept, from: [{}]}}]",
        pods("pod: b"),
        pods("pod: a")
    );
    let asked =
        Asked::of(&[on_x("tier", "Admin", 1, &rules), policy("x", "allow", "{podSelector: {}, ingress: [{}]}")]);
    assert_eq!(
        asked.nearest_miss("y/a -> x/a TCP 80"),
        "ClusterNetworkPolicy tier spec.ingress[0] (policies.yaml:5): the source's labels have pod=a, not pod=b"
    );
}

#[test]
fn whom_nobody_can_identify_is_among_those_that_labels_deny_and_among_none_that_they_accept() {
    let pods = "pods: {namespaceSelector: {}, podSelector: {matchLabels: {pod: b}}}";
    let rules =
        format!("ingress: [{{action: Accept, from: [{{{pods}}}]}}], egress: [{{action: Accept, to: [{{{pods}}}]}}]");
    let nobody =
        "ingress: [{action: Deny, from: [{namespaces: {}}]}], egress: [{action: Deny, to: [{namespaces: {}}]}]";
    let asked = Asked::of(&[on_x("first", "Admin", 1, &rules), on_x("second", "Admin", 2, nobody)]);
    assert!(asked.halves("x/b -> x/a TCP 80").1 && asked.halves("x/a -> x/b TCP 80").0);
    asked.expect(&[], &["fe80::1 -> x/a TCP 80", "x/a -> fe80::1 TCP 80"]);
    let first = |rules: String| Asked::of(&[on_x("first", "Admin", 1, &rules)]);
    let denied = first(format!("ingress: [{{action: Deny, from: [{{{pods}}}]}}]"));
    denied.expect(
        &["fec0::1 -> x/a TCP 80", "169.254.0.1 -> x/a TCP 80", "x/a -> fe80::1 TCP 80"],
        &["fe80::1 -> x/a TCP 80", "febf:ffff::1 -> x/a ICMP"],
    );
    first(format!("ingress: [{{action: Pass, from: [{{{pods}}}]}}]")).expect(&["fe80::1 -> x/a TCP 80"], &[]);
    // Only what is denied to them; and a name may stand for any port.
    let to = |protocols: &str| first(format!("egress: [{{action: Deny, to: [{{{pods}}}], protocols: [{protocols}]}}]"));
    to("{tcp: {destinationPort: {number: 80}}}")
        .expect(&["x/a -> fe80::1 TCP 81", "x/a -> fe80::1 UDP 80", "x/a -> fe80::1 ICMP"], &["x/a -> fe80::1 TCP 80"]);
    to("{destinationNamedPort: http}")
        .expect(&["x/a -> fe80::1 ICMP", "x/a -> x/b TCP 81"], &["x/a -> fe80::1 TCP 81", "x/a -> x/b TCP 8080"]);
    // Nodes are selected as well. An address that is written is what it is.
    first("egress: [{action: Deny, to: [{nodes: {matchLabels: {disk: ssd}}}]}]".to_owned())
        .expect(&[], &["x/a -> fe80::1 TCP 80"]);
    first("egress: [{action: Deny, to: [{networks: ['fd00::/8']}]}]".to_owned())
        .expect(&["x/a -> fe80::1 TCP 80"], &[]);
}
