//! The netlink side: one table, one batch; and the kernel's dumps, read back.
//!
//! [`uapi`] spells the kernel's numbers, [`attr`] writes and reads attributes, [`expr`] knows each expression's
//! encoding and decoding side by side, [`lower`] turns our matches into expressions, [`held`] is a table in the kernel's
//! terms and [`delta`] a change of a set's elements, [`batch`] packs the datagram that makes either, [`dump`] decodes what
//! the kernel holds and compares it with what was asked for, [`reply`] maps errors to objects. [`listing`] is a table for
//! people, with what it has counted, and [`raise`] the text of its rules.

pub mod attr;
pub mod batch;
pub mod delta;
pub mod dump;
pub mod expr;
pub mod held;
pub mod listing;
pub mod lower;
pub mod raise;
pub mod reply;
pub mod uapi;
