//! Probes: one JSON object a line in, the same object with the answer out.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::document::{MAX_FINDINGS, clipped, shown};
use crate::error::Finding;
use crate::net::{Payload, Transport};
use crate::policy::lookup::{End, World};
use crate::policy::verdict::Judge;
use crate::printable;

/// What an answer adds. A probe that has such a field, being an answer already, gets it anew.
const ANSWER: [&str; 4] = ["allowed", "egress", "ingress", "why"];

/// Answers every line of `bytes`, the content of `file`, in order. Blank lines are no probes.
///
/// # Errors
/// What is wrong with each line that has no answer.
pub fn answer_all(judge: &Judge<'_>, file: &str, bytes: &[u8]) -> Result<String, Vec<Finding>> {
    let (mut answers, mut findings) = (String::new(), Vec::new());
    for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        if line.trim_ascii().is_empty() {
            continue;
        }
        match answer(judge, line) {
            Ok(answer) => answers.push_str(&answer),
            Err(problem) => {
                let Problem { column, at, message } = problem;
                findings.push(Finding {
                    file: file.to_owned(),
                    position: Some((number, column)),
                    at: at.to_owned(),
                    message,
                });
                if findings.len() >= MAX_FINDINGS {
                    break;
                }
            }
        }
    }
    if findings.is_empty() { Ok(answers) } else { Err(findings) }
}

/// What is wrong with a line.
#[derive(Debug, PartialEq, Eq)]
struct Problem {
    column: u32,
    at: &'static str,
    message: String,
}

fn problem(at: &'static str, message: impl Into<String>) -> Problem {
    Problem { column: 1, at, message: message.into() }
}

/// A JSON object's fields in the order in which they stand, their values as they were written.
struct Fields<'j>(Vec<(String, &'j RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a probe, a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields: Vec<(String, &'de RawValue)> = Vec::new();
                let mut names = BTreeSet::new();
                while let Some(name) = map.next_key::<String>()? {
                    if !names.insert(name.clone()) {
                        return Err(serde::de::Error::custom(format_args!("the field {} stands twice", shown(&name))));
                    }
                    fields.push((name, map.next_value()?));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

impl Fields<'_> {
    fn value<'f, T: Deserialize<'f>>(&'f self, at: &'static str, expected: &str) -> Result<Option<T>, Problem> {
        let Some((_, raw)) = self.0.iter().find(|(name, _)| name == at) else { return Ok(None) };
        match serde_json::from_str(raw.get()) {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(problem(at, format!("expected {expected}, found {}", shown(raw.get())))),
        }
    }

    fn text(&self, at: &'static str, expected: &str) -> Result<String, Problem> {
        self.value(at, expected)?.ok_or_else(|| problem(at, format!("the field is missing: {expected}")))
    }
}

fn answer(judge: &Judge<'_>, line: &[u8]) -> Result<String, Problem> {
    let text = std::str::from_utf8(line).map_err(|error| Problem {
        column: column(error.valid_up_to() + 1),
        at: "",
        message: "is not UTF-8".into(),
    })?;
    let fields: Fields<'_> = serde_json::from_str(text).map_err(|error| {
        // The place is the finding's; one line is all that was parsed.
        let message = error.to_string();
        let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
        Problem { column: column(error.column().max(1)), at: "", message: clipped(message.to_owned()) }
    })?;
    let ends = ["from", "to"].map(|at| end(judge.world(), &fields, at));
    let payload = payload(&fields)?;
    let [from, to] = ends;
    let (from, to) = (from?, to?);
    let answer = judge.flow(&from, &to, payload);
    let mut line = String::with_capacity(text.len() + 300);
    line.push('{');
    for (name, value) in fields.0.iter().filter(|(name, _)| !ANSWER.contains(&name.as_str())) {
        line.push_str(&printable::json(&quoted(name)));
        line.push(':');
        line.push_str(&printable::json(value.get()));
        line.push(',');
    }
    let why = quoted(&printable::line(&answer.why(&from, &to)));
    let (allowed, egress, ingress) = (answer.allowed(), answer.egress, answer.ingress);
    line.push_str(&format!("\"allowed\":{allowed},\"egress\":{egress},\"ingress\":{ingress},\"why\":{why}}}\n"));
    Ok(line)
}

fn column(byte: usize) -> u32 {
    u32::try_from(byte).unwrap_or(u32::MAX)
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

const AN_END: &str = "\"namespace/pod\" or an address";

fn end<'w>(world: &'w World, fields: &Fields<'_>, at: &'static str) -> Result<End<'w>, Problem> {
    let text = fields.text(at, AN_END)?;
    match text.split_once('/') {
        Some((namespace, name)) => match world.pod(namespace, name) {
            Some(pod) => Ok(world.end_of(pod)),
            None => Err(problem(at, format!("there is no pod {} in these manifests", shown(&text)))),
        },
        None => match text.parse::<IpAddr>() {
            Ok(address) => Ok(world.end_at(address)),
            Err(_) => Err(problem(at, format!("expected {AN_END}, found {}", shown(&text)))),
        },
    }
}

fn payload(fields: &Fields<'_>) -> Result<Payload, Problem> {
    const PROTOCOLS: &str = "one of TCP, UDP, SCTP, ICMP";
    const A_PORT: &str = "a port from 1 to 65535";
    let protocol = match fields.text("proto", PROTOCOLS)?.as_str() {
        "TCP" => Transport::Tcp,
        "UDP" => Transport::Udp,
        "SCTP" => Transport::Sctp,
        // An echo request; policies do not tell its types apart.
        "ICMP" => {
            return match fields.0.iter().any(|(name, raw)| name == "port" && raw.get() != "null") {
                true => Err(problem("port", "ICMP has no ports; leave the field out")),
                false => Ok(Payload::Icmp { kind: 8 }),
            };
        }
        other => return Err(problem("proto", format!("expected {PROTOCOLS}, found {}", shown(other)))),
    };
    let port: Option<u16> = fields.value("port", A_PORT)?;
    match port {
        None => Err(problem("port", format!("the field is missing: {A_PORT}"))),
        Some(0) => Err(problem("port", format!("expected {A_PORT}, found 0"))),
        Some(port) => Ok(Payload::Transport { protocol, port }),
    }
}
