//! `netlatch install` and `netlatch uninstall`: the ways an engine gets to know the hook.
//!
//! Three rules hold for each way. What is there already is not changed, but for what an earlier installation wrote. What
//! is taken away is what an installation writes, and nothing of that name which somebody has altered: it is named, and the
//! exit code is 1. And nothing is written before everything was read.

mod bundle;
mod cdi;
mod containerd;
mod hooks_d;
mod program;
mod report;

use std::path::{Component, Path, PathBuf};

use self::report::Report;
use super::Outcome;
use crate::error::{Cause, Failure};
use crate::kernel::files::ReadError;
use crate::kernel::files::place::{Root, Standing};
use crate::oci::bundle::MAX_BUNDLE;
use crate::oci::hooks::patch::{ALTERED, TOLD};
use crate::oci::hooks::{Call, Kin, PROGRAM};

/// Where podman, CRI-O and NRI's hook-injector read hook files unless told otherwise.
const HOOKS_D: &str = "/usr/share/containers/oci/hooks.d";
/// Where engines read CDI specifications that outlive a reboot. The other folder, /var/run/cdi, is for generated ones.
const CDI_D: &str = "/etc/cdi";
/// Where the base specification goes.
const BASE_SPEC: &str = "/etc/containerd/netlatch-base-spec.json";

/// `netlatch install`.
#[derive(Debug, clap::Args)]
pub(super) struct Install {
    #[command(subcommand)]
    target: Option<Target>,
    /// Where the hook's program is, as engines will call it; without a target or with `program`, where it is put
    #[arg(long, value_name = "FILE", default_value = PROGRAM, global = true)]
    path: PathBuf,
    /// The configuration file that the hook is told; without it, it reads /etc/netlatch/config.yaml if there is one
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The state directory that the hook is told; without it, /run/netlatch
    #[arg(long, value_name = "DIR", global = true)]
    run_dir: Option<PathBuf>,
    #[command(flatten)]
    how: How,
}

/// `netlatch uninstall`.
#[derive(Debug, clap::Args)]
pub(super) struct Uninstall {
    #[command(subcommand)]
    target: Option<Former>,
    /// Where the hook's program is
    #[arg(long, value_name = "FILE", default_value = PROGRAM, global = true)]
    path: PathBuf,
    #[command(flatten)]
    how: How,
}

/// What both take.
#[derive(Debug, clap::Args)]
struct How {
    /// Print what would be written or removed, and do nothing
    #[arg(long, global = true)]
    dry_run: bool,
    /// A folder to take for /: every path that is read or written is below it
    #[arg(long, value_name = "DIR", global = true)]
    destdir: Option<PathBuf>,
}

/// The ways to install.
#[derive(Debug, clap::Subcommand)]
enum Target {
    /// The program itself, at --path
    Program,
    /// Hook files for podman, CRI-O and NRI's hook-injector
    #[command(name = "hooks.d")]
    HooksD {
        /// The folder
        #[arg(long, value_name = "DIR", default_value = HOOKS_D)]
        dir: PathBuf,
        /// Call the hook for every container, and not only for those with an annotation of netlatch's
        #[arg(long)]
        always: bool,
    },
    /// A CDI device for podman, Docker, containerd and CRI-O: --device netlatch.io/net=on
    Cdi {
        /// The folder
        #[arg(long, value_name = "DIR", default_value = CDI_D)]
        dir: PathBuf,
    },
    /// A base specification for containerd's CRI plugin
    Containerd {
        /// What the hooks are put into, a file or - for stdin: what `ctr oci spec` prints. Without it, the output itself
        #[arg(long, value_name = "FILE")]
        spec: Option<PathBuf>,
        /// The base specification
        #[arg(long, value_name = "FILE", default_value = BASE_SPEC)]
        output: PathBuf,
    },
    /// One bundle of runc, crun or youki: its config.json
    Bundle {
        /// The bundle's folder
        dir: PathBuf,
    },
}

/// The ways to uninstall.
#[derive(Debug, clap::Subcommand)]
enum Former {
    /// The program itself, at --path
    Program,
    /// The hook files
    #[command(name = "hooks.d")]
    HooksD {
        /// The folder
        #[arg(long, value_name = "DIR", default_value = HOOKS_D)]
        dir: PathBuf,
    },
    /// The CDI device
    Cdi {
        /// The folder
        #[arg(long, value_name = "DIR", default_value = CDI_D)]
        dir: PathBuf,
    },
    /// The base specification
    Containerd {
        /// The base specification
        #[arg(long, value_name = "FILE", default_value = BASE_SPEC)]
        output: PathBuf,
    },
    /// One bundle's hooks
    Bundle {
        /// The bundle's folder
        dir: PathBuf,
    },
}

