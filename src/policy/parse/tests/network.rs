use super::*;
use crate::net::{Origin, PortRange, Transport};
use crate::policy::model::{Action, Namespaces, Operator, Port, Rule, Selector, Who};
use crate::policy::parse::collect;

#[test]
fn an_empty_spec_denies_ingress_to_the_whole_namespace() {
    for spec in
        ["{}", "", "null", "{podSelector: , ingress: , egress: , policyTypes: }", "{podSelector: {matchLabels: null}}"]
    {
        let policy = policy(spec);
        assert_eq!((policy.namespace.as_str(), policy.name.as_str()), ("shop", "p"), "{spec}");
        assert_eq!(policy.pods, Selector::default(), "{spec}");
        assert_eq!((policy.ingress, policy.egress), (Some(vec![]), None), "{spec}");
    }
    let text = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\n";
    let policy = good(text).policies.network.remove(0);
    assert_eq!(policy.namespace, "default");
    assert_eq!(policy.origin, Origin::File { path: "f".into(), line: 1, at: String::new() });
}

#[test]
fn policy_types_default_by_the_number_of_egress_rules() {
    for (spec, ingress, egress) in [
        ("{egress: []}", true, false),
        ("{egress: [{}]}", true, true),
        ("{egress: [{}], policyTypes: []}", true, true),
        ("{policyTypes: [Egress]}", false, true),
        ("{policyTypes: [Ingress], egress: [{}]}", true, false),
        ("{policyTypes: [Egress, Egress], ingress: [{}]}", false, true),
        ("{policyTypes: [Egress, Ingress]}", true, true),
    ] {
        let policy = policy(spec);
        assert_eq!((policy.ingress.is_some(), policy.egress.is_some()), (ingress, egress), "{spec}");
    }
}

#[test]
fn rules_peers_and_ports_know_what_they_mean_and_where_they_stand() {
    let text = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: shop}
spec:
  podSelector:
    matchLabels: {app: web}
    matchExpressions:
    - {key: tier, operator: NotIn, values: [back, '']}
    - {key: x/y, operator: Exists}
    - {key: z, operator: DoesNotExist, values: []}
  ingress:
  - from:
    - podSelector: {}
    - namespaceSelector: {}
    - namespaceSelector: {matchLabels: {a: b}}
      podSelector: {matchLabels: {c: d}}
    - ipBlock:
        cidr: 10.0.0.5/24
        except: [10.0.0.64/26]
    ports:
    - {}
    - protocol: UDP
    - port: 80
    - {port: 8000, endPort: 8000, protocol: SCTP}
    - {port: 1, endPort: 65535}
    - {port: http, protocol: UDP}
";
    let policy = good(text).policies.network.remove(0);
    let asked: Vec<_> =
        policy.pods.requirements.iter().map(|r| (r.key.as_str(), r.operator, r.values.join("|"))).collect();
    assert_eq!(
        asked,
        [
            ("app", Operator::In, "web".to_owned()),
            ("tier", Operator::NotIn, "back|".into()),
            ("x/y", Operator::Exists, String::new()),
            ("z", Operator::DoesNotExist, String::new())
        ]
    );
    let rules = policy.ingress.unwrap();
    let Rule { action, peers, ports, name, origin } = &rules[0];
    assert_eq!((*action, name.as_ref()), (Action::Accept, None));
    assert_eq!(origin.to_string(), "f:12 spec.ingress[0]");
    let places: Vec<_> = peers.iter().map(|peer| peer.origin.to_string()).collect();
    assert_eq!(
        places,
        [
            "f:13 spec.ingress[0].from[0]",
            "f:14 spec.ingress[0].from[1]",
            "f:15 spec.ingress[0].from[2]",
            "f:17 spec.ingress[0].from[3]"
        ]
    );
    let own = || Namespaces::Own("shop".into());
    let label = |key: &str, value: &str| {
        let text = format!("{{podSelector: {{matchLabels: {{{key}: {value}}}}}}}");
        good(&np(&text)).policies.network.remove(0).pods
    };
    let who: Vec<&Who> = peers.iter().map(|peer| &peer.who).collect();
    let everywhere = Namespaces::Selected(Selector::default());
    assert_eq!(
        who,
        [
            &Who::Pods { namespaces: own(), pods: Selector::default() },
            &Who::Pods { namespaces: everywhere, pods: Selector::default() },
            &Who::Pods { namespaces: Namespaces::Selected(label("a", "b")), pods: label("c", "d") },
            &Who::Block { cidr: "10.0.0.0/24".parse().unwrap(), except: vec!["10.0.0.64/26".parse().unwrap()] },
        ]
    );
    let number = |transport, first, last| Port::Number { transport, ports: PortRange::new(first, last).unwrap() };
    assert_eq!(
        *ports,
        [
            number(Transport::Tcp, 0, 65535),
            number(Transport::Udp, 0, 65535),
            number(Transport::Tcp, 80, 80),
            number(Transport::Sctp, 8000, 8000),
            number(Transport::Tcp, 1, 65535),
            Port::Named { transport: Some(Transport::Udp), name: "http".into() },
        ]
    );
}

