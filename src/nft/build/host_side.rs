//! The same layers at the other end of the container's link, where the container cannot reach them.
//!
//! A container that holds CAP_NET_ADMIN can flush its own tables. What it sends comes out of the host's end of its veth all the
//! same, whatever it did to rules, routes, names and devices on its side, so the layers stand there, in a table of family
//! netdev of the host's namespace that hangs on that one device:
//!
//! ```text
//! ingress  what the container sent    ARP: accept; IPv4: goto leaves4; IPv6: goto leaves6; drop
//! leaves4  its own source: goto leaves4_own; drop
//! leaves4_own
//!          later fragments: of a packet that was let through, or drop
//!          [IPv6: neighbour discovery on the link; router advertisements and redirects: drop]
//!          replies to flows that were let in: accept
//!          jump egress                the layers, as in the container's own table
//!          remember the flow: accept
//!
//! egress   what it is to receive      the same the other way round: enters4, enters6; remembered where it is to an
//!                                     address of its own
//! ```
//!
//! Why it is so:
//!
//! * **No conntrack.** Family netdev has none, and a bridged packet meets none of the host's either. Two sets remember which flows
//!   were let through, under the peer's address, the protocol and both ports. A reply is what such a flow's key says; everything
//!   else is asked of the layers, each packet, not only the first. So nothing that the container makes its own conntrack
//!   believe counts here.
//! * **Its own source, or nothing.** The addresses are those that it had before its process ran. With any other source it could
//!   have a packet routed back to itself and so begin, from outside, a flow that it may then answer. An address that comes later
//!   is not believed.
//! * **A flow that may be answered was to the container.** A container can have a bridge send it its neighbours' frames, by
//!   their hardware addresses. Those come in as before, but nothing is remembered of them: their flows are not its own to
//!   go on with.
//! * **No port, no passage.** The first fragment of an IPv6 packet may end before the transport header (RFC 7112). What denies
//!   a port takes no notice of it, and the port comes in the next one.
//! * **The frame's own type, not the kernel's idea of it** ([`Match::FrameType`]): a VLAN tag makes it another frame.
//! * **Fragments** have no ports but in the first. That one is judged, and the others of the same packet follow it. The ports
//!   stand in the first eight bytes of the transport header, and fragments begin at multiples of eight, so no later one can
//!   replace a part of them.
//! * **ICMP errors** come in where they cite a packet of a flow that was let out; none goes out unless a layer lets it.
//! * **Denial is silence.** The container's own table, as long as it is there, answers before.
//!
//! A flow is remembered while packets come the way it was begun: TCP for two hours (RFC 5382, REQ-5, asks a NAT for no less), others
//! for three minutes, one that ends for another minute.

use std::net::IpAddr;

use super::{Builder, ICMPV6_MGM_QUERY, ICMPV6_MLD2_REPORT, counted, judges, peer_side, rule};
use super::{NDISC_NEIGHBOUR_ADVERTISEMENT, NDISC_NEIGHBOUR_SOLICITATION};
use super::{NDISC_ROUTER_ADVERTISEMENT, NDISC_ROUTER_SOLICITATION};
use crate::error::{Cause, Failure};
use crate::net::{AddrRange, Direction, Family, PortRange, Transport, bits_of};
use crate::nft::filter::{Denial, Filter, Layer};
use crate::nft::ruleset::{
    Base, Chain, Hook, KeyType, Kind, Match, Rule, Set, Side, Statement, Table, TableFamily, Verdict,
};
use crate::nft::wire::uapi::{ETH_P_ARP, ETH_P_IP, ETH_P_IPV6};

/// How the names of the sets with the container's own addresses begin.
pub const OWN: &str = "own";

/// How the names of these tables begin.
pub const HOST_TABLE: &str = "netlatch-";

/// The name of a container's table: its id as an identifier of `nft` (scanner.l, `string`), which has no `+`. No two ids have
/// one name, or the second would replace the first one's rules.
///
/// # Errors
/// [`Cause::Limit`] for an id that comes to more than the 255 bytes of a table's name (`NFT_NAME_MAXLEN`).
pub fn host_table(id: &str) -> Result<String, Failure> {
    let name = format!("{HOST_TABLE}{}", id.replace('_', "__").replace('+', "_p"));
    if name.len() > NAME_LIMIT {
        let problem =
            format!("the container's id makes a table's name longer than {NAME_LIMIT} bytes (NFT_NAME_MAXLEN)");
        return Err(Failure::new("name the table at the host's side", Cause::Limit(problem)));
    }
    Ok(name)
}

