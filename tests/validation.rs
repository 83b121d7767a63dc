//! The validation cases, and every policy file of the others: documents that others wrote, in `../shared/cases` or where
//! NETLATCH_CASES says. Ignored as long as nobody asks for them, since they stay outside the project:
//!
//!     cargo test --test validation -- --include-ignored

use std::fs;
use std::path::{Path, PathBuf};

use netlatch::policy::parse::{Collector, Outcome};
use serde_json::Value;

fn cases() -> PathBuf {
    let folder = std::env::var_os("NETLATCH_CASES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/cases"), PathBuf::from);
    assert!(folder.is_dir(), "not run: there is no {}", folder.display());
    folder
}

/// Every file below `folder`, by name.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.append(&mut files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn case(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a case")).expect("JSON")
}

fn policies(case: &Value) -> impl Iterator<Item = &str> {
    case["policies"].as_array().expect("policies").iter().map(|path| path.as_str().expect("a path"))
}

fn read<'a>(folder: &Path, paths: impl Iterator<Item = &'a str>) -> Outcome {
    let mut collector = Collector::new();
    for path in paths {
        collector.read(path, &fs::read(folder.join(path)).expect("a policy"));
    }
    collector.finish()
}

/// Whether `at` is the field, or one of its parts: a server names `matchLabels` where we name the label.
fn is_at(at: &str, field: &str) -> bool {
    at.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[test]
#[ignore = "needs ../shared/cases"]
fn validation_cases_are_accepted_and_refused_as_the_api_server_does() {
    let folder = cases();
    let mut wrong = Vec::new();
    let paths = files(&folder.join("cases/validation"));
    for path in &paths {
        let case = case(path);
        let outcome = read(&folder, policies(&case));
        let (valid, field) = (case["valid"].as_bool().expect("valid"), case["field"].as_str().expect("field"));
        let errors = &outcome.errors;
        let good = if valid {
            outcome.manifests.as_ref().is_some_and(|manifests| manifests.policies.network.len() == 1)
        } else {
            errors.iter().any(|error| is_at(&error.at, field) && error.position.is_some())
        };
        if !good {
            wrong.push(format!("{} ({}): wanted {field:?}, got {errors:?}", case["id"], case["title"]));
        }
    }
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), paths.len(), wrong.join("\n"));
    assert!(paths.len() >= 28, "only {} cases", paths.len());
}

#[test]
#[ignore = "needs ../shared/cases"]
fn the_policies_of_every_other_case_are_accepted() {
    let folder = cases();
    let mut wrong = Vec::new();
    let mut count = 0;
    for path in
        files(&folder.join("cases")).iter().filter(|path| !path.parent().is_some_and(|dir| dir.ends_with("validation")))
    {
        let case = case(path);
        count += 1;
        let outcome = read(&folder, policies(&case));
        // Whatever else stands in an upstream file, such as the Deployments of a tutorial, is not ours to follow.
        if let Some(error) = outcome.errors.first() {
            wrong.push(format!("{}: {error}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{} of {count} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 300, "only {count} cases");
}
