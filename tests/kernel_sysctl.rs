//! Sysctls against the running kernel. Every test has network namespaces of its own; the ignored ones also need the
//! initial one, to change `net.core.devconf_inherit_init_net` for the moment in which a namespace is made.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read, Seek, Write as _};
use std::net::Ipv6Addr;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use netlatch::error::Failure;
use netlatch::kernel::netns::{Inside, unshared};
use netlatch::kernel::proc::{Procfs, Report, Written};
use netlatch::net::{Family, Origin};
use netlatch::sysctl::devconf::{self, Devconf, Reason};
use netlatch::sysctl::ipv6::{Ipv6, Write, steps};
use netlatch::sysctl::{Key, Setting};

fn origin() -> Origin {
    Origin::Annotation { key: "io.netlatch.test".to_owned() }
}

fn key(name: &str) -> Key {
    Key::parse(name).unwrap()
}

fn setting(name: &str, value: &str) -> Setting {
    Setting::new(key(name), value, origin()).unwrap()
}

/// Runs `test` in a namespace of its own, with a /proc/sys that was opened outside of it.
fn in_new_namespace<T: Send>(test: impl FnOnce(&Procfs, &Inside) -> T + Send) -> T {
    let procfs = Procfs::open().unwrap();
    on_a_thread(move || test(&procfs, &unshared().unwrap()))
}

