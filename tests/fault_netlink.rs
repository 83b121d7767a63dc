//! Netlink that fails: requests and answers that are lost, cut, refused, out of date; and somebody who changes the rules
//! between their loading and their being read back.
//!
//! Nothing is believed that was not read back: a start succeeds with the rules of its plan in force, or says why it does
//! not, within its deadline.
// Release builds have no faults to ask for.
#![cfg(debug_assertions)]

mod support;

use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

use netlatch::kernel::process::DEADLINE;
use nix::libc;
use serde_json::Value;
use support::Namespace;
use support::cluster::in_parallel;
use support::container::{Container, Dialect};
use support::fault::{Host, container, pod_of, rules, running, text};
use support::live::{FRONT_LABELS, SHOP, WEB_LABELS, WEB_TAKES_FRONT};

const ASKED: [(&str, &str); 2] = [("egress", "10.0.0.0/8 192.0.2.7:443 !10.9.0.0/16"), ("ingress", "none")];

/// What may be said of a netlink that fails: a sysctl, a link, the ruleset, its read-back, netlink itself.
const CODES: std::ops::RangeInclusive<i32> = 31..=35;

fn count(points: &[String], name: &str) -> usize {
    points.iter().filter(|point| *point == name).count()
}

fn lo_is_up(namespace: &Namespace) -> bool {
    let lo = namespace.ip_json(&["addr", "show", "dev", "lo"]);
    lo[0]["flags"].as_array().expect("flags").contains(&"UP".into())
}

/// A container, its rules when nothing fails, and the points it passes.
struct Undisturbed {
    host: Host,
    rules: Vec<Value>,
    start: Vec<String>,
    poststart: Vec<String>,
}

fn undisturbed() -> Undisturbed {
    let host = Host::new("", &[]);
    let namespace = Namespace::new();
    let one = container("one", &namespace, &ASKED);
    let start = host.points("createRuntime", &one.state(Dialect::Runc));
    let poststart = host.points("poststart", &running(&one));
    host.must("poststop", &one.ended(Dialect::Runc));
    assert!(lo_is_up(&namespace));
    Undisturbed { rules: rules(&namespace), host, start, poststart }
}

#[test]
fn whatever_the_kernel_is_made_to_answer_a_start_tells_the_truth() {
    let Undisturbed { host, rules: plan, start, .. } = undisturbed();
    let mut faults = Vec::new();
    for n in 1..=count(&start, "hear") {
        faults.push((format!("errno:{} hear {n}", libc::ENOBUFS), false));
        for errno in [libc::EPERM, libc::ERESTART, libc::EOPNOTSUPP, 0] {
            faults.push((format!("answer:{errno} hear {n}"), false));
        }
        faults.push((format!("cut hear {n}"), false));
        faults.push((format!("interrupt hear {n}"), true));
    }
    for n in 1..=count(&start, "send") {
        faults.push((format!("errno:{} send {n}", libc::ENOBUFS), false));
    }
    faults.push(("interrupt hear 0".to_owned(), false));
    let mut refused = 0;
    for (n, (fault, harmless)) in faults.iter().enumerate() {
        let namespace = Namespace::new();
        let id = format!("c{n}");
        let victim = container(&id, &namespace, &ASKED);
        let output = host.run("createRuntime", &victim.state(Dialect::Runc), fault);
        if output.status.success() {
            assert_eq!((rules(&namespace), lo_is_up(&namespace)), (plan.clone(), true), "{fault}");
        } else {
            assert!(!harmless, "{fault}: {}", text(&output));
            refused += 1;
            let (code, line) = host.refused(fault, &id, &output);
            assert!(CODES.contains(&code), "{fault}: {line}");
            host.must("createRuntime", &victim.state(Dialect::Runc));
            assert_eq!((rules(&namespace), lo_is_up(&namespace)), (plan.clone(), true), "{fault}, and then again");
        }
    }
    assert!(refused > faults.len() / 2, "{refused} of {} starts were refused", faults.len());
    host.is_untouched();
}

#[test]
fn a_poststart_that_cannot_read_the_rules_verifies_nothing() {
    let Undisturbed { host, rules: plan, poststart, .. } = undisturbed();
    let namespace = Namespace::new();
    let one = container("one", &namespace, &ASKED);
    host.must("createRuntime", &one.state(Dialect::Runc));
    for n in 1..=count(&poststart, "hear") {
        for deed in ["errno:105", "answer:1", "answer:4", "cut"] {
            let fault = format!("{deed} hear {n}");
            let (code, line) = host.refused(&fault, "one", &host.run("poststart", &running(&one), &fault));
            assert!(CODES.contains(&code), "{fault}: {line}");
            assert_eq!(rules(&namespace), plan, "{fault}");
        }
    }
    for n in 1..=count(&poststart, "send") {
        let fault = format!("errno:{} send {n}", libc::ENOBUFS);
        let (code, line) = host.refused(&fault, "one", &host.run("poststart", &running(&one), &fault));
        assert!(CODES.contains(&code), "{fault}: {line}");
    }
    host.must("poststart", &running(&one));
    host.is_untouched();
}

