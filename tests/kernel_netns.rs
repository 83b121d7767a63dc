//! Joining and capabilities, judged by /proc and the kernel.
//!
//! Every test works on a thread of its own, in namespaces that end with it or with a child that it ends by pid.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use caps::Capability;
use netlatch::error::{Cause, Failure};
use netlatch::kernel::capability;
use netlatch::kernel::link::Links;
use netlatch::kernel::netns::{self, Inside, Own, Target};
use netlatch::kernel::process::{DEADLINE, Deadline};

/// Runs `test` on a thread of its own: setns and capset bind a thread, and libtest may give a test the main one.
fn on_a_thread<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    match thread::spawn(test).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn deadline() -> Deadline {
    Deadline::after(DEADLINE)
}

/// A process that sleeps in namespaces of its own. It ends with this value.
struct Sleeper(Child);

impl Sleeper {
    /// `namespaces` are options of unshare(1). Returns once the namespaces are there.
    fn new(namespaces: &[&str]) -> Sleeper {
        let mut command = Command::new("unshare");
        command.args(namespaces).args(["--", "sleep", "60"]);
        Sleeper::spawn(command)
    }

    fn spawn(mut command: Command) -> Sleeper {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0).spawn().expect("unshare");
        let sleeper = Sleeper(child);
        wait_until("the child sleeps", || {
            fs::read_to_string(format!("/proc/{}/comm", sleeper.pid())).is_ok_and(|comm| comm == "sleep\n")
        });
        sleeper
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    fn namespace(&self) -> u64 {
        inode(&format!("/proc/{}/ns/net", self.pid()))
    }

    fn target(&self) -> Target {
        Target::Process(self.pid())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn inode(path: &str) -> u64 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{path}: {error}")).ino()
}

fn here() -> u64 {
    inode("/proc/thread-self/ns/net")
}

fn enter(target: &Target) -> Result<Inside, Failure> {
    netns::enter(target, &Own::read().unwrap())
}

/// The error of joining `target`, having seen that the thread stayed where it was.
fn refused(target: Target) -> Failure {
    on_a_thread(move || {
        let before = here();
        let failure = enter(&target).expect_err("joined");
        assert_eq!(here(), before, "{failure}");
        failure
    })
}

fn status(field: &str) -> String {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(":\t")).expect("a field").to_owned()
}

fn mask(capabilities: &[Capability]) -> String {
    format!("{:016x}", capabilities.iter().map(Capability::bitmask).sum::<u64>())
}

// Joining.

#[test]
fn a_process_is_joined_by_its_pid() {
    on_a_thread(|| {
        let sleeper = Sleeper::new(&["-n"]);
        let inside = enter(&sleeper.target()).unwrap();
        assert_eq!(here(), sleeper.namespace());
        assert_eq!(inside.id().ino, sleeper.namespace());
        assert_eq!(inside.target(), format!("the network namespace of process {}", sleeper.pid()));
    });
}

#[test]
fn a_process_in_a_user_namespace_of_its_own_is_joined() {
    on_a_thread(|| {
        let sleeper = Sleeper::new(&["-U", "-r", "-n"]);
        enter(&sleeper.target()).unwrap();
        assert_eq!(here(), sleeper.namespace());
    });
}

#[test]
fn a_namespace_is_joined_by_its_path() {
    on_a_thread(|| {
        let sleeper = Sleeper::new(&["-n"]);
        let path = format!("/proc/{}/ns/net", sleeper.pid());
        let inside = enter(&Target::Path(path.clone().into())).unwrap();
        assert_eq!(here(), sleeper.namespace());
        assert_eq!(inside.target(), format!("the network namespace {path}"));
    });
}

#[test]
fn pid_0_and_pid_1_and_negative_pids_are_refused_each_with_its_own_code() {
    for (pid, code) in [(0, 21), (1, 22), (-1, 12), (i32::MIN, 12)] {
        assert_eq!(refused(Target::Process(pid)).exit_code(), code, "pid {pid}");
    }
}

#[test]
fn a_dead_process_is_gone() {
    let sleeper = Sleeper::new(&["-n"]);
    let pid = sleeper.pid();
    drop(sleeper);
    assert_eq!(refused(Target::Process(pid)).cause, Cause::ProcessGone(pid));
}

#[test]
fn a_zombie_is_gone() {
    let mut sleeper = Sleeper::new(&["-n"]);
    let pid = sleeper.pid();
    sleeper.0.kill().unwrap();
    wait_until("the child is a zombie", || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") Z "));
    assert_eq!(refused(Target::Process(pid)).cause, Cause::ProcessGone(pid));
}

