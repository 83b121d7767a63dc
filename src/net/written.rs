//! The entries of a list as they were written, together.
//!
//! A list may have 200,000 entries, and hardly any of their texts is ever shown. A string, a place and a path for each would take
//! longer to make than the kernel takes to load the list, and most of the memory; so the texts are one text, and a place is
//! composed when somebody asks for it.

use std::fmt;
use std::sync::Arc;

use super::Origin;

/// What was written, entry by entry. Copies share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written(Arc<Entries>);

#[derive(Debug, PartialEq, Eq)]
struct Entries {
    /// The entries one after the other, without what separates them.
    text: String,
    /// Where each ends in it.
    ends: Vec<u32>,
    /// The lines in which they stand; empty where they were written in one string.
    lines: Vec<u32>,
    /// Where all of them stand.
    origin: Origin,
}

impl Written {
    /// Where entry `index` was written: a line and a place of its own where entries were written apart.
    pub fn origin(&self, index: usize) -> Origin {
        let Entries { lines, origin, .. } = &*self.0;
        match (origin, lines.get(index)) {
            (Origin::File { path, at, .. }, Some(line)) => {
                Origin::File { path: path.clone(), line: *line, at: format!("{at}[{index}]") }
            }
            (other, _) => other.clone(),
        }
    }

    /// Entry `index` as written; empty where there is none.
    pub fn text(&self, index: usize) -> &str {
        let Entries { text, ends, .. } = &*self.0;
        let end = |index: usize| ends.get(index).map_or(text.len(), |end| *end as usize);
        text.get(index.checked_sub(1).map_or(0, end)..end(index)).unwrap_or_default()
    }
}

/// Makes a [`Written`].
#[derive(Debug)]
pub struct Writing(Entries);

impl Writing {
    /// For entries that stand at `origin`, of which there are about `entries` of as many bytes together.
    pub fn new(origin: &Origin, entries: usize, bytes: usize) -> Writing {
        let (text, ends) = (String::with_capacity(bytes), Vec::with_capacity(entries));
        Writing(Entries { text, ends, lines: Vec::new(), origin: origin.clone() })
    }

    /// The next entry, with its line where it was written apart. Either all have one or none has.
    pub fn push(&mut self, text: &str, line: Option<u32>) {
        self.0.text.push_str(text);
        self.0.ends.push(self.0.text.len() as u32);
        self.0.lines.extend(line);
    }

    /// All of them.
    pub fn done(self) -> Written {
        Written(Arc::new(self.0))
    }
}

/// What was written and where, of one thing that is enforced.
#[derive(Clone, PartialEq, Eq)]
pub enum Cited {
    /// Put into words.
    Text(Box<str>),
    /// An entry of a list, by index.
    Entry(Written, u32),
}

impl fmt::Display for Cited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cited::Text(text) => f.write_str(text),
            Cited::Entry(written, index) => {
                let index = *index as usize;
                write!(f, "{}: {}", written.origin(index), written.text(index))
            }
        }
    }
}

impl fmt::Debug for Cited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the whole list for each of its entries.
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

impl From<String> for Cited {
    fn from(text: String) -> Cited {
        Cited::Text(text.into())
    }
}

impl From<&str> for Cited {
    fn from(text: &str) -> Cited {
        Cited::Text(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_cited_as_it_was_written() {
        let file = Origin::File { path: "c.yaml".into(), line: 3, at: "egress".into() };
        let of = |origin: &Origin, lines: [Option<u32>; 2]| {
            let mut writing = Writing::new(origin, 2, 0);
            writing.push("10.0.0.0/8", lines[0]);
            writing.push("*:443", lines[1]);
            let written = writing.done();
            [0, 1].map(|index| Cited::Entry(written.clone(), index).to_string())
        };
        assert_eq!(of(&file, [Some(4), Some(6)]), ["c.yaml:4 egress[0]: 10.0.0.0/8", "c.yaml:6 egress[1]: *:443"]);
        assert_eq!(of(&file, [None, None]), ["c.yaml:3 egress: 10.0.0.0/8", "c.yaml:3 egress: *:443"]);
        let annotation = Origin::Annotation { key: "io.netlatch.egress".into() };
        assert_eq!(of(&annotation, [None, None])[1], "annotation io.netlatch.egress: *:443");
    }
}
