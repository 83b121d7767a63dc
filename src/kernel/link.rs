//! Loopback, as runc brings it up, and what the kernel says of links and addresses.
//!
//! runc's `loopback.initialize` calls vishvananda/netlink's `LinkSetUp`: one RTM_NEWLINK with flags and change mask
//! `IFF_UP` and no attribute. It adds no address; the kernel adds 127.0.0.1/8 and ::1/128 itself when `lo` comes up
//! (`inetdev_event`, `addrconf_notify`), and has done so when the acknowledgement is there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload, NlasIterator,
    parse_ip,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressHeader, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkHeader, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;

use crate::error::{Cause, Failure};
use crate::kernel::netns::Inside;
use crate::kernel::process::Deadline;
use crate::kernel::socket::{BUFFER, Socket};
use crate::net::is_of_one_link;
use crate::nft::wire::uapi::LOOPBACK_IFINDEX;

// include/uapi/linux/rtnetlink.h, if_link.h, if_addr.h.
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const IFLA_IFNAME: u16 = 3;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

/// How often a dump that changed underfoot (`NLM_F_DUMP_INTR`) is asked for anew.
const DUMP_ATTEMPTS: u32 = 8;

/// What the kernel says of `lo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loopback {
    /// `IFF_UP` is set.
    pub up: bool,
    /// It has 127.0.0.1/8.
    pub v4: bool,
    /// It has ::1/128.
    pub v6: bool,
}

/// A link of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index there.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// `IFF_*`.
    pub flags: LinkFlags,
}

impl Link {
    /// Whether it is administratively up.
    pub fn is_up(&self) -> bool {
        self.flags.contains(LinkFlags::Up)
    }
}

/// An address of a namespace's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The index of the link that has it.
    pub index: u32,
    /// The address; of a point-to-point link this end's.
    pub address: IpAddr,
    /// Its prefix length, in bits.
    pub prefix: u8,
    /// Another host of the link has it (`IFA_F_DADFAILED`), and this one does not use it.
    pub duplicate: bool,
}

/// An error that names each difference between `lo` as it is and as it must be: up, with 127.0.0.1/8, and with ::1/128
/// precisely when IPv6 is on for it.
pub fn check_loopback(found: &Loopback, ipv6_on_lo: bool) -> Result<(), Failure> {
    let differences = [
        (!found.up, "lo is down"),
        (!found.v4, "lo has no 127.0.0.1/8"),
        (ipv6_on_lo && !found.v6, "lo has no ::1/128 although IPv6 is on for it"),
        (!ipv6_on_lo && found.v6, "lo has ::1/128 although IPv6 is off for it"),
    ];
    let problems: Vec<&str> = differences.iter().filter(|(differs, _)| *differs).map(|(_, words)| *words).collect();
    if problems.is_empty() {
        return Ok(());
    }
    Err(Failure::new("confirm the loopback interface", Cause::ReadBack(problems.join(" and "))))
}

/// The addresses of the namespace this thread is in, of all links. Read-only; meant for the host, before joining.
pub fn addresses_here(deadline: &Deadline) -> Result<Vec<Address>, Failure> {
    Route::open()?.addresses(deadline)
}

/// The links of the namespace this thread is in. Read-only.
pub fn links_here(deadline: &Deadline) -> Result<Vec<Link>, Failure> {
    Route::open()?.links(deadline)
}

/// The addresses by which others may know a container, sorted, none twice.
///
/// * Loopback's are everybody's own.
/// * Link-local ones mean something on one link only: two containers on two links may have the same, so that they tell
///   nobody who is speaking, and no policy can select by them.
/// * One that duplicate address detection is still about (`IFA_F_TENTATIVE`) is taken: the container uses it a second
///   later, and nobody would come by to add it then.
/// * One that failed it is somebody else's and is not taken: who really has it would be let in by this container's labels.
pub fn global_addresses(inside: &Inside, deadline: &Deadline) -> Result<Vec<IpAddr>, Failure> {
    let mut addresses: Vec<IpAddr> = Links::open(inside)?
        .addresses(deadline)?
        .into_iter()
        .filter(|address| !address.duplicate && is_global(address.address))
        .map(|address| address.address)
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

/// Whether an address means the same on every link of the host's.
fn is_global(address: IpAddr) -> bool {
    !(address.is_loopback() || address.is_unspecified() || address.is_multicast() || is_of_one_link(address))
}

/// The links of a container's namespace, over one socket.
#[derive(Debug)]
pub struct Links<'i> {
    inside: &'i Inside,
    route: Route,
}

