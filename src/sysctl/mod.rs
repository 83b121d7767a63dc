//! Network sysctls: checked names and values, which of them an operator may set, and what a container's should hold.
//!
//! Everything here is a pure function of its input; `kernel::proc` reads and writes.

pub mod key;

pub use key::{Key, KeyError, Setting, ValueError, check_value, same_value};
