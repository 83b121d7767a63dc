//! Hooks that run at once, stops that come too early, twice or never, and clocks that jump: everybody succeeds or says
//! why, nobody hangs, and nobody loses a rule by it.
// Release builds have no faults to ask for.
#![cfg(debug_assertions)]

mod support;

use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use netlatch::kernel::process::DEADLINE;
use serde_json::{Value, json};
use support::Namespace;
use support::cluster::in_parallel;
use support::container::{Container, Dialect};
use support::fault::{Host, container, pod_of, refusal, rules, running, text, was_killed};
use support::live::{FRONT_LABELS, SHOP, WEB_LABELS, WEB_TAKES_FRONT};

const HANG: Duration = DEADLINE.saturating_add(Duration::from_secs(2));

fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "in vain: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A second container of the same namespace: its bundle names it by its path, or says that it is new.
fn guest(id: &str, namespace: &Namespace, by_path: bool, egress: &str) -> Container {
    let container = container(id, namespace, &[("egress", egress)]);
    if by_path {
        let network = json!({"type": "network", "path": namespace.path()});
        container.write_config(&json!({"ociVersion": "1.0.2", "linux": {"namespaces": [network]}}));
    }
    container
}

/// Starts one and holds it at `point`, does `work` meanwhile, and lets it go.
fn held(host: &Host, state: &Value, point: &str, work: impl FnOnce()) -> Output {
    let gate = host.engine.path().join(format!("gate-{point}"));
    let fault = format!("wait {point} 1 {}", gate.display());
    thread::scope(|scope| {
        let first = scope.spawn(|| host.run("createRuntime", state, &fault));
        wait_for(&format!("the first comes to {point}"), || gate.exists());
        work();
        std::fs::remove_file(&gate).expect("the gate");
        first.join().expect("it ends")
    })
}

#[test]
fn of_two_that_ask_for_different_rules_at_once_only_one_is_told_it_has_them() {
    let host = Host::new("", &[]);
    let namespace = Namespace::new();
    let (a, b) = (guest("a", &namespace, false, "10.1.1.1"), guest("b", &namespace, false, "10.2.2.2"));
    // The first has seen that there is no table.
    let first = held(&host, &a.state(Dialect::Runc), "decided", || host.must("createRuntime", &b.state(Dialect::Runc)));
    let (code, line) = host.refused("a", "a", &first);
    assert_eq!(code, 43, "{line}");
    let there = format!("{:?}", rules(&namespace));
    assert!(there.contains("10.2.2.2") && !there.contains("10.1.1.1"), "{there}");
    host.must("poststart", &running(&b));
    host.is_untouched();
}

#[test]
fn of_two_that_ask_for_the_same_at_once_both_have_it() {
    let host = Host::new("", &[]);
    let namespace = Namespace::new();
    let (a, b) = (guest("a", &namespace, false, "10.1.1.1"), guest("b", &namespace, false, "10.1.1.1"));
    let mut there = Vec::new();
    let first = held(&host, &a.state(Dialect::Runc), "decided", || {
        host.must("createRuntime", &b.state(Dialect::Runc));
        there = rules(&namespace);
    });
    assert!(first.status.success(), "{}", text(&first));
    assert_eq!(rules(&namespace), there);
    for container in [&a, &b] {
        host.must("poststart", &running(container));
    }
    host.is_untouched();
}

#[test]
fn two_at_once_on_one_namespace_are_both_protected_or_told_why_not() {
    let host = Host::new("", &[]);
    for round in 0..24 {
        // Two bundles that both say that the namespace is new for them are one container's, and ask for the same.
        let (by_path, same) = (round % 3 != 0, round % 3 < 2);
        let namespace = Namespace::new();
        let pair = [
            guest("a", &namespace, by_path, "10.1.1.1"),
            guest("b", &namespace, by_path, if same { "10.1.1.1" } else { "10.2.2.2" }),
        ];
        let outputs = in_parallel(&pair, |one| host.run("createRuntime", &one.state(Dialect::Runc), ""));
        let case = format!("round {round}, by path {by_path}, same {same}");
        let there = format!("{:?}", rules(&namespace));
        let mut protected = 0;
        for (output, list) in outputs.iter().zip(["10.1.1.1", if same { "10.1.1.1" } else { "10.2.2.2" }]) {
            if output.status.success() {
                protected += 1;
                assert!(there.contains(list), "{case}: {there}");
            } else {
                let (code, line) = refusal(&case, output);
                // Refused by name, come too late, or changed under the eyes of who reads back.
                assert!([17, 34, 43].contains(&code), "{case}: {line}");
            }
        }
        assert!(
            if same { protected == 2 } else { protected <= 1 },
            "{case}: {protected} {:?}",
            outputs.iter().map(text).collect::<Vec<_>>()
        );
        for one in &pair {
            host.must("poststop", &one.ended(Dialect::Runc));
        }
    }
    host.is_untouched();
}

