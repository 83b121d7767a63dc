//! Label selectors (k8s.io/apimachinery/pkg/apis/meta/v1/validation, `ValidateLabelSelector`).

use crate::document::Place;
use crate::policy::model::{Operator, Requirement, Selector};
use crate::policy::names::{check_label_key, check_label_value};

const OPERATORS: [(&str, Operator); 4] = [
    ("In", Operator::In),
    ("NotIn", Operator::NotIn),
    ("Exists", Operator::Exists),
    ("DoesNotExist", Operator::DoesNotExist),
];

/// Reads a `LabelSelector`. An empty one holds for all.
pub(super) fn read(place: &Place<'_>) -> Option<Selector> {
    let mut fields = place.fields()?;
    let mut requirements = Vec::new();
    if let Some(labels) = fields.not_null("matchLabels") {
        for (key, value) in labels.entries().into_iter().flatten() {
            if let Err(problem) = check_label_key(&key.text) {
                value.refuse(problem);
            }
            requirements.extend(label_value(&value).map(|text| Requirement {
                key: key.text.clone(),
                operator: Operator::In,
                values: vec![text],
            }));
        }
    }
    if let Some(list) = fields.not_null("matchExpressions") {
        requirements.extend(list.items().into_iter().flatten().filter_map(|item| requirement(&item)));
    }
    fields.finish();
    Some(Selector { requirements })
}

fn requirement(place: &Place<'_>) -> Option<Requirement> {
    let mut fields = place.fields()?;
    let key = fields.required("key").and_then(|key| {
        let text = key.string()?;
        check_label_key(text).map_err(|problem| key.refuse(problem)).ok()?;
        Some(text.to_owned())
    });
    let operator = fields.required("operator").and_then(|place| place.word(&OPERATORS));
    let list = fields.not_null("values");
    // Of a list that is none, nothing more is said.
    let items: Option<Vec<Place<'_>>> = match &list {
        Some(list) => list.items().map(Iterator::collect),
        None => Some(Vec::new()),
    };
    match (operator, &items, list) {
        (Some(Operator::In | Operator::NotIn), Some(items), Some(list)) if items.is_empty() => {
            list.refuse("In and NotIn need a value at least");
        }
        (Some(Operator::In | Operator::NotIn), _, None) => {
            fields.required("values");
        }
        (Some(Operator::Exists | Operator::DoesNotExist), Some(items), Some(list)) if !items.is_empty() => {
            list.refuse("Exists and DoesNotExist take no values");
        }
        (Some(Operator::In | Operator::NotIn | Operator::Exists | Operator::DoesNotExist) | None, _, _) => {}
    }
    let values = items.into_iter().flatten().filter_map(|value| label_value(&value)).collect();
    fields.finish();
    Some(Requirement { key: key?, operator: operator?, values })
}

fn label_value(place: &Place<'_>) -> Option<String> {
    let text = place.string()?;
    check_label_value(text).map_err(|problem| place.refuse(problem)).ok()?;
    Some(text.to_owned())
}
