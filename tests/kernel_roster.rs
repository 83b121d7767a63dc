//! The roster and the namespaces it tells of, judged by the kernel: who is found again, who is told from another, what
//! concurrent starts and a crash leave.

mod support;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use netlatch::kernel::capability;
use netlatch::kernel::link::global_addresses;
use netlatch::kernel::netns::{Own, Place, Target, cookie, enter, unshared, visit};
use netlatch::kernel::process::{DEADLINE, Deadline};
use netlatch::policy::watch::Identity;
use netlatch::registry::{Anchor, Arrival, Loaded, Look, Record, Registry, Stored, boot_ms, started};
use support::Namespace;
use tempfile::TempDir;

fn deadline() -> Deadline {
    Deadline::after(DEADLINE)
}

/// setns and capset bind a thread, and libtest may give a test the main one.
fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| match scope.spawn(work).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn cookie_of(namespace: &Namespace) -> u64 {
    on_a_thread(|| cookie(&enter(&Target::Process(namespace.pid()), &Own::read().unwrap()).unwrap()).unwrap().unwrap())
}

fn place(namespace: &Namespace) -> Place {
    let target = Target::Process(namespace.pid());
    Place { id: target.namespace().unwrap(), target, cookie: Some(cookie_of(namespace)) }
}

/// Whether a visit finds the place.
fn found(place: &Place) -> bool {
    on_a_thread(|| visit(place, &Own::read().unwrap()).unwrap().is_some())
}

