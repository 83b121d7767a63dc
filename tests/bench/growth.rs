//! How the time for hostile input grows with its size: each shape at four sizes, each twice the one before, and by how much
//! the time grew with each doubling. 2 is linear, 4 quadratic.
//!
//! Run by scripts/bench.sh growth. What is printed is for people: nothing passes or fails by time. What a shape may come to at
//! most is bounded by limits that have names (README, "Limits") and are tested.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netlatch::cli::reach::answer_all;
use netlatch::document;
use netlatch::net::Origin;
use netlatch::oci::{Bundle, Requests, State};
use netlatch::plan::{Cluster, Facts, plan};
use netlatch::policy::list::List;
use netlatch::policy::lookup::World;
use netlatch::policy::parse::{Collector, Outcome};
use netlatch::policy::reach::reach;
use netlatch::policy::verdict::Judge;
use netlatch::policy::watch::{Holder, Holders};
use netlatch::settings::{self, Config, Settings};
use nix::time::{ClockId, clock_gettime};

/// Doublings.
const SIZES: usize = 4;

struct Shape {
    name: &'static str,
    /// The least size.
    least: usize,
    /// Makes an input of a size and takes what is to be measured of it.
    run: fn(usize) -> Box<dyn FnOnce()>,
}

/// This process's own time: others on the machine do not count.
fn cpu_us() -> i64 {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("a clock");
    time.tv_sec() * 1_000_000 + time.tv_nsec() / 1000
}

fn main() {
    let only: Vec<String> = std::env::args().skip(1).collect();
    println!("{:<46} {:>8} {:>9}   growth with each doubling", "", "size", "ms");
    for shape in shapes() {
        if !only.is_empty() && !only.iter().any(|wanted| shape.name.contains(wanted.as_str())) {
            continue;
        }
        let times: Vec<i64> = (0..SIZES)
            .map(|doubling| {
                let timed = |_| {
                    let work = (shape.run)(shape.least << doubling);
                    let before = cpu_us();
                    work();
                    (cpu_us() - before).max(1)
                };
                (0..2).map(timed).min().unwrap_or(1)
            })
            .collect();
        let growth: Vec<String> =
            times.windows(2).map(|pair| format!("{:.1}", pair[1] as f64 / pair[0] as f64)).collect();
        let last = times.last().copied().unwrap_or(0);
        println!(
            "{:<46} {:>8} {:>9.1}   {}",
            shape.name,
            shape.least << (SIZES - 1),
            last as f64 / 1e3,
            growth.join("  ")
        );
    }
}

fn each(count: usize, item: impl Fn(usize) -> String) -> String {
    (0..count).map(item).collect()
}

