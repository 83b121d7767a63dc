//! What Kubernetes says about policies, point by point: one test each, its name beginning with the point's number.
//!
//! S is selection and isolation, R rules and peers, P ports, L life cycle, N nodes, self and services, C the cluster
//! tiers (in policy_tiers.rs), T the traps that others fell into. The points are those of the API's field comments and documentation; the
//! tests say them in their names.

#[path = "policy/asked.rs"]
mod asked;

use asked::{Asked, DENY_INGRESS, on_a, on_x, policy};

/// Every point, so that none is forgotten.
const POINTS: [(char, u32); 6] = [('s', 7), ('r', 11), ('p', 7), ('l', 6), ('n', 6), ('c', 13)];

/// Traps that others fell into, with the points that are about them.
const TRAPS: [(&str, &str); 20] = [
    ("NotIn where the key is absent", "r6"),
    ("ports: [{}] is TCP only", "p1"),
    ("an empty list against a list of one empty item", "s7"),
    ("egress by default where there are egress rules", "s2"),
    ("namespaceSelector: {} is no external address", "r4"),
    ("except is the peer's own", "r8"),
    ("a named port is each destination's own", "p5"),
    ("a protocol alone", "p2"),
    ("drop or reject", "c12"),
    ("the virtual address of a service", "r10"),
    ("the own node", "n1"),
    ("neighbour discovery", "t1"),
    ("path MTU discovery", "t2"),
    ("a v4 rule closes v6", "r11"),
    ("addresses of pods that ended", "l4"),
    ("host bits in a block", "t3"),
    ("a port that is a string of digits", "t4"),
    ("matchLabels: null", "s1"),
    ("an example whose text and manifest differ: the manifest counts", "n6"),
    ("from and to are one", "n4"),
];

/// Points that only packets can show: the test that does.
const ELSEWHERE: [(&str, &str, &str); 3] = [
    ("l1", "packet_path.rs", "fn replies_to_what_was_allowed_come_in_under_ingress_none("),
    ("t1", "packet_path.rs", "fn neighbour_discovery_works_with_an_empty_cache_and_everything_else_closed("),
    ("t2", "packet_path.rs", "fn path_mtu_discovery_works_under_ingress_none("),
];

#[test]
fn every_point_and_every_trap_has_a_test() {
    let own = [include_str!("policy_checklist.rs"), include_str!("policy_tiers.rs")].concat();
    let points = POINTS.iter().flat_map(|(letter, last)| (1..=*last).map(move |number| format!("{letter}{number}")));
    for id in points.chain(TRAPS.iter().map(|(_, id)| (*id).to_owned())) {
        let here = own.contains(&format!("\nfn {id}_"));
        let there = ELSEWHERE.iter().find(|(known, ..)| *known == id).is_some_and(|(_, file, name)| {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(file);
            std::fs::read_to_string(path).expect("a test file").contains(name)
        });
        assert!(here || there, "{id} has no test");
    }
}

// --- Selection and isolation ---

#[test]
fn s1_a_policy_selects_pods_of_its_own_namespace_and_an_empty_or_missing_selector_all_of_them() {
    on_a("ingress: []").expect(&["x/b -> y/a TCP 80", "x/b -> x/c TCP 80"], &["x/b -> x/a TCP 80"]);
    for spec in ["{podSelector: {}}", "{}", "{podSelector: {matchLabels: null}}", "{podSelector: null}"] {
        Asked::of(&[policy("x", "p", spec)])
            .expect(&["x/b -> y/a TCP 80"], &["y/a -> x/a TCP 80", "y/a -> x/c TCP 80"]);
    }
}

