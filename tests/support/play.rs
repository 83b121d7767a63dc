//! Tables played on a host: a namespace for each end, the hook for each pod, every cell a packet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use netlatch::net::Transport;

use super::case::{Case, Pod};
use super::cluster::Cluster;
use super::container::Container;
use super::dice::Dice;
use super::engine::Engine;
use super::servers::{Servers, Service};
use super::traffic::{Flow, wrong};

/// How many tables are played at once: most of the time of each is waiting for what must not come.
const AT_ONCE: usize = 3;
/// How many problems are shown.
const SHOWN: usize = 100;

/// Plays tests of one or more steps and asserts that every packet fared as its table says. `steps` gives the steps of the
/// test with that number.
pub(crate) fn judge(dice: &Dice, tests: usize, steps: impl Fn(usize) -> Vec<Case> + Sync) {
    let started = Instant::now();
    let (next, tally) = (AtomicUsize::new(0), Mutex::new(Tally::default()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= tests {
                        return;
                    }
                    let own = play(&steps(number), dice.branch(number));
                    tally.lock().expect("no panic").add(own);
                }
            });
        }
    });
    let Tally { steps, probes, denied, problems } = tally.into_inner().expect("no panic");
    let (seed, took) = (dice.seed, started.elapsed().as_secs_f32());
    println!("{tests} tests, {steps} steps, {probes} probes of which {denied} to be denied: {took:.1} s");
    let shown: Vec<&str> = problems.iter().take(SHOWN).map(String::as_str).collect();
    assert!(problems.is_empty(), "{} problems; NETLATCH_SEED={seed}:\n{}", problems.len(), shown.join("\n"));
    assert!(denied > 0, "nothing was to be denied: this shows nothing");
}

fn play(steps: &[Case], dice: Dice) -> Tally {
    let mut tally = Tally::default();
    let mut at = 0;
    let done = catch_unwind(AssertUnwindSafe(|| {
        let mut play = Play::new(steps, dice, &mut tally);
        play.control(steps);
        for (number, step) in steps.iter().enumerate() {
            at = number;
            play.arrange(step);
            play.probe(step);
        }
    }));
    if let Err(panic) = done {
        let text = panic.downcast_ref::<String>().map_or("it panicked", String::as_str);
        tally.problems.push(format!("{}: {text}", steps[at].id));
    }
    tally
}

/// What a run was.
#[derive(Debug, Default)]
struct Tally {
    steps: usize,
    probes: usize,
    denied: usize,
    problems: Vec<String>,
}

impl Tally {
    fn add(&mut self, mut other: Tally) {
        self.steps += other.steps;
        self.probes += other.probes;
        self.denied += other.denied;
        self.problems.append(&mut other.problems);
    }
}

/// The steps of one test, played one after the other in the same namespaces.
struct Play<'a> {
    cluster: Cluster,
    engine: Engine,
    servers: Servers,
    running: BTreeMap<String, (Pod, Container)>,
    written: Vec<(String, String)>,
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
        Play { cluster, engine: Engine::new(), servers, running: BTreeMap::new(), written: Vec::new(), dice, tally }
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
        let files = [step.manifests(), step.documents.clone()].concat();
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
        let reload = files != self.written && !self.running.is_empty();
        if files != self.written {
            self.engine.replace(&files);
            self.written = files;
        }
        // Whoever starts reads the new files, whether those that run have been told or not.
        let first = self.dice.one_in(2);
        if reload && first {
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
        if reload && !first {
            self.engine.reload(host);
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
        self.tally.steps += 1;
        self.tally.probes += wanted.len();
        self.tally.denied += wanted.iter().filter(|(_, allowed)| !allowed).count();
    }
}

fn flow(cluster: &Cluster, from: &str, to: &str, port: u16, transport: Transport) -> Flow {
    let (end, to) = (cluster.index(from), cluster.end(to).addresses[0]);
    Flow { end, from: cluster.ends[end].addresses[0], to: SocketAddr::new(to, port), transport }
}
