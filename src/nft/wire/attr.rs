//! Netlink messages and attributes: a writer that only appends and a reader that cannot panic.

use super::uapi::{NLA_F_NESTED, NLA_TYPE_MASK};
use crate::netlink::Message;

/// Bytes of `struct nlmsghdr`.
pub const NLMSG_HDRLEN: usize = 16;
/// Bytes of `struct nfgenmsg`.
pub const NFGENMSG_LEN: usize = 4;
const NLA_HDRLEN: usize = 4;

const fn align(len: usize) -> usize {
    (len + 3) & !3
}

/// The header of one message to write.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// `nlmsg_type`, subsystem included.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`.
    pub seq: u32,
    /// `nfgen_family`.
    pub family: u8,
    /// `res_id`.
    pub res_id: u16,
}

/// Appends messages and attributes to one buffer.
#[derive(Debug, Default)]
pub struct Writer {
    buf: Vec<u8>,
}

impl Writer {
    /// With room for `bytes`.
    pub fn with_capacity(bytes: usize) -> Writer {
        Writer { buf: Vec::with_capacity(bytes) }
    }

    /// Bytes written.
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.buf
    }

    /// One message; `body` writes its attributes.
    pub fn message(&mut self, header: Header, body: impl FnOnce(&mut Writer)) {
        let start = self.buf.len();
        self.buf.extend_from_slice(&[0; 4]);
        self.buf.extend_from_slice(&header.kind.to_ne_bytes());
        self.buf.extend_from_slice(&header.flags.to_ne_bytes());
        self.buf.extend_from_slice(&header.seq.to_ne_bytes());
        self.buf.extend_from_slice(&[0; 4]);
        self.buf.extend_from_slice(&[header.family, 0]);
        self.buf.extend_from_slice(&header.res_id.to_be_bytes());
        body(self);
        let len = (self.buf.len() - start) as u32;
        self.buf[start..start + 4].copy_from_slice(&len.to_ne_bytes());
    }

    /// An attribute with `value`.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.head(kind, value.len());
        self.buf.extend_from_slice(value);
        self.pad();
    }

    /// A big-endian number, as nf_tables has them.
    pub fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A big-endian number.
    pub fn u64(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A string with its NUL.
    pub fn str(&mut self, kind: u16, value: &str) {
        self.head(kind, value.len() + 1);
        self.buf.extend_from_slice(value.as_bytes());
        self.buf.push(0);
        self.pad();
    }

    /// A nest of attributes.
    pub fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Writer)) {
        let start = self.buf.len();
        self.buf.extend_from_slice(&[0; NLA_HDRLEN]);
        body(self);
        let len = self.buf.len() - start;
        self.patch(start, kind | NLA_F_NESTED, len);
    }

    /// An attribute in a nest in a nest, as the elements of sets are: with one addition to the buffer for all three heads, for a
    /// set may have 100,000.
    pub fn bytes_in(&mut self, outer: u16, inner: u16, kind: u16, value: &[u8]) {
        let len = NLA_HDRLEN + value.len();
        let inner_len = NLA_HDRLEN + align(len);
        let mut heads = [0; 3 * NLA_HDRLEN];
        let nested = [(outer | NLA_F_NESTED, NLA_HDRLEN + inner_len), (inner | NLA_F_NESTED, inner_len), (kind, len)];
        for (head, (kind, len)) in heads.chunks_exact_mut(NLA_HDRLEN).zip(nested) {
            assert!(len <= usize::from(u16::MAX), "attribute {kind} of {len} bytes");
            head[..2].copy_from_slice(&(len as u16).to_ne_bytes());
            head[2..].copy_from_slice(&kind.to_ne_bytes());
        }
        self.buf.extend_from_slice(&heads);
        self.buf.extend_from_slice(value);
        self.pad();
    }

    fn head(&mut self, kind: u16, payload: usize) {
        let start = self.buf.len();
        self.buf.extend_from_slice(&[0; NLA_HDRLEN]);
        self.patch(start, kind, NLA_HDRLEN + payload);
    }

    fn patch(&mut self, start: usize, kind: u16, len: usize) {
        // Callers split what may grow (ELEMENT_BYTES); a length that wrapped would be another ruleset.
        assert!(len <= usize::from(u16::MAX), "attribute {kind} of {len} bytes");
        self.buf[start..start + 2].copy_from_slice(&(len as u16).to_ne_bytes());
        self.buf[start + 2..start + 4].copy_from_slice(&kind.to_ne_bytes());
    }

    fn pad(&mut self) {
        let aligned = align(self.buf.len());
        if aligned != self.buf.len() {
            self.buf.resize(aligned, 0);
        }
    }
}

