//! Many hands that start programs, one after another each.

use std::fs::File;
use std::io::read_to_string;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

/// How `createRuntime --timings` calls the time that it held the registry's lock.
const UNDER_LOCK: &str = netlatch::kernel::laps::UNDER_LOCK;

/// One program to start, and what it reads.
pub(crate) struct Start {
    pub(crate) command: Command,
    pub(crate) input: PathBuf,
}

/// What came of it, in milliseconds.
#[derive(Default)]
pub(crate) struct Crowd {
    /// From the first start to the last end.
    pub(crate) all: f64,
    /// Of each, from its start to its end.
    pub(crate) took: Vec<f64>,
    /// Of each that held the lock, how long.
    pub(crate) locked: Vec<f64>,
}

impl Crowd {
    /// How many ended in a second.
    pub(crate) fn throughput(&self) -> f64 {
        self.took.len() as f64 / self.all * 1e3
    }
}

/// Starts `count` programs, `parallel` at a time: whoever sees one end starts the next. One that fails ends all.
pub(crate) fn at_once(parallel: usize, count: usize, start: impl Fn(usize) -> Start + Sync) -> Crowd {
    let next = AtomicUsize::new(0);
    let begun = Instant::now();
    let hand = || {
        let mut done = Crowd::default();
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= count {
                return done;
            }
            let Start { mut command, input } = start(n);
            command.env_clear().stdin(File::open(input).expect("the input opens"));
            command.stdout(Stdio::null()).stderr(Stdio::piped());
            let began = Instant::now();
            let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
            let status = child.wait().expect("it ends");
            done.took.push(began.elapsed().as_secs_f64() * 1e3);
            let said = read_to_string(child.stderr.take().expect("a pipe")).expect("text");
            assert!(status.success(), "{command:?}: {status}: {said}");
            let locked = said.lines().find_map(|line| line.strip_suffix(UNDER_LOCK)?.trim().parse::<f64>().ok());
            done.locked.extend(locked.map(|us| us / 1e3));
        }
    };
    let mut crowd = Crowd::default();
    thread::scope(|scope| {
        let hands: Vec<_> = (0..parallel).map(|_| scope.spawn(hand)).collect();
        for hand in hands {
            let done = hand.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            crowd.took.extend(done.took);
            crowd.locked.extend(done.locked);
        }
    });
    crowd.all = begun.elapsed().as_secs_f64() * 1e3;
    crowd
}
