//! `metadata`: strict for policies, where a misspelt `namespace` would put a policy elsewhere.

use super::kind::Kind;
use crate::document::{Fields, Place};
use crate::policy::model::Labels;
use crate::policy::names::{check_label_key, check_label_value, check_namespace};

/// What is needed of an object's metadata.
#[derive(Debug, Default)]
pub(super) struct Meta<'a> {
    pub(super) name: &'a str,
    pub(super) namespace: &'a str,
    pub(super) labels: Labels,
    /// Where `metadata.labels` stand, if they do.
    pub(super) labels_place: Option<Place<'a>>,
}

/// Fields of `metav1.ObjectMeta` that mean nothing to us. (`clusterName` was one until 1.24.)
const SERVERS: [&str; 13] = [
    "annotations",
    "clusterName",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Longest name that any object can have (`DNS1123SubdomainMaxLength`).
const LONGEST_NAME: usize = 253;

/// Where an object is that names no namespace.
const DEFAULT_NAMESPACE: &str = "default";

/// Reads the metadata of an object of `kind`.
pub(super) fn read<'a>(object: &mut Fields<'a>, kind: Kind) -> Option<Meta<'a>> {
    let mut fields = object.required("metadata")?.fields()?;
    let name = name(&mut fields, kind);
    // The API's empty string is its missing value.
    let place = fields.not_null("namespace").filter(|place| !is_empty(place));
    let namespace = match place {
        None => Some(DEFAULT_NAMESPACE),
        Some(place) if kind.is_namespaced() => namespace(&place, kind),
        Some(place) => {
            if kind.is_policy() {
                // ValidateObjectMeta: "not allowed on this type".
                place.refuse(format!("{} is not in a namespace", kind.name()));
            }
            Some(DEFAULT_NAMESPACE)
        }
    };
    let labels_place = fields.not_null("labels");
    let labels = labels_place.as_ref().map(|place| labels(place, kind)).unwrap_or_default();
    if kind.is_policy() {
        if let Some(place) = fields.not_null("annotations")
            && let Some(entries) = place.entries()
        {
            entries.for_each(|(_, value)| {
                value.string();
            });
        }
        for name in SERVERS {
            fields.optional(name);
        }
        fields.finish();
    }
    Some(Meta { name: name?, namespace: namespace?, labels, labels_place })
}

fn is_empty(place: &Place<'_>) -> bool {
    matches!(&place.node().value, crate::document::Value::Str { text, .. } if text.is_empty())
}

fn name<'a>(fields: &mut Fields<'a>, kind: Kind) -> Option<&'a str> {
    let Some(place) = fields.not_null("name") else {
        // The API server makes a name up; there is none here, and two starts must not differ.
        if fields.not_null("generateName").is_some() {
            fields.object().refuse("the field name is missing; generateName needs an API server");
        } else {
            fields.required("name");
        }
        return None;
    };
    let name = place.string()?;
    if name.is_empty() {
        place.refuse("is empty");
        return None;
    }
    if name.len() > LONGEST_NAME {
        place.refuse(format!("is longer than {LONGEST_NAME} bytes"));
        return None;
    }
    if kind.is_policy() && !is_dns_subdomain(name) {
        place.refuse(
            "expected a DNS name: at most 253 of a-z, 0-9, - and ., with a letter or digit at both ends of each part",
        );
        return None;
    }
    Some(name)
}

fn namespace<'a>(place: &Place<'a>, kind: Kind) -> Option<&'a str> {
    let name = place.string()?;
    if name.len() > LONGEST_NAME {
        place.refuse(format!("is longer than {LONGEST_NAME} bytes"));
        return None;
    }
    if kind.is_policy()
        && let Err(problem) = check_namespace(name)
    {
        place.refuse(problem);
        return None;
    }
    Some(name)
}

/// `IsDNS1123Subdomain` of k8s.io/apimachinery/pkg/util/validation, which does not limit the parts to 63.
fn is_dns_subdomain(name: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    name.len() <= LONGEST_NAME && name.split('.').all(part)
}

/// Labels of an object. Those of the inventory were checked by the server that printed them, or belong to nobody's rules.
fn labels(place: &Place<'_>, kind: Kind) -> Labels {
    let mut labels = Labels::new();
    for (key, value) in place.entries().into_iter().flatten() {
        let Some(text) = value.string() else { continue };
        if kind.is_policy()
            && let Err(problem) = check_label_key(&key.text).and_then(|()| check_label_value(text))
        {
            value.refuse(problem);
        }
        labels.insert(key.text.clone(), text.to_owned());
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_dns_subdomain() {
        for name in ["a", "a.b", "0", "a-b.c", &"a".repeat(253)] {
            assert!(is_dns_subdomain(name), "{name}");
        }
        for name in ["", "A", "a_b", ".a", "a.", "a..b", "-a", "a-", "a.-b", "ä", &"a".repeat(254)] {
            assert!(!is_dns_subdomain(name), "{name}");
        }
    }
}
