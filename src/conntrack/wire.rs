//! ctnetlink messages (net/netfilter/nf_conntrack_netlink.c): the requests we send and the entries we read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::conntrack::uapi::*;
use crate::conntrack::{Ends, Flow, Tuple};
use crate::net::Family;
use crate::netlink::Message;
use crate::nft::wire::attr::{Attrs, Header, Writer, attrs};
use crate::nft::wire::uapi::{NFPROTO_IPV4, NFPROTO_IPV6, NFPROTO_UNSPEC, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};

const IPPROTO_ICMP: u8 = 1;
const IPPROTO_ICMPV6: u8 = 58;

const fn kind(message: u16) -> u16 {
    NFNL_SUBSYS_CTNETLINK << 8 | message
}

const fn nfproto(family: Family) -> u8 {
    match family {
        Family::V4 => NFPROTO_IPV4,
        Family::V6 => NFPROTO_IPV6,
    }
}

fn request(message: u16, flags: u16, seq: u32, family: u8) -> Header {
    Header { kind: kind(message), flags: NLM_F_REQUEST | flags, seq, family, res_id: 0 }
}

/// Asks for the number of entries of the namespace; [`entries`] reads the answer.
pub fn ask_entries(seq: u32) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.message(request(IPCTNL_MSG_CT_GET_STATS, 0, seq, NFPROTO_UNSPEC), |_| {});
    writer.into_bytes()
}

/// The number of entries of the namespace, those of packets still on their way through the hooks included
/// (`nf_conntrack_count`).
pub fn entries(message: &Message<'_>) -> Option<u32> {
    (message.kind == kind(IPCTNL_MSG_CT_GET_STATS)).then(|| attrs(message).find(CTA_STATS_GLOBAL_ENTRIES)?.u32())?
}

/// Asks for every entry of both families; [`flow`] reads each.
pub fn ask_flows(seq: u32) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.message(request(IPCTNL_MSG_CT_GET, NLM_F_DUMP, seq, NFPROTO_UNSPEC), |_| {});
    writer.into_bytes()
}

/// The entry that a message of a dump holds; `None` where it is none, or one that cannot be read.
pub fn flow(message: &Message<'_>) -> Option<Flow> {
    if message.kind != kind(IPCTNL_MSG_CT_NEW) {
        return None;
    }
    let all = attrs(message);
    Some(Flow {
        original: tuple(all.find(CTA_TUPLE_ORIG)?.nest())?,
        reply: tuple(all.find(CTA_TUPLE_REPLY)?.nest())?,
        status: all.find(CTA_STATUS)?.u32()?,
        id: all.find(CTA_ID)?.u32()?,
        zone: u16_of(all, CTA_ZONE),
    })
}

/// Appends the request to delete that very entry: `CTA_ID` keeps a later one with the same addresses.
pub fn delete(writer: &mut Writer, seq: u32, flow: &Flow) {
    let family = nfproto(Family::of(flow.original.source));
    writer.message(request(IPCTNL_MSG_CT_DELETE, NLM_F_ACK, seq, family), |w| {
        write_tuple(w, CTA_TUPLE_ORIG, &flow.original);
        w.u32(CTA_ID, flow.id);
        if let Some(zone) = flow.zone {
            w.bytes(CTA_ZONE, &zone.to_be_bytes());
        }
    });
}

/// Which of an entry's two tuples has the peer as its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// The original one: the peer began.
    ByPeer,
    /// The one of the replies: it was begun towards the peer.
    TowardsPeer,
}

/// Appends the request to delete every entry that was begun so, with the kernel comparing (`CTA_FILTER`, since Linux
/// 6.10). An older one reads the tuple as a whole one, of which the protocol is missing, and answers EINVAL.
pub fn delete_all_of(writer: &mut Writer, seq: u32, peer: IpAddr, begun: Begun) {
    let (tuple, flags) = match begun {
        Begun::ByPeer => (CTA_TUPLE_ORIG, CTA_FILTER_ORIG_FLAGS),
        Begun::TowardsPeer => (CTA_TUPLE_REPLY, CTA_FILTER_REPLY_FLAGS),
    };
    writer.message(request(IPCTNL_MSG_CT_DELETE, NLM_F_ACK, seq, nfproto(Family::of(peer))), |w| {
        w.nest(tuple, |w| {
            w.nest(CTA_TUPLE_IP, |w| match peer {
                IpAddr::V4(address) => w.bytes(CTA_IP_V4_SRC, &address.octets()),
                IpAddr::V6(address) => w.bytes(CTA_IP_V6_SRC, &address.octets()),
            });
        });
        // The one number here in the machine's own byte order (`ctnetlink_parse_filter`); the other side's flags, which
        // are not there, stay 0: nothing of it is compared.
        w.nest(CTA_FILTER, |w| w.bytes(flags, &CTA_FILTER_F_CTA_IP_SRC.to_ne_bytes()));
    });
}

