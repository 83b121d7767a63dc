use serde_json::{Value, json};

use super::*;
use crate::oci::Requests;
use crate::plan::{Facts, rules};
use crate::settings::Config;

/// What `runc spec` writes (1.1.5), as far as it matters here.
fn runc_spec() -> Value {
    json!({
        "ociVersion": "1.0.2-dev",
        "process": {
            "args": ["sh"], "user": {"uid": 0, "gid": 0}, "noNewPrivileges": true,
            "capabilities": {
                "bounding": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
                "effective": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
                "permitted": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
            },
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "newinstance"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
            ],
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

/// Changes one place of a configuration.
fn with(mut config: Value, pointer: &str, value: Value) -> Value {
    *config.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
    config
}

fn and(mut config: Value, pointer: &str, values: &[Value]) -> Value {
    let list = config.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}"));
    list.as_array_mut().unwrap().extend_from_slice(values);
    config
}

fn holding(config: Value, capabilities: &[&str]) -> Value {
    let values: Vec<Value> = capabilities.iter().map(|name| json!(name)).collect();
    ["bounding", "effective", "permitted"]
        .iter()
        .fold(config, |config, set| and(config, &format!("/process/capabilities/{set}"), &values))
}

fn bind(source: &str) -> Value {
    json!({"destination": "/x", "type": "bind", "source": source, "options": ["rbind", "ro"]})
}

/// What podman 4.3 adds for `podman run`: its own files, its capabilities, its seccomp profile's rules for sockets.
fn podman_like() -> Value {
    let userdata = "/var/lib/containers/storage/overlay-containers/0123abcd/userdata";
    let own = ["resolv.conf", "hosts", "hostname", ".containerenv"].map(|file| bind(&format!("{userdata}/{file}")));
    let capabilities = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_SETUID", "CAP_SETGID", "CAP_SETFCAP", "CAP_SYS_CHROOT"];
    let config =
        with(holding(and(runc_spec(), "/mounts", &own), &capabilities), "/process/noNewPrivileges", json!(false));
    let rule = |names: &[&str], action: &str, args: Value| json!({"names": names, "action": action, "args": args});
    let mut config = and(
        config,
        "/linux/resources/devices",
        &[json!({"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm"})],
    );
    config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            rule(&["read", "write", "socketcall", "clone", "unshare"], "SCMP_ACT_ALLOW", json!([])),
            rule(&["socket"], "SCMP_ACT_ALLOW", json!([{"index": 2, "value": 9, "op": "SCMP_CMP_NE"}])),
        ],
    });
    config
}

/// What Docker 29 writes for `docker run`: CAP_NET_RAW and CAP_MKNOD are in its set, and its profile goes round two families.
fn docker_like() -> Value {
    let own =
        ["resolv.conf", "hosts", "hostname"].map(|file| bind(&format!("/var/lib/docker/containers/0123abcd/{file}")));
    let capabilities = ["CAP_CHOWN", "CAP_NET_RAW", "CAP_MKNOD", "CAP_SETUID", "CAP_SETPCAP"];
    let config =
        with(holding(and(runc_spec(), "/mounts", &own), &capabilities), "/process/noNewPrivileges", json!(false));
    let mut config = and(
        config,
        "/linux/resources/devices",
        &[
            json!({"allow": true, "type": "c", "major": 1, "minor": 5, "access": "rwm"}),
            json!({"allow": true, "type": "c", "access": "m"}),
            json!({"allow": false, "type": "c", "major": 10, "minor": 229, "access": "rwm"}),
        ],
    );
    let family = |op: &str, value: u64| {
        let args = json!([{"index": 0, "value": value, "op": op}]);
        json!({"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": args})
    };
    config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            {"names": ["read", "write", "socketcall"], "action": "SCMP_ACT_ALLOW"},
            family("SCMP_CMP_LT", 38), family("SCMP_CMP_EQ", 39), family("SCMP_CMP_GT", 40),
        ],
    });
    config
}

