//! The roster's file.
//!
//! ```text
//!  0  magic        8 bytes
//!  8  version      u32, little endian as all
//! 12  state        1: unfinished, 2: finished; the one byte that is written alone
//! 13  -            3 bytes, zero
//! 16  length       u64, of what follows the header
//! 24  checksum     u64, of the same
//! 32  written      u64, nanoseconds since boot; under the lock no two are written at once
//! 40  content      how many there are, identities, tables, watches, subjects, addresses that move
//! ```
//!
//! Identities, tables and watches are postcard behind their length, each written as it was read unless it is new.
//! Subjects, of which there are most, have a layout of their own: as postcard, whose addresses go byte by byte, a thousand
//! containers took 454 µs to read and 372 µs to write where they now take 335 and 160.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::rc::Rc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::alive::Anchor;
use super::roster::{Container, Roster, Subject, together};
use super::shared::Shared;
use crate::kernel::netns::NamespaceId;
use crate::policy::watch::{Identity, Watch};

const MAGIC: [u8; 8] = *b"nlroster";
/// To be raised with every change of what is stored, also in the types of `policy` that it holds: read as something else
/// it would be a picture of nobody. The test of the stored bytes below tells of such a change.
const VERSION: u32 = 4;
/// Where the state is.
pub(super) const STATE_AT: u64 = 12;
pub(super) const HEADER: usize = 40;

/// What tells one written roster from all others: its header, but for the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp([u8; HEADER]);

impl Stamp {
    /// That of a file, with its state; `None` where it has none that is known, or another version's.
    pub(super) fn of(header: &[u8]) -> Option<(Stamp, State)> {
        let mut header: [u8; HEADER] = header.get(..HEADER)?.try_into().ok()?;
        let byte = std::mem::take(&mut header[STATE_AT as usize]);
        let state = [State::Unfinished, State::Finished].into_iter().find(|known| known.byte() == byte)?;
        (header[..8] == MAGIC && header[8..12] == VERSION.to_le_bytes()).then_some((Stamp(header), state))
    }

    /// How long its file is.
    pub(super) fn file_length(&self) -> Option<u64> {
        let length = self.0[16..24].iter().rev().fold(0, |so_far, byte| so_far << 8 | u64::from(*byte));
        length.checked_add(HEADER as u64)
    }
}

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

/// Stands for no place in a list.
const NOWHERE: u32 = u32::MAX;

/// The file's bytes, when they are `written`.
pub(super) fn encode(roster: &Roster, state: State, written: u64) -> Result<Vec<u8>, postcard::Error> {
    let subjects = &roster.subjects;
    let containers = subjects.iter().flat_map(|subject| &subject.containers);
    let identities = Shared::distinct(containers.map(|container| &container.identity));
    let tables = Shared::distinct(subjects.iter().filter_map(|subject| subject.table.as_ref()));
    let watches = Shared::distinct(subjects.iter().filter_map(|subject| subject.watch.as_ref()));
    let mut bytes = Vec::with_capacity(HEADER + 256 * subjects.len() + 1024);
    bytes.resize(HEADER, 0);
    for count in [identities.len(), tables.len(), watches.len(), subjects.len(), roster.moving.len()] {
        bytes.extend((count as u32).to_le_bytes());
    }
    identities.into_iter().try_for_each(|identity| put_shared(&mut bytes, identity))?;
    tables.into_iter().try_for_each(|table| put_shared(&mut bytes, table))?;
    watches.into_iter().try_for_each(|watch| put_shared(&mut bytes, watch))?;
    subjects.iter().for_each(|subject| put_subject(&mut bytes, subject));
    roster.moving.iter().for_each(|address| put_address(&mut bytes, address));

    let (header, content) = bytes.split_at_mut(HEADER);
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[STATE_AT as usize] = state.byte();
    header[16..24].copy_from_slice(&(content.len() as u64).to_le_bytes());
    header[24..32].copy_from_slice(&checksum(content).to_le_bytes());
    header[32..40].copy_from_slice(&written.to_le_bytes());
    Ok(bytes)
}

