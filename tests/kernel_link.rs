//! Loopback, links and addresses, judged by `ip` and, for what is sent, by strace.
//!
//! Every test works in a fresh network namespace on a thread of its own, and both end together.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use netlatch::kernel::capability;
use netlatch::kernel::link::{self, Links, Loopback};
use netlatch::kernel::netns::{self, Inside};
use netlatch::kernel::process::{DEADLINE, Deadline};

/// Runs `test` on a thread of its own: setns and capset bind a thread, and libtest may give a test the main one.
fn on_a_thread<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    match thread::spawn(test).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn deadline() -> Deadline {
    Deadline::after(DEADLINE)
}

/// What `ip` prints in this thread's namespace.
fn ip(args: &[&str]) -> String {
    let output = Command::new("ip").args(args).output().expect("ip");
    assert!(output.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A fresh namespace with `lo` down, and IPv6 off where asked.
fn fresh(ipv6: bool) -> Inside {
    let inside = netns::unshared().unwrap();
    if !ipv6 {
        for scope in ["default", "lo"] {
            fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6"), "1").unwrap();
        }
    }
    assert!(!lo_is_up());
    inside
}

fn lo_is_up() -> bool {
    ip(&["-o", "link", "show", "lo"]).contains("<LOOPBACK,UP,LOWER_UP>")
}

#[test]
fn lo_comes_up_from_down_and_is_left_alone_when_up() {
    on_a_thread(|| {
        let inside = fresh(true);
        let mut links = Links::open(&inside).unwrap();
        assert!(links.raise_loopback(&deadline()).unwrap().up);
        assert!(lo_is_up());
        assert!(links.raise_loopback(&deadline()).unwrap().up);
        assert!(lo_is_up());
    });
}

#[test]
fn lo_has_its_ipv6_address_exactly_when_ipv6_is_on() {
    for ipv6 in [true, false] {
        on_a_thread(move || {
            let inside = fresh(ipv6);
            let mut links = Links::open(&inside).unwrap();
            let before = links.loopback(&deadline()).unwrap();
            assert_eq!(before, Loopback { up: false, v4: false, v6: false, ipv6 });

            let after = links.raise_loopback(&deadline()).unwrap();
            assert_eq!(links.loopback(&deadline()).unwrap(), after);
            assert_eq!(after, Loopback { up: true, v4: true, v6: ipv6, ipv6 });
            link::check_loopback(&after).unwrap();
            let shown = ip(&["-o", "address", "show", "lo"]);
            assert!(shown.contains("inet 127.0.0.1/8 "), "{shown}");
            assert_eq!(shown.contains("inet6 ::1/128 "), ipv6, "{shown}");
        });
    }
}

#[test]
fn lo_under_another_name_is_still_lo() {
    on_a_thread(|| {
        let inside = fresh(true);
        ip(&["link", "set", "lo", "name", "loopback"]);
        assert!(Links::open(&inside).unwrap().raise_loopback(&deadline()).unwrap().up);
        assert!(ip(&["-o", "link", "show", "loopback"]).contains("LOOPBACK,UP"));
    });
}

#[test]
fn a_refused_link_change_is_an_error() {
    on_a_thread(|| {
        let inside = fresh(true);
        capability::keep_only(&[]).unwrap();
        let failure = Links::open(&inside).unwrap().raise_loopback(&deadline()).unwrap_err();
        assert_eq!(failure.exit_code(), 32);
        assert!(failure.to_string().contains("the kernel refused it with EPERM"), "{failure}");
    });
}

#[test]
fn links_and_addresses_are_those_ip_shows() {
    on_a_thread(|| {
        let inside = fresh(true);
        ip(&["link", "add", "first", "type", "veth", "peer", "name", "a.dotted.name"]);
        ip(&["address", "add", "192.0.2.1/24", "dev", "first"]);
        ip(&["address", "add", "198.51.100.1", "peer", "198.51.100.2/32", "dev", "first"]);
        ip(&["address", "add", "2001:db8::1/64", "dev", "a.dotted.name", "nodad"]);
        ip(&["link", "set", "lo", "up"]);

        let mut links = Links::open(&inside).unwrap();
        let names: Vec<_> = links.links(&deadline()).unwrap().into_iter().map(|link| (link.index, link.name)).collect();
        let mut expected = vec![(1, "lo".to_owned())];
        for name in ["a.dotted.name", "first"] {
            expected.push((index_by_ip(name), name.to_owned()));
        }
        expected.sort();
        let mut sorted = names.clone();
        sorted.sort();
        assert_eq!(sorted, expected);

        let first = index_by_ip("first");
        let dotted = index_by_ip("a.dotted.name");
        let mut addresses: Vec<_> = links
            .addresses(&deadline())
            .unwrap()
            .into_iter()
            .map(|found| format!("{} {}/{}", found.index, found.address, found.prefix))
            .collect();
        addresses.sort();
        let mut expected = vec![
            "1 127.0.0.1/8".to_owned(),
            "1 ::1/128".to_owned(),
            format!("{first} 192.0.2.1/24"),
            format!("{first} 198.51.100.1/32"),
            format!("{dotted} 2001:db8::1/64"),
        ];
        expected.sort();
        assert_eq!(addresses, expected);
        assert_eq!(link::addresses_here(&deadline()).unwrap().len(), expected.len());
        assert_eq!(link::links_here(&deadline()).unwrap().len(), 3);
    });
}

fn index_by_ip(name: &str) -> u32 {
    ip(&["-o", "link", "show", name]).split(':').next().unwrap().parse().unwrap()
}

#[test]
fn more_links_than_one_datagram_holds_are_all_listed() {
    on_a_thread(|| {
        let inside = fresh(true);
        for n in 0..20 {
            ip(&["link", "add", &format!("a{n}"), "type", "veth", "peer", "name", &format!("b{n}")]);
        }
        assert_eq!(Links::open(&inside).unwrap().links(&deadline()).unwrap().len(), 41);
    });
}

#[test]
fn a_passed_deadline_does_not_lose_an_answer_that_is_there() {
    on_a_thread(|| {
        let inside = fresh(true);
        // rtnetlink answers inside the send; reporting a failure then would misstate what was done.
        let past = Deadline::after(Duration::ZERO);
        assert!(Links::open(&inside).unwrap().raise_loopback(&past).unwrap().up);
    });
}

/// Set in the copy of this program that strace watches.
const UNDER_STRACE: &str = "NETLATCH_TEST_UNDER_STRACE";

#[test]
#[ignore = "needs strace and leave to trace"]
fn what_is_sent_is_what_runc_sends() {
    const SELF: &str = "what_is_sent_is_what_runc_sends";
    if std::env::var_os(UNDER_STRACE).is_some() {
        on_a_thread(|| {
            let inside = netns::unshared().unwrap();
            Links::open(&inside).unwrap().raise_loopback(&deadline()).unwrap();
        });
    } else {
        let output = Command::new("strace")
            .args(["-f", "-xx", "-e", "trace=sendto", "-e", "write=all", "-s", "4096", "-e", "verbose=none"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", SELF, "--ignored"])
            .env(UNDER_STRACE, "1")
            .output()
            .expect("strace");
        let trace = String::from_utf8_lossy(&output.stderr);
        let sent: Vec<u8> = dumped(&trace);
        // nlmsghdr but for its sequence number, which runc counts otherwise, and ifinfomsg.
        let message = sent.windows(32).find(|bytes| bytes.starts_with(&[32, 0, 0, 0, 16, 0])).expect("an RTM_NEWLINK");
        assert_eq!(message[6..8], [5, 0], "NLM_F_REQUEST | NLM_F_ACK");
        assert_eq!(message[12..], [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
    }
}

/// The bytes in the hex dumps of `-e write=all`.
fn dumped(trace: &str) -> Vec<u8> {
    let lines = trace.lines().filter_map(|line| line.trim_start().strip_prefix("| ")?.get(7..57));
    lines.flat_map(str::split_whitespace).filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect()
}
