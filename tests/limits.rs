//! Limits: each is in their guide with its value, holds at its last step, and is named one step further.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use netlatch::docs::guide;
use netlatch::document::{self, MAX_ALIASED, MAX_BYTES, MAX_DEPTH, MAX_DOCUMENTS, MAX_FINDINGS, MAX_NODES};
use netlatch::error::{Cause, Failure};
use netlatch::net::{Cidr, Direction, Origin, PortRange, Transport};
use netlatch::oci::annotations::{MAX_LIST, MAX_VALUE};
use netlatch::oci::bundle::MAX_BUNDLE;
use netlatch::oci::state::{MAX_ID, MAX_STATE};
use netlatch::oci::{Bundle, Requests, State};
use netlatch::policy::compile::{MAX_PAIRS, Unsupported, govern};
use netlatch::policy::list::{List, MAX_ENTRIES};
use netlatch::policy::model::{Action, Labels, Namespaces, NetworkPolicy, Peer, Policies, Port, Rule, Selector, Who};
use netlatch::policy::names::{MAX_LABELS, MAX_PORTS};
use netlatch::policy::parse::{Collector, MAX_ENDPOINTS};
use netlatch::policy::watch::{Holder, Holders, Identity, WatchedGroup, WatchedPeer};
use netlatch::sysctl::MAX_SYSCTLS;

// --- The guide ------------------------------------------------------------------------------------------------------

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(dir: PathBuf, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { sources(path, into) } else { into.push(path) }
    }
}

/// `8 << 20`, `200_000`.
fn value(text: &str) -> Option<u64> {
    let number = |text: &str| text.trim().replace('_', "").parse::<u64>().ok();
    match text.split_once("<<") {
        Some((base, shift)) => Some(number(base)? << number(shift)?),
        None => number(text),
    }
}

/// `8 MiB`, `200,000`.
fn shown(text: &str) -> Option<u64> {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let unit = match unit {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return None,
    };
    Some(number.replace(',', "").parse::<u64>().ok()? * unit)
}

#[test]
fn the_guide_names_every_limit_of_the_code_with_its_value() {
    let mut files = Vec::new();
    sources(root().join("src"), &mut files);
    let mut limits = BTreeMap::new();
    for file in files {
        for line in fs::read_to_string(&file).unwrap().lines() {
            let Some(rest) = line.strip_prefix("pub const MAX_") else {
                assert!(!line.contains("const MAX_"), "a limit is public: {line}");
                continue;
            };
            let (name, rest) = rest.split_once(':').unwrap();
            let (_, is) = rest.trim_end_matches(';').split_once('=').unwrap();
            let before = limits.insert(format!("MAX_{name}"), value(is).unwrap_or_else(|| panic!("{line}")));
            assert_eq!(before, None, "two limits have one name: {name}");
        }
    }
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        Some((cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?.to_owned(), shown(cells.get(2)?)?))
    };
    let told: BTreeMap<String, u64> = guide("limits").unwrap().text.lines().filter_map(row).collect();
    assert_eq!(told, limits);
}

// --- At the limit, and one past it ----------------------------------------------------------------------------------

/// Whether what was refused is refused with this limit's name and this code, in a line.
fn names(failure: &Failure, limit: &str, code: u8) {
    let line = failure.to_string();
    assert_eq!(failure.exit_code(), code, "{line}");
    assert!(line.contains(&format!("({limit})")) && line.len() < 4096, "{limit}: {line}");
}

