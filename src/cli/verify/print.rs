//! What `verify` found, for people and for programs.

use std::fmt::Write;

use serde_json::{Value, json};

use super::found::Unread;
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
    /// A network namespace of which no runtime tells: the name of a process in it.
    Nobodys(String),
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
            State::Nobodys(_) => "no runtime's",
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
            | State::Sandbox
            | State::Nobodys(_) => false,
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
            State::Nobodys(comm) => vec![format!(
                "{comm} runs there without rules; if it is a container, name its runtime's folder with --state-dir"
            )],
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

pub(super) fn text(all: &[Verified]) -> String {
    if all.is_empty() {
        return "no container runs\n".to_owned();
    }
    let width = |of: fn(&Verified) -> usize| all.iter().map(of).max().unwrap_or(0);
    let ids = width(|one| one.id.chars().count());
    let states = width(|one| one.state.word().len());
    let mut text = String::new();
    for one in all {
        let pid = one.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let mark = if one.state.is_problem() { "!" } else { " " };
        let id = printable::line(&one.id);
        let _ = writeln!(text, "{mark} {id:<ids$}  {:<states$}  process {pid} ({})", one.state.word(), one.source);
        for detail in one.state.details() {
            let _ = writeln!(text, "    {}", printable::line(&detail));
        }
    }
    text
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
