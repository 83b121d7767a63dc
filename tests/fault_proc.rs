//! A /proc that is not as it should be: read-only, covered, hidden.

mod support;

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use support::Namespace;
use support::container::{Container, Dialect};
use support::fault::{Host, container, pod_of, rules, running, text};
use support::live::{FRONT_LABELS, SHOP, WEB_LABELS, WEB_TAKES_FRONT};

fn must(host: &Host, mounts: &str, stage: &str, state: &Value) {
    let output = host.run_under(mounts, stage, state);
    assert!(output.status.success() && text(&output).is_empty(), "{mounts}: {stage}: {}", text(&output));
}

const READ_ONLY: [&str; 2] =
    ["mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys", "mount -o remount,ro,bind /proc"];

const ASKED: [(&str, &str); 2] = [("egress", "10.0.0.0/8"), ("ipv6", "disable")];

#[test]
fn a_value_that_is_there_already_needs_no_writing() {
    let host = Host::new("", &[]);
    for mounts in READ_ONLY {
        let namespace = Namespace::new();
        let one = container("one", &namespace, &ASKED);
        for name in ["all", "default", "lo"] {
            namespace.set_sysctl(&format!("net/ipv6/conf/{name}/disable_ipv6"), "1");
        }
        must(&host, mounts, "createRuntime", &one.state(Dialect::Runc));
        must(&host, mounts, "poststart", &running(&one));
        assert!(!rules(&namespace).is_empty());
        // And who asks for no sysctl needs none.
        let namespace = Namespace::new();
        let two = container("two", &namespace, &ASKED[..1]);
        must(&host, mounts, "createRuntime", &two.state(Dialect::Runc));
        assert!(!rules(&namespace).is_empty());
    }
    host.is_untouched();
}

#[test]
fn a_value_that_cannot_be_written_is_named_and_the_rules_are_in_force() {
    let host = Host::new("", &[]);
    let undisturbed = Namespace::new();
    host.must("createRuntime", &container("one", &undisturbed, &ASKED).state(Dialect::Runc));
    for (n, mounts) in READ_ONLY.into_iter().enumerate() {
        let namespace = Namespace::new();
        let id = format!("c{n}");
        let one = container(&id, &namespace, &ASKED);
        let (code, line) =
            host.refused(mounts, &id, &host.run_under(mounts, "createRuntime", &one.state(Dialect::Runc)));
        assert_eq!(code, 31, "{line}");
        assert!(line.contains("net.ipv6.conf.") && line.contains("disable_ipv6"), "{line}");
        assert_eq!(rules(&namespace), rules(&undisturbed), "{mounts}");
        // Set right from outside meanwhile and then wrong again: poststart says so, too.
        host.must("createRuntime", &one.state(Dialect::Runc));
        must(&host, mounts, "poststart", &running(&one));
        namespace.set_sysctl("net/ipv6/conf/all/disable_ipv6", "0");
        let (code, line) = host.refused(mounts, &id, &host.run_under(mounts, "poststart", &running(&one)));
        assert_eq!(code, 31, "{line}");
    }
    host.is_untouched();
}

#[test]
fn what_is_no_procfs_is_refused() {
    let host = Host::new("", &[]);
    let covered = [
        "mount -t tmpfs none /proc",
        "mount -t tmpfs none /proc && mkdir -p /proc/sys/net/ipv6/conf/all",
        "mount -t tmpfs none /proc/sys",
        "mount -t proc -o subset=pid proc /proc",
        "mkdir -p /proc/self/fd && mount --bind / /proc",
    ];
    for (n, mounts) in covered.into_iter().enumerate() {
        let namespace = Namespace::new();
        let id = format!("c{n}");
        let one = container(&id, &namespace, &ASKED);
        let (code, line) =
            host.refused(mounts, &id, &host.run_under(mounts, "createRuntime", &one.state(Dialect::Runc)));
        assert_eq!(code, 30, "{mounts}: {line}");
        assert!(rules(&namespace).is_empty(), "{mounts}");
    }
    host.is_untouched();
}

/// A container's first process with another user's id, as within a user namespace.
struct Stranger(Child);

