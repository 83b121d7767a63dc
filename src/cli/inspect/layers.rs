//! What each layer of a container's rules let through and denied, told from the kernel's listing alone: the rules carry where
//! they were written, and the chains are named after the layers (see [`build`](crate::nft::build)).

use std::collections::BTreeMap;

use crate::net::Direction;
use crate::nft::wire::listing::{Counted, Does, ListedChain, ListedRule, Listing};

/// A layer with what came of its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LayerNow {
    /// Which packets it judges; `None` for those that no layer is asked about.
    pub(super) direction: Option<Direction>,
    pub(super) kind: Kind,
    /// In their order.
    pub(super) rules: Vec<RuleNow>,
}

/// The layers, in the order in which they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// No layer: what is dropped before any is asked.
    Unasked,
    AlwaysDenied,
    Services,
    AdminTier,
    NetworkPolicies,
    BaselineTier,
    Baseline,
    Annotation,
}

impl Kind {
    const TIERS: [(&'static str, Kind); 6] = [
        ("always", Kind::AlwaysDenied),
        ("service", Kind::Services),
        ("admin", Kind::AdminTier),
        ("network", Kind::NetworkPolicies),
        ("default", Kind::BaselineTier),
        ("baseline", Kind::Baseline),
    ];

    /// For programs.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Kind::Unasked => "unasked",
            Kind::AlwaysDenied => "always-denied",
            Kind::Services => "services",
            Kind::AdminTier => "admin-tier",
            Kind::NetworkPolicies => "network-policies",
            Kind::BaselineTier => "baseline-tier",
            Kind::Baseline => "baseline",
            Kind::Annotation => "annotation",
        }
    }

    /// For people.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Kind::Unasked => "dropped before any list or policy is asked",
            Kind::AlwaysDenied => "groups that are always denied",
            Kind::Services => "services of the policies",
            Kind::AdminTier => "policies, Admin tier",
            Kind::NetworkPolicies => "network policies",
            Kind::BaselineTier => "policies, Baseline tier",
            Kind::Baseline => "the admin's list",
            Kind::Annotation => "the container's own list",
        }
    }
}

/// A rule in the operator's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RuleNow {
    /// What was written, or why the rule is there.
    pub(super) entry: String,
    /// Where that was; empty where the entry says it.
    pub(super) from: String,
    /// Every entry that became this rule, where there are several and they are known.
    pub(super) entries: Vec<String>,
    pub(super) does: Does,
    pub(super) counted: Counted,
}

impl RuleNow {
    /// A comment is `WHERE: WHAT` of a list, and of a policy both in one.
    fn of(rule: &ListedRule, counted: Counted, cited: &BTreeMap<String, Vec<String>>) -> RuleNow {
        let (from, entry) = rule.comment.rsplit_once(": ").unwrap_or(("", &rule.comment));
        let entries = cited.get(&rule.comment).into_iter().flatten();
        // Without where they were written, where that is the same.
        let brief = |origin: &String| match origin.strip_prefix(from).and_then(|rest| rest.strip_prefix(": ")) {
            Some(entry) => entry.to_owned(),
            None => origin.clone(),
        };
        let entries = entries.map(brief).collect();
        RuleNow { entry: entry.to_owned(), from: from.to_owned(), entries, does: rule.does, counted }
    }
}

impl LayerNow {
    /// What its rules let through, each for itself.
    pub(super) fn allowed(&self) -> Counted {
        self.rules.iter().filter(|rule| rule.does == Does::Allows).map(|rule| rule.counted).sum()
    }

    /// What it denied, or would have denied in audit.
    pub(super) fn denied(&self) -> Counted {
        let denying = self.rules.iter().filter(|rule| matches!(rule.does, Does::Denies | Does::WouldDeny));
        denying.map(|rule| rule.counted).sum()
    }
}

/// Every layer that has rules that count, egress first, and last what no layer is asked about.
pub(super) fn layers(listing: &Listing, cited: &BTreeMap<String, Vec<String>>) -> Vec<LayerNow> {
    let mut found: Vec<LayerNow> = Vec::new();
    for chain in &listing.chains {
        for rule in &chain.rules {
            let Some(counted) = rule.counted else { continue };
            let (direction, kind) = layer_of(chain, rule);
            let rule = RuleNow::of(rule, counted, cited);
            match found.iter_mut().find(|layer| (layer.direction, layer.kind) == (direction, kind)) {
                Some(layer) => layer.add(rule),
                None => found.push(LayerNow { direction, kind, rules: vec![rule] }),
            }
        }
    }
    found.sort_by_key(|layer| (layer.direction.is_none(), layer.direction, layer.kind));
    found
}

