//! Neighbour discovery, which no list names and without which IPv6 does not work.

use super::{Builder, counted, rule};
use crate::net::{AddrRange, Family};
use crate::nft::filter::Filter;
use crate::nft::ruleset::{Chain, Hook, KeyType, Kind, Match, Rule, Set, Side, Statement, Verdict};

/// ICMPv6 types (include/uapi/linux/icmpv6.h, include/net/ndisc.h).
pub(super) const ICMPV6_MGM_QUERY: u8 = 130;
pub(super) const ICMPV6_MLD2_REPORT: u8 = 143;
pub(super) const NDISC_ROUTER_SOLICITATION: u8 = 133;
pub(super) const NDISC_ROUTER_ADVERTISEMENT: u8 = 134;
pub(super) const NDISC_NEIGHBOUR_SOLICITATION: u8 = 135;
pub(super) const NDISC_NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// IPv6's header, and an advertisement with one link-layer address.
const ADVERTISEMENT: u32 = 40 + 32;
/// ff02::1, who is on the link (RFC 4291, 2.7.1).
const ALL_NODES: u128 = (0xff02 << 112) | 1;
/// Own addresses that were announced.
const ANNOUNCED: &str = "announced6";
/// How many are known at once, and for how long: from one rule to the next would do.
const ANNOUNCED_SIZE: u32 = 16;
const ANNOUNCED_TIMEOUT_S: u32 = 10;

pub(super) fn icmpv6(kind: u8) -> Match {
    Match::Icmpv6Type(kind, kind)
}

impl Builder {
    /// Neighbour discovery in its narrow form. Hop limit 255 proves of what comes in that it is from, and 1 that it ends on,
    /// this link (RFC 4861, 7.1; RFC 3810, 5). Of what goes out it proves nothing: a raw socket sets any type and any hop
    /// limit towards any address. So only what the kernel itself sends is exempt, and [announcements](Self::announces); the rest of
    /// what a process sends goes to the layers. Routers may be asked only where their answers are let in.
    ///
    /// Multicast listener reports belong to it: a switch that snoops sends a solicitation only where a report came from
    /// (RFC 4861, 7.2.1), so that without them neighbour discovery works for four minutes and then stops.
    pub(super) fn discovery_rules(&mut self, filter: &Filter, hook: Hook) -> Vec<Rule> {
        let on_link = |first, last| vec![Match::Icmpv6Type(first, last), Match::HopLimit(255)];
        let accept = |matches| rule(matches, Verdict::Accept, "neighbour discovery");
        let out = hook == Hook::Output;
        let (listener, router) = if out {
            (ICMPV6_MLD2_REPORT, NDISC_ROUTER_SOLICITATION)
        } else {
            (ICMPV6_MGM_QUERY, NDISC_ROUTER_ADVERTISEMENT)
        };
        let mut rules = if out { self.announces() } else { Vec::new() };
        rules.push(accept(on_link(NDISC_NEIGHBOUR_SOLICITATION, NDISC_NEIGHBOUR_ADVERTISEMENT)));
        rules.push(accept(vec![icmpv6(listener), Match::HopLimit(1)]));
        if filter.router_advertisements {
            rules.push(accept(on_link(router, router)));
        }
        rules
    }

    /// What a process may send itself: to the link, that an address of the container is the container's. Docker 28 announces its IPv6
    /// addresses so, by a raw socket in its namespace, and starts no container where that fails (moby, `l2disco.UnsolNA`).
    ///
    /// nftables does not compare two fields of a packet. So the source, where the kernel says that it is the container's
    /// (`fib`), goes into a set, and what is announced must be in that set.
    fn announces(&mut self) -> Vec<Rule> {
        let all_nodes = AddrRange { first: ALL_NODES, last: ALL_NODES };
        let announces = vec![
            Match::UserSocket,
            icmpv6(NDISC_NEIGHBOUR_ADVERTISEMENT),
            Match::HopLimit(255),
            Match::Address(Side::Destination, Family::V6, all_nodes),
            Match::LocalSource,
        ];
        let remember = Statement::RememberAddress(Side::Source, Family::V6, ANNOUNCED.to_owned());
        let rules = vec![
            counted(vec![Match::LongerThan(ADVERTISEMENT)], Verdict::Return, "longer than it takes"),
            Rule { statements: vec![remember], verdict: None, ..rule(Vec::new(), Verdict::Return, "its own address") },
            rule(vec![Match::NeighbourTargetIn(ANNOUNCED.to_owned())], Verdict::Accept, "of its own address"),
        ];
        self.sets.push(Set {
            name: ANNOUNCED.to_owned(),
            key: vec![KeyType::Ipv6Addr],
            kind: Kind::Dynamic { size: ANNOUNCED_SIZE, timeout_s: ANNOUNCED_TIMEOUT_S },
            spans: Vec::new(),
        });
        self.chains.push(Chain { name: ANNOUNCED.to_owned(), base: None, rules });
        vec![
            rule(announces, Verdict::Jump(ANNOUNCED.to_owned()), "an announcement by hand"),
            rule(vec![Match::UserSocket], Verdict::Return, "a process's own packet"),
        ]
    }
}
