//! `netlatch doctor` on this machine, and `netlatch verify`: `nft`, `ip` and /proc are the judges, and break what is broken.
//! Containers here are processes in namespaces, as in kernel_cli.rs; runtimes_verify.rs has those of runc.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::{Value, json};
use support::container::{Dialect, binary, hook_in};
use support::host::Snapshot;
use support::namespace::end;
use support::outside::{Scene, Wire};
use support::schema::described;
use support::{Container, Namespace};
use tempfile::TempDir;

fn parsed(output: &Output) -> Value {
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let text = String::from_utf8_lossy(&output.stdout);
    described(if text.contains("\"checks\"") { "doctor" } else { "verify" }, &text)
}

fn doctor(prefix: &[&str]) -> Value {
    let binary = binary();
    let words = [prefix, &[binary.to_str().expect("UTF-8"), "doctor", "--json"]].concat();
    parsed(
        &Command::new(words[0])
            .args(&words[1..])
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .output()
            .expect("it runs"),
    )
}

fn check<'r>(report: &'r Value, question: &str) -> &'r Value {
    let checks = report["checks"].as_array().expect("a list");
    checks.iter().find(|check| check["question"] == question).unwrap_or_else(|| panic!("no {question}: {report:#}"))
}

#[test]
fn what_a_start_needs_of_this_kernel_is_tried_and_nothing_is_left_behind() {
    // This thread's namespace is the host here.
    let host = Namespace::new();
    let (before, report, after) = host.within(|| {
        // Modules that trying loads bring sysctls along.
        doctor(&[]);
        let before = Snapshot::take();
        let report = doctor(&[]);
        (before, report, Snapshot::take())
    });
    assert_eq!(before.differences(&after), [""; 0]);
    let checks = report["checks"].as_array().expect("a list");
    let kernel: Vec<&Value> = checks.iter().filter(|check| check["group"] == "kernel").collect();
    let bad: Vec<&&Value> = kernel.iter().filter(|check| check["verdict"] == "problem").collect();
    assert!(bad.is_empty(), "{bad:#?}");
    for tried in [
        "connection tracking",
        "sets of ranges of several fields",
        "telling what was routed",
        "a filter behind every socket",
        "sets whose members come and go",
        "joining a namespace by pidfd",
        "sysctls of a namespace",
    ] {
        assert_eq!(check(&report, tried)["verdict"], "ok", "{tried}");
    }
    assert_eq!(check(&report, "CAP_NET_ADMIN")["verdict"], "ok");
}

#[test]
#[ignore = "mounts over /proc/sys, which the root of a user namespace may not: run by scripts/test.sh as root"]
fn as_the_hosts_root_a_proc_sys_that_cannot_be_written_is_named() {
    let read_only = "mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys && exec \"$@\"";
    let report = doctor(&["unshare", "--mount", "sh", "-c", read_only, "sh"]);
    let found = check(&report, "sysctls of a namespace");
    assert_eq!(found["verdict"], "problem", "{found}");
    assert!(found["finding"].as_str().unwrap().contains("EROFS"), "{found}");
    let covered = "mount -t tmpfs none /proc/sys && exec \"$@\"";
    let report = doctor(&["unshare", "--mount", "sh", "-c", covered, "sh"]);
    assert_eq!(check(&report, "/proc/sys")["verdict"], "problem");
}

#[test]
#[ignore = "gives its own rights up: run by scripts/test.sh as root"]
fn as_the_hosts_root_who_may_try_nothing_is_told_so() {
    // Where the build is may be out of others' reach.
    let dir = tempfile::tempdir().expect("a folder");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
    let copy = dir.path().join("netlatch");
    fs::copy(binary(), &copy).expect("a copy");
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&copy)
        .args(["doctor", "--json"])
        .output()
        .expect("setpriv runs");
    let report = parsed(&output);
    assert_eq!(check(&report, "features")["verdict"], "warning");
    assert!(check(&report, "features")["finding"].as_str().unwrap().contains("CAP_SYS_ADMIN"), "{report:#}");
    assert_eq!(check(&report, "CAP_NET_ADMIN")["verdict"], "warning");
    let verify = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&copy)
        .args(["verify", "--all"])
        .output()
        .expect("setpriv runs");
    assert_eq!(verify.status.code(), Some(27), "nobody is told that all is well who may not look");
}

