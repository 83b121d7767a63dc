//! Loopback, as runc brings it up, and what the kernel says of links and addresses.
//!
//! runc's `loopback.initialize` calls vishvananda/netlink's `LinkSetUp`: one RTM_NEWLINK with flags and change mask
//! `IFF_UP` and no attribute. It adds no address; the kernel adds 127.0.0.1/8 and ::1/128 itself when `lo` comes up
//! (`inetdev_event`, `addrconf_notify`), and has done so when the acknowledgement is there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NlasIterator, parse_ip};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressHeader, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{LinkFlags, LinkHeader, LinkMessage};
use nix::errno::Errno;

use crate::error::{Cause, Failure};
use crate::kernel::netns::Inside;
use crate::kernel::process::Deadline;
use crate::kernel::rtnetlink::{LINK_HEADER, Reply, Request, Route, get_link, get_links, unreadable};
use crate::net::is_of_one_link;
use crate::nft::wire::uapi::LOOPBACK_IFINDEX;

// include/uapi/linux/rtnetlink.h, if_link.h, if_addr.h.
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const IFLA_IFNAME: u16 = 3;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_INET6_CONF: u16 = 2;
const AF_INET6: u16 = 10;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// Which of the values of `IFLA_INET6_CONF` is `disable_ipv6` (include/uapi/linux/ipv6.h).
const DEVCONF_DISABLE_IPV6: usize = 26;

/// Most links of a namespace that are looked at. Each may be given sysctls of its own.
pub const MAX_LINKS: usize = 10_000;
/// Most addresses of a namespace that are looked at. A container's stand in the roster and in the sets of its peers.
pub const MAX_ADDRESSES: usize = 10_000;

pub(super) fn check_count(count: usize, (limit, name): (usize, &str)) -> Result<(), Cause> {
    let problem = || Cause::Limit(format!("the namespace has more than {limit} of them ({name})"));
    if count > limit { Err(problem()) } else { Ok(()) }
}

