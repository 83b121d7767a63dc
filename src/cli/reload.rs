//! `netlatch reload`: brings the rules of running containers about anew, after policies or the configuration changed.
//!
//! Everything is read and planned before the first rule is touched, so a mistake anywhere changes nothing. Then each
//! container's table is replaced in one batch. What it leaves alone is what only a start can set: sysctls and `lo`.
//!
//! **Established flows are judged anew** where rules changed: those that the new rules would not let begin lose their
//! connection tracking entries, so that their next packet is judged as a first one. TCP that begins in its middle is
//! refused whichever side it comes from; see [`rejudge`].

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::hook::host_addresses;
use super::host_side::{Reloaded, Reloading};
use super::load::{self, ConfigFile, Loaded};
use super::peers::Peers;
use super::told::{failed, reloaded};
use super::{Outcome, ended_with, print};
use crate::error::Failure;
use crate::kernel::capability;
use crate::kernel::conntrack::rejudge;
use crate::kernel::files::Trust;
use crate::kernel::link::addresses_here;
use crate::kernel::netns::Own;
use crate::kernel::proc::Procfs;
use crate::kernel::process::{self, Deadline};
use crate::kernel::socket::Closing;
use crate::kernel::tables::{Installed, Tables};
use crate::live;
use crate::logging;
use crate::oci::Requests;
use crate::plan::{Cluster, Facts, Rules, needs_host_addresses, rules, would_start};
use crate::policy::lookup::World;
use crate::policy::parse::Manifests;
use crate::policy::watch::{Holders, Identity};
use crate::printable;
use crate::registry::{Container, Record, Records, Registry, Roster, Shared, Subject};
use crate::settings::{Config, Settings};
use crate::sysctl::devconf::Source;

/// How long the whole may take: a thousand containers need some seconds.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(120);

/// What reloading works from: read once, before anything is changed.
pub(super) struct Wanted<'a> {
    pub(super) config: Option<Config>,
    pub(super) manifests: &'a Manifests,
    /// This host's addresses.
    pub(super) host: Vec<IpAddr>,
}

impl Wanted<'_> {
    /// What is settled for a recorded container.
    pub(super) fn settings(&self, record: &Record) -> Result<Settings, Failure> {
        Settings::decide(self.config.clone(), Requests::parse(&record.annotations)?)
    }

    /// The rules that a subject's containers would get if they started now, and the host's addresses where these name them.
    pub(super) fn rules(
        &self,
        subject: &Subject,
        record: &Record,
        pods: &Holders<'_>,
        world: &World,
    ) -> Result<(Rules, Vec<IpAddr>), Failure> {
        let settings = self.settings(record)?;
        let named = if needs_host_addresses(&settings) { self.host.clone() } else { Vec::new() };
        let facts = Facts { host: named, node: self.host.clone(), devconf: Source::Leave };
        let cluster = Cluster {
            policies: &self.manifests.policies,
            identity: &subject.identity,
            pods,
            nodes: &self.manifests.inventory.nodes,
            world,
            subject: &live::pod(subject),
        };
        Ok((rules(&settings, &facts, Some(&cluster))?, facts.host))
    }

    /// Whether a container that runs would be let start today.
    fn would_start(&self, record: &Record) -> Result<(), Failure> {
        let bundle = record.bundle.as_deref().map_or(Ok(None), load::bundle_in);
        let settings = self.settings(record)?;
        let outside = record.outside.is_some();
        bundle.and_then(|bundle| would_start(bundle.as_ref(), &settings, outside)).map_err(|failure| {
            Failure::new(format!("vouch for container {}, which would not start today", record.id), failure.cause)
        })
    }
}

/// The record that decides about a subject's rules: of the containers that asked for any, the last; else any.
pub(super) fn deciding(registry: &Registry, subject: &Subject) -> Result<Option<Record>, Failure> {
    let mut records = Vec::new();
    for container in &subject.containers {
        records.extend(registry.look_up(&container.id)?);
    }
    Ok(records.into_iter().max_by_key(|record| (record.explicit, record.recorded_ms)))
}

pub(super) fn run(config: Option<PathBuf>, run_dir: &Path) -> Result<Outcome, Failure> {
    logging::install(run_dir, "reload");
    let mut changed = Vec::new();
    let result = reload(config, run_dir, &mut changed);
    logging::tell(&result.as_ref().map_or_else(|failure| failed("reload", failure), |_| reloaded(&changed)));
    result
}

