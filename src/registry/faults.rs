//! Why starts failed.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Registry, read_limited};
use crate::error::{Cause, Failure};

/// How many failures are kept; the oldest go first.
pub const MAX_ERRORS: usize = 128;

/// Why a start failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The container; empty where the state could not be read.
    pub id: String,
    /// The stage.
    pub stage: String,
    /// The exit code.
    pub code: u8,
    /// The line that went to stderr.
    pub message: String,
    /// Seconds since 1970, by the host's clock.
    pub time: u64,
}

impl Registry {
    /// Keeps why a start failed, for `netlatch last-error`.
    ///
    /// # Errors
    /// [`Cause::RunDir`]; the caller has a worse failure to report and says this one in the log.
    pub fn put_fault(&self, fault: &Fault) -> Result<(), Failure> {
        let name = if fault.id.is_empty() { "unknown" } else { &fault.id };
        let doing = "keep the reason for the failure";
        let bytes = serde_json::to_vec(fault).map_err(|e| Failure::new(doing, Cause::Internal(e.to_string())))?;
        self.write("errors", name, &bytes).map_err(|cause| Failure::new(doing, cause))?;
        let kept = self.faults_by_age();
        for (_, path) in kept.iter().rev().skip(MAX_ERRORS) {
            let _ = fs::remove_file(path);
        }
        Ok(())
    }

    /// Why the last start of `id`, or of any container, failed.
    pub fn fault(&self, id: Option<&str>) -> Option<Fault> {
        let path = match id {
            Some(id) => self.path("errors", id),
            None => self.faults_by_age().pop()?.1,
        };
        serde_json::from_slice(&read_limited(&path).ok()?).ok()
    }

    /// Oldest first.
    fn faults_by_age(&self) -> Vec<((i64, i64), PathBuf)> {
        let Ok(entries) = fs::read_dir(self.dir.join("errors")) else { return Vec::new() };
        let aged = |entry: io::Result<fs::DirEntry>| {
            let entry = entry.ok().filter(|entry| entry.path().extension().is_some_and(|e| e == "json"))?;
            let meta = entry.metadata().ok()?;
            Some(((meta.mtime(), meta.mtime_nsec()), entry.path()))
        };
        let mut all: Vec<_> = entries.filter_map(aged).collect();
        all.sort_unstable();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_failures_are_kept_and_the_last_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::at(&dir.path().join("run"));
        let fault = |n: usize| Fault {
            id: format!("c{n}"),
            stage: "createRuntime".into(),
            code: 15,
            message: n.to_string(),
            time: 0,
        };
        for n in 0..MAX_ERRORS + 5 {
            registry.put_fault(&fault(n)).unwrap();
        }
        assert_eq!(registry.fault(None).unwrap().id, format!("c{}", MAX_ERRORS + 4));
        assert_eq!(registry.fault(Some("c50")).unwrap(), fault(50));
        assert_eq!(registry.faults_by_age().len(), MAX_ERRORS);
    }
}
