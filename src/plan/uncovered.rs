//! What a container can do that no rule of its namespace governs, told from its bundle.
//!
//! Only what is so, and only what concerns the network: an ordinary container has at most a line about AF_VSOCK. Left out
//! on purpose, because nothing passes the rules by them: io_uring as such (its sends go through the same sockets and
//! hooks; it counts where a seccomp filter of socket(2) is all that stands before a family), user namespaces made inside
//! (their owner holds nothing over the container's network), /dev/vhost-net (it sends by a packet socket, which the netdev
//! chain sees, or by a tunnel), /dev/kvm, /dev/fuse, and the host's IPC namespace.

mod gap;

pub use gap::{Gap, Weight};

use crate::net::Origin;
use crate::nft::build::guard;
use crate::nft::filter::Filter;
use crate::nft::ruleset::Table;
use crate::oci::bundle::{Holding, Mount, Passage, Seccomp};
use crate::oci::{Bundle, PidNamespace};
use crate::settings::{NetAdmin, Settings};

/// One thing that the rules do not govern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotCovered {
    /// Which.
    pub gap: Gap,
    /// What it lets through, in one sentence.
    pub what: String,
    /// Where config.json says so.
    pub place: String,
}

/// What stands against the two capabilities that rules can do something about: as it is planned, or as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Against {
    /// Why nothing holds a container with `CAP_NET_ADMIN`; `None` where its rules stand at the host's side too, or where it
    /// does not start.
    pub net_admin: Option<String>,
    /// What becomes of the packets of packet sockets.
    pub packets: Packets,
}

/// What becomes of the packets of AF_PACKET sockets on their way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packets {
    /// The guard drops them.
    Dropped,
    /// Rules deny some egress, and these pass them.
    Pass,
    /// No egress is denied to anybody.
    Free,
}

impl Against {
    /// As it is planned: `table` and `filter` are those of [`Rules`](super::Rules).
    pub fn planned(settings: &Settings, table: Option<&Table>, filter: Option<&Filter>) -> Against {
        let net_admin = match settings.net_admin.value {
            NetAdmin::Allow => {
                let by = &settings.net_admin.origin;
                let by = if matches!(by, Origin::Builtin(_)) { String::new() } else { format!(" ({by})") };
                Some(format!("the admin allows it{by}"))
            }
            // Refused before anything is said about it, or held from outside.
            NetAdmin::Refuse | NetAdmin::HostSide => None,
        };
        let packets = match table.and_then(|table| table.guard.as_deref()) {
            Some(guard) if hangs_everywhere(guard) => Packets::Dropped,
            Some(_) | None if filter.is_some_and(denies_egress) => Packets::Pass,
            Some(_) | None => Packets::Free,
        };
        Against { net_admin, packets }
    }
}

/// Whether a filter denies any egress in earnest, so that packet sockets would have something to pass.
pub fn denies_egress(filter: &Filter) -> bool {
    guard(filter).as_ref().is_some_and(hangs_everywhere)
}

/// Whether a guard is one of egress: where ingress alone is filtered it hangs on `lo`.
fn hangs_everywhere(guard: &Table) -> bool {
    guard.chains.iter().filter_map(|chain| chain.base.as_ref()).any(|base| base.every_device)
}

const AF_VSOCK: u32 = 40;
const AF_XDP: u32 = 44;

/// Capabilities over the kernel as a whole: with any of them network namespaces are no border. `CAP_SYS_ADMIN` joins
/// namespaces and loads programs onto interfaces (`bpf_net_capable`), the others read, write or replace what runs.
const OVER_THE_HOST: [&str; 4] = ["CAP_SYS_ADMIN", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_DAC_READ_SEARCH"];

/// The names of what somebody asked for, for a line of the log; `None` where there is no such thing.
pub fn grave(found: &[NotCovered]) -> Option<String> {
    let mut names = found.iter().filter(|one| one.gap.weight() == Weight::Grave).map(|one| one.gap.name());
    let first = names.next()?.to_owned();
    Some(names.fold(first, |line, name| line + ", " + name))
}

/// What the rules of a container do not govern, the gravest first. `bundle` is `None` where config.json is missing.
pub fn uncovered(bundle: Option<&Bundle>, against: &Against) -> Vec<NotCovered> {
    let Some(bundle) = bundle else {
        let what = "config.json is missing: nothing is known of capabilities, mounts and devices".to_owned();
        return vec![NotCovered { gap: Gap::BundleMissing, what, place: "config.json".to_owned() }];
    };
    let mut looking = Looking { bundle, found: Vec::new() };
    if bundle.network.is_none() {
        looking.say(Gap::HostNetwork, "linux.namespaces", || {
            "it names no network namespace, so the container stays in the runtime's, where nothing is installed"
                .to_owned()
        });
    }
    if looking.is_privileged() {
        looking.say(Gap::Privileged, "process.capabilities, linux.resources.devices", || {
            "it may do to the host's kernel whatever root may: every rule can be removed or gone round".to_owned()
        });
    } else {
        looking.capabilities(against);
        looking.sockets(against);
        looking.devices();
        looking.proc_sys();
    }
    looking.processes();
    looking.mounts();
    let mut found = looking.found;
    let rank = |gap: Gap| Gap::ALL.iter().position(|other| *other == gap);
    found.sort_by_key(|one| rank(one.gap));
    found
}

struct Looking<'b> {
    bundle: &'b Bundle,
    found: Vec<NotCovered>,
}