/// What the help says beyond its options.
pub(super) const INSTALL_HELP: &str = "\
Without a target the program is put at --path and hook files are written, as with `program` and `hooks.d`. That is all that podman \
and CRI-O need.

Examples:
  netlatch install
  netlatch install --dry-run
  netlatch install cdi
  ctr oci spec | netlatch install containerd --spec -
  netlatch install bundle /path/to/bundle

What is there already stays, but for what an earlier installation wrote. The exit code is 1 where something of netlatch's \
name was left alone, since it is not as an installation writes it.";

/// The same.
pub(super) const UNINSTALL_HELP: &str = "\
Without a target all that `netlatch install` writes outside of bundles is removed, the program last. Configuration, policies and \
/run/netlatch stay.

What is not as an installation writes it is left alone and named; the exit code is then 1.";

/// What all targets share.
struct Site {
    root: Root,
    report: Report,
    /// Whether the paths are the host's own.
    host: bool,
}

impl Site {
    /// `make`: a folder that stands for / is made where it is missing.
    fn new(how: &How, make: bool) -> Result<Site, Failure> {
        let root = Root::open(how.destdir.as_deref(), make)?;
        Ok(Site { root, report: Report::new(how.dry_run), host: how.destdir.is_none() })
    }

    /// The text at a path; `None` where nothing is. What is no text is nothing of ours.
    fn text(&self, path: &Path) -> Result<Option<String>, Failure> {
        match self.root.read(path, (MAX_BUNDLE, "MAX_BUNDLE")) {
            Ok(found) => Ok(Some(String::from_utf8_lossy(&found.bytes).into_owned())),
            Err(ReadError::Missing) => Ok(None),
            Err(error) => Err(unreadable(&self.root.shown(path), &error)),
        }
    }

    /// Puts a file of our own in place and says so; `was` is what is there now.
    fn put(&mut self, path: &Path, text: &str, was: Option<&str>) -> Result<(), Failure> {
        let shown = self.root.shown(path);
        if was == Some(text) {
            self.report.unchanged(&shown);
            return Ok(());
        }
        if !self.report.dry {
            self.root.put(path, text.as_bytes(), Standing::READABLE)?;
        }
        self.report.wrote(&shown, was, text);
        Ok(())
    }

    /// The same with a file that may be somebody's own by now: `kin` says what is there.
    fn bring(&mut self, path: &Path, text: &str, was: Option<&str>, kin: impl Fn(&str) -> Kin) -> Result<(), Failure> {
        let why = match was.map(|was| (was == text, kin(was))) {
            None | Some((true, _) | (false, Kin::Plain)) => return self.put(path, text, was),
            Some((false, Kin::Told)) => TOLD,
            Some((false, Kin::Altered | Kin::Foreign)) => ALTERED,
        };
        self.report.left(&self.root.shown(path), why);
        Ok(())
    }

