//! The CDI specification: a device that brings the hook to the containers that ask for it.

use std::path::Path;

use super::Site;
use crate::error::Failure;
use crate::oci::hooks::{Call, kin_of_cdi};

const FILE: &str = "netlatch.json";

pub(super) fn install(site: &mut Site, dir: &Path, call: &Call) -> Result<(), Failure> {
    let path = dir.join(FILE);
    let was = site.text(&path)?;
    site.bring(&path, &call.cdi()?, was.as_deref(), kin_of_cdi)
}

pub(super) fn uninstall(site: &mut Site, dir: &Path) -> Result<(), Failure> {
    let path = dir.join(FILE);
    let was = site.text(&path)?;
    site.take_back(&path, was.as_deref(), kin_of_cdi)
}