/// A thread that is left in another namespace must not be used again.
fn on_a_thread<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| match scope.spawn(body).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// Runs a command in this thread's namespaces.
fn run(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn now(name: &str) -> String {
    fs::read_to_string(format!("/proc/sys/{}", key(name).path())).unwrap().trim_end().to_owned()
}

fn changed(reports: &[Report]) -> Vec<String> {
    let changed = reports.iter().filter(|report| matches!(report.written, Written::Changed { .. }));
    changed.map(|report| format!("{} = {}", report.key, report.value)).collect()
}

fn message(result: Result<Written, Failure>, code: u8) -> String {
    let failure = result.unwrap_err();
    assert_eq!(failure.exit_code(), code, "{failure}");
    failure.to_string()
}

#[test]
fn a_descriptor_from_before_the_join_leads_to_the_container() {
    let before = now("net.ipv4.ip_default_ttl");
    in_new_namespace(|procfs, inside| {
        let wanted = setting("net.ipv4.ip_default_ttl", "77");
        assert_eq!(procfs.write(inside, &wanted), Ok(Written::Changed { from: "64".to_owned() }));
        assert_eq!(procfs.write(inside, &wanted), Ok(Written::Already));
        assert_eq!(now("net.ipv4.ip_default_ttl"), "77");
        assert_eq!(procfs.read(inside, &wanted.key), Ok(Some("77".to_owned())));
        assert_eq!(procfs.knob(), Ok(None));
    });
    assert_eq!(now("net.ipv4.ip_default_ttl"), before);
}

#[test]
fn a_dotted_interface_is_written_in_every_spelling() {
    in_new_namespace(|procfs, inside| {
        run("ip link add name a.b type veth peer name c");
        assert_eq!(procfs.interfaces(inside, Family::V4).map(BTreeSet::from_iter), Ok(names(&["a.b", "c", "lo"])));
        for (spelling, value) in [
            ("net.ipv4.conf.a.b.rp_filter", "1"),
            ("net.ipv4.conf.a/b.rp_filter", "2"),
            ("net/ipv4/conf/a.b/rp_filter", "0"),
        ] {
            assert!(matches!(procfs.write(inside, &setting(spelling, value)), Ok(Written::Changed { .. })));
            assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/conf/a.b/rp_filter").unwrap(), format!("{value}\n"));
        }
    });
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn what_the_kernel_refuses_is_said_in_words_without_strerror() {
    in_new_namespace(|procfs, inside| {
        for (name, value, words) in [
            ("net.ipv4.no_such_key", "1", "this kernel has no such key in a container's namespace (ENOENT)"),
            ("net.core.devconf_inherit_init_net", "1", "this kernel has no such key"),
            ("net.ipv6.conf.eth9.disable_ipv6", "1", "there is no interface eth9 (ENOENT)"),
            ("net.ipv4.ip_forward", "maybe", "the kernel does not take this value (EINVAL)"),
            ("net.ipv6.conf.lo.mtu", "5", "the kernel does not take this value (EINVAL)"),
            ("net.ipv4.conf.lo.mc_forwarding", "1", "it is 0 and this process may not write it (EACCES)"),
            ("net.ipv6.conf.lo.mldv1_unsolicited_report_interval", "1", "after the write it reads "),
            ("net.ipv4.route", "1", "it is a folder"),
        ] {
            let text = message(procfs.write(inside, &setting(name, value)), 31);
            assert!(text.contains(words), "{text}");
            assert!(text.contains("annotation io.netlatch.test"), "{text}");
            assert!(!text.to_lowercase().contains("no such file") && !text.contains("os error"), "{text}");
        }
        assert_eq!(procfs.write(inside, &setting("net.ipv4.conf.lo.mc_forwarding", "0")), Ok(Written::Already));
        assert_eq!(procfs.read(inside, &key("net.ipv4.no_such_key")), Ok(None));
    });
}

#[test]
fn fields_may_be_apart_by_blanks_or_tabs() {
    in_new_namespace(|procfs, inside| {
        let wanted = setting("net.ipv4.tcp_rmem", "4096 65536  1048576");
        assert!(matches!(procfs.write(inside, &wanted), Ok(Written::Changed { .. })));
        assert_eq!(now("net.ipv4.tcp_rmem"), "4096\t65536\t1048576");
        assert_eq!(procfs.write(inside, &wanted), Ok(Written::Already));
        let ports = setting("net.ipv4.ip_local_reserved_ports", "8082,8080,8081,99");
        assert!(matches!(procfs.write(inside, &ports), Ok(Written::Changed { .. })));
        assert_eq!(now("net.ipv4.ip_local_reserved_ports"), "99,8080-8082");
    });
}

/// A mount namespace of this thread's own; dies with it.
fn own_mounts() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    run("mount --make-rprivate /");
}

#[test]
fn a_read_only_tree_with_the_right_value_is_no_failure() {
    on_a_thread(|| {
        own_mounts();
        run("mount --bind /proc/sys /proc/sys");
        run("mount -o remount,bind,ro,nosuid,nodev,noexec /proc/sys");
        let procfs = Procfs::open().unwrap();
        let inside = unshared().unwrap();
        assert_eq!(procfs.write(&inside, &setting("net.ipv4.ip_default_ttl", "64")), Ok(Written::Already));
        let text = message(procfs.write(&inside, &setting("net.ipv4.ip_default_ttl", "65")), 31);
        assert!(text.contains("it is 64 and /proc/sys is read-only here (EROFS)"), "{text}");
    });
}

/// Opens /proc/sys after `mounts`, and writes `ip_forward` where that is still possible.
fn beneath(mounts: &'static [&'static str]) -> Result<Written, Failure> {
    on_a_thread(move || {
        own_mounts();
        let inside = unshared().unwrap();
        for line in mounts {
            run(line);
        }
        Procfs::open()?.write(&inside, &setting("net.ipv4.ip_forward", "1"))
    })
}

#[test]
fn a_proc_that_is_none_is_refused() {
    for (mounts, words) in [
        (&["mount -t tmpfs none /proc"][..], "/proc is not a procfs"),
        (&["mount --bind /proc/sys /proc"][..], "/proc is another part of a procfs"),
        (&["mount -t tmpfs none /proc/sys"][..], "something else is mounted over /proc/sys"),
        (&["mount --bind /proc/sys/kernel /proc/sys"][..], "something else is mounted over /proc/sys"),
        (&["mount --bind /proc/sys/net /proc/sys/net"][..], "something is mounted over /proc/sys/net/ipv4/ip_forward"),
        (
            &["mount --bind /proc/sys/net/ipv4/ip_default_ttl /proc/sys/net/ipv4/ip_forward"][..],
            "something is mounted over /proc/sys/net/ipv4/ip_forward (EXDEV)",
        ),
    ] {
        let text = message(beneath(mounts), 30);
        assert!(text.contains(words), "{mounts:?}: {text}");
    }
    assert!(matches!(beneath(&[]), Ok(Written::Changed { .. } | Written::Already)));
    let itself: &[&str] = &["mount --bind /proc/sys /proc/sys"];
    assert!(matches!(beneath(itself), Ok(Written::Changed { .. } | Written::Already)));
}

