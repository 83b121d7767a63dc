//! What `verify` found, for people and for programs.

use serde_json::{Value, json};

use super::found::Unread;
use crate::cli::page::{Page, Style, plain};
use crate::printable;
use crate::registry::Record;

/// One container.
#[derive(Clone, Debug)]
pub(super) struct Verified {
    pub(super) id: String,
    /// `record`, or whose folder it was found in.
    pub(super) source: &'static str,
    pub(super) pid: Option<i32>,
    pub(super) state: State,
}

/// What the kernel has of it, against what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The rules, sysctls and `lo` of its plan.
    AsRecorded,
    /// It has none, and none were asked for.
    NoRules,
    /// Something else than its plan: what, line by line.
    Drift(Vec<String>),
    /// What decides its rules was changed since, so that its plan cannot be made again.
    Changed {
        /// The comment of the table that it started with.
        recorded: Option<String>,
        /// The one of the table that a start would load today.
        today: Option<String>,
        /// What differs all the same.
        details: Vec<String>,
    },
    /// It should have come through the hook, and did not: why.
    Unprotected(String),
    /// It has a table of ours, with this comment, and no record.
    Unrecorded(String),
    /// It shares the network of this recorded container, and its rules.
    Shares(String),
    /// Nothing says that it should have rules. What of it is not known, where something is not.
    Without(Option<String>),
    /// It is on the host's network, which is never touched.
    HostNetwork,
    /// A pod's sandbox without rules: no program in it talks.
    Sandbox,
    /// It has ended.
    Ended,
    /// It could not be looked at.
    Unknown(String),
}

impl State {
    /// For programs, and in the column.
    const fn word(&self) -> &'static str {
        match self {
            State::AsRecorded => "as recorded",
            State::NoRules => "no rules, as recorded",
            State::Drift(_) => "drift",
            State::Changed { .. } => "configuration changed",
            State::Unprotected(_) => "unprotected",
            State::Unrecorded(_) => "no record",
            State::Shares(_) => "shared network",
            State::Without(_) => "without netlatch",
            State::HostNetwork => "host network",
            State::Sandbox => "sandbox",
            State::Ended => "has ended",
            State::Unknown(_) => "unknown",
        }
    }

    /// Whether somebody has to look after it.
    pub(super) const fn is_problem(&self) -> bool {
        match self {
            State::Drift(_)
            | State::Changed { .. }
            | State::Unprotected(_)
            | State::Unrecorded(_)
            | State::Ended
            | State::Unknown(_) => true,
            State::AsRecorded
            | State::NoRules
            | State::Shares(_)
            | State::Without(_)
            | State::HostNetwork
            | State::Sandbox => false,
        }
    }

    const fn style(&self) -> Style {
        match self {
            State::Drift(_)
            | State::Changed { .. }
            | State::Unprotected(_)
            | State::Unrecorded(_)
            | State::Ended
            | State::Unknown(_) => Style::Bad,
            State::Without(_) | State::HostNetwork => Style::Doubtful,
            State::AsRecorded | State::NoRules | State::Shares(_) | State::Sandbox => Style::Good,
        }
    }

    fn details(&self) -> Vec<String> {
        let named = |comment: &Option<String>| comment.clone().unwrap_or_else(|| "no table".to_owned());
        match self {
            State::Drift(details) => details.clone(),
            State::Changed { recorded, today, details } => {
                let changed = [
                    format!("it started with {}, and a start today would load {}", named(recorded), named(today)),
                    "so rules and sysctls cannot be compared; `netlatch reload` brings today's rules about".to_owned(),
                ];
                details.iter().cloned().chain(changed).collect()
            }
            State::Unprotected(why) | State::Unknown(why) => vec![why.clone()],
            State::Unrecorded(comment) => {
                vec![format!(
                    "it has {comment:?}; without a record nothing can be compared, and `netlatch reload` passes it over"
                )]
            }
            State::Shares(id) => vec![format!("of container {id}")],
            State::Without(Some(unknown)) => vec![format!("what it asks for is not known: {unknown}")],
            State::AsRecorded
            | State::NoRules
            | State::Without(None)
            | State::HostNetwork
            | State::Sandbox
            | State::Ended => Vec::new(),
        }
    }
}

