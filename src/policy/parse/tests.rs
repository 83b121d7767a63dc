use std::net::IpAddr;

use super::*;
use crate::net::{Origin, PortRange, Transport};
use crate::policy::model::{
    Action, Namespaces, NetworkPolicy, Operator, Peer, Port, Rule, Selector, Subject, Tier, Who,
};
use crate::policy::world::TargetPort;

fn read(files: &[(&str, &str)]) -> Outcome {
    let mut collector = Collector::new();
    for (name, text) in files {
        collector.read(name, text.as_bytes());
    }
    collector.finish()
}

fn good(text: &str) -> Manifests {
    let outcome = read(&[("f", text)]);
    outcome.manifests.unwrap_or_else(|| panic!("{text}\n{:?}", outcome.errors))
}

fn bad(text: &str) -> Vec<String> {
    let outcome = read(&[("f", text)]);
    assert_eq!(outcome.manifests.is_none(), !outcome.errors.is_empty());
    outcome.errors.iter().map(ToString::to_string).collect()
}

fn warned(text: &str) -> Vec<String> {
    let outcome = read(&[("f", text)]);
    assert_eq!(outcome.errors, [], "{text}");
    outcome.warnings.iter().map(ToString::to_string).collect()
}

/// A NetworkPolicy `shop/p` whose spec, in flow style, stands in line 4.
fn np(spec: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {spec}\n"
    )
}

fn policy(spec: &str) -> NetworkPolicy {
    good(&np(spec)).policies.network.remove(0)
}

const SUBJECT: &str = "subject: {namespaces: {}}";

/// A ClusterNetworkPolicy whose spec stands in line 4.
fn cnp(rest: &str) -> String {
    format!(
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: c}}\nspec: {{tier: Admin, priority: 5, {SUBJECT}, {rest}}}\n"
    )
}

