//! Policies while containers come and go: a host with policies, and ends that start and stop.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use netlatch::net::Transport;

use super::cluster::Cluster;
use super::container::Container;
use super::engine::{Engine, Identity};
use super::servers::{Servers, Service};
use super::traffic::{Flow, wrong};

pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// Long enough to call a missing answer missing.
pub(crate) const SILENCE: Duration = Duration::from_millis(500);

pub(crate) const WEB: &str = "shop/web";
pub(crate) const WEB_LABELS: &str = "app=web";
pub(crate) const FRONT: &str = "shop/front";
pub(crate) const FRONT_LABELS: &str = "app=front";

/// Web takes port 80 of TCP and port 53 of UDP from front, and nothing else.
pub(crate) const WEB_TAKES_FRONT: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web-takes-front, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: front}}}]
    ports: [{port: 80}, {port: 53, protocol: UDP}]
";

/// Front sends to web, and nowhere else.
pub(crate) const FRONT_SENDS_TO_WEB: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: front-sends-to-web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: front}}
  policyTypes: [Egress]
  egress:
  - to: [{podSelector: {matchLabels: {app: web}}}]
";

pub(crate) const NOBODY_TAKES: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: nobody-takes, namespace: shop}
spec: {podSelector: {}}
";

pub(crate) const SHOP: &str = "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}\n";

/// A host with a policy in force and ends of two families: `10.1.0.N` and `fd01::N`.
pub(crate) struct Live {
    pub(crate) cluster: Cluster,
    pub(crate) engine: Engine,
    pub(crate) containers: BTreeMap<String, Container>,
    pub(crate) servers: Servers,
}

/// The addresses of the end with this number.
pub(crate) fn addresses(number: usize) -> [IpAddr; 2] {
    [format!("10.1.0.{number}").parse().unwrap(), format!("fd01::{number:x}").parse().unwrap()]
}

impl Live {
    /// Ends by name and number; the first has servers.
    pub(crate) fn new(policies: &[&str], ends: &[(&str, usize)]) -> Live {
        Live::with("", policies, ends)
    }

    /// The same under a configuration that says this as well.
    pub(crate) fn with(config: &str, policies: &[&str], ends: &[(&str, usize)]) -> Live {
        let engine = Engine::with(config);
        engine.write("0-shop.yaml", SHOP);
        for (i, policy) in policies.iter().enumerate() {
            engine.write(&format!("{}.yaml", i + 1), policy);
        }
        let mut cluster = Cluster::new(&[]);
        let all: Vec<_> = ends.iter().map(|(name, number)| (*name, addresses(*number))).collect();
        cluster.add(&all.iter().map(|(name, addresses)| (*name, &addresses[..])).collect::<Vec<_>>());
        let services: Vec<Service> = addresses(ends[0].1)
            .into_iter()
            .flat_map(|ip| {
                let at = |port, transport| Service { end: 0, at: SocketAddr::new(ip, port), transport };
                [at(80, Transport::Tcp), at(81, Transport::Tcp), at(53, Transport::Udp)]
            })
            .collect();
        let servers = Servers::start(&cluster, &services);
        Live { cluster, engine, containers: BTreeMap::new(), servers }
    }

    pub(crate) fn add(&mut self, name: &str, number: usize) {
        self.cluster.add(&[(name, &addresses(number))]);
    }

    pub(crate) fn container(&self, name: &str, labels: &str) -> Container {
        Identity::new(name, labels).container(&self.cluster.end(name).namespace)
    }

    /// Two containers of one pod, as a runtime says that each joins a namespace that is there already.
    pub(crate) fn pair(&self, name: &str, labels: &str) -> [Container; 2] {
        let mut both = [self.container(name, labels), self.container(name, labels)];
        both[1].id.push_str("-sidecar");
        let path = self.cluster.end(name).namespace.path();
        for container in &both {
            container.write_config(&serde_json::json!({"linux": {"namespaces": [{"type": "network", "path": path}]}}));
        }
        both
    }

    pub(crate) fn start(&mut self, name: &str, labels: &str) {
        let container = self.container(name, labels);
        self.engine.start(&self.cluster.host, &container);
        self.containers.insert(name.to_owned(), container);
    }

    pub(crate) fn started(&self, name: &str) {
        self.engine.started(&self.cluster.host, &self.containers[name]);
    }

    pub(crate) fn stop(&mut self, name: &str) {
        let container = self.containers.remove(name).expect("it runs");
        self.engine.stop(&self.cluster.host, &container);
    }

    /// The container's end with SIGKILL; no poststop.
    pub(crate) fn kill(&mut self, name: &str) {
        self.containers.remove(name);
        self.cluster.kill(name);
    }

    /// Asserts of each sender whether it gets through to TCP 80 and UDP 53 of the first end, in both families; and that
    /// nobody gets through to TCP 81.
    pub(crate) fn check(&self, when: &str, senders: &[(&str, bool)]) {
        let mut wanted = Vec::new();
        for (name, passes) in senders {
            let end = self.cluster.index(name);
            for (from, to) in self.cluster.ends[end].addresses.iter().zip(&self.cluster.ends[0].addresses) {
                let flow = |port, transport| Flow { end, from: *from, to: SocketAddr::new(*to, port), transport };
                wanted.push((flow(80, Transport::Tcp), *passes));
                wanted.push((flow(53, Transport::Udp), *passes));
                wanted.push((flow(81, Transport::Tcp), false));
            }
        }
        let wrong = wrong(&self.cluster, &self.servers, &wanted);
        let lines: Vec<String> = wrong
            .iter()
            .map(|(i, fate)| {
                let (flow, passes) = wanted[*i];
                let name = &self.cluster.ends[flow.end].name;
                format!("{name}: {flow}: should {}pass: {fate:?}", if passes { "" } else { "not " })
            })
            .collect();
        assert!(lines.is_empty(), "{when}:\n{}", lines.join("\n"));
    }

    pub(crate) fn rules(&self, name: &str) -> Vec<serde_json::Value> {
        let mut rules = self.cluster.end(name).namespace.nft_json();
        // Counters count on.
        for rule in &mut rules {
            super::fault::settle(rule);
        }
        rules
    }

    /// A TCP connection from `from` to port 8080 of `to`, both ends of it.
    pub(crate) fn connection(&self, from: &str, to: &str) -> (TcpStream, TcpStream) {
        let at = SocketAddr::new(self.cluster.end(to).addresses[0], 8080);
        let listener = self.cluster.end(to).namespace.within(|| TcpListener::bind(at)).unwrap();
        let client = self.cluster.end(from).namespace.within(|| TcpStream::connect_timeout(&at, PATIENCE)).unwrap();
        (client, listener.accept().unwrap().0)
    }
}

/// Whether what one end writes arrives at the other.
pub(crate) fn flows(from: &mut TcpStream, to: &mut TcpStream, patience: Duration) -> bool {
    to.set_read_timeout(Some(patience)).unwrap();
    from.write_all(b"!").is_ok() && matches!(to.read(&mut [0; 16]), Ok(1..))
}
