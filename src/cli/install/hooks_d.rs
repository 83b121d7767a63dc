//! Hook files: podman, CRI-O, NRI's hook-injector.

use std::path::{Path, PathBuf};

use super::Site;
use crate::error::Failure;
use crate::oci::hooks::patch::{ALTERED, TOLD};
use crate::oci::hooks::{Call, Kin, Registered, Set, file_name, kin_of_file};

/// Each with its path and its text.
pub(super) type Read = Vec<(Registered, PathBuf, Option<String>)>;

/// What is there of the three files.
pub(super) fn read(site: &Site, dir: &Path) -> Result<Read, Failure> {
    let stages = Registered::ALL.into_iter();
    stages
        .map(|stage| {
            let path = dir.join(file_name(stage));
            let text = site.text(&path)?;
            Ok((stage, path, text))
        })
        .collect()
}

pub(super) fn install(site: &mut Site, dir: &Path, call: &Call, always: bool) -> Result<(), Failure> {
    let set = if always { Set::Always } else { Set::Annotated };
    for (stage, path, was) in read(site, dir)? {
        let text = call.file(stage, set)?;
        match was.as_deref().map(|was| (was == text, kin_of_file(was, stage))) {
            None | Some((true, _) | (false, Kin::Plain)) => site.put(&path, &text, was.as_deref())?,
            Some((false, Kin::Told)) => site.report.left(&site.root.shown(&path), TOLD),
            Some((false, Kin::Altered | Kin::Foreign)) => {
                site.report.left(&site.root.shown(&path), ALTERED);
            }
        }
    }
    Ok(())
}

pub(super) fn uninstall(site: &mut Site, dir: &Path) -> Result<(), Failure> {
    for (stage, path, was) in read(site, dir)? {
        match was.map(|was| kin_of_file(&was, stage)) {
            None => {}
            Some(Kin::Plain | Kin::Told) => site.remove(&path)?,
            Some(Kin::Altered | Kin::Foreign) => {
                site.report.left(&site.root.shown(&path), ALTERED);
            }
        }
    }
    Ok(())
}
