//! Ingress: the same grammar, of the peer's address and the container's own port.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use super::support::world::CTR;
use super::support::{Namespace, Outcome, World, raw};
use super::{PATIENCE, SILENCE, locked, probe, report, why_not_passed};

struct Ingress {
    list: &'static str,
    /// `PROTOCOL PEER LOCAL_PORT`.
    passes: &'static [&'static str],
    denied: &'static [&'static str],
}

/// Addresses that the far side sends from; a test's peers are among them.
const PEERS: &[&str] = &[
    "10.9.1.1",
    "10.9.2.2",
    "10.9.2.255",
    "10.9.3.0",
    "192.168.7.7",
    "203.0.113.5",
    "1.1.1.1",
    "2001:db8::1",
    "2001:db8:1::1",
    "2606:4700::1111",
];

const INGRESS: &[Ingress] = &[
    Ingress {
        list: "none",
        passes: &[],
        denied: &[
            "tcp 10.9.0.1 8080",
            "tcp fd99::1 8080",
            "udp 10.9.1.1 53",
            "udp 2001:db8::1 53",
            "icmp 10.9.0.1",
            "icmp fd99::1",
        ],
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
        denied: &[
            "tcp 10.9.2.2 8081",
            "tcp 10.9.1.1 8080",
            "tcp 10.9.3.0 8080",
            "udp 2001:db8::1 54",
            "icmp 10.9.2.2",
            "icmp 2001:db8::1",
        ],
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
    match raw::connect_from(from, to, patience) {
        Ok(()) => Outcome::Connected,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Outcome::Refused,
        Err(error) if error.kind() == ErrorKind::TimedOut => Outcome::TimedOut,
        Err(error) => panic!("{from} to {to}: {error}"),
    }
}

fn ping_from(far: &Namespace, from: SocketAddr, to: std::net::IpAddr, patience: Duration) -> Outcome {
    raw::icmp_echo_from(far, Some(from.ip()), to, patience)
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
        let ping = raw::icmp_echo(&world.far, to.ip(), PATIENCE);
        assert_eq!(ping, Outcome::Replied, "{to}");
    }
}
