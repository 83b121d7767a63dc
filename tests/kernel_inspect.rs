//! `netlatch inspect`, judged by `nft -j list ruleset` and `ip -j` in the same namespace.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use support::container::{Dialect, binary, hook_in};
use support::namespace::run_with_input;
use support::probe::udp_send;
use support::schema::described;
use support::{Container, Namespace};
use tempfile::TempDir;

const LISTS: &str = "10.0.0.0/8:443, 10.128.0.0/9, @internet:443, 192.0.2.0/24:53-60, icmp/198.51.100.0/24, \
                     udp/[2001:db8::/32]:53, tcp/203.0.113.9:80, *:1024-1030, !10.9.9.0/24";

/// A host with its state directory and configuration.
struct Host {
    dir: TempDir,
    config: String,
}

impl Host {
    fn new() -> Host {
        let dir = tempfile::tempdir().expect("a directory");
        let config = format!("policies: {}\n", dir.path().join("policies").display());
        fs::create_dir(dir.path().join("policies")).expect("a directory");
        Host { dir, config }
    }

    fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    fn stage(&self, stage: &str, state: &Value) {
        let output = hook_in(&self.dir, stage, state, Some(&self.config));
        assert!(output.status.success(), "{stage}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn start(&self, container: &Container) {
        self.stage("createRuntime", &container.state(Dialect::Runc));
    }

    fn inspect(&self, args: &[&str]) -> Output {
        let mut command = Command::new(binary());
        let (config, run_dir) = (self.dir.path().join("config.yaml"), self.run_dir());
        fs::write(&config, &self.config).expect("the configuration is written");
        command.arg("inspect").args(args).arg("--config").arg(config).arg("--run-dir").arg(run_dir).env_clear();
        command.output().expect("netlatch runs")
    }

    fn text(&self, args: &[&str], code: i32) -> String {
        let output = self.inspect(args);
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stderr.is_empty());
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    fn json(&self, id: &str) -> Value {
        described("inspect", &self.text(&[id, "--output", "json"], 0))
    }

    /// Every file of the state directory with its content.
    fn records(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.run_dir()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
                if entry.is_dir() {
                    folders.push(entry);
                } else {
                    found.insert(entry.clone(), fs::read(&entry).expect("a file"));
                }
            }
        }
        found
    }
}

/// A namespace with a way out that leads nowhere.
fn connected() -> Namespace {
    let namespace = Namespace::new();
    namespace.ip_batch(
        "link add eth0 type veth peer name far\naddr add 10.77.0.2/24 dev eth0\naddr add 2001:db8:77::2/64 dev eth0 nodad\n\
         link set eth0 up\nlink set far up\nroute add default via 10.77.0.1\n",
    );
    namespace
}

fn send(from: &Namespace, to: &str, times: usize) {
    let to: SocketAddr = to.parse().expect("an address");
    for _ in 0..times {
        let _ = udp_send(from, to, b"knock");
    }
}

/// Whether an object is of family inet. (The guard against packet sockets is a table of family netdev.)
fn is_inet(object: &Value) -> bool {
    let members = object.as_object().into_iter().flat_map(|object| object.values());
    members.filter_map(|member| member.get("family")).any(|family| family == "inet")
}

/// What nft says of the rules of a chain: comment, and the counter where there is one.
fn by_nft(objects: &[Value]) -> BTreeMap<String, Vec<(String, Value)>> {
    let mut chains: BTreeMap<String, Vec<(String, Value)>> = BTreeMap::new();
    for object in objects.iter().filter(|object| is_inet(object)) {
        if let Some(chain) = object.get("chain") {
            chains.entry(chain["name"].as_str().unwrap().to_owned()).or_default();
        }
        if let Some(rule) = object.get("rule") {
            let counter = rule["expr"].as_array().unwrap().iter().find_map(|expr| expr.get("counter"));
            let counter = counter.map_or(Value::Null, |c| json!([c["packets"], c["bytes"]]));
            let comment = rule["comment"].as_str().unwrap_or_default().to_owned();
            chains.entry(rule["chain"].as_str().unwrap().to_owned()).or_default().push((comment, counter));
        }
    }
    chains
}

fn by_us(said: &Value) -> BTreeMap<String, Vec<(String, Value)>> {
    let rule = |rule: &Value| {
        let counter = if rule["packets"].is_null() { Value::Null } else { json!([rule["packets"], rule["bytes"]]) };
        (rule["comment"].as_str().unwrap().to_owned(), counter)
    };
    let chain = |chain: &Value| {
        let rules = chain["rules"].as_array().unwrap().iter().map(rule).collect();
        (chain["name"].as_str().unwrap().to_owned(), rules)
    };
    said["chains"].as_array().unwrap().iter().map(chain).collect()
}

