//! Where the time of a stage goes: what `createRuntime --timings` prints.
//!
//! Off, which is always but on request, a lap reads one flag. On, it reads two clocks, the wall's and that of this process's
//! own work, which stands still while others have the processor, and asks for page faults; that call, `getrusage`, stands
//! between the phases in a trace of strace too, so that calls can be counted by phase.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::time::{ClockId, clock_gettime};

/// One phase.
#[derive(Clone, Copy, Debug)]
struct Lap {
    name: &'static str,
    took: Duration,
    own: Duration,
    faults: i64,
}

struct Laps {
    laps: Vec<Lap>,
    last: Instant,
    own: Duration,
    faults: i64,
}

thread_local! {
    /// When the lock was taken that is held now, and how long it was held before.
    static LOCKED: Cell<Option<Instant>> = const { Cell::new(None) };
    static HELD: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
    static ON: Cell<bool> = const { Cell::new(false) };
    static LAPS: RefCell<Option<Laps>> = const { RefCell::new(None) };
}

/// The program's first line.
pub fn begin() {
    BEGAN.set(Some(Instant::now()));
}

/// Laps are kept from here on; the first ends here.
pub fn keep() {
    let (now, own, faults) = (Instant::now(), own(), faults());
    let took = now.duration_since(BEGAN.get().unwrap_or(now));
    // Own time and faults until here are those of exec and the loader as well: they cannot be told apart.
    let laps = vec![Lap { name: "start up", took, own, faults }];
    ON.set(true);
    LAPS.set(Some(Laps { laps, last: Instant::now(), own, faults }));
}

/// The end of a phase.
pub fn lap(name: &'static str) {
    if ON.get() {
        ended(name);
    }
}

/// The registry's lock is held from here on. How long others had to wait for this start is told apart from the phases, since
/// it begins and ends within them.
pub fn locked() {
    if ON.get() {
        LOCKED.set(Some(Instant::now()));
    }
}

/// And from here on not any more.
pub fn unlocked() {
    if let Some(since) = LOCKED.take() {
        HELD.set(HELD.get() + since.elapsed());
    }
}

#[cold]
fn ended(name: &'static str) {
    let (now, worked, faults) = (Instant::now(), own(), faults());
    LAPS.with_borrow_mut(|laps| {
        let Some(Laps { laps, last, own: before, faults: counted }) = laps else { return };
        let (took, own) = (now.duration_since(*last), worked.saturating_sub(*before));
        laps.push(Lap { name, took, own, faults: faults - *counted });
        (*last, *before, *counted) = (Instant::now(), worked, faults);
    });
}

/// The laps that were kept, a line each: microseconds, those of own work, minor page faults, name; their sum; and how long the
/// registry's lock was held, where it was. `None` where none were.
pub fn table() -> Option<String> {
    LAPS.with_borrow(|laps| {
        let laps = &laps.as_ref()?.laps;
        let sum = Lap {
            name: "all",
            took: laps.iter().map(|lap| lap.took).sum(),
            own: laps.iter().map(|lap| lap.own).sum(),
            faults: laps.iter().map(|lap| lap.faults).sum(),
        };
        let mut table = String::from("      us    own us  faults\n");
        for lap in laps.iter().chain([&sum]) {
            let [us, own] = [lap.took, lap.own].map(|time| time.as_nanos() as f64 / 1e3);
            // Writing to a string does not fail.
            let _ = writeln!(table, "{us:>8.1}  {own:>8.1}  {:>6}  {}", lap.faults, lap.name);
        }
        let held = HELD.get();
        if !held.is_zero() {
            let _ = writeln!(table, "{:>8.1}  {:>8}  {:>6}  {UNDER_LOCK}", held.as_nanos() as f64 / 1e3, "", "");
        }
        Some(table)
    })
}

/// What the line is called that tells how long the lock was held.
pub const UNDER_LOCK: &str = "of them under the lock";

fn own() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

fn faults() -> i64 {
    getrusage(UsageWho::RUSAGE_SELF).as_ref().map_or(0, Usage::minor_page_faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_unless_somebody_asks_for_it() {
        begin();
        lap("before");
        assert_eq!(table(), None);
        keep();
        lap("behind");
        let table = table().unwrap();
        let names: Vec<&str> = table.lines().skip(1).map(|line| line.rsplit("  ").next().unwrap_or_default()).collect();
        assert_eq!(names, ["start up", "behind", "all"], "{table}");
        locked();
        std::thread::sleep(Duration::from_millis(2));
        unlocked();
        // What comes behind is not counted.
        unlocked();
        let table = super::table().unwrap();
        let line = table.lines().last().unwrap();
        let us = line.strip_suffix(UNDER_LOCK).unwrap().trim();
        assert!(us.parse::<f64>().unwrap() >= 2000.0, "{line}");
    }
}
