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

/// Appends the request to delete that entry and hardly another: `CTA_ID` is a hash of the tuple and of where in memory the
/// entry is (`nf_ct_get_id`), so a later flow between the same two differs unless the memory was used again for it.
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
/// 6.10). An older one reads the tuple as a whole one, of which the protocol is missing, and answers EINVAL. There is
/// none for IPv6: `ctnetlink_filter_match_tuple` takes addresses that differ for a match.
pub fn delete_all_of(writer: &mut Writer, seq: u32, peer: Ipv4Addr, begun: Begun) {
    let (tuple, flags) = match begun {
        Begun::ByPeer => (CTA_TUPLE_ORIG, CTA_FILTER_ORIG_FLAGS),
        Begun::TowardsPeer => (CTA_TUPLE_REPLY, CTA_FILTER_REPLY_FLAGS),
    };
    writer.message(request(IPCTNL_MSG_CT_DELETE, NLM_F_ACK, seq, NFPROTO_IPV4), |w| {
        w.nest(tuple, |w| {
            w.nest(CTA_TUPLE_IP, |w| w.bytes(CTA_IP_V4_SRC, &peer.octets()));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::Messages;
    use proptest::prelude::*;

    /// Two messages of a dump on Linux 6.18: a datagram from 127.0.0.2:4000 to 127.0.0.3:53, an echo from ::1 to itself.
    const DUMP: &str = "a4000000000102000700000098120000020000003400018014000180080001007f000002080002007f0000031c000280\
        0500010011000000060002000fa0000006000300003500003400028014000180080001007f000003080002007f0000021c000280050001001100\
        00000600020000350000060003000fa000000800030000000008080008000000000008000c007376955208000b00000000010800070000\
        00001de40000000001020007000000981200000a000000540001802c0001801400030000000000000000000000000000000001140004000000\
        000000000000000000000000000124000280050001003a000000060007001297000005000800800000000500090000000000540002802c0001\
        801400030000000000000000000000000000000001140004000000000000000000000000000000000124000280050001003a0000000600070012\
        97000005000800810000000500090000000000080003000000000a080008000000000008000c003e40797d08000b0000000001080007000000001d";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    fn flows(bytes: &[u8]) -> Vec<Flow> {
        Messages::new(bytes).filter_map(|message| flow(&message.ok()?)).collect()
    }

    fn datagram() -> Flow {
        let address = |last| IpAddr::from([127, 0, 0, last]);
        let tuple = |source, from, destination, to| Tuple {
            source: address(source),
            destination: address(destination),
            protocol: 17,
            ends: Ends::Ports { source: from, destination: to },
            zone: None,
        };
        // IPS_CONFIRMED; `conntrack -o id` shows id=1937151314.
        Flow { original: tuple(2, 4000, 3, 53), reply: tuple(3, 53, 2, 4000), status: 8, id: 1_937_151_314, zone: None }
    }

    #[test]
    fn entries_of_both_families_are_read() {
        let echo = |kind| Tuple {
            source: Ipv6Addr::LOCALHOST.into(),
            destination: Ipv6Addr::LOCALHOST.into(),
            protocol: 58,
            ends: Ends::Icmp { kind, code: 0, id: 4759 },
            zone: None,
        };
        let echo = Flow { original: echo(128), reply: echo(129), status: 10, id: 1_044_412_797, zone: None };
        assert_eq!(flows(&bytes(DUMP)), [datagram(), echo]);
    }

    #[test]
    fn the_number_of_entries_is_read() {
        let answer = bytes("240000000501020008000000981200000000000008000100000000020800020000040000");
        let message = Messages::new(&answer).next().unwrap().unwrap();
        assert_eq!(entries(&message), Some(2));
        assert_eq!(entries(&Messages::new(&bytes(DUMP)).next().unwrap().unwrap()), None);
    }

    #[test]
    fn one_entry_is_named_by_its_tuple_and_its_id() {
        let mut writer = Writer::default();
        delete(&mut writer, 9, &datagram());
        // The header, the tuple as `conntrack -D` (conntrack-tools 1.4.7) sends it, and the id.
        let expected = "50000000 0201 0500 09000000 00000000 02 00 0000 \
            34000180 14000180 080001007f000002 080002007f000003 \
            1c000280 0500010011000000 060002000fa00000 0600030000350000 08000c0073769552";
        assert_eq!(writer.into_bytes(), bytes(expected));
    }

    #[test]
    fn what_is_read_is_what_names_the_entry() {
        for mut flow in flows(&bytes(DUMP)) {
            for (zone, of_tuple) in [(None, None), (Some(7), None), (None, Some(8))] {
                (flow.zone, flow.original.zone) = (zone, of_tuple);
                let mut writer = Writer::default();
                delete(&mut writer, 1, &flow);
                let request = writer.into_bytes();
                let request = attrs(&Messages::new(&request).next().unwrap().unwrap());
                assert_eq!(tuple(request.find(CTA_TUPLE_ORIG).unwrap().nest()), Some(flow.original));
                assert_eq!(request.find(CTA_ID).unwrap().u32(), Some(flow.id));
                assert_eq!(u16_of(request, CTA_ZONE), zone);
            }
        }
    }

    #[test]
    fn a_request_for_all_flows_of_a_peer_always_says_which_tuple_to_compare() {
        // One without would be a request to delete every entry.
        let peer = Ipv4Addr::new(10, 9, 1, 1);
        for (begun, kind, flags) in [(Begun::ByPeer, 1, 1), (Begun::TowardsPeer, 2, 2)] {
            let mut writer = Writer::default();
            delete_all_of(&mut writer, 1, peer, begun);
            let request = writer.into_bytes();
            let message = Messages::new(&request).next().unwrap().unwrap();
            assert_eq!(message.payload[0], NFPROTO_IPV4);
            let request = attrs(&message);
            let source: Vec<_> = request.find(kind).unwrap().nest().find(CTA_TUPLE_IP).unwrap().nest().collect();
            assert_eq!((source.len(), source[0].kind, source[0].value), (1, CTA_IP_V4_SRC, &peer.octets()[..]));
            let filter: Vec<_> = request.find(CTA_FILTER).unwrap().nest().map(|a| (a.kind, a.value.to_vec())).collect();
            assert_eq!(filter, [(flags, 1_u32.to_ne_bytes().to_vec())]);
        }
    }

    #[test]
    fn an_entry_that_lacks_something_is_none() {
        let whole = bytes(DUMP);
        let datagram = &whole[..164];
        assert_eq!(flows(datagram).len(), 1);
        // Each attribute in turn under a number that means nothing.
        for at in [20, 24, 28, 36, 44, 48, 56, 64, 72, 124, 140] {
            let mut maimed = datagram.to_vec();
            maimed[at + 2] = 0x7f;
            let ends_differ = flows(&maimed).first().is_some_and(|flow| flow.original.ends == Ends::Nothing);
            assert!(flows(&maimed).is_empty() || ends_differ, "{at}");
        }
    }

    proptest! {
        #[test]
        fn a_dump_with_any_bytes_changed_is_read_without_a_panic(changes in proptest::collection::vec((0_usize..392, any::<u8>()), 0..8)) {
            let mut dump = bytes(DUMP);
            for (at, byte) in changes {
                dump[at] = byte;
            }
            flows(&dump);
        }
    }
}
