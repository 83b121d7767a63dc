//! How `inspect` looks: at the host first, then into one namespace after the other. Nothing is changed.

use std::net::IpAddr;
use std::path::PathBuf;

use super::denied::{self, Denied};
use super::report::{Compared, Guard, LinkNow, Now, Outer, Report, Running, Veth, VethState};
use crate::cli::hook::host_addresses;
use crate::cli::host_side::table_of;
use crate::cli::load::{self, ConfigFile};
use crate::cli::reload::{Wanted, deciding};
use crate::error::Failure;
use crate::explain::Container;
use crate::kernel::files::Trust;
use crate::kernel::host_end::HostSide;
use crate::kernel::link::Links;
use crate::kernel::netns::{Inside, Own};
use crate::kernel::proc::{Procfs, Reading};
use crate::kernel::process::Deadline;
use crate::kernel::tables::{HostTables, Tables};
use crate::live;
use crate::net::Family;
use crate::nft::build::cited;
use crate::nft::ruleset::Table;
use crate::nft::wire::listing::Listing;
use crate::oci::Requests;
use crate::plan::uncovered::{Against, NotCovered, Packets, denies_egress, uncovered};
use crate::plan::{Facts, Rules, rules, stands_outside, sysctl_writes};
use crate::policy::lookup::World;
use crate::policy::parse::Manifests;
use crate::registry::{Outside, Record, Registry, Roster, Subject};
use crate::settings::{Config, Settings};
use crate::sysctl::devconf::{Devconf, Source};
use crate::sysctl::ipv6::DISABLE_IPV6;
use crate::sysctl::key::Key;

/// How long the whole may take: with a thousand containers each is visited.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);

/// What everything is looked at with.
pub(in crate::cli) struct Looking {
    own: Own,
    procfs: Procfs,
    config: Option<Config>,
    /// The policies, or why they cannot be read.
    manifests: Result<Manifests, String>,
    host: Vec<IpAddr>,
    /// What `devconf: host` and `devconf: kernel-defaults` take from this host: to be had before any join.
    devconf: [Result<Source, Failure>; 2],
    /// The host's side, where any container has rules there.
    outer: Option<(HostTables, HostSide)>,
    registry: Registry,
    roster: Roster,
    deadline: Deadline,
}

impl Looking {
    /// What has to be asked of the host, before any namespace is joined.
    pub(in crate::cli) fn begin(
        registry: Registry,
        config: Option<PathBuf>,
        records: &[Record],
    ) -> Result<Looking, Failure> {
        let deadline = Deadline::after(DEADLINE);
        let file = ConfigFile::new(config);
        let config = file.read(Trust::Guarded)?;
        // What is in force can be shown whatever has been written into the folder since.
        let manifests = load::loaded(&file, Trust::Guarded).map(|loaded| loaded.manifests);
        let manifests = manifests.map_err(|failure| failure.to_string());
        let inventory = manifests.as_ref().map(|manifests| &manifests.inventory).ok();
        let roster = registry
            .who_runs(|namespace| inventory.map_or_else(Default::default, |known| known.namespace_labels(namespace)));
        let (own, procfs, host) = (Own::read()?, Procfs::open()?, host_addresses(&deadline)?);
        let devconf = [Devconf::Host, Devconf::KernelDefaults].map(|mode| procfs.source(mode));
        let outer = match records.iter().any(|record| record.outside.is_some()) {
            true => Some((HostTables::open(&own, deadline)?, HostSide::open(&own)?)),
            false => None,
        };
        Ok(Looking { own, procfs, config, manifests, host, devconf, outer, registry, roster: roster?, deadline })
    }

    pub(in crate::cli) fn report(&mut self, record: Record) -> Report {
        let now = match self.roster.subject_of(&record.id).cloned() {
            None => Now::Ended,
            Some(subject) => match self.look(&record, &subject) {
                Ok(Some(running)) => Now::Runs(Box::new(running)),
                Ok(None) => Now::Ended,
                Err(failure) => Now::Unknown(failure.to_string()),
            },
        };
        Report { record, now }
    }