#[test]
fn rules_and_counters_are_those_that_nft_lists() {
    let (host, namespace) = (Host::new(), connected());
    let container = Container::of(&namespace).with("egress", LISTS).with("ingress", "10.0.0.0/8:80");
    host.start(&container);
    send(&namespace, "10.9.9.9:5000", 3);
    send(&namespace, "[2001:db8:77::9]:9", 2);
    let said = host.json(&container.id);
    // Both are read while nothing is sent: neighbour discovery of the link aside, which has no counter.
    let judge = by_nft(&namespace.nft_json());
    assert_eq!(by_us(&said), judge);
    let counted: u64 = judge.values().flatten().filter_map(|(_, counter)| counter[0].as_u64()).sum();
    assert!(counted >= 5, "{judge:?}");
    assert_eq!((&said["rules"], &said["compared"]["result"]), (&json!("as recorded"), &json!("equal")), "{said:#}");

    let sets = namespace.nft_json();
    let elements = |set: &Value| (set["name"].clone(), set.get("elem").and_then(Value::as_array).map_or(0, Vec::len));
    let judge: Vec<_> = sets.iter().filter_map(|object| object.get("set")).map(elements).collect();
    let ours: Vec<_> = said["sets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|set| (set["name"].clone(), set["elements"].as_u64().unwrap() as usize))
        .collect();
    assert_eq!(ours, judge);

    let text = host.text(&[&container.id, "--rules"], 0);
    assert!(
        text.contains(" packets, ") && text.contains("    # annotation io.netlatch.egress: !10.9.9.0/24\n"),
        "{text}"
    );
    assert!(text.contains("\nchain output (hook output, priority 0, policy drop)\n"), "{text}");
    let table = host.text(&[], 0);
    let row: Vec<&str> = table.lines().nth(1).expect("a row").split_whitespace().collect();
    assert_eq!(row[..2], [container.id.as_str(), &container.pid.to_string()], "{table}");
    assert_eq!(row[3..], [counted.to_string().as_str(), "as", "recorded"], "{table}");
}

#[test]
fn the_text_of_the_rules_loads_as_what_the_kernel_holds() {
    for mode in ["enforce", "audit"] {
        let (host, namespace) = (Host::new(), Namespace::new());
        let container = Container::of(&namespace)
            .with("egress", LISTS)
            .with("ingress", "10.0.0.0/8:80-90, [2001:db8::/32]:8443, !10.3.0.0/16")
            .with("mode", mode)
            .with("ipv6", "loopback-only");
        host.start(&container);
        let said = host.json(&container.id);
        // The same sets and chains as nft lists them, and our text for the rules.
        let listed = namespace.run("nft", &["list", "table", "inet", "netlatch"], "");
        let mut rules: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for chain in said["chains"].as_array().unwrap() {
            let text = |rule: &Value| format!("{} comment {}", rule["rule"].as_str().unwrap(), rule["comment"]);
            let lines = chain["rules"].as_array().unwrap().iter().map(text).collect();
            rules.insert(chain["name"].as_str().unwrap().to_owned(), lines);
        }
        let (mut script, mut within) = (String::new(), None);
        for line in listed.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match (words.as_slice(), &within) {
                (["chain", name, "{"], None) => {
                    script.push_str(&format!("{line}\n"));
                    within = Some((*name).to_owned());
                }
                (["}"], Some(name)) => {
                    rules[name].iter().for_each(|rule| script.push_str(&format!("{rule}\n")));
                    script.push_str("}\n");
                    within = None;
                }
                (["type", ..], Some(_)) | (_, None) => script.push_str(&format!("{line}\n")),
                (_, Some(_)) => {}
            }
        }
        let other = Namespace::new();
        other.nft_load(&script);
        let sorted = |namespace: &Namespace| {
            let mut objects = namespace.nft_json();
            objects.retain(is_inet);
            for object in &mut objects {
                if let Some(elements) = object.pointer_mut("/set/elem").and_then(Value::as_array_mut) {
                    elements.sort_by_key(Value::to_string);
                }
                if let Some(exprs) = object.pointer_mut("/rule/expr").and_then(Value::as_array_mut) {
                    for counter in exprs.iter_mut().filter_map(|expr| expr.get_mut("counter")) {
                        *counter = Value::Null;
                    }
                }
            }
            objects
        };
        assert_eq!(sorted(&other), sorted(&namespace), "{mode}: {script}");
    }
}

