//! One netlink socket: open, send, receive. What the messages mean is their readers' business.
//!
//! A socket belongs for life to the network namespace its thread was in when it was opened.
//!
//! The kernel answers rtnetlink and nf_tables requests inside `sendmsg`, so a reply is there when the call returns:
//! receiving never polls first, and waits, against a deadline, only where there is nothing yet.

use netlink_sys::Socket as Raw;
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};

use crate::error::{Cause, Failure, errno_of};
use crate::kernel::checkpoint;
use crate::kernel::process::Deadline;
use crate::netlink::Messages;

/// A buffer of this length, in bytes, takes any dump reply: `netlink_dump` never allocates a message longer than the
/// buffer that was last received into, and starts with less than 4 KiB (`NLMSG_GOODSIZE`) where pages are that large.
///
/// The kernel puts 320 bytes of its own behind a message (`skb_shared_info`) and takes both from one piece of a power of
/// two: asked with 8,192, it would allocate 16 KiB for each part of each dump.
pub const BUFFER: usize = 8192 - 320;

// recvmsg(2); netlink-sys takes the plain numbers, and both are the same on every Linux.
const MSG_TRUNC: i32 = 0x20;
const MSG_DONTWAIT: i32 = 0x40;

/// A netlink socket of the namespace it was opened in.
#[derive(Debug)]
pub struct Socket {
    raw: Raw,
}

impl Socket {
    /// Opens a socket, close-on-exec, for `protocol`: one of [`netlink_sys::protocols`].
    pub fn open(protocol: isize) -> Result<Socket, Failure> {
        let raw = Raw::new(protocol).map_err(|error| failed("socket(AF_NETLINK)", errno_of(&error)))?;
        Ok(Socket { raw })
    }

    /// Asks for `NETLINK_EXT_ACK`, the offset of the attribute at fault, and for `NETLINK_CAP_ACK`, errors that do
    /// not echo the message they are about.
    pub fn explain_errors(&self) -> Result<(), Failure> {
        self.raw.set_ext_ack(true).map_err(|error| failed("setsockopt(NETLINK_EXT_ACK)", errno_of(&error)))?;
        self.raw.set_cap_ack(true).map_err(|error| failed("setsockopt(NETLINK_CAP_ACK)", errno_of(&error)))
    }

    /// Asks for `NETLINK_GET_STRICT_CHK`: dump requests are filtered by the kernel. `false` before Linux 4.20, where
    /// the caller filters.
    pub fn filter_dumps(&self) -> bool {
        self.raw.set_netlink_get_strict_chk(true).is_ok()
    }

    /// Makes room for one message of `bytes` bytes to be sent.
    ///
    /// `SO_SNDBUFFORCE` passes net.core.wmem_max and needs CAP_NET_ADMIN, over the host before Linux 5.16; without it
    /// `SO_SNDBUF` grants what wmem_max lets it, and a message that is still too long fails in [`Socket::send`] with
    /// EMSGSIZE.
    pub fn make_room_to_send(&self, bytes: usize) -> Result<(), Failure> {
        setsockopt(&self.raw, sockopt::SndBufForce, &bytes)
            .or_else(|_| setsockopt(&self.raw, sockopt::SndBuf, &bytes))
            .map_err(|errno| failed("setsockopt(SO_SNDBUF)", errno))
    }

    /// Sends one datagram to the kernel: one message or a batch, whole or not at all.
    pub fn send(&self, datagram: &[u8]) -> Result<(), Failure> {
        if !checkpoint::send().map_err(|errno| failed("send to netlink", errno))? {
            return Ok(());
        }
        loop {
            // No address: a netlink socket that was never connected speaks to port 0, the kernel.
            match self.raw.send(datagram, 0) {
                Ok(n) if n == datagram.len() => return Ok(()),
                Ok(_) => return Err(failed("a short netlink send", Errno::EMSGSIZE)),
                Err(error) => match errno_of(&error) {
                    Errno::EINTR => {}
                    errno => return Err(failed("send to netlink", errno)),
                },
            }
        }
    }

