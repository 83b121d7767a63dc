//! Schemas of what is read, held against the parsers.
//!
//! What a schema refuses its parser refuses: an editor marks nothing that works. And the other way round, but for what a schema
//! cannot say: the grammar of lists and of sysctls' names, and what two values mean together.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use boon::{Compiler, SchemaIndex, Schemas};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};

use super::Schema;
use crate::document::{self, Node};
use crate::net::Origin;
use crate::oci::{Requests, State};
use crate::policy::list::List;
use crate::settings::Config;

/// Somebody else's validator.
struct Judge {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Judge {
    fn of(schema: Schema) -> Judge {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource("urn:test", serde_json::from_str(schema.text()).unwrap()).unwrap();
        let index = compiler.compile("urn:test", &mut schemas).unwrap();
        Judge { schemas, index }
    }

    /// What is wrong with a value, by the judge of this thread.
    fn once(schema: Schema, value: &Value) -> Option<String> {
        thread_local! {
            static JUDGES: RefCell<BTreeMap<&'static str, Judge>> = RefCell::default();
        }
        JUDGES.with_borrow_mut(|judges| judges.entry(schema.name()).or_insert_with(|| Judge::of(schema)).refuses(value))
    }

    /// What is wrong with a value.
    fn refuses(&self, value: &Value) -> Option<String> {
        self.schemas.validate(value, self.index).err().map(|error| format!("{error:#}"))
    }
}

/// A document as other readers of YAML see it.
fn value_of(node: &Node) -> Value {
    match &node.value {
        document::Value::Null => Value::Null,
        document::Value::Bool(value) => json!(value),
        document::Value::Int { value, .. } => json!(value),
        document::Value::Float { value, .. } => json!(value),
        document::Value::Str { text, .. } => json!(text),
        document::Value::Seq(items) => items.iter().map(value_of).collect(),
        document::Value::Map(entries) => {
            entries.iter().map(|(key, node)| (key.text.clone(), value_of(node))).collect::<Map<_, _>>().into()
        }
    }
}

/// The only document of a text; `None` where it is not one.
fn only_document(text: &[u8]) -> Option<Value> {
    let mut findings = Vec::new();
    let roots = document::parse("c.yaml", text, &mut findings);
    let [root] = roots.as_slice() else { return None };
    findings.is_empty().then(|| value_of(root))
}

/// Panics where the schema refuses a configuration that is good. The tests of the parser call this with all they have.
#[track_caller]
pub(crate) fn config_is_judged(text: &str, is_good: bool) {
    let Some(value) = only_document(text.as_bytes()) else { return };
    let refused = Judge::once(Schema::Config, &value);
    assert!(!is_good || refused.is_none(), "{text}: {}", refused.unwrap_or_default());
}

/// The same of annotations.
#[track_caller]
pub(crate) fn annotations_are_judged(annotations: &BTreeMap<String, String>, are_good: bool) {
    let refused = Judge::once(Schema::Annotations, &json!(annotations));
    assert!(!are_good || refused.is_none(), "{annotations:?}: {}", refused.unwrap_or_default());
}

/// The same of a state.
#[track_caller]
pub(crate) fn state_is_judged(text: &[u8], is_good: bool) {
    let Ok(value) = serde_json::from_slice(text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text)) else { return };
    let refused = Judge::once(Schema::State, &value);
    assert!(!is_good || refused.is_none(), "{value}: {}", refused.unwrap_or_default());
}

fn is_config(value: &Value) -> bool {
    Config::parse("c.yaml", value.to_string().as_bytes()).is_ok()
}

