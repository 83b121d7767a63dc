//! Text that others chose, in every field that a container's or a policy's author can choose: whatever is printed of it does
//! nothing to a terminal and stays in its line.

mod support;

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use support::container::binary;

/// What turns text around, hides it, moves a cursor, clears a screen, ends a line or a string.
const HOSTILE: [&str; 12] = [
    "a\u{202e}b",
    "\u{2066}a\u{2069}",
    "\u{61c}",
    "a\u{200b}b",
    "\u{feff}",
    "\x1b[2J\x1b[31mred",
    "a\rb",
    "a\nnetlatch: all is well",
    "a\0b",
    "\u{9b}2J",
    "\u{7f}",
    "a\u{2028}b",
];

/// The same that a file's name may hold.
fn in_a_path() -> impl Iterator<Item = &'static str> {
    HOSTILE.into_iter().filter(|text| !text.contains('\0'))
}

fn is_dangerous(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        fs::create_dir(place.path("policies")).unwrap();
        place.write("config.yaml", &format!("policies: {}\n", place.path("policies").display()));
        place
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: impl AsRef<Path>, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        path
    }

    /// Runs the program and looks at all that it says.
    fn run(&self, args: &[&OsStr], stdin: &[u8]) -> Output {
        let mut command = Command::new(binary());
        command.args(args).env_clear().current_dir(self.0.path());
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program");
        // It may have failed before it read all.
        let _ = child.stdin.take().unwrap().write_all(stdin);
        let output = child.wait_with_output().unwrap();
        let stdout = std::str::from_utf8(&output.stdout).expect("UTF-8 on stdout");
        let odd = stdout.find(|c| is_dangerous(c) && !matches!(c, '\n' | '\t'));
        assert_eq!(odd, None, "{args:?}: {stdout:?}");
        // A newline of theirs begins no line of ours.
        assert!(!stdout.lines().any(|line| line.starts_with("netlatch: all is well")), "{args:?}: {stdout}");
        let stderr = std::str::from_utf8(&output.stderr).expect("UTF-8 on stderr");
        let line = stderr.strip_suffix('\n').unwrap_or(stderr);
        assert!(!line.contains(is_dangerous) && line.len() < 8192, "{args:?}: {stderr:?}");
        assert_ne!(output.status.code(), Some(63), "{args:?}: {stderr}");
        // A command that was not understood says nothing of what is tested here.
        assert!(!stderr.contains("is missing; see `netlatch --help`"), "{args:?}: {stderr}");
        assert!(output.status.code().is_some(), "{args:?}: {stderr}");
        output
    }

    fn words(&self, args: &[&str], stdin: &[u8]) -> Output {
        self.run(&args.iter().map(OsStr::new).collect::<Vec<_>>(), stdin)
    }

    /// A state through the hook and through every command that takes one, and then what is kept of its failure.
    fn state(&self, state: &Value) {
        let (config, run) = (self.path("config.yaml"), self.path("run"));
        let (config, run) = (config.to_str().unwrap(), run.to_str().unwrap());
        let bytes = state.to_string().into_bytes();
        let file = self.path("state.json");
        fs::write(&file, &bytes).unwrap();
        let file = file.to_str().unwrap();
        for stage in ["createRuntime", "poststart", "poststop", "createContainer"] {
            self.words(&[stage, "--config", config, "--run-dir", run], &bytes);
        }
        self.words(&["last-error", "--run-dir", run], b"");
        for format in ["text", "json", "nft"] {
            self.words(&["plan", "--config", config, "--state", file, "--format", format], b"");
        }
        for output in ["text", "json"] {
            let to = ["--to", "192.0.2.1", "--port", "443"];
            let options = ["explain", "--config", config, "--state", file, "--output", output];
            self.words(&[&options[..], &to].concat(), b"");
        }
        for name in ["log", "log.1"] {
            let Ok(log) = fs::read_to_string(self.path("run").join(name)) else { continue };
            assert!(!log.contains(|c| is_dangerous(c) && c != '\n'), "{log:?}");
            for line in log.lines() {
                let record: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
                assert_eq!(record["SYSLOG_IDENTIFIER"], "netlatch", "{line}");
            }
        }
    }

    /// Manifests through every command that reads them.
    fn manifests(&self, file: &Path) {
        self.run(&[OsStr::new("check"), file.as_os_str()], b"");
        for output in ["table", "json"] {
            self.run(
                &["reach", "-f"]
                    .map(OsStr::new)
                    .into_iter()
                    .chain([file.as_os_str()])
                    .chain(["--output", output].map(OsStr::new))
                    .collect::<Vec<_>>(),
                b"",
            );
        }
        let probe = br#"{"from":"shop/web","to":"10.0.0.1","port":80,"proto":"TCP"}"#;
        let probes = ["--probes", "-"].map(OsStr::new);
        self.run(&[&["reach", "-f"].map(OsStr::new)[..], &[file.as_os_str()], &probes].concat(), probe);
        for to in ["10.0.0.1", "10.0.0.77", "10.0.0.78"] {
            for output in ["text", "json"] {
                let ends = ["--from", "shop/web", "--to", to, "--port", "80", "--output", output].map(OsStr::new);
                self.run(&[&["explain", "-f"].map(OsStr::new)[..], &[file.as_os_str()], &ends].concat(), b"");
            }
            let probe = format!("{{\"from\":\"{to}\",\"to\":\"shop/web\",\"port\":80,\"proto\":\"TCP\"}}");
            self.run(&[&["reach", "-f"].map(OsStr::new)[..], &[file.as_os_str()], &probes].concat(), probe.as_bytes());
        }
    }
}