    /// Takes away what [`Site::bring`] brought.
    fn take_back(&mut self, path: &Path, was: Option<&str>, kin: impl Fn(&str) -> Kin) -> Result<(), Failure> {
        match was.map(kin) {
            None => {}
            Some(Kin::Plain | Kin::Told) => self.remove(path)?,
            Some(Kin::Altered | Kin::Foreign) => self.report.left(&self.root.shown(path), ALTERED),
        }
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> Result<(), Failure> {
        if !self.report.dry {
            self.root.remove(path)?;
        }
        self.report.removed(&self.root.shown(path));
        Ok(())
    }

    /// Engines pass over a hook without its program, some in silence. So it has to be there before it is named.
    fn has_program(&mut self, call: &Call) -> Result<(), Failure> {
        let path = Path::new(&call.path);
        if self.root.has_program(path) {
            return Ok(());
        }
        // An image may get the program later, and a look changes nothing.
        if self.host && !self.report.dry {
            let cause = Cause::Io { path: call.path.clone(), errno: nix::errno::Errno::ENOENT };
            let doing = "name a program that is not there (`netlatch install program` puts it there)";
            return Err(Failure::new(doing, cause));
        }
        let shown = self.root.shown(path);
        self.report.note(&format!("no program is at {} yet: `netlatch install program`", shown.display()));
        Ok(())
    }
}

/// What a path leads to that is no file, too long a one, or out of reach.
fn unreadable(path: &Path, error: &ReadError) -> Failure {
    use nix::errno::Errno;
    let errno = match error {
        ReadError::Missing => Errno::ENOENT,
        ReadError::Symlink => Errno::ELOOP,
        ReadError::NotRegular => Errno::EISDIR,
        ReadError::TooLong { limit, name } => {
            let problem = format!("{} is longer than {limit} bytes ({name})", path.display());
            return Failure::new("look at what is there", Cause::Limit(problem));
        }
        ReadError::Errno(errno) => *errno,
        ReadError::Owner { .. } | ReadError::Writable { .. } | ReadError::Way { .. } | ReadError::Linked => {
            Errno::EPERM
        }
    };
    let doing = if errno == Errno::ELOOP {
        "look at what is there, a symbolic link, which is neither followed nor replaced"
    } else {
        "look at what is there"
    };
    Failure::new(doing, Cause::Io { path: path.display().to_string(), errno })
}

pub(super) fn install(wanted: Install) -> Result<Outcome, Failure> {
    let Install { target, path, config, run_dir, how } = wanted;
    let call = Call {
        path: absolute(&path, "--path")?,
        config: option(config, "--config")?,
        run_dir: option(run_dir, "--run-dir")?,
    };
    let mut site = Site::new(&how, !how.dry_run)?;
    let done = put(&mut site, target, &how, &call);
    site.report.finish(done)
}

fn put(site: &mut Site, target: Option<Target>, how: &How, call: &Call) -> Result<(), Failure> {
    match target {
        None => {
            hooks_d::read(site, Path::new(HOOKS_D))?;
            program::install(site, call)?;
            hooks_d::install(site, Path::new(HOOKS_D), call, false)?;
            site.report.hints(&site.root);
        }
        Some(Target::Program) => program::install(site, call)?,
        Some(Target::HooksD { dir, always }) => {
            site.has_program(call)?;
            hooks_d::install(site, &whole(&dir, how)?, call, always)?;
        }
        Some(Target::Cdi { dir }) => {
            site.has_program(call)?;
            cdi::install(site, &whole(&dir, how)?, call)?;
        }
        Some(Target::Containerd { spec, output }) => {
            site.has_program(call)?;
            containerd::install(site, spec.as_deref(), &whole(&output, how)?, call)?;
        }
        Some(Target::Bundle { dir }) => {
            site.has_program(call)?;
            bundle::install(site, &whole(&dir, how)?, call)?;
        }
    }
    Ok(())
}

pub(super) fn uninstall(wanted: Uninstall) -> Result<Outcome, Failure> {
    let Uninstall { target, path, how } = wanted;
    let path = PathBuf::from(absolute(&path, "--path")?);
    let mut site = Site::new(&how, false)?;
    let done = take(&mut site, target, &how, &path);
    site.report.finish(done)
}

fn take(site: &mut Site, target: Option<Former>, how: &How, path: &Path) -> Result<(), Failure> {
    match target {
        None => {
            hooks_d::uninstall(site, Path::new(HOOKS_D))?;
            cdi::uninstall(site, Path::new(CDI_D))?;
            containerd::uninstall(site, Path::new(BASE_SPEC))?;
            program::uninstall(site, path)?;
        }
        Some(Former::Program) => program::uninstall(site, path)?,
        Some(Former::HooksD { dir }) => hooks_d::uninstall(site, &whole(&dir, how)?)?,
        Some(Former::Cdi { dir }) => cdi::uninstall(site, &whole(&dir, how)?)?,
        Some(Former::Containerd { output }) => containerd::uninstall(site, &whole(&output, how)?)?,
        Some(Former::Bundle { dir }) => bundle::uninstall(site, &whole(&dir, how)?)?,
    }
    Ok(())
}

/// A path for a hook's entry: engines neither search nor know where we were called.
fn absolute(path: &Path, option: &str) -> Result<String, Failure> {
    let wrong = |why: &str| {
        let problem = format!("{option} {}: {why}", path.display());
        Err(Failure::new("read the command line", Cause::Usage(problem)))
    };
    match path.to_str() {
        None => wrong("not UTF-8, which JSON must be"),
        Some(_) if !path.is_absolute() => wrong("give an absolute path"),
        Some(_) if path.components().any(|part| part == Component::ParentDir) => wrong("give a path without .."),
        Some(text) => Ok(text.to_owned()),
    }
}

fn option(path: Option<PathBuf>, name: &str) -> Result<Option<String>, Failure> {
    path.map(|path| absolute(&path, name)).transpose()
}

/// A path from `/` on: of the host it may be meant from where we are.
fn whole(path: &Path, how: &How) -> Result<PathBuf, Failure> {
    if how.destdir.is_some() {
        return Ok(path.to_owned());
    }
    std::path::absolute(path).map_err(|error| {
        let cause = Cause::Io { path: path.display().to_string(), errno: crate::error::errno_of(&error) };
        Failure::new("find the current folder", cause)
    })
}
