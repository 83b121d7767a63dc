//! containerd on a [`Machine`], with root, state and socket of its own.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::machine::{Machine, cgroup};
use super::namespace::run_with_input;

/// Where it answers.
pub(crate) const SOCKET: &str = "/run/containerd/netlatch.sock";
/// The image's name.
pub(crate) const IMAGE: &str = "docker.io/library/prober:latest";

/// A running daemon.
pub(crate) struct Containerd<'a> {
    /// Where it runs.
    pub(crate) machine: &'a Machine,
    daemon: Child,
}

impl<'a> Containerd<'a> {
    /// Starts it, waits until it answers and gives it an image with the prober, mounted as `image`.
    pub(crate) fn new(machine: &'a Machine) -> Containerd<'a> {
        Containerd::with(machine, "disabled_plugins = ['io.containerd.grpc.v1.cri', 'io.containerd.internal.v1.opt']")
    }

    /// The same with a configuration that says this as well.
    pub(crate) fn with(machine: &'a Machine, config: &str) -> Containerd<'a> {
        fs::write(machine.path("containerd.toml"), format!("version = 2\n{config}\n")).expect("a file");
        let log = fs::File::create(machine.path("containerd.log")).expect("a file");
        let line = "echo $$ >/run/containerd.pid; exec containerd \"$@\"";
        let mut command = machine.command("sh");
        command.args(["-c", line, "containerd", "--address", SOCKET]);
        for (option, name) in
            [("--config", "containerd.toml"), ("--root", "containerd"), ("--state", "containerd-state")]
        {
            command.arg(option).arg(machine.path(name));
        }
        let daemon = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("nsenter starts");
        let containerd = Containerd { machine, daemon };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !containerd.ctr(&["version"]).status.success() {
            let log = || fs::read_to_string(machine.path("containerd.log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "containerd does not answer: {}", log());
            thread::sleep(Duration::from_millis(20));
        }
        let archive = containerd.write_image();
        // CRI looks into this namespace alone.
        for namespace in ["default", "k8s.io"] {
            containerd.expect(&["--namespace", namespace, "images", "import", archive.to_str().expect("UTF-8")]);
        }
        let mounted = machine.path("image");
        fs::create_dir(&mounted).expect("a directory");
        containerd.expect(&["images", "mount", "--snapshotter", "native", IMAGE, mounted.to_str().expect("UTF-8")]);
        containerd
    }

    /// The image as an archive after image-spec's image-layout.md, of one layer.
    fn write_image(&self) -> PathBuf {
        let layout = self.machine.path("layout");
        let blobs = layout.join("blobs/sha256");
        fs::create_dir_all(&blobs).expect("a directory");
        let blob = |media: &str, content: &[u8]| {
            let sum = run_with_input(&mut Command::new("sha256sum"), content);
            let digest = String::from_utf8_lossy(&sum.stdout[..64]).into_owned();
            fs::write(blobs.join(&digest), content).expect("a file");
            json!({"mediaType": media, "digest": format!("sha256:{digest}"), "size": content.len()})
        };
        let layer = blob("application/vnd.oci.image.layer.v1.tar", &self.machine.archive());
        // As Go names what Rust calls x86_64 and aarch64.
        let architecture = std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64");
        let config = json!({
            "architecture": architecture, "os": "linux",
            // What it is as the pause image of a pod.
            "config": {"Entrypoint": ["/bin/busybox", "sleep", "1000"]},
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
        });
        let config = blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let media = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": media, "config": config, "layers": [layer]});
        let mut manifest = blob(media, manifest.to_string().as_bytes());
        manifest["annotations"] = json!({"io.containerd.image.name": IMAGE});
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});
        fs::write(layout.join("index.json"), index.to_string()).expect("a file");
        fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).expect("a file");
        let archive = self.machine.path("image.tar");
        let tar = Command::new("tar").arg("-C").arg(layout).arg("-cf").arg(&archive).arg(".").status().expect("tar");
        assert!(tar.success());
        archive
    }

    /// `ctr ARGS`, not started yet.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.machine.command("ctr");
        command.args(["--address", SOCKET]).args(args);
        command
    }

    /// `ctr ARGS`.
    pub(crate) fn ctr(&self, args: &[&str]) -> Output {
        run_with_input(&mut self.command(args), b"")
    }

    /// The same; a failure fails the test. Returns its standard output.
    pub(crate) fn expect(&self, args: &[&str]) -> String {
        let output = self.ctr(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ctr {args:?}: {}: {stderr}", output.status);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What containerd makes of nothing (`ctr oci spec`), with the image, the prober and our hooks; the network is attached
    /// between createRuntime and the first instruction.
    pub(crate) fn spec(&self, id: &str, annotations: &[&str], probes: &[&str]) -> Value {
        let mut spec: Value = serde_json::from_str(&self.expect(&["oci", "spec"])).expect("JSON");
        spec["root"] = json!({"path": self.machine.path("image"), "readonly": true});
        spec["process"]["args"] = json!([&["/prober", "patient"], probes].concat());
        spec["linux"]["cgroupsPath"] = json!(format!("{}/{id}", cgroup(&self.machine.path(""))));
        for annotation in annotations {
            let (key, value) = annotation.split_once('=').expect("KEY=VALUE");
            spec["annotations"][format!("io.netlatch.{key}")] = json!(value);
        }
        spec["hooks"] = json!({
            "createRuntime": [self.machine.entry("createRuntime"), {"path": self.machine.attach_script()}],
            "poststart": [self.machine.entry("poststart")],
            "poststop": [self.machine.entry("poststop")],
        });
        spec
    }

    /// `ctr run --config SPEC`, not started yet.
    pub(crate) fn start(&self, id: &str, spec: &Value, options: &[&str]) -> Command {
        let file = self.machine.path(&format!("{id}.json"));
        fs::write(&file, spec.to_string()).expect("a file");
        self.command(&[&["run", "--rm", "--config", file.to_str().expect("UTF-8")], options, &[id]].concat())
    }
}

impl Drop for Containerd<'_> {
    fn drop(&mut self) {
        // Its shims are gone with their containers, or go with the machine.
        let _ = self.machine.run("sh", &["-c", "kill $(cat /run/containerd.pid)"], b"");
        let _ = self.daemon.wait();
    }
}
