//! netlatch.
fn main() {}
