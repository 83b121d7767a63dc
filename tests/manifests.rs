//! One small change in a manifest that is good, and what becomes of it: a misspelt, doubled or mistyped field is refused
//! with its line, whichever field it is. And `netlatch check` over a folder.

use std::process::Command;

use netlatch::document::{Node, Value, parse};
use netlatch::policy::parse::{Collector, Outcome};
use proptest::prelude::*;

/// Every field that a policy may have, each in a line of its own.
const POLICIES: [&str; 4] = [
    "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: all
  namespace: shop
  labels:
    app: web
spec:
  podSelector:
    matchLabels:
      tier: front
    matchExpressions:
    - key: env
      operator: In
      values:
      - prod
  policyTypes:
  - Ingress
  - Egress
  ingress:
  - from:
    - podSelector:
        matchLabels:
          app: api
      namespaceSelector:
        matchLabels:
          team: a
    - ipBlock:
        cidr: 10.0.0.0/8
        except:
        - 10.1.0.0/16
    ports:
    - protocol: TCP
      port: 8000
      endPort: 9000
    - protocol: UDP
      port: dns
  egress:
  - to:
    - namespaceSelector:
        matchExpressions:
        - key: kubernetes.io/metadata.name
          operator: Exists
    ports:
    - port: 443
",
    "\
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata:
  name: cluster
spec:
  tier: Admin
  priority: 10
  subject:
    pods:
      namespaceSelector:
        matchLabels:
          team: a
      podSelector:
        matchLabels:
          app: web
  ingress:
  - name: first
    action: Deny
    from:
    - namespaces:
        matchLabels:
          team: b
    protocols:
    - tcp:
        destinationPort:
          number: 80
    - udp:
        destinationPort:
          range:
            start: 5
            end: 10
    - destinationNamedPort: http
  egress:
  - action: Accept
    to:
    - networks:
      - 10.0.0.0/8
    - nodes:
        matchLabels:
          zone: a
    - domainNames:
      - example.org
    protocols:
    - sctp:
        destinationPort:
          number: 9
",
    "\
apiVersion: policy.networking.k8s.io/v1alpha1
kind: AdminNetworkPolicy
metadata:
  name: admin
spec:
  priority: 10
  subject:
    namespaces:
      matchLabels:
        team: a
  ingress:
  - name: first
    action: Pass
    from:
    - pods:
        namespaceSelector:
          matchLabels:
            team: b
        podSelector:
          matchLabels:
            app: web
    ports:
    - portNumber:
        protocol: UDP
        port: 53
    - portRange:
        protocol: TCP
        start: 5
        end: 10
    - namedPort: http
  egress:
  - action: Allow
    to:
    - networks:
      - fd00::/8
",
    "\
apiVersion: policy.networking.k8s.io/v1alpha1
kind: BaselineAdminNetworkPolicy
metadata:
  name: default
spec:
  subject:
    namespaces:
      matchLabels:
        team: a
  egress:
  - action: Deny
    to:
    - namespaces:
        matchLabels:
          team: b
    ports:
    - portNumber:
        port: 53
",
];

/// Keys that are data: another one is another label and no mistake.
const DATA: [&str; 6] = ["app", "tier", "team", "env", "zone", "kubernetes.io/metadata.name"];

fn read(text: &str) -> Outcome {
    let mut collector = Collector::new();
    collector.read("m.yaml", text.as_bytes());
    collector.finish()
}

/// The line of each key that is a field, with the key and its value.
fn fields(node: &Node, inside_labels: bool, found: &mut Vec<(usize, String, Value)>) {
    match &node.value {
        Value::Map(entries) => {
            for (key, value) in entries {
                // `tier` is a field of the spec and a label elsewhere.
                if !inside_labels || !DATA.contains(&key.text.as_str()) {
                    found.push((key.line as usize - 1, key.text.clone(), value.value.clone()));
                }
                fields(value, matches!(key.text.as_str(), "matchLabels" | "labels"), found);
            }
        }
        Value::Seq(items) => items.iter().for_each(|item| fields(item, false, found)),
        Value::Null | Value::Bool(_) | Value::Int { .. } | Value::Float { .. } | Value::Str { .. } => {}
    }
}

fn all_fields(text: &str) -> Vec<(usize, String, Value)> {
    let mut found = Vec::new();
    let roots = parse("m.yaml", text.as_bytes(), &mut Vec::new());
    roots.iter().for_each(|root| fields(root, false, &mut found));
    found
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches([' ', '-']).len()
}

