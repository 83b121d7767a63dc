//! Who is who: a [`World`] answers the questions that policies ask of an [`Inventory`].

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::OnceLock;

use super::compile::parts;
use super::model::Labels;
use super::world::{
    EndpointSlice, Inventory, NAMESPACE_NAME_LABEL, Node, Pod, Service, ServicePort, TargetPort, only_its_name,
};
use crate::net::{Family, Transport};

/// An inventory with its indexes. Where two objects claim one name or address, the first holds; the reader of manifests
/// refuses such inventories.
#[derive(Clone, Debug, Default)]
pub struct World {
    inventory: Inventory,
    /// By namespace and name.
    pods: BTreeMap<String, BTreeMap<String, usize>>,
    /// Pods with a network of their own.
    by_address: BTreeMap<IpAddr, usize>,
    /// Labels of every namespace that has an object or a pod.
    namespaces: BTreeMap<String, Labels>,
    nodes: BTreeMap<IpAddr, usize>,
    /// By node name: its addresses, and those of the pods on its network.
    of_node: BTreeMap<String, BTreeSet<IpAddr>>,
    services: BTreeMap<IpAddr, usize>,
    /// Of each service, the pods that it selects; looked for when first asked.
    selected: Vec<OnceLock<Vec<usize>>>,
    /// By namespace and service.
    slices: BTreeMap<String, BTreeMap<String, Vec<usize>>>,
}

/// One end of a flow: a pod or something else, and the addresses it may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End<'w> {
    /// The pod; `None` for an address that is no pod's.
    pub pod: Option<&'w Pod>,
    /// Its addresses; empty for a pod that has none yet.
    pub addresses: Vec<IpAddr>,
}

/// What stands behind one port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint<'w> {
    /// The pod, where the address is a pod's.
    pub pod: Option<&'w Pod>,
    /// Its address.
    pub address: IpAddr,
    /// The port there.
    pub port: u16,
}

impl World {
    /// Indexes an inventory.
    pub fn new(inventory: Inventory) -> World {
        let mut world = World::default();
        for namespace in &inventory.namespaces {
            world.namespaces.entry(namespace.name.clone()).or_insert_with(|| {
                // R7: the API server sets it and refuses another value.
                let mut labels = namespace.labels.clone();
                labels.insert(NAMESPACE_NAME_LABEL.to_owned(), namespace.name.clone());
                labels
            });
        }
        for (index, node) in inventory.nodes.iter().enumerate() {
            let of_node = world.of_node.entry(node.name.clone()).or_default();
            for address in &node.addresses {
                world.nodes.entry(*address).or_insert(index);
                of_node.insert(*address);
            }
        }
        for (index, pod) in inventory.pods.iter().enumerate() {
            if !world.namespaces.contains_key(&pod.namespace) {
                world.namespaces.insert(pod.namespace.clone(), only_its_name(&pod.namespace));
            }
            if !world.pods.contains_key(&pod.namespace) {
                world.pods.insert(pod.namespace.clone(), BTreeMap::new());
            }
            if let Some(pods) = world.pods.get_mut(&pod.namespace) {
                pods.entry(pod.name.clone()).or_insert(index);
            }
            match (pod.host_network, &pod.node) {
                (false, _) => pod.addresses.iter().for_each(|address| {
                    world.by_address.entry(*address).or_insert(index);
                }),
                // L6: its addresses are the node's.
                (true, Some(node)) => world.of_node.entry(node.clone()).or_default().extend(&pod.addresses),
                (true, None) => {}
            }
        }
        for (index, service) in inventory.services.iter().enumerate() {
            for address in &service.addresses {
                world.services.entry(*address).or_insert(index);
            }
        }
        for (index, slice) in inventory.slices.iter().enumerate() {
            let services = world.slices.entry(slice.namespace.clone()).or_default();
            services.entry(slice.service.clone()).or_default().push(index);
        }
        world.selected = vec![OnceLock::new(); inventory.services.len()];
        world.inventory = inventory;
        world
    }

