//! What selectors mean (`labels.Requirement.Matches`, k8s.io/apimachinery/pkg/labels/selector.go).

use super::model::{Labels, Namespaces, Operator, Requirement, Selector};

impl Selector {
    /// Whether it holds for `labels`. An empty selector holds for all.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|requirement| requirement.matches(labels))
    }
}

impl Requirement {
    /// Whether it holds for `labels`. `NotIn` holds where the key is absent.
    pub fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

impl Namespaces {
    /// Whether it means the namespace `name` with these labels.
    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        match self {
            Namespaces::Own(own) => own == name,
            Namespaces::Selected(selector) => selector.matches(labels),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(operator: Operator, values: &[&str], labels: &[(&str, &str)]) -> bool {
        let requirement =
            Requirement { key: "app".into(), operator, values: values.iter().map(|v| (*v).to_owned()).collect() };
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Selector { requirements: vec![requirement] }.matches(&labels)
    }

    #[test]
    fn each_operator_means_what_apimachinery_says() {
        let (web, none) = ([("app", "web")], [("tier", "web")]);
        assert!(holds(Operator::In, &["db", "web"], &web));
        assert!(!holds(Operator::In, &["db"], &web));
        assert!(!holds(Operator::In, &["web"], &none));
        assert!(!holds(Operator::NotIn, &["db", "web"], &web));
        assert!(holds(Operator::NotIn, &["db"], &web));
        assert!(holds(Operator::NotIn, &["web"], &none), "NotIn holds where the key is absent");
        assert!(holds(Operator::Exists, &[], &web) && !holds(Operator::Exists, &[], &none));
        assert!(!holds(Operator::DoesNotExist, &[], &web) && holds(Operator::DoesNotExist, &[], &none));
        assert!(Selector::default().matches(&Labels::new()));
    }
}