impl<'i> Links<'i> {
    /// Opens the socket.
    pub fn open(inside: &'i Inside) -> Result<Links<'i>, Failure> {
        Ok(Links { inside, route: Route::open()? })
    }

    /// Brings `lo` up exactly as runc does, and reads it back, in one datagram. Like runc it does not ask first: the
    /// kernel does nothing for a link that is up.
    pub fn raise_loopback(&mut self, deadline: &Deadline) -> Result<Loopback, Failure> {
        let doing = format!("bring up lo in {}", self.inside.target());
        let requests = [set_loopback_up(), get_loopback(), get_addresses(LOOPBACK_IFINDEX)];
        self.route.loopback(&requests, deadline, &doing)
    }

    /// Reads `lo`: flags and addresses.
    pub fn loopback(&mut self, deadline: &Deadline) -> Result<Loopback, Failure> {
        let doing = format!("read lo in {}", self.inside.target());
        self.route.loopback(&[get_loopback(), get_addresses(LOOPBACK_IFINDEX)], deadline, &doing)
    }

    /// All links.
    pub fn links(&mut self, deadline: &Deadline) -> Result<Vec<Link>, Failure> {
        self.route.links(deadline)
    }

    /// All addresses of all links.
    pub fn addresses(&mut self, deadline: &Deadline) -> Result<Vec<Address>, Failure> {
        self.route.addresses(deadline)
    }
}

/// A request with its flags; the sequence number is given when it is sent.
struct Request {
    flags: u16,
    message: RouteNetlinkMessage,
}

/// RTM_NEWLINK as vishvananda/netlink's `LinkSetUp` writes it.
fn set_loopback_up() -> Request {
    let mut message = LinkMessage::default();
    message.header = LinkHeader {
        index: LOOPBACK_IFINDEX,
        flags: LinkFlags::Up,
        change_mask: LinkFlags::Up,
        ..LinkHeader::default()
    };
    Request { flags: NLM_F_REQUEST | NLM_F_ACK, message: RouteNetlinkMessage::NewLink(message) }
}

fn get_loopback() -> Request {
    let mut message = LinkMessage::default();
    message.header.index = LOOPBACK_IFINDEX;
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    Request { flags: NLM_F_REQUEST, message: RouteNetlinkMessage::GetLink(message) }
}

fn get_links() -> Request {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    Request { flags: NLM_F_REQUEST | NLM_F_DUMP, message: RouteNetlinkMessage::GetLink(message) }
}

/// `index` 0 asks for every link's.
fn get_addresses(index: u32) -> Request {
    let mut message = AddressMessage::default();
    message.header.index = index;
    Request { flags: NLM_F_REQUEST | NLM_F_DUMP, message: RouteNetlinkMessage::GetAddress(message) }
}

/// The datagram that carries `requests`, numbered from `first`.
fn datagram(requests: &[Request], first: u32) -> Vec<u8> {
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
struct Reply<'b> {
    kind: u16,
    payload: &'b [u8],
}

#[derive(Debug)]
struct Route {
    socket: Socket,
    buffer: Vec<u8>,
    next: u32,
}

impl Route {
    fn open() -> Result<Route, Failure> {
        let socket = Socket::open(NETLINK_ROUTE)?;
        // Without it, before Linux 4.20, dumps hold more than was asked for and the readers pick what they want.
        socket.filter_dumps();
        Ok(Route { socket, buffer: vec![0; BUFFER], next: 1 })
    }

    /// Sends `requests` and makes of their replies a picture of `lo`.
    fn loopback(&mut self, requests: &[Request], deadline: &Deadline, doing: &str) -> Result<Loopback, Failure> {
        self.dump(requests, deadline, doing, || {
            (Loopback { up: false, v4: false, v6: false }, |found: &mut Loopback, reply: Reply<'_>| {
                if reply.kind == RTM_NEWLINK {
                    found.up = loopback_flags(reply.payload)?.contains(LinkFlags::Up);
                } else if let Some(address) = parse_address(reply)?
                    && address.index == LOOPBACK_IFINDEX
                {
                    found.v4 |= address.address == Ipv4Addr::LOCALHOST && address.prefix == 8;
                    found.v6 |= address.address == Ipv6Addr::LOCALHOST && address.prefix == 128;
                }
                Ok(())
            })
        })
    }