impl LayerNow {
    /// The two families of one entry are two rules, and one to whoever wrote it.
    fn add(&mut self, rule: RuleNow) {
        let same =
            |other: &&mut RuleNow| (&other.entry, &other.from, other.does) == (&rule.entry, &rule.from, rule.does);
        match self.rules.iter_mut().find(same) {
            Some(other) => other.counted = [other.counted, rule.counted].into_iter().sum(),
            None => self.rules.push(rule),
        }
    }
}

fn layer_of(chain: &ListedChain, rule: &ListedRule) -> (Option<Direction>, Kind) {
    for direction in Direction::BOTH {
        match chain.name.strip_prefix(direction.name()) {
            // Where nothing but a list or two stand in the way they have no chains of their own.
            Some("") => return (Some(direction), in_line(rule)),
            Some(rest) => {
                let tier = Kind::TIERS.iter().find(|(name, _)| rest.strip_prefix('_') == Some(name));
                if let Some((_, kind)) = tier {
                    return (Some(direction), *kind);
                }
            }
            None => {}
        }
    }
    (None, Kind::Unasked)
}

/// Of what stands in a direction's own chain: what is always denied says so, a list says whose it is.
fn in_line(rule: &ListedRule) -> Kind {
    let from = rule.comment.rsplit_once(": ").map_or("", |(from, _)| from);
    match from {
        _ if from.rsplit(' ').next().is_some_and(|at| at.starts_with("always-denied")) => Kind::AlwaysDenied,
        _ if from.starts_with("annotation ") => Kind::Annotation,
        _ => Kind::Baseline,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(name: &str, rules: &[(&str, Does, u64)]) -> ListedChain {
        let rule = |(comment, does, packets): &(&str, Does, u64)| ListedRule {
            text: "whatever".to_owned(),
            comment: (*comment).to_owned(),
            counted: Some(Counted { packets: *packets, bytes: packets * 60 }),
            does: *does,
        };
        ListedChain { name: name.to_owned(), base: None, rules: rules.iter().map(rule).collect() }
    }

    #[test]
    fn rules_are_told_by_their_layer_and_by_who_wrote_them() {
        use Does::{Allows, Denies};
        let uncounted =
            ListedRule { text: "jump".into(), comment: "policies".into(), counted: None, does: Does::GoesOn };
        let mut egress = chain(
            "egress",
            &[
                ("/etc/netlatch/config.yaml:4 always-denied[0]: @metadata", Denies, 3),
                ("annotation io.netlatch.egress: tcp/10.2.0.0/16:5432", Allows, 4),
                ("annotation io.netlatch.egress: tcp/10.2.0.0/16:5432", Allows, 1),
                ("annotation io.netlatch.egress: no entry allows it", Denies, 2),
            ],
        );
        egress.rules.insert(1, uncounted);
        let chains = vec![
            chain("egress_network", &[("NetworkPolicy shop/db db.yaml:3 spec.egress[0]", Allows, 9)]),
            chain("egress_baseline", &[("/etc/netlatch/config.yaml:2 egress[0]: 10.0.0.0/8", Allows, 5)]),
            egress,
            chain("ingress", &[("/etc/netlatch/config.yaml:9 ingress: no entry allows it", Denies, 1)]),
            chain("tracked", &[("invalid", Denies, 7)]),
        ];
        let more = "annotation io.netlatch.egress: tcp/10.2.0.0/16:5432".to_owned();
        let all =
            ["annotation io.netlatch.egress: tcp/10.2.0.0/16:5432", "c.yaml:1: icmp/10.2.0.0/16"].map(str::to_owned);
        let cited = BTreeMap::from([(more, all.to_vec())]);
        let layers = layers(&Listing { chains, ..Listing::default() }, &cited);
        let kinds: Vec<_> = layers.iter().map(|layer| (layer.direction, layer.kind)).collect();
        let (out, into) = (Some(Direction::Egress), Some(Direction::Ingress));
        assert_eq!(
            kinds,
            [
                (out, Kind::AlwaysDenied),
                (out, Kind::NetworkPolicies),
                (out, Kind::Baseline),
                (out, Kind::Annotation),
                (into, Kind::Baseline),
                (None, Kind::Unasked),
            ]
        );
        let own = &layers[3];
        assert_eq!((own.allowed().packets, own.denied().packets), (5, 2));
        let said: Vec<_> = own.rules.iter().map(|rule| (rule.entry.as_str(), rule.from.as_str())).collect();
        let from = "annotation io.netlatch.egress";
        assert_eq!(said, [("tcp/10.2.0.0/16:5432", from), ("no entry allows it", from)]);
        assert_eq!(own.rules[0].entries, ["tcp/10.2.0.0/16:5432", "c.yaml:1: icmp/10.2.0.0/16"]);
        assert_eq!((layers[1].rules[0].from.as_str(), layers[5].rules[0].entry.as_str()), ("", "invalid"));
    }
}
