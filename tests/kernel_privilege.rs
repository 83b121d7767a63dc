//! What the process holds at each step, what it opens, and that nothing it inherits changes either.
//!
//! The judges are strace, which sees every call, and /proc/PID/status of a process that strace has stopped.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use support::container::{Dialect, binary};
use support::engine::Engine;
use support::namespace::run_with_input;
use support::{Container, Namespace};

/// A container among a peer, both governed by a policy, so that every step there is takes place.
struct Scene {
    engine: Engine,
    container: Container,
    namespace: Namespace,
    /// Who runs already, with its namespace.
    other: (Container, Namespace),
}

const POLICY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: web}}}]
";

impl Scene {
    fn new() -> Scene {
        let engine = Engine::with("egress: 10.0.0.0/8 @host\nipv6: disable\n");
        engine.write("web.yaml", POLICY);
        let (namespace, peer) = (Namespace::new(), Namespace::new());
        for (namespace, address) in [(&namespace, "10.1.0.1"), (&peer, "10.1.0.2")] {
            namespace.ip_batch(&format!("link add e0 type veth peer name e1\naddr add {address}/16 dev e0\n"));
        }
        let of = |namespace| Container::of(namespace).with("namespace", "shop").with("labels", "app=web");
        let (container, other) = (of(&namespace), of(&peer));
        let output =
            run_with_input(&mut engine.command("createRuntime"), other.state(Dialect::Runc).to_string().as_bytes());
        assert!(output.status.success(), "{}", said(&output));
        Scene { engine, container, namespace, other: (other, peer) }
    }

    fn state(&self, stage: &str) -> String {
        match stage {
            "poststop" => self.container.stopped(Dialect::Runc),
            _ => self.container.state(Dialect::Runc),
        }
        .to_string()
    }

    /// `netlatch STAGE` below strace with these arguments, its trace in a file.
    fn strace(&self, stage: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-s", "4096"]).args(arguments).arg("-o").arg(self.trace());
        command.arg(binary()).arg(stage);
        command.arg("--config").arg(self.engine.config()).arg("--run-dir").arg(self.engine.run_dir());
        command.env_clear().env("PATH", std::env::var_os("PATH").expect("a PATH"));
        command
    }

    fn trace(&self) -> PathBuf {
        self.engine.path().join("trace")
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A process below strace that stops behind its `number`th call of that name, until it is let go.
struct Stopped {
    strace: Child,
    pid: i32,
}

impl Stopped {
    fn at(scene: &Scene, stage: &str, call: &str, number: usize) -> Stopped {
        let inject = format!("--inject={call}:signal=STOP:when={number}");
        let mut command = scene.strace(stage, &[&inject]);
        let mut strace =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("strace starts");
        strace.stdin.take().expect("a pipe").write_all(scene.state(stage).as_bytes()).expect("the state is written");
        let children = format!("/proc/{0}/task/{0}/children", strace.id());
        loop {
            assert!(strace.try_wait().expect("strace").is_none(), "{stage} has no {call} number {number}");
            // strace stops its first child itself before it is the program.
            for pid in fs::read_to_string(&children).unwrap_or_default().split_whitespace() {
                let pid = pid.parse().expect("a pid");
                let trace = fs::read_to_string(scene.trace()).unwrap_or_default();
                if trace.contains("--- stopped by SIGSTOP ---") {
                    return Stopped { strace, pid };
                }
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn status(&self, field: &str) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("a status");
        status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(":\t")).expect("a field").to_owned()
    }

    fn go_on(mut self) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid), nix::sys::signal::Signal::SIGCONT)
            .expect("SIGCONT");
        assert!(self.strace.wait().expect("strace ends").success());
    }
}

fn set(names: &[caps::Capability]) -> String {
    let bits = names.iter().fold(0_u64, |bits, capability| bits | 1 << capability.index());
    format!("{bits:016x}")
}

