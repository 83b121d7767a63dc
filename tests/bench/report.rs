//! Samples that were taken in turns, and what is made of them: a table for people, and a picture.

#[path = "picture.rs"]
mod picture;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use picture::Bar;

/// What a run of a program took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    /// From its start to its end, in microseconds.
    pub(crate) us: f64,
    /// What it and its children worked of that, in microseconds: what others on the machine do moves it less.
    pub(crate) own: f64,
    /// Minor page faults, those of its children with them.
    pub(crate) faults: i64,
}

/// Whether anything failed that was to be measured.
static FAILED: AtomicBool = AtomicBool::new(false);

/// Says what failed, for the end of the run.
pub(crate) fn failed(what: &str, why: &str) {
    eprintln!("failed: {what}: {why}");
    FAILED.store(true, Ordering::Relaxed);
}

/// What the bench ends with: 1 where anything failed.
pub(crate) fn exit_code() -> ExitCode {
    ExitCode::from(u8::from(FAILED.load(Ordering::Relaxed)))
}

/// Runs the measurement of a group. One that panics is named, and the others go on.
pub(crate) fn attempt(name: &str, measure: impl FnOnce()) {
    // Nothing that it had a hand in is used again, but what a panic leaves in order.
    if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(measure)) {
        let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        failed(&format!("group {name}"), said.unwrap_or("it panicked"));
    }
}

/// One row of a group.
#[derive(Clone)]
struct Row {
    name: String,
    /// Against which row its ratios are.
    base: usize,
    samples: Vec<Sample>,
    /// The most memory it had resident, in kB.
    resident: Option<i64>,
    /// Why it is not measured.
    failed: Option<String>,
}

/// Rows of one group. Each round adds one sample to every row, so that row and base share what the machine did.
pub(crate) struct Group {
    /// What it is called, also by its files.
    pub(crate) name: String,
    title: String,
    rows: Vec<Row>,
    /// Where what was worked tells more than the clock: how much of what a sample is.
    work: Option<(f64, &'static str)>,
    base: usize,
}

/// The value below which a part of all lies.
pub(crate) fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = ((sorted.len().saturating_sub(1)) as f64 * part).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

impl Group {
    /// Ratios are to the row `base`.
    pub(crate) fn new(name: &str, title: &str, base: usize, rows: impl IntoIterator<Item = String>) -> Group {
        let row = |name| Row { name, base, samples: Vec::new(), resident: None, failed: None };
        let rows = rows.into_iter().map(row).collect();
        Group { name: name.to_owned(), title: title.to_owned(), rows, work: None, base }
    }

    /// What is told is what was worked, not what passed by the clock, and how much a second that makes: a sample is of `amount`.
    pub(crate) fn of_work(self, amount: f64, unit: &'static str) -> Group {
        Group { work: Some((amount, unit)), ..self }
    }

    /// What tells, in microseconds.
    fn told(&self, sample: &Sample) -> f64 {
        if self.work.is_some() { sample.own } else { sample.us }
    }

    pub(crate) fn add(&mut self, row: usize, sample: Sample) {
        self.rows[row].samples.push(sample);
    }

    /// The first rows of another group as well, under other names. Their ratios stay what they were.
    pub(crate) fn gather(&mut self, other: &Group, names: impl IntoIterator<Item = String>) {
        let before = self.rows.len();
        let own = |(row, name): (&Row, String)| Row { name, base: row.base + before, ..row.clone() };
        self.rows.extend(other.rows.iter().zip(names).map(own));
    }

    /// The ratios of `row` are to `base`, not to the base of the group.
    pub(crate) fn against(&mut self, row: usize, base: usize) {
        self.rows[row].base = base;
    }

    pub(crate) fn resident(&mut self, row: usize, kb: i64) {
        self.rows[row].resident = Some(kb);
    }

    /// Nothing more is measured of this row: it is named, and the table says why.
    pub(crate) fn fail(&mut self, row: usize, why: &str) {
        failed(&format!("{}: {}", self.name, self.rows[row].name), why);
        self.leave_out(row, why);
    }

    /// The same of a row that was named before.
    pub(crate) fn leave_out(&mut self, row: usize, why: &str) {
        self.rows[row].failed = Some(why.to_owned());
    }

    pub(crate) fn has_failed(&self, row: usize) -> bool {
        self.rows[row].failed.is_some()
    }

    /// Rows of which there is something to say.
    fn measured(&self) -> impl Iterator<Item = (usize, &Row)> {
        self.rows.iter().enumerate().filter(|(_, row)| row.failed.is_none() && !row.samples.is_empty())
    }