impl Looking<'_> {
    fn say(&mut self, gap: Gap, place: impl Into<String>, what: impl FnOnce() -> String) {
        self.found.push(NotCovered { gap, what: what(), place: place.into() });
    }

    /// Whether a capability over the host's own kernel can be used. In a user namespace it is over that.
    fn over_the_host(&self, capability: &str) -> Option<Holding> {
        self.bundle.can_use_capability(capability).filter(|_| !self.bundle.user_namespace)
    }

    fn is_privileged(&self) -> bool {
        let all = ["CAP_SYS_ADMIN", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_NET_ADMIN", "CAP_MKNOD"];
        self.bundle.devices.all().is_some() && all.iter().all(|capability| self.over_the_host(capability).is_some())
    }

    fn capabilities(&mut self, against: &Against) {
        let held: Vec<&str> =
            OVER_THE_HOST.into_iter().filter(|capability| self.over_the_host(capability).is_some()).collect();
        if let Some(set) = held.first().and_then(|first| self.over_the_host(first)) {
            self.say(Gap::HostCapabilities, set.place(), || {
                format!("{} reaches past the container's network into the host", held.join(", "))
            });
        }
        if let (Some(why), Some(set)) = (&against.net_admin, self.bundle.holds_capability("CAP_NET_ADMIN")) {
            self.say(Gap::NetAdmin, set.place(), || {
                format!("CAP_NET_ADMIN removes the rules or goes round them, and {why}")
            });
        }
    }

    fn sockets(&mut self, against: &Against) {
        let filter = self.bundle.seccomp.as_ref();
        let raw = self.bundle.can_use_capability("CAP_NET_RAW");
        if let Some(set) = raw {
            let (gap, leaves) = match against.packets {
                Packets::Dropped => (Gap::RawSockets, "are dropped on their way out"),
                Packets::Free => (Gap::RawSockets, "leave as all others do, for no egress is denied"),
                Packets::Pass => (Gap::PacketSockets, "pass every rule on their way out where no guard hangs"),
            };
            self.say(gap, set.place(), || {
                format!(
                    "CAP_NET_RAW is held: packets of AF_PACKET {leaves}; what arrives can be read before the ingress rules see it"
                )
            });
        }
        let xdp = raw.and_then(|set| Some((Seccomp::passage(filter, AF_XDP)?, set)));
        match xdp {
            Some((Passage::IoUring, _)) | None => {}
            Some((Passage::Unfiltered | Passage::Permitted | Passage::HighBits | Passage::Multiplexed, set)) => {
                // xsk_create asks for CAP_NET_RAW; xsk_generic_xmit hands packets to __dev_direct_xmit, which has no hook.
                self.say(Gap::AfXdp, set.place(), || {
                    "AF_XDP sockets, which CAP_NET_RAW may make where the kernel has them, send past every hook"
                        .to_owned()
                });
            }
        }
        let vsock = Seccomp::passage(filter, AF_VSOCK);
        let ring: Vec<&str> = [("AF_XDP", xdp.map(|(how, _)| how)), ("AF_VSOCK", vsock)]
            .into_iter()
            .filter(|(_, how)| *how == Some(Passage::IoUring))
            .map(|(family, _)| family)
            .collect();
        if !ring.is_empty() {
            self.say(Gap::IoUring, "linux.seccomp", || {
                let families = ring.join(" and ");
                format!(
                    "seccomp denies {families} to socket(2), and io_uring makes such sockets where the kernel has it"
                )
            });
        }
        let why = match vsock {
            None | Some(Passage::IoUring) => return,
            Some(Passage::Unfiltered) => "there is no seccomp profile",
            Some(Passage::Permitted) => "the seccomp profile allows them",
            Some(Passage::HighBits) => {
                "the seccomp profile compares 64 bits and lets 2^32 + 40 pass, which the kernel takes for 40"
            }
            Some(Passage::Multiplexed) => "the seccomp profile lets the socketcall(2) of 32-bit programs pass",
        };
        self.say(Gap::AfVsock, "linux.seccomp", || {
            format!(
                "AF_VSOCK reaches the hypervisor and virtual machines, where the kernel has it, and is no IP ({why})"
            )
        });
    }

    /// A device is within reach where it has a node, or a rule by name and the capability to make one.
    fn device(&self, major: i64, minor: Option<i64>) -> Option<String> {
        let devices = &self.bundle.devices;
        if let Some(index) = devices.node(major, minor) {
            return Some(format!("linux.devices[{index}]"));
        }
        self.over_the_host("CAP_MKNOD")?;
        devices.rule(major, minor).map(|index| format!("linux.resources.devices[{index}]"))
    }

    fn devices(&mut self) {
        let devices = &self.bundle.devices;
        let node = |index: Option<usize>| index.map(|index| format!("linux.devices[{index}]"));
        if let Some(index) = devices.all() {
            let dev = self.bundle.mounts.iter().any(|mount| mount.bind && mount.source == "/dev");
            if dev || self.over_the_host("CAP_MKNOD").is_some() {
                self.say(Gap::AllDevices, format!("linux.resources.devices[{index}]"), || {
                    "it may open every device: disks, memory and network hardware of the host".to_owned()
                });
            }
        }
        // Documentation/admin-guide/devices.txt: 231 is InfiniBand's; rdma_cm has a number of its own each time.
        let rdma = self.device(231, None).or_else(|| node(devices.node_below("/dev/infiniband")));
        if let Some(place) = rdma {
            self.say(Gap::Rdma, place, || {
                "RDMA: an InfiniBand or RoCE adapter sends and receives by itself, past the kernel's network".to_owned()
            });
        }
        let uio = devices.node_numbered("/dev/uio");
        if let Some(place) = node(devices.node_below("/dev/vfio").or(uio)) {
            self.say(Gap::DevicePassthrough, place, || {
                "VFIO or UIO: a program drives hardware by itself; a network card among it sends past the kernel"
                    .to_owned()
            });
        }
        if let Some(place) = self.device(10, Some(241)) {
            self.say(Gap::VhostVsock, place, || {
                "/dev/vhost-vsock: it can pose as a virtual machine and reach what the host offers those over AF_VSOCK"
                    .to_owned()
            });
        }
        let tap = || node(devices.node_numbered("/dev/tap"));
        if let Some(place) = self.device(10, Some(200)).or_else(tap) {
            self.say(Gap::TunDevice, place, || {
                "/dev/net/tun or /dev/tapN: a program is a network interface, where it is given one or may make one; \
                 rules judge the tunnel's own packets, not what it carries"
                    .to_owned()
            });
        }
    }

    fn proc_sys(&mut self) {
        // Asked once: config.json may name any number of mounts.
        let held = self.bundle.holds_proc_sys || self.covers_proc_sys();
        let place = self.bundle.mounts.iter().enumerate().find(|(_, mount)| {
            if mount.read_only {
                return false;
            }
            let part = |path: &str| matches!(path, "/proc" | "/proc/sys" | "/proc/sys/net");
            match mount.destination.as_str() {
                "/proc" if mount.kind == "proc" => !held,
                _ => mount.bind && part(&mount.source),
            }
        });
        // net_ctl_permissions: root of the namespace's owner may write, without any capability.
        if let Some((index, _)) = place {
            self.say(Gap::WritableProcSys, format!("mounts[{index}]"), || {
                "/proc/sys can be written: root in the container changes network sysctls, those set for it included"
                    .to_owned()
            });
        }
    }

    /// Whether something read-only is mounted over /proc/sys.
    fn covers_proc_sys(&self) -> bool {
        let over =
            |mount: &Mount| mount.read_only && matches!(mount.destination.as_str(), "/proc/sys" | "/proc/sys/net");
        self.bundle.mounts.iter().any(over)
    }

    fn processes(&mut self) {
        let host =
            || "it sees the host's processes, and may take over those of its user and use their network".to_owned();
        match &self.bundle.pid {
            Some(PidNamespace::New) => {}
            None => self.say(Gap::HostPid, "linux.namespaces", host),
            Some(PidNamespace::Path(path)) if path.as_os_str() == "/proc/1/ns/pid" => {
                self.say(Gap::HostPid, "linux.namespaces", host);
            }
            Some(PidNamespace::Path(_)) => self.say(Gap::SharedPid, "linux.namespaces", || {
                "it sees another container's processes, and may take over those of its user and use their network, \
                 where that is another"
                    .to_owned()
            }),
        }
    }

    fn mounts(&mut self) {
        let (mut control, mut others) = (Vec::new(), Vec::new());
        for (index, mount) in self.bundle.mounts.iter().enumerate().filter(|(_, mount)| mount.bind) {
            if let Some(what) = control_socket(&mount.source) {
                control.push((index, mount, what));
            } else if mount.source.ends_with(".sock") || mount.source.ends_with(".socket") {
                others.push((index, mount, String::new()));
            }
        }
        self.mounted(Gap::EngineSocket, &control, |first| {
            let (source, what) = (first.1.shown_source(), &first.2);
            format!("{source} leads to {what}: whoever may speak there has the host do what the rules deny")
        });
        self.mounted(Gap::UnixSockets, &others, |first| {
            format!(
                "{} is a socket of the host: what listens there may use the host's network for it",
                first.1.shown_source()
            )
        });
    }

    /// One line for all mounts of a kind: the first is named, the places are those of the first few.
    fn mounted(&mut self, gap: Gap, mounts: &[Mounted<'_>], what: impl FnOnce(&Mounted<'_>) -> String) {
        const PLACES: usize = 4;
        let Some(first) = mounts.first() else { return };
        let places: Vec<String> = mounts.iter().take(PLACES).map(|(index, ..)| format!("mounts[{index}]")).collect();
        let more = if mounts.len() > PLACES { format!(" and {} more", mounts.len() - PLACES) } else { String::new() };
        let what = what(first);
        self.say(gap, places.join(", ") + &more, || what);
    }
}