#[test]
fn each_step_holds_what_it_needs_and_no_more() {
    use caps::Capability::{CAP_DAC_READ_SEARCH, CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_SYS_PTRACE};
    let before_join = [CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH];
    let visiting = [CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_SYS_PTRACE];
    // Where each step is seen: the call, and which of its name. Writing sysctls is `pwrite64`, and so is the roster.
    let steps: [(&str, &str, usize, &[caps::Capability]); 5] = [
        ("before the first byte of input", "poll", 1, &before_join),
        ("when the container's namespace is joined", "setns", 1, &before_join),
        ("when its rules and sysctls are written", "pwrite64", 1, &visiting),
        ("when its record is written", "write", 1, &visiting),
        ("when a peer is visited", "setns", 2, &visiting),
    ];
    for (step, call, number, held) in steps {
        let scene = Scene::new();
        let stopped = Stopped::at(&scene, "createRuntime", call, number);
        for (field, wanted) in
            [("CapEff", set(held)), ("CapPrm", set(held)), ("CapInh", set(&[])), ("CapAmb", set(&[]))]
        {
            assert_eq!(stopped.status(field), wanted, "{step}: {field}");
        }
        // The bounding set only says what exec could give, and exec can give nothing.
        assert_eq!(stopped.status("NoNewPrivs"), "1", "{step}");
        assert_eq!(stopped.status("Umask"), "0077", "{step}");
        assert_eq!(stopped.status("SigBlk"), "0000000000000000", "{step}");
        stopped.go_on();
    }
    // Without policies nobody is visited, and the rest goes right behind the join.
    let scene = Scene::new();
    scene.engine.replace(&[]);
    fs::remove_dir_all(scene.engine.run_dir()).expect("records are removed");
    for (call, number) in [("pwrite64", 1), ("write", 1)] {
        let stopped = Stopped::at(&scene, "createRuntime", call, number);
        for field in ["CapEff", "CapPrm"] {
            assert_eq!(stopped.status(field), set(&[CAP_NET_ADMIN]), "{call}: {field}");
        }
        stopped.go_on();
        fs::remove_file(scene.trace()).expect("the trace is removed");
    }
}

/// The stages and commands that run as root on a host.
const ALL: [&str; 5] = ["createRuntime", "prestart", "poststart", "reload", "poststop"];

/// Fills a folder with what must never be opened: links to everywhere, pipes that wait, devices.
fn trap(folder: &Path) {
    for name in ["etc", "proc", "sys", "dev", "run"] {
        fs::create_dir_all(folder.join(name)).expect("a directory");
    }
    symlink("/etc/shadow", folder.join("etc/passwd")).expect("a link");
    symlink("/", folder.join("host")).expect("a link");
    for pipe in ["pipe", "etc/hosts", "etc/resolv.conf", "proc/self", "run/netlatch", "config.json"] {
        mkfifo(&folder.join(pipe));
    }
    let device = nix::sys::stat::makedev(1, 3);
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
    nix::sys::stat::mknod(&folder.join("dev/null"), nix::sys::stat::SFlag::S_IFCHR, mode, device).expect("a device");
}

fn mkfifo(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o644)).expect("a pipe");
}

/// Every path that the calls of a trace name, without the numbers of processes.
fn paths(trace: &str) -> BTreeSet<String> {
    let calls = trace.lines().filter(|line| !line.contains("execve("));
    // The first, for a second is what the kernel answered (readlink).
    let quoted = calls.filter_map(|line| line.split('"').nth(1));
    let path = |text: &str| {
        let part = |part: &str| if part.parse::<u32>().is_ok() { "PID".to_owned() } else { part.to_owned() };
        text.split('/').map(part).collect::<Vec<_>>().join("/")
    };
    quoted.filter(|text| !text.is_empty()).map(path).collect()
}