#[test]
fn audit_shows_what_would_have_been_denied_as_an_entry_of_a_list() {
    let (host, namespace) = (Host::new(), connected());
    let container = Container::of(&namespace).with("egress", "10.1.0.0/16").with("mode", "audit");
    host.start(&container);
    for to in ["192.0.2.7:53", "198.51.100.1:5000", "[2001:db8:77::5]:123"] {
        send(&namespace, to, 1);
        // The kernel counts the time to expire in ticks.
        thread::sleep(Duration::from_millis(50));
    }
    let said = host.json(&container.id);
    let remembered = |name: &str| -> Vec<String> {
        let set = said["sets"].as_array().unwrap().iter().find(|set| set["name"] == name).expect("the set");
        let mut entries: Vec<String> =
            set["remembered"].as_array().unwrap().iter().map(|one| one["entry"].as_str().unwrap().to_owned()).collect();
        entries.retain(|entry| !entry.starts_with("icmp/"));
        entries.sort();
        entries
    };
    assert_eq!(remembered("egress_annotation_seen4"), ["udp/192.0.2.7:53", "udp/198.51.100.1:5000"]);
    assert_eq!(remembered("egress_annotation_seen6"), ["udp/[2001:db8:77::5]:123"]);
    let text = host.text(&[&container.id, "--rules"], 0);
    assert!(
        text.contains(
            "\nremembered in egress_annotation_seen4 (the latest first)\n  udp/198.51.100.1:5000\n  udp/192.0.2.7:53\n"
        ),
        "{text}"
    );
}

#[test]
fn what_somebody_changed_is_said() {
    let word = |host: &Host, id: &str| host.json(id)["rules"].clone();
    let (host, namespace) = (Host::new(), Namespace::new());
    let container =
        Container::of(&namespace).with("egress", "10.0.0.0/8:443, 10.1.0.0/16:80, 10.2.0.0/16:80, 10.3.0.0/16:80");
    host.start(&container);
    assert_eq!(word(&host, &container.id), "as recorded");

    namespace.run(
        "nft",
        &["insert", "rule", "inet", "netlatch", "output", "limit", "rate", "5/second", "meta", "mark", "7", "accept"],
        "",
    );
    let said = host.json(&container.id);
    assert_eq!((&said["rules"], &said["compared"]["result"]), (&json!("differ"), &json!("differs")));
    assert!(said["compared"]["details"][0].as_str().unwrap().contains("chain output has"), "{said:#}");
    // What it does not know it shows all the same.
    let text = host.text(&[&container.id, "--rules"], 0);
    assert!(text.contains("<limit> <meta key 3> 7 accept\n"), "{text}");

    host.start(&container);
    assert_eq!(word(&host, &container.id), "as recorded");
    let (name, elements) = {
        let sets = namespace.nft_json();
        let set =
            sets.iter().filter_map(|object| object.get("set")).find(|set| set["type"] == "ipv4_addr").expect("a set");
        (set["name"].as_str().unwrap().to_owned(), set["elem"].clone())
    };
    assert!(!elements.is_null());
    namespace.run("nft", &["flush", "set", "inet", "netlatch", &name], "");
    assert_eq!(word(&host, &container.id), "differ");

    namespace.run("nft", &["delete", "table", "inet", "netlatch"], "");
    assert_eq!(word(&host, &container.id), "missing");
    assert_eq!(host.json(&container.id)["not-covered"], json!([]), "what is not there covers nothing");
    namespace.nft_load("table inet netlatch { comment \"somebody\u{27}s\"; }");
    let said = host.json(&container.id);
    assert_eq!((&said["rules"], &said["table"]), (&json!("not as recorded"), &json!("somebody's")));
    namespace.run("nft", &["delete", "table", "inet", "netlatch"], "");
    namespace.nft_load("table inet netlatch { flags dormant; }");
    assert_eq!(word(&host, &container.id), "dormant");
}

