//! See `laws::netlink`.
#![no_main]

#[path = "../laws/mod.rs"]
#[allow(dead_code)]
mod laws;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| laws::netlink::holds(bytes));