#[test]
fn as_the_hosts_root_nothing_below_the_containers_root_is_opened_and_nothing_is_executed() {
    let scene = Scene::new();
    let bundle = scene.container.bundle();
    let rootfs = bundle.join("rootfs");
    trap(&rootfs);
    let outside = tempfile::tempdir().expect("a directory");
    trap(outside.path());
    scene.container.write_config(&json!({
        "ociVersion": "1.0.2",
        "process": {"capabilities": {}, "cwd": rootfs, "args": [rootfs.join("pipe")], "env": ["LD_PRELOAD=/rootfs/x.so", "PATH=/rootfs"],
                    "apparmorProfile": rootfs.join("pipe")},
        "root": {"path": outside.path()},
        "mounts": [{"destination": "/x", "source": outside.path().join("pipe"), "options": ["bind"]}],
        "annotations": {"lure": rootfs.join("pipe"), "io.kubernetes.cri-o.ResolvPath": rootfs.join("pipe")},
        "linux": {"namespaces": [{"type": "network"}, {"type": "pid", "path": rootfs.join("pipe")}],
                  "cgroupsPath": rootfs.join("pipe")},
        "hooks": {"createRuntime": [{"path": rootfs.join("pipe")}]},
    }));
    let allowed = [
        // The program finds itself: glibc, for a static binary's $ORIGIN.
        "/proc/self/exe",
        "/proc",
        "/proc/self/ns/net",
        "/proc/PID/ns/net",
        "/proc/PID/stat",
        "/",
    ];
    let others = scene.other.0.bundle().join("config.json");
    let below = [scene.engine.path().to_owned(), bundle.join("config.json"), others, scene.engine.run_dir()];
    let on_the_way = |path: &str| below.iter().any(|known| known.starts_with(path));
    for stage in ALL {
        let mut state: Value = serde_json::from_str(&scene.state(stage)).expect("JSON");
        state["root"] = json!(outside.path());
        state["annotations"]["lure"] = json!(rootfs.join("pipe"));
        let mut command = scene.strace(stage, &["-e", "trace=%file,%process"]);
        let output = run_with_input(&mut command, state.to_string().as_bytes());
        assert!(output.status.success(), "{stage}: {}", said(&output));
        let trace = fs::read_to_string(scene.trace()).expect("a trace");
        let executed = trace.lines().filter(|line| line.contains("execve")).count();
        assert_eq!(executed, 1, "{stage}: strace's own");
        assert!(!["clone", "fork("].iter().any(|call| trace.contains(call)), "{stage}: {trace}");
        for path in paths(&trace) {
            // What is relative is below the verified /proc/sys: "sys", "net/...".
            let known = !path.starts_with('/')
                || allowed.contains(&path.as_str())
                || on_the_way(&path)
                || path.starts_with(&*scene.engine.path().to_string_lossy());
            assert!(known, "{stage} names {path}");
        }
        assert!(!trace.contains("/environ") && !trace.contains("rootfs"), "{stage}: {trace}");
    }
}

/// Lays something in the place of a bundle and names the bundle.
type Lure = fn(&Path) -> PathBuf;

fn good(at: &Path) -> PathBuf {
    fs::write(at.join("config.json"), "{}").expect("a file");
    at.to_owned()
}

fn mode(path: PathBuf, mode: u32) -> PathBuf {
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
    path
}

fn chown(path: &Path, uid: u32) {
    nix::unistd::chown(path, Some(uid.into()), None).expect("another owner");
}

const LURES: [(&str, &str, Lure); 16] = [
    ("a link", "symbolic link", |at| {
        fs::write(at.join("real"), "{}").expect("a file");
        symlink("real", at.join("config.json")).expect("a link");
        at.to_owned()
    }),
    ("a link to a pipe", "symbolic link", |at| {
        mkfifo(&at.join("pipe"));
        symlink("pipe", at.join("config.json")).expect("a link");
        at.to_owned()
    }),
    ("a pipe", "not a regular file", |at| {
        mkfifo(&at.join("config.json"));
        at.to_owned()
    }),
    ("a folder", "not a regular file", |at| {
        fs::create_dir(at.join("config.json")).expect("a directory");
        at.to_owned()
    }),
    ("a device", "not a regular file", |at| {
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o644);
        let zero = nix::sys::stat::makedev(1, 5);
        nix::sys::stat::mknod(&at.join("config.json"), nix::sys::stat::SFlag::S_IFCHR, mode, zero).expect("a device");
        at.to_owned()
    }),
    ("another user's", "belongs to user 1000", |at| {
        chown(&good(at).join("config.json"), 1000);
        at.to_owned()
    }),
    ("its group may write", "mode 0664", |at| {
        mode(good(at).join("config.json"), 0o664);
        at.to_owned()
    }),
    ("all may write", "mode 0646", |at| {
        mode(good(at).join("config.json"), 0o646);
        at.to_owned()
    }),
    ("a bundle that all may write", "mode 0777", |at| mode(good(at), 0o777)),
    ("a bundle of another user", "user 1000 may change", |at| {
        chown(&good(at), 1000);
        at.to_owned()
    }),
    ("an empty bundle of another user", "user 1000 may change", |at| {
        chown(at, 1000);
        at.to_owned()
    }),
    ("a bundle in a folder of another user", "user 1000 may change", |at| {
        fs::create_dir(at.join("b")).expect("a directory");
        chown(at, 1000);
        good(&at.join("b"))
    }),
    ("a bundle behind the link of another user", "user 1000 may change", |at| {
        fs::create_dir_all(at.join("shared/real")).expect("a directory");
        good(&at.join("shared/real"));
        symlink("real", at.join("shared/link")).expect("a link");
        nix::unistd::fchownat(
            nix::fcntl::AT_FDCWD,
            &at.join("shared/link"),
            Some(1000.into()),
            None,
            nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW,
        )
        .expect("another owner");
        mode(at.join("shared"), 0o1777);
        at.join("shared/link")
    }),
    ("a hard link where all may put one", "hard link", |at| {
        fs::write(at.join("real"), "{}").expect("a file");
        fs::create_dir(at.join("shared")).expect("a directory");
        fs::hard_link(at.join("real"), at.join("shared/config.json")).expect("a link");
        mode(at.join("shared"), 0o1777)
    }),
    ("through a process's root", "one of /proc", |at| {
        Path::new("/proc/self/root").join(good(at).strip_prefix("/").expect("absolute"))
    }),
    ("through a process's working directory", "one of /proc", |_| PathBuf::from("/proc/self/cwd")),
];

