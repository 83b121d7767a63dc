//! Reachability as others wrote it down: the Kubernetes project's own end-to-end and conformance tests, and those of
//! programs that read policies. Each case is turned into manifests and probes and put to `netlatch reach`, the binary.
//!
//! The data is not part of the project: it is read in `../shared/cases`, or where `NETLATCH_CASES` says, and its README.md
//! tells what the fields mean. Without it every test here is reported as ignored; with `REQUIRE_CASES=1` that is a failure.
//! This file has a `main` of its own, because libtest decides what to ignore when it compiles.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::thread;

use serde_json::{Value, json};
use support::container::binary;
use support::drawn::{arrows, differences, matrix};

/// Every suite with the cases and expectations that its README.md counts. A file that is gone must not go unseen.
const SUITES: [(&str, usize, usize); 8] = [
    ("cyclonus", 131, 62_565),
    ("cyclonus-ipv6", 19, 9_234),
    ("k8s-e2e", 58, 711),
    ("k8s-website", 2, 24),
    ("np-guard", 44, 34_966),
    ("npa-conformance", 61, 196),
    ("recipes", 6, 15),
    ("validation", 28, 0),
];

/// Of so many answers in the suite k8s-e2e one is explained as well: each explanation is a process of its own.
const EXPLAINED: usize = 5;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--list") {
        SUITES.iter().for_each(|(suite, ..)| println!("{suite}: test"));
        return ExitCode::SUCCESS;
    }
    let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |suite: &str| filters.is_empty() || filters.iter().any(|filter| suite.contains(filter.as_str()));
    let folder = std::env::var_os("NETLATCH_CASES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/cases"), PathBuf::from);
    let there = folder.join("index.json").is_file();
    let (mut passed, mut failed, mut ignored) = (0, 0, 0);
    for (suite, cases, expectations) in SUITES.into_iter().filter(|(suite, ..)| wanted(suite)) {
        if !there && std::env::var_os("REQUIRE_CASES").is_none() {
            println!("test {suite} ... ignored, not run: there is no {}", folder.display());
            ignored += 1;
            continue;
        }
        let seen = Suite { folder: folder.clone(), name: suite }.run();
        let counts = (seen.cases, seen.expectations);
        let good = seen.wrong.is_empty() && counts == (cases, expectations);
        println!(
            "test {suite} ... {} ({} cases, {} expectations)",
            if good { "ok" } else { "FAILED" },
            counts.0,
            counts.1
        );
        seen.wrong.iter().take(20).for_each(|wrong| println!("    {wrong}"));
        if !good {
            println!("    {} wrong; expected {cases} cases, {expectations} expectations", seen.wrong.len());
        }
        if good { passed += 1 } else { failed += 1 }
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; 0 filtered out\n"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Suite {
    folder: PathBuf,
    name: &'static str,
}

#[derive(Default)]
struct Seen {
    cases: usize,
    expectations: usize,
    wrong: Vec<String>,
}

impl Suite {
    fn run(&self) -> Seen {
        let mut files: Vec<PathBuf> = match fs::read_dir(self.folder.join("cases").join(self.name)) {
            Ok(entries) => entries.map(|entry| entry.expect("an entry").path()).collect(),
            Err(_) => Vec::new(),
        };
        files.sort();
        let half = files.len().div_ceil(2).max(1);
        thread::scope(|scope| {
            let workers: Vec<_> = files.chunks(half).map(|files| scope.spawn(|| self.run_files(files))).collect();
            workers.into_iter().fold(Seen::default(), |mut all, worker| {
                let seen = worker.join().expect("a worker ends");
                all.cases += seen.cases;
                all.expectations += seen.expectations;
                all.wrong.extend(seen.wrong);
                all
            })
        })
    }

    fn run_files(&self, files: &[PathBuf]) -> Seen {
        let mut seen = Seen::default();
        for file in files {
            let case: Value = serde_json::from_slice(&fs::read(file).expect("a case")).expect("JSON");
            seen.cases += 1;
            match case["valid"].as_bool() {
                Some(valid) => seen.wrong.extend(self.validation(&case, valid)),
                None => {
                    seen.expectations += list(&case["expect"]).len();
                    seen.wrong.extend(self.reachability(&case));
                }
            }
        }
        seen
    }

    /// `netlatch reach` with the case's policies, where they are.
    fn reach(&self, case: &Value, more: &[&Path]) -> Command {
        let mut command = Command::new(binary());
        command.env_clear().arg("reach").arg("-f").args(more);
        command.args(list(&case["policies"]).iter().map(|path| self.folder.join(text(path))));
        command
    }

    /// A manifest that the API server takes or refuses.
    fn validation(&self, case: &Value, valid: bool) -> Option<String> {
        let output = run(self.reach(case, &[]).args(["--probes", "-"]), b"");
        let right = output.status.code() == Some(if valid { 0 } else { 16 });
        (!right).then(|| format!("{}: valid is {valid}: {}", case["id"], stderr(&output)))
    }

