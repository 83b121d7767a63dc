//! What is run, and how it is timed.

mod engines;
mod lanes;
pub(crate) mod load;
pub(crate) mod packets;
pub(crate) mod runc;
pub(crate) mod start;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use nix::libc;
use serde_json::{Value, json};

use crate::Bench;
use crate::dice::Dice;
use crate::namespace::Namespace;
use crate::report::{Group, Sample};

/// A program with its arguments, its input and its environment.
pub(crate) struct Run {
    pub(crate) command: Command,
    /// Whether it runs inside the container's namespace, as `nft` does, or outside, as the hook.
    pub(crate) inside: bool,
    /// What it reads.
    pub(crate) input: PathBuf,
    /// What runs right behind it and counts as a part of it.
    pub(crate) next: Option<Box<Run>>,
    /// What takes away what it left on the host, when its time is over: what a host remembers must not grow from round to round.
    pub(crate) after: Option<Box<Run>>,
    /// How it says on stderr what it took, in microseconds, where that is asked for in place of what one sees from outside.
    pub(crate) says: Option<fn(&str) -> Option<f64>>,
}

impl Run {
    /// One without environment.
    pub(crate) fn new(mut command: Command, inside: bool, input: &Path) -> Run {
        command.env_clear();
        Run { command, inside, input: input.to_owned(), next: None, after: None, says: None }
    }

    /// The same below a program that says at its end how much memory was resident at most.
    fn watched(mut self, peak: &Path) -> Run {
        let mut command = Command::new(peak);
        command.env_clear().arg(self.command.get_program()).args(self.command.get_args());
        command.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        self.command = command;
        self
    }
}

/// A row: its name, and what is run on a fresh namespace.
pub(crate) struct Row<'a> {
    pub(crate) name: String,
    pub(crate) run: Box<dyn Fn(&Namespace) -> Run + 'a>,
}

/// All rows, round by round, each round in an order of its own. A row that fails says why, and the others go on.
pub(crate) fn in_turns(bench: &Bench, group: &mut Group, rows: &[Row<'_>], rounds: usize) {
    let mut dice = Dice::new(&group.name);
    // The first of everything on a host makes the kernel patch its own code for the hooks that are used now
    // (`nf_hooks_needed`, static keys), which takes interrupts on every core, a millisecond and more here. It is patched back
    // when the last goes. So one of each stays throughout: a host on which containers run.
    let mut standing = Vec::new();
    for (row, Row { run, .. }) in rows.iter().enumerate() {
        let namespace = Namespace::new();
        // A run that tears down behind itself would not stay.
        let first = Run { after: None, ..run(&namespace) };
        match entered(&namespace, first.inside, || resident(first, &bench.peak)) {
            Ok(kb) => group.resident(row, kb),
            Err(why) => group.fail(row, &why),
        }
        standing.push(namespace);
    }
    // They stay until the end: taking one down is work for another core.
    let mut spent = Vec::new();
    let mut order: Vec<usize> = (0..rows.len()).collect();
    for _ in 0..rounds {
        dice.shuffle(&mut order);
        order.retain(|row| !group.has_failed(*row));
        for row in order.iter().copied() {
            let namespace = Namespace::new();
            let run = (rows[row].run)(&namespace);
            match entered(&namespace, run.inside, || timed(run)) {
                Ok(sample) => group.add(row, sample),
                Err(why) => group.fail(row, &why),
            }
            spent.push(namespace);
        }
        if spent.len() > 500 {
            spent.clear();
        }
    }
    drop(standing);
}

fn entered<T: Send>(namespace: &Namespace, inside: bool, work: impl FnOnce() -> T + Send) -> T {
    if inside { namespace.within(work) } else { work() }
}

/// Runs it and what belongs to it as a runtime runs a hook: no environment but what was set, input from a file. Or says what went
/// wrong.
pub(crate) fn timed(run: Run) -> Result<Sample, String> {
    let Run { command, input, next, after, says, .. } = run;
    let Ended { mut sample, stderr, .. } = ended(command, &input, Stdio::null())?;
    if let Some(says) = says {
        sample.us = says(&stderr).ok_or_else(|| format!("it does not say what it took: {stderr}"))?;
    }
    if let Some(next) = next {
        let next = timed(*next)?;
        sample.us += next.us;
        sample.own += next.own;
        sample.faults += next.faults;
    }
    if let Some(after) = after {
        timed(*after).map_err(|why| format!("taking it away: {why}"))?;
    }
    Ok(sample)
}

/// The most memory that it, or a child of it, had resident, in kB. The program between is needed because a child begins in its
/// parent's memory, and as much as that is the least it can be told of (`setmax_mm_hiwater_rss`): that one has next to none.
fn resident(mut run: Run, peak: &Path) -> Result<i64, String> {
    let next = run.next.take();
    let Run { command, input, .. } = run.watched(peak);
    let kb = ended(command, &input, Stdio::piped())?
        .stdout
        .trim()
        .parse()
        .map_err(|e| format!("{}: {e}", peak.display()))?;
    next.map_or(Ok(kb), |next| resident(*next, peak).map(|behind| kb.max(behind)))
}

/// What came of a program.
struct Ended {
    sample: Sample,
    stdout: String,
    stderr: String,
}

/// Runs one program to its end.
// `waited` waits for it, by wait4(2).
#[allow(clippy::zombie_processes)]
fn ended(mut command: Command, input: &Path, output: Stdio) -> Result<Ended, String> {
    let input = File::open(input).map_err(|e| format!("{}: {e}", input.display()))?;
    command.stdin(input).stdout(output).stderr(Stdio::piped());
    let begun = Instant::now();
    let mut child = command.spawn().map_err(|e| format!("{}: {e}", command.get_program().display()))?;
    let (status, mut sample) = waited(&child);
    sample.us = begun.elapsed().as_nanos() as f64 / 1e3;
    let stderr = child.stderr.take().map(std::io::read_to_string).and_then(Result::ok).unwrap_or_default();
    if status != 0 {
        return Err(format!("{}: status {status:#x}: {}", command.get_program().display(), stderr.trim()));
    }
    let stdout = child.stdout.take().map(std::io::read_to_string).and_then(Result::ok).unwrap_or_default();
    Ok(Ended { sample, stdout, stderr })
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
    // The kernel divides what a process worked into two by samples; their sum is exact (`cputime_adjust`).
    let us = |time: libc::timeval| time.tv_sec as f64 * 1e6 + time.tv_usec as f64;
    (status, Sample { us: 0.0, own: us(usage.ru_utime) + us(usage.ru_stime), faults: usage.ru_minflt })
}

/// Those of the sizes that are asked for: `SIZES=10,1000`.
fn sizes(all: &[usize]) -> Vec<usize> {
    let only = std::env::var("SIZES").unwrap_or_default();
    let is_meant = |size: &&usize| only.is_empty() || only.split(',').any(|wanted| wanted == size.to_string());
    all.iter().filter(is_meant).copied().collect()
}

/// Where the helpers are of programs that call some.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

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
pub(crate) fn state(dir: &Path, namespace: &Namespace, annotations: &Value) -> PathBuf {
    stated(dir, namespace, annotations, "creating", Some(namespace.pid()))
}

fn stated(dir: &Path, namespace: &Namespace, annotations: &Value, status: &str, pid: Option<i32>) -> PathBuf {
    let file = dir.join(format!("{status}-{}.json", namespace.pid()));
    let mut state = json!({
        "ociVersion": "1.0.2-dev", "id": format!("bench-{}", namespace.pid()), "status": status,
        "bundle": dir.join("bundle"), "annotations": annotations,
    });
    if let Some(pid) = pid {
        state["pid"] = pid.into();
    }
    fs::write(&file, state.to_string()).expect("a file");
    file
}

/// A host's files, of which the hook reads some: configuration and bundle.
pub(crate) fn host() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir(dir.path().join("bundle")).expect("a directory");
    fs::write(dir.path().join("bundle/config.json"), bundle().to_string()).expect("a file");
    let policies = dir.path().join("policies");
    fs::write(dir.path().join("config.yaml"), format!("policies: {}\n", policies.display())).expect("a file");
    dir
}