/// `doctor` in a mount namespace of its own where the hook is installed at /opt/netlatch and `breaks` was run; whatever is mounted
/// ends with it.
fn installed_then(breaks: &str) -> Value {
    let script = format!(
        "for dir in /opt /usr/share; do mount -t tmpfs -o mode=755 none $dir; done
        \"$1\" install --path /opt/netlatch >/dev/null && {breaks} && shift && exec \"$@\""
    );
    let binary = binary();
    let binary = binary.to_str().expect("UTF-8");
    doctor(&["unshare", "--mount", "sh", "-c", &script, "sh", binary])
}

#[test]
#[ignore = "mounts over the host's folders, which the root of a user namespace may not: run by scripts/test.sh as root"]
fn as_the_hosts_root_a_program_that_does_not_start_is_named() {
    let header = r"printf '\177ELF\2\1\1\0\0\0\0\0\0\0\0\0\2\0\0\377\1\0\0\0' >/opt/netlatch";
    let said = |line: &str| format!("printf '#!/bin/sh\n{line}\n' >/opt/netlatch");
    let old = "mount -t tmpfs -o mode=755 none /usr/local/bin \
        && printf '#!/bin/sh\necho netlatch 0.0.9\n' >/usr/local/bin/netlatch && chmod 755 /usr/local/bin/netlatch";
    for (breaks, question, verdict, says) in [
        ("true".to_owned(), "program", "ok", "/opt/netlatch, netlatch "),
        (header.to_owned(), "program", "problem", "does not start: it is another architecture's"),
        (said("exit 3"), "program", "problem", "does not start: it does not say its version"),
        (
            "printf '#!/nowhere\n' >/opt/netlatch".to_owned(),
            "program",
            "problem",
            "its interpreter or loader is not there",
        ),
        ("mount -o remount,noexec /opt".to_owned(), "program", "problem", "its file system is mounted noexec"),
        (said("echo netlatch 0.0.9"), "program", "warning", "says it is \\\"netlatch 0.0.9\\\", and this is netlatch"),
        ("echo >>/opt/netlatch".to_owned(), "program", "warning", "and is another build"),
        (old.to_owned(), "command", "warning", "/usr/local/bin/netlatch says it is \\\"netlatch 0.0.9\\\""),
        (
            "mv /opt/netlatch /opt/other && chown 1 /opt/other && ln -s /opt/other /opt/netlatch".to_owned(),
            "program",
            "problem",
            "runs as root, and it belongs to user 1",
        ),
    ] {
        let report = installed_then(&breaks);
        let found = check(&report, question);
        assert_eq!(found["verdict"], verdict, "{breaks}: {found:#}");
        assert!(found["finding"].to_string().contains(says), "{breaks}: {found:#}");
    }
    let read_only = installed_then("mount --bind /run /run && mount -o remount,ro,bind /run");
    assert_eq!(check(&read_only, "state directory")["verdict"], "problem");
}

/// A host with its files.
struct Host {
    dir: TempDir,
    config: String,
}

