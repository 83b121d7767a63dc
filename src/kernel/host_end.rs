//! The host's ends of a container's network: where rules hold that the container cannot reach.
//!
//! A container with CAP_NET_ADMIN says of its own interfaces what it likes: it renames them, numbers new ones as it
//! wants and pairs them among themselves. What it says is a hint here, and the host's answer the proof: a veth of the
//! host's whose other end has that index (`IFLA_LINK`) in that very namespace (`IFLA_LINK_NETNSID`). No container can make
//! the host's namespace say that of a link that is not so.

use netlink_packet_core::{NLM_F_REQUEST, NlasIterator, parse_i32, parse_u32};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkHeader, LinkInfo};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};
use std::os::fd::{AsRawFd, OwnedFd};

use crate::error::{Cause, Failure};
use crate::kernel::link::{MAX_LINKS, check_count};
use crate::kernel::netns::{Inside, NamespaceId, Own};
use crate::kernel::process::Deadline;
use crate::kernel::rtnetlink::{LINK_HEADER, Reply, Request, Route, get_link, get_links, refused, unreadable};
use crate::nft::wire::uapi::LOOPBACK_IFINDEX;

// include/uapi/linux/if_link.h, net_namespace.h, rtnetlink.h.
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_INFO_KIND: u16 = 1;
const NETNSA_NSID: u16 = 1;
const RTM_NEWNSID: u16 = 88;

/// `NLMSG_ALIGN(sizeof(struct rtgenmsg))`.
const NSID_HEADER: usize = 4;

const VETH: &[u8] = b"veth";

/// What a kernel with the module gives every namespace as it is made (`net.core.fb_tunnels_only_for_init_net` 0): `tunl0`,
/// `sit0` and their like.
const TUNNELS: [&[u8]; 11] =
    [b"ipip", b"sit", b"gre", b"gretap", b"erspan", b"vti", b"ip6tnl", b"ip6gre", b"ip6gretap", b"ip6erspan", b"vti6"];

/// What cannot be done where any of this fails.
pub(crate) const DOING: &str = "enforce the rules at the host's side";

/// The host's end of a veth whose other end is in a container's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Its name on the host.
    pub name: String,
    /// Its index on the host.
    pub index: u32,
    /// The index of the other end, in the container's namespace.
    pub inside_index: u32,
    /// The name of the other end as the container's namespace has it, fit for a message. `None` where only the host was
    /// asked.
    pub inside_name: Option<String>,
}

/// The host's side of a container's network.
///
/// To be opened before the container's namespace is joined: a socket stays in the namespace it was made in.
#[derive(Debug)]
pub struct HostSide {
    route: Route,
}

impl HostSide {
    /// Opens a socket of the host's namespace.
    ///
    /// # Errors
    ///
    /// [`Cause::Netlink`]; [`Cause::Internal`] for a thread that is elsewhere already.
    pub fn open(own: &Own) -> Result<HostSide, Failure> {
        own.still_here()?;
        Ok(HostSide { route: Route::open()? })
    }

    /// The host's end of each interface inside but `lo`, by the index it has inside.
    ///
    /// # Errors
    ///
    /// [`Cause::HostSide`] where there is no interface, or one without such an end: its packets would pass nothing.
    pub fn ends(&mut self, inside: &Inside, deadline: &Deadline) -> Result<Vec<End>, Failure> {
        let interfaces = links(&mut Route::open()?, get_links(), MAX_LINKS, deadline, "list the container's links")?;
        let mut interfaces: Vec<Link> = interfaces.into_iter().filter(|link| !link.stays_inside()).collect();
        interfaces.sort_unstable_by_key(|link| link.index);
        let mut across = Vec::with_capacity(interfaces.len());
        for interface in &interfaces {
            deadline.check(DOING)?;
            across.push(self.across(interface, deadline)?);
        }
        // Behind the question about the links, which makes the kernel give the namespace its number here
        // (`peernet2id_alloc` in `rtnl_fill_link_netnsid`).
        let namespace = self.number_of(inside, deadline)?;
        let paired = interfaces.iter().zip(across).map(|(interface, found)| {
            let found = found.filter(|found| found.leads_to(namespace) && found.peer == interface.index);
            found.map_or_else(|| Err(interface.why_not()), |found| found.end(Some(interface.shown())))
        });
        let (ends, problems): (Vec<_>, Vec<_>) = paired.partition(Result::is_ok);
        let failed = |problem: String| Err(Failure::new(DOING, Cause::HostSide(problem)));
        let mut problems = problems.into_iter().filter_map(Result::err);
        match problems.next() {
            Some(first) => {
                let more = problems.count();
                let more = if more == 0 { String::new() } else { format!(", and {more} more like it") };
                failed(format!("in {}, {first}{more}", inside.target()))
            }
            None if ends.is_empty() => failed(format!("{} has no interface but lo yet", inside.target())),
            None => Ok(ends.into_iter().filter_map(Result::ok).collect()),
        }
    }

