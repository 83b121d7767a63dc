//! Kubernetes policies as they hold once they are read: defaults applied, nothing left to check.
//!
//! One model for `networking.k8s.io/v1` `NetworkPolicy`, `policy.networking.k8s.io/v1alpha2` `ClusterNetworkPolicy` and the
//! `v1alpha1` `AdminNetworkPolicy` and `BaselineAdminNetworkPolicy` it replaces. `parse` makes these values;
//! what they mean is said in `verdict` and nowhere else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::net::{Cidr, Direction, Origin, PortRange, Transport};

/// Labels of a pod, a namespace or a node.
pub type Labels = BTreeMap<String, String>;

/// Every policy that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    /// `NetworkPolicy` objects. Their order means nothing.
    pub network: Vec<NetworkPolicy>,
    /// Policies of the cluster tiers, by tier, priority and name: the order in which they are asked.
    pub cluster: Vec<ClusterPolicy>,
}

impl Policies {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.network.is_empty() && self.cluster.is_empty()
    }
}

/// A condition on labels (`metav1.LabelSelector`). Without requirements it holds for all.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Selector {
    /// All must hold. `matchLabels` are requirements with [`Operator::In`] and one value.
    pub requirements: Vec<Requirement>,
}

/// One condition (`metav1.LabelSelectorRequirement`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// What is asked of its value.
    pub operator: Operator,
    /// The values of `In` and `NotIn`; empty for the others.
    pub values: Vec<String>,
}

/// What a requirement asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Operator {
    /// The key is there and its value listed.
    In,
    /// The key is not there, or its value is not listed.
    NotIn,
    /// The key is there.
    Exists,
    /// The key is not there.
    DoesNotExist,
}

/// A `NetworkPolicy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkPolicy {
    /// `metadata.namespace`; `default` where it is missing.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// The pods of its namespace that it governs.
    pub pods: Selector,
    /// `Some` where it isolates pods for ingress, with what it then allows.
    pub ingress: Option<Vec<Rule>>,
    /// The same for egress.
    pub egress: Option<Vec<Rule>>,
    /// Where the object begins.
    pub origin: Origin,
}

impl NetworkPolicy {
    /// What it allows in one direction; `None` where it does not isolate.
    pub fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        match direction {
            Direction::Egress => self.egress.as_deref(),
            Direction::Ingress => self.ingress.as_deref(),
        }
    }
}

/// A policy of a cluster tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterPolicy {
    /// Its kind, as written: `ClusterNetworkPolicy`, `AdminNetworkPolicy` or `BaselineAdminNetworkPolicy`.
    pub kind: &'static str,
    /// `metadata.name`.
    pub name: String,
    /// Which tier.
    pub tier: Tier,
    /// 0 to 1000; the lower is asked first. 0 for a `BaselineAdminNetworkPolicy`, of which there is one.
    pub priority: u16,
    /// Whom it governs.
    pub subject: Subject,
    /// Its rules for what comes in, first match decides.
    pub ingress: Vec<Rule>,
    /// Its rules for what goes out.
    pub egress: Vec<Rule>,
    /// Where the object begins.
    pub origin: Origin,
}

impl ClusterPolicy {
    /// Its rules of one direction.
    pub fn rules(&self, direction: Direction) -> &[Rule] {
        match direction {
            Direction::Egress => &self.egress,
            Direction::Ingress => &self.ingress,
        }
    }
}

/// A cluster tier: before the network policies, or behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Asked first.
    Admin,
    /// Asked where no network policy isolates the pod.
    Baseline,
}

/// Whom a cluster policy governs. Pods on the host's network are never governed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Every pod of these namespaces.
    Namespaces(Selector),
    /// These pods of these namespaces.
    Pods {
        /// Selects namespaces.
        namespaces: Selector,
        /// Selects pods in them.
        pods: Selector,
    },
}

/// What becomes of a packet that a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    /// It passes, and no later tier is asked. The rules of a `NetworkPolicy` have no other action.
    Accept,
    /// It is denied.
    Deny,
    /// The tier has nothing more to say: the next one is asked.
    Pass,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it does.
    pub action: Action,
    /// The other end: any of these. Empty means anyone, which only a `NetworkPolicy` can say.
    pub peers: Vec<Peer>,
    /// What is spoken: any of these. Empty means everything.
    pub ports: Vec<Port>,
    /// The rule's own name, in the cluster tiers.
    pub name: Option<String>,
    /// Where it was written.
    pub origin: Origin,
}

/// The other end of a rule, and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who.
    pub who: Who,
    /// Where.
    pub origin: Origin,
}

/// Who may stand at the other end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// Pods; never those on the host's network.
    Pods {
        /// In which namespaces.
        namespaces: Namespaces,
        /// Which of them.
        pods: Selector,
    },
    /// Addresses, of pods as well: `ipBlock`, and each of `networks`.
    Block {
        /// These,
        cidr: Cidr,
        /// without these.
        except: Vec<Cidr>,
    },
    /// The addresses of nodes.
    Nodes(Selector),
    /// Names. They match no address here.
    DomainNames(Vec<String>),
}

/// Namespaces of peers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Namespaces {
    /// The policy's own.
    Own(String),
    /// Those with such labels.
    Selected(Selector),
}

/// What is spoken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Port {
    /// Destination ports of one transport, all of them where none was written.
    Number {
        /// The transport.
        transport: Transport,
        /// The ports.
        ports: PortRange,
    },
    /// A port that the destination pod gives this name.
    Named {
        /// The transport it must have; `None` where the API has no word for it (the cluster tiers), so that any does.
        transport: Option<Transport>,
        /// The name.
        name: String,
    },
}
