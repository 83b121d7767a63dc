//! Reachability tables of the Kubernetes project and others against real packets: a namespace for each pod, the hook run
//! for each pod in random order, and every cell of the table a connect.
//!
//! The tables are read from `../shared/cases` (`NETLATCH_CASES`: elsewhere). `NETLATCH_SEED` repeats an order and a
//! choice of cases, `NETLATCH_ONLY` runs the cases whose file has this in its name.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use support::case::{self, Case, Pod};
use support::cluster::Cluster;
use support::container::Container;
use support::dice::Dice;
use support::engine::Engine;
use support::servers::{Servers, Service};
use support::traffic::{Flow, wrong};

/// How many cases run at once: most of the time of each is waiting for what must not come.
const AT_ONCE: usize = 3;
/// How many cases of each suite are drawn beside those that always run.
const DRAWN: usize = 6;

/// What a run was.
#[derive(Debug, Default)]
struct Tally {
    cases: usize,
    probes: usize,
    denied: usize,
    problems: Vec<String>,
}

/// The steps of one test, played one after the other in the same namespaces.
struct Play<'a> {
    cluster: Cluster,
    engine: Engine,
    servers: Servers,
    running: BTreeMap<String, (Pod, Container)>,
    dice: Dice,
    tally: &'a mut Tally,
}

impl Play<'_> {
    fn new<'a>(steps: &[Case], dice: Dice, tally: &'a mut Tally) -> Play<'a> {
        // A later step may have pods that an earlier one has not.
        let ends: BTreeMap<_, _> = steps.iter().flat_map(Case::ends).map(|(name, address)| (name, [address])).collect();
        let named: Vec<_> = ends.iter().map(|(name, address)| (name.as_str(), &address[..])).collect();
        let cluster = Cluster::new(&named);
        let services: BTreeSet<Service> = steps
            .iter()
            .flat_map(|step| &step.expect)
            .map(|cell| {
                let end = cluster.index(&cell.to);
                let at = SocketAddr::new(cluster.ends[end].addresses[0], cell.port);
                Service { end, at, transport: cell.transport() }
            })
            .collect();
        let servers = Servers::start(&cluster, &services.into_iter().collect::<Vec<_>>());
        Play { cluster, engine: Engine::new(), servers, running: BTreeMap::new(), dice, tally }
    }

    /// Without a rule everything gets through, also and above all what is to be denied.
    fn control(&mut self, steps: &[Case]) {
        let denied: BTreeSet<_> = steps
            .iter()
            .flat_map(|step| &step.expect)
            .filter(|cell| !cell.allowed && cell.from != cell.to)
            .map(|cell| (&cell.from, &cell.to, cell.port, cell.transport()))
            .collect();
        let all: Vec<_> = denied
            .into_iter()
            .map(|(from, to, port, transport)| (flow(&self.cluster, from, to, port, transport), true))
            .collect();
        for (i, fate) in wrong(&self.cluster, &self.servers, &all) {
            self.tally.problems.push(format!("{}: without rules: {}: {fate:?}", steps[0].id, all[i].0));
        }
    }

    /// Brings the host to what the step says, the shortest way.
    fn arrange(&mut self, step: &Case) {
        let files = [step.manifests(), case::policies(step)].concat();
        let changed: Vec<&Pod> = step
            .pods
            .iter()
            .filter(|pod| !pod.host_network)
            .filter(|pod| self.running.get(&pod.full_name()).is_none_or(|(was, _)| was != *pod))
            .collect();
        let host = &self.cluster.host;
        let stays = |name: &String| step.pods.iter().any(|pod| pod.full_name() == *name);
        let gone = self.running.keys().filter(|name| !stays(name)).cloned();
        let restarted = changed.iter().map(|pod| pod.full_name());
        for name in gone.chain(restarted).collect::<Vec<_>>() {
            if let Some((_, container)) = self.running.remove(&name) {
                self.engine.stop(host, &container);
            }
        }
        self.engine.replace(&files);
        if !self.running.is_empty() {
            self.engine.reload(host);
        }
        let mut order = changed;
        self.dice.shuffle(&mut order);
        for pod in order {
            let container = pod.identity().container(&self.cluster.end(&pod.full_name()).namespace);
            self.engine.start(host, &container);
            if self.dice.one_in(2) {
                self.engine.started(host, &container);
            }
            self.running.insert(pod.full_name(), (pod.clone(), container));
        }
    }

    fn probe(&mut self, step: &Case) {
        let wanted: Vec<(Flow, bool)> = step
            .expect
            .iter()
            // A pod always reaches itself, which suites leave undefined.
            .map(|cell| {
                let flow = flow(&self.cluster, &cell.from, &cell.to, cell.port, cell.transport());
                (flow, cell.allowed || cell.from == cell.to)
            })
            .collect();
        for (i, fate) in wrong(&self.cluster, &self.servers, &wanted) {
            let cell = &step.expect[i];
            let (verb, to) = (if wanted[i].1 { "should reach" } else { "should not reach" }, wanted[i].0.to);
            self.tally
                .problems
                .push(format!("{}: {} {verb} {} ({} {to}): {fate:?}", step.id, cell.from, cell.to, cell.proto));
        }
        self.tally.cases += 1;
        self.tally.probes += wanted.len();
        self.tally.denied += wanted.iter().filter(|(_, allowed)| !allowed).count();
    }
}

