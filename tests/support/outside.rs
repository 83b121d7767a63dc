//! A container that holds CAP_NET_ADMIN, its host, and a far side behind that:
//!
//! ```text
//! bridged  ctr  eth0 <--veth--> ctr0  br0  far0 <--veth--> eth0  far      the far side is the container's gateway
//! routed   ctr  eth0 <--veth--> ctr0  host far0 <--veth--> eth0  far      the host is
//! ```
//!
//! The hook runs in the host's namespace, as it would on a real host.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::container::{Container, Dialect, binary};
use super::game::{Arena, Marker, link};
use super::namespace::{Namespace, run_with_input};
use super::world::World;

/// How the container's veth goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Bridged,
    Routed,
}

impl Wire {
    pub(crate) const ALL: [Wire; 2] = [Wire::Bridged, Wire::Routed];
}

/// Every address is behind the gateway here, so that the container asks for no neighbour but that.
const ROUTED_CTR: &str = "\
addr add 10.9.0.2/32 dev eth0
addr add fd99::2/64 dev eth0 nodad
link set eth0 up
route add 10.9.0.1/32 dev eth0
route add default via 10.9.0.1
route add default via fd99::1
";
const ROUTED_HOST: &str = "\
link set lo up
addr add 10.9.0.1/32 dev ctr0
addr add fd99::1/64 dev ctr0 nodad
link set ctr0 up
route add 10.9.0.2/32 dev ctr0
addr add 10.8.0.1/30 dev far0
addr add fd98::1/64 dev far0 nodad
link set far0 up
route add default via 10.8.0.2
route add default via fd98::2
";
const ROUTED_FAR: &str = "\
link set lo up
addr add 10.8.0.2/30 dev eth0
addr add fd98::2/64 dev eth0 nodad
link set eth0 up
route add 10.9.0.2/32 via 10.8.0.1
route add fd99::/64 via fd98::1
route add local 0.0.0.0/0 dev lo table main
route add local ::/0 dev lo table main
";
const BRIDGE: &str = "\
link set lo up
link add br0 type bridge
link set ctr0 master br0
link set far0 master br0
link set ctr0 up
link set far0 up
link set br0 up
";

/// Host, container and far side.
pub(crate) struct Scene {
    pub(crate) arena: Arena,
    pub(crate) host: Namespace,
    pub(crate) container: Container,
    dir: TempDir,
}

impl Scene {
    /// No rules anywhere.
    pub(crate) fn new(wire: Wire) -> Scene {
        Scene::of(wire, Namespace::in_user_namespace())
    }

    /// The same around that namespace and its process.
    pub(crate) fn of(wire: Wire, ctr: Namespace) -> Scene {
        let (far, host) = (Namespace::far_side(), Namespace::new());
        host.set_sysctl("net/ipv6/conf/default/accept_dad", "0");
        // Otherwise the container's link-local address would be tentative and that of a test's first packet another.
        ctr.set_sysctl("net/ipv6/conf/default/accept_dad", "0");
        host.ip_batch(&format!(
            "link add ctr0 type veth peer name eth0 netns {}\nlink add far0 type veth peer name eth0 netns {}\n",
            ctr.pid(),
            far.pid()
        ));
        let world = match wire {
            Wire::Bridged => {
                host.ip_batch(BRIDGE);
                World::between(ctr, far)
            }
            Wire::Routed => {
                host.ip_batch(ROUTED_HOST);
                host.set_sysctl("net/ipv4/ip_forward", "1");
                host.set_sysctl("net/ipv6/conf/all/forwarding", "1");
                World::linked(ctr, far, ROUTED_CTR, ROUTED_FAR)
            }
        };
        // A peer may speak from any address.
        for family in ["ipv4", "ipv6"] {
            world.far.set_sysctl(&format!("net/{family}/ip_nonlocal_bind"), "1");
        }
        let mut arena = Arena::around(world);
        if wire == Wire::Routed {
            arena.far_mac = link(&host, "ctr0").1;
        }
        let container = Container::of(&arena.world.ctr);
        let scene = Scene { arena, host, container, dir: tempfile::tempdir().expect("a directory") };
        scene.give(&["CAP_NET_ADMIN", "CAP_NET_RAW"]);
        scene
    }

