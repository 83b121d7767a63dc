//! What may talk to whom, without a word of nftables.
//!
//! Today that is the plain lists of `io.netlatch.egress` and `io.netlatch.ingress` and of the configuration file.
//! [`list`] holds their grammar and their meaning on one packet, which is the specification every other reading
//! (the ruleset's evaluator, the kernel) is tested against; [`group`] says which addresses `@internet` and its
//! kin stand for.

pub mod group;
pub mod list;