/// The id of the container that a table of that name is of.
pub fn container_of(table: &str) -> Option<String> {
    let mut rest = table.strip_prefix(HOST_TABLE)?;
    let mut id = String::with_capacity(rest.len());
    while let Some((before, escaped)) = rest.split_once('_') {
        id.push_str(before);
        id.push(match escaped.chars().next()? {
            '_' => '_',
            'p' => '+',
            _ => return None,
        });
        rest = &escaped[1..];
    }
    id.push_str(rest);
    Some(id)
}

/// `NFT_NAME_MAXLEN` less the closing NUL.
const NAME_LIMIT: usize = 255;

/// How many flows of a family and direction are remembered at once. The kernel's own default is of this order
/// (`nf_conntrack_max`, 262,144 on a machine with more than 4 GiB).
const FLOWS: u32 = 262_144;
/// How many packets in fragments.
const FRAGMENTS: u32 = 4096;
/// How long, in seconds.
const TCP_S: u32 = 7200;
const OTHERS_S: u32 = 180;
const ENDING_S: u32 = 60;
/// `net.ipv4.ipfrag_time`.
const FRAGMENTS_S: u32 = 30;

/// `NDISC_REDIRECT`, and the ICMP errors: destination unreachable, time exceeded, parameter problem (RFC 792); those and
/// packet too big (RFC 4443, 1 to 4).
const NDISC_REDIRECT: u8 = 137;
const ICMP_DEST_UNREACH: u8 = 3;
const ICMP_TIME_EXCEEDED: u8 = 11;
const ICMP_PARAMETERPROB: u8 = 12;
const ICMPV6_DEST_UNREACH: u8 = 1;
const ICMPV6_PARAMPROB: u8 = 4;

/// The table `name` for the host's ends `devices` of a container's links; `own` are the container's addresses. `None` where
/// `filter` denies nothing in earnest. Its comment is the caller's.
///
/// # Errors
/// As [`build`](super::build()).
pub fn host_side(filter: &Filter, name: String, devices: &[String], own: &[IpAddr]) -> Result<Option<Table>, Failure> {
    // What is only audited, is so in the container's own table.
    let earnest = |denial: Denial| denial != Denial::Audit;
    let layers: Vec<Layer> = filter.layers.iter().filter(|layer| earnest(layer.denial)).cloned().collect();
    let policies: Vec<_> = filter.policies.iter().filter(|policy| earnest(policy.denial)).cloned().collect();
    let mut filter = Filter { layers, policies, ..filter.clone() };
    filter.layers.iter_mut().for_each(|layer| layer.denial = Denial::Drop);
    filter.policies.iter_mut().for_each(|policy| policy.denial = Denial::Drop);
    if !Direction::BOTH.into_iter().any(|direction| judges(&filter, direction)) && filter.families() == Family::BOTH {
        return Ok(None);
    }
    let mut builder = Builder::new(filter.families());
    for direction in Direction::BOTH {
        builder.direction(&filter, direction)?;
    }
    for family in filter.families() {
        builder.remembering(*family, own);
    }
    for direction in Direction::BOTH {
        builder.device(&filter, direction, devices);
    }
    let (sets, chains) = (builder.sets, builder.chains);
    Ok(Some(Table { name, sets, chains, ..Table::empty(TableFamily::Netdev) }))
}

const fn version(family: Family) -> &'static str {
    match family {
        Family::V4 => "4",
        Family::V6 => "6",
    }
}

/// The sets of flows, and of packets in fragments, that were let through in a direction.
fn flows(direction: Direction, family: Family) -> String {
    format!("{direction}_flows{}", version(family))
}

fn fragments(direction: Direction, family: Family) -> String {
    format!("{direction}_fragments{}", version(family))
}

const NEIGHBOURS: &str = "neighbours6";

const fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::Egress => Direction::Ingress,
        Direction::Ingress => Direction::Egress,
    }
}

fn all_of(statements: Vec<Statement>, matches: Vec<Match>, verdict: Option<Verdict>, comment: &str) -> Rule {
    Rule { matches, statements, verdict, comment: comment.to_owned() }
}

impl Builder {
    /// The sets of one family.
    fn remembering(&mut self, family: Family, own: &[IpAddr]) {
        let address = KeyType::address(family);
        let mut spans: Vec<AddrRange> = own
            .iter()
            .filter(|address| Family::of(**address) == family)
            .map(|address| AddrRange { first: bits_of(*address), last: bits_of(*address) })
            .collect();
        spans.sort_unstable_by_key(|span| span.first);
        spans.dedup();
        let name = format!("{OWN}{}", version(family));
        // A hash without an element has no size to declare, and would be one of those whose members come and go.
        let kind = if spans.is_empty() { Kind::Interval } else { Kind::Hash };
        self.sets.push(Set { name, key: vec![address], kind, spans });
        let id = match family {
            Family::V4 => KeyType::InetService,
            Family::V6 => KeyType::Mark,
        };
        let dynamic =
            |name, key, size, timeout_s| Set { name, key, kind: Kind::Dynamic { size, timeout_s }, spans: Vec::new() };
        for direction in Direction::BOTH {
            let key = vec![address, KeyType::InetProto, KeyType::InetService, KeyType::InetService];
            self.sets.push(dynamic(flows(direction, family), key, FLOWS, OTHERS_S));
            self.sets.push(dynamic(fragments(direction, family), vec![address, id], FRAGMENTS, FRAGMENTS_S));
        }
        if family == Family::V6 {
            self.sets.push(dynamic(NEIGHBOURS.to_owned(), vec![address], FRAGMENTS, OTHERS_S));
        }
    }

    /// The base chain of a direction, and its chain for each family.
    fn device(&mut self, filter: &Filter, direction: Direction, devices: &[String]) {
        let (hook, verb) = match direction {
            Direction::Egress => (Hook::Ingress, "leaves"),
            Direction::Ingress => (Hook::Egress, "enters"),
        };
        let mut rules = vec![rule(vec![Match::FrameType(ETH_P_ARP)], Verdict::Accept, "ARP")];
        for family in self.families {
            let (number, chain) = match family {
                Family::V4 => (ETH_P_IP, format!("{verb}4")),
                Family::V6 => (ETH_P_IPV6, format!("{verb}6")),
            };
            rules.push(rule(vec![Match::FrameType(number)], Verdict::Goto(chain.clone()), chain.as_str()));
            self.family_chain(filter, direction, *family, chain);
        }
        rules.push(counted(Vec::new(), Verdict::Drop, "a frame of another kind"));
        let base = Some(Base { hook, accepts: false, devices: devices.to_vec(), every_device: false });
        self.chains.push(Chain { name: format!("from_{}", hook.name()), base, rules });
    }