/// Hears of every IPv6 address in this thread's namespace.
struct AddressMonitor(netlink_sys::Socket);

impl AddressMonitor {
    fn start() -> AddressMonitor {
        const RTNLGRP_IPV6_IFADDR: u32 = 9;
        let mut socket = netlink_sys::Socket::new(netlink_sys::protocols::NETLINK_ROUTE).unwrap();
        socket.bind_auto().unwrap();
        socket.add_membership(RTNLGRP_IPV6_IFADDR).unwrap();
        socket.set_non_blocking(true).unwrap();
        AddressMonitor(socket)
    }

    /// Whether any message so far holds `address`. The kernel queues them while it changes the address.
    fn saw(&self, address: Ipv6Addr) -> bool {
        let mut saw = false;
        while let Ok((bytes, _)) = self.0.recv_from_full() {
            saw |= bytes.windows(16).any(|window| window == address.octets());
        }
        saw
    }
}

fn ipv6_addresses() -> String {
    run("ip -6 -o addr show")
}

#[test]
fn disabled_before_lo_is_up_ipv6_never_appears() {
    in_new_namespace(|procfs, inside| {
        let monitor = AddressMonitor::start();
        let plan = steps(Ipv6::Disable, &origin());
        procfs.apply(inside, &plan).unwrap();
        run("ip link set lo up");
        assert!(!monitor.saw(Ipv6Addr::LOCALHOST));
        assert_eq!(ipv6_addresses(), "");
        assert_eq!(procfs.verify(inside, &plan), Ok(vec![]));
        // The monitor can hear it: the same steps undone.
        procfs.apply(inside, &steps(Ipv6::Enable, &origin())).unwrap();
        assert!(monitor.saw(Ipv6Addr::LOCALHOST));
    });
}

#[test]
fn disabled_with_lo_up_its_address_goes_away() {
    in_new_namespace(|procfs, inside| {
        run("ip link set lo up");
        assert!(ipv6_addresses().contains("::1/128"));
        procfs.apply(inside, &steps(Ipv6::Disable, &origin())).unwrap();
        assert_eq!(ipv6_addresses(), "");
    });
}

#[test]
fn a_late_interface_is_born_without_ipv6() {
    in_new_namespace(|procfs, inside| {
        let plan = steps(Ipv6::Disable, &origin());
        procfs.apply(inside, &plan).unwrap();
        run("ip link add late type veth peer name peer");
        run("ip link set late up");
        run("ip link set peer up");
        assert_eq!(now("net.ipv6.conf.late.disable_ipv6"), "1");
        assert_eq!(ipv6_addresses(), "");
        assert_eq!(procfs.verify(inside, &plan), Ok(vec![]));
    });
}

#[test]
fn all_is_never_trusted_for_an_interface() {
    in_new_namespace(|procfs, inside| {
        run("ip link add v0 type veth peer name v1");
        let plan = steps(Ipv6::Disable, &origin());
        procfs.apply(inside, &plan).unwrap();
        fs::write("/proc/sys/net/ipv6/conf/v0/disable_ipv6", "0").unwrap();
        assert_eq!(now("net.ipv6.conf.all.disable_ipv6"), "1");
        let drifts = procfs.verify(inside, &plan).unwrap();
        let text: Vec<String> = drifts.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["net.ipv6.conf.v0.disable_ipv6 is 0, not 1 (annotation io.netlatch.test)"]);
        let reports = procfs.apply(inside, &plan).unwrap();
        assert_eq!(changed(&reports), ["net.ipv6.conf.v0.disable_ipv6 = 1"]);
    });
}

#[test]
fn loopback_only_leaves_one_address() {
    in_new_namespace(|procfs, inside| {
        run("ip link set lo up");
        run("ip link add v0 type veth peer name v1");
        run("ip link set v0 up");
        run("ip link set v1 up");
        let plan = steps(Ipv6::LoopbackOnly, &origin());
        procfs.apply(inside, &plan).unwrap();
        assert!(ipv6_addresses().contains("::1/128"));
        assert_eq!(ipv6_addresses().lines().count(), 1);
        assert_eq!(procfs.verify(inside, &plan), Ok(vec![]));
    });
}

