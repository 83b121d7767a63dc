//! Every system call of a run fails once. What was asked for holds all the same, or the run says in one line that it does
//! not, and the next one repairs it: never a container that starts unprotected, a panic, or a wait without end.
//!
//! strace makes the calls fail (`--inject`): the kernel's part is left out and its answer made up, as a seccomp filter
//! does. Calls before main's first, `close_range`, are the C library's, whose failure ends the process before it is ours;
//! `exit_group` cannot fail, and `brk` answers by an address, never by an error.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::Value;
use support::container::{Dialect, binary};
use support::engine::Engine;
use support::namespace::run_with_input;
use support::{Container, Namespace};

/// What a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Run {
    /// createRuntime of a container with a list, sysctls and `@host`.
    Start,
    /// createRuntime among a peer whose set follows who starts.
    StartAmongPeers,
    /// poststart of the same.
    Poststart,
    /// poststop of the same.
    Poststop,
    /// `reload` with another policy than both started under.
    Reload,
}

impl Run {
    fn command(self) -> &'static str {
        match self {
            Run::Start | Run::StartAmongPeers => "createRuntime",
            Run::Poststart => "poststart",
            Run::Poststop => "poststop",
            Run::Reload => "reload",
        }
    }
}

const POLICY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress, Egress]
  egress:
  - to: [{podSelector: {matchLabels: {app: web}}}]
    ports: [{port: PORT}]
  ingress:
  - from: [{podSelector: {matchLabels: {app: web}}}]
";

/// A host with the containers of one run on it.
struct Scene {
    engine: Engine,
    run: Run,
    container: Container,
    /// The container's, and its peer's where it has one.
    namespaces: Vec<Namespace>,
}

impl Scene {
    fn new(engine: Engine, run: Run) -> Scene {
        let _ = fs::remove_dir_all(engine.run_dir());
        let namespace = Namespace::new();
        if run == Run::Start {
            let container =
                named(Container::of(&namespace).with("egress", "10.0.0.0/8, @host").with("ipv6", "disable"), "own");
            return Scene { engine, run, container, namespaces: vec![namespace] };
        }
        let peer = Namespace::new();
        for (namespace, address) in [(&namespace, "10.1.0.1"), (&peer, "10.1.0.2")] {
            namespace.ip_batch(&format!("link add e0 type veth peer name e1\naddr add {address}/16 dev e0\n"));
        }
        engine.replace(&[("web.yaml".to_owned(), POLICY.replace("PORT", "443"))]);
        let of =
            |namespace, id| named(Container::of(namespace).with("namespace", "shop").with("labels", "app=web"), id);
        let (container, other) = (of(&namespace, "own"), of(&peer, "peer"));
        let scene = Scene { engine, run, container, namespaces: vec![namespace, peer] };
        scene.succeed("createRuntime", &other);
        if run != Run::StartAmongPeers {
            scene.succeed("createRuntime", &scene.container);
        }
        if run == Run::Reload {
            scene.engine.replace(&[("web.yaml".to_owned(), POLICY.replace("PORT", "444"))]);
        }
        scene
    }

    fn succeed(&self, stage: &str, container: &Container) {
        let state = container.state(Dialect::Runc).to_string();
        let output = run_with_input(&mut self.engine.command(stage), state.as_bytes());
        assert!(output.status.success(), "{stage}: {}", said(&output));
    }

    /// Runs what is to be tried, below strace with these arguments.
    fn traced(&self, arguments: &[String]) -> Output {
        let mut command = Command::new("timeout");
        command.args(["--signal=KILL", "13", "strace", "-qq"]).args(arguments).arg("-o").arg(self.trace());
        command.arg(binary()).arg(self.run.command());
        command.arg("--config").arg(self.engine.config()).arg("--run-dir").arg(self.engine.run_dir()).env_clear();
        command.env("PATH", std::env::var_os("PATH").expect("a PATH"));
        run_with_input(&mut command, self.state().to_string().as_bytes())
    }

    fn again(&self) -> Output {
        run_with_input(&mut self.engine.command(self.run.command()), self.state().to_string().as_bytes())
    }

    fn state(&self) -> Value {
        match self.run {
            Run::Poststop => self.container.stopped(Dialect::Runc),
            Run::Start | Run::StartAmongPeers | Run::Poststart | Run::Reload => self.container.state(Dialect::Runc),
        }
    }

