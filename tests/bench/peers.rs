//! The hook beside what somebody would take instead, each doing its part of the same: groups `peers`, `load`,
//! `packets` and `runc`.
//!
//! Run by scripts/bench.sh. Every run has a network namespace of its own, made before its time begins; the runs of a round
//! follow each other in a random order. A peer that is not installed is named and left out; one that fails is named, and the bench
//! ends with 1.

mod canned;
#[path = "../support/config.rs"]
mod config;
#[path = "../support/dice.rs"]
#[allow(dead_code)]
mod dice;
#[path = "../support/namespace.rs"]
#[allow(dead_code)]
mod namespace;
mod report;
mod rows;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::sched::{CloneFlags, unshare};
use rustix::process::{Resource, Rlimit, setrlimit};

/// Where the programs are that are measured, and where the pictures go.
pub(crate) struct Bench {
    netlatch: PathBuf,
    empty: PathBuf,
    floor: PathBuf,
    peak: PathBuf,
    pictures: PathBuf,
    rounds: usize,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [netlatch, examples, pictures, only @ ..] = args.as_slice() else {
        eprintln!("usage: peers NETLATCH EXAMPLES PICTURES [GROUP...], see scripts/bench.sh");
        std::process::exit(2);
    };
    // The namespace that stands for the host's.
    unshare(CloneFlags::CLONE_NEWNET).expect("root, or a user namespace");
    let many = Rlimit { current: Some(16_384), maximum: Some(16_384) };
    setrlimit(Resource::Nofile, many).expect("the limit can be raised");
    let rounds = std::env::var("ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(50);
    let examples = Path::new(examples);
    let bench = Bench {
        netlatch: netlatch.into(),
        empty: examples.join("bench-empty"),
        floor: examples.join("bench-floor"),
        peak: examples.join("bench-peak"),
        pictures: pictures.into(),
        rounds,
    };
    std::fs::create_dir_all(&bench.pictures).expect("a directory");
    type Measurement = fn(&Bench);
    let groups: [(&str, Measurement); 5] = [
        ("peers", rows::start::measure),
        ("load", rows::load::measure),
        ("packets", rows::packets::measure),
        ("runc", rows::runc::measure),
        ("versions", rows::start::versions),
    ];
    for (name, measure) in groups {
        if only.is_empty() || only.iter().any(|wanted| wanted == name) {
            report::attempt(name, || measure(&bench));
        }
    }
    report::exit_code()
}