fn write_tuple(w: &mut Writer, kind: u16, tuple: &Tuple) {
    w.nest(kind, |w| {
        w.nest(CTA_TUPLE_IP, |w| {
            for (address, v4, v6) in
                [(tuple.source, CTA_IP_V4_SRC, CTA_IP_V6_SRC), (tuple.destination, CTA_IP_V4_DST, CTA_IP_V6_DST)]
            {
                match address {
                    IpAddr::V4(address) => w.bytes(v4, &address.octets()),
                    IpAddr::V6(address) => w.bytes(v6, &address.octets()),
                }
            }
        });
        w.nest(CTA_TUPLE_PROTO, |w| {
            w.bytes(CTA_PROTO_NUM, &[tuple.protocol]);
            match tuple.ends {
                Ends::Ports { source, destination } => {
                    w.bytes(CTA_PROTO_SRC_PORT, &source.to_be_bytes());
                    w.bytes(CTA_PROTO_DST_PORT, &destination.to_be_bytes());
                }
                Ends::Icmp { kind, code, id } => {
                    let [id_is, kind_is, code_is] = icmp_attributes(tuple.protocol);
                    w.bytes(id_is, &id.to_be_bytes());
                    w.bytes(kind_is, &[kind]);
                    w.bytes(code_is, &[code]);
                }
                Ends::Nothing => {}
            }
        });
        if let Some(zone) = tuple.zone {
            w.bytes(CTA_TUPLE_ZONE, &zone.to_be_bytes());
        }
    });
}

/// Identifier, type and code.
const fn icmp_attributes(protocol: u8) -> [u16; 3] {
    if protocol == IPPROTO_ICMPV6 {
        [CTA_PROTO_ICMPV6_ID, CTA_PROTO_ICMPV6_TYPE, CTA_PROTO_ICMPV6_CODE]
    } else {
        [CTA_PROTO_ICMP_ID, CTA_PROTO_ICMP_TYPE, CTA_PROTO_ICMP_CODE]
    }
}

fn tuple(nest: Attrs<'_>) -> Option<Tuple> {
    let ip = nest.find(CTA_TUPLE_IP)?.nest();
    let proto = nest.find(CTA_TUPLE_PROTO)?.nest();
    let protocol = u8_of(proto, CTA_PROTO_NUM)?;
    let address = |v4, v6| match (ip.find(v4), ip.find(v6)) {
        (Some(v4), None) => Some(IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(v4.value).ok()?))),
        (None, Some(v6)) => Some(IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(v6.value).ok()?))),
        (Some(_), Some(_)) | (None, None) => None,
    };
    let [id, kind, code] = icmp_attributes(protocol);
    let ends = if let Some(kind) = u8_of(proto, kind).filter(|_| [IPPROTO_ICMP, IPPROTO_ICMPV6].contains(&protocol)) {
        Ends::Icmp { kind, code: u8_of(proto, code)?, id: u16_of(proto, id)? }
    } else if let Some(source) = u16_of(proto, CTA_PROTO_SRC_PORT) {
        Ends::Ports { source, destination: u16_of(proto, CTA_PROTO_DST_PORT)? }
    } else {
        Ends::Nothing
    };
    Some(Tuple {
        source: address(CTA_IP_V4_SRC, CTA_IP_V6_SRC)?,
        destination: address(CTA_IP_V4_DST, CTA_IP_V6_DST)?,
        protocol,
        ends,
        zone: u16_of(nest, CTA_TUPLE_ZONE),
    })
}

fn u8_of(attrs: Attrs<'_>, kind: u16) -> Option<u8> {
    let value: [u8; 1] = attrs.find(kind)?.value.try_into().ok()?;
    Some(value[0])
}

fn u16_of(attrs: Attrs<'_>, kind: u16) -> Option<u16> {
    Some(u16::from_be_bytes(attrs.find(kind)?.value.try_into().ok()?))
}
