//! What follows the header, one entry after another: a kind, a length, as many bytes, and zeros up to the next eighth.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use serde::de::DeserializeOwned;

use crate::kernel::netns::NamespaceId;
use crate::policy::watch::{Identity, Watch};
use crate::registry::Anchor;
use crate::registry::roster::{Container, Subject, together};
use crate::registry::shared::Shared;

/// What an entry tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An identity, at the next place of its kind.
    Identity,
    /// A table's comment, likewise.
    Table,
    /// A watch, likewise.
    Watch,
    /// A subject, at a place that it names.
    Subject,
    /// How many subjects are left.
    Count,
    /// The addresses that move.
    Moving,
}

impl Kind {
    const ALL: [Kind; 6] = [Kind::Identity, Kind::Table, Kind::Watch, Kind::Subject, Kind::Count, Kind::Moving];
}

/// Stands for no place in a list.
const NOWHERE: u32 = u32::MAX;

/// Entries begin at multiples of this many bytes, so that the checksum of some is that of the others continued.
const ALIGNED: usize = 8;

/// Puts an entry down.
pub(super) fn put(bytes: &mut Vec<u8>, kind: Kind, body: impl FnOnce(&mut Vec<u8>)) {
    bytes.extend((kind as u32 + 1).to_le_bytes());
    let length_at = bytes.len();
    bytes.extend([0; 4]);
    body(bytes);
    let length = (bytes.len() - length_at - 4) as u32;
    bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(ALIGNED), 0);
}

/// Bytes behind their number.
pub(super) fn put_text(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend_from_slice(text);
}

/// Puts down a subject: its place, and those of what it shares with others.
pub(super) fn put_subject(
    bytes: &mut Vec<u8>,
    at: u32,
    subject: &Subject,
    identities: &[u32],
    table: Option<u32>,
    watch: Option<u32>,
) {
    put(bytes, Kind::Subject, |bytes| {
        bytes.extend_from_slice(&at.to_le_bytes());
        for number in [subject.netns.dev, subject.netns.ino, subject.cookie.unwrap_or_default()] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for number in [
            u32::from(subject.cookie.is_some()) | u32::from(subject.behind) << 1,
            table.unwrap_or(NOWHERE),
            watch.unwrap_or(NOWHERE),
            subject.containers.len() as u32,
        ] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        put_addresses(bytes, &subject.addresses);
        for (Container { id, anchor, .. }, identity) in subject.containers.iter().zip(identities) {
            bytes.extend_from_slice(&identity.to_le_bytes());
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
    });
}

/// Puts down which addresses move.
pub(super) fn put_moving(bytes: &mut Vec<u8>, moving: &[IpAddr]) {
    put(bytes, Kind::Moving, |bytes| put_addresses(bytes, moving));
}

fn put_addresses(bytes: &mut Vec<u8>, addresses: &[IpAddr]) {
    bytes.extend((addresses.len() as u32).to_le_bytes());
    for address in addresses {
        match address {
            IpAddr::V4(v4) => put_text(bytes, &v4.octets()),
            IpAddr::V6(v6) => put_text(bytes, &v6.octets()),
        }
    }
}

/// What is left to read of entries, or of one. `None` from any of its functions: it ends before, or says what cannot be.
pub(super) struct Entries<'f>(&'f [u8]);

impl<'f> Entries<'f> {
    pub(super) fn of(bytes: &'f [u8]) -> Entries<'f> {
        Entries(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next entry: its kind, and its body to read from.
    pub(super) fn next(&mut self) -> Option<(Kind, Entries<'f>)> {
        let kind = *Kind::ALL.get((self.u32()? as usize).checked_sub(1)?)?;
        let length = self.u32()? as usize;
        let body = self.take(length)?;
        self.take(length.next_multiple_of(ALIGNED) - length)?;
        Some((kind, Entries(body)))
    }

    fn take(&mut self, count: usize) -> Option<&'f [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Option<&'f [u8]> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    pub(super) fn shared<T: DeserializeOwned>(&mut self) -> Option<Shared<T>> {
        let (value, behind) = postcard::take_from_bytes(self.text()?).ok()?;
        behind.is_empty().then(|| Shared::new(value))
    }

    /// `count` of what `each` reads. A wrong count reserves no more than what there can be: each takes four bytes at least.
    fn list<T>(&mut self, count: u32, mut each: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let mut list = Vec::with_capacity((count as usize).min(self.0.len() / 4));
        for _ in 0..count {
            list.push(each(self)?);
        }
        Some(list)
    }

    fn address(&mut self) -> Option<IpAddr> {
        match *self.text()? {
            [a, b, c, d] => Some(Ipv4Addr::new(a, b, c, d).into()),
            ref octets => Some(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).into()),
        }
    }

    pub(super) fn addresses(&mut self) -> Option<Vec<IpAddr>> {
        let count = self.u32()?;
        self.list(count, Entries::address)
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

    /// A subject, behind its place.
    pub(super) fn subject(
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
        let containers = self.u32()?;
        let addresses = self.addresses()?;
        let containers = self.list(containers, |rest| rest.container(identities))?;
        let identity = together(&containers)?;
        Some(Subject { netns, cookie, containers, addresses, identity, table, watch, behind })
    }
}

/// What stands at `place` of a list, if anything is to; `None` where there is no such place.
fn place<T>(list: &[Shared<T>], place: u32) -> Option<Option<Shared<T>>> {
    if place == NOWHERE { Some(None) } else { list.get(place as usize).cloned().map(Some) }
}
