//! What policies cost: a start under them, among others that run, with large sets, with many policies; reach and reload.
//!
//! Run by scripts/bench.sh. Needs root; works in network namespaces of its own. Prints medians of samples taken in turns.
//! Nothing is asserted about time: other work on the machine moves times, and ratios less.

mod figures;
#[path = "../support/namespace.rs"]
#[allow(dead_code)]
mod namespace;
#[allow(dead_code)]
mod report;
mod rig;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use figures::{Rows, median, title};
use namespace::Namespace;
use nix::sched::{CloneFlags, unshare};
use rig::{End, Rig, addresses, timed};
use rustix::process::{Resource, Rlimit, setrlimit};

/// Numbers of newcomers begin here; those below run.
const NEWCOMERS: usize = 10_000;

struct Bench {
    netlatch: PathBuf,
    empty: PathBuf,
    /// Where the samples go.
    pictures: PathBuf,
    rounds: usize,
    /// Newcomers there were. Their namespaces stay until the end: taking one down is work for another core.
    ends: Vec<End>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [netlatch, empty, pictures, only @ ..] = args.as_slice() else {
        eprintln!("usage: policy NETLATCH EMPTY PICTURES [MEASUREMENT...], see scripts/bench.sh");
        std::process::exit(2);
    };
    // The namespace that stands for the host's.
    unshare(CloneFlags::CLONE_NEWNET).expect("root, or a user namespace");
    ip(&["addr", "add", "192.0.2.1/32", "dev", "lo"]);
    // A holder takes three descriptors.
    let many = Rlimit { current: Some(16_384), maximum: Some(16_384) };
    setrlimit(Resource::Nofile, many).expect("the limit can be raised");
    let rounds = std::env::var("ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(50);
    let mut bench =
        Bench { netlatch: netlatch.into(), empty: empty.into(), pictures: pictures.into(), rounds, ends: Vec::new() };
    fs::create_dir_all(&bench.pictures).expect("a directory");
    type Measurement = fn(&mut Bench);
    let measurements: [(&str, Measurement); 6] = [
        ("start", start),
        ("among", among),
        ("cidrs", cidrs),
        ("policies", policies),
        ("reach", reach),
        ("reload", reload),
    ];
    for (name, measurement) in measurements {
        if only.is_empty() || only.iter().any(|wanted| wanted == name) {
            report::attempt(name, || measurement(&mut bench));
            bench.ends.clear();
        }
    }
    report::exit_code()
}

impl Bench {
    /// A container that was not there before.
    fn newcomer(&mut self, labels: &str) -> &End {
        self.ends.push(End::new(NEWCOMERS + self.ends.len(), labels));
        &self.ends[self.ends.len() - 1]
    }
}

fn ip(args: &[&str]) {
    assert!(Command::new("ip").args(args).status().expect("ip starts").success(), "ip {args:?}");
}

fn policy(name: &str, pods: &str, from: &[String], ports: &str) -> String {
    let from: Vec<String> =
        from.iter().map(|app| format!("{{podSelector: {{matchLabels: {{app: {app}}}}}}}")).collect();
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  \
         podSelector: {{matchLabels: {{app: {pods}}}}}\n  ingress:\n  - from: [{}]\n    ports: [{ports}]\n---\n",
        from.join(", ")
    )
}

/// One start: without policies, with policies for others, with policies for it.
fn start(bench: &mut Bench) {
    title("createRuntime, 20 policy files, 5 containers run");
    let (without, with) = (Rig::new(&bench.netlatch), Rig::new(&bench.netlatch));
    for i in 0..20 {
        let from: Vec<String> = (0..5).map(|peer| format!("peer-{}", (i + peer) % 7)).collect();
        with.write(&format!("{i}.yaml"), &policy(&format!("p{i}"), "web", &from, &format!("{{port: {}}}", 8000 + i)));
    }
    let running: Vec<End> = (0..5).map(|i| End::new(i, &format!("app=peer-{i}"))).collect();
    for end in &running {
        with.stage("createRuntime", end);
    }
    let empty = without.path("config.yaml");
    let mut rows = Rows::new(
        "start",
        ["an empty static program", "no policies", "policies for others", "policies for it: 5 peers each"],
    );
    for _ in 0..bench.rounds {
        rows.add(0, timed(&mut Command::new(&bench.empty), &empty));
        for (row, rig, labels) in [(1, &without, "app=web"), (2, &with, "app=other"), (3, &with, "app=web")] {
            let end = bench.newcomer(labels);
            rows.add(row, rig.stage("createRuntime", end));
            rig.stage("poststop", end);
        }
    }
    rows.print(|_| 1);
    rows.keep(&bench.pictures);
}

