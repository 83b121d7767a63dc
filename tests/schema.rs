//! The schemas themselves: valid by their own, strict, described, and the same in the guide. That parsers agree with them is
//! tested beside them, and what commands print is held against them wherever a test sees it printed.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use netlatch::schema::{OUTPUTS, Schema, of_output};
use serde_json::{Map, Value, json};
use support::container::binary;
use support::schema::{Judge, described};

fn run(args: &[&str], dir: &Path, stdin: &str) -> Output {
    let mut command = Command::new(binary());
    let pipes = command.args(args).env_clear().current_dir(dir);
    let mut child =
        pipes.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("netlatch runs");
    child.stdin.take().expect("a pipe").write_all(stdin.as_bytes()).expect("it is read");
    child.wait_with_output().expect("it ends")
}

fn printed(output: &Output) -> String {
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

#[test]
fn the_program_prints_each_schema_and_each_is_one() {
    let dir = tempfile::tempdir().expect("a folder");
    for schema in Schema::ALL {
        let text = printed(&run(&["schema", schema.name()], dir.path(), ""));
        assert_eq!(text, schema.text());
        let value: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["$schema"], "https://json-schema.org/draft/2020-12/schema");
        Judge::of(&text);
    }
    for name in OUTPUTS {
        let text = printed(&run(&["schema", "output", name], dir.path(), ""));
        assert_eq!(Some(&text), of_output(name).as_ref());
        Judge::of(&text);
    }
    // The whole is one of these, and nothing else.
    let whole: Value = serde_json::from_str(Schema::Output.text()).expect("JSON");
    let named: Vec<Value> = OUTPUTS.iter().map(|name| json!({"$ref": format!("#/$defs/{name}")})).collect();
    assert_eq!(whole["anyOf"], json!(named));
    for args in [&["schema"][..], &["schema", "x"], &["schema", "output", "x"], &["schema", "config", "plan"]] {
        assert_eq!(run(args, dir.path(), "").status.code(), Some(10), "{args:?}");
    }
}

/// Every schema within a schema, with its place.
fn each<'v>(value: &'v Value, place: &str, found: &mut Vec<(String, &'v Map<String, Value>)>) {
    match value {
        Value::Object(members) => {
            found.push((place.to_owned(), members));
            members.iter().for_each(|(key, value)| each(value, &format!("{place}/{key}"), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| each(item, &format!("{place}/{index}"), found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_key_is_described_and_no_other_is_taken() {
    // A state and a container may have more, by the specification; a probe keeps what it had.
    let open = ["state", "annotations", "output/$defs/reach-probes"];
    for schema in Schema::ALL {
        let value: Value = serde_json::from_str(schema.text()).expect("JSON");
        let mut found = Vec::new();
        each(&value, schema.name(), &mut found);
        for (place, members) in &found {
            let is_if = place.ends_with("/if") || place.ends_with("/then");
            let Some(Value::Object(properties)) = members.get("properties").filter(|_| !is_if) else { continue };
            for (key, property) in properties {
                let said = property["description"].as_str().unwrap_or_default();
                assert!(said.ends_with('.') && said.len() > 5, "{place}: {key} is not described");
            }
            let strict = members.get("additionalProperties") == Some(&json!(false));
            assert_eq!(strict, !open.contains(&place.as_str()), "{place}");
        }
        // An object is described by its keys, or by what each key holds.
        for (place, members) in &found {
            let is_object = members.get("type").is_some_and(|of| *of == "object" || *of == json!(["object", "null"]));
            let described = members.contains_key("properties") || members.contains_key("additionalProperties");
            assert!(!is_object || described, "{place}");
        }
    }
}

const WORLD: &str = "
{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: web}, status: {podIPs: [{ip: 10.1.0.1}]}}
---
{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: db, labels: {app: db}},
  spec: {containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}, status: {podIPs: [{ip: 10.1.0.2}]}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: db}
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{ipBlock: {cidr: 10.9.0.0/16}}], ports: [{port: 80}]}], egress: []}
";

