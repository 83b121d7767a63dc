//! One text, one verdict: what is accepted, what it means, and where it is refused.

mod cluster;
mod documents;
mod inventory;
mod network;

use super::*;
use crate::policy::model::NetworkPolicy;

fn read(files: &[(&str, &str)]) -> Outcome {
    let mut collector = Collector::new();
    for (name, text) in files {
        collector.read(name, text.as_bytes());
    }
    collector.finish()
}

fn good(text: &str) -> Manifests {
    let outcome = read(&[("f", text)]);
    outcome.manifests.unwrap_or_else(|| panic!("{text}\n{:?}", outcome.errors))
}

fn bad(text: &str) -> Vec<String> {
    let outcome = read(&[("f", text)]);
    assert_eq!(outcome.manifests.is_none(), !outcome.errors.is_empty());
    outcome.errors.iter().map(ToString::to_string).collect()
}

fn warned(text: &str) -> Vec<String> {
    let outcome = read(&[("f", text)]);
    assert_eq!(outcome.errors, [], "{text}");
    outcome.warnings.iter().map(ToString::to_string).collect()
}

/// A NetworkPolicy `shop/p` whose spec, in flow style, stands in line 4.
fn np(spec: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {spec}\n"
    )
}

fn policy(spec: &str) -> NetworkPolicy {
    good(&np(spec)).policies.network.remove(0)
}

const SUBJECT: &str = "subject: {namespaces: {}}";

/// A ClusterNetworkPolicy whose spec stands in line 4.
fn cnp(rest: &str) -> String {
    format!(
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: c}}\nspec: {{tier: Admin, priority: 5, {SUBJECT}, {rest}}}\n"
    )
}

fn anp(kind: &str, name: &str, spec: &str) -> String {
    format!("apiVersion: policy.networking.k8s.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

/// The one error that `text` has, without the file's name.
fn one(text: &str) -> String {
    let found = bad(text);
    assert_eq!(found.len(), 1, "{text}: {found:?}");
    found[0].strip_prefix("f:").unwrap_or_else(|| panic!("{found:?}")).to_owned()
}

/// Each text has exactly one error, whose path and beginning of message are given.
fn refuses(make: fn(&str) -> String, cases: &[(&str, &str)]) {
    for (spec, wanted) in cases {
        let found = one(&make(spec));
        let (place, said) = found.split_once(' ').unwrap();
        assert!(place.starts_with("4:"), "{spec}: {found}");
        assert!(said.starts_with(wanted), "{spec}\n     got {said}\n  wanted {wanted}");
    }
}

fn pod(name: &str, rest: &str) -> String {
    format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\n{rest}\n")
}
