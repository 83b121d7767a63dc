//! An explanation for programs, and the words for people.

use std::fmt;

use serde_json::{Value, json};

use super::ruleset::{Decided, Ruleset};
use super::{Explanation, Half, Near, Said};
use crate::net::{Origin, Payload};

/// `TCP 80`, `ICMP`.
pub fn spoken(payload: Payload) -> String {
    match payload {
        Payload::Transport { protocol, port } => format!("{} {port}", protocol.name().to_ascii_uppercase()),
        Payload::Icmp { .. } => "ICMP".to_owned(),
        Payload::Other(number) => format!("protocol {number}"),
    }
}

const fn word(passes: bool) -> &'static str {
    if passes { "allowed" } else { "denied" }
}

impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ruleset::Agrees(by) => write!(f, "ruleset: agrees, {by}"),
            Ruleset::Differs { passes, by } => write!(
                f,
                "BUG: the specification says {}, the ruleset {}: {by}; please report this with the files it was asked of",
                word(!passes),
                word(*passes)
            ),
            Ruleset::NotAsked(why) => write!(f, "ruleset: not asked, {why}"),
        }
    }
}

impl fmt::Display for Decided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Decided::NoTable => f.write_str("nothing is filtered"),
            Decided::Policy => f.write_str("no rule denies it"),
            Decided::Rule { chain, comment } => write!(f, "chain {chain}, rule \"{comment}\""),
        }
    }
}

impl Explanation {
    /// For programs. Keys are only ever added:
    ///
    /// * `from`, `to`, `proto` (`TCP`, `UDP`, `SCTP`, `ICMP`), `port` (null for ICMP);
    /// * `allowed`, and of it `egress` and `ingress` (null for a half that was not asked); `agrees`: false where specification and ruleset contradict each other; `notes`: sentences;
    /// * `halves`, at least one, each with `direction` (`egress`, `ingress`), `of`, `peer`, `proto`, `port`, `allowed`, `layers`
    ///   and `ruleset`;
    /// * `layers`, at least one, each with `layer`, `allowed`, `why` and `nearest`, and where something that was written
    ///   decided with its `file`, `line` and `at` (the path in the object); `origin` says the same in one text;
    /// * `nearest`, each with `rule`, `lacks` (clauses), `governs` (false: written for other pods), and its place as above;
    /// * `ruleset` with `asked`; where it was, `allowed`, `agrees` and, where a rule decided, `chain` and `rule` (its comment):
    ///   of what passes the last that let it past a layer; where it was not, `why`.
    pub fn to_json(&self) -> Value {
        let (proto, port) = proto_and_port(self.payload);
        json!({
            "from": self.from, "to": self.to, "proto": proto, "port": port, "allowed": self.allowed,
            "egress": self.egress, "ingress": self.ingress, "agrees": self.contradiction().is_none(), "notes": self.notes,
            "halves": self.halves.iter().map(half).collect::<Vec<_>>(),
        })
    }
}

fn proto_and_port(payload: Payload) -> (String, Option<u16>) {
    match payload {
        Payload::Transport { protocol, port } => (protocol.name().to_ascii_uppercase(), Some(port)),
        Payload::Icmp { .. } => ("ICMP".to_owned(), None),
        Payload::Other(number) => (number.to_string(), None),
    }
}

fn half(half: &Half) -> Value {
    let (proto, port) = proto_and_port(half.payload);
    json!({
        "direction": half.direction.name(), "of": half.of, "peer": half.peer, "proto": proto, "port": port,
        "allowed": half.allowed, "layers": half.layers.iter().map(layer).collect::<Vec<_>>(),
        "ruleset": ruleset(&half.ruleset, half.allowed),
    })
}

fn layer(said: &Said) -> Value {
    let nearest: Vec<Value> = said.nearest.iter().map(nearest).collect();
    let value = json!({"layer": said.layer, "allowed": said.allowed, "why": said.why, "nearest": nearest});
    said.origin.iter().fold(value, with_place)
}

fn nearest(near: &Near) -> Value {
    with_place(json!({"rule": near.rule, "lacks": near.lacks, "governs": near.governs}), &near.origin)
}

fn with_place(mut value: Value, origin: &Origin) -> Value {
    value["origin"] = origin.to_string().into();
    match origin {
        Origin::File { path, line, at } => {
            value["file"] = path.as_str().into();
            value["line"] = (*line).into();
            value["at"] = at.as_str().into();
        }
        Origin::Builtin(_) | Origin::Annotation { .. } | Origin::Bundle { .. } => {}
    }
    value
}

fn ruleset(ruleset: &Ruleset, specified: bool) -> Value {
    let asked = |passes: bool, by: &Decided| {
        let mut value = json!({"asked": true, "allowed": passes, "agrees": passes == specified});
        match by {
            Decided::NoTable | Decided::Policy => {}
            Decided::Rule { chain, comment } => {
                value["chain"] = chain.as_str().into();
                value["rule"] = comment.as_str().into();
            }
        }
        value
    };
    match ruleset {
        Ruleset::Agrees(by) => asked(specified, by),
        Ruleset::Differs { passes, by } => asked(*passes, by),
        Ruleset::NotAsked(why) => json!({"asked": false, "why": why}),
    }
}
