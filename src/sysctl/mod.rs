//! Network sysctls: checked names and values, which of them an operator may set, and what a container's should hold.
//!
//! Everything here is a pure function of its input; `kernel::proc` reads and writes.

pub mod allow;
pub mod conflict;
mod defaults;
pub mod devconf;
pub mod ipv6;
pub mod key;

/// Most sysctls that one place may name: a container's annotations, the configuration file, config.json. Each is held
/// against every other one; Linux 6.18 has some 300 in a network namespace with two interfaces.
pub const MAX_SYSCTLS: usize = 1000;

pub use allow::{AllowList, Pattern};
pub use conflict::{contradictions, disagreements, give_way};
pub use devconf::Devconf;
pub use ipv6::{Ipv6, Write};
pub use key::{Key, KeyError, Setting, ValueError, check_value, same_value};