#[test]
fn an_empty_rule_allows_everybody_everything() {
    for spec in ["{ingress: [{}]}", "{ingress: [{from: [], ports: []}]}", "{ingress: [{from: , ports: null}]}"] {
        let rules = policy(spec).ingress.unwrap();
        assert!(rules.len() == 1 && rules[0].peers.is_empty() && rules[0].ports.is_empty(), "{spec}");
    }
}

#[test]
fn what_the_api_server_rejects_of_a_network_policy_is_rejected() {
    refuses(
        np,
        &[
            // Selectors.
            ("{podSelector: {matchLabels: {a b: c}}}", "spec.podSelector.matchLabels[\"a b\"]: a label's key"),
            ("{podSelector: {matchLabels: {A.b/c: d}}}", "spec.podSelector.matchLabels[\"A.b/c\"]: what stands before"),
            ("{podSelector: {matchLabels: {a: -b}}}", "spec.podSelector.matchLabels.a: a label's value"),
            (
                "{podSelector: {matchLabels: {a: 5}}}",
                "spec.podSelector.matchLabels.a: expected a string, found the integer 5",
            ),
            (
                "{podSelector: {matchLabels: {a: null}}}",
                "spec.podSelector.matchLabels.a: expected a string, found nothing",
            ),
            ("{podSelector: {matchLabels: [a]}}", "spec.podSelector.matchLabels: expected an object, found a list"),
            (
                "{podSelector: {matchLabel: {a: b}}}",
                "spec.podSelector: unknown field \"matchLabel\"; did you mean matchLabels?",
            ),
            ("{podSelector: []}", "spec.podSelector: expected an object"),
            (
                "{podSelector: {matchExpressions: [{key: a, operator: In}]}}",
                "spec.podSelector.matchExpressions[0].values: the field is missing",
            ),
            (
                "{podSelector: {matchExpressions: [{key: a, operator: NotIn, values: []}]}}",
                "spec.podSelector.matchExpressions[0].values: In and NotIn need",
            ),
            (
                "{podSelector: {matchExpressions: [{key: a, operator: In, values: x}]}}",
                "spec.podSelector.matchExpressions[0].values: expected a list",
            ),
            (
                "{podSelector: {matchExpressions: [{key: a, operator: Exists, values: [x]}]}}",
                "spec.podSelector.matchExpressions[0].values: Exists and DoesNotExist take no values",
            ),
            (
                "{podSelector: {matchExpressions: [{key: a, operator: DoesNotExist, values: [x]}]}}",
                "spec.podSelector.matchExpressions[0].values: Exists",
            ),
            (
                "{podSelector: {matchExpressions: [{key: a, operator: in, values: [x]}]}}",
                "spec.podSelector.matchExpressions[0].operator: expected one of In,",
            ),
            (
                "{podSelector: {matchExpressions: [{key: a, values: [x]}]}}",
                "spec.podSelector.matchExpressions[0].operator: the field is missing",
            ),
            (
                "{podSelector: {matchExpressions: [{operator: Exists}]}}",
                "spec.podSelector.matchExpressions[0].key: the field is missing",
            ),
            (
                "{podSelector: {matchExpressions: [{key: '', operator: Exists}]}}",
                "spec.podSelector.matchExpressions[0].key: a label's key",
            ),
            (
                "{podSelector: {matchExpressions: [{key: a, operator: In, values: ['b c']}]}}",
                "spec.podSelector.matchExpressions[0].values[0]: a label's value",
            ),
            (
                "{podSelector: {matchExpressions: [null]}}",
                "spec.podSelector.matchExpressions[0]: expected an object, found nothing",
            ),
            // Peers.
            ("{ingress: [{from: [{}]}]}", "spec.ingress[0].from[0]: names nobody"),
            ("{ingress: [{from: [null]}]}", "spec.ingress[0].from[0]: expected an object, found nothing"),
            ("{ingress: [{from: [{podSelector: null}]}]}", "spec.ingress[0].from[0]: names nobody"),
            ("{ingress: [{from: {}}]}", "spec.ingress[0].from: expected a list, found an object"),
            (
                "{egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]}",
                "spec.egress[0].to[0]: ipBlock stands alone",
            ),
            (
                "{egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}, namespaceSelector: {}}]}]}",
                "spec.egress[0].to[0]: ipBlock stands alone",
            ),
            ("{egress: [{to: [{ipBlock: {}}]}]}", "spec.egress[0].to[0].ipBlock.cidr: the field is missing"),
            ("{egress: [{to: [{ipBlock: {cidr: ''}}]}]}", "spec.egress[0].to[0].ipBlock.cidr: \"\" is no CIDR block"),
            (
                "{egress: [{to: [{ipBlock: {cidr: 10.0.0.1}}]}]}",
                "spec.egress[0].to[0].ipBlock.cidr: \"10.0.0.1\" is no CIDR",
            ),
            (
                "{egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/9]}}]}]}",
                "spec.egress[0].to[0].ipBlock.except[0]: must lie within",
            ),
            (
                "{egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]}]}",
                "spec.egress[0].to[0].ipBlock.except[0]: must lie within",
            ),
            (
                "{egress: [{to: [{ipBlock: {cidr: '::/0', except: [10.0.0.0/8]}}]}]}",
                "spec.egress[0].to[0].ipBlock.except[0]: must lie within",
            ),
            (
                "{egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [x]}}]}]}",
                "spec.egress[0].to[0].ipBlock.except[0]: \"x\" is no CIDR",
            ),
            (
                "{egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: 10.0.0.0/9}}]}]}",
                "spec.egress[0].to[0].ipBlock.except: expected a list",
            ),
            (
                "{egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, excpet: [10.0.0.0/9]}}]}]}",
                "spec.egress[0].to[0].ipBlock: unknown field \"excpet\"; did you mean except?",
            ),
            ("{egress: [{from: []}]}", "spec.egress[0]: unknown field \"from\""),
            ("{ingress: [{to: []}]}", "spec.ingress[0]: unknown field \"to\""),
            ("{ingress: [null]}", "spec.ingress[0]: expected an object, found nothing"),
            ("{ingress: {}}", "spec.ingress: expected a list, found an object"),
            ("{igress: []}", "spec: unknown field \"igress\"; did you mean ingress?"),
            ("[]", "spec: expected an object, found a list"),
            // Ports.
            ("{ingress: [{ports: {}}]}", "spec.ingress[0].ports: expected a list, found an object"),
            ("{ingress: [{ports: [null]}]}", "spec.ingress[0].ports[0]: expected an object, found nothing"),
            ("{ingress: [{ports: [80]}]}", "spec.ingress[0].ports[0]: expected an object, found the integer 80"),
            ("{ingress: [{port: [80]}]}", "spec.ingress[0]: unknown field \"port\"; did you mean ports?"),
            (
                "{ingress: [{ports: [{protocol: tcp}]}]}",
                "spec.ingress[0].ports[0].protocol: expected one of TCP, UDP, SCTP",
            ),
            (
                "{ingress: [{ports: [{protocol: ICMP}]}]}",
                "spec.ingress[0].ports[0].protocol: expected one of TCP, UDP, SCTP",
            ),
            ("{ingress: [{ports: [{protocol: ''}]}]}", "spec.ingress[0].ports[0].protocol: expected one of"),
            ("{ingress: [{ports: [{protocol: 6}]}]}", "spec.ingress[0].ports[0].protocol: expected a string"),
            ("{ingress: [{ports: [{port: 0}]}]}", "spec.ingress[0].ports[0].port: expected a whole number from 1"),
            ("{ingress: [{ports: [{port: -1}]}]}", "spec.ingress[0].ports[0].port: expected a whole number from 1"),
            ("{ingress: [{ports: [{port: 65536}]}]}", "spec.ingress[0].ports[0].port: expected a whole number from 1"),
            ("{ingress: [{ports: [{port: 80.0}]}]}", "spec.ingress[0].ports[0].port: expected a whole number"),
            ("{ingress: [{ports: [{port: 080}]}]}", "spec.ingress[0].ports[0].port: 080 is octal"),
            ("{ingress: [{ports: [{port: '80'}]}]}", "spec.ingress[0].ports[0].port: a port's name"),
            ("{ingress: [{ports: [{port: true}]}]}", "spec.ingress[0].ports[0].port: expected a whole number"),
            (
                "{ingress: [{ports: [{port: on}]}]}",
                "spec.ingress[0].ports[0].port: expected a string, and on is a boolean",
            ),
            ("{ingress: [{ports: [{port: HTTP}]}]}", "spec.ingress[0].ports[0].port: a port's name"),
            ("{ingress: [{ports: [{port: a--b}]}]}", "spec.ingress[0].ports[0].port: a port's name"),
            ("{ingress: [{ports: [{port: abcdefghijklmnop}]}]}", "spec.ingress[0].ports[0].port: a port's name"),
            ("{ingress: [{ports: [{endPort: 80}]}]}", "spec.ingress[0].ports[0].endPort: needs a port to begin with"),
            (
                "{ingress: [{ports: [{port: http, endPort: 80}]}]}",
                "spec.ingress[0].ports[0].endPort: needs a port that is a number",
            ),
            (
                "{ingress: [{ports: [{port: 80, endPort: 79}]}]}",
                "spec.ingress[0].ports[0].endPort: must not be below port, 80",
            ),
            (
                "{ingress: [{ports: [{port: 80, endPort: 65536}]}]}",
                "spec.ingress[0].ports[0].endPort: expected a whole number",
            ),
            (
                "{ingress: [{ports: [{port: 80, endport: 90}]}]}",
                "spec.ingress[0].ports[0]: unknown field \"endport\"; did you mean endPort?",
            ),
            // Types.
            (
                "{policyTypes: [ingress]}",
                "spec.policyTypes[0]: expected one of Egress, Ingress, found \"ingress\"; did you mean Ingress?",
            ),
            ("{policyTypes: [Ingress, Egress, Ingress]}", "spec.policyTypes: expected at most two"),
            ("{policyTypes: Ingress}", "spec.policyTypes: expected a list"),
            ("{policyTypes: [null]}", "spec.policyTypes[0]: expected a string, found nothing"),
        ],
    );
}

