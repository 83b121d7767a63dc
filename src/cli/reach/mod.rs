//! `netlatch reach`: who can reach whom, from manifests alone. The specification does the judging ([`crate::policy::verdict`]); here it is asked and printed.

pub mod picture;
mod probe;
mod table;

pub use probe::answer_all;
pub use table::json;

use std::io::Read;
use std::path::{Path, PathBuf};

use picture::Picture;

use super::page::Look;
use super::{Outcome, load, print, print_json};
use crate::error::{Cause, Failure, Finding, errno_of};
use crate::policy::lookup::World;
use crate::policy::reach;
use crate::policy::verdict::Judge;

/// How it is told who reaches whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Text for people.
    #[default]
    Table,
    /// For programs.
    Json,
    /// For Graphviz.
    Dot,
    /// A picture.
    Svg,
    /// A page with the picture that can be searched.
    Html,
}

/// Longest input of probes, in bytes: two million of them.
pub const MAX_PROBES: u64 = 256 << 20;

/// What the help says beyond its options.
pub(super) const HELP: &str = "\
A probe:  {\"from\":\"shop/api\",\"to\":\"shop/db\",\"port\":5432,\"proto\":\"TCP\"}
An end is NAMESPACE/POD or an address; proto is TCP, UDP, SCTP, or ICMP without a port. The answer is the same object with
\"allowed\", \"egress\", \"ingress\" and \"why\", in the order of the probes. A service's address stands for all its endpoints.";

/// Answers probes.
pub(super) fn probes(paths: &[PathBuf], file: &Path, format: Format) -> Result<Outcome, Failure> {
    match format {
        Format::Table | Format::Json => {}
        Format::Dot | Format::Svg | Format::Html => {
            let problem = "answers to probes are JSON; a picture is drawn without --probes".to_owned();
            return Err(Failure::new("read the command line", Cause::Usage(problem)));
        }
    }
    let manifests = load::manifests_below(paths)?;
    let world = World::new(manifests.inventory);
    let judge = Judge::new(&manifests.policies, &world);
    let (name, bytes) = read_probes(file)?;
    let answers = probe::answer_all(&judge, &name, &bytes).map_err(refused)?;
    print_json(&answers).map(|()| Outcome::Done)
}

fn refused(findings: Vec<Finding>) -> Failure {
    Failure::new("answer the probes", Cause::Policy(findings))
}

/// The input's name and content. A pipe is as good as a file here: nothing is believed that was not typed by the caller.
fn read_probes(file: &Path) -> Result<(String, Vec<u8>), Failure> {
    let stdin = file.as_os_str() == "-";
    let name = if stdin { "stdin".to_owned() } else { file.display().to_string() };
    let failed = |error: std::io::Error| {
        Failure::new("read the probes", Cause::Io { path: name.clone(), errno: errno_of(&error) })
    };
    let source: Box<dyn Read> =
        if stdin { Box::new(std::io::stdin()) } else { Box::new(std::fs::File::open(file).map_err(failed)?) };
    let mut bytes = Vec::new();
    source.take(MAX_PROBES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_PROBES {
        let cause = Cause::Limit(format!("{name}: is longer than {MAX_PROBES} bytes (MAX_PROBES)"));
        return Err(Failure::new("read the probes", cause));
    }
    Ok((name, bytes))
}

/// Prints who can reach whom.
pub(super) fn tables(paths: &[PathBuf], format: Format, look: Look) -> Result<Outcome, Failure> {
    let manifests = load::manifests_below(paths)?;
    let world = World::new(manifests.inventory);
    let judge = Judge::new(&manifests.policies, &world);
    let reach = reach::reach(&manifests.policies, &judge, &world, &manifests.declared)?;
    let picture = || Picture::new(&reach, manifests.policies.network.len() + manifests.policies.cluster.len());
    match format {
        Format::Table => {
            let mut page = look.page();
            table::text(&reach, &mut page);
            page.print()?;
        }
        Format::Json => print_json(&format!("{}\n", table::json(&reach)))?,
        Format::Dot => print(&picture::dot(&picture()?))?,
        Format::Svg => print(&picture::svg(&picture()?))?,
        Format::Html => print(&picture::html(&picture()?))?,
    }
    Ok(Outcome::Done)
}
