//! The only file reads: hands bytes to parsers.

use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::document::MAX_BYTES;
use crate::error::{Cause, Failure, Finding};
use crate::kernel::files::{ReadError, Trust, believe_folder, read_of_bundle, read_regular};
use crate::oci::bundle::MAX_BUNDLE;
use crate::oci::{Bundle, Requests, State, annotations, sandbox_file};
use crate::policy::parse::{Collector, MAX_FILES, MAX_MANIFESTS, Manifests, Outcome};
use crate::policy::watch;
use crate::settings::{Config, DEFAULT_FILE, Settings, complete, is_same_pod};

/// Where the configuration is: the default may be absent, a named one may not.
#[derive(Clone, Debug)]
pub(super) struct ConfigFile {
    pub(super) path: PathBuf,
    pub(super) named: bool,
}

impl ConfigFile {
    pub(super) fn new(named: Option<PathBuf>) -> ConfigFile {
        ConfigFile { named: named.is_some(), path: named.unwrap_or_else(|| PathBuf::from(DEFAULT_FILE)) }
    }

    pub(super) fn read(&self, trust: Trust) -> Result<Option<Config>, Failure> {
        let name = self.path.display().to_string();
        match read_regular(&self.path, (MAX_BYTES, "MAX_BYTES"), trust) {
            Ok(bytes) => Config::parse(&name, &bytes).map(Some),
            Err(ReadError::Missing) if !self.named => Ok(None),
            Err(error) => {
                let finding = Finding { file: name, position: None, at: String::new(), message: error.to_string() };
                Err(Failure::new("read the configuration", Cause::Config(vec![finding])))
            }
        }
    }
}

/// config.json; `None` where it is missing, for the bundle is a hint (containers/crun#2025).
pub(super) fn bundle(state: &State) -> Result<Option<Bundle>, Failure> {
    state.bundle.as_ref().map_or(Ok(None), |dir| specification(&dir.join("config.json")))
}

/// A config.json, believed or an error; `None` where it is missing.
fn specification(path: &Path) -> Result<Option<Bundle>, Failure> {
    let name = path.display().to_string();
    let failed = |error: &ReadError| {
        let cause = Cause::Bundle { file: name.clone(), problem: error.to_string() };
        Failure::new("read the container's specification", cause)
    };
    let (bytes, owner) = match read_of_bundle(path, (MAX_BUNDLE, "MAX_BUNDLE")) {
        Ok(read) => read,
        Err(ReadError::Missing) => return Ok(None),
        Err(error) => return Err(failed(&error)),
    };
    let bundle = Bundle::parse(&name, &bytes)?;
    if owner.is_some() && owner != bundle.root_outside {
        let folder = path.parent().unwrap_or(path).to_owned();
        return Err(failed(&ReadError::Way { folder, owner, mode: 0 }));
    }
    Ok(Some(bundle))
}

/// Everything that says what one container is to get.
#[derive(Debug)]
pub(super) struct Inputs {
    pub(super) state: State,
    pub(super) bundle: Option<Bundle>,
    pub(super) settings: Settings,
    pub(super) manifests: Manifests,
}

/// Reads and decides.
pub(super) fn inputs(state: State, config: &ConfigFile, trust: Trust) -> Result<Inputs, Failure> {
    let bundle = bundle(&state)?;
    let requests = match annotations(&state, bundle.as_ref()) {
        Some(annotations) => {
            let file = state.bundle.as_ref().and_then(|dir| sandbox_file(annotations, dir));
            let sandbox = file.map_or(Ok(None), |file| specification(&file))?;
            Requests::parse_in_pod(annotations, sandbox.as_ref())?
        }
        None => Requests::default(),
    };
    let mut settings = Settings::decide(config.read(trust)?, requests)?;
    let mut manifests = policies(&settings.policies.value, trust)?;
    complete(&mut settings.identity, &manifests.inventory)?;
    // The container itself is that pod from here on, and stands for it among its peers.
    manifests.inventory.pods.retain(|pod| !is_same_pod(&settings.identity, pod));
    Ok(Inputs { state, bundle, settings, manifests })
}

impl Inputs {
    /// Whether there are policies, whomever they govern.
    pub(super) fn has_policies(&self) -> bool {
        !self.manifests.policies.is_empty()
    }

    /// What selectors see of the container.
    ///
    /// # Errors
    /// [`Cause::Bundle`] where its engine keeps its labels where they could not be had.
    pub(super) fn identity(&self) -> Result<watch::Identity, Failure> {
        let identity = &self.settings.identity;
        identity.to_policies(self.manifests.inventory.namespace_labels(&identity.namespace.value))
    }
}

/// The manifests of the policies folder that a configuration names.
pub(super) fn policies_under(config: &ConfigFile, trust: Trust) -> Result<Manifests, Failure> {
    policies(&folder(config, trust)?, trust)
}

/// Manifests without a problem.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) manifests: Manifests,
    /// What is allowed and probably not meant.
    pub(super) warnings: Vec<Finding>,
}