#[test]
fn s2_without_policy_types_ingress_counts_always_and_egress_when_it_has_rules() {
    for spec in ["egress: []", "policyTypes: [], egress: []", "policyTypes: null"] {
        assert_eq!(on_a(spec).halves("x/a -> x/b TCP 80"), (true, true), "{spec}");
        assert_eq!(on_a(spec).halves("x/b -> x/a TCP 80"), (true, false), "{spec}");
    }
    let with_rules = on_a("egress: [{ports: [{port: 1}]}]");
    assert_eq!(with_rules.halves("x/a -> x/b TCP 80"), (false, true));
    assert_eq!(with_rules.halves("x/b -> x/a TCP 80"), (true, false));
}

#[test]
fn s3_with_policy_types_only_those_directions_count_whatever_else_is_written() {
    on_a("policyTypes: [Ingress], egress: [{ports: [{port: 1}]}]")
        .expect(&["x/a -> x/b TCP 80"], &["x/b -> x/a TCP 80"]);
    on_a("policyTypes: [Egress], ingress: [{ports: [{port: 1}]}]")
        .expect(&["x/b -> x/a TCP 80"], &["x/a -> x/b TCP 80"]);
}

#[test]
fn s4_isolation_is_for_each_direction_and_a_pod_that_is_not_isolated_is_open() {
    let asked = on_a("policyTypes: [Egress]");
    assert_eq!(asked.halves("x/a -> x/b TCP 80"), (false, true));
    asked.expect(&["x/b -> x/a TCP 80", "8.8.8.8 -> x/a TCP 80", "x/c -> y/a SCTP 7"], &["x/a -> 8.8.8.8 UDP 53"]);
    assert!(asked.why("x/b -> x/c TCP 80").contains("no policy isolates it"));
}

#[test]
fn s5_what_is_allowed_is_the_union_of_all_policies() {
    Asked::of(&[
        policy("x", "deny", "{podSelector: {}}"),
        policy("x", "one", "{podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{port: 80}]}]}"),
        policy("x", "two", "{podSelector: {matchLabels: {tier: front}}, ingress: [{ports: [{port: 81}]}]}"),
    ])
    .expect(&["x/b -> x/a TCP 80", "x/b -> x/a TCP 81"], &["x/b -> x/a TCP 82", "x/a -> x/b TCP 80"]);
}

#[test]
fn s6_a_connection_needs_the_egress_of_its_source_and_the_ingress_of_its_destination() {
    let asked = Asked::of(&[
        policy("x", "in", "{podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{port: 80}, {port: 81}]}]}"),
        policy(
            "x",
            "out",
            "{podSelector: {matchLabels: {pod: b}}, policyTypes: [Egress], egress: [{ports: [{port: 81}, {port: 82}]}]}",
        ),
    ]);
    let halves: Vec<_> = (80..84).map(|port| asked.halves(&format!("x/b -> x/a TCP {port}"))).collect();
    assert_eq!(halves, [(false, true), (true, true), (true, false), (false, false)]);
    asked.expect(&["x/b -> x/a TCP 81"], &["x/b -> x/a TCP 80", "x/b -> x/a TCP 82", "x/b -> x/a TCP 83"]);
}

#[test]
fn s7_no_rules_allow_nothing_and_an_empty_rule_everything() {
    for spec in ["ingress: []", "ingress: null", "policyTypes: [Ingress]"] {
        on_a(spec).expect(&[], &["x/b -> x/a TCP 80", "8.8.8.8 -> x/a UDP 53", "x/b -> x/a ICMP"]);
    }
    on_a("ingress: [{}]").expect(&["x/b -> x/a TCP 80", "8.8.8.8 -> x/a UDP 53", "x/b -> x/a ICMP"], &[]);
}

// --- Rules and peers ---

#[test]
fn r1_a_rule_needs_its_ports_and_its_peers_and_each_list_is_an_or() {
    on_a("ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}, {podSelector: {matchLabels: {pod: c}}}], ports: [{port: 80}, {port: 81}]}, {ports: [{port: 90}]}]").expect(
        &["x/b -> x/a TCP 80", "x/b -> x/a TCP 81", "x/c -> x/a TCP 81", "y/a -> x/a TCP 90"],
        &["x/b -> x/a TCP 82", "y/b -> x/a TCP 80"],
    );
}

