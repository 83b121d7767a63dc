//! From a [`Filter`] to the [`Table`] that enforces it.
//!
//! ```text
//! output   [IPv6 off: drop]                              forward  [IPv6 off: drop]
//!          established: accept                                  established: accept
//!          oif lo, both addresses local: accept                 jump tracked
//!          jump tracked                                         jump egress, jump ingress
//!          neighbour discovery                                  accept
//!          a foreign source, a loopback source: drop
//!          jump egress
//!          accept                                      input    as output, with iif lo and jump ingress
//!
//! tracked  related ICMP errors: accept; invalid: drop; [policies: TCP without a SYN: drop]
//! egress   what is always denied: goto egress_reject; [a part of it is opened: jump egress_always instead]
//!          [policies: jump to the first tier, see the module policies]
//!          jump egress_baseline
//!          the last layer's own rules: denying entries: goto egress_reject; allowing entries: return; goto egress_reject
//!
//! egress_reject, egress_drop, ...: remember who was meant, then goto reject_packet, or drop
//! ```
//!
//! Beside it stands a table of family netdev, for what the hooks of the IP stack never see: [`guard`](guard()).
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
//!   is left of such packets is dropped before the layers. Replies to flows of others are not asked. A loopback address is
//!   the container's own, but what leaves from it is forged: who trusts 127.0.0.1 must not be told to by a raw socket.
//! * **Established flows first.** Nearly every packet is of one, and each rule it is asked before costs it some 10 ns: of what
//!   rules add to the sending of a datagram a seventh. Where IPv6 ends at the loopback interface that comes before: a
//!   flow of `::1` is established, and a packet of it that is bound to another device is not to leave.
//! * **Loopback before the other states.** The ICMP error that `reject` sends to a local socket belongs to a flow
//!   that was never confirmed, so its state is invalid. (The reset that it sends has the peer's address as its
//!   source and the flow's entry: the chain `tracked` accepts it.)
//! * **forward asks both directions.** Which side of a packet routed through the container is the outside cannot be
//!   known before its interfaces exist. A nested namespace may reach what the container may reach and be reached by
//!   whom the container may be reached by, and nothing else.
//! * **What decides counts.** Every rule of a layer that lets through or denies has a counter, so that `inspect` can say of each
//!   what came of it: of packets that begin a flow. Those of established ones pass before any layer, uncounted.
//! * **Layers return.** A layer that lets a packet pass returns to the caller, which asks the next one; the first that
//!   does not ends in a verdict. So no layer can skip another. Only the last one may stand in the direction's chain
//!   itself: returning from it is returning from all of them.

mod guard;
mod host_side;
mod layers;
mod policies;

pub use guard::{LATE_DEVICES, guard};
pub use host_side::{HOST_TABLE, OWN, container_of, host_side, host_table};
pub use layers::{cited, refuses};

