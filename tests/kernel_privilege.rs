//! What the process holds at each step, what it opens, and that nothing it inherits changes either.
//!
//! The judges are strace, which sees every call, and /proc/PID/status of a process that strace has stopped.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
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
    _peer: Namespace,
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
        let scene = Scene { engine, container, namespace, _peer: peer };
        let output = run_with_input(&mut scene.engine.command("createRuntime"), other.state(Dialect::Runc).to_string().as_bytes());
        assert!(output.status.success(), "{}", said(&output));
        scene
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

    fn traced(&self, stage: &str, arguments: &[&str]) -> (Output, String) {
        let output = run_with_input(&mut self.strace(stage, arguments), self.state(stage).as_bytes());
        (output, fs::read_to_string(self.trace()).expect("a trace"))
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
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid), nix::sys::signal::Signal::SIGCONT).expect("SIGCONT");
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
