//! What was read, over all files: each object once, each address at one pod, and no more of anything than is bearable.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::document::Documents;
use super::kind::Kind;
use super::meta::{self, Meta};
use super::{Manifests, inventory, network_policy, tiers, warnings};
use crate::document::{MAX_FINDINGS, Place, Report, walk};
use crate::error::Finding;

/// Longest file of manifests in bytes: 5,000 pods as `kubectl get pods -o yaml` prints them, several times over.
pub const MAX_MANIFESTS: usize = 256 << 20;
/// Most files of a folder. Each is opened and looked at before it is read.
pub const MAX_FILES: usize = 10_000;
/// Most bytes of all files together.
pub const MAX_FOLDER: usize = 256 << 20;
/// Most objects of all files together.
pub const MAX_OBJECTS: usize = 100_000;
/// Most policies of all files together.
pub const MAX_POLICIES: usize = 10_000;
/// Most rules of all policies together.
pub const MAX_RULES: usize = 100_000;
/// Most address blocks of all policies together, `except` among them.
pub const MAX_CIDRS: usize = 200_000;

/// Most endpoints of all EndpointSlices together: in each, its addresses times its ports.
pub const MAX_ENDPOINTS: usize = 1_000_000;

/// How many there are of something, and how many there may be.
#[derive(Debug)]
struct Count {
    count: usize,
    limit: usize,
    /// What they are, with the limit's name.
    what: &'static str,
}

impl Count {
    const fn new(limit: usize, what: &'static str) -> Count {
        Count { count: 0, limit, what }
    }

    /// Counts one more; the one that is too many is reported, and those behind it only passed over.
    fn one_more(&mut self, place: &Place<'_>) -> Option<()> {
        self.more(1, place)
    }

    fn more(&mut self, more: usize, place: &Place<'_>) -> Option<()> {
        let before = self.is_exceeded();
        self.count = self.count.saturating_add(more);
        if self.is_exceeded() && !before {
            place.refuse(format!("there are more than {} {} up to here", self.limit, self.what));
        }
        (!self.is_exceeded()).then_some(())
    }

    const fn is_exceeded(&self) -> bool {
        self.count > self.limit
    }
}

/// How much was read, against the limits.
#[derive(Debug)]
pub(super) struct Counts {
    objects: Count,
    policies: Count,
    rules: Count,
    cidrs: Count,
    endpoints: Count,
}

impl Default for Counts {
    fn default() -> Counts {
        Counts {
            objects: Count::new(MAX_OBJECTS, "objects (MAX_OBJECTS)"),
            policies: Count::new(MAX_POLICIES, "policies (MAX_POLICIES)"),
            rules: Count::new(MAX_RULES, "rules (MAX_RULES)"),
            cidrs: Count::new(MAX_CIDRS, "address blocks (MAX_CIDRS)"),
            endpoints: Count::new(MAX_ENDPOINTS, "endpoints (MAX_ENDPOINTS)"),
        }
    }
}

impl Counts {
    pub(super) fn rule(&mut self, place: &Place<'_>) -> Option<()> {
        self.rules.one_more(place)
    }

    pub(super) fn cidr(&mut self, place: &Place<'_>) -> Option<()> {
        self.cidrs.one_more(place)
    }

    fn object(&mut self, kind: Kind, place: &Place<'_>) -> Option<()> {
        if kind.is_policy() {
            self.policies.one_more(place)?;
        }
        self.objects.one_more(place)
    }

    /// Whether reading on is of no use.
    fn is_exceeded(&self) -> bool {
        [&self.objects, &self.policies, &self.rules, &self.cidrs, &self.endpoints].into_iter().any(Count::is_exceeded)
    }

    /// As if each limit were `limit`.
    #[cfg(test)]
    pub(super) fn limited(limit: usize) -> Counts {
        let mut counts = Counts::default();
        let Counts { objects, policies, rules, cidrs, endpoints } = &mut counts;
        for count in [objects, policies, rules, cidrs, endpoints] {
            count.limit = limit;
        }
        counts
    }
}

/// Who has an address.
#[derive(Debug)]
struct Holder {
    pod: String,
    place: String,
    host_network: bool,
}

/// Gathers manifests.
#[derive(Debug, Default)]
pub struct Collector {
    manifests: Manifests,
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
    /// Of all files so far.
    pub(super) bytes: usize,
    pub(super) counts: Counts,
    /// By kind, namespace and name: where it was first written.
    seen: BTreeMap<(Kind, String, String), String>,
    addresses: BTreeMap<IpAddr, Holder>,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// What was read; `None` where there is an error.
    pub manifests: Option<Manifests>,
    /// Problems, file by file in the order of reading, and by place in each.
    pub errors: Vec<Finding>,
    /// What is allowed and probably not meant.
    pub warnings: Vec<Finding>,
}

impl Collector {
    /// An empty one.
    pub fn new() -> Collector {
        Collector::default()
    }

    /// Reads `bytes`, the content of `file`: documents in YAML or JSON. One that is no manifest is an error.
    pub fn read(&mut self, file: &str, bytes: &[u8]) {
        self.read_with(file, bytes, &mut |place| {
            if place.fields().is_some() {
                place.refuse("expected a manifest: the fields apiVersion and kind are missing");
            }
        });
    }

