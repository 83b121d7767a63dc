//! States and config.json files as CRI-O f954a17 (internal/factory/container/container.go, server/sandbox_run_linux.go)
//! and containerd 301026e (internal/cri/annotations/annotations.go) write them.

use super::*;
use crate::oci::Requests;
use crate::policy::names::{parse_labels, parse_ports};

const SANDBOX: &str = "5a0e1ed1c29d5a0e1ed1c29d5a0e1ed1c29d5a0e1ed1c29d5a0e1ed1c29d0001";

fn map(pairs: &[(&str, &str)]) -> Annotations {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn with(base: &Annotations, pairs: &[(&str, &str)]) -> Annotations {
    base.iter().map(|(key, value)| (key.clone(), value.clone())).chain(map(pairs)).collect()
}

/// A container of the pod web-1 in namespace shop, under CRI-O.
fn crio_container() -> Annotations {
    map(&[
        ("io.container.manager", "cri-o"),
        ("io.kubernetes.container.hash", "a9166cd8"),
        ("io.kubernetes.container.name", "web"),
        (
            "io.kubernetes.container.ports",
            r#"[{"name":"http","containerPort":8080,"protocol":"TCP"},{"containerPort":9}]"#,
        ),
        (
            "io.kubernetes.cri-o.Annotations",
            r#"{"io.kubernetes.container.hash":"a9166cd8","io.kubernetes.container.ports":"[{\"name\":\"http\",\"containerPort\":8080,\"protocol\":\"TCP\"},{\"containerPort\":9}]"}"#,
        ),
        ("io.kubernetes.cri-o.ContainerID", "c0ffee"),
        ("io.kubernetes.cri-o.ContainerType", "container"),
        (
            "io.kubernetes.cri-o.Labels",
            r#"{"io.kubernetes.container.name":"web","io.kubernetes.pod.name":"web-1","io.kubernetes.pod.namespace":"shop","io.kubernetes.pod.uid":"u"}"#,
        ),
        ("io.kubernetes.cri-o.SandboxID", SANDBOX),
        ("io.kubernetes.cri-o.SandboxName", "k8s_web-1_shop_u_0"),
        ("io.kubernetes.pod.name", "web-1"),
        ("io.kubernetes.pod.namespace", "shop"),
        ("io.kubernetes.pod.uid", "u"),
        ("kubernetes.io/config.source", "api"),
    ])
}

/// The sandbox of that pod.
fn crio_sandbox() -> Annotations {
    map(&[
        ("app", "web"),
        ("tier", "front"),
        ("io.container.manager", "cri-o"),
        ("io.kubernetes.container.name", "POD"),
        ("io.kubernetes.cri-o.Annotations", r#"{"kubernetes.io/config.source":"api"}"#),
        ("io.kubernetes.cri-o.ContainerID", SANDBOX),
        ("io.kubernetes.cri-o.ContainerType", "sandbox"),
        ("io.kubernetes.cri-o.KubeName", "web-1"),
        (
            "io.kubernetes.cri-o.Labels",
            r#"{"app":"web","io.kubernetes.container.name":"POD","io.kubernetes.pod.name":"web-1","io.kubernetes.pod.namespace":"shop","io.kubernetes.pod.uid":"u","tier":"front"}"#,
        ),
        ("io.kubernetes.cri-o.Namespace", "shop"),
        ("io.kubernetes.cri-o.SandboxID", SANDBOX),
        ("io.kubernetes.pod.name", "web-1"),
        ("io.kubernetes.pod.namespace", "shop"),
        ("io.kubernetes.pod.uid", "u"),
        ("kubernetes.io/config.source", "api"),
    ])
}

/// A container and a sandbox under containerd.
fn containerd(kind: &str) -> Annotations {
    map(&[
        ("io.kubernetes.cri.container-type", kind),
        ("io.kubernetes.cri.sandbox-id", SANDBOX),
        ("io.kubernetes.cri.sandbox-name", "web-1"),
        ("io.kubernetes.cri.sandbox-namespace", "shop"),
        ("io.kubernetes.cri.sandbox-uid", "u"),
    ])
}

fn bundle(annotations: Annotations) -> Bundle {
    let text = serde_json::json!({ "annotations": annotations }).to_string();
    Bundle::parse("/s/config.json", text.as_bytes()).unwrap()
}

fn read(own: &Annotations, sandbox: Option<Annotations>) -> Result<Requests, Vec<String>> {
    Requests::parse_in_pod(own, sandbox.map(bundle).as_ref()).map_err(|failure| match failure.cause {
        Cause::Annotation(findings) => findings.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    })
}

/// One problem that holds every word of `wanted`.
fn refused(own: &Annotations, sandbox: Option<Annotations>, wanted: &str) {
    let problems = read(own, sandbox).expect_err(wanted);
    assert!(problems.len() == 1 && problems[0].contains(wanted), "{wanted}: {problems:#?}");
}

#[test]
fn what_engines_write_is_the_namespace_and_no_request() {
    for key in NAMESPACE {
        let requests = read(&map(&[(key, "kube-system")]), None).unwrap();
        assert_eq!(requests.namespace.unwrap().value, "kube-system");
        assert_eq!(requests.given, []);
    }
    assert_eq!(read(&map(&[]), None), Ok(Requests::default()));
    assert_eq!(read(&map(&[(NAMESPACE[1], "")]), None), Ok(Requests::default()), "crictl may give none");
}

#[test]
fn a_container_cannot_claim_another_namespace_than_its_engine_says() {
    refused(
        &map(&[("io.netlatch.namespace", "shop"), ("io.kubernetes.pod.namespace", "test")]),
        None,
        "annotation io.kubernetes.pod.namespace: says test, and annotation io.netlatch.namespace says shop",
    );
    refused(&map(&[("io.kubernetes.cri-o.Namespace", "a"), ("io.kubernetes.pod.namespace", "b")]), None, "says a");
}

#[test]
fn a_container_of_crio_has_the_labels_of_its_sandbox() {
    let requests = read(&crio_container(), Some(crio_sandbox())).unwrap();
    assert_eq!(requests.namespace.unwrap().origin.to_string(), "annotation io.kubernetes.pod.namespace");
    assert_eq!(requests.pod.unwrap().value, "web-1");
    let labels = requests.labels.unwrap();
    assert_eq!(labels.value, parse_labels("app=web,tier=front").unwrap(), "and none of CRI's own");
    assert_eq!(labels.origin.to_string(), "annotation io.kubernetes.cri-o.Labels of sandbox 5a0e1ed1c29d");
    let ports = requests.ports.unwrap();
    assert_eq!(ports.value, parse_ports("http=8080/tcp").unwrap());
    assert_eq!(ports.origin.to_string(), "annotation io.kubernetes.cri-o.Annotations io.kubernetes.container.ports");
    assert_eq!((requests.labels_unknown, requests.given), (None, vec![]));
}

#[test]
fn a_sandbox_of_crio_has_its_own_labels() {
    let requests = read(&crio_sandbox(), None).unwrap();
    assert_eq!(requests.labels.unwrap().value, parse_labels("app=web,tier=front").unwrap());
    assert_eq!((requests.pod.unwrap().value, requests.namespace.unwrap().value), ("web-1".into(), "shop".into()));
    assert_eq!((requests.ports, requests.labels_unknown), (None, None));
    let none = with(&crio_sandbox(), &[(CRIO_LABELS, "null")]);
    assert_eq!(read(&none, None).unwrap().labels.unwrap().value, Annotations::new());
}

#[test]
fn without_its_sandbox_the_labels_of_a_crio_container_are_unknown() {
    let mut nameless = crio_container();
    nameless.remove("io.kubernetes.cri-o.SandboxID");
    let mut unlabelled = crio_sandbox();
    unlabelled.remove(CRIO_LABELS);
    for (own, sandbox, wanted) in [
        (crio_container(), None, SANDBOX),
        (nameless, None, "SandboxID is missing"),
        (crio_container(), Some(unlabelled), "io.kubernetes.cri-o.Labels is missing"),
    ] {
        let claiming = with(&own, &[("io.netlatch.labels", "app=db")]);
        let requests = read(&claiming, sandbox).unwrap();
        let failure = requests.labels_unknown.expect("not known").to_string();
        assert!(failure.contains(wanted), "{failure}");
        assert_eq!(requests.pod.unwrap().value, "web-1");
    }
}

#[test]
fn containerd_says_namespace_and_name_and_passes_what_it_is_told_to() {
    for kind in ["sandbox", "container"] {
        let requests = read(&containerd(kind), None).unwrap();
        assert_eq!((requests.pod.unwrap().value, requests.namespace.unwrap().value), ("web-1".into(), "shop".into()));
        assert_eq!((requests.labels, requests.ports, requests.labels_unknown), (None, None, None));
    }
    let ports =
        [("io.kubernetes.container.ports", r#"[{"name":"dns","hostPort":0,"containerPort":53,"protocol":"UDP"}]"#)];
    let requests = read(&with(&containerd("container"), &ports), None).unwrap();
    assert_eq!(requests.ports.unwrap().value, parse_ports("dns=53/udp").unwrap());
    // Nobody's kubelet said it.
    assert_eq!(read(&map(&ports), None).unwrap().ports, None);
}

#[test]
fn what_the_sandbox_asks_for_counts_where_the_container_asks_for_nothing() {
    let asking = [("io.netlatch.labels", "app=web"), ("io.netlatch.ports", "http=80"), ("io.netlatch.egress", "none")];
    let sandbox = with(&containerd("sandbox"), &asking);
    let requests = read(&containerd("container"), Some(sandbox.clone())).unwrap();
    let labels = requests.labels.unwrap();
    assert_eq!(labels.value, parse_labels("app=web").unwrap());
    assert_eq!(labels.origin.to_string(), "annotation io.netlatch.labels of sandbox 5a0e1ed1c29d");
    assert_eq!(requests.ports.unwrap().value[0].port, 80);
    assert_eq!(requests.egress, None, "who it is, and not what it may do");
    let given: Vec<_> = requests.given.iter().map(|(_, kind)| *kind).collect();
    assert_eq!(given, [Annotation::Labels, Annotation::Ports], "the admin may forbid them");

    let own = with(&containerd("container"), &[("io.netlatch.labels", "app=own"), ("io.netlatch.ports", "x=1")]);
    let requests = read(&own, Some(sandbox)).unwrap();
    assert_eq!(requests.labels.unwrap().value["app"], "own");
    assert_eq!(requests.ports.unwrap().value[0].name, "x");

    let typo = with(&containerd("sandbox"), &[("io.netlatch.label", "app=web")]);
    refused(&containerd("container"), Some(typo), "annotation io.netlatch.label of sandbox 5a0e1ed1c29d: unknown key");
    let elsewhere = with(&containerd("sandbox"), &[("io.netlatch.namespace", "test")]);
    refused(&containerd("container"), Some(elsewhere), "says shop, and annotation io.netlatch.namespace of sandbox");
}

#[test]
fn labels_of_an_annotation_repeat_the_engines_or_are_refused() {
    let claim = |claimed| with(&crio_container(), &[("io.netlatch.labels", claimed)]);
    let requests = read(&claim("tier=front"), Some(crio_sandbox())).unwrap();
    assert_eq!(requests.labels.unwrap().value.len(), 2, "the engine's count in whole");
    refused(
        &claim("app=db"),
        Some(crio_sandbox()),
        "annotation io.netlatch.labels: says app=db, and annotation io.kubernetes.cri-o.Labels of sandbox 5a0e1ed1c29d says app=web",
    );
    refused(&claim("app=web,role=admin"), Some(crio_sandbox()), "has no label role");
    let sandbox = with(&crio_sandbox(), &[("io.netlatch.labels", "app=db")]);
    refused(&sandbox, None, "says app=db");
    refused(&crio_container(), Some(sandbox), "annotation io.netlatch.labels of sandbox 5a0e1ed1c29d: says app=db");
}

#[test]
fn ports_of_an_annotation_join_the_kubelets_and_cannot_move_them() {
    let claim = |claimed| with(&crio_container(), &[("io.netlatch.ports", claimed)]);
    let ports = read(&claim("metrics=9100,http=8080"), Some(crio_sandbox())).unwrap().ports.unwrap();
    assert_eq!(ports.value, parse_ports("http=8080,metrics=9100").unwrap());
    assert!(ports.origin.to_string().contains("io.netlatch.ports and io.kubernetes.cri-o.Annotations"));
    refused(
        &claim("http=22"),
        Some(crio_sandbox()),
        "annotation io.netlatch.ports: says http=22/tcp, and annotation io.kubernetes.cri-o.Annotations io.kubernetes.container.ports says http=8080/tcp",
    );
    // The plain key may be the pod author's, where the kubelet has nothing to say.
    let forged = with(
        &crio_container(),
        &[(CRIO_ANNOTATIONS, "{}"), (KUBELET_PORTS, r#"[{"name":"http","containerPort":22}]"#)],
    );
    assert_eq!(read(&forged, Some(crio_sandbox())).unwrap().ports, None);
}

/// CRI-O copies a pod's annotations into its containers, and over its own keys into its sandbox.
#[test]
fn what_a_pods_author_makes_up_contradicts_what_the_engine_says() {
    for (forged, wanted) in [
        (
            ("io.kubernetes.cri-o.Namespace", "kube-system"),
            "says kube-system, and annotation io.kubernetes.pod.namespace says shop",
        ),
        (("io.kubernetes.cri.sandbox-namespace", "kube-system"), "says kube-system"),
        (
            ("io.kubernetes.cri-o.KubeName", "db-1"),
            "says \"db-1\", and annotation io.kubernetes.pod.name says \"web-1\"",
        ),
        (("io.kubernetes.cri.sandbox-id", "feed"), "one engine cannot have written both"),
        (("io.kubernetes.cri.container-type", "sandbox"), "one engine cannot have written both"),
    ] {
        refused(&with(&crio_container(), &[forged]), Some(crio_sandbox()), wanted);
    }
    for (forged, wanted) in [
        ((CRIO_LABELS, r#"{"app":"db"}"#), "says \"db\" for \"app\", and the label itself says \"web\""),
        (
            ("io.kubernetes.cri-o.Namespace", "kube-system"),
            "annotation io.kubernetes.cri-o.Namespace of sandbox 5a0e1ed1c29d: says kube-system",
        ),
        (("io.kubernetes.cri-o.ContainerType", "container"), "expected sandbox, found \"container\""),
        (("io.kubernetes.cri-o.SandboxID", "feed"), "expected 5a0e1ed1c29d"),
    ] {
        refused(&crio_container(), Some(with(&crio_sandbox(), &[forged])), wanted);
    }
    // containerd with `pod_annotations = ["*"]`.
    for forged in [("io.kubernetes.cri-o.ContainerType", "sandbox"), ("io.kubernetes.cri-o.SandboxID", "feed")] {
        let forged = with(&containerd("container"), &[forged, (CRIO_LABELS, r#"{"app":"db"}"#)]);
        refused(&forged, None, "one engine cannot have written both");
    }
    let labels = with(&containerd("container"), &[(CRIO_LABELS, r#"{"app":"db"}"#)]);
    assert_eq!(read(&labels, None).unwrap().labels, None);
}

#[test]
fn under_podman_an_engines_key_is_the_containers_word() {
    let podman = map(&[
        ("io.container.manager", "libpod"),
        ("io.kubernetes.cri-o.ContainerType", "container"),
        ("io.kubernetes.cri-o.SandboxID", SANDBOX),
        ("io.kubernetes.pod.namespace", "shop"),
        ("io.kubernetes.pod.name", "web-1"),
    ]);
    assert_eq!(sandbox_file(&podman, Path::new("/s/overlay-containers/c/userdata")), None);
    let requests = read(&podman, None).unwrap();
    assert_eq!((requests.labels, requests.labels_unknown), (None, None));
    assert_eq!(
        requests.given,
        [
            ("io.kubernetes.pod.namespace".to_owned(), Annotation::Namespace),
            ("io.kubernetes.pod.name".to_owned(), Annotation::Labels),
        ]
    );
}

#[test]
fn the_sandbox_lies_beside_the_container() {
    let file = |annotations: &Annotations, bundle: &str| sandbox_file(annotations, Path::new(bundle));
    assert_eq!(
        file(&crio_container(), "/run/containers/storage/overlay-containers/c0ffee/userdata"),
        Some(format!("/run/containers/storage/overlay-containers/{SANDBOX}/userdata/config.json").into())
    );
    assert_eq!(
        file(&containerd("container"), "/run/containerd/io.containerd.runtime.v2.task/k8s.io/c0ffee"),
        Some(format!("/run/containerd/io.containerd.runtime.v2.task/k8s.io/{SANDBOX}/config.json").into())
    );
    // containers/crun#2025
    assert_eq!(file(&crio_container(), "/"), None);
    for none in [map(&[]), crio_sandbox(), containerd("sandbox")] {
        assert_eq!(file(&none, "/run/x/y/z"), None);
    }
}

#[test]
fn a_sandboxs_id_is_a_file_name() {
    for (annotations, key) in
        [(crio_container(), "io.kubernetes.cri-o.SandboxID"), (containerd("container"), "io.kubernetes.cri.sandbox-id")]
    {
        for id in ["..", ".", "../x", "/etc", "a/b", "a b", "a\0"] {
            let annotations = with(&annotations, &[(key, id)]);
            assert_eq!(sandbox_file(&annotations, Path::new("/run/a/b/c")), None, "{id}");
            refused(&annotations, None, key);
        }
    }
}

#[test]
fn what_is_no_json_is_refused_where_it_counts() {
    for text in ["", "x", "[]", r#"{"a":1}"#, r#"{"a":"1","a":"2"}"#, r#"{"a b":"1"}"#, r#"{"a":"/"}"#] {
        let sandbox = with(&crio_sandbox(), &[(CRIO_LABELS, text)]);
        let read = read(&crio_container(), Some(sandbox));
        match text {
            "" => assert!(read.unwrap().labels_unknown.is_some()),
            _ => assert!(read.unwrap_err()[0].contains("annotation io.kubernetes.cri-o.Labels of sandbox"), "{text}"),
        }
    }
    for text in [
        "x",
        "{}",
        r#"[{"name":"a"}]"#,
        r#"[{"name":"a","containerPort":0}]"#,
        r#"[{"name":"A!","containerPort":1}]"#,
        r#"[{"name":"a","containerPort":65536}]"#,
        r#"[{"name":"a","containerPort":1,"protocol":"ICMP"}]"#,
    ] {
        refused(&with(&containerd("container"), &[(KUBELET_PORTS, text)]), None, KUBELET_PORTS);
    }
    refused(&with(&containerd("x"), &[]), None, "expected sandbox or container, found \"x\"");
    refused(&with(&crio_container(), &[(CRIO_ANNOTATIONS, "[")]), Some(crio_sandbox()), CRIO_ANNOTATIONS);
}

#[test]
fn a_name_that_no_pod_has_is_no_name() {
    for name in ["PodSandbox_1", "a/b", &"x".repeat(254)] {
        let odd = with(&containerd("container"), &[("io.kubernetes.cri.sandbox-name", name)]);
        assert_eq!(read(&odd, None).unwrap().pod, None);
    }
}

proptest::proptest! {
    #[test]
    fn no_text_panics(
        key in proptest::sample::select([NAMESPACE.as_slice(), &NAME, &[CRIO_LABELS, CRIO_ANNOTATIONS, KUBELET_PORTS,
            "io.kubernetes.cri-o.SandboxID", "io.kubernetes.cri-o.ContainerType"]].concat()),
        value in "(\\PC{0,40}|[\\[\\]{}:,\"a-z0-9]{0,40})",
    ) {
        let changed = [(key, value.as_str())];
        let _ = read(&with(&crio_container(), &changed), Some(with(&crio_sandbox(), &changed)));
        let _ = sandbox_file(&with(&crio_container(), &changed), Path::new("/a/b/c"));
    }
}