    /// A Markdown table.
    pub(crate) fn table(&self) -> String {
        let what = self.work.map_or("median ms", |_| "median ms of work");
        let rest = self.work.map_or("own work ms | ratio | faults | kB |".to_owned(), |(_, unit)| {
            format!("µs each | by the clock ms | ratio | {unit} a second |")
        });
        let columns = 6 + rest.matches('|').count();
        let mut text = format!(
            "### {}\n\n| | {what} | 10 % | 90 % | ratio | 10 % | 90 % | {rest}\n|---|{}\n",
            self.title,
            "--:|".repeat(columns)
        );
        for (number, row) in self.measured() {
            let middle = |of: &dyn Fn(&Sample) -> f64| quantile(&row.samples.iter().map(of).collect::<Vec<_>>(), 0.5);
            let times: Vec<f64> = row.samples.iter().map(|sample| self.told(sample) / 1e3).collect();
            let ratios = self.ratios(number, |sample| self.told(sample));
            let _ = write!(text, "| {}", row.name);
            for value in [&times, &ratios].into_iter().flat_map(|all| [0.5, 0.1, 0.9].map(|part| quantile(all, part))) {
                let _ = write!(text, " | {value:.2}");
            }
            let _ = if let Some((amount, _)) = self.work {
                let us = middle(&|sample| sample.us);
                let ratio = quantile(&self.ratios(number, |sample| sample.us), 0.5);
                let each = middle(&|sample| sample.own) / amount;
                writeln!(text, " | {each:.2} | {:.2} | {ratio:.2} | {:.0} |", us / 1e3, amount / us * 1e6)
            } else {
                let resident = row.resident.map_or_else(|| "-".to_owned(), |kb| kb.to_string());
                let (own, faults) = (middle(&|sample| sample.own / 1e3), middle(&|sample| sample.faults as f64));
                let ratio = quantile(&self.ratios(number, |sample| sample.own), 0.5);
                writeln!(text, " | {own:.2} | {ratio:.2} | {faults:.0} | {resident} |")
            };
        }
        for row in &self.rows {
            if let Some(why) = &row.failed {
                let why = why.lines().next().unwrap_or_default().replace('|', "/");
                let _ = writeln!(text, "| {} | failed: {why} |", row.name);
            }
        }
        text
    }

    /// Of each round: this row to its base.
    pub(crate) fn ratios(&self, row: usize, of: impl Fn(&Sample) -> f64) -> Vec<f64> {
        let row = &self.rows[row];
        row.samples.iter().zip(&self.rows[row.base].samples).map(|(this, base)| of(this) / of(base)).collect()
    }

    /// Every sample, for programs: one a line, in the order of the rounds.
    fn samples(&self) -> String {
        let mut text = "row,round,us,own_us,faults,resident_kb\n".to_owned();
        for Row { name, samples, resident, .. } in &self.rows {
            let (name, kb) = (name.replace('"', "\"\""), resident.map_or_else(String::new, |kb| kb.to_string()));
            for (round, Sample { us, own, faults }) in samples.iter().enumerate() {
                let _ = writeln!(text, "\"{name}\",{round},{us:.1},{own:.1},{faults},{kb}");
            }
        }
        text
    }

    /// The medians as bars: of what was worked the ratios, otherwise milliseconds.
    pub(crate) fn picture(&self) -> String {
        let (title, unit) = match self.work {
            Some(_) => (format!("{}: work, to that of {}", self.title, self.rows[self.base].name), ""),
            None => (self.title.clone(), " ms"),
        };
        let bar = |(number, row): (usize, &Row)| {
            let values = match self.work {
                Some(_) => self.ratios(number, |sample| sample.own),
                None => row.samples.iter().map(|sample| sample.us / 1e3).collect(),
            };
            let [low, middle, late] = [0.1, 0.5, 0.9].map(|part| quantile(&values, part));
            Bar { name: row.name.clone(), is_ours: row.name.contains("netlatch"), low, middle, late }
        };
        picture::draw(&title, unit, &self.measured().map(bar).collect::<Vec<_>>())
    }

    /// Prints the table, and writes what [`Group::keep`] writes.
    pub(crate) fn publish(&self, dir: &Path) {
        println!("{}", self.table());
        self.keep(dir);
    }

    /// Writes `NAME.svg`, `NAME.csv` and, as it is printed, `NAME.md`.
    pub(crate) fn keep(&self, dir: &Path) {
        fs::write(dir.join(&self.name).with_extension("md"), self.table()).expect("the table is written");
        fs::write(dir.join(&self.name).with_extension("csv"), self.samples()).expect("the samples are written");
        fs::write(dir.join(&self.name).with_extension("svg"), self.picture()).expect("the picture is written");
    }
}
