//! What Kubernetes policies mean: the specification, for reading.
//!
//! One function a question, each with the sentence of the API that it follows, so that a reader can lay the two side by
//! side. Quotes with `v1` are comments of fields in k8s.io/api/networking/v1/types.go, those with `v1alpha2` in
//! sigs.k8s.io/network-policy-api/apis/v1alpha2. Marks such as S5 or C3 number the points that tests/policy_checklist.rs
//! goes through one by one. Everything else that judges packets (the ruleset and its evaluator, the kernel) is tested
//! against this file.
//!
//! [`Judge::decide`] is one half of a flow: what the policies of one pod say about one peer. [`flow`](super::flow) puts
//! the halves together.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use super::lookup::World;
use super::model::{
    Action, ClusterPolicy, Labels, Namespaces, NetworkPolicy, Policies, Port, Rule, Subject, Tier, Who,
};
use super::world::Pod;
use crate::net::{Direction, Payload, SELF_ASSIGNED};

/// The other end of a packet, as the policies of one pod see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer<'w> {
    /// The pod it is.
    pub pod: Option<&'w Pod>,
    /// The address on the packet; `None` for a pod that has none yet, which selectors can judge and blocks cannot.
    pub address: Option<IpAddr>,
}

/// What one pod's policies say about a packet, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement<'a> {
    /// What decided.
    pub why: Why<'a>,
    /// Rules with `Pass` that matched before.
    pub passed: Vec<Cited<'a>>,
}

impl Judgement<'_> {
    /// Whether the packet may go.
    pub fn allowed(&self) -> bool {
        match &self.why {
            Why::NoPod | Why::HostNetwork | Why::Itself | Why::OwnNode | Why::Network(..) | Why::Free => true,
            Why::Isolated(_) => false,
            // Pass never decides; it is told in `passed`.
            Why::Cluster(cited) => cited.rule.action == Action::Accept,
        }
    }
}

/// What decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why<'a> {
    /// This end is no pod, so no policy governs it.
    NoPod,
    /// This end is on the host's network, where no policy governs it (L6, C6).
    HostNetwork,
    /// The pod talks to itself (N4).
    Itself,
    /// It comes from the pod's own node, and only network policies stand against it (N1).
    OwnNode,
    /// A rule of a cluster tier.
    Cluster(Cited<'a>),
    /// A rule of a network policy.
    Network(&'a NetworkPolicy, &'a Rule),
    /// These network policies isolate the pod, and no rule of theirs allows the packet (S5).
    Isolated(Rc<[&'a NetworkPolicy]>),
    /// Nothing isolates the pod and no rule matched (S4, C4).
    Free,
}

/// A rule of a cluster tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cited<'a> {
    /// The policy.
    pub policy: &'a ClusterPolicy,
    /// Its rule.
    pub rule: &'a Rule,
}

/// The policies that govern one pod in one direction.
#[derive(Clone, Debug)]
pub struct Governing<'a> {
    /// Of the Admin tier, in the order in which they are asked.
    pub admin: Vec<&'a ClusterPolicy>,
    /// Those that isolate it.
    pub network: Rc<[&'a NetworkPolicy]>,
    /// Of the Baseline tier, in order.
    pub baseline: Vec<&'a ClusterPolicy>,
}

/// Egress and ingress of pods of one namespace.
type ByLabels<'a> = BTreeMap<Labels, [Rc<Governing<'a>>; 2]>;

/// Policies and a world to judge in.
#[derive(Debug)]
pub struct Judge<'a> {
    policies: &'a Policies,
    world: &'a World,
    by_namespace: BTreeMap<&'a str, Vec<&'a NetworkPolicy>>,
    /// Who governs is a question of namespace and labels alone; most pods share theirs with others.
    governing: RefCell<BTreeMap<String, ByLabels<'a>>>,
}

