//! The roster's file.
//!
//! ```text
//!  0  magic        8 bytes
//!  8  version      u32, little endian as all
//! 12  state        1: unfinished, 2: finished; the one byte that is written alone
//! 13  -            3 bytes, zero
//! 16  length       u64, of what follows the header
//! 24  checksum     u64, of the same
//! 32  postcard     head, identities, tables, watches, then each subject
//! ```

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::roster::{Container, Roster, Subject};
use super::shared::Shared;
use crate::kernel::netns::NamespaceId;
use crate::policy::watch::{Identity, Watch};

const MAGIC: [u8; 8] = *b"nlroster";
/// To be raised with every change of what is stored, also in the types of `policy` that it holds: read as something else
/// it would be a picture of nobody. The test of the stored bytes below tells of such a change.
const VERSION: u32 = 1;
/// Where the state is.
pub(super) const STATE_AT: u64 = 12;
const HEADER: usize = 32;

/// Whether the sets follow what the roster says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Some may not.
    Unfinished,
    /// All do.
    Finished,
}

impl State {
    /// As it is stored. Not 0, which is what a hole in a file reads as.
    pub(super) const fn byte(self) -> u8 {
        match self {
            State::Unfinished => 1,
            State::Finished => 2,
        }
    }
}

/// How many there are of each.
#[derive(Serialize, Deserialize)]
struct Head {
    identities: u32,
    tables: u32,
    watches: u32,
    subjects: u32,
}

/// A subject; what it shares is a place in its list. The lists are borrowed to be written and owned when read.
#[derive(Serialize, Deserialize)]
struct Entry<C, A> {
    netns: (u64, u64),
    cookie: Option<u64>,
    containers: C,
    addresses: A,
    identity: u32,
    table: Option<u32>,
    watch: Option<u32>,
}

/// The file's bytes.
pub(super) fn encode(roster: &Roster, state: State) -> Result<Vec<u8>, postcard::Error> {
    let subjects = &roster.subjects;
    let identities = Shared::distinct(subjects.iter().map(|subject| &subject.identity));
    let tables = Shared::distinct(subjects.iter().filter_map(|subject| subject.table.as_ref()));
    let watches = Shared::distinct(subjects.iter().filter_map(|subject| subject.watch.as_ref()));
    let head = Head {
        identities: identities.len() as u32,
        tables: tables.len() as u32,
        watches: watches.len() as u32,
        subjects: subjects.len() as u32,
    };
    let mut bytes = Vec::with_capacity(HEADER + 256 * subjects.len() + 1024);
    bytes.resize(HEADER, 0);
    bytes = postcard::to_extend(&head, bytes)?;
    for identity in identities {
        bytes = postcard::to_extend::<Identity, _>(identity, bytes)?;
    }
    for table in tables {
        bytes = postcard::to_extend::<String, _>(table, bytes)?;
    }
    for watch in watches {
        bytes = postcard::to_extend::<Watch, _>(watch, bytes)?;
    }
    for subject in subjects {
        let entry = Entry {
            netns: (subject.netns.dev, subject.netns.ino),
            cookie: subject.cookie,
            containers: &subject.containers[..],
            addresses: &subject.addresses[..],
            identity: subject.identity.place(),
            table: subject.table.as_ref().map(Shared::place),
            watch: subject.watch.as_ref().map(Shared::place),
        };
        bytes = postcard::to_extend(&entry, bytes)?;
    }
    let (header, content) = bytes.split_at_mut(HEADER);
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[STATE_AT as usize] = state.byte();
    header[16..24].copy_from_slice(&(content.len() as u64).to_le_bytes());
    header[24..32].copy_from_slice(&checksum(content).to_le_bytes());
    Ok(bytes)
}

/// The roster in a file's bytes. An error says in words why it cannot be used; that it never is one of a start.
pub(super) fn decode(bytes: &[u8]) -> Result<(Roster, State), &'static str> {
    let Some((header, content)) = bytes.split_at_checked(HEADER) else {
        return Err(if bytes.is_empty() { "it is empty" } else { "it is cut off" });
    };
    let number =
        |from: usize| header[from..from + 8].iter().rev().fold(0, |so_far, byte| so_far << 8 | u64::from(*byte));
    if header[..8] != MAGIC {
        return Err("it is something else");
    }
    if header[8..12] != VERSION.to_le_bytes() {
        return Err("another version wrote it");
    }
    let state = header[STATE_AT as usize];
    let Some(state) = [State::Unfinished, State::Finished].into_iter().find(|known| known.byte() == state) else {
        return Err("its state is none");
    };
    if number(16) != content.len() as u64 || number(24) != checksum(content) {
        return Err("it is torn or damaged");
    }
    match read(content) {
        Ok(Some(roster)) => Ok((roster, state)),
        Ok(None) | Err(_) => Err("it does not hang together"),
    }
}

