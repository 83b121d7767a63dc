//! Samples, and the lines that are printed of them.

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
    rows: Vec<(String, Vec<Duration>)>,
}

impl Rows {
    pub(crate) fn new(names: impl IntoIterator<Item = impl Into<String>>) -> Rows {
        Rows { rows: names.into_iter().map(|name| (name.into(), Vec::new())).collect() }
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
}