#[test]
fn forty_at_once_that_follow_nobody_all_start() {
    let host = Host::new("egress: \"10.0.0.0/8\"\n", &[]);
    let pods: Vec<(String, Namespace)> = (0..40).map(|n| (format!("c{n}"), Namespace::new())).collect();
    let took = in_parallel(&pods, |(id, namespace)| {
        let one = container(id, namespace, &[]);
        let began = Instant::now();
        host.must("createRuntime", &one.state(Dialect::Runc));
        host.must("poststart", &running(&one));
        began.elapsed()
    });
    assert!(took.iter().all(|took| *took < HANG), "{took:?}");
    let plan = rules(&pods[0].1);
    assert!(!plan.is_empty() && pods.iter().all(|(_, namespace)| rules(namespace) == plan));
    in_parallel(&pods, |(id, namespace)| host.must("poststop", &container(id, namespace, &[]).ended(Dialect::Runc)));
    assert!(host.files().iter().all(|file| !file.starts_with("containers/")), "{:?}", host.files());
    host.is_untouched();
}

#[test]
fn a_hundred_at_once_under_policies_start_or_say_why() {
    let host = Host::new("", &[SHOP, WEB_TAKES_FRONT]);
    let web = host.pod(1);
    host.must("createRuntime", &pod_of("web", WEB_LABELS, &web).state(Dialect::Runc));
    let numbers: Vec<usize> = (2..102).collect();
    let pods: Vec<(usize, Namespace)> =
        numbers.chunks(10).flat_map(|some| in_parallel(some, |number| (*number, host.pod(*number)))).collect();
    let front = |(number, namespace): &(usize, Namespace)| pod_of(&format!("front-{number}"), FRONT_LABELS, namespace);
    let outputs = in_parallel(&pods, |pod| {
        let began = Instant::now();
        let output = host.run("createRuntime", &front(pod).state(Dialect::Runc), "");
        assert!(began.elapsed() < HANG, "{:?}", began.elapsed());
        output
    });
    for (pod, output) in pods.iter().zip(&outputs) {
        if !output.status.success() {
            let (code, line) = refusal("a start among a hundred", output);
            assert_eq!(code, 41, "{line}");
            // The machine was too busy: the runtime tries again.
            host.must("createRuntime", &front(pod).state(Dialect::Runc));
        }
    }
    let there = format!("{:?}", rules(&web));
    for (number, _) in &pods {
        assert!(there.contains(&format!("\"10.1.0.{number}\"")), "{number}: {there}");
    }
    for pod in pods.iter().step_by(9) {
        host.must("poststart", &running(&front(pod)));
    }
    host.is_untouched();
}

#[test]
fn a_stop_without_a_start_and_a_second_one_are_nothing() {
    for policies in [&[][..], &[SHOP, WEB_TAKES_FRONT]] {
        let host = Host::new("", policies);
        let (web, front) = (host.pod(1), host.pod(2));
        let (web_pod, front_pod) = (pod_of("web", WEB_LABELS, &web), pod_of("front", FRONT_LABELS, &front));
        // Before anything was ever started here, not even the directory is there.
        host.must("poststop", &front_pod.stopped(Dialect::Runc));
        host.must("createRuntime", &web_pod.state(Dialect::Runc));
        let alone = rules(&web);
        host.must("poststop", &front_pod.stopped(Dialect::Crun));
        assert_eq!(rules(&web), alone);
        host.must("createRuntime", &front_pod.state(Dialect::Runc));
        for dialect in [Dialect::Runc, Dialect::Crun, Dialect::Youki] {
            host.must("poststop", &front_pod.ended(dialect));
            assert_eq!(rules(&web), alone);
        }
        host.must("poststart", &running(&web_pod));
        host.is_untouched();
    }
}

#[test]
fn a_stop_during_the_start_of_its_id_leaves_no_half_of_it() {
    let host = Host::new("", &[SHOP, WEB_TAKES_FRONT]);
    let web = host.pod(1);
    let web_pod = pod_of("web", WEB_LABELS, &web);
    host.must("createRuntime", &web_pod.state(Dialect::Runc));
    let alone = rules(&web);
    for point in ["join", "locked", "entered", "table", "file-open", "recorded", "finish"] {
        let front = host.pod(2);
        let pod = pod_of("front", FRONT_LABELS, &front);
        let began = Instant::now();
        let start = thread::scope(|scope| {
            held(&host, &pod.state(Dialect::Runc), point, || {
                scope.spawn(|| host.must("poststop", &pod.stopped(Dialect::Runc)));
                thread::sleep(Duration::from_millis(30));
            })
        });
        assert!(began.elapsed() < HANG, "{point}: {:?}", began.elapsed());
        assert!(start.status.success(), "{point}: {}", text(&start));
        assert!(!rules(&front).is_empty() || format!("{alone:?}").contains("ingress_network"), "{point}");
        // The runtime that has started it goes on, or starts it again.
        host.must("createRuntime", &pod.state(Dialect::Runc));
        assert!(format!("{:?}", rules(&web)).contains("10.1.0.2"), "{point}");
        host.must("poststart", &running(&pod));
        host.must("poststop", &pod.ended(Dialect::Runc));
        assert_eq!(rules(&web), alone, "{point}");
    }
    host.is_untouched();
}