fn with(field: &str, value: Value) -> Value {
    let mut state = json!({"ociVersion": "1.0", "id": "c", "status": "created", "pid": 0, "annotations": {}});
    state[field] = value;
    state
}

#[test]
fn every_field_of_a_state() {
    let place = Place::new();
    for text in HOSTILE {
        for field in ["id", "status", "ociVersion", "bundle", "pid", "annotations"] {
            place.state(&with(field, json!(text)));
        }
        place.state(&with("bundle", json!(format!("/run/{text}"))));
        place.state(&json!({"ociVersion": "1.0", "id": "c", text: text}));
        place.state(&with("annotations", json!({ text: 1 })));
    }
}

#[test]
fn every_annotation() {
    let place = Place::new();
    let keys = [
        "egress",
        "ingress",
        "ipv6",
        "devconf",
        "mode",
        "on-denied",
        "namespace",
        "labels",
        "ports",
        "sysctl.net.ipv4.x",
    ];
    for text in HOSTILE {
        for key in keys {
            place.state(&with("annotations", json!({ format!("io.netlatch.{key}"): text })));
        }
        for (key, value) in [
            (format!("io.netlatch.{text}"), "none".to_owned()),
            (format!("io.netlatch.sysctl.{text}"), "1".to_owned()),
            (format!("io.netlatch.sysctl.net.ipv4.{text}"), "1".to_owned()),
            (format!("io.netlatch{text}.egress"), "none".to_owned()),
            (text.to_owned(), text.to_owned()),
            ("io.netlatch.egress".to_owned(), format!("10.0.0.0/8, {text}")),
            ("io.netlatch.labels".to_owned(), format!("app={text}")),
            ("io.netlatch.labels".to_owned(), format!("{text}=web")),
            ("io.netlatch.ports".to_owned(), format!("{text}=80/tcp")),
        ] {
            place.state(&with("annotations", json!({ key: value, "io.netlatch.ingress": "none" })));
        }
    }
}

#[test]
fn every_word_of_an_engine() {
    let place = Place::new();
    let sandbox = "5a0e1ed1c29d";
    for text in HOSTILE {
        let crio = json!({
            "io.kubernetes.cri-o.ContainerType": "container", "io.kubernetes.cri-o.SandboxID": sandbox,
            "io.kubernetes.pod.name": "web", "io.kubernetes.pod.namespace": "shop", "io.netlatch.egress": "none",
        });
        for key in [
            "io.kubernetes.cri-o.ContainerType",
            "io.kubernetes.cri-o.SandboxID",
            "io.kubernetes.pod.name",
            "io.kubernetes.cri-o.KubeName",
            "io.kubernetes.pod.namespace",
            "io.container.manager",
            "io.kubernetes.container.ports",
            "io.kubernetes.cri-o.Annotations",
            "io.kubernetes.cri.sandbox-id",
        ] {
            let mut annotations = crio.clone();
            annotations[key] = json!(text);
            place.state(&with("annotations", annotations));
        }
        let ports = json!([{ "name": text, "containerPort": 80, "protocol": text }]).to_string();
        place.state(&with(
            "annotations",
            json!({"io.kubernetes.cri.container-type": "container", "io.kubernetes.container.ports": ports}),
        ));
        for labels in [json!({ text: "web" }), json!({ "app": text }), json!({ "app": 1, text: text })] {
            let labels = labels.to_string();
            let annotations = json!({"io.kubernetes.cri-o.ContainerType": "sandbox", "io.kubernetes.cri-o.Labels": labels, "app": text});
            place.state(&with("annotations", annotations));
        }
    }
}

