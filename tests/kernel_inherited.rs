//! What a runtime, or whoever starts it, leaves to the hook: descriptors, limits, standard streams, a working directory.
//! Whatever it is, a run ends by itself, with one exit code and at most one line.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use support::container::{Dialect, binary};
use support::engine::Engine;
use support::namespace::run_with_input;
use support::{Container, Namespace};

struct Scene {
    engine: Engine,
    container: Container,
    namespace: Namespace,
}

impl Scene {
    fn new() -> Scene {
        let namespace = Namespace::new();
        let container = Container::of(&namespace).with("egress", "10.0.0.0/8").with("ipv6", "disable");
        Scene { engine: Engine::new(), container, namespace }
    }

    fn state(&self) -> String {
        self.container.state(Dialect::Runc).to_string()
    }

    /// A shell that does `first`, becomes createRuntime and is killed where it does not end in time.
    fn shell(&self, first: &str) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--signal=KILL", "20", "sh", "-c", &format!("{first}\nexec \"$@\""), "sh"]);
        command.arg(binary()).arg("createRuntime");
        command.arg("--config").arg(self.engine.config()).arg("--run-dir").arg(self.engine.run_dir());
        command
    }

    fn run(&self, first: &str) -> Output {
        run_with_input(&mut self.shell(first), self.state().as_bytes())
    }

    /// Success means that the rules are there.
    fn judge(&self, what: &str, output: &Output) {
        let line = said(output);
        match output.status.code() {
            Some(0) => {
                assert_eq!(line, "", "{what}");
                assert!(!self.namespace.nft_json().is_empty(), "{what}: unprotected");
            }
            Some(10..=63) => {
                assert!(line.starts_with("netlatch: cannot ") && line.lines().count() == 1, "{what}: {line}");
            }
            code => panic!("{what}: {code:?}, signal {:?}: {line}", output.status.signal()),
        }
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn descriptors_that_leaked_are_closed_before_anything_is_read() {
    let scene = Scene::new();
    // A folder of the host, a device and a high number; the state comes only when they were looked at.
    let mut command = scene.shell("exec 7</etc 9</dev/zero 3<>/dev/null; ulimit -n 4096");
    let mut hook = command.env_clear().env("PATH", std::env::var_os("PATH").expect("a PATH"));
    hook = hook.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = hook.spawn().expect("it starts");
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let pid = loop {
        let pids = fs::read_to_string(&children).expect("children");
        let comm = |pid: &str| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let waits = |pid: &str| fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default().contains("poll");
        match pids.split_whitespace().find(|pid| comm(pid) == "netlatch\n" && waits(pid)) {
            Some(pid) => break pid.to_owned(),
            None => thread::sleep(Duration::from_millis(5)),
        }
    };
    let mut open: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("descriptors")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a number"))
        .collect();
    open.sort();
    child.stdin.take().expect("a pipe").write_all(scene.state().as_bytes()).expect("the state is written");
    scene.judge("leaked descriptors", &child.wait_with_output().expect("it ends"));
    assert_eq!(open, ["0", "1", "2"]);
}

#[test]
fn small_limits_end_in_a_protected_container_or_in_one_line() {
    let limits = [
        "-n 64",
        "-n 10",
        "-n 7",
        "-n 6",
        "-n 5",
        "-n 4",
        "-n 3",
        "-f 0",
        "-f 1",
        "-c 0",
        "-c unlimited",
        "-s 1024",
        "-s 16384",
        "-l 0",
        "-i 0",
        "-q 0",
        "-t 5",
        "-d 0",
        "-d 100",
        "-d 500",
        "-v 1000000",
        "-v 16000",
        "-v 12000",
        "-v 10000",
        "-v 9000",
        "-v 8500",
        "-v 8000",
        "-v 7500",
        "-v 7000",
    ];
    for limit in limits {
        let scene = Scene::new();
        // What a shell lacks is no case, nor what the program ends by before its first line, in the C library's hands.
        let first = format!("ulimit {limit} 2>/dev/null && exec \"$0\" --version");
        let starts = Command::new("sh").args(["-c", &first]).arg(binary()).output().expect("sh");
        if !starts.status.success() {
            continue;
        }
        let output = scene.run(&format!("ulimit {limit}"));
        scene.judge(limit, &output);
        assert!(scene.run("true").status.success(), "the next run repairs");
    }
}

#[test]
fn memory_that_runs_out_at_any_moment_ends_in_one_line() {
    let limited = |scene: &Scene, kib: usize, state: &str| {
        let mut command = Command::new("prlimit");
        command.arg(format!("--as={}", kib << 10)).arg(binary()).arg("createRuntime");
        command.arg("--config").arg(scene.engine.config()).arg("--run-dir").arg(scene.engine.run_dir());
        run_with_input(&mut command, state.as_bytes())
    };
    // What the program itself takes: with less it is not even started, or dies in the C library's hands.
    let enough = (4 << 10..1 << 20).step_by(256).find(|kib| {
        let scene = Scene::new();
        limited(&scene, *kib, &scene.state()).status.success()
    });
    let enough = enough.expect("a gigabyte is enough");
    let mut ended = 0;
    for more in (0..16 << 10).step_by(256) {
        let scene = Scene::new();
        let mut state = scene.container.state(Dialect::Runc);
        state["annotations"]["much"] = "x".repeat(2 << 20).into();
        let output = limited(&scene, enough + more, &state.to_string());
        scene.judge(&format!("{} KiB", enough + more), &output);
        if output.status.success() {
            break;
        }
        assert!(said(&output).contains("memory has run out (ENOMEM)"), "{}", said(&output));
        ended += 1;
    }
    assert!(ended > 3, "it ran out {ended} times");
}

#[test]
fn a_working_directory_that_is_gone_or_closed_to_us_is_no_trouble() {
    for first in
        ["mkdir d.$$ && cd d.$$ && rmdir ../d.$$", "cd /proc/self/task", "umask 0777", "umask 0", "trap '' TERM HUP"]
    {
        let scene = Scene::new();
        let output = scene.run(&format!("cd {} && {first}", scene.engine.path().display()));
        assert_eq!((output.status.code(), said(&output).as_str()), (Some(0), ""), "{first}");
        assert!(!scene.namespace.nft_json().is_empty());
    }
}

#[test]
fn standard_streams_that_are_closed_or_odd_end_in_one_code() {
    for (first, code) in [
        ("exec <&-", 12),
        ("exec </etc", 42),
        ("exec </dev/null", 12),
        ("exec </dev/zero", 41),
        ("exec >&-", 0),
        ("exec 2>&-", 0),
        ("exec >&- 2>&-", 0),
        ("exec >/dev/full 2>/dev/full", 0),
        ("exec <&- >&- 2>&-", 12),
    ] {
        let scene = Scene::new();
        let output = scene.run(first);
        assert_eq!(output.status.code(), Some(code), "{first}: {}", said(&output));
        assert_eq!(!scene.namespace.nft_json().is_empty(), code == 0, "{first}");
    }
}

#[test]
fn a_state_that_comes_slowly_is_read_and_one_that_never_ends_runs_into_the_deadline() {
    for (ends, code) in [(true, 0), (false, 41)] {
        let scene = Scene::new();
        let mut child = scene
            .shell("true")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        for piece in scene.state().as_bytes().chunks(40) {
            stdin.write_all(piece).expect("it reads");
            thread::sleep(Duration::from_millis(10));
        }
        let kept = (!ends).then_some(stdin);
        scene.judge("slow", &{
            let output = child.wait_with_output().expect("it ends");
            assert_eq!(output.status.code(), Some(code), "{}", said(&output));
            output
        });
        drop(kept);
    }
}

#[test]
fn a_stderr_that_nobody_reads_holds_up_nothing() {
    let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
    // Full: a pipe holds 64 KiB.
    writer.write_all(&[b'x'; 65536]).expect("it is filled");
    let scene = Scene::new();
    let mut command = scene.shell("true");
    let child = command.stdin(Stdio::null()).stdout(writer.try_clone().expect("a copy")).stderr(writer).spawn();
    let status = child.expect("it starts").wait().expect("it ends");
    drop(command);
    assert_eq!(status.code(), Some(12), "no state: the code says so although the line could not");
    let mut said = Vec::new();
    reader.read_to_end(&mut said).expect("what was there before");
    assert_eq!(said.len(), 65536);
}

/// What a decoy is made of, for a shell in which `$D` is a folder of the test's and `$K` the sysctl; and where it is then.
const DECOYS: [(&str, &str, &str); 6] = [
    ("a file", "echo 0 >$D/decoy; mount --bind $D/decoy $K", "$K"),
    ("a tmpfs", "mount -t tmpfs none /proc/sys/net/ipv6; mkdir -p /proc/sys/net/ipv6/conf/default; echo 0 >$K", "$K"),
    (
        "another procfs's file",
        "mkdir $D/p; mount -t proc p $D/p; mount --bind $D/p/sys/net/ipv6/conf/all/disable_ipv6 $K",
        "$D/p/sys/net/ipv6/conf/all/disable_ipv6",
    ),
    (
        "another procfs's folder",
        "mkdir $D/p; mount -t proc p $D/p; mount --bind $D/p/sys/net /proc/sys/net",
        "$D/p/sys/net/ipv6/conf/default/disable_ipv6",
    ),
    ("a part of itself", "mount --bind /proc/sys/net/ipv6/conf/all /proc/sys/net/ipv6/conf/default", "$K"),
    (
        "a tmpfs with a tree like it",
        "mount -t tmpfs none /proc; mkdir -p /proc/sys/net/ipv6/conf/default; echo 0 >$K",
        "$K",
    ),
];

#[test]
fn as_the_hosts_root_a_decoy_mounted_over_a_sysctl_is_never_written() {
    const KEY: &str = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
    for (name, lay, lies) in DECOYS {
        // Below /proc/sys/net each network namespace has files of its own, and a mount covers those of one.
        for over_the_containers in [true, false] {
            let replaces_proc = lay.starts_with("mount -t tmpfs none /proc;");
            if replaces_proc && over_the_containers {
                continue;
            }
            let (scene, host) = (Scene::new(), Namespace::new());
            let target = if over_the_containers { scene.namespace.path() } else { host.path() };
            // The mount namespace ends with the shell, and with it the mounts.
            let enter = if replaces_proc { String::new() } else { format!("nsenter --net={target}") };
            let script = format!(
                "mount --make-rprivate /\n{enter} sh -c '{lay}'\n\"$@\"\ncode=$?\n{enter} sh -c \"cat {lies}\"\nexit $code"
            );
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-c", &script, "sh"]).arg(binary()).arg("createRuntime");
            command.arg("--config").arg(scene.engine.config()).arg("--run-dir").arg(scene.engine.run_dir());
            command.env("D", scene.engine.path()).env("K", KEY);
            let output = host.within(|| run_with_input(&mut command, scene.state().as_bytes()));
            let (case, line) = (format!("{name}, over the container's: {over_the_containers}"), said(&output));
            assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n", "{case}: the decoy was written");
            let value = scene.namespace.sysctl("net/ipv6/conf/default/disable_ipv6");
            match output.status.code() {
                Some(30) => {
                    assert!(line.starts_with("netlatch: cannot ") && line.lines().count() == 1, "{case}: {line}");
                    assert_eq!(value, "0", "{case}");
                }
                // It covers files that are not the container's.
                Some(0) if !over_the_containers && !replaces_proc => {
                    assert_eq!((line.as_str(), value.as_str()), ("", "1"))
                }
                code => panic!("{case}: {code:?}: {line}"),
            }
        }
    }
}
