//! Reachability tables of the Kubernetes project and others against real packets: a namespace for each pod, the hook run
//! for each pod in random order, and every cell of the table a connect.
//!
//! The tables are read from `../shared/cases` (`NETLATCH_CASES`: elsewhere). `NETLATCH_SEED` repeats an order and a
//! choice of cases, `NETLATCH_ONLY` runs the cases whose file has this in its name.

mod support;

use std::collections::BTreeMap;

use support::case;
use support::dice::Dice;
use support::play;

/// How many cases of each suite are drawn beside those that always run.
const DRAWN: usize = 6;

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
    play::judge(dice, groups.len(), |number| groups[number].iter().map(|file| case::read(file)).collect());
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
