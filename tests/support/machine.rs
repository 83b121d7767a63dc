//! A small machine inside this one, for engines and what they leave behind: processes, mounts, network and /run of its own.
//! Its network is a far side: it owns every address and hears every packet. Whatever is started inside ends with it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::bundle::prober;
use super::container::binary;
use super::namespace::{Namespace, run_with_input};
use super::world::World;

/// The prober's first targets, which no test allows.
pub(crate) const FORBIDDEN: [&str; 2] = ["10.9.9.9", "2001:db8::9"];

/// What containers here are allowed.
pub(crate) const ALLOWED: &str = "egress=10.9.1.1:443 [2001:db8::1]:443 udp/10.9.1.1:53";
/// What their prober tries; the last is not allowed.
pub(crate) const PROBES: [&str; 4] =
    ["tcp:10.9.1.1:443", "tcp:[2001:db8::1]:443", "udp:10.9.1.1:53", "tcp:10.9.1.1:80"];

/// What became of a probe.
pub(crate) fn outcome<'a>(report: &'a Value, probe: &str) -> &'a str {
    let probes = report["probes"].as_array().expect("an array");
    let found = probes.iter().find(|entry| entry["probe"] == probe);
    found.unwrap_or_else(|| panic!("no {probe} in {report}"))["outcome"].as_str().expect("a word")
}

/// What [`ALLOWED`] names is reached, and nothing else, and `lo` works.
pub(crate) fn is_locked(report: &Value, case: &str) {
    for (probe, expected) in PROBES.into_iter().zip(["connected", "connected", "sent", "refused"]) {
        assert_eq!(outcome(report, probe), expected, "{case}: {probe} in {report}");
    }
    assert_eq!(report["lo"]["v4"], true, "{case}: {report}");
    assert_eq!(report["lo"]["v6"], true, "{case}: {report}");
}