fn read(content: &[u8]) -> Result<Option<Roster>, postcard::Error> {
    let (head, mut rest) = postcard::take_from_bytes::<Head>(content)?;
    let identities: Vec<Shared<Identity>> = list(head.identities, &mut rest)?;
    let tables: Vec<Shared<String>> = list(head.tables, &mut rest)?;
    let watches: Vec<Shared<Watch>> = list(head.watches, &mut rest)?;
    let mut subjects = Vec::with_capacity(rest.len().min(head.subjects as usize));
    for _ in 0..head.subjects {
        let (entry, after) = postcard::take_from_bytes::<Entry<Vec<Container>, Vec<IpAddr>>>(rest)?;
        rest = after;
        let (Some(identity), Ok(table), Ok(watch)) =
            (identities.get(entry.identity as usize), at(&tables, entry.table), at(&watches, entry.watch))
        else {
            return Ok(None);
        };
        subjects.push(Subject {
            netns: NamespaceId { dev: entry.netns.0, ino: entry.netns.1 },
            cookie: entry.cookie,
            containers: entry.containers,
            addresses: entry.addresses,
            identity: identity.clone(),
            table,
            watch,
        });
    }
    Ok(rest.is_empty().then_some(Roster { subjects }))
}

fn list<'b, T: Deserialize<'b>>(count: u32, rest: &mut &'b [u8]) -> Result<Vec<Shared<T>>, postcard::Error> {
    let mut list = Vec::with_capacity(rest.len().min(count as usize));
    for _ in 0..count {
        let (value, after) = postcard::take_from_bytes(rest)?;
        *rest = after;
        list.push(Shared::new(value));
    }
    Ok(list)
}

/// `Err` where there is no such place.
fn at<T>(list: &[Shared<T>], place: Option<u32>) -> Result<Option<Shared<T>>, ()> {
    place.map(|place| list.get(place as usize).cloned().ok_or(())).transpose()
}

