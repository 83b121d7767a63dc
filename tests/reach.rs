//! `netlatch reach` as a user meets it: answers and tables on stdout, or one line that says where the mistake is.

mod support;

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::thread;

use serde_json::Value;
use support::container::binary;
use support::schema::described;

const WORLD: &str = "
{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: web-1, labels: {app: web}}, spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}, status: {podIPs: [{ip: 10.1.0.1}]}}
---
{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: web-2, labels: {app: web}}, status: {podIPs: [{ip: 10.1.0.2}]}}
---
{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: api, labels: {app: api}}, status: {podIPs: [{ip: 10.1.0.3}]}}
---
{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: db, labels: {app: db}}, status: {podIPs: [{ip: 10.1.0.4}]}}
";

const POLICIES: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: db}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - from:
    - podSelector: {matchLabels: {app: api}}
    ports:
    - port: 5432
";

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(tempfile::tempdir().expect("a directory"));
        place.write("world.yaml", WORLD);
        place.write("policies.yml", POLICIES);
        place
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).expect("a file");
    }

    /// Run in the folder, so that names in messages are short.
    fn run(&self, args: &[&str], input: &str) -> Output {
        let mut command = Command::new(binary());
        command.arg("reach").args(args).env_clear().current_dir(self.0.path());
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().expect("the program starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        thread::scope(|scope| {
            scope.spawn(move || drop(stdin.write_all(input.as_bytes())));
            child.wait_with_output().expect("the program ends")
        })
    }

    fn done(&self, args: &[&str], input: &str) -> String {
        let output = self.run(args, input);
        let stderr = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    fn refused(&self, args: &[&str], input: &str, code: i32) -> String {
        let output = self.run(args, input);
        assert_eq!(output.status.code(), Some(code));
        assert!(output.stdout.is_empty(), "nothing is answered where one probe has no answer");
        String::from_utf8(output.stderr).expect("UTF-8")
    }
}

const PROBES: [&str; 3] = ["-f", ".", "--probes=-"];

#[test]
fn an_answer_is_the_probe_with_both_halves_and_the_rule_that_decided() {
    let answers = Place::new().done(
        &PROBES,
        "{\"from\":\"shop/api\",\"to\":\"shop/db\",\"port\":5432,\"proto\":\"TCP\"}\n\
         {\"proto\":\"TCP\", \"id\": {\"z\":1, \"a\": 1.50}, \"port\":5432, \"to\":\"10.1.0.4\", \"from\":\"8.8.8.8\"}\n\
         \n\
         {\"from\":\"shop/db\",\"to\":\"10.1.0.1\",\"proto\":\"ICMP\",\"why\":\"old\",\"allowed\":3}",
    );
    let lines: Vec<&str> = answers.lines().collect();
    assert_eq!(lines.len(), 3, "one a probe, in their order");
    assert_eq!(
        lines[0],
        "{\"from\":\"shop/api\",\"to\":\"shop/db\",\"port\":5432,\"proto\":\"TCP\",\"allowed\":true,\"egress\":true,\"ingress\":true,\
         \"why\":\"egress of shop/api: allowed, no policy isolates it and no rule denies it; \
         ingress of shop/db: allowed by NetworkPolicy shop/db spec.ingress[0] (./policies.yml:8)\"}"
    );
    // Fields stay as they were written, in their order, others too.
    assert!(
        lines[1].starts_with("{\"proto\":\"TCP\",\"id\":{\"z\":1, \"a\": 1.50},\"port\":5432,\"to\":\"10.1.0.4\",\"from\":\"8.8.8.8\",\"allowed\":false,\"egress\":true,\"ingress\":false,\"why\":\"")
    );
    assert!(lines[1].contains("isolated by NetworkPolicy shop/db (./policies.yml:2)"), "{}", lines[1]);
    // An answer can be asked again.
    lines.iter().for_each(|line| drop(described("reach-probes", line)));
    let again: Value = serde_json::from_str(lines[2]).expect("JSON");
    assert_eq!(again["allowed"], true);
    assert_ne!(again["why"], "old");
}

