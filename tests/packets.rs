//! Every form of the list grammar against real packets, in both families and both directions.
//!
//! Each list gets a namespace of its own. A packet that must pass is one that its receiver got; a packet that must
//! not is one that never arrived, and whose sender was told as the settings say.

#[path = "packets/egress.rs"]
mod egress;
#[path = "packets/ingress.rs"]
mod ingress;
mod support;

use std::net::SocketAddr;
use std::time::Duration;

use egress::EGRESS;
use support::container::Dialect;
use support::world::FAR;
use support::{Container, Outcome, Probe, World, hook};

/// Long enough for an answer that is on its way on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// Long enough to call a missing answer missing; a dropped SYN is not answered later either.
const SILENCE: Duration = Duration::from_millis(300);

fn probe(text: &str) -> Probe {
    text.parse().unwrap_or_else(|e| panic!("{e}"))
}

/// `None` when the packet was allowed in every respect.
fn why_not_passed(world: &World, probe: &Probe) -> Option<String> {
    let before = world.heard(probe.address(), probe.port());
    let outcome = probe.send(&world.ctr, PATIENCE);
    let wanted = match probe {
        Probe::Tcp(_) => Outcome::Connected,
        Probe::Udp(_) => Outcome::Sent,
        Probe::Icmp(_) => Outcome::Replied,
    };
    if outcome != wanted {
        return Some(format!("{probe} should pass, but its sender saw {outcome:?}"));
    }
    // Heard at once, or as soon as the neighbour is known.
    for _ in 0..3000 {
        if world.heard(probe.address(), probe.port()) > before {
            world.pump();
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Some(format!("{probe} should pass, but it never arrived"))
}

/// `None` when nothing arrived and the sender saw one of `told`.
fn why_not_denied(world: &World, probe: &Probe, patience: Duration, told: &[Outcome]) -> Option<String> {
    let before = world.heard(probe.address(), probe.port());
    let outcome = probe.send(&world.ctr, patience);
    world.settle();
    if world.heard(probe.address(), probe.port()) > before {
        return Some(format!("{probe} should be denied, but it ARRIVED"));
    }
    (!told.contains(&outcome)).then(|| format!("{probe} was denied, but its sender saw {outcome:?}, not {told:?}"))
}

/// What a sender sees of a rejected packet: TCP is refused, datagrams are not permitted or answered by ICMP.
fn told_by_reject(probe: &Probe) -> &'static [Outcome] {
    match probe {
        Probe::Tcp(_) => &[Outcome::Refused],
        Probe::Udp(_) | Probe::Icmp(_) => &[Outcome::NotPermitted, Outcome::Refused],
    }
}

fn locked(world: &World, key: &str, list: &str) -> Container {
    let container = Container::of(&world.ctr).with(key, list);
    container.lock();
    container
}

fn report(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn without_rules_every_packet_of_the_tables_arrives() {
    // The contrast: what these tests call denied is denied by rules and by nothing else.
    let world = World::new();
    let all = EGRESS.iter().flat_map(|row| row.passes.iter().chain(row.denied));
    report(all.filter_map(|text| why_not_passed(&world, &probe(text))).collect());
}

#[test]
fn an_egress_list_lets_pass_what_it_names_and_nothing_else() {
    let mut problems = Vec::new();
    for row in EGRESS {
        let world = World::new();
        locked(&world, "egress", row.list);
        let passes = row.passes.iter().map(|text| probe(text)).filter_map(|p| why_not_passed(&world, &p));
        let denied = row.denied.iter().map(|text| probe(text));
        let denied = denied.filter_map(|p| why_not_denied(&world, &p, PATIENCE, told_by_reject(&p)));
        problems.extend(passes.chain(denied).map(|problem| format!("egress {:?}: {problem}", row.list)));
    }
    report(problems);
}

#[test]
fn the_host_group_is_the_addresses_of_where_the_hook_runs() {
    // The far side plays the host: the hook runs there.
    for (list, own_passes) in [("@host", true), ("*, !@host", false), ("@host:80", true)] {
        let world = World::new();
        let container = Container::of(&world.ctr).with("egress", list);
        let output = world.far.within(|| hook("createRuntime", &container.state(Dialect::Runc), None));
        assert!(output.status.success(), "{list}: {}", String::from_utf8_lossy(&output.stderr));
        let mut problems = Vec::new();
        for own in FAR {
            let own = Probe::Tcp(SocketAddr::new(own.parse().unwrap(), 80));
            problems.extend(if own_passes {
                why_not_passed(&world, &own)
            } else {
                why_not_denied(&world, &own, PATIENCE, told_by_reject(&own))
            });
        }
        for other in ["tcp 10.9.9.9:80", "tcp [2001:db8::1]:80"].map(probe) {
            problems.extend(if own_passes {
                why_not_denied(&world, &other, PATIENCE, told_by_reject(&other))
            } else {
                why_not_passed(&world, &other)
            });
        }
        report(problems.into_iter().map(|problem| format!("egress {list:?}: {problem}")).collect());
    }
}

#[test]
fn on_denied_drop_is_silence_and_reject_an_answer_at_once() {
    let denied = ["tcp 10.9.9.9:80", "tcp [2001:db8::9]:80"].map(probe);

    let world = World::new();
    Container::of(&world.ctr).with("egress", "10.9.1.1").with("on-denied", "drop").lock();
    let silent = denied.iter().filter_map(|p| why_not_denied(&world, p, SILENCE, &[Outcome::TimedOut])).collect();
    report(silent);

    let world = World::new();
    Container::of(&world.ctr).with("egress", "10.9.1.1").with("on-denied", "reject").lock();
    report(denied.iter().filter_map(|p| why_not_denied(&world, p, PATIENCE, &[Outcome::Refused])).collect());
}

#[test]
fn every_dialect_of_a_state_gets_the_same_rules() {
    let mut listings = Vec::new();
    for dialect in Dialect::ALL {
        let world = World::new();
        let mut container = Container::of(&world.ctr).with("egress", "10.9.1.1:443, [2001:db8::/32]:53, !10.9.9.9");
        container.id = "same".to_owned();
        let output = hook("createRuntime", &container.state(dialect), None);
        assert!(output.status.success(), "{dialect:?}: {}", String::from_utf8_lossy(&output.stderr));
        report(why_not_passed(&world, &probe("tcp 10.9.1.1:443")).into_iter().collect());
        listings.push((dialect, world.ctr.nft_json()));
    }
    for (dialect, listing) in &listings {
        assert!(!listing.is_empty());
        assert_eq!(listing, &listings[0].1, "{dialect:?} against {:?}", listings[0].0);
    }
}
