//! Who there is: pods, namespaces, nodes and services, from manifests and from the containers of this host.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::model::{Labels, Selector};
use super::names::NamedPort;
use super::watch::Identity;
use crate::net::{Origin, Transport};

/// The label that carries a namespace's name. The API server sets it on every namespace and refuses another value.
pub const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Everything that was read about who there is, in the order of reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// `v1 Namespace`.
    pub namespaces: Vec<Namespace>,
    /// `v1 Pod`, and containers of this host.
    pub pods: Vec<Pod>,
    /// `v1 Node`.
    pub nodes: Vec<Node>,
    /// `v1 Service`.
    pub services: Vec<Service>,
    /// `discovery.k8s.io/v1 EndpointSlice`.
    pub slices: Vec<EndpointSlice>,
}

impl Inventory {
    /// The labels of the namespace `name`. One that was not read has its name as its only label.
    pub fn namespace_labels(&self, name: &str) -> Labels {
        match self.namespaces.iter().find(|namespace| namespace.name == name) {
            Some(namespace) => namespace.labels.clone(),
            None => only_its_name(name),
        }
    }

    /// The pods that can be peers, with their addresses: those on the host's network are selected by nobody.
    pub fn peers<'a>(&'a self) -> Vec<(Identity, &'a [IpAddr])> {
        let mut labels: BTreeMap<&'a str, Labels> = BTreeMap::new();
        let peers = self.pods.iter().filter(|pod| !pod.host_network && !pod.addresses.is_empty());
        let peer = |pod: &'a Pod| {
            let of_namespace = labels.entry(&pod.namespace).or_insert_with(|| self.namespace_labels(&pod.namespace));
            (pod.identity(of_namespace.clone()), pod.addresses.as_slice())
        };
        peers.map(peer).collect()
    }
}

/// The labels of a namespace that nothing was read of: the one that the API server sets (R7).
pub(super) fn only_its_name(namespace: &str) -> Labels {
    [(NAMESPACE_NAME_LABEL.to_owned(), namespace.to_owned())].into()
}

impl Pod {
    /// What selectors see of it.
    pub fn identity(&self, namespace_labels: Labels) -> Identity {
        Identity {
            namespace: self.namespace.clone(),
            namespace_labels,
            labels: self.labels.clone(),
            ports: self.ports.clone(),
        }
    }

    /// A container of this host.
    pub fn of_container(id: &str, identity: &Identity, addresses: Vec<IpAddr>) -> Pod {
        Pod {
            namespace: identity.namespace.clone(),
            name: id.to_owned(),
            labels: identity.labels.clone(),
            addresses,
            ports: identity.ports.clone(),
            host_network: false,
            node: None,
            origin: Origin::Builtin("a container of this host"),
        }
    }
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels, [`NAMESPACE_NAME_LABEL`] among them.
    pub labels: Labels,
    /// Where it was written.
    pub origin: Origin,
}

/// A pod that runs, or is about to: `Succeeded` and `Failed` ones are no peers of anybody and are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name; for a container of this host its id.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// Its addresses, of both families; empty as long as it has none.
    pub addresses: Vec<IpAddr>,
    /// Its named ports, of containers and of initContainers that stay (`restartPolicy: Always`).
    pub ports: Vec<NamedPort>,
    /// Whether it is on the host's network: it is then selected by nobody, and its traffic is the node's.
    pub host_network: bool,
    /// `spec.nodeName`.
    pub node: Option<String>,
    /// Where it was written.
    pub origin: Origin,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// `status.addresses` that are addresses.
    pub addresses: Vec<IpAddr>,
    /// Where it was written.
    pub origin: Origin,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its virtual addresses: `clusterIPs` (or `clusterIP`), `externalIPs` and the load balancer's. None where it is headless.
    pub addresses: Vec<IpAddr>,
    /// `spec.selector`; `None` where it has none and its endpoints are written by hand.
    pub selector: Option<Selector>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Where it was written.
    pub origin: Origin,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; empty where it is the only one.
    pub name: String,
    /// TCP where nothing is written.
    pub transport: Transport,
    /// The port of the virtual address.
    pub port: u16,
    /// Where it leads at the pod.
    pub target: TargetPort,
}

/// Where a service's port leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// To this port.
    Number(u16),
    /// To the port that each pod gives this name.
    Named(String),
}

/// Some endpoints of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Its namespace.
    pub namespace: String,
    /// The service: the label `kubernetes.io/service-name`.
    pub service: String,
    /// Addresses that are ready, or whose readiness is unknown.
    pub addresses: Vec<IpAddr>,
    /// Ports: name, transport, number. A port without a number leads everywhere and is left out.
    pub ports: Vec<(String, Transport, u16)>,
    /// Where it was written.
    pub origin: Origin,
}
