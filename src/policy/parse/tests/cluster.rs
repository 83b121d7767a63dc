use super::*;
use crate::net::{PortRange, Transport};
use crate::policy::model::{Action, Peer, Port, Selector, Subject, Tier, Who};

#[test]
fn a_cluster_policy_is_read_with_every_kind_of_peer_and_port() {
    let text = cnp(
        "ingress: [{name: first, action: Deny, from: [{namespaces: {}}, {pods: {namespaceSelector: {}, podSelector: {matchLabels: {a: b}}}}], protocols: [{tcp: {destinationPort: {number: 80}}}, {udp: {destinationPort: {range: {start: 1, end: 2}}}}, {sctp: {destinationPort: {number: 9}}}, {destinationNamedPort: http}]}], egress: [{action: Accept, to: [{networks: [10.0.0.7/8, '::/0']}, {nodes: {}}, {domainNames: ['*.example.org']}]}, {action: Pass, to: [{namespaces: {}}]}]",
    );
    let policy = good(&text).policies.cluster.remove(0);
    assert_eq!(
        (policy.kind, policy.name.as_str(), policy.tier, policy.priority),
        ("ClusterNetworkPolicy", "c", Tier::Admin, 5)
    );
    assert_eq!(policy.subject, Subject::Namespaces(Selector::default()));
    let rule = &policy.ingress[0];
    assert_eq!((rule.name.as_deref(), rule.action), (Some("first"), Action::Deny));
    let number = |transport, first, last| Port::Number { transport, ports: PortRange::new(first, last).unwrap() };
    assert_eq!(
        rule.ports,
        [
            number(Transport::Tcp, 80, 80),
            number(Transport::Udp, 1, 2),
            number(Transport::Sctp, 9, 9),
            Port::Named { transport: None, name: "http".into() }
        ]
    );
    let peers: Vec<_> = policy.egress[0].peers.iter().map(|Peer { who, origin }| (who, origin.to_string())).collect();
    let block = |text: &str| Who::Block { cidr: text.parse().unwrap(), except: vec![] };
    assert_eq!(peers[0], (&block("10.0.0.0/8"), "f:4 spec.egress[0].to[0].networks[0]".into()));
    assert_eq!(peers[1], (&block("::/0"), "f:4 spec.egress[0].to[0].networks[1]".into()));
    assert_eq!(peers[2], (&Who::Nodes(Selector::default()), "f:4 spec.egress[0].to[1]".into()));
    assert_eq!(peers[3].0, &Who::DomainNames(vec!["*.example.org".into()]));
    assert_eq!(policy.egress[1].action, Action::Pass);
}

#[test]
fn cluster_policies_are_asked_by_tier_priority_and_name() {
    let make = |name: &str, tier: &str, priority: u16| {
        format!(
            "---\napiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: {name}}}\nspec: {{tier: {tier}, priority: {priority}, {SUBJECT}}}\n"
        )
    };
    let text = [
        make("d", "Baseline", 0),
        make("c", "Admin", 1000),
        make("b", "Admin", 7),
        make("a", "Admin", 7),
        "---\n".into(),
        anp("AdminNetworkPolicy", "z", &format!("{{priority: 0, {SUBJECT}}}")),
    ]
    .concat();
    let names: Vec<_> = good(&text).policies.cluster.into_iter().map(|policy| policy.name).collect();
    assert_eq!(names, ["z", "a", "b", "c", "d"]);
    let warnings = warned(&text);
    assert!(
        warnings.len() == 1
            && warnings[0].starts_with("f:12:1: spec.priority: a has the priority 7 in tier Admin as well (f:17)"),
        "{warnings:?}"
    );
}

