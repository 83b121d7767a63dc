//! What touches the kernel.

pub mod files;
