//! Policies against real packets: peers that come and go under rules that stay, denials, and flows that are judged
//! anew.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use netlatch::kernel::netns::{Own, Target, enter};
use netlatch::kernel::process::Deadline;
use netlatch::kernel::tables::{Installed, Tables};
use netlatch::net::{Direction, Family, Member, Service, Transport, Transports};
use netlatch::nft::build::{build, table_comment};
use netlatch::nft::filter::{Denial, Group, Otherwise, PolicyLayer, Ruling};
use netlatch::nft::members::changes;
use netlatch::nft::ruleset::{Match, Table};
use support::tiers::{TCP, filter, group, members, policy, ports, run, tier};
use support::world::{CLOSED, CTR, FAR};
use support::{Outcome, World, probe, raw};

const PATIENCE: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(300);

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

fn table(policies: Vec<PolicyLayer>) -> Table {
    let mut table = build(&filter(policies), String::new()).unwrap();
    table.comment = table_comment(table.digest());
    table
}

/// Isolated in `direction`, but for who is in one of the groups.
fn isolated(direction: Direction, denial: Denial, groups: Vec<Group>) -> PolicyLayer {
    let tiers = vec![tier("network", vec![run(Ruling::Accept, vec![], groups)], Otherwise::Deny)];
    policy(direction, denial, tiers)
}

