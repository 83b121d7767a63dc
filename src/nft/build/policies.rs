//! The layer that policies make: one chain a tier.
//!
//! ```text
//! egress          jump egress_admin
//! egress_admin    who is accepted: return; who is denied: goto egress_drop; who passes: goto egress_network
//!                 goto egress_network
//! egress_network  who is accepted: return; goto egress_drop
//! ```
//!
//! A tier is reached by goto, so returning from any of them is returning to `egress`, which asks the next layer: a policy
//! that accepts ends the tiers and skips no list. In `mode: audit` a denial remembers the packet on the same way.

use super::layers::{audit_chain, cite};
use super::{Builder, counted, peer_side, rule};
use crate::error::Failure;
use crate::net::{Direction, Family, PortRange, Service};
use crate::nft::filter::{Denial, Group, Otherwise, PolicyLayer, Ruling, Run, Tier};
use crate::nft::layout::Protocol;
use crate::nft::members::{set_name, sets};
use crate::nft::ruleset::{Chain, Match, Rule, Verdict};

/// What a packet meets in a tier.
struct Verdicts {
    accept: Verdict,
    deny: Verdict,
    pass: Verdict,
}

impl Verdicts {
    fn of(&self, ruling: Ruling) -> &Verdict {
        match ruling {
            Ruling::Accept => &self.accept,
            Ruling::Deny => &self.deny,
            Ruling::Pass => &self.pass,
        }
    }
}

impl Builder {
    /// The chains of a direction's tiers, and the rule that asks the first.
    pub(super) fn policies(&mut self, policy: &PolicyLayer) -> Result<Rule, Failure> {
        let direction = policy.direction;
        let layer = format!("{direction}_policy");
        let tiers: Vec<&Tier> = policy.tiers.iter().filter(|tier| !tier.is_empty()).collect();
        let mut first = None;
        for (index, tier) in tiers.iter().enumerate() {
            let next = tiers.get(index + 1).map(|tier| chain_name(direction, tier));
            let verdicts = Verdicts {
                accept: Verdict::Return,
                deny: match policy.denial {
                    Denial::Reject | Denial::Drop => self.refused(direction, policy.denial),
                    Denial::Audit => Verdict::Goto(audit_chain(&layer)),
                },
                pass: next.map_or(Verdict::Return, Verdict::Goto),
            };
            let name = chain_name(direction, tier);
            let rules = self.tier(direction, tier, &verdicts)?;
            first.get_or_insert_with(|| name.clone());
            self.chains.push(Chain { name, base: None, rules });
        }
        if policy.denial == Denial::Audit {
            self.audit(direction, &layer);
        }
        Ok(rule(Vec::new(), Verdict::Jump(first.unwrap_or_default()), "policies"))
    }

    fn tier(&mut self, direction: Direction, tier: &Tier, verdicts: &Verdicts) -> Result<Vec<Rule>, Failure> {
        let mut rules = Vec::new();
        for run in &tier.runs {
            self.run(direction, tier, run, verdicts, &mut rules)?;
        }
        // Rules behind one that takes everything are never asked. Their sets are there all the same: a peer that comes
        // is admitted to every set of the plan.
        if let Some(at) = rules.iter().position(|rule| rule.matches.is_empty()) {
            rules.truncate(at + 1);
            return Ok(rules);
        }
        match (tier.otherwise, &verdicts.pass) {
            // Falling off a chain's end is returning from it.
            (Otherwise::Continue, Verdict::Return) => {}
            (Otherwise::Continue, next) => rules.push(rule(Vec::new(), next.clone(), &tier.origin)),
            (Otherwise::Deny, _) => {
                rules.push(counted(Vec::new(), verdicts.deny.clone(), &format!("{}: nothing accepts it", tier.origin)));
            }
        }
        Ok(rules)
    }

    fn run(
        &mut self,
        direction: Direction,
        tier: &Tier,
        run: &Run,
        verdicts: &Verdicts,
        rules: &mut Vec<Rule>,
    ) -> Result<(), Failure> {
        let decide = |matches, comment: &str| counted(matches, verdicts.of(run.ruling).clone(), comment);
        let word = match run.ruling {
            Ruling::Accept => "accept",
            Ruling::Deny => "deny",
            Ruling::Pass => "pass",
        };
        let stem = format!("{}_{word}", chain_name(direction, tier));
        for (family, question) in self.asked(&run.entries, |_| true, &tier.origin)? {
            let comment = cite(&run.entries, &tier.origin, &question);
            let matches = self.ask(direction, &stem, family, question);
            rules.push(decide(matches, &comment));
        }
        for group in &run.groups {
            for family in self.families {
                let matches = self.group(direction, group, *family)?;
                rules.push(decide(matches, &group.origin));
            }
        }
        Ok(())
    }

    /// The matches of the rule for one family of a group, with its set.
    fn group(&mut self, direction: Direction, group: &Group, family: Family) -> Result<Vec<Match>, Failure> {
        let side = peer_side(direction);
        let name = set_name(&group.set, family);
        let with_port = group.service.is_none();
        self.sets.extend(sets(&group.set, &[family], with_port, &group.members)?);
        let (protocol, ports) = match group.service {
            None => return Ok(vec![Match::AddressProtocolPortIn(side, family, name)]),
            Some(Service::Everything) => (Protocol::Any, PortRange::ALL),
            Some(Service::Icmp) => (Protocol::Icmp, PortRange::ALL),
            Some(Service::Ports { transports, ports }) => (Protocol::Transports(transports.each()), ports),
        };
        let mut matches: Vec<Match> = self.protocol(protocol, Some(family)).into_iter().collect();
        if ports != PortRange::ALL {
            matches.push(Match::Port(ports));
        }
        matches.push(Match::AddressIn(side, family, name));
        Ok(matches)
    }
}

fn chain_name(direction: Direction, tier: &Tier) -> String {
    format!("{direction}_{}", tier.name)
}
