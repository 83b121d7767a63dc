//! From a [`Filter`] to the [`Table`] that enforces it.
//!
//! ```text
//! output   oif lo, both addresses local: accept         forward  [IPv6 off: drop]
//!          [IPv6 off: drop]                                     jump tracked
//!          jump tracked                                         jump egress, jump ingress
//!          neighbour discovery                                  accept
//!          a foreign source: drop
//!          jump egress
//!          accept                                      input    as output, with iif lo and jump ingress
//!
//! tracked  established: accept; related ICMP errors: accept; invalid: drop
//! egress   what is always denied: goto reject_packet
//!          jump egress_baseline
//!          the last layer's own rules: denying entries: goto reject_packet; allowing entries: return; goto reject_packet
//! ```
//!
//! Why it is so:
//!
//! * **Loopback by interface and address.** In the output hook `oif` is what routing chose before any NAT, so after a
//!   DNAT of a packet to 127.0.0.1 it still reads `lo` while the packet leaves; and `ip daddr 127.0.0.0/8` alone is
//!   true of a packet that `SO_BINDTODEVICE` sends out of eth0. Both together hold only for what stays inside. What
//!   arrives on `lo` was let onto it by that rule, so input asks for the interface alone; `lo` is always index 1
//!   (`LOOPBACK_IFINDEX`, include/net/flow.h), in any namespace, whatever it is called.
//! * **No flow begins with a foreign source.** A packet from a forbidden address to the container's own, or to an
//!   allowed one, would make every packet the other way a reply, which passes as established. Any process can send
//!   one over IPv6 (`IPV6_FREEBIND`), and with CAP_NET_RAW over IPv4. So loopback asks for the source too, and what
//!   is left of such packets is dropped before the layers. Replies to flows of others are not asked.
//! * **Loopback before conntrack state.** The ICMP error that `reject` sends to a local socket belongs to a flow
//!   that was never confirmed, so its state is invalid. (The reset that it sends has the peer's address as its
//!   source and the flow's entry: [`Builder::tracked`] accepts it.)
//! * **forward asks both directions.** Which side of a packet routed through the container is the outside cannot be
//!   known before its interfaces exist. A nested namespace may reach what the container may reach and be reached by
//!   whom the container may be reached by, and nothing else.
//! * **Layers return.** A layer that lets a packet pass returns to the caller, which asks the next one; the first that
//!   does not ends in a verdict. So no layer can skip another. Only the last one may stand in the direction's chain
//!   itself: returning from it is returning from all of them.

use crate::error::{Cause, Failure};
use crate::net::{Direction, Family, PortRange, Transport};
use crate::nft::filter::{Denial, Filter, Ipv6Traffic, Layer, Otherwise};
use crate::nft::layout::{BOX_LIMIT, Peers, Ports, Protocol, Question, questions};
use crate::nft::ruleset::{
    Base, Chain, Hook, KeyType, Kind, Match, Rule, Set, Side, State, Statement, TABLE, Table, Verdict,
};

/// IANA protocol numbers.
const IPPROTO_ICMP: u8 = 1;
const IPPROTO_TCP: u8 = 6;
const IPPROTO_ICMPV6: u8 = 58;

/// ICMPv6 types (include/uapi/linux/icmpv6.h, include/net/ndisc.h).
const ICMPV6_MGM_QUERY: u8 = 130;
const ICMPV6_MLD2_REPORT: u8 = 143;
const NDISC_ROUTER_SOLICITATION: u8 = 133;
const NDISC_ROUTER_ADVERTISEMENT: u8 = 134;
const NDISC_NEIGHBOUR_SOLICITATION: u8 = 135;
const NDISC_NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// How many would-be denials `mode: audit` remembers per family and direction, and for how long.
const AUDIT_SIZE: u32 = 4096;
const AUDIT_TIMEOUT_S: u32 = 86_400;

const TRACKED: &str = "tracked";
const REJECT: &str = "reject_packet";

