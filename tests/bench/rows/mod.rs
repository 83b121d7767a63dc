//! What is run, and how it is timed.

pub(crate) mod load;
pub(crate) mod packets;
pub(crate) mod start;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use nix::libc;
use nix::sys::resource::{UsageWho, getrusage};

use crate::namespace::Namespace;
use crate::report::{Group, Sample};

/// A program with its arguments, its input and its environment.
pub(crate) struct Run {
    pub(crate) command: Command,
    /// Whether it runs inside the container's namespace, as `nft` does, or outside, as the hook.
    pub(crate) inside: bool,
    /// What it reads.
    pub(crate) input: PathBuf,
}

/// A row: its name, and what is run on a fresh namespace.
pub(crate) struct Row<'a> {
    pub(crate) name: String,
    pub(crate) run: Box<dyn Fn(&Namespace) -> Run + 'a>,
}

/// All rows, round by round; the order of a round is another each time.
pub(crate) fn in_turns(group: &mut Group, rows: &[Row<'_>], rounds: usize) {
    // The first of everything on a host makes the kernel patch its own code for the hooks that are used now
    // (`nf_hooks_needed`, static keys), which takes interrupts on every core, a millisecond and more here. It is patched back
    // when the last goes. So one of each stays throughout: a host on which containers run.
    let standing: Vec<Namespace> = rows
        .iter()
        .map(|row| {
            let namespace = Namespace::new();
            sampled((row.run)(&namespace), &namespace);
            namespace
        })
        .collect();
    // They stay until the end: taking one down is work for another core.
    let mut spent = Vec::new();
    for round in 0..rounds {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.rotate_left(round % rows.len());
        if round % 2 == 1 {
            order.reverse();
        }
        let mut samples = vec![Sample::default(); rows.len()];
        for row in order {
            let namespace = Namespace::new();
            samples[row] = sampled((rows[row].run)(&namespace), &namespace);
            spent.push(namespace);
        }
        for (row, sample) in samples.into_iter().enumerate() {
            group.add(row, sample);
        }
        if spent.len() > 500 {
            spent.clear();
        }
    }
    drop(standing);
}

fn sampled(run: Run, namespace: &Namespace) -> Sample {
    if run.inside { namespace.within(|| timed(run)) } else { timed(run) }
}

/// Runs it as a runtime runs a hook: no environment but what was set, input from a file.
// `waited` waits for it, by wait4(2).
#[allow(clippy::zombie_processes)]
pub(crate) fn timed(run: Run) -> Sample {
    let Run { mut command, input, .. } = run;
    command.stdin(File::open(input).expect("the input opens")).stdout(Stdio::null()).stderr(Stdio::piped());
    let begun = Instant::now();
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let (status, mut sample) = waited(&child);
    sample.us = begun.elapsed().as_nanos() as f64 / 1e3;
    if status != 0 {
        let said = std::io::read_to_string(child.stderr.take().expect("a pipe")).unwrap_or_default();
        panic!("{command:?}: status {status:#x}: {said}");
    }
    sample
}

/// Waits for the end of a child with wait4(2), which tells what it used. Neither std, nix nor rustix has it.
fn waited(child: &Child) -> (i32, Sample) {
    let pid = i32::try_from(child.id()).expect("a pid");
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: a child of ours that nobody else waits for, and two places that outlive the call. All zeroes is a usage.
    let usage = unsafe {
        assert_eq!(libc::wait4(pid, &mut status, 0, usage.as_mut_ptr()), pid, "it ends");
        usage.assume_init()
    };
    // A child begins in this process's memory, so that as much as that is the least it can be told of (`setmax_mm_hiwater_rss`).
    let ours = getrusage(UsageWho::RUSAGE_SELF).map_or(0, |own| own.max_rss());
    // The kernel divides what a process worked into two by samples; their sum is exact (`cputime_adjust`).
    let us = |time: libc::timeval| time.tv_sec as f64 * 1e6 + time.tv_usec as f64;
    (
        status,
        Sample {
            us: 0.0,
            own: us(usage.ru_utime) + us(usage.ru_stime),
            faults: usage.ru_minflt,
            resident: (usage.ru_maxrss > ours).then_some(usage.ru_maxrss),
        },
    )
}

/// A program by its name: what is measured runs without an environment.
pub(crate) fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.exists());
    if found.is_none() {
        println!("not measured: {name} is not installed");
    }
    found
}

/// A container's state, in a file.
pub(crate) fn state(dir: &Path, namespace: &Namespace, annotations: &serde_json::Value) -> PathBuf {
    let file = dir.join(format!("state-{}.json", namespace.pid()));
    let state = serde_json::json!({
        "ociVersion": "1.0.2-dev", "id": format!("bench-{}", namespace.pid()), "status": "creating",
        "pid": namespace.pid(), "bundle": dir.join("bundle"), "annotations": annotations,
    });
    fs::write(&file, state.to_string()).expect("a file");
    file
}

/// A host's files, of which the hook reads some: configuration and bundle.
pub(crate) fn host() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir(dir.path().join("bundle")).expect("a directory");
    let bundle = serde_json::json!({
        "ociVersion": "1.0.2",
        "process": {"cwd": "/", "args": ["/bin/true"], "user": {"uid": 0, "gid": 0},
                    "capabilities": {"bounding": ["CAP_NET_RAW"], "permitted": ["CAP_NET_RAW"], "effective": ["CAP_NET_RAW"]}},
        "root": {"path": "rootfs"},
        "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "network"}]},
    });
    fs::write(dir.path().join("bundle/config.json"), bundle.to_string()).expect("a file");
    let policies = dir.path().join("policies");
    fs::write(dir.path().join("config.yaml"), format!("policies: {}\n", policies.display())).expect("a file");
    dir
}

/// `netlatch createRuntime` with a host's files.
pub(crate) fn hook(netlatch: &Path, dir: &Path, input: PathBuf) -> Run {
    let mut command = Command::new(netlatch);
    command.arg("createRuntime").arg("--config").arg(dir.join("config.yaml"));
    command.arg("--run-dir").arg(dir.join("run")).env_clear();
    Run { command, inside: false, input }
}
