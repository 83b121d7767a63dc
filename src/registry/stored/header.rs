//! The first bytes of the roster's file.

use crate::registry::boot_ns;

const MAGIC: [u8; 8] = *b"nlroster";
/// To be raised with every change of what is stored, also in the types of `policy` that it holds: read as something else
/// it would be a picture of nobody. The test of the stored bytes tells of such a change.
pub(super) const VERSION: u32 = 5;
/// Where the state is.
pub(in crate::registry) const STATE_AT: u64 = 12;
/// How long it is.
pub(in crate::registry) const HEADER: usize = 64;

/// Whether the sets follow what the roster says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::registry) enum State {
    /// Some may not.
    #[default]
    Unfinished,
    /// All do.
    Finished,
}

impl State {
    /// As it is stored. Not 0, which is what a hole in a file reads as.
    pub(in crate::registry) const fn byte(self) -> u8 {
        match self {
            State::Unfinished => 1,
            State::Finished => 2,
        }
    }
}

/// What the first bytes say. With another state it is the same writing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) state: State,
    /// How many bytes follow.
    pub(super) length: u64,
    /// [`sum`] of them.
    pub(super) checksum: u64,
    /// When it was written, in nanoseconds since boot: under the lock no two are written at once.
    pub(super) written: u64,
    /// When it was last written whole. What was there then is still there, and what came since stands behind it.
    pub(super) whole: u64,
    /// How many bytes followed then.
    pub(super) whole_length: u64,
    /// At which subject the next look at who lives begins.
    pub(super) turn: u32,
}

impl Header {
    /// That of a file. An error says in words why it is none.
    pub(super) fn of(bytes: &[u8]) -> Result<Header, &'static str> {
        let Some(bytes) = bytes.first_chunk::<HEADER>() else {
            return Err(if bytes.is_empty() { "it is empty" } else { "it is cut off" });
        };
        if bytes[..8] != MAGIC {
            return Err("it is something else");
        }
        if bytes[8..12] != VERSION.to_le_bytes() {
            return Err("another version wrote it");
        }
        let byte = bytes[STATE_AT as usize];
        let state = [State::Unfinished, State::Finished].into_iter().find(|known| known.byte() == byte);
        let number = |at: usize| bytes[at..at + 8].iter().rev().fold(0, |so_far, byte| so_far << 8 | u64::from(*byte));
        Ok(Header {
            state: state.ok_or("its state is none")?,
            length: number(16),
            checksum: number(24),
            written: number(32),
            whole: number(40),
            whole_length: number(48),
            turn: number(56) as u32,
        })
    }

    pub(super) fn bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[STATE_AT as usize] = self.state.byte();
        let numbers = [self.length, self.checksum, self.written, self.whole, self.whole_length, self.turn.into()];
        for (number, place) in numbers.iter().zip(bytes[16..].as_chunks_mut::<8>().0) {
            *place = number.to_le_bytes();
        }
        bytes
    }

    /// Whether both were written at once: what follows them is the same.
    pub(super) fn is(&self, other: &Header) -> bool {
        *self == Header { state: self.state, ..*other }
    }

    /// Whether this is what became of `earlier` by writing behind it alone.
    pub(super) fn continues(&self, earlier: &Header) -> bool {
        self.whole == earlier.whole && self.length >= earlier.length
    }

    /// It with `more` behind what follows it, written now.
    pub(super) fn and(&self, more: &[u8]) -> Header {
        Header {
            state: State::Unfinished,
            length: self.length + more.len() as u64,
            checksum: sum(self.checksum, more),
            // A clock that stands still between two would make them one.
            written: boot_ns().max(self.written + 1),
            ..*self
        }
    }
}

/// Tells a torn write from a whole one, eight bytes at a time; `before` is the sum of what stands before them. (Not for what
/// somebody forges: the directory is root's.)
pub(super) fn sum(before: u64, bytes: &[u8]) -> u64 {
    // Odd, so that no bit is lost by multiplying: 2^64 divided by the golden ratio.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let (words, rest) = bytes.as_chunks::<8>();
    // One more in each, so that zeros count from the first on.
    let mix = |sum: u64, word: u64| (sum.rotate_left(23) ^ word).wrapping_add(1).wrapping_mul(FACTOR);
    let sum = words.iter().fold(before, |sum, word| mix(sum, u64::from_le_bytes(*word)));
    rest.iter().fold(sum, |sum, byte| mix(sum, u64::from(*byte)))
}