fn bundle() -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {"cwd": "/", "args": ["/bin/true"], "user": {"uid": 0, "gid": 0},
                    "capabilities": {"bounding": ["CAP_NET_RAW"], "permitted": ["CAP_NET_RAW"], "effective": ["CAP_NET_RAW"]}},
        "root": {"path": "rootfs"},
        "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "network"}]},
    })
}

/// A host with twenty files of policies, of which every second is for the container, and its `config.json` of 20 KB.
pub(crate) fn busy_host() -> tempfile::TempDir {
    let dir = host();
    let folder = dir.path().join("policies");
    fs::create_dir(&folder).expect("a directory");
    for n in 0..20 {
        let policy = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": format!("p{n}"), "namespace": "shop"},
            "spec": {
                "podSelector": {"matchLabels": {"app": if n % 2 == 0 { "web" } else { "other" }}},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": format!("peer-{}", n % 7)}}}],
                             "ports": [{"port": 8000 + n}]}],
                "egress": [{"to": [{"ipBlock": {"cidr": format!("10.{n}.0.0/16"), "except": [format!("10.{n}.7.0/24")]}}],
                            "ports": [{"port": 443}, {"protocol": "UDP", "port": 53}]}],
            },
        });
        fs::write(folder.join(format!("{n}.json")), policy.to_string()).expect("a file");
    }
    let mut config = bundle();
    grown(&mut config);
    fs::write(dir.path().join("bundle/config.json"), config.to_string()).expect("a file");
    dir
}

/// What says of a container that the policies of [`busy_host`] are for it, beside what it asks for.
pub(crate) fn of_the_shop(mut annotations: Value) -> Value {
    annotations["io.netlatch.namespace"] = "shop".into();
    annotations["io.netlatch.labels"] = "app=web".into();
    annotations
}

/// Makes a `config.json` as long as an engine's: variables and annotations until it has 20 KB.
pub(crate) fn grown(config: &mut Value) {
    let mut variables = vec![Value::from("PATH=/usr/sbin:/usr/bin:/sbin:/bin")];
    for n in 0.. {
        config["process"]["env"] = variables.clone().into();
        if config.to_string().len() >= 20_000 {
            break;
        }
        variables.push(format!("SHOP_SERVICE_{n}_PORT_8080_TCP_ADDR=tcp://10.96.{n}.17:8080").into());
        config["annotations"][format!("com.example.shop/note-{n}")] = format!("\"{n}\": kept for who reads it").into();
    }
}

/// `netlatch createRuntime` with a host's files.
pub(crate) fn hook(netlatch: &Path, dir: &Path, input: PathBuf) -> Run {
    stage("createRuntime", netlatch, dir, &input)
}

/// `netlatch poststop` of a container that was started so.
fn stopped(netlatch: &Path, dir: &Path, namespace: &Namespace, annotations: &Value) -> Run {
    stage("poststop", netlatch, dir, &stated(dir, namespace, annotations, "stopped", None))
}

fn stage(stage: &str, netlatch: &Path, dir: &Path, input: &Path) -> Run {
    let mut command = Command::new(netlatch);
    command.arg(stage).arg("--config").arg(dir.join("config.yaml"));
    command.arg("--run-dir").arg(dir.join("run"));
    Run::new(command, false, input)
}
