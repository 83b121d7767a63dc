//! A start with a typical list: from exec to exit.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{Row, Run, busy_host, engines, hook, host, in_turns, installed, of_the_shop, state, stopped};
use crate::namespace::Namespace;
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

/// The same, as far as it is about IPv6, and in place of the rest as many.
const IP6TABLES: &str = "*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT DROP [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A INPUT -p icmpv6 --icmpv6-type neighbour-solicitation -j ACCEPT
-A INPUT -p icmpv6 --icmpv6-type neighbour-advertisement -j ACCEPT
-A OUTPUT -o lo -j ACCEPT
-A OUTPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A OUTPUT -p icmpv6 --icmpv6-type neighbour-solicitation -j ACCEPT
-A OUTPUT -p icmpv6 --icmpv6-type neighbour-advertisement -j ACCEPT
-A OUTPUT -d 2001:db8::/32 -p tcp --dport 8443 -j ACCEPT
-A OUTPUT -d 2001:db8:1::/48 -p udp --dport 53 -j ACCEPT
-A OUTPUT -d 2001:db8:2::/48 -j ACCEPT
-A OUTPUT -p udp --dport 123 -j ACCEPT
-A OUTPUT -p tcp --dport 443 -j ACCEPT
-A OUTPUT -j REJECT
COMMIT
";

/// What asks the set below.
const ONE_RULE: &str = "*filter
:OUTPUT DROP [0:0]
-A OUTPUT -m set --match-set allowed dst -j ACCEPT
COMMIT
";

const IPSET: &str = "create allowed hash:net
add allowed 198.51.100.0/24
add allowed 203.0.113.0/24
add allowed 192.0.2.7
add allowed 1.1.1.1
add allowed 10.0.0.0/8
";

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
    let (by_hand, sets) = (file("nft", NFT), file("ipset", IPSET));
    let (legacy, legacy6) = (file("iptables", IPTABLES), file("ip6tables", IP6TABLES));
    let ours = file("ours.nft", &rules(bench, dir, &file("any.json", &any.to_string())));
    let nothing = file("nothing", "");

    let mut rows: Vec<Row<'_>> = Vec::new();
    let mut row = |name: &str, run: Box<dyn Fn(&Namespace) -> Run>| {
        rows.push(Row { name: name.to_owned(), run });
    };
    let (netlatch, home, asked) = (bench.netlatch.clone(), dir.to_owned(), annotations.clone());
    row("netlatch createRuntime", Box::new(move |n| hook(&netlatch, &home, state(&home, n, &asked))));
    let (busy, asked) = (busy_host(), of_the_shop(annotations.clone()));
    let (netlatch, home) = (bench.netlatch.clone(), busy.path().to_owned());
    row(BUSY, Box::new(move |n| among_policies(&netlatch, &home, n, &asked)));
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
    for (family, program, rules) in [("IPv4", "iptables", &legacy), ("IPv6", "ip6tables", &legacy6)] {
        for kind in ["legacy", "nft"] {
            let program = format!("{program}-{kind}-restore");
            peer(&format!("{program}, {family} alone"), &program, &[], rules);
        }
    }
    peer("ipset restore, five networks", "ipset", &["restore"], &sets);
    peer("ip link set lo up", "ip", &["link", "set", "lo", "up"], &nothing);
    peer("sysctl -w, one", "sysctl", &["-w", "net.ipv4.tcp_fin_timeout=30"], &nothing);
    if let (Some(ipset), Some(iptables)) = (installed("ipset"), installed("iptables-legacy-restore")) {
        let one = file("iptables-one", ONE_RULE);
        let name = "ipset restore and one rule of iptables-legacy".to_owned();
        let run = move |_: &Namespace| {
            let mut run = Run::new(Command::new(&ipset), true, &sets);
            run.command.arg("restore");
            run.next = Some(Box::new(Run::new(Command::new(&iptables), true, &one)));
            run
        };
        rows.push(Row { name, run: Box::new(run) });
    }
    if let Some(nsenter) = installed("nsenter") {
        let (empty, input) = (std::path::absolute(&bench.empty).expect("a path"), nothing.clone());
        let run = move |n: &Namespace| {
            let mut run = Run::new(Command::new(&nsenter), false, &input);
            run.command.arg(format!("--net={}", n.path())).arg(&empty);
            run
        };
        rows.push(Row { name: "nsenter, and the empty program".to_owned(), run: Box::new(run) });
    }
    rows.extend(engines::rows(dir));
    let mut group = Group::new(
        "peers",
        "A start with a list of ten entries, from exec to exit",
        0,
        rows.iter().map(|row| row.name.clone()),
    );
    in_turns(bench, &mut group, &rows, bench.rounds);
    group.publish(&bench.pictures);
    drop(rows);
    own(bench, dir, busy.path(), &annotations);
}

/// The row of a start for which there is more to read than a list.
const BUSY: &str = "netlatch, 20 policy files, config.json of 20 KB";

/// A start among policies, which the registry forgets when its time is over.
fn among_policies(netlatch: &Path, home: &Path, n: &Namespace, asked: &Value) -> Run {
    let mut run = hook(netlatch, home, state(home, n, asked));
    run.after = Some(Box::new(stopped(netlatch, home, n, asked)));
    run
}

/// From the program's first line to its last, as it says itself: without what exec takes, and the end of a process.
fn own(bench: &Bench, home: &Path, busy: &Path, annotations: &Value) {
    let asked = of_the_shop(annotations.clone());
    let nothing = home.join("nothing");
    let floor = |n: &Namespace| {
        let mut run = Run::new(Command::new(&bench.floor), false, &nothing);
        run.command.arg(n.pid().to_string()).arg(home.join("canned")).arg("timings");
        run.says = Some(|said| said.trim().parse::<f64>().ok().map(|ns| ns / 1e3));
        run
    };
    let telling = |mut run: Run| {
        run.command.arg("--timings");
        // The last line of the phases is their sum, and begins with it.
        run.says =
            Some(|said| said.lines().find(|line| line.ends_with("  all"))?.split_whitespace().next()?.parse().ok());
        run
    };
    let list = |n: &Namespace| telling(hook(&bench.netlatch, home, state(home, n, annotations)));
    let policies = |n: &Namespace| telling(among_policies(&bench.netlatch, busy, n, &asked));
    let rows = [
        Row { name: "its system calls alone".to_owned(), run: Box::new(floor) },
        Row { name: "netlatch createRuntime".to_owned(), run: Box::new(list) },
        Row { name: BUSY.to_owned(), run: Box::new(policies) },
    ];
    let names = rows.iter().map(|row| row.name.clone());
    let mut group = Group::new("own", "The same starts, from the first line of main to the last", 0, names);
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