    fn family_chain(&mut self, filter: &Filter, direction: Direction, family: Family, name: String) {
        let mut judged = match direction {
            Direction::Egress => {
                let own = Match::AddressIn(Side::Source, family, format!("{OWN}{}", version(family)));
                let judged = format!("{name}_own");
                let mut rules = vec![rule(vec![own], Verdict::Goto(judged.clone()), "an address of the container")];
                if family == Family::V6 {
                    rules.extend(unspecified_source());
                }
                rules.push(counted(Vec::new(), Verdict::Drop, "not an address of the container"));
                self.chains.push(Chain { name, base: None, rules });
                judged
            }
            Direction::Ingress => name,
        };
        let side = peer_side(direction);
        let (begun, kept) = (flows(direction, family), fragments(direction, family));
        let mut rules = vec![
            rule(
                vec![Match::LaterFragment(family), Match::KnownFragment(side, family, kept.clone())],
                Verdict::Accept,
                "a fragment of what was let through",
            ),
            counted(vec![Match::LaterFragment(family)], Verdict::Drop, "a fragment of nothing"),
        ];
        if family == Family::V6 {
            rules.extend(neighbours(filter, direction));
        }
        if direction == Direction::Ingress {
            rules.extend(errors(family));
        }
        let ports = self.transports(&Transport::ALL);
        let remember = || Statement::RememberFragment(side, family, kept.clone());
        for (with_ports, protocol) in [(true, Some(Match::ProtocolIn(ports.clone()))), (false, None)] {
            let set = flows(opposite(direction), family);
            let known = Match::KnownFlow { side, family, ports: with_ports, set };
            let matches: Vec<Match> = protocol.into_iter().chain([known]).collect();
            let first: Vec<Match> = std::iter::once(Match::MoreFragments(family)).chain(matches.clone()).collect();
            let reply = "a reply to what was let through";
            rules.push(all_of(vec![remember()], first, Some(Verdict::Accept), reply));
            rules.push(rule(matches, Verdict::Accept, reply));
        }
        if judges(filter, direction) {
            rules.push(rule(Vec::new(), Verdict::Jump(direction.name().to_owned()), "layers"));
        }
        let follow = |more: Vec<Match>| {
            let first = std::iter::once(Match::MoreFragments(family)).chain(more).collect();
            all_of(vec![remember()], first, None, "its other fragments follow")
        };
        if direction == Direction::Ingress {
            let to_it = Match::AddressIn(Side::Destination, family, format!("{OWN}{}", version(family)));
            let begins = format!("{judged}_own");
            rules.push(rule(vec![to_it], Verdict::Goto(begins.clone()), "to the container"));
            rules.push(rule(Vec::new(), Verdict::Accept, "not to the container, so nothing for it to answer"));
            self.chains.push(Chain { name: judged, base: None, rules: std::mem::take(&mut rules) });
            judged = begins;
        }
        let flow = |ports, timeout_s| Statement::RememberFlow { side, family, ports, set: begun.clone(), timeout_s };
        let tcp = Match::Protocol(Transport::Tcp.number());
        // A comparison that every port stands, but none that cannot be read.
        rules.push(follow(vec![Match::ProtocolIn(ports.clone()), Match::Port(PortRange::ALL)]));
        let passed = "every layer let it pass";
        for (matches, timeout_s) in
            [(vec![Match::TcpEnds], ENDING_S), (vec![tcp], TCP_S), (vec![Match::ProtocolIn(ports.clone())], OTHERS_S)]
        {
            rules.push(all_of(vec![flow(true, timeout_s)], matches, Some(Verdict::Accept), passed));
        }
        rules.push(counted(vec![Match::ProtocolIn(ports)], Verdict::Drop, "ports that cannot be read, or no room"));
        rules.push(follow(Vec::new()));
        rules.push(all_of(vec![flow(false, OTHERS_S)], Vec::new(), Some(Verdict::Accept), passed));
        rules.push(counted(Vec::new(), Verdict::Drop, "more flows than can be remembered"));
        self.chains.push(Chain { name: judged, base: None, rules });
    }
}

const fn block(first: u128, len: u32) -> AddrRange {
    AddrRange { first, last: first | (u128::MAX >> len) }
}

/// `ff02::/16`, `fe80::/10`.
const LINK_MULTICAST: AddrRange = block(0xff02 << 112, 16);
const LINK_LOCAL: AddrRange = block(0xfe80 << 112, 10);

fn icmpv6(first: u8, last: u8) -> Match {
    Match::Icmpv6Type(first, last)
}

/// What has no address yet asks whether one is free, and joins the group that would hear the answer (RFC 4862, 5.4.2).
fn unspecified_source() -> [Rule; 2] {
    let unspecified = || Match::Address(Side::Source, Family::V6, AddrRange { first: 0, last: 0 });
    let to_the_link = || Match::Address(Side::Destination, Family::V6, LINK_MULTICAST);
    let solicitation = icmpv6(NDISC_NEIGHBOUR_SOLICITATION, NDISC_NEIGHBOUR_SOLICITATION);
    let report = icmpv6(ICMPV6_MLD2_REPORT, ICMPV6_MLD2_REPORT);
    [
        vec![unspecified(), to_the_link(), solicitation, Match::HopLimit(255)],
        vec![unspecified(), to_the_link(), report, Match::HopLimit(1)],
    ]
    .map(|matches| rule(matches, Verdict::Accept, "duplicate address detection"))
}

