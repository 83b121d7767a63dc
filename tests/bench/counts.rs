//! What the hook does on its way, piece by piece, for tests/counts.rs to count the instructions of.
//!
//! Each piece is done once before it counts, so that what is set up once in a process belongs to none. Its input is the same
//! in every run: no clock, no random numbers, no files.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;

use netlatch::nft::ruleset::Table;
use netlatch::nft::wire::batch::{Batch, Head};
use netlatch::nft::wire::held::Held;
use netlatch::oci::{Bundle, Requests, State};
use netlatch::plan::{Cluster, Facts, Plan, plan};
use netlatch::policy::lookup::World;
use netlatch::policy::parse::{Collector, Manifests};
use netlatch::policy::watch::{Holder, Holders};
use netlatch::settings::{Config, Settings};

/// Without arguments: does every piece. `--list`: names them in the same order.
fn main() {
    let list = std::env::args().nth(1).is_some_and(|argument| argument == "--list");
    for (name, mut piece) in pieces() {
        if list {
            println!("{name}");
        } else {
            piece();
            counted(&mut piece);
        }
    }
}

/// What is counted. tests/counts.rs knows its name.
#[inline(never)]
fn counted(piece: &mut dyn FnMut()) {
    piece();
}

type Piece = (&'static str, Box<dyn FnMut()>);

fn piece<T>(name: &'static str, mut work: impl FnMut() -> T + 'static) -> Piece {
    (name, Box::new(move || drop(black_box(work()))))
}

fn pieces() -> Vec<Piece> {
    let (spec, files) = (specification(), policies());
    vec![
        piece("read the state", state),
        piece("read a configuration of 20 lines", config),
        piece("read a config.json of 20 KB", move || Bundle::parse("config.json", spec.as_bytes()).expect("a bundle")),
        piece("read 20 policy files", move || read(&files)),
        of_list("plan a list of 10 blocks", 10),
        of_list("plan a list of 1,000 blocks", 1_000),
        of_policies("plan 20 policies among 20 pods", manifests()),
        of_blocks("plan a policy of 1,000 blocks", 1_000),
        encoded("encode the rules of 10 blocks", 10),
        encoded("encode the rules of 1,000 blocks", 1_000),
    ]
}

fn state() -> State {
    State::parse(
        br#"{"ociVersion":"1.0.2-dev","id":"web-1","status":"creating","pid":4711,"bundle":"/run/bundle",
            "annotations":{"io.netlatch.egress":"10.2.0.0/16:5432, @internet:443","io.netlatch.ingress":"none"}}"#,
    )
    .expect("a state")
}

fn config() -> Config {
    let text = b"# Every container.
egress:
  - 10.0.0.0/8
  - '@internet:443'
  - '!203.0.113.0/24'
  - tcp/192.0.2.0/24:8000-8999
  - '[2001:db8::/32]:8443'
ingress: [10.1.0.0/16]
ipv6: loopback-only
devconf: host
mode: enforce
on-denied: reject
sysctl:
  net.ipv4.tcp_fin_timeout: 30
  net.ipv4.ip_local_port_range: 20000 60000
allow-sysctls: [net.ipv4.tcp_rmem]
allow-annotations: [egress, ingress]
always-denied: [metadata, private]
net-admin: refuse
policies: /etc/netlatch/policies
";
    Config::parse("config.yaml", text).expect("a configuration")
}