#[test]
fn ten_thousand_blocks_are_not_too_many_and_limits_have_names() {
    let blocks = |count: usize, prefix: &str| {
        (0..count).map(|n| format!("{prefix}10.{}.{}.0/24", n >> 8 & 255, n & 255)).collect::<Vec<_>>()
    };
    let peers: String =
        blocks(10_000, "").iter().map(|cidr| format!("  - to: [{{ipBlock: {{cidr: {cidr}}}}}]\n")).collect();
    let text = format!("{}  egress:\n{peers}", np(""));
    let policy = good(&text).policies.network.remove(0);
    assert_eq!(policy.egress.unwrap().len(), 10_000);
    let except = format!(
        "{{egress: [{{to: [{{ipBlock: {{cidr: 10.0.0.0/8, except: [{}]}}}}]}}]}}",
        blocks(10_000, "").join(",")
    );
    let policy = self::policy(&except);
    let Who::Block { except, .. } = &policy.egress.unwrap()[0].peers[0].who.clone() else { panic!() };
    assert_eq!(except.len(), 10_000);

    for (text, name) in [
        (
            np("{egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/9, 10.0.0.0/10, 10.1.0.0/16]}}]}]}"),
            "3 address blocks (MAX_CIDRS)",
        ),
        (np("{ingress: [{}, {}, {}, {}, {}]}"), "3 rules (MAX_RULES)"),
        (named("apiVersion: networking.k8s.io/v1, kind: NetworkPolicy"), "3 policies (MAX_POLICIES)"),
        (named("apiVersion: v1, kind: Node"), "3 objects (MAX_OBJECTS)"),
        (format!("apiVersion: v1\nkind: NodeList\nitems: [{}]\n", "{metadata: {name: x}},".repeat(9)), "stands twice"),
    ] {
        let mut collector = Collector::new();
        collector.counts = collect::Counts::limited(3);
        collector.read("f", text.as_bytes());
        let errors = collector.finish().errors;
        assert!(errors.iter().any(|found| found.message.contains(name)), "{text}: {errors:?}");
        assert!(errors.len() <= 3, "one finding says that a limit is exceeded: {errors:?}");
    }
}

fn named(kind: &str) -> String {
    (0..9).map(|n| format!("---\n{{{kind}, metadata: {{name: x{n}}}}}\n")).collect()
}
