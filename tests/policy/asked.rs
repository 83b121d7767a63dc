//! A small world that policies are asked in, in the words that operators write.

// Every test file compiles this module and uses its own part of it.
#![allow(dead_code)]

use std::net::IpAddr;

use netlatch::net::{Payload, Transport};
use netlatch::policy::flow::Answer;
use netlatch::policy::lookup::{End, World};
use netlatch::policy::parse::{Collector, Manifests};
use netlatch::policy::verdict::Judge;

/// Two namespaces with objects and one without; two nodes; pods of both families, on a node's network, and without any
/// address; a service with a slice and one without.
const INVENTORY: &str = "
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: x, labels: {team: x}}}
- {apiVersion: v1, kind: Namespace, metadata: {name: y, labels: {team: y}}}
- apiVersion: v1
  kind: Node
  metadata: {name: n1, labels: {disk: ssd}}
  status: {addresses: [{type: InternalIP, address: 10.0.0.1}, {type: InternalIP, address: 'fd00::1'}, {type: Hostname, address: n1}]}
- {apiVersion: v1, kind: Node, metadata: {name: n2}, status: {addresses: [{type: InternalIP, address: 10.0.0.2}]}}
- apiVersion: v1
  kind: Pod
  metadata: {namespace: x, name: a, labels: {pod: a, tier: front}}
  spec:
    nodeName: n1
    containers:
    - {name: c, ports: [{name: http, containerPort: 80}, {name: dns, containerPort: 53, protocol: UDP}]}
    initContainers:
    - {name: sidecar, restartPolicy: Always, ports: [{name: metrics, containerPort: 9100}]}
    - {name: once, ports: [{name: setup, containerPort: 9200}]}
  status: {phase: Running, podIPs: [{ip: 10.1.0.1}, {ip: 'fd00:1::1'}]}
- apiVersion: v1
  kind: Pod
  metadata: {namespace: x, name: b, labels: {pod: b}}
  spec: {nodeName: n1, containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}
  status: {podIPs: [{ip: 10.1.0.2}, {ip: 'fd00:1::2'}]}
- apiVersion: v1
  kind: Pod
  metadata: {namespace: x, name: c, labels: {pod: c}}
  spec: {nodeName: n2}
  status: {podIPs: [{ip: 10.1.0.3}, {ip: 'fd00:1::3'}]}
- apiVersion: v1
  kind: Pod
  metadata: {namespace: y, name: a, labels: {pod: a}}
  spec: {nodeName: n2, containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}
  status: {podIPs: [{ip: 10.2.0.1}, {ip: 'fd00:2::1'}]}
- {apiVersion: v1, kind: Pod, metadata: {namespace: y, name: b, labels: {pod: b}}, status: {podIPs: [{ip: 10.2.0.2}]}}
- {apiVersion: v1, kind: Pod, metadata: {namespace: z, name: a, labels: {pod: a}}, status: {podIPs: [{ip: 10.3.0.1}]}}
- {apiVersion: v1, kind: Pod, metadata: {namespace: x, name: new, labels: {pod: new}}, status: {phase: Pending}}
- apiVersion: v1
  kind: Pod
  metadata: {namespace: x, name: done, labels: {pod: a}}
  status: {phase: Succeeded, podIPs: [{ip: 10.1.0.9}]}
- apiVersion: v1
  kind: Pod
  metadata: {namespace: x, name: host1, labels: {pod: a}}
  spec: {nodeName: n1, hostNetwork: true, containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}
  status: {podIPs: [{ip: 10.0.0.1}]}
- apiVersion: v1
  kind: Pod
  metadata: {namespace: x, name: host2, labels: {pod: a}}
  spec: {nodeName: n2, hostNetwork: true}
  status: {podIPs: [{ip: 10.0.0.2}]}
- apiVersion: v1
  kind: Service
  metadata: {namespace: x, name: web}
  spec: {clusterIP: 10.96.0.1, selector: {pod: a, tier: front}, ports: [{port: 8000, targetPort: http}, {name: d, port: 53, protocol: UDP, targetPort: 53}]}
- apiVersion: v1
  kind: Service
  metadata: {namespace: y, name: both}
  spec: {clusterIP: 10.96.0.2, selector: {pod: nobody}, ports: [{name: p, port: 443, targetPort: 8443}]}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {namespace: y, name: both-1, labels: {kubernetes.io/service-name: both}}
  addressType: IPv4
  ports: [{name: p, port: 8443}]
  endpoints: [{addresses: [10.2.0.1]}, {addresses: [10.1.0.2]}]
";

/// Policies in that world.
pub(crate) struct Asked {
    manifests: Manifests,
    world: World,
}

/// A NetworkPolicy of `namespace` with this `spec`, in YAML's flow style.
pub(crate) fn policy(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
         metadata: {{namespace: {namespace}, name: {name}}}\nspec: {spec}\n"
    )
}

