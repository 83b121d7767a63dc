//! Policies while containers come and go: what holds after each start and stop, told by real packets.

mod support;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::thread;

use netlatch::net::Transport;
use support::cluster::in_parallel;
use support::live::{
    FRONT, FRONT_LABELS, FRONT_SENDS_TO_WEB, Live, PATIENCE, SILENCE, WEB, WEB_LABELS, WEB_TAKES_FRONT, addresses,
};
use support::namespace::end;
use support::traffic::{Flow, wrong};
use support::{Container, Outcome, probe};

#[test]
fn without_the_hook_everybody_gets_through() {
    // The contrast to every denial below. Port 81, which no policy opens, is left out of it.
    let live = Live::new(&[WEB_TAKES_FRONT], &[(WEB, 1), (FRONT, 2)]);
    let (end, web) = (live.cluster.index(FRONT), &live.cluster.ends[0].addresses);
    let mut wanted = Vec::new();
    for (from, to) in addresses(2).into_iter().zip(web) {
        for (port, transport) in [(80, Transport::Tcp), (81, Transport::Tcp), (53, Transport::Udp)] {
            wanted.push((Flow { end, from, to: SocketAddr::new(*to, port), transport }, true));
        }
    }
    assert_eq!(wrong(&live.cluster, &live.servers, &wanted), []);
}

#[test]
fn a_later_start_is_admitted_by_those_that_run() {
    let mut live = Live::new(&[WEB_TAKES_FRONT], &[(WEB, 1), (FRONT, 2), ("shop/other", 3)]);
    live.start(WEB, WEB_LABELS);
    live.check("before anybody else has started", &[(FRONT, false), ("shop/other", false)]);
    live.start("shop/other", "app=other");
    live.start(FRONT, FRONT_LABELS);
    live.check("after the start of front", &[(FRONT, true), ("shop/other", false)]);
    live.add("shop/second", 4);
    live.start("shop/second", FRONT_LABELS);
    live.check("after the start of a second front", &[(FRONT, true), ("shop/second", true), ("shop/other", false)]);
}

#[test]
fn a_later_start_may_be_sent_to_by_those_that_run() {
    let mut live = Live::new(&[FRONT_SENDS_TO_WEB], &[(WEB, 1), (FRONT, 2), ("shop/other", 3)]);
    live.start(FRONT, FRONT_LABELS);
    live.start("shop/other", "app=other");
    live.engine.write("2.yaml", WEB_TAKES_FRONT);
    // Not yet started: not yet anybody to send to, although nothing holds its packets back.
    live.check("before the start of web", &[(FRONT, false)]);
    live.start(WEB, WEB_LABELS);
    live.check("after the start of web", &[(FRONT, true), ("shop/other", false)]);
}

#[test]
fn a_start_in_another_namespace_is_not_taken_for_a_peer() {
    let mut live = Live::new(&[WEB_TAKES_FRONT], &[(WEB, 1), ("else/front", 2), (FRONT, 3)]);
    live.start(WEB, WEB_LABELS);
    live.start("else/front", FRONT_LABELS);
    live.start(FRONT, FRONT_LABELS);
    live.check("with the same labels in two namespaces", &[("else/front", false), (FRONT, true)]);
}

#[test]
fn a_stop_takes_the_address_out_of_the_peers_sets() {
    let mut live = Live::new(&[WEB_TAKES_FRONT], &[(WEB, 1), (FRONT, 2), ("shop/second", 3)]);
    for (name, labels) in [(WEB, WEB_LABELS), (FRONT, FRONT_LABELS), ("shop/second", FRONT_LABELS)] {
        live.start(name, labels);
    }
    live.check("with both fronts", &[(FRONT, true), ("shop/second", true)]);
    live.stop(FRONT);
    live.check("after the stop of one", &[(FRONT, false), ("shop/second", true)]);
    live.cluster.kill(FRONT);
    live.add("nobody", 2);
    live.check("with its address at somebody unknown", &[("nobody", false), ("shop/second", true)]);
}

