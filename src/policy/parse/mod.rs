//! From Kubernetes documents to [`Policies`] and an [`Inventory`].
//!
//! Strict for policies: what the API server rejects is rejected, and an unknown field besides, for a misspelt `ports` that
//! is dropped in silence opens a rule. Tolerant for the inventory, which is read as `kubectl get -o yaml` prints it.
//! Every problem of every file is told, and as long as there is one nothing may be used.
//!
//! One exception to what the API server accepts: it reads a null item of a list, or a null label, as an empty one, so that
//! `ingress: [null]` allows everything. Here `{}` or `''` has to be written out.

mod cidr;
mod collect;
mod document;
mod inventory;
mod kind;
mod meta;
mod network_policy;
mod selector;
mod tiers;
mod warnings;

pub use collect::{
    Collector, MAX_CIDRS, MAX_ENDPOINTS, MAX_FILES, MAX_FOLDER, MAX_MANIFESTS, MAX_OBJECTS, MAX_POLICIES, MAX_RULES,
    Outcome,
};

use std::collections::BTreeSet;

use super::model::Policies;
use super::world::Inventory;
use crate::net::Transport;

/// Everything that manifests say, of all files together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifests {
    /// The policies, those of the cluster tiers by tier, priority and name.
    pub policies: Policies,
    /// Who there is.
    pub inventory: Inventory,
    /// Ports that containers declare, with a name or without. Nothing is judged by them: they are worth showing.
    pub declared: BTreeSet<(Transport, u16)>,
}

#[cfg(test)]
mod tests;
