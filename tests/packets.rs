//! Every form of the list grammar against real packets, in both families and both directions.
//!
//! Each list gets a namespace of its own. A packet that must pass is one that its receiver got; a packet that must
//! not is one that never arrived, and whose sender was told as the settings say.

mod support;

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use support::container::Dialect;
use support::world::{CTR, FAR};
use support::{Container, Namespace, Outcome, Probe, World, hook};

/// Long enough for an answer that is on its way on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// Long enough to call a missing answer missing; a dropped SYN is not answered later either.
const SILENCE: Duration = Duration::from_millis(300);

/// A list, what it lets pass and what it does not.
struct Egress {
    list: &'static str,
    passes: &'static [&'static str],
    denied: &'static [&'static str],
}

const EGRESS: &[Egress] = &[
    Egress {
        list: "none",
        passes: &[],
        denied: &["tcp 10.9.1.1:443", "tcp [2001:db8::1]:443", "udp 10.9.1.1:53", "udp [2001:db8::1]:53",
                  "icmp 10.9.1.1", "icmp [2001:db8::1]", "tcp 10.9.0.1:80", "udp [fd99::1]:53"],
    },
    Egress {
        list: "10.9.1.1",
        passes: &["tcp 10.9.1.1:1", "tcp 10.9.1.1:65535", "udp 10.9.1.1:53", "icmp 10.9.1.1"],
        denied: &["tcp 10.9.1.0:443", "tcp 10.9.1.2:443", "udp 10.9.1.2:53", "icmp 10.9.1.2", "tcp [2001:db8::1]:443"],
    },
    Egress {
        list: "2001:db8::1",
        passes: &["tcp [2001:db8::1]:1", "udp [2001:db8::1]:65535", "icmp [2001:db8::1]"],
        denied: &["tcp [2001:db8::2]:443", "udp [2001:db8::]:53", "icmp [2001:db8::2]", "tcp 10.9.1.1:443"],
    },
    Egress {
        list: "[2001:db8::1]",
        passes: &["tcp [2001:db8::1]:80", "udp [2001:db8::1]:80", "icmp [2001:db8::1]"],
        denied: &["tcp [2001:db8::2]:80", "icmp [2001:db8::2]"],
    },
    Egress {
        list: "172.20.0.0/14",
        passes: &["tcp 172.20.0.0:80", "tcp 172.23.255.255:80", "udp 172.21.3.4:53", "icmp 172.22.0.1"],
        denied: &["tcp 172.19.255.255:80", "tcp 172.24.0.0:80", "udp 172.24.0.0:53", "icmp 172.24.0.0"],
    },
    Egress {
        list: "2001:db8:4::/47",
        passes: &["tcp [2001:db8:4::]:80", "tcp [2001:db8:5:ffff:ffff:ffff:ffff:ffff]:80", "icmp [2001:db8:5::1]"],
        denied: &["tcp [2001:db8:3:ffff:ffff:ffff:ffff:ffff]:80", "tcp [2001:db8:6::]:80", "udp [2001:db8:6::]:53"],
    },
    Egress {
        list: "192.0.2.7:443",
        passes: &["tcp 192.0.2.7:443", "udp 192.0.2.7:443"],
        denied: &["tcp 192.0.2.7:442", "tcp 192.0.2.7:444", "udp 192.0.2.7:442", "tcp 192.0.2.8:443",
                  "icmp 192.0.2.7", "tcp [2001:db8::7]:443"],
    },
    Egress {
        list: "[2001:db8::7]:443",
        passes: &["tcp [2001:db8::7]:443", "udp [2001:db8::7]:443"],
        denied: &["tcp [2001:db8::7]:442", "udp [2001:db8::7]:444", "tcp [2001:db8::8]:443", "icmp [2001:db8::7]"],
    },
    Egress {
        list: "[2001:db8:1::/48]:8443",
        passes: &["tcp [2001:db8:1::]:8443", "udp [2001:db8:1:ffff::1]:8443"],
        denied: &["tcp [2001:db8:1::]:8442", "tcp [2001:db8:2::]:8443", "udp [2001:db8:0:ffff::1]:8443",
                  "icmp [2001:db8:1::]"],
    },
    Egress {
        list: "tcp/203.0.113.0/24:8000-8999",
        passes: &["tcp 203.0.113.0:8000", "tcp 203.0.113.255:8999", "tcp 203.0.113.5:8500"],
        denied: &["tcp 203.0.113.5:7999", "tcp 203.0.113.5:9000", "tcp 203.0.112.255:8000", "tcp 203.0.114.0:8999",
                  "udp 203.0.113.5:8500", "icmp 203.0.113.5"],
    },
    Egress {
        list: "tcp/[2001:db8:2::/64]:8000-8999",
        passes: &["tcp [2001:db8:2::1]:8000", "tcp [2001:db8:2::2]:8999"],
        denied: &["tcp [2001:db8:2::1]:7999", "tcp [2001:db8:2::1]:9000", "udp [2001:db8:2::1]:8500",
                  "tcp [2001:db8:2:1::]:8500"],
    },
    Egress {
        list: "udp/1.1.1.1:53",
        passes: &["udp 1.1.1.1:53"],
        denied: &["tcp 1.1.1.1:53", "udp 1.1.1.1:52", "udp 1.1.1.1:54", "udp 1.0.0.1:53", "icmp 1.1.1.1"],
    },
    Egress {
        list: "udp/[2606:4700::1111]:53-54",
        passes: &["udp [2606:4700::1111]:53", "udp [2606:4700::1111]:54"],
        denied: &["udp [2606:4700::1111]:52", "udp [2606:4700::1111]:55", "tcp [2606:4700::1111]:53"],
    },
    Egress {
        list: "tcp/192.0.2.0/24 udp/[2001:db8::/32]",
        passes: &["tcp 192.0.2.9:1", "tcp 192.0.2.9:65535", "udp [2001:db8::9]:1", "udp [2001:db8::9]:65535"],
        denied: &["udp 192.0.2.9:53", "icmp 192.0.2.9", "tcp [2001:db8::9]:80", "icmp [2001:db8::9]"],
    },
    Egress {
        list: "icmp/192.0.2.0/24",
        passes: &["icmp 192.0.2.0", "icmp 192.0.2.255"],
        denied: &["icmp 192.0.3.0", "tcp 192.0.2.1:80", "udp 192.0.2.1:53", "icmp [2001:db8::1]"],
    },
    Egress {
        list: "icmp/[2001:db8::/64]",
        passes: &["icmp [2001:db8::1]", "icmp [2001:db8::ffff:ffff:ffff:ffff]"],
        denied: &["icmp [2001:db8:0:1::]", "tcp [2001:db8::1]:80", "udp [2001:db8::1]:53", "icmp 192.0.2.1"],
    },
    Egress {
        list: "icmp/*",
        passes: &["icmp 192.0.2.1", "icmp [2001:db8::1]"],
        denied: &["tcp 192.0.2.1:80", "udp [2001:db8::1]:53", "icmp 169.254.169.254", "icmp [fd00:ec2::254]"],
    },
    Egress {
        list: "10.9.1.1:1-1 10.9.1.2:65535 10.9.1.3:1-65535",
        passes: &["tcp 10.9.1.1:1", "udp 10.9.1.2:65535", "tcp 10.9.1.3:1", "udp 10.9.1.3:65535"],
        denied: &["tcp 10.9.1.1:2", "udp 10.9.1.2:65534", "tcp 10.9.1.2:1", "icmp 10.9.1.3"],
    },
    Egress {
        list: "*",
        passes: &["tcp 10.9.9.9:80", "udp 203.0.113.9:53", "icmp 1.1.1.1", "tcp [2001:db8::1]:80",
                  "udp [fd99::1]:53", "icmp [2606:4700::1111]", "tcp 169.254.169.253:80", "tcp 169.254.170.3:80",
                  "tcp [fd00:ec2::253]:80", "tcp [64:ff9b::1.1.1.1]:80"],
        denied: METADATA,
    },
    Egress {
        list: "*:443",
        passes: &["tcp 10.9.9.9:443", "udp 10.9.9.9:443", "tcp [2001:db8::1]:443", "udp [2001:db8::1]:443"],
        denied: &["tcp 10.9.9.9:442", "udp 10.9.9.9:444", "tcp [2001:db8::1]:442", "udp [2001:db8::1]:444",
                  "icmp 10.9.9.9", "icmp [2001:db8::1]", "tcp 169.254.169.254:443", "tcp [fd00:ec2::254]:443"],
    },
    Egress {
        list: "udp/*:53",
        passes: &["udp 10.9.9.9:53", "udp [2001:db8::1]:53"],
        denied: &["tcp 10.9.9.9:53", "tcp [2001:db8::1]:53", "udp 10.9.9.9:54", "udp 169.254.169.254:53"],
    },
    Egress {
        list: "0.0.0.0/0",
        passes: &["tcp 10.9.9.9:80", "udp 1.1.1.1:53", "icmp 203.0.113.1"],
        denied: &["tcp [2001:db8::1]:80", "icmp [2001:db8::1]", "tcp 169.254.169.254:80", "tcp 100.100.100.200:80"],
    },
    Egress {
        list: "::/0",
        passes: &["tcp [2001:db8::1]:80", "udp [fd99::1]:53", "icmp [2606:4700::1111]"],
        denied: &["tcp 10.9.9.9:80", "icmp 1.1.1.1", "tcp [fd00:ec2::254]:80", "tcp [64:ff9b::169.254.169.254]:80"],
    },
    Egress {
        list: "@internet",
        passes: &["tcp 1.1.1.1:443", "udp 9.255.255.255:53", "icmp 8.8.8.8", "tcp 172.32.0.0:80", "tcp 223.255.255.255:80",
                  "tcp [2606:4700::1111]:443", "udp [2600::1]:53", "icmp [2a00::1]"],
        denied: &["tcp 10.9.9.9:443", "tcp 172.16.0.1:443", "tcp 192.168.0.1:443", "tcp 100.64.0.1:443",
                  "tcp 169.254.1.1:443", "tcp 192.0.2.1:443", "tcp 198.18.0.1:443", "tcp 198.51.100.1:443",
                  "tcp 203.0.113.5:443", "icmp 10.9.9.9", "tcp [fd99::1]:443", "tcp [2001:db8::1]:443",
                  "tcp [64:ff9b::10.0.0.1]:443", "tcp 169.254.169.254:80", "tcp 168.63.129.16:80",
                  "tcp [64:ff9b::168.63.129.16]:80"],
    },
    Egress {
        list: "@internet:443",
        passes: &["tcp 1.1.1.1:443", "udp 1.1.1.1:443", "tcp [2606:4700::1111]:443", "udp [2606:4700::1111]:443"],
        denied: &["tcp 1.1.1.1:80", "icmp 1.1.1.1", "tcp 10.9.9.9:443", "tcp [fd99::1]:443", "tcp 168.63.129.16:443"],
    },
    Egress {
        list: "@private",
        passes: &["tcp 10.9.9.9:80", "udp 172.16.0.0:53", "icmp 172.31.255.255", "tcp 192.168.255.255:80",
                  "tcp [fd99::1]:80", "udp [fc00::1]:53", "icmp [fdff::1]"],
        denied: &["tcp 9.255.255.255:80", "tcp 11.0.0.0:80", "tcp 172.15.255.255:80", "tcp 172.32.0.0:80",
                  "tcp 192.169.0.0:80", "tcp 100.64.0.1:80", "tcp [fe00::1]:80", "tcp [2606:4700::1111]:80",
                  "tcp [fd00:ec2::254]:80"],
    },
    Egress {
        list: "tcp/@private:5432",
        passes: &["tcp 10.9.9.9:5432", "tcp [fd99::1]:5432"],
        denied: &["udp 10.9.9.9:5432", "tcp 10.9.9.9:5433", "tcp 1.1.1.1:5432", "udp [fd99::1]:5432"],
    },
    Egress { list: "@metadata", passes: METADATA, denied: &["tcp 10.9.9.9:80", "tcp 169.254.169.253:80"] },
    Egress {
        list: "@metadata:80",
        passes: &["tcp 169.254.169.254:80", "tcp [fd00:ec2::254]:80"],
        denied: &["tcp 169.254.169.254:443", "tcp 1.1.1.1:80", "icmp 169.254.169.254"],
    },
    Egress {
        list: "*, 169.254.169.254:80",
        passes: &["tcp 169.254.169.254:80", "tcp 10.9.9.9:80"],
        denied: &["tcp [fd00:ec2::254]:80", "tcp 169.254.170.2:80", "tcp [64:ff9b::169.254.169.254]:80"],
    },
    Egress {
        list: "[fd00:ec2::254]:80",
        passes: &["tcp [fd00:ec2::254]:80"],
        denied: &["tcp 169.254.169.254:80", "tcp [fd00:ec2::254]:81", "tcp [fd00:ec2::253]:80"],
    },
    Egress {
        // A block around it is not "exactly that address".
        list: "169.254.0.0/16",
        passes: &["tcp 169.254.1.1:80"],
        denied: &["tcp 169.254.169.254:80", "tcp 169.254.170.2:80", "tcp 169.254.170.23:80"],
    },
    Egress {
        list: "10.9.0.0/16, !10.9.9.0/24",
        passes: &["tcp 10.9.8.255:80", "tcp 10.9.10.0:80", "udp 10.9.1.1:53", "icmp 10.9.8.1"],
        denied: &["tcp 10.9.9.0:80", "tcp 10.9.9.255:80", "udp 10.9.9.9:53", "icmp 10.9.9.9", "tcp 10.10.0.0:80"],
    },
    Egress {
        list: "!10.9.9.0/24 10.9.0.0/16 10.9.9.9",
        passes: &["tcp 10.9.8.255:80"],
        denied: &["tcp 10.9.9.9:80", "icmp 10.9.9.9"],
    },
    Egress {
        list: "!tcp/*:25 * !udp/[2001:db8::/32]:53",
        passes: &["tcp 10.9.9.9:26", "udp 10.9.9.9:25", "udp 10.9.9.9:53", "tcp [2001:db8::1]:53", "icmp 10.9.9.9"],
        denied: &["tcp 10.9.9.9:25", "tcp [2001:db8::1]:25", "udp [2001:db8::1]:53"],
    },
    Egress {
        list: "@internet, !203.0.113.0/24, !@private, !1.0.0.0/8, 203.0.113.7",
        passes: &["tcp 8.8.8.8:80", "tcp [2606:4700::1111]:80"],
        denied: &["tcp 1.1.1.1:80", "tcp 203.0.113.7:80", "tcp 10.9.9.9:80"],
    },
    Egress {
        // Overlapping and adjacent blocks, and the same one twice.
        list: "10.9.0.0/24 10.9.0.0/16 10.9.1.0/24,10.9.0.0/24:80, 10.10.0.0/16",
        passes: &["tcp 10.9.0.1:80", "tcp 10.9.255.1:443", "tcp 10.10.255.255:80"],
        denied: &["tcp 10.11.0.0:80", "tcp 10.8.255.255:80"],
    },
];