/// Ten that follow whoever comes, and others that follow others.
fn fleet(count: usize) -> Vec<End> {
    let labels = |i: usize| if i < 10 { "app=watcher".to_owned() } else { format!("app=other-{}", i % 20) };
    (0..count).map(|i| End::new(i, &labels(i))).collect()
}

fn fleet_policies(rig: &Rig, port: u16) {
    let port = format!("{{port: {port}}}");
    rig.write("watcher.yaml", &policy("watcher", "watcher", &["front".into()], &port));
    rig.write("front.yaml", &policy("front", "front", &["watcher".into()], &port));
    for i in 0..20 {
        let from = [format!("other-{}", (i + 1) % 20), format!("other-{}", (i + 2) % 20)];
        rig.write(&format!("other-{i}.yaml"), &policy(&format!("other-{i}"), &format!("other-{i}"), &from, &port));
    }
}

/// A start among many.
fn among(bench: &mut Bench) {
    title("a container's stages; of those that run, 10 follow it (22 policy files)");
    let sizes = [0, 10, 100, 1000];
    let running = fleet(1000);
    let rigs = sizes.map(|size| {
        let rig = Rig::new(&bench.netlatch);
        fleet_policies(&rig, 80);
        for end in &running[..size] {
            rig.stage("createRuntime", end);
        }
        rig
    });
    let stages = ["createRuntime", "poststart", "poststop"];
    let names = stages.iter().flat_map(|stage| sizes.map(|size| format!("{stage} among {size}")));
    let mut rows = Rows::new("among", names);
    for round in 0..bench.rounds {
        for (column, (rig, size)) in rigs.iter().zip(sizes).enumerate() {
            let end = bench.newcomer("app=front");
            for (row, stage) in stages.iter().enumerate() {
                if *stage == "poststop" && size > 0 && round == 0 {
                    let [address, _] = addresses(end.number);
                    let rules = running[0].namespace.run("nft", &["list", "ruleset"], "");
                    assert!(rules.contains(&address), "who runs has let {address} in:\n{rules}");
                }
                rows.add(row * sizes.len() + column, rig.stage(stage, end));
            }
        }
    }
    rows.print(|row| row / sizes.len() * sizes.len() + 1);
    rows.keep(&bench.pictures);
    let roster = fs::metadata(rigs[3].path("run/roster")).map_or(0, |meta| meta.len());
    println!("the roster of 1000: {roster} bytes");
}

/// A start with these policies, against `nft -f` of the same rules and against everything but the kernel's part.
fn against_nft(bench: &mut Bench, name: &str, cases: &[(&str, &Rig, &str)]) {
    let rows = cases.iter().flat_map(|(name, ..)| {
        [format!("{name}: createRuntime"), format!("{name}: plan alone"), format!("{name}: nft -f of its rules")]
    });
    let mut rows = Rows::new(name, rows);
    let rules = cases[0].1.path("rules.nft");
    // Found here: what is measured runs without an environment.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let nft =
        std::env::split_paths(&path).map(|dir| dir.join("nft")).find(|nft| nft.exists()).expect("nft is installed");
    for _ in 0..bench.rounds {
        for (case, (_, rig, labels)) in cases.iter().enumerate() {
            let end = bench.newcomer(labels);
            rows.add(case * 3, rig.stage("createRuntime", end));
            rows.add(case * 3 + 1, rig.plan(end, &rules));
            rig.stage("poststop", end);
            let other = Namespace::new();
            rows.add(case * 3 + 2, other.within(|| timed(Command::new(&nft).arg("-f").arg(&rules), &rules)));
        }
    }
    rows.print(|row| row / 3 * 3 + 2);
    rows.keep(&bench.pictures);
}