fn state(fields: String) -> Box<dyn FnOnce()> {
    let text = format!(r#"{{"ociVersion":"1.0","id":"c",{fields}}}"#);
    Box::new(move || drop(State::parse(text.as_bytes())))
}

/// Read, and planned with under an admin who wants something of it.
fn bundle(text: String) -> Box<dyn FnOnce()> {
    let config =
        Config::parse("c", b"egress: [10.0.0.0/8]\nipv6: disable\nnet-admin: allow\n").expect("a configuration");
    let settings = Settings::decide(Some(config), Requests::default()).expect("settings");
    Box::new(move || {
        let Ok(bundle) = Bundle::parse("f", text.as_bytes()) else { return };
        let state = State::parse(br#"{"ociVersion":"1.0","id":"c","pid":5}"#).expect("a state");
        if let Ok(plan) = plan(&state, Some(&bundle), &settings, &Facts::default(), None) {
            drop(plan.to_string());
        }
    })
}

/// Read, decided about under an admin that permits everything, and planned.
fn annotations(pairs: Vec<(String, String)>) -> Box<dyn FnOnce()> {
    let map: BTreeMap<String, String> = pairs.into_iter().collect();
    Box::new(move || {
        let Ok(requests) = Requests::parse(&map) else { return };
        let config = Config::parse("c", b"allow-sysctls: ['net.*']").expect("a configuration");
        if let Ok(settings) = Settings::decide(Some(config), requests) {
            planned(&settings);
        }
    })
}

fn planned(settings: &Settings) {
    let state = State::parse(br#"{"ociVersion":"1.0","id":"c","pid":5}"#).expect("a state");
    if let Ok(plan) = plan(&state, None, settings, &Facts::default(), None) {
        drop(plan.to_string());
    }
}

fn egress(list: String) -> Box<dyn FnOnce()> {
    annotations(vec![("io.netlatch.egress".into(), list)])
}

fn config(text: String) -> Box<dyn FnOnce()> {
    Box::new(move || {
        let (config, errors, _) = settings::check("c.yaml", text.as_bytes());
        drop(errors);
        if let Some(Ok(settings)) = config.map(|config| Settings::decide(Some(config), Requests::default())) {
            planned(&settings);
        }
    })
}

fn yaml(text: String) -> Box<dyn FnOnce()> {
    Box::new(move || {
        let mut findings = Vec::new();
        drop(document::parse("d", text.as_bytes(), &mut findings));
    })
}

fn read(text: &str) -> Outcome {
    let mut collector = Collector::new();
    collector.read("p.yaml", text.as_bytes());
    collector.finish()
}

fn manifests(text: String) -> Box<dyn FnOnce()> {
    Box::new(move || drop(read(&text)))
}

/// Read outside of the measurement, then planned for the first pod.
fn compiled(text: String) -> Box<dyn FnOnce()> {
    let outcome = read(&text);
    let manifests = outcome.manifests.unwrap_or_else(|| panic!("{:?}", outcome.errors.first()));
    Box::new(move || {
        let settings = Settings::decide(None, Requests::default()).expect("settings");
        let world = World::new(manifests.inventory.clone());
        let inventory = world.inventory();
        let subject = &inventory.pods[0];
        let identity = subject.identity(inventory.namespace_labels(&subject.namespace));
        let peers = inventory.peers();
        let pods = Holders::new(peers.iter().map(|(identity, addresses)| Holder { identity, addresses }));
        let policies = &manifests.policies;
        let nodes = &inventory.nodes;
        let cluster = Cluster { policies, identity: &identity, pods: &pods, nodes, world: &world, subject };
        let state = State::parse(br#"{"ociVersion":"1.0","id":"c","pid":5}"#).expect("a state");
        if let Ok(plan) = plan(&state, None, &settings, &Facts::default(), Some(&cluster)) {
            drop(plan.to_string());
        }
    })
}

/// Read outside of the measurement, then everybody asked about everybody.
fn reached(text: String) -> Box<dyn FnOnce()> {
    let manifests = read(&text).manifests.expect("manifests");
    Box::new(move || {
        let world = World::new(manifests.inventory);
        let judge = Judge::new(&manifests.policies, &world);
        drop(reach(&manifests.policies, &judge, &world, &manifests.declared));
    })
}

fn probes(text: String) -> Box<dyn FnOnce()> {
    let manifests = read(&(pods(2) + &policies(2))).manifests.expect("manifests");
    Box::new(move || {
        let world = World::new(manifests.inventory);
        drop(answer_all(&Judge::new(&manifests.policies, &world), "p", text.as_bytes()));
    })
}

fn address(n: usize) -> IpAddr {
    IpAddr::from((0x0a00_0000 + n as u32).to_be_bytes())
}

fn pods(count: usize) -> String {
    each(count, |n| {
        let (at, app) = (address(n + 1), n % 50);
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{namespace: s, name: p{n}, labels: {{app: a{app}, n: n{n}}}}}\nstatus: {{podIP: {at}}}\n---\n"
        )
    })
}

const POLICY: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n";

fn policies(count: usize) -> String {
    each(count, |n| {
        let app = n % 50;
        format!(
            "{POLICY}metadata: {{namespace: s, name: q{n}}}\nspec:\n  podSelector: {{}}\n  ingress: [{{from: [{{podSelector: {{matchLabels: {{app: a{app}, n: n{n}}}}}}}]}}]\n---\n"
        )
    })
}

fn policy(spec: &str) -> String {
    format!("{}{POLICY}metadata: {{namespace: s, name: q}}\nspec:\n{spec}\n", pods(2))
}

fn shapes() -> Vec<Shape> {
    let shape = |name, least, run| Shape { name, least, run };
    let mut all = vec![
        shape("state: many annotations", 25_000, |n| {
            state(format!(r#""annotations":{{{}"z":""}}"#, each(n, |n| format!(r#""k{n}":"v","#))))
        }),
        shape("state: a long value", 600_000, |n| {
            state(format!(r#""annotations":{{"k":"{}"}}"#, "\\n\u{e9}".repeat(n / 4)))
        }),
        shape("state: a long unknown list", 200_000, |n| state(format!(r#""x":[{}0]"#, "{},".repeat(n)))),
        shape("state: unknown fields", 50_000, |n| state(each(n, |n| format!(r#""x{n}":0,"#)) + r#""pid":1"#)),
        shape("bundle: many sysctls", 12_500, |n| {
            bundle(format!(r#"{{"linux":{{"sysctl":{{{}"z":""}}}}}}"#, each(n, |n| format!(r#""net.x{n}":"1","#))))
        }),
        shape("bundle: mounts", 12_500, |n| {
            let mounts = each(n, |n| format!(r#"{{"destination":"/d{n}","type":"bind","source":"/run/s{n}.sock"}},"#));
            bundle(format!(r#"{{"mounts":[{mounts}{{"destination":"/proc"}}]}}"#))
        }),
        shape("bundle: mounts over /proc", 6_250, |n| {
            let proc = r#"{"destination":"/proc","type":"proc"},"#.repeat(n);
            bundle(format!(
                r#"{{"mounts":[{proc}{{"destination":"/proc/sys","source":"/x","type":"bind","options":["ro"]}}]}}"#
            ))
        }),
        shape("bundle: devices", 12_500, |n| {
            let devices = each(n, |n| format!(r#"{{"path":"/dev/x{n}","type":"c","major":{n},"minor":1}},"#));
            let allowed = each(n, |n| format!(r#"{{"allow":true,"type":"c","major":{n},"access":"rwm"}},"#));
            let (devices, allowed) = (devices.trim_end_matches(','), allowed.trim_end_matches(','));
            bundle(format!(r#"{{"linux":{{"devices":[{devices}],"resources":{{"devices":[{allowed}]}}}}}}"#))
        }),
        shape("bundle: rules of seccomp", 12_500, |n| {
            let rule =
                r#"{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":40,"op":"SCMP_CMP_NE"}]},"#;
            let rules = rule.repeat(n);
            let rules = rules.trim_end_matches(',');
            bundle(format!(r#"{{"linux":{{"seccomp":{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{rules}]}}}}}}"#))
        }),
        shape("bundle: many capabilities", 25_000, |n| {
            bundle(format!(r#"{{"process":{{"capabilities":{{"bounding":[{}"x"]}}}}}}"#, r#""CAP_CHOWN","#.repeat(n)))
        }),
        shape("bundle: many namespaces", 12_500, |n| {
            bundle(format!(r#"{{"linux":{{"namespaces":[{}{{"type":"pid"}}]}}}}"#, r#"{"type":"user"},"#.repeat(n)))
        }),
    ];
    all.extend([
        shape("annotations: sysctls", 1_000, |n| {
            annotations((0..n).map(|n| (format!("io.netlatch.sysctl.net.ipv4.x{n}"), "1".into())).collect())
        }),
        shape("annotations: keys of nobody's", 10_000, |n| {
            annotations((0..n).map(|n| (format!("io.netlatch.egres{n}"), "1".into())).collect())
        }),
        shape("annotations: labels", 2_000, |n| {
            annotations(vec![("io.netlatch.labels".into(), each(n.min(6_000), |n| format!("l{n}=v,")) + "z=z")])
        }),
        shape("annotations: a label of 64 KiB", 8_000, |n| {
            annotations(vec![("io.netlatch.labels".into(), "x".repeat(n - 9) + "=v")])
        }),
        shape("annotations: ports", 500, |n| {
            annotations(vec![("io.netlatch.ports".into(), each(n, |n| format!("p{n}={}/tcp,", n + 1)) + "z=9/udp")])
        }),
        shape("annotations: labels of an engine", 12_500, |n| {
            let labels = format!("{{{}\"z\":\"\"}}", each(n, |n| format!("\"l{n}\":\"v\",")));
            let pairs =
                [("io.kubernetes.cri-o.ContainerType", "sandbox"), ("io.kubernetes.cri-o.Labels", labels.as_str())];
            annotations(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into())
        }),
        shape("annotations: ports of an engine and of its own", 500, |n| {
            let theirs = format!(
                "[{}]",
                each(n * 8, |n| format!(r#"{{"name":"e{n}","containerPort":{}}},"#, n % 60_000 + 1))
                    .trim_end_matches(',')
            );
            let pairs = [
                ("io.kubernetes.cri.container-type", "container".to_owned()),
                ("io.kubernetes.container.ports", theirs),
                ("io.netlatch.ports", each(n, |n| format!("p{n}={}/tcp,", n + 1)) + "z=9/udp"),
            ];
            annotations(pairs.map(|(key, value)| (key.to_owned(), value)).into())
        }),
    ]);
    all.extend([
        shape("list: addresses", 25_000, |n| egress(each(n, |n| format!("{} ", address(3 * n))))),
        shape("list: blocks, each in the next", 25_000, |n| {
            egress(each(n, |n| format!("10.{}.0.0/{} ", (n >> 1) & 0xff & !1, 15)))
        }),
        shape("list: a port at each address", 12_500, |n| {
            egress(each(n, |n| format!("{}:{} ", address(3 * n), n % 65_000 + 1)))
        }),
        shape("list: a range of ports at each block", 100, |n| {
            egress(each(n, |n| format!("10.{}.{}.0/24:{}-{} ", n / 200 % 200, n % 200, n + 1, n + 2)))
        }),
        shape("list: ranges of ports, each in the next", 100, |n| {
            egress(each(n, |n| format!("10.{}.{}.0/24:{}-{} ", n / 200 % 200, n % 200, n + 1, 60_000 - n)))
        }),
        shape("list: ranges of ports of one address", 2_500, |n| {
            egress(each(n, |n| format!("10.0.0.0/24:{}-{} ", n + 1, 60_000 - n)))
        }),
        shape("list: ports of the internet", 1_000, |n| egress(each(n, |n| format!("@internet:{} ", n + 1)))),
        shape("list: ports of anybody", 8_000, |n| egress(each(n, |n| format!("*:{} ", n % 65_000 + 1)))),
        shape("list: every second port of anybody", 4_000, |n| {
            egress(each(n, |n| format!("*:{} ", n % 32_000 * 2 + 1)))
        }),
        shape("list: denials between", 12_500, |n| egress(each(n, |n| format!("!{} ", address(3 * n))) + "*")),
        shape("list: mistakes", 25_000, |n| egress(each(n, |n| format!("x{n}? ")))),
        shape("list: one long entry", 500_000, |n| egress("1".repeat(n))),
        shape("list: one entry of colons", 500_000, |n| egress(":".repeat(n))),
        shape("list: one long protocol", 500_000, |n| egress("x".repeat(n) + "/")),
    ]);
    all.extend([
        shape("config: sysctls", 1_000, |n| {
            config("sysctl:\n".to_owned() + &each(n, |n| format!("  net.ipv4.x{n}: 1\n")))
        }),
        shape("config: entries", 12_500, |n| {
            config("egress:\n".to_owned() + &each(n, |n| format!("- {}\n", address(3 * n))))
        }),
        shape("config: unknown fields", 12_500, |n| config(each(n, |n| format!("x{n}: 1\n")))),
        shape("config: patterns of sysctls", 6_000, |n| {
            config("allow-sysctls:\n".to_owned() + &each(n, |n| format!("- net.ipv4.x{n}\n")))
        }),
        shape("config: words that stand twice", 12_500, |n| {
            config("always-denied:\n".to_owned() + &"- private\n".repeat(n))
        }),
        shape("config: documents", 12_500, |n| config("mode: audit\n---\n".repeat(n))),
    ]);
    all.extend([
        shape("yaml: a long flow list", 50_000, |n| yaml(format!("[{}]", "a, ".repeat(n)))),
        shape("yaml: a long flow mapping", 25_000, |n| yaml(format!("{{{}}}", each(n, |n| format!("k{n}: v, "))))),
        shape("yaml: a long block list", 50_000, |n| yaml("- a\n".repeat(n))),
        shape("yaml: keys that stand twice", 25_000, |n| yaml("a: 1\n".repeat(n))),
        shape("yaml: documents", 25_000, |n| yaml("a: 1\n---\n".repeat(n))),
        shape("yaml: empty documents", 50_000, |n| yaml("---\n".repeat(n))),
        shape("yaml: documents that do not parse", 200, |n| yaml("a: ]\n---\n".repeat(n))),
        shape("yaml: a document that does not parse, then much", 50_000, |n| {
            yaml("a: ]\n".to_owned() + &"b: [c\n".repeat(n))
        }),
        shape("yaml: anchors", 2_000, |n| yaml(each(n, |n| format!("- &a{n} x\n")))),
        shape("yaml: aliases", 2_000, |n| yaml("- &a x\n".to_owned() + &"- *a\n".repeat(n))),
        shape("yaml: anchors and aliases", 1_000, |n| {
            yaml(each(n, |n| format!("- &a{n} x\n")) + &each(n, |n| format!("- *a{n}\n")))
        }),
        shape("yaml: one anchor again and again", 2_000, |n| yaml("- &a x\n- *a\n".repeat(n))),
        shape("yaml: aliases of nobody", 25_000, |n| yaml("- *a\n".repeat(n))),
        shape("yaml: lists in lists", 100_000, |n| yaml("[".repeat(n))),
        shape("yaml: entries in entries", 50_000, |n| yaml("- ".repeat(n))),
        shape("yaml: keys in keys", 25_000, |n| yaml(each(n, |n| " ".repeat(n % 60) + "a:\n"))),
        shape("yaml: question marks", 50_000, |n| yaml("? ".repeat(n))),
        shape("yaml: a long plain text", 500_000, |n| yaml("a: ".to_owned() + &"b ".repeat(n / 2))),
        shape("yaml: a plain text of many lines", 50_000, |n| yaml("a:\n".to_owned() + &"  b\n".repeat(n))),
        shape("yaml: a plain text of empty lines", 250_000, |n| yaml("a: b\n".to_owned() + &"\n".repeat(n) + "  c")),
        shape("yaml: a quoted text of escapes", 250_000, |n| yaml(format!("\"{}\"", "\\n".repeat(n)))),
        shape("yaml: a quoted text without an end", 500_000, |n| yaml("\"".to_owned() + &"a".repeat(n))),
        shape("yaml: a quoted text of lines", 100_000, |n| yaml(format!("a: \"{}\"", "b\n  ".repeat(n)))),
        shape("yaml: a block text", 50_000, |n| yaml("a: |\n".to_owned() + &"  b\n".repeat(n))),
        shape("yaml: a folded text of empty lines", 100_000, |n| {
            yaml("a: >\n  x\n".to_owned() + &"\n".repeat(n) + "  y\n")
        }),
        shape("yaml: spaces", 500_000, |n| yaml(" ".repeat(n) + "a")),
        shape("yaml: spaces before nothing", 1_000, |n| yaml("a:\n".to_owned() + &(" ".repeat(n) + "\n").repeat(500))),
        shape("yaml: comments", 50_000, |n| yaml("# c\n".repeat(n))),
        shape("yaml: a long comment", 500_000, |n| yaml("a: 1 #".to_owned() + &"c".repeat(n))),
        shape("yaml: directives", 5_000, |n| yaml(each(n, |n| format!("%TAG !t{n}! x\n")) + "--- a\n")),
        shape("yaml: tags", 25_000, |n| yaml("- !!str a\n".repeat(n))),
        shape("yaml: a long tag", 250_000, |n| yaml("- !".to_owned() + &"t".repeat(n) + " a")),
        shape("yaml: a long key", 250_000, |n| yaml("k".repeat(n) + ": a")),
        shape("yaml: a long key in a flow", 250_000, |n| yaml("{\"".to_owned() + &"k".repeat(n) + "\": a}")),
        shape("yaml: commas in a flow", 100_000, |n| yaml("[a".to_owned() + &",".repeat(n))),
        shape("yaml: colons in a flow", 100_000, |n| yaml("{".to_owned() + &"a: b: ".repeat(n))),
        shape("yaml: flow lists as keys", 25_000, |n| yaml("{".to_owned() + &"[a]: b, ".repeat(n))),
        shape("yaml: line ends", 250_000, |n| yaml("\r\n".repeat(n))),
        shape("yaml: ends of documents", 100_000, |n| yaml("...\n".repeat(n))),
        shape("yaml: JSON", 25_000, |n| yaml(format!("[{}0]", r#"{"a":[1,"b"]},"#.repeat(n)))),
    ]);
    all.extend([
        shape("policies: pods", 2_500, |n| manifests(pods(n))),
        shape("policies: policies", 1_000, |n| manifests(policies(n))),
        shape("policies: pods and policies", 500, |n| manifests(pods(n) + &policies(n))),
        shape("policies: one object again and again", 500, |n| manifests(format!("{POLICY}metadata: {{name: q}}\nspec: {{podSelector: {{}}}}\n---\n").repeat(n))),
        shape("policies: values of one expression", 10_000, |n| manifests(policy(&format!("  podSelector: {{matchExpressions: [{{key: a, operator: In, values: [{}]}}]}}", each(n, |n| format!("v{n}, ")))))),
        shape("policies: expressions of one selector", 5_000, |n| manifests(policy(&format!("  podSelector: {{matchExpressions: [{}]}}", each(n, |n| format!("{{key: k{n}, operator: Exists}}, ")))))),
        shape("policies: labels of one selector", 10_000, |n| manifests(policy(&format!("  podSelector: {{matchLabels: {{{}}}}}", each(n, |n| format!("k{n}: v, ")))))),
        shape("policies: exceptions of one block", 10_000, |n| manifests(policy(&format!("  podSelector: {{}}\n  ingress: [{{from: [{{ipBlock: {{cidr: 10.0.0.0/8, except: [{}]}}}}]}}]", each(n, |n| format!("{}/32, ", address(2 * n + 1))))))),
        shape("policies: warnings", 1_000, |n| manifests(each(n, |n| format!("apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: q{n}}}\nspec: {{tier: Admin, priority: 1, subject: {{namespaces: {{matchLabels: {{a: b{n}}}}}}}}}\n---\n")))),
        shape("policies: unknown fields", 12_500, |n| manifests(policy(&each(n, |n| format!("  x{n}: 1\n"))))),
shape("policies: addresses of one pod", 5_000, |n| {
            let ips = each(n, |n| format!("{{ip: {}}}, ", address(n + 1)));
            manifests(format!("{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, status: {{podIPs: [{ips}]}}}}"))
        }),
        shape("policies: addresses of one node", 5_000, |n| {
            let all = each(n, |n| format!("{{type: InternalIP, address: {}}}, ", address(n + 1)));
            manifests(format!("{{apiVersion: v1, kind: Node, metadata: {{name: n}}, status: {{addresses: [{all}]}}}}"))
        }),
        shape("policies: addresses of one service", 5_000, |n| {
            let ips = each(n, |n| format!("{}, ", address(n + 1)));
            manifests(format!("{{apiVersion: v1, kind: Service, metadata: {{name: s}}, spec: {{clusterIPs: [{ips}]}}}}"))
        }),
        shape("policies: that select nobody among pods", 500, |n| {
            let idle = |n| {
                format!("{POLICY}metadata: {{namespace: s, name: q{n}}}\nspec: {{podSelector: {{matchLabels: {{x: y}}}}}}\n---\n")
            };
            manifests(pods(n) + &each(n, idle))
        }),
        shape("policies: in namespaces of nobody", 500, |n| {
            let of = |n| {
                format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: n{n}}}}}\n---\n{POLICY}metadata: {{namespace: m{n}, name: q}}\nspec: {{podSelector: {{}}}}\n---\n")
            };
            manifests(each(n, of))
        }),
                shape("policies: services and slices", 500, |n| manifests(pods(n) + &each(n, |n| format!("apiVersion: v1\nkind: Service\nmetadata: {{namespace: s, name: v{n}}}\nspec: {{clusterIP: {}, selector: {{app: a{}}}, ports: [{{port: 1}}]}}\n---\n", address(0x10_0000 + n), n % 50)))),
    ]);
    all.extend([
        shape("compile: policies", 500, |n| compiled(pods(2) + &policies(n))),
        shape("compile: pods", 1_000, |n| compiled(pods(n) + &policies(2))),
        shape("compile: pods and policies", 250, |n| compiled(pods(n) + &policies(n))),
        shape("compile: values of one expression", 5_000, |n| compiled(pods(100) + &policy(&format!("  podSelector: {{}}\n  ingress: [{{from: [{{podSelector: {{matchExpressions: [{{key: n, operator: In, values: [{}]}}]}}}}]}}]", each(n, |n| format!("n{n}, ")))).split_once("---\n").map_or(String::new(), |(_, rest)| rest.split_once("---\n").map_or(String::new(), |(_, rest)| rest.to_owned())))),
        shape("compile: expressions of one selector", 5_000, |n| compiled(policy(&format!("  podSelector: {{}}\n  ingress: [{{from: [{{podSelector: {{matchExpressions: [{}]}}}}]}}]", each(n, |n| format!("{{key: k{n}, operator: DoesNotExist}}, ")))))),
        shape("compile: blocks", 5_000, |n| compiled(policy(&format!("  podSelector: {{}}\n  ingress: [{{from: [{}]}}]", each(n, |n| format!("{{ipBlock: {{cidr: {}/32}}}}, ", address(2 * n + 1))))))),
        shape("compile: exceptions of one block", 5_000, |n| compiled(policy(&format!("  podSelector: {{}}\n  ingress: [{{from: [{{ipBlock: {{cidr: 10.0.0.0/8, except: [{}]}}}}]}}]", each(n, |n| format!("{}/32, ", address(2 * n + 1))))))),
        shape("compile: ports of one rule", 1_000, |n| compiled(policy(&format!("  podSelector: {{}}\n  ingress: [{{ports: [{}]}}]", each(n, |n| format!("{{port: {}}}, ", 2 * n + 1)))))),
        shape("compile: ports times blocks", 100, |n| compiled(policy(&format!("  podSelector: {{}}\n  ingress: [{{ports: [{}], from: [{}]}}]", each(n, |n| format!("{{port: {}}}, ", 2 * n + 1)), each(n, |n| format!("{{ipBlock: {{cidr: {}/32}}}}, ", address(2 * n + 1))))))),
        shape("compile: ports times selectors", 100, |n| compiled(policy(&format!("  podSelector: {{}}\n  ingress: [{{ports: [{}], from: [{}]}}]", each(n, |n| format!("{{port: {}}}, ", 2 * n + 1)), each(n, |n| format!("{{podSelector: {{matchLabels: {{n: n{n}}}}}}}, ")))))),
        shape("compile: rules with a port each", 250, |n| compiled(policy(&format!("  podSelector: {{}}\n  ingress: [{}]", each(n, |n| format!("{{ports: [{{port: {}}}], from: [{{podSelector: {{matchLabels: {{n: n{n}}}}}}}]}}, ", 2 * n + 1)))))),
        shape("compile: named ports", 500, |n| compiled(policy(&format!("  podSelector: {{}}\n  egress: [{{ports: [{}]}}]", each(n, |n| format!("{{port: n{n}}}, ")))))),
        shape("compile: services", 250, |n| compiled(pods(n) + &each(n, |n| format!("apiVersion: v1\nkind: Service\nmetadata: {{namespace: s, name: v{n}}}\nspec: {{clusterIP: {}, selector: {{app: a{}}}, ports: [{{port: 1}}]}}\n---\n", address(0x10_0000 + n), n % 50)) + policy("  podSelector: {}\n  egress: [{to: [{podSelector: {}}]}]").split("---\n").last().unwrap_or_default())),
        shape("reach: pods alike", 500, |n| reached(pods(n) + &policies(2))),
        shape("reach: pods and policies", 25, |n| reached(pods(n) + &policies(n))),
        shape("probes: probes", 2_500, |n| probes("{\"from\":\"s/p0\",\"to\":\"s/p1\",\"port\":1,\"proto\":\"TCP\"}\n".repeat(n))),
        shape("probes: fields of one", 2_500, |n| probes(format!("{{{}\"from\":\"s/p0\",\"to\":\"s/p1\",\"port\":1,\"proto\":\"TCP\"}}\n", each(n, |n| format!("\"x{n}\":1,"))))),
        shape("probes: mistakes", 2_500, |n| probes("{\"from\":\"nobody/x\"}\n".repeat(n))),
        shape("list: read alone", 25_000, |n| {
            let text = each(n, |n| format!("{} ", address(3 * n)));
            Box::new(move || drop(List::parse(&text, &Origin::Builtin("test"))))
        }),
    ]);
    all
}
