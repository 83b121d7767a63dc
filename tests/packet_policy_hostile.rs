//! Containers, records and files that are not as they should be while policies are in force: what holds all the same, told
//! by real packets.

mod support;

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use support::container::Dialect;
use support::live::{FRONT, FRONT_LABELS, Live, SILENCE, WEB, WEB_LABELS, WEB_TAKES_FRONT, addresses, flows};

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

/// Whether a connection goes on.
fn goes_on((client, server): &mut (TcpStream, TcpStream)) -> bool {
    flows(client, server, SILENCE) && flows(server, client, SILENCE)
}

#[test]
fn a_container_that_cannot_be_followed_costs_nobody_a_connection() {
    const BROKEN: &str = "shop/broken";
    let policy = WEB_TAKES_FRONT.replace("{port: 80}", "{port: 80}, {port: 8080}");
    let mut live = Live::new(&[&policy], &[(WEB, 1), (FRONT, 2), (BROKEN, 3), ("shop/front-2", 4)]);
    live.start(WEB, WEB_LABELS);
    live.start(BROKEN, WEB_LABELS);
    // One set is another now: no change succeeds there.
    let broken = &live.cluster.end(BROKEN).namespace;
    let rules = broken.run("nft", &["list", "table", "inet", "netlatch"], "");
    broken.run("nft", &["flush", "chain", "inet", "netlatch", "ingress_network"], "");
    broken.run("nft", &["delete", "set", "inet", "netlatch", "ingress_network_1_v4"], "");
    live.start(FRONT, FRONT_LABELS);
    let mut connection = live.connection(FRONT, WEB);
    for _ in 0..3 {
        live.start("shop/front-2", FRONT_LABELS);
        live.stop("shop/front-2");
        assert!(goes_on(&mut connection));
    }
    live.check("the others are followed", &[(FRONT, true), ("shop/front-2", false)]);
    // As soon as it can be changed again it is.
    let rules = format!("delete table inet netlatch\n{rules}");
    live.cluster.end(BROKEN).namespace.run("nft", &["-f", "-"], &rules);
    live.start("shop/front-2", FRONT_LABELS);
    let broken = &live.cluster.end(BROKEN).namespace;
    let held = broken.run("nft", &["list", "set", "inet", "netlatch", "ingress_network_1_v4"], "");
    assert!(held.contains("10.1.0.2") && held.contains("10.1.0.4"), "{held}");
    assert!(goes_on(&mut connection));
}

#[test]
fn a_late_stop_of_an_earlier_container_does_not_touch_the_one_that_has_its_id_now() {
    let mut live = Live::new(&[WEB_TAKES_FRONT], &[(WEB, 1), (FRONT, 2)]);
    live.start(WEB, WEB_LABELS);
    live.start(FRONT, FRONT_LABELS);
    let earlier = live.containers[FRONT].stopped(Dialect::Runc);
    live.kill(FRONT);
    // runc removes its own state, so that the id is free, before it calls this.
    let mut stop = live.cluster.host.within(|| live.engine.command("poststop").stdin(Stdio::piped()).spawn()).unwrap();
    thread::sleep(Duration::from_millis(50));
    live.add(FRONT, 2);
    live.start(FRONT, FRONT_LABELS);
    std::io::Write::write_all(&mut stop.stdin.take().unwrap(), earlier.to_string().as_bytes()).unwrap();
    assert!(stop.wait().unwrap().success());
    live.check("after the stop of its forerunner", &[(FRONT, true)]);
    live.started(FRONT);
    live.stop(FRONT);
    live.check("after its own stop", &[(FRONT, false)]);
}

#[test]
fn a_stop_that_comes_only_after_the_next_container_has_the_id_is_not_that_ones() {
    let mut live = Live::new(&[WEB_TAKES_FRONT], &[(WEB, 1), (FRONT, 2)]);
    live.start(WEB, WEB_LABELS);
    live.start(FRONT, FRONT_LABELS);
    let earlier = live.containers[FRONT].stopped(Dialect::Runc);
    live.kill(FRONT);
    live.add(FRONT, 2);
    live.start(FRONT, FRONT_LABELS);
    live.engine.stage(&live.cluster.host, "poststop", &earlier);
    live.check("after the stop of its forerunner", &[(FRONT, true)]);
    live.started(FRONT);
    live.stop(FRONT);
    live.check("after its own stop", &[(FRONT, false)]);
}