fn reload(config: Option<PathBuf>, run_dir: &Path, changed: &mut Vec<String>) -> Result<Outcome, Failure> {
    let deadline = Deadline::after(DEADLINE);
    process::lock_down()?;
    capability::require(&capability::REQUIRED, "reload the rules of running containers")?;
    let file = ConfigFile::new(config);
    let config = file.read(Trust::Guarded)?;
    let Loaded { manifests, warnings } = load::loaded(&file, Trust::Guarded)?;
    for warning in warnings {
        print(&format!("{warning} (warning)\n"))?;
    }
    // Proves that /proc/sys is one, as a start does, before namespaces are joined.
    Procfs::open()?;
    let wanted = Wanted { config, manifests: &manifests, host: host_addresses(&deadline)? };
    let own = Own::read()?;
    let mut host = Reloading::open(&own, deadline)?;
    let registry = Registry::at(run_dir);
    let Records { read, damaged } = registry.records()?;
    if read.is_empty() && !registry.roster_exists() {
        registry.none_damaged(&damaged)?;
        return print("no container runs under netlatch\n").map(|()| Outcome::Done);
    }
    let mut peers = Peers::meet(&registry, None, &manifests.inventory, |_| true, None, &deadline)?;
    peers.ask_addresses(&own, None);
    for subject in &mut peers.roster.subjects {
        let labels = |of: &Identity| manifests.inventory.namespace_labels(&of.namespace);
        let is_as_before = |container: &Container| container.identity.namespace_labels == labels(&container.identity);
        if subject.containers.iter().all(is_as_before) {
            continue;
        }
        let subject = Rc::make_mut(subject);
        for container in &mut subject.containers {
            let namespace_labels = labels(&container.identity);
            container.identity = Shared::new(Identity { namespace_labels, ..(*container.identity).clone() });
        }
        subject.name();
    }

    let planned = plan_all(&registry, &wanted, &peers.roster)?;
    let again = peers.unsettled || peers.roster.subjects.iter().any(|subject| subject.behind);
    for Planned { index, record, rules, host, .. } in &planned {
        let subject = Rc::make_mut(&mut peers.roster.subjects[*index]);
        subject.table = rules.table.as_ref().map(|table| Shared::new(table.comment.clone()));
        subject.watch = (!rules.watch.is_empty()).then(|| Shared::new(rules.watch.clone()));
        subject.behind = false;
        // The records first: the roster is made from them should this be interrupted.
        for container in subject.containers.iter().filter(|container| container.id != record.id) {
            let labels = Some(container.identity.namespace_labels.clone());
            if let Some(own) = registry.record(&container.id).filter(|own| own.namespace_labels != labels) {
                registry.put(&Record { namespace_labels: labels, ..own })?;
            }
        }
        let own = subject.containers.iter().find(|container| container.id == record.id);
        let record = Record {
            table: rules.table.as_ref().map(|table| table.comment.clone()),
            watch: subject.watch.as_deref().cloned(),
            addresses: subject.addresses.clone(),
            namespace_labels: own.map(|container| container.identity.namespace_labels.clone()),
            host: host.clone(),
            ..record.clone()
        };
        registry.put(&record)?;
    }
    // Who has no record stays as it is.
    if peers.roster.subjects.iter().any(|subject| subject.behind) {
        peers.roster.moving.clone_from(&peers.owed);
    }
    peers.roster.share();
    let unfinished = registry.begin(&peers.lock, &peers.roster, &mut peers.stored)?;
    let unfit = unfit(&registry, &wanted, &peers.roster, &planned);
    let (mut failed, mut behind) = (None, Vec::new());
    for planned in &planned {
        let Planned { index, record, .. } = planned;
        let subject = &peers.roster.subjects[*index];
        let said = match bring_about(subject, planned, &own, again, &mut host, &mut peers.closing, deadline) {
            Ok(Brought::Same(said)) => said,
            Ok(Brought::Changed(said)) => {
                changed.push(record.id.clone());
                said
            }
            Err(failure) => {
                let said = format!("failed: {failure}");
                failed.get_or_insert(failure);
                behind.push(*index);
                said
            }
        };
        print(&format!("{}: {said}\n", printable::line(&record.id)))?;
        for (id, failure) in &planned.unheld {
            print(&format!("{}: failed: {failure}\n", printable::line(id)))?;
            // Where it would not start today either, that is said of it.
            if unfit.iter().all(|(other, _)| other != id) {
                failed.get_or_insert_with(|| failure.clone());
            }
        }
    }
    let problems = |failed: Option<Failure>| {
        let damaged = registry.none_damaged(&damaged).err();
        failed.into_iter().chain(damaged).chain(unfit.into_iter().map(|(_, why)| why)).collect()
    };
    if failed.is_some() {
        // Whoever could not be reached is tried again by every start; the others need not be.
        for index in behind {
            Rc::make_mut(&mut peers.roster.subjects[index]).behind = true;
        }
        registry.begin(&peers.lock, &peers.roster, &mut peers.stored)?.finish()?;
        return ended_with(problems(failed));
    }
    unfinished.finish()?;
    let nobody = peers.roster.subjects.iter().all(|subject| subject.watch.is_none());
    if manifests.policies.is_empty() && nobody {
        registry.disband(&peers.lock)?;
    }
    ended_with(problems(None))
}

