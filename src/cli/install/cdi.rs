//! The CDI specification: a device that brings the hook to the containers that ask for it.

use std::path::Path;

use super::Site;
use crate::error::Failure;
use crate::oci::hooks::patch::{ALTERED, TOLD};
use crate::oci::hooks::{Call, Kin, kin_of_cdi};

const FILE: &str = "netlatch.json";

pub(super) fn install(site: &mut Site, dir: &Path, call: &Call) -> Result<(), Failure> {
    let path = dir.join(FILE);
    let was = site.text(&path)?;
    let text = call.cdi()?;
    match was.as_deref().map(|was| (was == text, kin_of_cdi(was))) {
        None | Some((true, _) | (false, Kin::Plain)) => site.put(&path, &text, was.as_deref())?,
        Some((false, Kin::Told)) => site.report.left(&site.root.shown(&path), TOLD),
        Some((false, Kin::Altered | Kin::Foreign)) => {
            site.report.left(&site.root.shown(&path), ALTERED);
        }
    }
    Ok(())
}

pub(super) fn uninstall(site: &mut Site, dir: &Path) -> Result<(), Failure> {
    let path = dir.join(FILE);
    match site.text(&path)?.map(|text| kin_of_cdi(&text)) {
        None => Ok(()),
        Some(Kin::Plain | Kin::Told) => site.remove(&path),
        Some(Kin::Altered | Kin::Foreign) => {
            site.report.left(&site.root.shown(&path), ALTERED);
            Ok(())
        }
    }
}