fn put_shared<T: Serialize>(bytes: &mut Vec<u8>, shared: &Shared<T>) -> Result<(), postcard::Error> {
    match shared.as_read() {
        Some(read) => put_text(bytes, read),
        None => put_text(bytes, &postcard::to_allocvec::<T>(shared)?),
    }
    Ok(())
}

fn put_text(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend_from_slice(text);
}

fn put_subject(bytes: &mut Vec<u8>, subject: &Subject) {
    for number in [subject.netns.dev, subject.netns.ino, subject.cookie.unwrap_or_default()] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    let place = |place: Option<u32>| place.unwrap_or(NOWHERE);
    for number in [
        u32::from(subject.cookie.is_some()) | u32::from(subject.behind) << 1,
        place(subject.table.as_ref().map(Shared::place)),
        place(subject.watch.as_ref().map(Shared::place)),
        subject.addresses.len() as u32,
        subject.containers.len() as u32,
    ] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    subject.addresses.iter().for_each(|address| put_address(bytes, address));
    for Container { id, anchor, identity } in &subject.containers {
        bytes.extend_from_slice(&identity.place().to_le_bytes());
        // A pid is never 0, see `kill`.
        match anchor {
            Anchor::Process { pid, started } => {
                bytes.extend_from_slice(&pid.to_le_bytes());
                bytes.extend_from_slice(&started.to_le_bytes());
            }
            Anchor::Path(path) => {
                bytes.extend_from_slice(&0_i32.to_le_bytes());
                put_text(bytes, path.as_os_str().as_bytes());
            }
        }
        put_text(bytes, id.as_bytes());
    }
}

fn put_address(bytes: &mut Vec<u8>, address: &IpAddr) {
    match address {
        IpAddr::V4(v4) => put_text(bytes, &v4.octets()),
        IpAddr::V6(v6) => put_text(bytes, &v6.octets()),
    }
}

/// A roster with the bytes that it was read from, by which a later one is read faster: of a thousand subjects all but a few are
/// the same a moment later, and are shared then.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) roster: Roster,
    file: Rc<Vec<u8>>,
    identities: Vec<Shared<Identity>>,
    tables: Vec<Shared<String>>,
    watches: Vec<Shared<Watch>>,
    /// Where each subject stands in the file.
    ranges: Vec<Range<usize>>,
}

/// The roster in a file's bytes, behind an `earlier` one. An error says in words why it cannot be used; that it never is one of
/// a start.
pub(super) fn decode(bytes: Vec<u8>, earlier: Option<&Decoded>) -> Result<(Decoded, State), &'static str> {
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
    match read(&Rc::new(bytes), earlier) {
        Some(decoded) => Ok((decoded, state)),
        None => Err("it does not hang together"),
    }
}

/// What is left to read of a file. `None` from any of its functions: the file ends before, or says what cannot be.
struct Rest<'f> {
    file: &'f Rc<Vec<u8>>,
    at: usize,
}