/// Mistakes that a schema finds.
#[test]
fn a_mistake_in_a_configuration_is_marked_in_an_editor() {
    let judge = Judge::of(Schema::Config);
    for text in [
        "egres: none",
        "egress: {}",
        "egress: []",
        "egress: 7",
        "egress: null",
        "egress: [none, '*']",
        "egress: ['!10.0.0.1']",
        "egress: ['10.0.0.0/8, *']",
        "egress: '10.0.0.0/8;'",
        "egress: '*:0'",
        "egress: ''",
        "egress: api.example.com:443",
        "egress: ['@intranet']",
        "egress: '!'",
        "egress: tls/10.0.0.1",
        "egress: ['10.0.0.1:80-']",
        "egress: [[none]]",
        "ipv6: off",
        "ipv6: disabled",
        "ipv6: [leave]",
        "mode: audits",
        "mode: null",
        "on-denied: Reject",
        "devconf: kernel",
        "sysctl: []",
        "sysctl: {kernel.msgmax: 1}",
        "sysctl: {net: 1}",
        "sysctl: {net.ipv4.x: ''}",
        "sysctl: {net.ipv4.x: [1]}",
        "sysctl: {net.ipv4.x: 1.5}",
        "sysctl: {net.ipv4.x: true}",
        "sysctl: {net.ipv4.x: \"1\\n2\"}",
        "sysctl: {net.ipv4.a b: 1}",
        "allow-sysctls: net.*",
        "allow-sysctls: [kernel.*]",
        "allow-sysctls: ['*']",
        "allow-sysctls: ['net.*.x']",
        "allow-annotations: [egress, egress]",
        "allow-annotations: [io.netlatch.egress]",
        "allow-annotations: egress",
        "always-denied: [metadata, metadata]",
        "always-denied: ['@metadata']",
        "always-denied: none",
        "net-admin: deny",
        "net-raw: yes",
        "host-network: allow",
        "router-advertisements: reject",
        "policy-icmp: drop",
        "policies: etc/netlatch",
        "policies: [/etc]",
        "policies: ''",
        "[]",
        "egress",
        "7",
        "{apiVersion: v1, kind: Pod}",
        "policies: \"/a\\0\"",
    ] {
        let value = only_document(text.as_bytes()).unwrap_or_else(|| panic!("{text}"));
        assert!(judge.refuses(&value).is_some(), "{text}: the schema takes it");
        assert!(Config::parse("c.yaml", text.as_bytes()).is_err(), "{text}: and the parser does");
    }
}

#[test]
fn what_a_schema_cannot_say_is_found_by_check_alone() {
    let judge = Judge::of(Schema::Config);
    for text in [
        // The grammar of lists.
        "egress: 10.0.0.1/8",
        "egress: 300.0.0.1",
        "egress: '!10.0.0.1'",
        "egress: '*:70000'",
        "egress: '*:9-8'",
        "egress: 'icmp/*:80'",
        "egress: '2001:db8::1:443'",
        "egress: '::ffff:10.0.0.1'",
        "egress: '[10.0.0.1]'",
        // The names of sysctls.
        "sysctl: {net.ipv4: 1}",
        "sysctl: {net.ipv4..x: 1}",
        "sysctl: {net.ipv4.conf.eth0: 1}",
        "allow-sysctls: ['net..*']",
        "sysctl: {net.ipv4.conf.IFNAME.rp_filter: 1}",
        // Notation, which YAML readers do not hand on.
        "sysctl: {net.ipv4.x: 0x10}",
        "sysctl: {net.ipv4.x: 1.0}",
        "ipv6: \"disable\"\n---\nipv6: leave",
        // Two values together.
        "sysctl: {net.ipv4.a: 1, net/ipv4/a: 2}",
        "{ipv6: disable, sysctl: {net.ipv6.conf.all.disable_ipv6: 0}}",
    ] {
        assert!(Config::parse("c.yaml", text.as_bytes()).is_err(), "{text}: the parser takes it");
        if let Some(value) = only_document(text.as_bytes()) {
            assert_eq!(judge.refuses(&value), None, "{text}");
        }
    }
}

#[test]
fn every_configuration_that_is_shown_is_one() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap();
    let judge = Judge::of(Schema::Config);
    // Each line of the file that is installed, as it would stand there without its mark.
    let installed = read(&root.join("scripts/config.yaml"));
    let lines: Vec<&str> =
        installed.lines().filter_map(|line| line.strip_prefix('#').filter(|l| !l.starts_with(' '))).collect();
    let lines: Vec<&str> = lines.into_iter().filter(|line| !line.is_empty()).collect();
    assert!(lines.len() > 12, "{lines:?}");
    let mut shown = vec![lines.join("\n")];
    let guides = std::fs::read_dir(root.join("src/docs")).unwrap().map(|entry| entry.unwrap().path());
    for path in guides.chain([root.join("README.md")]).filter(|path| path.extension().is_some_and(|ext| ext == "md")) {
        let text = read(&path);
        shown.extend(text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()));
    }
    let mut seen = 0;
    for text in &shown {
        // Others are manifests.
        let Some(value) = only_document(text.as_bytes()).filter(|value| value.get("apiVersion").is_none()) else {
            continue;
        };
        // One is shown with its mistake.
        let refused = judge.refuses(&value);
        assert_eq!(Config::parse("c.yaml", text.as_bytes()).is_ok(), refused.is_none(), "{text}: {refused:?}");
        seen += usize::from(refused.is_none());
    }
    assert!(seen >= 2, "{seen}");
}