/// Denied whatever a wide entry says.
const METADATA: &[&str] = &[
    "tcp 169.254.169.254:80",
    "udp 169.254.169.254:53",
    "icmp 169.254.169.254",
    "tcp 169.254.170.2:80",
    "tcp 169.254.170.23:80",
    "tcp 168.63.129.16:80",
    "tcp 100.100.100.200:80",
    "tcp [fd00:ec2::254]:80",
    "icmp [fd00:ec2::254]",
    "tcp [64:ff9b::169.254.169.254]:80",
    "tcp [64:ff9b::168.63.129.16]:80",
    "tcp [64:ff9b::100.100.100.200]:80",
];

fn probe(text: &str) -> Probe {
    text.parse().unwrap_or_else(|e| panic!("{e}"))
}

/// `None` when the packet was allowed in every respect.
fn why_not_passed(world: &World, probe: &Probe) -> Option<String> {
    let before = world.heard(probe.address(), probe.port());
    let outcome = probe.send(&world.ctr, PATIENCE);
    let wanted = match probe {
        Probe::Tcp(_) => Outcome::Connected,
        Probe::Udp(_) => Outcome::Sent,
        Probe::Icmp(_) => Outcome::Replied,
    };
    if outcome != wanted {
        return Some(format!("{probe} should pass, but its sender saw {outcome:?}"));
    }
    // Heard at once, or as soon as the neighbour is known.
    for _ in 0..3000 {
        if world.heard(probe.address(), probe.port()) > before {
            world.pump();
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Some(format!("{probe} should pass, but it never arrived"))
}

/// `None` when nothing arrived and the sender saw one of `told`.
fn why_not_denied(world: &World, probe: &Probe, patience: Duration, told: &[Outcome]) -> Option<String> {
    let before = world.heard(probe.address(), probe.port());
    let outcome = probe.send(&world.ctr, patience);
    world.settle();
    if world.heard(probe.address(), probe.port()) > before {
        return Some(format!("{probe} should be denied, but it ARRIVED"));
    }
    (!told.contains(&outcome)).then(|| format!("{probe} was denied, but its sender saw {outcome:?}, not {told:?}"))
}

/// What a sender sees of a rejected packet: TCP is refused, datagrams are not permitted or answered by ICMP.
fn told_by_reject(probe: &Probe) -> &'static [Outcome] {
    match probe {
        Probe::Tcp(_) => &[Outcome::Refused],
        Probe::Udp(_) | Probe::Icmp(_) => &[Outcome::NotPermitted, Outcome::Refused],
    }
}

fn locked(world: &World, key: &str, list: &str) -> Container {
    let container = Container::of(&world.ctr).with(key, list);
    container.lock();
    container
}

fn report(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn without_rules_every_packet_of_the_tables_arrives() {
    // The contrast: what these tests call denied is denied by rules and by nothing else.
    let world = World::new();
    let all = EGRESS.iter().flat_map(|row| row.passes.iter().chain(row.denied));
    report(all.filter_map(|text| why_not_passed(&world, &probe(text))).collect());
}

#[test]
fn an_egress_list_lets_pass_what_it_names_and_nothing_else() {
    let mut problems = Vec::new();
    for row in EGRESS {
        let world = World::new();
        locked(&world, "egress", row.list);
        let passes = row.passes.iter().map(|text| probe(text)).filter_map(|p| why_not_passed(&world, &p));
        let denied = row.denied.iter().map(|text| probe(text));
        let denied = denied.filter_map(|p| why_not_denied(&world, &p, PATIENCE, told_by_reject(&p)));
        problems.extend(passes.chain(denied).map(|problem| format!("egress {:?}: {problem}", row.list)));
    }
    report(problems);
}

#[test]
fn the_host_group_is_the_addresses_of_where_the_hook_runs() {
    // The far side plays the host: the hook runs there.
    for (list, own_passes) in [("@host", true), ("*, !@host", false), ("@host:80", true)] {
        let world = World::new();
        let container = Container::of(&world.ctr).with("egress", list);
        let output = world.far.within(|| hook("createRuntime", &container.state(Dialect::Runc), None));
        assert!(output.status.success(), "{list}: {}", String::from_utf8_lossy(&output.stderr));
        let mut problems = Vec::new();
        for own in FAR {
            let own = Probe::Tcp(SocketAddr::new(own.parse().unwrap(), 80));
            problems.extend(if own_passes {
                why_not_passed(&world, &own)
            } else {
                why_not_denied(&world, &own, PATIENCE, told_by_reject(&own))
            });
        }
        for other in ["tcp 10.9.9.9:80", "tcp [2001:db8::1]:80"].map(probe) {
            problems.extend(if own_passes {
                why_not_denied(&world, &other, PATIENCE, told_by_reject(&other))
            } else {
                why_not_passed(&world, &other)
            });
        }
        report(problems.into_iter().map(|problem| format!("egress {list:?}: {problem}")).collect());
    }
}

#[test]
fn on_denied_drop_is_silence_and_reject_an_answer_at_once() {
    let denied = ["tcp 10.9.9.9:80", "tcp [2001:db8::9]:80"].map(probe);

    let world = World::new();
    Container::of(&world.ctr).with("egress", "10.9.1.1").with("on-denied", "drop").lock();
    let silent = denied.iter().filter_map(|p| why_not_denied(&world, p, SILENCE, &[Outcome::TimedOut])).collect();
    report(silent);

    let world = World::new();
    Container::of(&world.ctr).with("egress", "10.9.1.1").with("on-denied", "reject").lock();
    report(denied.iter().filter_map(|p| why_not_denied(&world, p, PATIENCE, &[Outcome::Refused])).collect());
}

#[test]
fn every_dialect_of_a_state_gets_the_same_rules() {
    let mut listings = Vec::new();
    for dialect in Dialect::ALL {
        let world = World::new();
        let mut container = Container::of(&world.ctr).with("egress", "10.9.1.1:443, [2001:db8::/32]:53, !10.9.9.9");
        container.id = "same".to_owned();
        let output = hook("createRuntime", &container.state(dialect), None);
        assert!(output.status.success(), "{dialect:?}: {}", String::from_utf8_lossy(&output.stderr));
        report(why_not_passed(&world, &probe("tcp 10.9.1.1:443")).into_iter().collect());
        listings.push((dialect, world.ctr.nft_json()));
    }
    for (dialect, listing) in &listings {
        assert!(!listing.is_empty());
        assert_eq!(listing, &listings[0].1, "{dialect:?} against {:?}", listings[0].0);
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Ingress: the same grammar, of the peer's address and the container's own port.

struct Ingress {
    list: &'static str,
    /// `PROTOCOL PEER LOCAL_PORT`.
    passes: &'static [&'static str],
    denied: &'static [&'static str],
}

/// Addresses that the far side sends from; a test's peers are among them.
const PEERS: &[&str] = &[
    "10.9.1.1", "10.9.2.2", "10.9.2.255", "10.9.3.0", "192.168.7.7", "203.0.113.5", "1.1.1.1",
    "2001:db8::1", "2001:db8:1::1", "2606:4700::1111",
];

const INGRESS: &[Ingress] = &[
    Ingress {
        list: "none",
        passes: &[],
        denied: &["tcp 10.9.0.1 8080", "tcp fd99::1 8080", "udp 10.9.1.1 53", "udp 2001:db8::1 53", "icmp 10.9.0.1",
                  "icmp fd99::1"],
    },
    Ingress {
        list: "10.9.1.1",
        passes: &["tcp 10.9.1.1 8080", "udp 10.9.1.1 53", "icmp 10.9.1.1"],
        denied: &["tcp 10.9.2.2 8080", "udp 10.9.2.2 53", "icmp 10.9.2.2", "tcp 2001:db8::1 8080"],
    },
    Ingress {
        list: "[2001:db8::/64]",
        passes: &["tcp 2001:db8::1 8080", "udp 2001:db8::1 53", "icmp 2001:db8::1"],
        denied: &["tcp 2001:db8:1::1 8080", "udp 2001:db8:1::1 53", "icmp 2001:db8:1::1", "tcp 10.9.1.1 8080"],
    },
    Ingress {
        list: "10.9.2.0/24:8080 [2001:db8::1]:53",
        passes: &["tcp 10.9.2.2 8080", "udp 10.9.2.255 8080", "tcp 2001:db8::1 53", "udp 2001:db8::1 53"],
        denied: &["tcp 10.9.2.2 8081", "tcp 10.9.1.1 8080", "tcp 10.9.3.0 8080", "udp 2001:db8::1 54",
                  "icmp 10.9.2.2", "icmp 2001:db8::1"],
    },
    Ingress {
        list: "tcp/*:8000-8080",
        passes: &["tcp 10.9.1.1 8000", "tcp 203.0.113.5 8080", "tcp 2001:db8::1 8000"],
        denied: &["tcp 10.9.1.1 7999", "tcp 2001:db8::1 8081", "udp 10.9.1.1 8000", "icmp 10.9.1.1"],
    },
    Ingress {
        list: "udp/10.9.1.1:53 icmp/10.9.2.0/24 icmp/[2001:db8::1]",
        passes: &["udp 10.9.1.1 53", "icmp 10.9.2.2", "icmp 2001:db8::1"],
        denied: &["tcp 10.9.1.1 53", "icmp 10.9.1.1", "udp 10.9.2.2 53", "icmp 2001:db8:1::1"],
    },
    Ingress {
        list: "*",
        passes: &["tcp 10.9.1.1 8080", "udp 203.0.113.5 53", "icmp 1.1.1.1", "tcp 2001:db8::1 8080", "icmp fd99::1"],
        denied: &[],
    },
    Ingress {
        list: "@private:8080",
        passes: &["tcp 10.9.1.1 8080", "udp 192.168.7.7 8080", "tcp fd99::1 8080"],
        denied: &["tcp 1.1.1.1 8080", "tcp 10.9.1.1 8081", "tcp 2001:db8::1 8080", "icmp 10.9.1.1"],
    },
    Ingress {
        list: "@internet",
        passes: &["tcp 1.1.1.1 8080", "tcp 2606:4700::1111 8080", "icmp 1.1.1.1"],
        denied: &["tcp 10.9.1.1 8080", "tcp 203.0.113.5 8080", "tcp 2001:db8::1 8080", "tcp fd99::1 8080"],
    },
    Ingress {
        list: "!10.9.2.0/24, *:8080, !tcp/[2001:db8:1::/48]:8080",
        passes: &["tcp 10.9.1.1 8080", "tcp 10.9.3.0 8080", "tcp 2001:db8::1 8080", "udp 2001:db8:1::1 8080"],
        denied: &["tcp 10.9.2.2 8080", "udp 10.9.2.255 8080", "tcp 2001:db8:1::1 8080"],
    },
];

/// Sends one packet from `peer` into the container, with a server inside, and says whether it got in and what the
/// sender saw.
fn knock(world: &World, text: &str, patience: Duration) -> (bool, Outcome) {
    let mut words = text.split(' ');
    let (protocol, peer) = (words.next().unwrap(), words.next().unwrap());
    let from: SocketAddr = SocketAddr::new(peer.parse().unwrap(), 0);
    let family = usize::from(from.is_ipv6());
    if protocol == "icmp" {
        let outcome = ping_from(&world.far, from, CTR[family].parse().unwrap(), patience);
        return (outcome == Outcome::Replied, outcome);
    }
    let port: u16 = words.next().unwrap().parse().unwrap();
    let to = SocketAddr::new(CTR[family].parse().unwrap(), port);
    if protocol == "udp" {
        let server = listen_udp(&world.ctr, port);
        world.far.within(|| UdpSocket::bind(from).unwrap().send_to(b"knock", to)).unwrap();
        server.set_read_timeout(Some(patience)).unwrap();
        let got_in = server.recv(&mut [0; 16]).is_ok();
        return (got_in, if got_in { Outcome::Sent } else { Outcome::TimedOut });
    }
    let server = listen(&world.ctr, port);
    server.set_nonblocking(true).unwrap();
    let outcome = world.far.within(|| connect_from(from, to, patience));
    (server.accept().is_ok(), outcome)
}

/// A listener on every address of `inside`. A process that another test forks at this moment holds a copy of the last
/// one until it has called exec, so a port may be free a little later than its owner closed it.
fn listen(inside: &Namespace, port: u16) -> TcpListener {
    loop {
        match inside.within(|| TcpListener::bind(("::", port))) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => std::thread::sleep(Duration::from_millis(1)),
            other => return other.unwrap_or_else(|e| panic!("port {port}: {e}")),
        }
    }
}

fn listen_udp(inside: &Namespace, port: u16) -> UdpSocket {
    loop {
        match inside.within(|| UdpSocket::bind(("::", port))) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => std::thread::sleep(Duration::from_millis(1)),
            other => return other.unwrap_or_else(|e| panic!("port {port}: {e}")),
        }
    }
}

