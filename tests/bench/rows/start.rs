//! A start with a typical list: from exec to exit.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::{Row, Run, hook, host, in_turns, installed, state};
use crate::report::Group;
use crate::{Bench, canned};

/// Ten entries of every sort there is.
pub(super) const EGRESS: &str = "10.0.0.0/8:5432, 192.0.2.7:443, tcp/203.0.113.0/24:8000-8999, udp/1.1.1.1:53, tcp/1.1.1.1:53, \
                      [2001:db8::/32]:8443, 198.51.100.0/24, icmp/192.0.2.0/24, *:123, @internet:443";

/// What one would write by hand for the same container, IPv4 and IPv6 apart where a program asks for that.
const NFT: &str = "table inet filter {
  chain output {
    type filter hook output priority 0; policy drop;
    oif lo accept
    ct state established,related accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    ip daddr 169.254.169.254 reject
    ip daddr 10.0.0.0/8 tcp dport 5432 accept
    ip daddr 192.0.2.7 tcp dport 443 accept
    ip daddr 203.0.113.0/24 tcp dport 8000-8999 accept
    ip daddr 1.1.1.1 meta l4proto { tcp, udp } th dport 53 accept
    ip6 daddr 2001:db8::/32 tcp dport 8443 accept
    ip daddr 198.51.100.0/24 accept
    ip daddr 192.0.2.0/24 ip protocol icmp accept
    meta l4proto { tcp, udp } th dport 123 accept
    ip daddr != { 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 } tcp dport 443 accept
    reject
  }
  chain input {
    type filter hook input priority 0; policy drop;
    iif lo accept
    ct state established,related accept
  }
}
";

const IPTABLES: &str = "*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT DROP [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A OUTPUT -o lo -j ACCEPT
-A OUTPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A OUTPUT -d 169.254.169.254 -j REJECT
-A OUTPUT -d 10.0.0.0/8 -p tcp --dport 5432 -j ACCEPT
-A OUTPUT -d 192.0.2.7 -p tcp --dport 443 -j ACCEPT
-A OUTPUT -d 203.0.113.0/24 -p tcp --dport 8000:8999 -j ACCEPT
-A OUTPUT -d 1.1.1.1 -p tcp --dport 53 -j ACCEPT
-A OUTPUT -d 1.1.1.1 -p udp --dport 53 -j ACCEPT
-A OUTPUT -d 198.51.100.0/24 -j ACCEPT
-A OUTPUT -d 192.0.2.0/24 -p icmp -j ACCEPT
-A OUTPUT -p udp --dport 123 -j ACCEPT
-A OUTPUT -p tcp --dport 443 -j ACCEPT
-A OUTPUT -j REJECT
COMMIT
";

const IPSET: &str = "create allowed hash:net
add allowed 198.51.100.0/24
add allowed 203.0.113.0/24
add allowed 192.0.2.7
add allowed 1.1.1.1
add allowed 10.0.0.0/8
";

/// Where the helpers are of peers that call some.
pub(super) const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

pub(crate) fn measure(bench: &Bench) {
    let dir = host();
    let dir = dir.path();
    let annotations = json!({"io.netlatch.egress": EGRESS, "io.netlatch.ingress": "none"});
    let any = json!({
        "ociVersion": "1.0.2", "id": "any", "status": "creating", "pid": 2, "annotations": annotations,
    });
    let file = |name: &str, text: &str| {
        let path = dir.join(name);
        fs::write(&path, text).expect("a file");
        path
    };
    canned::write(&any.to_string(), true, &dir.join("canned"));
    canned::write(&any.to_string(), false, &dir.join("canned-unread"));
    let (by_hand, legacy, sets) = (file("nft", NFT), file("iptables", IPTABLES), file("ipset", IPSET));
    let ours = file("ours.nft", &rules(bench, dir, &file("any.json", &any.to_string())));
    let nothing = file("nothing", "");

    let mut rows: Vec<Row<'_>> = Vec::new();
    let mut row = |name: &str, run: Box<dyn Fn(&crate::namespace::Namespace) -> Run>| {
        rows.push(Row { name: name.to_owned(), run });
    };
    let (netlatch, home, asked) = (bench.netlatch.clone(), dir.to_owned(), annotations.clone());
    row("netlatch createRuntime", Box::new(move |n| hook(&netlatch, &home, state(&home, n, &asked))));
    let (empty, input) = (bench.empty.clone(), nothing.clone());
    row("an empty static program", Box::new(move |_| Run::new(Command::new(&empty), false, &input)));
    for (name, canned) in [("its system calls alone", "canned"), ("without reading back", "canned-unread")] {
        let (floor, canned, input) = (bench.floor.clone(), dir.join(canned), nothing.clone());
        row(
            name,
            Box::new(move |n| {
                let mut command = Command::new(&floor);
                command.arg(n.pid().to_string()).arg(&canned);
                Run::new(command, false, &input)
            }),
        );
    }
    // Inside the namespace, with the input behind the arguments or on standard input.
    let mut peer = |name: &str, program: &str, arguments: &[&str], input: &Path| {
        let Some(program) = installed(program) else { return };
        let (arguments, input): (Vec<String>, _) =
            (arguments.iter().map(|a| (*a).to_owned()).collect(), input.to_owned());
        row(
            name,
            Box::new(move |_| {
                let mut command = Command::new(&program);
                command.args(&arguments);
                Run::new(command, true, &input)
            }),
        );
    };
    peer("nft -f of the same rules", "nft", &["-f", &ours.display().to_string()], &nothing);
    peer("nft -f of rules by hand", "nft", &["-f", &by_hand.display().to_string()], &nothing);
    peer("iptables-legacy-restore, IPv4 alone", "iptables-legacy-restore", &[], &legacy);
    peer("iptables-nft-restore, IPv4 alone", "iptables-nft-restore", &[], &legacy);
    peer("ipset restore, five networks", "ipset", &["restore"], &sets);
    peer("ip link set lo up", "ip", &["link", "set", "lo", "up"], &nothing);

    for (name, config) in CNI {
        let Some(program) = cni(name) else { continue };
        let input = file(&format!("cni-{name}"), config);
        let bin = program.parent().expect("a folder").to_owned();
        rows.push(Row {
            name: format!("CNI {name}"),
            run: Box::new(move |n| {
                let mut run = Run::new(Command::new(&program), false, &input);
                run.command
                    .env("CNI_COMMAND", "ADD")
                    .env("CNI_IFNAME", if name == "loopback" { "lo" } else { "eth0" })
                    .env("CNI_CONTAINERID", format!("c{}", n.pid()))
                    .env("CNI_NETNS", n.path())
                    .env("CNI_PATH", &bin)
                    .env("PATH", PATH);
                run
            }),
        });
    }
    rows.extend(netavark(dir));
    let mut group = Group::new(
        "peers",
        "A start with a list of ten entries, from exec to exit",
        0,
        rows.iter().map(|row| row.name.clone()),
    );
    in_turns(bench, &mut group, &rows, bench.rounds);
    group.publish(&bench.pictures);
}

