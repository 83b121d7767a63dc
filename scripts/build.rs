//! How the program is linked: what a hook's stages run lies side by side (scripts/hot.sh), and its C library is musl where that is
//! installed.
//!
//! # Why musl
//!
//! Before `main` glibc asks the processor some fifty times what it is and how large its caches are (`intel_check_word`, in libc.a's
//! libc-start.o), to choose among its ways to copy memory. In a virtual machine each CPUID ends up with the hypervisor: 8 µs here,
//! 0.6 ms for all, in every program that glibc starts, statically linked or not. That is a third of a start. musl asks nothing.
//!
//! # Why like this
//!
//! Who has Rust's own `x86_64-unknown-linux-musl` can build for that. Most have not, and the standard library of
//! `x86_64-unknown-linux-gnu` needs nothing of glibc that musl does not have: on x86-64 their structures are laid out alike, which
//! musl means to keep, and a function that were missing would fail to link. So the program's C library is another at the very
//! end. Three things are different, and looked after:
//!
//! - musl does not pass arguments to `.init_array`, so that `std::env::args` has none: main.rs takes them as they come.
//! - Copying memory and the heap are made for size in there: src/main/blocks.rs and src/main/heap.rs.
//! - libgcc asks glibc where to unwind (`_dl_find_object`), `std::process` which version it is (`gnu_get_libc_version`):
//!   main.rs answers them.
//!
//! All tests run what was linked like this. Tests and examples themselves are linked with glibc, as is the program where there is no
//! musl, or where `NETLATCH_MUSL=no` is set when it is built. `NETLATCH_MUSL=DIR` names the folder with musl's `crt1.o` and `libc.a`.

use std::env;
use std::path::{Path, PathBuf};

/// Where distributions put them: Debian and Ubuntu (musl-dev), Fedora (musl-devel), Arch (musl).
const PLACES: [&str; 3] = ["/usr/lib/x86_64-linux-musl", "/usr/x86_64-linux-musl/lib64", "/usr/lib/musl/lib"];

fn main() {
    let layout = Path::new(&env::var("CARGO_MANIFEST_DIR").unwrap_or_default()).join("scripts/hot.ld");
    println!("cargo::rerun-if-changed={}", layout.display());
    println!("cargo::rerun-if-env-changed=NETLATCH_MUSL");
    println!("cargo::rustc-check-cfg=cfg(musl)");
    let is = |name: &str, wanted: &str| env::var(name).is_ok_and(|value| value == wanted);
    if !is("CARGO_CFG_TARGET_OS", "linux") || !is("CARGO_CFG_TARGET_ARCH", "x86_64") {
        return;
    }
    let arg = |arg: &str| println!("cargo::rustc-link-arg-bin=netlatch={arg}");
    // The names are those of an optimized build, and of x86-64; elsewhere the order stays the linker's.
    if is("PROFILE", "release") {
        arg(&format!("-Wl,-T,{}", layout.display()));
    }
    let is_static = env::var("CARGO_CFG_TARGET_FEATURE").is_ok_and(|all| all.split(',').any(|one| one == "crt-static"));
    if is("CARGO_CFG_TARGET_ENV", "gnu")
        && is_static
        && let Some(musl) = musl()
    {
        println!("cargo::rustc-cfg=musl");
        println!("cargo::rerun-if-changed={}", musl.join("libc.a").display());
        arg("-nostartfiles");
        ["crt1.o", "crti.o", "crtn.o"].iter().for_each(|object| arg(&musl.join(object).display().to_string()));
        arg(&format!("-L{}", musl.display()));
    }
}

/// Where musl is, if it is to be used.
fn musl() -> Option<PathBuf> {
    let is_there = |dir: &Path| ["crt1.o", "crti.o", "crtn.o", "libc.a"].iter().all(|file| dir.join(file).is_file());
    match env::var("NETLATCH_MUSL") {
        Ok(no) if no == "no" => None,
        Ok(dir) => {
            assert!(is_there(Path::new(&dir)), "NETLATCH_MUSL={dir}: there is no crt1.o, crti.o, crtn.o or libc.a");
            Some(dir.into())
        }
        Err(_) => PLACES.iter().map(PathBuf::from).find(|dir| is_there(dir)),
    }
}