#[test]
fn enable_undoes_disable_everywhere() {
    in_new_namespace(|procfs, inside| {
        run("ip link add v0 type veth peer name v1");
        procfs.apply(inside, &steps(Ipv6::Disable, &origin())).unwrap();
        fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "0").unwrap();
        fs::write("/proc/sys/net/ipv6/conf/v0/disable_ipv6", "1").unwrap();
        fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        let plan = steps(Ipv6::Enable, &origin());
        procfs.apply(inside, &plan).unwrap();
        for interface in ["all", "default", "lo", "v0", "v1"] {
            assert_eq!(now(&format!("net.ipv6.conf.{interface}.disable_ipv6")), "0", "{interface}");
        }
        assert_eq!(procfs.verify(inside, &plan), Ok(vec![]));
    });
}

/// Every file below `conf/all`, `conf/default` and `conf/lo`, read without our code. What cannot be read is its error.
fn every_file() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for family in ["ipv4", "ipv6"] {
        for folder in ["all", "default", "lo"] {
            let path = format!("/proc/sys/net/{family}/conf/{folder}");
            for entry in fs::read_dir(path).unwrap() {
                let entry = entry.unwrap();
                let value = match fs::read_to_string(entry.path()) {
                    Ok(text) => text.trim_end().to_owned(),
                    Err(error) => format!("{:?}", error.raw_os_error()),
                };
                files.insert(format!("{family}.{folder}.{}", entry.file_name().to_str().unwrap()), value);
            }
        }
    }
    files
}

/// `name: have / want` for what differs.
fn differences(have: &BTreeMap<String, String>, want: &BTreeMap<String, String>) -> Vec<String> {
    assert_eq!(have.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>());
    let differs = have.iter().filter(|(name, value)| want[*name] != **value);
    differs.map(|(name, value)| format!("{name}: {value} / {}", want[name])).collect()
}

/// Gives every file of `all` and `default` that takes one a value that is not the kernel's default, and not the same
/// in both folders where there is a third.
fn disturb() {
    let candidates = ["0", "1", "2", "3", "1300", "70000"];
    for (folder, reverse) in [("all", false), ("default", true)] {
        for family in ["ipv4", "ipv6"] {
            let path = format!("/proc/sys/net/{family}/conf/{folder}");
            for entry in fs::read_dir(path).unwrap() {
                let file = entry.unwrap().path();
                let Ok(old) = fs::read_to_string(&file) else { continue };
                let mut values = candidates.to_vec();
                if reverse {
                    values.reverse();
                }
                // addr_gen_mode 2 is a test of its own.
                if file.ends_with("addr_gen_mode") {
                    values = vec!["1", "0"];
                }
                let other =
                    |value: &&&str| fs::write(&file, value).is_ok() && fs::read_to_string(&file).unwrap() != old;
                let _ = values.iter().find(other);
            }
        }
    }
}

/// `net.core.devconf_inherit_init_net` of the host, held under a lock that other runs of these tests take too.
struct Knob {
    _lock: nix::fcntl::Flock<File>,
    file: Arc<File>,
}

impl Knob {
    fn hold() -> Knob {
        let path = std::env::temp_dir().join("netlatch-devconf.lock");
        let lock = File::create(path).unwrap();
        let lock = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusive).unwrap();
        let knob = "/proc/sys/net/core/devconf_inherit_init_net";
        let file = File::options().read(true).write(true).open(knob).unwrap();
        Knob { _lock: lock, file: Arc::new(file) }
    }

    /// A namespace made under `value`, on the calling thread. The knob is what it was when this returns or panics.
    fn born_under(&self, value: &str) -> Inside {
        struct Restore(Arc<File>, String);
        impl Drop for Restore {
            fn drop(&mut self) {
                put(&self.0, &self.1);
            }
        }
        fn put(mut file: &File, value: &str) {
            file.rewind().unwrap();
            file.write_all(value.as_bytes()).unwrap();
        }
        let mut old = String::new();
        self.file.as_ref().rewind().unwrap();
        self.file.as_ref().read_to_string(&mut old).unwrap();
        let _restore = Restore(Arc::clone(&self.file), old);
        put(&self.file, value);
        unshared().unwrap()
    }
}