/// The members of a table's sets, as nft lists them.
fn members(namespace: &Namespace) -> String {
    let sets = rules(namespace).into_iter().filter(|object| object.get("set").is_some());
    sets.map(|set| format!("{:?}", set["set"]["elem"])).collect::<Vec<_>>().join("\n")
}

#[test]
fn who_comes_and_who_goes_before_a_start_has_the_lock_is_in_its_rules_and_out_of_them() {
    let host = Host::new("", &[SHOP, WEB_TAKES_FRONT]);
    let ends: Vec<Namespace> = (1..=5).map(|number| host.pod(number)).collect();
    let pod = |number: usize, name: &str, labels: &str| pod_of(name, labels, &ends[number - 1]);
    let fronts = [2, 3, 5].map(|number| pod(number, &format!("front-{number}"), FRONT_LABELS));
    // Somebody has to follow for there to be a roster.
    host.must("createRuntime", &pod(1, "web-1", WEB_LABELS).state(Dialect::Runc));
    host.must("createRuntime", &fronts[0].state(Dialect::Runc));
    host.must("createRuntime", &fronts[1].state(Dialect::Runc));
    let web = pod(4, "web-4", WEB_LABELS);
    let start = held(&host, &web.state(Dialect::Runc), "ahead", || {
        let loaded = members(&ends[3]);
        assert!(loaded.contains("10.1.0.2") && loaded.contains("10.1.0.3"), "it has its rules: {loaded}");
        host.must("poststop", &fronts[0].ended(Dialect::Runc));
        host.must("createRuntime", &fronts[2].state(Dialect::Runc));
        // Not recorded yet, it is nobody's business.
        assert_eq!(members(&ends[3]), loaded);
    });
    assert!(start.status.success(), "{}", text(&start));
    let there = members(&ends[3]);
    assert!(there.contains("10.1.0.3") && there.contains("10.1.0.5") && !there.contains("10.1.0.2"), "{there}");
    assert_eq!(there, members(&ends[0]), "as who has been there all along");
    host.must("poststart", &running(&web));
    // From here on it is told of others like everybody else.
    host.must("poststop", &fronts[1].ended(Dialect::Runc));
    assert_eq!(members(&ends[3]), members(&ends[0]));
    assert!(!members(&ends[3]).contains("10.1.0.3"));
    host.is_untouched();
}

#[test]
fn a_start_is_in_the_rules_of_who_came_while_it_had_no_lock() {
    let host = Host::new("", &[SHOP, WEB_TAKES_FRONT]);
    let ends: Vec<Namespace> = (1..=3).map(|number| host.pod(number)).collect();
    host.must("createRuntime", &pod_of("web-1", WEB_LABELS, &ends[0]).state(Dialect::Runc));
    let (front, web) = (pod_of("front-2", FRONT_LABELS, &ends[1]), pod_of("web-3", WEB_LABELS, &ends[2]));
    let start = held(&host, &front.state(Dialect::Runc), "ahead", || {
        host.must("createRuntime", &web.state(Dialect::Runc));
        assert!(!members(&ends[2]).contains("10.1.0.2"));
    });
    assert!(start.status.success(), "{}", text(&start));
    for end in [0, 2] {
        assert!(members(&ends[end]).contains("10.1.0.2"), "{end}: {}", members(&ends[end]));
    }
    host.is_untouched();
}

#[test]
fn who_dies_between_loading_its_rules_and_the_lock_is_recorded_by_nobody_and_leaves_its_namespace_filtered() {
    let host = Host::new("", &[SHOP, WEB_TAKES_FRONT]);
    let ends: Vec<Namespace> = (1..=2).map(|number| host.pod(number)).collect();
    host.must("createRuntime", &pod_of("web-1", WEB_LABELS, &ends[0]).state(Dialect::Runc));
    let (files, web) = (host.files(), pod_of("web-2", WEB_LABELS, &ends[1]));
    let killed = host.run("createRuntime", &web.state(Dialect::Runc), "kill ahead 1");
    assert!(was_killed(&killed), "{}", text(&killed));
    assert_eq!(host.files(), files);
    assert_eq!(format!("{:?}", rules(&ends[1])), format!("{:?}", rules(&ends[0])));
    // The runtime starts it again, with other rules there than none.
    host.must("createRuntime", &web.state(Dialect::Runc));
    host.must("poststart", &running(&web));
    host.is_untouched();
}

