//! Bars for a README: no colour of them needs a white page.

use std::fmt::Write as _;

/// A row of it: a median, with the tenth and the ninetieth of a hundred.
pub(crate) struct Bar {
    pub(crate) name: String,
    /// Drawn in another colour.
    pub(crate) is_ours: bool,
    pub(crate) low: f64,
    pub(crate) middle: f64,
    pub(crate) late: f64,
}

/// Where the bars begin, how wide the longest may be, and how far apart they are.
const LEFT: f64 = 330.0;
const WIDTH: f64 = 390.0;
const HIGH: f64 = 20.0;

/// What values are drawn along.
enum Scale {
    /// From nothing to this.
    Even(f64),
    /// From the one to the other, each power as long: bars of which one is many times another.
    Powers(f64, f64),
}

impl Scale {
    fn of(bars: &[Bar]) -> Scale {
        let least = bars.iter().map(|bar| bar.middle).fold(f64::MAX, f64::min);
        let most = bars.iter().map(|bar| bar.late).fold(0.0, f64::max);
        if most / least < 8.0 { Scale::Even(most) } else { Scale::Powers(round(least * 0.7), most) }
    }

    fn x(&self, value: f64) -> f64 {
        let part = match self {
            Scale::Even(most) => value / most,
            Scale::Powers(least, most) => (value / least).log10() / (most / least).log10(),
        };
        LEFT + WIDTH * part.clamp(0.0, 1.0)
    }

    /// Where lines are drawn across.
    fn marks(&self) -> Vec<f64> {
        match self {
            Scale::Even(most) => {
                let step = round(most / 4.0);
                (0..).map(|n| f64::from(n) * step).take_while(|mark| mark <= most).collect()
            }
            Scale::Powers(least, most) => {
                let powers = (-9..9).map(|power| 10_f64.powi(power));
                let marks = powers.flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * power));
                marks.filter(|mark| (*least..=*most).contains(mark)).collect()
            }
        }
    }
}

/// The next lower of 1, 2, 5, 10, 20 and so on, up and down.
fn round(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    [5.0, 2.0, 1.0].into_iter().map(|digit| digit * power).find(|round| *round <= value).unwrap_or(power)
}

/// Draws the bars as SVG.
pub(crate) fn draw(title: &str, unit: &str, bars: &[Bar]) -> String {
    let scale = Scale::of(bars);
    let bottom = 40.0 + HIGH * bars.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 800 {:.0}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <style>text{{fill:#7d8590}}.grid{{stroke:#7d8590;stroke-opacity:.35}}.bar{{fill:#3b82f6}}.own{{fill:#e0791b}}\
         .range{{stroke:#7d8590;stroke-width:2}}</style>\n<text x=\"8\" y=\"18\" font-size=\"14\">{}</text>\n",
        bottom + 26.0,
        escaped(title)
    );
    for mark in scale.marks() {
        let (x, label) = (scale.x(mark), (mark * 1e6).round() / 1e6);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"30\" y2=\"{bottom:.0}\"/>\
             <text x=\"{x:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{label}{unit}</text>",
            bottom + 16.0
        );
    }
    for (place, bar) in bars.iter().enumerate() {
        let top = 34.0 + HIGH * place as f64;
        let class = if bar.is_ours { "own" } else { "bar" };
        let [low, middle, late] = [bar.low, bar.middle, bar.late].map(|value| scale.x(value));
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <rect class=\"{class}\" x=\"{LEFT}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.0}\"/>\
             <line class=\"range\" x1=\"{low:.1}\" x2=\"{late:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{:.2}</text>",
            LEFT - 8.0,
            top + 12.0,
            escaped(&bar.name),
            middle - LEFT,
            HIGH - 5.0,
            top + 7.5,
            top + 7.5,
            late.max(middle) + 6.0,
            top + 12.0,
            bar.middle,
        );
    }
    svg + "</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
