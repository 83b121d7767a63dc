//! A specification's text, read with the places of what is in it.

use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::Change;
use crate::oci::hooks::{Hook, Kin, kin_of_entry};

/// A specification's text with the places of its hooks.
pub(super) struct Spec<'a> {
    pub(super) text: &'a str,
    pub(super) top: Members<'a>,
    /// The value of `hooks`, which is missing, null or an object.
    pub(super) hooks: Option<(Range<usize>, Option<Members<'a>>)>,
}

/// A list's place, and those of its entries.
pub(super) type List = (Range<usize>, Vec<Range<usize>>);

/// An entry of a stage's list.
pub(super) struct Listed {
    pub(super) index: usize,
    pub(super) place: Range<usize>,
    pub(super) kin: Kin,
    pub(super) value: Value,
}

impl Listed {
    pub(super) fn hook(&self) -> Option<Hook> {
        Hook::deserialize(&self.value).ok()
    }

    pub(super) fn change(&self, stage: &str, added: bool) -> Change {
        let entry = self.hook().and_then(|hook| serde_json::to_string(&hook).ok());
        Change { added, at: super::at(stage, self.index), entry: entry.unwrap_or_else(|| self.value.to_string()) }
    }
}

impl<'a> Spec<'a> {
    pub(super) fn read(text: &'a str) -> Result<Spec<'a>, String> {
        let start = text.len() - text.trim_start().len();
        let top = Members::read(text, start..text.trim_end().len(), "the specification")?;
        let hooks = match top.find("hooks") {
            None => None,
            Some(place) if &text[place.clone()] == "null" => Some((place, None)),
            Some(place) => Some((place.clone(), Some(Members::read(text, place, "hooks")?))),
        };
        let spec = Spec { text, top, hooks };
        for stage in spec.stages() {
            spec.list(&stage)?;
        }
        Ok(spec)
    }

    pub(super) fn stages(&self) -> Vec<String> {
        let members = self.hooks.iter().flat_map(|(_, members)| members);
        members.flat_map(|members| members.all.iter().map(|(key, _)| key.clone())).collect()
    }

    /// The place of a stage's list, and those of its entries; `None` where it is missing.
    pub(super) fn list(&self, stage: &str) -> Result<Option<List>, String> {
        let Some((_, Some(members))) = &self.hooks else { return Ok(None) };
        let Some(place) = members.find(stage) else { return Ok(None) };
        if &self.text[place.clone()] == "null" {
            return Ok(Some((place, Vec::new())));
        }
        let entries: Vec<&RawValue> = serde_json::from_str(&self.text[place.clone()])
            .map_err(|_| expected(self.text, &place, &format!("hooks.{stage}: expected a list")))?;
        let entries = entries.into_iter().map(|entry| place_of(self.text, entry)).collect();
        Ok(Some((place, entries)))
    }

    pub(super) fn listed(&self, stage: &str) -> Vec<Listed> {
        let entries = self.list(stage).ok().flatten().map(|(_, entries)| entries).unwrap_or_default();
        let read = |(index, place): (usize, Range<usize>)| {
            let value: Value = serde_json::from_str(&self.text[place.clone()]).unwrap_or_default();
            Listed { index, place, kin: kin_of_entry(&value, stage), value }
        };
        entries.into_iter().enumerate().map(read).collect()
    }
}

/// The members of an object, with the places of their values.
pub(super) struct Members<'a> {
    pub(super) text: &'a str,
    pub(super) place: Range<usize>,
    pub(super) all: Vec<(String, Range<usize>)>,
}

impl<'a> Members<'a> {
    pub(super) fn read(text: &'a str, place: Range<usize>, what: &str) -> Result<Members<'a>, String> {
        let members: RawMembers = serde_json::from_str(&text[place.clone()])
            .map_err(|_| expected(text, &place, &format!("{what}: expected an object")))?;
        let mut all: Vec<(String, Range<usize>)> = Vec::with_capacity(members.0.len());
        for (key, value) in members.0 {
            // Some readers keep the first, others the last.
            if all.iter().any(|(known, _)| *known == key) {
                return Err(expected(text, &place_of(text, value), &format!("{what}: a key stands twice")));
            }
            all.push((key, place_of(text, value)));
        }
        Ok(Members { text, place, all })
    }

    pub(super) fn find(&self, key: &str) -> Option<Range<usize>> {
        self.all.iter().find(|(known, _)| known == key).map(|(_, place)| place.clone())
    }

    /// The blanks before the first key: how this object is laid out.
    pub(super) fn layout(&self) -> &'a str {
        blanks(&self.text[self.place.start + 1..])
    }

    /// The text without a member.
    pub(super) fn without(&self, key: &str) -> String {
        let index = self.all.iter().position(|(known, _)| known == key).unwrap_or(self.all.len());
        let end = |index: usize| self.all[index].1.end;
        let gap = match index {
            0 if self.all.len() > 1 => {
                let comma = end(0) + blanks(&self.text[end(0)..]).len();
                self.place.start + 1..comma + 1
            }
            0 => self.place.start + 1..end(0),
            _ => end(index - 1)..end(index),
        };
        spliced(self.text, gap, "")
    }
}

/// The members in order, their values as they stand.
struct RawMembers<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for RawMembers<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawMembers<'a>, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = RawMembers<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawMembers<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(RawMembers(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// Where a value stands: it borrows from `text`.
fn place_of(text: &str, value: &RawValue) -> Range<usize> {
    let start = value.get().as_ptr().addr() - text.as_ptr().addr();
    start..start + value.get().len()
}

fn expected(text: &str, place: &Range<usize>, what: &str) -> String {
    let before = &text[..place.start];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("{what} at line {line} column {column}")
}

/// JSON's blanks at the beginning.
pub(super) fn blanks(text: &str) -> &str {
    &text[..text.len() - text.trim_start_matches([' ', '\t', '\n', '\r']).len()]
}

pub(super) fn spliced(text: &str, gap: Range<usize>, new: &str) -> String {
    [&text[..gap.start], new, &text[gap.end..]].concat()
}
