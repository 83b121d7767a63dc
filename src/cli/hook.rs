//! A stage, start to finish: what a runtime calls.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::among::{self, Stay};
use super::host_side::{Side, Standing};
use super::load::{self, ConfigFile, Inputs};
use super::told::{Told, failed};
use super::{Outcome, finish};
use crate::error::{Cause, Failure};
use crate::kernel::apply::{Present, Site, is_gone};
use crate::kernel::capability;
use crate::kernel::checkpoint;
use crate::kernel::files::Trust;
use crate::kernel::laps::{self, lap};
use crate::kernel::link::addresses_here;
use crate::kernel::netns::{Inside, Own, Target, enter};
use crate::kernel::proc::Procfs;
use crate::kernel::process::{self, DEADLINE, Deadline};
use crate::kernel::tables::Tables;
use crate::logging;
use crate::nft::build::maker_of;
use crate::nft::ruleset::{TABLE, Table};
use crate::oci::annotations::PREFIX;
use crate::oci::state::MAX_STATE;
use crate::oci::{NetworkNamespace, State, annotations};
use crate::plan::{Facts, Plan, needs_host_addresses, plan};
use crate::registry::{Anchor, Fault, RUN_DIR, Record, Registry, boot_ms};
use crate::settings::HostNetwork;

/// A stage at which a runtime may call us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The namespaces exist, the process does not run yet: the work is done here.
    CreateRuntime,
    /// Its older name.
    Prestart,
    /// The process is about to run (runc up to 1.5) or runs: verify and complete.
    Poststart,
    /// The container is gone: forget it.
    Poststop,
}

impl Stage {
    /// The stage of that name.
    pub fn from_name(name: &str) -> Option<Stage> {
        [Stage::CreateRuntime, Stage::Prestart, Stage::Poststart, Stage::Poststop]
            .into_iter()
            .find(|s| s.name() == name)
    }

    /// The name as runtime-spec writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::CreateRuntime => "createRuntime",
            Stage::Prestart => "prestart",
            Stage::Poststart => "poststart",
            Stage::Poststop => "poststop",
        }
    }
}

/// What may follow a stage's name. Hook files on disk outlive upgrades, so these are a contract.
#[derive(Debug)]
struct Options {
    config: ConfigFile,
    run_dir: PathBuf,
    /// Whether to say on stderr where the time went. Part of no contract.
    timings: bool,
}

/// Runs a stage: arguments behind its name, the state on stdin.
pub fn run(stage: Stage, args: &[OsString]) -> u8 {
    let (began, deadline) = (boot_ms(), Deadline::after(DEADLINE));
    let options = match options(args) {
        Ok(options) => options,
        Err(failure) => {
            drain_quietly();
            return finish(Err(failure));
        }
    };
    if options.timings {
        laps::keep();
    }
    logging::install(&options.run_dir, stage.name());
    let registry = Registry::at(&options.run_dir);
    let mut id = String::new();
    let result = harden()
        .and_then(|()| {
            lap("give up capabilities");
            process::drain(io::stdin(), (MAX_STATE, "MAX_STATE"), &deadline)
        })
        .and_then(|bytes| of_stage((stage, began), bytes, &options, &registry, &deadline, &mut id));
    let result = match result {
        Ok(told) => {
            logging::tell(&told.entry(&id));
            lap("log");
            Ok(Outcome::Done)
        }
        Err(failure) => {
            report(stage.name(), &id, &failure, &registry);
            Err(failure)
        }
    };
    if let Some(table) = laps::table() {
        process::say(&table);
    }
    finish(result)
}

/// Refuses a stage that runs inside the container, and keeps that where a failed start is looked for.
pub(super) fn refuse(stage: &str, args: &[OsString]) -> u8 {
    let run_dir = options(args).map_or_else(|_| PathBuf::from(RUN_DIR), |options| options.run_dir);
    logging::install(&run_dir, stage);
    let state = process::drain(io::stdin(), (MAX_STATE, "MAX_STATE"), &Deadline::after(DEADLINE))
        .and_then(|b| State::parse(&b));
    let id = state.map_or_else(|_| String::new(), |state| state.id);
    logging::concerns(&id, None);
    let failure = Failure::new("run as a container's hook", Cause::StageRefused(stage.to_owned()));
    report(stage, &id, &failure, &Registry::at(&run_dir));
    finish(Err(failure))
}