#[test]
fn as_the_hosts_root_a_bundle_that_others_could_have_laid_there_is_refused_and_nothing_waits() {
    let scene = Scene::new();
    for (name, wanted, lay) in LURES {
        let dir = tempfile::tempdir().expect("a directory");
        let bundle = lay(&dir.path().canonicalize().expect("a path"));
        let mut state = scene.container.state(Dialect::Runc);
        state["bundle"] = json!(bundle);
        for stage in ["createRuntime", "poststart"] {
            let output = run_with_input(&mut scene.engine.command(stage), state.to_string().as_bytes());
            let line = said(&output);
            assert_eq!(output.status.code(), Some(13), "{stage}: {name}: {line}");
            assert!(line.contains(wanted) && line.lines().count() == 1, "{name}: {line}");
            assert!(scene.namespace.nft_json().is_empty(), "{name}");
        }
    }
}

#[test]
fn as_the_hosts_root_a_bundle_is_read_where_only_root_or_the_containers_own_root_could_have_laid_it() {
    let scene = Scene::new();
    let lays: [(&str, Lure); 5] = [
        ("plain", good),
        ("with a way back in it", |at| {
            fs::create_dir(at.join("a")).expect("a directory");
            good(at).join("a/..")
        }),
        ("behind a link of root's", |at| {
            fs::create_dir(at.join("real")).expect("a directory");
            symlink("real", at.join("link")).expect("a link");
            good(&at.join("real"));
            at.join("link")
        }),
        ("a hard link that only root can have made", |at| {
            fs::write(at.join("real"), "{}").expect("a file");
            fs::hard_link(at.join("real"), at.join("config.json")).expect("a link");
            at.to_owned()
        }),
        ("of the container's root, as podman's are", |at| {
            let mapped = r#"{"linux":{"namespaces":[{"type":"network"},{"type":"user"}],
                "uidMappings":[{"containerID":0,"hostID":200000,"size":65536}]}}"#;
            fs::write(at.join("config.json"), mapped).expect("a file");
            chown(at, 200_000);
            mode(at.to_owned(), 0o700)
        }),
    ];
    for (name, lay) in lays {
        let dir = tempfile::tempdir().expect("a directory");
        let mut state = scene.container.state(Dialect::Runc);
        state["bundle"] = json!(lay(&dir.path().canonicalize().expect("a path")));
        let output = run_with_input(&mut scene.engine.command("createRuntime"), state.to_string().as_bytes());
        assert!(output.status.success(), "{name}: {}", said(&output));
    }
}

#[test]
fn as_the_hosts_root_a_configuration_or_policies_that_others_could_have_laid_there_are_refused() {
    let scene = Scene::new();
    let run = |wanted: i32, part: &str| {
        let output =
            run_with_input(&mut scene.engine.command("createRuntime"), scene.state("createRuntime").as_bytes());
        let line = said(&output);
        assert_eq!(output.status.code(), Some(wanted), "{line}");
        assert!(line.contains(part), "{part}: {line}");
    };
    let policies = scene.engine.policies();
    mode(policies.clone(), 0o777);
    run(16, "which others may write (mode 0777)");
    mode(policies.clone(), 0o755);
    chown(&policies, 1000);
    run(16, "user 1000 may change");
    chown(&policies, 0);
    for (name, lay) in [("link.yaml", "symbolic link"), ("pipe.yaml", "not a regular file")] {
        match name {
            "link.yaml" => symlink("web.yaml", policies.join(name)).expect("a link"),
            _ => mkfifo(&policies.join(name)),
        }
        run(16, lay);
        fs::remove_file(policies.join(name)).expect("it goes");
    }
    mode(scene.engine.path().to_owned(), 0o777);
    run(14, "which others may write (mode 0777)");
    mode(scene.engine.path().to_owned(), 0o700);
    run(0, "");
}