#[test]
fn r2_missing_or_empty_peers_are_anyone_and_missing_or_empty_ports_are_everything() {
    for rule in ["{ports: [{port: 80}]}", "{from: [], ports: [{port: 80}]}", "{from: null, ports: [{port: 80}]}"] {
        on_a(&format!("ingress: [{rule}]")).expect(
            &["y/a -> x/a TCP 80", "8.8.8.8 -> x/a TCP 80", "2001:4860::1 -> x/a TCP 80", "x/host2 -> x/a TCP 80"],
            &["y/a -> x/a TCP 81"],
        );
    }
    for rule in ["{from: [{namespaceSelector: {}}]}", "{from: [{namespaceSelector: {}}], ports: []}"] {
        on_a(&format!("ingress: [{rule}]")).expect(
            &["y/a -> x/a TCP 80", "y/a -> x/a UDP 1", "y/a -> x/a SCTP 65535", "y/a -> x/a ICMP"],
            &["8.8.8.8 -> x/a TCP 80"],
        );
    }
}

#[test]
fn r3_pod_and_namespace_selectors_in_one_item_are_and_in_two_items_or() {
    on_a("ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]")
        .expect(&["x/b -> x/a TCP 80"], &["y/b -> x/a TCP 80", "x/c -> x/a TCP 80"]);
    on_a("ingress: [{from: [{namespaceSelector: {matchLabels: {team: y}}}]}]")
        .expect(&["y/a -> x/a TCP 80", "y/b -> x/a TCP 80"], &["x/b -> x/a TCP 80"]);
    on_a("ingress: [{from: [{namespaceSelector: {matchLabels: {team: y}}, podSelector: {matchLabels: {pod: b}}}]}]")
        .expect(&["y/b -> x/a TCP 80"], &["y/a -> x/a TCP 80", "x/b -> x/a TCP 80"]);
    on_a("ingress: [{from: [{namespaceSelector: {matchLabels: {team: y}}}, {podSelector: {matchLabels: {pod: b}}}]}]")
        .expect(&["y/b -> x/a TCP 80", "y/a -> x/a TCP 80", "x/b -> x/a TCP 80"], &["x/c -> x/a TCP 80"]);
}

#[test]
fn r4_empty_selectors_select_all_pods_and_nothing_that_is_no_pod() {
    on_a("ingress: [{from: [{podSelector: {}}]}]").expect(
        &["x/b -> x/a TCP 80", "x/new -> x/a TCP 80"],
        &["y/b -> x/a TCP 80", "8.8.8.8 -> x/a TCP 80", "x/host2 -> x/a TCP 80"],
    );
    on_a("ingress: [{from: [{namespaceSelector: {}}]}]").expect(
        &["x/b -> x/a TCP 80", "y/b -> x/a TCP 80", "z/a -> x/a TCP 80"],
        &["8.8.8.8 -> x/a TCP 80", "10.0.0.2 -> x/a TCP 80", "x/host2 -> x/a TCP 80"],
    );
}

#[test]
fn r5_a_missing_pod_selector_is_every_pod_there_and_a_missing_namespace_selector_the_own_namespace() {
    on_a("ingress: [{from: [{namespaceSelector: {matchLabels: {team: y}}, podSelector: null}]}]")
        .expect(&["y/a -> x/a TCP 80", "y/b -> x/a TCP 80"], &["x/b -> x/a TCP 80"]);
    on_a("ingress: [{from: [{podSelector: {}, namespaceSelector: null}]}]")
        .expect(&["x/b -> x/a TCP 80"], &["y/b -> x/a TCP 80"]);
}