#[test]
fn every_field_of_a_bundle_and_its_path() {
    for text in HOSTILE {
        let place = Place::new();
        let dir = place.path("bundle");
        fs::create_dir(&dir).unwrap();
        let annotations = json!({"io.netlatch.egress": "10.0.0.0/8", "io.netlatch.ipv6": "disable"});
        let state = json!({"ociVersion": "1.0", "id": "c", "pid": 0, "bundle": dir, "annotations": annotations});
        for config in [
            json!({"root": {"path": text}, "hostname": text, "annotations": {text: text}}),
            json!({"linux": {"namespaces": [{"type": "network", "path": text}]}}),
            json!({"linux": {"namespaces": [{"type": "network", "path": format!("/run/{text}")}, {"type": text}]}}),
            json!({"linux": {"sysctl": {text: text}}}),
            json!({"linux": {"sysctl": {format!("net.ipv6.conf.{text}.disable_ipv6"): "0"}}}),
            json!({"linux": {"sysctl": {"net.ipv6.conf.all.disable_ipv6": text}}}),
            json!({"process": {"capabilities": {"bounding": [text]}}}),
            json!({"annotations": text}),
            json!({"mounts": [{"destination": text, "source": text, "type": text, "options": [text]}]}),
            json!({"linux": {"devices": [{"path": text, "type": text}], "rootfsPropagation": text}}),
        ] {
            fs::write(dir.join("config.json"), config.to_string()).unwrap();
            place.state(&state);
        }
    }
    for text in in_a_path() {
        let place = Place::new();
        let dir = place.path(format!("b{text}"));
        fs::create_dir(&dir).unwrap();
        for config in ["{}", "{", r#"{"linux":{"sysctl":{"net.ipv6.conf.all.disable_ipv6":"0"}}}"#] {
            fs::write(dir.join("config.json"), config).unwrap();
            let annotations = json!({"io.netlatch.ipv6": "disable"});
            place.state(&json!({"ociVersion": "1.0", "id": "c", "bundle": dir, "annotations": annotations}));
        }
    }
}

/// A string as YAML takes it, whatever is in it.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: web, labels: {app: web}}, status: {podIP: 10.0.0.9}}";

#[test]
fn every_field_of_a_manifest() {
    let place = Place::new();
    for text in HOSTILE {
        let q = quoted(text);
        let policy = |metadata: &str, spec: &str| {
            format!("{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {metadata}, spec: {spec}}}")
        };
        let named = "{name: p, namespace: shop}";
        for document in [
            policy(&format!("{{name: {q}}}"), "{podSelector: {}}"),
            policy(&format!("{{name: p, namespace: {q}}}"), "{podSelector: {}}"),
            policy(&format!("{{name: p, labels: {{{q}: {q}}}}}"), "{podSelector: {}}"),
            policy(named, &format!("{{podSelector: {{matchLabels: {{app: {q}}}}}}}")),
            policy(named, &format!("{{podSelector: {{matchLabels: {{{q}: a}}}}}}")),
            policy(
                named,
                &format!("{{podSelector: {{matchExpressions: [{{key: {q}, operator: {q}, values: [{q}]}}]}}}}"),
            ),
            policy(named, &format!("{{podSelector: {{}}, {q}: 1}}")),
            policy(named, &format!("{{podSelector: {{}}, policyTypes: [{q}]}}")),
            policy(
                named,
                &format!("{{podSelector: {{}}, ingress: [{{from: [{{ipBlock: {{cidr: {q}, except: [{q}]}}}}]}}]}}"),
            ),
            policy(named, &format!("{{podSelector: {{}}, ingress: [{{ports: [{{port: {q}, protocol: {q}}}]}}]}}")),
            format!("{{apiVersion: {q}, kind: {q}}}"),
            format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: {q}, namespace: {q}, labels: {{{q}: {q}}}}}, status: {{podIP: {q}}}}}"
            ),
            format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: a}}, spec: {{nodeName: {q}, containers: [{{name: {q}, ports: [{{name: {q}, containerPort: 1}}]}}]}}}}"
            ),
            format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {q}, labels: {{{q}: {q}}}}}}}"),
            format!(
                "{{apiVersion: v1, kind: Node, metadata: {{name: {q}}}, status: {{addresses: [{{type: InternalIP, address: {q}}}]}}}}"
            ),
            format!(
                "{{apiVersion: v1, kind: Service, metadata: {{name: {q}}}, spec: {{clusterIP: {q}, ports: [{{name: {q}, port: 1, targetPort: {q}}}]}}}}"
            ),
            format!(
                "{{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: {{name: {q}}}, spec: {{tier: {q}, priority: 1, subject: {{namespaces: {{}}}}, egress: [{{name: {q}, action: {q}, to: [{{domainNames: [{q}]}}]}}]}}}}"
            ),
            format!(
                "{{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: {{name: a}}, spec: {{tier: Admin, priority: 1, subject: {{namespaces: {{}}}}, egress: [{{name: {q}, action: Deny, to: [{{namespaces: {{}}}}]}}]}}}}"
            ),
            // What the inventory holds is not checked, and is cited by answers.
            format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: {q}, namespace: {q}, labels: {{app: {q}, {q}: b}}}}, status: {{podIP: 10.0.0.77}}}}\n---\n\
                 {{apiVersion: v1, kind: Service, metadata: {{name: {q}, namespace: {q}}}, spec: {{clusterIP: 10.0.0.78, selector: {{app: {q}}}, ports: [{{port: 80}}]}}}}\n---\n{}",
                policy(
                    named,
                    "{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: c}}}]}], egress: [{to: [{namespaceSelector: {}, podSelector: {matchLabels: {app: c}}}]}]}"
                )
            ),
            q.clone(),
            text.to_owned(),
            format!("a: {text}"),
            format!("{text}: [a"),
        ] {
            let file = place.write("m.yaml", &format!("{POD}\n---\n{document}\n"));
            place.manifests(&file);
        }
    }
}