#[test]
fn a_flow_ends_with_its_peer_though_it_is_a_neighbour_in_the_namespace_who_finds_out() {
    let policy = WEB_TAKES_FRONT.replace("{port: 80}", "{port: 80}, {port: 8081, protocol: UDP}");
    let mut live = Live::new(&[&policy], &[(WEB, 1), (FRONT, 2)]);
    live.start(WEB, WEB_LABELS);
    live.start(FRONT, FRONT_LABELS);
    let [to, _] = addresses(1).map(|ip| SocketAddr::new(ip, 8081));
    let [from, _] = addresses(2).map(|ip| SocketAddr::new(ip, 4000));
    let udp = |live: &Live, name: &str, at| {
        let socket = live.cluster.end(name).namespace.within(|| std::net::UdpSocket::bind(at)).unwrap();
        socket.set_read_timeout(Some(SILENCE)).unwrap();
        socket
    };
    let web = udp(&live, WEB, to);
    let front = udp(&live, FRONT, from);
    front.send_to(b"?", to).unwrap();
    web.recv_from(&mut [0; 9]).unwrap();
    web.send_to(b"!", from).unwrap();
    front.recv(&mut [0; 9]).unwrap();
    live.kill(FRONT);
    // Who finds out is a second container of web's pod.
    let mut sidecar = live.container(WEB, WEB_LABELS);
    sidecar.id.push_str("-sidecar");
    sidecar.write_config(&serde_json::json!({
        "linux": {"namespaces": [{"type": "network", "path": live.cluster.end(WEB).namespace.path()}]},
    }));
    live.engine.start(&live.cluster.host, &sidecar);
    live.add("shop/other", 2);
    live.start("shop/other", "app=other");
    let other = udp(&live, "shop/other", from);
    other.send_to(b"?", to).unwrap();
    assert!(web.recv_from(&mut [0; 9]).is_err(), "the flow of front let it in");
}

#[test]
fn a_link_local_address_is_no_way_around_a_denial_by_labels() {
    // Web takes nothing from evil; or evil sends nothing to web.
    let sent = EVIL_KEPT_OUT
        .replace("{app: web}", "{app: other}")
        .replace("{app: evil}", "{app: web}")
        .replace("{app: other}", "{app: evil}")
        .replace("ingress:", "egress:")
        .replace("from:", "to:");
    for policy in [EVIL_KEPT_OUT, &sent] {
        let mut live = Live::new(&[policy], &[(WEB, 1), (EVIL, 2)]);
        // Two on one link, as on a bridge.
        let (web, evil) = (&live.cluster.end(WEB).namespace, &live.cluster.end(EVIL).namespace);
        web.ip_batch(&format!("link add eth1 type veth peer name eth1 netns {}\nlink set eth1 up\n", evil.pid()));
        evil.ip_batch("link set eth1 up\n");
        web.ip_batch("addr add fe80::aa/64 dev eth1 nodad\n");
        evil.ip_batch("addr add fe80::bb/64 dev eth1 nodad\n");
        let index = evil.ip_json(&["link", "show", "eth1"])[0]["ifindex"].as_u64().unwrap() as u32;
        let _listener = web.within(|| std::net::TcpListener::bind("[::]:8080")).unwrap();
        let at = SocketAddr::V6(std::net::SocketAddrV6::new("fe80::aa".parse().unwrap(), 8080, 0, index));
        let knock =
            |live: &Live| live.cluster.end(EVIL).namespace.within(|| TcpStream::connect_timeout(&at, SILENCE)).is_ok();
        assert!(knock(&live), "without rules it is reached, so the probe is sound");
        live.start(WEB, WEB_LABELS);
        live.start(EVIL, EVIL_LABELS);
        assert!(!reaches(&live, EVIL));
        assert!(!knock(&live), "under {policy}");
    }
}