#[test]
fn what_the_crd_of_cluster_network_policies_rejects_is_rejected() {
    let many = |item: &str, count: usize| vec![item; count].join(", ");
    let networks: Vec<String> = (0..26).map(|n| format!("10.{n}.0.0/16")).collect();
    let cases: Vec<(String, &str)> = [
        ("ingress: [{action: Allow, from: [{namespaces: {}}]}]", "spec.ingress[0].action: expected one of Accept, Deny, Pass"),
        ("ingress: [{from: [{namespaces: {}}]}]", "spec.ingress[0].action: the field is missing"),
        ("ingress: [{action: Deny}]", "spec.ingress[0].from: the field is missing"),
        ("ingress: [{action: Deny, from: []}]", "spec.ingress[0].from: expected 1 to 25 entries, found 0"),
        ("ingress: [{action: Deny, from: [{}]}]", "spec.ingress[0].from[0]: expected exactly one of namespaces, pods, found none"),
        ("ingress: [{action: Deny, from: [null]}]", "spec.ingress[0].from[0]: expected an object"),
        ("ingress: [{action: Deny, from: [{namespaces: {}, pods: {namespaceSelector: {}, podSelector: {}}}]}]", "spec.ingress[0].from[0]: expected exactly one of namespaces, pods, found several"),
        ("ingress: [{action: Deny, from: [{pods: {podSelector: {}}}]}]", "spec.ingress[0].from[0].pods.namespaceSelector: the field is missing"),
        ("ingress: [{action: Deny, from: [{pods: {namespaceSelector: {}}}]}]", "spec.ingress[0].from[0].pods.podSelector: the field is missing"),
        ("ingress: [{action: Deny, from: [{namespaces: {matchLabels: {a: b-}}}]}]", "spec.ingress[0].from[0].namespaces.matchLabels.a: a label's value"),
        ("egress: [{action: Deny, to: [{networks: []}]}]", "spec.egress[0].to[0].networks: expected 1 to 25 entries"),
        ("egress: [{action: Deny, to: [{networks: [10.0.0.1]}]}]", "spec.egress[0].to[0].networks[0]: \"10.0.0.1\" is no CIDR"),
        ("egress: [{action: Deny, to: [{networks: [010.0.0.0/8]}]}]", "spec.egress[0].to[0].networks[0]: \"010.0.0.0/8\" is no CIDR"),
        ("egress: [{action: Deny, to: [{networks: [10.0.0.0/08]}]}]", "spec.egress[0].to[0].networks[0]: \"10.0.0.0/08\" is no CIDR"),
        ("egress: [{action: Deny, to: [{networks: ['::ffff:10.0.0.0/104']}]}]", "spec.egress[0].to[0].networks[0]: \"::ffff:10.0.0.0/104\" is no CIDR"),
        ("egress: [{action: Deny, to: [{networks: [10.0.0.0/8, 10.0.0.0/8]}]}]", "spec.egress[0].to[0].networks[1]: stands twice"),
        ("egress: [{action: Deny, to: [{domainNames: [example.org]}]}]", "spec.egress[0].to[0].domainNames: domain names can only be accepted"),
        ("egress: [{action: Accept, to: [{domainNames: [localhost]}]}]", "spec.egress[0].to[0].domainNames[0]: \"localhost\" is no domain name"),
        ("egress: [{action: Accept, to: [{domainNames: [a.b, a.b]}]}]", "spec.egress[0].to[0].domainNames[1]: stands twice"),
        ("egress: [{action: Accept, to: [{networks: [10.0.0.0/8]}], protocols: [{destinationNamedPort: http}]}]", "spec.egress[0].protocols[0]: a port's name cannot stand beside"),
        ("egress: [{action: Accept, to: [{namespaces: {}}, {nodes: {}}], protocols: [{destinationNamedPort: http}]}]", "spec.egress[0].protocols[0]: a port's name cannot stand beside"),
        ("egress: [{action: Accept, to: [{domainNames: [a.b]}], protocols: [{destinationNamedPort: http}]}]", "spec.egress[0].protocols[0]: a port's name cannot stand beside"),
        ("egress: [{action: Deny, to: [{namespaces: {}}], protocols: []}]", "spec.egress[0].protocols: expected 1 to 25 entries"),
        ("egress: [{action: Deny, to: [{namespaces: {}}], protocols: [{}]}]", "spec.egress[0].protocols[0]: expected exactly one of tcp"),
        ("egress: [{action: Deny, to: [{namespaces: {}}], protocols: [{tcp: {}}]}]", "spec.egress[0].protocols[0].tcp.destinationPort: the field is missing"),
        ("egress: [{action: Deny, to: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {}}}]}]", "spec.egress[0].protocols[0].tcp.destinationPort: expected exactly one of number, range"),
        ("egress: [{action: Deny, to: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: 0}}}]}]", "spec.egress[0].protocols[0].tcp.destinationPort.number: expected a whole"),
        ("egress: [{action: Deny, to: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: http}}}]}]", "spec.egress[0].protocols[0].tcp.destinationPort.number: expected a whole"),
        ("egress: [{action: Deny, to: [{namespaces: {}}], protocols: [{udp: {destinationPort: {range: {start: 5, end: 5}}}}]}]", "spec.egress[0].protocols[0].udp.destinationPort.range: start, 5, must be below end, 5"),
        ("egress: [{action: Deny, to: [{namespaces: {}}], protocols: [{udp: {destinationPort: {range: {start: 5}}}}]}]", "spec.egress[0].protocols[0].udp.destinationPort.range.end: the field is missing"),
        ("egress: [{action: Deny, to: [{namespaces: {}}], protocols: [{destinationNamedPort: ''}]}]", "spec.egress[0].protocols[0].destinationNamedPort: is empty"),
        ("egress: [{action: Deny, to: [{namespaces: {}}], ports: []}]", "spec.egress[0]: unknown field \"ports\""),
        ("ingress: {}", "spec.ingress: expected a list"),
        ("podSelector: {}", "spec: unknown field \"podSelector\""),
    ]
    .into_iter()
    .map(|(spec, wanted)| (spec.to_owned(), wanted))
    .chain([
        (format!("ingress: [{}]", many("{action: Deny, from: [{namespaces: {}}]}", 26)), "spec.ingress: expected 0 to 25 entries, found 26"),
        (format!("ingress: [{{action: Deny, from: [{}]}}]", many("{namespaces: {}}", 26)), "spec.ingress[0].from: expected 1 to 25 entries, found 26"),
        (format!("egress: [{{action: Deny, to: [{{networks: [{}]}}]}}]", networks.join(", ")), "spec.egress[0].to[0].networks: expected 1 to 25 entries, found 26"),
        (format!("ingress: [{{name: {}, action: Deny, from: [{{namespaces: {{}}}}]}}]", "é".repeat(101)), "spec.ingress[0].name: is longer than 100 characters"),
        (format!("egress: [{{action: Deny, to: [{{networks: ['{}']}}]}}]", "0000:0000:0000:0000:0000:0000:255.255.255.255/1"), "spec.egress[0].to[0].networks[0]: "),
    ])
    .collect();
    let cases: Vec<(&str, &str)> = cases.iter().map(|(spec, wanted)| (spec.as_str(), *wanted)).collect();
    refuses(cnp, &cases);
    good(&cnp(&format!("ingress: [{}]", many("{action: Deny, from: [{namespaces: {}}]}", 25))));
    // Networks, nodes and names are for egress. A peer that nobody knows has no known field either (C8).
    for peer in ["networks: [10.0.0.0/8]", "nodes: {}", "domainNames: [a.b]", "serviceAccounts: {}"] {
        let found = bad(&cnp(&format!("ingress: [{{action: Accept, from: [{{{peer}}}]}}]")));
        assert!(found.len() == 2 && found.iter().any(|found| found.contains("unknown field")), "{found:?}");
    }
}

