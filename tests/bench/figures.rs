//! Samples, and the lines that are printed of them.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// The middle one; of an even number the later of the two in the middle. Also where half of them fell in bad moments.
pub(crate) fn median(samples: &[Duration]) -> Duration {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

pub(crate) fn title(text: &str) {
    println!("\n{text}");
    println!("{:<58} {:>9} {:>9} {:>9} {:>7}", "", "median ms", "least", "90 %", "ratio");
}

/// Rows measured in turns, so that they share what the machine did meanwhile. The ratio is to the row `to`.
pub(crate) struct Rows {
    name: String,
    rows: Vec<(String, Vec<Duration>)>,
}

impl Rows {
    /// `name` is what the file of the samples is called.
    pub(crate) fn new(name: &str, names: impl IntoIterator<Item = impl Into<String>>) -> Rows {
        Rows { name: name.to_owned(), rows: names.into_iter().map(|name| (name.into(), Vec::new())).collect() }
    }

    pub(crate) fn add(&mut self, row: usize, sample: Duration) {
        self.rows[row].1.push(sample);
    }

    /// Every row, against the one that `to` names for it.
    pub(crate) fn print(&self, to: impl Fn(usize) -> usize) {
        for (row, (name, samples)) in self.rows.iter().enumerate() {
            let mut sorted = samples.clone();
            sorted.sort_unstable();
            let (Some(least), Some(late)) = (sorted.first(), sorted.get(sorted.len() * 9 / 10)) else { continue };
            let ratio = ms(median(samples)) / ms(median(&self.rows[to(row)].1));
            let (middle, least, late) = (ms(median(samples)), ms(*least), ms(*late));
            println!("{name:<58} {middle:>9.2} {least:>9.2} {late:>9.2} {ratio:>7.2}");
        }
    }

    /// Writes every sample, for programs: one a line, in the order of the rounds.
    pub(crate) fn keep(&self, dir: &Path) {
        let mut text = "row,round,us\n".to_owned();
        for (name, samples) in &self.rows {
            for (round, sample) in samples.iter().enumerate() {
                let _ = writeln!(text, "\"{name}\",{round},{:.1}", sample.as_nanos() as f64 / 1e3);
            }
        }
        fs::write(dir.join(&self.name).with_extension("csv"), text).expect("the samples are written");
    }
}