#[test]
fn a_thread_is_not_a_process() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let other = thread::spawn(move || {
        sender.send(nix::unistd::gettid().as_raw()).unwrap();
        let _ = stopped.recv();
    });
    let failure = refused(Target::Process(receiver.recv().unwrap()));
    assert_eq!(failure.exit_code(), 12);
    assert!(failure.to_string().contains("is a thread and not a process"), "{failure}");
    drop(stop);
    other.join().unwrap();
}

#[test]
fn our_own_namespace_is_refused_by_pid_and_by_path() {
    // A process that shares the namespace of this thread, which is not the one of pid 1.
    on_a_thread(|| {
        drop(netns::unshared().unwrap());
        let neighbour = Sleeper::new(&["-m"]);
        assert_eq!(neighbour.namespace(), here());
        for target in [neighbour.target(), Target::Path(format!("/proc/{}/ns/net", neighbour.pid()).into())] {
            let failure = enter(&target).expect_err("joined");
            assert_eq!(failure.exit_code(), 24);
            assert!(
                failure.to_string().contains("the namespace this hook itself runs in; it was not joined"),
                "{failure}"
            );
        }
    });
}

/// Set in the copy of this program that runs in a pid namespace of its own.
const IN_PID_NAMESPACE: &str = "NETLATCH_TEST_IN_PID_NAMESPACE";

#[test]
fn the_namespace_of_pid_1_is_refused_from_within_another() {
    const SELF: &str = "the_namespace_of_pid_1_is_refused_from_within_another";
    // In a container the machine's pid 1 may not be looked at, so this test brings its own and runs again below it.
    if std::env::var_os(IN_PID_NAMESPACE).is_none() {
        let script = r#""$0" --exact "$1"; exit $?"#;
        let output = Command::new("unshare")
            .args(["--pid", "--fork", "--mount-proc", "--", "sh", "-c", script])
            .arg(std::env::current_exe().unwrap())
            .arg(SELF)
            .env(IN_PID_NAMESPACE, "1")
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
    } else {
        on_a_thread(|| {
            let host = Sleeper::new(&["-m"]);
            assert_eq!(host.namespace(), inode("/proc/1/ns/net"));
            drop(netns::unshared().unwrap());
            let before = here();
            for target in [host.target(), Target::Path("/proc/1/ns/net".into())] {
                let failure = enter(&target).expect_err("joined");
                assert_eq!(failure.exit_code(), 24);
                assert!(
                    failure.to_string().contains("the namespace of pid 1, the host's; it was not joined"),
                    "{failure}"
                );
                assert_eq!(here(), before);
            }
        });
    }
}

#[test]
fn a_namespace_that_could_not_be_seen_ahead_is_refused_after_the_join() {
    on_a_thread(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS | nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let neighbour = Sleeper::new(&["-m"]);
        let hidden = format!("/proc/{}/ns", neighbour.pid());
        let own = Own::read().unwrap();
        for arguments in [&["--make-rprivate", "/"][..], &["-t", "tmpfs", "none", &hidden]] {
            assert!(Command::new("mount").args(arguments).status().unwrap().success());
        }
        let failure = netns::enter(&neighbour.target(), &own).expect_err("joined");
        assert_eq!(failure.exit_code(), 24);
        assert!(failure.to_string().contains("; it was joined, and nothing was changed there"), "{failure}");
    });
}

#[test]
fn what_is_no_network_namespace_is_refused_and_said_to_be_what_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
    let cases: [(&Path, &str); 7] = [
        (&file, "a regular file"),
        (Path::new("net"), "the path is not absolute"),
        (directory.path(), "a directory"),
        (&fifo, "a FIFO"),
        (Path::new("/dev/null"), "a device"),
        (Path::new("/proc/self/ns/mnt"), "a namespace of another kind"),
        (&directory.path().join("absent"), "it cannot be opened (ENOENT)"),
    ];
    for (path, found) in cases {
        let failure = refused(Target::Path(PathBuf::from(path)));
        assert_eq!(failure.exit_code(), 25);
        let expected = Cause::NotANamespace { path: path.display().to_string(), found: found.into() };
        assert_eq!(failure.cause, expected);
    }
}

#[test]
fn a_path_in_a_message_stays_on_its_line() {
    let line = refused(Target::Path("/run/netns/a\nb".into())).to_string();
    assert!(line.starts_with("cannot join the network namespace /run/netns/a\\nb: "), "{line}");
    assert!(!line.contains('\n'), "{line}");
}

