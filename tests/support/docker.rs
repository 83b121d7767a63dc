//! Docker's engine on a [`Machine`], with root, state and socket of its own. Its containers get the hook by a CDI device.

use std::fs;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::container::binary;
use super::machine::{Machine, cgroup, said};
use super::namespace::run_with_input;

const SOCKET: &str = "unix:///run/docker-netlatch.sock";
/// The device that brings the hook.
pub(crate) const DEVICE: &str = "--device=netlatch.io/net=on";

/// A running engine.
pub(crate) struct Docker<'a> {
    machine: &'a Machine,
    daemon: Child,
}

impl<'a> Docker<'a> {
    /// Starts it, waits until it answers, gives it the image `prober` and a network `lab` of both families, and puts our
    /// device where it looks for them, as `netlatch install cdi` does.
    pub(crate) fn new(machine: &'a Machine) -> Docker<'a> {
        let program = binary();
        let program = program.to_str().expect("UTF-8");
        let (config, run_dir) = (machine.path("netlatch.yaml"), machine.run_dir());
        let place = ["--config", config.to_str().expect("UTF-8"), "--run-dir", run_dir.to_str().expect("UTF-8")];
        machine.expect(program, &[&["install", "cdi", "--path", program], &place[..]].concat(), b"");
        // What is translated or let through on the machine is its own business; it answers to every address.
        let settings = r#"{"features": {"cdi": true}, "iptables": false, "ip6tables": false, "storage-driver": "vfs"}"#;
        fs::write(machine.path("docker.json"), settings).expect("a file");
        let log = fs::File::create(machine.path("docker.log")).expect("a file");
        // Links of /var/run would lead out of the machine's /run otherwise.
        let line = "echo $$ >/run/docker-netlatch.pid; exec dockerd \"$@\"";
        let mut command = machine.command("sh");
        command.args(["-c", line, "dockerd", "--host", SOCKET, "--pidfile", "/run/dockerd.pid"]);
        for (option, name) in
            [("--config-file", "docker.json"), ("--data-root", "docker"), ("--exec-root", "docker-exec")]
        {
            command.arg(option).arg(machine.path(name));
        }
        command.args(["--cgroup-parent", &cgroup(&machine.path(""))]);
        let daemon = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("nsenter starts");
        let docker = Docker { machine, daemon };
        let deadline = Instant::now() + Duration::from_secs(30);
        while !docker.run(&["version"]).status.success() {
            assert!(Instant::now() < deadline, "dockerd does not answer: {}", docker.log());
            thread::sleep(Duration::from_millis(50));
        }
        let image = run_with_input(&mut docker.command(&["import", "-", "prober"]), &machine.archive());
        assert!(image.status.success(), "{}", said(&image));
        docker.expect(&["network", "create", "--ipv6", "--subnet", "10.12.0.0/16", "--subnet", "fd96::/64", "lab"]);
        docker
    }

    fn log(&self) -> String {
        fs::read_to_string(self.machine.path("docker.log")).unwrap_or_default()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.machine.command("docker");
        command.args(["--host", SOCKET]).args(args);
        command
    }

    /// `docker ARGS`.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        run_with_input(&mut self.command(args), b"")
    }

    /// The same; a failure fails the test. Returns its standard output.
    pub(crate) fn expect(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "docker {args:?}: {}", said(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// `docker run OPTIONS --annotation=io.netlatch.ANNOTATION... prober /prober PROBES`, not started yet.
    pub(crate) fn start(&self, options: &[&str], annotations: &[&str], probes: &[&str]) -> Command {
        let annotations: Vec<String> =
            annotations.iter().map(|text| format!("--annotation=io.netlatch.{text}")).collect();
        let mut args = [&["run"], options].concat();
        args.extend(annotations.iter().map(String::as_str));
        args.extend(["prober", "/prober", "patient"]);
        args.extend(probes);
        self.command(&args)
    }

    /// Runs one to its end and returns what the prober said.
    pub(crate) fn probe(&self, options: &[&str], annotations: &[&str], probes: &[&str]) -> Value {
        let output = run_with_input(&mut self.start(&[&["--rm"], options].concat(), annotations, probes), b"");
        assert!(output.status.success(), "docker {options:?}: {}", said(&output));
        report(&output.stdout, 1)
    }

    /// What the prober of a container has said at its `start`th start, once it has.
    pub(crate) fn report_of(&self, container: &str, start: usize) -> Value {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let said = self.expect(&["logs", container]);
            if said.lines().count() >= start {
                return report(said.as_bytes(), start);
            }
            assert!(Instant::now() < deadline, "start {start}: {said}: {}", self.log());
            thread::sleep(Duration::from_millis(50));
        }
    }
}

fn report(said: &[u8], start: usize) -> Value {
    let text = String::from_utf8_lossy(said);
    let line = text.lines().nth(start - 1).unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {text}"))
}

impl Drop for Docker<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("dockerd said:\n{}", self.log());
        }
        // The engine ends its containers' shims and takes its mounts away; what is left ends with the machine.
        let _ = self.machine.run("sh", &["-c", "kill $(cat /run/dockerd.pid)"], b"");
        let _ = self.daemon.wait();
    }
}
