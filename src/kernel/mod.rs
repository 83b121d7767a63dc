//! Everything that asks the kernel for something, files beside: the registry, the log and the commands read and write
//! those of their own.
//!
//! A function that changes a network namespace takes an [`netns::Inside`], and an `Inside` exists only on a thread that
//! has been compared with the host's namespace and found elsewhere. "Applied to the host by mistake" does not compile.

pub mod apply;
pub mod capability;
pub mod checkpoint;
pub mod conntrack;
pub mod features;
pub mod files;
pub mod host_end;
pub mod laps;
pub mod link;
pub mod netns;
pub mod proc;
pub mod process;
mod rtnetlink;
pub mod socket;
pub mod tables;
pub mod userns;