#[test]
fn a_probe_with_a_mistake_is_told_with_its_line_and_nothing_is_answered() {
    let place = Place::new();
    let good = "{\"from\":\"shop/api\",\"to\":\"shop/db\",\"port\":1,\"proto\":\"TCP\"}";
    for (bad, told) in [
        (
            "{\"from\":\"shop/none\",\"to\":\"shop/db\",\"port\":1,\"proto\":\"TCP\"}",
            "stdin:2:1: from: there is no pod \"shop/none\" in these manifests",
        ),
        (
            "{\"from\":\"shop\",\"to\":\"shop/db\",\"port\":1,\"proto\":\"TCP\"}",
            "stdin:2:1: from: expected \"namespace/pod\" or an address, found \"shop\"",
        ),
        (
            "{\"from\":7,\"to\":\"shop/db\",\"port\":1,\"proto\":\"TCP\"}",
            "stdin:2:1: from: expected \"namespace/pod\" or an address, found \"7\"",
        ),
        ("{\"to\":\"shop/db\",\"port\":1,\"proto\":\"TCP\"}", "stdin:2:1: from: the field is missing"),
        (
            "{\"from\":\"shop/api\",\"to\":\"shop/db\",\"port\":0,\"proto\":\"TCP\"}",
            "stdin:2:1: port: expected a port from 1 to 65535, found 0",
        ),
        (
            "{\"from\":\"shop/api\",\"to\":\"shop/db\",\"port\":65536,\"proto\":\"TCP\"}",
            "stdin:2:1: port: expected a port from 1 to 65535, found \"65536\"",
        ),
        (
            "{\"from\":\"shop/api\",\"to\":\"shop/db\",\"port\":\"80\",\"proto\":\"TCP\"}",
            "stdin:2:1: port: expected a port from 1 to 65535, found",
        ),
        ("{\"from\":\"shop/api\",\"to\":\"shop/db\",\"proto\":\"TCP\"}", "stdin:2:1: port: the field is missing"),
        (
            "{\"from\":\"shop/api\",\"to\":\"shop/db\",\"port\":1,\"proto\":\"tcp\"}",
            "stdin:2:1: proto: expected one of TCP, UDP, SCTP, ICMP, found \"tcp\"",
        ),
        ("{\"from\":\"shop/api\",\"to\":\"shop/db\",\"port\":1}", "stdin:2:1: proto: the field is missing"),
        (
            "{\"from\":\"shop/api\",\"to\":\"shop/db\",\"port\":1,\"proto\":\"ICMP\"}",
            "stdin:2:1: port: ICMP has no ports",
        ),
        ("{\"from\":\"shop/api\",\"from\":\"shop/api\"}", "stands twice"),
        ("{\"from\":\"shop/api\",", "stdin:2:19: EOF while parsing"),
        ("[]", "stdin:2:1: invalid type: sequence, expected a probe, a JSON object"),
        ("nonsense", "stdin:2:2: expected ident"),
    ] {
        let line = place.refused(&PROBES, &format!("{good}\n{bad}\n{good}\n"), 16);
        assert!(line.contains(told), "{bad}: {line}");
        assert!(line.starts_with("netlatch: cannot answer the probes: "), "{line}");
    }
    let both = place.refused(&PROBES, "{}\n7\n", 16);
    assert!(both.contains("stdin:1:1:") && both.contains(" | stdin:2:1:"), "{both}");
}

#[test]
fn manifests_with_mistakes_and_missing_files_are_told() {
    let place = Place::new();
    place.write(
        "bad.yaml",
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p}, spec: {podSelectr: {}}}",
    );
    let line = place.refused(&["-f", "bad.yaml"], "", 16);
    assert!(line.contains("bad.yaml:1:") && line.contains("podSelectr"), "{line}");
    assert!(place.refused(&["-f", "gone.yaml"], "", 16).contains("gone.yaml"));
    assert!(place.refused(&["-f", "world.yaml", "--probes", "gone.jsonl"], "", 42).contains("gone.jsonl: ENOENT"));
    place.refused(&[], "", 10);
    place.refused(&["-f", "world.yaml", "--probes=-", "--output=xml"], "", 10);
    // Answers are JSON either way.
    let probe = "{\"from\":\"shop/api\",\"to\":\"shop/db\",\"port\":1,\"proto\":\"TCP\"}";
    for output in ["json", "table"] {
        assert!(place.done(&["-f", "world.yaml", "--probes=-", "--output", output], probe).starts_with(&probe[..20]));
    }
}