    fn trace(&self) -> PathBuf {
        self.engine.path().join("trace")
    }

    /// What holds now: the rules of all, and of the container what else was asked for.
    fn found(&self) -> Found {
        let own = &self.namespaces[0];
        let peers = self.namespaces[1..].iter().map(Namespace::nft_json).collect();
        let lo = (self.run == Run::Start).then(|| own.ip_json(&["link", "show", "lo"])[0]["flags"].to_string());
        let ipv6 = ["all", "default", "lo"].map(|name| own.sysctl(&format!("net/ipv6/conf/{name}/disable_ipv6")));
        let recorded = self.engine.run_dir().join(format!("containers/{}.json", self.container.id)).exists();
        Found { rules: own.nft_json(), peers, lo, ipv6, recorded }
    }

    /// Whether it was said that the peer's sets could not be changed: every start and `reload` tries them again.
    fn told_of_the_peer(&self) -> bool {
        let log = fs::read_to_string(self.engine.run_dir().join("log")).unwrap_or_default();
        log.contains("container peer: its sets of peers could not be changed")
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Found {
    /// Of the container.
    rules: Vec<Value>,
    /// Of others.
    peers: Vec<Vec<Value>>,
    lo: Option<String>,
    ipv6: [String; 3],
    recorded: bool,
}

impl Found {
    /// What is not as in `other`.
    fn unlike(&self, other: &Found) -> Vec<&'static str> {
        let parts = [
            ("its rules", self.rules == other.rules),
            ("its peer's rules", self.peers == other.peers),
            ("lo", self.lo == other.lo),
            ("disable_ipv6", self.ipv6 == other.ipv6),
            ("the record", self.recorded == other.recorded),
        ];
        parts.into_iter().filter(|(_, same)| !same).map(|(part, _)| part).collect()
    }
}

fn named(mut container: Container, id: &str) -> Container {
    id.clone_into(&mut container.id);
    container
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The calls of a trace from main's first on: name, its number among those of that name, and the line.
fn calls(trace: &Path) -> Vec<(String, usize, String)> {
    let (mut counts, mut begun) = (BTreeMap::new(), false);
    let mut calls = Vec::new();
    for line in fs::read_to_string(trace).expect("a trace").lines() {
        let Some((name, _)) = line.split_once('(') else { continue };
        let count = counts.entry(name.to_owned()).and_modify(|count| *count += 1).or_insert(1);
        begun |= name == "close_range";
        if begun && !["exit_group", "brk"].contains(&name) {
            calls.push((name.to_owned(), *count, line.to_owned()));
        }
    }
    assert!(calls.len() > 50, "a run has more calls than {calls:?}");
    calls
}

/// What is wrong with how a run with a fault ended.
fn wrong(scene: &Scene, inject: &str, output: &Output, wanted: &Found) -> Option<String> {
    // Where writing itself fails there can be no line.
    let line = said(output);
    match output.status.code() {
        None => return Some(format!("signal {:?}: {line}", output.status.signal())),
        Some(0) if !line.is_empty() => return Some(format!("success, and on stderr: {line}")),
        // Nothing could be done about a stop that failed; the next start repairs it.
        Some(0) if scene.run == Run::Poststop => {}
        Some(0) => {
            let mut found = scene.found();
            if scene.told_of_the_peer() {
                found.peers.clone_from(&wanted.peers);
            }
            let unlike = found.unlike(wanted);
            if !unlike.is_empty() {
                return Some(format!("success, and {unlike:?} not as wanted"));
            }
        }
        Some(10..=63) => {
            let one = line.starts_with("netlatch: cannot ") && line.ends_with('\n') && line.lines().count() == 1;
            let text = ["not permitted", "not implemented", "denied"].iter().any(|text| line.contains(text));
            if (!one || text) && !(inject.starts_with("write:") && line.is_empty()) {
                return Some(format!("not one line of ours: {line}"));
            }
        }
        Some(code) => return Some(format!("exit code {code}: {line}")),
    }
    let again = scene.again();
    if !again.status.success() {
        return Some(format!("the next run: {}", said(&again)));
    }
    (scene.run != Run::Poststop && scene.found() != *wanted).then(|| "the next run repairs nothing".to_owned())
}

/// How many at once.
const AT_ONCE: usize = 4;

/// Makes calls of a run fail, each in a run of its own. `faults` says which, from the calls of a run without fault.
fn sweep(run: Run, faults: impl Fn(&[(String, usize, String)]) -> Vec<(String, String)>) {
    let scene = Scene::new(Engine::new(), run);
    let output = scene.traced(&[]);
    assert!(output.status.success(), "{}", said(&output));
    let faults = faults(&calls(&scene.trace()));
    let (next, problems) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                // Names of files go into a table's comment, so each folder has its own picture of what is wanted.
                let mut engine = Engine::new();
                let scene = Scene::new(engine, run);
                assert!(scene.again().status.success());
                let wanted = scene.found();
                engine = scene.engine;
                while let Some((inject, line)) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let scene = Scene::new(engine, run);
                    let output = scene.traced(&[format!("--inject={inject}")]);
                    if let Some(problem) = wrong(&scene, inject, &output, &wanted) {
                        problems.lock().expect("no panic").push(format!("{inject}: {line}\n    {problem}"));
                    }
                    engine = scene.engine;
                }
            });
        }
    });
    let problems = problems.into_inner().expect("no panic");
    println!("{run:?}: {} faults", faults.len());
    assert!(problems.is_empty(), "{} of {} faults:\n{}", problems.len(), faults.len(), problems.join("\n"));
}