#[test]
#[ignore = "needs root in the initial network namespace, whose devconf_inherit_init_net it changes for a moment"]
fn host_is_what_the_knob_at_1_gives() {
    let knob = Knob::hold();
    let procfs = Procfs::open().unwrap();
    let source = procfs.source(Devconf::Host).unwrap();
    let want = on_a_thread(|| {
        let _inside = knob.born_under("1");
        every_file()
    });
    let have = on_a_thread(|| {
        let inside = knob.born_under("2");
        disturb();
        procfs.apply(&inside, &devconf::writes(&source, Ipv6::Leave, &origin()).writes).unwrap();
        every_file()
    });
    // Where the host has IPv6 off by default, these differ by our intention; nothing else may.
    let ours = ["default.disable_ipv6", "default.autoconf", "lo.disable_ipv6", "lo.autoconf"];
    let differs: Vec<_> = differences(&have, &want)
        .into_iter()
        .filter(|line| !ours.iter().any(|name| line.starts_with(&format!("ipv6.{name}:"))))
        .collect();
    assert_eq!(differs, [""; 0]);
}

/// The kernel's 3 is its 1 with the namespace of the creating task in the host's place (one switch over
/// `net_inherit_devconf` in each of `devinet_init_net` and `addrconf_init_net`), so that a "host" whose every value is
/// changed can be tried without changing one.
#[test]
#[ignore = "needs root in the initial network namespace, whose devconf_inherit_init_net it changes for a moment"]
fn host_carries_every_value_but_secrets_and_adds_what_the_kernel_forgets() {
    let knob = Knob::hold();
    let procfs = Procfs::open().unwrap();
    on_a_thread(|| {
        let _host = unshared().unwrap();
        disturb();
        fs::write("/proc/sys/net/ipv6/conf/default/stable_secret", "2001:db8::5ec:2e7").unwrap();
        let host = every_file();
        let source = procfs.source(Devconf::Host).unwrap();
        let writes = devconf::writes(&source, Ipv6::Leave, &origin());
        assert!(!format!("{source:?} {writes:?}").contains("5ec:2e7"));
        let want = on_a_thread(|| {
            let _inside = knob.born_under("3");
            every_file()
        });
        let compiled = on_a_thread(|| {
            let _inside = knob.born_under("2");
            every_file()
        });
        // Or the test would show nothing.
        assert!(differences(&want, &compiled).len() > 200, "{}", differences(&want, &compiled).len());
        for lo_up in [false, true] {
            let (have, eth) = on_a_thread(|| {
                let inside = knob.born_under("2");
                run("ip link add eth0 type veth peer name eth1");
                if lo_up {
                    run("ip link set lo up");
                }
                procfs.apply(&inside, &writes.writes).unwrap();
                assert_eq!(procfs.verify(&inside, &writes.writes), Ok(vec![]));
                let eth = devconf::FOLLOWED.map(|(family, leaf, _)| Key::conf(family, "eth0", leaf).unwrap());
                (every_file(), eth.map(|key| (key.to_string(), now(&key.to_string()))))
            });
            let differs: Vec<String> =
                differences(&have, &want).iter().map(|l| l[..l.find(':').unwrap()].to_owned()).collect();
            assert_eq!(
                differs,
                ["ipv6.default.autoconf", "ipv6.default.disable_ipv6", "ipv6.lo.autoconf", "ipv6.lo.disable_ipv6"]
            );
            for name in ["autoconf", "disable_ipv6"] {
                assert_eq!(have[&format!("ipv6.lo.{name}")], host[&format!("ipv6.default.{name}")]);
            }
            for (name, value) in eth {
                let (family, leaf) = (&name[4..8], &name[name.rfind('.').unwrap() + 1..]);
                assert_eq!(value, host[&format!("{family}.default.{leaf}")], "{name}");
            }
        }
    });
}