/// Runs in a process id namespace, where numbers can be given out again: two namespaces whose processes have one number
/// after the other. `$1` is the hook, `$2` the configuration, `$3` the run directory, `$4` the folder of the states.
const SAME_NUMBER: &str = r#"
set -e
start() { # NUMBER: a process in a network namespace of its own
    echo $(($1 - 1)) > /proc/sys/kernel/ns_last_pid
    setsid unshare --net sleep 100 </dev/null >/dev/null 2>&1 &
    [ $! = $1 ] || { echo "it became $! instead of $1"; exit 1; }
    while [ "$(readlink /proc/$1/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do :; done
}
address() { nsenter --net=/proc/$1/ns/net sh -c "ip link add eth0 type veth peer name far && ip addr add $2/32 dev eth0"; }
hook() { sed "s/PID/$3/" "$states/$2" | "$hook" $1 --config "$config" --run-dir "$run_dir"; }
hook=$1 config=$2 run_dir=$3 states=$4
start 3000; address 3000 10.1.0.1; hook createRuntime web 3000
start 4000; address 4000 10.1.0.2; hook createRuntime front 4000
nsenter --net=/proc/3000/ns/net nft list ruleset > "$states/both"
# The front ends without a word, and a process of nobody's gets its number.
kill -9 4000; wait 4000 2>/dev/null || true
start 4000
start 5000; address 5000 10.1.0.3; hook createRuntime other 5000
nsenter --net=/proc/3000/ns/net nft list ruleset > "$states/after"
kill -9 3000 4000 5000
"#;

#[test]
fn a_missed_stop_is_made_up_for_when_the_number_is_given_to_another() {
    let host = Host::new("", &[SHOP, WEB_TAKES_FRONT]);
    let states = host.engine.path().join("states");
    std::fs::create_dir(&states).expect("a directory");
    for (name, labels) in [("web", WEB_LABELS), ("front", FRONT_LABELS), ("other", "app=other")] {
        let mut state = pod_of(name, labels, &host.namespace).state(Dialect::Runc);
        state["pid"] = "PID".into();
        state.as_object_mut().expect("an object").remove("bundle");
        std::fs::write(states.join(name), state.to_string().replace("\"PID\"", "PID")).expect("a file");
    }
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", SAME_NUMBER, "sh"]);
    command.arg(support::container::binary()).arg(host.engine.config()).arg(host.engine.run_dir()).arg(&states);
    let output = host.within(&mut command, &Value::Null);
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), text(&output));
    let listed = |file: &str| std::fs::read_to_string(states.join(file)).expect("a listing");
    assert!(listed("both").contains("10.1.0.2"), "{}", listed("both"));
    assert!(!listed("after").contains("10.1.0.2"), "{}", listed("after"));
    host.is_untouched();
}

/// The same where the machine has been up for years, or the clock of a process that was moved here says so.
#[test]
fn nothing_depends_on_how_long_the_machine_has_been_up() {
    for policies in [&[][..], &[SHOP, WEB_TAKES_FRONT]] {
        let host = Host::new("", policies);
        let elsewhen = |stage: &str, state: &Value| {
            let hook = host.engine.command(stage);
            let mut command = Command::new("unshare");
            command.args(["--time", "--fork", "--boottime", "300000000", "--monotonic", "200000000"]);
            command.arg(hook.get_program()).args(hook.get_args());
            let output = host.within(&mut command, state);
            assert!(output.status.success() && text(&output).is_empty(), "{stage}: {}", text(&output));
        };
        let (web, front, other) = (host.pod(1), host.pod(2), host.pod(3));
        let [web_pod, front_pod] = [pod_of("web", WEB_LABELS, &web), pod_of("front", FRONT_LABELS, &front)];
        let next = pod_of("next", "app=other", &other);
        elsewhen("createRuntime", &web_pod.state(Dialect::Runc));
        let alone = rules(&web);
        elsewhen("createRuntime", &front_pod.state(Dialect::Runc));
        let both = rules(&web);
        elsewhen("createRuntime", &next.state(Dialect::Runc));
        elsewhen("poststart", &running(&web_pod));
        assert_eq!(rules(&web), both, "who lives is there still");
        elsewhen("poststop", &next.ended(Dialect::Runc));
        drop(front);
        let next = pod_of("next", "app=other", &other);
        elsewhen("createRuntime", &next.state(Dialect::Runc));
        assert_eq!(rules(&web), alone, "who is gone is not");
        elsewhen("poststop", &next.ended(Dialect::Runc));
        elsewhen("poststop", &web_pod.ended(Dialect::Runc));
        host.is_untouched();
    }
}
