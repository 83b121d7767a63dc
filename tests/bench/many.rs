//! Many starts at once, among none, some and many that run: how many a second, how long each takes, how long it keeps others
//! waiting; and what all containers of a host together wait longer after a reboot.
//!
//! Run by scripts/bench.sh. Needs root; works in network namespaces of its own. As many hands as are asked for start one
//! container after another, each with a namespace and a state that are there before. `nft -f` with the same rules and a program
//! that does nothing go through the same hands, right behind: what the machine cannot do for them it cannot do for the hook.

mod crowd;
#[path = "../support/namespace.rs"]
#[allow(dead_code)]
mod namespace;
#[allow(dead_code)]
mod report;
#[allow(dead_code)]
mod rig;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crowd::{Crowd, Start, at_once};
use nix::sched::{CloneFlags, unshare};
use report::{Group, Sample, quantile};
use rig::{End, Rig};
use rustix::process::{Resource, Rlimit, setrlimit};

/// Numbers of newcomers begin here; those below run.
const NEWCOMERS: usize = 10_000;
/// How many are followed by whoever the policies of `ten` are for.
const TEN: usize = 10;
/// How many start after a reboot.
const REBOOTED: usize = 1000;

const LISTS: &str =
    r#"{"io.netlatch.egress": "10.0.0.0/8:5432, 192.0.2.7:443, tcp/203.0.113.0/24:8000-8999, udp/1.1.1.1:53"}"#;
const NOTHING: &str = "{}";

/// What is started, and under which policies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Lists in annotations; no policies at all.
    Lists,
    /// There are policies, and none selects any of them.
    Nobody,
    /// Ten of those that run let the newcomers in, and the newcomers them.
    Ten,
    /// One policy is for every pod, and lets the ten in.
    All,
    /// Of four newcomers one as in `lists`, one as in `nobody`, two as in `ten`.
    Mix,
}