/// The lines with the field in `line` twice, all that hangs on it included; and the line of the second one, from 0.
fn doubled(lines: &[&str], line: usize) -> (String, usize) {
    let depth = indent(lines[line]);
    // A list stands as deep as the field that holds it.
    let belongs =
        |next: &&&str| indent(next) > depth || (indent(next) == depth + 2 && next.trim_start().starts_with('-'));
    let own = next_item(lines, line, depth);
    let end = line + 1 + lines[line + 1..].iter().take_while(|next| belongs(next) && own > 0).count().min(own);
    let mut block: Vec<String> = lines[line..end].iter().map(|line| (*line).to_owned()).collect();
    block[0] = format!("{}{}", " ".repeat(depth), lines[line].trim_start_matches([' ', '-']));
    let mut all: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    all.splice(end..end, block);
    (all.join("\n") + "\n", end)
}

/// How many lines follow `line` before the next one that is no deeper, or the next item of its own list.
fn next_item(lines: &[&str], line: usize, depth: usize) -> usize {
    let ends = |next: &&str| {
        let spaces = next.len() - next.trim_start().len();
        spaces < depth && !(spaces + 2 == depth + 2 && next.trim_start().starts_with('-'))
            || (spaces == depth && !next.trim_start().starts_with('-'))
    };
    lines[line + 1..].iter().take_while(|next| !ends(next)).count()
}

/// The errors have to name this line (from 0), or the object in which the change stands.
fn refused_at(outcome: &Outcome, line: usize, text: &str) {
    assert!(outcome.manifests.is_none(), "accepted:\n{text}");
    let lines: Vec<u32> = outcome.errors.iter().filter_map(|error| error.position).map(|(line, _)| line).collect();
    assert!(lines.contains(&(line as u32 + 1)), "wanted line {}, got {:?}\n{text}", line + 1, outcome.errors);
}

#[test]
fn the_manifests_are_good_as_they_are() {
    for text in POLICIES {
        let outcome = read(text);
        assert!(outcome.manifests.is_some() && outcome.warnings.is_empty(), "{:?}", outcome);
    }
}

#[test]
fn every_field_that_stands_twice_is_refused_at_its_second_place() {
    for text in POLICIES {
        let lines: Vec<&str> = text.lines().collect();
        for (line, key, _) in all_fields(text) {
            let (changed, second) = doubled(&lines, line);
            let outcome = read(&changed);
            refused_at(&outcome, second, &changed);
            assert!(
                outcome.errors.iter().any(|error| error.message.contains("stands twice")),
                "{key}: {:?}",
                outcome.errors
            );
        }
    }
}

#[test]
fn every_field_of_another_type_is_refused_at_its_line() {
    for text in POLICIES {
        let lines: Vec<&str> = text.lines().collect();
        for (line, key, value) in all_fields(text) {
            // The value, all that hangs on it, becomes something it cannot be.
            let others: &[&str] = match value {
                Value::Map(_) => &["[]", "[x]", "text", "5", "true"],
                Value::Seq(_) => &["{}", "{a: b}", "text", "5", "true"],
                Value::Int { .. } => &["{}", "[]", "-5", "1.5", "true", "99999999999", "\"5\""],
                Value::Str { .. } => &["{}", "[]", "true", "1.5", "yes", "0x10"],
                Value::Null | Value::Bool(_) | Value::Float { .. } => panic!("{key}"),
            };
            let depth = indent(lines[line]);
            let end = line + 1 + next_item(&lines, line, depth);
            for other in others {
                // A name instead of a number, and a number instead of a name, are ports as well.
                if key == "port" && ["0x10"].contains(other) {
                    continue;
                }
                let head = lines[line].split(':').next().expect("a key");
                let mut all: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
                all.splice(line..end, [format!("{head}: {other}")]);
                let changed = all.join("\n") + "\n";
                refused_at(&read(&changed), line, &changed);
            }
        }
    }
}