impl Verified {
    /// A container whose record is none any more.
    pub(super) fn damaged(id: String) -> Verified {
        let why = "its record is damaged, and nothing is known of the container".to_owned();
        Verified { id, source: "record", pid: None, state: State::Unknown(why) }
    }

    fn process(&self) -> String {
        let pid = self.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        format!("process {pid} ({})", self.source)
    }

    pub(super) fn of(record: &Record, state: State) -> Verified {
        Verified { id: record.id.clone(), source: "record", pid: record.pid, state }
    }
}

impl From<Unread> for Verified {
    fn from(unread: Unread) -> Verified {
        let Unread { id, source, why } = unread;
        Verified { id, source, pid: None, state: State::Unknown(why) }
    }
}

pub(super) fn text(all: &[Verified], page: &mut Page) {
    if all.is_empty() {
        page.line(Style::Plain, "no container runs");
    }
    let longest = |of: fn(&Verified) -> usize| all.iter().map(of).max().unwrap_or(0);
    let ids = longest(|one| printable::line(&one.id).chars().count());
    let states = longest(|one| one.state.word().len());
    let processes: Vec<String> = all.iter().map(Verified::process).collect();
    // In columns where every line has room for them.
    let rest = processes.iter().map(|process| process.chars().count()).max().unwrap_or(0);
    let (ids, states) = if 2 + ids + 2 + states + 2 + rest <= page.width() { (ids, states) } else { (0, 0) };
    for (one, process) in all.iter().zip(&processes) {
        let style = one.state.style();
        let mark = if one.state.is_problem() { style.on("! ") } else { plain("  ") };
        let state = style.on(one.state.word());
        let gap = plain(" ".repeat(2 + states.saturating_sub(one.state.word().len())));
        page.put(&[mark, plain(format!("{:<ids$}  ", printable::line(&one.id)))], &[state, gap, plain(process)], 4);
        one.state.details().iter().for_each(|detail| page.put(&[plain("    ")], &[plain(detail)], 6));
    }
}

pub(super) fn json(all: &[Verified]) -> Value {
    let one = |one: &Verified| {
        json!({
            "id": one.id, "source": one.source, "pid": one.pid, "state": one.state.word(),
            "problem": one.state.is_problem(), "details": one.state.details(),
        })
    };
    json!({
        "problems": all.iter().filter(|one| one.state.is_problem()).count(),
        "containers": all.iter().map(one).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Verified> {
        let one = |id: &str, state| Verified { id: id.to_owned(), source: "record", pid: Some(4242), state };
        vec![
            one(&"0".repeat(64), State::AsRecorded),
            one(
                "web",
                State::Drift(vec!["chain egress has another rule than it was loaded with at its end".to_owned()]),
            ),
            one("\u{1b}[31mdb", State::Without(None)),
        ]
    }

    fn shown(width: usize) -> String {
        let mut page = Page::plain(width);
        text(&all(), &mut page);
        page.into_text()
    }

    #[test]
    fn columns_stand_below_each_other_where_there_is_room() {
        let wide = shown(200);
        let column = |word: &str| {
            let line = wide.lines().find(|line| line.contains(word)).unwrap();
            (line.find(word).unwrap(), line.find("process 4242 (record)").unwrap())
        };
        assert_eq!(column("as recorded"), column("drift"));
        assert_eq!(column("as recorded"), column("without netlatch"));
        assert!(wide.contains("\n! web  ") && !wide.contains('\u{1b}'), "{wide}");
    }

    #[test]
    fn lines_are_broken_where_there_is_none() {
        for width in [40, 80] {
            let narrow = shown(width);
            let id = format!("  {}", "0".repeat(64));
            assert!(narrow.lines().all(|line| line == id || line.chars().count() <= width), "{narrow}");
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(words(&narrow), words(&shown(200)));
            assert!(narrow.contains("\n! web  drift  process 4242 (record)\n    chain egress"), "{narrow}");
        }
    }
}
