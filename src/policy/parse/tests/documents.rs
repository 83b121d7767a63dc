use super::*;

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
            ("a", "f:3".to_owned()),
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
        (
            np("{podSelector: {matchLabels: {app: wbe}}}")
                + "---\napiVersion: v1\nkind: Pod\nmetadata: {name: w, namespace: shop, labels: {app: web}}\n",
            "f:1:1: spec.podSelector: selects none of the pods of namespace shop in these files",
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

#[test]
fn all_files_together_have_a_most_bytes() {
    let errors = |before: usize| {
        let mut collector = Collector::new();
        collector.bytes = before;
        collector.read("a.yaml", b"\n");
        collector.read("b.yaml", b"\n");
        collector.finish().errors
    };
    assert_eq!(errors(MAX_FOLDER - 2), []);
    let errors = errors(MAX_FOLDER - 1);
    assert!(errors.len() == 1 && errors[0].to_string().contains("(MAX_FOLDER)"), "{errors:?}");
}
