//! A run directory that cannot be used, and files in it that cannot be read: a start says so or does without, and no
//! container that runs loses a rule by it.

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use netlatch::kernel::netns::NamespaceId;
use netlatch::kernel::process::{DEADLINE, Deadline};
use netlatch::policy::model::Labels;
use netlatch::policy::watch::Identity;
use netlatch::registry::{Anchor, Arrival, Registry};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::Mode;
use nix::unistd::{Uid, chown, mkfifo};
use serde_json::Value;
use support::Namespace;
use support::cluster::in_parallel;
use support::container::{Container, Dialect};
use support::fault::{Change, Host, a_file, a_link, container, pod_of, refusal, rules, running, text};
use support::live::{FRONT_LABELS, SHOP, WEB_LABELS, WEB_TAKES_FRONT};

/// A host with a container that runs, another that is between createRuntime and poststart, and a third to start.
struct Scene {
    host: Host,
    web: (Container, Namespace),
    front: (Container, Namespace),
    policies: bool,
    /// Web's rules.
    before: Vec<Value>,
}

impl Scene {
    fn new(policies: bool) -> Scene {
        let host = if policies { Host::new("", &[SHOP, WEB_TAKES_FRONT]) } else { Host::new("", &[]) };
        let web = pod(&host, policies, "web", WEB_LABELS, 1);
        let front = pod(&host, policies, "front", FRONT_LABELS, 2);
        for (pod, _) in [&web, &front] {
            host.must("createRuntime", &pod.state(Dialect::Runc));
        }
        let before = rules(&web.1);
        Scene { host, web, front, policies, before }
    }

    /// Who starts next: another process each time, since a stop is one only once its process has ended.
    fn next(&self) -> (Container, Namespace) {
        pod(&self.host, self.policies, "next", "app=other", 3)
    }

    fn run_dir(&self) -> PathBuf {
        self.host.engine.run_dir()
    }

    fn record(&self, of: &Container) -> PathBuf {
        self.run_dir().join(format!("containers/{}.json", of.id))
    }

    /// Runs all stages in what became of the run directory. `mounts` come before each.
    fn stages(&self, case: &str, mounts: &str, wanted: Wanted) {
        let case = format!("{case}, policies: {}", self.policies);
        let (next, namespace) = self.next();
        let stage = |stage: &str, state: &Value, wanted: i32| {
            let began = Instant::now();
            let output = self.host.run_under(mounts, stage, state);
            assert!(began.elapsed() < DEADLINE + Duration::from_secs(2), "{case}: {stage}: {:?}", began.elapsed());
            if wanted == 0 {
                assert!(output.status.success() && text(&output).is_empty(), "{case}: {stage}: {}", text(&output));
            } else {
                let (code, line) = refusal(&case, &output);
                assert_eq!(code, wanted, "{case}: {stage}: {line}");
            }
            assert_eq!(rules(&self.web.1), self.before, "{case}: {stage}: web has other rules now");
        };
        stage("poststart", &running(&self.front.0), wanted.poststart);
        stage("createRuntime", &next.state(Dialect::Runc), wanted.start);
        if !self.policies {
            assert!(!rules(&namespace).is_empty(), "{case}: rules come before the record");
        }
        // An engine could do nothing about it.
        stage("poststop", &next.ended(Dialect::Runc), 0);
    }

    /// With a fresh directory everything goes on.
    fn goes_on(&self, case: &str) {
        let dir = self.run_dir();
        let _ = fs::remove_dir_all(&dir).or_else(|_| fs::remove_file(&dir));
        let next = self.next();
        for (pod, _) in [&self.web, &self.front, &next] {
            self.host.must("createRuntime", &pod.state(Dialect::Runc));
            self.host.must("poststart", &running(pod));
        }
        assert_eq!(rules(&self.web.1), self.before, "{case}");
        for (pod, _) in [&next, &self.front, &self.web] {
            self.host.must("poststop", &pod.ended(Dialect::Runc));
        }
        self.host.is_untouched();
    }
}

/// A container that has the addresses with this number, which follows policies or asks for rules of its own.
fn pod(host: &Host, policies: bool, name: &str, labels: &str, number: usize) -> (Container, Namespace) {
    let namespace = host.pod(number);
    let pod = if policies {
        pod_of(name, labels, &namespace)
    } else {
        container(name, &namespace, &[("egress", "10.0.0.0/8")])
    };
    (pod, namespace)
}

/// The exit codes of a start, and of the poststart of somebody who started before.
#[derive(Clone, Copy)]
struct Wanted {
    start: i32,
    poststart: i32,
}

