//! Which kinds there are, and in which version.

use crate::document::{Place, shown, suggest};

/// A kind of object that is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    NetworkPolicy,
    ClusterNetworkPolicy,
    AdminNetworkPolicy,
    BaselineAdminNetworkPolicy,
    Namespace,
    Pod,
    Node,
    Service,
    EndpointSlice,
}

impl Kind {
    const ALL: [Kind; 9] = [
        Kind::NetworkPolicy,
        Kind::ClusterNetworkPolicy,
        Kind::AdminNetworkPolicy,
        Kind::BaselineAdminNetworkPolicy,
        Kind::Namespace,
        Kind::Pod,
        Kind::Node,
        Kind::Service,
        Kind::EndpointSlice,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Kind::NetworkPolicy => "NetworkPolicy",
            Kind::ClusterNetworkPolicy => "ClusterNetworkPolicy",
            Kind::AdminNetworkPolicy => "AdminNetworkPolicy",
            Kind::BaselineAdminNetworkPolicy => "BaselineAdminNetworkPolicy",
            Kind::Namespace => "Namespace",
            Kind::Pod => "Pod",
            Kind::Node => "Node",
            Kind::Service => "Service",
            Kind::EndpointSlice => "EndpointSlice",
        }
    }

    const fn api_version(self) -> &'static str {
        match self {
            Kind::NetworkPolicy => "networking.k8s.io/v1",
            Kind::ClusterNetworkPolicy => "policy.networking.k8s.io/v1alpha2",
            Kind::AdminNetworkPolicy | Kind::BaselineAdminNetworkPolicy => "policy.networking.k8s.io/v1alpha1",
            Kind::Namespace | Kind::Pod | Kind::Node | Kind::Service => "v1",
            Kind::EndpointSlice => "discovery.k8s.io/v1",
        }
    }

    /// Whether an object of it is in a namespace.
    pub(super) const fn is_namespaced(self) -> bool {
        match self {
            Kind::NetworkPolicy | Kind::Pod | Kind::Service | Kind::EndpointSlice => true,
            Kind::ClusterNetworkPolicy
            | Kind::AdminNetworkPolicy
            | Kind::BaselineAdminNetworkPolicy
            | Kind::Namespace
            | Kind::Node => false,
        }
    }

    /// Whether it is a policy, and so read strictly.
    pub(super) const fn is_policy(self) -> bool {
        match self {
            Kind::NetworkPolicy
            | Kind::ClusterNetworkPolicy
            | Kind::AdminNetworkPolicy
            | Kind::BaselineAdminNetworkPolicy => true,
            Kind::Namespace | Kind::Pod | Kind::Node | Kind::Service | Kind::EndpointSlice => false,
        }
    }
}

/// What a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// An object.
    Object(Kind),
    /// A list: of objects of one kind, whose items need not say so, or of any (`v1 List`).
    List(Option<Kind>),
}

/// What `kind` names, in any version.
pub(super) fn named(kind: &str) -> Option<What> {
    let object = |name: &str| Kind::ALL.into_iter().find(|kind| kind.name() == name);
    match object(kind) {
        Some(kind) => Some(What::Object(kind)),
        None if kind == "List" => Some(What::List(None)),
        None => kind.strip_suffix("List").and_then(object).map(|kind| What::List(Some(kind))),
    }
}

/// Reads the fields `apiVersion` and `kind`.
pub(super) fn read(api_version: &Place<'_>, kind: &Place<'_>) -> Option<What> {
    let (version, name) = (api_version.string(), kind.string());
    let (version, name) = (version?, name?);
    let Some(what) = named(name) else {
        let known = || Kind::ALL.into_iter().map(Kind::name);
        let hint =
            suggest(name, known().chain(["List"])).map_or_else(String::new, |name| format!("; did you mean {name}?"));
        let list = known().collect::<Vec<_>>().join(", ");
        kind.refuse(format!(
            "{} is none of the kinds that are known here: {list}, and lists of them{hint}",
            shown(name)
        ));
        return None;
    };
    let wanted = match what {
        What::Object(kind) | What::List(Some(kind)) => kind.api_version(),
        What::List(None) => "v1",
    };
    if version != wanted {
        api_version.refuse(format!("{name} is known here in {wanted} only, found {}", shown(version)));
        return None;
    }
    Some(what)
}