/// A mount by its index, and what its source leads to.
type Mounted<'b> = (usize, &'b Mount, String);

/// Where engines and the host's services listen, as paths are after /var/run became /run. `*` is one part of a path.
const SOCKETS: [(&str, &str); 26] = [
    ("/run/docker.sock", "docker"),
    ("/run/user/*/docker.sock", "docker"),
    ("/run/podman/podman.sock", "podman"),
    ("/run/user/*/podman/podman.sock", "podman"),
    ("/run/containerd/containerd.sock", "containerd"),
    ("/run/k3s/containerd/containerd.sock", "containerd"),
    ("/run/docker/containerd/containerd.sock", "containerd"),
    ("/run/crio/crio.sock", "CRI-O"),
    ("/run/cri-dockerd.sock", "docker"),
    ("/run/buildkit/buildkitd.sock", "buildkit"),
    ("/run/dbus/system_bus_socket", "the host's D-Bus"),
    ("/run/user/*/bus", "the D-Bus of a user of the host"),
    ("/run/systemd/private", "systemd"),
    ("/run/systemd/io.systemd.*", "systemd"),
    ("/run/systemd/resolve/io.systemd.Resolve", "systemd-resolved"),
    ("/run/systemd/userdb", "systemd"),
    ("/run/nscd/socket", "the host's name service"),
    ("/var/lib/sss/pipes", "sssd"),
    ("/run/avahi-daemon/socket", "avahi"),
    ("/run/libvirt/libvirt-sock", "libvirt"),
    ("/var/lib/lxd/unix.socket", "LXD"),
    ("/var/lib/incus/unix.socket", "Incus"),
    ("/run/snapd.socket", "snapd"),
    ("/run/tailscale/tailscaled.sock", "tailscaled"),
    ("/var/lib/kubelet/pod-resources/kubelet.sock", "the kubelet"),
    ("/var/lib/kubelet/device-plugins/kubelet.sock", "the kubelet"),
];

/// What a mounted path leads to: a known socket itself, or a directory that holds some where these services run.
fn control_socket(source: &str) -> Option<String> {
    if source == "/" {
        return Some("every socket of the host".to_owned());
    }
    // The first letter tells most of them apart: this is done for every mount of every start.
    let leads = |socket: &str| {
        if socket.as_bytes().get(1) != source.as_bytes().get(1) {
            return false;
        }
        let mut parts = socket.split('/');
        source.split('/').all(|part| parts.next().is_some_and(|wanted| matches(wanted, part)))
    };
    let mut found: Vec<&str> = SOCKETS.iter().filter(|(socket, _)| leads(socket)).map(|(_, what)| *what).collect();
    found.dedup();
    let first = found.first()?;
    Some(match found.len() - 1 {
        0 => (*first).to_owned(),
        more => format!("{first} and {more} more"),
    })
}

/// Whether one part of a path is as wanted; `*` stands at the end.
fn matches(wanted: &str, part: &str) -> bool {
    wanted.strip_suffix('*').map_or(wanted == part, |prefix| part.starts_with(prefix))
}

#[cfg(test)]
mod tests;
