//! `netlatch check`: the hook's own parsers, in collect-everything mode.

use std::path::{Path, PathBuf};

use super::load::documents;
use super::{Outcome, print};
use crate::document::MAX_BYTES;
use crate::error::{Failure, Finding};
use crate::kernel::files::{ReadError, Trust, read_regular};
use crate::logging::printable;
use crate::settings::{self, DEFAULT_FILE, DEFAULT_POLICIES};

/// Prints findings, one a line, on stdout.
pub(super) fn run(paths: &[PathBuf], strict: bool) -> Result<Outcome, Failure> {
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    if paths.is_empty() {
        let file = Path::new(DEFAULT_FILE);
        if !matches!(read_regular(file, (MAX_BYTES, "MAX_BYTES"), Trust::Any), Err(ReadError::Missing)) {
            check_path(file, &mut errors, &mut warnings);
        }
        check_folder(Path::new(DEFAULT_POLICIES), &mut errors, &mut warnings);
    }
    for path in paths {
        if path.is_dir() {
            check_folder(path, &mut errors, &mut warnings);
        } else {
            check_path(path, &mut errors, &mut warnings);
        }
    }
    let lines: String = errors
        .iter()
        .map(|finding| format!("{}\n", printable(&finding.to_string())))
        .chain(warnings.iter().map(|finding| format!("{} (warning)\n", printable(&finding.to_string()))))
        .collect();
    print(&lines)?;
    let found = !errors.is_empty() || strict && !warnings.is_empty();
    Ok(if found { Outcome::Found } else { Outcome::Done })
}

fn finding(path: &Path, message: String) -> Finding {
    Finding { file: path.display().to_string(), position: None, at: String::new(), message }
}

fn check_folder(dir: &Path, errors: &mut Vec<Finding>, warnings: &mut Vec<Finding>) {
    match documents(dir) {
        Ok(paths) => paths.iter().for_each(|path| check_path(path, errors, warnings)),
        Err(failure) => errors.push(finding(dir, failure.cause.to_string())),
    }
}

fn check_path(path: &Path, errors: &mut Vec<Finding>, warnings: &mut Vec<Finding>) {
    let name = path.display().to_string();
    let bytes = match read_regular(path, (MAX_BYTES, "MAX_BYTES"), Trust::Any) {
        Ok(bytes) => bytes,
        Err(error) => {
            errors.push(finding(path, error.to_string()));
            return;
        }
    };
    // The hook believes only files that nobody else may write; a draft may be anybody's.
    if let Err(error @ (ReadError::Owner { .. } | ReadError::Writable { .. })) =
        read_regular(path, (MAX_BYTES, "MAX_BYTES"), Trust::Guarded)
    {
        warnings.push(finding(path, error.to_string()));
    }
    let (_, found, warned) = settings::check(&name, &bytes);
    errors.extend(found);
    warnings.extend(warned);
}