impl Stranger {
    fn new() -> Stranger {
        let mut child = Command::new("unshare")
            .args(["--net", "setpriv", "--reuid", "65533", "--regid", "65533", "--clear-groups", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare starts");
        child.stdin.as_mut().expect("a pipe").write_all(b"?").expect("it reads");
        child.stdout.as_mut().expect("a pipe").read_exact(&mut [0]).expect("it echoes");
        Stranger(child)
    }

    /// A container that joins the namespace of this process by its path.
    fn container(&self, id: &str, pid: u32, annotations: &[(&str, &str)]) -> Container {
        let here = Namespace::new();
        let mut container = container(id, &here, annotations);
        container.pid = i32::try_from(pid).expect("a pid");
        let network = json!({"type": "network", "path": format!("/proc/{}/ns/net", self.0.id())});
        container.write_config(&json!({"ociVersion": "1.0.2", "linux": {"namespaces": [network]}}));
        container
    }

    fn rules(&self) -> String {
        let net = format!("--net=/proc/{}/ns/net", self.0.id());
        let output = Command::new("nsenter").args([&net, "nft", "list", "ruleset"]).output().expect("nsenter");
        String::from_utf8(output.stdout).expect("UTF-8")
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Root is in the group 0, which is let in unless another is named.
const HIDDEN: [&str; 3] = [
    "mount -t proc -o hidepid=2 proc /proc",
    "mount -t proc -o hidepid=1,gid=65532 proc /proc",
    "mount -t proc -o hidepid=2,gid=65532 proc /proc",
];

#[test]
fn a_container_is_protected_where_processes_are_hidden() {
    let host = Host::new("", &[]);
    for mounts in HIDDEN {
        let stranger = Stranger::new();
        let one = stranger.container("one", stranger.0.id(), &ASKED);
        must(&host, mounts, "createRuntime", &one.state(Dialect::Runc));
        must(&host, mounts, "poststart", &running(&one));
        assert!(stranger.rules().contains("10.0.0.0/8"), "{mounts}");
        must(&host, mounts, "poststop", &one.stopped(Dialect::Runc));
    }
    host.is_untouched();
}

#[test]
fn a_neighbour_whose_process_is_hidden_is_not_taken_for_gone() {
    for mounts in HIDDEN {
        let host = Host::new("", &[]);
        let stranger = Stranger::new();
        let strict = stranger.container("strict", stranger.0.id(), &[("egress", "10.7.7.7")]);
        must(&host, mounts, "createRuntime", &strict.state(Dialect::Runc));
        // A container without wishes joins its network: the rules of the one that has some stay.
        let guest = stranger.container("guest", stranger.0.id(), &[]);
        must(&host, mounts, "createRuntime", &guest.state(Dialect::Runc));
        assert!(stranger.rules().contains("10.7.7.7"), "{mounts}: {}", stranger.rules());
        host.is_untouched();
    }
}

#[test]
fn a_peer_whose_process_is_hidden_stays_in_the_sets() {
    for mounts in HIDDEN {
        let host = Host::new("", &[SHOP, WEB_TAKES_FRONT]);
        let web = host.pod(1);
        must(&host, mounts, "createRuntime", &pod_of("web", WEB_LABELS, &web).state(Dialect::Runc));
        let stranger = Stranger::new();
        let net = format!("--net=/proc/{}/ns/net", stranger.0.id());
        let made = Command::new("nsenter")
            .args([&net, "sh", "-c", "ip link add eth0 type veth peer name far && ip addr add 10.1.0.2/32 dev eth0"])
            .status()
            .expect("nsenter");
        assert!(made.success());
        let mut front = pod_of("front", FRONT_LABELS, &web);
        front.pid = i32::try_from(stranger.0.id()).expect("a pid");
        must(&host, mounts, "createRuntime", &front.state(Dialect::Runc));
        let both = rules(&web);
        assert!(format!("{both:?}").contains("10.1.0.2"), "{mounts}");
        let other = host.pod(4);
        let next = pod_of("next", "app=other", &other);
        must(&host, mounts, "createRuntime", &next.state(Dialect::Runc));
        must(&host, mounts, "poststart", &running(&next));
        must(&host, mounts, "poststop", &next.stopped(Dialect::Runc));
        assert_eq!(rules(&web), both, "{mounts}");
        let reload = host.run_under(mounts, "reload", &Value::Null);
        assert!(reload.status.success(), "{mounts}: {}", text(&reload));
        assert_eq!(rules(&web), both, "{mounts}: after a reload");
        host.is_untouched();
    }
}