/// The table for `filter`. `comment` goes to the table.
///
/// # Errors
/// [`Cause::Limit`] when port ranges and addresses multiply past [`BOX_LIMIT`].
pub fn build(filter: &Filter, comment: String) -> Result<Table, Failure> {
    // Where IPv6 ends at the head of each chain, rules and sets for it would only cost time to load.
    let families = match filter.ipv6 {
        Ipv6Traffic::Filtered => &Family::BOTH[..],
        Ipv6Traffic::LoopbackOnly | Ipv6Traffic::Dropped => &[Family::V4],
    };
    let mut builder = Builder { families, sets: Vec::new(), chains: Vec::new(), transports: Vec::new() };
    let hooks = [
        (Hook::Output, &[Direction::Egress][..]),
        (Hook::Input, &[Direction::Ingress][..]),
        (Hook::Forward, &Direction::BOTH[..]),
    ];
    let layered = !filter.layers.is_empty();
    for (hook, directions) in hooks {
        builder.base_chain(filter, hook, directions, layered);
    }
    if layered {
        builder.tracked(filter);
        for direction in Direction::BOTH {
            builder.direction(filter, direction)?;
        }
        if filter.layers.iter().any(|layer| layer.denial == Denial::Reject) {
            builder.reject();
        }
    }
    Ok(Table { comment, sets: builder.sets, chains: builder.chains })
}

struct Builder {
    /// The families that reach the layers.
    families: &'static [Family],
    sets: Vec<Set>,
    chains: Vec<Chain>,
    /// Which groups of transports have their `meta l4proto` set.
    transports: Vec<&'static [Transport]>,
}

fn rule(matches: Vec<Match>, verdict: Verdict, comment: &str) -> Rule {
    Rule { matches, statements: Vec::new(), verdict: Some(verdict), comment: comment.to_owned() }
}

fn counted(matches: Vec<Match>, verdict: Verdict, comment: &str) -> Rule {
    Rule { matches, statements: vec![Statement::Count], verdict: Some(verdict), comment: comment.to_owned() }
}

fn judges(filter: &Filter, direction: Direction) -> bool {
    filter.layers.iter().any(|layer| layer.direction == direction)
}

/// Whether anything in a direction is denied in earnest: `mode: audit` drops nothing.
fn enforces(filter: &Filter, direction: Direction) -> bool {
    filter.layers.iter().any(|layer| layer.direction == direction && layer.denial != Denial::Audit)
}

impl Builder {
    fn base_chain(&mut self, filter: &Filter, hook: Hook, directions: &[Direction], layered: bool) {
        let mut rules = Vec::new();
        let ipv6_off = || counted(vec![Match::Family(Family::V6)], Verdict::Drop, "IPv6 is off");
        if filter.ipv6 == Ipv6Traffic::Dropped {
            rules.push(ipv6_off());
        }
        match hook {
            Hook::Output => {
                let own = vec![Match::OutLoopback, Match::LocalSource, Match::LocalDestination];
                rules.push(rule(own, Verdict::Accept, "a container always reaches itself"));
            }
            Hook::Input => {
                rules.push(rule(vec![Match::InLoopback], Verdict::Accept, "a container always reaches itself"));
            }
            Hook::Forward => {}
        }
        if filter.ipv6 == Ipv6Traffic::LoopbackOnly {
            rules.push(ipv6_off());
        }
        let filtered_v6 = filter.ipv6 == Ipv6Traffic::Filtered;
        if filtered_v6 && hook == Hook::Input && !filter.router_advertisements {
            rules.push(rule(vec![icmpv6(NDISC_ROUTER_ADVERTISEMENT)], Verdict::Drop, "no router advertisements"));
        }
        let judged: Vec<Direction> = directions.iter().copied().filter(|d| judges(filter, *d)).collect();
        if judged.is_empty() {
            if layered {
                rules.push(counted(vec![Match::State(State::Invalid)], Verdict::Drop, "invalid"));
            }
        } else {
            rules.push(rule(Vec::new(), Verdict::Jump(TRACKED.to_owned()), "flows that were let through"));
            if filtered_v6 {
                rules.extend(neighbours(filter, hook));
            }
            if hook == Hook::Output && enforces(filter, Direction::Egress) {
                rules.push(counted(vec![Match::ForeignSource], Verdict::Drop, "not an address of the container"));
            }
            for direction in &judged {
                let layers = format!("{direction} layers");
                rules.push(rule(Vec::new(), Verdict::Jump(direction.name().to_owned()), &layers));
            }
            rules.push(rule(Vec::new(), Verdict::Accept, "every layer let it pass"));
        }
        // A chain that asks layers ends in its own accept; its policy only ever sees what a future mistake lets fall.
        let base = Some(Base { hook, accepts: judged.is_empty() });
        self.chains.push(Chain { name: hook.name().to_owned(), base, rules });
    }

