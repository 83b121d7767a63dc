//! How `verify` looks: at the host first, then into one namespace after the other. Nothing is changed.

use std::net::IpAddr;

use super::drift;
use super::found::{Asks, Found};
use super::print::{State, Verified};
use crate::cli::hook::host_addresses;
use crate::cli::host_side::table_of;
use crate::cli::load::{self, ConfigFile};
use crate::cli::reload::{Wanted, deciding};
use crate::error::{Cause, Failure};
use crate::kernel::apply::is_gone;
use crate::kernel::files::Trust;
use crate::kernel::link::{Links, check_loopback};
use crate::kernel::netns::{Inside, NamespaceId, Own, Target, enter};
use crate::kernel::proc::Procfs;
use crate::kernel::process::Deadline;
use crate::kernel::tables::{Differences, HostTables, Tables};
use crate::live;
use crate::nft::ruleset::Table;
use crate::oci::Requests;
use crate::plan::{Facts, Rules, rules, stands_outside, sysctl_writes};
use crate::policy::parse::Manifests;
use crate::registry::{Outside, Record, Registry, Roster, Subject};
use crate::settings::{Config, Settings};
use crate::sysctl::devconf::{Devconf, Source};

/// What everything is looked at with.
pub(super) struct Looking {
    own: Own,
    procfs: Procfs,
    config: Option<Config>,
    manifests: Manifests,
    host: Vec<IpAddr>,
    /// What `devconf: host` and `devconf: kernel-defaults` take from this host: to be had before any join.
    devconf: [Result<Source, Failure>; 2],
    tables: HostTables,
    registry: Registry,
    roster: Roster,
    deadline: Deadline,
}

impl Looking {
    /// What has to be asked of the host, before any namespace is joined.
    pub(super) fn begin(registry: Registry, file: &ConfigFile, deadline: Deadline) -> Result<Looking, Failure> {
        let config = file.read(Trust::Guarded)?;
        let manifests = load::loaded(file, Trust::Guarded)?.manifests;
        let roster = registry.who_runs(|namespace| manifests.inventory.namespace_labels(namespace))?;
        let own = Own::read()?;
        let tables = HostTables::open(&own, deadline)?;
        let (procfs, host) = (Procfs::open()?, host_addresses(&deadline)?);
        let devconf = [Devconf::Host, Devconf::KernelDefaults].map(|mode| procfs.source(mode));
        Ok(Looking { own, procfs, config, manifests, host, devconf, tables, registry, roster, deadline })
    }

    /// Whether a recorded container runs.
    pub(super) fn runs(&self, id: &str) -> bool {
        self.roster.subject_of(id).is_some_and(Subject::is_alive)
    }

    /// The network namespace of a recorded container.
    pub(super) fn netns(&self, id: &str) -> Option<NamespaceId> {
        self.roster.subject_of(id).map(|subject| subject.netns)
    }

    /// Whether it is the network of the host.
    pub(super) fn is_own(&self, netns: NamespaceId) -> bool {
        self.own.is(netns)
    }

    /// A process in a network namespace that no runtime tells of.
    pub(super) fn nobodys(&self, pid: i32, comm: &str) -> Verified {
        let state = enter(&Target::Process(pid), &self.own)
            .and_then(|inside| Ok((inside.id(), Tables::open(&inside, self.deadline)?.comment()?)));
        let (id, state) = match state {
            Ok((id, Some(comment))) => (id.to_string(), State::Unrecorded(comment)),
            Ok((id, None)) => (id.to_string(), State::Nobodys(comm.to_owned())),
            Err(failure) if is_gone(&failure) => (comm.to_owned(), State::Ended),
            // It may be nobody's container at all.
            Err(failure) => (comm.to_owned(), State::Nobodys(format!("{comm} ({})", failure.cause))),
        };
        Verified { id, source: "process", pid: Some(pid), state }
    }

