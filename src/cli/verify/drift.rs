//! Where rules differ, in the operator's words: which rule is missing, which is new, with where it was written.

use std::collections::BTreeMap;

use crate::nft::ruleset::{Rule, Table};
use crate::nft::wire::listing::Listing;

/// Most rules that are named. The rest is counted.
const NAMED: usize = 20;

/// A rule as both sides say it: what it does, and its comment.
type Said = (String, String);

/// Which rules of each chain are missing in the kernel or are there beside those of `table`. Empty where there is no such
/// difference: what else differs has to be said in other words.
pub(super) fn rules(held: &Listing, table: &Table) -> Vec<String> {
    let mut said = Vec::new();
    for chain in &table.chains {
        let of_kernel = held.chains.iter().find(|other| other.name == chain.name);
        let now = of_kernel.into_iter().flat_map(|chain| &chain.rules);
        let now: Vec<Said> = now.map(|rule| (rule.text.clone(), rule.comment.clone())).collect();
        let wanted: Vec<Said> = chain.rules.iter().map(of_plan).collect();
        let missing = beyond(&wanted, &now);
        let extra = beyond(&now, &wanted);
        if missing.is_empty() && extra.is_empty() && now != wanted {
            said.push(format!("chain {}: the rules stand in another order", chain.name));
        }
        said.extend(missing.iter().map(|rule| format!("chain {}: missing: {}", chain.name, shown(rule))));
        said.extend(extra.iter().map(|rule| format!("chain {}: added: {}", chain.name, shown(rule))));
    }
    for chain in held.chains.iter().filter(|chain| !table.chains.iter().any(|other| other.name == chain.name)) {
        said.push(format!("chain {}: added, with {} rules", chain.name, chain.rules.len()));
    }
    let more = said.len().saturating_sub(NAMED);
    said.truncate(NAMED);
    if more > 0 {
        said.push(format!("and {more} more"));
    }
    said
}

/// The rule without its comment, which is the last word of its text.
fn of_plan(rule: &Rule) -> Said {
    let text = rule.to_string();
    let comment = crate::nft::text::comment(&rule.comment);
    let without = text.strip_suffix(&format!("comment \"{comment}\"")).unwrap_or(&text);
    (without.trim_end().to_owned(), comment)
}

fn shown((text, comment): &Said) -> String {
    if comment.is_empty() { text.clone() } else { format!("{text} (# {comment})") }
}

/// Those of `all` that are not in `others`, as often as they are not.
fn beyond(all: &[Said], others: &[Said]) -> Vec<Said> {
    let mut left: BTreeMap<&Said, usize> = BTreeMap::new();
    others.iter().for_each(|one| *left.entry(one).or_default() += 1);
    let mut beyond = Vec::new();
    for one in all {
        match left.get_mut(one) {
            Some(count) if *count > 0 => *count -= 1,
            Some(_) | None => beyond.push(one.clone()),
        }
    }
    beyond
}
