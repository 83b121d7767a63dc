//! The layers of lists: what is always denied, the baseline's list, the annotation's.

use super::{
    AUDIT_SIZE, AUDIT_TIMEOUT_S, Builder, DENIED_SIZE, DENIED_TIMEOUT_S, REJECT, counted, peer_side, rule, version,
};
use super::{IPPROTO_ICMP, IPPROTO_ICMPV6};
use crate::error::{Cause, Failure};
use crate::net::{AddrRange, Direction, Family, PortRange, Transport, mask};
use crate::nft::filter::{Denial, Entry, Filter, Layer, Otherwise};
use crate::nft::layout::{MAX_BOXES, Peers, Ports, Protocol, Question, questions};
use crate::nft::ruleset::{Chain, KeyType, Kind, Match, Rule, Set, Statement, Verdict};
use crate::nft::text::comment;
use crate::nft::wire::listing::Does;
use std::collections::{BTreeMap, BTreeSet};

/// A question with the family it is asked of; `None` where one rule serves both.
pub(super) type Asked = (Option<Family>, Question);

impl Builder {
    /// The chain of a direction: what denies and lets everything else go on, the policies, a jump to each further layer,
    /// and the last layer's own rules. Returning from there is returning to the base chain, which accepts.
    pub(super) fn direction(&mut self, filter: &Filter, direction: Direction) -> Result<(), Failure> {
        let layers: Vec<&Layer> = filter.layers.iter().filter(|layer| layer.direction == direction).collect();
        let policy = filter.policies.iter().find(|policy| policy.direction == direction && !policy.is_empty());
        if layers.is_empty() && policy.is_none() {
            return Ok(());
        }
        let mut rules = Vec::new();
        let first = layers.iter().position(|layer| layer.otherwise == Otherwise::Deny).unwrap_or(layers.len());
        let (denying, listing) = layers.split_at(first);
        for layer in denying {
            rules.extend(self.among_others(layer)?);
        }
        if let Some(policy) = policy {
            rules.push(self.policies(policy)?);
        }
        if let Some((last, others)) = listing.split_last() {
            for layer in others {
                rules.extend(self.among_others(layer)?);
            }
            rules.extend(self.rules(last)?);
        }
        self.chains.push(Chain { name: direction.name().to_owned(), base: None, rules });
        Ok(())
    }

    /// What asks a layer that others follow: its rules, or where one of them returns, which here would be past those that
    /// follow, a jump to a chain of its own.
    fn among_others(&mut self, layer: &Layer) -> Result<Vec<Rule>, Failure> {
        let rules = self.rules(layer)?;
        if only_denies(layer) {
            return Ok(rules);
        }
        self.chains.push(Chain { name: chain_name(layer), base: None, rules });
        Ok(vec![rule(Vec::new(), Verdict::Jump(chain_name(layer)), &layer.origin)])
    }

    fn rules(&mut self, layer: &Layer) -> Result<Vec<Rule>, Failure> {
        let mut rules = Vec::new();
        let stem = format!("{}_except", chain_name(layer));
        for (family, question) in self.asked(&layer.exceptions, |_| true, &layer.origin)? {
            let comment = cite(&layer.exceptions, &layer.origin, &question);
            rules.push(counted(self.ask(layer.direction, &stem, family, question), Verdict::Return, &comment));
        }
        let denied = self.denied(layer);
        let denial = |matches, comment: &str| counted(matches, denied.clone(), comment);
        for deny in [true, false] {
            let stem = format!("{}_{}", chain_name(layer), if deny { "deny" } else { "allow" });
            for (family, question) in self.asked(&layer.entries, |entry| entry.deny == deny, &layer.origin)? {
                let comment = cite(&layer.entries, &layer.origin, &question);
                let matches = self.ask(layer.direction, &stem, family, question);
                rules.push(if deny { denial(matches, &comment) } else { counted(matches, Verdict::Return, &comment) });
            }
        }
        // Rules behind one that takes everything are never asked.
        if let Some(at) = rules.iter().position(|rule| rule.matches.is_empty()) {
            rules.truncate(at + 1);
        } else if layer.otherwise == Otherwise::Deny {
            rules.push(denial(Vec::new(), &format!("{}: no entry allows it", layer.origin)));
        }
        if layer.denial == Denial::Audit {
            self.audit(layer.direction, &chain_name(layer));
        }
        Ok(rules)
    }

