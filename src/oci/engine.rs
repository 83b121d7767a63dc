//! What CRI-O and containerd write about a container's pod: its namespace and name, its labels, its named ports.
//!
//! ```text
//!                    containers                              the pod's sandbox
//! CRI-O              io.kubernetes.pod.{name,namespace}      the same, and io.kubernetes.cri-o.{KubeName,Namespace}
//!                    io.kubernetes.cri-o.Annotations: ports  io.kubernetes.cri-o.Labels: the pod's labels
//! containerd         io.kubernetes.cri.sandbox-{name,namespace} in both; labels nowhere, ports where
//!                    `container_annotations` passes io.kubernetes.container.ports
//! ```
//!
//! (CRI-O: internal/factory/container/container.go `SpecAddAnnotations`, server/sandbox_run_linux.go
//! `setupSandboxAnnotations`; containerd: internal/cri/annotations/annotations.go; the ports and the
//! `io.kubernetes.pod.` keys are the kubelet's, pkg/kubelet/kuberuntime/labels.go.)
//!
//! So a container's pod labels stand in its sandbox's config.json alone. What CRI-O calls `Labels` in a container's own
//! are the kubelet's about the container.
//!
//! **A pod's author writes annotations too**, and engines copy them: CRI-O all of them, into a sandbox's even over its own
//! keys. What the author cannot write over are a container's `io.kubernetes.cri-o.` keys that CRI-O has for containers,
//! the `io.kubernetes.pod.` keys (the kubelet's labels come last) and containerd's keys. Several keys say each thing, so one
//! that was made up contradicts another, and then the container does not start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::annotations::{Annotation, PREFIX, Reader, namespace};
use super::bundle::Bundle;
use super::json;
use super::request::Sourced;
use super::state::check_id;
use crate::document::shown;
use crate::error::{Cause, Failure, Finding};
use crate::net::{Origin, Transport};
use crate::policy::names::{
    MAX_LABELS, MAX_PORTS, NamedPort, check_count, check_label_key, check_label_value, check_pod_name, check_port_name,
};

type Annotations = BTreeMap<String, String>;

/// The keys that engines write the pod's namespace under: the kubelet's, which CRI-O copies; containerd's; CRI-O's for a
/// sandbox.
const NAMESPACE: [&str; 3] =
    ["io.kubernetes.pod.namespace", "io.kubernetes.cri.sandbox-namespace", "io.kubernetes.cri-o.Namespace"];
/// The same for its name.
const NAME: [&str; 3] = ["io.kubernetes.pod.name", "io.kubernetes.cri.sandbox-name", "io.kubernetes.cri-o.KubeName"];
/// The pod's labels, where CRI-O writes it of a sandbox.
const CRIO_LABELS: &str = "io.kubernetes.cri-o.Labels";
/// What CRI adds to the labels of a sandbox, and the API's pod does not have.
const NOT_THE_PODS: [&str; 4] =
    ["io.kubernetes.pod.name", "io.kubernetes.pod.namespace", "io.kubernetes.pod.uid", "io.kubernetes.container.name"];
/// A container's annotations as CRI-O got them from the kubelet, in JSON.
const CRIO_ANNOTATIONS: &str = "io.kubernetes.cri-o.Annotations";
/// A container's ports, in JSON.
const KUBELET_PORTS: &str = "io.kubernetes.container.ports";
/// Who runs the container: `cri-o`, or `libpod` for podman.
const MANAGER: &str = "io.container.manager";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    CriO,
    Containerd,
}

impl Engine {
    /// `sandbox` or `container`.
    const fn kind_key(self) -> &'static str {
        match self {
            Engine::CriO => "io.kubernetes.cri-o.ContainerType",
            Engine::Containerd => "io.kubernetes.cri.container-type",
        }
    }

    const fn sandbox_key(self) -> &'static str {
        match self {
            Engine::CriO => "io.kubernetes.cri-o.SandboxID",
            Engine::Containerd => "io.kubernetes.cri.sandbox-id",
        }
    }
}

/// What a container is to its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role<'a> {
    /// It has none that an engine tells of.
    Alone,
    /// It holds the pod's namespaces: the sandbox, also called pause or infra container.
    Sandbox(Engine),
    /// It is one of the pod's, whose sandbox has this id.
    Member(Engine, Option<&'a str>),
}

