//! The journal's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): a datagram is a record.
//!
//! A field is its name, a newline, the value's length in 64 bits little-endian, the value, a newline. The protocol has a
//! shorter form for values of one line; this one holds whatever the value is, so that no value can become a field.

use super::{IDENTIFIER, Said};

/// Where journald listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

pub(super) fn datagram(said: &Said<'_>) -> Vec<u8> {
    let (severity, pid) = (said.severity.to_string(), said.pid.to_string());
    // SYSLOG_PID is what `journalctl` shows once the process is gone.
    let head = [("PRIORITY", severity.as_str()), ("SYSLOG_IDENTIFIER", IDENTIFIER), ("SYSLOG_PID", &pid)];
    let mut bytes = Vec::with_capacity(1 << 10);
    put(&mut bytes, "MESSAGE", &said.message);
    head.iter().for_each(|(name, value)| put(&mut bytes, name, value));
    said.fields.iter().for_each(|(name, value)| put(&mut bytes, name, value));
    bytes
}

fn put(bytes: &mut Vec<u8>, name: &str, value: &str) {
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(b'\n');
    bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
    bytes.extend_from_slice(value.as_bytes());
    bytes.push(b'\n');
}
