use std::path::Path;

use super::*;
use crate::kernel::process::{DEADLINE, Deadline};
use crate::net::Transport;
use crate::policy::names::NamedPort;
use crate::registry::{boot_ms, started};

fn here() -> (i32, u64, NamespaceId) {
    let pid = std::process::id() as i32;
    let target = crate::kernel::netns::Target::Process(pid);
    (pid, started(pid).unwrap(), target.namespace().unwrap())
}

fn living(id: &str) -> Container {
    let (pid, started, _) = here();
    Container { id: id.into(), anchor: Anchor::Process { pid, started }, identity: Shared::new(identity(id)) }
}

fn dead(id: &str) -> Container {
    let identity = Shared::new(identity(id));
    Container { id: id.into(), anchor: Anchor::Process { pid: 4_194_305, started: 1 }, identity }
}

fn identity(app: &str) -> Identity {
    Identity {
        namespace: "shop".into(),
        namespace_labels: Labels::new(),
        labels: if app.is_empty() { Labels::new() } else { [("app".to_owned(), app.to_owned())].into() },
        ports: vec![NamedPort { name: format!("{app}-port"), port: 80, protocol: Transport::Tcp }],
    }
}

fn at(ino: u64, container: Container) -> Arrival {
    Arrival {
        netns: NamespaceId { dev: 4, ino },
        cookie: Some(ino),
        identity: (*container.identity).clone(),
        id: container.id,
        anchor: container.anchor,
        addresses: vec![format!("10.0.0.{ino}").parse().unwrap()],
        table: Some("netlatch 0 plan 1".into()),
        watch: Some(Watch::default()),
    }
}

fn ids<S: std::borrow::Borrow<Subject>>(subjects: &[S]) -> Vec<&str> {
    subjects.iter().flat_map(|subject| &subject.borrow().containers).map(|container| container.id.as_str()).collect()
}

struct Place {
    _dir: tempfile::TempDir,
    registry: Registry,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::at(&dir.path().join("run"));
    Place { _dir: dir, registry }
}

impl Place {
    fn lock(&self) -> Lock {
        self.registry.lock(&Deadline::after(DEADLINE)).unwrap()
    }

    fn load(&self) -> Loaded {
        self.registry.roster(&self.lock(), |_| Labels::new()).unwrap()
    }

    fn file(&self) -> std::path::PathBuf {
        self.registry.dir.join("roster")
    }
}

fn record(id: &str) -> Record {
    let (pid, started, netns) = here();
    Record {
        id: id.into(),
        pid: Some(pid),
        netns: (netns.dev, netns.ino),
        table: Some(format!("plan of {id}")),
        explicit: true,
        host: Vec::new(),
        namespace: "shop".into(),
        labels: [("app".to_owned(), id.to_owned())].into(),
        recorded_ms: boot_ms(),
        started: Some(started),
        netns_path: None,
        cookie: Some(7),
        addresses: vec!["10.0.0.9".parse().unwrap()],
        ports: Vec::new(),
        namespace_labels: None,
        annotations: [("io.netlatch.egress".to_owned(), "none".to_owned())].into(),
        bundle: Some("/bundle".into()),
        watch: Some(Watch::default()),
        outside: None,
    }
}

#[test]
fn containers_of_one_namespace_are_one_subject() {
    let mut roster = Roster::default();
    assert_eq!(roster.enter(at(1, living("pause"))), []);
    assert_eq!(roster.enter(at(1, living("web"))), []);
    // One that is nobody in particular.
    let nobody = Identity { namespace: "default".into(), ..identity("") };
    assert_eq!(roster.enter(Arrival { cookie: None, identity: nobody, ..at(1, living("")) }), []);
    let [subject] = &roster.subjects[..] else { panic!("{roster:?}") };
    assert_eq!(ids(&roster.subjects), ["pause", "web", ""]);
    assert_eq!(subject.cookie, Some(1));
    // The last that is somebody names the subject; the ports of all are its own.
    assert_eq!(subject.identity.labels, identity("web").labels);
    let ports: Vec<_> = subject.identity.ports.iter().map(|port| port.name.as_str()).collect();
    assert_eq!(ports, ["-port", "pause-port", "web-port"]);
    // What one of them was goes with it.
    let named = |roster: &Roster| {
        let identity = &roster.subjects[0].identity;
        let ports = identity.ports.iter().map(|port| port.name.clone());
        (identity.labels.get("app").cloned().unwrap_or_default(), ports.collect::<Vec<_>>())
    };
    assert_eq!(roster.remove("web"), None);
    assert_eq!(roster.remove("web"), None);
    assert_eq!(named(&roster), ("pause".to_owned(), vec!["-port".to_owned(), "pause-port".to_owned()]));
    assert_eq!(roster.remove("pause"), None);
    assert_eq!(named(&roster), (String::new(), vec!["-port".to_owned()]));
    assert_eq!(ids(&[roster.remove("").unwrap()]), [""; 0]);
    assert!(roster.subjects.is_empty());
}

