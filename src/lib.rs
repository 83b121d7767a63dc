//! Netlatch: an OCI runtime hook that locks a container's network before its first instruction.
#![forbid(unsafe_code)]

pub mod cli;
pub mod document;
pub mod error;
pub mod kernel;
pub mod logging;
pub mod net;
pub mod netlink;
pub mod nft;
pub mod oci;
pub mod plan;
pub mod policy;
pub mod registry;
pub mod settings;
pub mod sysctl;
