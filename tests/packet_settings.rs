//! What the settings do to real packets: the admin's file beside annotations, audit, IPv6 modes, and containers that
//! share a namespace.

mod support;

use std::net::UdpSocket;
use std::process::Output;
use std::time::Duration;

use netlatch::nft::build::DENIED_SIZE;
use serde_json::Value;
use support::container::{Dialect, hook_in};
use support::namespace::end;
use support::{Container, Outcome, Probe, World, hook};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(300);

fn outcome(world: &World, probe: &str) -> Outcome {
    probe.parse::<Probe>().unwrap_or_else(|e| panic!("{e}")).send(&world.ctr, SILENCE)
}

fn arrives(world: &World, probe: &str) -> bool {
    let probe: Probe = probe.parse().unwrap_or_else(|e| panic!("{e}"));
    let before = world.heard(probe.address(), probe.port());
    probe.send(&world.ctr, SILENCE);
    world.settle();
    world.heard(probe.address(), probe.port()) > before
}

fn create(container: &Container, config: &str) -> Output {
    hook("createRuntime", &container.state(Dialect::Runc), Some(config))
}

fn line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn expect_started(output: &Output) {
    assert!(output.status.success(), "{}: {}", output.status, line(output));
}

#[test]
fn a_packet_passes_only_if_the_admins_list_and_the_containers_let_it() {
    let world = World::new();
    let container = Container::of(&world.ctr).with("egress", "10.9.1.1 10.9.9.9 [2001:db8::1]:443");
    expect_started(&create(&container, "egress: 10.9.1.0/24 10.9.2.0/24 [2001:db8::/32]:80\n"));
    assert_eq!(outcome(&world, "tcp 10.9.1.1:80"), Outcome::Connected, "both name it");
    for denied in ["tcp 10.9.2.2:80", "tcp 10.9.9.9:80", "tcp [2001:db8::1]:443", "tcp [2001:db8::1]:80"] {
        assert_eq!(outcome(&world, denied), Outcome::Refused, "{denied}: only one of them names it");
        assert!(!arrives(&world, denied), "{denied}");
    }
}

#[test]
fn an_annotation_opens_metadata_only_where_no_admin_closed_it() {
    for (config, opens) in [
        ("", true),
        ("egress: \"*\"\n", false),
        ("always-denied: [metadata]\n", false),
        ("egress: \"* 169.254.169.254\"\n", true),
    ] {
        let world = World::new();
        let container = Container::of(&world.ctr).with("egress", "169.254.169.254:80 10.9.1.1");
        expect_started(&create(&container, config));
        assert_eq!(arrives(&world, "tcp 169.254.169.254:80"), opens, "under {config:?}");
        assert_eq!(outcome(&world, "tcp 10.9.1.1:80"), Outcome::Connected, "under {config:?}");
    }
}

/// What is in the sets whose names hold `part`, as nft shows it.
fn remembered(world: &World, part: &str) -> Vec<String> {
    let of_name = |set: &&Value| set["name"].as_str().is_some_and(|name| name.contains(part));
    world
        .ctr
        .nft_json()
        .iter()
        .filter_map(|object| object.get("set").filter(of_name))
        .flat_map(|set| set["elem"].as_array().cloned().unwrap_or_default())
        .map(|element| element.pointer("/elem/val/concat").unwrap_or(&element).to_string())
        .collect()
}