#[test]
fn every_field_of_a_configuration() {
    let place = Place::new();
    for text in HOSTILE {
        let q = quoted(text);
        for document in [
            format!("{q}: 1"),
            format!("egress: {q}"),
            format!("egress: [{q}]"),
            format!("mode: {q}"),
            format!("sysctl: {{{q}: {q}}}"),
            format!("sysctl: {{net.ipv4.x: {q}}}"),
            format!("allow-sysctls: [{q}]"),
            format!("allow-annotations: [{q}]"),
            format!("always-denied: [{q}]"),
            format!("policies: {q}"),
            format!("policies: {}", quoted(&format!("/nowhere/{text}"))),
        ] {
            place.write("config.yaml", &document);
            place.words(&["check", "config.yaml"], b"");
            place.state(&with("annotations", json!({"io.netlatch.egress": "10.0.0.0/8"})));
        }
    }
}

#[test]
fn every_path_also_where_it_is_no_text() {
    for name in in_a_path().map(str::as_bytes).chain([&b"a\xff\xfe"[..], b"\xed\xa0\x80"]) {
        let place = Place::new();
        let dir = place.path(OsStr::from_bytes(&[b"d", name].concat()));
        fs::create_dir(&dir).unwrap();
        let policy = format!(
            "{POD}\n---\n{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: p, namespace: shop}}, spec: {{podSelector: {{}}, ingress: [{{from: [{{ipBlock: {{cidr: 10.0.0.0/8}}}}]}}]}}}}\n"
        );
        for text in [policy.as_str(), "{apiVersion: v1, kind: Pod}", "["] {
            let file = place.write(dir.join("m.yaml"), text);
            place.manifests(&file);
            place.manifests(&dir);
        }
        place.manifests(&dir.join("nothing"));
        // A configuration and a policies folder of such a path, cited by every rule that comes of them.
        fs::write(dir.join("m.yaml"), policy).unwrap();
        let config = dir.join("config.yaml");
        let lists = "egress: [10.0.0.0/8]\nsysctl: {net.ipv4.ip_forward: 1}\n";
        let folder = dir.to_str().map_or(String::new(), |dir| format!("policies: {}\n", quoted(dir)));
        fs::write(&config, format!("{lists}{folder}")).unwrap();
        fs::rename(&config, dir.join("c.txt")).unwrap();
        let config = dir.join("c.txt");
        fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).unwrap();
        let state = with(
            "annotations",
            json!({"io.netlatch.namespace": "shop", "io.netlatch.sysctl.net.ipv4.ip_forward": "0"}),
        );
        for state in [state, with("annotations", json!({"io.netlatch.namespace": "shop"}))] {
            let file = place.write("state.json", &state.to_string());
            for format in ["text", "json", "nft"] {
                let head = [
                    OsStr::new("plan"),
                    OsStr::new("--config"),
                    config.as_os_str(),
                    OsStr::new("--state"),
                    file.as_os_str(),
                ];
                let output = place.run(&[&head[..], &[OsStr::new("--format"), OsStr::new(format)]].concat(), b"");
                // What comes of a bad name is not that nothing is said.
                assert!(!output.stdout.is_empty() || !output.stderr.is_empty());
            }
            let stage = [
                OsStr::new("createRuntime"),
                OsStr::new("--config"),
                config.as_os_str(),
                OsStr::new("--run-dir"),
                dir.as_os_str(),
            ];
            place.run(&stage, state.to_string().as_bytes());
        }
        let words = [OsStr::new("last-error"), OsStr::new("--run-dir"), dir.as_os_str()];
        place.run(&words, b"");
        place.run(&[OsStr::from_bytes(name)], b"");
        place.run(&[OsStr::new("createRuntime"), OsStr::from_bytes(name)], b"");
        place.run(&[OsStr::new("last-error"), OsStr::from_bytes(name)], b"");
    }
}
