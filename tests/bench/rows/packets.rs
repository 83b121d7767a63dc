//! What rules cost a packet: datagrams and connections over a link between two namespaces, one pair of them for each sort of
//! rules. All pairs stand at once, so that the samples of a round follow each other; every sample is of 1,000 packets.
//!
//! The sender's own time is what tells: a link of veth hands a packet over within `sendto`, where the rules are asked, and what
//! the other end does with it is a softirq's. TCP's throughput is not measured: on two shared cores it says nothing of rules.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::time::Instant;

use nix::time::{ClockId, clock_gettime};
use serde_json::json;

use super::{hook, host, installed, state, timed};
use crate::Bench;
use crate::dice::Dice;
use crate::namespace::Namespace;
use crate::report::{Group, Sample};

const NEAR: &str = "10.99.0.1";
const FAR: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
/// Nobody's: the far end takes packets to it and forgets them, so that no answer costs anything.
const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 3);
/// Packets of a sample.
const PACKETS: u16 = 1_000;
/// Connections of a sample: each leaves a port behind for a minute.
const CONNECTIONS: usize = 50;

/// A pair of namespaces with a link between them.
struct Lane {
    name: String,
    near: Namespace,
    far: Namespace,
}

impl Lane {
    fn new(name: impl Into<String>) -> Lane {
        let (near, far) = (Namespace::new(), Namespace::new());
        let ip = |of: &Namespace, args: &str| {
            let output = of.try_run("ip", &args.split(' ').collect::<Vec<_>>(), "");
            assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).expect("UTF-8")
        };
        ip(&near, &format!("link add eth0 type veth peer name eth0 netns {}", far.pid()));
        for (end, address) in [(&near, NEAR.to_owned()), (&far, FAR.to_string())] {
            ip(end, &format!("address add {address}/16 dev eth0"));
            ip(end, "link set eth0 up");
        }
        let link = ip(&far, "-brief link show dev eth0");
        let mac = link.split_whitespace().nth(2).expect("an address").to_owned();
        ip(&near, &format!("neighbour replace {NOBODY} lladdr {mac} dev eth0 nud permanent"));
        Lane { name: name.into(), near, far }
    }

    fn run(&self, program: &str, args: &[&str], input: &str) {
        let output = self.near.try_run(program, args, input);
        assert!(output.status.success(), "{}: {program}: {}", self.name, String::from_utf8_lossy(&output.stderr));
    }
}

/// Blocks that neither touch nor overlap, the far end's network behind them: who asks one by one asks all.
fn blocks(count: usize) -> Vec<String> {
    let of = |n: usize| format!("{}/{}", Ipv4Addr::from_bits(0x0b00_0000 + 512 * n as u32), 24 + n % 9);
    (1..count).map(of).chain(["10.99.0.0/24".to_owned()]).collect()
}

const FLOWS: &str = "ct state established,related accept";

fn lanes(bench: &Bench) -> Vec<Lane> {
    let mut lanes = vec![Lane::new("no rules")];
    let Some(_) = installed("nft") else { return lanes };
    let mut nft = |name: String, sets: &str, rules: &str| {
        let lane = Lane::new(name);
        let table = format!(
            "table inet t {{ {sets}\n chain o {{ type filter hook output priority 0; policy drop;\n{rules}\n}}\n}}\n"
        );
        lane.run("nft", &["-f", "-"], &table);
        lanes.push(lane);
    };
    nft("conntrack alone".into(), "", &format!("{FLOWS}\naccept"));
    for count in [10, 1_000, 10_000, 100_000] {
        let elements = blocks(count).join(", ");
        let set = format!("set s {{ type ipv4_addr; flags interval; elements = {{ {elements} }} }}");
        nft(format!("nft by hand, a set of {count}"), &set, &format!("{FLOWS}\nip daddr @s accept"));
    }
    for count in [10, 1_000] {
        let rules: String = blocks(count).iter().map(|block| format!("ip daddr {block} accept\n")).collect();
        nft(format!("nft by hand, {count} rules"), "", &format!("{FLOWS}\n{rules}"));
    }
    if installed("iptables-legacy-restore").is_some() {
        for count in [10, 1_000, 10_000] {
            let mut rules =
                "*filter\n:OUTPUT DROP [0:0]\n-A OUTPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT\n"
                    .to_owned();
            blocks(count).iter().for_each(|block| writeln!(rules, "-A OUTPUT -d {block} -j ACCEPT").expect("a string"));
            let lane = Lane::new(format!("iptables, {count} rules"));
            lane.run("iptables-legacy-restore", &[], &(rules + "COMMIT\n"));
            lanes.push(lane);
        }
        if installed("ipset").is_some() {
            for count in [1_000, 100_000] {
                let mut set = "create s hash:net maxelem 200000\n".to_owned();
                blocks(count).iter().for_each(|block| writeln!(set, "add s {block}").expect("a string"));
                let rules = "*filter\n:OUTPUT DROP [0:0]\n-A OUTPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT\n\
                             -A OUTPUT -m set --match-set s dst -j ACCEPT\nCOMMIT\n";
                let lane = Lane::new(format!("iptables and ipset, {count}"));
                lane.run("ipset", &["restore"], &set);
                lane.run("iptables-legacy-restore", &[], rules);
                lanes.push(lane);
            }
        }
    }
    for count in [10, 1_000, 10_000, 100_000] {
        let home = host();
        let lane = Lane::new(format!("netlatch, a list of {count}"));
        let asked = json!({"io.netlatch.egress": blocks(count).join(" ")});
        timed(hook(&bench.netlatch, home.path(), state(home.path(), &lane.near, &asked))).expect("a start");
        lanes.push(lane);
    }
    for count in [1, 50, 500] {
        let home = host();
        fs::create_dir(home.path().join("policies")).expect("a folder");
        for (n, block) in blocks(count).into_iter().enumerate() {
            let policy = json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": format!("p{n}"), "namespace": "default"},
                "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": block}}]}]},
            });
            fs::write(home.path().join(format!("policies/{n}.json")), policy.to_string()).expect("a file");
        }
        let lane = Lane::new(format!("netlatch, {count} policies"));
        timed(hook(&bench.netlatch, home.path(), state(home.path(), &lane.near, &json!({})))).expect("a start");
        lanes.push(lane);
    }
    for file in std::env::var_os("RULES").iter().flat_map(std::env::split_paths) {
        let lane = Lane::new(file.display().to_string());
        lane.run("nft", &["-f", &lane.name], "");
        lanes.push(lane);
    }
    lanes
}