/// Why containers that run and have rules would not start today. Those hold less than the file says: what they can do was asked
/// before they ran, under what the file said then.
fn unfit(registry: &Registry, wanted: &Wanted<'_>, roster: &Roster, planned: &[Planned]) -> Vec<(String, Failure)> {
    let governed = planned.iter().filter(|planned| planned.rules.table.is_some());
    let subjects = governed.map(|planned| &roster.subjects[planned.index]).filter(|subject| subject.is_alive());
    let records = subjects.flat_map(|subject| &subject.containers).filter_map(|one| registry.record(&one.id));
    records.filter_map(|record| wanted.would_start(&record).err().map(|why| (record.id, why))).collect()
}

/// What a subject is to have.
struct Planned {
    /// Its place in the roster.
    index: usize,
    /// The record that decides about it.
    record: Record,
    /// The rules in its namespace.
    rules: Rules,
    /// The host's addresses, where the rules name them.
    host: Vec<IpAddr>,
    /// Those at the host's side, for each of its containers that have such.
    outside: Vec<Reloaded>,
    /// Which of its containers would have to have such and cannot.
    unheld: Vec<(String, Failure)>,
}

fn plan_all(registry: &Registry, wanted: &Wanted<'_>, roster: &Roster) -> Result<Vec<Planned>, Failure> {
    let inventory = &wanted.manifests.inventory;
    let elsewhere = inventory.peers();
    let pods = live::holders(roster, &elsewhere);
    let world = live::world(roster, inventory);
    let mut planned = Vec::new();
    for (index, subject) in roster.subjects.iter().enumerate() {
        let Some(record) = deciding(registry, subject)? else { continue };
        let of =
            |failure: Failure| Failure::new(format!("{} for container {}", failure.doing, record.id), failure.cause);
        let (rules, host) = wanted.rules(subject, &record, &pods, &world).map_err(of)?;
        let (mut outside, mut unheld) = (Vec::new(), Vec::new());
        for container in &subject.containers {
            let Some(other) = registry.look_up(&container.id)? else { continue };
            let settings = wanted.settings(&other).map_err(of)?;
            if !Reloaded::may_be(&other, &settings) {
                continue;
            }
            let (its, _) = wanted.rules(subject, &other, &pods, &world).map_err(of)?;
            match Reloaded::of(&other, &its) {
                Ok(reloaded) => outside.extend(reloaded),
                // What stands already is not given up for it.
                Err(failure) if other.outside.is_some() => return Err(of(failure)),
                Err(failure) => unheld.push((other.id, failure)),
            }
        }
        planned.push(Planned { index, record, rules, host, outside, unheld });
    }
    Ok(planned)
}

/// What became of a subject's rules, in words.
enum Brought {
    Same(String),
    Changed(String),
}

/// Puts a table in place of the one that is there, and ends the flows that it would not have let begin. With `again`
/// these are looked for where nothing changed as well: who was here before may not have come to that.
fn bring_about(
    subject: &Subject,
    planned: &Planned,
    own: &Own,
    again: bool,
    host: &mut Reloading,
    closing: &mut Closing,
    deadline: Deadline,
) -> Result<Brought, Failure> {
    let same = |said: &str| Ok(Brought::Same(said.to_owned()));
    let Some(inside) = subject.visit(own)? else { return same("has ended") };
    planned.outside.iter().try_for_each(|reloaded| host.bring_about(reloaded, &inside, &deadline))?;
    let table = planned.rules.table.as_ref();
    let mut tables = Tables::open(&inside, deadline)?;
    let present = tables.comment()?;
    let Some(table) = table else {
        return match present {
            Some(_) => {
                tables.remove()?;
                closing.add(tables.into_socket());
                Ok(Brought::Changed("rules removed: nothing governs it any more".to_owned()))
            }
            None => same("no rules, as before"),
        };
    };
    let installed = tables.install(table, present.as_deref())?;
    let said = match installed {
        Installed::Unchanged if !again => return same("as it was"),
        Installed::Unchanged => "as it was".to_owned(),
        Installed::Reconciled(members) => format!("peers: {} came, {} went", members.added, members.removed),
        Installed::Loaded => "rules replaced".to_owned(),
    };
    closing.add(tables.into_socket());
    let addresses: Vec<_> = addresses_here(&deadline)?.into_iter().map(|address| address.address).collect();
    let rejudged = rejudge(&inside, table, &addresses, closing, deadline).map_err(|failure| {
        let doing = "judge established flows anew (new ones are judged by the new rules)";
        Failure::new(doing, failure.cause)
    })?;
    let ended =
        if rejudged.ended > 0 { format!(", {} established flows ended", rejudged.ended) } else { String::new() };
    let said = said + &ended;
    Ok(if installed == Installed::Unchanged { Brought::Same(said) } else { Brought::Changed(said) })
}
