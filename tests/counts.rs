//! How many instructions the hook's own work takes, against tests/counts/instructions.txt.
//!
//! Time on a busy machine says little about a change of some percent; instructions below valgrind are the same from run to
//! run. The build is the tests' own, without optimization: a count says whether a piece of work grew, not what it costs.
//! Another compiler makes other instructions of the same source, so scripts/test.sh runs this with the one that the file
//! names. tests/kernel_counts.rs does the same for system calls.

#[path = "support/counted.rs"]
mod counted;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use counted::Counted;

/// What is no growth: the processor's kind decides which copying and searching the C library takes.
const TOLERANCE: f64 = 0.03;

/// The program that does the pieces of work: tests/bench/counts.rs, built beside the hook.
fn program() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_netlatch")).with_file_name("examples").join("bench-counts");
    assert!(program.exists(), "{}: cargo build --example bench-counts", program.display());
    program
}

/// Instructions of each piece, in its order.
fn instructions() -> Vec<(String, u64)> {
    let listed = Command::new(program()).arg("--list").output().expect("it starts");
    let names: Vec<String> = String::from_utf8(listed.stdout).expect("UTF-8").lines().map(str::to_owned).collect();
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("out");
    let valgrind = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=bench_counts::counted", "--dump-after=bench_counts::counted"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program())
        // Copying by whatever the processor has would make counts of one machine none of another's.
        .env("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F,-AVX512VL,-ERMS,-FSRM")
        .output()
        .expect("valgrind is installed");
    assert!(valgrind.status.success(), "{}", String::from_utf8_lossy(&valgrind.stderr));
    let counts =
        (1..).map_while(|n| fs::read_to_string(format!("{}.{n}", out.display())).ok()).map(|text| total(&text));
    let counts: Vec<u64> = counts.filter(|count| *count > 0).collect();
    assert_eq!(counts.len(), names.len(), "one dump for each of {names:?}");
    names.into_iter().zip(counts).collect()
}

/// Of a dump: what it counted.
fn total(dump: &str) -> u64 {
    let totals = dump.lines().find_map(|line| line.strip_prefix("totals: ")).expect("a line with totals");
    totals.trim().parse().expect("a number")
}

fn compiler() -> String {
    let version = Command::new("rustc").arg("-V").output().expect("rustc starts");
    String::from_utf8(version.stdout).expect("UTF-8").trim().to_owned()
}

#[test]
#[ignore = "needs valgrind, the example bench-counts and the compiler that the file names"]
fn no_piece_of_the_hooks_work_takes_more_instructions_than_it_did() {
    let head = format!(
        "{}\nInstructions of a debug build for each piece of tests/bench/counts.rs. UPDATE=1 cargo test --test counts -- \
         --ignored writes them anew.",
        compiler()
    );
    Counted { file: "instructions.txt", tolerance: TOLERANCE }.compare(&head, &BTreeMap::from_iter(instructions()));
}