#[test]
fn a_missed_poststop_is_made_good_by_whoever_comes_next() {
    for next in ["a start", "a stop"] {
        let mut live = Live::new(&[WEB_TAKES_FRONT], &[(WEB, 1), (FRONT, 2), ("shop/other", 3), ("shop/last", 4)]);
        live.start(WEB, WEB_LABELS);
        live.start("shop/other", "app=other");
        live.start(FRONT, FRONT_LABELS);
        live.check("with front", &[(FRONT, true)]);
        live.kill(FRONT);
        live.add("nobody", 2);
        match next {
            "a start" => live.start("shop/last", "app=other"),
            _ => live.stop("shop/other"),
        }
        live.check(&format!("after {next} of somebody else"), &[("nobody", false), ("shop/other", false)]);
    }
}

#[test]
fn rules_that_somebody_took_away_hold_up_nobody() {
    let mut live = Live::new(&[WEB_TAKES_FRONT], &[(WEB, 1), (FRONT, 2), ("shop/lost", 3)]);
    live.start(WEB, WEB_LABELS);
    live.start("shop/lost", WEB_LABELS);
    live.cluster.end("shop/lost").namespace.run("nft", &["flush", "ruleset"], "");
    live.start(FRONT, FRONT_LABELS);
    live.check("web follows all the same", &[(FRONT, true)]);
    live.stop(FRONT);
    live.check("and loses front again", &[(FRONT, false)]);
}

#[test]
fn a_second_start_without_a_stop_counts_with_its_own_labels() {
    let mut live = Live::new(&[WEB_TAKES_FRONT], &[(WEB, 1), (FRONT, 2)]);
    live.start(WEB, WEB_LABELS);
    for (labels, passes) in [(FRONT_LABELS, true), (FRONT_LABELS, true), ("app=other", false), (FRONT_LABELS, true)] {
        live.start(FRONT, labels);
        live.check(&format!("started with {labels}"), &[(FRONT, passes)]);
    }
}

#[test]
fn a_container_without_annotations_is_a_pod_of_the_default_namespace() {
    let policy = WEB_TAKES_FRONT.replace("namespace: shop", "namespace: default");
    let policy = policy.replace("{matchLabels: {app: web}}", "{}").replace("{matchLabels: {app: front}}", "{}");
    let mut live = Live::new(&[&policy], &[("default/web", 1), ("default/front", 2), (FRONT, 3)]);
    for name in ["default/web", "default/front"] {
        let container = Container::of(&live.cluster.end(name).namespace);
        live.engine.start(&live.cluster.host, &container);
    }
    live.start(FRONT, FRONT_LABELS);
    live.check("without annotations", &[("default/front", true), (FRONT, false)]);
}

#[test]
fn a_reused_address_with_other_labels_is_kept_out() {
    for poststop in [true, false] {
        let mut live = Live::new(&[WEB_TAKES_FRONT], &[(WEB, 1), (FRONT, 2)]);
        live.start(WEB, WEB_LABELS);
        live.start(FRONT, FRONT_LABELS);
        live.check("with front", &[(FRONT, true)]);
        if poststop {
            live.stop(FRONT);
        }
        live.kill(FRONT);
        live.add("shop/evil", 2);
        live.start("shop/evil", "app=evil");
        live.check(&format!("with the address reused, poststop {poststop}"), &[("shop/evil", false)]);
        // And back again.
        live.stop("shop/evil");
        live.kill("shop/evil");
        live.add(FRONT, 2);
        live.start(FRONT, FRONT_LABELS);
        live.check(&format!("with the address back, poststop {poststop}"), &[(FRONT, true)]);
    }
}