#[test]
fn a_thread_holds_one_key_at_a_time() {
    on_a_thread(|| {
        let sleeper = Sleeper::new(&["-n"]);
        let key = netns::unshared().unwrap();
        assert_eq!(enter(&sleeper.target()).unwrap_err().exit_code(), 63);
        assert_eq!(netns::unshared().unwrap_err().exit_code(), 63);
        drop(key);
        enter(&sleeper.target()).unwrap();
    });
}

#[test]
fn a_fresh_namespace_is_not_the_one_before() {
    on_a_thread(|| {
        let before = here();
        let inside = netns::unshared().unwrap();
        assert_ne!(here(), before);
        assert_eq!(inside.id().ino, here());
    });
}

// Capabilities.

#[test]
fn each_phase_holds_what_it_names_and_nothing_else() {
    on_a_thread(|| {
        capability::require(&capability::REQUIRED, "test").unwrap();
        capability::keep_only(&capability::BEFORE_JOIN).unwrap();
        for set in ["CapEff", "CapPrm"] {
            assert_eq!(status(set), mask(&capability::BEFORE_JOIN), "{set}");
        }
        capability::keep_only(&capability::AFTER_JOIN).unwrap();
        for set in ["CapEff", "CapPrm"] {
            assert_eq!(status(set), mask(&capability::AFTER_JOIN), "{set}");
        }
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(status(set), mask(&[]), "{set}");
        }
    });
}

#[test]
fn inheritable_and_ambient_capabilities_go_too() {
    on_a_thread(|| {
        let kept = [Capability::CAP_NET_ADMIN, Capability::CAP_CHOWN].into_iter().collect();
        caps::set(None, caps::CapSet::Inheritable, &kept).unwrap();
        caps::set(None, caps::CapSet::Ambient, &kept).unwrap();
        assert_eq!(status("CapAmb"), mask(&[Capability::CAP_NET_ADMIN, Capability::CAP_CHOWN]));
        capability::keep_only(&[Capability::CAP_NET_ADMIN]).unwrap();
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(status(set), mask(&[]), "{set}");
        }
    });
}

#[test]
fn a_capability_that_is_not_held_is_not_gained_and_is_named() {
    on_a_thread(|| {
        capability::keep_only(&[Capability::CAP_CHOWN]).unwrap();
        capability::keep_only(&capability::BEFORE_JOIN).unwrap();
        assert_eq!(status("CapPrm"), mask(&[]));
        let failure = capability::require(&capability::REQUIRED, "set up the network").unwrap_err();
        assert_eq!(failure.cause, Cause::CapabilityMissing("CAP_SYS_ADMIN and CAP_NET_ADMIN".into()));
        assert_eq!(failure.exit_code(), 27);
    });
}

#[test]
fn joining_without_a_capability_names_it() {
    on_a_thread(|| {
        let sleeper = Sleeper::new(&["-n"]);
        capability::keep_only(&[Capability::CAP_SYS_ADMIN, Capability::CAP_NET_ADMIN]).unwrap();
        let failure = enter(&sleeper.target()).unwrap_err();
        assert_eq!(failure.exit_code(), 27);
        assert!(failure.to_string().contains("lacks CAP_SYS_PTRACE"), "{failure}");
    });
    on_a_thread(|| {
        let sleeper = Sleeper::new(&["-n"]);
        capability::keep_only(&[Capability::CAP_NET_ADMIN, Capability::CAP_SYS_PTRACE]).unwrap();
        let failure = enter(&sleeper.target()).unwrap_err();
        assert_eq!(failure.exit_code(), 27);
        assert!(failure.to_string().contains("lacks CAP_SYS_ADMIN"), "{failure}");
        assert_eq!(netns::unshared().unwrap_err().exit_code(), 27);
    });
}

#[test]
fn the_phases_suffice_for_any_user_namespace() {
    for namespaces in [&["-n"][..], &["-U", "-r", "-n"]] {
        on_a_thread(move || {
            let sleeper = Sleeper::new(namespaces);
            capability::keep_only(&capability::BEFORE_JOIN).unwrap();
            let inside = enter(&sleeper.target()).unwrap();
            capability::keep_only(&capability::AFTER_JOIN).unwrap();
            assert!(Links::open(&inside).unwrap().raise_loopback(&deadline()).unwrap().up);
            // A sysctl, too, in a namespace that another user namespace owns.
            fs::write("/proc/sys/net/ipv4/ip_default_ttl", "77").unwrap();
            assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl").unwrap(), "77\n");
        });
    }
}
