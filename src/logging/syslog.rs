//! The system's log socket, as syslog(3) writes to it (RFC 3164): one line, whose fields stay behind.
//!
//! Without a time: the protocol has it in local time without a zone, and every reader takes its own clock where it is
//! missing (rsyslog does so in any case). Reading the zone's file would be a start's work, and UTC would be a wrong time.

use super::{IDENTIFIER, Said};

/// syslog(3)'s socket, `_PATH_LOG`.
pub(super) const SOCKET: &str = "/dev/log";
/// `LOG_DAEMON`.
const FACILITY: u8 = 3 << 3;

pub(super) fn datagram(said: &Said<'_>) -> Vec<u8> {
    format!("<{}>{IDENTIFIER}[{}]: {}", FACILITY | said.severity, said.pid, said.message).into_bytes()
}
