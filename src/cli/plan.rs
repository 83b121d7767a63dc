//! `netlatch plan`: the hook, stopped one arrow early. The same code, so it cannot drift from what the hook does.

use std::path::{Path, PathBuf};

use super::load::{self, ConfigFile, Inputs};
use super::{Outcome, print, print_json};
use crate::error::{Cause, Failure};
use crate::kernel::files::{Trust, read_regular};
use crate::kernel::proc::Procfs;
use crate::kernel::process::{self, DEADLINE, Deadline};
use crate::live;
use crate::oci::State;
use crate::oci::state::MAX_STATE;
use crate::plan::{Cluster, Facts, Plan, needs_host_addresses, plan};
use crate::policy::lookup::World;
use crate::policy::world::Pod;
use crate::registry::Roster;
use crate::sysctl::devconf::{Devconf, Source};

/// How a plan is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    Text,
    /// The rules alone, as `nft -f` loads them.
    Nft,
    /// For programs.
    Json,
}

pub(super) fn run(state: &Path, config: Option<PathBuf>, format: Format) -> Result<Outcome, Failure> {
    let deadline = Deadline::after(DEADLINE);
    let inputs = load::inputs(self::state(state, &deadline)?, &ConfigFile::new(config), Trust::Any)?;
    let asked = inputs.has_policies() || needs_host_addresses(&inputs.settings);
    let host = if asked { super::hook::host_addresses(&deadline)? } else { Vec::new() };
    let devconf = match inputs.settings.devconf.value {
        Devconf::Leave => Source::Leave,
        mode @ (Devconf::Host | Devconf::KernelDefaults) => Procfs::open()?.source(mode)?,
    };
    let facts = Facts { node: host.clone(), host, devconf };
    let plan = alone(&inputs, &facts)?;
    match format {
        Format::Text => print(&plan.to_string())?,
        Format::Json => print_json(&format!("{:#}\n", plan.to_json()))?,
        // Nothing to load is an empty file, which `nft -f` takes.
        Format::Nft => print(&plan.table().map(ToString::to_string).unwrap_or_default())?,
    }
    Ok(Outcome::Done)
}

/// The state in a file, or on stdin for `-`.
pub(super) fn state(file: &Path, deadline: &Deadline) -> Result<State, Failure> {
    let bytes = if file.as_os_str() == "-" {
        process::drain(std::io::stdin(), (MAX_STATE, "MAX_STATE"), deadline)?
    } else {
        read_regular(file, (MAX_STATE, "MAX_STATE"), Trust::Any)
            .map_err(|error| Failure::new("read the state", Cause::State(format!("{}: {error}", file.display()))))?
    };
    State::parse(&bytes)
}

/// The plan of a container that has no address yet, among the pods of the manifests. Running containers join its sets
/// when it starts: they are another machine's, or may be read by root alone.
fn alone(inputs: &Inputs, facts: &Facts) -> Result<Plan, Failure> {
    let inventory = &inputs.manifests.inventory;
    if !inputs.has_policies() {
        return plan(&inputs.state, inputs.bundle.as_ref(), &inputs.settings, facts, None);
    }
    let (identity, elsewhere, roster) = (inputs.identity()?, inventory.peers(), Roster::default());
    let pods = live::holders(&roster, &elsewhere);
    let world = World::new(inventory.clone());
    let subject = Pod::of_container(&inputs.state.id, &identity, Vec::new());
    let cluster = Cluster {
        policies: &inputs.manifests.policies,
        identity: &identity,
        pods: &pods,
        nodes: &inventory.nodes,
        world: &world,
        subject: &subject,
    };
    plan(&inputs.state, inputs.bundle.as_ref(), &inputs.settings, facts, Some(&cluster))
}
