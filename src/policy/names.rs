//! Names as Kubernetes checks them, and the identity a container can be given in one line: `app=web,tier=front`,
//! `http=8080/tcp`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::document::shown;
use crate::net::Transport;

/// A container port with a name that policies may use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NamedPort {
    /// An `IANA_SVC_NAME`.
    pub name: String,
    /// The port, not 0.
    pub port: u16,
    /// Its protocol.
    pub protocol: Transport,
}

impl fmt::Display for NamedPort {
    /// As [`parse_ports`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}/{}", self.name, self.port, self.protocol)
    }
}

/// A pod's name: a DNS-1123 subdomain (`IsDNS1123Subdomain`).
///
/// # Errors
/// A message that names what is expected.
pub fn check_pod_name(text: &str) -> Result<(), String> {
    if text.len() <= 253 && text.split('.').all(is_dns_label) {
        return Ok(());
    }
    Err("expected at most 253 of a-z, 0-9, - and ., with a letter or digit at both ends of each part".to_owned())
}

/// A Kubernetes namespace's name: a DNS-1123 label (k8s.io/apimachinery/pkg/util/validation, `IsDNS1123Label`).
///
/// # Errors
/// A message that names what is expected.
pub fn check_namespace(text: &str) -> Result<(), String> {
    if is_dns_label(text) {
        return Ok(());
    }
    Err("expected 1 to 63 of a-z, 0-9 and -, with a letter or digit at both ends".to_owned())
}