/// A ClusterNetworkPolicy.
pub(crate) fn cluster(name: &str, tier: &str, priority: u16, rest: &str) -> String {
    format!(
        "---\napiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\n\
         metadata: {{name: {name}}}\nspec: {{tier: {tier}, priority: {priority}, {rest}}}\n"
    )
}

/// One policy of namespace x that governs x/a.
pub(crate) fn on_a(spec: &str) -> Asked {
    Asked::of(&[policy("x", "p", &format!("{{podSelector: {{matchLabels: {{pod: a}}}}, {spec}}}"))])
}

/// A ClusterNetworkPolicy that governs namespace x.
pub(crate) fn on_x(name: &str, tier: &str, priority: u16, rules: &str) -> String {
    cluster(name, tier, priority, &format!("subject: {{namespaces: {{matchLabels: {{team: x}}}}}}, {rules}"))
}

/// For [`on_x`]: no pod may come in.
pub(crate) const DENY_INGRESS: &str = "ingress: [{action: Deny, from: [{namespaces: {}}]}]";

impl Asked {
    /// Reads policies into the world. They must be without a mistake.
    pub(crate) fn of(policies: &[String]) -> Asked {
        let mut collector = Collector::new();
        collector.read("world.yaml", INVENTORY.as_bytes());
        collector.read("policies.yaml", policies.concat().as_bytes());
        let outcome = collector.finish();
        let mut manifests = outcome.manifests.unwrap_or_else(|| panic!("{:?}", outcome.errors));
        let world = World::new(std::mem::take(&mut manifests.inventory));
        Asked { manifests, world }
    }

    fn end(&self, text: &str) -> End<'_> {
        match text.split_once('/') {
            Some((namespace, name)) => {
                self.world.end_of(self.world.pod(namespace, name).unwrap_or_else(|| panic!("no pod {text}")))
            }
            None => self.world.end_at(text.parse::<IpAddr>().expect("an address")),
        }
    }

    /// `x/b -> x/a TCP 80`, `8.8.8.8 -> x/a ICMP`.
    fn answer(&self, flow: &str) -> (Answer<'_>, String) {
        let words: Vec<&str> = flow.split(' ').collect();
        let payload = match words[3..] {
            ["ICMP"] => Payload::Icmp { kind: 8 },
            [protocol, port] => {
                let name = protocol.to_ascii_lowercase();
                let protocol = Transport::ALL.into_iter().find(|known| known.name() == name).expect("a protocol");
                Payload::Transport { protocol, port: port.parse().expect("a port") }
            }
            _ => panic!("{flow}"),
        };
        let judge = Judge::new(&self.manifests.policies, &self.world);
        let (from, to) = (self.end(words[0]), self.end(words[2]));
        let answer = judge.flow(&from, &to, payload);
        let why = answer.why(&from, &to);
        (answer, why)
    }

    /// Why a flow is allowed or not.
    pub(crate) fn why(&self, flow: &str) -> String {
        self.answer(flow).1
    }

    /// Both halves.
    pub(crate) fn halves(&self, flow: &str) -> (bool, bool) {
        let (answer, _) = self.answer(flow);
        (answer.egress, answer.ingress)
    }

    /// Exactly these flows of those asked are allowed.
    #[track_caller]
    pub(crate) fn expect(&self, allowed: &[&str], denied: &[&str]) -> &Asked {
        for (flows, expected) in [(allowed, true), (denied, false)] {
            for flow in flows {
                let (answer, why) = self.answer(flow);
                assert_eq!(answer.allowed(), expected, "{flow}: {why}");
            }
        }
        self
    }

    /// The near miss of a denied flow's denied half, as text.
    pub(crate) fn nearest_miss(&self, flow: &str) -> String {
        use netlatch::net::Direction;
        use netlatch::policy::verdict::Peer;
        let (answer, why) = self.answer(flow);
        let words: Vec<&str> = flow.split(' ').collect();
        let (from, to) = (self.end(words[0]), self.end(words[2]));
        let protocol =
            Transport::ALL.into_iter().find(|t| t.name().eq_ignore_ascii_case(words[3])).expect("a protocol");
        let payload = Payload::Transport { protocol, port: words[4].parse().expect("a port") };
        let judge = Judge::new(&self.manifests.policies, &self.world);
        let (direction, subject, peer) =
            if answer.egress { (Direction::Ingress, &to, &from) } else { (Direction::Egress, &from, &to) };
        let peer = Peer { pod: peer.pod, address: peer.addresses.first().copied() };
        let subject = subject.pod.unwrap_or_else(|| panic!("{flow}: {why}"));
        let judgement = judge.decide(direction, subject, peer, payload);
        let misses = judge.nearest_misses(&judgement, direction, subject, peer, payload);
        misses.first().map_or_else(String::new, ToString::to_string)
    }
}
