//! An explanation for people.

use crate::cli::page::{Page, Piece, Style, plain};
use crate::explain::{Explanation, Half, Ruleset, Said, spoken};
use crate::net::Direction;

/// The verdict is the first word.
pub(super) fn text(told: &Explanation, page: &mut Page) {
    let packet = format!(": {} from {} to {}", spoken(told.payload), told.from, told.to);
    page.put(&[], &[verdict(told.allowed), plain(packet)], 4);
    told.notes.iter().for_each(|note| page.put(&[], &[plain("note: "), plain(note)], 4));
    for half in &told.halves {
        page.blank();
        of_half(half, page);
    }
}

fn verdict(passes: bool) -> Piece<'static> {
    if passes { Style::Good.on("allowed") } else { Style::Bad.on("denied") }
}

fn of_half(half: &Half, page: &mut Page) {
    let towards = match half.direction {
        Direction::Egress => "to",
        Direction::Ingress => "from",
    };
    let head = format!("{} of {} {towards} {}, {}:", half.direction, half.of, half.peer, spoken(half.payload));
    let head = [Style::Heading.on(head), plain(" ")];
    match half.layers.as_slice() {
        [only] => {
            page.put(&[], &[&head[..], &reason(only)].concat(), 4);
            near(only, 2, page);
        }
        layers => {
            page.put(&[], &[&head[..], &[verdict(half.allowed)]].concat(), 4);
            for said in layers {
                let layer = [plain(said.layer), plain(": ")];
                page.put(&[plain("  ")], &[&layer[..], &reason(said)].concat(), 6);
                near(said, 4, page);
            }
        }
    }
    let style = match half.ruleset {
        Ruleset::Differs { .. } => Style::Bad,
        Ruleset::Agrees(_) | Ruleset::NotAsked(_) => Style::Plain,
    };
    page.put(&[plain("  ")], &[style.on(half.ruleset.to_string())], 6);
}

/// Why a layer says what it says: the verdict, and the rule behind it.
fn reason(said: &Said) -> [Piece<'_>; 2] {
    let word = if said.allowed { "allowed" } else { "denied" };
    match said.why.strip_prefix(word) {
        Some(rest) => [verdict(said.allowed), plain(rest)],
        None => [plain(""), plain(&said.why)],
    }
}

fn near(said: &Said, indent: usize, page: &mut Page) {
    for near in &said.nearest {
        let what = if near.governs { "nearest: " } else { "for other pods: " };
        let lacks = format!("{}: {}", near.placed(), near.lacks.join(", and "));
        page.put(&[plain(" ".repeat(indent))], &[Style::Doubtful.on(what), plain(lacks)], indent + 4);
    }
}