fn connect_from(from: SocketAddr, to: SocketAddr, patience: Duration) -> Outcome {
    match support::raw::connect_from(from, to, patience) {
        Ok(()) => Outcome::Connected,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Outcome::Refused,
        Err(error) if error.kind() == ErrorKind::TimedOut => Outcome::TimedOut,
        Err(error) => panic!("{from} to {to}: {error}"),
    }
}

fn ping_from(far: &Namespace, from: SocketAddr, to: std::net::IpAddr, patience: Duration) -> Outcome {
    support::raw::icmp_echo_from(far, Some(from.ip()), to, patience)
}

fn world_with_peers() -> World {
    let world = World::new();
    let own = PEERS.iter().map(|peer| {
        let (len, nodad) = if peer.contains(':') { (128, " nodad") } else { (32, "") };
        format!("addr add {peer}/{len} dev lo{nodad}\n")
    });
    world.far.ip_batch(&own.collect::<String>());
    world
}

#[test]
fn without_rules_every_knock_of_the_tables_gets_in() {
    let world = world_with_peers();
    let all = INGRESS.iter().flat_map(|row| row.passes.iter().chain(row.denied));
    report(all.filter(|text| !knock(&world, text, PATIENCE).0).map(|text| format!("{text} did not get in")).collect());
}