impl Rest<'_> {
    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.file.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Option<&[u8]> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    /// `count` of what `each` reads. A wrong count reserves no more than what most hosts have.
    fn list<T>(&mut self, count: u32, mut each: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let mut list = Vec::with_capacity((count as usize).min(4096));
        for _ in 0..count {
            list.push(each(self)?);
        }
        Some(list)
    }

    fn shared<T: DeserializeOwned>(&mut self, earlier: Option<&Shared<T>>) -> Option<Shared<T>> {
        let length = self.u32()? as usize;
        let start = self.at;
        let bytes = self.take(length)?;
        if let Some(earlier) = earlier.filter(|earlier| earlier.as_read() == Some(bytes)) {
            return Some(earlier.clone());
        }
        let (value, behind) = postcard::take_from_bytes(bytes).ok()?;
        // Behind the value there must be nothing: its bytes are written again as they are.
        behind.is_empty().then(|| Shared::read(value, self.file, start..start + length))
    }

    /// A list of such, one by one beside an earlier list.
    fn shareds<T: DeserializeOwned>(&mut self, count: u32, earlier: Option<&Vec<Shared<T>>>) -> Option<Vec<Shared<T>>> {
        let mut earlier = earlier.into_iter().flatten();
        self.list(count, |rest| rest.shared(earlier.next()))
    }

    fn address(&mut self) -> Option<IpAddr> {
        match *self.text()? {
            [a, b, c, d] => Some(Ipv4Addr::new(a, b, c, d).into()),
            ref octets => Some(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).into()),
        }
    }

    fn container(&mut self, identities: &[Shared<Identity>]) -> Option<Container> {
        let identity = identities.get(self.u32()? as usize)?.clone();
        let anchor = match i32::from_le_bytes(self.array()?) {
            0 => Anchor::Path(OsString::from_vec(self.text()?.to_vec()).into()),
            pid => Anchor::Process { pid, started: self.u64()? },
        };
        let id = str::from_utf8(self.text()?).ok()?.to_owned();
        Some(Container { id, anchor, identity })
    }

    fn subject(
        &mut self,
        identities: &[Shared<Identity>],
        tables: &[Shared<String>],
        watches: &[Shared<Watch>],
    ) -> Option<Subject> {
        let netns = NamespaceId { dev: self.u64()?, ino: self.u64()? };
        let cookie = self.u64()?;
        let bits = self.u32()?;
        let (cookie, behind) = ((bits & 1 != 0).then_some(cookie), bits & 2 != 0);
        let table = place(tables, self.u32()?)?;
        let watch = place(watches, self.u32()?)?;
        let (addresses, containers) = (self.u32()?, self.u32()?);
        let addresses = self.list(addresses, Rest::address)?;
        let containers = self.list(containers, |rest| rest.container(identities))?;
        let identity = together(&containers)?;
        Some(Subject { netns, cookie, containers, addresses, identity, table, watch, behind })
    }
}

fn read(file: &Rc<Vec<u8>>, earlier: Option<&Decoded>) -> Option<Decoded> {
    let mut rest = Rest { file, at: HEADER };
    let counts = [rest.u32()?, rest.u32()?, rest.u32()?, rest.u32()?, rest.u32()?];
    let identities = rest.shareds(counts[0], earlier.map(|earlier| &earlier.identities))?;
    let tables = rest.shareds(counts[1], earlier.map(|earlier| &earlier.tables))?;
    let watches = rest.shareds(counts[2], earlier.map(|earlier| &earlier.watches))?;
    // A subject names its parts by their place: the same bytes say the same where every place holds what it held.
    let earlier = earlier.filter(|earlier| {
        begins_with(&identities, &earlier.identities)
            && begins_with(&tables, &earlier.tables)
            && begins_with(&watches, &earlier.watches)
    });
    let mut ranges = Vec::with_capacity((counts[3] as usize).min(4096));
    let subjects = rest.list(counts[3], |rest| {
        let start = rest.at;
        if let Some(earlier) = earlier
            && let Some(range) = earlier.ranges.get(ranges.len())
            && let Some(bytes) = file.get(start..start + range.len())
            && earlier.file.get(range.clone()) == Some(bytes)
        {
            let subject = earlier.roster.subjects.get(ranges.len())?.clone();
            rest.at += range.len();
            ranges.push(start..rest.at);
            return Some(subject);
        }
        let subject = rest.subject(&identities, &tables, &watches)?;
        ranges.push(start..rest.at);
        Some(Rc::new(subject))
    })?;
    let moving = rest.list(counts[4], Rest::address)?;
    let roster = Roster { subjects, moving };
    (rest.at == file.len()).then(|| Decoded { roster, file: Rc::clone(file), identities, tables, watches, ranges })
}

/// Whether all of `head` are at their places in `list`.
fn begins_with<T>(list: &[Shared<T>], head: &[Shared<T>]) -> bool {
    list.len() >= head.len() && list.iter().zip(head).all(|(one, other)| one.is(other))
}