#[test]
fn a_container_that_comes_again_says_who_it_is_anew() {
    let mut roster = Roster::default();
    roster.enter(at(1, living("web")));
    roster.enter(Arrival { identity: identity("db"), ..at(1, living("web")) });
    assert_eq!(*roster.subjects[0].identity, identity("db"));
    assert_eq!(ids(&roster.subjects), ["web"]);
    let nobody = Identity { namespace: "default".into(), ports: Vec::new(), ..identity("") };
    roster.enter(Arrival { identity: nobody, ..at(1, living("other")) });
    roster.enter(Arrival { identity: identity("cache"), ..at(1, living("web")) });
    assert_eq!(*roster.subjects[0].identity, identity("cache"));
}

#[test]
fn a_namespace_whose_number_is_anothers_is_gone() {
    let mut roster = Roster::default();
    roster.enter(at(1, living("old")));
    let gone = roster.enter(Arrival { cookie: Some(99), ..at(1, living("new")) });
    assert_eq!((ids(&gone), ids(&roster.subjects)), (vec!["old"], vec!["new"]));
}

#[test]
fn a_container_that_starts_anew_without_a_stop_leaves_where_it_was() {
    let mut roster = Roster::default();
    roster.enter(at(1, living("a")));
    roster.enter(at(2, living("b")));
    roster.enter(at(2, living("c")));
    let gone = roster.enter(at(3, living("a")));
    assert_eq!(gone.len(), 1);
    assert_eq!(gone[0].addresses, at(1, living("a")).addresses);
    // Where others live on nothing is gone.
    assert_eq!(roster.enter(at(3, living("b"))), []);
    assert_eq!(roster.subject_of("b").unwrap().netns.ino, 3);
    assert_eq!(ids(&roster.subjects).len(), 3);
}

#[test]
fn replicas_share_what_they_have_in_common() {
    let mut roster = Roster::default();
    for ino in 1..=3 {
        roster.enter(Arrival { identity: identity("web"), ..at(ino, living(&ino.to_string())) });
    }
    roster.enter(Arrival { identity: identity("db"), ..at(4, living("4")) });
    assert_eq!(roster.watches().len(), 1);
    let shares = |index: usize| roster.subjects[0].identity.is(&roster.subjects[index].identity);
    assert_eq!([1, 2, 3].map(shares), [true, true, false]);
    assert_eq!(roster.find(NamespaceId { dev: 4, ino: 4 }).unwrap().containers[0].id, "4");
}

#[test]
fn the_dead_are_reaped_and_neighbours_live_on() {
    let mut roster = Roster::default();
    roster.enter(at(1, dead("a")));
    roster.enter(at(2, dead("b")));
    roster.enter(at(2, living("c")));
    // Its process is in another namespace than recorded: it may have left others behind there.
    roster.enter(at(3, living("d")));
    let reaped = roster.reap(|_, _| Look::Cheaply);
    assert_eq!(ids(&reaped.subjects), ["a"]);
    assert_eq!(reaped.containers, [dead("b"), dead("a")]);
    assert_eq!(ids(&roster.subjects), ["d", "c"]);
    assert_eq!(*roster.subjects[1].identity, identity("c"));
    let reaped = roster.reap(|_, subject| if subject.netns.ino == 3 { Look::Closely } else { Look::Cheaply });
    assert_eq!((reaped.subjects.len(), ids(&roster.subjects)), (0, vec!["d", "c"]));
}

#[test]
fn who_is_not_looked_at_stays_and_nobody_is_passed_over() {
    let mut roster = Roster::default();
    let names: Vec<String> = (1..=9).map(|n| n.to_string()).collect();
    for (ino, name) in (1..).zip(&names) {
        roster.enter(at(ino, if ino % 3 == 0 { living(name) } else { dead(name) }));
    }
    let reaped = roster.reap(|place, _| if place < 4 { Look::Cheaply } else { Look::Away });
    assert_eq!(ids(&reaped.subjects), ["4", "2", "1"]);
    assert_eq!(ids(&roster.subjects), ["7", "8", "3", "9", "5", "6"]);
    roster.reap(|_, _| Look::Cheaply);
    assert_eq!(ids(&roster.subjects), ["9", "6", "3"]);
}

