//! Pairs of namespaces with a link between them, one pair for each sort of rules. Whoever does not get as far as that is named.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use serde_json::json;

use super::{hook, host, installed, sizes, state, timed};
use crate::Bench;
use crate::namespace::Namespace;

const NEAR: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// Who listens.
pub(super) const FAR: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
/// Where it listens, for datagrams and for connections.
pub(super) const PORT: u16 = 7777;
/// Flows that [`flow`] tells apart.
pub(super) const FLOWS: u16 = 1_000;
/// The last blocks of every list: who asks one by one asks all others first.
const TARGETS: [&str; 5] = ["10.98.0.0/24", "10.98.2.0/24", "10.98.4.0/24", "10.98.6.0/24", "10.99.0.0/24"];

/// Where a new flow goes: an address of its own within the first of [`TARGETS`], all of them the far end's.
pub(super) fn flow(number: u16) -> SocketAddrV4 {
    let (block, host) = (number / 250 * 2, number % 250 + 1);
    SocketAddrV4::new(Ipv4Addr::new(10, 98, block as u8, host as u8), PORT)
}

/// A pair of namespaces with a link between them.
pub(super) struct Lane {
    pub(super) near: Namespace,
    pub(super) far: Namespace,
}

impl Lane {
    fn new() -> Lane {
        let (near, far) = (Namespace::new(), Namespace::new());
        near.ip_batch(&format!("link add eth0 type veth peer name eth0 netns {}\n", far.pid()));
        far.ip_batch(&format!(
            "address add {FAR}/24 dev eth0\nlink set lo up\nlink set eth0 up\nroute add local 10.98.0.0/16 dev lo\n"
        ));
        near.ip_batch(&format!("address add {NEAR}/24 dev eth0\nlink set eth0 up\nroute add 10.98.0.0/16 via {FAR}\n"));
        Lane { near, far }
    }

    fn run(&self, program: &str, args: &[&str], input: &str) -> Result<(), String> {
        let output = self.near.try_run(program, args, input);
        let said = || format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
        if output.status.success() { Ok(()) } else { Err(said()) }
    }

    /// Forgets all flows of the near end. The table of flows is one for all namespaces: without this every sample would search
    /// among what the samples of half a minute left.
    pub(super) fn forget(&self) -> Result<(), String> {
        // nlmsghdr: length, IPCTNL_MSG_CT_DELETE, REQUEST | ACK, sequence, port; nfgenmsg: any family.
        const ALL: [u8; 20] = [20, 0, 0, 0, 2, 1, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        self.near.within(|| {
            let said = |e: nix::Error| format!("conntrack cannot be emptied: {e}");
            let (netlink, netfilter) = (AddressFamily::Netlink, SockProtocol::NetlinkNetFilter);
            let socket = socket(netlink, SockType::Datagram, SockFlag::SOCK_CLOEXEC, netfilter).map_err(said)?;
            send(socket.as_raw_fd(), &ALL, MsgFlags::empty()).map_err(said)?;
            let mut answer = [0; 64];
            recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty()).map_err(said)?;
            // NLMSG_ERROR: the error stands behind the header, 0 is an acknowledgement.
            let error = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
            if error == 0 { Ok(()) } else { Err(said(nix::Error::from_raw(-error))) }
        })
    }
}

/// Blocks that neither touch nor overlap; those behind which the far end is come last.
fn blocks(count: usize) -> Vec<String> {
    let fillers = count.saturating_sub(TARGETS.len());
    (0..fillers).map(filler).chain(TARGETS.map(str::to_owned)).collect()
}

fn filler(n: usize) -> String {
    format!("{}/{}", Ipv4Addr::from_bits(0x0b00_0000 + 512 * n as u32), 24 + n % 9)
}

const KNOWN: &str = "ct state established,related accept";
const KNOWN_TO_IPTABLES: &str =
    "*filter\n:OUTPUT DROP [0:0]\n-A OUTPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT\n";

/// A lane by its name, or why there is none.
pub(super) type Made = (String, Result<Lane, String>);

fn made(name: impl Into<String>, rules: impl FnOnce(&Lane) -> Result<(), String>) -> Made {
    let name = name.into();
    let lane = Lane::new();
    let outcome = rules(&lane).map(|()| lane);
    (name, outcome)
}

