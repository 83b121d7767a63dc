//! A container's first process for the runtime tests. It sends to forbidden addresses before it does anything else,
//! then says on standard output, as one JSON object, what it could do and how its namespace looks.
//!
//! Arguments: `udp:ADDR:PORT` and `tcp:ADDR:PORT` are further probes; `wait` keeps it alive until standard input ends,
//! `fail` lets it end with exit code 1; `patient` lets the probes after it wait where a network is slow to come up.

use std::fs::read_to_string;
use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

// The same addresses are in tests/runtimes.rs, where their arrival is counted.
const FORBIDDEN_V4: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 9, 9, 9), 53);
const FORBIDDEN_V6: (Ipv6Addr, u16) = (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9), 53);
/// How long a connection is waited for.
const BRIEFLY: Duration = Duration::from_millis(500);

fn main() {
    let udp_v4 = udp(FORBIDDEN_V4.into());
    let udp_v6 = udp(FORBIDDEN_V6.into());
    let tcp_v4 = tcp(FORBIDDEN_V4.into(), BRIEFLY);
    let tcp_v6 = tcp(FORBIDDEN_V6.into(), BRIEFLY);

    let mut probes = Vec::new();
    let (mut wait, mut fail, mut patience) = (false, false, BRIEFLY);
    for argument in std::env::args().skip(1) {
        if argument == "wait" {
            wait = true;
            continue;
        }
        if argument == "patient" {
            patience = Duration::from_secs(10);
            continue;
        }
        if argument == "fail" {
            fail = true;
            continue;
        }
        let (protocol, to) = argument.split_once(':').expect("PROTOCOL:ADDR:PORT");
        let to: SocketAddr = to.parse().expect("ADDR:PORT");
        let start = Instant::now();
        let outcome = if protocol == "udp" { udp(to) } else { tcp(to, patience) };
        let micros = start.elapsed().as_micros();
        probes.push(format!("{{\"probe\":\"{argument}\",\"outcome\":\"{outcome}\",\"micros\":{micros}}}"));
    }

    let flags = read_to_string("/sys/class/net/lo/flags").unwrap_or_default();
    let inet6 = read_to_string("/proc/net/if_inet6").unwrap_or_default();
    println!(
        "{{\"first\":[\"{udp_v4}\",\"{udp_v6}\",\"{tcp_v4}\",\"{tcp_v6}\"],\"probes\":[{}],\"lo\":{{\"flags\":\"{}\",\
         \"v4\":{},\"v6\":{}}},\"inet6\":{},\"disable_ipv6\":{{\"all\":{},\"default\":{},\"lo\":{}}}}}",
        probes.join(","),
        flags.trim(),
        reaches_itself(Ipv4Addr::LOCALHOST.into()),
        reaches_itself(Ipv6Addr::LOCALHOST.into()),
        inet6.lines().count(),
        sysctl("all"),
        sysctl("default"),
        sysctl("lo"),
    );
    if wait {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
    }
    if fail {
        std::process::exit(1);
    }
}

fn udp(to: SocketAddr) -> &'static str {
    let from: SocketAddr = if to.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
    match UdpSocket::bind(from).and_then(|socket| socket.send_to(b"first", to)) {
        Ok(_) => "sent",
        Err(error) => word(&error),
    }
}

fn tcp(to: SocketAddr, patience: Duration) -> &'static str {
    match TcpStream::connect_timeout(&to, patience) {
        Ok(_) => "connected",
        Err(error) => word(&error),
    }
}

fn word(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::ConnectionRefused => "refused",
        ErrorKind::PermissionDenied => "not permitted",
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "timed out",
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable | ErrorKind::AddrNotAvailable => "unreachable",
        _ => "failed",
    }
}

fn reaches_itself(own: std::net::IpAddr) -> bool {
    let listener = TcpListener::bind((own, 0));
    let to = listener.as_ref().ok().and_then(|listener| listener.local_addr().ok());
    to.is_some_and(|to| TcpStream::connect_timeout(&to, Duration::from_secs(1)).is_ok())
}

fn sysctl(interface: &str) -> String {
    match read_to_string(format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6")) {
        Ok(value) => format!("\"{}\"", value.trim()),
        Err(_) => "null".to_owned(),
    }
}