    /// One whose hook has run, with these annotations and `net-admin: MODE`.
    pub(crate) fn started(wire: Wire, mode: &str, annotations: &[(&str, &str)]) -> Scene {
        let mut scene = Scene::new(wire);
        for (key, value) in annotations {
            scene.container.annotations.insert(format!("io.netlatch.{key}"), (*value).into());
        }
        scene.configure(&format!("net-admin: {mode}\n"));
        scene.must("createRuntime");
        scene.must("poststart");
        scene
    }

    /// The capabilities of the container's process.
    pub(crate) fn give(&self, capabilities: &[&str]) {
        self.container.write_config(&json!({
            "ociVersion": "1.0.2",
            "process": {
                "cwd": "/", "args": ["/prober"], "user": {"uid": 0, "gid": 0},
                "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            },
            "root": {"path": "rootfs"},
            "linux": {"namespaces": [{"type": "user"}, {"type": "pid"}, {"type": "mount"}, {"type": "network"}]},
        }));
    }

    /// The configuration file from now on.
    pub(crate) fn configure(&self, config: &str) {
        std::fs::write(self.dir.path().join("config.yaml"), config).expect("the configuration is written");
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    /// Runs a stage on the host, with a fault where one is named (src/kernel/checkpoint.rs).
    pub(crate) fn stage(&self, stage: &str, fault: &str) -> Output {
        let state = match stage {
            "poststop" => self.container.stopped(Dialect::Runc),
            _ => self.container.state(Dialect::Runc),
        };
        self.stage_of(stage, &state, fault)
    }

    /// The same of any container.
    pub(crate) fn stage_of(&self, stage: &str, state: &Value, fault: &str) -> Output {
        self.command(stage, state.to_string().as_bytes(), fault)
    }

    /// A stage or command.
    pub(crate) fn command(&self, name: &str, input: &[u8], fault: &str) -> Output {
        let mut command = Command::new(binary());
        command.arg(name).arg("--config").arg(self.dir.path().join("config.yaml"));
        command.arg("--run-dir").arg(self.run_dir()).env_clear();
        if !fault.is_empty() {
            command.env("NETLATCH_FAULT", fault);
        }
        self.host.within(|| run_with_input(&mut command, input))
    }

    /// Expects a stage to succeed without a word.
    pub(crate) fn must(&self, stage: &str) {
        let output = self.stage(stage, "");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{stage}: {}: {said}", output.status);
    }

    /// Expects a stage to fail with a code, and returns the line it says.
    pub(crate) fn fails(&self, stage: &str, code: i32) -> String {
        let output = self.stage(stage, "");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{stage}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        said
    }

    /// The names of the tables in the host's namespace, sorted.
    pub(crate) fn tables(&self) -> Vec<String> {
        let listed = self.host.run("nft", &["list", "tables"], "");
        let mut names: Vec<String> = listed.lines().map(str::to_owned).collect();
        names.sort();
        names
    }

    /// The line of the host's table for the container.
    pub(crate) fn own_table(&self) -> String {
        format!("table netdev netlatch-{}", self.container.id)
    }

    /// How many frames have reached the far side for `to` with the marker in them.
    pub(crate) fn reached(&self, to: std::net::IpAddr, marker: &Marker) -> usize {
        self.arena.ear.count(|frame| marker.is_in(frame) && is_for(frame, to))
    }
}

/// Whether the IP packet in a frame goes to an address.
fn is_for(frame: &[u8], to: std::net::IpAddr) -> bool {
    match to {
        std::net::IpAddr::V4(to) => frame.get(30..34) == Some(&to.octets()[..]),
        std::net::IpAddr::V6(to) => frame.get(38..54) == Some(&to.octets()[..]),
    }
}