/// Works on the rules of the container, as the hook does.
fn in_container<T: Send>(world: &World, work: impl FnOnce(&mut Tables<'_>) -> T + Send) -> T {
    let pid = world.ctr.pid();
    let joined = || {
        let inside = enter(&Target::Process(pid), &Own::read().unwrap()).unwrap();
        work(&mut Tables::open(&inside, Deadline::after(PATIENCE)).unwrap())
    };
    std::thread::scope(|scope| scope.spawn(joined).join().unwrap())
}

fn load(world: &World, table: &Table) {
    // As the hook does: a reset for a socket of the container comes over it.
    world.ctr.ip_batch("link set lo up\n");
    assert_eq!(in_container(world, |tables| tables.install(table, None)).unwrap(), Installed::Loaded);
}

/// Forgets every flow, as `reload` forgets those that a policy no longer lets pass.
fn forget_flows(world: &World) {
    for family in ["ipv4", "ipv6"] {
        world.ctr.run("conntrack", &["-F", "-f", family], "");
    }
}

fn update(world: &World, set: &str, add: &[Member], remove: &[Member]) {
    in_container(world, |tables| tables.update(&changes(set, &Family::BOTH, add, remove))).unwrap();
}

/// Long enough for an answer that must come; short where none may.
fn patience(wanted: bool) -> Duration {
    if wanted { PATIENCE } else { SILENCE }
}

/// Fails unless exactly those peers are reached on `port` that should be.
fn assert_reached(world: &World, port: u16, wanted: [bool; 2]) {
    for (peer, wanted) in PEERS.into_iter().zip(wanted) {
        let outcome = probe::tcp_connect(&world.ctr, at(peer, port), patience(wanted));
        let told = if wanted { Outcome::Connected } else { Outcome::TimedOut };
        assert_eq!(outcome, told, "{peer}:{port}");
    }
}

fn assert_echoed(world: &World, wanted: [bool; 2]) {
    // An echo request with the same id belongs to the flow of the last one.
    forget_flows(world);
    for (peer, wanted) in PEERS.into_iter().zip(wanted) {
        let outcome = raw::icmp_echo(&world.ctr, peer.parse::<IpAddr>().unwrap(), patience(wanted));
        assert_eq!(outcome == Outcome::Replied, wanted, "echo of {peer}: {outcome:?}");
    }
}

/// Fails unless exactly those of the far side's own addresses get in on `port` that should.
fn assert_gets_in(world: &World, port: u16, wanted: bool) {
    for (to, from) in CTR.into_iter().zip(FAR) {
        let server = world.ctr.within(|| TcpListener::bind((to, port))).unwrap();
        let came = world.far.within(|| raw::connect_from(at(from, 0), at(to, port), patience(wanted)));
        let silence = came.as_ref().is_err_and(|error| error.kind() == ErrorKind::TimedOut);
        assert!(came.is_ok() == wanted && silence != wanted, "{from} to {to}:{port}: {came:?}");
        drop(server);
    }
}

const PEERS: [&str; 2] = ["10.9.1.1", "2001:db8::1"];

#[test]
fn who_comes_is_reached_at_once_and_who_goes_no_more() {
    let world = World::new();
    let groups = vec![group("a", Some(Service::Everything), &[]), group("p", None, &[])];
    load(&world, &table(vec![isolated(Direction::Egress, Denial::Drop, groups)]));
    assert_reached(&world, 80, [false; 2]);
    assert_echoed(&world, [false; 2]);
    update(&world, "a", &members(&PEERS), &[]);
    assert_reached(&world, 80, [true; 2]);
    assert_echoed(&world, [true; 2]);
    update(&world, "a", &members(&PEERS[..1]), &members(&PEERS[1..]));
    assert_reached(&world, 80, [true, false]);
    assert_echoed(&world, [true, false]);
    update(&world, "a", &[], &members(&PEERS));
    assert_reached(&world, 80, [false; 2]);
    // With a port of their own.
    update(&world, "p", &members(&["10.9.1.1 tcp/80", "2001:db8::1 tcp/80", "10.9.1.1 udp/81"]), &[]);
    assert_reached(&world, 80, [true; 2]);
    assert_reached(&world, 81, [false; 2]);
    assert_echoed(&world, [false; 2]);
    update(&world, "p", &members(&["2001:db8::1 tcp/81"]), &members(&["10.9.1.1 tcp/80"]));
    assert_reached(&world, 80, [false, true]);
    assert_reached(&world, 81, [false, true]);
}

#[test]
fn who_comes_gets_in_at_once_and_who_goes_no_more() {
    let world = World::new();
    let groups = vec![group("a", Some(ports(TCP, 8080, 8081)), &[])];
    load(&world, &table(vec![isolated(Direction::Ingress, Denial::Drop, groups)]));
    assert_gets_in(&world, 8080, false);
    update(&world, "a", &members(&FAR), &[]);
    assert_gets_in(&world, 8080, true);
    assert_gets_in(&world, 8081, true);
    assert_gets_in(&world, 8082, false);
    update(&world, "a", &[], &members(&FAR));
    assert_gets_in(&world, 8080, false);
    // The other direction is nobody's business.
    assert_eq!(probe::tcp_connect(&world.ctr, at(FAR[0], 80), PATIENCE), Outcome::Connected);
}

#[test]
fn a_tier_that_accepts_or_passes_skips_what_it_says_and_no_more() {
    let world = World::new();
    let everything = Some(Service::Everything);
    let admin = vec![
        run(Ruling::Accept, vec![], vec![group("accepted", everything, &["10.9.1.1", "2001:db8::1"])]),
        run(Ruling::Pass, vec![], vec![group("passed", everything, &["10.9.1.2", "10.9.1.3"])]),
        run(
            Ruling::Deny,
            vec![],
            vec![group("denied", everything, &["10.9.1.1", "10.9.1.2", "10.9.1.4", "2001:db8::1", "2001:db8::4"])],
        ),
    ];
    let network =
        vec![run(Ruling::Accept, vec![], vec![group("network", everything, &["10.9.1.2", "10.9.1.4", "10.9.1.5"])])];
    let tiers = vec![tier("admin", admin, Otherwise::Continue), tier("network", network, Otherwise::Deny)];
    load(&world, &table(vec![policy(Direction::Egress, Denial::Reject, tiers)]));
    let passes = [
        ("10.9.1.1", true),
        ("2001:db8::1", true),
        ("10.9.1.2", true),
        ("10.9.1.3", false),
        ("10.9.1.4", false),
        ("2001:db8::4", false),
        ("10.9.1.5", true),
        ("10.9.1.6", false),
    ];
    for (peer, passes) in passes {
        let wanted = if passes { Outcome::Connected } else { Outcome::Refused };
        assert_eq!(probe::tcp_connect(&world.ctr, at(peer, 80), PATIENCE), wanted, "{peer}");
    }
}

#[test]
fn what_a_policy_in_audit_would_deny_passes_and_is_remembered() {
    let world = World::new();
    let groups = vec![group("a", Some(Service::Everything), &["10.9.1.1"])];
    load(&world, &table(vec![isolated(Direction::Egress, Denial::Audit, groups)]));
    for peer in ["10.9.1.1", "10.9.1.2", "2001:db8::2"] {
        assert_eq!(probe::tcp_connect(&world.ctr, at(peer, 80), PATIENCE), Outcome::Connected, "{peer}");
    }
    let seen = ["4", "6"].map(|family| {
        let set = format!("egress_policy_seen{family}");
        world.ctr.run("nft", &["list", "set", "inet", "netlatch", &set], "")
    });
    assert!(seen[0].contains("10.9.1.2 . tcp . 80") && !seen[0].contains("10.9.1.1 "), "{}", seen[0]);
    assert!(seen[1].contains("2001:db8::2 . tcp . 80"), "{}", seen[1]);
}

#[test]
fn resets_and_refusals_pass_where_tcp_must_begin_with_a_syn() {
    let world = World::new();
    let groups = |set| vec![group(set, Some(Service::Everything), &FAR)];
    load(
        &world,
        &table(vec![
            isolated(Direction::Egress, Denial::Reject, groups("out")),
            isolated(Direction::Ingress, Denial::Reject, groups("in")),
        ]),
    );
    for n in [0, 1] {
        // A closed port of the peer's, a closed port of ours, a peer that is denied.
        assert_eq!(probe::tcp_connect(&world.ctr, at(FAR[n], CLOSED), PATIENCE), Outcome::Refused);
        assert_eq!(probe::tcp_connect(&world.far, at(CTR[n], 81), PATIENCE), Outcome::Refused);
        assert_eq!(probe::tcp_connect(&world.ctr, at(PEERS[n], 80), PATIENCE), Outcome::Refused);
    }
    // And where only ingress is judged: the reset goes out by a chain that asks no layer.
    let world = World::new();
    load(&world, &table(vec![isolated(Direction::Ingress, Denial::Reject, vec![])]));
    for to in CTR {
        assert_eq!(probe::tcp_connect(&world.far, at(to, 80), PATIENCE), Outcome::Refused, "{to}");
    }
}

/// The table without its rules about TCP that begins in the middle.
fn without_mid_stream(table: &Table) -> Table {
    let mut table = table.clone();
    for chain in &mut table.chains {
        chain.rules.retain(|rule| !rule.matches.contains(&Match::MidStream));
    }
    table
}

#[test]
fn a_connection_that_is_judged_anew_does_not_begin_again_the_other_way_round() {
    for (n, both_directions) in [(0, false), (1, false), (0, true), (1, true)] {
        for guarded in [false, true] {
            let world = World::new();
            let out = isolated(Direction::Egress, Denial::Drop, vec![group("out", Some(Service::Everything), &FAR)]);
            let policies =
                vec![isolated(Direction::Ingress, Denial::Drop, vec![group("in", Some(Service::Everything), &FAR)])];
            let guard = table(policies.into_iter().chain(both_directions.then_some(out)).collect());
            load(&world, &if guarded { guard } else { without_mid_stream(&guard) });

            let server = world.ctr.within(|| TcpListener::bind((CTR[n], 8080))).unwrap();
            let mut client = world.far.within(|| TcpStream::connect_timeout(&at(CTR[n], 8080), PATIENCE)).unwrap();
            let (mut served, _) = server.accept().unwrap();
            served.set_read_timeout(Some(PATIENCE)).unwrap();
            client.write_all(b"1").unwrap();
            assert_eq!(served.read(&mut [0; 8]).unwrap(), 1, "the connection stands");

            // The policy is tightened: the client is none of the peers any more, and its flow is forgotten.
            update(&world, "in", &[], &members(&FAR));
            forget_flows(&world);
            // The container speaks first; without the guard that is a flow of its own, which it may begin.
            served.write_all(b"2").unwrap();
            world.settle();
            client.write_all(b"3").unwrap();
            served.set_read_timeout(Some(SILENCE)).unwrap();
            let got_in = served.read(&mut [0; 8]).is_ok();
            assert_eq!(got_in, !guarded, "{}, both directions {both_directions}", CTR[n]);
        }
    }
}

#[test]
fn a_connection_that_nobody_forgot_goes_on_and_new_ones_are_judged() {
    let world = World::new();
    load(
        &world,
        &table(vec![isolated(Direction::Ingress, Denial::Drop, vec![group("in", Some(Service::Everything), &FAR)])]),
    );
    for n in [0, 1] {
        let server = world.ctr.within(|| TcpListener::bind((CTR[n], 8080))).unwrap();
        let mut client = world.far.within(|| TcpStream::connect_timeout(&at(CTR[n], 8080), PATIENCE)).unwrap();
        let (mut served, _) = server.accept().unwrap();
        served.set_read_timeout(Some(PATIENCE)).unwrap();
        update(&world, "in", &[], &members(&FAR[n..=n]));
        client.write_all(b"still").unwrap();
        assert_eq!(served.read(&mut [0; 8]).unwrap(), 5);
        let again = world.far.within(|| TcpStream::connect_timeout(&at(CTR[n], 8080), SILENCE));
        assert_eq!(again.unwrap_err().kind(), ErrorKind::TimedOut);
    }
}

#[test]
fn udp_and_the_transports_of_a_group_are_kept_apart() {
    let world = World::new();
    const UDP: Transports = Transports::One(Transport::Udp);
    load(
        &world,
        &table(vec![isolated(Direction::Egress, Denial::Reject, vec![group("u", Some(ports(UDP, 53, 54)), &PEERS)])]),
    );
    for peer in PEERS {
        for (port, passes) in [(53, true), (54, true), (55, false)] {
            let to = at(peer, port);
            let sent = world.ctr.within(|| UdpSocket::bind(probe::any(to)).unwrap().send_to(b"?", to));
            assert_eq!(sent.is_ok(), passes, "{to}: {sent:?}");
            assert_eq!(passes, passes && world.hears(to.ip(), Some(port)), "{to}");
        }
        assert_eq!(probe::tcp_connect(&world.ctr, at(peer, 53), PATIENCE), Outcome::Refused);
    }
}
