//! SIGKILL at any moment of a hook's way: whoever comes next puts right what was left, told by real packets.

mod support;

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use support::cluster::in_parallel;
use support::container::Dialect;
use support::dice::Dice;
use support::live::{FRONT, FRONT_LABELS, Live, WEB, WEB_LABELS, WEB_TAKES_FRONT};

/// Microseconds after which a start is done, or nearly so, in most runs.
const A_START: usize = 6_000;
/// The same for what takes members out of sets, or replaces rules, which waits for grace periods (RCU).
const A_CHANGE: usize = 25_000;

/// A stage or command, under way, with this on its standard input.
fn begin(live: &Live, command: &str, input: &serde_json::Value) -> Child {
    let id = input["id"].as_str().unwrap_or("none");
    let file = live.engine.path().join(format!("{id}.json"));
    std::fs::write(&file, input.to_string()).unwrap();
    live.cluster.host.within(|| {
        let mut command = live.engine.command(command);
        command.stdin(std::fs::File::open(&file).unwrap()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    })
}

/// Begins it and ends it with SIGKILL somewhere in its way. True where it was not done by then.
fn begin_and_kill(live: &Live, command: &str, input: &serde_json::Value, within: usize, dice: &mut Dice) -> bool {
    let mut child = begin(live, command, input);
    thread::sleep(Duration::from_micros(dice.below(within) as u64));
    child.kill().unwrap();
    child.wait().unwrap().signal() == Some(nix::libc::SIGKILL)
}

#[test]
fn a_start_killed_at_any_moment_leaves_what_the_next_start_puts_right() {
    let mut dice = Dice::new("when hooks are killed");
    let mut live = Live::new(&[WEB_TAKES_FRONT], &[(WEB, 1), (FRONT, 2)]);
    live.start(WEB, WEB_LABELS);
    live.start(FRONT, FRONT_LABELS);
    let (name, mut killed) = ("shop/victim", 0);
    for round in 0..40 {
        live.add(name, 3);
        let victim = live.container(name, FRONT_LABELS);
        killed += usize::from(begin_and_kill(&live, "createRuntime", &victim.state(Dialect::Runc), A_START, &mut dice));
        if dice.one_in(2) {
            // The runtime has cleaned up without a poststop, and the address is somebody else's.
            live.kill(name);
            live.add(name, 3);
            live.add("shop/next", 4);
            live.start("shop/next", "app=other");
            let senders = [(FRONT, true), (name, false), ("shop/next", false)];
            live.check(&format!("round {round}, the victim gone"), &senders);
            live.stop("shop/next");
            live.cluster.kill("shop/next");
        } else {
            // The runtime tries again.
            live.start(name, FRONT_LABELS);
            live.check(&format!("round {round}, the victim started again"), &[(FRONT, true), (name, true)]);
            live.stop(name);
            live.check(&format!("round {round}, the victim stopped"), &[(FRONT, true), (name, false)]);
        }
        live.cluster.kill(name);
    }
    println!("{killed} of 40 starts were killed before they were done");
    assert!(killed > 0, "nothing was killed in time: this shows nothing");
}

#[test]
fn starts_killed_among_others_take_nobody_with_them() {
    let dice = Dice::new("when hooks are killed");
    let mut live = Live::new(&[WEB_TAKES_FRONT], &[(WEB, 1), (FRONT, 2)]);
    live.start(WEB, WEB_LABELS);
    live.start(FRONT, FRONT_LABELS);
    let names: Vec<String> = (0..8).map(|i| format!("shop/front-{i}")).collect();
    let mut killed = 0;
    for round in 0..8 {
        let throws: Vec<(&String, Dice)> =
            names.iter().enumerate().map(|(i, name)| (name, dice.branch(round * names.len() + i))).collect();
        for (i, name) in names.iter().enumerate() {
            live.add(name, 10 + i);
        }
        // They wait for each other, so the last of them takes as long as all.
        let done = in_parallel(&throws, |(name, dice)| {
            let state = live.container(name, FRONT_LABELS).state(Dialect::Runc);
            !begin_and_kill(&live, "createRuntime", &state, A_START * names.len(), &mut dice.clone())
        });
        killed += done.iter().filter(|done| !**done).count();
        live.add("shop/next", 4);
        live.start("shop/next", "app=other");
        for (name, _) in names.iter().zip(&done).filter(|(_, done)| !**done) {
            live.kill(name);
            live.add(name, 10 + names.iter().position(|other| other == name).unwrap());
        }
        live.stop("shop/next");
        let all = names.iter().zip(&done).map(|(name, done)| (name.as_str(), *done));
        live.check(&format!("round {round}"), &all.chain([(FRONT, true), ("shop/next", false)]).collect::<Vec<_>>());
        for name in names.iter().map(String::as_str).chain(["shop/next"]) {
            live.cluster.kill(name);
        }
    }
    println!("{killed} of 64 starts were killed before they were done");
    assert!(killed > 0, "nothing was killed in time: this shows nothing");
}

#[test]
fn a_stop_killed_at_any_moment_leaves_what_the_next_start_puts_right() {
    let mut dice = Dice::new("when hooks are killed");
    let mut live = Live::new(&[WEB_TAKES_FRONT], &[(WEB, 1), (FRONT, 2)]);
    live.start(WEB, WEB_LABELS);
    live.start(FRONT, FRONT_LABELS);
    let (name, mut killed) = ("shop/victim", 0);
    for round in 0..20 {
        live.add(name, 3);
        live.start(name, FRONT_LABELS);
        let state = live.containers[name].stopped(Dialect::Runc);
        live.kill(name);
        killed += usize::from(begin_and_kill(&live, "poststop", &state, A_CHANGE, &mut dice));
        live.add(name, 3);
        live.add("shop/next", 4);
        live.start("shop/next", "app=other");
        let senders = [(FRONT, true), (name, false), ("shop/next", false)];
        live.check(&format!("round {round}"), &senders);
        live.stop("shop/next");
        live.cluster.kill("shop/next");
        live.cluster.kill(name);
    }
    println!("{killed} of 20 stops were killed before they were done");
    assert!(killed > 0, "nothing was killed in time: this shows nothing");
}

#[test]
fn a_reload_killed_at_any_moment_is_made_good_by_the_next() {
    let mut dice = Dice::new("when a reload is killed");
    let mut live = Live::new(&[WEB_TAKES_FRONT], &[(WEB, 1), (FRONT, 2), ("shop/second", 3)]);
    for (name, labels) in [(WEB, WEB_LABELS), (FRONT, FRONT_LABELS), ("shop/second", "app=second")] {
        live.start(name, labels);
    }
    let mut killed = 0;
    for round in 0..20 {
        let second = round % 2 == 0;
        let policy = if second { WEB_TAKES_FRONT.replace("front}", "second}") } else { WEB_TAKES_FRONT.to_owned() };
        live.engine.write("1.yaml", &policy);
        killed += usize::from(begin_and_kill(&live, "reload", &serde_json::Value::Null, A_CHANGE, &mut dice));
        live.engine.reload(&live.cluster.host);
        live.check(&format!("round {round}"), &[(FRONT, !second), ("shop/second", second)]);
    }
    println!("{killed} of 20 reloads were killed before they were done");
    assert!(killed > 0, "nothing was killed in time: this shows nothing");
}