#[test]
fn an_old_udp_flow_does_not_let_the_next_owner_of_the_address_in() {
    // To connection tracking the two senders are one: same addresses, same ports.
    for poststop in [true, false] {
        let mut live = Live::new(&[WEB_TAKES_FRONT], &[(WEB, 1), (FRONT, 2)]);
        live.start(WEB, WEB_LABELS);
        live.start(FRONT, FRONT_LABELS);
        for family in [0, 1] {
            let (from, to) = (addresses(2)[family], addresses(1)[family]);
            let ask = |name: &str| {
                let socket = live.cluster.end(name).namespace.within(|| UdpSocket::bind((from, 5555))).unwrap();
                socket.set_read_timeout(Some(SILENCE)).unwrap();
                let _ = socket.send_to(b"again", (to, 53));
                let first = socket.recv(&mut [0; 16]).is_ok();
                let _ = socket.send_to(b"again", (to, 53));
                first || socket.recv(&mut [0; 16]).is_ok()
            };
            assert!(ask(FRONT), "front asks from port 5555 of {from}");
        }
        if poststop {
            live.stop(FRONT);
        }
        live.kill(FRONT);
        live.add("shop/evil", 2);
        live.start("shop/evil", "app=evil");
        for (from, to) in addresses(2).into_iter().zip(addresses(1)) {
            let evil = &live.cluster.end("shop/evil").namespace;
            let socket = evil.within(|| UdpSocket::bind((from, 5555))).unwrap();
            socket.set_read_timeout(Some(SILENCE)).unwrap();
            let _ = socket.send_to(b"again", (to, 53));
            assert!(socket.recv(&mut [0; 16]).is_err(), "{from} rides on the old flow, poststop {poststop}");
        }
    }
}

#[test]
fn an_old_udp_flow_does_not_lead_to_the_next_owner_of_an_address() {
    for poststop in [true, false] {
        let mut live = Live::new(&[FRONT_SENDS_TO_WEB], &[("shop/unused", 9), (WEB, 1), (FRONT, 2)]);
        live.start(WEB, WEB_LABELS);
        live.start(FRONT, FRONT_LABELS);
        let serve = |live: &Live, name: &str| {
            let at: Vec<SocketAddr> = addresses(1).map(|ip| SocketAddr::new(ip, 53)).to_vec();
            let sockets =
                live.cluster.end(name).namespace.within(|| at.iter().map(UdpSocket::bind).collect::<Vec<_>>());
            let sockets: Vec<UdpSocket> = sockets.into_iter().map(Result::unwrap).collect();
            sockets.iter().for_each(|socket| socket.set_read_timeout(Some(SILENCE)).unwrap());
            sockets
        };
        let asking: Vec<UdpSocket> = addresses(2)
            .into_iter()
            .zip(addresses(1))
            .map(|(from, to)| {
                let socket = live.cluster.end(FRONT).namespace.within(|| UdpSocket::bind((from, 5555))).unwrap();
                socket.connect((to, 53)).unwrap();
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                socket
            })
            .collect();
        let web = serve(&live, WEB);
        for (asking, web) in asking.iter().zip(&web) {
            asking.send(b"first").unwrap();
            let (len, from) = web.recv_from(&mut [0; 16]).unwrap();
            web.send_to(&[0; 16][..len], from).unwrap();
            asking.recv(&mut [0; 16]).unwrap();
        }
        drop(web);
        if poststop {
            live.stop(WEB);
        }
        live.kill(WEB);
        live.add("shop/evil", 1);
        live.start("shop/evil", "app=evil");
        for (asking, evil) in asking.iter().zip(serve(&live, "shop/evil")) {
            let _ = asking.send(b"again");
            let heard = evil.recv(&mut [0; 16]);
            assert!(heard.is_err(), "{:?} leads to evil, poststop {poststop}", asking.peer_addr());
        }
    }
}

#[test]
fn concurrent_starts_lose_no_update() {
    let names: Vec<String> = (0..16).map(|i| format!("shop/front-{i}")).collect();
    let mut ends = vec![(WEB, 1)];
    ends.extend(names.iter().enumerate().map(|(i, name)| (name.as_str(), i + 10)));
    for round in 0..3 {
        let mut live = Live::new(&[WEB_TAKES_FRONT, FRONT_SENDS_TO_WEB], &ends);
        // In the last round web is one of those that start at once.
        let mut all: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), FRONT_LABELS)).collect();
        match round {
            0 | 1 => live.start(WEB, WEB_LABELS),
            _ => all.push((WEB, WEB_LABELS)),
        }
        let made: Vec<(&str, Container)> =
            all.iter().map(|(name, labels)| (*name, live.container(name, labels))).collect();
        in_parallel(&made, |(_, container)| live.engine.start(&live.cluster.host, container));
        live.containers.extend(made.into_iter().map(|(name, container)| (name.to_owned(), container)));
        let everybody: Vec<(&str, bool)> = names.iter().map(|name| (name.as_str(), true)).collect();
        live.check(&format!("round {round}, after 16 starts at once"), &everybody);

        // Half of them stop at once, while one more starts.
        let (stopping, staying) = names.split_at(8);
        live.add("shop/late", 40);
        let late = live.container("shop/late", FRONT_LABELS);
        thread::scope(|scope| {
            scope.spawn(|| live.engine.start(&live.cluster.host, &late));
            in_parallel(stopping, |name| live.engine.stop(&live.cluster.host, &live.containers[name]));
        });
        let gone = stopping.iter().map(|name| (name.as_str(), false));
        let there = staying.iter().map(|name| (name.as_str(), true)).chain([("shop/late", true)]);
        live.check(&format!("round {round}, after 8 stops at once"), &gone.chain(there).collect::<Vec<_>>());
    }
}

