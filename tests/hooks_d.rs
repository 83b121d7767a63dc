//! The files of hooks.d/: what podman and CRI-O read. A mistake in one keeps every container of the host from starting,
//! or, worse, is passed over in silence.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use netlatch::cli::hook::Stage;
use netlatch::docs::guide;
use netlatch::kernel::process::DEADLINE;
use netlatch::oci::Requests;
use regex::Regex;
use serde_json::{Value, json};

/// The two sets, of which an admin installs one.
const SETS: [&str; 2] = ["annotated", "always"];
const STAGES: [Stage; 3] = [Stage::CreateRuntime, Stage::Poststart, Stage::Poststop];

/// The annotated set lies in hooks.d itself, the other one beside it, so that pointing an engine at the folder takes one.
fn folder(set: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("hooks.d");
    if set == "annotated" { folder } else { folder.join(set) }
}

/// A set's files by name.
fn files(set: &str) -> BTreeMap<String, Value> {
    let entries = fs::read_dir(folder(set)).expect("the folder is there").map(|entry| entry.expect("an entry").path());
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a readable file");
        let value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        (path.file_name().expect("a name").to_string_lossy().into_owned(), value)
    };
    entries.filter(|path| path.is_file()).map(read).collect()
}

fn every_file() -> impl Iterator<Item = (String, Value)> {
    SETS.into_iter().flat_map(|set| files(set).into_iter().map(move |(name, file)| (format!("{set}/{name}"), file)))
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn each_set_has_one_file_a_stage_and_says_its_name_as_the_first_argument() {
    for set in SETS {
        let files = files(set);
        let names: Vec<String> = STAGES.iter().map(|stage| format!("10-netlatch-{}.json", stage.name())).collect();
        assert_eq!(files.keys().collect::<Vec<_>>(), names.iter().collect::<Vec<_>>(), "{set}");
        for stage in STAGES {
            let file = &files[&format!("10-netlatch-{}.json", stage.name())];
            // Arguments belong to the file and not to the stage, so a file can serve one stage only.
            assert_eq!(file["stages"], json!([stage.name()]), "{set}: exact spelling, or no container starts");
            assert_eq!(
                file["hook"]["args"],
                json!(["netlatch", stage.name()]),
                "{set}: argv, the program's name first"
            );
        }
    }
}

#[test]
fn every_file_keeps_to_schema_1_0_0() {
    // container-libs, common/pkg/hooks/docs/oci-hooks.5.md; an unknown key there is ignored, here it is a typo.
    for (name, file) in every_file() {
        assert_eq!(file["version"], "1.0.0", "{name}");
        assert_eq!(keys(&file), ["hook", "stages", "version", "when"], "{name}");
        assert!(keys(&file["hook"]).iter().all(|key| ["args", "path", "timeout"].contains(key)), "{name}");
        assert_eq!(keys(&file["when"]).len(), 1, "{name}: conditions are joined by and");
    }
}

#[test]
fn the_binary_is_where_every_engine_looks() {
    // An absolute path, for crun would search PATH; below /usr/libexec/oci/hooks.d, for the NRI plugin mounts only that.
    for (name, file) in every_file() {
        assert_eq!(file["hook"]["path"], "/usr/libexec/oci/hooks.d/netlatch", "{name}");
    }
}

#[test]
fn timeouts_are_longer_than_our_own_deadline_and_poststart_has_none() {
    for (name, file) in every_file() {
        let timeout = file["hook"].get("timeout").map(|timeout| timeout.as_u64().expect("whole seconds"));
        if name.contains("poststart") {
            // crun 1.8.1 waits a timeout out, and fails the hook, where the container ends at the same moment.
            assert_eq!(timeout, None, "{name}");
        } else {
            // runc takes 0 for "at once". Ours must end first: it says why.
            assert!(timeout.is_some_and(|timeout| timeout > DEADLINE.as_secs()), "{name}: {timeout:?}");
        }
    }
}

#[test]
fn one_set_is_for_annotated_containers_and_the_other_for_all() {
    for file in files("always").values() {
        assert_eq!(file["when"], json!({"always": true}));
    }
    for file in files("annotated").values() {
        assert_eq!(keys(&file["when"]), ["annotations"]);
        let annotations = file["when"]["annotations"].as_object().expect("an object");
        assert_eq!(annotations.len(), 1);
        for (key, value) in annotations {
            // Go's expressions are not anchored; an open end would match another's annotation.
            assert!(key.starts_with('^') && key.ends_with('$'), "{key}");
            let value = Regex::new(value.as_str().expect("a string")).expect("an expression");
            assert!(["", "none", "10.0.0.0/8\n@internet:443"].iter().all(|text| value.is_match(text)), "{value}");
        }
    }
}

#[test]
fn the_guide_shows_the_same_hooks_for_runtimes_without_such_a_folder() {
    let block = guide("engines")
        .unwrap()
        .text
        .split("```json\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("an example");
    let config: Value = serde_json::from_str(block).expect("JSON");
    assert_eq!(keys(&config["hooks"]).len(), STAGES.len());
    for stage in STAGES {
        let file = &files("always")[&format!("10-netlatch-{}.json", stage.name())];
        assert_eq!(config["hooks"][stage.name()], json!([file["hook"]]), "{}", stage.name());
    }
}

/// The keys that the annotated set's files answer to. Go's RE2 and Rust's regex agree on what is used here.
fn key_expression() -> Regex {
    let files = files("annotated");
    let mut texts: Vec<&String> =
        files.values().flat_map(|file| file["when"]["annotations"].as_object().expect("an object").keys()).collect();
    texts.dedup();
    assert_eq!(texts.len(), 1, "all stages are called for the same containers");
    Regex::new(texts[0]).expect("an expression")
}

#[test]
fn the_hook_is_called_for_every_key_that_it_takes_for_its_own() {
    let expression = key_expression();
    let keys = [
        ("io.netlatch.egress", true),
        ("io.netlatch.sysctl.net.ipv4.tcp_rmem", true),
        ("io.netlatch.", true),
        // Meant for us and misspelled: the container must not start, so the hook must be called.
        ("io.netlatch.egres", true),
        ("io.netlatch.e\ngress", true),
        ("io.netlatch/egress", true),
        ("IO.Netlatch.egress", true),
        ("io.netlatch", true),
        ("io.netlatch_egress", true),
        // Another's.
        ("io.netlatches.egress", false),
        ("io.netlatch-ui.egress", false),
        ("com.io.netlatch.egress", false),
        ("ioXnetlatch.egress", false),
        ("io.podman.annotations.autoremove", false),
        ("", false),
    ];
    for (key, ours) in keys {
        let parsed = Requests::parse(&BTreeMap::from([(key.to_owned(), "none".to_owned())]));
        let takes = parsed.is_err() || parsed.is_ok_and(|requests| !requests.given.is_empty());
        assert_eq!(takes, ours, "the hook, of {key:?}");
        assert_eq!(expression.is_match(key), ours, "hooks.d, of {key:?}");
    }
}