/// The calls of a trace, without what differs from run to run: addresses, numbers of processes, what memory is asked for.
fn behaviour(trace: &str) -> Vec<String> {
    // The C library's allocator reads MALLOC_ and GLIBC_TUNABLES: where memory is may change, what is done may not. Which
    // sysctls still have to be written is the kernel's doing, and the cookie of a namespace may look like a path.
    let memory = ["brk", "mmap", "munmap", "mremap", "madvise", "getrandom", "mprotect"];
    let kernels = ["pread64", "pwrite64", "getsockopt"];
    let lines = trace.lines().filter_map(|line| line.split_once(' ').map(|(_, call)| call.trim_start()));
    let names = lines.filter_map(|call| {
        let (name, rest) = call.split_once('(')?;
        let path = rest.split('"').nth(1).filter(|text| text.starts_with('/'));
        let path: String = path.unwrap_or_default().split('/').filter(|part| part.parse::<u32>().is_err()).collect();
        (!memory.contains(&name) && !kernels.contains(&name)).then(|| format!("{name} {path}"))
    });
    names.skip_while(|name| !name.starts_with("close_range")).collect()
}

#[test]
fn the_environment_changes_nothing() {
    let hostile = [
        ("LD_PRELOAD", "/tmp/none.so"),
        ("LD_AUDIT", "/tmp/none.so"),
        ("LD_LIBRARY_PATH", "/tmp"),
        ("LD_DEBUG", "all"),
        ("PATH", "/tmp"),
        ("HOME", "/tmp"),
        ("TMPDIR", "/tmp/none"),
        ("LC_ALL", "xx_XX"),
        ("LOCPATH", "/tmp"),
        ("TZ", "/dev/zero"),
        ("NETLATCH_CONFIG", "/tmp/none"),
        ("NETLATCH_RUN_DIR", "/tmp/none"),
        ("NETLATCH_POLICIES", "/tmp/none"),
        ("RUST_LOG", "trace"),
        ("RUST_BACKTRACE", "full"),
        ("MALLOC_CHECK_", "3"),
        ("MALLOC_PERTURB_", "85"),
        ("MALLOC_MMAP_THRESHOLD_", "1"),
        ("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0:glibc.malloc.check=3:glibc.cpu.hwcaps=-AVX2_Usable"),
    ];
    for stage in ALL {
        let seen = [&[][..], &hostile[..]].map(|environment| {
            let scene = Scene::new();
            if stage != "createRuntime" && stage != "prestart" {
                let state = scene.state("createRuntime");
                assert!(run_with_input(&mut scene.engine.command("createRuntime"), state.as_bytes()).status.success());
            }
            let mut command = Command::new("strace");
            command.args(["-f", "-qq"]).arg("-o").arg(scene.trace());
            for (name, value) in environment {
                command.arg("-E").arg(format!("{name}={value}"));
            }
            command.arg("-E").arg("X=y").arg(binary()).arg(stage);
            command.arg("--config").arg(scene.engine.config()).arg("--run-dir").arg(scene.engine.run_dir());
            let output = run_with_input(&mut command, scene.state(stage).as_bytes());
            assert!(output.status.success() && output.stderr.is_empty(), "{stage}: {}", said(&output));
            let place = scene.engine.path().to_string_lossy().replace('/', "");
            let [bundle, others] =
                [&scene.container, &scene.other.0].map(|one| one.bundle().to_string_lossy().replace('/', ""));
            let trace = fs::read_to_string(scene.trace()).expect("a trace");
            let shown = |call: &String| {
                let call = call.replace(&place, "").replace(&bundle, "").replace(&others, "");
                call.chars().filter(|c| !c.is_ascii_digit()).collect::<String>()
            };
            let calls: Vec<_> = behaviour(&trace).iter().map(shown).collect();
            assert!(calls.len() > 50);
            calls
        });
        let unlike = seen[0].iter().zip(&seen[1]).position(|(without, with)| without != with);
        let at = unlike.map(|at| (at, &seen[0][at], &seen[1][at]));
        assert!(at.is_none() && seen[0].len() == seen[1].len(), "{stage}: {at:?}");
    }
}