/// What is said; an empty value says nothing.
fn said<'a>(annotations: &'a Annotations, key: &str) -> Option<&'a str> {
    annotations.get(key).map(String::as_str).filter(|value| !value.is_empty())
}

fn is_podman(annotations: &Annotations) -> bool {
    // podman writes it over whatever its user or an image says.
    said(annotations, MANAGER) == Some("libpod")
}

/// `Err` holds the key that stands against another, and why.
fn role(annotations: &Annotations) -> Result<Role<'_>, (&'static str, String)> {
    // podman gives the containers of its pods some of CRI-O's keys and means nothing that concerns us.
    if is_podman(annotations) {
        return Ok(Role::Alone);
    }
    let speaks = |engine: Engine| {
        [engine.kind_key(), engine.sandbox_key()].into_iter().find(|key| said(annotations, key).is_some())
    };
    let engine = match (speaks(Engine::CriO), speaks(Engine::Containerd)) {
        (None, None) => return Ok(Role::Alone),
        (Some(_), None) => Engine::CriO,
        (None, Some(_)) => Engine::Containerd,
        (Some(crio), Some(containerd)) => {
            return Err((containerd, format!("stands beside {crio}; one engine cannot have written both")));
        }
    };
    let id = said(annotations, engine.sandbox_key());
    if let Some(Err(problem)) = id.map(check_id) {
        return Err((engine.sandbox_key(), problem));
    }
    match said(annotations, engine.kind_key()) {
        Some("sandbox") => Ok(Role::Sandbox(engine)),
        Some("container") | None => Ok(Role::Member(engine, id)),
        Some(other) => Err((engine.kind_key(), format!("expected sandbox or container, found {}", shown(other)))),
    }
}

/// The config.json of the sandbox of the container with these annotations, whose bundle is `bundle`: it says more of the
/// pod than the container's own. `None` where there is no pod, or the container is the sandbox.
///
/// CRI-O keeps a container in `<run root>/overlay-containers/<id>/userdata` (containers/storage, `ContainerRunDirectory`),
/// containerd in `<state>/io.containerd.runtime.v2.task/k8s.io/<id>` (core/runtime/v2/bundle.go).
pub fn sandbox_file(annotations: &Annotations, bundle: &Path) -> Option<PathBuf> {
    match role(annotations) {
        Ok(Role::Member(Engine::CriO, Some(id))) => {
            Some(bundle.parent()?.parent()?.join(id).join("userdata/config.json"))
        }
        Ok(Role::Member(Engine::Containerd, Some(id))) => Some(bundle.parent()?.join(id).join("config.json")),
        // A mistake is told where annotations are read.
        Ok(Role::Alone | Role::Sandbox(_) | Role::Member(_, None)) | Err(_) => None,
    }
}

/// Each label that somebody `claimed` and those who know do not say, as `app=db`, with what they say.
pub fn contradicted_labels(claimed: &Annotations, known: &Sourced<Annotations>) -> Vec<(String, String)> {
    let contradicted = |(key, value): (&String, &String)| {
        let theirs = match known.value.get(key) {
            Some(theirs) if theirs == value => return None,
            Some(theirs) => format!("{} says {key}={theirs}", known.origin),
            None => format!("{} has no label {key}", known.origin),
        };
        Some((format!("{key}={value}"), theirs))
    };
    claimed.iter().filter_map(contradicted).collect()
}

/// A set of annotations, the container's own or its sandbox's.
#[derive(Clone, Copy)]
struct Source<'a> {
    annotations: &'a Annotations,
    sandbox: Option<&'a str>,
}

impl<'a> Source<'a> {
    /// The key as messages name it. As many digits of the id as engines show.
    fn named(&self, key: &str) -> String {
        match self.sandbox {
            None => key.to_owned(),
            Some(id) => format!("{key} of sandbox {}", id.get(..12).unwrap_or(id)),
        }
    }

    fn origin(&self, key: &str) -> Origin {
        Origin::Annotation { key: self.named(key) }
    }

    fn said(&self, key: &str) -> Option<&'a str> {
        said(self.annotations, key)
    }
}