pub(crate) fn measure(bench: &Bench) {
    let lanes = lanes(bench);
    type Measurement = fn(&Lane) -> Sample;
    let groups: [(&str, &str, Measurement); 3] = [
        ("packets-established", "1,000 datagrams of an established flow: the sender's time", established),
        ("packets-new", "1,000 datagrams that each begin a flow: the sender's time", new),
        ("packets-connections", "50 TCP connections, opened and closed: the time of both ends", connections),
    ];
    for (name, title, sample) in groups {
        let mut group = Group::new(name, title, 0, lanes.iter().map(|lane| lane.name.clone()));
        let mut dice = Dice::new(name);
        let mut order: Vec<usize> = (0..lanes.len()).collect();
        for round in 0..=bench.rounds {
            dice.shuffle(&mut order);
            for lane in order.iter().copied() {
                let sample = sample(&lanes[lane]);
                // The first round warms everything.
                if round > 0 {
                    group.add(lane, sample);
                }
            }
        }
        group.publish(&bench.pictures);
    }
}

/// Runs `work` on this thread and says what it took.
fn clocked(work: impl FnOnce()) -> Sample {
    let own = || {
        let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock");
        now.tv_sec() as f64 * 1e6 + now.tv_nsec() as f64 / 1e3
    };
    let (begun, before) = (Instant::now(), own());
    work();
    Sample { us: begun.elapsed().as_nanos() as f64 / 1e3, own: own() - before, faults: 0 }
}

fn established(lane: &Lane) -> Sample {
    let echo = lane.far.within(|| UdpSocket::bind((FAR, 0)).expect("an address of its own"));
    let port = echo.local_addr().expect("it is bound").port();
    lane.near.within(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("any port");
        socket.connect((FAR, port)).expect("a route");
        // A flow is established when it was answered.
        socket.send(b"?").expect("it is let through");
        let mut byte = [0];
        let (_, sender) = echo.recv_from(&mut byte).expect("it arrives");
        echo.send_to(b"!", sender).expect("it is sent");
        socket.recv(&mut byte).expect("it is let in");
        clocked(|| (0..PACKETS).for_each(|_| assert_eq!(socket.send(&[0; 16]).expect("it is sent"), 16)))
    })
}

fn new(lane: &Lane) -> Sample {
    lane.near.within(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("any port");
        clocked(|| {
            for port in 1..=PACKETS {
                assert_eq!(socket.send_to(&[0; 16], SocketAddrV4::new(NOBODY, port)).expect("it is sent"), 16);
            }
        })
    })
}

fn connections(lane: &Lane) -> Sample {
    let listener = lane.far.within(|| TcpListener::bind((FAR, 0)).expect("an address of its own"));
    let address = listener.local_addr().expect("it is bound");
    lane.near.within(|| {
        clocked(|| {
            for _ in 0..CONNECTIONS {
                let near = TcpStream::connect(address).expect("it is let through");
                let (far, _) = listener.accept().expect("it arrived");
                drop((near, far));
            }
        })
    })
}