/// What stands at `place` of a list, if anything is to; `None` where there is no such place.
fn place<T>(list: &[Shared<T>], place: u32) -> Option<Option<Shared<T>>> {
    if place == NOWHERE { Some(None) } else { list.get(place as usize).cloned().map(Some) }
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

    use super::{decode as decode_since, read as read_since, *};
    use crate::net::{PortRange, Transport};
    use crate::policy::model::{Action, Namespaces, Operator, Port, Requirement, Selector};
    use crate::policy::names::NamedPort;
    use crate::policy::watch::{WatchedGroup, WatchedPeer};

    fn decode(bytes: Vec<u8>) -> Result<(Roster, State), &'static str> {
        decode_since(bytes, None).map(|(decoded, state)| (decoded.roster, state))
    }

    fn read(file: &Rc<Vec<u8>>) -> Option<Roster> {
        read_since(file, None).map(|decoded| decoded.roster)
    }

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
            within: Some(("10.0.0.0/8".parse().unwrap(), vec!["10.1.0.0/16".parse().unwrap()])),
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
        let watch = Shared::new(Watch {
            ipv6: true,
            services: true,
            groups: [Action::Accept, Action::Deny, Action::Pass].map(group).into(),
        });
        let subject = |ino, anchor, table: Option<&str>, watch: Option<&Shared<Watch>>| {
            Rc::new(Subject {
                netns: NamespaceId { dev: 4, ino },
                cookie: (ino > 1).then_some(ino << 40),
                containers: vec![Container { id: format!("container-{ino}"), anchor, identity: identity.clone() }],
                addresses: vec!["10.1.2.3".parse().unwrap(), "2001:db8::1".parse().unwrap()],
                identity: identity.clone(),
                table: table.map(|table| Shared::new(table.to_owned())),
                watch: watch.cloned(),
                behind: ino == 2,
            })
        };
        let mut roster = Roster {
            subjects: vec![
                subject(1, Anchor::Process { pid: 42, started: 1_000_000 }, Some("netlatch 0 plan 1"), Some(&watch)),
                subject(2, Anchor::Path("/run/netns/a".into()), None, Some(&watch)),
                subject(3, Anchor::Process { pid: 43, started: u64::MAX }, None, None),
            ],
            moving: vec!["10.1.2.4".parse().unwrap(), "2001:db8::2".parse().unwrap()],
        };
        // Two in one namespace who are not the same.
        let last = Rc::make_mut(&mut roster.subjects[2]);
        let ports = vec![NamedPort { name: "dns".into(), port: 53, protocol: Transport::Udp }];
        let identity = Shared::new(Identity { namespace: "default".into(), ports, ..Identity::default() });
        let anchor = Anchor::Process { pid: 44, started: 1 };
        last.containers.push(Container { id: "sidecar".into(), anchor, identity });
        last.name();
        roster
    }

    #[test]
    fn what_is_stored_comes_back_and_is_shared_again() {
        for state in [State::Unfinished, State::Finished] {
            let bytes = encode(&roster(), state, 7).unwrap();
            let (read, found) = decode(bytes.clone()).unwrap();
            assert_eq!((&read, found), (&roster(), state));
            assert_eq!(encode(&read, state, 7).unwrap(), bytes);
            assert!(read.subjects[0].identity.is(&read.subjects[1].identity));
            assert!(read.subjects[0].identity.is(&read.subjects[2].containers[0].identity));
            assert_eq!(read.watches().len(), 1);
        }
        let (empty, _) = decode(encode(&Roster::default(), State::Finished, 7).unwrap()).unwrap();
        assert_eq!(empty, Roster::default());
    }

    #[test]
    fn who_is_as_before_is_shared_with_the_earlier_reading_and_nobody_else() {
        let bytes = |roster: &Roster| encode(roster, State::Finished, 7).unwrap();
        let (earlier, _) = decode_since(bytes(&roster()), None).unwrap();
        let shared = |now: &Roster| {
            let (decoded, _) = decode_since(bytes(now), Some(&earlier)).unwrap();
            assert_eq!(&decoded.roster, now);
            assert_eq!(decode(bytes(now)).unwrap().0, *now);
            let both = decoded.roster.subjects.iter().zip(&earlier.roster.subjects);
            both.map(|(now, then)| Rc::ptr_eq(now, then)).collect::<Vec<_>>()
        };
        assert_eq!(shared(&roster()), [true; 3]);
        // Somebody new, with an identity of his own, behind the others.
        let mut now = roster();
        let mut new = Subject::clone(&now.subjects[0]);
        new.netns.ino = 9;
        new.containers[0].identity = Shared::new(Identity { namespace: "new".into(), ..Identity::default() });
        new.name();
        now.subjects.push(Rc::new(new));
        assert_eq!(shared(&now), [true; 3]);
        // The second is behind no more.
        let mut now = roster();
        Rc::make_mut(&mut now.subjects[1]).behind = false;
        assert_eq!(shared(&now), [true, false, true]);
        // The first is gone, and the last is in its place: bytes of another place mean another.
        let mut now = roster();
        now.subjects.swap_remove(0);
        assert!(!shared(&now)[0]);
        // The same bytes of a subject, but the identity at that place is another's.
        let mut now = roster();
        let other = Shared::new(Identity { namespace: "other".into(), ..Identity::default() });
        for subject in &mut now.subjects {
            let subject = Rc::make_mut(subject);
            subject.containers[0].identity = other.clone();
            subject.name();
        }
        assert_eq!(shared(&now), [false; 3]);
    }

    #[test]
    fn what_is_stored_changes_only_with_the_version() {
        // When this fails, raise VERSION, and then write here what it is now.
        let bytes = encode(&roster(), State::Finished, 7).unwrap();
        assert_eq!((VERSION, bytes.len(), checksum(&bytes[HEADER..])), (4, 1037, 6_887_903_444_739_549_389));
    }

    #[test]
    fn what_cannot_be_used_is_told_from_what_can() {
        let good = encode(&roster(), State::Finished, 7).unwrap();
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            decode(bytes).unwrap_err()
        };
        assert_eq!(decode(Vec::new()).unwrap_err(), "it is empty");
        assert_eq!(decode(good[..20].to_vec()).unwrap_err(), "it is cut off");
        assert_eq!(with(0, 0), "it is something else");
        assert_eq!(with(8, 99), "another version wrote it");
        assert_eq!(with(12, 0), "its state is none");
        assert_eq!(decode(good[..good.len() - 1].to_vec()).unwrap_err(), "it is torn or damaged");
        assert_eq!(with(good.len() - 1, 0xff), "it is torn or damaged");
        assert_eq!(decode([&good[..], &[0]].concat()).unwrap_err(), "it is torn or damaged");
    }

    #[test]
    fn places_that_are_none_are_refused() {
        let good = encode(&roster(), State::Finished, 7).unwrap();
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            read(&Rc::new(bytes))
        };
        assert_eq!(with(HEADER, good[HEADER]), Some(roster()));
        // An identity, a table, a watch or a subject less or more than there are.
        for at in [HEADER, HEADER + 4, HEADER + 8, HEADER + 12] {
            for byte in [0, good[at] + 1, 0xff] {
                assert_eq!(with(at, byte), None, "{byte} at {at}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_write_that_was_interrupted_is_seen(cut in 0_usize..1000, before in 0_usize..4, after in 0_usize..4) {
            let of = |count, state| {
                let mut roster = roster();
                roster.subjects.truncate(count);
                (encode(&roster, state, 7).unwrap(), roster)
            };
            let ((old, before), (new, after)) = (of(before, State::Finished), of(after, State::Unfinished));
            let cut = cut % new.len();
            let mut torn = new[..cut].to_vec();
            torn.extend(old.get(cut..).unwrap_or_default());
            match decode(torn) {
                // Nothing was written, or the state alone: no set has been changed yet.
                Ok((read, state)) if read == before => prop_assert!(cut <= 12 || state == State::Unfinished),
                Ok((read, state)) => prop_assert!(read == after && state == State::Unfinished, "cut at {cut}"),
                Err(_) => {}
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(bytes.clone());
            let content = [&[0; HEADER][..], &bytes].concat();
            let _ = read(&Rc::new(content));
        }
    }
}