/// What the kernel says of `lo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loopback {
    /// `IFF_UP` is set.
    pub up: bool,
    /// It has 127.0.0.1/8.
    pub v4: bool,
    /// It has ::1/128.
    pub v6: bool,
    /// IPv6 is on for it: the kernel has IPv6, and its `disable_ipv6` is 0. Never `conf/all`, which says nothing of any
    /// interface. Read with the link: the way to the file below /proc/sys takes longer the more namespaces there are.
    pub ipv6: bool,
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
pub fn check_loopback(found: &Loopback) -> Result<(), Failure> {
    let differences = [
        (!found.up, "lo is down"),
        (!found.v4, "lo has no 127.0.0.1/8"),
        (found.ipv6 && !found.v6, "lo has no ::1/128 although IPv6 is on for it"),
        (!found.ipv6 && found.v6, "lo has ::1/128 although IPv6 is off for it"),
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
    Ok(those(Links::open(inside)?.addresses(deadline)?, is_global))
}

/// The addresses a container may send from, link-local ones included, sorted, none twice. Loopback's never leave, and
/// what failed duplicate address detection is another host's.
pub fn own_addresses(inside: &Inside, deadline: &Deadline) -> Result<Vec<IpAddr>, Failure> {
    Ok(those(Links::open(inside)?.addresses(deadline)?, is_own))
}

fn those(addresses: Vec<Address>, wanted: impl Fn(IpAddr) -> bool) -> Vec<IpAddr> {
    let usable = addresses.into_iter().filter(|address| !address.duplicate).map(|address| address.address);
    let mut wanted: Vec<IpAddr> = usable.filter(|address| wanted(*address)).collect();
    wanted.sort_unstable();
    wanted.dedup();
    wanted
}

/// Whether an address is one host's, on one link or on all.
fn is_own(address: IpAddr) -> bool {
    !(address.is_loopback() || address.is_unspecified() || address.is_multicast())
}

/// Whether an address means the same on every link of the host's.
fn is_global(address: IpAddr) -> bool {
    is_own(address) && !is_of_one_link(address)
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
        let requests = [set_loopback_up(), get_link(LOOPBACK_IFINDEX), get_addresses(LOOPBACK_IFINDEX)];
        self.route.loopback(&requests, deadline, &doing)
    }

    /// Reads `lo`: flags and addresses.
    pub fn loopback(&mut self, deadline: &Deadline) -> Result<Loopback, Failure> {
        let doing = format!("read lo in {}", self.inside.target());
        self.route.loopback(&[get_link(LOOPBACK_IFINDEX), get_addresses(LOOPBACK_IFINDEX)], deadline, &doing)
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

/// `index` 0 asks for every link's.
fn get_addresses(index: u32) -> Request {
    let mut message = AddressMessage::default();
    message.header.index = index;
    Request { flags: NLM_F_REQUEST | NLM_F_DUMP, message: RouteNetlinkMessage::GetAddress(message) }
}

impl Route {
    /// Sends `requests` and makes of their replies a picture of `lo`.
    fn loopback(&mut self, requests: &[Request], deadline: &Deadline, doing: &str) -> Result<Loopback, Failure> {
        self.dump(requests, deadline, doing, || {
            (Loopback { up: false, v4: false, v6: false, ipv6: false }, |found: &mut Loopback, reply: Reply<'_>| {
                if reply.kind == RTM_NEWLINK {
                    found.up = loopback_flags(reply.payload)?.contains(LinkFlags::Up);
                    found.ipv6 = has_ipv6_on(reply.payload)?;
                } else if let Some(address) = parse_address(reply.kind, reply.payload)?
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
                check_count(links.len(), (MAX_LINKS, "MAX_LINKS"))
            })
        })
    }

    fn addresses(&mut self, deadline: &Deadline) -> Result<Vec<Address>, Failure> {
        self.dump(&[get_addresses(0)], deadline, "list the addresses", || {
            (Vec::new(), |addresses: &mut Vec<Address>, reply: Reply<'_>| {
                addresses.extend(parse_address(reply.kind, reply.payload)?);
                check_count(addresses.len(), (MAX_ADDRESSES, "MAX_ADDRESSES"))
            })
        })
    }
}

// Only headers and the attributes that are needed are read: netlink-packet-route's full parsers fail on an attribute
// whose length a newer kernel has changed.

fn loopback_flags(payload: &[u8]) -> Result<LinkFlags, Cause> {
    let header = LinkHeader::parse(payload).map_err(unreadable)?;
    if header.index != LOOPBACK_IFINDEX || !header.flags.contains(LinkFlags::Loopback) {
        return Err(Cause::Link(format!("link {} is not a loopback interface", header.index)));
    }
    Ok(header.flags)
}

/// Whether the payload of an `RTM_NEWLINK` says that IPv6 is on for its link: no word of IPv6 is no IPv6.
fn has_ipv6_on(payload: &[u8]) -> Result<bool, Cause> {
    let Some(families) = attribute(&payload[LINK_HEADER..], IFLA_AF_SPEC)? else { return Ok(false) };
    let Some(inet6) = attribute(families, AF_INET6)? else { return Ok(false) };
    let Some(conf) = attribute(inet6, IFLA_INET6_CONF)? else { return Ok(false) };
    let disabled = conf.chunks_exact(4).nth(DEVCONF_DISABLE_IPV6).ok_or(TOO_SHORT)?;
    Ok(disabled == [0; 4])
}

/// `NLA_HDRLEN`.
const ATTRIBUTE_HEADER: usize = 4;

/// The value of the first attribute of a kind.
fn attribute(attributes: &[u8], kind: u16) -> Result<Option<&[u8]>, Cause> {
    for found in NlasIterator::new(attributes) {
        let found = found.map_err(unreadable)?;
        if found.kind() == kind {
            let end = usize::from(found.length());
            return found.into_inner().get(ATTRIBUTE_HEADER..end).map(Some).ok_or(TOO_SHORT);
        }
    }
    Ok(None)
}

