//! Samples that were taken in turns, and what is made of them: a table for people, and a picture.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

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

    /// Bars of the medians on a logarithmic scale, with a line from the tenth to the ninetieth of a hundred. No colour of it
    /// needs a white page.
    pub(crate) fn picture(&self) -> String {
        let (left, width, high) = (330.0, 360.0, 22.0);
        let rows: Vec<(usize, &str, [f64; 3])> = self
            .measured()
            .map(|(number, row)| {
                let times: Vec<f64> = row.samples.iter().map(|sample| self.told(sample) / 1e3).collect();
                (number, row.name.as_str(), [0.1, 0.5, 0.9].map(|part| quantile(&times, part)))
            })
            .collect();
        let (least, most) = rows
            .iter()
            .fold((f64::MAX, 0.0_f64), |(least, most), (_, _, [low, _, late])| (least.min(*low), most.max(*late)));
        let (from, to) = (least.log10().floor(), most.log10().ceil());
        let x = |ms: f64| left + width * (ms.log10() - from) / (to - from).max(1.0);
        let bottom = 40.0 + high * rows.len() as f64;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 800 {:.0}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <style>text{{fill:#7d8590}}.grid{{stroke:#7d8590;stroke-opacity:.35}}.bar{{fill:#3b82f6}}.own{{fill:#e0791b}}\
             .range{{stroke:#7d8590;stroke-width:2}}</style>\n<text x=\"8\" y=\"18\" font-size=\"14\">{}</text>\n",
            bottom + 26.0,
            escaped(&self.title)
        );
        for power in from as i32..=to as i32 {
            let (ms, at) = (10_f64.powi(power), x(10_f64.powi(power)));
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"30\" y2=\"{bottom:.0}\"/>\
                 <text x=\"{at:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{ms} ms</text>",
                bottom + 16.0
            );
        }
        for (place, (row, name, [low, middle, late])) in rows.into_iter().enumerate() {
            let top = 34.0 + high * place as f64;
            let class = if row == self.base { "own" } else { "bar" };
            let _ = writeln!(
                svg,
                "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
                 <rect class=\"{class}\" x=\"{left}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.0}\"/>\
                 <line class=\"range\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\">{middle:.2}</text>",
                left - 8.0,
                top + 13.0,
                escaped(name),
                x(middle) - left,
                high - 6.0,
                x(low),
                x(late),
                top + 8.0,
                top + 8.0,
                x(late) + 6.0,
                top + 13.0
            );
        }
        svg + "</svg>\n"
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

    /// Prints the table, and writes what [`Group::keep`] writes.
    pub(crate) fn publish(&self, dir: &Path) {
        println!("{}", self.table());
        self.keep(dir);
    }

    /// Writes `NAME.svg` and `NAME.csv`.
    pub(crate) fn keep(&self, dir: &Path) {
        fs::write(dir.join(&self.name).with_extension("csv"), self.samples()).expect("the samples are written");
        fs::write(dir.join(&self.name).with_extension("svg"), self.picture()).expect("the picture is written");
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