#[test]
fn the_first_reader_makes_the_roster_from_the_records() {
    let place = place();
    assert!(!place.registry.roster_exists());
    assert!(place.registry.put_alone(&record("a")).unwrap());
    place.registry.put(&Record { started: Some(1), ..record("recycled") }).unwrap();
    place.registry.put(&Record { started: None, ..record("older") }).unwrap();
    place.registry.put(&Record { started: None, recorded_ms: 1, ..record("older-dead") }).unwrap();
    fs::write(place.registry.dir.join("containers/garbage.json"), "{").unwrap();
    let asked = std::cell::RefCell::new(Vec::new());
    let labels_of = |namespace: &str| {
        asked.borrow_mut().push(namespace.to_owned());
        Labels::from([("team".to_owned(), "x".to_owned())])
    };
    let loaded = place.registry.roster(&place.lock(), labels_of).unwrap();
    assert!(loaded.rebuilt && !loaded.finished && place.registry.roster_exists());
    let mut found = ids(&loaded.roster.subjects);
    found.sort_unstable();
    assert_eq!(found, ["a", "older"]);
    let subject = &loaded.roster.subjects[0];
    assert_eq!((subject.identity.namespace.as_str(), &subject.addresses), ("shop", &record("a").addresses));
    assert_eq!(subject.identity.namespace_labels.get("team").map(String::as_str), Some("x"));
    assert_eq!(asked.into_inner(), ["shop", "shop"]);
    // Records of the dead go; what cannot be read stays for whoever wants to look.
    let mut kept: Vec<_> = place.registry.records().unwrap().read.into_iter().map(|record| record.id).collect();
    kept.sort_unstable();
    assert_eq!(kept, ["a", "older"]);
    assert!(place.registry.dir.join("containers/garbage.json").exists());
    assert_eq!(place.registry.records().unwrap().damaged, ["garbage"]);
}

#[test]
fn a_neighbour_without_rules_of_its_own_leaves_those_there_are() {
    let place = place();
    place.registry.put(&Record { recorded_ms: boot_ms() - 9, ..record("explicit") }).unwrap();
    place.registry.put(&Record { explicit: false, labels: Labels::new(), ..record("later") }).unwrap();
    let roster = place.load().roster;
    assert_eq!(roster.subjects.len(), 1);
    assert_eq!(roster.subjects[0].table.as_ref().unwrap().as_str(), "plan of explicit");
    assert_eq!(roster.subjects[0].identity.labels, record("explicit").labels);
}

#[test]
fn a_roster_is_unfinished_until_it_is_finished() {
    let place = place();
    let mut roster = place.load().roster;
    roster.enter(at(1, living("a")));
    let lock = place.lock();
    let mut stored = Stored::default();
    drop(place.registry.begin(&lock, &roster, &mut stored).unwrap());
    drop(lock);
    let loaded = place.load();
    assert_eq!((loaded.finished, loaded.rebuilt, &loaded.roster), (false, false, &roster));
    let lock = place.lock();
    place.registry.begin(&lock, &roster, &mut stored).unwrap().finish().unwrap();
    drop(lock);
    let loaded = place.load();
    assert_eq!((loaded.finished, loaded.rebuilt, &loaded.roster), (true, false, &roster));
    // A shorter one leaves nothing of a longer one, behind it as over it.
    for mut stored in [stored, Stored::default()] {
        let lock = place.lock();
        place.registry.begin(&lock, &Roster::default(), &mut stored).unwrap().finish().unwrap();
        assert_eq!(place.registry.roster(&lock, |_| Labels::new()).unwrap().roster, Roster::default());
    }
}

#[test]
fn a_roster_that_cannot_be_used_is_made_anew() {
    let place = place();
    place.registry.put(&record("a")).unwrap();
    let lock = place.lock();
    let roster = place.registry.roster(&lock, |_| Labels::new()).unwrap().roster;
    place.registry.begin(&lock, &roster, &mut Stored::default()).unwrap().finish().unwrap();
    drop(lock);
    let good = fs::read(place.file()).unwrap();
    let mut foreign = good.clone();
    foreign[8] ^= 0xff;
    for bad in [&b""[..], b"garbage", &good[..good.len() / 2], &foreign] {
        fs::write(place.file(), bad).unwrap();
        let loaded = place.load();
        assert_eq!((loaded.rebuilt, loaded.finished, &loaded.roster), (true, false, &roster));
    }
    fs::remove_file(place.file()).unwrap();
    assert!(place.load().rebuilt);
}