    /// The host's veths that lead into the namespace, by their index on the host. Only the host is asked.
    ///
    /// # Errors
    ///
    /// [`Cause::HostSide`] for one whose name no rule can hold; what netlink fails with.
    pub fn veths_into(&mut self, inside: &Inside, deadline: &Deadline) -> Result<Vec<End>, Failure> {
        // No container can make more of them.
        let mut veths = links(&mut self.route, get_veths(), usize::MAX, deadline, "list the host's links")?;
        let namespace = self.number_of(inside, deadline)?;
        veths.retain(|link| link.leads_to(namespace));
        veths.sort_unstable_by_key(|link| link.index);
        let ends: Result<Vec<End>, String> = veths.iter().map(|link| link.end(None)).collect();
        ends.map_err(|problem| Failure::new(DOING, Cause::HostSide(problem)))
    }

    /// The link of the host's that has the index which the container's namespace gives for the other end.
    fn across(&mut self, interface: &Link, deadline: &Deadline) -> Result<Option<Link>, Failure> {
        // Nothing to ask about: index 0 is no link, and what is no int is no index.
        if interface.beyond.is_none() || !(1..=i32::MAX as u32).contains(&interface.peer) {
            return Ok(None);
        }
        let mut found = None;
        self.route.ask(&[get_link(interface.peer)], deadline, DOING, |answer| match answer {
            Ok(reply) => {
                found = Some(parse(reply.payload)?);
                Ok(())
            }
            Err(Errno::ENODEV) => Ok(()),
            Err(errno) => Err(refused(errno)),
        })?;
        Ok(found.filter(|found| found.index == interface.peer))
    }

    /// The number the container's namespace has in the host's.
    fn number_of(&mut self, inside: &Inside, deadline: &Deadline) -> Result<Option<Number>, Failure> {
        let namespace = own_namespace(inside)?;
        let mut message = NsidMessage::default();
        message.attributes.push(NsidAttribute::Fd(namespace.as_raw_fd() as u32));
        let request = Request { flags: NLM_F_REQUEST, message: RouteNetlinkMessage::GetNsId(message) };
        self.route.dump(&[request], deadline, DOING, || {
            (None, |found: &mut Option<Number>, reply: Reply<'_>| {
                *found = parse_number(reply)?;
                Ok(())
            })
        })
    }
}

/// The number of another namespace in one that links lead out of (`nsid`).
///
/// -1 (`NETNSA_NSID_NOT_ASSIGNED`) is none: with it two namespaces without a number would look like one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Number(i32);

impl Number {
    fn new(nsid: i32) -> Option<Number> {
        (nsid >= 0).then_some(Number(nsid))
    }
}

/// What a namespace says of one of its links.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Link {
    index: u32,
    name: Vec<u8>,
    /// `IFLA_INFO_KIND`; a physical device has none, nor has `lo`.
    kind: Option<Vec<u8>>,
    /// `IFLA_LINK`: the index of the other end, or of the link below.
    peer: u32,
    /// `IFLA_LINK_NETNSID`: present where `peer` is another namespace's.
    beyond: Option<Option<Number>>,
}

impl Link {
    /// Whether it is a veth with its other end in the namespace of that number.
    fn leads_to(&self, namespace: Option<Number>) -> bool {
        self.kind.as_deref() == Some(VETH) && namespace.is_some() && self.beyond == Some(namespace)
    }

    /// Whether nothing leaves the namespace by it alone: `lo`, whose index no other link can have while the namespace
    /// lives, and tunnels whose outer packets are routed here (`ip_tunnel_get_link_net` is this namespace), so that they
    /// leave by one of the other interfaces. A process with CAP_NET_ADMIN can make those itself at any time.
    fn stays_inside(&self) -> bool {
        let tunnel = self.beyond.is_none() && self.kind.as_deref().is_some_and(|kind| TUNNELS.contains(&kind));
        self.index == LOOPBACK_IFINDEX || tunnel
    }

