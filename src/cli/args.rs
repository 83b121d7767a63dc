//! The command line of people. Help, completions and the man page come from these definitions.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use super::{
    Outcome, check, doctor, explain, guides, inspect, install, last_error, learn, page, plan, print, reach, reload,
    schema, verify,
};
use crate::error::{Cause, EXIT_INTERNAL, EXITS, Failure};
use crate::registry::RUN_DIR;

/// Locks a container's network before its first instruction.
///
/// A container runtime calls netlatch as an OCI hook: it joins the container's network namespace, brings lo up, sets
/// network sysctls and installs egress and ingress rules in one atomic netlink batch. If any of that cannot be done,
/// the container does not start.
#[derive(Debug, Parser)]
#[command(name = "netlatch", version, subcommand_required = true, arg_required_else_help = false)]
#[command(disable_help_subcommand = true, subcommand_value_name = "COMMAND", after_help = topics_and_exits())]
#[command(styles = page::STYLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Protect a container that is being created (OCI stage; state on stdin)
    #[command(name = "createRuntime")]
    CreateRuntime(StageOptions),
    /// The older name of createRuntime
    #[command(name = "prestart")]
    Prestart(StageOptions),
    /// Verify the protection and complete late interfaces (OCI stage; state on stdin)
    #[command(name = "poststart")]
    Poststart(StageOptions),
    /// Forget a container (OCI stage; state on stdin)
    #[command(name = "poststop")]
    Poststop(StageOptions),
    /// Validate configuration and policies: FILE:LINE:COLUMN: MESSAGE each
    Check {
        /// Files and folders; without any, /etc/netlatch/config.yaml and /etc/netlatch/policies
        paths: Vec<PathBuf>,
        /// Exit with 1 on warnings too
        #[arg(long)]
        strict: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        look: page::Look,
    },
    /// Print what a start would do
    Plan {
        /// The container's state, a file or - for stdin
        #[arg(long, value_name = "FILE")]
        state: PathBuf,
        /// The configuration file
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// For people, for `nft -f`, or for programs
        #[arg(long, value_enum, default_value_t)]
        format: plan::Format,
        /// Print JSON: the same as --format json
        #[arg(long, conflicts_with = "format")]
        json: bool,
    },
    /// Tell who can reach whom under these manifests: a table per port, or one answer per probe
    ///
    /// Policies are judged as Kubernetes does, with the pods, namespaces, nodes and services of the same manifests. Nothing
    /// is asked of this machine. The exit code is 0 whatever is denied.
    #[command(after_help = reach::HELP)]
    Reach {
        /// Manifests: files, and folders with all their *.yaml, *.yml and *.json
        #[arg(short = 'f', long = "filename", value_name = "PATH", required = true, num_args = 1..)]
        paths: Vec<PathBuf>,
        /// Probes, one JSON object a line; a file or - for stdin
        #[arg(long, value_name = "FILE")]
        probes: Option<PathBuf>,
        /// For people, for programs, or drawn; probes are answered in JSON
        // One option with two names: `--format` is what other commands call it, `--output` what scripts already say.
        #[arg(long, short = 'o', visible_alias = "output", value_enum, default_value_t)]
        format: reach::Format,
        /// Print JSON: the same as --format json
        #[arg(long, conflicts_with = "format")]
        json: bool,
        #[command(flatten)]
        look: page::Look,
    },
    /// Tell what becomes of one packet, which rule decides and where it was written, and what came near
    #[command(after_help = explain::HELP)]
    Explain(explain::Question),
    /// Apply changed policies and lists to running containers
    ///
    /// Everything is read and planned first, so a mistake changes nothing. Then the rules of each container are replaced in
    /// one batch, and flows that the new rules would not let begin are ended. It waits for starts and stops that are under
    /// way, and ends with 41 where the whole takes more than 120 seconds. A container that runs and would not start today is
    /// named on stderr, and so is a damaged record; all others are brought up to date, and the exit code is not 0.
    Reload {
        /// The configuration file
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// The state directory
        #[arg(long, value_name = "DIR", default_value = RUN_DIR)]
        run_dir: PathBuf,
    },
    /// Show what the kernel holds of a container now, what it has denied, and what no rule covers
    #[command(after_help = inspect::HELP)]
    Inspect(inspect::Question),
    /// Print the list that would have allowed exactly what a container was seen to do
    #[command(after_help = learn::HELP)]
    Learn(learn::Question),
    /// Compare the kernel with what containers started with, and name those that run without
    #[command(after_help = verify::HELP)]
    Verify(verify::Question),
    /// Look for what keeps containers from coming through the hook on this machine, and say what to do
    #[command(after_help = doctor::HELP)]
    Doctor(doctor::Question),
    /// Print why the last start failed
    #[command(name = "last-error")]
    LastError {
        /// The container; without it, the last failure of any
        id: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        look: page::Look,
        /// The state directory
        #[arg(long, value_name = "DIR", default_value = RUN_DIR)]
        run_dir: PathBuf,
    },
    /// Make the hook known to engines, or to one bundle
    #[command(after_help = install::INSTALL_HELP)]
    Install(install::Install),
    /// Take back what install did
    #[command(after_help = install::UNINSTALL_HELP)]
    Uninstall(install::Uninstall),
    /// Print a JSON schema (draft 2020-12) of what is read, or of what is printed for programs
    #[command(after_help = schema::HELP)]
    Schema(schema::Question),
    /// Print a completion script
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
    /// Print or write the man pages
    Man(guides::pages::Question),
    /// Print a guide, or what a command is about
    Help(guides::Question),
}

