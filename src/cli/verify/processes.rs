//! Who runs, by the processes of this machine: where engines and runtimes were told to keep their containers, and who lives in a
//! network namespace of which nothing that is kept tells.
//!
//! A command line is whatever its process says. It leads to files, and what these say is believed no further than that of
//! [`super::found`]: a process has to be there, and the kernel is asked about it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::found::{Kept, Layout, StateDir};
use crate::kernel::files::Trust;
use crate::kernel::netns::NamespaceId;

/// What the running monitors and runtimes tell of their containers: folders beside the usual ones, and single containers.
pub(super) fn told() -> (Vec<StateDir>, Vec<Kept>) {
    let (mut dirs, mut kept) = (Vec::new(), Vec::new());
    let namespace = |process: &Path| fs::read_link(process.join("ns/pid")).ok();
    let own = namespace(Path::new("/proc/self"));
    for process in all() {
        let Ok(comm) = fs::read_to_string(process.join("comm")) else { continue };
        let layout = match comm.trim() {
            "conmon" | "containerd-shim" => None,
            "runc" => Some(Layout::Runc),
            "crun" => Some(Layout::Crun),
            "youki" => Some(Layout::Youki),
            _ => continue,
        };
        // The numbers that one of another pid namespace has written down are other processes here.
        if own.is_none() || namespace(&process) != own {
            continue;
        }
        let by_root = fs::metadata(&process).is_ok_and(|about| about.uid() == 0);
        let trust = if by_root { Trust::Guarded } else { Trust::Any };
        let args = fs::read(process.join("cmdline")).unwrap_or_default();
        let args: Vec<String> = args.split(|byte| *byte == 0).map(|arg| String::from_utf8_lossy(arg).into()).collect();
        let dir = |layout, path| StateDir::at(layout, path, trust);
        match layout {
            Some(layout) => dirs.extend(option(&args, &["--root", "-root"]).map(|root| dir(layout, root.into()))),
            // A shim works in the bundle: STATE/NAMESPACE/ID (containerd, core/runtime/v2).
            None if comm.starts_with("containerd-shim") => {
                let bundle = fs::read_link(process.join("cwd")).ok();
                let state = bundle.and_then(|bundle| Some(bundle.parent()?.parent()?.to_owned()));
                dirs.extend(state.filter(|state| state.parent().is_some()).map(|path| dir(Layout::Containerd, path)));
            }
            // conmon(8) of podman and CRI-O.
            None => kept.extend(|| -> Option<Kept> {
                let id = option(&args, &["-c", "--cid"])?;
                let bundle = option(&args, &["-b", "--bundle"])?.into();
                let pidfile = option(&args, &["-p", "--container-pidfile"])?.into();
                Some(Kept { id, bundle, pidfile, trust })
            }()),
        }
    }
    (dirs, kept)
}

/// The first process of each network namespace, but for those that are known.
pub(super) fn elsewhere(known: &dyn Fn(NamespaceId) -> bool) -> BTreeMap<i32, String> {
    let (mut found, mut seen) = (BTreeMap::new(), BTreeSet::new());
    let mut processes: Vec<(i32, PathBuf)> = all().filter_map(|path| Some((number(&path)?, path))).collect();
    processes.sort();
    for (pid, process) in processes {
        let Ok(about) = fs::metadata(process.join("ns/net")) else { continue };
        let netns = NamespaceId { dev: about.dev(), ino: about.ino() };
        if seen.insert(netns) && !known(netns) {
            let comm = fs::read_to_string(process.join("comm")).unwrap_or_default();
            found.insert(pid, comm.trim().to_owned());
        }
    }
    found
}

/// The network namespace of a process, where it may be looked at.
pub(super) fn netns(pid: i32) -> Option<NamespaceId> {
    let about = fs::metadata(format!("/proc/{pid}/ns/net")).ok()?;
    Some(NamespaceId { dev: about.dev(), ino: about.ino() })
}

fn all() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| number(path).is_some())
}

fn number(process: &Path) -> Option<i32> {
    process.file_name()?.to_str()?.parse().ok()
}

/// `--option VALUE` or `--option=VALUE`; an absolute path or an id is what is asked for, so never empty.
fn option(args: &[String], names: &[&str]) -> Option<String> {
    let mut args = args.iter().skip(1);
    let value = loop {
        let arg = args.next()?;
        match arg.split_once('=') {
            Some((name, value)) if names.contains(&name) => break value,
            None if names.contains(&arg.as_str()) => break args.next()?,
            Some(_) | None => {}
        }
    };
    (!value.is_empty()).then(|| value.to_owned())
}