/// Before the first byte of input is looked at. Descriptors were closed by main.
fn harden() -> Result<(), Failure> {
    process::reset_signal_mask()?;
    process::lock_down()?;
    capability::keep_only(&capability::BEFORE_JOIN)
}

fn of_stage(
    (stage, began): (Stage, u64),
    bytes: Vec<u8>,
    options: &Options,
    registry: &Registry,
    deadline: &Deadline,
    id: &mut String,
) -> Result<Told, Failure> {
    let state = State::parse(&bytes)?;
    drop(bytes);
    // The id first, so that whatever fails next is recorded under it.
    id.clone_from(&state.id);
    logging::concerns(id, name(&state));
    lap("read the state");
    // What a long list came to is not taken apart entry by entry: the process ends.
    let inputs = |state| load::inputs(state, &options.config, Trust::Guarded).map(ManuallyDrop::new);
    match stage {
        Stage::CreateRuntime | Stage::Prestart => protect(&*inputs(state)?, registry, deadline),
        Stage::Poststart => verify(&*inputs(state)?, registry, deadline),
        Stage::Poststop => {
            let forgotten = among::forget(id, began, &options.config, registry, deadline);
            Ok(forgotten.unwrap_or_else(|failure| Told::not_forgotten(&failure)))
        }
    }
}

/// createRuntime: all of it, before the container's first instruction.
fn protect(inputs: &Inputs, registry: &Registry, deadline: &Deadline) -> Result<Told, Failure> {
    lap("read config.json, configuration and policies");
    let procfs = Procfs::open()?;
    let facts = facts(inputs, &procfs, None, deadline)?;
    let own = Own::read()?;
    let mut side = Side::open(inputs, None, &own, deadline)?;
    if let Some(side) = &mut side {
        side.sweep(registry, deadline);
    }
    lap("learn the facts");
    let inside = match join(inputs, &own)? {
        Joined::Inside(inside) => inside,
        Joined::Skipped(what) => return Ok(Told::skipped(&what)),
    };
    lap("join");
    if inputs.has_policies() || registry.roster_exists() {
        return among::protect(&Stay { inputs, registry, facts: &facts, own: &own, deadline }, procfs, inside, side);
    }
    capability::keep_only(&capability::AFTER_JOIN)?;
    lap("give up more capabilities");
    let plan = ManuallyDrop::new(plan(&inputs.state, inputs.bundle.as_ref(), &inputs.settings, &facts, None)?);
    lap("plan");
    // A namespace that the runtime makes for this container holds no other yet.
    let shared =
        side.is_some() || inputs.bundle.as_ref().is_none_or(|bundle| bundle.network != Some(NetworkNamespace::New));
    let alone = if shared { Some(registry.lock(deadline)?) } else { None };
    let standing = match (side, &alone) {
        (Some(side), Some(lock)) => Some(side.raise(&plan, inputs.state.pid, &inside, lock, deadline)?),
        (None, _) | (_, None) => None,
    };
    let mut tables = Tables::open(&inside, *deadline)?;
    let present = present(&plan, inputs, &mut tables, &inside, registry)?;
    lap("look at what is there");
    checkpoint::step("decided")?;
    let report = Site { inside: &inside, tables, procfs: &procfs, present, deadline: *deadline }.apply(&plan)?;
    let mut record = record(inputs, plan.table(), &facts, &inside)?;
    record.outside = standing.as_ref().and_then(Standing::outside).cloned();
    let without_peers = registry.put_alone(&record)?;
    lap("record");
    drop(alone);
    if !without_peers {
        // The first policies came while this container was on its way without any. Once, and only then.
        let problem = "policies came into force while this container was being created".to_owned();
        return Err(Failure::new("protect the container", Cause::Overtaken(problem)));
    }
    let told = Told::protected(&plan, &report);
    checkpoint::step("end")?;
    if let Some(standing) = standing {
        standing.keep();
    }
    Ok(told)
}