#[test]
fn what_was_kept_of_fuzzing_is_judged_alike() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let of = |name: &str| {
        let files = std::fs::read_dir(corpus.join(name)).unwrap().map(|entry| entry.unwrap().path());
        files.map(|path| std::fs::read(path).unwrap()).collect::<Vec<_>>()
    };
    for bytes in of("config") {
        let text = String::from_utf8_lossy(&bytes);
        config_is_judged(&text, Config::parse("c.yaml", text.as_bytes()).is_ok());
    }
    for bytes in of("state") {
        state_is_judged(&bytes, State::parse(&bytes).is_ok());
    }
    for bytes in of("lists") {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let annotations = BTreeMap::from([("io.netlatch.egress".to_owned(), text)]);
        annotations_are_judged(&annotations, Requests::parse(&annotations).is_ok());
    }
}

/// Entries that are good, and that allow.
const ENTRIES: [&str; 14] = [
    "*",
    "*:443",
    "10.0.0.0/8",
    "10.0.0.1",
    "tcp/10.0.0.2:443",
    "udp/*:53",
    "icmp/*",
    "sctp/192.0.2.0/24:1-65535",
    "::/0",
    "[fd00:ec2::254]:443",
    "@internet",
    "@metadata:80",
    "2001:db8::/32",
    "[::1]",
];

/// Entries that are none, and that a pattern tells from them.
const NO_ENTRIES: [&str; 8] = ["", "nonsense", "*:0", "10.0.0.0/8;", "@intranet", "!!*", "tls/*", "[::1"];

const WORDS: [&str; 22] = [
    "leave",
    "disable",
    "loopback-only",
    "enable",
    "host",
    "kernel-defaults",
    "enforce",
    "audit",
    "reject",
    "drop",
    "refuse",
    "allow",
    "host-side",
    "guard",
    "skip",
    "accept",
    "rules",
    "metadata",
    "egress",
    "sysctl",
    "none",
    "Leave",
];

/// Keys of the configuration, and one that is none.
const KEYS: [&str; 17] = [
    "egress",
    "ingress",
    "ipv6",
    "devconf",
    "mode",
    "on-denied",
    "sysctl",
    "allow-sysctls",
    "allow-annotations",
    "always-denied",
    "net-admin",
    "net-raw",
    "host-network",
    "router-advertisements",
    "policy-icmp",
    "policies",
    "polices",
];

fn texts(from: &'static [&'static str], most: usize) -> impl Strategy<Value = Value> {
    proptest::collection::vec(select(from), 0..most).prop_map(|texts| json!(texts))
}

fn some_value() -> impl Strategy<Value = Value> {
    let sysctls = proptest::collection::btree_map(
        select(vec![
            "net.ipv4.tcp_fin_timeout",
            "net/core/somaxconn",
            "net.ipv4.conf.eth0/1.rp_filter",
            "kernel.x",
            "net",
        ]),
        prop_oneof![
            3 => any::<i64>().prop_map(|value| json!(value)),
            3 => select(vec!["1", "4096 87380\t6291456", " 1 ", "", " ", "1\n2", "\u{e9}"]).prop_map(|text| json!(text)),
            1 => Just(json!(1.5)),
            1 => Just(json!(u64::MAX)),
            1 => Just(Value::Null),
            1 => Just(json!(["1"])),
        ],
        0..3,
    );
    prop_oneof![
        6 => select(&WORDS[..]).prop_map(|word| json!(word)),
        3 => texts(&ENTRIES, 4),
        // A string of denials alone is a list to a schema; apart they are not.
        2 => (subsequence(ENTRIES.to_vec(), 1..4), select(vec![", ", " ", ",\n"]))
            .prop_map(|(entries, separator)| json!(entries.join(separator))),
        1 => texts(&NO_ENTRIES, 3),
        2 => proptest::collection::vec(select(vec!["!10.0.0.1", "!@metadata", "*", "none", "x:y"]), 1..4).prop_map(|t| json!(t)),
        2 => sysctls.prop_map(|sysctls| json!(sysctls)),
        2 => texts(&WORDS, 3),
        2 => texts(&["net.*", "net.core.somaxconn", "net/ipv4/tcp_*", "kernel.*", "*", "net.core.a*b"], 3),
        2 => texts(&["egress", "ports", "sysctl", "metadata", "host", "egress"], 3),
        1 => select(vec!["/etc/policies", "/", "etc", "", "/a\u{0}"]).prop_map(|text| json!(text)),
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(|value| json!(value)),
        1 => any::<i32>().prop_map(|value| json!(value)),
        1 => Just(json!({})),
    ]
}