    /// The questions to ask for those of `entries` that `chosen` takes. What every family asks alike is asked once.
    pub(super) fn asked(
        &self,
        entries: &[Entry],
        chosen: impl Fn(&Entry) -> bool,
        origin: &str,
    ) -> Result<Vec<Asked>, Failure> {
        let asked: Result<Vec<Vec<Question>>, _> =
            self.families.iter().map(|family| questions(entries, *family, &chosen)).collect();
        let Ok(asked) = asked else {
            return Err(Failure::new(
                format!("build the rules of {origin}"),
                Cause::Limit(format!("its port ranges times its addresses come to more than {MAX_BOXES} (MAX_BOXES)")),
            ));
        };
        let everywhere = |question: &Question| is_family_free(question) && asked.iter().all(|q| q.contains(question));
        let both: Vec<Question> = asked[0].iter().filter(|q| everywhere(q)).cloned().collect();
        let mut all: Vec<Asked> = both.into_iter().map(|question| (None, question)).collect();
        let common = all.len();
        for (family, questions) in self.families.iter().zip(asked) {
            let apart = questions.into_iter().filter(|q| !all[..common].iter().any(|(_, common)| common == q));
            let apart: Vec<Asked> = apart.map(|question| (Some(*family), question)).collect();
            all.extend(apart);
        }
        Ok(all)
    }