    fn links(&mut self, deadline: &Deadline) -> Result<Vec<Link>, Failure> {
        self.dump(&[get_links()], deadline, "list the links", || {
            (Vec::new(), |links: &mut Vec<Link>, reply: Reply<'_>| {
                links.push(parse_link(reply.payload)?);
                Ok(())
            })
        })
    }

    fn addresses(&mut self, deadline: &Deadline) -> Result<Vec<Address>, Failure> {
        self.dump(&[get_addresses(0)], deadline, "list the addresses", || {
            (Vec::new(), |addresses: &mut Vec<Address>, reply: Reply<'_>| {
                addresses.extend(parse_address(reply)?);
                Ok(())
            })
        })
    }

    /// Asks with `requests`, from the start again where the kernel says that what it listed changed meanwhile.
    /// `start` makes an empty result and what adds a reply to it.
    fn dump<T, F>(
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
            if self.ask(requests, deadline, doing, |reply| add(&mut result, reply))? {
                return Ok(result);
            }
        }
        Err(Failure::new(doing, Cause::Netlink { call: "a dump that never came out consistent", errno: Errno::EINTR }))
    }

    /// Sends `requests` as one datagram and hands every reply to `each`, until each request has had its answer. Returns
    /// whether the answers are consistent (no `NLM_F_DUMP_INTR`).
    fn ask(
        &mut self,
        requests: &[Request],
        deadline: &Deadline,
        doing: &str,
        mut each: impl FnMut(Reply<'_>) -> Result<(), Cause>,
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
                match message.verdict() {
                    Some(Ok(())) => unanswered = unanswered.saturating_sub(1),
                    Some(Err(errno)) => {
                        let problem = format!("the kernel refused it with {errno:?}");
                        return Err(Failure::new(doing, Cause::Link(problem)));
                    }
                    None => {
                        each(Reply { kind: message.kind, payload: message.payload })
                            .map_err(|cause| Failure::new(doing, cause))?;
                        // A plain request has one reply and nothing after it; a dump ends with NLMSG_DONE.
                        if request.flags & (NLM_F_DUMP | NLM_F_ACK) == 0 {
                            unanswered = unanswered.saturating_sub(1);
                        }
                    }
                }
            }
        }
        Ok(consistent)
    }
}

// Only headers and the attributes that are needed are read: netlink-packet-route's full parsers fail on an attribute
// whose length a newer kernel has changed.

fn unreadable(_: netlink_packet_core::DecodeError) -> Cause {
    Cause::Netlink { call: "reading a netlink reply", errno: Errno::EPROTO }
}

fn loopback_flags(payload: &[u8]) -> Result<LinkFlags, Cause> {
    let header = LinkHeader::parse(payload).map_err(unreadable)?;
    if header.index != LOOPBACK_IFINDEX || !header.flags.contains(LinkFlags::Loopback) {
        return Err(Cause::Link(format!("link {} is not a loopback interface", header.index)));
    }
    Ok(header.flags)
}

/// `sizeof(struct ifinfomsg)`.
const LINK_HEADER: usize = 16;
/// `sizeof(struct ifaddrmsg)`.
const ADDRESS_HEADER: usize = 8;

fn parse_link(payload: &[u8]) -> Result<Link, Cause> {
    let header = LinkHeader::parse(payload).map_err(unreadable)?;
    for attribute in NlasIterator::new(&payload[LINK_HEADER..]) {
        let attribute = attribute.map_err(unreadable)?;
        if attribute.kind() == IFLA_IFNAME {
            let name = attribute.value().strip_suffix(&[0]).unwrap_or(attribute.value());
            // A name is looked up under /proc/sys: one letter replaced would be another link's.
            let name = std::str::from_utf8(name)
                .map_err(|_| Cause::Link(format!("the name of link {} is not UTF-8", header.index)))?;
            return Ok(Link { index: header.index, name: name.into(), flags: header.flags });
        }
    }
    Err(Cause::Link(format!("link {} has no name", header.index)))
}