fn anp(kind: &str, name: &str, spec: &str) -> String {
    format!("apiVersion: policy.networking.k8s.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

/// The one error that `text` has, without the file's name.
fn one(text: &str) -> String {
    let found = bad(text);
    assert_eq!(found.len(), 1, "{text}: {found:?}");
    found[0].strip_prefix("f:").unwrap_or_else(|| panic!("{found:?}")).to_owned()
}

/// Each text has exactly one error, whose path and beginning of message are given.
fn refuses(make: fn(&str) -> String, cases: &[(&str, &str)]) {
    for (spec, wanted) in cases {
        let found = one(&make(spec));
        let (place, said) = found.split_once(' ').unwrap();
        assert!(place.starts_with("4:"), "{spec}: {found}");
        assert!(said.starts_with(wanted), "{spec}\n     got {said}\n  wanted {wanted}");
    }
}

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
fn metadata_is_checked_and_what_servers_add_is_not() {
    let with =
        |metadata: &str| format!("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {metadata}\n");
    for metadata in [
        "{name: a.b-c.0}",
        "{name: p, namespace: ''}",
        "{name: p, uid: x, managedFields: [{x: [1]}], annotations: {'a b': c}, resourceVersion: '1', creationTimestamp: null, generation: 3, labels: {a: b}, finalizers: [], ownerReferences: [], selfLink: /x}",
    ] {
        good(&with(metadata));
    }
    good(&(with("{name: p}") + "status: {anything: [1, {}]}\n"));
    for (metadata, wanted) in [
        ("{}", "metadata.name: the field is missing"),
        ("{name: null}", "metadata.name: the field is missing"),
        ("{name: ''}", "metadata.name: is empty"),
        ("{name: P}", "metadata.name: expected a DNS name"),
        (&format!("{{name: {}}}", "a".repeat(254)), "metadata.name: is longer than 253 bytes"),
        ("{name: a_b}", "metadata.name: expected a DNS name"),
        ("{name: 5}", "metadata.name: expected a string, found the integer 5; quote it"),
        ("{generateName: p-}", "metadata: the field name is missing; generateName needs an API server"),
        ("{name: p, namespace: A}", "metadata.namespace: expected 1 to 63"),
        ("{name: p, namespace: a.b}", "metadata.namespace: expected 1 to 63"),
        ("{name: p, namespce: shop}", "metadata: unknown field \"namespce\"; did you mean namespace?"),
        ("{name: p, labels: {a: 1}}", "metadata.labels.a: expected a string"),
        ("{name: p, labels: {a: 'b c'}}", "metadata.labels.a: a label's value"),
        ("{name: p, annotations: {a: 1}}", "metadata.annotations.a: expected a string"),
        ("[]", "metadata: expected an object"),
        ("", ": metadata: the field is missing"),
    ] {
        let found = one(&with(metadata));
        let said = found.split_once(' ').unwrap().1;
        assert!(said.starts_with(wanted.trim_start_matches(": ")), "{metadata}: {found}");
    }
}

#[test]
fn documents_are_told_apart_by_kind_and_version() {
    for (text, wanted) in [
        ("a: b", "1:1: expected a manifest: the fields apiVersion and kind are missing"),
        ("- a", "1:1: expected an object, found a list"),
        ("just text", "1:1: expected an object"),
        ("kind: Pod", "1:1: apiVersion: the field is missing"),
        ("apiVersion: v1", "1:1: kind: the field is missing"),
        ("apiVersion: v1\nkind: ConfigMap", "2:7: kind: \"ConfigMap\" is none of the kinds"),
        ("apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy", "2:7: kind: \"CiliumNetworkPolicy\" is none"),
        ("apiVersion: v1\nkind: NetworkPolicies", "2:7: kind: "),
        (
            "apiVersion: extensions/v1beta1\nkind: NetworkPolicy",
            "1:13: apiVersion: NetworkPolicy is known here in networking.k8s.io/v1 only",
        ),
        (
            "apiVersion: policy.networking.k8s.io/v1alpha1\nkind: ClusterNetworkPolicy",
            "1:13: apiVersion: ClusterNetworkPolicy is known here in policy.networking.k8s.io/v1alpha2",
        ),
        (
            "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: AdminNetworkPolicy",
            "1:13: apiVersion: AdminNetworkPolicy is known here in policy.networking.k8s.io/v1alpha1",
        ),
        ("apiVersion: networking.k8s.io/v1\nkind: List", "1:13: apiVersion: List is known here in v1 only"),
        ("apiVersion: v1\nkind: ListList", "2:7: kind: "),
        ("apiVersion: 1\nkind: List", "1:13: apiVersion: expected a string"),
        ("apiVersion: v1\nkind: List\nitem: []", "3:1: unknown field \"item\"; did you mean items?"),
        ("apiVersion: v1\nkind: List\nitems: {}", "3:8: items: expected a list"),
        ("apiVersion: v1\nitems: []\nkind: Pod\nmetadata: {name: a}", "2:8: items: only a list has items"),
        ("apiVersion: v1\nitems: [x]\nkind: List", "2:9: items[0]: expected an object"),
    ] {
        let found = bad(text);
        assert!(found.iter().any(|found| found.starts_with(&format!("f:{wanted}"))), "{text}: {found:?}");
    }
}

#[test]
fn a_file_holds_many_documents_and_lists_of_lists() {
    let pod = |name: &str| format!("{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}}}");
    let text = format!(
        "\u{feff}# comment\r\n---\r\n{}\r\n...\r\n---\r\n---\r\n{{\"apiVersion\": \"v1\", \"kind\": \"List\",\r\n\t\"items\": [{},\r\n{{apiVersion: v1, kind: List, items: [{}]}},],\"metadata\":{{}} }}\r\n---\r\napiVersion: v1\r\nkind: PodList\r\nitems:\r\n- metadata: {{name: d}}\r\n- {}\r\n",
        pod("a"),
        pod("b"),
        pod("c"),
        pod("e"),
    );
    let pods = good(&text).inventory.pods;
    let names: Vec<_> = pods.iter().map(|pod| (pod.name.as_str(), pod.origin.to_string())).collect();
    assert_eq!(
        names,
        [
            ("a", "f:3 ".to_owned()),
            ("b", "f:8 items[0]".into()),
            ("c", "f:9 items[1].items[0]".into()),
            ("d", "f:14 items[0]".into()),
            ("e", "f:15 items[1]".into()),
        ]
    );
}

#[test]
fn a_list_may_say_its_kind_behind_its_items() {
    let item = "- metadata: {name: a}\n- {metadata: {name: b}, apiVersion: v1, kind: Pod}\n";
    let manifests = good(&format!("apiVersion: v1\nitems:\n{item}kind: PodList\nmetadata: {{}}\n"));
    assert_eq!(manifests.inventory.pods.len(), 2);
    let text = format!("apiVersion: v1\nitems:\n{item}kind: List\n");
    assert!(bad(&text)[0].starts_with("f:3:3: items[0].apiVersion: the field is missing"), "{:?}", bad(&text));
    let text = format!("apiVersion: v1\nitems:\n{item}kind: NodeList\n");
    assert_eq!(one(&text), "5:7: kind: items[1] is a Pod");
    let text = "apiVersion: v1\nkind: NodeList\nitems: [{apiVersion: v1, kind: Pod, metadata: {name: a}}]";
    assert_eq!(one(text), "3:32: items[0].kind: is an item of a NodeList");
    // An item without a kind is no pod of the broken list before it.
    let found =
        bad("apiVersion: v1\nitems:\n- metadata: {name: a}\n- [\n---\napiVersion: v1\nitems: []\nkind: PodList\n");
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn errors_in_a_list_say_which_item() {
    let text = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicyList\nitems:\n- metadata: {name: a}\n- metadata: {name: b}\n  spec:\n    ingress:\n    - form: []\n";
    assert_eq!(one(text), "8:7: items[1].spec.ingress[0]: unknown field \"form\"; did you mean from?");
}

#[test]
fn the_same_object_twice_is_an_error_that_names_both_places() {
    let outcome = read(&[("a.yaml", &np("{}")), ("b.yaml", &format!("---\n{}", np("{}")))]);
    let found: Vec<_> = outcome.errors.iter().map(ToString::to_string).collect();
    assert_eq!(found, ["b.yaml:2:1: NetworkPolicy shop/p stands twice, first at a.yaml:1"]);
    assert!(outcome.manifests.is_none());
    // The missing namespace is `default`; another namespace or kind is another object.
    let pod = |namespace: &str| format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{namespace}}}\n");
    assert_eq!(bad(&[pod(""), pod(", namespace: default")].concat()).len(), 1);
    good(&[pod(", namespace: shop"), pod(", namespace: default"), "---\n".into(), np("{}")].concat());
    let node = "---\napiVersion: v1\nkind: Node\nmetadata: {name: n}\n";
    assert_eq!(one(&node.repeat(2)), "6:1: Node n stands twice, first at f:2");
    // Both have ended, and are still one name.
    let ended = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: p}\nstatus: {phase: Failed}\n";
    assert_eq!(bad(&ended.repeat(2)).len(), 1);
}