#[test]
fn containers_of_one_namespace_are_one_subject() {
    let mut live = Live::new(&[WEB_TAKES_FRONT], &[(WEB, 1), (FRONT, 2)]);
    live.start(WEB, WEB_LABELS);
    let both = live.pair(FRONT, FRONT_LABELS);
    for container in &both {
        live.engine.start(&live.cluster.host, container);
        live.check("with a container of the pod", &[(FRONT, true)]);
    }
    live.engine.stop(&live.cluster.host, &both[0]);
    live.check("after the stop of one of two", &[(FRONT, true)]);
    live.engine.stop(&live.cluster.host, &both[1]);
    live.check("after the stop of both", &[(FRONT, false)]);
}

#[test]
fn who_a_namespace_is_to_others_ends_with_the_container_that_said_so() {
    for poststop in [true, false] {
        let mut live = Live::new(&[WEB_TAKES_FRONT], &[(WEB, 1), (FRONT, 2), ("shop/next", 3)]);
        live.start(WEB, WEB_LABELS);
        // One that says nothing of itself keeps the namespace.
        let anybody = Container::of(&live.cluster.end(FRONT).namespace);
        anybody.write_config(&serde_json::json!({
            "linux": {"namespaces": [{"type": "network", "path": live.cluster.end(FRONT).namespace.path()}]},
        }));
        live.engine.start(&live.cluster.host, &anybody);
        live.check("somebody", &[(FRONT, false)]);
        for round in 0..2 {
            live.start(FRONT, FRONT_LABELS);
            live.check(&format!("round {round}, with front beside it"), &[(FRONT, true)]);
            if poststop {
                live.stop(FRONT);
            } else {
                // Found out by whoever comes next.
                end(live.containers.remove(FRONT).unwrap().pid);
                live.start("shop/next", "app=next");
                live.stop("shop/next");
            }
            live.check(&format!("round {round}, poststop {poststop}, after the end of front"), &[(FRONT, false)]);
        }
    }
}

#[test]
fn an_address_that_appears_after_create_runtime_is_admitted_at_poststart() {
    let mut live = Live::new(&[WEB_TAKES_FRONT], &[(WEB, 1)]);
    live.start(WEB, WEB_LABELS);
    for (name, labels, number, passes) in [(FRONT, FRONT_LABELS, 2, true), ("shop/other", "app=other", 3, false)] {
        live.cluster.add_unconnected(name, &addresses(number));
        live.start(name, labels);
        live.cluster.connect(&[live.cluster.end(name)]);
        live.check("connected, before poststart", &[(name, false)]);
        live.started(name);
        live.check("after poststart", &[(name, passes)]);
    }
}

#[test]
fn a_subject_without_an_address_is_isolated_from_its_start() {
    let mut live = Live::new(&[WEB_TAKES_FRONT], &[("shop/unused", 9), (FRONT, 2)]);
    live.start(FRONT, FRONT_LABELS);
    live.cluster.add_unconnected(WEB, &addresses(1));
    live.start(WEB, WEB_LABELS);
    live.cluster.connect(&[live.cluster.end(WEB)]);
    let at = SocketAddr::new(addresses(1)[0], 80);
    let _listener = live.cluster.end(WEB).namespace.within(|| TcpListener::bind(at)).unwrap();
    assert_eq!(probe::tcp_connect(&live.cluster.end(FRONT).namespace, at, PATIENCE), Outcome::Connected);
    live.add("nobody", 3);
    assert_eq!(probe::tcp_connect(&live.cluster.end("nobody").namespace, at, SILENCE), Outcome::TimedOut);
}