    /// The matches of one rule, with the sets it needs.
    pub(super) fn ask(
        &mut self,
        direction: Direction,
        stem: &str,
        family: Option<Family>,
        question: Question,
    ) -> Vec<Match> {
        let side = peer_side(direction);
        let mut matches = Vec::new();
        matches.extend(self.protocol(question.protocol, family));
        match question.ports {
            Ports::Any => {}
            Ports::Range(ports) => matches.push(Match::Port(ports)),
            Ports::Set(spans) => {
                let name = self.set(stem, vec![KeyType::InetService], spans);
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
            (Peers::Blocks(length, spans), Some(family)) if spans.len() == 1 => {
                let last = spans[0].first | !mask(family, length) & family.max();
                matches.push(Match::Address(side, family, AddrRange { first: spans[0].first, last }));
            }
            (Peers::Blocks(length, spans), family) => {
                let family = family.unwrap_or(Family::V4);
                let name = self.set(stem, vec![KeyType::address(family)], spans);
                matches.push(Match::BlockIn(side, family, length, name));
            }
            (Peers::Set(spans), family) => {
                let family = family.unwrap_or(Family::V4);
                let name = self.set(stem, vec![KeyType::address(family)], spans);
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
                let name = self.set(stem, key, spans);
                matches.push(Match::AddressProtocolPortIn(side, family, name));
            }
            (Peers::WithPorts(spans), family) => {
                let family = family.unwrap_or(Family::V4);
                let name = self.set(stem, vec![KeyType::address(family), KeyType::InetService], spans);
                matches.push(Match::AddressPortIn(side, family, name));
            }
        }
        matches
    }

    /// The match on a protocol, with the set it needs.
    pub(super) fn protocol(&mut self, protocol: Protocol, family: Option<Family>) -> Option<Match> {
        Some(match protocol {
            Protocol::Any => return None,
            Protocol::Icmp => Match::Protocol(match family {
                Some(Family::V6) => IPPROTO_ICMPV6,
                Some(Family::V4) | None => IPPROTO_ICMP,
            }),
            Protocol::Transports([one]) => Match::Protocol(one.number()),
            Protocol::Transports(several) => Match::ProtocolIn(self.transports(several)),
        })
    }

    /// Adds a set named after its stem, its family where it has one, and a number where that is taken.
    fn set(&mut self, stem: &str, key: Vec<KeyType>, spans: Vec<AddrRange>) -> String {
        let kind = if spans.iter().all(|span| span.first == span.last) { Kind::Hash } else { Kind::Interval };
        let family = match key.first() {
            Some(KeyType::Ipv4Addr) => "4",
            Some(KeyType::Ipv6Addr) => "6",
            Some(KeyType::InetProto | KeyType::InetService | KeyType::Mark) | None => "_ports",
        };
        let name = (1usize..)
            .map(|n| if n == 1 { format!("{stem}{family}") } else { format!("{stem}{family}_{n}") })
            .find(|name| self.sets.iter().all(|set| set.name != *name))
            .unwrap_or_default();
        self.sets.push(Set { name: name.clone(), key, kind, spans });
        name
    }

    pub(super) fn transports(&mut self, transports: &'static [Transport]) -> String {
        let name = transports.iter().map(|t| t.name()).collect::<Vec<_>>().join("_");
        if !self.transports.contains(&transports) {
            self.transports.push(transports);
            let number = |t: &Transport| {
                let n = u128::from(t.number());
                AddrRange { first: n, last: n }
            };
            let spans = transports.iter().map(number).collect();
            self.sets.push(Set { name: name.clone(), key: vec![KeyType::InetProto], kind: Kind::Hash, spans });
        }
        name
    }

    /// What a layer means by denying.
    fn denied(&self, layer: &Layer) -> Verdict {
        match (layer.denial, layer.otherwise) {
            // Back to the next layer: from a chain of its own by not returning to it, from among others' rules by returning.
            (Denial::Audit, Otherwise::Continue) => Verdict::Jump(audit_chain(&chain_name(layer))),
            (Denial::Audit, Otherwise::Deny) => Verdict::Goto(audit_chain(&chain_name(layer))),
            (Denial::Reject | Denial::Drop, _) => self.refused(layer.direction, layer.denial),
        }
    }

    /// Denying in earnest: by way of a chain that remembers it, where that is wanted.
    pub(super) fn refused(&self, direction: Direction, denial: Denial) -> Verdict {
        if self.remembers { Verdict::Goto(refusal_chain(direction, denial)) } else { refusal(denial) }
    }

    /// The chains that remember who was denied, and deny: one for each direction and each meaning, since every layer denies to
    /// the same end, and each rule costs the start some 10 µs. None that nothing leads to.
    pub(super) fn refusals(&mut self) {
        for (direction, denial) in Direction::BOTH.into_iter().flat_map(|d| [(d, Denial::Reject), (d, Denial::Drop)]) {
            let name = refusal_chain(direction, denial);
            let leads = Some(Verdict::Goto(name.clone()));
            if !self.chains.iter().flat_map(|chain| &chain.rules).any(|rule| rule.verdict == leads) {
                continue;
            }
            let kind = Kind::Dynamic { size: DENIED_SIZE, timeout_s: DENIED_TIMEOUT_S };
            let verdict = refusal(denial);
            let mut rules = self.remember_peers(direction, &format!("{direction}_denied"), kind, &verdict, "denied");
            // Where a set is full, or a packet too short for a port, the rules that remember break off.
            rules.push(rule(Vec::new(), verdict, "denied"));
            self.chains.push(Chain { name, base: None, rules });
        }
    }

    /// Remembers what would have been denied, and returns from where it was reached.
    pub(super) fn audit(&mut self, direction: Direction, layer: &str) {
        let kind = Kind::Dynamic { size: AUDIT_SIZE, timeout_s: AUDIT_TIMEOUT_S };
        let comment = "audit: would have been denied";
        let rules = self.remember_peers(direction, &format!("{layer}_seen"), kind, &Verdict::Return, comment);
        self.chains.push(Chain { name: audit_chain(layer), base: None, rules });
    }

    /// The rules that put the peer's address, the protocol and the port into a set of the packet's family, and end in
    /// `verdict`; with their sets, where these are not there yet.
    fn remember_peers(
        &mut self,
        direction: Direction,
        stem: &str,
        kind: Kind,
        verdict: &Verdict,
        comment: &str,
    ) -> Vec<Rule> {
        let side = peer_side(direction);
        let mut rules = Vec::new();
        let with_ports = self.transports(&Transport::ALL);
        for family in self.families.iter().copied() {
            let key = vec![KeyType::address(family), KeyType::InetProto, KeyType::InetService];
            let set = format!("{stem}{}", version(family));
            if self.sets.iter().all(|there| there.name != set) {
                self.sets.push(Set { name: set.clone(), key, kind, spans: Vec::new() });
            }
            let remember = |ports, matches| Rule {
                matches,
                statements: vec![Statement::Remember { side, family, ports, set: set.clone() }],
                verdict: Some(verdict.clone()),
                comment: comment.to_owned(),
            };
            rules.push(remember(true, vec![Match::ProtocolIn(with_ports.clone())]));
            rules.push(remember(false, Vec::new()));
        }
        rules
    }
}

/// The entries behind each comment that counts some (`+2 more`), by that comment as the kernel has it: their origins, in order.
///
/// # Errors
/// Those of [`build`](super::build()).
pub fn cited(filter: &Filter) -> Result<BTreeMap<String, Vec<String>>, Failure> {
    let builder = Builder::new(filter.families());
    let mut cited = BTreeMap::new();
    let mut add = |entries: &[Entry], chosen: &dyn Fn(&Entry) -> bool, origin: &str| -> Result<(), Failure> {
        let mut together: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
        for (_, question) in builder.asked(entries, chosen, origin)? {
            if question.entries.len() > 1 {
                together.entry(comment(&cite(entries, origin, &question))).or_default().extend(&question.entries);
            }
        }
        let origin = |at: u32| Some(entries.get(at as usize)?.origin.to_string());
        let origins = |all: BTreeSet<u32>| all.into_iter().filter_map(origin);
        cited.extend(together.into_iter().map(|(comment, all)| (comment, origins(all).collect())));
        Ok(())
    };
    for layer in &filter.layers {
        add(&layer.exceptions, &|_| true, &layer.origin)?;
        add(&layer.entries, &|entry| entry.deny, &layer.origin)?;
        add(&layer.entries, &|entry| !entry.deny, &layer.origin)?;
    }
    for tier in filter.policies.iter().flat_map(|policy| &policy.tiers) {
        for run in &tier.runs {
            add(&run.entries, &|_| true, &tier.origin)?;
        }
    }
    Ok(cited)
}

fn chain_name(layer: &Layer) -> String {
    format!("{}_{}", layer.direction, layer.name)
}

pub(super) fn audit_chain(layer: &str) -> String {
    format!("{layer}{AUDIT}")
}

/// Whether a layer can do nothing but deny, so that its rules may stand among others'.
fn only_denies(layer: &Layer) -> bool {
    layer.otherwise == Otherwise::Continue
        && layer.exceptions.is_empty()
        && layer.entries.iter().all(|entry| entry.deny)
}

/// What denying comes to.
fn refusal(denial: Denial) -> Verdict {
    match denial {
        Denial::Reject => Verdict::Goto(REJECT.to_owned()),
        Denial::Drop | Denial::Audit => Verdict::Drop,
    }
}

/// What a chain of this name comes to, where packets are sent to it to be refused.
pub fn refuses(chain: &str) -> Option<Does> {
    let refused = |(direction, denial)| chain == refusal_chain(direction, denial);
    let both = |direction| [(direction, Denial::Reject), (direction, Denial::Drop)];
    match chain {
        REJECT => Some(Does::Denies),
        _ if Direction::BOTH.into_iter().flat_map(both).any(refused) => Some(Does::Denies),
        _ if chain.ends_with(AUDIT) => Some(Does::WouldDeny),
        _ => None,
    }
}

const AUDIT: &str = "_audit";

fn refusal_chain(direction: Direction, denial: Denial) -> String {
    let word = match denial {
        Denial::Reject => "reject",
        Denial::Drop | Denial::Audit => "drop",
    };
    format!("{direction}_{word}")
}

/// Whether the same rule serves both families.
fn is_family_free(question: &Question) -> bool {
    question.peers == Peers::Any && question.protocol != Protocol::Icmp
}

/// What the rule's comment says: the first entries that led to it, or else `origin`.
pub(super) fn cite(entries: &[Entry], origin: &str, question: &Question) -> String {
    let first = question.entries.first().and_then(|index| entries.get(*index as usize));
    let first = first.map_or_else(|| origin.to_owned(), |entry| entry.origin.to_string());
    match question.entries.len() {
        0 | 1 => first,
        n => format!("{first} (+{} more)", n - 1),
    }
}
