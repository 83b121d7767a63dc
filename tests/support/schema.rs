//! The judge of JSON by schema: a validator of somebody else's.

use std::cell::RefCell;
use std::collections::BTreeMap;

use boon::{Compiler, Schemas};
use netlatch::schema::{Schema, of_output};
use serde_json::Value;

/// A compiled schema. Compiling it validates it against the metaschema that it names.
pub(crate) struct Judge {
    schemas: Schemas,
    index: boon::SchemaIndex,
}

impl Judge {
    pub(crate) fn of(text: &str) -> Judge {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource("urn:test", serde_json::from_str(text).expect("JSON")).expect("a resource");
        let index = compiler.compile("urn:test", &mut schemas).unwrap_or_else(|error| panic!("{error:#}"));
        Judge { schemas, index }
    }

    pub(crate) fn of_schema(schema: Schema) -> Judge {
        Judge::of(schema.text())
    }

    /// What is wrong with a value.
    pub(crate) fn refuses(&self, value: &Value) -> Option<String> {
        self.schemas.validate(value, self.index).err().map(|error| format!("{error:#}"))
    }

    pub(crate) fn takes(&self, value: &Value) -> bool {
        self.refuses(value).is_none()
    }
}

/// Panics unless `value` is what the schema of this command's output describes.
#[track_caller]
pub(crate) fn is_as_described(output: &str, value: &Value) {
    thread_local! {
        static JUDGES: RefCell<BTreeMap<String, Judge>> = RefCell::default();
    }
    let problem = JUDGES.with_borrow_mut(|judges| {
        let judge = || Judge::of(&of_output(output).unwrap_or_else(|| panic!("no schema of {output}")));
        judges.entry(output.to_owned()).or_insert_with(judge).refuses(value)
    });
    if let Some(problem) = problem {
        panic!("not as src/schema/output.json describes {output}: {problem}\n{value:#}");
    }
}

/// Parses what a command printed, and panics unless it is as its schema describes.
#[track_caller]
pub(crate) fn described(output: &str, text: &str) -> Value {
    let value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    is_as_described(output, &value);
    value
}