/// The same as [`policies_under`] with what is to be said of them.
pub(super) fn loaded(config: &ConfigFile, trust: Trust) -> Result<Loaded, Failure> {
    let dir = folder(config, trust)?;
    let Some(listed) = listed(&dir, trust)? else {
        return Ok(Loaded { manifests: Manifests::default(), warnings: Vec::new() });
    };
    let (collector, unread) = read(&documents(&dir)?, listed);
    let Outcome { manifests, errors, warnings } = collector.finish();
    let manifests = without_problem(manifests.ok_or(errors), unread)?;
    Ok(Loaded { manifests, warnings })
}

fn folder(config: &ConfigFile, trust: Trust) -> Result<PathBuf, Failure> {
    Ok(Settings::decide(config.read(trust)?, Requests::default())?.policies.value)
}

/// Reads the manifests of a policies folder. One that is not there holds none.
pub(super) fn policies(dir: &Path, trust: Trust) -> Result<Manifests, Failure> {
    match listed(dir, trust)? {
        Some(listed) => manifests(&documents(dir)?, listed),
        None => Ok(Manifests::default()),
    }
}

/// How the files of a policies folder are believed, by what may be said of the folder itself. `None`: there is none.
fn listed(dir: &Path, trust: Trust) -> Result<Option<Trust>, Failure> {
    match trust {
        Trust::Any => Ok(Some(Trust::Any)),
        Trust::Guarded | Trust::Listed => match believe_folder(dir) {
            Ok(()) => Ok(Some(Trust::Listed)),
            Err(ReadError::Missing) => Ok(None),
            Err(error) => {
                let file = dir.display().to_string();
                let finding = Finding { file, position: None, at: String::new(), message: error.to_string() };
                Err(Failure::new("read the policies", Cause::Policy(vec![finding])))
            }
        },
    }
}

/// Manifests that somebody names: files as they are, folders as their documents.
pub(super) fn manifests_below(paths: &[PathBuf]) -> Result<Manifests, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() { files.append(&mut documents(path)?) } else { files.push(path.clone()) }
    }
    manifests(&files, Trust::Any)
}

/// Reads manifests from these files, all together.
pub(super) fn manifests(files: &[PathBuf], trust: Trust) -> Result<Manifests, Failure> {
    let (collector, unread) = read(files, trust);
    without_problem(collector.manifests(), unread)
}

/// What is in these files, and those that could not be read.
fn read(files: &[PathBuf], trust: Trust) -> (Collector, Vec<Finding>) {
    let mut collector = Collector::new();
    let mut unread = Vec::new();
    for path in files {
        let name = path.display().to_string();
        match read_regular(path, (MAX_MANIFESTS, "MAX_MANIFESTS"), trust) {
            Ok(bytes) => collector.read(&name, &bytes),
            Err(error) => {
                unread.push(Finding { file: name, position: None, at: String::new(), message: error.to_string() });
            }
        }
    }
    (collector, unread)
}

fn without_problem(read: Result<Manifests, Vec<Finding>>, mut unread: Vec<Finding>) -> Result<Manifests, Failure> {
    match read {
        Ok(manifests) if unread.is_empty() => Ok(manifests),
        Ok(_) => Err(Failure::new("read the policies", Cause::Policy(unread))),
        Err(errors) => {
            unread.extend(errors);
            Err(Failure::new("read the policies", Cause::Policy(unread)))
        }
    }
}

/// The documents of a folder: every `*.yaml`, `*.yml`, `*.json` directly in it, by name, dot files skipped. A folder
/// that is not there holds none.
pub(super) fn documents(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error: std::io::Error| {
        let cause = Cause::Io { path: dir.display().to_string(), errno: crate::error::errno_of(&error) };
        Failure::new("list the documents of a folder", cause)
    };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if crate::error::errno_of(&error) == Errno::ENOENT => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let wanted = path.extension().is_some_and(|ext| ["yaml", "yml", "json"].iter().any(|known| ext == *known));
        if wanted && !hidden {
            paths.push(path);
        }
        if paths.len() > MAX_FILES {
            let problem = format!("{}: there are more than {MAX_FILES} documents in it (MAX_FILES)", dir.display());
            return Err(Failure::new("list the documents of a folder", Cause::Limit(problem)));
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_a_most_documents() {
        let dir = tempfile::tempdir().unwrap();
        let write = |n: usize| std::fs::write(dir.path().join(format!("{n}.yaml")), "").unwrap();
        (0..MAX_FILES).for_each(write);
        // What is no document does not count.
        std::fs::write(dir.path().join("README"), "").unwrap();
        assert_eq!(documents(dir.path()).unwrap().len(), MAX_FILES);
        write(MAX_FILES);
        let failure = documents(dir.path()).unwrap_err();
        assert_eq!(failure.exit_code(), 41);
        assert!(failure.to_string().contains("(MAX_FILES)"), "{failure}");
    }
}
