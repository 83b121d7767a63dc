//! `netlatch check`: the hook's own parsers, in collect-everything mode.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::load::documents;
use super::page::{Look, Page, Style, plain};
use super::{Outcome, print_json};
use crate::document::{MAX_BYTES, Place};
use crate::error::{Failure, Finding};
use crate::kernel::files::{ReadError, Trust, read_regular};
use crate::policy::parse::{Collector, MAX_MANIFESTS};
use crate::printable;
use crate::settings::{self, Config, DEFAULT_FILE, DEFAULT_POLICIES};

/// Prints findings on stdout: one a line, unless a terminal is narrower.
pub(super) fn run(paths: &[PathBuf], strict: bool, json: bool, look: Look) -> Result<Outcome, Failure> {
    let mut check = Check::default();
    if paths.is_empty() {
        check.installed(None, Path::new(DEFAULT_FILE));
    }
    for path in paths {
        if path.is_dir() {
            check.folder(path, Others::Configurations);
        } else {
            check.file(path, Others::Configurations);
        }
    }
    let (errors, warnings) = check.finish();
    if json {
        print_json(&format!("{:#}\n", as_json(&errors, &warnings)))?;
    } else {
        let mut page = look.page_of_lines();
        errors.iter().for_each(|error| put(&mut page, Style::Bad, error, ""));
        warnings.iter().for_each(|warning| put(&mut page, Style::Doubtful, warning, " (warning)"));
        page.print()?;
    }
    let found = !errors.is_empty() || strict && !warnings.is_empty();
    Ok(if found { Outcome::Found } else { Outcome::Done })
}

/// A finding, with its place where the eye finds it.
fn put(page: &mut Page, style: Style, finding: &Finding, mark: &'static str) {
    let text = finding.to_string();
    let (place, message) = text.split_at(text.len() - printable::line(&finding.message).len());
    page.put(&[], &[style.on(place), plain(message), style.on(mark)], 4);
}

/// For programs.
fn as_json(errors: &[Finding], warnings: &[Finding]) -> Value {
    let of = |severity: &'static str, findings: &[Finding]| -> Vec<Value> {
        let one = |Finding { file, position, at, message }: &Finding| {
            let (line, column) = position.unzip();
            json!({"severity": severity, "file": file, "line": line, "column": column, "at": at, "message": message})
        };
        findings.iter().map(one).collect()
    };
    let findings = [of("error", errors), of("warning", warnings)].concat();
    json!({"errors": errors.len(), "warnings": warnings.len(), "findings": findings})
}

/// The errors and warnings of what a start with this configuration would read, on this host or on one whose files are
/// below `root`.
pub(super) fn installed(root: Option<&Path>, config: &Path) -> (Vec<Finding>, Vec<Finding>) {
    let mut check = Check { elsewhere: root.is_some(), ..Check::default() };
    check.installed(root, config);
    check.finish()
}

/// What documents without `apiVersion` and `kind` are.
#[derive(Clone, Copy, Debug)]
enum Others {
    /// Configurations, one in a file.
    Configurations,
    /// Mistakes: the folder is for manifests.
    Mistakes,
}

/// All files of one call: an object may stand in one of them only.
#[derive(Debug, Default)]
struct Check {
    collector: Collector,
    /// Of files that are no manifests, or cannot be read.
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
    /// The files are another host's: who may change them here says nothing.
    elsewhere: bool,
}

impl Check {
    /// What a start on this host would read, or on one whose files are below `root`.
    fn installed(&mut self, root: Option<&Path>, config: &Path) {
        let below = |path: &Path| match (root, path.strip_prefix("/")) {
            (Some(root), Ok(relative)) => root.join(relative),
            (Some(_), Err(_)) | (None, _) => path.to_owned(),
        };
        let file = below(config);
        let mut policies = PathBuf::from(DEFAULT_POLICIES);
        if !matches!(read_regular(&file, (MAX_BYTES, "MAX_BYTES"), Trust::Any), Err(ReadError::Missing))
            && let Some(bytes) = self.read(&file, (MAX_BYTES, "MAX_BYTES"))
        {
            let (config, errors, warnings) = settings::check(&file.display().to_string(), &bytes);
            self.errors.extend(errors);
            self.warnings.extend(warnings);
            if let Some(named) = config.and_then(|config| config.policies) {
                policies = named.value;
            }
        }
        self.folder(&below(&policies), Others::Mistakes);
    }

    fn folder(&mut self, dir: &Path, others: Others) {
        match documents(dir) {
            Ok(paths) => paths.iter().for_each(|path| self.file(path, others)),
            Err(failure) => self.errors.push(finding(dir, failure.cause.to_string())),
        }
    }

    fn file(&mut self, path: &Path, others: Others) {
        let Some(bytes) = self.read(path, (MAX_MANIFESTS, "MAX_MANIFESTS")) else { return };
        let name = path.display().to_string();
        match others {
            Others::Mistakes => self.collector.read(&name, &bytes),
            Others::Configurations => {
                let mut before = false;
                self.collector.read_with(&name, &bytes, &mut |place: &Place<'_>| {
                    if std::mem::replace(&mut before, true) {
                        place.refuse("a configuration is one document, and this is another");
                    } else {
                        Config::read(place);
                    }
                });
            }
        }
    }

    fn read(&mut self, path: &Path, limit: (usize, &'static str)) -> Option<Vec<u8>> {
        let trust = if self.elsewhere { Trust::Any } else { Trust::Guarded };
        let mut read = read_regular(path, limit, trust);
        // The hook believes only files that nobody else may write; a draft may be anybody's.
        if let Err(
            error @ (ReadError::Owner { .. } | ReadError::Writable { .. } | ReadError::Way { .. } | ReadError::Linked),
        ) = read
        {
            self.warnings.push(finding(path, error.to_string()));
            read = read_regular(path, limit, Trust::Any);
        }
        read.map_err(|error| self.errors.push(finding(path, error.to_string()))).ok()
    }

    /// Errors and warnings, file by file.
    fn finish(self) -> (Vec<Finding>, Vec<Finding>) {
        let (mut errors, mut warnings) = (self.errors, self.warnings);
        let outcome = self.collector.finish();
        errors.extend(outcome.errors);
        warnings.extend(outcome.warnings);
        // Stable: those of one file and place stay in their order.
        errors.sort_by(|a, b| (&a.file, a.position).cmp(&(&b.file, b.position)));
        warnings.sort_by(|a, b| (&a.file, a.position).cmp(&(&b.file, b.position)));
        (errors, warnings)
    }
}

fn finding(path: &Path, message: String) -> Finding {
    Finding { file: path.display().to_string(), position: None, at: String::new(), message }
}
