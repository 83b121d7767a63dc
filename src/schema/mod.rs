//! JSON schemas (draft 2020-12) of what is read and of what is printed for programs, as `netlatch schema` prints them.
//!
//! They are written by hand and know nothing of the code. tests/schema.rs holds them against it: what a schema of something that
//! is read refuses, its parser refuses too, and what is printed has no key that its schema does not describe.

use serde_json::{Map, Value};

/// What has a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schema {
    /// The state of a container, on a stage's stdin.
    State,
    /// The configuration file.
    Config,
    /// A container's annotations.
    Annotations,
    /// What commands print for programs.
    Output,
}

impl Schema {
    /// All of them.
    pub const ALL: [Schema; 4] = [Schema::State, Schema::Config, Schema::Annotations, Schema::Output];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Schema::State => "state",
            Schema::Config => "config",
            Schema::Annotations => "annotations",
            Schema::Output => "output",
        }
    }

    /// Its text.
    pub const fn text(self) -> &'static str {
        match self {
            Schema::State => include_str!("state.json"),
            Schema::Config => include_str!("config.json"),
            Schema::Annotations => include_str!("annotations.json"),
            Schema::Output => include_str!("output.json"),
        }
    }
}

/// What has a definition of its own in [`Schema::Output`]: commands, and what else some of them print.
pub const OUTPUTS: [&str; 11] = [
    "check",
    "plan",
    "reach",
    "reach-probes",
    "explain",
    "inspect",
    "inspect-list",
    "learn",
    "verify",
    "doctor",
    "last-error",
];

/// The schema of one of [`OUTPUTS`], which needs no other; `None` where there is none of that name.
pub fn of_output(name: &str) -> Option<String> {
    let whole: Value = serde_json::from_str(Schema::Output.text()).ok()?;
    let definitions = whole.get("$defs")?.as_object()?;
    let mut schema = definitions.get(name).filter(|_| OUTPUTS.contains(&name))?.as_object()?.clone();
    let mut needed = Map::new();
    let mut unread = vec![Value::Object(schema.clone())];
    while let Some(value) = unread.pop() {
        match &value {
            Value::Object(members) => {
                if let Some(Value::String(reference)) = members.get("$ref")
                    && let Some((name, definition)) =
                        reference.strip_prefix("#/$defs/").and_then(|name| definitions.get_key_value(name))
                    && needed.insert(name.clone(), definition.clone()).is_none()
                {
                    unread.push(definition.clone());
                }
                unread.extend(members.values().cloned());
            }
            Value::Array(items) => unread.extend(items.iter().cloned()),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    schema.insert("$schema".to_owned(), whole.get("$schema")?.clone());
    schema.insert("$id".to_owned(), format!("{}:{name}", whole.get("$id")?.as_str()?).into());
    if !needed.is_empty() {
        schema.insert("$defs".to_owned(), needed.into());
    }
    Some(format!("{:#}\n", Value::Object(schema)))
}

#[cfg(test)]
pub(crate) mod tests;