fn flow(cluster: &Cluster, from: &str, to: &str, port: u16, transport: netlatch::net::Transport) -> Flow {
    let (end, to) = (cluster.index(from), cluster.end(to).addresses[0]);
    Flow { end, from: cluster.ends[end].addresses[0], to: SocketAddr::new(to, port), transport }
}

/// Plays each group of steps, several groups at once.
fn play(groups: &[Vec<String>], dice: &Dice) -> Tally {
    let (next, tally) = (AtomicUsize::new(0), Mutex::new(Tally::default()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(group) = groups.get(at) else { return };
                    let mut own = Tally::default();
                    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        let steps: Vec<Case> = group.iter().map(|file| case::read(file)).collect();
                        let mut play = Play::new(&steps, dice.branch(at), &mut own);
                        play.control(&steps);
                        for step in &steps {
                            play.arrange(step);
                            play.probe(step);
                        }
                    }));
                    if let Err(panic) = done {
                        let text = panic.downcast_ref::<String>().map_or("it panicked", String::as_str);
                        own.problems.push(format!("{}: {text}", group[0]));
                    }
                    let mut tally = tally.lock().unwrap();
                    tally.cases += own.cases;
                    tally.probes += own.probes;
                    tally.denied += own.denied;
                    tally.problems.append(&mut own.problems);
                }
            });
        }
    });
    tally.into_inner().unwrap()
}

/// Files of one test belong together: `15-s1-title`, `15-s2-title`.
fn group(files: impl IntoIterator<Item = String>) -> Vec<Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let only = std::env::var("NETLATCH_ONLY").unwrap_or_default();
    for file in files.into_iter().filter(|file| file.contains(&only)) {
        let number = file.rfind('/').and_then(|slash| file[slash..].find("-s").map(|at| slash + at));
        let key = match number {
            Some(at) if file[at + 2..].starts_with(|c: char| c.is_ascii_digit()) => file[..at].to_owned(),
            Some(_) | None => file.clone(),
        };
        groups.entry(key).or_default().push(file);
    }
    groups.into_values().collect()
}

fn smoke() -> Vec<String> {
    let path = case::folder().join("smoke.txt");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().map(str::to_owned).collect()
}

/// The files of a suite, by name.
fn suite(name: &str) -> Vec<String> {
    let dir = case::folder().join("cases").join(name);
    let mut files: Vec<String> = std::fs::read_dir(&dir)
        .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
        .map(|entry| format!("cases/{name}/{}", entry.unwrap().file_name().to_string_lossy()))
        .filter(|file| file.ends_with(".json"))
        .collect();
    files.sort_unstable();
    files
}

fn judge(groups: &[Vec<String>], dice: &Dice) {
    let started = std::time::Instant::now();
    let tally = play(groups, dice);
    println!(
        "{} cases in {} tests, {} probes of which {} to be denied, {:.1} s; NETLATCH_SEED={}",
        tally.cases,
        groups.len(),
        tally.probes,
        tally.denied,
        started.elapsed().as_secs_f32(),
        dice.seed,
    );
    let shown: Vec<&str> = tally.problems.iter().take(100).map(String::as_str).collect();
    assert!(tally.problems.is_empty(), "{} problems, seed {}:\n{}", tally.problems.len(), dice.seed, shown.join("\n"));
    assert!(tally.probes > 0);
}

#[test]
#[ignore = "reads ../shared/cases; scripts/test.sh runs it where that is"]
fn cases_of_the_kubernetes_project_hold_packet_by_packet() {
    // All of Kubernetes' own end-to-end tests, and some of each other suite.
    let dice = Dice::new("order of starts");
    judge(&group(smoke()), &dice);
}

#[test]
#[ignore = "reads ../shared/cases; scripts/test.sh runs it where that is"]
fn cases_drawn_from_every_other_suite_hold_packet_by_packet() {
    let mut dice = Dice::new("choice of cases and order of starts");
    let mut drawn = Vec::new();
    for name in ["cyclonus", "cyclonus-ipv6", "np-guard", "npa-conformance", "recipes", "k8s-website"] {
        let mut all = group(suite(name));
        dice.shuffle(&mut all);
        all.truncate(DRAWN);
        drawn.append(&mut all);
    }
    judge(&drawn, &dice);
}

#[test]
#[ignore = "reads ../shared/cases and takes long; scripts/test.sh runs it with NETLATCH_CASES_ALL=1"]
fn every_case_holds_packet_by_packet() {
    let dice = Dice::new("order of starts");
    let suites = ["k8s-e2e", "cyclonus", "cyclonus-ipv6", "np-guard", "npa-conformance", "recipes", "k8s-website"];
    judge(&group(suites.into_iter().flat_map(suite)), &dice);
}