#[test]
fn what_is_denied_is_remembered_and_stays_denied_where_no_more_can_be() {
    for on_denied in ["reject", "drop"] {
        let world = World::new();
        let container = Container::of(&world.ctr).with("egress", "10.9.1.1").with("on-denied", on_denied);
        expect_started(&create(&container, ""));
        assert!(arrives(&world, "tcp 10.9.1.1:80"));
        for denied in ["tcp 10.9.9.9:443", "udp [2001:db8::9]:53"] {
            assert!(!arrives(&world, denied), "{denied}");
        }
        support::raw::icmp_echo(&world.ctr, "10.9.8.8".parse().unwrap(), Duration::from_millis(50));
        let mut all = remembered(&world, "egress_denied");
        all.sort();
        let wanted = [r#"["10.9.8.8","icmp",0]"#, r#"["10.9.9.9","tcp",443]"#, r#"["2001:db8::9","udp",53]"#];
        assert_eq!(all, wanted, "{on_denied}");
        // One more than there is room for.
        let full = DENIED_SIZE as usize;
        world.ctr.within(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            for port in 1000..=1000 + full as u16 {
                // Refused at once, or not at all.
                let _ = socket.send_to(b"x", ("10.9.9.9", port));
            }
        });
        let held = remembered(&world, "egress_denied4").len();
        assert_eq!(held, full, "{on_denied}");
        for denied in ["tcp 10.9.7.7:443", "udp 10.9.7.7:53"] {
            assert!(!arrives(&world, denied), "{denied} where there is no room");
        }
        assert!(arrives(&world, "tcp 10.9.1.1:80"));
    }
}