/// A process that ends with this value.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Process {
        Process(command.stdin(Stdio::null()).spawn().expect("it starts"))
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    fn stat(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

// Namespaces, found again.

#[test]
fn a_cookie_is_one_namespaces_and_stays() {
    let (a, b) = (Namespace::new(), Namespace::in_user_namespace());
    assert_eq!(cookie_of(&a), cookie_of(&a));
    assert_ne!(cookie_of(&a), cookie_of(&b));
    on_a_thread(|| {
        let own = Own::read().unwrap();
        let first = unshared().unwrap();
        let before = cookie(&first).unwrap();
        // The namespace lives on without anybody inside as long as it is open.
        let kept = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        drop(first);
        let elsewhere = enter(&Target::Process(a.pid()), &own).unwrap();
        assert_ne!(cookie(&elsewhere).unwrap(), before);
        drop(elsewhere);
        let back = enter(&Target::Path(format!("/proc/self/fd/{}", kept.as_raw_fd()).into()), &own).unwrap();
        assert_eq!(cookie(&back).unwrap(), before);
    });
}

#[test]
fn one_thread_visits_many_namespaces_and_never_the_hosts() {
    let namespaces = [Namespace::new(), Namespace::in_user_namespace(), Namespace::new()];
    let places: Vec<Place> = namespaces.iter().map(place).collect();
    on_a_thread(|| {
        let own = Own::read().unwrap();
        let host = Target::Process(std::process::id() as i32);
        capability::keep_only(&capability::BEFORE_JOIN).unwrap();
        let first = enter(&places[0].target, &own).unwrap();
        capability::keep_only(&capability::WHILE_VISITING).unwrap();
        drop(first);
        for place in places.iter().chain(places.iter().rev()) {
            let inside = visit(place, &own).unwrap().expect("it is there");
            assert_eq!(inside.id(), place.id);
            assert_eq!(cookie(&inside).unwrap(), place.cookie);
            drop(inside);
            // From inside a container the host's namespace is another than this thread's, and still refused.
            assert_eq!(enter(&host, &own).unwrap_err().exit_code(), 24);
        }
        // Two at once are one too many.
        let inside = visit(&places[1], &own).unwrap().unwrap();
        assert_eq!(visit(&places[2], &own).unwrap_err().exit_code(), 63);
        drop(inside);
        capability::keep_only(&capability::AFTER_JOIN).unwrap();
        assert_eq!(visit(&places[0], &own).unwrap_err().exit_code(), 27);
    });
}

#[test]
fn what_is_not_what_was_recorded_is_gone() {
    let (a, b) = (Namespace::new(), Namespace::new());
    let recorded = place(&a);
    assert!(found(&recorded));
    assert!(found(&Place { cookie: None, ..recorded.clone() }));
    // The pid is a process's of another container, of the host, a thread's; the number is another namespace's.
    assert!(!found(&Place { target: Target::Process(b.pid()), ..recorded.clone() }));
    assert!(!found(&Place { target: Target::Process(std::process::id() as i32), ..recorded.clone() }));
    assert!(!found(&Place { target: Target::Process(nix::unistd::gettid().as_raw()), ..recorded.clone() }));
    assert!(!found(&Place { cookie: recorded.cookie.map(|cookie| cookie + 1), ..recorded.clone() }));
    assert!(!found(&Place { target: Target::Path("/nowhere/ns".into()), ..recorded.clone() }));
    assert!(!found(&Place { target: Target::Path("/proc/self/stat".into()), ..recorded.clone() }));
    assert!(found(&Place { target: Target::Path(a.path().into()), ..recorded.clone() }));
    drop(a);
    assert!(!found(&recorded));
}

#[test]
fn the_namespace_that_the_hook_itself_runs_in_is_not_called_gone() {
    let namespace = Namespace::new();
    let recorded = place(&namespace);
    namespace.within(|| {
        assert_eq!(visit(&recorded, &Own::read().unwrap()).unwrap_err().exit_code(), 24);
    });
}

#[test]
fn a_container_without_its_first_thread_lives_and_a_zombie_does_not() {
    on_a_thread(|| {
        let own = Own::read().unwrap();
        // PID 1 of a container may end its first thread and go on in others: it must not leave the sets that deny it.
        const PROGRAM: &str = "import ctypes, threading, time\n\
        threading.Thread(target=time.sleep, args=(60,)).start()\n\
        ctypes.CDLL(None).syscall(ctypes.c_long(60), 0)";
        let mut process = Process::start(Command::new("unshare").args(["--net", "python3", "-c", PROGRAM]));
        wait_until("the first thread has ended", || process.stat().contains(") Z "));
        let pid = process.pid();
        let thread = std::fs::read_dir(format!("/proc/{pid}/task"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| !path.ends_with(pid.to_string()))
            .unwrap();
        let netns = Target::Path(thread.join("ns/net")).namespace().unwrap();
        let anchor = Anchor::Process { pid, started: started(pid).unwrap() };
        assert!(anchor.holds(netns));
        let (_dir, registry) = registry();
        let mut roster = load(&registry).roster;
        roster.enter(Arrival { netns, anchor: anchor.clone(), ..arrival("c", std::process::id() as i32) });
        assert!(roster.subjects[0].visit(&own).unwrap().is_some());
        process.0.kill().unwrap();
        wait_until("it is a zombie as a whole", || {
            std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().count() == 1
        });
        assert!(!anchor.holds(netns) && anchor.may_hold(netns));
        assert!(roster.subjects[0].visit(&own).unwrap().is_none());
        process.0.wait().unwrap();
        assert!(!anchor.may_hold(netns));
    });
}

#[test]
fn a_namespace_without_a_process_lives_as_long_as_its_path() {
    on_a_thread(|| {
        let own = Own::read().unwrap();
        let (_dir, registry) = registry();
        let namespace = Namespace::new();
        let path = PathBuf::from(namespace.path());
        let record = Record { pid: None, started: None, netns_path: Some(path), ..record("c", namespace.pid()) };
        registry.put(&record).unwrap();
        let mut roster = load(&registry).roster;
        assert!(roster.reap(|_, _| Look::Closely).containers.is_empty());
        assert!(roster.subjects[0].visit(&own).unwrap().is_some());
        drop(namespace);
        assert_eq!(roster.reap(|_, _| Look::Cheaply).subjects.len(), 1);
    });
}

// Addresses.

fn addresses(namespace: &Namespace) -> Vec<IpAddr> {
    on_a_thread(|| {
        let inside = enter(&Target::Process(namespace.pid()), &Own::read().unwrap()).unwrap();
        global_addresses(&inside, &deadline()).unwrap()
    })
}

fn ip(namespace: &Namespace, arguments: &str) -> String {
    namespace.within(|| {
        let output = Command::new("ip").args(arguments.split(' ')).output().expect("ip runs");
        assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    })
}

#[test]
fn the_addresses_that_make_a_container_known_are_those_that_mean_the_same_everywhere() {
    let namespace = Namespace::new();
    assert_eq!(addresses(&namespace), Vec::<IpAddr>::new());
    ip(&namespace, "link set lo up");
    ip(&namespace, "link add eth0 type veth peer name far");
    ip(&namespace, "link set far up");
    ip(&namespace, "link set eth0 up");
    for address in ["192.0.2.7/24", "192.0.2.8/24", "169.254.7.7/16", "2001:db8::7/64"] {
        ip(&namespace, &format!("addr add {address} dev eth0"));
    }
    // Bound to lo, where services with one address for all keep it.
    ip(&namespace, "addr add 198.51.100.1/32 dev lo");
    let expected: [IpAddr; 4] =
        ["192.0.2.7", "192.0.2.8", "198.51.100.1", "2001:db8::7"].map(|text| text.parse().unwrap());
    // At once, while duplicate address detection is under way.
    assert!(ip(&namespace, "-6 addr show dev eth0").contains("tentative"));
    assert_eq!(addresses(&namespace), expected);
}

#[test]
fn an_address_that_another_host_has_is_not_the_containers() {
    let namespace = Namespace::new();
    ip(&namespace, "link add eth0 type veth peer name far");
    ip(&namespace, "link set far up");
    ip(&namespace, "link set eth0 up");
    ip(&namespace, "addr add 2001:db8::7/64 dev far nodad");
    ip(&namespace, "addr add 2001:db8::7/64 dev eth0");
    ip(&namespace, "addr add 2001:db8::8/64 dev eth0 nodad");
    wait_until("detection has failed", || ip(&namespace, "-6 addr show dev eth0").contains("dadfailed"));
    ip(&namespace, "link set far down");
    assert_eq!(addresses(&namespace), ["2001:db8::8".parse::<IpAddr>().unwrap()]);
}

// The roster.

fn registry() -> (TempDir, Registry) {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::at(&dir.path().join("run"));
    (dir, registry)
}

fn load(registry: &Registry) -> Loaded {
    let lock = registry.lock(&deadline()).unwrap();
    registry.roster(&lock, |_| BTreeMap::new()).unwrap()
}

fn anchor(pid: i32) -> Anchor {
    Anchor::Process { pid, started: started(pid).unwrap() }
}

fn arrival(id: &str, pid: i32) -> Arrival {
    Arrival {
        netns: Target::Process(pid).namespace().unwrap(),
        cookie: None,
        id: id.into(),
        anchor: anchor(pid),
        addresses: Vec::new(),
        identity: Identity::default(),
        table: None,
        watch: None,
    }
}

fn record(id: &str, pid: i32) -> Record {
    let netns = Target::Process(pid).namespace().unwrap();
    Record {
        id: id.into(),
        pid: Some(pid),
        netns: (netns.dev, netns.ino),
        table: None,
        explicit: false,
        host: Vec::new(),
        namespace: "default".into(),
        labels: BTreeMap::new(),
        recorded_ms: boot_ms(),
        started: started(pid),
        netns_path: None,
        cookie: None,
        addresses: Vec::new(),
        ports: Vec::new(),
        namespace_labels: None,
        annotations: BTreeMap::new(),
        bundle: None,
        watch: None,
        outside: None,
    }
}

/// What a start does that finds a roster.
fn start(registry: &Registry, id: &str, pid: i32) {
    let lock = registry.lock(&Deadline::after(Duration::from_secs(60))).unwrap();
    registry.put(&record(id, pid)).unwrap();
    let Loaded { mut roster, mut stored, .. } = registry.roster(&lock, |_| BTreeMap::new()).unwrap();
    roster.enter(arrival(id, pid));
    registry.begin(&lock, &roster, &mut stored).unwrap().finish().unwrap();
}

fn stop(registry: &Registry, id: &str) {
    let lock = registry.lock(&Deadline::after(Duration::from_secs(60))).unwrap();
    registry.forget(id).unwrap();
    let Loaded { mut roster, mut stored, .. } = registry.roster(&lock, |_| BTreeMap::new()).unwrap();
    roster.remove(id);
    registry.begin(&lock, &roster, &mut stored).unwrap().finish().unwrap();
}

fn ids(loaded: &Loaded) -> Vec<String> {
    let containers = loaded.roster.subjects.iter().flat_map(|subject| &subject.containers);
    let mut ids: Vec<String> = containers.map(|container| container.id.clone()).collect();
    ids.sort();
    ids
}

#[test]
fn starts_and_stops_at_once_lose_nobody() {
    let (_dir, registry) = registry();
    let pid = std::process::id() as i32;
    let names: Vec<String> = (0..64).map(|n| format!("c{n:02}")).collect();
    thread::scope(|scope| {
        for name in &names {
            let registry = &registry;
            scope.spawn(move || {
                start(registry, name, pid);
                start(registry, &format!("{name}-short"), pid);
                stop(registry, &format!("{name}-short"));
            });
        }
    });
    let loaded = load(&registry);
    assert!(loaded.finished && !loaded.rebuilt);
    assert_eq!(ids(&loaded), names);
}

#[test]
fn nobody_is_lost_while_the_roster_comes_into_being() {
    let pid = std::process::id() as i32;
    for round in 0..30 {
        let (_dir, registry) = registry();
        let built = AtomicBool::new(false);
        let plain = thread::scope(|scope| {
            let starter = scope.spawn(|| {
                let mut names = Vec::new();
                // Some before, some meanwhile, some behind.
                for n in 0..1000 {
                    let (after, name) = (built.load(Ordering::SeqCst), format!("c{n:03}"));
                    if !registry.put_alone(&record(&name, pid)).unwrap() {
                        start(&registry, &name, pid);
                    }
                    names.push(name);
                    if after {
                        break;
                    }
                }
                names
            });
            thread::sleep(Duration::from_micros(300 * (round % 7)));
            let lock = registry.lock(&deadline()).unwrap();
            let mut loaded = registry.roster(&lock, |_| BTreeMap::new()).unwrap();
            assert!(loaded.rebuilt);
            registry.begin(&lock, &loaded.roster, &mut loaded.stored).unwrap().finish().unwrap();
            drop(lock);
            built.store(true, Ordering::SeqCst);
            starter.join().unwrap()
        });
        assert_eq!(ids(&load(&registry)), plain, "round {round}");
    }
}

/// Set in the copy of this program that is killed.
const RUN_DIR: &str = "NETLATCH_TEST_RUN_DIR";

#[test]
fn a_start_that_is_killed_leaves_the_lock_free_and_the_roster_unfinished() {
    const SELF: &str = "a_start_that_is_killed_leaves_the_lock_free_and_the_roster_unfinished";
    if let Some(dir) = std::env::var_os(RUN_DIR) {
        let registry = Registry::at(Path::new(&dir));
        let lock = registry.lock(&deadline()).unwrap();
        let Loaded { mut roster, mut stored, .. } = registry.roster(&lock, |_| BTreeMap::new()).unwrap();
        roster.enter(arrival("second", std::process::id() as i32));
        let _unfinished = registry.begin(&lock, &roster, &mut stored).unwrap();
        std::fs::write(Path::new(&dir).join("begun"), "").unwrap();
        loop {
            thread::sleep(Duration::from_secs(60));
        }
    }
    let (dir, registry) = registry();
    start(&registry, "first", std::process::id() as i32);
    let run = dir.path().join("run");
    let mut killed = Process::start(
        Command::new(std::env::current_exe().unwrap()).args(["--exact", SELF]).env(RUN_DIR, &run).stdout(Stdio::null()),
    );
    wait_until("the roster is being written", || run.join("begun").exists());
    assert_eq!(registry.lock(&Deadline::after(Duration::from_millis(20))).unwrap_err().exit_code(), 41);
    killed.0.kill().unwrap();
    killed.0.wait().unwrap();
    let mut loaded = load(&registry);
    assert!(!loaded.finished && !loaded.rebuilt);
    assert_eq!(ids(&loaded), ["first", "second"]);
    let reaped = loaded.roster.reap(|_, _| Look::Cheaply);
    assert_eq!(reaped.containers.len(), 1);
    assert_eq!(ids(&loaded), ["first"]);
}

#[test]
fn a_lost_roster_is_made_from_who_lives() {
    on_a_thread(|| {
        let own = Own::read().unwrap();
        let (dir, registry) = registry();
        let (a, b) = (Namespace::new(), Namespace::new());
        let dead = Namespace::new();
        for (id, namespace) in [("a", &a), ("a-neighbour", &a), ("b", &b), ("dead", &dead)] {
            registry.put(&Record { cookie: Some(cookie_of(namespace)), ..record(id, namespace.pid()) }).unwrap();
        }
        drop(dead);
        let loaded = load(&registry);
        assert!(loaded.rebuilt);
        assert_eq!(ids(&loaded), ["a", "a-neighbour", "b"]);
        assert_eq!(loaded.roster.subjects.len(), 2);
        assert!(!dir.path().join("run/containers/dead.json").exists());
        for subject in &loaded.roster.subjects {
            assert_eq!(subject.visit(&own).unwrap().expect("it is there").id(), subject.netns);
        }
    });
}

#[test]
#[ignore = "measures and judges nothing; run alone in a release build with --nocapture"]
fn what_a_thousand_containers_cost() {
    use netlatch::policy::model::{Action, Namespaces, Operator, Requirement, Selector};
    use netlatch::policy::watch::{Watch, WatchedGroup, WatchedPeer};
    let pid = std::process::id() as i32;
    let selector = |key: &str, value: String| Selector {
        requirements: vec![Requirement { key: key.into(), operator: Operator::In, values: vec![value] }],
    };
    for (count, replicas) in [(10, 10), (1_000, 10), (1_000, 1)] {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let registry = Registry::at(&dir.path().join("run"));
        let lock = registry.lock(&deadline()).unwrap();
        let mut roster = registry.roster(&lock, |_| BTreeMap::new()).unwrap().roster;
        for n in 0..count {
            let app = format!("app-{}", n / replicas);
            let group = |g: u64| WatchedGroup {
                set: format!("ingress_network_{g}"),
                action: Action::Accept,
                peers: vec![WatchedPeer {
                    namespaces: Namespaces::Own(format!("namespace-{}", n / 100)),
                    pods: selector("app", format!("peer-{g}-of-{app}")),
                    within: None,
                    ports: Vec::new(),
                }],
            };
            let mut arrival = arrival(&format!("{n:064x}"), pid);
            arrival.netns.ino = 4_026_532_000 + n;
            arrival.cookie = Some(n);
            arrival.addresses =
                vec![IpAddr::from([10, 88, (n / 250) as u8, (n % 250) as u8]), format!("fd00::{n:x}").parse().unwrap()];
            arrival.identity.namespace = format!("namespace-{}", n / 100);
            arrival.identity.namespace_labels =
                [("kubernetes.io/metadata.name".to_owned(), arrival.identity.namespace.clone())].into();
            arrival.identity.labels = [("app".to_owned(), app.clone()), ("tier".to_owned(), "front".to_owned())].into();
            arrival.table = Some(format!("netlatch 0 plan {:064x}", n / replicas));
            arrival.watch = Some(Watch { ipv6: true, services: false, groups: (0..4).map(group).collect() });
            roster.enter(arrival);
        }
        registry.begin(&lock, &roster, &mut Stored::default()).unwrap().finish().unwrap();
        let size = std::fs::metadata(dir.path().join("run/roster")).unwrap().len();
        let mut times: [Vec<Duration>; 5] = Default::default();
        for _ in 0..200 {
            let mut step = Instant::now();
            let mut lap = |index: usize| {
                times[index].push(step.elapsed());
                step = Instant::now();
            };
            let mut loaded = registry.roster(&lock, |_| BTreeMap::new()).unwrap();
            lap(0);
            std::hint::black_box(loaded.roster.reap(|_, _| Look::Cheaply));
            lap(1);
            let mut newcomer = arrival("newcomer", pid);
            newcomer.identity.labels = [("app".to_owned(), "app-7".to_owned())].into();
            std::hint::black_box(loaded.roster.enter(newcomer));
            lap(2);
            let unfinished = registry.begin(&lock, &loaded.roster, &mut loaded.stored).unwrap();
            lap(3);
            unfinished.finish().unwrap();
            lap(4);
            loaded.roster.remove("newcomer");
        }
        let median = times.map(|mut times| {
            times.sort();
            times[times.len() / 2]
        });
        println!(
            "{count} containers, {replicas} of each: {size} bytes; load {:?}, sweep {:?}, enter {:?}, begin {:?}, finish {:?}",
            median[0], median[1], median[2], median[3], median[4]
        );
    }
}