    /// The name, fit for a message: the container may have chosen it.
    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.name).escape_debug().to_string()
    }

    fn end(&self, inside_name: Option<String>) -> Result<End, String> {
        let name = String::from_utf8(self.name.clone())
            .map_err(|_| format!("the name of the host's link {} is not UTF-8", self.index))?;
        Ok(End { name, index: self.index, inside_index: self.peer, inside_name })
    }

    /// Why no end on the host can be proven.
    fn why_not(&self) -> String {
        let name = self.shown();
        match self.kind.as_deref() {
            Some(VETH) if self.beyond.is_none() => format!("{name} is a veth with both ends there"),
            Some(VETH) => format!("{name} is a veth whose other end is not in the namespace this hook was called in"),
            Some(kind) => format!("{name} is a {} and no veth", String::from_utf8_lossy(kind).escape_debug()),
            None => format!("{name} is a device in its own right and no veth"),
        }
    }
}

/// An open file of the namespace this thread is in, seen to be the container's.
fn own_namespace(inside: &Inside) -> Result<OwnedFd, Failure> {
    const PATH: &str = "/proc/thread-self/ns/net";
    let failed = |cause| Failure::new(DOING, cause);
    let file = open(PATH, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| failed(Cause::Procfs(format!("{PATH}: {errno:?}"))))?;
    let stat = fstat(&file).map_err(|errno| failed(Cause::Procfs(format!("{PATH}: {errno:?}"))))?;
    let id = NamespaceId { dev: stat.st_dev, ino: stat.st_ino };
    if id != inside.id() {
        return Err(failed(Cause::Procfs(format!("{PATH} is {id} and not {}", inside.id()))));
    }
    Ok(file)
}

/// RTM_GETLINK for every veth; before Linux 4.20 and without the module for every link.
fn get_veths() -> Request {
    let mut request = get_links();
    if let RouteNetlinkMessage::GetLink(message) = &mut request.message {
        message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth)]));
    }
    request
}

fn links(
    route: &mut Route,
    request: Request,
    most: usize,
    deadline: &Deadline,
    doing: &str,
) -> Result<Vec<Link>, Failure> {
    route.dump(&[request], deadline, doing, || {
        (Vec::new(), |links: &mut Vec<Link>, reply: Reply<'_>| {
            links.push(parse(reply.payload)?);
            check_count(links.len(), (most, "MAX_LINKS"))
        })
    })
}

fn parse(payload: &[u8]) -> Result<Link, Cause> {
    let index = LinkHeader::parse(payload).map_err(unreadable)?.index;
    let mut link = Link { index, name: Vec::new(), kind: None, peer: 0, beyond: None };
    let mut peer = None;
    for attribute in NlasIterator::new(&payload[LINK_HEADER..]) {
        let attribute = attribute.map_err(unreadable)?;
        match attribute.kind() {
            IFLA_IFNAME => link.name = text(attribute.value()),
            IFLA_LINK => peer = Some(parse_u32(attribute.value()).map_err(unreadable)?),
            IFLA_LINK_NETNSID => link.beyond = Some(Number::new(parse_i32(attribute.value()).map_err(unreadable)?)),
            IFLA_LINKINFO => {
                for part in NlasIterator::new(attribute.value()) {
                    let part = part.map_err(unreadable)?;
                    // Of a bridge's port IFLA_INFO_SLAVE_KIND stands beside it.
                    if part.kind() == IFLA_INFO_KIND {
                        link.kind = Some(text(part.value()));
                    }
                }
            }
            _ => {}
        }
    }
    // Older kernels leave IFLA_LINK out where both ends have the same index (`nla_put_iflink`).
    link.peer = peer.unwrap_or(if link.beyond.is_some() { index } else { 0 });
    Ok(link)
}

/// A string without the zero byte at its end.
fn text(value: &[u8]) -> Vec<u8> {
    value.strip_suffix(&[0]).unwrap_or(value).to_vec()
}