#[test]
fn what_is_never_answered_ends_at_the_deadline() {
    let Undisturbed { host, rules: plan, start, .. } = undisturbed();
    let faults: Vec<String> = ["send", "hear"]
        .into_iter()
        .flat_map(|point| (1..=count(&start, point)).map(move |n| format!("lose {point} {n}")))
        .collect();
    let numbered: Vec<(usize, String)> = faults.into_iter().enumerate().collect();
    let outcomes = in_parallel(&numbered, |(n, fault)| {
        let namespace = Namespace::new();
        let id = format!("c{n}");
        let victim = container(&id, &namespace, &ASKED);
        let began = Instant::now();
        let output = host.run("createRuntime", &victim.state(Dialect::Runc), fault);
        let took = began.elapsed();
        assert!(took < DEADLINE + Duration::from_secs(2), "{fault}: {took:?}");
        if output.status.success() {
            assert_eq!((rules(&namespace), lo_is_up(&namespace)), (plan.clone(), true), "{fault}");
            return 0;
        }
        let (code, line) = host.refused(fault, &id, &output);
        assert!(code == 41 || CODES.contains(&code), "{fault}: {line}");
        code
    });
    assert!(outcomes.contains(&41) && outcomes.contains(&34), "{outcomes:?}");
    host.is_untouched();
}

/// Web follows the fronts, and a second one comes and goes.
struct Shop {
    host: Host,
    web: Namespace,
    /// Web's rules without the second front, and with it.
    alone: Vec<Value>,
    both: Vec<Value>,
    start: Vec<String>,
    stop: Vec<String>,
    _front: Namespace,
}

impl Shop {
    fn new() -> Shop {
        let host = Host::new("", &[SHOP, WEB_TAKES_FRONT]);
        let (web, front, second) = (host.pod(1), host.pod(2), host.pod(3));
        for pod in [pod_of("web", WEB_LABELS, &web), pod_of("front", FRONT_LABELS, &front)] {
            host.must("createRuntime", &pod.state(Dialect::Runc));
        }
        let alone = rules(&web);
        let second = pod_of("second", FRONT_LABELS, &second);
        let start = host.points("createRuntime", &second.state(Dialect::Runc));
        let both = rules(&web);
        assert_ne!(alone, both);
        let stop = host.points("poststop", &second.ended(Dialect::Runc));
        assert_eq!(rules(&web), alone);
        Shop { host, web, alone, both, start, stop, _front: front }
    }

    /// Who starts next brings web about, where it is not as it should be.
    fn next_repairs(&self, fault: &str, wanted: &[Value]) {
        if rules(&self.web) != wanted {
            let other = Namespace::new();
            let next = pod_of("next", "app=other", &other);
            self.host.must("createRuntime", &next.state(Dialect::Runc));
            assert_eq!(rules(&self.web), wanted, "{fault}: who starts next brings web about");
            self.host.must("poststop", &next.ended(Dialect::Runc));
        }
    }

    /// A start of the second front with a fault, and what comes of it. `false` where it was refused.
    fn start(&self, fault: &str) -> bool {
        let namespace = self.host.pod(3);
        let second = pod_of("second", FRONT_LABELS, &namespace);
        let began = Instant::now();
        let output = self.host.run("createRuntime", &second.state(Dialect::Runc), fault);
        assert!(began.elapsed() < DEADLINE + Duration::from_secs(2), "{fault}: {:?}", began.elapsed());
        if output.status.success() {
            self.next_repairs(fault, &self.both);
        } else {
            self.host.refused(fault, "shop_second", &output);
        }
        self.host.must("createRuntime", &second.state(Dialect::Runc));
        assert_eq!(rules(&self.web), self.both, "{fault}");
        self.host.must("poststop", &second.ended(Dialect::Runc));
        assert_eq!(rules(&self.web), self.alone, "{fault}");
        output.status.success()
    }

    /// A stop with a fault. It succeeds, for an engine could do nothing about it.
    fn stop(&self, fault: &str) {
        let namespace = self.host.pod(3);
        let second = pod_of("second", FRONT_LABELS, &namespace);
        self.host.must("createRuntime", &second.state(Dialect::Runc));
        let output = self.host.run("poststop", &second.ended(Dialect::Runc), fault);
        assert!(output.status.success(), "{fault}: {}", text(&output));
        self.next_repairs(fault, &self.alone);
    }
}

fn answers(points: &[String]) -> Vec<String> {
    let each = |deed: &'static str| (1..=count(points, "hear")).map(move |n| format!("{deed} hear {n}"));
    ["errno:105", "answer:1", "cut"].into_iter().flat_map(each).collect()
}

#[test]
fn a_peer_is_never_said_to_be_in_a_set_that_it_is_not_in() {
    let shop = Shop::new();
    let refused = answers(&shop.start).into_iter().filter(|fault| !shop.start(fault)).count();
    assert!(refused > 0);
    for fault in answers(&shop.stop) {
        shop.stop(&fault);
    }
    shop.host.is_untouched();
}