/// The attributes of an nfnetlink message.
pub fn attrs<'a>(message: &Message<'a>) -> Attrs<'a> {
    Attrs { rest: message.payload.get(NFGENMSG_LEN..).unwrap_or(&[]) }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Attributes one after the other; ends at the first that is malformed.
#[derive(Clone, Copy, Debug)]
pub struct Attrs<'a> {
    rest: &'a [u8],
}

impl<'a> Attrs<'a> {
    /// Reads `bytes`.
    pub fn new(bytes: &'a [u8]) -> Attrs<'a> {
        Attrs { rest: bytes }
    }

    /// The first attribute of this kind.
    pub fn find(mut self, kind: u16) -> Option<Attr<'a>> {
        Iterator::find(&mut self, |attr| attr.kind == kind)
    }
}

/// One attribute.
#[derive(Clone, Copy, Debug)]
pub struct Attr<'a> {
    /// `nla_type` without its flag bits.
    pub kind: u16,
    /// Its payload.
    pub value: &'a [u8],
}

impl<'a> Iterator for Attrs<'a> {
    type Item = Attr<'a>;

    fn next(&mut self) -> Option<Attr<'a>> {
        let len = usize::from(u16_at(self.rest, 0)?);
        let value = self.rest.get(NLA_HDRLEN..len)?;
        let kind = u16_at(self.rest, 2)? & NLA_TYPE_MASK;
        self.rest = self.rest.get(align(len)..).unwrap_or(&[]);
        Some(Attr { kind, value })
    }
}

impl<'a> Attr<'a> {
    /// A big-endian number of exactly four bytes.
    pub fn u32(&self) -> Option<u32> {
        Some(u32::from_be_bytes(self.value.try_into().ok()?))
    }

    /// A big-endian number of exactly eight bytes.
    pub fn u64(&self) -> Option<u64> {
        Some(u64::from_be_bytes(self.value.try_into().ok()?))
    }

    /// A string, without its NUL.
    pub fn str(&self) -> Option<&'a str> {
        let end = self.value.iter().position(|b| *b == 0).unwrap_or(self.value.len());
        std::str::from_utf8(&self.value[..end]).ok()
    }

    /// The nested attributes.
    pub fn nest(&self) -> Attrs<'a> {
        Attrs::new(self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::Messages;

    #[test]
    fn what_was_written_reads_back_padded_and_nested() {
        let mut w = Writer::default();
        w.message(Header { kind: 0xa03, flags: 5, seq: 7, family: 1, res_id: 0 }, |w| {
            w.str(1, "netlatch");
            w.nest(4, |w| {
                w.u32(1, 3);
                w.bytes(2, &[1, 2, 3]);
            });
        });
        let bytes = w.into_bytes();
        assert_eq!(bytes.len() % 4, 0);
        let message = Messages::new(&bytes).next().unwrap().unwrap();
        assert_eq!((message.kind, message.flags, message.sequence), (0xa03, 5, 7));
        assert_eq!(attrs(&message).find(1).unwrap().str(), Some("netlatch"));
        let nest = attrs(&message).find(4).unwrap().nest();
        assert_eq!(nest.find(1).unwrap().u32(), Some(3));
        assert_eq!(nest.find(2).unwrap().value, [1, 2, 3]);
    }

    #[test]
    fn a_message_cut_anywhere_ends_the_reading_without_a_panic() {
        let mut w = Writer::default();
        w.message(Header { kind: 1, flags: 0, seq: 1, family: 0, res_id: 0 }, |w| w.nest(1, |w| w.str(2, "abcde")));
        let bytes = w.into_bytes();
        for end in 0..bytes.len() {
            for message in Messages::new(&bytes[..end]).flatten() {
                attrs(&message).for_each(|attr| attr.nest().for_each(drop));
            }
        }
        let zero = [0u8; 64];
        assert_eq!(Attrs::new(&zero).count(), 0);
    }
}