/// `None` for a message that holds no address of ours, such as another family's.
fn parse_address(reply: Reply<'_>) -> Result<Option<Address>, Cause> {
    if reply.kind != RTM_NEWADDR {
        return Ok(None);
    }
    let header = AddressHeader::parse(reply.payload).map_err(unreadable)?;
    let (mut own, mut peer) = (None, None);
    for attribute in NlasIterator::new(&reply.payload[ADDRESS_HEADER..]) {
        let attribute = attribute.map_err(unreadable)?;
        match attribute.kind() {
            // Of a point-to-point link IFA_ADDRESS is the other end and IFA_LOCAL this one; without a peer IPv6 has
            // no IFA_LOCAL.
            IFA_LOCAL => own = parse_ip(attribute.value()).ok(),
            IFA_ADDRESS => peer = parse_ip(attribute.value()).ok(),
            _ => {}
        }
    }
    let duplicate = header.flags.contains(AddressHeaderFlags::Dadfailed);
    Ok(own.or(peer).map(|address| Address { index: header.index, address, prefix: header.prefix_len, duplicate }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_request_is_runcs_byte_for_byte() {
        #[rustfmt::skip]
        let runc = [
            32, 0, 0, 0,  16, 0,  5, 0,  9, 0, 0, 0,  0, 0, 0, 0, // nlmsghdr: RTM_NEWLINK, REQUEST|ACK, sequence 9
            0, 0, 0, 0,  1, 0, 0, 0,  1, 0, 0, 0,  1, 0, 0, 0, // ifinfomsg: AF_UNSPEC, type 0, index 1, IFF_UP, IFF_UP
        ];
        if cfg!(target_endian = "little") {
            assert_eq!(datagram(&[set_loopback_up()], 9), runc);
        }
    }

    #[test]
    fn ipv6_on_lo_is_required_exactly_when_it_is_on() {
        let found = |up, v4, v6| Loopback { up, v4, v6 };
        assert_eq!(check_loopback(&found(true, true, true), true), Ok(()));
        assert_eq!(check_loopback(&found(true, true, false), false), Ok(()));
        for (lo, ipv6, problem) in [
            (found(true, true, false), true, "lo has no ::1/128 although IPv6 is on for it"),
            (found(true, true, true), false, "lo has ::1/128 although IPv6 is off for it"),
            (found(true, false, true), true, "lo has no 127.0.0.1/8"),
            (found(false, false, false), false, "lo is down and lo has no 127.0.0.1/8"),
        ] {
            let failure = check_loopback(&lo, ipv6).unwrap_err();
            assert_eq!(failure.cause, Cause::ReadBack(problem.into()));
        }
    }

    #[test]
    fn this_end_of_a_point_to_point_link_is_the_address() {
        let mut payload = vec![2, 32, 0, 0, 7, 0, 0, 0];
        payload.extend([8, 0, 1, 0, 192, 0, 2, 9]);
        payload.extend([8, 0, 2, 0, 192, 0, 2, 1]);
        let address = parse_address(Reply { kind: RTM_NEWADDR, payload: &payload }).unwrap().unwrap();
        assert_eq!(address, Address { index: 7, address: "192.0.2.1".parse().unwrap(), prefix: 32, duplicate: false });
    }

    #[test]
    fn an_address_that_another_host_has_is_told() {
        // ifa_flags: IFA_F_PERMANENT | IFA_F_TENTATIVE, then with IFA_F_DADFAILED.
        for (flags, duplicate) in [(0xc0, false), (0xc8, true)] {
            let mut payload = vec![10, 64, flags, 0, 7, 0, 0, 0];
            payload.extend([20, 0, 1, 0, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
            let address = parse_address(Reply { kind: RTM_NEWADDR, payload: &payload }).unwrap().unwrap();
            assert_eq!((address.address, address.duplicate), ("2001:db8::1".parse().unwrap(), duplicate));
        }
    }

    #[test]
    fn an_address_of_one_link_alone_makes_nobody_known() {
        let global = |text: &str| is_global(text.parse().unwrap());
        for text in ["10.0.0.1", "192.0.2.1", "100.64.0.1", "fd00::1", "2001:db8::1"] {
            assert!(global(text), "{text}");
        }
        for text in ["127.0.0.1", "127.1.2.3", "::1", "169.254.1.1", "fe80::1", "0.0.0.0", "::", "224.0.0.1", "ff02::1"]
        {
            assert!(!global(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(payload in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = parse_link(&payload);
            let _ = loopback_flags(&payload);
            let _ = parse_address(Reply { kind: RTM_NEWADDR, payload: &payload });
        }
    }
}