/// Builds of the hook against each other, for whoever changes it: `VERSIONS=OLD:NEW`.
pub(crate) fn versions(bench: &Bench) {
    let Some(versions) = std::env::var_os("VERSIONS") else { return };
    let dir = host();
    let annotations = json!({"io.netlatch.egress": EGRESS, "io.netlatch.ingress": "none"});
    let rows: Vec<Row<'_>> = std::env::split_paths(&versions)
        .map(|netlatch| {
            let (home, asked) = (dir.path().to_owned(), annotations.clone());
            let name = netlatch.display().to_string();
            Row { name, run: Box::new(move |n| hook(&netlatch, &home, state(&home, n, &asked))) }
        })
        .collect();
    let mut group = Group::new("versions", "The same start", 0, rows.iter().map(|row| row.name.clone()));
    in_turns(bench, &mut group, &rows, bench.rounds * 4);
    group.publish(&bench.pictures);
}

/// What a plugin reads. firewall is given an address as an earlier plugin of a chain would.
const CNI: [(&str, &str); 4] = [
    ("loopback", r#"{"cniVersion":"0.4.0","name":"lo","type":"loopback"}"#),
    (
        "tuning",
        r#"{"cniVersion":"0.4.0","name":"t","type":"tuning","sysctl":{"net.ipv4.tcp_fin_timeout":"30"},"prevResult":{"cniVersion":"0.4.0"}}"#,
    ),
    (
        "firewall",
        r#"{"cniVersion":"0.4.0","name":"f","type":"firewall","backend":"iptables","prevResult":{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.88.0.5/16"}]}}"#,
    ),
    ("bridge", r#"{"cniVersion":"0.4.0","name":"b","type":"bridge","bridge":"bench0","ipam":{}}"#),
];

fn cni(name: &str) -> Option<std::path::PathBuf> {
    let program = Path::new("/usr/lib/cni").join(name);
    if !program.exists() {
        println!("not measured: {} is not installed", program.display());
        return None;
    }
    Some(program)
}

/// podman's: a bridge in the host's namespace, a link to it, an address and masquerading.
fn netavark(dir: &Path) -> Option<Row<'static>> {
    let program = Path::new("/usr/lib/podman/netavark");
    if !program.exists() {
        println!("not measured: {} is not installed", program.display());
        return None;
    }
    let dir = dir.to_owned();
    let run = move |n: &crate::namespace::Namespace| {
        let [.., third, fourth] = n.pid().to_be_bytes();
        let network = json!({
            "name": "podman", "id": "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9", "driver": "bridge",
            "network_interface": "podman0", "subnets": [{"subnet": "10.88.0.0/16", "gateway": "10.88.0.1"}],
            "ipv6_enabled": false, "internal": false, "dns_enabled": false, "ipam_options": {"driver": "host-local"},
        });
        let asked = json!({
            "container_id": format!("c{}", n.pid()), "container_name": "bench",
            "networks": {"podman": {"interface_name": "eth0", "static_ips": [format!("10.88.{third}.{fourth}")]}},
            "network_info": {"podman": network},
        });
        let input = dir.join(format!("netavark-{}", n.pid()));
        fs::write(&input, asked.to_string()).expect("a file");
        let mut command = Command::new(program);
        command.arg("setup").arg(n.path());
        let mut run = Run::new(command, false, &input);
        run.command.env("PATH", PATH);
        run
    };
    Some(Row { name: "netavark setup, a bridge".to_owned(), run: Box::new(run) })
}

/// The rules of that container, as `nft -f` loads them into a namespace without any: without the lines that take away what was
/// there before, for which it would wait for an RCU grace period.
pub(super) fn rules(bench: &Bench, dir: &Path, state: &Path) -> String {
    let mut plan = Command::new(&bench.netlatch);
    plan.arg("plan").arg("--config").arg(dir.join("config.yaml")).arg("--state").arg(state).args(["--format", "nft"]);
    let output = plan.output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let takes_away =
        |line: &&str| line.starts_with("delete table ") || line.starts_with("table ") && !line.ends_with('{');
    text.lines().filter(|line| !takes_away(line)).flat_map(|line| [line, "\n"]).collect()
}
