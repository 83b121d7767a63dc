//! What scripts/bench.sh says of whom it cannot measure: it never leaves one out in silence, and never measures what is not there.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use support::container::binary;

/// Runs groups of the bench for one round, its programs looked for in `before` first, its pictures in `pictures`.
fn bench(groups: &[&str], before: &Path, pictures: &Path, environment: &[(&str, &Path)]) -> Output {
    let examples = binary().with_file_name("examples");
    let program = examples.join("bench-peers");
    assert!(program.exists(), "{}: cargo build --examples", program.display());
    let path = std::env::var("PATH").expect("a PATH");
    let mut command = Command::new(program);
    command.arg(binary()).arg(&examples).arg(pictures).args(groups);
    command.env("PATH", format!("{}:{path}:/usr/sbin", before.display())).env("ROUNDS", "1").env("SIZES", "10");
    command.envs(environment.iter().copied()).output().expect("it starts")
}

#[test]
fn as_the_hosts_root_a_peer_that_fails_is_named_and_the_others_go_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let ipset = dir.path().join("ipset");
    fs::write(&ipset, "#!/bin/sh\necho 'the set is full' >&2\nexit 3\n").expect("a file");
    fs::set_permissions(&ipset, fs::Permissions::from_mode(0o755)).expect("a mode");

    let output = bench(&["peers"], dir.path(), dir.path(), &[]);
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));

    assert_eq!(output.status.code(), Some(1), "{stdout}{stderr}");
    for failed in ["ipset restore, five networks", "ipset restore and one rule of iptables-legacy"] {
        assert!(stderr.contains(&format!("failed: peers: {failed}: ")), "{stderr}");
        assert!(stdout.lines().any(|row| row.starts_with(&format!("| {failed} | failed: "))), "{stdout}");
    }
    assert!(stderr.contains("the set is full"), "{stderr}");
    let samples = fs::read_to_string(dir.path().join("peers.csv")).expect("samples");
    for measured in ["netlatch createRuntime", "ip link set lo up"] {
        assert!(samples.contains(&format!("\"{measured}\",0,")), "{samples}");
    }
    assert!(!samples.contains("\"ipset restore"), "{samples}");
}

#[test]
fn as_the_hosts_root_a_lane_whose_packets_do_not_all_arrive_has_failed() {
    let dir = tempfile::tempdir().expect("a directory");
    let rules = |name: &str, chain: &str, verdict: &str| {
        let file = dir.path().join(name);
        let text = format!("table {chain}; policy accept\nip daddr 10.98.2.7 {verdict}\n}}\n}}\n");
        fs::write(&file, text).expect("a file");
        file
    };
    // One address of a thousand. `sendto` succeeds in the first, which drops behind it, and fails in the second.
    let silent = rules("silent", "netdev t {\nchain c {\ntype filter hook egress device eth0 priority 0", "drop");
    let loud = rules("loud", "inet t {\nchain c {\ntype filter hook output priority 0", "drop");
    let fine = rules("fine", "inet t {\nchain c {\ntype filter hook output priority 0", "accept");
    let all = std::env::join_paths([&silent, &loud, &fine]).expect("paths");

    let output = bench(&["packets"], dir.path(), dir.path(), &[("RULES", Path::new(&all))]);
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));

    assert_eq!(output.status.code(), Some(1), "{stdout}{stderr}");
    let named = |file: &Path, why: &str| format!("failed: packets-new: {}: {why}", file.display());
    assert!(stderr.contains(&named(&silent, "999 of 1000 packets arrived")), "{stderr}");
    assert!(stderr.contains(&named(&loud, "Operation not permitted")), "{stderr}");
    assert!(!stderr.contains(&fine.display().to_string()), "{stderr}");
    for group in ["established", "new", "connections", "stream", "throughput"] {
        let samples = fs::read_to_string(dir.path().join(format!("packets-{group}.csv"))).expect("samples");
        for measured in ["no rules", "conntrack alone", "netlatch, a list of 10", &fine.display().to_string()] {
            assert!(samples.contains(&format!("\"{measured}\",0,")), "{group}: {samples}");
        }
        assert_eq!(samples.contains(&silent.display().to_string()), group != "new", "{group}: {samples}");
    }
}
