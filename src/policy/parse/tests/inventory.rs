use std::net::IpAddr;

use super::*;
use crate::net::Transport;
use crate::policy::world::TargetPort;

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
fn the_inventory_takes_names_that_no_server_would_but_not_endless_ones() {
    let pods = good(&(pod("\"web[Deployment]\"", "") + &pod("A_b", ""))).inventory.pods;
    assert_eq!(pods.iter().map(|pod| pod.name.as_str()).collect::<Vec<_>>(), ["web[Deployment]", "A_b"]);
    for metadata in [format!("name: {}", "a".repeat(254)), format!("name: a, namespace: {}", "a".repeat(254))] {
        let found = one(&format!("apiVersion: v1\nkind: Pod\nmetadata: {{{metadata}}}\n"));
        assert!(found.ends_with("is longer than 253 bytes"), "{found}");
    }
}