/// As engines write it: mounts, devices, capabilities, paths that are masked, a seccomp profile.
fn specification() -> String {
    let each = |count: usize, item: &dyn Fn(usize) -> String| (0..count).map(item).collect::<Vec<_>>().join(",");
    let capabilities =
        r#"["CAP_CHOWN","CAP_DAC_OVERRIDE","CAP_FSETID","CAP_FOWNER","CAP_SETGID","CAP_SETUID","CAP_KILL"]"#;
    format!(
        r#"{{"ociVersion":"1.0.2","process":{{"terminal":false,"user":{{"uid":0,"gid":0}},"args":["/bin/sh","-c","true"],
        "env":[{}],"cwd":"/","capabilities":{{"bounding":{capabilities},"effective":{capabilities},"permitted":{capabilities}}},
        "noNewPrivileges":true}},"root":{{"path":"rootfs"}},"hostname":"web","annotations":{{{}}},
        "mounts":[{{"destination":"/proc","type":"proc","source":"proc"}},{}],
        "linux":{{"resources":{{"devices":[{{"allow":false,"access":"rwm"}},{}]}},
        "namespaces":[{{"type":"pid"}},{{"type":"network"}},{{"type":"ipc"}},{{"type":"uts"}},{{"type":"mount"}}],
        "seccomp":{{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64"],"syscalls":[
        {{"names":[{}],"action":"SCMP_ACT_ALLOW"}},
        {{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{{"index":0,"value":40,"op":"SCMP_CMP_NE"}}]}}]}},
        "maskedPaths":["/proc/acpi","/proc/kcore"],"readonlyPaths":["/proc/bus","/proc/fs","/proc/irq","/proc/sys"]}}}}"#,
        each(30, &|n| format!(r#""VARIABLE_{n}=a value of some length, number {n}""#)),
        each(12, &|n| format!(r#""org.example.annotation-{n}":"value {n}""#)),
        each(40, &|n| format!(
            r#"{{"destination":"/volumes/data-{n}","type":"bind","source":"/var/lib/volumes/data-{n}","options":["rbind","rprivate","nosuid","nodev","ro"]}}"#
        )),
        each(20, &|n| format!(r#"{{"allow":true,"type":"c","major":{n},"minor":1,"access":"rwm"}}"#)),
        each(400, &|n| format!(r#""system_call_{n:03}""#)),
    )
}

fn policies() -> Vec<String> {
    let policy = |n: usize| {
        format!(
            "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: policy-{n}
  namespace: shop
spec:
  podSelector:
    matchLabels: {{app: web}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from:
    - podSelector: {{matchLabels: {{app: peer-{n}}}}}
    - ipBlock: {{cidr: 10.{n}.0.0/16, except: [10.{n}.3.0/24]}}
    ports: [{{protocol: TCP, port: {port}}}, {{port: 9000, endPort: 90{n:02}}}]
  egress:
  - to: [{{namespaceSelector: {{}}, podSelector: {{matchExpressions: [{{key: app, operator: In, values: [peer-{n}]}}]}}}}]
",
            port = 8000 + n
        )
    };
    (0..20).map(policy).collect()
}

fn read(files: &[String]) -> Manifests {
    let mut collector = Collector::new();
    for (n, text) in files.iter().enumerate() {
        collector.read(&format!("{n}.yaml"), text.as_bytes());
    }
    collector.manifests().expect("manifests")
}

fn manifests() -> Manifests {
    let mut pods =
        String::from("{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop, labels: {app: web}}}\n");
    for n in 0..20 {
        let _ = writeln!(
            pods,
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: peer-{n}, namespace: shop, labels: {{app: peer-{n}}}}}, \
             status: {{podIPs: [{{ip: 10.9.0.{m}}}, {{ip: 'fd09::{m}'}}]}}}}",
            m = n + 1
        );
    }
    read(&[vec![pods], policies()].concat())
}

/// Blocks that neither touch nor overlap, of lengths 24 to 32.
fn blocks(count: usize) -> impl Iterator<Item = String> {
    let block = |n: usize| {
        let net = std::net::Ipv4Addr::from_bits(0x0b00_0000 + 512 * n as u32);
        format!("{net}/{}", 24 + n % 9)
    };
    (0..count).map(block)
}

fn planned(settings: &Settings, cluster: Option<&Cluster<'_>>) -> Plan {
    plan(&state(), None, settings, &Facts::default(), cluster).expect("a plan")
}

fn listed(count: usize) -> Settings {
    let list = blocks(count).collect::<Vec<_>>().join(", ");
    let annotations = BTreeMap::from([("io.netlatch.egress".to_owned(), list)]);
    Settings::decide(None, Requests::parse(&annotations).expect("a list")).expect("settings")
}

fn of_list(name: &'static str, count: usize) -> Piece {
    let settings = listed(count);
    piece(name, move || planned(&settings, None))
}

fn of_blocks(name: &'static str, count: usize) -> Piece {
    let blocks = blocks(count).map(|block| format!("{{ipBlock: {{cidr: {block}}}}}")).collect::<Vec<_>>().join(", ");
    let policy = format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: blocks, namespace: shop}}, spec: \
         {{podSelector: {{}}, egress: [{{to: [{blocks}], ports: [{{port: 443}}]}}]}}}}"
    );
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop, labels: {app: web}}}";
    of_policies(name, read(&[pod.to_owned(), policy]))
}

/// For the first pod there is.
fn of_policies(name: &'static str, manifests: Manifests) -> Piece {
    let settings = Settings::decide(None, Requests::default()).expect("settings");
    let world = World::new(manifests.inventory.clone());
    piece(name, move || {
        let inventory = world.inventory();
        let subject = &inventory.pods[0];
        let identity = subject.identity(inventory.namespace_labels(&subject.namespace));
        let peers = inventory.peers();
        let pods = Holders::new(peers.iter().map(|(identity, addresses)| Holder { identity, addresses }));
        let (policies, nodes) = (&manifests.policies, &inventory.nodes);
        let cluster = Cluster { policies, identity: &identity, pods: &pods, nodes, world: &world, subject };
        planned(&settings, Some(&cluster))
    })
}

/// From our picture of a table to the bytes that go to the kernel, and to what it is to answer.
fn encoded(name: &'static str, count: usize) -> Piece {
    let plan = planned(&listed(count), None);
    piece(name, move || {
        let parts: Vec<&Table> = plan.table().expect("a table").parts().collect();
        let expected: Vec<Held> = parts.iter().map(|part| Held::expected(part, &[])).collect();
        let both: Vec<(&Table, &Held)> = parts.into_iter().zip(&expected).collect();
        Batch::replace(&both, Head::Fresh)
    })
}
