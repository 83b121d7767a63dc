//! `netlatch inspect`: what the kernel holds of a container now, against what was recorded and what would be loaded today,
//! and what none of it covers. It changes nothing: no rule, no record, no roster.

mod print;

use std::net::IpAddr;
use std::path::PathBuf;

use super::hook::host_addresses;
use super::load::{self, ConfigFile};
use super::reload::Wanted;
use super::{Outcome, print as put};
use crate::error::Failure;
use crate::kernel::capability;
use crate::kernel::files::Trust;
use crate::kernel::link::Links;
use crate::kernel::netns::{Inside, Own};
use crate::kernel::proc::Procfs;
use crate::kernel::process::{self, Deadline};
use crate::kernel::tables::Tables;
use crate::live;
use crate::net::Family;
use crate::nft::ruleset::Table;
use crate::nft::wire::listing::Listing;
use crate::oci::Requests;
use crate::plan::uncovered::{NotCovered, uncovered};
use crate::plan::{Facts, rules};
use crate::policy::parse::Manifests;
use crate::registry::{RUN_DIR, Record, Registry, Roster, Subject};
use crate::settings::{Config, Settings};
use crate::sysctl::devconf::Source;
use crate::sysctl::ipv6::DISABLE_IPV6;
use crate::sysctl::key::Key;

/// How long the whole may take: with a thousand containers each is visited.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);

/// The command line, as clap reads it.
#[derive(Debug, clap::Args)]
pub(super) struct Question {
    /// The container, by its id or a beginning that no other shares; without it, one line for each that is recorded
    id: Option<String>,
    /// For people or for programs
    #[arg(long, short = 'o', value_enum, default_value_t)]
    output: Output,
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The state directory
    #[arg(long, value_name = "DIR", default_value = RUN_DIR)]
    run_dir: PathBuf,
}

/// How the answer is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// What the help says beyond its options.
pub(super) const HELP: &str = "\
Examples:
  netlatch inspect
  netlatch inspect web
  netlatch inspect web --output json

Rules are read from the kernel, with what they have counted. \"not covered\" is what no rule governs, told from the \
container's bundle. The exit code is 1 where no such container is recorded, or it has ended.";

/// What is known of one container.
#[derive(Debug)]
struct Report {
    record: Record,
    now: Now,
}

/// What became of a recorded container.
#[derive(Debug)]
enum Now {
    /// It is gone, or its namespace is.
    Ended,
    /// It cannot be looked at.
    Unknown(String),
    /// It runs.
    Runs(Box<Running>),
}

/// What the kernel says of a running container's network.
#[derive(Debug)]
struct Running {
    /// The table; `None` where there is none.
    listing: Option<Listing>,
    /// The comment that the table should have, by the record that decides in this namespace.
    recorded: Option<String>,
    /// Whose record that is, where it is another container's.
    decided_by: Option<String>,
    compared: Compared,
    links: Vec<LinkNow>,
    not_covered: Vec<NotCovered>,
    /// What could not be looked at.
    notes: Vec<String>,
}

/// The kernel's table against the one that would be loaded today.
#[derive(Debug)]
enum Compared {
    /// They are the same.
    Equal,
    /// They differ, in words.
    Differs(Vec<String>),
    /// It cannot be told.
    Unknown(String),
}

/// A link, as it is now.
#[derive(Debug)]
struct LinkNow {
    name: String,
    up: bool,
    addresses: Vec<(IpAddr, u8)>,
    /// Its `disable_ipv6`; `None` where there is no such file.
    disable_ipv6: Option<String>,
}

/// What everything is looked at with.
struct Looking {
    own: Own,
    procfs: Procfs,
    config: Option<Config>,
    /// The policies, or why they cannot be read.
    manifests: Result<Manifests, String>,
    host: Vec<IpAddr>,
    registry: Registry,
    roster: Roster,
    deadline: Deadline,
}

/// Answers.
pub(super) fn run(question: &Question) -> Result<Outcome, Failure> {
    process::lock_down()?;
    // Before the records, which others cannot read: who may not know must not be told that there are none.
    capability::require(&capability::REQUIRED, "look into a container's network")?;
    let registry = Registry::at(&question.run_dir);
    let mut records = registry.records()?.read;
    if let Some(id) = &question.id {
        retain(&mut records, id);
        if records.is_empty() {
            put(&format!("{}\n", print::unknown(id, &question.run_dir)))?;
            return Ok(Outcome::Found);
        }
    }
    let looking = Looking::begin(registry, question.config.clone())?;
    let reports: Vec<Report> = records.into_iter().map(|record| looking.report(record)).collect();
    match (&question.id, question.output) {
        (Some(_), Output::Text) => put(&reports.iter().map(print::text).collect::<String>())?,
        (Some(_), Output::Json) => {
            put(&reports.iter().map(|one| format!("{:#}\n", print::json(one))).collect::<String>())?
        }
        (None, Output::Text) => put(&print::table(&reports))?,
        (None, Output::Json) => put(&format!("{:#}\n", print::list(&reports)))?,
    }
    let ended = question.id.is_some() && reports.iter().any(|report| !matches!(report.now, Now::Runs(_)));
    Ok(if ended { Outcome::Found } else { Outcome::Done })
}

