//! `netlatch plan`: the hook, stopped one arrow early. The same code, so it cannot drift from what the hook does.

use std::path::{Path, PathBuf};

use super::load::{self, ConfigFile};
use super::{Outcome, print};
use crate::error::{Cause, Failure};
use crate::kernel::files::{Trust, read_regular};
use crate::kernel::proc::Procfs;
use crate::kernel::process::{self, DEADLINE, Deadline};
use crate::oci::State;
use crate::oci::state::MAX_STATE;
use crate::plan::{Facts, needs_host_addresses, plan};
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
    let bytes = if state.as_os_str() == "-" {
        process::drain(std::io::stdin(), (MAX_STATE, "MAX_STATE"), &deadline)?
    } else {
        read_regular(state, (MAX_STATE, "MAX_STATE"), Trust::Any)
            .map_err(|error| Failure::new("read the state", Cause::State(format!("{}: {error}", state.display()))))?
    };
    let inputs = load::inputs(State::parse(&bytes)?, &ConfigFile::new(config), Trust::Any)?;
    let host =
        if needs_host_addresses(&inputs.settings) { super::hook::host_addresses(&deadline)? } else { Vec::new() };
    let devconf = match inputs.settings.devconf.value {
        Devconf::Leave => Source::Leave,
        mode @ (Devconf::Host | Devconf::KernelDefaults) => Procfs::open()?.source(mode)?,
    };
    let plan = plan(&inputs.state, inputs.bundle.as_ref(), &inputs.settings, &Facts { host, devconf }, None)?;
    match format {
        Format::Text => print(&plan.to_string())?,
        Format::Json => print(&format!("{:#}\n", plan.to_json()))?,
        // Nothing to load is an empty file, which `nft -f` takes.
        Format::Nft => print(&plan.table().map(ToString::to_string).unwrap_or_default())?,
    }
    Ok(Outcome::Done)
}