#[test]
fn what_is_no_file_is_an_error_and_not_followed() {
    let place = place();
    drop(place.lock());
    std::os::unix::fs::symlink(Path::new("/dev/null"), place.file()).unwrap();
    assert!(place.registry.roster_exists());
    let lock = place.lock();
    assert_eq!(place.registry.begin(&lock, &Roster::default(), &mut Stored::default()).unwrap_err().exit_code(), 40);
    fs::remove_file(place.file()).unwrap();
    fs::create_dir(place.file()).unwrap();
    assert_eq!(place.registry.roster(&lock, |_| Labels::new()).unwrap_err().exit_code(), 40);
}

#[test]
fn a_plain_start_or_stop_hears_of_a_roster_that_comes_into_being() {
    let place = place();
    assert!(place.registry.put_alone(&record("before")).unwrap());
    assert!(place.registry.forget_alone("nobody").unwrap());
    // The builder has created the file and has not listed the records.
    fs::write(place.file(), "").unwrap();
    assert!(!place.registry.put_alone(&record("after")).unwrap());
    assert!(!place.registry.forget_alone("nobody").unwrap());
    assert_eq!(place.load().roster.subjects[0].containers.len(), 2);
}

#[test]
fn a_record_written_anew_outlives_the_reaping_of_the_old_one() {
    let place = place();
    place.registry.put(&record("again")).unwrap();
    place.registry.put(&Record { pid: Some(4_194_305), started: Some(1), ..record("dead") }).unwrap();
    let gone = ["again", "dead", "nobody"].map(dead);
    place.registry.forget_dead(&place.lock(), gone.iter().map(Container::held));
    assert!(place.registry.record("again").is_some());
    assert!(place.registry.record("dead").is_none());
}

#[test]
fn the_record_of_an_earlier_version_is_read() {
    let old = r#"{"id":"a","pid":7,"netns":[4,5],"table":null,"explicit":false,"namespace":"default","labels":{},"recorded_ms":1}"#;
    let record: Record = serde_json::from_str(old).unwrap();
    assert_eq!((record.started, record.addresses, record.watch), (None, Vec::new(), None));
}

#[test]
fn what_was_glanced_at_holds_until_it_is_written_anew() {
    let place = place();
    assert!(place.registry.glance().is_none(), "there is no roster");
    let lock = place.lock();
    let since = |glance: &Glance| place.registry.roster_since(&lock, Some(glance), |_| Labels::new()).unwrap();
    let stored = std::cell::RefCell::new(Stored::default());
    let write = |roster: &Roster| place.registry.begin(&lock, roster, &mut stored.borrow_mut()).unwrap();
    place.registry.roster(&lock, |_| Labels::new()).unwrap();
    assert!(place.registry.glance().is_none(), "it is empty");
    let mut roster = Roster::default();
    roster.enter(at(1, living("a")));
    let unfinished = write(&roster);
    let glance = place.registry.glance().unwrap();
    assert_eq!(*glance.roster(), roster);
    let same = since(&glance);
    assert!(same.glanced && !same.finished);
    // Only that its sets were done is another.
    unfinished.finish().unwrap();
    let same = since(&glance);
    assert!(same.glanced && same.finished);
    assert!(Rc::ptr_eq(&same.roster.subjects[0], &glance.roster().subjects[0]), "it was not read");
    // Written again it counts as new, were it the same to a byte.
    write(&roster).finish().unwrap();
    let again = since(&glance);
    assert!(!again.glanced && again.roster == roster);
    // Somebody else of the same length.
    let glance = place.registry.glance().unwrap();
    roster.remove("a");
    roster.enter(at(2, living("b")));
    write(&roster).finish().unwrap();
    let another = since(&glance);
    assert!(!another.glanced && another.roster == roster && *glance.roster() != roster);
    // What was cut off behind a good header is not taken for the whole.
    let glance = place.registry.glance().unwrap();
    let file = OpenOptions::new().write(true).open(place.file()).unwrap();
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    let rebuilt = since(&glance);
    assert!(rebuilt.rebuilt && !rebuilt.glanced);
    assert!(place.registry.glance().is_none());
}