#[test]
fn an_ingress_list_lets_in_what_it_names_and_nothing_else() {
    let mut problems = Vec::new();
    for row in INGRESS {
        let world = world_with_peers();
        locked(&world, "ingress", row.list);
        for text in row.passes {
            let (got_in, outcome) = knock(&world, text, PATIENCE);
            if !got_in {
                problems.push(format!("ingress {:?}: {text} should get in; its sender saw {outcome:?}", row.list));
            }
        }
        for text in row.denied {
            let (got_in, outcome) = knock(&world, text, SILENCE);
            if got_in {
                problems.push(format!("ingress {:?}: {text} should be denied and GOT IN", row.list));
            } else if outcome != Outcome::TimedOut {
                problems.push(format!("ingress {:?}: {text} should be dropped; its sender saw {outcome:?}", row.list));
            }
        }
    }
    report(problems);
}

#[test]
fn ingress_none_does_not_keep_the_container_from_calling_out() {
    let world = World::new();
    locked(&world, "ingress", "none");
    let out = ["tcp 10.9.1.1:80", "tcp [2001:db8::1]:80", "icmp 10.9.1.1", "icmp [2001:db8::1]"].map(probe);
    report(out.iter().filter_map(|p| why_not_passed(&world, p)).collect());
}

#[test]
fn egress_none_does_not_keep_the_container_from_answering() {
    let world = world_with_peers();
    locked(&world, "egress", "none");
    let server = listen(&world.ctr, 8080);
    for to in CTR {
        let to = SocketAddr::new(to.parse().unwrap(), 8080);
        world.far.within(|| TcpStream::connect_timeout(&to, PATIENCE)).unwrap_or_else(|e| panic!("{to}: {e}"));
        server.accept().unwrap();
        let ping = support::raw::icmp_echo(&world.far, to.ip(), PATIENCE);
        assert_eq!(ping, Outcome::Replied, "{to}");
    }
}