    /// What it was made of.
    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// The pod of this namespace and name.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<&Pod> {
        self.pods.get(namespace)?.get(name).map(|index| &self.inventory.pods[*index])
    }

    /// The pod that has this address. Pods on the host's network have none of their own (L6).
    pub fn pod_at(&self, address: IpAddr) -> Option<&Pod> {
        self.by_address.get(&address).map(|index| &self.inventory.pods[*index])
    }

    /// The node that has this address.
    pub fn node_at(&self, address: IpAddr) -> Option<&Node> {
        self.nodes.get(&address).map(|index| &self.inventory.nodes[*index])
    }

    /// Labels of a namespace. Without an object it has the one that the API server sets (R7).
    pub fn namespace_labels(&self, name: &str) -> Cow<'_, Labels> {
        match self.namespaces.get(name) {
            Some(labels) => Cow::Borrowed(labels),
            None => Cow::Owned(only_its_name(name)),
        }
    }

    /// Whether an address is this node's, or that of a pod on its network.
    pub fn is_of_node(&self, node: &str, address: IpAddr) -> bool {
        self.of_node.get(node).is_some_and(|addresses| addresses.contains(&address))
    }

    /// Addresses of a node and of the pods on its network, ascending.
    pub fn addresses_of_node(&self, node: &str) -> impl Iterator<Item = IpAddr> {
        self.of_node.get(node).into_iter().flatten().copied()
    }

    /// The end that a pod is. One on the host's network that has no address yet uses the node's.
    pub fn end_of<'w>(&'w self, pod: &'w Pod) -> End<'w> {
        let mut addresses = pod.addresses.clone();
        if let (true, true, Some(node)) = (pod.host_network, addresses.is_empty(), &pod.node) {
            addresses.extend(self.addresses_of_node(node));
        }
        End { pod: Some(pod), addresses }
    }

    /// The end that an address is: that of the pod that has it, in this family alone, or a plain address.
    pub fn end_at(&self, address: IpAddr) -> End<'_> {
        End { pod: self.pod_at(address), addresses: vec![address] }
    }

    /// The service that has this virtual address.
    pub fn service_at(&self, address: IpAddr) -> Option<&Service> {
        self.services.get(&address).map(|index| &self.inventory.services[*index])
    }

    /// What stands behind a port of a virtual address, in the address's family: from the service's EndpointSlices, or,
    /// where none is listed, the pods that it selects. Empty where it is no service's, has no such port or nobody
    /// behind it.
    pub fn endpoints(&self, address: IpAddr, transport: Transport, port: u16) -> Vec<Endpoint<'_>> {
        let Some(index) = self.services.get(&address).copied() else { return Vec::new() };
        let service = &self.inventory.services[index];
        let is_it = |known: &&ServicePort| known.transport == transport && known.port == port;
        let Some(port) = service.ports.iter().find(is_it) else { return Vec::new() };
        let slices = self.slices.get(&service.namespace).and_then(|services| services.get(&service.name));
        let mut endpoints: Vec<Endpoint<'_>> = match slices {
            Some(slices) => {
                slices.iter().flat_map(|index| self.of_slice(&self.inventory.slices[*index], port)).collect()
            }
            None => self.behind(index, port).collect(),
        };
        endpoints.retain(|endpoint| Family::of(endpoint.address) == Family::of(address));
        endpoints.sort_by_key(|endpoint| (endpoint.address, endpoint.port));
        endpoints.dedup();
        endpoints
    }

    /// An endpoint's port carries the name of the service's port (discovery/v1, `EndpointPort.Name`).
    fn of_slice<'w>(&'w self, slice: &'w EndpointSlice, of: &'w ServicePort) -> impl Iterator<Item = Endpoint<'w>> {
        let ports = slice.ports.iter().filter(|(name, transport, _)| *name == of.name && *transport == of.transport);
        ports.flat_map(|(_, _, port)| {
            slice.addresses.iter().map(|address| Endpoint {
                pod: self.pod_at(*address),
                address: *address,
                port: *port,
            })
        })
    }

    /// How much is looked at to find what stands behind one port of a service, at most.
    pub fn questions(&self, service: &Service) -> usize {
        let pods = self.pods.get(&service.namespace).map_or(0, BTreeMap::len);
        let selected = service.selector.as_ref().map_or(0, |selector| parts(selector).saturating_mul(pods));
        let slices = self.slices.get(&service.namespace).and_then(|services| services.get(&service.name));
        let of_slice = |index: &usize| {
            let EndpointSlice { ports, addresses, .. } = &self.inventory.slices[*index];
            (1 + addresses.len()).saturating_mul(1 + ports.len())
        };
        slices.map_or(selected, |slices| slices.iter().map(of_slice).fold(0, usize::saturating_add))
    }

    /// An empty selector of a service is none (core/v1, `ServiceSpec.Selector`): its endpoints are written by hand.
    fn selected_by(&self, service: &Service) -> Vec<usize> {
        let Some(selector) = service.selector.as_ref().filter(|selector| !selector.requirements.is_empty()) else {
            return Vec::new();
        };
        let pods = self.pods.get(&service.namespace).into_iter().flat_map(BTreeMap::values).copied();
        pods.filter(|index| selector.selects(&self.inventory.pods[*index].labels)).collect()
    }

    /// The pods that the service of this index selects, each with the port that `of` leads to there.
    fn behind<'w>(&'w self, service: usize, of: &'w ServicePort) -> impl Iterator<Item = Endpoint<'w>> {
        let find = || self.selected_by(&self.inventory.services[service]);
        let selected = self.selected[service].get_or_init(find).iter().map(|index| &self.inventory.pods[*index]);
        selected.flat_map(|pod| {
            let port = match &of.target {
                TargetPort::Number(port) => Some(*port),
                TargetPort::Named(name) => pod.port_named(name, of.transport),
            };
            let end = self.end_of(pod);
            let pod = (!pod.host_network).then_some(pod);
            port.into_iter().flat_map(move |port| {
                end.addresses.clone().into_iter().map(move |address| Endpoint { pod, address, port })
            })
        })
    }
}

impl Pod {
    /// Whether it gives this name to this port. Two containers of a pod may use one name for two ports.
    pub fn names_port(&self, name: &str, transport: Transport, number: u16) -> bool {
        self.ports.iter().any(|port| port.name == name && port.protocol == transport && port.port == number)
    }

