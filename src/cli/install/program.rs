//! The program itself: the running one, at the path that engines call.

use std::path::Path;

use super::Site;
use crate::error::{Cause, Failure};
use crate::kernel::files::ReadError;
use crate::kernel::files::place::Standing;
use crate::oci::hooks::Call;

/// The running program, whatever has become of its path.
fn running() -> Result<Vec<u8>, Failure> {
    std::fs::read("/proc/self/exe").map_err(|error| {
        let cause = Cause::Io { path: "/proc/self/exe".to_owned(), errno: crate::error::errno_of(&error) };
        Failure::new("read this program", cause)
    })
}

/// A longer one is another build.
fn as_long_as(own: &[u8]) -> (usize, &'static str) {
    (own.len(), "the length of this program")
}

pub(super) fn install(site: &mut Site, call: &Call) -> Result<(), Failure> {
    let path = Path::new(&call.path);
    let shown = site.root.shown(path);
    let own = running()?;
    match site.root.read(path, as_long_as(&own)) {
        Ok(found) if found.bytes == own && found.standing.mode & 0o111 != 0 => site.report.unchanged(&shown),
        Ok(_) | Err(ReadError::Missing | ReadError::TooLong { .. }) => {
            if !site.report.dry {
                site.root.put(path, &own, Standing::PROGRAM)?;
            }
            site.report.wrote_program(&shown, own.len());
        }
        Err(error) => return Err(super::unreadable(&shown, &error)),
    }
    Ok(())
}

/// Removes it where nothing that was left alone may still call it: an engine that passes over a hook without its program
/// would start containers unprotected.
pub(super) fn uninstall(site: &mut Site, path: &Path) -> Result<(), Failure> {
    let shown = site.root.shown(path);
    let own = running()?;
    match site.root.read(path, as_long_as(&own)) {
        Err(ReadError::Missing) => {}
        Ok(_) if site.report.has_left() => site.report.left(&shown, "what else was left alone may call it"),
        Ok(found) if found.bytes == own => site.remove(path)?,
        Ok(_) | Err(ReadError::TooLong { .. }) => site.report.left(&shown, "is another build than this program"),
        Err(error) => return Err(super::unreadable(&shown, &error)),
    }
    Ok(())
}
