//! One bundle's config.json, and what every specification that is changed in place shares.

use std::path::Path;

use super::Site;
use crate::error::{Cause, Failure};
use crate::kernel::files::ReadError;
use crate::kernel::files::place::Standing;
use crate::oci::bundle::MAX_BUNDLE;
use crate::oci::hooks::Call;
use crate::oci::hooks::patch::{self, Patched};

pub(super) fn install(site: &mut Site, dir: &Path, call: &Call) -> Result<(), Failure> {
    let path = dir.join("config.json");
    let (file, text, standing) = read(site, &path)?;
    let patched = patch::install(&file, &text, call)?;
    put(site, &path, &text, standing, &patched)
}

pub(super) fn uninstall(site: &mut Site, dir: &Path) -> Result<(), Failure> {
    let path = dir.join("config.json");
    let (file, text, standing) = read(site, &path)?;
    let patched = patch::uninstall(&file, &text)?;
    put(site, &path, &text, standing, &patched)
}

/// A specification that has to be there: its name for messages, and its text.
pub(super) fn read(site: &Site, path: &Path) -> Result<(String, String, Standing), Failure> {
    let file = site.root.shown(path).display().to_string();
    let unusable =
        |problem: String| Failure::new("change the specification", Cause::Bundle { file: file.clone(), problem });
    let found =
        site.root.read(path, (MAX_BUNDLE, "MAX_BUNDLE")).map_err(|error: ReadError| unusable(error.to_string()))?;
    let text = String::from_utf8(found.bytes)
        .map_err(|error| unusable(format!("is not UTF-8 behind byte {}", error.utf8_error().valid_up_to())))?;
    Ok((file, text, found.standing))
}

/// Puts a changed specification in the place of what is there, whose owner and mode it keeps.
pub(super) fn put(
    site: &mut Site,
    path: &Path,
    was: &str,
    standing: Standing,
    patched: &Patched,
) -> Result<(), Failure> {
    let shown = site.root.shown(path);
    if patched.text == was {
        if patched.left.is_empty() {
            site.report.unchanged(&shown);
        }
    } else {
        if !site.report.dry {
            site.root.put(path, patched.text.as_bytes(), standing)?;
        }
        site.report.changed(&shown, &patched.changes);
    }
    for (at, why) in &patched.left {
        site.report.left(&shown, &format!("{at} {why}"));
    }
    Ok(())
}