const TOO_SHORT: Cause = Cause::Netlink { call: "reading a netlink reply", errno: Errno::EPROTO };

/// `sizeof(struct ifaddrmsg)`.
const ADDRESS_HEADER: usize = 8;

/// The link that the payload of an `RTM_NEWLINK` tells of.
///
/// # Errors
/// [`Cause::Netlink`] for what is no such message, [`Cause::Link`] for a link without a name that can be read.
pub fn parse_link(payload: &[u8]) -> Result<Link, Cause> {
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

/// The address that a message of this kind tells of; `None` where it holds no address of ours, such as another family's.
///
/// # Errors
/// [`Cause::Netlink`] for what is no such message.
pub fn parse_address(kind: u16, payload: &[u8]) -> Result<Option<Address>, Cause> {
    if kind != RTM_NEWADDR {
        return Ok(None);
    }
    let header = AddressHeader::parse(payload).map_err(unreadable)?;
    let (mut own, mut peer) = (None, None);
    for attribute in NlasIterator::new(&payload[ADDRESS_HEADER..]) {
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
    use crate::kernel::rtnetlink::datagram;
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
    fn a_namespace_has_a_most_links_and_addresses() {
        for limit in [(MAX_LINKS, "MAX_LINKS"), (MAX_ADDRESSES, "MAX_ADDRESSES")] {
            assert_eq!(check_count(limit.0, limit), Ok(()));
            let cause = check_count(limit.0 + 1, limit).unwrap_err();
            assert!(cause.exit().code == 41 && cause.to_string().contains(limit.1), "{cause}");
        }
    }

    #[test]
    fn ipv6_on_lo_is_required_exactly_when_it_is_on() {
        let found = |up, v4, v6, ipv6| Loopback { up, v4, v6, ipv6 };
        assert_eq!(check_loopback(&found(true, true, true, true)), Ok(()));
        assert_eq!(check_loopback(&found(true, true, false, false)), Ok(()));
        for (lo, problem) in [
            (found(true, true, false, true), "lo has no ::1/128 although IPv6 is on for it"),
            (found(true, true, true, false), "lo has ::1/128 although IPv6 is off for it"),
            (found(true, false, true, true), "lo has no 127.0.0.1/8"),
            (found(false, false, false, false), "lo is down and lo has no 127.0.0.1/8"),
        ] {
            let failure = check_loopback(&lo).unwrap_err();
            assert_eq!(failure.cause, Cause::ReadBack(problem.into()));
        }
    }

    #[test]
    fn this_end_of_a_point_to_point_link_is_the_address() {
        let mut payload = vec![2, 32, 0, 0, 7, 0, 0, 0];
        payload.extend([8, 0, 1, 0, 192, 0, 2, 9]);
        payload.extend([8, 0, 2, 0, 192, 0, 2, 1]);
        let address = parse_address(RTM_NEWADDR, &payload).unwrap().unwrap();
        assert_eq!(address, Address { index: 7, address: "192.0.2.1".parse().unwrap(), prefix: 32, duplicate: false });
    }

    #[test]
    fn an_address_that_another_host_has_is_told() {
        // ifa_flags: IFA_F_PERMANENT | IFA_F_TENTATIVE, then with IFA_F_DADFAILED.
        for (flags, duplicate) in [(0xc0, false), (0xc8, true)] {
            let mut payload = vec![10, 64, flags, 0, 7, 0, 0, 0];
            payload.extend([20, 0, 1, 0, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
            let address = parse_address(RTM_NEWADDR, &payload).unwrap().unwrap();
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
            let _ = payload.get(LINK_HEADER..).map(|_| has_ipv6_on(&payload));
            let _ = parse_address(RTM_NEWADDR, &payload);
        }
    }
}