fn privileged() -> Value {
    let capabilities = [
        "CAP_SYS_ADMIN",
        "CAP_SYS_MODULE",
        "CAP_SYS_RAWIO",
        "CAP_NET_ADMIN",
        "CAP_NET_RAW",
        "CAP_MKNOD",
        "CAP_SYS_PTRACE",
        "CAP_DAC_READ_SEARCH",
    ];
    let config = with(holding(runc_spec(), &capabilities), "/linux/readonlyPaths", json!([]));
    let config = with(config, "/process/noNewPrivileges", json!(false));
    let all = json!([{"allow": true, "access": "rwm"}]);
    let config = with(config, "/linux/resources/devices", all);
    let mut config = with(config, "/linux/maskedPaths", json!([]));
    config["linux"]["devices"] = json!([{"path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200}]);
    config
}

fn of(config: &Value) -> Vec<NotCovered> {
    under(config, "net-admin: allow\n")
}

fn under(config: &Value, settings: &str) -> Vec<NotCovered> {
    let bundle = Bundle::parse("config.json", config.to_string().as_bytes()).unwrap();
    uncovered(Some(&bundle), &against(settings))
}

fn against(settings: &str) -> Against {
    let settings = Config::parse("c.yaml", format!("{settings}egress: none\n").as_bytes()).unwrap();
    let settings = Settings::decide(Some(settings), Requests::default()).unwrap();
    let rules = rules(&settings, &Facts::default(), None).unwrap();
    Against::planned(&settings, rules.table.as_ref(), rules.filter.as_ref())
}

fn names(config: &Value) -> Vec<&'static str> {
    of(config).iter().map(|one| one.gap.name()).collect()
}

/// The place of one entry; the others do not matter.
fn place(config: &Value, gap: Gap) -> Option<String> {
    of(config).into_iter().find(|one| one.gap == gap).map(|one| one.place)
}

fn golden(config: &Value, wanted: &str) {
    let said: String = of(config).iter().map(|one| format!("{one}\n")).collect();
    assert_eq!(said, wanted, "\n{said}");
}

const NO_PROFILE: &str = "  af-vsock: AF_VSOCK reaches the hypervisor and virtual machines, where the kernel has it, and is no IP (there is no seccomp profile)    (linux.seccomp)\n       deny family 40 by AppArmor or SELinux; or by a seccomp profile without 32-bit architectures, by SCMP_CMP_MASKED_EQ with mask 0xffffffff, and deny io_uring_setup(2) there\n";

#[test]
fn what_runc_spec_writes_leaves_af_vsock() {
    golden(&runc_spec(), NO_PROFILE);
}

#[test]
fn what_podman_writes_leaves_af_vsock() {
    golden(&podman_like(), &NO_PROFILE.replace("there is no seccomp profile", "the seccomp profile allows them"));
}

#[test]
fn what_docker_writes_leaves_what_its_raw_sockets_can_do() {
    golden(
        &docker_like(),
        "  af-xdp: AF_XDP sockets, which CAP_NET_RAW may make where the kernel has them, send past every hook    (process.capabilities.effective)\n       drop CAP_NET_RAW, or deny family 44 as for af-vsock\n\
         \x20 af-vsock: AF_VSOCK reaches the hypervisor and virtual machines, where the kernel has it, and is no IP (the seccomp profile compares 64 bits and lets 2^32 + 40 pass, which the kernel takes for 40)    (linux.seccomp)\n       deny family 40 by AppArmor or SELinux; or by a seccomp profile without 32-bit architectures, by SCMP_CMP_MASKED_EQ with mask 0xffffffff, and deny io_uring_setup(2) there\n\
         \x20 raw-sockets: CAP_NET_RAW is held: packets of AF_PACKET are dropped on their way out; what arrives can be read before the ingress rules see it    (process.capabilities.effective)\n       nothing has to be done; drop CAP_NET_RAW where nobody pings from inside\n",
    );
}

#[test]
fn privileged_is_one_line_whatever_it_consists_of() {
    golden(
        &privileged(),
        "  privileged: it may do to the host's kernel whatever root may: every rule can be removed or gone round    (process.capabilities, linux.resources.devices)\n       run it without --privileged, and name the capabilities and devices it needs\n",
    );
    // Not in a user namespace, and not with one of its parts missing.
    let rootless = and(privileged(), "/linux/namespaces", &[json!({"type": "user"})]);
    assert_eq!(names(&rootless), ["net-admin", "af-xdp", "af-vsock", "tun-device", "writable-proc-sys", "raw-sockets"]);
    let without = with(privileged(), "/linux/resources/devices", json!([{"allow": false}]));
    assert_eq!(
        names(&without),
        ["host-capabilities", "net-admin", "af-xdp", "af-vsock", "tun-device", "writable-proc-sys", "raw-sockets"]
    );
}

#[test]
fn a_missing_bundle_is_said_to_be_missing() {
    let said = uncovered(None, &against(""));
    assert_eq!(
        said.iter().map(|one| (one.gap, one.place.as_str())).collect::<Vec<_>>(),
        [(Gap::BundleMissing, "config.json")]
    );
}

#[test]
fn a_container_in_the_runtimes_network_has_no_rules() {
    let host = with(runc_spec(), "/linux/namespaces", json!([{"type": "pid"}, {"type": "mount"}]));
    assert_eq!(place(&host, Gap::HostNetwork).as_deref(), Some("linux.namespaces"));
    let joined = json!([{"type": "pid"}, {"type": "network", "path": "/run/netns/a"}]);
    assert_eq!(place(&with(runc_spec(), "/linux/namespaces", joined), Gap::HostNetwork), None);
}

#[test]
fn net_admin_is_said_where_the_admin_allows_it() {
    let config = holding(runc_spec(), &["CAP_NET_ADMIN"]);
    let said = of(&config);
    assert_eq!(said[0].gap, Gap::NetAdmin);
    assert!(said[0].what.contains("(c.yaml:1 net-admin)"), "{}", said[0].what);
    assert!(!under(&config, "net-admin: refuse\n").iter().any(|one| one.gap == Gap::NetAdmin));
    assert_eq!(place(&runc_spec(), Gap::NetAdmin), None);
}

#[test]
fn capabilities_over_the_host_count_where_they_are_over_the_host() {
    for capability in OVER_THE_HOST {
        let config = holding(runc_spec(), &[capability]);
        let said = of(&config).into_iter().find(|one| one.gap == Gap::HostCapabilities).expect(capability);
        assert!(said.what.starts_with(capability), "{}", said.what);
        let mapped = and(config, "/linux/namespaces", &[json!({"type": "user"})]);
        assert_eq!(place(&mapped, Gap::HostCapabilities), None, "{capability}");
    }
    assert_eq!(place(&runc_spec(), Gap::HostCapabilities), None);
}

#[test]
fn what_no_new_privileges_keeps_out_of_reach_does_not_count() {
    let bounding = and(runc_spec(), "/process/capabilities/bounding", &[json!("CAP_NET_RAW")]);
    assert_eq!(place(&bounding, Gap::RawSockets), None);
    let gains = with(bounding, "/process/noNewPrivileges", json!(false));
    assert_eq!(place(&gains, Gap::RawSockets).as_deref(), Some("process.capabilities.bounding"));
}

#[test]
fn raw_sockets_are_held_and_af_xdp_is_not() {
    let raw = holding(runc_spec(), &["CAP_NET_RAW"]);
    assert_eq!(names(&raw), ["af-xdp", "af-vsock", "raw-sockets"]);
    assert_eq!(Gap::RawSockets.weight(), Weight::Note);
    let mut without_xdp = raw;
    let rule = |names: Value, args: Value| json!({"names": names, "action": "SCMP_ACT_ERRNO", "args": args});
    let masked =
        |family: u64| json!([{"index": 0, "value": 0xffff_ffff_u64, "valueTwo": family, "op": "SCMP_CMP_MASKED_EQ"}]);
    let both = [rule(json!(["socket"]), masked(44)), rule(json!(["socket"]), masked(40))];
    without_xdp["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": both});
    // The rings make both again.
    let said = of(&without_xdp);
    assert_eq!(said.iter().map(|one| one.gap).collect::<Vec<_>>(), [Gap::IoUring, Gap::RawSockets]);
    assert!(said[0].what.contains("AF_XDP and AF_VSOCK"), "{}", said[0].what);
    let rings = rule(json!(["io_uring_setup"]), json!([]));
    assert_eq!(names(&and(without_xdp, "/linux/seccomp/syscalls", &[rings])), ["raw-sockets"]);
}

#[test]
fn packet_sockets_are_held_by_the_guard_and_by_nothing_else() {
    let config = holding(runc_spec(), &["CAP_NET_RAW"]);
    let first =
        |settings: &str| under(&config, settings).into_iter().find(|one| one.what.contains("AF_PACKET")).unwrap();
    let without = first("net-raw: allow\n");
    assert_eq!((without.gap, without.gap.weight()), (Gap::PacketSockets, Weight::Grave));
    assert!(without.what.contains("pass every rule") && !without.gap.remedy().contains("nothing has to be done"));
    // Where no egress is denied, and where it is only looked at, there is nothing to pass.
    for settings in ["net-raw: allow\nmode: audit\n", "mode: audit\n"] {
        let free = first(settings);
        assert!(free.gap == Gap::RawSockets && free.what.contains("no egress is denied"), "{}", free.what);
    }
}

#[test]
fn control_sockets_are_found_by_name_and_by_the_directories_that_hold_them() {
    for source in [
        "/var/run/docker.sock",
        "/run//podman/./podman.sock",
        "/run/user/1000/podman/podman.sock",
        "/run/containerd",
        "/run/crio/crio.sock",
        "/run/dbus/system_bus_socket",
        "/run/dbus",
        "/run/systemd",
        "/run/nscd",
        "/var/run",
        "/run",
        "/run/user/1000",
        "/run/systemd/resolve/io.systemd.Resolve",
        "/var",
        "/",
        "/var/lib/sss/pipes",
        "/x/../run",
    ] {
        // `/var` holds /var/run in name alone: that is a link out of it.
        let config = and(runc_spec(), "/mounts", &[bind("/srv/data"), bind(source)]);
        assert_eq!(place(&config, Gap::EngineSocket).as_deref(), Some("mounts[7]"), "{source}");
    }
    for source in [
        "/srv/data",
        "/run/containers/storage/x/userdata/resolv.conf",
        "/run/secrets",
        "/var/lib/containers/storage",
        "run",
    ] {
        let config = and(runc_spec(), "/mounts", &[bind(source)]);
        assert_eq!(names(&config), ["af-vsock"], "{source}");
    }
    // A tmpfs of its own at the same place is none.
    let own = json!({"destination": "/run", "type": "tmpfs", "source": "/run"});
    assert_eq!(names(&and(runc_spec(), "/mounts", &[own])), ["af-vsock"]);
}

#[test]
fn what_control_sockets_lead_to_is_named_and_counted() {
    let what = |sources: &[&str]| {
        let mounts: Vec<Value> = sources.iter().map(|source| bind(source)).collect();
        let said = of(&and(runc_spec(), "/mounts", &mounts));
        (said[0].what.clone(), said[0].place.clone())
    };
    assert!(what(&["/run/docker.sock"]).0.starts_with("\"/run/docker.sock\" leads to docker: "));
    assert!(what(&["/run/docker"]).0.starts_with("\"/run/docker\" leads to containerd: "));
    assert!(what(&["/run"]).0.starts_with("\"/run\" leads to docker and "), "{:?}", what(&["/run"]));
    assert!(what(&["/"]).0.starts_with("\"/\" leads to every socket of the host: "));
    assert_eq!(what(&["/run/docker.sock"; 6]).1, "mounts[6], mounts[7], mounts[8], mounts[9] and 2 more");
    // Whatever stands in a name, it stays in its line.
    let hostile = what(&["/run/user/\u{202e}\n1/bus"]).0;
    assert!(!hostile.contains(['\n', '\u{202e}']), "{hostile}");
}

#[test]
fn another_socket_of_the_host_is_one_by_its_name() {
    for source in ["/srv/app/db.sock", "/tmp/agent.socket"] {
        assert_eq!(
            place(&and(runc_spec(), "/mounts", &[bind(source)]), Gap::UnixSockets).as_deref(),
            Some("mounts[6]")
        );
    }
    assert_eq!(place(&and(runc_spec(), "/mounts", &[bind("/srv/socks")]), Gap::UnixSockets), None);
}

/// The name of what a device node, and a rule for it with CAP_MKNOD, lead to.
fn device(path: &str, major: i64, minor: i64) -> (Vec<&'static str>, Vec<&'static str>) {
    let mut node = runc_spec();
    node["linux"]["devices"] = json!([{"path": "/dev/null2", "type": "c", "major": 1, "minor": 3},
        {"path": path, "type": "c", "major": major, "minor": minor}]);
    let rule = json!({"allow": true, "type": "c", "major": major, "minor": minor, "access": "rw"});
    let ruled = and(holding(runc_spec(), &["CAP_MKNOD"]), "/linux/resources/devices", std::slice::from_ref(&rule));
    // A rule alone makes no node.
    assert_eq!(names(&and(runc_spec(), "/linux/resources/devices", &[rule])), ["af-vsock"]);
    (names(&node), names(&ruled))
}

#[test]
fn devices_count_by_number_and_by_place() {
    assert_eq!(device("/dev/net/tun", 10, 200), (vec!["af-vsock", "tun-device"], vec!["af-vsock", "tun-device"]));
    assert_eq!(device("/dev/tap3", 240, 1), (vec!["af-vsock", "tun-device"], vec!["af-vsock"]));
    assert_eq!(device("/dev/vhost-vsock", 10, 241), (vec!["af-vsock", "vhost-vsock"], vec!["af-vsock", "vhost-vsock"]));
    assert_eq!(device("/dev/infiniband/uverbs0", 231, 192), (vec!["rdma", "af-vsock"], vec!["rdma", "af-vsock"]));
    assert_eq!(device("/dev/infiniband/rdma_cm", 10, 121).0, ["rdma", "af-vsock"]);
    assert_eq!(device("/dev/vfio/12", 240, 0), (vec!["device-passthrough", "af-vsock"], vec!["af-vsock"]));
    assert_eq!(device("/dev/uio0", 241, 0).0, ["device-passthrough", "af-vsock"]);
    // These lead nowhere: see above.
    for (path, minor) in [("/dev/fuse", 229), ("/dev/kvm", 232), ("/dev/vhost-net", 238)] {
        assert_eq!(device(path, 10, minor), (vec!["af-vsock"], vec!["af-vsock"]), "{path}");
    }
}

#[test]
fn all_devices_count_where_a_node_can_be_had() {
    let all = and(runc_spec(), "/linux/resources/devices", &[json!({"allow": true, "access": "rwm"})]);
    assert_eq!(place(&all, Gap::AllDevices), None);
    let makes = holding(all.clone(), &["CAP_MKNOD"]);
    assert_eq!(place(&makes, Gap::AllDevices).as_deref(), Some("linux.resources.devices[1]"));
    assert!(place(&and(all, "/mounts", &[bind("/dev")]), Gap::AllDevices).is_some());
    let none = and(makes, "/linux/resources/devices", &[json!({"allow": false, "access": "rwm"})]);
    assert_eq!(place(&none, Gap::AllDevices), None);
}

#[test]
fn processes_of_others_count() {
    let namespaces = |pid: Value| {
        let mut list = vec![json!({"type": "network"})];
        list.extend((!pid.is_null()).then_some(pid));
        with(runc_spec(), "/linux/namespaces", json!(list))
    };
    assert_eq!(names(&namespaces(Value::Null)), ["host-pid", "af-vsock"]);
    assert_eq!(names(&namespaces(json!({"type": "pid", "path": "/proc/1/ns/pid"}))), ["host-pid", "af-vsock"]);
    assert_eq!(names(&namespaces(json!({"type": "pid", "path": "/proc/77/ns/pid"}))), ["shared-pid", "af-vsock"]);
    assert_eq!(names(&namespaces(json!({"type": "pid", "path": ""}))), ["af-vsock"]);
}

#[test]
fn sysctls_that_can_be_written_count() {
    let open = with(runc_spec(), "/linux/readonlyPaths", json!([]));
    assert_eq!(place(&open, Gap::WritableProcSys).as_deref(), Some("mounts[0]"));
    for (pointer, value) in [
        ("/linux/maskedPaths", json!(["/proc/sys/"])),
        ("/linux/readonlyPaths", json!(["/proc"])),
        ("/mounts/0/destination", json!("/elsewhere")),
    ] {
        assert_eq!(place(&with(open.clone(), pointer, value), Gap::WritableProcSys), None, "{pointer}");
    }
    let read_only = json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["ro"]});
    assert_eq!(place(&with(open.clone(), "/mounts/0", read_only), Gap::WritableProcSys), None);
    let over = json!({"destination": "/proc/sys", "type": "bind", "source": "/proc/sys", "options": ["bind", "ro"]});
    assert_eq!(place(&and(open, "/mounts", &[over]), Gap::WritableProcSys), None);
    // The host's own, bound somewhere else.
    let bound = json!({"destination": "/host/proc", "type": "bind", "source": "/proc", "options": ["rbind"]});
    assert_eq!(place(&and(runc_spec(), "/mounts", &[bound]), Gap::WritableProcSys).as_deref(), Some("mounts[6]"));
    assert_eq!(place(&and(runc_spec(), "/mounts", &[bind("/proc")]), Gap::WritableProcSys), None);
}