    fn tracked(&mut self, filter: &Filter) {
        let related = |protocol| vec![Match::State(State::Related), Match::Protocol(protocol)];
        let mut rules = vec![
            rule(vec![Match::State(State::Established)], Verdict::Accept, "established"),
            rule(related(IPPROTO_ICMP), Verdict::Accept, "ICMP errors of established flows"),
        ];
        if self.families.contains(&Family::V6) {
            rules.push(rule(related(IPPROTO_ICMPV6), Verdict::Accept, "ICMPv6 errors of established flows"));
        }
        if filter.layers.iter().any(|layer| layer.denial == Denial::Reject) {
            // nf_send_reset gives its segment the refused packet's conntrack entry (nf_ct_attach), so it is related;
            // no helper that could make other TCP related is ever assigned here. A refused local socket's comes over
            // lo from the peer's address.
            rules.push(rule(related(IPPROTO_TCP), Verdict::Accept, "resets that refuse a connection"));
        }
        rules.push(counted(vec![Match::State(State::Invalid)], Verdict::Drop, "invalid"));
        self.chains.push(Chain { name: TRACKED.to_owned(), base: None, rules });
    }

    /// The chain of a direction: what denies and lets everything else go on, a jump to each further layer, and the
    /// last layer's own rules. Returning from there is returning to the base chain, which accepts.
    fn direction(&mut self, filter: &Filter, direction: Direction) -> Result<(), Failure> {
        let layers: Vec<&Layer> = filter.layers.iter().filter(|layer| layer.direction == direction).collect();
        let Some((last, others)) = layers.split_last() else { return Ok(()) };
        let mut rules = Vec::new();
        for layer in others {
            let own = self.rules(layer)?;
            // An entry that allows returns, which here would be past the layers that follow.
            if layer.otherwise == Otherwise::Continue && layer.entries.iter().all(|entry| entry.deny) {
                rules.extend(own);
            } else {
                rules.push(rule(Vec::new(), Verdict::Jump(chain_name(layer)), &layer.origin));
                self.chains.push(Chain { name: chain_name(layer), base: None, rules: own });
            }
        }
        rules.extend(self.rules(last)?);
        self.chains.push(Chain { name: direction.name().to_owned(), base: None, rules });
        Ok(())
    }

    fn rules(&mut self, layer: &Layer) -> Result<Vec<Rule>, Failure> {
        let mut rules = Vec::new();
        let denial = |matches, comment: &str| counted(matches, denied(layer), comment);
        for deny in [true, false] {
            let asked: Result<Vec<Vec<Question>>, _> =
                self.families.iter().map(|family| questions(&layer.entries, *family, deny)).collect();
            let Ok(asked) = asked else {
                return Err(Failure::new(
                    format!("build the rules of {}", layer.origin),
                    Cause::Limit(format!("its port ranges times its addresses come to more than {BOX_LIMIT}")),
                ));
            };
            // What every family asks alike is asked once.
            let everywhere =
                |question: &Question| is_family_free(question) && asked.iter().all(|q| q.contains(question));
            let both: Vec<Question> = asked[0].iter().filter(|q| everywhere(q)).cloned().collect();
            let of_family = |(family, questions): (&Family, &Vec<Question>)| {
                questions.iter().filter(|q| !both.contains(q)).map(|q| (Some(*family), q.clone())).collect::<Vec<_>>()
            };
            let apart: Vec<_> = self.families.iter().zip(&asked).flat_map(of_family).collect();
            for (family, question) in both.iter().map(|q| (None, q.clone())).chain(apart) {
                let comment = cite(layer, &question);
                let matches = self.ask(layer, deny, family, question);
                rules.push(if deny { denial(matches, &comment) } else { rule(matches, Verdict::Return, &comment) });
            }
        }
        // Rules behind one that takes everything are never asked.
        if let Some(at) = rules.iter().position(|rule| rule.matches.is_empty()) {
            rules.truncate(at + 1);
        } else if layer.otherwise == Otherwise::Deny {
            rules.push(denial(Vec::new(), &format!("{}: no entry allows it", layer.origin)));
        }
        if layer.denial == Denial::Audit {
            self.audit(layer);
        }
        Ok(rules)
    }

