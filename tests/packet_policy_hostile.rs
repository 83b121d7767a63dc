//! Containers, records and files that are not as they should be while policies are in force: what holds all the same, told
//! by real packets.

mod support;

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use support::live::{FRONT, FRONT_LABELS, Live, PATIENCE, SILENCE, WEB, WEB_LABELS, WEB_TAKES_FRONT, addresses};

/// Web takes everything, but from evil.
const EVIL_KEPT_OUT: &str = "\
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: evil-kept-out}
spec:
  tier: Admin
  priority: 1
  subject: {pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}}
  ingress:
  - action: Deny
    from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: evil}}}}]
";
const EVIL: &str = "shop/evil";
const EVIL_LABELS: &str = "app=evil";

/// Whether an end reaches TCP 80 of the first one, in both families; it must be the same in both.
fn reaches(live: &Live, name: &str) -> bool {
    let [v4, v6] = addresses(1).map(|to| {
        let at = SocketAddr::new(to, 80);
        live.cluster.end(name).namespace.within(|| TcpStream::connect_timeout(&at, SILENCE)).is_ok()
    });
    assert_eq!(v4, v6, "{name}: one family passes and the other does not");
    v4
}

#[test]
fn who_ran_before_the_first_policy_is_a_peer_of_the_first_start_under_it() {
    for policy in [WEB_TAKES_FRONT, EVIL_KEPT_OUT] {
        let mut live = Live::new(&[], &[(WEB, 1), (FRONT, 2), (EVIL, 3)]);
        live.start(FRONT, FRONT_LABELS);
        live.start(EVIL, EVIL_LABELS);
        live.engine.write("1.yaml", policy);
        live.start(WEB, WEB_LABELS);
        // Its process may run before poststart.
        assert!(reaches(&live, FRONT) && !reaches(&live, EVIL), "under {policy}");
    }
}

/// A process in the namespace of an end that goes on elsewhere when it is told to.
struct Wanderer(Child);

impl Wanderer {
    fn of(live: &Live, name: &str) -> Wanderer {
        const PROGRAM: &str = "import ctypes, sys, time\n\
            sys.stdin.readline()\n\
            assert ctypes.CDLL(None).unshare(0x40000000) == 0\n\
            time.sleep(60)";
        let path = live.cluster.end(name).namespace.path();
        let mut command = Command::new("nsenter");
        command.args([&format!("--net={path}"), "python3", "-c", PROGRAM]).stdin(Stdio::piped());
        let process = Wanderer(command.spawn().unwrap());
        process.wait_until(|netns| netns == std::fs::read_link(&path).unwrap());
        process
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    fn wait_until(&self, is_there: impl Fn(std::path::PathBuf) -> bool) {
        for _ in 0..500 {
            if is_there(std::fs::read_link(format!("/proc/{}/ns/net", self.pid())).unwrap()) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("it is not there");
    }

    fn leave(&mut self) {
        let before = std::fs::read_link(format!("/proc/{}/ns/net", self.pid())).unwrap();
        std::io::Write::write_all(self.0.stdin.as_mut().unwrap(), b"\n").unwrap();
        self.wait_until(|netns| netns != before);
    }
}

impl Drop for Wanderer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_container_whose_first_process_goes_elsewhere_stays_denied() {
    let mut live = Live::new(&[EVIL_KEPT_OUT], &[(WEB, 1), (EVIL, 2), (FRONT, 3)]);
    live.start(WEB, WEB_LABELS);
    let mut first = Wanderer::of(&live, EVIL);
    let mut evil = live.container(EVIL, EVIL_LABELS);
    evil.pid = first.pid();
    live.engine.start(&live.cluster.host, &evil);
    assert!(!reaches(&live, EVIL));
    first.leave();
    // The others of its processes are where they were.
    for _ in 0..8 {
        live.start(FRONT, FRONT_LABELS);
        live.stop(FRONT);
    }
    assert!(!reaches(&live, EVIL));
    // A second web asks who is there.
    live.start(WEB, WEB_LABELS);
    assert!(!reaches(&live, EVIL));
    drop(first);
    live.start(FRONT, FRONT_LABELS);
    assert!(reaches(&live, FRONT));
}

#[test]
fn a_container_whose_first_process_goes_elsewhere_is_followed_all_the_same() {
    let mut live = Live::new(&[WEB_TAKES_FRONT], &[(WEB, 1), (FRONT, 2), ("shop/other", 3)]);
    let mut first = Wanderer::of(&live, WEB);
    let mut web = live.container(WEB, WEB_LABELS);
    web.pid = first.pid();
    live.engine.start(&live.cluster.host, &web);
    live.start(FRONT, FRONT_LABELS);
    first.leave();
    live.stop(FRONT);
    live.check("front has stopped", &[(FRONT, false)]);
    live.start(FRONT, FRONT_LABELS);
    live.check("front has started again", &[(FRONT, true)]);
}

#[test]
fn a_stop_under_a_broken_policy_is_made_good_by_the_next_start() {
    const ELSEWHERE: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: evil, namespace: shop, labels: {app: evil}}
status: {phase: Running, podIPs: [{ip: 10.1.0.2}, {ip: 'fd01::2'}]}
";
    let mut live = Live::new(&[EVIL_KEPT_OUT, ELSEWHERE], &[(WEB, 1), (EVIL, 2), (FRONT, 3)]);
    live.start(WEB, WEB_LABELS);
    // Two have one address: a container that is evil as well comes and goes.
    live.start(EVIL, EVIL_LABELS);
    assert!(!reaches(&live, EVIL));
    live.engine.write("9.yaml", "kind: [");
    live.stop(EVIL);
    live.engine.remove("9.yaml");
    live.start(FRONT, FRONT_LABELS);
    assert!(!reaches(&live, EVIL), "it is the pod elsewhere that has the address");
}

#[test]
fn a_container_that_cannot_be_followed_costs_nobody_a_connection() {
    let mut live = Live::new(&[WEB_TAKES_FRONT], &[(WEB, 1), (FRONT, 2), ("shop/broken", 3), ("shop/front-2", 4)]);
    for (name, labels) in [(WEB, WEB_LABELS), ("shop/broken", WEB_LABELS)] {
        live.start(name, labels);
    }
    // Some of its rules are gone, and with them a set: no update succeeds there.
    let broken = &live.cluster.end("shop/broken").namespace;
    broken.run("nft", &["flush", "table", "inet", "netlatch"], "");
    for family in ["v4", "v6"] {
        broken.run("nft", &["delete", "set", "inet", "netlatch", &format!("ingress_network_1_{family}")], "");
    }
    live.start(FRONT, FRONT_LABELS);
    let at = SocketAddr::new(addresses(1)[0], 80);
    let client = live.cluster.end(FRONT).namespace.within(|| TcpStream::connect_timeout(&at, PATIENCE)).unwrap();
    for _ in 0..3 {
        live.start("shop/front-2", FRONT_LABELS);
        live.stop("shop/front-2");
    }
    live.check("the others are followed", &[(FRONT, true), ("shop/front-2", false)]);
    drop(client);
}
