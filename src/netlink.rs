//! Netlink datagrams as they arrive: the messages in them, and the verdicts among those.
//!
//! Shared by everything that reads netlink. What a message means is its reader's business.

use netlink_packet_core::NetlinkBuffer;
use nix::errno::Errno;

/// One message of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'b> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`: that of the request it answers.
    pub sequence: u32,
    /// What follows the header.
    pub payload: &'b [u8],
}

impl Message<'_> {
    /// The kernel's verdict where the message is one, `NLMSG_ERROR` or `NLMSG_DONE`: `Ok` for 0, an acknowledgement.
    /// `None` for any other message, and for one too short to hold a verdict an error, EPROTO.
    pub fn verdict(&self) -> Option<Result<(), Errno>> {
        if self.kind != NLMSG_ERROR && self.kind != NLMSG_DONE {
            return None;
        }
        let code = self.payload.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes));
        Some(match code {
            Some(0) => Ok(()),
            Some(code) => Err(Errno::from_raw(code.saturating_neg())),
            None => Err(Errno::EPROTO),
        })
    }
}

/// `NLMSG_ERROR`: the kernel's verdict on a message, 0 for an acknowledgement.
pub const NLMSG_ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a dump.
pub const NLMSG_DONE: u16 = 3;

/// The messages of one datagram, in order.
#[derive(Clone, Debug)]
pub struct Messages<'b> {
    rest: &'b [u8],
}

impl<'b> Messages<'b> {
    /// Reads `datagram`.
    pub fn new(datagram: &'b [u8]) -> Messages<'b> {
        Messages { rest: datagram }
    }

    /// Bytes not read yet.
    pub fn len(&self) -> usize {
        self.rest.len()
    }

    /// Whether all was read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

impl<'b> Iterator for Messages<'b> {
    /// EPROTO for a header that does not fit the datagram; nothing follows it.
    type Item = Result<Message<'b>, Errno>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let whole = std::mem::take(&mut self.rest);
        let Ok(message) = NetlinkBuffer::new_checked(whole) else {
            return Some(Err(Errno::EPROTO));
        };
        // NLMSG_ALIGN; the last message of a datagram need not be padded.
        let aligned = (message.length() as usize).next_multiple_of(4);
        self.rest = whole.get(aligned..).unwrap_or_default();
        Some(Ok(Message {
            kind: message.message_type(),
            flags: message.flags(),
            sequence: message.sequence_number(),
            payload: message.payload(),
        }))
    }
}

#[cfg(test)]
/// A message with the given length in its header, whatever its own is.
pub(crate) fn message(length: u32, kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(0_u16.to_ne_bytes());
    bytes.extend(7_u32.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_datagram_is_read_message_by_message() {
        let mut datagram = message(17, 20, &[1, 0, 0, 0]);
        datagram.extend(message(20, NLMSG_DONE, &0_i32.to_ne_bytes()));
        let messages: Vec<_> = Messages { rest: &datagram }.map(Result::unwrap).collect();
        assert_eq!(messages.len(), 2);
        assert_eq!((messages[0].kind, messages[0].sequence, messages[0].payload), (20, 7, &[1_u8][..]));
        assert_eq!(messages[0].verdict(), None);
        assert_eq!(messages[1].verdict(), Some(Ok(())));
    }

    #[test]
    fn a_verdict_names_the_kernels_error() {
        let refused = message(20, NLMSG_ERROR, &(-1_i32).to_ne_bytes());
        let verdict = Messages { rest: &refused }.next().unwrap().unwrap().verdict();
        assert_eq!(verdict, Some(Err(Errno::EPERM)));
        let cut = message(18, NLMSG_ERROR, &[0, 0]);
        assert_eq!(Messages { rest: &cut }.next().unwrap().unwrap().verdict(), Some(Err(Errno::EPROTO)));
    }

    #[test]
    fn a_length_that_does_not_fit_ends_the_datagram_with_an_error() {
        for length in [0, 15, 21, u32::MAX] {
            let bytes = message(length, 20, &[0; 4]);
            let mut messages = Messages { rest: &bytes };
            assert_eq!(messages.next(), Some(Err(Errno::EPROTO)), "length {length}");
            assert_eq!(messages.next(), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic_and_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let count = Messages { rest: &bytes }.filter_map(|message| message.ok()?.verdict()).count();
            prop_assert!(count <= bytes.len());
        }
    }
}