/// What stands under `keys`, the container's own first; what a sandbox only repeats is left out.
fn said_in<'a>(sources: &'a [Source<'a>], keys: [&'static str; 3]) -> Vec<(&'a Source<'a>, &'static str, &'a str)> {
    let mut said: Vec<(&Source<'_>, &str, &str)> = Vec::new();
    for (source, key) in sources.iter().flat_map(|source| keys.map(|key| (source, key))) {
        if let Some(value) = source.said(key)
            && !said.iter().any(|(_, before, same)| (*before, *same) == (key, value))
        {
            said.push((source, key, value));
        }
    }
    said
}

impl Reader {
    /// Reads what the engine says, and what the sandbox's annotations ask for where the container's own do not.
    pub(super) fn read_pod(&mut self, annotations: &Annotations, sandbox: Option<&Bundle>) {
        let own = Source { annotations, sandbox: None };
        let role = match role(annotations) {
            Ok(role) => role,
            Err((key, problem)) => return self.refuse(key, problem),
        };
        let beside = match (role, sandbox.and_then(|bundle| bundle.annotations.as_ref())) {
            (Role::Member(engine, Some(id)), Some(annotations)) => {
                let beside = Source { annotations, sandbox: Some(id) };
                self.check_sandbox(engine, id, beside);
                Some(beside)
            }
            (Role::Alone | Role::Sandbox(_) | Role::Member(..), _) => None,
        };
        let asked = beside.map(|beside| self.read_sandbox(own, beside)).unwrap_or_default();
        let sources: Vec<Source<'_>> = [own].into_iter().chain(beside).collect();
        self.requests.namespace = self.requests.namespace.take().or(asked.namespace);
        self.read_namespace(&sources);
        self.read_name(&sources);
        self.read_labels(role, own, beside, asked.labels);
        self.requests.ports = self.requests.ports.take().or(asked.ports);
        self.read_ports(role, own);
    }

    fn check_sandbox(&mut self, engine: Engine, id: &str, beside: Source<'_>) {
        for (key, wanted) in [(engine.kind_key(), "sandbox"), (engine.sandbox_key(), id)] {
            if let Some(found) = beside.said(key).filter(|found| *found != wanted) {
                self.refuse(&beside.named(key), format!("expected {wanted}, found {}", shown(found)));
            }
        }
    }

    /// What the annotations that only the sandbox has ask for. Of these, only who the pod is counts for its containers.
    fn read_sandbox(&mut self, own: Source<'_>, beside: Source<'_>) -> super::Requests {
        let mut reader = Reader::default();
        for (key, value) in beside.annotations.iter().filter(|(key, _)| !own.annotations.contains_key(*key)) {
            reader.read(key, value);
        }
        let findings = reader.findings.into_iter();
        self.findings.extend(findings.map(|finding| Finding { file: beside.named(&finding.file), ..finding }));
        let mut asked = reader.requests;
        let from_sandbox = |origin: &mut Origin| {
            if let Origin::Annotation { key } = origin {
                *key = beside.named(key);
            }
        };
        asked.namespace.iter_mut().for_each(|namespace| from_sandbox(&mut namespace.origin));
        asked.labels.iter_mut().for_each(|labels| from_sandbox(&mut labels.origin));
        asked.ports.iter_mut().for_each(|ports| from_sandbox(&mut ports.origin));
        let identity = |kind: &Annotation| match kind {
            Annotation::Namespace | Annotation::Labels | Annotation::Ports => true,
            Annotation::Egress
            | Annotation::Ingress
            | Annotation::Ipv6
            | Annotation::Devconf
            | Annotation::Sysctl
            | Annotation::Mode
            | Annotation::OnDenied => false,
        };
        let given = asked.given.iter().filter(|(_, kind)| identity(kind));
        self.requests.given.extend(given.map(|(key, kind)| (beside.named(key), *kind)));
        asked
    }

    /// A container cannot claim another namespace than its engine put it in.
    fn read_namespace(&mut self, sources: &[Source<'_>]) {
        for (source, key, value) in said_in(sources, NAMESPACE) {
            let key = source.named(key);
            self.podmans_word(source, &key, Annotation::Namespace);
            let Some(theirs) = self.keep(&key, namespace(value)) else { continue };
            match &self.requests.namespace {
                None => self.requests.namespace = Some(theirs),
                Some(ours) if ours.value == theirs.value => {}
                Some(ours) => {
                    let message = format!("says {}, and {} says {}", theirs.value, ours.origin, ours.value);
                    self.refuse(&key, message);
                }
            }
        }
    }

    fn read_name(&mut self, sources: &[Source<'_>]) {
        let mut found: Option<(String, &str)> = None;
        for (source, key, value) in said_in(sources, NAME) {
            let key = source.named(key);
            self.podmans_word(source, &key, Annotation::Labels);
            match &found {
                None => found = Some((key, value)),
                Some((_, before)) if *before == value => {}
                Some((other, before)) => {
                    let message = format!("says {}, and annotation {other} says {}", shown(value), shown(before));
                    self.refuse(&key, message);
                }
            }
        }
        // CRI takes names that no pod of Kubernetes has; they lead to no manifest.
        let valid = found.filter(|(_, value)| check_pod_name(value).is_ok());
        self.requests.pod = valid.map(|(key, value)| Sourced::new(value.to_owned(), Origin::Annotation { key }));
    }

    /// Where podman is the engine, such a key is its user's or an image's word and needs the same permission as ours.
    fn podmans_word(&mut self, source: &Source<'_>, key: &str, kind: Annotation) {
        if is_podman(source.annotations) && source.sandbox.is_none() {
            self.requests.given.push((key.to_owned(), kind));
        }
    }

    /// The engine's labels count in whole. An annotation of ours may repeat them and say nothing else.
    fn read_labels(
        &mut self,
        role: Role<'_>,
        own: Source<'_>,
        beside: Option<Source<'_>>,
        asked: Option<Sourced<Annotations>>,
    ) {
        let unknown = |file: String, problem: &str| {
            let problem = format!("{problem}, and nothing else tells the pod's labels");
            Some(Failure::new("learn the pod's labels", Cause::Bundle { file, problem }))
        };
        let teller = match (role, beside) {
            (Role::Alone | Role::Sandbox(Engine::Containerd) | Role::Member(Engine::Containerd, _), _) => None,
            (Role::Sandbox(Engine::CriO), _) => Some(own),
            (Role::Member(Engine::CriO, _), Some(beside)) => Some(beside),
            (Role::Member(Engine::CriO, Some(id)), None) => {
                let file = format!("config.json of sandbox {id}");
                self.requests.labels_unknown = unknown(file, "it is missing (ENOENT) or has no annotations");
                None
            }
            (Role::Member(Engine::CriO, None), None) => {
                let file = "config.json".to_owned();
                self.requests.labels_unknown = unknown(file, "io.kubernetes.cri-o.SandboxID is missing");
                None
            }
        };
        let theirs = teller.and_then(|teller| match teller.said(CRIO_LABELS) {
            Some(text) => self.parse_crio_labels(teller, text),
            None => {
                let file = teller.named("config.json");
                self.requests.labels_unknown = unknown(file, "io.kubernetes.cri-o.Labels is missing");
                None
            }
        });
        let Some(theirs) = theirs else {
            self.requests.labels = self.requests.labels.take().or(asked);
            return;
        };
        for claim in self.requests.labels.take().into_iter().chain(asked) {
            let key = match &claim.origin {
                Origin::Annotation { key } => key.clone(),
                Origin::Builtin(_) | Origin::File { .. } | Origin::Bundle { .. } => format!("{PREFIX}labels"),
            };
            for (claimed, known) in contradicted_labels(&claim.value, &theirs) {
                self.refuse(&key, format!("says {claimed}, and {known}"));
            }
        }
        self.requests.labels = Some(theirs);
    }

    fn parse_crio_labels(&mut self, teller: Source<'_>, text: &str) -> Option<Sourced<Annotations>> {
        let key = teller.named(CRIO_LABELS);
        let mut labels = match serde_json::from_str::<Option<json::Strings>>(text) {
            Ok(labels) => labels.map(|labels| labels.0).unwrap_or_default(),
            Err(error) => {
                self.refuse(&key, json::problem(&error));
                return None;
            }
        };
        labels.retain(|label, _| !NOT_THE_PODS.contains(&label.as_str()));
        if let Err(problem) = check_count(labels.len(), (MAX_LABELS, "MAX_LABELS")) {
            self.refuse(&key, problem);
            return None;
        }
        for (label, value) in &labels {
            if let Err(problem) = check_label_key(label).and_then(|()| check_label_value(value)) {
                self.refuse(&key, format!("{}: {problem}", shown(&format!("{label}={value}"))));
            }
            // CRI-O also writes each label as an annotation of its own, last of all.
            if let Some(plain) = teller.annotations.get(label).filter(|plain| *plain != value) {
                let (value, plain) = (shown(value), shown(plain));
                self.refuse(&key, format!("says {value} for {}, and the label itself says {plain}", shown(label)));
            }
        }
        Some(Sourced::new(labels, teller.origin(CRIO_LABELS)))
    }

    /// The kubelet says the ports of one container; an annotation may add those of the pod's others.
    fn read_ports(&mut self, role: Role<'_>, own: Source<'_>) {
        let Role::Member(engine, _) = role else { return };
        // CRI-O writes this key itself, while the plain one may be the pod author's.
        let crios = own.said(CRIO_ANNOTATIONS).filter(|_| engine == Engine::CriO);
        let (key, text) = match crios.map(serde_json::from_str::<Option<json::Strings>>) {
            Some(Ok(kubelets)) => {
                let text = kubelets.and_then(|mut kubelets| kubelets.0.remove(KUBELET_PORTS));
                (format!("{CRIO_ANNOTATIONS} {KUBELET_PORTS}"), text)
            }
            Some(Err(error)) => return self.refuse(CRIO_ANNOTATIONS, json::problem(&error)),
            None => (KUBELET_PORTS.to_owned(), own.said(KUBELET_PORTS).map(str::to_owned)),
        };
        let Some(Some(theirs)) = text.map(|text| self.keep(&key, kubelet_ports(&text))) else { return };
        if theirs.value.is_empty() {
            return;
        }
        let Some(ours) = self.requests.ports.take() else {
            self.requests.ports = Some(theirs);
            return;
        };
        let same = |a: &NamedPort, b: &NamedPort| a.name == b.name && a.protocol == b.protocol;
        for port in &ours.value {
            let others: Vec<_> = theirs.value.iter().filter(|other| same(port, other)).collect();
            if !others.is_empty() && !others.contains(&port) {
                let message = format!("says {port}, and {} says {}", theirs.origin, others[0]);
                self.refuse(&format!("{PREFIX}ports"), message);
            }
        }
        let mut ports = ours.value;
        ports.extend(theirs.value);
        ports.sort_unstable();
        ports.dedup();
        let origin = match ours.origin {
            Origin::Annotation { key: ours } => Origin::Annotation { key: format!("{ours} and {key}") },
            other @ (Origin::Builtin(_) | Origin::File { .. } | Origin::Bundle { .. }) => other,
        };
        self.requests.ports = Some(Sourced::new(ports, origin));
    }
}

/// `v1.ContainerPort`, of which the API server has checked what is here.
#[derive(Deserialize)]
struct ContainerPort {
    #[serde(default)]
    name: String,
    #[serde(rename = "containerPort")]
    port: u16,
    #[serde(default)]
    protocol: String,
}

/// The named ones.
fn kubelet_ports(text: &str) -> Result<Vec<NamedPort>, String> {
    let ports: Option<Vec<ContainerPort>> = serde_json::from_str(text).map_err(|error| json::problem(&error))?;
    let mut named = Vec::new();
    for ContainerPort { name, port, protocol } in ports.unwrap_or_default() {
        if name.is_empty() {
            continue;
        }
        check_port_name(&name).map_err(|problem| format!("{}: {problem}", shown(&name)))?;
        let protocol = match protocol.as_str() {
            "TCP" | "" => Transport::Tcp,
            "UDP" => Transport::Udp,
            "SCTP" => Transport::Sctp,
            other => return Err(format!("{name}: expected one of TCP, UDP, SCTP, found {}", shown(other))),
        };
        if port == 0 {
            return Err(format!("{name}: 0 is no port"));
        }
        named.push(NamedPort { name, port, protocol });
    }
    named.sort_unstable();
    named.dedup();
    check_count(named.len(), (MAX_PORTS, "MAX_PORTS"))?;
    Ok(named)
}

#[cfg(test)]
mod tests;