/// Neighbour discovery. What the container sends may be no more than that, whoever sent it, so it stays on the link: multicast
/// and link-local destinations, and neighbours that have asked (hop limit 255 proves that they are on the link, RFC 4861, 7.1).
fn neighbours(filter: &Filter, direction: Direction) -> Vec<Rule> {
    let accept = |matches| rule(matches, Verdict::Accept, "neighbour discovery");
    let discovery = || vec![icmpv6(NDISC_NEIGHBOUR_SOLICITATION, NDISC_NEIGHBOUR_ADVERTISEMENT), Match::HopLimit(255)];
    let (solicited, advertised) = (NDISC_ROUTER_SOLICITATION, NDISC_ROUTER_ADVERTISEMENT);
    match direction {
        Direction::Egress => {
            let towards = |range| Match::Address(Side::Destination, Family::V6, range);
            let asked = Match::AddressIn(Side::Destination, Family::V6, NEIGHBOURS.to_owned());
            let with = |more: Match| discovery().into_iter().chain([more]).collect::<Vec<_>>();
            let reports = icmpv6(ICMPV6_MLD2_REPORT, ICMPV6_MLD2_REPORT);
            let mut rules = vec![
                counted(vec![icmpv6(advertised, advertised)], Verdict::Drop, "it is no router"),
                counted(vec![icmpv6(NDISC_REDIRECT, NDISC_REDIRECT)], Verdict::Drop, "it is no router"),
                accept(with(towards(LINK_MULTICAST))),
                accept(with(towards(LINK_LOCAL))),
                accept(with(asked)),
                accept(vec![reports, Match::HopLimit(1), towards(LINK_MULTICAST)]),
            ];
            if filter.router_advertisements {
                let asks = vec![icmpv6(solicited, solicited), Match::HopLimit(255), towards(LINK_MULTICAST)];
                rules.push(accept(asks));
            }
            rules
        }
        Direction::Ingress => {
            let ask = Statement::RememberAddress(Side::Source, Family::V6, NEIGHBOURS.to_owned());
            let mut rules = vec![
                all_of(vec![ask], discovery(), Some(Verdict::Accept), "neighbour discovery"),
                accept(vec![icmpv6(ICMPV6_MGM_QUERY, ICMPV6_MGM_QUERY), Match::HopLimit(1)]),
            ];
            let advertisement = vec![icmpv6(advertised, advertised)];
            rules.push(if filter.router_advertisements {
                accept(advertisement.into_iter().chain([Match::HopLimit(255)]).collect())
            } else {
                rule(advertisement, Verdict::Drop, "no router advertisements")
            });
            rules
        }
    }
}

/// ICMP errors about what the container sent.
fn errors(family: Family) -> Vec<Rule> {
    let types = match family {
        Family::V4 => vec![
            Match::IcmpType(ICMP_DEST_UNREACH, ICMP_DEST_UNREACH),
            Match::IcmpType(ICMP_TIME_EXCEEDED, ICMP_PARAMETERPROB),
        ],
        Family::V6 => vec![icmpv6(ICMPV6_DEST_UNREACH, ICMPV6_PARAMPROB)],
    };
    let about = || Match::KnownInner(family, flows(Direction::Egress, family));
    let accept = |kind| rule(vec![kind, about()], Verdict::Accept, "ICMP errors of flows that were let through");
    types.into_iter().map(accept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tables_name_says_whose_it_is() {
        for (id, name) in [("web.1-a", "netlatch-web.1-a"), ("a_b+c", "netlatch-a__b_pc"), ("_p+_", "netlatch-__p_p__")]
        {
            assert_eq!(host_table(id).unwrap(), name);
            assert_eq!(container_of(name).as_deref(), Some(id));
        }
        for name in ["netlatch", "filter", "netlatch-a_b", "netlatch-a_", "netlatch-_\u{e9}"] {
            assert_eq!(container_of(name), None, "{name}");
        }
        assert!(host_table(&"a".repeat(247)).is_err());
        assert!(host_table(&"a".repeat(246)).is_ok());
    }
}