/// Calls that come again and again and tell nothing new: of each only the first few fail.
const ALIKE: [&str; 5] = ["close", "fcntl", "getpid", "gettid", "geteuid"];
const OF_ALIKE: usize = 2;

/// Each call fails once.
fn each_call(calls: &[(String, usize, String)]) -> Vec<(String, String)> {
    let tells = |call: &&(String, usize, String)| !ALIKE.contains(&call.0.as_str()) || call.1 <= OF_ALIKE;
    let fault =
        |(name, count, line): &(String, usize, String)| (format!("{name}:error=EPERM:when={count}"), line.clone());
    calls.iter().filter(tells).map(fault).collect()
}

/// Each call fails once, of those that are alike but for their numbers and what they carry only the first two.
fn each_sort_of_call(calls: &[(String, usize, String)]) -> Vec<(String, String)> {
    let mut seen = BTreeMap::new();
    let mut first = calls.to_vec();
    first.retain(|(_, _, line)| {
        let call: String = line.chars().take(60).filter(|c| !c.is_ascii_digit()).collect();
        let times = seen.entry(call).and_modify(|times| *times += 1).or_insert(1);
        *times <= 2
    });
    each_call(&first)
}

/// Each kind of call fails from main's first line on, as under a seccomp filter.
fn each_kind(calls: &[(String, usize, String)]) -> Vec<(String, String)> {
    let kinds: BTreeSet<&str> = calls.iter().map(|(name, _, _)| name.as_str()).collect();
    let first = |kind: &str| calls.iter().find(|call| call.0 == kind).map_or(1, |(_, count, _)| *count);
    let of = |kind: &str, error| (format!("{kind}:error={error}:when={}+", first(kind)), String::new());
    kinds.into_iter().flat_map(|kind| ["ENOSYS", "EACCES", "ENOMEM"].map(|error| of(kind, error))).collect()
}

#[test]
fn a_start_holds_or_says_so_whichever_call_fails() {
    sweep(Run::Start, each_call);
}

#[test]
fn a_start_among_peers_holds_or_says_so_whichever_call_fails() {
    sweep(Run::StartAmongPeers, each_call);
}

#[test]
fn a_poststart_holds_or_says_so_whichever_call_fails() {
    sweep(Run::Poststart, each_sort_of_call);
}

#[test]
fn a_poststop_ends_whichever_call_fails() {
    sweep(Run::Poststop, each_sort_of_call);
}

#[test]
fn a_reload_holds_or_says_so_whichever_call_fails() {
    sweep(Run::Reload, each_sort_of_call);
}

#[test]
fn a_start_holds_or_says_so_whichever_kind_of_call_is_refused() {
    for run in [Run::Start, Run::StartAmongPeers] {
        sweep(run, each_kind);
    }
}