    /// The matches of one rule, with the sets it needs.
    fn ask(&mut self, layer: &Layer, deny: bool, family: Option<Family>, question: Question) -> Vec<Match> {
        let side = peer_side(layer.direction);
        let mut matches = Vec::new();
        let stem = format!("{}_{}", chain_name(layer), if deny { "deny" } else { "allow" });
        match question.protocol {
            Protocol::Any => {}
            Protocol::Icmp => {
                matches.push(Match::Protocol(match family {
                    Some(Family::V6) => IPPROTO_ICMPV6,
                    Some(Family::V4) | None => IPPROTO_ICMP,
                }));
            }
            Protocol::Transports([one]) => matches.push(Match::Protocol(one.number())),
            Protocol::Transports(several) => matches.push(Match::ProtocolIn(self.transports(several))),
        }
        match question.ports {
            Ports::Any => {}
            Ports::Range(ports) => matches.push(Match::Port(ports)),
            Ports::Set(spans) => {
                let name = self.set(&stem, vec![KeyType::InetService], spans);
                matches.push(Match::PortIn(name));
            }
        }
        match (question.peers, family) {
            (Peers::Any, None) => {}
            (Peers::Any, Some(family)) => matches.insert(0, Match::Family(family)),
            (Peers::Set(spans), Some(family)) if spans.len() == 1 => {
                matches.push(Match::Address(side, family, spans[0]));
            }
            (Peers::WithPorts(spans), Some(family)) if spans.len() == 2 => {
                let ports = PortRange::new(spans[1].first as u16, spans[1].last as u16).unwrap_or(PortRange::ALL);
                matches.extend([Match::Port(ports), Match::Address(side, family, spans[0])]);
            }
            (Peers::Set(spans), family) => {
                let family = family.unwrap_or(Family::V4);
                let name = self.set(&stem, vec![KeyType::address(family)], spans);
                matches.push(Match::AddressIn(side, family, name));
            }
            (Peers::Exact(spans), Some(family)) if spans.len() == 3 => {
                let ports = PortRange::new(spans[2].first as u16, spans[2].last as u16).unwrap_or(PortRange::ALL);
                matches.extend([
                    Match::Protocol(spans[1].first as u8),
                    Match::Port(ports),
                    Match::Address(side, family, spans[0]),
                ]);
            }
            (Peers::Exact(spans), family) => {
                let family = family.unwrap_or(Family::V4);
                let key = vec![KeyType::address(family), KeyType::InetProto, KeyType::InetService];
                let name = self.set(&stem, key, spans);
                matches.push(Match::AddressProtocolPortIn(side, family, name));
            }
            (Peers::WithPorts(spans), family) => {
                let family = family.unwrap_or(Family::V4);
                let name = self.set(&stem, vec![KeyType::address(family), KeyType::InetService], spans);
                matches.push(Match::AddressPortIn(side, family, name));
            }
        }
        matches
    }

    /// Adds a set named after its stem, its family where it has one, and a number where that is taken.
    fn set(&mut self, stem: &str, key: Vec<KeyType>, spans: Vec<crate::net::AddrRange>) -> String {
        let kind = if spans.iter().all(|span| span.first == span.last) { Kind::Hash } else { Kind::Interval };
        let family = match key.first() {
            Some(KeyType::Ipv4Addr) => "4",
            Some(KeyType::Ipv6Addr) => "6",
            Some(KeyType::InetProto | KeyType::InetService) | None => "_ports",
        };
        let name = (1usize..)
            .map(|n| if n == 1 { format!("{stem}{family}") } else { format!("{stem}{family}_{n}") })
            .find(|name| self.sets.iter().all(|set| set.name != *name))
            .unwrap_or_default();
        self.sets.push(Set { name: name.clone(), key, kind, spans });
        name
    }

    fn transports(&mut self, transports: &'static [Transport]) -> String {
        let name = transports.iter().map(|t| t.name()).collect::<Vec<_>>().join("_");
        if !self.transports.contains(&transports) {
            self.transports.push(transports);
            let number = |t: &Transport| {
                let n = u128::from(t.number());
                crate::net::AddrRange { first: n, last: n }
            };
            let spans = transports.iter().map(number).collect();
            self.sets.push(Set { name: name.clone(), key: vec![KeyType::InetProto], kind: Kind::Hash, spans });
        }
        name
    }

    fn reject(&mut self) {
        let rules = vec![
            rule(vec![Match::Protocol(IPPROTO_TCP)], Verdict::RejectWithReset, "the caller fails at once"),
            rule(Vec::new(), Verdict::Reject, "the caller fails at once"),
        ];
        self.chains.push(Chain { name: REJECT.to_owned(), base: None, rules });
    }

