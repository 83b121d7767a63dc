//! The words that annotations and the configuration file share, and values that remember where they were written.

use crate::net::Origin;

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Where it comes from.
    pub origin: Origin,
}

impl<T> Sourced<T> {
    /// A value from `origin`.
    pub const fn new(value: T, origin: Origin) -> Sourced<T> {
        Sourced { value, origin }
    }

    /// A built-in default, by its name.
    pub const fn builtin(value: T, name: &'static str) -> Sourced<T> {
        Sourced { value, origin: Origin::Builtin(name) }
    }
}

/// Whether a layer drops what it denies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// It does.
    #[default]
    Enforce,
    /// It only records it.
    Audit,
}

impl Mode {
    /// The words of the annotation and the file.
    pub const WORDS: [(&'static str, Mode); 2] = [("enforce", Mode::Enforce), ("audit", Mode::Audit)];

    /// The word.
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Enforce => "enforce",
            Mode::Audit => "audit",
        }
    }
}

/// How a layer denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnDenied {
    /// The sender is told, and fails at once.
    Reject,
    /// The packet vanishes, and the sender waits.
    Drop,
}

impl OnDenied {
    /// The words of the annotation and the file.
    pub const WORDS: [(&'static str, OnDenied); 2] = [("reject", OnDenied::Reject), ("drop", OnDenied::Drop)];

    /// The word.
    pub const fn name(self) -> &'static str {
        match self {
            OnDenied::Reject => "reject",
            OnDenied::Drop => "drop",
        }
    }
}