#[test]
fn a_change_of_a_peer_that_is_lost_is_made_up_for() {
    let (starts, stops) = {
        let shop = Shop::new();
        (count(&shop.start, "send"), count(&shop.stop, "send"))
    };
    let all: Vec<(bool, usize)> = (1..=starts).map(|n| (true, n)).chain((1..=stops).map(|n| (false, n))).collect();
    // A question that is lost is waited for until the deadline, so all at once.
    in_parallel(&all, |(start, n)| {
        let (shop, fault) = (Shop::new(), format!("lose send {n}"));
        if *start {
            let _ = shop.start(&fault);
        } else {
            shop.stop(&fault);
        }
        shop.host.is_untouched();
    });
}

/// What somebody does to the table while our process stands between loading it and reading it back.
const TAMPERING: [&str; 9] = [
    "add rule inet netlatch egress accept",
    "insert rule inet netlatch output accept",
    "flush chain inet netlatch output",
    "add chain inet netlatch output { policy accept; }",
    "add chain inet netlatch before { type filter hook output priority -1; }",
    "add table inet netlatch { flags dormant; }",
    "delete element inet netlatch egress_annotation_allow4 { 192.0.2.7 . tcp . 443 }",
    "delete element inet netlatch egress_annotation_allow4 { 192.0.2.7 . tcp . 443 }\n\
     add element inet netlatch egress_annotation_allow4 { 192.0.2.8 . tcp . 443 }",
    "delete table inet netlatch",
];

/// A start whose table is tampered with when it is loaded and not read back.
fn tampered(host: &Host, victim: &Container, namespace: &Namespace, tampering: &[&str]) -> Output {
    let gate = host.engine.path().join(format!("gate-{}", victim.id));
    thread::scope(|scope| {
        let start = scope.spawn(|| {
            host.run("createRuntime", &victim.state(Dialect::Runc), &format!("wait loaded 1 {}", gate.display()))
        });
        wait_for(&format!("{tampering:?}: the rules are loaded"), || gate.exists());
        // One after the other: a sized set has no room for one more until another is gone.
        let done =
            std::panic::catch_unwind(|| tampering.iter().for_each(|change| namespace.nft_load(&format!("{change}\n"))));
        std::fs::remove_file(&gate).expect("the gate");
        let output = start.join().expect("the start ends");
        done.expect("it can be tampered with");
        output
    })
}

#[test]
fn a_table_that_is_changed_before_it_is_read_back_is_refused() {
    let Undisturbed { host, rules: plan, .. } = undisturbed();
    for (n, tampering) in TAMPERING.into_iter().enumerate() {
        let namespace = Namespace::new();
        let victim = container(&format!("c{n}"), &namespace, &ASKED);
        let output = tampered(&host, &victim, &namespace, &[tampering]);
        let (code, line) = host.refused(tampering, &victim.id, &output);
        assert_eq!(code, 34, "{tampering}: {line}");
        assert!(!lo_is_up(&namespace), "{tampering}: nothing was opened behind it");
        // Started again, the container has its rules.
        host.must("createRuntime", &victim.state(Dialect::Runc));
        assert_eq!(rules(&namespace), plan, "{tampering}");
    }
    host.is_untouched();
}

/// Of a large set the number is compared, and some elements; poststart reads all of them.
#[test]
fn a_large_set_that_is_changed_before_it_is_read_back_is_refused_or_found_at_poststart() {
    const SET: &str = "element inet netlatch egress_annotation_allow4";
    let host = Host::new("", &[]);
    let addresses: Vec<String> = (0..2000).map(|n| format!("10.0.{}.{}", n / 100, 1 + 2 * (n % 100))).collect();
    let asked = [("egress", addresses.join(" "))];
    let asked = asked.each_ref().map(|(key, list)| (*key, list.as_str()));
    let (delete, add) = (|address| format!("delete {SET} {{ {address} }}"), format!("add {SET} {{ 10.9.9.9 }}"));
    for (n, (address, another, starts)) in [
        // One less. One for another: the first and the last, which are asked for, and one that is not.
        ("10.0.3.3", false, false),
        ("10.0.0.1", true, false),
        ("10.0.19.199", true, false),
        ("10.0.3.3", true, true),
    ]
    .into_iter()
    .enumerate()
    {
        let namespace = Namespace::new();
        let victim = container(&format!("c{n}"), &namespace, &asked);
        let deleted = delete(address);
        let changes = if another { vec![deleted.as_str(), add.as_str()] } else { vec![deleted.as_str()] };
        let tampering = changes.join(", ");
        let output = tampered(&host, &victim, &namespace, &changes);
        // Before Linux 6.16 the kernel does not say how many there are, and all are read.
        assert!(starts || !output.status.success(), "{tampering}");
        let stage = if output.status.success() { host.run("poststart", &running(&victim), "") } else { output };
        let (code, line) = host.refused(&tampering, &victim.id, &stage);
        assert_eq!(code, 34, "{tampering}: {line}");
        assert!(line.contains("egress_annotation_allow4"), "{tampering}: {line}");
    }
    host.is_untouched();
}

fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "in vain: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}
