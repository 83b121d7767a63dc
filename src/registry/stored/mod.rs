//! The roster's file.
//!
//! ```text
//!  0  magic          8 bytes
//!  8  version        u32, little endian as all
//! 12  state          1: unfinished, 2: finished; the one byte that is written alone
//! 13  -              3 bytes, zero
//! 16  length         u64, of what follows the header
//! 24  checksum       u64, of the same
//! 32  written        u64, nanoseconds since boot; under the lock no two are written at once
//! 40  whole          u64, when it was last written whole
//! 48  whole length   u64, of what followed the header then
//! 56  turn           u64, at which subject the next look at who lives begins
//! 64  entries
//! ```
//!
//! Entries say one after the other what is new: an identity, a table, a watch, each of which has the next free place in a list of
//! its kind; a subject, at the place of an earlier one or behind the last; how many subjects are left; which addresses move. So
//! a start or a stop among a thousand writes what changed and not a thousand, and who has read the file before reads what
//! came since ([`Stored::continued`]). When there is more of what was than of what is, the file is written whole: everything
//! then stands at its place.
//!
//! Identities, tables and watches are postcard. Subjects, of which there are most, have a layout of their own: postcard takes
//! addresses byte by byte.

use std::rc::Rc;

use serde::Serialize;

use super::roster::{Roster, Subject};
use super::shared::Shared;
use crate::policy::watch::{Identity, Watch};

mod entries;
mod header;

use entries::Kind;
pub(super) use header::{HEADER, STATE_AT, State};
use header::{Header, sum};

/// How much may stand behind what was written whole before all of it is written anew: as much again, and this.
const SLACK: u64 = 64 << 10;

/// What the file holds, as far as is known: nothing by default.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    header: Header,
    /// Who is in there.
    pub(super) roster: Roster,
    identities: Vec<Shared<Identity>>,
    tables: Vec<Shared<String>>,
    watches: Vec<Shared<Watch>>,
}

/// What is to be written, in this order.
#[derive(Debug)]
pub(super) enum Writing {
    /// All there is: what is there now is written over, and what is left of it behind that cut off.
    Whole(Vec<u8>),
    /// First what goes behind all else, at this place; then the header. Until it is there the file is too long, which is as good
    /// as torn to who has the lock, and means nothing yet to who has not.
    Behind(u64, Vec<u8>, [u8; HEADER]),
}