    /// The next datagram that is queued, or `None` where there is none (EAGAIN).
    ///
    /// # Errors
    ///
    /// ENOBUFS says that replies were lost to a full queue; those that were not can still be received. EMSGSIZE says
    /// that `buffer` was too short for this datagram, which is gone.
    pub fn receive_queued<'b>(&self, buffer: &'b mut [u8]) -> Result<Option<Messages<'b>>, Errno> {
        loop {
            // MSG_TRUNC makes the kernel report the datagram's own length, so that a cut one is seen.
            match self.raw.recv_from(&mut &mut *buffer, MSG_DONTWAIT | MSG_TRUNC) {
                // A process in this namespace may send to our port; only port 0 is the kernel.
                Ok((_, sender)) if sender.port_number() != 0 => {}
                Ok((n, _)) if n > buffer.len() => return Err(Errno::EMSGSIZE),
                Ok((n, _)) => {
                    // What is left out by a test was not there: the next is asked for.
                    if let Some(n) = checkpoint::hear(buffer, n)? {
                        return Ok(Some(Messages::new(&buffer[..n])));
                    }
                }
                Err(error) => match errno_of(&error) {
                    Errno::EAGAIN => return Ok(None),
                    Errno::EINTR => {}
                    errno => return Err(errno),
                },
            }
        }
    }

    /// The next datagram, waiting for it until the deadline. `doing` follows the word "cannot".
    pub fn receive<'b>(&self, buffer: &'b mut [u8], deadline: &Deadline, doing: &str) -> Result<Messages<'b>, Failure> {
        // The length first: a borrow that leaves the loop in one arm may not be taken anew in the next round.
        let length = loop {
            match self.receive_queued(buffer) {
                Ok(Some(messages)) => break messages.len(),
                Ok(None) => deadline.wait_readable(&self.raw, doing)?,
                Err(errno) => return Err(Failure::new(doing, Cause::Netlink { call: "receive from netlink", errno })),
            }
        };
        Ok(Messages::new(&buffer[..length]))
    }
}

/// Sockets that are done with, to be closed together.
///
/// Closing any socket of NETLINK_NETFILTER waits until what its namespace's nf_tables lost is freed, after an RCU grace
/// period of 10 ms and more here (`nft_rcv_nl_event`). Each namespace has its own queue of that, so grace periods that
/// have begun by the time the first socket is closed are waited for at once.
#[derive(Debug, Default)]
pub struct Closing {
    sockets: Vec<Socket>,
}

impl Closing {
    /// Most sockets that stay open: the usual limit is 1,024 descriptors, and one more grace period for so many
    /// namespaces is cheap.
    const MOST: usize = 256;

    /// Keeps a socket open for now.
    pub fn add(&mut self, socket: Socket) {
        self.sockets.push(socket);
        if self.sockets.len() >= Closing::MOST {
            self.sockets.clear();
        }
    }
}

fn failed(call: &'static str, errno: Errno) -> Failure {
    Failure::new("talk to the kernel over netlink", Cause::Netlink { call, errno })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{NLMSG_ERROR, message};
    use netlink_sys::{SocketAddr, protocols::NETLINK_ROUTE};
    use std::time::Duration;

    #[test]
    fn what_another_process_sends_to_our_port_is_not_heard() {
        let mut socket = Socket::open(NETLINK_ROUTE).unwrap();
        let port = socket.raw.bind_auto().unwrap();
        let forged = message(20, NLMSG_ERROR, &0_i32.to_ne_bytes());
        let stranger = Raw::new(NETLINK_ROUTE).unwrap();
        stranger.send_to(&forged, &SocketAddr::new(port.port_number(), 0), 0).unwrap();
        let mut buffer = [0; 64];
        assert_eq!(socket.raw.recv_from(&mut &mut buffer[..], 2).unwrap().0, 20, "MSG_PEEK: it has arrived");
        assert!(socket.receive_queued(&mut buffer).unwrap().is_none());
    }

    /// RTM_GETLINK for every link: a dump.
    fn dump_request() -> Vec<u8> {
        let mut request = message(32, 18, &[0; 16]);
        request[6..8].copy_from_slice(&0x301_u16.to_ne_bytes());
        request
    }

    #[test]
    fn a_datagram_longer_than_the_buffer_is_an_error() {
        let socket = Socket::open(NETLINK_ROUTE).unwrap();
        socket.send(&dump_request()).unwrap();
        assert_eq!(socket.receive_queued(&mut [0; 64]).unwrap_err(), Errno::EMSGSIZE);
    }

    #[test]
    fn an_answer_that_never_comes_is_waited_for_until_the_deadline() {
        let socket = Socket::open(NETLINK_ROUTE).unwrap();
        let deadline = Deadline::after(Duration::from_millis(20));
        let failure = socket.receive(&mut [0; 64], &deadline, "hear the kernel").unwrap_err();
        assert!(matches!(failure.cause, Cause::Deadline(_)), "{failure}");
    }

    #[test]
    fn a_large_datagram_can_be_sent_once_there_is_room() {
        let noop = message(1 << 20, 1, &vec![0; (1 << 20) - 16]);
        let socket = Socket::open(NETLINK_ROUTE).unwrap();
        let failure = socket.send(&noop).unwrap_err();
        assert_eq!(failure.cause, Cause::Netlink { call: "send to netlink", errno: Errno::EMSGSIZE });
        socket.make_room_to_send(2 << 20).unwrap();
        socket.send(&noop).unwrap();
    }
}
