//! nf_tables: one picture of our table, with four readers.
//!
//! [`ruleset`] is the picture; [`build`] makes it from a [`filter::Filter`], which speaks of layers, addresses and
//! services and knows neither Kubernetes nor registers;
//! [`members`] are those of its sets that change while the rules stay. The readers: [`text`] prints what `nft -f` loads,
//! [`verdict`] says what the table does to a packet, [`wire`] turns it into the one batch the kernel takes and reads
//! the kernel's dumps back.

mod blocks;
pub mod build;
pub mod filter;
mod layout;
pub mod members;
pub mod ruleset;
pub mod text;
pub mod verdict;
pub mod wire;

pub use layout::MAX_BOXES;
