//! Requests of rtnetlink and the replies to them. What a message means is its reader's business.

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;

use crate::error::{Cause, Failure};
use crate::kernel::process::Deadline;
use crate::kernel::socket::{BUFFER, Socket};

/// How often a dump that changed underfoot (`NLM_F_DUMP_INTR`) is asked for anew.
const DUMP_ATTEMPTS: u32 = 8;

/// `sizeof(struct ifinfomsg)`.
pub(super) const LINK_HEADER: usize = 16;

/// A request with its flags; the sequence number is given when it is sent.
pub(super) struct Request {
    pub(super) flags: u16,
    pub(super) message: RouteNetlinkMessage,
}

/// RTM_GETLINK for one link.
pub(super) fn get_link(index: u32) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    Request { flags: NLM_F_REQUEST, message: RouteNetlinkMessage::GetLink(message) }
}

/// RTM_GETLINK for every link.
pub(super) fn get_links() -> Request {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    Request { flags: NLM_F_REQUEST | NLM_F_DUMP, message: RouteNetlinkMessage::GetLink(message) }
}

/// The datagram that carries `requests`, numbered from `first`.
pub(super) fn datagram(requests: &[Request], first: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    for (sequence, request) in (first..).zip(requests) {
        let mut header = NetlinkHeader::default();
        header.flags = request.flags;
        header.sequence_number = sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request.message.clone()));
        message.finalize();
        let start = bytes.len();
        bytes.resize(start + message.buffer_len(), 0);
        message.serialize(&mut bytes[start..]);
    }
    bytes
}

/// A message that answers a request.
#[derive(Clone, Copy)]
pub(super) struct Reply<'b> {
    pub(super) kind: u16,
    pub(super) payload: &'b [u8],
}

/// A socket of the namespace it was opened in.
#[derive(Debug)]
pub(super) struct Route {
    socket: Socket,
    buffer: Vec<u8>,
    next: u32,
}

impl Route {
    pub(super) fn open() -> Result<Route, Failure> {
        let socket = Socket::open(NETLINK_ROUTE)?;
        // Without it, before Linux 4.20, dumps hold more than was asked for and the readers pick what they want.
        socket.filter_dumps();
        Ok(Route { socket, buffer: vec![0; BUFFER], next: 1 })
    }

    /// Asks with `requests`, from the start again where the kernel says that what it listed changed meanwhile.
    /// `start` makes an empty result and what adds a reply to it. A refusal is an error.
    pub(super) fn dump<T, F>(
        &mut self,
        requests: &[Request],
        deadline: &Deadline,
        doing: &str,
        start: impl Fn() -> (T, F),
    ) -> Result<T, Failure>
    where
        F: FnMut(&mut T, Reply<'_>) -> Result<(), Cause>,
    {
        for _ in 0..DUMP_ATTEMPTS {
            let (mut result, mut add) = start();
            let consistent =
                self.ask(requests, deadline, doing, |answer| add(&mut result, answer.map_err(refused)?))?;
            if consistent {
                return Ok(result);
            }
        }
        Err(Failure::new(doing, Cause::Netlink { call: "a dump that never came out consistent", errno: Errno::EINTR }))
    }

    /// Sends `requests` as one datagram and hands every reply and every refusal to `each`, until each request has had
    /// its answer. Returns whether the answers are consistent (no `NLM_F_DUMP_INTR`).
    pub(super) fn ask(
        &mut self,
        requests: &[Request],
        deadline: &Deadline,
        doing: &str,
        mut each: impl FnMut(Result<Reply<'_>, Errno>) -> Result<(), Cause>,
    ) -> Result<bool, Failure> {
        let malformed = |errno| Failure::new(doing, Cause::Netlink { call: "reading a netlink reply", errno });
        let first = self.next;
        self.next += requests.len() as u32;
        self.socket.send(&datagram(requests, first))?;

        let mut consistent = true;
        let mut unanswered = requests.len();
        while unanswered > 0 {
            for message in self.socket.receive(&mut self.buffer, deadline, doing)? {
                let message = message.map_err(malformed)?;
                // What is left of an earlier exchange that ended with an error.
                if message.sequence < first {
                    continue;
                }
                let Some(request) = requests.get((message.sequence - first) as usize) else {
                    return Err(malformed(Errno::EPROTO));
                };
                consistent &= message.flags & NLM_F_DUMP_INTR == 0;
                let (answer, last) = match message.verdict() {
                    Some(Ok(())) => {
                        unanswered = unanswered.saturating_sub(1);
                        continue;
                    }
                    Some(Err(errno)) => (Err(errno), true),
                    // A plain request has one reply and nothing after it; a dump ends with NLMSG_DONE.
                    None => {
                        let reply = Reply { kind: message.kind, payload: message.payload };
                        (Ok(reply), request.flags & (NLM_F_DUMP | NLM_F_ACK) == 0)
                    }
                };
                each(answer).map_err(|cause| Failure::new(doing, cause))?;
                unanswered = unanswered.saturating_sub(usize::from(last));
            }
        }
        Ok(consistent)
    }
}

/// A refusal as an error.
pub(super) fn refused(errno: Errno) -> Cause {
    Cause::Link(format!("the kernel refused it with {errno:?}"))
}

pub(super) fn unreadable(_: netlink_packet_core::DecodeError) -> Cause {
    Cause::Netlink { call: "reading a netlink reply", errno: Errno::EPROTO }
}