impl<'a> Judge<'a> {
    /// Takes the cluster policies in the order in which they stand in `policies`: by tier, priority and name.
    pub fn new(policies: &'a Policies, world: &'a World) -> Judge<'a> {
        let mut by_namespace: BTreeMap<&str, Vec<&NetworkPolicy>> = BTreeMap::new();
        for policy in &policies.network {
            by_namespace.entry(&policy.namespace).or_default().push(policy);
        }
        Judge { policies, world, by_namespace, governing: RefCell::default() }
    }

    /// Its world.
    pub fn world(&self) -> &'a World {
        self.world
    }

    /// The network policies of a namespace, whomever they select.
    pub(super) fn network_policies_in(&self, namespace: &str) -> &[&'a NetworkPolicy] {
        self.by_namespace.get(namespace).map_or(&[], Vec::as_slice)
    }

    /// What the policies of `subject` say about a packet to (egress) or from (ingress) `peer`.
    pub fn decide(&self, direction: Direction, subject: &Pod, peer: Peer<'_>, payload: Payload) -> Judgement<'a> {
        let plain = |why| Judgement { why, passed: Vec::new() };
        // L6 and C6: "never selected as subject or peer"; v1alpha2, `Subject`: "This field does not select host-networked
        // pods".
        if subject.host_network {
            return plain(Why::HostNetwork);
        }
        // N4: "A pod cannot block access to itself". C13: its own address is not subject to the cluster tiers either.
        if is_itself(subject, peer) {
            return plain(Why::Itself);
        }
        self.tiers(direction, subject, peer, payload)
    }

    /// The same without the exemption for a pod that talks to itself: what a pod behind a service meets that reaches
    /// itself by the service's address (N5).
    pub fn tiers(&self, direction: Direction, subject: &Pod, peer: Peer<'_>, payload: Payload) -> Judgement<'a> {
        let governing = self.governing(direction, subject);
        let flow = Flow { world: self.world, direction, subject, peer, payload };
        let mut passed = Vec::new();
        // v1alpha2, `Tier`: Admin "is evaluated before NetworkPolicy", Baseline "after"; then all is allowed.
        let why = flow
            .cluster_tier(&governing.admin, &mut passed)
            .unwrap_or_else(|| flow.behind_admin(&governing, &mut passed));
        Judgement { why, passed }
    }

    /// Who governs a pod. Nobody governs one on the host's network.
    pub fn governing(&self, direction: Direction, pod: &Pod) -> Rc<Governing<'a>> {
        let index = match direction {
            Direction::Egress => 0,
            Direction::Ingress => 1,
        };
        let known = self.governing.borrow().get(&pod.namespace).and_then(|known| known.get(&pod.labels).cloned());
        let both = known.unwrap_or_else(|| {
            let both = Direction::BOTH.map(|direction| Rc::new(self.find_governing(direction, pod)));
            let mut governing = self.governing.borrow_mut();
            governing.entry(pod.namespace.clone()).or_default().insert(pod.labels.clone(), both.clone());
            both
        });
        both[index].clone()
    }

    fn find_governing(&self, direction: Direction, pod: &Pod) -> Governing<'a> {
        let tier = |tier: Tier| -> Vec<&'a ClusterPolicy> {
            let of_tier = self.policies.cluster.iter().filter(|policy| policy.tier == tier);
            of_tier.filter(|policy| governs(self.world, &policy.subject, pod)).collect()
        };
        // S1: "podSelector selects the pods to which this NetworkPolicy object applies", pods of its own namespace.
        // S2, S3, S4: it isolates in the directions that are its policyTypes, which is where it has rules, if only none.
        let own = self.by_namespace.get(pod.namespace.as_str()).into_iter().flatten().copied();
        let network = own
            .filter(|policy| policy.pods.selects(&pod.labels))
            .filter(|policy| policy.rules(direction).is_some())
            .collect();
        Governing { admin: tier(Tier::Admin), network, baseline: tier(Tier::Baseline) }
    }
}

/// N4. By its address too, whoever else may think to have it.
fn is_itself(subject: &Pod, peer: Peer<'_>) -> bool {
    peer.pod.is_some_and(|pod| pod.is(subject))
        || peer.address.is_some_and(|address| subject.addresses.contains(&address))
}

/// C6: "exactly one of namespaces | pods"; both selectors of `pods` must hold.
fn governs(world: &World, subject: &Subject, pod: &Pod) -> bool {
    let labels = world.namespace_labels(&pod.namespace);
    match subject {
        Subject::Namespaces(namespaces) => namespaces.selects(&labels),
        Subject::Pods { namespaces, pods } => namespaces.selects(&labels) && pods.selects(&pod.labels),
    }
}