#[test]
fn subject_tier_and_priority_are_required() {
    let make: fn(&str) -> String = |spec| {
        format!(
            "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: c}}\nspec: {spec}\n"
        )
    };
    refuses(
        make,
        &[
            ("{priority: 1, subject: {namespaces: {}}}", "spec.tier: the field is missing"),
            ("{tier: admin, priority: 1, subject: {namespaces: {}}}", "spec.tier: expected one of Admin, Baseline"),
            ("{tier: Admin, subject: {namespaces: {}}}", "spec.priority: the field is missing"),
            (
                "{tier: Admin, priority: 1001, subject: {namespaces: {}}}",
                "spec.priority: expected a whole number from 0 to 1000",
            ),
            ("{tier: Admin, priority: -1, subject: {namespaces: {}}}", "spec.priority: expected a whole number"),
            ("{tier: Admin, priority: '1', subject: {namespaces: {}}}", "spec.priority: expected a whole number"),
            ("{tier: Admin, priority: 1}", "spec.subject: the field is missing"),
            (
                "{tier: Admin, priority: 1, subject: {}}",
                "spec.subject: expected exactly one of namespaces, pods, found none",
            ),
            ("{tier: Admin, priority: 1, subject: {namespaces: }}", "spec.subject: expected exactly one of"),
            ("{tier: Admin, priority: 1, subject: {pods: {}}}", "spec.subject.pods.namespaceSelector: the field"),
        ]
        .map(|(spec, wanted)| (spec, wanted))[..9],
    );
    assert_eq!(bad(&make("{tier: Admin, priority: 1, subject: {pods: {}}}")).len(), 2);
    let found = one(
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c, namespace: x}\nspec: {tier: Admin, priority: 1, subject: {namespaces: {}}}\n",
    );
    assert_eq!(found, "3:32: metadata.namespace: ClusterNetworkPolicy is not in a namespace");
    assert_eq!(
        one("apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\n"),
        "1:1: spec: the field is missing"
    );
}