/// What the commands print that need no kernel, by name.
fn outputs() -> Vec<(&'static str, Value)> {
    let dir = tempfile::tempdir().expect("a folder");
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::create_dir(path("policies")).expect("a folder");
    fs::create_dir(path("root")).expect("a folder");
    fs::write(path("world.yaml"), WORLD).expect("a file");
    fs::copy(path("world.yaml"), path("policies/world.yaml")).expect("a copy");
    fs::write(path("bad.yaml"), "egres: none\nmode: audit\n").expect("a file");
    let config = format!(
        "policies: {}\negress: ['@internet', 169.254.169.254]\ndevconf: leave\nmode: audit\n",
        path("policies")
    );
    fs::write(path("config.yaml"), config).expect("a file");
    let bundle = json!({"mounts": [{"destination": "/x", "type": "bind", "source": "/run/dbus/system_bus_socket"}],
                        "linux": {"namespaces": [{"type": "network"}, {"type": "pid"}]}});
    fs::write(path("empty.yaml"), "policies: /nonexistent\n").expect("a file");
    fs::write(path("other.json"), r#"{"ociVersion": "1", "id": "c"}"#).expect("a file");
    fs::write(path("config.json"), bundle.to_string()).expect("a file");
    let state = json!({"ociVersion": "1.0.2", "id": "c", "bundle": dir.path(), "annotations": {
        "io.netlatch.ports": "http=80", "io.netlatch.labels": "app=db", "io.netlatch.namespace": "shop",
        "io.kubernetes.cri.sandbox-namespace": "shop", "io.kubernetes.cri.sandbox-name": "db",
        "io.netlatch.sysctl.net.ipv4.tcp_fin_timeout": "30", "io.netlatch.ingress": "!10.0.0.1, *:80"}});
    fs::write(path("state.json"), state.to_string()).expect("a file");
    let probe = r#"{"from":"shop/web","to":"shop/db","proto":"ICMP","id":7}"#;
    let asked: [(&str, &str); 13] = [
        ("check", "check --json bad.yaml gone.yaml"),
        ("check", "check --json world.yaml"),
        ("plan", "plan --json --state state.json --config config.yaml"),
        ("plan", "plan --format json --state other.json --config empty.yaml"),
        ("reach", "reach --json -f world.yaml"),
        ("reach-probes", "reach -f world.yaml --probes -"),
        ("explain", "explain --json -f world.yaml --from shop/web --to shop/db --port 80"),
        ("explain", "explain --output json -f world.yaml --from 10.9.0.1 --to shop/db --protocol icmp"),
        ("explain", "explain --json --state state.json --config config.yaml --to 8.8.8.8 --port 80"),
        ("doctor", "doctor --json --root root"),
        ("last-error", "last-error --json --run-dir run"),
        ("refused", "createRuntime --run-dir run --config config.yaml"),
        ("last-error", "last-error --json --run-dir run"),
    ];
    let mut outputs = Vec::new();
    for (name, line) in asked {
        let args: Vec<&str> = line.split(' ').collect();
        let stdin = if name == "refused" { r#"{"ociVersion":"1","id":"c","pid":1}"# } else { probe };
        let output = run(&args, dir.path(), if name == "reach-probes" || name == "refused" { stdin } else { "" });
        if name != "refused" {
            outputs.push((name, described(name, &printed(&output))));
        }
    }
    outputs
}

/// The same value with one more key in one of its objects, for each of them.
fn with_another_key(value: &Value) -> Vec<Value> {
    match value {
        Value::Object(members) => {
            let mut more = members.clone();
            more.insert("another".to_owned(), json!({}));
            let inside = members.iter().flat_map(|(key, value)| {
                with_another_key(value).into_iter().map(move |changed| (key.clone(), changed))
            });
            let changed = inside.map(|(key, changed)| {
                let mut members = members.clone();
                members.insert(key, changed);
                Value::Object(members)
            });
            std::iter::once(Value::Object(more)).chain(changed).collect()
        }
        Value::Array(items) => {
            let inside = items.iter().enumerate().flat_map(|(index, item)| {
                with_another_key(item).into_iter().map(move |changed| {
                    let mut items = items.clone();
                    items[index] = changed;
                    Value::Array(items)
                })
            });
            inside.collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

#[test]
fn a_key_that_nobody_described_is_found() {
    let mut tried = 0;
    for (name, value) in outputs().iter().filter(|(name, _)| *name != "reach-probes") {
        let judge = Judge::of(&of_output(name).expect("a schema"));
        for changed in with_another_key(value) {
            assert!(!judge.takes(&changed), "{name}: {changed:#}");
            tried += 1;
        }
    }
    assert!(tried > 60, "{tried}");
}

#[test]
fn what_a_command_says_is_there_and_counted() {
    let outputs: BTreeMap<_, _> = outputs().into_iter().rev().collect();
    let check = &outputs["check"];
    assert_eq!((&check["errors"], &check["warnings"]), (&json!(2), &json!(1)), "{check:#}");
    let finding = &check["findings"][0];
    assert_eq!(json!([finding["file"], finding["line"], finding["column"]]), json!(["bad.yaml", 1, 1]));
    assert!(finding["message"].as_str().is_some_and(|said| said.contains("egres")), "{finding}");
    assert_eq!(outputs["last-error"], Value::Null, "there was nothing yet");
    assert_eq!(outputs["plan"]["identity"]["pod"]["value"], "db");
}

// --- The guide --------------------------------------------------------------------------------------------------------

fn guide() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/docs/output.md")
}

/// A row for each key: its path, its type, what it says.
fn rows(schema: &Value, definitions: &Value, path: &str, rows: &mut Vec<(String, String, String)>) {
    let Some(schema) = resolved(schema, definitions) else { return };
    for alternative in ["oneOf", "anyOf"] {
        for one in schema.get(alternative).and_then(Value::as_array).into_iter().flatten() {
            self::rows(one, definitions, path, rows);
        }
    }
    for (key, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let said = property["description"].as_str().expect("a description").to_owned();
        match rows.iter_mut().find(|row| row.0 == path) {
            Some(row) if row.2.contains(&said) => {}
            Some(row) => row.2 = format!("{} {said}", row.2),
            None => rows.push((path.clone(), kind(property, definitions), said)),
        }
        self::rows(property, definitions, &path, rows);
    }
    if let Some(items) = schema.get("items") {
        self::rows(items, definitions, &format!("{path}[]"), rows);
    }
}

fn resolved<'v>(schema: &'v Value, definitions: &'v Value) -> Option<&'v Value> {
    match schema.get("$ref").and_then(Value::as_str) {
        Some(reference) => definitions.get(reference.strip_prefix("#/$defs/")?),
        None => Some(schema),
    }
}

fn kind(schema: &Value, definitions: &Value) -> String {
    let schema = resolved(schema, definitions).expect("a definition");
    let word = |of: &Value| match of.as_str() {
        Some("integer") => "number",
        Some("boolean") => "boolean",
        Some("array") => "list",
        Some("object") => "object",
        Some("null") => "null",
        _ => "text",
    };
    let of_value = |value: &Value| match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    };
    let mut words: Vec<String> = Vec::new();
    match (schema.get("type"), schema.get("enum"), schema.get("const")) {
        (Some(Value::Array(types)), _, _) => words.extend(types.iter().map(|one| word(one).to_owned())),
        (Some(one), _, _) => words.push(word(one).to_owned()),
        (None, Some(Value::Array(values)), _) => words.extend(values.iter().map(|value| of_value(value).to_owned())),
        (None, _, Some(value)) => words.push(of_value(value).to_owned()),
        (None, _, None) => {
            let alternatives = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
            words.extend(alternatives.map(|one| kind(one, definitions)));
        }
    }
    words.dedup();
    words.join(" or ")
}

/// What stands in the guide below the name.
fn section(name: &str) -> String {
    let schema: Value = serde_json::from_str(&of_output(name).expect("a schema")).expect("JSON");
    let mut found = Vec::new();
    rows(&schema, &schema["$defs"], "", &mut found);
    let row = |(path, kind, said): &(String, String, String)| format!("| `{path}` | {kind} | {said} |\n");
    let (title, said) = (&schema["title"], schema["description"].as_str().map(|said| format!(". {said}")));
    let head = format!("`{}`{}", title.as_str().expect("a title"), said.unwrap_or_default());
    let table: String = found.iter().map(row).collect();
    format!("{head}\n\n| key | type | what it says |\n|---|---|---|\n{table}")
}

/// `NETLATCH_BLESS=1 cargo test --test schema` writes the tables.
#[test]
fn the_guide_has_every_key_as_the_schemas_do() {
    let mut text = fs::read_to_string(guide()).expect("the guide");
    for name in OUTPUTS {
        let head = format!("\n### {name}\n\n");
        let start = text.find(&head).unwrap_or_else(|| panic!("the guide has no section {name}")) + head.len();
        let end = text[start..].find("\n### ").map_or(text.len(), |at| start + at);
        let wanted = section(name);
        if std::env::var_os("NETLATCH_BLESS").is_some() {
            text.replace_range(start..end, &wanted);
        } else {
            assert_eq!(&text[start..end], wanted, "{name}: NETLATCH_BLESS=1 cargo test --test schema");
        }
    }
    if std::env::var_os("NETLATCH_BLESS").is_some() {
        fs::write(guide(), text).expect("the guide is written");
    }
}
