//! Who a container is to policies, and what the inventory knows better of it.

use std::collections::BTreeMap;

use crate::document::clipped;
use crate::error::{Cause, Failure};
use crate::net::Origin;
use crate::oci::annotations::PREFIX;
use crate::oci::{Sourced, contradicted_labels};
use crate::policy::model::Labels;
use crate::policy::names::NamedPort;
use crate::policy::watch;
use crate::policy::world::{Inventory, Pod};

/// Who the container is to policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its namespace.
    pub namespace: Sourced<String>,
    /// The name of its pod, where the engine says it.
    pub pod: Option<Sourced<String>>,
    /// Its labels.
    pub labels: Sourced<BTreeMap<String, String>>,
    /// Its named ports.
    pub ports: Sourced<Vec<NamedPort>>,
    /// Why `labels` may be others than the pod has: its engine keeps them where they could not be had.
    pub labels_unknown: Option<Failure>,
}

impl Identity {
    /// What selectors see of it. `namespace_labels` are those of its namespace, its name among them.
    ///
    /// # Errors
    /// [`Cause::Bundle`] where its labels are not known: no policy can then be said to govern it or not to.
    pub fn to_policies(&self, namespace_labels: Labels) -> Result<watch::Identity, Failure> {
        if let Some(failure) = &self.labels_unknown {
            return Err(failure.clone());
        }
        Ok(watch::Identity {
            namespace: self.namespace.value.clone(),
            namespace_labels,
            labels: self.labels.value.clone(),
            ports: self.ports.value.clone(),
        })
    }
}

/// Whether a manifest's pod is the one that the container belongs to.
pub fn is_same_pod(identity: &Identity, pod: &Pod) -> bool {
    identity.namespace.value == pod.namespace && identity.pod.as_ref().is_some_and(|name| name.value == pod.name)
}

/// Takes labels and ports from the pod's manifest where the engine gives none. They are the admin's word: what the
/// container claims for itself may repeat them and say nothing else. What the engine gives stays, also where the manifest
/// has grown old.
///
/// # Errors
/// [`Cause::NotPermitted`] where it does.
pub fn complete(identity: &mut Identity, inventory: &Inventory) -> Result<(), Failure> {
    let Some(pod) = inventory.pods.iter().find(|pod| is_same_pod(identity, pod)) else { return Ok(()) };
    if identity.labels_unknown.is_some() || !is_engines(&identity.labels.origin) {
        let theirs = Sourced::new(pod.labels.clone(), pod.origin.clone());
        if let Some((claimed, known)) = contradicted_labels(&identity.labels.value, &theirs).into_iter().next() {
            return Err(refused(format!("{} says {claimed}", identity.labels.origin), known));
        }
        identity.labels = theirs;
        identity.labels_unknown = None;
    }
    if !is_engines(&identity.ports.origin) && (!pod.ports.is_empty() || claims(&identity.ports.origin)) {
        if let Some(port) = identity.ports.value.iter().find(|port| !pod.ports.contains(port)) {
            let claimed = format!("{} says {port}", identity.ports.origin);
            return Err(refused(claimed, format!("{} has no such port", pod.origin)));
        }
        identity.ports = Sourced::new(pod.ports.clone(), pod.origin.clone());
    }
    Ok(())
}

fn refused(asked: String, against: String) -> Failure {
    let cause = Cause::NotPermitted { asked: clipped(asked), against: clipped(against) };
    Failure::new("take the container for the pod it belongs to", cause)
}

/// Whether the container itself said it: an annotation of ours.
fn claims(origin: &Origin) -> bool {
    matches!(origin, Origin::Annotation { key } if key.starts_with(PREFIX))
}