/// Tells a torn write from a whole one, eight bytes at a time. (Not for what somebody forges: the directory is root's.)
fn checksum(bytes: &[u8]) -> u64 {
    // Odd, so that no bit is lost by multiplying: 2^64 divided by the golden ratio.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let (words, rest) = bytes.as_chunks::<8>();
    let mix = |sum: u64, word: u64| (sum.rotate_left(23) ^ word).wrapping_mul(FACTOR);
    let sum = words.iter().fold(bytes.len() as u64, |sum, word| mix(sum, u64::from_le_bytes(*word)));
    rest.iter().fold(sum, |sum, byte| mix(sum, u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::net::{PortRange, Transport};
    use crate::policy::model::{Action, Namespaces, Operator, Port, Requirement, Selector};
    use crate::policy::names::NamedPort;
    use crate::policy::watch::{WatchedGroup, WatchedPeer};
    use crate::registry::alive::Anchor;

    /// One of everything that can be stored.
    fn roster() -> Roster {
        let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let identity = Shared::new(Identity {
            namespace: "shop".into(),
            namespace_labels: labels(&[("kubernetes.io/metadata.name", "shop")]),
            labels: labels(&[("app", "web"), ("tier", "front")]),
            ports: vec![NamedPort { name: "http".into(), port: 8080, protocol: Transport::Tcp }],
        });
        let requirement = |operator| Requirement { key: "app".into(), operator, values: vec!["web".into()] };
        let peer = |namespaces| WatchedPeer {
            namespaces,
            pods: Selector {
                requirements: [Operator::In, Operator::NotIn, Operator::Exists, Operator::DoesNotExist]
                    .map(requirement)
                    .into(),
            },
            ports: vec![
                Port::Number { transport: Transport::Sctp, ports: PortRange::new(80, 90).unwrap() },
                Port::Named { transport: Some(Transport::Udp), name: "dns".into() },
            ],
        };
        let group = |action| WatchedGroup {
            set: "egress_network_1".into(),
            action,
            peers: vec![peer(Namespaces::Own("shop".into())), peer(Namespaces::Selected(Selector::default()))],
        };
        let watch =
            Shared::new(Watch { ipv6: true, groups: [Action::Accept, Action::Deny, Action::Pass].map(group).into() });
        let subject = |ino, anchor, table: Option<&str>, watch: Option<&Shared<Watch>>| Subject {
            netns: NamespaceId { dev: 4, ino },
            cookie: (ino > 1).then_some(ino << 40),
            containers: vec![Container { id: format!("container-{ino}"), anchor }],
            addresses: vec!["10.1.2.3".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            identity: identity.clone(),
            table: table.map(|table| Shared::new(table.to_owned())),
            watch: watch.cloned(),
        };
        Roster {
            subjects: vec![
                subject(1, Anchor::Process { pid: 42, started: 1_000_000 }, Some("netlatch 0 plan 1"), Some(&watch)),
                subject(2, Anchor::Path("/run/netns/a".into()), None, Some(&watch)),
                subject(3, Anchor::Process { pid: 43, started: u64::MAX }, None, None),
            ],
        }
    }

    #[test]
    fn what_is_stored_comes_back_and_is_shared_again() {
        for state in [State::Unfinished, State::Finished] {
            let bytes = encode(&roster(), state).unwrap();
            let (read, found) = decode(&bytes).unwrap();
            assert_eq!((&read, found), (&roster(), state));
            assert!(read.subjects[0].identity.is(&read.subjects[2].identity));
            assert_eq!(read.watches().len(), 1);
        }
        let (empty, _) = decode(&encode(&Roster::default(), State::Finished).unwrap()).unwrap();
        assert_eq!(empty, Roster::default());
    }

    #[test]
    fn what_is_stored_changes_only_with_the_version() {
        // When this fails, raise VERSION, and then write here what it is now.
        let bytes = encode(&roster(), State::Finished).unwrap();
        assert_eq!((VERSION, bytes.len(), checksum(&bytes[HEADER..])), (1, 695, 12_980_503_566_403_055_267));
    }

    #[test]
    fn what_cannot_be_used_is_told_from_what_can() {
        let good = encode(&roster(), State::Finished).unwrap();
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            decode(&bytes).unwrap_err()
        };
        assert_eq!(decode(b"").unwrap_err(), "it is empty");
        assert_eq!(decode(&good[..20]).unwrap_err(), "it is cut off");
        assert_eq!(with(0, 0), "it is something else");
        assert_eq!(with(8, 99), "another version wrote it");
        assert_eq!(with(12, 0), "its state is none");
        assert_eq!(decode(&good[..good.len() - 1]).unwrap_err(), "it is torn or damaged");
        assert_eq!(with(good.len() - 1, 0xff), "it is torn or damaged");
        assert_eq!(decode(&[&good[..], &[0]].concat()).unwrap_err(), "it is torn or damaged");
    }

    #[test]
    fn places_that_are_none_are_refused() {
        // A head that says there is an identity less.
        let mut content = encode(&roster(), State::Finished).unwrap().split_off(HEADER);
        content[0] = 0;
        assert!(!matches!(read(&content), Ok(Some(_))));
    }

    proptest! {
        #[test]
        fn a_write_that_was_interrupted_is_seen(cut in 0_usize..1000, before in 0_usize..4, after in 0_usize..4) {
            let of = |count, state| {
                let mut roster = roster();
                roster.subjects.truncate(count);
                (encode(&roster, state).unwrap(), roster)
            };
            let ((old, before), (new, after)) = (of(before, State::Finished), of(after, State::Unfinished));
            let cut = cut % new.len();
            let mut torn = new[..cut].to_vec();
            torn.extend(old.get(cut..).unwrap_or_default());
            match decode(&torn) {
                // Nothing was written, or the state alone: no set has been changed yet.
                Ok((read, state)) if read == before => prop_assert!(cut <= 12 || state == State::Unfinished),
                Ok((read, state)) => prop_assert!(read == after && state == State::Unfinished, "cut at {cut}"),
                Err(_) => {}
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
            let _ = read(&bytes);
        }
    }
}
