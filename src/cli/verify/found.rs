//! Who runs, by what runtimes and engines keep of it: whom our own records leave out is to be seen as well.
//!
//! The files are others'. They are read as the hook reads a bundle's: no link in the last place, no pipe that waits, a limit on
//! their length. What users' own runtimes say below /run/user is believed as far as that a process is there, and no further:
//! the kernel is asked about it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use serde_json::Value;

use super::{MAX_FOUND, MAX_STATE_FILE};
use crate::cli::doctor;
use crate::error::errno_of;
use crate::kernel::files::{ReadError, Trust, read_of_bundle, read_regular};
use crate::oci::annotations::PREFIX;
use crate::oci::bundle::MAX_BUNDLE;
use crate::registry::started;

/// How a folder keeps its containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// `ID/state.json` with `init_process_pid`.
    Runc,
    /// `ID/status` with `pid`.
    Crun,
    /// `ID/state.json` with `pid`.
    Youki,
    /// `NAMESPACE/ID/init.pid` beside the bundle's `config.json`.
    Containerd,
    /// containers/storage: `DRIVER-containers/ID/userdata/pidfile`, of podman and CRI-O.
    Storage,
}

impl Layout {
    const ALL: [(&'static str, Layout); 5] = [
        ("runc", Layout::Runc),
        ("crun", Layout::Crun),
        ("youki", Layout::Youki),
        ("containerd", Layout::Containerd),
        ("storage", Layout::Storage),
    ];

    fn name(self) -> &'static str {
        Layout::ALL.iter().find(|(_, layout)| *layout == self).map_or("", |(name, _)| name)
    }
}

/// A folder to look into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StateDir {
    layout: Layout,
    path: PathBuf,
    trust: Trust,
}

/// One container as its monitor was told of it.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) id: String,
    pub(super) bundle: PathBuf,
    pub(super) pidfile: PathBuf,
    pub(super) trust: Trust,
}

impl StateDir {
    pub(super) fn at(layout: Layout, path: PathBuf, trust: Trust) -> StateDir {
        StateDir { layout, path, trust }
    }

    /// `runc=/path`, as the command line has it.
    pub(super) fn parse(text: &str) -> Result<StateDir, String> {
        let known = || Layout::ALL.map(|(name, _)| name).join(", ");
        let (name, path) =
            text.split_once('=').ok_or_else(|| format!("write NAME=DIR, with NAME one of {}", known()))?;
        let layout = Layout::ALL.iter().find(|(known, _)| *known == name).map(|(_, layout)| *layout);
        let layout = layout.ok_or_else(|| format!("{name:?} is none of {}", known()))?;
        Ok(StateDir { layout, path: path.into(), trust: Trust::Guarded })
    }

    /// Where runtimes and engines keep their containers unless told otherwise.
    pub(super) fn defaults() -> Vec<StateDir> {
        let of = |layout, path: &str| StateDir { layout, path: path.into(), trust: Trust::Guarded };
        let mut dirs = vec![
            of(Layout::Runc, "/run/runc"),
            of(Layout::Crun, "/run/crun"),
            of(Layout::Youki, "/run/youki"),
            of(Layout::Containerd, "/run/containerd/io.containerd.runtime.v2.task"),
            of(Layout::Storage, "/run/containers/storage"),
        ];
        // containerd's shim gives runc a root of its own for each namespace.
        let below = |folder: &str| entries(Path::new(folder)).unwrap_or_default();
        dirs.extend(below("/run/containerd/runc").into_iter().map(|path| StateDir { path, ..of(Layout::Runc, "") }));
        // dockerd names runc's folder after the runtime, and has a containerd of its own where there is no other.
        dirs.push(of(Layout::Containerd, "/run/docker/containerd/daemon/io.containerd.runtime.v2.task"));
        for path in below("/run/docker").into_iter().filter(|path| starts(path, "runtime-")) {
            dirs.push(StateDir { path: path.join("moby"), ..of(Layout::Runc, "") });
        }
        // What users keep: where there is no session, podman makes folders in /tmp.
        let tmp = below("/tmp")
            .into_iter()
            .filter(|path| ["podman-run-", "containers-user-", "storage-run-"].iter().any(|name| starts(path, name)));
        for user in below("/run/user").into_iter().chain(tmp) {
            for (name, layout) in [
                ("crun", Layout::Crun),
                ("runc", Layout::Runc),
                ("youki", Layout::Youki),
                ("containers", Layout::Storage),
                ("docker/runtime-runc/moby", Layout::Runc),
                ("docker/containerd/daemon/io.containerd.runtime.v2.task", Layout::Containerd),
            ] {
                dirs.push(StateDir { layout, path: user.join(name), trust: Trust::Any });
            }
        }
        dirs
    }
}