    /// The number that the pod gives to a named port of a transport; the first, as for services
    /// (k8s.io/kubernetes/pkg/api/v1/pod, `FindPort`).
    pub fn port_named(&self, name: &str, transport: Transport) -> Option<u16> {
        self.ports.iter().find(|port| port.name == name && port.protocol == transport).map(|port| port.port)
    }

    /// Whether this is the same pod: a name is given once in a namespace.
    pub fn is(&self, other: &Pod) -> bool {
        self.namespace == other.namespace && self.name == other.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::parse::Collector;

    fn world(text: &str) -> World {
        let mut collector = Collector::new();
        collector.read("w.yaml", text.as_bytes());
        World::new(collector.finish().manifests.expect("no mistakes").inventory)
    }

    fn addresses(end: &End<'_>) -> Vec<String> {
        end.addresses.iter().map(ToString::to_string).collect()
    }

    const NODE: &str = "{apiVersion: v1, kind: Node, metadata: {name: n}, status: {addresses: [{type: InternalIP, address: 10.0.0.1}]}}\n---\n";

    #[test]
    fn a_pod_on_the_hosts_network_has_its_nodes_addresses_and_no_own() {
        let world = world(&format!(
            "{NODE}{{apiVersion: v1, kind: Pod, metadata: {{name: a, namespace: x}}, spec: {{nodeName: n, hostNetwork: true}}}}\n---\n\
             {{apiVersion: v1, kind: Pod, metadata: {{name: b, namespace: x}}, spec: {{nodeName: n, hostNetwork: true}}, status: {{podIP: 10.0.0.9}}}}"
        ));
        assert_eq!(addresses(&world.end_of(world.pod("x", "a").unwrap())), ["10.0.0.1", "10.0.0.9"]);
        assert_eq!(addresses(&world.end_of(world.pod("x", "b").unwrap())), ["10.0.0.9"]);
        assert!(world.pod_at("10.0.0.9".parse().unwrap()).is_none());
        assert!(world.is_of_node("n", "10.0.0.9".parse().unwrap()));
        assert_eq!(world.node_at("10.0.0.1".parse().unwrap()).map(|node| node.name.as_str()), Some("n"));
    }

    #[test]
    fn endpoints_come_from_slices_or_else_from_the_selector_in_the_family_of_the_address() {
        let pods = "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: x, labels: {app: a}}, spec: {containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}, status: {podIPs: [{ip: 10.1.0.1}, {ip: 'fd00::1'}]}}\n---\n\
                    {apiVersion: v1, kind: Pod, metadata: {name: b, namespace: x, labels: {app: a}}, spec: {containers: [{name: c, ports: [{name: http, containerPort: 81}]}]}, status: {podIPs: [{ip: 10.1.0.2}]}}\n---\n\
                    {apiVersion: v1, kind: Pod, metadata: {name: c, namespace: y, labels: {app: a}}, status: {podIPs: [{ip: 10.1.0.3}]}}\n---\n";
        let service = "{apiVersion: v1, kind: Service, metadata: {name: s, namespace: x}, spec: {clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, 'fd96::1'], selector: {app: a}, ports: [{port: 443, targetPort: http}]}}\n";
        let slice = "---\n{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: s-1, namespace: x, labels: {kubernetes.io/service-name: s}}, addressType: IPv4, ports: [{port: 8080}], endpoints: [{addresses: [10.1.0.2]}, {addresses: [192.0.2.1]}]}\n";
        let behind = |world: &World, address: &str, port| -> Vec<String> {
            let endpoints = world.endpoints(address.parse().unwrap(), Transport::Tcp, port);
            let name = |endpoint: &Endpoint<'_>| endpoint.pod.map_or("-", |pod| &pod.name).to_owned();
            endpoints
                .iter()
                .map(|endpoint| format!("{} {}:{}", name(endpoint), endpoint.address, endpoint.port))
                .collect()
        };
        let selecting = world(&format!("{pods}{service}"));
        assert_eq!(behind(&selecting, "10.96.0.1", 443), ["a 10.1.0.1:80", "b 10.1.0.2:81"]);
        assert_eq!(behind(&selecting, "fd96::1", 443), ["a fd00::1:80"]);
        assert!(behind(&selecting, "10.96.0.1", 80).is_empty());
        assert!(behind(&selecting, "10.96.0.2", 443).is_empty());
        let sliced = world(&format!("{pods}{service}{slice}"));
        assert_eq!(behind(&sliced, "10.96.0.1", 443), ["b 10.1.0.2:8080", "- 192.0.2.1:8080"]);
        assert!(behind(&sliced, "fd96::1", 443).is_empty());
    }

    #[test]
    fn a_namespace_that_nothing_was_read_of_still_has_its_name_as_a_label() {
        assert_eq!(*World::default().namespace_labels("nowhere"), only_its_name("nowhere"));
        assert_eq!(
            only_its_name("x").into_iter().collect::<Vec<_>>(),
            [("kubernetes.io/metadata.name".into(), "x".into())]
        );
    }
}