impl Host {
    fn new() -> Host {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir(dir.path().join("policies")).expect("a folder");
        let config = format!("policies: {}\n", dir.path().join("policies").display());
        Host { dir, config }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn start(&self, container: &Container) {
        let output = hook_in(&self.dir, "createRuntime", &container.state(Dialect::Runc), Some(&self.config));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn verify(&self, args: &[&str]) -> Output {
        fs::write(self.path("config.yaml"), &self.config).expect("a file");
        let mut command = Command::new(binary());
        command.arg("verify").args(args).arg("--config").arg(self.path("config.yaml"));
        command.arg("--run-dir").arg(self.path("run")).arg("--hooks-dir").arg(self.path("hooks.d")).env_clear();
        command.output().expect("netlatch runs")
    }

    /// What is said of one container, with the exit code.
    fn of(&self, id: &str) -> (String, Vec<String>, i32) {
        let output = self.verify(&[id, "--json"]);
        let report = parsed(&output);
        let one = &report["containers"][0];
        let details = one["details"].as_array().expect("a list").iter().map(|line| line.as_str().unwrap().to_owned());
        (one["state"].as_str().expect("a word").to_owned(), details.collect(), output.status.code().expect("a code"))
    }

    /// The same of all, by id.
    fn all(&self, dirs: &[String]) -> (Vec<(String, String)>, i32) {
        let dirs: Vec<&str> = dirs.iter().flat_map(|dir| ["--state-dir", dir]).collect();
        let output = self.verify(&[&["--all", "--json"], &dirs[..]].concat());
        let report = parsed(&output);
        let word = |one: &Value, key: &str| one[key].as_str().expect("a word").to_owned();
        let containers = report["containers"].as_array().expect("a list");
        let mut all: Vec<_> = containers.iter().map(|one| (word(one, "id"), word(one, "state"))).collect();
        all.sort();
        (all, output.status.code().expect("a code"))
    }
}

const LISTS: &str =
    "10.0.0.0/8:443, @internet:443, 192.0.2.0/24:53-60, icmp/198.51.100.0/24, udp/[2001:db8::/32]:53, !10.9.9.0/24";

fn protected(host: &Host, namespace: &Namespace) -> Container {
    let container =
        Container::of(namespace).with("egress", LISTS).with("ingress", "none").with("ipv6", "loopback-only");
    host.start(&container);
    container
}

#[test]
fn a_container_as_it_was_started_is_as_recorded() {
    let (host, namespace) = (Host::new(), Namespace::new());
    let container = protected(&host, &namespace);
    assert_eq!(host.of(&container.id), ("as recorded".to_owned(), vec![], 0));
    // By a beginning of its id, as engines take it.
    assert_eq!(host.of(&container.id[..6]).2, 0);
    let without = Namespace::new();
    let free = Container::of(&without);
    host.start(&free);
    assert_eq!(host.of(&free.id), ("no rules, as recorded".to_owned(), vec![], 0));
}

#[test]
fn every_drift_is_named() {
    type Drift = Box<dyn Fn(&Namespace)>;
    let nft = |rules: &'static str| move |namespace: &Namespace| namespace.nft_load(rules);
    let cases: [(Drift, &[&str]); 10] = [
        (Box::new(nft("flush ruleset")), &["the rules are gone: there is no table inet netlatch"]),
        (Box::new(nft("insert rule inet netlatch output counter accept")), &["chain output: added: counter accept"]),
        (
            Box::new(nft("flush chain inet netlatch egress")),
            &["chain egress: missing: ", "(# annotation io.netlatch.egress"],
        ),
        (Box::new(nft("delete table netdev netlatch")), &["guard against packet sockets: "]),
        (
            Box::new(nft("insert rule netdev netlatch egress accept")),
            &["guard against packet sockets: chain egress has "],
        ),
        (Box::new(nft("add chain inet netlatch mine")), &["chain mine"]),
        (Box::new(nft("add table inet netlatch { flags dormant; }")), &["dormant"]),
        (
            Box::new(|n: &Namespace| n.set_sysctl("net/ipv6/conf/default/disable_ipv6", "0")),
            &["sysctl net.ipv6.conf.default.disable_ipv6 is 0, not 1"],
        ),
        (Box::new(|n: &Namespace| n.ip_batch("link set lo down\n")), &["lo is down"]),
        (
            Box::new(nft("flush chain inet netlatch output\nadd rule inet netlatch output accept")),
            &["chain output: missing: ", "chain output: added: accept"],
        ),
    ];
    for (drift, says) in cases {
        let (host, namespace) = (Host::new(), Namespace::new());
        let container = protected(&host, &namespace);
        drift(&namespace);
        let (state, details, code) = host.of(&container.id);
        assert_eq!((state.as_str(), code), ("drift", 1), "{says:?}: {details:?}");
        for says in says {
            assert!(details.iter().any(|detail| detail.contains(says)), "{says}: {details:#?}");
        }
        assert_eq!(host.all(&[]).1, 1);
    }
}

#[test]
fn a_changed_configuration_is_told_from_drift() {
    let (mut host, namespace) = (Host::new(), Namespace::new());
    let container = protected(&host, &namespace);
    host.config.push_str("egress: 10.0.0.0/8\n");
    let (state, details, code) = host.of(&container.id);
    assert_eq!((state.as_str(), code), ("configuration changed", 1), "{details:?}");
    assert!(details.iter().any(|detail| detail.contains("netlatch reload")), "{details:?}");
    // What is gone is gone, whatever changed.
    namespace.nft_load("flush ruleset");
    assert!(host.of(&container.id).1[0].contains("the rules are gone"));
}

#[test]
fn who_is_not_there_is_not_said_to_be_well() {
    let (host, namespace) = (Host::new(), Namespace::new());
    let container = protected(&host, &namespace);
    let nobody = host.verify(&["nobody"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nobody.stdout).contains("no container \"nobody\""));
    end(container.pid);
    assert_eq!(host.of(&container.id).0, "has ended");
    assert_eq!(host.of(&container.id).2, 1);
    // Of all, those that run.
    assert_eq!(host.all(&["runc=/nonexistent".to_owned()]), (vec![], 0));
}

#[test]
fn a_damaged_record_is_not_passed_over() {
    let (host, namespace) = (Host::new(), Namespace::new());
    let container = protected(&host, &namespace);
    fs::write(host.path("run/containers").join(format!("{}.json", container.id)), "{").expect("a file");
    let none = "runc=/nonexistent".to_owned();
    assert_eq!(host.all(&[none]), (vec![(container.id.clone(), "unknown".to_owned())], 1));
    assert_eq!(host.of(&container.id).0, "unknown");
}

#[test]
fn what_is_missing_at_the_hosts_side_is_drift() {
    let started = || Scene::started(Wire::Routed, "host-side", &[("egress", "10.9.0.0/16:443")]);
    let verify = |scene: &Scene| {
        let mut command = Command::new(binary());
        command.args(["verify", &scene.container.id, "--json", "--run-dir"]).arg(scene.run_dir());
        command.arg("--config").arg(scene.run_dir().with_file_name("config.yaml")).env_clear();
        let output = scene.host.within(|| command.output().expect("netlatch runs"));
        let one = parsed(&output)["containers"][0].clone();
        (one["state"].as_str().expect("a word").to_owned(), one["details"].to_string(), output.status.code())
    };
    let scene = started();
    assert_eq!(verify(&scene), ("as recorded".to_owned(), "[]".to_owned(), Some(0)));
    let table = format!("netlatch-{}", scene.container.id);
    scene.host.nft_load(&format!("flush chain netdev {table} egress"));
    let (state, details, code) = verify(&scene);
    assert_eq!((state.as_str(), code), ("drift", Some(1)), "{details}");
    assert!(details.contains("at the host's side: the kernel's table differs: chain egress has 0 rules"), "{details}");
    scene.host.nft_load(&format!("delete table netdev {table}"));
    let (state, details, code) = verify(&scene);
    assert_eq!((state.as_str(), code), ("drift", Some(1)), "{details}");
    assert!(details.contains(&format!("at the host's side: table netdev {table} is gone")), "{details}");
}

/// A config.json, and the folders of every runtime and engine as they keep a container of this pid.
fn kept(host: &Host, layout: &str, id: &str, pid: i32, config: &Value) -> String {
    let dir = host.path(layout);
    let write = |path: PathBuf, text: String| {
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    };
    let bundle = host.path("bundles").join(id);
    write(bundle.join("config.json"), config.to_string());
    match layout {
        "runc" => {
            let state = json!({"id": id, "init_process_pid": pid, "config": {"labels": [format!("bundle={}", bundle.display())]}});
            write(dir.join(id).join("state.json"), state.to_string());
        }
        "crun" => write(dir.join(id).join("status"), json!({"pid": pid, "bundle": bundle}).to_string()),
        "youki" => write(dir.join(id).join("state.json"), json!({"id": id, "pid": pid, "bundle": bundle}).to_string()),
        "containerd" => {
            write(dir.join("k8s.io").join(id).join("init.pid"), pid.to_string());
            write(dir.join("k8s.io").join(id).join("config.json"), config.to_string());
        }
        "storage" => {
            write(dir.join("overlay-containers").join(id).join("userdata/pidfile"), format!("{pid}\n"));
            write(dir.join("overlay-containers").join(id).join("userdata/config.json"), config.to_string());
        }
        other => panic!("{other}"),
    }
    format!("{layout}={}", dir.display())
}

const LAYOUTS: [&str; 5] = ["runc", "crun", "youki", "containerd", "storage"];

#[test]
fn who_runs_without_the_hook_is_named_whoever_started_it() {
    let calls = json!({"createRuntime": [{"path": "/usr/libexec/oci/hooks.d/netlatch", "args": ["netlatch", "createRuntime"]}]});
    for layout in LAYOUTS {
        let host = Host::new();
        let of = |config: Value| (Namespace::new(), config);
        let asked = of(json!({"annotations": {"io.netlatch.egress": "none"}}));
        let hooked = of(json!({"hooks": calls}));
        let plain = of(json!({"hooks": {"createRuntime": [{"path": "/bin/true"}]}}));
        let sandbox = of(json!({"hooks": calls, "annotations": {"io.kubernetes.cri-o.ContainerType": "sandbox"}}));
        let own = Container::of(&Namespace::new());
        let mut dirs = Vec::new();
        for (id, (namespace, config)) in
            [("asked", &asked), ("hooked", &hooked), ("plain", &plain), ("sandbox", &sandbox)]
        {
            dirs = vec![kept(&host, layout, id, namespace.pid(), config)];
        }
        // On the host's network, and one whose process is gone.
        let here = i32::try_from(std::process::id()).expect("a pid");
        kept(&host, layout, "hostly", here, &json!({}));
        kept(&host, layout, "gone", own.pid, &json!({"hooks": calls}));
        let (all, code) = host.all(&dirs);
        let said: Vec<(&str, &str)> = all.iter().map(|(id, state)| (id.as_str(), state.as_str())).collect();
        let expected = [
            ("asked", "unprotected"),
            ("hooked", "unprotected"),
            ("hostly", "host network"),
            ("plain", "without netlatch"),
            ("sandbox", "sandbox"),
        ];
        assert_eq!((said, code), (expected.to_vec(), 1), "{layout}");
    }
}

#[test]
fn who_was_started_again_without_the_hook_is_not_taken_for_who_it_was() {
    let (host, namespace) = (Host::new(), Namespace::new());
    let container = protected(&host, &namespace);
    end(container.pid);
    let again = Namespace::new();
    let config = json!({"annotations": {"io.netlatch.egress": LISTS}});
    let dir = kept(&host, "crun", &container.id, again.pid(), &config);
    assert_eq!(host.all(std::slice::from_ref(&dir)), (vec![(container.id.clone(), "unprotected".to_owned())], 1));
    let one = parsed(&host.verify(&[&container.id, "--json", "--state-dir", &dir]));
    assert_eq!(one["containers"][0]["state"], "unprotected", "{one:#}");
}

#[test]
fn who_nobody_asked_to_protect_is_a_problem_only_when_told() {
    let (host, namespace) = (Host::new(), Namespace::new());
    let dir = kept(&host, "storage", "plain", namespace.pid(), &json!({}));
    assert_eq!(host.all(std::slice::from_ref(&dir)), (vec![("plain".to_owned(), "without netlatch".to_owned())], 0));
    assert_eq!(host.verify(&["--all", "--strict", "--state-dir", &dir]).status.code(), Some(1));
    // A hook file for every container is one that asks, where engines read such.
    fs::create_dir(host.path("hooks.d")).expect("a folder");
    let always = concat!(env!("CARGO_MANIFEST_DIR"), "/hooks.d/always/10-netlatch-createRuntime.json");
    fs::copy(always, host.path("hooks.d/10-netlatch-createRuntime.json")).expect("a copy");
    assert_eq!(host.all(std::slice::from_ref(&dir)), (vec![("plain".to_owned(), "unprotected".to_owned())], 1));
    // runc alone reads none.
    fs::remove_dir_all(host.path("storage")).expect("it was there");
    let dir = kept(&host, "runc", "plain", namespace.pid(), &json!({}));
    assert_eq!(host.all(&[dir]).1, 0);
}

#[test]
fn one_container_in_two_folders_is_one_and_a_recorded_one_is_compared() {
    let (host, namespace) = (Host::new(), Namespace::new());
    let container = protected(&host, &namespace);
    let config = json!({"annotations": {"io.netlatch.egress": LISTS}});
    let dirs = ["crun", "storage"].map(|layout| kept(&host, layout, &container.id, container.pid, &config));
    assert_eq!(host.all(&dirs), (vec![(container.id.clone(), "as recorded".to_owned())], 0));
    // A neighbour in the same network, and one whose record was lost.
    let neighbour = namespace.process();
    kept(&host, "crun", "neighbour", neighbour, &json!({}));
    let (all, code) = host.all(&dirs);
    assert_eq!(all[0], ("neighbour".to_owned(), "shared network".to_owned()));
    assert_eq!(code, 0);
    fs::remove_dir_all(host.path("run/containers")).expect("it was there");
    let (all, code) = host.all(&dirs);
    assert!(all.iter().all(|(_, state)| state == "no record"), "{all:?}");
    assert_eq!((all.len(), code), (2, 1));
}

#[test]
fn state_of_others_neither_holds_up_nor_misleads() {
    let (host, namespace) = (Host::new(), Namespace::new());
    let dir = kept(&host, "crun", "good", namespace.pid(), &json!({"annotations": {"io.netlatch.egress": "none"}}));
    let folder = host.path("crun");
    for name in ["pipe", "link", "open", "garbage", "huge", "negative"] {
        fs::create_dir(folder.join(name)).expect("a folder");
    }
    let status = json!({"pid": namespace.pid()}).to_string();
    nix::unistd::mkfifo(&folder.join("pipe/status"), nix::sys::stat::Mode::S_IRUSR).expect("a pipe");
    std::os::unix::fs::symlink(folder.join("good/status"), folder.join("link/status")).expect("a link");
    fs::write(folder.join("open/status"), &status).expect("a file");
    fs::set_permissions(folder.join("open/status"), fs::Permissions::from_mode(0o666)).expect("a mode");
    fs::write(folder.join("garbage/status"), "{\"pid\": \"").expect("a file");
    fs::write(folder.join("huge/status"), json!({"pid": u64::MAX}).to_string()).expect("a file");
    fs::write(folder.join("negative/status"), json!({"pid": -1}).to_string()).expect("a file");
    // Nobody is passed over in silence but those without a process.
    let said = ["garbage", "link", "open", "pipe"].map(|id| (id.to_owned(), "unknown".to_owned()));
    let (all, code) = host.all(std::slice::from_ref(&dir));
    let good = ("good".to_owned(), "unprotected".to_owned());
    assert_eq!((all, code), ([&said[..1], &[good], &said[1..]].concat(), 1));
    let one = parsed(&host.verify(&["open", "--json", "--state-dir", &dir]));
    let details = one["containers"][0]["details"].to_string();
    assert!(details.contains("may be written by others (mode 0666) and is not believed"), "{details}");
}