proptest! {
    /// One letter changed, dropped, doubled or put in, or the case of one.
    #[test]
    fn a_misspelt_field_is_refused_at_its_line(
        which in 0..POLICIES.len(), field in any::<prop::sample::Index>(), letter in any::<prop::sample::Index>(),
        how in 0..5usize, with in "[a-zA-Z]"
    ) {
        let text = POLICIES[which];
        let fields = all_fields(text);
        let (line, key, _) = field.get(&fields);
        let at = letter.index(key.len());
        let (before, rest) = key.split_at(at);
        let (this, behind) = rest.split_at(1);
        let misspelt = match how {
            0 => format!("{before}{with}{behind}"),
            1 => format!("{before}{behind}"),
            2 => format!("{before}{this}{this}{behind}"),
            3 => format!("{before}{with}{this}{behind}"),
            _ => format!("{before}{}{behind}", if this.chars().all(char::is_lowercase) { this.to_uppercase() } else { this.to_lowercase() }),
        };
        // Another field of the same object is no misspelling; these are all that are so near.
        prop_assume!(misspelt != *key && !misspelt.is_empty() && misspelt != "uid");
        let lines: Vec<&str> = text.lines().collect();
        let mut all: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        all[*line] = all[*line].replacen(key.as_str(), &misspelt, 1);
        let changed = all.join("\n") + "\n";
        let outcome = read(&changed);
        // A document of another kind, or of none, is refused where it begins.
        let place = if matches!(key.as_str(), "apiVersion" | "kind" ) { 0 } else { *line };
        prop_assert!(outcome.manifests.is_none(), "{changed}");
        refused_at(&outcome, place, &changed);
    }

    #[test]
    fn no_bytes_in_a_manifest_panic(
        which in 0..POLICIES.len(), at in any::<prop::sample::Index>(), len in 0..30usize,
        with in "[-?:,\\[\\]{}#&*!|>'\"%@a0./~ \\n]{0,12}"
    ) {
        let text = POLICIES[which];
        let from = at.index(text.len());
        let to = (from + len).min(text.len());
        read(&format!("{}{with}{}", &text[..from], &text[to..]));
    }
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Folder {
        let dir = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).expect("a file");
        }
        Folder(dir)
    }

    fn check(&self, options: &[&str]) -> (Option<i32>, Vec<String>) {
        let output = Command::new(env!("CARGO_BIN_EXE_netlatch"))
            .arg("check")
            .args(options)
            .arg(self.0.path())
            .output()
            .expect("netlatch runs");
        let dir = format!("{}/", self.0.path().display());
        let lines = String::from_utf8(output.stdout).expect("text");
        (output.status.code(), lines.lines().map(|line| line.replace(&dir, "")).collect())
    }
}

#[test]
fn check_reads_a_folder_as_one() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nstatus: {podIP: 10.0.0.1}\n";
    let folder = Folder::new(&[
        ("a.yaml", POLICIES[0]),
        (
            "b.json",
            "{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {\"name\": \"b\"}, \"status\": {\"podIP\": \"10.0.0.1\"}}",
        ),
        ("c.yaml", POLICIES[0]),
        ("config.yaml", "egress: none\n"),
        ("d.yml", pod),
        ("e.yaml", "ipv6: of\n---\negress: none\n---\napiVersion: v1\nkind: Secret\n"),
        ("f.txt", "not read"),
    ]);
    let (code, lines) = folder.check(&[]);
    assert_eq!(code, Some(1));
    let wanted = [
        "c.yaml:1:1: NetworkPolicy shop/all stands twice, first at ",
        "d.yml:4:17: status.podIP: 10.0.0.1 is the address of two running pods, default/a and default/b at ",
        "e.yaml:1:7: ipv6: ",
        "e.yaml:3:1: a configuration is one document, and this is another",
        "e.yaml:6:7: kind: \"Secret\" is none of the kinds",
    ];
    assert_eq!(lines.len(), wanted.len(), "{lines:?}");
    for (line, wanted) in lines.iter().zip(wanted) {
        assert!(line.starts_with(wanted), "{line}");
    }
}

#[test]
fn check_is_silent_about_good_manifests_and_warns_of_doubtful_ones() {
    assert_eq!(
        Folder::new(&[("a.yaml", POLICIES[0]), ("b.yaml", POLICIES[1])]).check(&["--strict"]),
        (Some(0), vec![])
    );
    let twice = POLICIES[1].replace("name: cluster", "name: clusters");
    let folder = Folder::new(&[("a.yaml", POLICIES[1]), ("b.yaml", &twice)]);
    let (code, lines) = folder.check(&[]);
    assert_eq!((code, lines.len()), (Some(0), 1), "{lines:?}");
    assert!(
        lines[0].starts_with("b.yaml:1:1: spec.priority: cluster has the priority 10 in tier Admin as well"),
        "{lines:?}"
    );
    assert!(lines[0].ends_with("(warning)"), "{lines:?}");
    assert_eq!(folder.check(&["--strict"]).0, Some(1));
}