#[test]
fn a_peer_that_is_missing_in_a_set_is_said() {
    let (host, web, db) = (Host::new(), connected(), Namespace::new());
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "db"},
        "spec": {"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}]},
    });
    let file = host.dir.path().join("policies/db.json");
    fs::write(&file, policy.to_string()).expect("a policy");
    let (mut first, mut second) = (Container::of(&web), Container::of(&db));
    first = first.with("labels", "app=web");
    second = second.with("labels", "app=db");
    host.start(&first);
    host.start(&second);
    let said = host.json(&second.id);
    assert_eq!(
        (&said["rules"], &said["compared"]),
        (&json!("as recorded"), &json!({"result": "equal", "details": []})),
        "{said:#}"
    );
    assert_eq!(said["identity"]["labels"], json!({"app": "db"}));
    let set = said["sets"]
        .as_array()
        .unwrap()
        .iter()
        .find(|set| set["elements"] == 1 && set["type"] == "ipv4_addr")
        .expect("the peers");
    let name = set["name"].as_str().unwrap().to_owned();
    db.run("nft", &["flush", "set", "inet", "netlatch", &name], "");
    let said = host.json(&second.id);
    assert_eq!(said["compared"], json!({"result": "differs", "details": [format!("set {name} has other members")]}));

    // A folder with a mistake hides what is in force no more than it changes it.
    fs::write(&file, "{").expect("a policy");
    let said = host.json(&second.id);
    assert_eq!(
        (&said["rules"], &said["compared"]["result"]),
        (&json!("as recorded, not compared"), &json!("not-compared"))
    );
}

#[test]
fn links_are_shown_as_ip_does_and_ipv6_as_it_is_on_each() {
    let (host, namespace) = (Host::new(), connected());
    let container = Container::of(&namespace).with("egress", "10.0.0.0/8");
    host.start(&container);
    namespace.set_sysctl("net/ipv6/conf/far/disable_ipv6", "1");
    let said = host.json(&container.id);
    let judge = namespace.ip_json(&["addr"]);
    for link in judge.as_array().unwrap() {
        let ours =
            said["links"].as_array().unwrap().iter().find(|one| one["name"] == link["ifname"]).expect("the link");
        let addresses: Vec<String> = link["addr_info"]
            .as_array()
            .unwrap()
            .iter()
            .map(|a| format!("{}/{}", a["local"].as_str().unwrap(), a["prefixlen"]))
            .collect();
        let mut both = [json!(addresses), ours["addresses"].clone()];
        both.iter_mut().for_each(|list| list.as_array_mut().unwrap().sort_by_key(Value::to_string));
        assert_eq!(both[0], both[1]);
        assert_eq!(ours["up"], link["flags"].as_array().unwrap().contains(&json!("UP")));
        let disabled = namespace.sysctl(&format!("net/ipv6/conf/{}/disable_ipv6", link["ifname"].as_str().unwrap()));
        assert_eq!(ours["disable-ipv6"], disabled);
    }
    assert_eq!(said["links"].as_array().unwrap().len(), judge.as_array().unwrap().len());
    assert!(host.text(&[&container.id], 0).contains("  far             up    IPv6 off"), "{said:#}");
}

#[test]
fn what_is_not_covered_comes_from_the_bundle() {
    let (host, namespace) = (Host::new(), Namespace::new());
    let container = Container::of(&namespace).with("egress", "10.0.0.0/8");
    container.write_config(&json!({
        "ociVersion": "1.0.2",
        "mounts": [{"destination": "/s", "type": "bind", "source": "/run/docker.sock"}],
        "linux": {"namespaces": [{"type": "pid"}, {"type": "network"}]},
    }));
    host.start(&container);
    let names = |said: &Value| -> Vec<String> {
        said["not-covered"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&host.json(&container.id)), ["engine-socket", "af-vsock"]);
    let text = host.text(&[&container.id], 0);
    assert!(text.contains("\nnot covered (what the rules do not govern)\n  engine-socket: "), "{text}");
    fs::remove_file(container.bundle().join("config.json")).expect("it was there");
    assert_eq!(names(&host.json(&container.id)), ["bundle-missing"]);
    container.write_config(&json!([]));
    let said = host.json(&container.id);
    assert!(said["notes"][0].as_str().unwrap().contains("config.json"), "{said:#}");
    assert!(names(&said).is_empty());
}

#[test]
fn a_start_says_in_one_line_of_the_log_what_somebody_asked_for() {
    let (host, namespace) = (Host::new(), Namespace::new());
    let container = Container::of(&namespace).with("egress", "10.0.0.0/8");
    let config = |mounts: Value| json!({"ociVersion": "1.0.2", "mounts": mounts, "linux": {"namespaces": [{"type": "pid"}, {"type": "network"}]}});
    // Without the host's /dev there is no system log, and what is said goes into a file.
    let start = || {
        let file = host.dir.path().join("config.yaml");
        fs::write(&file, &host.config).expect("the configuration is written");
        let script = "mount -t tmpfs none /dev && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(binary()).args(["createRuntime", "--config"]).arg(file);
        command.arg("--run-dir").arg(host.run_dir());
        let output = run_with_input(&mut command, container.state(Dialect::Runc).to_string().as_bytes());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let log = fs::read_to_string(host.run_dir().join("log")).expect("a log");
        let records = log.lines().map(|line| serde_json::from_str(line).expect("JSON"));
        records.filter(|record: &Value| record["PRIORITY"] == "4").collect::<Vec<Value>>()
    };
    assert_eq!(start(), [Value::Null; 0], "AF_VSOCK is everybody's");
    let many: Vec<Value> = (0..300)
        .map(|n| json!({"destination": format!("/{n}"), "type": "bind", "source": "/run/docker.sock"}))
        .collect();
    container.write_config(&config(json!(many)));
    let (log, id) = (start(), &container.id);
    let said = format!("container {id}: its rules do not cover engine-socket; `netlatch inspect` says more");
    assert_eq!(log.iter().map(|record| &record["MESSAGE"]).collect::<Vec<_>>(), [&said]);
}