    /// The same, but documents without `apiVersion` and `kind` are given to `other`.
    pub fn read_with(&mut self, file: &str, bytes: &[u8], other: &mut dyn FnMut(&Place<'_>)) {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > MAX_FOLDER {
            let message = format!("with this file there are more than {MAX_FOLDER} bytes (MAX_FOLDER)");
            return self.errors.push(Finding { file: file.to_owned(), position: None, at: String::new(), message });
        }
        let mut errors = Vec::new();
        let mut documents = Documents::new(self, Report::new(file), other);
        walk(file, bytes, (MAX_MANIFESTS, "MAX_MANIFESTS"), &mut errors, &mut documents);
        let (found, mut warned) = documents.into_report().into_parts();
        errors.extend(found);
        errors.sort_by_key(|finding| finding.position);
        errors.truncate(MAX_FINDINGS);
        warned.sort_by_key(|finding| finding.position);
        self.errors.append(&mut errors);
        self.warnings.append(&mut warned);
    }

    /// Ends the reading, for whoever looks at warnings.
    pub fn finish(mut self) -> Outcome {
        self.sort();
        let mut warnings = std::mem::take(&mut self.warnings);
        warnings.extend(warnings::of(&self.manifests));
        match self.manifests() {
            Ok(manifests) => Outcome { manifests: Some(manifests), errors: Vec::new(), warnings },
            Err(errors) => Outcome { manifests: None, errors, warnings },
        }
    }

    /// Ends the reading without a look for what may not be meant, on which a container's start has no time to spend.
    ///
    /// # Errors
    /// Problems, file by file in the order of reading, and by place in each.
    pub fn manifests(mut self) -> Result<Manifests, Vec<Finding>> {
        self.sort();
        if self.errors.is_empty() { Ok(self.manifests) } else { Err(self.errors) }
    }

    fn sort(&mut self) {
        let cluster = &mut self.manifests.policies.cluster;
        cluster.sort_by(|a, b| (a.tier, a.priority, &a.name, a.kind).cmp(&(b.tier, b.priority, &b.name, b.kind)));
    }

    /// Reads one object. Whether reading on is of use.
    pub(super) fn object(&mut self, place: &Place<'_>, kind: Kind) -> bool {
        // Reported, and counted, whatever else is wrong with it.
        if self.counts.object(kind, place).is_some() {
            self.read_object(place, kind);
        }
        !self.counts.is_exceeded()
    }

    fn read_object(&mut self, place: &Place<'_>, kind: Kind) -> Option<()> {
        let mut fields = place.fields()?;
        fields.optional("apiVersion");
        fields.optional("kind");
        let meta = meta::read(&mut fields, kind);
        // Whose metadata is wrong is read on, for all problems are to be told.
        if let Some(meta) = &meta {
            self.note(place, kind, meta);
        }
        let meta = meta.unwrap_or_default();
        let Manifests { policies, inventory, declared } = &mut self.manifests;
        match kind {
            Kind::NetworkPolicy => {
                policies.network.extend(network_policy::read(&mut fields, &meta, &mut self.counts));
            }
            Kind::ClusterNetworkPolicy | Kind::AdminNetworkPolicy | Kind::BaselineAdminNetworkPolicy => {
                policies.cluster.extend(tiers::read(&mut fields, kind, &meta, &mut self.counts));
            }
            Kind::Namespace => inventory.namespaces.extend(inventory::namespace(place, meta)),
            Kind::Node => inventory.nodes.extend(inventory::node(&mut fields, meta)),
            Kind::Service => inventory.services.extend(inventory::service(&mut fields, &meta)),
            Kind::EndpointSlice => {
                let slice = inventory::slice(&mut fields, &meta);
                let endpoints =
                    slice.as_ref().map_or(0, |slice| slice.addresses.len().saturating_mul(slice.ports.len()));
                self.counts.endpoints.more(endpoints, place)?;
                inventory.slices.extend(slice);
            }
            Kind::Pod => {
                if let Some((pod, places)) = inventory::pod(&mut fields, meta, declared) {
                    for (address, place) in pod.addresses.iter().zip(&places) {
                        hold(&mut self.addresses, *address, place, &pod);
                    }
                    inventory.pods.push(pod);
                }
            }
        }
        if kind.is_policy() {
            fields.optional("status");
            fields.finish();
        }
        Some(())
    }

    /// Remembers the object, and reports it where it is there already.
    fn note(&mut self, place: &Place<'_>, kind: Kind, meta: &Meta<'_>) {
        let namespace = if kind.is_namespaced() { meta.namespace } else { "" };
        let key = (kind, namespace.to_owned(), meta.name.to_owned());
        if let Some(first) = self.seen.get(&key) {
            let slash = if namespace.is_empty() { "" } else { "/" };
            let (kind, name) = (kind.name(), meta.name);
            place.refuse(format!("{kind} {namespace}{slash}{name} stands twice, first at {first}"));
        } else {
            self.seen.insert(key, written_at(place));
        }
    }
}

/// The place, to be cited in a message.
fn written_at(place: &Place<'_>) -> String {
    place.origin().to_string()
}

/// Two pods with one address would each get the other's rules. Those on the host's network share the node's.
fn hold(addresses: &mut BTreeMap<IpAddr, Holder>, address: IpAddr, place: &Place<'_>, pod: &crate::policy::world::Pod) {
    let name = format!("{}/{}", pod.namespace, pod.name);
    match addresses.get(&address) {
        Some(holder) if holder.host_network && pod.host_network => {}
        Some(holder) => place.refuse(format!(
            "{address} is the address of two running pods, {name} and {} at {}",
            holder.pod, holder.place
        )),
        None => {
            let host_network = pod.host_network;
            addresses.insert(address, Holder { pod: name, place: written_at(place), host_network });
        }
    }
}