/// Leaves the container of this id; else the only one whose id begins so, as engines take it.
fn retain(records: &mut Vec<Record>, id: &str) {
    if records.iter().any(|record| record.id == id) {
        records.retain(|record| record.id == id);
        return;
    }
    records.retain(|record| !id.is_empty() && record.id.starts_with(id));
    if records.len() > 1 {
        records.clear();
    }
}

impl Looking {
    /// What has to be asked of the host, before any namespace is joined.
    fn begin(registry: Registry, config: Option<PathBuf>) -> Result<Looking, Failure> {
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
        Ok(Looking { own, procfs, config, manifests, host, registry, roster: roster?, deadline })
    }

    fn report(&self, record: Record) -> Report {
        let now = match self.roster.subject_of(&record.id) {
            None => Now::Ended,
            Some(subject) => match self.look(&record, subject) {
                Ok(Some(running)) => Now::Runs(Box::new(running)),
                Ok(None) => Now::Ended,
                Err(failure) => Now::Unknown(failure.to_string()),
            },
        };
        Report { record, now }
    }

    fn look(&self, record: &Record, subject: &Subject) -> Result<Option<Running>, Failure> {
        let deciding = super::reload::deciding(&self.registry, subject)?;
        let deciding = deciding.as_ref().unwrap_or(record);
        let expected = self.expected(deciding, subject);
        let mut notes = Vec::new();
        let not_covered = self.not_covered(record, &mut notes);
        let Some(inside) = subject.visit(&self.own)? else { return Ok(None) };
        let mut tables = Tables::open(&inside, self.deadline)?;
        let listing = tables.listing()?;
        let compared = match (expected, &listing) {
            (Err(why), _) => Compared::Unknown(why),
            (Ok(None), None) => Compared::Equal,
            (Ok(None), Some(_)) => Compared::Differs(vec!["there is a table, and nothing asks for one".to_owned()]),
            (Ok(Some(table)), _) => match tables.compare(&table)? {
                differences if differences.is_empty() => Compared::Equal,
                differences => Compared::Differs(differences),
            },
        };
        Ok(Some(Running {
            // Where nothing is in force there is nothing that could cover.
            not_covered: if listing.is_some() { not_covered } else { Vec::new() },
            listing,
            recorded: deciding.table.clone(),
            decided_by: (deciding.id != record.id).then(|| deciding.id.clone()),
            compared,
            links: self.links(&inside, &mut notes)?,
            notes,
        }))
    }

    /// The table that a start would load today; why that cannot be told otherwise.
    fn expected(&self, record: &Record, subject: &Subject) -> Result<Option<Table>, String> {
        let manifests = self.manifests.as_ref().map_err(Clone::clone)?;
        let said = |failure: Failure| failure.to_string();
        if manifests.policies.is_empty() {
            let facts = Facts { host: record.host.clone(), node: Vec::new(), devconf: Source::Leave };
            return rules(&self.settings(record).map_err(said)?, &facts, None).map(|rules| rules.table).map_err(said);
        }
        let elsewhere = manifests.inventory.peers();
        let pods = live::holders(&self.roster, &elsewhere);
        let world = live::world(&self.roster, &manifests.inventory);
        let wanted = Wanted { config: self.config.clone(), manifests, host: self.host.clone() };
        wanted.rules(subject, record, &pods, &world).map(|(rules, _)| rules.table).map_err(said)
    }

    fn settings(&self, record: &Record) -> Result<Settings, Failure> {
        Settings::decide(self.config.clone(), Requests::parse(&record.annotations)?)
    }

    fn not_covered(&self, record: &Record, notes: &mut Vec<String>) -> Vec<NotCovered> {
        let bundle = record.bundle.as_deref().map_or(Ok(None), load::bundle_in);
        let settings = self.settings(record);
        match (bundle, settings) {
            (Ok(bundle), Ok(settings)) => uncovered(bundle.as_ref(), &settings),
            (Err(failure), _) | (_, Err(failure)) => {
                notes.push(format!("what is not covered is not known: {failure}"));
                Vec::new()
            }
        }
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

/// The word for a container's rules, in a column and for programs.
fn verdict(running: &Running) -> &'static str {
    let held = running.listing.as_ref().map(|listing| listing.comment.as_str());
    match (&running.listing, running.recorded.as_deref()) {
        (None, None) => "none",
        (None, Some(_)) => "missing",
        (Some(listing), _) if listing.dormant => "dormant",
        (Some(_), recorded) if held != recorded => "not as recorded",
        (Some(_), _) => match &running.compared {
            Compared::Equal => "as recorded",
            Compared::Differs(_) => "differ",
            Compared::Unknown(_) => "as recorded, not compared",
        },
    }
}