    /// A container that there is a record of.
    pub(super) fn recorded(&mut self, record: &Record) -> Verified {
        let Some(subject) = self.roster.subject_of(&record.id).cloned() else {
            return Verified::of(record, State::Ended);
        };
        let state = self.compare(record, &subject);
        Verified::of(record, state.unwrap_or_else(|failure| State::Unknown(failure.to_string())))
    }

    fn compare(&mut self, record: &Record, subject: &Subject) -> Result<State, Failure> {
        let decides = deciding(&self.registry, subject)?;
        let decides = decides.as_ref().unwrap_or(record);
        let of_decider = self.rules(decides, subject)?;
        let own = if decides.id == record.id { of_decider.clone() } else { self.rules(record, subject)? };
        let settings = self.settings(record)?;
        let [host, defaults] = &self.devconf;
        let devconf = match settings.devconf.value {
            Devconf::Leave => Source::Leave,
            Devconf::Host => host.clone()?,
            Devconf::KernelDefaults => defaults.clone()?,
        };
        let facts = Facts { devconf, ..Facts::default() };
        let writes = sysctl_writes(&settings, &facts)?;
        let mut details = match &record.outside {
            Some(outside) => self.at_the_host(outside, &own)?,
            None => Vec::new(),
        };

        let Some(inside) = subject.visit(&self.own)? else { return Ok(State::Ended) };
        let mut tables = Tables::open(&inside, self.deadline)?;
        let (held, recorded) = (tables.comment()?, decides.table.as_deref());
        match (held.as_deref(), recorded) {
            (None, Some(_)) => details.push("the rules are gone: there is no table inet netlatch".to_owned()),
            (Some(held), None) => details.push(format!("there is a table ({held}), and nothing asked for one")),
            (Some(held), Some(recorded)) if held != recorded => {
                details.push(format!("there is another table: {held}, and {recorded} was loaded"));
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
        details.extend(self.loopback(&inside)?);
        let today = of_decider.table.as_ref().map(|table| table.comment.as_str());
        if today != recorded {
            let (recorded, today) = (recorded.map(str::to_owned), today.map(str::to_owned));
            return Ok(State::Changed { recorded, today, details });
        }
        if let (Some(table), Some(_)) = (&of_decider.table, &held) {
            details.extend(differences(&mut tables, table)?);
        }
        details.extend(self.procfs.verify(&inside, &writes)?.iter().map(|drift| format!("sysctl {drift}")));
        Ok(match (details.is_empty(), recorded) {
            (true, Some(_)) => State::AsRecorded,
            (true, None) => State::NoRules,
            (false, _) => State::Drift(details),
        })
    }

    fn settings(&self, record: &Record) -> Result<Settings, Failure> {
        Settings::decide(self.config.clone(), Requests::parse(&record.annotations)?)
    }

    /// The rules that a start would load today. The host's addresses are those of then, where there are no policies: these
    /// follow the host.
    fn rules(&self, record: &Record, subject: &Subject) -> Result<Rules, Failure> {
        if self.manifests.policies.is_empty() {
            let facts = Facts { host: record.host.clone(), node: Vec::new(), devconf: Source::Leave };
            return rules(&self.settings(record)?, &facts, None);
        }
        let elsewhere = self.manifests.inventory.peers();
        let pods = live::holders(&self.roster, &elsewhere);
        let world = live::world(&self.roster, &self.manifests.inventory);
        let wanted = Wanted { config: self.config.clone(), manifests: &self.manifests, host: self.host.clone() };
        wanted.rules(subject, record, &pods, &world).map(|(rules, _)| rules)
    }

    /// Where the table at the host's side differs from what it has to be.
    fn at_the_host(&mut self, outside: &Outside, rules: &Rules) -> Result<Vec<String>, Failure> {
        let filter = rules.filter.as_ref().map(stands_outside).transpose()?;
        let Some(table) = filter.map_or(Ok(None), |filter| table_of(filter, outside))? else { return Ok(Vec::new()) };
        if self.tables.comment(&outside.table)?.is_none() {
            return Ok(vec![format!("at the host's side: table netdev {} is gone", outside.table)]);
        }
        match self.tables.verify(&table) {
            Ok(()) => Ok(Vec::new()),
            Err(Failure { cause: Cause::ReadBack(said), .. }) => Ok(vec![format!("at the host's side: {said}")]),
            Err(failure) => Err(failure),
        }
    }

    fn loopback(&self, inside: &Inside) -> Result<Option<String>, Failure> {
        let found = Links::open(inside)?.loopback(&self.deadline)?;
        Ok(check_loopback(&found).err().map(|failure| failure.cause.to_string()))
    }

    /// A container that runs and that there is no record of. `for_all` is the hook file that is meant for every container of
    /// podman's and CRI-O's.
    pub(super) fn unrecorded(&self, found: &Found, for_all: Option<&str>) -> Verified {
        let state = self.stranger(found, for_all);
        let state = match state {
            Ok(state) => state,
            Err(failure) if is_gone(&failure) => State::Ended,
            Err(failure) => State::Unknown(failure.to_string()),
        };
        Verified { id: found.id.clone(), source: found.source, pid: Some(found.pid), state }
    }

    fn stranger(&self, found: &Found, for_all: Option<&str>) -> Result<State, Failure> {
        let asks = found.asks.clone().unwrap_or_default();
        let inside = match enter(&Target::Process(found.pid), &self.own) {
            Ok(inside) => inside,
            Err(Failure { cause: Cause::HostNamespace(_), .. }) if asks.by_annotation => {
                return Ok(State::Unprotected(
                    "it has annotations of netlatch's, and is on the host's network".to_owned(),
                ));
            }
            Err(Failure { cause: Cause::HostNamespace(_), .. }) => return Ok(State::HostNetwork),
            Err(failure) => return Err(failure),
        };
        let comment = Tables::open(&inside, self.deadline)?.comment()?;
        let neighbour = self.roster.find(inside.id()).and_then(|subject| subject.containers.first());
        Ok(match (comment, neighbour, reason(&asks, found, for_all)) {
            (Some(_), Some(neighbour), _) => State::Shares(neighbour.id.clone()),
            (Some(comment), None, _) => State::Unrecorded(comment),
            (None, _, _) if asks.sandbox => State::Sandbox,
            (None, _, Some(why)) => State::Unprotected(why),
            (None, _, None) => State::Without(found.asks.as_ref().err().cloned()),
        })
    }
}

/// Why a container should have come through the hook.
fn reason(asks: &Asks, found: &Found, for_all: Option<&str>) -> Option<String> {
    match (asks.by_hook, asks.by_annotation, for_all) {
        (true, _, _) => Some("its config.json names the hook, and it was not called, or its record is gone".to_owned()),
        (false, true, _) => Some("it has annotations of netlatch's, and its config.json has no hook".to_owned()),
        (false, false, Some(file)) if found.source == "storage" => {
            Some(format!("{file} is for every container, and its config.json has no hook: it was started without"))
        }
        (false, false, _) => None,
    }
}

/// Where the kernel's table and its guard differ from `table`. What can be said rule by rule is.
fn differences(tables: &mut Tables<'_>, table: &Table) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    for part in table.parts() {
        let Differences { rules, guard } = tables.compare(&Table { guard: None, ..part.clone() })?;
        let of_part = [rules, guard].concat();
        if of_part.is_empty() {
            continue;
        }
        let is_guard = table.guard.as_deref() == Some(part);
        let by_rule = match tables.listing()? {
            Some(listing) if !is_guard => drift::rules(&listing, part),
            Some(_) | None => Vec::new(),
        };
        // "chain egress has 5 rules where 4 were loaded" says nothing that the rules themselves do not.
        let said_by_rule =
            |said: &String| !by_rule.is_empty() && said.starts_with("chain ") && said.contains(" rules where ");
        let prefix = if is_guard { "guard against packet sockets: " } else { "" };
        found.extend(of_part.iter().filter(|said| !said_by_rule(said)).map(|said| format!("{prefix}{said}")));
        found.extend(by_rule);
    }
    Ok(found)
}