fn cidrs(bench: &mut Bench) {
    title("10,000 address blocks of a NetworkPolicy");
    let block = |i: usize| {
        let net = std::net::Ipv4Addr::from_bits(0x0b00_0000 + 512 * i as u32);
        format!("{{ipBlock: {{cidr: {net}/{}}}}}", 24 + i % 9)
    };
    let (one, spread) = (Rig::new(&bench.netlatch), Rig::new(&bench.netlatch));
    let head = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: blocks, namespace: shop}\nspec:\n  \
                podSelector: {matchLabels: {app: web}}\n  policyTypes: [Egress]\n  egress:\n";
    let rules = |count: usize| {
        let each = 10_000 / count;
        (0..count).fold(head.to_owned(), |mut text, rule| {
            let blocks: Vec<String> = (0..each).map(|i| block(rule * each + i)).collect();
            let _ = writeln!(text, "  - to: [{}]\n    ports: [{{port: {}}}]", blocks.join(", "), 1000 + rule);
            text
        })
    };
    one.write("blocks.yaml", &rules(1));
    spread.write("blocks.yaml", &rules(100));
    against_nft(bench, "cidrs", &[("in one rule", &one, "app=web"), ("in 100 rules", &spread, "app=web")]);
}

fn policies(bench: &mut Bench) {
    title("500 policies, or 500 rules of the Admin tier, on one container; 500 pods elsewhere");
    let (network, admin) = (Rig::new(&bench.netlatch), Rig::new(&bench.netlatch));
    let pods = (0..500).fold(String::new(), |mut text, i| {
        let [v4, v6] = addresses(i);
        let _ = writeln!(
            text,
            "{{apiVersion: v1, kind: Pod, metadata: {{name: peer-{i}, namespace: shop, labels: {{app: peer-{i}}}}}, \
             status: {{podIPs: [{{ip: {v4}}}, {{ip: \"{v6}\"}}]}}}}\n---"
        );
        text
    });
    for i in 0..500 {
        let text = policy(&format!("p{i}"), "web", &[format!("peer-{i}")], &format!("{{port: {}}}", 1000 + i));
        network.write(&format!("{i}.yaml"), &text);
    }
    for i in 0..20 {
        let mut text = format!(
            "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: c{i}}}\nspec:\n  \
             tier: Admin\n  priority: {i}\n  subject: {{pods: {{namespaceSelector: {{}}, podSelector: {{matchLabels: \
             {{app: web}}}}}}}}\n  ingress:\n"
        );
        for rule in 0..25 {
            let (number, action) = (i * 25 + rule, if rule % 2 == 0 { "Accept" } else { "Deny" });
            let _ = writeln!(
                text,
                "  - action: {action}\n    from: [{{pods: {{namespaceSelector: {{}}, podSelector: {{matchLabels: {{app: \
                 peer-{number}}}}}}}}}]\n    protocols: [{{tcp: {{destinationPort: {{number: {}}}}}}}]",
                1000 + number
            );
        }
        admin.write(&format!("{i}.yaml"), &text);
    }
    for rig in [&network, &admin] {
        rig.write("pods.yaml", &pods);
    }
    against_nft(
        bench,
        "policies",
        &[
            ("500 NetworkPolicies", &network, "app=web"),
            ("500 rules of the Admin tier", &admin, "app=web"),
            ("500 NetworkPolicies for others", &network, "app=none"),
        ],
    );
}