/// What a program has said.
pub(crate) fn said(output: &Output) -> String {
    format!("{} {}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Everything of it.
pub(crate) struct Machine {
    /// What containers reach; `far` is the machine's own network.
    pub(crate) world: World,
    dir: TempDir,
}

/// Mounts hide what engines keep outside the folders they are given: locks in /dev/shm, names in /run/netns, leases in
/// /var/lib/cni. In /etc there are ids for user namespaces, as a host hands them out, and a
/// user `lab` with some of its own; /dev/net/tun is everybody's, as udev has it. cgroup v2 is taken away for crun, which refuses it mounted beside v1.
const MOUNTS: &str = "\
set -e
umount /sys/fs/cgroup/unified 2>/dev/null || true
mount -t tmpfs -o mode=755 run /run
mkdir /run/netns /run/lock
mount -t tmpfs -o mode=1777 shm /dev/shm
mkdir /run/etc /run/etc-work
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc,workdir=/run/etc-work etc /etc
echo containers:300000:1000000 | tee /etc/subuid >/etc/subgid
echo lab:2000000:65536 | tee -a /etc/subuid >>/etc/subgid
echo lab:x:61000:61000::/run/lab:/bin/sh >>/etc/passwd
echo containers:x:61001:61001::/run:/bin/false >>/etc/passwd
echo lab:x:61000: >>/etc/group
mkdir /run/lab
mknod -m 666 /run/tun c 10 200
[ ! -e /dev/net/tun ] || mount --bind /run/tun /dev/net/tun
chown 61000:61000 /run/lab
for hidden in /var/lib/cni /var/lib/containers /var/lib/containerd /etc/cni; do
    [ ! -d $hidden ] || mount -t tmpfs hidden $hidden
done
";

/// The user `lab`, and its group.
pub(crate) const LAB: u32 = 61000;

/// What programs of the machine itself reach, such as slirp4netns, which speaks for a container: what the far side answers
/// to others it answers to them as well. What no test allows is left alone, so that it is heard under its own address.
const ANSWER_PROGRAMS: &str = "\
table inet lab {
    chain out {
        type nat hook output priority -100
        ip daddr 10.9.1.0/24 meta l4proto { tcp, udp } redirect to :7
        ip6 daddr 2001:db8::1 meta l4proto { tcp, udp } redirect to :7
    }
}
";

/// What containers are plugged into, see [`Machine::attach_script`].
const SWITCH: &str = "\
link add lab0 type bridge forward_delay 0
addr add 10.10.0.1/16 dev lab0
addr add fd98::1/64 dev lab0 nodad
link set lab0 up
route add local 0.0.0.0/0 dev lo table main
route add local ::/0 dev lo table main
";

impl Machine {
    /// A fresh one.
    pub(crate) fn new() -> Machine {
        let dir = tempfile::tempdir().expect("a directory");
        // The root user of a user namespace must get through.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
        let world = World::waiting_on(Namespace::of_a_machine());
        let machine = Machine { world, dir };
        machine.expect("sh", &["-c", MOUNTS], b"");
        machine.world.far.ip_batch(SWITCH);
        machine.world.far.nft_load(ANSWER_PROGRAMS);
        let rootfs = machine.path("rootfs");
        for below in ["bin", "proc", "sys", "dev", "tmp", "etc", "run"] {
            fs::create_dir_all(rootfs.join(below)).expect("a directory");
        }
        fs::copy(prober(), rootfs.join("prober")).expect("the prober is copied");
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| fs::exists(path).unwrap_or(false));
        fs::copy(busybox.expect("busybox-static is installed"), rootfs.join("bin/busybox")).expect("busybox is copied");
        fs::write(machine.path("netlatch.yaml"), "").expect("a file");
        machine
    }

    /// Has cgroup v2 alone, as many hosts do, and as youki wants it unless it is built otherwise.
    pub(crate) fn with_cgroup_v2(self) -> Machine {
        self.expect("sh", &["-c", "umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup /sys/fs/cgroup"], b"");
        self
    }

    /// A file of its folder, which has the same name inside and outside.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A program inside, without what the environment here says, but for where programs are.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let of = |name: &str| format!("/proc/{}/ns/{name}", self.world.far.pid());
        command.arg(format!("--mount={}", of("mnt"))).arg(format!("--net={}", of("net")));
        command.arg(format!("--pid={}", of("pid_for_children"))).arg("--").arg(program);
        let programs = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
        command.env_clear().env("PATH", programs).env("HOME", "/run");
        command
    }

    /// Runs a program inside.
    pub(crate) fn run(&self, program: &str, args: &[&str], input: &[u8]) -> Output {
        run_with_input(self.command(program).args(args), input)
    }

    /// The same; a failing program fails the test. Returns its standard output.
    pub(crate) fn expect(&self, program: &str, args: &[&str], input: &[u8]) -> String {
        let output = self.run(program, args, input);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {args:?}: {}: {stderr}", output.status);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Where the hook keeps its records.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.path("netlatch")
    }

    /// The hook's entry for a stage, as config.json has it.
    pub(crate) fn entry(&self, stage: &str) -> Value {
        json!({
            "path": binary(),
            "args": ["netlatch", stage, "--config", self.path("netlatch.yaml"), "--run-dir", self.run_dir()],
        })
    }

    /// `netlatch ARGS --run-dir DIR` inside.
    pub(crate) fn netlatch(&self, args: &[&str]) -> Output {
        let (binary, run_dir) = (binary(), self.run_dir());
        let place = ["--run-dir", run_dir.to_str().expect("UTF-8")];
        self.run(binary.to_str().expect("UTF-8"), &[args, &place[..]].concat(), b"")
    }

    /// The container was refused with this code, and the user sees why or is led to it.
    pub(crate) fn refused(&self, runtime: &str, output: &Output, code: i32, why: &str) {
        let shown = said(output);
        if runtime == "crun" {
            // crun shows the code and nothing else.
            assert!(shown.contains(&format!("exit code: {code}")), "{runtime}: {shown}");
        } else {
            // Engines rewrite messages that hold certain phrases; ours must come through whole.
            assert!(shown.contains(why), "{runtime}: {shown}");
        }
        let last = said(&self.netlatch(&["last-error"]));
        assert!(last.contains(why), "{runtime}: `netlatch last-error` says {last:?}");
    }

    /// How many containers the hook knows.
    pub(crate) fn known(&self) -> usize {
        fs::read_dir(self.run_dir().join("containers")).map_or(0, Iterator::count)
    }

    /// The rootfs with the prober as a tar archive.
    pub(crate) fn archive(&self) -> Vec<u8> {
        let tar = Command::new("tar").arg("-C").arg(self.path("rootfs")).args(["-c", "."]).output().expect("tar");
        assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
        tar.stdout
    }

    /// A hook that plugs the container whose state it reads into the switch, as an engine does that attaches the network after
    /// createRuntime. Its addresses come from its pid, so that many can start at once. The kernel opens a port of a switch some
    /// time after the link is up, and until then it swallows packets.
    pub(crate) fn attach_script(&self) -> PathBuf {
        let path = self.path("attach.sh");
        // Not while another container's hook is about to be started from it: ETXTBSY.
        if path.exists() {
            return path;
        }
        let text = "#!/bin/sh -e\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\npid=$(tr -d ' \\n' | sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/')\n\
            ip link add v$pid type veth peer name eth0 netns $pid\nip link set v$pid master lab0 up\n\
            nsenter -t $pid -n ip -batch - <<END\naddr add 10.10.$((pid / 200)).$((pid % 200 + 2))/16 dev eth0\n\
            addr add fd98::$pid/64 dev eth0 nodad\nlink set eth0 up\nroute add default via 10.10.0.1\n\
            route add default via fd98::1\nEND\n\
            until ip -d link show dev v$pid | grep -q 'state forwarding'; do sleep 0.01; done\n";
        fs::write(&path, text).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
        path
    }

    /// How many packets to forbidden addresses have come.
    pub(crate) fn forbidden_heard(&self) -> usize {
        self.world.settle();
        FORBIDDEN.iter().map(|to| self.world.heard(to.parse().expect("an address"), None)).sum()
    }

    /// Nothing is left of containers: no record, no table and no link of theirs in the machine's own network, no named network
    /// namespace. The kernel takes a namespace down behind everybody's back, so it gets the time it needs.
    pub(crate) fn is_clean(&self, case: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut left = self.left();
        while !left.is_empty() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
            left = self.left();
        }
        assert_eq!(left, "", "{case}: left behind");
    }

    /// Nothing of ours is left: no record, and no table in the machine's own network.
    pub(crate) fn is_forgotten(&self, case: &str) {
        assert_eq!(self.known(), 0, "{case}: records are left");
        let tables = self.world.far.run("nft", &["list", "tables"], "");
        assert!(!tables.contains("netlatch"), "{case}: {tables}");
    }

    fn left(&self) -> String {
        let records = match self.known() {
            0 => String::new(),
            known => format!("{known} records\n"),
        };
        let mut tables = self.world.far.run("nft", &["list", "tables"], "");
        if !tables.contains("netlatch") {
            tables.clear();
        }
        let links = self.world.far.run("ip", &["-brief", "link", "show", "type", "veth"], "");
        format!("{records}{tables}{links}{}", self.expect("ls", &["/run/netns"], b""))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The end of its first process ends all others, and only then does it count as ended.
        self.world.far.close();
        remove_cgroups(self.dir.path());
    }
}

/// The cgroup that all containers of the machine in `dir` are below, so that none stays behind: the machine sees the host's.
pub(crate) fn cgroup(dir: &Path) -> String {
    let name = dir.file_name().expect("a name").to_string_lossy();
    format!("/netlatch-machine-{}", name.trim_start_matches('.'))
}

fn remove_cgroups(dir: &Path) {
    let name = cgroup(dir);
    let name = name.trim_start_matches('/');
    let root = Path::new("/sys/fs/cgroup");
    remove_tree(&root.join(name));
    // A folder for each hierarchy of v1.
    for hierarchy in fs::read_dir(root).into_iter().flatten().flatten() {
        remove_tree(&hierarchy.path().join(name));
    }
}

/// A cgroup's folder has files that cannot be removed and need not be.
fn remove_tree(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_tree(&entry.path());
        }
    }
    let _ = fs::remove_dir(dir);
}
