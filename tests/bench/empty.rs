//! Does nothing: what starting and ending a static program costs, to be taken off every other figure.

fn main() {}
