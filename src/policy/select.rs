//! What selectors mean: `labels.Requirement.Matches` of k8s.io/apimachinery, in one place.

use std::fmt;

use super::model::{Labels, Namespaces, Operator, Requirement, Selector};

impl Requirement {
    /// Whether it holds for these labels (R6).
    ///
    /// `NotIn` holds where the key is absent, as in apimachinery: "`NotIn` ... if the key is absent, it matches". Some
    /// evaluators of policies have that wrong.
    pub fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

impl Selector {
    /// Whether it selects what has these labels. Requirements are ANDed; without any it selects everything (S1, R4, R6).
    pub fn selects(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|requirement| requirement.holds(labels))
    }
}

impl Namespaces {
    /// Whether it means the namespace `name` with these labels (R3, R5).
    pub fn selects(&self, name: &str, labels: &Labels) -> bool {
        match self {
            Namespaces::Own(own) => own == name,
            Namespaces::Selected(selector) => selector.selects(labels),
        }
    }
}

impl fmt::Display for Requirement {
    /// As `kubectl get -l` spells it: `tier=front`, `tier in (a, b)`, `!tier`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Requirement { key, values, .. } = self;
        match (self.operator, values.as_slice()) {
            (Operator::In, [value]) => write!(f, "{key}={value}"),
            (Operator::NotIn, [value]) => write!(f, "{key}!={value}"),
            (Operator::In, values) => write!(f, "{key} in ({})", values.join(", ")),
            (Operator::NotIn, values) => write!(f, "{key} notin ({})", values.join(", ")),
            (Operator::Exists, _) => f.write_str(key),
            (Operator::DoesNotExist, _) => write!(f, "!{key}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Labels {
        if text.is_empty() { Labels::new() } else { crate::policy::names::parse_labels(text).unwrap() }
    }

    fn requirement(operator: Operator, values: &[&str]) -> Requirement {
        Requirement { key: "tier".into(), operator, values: values.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn each_operator_means_what_apimachinery_says_with_the_key_absent_too() {
        for (operator, values, absent, a, c) in [
            (Operator::In, &["a", "b"][..], false, true, false),
            (Operator::NotIn, &["a", "b"], true, false, true),
            (Operator::Exists, &[], false, true, true),
            (Operator::DoesNotExist, &[], true, false, false),
        ] {
            let requirement = requirement(operator, values);
            let held = ["x=a", "tier=a", "tier=c"].map(|text| requirement.holds(&labels(text)));
            assert_eq!(held, [absent, a, c], "{requirement}");
        }
    }

    #[test]
    fn requirements_are_anded_and_none_selects_everything() {
        assert!(Selector::default().selects(&labels("")));
        let both =
            Selector { requirements: vec![requirement(Operator::Exists, &[]), requirement(Operator::NotIn, &["b"])] };
        assert!(both.selects(&labels("tier=a")));
        assert!(!both.selects(&labels("tier=b")));
        assert!(!both.selects(&labels("x=a")));
    }

    #[test]
    fn a_requirement_is_spelled_as_kubectl_spells_it() {
        let texts = [
            requirement(Operator::In, &["a"]),
            requirement(Operator::In, &["a", "b"]),
            requirement(Operator::NotIn, &["a"]),
            requirement(Operator::NotIn, &["a", "b"]),
            requirement(Operator::Exists, &[]),
            requirement(Operator::DoesNotExist, &[]),
        ]
        .map(|requirement| requirement.to_string());
        assert_eq!(texts, ["tier=a", "tier in (a, b)", "tier!=a", "tier notin (a, b)", "tier", "!tier"]);
    }
}
