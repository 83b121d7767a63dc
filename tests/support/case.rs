//! A reachability table written by others, as ../shared/cases has them, and what a host needs to know for it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use netlatch::net::Transport;
use serde::Deserialize;
use serde_json::{Value, json};

use super::engine::Identity;

/// One file, or a world made up in the same form.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Case {
    /// Its name.
    pub(crate) id: String,
    /// The folder's file for each policy.
    #[serde(default)]
    pub(crate) policies: Vec<String>,
    /// The policies as they are written: file names and texts.
    #[serde(skip)]
    pub(crate) documents: Vec<(String, String)>,
    /// Kubernetes namespaces.
    #[serde(default)]
    pub(crate) namespaces: Vec<Named>,
    /// Pods.
    #[serde(default)]
    pub(crate) pods: Vec<Pod>,
    /// Machines elsewhere.
    #[serde(default)]
    pub(crate) external: Vec<External>,
    /// Nodes.
    #[serde(default)]
    pub(crate) nodes: Vec<Node>,
    /// The table.
    #[serde(default)]
    pub(crate) expect: Vec<Expectation>,
}

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Named {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Pod {
    pub(crate) ns: String,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) ip: IpAddr,
    #[serde(default)]
    pub(crate) ports: Vec<Port>,
    #[serde(default)]
    pub(crate) host_network: bool,
}

/// A container port.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Port {
    pub(crate) name: Option<String>,
    pub(crate) port: u16,
    pub(crate) proto: String,
}

/// A machine elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct External {
    pub(crate) name: String,
    pub(crate) ip: IpAddr,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Node {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) ips: Vec<IpAddr>,
}

/// One cell of the table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Expectation {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) port: u16,
    pub(crate) proto: String,
    pub(crate) allowed: bool,
}

impl Expectation {
    /// Its protocol.
    pub(crate) fn transport(&self) -> Transport {
        match self.proto.as_str() {
            "TCP" => Transport::Tcp,
            "UDP" => Transport::Udp,
            "SCTP" => Transport::Sctp,
            other => panic!("no case has protocol {other}"),
        }
    }
}

impl Pod {
    /// `namespace/name`, as tables call it.
    pub(crate) fn full_name(&self) -> String {
        format!("{}/{}", self.ns, self.name)
    }

    /// Who it is to policies.
    pub(crate) fn identity(&self) -> Identity {
        let named = self.ports.iter().filter_map(|port| {
            Some(format!("{}={}/{}", port.name.as_ref()?, port.port, port.proto.to_ascii_lowercase()))
        });
        Identity {
            namespace: self.ns.clone(),
            name: self.name.clone(),
            labels: self.labels.clone(),
            ports: named.collect(),
        }
    }

    /// Its manifest.
    pub(crate) fn manifest(&self) -> Value {
        let ports: Vec<Value> = self.ports.iter().map(Port::manifest).collect();
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": self.ns, "name": self.name, "labels": self.labels},
            "spec": {"hostNetwork": self.host_network, "containers": [{"name": "c", "ports": ports}]},
            "status": {"podIPs": [{"ip": self.ip}]},
        })
    }
}

impl Port {
    fn manifest(&self) -> Value {
        let mut port = json!({"containerPort": self.port, "protocol": self.proto});
        if let Some(name) = &self.name {
            port["name"] = name.as_str().into();
        }
        port
    }
}

impl Case {
    /// Every end's name and address.
    pub(crate) fn ends(&self) -> Vec<(String, IpAddr)> {
        let pods = self.pods.iter().map(|pod| (pod.full_name(), pod.ip));
        pods.chain(self.external.iter().map(|external| (external.name.clone(), external.ip))).collect()
    }

    /// What the host knows without having started it: namespaces, nodes, and pods on the network of other hosts.
    pub(crate) fn manifests(&self) -> Vec<(String, String)> {
        let mut objects = Vec::new();
        for (i, Named { name, labels }) in self.namespaces.iter().enumerate() {
            let namespace =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
            objects.push((format!("namespace-{i}.json"), namespace.to_string()));
        }
        for (i, Node { name, labels, ips }) in self.nodes.iter().enumerate() {
            let addresses: Vec<Value> = ips.iter().map(|ip| json!({"type": "InternalIP", "address": ip})).collect();
            let node = json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": {"name": name, "labels": labels}, "status": {"addresses": addresses},
            });
            objects.push((format!("node-{i}.json"), node.to_string()));
        }
        for (i, pod) in self.pods.iter().enumerate().filter(|(_, pod)| pod.host_network) {
            objects.push((format!("pod-{i}.json"), pod.manifest().to_string()));
        }
        objects
    }
}

/// ../shared/cases next to the project, or where `NETLATCH_CASES` says.
pub(crate) fn folder() -> PathBuf {
    std::env::var_os("NETLATCH_CASES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/cases"), PathBuf::from)
}

/// One file of the folder, read.
pub(crate) fn read(file: &str) -> Case {
    let path = folder().join(file);
    let text = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut case: Case = serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    case.documents = policies(&case);
    case
}

/// The policies of a case: the files as they are.
fn policies(case: &Case) -> Vec<(String, String)> {
    let mut names = BTreeSet::new();
    let read = |file: &String| {
        let name = file.replace('/', "--");
        assert!(names.insert(name.clone()), "{}: {file} is named twice", case.id);
        let path = folder().join(file);
        (name, std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
    };
    case.policies.iter().map(read).collect()
}