fn annotations(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Requests, Failure> {
    Requests::parse(&pairs.into_iter().collect())
}

fn annotation(name: &str, value: String) -> Result<Requests, Failure> {
    annotations([(format!("io.netlatch.{name}"), value)])
}

#[test]
fn a_state_and_its_id_have_a_longest() {
    let state = |id: usize, pad: usize| {
        let text = format!(r#"{{"ociVersion":"1","id":"{}"}}"#, "i".repeat(id));
        format!("{text}{}", " ".repeat(pad.saturating_sub(text.len())))
    };
    State::parse(state(MAX_ID, MAX_STATE).as_bytes()).unwrap();
    names(&State::parse(state(MAX_ID + 1, 0).as_bytes()).unwrap_err(), "MAX_ID", 12);
    names(&State::parse(state(1, MAX_STATE + 1).as_bytes()).unwrap_err(), "MAX_STATE", 12);
}

#[test]
fn a_bundle_and_its_sysctls_have_a_most() {
    let sysctls = |count: usize| {
        let each: Vec<String> = (0..count).map(|n| format!(r#""net.x{n}":"1""#)).collect();
        format!(r#"{{"linux":{{"sysctl":{{{}}}}}}}"#, each.join(","))
    };
    Bundle::parse("f", sysctls(MAX_SYSCTLS).as_bytes()).unwrap();
    names(&Bundle::parse("f", sysctls(MAX_SYSCTLS + 1).as_bytes()).unwrap_err(), "MAX_SYSCTLS", 13);
    let padded = |length: usize| format!("{{}}{}", " ".repeat(length - 2));
    Bundle::parse("f", padded(MAX_BUNDLE).as_bytes()).unwrap();
    names(&Bundle::parse("f", padded(MAX_BUNDLE + 1).as_bytes()).unwrap_err(), "MAX_BUNDLE", 13);
}

#[test]
fn annotations_have_a_longest() {
    let list = |length: usize| format!("10.0.0.1{}", " ".repeat(length - 8));
    annotation("egress", list(MAX_LIST)).unwrap();
    names(&annotation("egress", list(MAX_LIST + 1)).unwrap_err(), "MAX_LIST", 15);
    let labels = |length: usize| format!("a=b{}", " ".repeat(length - 3));
    annotation("labels", labels(MAX_VALUE)).unwrap();
    names(&annotation("labels", labels(MAX_VALUE + 1)).unwrap_err(), "MAX_VALUE", 15);
}

#[test]
fn a_containers_labels_ports_and_sysctls_have_a_most() {
    let joined = |count: usize, item: fn(usize) -> String| (0..count).map(item).collect::<Vec<_>>().join(",");
    let label = |n| format!("l{n}=v");
    assert_eq!(annotation("labels", joined(MAX_LABELS, label)).unwrap().labels.unwrap().value.len(), MAX_LABELS);
    names(&annotation("labels", joined(MAX_LABELS + 1, label)).unwrap_err(), "MAX_LABELS", 15);
    let port = |n| format!("p{n}={}", n + 1);
    assert_eq!(annotation("ports", joined(MAX_PORTS, port)).unwrap().ports.unwrap().value.len(), MAX_PORTS);
    names(&annotation("ports", joined(MAX_PORTS + 1, port)).unwrap_err(), "MAX_PORTS", 15);
    let sysctls =
        |count: usize| annotations((0..count).map(|n| (format!("io.netlatch.sysctl.net.ipv4.x{n}"), "1".to_owned())));
    assert_eq!(sysctls(MAX_SYSCTLS).unwrap().sysctls.len(), MAX_SYSCTLS);
    let failure = sysctls(MAX_SYSCTLS + 5).unwrap_err();
    names(&failure, "MAX_SYSCTLS", 15);
    assert!(matches!(&failure.cause, Cause::Annotation(findings) if findings.len() == 1), "told once: {failure}");
}

#[test]
fn what_an_engine_says_of_labels_and_ports_has_the_same_most() {
    let labels = |count: usize| {
        let each: Vec<String> = (0..count).map(|n| format!(r#""l{n}":"v""#)).collect();
        let labels = format!("{{{}}}", each.join(","));
        let pairs = [("io.kubernetes.cri-o.ContainerType", "sandbox"), ("io.kubernetes.cri-o.Labels", labels.as_str())];
        annotations(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())))
    };
    assert_eq!(labels(MAX_LABELS).unwrap().labels.unwrap().value.len(), MAX_LABELS);
    names(&labels(MAX_LABELS + 1).unwrap_err(), "MAX_LABELS", 15);
    let ports = |count: usize| {
        let each: Vec<String> = (0..count).map(|n| format!(r#"{{"name":"p{n}","containerPort":{}}}"#, n + 1)).collect();
        let ports = format!("[{}]", each.join(","));
        let pairs =
            [("io.kubernetes.cri.container-type", "container"), ("io.kubernetes.container.ports", ports.as_str())];
        annotations(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())))
    };
    assert_eq!(ports(MAX_PORTS).unwrap().ports.unwrap().value.len(), MAX_PORTS);
    names(&ports(MAX_PORTS + 1).unwrap_err(), "MAX_PORTS", 15);
}

#[test]
fn a_list_has_a_most_entries() {
    let list = |count: usize| List::parse(&"*:1 ".repeat(count), &Origin::Builtin("test"));
    assert_eq!(list(MAX_ENTRIES).unwrap().entries().len(), MAX_ENTRIES);
    let problems = list(MAX_ENTRIES + 1).unwrap_err();
    assert!(problems[0].to_string().contains("(MAX_ENTRIES)"), "{problems:?}");
}

/// What is found in a text, the documents' number first.
fn found(text: &str) -> (usize, Vec<String>) {
    let mut findings = Vec::new();
    let roots = document::parse("d", text.as_bytes(), &mut findings).len();
    (roots, findings.iter().map(ToString::to_string).collect())
}

fn one_finding(text: &str, limit: &str) {
    let (_, findings) = found(text);
    assert!(findings.len() == 1 && findings[0].contains(&format!("({limit})")), "{limit}: {findings:?}");
}

#[test]
fn a_document_keeps_to_its_limits() {
    let nested = |levels: usize| format!("{}1{}", "[".repeat(levels - 1), "]".repeat(levels - 1));
    assert_eq!(found(&nested(MAX_DEPTH)), (1, vec![]));
    one_finding(&nested(MAX_DEPTH + 1), "MAX_DEPTH");
    // The list itself is one.
    let values = |count: usize| format!("[{}]", "1,".repeat(count - 1));
    assert_eq!(found(&values(MAX_NODES)), (1, vec![]));
    one_finding(&values(MAX_NODES + 1), "MAX_NODES");
    let documents = |count: usize| "--- 1\n".repeat(count);
    assert_eq!(found(&documents(MAX_DOCUMENTS)), (MAX_DOCUMENTS, vec![]));
    one_finding(&documents(MAX_DOCUMENTS + 1), "MAX_DOCUMENTS");
    // The anchored value is held once more, and each alias repeats it.
    let aliases = |count: usize| format!("[&a 1{}]", ", *a".repeat(count - 1));
    assert_eq!(found(&aliases(MAX_ALIASED)), (1, vec![]));
    one_finding(&aliases(MAX_ALIASED + 1), "MAX_ALIASED");
    let long = |length: usize| format!("1{}", " ".repeat(length - 1));
    assert_eq!(found(&long(MAX_BYTES)), (1, vec![]));
    one_finding(&long(MAX_BYTES + 1), "MAX_BYTES");
}

#[test]
fn no_more_is_told_of_a_text_than_anybody_reads() {
    let (_, findings) = found(&"a: 1\n".repeat(2 * MAX_FINDINGS));
    assert_eq!(findings.len(), MAX_FINDINGS);
    let mut collector = Collector::new();
    collector.read("p", "kind: Nothing\napiVersion: v1\n---\n".repeat(2 * MAX_FINDINGS).as_bytes());
    assert_eq!(collector.finish().errors.len(), MAX_FINDINGS);
}

#[test]
fn the_configuration_has_a_most_sysctls() {
    let config = |count: usize| {
        let mut text = "sysctl:\n".to_owned();
        (0..count).for_each(|n| writeln!(text, "  net.ipv4.x{n}: 1").unwrap());
        netlatch::settings::Config::parse("c", text.as_bytes())
    };
    assert_eq!(config(MAX_SYSCTLS).unwrap().sysctls.len(), MAX_SYSCTLS);
    let failure = config(MAX_SYSCTLS + 5).unwrap_err();
    assert_eq!(failure.exit_code(), 14);
    assert!(failure.to_string().contains("(MAX_SYSCTLS)"), "{failure}");
}

#[test]
fn endpoints_are_counted_as_addresses_times_ports() {
    let slice = |addresses: usize, ports: usize| {
        let address = |n: usize| IpAddr::from((0x0a00_0000 + n as u32).to_be_bytes()).to_string();
        let addresses: Vec<String> = (0..addresses).map(address).collect();
        let ports: Vec<String> = (0..ports).map(|n| format!("{{name: p{n}, port: {}}}", n + 1)).collect();
        let text = format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: s, labels: {{kubernetes.io/service-name: s}}}}\naddressType: IPv4\nendpoints: [{{addresses: [{}]}}]\nports: [{}]\n",
            addresses.join(", "),
            ports.join(", ")
        );
        let mut collector = Collector::new();
        collector.read("p", text.as_bytes());
        collector.finish().errors
    };
    let ports = 1000;
    assert_eq!(slice(MAX_ENDPOINTS / ports, ports), []);
    let errors = slice(MAX_ENDPOINTS / ports + 1, ports);
    assert!(errors.len() == 1 && errors[0].to_string().contains("(MAX_ENDPOINTS)"), "{errors:?}");
}

fn here() -> Origin {
    Origin::Builtin("test")
}

#[test]
fn ports_times_the_parts_of_peers_are_counted_before_they_are_multiplied() {
    let block = |n: usize| Peer {
        who: Who::Block { cidr: Cidr::host(IpAddr::from((n as u32).to_be_bytes())), except: Vec::new() },
        origin: here(),
    };
    let port = |n: usize| Port::Number {
        transport: Transport::Tcp,
        ports: PortRange::new(n as u16 + 1, n as u16 + 1).unwrap(),
    };
    let governed = |blocks: usize, ports: usize| {
        let rule = Rule {
            action: Action::Accept,
            peers: (0..blocks).map(block).collect(),
            ports: (0..ports).map(port).collect(),
            name: None,
            origin: here(),
        };
        let policy = NetworkPolicy {
            namespace: "default".into(),
            name: "p".into(),
            pods: Selector::default(),
            ingress: None,
            egress: Some(vec![rule]),
            origin: here(),
        };
        let subject = Identity { namespace: "default".into(), ..Identity::default() };
        govern(&Policies { network: vec![policy], cluster: Vec::new() }, &subject, Direction::Egress, &[]).map(drop)
    };
    let ports = 1000;
    assert_eq!(governed(MAX_PAIRS / ports, ports), Ok(()));
    assert_eq!(governed(MAX_PAIRS / ports + 1, ports), Err(Unsupported::Pairs(here())));
}

#[test]
fn questions_are_counted_for_the_pods_that_a_peer_may_mean() {
    let identity = |namespace: &str, n: usize| Identity {
        namespace: namespace.into(),
        labels: Labels::from([("n".to_owned(), n.to_string())]),
        ..Identity::default()
    };
    let identities: Vec<Identity> = (0..10).map(|n| identity("a", n)).chain((0..5).map(|n| identity("b", n))).collect();
    let address = ["10.0.0.1".parse().unwrap()];
    let holders = Holders::new(identities.iter().map(|identity| Holder { identity, addresses: &address }));
    let questions = |namespaces| {
        let peer = WatchedPeer { namespaces, pods: Selector::default(), within: None, ports: Vec::new() };
        WatchedGroup { set: "s".into(), action: Action::Accept, peers: vec![peer] }.questions(&holders)
    };
    // A selector without conditions asks one.
    assert_eq!(questions(Namespaces::Own("a".into())), 10);
    assert_eq!(questions(Namespaces::Own("nobody".into())), 0);
    assert_eq!(questions(Namespaces::Selected(Selector::default())), 2 * 15);
}

#[test]
fn no_name_of_a_limit_is_in_a_message_and_not_in_the_guide() {
    let mut files = Vec::new();
    sources(root().join("src"), &mut files);
    let named: BTreeSet<String> = files
        .iter()
        .flat_map(|file| {
            let text = fs::read_to_string(file).unwrap();
            let names = text.split("(MAX_").skip(1).map(|rest| rest.split(')').next().unwrap_or_default().to_owned());
            names.filter(|name| name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')).collect::<Vec<_>>()
        })
        .collect();
    assert!(named.len() > 10, "{named:?}");
    for name in named {
        assert!(guide("limits").unwrap().text.contains(&format!("| `MAX_{name}` |")), "{name}");
    }
}