#[test]
fn r6_labels_and_expressions_are_and_and_not_in_holds_where_the_key_is_absent() {
    let from = |selector: &str| on_a(&format!("ingress: [{{from: [{{podSelector: {selector}}}]}}]"));
    from("{matchExpressions: [{key: tier, operator: NotIn, values: [front]}]}").expect(&["x/b -> x/a TCP 80"], &[]);
    from("{matchExpressions: [{key: pod, operator: NotIn, values: [b]}]}")
        .expect(&["x/c -> x/a TCP 80"], &["x/b -> x/a TCP 80"]);
    from("{matchExpressions: [{key: pod, operator: In, values: [b, d]}]}")
        .expect(&["x/b -> x/a TCP 80"], &["x/c -> x/a TCP 80"]);
    from("{matchExpressions: [{key: tier, operator: In, values: [front]}]}").expect(&[], &["x/b -> x/a TCP 80"]);
    from("{matchExpressions: [{key: tier, operator: Exists}]}").expect(&[], &["x/b -> x/a TCP 80"]);
    from("{matchExpressions: [{key: tier, operator: DoesNotExist}]}").expect(&["x/b -> x/a TCP 80"], &[]);
    from("{matchLabels: {pod: b}, matchExpressions: [{key: tier, operator: Exists}]}")
        .expect(&[], &["x/b -> x/a TCP 80", "x/c -> x/a TCP 80"]);
}

#[test]
fn r7_a_namespace_has_its_name_as_a_label_even_without_an_object() {
    let asked = on_a("ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: z}}}]}]");
    asked.expect(&["z/a -> x/a TCP 80"], &["y/a -> x/a TCP 80"]);
    on_a("ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [y]}]}}]}]")
        .expect(&["y/a -> x/a TCP 80"], &["z/a -> x/a TCP 80", "x/b -> x/a TCP 80"]);
}

#[test]
fn r8_except_takes_from_its_own_peer_only() {
    on_a("ingress: [{from: [{ipBlock: {cidr: 8.8.0.0/16, except: [8.8.8.0/24]}}]}]")
        .expect(&["8.8.4.4 -> x/a TCP 80"], &["8.8.8.8 -> x/a TCP 80", "9.9.9.9 -> x/a TCP 80"]);
    on_a("ingress: [{from: [{ipBlock: {cidr: 8.8.0.0/16, except: [8.8.8.0/24]}}, {ipBlock: {cidr: 8.8.8.8/32}}]}]")
        .expect(&["8.8.4.4 -> x/a TCP 80", "8.8.8.8 -> x/a TCP 80"], &["8.8.8.9 -> x/a TCP 80"]);
}

#[test]
fn r9_a_block_matches_addresses_of_pods_too() {
    on_a("ingress: [{from: [{ipBlock: {cidr: 10.2.0.0/16}}]}]")
        .expect(&["y/b -> x/a TCP 80", "10.2.9.9 -> x/a TCP 80"], &["z/a -> x/a TCP 80"]);
}

#[test]
fn r10_a_block_sees_the_address_on_the_packet_a_service_is_seen_by_what_is_behind_it() {
    let out = |cidr: &str| on_a(&format!("policyTypes: [Egress], egress: [{{to: [{{ipBlock: {{cidr: {cidr}}}}}]}}]"));
    // 10.96.0.2:443 leads to 10.2.0.1:8443 and 10.1.0.2:8443.
    out("10.96.0.0/16").expect(&["x/a -> 10.96.0.9 TCP 443"], &["x/a -> 10.96.0.2 TCP 443"]);
    out("10.0.0.0/14").expect(&["x/a -> 10.96.0.2 TCP 443"], &["x/a -> 10.96.0.9 TCP 443"]);
}

