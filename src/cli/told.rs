//! What a stage did, as the log has it: one record for each.

use std::net::IpAddr;

use crate::error::Failure;
use crate::kernel::apply::Report;
use crate::kernel::tables::Installed;
use crate::logging::{Ending, Entry, Field};
use crate::nft::ruleset::Table;
use crate::plan::Plan;
use crate::plan::uncovered::grave;

/// What was done, in words and in fields.
#[derive(Debug)]
pub(super) struct Told {
    ending: Ending,
    what: String,
    fields: Vec<(Field, String)>,
}

impl Told {
    /// Nothing but words.
    pub(super) fn done(what: &str) -> Told {
        Told { ending: Ending::Done, what: what.to_owned(), fields: Vec::new() }
    }

    /// A container that was left alone, in the host's network.
    pub(super) fn skipped(why: &str) -> Told {
        Told { ending: Ending::Skipped, what: format!("skipped, {why}"), fields: Vec::new() }
    }

    /// A container that was protected. Warnings go before.
    pub(super) fn protected(plan: &Plan, report: &Report) -> Told {
        for note in &plan.notes {
            log::warn!("container {}: {note}", plan.id);
        }
        let names = grave(&plan.not_covered);
        if let Some(names) = &names {
            log::warn!("container {}: its rules do not cover {names}; `netlatch inspect` says more", plan.id);
        }
        let (said, mut fields) = rules(plan.table(), report.table);
        let sysctls = sysctls(report);
        let what = format!("protected, {said}, {} sysctls set, lo up", report.sysctls.len());
        fields.extend(sysctls);
        fields.push((Field::Loopback, "up".to_owned()));
        fields.extend(names.map(|names| (Field::NotCovered, names)));
        Told { ending: Ending::Done, what, fields }
    }

    /// One that was looked at again at poststart.
    pub(super) fn verified(plan: &Plan, report: &Report, kept: bool) -> Told {
        for report in &report.sysctls {
            log::warn!("container {}: {} was set again to {}", plan.id, report.key, report.value);
        }
        // What differs is a failure.
        let installed = (!kept).then_some(Installed::Unchanged);
        let (said, mut fields) = rules(plan.table(), installed);
        let mut what = format!("verified, {said}, {} sysctls set again", report.sysctls.len());
        if !report.guarded.is_empty() {
            let interfaces = report.guarded.join(" ");
            what += &format!(", guarded since they came later: {interfaces}");
            fields.push((Field::Interfaces, interfaces));
        }
        fields.extend(sysctls(report));
        fields.push((Field::Loopback, "up".to_owned()));
        Told { ending: Ending::Done, what, fields }
    }

    /// A poststop that could not do its work. The runtime is not told: it could do nothing about it.
    pub(super) fn not_forgotten(failure: &Failure) -> Told {
        Told { ending: Ending::Failed, what: failure.to_string(), fields: Vec::new() }
    }

    /// And who else: its own addresses, and the containers whose sets were to be changed.
    pub(super) fn among(mut self, addresses: &[IpAddr], peers: &[String]) -> Told {
        if !addresses.is_empty() {
            let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
            self.fields.push((Field::Addresses, addresses.join(" ")));
        }
        if !peers.is_empty() {
            self.what += &format!(", told {} peers", peers.len());
            self.fields.push((Field::Peers, peers.join(" ")));
        }
        self
    }

    /// The record of a stage that exits with 0.
    pub(super) fn entry(self, id: &str) -> Entry {
        let Told { ending, what, mut fields } = self;
        fields.push((Field::ExitCode, "0".to_owned()));
        Entry { ending, message: format!("container {id}: {what}"), fields }
    }
}

/// The record of a `reload` that exits with 0, with the containers whose rules it changed.
pub(super) fn reloaded(changed: &[String]) -> Entry {
    let what =
        if changed.is_empty() { "nothing changed".to_owned() } else { format!("rules of {} changed", changed.len()) };
    let mut fields = vec![(Field::ExitCode, "0".to_owned())];
    if !changed.is_empty() {
        fields.push((Field::Peers, changed.join(" ")));
    }
    Entry { ending: Ending::Done, message: format!("reload: {what}"), fields }
}

/// The record of one that does not.
pub(super) fn failed(what: &str, failure: &Failure) -> Entry {
    let fields = vec![(Field::ExitCode, failure.exit_code().to_string())];
    Entry { ending: Ending::Failed, message: format!("{what}: {failure}"), fields }
}

fn rules(table: Option<&Table>, installed: Option<Installed>) -> (String, Vec<(Field, String)>) {
    let Some(table) = table else {
        return ("no rules of its own".to_owned(), vec![(Field::TableResult, "none".to_owned())]);
    };
    let result = match installed {
        None => {
            return ("another's rules kept".to_owned(), vec![(Field::TableResult, "kept".to_owned())]);
        }
        Some(Installed::Unchanged) => "unchanged",
        Some(Installed::Loaded) => "loaded",
        Some(Installed::Reconciled(_)) => "reconciled",
    };
    let count: usize = table.parts().flat_map(|part| &part.chains).map(|chain| chain.rules.len()).sum();
    let fields = vec![
        (Field::Table, table.comment.clone()),
        (Field::TableResult, result.to_owned()),
        (Field::Rules, count.to_string()),
    ];
    (format!("{count} rules {result}"), fields)
}

fn sysctls(report: &Report) -> Option<(Field, String)> {
    let set: Vec<String> = report.sysctls.iter().map(|one| format!("{}={}", one.key, one.value)).collect();
    (!set.is_empty()).then(|| (Field::Sysctls, set.join(" ")))
}