use crate::error::{Cause, Failure};
use crate::net::{AddrRange, Direction, Family, Transport};
use crate::nft::filter::{Denial, Filter, Ipv6Traffic, PolicyLayer};
use crate::nft::ruleset::{
    Base, Chain, Hook, Match, Rule, Set, Side, State, Statement, TABLE, Table, TableFamily, Verdict,
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
pub const AUDIT_SIZE: u32 = 4096;
/// See [`AUDIT_SIZE`].
pub const AUDIT_TIMEOUT_S: u32 = 86_400;

/// How many denied destinations, or sources, are remembered per family and direction, and for how long: what `inspect` says
/// was tried lately. The hash has its buckets from the beginning: 1,024 of eight bytes (`rounded_hashtable_size`).
pub const DENIED_SIZE: u32 = 512;
/// See [`DENIED_SIZE`].
pub const DENIED_TIMEOUT_S: u32 = 3600;

const TRACKED: &str = "tracked";
const REJECT: &str = "reject_packet";

/// The table for `filter`. `comment` goes to the table.
///
/// # Errors
/// [`Cause::Limit`] when port ranges and addresses multiply past half a million, and where the table is larger than
/// [`MAX_TABLE_RULES`] or [`MAX_ELEMENTS`].
/// [`Cause::Internal`] where a group's member has a port and the group a service, or neither.
pub fn build(filter: &Filter, comment: String) -> Result<Table, Failure> {
    let mut builder = Builder { remembers: true, ..Builder::new(filter.families()) };
    let hooks = [
        (Hook::Output, &[Direction::Egress][..]),
        (Hook::Input, &[Direction::Ingress][..]),
        (Hook::Forward, &Direction::BOTH[..]),
    ];
    let layered = Direction::BOTH.into_iter().any(|direction| judges(filter, direction));
    for (hook, directions) in hooks {
        builder.base_chain(filter, hook, directions, layered);
    }
    if layered {
        builder.tracked(filter);
        for direction in Direction::BOTH {
            builder.direction(filter, direction)?;
        }
        builder.refusals();
        if denials(filter).any(|(_, denial)| denial == Denial::Reject) {
            builder.reject();
        }
    }
    let (sets, chains) = (builder.sets, builder.chains);
    let table = Table { comment, sets, chains, ..Table::empty(TableFamily::Inet) };
    check_size(&table)?;
    Ok(table)
}

/// Most rules of a table. A packet walks few of them, but the kernel takes each on its own: some 10 µs.
pub const MAX_TABLE_RULES: usize = 50_000;
/// Most elements of all sets of a table: what four lists and the policies may name. Loading that many takes seconds.
pub const MAX_ELEMENTS: usize = 1_000_000;

/// Whether the kernel can be asked to take it in time.
///
/// # Errors
/// [`Cause::Limit`].
fn check_size(table: &Table) -> Result<(), Failure> {
    let rules: usize = table.chains.iter().map(|chain| chain.rules.len()).sum();
    let elements: usize = table.sets.iter().map(|set| set.len()).sum();
    for (count, limit, what) in [
        (rules, MAX_TABLE_RULES, "rules (MAX_TABLE_RULES)"),
        (elements, MAX_ELEMENTS, "elements of sets (MAX_ELEMENTS)"),
    ] {
        if count > limit {
            let problem = format!("lists and policies come to {count} where at most {limit} are taken: {what}");
            return Err(Failure::new("build the rules", Cause::Limit(problem)));
        }
    }
    Ok(())
}

struct Builder {
    /// The families that reach the layers.
    families: &'static [Family],
    sets: Vec<Set>,
    chains: Vec<Chain>,
    /// Which groups of transports have their `meta l4proto` set.
    transports: Vec<&'static [Transport]>,
    /// Whether what is denied is remembered.
    remembers: bool,
}

fn rule(matches: Vec<Match>, verdict: Verdict, comment: &str) -> Rule {
    Rule { matches, statements: Vec::new(), verdict: Some(verdict), comment: comment.to_owned() }
}

fn counted(matches: Vec<Match>, verdict: Verdict, comment: &str) -> Rule {
    Rule { matches, statements: vec![Statement::Count], verdict: Some(verdict), comment: comment.to_owned() }
}

/// What denies, and what it means by it.
fn denials(filter: &Filter) -> impl Iterator<Item = (Direction, Denial)> {
    let lists = filter.layers.iter().map(|layer| (layer.direction, layer.denial));
    lists.chain(policies(filter).map(|policy| (policy.direction, policy.denial)))
}

fn policies(filter: &Filter) -> impl Iterator<Item = &PolicyLayer> {
    filter.policies.iter().filter(|policy| !policy.is_empty())
}

fn judges(filter: &Filter, direction: Direction) -> bool {
    denials(filter).any(|(judged, _)| judged == direction)
}

/// Whether anything in a direction is denied in earnest: `mode: audit` drops nothing.
fn enforces(filter: &Filter, direction: Direction) -> bool {
    denials(filter).any(|(judged, denial)| judged == direction && denial != Denial::Audit)
}

/// Drops TCP that begins in the middle, where anything is denied. When rules are tightened (`netlatch reload`), the flows
/// they no longer let pass lose their conntrack entries. A segment of such a flow that comes from the other side would begin a new one
/// the other way round (`nf_conntrack_tcp_loose`: `tcp_new` in net/netfilter/nf_conntrack_proto_tcp.c takes up whatever has
/// ACK set), of which what is denied would be the replies. Resets of our own are related, and answers to a SYN established.
fn mid_stream(filter: &Filter) -> Option<Rule> {
    let begins = vec![Match::State(State::New), Match::MidStream];
    denials(filter)
        .any(|(_, denial)| denial != Denial::Audit)
        .then(|| counted(begins, Verdict::Drop, "TCP that begins in the middle"))
}

impl Builder {
    fn new(families: &'static [Family]) -> Builder {
        Builder { families, sets: Vec::new(), chains: Vec::new(), transports: Vec::new(), remembers: false }
    }

    fn base_chain(&mut self, filter: &Filter, hook: Hook, directions: &[Direction], layered: bool) {
        let mut rules = Vec::new();
        let ipv6_off = || rule(vec![Match::Family(Family::V6)], Verdict::Drop, "IPv6 is off");
        if filter.ipv6 == Ipv6Traffic::Dropped {
            rules.push(ipv6_off());
        }
        let established = layered.then(|| {
            rule(vec![Match::State(State::Established)], Verdict::Accept, "established, so that it was let through")
        });
        let (first, behind) =
            if filter.ipv6 == Ipv6Traffic::LoopbackOnly { (None, established) } else { (established, None) };
        rules.extend(first);
        match hook {
            Hook::Output => {
                let own = vec![Match::OutLoopback, Match::LocalSource, Match::LocalDestination];
                rules.push(rule(own, Verdict::Accept, "a container always reaches itself"));
            }
            Hook::Input => {
                rules.push(rule(vec![Match::InLoopback], Verdict::Accept, "a container always reaches itself"));
            }
            Hook::Forward | Hook::Ingress | Hook::Egress => {}
        }
        if filter.ipv6 == Ipv6Traffic::LoopbackOnly {
            rules.push(ipv6_off());
        }
        rules.extend(behind);
        let filtered_v6 = filter.ipv6 == Ipv6Traffic::Filtered;
        if filtered_v6 && hook == Hook::Input && !filter.router_advertisements {
            rules.push(rule(vec![icmpv6(NDISC_ROUTER_ADVERTISEMENT)], Verdict::Drop, "no router advertisements"));
        }
        let judged: Vec<Direction> = directions.iter().copied().filter(|d| judges(filter, *d)).collect();
        if judged.is_empty() {
            if layered {
                rules.push(counted(vec![Match::State(State::Invalid)], Verdict::Drop, "invalid"));
                rules.extend(mid_stream(filter));
            }
        } else {
            rules.push(rule(Vec::new(), Verdict::Jump(TRACKED.to_owned()), "what belongs to flows, or to none"));
            if filtered_v6 && hook != Hook::Forward {
                let icmpv6 = vec![Match::Protocol(IPPROTO_ICMPV6)];
                let chain = format!("neighbours_{}", hook.name());
                rules.push(rule(icmpv6, Verdict::Jump(chain.clone()), "neighbour discovery"));
                self.chains.push(Chain { name: chain, base: None, rules: neighbours(filter, hook) });
            }
            if hook == Hook::Output && enforces(filter, Direction::Egress) {
                rules.push(counted(vec![Match::ForeignSource], Verdict::Drop, "not an address of the container"));
                for family in self.families.iter().copied() {
                    let source = vec![Match::Address(Side::Source, family, loopback(family))];
                    rules.push(counted(source, Verdict::Drop, "a loopback address does not leave"));
                }
            }
            for direction in &judged {
                let layers = format!("{direction} layers");
                rules.push(rule(Vec::new(), Verdict::Jump(direction.name().to_owned()), &layers));
            }
            rules.push(rule(Vec::new(), Verdict::Accept, "every layer let it pass"));
        }
        // A chain that asks layers ends in its own accept; its policy only ever sees what a future mistake lets fall.
        let base = Some(Base { hook, accepts: judged.is_empty(), devices: Vec::new(), every_device: false });
        self.chains.push(Chain { name: hook.name().to_owned(), base, rules });
    }

    fn tracked(&mut self, filter: &Filter) {
        let related = |protocol| vec![Match::State(State::Related), Match::Protocol(protocol)];
        let mut rules = vec![rule(related(IPPROTO_ICMP), Verdict::Accept, "ICMP errors of established flows")];
        if self.families.contains(&Family::V6) {
            rules.push(rule(related(IPPROTO_ICMPV6), Verdict::Accept, "ICMPv6 errors of established flows"));
        }
        if denials(filter).any(|(_, denial)| denial == Denial::Reject) {
            // nf_send_reset gives its segment the refused packet's conntrack entry (nf_ct_attach), so it is related;
            // no helper that could make other TCP related is ever assigned here. A refused local socket's comes over
            // lo from the peer's address.
            rules.push(rule(related(IPPROTO_TCP), Verdict::Accept, "resets that refuse a connection"));
        }
        rules.push(counted(vec![Match::State(State::Invalid)], Verdict::Drop, "invalid"));
        rules.extend(mid_stream(filter));
        self.chains.push(Chain { name: TRACKED.to_owned(), base: None, rules });
    }

    fn reject(&mut self) {
        let rules = vec![
            rule(vec![Match::Protocol(IPPROTO_TCP)], Verdict::RejectWithReset, "the caller fails at once"),
            rule(Vec::new(), Verdict::Reject, "the caller fails at once"),
        ];
        self.chains.push(Chain { name: REJECT.to_owned(), base: None, rules });
    }
}

/// Which address of a packet is the peer's.
pub(in crate::nft) const fn peer_side(direction: Direction) -> Side {
    match direction {
        Direction::Egress => Side::Destination,
        Direction::Ingress => Side::Source,
    }
}

/// The addresses that only ever speak to their own machine.
fn loopback(family: Family) -> AddrRange {
    match family {
        Family::V4 => AddrRange { first: 0x7f00_0000, last: 0x7fff_ffff },
        Family::V6 => AddrRange { first: 1, last: 1 },
    }
}

fn icmpv6(kind: u8) -> Match {
    Match::Icmpv6Type(kind, kind)
}

/// Neighbour discovery in its narrow form. Hop limit 255 proves of what comes in that it is from, and 1 that it ends on,
/// this link (RFC 4861, 7.1; RFC 3810, 5). Of what goes out it proves nothing: a raw socket sets any type and any hop
/// limit towards any address. So only what the kernel itself sends is exempt; a process's own goes to the layers.
/// Routers may be asked only where their answers are let in.
///
/// Multicast listener reports belong to it: a switch that snoops sends a solicitation only where a report came from
/// (RFC 4861, 7.2.1), so that without them neighbour discovery works for four minutes and then stops.
fn neighbours(filter: &Filter, hook: Hook) -> Vec<Rule> {
    let on_link = |first, last| vec![Match::Icmpv6Type(first, last), Match::HopLimit(255)];
    let accept = |matches| rule(matches, Verdict::Accept, "neighbour discovery");
    let out = hook == Hook::Output;
    let (listener, router) = if out {
        (ICMPV6_MLD2_REPORT, NDISC_ROUTER_SOLICITATION)
    } else {
        (ICMPV6_MGM_QUERY, NDISC_ROUTER_ADVERTISEMENT)
    };
    let processes = rule(vec![Match::UserSocket], Verdict::Return, "a process's own packet");
    let mut rules: Vec<Rule> = out.then_some(processes).into_iter().collect();
    rules.push(accept(on_link(NDISC_NEIGHBOUR_SOLICITATION, NDISC_NEIGHBOUR_ADVERTISEMENT)));
    rules.push(accept(vec![icmpv6(listener), Match::HopLimit(1)]));
    if filter.router_advertisements {
        rules.push(accept(on_link(router, router)));
    }
    rules
}

/// A table with its companion, both under the comment that carries their digest.
pub fn signed(table: Table, guard: Option<Table>) -> Table {
    let mut table = Table { guard: guard.map(Box::new), ..table };
    table.comment = table_comment(table.digest());
    if let Some(guard) = &mut table.guard {
        guard.comment.clone_from(&table.comment);
    }
    table
}

/// A table at the host's side, signed, with whose it is: no other table in the same place tells.
pub fn owned(table: Table, whose: &str) -> Table {
    let comment = format!("{} {whose}", table_comment(table.digest()));
    Table { comment, ..table }
}

/// The comment a table carries: who made it and a digest of what it is to be.
pub fn table_comment(digest: u64) -> String {
    format!("{TABLE} {} plan {digest:016x}", env!("CARGO_PKG_VERSION"))
}

/// Who made a table with this comment: the program and its version.
pub fn maker_of(comment: &str) -> Option<&str> {
    comment.split_once(" plan ").map(|(maker, _)| maker)
}

/// The number in the names of what is of one family.
const fn version(family: Family) -> &'static str {
    match family {
        Family::V4 => "4",
        Family::V6 => "6",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::AddrRange;
    use crate::nft::filter::{Layer, Otherwise};
    use crate::nft::ruleset::{KeyType, Kind};

    fn table(rules: usize, elements: usize) -> Table {
        let any = rule(Vec::new(), Verdict::Accept, "");
        let span = AddrRange { first: 0, last: 0 };
        // An element of two fields is one element.
        let key = vec![KeyType::Ipv4Addr, KeyType::InetService];
        let set = Set { name: "s".into(), key, kind: Kind::Interval, spans: vec![span; 2 * elements] };
        let chain = |rules| Chain { name: "c".into(), base: None, rules: vec![any.clone(); rules] };
        let chains = vec![chain(rules / 2), chain(rules - rules / 2)];
        Table { sets: vec![set], chains, ..Table::empty(TableFamily::Inet) }
    }

    #[test]
    fn established_flows_are_asked_for_first_but_behind_the_end_of_ipv6() {
        for (ipv6, places) in
            [(Ipv6Traffic::Filtered, [0, 1]), (Ipv6Traffic::Dropped, [1, 2]), (Ipv6Traffic::LoopbackOnly, [2, 0])]
        {
            let layer = Layer {
                name: "annotation",
                direction: Direction::Egress,
                otherwise: Otherwise::Deny,
                denial: Denial::Drop,
                exceptions: Vec::new(),
                entries: Vec::new(),
                origin: "test".into(),
            };
            let filter = Filter { ipv6, router_advertisements: true, layers: vec![layer], policies: Vec::new() };
            let table = build(&filter, String::new()).unwrap();
            for hook in [Hook::Output, Hook::Input] {
                let chain = table.chains.iter().find(|chain| chain.name == hook.name()).unwrap();
                let at = |wanted: &Match| chain.rules.iter().position(|rule| rule.matches.first() == Some(wanted));
                let loopback = if hook == Hook::Output { Match::OutLoopback } else { Match::InLoopback };
                let found = [at(&Match::State(State::Established)), at(&loopback)];
                assert_eq!(found, places.map(Some), "{ipv6:?} {}", hook.name());
                if ipv6 == Ipv6Traffic::LoopbackOnly {
                    assert_eq!(at(&Match::Family(Family::V6)), Some(1));
                }
            }
        }
    }

    #[test]
    fn a_table_has_a_most_rules_and_a_most_elements() {
        assert_eq!(check_size(&table(MAX_TABLE_RULES, MAX_ELEMENTS)), Ok(()));
        for (table, name) in
            [(table(MAX_TABLE_RULES + 1, 0), "(MAX_TABLE_RULES)"), (table(0, MAX_ELEMENTS + 1), "(MAX_ELEMENTS)")]
        {
            let failure = check_size(&table).unwrap_err();
            assert_eq!(failure.exit_code(), 41);
            assert!(failure.to_string().contains(name), "{failure}");
        }
    }
}