    fn reachability(&self, case: &Value) -> Vec<String> {
        let dir = tempfile::tempdir().expect("a directory");
        let inventory = dir.path().join("inventory.json");
        fs::write(&inventory, inventory_of(case).to_string()).expect("a file");
        let external: BTreeMap<&str, &Value> =
            list(&case["external"]).iter().map(|external| (text(&external["name"]), &external["ip"])).collect();
        let expectations = list(&case["expect"]);
        let mut probes = String::new();
        for expected in expectations {
            let end = |at: &str| external.get(text(&expected[at])).copied().unwrap_or(&expected[at]).clone();
            let probe =
                json!({"from": end("from"), "to": end("to"), "port": expected["port"], "proto": expected["proto"]});
            probes += &format!("{probe}\n");
        }
        let output = run(self.reach(case, &[&inventory]).args(["--probes", "-"]), probes.as_bytes());
        if output.status.code() != Some(0) {
            return vec![format!("{}: {}", case["id"], stderr(&output))];
        }
        let answers = String::from_utf8(output.stdout).expect("UTF-8");
        let answers: Vec<Value> = answers.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        if answers.len() != expectations.len() {
            return vec![format!("{}: {} answers to {} probes", case["id"], answers.len(), expectations.len())];
        }
        let judged = answers.iter().zip(expectations);
        let mut wrong: Vec<String> =
            judged.filter_map(|(answer, expected)| wrong(&case["id"], answer, expected)).collect();
        if self.name == "k8s-e2e" {
            let some = answers.iter().step_by(EXPLAINED);
            wrong.extend(some.filter_map(|answer| self.explained(case, &inventory, answer)));
        }
        wrong.extend(self.drawn(case, &inventory));
        wrong
    }

    /// What the pictures say otherwise than the tables.
    fn drawn(&self, case: &Value, inventory: &Path) -> Vec<String> {
        let told = |format: &str| {
            let output = run(self.reach(case, &[inventory]).args(["--format", format]), b"");
            String::from_utf8(output.stdout).expect("UTF-8")
        };
        let tables: Value = serde_json::from_str(&told("json")).expect("JSON");
        let drawn = [matrix(&told("svg")), arrows(&told("dot"))];
        let wrong = drawn.iter().flat_map(|drawn| differences(&tables, drawn));
        wrong.map(|wrong| format!("{}: drawn otherwise: {wrong}", case["id"])).collect()
    }

    /// What `netlatch explain` says otherwise than `reach` did, or its ruleset otherwise than the specification.
    fn explained(&self, case: &Value, inventory: &Path, answer: &Value) -> Option<String> {
        let mut command = Command::new(binary());
        command.env_clear().args(["explain", "-o", "json", "-f"]).arg(inventory);
        command.args(list(&case["policies"]).iter().map(|path| self.folder.join(text(path))));
        command.args(["--from", text(&answer["from"]), "--to", text(&answer["to"])]);
        command.args(["--protocol", text(&answer["proto"]), "--port", &answer["port"].to_string()]);
        let output = run(&mut command, b"");
        let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let same = ["allowed", "egress", "ingress"].into_iter().all(|key| said[key] == answer[key]);
        let good = output.status.code() == Some(0) && same && said["agrees"] == true;
        (!good).then(|| format!("{}: reach: {answer}, explain: {said} {}", case["id"], stderr(&output)))
    }
}

/// What an answer says otherwise than expected.
fn wrong(id: &Value, answer: &Value, expected: &Value) -> Option<String> {
    // What upstream does not define, Kubernetes does: a pod always reaches itself.
    let itself = expected["self"] == true;
    let differs = ["allowed", "egress", "ingress"].into_iter().any(|key| match &expected[key] {
        _ if itself => answer[key] != true,
        Value::Null => false,
        half => answer[key] != *half,
    });
    let told = answer["why"].as_str().is_some_and(|why| !why.is_empty());
    let consistent = answer["allowed"] == (answer["egress"] == true && answer["ingress"] == true);
    (differs || !told || !consistent).then(|| format!("{id}: expected {expected}, found {answer}"))
}

/// A case's pods, namespaces and nodes as manifests.
fn inventory_of(case: &Value) -> Value {
    let object = |version: &str, kind: &str, metadata: Value, spec: Value, status: Value| json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec, "status": status});
    let mut items = Vec::new();
    for namespace in list(&case["namespaces"]) {
        let metadata = json!({"name": namespace["name"], "labels": namespace["labels"]});
        items.push(object("v1", "Namespace", metadata, Value::Null, Value::Null));
    }
    for node in list(&case["nodes"]) {
        let metadata = json!({"name": node["name"], "labels": node["labels"]});
        let addresses: Vec<Value> =
            list(&node["ips"]).iter().map(|ip| json!({"type": "InternalIP", "address": ip})).collect();
        items.push(object("v1", "Node", metadata, Value::Null, json!({"addresses": addresses})));
    }
    for pod in list(&case["pods"]) {
        let metadata = json!({"namespace": pod["ns"], "name": pod["name"], "labels": pod["labels"]});
        let ports: Vec<Value> = list(&pod["ports"])
            .iter()
            .map(|port| {
                let mut written = json!({"containerPort": port["port"], "protocol": port["proto"]});
                if !port["name"].is_null() {
                    written["name"] = port["name"].clone();
                }
                written
            })
            .collect();
        let spec = json!({"containers": [{"name": "c", "ports": ports}], "hostNetwork": pod["host_network"] == true});
        let status = json!({"phase": "Running", "podIP": pod["ip"], "podIPs": [{"ip": pod["ip"]}]});
        items.push(object("v1", "Pod", metadata, spec, status));
    }
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn run(command: &mut Command, input: &[u8]) -> Output {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    thread::scope(|scope| {
        // A program that refuses its manifests reads no probes.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().expect("the program ends")
    })
}
