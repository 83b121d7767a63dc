//! What the readers of JSON share: messages, and maps in which a key must not stand twice. (serde keeps the last one;
//! another reader may keep the first.)

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use crate::document::{clipped, shown};

/// What a reader says, with its place. The text may quote the input, of whatever length.
pub(super) fn problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let short = clipped(text.clone());
    if short == text { text } else { format!("{short} at line {} column {}", error.line(), error.column()) }
}

/// An object of strings, or null.
pub(super) fn strings<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<BTreeMap<String, String>>, D::Error> {
    Ok(Option::<Strings>::deserialize(deserializer)?.map(|strings| strings.0))
}

/// An object of strings.
pub(super) struct Strings(pub(super) BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Strings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Strings, D::Error> {
        deserializer.deserialize_map(Object(PhantomData)).map(Strings)
    }
}

struct Object(PhantomData<()>);

impl<'de> Visitor<'de> for Object {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut strings = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            let value: String =
                map.next_value().map_err(|error| A::Error::custom(format!("{}: {error}", shown(&key))))?;
            if strings.contains_key(&key) {
                return Err(A::Error::custom(format!("the key {} stands twice", shown(&key))));
            }
            strings.insert(key, value);
        }
        Ok(strings)
    }
}