impl Work {
    const ALL: [(&'static str, Work); 5] =
        [("lists", Work::Lists), ("nobody", Work::Nobody), ("ten", Work::Ten), ("all", Work::All), ("mix", Work::Mix)];

    fn host(self, netlatch: &Path) -> Rig {
        let rig = Rig::new(netlatch);
        let policy = |name: &str, pods: &str, from: &str| {
            let text = format!(
                "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  \
                 podSelector: {pods}\n  ingress:\n  - from: [{{podSelector: {{matchLabels: {{app: {from}}}}}}}]\n    \
                 ports: [{{port: 80}}]\n"
            );
            rig.write(&format!("{name}.yaml"), &text);
        };
        let app = |app: &str| format!("{{matchLabels: {{app: {app}}}}}");
        match self {
            Work::Lists => {}
            Work::Nobody => policy("nobody", &app("somebody-else"), "front"),
            Work::Ten | Work::Mix => {
                policy("watcher", &app("watcher"), "front");
                policy("front", &app("front"), "watcher");
            }
            Work::All => policy("all", "{}", "watcher"),
        }
        rig
    }

    /// Labels and annotations of a newcomer.
    fn newcomer(self, number: usize) -> (&'static str, &'static str) {
        match (self, number % 4) {
            (Work::Lists, _) => ("app=web", LISTS),
            (Work::Mix, 0) => ("app=other", LISTS),
            (Work::Nobody, _) | (Work::Mix, 1) => ("app=other", NOTHING),
            (Work::Ten | Work::All | Work::Mix, _) => ("app=front", NOTHING),
        }
    }
}

struct Bench {
    netlatch: PathBuf,
    empty: PathBuf,
    nft: Option<PathBuf>,
    pictures: PathBuf,
    /// How many starts are measured for each row.
    starts: usize,
    parallel: Vec<usize>,
    running: Vec<usize>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [netlatch, empty, pictures, only @ ..] = args.as_slice() else {
        eprintln!("usage: many NETLATCH EMPTY PICTURES [WORK...], see scripts/bench.sh");
        std::process::exit(2);
    };
    // The namespace that stands for the host's.
    unshare(CloneFlags::CLONE_NEWNET).expect("root, or a user namespace");
    let many = Rlimit { current: Some(16_384), maximum: Some(16_384) };
    setrlimit(Resource::Nofile, many).expect("the limit can be raised");
    let numbers = |name: &str, otherwise: &[usize]| match std::env::var(name) {
        Ok(text) => text.split(',').map(|n| n.trim().parse().expect("numbers, with commas between them")).collect(),
        Err(_) => otherwise.to_vec(),
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let bench = Bench {
        netlatch: netlatch.into(),
        empty: empty.into(),
        nft: std::env::split_paths(&path).map(|dir| dir.join("nft")).find(|file| file.exists()),
        pictures: pictures.into(),
        starts: numbers("STARTS", &[128])[0],
        parallel: numbers("PARALLEL", &[1, 4, 16, 64]),
        running: {
            let mut running = numbers("RUNNING", &[0, 100, 1000]);
            // Containers are added, never taken away.
            running.sort_unstable();
            running
        },
    };
    fs::create_dir_all(&bench.pictures).expect("a directory");
    let is_meant = |name: &str| only.is_empty() || only.iter().any(|wanted| wanted == name);
    let works: Vec<(&str, Work)> = Work::ALL.into_iter().filter(|(name, _)| is_meant(name)).collect();
    if !works.is_empty() {
        report::attempt("many", || many_at_once(&bench, &works));
    }
    if is_meant("reboot") {
        report::attempt("reboot", || reboot(&bench));
    }
    report::exit_code()
}

/// All works among as many as are to run, then among more: as many namespaces as run, and no more, are there.
fn many_at_once(bench: &Bench, works: &[(&str, Work)]) {
    let hosts: Vec<Rig> = works.iter().map(|(_, work)| work.host(&bench.netlatch)).collect();
    let mut tables: Vec<Rows> = works.iter().map(|(name, _)| Rows::of(name)).collect();
    let mut fleet: Vec<End> = Vec::new();
    for running in &bench.running {
        while fleet.len() < *running {
            let labels = if fleet.len() < TEN { "app=watcher" } else { "app=other" };
            let end = End::new(fleet.len(), labels);
            for rig in &hosts {
                rig.stage("createRuntime", &end);
            }
            fleet.push(end);
        }
        for ((_, work), (rig, table)) in works.iter().zip(hosts.iter().zip(&mut tables)) {
            for parallel in &bench.parallel {
                table.add(*running, *parallel, round(bench, *work, rig, *parallel));
            }
        }
    }
    tables.iter().for_each(|table| table.publish(&bench.pictures));
}

/// What one number of hands did with one number of running containers: the hook, `nft -f`, nothing.
struct Round {
    hook: Crowd,
    nft: Option<Crowd>,
    empty: Crowd,
}

fn round(bench: &Bench, work: Work, rig: &Rig, parallel: usize) -> Round {
    let starts = bench.starts.max(parallel);
    let newcomers: Vec<End> = (0..starts).map(|n| End::new(NEWCOMERS + n, work.newcomer(n).0)).collect();
    let states = states(work, rig, &newcomers);
    let hook = at_once(parallel, starts, |n| {
        let mut command = rig.command("createRuntime");
        command.arg("--timings");
        Start { command, input: states[n].clone() }
    });
    let rules = rig.path("rules.nft");
    rig.plan(&newcomers[starts - 1], &rules);
    // What makes it a replacement costs `nft -f` a grace period of the kernel's, and nobody would write it for a fresh namespace.
    let text = fs::read_to_string(&rules).expect("rules");
    let fresh: String =
        text.lines().filter(|line| !line.starts_with("delete table")).map(|line| format!("{line}\n")).collect();
    fs::write(&rules, fresh).expect("a file");
    for end in &newcomers {
        rig.stage("poststop", end);
    }
    drop(newcomers);
    // In namespaces of their own, as fresh as the hook's.
    let nft = bench.nft.as_ref().map(|nft| {
        let fresh: Vec<namespace::Namespace> = (0..starts).map(|_| namespace::Namespace::new()).collect();
        at_once(parallel, starts, |n| {
            let mut command = Command::new("/usr/bin/nsenter");
            command.arg(format!("--net={}", fresh[n].path())).arg(nft).arg("-f").arg(&rules);
            Start { command, input: states[n].clone() }
        })
    });
    let empty = at_once(parallel, starts, |n| Start { command: Command::new(&bench.empty), input: states[n].clone() });
    Round { hook, nft, empty }
}

/// What runtimes write for each, in files of their own.
fn states(work: Work, rig: &Rig, newcomers: &[End]) -> Vec<PathBuf> {
    let state = |(n, end): (usize, &End)| {
        let file = rig.path(&format!("state-{n}.json"));
        fs::copy(rig.state("createRuntime", end, work.newcomer(n).1), &file).expect("a file");
        file
    };
    newcomers.iter().enumerate().map(state).collect()
}

/// The rows of one work.
struct Rows {
    name: String,
    rows: Vec<(usize, usize, Round)>,
}

impl Rows {
    fn of(name: &str) -> Rows {
        Rows { name: name.to_owned(), rows: Vec::new() }
    }

    fn add(&mut self, running: usize, parallel: usize, round: Round) {
        self.rows.push((running, parallel, round));
    }

    /// Prints a Markdown table, and draws how long starts took.
    fn publish(&self, pictures: &Path) {
        println!(
            "### Many at once: {}\n\n| running | at once | starts/s | p50 ms | p99 ms | under the lock ms | p50 to {} running | \
             starts/s to {} at once | starts/s of nft -f | of nothing |\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
            self.name,
            self.rows.first().map_or(0, |row| row.0),
            self.rows.first().map_or(1, |row| row.1),
        );
        for (running, parallel, round) in &self.rows {
            let among_none = self.rows.iter().find(|row| row.1 == *parallel).map_or(round, |row| &row.2);
            let alone = self.rows.iter().find(|row| row.0 == *running).map_or(round, |row| &row.2);
            let hook = &round.hook;
            let nft = round.nft.as_ref().map_or_else(|| "-".to_owned(), |nft| format!("{:.0}", nft.throughput()));
            let locked =
                if hook.locked.is_empty() { "-".to_owned() } else { format!("{:.2}", quantile(&hook.locked, 0.5)) };
            println!(
                "| {running} | {parallel} | {:.0} | {:.2} | {:.2} | {locked} | {:.2} | {:.2} | {nft} | {:.0} |",
                hook.throughput(),
                quantile(&hook.took, 0.5),
                quantile(&hook.took, 0.99),
                quantile(&hook.took, 0.5) / quantile(&among_none.hook.took, 0.5),
                hook.throughput() / alone.hook.throughput(),
                round.empty.throughput(),
            );
        }
        println!();
        let names = self.rows.iter().flat_map(|(running, parallel, _)| {
            ["", "nft -f, "].map(|who| format!("{who}{parallel} at once among {running}"))
        });
        let mut group = Group::new(&format!("many-{}", self.name), &format!("Many at once: {}", self.name), 0, names);
        for (row, (_, _, round)) in self.rows.iter().enumerate() {
            let mut draw = |row, crowd: &Crowd| {
                crowd.took.iter().for_each(|ms| group.add(row, Sample { us: ms * 1e3, ..Sample::default() }));
            };
            draw(row * 2, &round.hook);
            round.nft.iter().for_each(|nft| draw(row * 2 + 1, nft));
        }
        group.keep(pictures);
    }
}

/// All containers of a host at once, nothing recorded: the hook against a program that does nothing.
fn reboot(bench: &Bench) {
    println!(
        "### {REBOOTED} containers after a reboot\n\n| | at once | all ms | a program that does nothing ms | added ms | added a start ms |\n\
         |---|--:|--:|--:|--:|--:|"
    );
    let parallel = bench.parallel.iter().copied().find(|n| *n >= 16).unwrap_or(bench.parallel[0]);
    for (name, work) in Work::ALL {
        let rig = work.host(&bench.netlatch);
        let end = |n: usize| End::new(NEWCOMERS + n, if n < TEN { "app=watcher" } else { work.newcomer(n).0 });
        let all: Vec<End> = (0..REBOOTED).map(end).collect();
        let states = states(work, &rig, &all);
        let input = |n: usize| states[n].clone();
        let hook = at_once(parallel, REBOOTED, |n| Start { command: rig.command("createRuntime"), input: input(n) });
        let empty = at_once(parallel, REBOOTED, |n| Start { command: Command::new(&bench.empty), input: input(n) });
        let added = hook.all - empty.all;
        println!(
            "| {name} | {parallel} | {:.0} | {:.0} | {added:.0} | {:.2} |",
            hook.all,
            empty.all,
            added / REBOOTED as f64
        );
    }
    println!();
}