    fn look(&mut self, record: &Record, subject: &Subject) -> Result<Option<Running>, Failure> {
        let decides = deciding(&self.registry, subject)?;
        let decides = decides.as_ref().unwrap_or(record);
        let expected = self.expected(decides, subject);
        // What stands outside is made for one container and not for its neighbours.
        let own = if decides.id == record.id { expected.clone() } else { self.expected(record, subject) };
        let mut notes = Vec::new();
        let mut host_side = match &record.outside {
            Some(outside) => Some(self.table_at_the_host(outside, own)?),
            None => None,
        };
        let Some(inside) = subject.visit(&self.own)? else { return Ok(None) };
        if let (Some(side), Some(outside)) = (&mut host_side, &record.outside) {
            side.veths = self.veths(outside, &inside)?;
        }
        let sysctls = self.sysctls(record, &inside, &mut notes)?;
        let links = self.links(&inside, &mut notes)?;
        let mut tables = Tables::open(&inside, self.deadline)?;
        let listing = tables.listing()?;
        let (compared, guard) = compare(&mut tables, expected.as_ref(), listing.is_some(), &links)?;
        let not_covered = match &listing {
            Some(_) => {
                let against = against(expected.as_ref(), host_side.as_ref(), &guard);
                not_covered(record, &against, &mut notes)
            }
            // Where nothing is in force there is nothing that could cover.
            None => Vec::new(),
        };
        let settings = self.settings(decides);
        // The comments are the kernel's, and what they count is known only as long as they are those of today.
        let filter = expected.as_ref().ok().and_then(|rules| rules.filter.as_ref());
        let filter = filter.filter(|_| matches!(compared, Compared::Equal));
        let cited = filter.and_then(|filter| cited(filter).ok()).unwrap_or_default();
        let denied = listing.as_ref().map(|listing| self.denied(listing, settings.as_ref().ok(), decides, subject));
        Ok(Some(Running {
            settings: settings.map_err(|failure| failure.to_string()),
            host: decides.host.clone(),
            cited,
            sysctls,
            denied: denied.unwrap_or_default(),
            listing,
            recorded: decides.table.clone(),
            decided_by: (decides.id != record.id).then(|| decides.id.clone()),
            compared,
            guard,
            host_side,
            links,
            not_covered,
            notes,
        }))
    }

    /// The rules that a start would load today; why that cannot be told otherwise.
    fn expected(&self, record: &Record, subject: &Subject) -> Result<Rules, String> {
        let manifests = self.manifests.as_ref().map_err(Clone::clone)?;
        let said = |failure: Failure| failure.to_string();
        if manifests.policies.is_empty() {
            let facts = Facts { host: record.host.clone(), node: Vec::new(), devconf: Source::Leave };
            return rules(&self.settings(record).map_err(said)?, &facts, None).map_err(said);
        }
        let elsewhere = manifests.inventory.peers();
        let pods = live::holders(&self.roster, &elsewhere);
        let world = live::world(&self.roster, &manifests.inventory);
        let wanted = Wanted { config: self.config.clone(), manifests, host: self.host.clone() };
        wanted.rules(subject, record, &pods, &world).map(|(rules, _)| rules).map_err(said)
    }

    /// The sysctls that the container was started with, and what they are now.
    fn sysctls(&self, record: &Record, inside: &Inside, notes: &mut Vec<String>) -> Result<Vec<Reading>, Failure> {
        let [host, defaults] = &self.devconf;
        let writes = self.settings(record).and_then(|settings| {
            let devconf = match settings.devconf.value {
                Devconf::Leave => Source::Leave,
                Devconf::Host => host.clone()?,
                Devconf::KernelDefaults => defaults.clone()?,
            };
            sysctl_writes(&settings, &Facts { devconf, ..Facts::default() })
        });
        match writes {
            Ok(writes) => self.procfs.readings(inside, &writes),
            Err(failure) => {
                notes.push(format!("its sysctls were not compared: {failure}"));
                Ok(Vec::new())
            }
        }
    }

    /// Whom the rules remember, and who denies them today.
    fn denied(
        &self,
        listing: &Listing,
        settings: Option<&Settings>,
        decides: &Record,
        subject: &Subject,
    ) -> Vec<Denied> {
        let mut denied = denied::remembered(listing);
        let (Some(settings), Ok(manifests)) = (settings, &self.manifests) else { return denied };
        if denied.is_empty() {
            return denied;
        }
        let settings = denied::in_earnest(settings);
        let pod = live::pod(subject);
        let mut inventory = manifests.inventory.clone();
        if !manifests.policies.is_empty() {
            inventory.pods.extend(self.roster.subjects.iter().map(|subject| live::pod(subject)));
        }
        let container = Container {
            settings: &settings,
            policies: &manifests.policies,
            world: &World::new(inventory),
            subject: &pod,
            host: if manifests.policies.is_empty() { &decides.host } else { &self.host },
            table: None,
        };
        denied::explain(&mut denied, &container);
        denied
    }

    fn settings(&self, record: &Record) -> Result<Settings, Failure> {
        Settings::decide(self.config.clone(), Requests::parse(&record.annotations)?)
    }

    /// The table at the host's side. Only the host is asked; its veths come later.
    fn table_at_the_host(&mut self, outside: &Outside, expected: Result<Rules, String>) -> Result<Outer, Failure> {
        let Some((tables, _)) = &mut self.outer else { return Ok(Outer::of(outside, false, Compared::Equal)) };
        let there = tables.comment(&outside.table)?.is_some();
        let wanted = expected.and_then(|rules| outer_table(&rules, outside).map_err(|failure| failure.to_string()));
        let compared = match wanted {
            Err(why) => Compared::Unknown(why),
            Ok(None) => Compared::unasked("table", there),
            Ok(Some(table)) => tables.compare(&table)?.into(),
        };
        Ok(Outer::of(outside, there, compared))
    }

