//! A network namespace without a name: a process holds it, and the process ends with the test.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

/// A network namespace and the process that stands in it, as a container's first process would.
pub(crate) struct Namespace {
    holder: Child,
    /// Others inside.
    processes: Mutex<Vec<Child>>,
    net: File,
}

impl Namespace {
    /// A fresh one, `lo` down, nothing loaded.
    pub(crate) fn new() -> Namespace {
        Namespace::held_by(&["--net"])
    }

    /// A fresh one that belongs to a user namespace of its own, as with `podman --userns`.
    pub(crate) fn in_user_namespace() -> Namespace {
        Namespace::held_by(&["--user", "--map-root-user", "--net"])
    }

    /// One with mounts and process numbers of its own as well. Its holder's child is its first process, and whatever
    /// else was started inside ends with it. SIGCHLD is ignored there: nobody waits for orphans.
    pub(crate) fn of_a_machine() -> Namespace {
        const HOLD: &str = "trap '' CHLD; exec cat";
        Namespace::holding(
            &["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"],
            &["sh", "-c", HOLD],
        )
    }

    /// Ends its process by the end of its input, and waits for it.
    pub(crate) fn close(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }

    fn held_by(unshare: &[&str]) -> Namespace {
        Namespace::holding(unshare, &["cat"])
    }

    /// The holder is `cat`: it ends when its standard input does, so also when the test is killed with SIGKILL.
    /// The byte it echoes says that it has left our namespaces.
    fn holding(unshare: &[&str], holder: &[&str]) -> Namespace {
        let mut holder = Command::new("unshare")
            .args(unshare)
            .arg("--")
            .args(holder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare starts");
        holder.stdin.as_mut().expect("a pipe").write_all(b"?").expect("the holder reads");
        let mut echo = [0];
        holder.stdout.as_mut().expect("a pipe").read_exact(&mut echo).expect("unshare made the namespace");
        let net = File::open(format!("/proc/{}/ns/net", holder.id())).expect("the holder's namespace opens");
        Namespace { holder, processes: Mutex::default(), net }
    }

    /// Starts another process inside, as the first one of a container that the namespace outlives. It ends with the namespace
    /// at the latest.
    pub(crate) fn process(&self) -> i32 {
        let mut cat = Command::new("cat");
        cat.stdin(Stdio::piped()).stdout(Stdio::null());
        let process = self.within(move || cat.spawn()).expect("cat starts");
        let pid = i32::try_from(process.id()).expect("a pid");
        self.processes.lock().expect("no test panicked here").push(process);
        pid
    }

    /// The process inside.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.holder.id()).expect("a pid")
    }

    /// The namespace as config.json names it.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }

    /// Ends its process, as a container ends. The namespace goes with it, unless others are in there.
    pub(crate) fn end(&self) {
        let pid = nix::unistd::Pid::from_raw(self.pid());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("the holder can be killed");
        // It stays a zombie until this is dropped, as behind a runtime's back.
        let stat = format!("/proc/{pid}/stat");
        while !std::fs::read_to_string(&stat).expect("a zombie").contains(") Z ") {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// Runs `work` inside. Sockets made there stay there; `/proc/sys/net` and child processes follow the thread.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter();
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread inside. Only for a thread that ends inside or moves on to another namespace.
    pub(crate) fn enter(&self) {
        setns(&self.net, CloneFlags::CLONE_NEWNET).expect("the namespace can be joined");
    }

    /// Runs a program inside with `input` on its standard input.
    pub(crate) fn try_run(&self, program: &str, args: &[&str], input: &str) -> Output {
        self.within(|| run_with_input(Command::new(program).args(args), input.as_bytes()))
    }

    /// The same; a failing program fails the test. Returns its standard output.
    pub(crate) fn run(&self, program: &str, args: &[&str], input: &str) -> String {
        let output = self.try_run(program, args, input);
        assert!(
            output.status.success(),
            "{program} {args:?} with input\n{input}\n{}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Loads rules with `nft -f`, the second opinion.
    pub(crate) fn nft_load(&self, rules: &str) {
        self.run("nft", &["-f", "-"], rules);
    }

    /// `nft -j list ruleset`, without the line about nft itself and without handles, which only count creations.
    pub(crate) fn nft_json(&self) -> Vec<serde_json::Value> {
        let text = self.run("nft", &["-j", "list", "ruleset"], "");
        let json: serde_json::Value = serde_json::from_str(&text).expect("nft prints JSON");
        let mut objects = json["nftables"].as_array().expect("an array").clone();
        objects.retain(|object| object.get("metainfo").is_none());
        objects.iter_mut().flat_map(|o| o.as_object_mut()).flat_map(|o| o.values_mut()).for_each(|body| {
            if let Some(body) = body.as_object_mut() {
                body.remove("handle");
            }
        });
        objects
    }

    /// `ip -j ARGS`.
    pub(crate) fn ip_json(&self, args: &[&str]) -> serde_json::Value {
        let text = self.run("ip", &[&["-j"], args].concat(), "");
        serde_json::from_str(if text.trim().is_empty() { "[]" } else { &text }).expect("ip prints JSON")
    }

    /// Many `ip` commands in one process.
    pub(crate) fn ip_batch(&self, commands: &str) {
        self.run("ip", &["-batch", "-"], commands);
    }

    /// A sysctl by its path below /proc/sys, such as `net/ipv4/ip_forward`.
    pub(crate) fn sysctl(&self, path: &str) -> String {
        let file = format!("/proc/sys/{path}");
        self.within(|| std::fs::read_to_string(&file)).unwrap_or_else(|e| panic!("{file}: {e}")).trim().to_owned()
    }

    /// Writes one.
    pub(crate) fn set_sysctl(&self, path: &str, value: &str) {
        let file = format!("/proc/sys/{path}");
        self.within(|| std::fs::write(&file, value)).unwrap_or_else(|e| panic!("{file} = {value}: {e}"));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Already gone is as good: the test may have ended it.
        let processes = self.processes.get_mut().unwrap_or_else(PoisonError::into_inner);
        for process in processes.iter_mut().chain([&mut self.holder]) {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Ends one of our processes with SIGKILL. It stays a zombie, so that nobody else gets its number.
pub(crate) fn end(pid: i32) {
    let pid = Pid::from_raw(pid);
    kill(pid, Signal::SIGKILL).expect("it is there");
    waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).expect("it ends");
}

/// Runs `command` with `input`; a reader that stops early (EPIPE) is its own affair.
pub(crate) fn run_with_input(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let mut stdin = child.stdin.take().expect("a pipe");
    thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().expect("the program ends")
    })
}

/// Runs all of them at the same time.
pub(crate) fn all_at_once(commands: impl Iterator<Item = Command>) -> Vec<Output> {
    let start = |mut command: Command| {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
    };
    let children: Vec<Child> = commands.map(start).collect();
    children.into_iter().map(|child| child.wait_with_output().expect("it ends")).collect()
}