fn parse_number(reply: Reply<'_>) -> Result<Option<Number>, Cause> {
    let malformed = || Cause::Netlink { call: "reading a netlink reply", errno: Errno::EPROTO };
    if reply.kind != RTM_NEWNSID {
        return Err(malformed());
    }
    for attribute in NlasIterator::new(reply.payload.get(NSID_HEADER..).ok_or_else(malformed)?) {
        let attribute = attribute.map_err(unreadable)?;
        if attribute.kind() == NETNSA_NSID {
            return parse_i32(attribute.value()).map(Number::new).map_err(unreadable);
        }
    }
    Err(malformed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend((4 + value.len() as u16).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// `struct ifinfomsg` of link 7 with attributes behind it.
    fn message(attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut payload = vec![0; LINK_HEADER];
        payload[4] = 7;
        payload.extend(attributes.concat());
        payload
    }

    fn veth(beyond: Option<i32>) -> Link {
        Link { index: 7, name: b"v".to_vec(), kind: Some(VETH.to_vec()), peer: 2, beyond: beyond.map(Number::new) }
    }

    #[test]
    fn the_port_of_a_bridge_is_of_its_own_kind() {
        let info =
            [attribute(4, b"bridge\0"), attribute(IFLA_INFO_KIND, b"veth\0"), attribute(4, b"bridge\0")].concat();
        let link = parse(&message(&[attribute(IFLA_IFNAME, b"v\0"), attribute(IFLA_LINKINFO, &info)])).unwrap();
        assert_eq!((link.kind.as_deref(), link.name.as_slice()), (Some(VETH), &b"v"[..]));
        let alone = attribute(4, b"veth\0");
        assert_eq!(parse(&message(&[attribute(IFLA_LINKINFO, &alone)])).unwrap().kind, None);
    }

    #[test]
    fn an_other_end_with_the_same_index_need_not_be_named() {
        let beyond = attribute(IFLA_LINK_NETNSID, &3_i32.to_ne_bytes());
        let link = parse(&message(std::slice::from_ref(&beyond))).unwrap();
        assert_eq!((link.peer, link.beyond), (7, Some(Number::new(3))));
        let named = parse(&message(&[attribute(IFLA_LINK, &9_u32.to_ne_bytes()), beyond])).unwrap();
        assert_eq!(named.peer, 9);
        assert_eq!(parse(&message(&[])).unwrap().peer, 0, "no other end at all");
    }

    #[test]
    fn a_namespace_without_a_number_is_nobodys_other_end() {
        assert!(veth(Some(3)).leads_to(Number::new(3)));
        assert!(!veth(Some(3)).leads_to(Number::new(4)));
        assert!(!veth(None).leads_to(Number::new(0)));
        // NETNSA_NSID_NOT_ASSIGNED on both sides.
        assert!(!veth(Some(-1)).leads_to(Number::new(-1)));
        assert!(!veth(None).leads_to(None));
        assert!(!Link { kind: Some(b"macvlan".to_vec()), ..veth(Some(3)) }.leads_to(Number::new(3)));
    }

    #[test]
    fn a_tunnel_stays_inside_unless_another_namespace_routes_its_packets() {
        let tunnel = |kind: &[u8], beyond: Option<i32>| Link { kind: Some(kind.to_vec()), peer: 0, ..veth(beyond) };
        for kind in TUNNELS {
            assert!(tunnel(kind, None).stays_inside());
            assert!(!tunnel(kind, Some(0)).stays_inside());
            assert!(!tunnel(kind, Some(-1)).stays_inside());
        }
        for kind in [&b"veth"[..], b"macvlan", b"ipvlan", b"tun", b"wireguard", b"vxlan", b""] {
            assert!(!tunnel(kind, None).stays_inside());
        }
        assert!(!Link { kind: None, ..veth(None) }.stays_inside());
        assert!(Link { kind: None, index: 1, ..veth(None) }.stays_inside());
    }

    #[test]
    fn a_name_that_a_container_chose_is_escaped() {
        let link = Link { name: b"\x1b[2Ja\xff".to_vec(), ..veth(None) };
        assert_eq!(link.why_not(), "\\u{1b}[2Ja\u{fffd} is a veth with both ends there");
        assert!(link.end(None).unwrap_err().contains("not UTF-8"));
    }

    #[test]
    fn a_reply_without_a_number_is_an_error() {
        let number = |nsid: i32| [vec![0; NSID_HEADER], attribute(NETNSA_NSID, &nsid.to_ne_bytes())].concat();
        let read = |kind, payload: &[u8]| parse_number(Reply { kind, payload });
        assert_eq!(read(RTM_NEWNSID, &number(5)), Ok(Number::new(5)));
        assert_eq!(read(RTM_NEWNSID, &number(-1)), Ok(None));
        for (kind, payload) in [(RTM_NEWNSID, vec![0; 4]), (RTM_NEWNSID, vec![0; 2]), (16, number(5))] {
            assert!(read(kind, &payload).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(payload in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = parse(&payload);
            let _ = parse_number(Reply { kind: RTM_NEWNSID, payload: &payload });
        }
    }
}
