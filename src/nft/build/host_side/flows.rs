//! Which flows and fragments are remembered, and what that lets pass.
//!
//! What passes in one direction is remembered only where the other one is judged: nothing else would ask for it. A flow is
//! remembered in two steps. Who begins it alone, with made-up addresses too, has it remembered for a minute at a time, in a set of
//! such flows (`begun`). With the first answer it goes to the set of those that have one (`flows`), where no lack of
//! room among the others can reach it. What finds no room passes all the same, for that was decided; its answer is then judged like
//! anything else. The container's SYN with ACK or RST is no answer: those come of any SYN.

use std::net::IpAddr;

use super::{all_of, opposite, own};
use crate::net::{AddrRange, Direction, Family, PortRange, Transport, bits_of};
use crate::nft::build::{Builder, counted, judges, peer_side, rule, version};
use crate::nft::filter::Filter;
use crate::nft::ruleset::{Chain, KeyType, Kind, Match, Rule, Set, Side, Statement, Verdict};

/// How many flows of a family and direction are remembered at once: those with an answer, and those without. The kernel's own
/// default is of this order (`nf_conntrack_max`, 262,144 on a machine with more than 4 GiB).
const FLOWS: u32 = 262_144;
const BEGUN: u32 = 131_072;
/// How many packets in fragments.
const FRAGMENTS: u32 = 4096;
/// How long, in seconds.
const BEGUN_S: u32 = 60;
const TCP_S: u32 = 7200;
const OTHERS_S: u32 = 180;
const ENDING_S: u32 = 60;
/// `net.ipv4.ipfrag_time`.
const FRAGMENTS_S: u32 = 30;

/// The sets of a direction's flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Without an answer yet.
    Begun,
    /// With one.
    Answered,
}

impl Stage {
    pub(super) const ALL: [Stage; 2] = [Stage::Answered, Stage::Begun];

    /// The set of such flows that were begun in a direction.
    pub(super) fn set(self, direction: Direction, family: Family) -> String {
        let word = match self {
            Stage::Begun => "begun",
            Stage::Answered => "flows",
        };
        format!("{direction}_{word}{}", version(family))
    }

    const fn size(self) -> u32 {
        match self {
            Stage::Begun => BEGUN,
            Stage::Answered => FLOWS,
        }
    }
}

/// A direction and family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) direction: Direction,
    pub(super) family: Family,
    /// Whether a layer judges what goes this way.
    pub(super) judged: bool,
    /// Whether it does the other way, so that what is let through here has to be remembered.
    pub(super) answered: bool,
}

impl Way {
    fn side(&self) -> Side {
        peer_side(self.direction)
    }

    fn fragments(&self) -> String {
        format!("{}_fragments{}", self.direction, version(self.family))
    }

    pub(super) fn later_fragments(&self) -> [Rule; 2] {
        let later = || Match::LaterFragment(self.family);
        let known = Match::KnownFragment(self.side(), self.family, self.fragments());
        [
            rule(vec![later(), known], Verdict::Accept, "a fragment of what was let through"),
            counted(vec![later()], Verdict::Drop, "a fragment of nothing"),
        ]
    }

    /// Lets the other fragments of a packet pass that passes itself.
    fn follow(&self, more: Vec<Match>) -> Option<Rule> {
        let remember = Statement::RememberFragment(self.side(), self.family, self.fragments());
        let first = std::iter::once(Match::MoreFragments(self.family)).chain(more).collect();
        self.judged.then(|| all_of(vec![remember], first, None, "its other fragments follow"))
    }

    fn known(&self, ports: bool, set: String) -> Match {
        Match::KnownFlow { side: self.side(), family: self.family, ports, set }
    }

    fn remember(&self, ports: bool, set: String, timeout_s: u32) -> Statement {
        Statement::RememberFlow { side: self.side(), family: self.family, ports, set, timeout_s }
    }
}

fn tcp() -> Match {
    Match::Protocol(Transport::Tcp.number())
}

/// A comparison that every port stands, but none that cannot be read.
fn readable() -> Match {
    Match::Port(PortRange::ALL)
}

impl Builder {
    /// The set of the container's own addresses.
    pub(super) fn own_addresses(&mut self, family: Family, addresses: &[IpAddr]) {
        let mut spans: Vec<AddrRange> = addresses
            .iter()
            .filter(|address| Family::of(**address) == family)
            .map(|address| AddrRange { first: bits_of(*address), last: bits_of(*address) })
            .collect();
        spans.sort_unstable_by_key(|span| span.first);
        spans.dedup();
        // A hash without an element has no size to declare, and would be one of those whose members come and go.
        let kind = if spans.is_empty() { Kind::Interval } else { Kind::Hash };
        self.sets.push(Set { name: own(family), key: vec![KeyType::address(family)], kind, spans });
    }

    /// The sets of what is remembered of a direction.
    pub(super) fn remembering(&mut self, filter: &Filter, direction: Direction, family: Family) {
        let address = KeyType::address(family);
        if judges(filter, opposite(direction)) {
            for stage in Stage::ALL {
                let key = vec![address, KeyType::InetProto, KeyType::InetService, KeyType::InetService];
                self.dynamic(stage.set(direction, family), key, stage.size(), OTHERS_S);
            }
        }
        if judges(filter, direction) {
            let id = match family {
                Family::V4 => KeyType::InetService,
                Family::V6 => KeyType::Mark,
            };
            let way = Way { direction, family, judged: true, answered: false };
            self.dynamic(way.fragments(), vec![address, id], FRAGMENTS, FRAGMENTS_S);
        }
        if (direction, family) == (Direction::Egress, Family::V6) && judges(filter, direction) {
            self.dynamic(super::neighbours::NEIGHBOURS.to_owned(), vec![address], FRAGMENTS, OTHERS_S);
        }
    }