const fn both(code: i32) -> Wanted {
    Wanted { start: code, poststart: code }
}

/// Somebody who was not recorded was not among the peers of those who run.
fn unknown(policies: bool) -> i32 {
    if policies { 34 } else { 0 }
}

#[test]
fn a_run_dir_that_is_missing_is_made() {
    for policies in [false, true] {
        let scene = Scene::new(policies);
        fs::remove_dir_all(scene.run_dir()).unwrap();
        scene.stages("missing", "", Wanted { start: 0, poststart: unknown(policies) });
        assert_eq!(fs::metadata(scene.run_dir()).unwrap().permissions().mode() & 0o7777, 0o700);
        scene.goes_on("missing");
    }
}

#[test]
fn a_run_dir_that_cannot_be_written_is_named() {
    for policies in [false, true] {
        let scene = Scene::new(policies);
        let dir = scene.run_dir();
        let dir = dir.display();
        // Without policies poststart writes nothing.
        let poststart = if policies { 40 } else { 0 };
        scene.stages(
            "read-only",
            &format!("mount --bind {dir} {dir} && mount -o remount,ro,bind {dir}"),
            Wanted { start: 40, poststart },
        );
        // What is written in place is no longer than it was: under policies poststart changes nothing.
        scene.stages(
            "full",
            &format!(
                "cp -a {dir} {dir}.copy && mount -t tmpfs -o size=64k,mode=700 none {dir} && cp -a {dir}.copy/. {dir} && \
                 rm -r {dir}.copy && {{ cat /dev/zero >{dir}/filler 2>/dev/null; true; }}"
            ),
            Wanted { start: 40, poststart: 0 },
        );
        scene.goes_on("read-only or full");
    }
}

#[test]
fn a_run_dir_that_is_none_of_ours_is_refused_and_left_alone() {
    let changes: [(&str, &Change); 6] = [
        ("a file", &a_file),
        ("a link", &a_link),
        ("a link to nowhere", &|dir| symlink("/nowhere/at/all", dir).unwrap()),
        ("a pipe", &|dir| mkfifo(dir, Mode::S_IRWXU).unwrap()),
        ("another user's", &|dir| {
            fs::create_dir(dir).unwrap();
            chown(dir, Some(Uid::from_raw(65533)), None).unwrap();
        }),
        ("everybody's", &|dir| {
            fs::create_dir(dir).unwrap();
            fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).unwrap();
        }),
    ];
    for policies in [false, true] {
        let scene = Scene::new(policies);
        for (case, change) in &changes {
            let dir = scene.run_dir();
            let _ = fs::remove_dir_all(&dir).or_else(|_| fs::remove_file(&dir));
            change(&dir);
            // Without policies nobody asks the directory at poststart.
            scene.stages(case, "", Wanted { start: 40, poststart: if policies { 40 } else { 0 } });
            let made = |path: &Path| fs::read_dir(path).into_iter().flatten().count();
            let elsewhere = made(&dir.with_extension("elsewhere"));
            let inside = if *case == "a link" { 0 } else { made(&dir) };
            assert_eq!((elsewhere, inside), (0, 0), "{case}: something was made in there");
        }
        scene.goes_on("not ours");
    }
}

/// What may be in a file's place.
fn broken(whole: &[u8]) -> Vec<(&'static str, Box<Change>)> {
    let whole = whole.to_vec();
    let half = whole[..whole.len() / 2].to_vec();
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 0x20;
    let longer = [whole.clone(), b"}}".to_vec()].concat();
    let written = |bytes: Vec<u8>| -> Box<dyn Fn(&Path)> { Box::new(move |path| fs::write(path, &bytes).unwrap()) };
    vec![
        ("empty", written(Vec::new())),
        ("garbage", written(vec![0xa5; 5000])),
        ("cut off", written(half)),
        ("changed", written(changed)),
        ("with something behind it", written(longer)),
        ("huge", Box::new(|path| fs::File::create(path).unwrap().set_len(1 << 40).unwrap())),
        ("a directory", Box::new(|path| fs::create_dir(path).unwrap())),
        ("a directory with something in it", Box::new(|path| fs::create_dir_all(path.join("x")).unwrap())),
        ("a link to itself", Box::new(|path| symlink(path, path).unwrap())),
        ("a link to what never ends", Box::new(|path| symlink("/dev/zero", path).unwrap())),
        ("a pipe", Box::new(|path| mkfifo(path, Mode::S_IRWXU).unwrap())),
    ]
}

fn clear(path: &Path) {
    let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
}