#[test]
fn r11_a_block_is_of_one_family_and_a_selector_of_both() {
    let asked = on_a("ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]");
    asked.expect(&["8.8.8.8 -> x/a TCP 80"], &["2001:4860::1 -> x/a TCP 80", "fd00:1::2 -> x/a TCP 80"]);
    // Both have IPv4, so the flow may be; IPv6 may not, and that is told.
    asked.expect(&["x/b -> x/a TCP 80"], &[]);
    let why = asked.why("x/b -> x/a TCP 80");
    assert!(why.contains("that is IPv4, but IPv6 is not: ingress of x/a: denied"), "{why}");
    on_a("ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]")
        .expect(&["fd00:1::2 -> x/a TCP 80", "10.1.0.2 -> x/a TCP 80"], &["fd00:1::3 -> x/a TCP 80"]);
}

// --- Ports ---

#[test]
fn p1_an_empty_port_is_tcp_and_so_is_a_missing_protocol() {
    on_a("ingress: [{ports: [{}]}]")
        .expect(&["x/b -> x/a TCP 1", "x/b -> x/a TCP 65535"], &["x/b -> x/a UDP 1", "x/b -> x/a SCTP 1"]);
    on_a("ingress: [{ports: [{port: 80}]}]").expect(&["x/b -> x/a TCP 80"], &["x/b -> x/a UDP 80"]);
}

#[test]
fn p2_a_protocol_alone_is_all_its_ports() {
    on_a("ingress: [{ports: [{protocol: UDP}]}]")
        .expect(&["x/b -> x/a UDP 1", "x/b -> x/a UDP 65535"], &["x/b -> x/a TCP 1", "x/b -> x/a ICMP"]);
}

#[test]
fn p3_a_number_is_the_pods_port_never_the_services() {
    // 10.96.0.1:8000 leads to port 80 of x/a.
    let out = |port: u16| {
        Asked::of(&[policy(
            "x",
            "p",
            &format!(
                "{{podSelector: {{matchLabels: {{pod: b}}}}, policyTypes: [Egress], egress: [{{ports: [{{port: {port}}}]}}]}}"
            ),
        )])
    };
    out(80).expect(&["x/b -> 10.96.0.1 TCP 8000", "x/b -> x/a TCP 80"], &["x/b -> x/a TCP 8000"]);
    out(8000).expect(&["x/b -> x/a TCP 8000"], &["x/b -> 10.96.0.1 TCP 8000"]);
}

#[test]
fn p4_end_port_belongs_to_the_range_and_may_equal_port() {
    on_a("ingress: [{ports: [{port: 80, endPort: 82}, {port: 82, endPort: 84}, {port: 90, endPort: 90}]}]").expect(
        &["x/b -> x/a TCP 80", "x/b -> x/a TCP 82", "x/b -> x/a TCP 84", "x/b -> x/a TCP 90"],
        &["x/b -> x/a TCP 79", "x/b -> x/a TCP 85", "x/b -> x/a TCP 91", "x/b -> x/a UDP 81"],
    );
}

#[test]
fn p5_a_port_name_is_the_number_that_the_destination_pod_gives_it() {
    on_a("ingress: [{ports: [{port: http}, {port: dns, protocol: UDP}]}]").expect(
        &["x/b -> x/a TCP 80", "x/b -> x/a UDP 53", "8.8.8.8 -> x/a TCP 80"],
        &["x/b -> x/a TCP 8080", "x/b -> x/a TCP 53", "x/b -> x/a UDP 80"],
    );
    Asked::of(&[policy(
        "x",
        "p",
        "{podSelector: {matchLabels: {pod: c}}, policyTypes: [Egress], egress: [{ports: [{port: http}]}]}",
    )])
    .expect(
        &["x/c -> x/a TCP 80", "x/c -> x/b TCP 8080", "x/c -> y/a TCP 80"],
        // Nobody's name, no pod at all, and a pod that is not one to policies.
        &["x/c -> x/a TCP 8080", "x/c -> y/b TCP 80", "x/c -> 8.8.8.8 TCP 80", "x/c -> x/host1 TCP 80"],
    );
    on_a("ingress: [{ports: [{port: nobody}]}]").expect(&[], &["x/b -> x/a TCP 80", "x/b -> x/a ICMP"]);
    on_a("policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 8.0.0.0/8}}], ports: [{port: http}]}]")
        .expect(&[], &["x/a -> 8.8.8.8 TCP 80"]);
}

