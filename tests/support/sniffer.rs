//! The far side's ear: every packet that arrives on any interface, before any rule there sees it.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt};

use super::namespace::Namespace;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// An AF_PACKET socket and what it has heard.
pub(crate) struct Sniffer {
    socket: OwnedFd,
    heard: RefCell<Vec<Heard>>,
}

/// A packet on the wire, either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heard {
    /// Source address.
    pub(crate) from: IpAddr,
    /// Destination address.
    pub(crate) to: IpAddr,
    /// IP protocol number.
    pub(crate) protocol: u8,
    /// Destination port, for TCP and UDP.
    pub(crate) port: Option<u16>,
    /// ICMP type.
    pub(crate) icmp: Option<u8>,
    /// TCP flags.
    pub(crate) flags: Option<u8>,
}

impl Sniffer {
    /// Listens in `namespace` from now on.
    pub(crate) fn new(namespace: &Namespace) -> Sniffer {
        let socket = namespace
            .within(|| {
                // Datagram: the kernel strips the link layer, the packet starts with its IP header.
                socket(
                    AddressFamily::Packet,
                    SockType::Datagram,
                    SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
                    SockProtocol::EthAll,
                )
            })
            .expect("AF_PACKET opens");
        // A test that sends much before it looks must not lose packets.
        setsockopt(&socket, sockopt::RcvBuf, &(4 << 20)).expect("a socket option");
        Sniffer { socket, heard: RefCell::default() }
    }

    /// How many of the packets heard so far are like that.
    pub(crate) fn count(&self, like: impl Fn(&Heard) -> bool) -> usize {
        self.drain();
        self.heard.borrow().iter().filter(|packet| like(packet)).count()
    }

    /// Everything heard so far, for messages.
    pub(crate) fn all(&self) -> Vec<Heard> {
        self.drain();
        self.heard.borrow().clone()
    }

    fn drain(&self) {
        let mut buffer = [0; 65536];
        loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(len) => self.heard.borrow_mut().extend(decode(&buffer[..len])),
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => {}
                Err(e) => panic!("the far side went deaf: {e:?}"),
            }
        }
    }
}

/// `None` for what is not IP, such as ARP.
fn decode(packet: &[u8]) -> Option<Heard> {
    let (from, to, protocol, payload) = match packet.first()? >> 4 {
        4 if packet.len() >= 20 => {
            let header = usize::from(packet[0] & 15) * 4;
            (v4(&packet[12..16]), v4(&packet[16..20]), packet[9], packet.get(header..)?)
        }
        6 if packet.len() >= 40 => (v6(&packet[8..24]), v6(&packet[24..40]), packet[6], &packet[40..]),
        _ => return None,
    };
    let transport = [TCP, UDP].contains(&protocol) && payload.len() >= 8;
    let icmp = [ICMP, ICMPV6].contains(&protocol);
    Some(Heard {
        from,
        to,
        protocol,
        port: transport.then(|| u16::from_be_bytes([payload[2], payload[3]])),
        icmp: icmp.then(|| payload.first().copied()).flatten(),
        flags: (protocol == TCP).then(|| payload.get(13).copied()).flatten(),
    })
}

fn v4(bytes: &[u8]) -> IpAddr {
    let bytes: [u8; 4] = bytes.try_into().expect("four bytes");
    Ipv4Addr::from(bytes).into()
}

fn v6(bytes: &[u8]) -> IpAddr {
    let bytes: [u8; 16] = bytes.try_into().expect("sixteen bytes");
    Ipv6Addr::from(bytes).into()
}