/// Whether it means some of many, by what is known of them, rather than addresses.
pub(super) fn selects(who: &Who) -> bool {
    match who {
        Who::Pods { .. } | Who::Nodes(_) => true,
        Who::Block { .. } | Who::DomainNames(_) => false,
    }
}

/// A packet seen from the pod whose policies are asked.
#[derive(Clone, Copy, Debug)]
pub struct Flow<'w> {
    /// Where peers are looked up.
    pub world: &'w World,
    /// Which way it goes, seen from `subject`.
    pub direction: Direction,
    /// Whose policies are asked.
    pub subject: &'w Pod,
    /// The other end.
    pub peer: Peer<'w>,
    /// What it carries.
    pub payload: Payload,
}

impl Flow<'_> {
    /// C1: policies by priority, rules in written order, the first match decides. C2: `Accept` and `Deny` end it, v1alpha2
    /// `Pass`: "Skips all further ClusterNetworkPolicies in the current tier for the selected traffic, and passes
    /// evaluation to the next tier". C4: what matches nothing falls through. C5: one direction's `Accept` says nothing of
    /// the other's, which is asked for itself.
    fn cluster_tier<'a>(&self, policies: &[&'a ClusterPolicy], passed: &mut Vec<Cited<'a>>) -> Option<Why<'a>> {
        let rules = policies.iter().flat_map(|policy| policy.rules(self.direction).iter().map(|rule| (*policy, rule)));
        let (policy, rule) = rules.into_iter().find(|(_, rule)| self.matches(rule))?;
        let cited = Cited { policy, rule };
        match rule.action {
            Action::Accept | Action::Deny => Some(Why::Cluster(cited)),
            Action::Pass => {
                passed.push(cited);
                None
            }
        }
    }

    /// What comes of a packet that the Admin tier leaves to the others.
    pub(super) fn behind_admin<'a>(&self, governing: &Governing<'a>, passed: &mut Vec<Cited<'a>>) -> Why<'a> {
        self.network_policies(&governing.network)
            .or_else(|| self.cluster_tier(&governing.baseline, passed))
            .unwrap_or(Why::Free)
    }

    /// v1, `ingress`: "Traffic is allowed to a pod if there are no NetworkPolicies selecting the pod (and cluster policy
    /// otherwise allows the traffic), OR if the traffic source is the pod's local node, OR if the traffic matches at
    /// least one ingress rule across all of the NetworkPolicy objects whose podSelector matches the pod." `egress` says
    /// the same without the node (N2).
    fn network_policies<'a>(&self, isolating: &Rc<[&'a NetworkPolicy]>) -> Option<Why<'a>> {
        // S4: not isolated, so the next tier is asked. C3: otherwise what is said here is final.
        if isolating.is_empty() {
            return None;
        }
        // S5: a union; which of several matching rules is named means nothing. S7: no rules, nothing allowed.
        for policy in isolating.iter() {
            if let Some(rule) =
                policy.rules(self.direction).and_then(|rules| rules.iter().find(|rule| self.matches(rule)))
            {
                return Some(Why::Network(policy, rule));
            }
        }
        if self.comes_from_own_node() {
            return Some(Why::OwnNode);
        }
        Some(Why::Isolated(isolating.clone()))
    }

    /// N1: the node that `spec.nodeName` names, by its addresses, and pods on its network. N3: whatever carries the
    /// node's address counts, masqueraded or not. Other nodes are plain addresses.
    fn comes_from_own_node(&self) -> bool {
        let Some(node) = &self.subject.node else { return false };
        let peer = self.peer;
        self.direction == Direction::Ingress
            && (peer.pod.is_some_and(|pod| pod.host_network && pod.node.as_ref() == Some(node))
                || peer.address.is_some_and(|address| self.world.is_of_node(node, address)))
    }

    /// R1: "This rule matches traffic if and only if the traffic matches both ports AND from" (or `to`).
    pub fn matches(&self, rule: &Rule) -> bool {
        self.matches_peers(rule) && self.matches_ports(rule)
    }

    /// R2: "If this field is empty or missing, this rule matches all sources", anything outside the cluster too.
    /// Otherwise "items in this list are combined using a logical OR operation".
    pub fn matches_peers(&self, rule: &Rule) -> bool {
        let counts = |who: &Who| self.matches_peer(who) || self.is_feared(rule) && selects(who);
        rule.peers.is_empty() || rule.peers.iter().any(|peer| counts(&peer.who))
    }

    /// Whether the rule denies and nobody can say who the peer is: its address is one that every neighbour may give himself.
    /// The API does not speak of these. Whom we cannot identify counts among the denied, for otherwise whoever is denied by
    /// its labels would send from such an address; what accepts by labels, or passes on, is not for him. (Only of IPv6: a
    /// pod has no IPv4 address of that kind, and a gateway or a resolver on the node does.)
    pub fn is_feared(&self, rule: &Rule) -> bool {
        rule.action == Action::Deny && self.is_unidentified()
    }

    /// Whether the peer's address says nothing of who it is.
    pub fn is_unidentified(&self) -> bool {
        self.peer.address.is_some_and(|address| SELF_ASSIGNED.contains(address))
    }

    /// One item of `from` or `to`.
    pub fn matches_peer(&self, who: &Who) -> bool {
        match who {
            // R3, R4, R5: "selects the pods matching podSelector in the Namespaces selected by namespaceSelector", without
            // one "in the policy's own namespace". Never what is no pod, nor a pod on the host's network (L6).
            Who::Pods { namespaces, pods } => self.peer.pod.is_some_and(|pod| {
                let there = match namespaces {
                    Namespaces::Own(own) => *own == pod.namespace,
                    Namespaces::Selected(selector) => selector.selects(&self.world.namespace_labels(&pod.namespace)),
                };
                !pod.host_network && there && pods.selects(&pod.labels)
            }),
            // R8, R9, R11, C7: the address on the packet, a pod's or not, in the block and in none of its holes.
            Who::Block { cidr, except } => self
                .peer
                .address
                .is_some_and(|address| cidr.contains(address) && !except.iter().any(|hole| hole.contains(address))),
            // C7: v1alpha2, `Nodes`: "the Node's IPs" of status.addresses.
            Who::Nodes(selector) => {
                let node = self.peer.address.and_then(|address| self.world.node_at(address));
                node.is_some_and(|node| selector.selects(&node.labels))
            }
            // C10, C11: which addresses a name has is not known here.
            Who::DomainNames(_) => false,
        }
    }

    /// R2: "If this field is empty or missing, this rule matches all ports (traffic not restricted by port)": any
    /// protocol (P7). "If this field is present and contains at least one item, then this rule allows traffic only if
    /// the traffic matches at least one port in the list": never ICMP, which has none.
    pub fn matches_ports(&self, rule: &Rule) -> bool {
        let counts = |port: &Port| self.matches_port(port) || self.is_feared(rule) && self.could_be_named(port);
        rule.ports.is_empty() || rule.ports.iter().any(counts)
    }

    /// Which port the peer gives a name to is not known where the peer is not.
    fn could_be_named(&self, port: &Port) -> bool {
        match (port, self.payload, self.direction) {
            (Port::Named { transport, .. }, Payload::Transport { protocol, .. }, Direction::Egress) => {
                transport.is_none_or(|transport| transport == protocol)
            }
            (Port::Named { .. } | Port::Number { .. }, _, _) => false,
        }
    }

    /// One item of `ports`: "only traffic on the specified protocol AND port will be matched" (P1 to P6, C9).
    pub fn matches_port(&self, port: &Port) -> bool {
        let (protocol, number) = match self.payload {
            Payload::Transport { protocol, port } => (protocol, port),
            Payload::Icmp { .. } | Payload::Other(_) => return false,
        };
        match port {
            Port::Number { transport, ports } => *transport == protocol && ports.contains(number),
            // P5: "a named port on a pod", the one the packet goes to: on egress each peer has its own number for the
            // name. C9: v1alpha2 has no protocol beside the name; the container's port has one.
            Port::Named { transport, name } => {
                let there = match self.direction {
                    Direction::Egress => self.peer.pod.filter(|pod| !pod.host_network),
                    Direction::Ingress => Some(self.subject),
                };
                transport.is_none_or(|transport| transport == protocol)
                    && there.is_some_and(|pod| pod.names_port(name, protocol, number))
            }
        }
    }
}