/// A configuration with at most one thing in it that need not be right.
fn some_config() -> impl Strategy<Value = Value> {
    let good = json!({
        "egress": ["10.0.0.0/8", "!10.0.0.1"], "ingress": "none", "ipv6": "leave", "mode": "audit", "always-denied": [],
        "sysctl": {"net.ipv4.tcp_rmem": "1 2 3"}, "policies": "/p",
    });
    let fitting = select(vec![
        ("egress", json!("*")),
        ("ingress", json!(["*:443", "!10.0.0.1"])),
        ("devconf", json!("host")),
        ("allow-sysctls", json!(["net.*"])),
        ("allow-annotations", json!(["egress", "on-denied"])),
        ("always-denied", json!(["host", "private"])),
        ("net-admin", json!("host-side")),
        ("net-raw", json!("guard")),
        ("host-network", json!("refuse")),
        ("router-advertisements", json!("accept")),
        ("policy-icmp", json!("rules")),
    ]);
    let last = prop_oneof![2 => (select(&KEYS[..]), some_value()), 1 => fitting];
    (subsequence(KEYS[..7].to_vec(), 0..4), last).prop_map(move |(kept, (key, value))| {
        let kept = kept.into_iter().filter_map(|key| Some((key.to_owned(), good.get(key)?.clone())));
        let mut config: Map<String, Value> = kept.collect();
        config.insert(key.to_owned(), value);
        config.into()
    })
}

fn some_annotations() -> impl Strategy<Value = BTreeMap<String, String>> {
    let keys = select(vec![
        "egress",
        "ingress",
        "ipv6",
        "devconf",
        "mode",
        "on-denied",
        "namespace",
        "labels",
        "ports",
        "sysctl.net.ipv4.tcp_fin_timeout",
        "sysctl.net/core/somaxconn",
        "sysctl.kernel.x",
        "sysctl",
        "egres",
        "",
        "Egress",
    ]);
    let prefix = select(vec![
        "io.netlatch.",
        "io.netlatch.",
        "io.netlatch.",
        "io.netlatch.",
        "io.netlatch.",
        "IO.netlatch.",
        "io.netlatch/",
        "io.netlatch",
        "io.netlatchd.",
        "io.netlatch-x.",
        "io.netlatch\u{e9}",
        "io.example.",
    ]);
    let value = prop_oneof![
        4 => select(&WORDS[..]).prop_map(str::to_owned),
        2 => subsequence(ENTRIES.to_vec(), 1..4).prop_map(|entries| entries.join(", ")),
        1 => select(&NO_ENTRIES[..]).prop_map(str::to_owned),
        3 => select(vec![
            "shop", "a-b", "-a", "Shop", "", "a b", "app=web", "app=web,tier=", "k8s.io/x=y , b=c", "app", "=x", "a=1,,b=2",
            "http=8080/tcp", "http=8080,dns=53/udp", " http=80/sctp ", "http=080", "http=80/icmp", "http=0", "http=",
            "-1", " -1\t", "-1\n",
        ]).prop_map(str::to_owned),
    ];
    proptest::collection::btree_map((prefix, keys).prop_map(|(prefix, key)| format!("{prefix}{key}")), value, 0..4)
}