fn pod(name: &str, rest: &str) -> String {
    format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\n{rest}\n")
}

#[test]
fn one_address_on_two_running_pods_is_an_error() {
    let at = |name: &str, spec: &str, phase: &str| {
        pod(name, &format!("spec: {{{spec}}}\nstatus: {{podIP: 10.0.0.1, phase: {phase}}}"))
    };
    assert_eq!(
        one(&[at("a", "", "Running"), at("b", "", "Pending")].concat()),
        "12:17: status.podIP: 10.0.0.1 is the address of two running pods, default/b and default/a at f:6 status.podIP"
    );
    let both = [at("a", "", "null"), at("b", "", "''")].concat();
    assert_eq!(bad(&both).len(), 1, "a missing phase counts as running");
    assert_eq!(
        good(&[at("a", "", "Succeeded"), at("b", "", "Running"), at("c", "", "Failed")].concat()).inventory.pods.len(),
        1
    );
    good(&[at("a", "hostNetwork: true", "Running"), at("b", "hostNetwork: true", "Running")].concat());
    assert_eq!(bad(&[at("a", "hostNetwork: true", "Running"), at("b", "", "Running")].concat()).len(), 1);
    // Written in two ways it is one address.
    good(&pod("a", "status: {podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}"));
}

#[test]
fn a_pod_is_read_as_it_is_printed() {
    let text = pod(
        "a",
        "spec:
  nodeName: n1
  surprise: [{}]
  containers:
  - name: web
    ports:
    - {containerPort: 8080, name: http, protocol: TCP}
    - {containerPort: 53, name: dns, protocol: UDP, hostPort: 53}
    - {containerPort: 9}
  initContainers:
  - {name: once, ports: [{containerPort: 1, name: once}]}
  - {name: sidecar, restartPolicy: Always, ports: [{containerPort: 2, name: side}]}
status: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: 'FD00::01'}]}",
    );
    let pod = good(&text.replace("{name: a}", "{name: a, namespace: x, labels: {app: web}, weird: 1}"))
        .inventory
        .pods
        .remove(0);
    assert_eq!((pod.namespace.as_str(), pod.node.as_deref(), pod.host_network), ("x", Some("n1"), false));
    assert_eq!(pod.labels["app"], "web");
    assert_eq!(pod.addresses, ["10.0.0.1".parse::<IpAddr>().unwrap(), "fd00::1".parse().unwrap()]);
    let ports: Vec<_> = pod.ports.iter().map(|port| (port.name.as_str(), port.port, port.protocol)).collect();
    assert_eq!(ports, [("http", 8080, Transport::Tcp), ("dns", 53, Transport::Udp), ("side", 2, Transport::Tcp)]);
    for (rest, wanted) in [
        ("spec: []", "spec: expected an object"),
        ("spec: {hostNetwork: 'true'}", "spec.hostNetwork: expected true or false"),
        ("spec: {nodeName: 5}", "spec.nodeName: expected a string"),
        ("spec: {containers: {}}", "spec.containers: expected a list"),
        (
            "spec: {containers: [{ports: [{containerPort: x}]}]}",
            "spec.containers[0].ports[0].containerPort: expected a whole",
        ),
        (
            "spec: {containers: [{ports: [{name: x}]}]}",
            "spec.containers[0].ports[0].containerPort: the field is missing",
        ),
        (
            "spec: {containers: [{ports: [{containerPort: 1, protocol: tcp}]}]}",
            "spec.containers[0].ports[0].protocol: expected one",
        ),
        ("status: {podIP: 10.0.0.256}", "status.podIP: \"10.0.0.256\" is no IP address"),
        ("status: {podIPs: [10.0.0.1]}", "status.podIPs[0]: expected an object"),
        ("status: {phase: 1}", "status.phase: expected a string"),
    ] {
        let found = one(&self::pod("a", rest));
        assert!(found.split_once(' ').unwrap().1.starts_with(wanted), "{rest}: {found}");
    }
}