#[test]
fn every_name_is_a_word_of_its_own_and_ranked_once() {
    let mut names: Vec<&str> = Gap::ALL.iter().map(|gap| gap.name()).collect();
    assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Gap::ALL.len());
}

#[test]
fn a_bundle_of_the_greatest_length_is_looked_at_in_bearable_time() {
    // Quadratic, this would take hours.
    let rules = vec![
        json!({"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]});
        20_000
    ];
    let devices = vec![json!({"allow": true, "type": "c", "major": 7, "minor": 7, "access": "r"}); 5_000];
    let mut config = and(runc_spec(), "/linux/resources/devices", &devices);
    config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules});
    let config = and(config, "/mounts", &vec![bind("/run/docker.sock"); 5_000]);
    let said = of(&config);
    assert_eq!(said.iter().map(|one| one.gap.name()).collect::<Vec<_>>(), ["engine-socket"]);
    assert!(said[0].place.len() < 100, "{}", said[0].place);
}

#[test]
fn the_log_has_one_line_about_what_somebody_asked_for() {
    assert_eq!(grave(&of(&podman_like())), None);
    assert_eq!(grave(&of(&docker_like())).as_deref(), Some("af-xdp"));
    let mounts = vec![bind("/run/docker.sock"); 500];
    assert_eq!(grave(&of(&and(docker_like(), "/mounts", &mounts))).as_deref(), Some("engine-socket, af-xdp"));
    let everything = Gap::ALL.map(|gap| NotCovered { gap, what: String::new(), place: String::new() });
    assert!(grave(&everything).is_some_and(|line| line.len() < 250));
}