#[test]
fn admin_network_policies_have_their_own_words() {
    let rule = |action: &str, port: &str| {
        format!(
            "{{priority: 3, {SUBJECT}, ingress: [{{action: {action}, from: [{{namespaces: {{}}}}], ports: [{port}]}}]}}"
        )
    };
    let admin = |spec: &str| anp("AdminNetworkPolicy", "a", spec);
    let policy = good(&admin(&rule("Allow", "{portNumber: {port: 80}}, {portNumber: {port: 53, protocol: UDP}}, {portRange: {start: 5, end: 5, protocol: SCTP}}, {namedPort: http}")))
        .policies
        .cluster
        .remove(0);
    let number = |transport, first, last| Port::Number { transport, ports: PortRange::new(first, last).unwrap() };
    assert_eq!((policy.tier, policy.priority, policy.ingress[0].action), (Tier::Admin, 3, Action::Accept));
    assert_eq!(
        policy.ingress[0].ports,
        [
            number(Transport::Tcp, 80, 80),
            number(Transport::Udp, 53, 53),
            number(Transport::Sctp, 5, 5),
            Port::Named { transport: None, name: "http".into() }
        ]
    );
    for (action, port, wanted) in [
        ("Accept", "{portNumber: {port: 80}}", "spec.ingress[0].action: expected one of Allow, Deny, Pass"),
        (
            "Allow",
            "{portNumber: {port: 80, protocol: tcp}}",
            "spec.ingress[0].ports[0].portNumber.protocol: expected one of TCP",
        ),
        ("Allow", "{portNumber: 80}", "spec.ingress[0].ports[0].portNumber: expected an object"),
        (
            "Allow",
            "{portRange: {start: 6, end: 5}}",
            "spec.ingress[0].ports[0].portRange: start, 6, must be below end, 5",
        ),
        ("Allow", "{}", "spec.ingress[0].ports[0]: expected exactly one of portNumber"),
        ("Allow", "{tcp: {}, namedPort: a}", "spec.ingress[0].ports[0]: unknown field \"tcp\""),
    ] {
        let found = one(&admin(&rule(action, port)));
        assert!(found.split_once(' ').unwrap().1.starts_with(wanted), "{found}");
    }
    // v1alpha1 allows a hundred.
    let rules = |count| {
        format!("{{priority: 0, {SUBJECT}, egress: [{}]}}", vec!["{action: Pass, to: [{nodes: {}}]}"; count].join(","))
    };
    good(&admin(&rules(100)));
    assert!(one(&admin(&rules(101))).contains("spec.egress: expected 0 to 100 entries"));
    assert!(one(&admin(&format!("{{{SUBJECT}}}"))).contains("spec.priority: the field is missing"));
    assert!(one(&admin(&format!("{{priority: 1, tier: Admin, {SUBJECT}}}"))).contains("unknown field \"tier\""));
}

#[test]
fn there_is_one_baseline_admin_network_policy_and_it_cannot_pass() {
    let make = |name: &str, spec: &str| anp("BaselineAdminNetworkPolicy", name, &format!("{{{SUBJECT}, {spec}}}"));
    let policy =
        good(&make("default", "ingress: [{action: Allow, from: [{namespaces: {}}]}]")).policies.cluster.remove(0);
    assert_eq!((policy.tier, policy.priority, policy.kind), (Tier::Baseline, 0, "BaselineAdminNetworkPolicy"));
    for (text, wanted) in [
        (make("other", ""), "3:18: metadata.name: there is one BaselineAdminNetworkPolicy"),
        (make("default", "priority: 1"), "spec: unknown field \"priority\""),
        (
            make("default", "ingress: [{action: Pass, from: [{namespaces: {}}]}]"),
            "spec.ingress[0].action: expected one of Allow, Deny,",
        ),
    ] {
        assert!(one(&text).contains(wanted), "{}", one(&text));
    }
    let found = bad(&make("default", "egress: [{action: Allow, to: [{domainNames: [a.b]}]}]"));
    assert!(found.iter().any(|found| found.contains("unknown field \"domainNames\"")), "{found:?}");
}