fn some_state() -> impl Strategy<Value = Value> {
    let text =
        select(vec!["", ".", "..", "a", "a/b", "1.0.2", "/run/b", "/", "creating", "frozen", "ü", "/a\u{0}", "..."]);
    let field = prop_oneof![
        8 => text.prop_map(|text| json!(text)),
        2 => select(vec![0, 1, -1, 2_147_483_647, 2_147_483_648_i64]).prop_map(|number| json!(number)),
        1 => Just(Value::Null),
        1 => Just(json!(1.5)),
        1 => Just(json!(true)),
        1 => Just(json!({"a": "b"})),
        1 => Just(json!({"a": 1})),
        1 => Just(json!({})),
        1 => Just(json!([])),
    ];
    let keys = select(vec!["ociVersion", "id", "status", "pid", "bundle", "annotations", "root"]);
    let whole = prop_oneof![Just(json!({})), Just(json!({"ociVersion": "1.0", "id": "c"}))];
    (whole, proptest::collection::btree_map(keys, field, 0..4)).prop_map(|(mut state, fields)| {
        for (key, field) in fields {
            state[key] = field;
        }
        state
    })
}

/// Text that is a list, or nearly.
fn some_list() -> impl Strategy<Value = String> {
    let near = (subsequence(ENTRIES.to_vec(), 1..4), 0..30usize, "[!*@0-9af:./\\[\\], \t-]{0,2}").prop_map(
        |(entries, at, with)| {
            let mut text = entries.join(",");
            let at = text.char_indices().map(|(at, _)| at).nth(at).unwrap_or(0);
            text.insert_str(at, &with);
            text
        },
    );
    prop_oneof![near, "[!*@0-9af:./\\[\\], \tnoetcpudsi-]{0,16}", "\\PC{0,6}"]
}

#[test]
fn a_configuration_that_is_written_is_judged_alike_by_schema_and_parser() {
    let judge = Judge::of(Schema::Config);
    let (good, bad) = (Cell::new(0), Cell::new(0));
    proptest!(ProptestConfig::with_cases(1500), |(config in some_config())| {
        let refused = judge.refuses(&config);
        prop_assert_eq!(refused.is_none(), is_config(&config), "{}: {:?}", config, refused);
        let count = if refused.is_none() { &good } else { &bad };
        count.set(count.get() + 1);
    });
    assert!(good.get() > 100 && bad.get() > 100, "{good:?} good, {bad:?} bad");
}

#[test]
fn annotations_are_judged_alike_by_schema_and_parser() {
    let judge = Judge::of(Schema::Annotations);
    let (good, bad) = (Cell::new(0), Cell::new(0));
    proptest!(ProptestConfig::with_cases(1500), |(annotations in some_annotations())| {
        let refused = judge.refuses(&json!(annotations));
        prop_assert_eq!(refused.is_none(), Requests::parse(&annotations).is_ok(), "{:?}: {:?}", annotations, refused);
        let count = if refused.is_none() { &good } else { &bad };
        count.set(count.get() + 1);
    });
    assert!(good.get() > 100 && bad.get() > 100, "{good:?} good, {bad:?} bad");
}

#[test]
fn a_state_is_judged_alike_by_schema_and_parser() {
    let judge = Judge::of(Schema::State);
    let (good, bad) = (Cell::new(0), Cell::new(0));
    proptest!(ProptestConfig::with_cases(1500), |(state in some_state())| {
        let refused = judge.refuses(&state);
        prop_assert_eq!(refused.is_none(), State::parse(state.to_string().as_bytes()).is_ok(), "{}: {:?}", state, refused);
        let count = if refused.is_none() { &good } else { &bad };
        count.set(count.get() + 1);
    });
    assert!(good.get() > 100 && bad.get() > 100, "{good:?} good, {bad:?} bad");
}

#[test]
fn no_list_that_works_is_marked_in_an_editor() {
    let (config, annotations) = (Judge::of(Schema::Config), Judge::of(Schema::Annotations));
    let good = Cell::new(0);
    proptest!(ProptestConfig::with_cases(1500), |(list in some_list())| {
        let works = List::parse(&list, &Origin::Builtin("list")).is_ok();
        prop_assert!(!works || config.refuses(&json!({"egress": list})).is_none(), "{:?}", list);
        prop_assert!(!works || annotations.refuses(&json!({"io.netlatch.egress": list})).is_none(), "{:?}", list);
        let entries: Vec<&str> = list.split(',').collect();
        let works_apart = List::parse_apart(entries.iter().map(|entry| (*entry, 1)), &Origin::Builtin("list")).is_ok();
        prop_assert!(!works_apart || config.refuses(&json!({"egress": entries})).is_none(), "{:?}", entries);
        good.set(good.get() + usize::from(works));
    });
    assert!(good.get() > 100, "{good:?}");
}