    /// Every veth that the rules were made for, and every one that leads into the namespace.
    fn veths(&mut self, outside: &Outside, inside: &Inside) -> Result<Vec<Veth>, Failure> {
        let Some((_, ends)) = &mut self.outer else { return Ok(Vec::new()) };
        let here: Vec<String> = ends.veths_into(inside, &self.deadline)?.into_iter().map(|end| end.name).collect();
        let recorded = outside.devices.iter().map(|name| {
            let state = if here.contains(name) { VethState::Judged } else { VethState::Gone };
            Veth { name: name.clone(), state }
        });
        let past = here.iter().filter(|name| !outside.devices.contains(name));
        let past = past.map(|name| Veth { name: name.clone(), state: VethState::Past });
        Ok(recorded.chain(past).collect())
    }

    fn links(&self, inside: &Inside, notes: &mut Vec<String>) -> Result<Vec<LinkNow>, Failure> {
        let mut links = Links::open(inside)?;
        let addresses = links.addresses(&self.deadline)?;
        let of = |index: u32| {
            let of_this = addresses.iter().filter(move |address| address.index == index);
            of_this.map(|address| (address.address, address.prefix)).collect()
        };
        let mut disable_ipv6 = |name: &str| {
            let read = Key::conf(Family::V6, name, DISABLE_IPV6).map_err(|error| error.to_string());
            match read.and_then(|key| self.procfs.read(inside, &key).map_err(|failure| failure.to_string())) {
                Ok(value) => value,
                Err(problem) => {
                    notes.push(format!("disable_ipv6 of link {name:?}: {problem}"));
                    None
                }
            }
        };
        Ok(links
            .links(&self.deadline)?
            .into_iter()
            .map(|link| LinkNow {
                up: link.is_up(),
                addresses: of(link.index),
                disable_ipv6: disable_ipv6(&link.name),
                name: link.name,
            })
            .collect())
    }
}

impl Outer {
    fn of(outside: &Outside, there: bool, compared: Compared) -> Outer {
        Outer { table: outside.table.clone(), there, compared, veths: Vec::new() }
    }
}

/// What is to stand at the host's side; `None` where nothing is denied in earnest.
fn outer_table(rules: &Rules, outside: &Outside) -> Result<Option<Table>, Failure> {
    let filter = rules.filter.as_ref().map(stands_outside).transpose()?;
    filter.map_or(Ok(None), |filter| table_of(filter, outside))
}

/// The table and its guard, as the kernel has them.
fn compare(
    tables: &mut Tables<'_>,
    expected: Result<&Rules, &String>,
    there: bool,
    links: &[LinkNow],
) -> Result<(Compared, Guard), Failure> {
    let guarded = tables.guarded()?;
    let (rules, guard) = match expected {
        Err(why) => (Compared::Unknown(why.clone()), Compared::Unknown(why.clone())),
        Ok(Rules { table: None, .. }) => {
            (Compared::unasked("table", there), Compared::unasked("guard", guarded.is_some()))
        }
        Ok(Rules { table: Some(table), .. }) => {
            let differences = tables.compare(table)?;
            let guard = match &table.guard {
                Some(_) => differences.guard.into(),
                None => Compared::unasked("guard", guarded.is_some()),
            };
            (differences.rules.into(), guard)
        }
    };
    let there = guarded.is_some();
    let devices = guarded.unwrap_or_default();
    let names = links.iter().map(|link| link.name.clone());
    let (on, not_on) = names.partition(|name| devices.contains(name));
    Ok((rules, Guard { there, on, not_on, compared: guard }))
}

/// What stands against a container's capabilities. The kernel is asked, and not the configuration of today: the container may
/// have started under another.
fn against(expected: Result<&Rules, &String>, host_side: Option<&Outer>, guard: &Guard) -> Against {
    let net_admin = match host_side {
        None => Some("nothing stands at the host's side".to_owned()),
        Some(outer) if !outer.there => Some("its rules at the host's side are gone".to_owned()),
        Some(_) => None,
    };
    // Where it cannot be told whether egress is denied, it may be.
    let denied = expected.map_or(true, |rules| rules.filter.as_ref().is_some_and(denies_egress));
    let packets = match denied {
        false => Packets::Free,
        true if guard.there && guard.not_on.is_empty() => Packets::Dropped,
        true => Packets::Pass,
    };
    Against { net_admin, packets }
}

fn not_covered(record: &Record, against: &Against, notes: &mut Vec<String>) -> Vec<NotCovered> {
    match record.bundle.as_deref().map_or(Ok(None), load::bundle_in) {
        Ok(bundle) => uncovered(bundle.as_ref(), against),
        Err(failure) => {
            notes.push(format!("what is not covered is not known: {failure}"));
            Vec::new()
        }
    }
}