#[test]
fn p6_sctp_opens_neither_tcp_nor_udp_and_isolates_all_the_same() {
    on_a("ingress: [{ports: [{protocol: SCTP, port: 80}]}]")
        .expect(&["x/b -> x/a SCTP 80"], &["x/b -> x/a TCP 80", "x/b -> x/a UDP 80", "x/b -> x/a SCTP 81"]);
    on_a("ingress: [{ports: [{protocol: UDP, port: 80}]}]")
        .expect(&["x/b -> x/a UDP 80"], &["x/b -> x/a TCP 80", "x/b -> x/a SCTP 80"]);
}

#[test]
fn p7_icmp_goes_with_rules_that_have_no_ports_and_with_no_others() {
    on_a("ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}, {ports: [{port: 80}]}]")
        .expect(&["x/b -> x/a ICMP"], &["x/c -> x/a ICMP"]);
    on_a("ingress: [{ports: [{protocol: TCP}, {protocol: UDP}, {protocol: SCTP}]}]")
        .expect(&["x/c -> x/a TCP 1"], &["x/c -> x/a ICMP"]);
}

// --- Life cycle ---

#[test]
fn l2_a_new_connection_is_judged_by_the_labels_of_now() {
    let spec = "{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]}";
    let flow = "x/b -> x/a TCP 80";
    Asked::of(&[policy("x", "p", spec)]).expect(&[flow], &[]);
    Asked::of(&[policy("x", "p", &spec.replace("pod: b", "pod: bb"))]).expect(&[], &[flow]);
}

#[test]
fn l3_without_its_last_policy_a_pod_is_open() {
    on_a("ingress: []").expect(&[], &["x/b -> x/a TCP 80"]);
    Asked::of(&[]).expect(&["x/b -> x/a TCP 80", "8.8.8.8 -> x/a SCTP 9"], &[]);
}

#[test]
fn l4_a_pod_that_has_ended_is_nobodys_peer() {
    // 10.1.0.9 was x/done, with the labels of x/a.
    Asked::of(&[policy("x", "p", "{podSelector: {matchLabels: {pod: b}}, ingress: [{from: [{podSelector: {}}]}]}")])
        .expect(&["x/a -> x/b TCP 80"], &["10.1.0.9 -> x/b TCP 80"]);
}

#[test]
fn l5_every_container_that_stays_is_of_the_pod_its_named_ports_too() {
    on_a("ingress: [{ports: [{port: metrics}, {port: setup}]}]")
        .expect(&["x/b -> x/a TCP 9100"], &["x/b -> x/a TCP 9200"]);
}

#[test]
fn l6_a_pod_on_the_hosts_network_is_selected_by_nobody_and_is_its_nodes_address() {
    let all = Asked::of(&[policy("x", "p", "{podSelector: {}, policyTypes: [Ingress, Egress]}")]);
    assert_eq!(all.halves("y/b -> x/host1 TCP 80"), (true, true));
    assert_eq!(all.halves("x/host1 -> y/b TCP 80"), (true, true));
    on_a("ingress: [{from: [{podSelector: {}}, {ipBlock: {cidr: 10.0.0.2/32}}]}]")
        .expect(&["x/host2 -> x/a TCP 80", "10.0.0.2 -> x/a TCP 80"], &[]);
    on_a("policyTypes: [Egress], egress: [{to: [{podSelector: {}}]}]")
        .expect(&["x/a -> x/b TCP 80"], &["x/a -> x/host2 TCP 80", "x/a -> x/host1 TCP 80"]);
}

// --- Nodes, self, services ---

