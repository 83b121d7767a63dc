//! What is no flow: neighbour discovery, ARP, and ICMP errors.
//!
//! A container speaks for its own addresses alone. What it says of others' would lead their traffic here, and that of who has no
//! rules: a neighbour believes an advertisement or an ARP packet, whoever sent it.

use super::flows::{Stage, Way};
use super::{all_of, own};
use crate::net::{AddrRange, Direction, Family};
use crate::nft::build::{Builder, ICMPV6_MGM_QUERY, ICMPV6_MLD2_REPORT, counted, rule};
use crate::nft::build::{NDISC_NEIGHBOUR_ADVERTISEMENT, NDISC_NEIGHBOUR_SOLICITATION};
use crate::nft::build::{NDISC_ROUTER_ADVERTISEMENT, NDISC_ROUTER_SOLICITATION};
use crate::nft::filter::Filter;
use crate::nft::ruleset::{Chain, Match, Rule, Side, Statement, Verdict};

/// The neighbours that have asked.
pub(super) const NEIGHBOURS: &str = "neighbours6";

/// `NDISC_REDIRECT`, and the ICMP errors: destination unreachable, time exceeded, parameter problem (RFC 792); those and
/// packet too big (RFC 4443, 1 to 4).
const NDISC_REDIRECT: u8 = 137;
const ICMP_DEST_UNREACH: u8 = 3;
const ICMP_TIME_EXCEEDED: u8 = 11;
const ICMP_PARAMETERPROB: u8 = 12;
const ICMPV6_DEST_UNREACH: u8 = 1;
const ICMPV6_PARAMPROB: u8 = 4;

/// An IPv6 header, the 24 bytes of a solicitation or advertisement, and two options of eight: a link layer address and a
/// nonce (RFC 7527), which is the most that Linux sends (`ndisc_send_ns`).
const LONGEST_DISCOVERY: u32 = 40 + 24 + 2 * 8;
/// ARP takes 28; Ethernet's shortest frame has room for 46 (RFC 894).
const LONGEST_ARP: u32 = 46;

const fn block(first: u128, len: u32) -> AddrRange {
    AddrRange { first, last: first | (u128::MAX >> len) }
}

/// `ff02::/16`, `fe80::/10`.
const LINK_MULTICAST: AddrRange = block(0xff02 << 112, 16);
const LINK_LOCAL: AddrRange = block(0xfe80 << 112, 10);

fn icmpv6(first: u8, last: u8) -> Match {
    Match::Icmpv6Type(first, last)
}

/// What has no address yet asks whether one of its own is free, and joins the group that would hear the answer (RFC 4862,
/// 5.4.2). Who asks for another's would keep that from it.
pub(super) fn unspecified_source() -> [Rule; 3] {
    let unspecified = || Match::Address(Side::Source, Family::V6, AddrRange { first: 0, last: 0 });
    let to_the_link = || Match::Address(Side::Destination, Family::V6, LINK_MULTICAST);
    let solicitation = icmpv6(NDISC_NEIGHBOUR_SOLICITATION, NDISC_NEIGHBOUR_SOLICITATION);
    let report = icmpv6(ICMPV6_MLD2_REPORT, ICMPV6_MLD2_REPORT);
    let of_its_own = Match::NeighbourTargetIn(own(Family::V6));
    let asks = "duplicate address detection";
    [
        rule(vec![unspecified(), to_the_link(), report, Match::HopLimit(1)], Verdict::Accept, asks),
        counted(vec![unspecified(), Match::LongerThan(LONGEST_DISCOVERY)], Verdict::Drop, "longer than it takes"),
        rule(vec![unspecified(), to_the_link(), solicitation, Match::HopLimit(255), of_its_own], Verdict::Accept, asks),
    ]
}

impl Builder {
    /// ARP that leaves: where to.
    pub(super) fn arp(&mut self) -> Verdict {
        const ARP: &str = "leaves_arp";
        let own = Match::ArpSenderIn(own(Family::V4));
        let rules = vec![
            counted(vec![Match::LongerThan(LONGEST_ARP)], Verdict::Drop, "longer than ARP takes"),
            rule(vec![Match::ArpOfIpv4, own], Verdict::Accept, "for an address of the container"),
            rule(vec![Match::ArpOfIpv4, Match::ArpProbe], Verdict::Accept, "whether an address is free"),
            counted(Vec::new(), Verdict::Drop, "not an address of the container"),
        ];
        self.chains.push(Chain { name: ARP.to_owned(), base: None, rules });
        Verdict::Goto(ARP.to_owned())
    }