/// Puts something else in the place of `path`, and back what was there.
fn replaced(path: &Path, change: &dyn Fn(&Path), work: impl FnOnce()) {
    let whole = fs::read(path).ok();
    clear(path);
    change(path);
    work();
    clear(path);
    if let Some(whole) = whole {
        fs::write(path, whole).unwrap();
    }
}

#[test]
fn a_roster_that_cannot_be_read_is_made_anew_or_said_to_be_in_the_way() {
    let scene = Scene::new(true);
    let roster = scene.run_dir().join("roster");
    let whole = fs::read(&roster).unwrap();
    let mut future = whole.clone();
    future[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut cases = broken(&whole);
    cases.push(("a later version's", Box::new(move |path| fs::write(path, &future).unwrap())));
    for (case, change) in cases {
        replaced(&roster, &*change, || {
            let code =
                if case.starts_with("a directory") || case.starts_with("a link") || case == "a pipe" { 40 } else { 0 };
            scene.stages(&format!("a roster that is {case}"), "", both(code));
        });
    }
    scene.goes_on("rosters");
}

#[test]
fn a_record_that_cannot_be_read_holds_up_nobody_else() {
    for policies in [false, true] {
        let scene = Scene::new(policies);
        let record = scene.record(&scene.web.0);
        for (case, change) in broken(&fs::read(&record).unwrap()) {
            replaced(&record, &*change, || {
                scene.stages(&format!("web's record is {case}"), "", both(0));
            });
        }
        scene.goes_on("records of others");
    }
}

#[test]
fn a_record_of_its_own_that_cannot_be_read_is_replaced_or_said_to_be_in_the_way() {
    for policies in [false, true] {
        let scene = Scene::new(policies);
        let whole = fs::read(scene.record(&scene.front.0)).unwrap();
        for (case, change) in broken(&whole) {
            // What somebody changed within may still be a record.
            let start = if case.starts_with("a directory") { 40 } else { 0 };
            let (next, _namespace) = scene.next();
            replaced(&scene.record(&next), &*change, || {
                let case = format!("its own record is {case}");
                let output = scene.host.run("createRuntime", &next.state(Dialect::Runc), "");
                if start == 0 {
                    assert!(output.status.success(), "{case}: {}", text(&output));
                } else {
                    let (code, line) = scene.host.refused(&case, &next.id, &output);
                    assert_eq!(code, start, "{case}: {line}");
                }
                scene.host.must("poststop", &next.ended(Dialect::Runc));
            });
            replaced(&scene.record(&scene.front.0), &*change, || {
                let case = format!("the record of who is at poststart is {case}");
                let output = scene.host.run("poststart", &running(&scene.front.0), "");
                if !output.status.success() {
                    let (code, line) = scene.host.refused(&case, &scene.front.0.id, &output);
                    assert_eq!(code, 34, "{case}: {line}");
                    assert!(policies, "{case}: {line}");
                }
            });
            assert_eq!(rules(&scene.web.1), scene.before, "{case}");
        }
        scene.goes_on("records of its own");
    }
}

#[test]
fn a_roster_and_records_that_cannot_be_read_are_passed_over_together() {
    let scene = Scene::new(true);
    let (roster, record) = (scene.run_dir().join("roster"), scene.record(&scene.web.0));
    let bytes = (fs::read(&roster).unwrap(), fs::read(&record).unwrap());
    for n in 0..broken(&bytes.1).len() {
        let (case, change) = &broken(&bytes.1)[n];
        fs::write(&roster, "").unwrap();
        replaced(&record, change, || {
            // Web is unknown then. Its own rules stand, and who is in its sets stays.
            scene.stages(&format!("no roster, and web's record is {case}"), "", both(0));
        });
        fs::write(&roster, &bytes.0).unwrap();
    }
    scene.goes_on("rosters and records");
}

#[test]
fn a_file_where_a_folder_belongs_is_named() {
    for policies in [false, true] {
        let scene = Scene::new(policies);
        for folder in ["containers", "errors"] {
            let path = scene.run_dir().join(folder);
            let kept = scene.run_dir().join("kept");
            let had = fs::rename(&path, &kept).is_ok();
            fs::write(&path, "").unwrap();
            let wanted = match (folder, policies) {
                ("errors", _) => both(0),
                (_, false) => Wanted { start: 40, poststart: 0 },
                // Nobody waits for a folder that is there under another kind: the lock comes first.
                (_, true) => Wanted { start: 40, poststart: 40 },
            };
            scene.stages(&format!("{folder} is a file"), "", wanted);
            fs::remove_file(&path).unwrap();
            if had {
                fs::rename(&kept, &path).unwrap();
            }
        }
        scene.goes_on("folders");
    }
}

#[test]
fn a_lock_that_is_no_file_is_named() {
    let scene = Scene::new(true);
    let lock = scene.run_dir().join("lock");
    let changes: [(&str, &Change); 3] = [
        ("a directory", &|path| fs::create_dir(path).unwrap()),
        ("a link", &|path| symlink("/dev/null", path).unwrap()),
        ("a pipe", &|path| mkfifo(path, Mode::S_IRWXU).unwrap()),
    ];
    for (case, change) in changes {
        replaced(&lock, change, || scene.stages(&format!("the lock is {case}"), "", both(40)));
    }
    scene.goes_on("locks");
}

#[test]
fn a_lock_that_somebody_keeps_is_waited_for_until_the_deadline() {
    let scene = Scene::new(true);
    let file = fs::OpenOptions::new().write(true).open(scene.run_dir().join("lock")).unwrap();
    let held = Flock::lock(file, FlockArg::LockExclusiveNonblock).unwrap();
    let ((next, _namespace), (gone, _)) = (scene.next(), scene.next());
    let stages = [
        ("createRuntime", next.state(Dialect::Runc), 41),
        ("poststart", running(&scene.front.0), 41),
        ("poststop", gone.ended(Dialect::Runc), 0),
    ];
    in_parallel(&stages, |(stage, state, wanted)| {
        let began = Instant::now();
        let output = scene.host.run(stage, state, "");
        let took = began.elapsed();
        assert!(took >= DEADLINE && took < DEADLINE + Duration::from_secs(2), "{stage}: {took:?}");
        if *wanted == 0 {
            assert!(output.status.success() && text(&output).is_empty(), "{stage}: {}", text(&output));
        } else {
            let (code, line) = scene.host.refused(stage, state["id"].as_str().unwrap(), &output);
            assert_eq!(code, *wanted, "{stage}: {line}");
        }
    });
    drop(held);
    assert_eq!(rules(&scene.web.1), scene.before);
    scene.goes_on("a lock that was kept");
}

#[test]
fn what_is_written_is_roots_alone() {
    let scene = Scene::new(true);
    for file in scene.host.files() {
        let meta = fs::metadata(scene.run_dir().join(&file)).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o600, 0), "{file}");
    }
}