/// poststart: everything once more, with what came after us.
fn verify(inputs: &Inputs, registry: &Registry, deadline: &Deadline) -> Result<Told, Failure> {
    let procfs = Procfs::open()?;
    let before = registry.record(&inputs.state.id);
    let facts = facts(inputs, &procfs, before.as_ref(), deadline)?;
    let own = Own::read()?;
    let side = Side::open(inputs, before.as_ref(), &own, deadline)?;
    let inside = match join(inputs, &own) {
        Ok(Joined::Inside(inside)) => inside,
        Ok(Joined::Skipped(what)) => return Ok(Told::skipped(&what)),
        // crun, and runc from 1.6 on, call poststart behind the process's start: it may have done its work and gone.
        Err(failure) if is_gone(&failure) => {
            return Ok(Told::done("ended before it could be verified"));
        }
        Err(failure) => return Err(failure),
    };
    if inputs.has_policies() || registry.roster_exists() {
        return among::verify(&Stay { inputs, registry, facts: &facts, own: &own, deadline }, procfs, inside, side);
    }
    capability::keep_only(&capability::AFTER_JOIN)?;
    let plan = plan(&inputs.state, inputs.bundle.as_ref(), &inputs.settings, &facts, None)?;
    if let Some(side) = side {
        side.verify(&plan, before.as_ref(), &inside, deadline)?;
    }
    complete(inputs, registry, &procfs, &plan, &inside, before.as_ref(), deadline).map(|(_, told)| told)
}

/// Verifies what createRuntime did and completes it. The tables are returned where they are this container's.
pub(super) fn complete<'i>(
    inputs: &Inputs,
    registry: &Registry,
    procfs: &'i Procfs,
    plan: &Plan,
    inside: &'i Inside,
    before: Option<&Record>,
    deadline: &Deadline,
) -> Result<(Option<Tables<'i>>, Told), Failure> {
    let mut tables = Tables::open(inside, *deadline)?;
    let planned = plan.table().map(|table| table.comment.clone());
    // Another container of the namespace may have brought rules for both since: then those count, not the record's.
    if let Some(before) = before.filter(|before| before.table != planned)
        && tables.comment()? != planned
    {
        let problem = format!("{}; create the container anew", changed(before.table.as_deref(), planned.as_deref()));
        return Err(Failure::new("verify the container's protection", Cause::ReadBack(problem)));
    }
    let present = present(plan, inputs, &mut tables, inside, registry)?;
    let kept = present == Present::Kept;
    let mut site = Site { inside, tables, procfs, present, deadline: *deadline };
    let report = site.complete(plan)?;
    Ok(((!kept).then_some(site.tables), Told::verified(plan, &report, kept)))
}

/// Why poststart plans other rules than createRuntime did. Their comments tell: who made them, and from what.
fn changed(then: Option<&str>, now: Option<&str>) -> String {
    match (then.and_then(maker_of), now.and_then(maker_of)) {
        (Some(then), Some(now)) if then != now => {
            format!("its rules were made by {then}, and this is {now}, which was installed since createRuntime")
        }
        _ => {
            let [then, now] = [then, now].map(|comment| comment.unwrap_or("no rules"));
            format!(
                "the configuration file, the policies or the container's annotations changed since createRuntime \
                 (then {then}, now {now})"
            )
        }
    }
}

/// What can only be learned before the container's namespace is joined. The addresses a rule names are those recorded
/// at createRuntime, where they were; those of the container's node are in a set and may come later.
fn facts(inputs: &Inputs, procfs: &Procfs, before: Option<&Record>, deadline: &Deadline) -> Result<Facts, Failure> {
    let settings = &inputs.settings;
    let node = if inputs.has_policies() { host_addresses(deadline)? } else { Vec::new() };
    let host = match (needs_host_addresses(settings), before) {
        (false, _) => Vec::new(),
        (true, Some(record)) => record.host.clone(),
        (true, None) if inputs.has_policies() => node.clone(),
        (true, None) => host_addresses(deadline)?,
    };
    Ok(Facts { host, node, devconf: procfs.source(settings.devconf.value)? })
}

/// The host's own addresses, loopback's left out: inside the container those are the container's.
pub(super) fn host_addresses(deadline: &Deadline) -> Result<Vec<std::net::IpAddr>, Failure> {
    let addresses = addresses_here(deadline)?.into_iter().map(|address| address.address);
    let mut host: Vec<_> = addresses.filter(|address| !address.is_loopback()).collect();
    host.sort_unstable();
    host.dedup();
    Ok(host)
}

/// What came of joining a container's namespace.
pub(super) enum Joined {
    /// The key to it.
    Inside(Inside),
    /// It is the host's, and nobody asked for anything there. This is how.
    Skipped(String),
}

