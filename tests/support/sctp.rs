//! As much of SCTP (RFC 9260) as a probe needs, over raw sockets: INIT, and the INIT ACK that answers it.
//!
//! Many kernels are built without SCTP sockets (`CONFIG_IP_SCTP`), and filter SCTP all the same. What goes over the wire
//! is the real thing, checksum and tags included, for conntrack looks at both (nf_conntrack_proto_sctp.c).

/// Length of the common header.
const HEADER: usize = 12;
/// Length of an INIT or INIT ACK chunk without parameters.
const CHUNK: usize = 20;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
/// Type 7, STATE COOKIE: an INIT ACK must have one. Four bytes of header, four of cookie.
const COOKIE: [u8; 8] = [0, 7, 0, 8, b'n', b'l', 0, 1];

/// A packet that means something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// The sender's port.
    pub(crate) from: u16,
    /// The receiver's port.
    pub(crate) to: u16,
    /// Which of the two.
    pub(crate) kind: Kind,
    /// The sender's tag.
    pub(crate) tag: u32,
}

/// What a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The first packet of an association.
    Init,
    /// Its answer.
    InitAck,
}

/// The first packet of an association.
pub(crate) fn init(from: u16, to: u16, tag: u32) -> Vec<u8> {
    // The verification tag of a packet with an INIT is 0 (8.5.1).
    packet(from, to, 0, INIT, tag)
}

/// The answer to `init`.
pub(crate) fn init_ack(init: &Chunk) -> Vec<u8> {
    packet(init.to, init.from, init.tag, INIT_ACK, !init.tag | 1)
}

fn packet(from: u16, to: u16, verification: u32, kind: u8, tag: u32) -> Vec<u8> {
    let mut packet = Vec::with_capacity(HEADER + CHUNK + COOKIE.len());
    packet.extend(from.to_be_bytes());
    packet.extend(to.to_be_bytes());
    packet.extend(verification.to_be_bytes());
    packet.extend([0; 4]);
    let cookie: &[u8] = if kind == INIT_ACK { &COOKIE } else { &[] };
    packet.extend([kind, 0]);
    packet.extend(((CHUNK + cookie.len()) as u16).to_be_bytes());
    packet.extend(tag.to_be_bytes());
    packet.extend(65536u32.to_be_bytes());
    // One stream each way, and the first sequence number.
    packet.extend([0, 1, 0, 1]);
    packet.extend(tag.to_be_bytes());
    packet.extend(cookie);
    // The one number of SCTP in little endian order (RFC 9260, appendix A).
    let sum = crc32c(&packet).to_le_bytes();
    packet[8..12].copy_from_slice(&sum);
    packet
}

/// Reads a packet without its IP header. `None`: it is no INIT and no INIT ACK.
pub(crate) fn read(packet: &[u8]) -> Option<Chunk> {
    let two = |at: usize| Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?));
    let kind = match *packet.get(HEADER)? {
        INIT => Kind::Init,
        INIT_ACK => Kind::InitAck,
        _ => return None,
    };
    let tag = u32::from_be_bytes(packet.get(HEADER + 4..HEADER + 8)?.try_into().ok()?);
    Some(Chunk { from: two(0)?, to: two(2)?, kind, tag })
}

/// CRC-32C (Castagnoli), reflected.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}
