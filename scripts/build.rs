//! Has the linker lay side by side what a hook's stages run: see scripts/hot.sh.

use std::env;
use std::path::Path;

fn main() {
    let layout = Path::new(&env::var("CARGO_MANIFEST_DIR").unwrap_or_default()).join("scripts/hot.ld");
    println!("cargo::rerun-if-changed={}", layout.display());
    // The names are those of an optimized build, and of x86-64; elsewhere the order stays the linker's.
    let is = |name: &str, wanted: &str| env::var(name).is_ok_and(|value| value == wanted);
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ARCH", "x86_64") {
        println!("cargo::rustc-link-arg-bin=netlatch=-Wl,-T,{}", layout.display());
    }
}
