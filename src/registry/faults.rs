//! Why starts failed.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::{Registry, boot_ms, read_limited};
use crate::error::{Cause, Failure, errno_of};

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
    /// Seconds since 1970, by the host's clock. To be shown, and nothing else: that clock may be set.
    pub time: u64,
    /// Milliseconds of `CLOCK_BOOTTIME`, which tell the last failure from those before it.
    #[serde(default)]
    pub boot_ms: u64,
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
        if self.recorded_faults().count() > MAX_ERRORS {
            for old in self.faults_by_age().iter().rev().skip(MAX_ERRORS) {
                let _ = fs::remove_file(&old.path);
            }
        }
        Ok(())
    }

    /// Why the last start of `id`, or of any container, failed; `None` where nothing is kept.
    ///
    /// # Errors
    /// [`Cause::Io`] for who may not look, [`Cause::RunDir`] where something else is kept there.
    pub fn fault(&self, id: Option<&str>) -> Result<Option<Fault>, Failure> {
        let failed = |cause| Failure::new("look for the reason of a failure", cause);
        if let Some(id) = id {
            return self.kept(&self.path("errors", id)).map_err(failed);
        }
        let folder = self.dir.join("errors");
        match fs::read_dir(&folder) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(unreadable(&folder, &error))),
        }
        match self.faults_by_age().pop() {
            Some(Kept { fault: Some(fault), .. }) => Ok(Some(fault)),
            // Not one of them can be read.
            Some(Kept { path, fault: None }) => self.kept(&path).map_err(failed),
            None => Ok(None),
        }
    }

    fn kept(&self, path: &Path) -> Result<Option<Fault>, Cause> {
        match read_limited(path) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(fault) => Ok(Some(fault)),
                Err(_) => Err(Cause::RunDir { path: path.display().to_string(), problem: "it is damaged".to_owned() }),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unreadable(path, &error)),
        }
    }

    fn recorded_faults(&self) -> impl Iterator<Item = PathBuf> + use<> {
        let entries = fs::read_dir(self.dir.join("errors")).into_iter().flatten();
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "json"))
    }

    /// Oldest first. What is of a time that is still to come was kept before the machine was started, and what cannot be
    /// read was kept by nobody.
    fn faults_by_age(&self) -> Vec<Kept> {
        let now = boot_ms();
        let kept = |path: PathBuf| Kept { fault: read(&path), path };
        let mut all: Vec<Kept> = self.recorded_faults().map(kept).collect();
        all.sort_by_cached_key(|kept| kept.fault.as_ref().map(|f| (f.boot_ms <= now, f.boot_ms, f.time, f.id.clone())));
        all
    }
}

/// A file, and what it says if it can be read.
struct Kept {
    path: PathBuf,
    fault: Option<Fault>,
}

/// Who may not look is not told that there is nothing.
fn unreadable(path: &Path, error: &io::Error) -> Cause {
    let path = path.display().to_string();
    match errno_of(error) {
        errno @ (Errno::EACCES | Errno::EPERM) => Cause::Io { path, errno },
        errno => Cause::RunDir { path, problem: format!("{errno:?}") },
    }
}

fn read(path: &Path) -> Option<Fault> {
    serde_json::from_slice(&read_limited(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(n: usize) -> Fault {
        Fault {
            id: format!("c{n}"),
            stage: "createRuntime".into(),
            code: 15,
            message: n.to_string(),
            time: 0,
            boot_ms: boot_ms(),
        }
    }

    #[test]
    fn the_newest_failures_are_kept_and_the_last_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::at(&dir.path().join("run"));
        for n in 0..MAX_ERRORS + 5 {
            registry.put_fault(&Fault { boot_ms: n as u64, ..fault(n) }).unwrap();
        }
        assert_eq!(registry.fault(None).unwrap().unwrap().id, format!("c{}", MAX_ERRORS + 4));
        assert_eq!(registry.fault(Some("c50")).unwrap().unwrap().message, "50");
        assert_eq!(registry.recorded_faults().count(), MAX_ERRORS);
        assert!(registry.fault(Some("c4")).unwrap().is_none());
    }

    #[test]
    fn a_clock_that_was_set_back_hides_no_failure() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::at(&dir.path().join("run"));
        // All others were kept in what the clock says now is the future, by their files' times as well.
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(1 << 30);
        for n in 0..MAX_ERRORS {
            registry.put_fault(&Fault { time: u64::MAX, boot_ms: 1, ..fault(n) }).unwrap();
            let file = fs::OpenOptions::new().write(true).open(registry.path("errors", &format!("c{n}"))).unwrap();
            file.set_modified(later).unwrap();
        }
        let now = Fault { id: "now".into(), ..fault(0) };
        registry.put_fault(&now).unwrap();
        assert_eq!(registry.fault(Some("now")), Ok(Some(now.clone())));
        assert_eq!(registry.fault(None), Ok(Some(now)));
    }

    #[test]
    fn what_an_earlier_boot_has_left_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::at(&dir.path().join("run"));
        registry.put_fault(&fault(1)).unwrap();
        registry.put_fault(&Fault { boot_ms: u64::MAX, ..fault(2) }).unwrap();
        fs::write(registry.path("errors", "torn"), "{").unwrap();
        assert_eq!(registry.fault(None).unwrap().unwrap().id, "c1");
        // What is damaged is told from what is not there.
        assert_eq!(registry.fault(Some("torn")).unwrap_err().exit_code(), 40);
        assert_eq!(registry.fault(Some("none")), Ok(None));
        for id in ["c1", "c2"] {
            fs::remove_file(registry.path("errors", id)).unwrap();
        }
        assert_eq!(registry.fault(None), registry.fault(Some("torn")));
    }
}