    /// Remembers what would have been denied, and lets it pass this layer.
    fn audit(&mut self, layer: &Layer) {
        let side = peer_side(layer.direction);
        let mut rules = Vec::new();
        let with_ports = self.transports(&Transport::ALL);
        for family in self.families.iter().copied() {
            let key = vec![KeyType::address(family), KeyType::InetProto, KeyType::InetService];
            let kind = Kind::Dynamic { size: AUDIT_SIZE, timeout_s: AUDIT_TIMEOUT_S };
            let set = format!("{}_seen{}", chain_name(layer), if family == Family::V4 { "4" } else { "6" });
            self.sets.push(Set { name: set.clone(), key, kind, spans: Vec::new() });
            let remember = |ports, matches| Rule {
                matches,
                statements: vec![Statement::Remember { side, family, ports, set: set.clone() }],
                verdict: Some(Verdict::Return),
                comment: "audit: would have been denied".to_owned(),
            };
            rules.push(remember(true, vec![Match::ProtocolIn(with_ports.clone())]));
            rules.push(remember(false, Vec::new()));
        }
        self.chains.push(Chain { name: audit_chain(layer), base: None, rules });
    }
}

fn chain_name(layer: &Layer) -> String {
    format!("{}_{}", layer.direction, layer.name)
}

fn audit_chain(layer: &Layer) -> String {
    format!("{}_audit", chain_name(layer))
}

/// Which address of a packet is the peer's.
pub(super) const fn peer_side(direction: Direction) -> Side {
    match direction {
        Direction::Egress => Side::Destination,
        Direction::Ingress => Side::Source,
    }
}

fn denied(layer: &Layer) -> Verdict {
    match (layer.denial, layer.direction) {
        (Denial::Reject, _) => Verdict::Goto(REJECT.to_owned()),
        (Denial::Drop, _) => Verdict::Drop,
        // Back to the next layer: from a chain of its own by not returning to it, from among others' rules by returning.
        (Denial::Audit, _) if layer.otherwise == Otherwise::Continue => Verdict::Jump(audit_chain(layer)),
        (Denial::Audit, _) => Verdict::Goto(audit_chain(layer)),
    }
}

/// Whether the same rule serves both families.
fn is_family_free(question: &Question) -> bool {
    question.peers == Peers::Any && question.protocol != Protocol::Icmp
}

fn icmpv6(kind: u8) -> Match {
    Match::Icmpv6Type(kind, kind)
}

/// Neighbour discovery in its narrow form. Hop limit 255 proves that the packet comes from, and 1 that it ends on,
/// this link (RFC 4861, 7.1; RFC 3810, 5). A container may ask and answer for addresses; routers it may only ask,
/// and only where their answers are let in.
///
/// A hop limit of 255 does not keep a packet on the link. So what a process sends through a raw socket, with any
/// content to any address, must pass the egress layers too; the kernel's own asks and answers neighbours only.
///
/// Multicast listener reports belong to it: a switch that snoops sends a solicitation only where a report came from
/// (RFC 4861, 7.2.1), so that without them neighbour discovery works for four minutes and then stops.
fn neighbours(filter: &Filter, hook: Hook) -> Vec<Rule> {
    let on_link = |first, last| vec![Match::Icmpv6Type(first, last), Match::HopLimit(255)];
    let both = on_link(NDISC_NEIGHBOUR_SOLICITATION, NDISC_NEIGHBOUR_ADVERTISEMENT);
    let accept = |matches| rule(matches, Verdict::Accept, "neighbour discovery");
    let mut rules = match hook {
        Hook::Forward => return Vec::new(),
        Hook::Input => vec![accept(both)],
        Hook::Output => {
            let by_hand = [&both[..], &[Match::OfProcess]].concat();
            let egress = Verdict::Jump(Direction::Egress.name().to_owned());
            vec![rule(by_hand, egress, "neighbour discovery by hand"), accept(both)]
        }
    };
    let (listener, router) = if hook == Hook::Output {
        (ICMPV6_MLD2_REPORT, NDISC_ROUTER_SOLICITATION)
    } else {
        (ICMPV6_MGM_QUERY, NDISC_ROUTER_ADVERTISEMENT)
    };
    rules.push(accept(vec![icmpv6(listener), Match::HopLimit(1)]));
    if filter.router_advertisements {
        rules.push(accept(on_link(router, router)));
    }
    rules
}

/// What the rule's comment says: the first entries that led to it.
fn cite(layer: &Layer, question: &Question) -> String {
    let mut origins = question.entries.iter().filter_map(|index| layer.entries.get(*index)).map(|e| e.origin.as_str());
    let first = origins.next().unwrap_or(&layer.origin);
    match question.entries.len() {
        0 | 1 => first.to_owned(),
        n => format!("{first} (+{} more)", n - 1),
    }
}

/// The comment a table carries: who made it and a digest of what it is to be.
pub fn table_comment(digest: u64) -> String {
    format!("{TABLE} {} plan {digest:016x}", env!("CARGO_PKG_VERSION"))
}