#[test]
fn files_and_folders_go_together_and_hidden_files_do_not_count() {
    let place = Place::new();
    place.write(".hidden.yaml", "nonsense");
    place.write("note.txt", "nonsense");
    let probe = "{\"from\":\"shop/web-1\",\"to\":\"shop/db\",\"port\":1,\"proto\":\"UDP\"}";
    assert!(place.done(&PROBES, probe).contains("\"allowed\":false"));
    assert!(
        place.done(&["-f", "world.yaml", "-f", "policies.yml", "--probes", "-"], probe).contains("\"allowed\":false")
    );
    assert!(place.done(&["-f", "world.yaml", "policies.yml", "--probes", "-"], probe).contains("\"allowed\":false"));
    assert!(place.done(&["-f", "world.yaml", "--probes", "-"], probe).contains("\"allowed\":true"));
}

#[test]
fn a_table_has_a_line_for_those_who_are_alike() {
    let table = Place::new().done(&["-f", "."], "");
    let expected = "\
TCP 5432
    from \\ to       1 2 3 4
  1 shop/api        - + + +
  2 shop/db         + - + +
  3 shop/web-* (2)  + . + +
  4 outside         + . + -

";
    assert!(table.starts_with(expected), "{table}");
    assert!(table.contains("TCP 8080; everything else\n"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
}

#[test]
fn the_tables_for_programs_say_the_same() {
    let table = described("reach", &Place::new().done(&["-f", ".", "-o", "json"], ""));
    let ends: Vec<String> = table["ends"].as_array().expect("ends").iter().map(ToString::to_string).collect();
    assert_eq!(
        ends,
        [
            "{\"pods\":[\"shop/api\"]}",
            "{\"pods\":[\"shop/db\"]}",
            "{\"pods\":[\"shop/web-1\",\"shop/web-2\"]}",
            "{\"family\":\"IPv4\",\"outside\":null}",
        ]
    );
    let tables = table["tables"].as_array().expect("tables");
    assert_eq!(tables[0]["spoken"].to_string(), "[{\"ports\":[5432,5432],\"proto\":\"TCP\"}]");
    assert_eq!(tables[0]["reaches"].to_string(), "[[0,1,2,3],[0,2,3],[0,2,3],[0,2,3]]");
    assert_eq!(tables.len(), 2);
}

#[test]
fn two_hundred_pods_stay_readable() {
    let place = Place::new();
    let mut world = String::new();
    for number in 0..200 {
        let (app, namespace) = (["web", "api", "db", "job"][number % 4], ["shop", "ops"][number / 100]);
        world += &format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{namespace: {namespace}, name: {app}-{number}, labels: {{app: {app}}}}}, status: {{podIPs: [{{ip: 10.2.0.{number}}}]}}}}\n"
        );
    }
    place.write("world.yaml", &world);
    let table = place.done(&["-f", "."], "");
    assert!(table.lines().count() < 20, "{table}");
    assert!(table.contains("  1 ops/* shop/job-* shop/web-* (150)  + + . +\n"), "{table}");
}

#[test]
fn a_narrow_terminal_gets_a_list() {
    let place = Place::new();
    let mut policies = String::new();
    let mut world = String::new();
    for number in 0..30 {
        world += &format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{namespace: shop, name: p{number}, labels: {{n: p{number}}}}}}}\n"
        );
        policies += &format!(
            "---\n{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{namespace: shop, name: p{number}}}, spec: {{podSelector: {{matchLabels: {{n: p{number}}}}}, ingress: [{{from: [{{podSelector: {{matchLabels: {{n: p{}}}}}}}]}}]}}}}\n",
            (number + 1) % 30
        );
    }
    place.write("world.yaml", &world);
    place.write("policies.yml", &policies);
    let mut command = Command::new(binary());
    command.args(["reach", "-f", "."]).env_clear().env("COLUMNS", "60").current_dir(place.0.path());
    let table = String::from_utf8(command.output().expect("the program ends").stdout).expect("UTF-8");
    assert!(table.contains("  shop/p3 <- shop/p4\n"), "{table}");
    assert!(table.contains("  outside <- everyone\n"), "{table}");
}