/// Who reaches whom in a cluster.
fn reach(bench: &mut Bench) {
    let (pods, policies, probes) = (5_000, 500, 20_000);
    println!("\nreach: {pods} pods, {policies} policies, {probes} probes");
    let rig = Rig::new(&bench.netlatch);
    let mut text = String::new();
    for i in 0..50 {
        let _ = writeln!(
            text,
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: n{i}, labels: {{team: t{}}}}}}}\n---",
            i % 7
        );
    }
    for i in 0..pods {
        let [v4, v6] = addresses(i);
        let _ = writeln!(
            text,
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p{i}, namespace: n{}, labels: {{app: a{}, tier: t{}}}}}\nspec:\n  \
             containers:\n  - {{name: c, ports: [{{name: http, containerPort: {}}}]}}\nstatus: {{podIPs: [{{ip: {v4}}}, \
             {{ip: \"{v6}\"}}]}}\n---",
            i % 50,
            i % 40,
            i % 5,
            8000 + i % 3
        );
    }
    for i in 0..policies {
        let _ = writeln!(
            text,
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: q{i}, namespace: n{}}}\nspec:\n  \
             podSelector: {{matchLabels: {{app: a{}}}}}\n  ingress:\n  - from:\n    - {{podSelector: {{matchLabels: \
             {{tier: t{}}}}}}}\n    - namespaceSelector: {{matchLabels: {{team: t{}}}}}\n      podSelector: \
             {{matchExpressions: [{{key: app, operator: In, values: [a{}, a{}]}}]}}\n    - ipBlock: {{cidr: 10.1.{}.0/24, \
             except: [10.1.{}.8/29]}}\n    ports: [{{port: http}}, {{port: {}, endPort: {}}}]\n---",
            i % 50,
            i % 40,
            i % 5,
            i % 7,
            i % 40,
            (i + 1) % 40,
            i % 20,
            i % 20,
            9000 + i,
            9010 + i
        );
    }
    rig.write("cluster.yaml", &text);
    let mut lines = String::new();
    for i in 0..probes {
        let (from, to) = (i * 7 % pods, i * 13 % pods);
        let port = if i % 2 == 0 { 8000 + to % 3 } else { 9000 + i % 500 };
        let (from_ns, to_ns) = (from % 50, to % 50);
        let _ = writeln!(
            lines,
            "{{\"from\":\"n{from_ns}/p{from}\",\"to\":\"n{to_ns}/p{to}\",\"port\":{port},\"proto\":\"TCP\"}}"
        );
    }
    let (input, output) = (rig.path("probes"), rig.path("answers"));
    fs::write(&input, lines).expect("a file");
    let (mut times, mut peak) = (Vec::new(), 0);
    for _ in 0..bench.rounds.div_ceil(10) {
        let mut command = Command::new(&bench.netlatch);
        command.arg("reach").arg("-f").arg(rig.path("policies")).arg("--probes").arg(&input);
        let (took, resident) = watched(command.stdout(File::create(&output).expect("a file")));
        times.push(took);
        peak = peak.max(resident);
    }
    let answers = fs::read_to_string(&output).expect("answers");
    assert_eq!(answers.lines().count(), probes, "every probe is answered");
    let allowed = answers.lines().filter(|line| line.contains("\"allowed\":true")).count();
    let mut rows = Rows::new("reach", ["20,000 probes"]);
    times.iter().for_each(|time| rows.add(0, *time));
    rows.keep(&bench.pictures);
    println!(
        "{:.2} s (median of {}), {} MB at most; {allowed} allowed",
        median(&times).as_secs_f64(),
        times.len(),
        peak / 1024
    );
}

/// Runs it, and looks meanwhile at how much memory it has had resident, in kB: what came in the last millisecond escapes.
fn watched(command: &mut Command) -> (Duration, usize) {
    let begun = Instant::now();
    let mut child = command.stdin(Stdio::null()).spawn().expect("it starts");
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let ended = loop {
        if let Some(ended) = child.try_wait().expect("a child") {
            break ended;
        }
        let text = fs::read_to_string(Path::new(&status)).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0).max(peak);
        std::thread::sleep(Duration::from_millis(1));
    };
    assert!(ended.success(), "{command:?}: {ended}");
    (begun.elapsed(), peak)
}

/// New rules for containers that run.
fn reload(bench: &mut Bench) {
    title("reload of 100 containers (22 policy files)");
    let running = fleet(100);
    let rig = Rig::new(&bench.netlatch);
    fleet_policies(&rig, 80);
    for end in &running {
        rig.stage("createRuntime", end);
    }
    let nothing = rig.path("nothing");
    fs::write(&nothing, "").expect("a file");
    let mut rows =
        Rows::new("reload", ["nothing changed", "one policy changed (10 containers)", "every policy changed"]);
    for round in 0..bench.rounds.div_ceil(2) {
        let port = 80 + (round % 2) as u16;
        rows.add(0, timed(&mut rig.command("reload"), &nothing));
        rig.write("watcher.yaml", &policy("watcher", "watcher", &["front".into()], &format!("{{port: {}}}", port + 4)));
        rows.add(1, timed(&mut rig.command("reload"), &nothing));
        fleet_policies(&rig, port + 1);
        rows.add(2, timed(&mut rig.command("reload"), &nothing));
    }
    rows.print(|_| 0);
    rows.keep(&bench.pictures);
}