fn starts(path: &Path, name: &str) -> bool {
    path.file_name().is_some_and(|found| found.to_string_lossy().starts_with(name))
}

/// What a config.json says of netlatch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asks {
    /// It calls the hook at createRuntime or prestart.
    pub(super) by_hook: bool,
    /// It has annotations of ours.
    pub(super) by_annotation: bool,
    /// It is a pod's sandbox: it holds the network, and no program that talks.
    pub(super) sandbox: bool,
}

/// A container that runs.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) id: String,
    /// Whose folder it was found in.
    pub(super) source: &'static str,
    pub(super) pid: i32,
    /// What its config.json says, or why that is not known.
    pub(super) asks: Result<Asks, String>,
}

/// What cannot be looked at: a folder, or what a runtime keeps of a container.
#[derive(Clone, Debug)]
pub(super) struct Unread {
    /// The container's id, or the folder.
    pub(super) id: String,
    pub(super) source: &'static str,
    pub(super) why: String,
}

/// Who runs, as others keep it.
#[derive(Clone, Debug, Default)]
pub(super) struct Running {
    /// Each once.
    pub(super) found: Vec<Found>,
    /// Nobody is passed over in silence.
    pub(super) unread: Vec<Unread>,
}

/// Everybody who runs.
pub(super) fn running(dirs: &[StateDir], kept: &[Kept]) -> Running {
    let mut all: BTreeMap<i32, Found> = BTreeMap::new();
    let mut unread = Vec::new();
    for (at, dir) in dirs.iter().enumerate() {
        if dirs[..at].iter().any(|before| (before.layout, &before.path) == (dir.layout, &dir.path)) {
            continue;
        }
        for container in folders(dir, &mut unread) {
            let found = match one(&container, dir) {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                Err(why) => {
                    unread.extend(dir.unread(&container, why, true));
                    continue;
                }
            };
            join(&mut all, found);
        }
    }
    kept.iter().filter_map(monitored).for_each(|found| join(&mut all, found));
    Running { found: all.into_values().collect(), unread }
}

/// podman's, its runtime's folder and conmon tell of the same; only one may know the bundle.
fn join(all: &mut BTreeMap<i32, Found>, found: Found) {
    match all.get_mut(&found.pid) {
        Some(other) if other.asks.is_err() => other.asks = found.asks,
        Some(_) => {}
        None => drop(all.insert(found.pid, found)),
    }
}

/// A container whose monitor runs; `None` where it has no process yet, or none any more. What a user's own monitor says is
/// believed as far as that.
fn monitored(kept: &Kept) -> Option<Found> {
    let bytes = read_regular(&kept.pidfile, (MAX_STATE_FILE, "MAX_STATE_FILE"), kept.trust).ok()?;
    let pid: i32 = std::str::from_utf8(&bytes).ok()?.trim().parse().ok().filter(|pid| *pid > 1)?;
    started(pid)?;
    Some(Found { id: kept.id.clone(), source: Layout::Storage.name(), pid, asks: asks(&kept.bundle, kept.trust) })
}

impl StateDir {
    /// What users keep for themselves may be whatever they like.
    fn unread(&self, path: &Path, why: String, is_container: bool) -> Option<Unread> {
        let name = if is_container { path.file_name().map(Path::new).unwrap_or(path) } else { path };
        let (id, source) = (name.display().to_string(), self.layout.name());
        (self.trust == Trust::Guarded).then_some(Unread { id, source, why })
    }
}

/// The folder of each container.
fn folders(dir: &StateDir, unread: &mut Vec<Unread>) -> Vec<PathBuf> {
    let mut below = |folder: &Path| {
        entries(folder).unwrap_or_else(|why| {
            unread.extend(dir.unread(folder, why, false));
            Vec::new()
        })
    };
    let first = below(&dir.path);
    match dir.layout {
        Layout::Runc | Layout::Crun | Layout::Youki => first,
        Layout::Containerd => first.iter().flat_map(|namespace| below(namespace)).collect(),
        Layout::Storage => {
            let is_driver = |path: &&PathBuf| path.to_string_lossy().ends_with("-containers");
            first.iter().filter(is_driver).flat_map(|driver| below(driver)).collect()
        }
    }
}

/// What is in a folder; nothing where there is none.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let refused = |error: std::io::Error| format!("the folder cannot be read ({:?})", errno_of(&error));
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if matches!(errno_of(&error), Errno::ENOENT | Errno::ENOTDIR) => return Ok(Vec::new()),
        Err(error) => return Err(refused(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        if paths.len() == MAX_FOUND {
            return Err(format!("there are more than {MAX_FOUND} containers in it (MAX_FOUND)"));
        }
        paths.push(entry.map_err(refused)?.path());
    }
    Ok(paths)
}