/// Whether the engine said it.
fn is_engines(origin: &Origin) -> bool {
    origin.is_annotation() && !claims(origin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Transport;
    use crate::oci::Requests;
    use crate::policy::names::{parse_labels, parse_ports};
    use crate::settings::Settings;

    fn identity(annotations: &[(&str, &str)]) -> Identity {
        let map = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Settings::decide(None, Requests::parse(&map).unwrap()).unwrap().identity
    }

    fn pod(name: &str, labels: &str, ports: &str) -> Pod {
        Pod {
            namespace: "shop".into(),
            name: name.into(),
            labels: parse_labels(labels).unwrap(),
            addresses: Vec::new(),
            ports: if ports.is_empty() { Vec::new() } else { parse_ports(ports).unwrap() },
            host_network: false,
            node: None,
            origin: Origin::File { path: "pods.yaml".into(), line: 3, at: "metadata".into() },
        }
    }

    fn inventory() -> Inventory {
        let pods = vec![pod("other", "app=db", ""), pod("web-1", "app=web,tier=front", "http=8080/tcp")];
        Inventory { pods, ..Inventory::default() }
    }

    const WEB: [(&str, &str); 2] =
        [("io.kubernetes.cri.sandbox-namespace", "shop"), ("io.kubernetes.cri.sandbox-name", "web-1")];

    #[test]
    fn a_manifest_says_what_the_engine_does_not() {
        let mut web = identity(&WEB);
        assert!(web.labels.value.is_empty());
        complete(&mut web, &inventory()).unwrap();
        assert_eq!(web.labels.value, parse_labels("app=web,tier=front").unwrap());
        assert_eq!(web.labels.origin.to_string(), "pods.yaml:3 metadata");
        assert_eq!(web.ports.value, parse_ports("http=8080/tcp").unwrap());
        assert_eq!(web.ports.origin, web.labels.origin);
        assert_eq!(web.pod.as_ref().unwrap().origin.to_string(), "annotation io.kubernetes.cri.sandbox-name");
    }

    #[test]
    fn a_manifest_of_another_pod_says_nothing() {
        for annotations in [
            vec![],
            vec![("io.netlatch.namespace", "shop")],
            vec![("io.netlatch.namespace", "shop"), ("io.kubernetes.pod.name", "web-2")],
            vec![("io.netlatch.namespace", "test"), ("io.kubernetes.pod.name", "web-1")],
            vec![("io.kubernetes.pod.name", "web-1")],
        ] {
            let before = identity(&annotations);
            let mut after = before.clone();
            complete(&mut after, &inventory()).unwrap();
            assert_eq!(after, before, "{annotations:?}");
            assert!(!inventory().pods.iter().any(|pod| is_same_pod(&after, pod)));
        }
        let same: Vec<bool> = inventory().pods.iter().map(|pod| is_same_pod(&identity(&WEB), pod)).collect();
        assert_eq!(same, [false, true]);
    }

    #[test]
    fn a_container_may_repeat_its_manifest_and_claim_nothing_else() {
        let claiming = |key, value| {
            let mut claiming = identity(&[&WEB[..], &[(key, value)]].concat());
            complete(&mut claiming, &inventory()).map(|()| claiming).map_err(|failure| failure.to_string())
        };
        let web = claiming("io.netlatch.labels", "app=web").unwrap();
        assert_eq!(web.labels.value.len(), 2, "the manifest counts in whole");
        assert_eq!(claiming("io.netlatch.ports", "http=8080/tcp").unwrap().ports.value.len(), 1);
        for (key, value, wanted) in [
            (
                "io.netlatch.labels",
                "app=db",
                "annotation io.netlatch.labels says app=db, but pods.yaml:3 metadata says app=web;",
            ),
            (
                "io.netlatch.labels",
                "app=web,role=admin",
                "says role=admin, but pods.yaml:3 metadata has no label role;",
            ),
            ("io.netlatch.ports", "http=22/tcp", "says http=22/tcp, but pods.yaml:3 metadata has no such port;"),
            ("io.netlatch.ports", "http=8080/udp", "says http=8080/udp, but"),
            ("io.netlatch.ports", "http=8080/tcp,ssh=22/tcp", "says ssh=22/tcp, but"),
        ] {
            let line = claiming(key, value).expect_err(value);
            assert!(line.contains(wanted), "{line}");
        }
        let mut bare = identity(&[
            ("io.netlatch.namespace", "shop"),
            ("io.kubernetes.pod.name", "other"),
            ("io.netlatch.ports", "a=1"),
        ]);
        assert_eq!(complete(&mut bare, &inventory()).unwrap_err().exit_code(), 17);
    }

    #[test]
    fn what_the_engine_says_stays() {
        let crio = [
            ("io.kubernetes.pod.namespace", "shop"),
            ("io.kubernetes.pod.name", "web-1"),
            ("io.kubernetes.cri-o.ContainerType", "sandbox"),
            ("io.kubernetes.cri-o.Labels", r#"{"app":"newer"}"#),
        ];
        let mut sandbox = identity(&crio);
        complete(&mut sandbox, &inventory()).unwrap();
        assert_eq!(sandbox.labels.value, parse_labels("app=newer").unwrap());
        assert_eq!(sandbox.ports.value.len(), 1, "but it says no ports");

        let mut container = identity(
            &[
                &WEB[..],
                &[
                    ("io.kubernetes.cri.container-type", "container"),
                    ("io.kubernetes.container.ports", r#"[{"name":"x","containerPort":1}]"#),
                ],
            ]
            .concat(),
        );
        complete(&mut container, &inventory()).unwrap();
        assert_eq!(container.ports.value[0].name, "x");
        assert_eq!(container.labels.value["app"], "web");
    }

    #[test]
    fn labels_that_could_not_be_had_are_no_labels_for_a_policy() {
        let lost = [
            ("io.kubernetes.pod.namespace", "shop"),
            ("io.kubernetes.pod.name", "web-1"),
            ("io.kubernetes.cri-o.ContainerType", "container"),
            ("io.kubernetes.cri-o.SandboxID", "5a"),
        ];
        let mut identity = identity(&lost);
        let failure = identity.to_policies(Labels::new()).unwrap_err();
        assert_eq!(failure.exit_code(), 13);
        assert!(failure.to_string().contains("config.json of sandbox 5a"), "{failure}");
        complete(&mut identity, &inventory()).unwrap();
        let namespace = Labels::from([("team".to_owned(), "a".to_owned())]);
        let seen = identity.to_policies(namespace.clone()).unwrap();
        assert_eq!((seen.namespace.as_str(), seen.namespace_labels), ("shop", namespace));
        assert_eq!(seen.labels, parse_labels("app=web,tier=front").unwrap());
        assert_eq!(seen.ports, [NamedPort { name: "http".into(), port: 8080, protocol: Transport::Tcp }]);
    }
}