/// All lanes; the first is without rules.
pub(super) fn all(bench: &Bench) -> Vec<Made> {
    let mut lanes = vec![made("no rules", |_| Ok(())), made("no rules, again", |_| Ok(()))];
    if installed("nft").is_some() {
        by_nft(&mut lanes);
    }
    if installed("iptables-legacy-restore").is_some() {
        by_iptables(&mut lanes);
    }
    ours(bench, &mut lanes);
    for file in std::env::var_os("RULES").iter().flat_map(std::env::split_paths) {
        let file = file.display().to_string();
        lanes.push(made(&file, |lane| lane.run("nft", &["-f", &file], "")));
    }
    lanes
}

fn by_nft(lanes: &mut Vec<Made>) {
    let mut nft = |name: &str, sets: &str, rules: &str| {
        let table = format!(
            "table inet t {{ {sets}\n chain o {{ type filter hook output priority 0; policy drop;\n{rules}\n}}\n}}\n"
        );
        lanes.push(made(name, |lane| lane.run("nft", &["-f", "-"], &table)));
    };
    nft("conntrack alone", "", &format!("{KNOWN}\naccept"));
    for count in sizes(&[10, 1_000, 10_000, 100_000]) {
        let elements = blocks(count).join(", ");
        let set = format!("set s {{ type ipv4_addr; flags interval; elements = {{ {elements} }} }}");
        nft(&format!("nft by hand, a set of {count}"), &set, &format!("{KNOWN}\nip daddr @s accept"));
    }
    for count in sizes(&[10, 1_000]) {
        let rules: String = blocks(count).iter().map(|block| format!("ip daddr {block} accept\n")).collect();
        nft(&format!("nft by hand, {count} rules"), "", &format!("{KNOWN}\n{rules}"));
    }
}

fn by_iptables(lanes: &mut Vec<Made>) {
    for count in sizes(&[10, 1_000, 10_000]) {
        let mut rules = KNOWN_TO_IPTABLES.to_owned();
        blocks(count).iter().for_each(|block| writeln!(rules, "-A OUTPUT -d {block} -j ACCEPT").expect("a string"));
        let name = format!("iptables, {count} rules");
        lanes.push(made(name, |lane| lane.run("iptables-legacy-restore", &[], &(rules + "COMMIT\n"))));
    }
    if installed("ipset").is_none() {
        return;
    }
    for count in sizes(&[10, 1_000, 10_000, 100_000]) {
        let mut set = "create s hash:net maxelem 200000\n".to_owned();
        blocks(count).iter().for_each(|block| writeln!(set, "add s {block}").expect("a string"));
        let rules = format!("{KNOWN_TO_IPTABLES}-A OUTPUT -m set --match-set s dst -j ACCEPT\nCOMMIT\n");
        lanes.push(made(format!("iptables and ipset, {count}"), |lane| {
            lane.run("ipset", &["restore"], &set)?;
            lane.run("iptables-legacy-restore", &[], &rules)
        }));
    }
}

fn ours(bench: &Bench, lanes: &mut Vec<Made>) {
    for count in sizes(&[10, 1_000, 10_000, 100_000]) {
        let home = host();
        let asked = json!({"io.netlatch.egress": blocks(count).join(" ")});
        lanes.push(made(format!("netlatch, a list of {count}"), |lane| {
            timed(hook(&bench.netlatch, home.path(), state(home.path(), &lane.near, &asked))).map(drop)
        }));
    }
    for count in [1, 50, 500] {
        let home = host();
        fs::create_dir(home.path().join("policies")).expect("a folder");
        for n in 0..count {
            // Several blocks and a port for each, so that no two can share a set or a rule. Packets are for the last one.
            let is_last = n == count - 1;
            let of = |part: usize| filler(TARGETS.len() * n + part);
            let blocks = (0..TARGETS.len()).map(|part| if is_last { TARGETS[part].to_owned() } else { of(part) });
            let to: Vec<_> = blocks.map(|block| json!({"ipBlock": {"cidr": block}})).collect();
            let port = if is_last { usize::from(PORT) } else { 2_000 + n };
            let policy = json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": {"name": format!("p{n}"), "namespace": "default"},
                "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{
                    "to": to, "ports": [{"protocol": "TCP", "port": port}, {"protocol": "UDP", "port": port}],
                }]},
            });
            fs::write(home.path().join(format!("policies/{n}.json")), policy.to_string()).expect("a file");
        }
        let name = if count == 1 { "netlatch, 1 policy".to_owned() } else { format!("netlatch, {count} policies") };
        lanes.push(made(name, |lane| {
            timed(hook(&bench.netlatch, home.path(), state(home.path(), &lane.near, &json!({})))).map(drop)
        }));
    }
}