#[test]
fn n1_what_comes_from_the_pods_own_node_is_let_in_by_network_policies_and_by_them_alone() {
    on_a("ingress: []").expect(
        &["10.0.0.1 -> x/a TCP 80", "fd00::1 -> x/a UDP 9", "x/host1 -> x/a TCP 80", "10.0.0.1 -> x/a ICMP"],
        &["10.0.0.2 -> x/a TCP 80", "x/host2 -> x/a TCP 80", "x/b -> x/a TCP 80"],
    );
    // Who has no node has no own node.
    Asked::of(&[policy("z", "p", "{podSelector: {}}")]).expect(&[], &["10.0.0.1 -> z/a TCP 80"]);
    for tier in ["Admin", "Baseline"] {
        // Only networks name what is no pod, and only for egress: nothing in these tiers names a node's ingress.
        let asked = Asked::of(&[on_x("d", tier, 1, DENY_INGRESS), policy("x", "p", "{podSelector: {}}")]);
        asked.expect(&["10.0.0.1 -> x/a TCP 80"], &["x/b -> x/a TCP 80"]);
    }
}

#[test]
fn n2_egress_to_the_own_node_is_filtered() {
    on_a("policyTypes: [Egress]").expect(&[], &["x/a -> 10.0.0.1 TCP 10250", "x/a -> x/host1 TCP 80"]);
}

#[test]
fn n3_what_carries_the_nodes_address_is_the_nodes() {
    let asked = on_a("ingress: []");
    assert!(asked.why("10.0.0.1 -> x/a TCP 30080").contains("comes from the pod's own node"));
    asked.expect(&[], &["10.0.0.2 -> x/a TCP 30080"]);
}

#[test]
fn n4_a_pod_always_reaches_itself() {
    let asked = Asked::of(&[
        policy("x", "p", "{podSelector: {}, policyTypes: [Ingress, Egress]}"),
        on_x(
            "d",
            "Admin",
            0,
            "ingress: [{action: Deny, from: [{namespaces: {}}]}], egress: [{action: Deny, to: [{namespaces: {}}]}]",
        ),
    ]);
    for flow in ["x/a -> x/a TCP 80", "10.1.0.1 -> x/a UDP 1", "x/a -> fd00:1::1 TCP 80", "x/a -> x/a ICMP"] {
        assert_eq!(asked.halves(flow), (true, true), "{flow}");
    }
    assert_eq!(asked.halves("x/new -> x/new TCP 80"), (true, true));
    asked.expect(&[], &["x/a -> x/b TCP 80"]);
}

#[test]
fn n5_a_pod_that_reaches_itself_by_a_service_is_judged_like_any_other() {
    // x/b is behind 10.96.0.2:443.
    let asked = Asked::of(&[policy(
        "x",
        "p",
        "{podSelector: {matchLabels: {pod: b}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {team: y}}}]}]}",
    )]);
    asked.expect(&["x/b -> x/b TCP 8443"], &["x/b -> 10.96.0.2 TCP 443"]);
}

#[test]
fn n6_dns_is_not_special() {
    on_a("policyTypes: [Egress], egress: [{ports: [{port: 443}]}]")
        .expect(&["x/a -> 8.8.8.8 TCP 443"], &["x/a -> 8.8.8.8 UDP 53", "x/a -> y/a TCP 53"]);
}

// --- Traps that no point above is about ---

#[test]
fn t3_host_bits_in_a_block_are_masked_off() {
    on_a("ingress: [{from: [{ipBlock: {cidr: 10.2.3.4/16}}]}]")
        .expect(&["y/b -> x/a TCP 80", "10.2.255.255 -> x/a TCP 80"], &["10.3.0.1 -> x/a TCP 80"]);
}

#[test]
fn t4_a_port_that_is_a_string_of_digits_is_refused() {
    let mut collector = netlatch::policy::parse::Collector::new();
    collector.read("p.yaml", policy("x", "p", "{ingress: [{ports: [{port: '8080'}]}]}").as_bytes());
    let errors = collector.finish().errors;
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].at, "spec.ingress[0].ports[0].port");
}