#[test]
fn who_ended_and_who_never_was_are_told_apart_and_neither_is_done() {
    let host = Host::new();
    assert_eq!(host.text(&[], 0), "no container is recorded\n");
    assert!(host.text(&["web\u{1b}[2J"], 1).starts_with("no container \"web\\u{1b}[2J\" is recorded in "));
    assert!(host.text(&["../../etc/passwd"], 1).starts_with("no container "));
    assert!(host.text(&[""], 1).starts_with("no container \"\" is recorded in "));
    let (first, second) = (Namespace::new(), Namespace::new());
    let (one, two) = (Container::of(&first).with("egress", "none"), Container::of(&second));
    host.start(&one);
    host.start(&two);
    drop(first);
    assert!(host.text(&[&one.id], 1).ends_with(&format!("  process    {}, has ended\n", one.pid)));
    let table = host.text(&[], 0);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["CONTAINER", "PROCESS", "NAMESPACE", "COUNTED", "RULES"]);
    let rest: Vec<(&str, String)> = rows[1..].iter().map(|row| (row[0], row[3..].join(" "))).collect();
    assert_eq!(rest, [(one.id.as_str(), "- has ended".to_owned()), (two.id.as_str(), "- none".to_owned())]);
    let all = described("inspect-list", &host.text(&["-o", "json"], 0));
    assert_eq!(
        (&all[0]["running"], &all[1]["running"], &all[1]["rules"]),
        (&json!(false), &json!(true), &json!("none"))
    );
}

#[test]
fn a_container_is_found_by_the_beginning_of_its_id() {
    let (host, namespace) = (Host::new(), Namespace::new());
    for id in ["abc", "abcd1", "abcd2", "x"] {
        let mut container = Container::of(&namespace);
        container.id = id.to_owned();
        host.start(&container);
    }
    for (asked, found) in [("x", "x"), ("abc", "abc"), ("abcd1", "abcd1"), ("abcd2", "abcd2")] {
        assert!(host.text(&[asked], 0).starts_with(&format!("container {found}\n")), "{asked}");
    }
    assert_eq!(
        host.text(&["abcd"], 1),
        "the ids of 2 containers begin with \"abcd\": abcd1, abcd2; give more of the one that is meant\n"
    );
    assert!(host.text(&["b"], 1).starts_with("no container \"b\" is recorded in "));
    let mut more = Container::of(&namespace);
    more.id = "0123456789".to_owned();
    host.start(&more);
    assert!(host.text(&["0123"], 0).starts_with("container 0123456789\n"));
}

#[test]
fn a_neighbours_rules_are_told_as_the_neighbours() {
    let (host, namespace) = (Host::new(), Namespace::new());
    let mut asks = Container::of(&namespace).with("egress", "none");
    asks.id = "asks".to_owned();
    let mut joins = Container::of(&namespace);
    joins.id = "joins".to_owned();
    host.start(&asks);
    host.start(&joins);
    let said = host.json("joins");
    assert_eq!(
        (&said["rules"], &said["decided-by"], &said["recorded-table"]),
        (&json!("as recorded"), &json!("asks"), &Value::Null)
    );
    assert!(host.text(&["joins"], 0).contains("container asks shares the network, and its record decides\n"));
}

#[test]
fn to_look_changes_nothing() {
    let (host, namespace) = (Host::new(), Namespace::new());
    let container = Container::of(&namespace).with("egress", LISTS);
    host.start(&container);
    let before = (namespace.nft_json(), host.records(), namespace.ip_json(&["addr"]));
    for args in [&[container.id.as_str()][..], &[&container.id, "-o", "json"], &[], &["-o", "json"]] {
        host.text(args, 0);
    }
    assert_eq!((namespace.nft_json(), host.records(), namespace.ip_json(&["addr"])), before);
}
