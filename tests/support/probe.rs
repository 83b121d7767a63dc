//! Senders: one packet or connection from a namespace, and what its sender saw.

use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::str::FromStr;
use std::time::Duration;

use super::namespace::Namespace;
use super::raw;

/// What the sender saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// TCP: the connection stands.
    Connected,
    /// UDP: the kernel took the datagram.
    Sent,
    /// ICMP: the echo was answered.
    Replied,
    /// ECONNREFUSED.
    Refused,
    /// No answer in time.
    TimedOut,
    /// EHOSTUNREACH, ENETUNREACH or an address that cannot be used.
    Unreachable,
    /// EPERM, EACCES.
    NotPermitted,
}

impl Outcome {
    fn of(error: &std::io::Error) -> Outcome {
        match error.kind() {
            ErrorKind::ConnectionRefused => Outcome::Refused,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Outcome::TimedOut,
            ErrorKind::PermissionDenied => Outcome::NotPermitted,
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::AddrNotAvailable => {
                Outcome::Unreachable
            }
            other => panic!("a sender failed in a way no test expects: {error} ({other:?})"),
        }
    }
}

/// Opens a TCP connection and closes it.
pub(crate) fn tcp_connect(from: &Namespace, to: SocketAddr, timeout: Duration) -> Outcome {
    match from.within(|| TcpStream::connect_timeout(&to, timeout)) {
        Ok(_) => Outcome::Connected,
        Err(error) => Outcome::of(&error),
    }
}

/// Sends one datagram.
pub(crate) fn udp_send(from: &Namespace, to: SocketAddr, payload: &[u8]) -> Outcome {
    let sent = from.within(|| {
        let socket = UdpSocket::bind(any(to)).expect("a UDP socket binds");
        socket.send_to(payload, to)
    });
    match sent {
        Ok(_) => Outcome::Sent,
        Err(error) => Outcome::of(&error),
    }
}

/// The wildcard address of `like`'s family.
pub(crate) fn any(like: SocketAddr) -> SocketAddr {
    if like.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() }
}

/// A packet as a table of cases writes it: `tcp 10.9.1.1:443`, `udp [2001:db8::1]:53`, `icmp [2001:db8::1]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probe {
    /// A TCP connection.
    Tcp(SocketAddr),
    /// A UDP datagram.
    Udp(SocketAddr),
    /// An echo request, ICMPv6 towards IPv6.
    Icmp(IpAddr),
}

impl FromStr for Probe {
    type Err = String;

    fn from_str(text: &str) -> Result<Probe, String> {
        let wrong = || format!("{text:?} is no probe");
        let (protocol, to) = text.split_once(' ').ok_or_else(wrong)?;
        Ok(match protocol {
            "tcp" => Probe::Tcp(to.parse().map_err(|_| wrong())?),
            "udp" => Probe::Udp(to.parse().map_err(|_| wrong())?),
            // Brackets read better in a table beside `tcp [addr]:port`; std parses no bracketed address without a port.
            "icmp" => Probe::Icmp(to.trim_matches(['[', ']']).parse().map_err(|_| wrong())?),
            _ => return Err(wrong()),
        })
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Probe::Tcp(to) => write!(f, "tcp {to}"),
            Probe::Udp(to) => write!(f, "udp {to}"),
            Probe::Icmp(to) => write!(f, "icmp {to}"),
        }
    }
}

impl Probe {
    /// Sends it.
    pub(crate) fn send(&self, from: &Namespace, timeout: Duration) -> Outcome {
        match *self {
            Probe::Tcp(to) => tcp_connect(from, to, timeout),
            Probe::Udp(to) => udp_send(from, to, b"probe"),
            Probe::Icmp(to) => raw::icmp_echo(from, to, timeout),
        }
    }

    /// The address it goes to.
    pub(crate) fn address(&self) -> IpAddr {
        match self {
            Probe::Tcp(to) | Probe::Udp(to) => to.ip(),
            Probe::Icmp(to) => *to,
        }
    }

    /// The port it goes to.
    pub(crate) fn port(&self) -> Option<u16> {
        match self {
            Probe::Tcp(to) | Probe::Udp(to) => Some(to.port()),
            Probe::Icmp(_) => None,
        }
    }
}