fn is_dns_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// The name part of a label's key, and a label's value that is not empty.
fn is_label_name(text: &str) -> bool {
    let end = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && end(bytes.first())
        && end(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// A label's key: `name` or `dns.subdomain/name` (`IsQualifiedName`).
///
/// # Errors
/// A message that names what is expected.
pub fn check_label_key(key: &str) -> Result<(), String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if !prefix.is_none_or(|prefix| prefix.len() <= 253 && prefix.split('.').all(is_dns_label)) {
        return Err("what stands before the / of a label's key is a DNS name in lower case".to_owned());
    }
    if !is_label_name(name) {
        return Err(
            "a label's key has 1 to 63 of letters, digits, - _ and ., with a letter or digit at both ends".to_owned()
        );
    }
    Ok(())
}

/// A label's value (`IsValidLabelValue`). It may be empty.
///
/// # Errors
/// A message that names what is expected.
pub fn check_label_value(value: &str) -> Result<(), String> {
    if value.is_empty() || is_label_name(value) {
        return Ok(());
    }
    Err("a label's value has at most 63 of letters, digits, - _ and ., with a letter or digit at both ends".to_owned())
}

/// A port's name (`IsValidPortName`, RFC 6335 5.1).
///
/// # Errors
/// A message that names what is expected.
pub fn check_port_name(name: &str) -> Result<(), String> {
    let good = (1..=15).contains(&name.len())
        && is_dns_label(name)
        && !name.contains("--")
        && name.bytes().any(|b| b.is_ascii_lowercase());
    if good {
        return Ok(());
    }
    Err("a port's name has 1 to 15 of a-z, 0-9 and single -, among them a letter, and no - at an end".to_owned())
}

/// Most labels of one container. They go into its record and into the roster, which every start reads.
pub const MAX_LABELS: usize = 1000;
/// Most named ports of one container, for the same reason.
pub const MAX_PORTS: usize = 1000;

/// What is wrong with that many of a container's labels or ports.
///
/// # Errors
/// A message with the limit and its name.
pub fn check_count(count: usize, (limit, name): (usize, &str)) -> Result<(), String> {
    if count > limit { Err(format!("there are {count}, and at most {limit} are taken ({name})")) } else { Ok(()) }
}

/// Parses `app=web,tier=front`.
///
/// # Errors
/// What is wrong with each item.
pub fn parse_labels(text: &str) -> Result<BTreeMap<String, String>, Vec<String>> {
    let mut labels = BTreeMap::new();
    let mut problems = Vec::new();
    for item in text.split(',').map(str::trim) {
        let checked = match item.split_once('=') {
            None => Err("expected key=value".to_owned()),
            Some((key, value)) => check_label_key(key).and_then(|()| check_label_value(value)).map(|()| (key, value)),
        };
        match checked {
            Err(problem) => problems.push(format!("{}: {problem}", shown(item))),
            Ok((key, value)) => {
                if labels.insert(key.to_owned(), value.to_owned()).is_some() {
                    problems.push(format!("{}: the key stands twice", shown(item)));
                }
            }
        }
    }
    problems.extend(check_count(labels.len(), (MAX_LABELS, "MAX_LABELS")).err());
    if problems.is_empty() { Ok(labels) } else { Err(problems) }
}

/// Parses `http=8080/tcp,dns=53/udp`; without a protocol it is TCP, as in a Kubernetes container.
///
/// # Errors
/// What is wrong with each item.
pub fn parse_ports(text: &str) -> Result<Vec<NamedPort>, Vec<String>> {
    let mut ports: BTreeMap<&str, NamedPort> = BTreeMap::new();
    let mut problems = Vec::new();
    for item in text.split(',').map(str::trim) {
        match parse_port(item) {
            Err(problem) => problems.push(format!("{}: {problem}", shown(item))),
            Ok((name, port)) => {
                if ports.insert(name, port).is_some() {
                    problems.push(format!("{}: the name stands twice", shown(item)));
                }
            }
        }
    }
    problems.extend(check_count(ports.len(), (MAX_PORTS, "MAX_PORTS")).err());
    if problems.is_empty() { Ok(ports.into_values().collect()) } else { Err(problems) }
}

fn parse_port(item: &str) -> Result<(&str, NamedPort), String> {
    let (name, rest) = item.split_once('=').ok_or("expected name=port or name=port/protocol")?;
    check_port_name(name)?;
    let (port, protocol) = rest.split_once('/').unwrap_or((rest, "tcp"));
    let protocol = match protocol {
        "tcp" => Transport::Tcp,
        "udp" => Transport::Udp,
        "sctp" => Transport::Sctp,
        _ => return Err("the protocol is one of tcp, udp, sctp".to_owned()),
    };
    // `parse` alone would take "+80" and "080".
    let digits = port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0');
    match port.parse::<u16>() {
        Ok(port) if digits => Ok((name, NamedPort { name: name.to_owned(), port, protocol })),
        Ok(_) | Err(_) => Err("expected a port from 1 to 65535".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kubernetes() {
        for text in ["a", "a-b", "0", "x1", &"a".repeat(63)] {
            assert!(check_namespace(text).is_ok(), "{text}");
        }
        for text in ["", "-a", "a-", "A", "a.b", "a_b", "ä", &"a".repeat(64)] {
            assert!(check_namespace(text).is_err(), "{text}");
        }
        for text in ["app", "app.kubernetes.io/name", "a_b.c-d", "A", &format!("x.y/{}", "a".repeat(63))] {
            assert!(check_label_key(text).is_ok(), "{text}");
        }
        for text in ["", "/a", "a/", "a/b/c", "A.b/c", "-a", "a-", "a b", &"a".repeat(64), "a..b/c"] {
            assert!(check_label_key(text).is_err(), "{text}");
        }
        for text in ["http", "a", "8080-a", "a-b"] {
            assert!(check_port_name(text).is_ok(), "{text}");
        }
        for text in ["", "80", "-a", "a--b", "HTTP", "sixteen-letters-"] {
            assert!(check_port_name(text).is_err(), "{text}");
        }
    }

    #[test]
    fn labels_and_ports_are_read_and_every_problem_is_told() {
        let labels = parse_labels("app=web, tier=front,empty=").unwrap();
        assert_eq!(
            labels.into_iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(),
            ["app=web", "empty=", "tier=front"]
        );
        assert_eq!(parse_labels("app,x=y z,a=1,a=2,=v").unwrap_err().len(), 4);
        assert!(parse_labels("").is_err());
        let ports = parse_ports("http=8080/tcp,dns=53/udp,x=1").unwrap();
        assert_eq!(
            ports.iter().map(|p| (p.name.as_str(), p.port, p.protocol)).collect::<Vec<_>>(),
            [("dns", 53, Transport::Udp), ("http", 8080, Transport::Tcp), ("x", 1, Transport::Tcp)]
        );
        assert_eq!(parse_ports("http=0,a=1,a=2/udp,b=+1,c=65536,d=1/TCP,80=1,e,f=,g=01").unwrap_err().len(), 9);
    }
}
