//! What `netlatch install` writes, taken by the programs it is written for.
//!
//! Ignored unless asked for: scripts/test.sh runs those whose runtime is there.

mod support;

use std::fs;
use std::net::IpAddr;
use std::process::{Command, Output};

use serde_json::Value;
use support::World;
use support::bundle::{Bundle, Runtime};
use support::container::binary;
use support::namespace::run_with_input;

/// The prober's first targets.
const FORBIDDEN: [&str; 2] = ["10.9.9.9", "2001:db8::9"];

fn forbidden_heard(world: &World) -> usize {
    FORBIDDEN.iter().map(|to| world.heard(to.parse::<IpAddr>().unwrap(), None)).sum()
}

/// A bundle that asks for rules and has no hooks.
fn bare_bundle(world: &World) -> Bundle {
    let mut bundle = Bundle::new(&["tcp:10.9.1.1:443"]);
    bundle.join(&world.ctr.path());
    bundle.annotate("egress", "10.9.1.1:443 [2001:db8::1]:443 udp/10.9.1.1:53");
    bundle
}

fn netlatch(bundle: &Bundle, args: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(args).arg(bundle.path()).arg("--path").arg(binary());
    if args[0] == "install" {
        command.arg("--config").arg(bundle.path().join("netlatch.yaml")).arg("--run-dir").arg(bundle.run_dir());
    }
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
#[ignore = "needs runc"]
fn runc_runs_a_bundle_that_was_installed_to_protected_and_one_that_was_uninstalled_from_as_before() {
    let world = World::new();
    let mut bundle = bare_bundle(&world);
    let path = bundle.path().join("config.json");
    let written = format!("{:#}\n", bundle.config);
    fs::write(&path, &written).unwrap();

    netlatch(&bundle, &["install", "bundle"]);
    bundle.config = serde_json::from_slice::<Value>(&fs::read(&path).unwrap()).unwrap();
    let report = bundle.probe(Runtime::Runc, "netlatch-test-installed");
    world.settle();
    assert_eq!(forbidden_heard(&world), 0, "{report}");
    assert_eq!(report["probes"].as_array().unwrap().last().unwrap()["outcome"], "connected", "{report}");
    assert!(!bundle.remembers("netlatch-test-installed"), "poststop forgot");

    fs::write(&path, &written).unwrap();
    netlatch(&bundle, &["install", "bundle"]);
    netlatch(&bundle, &["uninstall", "bundle"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), written);
    // A namespace given by path keeps its rules, so the contrast needs another.
    let fresh = World::new();
    bundle.config = serde_json::from_str::<Value>(&written).unwrap();
    bundle.join(&fresh.ctr.path());
    bundle.probe(Runtime::Runc, "netlatch-test-uninstalled");
    fresh.settle();
    assert!(forbidden_heard(&fresh) >= 2, "the contrast: without the hook they are heard");
}

#[test]
#[ignore = "needs podman and runc"]
fn podman_calls_the_hook_for_a_container_with_the_cdi_device() {
    let world = World::new();
    let bundle = bare_bundle(&world);
    let dir = bundle.path();
    // The host's /etc with our specification in it, seen by this podman alone.
    let script = "set -e; mkdir \"$1/over\"; mount -t tmpfs tmpfs \"$1/over\"; mkdir \"$1/over/new\" \"$1/over/work\"; \
        mount -t overlay overlay -o \"lowerdir=/etc,upperdir=$1/over/new,workdir=$1/over/work\" /etc; \
        \"$2\" install cdi --path \"$2\" --config \"$1/netlatch.yaml\" --run-dir \"$1/run\" >\"$1/said\"; shift 2; exec podman \"$@\"";
    let podman = |args: &[&str], input: &[u8]| {
        fs::remove_dir_all(dir.join("over")).ok();
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(dir).arg(binary());
        command.arg("--root").arg(dir.join("storage")).arg("--runroot").arg(dir.join("runroot"));
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--runtime", "runc"]);
        command.arg("--tmpdir").arg(dir.join("tmp"));
        run_with_input(command.args(args), input)
    };
    let tar = Command::new("tar").arg("-C").arg(dir.join("rootfs")).args(["-c", "."]).output().unwrap();
    let import = podman(&["import", "-", "prober"], &tar.stdout);
    assert!(import.status.success(), "{}", String::from_utf8_lossy(&import.stderr));
    let run = |world: &World, device: &[&str]| {
        let network = format!("ns:{}", world.ctr.path());
        let start = ["run", "--rm", "--network", &network, "--annotation", "io.netlatch.egress=10.9.1.1:443"];
        let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"];
        let output = podman(&[&start[..], &limits, device, &["prober", "/prober", "tcp:10.9.1.1:443"]].concat(), b"");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        world.settle();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let report = run(&world, &["--device", "netlatch.io/net=on"]);
    assert_eq!(forbidden_heard(&world), 0, "{report}");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["probes"].as_array().unwrap().last().unwrap()["outcome"], "connected", "{report}");
    let left = fs::read_dir(dir.join("run/containers")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "poststop was called");
    // The contrast: the device is what brings the hook.
    let fresh = World::new();
    let report = run(&fresh, &[]);
    assert!(forbidden_heard(&fresh) >= 2, "{report}");
    assert!(!fs::exists("/etc/cdi/netlatch.json").unwrap(), "nothing of it is the host's");
}