#[test]
fn of_many_that_ended_without_a_word_every_stage_finds_some_and_nobody_is_forgotten() {
    const DEAD: u64 = 500;
    let scene = Scene::new(true);
    let registry = Registry::at(&scene.run_dir());
    let load = || {
        let lock = registry.lock(&Deadline::after(DEADLINE)).unwrap();
        (registry.roster(&lock, |_| Labels::new()).unwrap(), lock)
    };
    let (mut loaded, lock) = load();
    let living = loaded.roster.subjects.len();
    for n in 0..DEAD {
        loaded.roster.enter(Arrival {
            netns: NamespaceId { dev: 4, ino: 1_000_000_000 + n },
            cookie: Some(1 << 60 | n),
            id: format!("dead-{n}"),
            // No process has a number that is higher than PID_MAX_LIMIT.
            anchor: Anchor::Process { pid: 4_194_305, started: 1 },
            addresses: vec![std::net::Ipv4Addr::from_bits(0x0ac8_0000 + n as u32).into()],
            identity: Identity { namespace: "elsewhere".into(), ..Identity::default() },
            table: None,
            watch: None,
        });
    }
    registry.begin(&lock, &loaded.roster, &mut loaded.stored).unwrap().finish().unwrap();
    drop((loaded, lock));
    let mut next = scene.next();
    let mut left = vec![DEAD as usize];
    while *left.last().unwrap() > 0 {
        let (stage, state) = match left.len() % 2 {
            1 => {
                next = scene.next();
                ("createRuntime", next.0.state(Dialect::Runc))
            }
            _ => ("poststop", next.0.ended(Dialect::Runc)),
        };
        let output = scene.host.run(stage, &state, "");
        assert!(output.status.success(), "{}", text(&output));
        let (loaded, _lock) = load();
        assert!(loaded.finished && !loaded.rebuilt);
        left.push(loaded.roster.subjects.len() - living - left.len() % 2);
        let found = left[left.len() - 2] - left[left.len() - 1];
        // Those who live are looked at in turn, too.
        assert!((120..=128).contains(&found) || *left.last().unwrap() == 0, "{left:?}");
        assert!(left.len() < 8, "{left:?}");
    }
    assert_eq!(rules(&scene.web.1), scene.before);
    scene.goes_on("many dead");
}