    fn dynamic(&mut self, name: String, key: Vec<KeyType>, size: u32, timeout_s: u32) {
        self.sets.push(Set { name, key, kind: Kind::Dynamic { size, timeout_s }, spans: Vec::new() });
    }

    /// What belongs to a flow that was begun the other way. `chain` is the name of the caller's.
    pub(super) fn answers(&mut self, way: &Way, chain: &str) -> Vec<Rule> {
        if !way.judged {
            return Vec::new();
        }
        let set = |stage: Stage| stage.set(opposite(way.direction), way.family);
        let ports = self.transports(&Transport::ALL);
        let (reply, answer) = (format!("{chain}_reply"), format!("{chain}_answer"));
        let mut rules = Vec::new();
        for (with_ports, protocol) in [(true, Some(Match::ProtocolIn(ports.clone()))), (false, None)] {
            for (stage, to) in [(Stage::Answered, &reply), (Stage::Begun, &answer)] {
                let matches = protocol.iter().cloned().chain([way.known(with_ports, set(stage))]).collect();
                rules.push(rule(matches, Verdict::Goto(to.clone()), "a reply to what was let through"));
            }
        }
        let passes = || Verdict::Goto(reply.clone());
        let moves = |matches, with_ports, timeout_s| {
            let forget = Statement::ForgetFlow {
                side: way.side(),
                family: way.family,
                ports: with_ports,
                set: set(Stage::Begun),
            };
            let statements = vec![way.remember(with_ports, set(Stage::Answered), timeout_s), forget];
            all_of(statements, matches, Some(passes()), "its first answer")
        };
        // A peer's SYN with ACK is: nobody but the container has begun that flow.
        let none = match way.direction {
            Direction::Egress => Match::TcpOpensOrResets,
            Direction::Ingress => Match::TcpEnds,
        };
        let answers = vec![
            rule(vec![none], passes(), "no answer yet"),
            moves(vec![tcp()], true, TCP_S),
            moves(vec![Match::ProtocolIn(ports.clone())], true, OTHERS_S),
            rule(vec![Match::ProtocolIn(ports)], passes(), "no room among those with an answer"),
            moves(Vec::new(), false, OTHERS_S),
            rule(Vec::new(), passes(), "no room among those with an answer"),
        ];
        self.chains.push(Chain { name: answer, base: None, rules: answers });
        let accept = rule(Vec::new(), Verdict::Accept, "a reply to what was let through");
        let replies = way.follow(Vec::new()).into_iter().chain([accept]).collect();
        self.chains.push(Chain { name: reply, base: None, rules: replies });
        rules
    }

    /// What every layer has let pass, at the end of `chain`.
    pub(super) fn passes(&mut self, way: &Way, chain: &str) -> Vec<Rule> {
        const PASSED: &str = "every layer let it pass";
        const NO_PORTS: &str = "ports that cannot be read";
        let accept = |matches, comment| rule(matches, Verdict::Accept, comment);
        if !way.judged && !way.answered {
            return vec![accept(Vec::new(), "nothing judges it, either way")];
        }
        let ports = self.transports(&Transport::ALL);
        let with_ports = || Match::ProtocolIn(ports.clone());
        if !way.answered {
            let mut rules: Vec<Rule> = way.follow(vec![with_ports(), readable()]).into_iter().collect();
            rules.push(accept(vec![with_ports(), readable()], PASSED));
            rules.push(counted(vec![with_ports()], Verdict::Drop, NO_PORTS));
            rules.extend(way.follow(Vec::new()));
            rules.push(accept(Vec::new(), PASSED));
            return rules;
        }
        let set = |stage: Stage| stage.set(way.direction, way.family);
        let known = |ports| way.known(ports, set(Stage::Answered));
        let goes_on = |matches, ports, timeout_s| {
            let remember = way.remember(ports, set(Stage::Answered), timeout_s);
            all_of(vec![remember], matches, Some(Verdict::Accept), PASSED)
        };
        let begins = |ports| {
            let remember = way.remember(ports, set(Stage::Begun), BEGUN_S);
            all_of(vec![remember], Vec::new(), Some(Verdict::Accept), PASSED)
        };
        const NO_ROOM: &str = "no room: what comes of it is judged like anything else";
        let mut rules: Vec<Rule> = way.follow(vec![readable()]).into_iter().collect();
        rules.extend([
            goes_on(vec![Match::TcpEnds, known(true)], true, ENDING_S),
            goes_on(vec![tcp(), known(true)], true, TCP_S),
            goes_on(vec![known(true)], true, OTHERS_S),
            // An answer to a SYN, or to nothing: for who sends many from made-up addresses.
            accept(vec![Match::MidStream, Match::TcpOpensOrResets, readable()], "begins no flow"),
            begins(true),
            accept(vec![readable()], NO_ROOM),
            counted(Vec::new(), Verdict::Drop, NO_PORTS),
        ]);
        let of_ports = format!("{chain}_ports");
        let mut portless = vec![rule(vec![with_ports()], Verdict::Goto(of_ports.clone()), "it has ports")];
        self.chains.push(Chain { name: of_ports, base: None, rules });
        portless.extend(way.follow(Vec::new()));
        portless.extend([goes_on(vec![known(false)], false, OTHERS_S), begins(false), accept(Vec::new(), NO_ROOM)]);
        portless
    }
}