#[test]
fn audit_lets_everything_pass_and_remembers_what_it_would_have_denied() {
    let world = World::new();
    let container = Container::of(&world.ctr).with("egress", "10.9.1.1").with("mode", "audit");
    expect_started(&create(&container, ""));
    for passed in ["tcp 10.9.1.1:80", "tcp 10.9.9.9:443", "udp [2001:db8::9]:53"] {
        assert!(arrives(&world, passed), "{passed}");
    }
    let all = remembered(&world, "_seen").join(" ");
    assert!(all.contains(r#"["10.9.9.9","tcp",443]"#) && all.contains(r#"["2001:db8::9","udp",53]"#), "{all}");
    assert!(!all.contains("10.9.1.1"), "what is allowed is not remembered: {all}");
}

#[test]
fn an_annotations_audit_does_not_loosen_the_admins_list() {
    let world = World::new();
    let container = Container::of(&world.ctr).with("egress", "10.9.2.2").with("mode", "audit");
    expect_started(&create(&container, "egress: 10.9.1.0/24\n"));
    assert!(arrives(&world, "tcp 10.9.1.1:80"), "the container's own list only watches");
    assert!(!arrives(&world, "tcp 10.9.9.9:80"), "the admin's still denies");
    assert!(!arrives(&world, "tcp 10.9.2.2:80"));
}

#[test]
fn ingress_reject_answers_a_caller_with_a_reset() {
    let world = World::new();
    let container = Container::of(&world.ctr).with("ingress", "none").with("on-denied", "reject");
    expect_started(&create(&container, ""));
    let knock = |to: &str| support::raw::connect_from("0.0.0.0:0".parse().unwrap(), to.parse().unwrap(), PATIENCE);
    let error = world.far.within(|| knock("10.9.0.2:80")).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn loopback_only_keeps_ipv6_inside_and_disable_takes_it_away() {
    for (mode, inside, address) in [("loopback-only", true, true), ("disable", false, false), ("enable", true, true)] {
        let world = World::new();
        // As runc leaves a namespace it made: lo is up, with ::1.
        world.ctr.ip_batch("link set lo up\n");
        let container = Container::of(&world.ctr).with("ipv6", mode).with("egress", "*");
        expect_started(&create(&container, ""));
        let shown = world.ctr.run("ip", &["-6", "address", "show", "lo"], "");
        assert_eq!(shown.contains("::1/128"), address, "{mode}: {shown}");
        let bound = world.ctr.within(|| std::net::TcpListener::bind("[::1]:4321"));
        assert_eq!(bound.is_ok(), inside, "{mode}");
        if let Ok(listener) = bound {
            let reached = world.ctr.within(|| std::net::TcpStream::connect(listener.local_addr().unwrap()));
            assert!(reached.is_ok(), "{mode}: {reached:?}");
        }
        assert_eq!(arrives(&world, "udp [2001:db8::9]:53"), mode == "enable", "{mode}");
    }
}

#[test]
fn ipv6_stays_shut_by_the_rules_where_somebody_turns_the_sysctl_back() {
    let world = World::new();
    expect_started(&create(&Container::of(&world.ctr).with("ipv6", "disable"), ""));
    for file in ["net/ipv6/conf/all/disable_ipv6", "net/ipv6/conf/eth0/disable_ipv6"] {
        world.ctr.set_sysctl(file, "0");
    }
    world.ctr.ip_batch("address replace fd99::2/64 dev eth0 nodad\nroute replace ::/0 via fd99::1 dev eth0\n");
    assert!(!arrives(&world, "udp [2001:db8::9]:53"), "by the rules alone");
    world.ctr.run("nft", &["delete", "table", "inet", "netlatch"], "");
    assert!(arrives(&world, "udp [2001:db8::9]:53"), "without them it arrives, so the probe is sound");
}

/// The hook with one run directory for all calls, as on a host.
fn create_in(dir: &TempDir, container: &Container) -> Output {
    hook_in(dir, "createRuntime", &container.state(Dialect::Runc), None)
}

#[test]
fn a_container_without_annotations_leaves_its_neighbours_rules_alone() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    expect_started(&create_in(&dir, &Container::of(&world.ctr).with("egress", "10.9.1.1")));
    let mut joined = Container::of(&world.ctr);
    joined.id = "joined".to_owned();
    expect_started(&create_in(&dir, &joined));
    assert!(!arrives(&world, "tcp 10.9.9.9:80"), "the neighbour's list still holds");
    assert_eq!(outcome(&world, "tcp 10.9.1.1:80"), Outcome::Connected);
    let output = hook_in(&dir, "poststart", &joined.state(Dialect::Runc), None);
    expect_started(&output);
}

#[test]
fn two_containers_that_ask_for_different_rules_cannot_share_a_namespace() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let mut first = Container::of(&world.ctr).with("egress", "10.9.1.1");
    first.pid = world.ctr.process();
    expect_started(&create_in(&dir, &first));
    let mut other = Container::of(&world.ctr).with("egress", "*");
    other.id = "other".to_owned();
    let refused = create_in(&dir, &other);
    assert_eq!(refused.status.code(), Some(17), "{}", line(&refused));
    assert!(line(&refused).contains(&first.id), "{}", line(&refused));
    assert!(!arrives(&world, "tcp 10.9.9.9:80"));
    // The same rules are fine, and so is the first container's own second start.
    let mut alike = Container::of(&world.ctr).with("egress", "10.9.1.1");
    alike.id = "alike".to_owned();
    alike.pid = world.ctr.process();
    expect_started(&create_in(&dir, &alike));
    // Once the others are forgotten the rules may change.
    for gone in [&first, &alike] {
        end(gone.pid);
        expect_started(&hook_in(&dir, "poststop", &gone.stopped(Dialect::Runc), None));
    }
    expect_started(&create_in(&dir, &other));
    assert!(arrives(&world, "tcp 10.9.9.9:80"));
}

#[test]
fn poststart_fails_where_the_table_was_changed_and_completes_what_the_runtime_undid() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let container = Container::of(&world.ctr).with("egress", "10.9.1.1").with("ipv6", "disable");
    expect_started(&create_in(&dir, &container));
    world.ctr.set_sysctl("net/ipv6/conf/default/disable_ipv6", "0");
    world.ctr.ip_batch("link add late type veth peer name late-peer\nlink set late up\n");
    assert_eq!(world.ctr.sysctl("net/ipv6/conf/late/disable_ipv6"), "0");
    let poststart = || hook_in(&dir, "poststart", &container.state(Dialect::Crun), None);
    expect_started(&poststart());
    for interface in ["default", "late", "late-peer", "eth0"] {
        assert_eq!(world.ctr.sysctl(&format!("net/ipv6/conf/{interface}/disable_ipv6")), "1", "{interface}");
    }
    world.ctr.run("nft", &["insert", "rule", "inet", "netlatch", "output", "accept"], "");
    let failed = poststart();
    assert_eq!(failed.status.code(), Some(34), "{}", line(&failed));
}
