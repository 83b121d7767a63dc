//! Hook files: podman, CRI-O, NRI's hook-injector.

use std::path::{Path, PathBuf};

use super::Site;
use crate::error::Failure;
use crate::oci::hooks::{Call, Registered, Set, file_name, kin_of_file};

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
        site.bring(&path, &call.file(stage, set)?, was.as_deref(), |was| kin_of_file(was, stage))?;
    }
    Ok(())
}

pub(super) fn uninstall(site: &mut Site, dir: &Path) -> Result<(), Failure> {
    for (stage, path, was) in read(site, dir)? {
        site.take_back(&path, was.as_deref(), |was| kin_of_file(was, stage))?;
    }
    Ok(())
}