impl Stored {
    /// What is in a file's bytes. An error says in words why it cannot be used.
    ///
    /// Behind what the header speaks of there may be more: somebody is writing. Who holds the lock knows better, see
    /// [`Stored::is_all_of`].
    pub(super) fn read(bytes: &[u8]) -> Result<Stored, &'static str> {
        let header = Header::of(bytes)?;
        let content = bytes[HEADER..].get(..header.length as usize).ok_or("it is torn or damaged")?;
        if header.checksum != sum(0, content) {
            return Err("it is torn or damaged");
        }
        let mut stored = Stored::default();
        stored.take(content).ok_or("it does not hang together")?;
        Ok(Stored { header, ..stored })
    }

    /// Whether a file of that length has nothing else in it.
    pub(super) fn is_all_of(&self, length: u64) -> bool {
        self.header.length.checked_add(HEADER as u64) == Some(length)
    }

    /// The same file a moment later: its first bytes, its length now, and how to read what is at a place of it. `None` where it
    /// has to be read as a whole. Whoever is as before is shared with what was read before.
    pub(super) fn continued(
        &self,
        first: &[u8; HEADER],
        length: u64,
        read_at: impl FnOnce(u64, &mut [u8]) -> std::io::Result<()>,
    ) -> Option<Stored> {
        let header = Header::of(first).ok()?;
        let mut stored = self.clone();
        if !header.is(&self.header) {
            let more = header.continues(&self.header).then(|| header.length - self.header.length)?;
            // Nobody writes that much behind what was read a moment ago.
            let mut bytes = vec![0; usize::try_from(more).ok().filter(|more| *more as u64 <= length)?];
            read_at(HEADER as u64 + self.header.length, &mut bytes).ok()?;
            if header.checksum != sum(self.header.checksum, &bytes) {
                return None;
            }
            stored.take(&bytes)?;
        }
        stored.header = header;
        stored.is_all_of(length).then_some(stored)
    }

    /// Whether it is what was written when `other` was.
    pub(super) fn is(&self, other: &Stored) -> bool {
        self.header.is(&other.header)
    }

    /// Whether every set follows what it says.
    pub(super) fn is_finished(&self) -> bool {
        self.header.state == State::Finished
    }

    /// At which subject the next look at who lives begins; it may be behind the last.
    pub fn turn(&self) -> u32 {
        self.header.turn
    }

    /// Sets that, for when it is written next.
    pub fn set_turn(&mut self, turn: u32) {
        self.header.turn = turn;
    }

    /// What makes the file hold `roster`, unfinished. Once it is written, that is what this holds.
    ///
    /// # Errors
    /// postcard's. Nothing is known of the file then.
    pub(super) fn change_to(&mut self, roster: &Roster) -> Result<Writing, postcard::Error> {
        let known = std::mem::take(self);
        let header = known.header;
        // Of a file that nothing is known of nothing can be kept.
        if header.whole != 0 && header.length <= 2 * header.whole_length + SLACK {
            let mut next = known;
            let more = next.put(roster)?;
            next.header = header.and(&more);
            *self = next;
            return Ok(Writing::Behind(HEADER as u64 + header.length, more, self.header.bytes()));
        }
        let mut next = Stored::default();
        let content = next.put(roster)?;
        let mut header = Header { turn: header.turn, written: header.written, ..Header::default() }.and(&content);
        (header.whole, header.whole_length) = (header.written, header.length);
        next.header = header;
        *self = next;
        Ok(Writing::Whole([&self.header.bytes()[..], &content].concat()))
    }

    /// The entries that tell of what is not in there yet; from here on it is.
    fn put(&mut self, roster: &Roster) -> Result<Vec<u8>, postcard::Error> {
        let mut bytes = Vec::new();
        let is_there = |there: &Roster, place: usize, subject: &Rc<Subject>| {
            there.subjects.get(place).is_some_and(|there| Rc::ptr_eq(there, subject))
        };
        for (place, subject) in roster.subjects.iter().enumerate() {
            if !is_there(&self.roster, place, subject) {
                self.put_subject(&mut bytes, place, subject)?;
            }
        }
        if self.roster.subjects.len() > roster.subjects.len() {
            entries::put(&mut bytes, Kind::Count, |body| body.extend((roster.subjects.len() as u32).to_le_bytes()));
        }
        if self.roster.moving != roster.moving {
            entries::put_moving(&mut bytes, &roster.moving);
        }
        self.roster.clone_from(roster);
        Ok(bytes)
    }

    fn put_subject(&mut self, bytes: &mut Vec<u8>, place: usize, subject: &Subject) -> Result<(), postcard::Error> {
        let mut identities = Vec::with_capacity(1);
        for container in &subject.containers {
            identities.push(place_of(&mut self.identities, &container.identity, Kind::Identity, bytes)?);
        }
        let table =
            subject.table.as_ref().map(|table| place_of(&mut self.tables, table, Kind::Table, bytes)).transpose()?;
        let watch =
            subject.watch.as_ref().map(|watch| place_of(&mut self.watches, watch, Kind::Watch, bytes)).transpose()?;
        entries::put_subject(bytes, place as u32, subject, &identities, table, watch);
        Ok(())
    }

    /// Takes entries in. `None` where one says what cannot be, or the last is cut off.
    fn take(&mut self, content: &[u8]) -> Option<()> {
        let mut entries = entries::Entries::of(content);
        while !entries.is_empty() {
            let (kind, mut body) = entries.next()?;
            match kind {
                Kind::Identity => _ = body.shared::<Identity>()?.put_in(&mut self.identities),
                Kind::Table => _ = body.shared::<String>()?.put_in(&mut self.tables),
                Kind::Watch => _ = body.shared::<Watch>()?.put_in(&mut self.watches),
                Kind::Subject => {
                    let place = body.u32()? as usize;
                    let subject = Rc::new(body.subject(&self.identities, &self.tables, &self.watches)?);
                    let subjects = &mut self.roster.subjects;
                    if place == subjects.len() {
                        subjects.push(subject);
                    } else {
                        *subjects.get_mut(place)? = subject;
                    }
                }
                Kind::Count => {
                    let count = body.u32()? as usize;
                    (count <= self.roster.subjects.len()).then(|| self.roster.subjects.truncate(count))?;
                }
                Kind::Moving => self.roster.moving = body.addresses()?,
            }
            // What is left over was not understood.
            body.is_empty().then_some(())?;
        }
        Some(())
    }
}

/// Where a value is in a list of its kind; it is given a place there, and an entry in `bytes`, where it has none.
fn place_of<T: Serialize>(
    list: &mut Vec<Shared<T>>,
    value: &Shared<T>,
    kind: Kind,
    bytes: &mut Vec<u8>,
) -> Result<u32, postcard::Error> {
    if let Some(place) = value.place_in(list) {
        return Ok(place);
    }
    let text = postcard::to_allocvec::<T>(value)?;
    entries::put(bytes, kind, |body| entries::put_text(body, &text));
    Ok(value.clone().put_in(list))
}

#[cfg(test)]
mod tests;
