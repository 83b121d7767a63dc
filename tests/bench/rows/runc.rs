//! What the hook adds to `runc run` of a program that does nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::start::{EGRESS, rules};
use super::{PATH, Row, Run, busy_host, grown, hook, host, in_turns, installed, of_the_shop, state, timed};
use crate::Bench;
use crate::config::isolated;
use crate::namespace::Namespace;
use crate::report::{Group, Sample, quantile};

const STAGES: [&str; 3] = ["createRuntime", "poststart", "poststop"];

/// A container that is run again and again.
struct Bundle {
    dir: TempDir,
    config: Value,
}

impl Bundle {
    fn new(bench: &Bench) -> Bundle {
        let dir = tempfile::tempdir().expect("a directory");
        for below in ["rootfs/proc", "rootfs/sys", "rootfs/dev"] {
            fs::create_dir_all(dir.path().join(below)).expect("a directory");
        }
        fs::copy(&bench.empty, dir.path().join("rootfs/empty")).expect("the program is copied");
        Bundle { dir, config: isolated(&["/empty"]) }
    }

    /// Adds a hook to a stage.
    fn hook(&mut self, stage: &str, program: &Path, arguments: &[&str]) {
        let arguments: Vec<&str> = [&[program.to_str().expect("UTF-8")], arguments].concat();
        self.config["hooks"][stage] = json!([{"path": program, "args": arguments}]);
    }

    /// Adds Netlatch to all stages, with a host's files.
    fn netlatch(&mut self, bench: &Bench, host: &Path) {
        let (program, config, run) = (absolute(&bench.netlatch), host.join("config.yaml"), host.join("run"));
        let [config, run] = [&config, &run].map(|path| path.to_str().expect("UTF-8"));
        for stage in STAGES {
            self.hook(stage, &program, &[stage, "--config", config, "--run-dir", run]);
        }
    }

    /// `runc run` of it, and its directory, which must stay.
    fn run(self, runc: &Path, root: &Path) -> impl Fn(&Namespace) -> Run + use<> {
        fs::write(self.dir.path().join("config.json"), self.config.to_string()).expect("a file");
        let (runc, root, dir) = (runc.to_owned(), root.to_owned(), self.dir);
        move |n| {
            let mut command = Command::new(&runc);
            command
                .arg("--root")
                .arg(&root)
                .arg("run")
                .arg("--bundle")
                .arg(dir.path())
                .arg(format!("bench-{}", n.pid()));
            let mut run = Run::new(command, false, &dir.path().join("config.json"));
            run.command.env("PATH", PATH);
            run
        }
    }
}

fn absolute(program: &Path) -> PathBuf {
    std::path::absolute(program).expect("a path")
}

pub(crate) fn measure(bench: &Bench) {
    let (Some(runc), root) = (installed("runc"), tempfile::tempdir().expect("a directory")) else { return };
    let (quiet, busy) = (host(), busy_host());
    let asked = json!({"io.netlatch.egress": EGRESS, "io.netlatch.ingress": "none"});
    let mut rows: Vec<Row<'_>> = Vec::new();
    let mut row = |name: &str, bundle: Bundle| {
        rows.push(Row { name: name.to_owned(), run: Box::new(bundle.run(&runc, root.path())) });
    };
    let plain = || Bundle::new(bench);
    let large = || {
        let mut bundle = Bundle::new(bench);
        grown(&mut bundle.config);
        bundle
    };

    row("no hook", plain());
    // What the noise of this run is.
    row("no hook, again", plain());
    let mut nothing = plain();
    STAGES.iter().for_each(|stage| nothing.hook(stage, &absolute(&bench.empty), &[]));
    row("three hooks that do nothing", nothing);
    let mut list = plain();
    list.config["annotations"] = asked.clone();
    list.netlatch(bench, quiet.path());
    row("netlatch, a list", list);

    // Rules are there throughout, as in `in_turns`: those of containers that run beside.
    let standing = [Namespace::new(), Namespace::new()];
    timed(hook(&bench.netlatch, quiet.path(), state(quiet.path(), &standing[0], &asked))).expect("a start");
    let any = quiet.path().join("any.json");
    let state = json!({"ociVersion": "1.0.2", "id": "any", "status": "creating", "pid": 2, "annotations": asked});
    fs::write(&any, state.to_string()).expect("a file");
    if let Some(nft) = installed("nft") {
        let (file, script) = (quiet.path().join("rules.nft"), quiet.path().join("hook.sh"));
        fs::write(&file, rules(bench, quiet.path(), &any)).expect("a file");
        let text = format!(
            "#!/bin/sh\npid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/')\n\
             exec /usr/bin/nsenter --net=/proc/$pid/ns/net {} -f {}\n",
            nft.display(),
            file.display()
        );
        fs::write(&script, text).expect("a file");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("a mode");
        standing[1].run("nft", &["-f", &file.display().to_string()], "");
        let mut by_hand = plain();
        by_hand.hook("createRuntime", &script, &[]);
        row("a hook of sh, nsenter and nft -f", by_hand);
    }
    let base = rows.len();
    let mut row = |name: &str, bundle: Bundle| {
        rows.push(Row { name: name.to_owned(), run: Box::new(bundle.run(&runc, root.path())) });
    };
    row("no hook, config.json of 20 KB", large());
    let mut policies = large();
    let asked = of_the_shop(asked);
    for (name, value) in asked.as_object().expect("an object") {
        policies.config["annotations"][name] = value.clone();
    }
    policies.netlatch(bench, busy.path());
    row("netlatch, 20 policy files, config.json of 20 KB", policies);

    let names = rows.iter().map(|row| row.name.clone());
    let mut group = Group::new("runc", "runc run of a program that does nothing", 0, names);
    (base..rows.len()).for_each(|row| group.against(row, base));
    in_turns(bench, &mut group, &rows, bench.rounds * 2);
    group.publish(&bench.pictures);
    println!("| added to runc run | % | 10 % | 90 % | % of its work |\n|---|--:|--:|--:|--:|");
    for (number, row) in rows.iter().enumerate().filter(|(number, _)| !group.has_failed(*number)) {
        let added = |of: fn(&Sample) -> f64, part| (quantile(&group.ratios(number, of), part) - 1.0) * 100.0;
        let [middle, low, late] = [0.5, 0.1, 0.9].map(|part| added(|sample| sample.us, part));
        let work = added(|sample| sample.own, 0.5);
        println!("| {} | {middle:.1} | {low:.1} | {late:.1} | {work:.1} |", row.name);
    }
    println!();
    drop(standing);
    delete_all(&runc, root.path());
}

/// What a `runc run` that failed left.
fn delete_all(runc: &Path, root: &Path) {
    let runc = || {
        let mut command = Command::new(runc);
        command.arg("--root").arg(root);
        command
    };
    let left = runc().args(["list", "--quiet"]).output().map(|output| output.stdout).unwrap_or_default();
    for id in String::from_utf8_lossy(&left).split_whitespace() {
        // Whatever it says, the next is asked for too.
        let _ = runc().args(["delete", "--force", id]).status();
    }
}