/// Parsed by [`super::hook`] before this parser is built; here for the help.
#[derive(Debug, clap::Args)]
struct StageOptions {
    /// The configuration file; the default one may be absent
    #[arg(long, value_name = "FILE", default_value = crate::settings::DEFAULT_FILE)]
    config: PathBuf,
    /// The state directory
    #[arg(long, value_name = "DIR", default_value = RUN_DIR)]
    run_dir: PathBuf,
}

/// What exit code 1 means.
pub(super) const FOUND: &str = "check: something was found; inspect, learn: no such container runs, or nothing was recorded; last-error: nothing is recorded; install, uninstall: something was left alone; doctor, verify: something is wrong";

/// The guides and the exit codes as the help shows them.
fn topics_and_exits() -> String {
    let rows = EXITS.iter().chain([&EXIT_INTERNAL]).map(|exit| format!("  {}  {}\n", exit.code, exit.meaning));
    let (topics, rows) = (guides::topics(), rows.collect::<String>());
    format!("Guides, printed by `netlatch help GUIDE`:\n{topics}\nExit codes:\n   0  done\n   1  {FOUND}\n{rows}")
}

pub(super) fn run(args: &[OsString]) -> Result<Outcome, Failure> {
    let name = OsString::from("netlatch");
    let command = Cli::command().term_width(page::help_width());
    let matches = command.try_get_matches_from(std::iter::once(&name).chain(args));
    let cli = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => return page::print_help(&error.render()).map(|()| Outcome::Done),
        Err(error) => {
            super::hook::drain_quietly();
            let text = error.render().to_string();
            // One line: what is wrong with the names it is about, which stand on lines of their own; not the usage.
            let problem = text.trim_start_matches("error: ").split("\n\n").next().unwrap_or_default();
            let problem = problem.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
            return Err(Failure::new("read the command line", Cause::Usage(problem)));
        }
    };
    match cli.command {
        Command::CreateRuntime(_) | Command::Prestart(_) | Command::Poststart(_) | Command::Poststop(_) => {
            let problem = "a stage's name must be the first argument".to_owned();
            Err(Failure::new("read the command line", Cause::Usage(problem)))
        }
        Command::Check { paths, strict, json, look } => check::run(&paths, strict, json, look),
        Command::Plan { state, config, format, json } => {
            plan::run(&state, config, if json { plan::Format::Json } else { format })
        }
        Command::Reach { paths, probes, format, json, look } => {
            let format = if json { reach::Format::Json } else { format };
            match probes {
                Some(file) => reach::probes(&paths, &file, format),
                None => reach::tables(&paths, format, look),
            }
        }
        Command::Explain(question) => explain::run(&question),
        Command::Reload { config, run_dir } => reload::run(config, &run_dir),
        Command::Inspect(question) => inspect::run(&question),
        Command::Learn(question) => learn::run(&question),
        Command::Verify(question) => verify::run(&question),
        Command::Doctor(question) => doctor::run(&question),
        Command::LastError { id, json, look, run_dir } => last_error::run(&run_dir, id.as_deref(), json, look),
        Command::Install(wanted) => install::install(wanted),
        Command::Uninstall(wanted) => install::uninstall(wanted),
        Command::Schema(question) => schema::run(&question),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "netlatch", &mut script);
            print(&String::from_utf8_lossy(&script)).map(|()| Outcome::Done)
        }
        Command::Man(question) => guides::pages::run(Cli::command(), &question),
        Command::Help(question) => guides::help(Cli::command().term_width(page::help_width()), &question),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }
}
