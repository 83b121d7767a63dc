//! See `laws::annotations`.
#![no_main]

#[path = "../laws/mod.rs"]
#[allow(dead_code)]
mod laws;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| laws::annotations::holds(bytes));