    /// Neighbour discovery. What the container sends may be no more than that, whoever sent it, so it stays on the link: multicast
    /// and link-local destinations, and neighbours that have asked (hop limit 255 proves that they are on the link, RFC 4861, 7.1).
    pub(super) fn neighbours(&mut self, filter: &Filter, way: &Way) -> Vec<Rule> {
        let accept = |matches| rule(matches, Verdict::Accept, "neighbour discovery");
        let discovery = vec![icmpv6(NDISC_NEIGHBOUR_SOLICITATION, NDISC_NEIGHBOUR_ADVERTISEMENT), Match::HopLimit(255)];
        let (solicited, advertised) = (NDISC_ROUTER_SOLICITATION, NDISC_ROUTER_ADVERTISEMENT);
        match way.direction {
            Direction::Egress => {
                let speaks = icmpv6(NDISC_NEIGHBOUR_ADVERTISEMENT, NDISC_NEIGHBOUR_ADVERTISEMENT);
                let mut rules = vec![
                    counted(vec![icmpv6(advertised, advertised)], Verdict::Drop, "it is no router"),
                    counted(vec![icmpv6(NDISC_REDIRECT, NDISC_REDIRECT)], Verdict::Drop, "it is no router"),
                    rule(vec![speaks], Verdict::Jump(self.speaks_for_itself()), "for an address of the container"),
                ];
                if way.judged {
                    let towards = |range| Match::Address(Side::Destination, Family::V6, range);
                    let reports = icmpv6(ICMPV6_MLD2_REPORT, ICMPV6_MLD2_REPORT);
                    rules.push(rule(discovery, Verdict::Jump(self.discovery()), "neighbour discovery"));
                    rules.push(accept(vec![reports, Match::HopLimit(1), towards(LINK_MULTICAST)]));
                    if filter.router_advertisements {
                        let asks = vec![icmpv6(solicited, solicited), Match::HopLimit(255), towards(LINK_MULTICAST)];
                        rules.push(accept(asks));
                    }
                }
                rules
            }
            Direction::Ingress => {
                let mut rules = Vec::new();
                if way.answered {
                    let ask = Statement::RememberAddress(Side::Source, Family::V6, NEIGHBOURS.to_owned());
                    rules.push(all_of(vec![ask], discovery.clone(), None, "may be answered"));
                }
                if way.judged {
                    // Also who finds no room there: the layers may let its answer pass.
                    rules.push(accept(discovery));
                    rules.push(accept(vec![icmpv6(ICMPV6_MGM_QUERY, ICMPV6_MGM_QUERY), Match::HopLimit(1)]));
                }
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

    /// The chain from which only an advertisement of an address of its own returns.
    fn speaks_for_itself(&mut self) -> String {
        let name = "leaves6_advertised".to_owned();
        let rules = vec![
            rule(vec![Match::NeighbourTargetIn(own(Family::V6))], Verdict::Return, "an address of the container"),
            counted(Vec::new(), Verdict::Drop, "not an address of the container"),
        ];
        self.chains.push(Chain { name: name.clone(), base: None, rules });
        name
    }

    /// The chain that accepts neighbour discovery and returns what is only called so.
    fn discovery(&mut self) -> String {
        let name = "leaves6_discovery".to_owned();
        let accept = |towards| rule(vec![towards], Verdict::Accept, "neighbour discovery");
        let towards = |range| Match::Address(Side::Destination, Family::V6, range);
        let rules = vec![
            rule(vec![Match::LongerThan(LONGEST_DISCOVERY)], Verdict::Return, "longer than it takes"),
            accept(towards(LINK_MULTICAST)),
            accept(towards(LINK_LOCAL)),
            accept(Match::AddressIn(Side::Destination, Family::V6, NEIGHBOURS.to_owned())),
        ];
        self.chains.push(Chain { name: name.clone(), base: None, rules });
        name
    }

    /// ICMP errors about what the container sent: of a flow that it began, or of one that it answers.
    pub(super) fn errors(&mut self, way: &Way) -> Vec<Rule> {
        const ERRORS: &str = "ICMP errors of flows that were let through";
        let family = way.family;
        let (types, fragment, chain) = match family {
            Family::V4 => (
                vec![
                    Match::IcmpType(ICMP_DEST_UNREACH, ICMP_DEST_UNREACH),
                    Match::IcmpType(ICMP_TIME_EXCEEDED, ICMP_PARAMETERPROB),
                ],
                &[false][..],
                "errors4",
            ),
            Family::V6 => (vec![icmpv6(ICMPV6_DEST_UNREACH, ICMPV6_PARAMPROB)], &[false, true][..], "errors6"),
        };
        let begun = [(true, Direction::Egress), (way.answered, Direction::Ingress)];
        let mut rules = Vec::new();
        for (_, direction) in begun.into_iter().filter(|(remembered, _)| *remembered) {
            for stage in Stage::ALL {
                for (ports, fragment) in [true, false].into_iter().flat_map(|p| fragment.iter().map(move |f| (p, *f))) {
                    let set = stage.set(direction, family);
                    rules.push(rule(vec![Match::KnownInner { family, ports, fragment, set }], Verdict::Accept, ERRORS));
                }
            }
        }
        self.chains.push(Chain { name: chain.to_owned(), base: None, rules });
        types.into_iter().map(|kind| rule(vec![kind], Verdict::Jump(chain.to_owned()), ERRORS)).collect()
    }
}