#[test]
#[ignore = "needs root in the initial network namespace, whose devconf_inherit_init_net it changes for a moment"]
fn kernel_defaults_is_what_the_knob_at_2_gives() {
    let knob = Knob::hold();
    let procfs = Procfs::open().unwrap();
    let writes = devconf::writes(&procfs.source(Devconf::KernelDefaults).unwrap(), Ipv6::Leave, &origin());
    let want = on_a_thread(|| {
        let _inside = knob.born_under("2");
        every_file()
    });
    on_a_thread(|| {
        let _creator = unshared().unwrap();
        disturb();
        for lo_up in [false, true] {
            let have = on_a_thread(|| {
                let inside = knob.born_under("3");
                if lo_up {
                    run("ip link set lo up");
                }
                assert!(differences(&every_file(), &want).len() > 200);
                procfs.apply(&inside, &writes.writes).unwrap();
                assert_eq!(procfs.verify(&inside, &writes.writes), Ok(vec![]));
                every_file()
            });
            assert_eq!(differences(&have, &want), [""; 0]);
        }
    });
}

#[test]
fn forwarding_is_written_before_what_it_resets() {
    let procfs = Procfs::open().unwrap();
    let source = on_a_thread(|| {
        let _host = unshared().unwrap();
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        assert_eq!(now("net.ipv4.conf.all.accept_redirects"), "0");
        fs::write("/proc/sys/net/ipv4/conf/all/accept_redirects", "1").unwrap();
        fs::write("/proc/sys/net/ipv4/conf/default/forwarding", "0").unwrap();
        procfs.source(Devconf::Host).unwrap()
    });
    let plan = devconf::writes(&source, Ipv6::Leave, &origin()).writes;
    in_new_namespace(|procfs, inside| {
        fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        fs::write("/proc/sys/net/ipv4/conf/all/accept_redirects", "1").unwrap();
        procfs.apply(inside, &plan).unwrap();
        assert_eq!(procfs.verify(inside, &plan), Ok(vec![]));
        assert_eq!(now("net.ipv4.conf.all.accept_redirects"), "1");
        assert_eq!(now("net.ipv4.conf.lo.forwarding"), "0");
    });
}

#[test]
fn an_addr_gen_mode_that_needs_a_secret_is_left_out_by_name() {
    let procfs = Procfs::open().unwrap();
    let source = on_a_thread(|| {
        let _host = unshared().unwrap();
        fs::write("/proc/sys/net/ipv6/conf/default/addr_gen_mode", "2").unwrap();
        procfs.source(Devconf::Host).unwrap()
    });
    let writes = devconf::writes(&source, Ipv6::Leave, &origin());
    let reason = writes.left_alone.iter().find(|left| left.name == "net.ipv6.conf.lo.addr_gen_mode").unwrap();
    assert_eq!(reason.reason, Reason::NeedsSecret);
    in_new_namespace(|procfs, inside| {
        procfs.apply(inside, &writes.writes).unwrap();
        assert_eq!(now("net.ipv6.conf.default.addr_gen_mode"), "2");
        let text = message(procfs.write(inside, &setting("net.ipv6.conf.lo.addr_gen_mode", "2")), 31);
        assert!(text.contains("EINVAL"), "{text}");
    });
}

#[test]
fn the_container_s_own_read_only_mounts_do_not_matter_to_us() {
    // runc makes /proc/sys read-only in the container's mount namespace, where this hook never is.
    in_new_namespace(|procfs, inside| {
        on_a_thread(|| {
            own_mounts();
            run("mount --bind /proc/sys /proc/sys");
            run("mount -o remount,bind,ro,nosuid,nodev,noexec /proc/sys");
            assert!(fs::write("/proc/sys/net/ipv4/ip_forward", "1").is_err());
        });
        let wanted = setting("net.ipv4.ip_default_ttl", "65");
        assert!(matches!(procfs.write(inside, &wanted), Ok(Written::Changed { .. })));
    });
}

#[test]
fn every_file_of_this_kernel_is_written_or_named() {
    let source = Procfs::open().unwrap().source(Devconf::KernelDefaults).unwrap();
    let writes = devconf::writes(&source, Ipv6::Leave, &origin());
    let mut named: BTreeSet<String> = writes
        .writes
        .iter()
        .filter_map(|write| match write {
            Write::One(setting) => Some(setting.key.path().replace('/', ".")[4..].replace(".conf.", ".")),
            Write::EachInterface { .. } => None,
        })
        .collect();
    for left in &writes.left_alone {
        let name = left.name[4..].replace(".conf.", ".");
        named.extend(["all", "default", "lo"].map(|folder| name.replace('*', folder)));
    }
    assert_eq!(every_file().into_keys().collect::<BTreeSet<_>>(), named);
}