#[test]
fn a_namespace_carries_its_name_as_a_label() {
    let text = |labels: &str| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: x, labels: {labels}}}\n");
    for labels in ["{a: b}", "{a: b, kubernetes.io/metadata.name: x}"] {
        let namespace = good(&text(labels)).inventory.namespaces.remove(0);
        assert_eq!(namespace.labels["kubernetes.io/metadata.name"], "x");
        assert_eq!(namespace.labels["a"], "b");
    }
    let found = one(&text("{kubernetes.io/metadata.name: y}"));
    assert!(
        found.contains("metadata.labels[\"kubernetes.io/metadata.name\"]: is not the namespace's name, x"),
        "{found}"
    );
}

#[test]
fn nodes_services_and_slices_give_their_addresses() {
    let text = "\
apiVersion: v1
kind: Node
metadata: {name: n, labels: {zone: a}}
status:
  addresses: [{type: InternalIP, address: 192.168.0.1}, {type: Hostname, address: n}, {type: ExternalIP, address: 192.168.0.1}]
---
apiVersion: v1
kind: Service
metadata: {name: s}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.1
  clusterIPs: [10.96.0.1, 'fd00::a']
  externalIPs: [203.0.113.1]
  selector: {app: web}
  ports: [{port: 80, targetPort: http, name: web}, {port: 81, targetPort: 8081, protocol: UDP}, {port: 82}, {port: 83, targetPort: 0}]
status: {loadBalancer: {ingress: [{ip: 203.0.113.9}, {hostname: x}]}}
---
apiVersion: v1
kind: Service
metadata: {name: headless}
spec: {clusterIP: None, clusterIPs: [None], selector: {}}
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere}
spec: {type: ExternalName, externalName: example.com}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s-1, labels: {kubernetes.io/service-name: s}}
addressType: IPv4
endpoints:
- {addresses: [10.0.0.1], conditions: {ready: true}}
- {addresses: [10.0.0.2], conditions: {ready: false, serving: true}}
- {addresses: [10.0.0.3], conditions: {}}
- {addresses: [10.0.0.4]}
ports: [{name: web, port: 8080, protocol: TCP}, {name: all, port: null}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s-2, labels: {kubernetes.io/service-name: s}}
addressType: FQDN
endpoints: [{addresses: [example.com]}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: nobodys}
addressType: IPv4
endpoints: []
";
    let who = good(text).inventory;
    let ips = |texts: &[&str]| texts.iter().map(|text| text.parse::<IpAddr>().unwrap()).collect::<Vec<_>>();
    assert_eq!(who.nodes[0].addresses, ips(&["192.168.0.1"]));
    let service = &who.services[0];
    assert_eq!(service.addresses, ips(&["10.96.0.1", "fd00::a", "203.0.113.1", "203.0.113.9"]));
    assert_eq!(service.selector.as_ref().unwrap().requirements[0].values, ["web"]);
    let ports: Vec<_> =
        service.ports.iter().map(|p| (p.name.as_str(), p.transport, p.port, p.target.clone())).collect();
    assert_eq!(
        ports,
        [
            ("web", Transport::Tcp, 80, TargetPort::Named("http".into())),
            ("", Transport::Udp, 81, TargetPort::Number(8081)),
            ("", Transport::Tcp, 82, TargetPort::Number(82)),
            ("", Transport::Tcp, 83, TargetPort::Number(83)),
        ]
    );
    for quiet in &who.services[1..] {
        assert!(quiet.addresses.is_empty() && quiet.selector.is_none(), "{quiet:?}");
    }
    assert_eq!(who.slices.len(), 1);
    assert_eq!(who.slices[0].service, "s");
    assert_eq!(who.slices[0].addresses, ips(&["10.0.0.1", "10.0.0.3", "10.0.0.4"]));
    assert_eq!(who.slices[0].ports, [("web".to_owned(), Transport::Tcp, 8080)]);
}

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