/// Joins the container's namespace.
pub(super) fn join(inputs: &Inputs, own: &Own) -> Result<Joined, Failure> {
    capability::require(&capability::REQUIRED, "protect the container")?;
    let target = target(inputs)?;
    checkpoint::step("join")?;
    match enter(&target, own) {
        Ok(inside) => Ok(Joined::Inside(inside)),
        Err(Failure { cause: Cause::HostNamespace(what), .. })
            if !inputs.settings.explicit && inputs.settings.host_network.value == HostNetwork::Skip =>
        {
            Ok(Joined::Skipped(what))
        }
        Err(failure) => Err(failure),
    }
}

/// The process's namespace; without a pid the one config.json names by path.
fn target(inputs: &Inputs) -> Result<Target, Failure> {
    if let Some(pid) = inputs.state.pid {
        return Ok(Target::Process(pid));
    }
    match inputs.bundle.as_ref().and_then(|bundle| bundle.network.as_ref()) {
        Some(NetworkNamespace::Path(path)) => Ok(Target::Path(path.clone())),
        Some(NetworkNamespace::New) | None => {
            Err(Failure::new("find the container's network namespace", Cause::NoProcess))
        }
    }
}

/// Decides about a table that is there already, with other rules than the plan's.
///
/// Rules belong to the namespace, not to one of its containers. A container without annotations of its own leaves a
/// live neighbour's rules alone: they hold the same baseline and more. Two that ask for different rules cannot both
/// have them.
pub(super) fn present(
    plan: &Plan,
    inputs: &Inputs,
    tables: &mut Tables<'_>,
    inside: &Inside,
    registry: &Registry,
) -> Result<Present, Failure> {
    let comment = tables.comment()?;
    let planned = plan.table().map(|table| table.comment.as_str());
    if comment.is_none() || comment.as_deref() == planned {
        return Ok(Present::Replaceable(comment));
    }
    let neighbours = registry.sharing(inside.id(), &plan.id)?;
    match neighbours.iter().find(|other| other.explicit && other.table == comment) {
        None => Ok(Present::Replaceable(comment)),
        Some(_) if !inputs.settings.explicit => Ok(Present::Kept),
        // Both ask for the same, and what governs them has changed: a policy, or a named port of this one.
        Some(other) if asks(&other.annotations) == asks(&deciding(inputs)) => Ok(Present::Replaceable(comment)),
        Some(other) => Err(Failure::new(
            "protect the container",
            Cause::NotPermitted {
                asked: format!("container {} asks for rules of its own in {}", plan.id, inside.target()),
                against: format!("container {} lives there with others (table {TABLE})", other.id),
            },
        )),
    }
}

/// What a container asks for rules: its annotations without those that say who it is.
fn asks(annotations: &BTreeMap<String, String>) -> BTreeMap<&str, &str> {
    let who = ["namespace", "labels", "ports"];
    let own = annotations.iter().filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?, value.as_str())));
    own.filter(|(key, _)| !who.contains(key)).collect()
}

/// What holds a container's namespace in place, as the roster has it.
pub(super) fn anchor(record: &Record) -> Result<Anchor, Failure> {
    let gone = || Failure::new("record the container", Cause::ProcessGone(record.pid.unwrap_or_default()));
    record.anchor().ok_or_else(gone)
}

pub(super) fn record(
    inputs: &Inputs,
    table: Option<&Table>,
    facts: &Facts,
    inside: &Inside,
) -> Result<Record, Failure> {
    let identity = &inputs.settings.identity;
    let netns_path = match target(inputs)? {
        Target::Path(path) => Some(path),
        Target::Process(_) => None,
    };
    Ok(Record {
        id: inputs.state.id.clone(),
        pid: inputs.state.pid,
        netns: (inside.id().dev, inside.id().ino),
        table: table.map(|table| table.comment.clone()),
        explicit: inputs.settings.explicit,
        host: facts.host.clone(),
        namespace: identity.namespace.value.clone(),
        labels: identity.labels.value.clone(),
        recorded_ms: boot_ms(),
        // This and what follows are asked for where somebody follows: a start without policies has no time for it, and its
        // record does without ([`Record::anchor`]).
        started: None,
        netns_path,
        cookie: None,
        addresses: Vec::new(),
        ports: identity.ports.value.clone(),
        namespace_labels: None,
        annotations: deciding(inputs),
        bundle: inputs.state.bundle.clone(),
        watch: None,
        outside: None,
    })
}

