//! From what is wanted to an ordered list of steps: a plain value that can be printed, compared and applied.

pub mod layers;
