//! The guides for those who use Netlatch: each a Markdown file beside this one, rendered here.

#[doc = include_str!("lists.md")]
pub mod lists {}

#[doc = include_str!("timings.md")]
pub mod timings {}

/// A guide, by the name under which it is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Guide {
    /// One word.
    pub name: &'static str,
    /// What it is about, in one line.
    pub about: &'static str,
    /// Markdown.
    pub text: &'static str,
}

/// Every guide, in the order in which one would read them.
pub const GUIDES: [Guide; 2] = [
    Guide { name: "lists", about: "how lists of peers and ports are written", text: include_str!("lists.md") },
    Guide { name: "timings", about: "where the time of a start goes", text: include_str!("timings.md") },
];