#[test]
fn warnings_are_few_and_say_what_is_probably_not_meant() {
    for (text, wanted) in [
        (
            np("{policyTypes: [Ingress], egress: [{}]}"),
            "f:4:40: spec.egress: has no effect, for policyTypes do not name Egress",
        ),
        (np("{egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}], ports: [{port: http}]}]}"), "f:4:"),
        (
            np("{egress: [{to: [{ipBlock: {cidr: 010.0.0.0/08}}]}]}"),
            "f:4:40: spec.egress[0].to[0].ipBlock.cidr: leading zeros are read as decimal: this is 10.0.0.0/8",
        ),
        (
            np("{egress: [{to: [{ipBlock: {cidr: '::ffff:10.0.0.0/104'}}]}]}"),
            "f:4:40: spec.egress[0].to[0].ipBlock.cidr: an IPv4-mapped block is read as the IPv4 block 10.0.0.0/8",
        ),
        (cnp("ingress: [{action: Deny, from: [{namespaces: {}}], protocols: [{destinationNamedPort: HTTP}]}]"), "f:4:"),
        (
            np("{}") + "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: other}\n",
            "f:1:1: metadata.namespace: there is no Namespace object for shop",
        ),
    ] {
        let found = warned(&text);
        assert!(found.len() == 1 && found[0].starts_with(wanted), "{text}: {found:?}");
    }
    for text in [
        np("{}"),
        np("{ingress: [{from: [{ipBlock: {cidr: 10.0.0.5/8}}], ports: [{port: http}]}]}"),
        np("{egress: [{ports: [{port: http}]}], policyTypes: [Ingress, Egress]}"),
        np("{policyTypes: [Egress], ingress: []}"),
        np("{}") + "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n",
    ] {
        assert_eq!(warned(&text), [""; 0], "{text}");
    }
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

#[test]
fn the_inventory_takes_names_that_no_server_would_but_not_endless_ones() {
    let pods = good(&(pod("\"web[Deployment]\"", "") + &pod("A_b", ""))).inventory.pods;
    assert_eq!(pods.iter().map(|pod| pod.name.as_str()).collect::<Vec<_>>(), ["web[Deployment]", "A_b"]);
    for metadata in [format!("name: {}", "a".repeat(254)), format!("name: a, namespace: {}", "a".repeat(254))] {
        let found = one(&format!("apiVersion: v1\nkind: Pod\nmetadata: {{{metadata}}}\n"));
        assert!(found.ends_with("is longer than 253 bytes"), "{found}");
    }
}

#[test]
fn text_with_tricks_means_one_thing_or_nothing() {
    let head = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\n";
    for (spec, wanted) in [
        ("spec: {\"ingress\": [], \"ingr\\u0065ss\": []}", "4:23: the key \"ingress\" stands twice"),
        ("spec: {podSelector: &a {}, ingress: [{from: [{podSelector: {<<: *a}}]}]}", "4:61: merge keys"),
        ("spec:\n\tingress: []", "5:2: tabs"),
        ("spec: {ingress: [{ports: [{port: 8_0}]}]}", "4:34: spec.ingress[0].ports[0].port: expected a string"),
        ("spec: {ingress: [{ports: [{port: !!int '80'}]}]}", "4:34: the tag \"!!int\" is not supported"),
        ("spec: {ingrеss: []}", "4:8: spec: unknown field \"ingrеss\"; did you mean ingress?"),
        ("spec: {'ingress ': []}", "4:8: spec: unknown field \"ingress \"; did you mean ingress?"),
        ("Spec: {}", "4:1: unknown field \"Spec\"; did you mean spec?"),
        (
            "spec: {podSelector: {matchLabels: {\"a\\u001b[31m\": b}}}",
            "4:51: spec.podSelector.matchLabels[\"a\\u{1b}[31m\"]:",
        ),
        ("spec: !set {}", "4:12: the tag \"!set\" is not supported"),
    ] {
        let found = bad(&format!("{head}{spec}\n"));
        assert!(found[0].starts_with(&format!("f:{wanted}")), "{spec}: {found:?}");
    }
    let meant = good(&format!(
        "{head}spec: {{podSelector: {{matchLabels: {{a: b}}}}, ingress: [{{ports: [{{port: 80}}]}}]}}\n"
    ));
    for spec in [
        "spec: {podSelector: {matchLabels: {a: &b b}}, ingress: [{ports: [{port: 0x50}]}]}",
        "spec: {podSelector: {matchLabels: &l {a: b}}, ingress: [{ports: [{port: +80,},],},],}",
        "\"spec\": {\"podSelector\":{\"matchLabels\":{\"a\":\"b\"}},\"ingress\":[{\"ports\":[{\"port\":80}]}]}",
    ] {
        assert_eq!(good(&format!("{head}{spec}\n...\n")), meant, "{spec}");
    }
}
