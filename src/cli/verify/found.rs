//! Who runs, by what runtimes and engines keep of it: whom our own records leave out is to be seen as well.
//!
//! The files are others'. They are read as the hook reads a bundle's: no link in the last place, no pipe that waits, a limit on
//! their length. What users' own runtimes say below /run/user is believed as far as that a process is there, and no further:
//! the kernel is asked about it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::doctor;
use crate::kernel::files::{ReadError, Trust, read_of_bundle, read_regular};
use crate::oci::annotations::PREFIX;
use crate::oci::bundle::MAX_BUNDLE;
use crate::registry::started;

/// Longest state file in bytes. runc's has the whole configuration in it.
const MAX_STATE_FILE: (usize, &str) = (16 << 20, "MAX_STATE_FILE");
/// Most containers that are looked at in one folder.
const MAX_FOUND: usize = 20_000;

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

impl StateDir {
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
        let below = |folder: &str| entries(Path::new(folder));
        dirs.extend(below("/run/containerd/runc").into_iter().map(|path| StateDir { path, ..of(Layout::Runc, "") }));
        for user in below("/run/user") {
            for (name, layout) in [("crun", Layout::Crun), ("runc", Layout::Runc)] {
                dirs.push(StateDir { layout, path: user.join(name), trust: Trust::Any });
            }
        }
        dirs
    }
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

/// Everybody who runs, each once.
pub(super) fn running(dirs: &[StateDir]) -> Vec<Found> {
    let mut all: BTreeMap<i32, Found> = BTreeMap::new();
    for found in dirs.iter().flat_map(of_dir) {
        // podman's and its runtime's folder tell of the same; only one may know the bundle.
        match all.get_mut(&found.pid) {
            Some(other) if other.asks.is_err() => other.asks = found.asks,
            Some(_) => {}
            None => drop(all.insert(found.pid, found)),
        }
    }
    all.into_values().collect()
}

fn of_dir(dir: &StateDir) -> Vec<Found> {
    let containers = match dir.layout {
        Layout::Runc | Layout::Crun | Layout::Youki => entries(&dir.path),
        Layout::Containerd => entries(&dir.path).iter().flat_map(|namespace| entries(namespace)).collect(),
        Layout::Storage => {
            let drivers = entries(&dir.path).into_iter().filter(|path| path.to_string_lossy().ends_with("-containers"));
            drivers.flat_map(|driver| entries(&driver)).collect()
        }
    };
    containers.iter().filter_map(|container| one(container, dir)).collect()
}

/// What is in a folder; nothing where there is none.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().take(MAX_FOUND);
    entries.map(|entry| entry.path()).collect()
}

fn one(folder: &Path, dir: &StateDir) -> Option<Found> {
    let id = folder.file_name()?.to_str()?.to_owned();
    let read = |name: &str| read_regular(&folder.join(name), MAX_STATE_FILE, dir.trust).ok();
    let document = |name: &str| -> Option<Value> { serde_json::from_slice(&read(name)?).ok() };
    let number = |name: &str| -> Option<i32> { std::str::from_utf8(&read(name)?).ok()?.trim().parse().ok() };
    let process = |state: &Value, key: &str| state.get(key).and_then(Value::as_i64).and_then(|pid| pid.try_into().ok());
    let path = |text: &str| PathBuf::from(text);
    let (pid, since, bundle): (i32, Option<u64>, Option<PathBuf>) = match dir.layout {
        Layout::Runc => {
            let state = document("state.json")?;
            let labels = state.pointer("/config/labels").and_then(Value::as_array).into_iter().flatten();
            let bundle = labels.filter_map(Value::as_str).find_map(|label| label.strip_prefix("bundle=")).map(path);
            let since = state.get("init_process_start").and_then(Value::as_u64);
            (process(&state, "init_process_pid")?, since, bundle)
        }
        Layout::Crun => {
            let state = document("status")?;
            let bundle = state.get("bundle").and_then(Value::as_str).map(path);
            (process(&state, "pid")?, state.get("process-start-time").and_then(Value::as_u64), bundle)
        }
        Layout::Youki => {
            let state = document("state.json")?;
            let bundle = state.get("bundle").and_then(Value::as_str).map(path);
            (process(&state, "pid")?, None, bundle)
        }
        Layout::Containerd => (number("init.pid")?, None, Some(folder.to_owned())),
        Layout::Storage => (number("userdata/pidfile")?, None, Some(folder.join("userdata"))),
    };
    // Its number may be another's by now.
    let now = (pid > 1).then(|| started(pid)).flatten()?;
    if since.is_some_and(|since| since != 0 && since != now) {
        return None;
    }
    let asks = bundle.map_or_else(|| Err("its bundle is not known".to_owned()), |bundle| asks(&bundle, dir.trust));
    Some(Found { id, source: dir.layout.name(), pid, asks })
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