/// `None` where it does not run, or is no container.
fn one(folder: &Path, dir: &StateDir) -> Result<Option<Found>, String> {
    let Some(id) = folder.file_name().map(|name| name.to_string_lossy().into_owned()) else { return Ok(None) };
    let read = |name: &str| match read_regular(&folder.join(name), (MAX_STATE_FILE, "MAX_STATE_FILE"), dir.trust) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(ReadError::Missing) => Ok(None),
        Err(error) => Err(format!("{}: {error}", folder.join(name).display())),
    };
    let document = |name: &str| -> Result<Value, String> {
        let Some(bytes) = read(name)? else { return Ok(Value::Null) };
        let not_json =
            |error: serde_json::Error| format!("{}: not JSON (line {})", folder.join(name).display(), error.line());
        serde_json::from_slice(&bytes).map_err(not_json)
    };
    let number = |name: &str| -> Result<Option<i32>, String> {
        let Some(bytes) = read(name)? else { return Ok(None) };
        let number = std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok());
        number.map_or_else(
            || Err(format!("{}: no number of a process", folder.join(name).display())),
            |pid| Ok(Some(pid)),
        )
    };
    let process = |state: &Value, key: &str| state.get(key).and_then(Value::as_i64).and_then(|pid| pid.try_into().ok());
    let bundle = |state: &Value| state.get("bundle").and_then(Value::as_str).map(PathBuf::from);
    let (pid, since, bundle): (Option<i32>, Option<u64>, Option<PathBuf>) = match dir.layout {
        Layout::Runc => {
            let state = document("state.json")?;
            let labels = state.pointer("/config/labels").and_then(Value::as_array).into_iter().flatten();
            let bundle = labels.filter_map(Value::as_str).find_map(|label| label.strip_prefix("bundle="));
            let since = state.get("init_process_start").and_then(Value::as_u64);
            (process(&state, "init_process_pid"), since, bundle.map(PathBuf::from))
        }
        Layout::Crun => {
            let state = document("status")?;
            (process(&state, "pid"), state.get("process-start-time").and_then(Value::as_u64), bundle(&state))
        }
        Layout::Youki => {
            let state = document("state.json")?;
            (process(&state, "pid"), None, bundle(&state))
        }
        Layout::Containerd => (number("init.pid")?, None, Some(folder.to_owned())),
        Layout::Storage => (number("userdata/pidfile")?, None, Some(folder.join("userdata"))),
    };
    // A number of a process below 2 is none of a container's.
    let Some(pid) = pid.filter(|pid| *pid > 1) else { return Ok(None) };
    // Its number may be another's by now.
    let Some(now) = started(pid) else { return Ok(None) };
    if since.is_some_and(|since| since != 0 && since != now) {
        return Ok(None);
    }
    let asks = bundle.map_or_else(|| Err("its bundle is not known".to_owned()), |bundle| asks(&bundle, dir.trust));
    Ok(Some(Found { id, source: dir.layout.name(), pid, asks }))
}

fn asks(bundle: &Path, trust: Trust) -> Result<Asks, String> {
    let file = bundle.join("config.json");
    let limit = (MAX_BUNDLE, "MAX_BUNDLE");
    let read = match trust {
        Trust::Guarded | Trust::Listed => read_of_bundle(&file, limit).map(|(bytes, _)| bytes),
        Trust::Any => read_regular(&file, limit, Trust::Any),
    };
    let bytes = read.map_err(|error: ReadError| format!("{}: {error}", file.display()))?;
    let config: Value = serde_json::from_slice(&bytes)
        .map_err(|error| format!("{}: not JSON (line {})", file.display(), error.line()))?;
    let at = |stage: &str| config.pointer(&format!("/hooks/{stage}")).and_then(Value::as_array);
    let annotations = config.get("annotations").and_then(Value::as_object);
    let is_sandbox =
        |key: &str| annotations.and_then(|all| all.get(key)?.as_str()).is_some_and(|kind| kind == "sandbox");
    Ok(Asks {
        by_hook: ["createRuntime", "prestart"].iter().filter_map(|stage| at(stage)).flatten().any(doctor::calls_us),
        by_annotation: annotations.is_some_and(|all| all.keys().any(|key| key.starts_with(PREFIX))),
        sandbox: is_sandbox("io.kubernetes.cri.container-type") || is_sandbox("io.kubernetes.cri-o.ContainerType"),
    })
}