/// The annotations that decided about a container: ours, and those that engines write its identity into.
fn deciding(inputs: &Inputs) -> BTreeMap<String, String> {
    let decides = |key: &str| {
        let engines = ["io.kubernetes.pod.", "io.kubernetes.cri.sandbox-", "io.kubernetes.cri-o.Namespace"];
        key.starts_with(PREFIX) || engines.iter().any(|engine| key.starts_with(engine))
    };
    let all = annotations(&inputs.state, inputs.bundle.as_ref()).into_iter().flatten();
    all.filter(|(key, _)| decides(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Annotations in which engines say what they call a container: containerd's CRI, CRI-O, nerdctl.
const NAMES: [&str; 3] = ["io.kubernetes.cri.container-name", "io.kubernetes.container.name", "nerdctl/name"];

/// What the engine calls a container, for the log.
fn name(state: &State) -> Option<&str> {
    let all = state.annotations.as_ref()?;
    NAMES.iter().find_map(|key| all.get(*key)).map(String::as_str)
}

/// Keeps a failure where it can be found: crun shows the exit code and nothing else.
fn report(stage: &str, id: &str, failure: &Failure, registry: &Registry) {
    logging::tell(&failed(&format!("{stage} of container {id:?}"), failure));
    let fault = Fault {
        id: id.to_owned(),
        stage: stage.to_owned(),
        code: failure.exit_code(),
        message: failure.to_string(),
        time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        boot_ms: boot_ms(),
    };
    registry.put_fault(&fault).unwrap_or_else(|failure| log::warn!("{failure}"));
}

/// Reads stdin to its end where a runtime may be writing to it, and throws it away: crun before 1.17 fails on EPIPE
/// and then shows that instead of our message. A terminal is not read.
pub(super) fn drain_quietly() {
    if !std::io::IsTerminal::is_terminal(&io::stdin()) {
        let _ = process::drain(io::stdin(), (MAX_STATE, "MAX_STATE"), &Deadline::after(Duration::from_secs(1)));
    }
}

fn options(args: &[OsString]) -> Result<Options, Failure> {
    let usage = |problem: String| Failure::new("read the command line", Cause::Usage(problem));
    let (mut config, mut run_dir, mut timings) = (None, None, false);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let text = arg.to_str().unwrap_or("\u{fffd}");
        let (name, inline) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let slot = match name {
            "--config" => &mut config,
            "--run-dir" => &mut run_dir,
            "--timings" if inline.is_none() => {
                timings = true;
                continue;
            }
            _ => return Err(usage(format!("unknown argument {text:?} behind a stage"))),
        };
        let value = match inline {
            Some(value) => PathBuf::from(value),
            None => PathBuf::from(args.next().ok_or_else(|| usage(format!("{name} needs a value")))?),
        };
        if value.as_os_str().is_empty() {
            return Err(usage(format!("{name} needs a value")));
        }
        if slot.replace(value).is_some() {
            return Err(usage(format!("{name} is given twice")));
        }
    }
    let run_dir = run_dir.unwrap_or_else(|| Path::new(RUN_DIR).to_owned());
    Ok(Options { config: ConfigFile::new(config), run_dir, timings })
}

#[cfg(test)]
mod tests {
    use super::changed;

    #[test]
    fn poststart_tells_another_version_from_another_plan() {
        let [old, new] = ["netlatch 0.1.0 plan 0a", "netlatch 0.2.0 plan 0b"];
        let said = "its rules were made by netlatch 0.1.0, and this is netlatch 0.2.0, which was installed since createRuntime";
        assert_eq!(changed(Some(old), Some(new)), said);
        for (then, now, shown) in [
            (Some(old), Some("netlatch 0.1.0 plan 0c"), "(then netlatch 0.1.0 plan 0a, now netlatch 0.1.0 plan 0c)"),
            (Some(old), None, "(then netlatch 0.1.0 plan 0a, now no rules)"),
            (None, Some(new), "(then no rules, now netlatch 0.2.0 plan 0b)"),
        ] {
            assert!(changed(then, now).ends_with(shown), "{}", changed(then, now));
        }
    }
}
