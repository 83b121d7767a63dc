//! What may talk to whom, without a word of nftables.
//!
//! [`list`] holds the grammar of plain lists and their meaning for one packet, [`group`] says which addresses `@internet`
//! and its kin stand for; [`cover`] writes the shortest list that allows what was seen. Kubernetes policies are read by [`parse`] into [`model`], who there is into [`world`], where
//! [`lookup`] finds it. [`verdict`] says what they mean for one pod, [`flow`] for both ends, [`why`] in words; [`near`] finds
//! the rule that almost matched and [`reach`] asks about everyone. [`compile`] says what governs one container. Both
//! meanings are specifications: every other reading (the ruleset's evaluator, the kernel) is tested against them.

pub mod compile;
pub mod cover;
pub mod flow;
pub mod group;
pub mod list;
pub mod lookup;
pub mod model;
pub mod names;
pub mod near;
pub mod parse;
pub mod reach;
pub mod select;
pub mod service;
pub mod verdict;
pub mod watch;
pub mod why;
pub mod world;
