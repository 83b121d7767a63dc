//! `netlatch doctor --root`: machines as folders, whole and broken in each way in which an engine passes over the hook in
//! silence, or stops every start. What it says of the machine itself is in kernel_doctor.rs.

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use support::container::binary;
use support::schema::described;

const PROGRAM: &str = "/usr/libexec/oci/hooks.d/netlatch";
const HOOKS_D: &str = "/usr/share/containers/oci/hooks.d";
const CREATE: &str = "/usr/share/containers/oci/hooks.d/10-netlatch-createRuntime.json";

/// A machine's files in a folder.
struct Machine {
    dir: tempfile::TempDir,
}

impl Machine {
    /// Nothing is installed.
    fn bare() -> Machine {
        let machine = Machine { dir: tempfile::tempdir().expect("a folder") };
        machine.mode("/", 0o755);
        machine.program("/usr/sbin/runc");
        machine
    }

    /// One with podman, on which the hook is installed as the guide about engines says.
    fn with_podman() -> Machine {
        let machine = Machine::bare();
        machine.program("/usr/bin/podman");
        machine.hook(HOOKS_D, "");
        machine
    }

    /// Puts the program and a set of hook files in place.
    fn hook(&self, folder: &str, set: &str) {
        self.program(PROGRAM);
        for stage in ["createRuntime", "poststart", "poststop"] {
            let name = format!("10-netlatch-{stage}.json");
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("hooks.d").join(set).join(&name);
            self.write(&format!("{folder}/{name}"), &fs::read_to_string(file).expect("a hook file"));
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    /// Whatever the umask says: others may write nothing.
    fn mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(mode)).expect("a mode");
    }

    fn write(&self, path: &str, text: &str) {
        let folders: Vec<&Path> = Path::new(path).ancestors().skip(1).collect();
        for folder in folders.iter().rev().filter_map(|folder| folder.to_str()).filter(|folder| *folder != "/") {
            if !self.path(folder).exists() {
                fs::create_dir(self.path(folder)).expect("a folder");
                self.mode(folder, 0o755);
            }
        }
        fs::write(self.path(path), text).expect("a file");
        self.mode(path, 0o644);
    }

    fn program(&self, path: &str) {
        self.write(path, "#!/bin/sh\nexit 1\n");
        self.mode(path, 0o755);
    }

    fn remove(&self, path: &str) {
        let path = self.path(path);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("it was there");
    }

    /// Changes a JSON file.
    fn edit(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut document = serde_json::from_str(&fs::read_to_string(self.path(path)).expect("a file")).expect("JSON");
        change(&mut document);
        self.write(path, &document.to_string());
    }

    fn doctor(&self, args: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.arg("doctor").arg("--root").arg(self.dir.path()).args(args).env_clear();
        command.output().expect("netlatch runs")
    }

    /// What it finds, with the exit code.
    fn asked(&self, args: &[&str]) -> (Vec<Value>, i32) {
        let output = self.doctor(&[&["--json"], args].concat());
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        let report = described("doctor", &String::from_utf8_lossy(&output.stdout));
        let checks = report["checks"].as_array().expect("a list").clone();
        let count = |verdict: &str| checks.iter().filter(|check| check["verdict"] == verdict).count();
        assert_eq!(report["problems"], count("problem"));
        assert_eq!(report["warnings"], count("warning"));
        for check in &checks {
            let bad = ["problem", "warning"].contains(&check["verdict"].as_str().expect("a word"));
            assert_eq!(check["remedy"].is_string(), bad, "a remedy precisely where something is wrong: {check}");
            assert!(check["finding"].as_str().is_some_and(|finding| !finding.is_empty()), "{check}");
        }
        (checks, output.status.code().expect("a code"))
    }

    /// The findings of one verdict.
    fn said(&self, verdict: &str) -> Vec<String> {
        let of =
            |check: &Value| format!("{}: {}", check["question"].as_str().unwrap(), check["finding"].as_str().unwrap());
        self.asked(&[]).0.iter().filter(|check| check["verdict"] == verdict).map(of).collect()
    }

    /// Precisely one problem, which says this; `file` is where.
    fn has_one_problem(&self, says: &str, file: &str) {
        let (checks, code) = self.asked(&[]);
        let problems: Vec<&Value> = checks.iter().filter(|check| check["verdict"] == "problem").collect();
        assert_eq!(problems.len(), 1, "{says}: {problems:#?}");
        assert!(problems[0]["finding"].as_str().unwrap().contains(says), "{says}: {:#}", problems[0]);
        assert_eq!(code, 1, "{says}");
        if !file.is_empty() {
            assert_eq!(problems[0]["file"], self.path(file).display().to_string(), "{says}: {:#}", problems[0]);
        }
    }

    fn is_well(&self) {
        let (checks, code) = self.asked(&["--strict"]);
        let bad = |check: &&Value| ["problem", "warning"].contains(&check["verdict"].as_str().unwrap());
        assert_eq!((checks.iter().filter(bad).collect::<Vec<_>>(), code), (vec![], 0));
    }
}

#[test]
fn a_machine_with_podman_is_well_and_hears_of_no_other_engine() {
    for set in ["", "always"] {
        let machine = Machine::with_podman();
        machine.hook(HOOKS_D, set);
        machine.is_well();
        let text = String::from_utf8(machine.doctor(&[]).stdout).expect("UTF-8");
        let whom = if set.is_empty() { "annotated containers" } else { "every container" };
        assert!(text.contains(&format!("calls the hook for {whom}")), "{text}");
        for other in ["CRI-O", "containerd", "docker"] {
            assert_eq!(text.matches(other).count(), 1, "{text}");
        }
        assert!(text.ends_with("0 problems, 0 warnings\n"), "{text}");
    }
}

#[test]
fn what_starts_containers_without_the_hook_is_a_problem() {
    type Break = fn(&Machine);
    let cases: [(Break, &str, &str); 14] = [
        (|m| m.remove(PROGRAM), "is not there: podman passes over the hook file in silence", CREATE),
        (|m| m.mode(PROGRAM, 0o644), "cannot be executed", CREATE),
        (|m| m.remove("/usr/share/containers"), "no hook file of netlatch's in", ""),
        (|m| m.remove(CREATE), "no hook file in /usr/share/containers/oci/hooks.d names createRuntime", ""),
        (
            |m| {
                m.remove("/usr/share/containers");
                m.hook("/etc/containers/oci/hooks.d", "");
            },
            "the hook files are in /etc/containers/oci/hooks.d, and it reads /usr/share/containers/oci/hooks.d (by default)",
            "/etc/containers/oci/hooks.d/10-netlatch-createRuntime.json",
        ),
        (
            |m| m.write("/etc/containers/containers.conf", "[engine]\nhooks_dir = [\"/etc/hooks\"]\n"),
            "the hook files are in /usr/share/containers/oci/hooks.d, and it reads /etc/hooks (as ",
            CREATE,
        ),
        (
            |m| m.write("/etc/containers/containers.conf.d/90-mine.conf", "[engine]\nhooks_dir = []\n"),
            "containers start without the hook",
            CREATE,
        ),
        (
            |m| {
                m.write("/etc/hooks/10-netlatch-createRuntime.json", r#"{"version": "1.0.0", "hook": {"path": "/bin/true"}, "when": {"always": true}, "stages": ["createRuntime"]}"#);
                m.write(
                    "/etc/containers/containers.conf",
                    &format!("[engine]\nhooks_dir = [\"{HOOKS_D}\", \"/etc/hooks\"]\n"),
                );
            },
            "a later folder has another file named 10-netlatch-createRuntime.json, and that one counts",
            CREATE,
        ),
        (
            |m| m.edit(CREATE, |file| file["when"] = json!({})),
            "`when` has no condition: the hook is never called",
            CREATE,
        ),
        (
            |m| m.edit(CREATE, |file| file["when"] = json!({"always": false})),
            "`when` has no condition: the hook is never called",
            CREATE,
        ),
        (
            |m| m.edit(CREATE, |file| file["when"] = json!({"annotations": {"^io\\.netlatch\\.egress$": ".*"}})),
            "a container with no other annotation than io.netlatch.ingress starts without the hook (and 9 more)",
            CREATE,
        ),
        (
            // The dot of Go's expressions takes no newline, and a list may have some.
            |m| m.edit(CREATE, |file| file["when"] = json!({"annotations": {"^io\\.netlatch\\.": "^.*$"}})),
            "a container with no other annotation than io.netlatch.egress starts without",
            CREATE,
        ),
        (
            |m| m.edit(CREATE, |file| file["stages"] = json!([])),
            "names createRuntime: containers start without rules",
            "",
        ),
        (
            |m| m.edit(CREATE, |file| file["hook"]["args"] = json!(["netlatch", "poststop"])),
            "registered under createRuntime and called with \"poststop\"",
            CREATE,
        ),
    ];
    for (index, (broken, says, file)) in cases.into_iter().enumerate() {
        let machine = Machine::with_podman();
        broken(&machine);
        if index == 12 {
            // Once by the engine's answer, once by the file's.
            assert_eq!(machine.said("problem").len(), 2);
            assert!(machine.said("problem")[0].contains(says), "{:?}", machine.said("problem"));
            continue;
        }
        machine.has_one_problem(says, file);
    }
}

#[test]
fn what_keeps_every_container_from_starting_is_a_problem() {
    type Break = fn(&Machine);
    let foreign = "/usr/share/containers/oci/hooks.d/50-other.json";
    let cases: [(Break, &str, &str); 17] = [
        (
            |m| m.write(CREATE, "{\"version\": "),
            "it is not JSON (line 1, column 12): no container of the host starts",
            CREATE,
        ),
        (|m| m.write("/usr/share/containers/oci/hooks.d/50-other.json", "{"), "it is not JSON", foreign),
        (
            |m| {
                m.write(
                    "/usr/share/containers/oci/hooks.d/50-other.json",
                    r#"{"version": "1.0.0", "hook": {"path": "/bin/true"}, "stages": ["prestrat"]}"#,
                )
            },
            "there is no stage \"prestrat\": no container of the host starts",
            foreign,
        ),
        (
            |m| m.edit(CREATE, |file| file["stages"] = json!(["createRuntime", "createruntime"])),
            "there is no stage \"createruntime\"",
            CREATE,
        ),
        (
            |m| m.edit(CREATE, |file| file["stages"] = json!(["createRuntime", "createContainer"])),
            "createContainer runs inside the container's namespaces",
            CREATE,
        ),
        (
            |m| m.edit(CREATE, |file| file["version"] = json!("2.0.0")),
            "there is no version \"2.0.0\" of hook files",
            CREATE,
        ),
        (|m| m.edit(CREATE, |file| file["hook"]["args"] = json!(["netlatch"])), "no stage among the arguments", CREATE),
        (
            |m| m.edit(CREATE, |file| file["hook"]["args"] = json!(["netlatch", "createRuntime", "--verbose"])),
            "unknown argument \"--verbose\"",
            CREATE,
        ),
        (
            |m| {
                m.edit(CREATE, |file| {
                    file["hook"]["args"] = json!(["netlatch", "createRuntime", "--config", "/etc/mine.yaml"])
                })
            },
            "it names the configuration /etc/mine.yaml, which is not there: every start fails",
            CREATE,
        ),
        (|m| m.edit(CREATE, |file| file["hook"]["timeout"] = json!(0)), "runc kills the hook at once", CREATE),
        (|m| m.edit(CREATE, |file| file["hook"]["path"] = json!("netlatch")), "is no absolute path", CREATE),
        (
            |m| m.edit(CREATE, |file| file["when"] = json!({"annotations": {"(": ".*"}})),
            "an expression cannot be read",
            CREATE,
        ),
        (
            |m| m.write("/etc/containers/containers.conf", "[engine\n"),
            "its configuration is not TOML",
            "/etc/containers/containers.conf",
        ),
        (|m| m.write("/etc/netlatch/config.yaml", "egres: none\n"), "config.yaml:1:1:", ""),
        (|m| m.write("/etc/netlatch/policies/a.yaml", "kind: Nothing\n"), "a.yaml:1:", ""),
        (
            |m| {
                m.write("/run/netlatch/lock", "");
                m.mode("/run/netlatch", 0o777)
            },
            "it may be written by others (mode 0777)",
            "",
        ),
        (|m| m.write("/run/netlatch", ""), "is no folder", ""),
    ];
    for (broken, says, file) in cases {
        let machine = Machine::with_podman();
        broken(&machine);
        if says.starts_with("it is not JSON (line 1, column 12)") || says.starts_with("there is no version") {
            // No file serves createRuntime then, and podman would say so as well.
            let said = machine.said("problem");
            assert!(said.iter().any(|one| one.contains(says)), "{says}: {said:?}");
            continue;
        }
        machine.has_one_problem(says, file);
    }
}

#[test]
fn another_type_than_go_takes_keeps_every_container_from_starting() {
    let cases: [(&str, Value, &str); 8] = [
        ("/hook/timeout", json!("15"), "hook.timeout has to be a whole number"),
        ("/hook/timeout", json!(1.5), "hook.timeout has to be a whole number"),
        ("/hook/args", json!("netlatch createRuntime"), "hook.args has to be a list of strings"),
        ("/hook/args", json!(["netlatch", 1]), "hook.args has to be a list of strings"),
        ("/stages", json!("createRuntime"), "stages has to be a list of strings"),
        ("/stages", json!(null), "it has no stages"),
        ("/when/annotations", json!(["io.netlatch"]), "when.annotations has to be an object of strings"),
        ("/when", json!([]), "when has to be an object"),
    ];
    for (path, value, says) in cases {
        let machine = Machine::with_podman();
        machine.edit(CREATE, |file| *file.pointer_mut(path).expect("it is there") = value);
        let said = machine.said("problem");
        assert!(
            said.iter().any(|one| one.contains(&format!("{says}: no container of the host starts"))),
            "{says}: {said:?}"
        );
    }
    // Another's as well.
    let machine = Machine::with_podman();
    for (timeout, well) in [("5", true), ("null", true), ("\"5\"", false)] {
        let text = format!(
            r#"{{"version": "1.0.0", "hook": {{"path": "/bin/true", "timeout": {timeout}}}, "when": {{"always": true}}, "stages": ["prestart"]}}"#
        );
        machine.write("/usr/share/containers/oci/hooks.d/50-other.json", &text);
        assert_eq!(machine.said("problem").is_empty(), well, "{timeout}");
    }
}

#[test]
fn a_hook_file_without_its_version_keeps_every_container_from_starting() {
    let machine = Machine::with_podman();
    let other = "/usr/share/containers/oci/hooks.d/50-other.json";
    machine.write(other, r#"{"hook": {"path": "/bin/true"}, "when": {"always": true}, "stages": ["prestart"]}"#);
    machine.has_one_problem(
        "it has not version 1.0.0, and so is read as one of 0.1.0: no container of the host starts",
        other,
    );
    // The schema of before, which podman still takes.
    machine.write(other, r#"{"hook": "/bin/true", "stage": ["prestart"], "cmds": [".*"]}"#);
    machine.is_well();
    machine.write(other, r#"{"version": "3", "hook": {"path": "/bin/true"}, "stages": ["prestart"]}"#);
    machine.has_one_problem("there is no version \"3\" of hook files", other);
}

#[test]
fn what_others_may_change_is_a_problem() {
    let say = |change: fn(&Machine), what: &str| {
        let machine = Machine::with_podman();
        change(&machine);
        let said = machine.said("problem");
        assert!(
            !said.is_empty() && said.iter().all(|one| one.contains("may be written by others")),
            "{what}: {said:?}"
        );
        assert!(said[0].contains(what), "{what}: {said:?}");
    };
    say(|m| m.mode(PROGRAM, 0o775), "runs as root, and it may be written by others (mode 0775)");
    say(|m| m.mode("/usr/libexec/oci", 0o757), "/usr/libexec/oci may be written by others (mode 0757)");
    say(|m| m.mode(CREATE, 0o666), "it says what runs as root, and it may be written by others (mode 0666)");
    say(|m| m.mode(HOOKS_D, 0o777), "it says what runs as root, and");
    say(
        |m| {
            m.write("/etc/netlatch/config.yaml", "egress: none\n");
            m.mode("/etc/netlatch/config.yaml", 0o666)
        },
        "config",
    );
    say(
        |m| {
            m.write("/etc/netlatch/policies/README", "");
            m.mode("/etc/netlatch/policies", 0o777)
        },
        "policies: it may be written by others (mode 0777)",
    );
}

#[test]
fn what_works_and_may_not_be_meant_is_a_warning() {
    type Change = fn(&Machine);
    let cases: [(Change, &str); 6] = [
        (|m| m.remove("/usr/share/containers/oci/hooks.d/10-netlatch-poststop.json"), "not called at poststop"),
        (|m| m.remove("/usr/share/containers/oci/hooks.d/10-netlatch-poststart.json"), "not called at poststart"),
        (|m| m.edit(CREATE, |file| file["hook"]["timeout"] = json!(10)), "not longer than netlatch's own of 10 s"),
        (
            |m| m.edit(CREATE, |file| file["when"]["commands"] = json!([".*"])),
            "all conditions have to hold, and commands narrows them",
        ),
        (
            |m| {
                fs::copy(m.path(CREATE), m.path("/usr/share/containers/oci/hooks.d/11-netlatch.json"))
                    .map(drop)
                    .expect("a copy")
            },
            "it runs 2 times",
        ),
        (|m| m.mode("/usr/sbin/runc", 0o777), "it runs as root, and it may be written by others"),
    ];
    for (change, says) in cases {
        let machine = Machine::with_podman();
        change(&machine);
        let said = machine.said("warning");
        assert!(said.len() == 1 && said[0].contains(says), "{says}: {said:?}");
        assert_eq!(machine.asked(&[]).1, 0, "{says}");
        assert_eq!(machine.asked(&["--strict"]).1, 1, "{says}");
    }
}

#[test]
fn containers_conf_is_read_as_podman_does() {
    let conf = |texts: &[(&str, &str)]| {
        let machine = Machine::with_podman();
        machine.remove("/usr/share/containers");
        machine.hook("/etc/hooks", "");
        for (path, text) in texts {
            machine.write(path, text);
        }
        machine
    };
    let here = "[engine]\nhooks_dir = [\"/etc/hooks\"]\n";
    let elsewhere = "[engine]\nhooks_dir = [\"/elsewhere\"]\n";
    conf(&[("/etc/containers/containers.conf", here)]).is_well();
    conf(&[("/usr/share/containers/containers.conf", elsewhere), ("/etc/containers/containers.conf", here)]).is_well();
    conf(&[("/etc/containers/containers.conf", elsewhere), ("/etc/containers/containers.conf.d/1.conf", here)])
        .is_well();
    let appended = "[engine]\nhooks_dir = [\"/etc/hooks\", {append = true}]\n";
    conf(&[("/etc/containers/containers.conf", elsewhere), ("/etc/containers/containers.conf.d/1.conf", appended)])
        .is_well();
    conf(&[("/etc/containers/containers.conf", here), ("/etc/containers/containers.conf.d/1.conf", elsewhere)])
        .has_one_problem("it reads /elsewhere", "/etc/hooks/10-netlatch-createRuntime.json");
    let appended = "[engine]\nhooks_dir = [\"/elsewhere\", {append = true}]\n";
    conf(&[("/etc/containers/containers.conf", here), ("/etc/containers/containers.conf.d/1.conf", appended)])
        .is_well();
    // What does not end so is not read.
    conf(&[("/etc/containers/containers.conf", here), ("/etc/containers/containers.conf.d/1.conf.bak", elsewhere)])
        .is_well();
}

#[test]
fn links_lead_where_they_would_on_that_machine() {
    let machine = Machine::with_podman();
    machine.hook("/opt/hooks", "");
    machine.remove(HOOKS_D);
    symlink("/opt/hooks", machine.path(HOOKS_D)).expect("a link");
    machine.is_well();
    // A link out of the tree leads nowhere.
    let machine = Machine::with_podman();
    machine.remove(PROGRAM);
    symlink("/../../../../../../../bin/true", machine.path(PROGRAM)).expect("a link");
    machine.has_one_problem("is not there", CREATE);
}

/// A daemon as /proc shows it, started `ago` seconds before now.
fn daemon(machine: &Machine, name: &str, ago: i64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs() as i64;
    machine.write("/proc/stat", &format!("cpu  1 2 3\nbtime {}\n", now - 1_000_000));
    machine.write("/proc/77/comm", &format!("{name}\n"));
    let before: Vec<String> = (4..22).map(|field| field.to_string()).collect();
    let started = (1_000_000 - ago) * 100;
    machine.write("/proc/77/stat", &format!("77 (a) b) S {} {started} 0 0\n", before.join(" ")));
}

#[test]
fn cri_o_has_to_be_restarted_after_hook_files_came() {
    let machine = Machine::bare();
    machine.program("/usr/bin/crio");
    machine.has_one_problem("no hook file of netlatch's", "");
    machine.hook(HOOKS_D, "");
    machine.is_well();
    daemon(&machine, "crio", 3600);
    machine.has_one_problem("started before this file was put there", CREATE);
    // The files are as old as this test.
    daemon(&machine, "crio", -60);
    machine.is_well();
    machine.write("/etc/crio/crio.conf.d/10-mine.conf", "[crio.runtime]\nhooks_dir = [\"/etc/hooks\"]\n");
    machine.has_one_problem("it reads /etc/hooks", CREATE);
    machine.write("/etc/crio/crio.conf.d/20-more.conf", &format!("[crio.runtime]\nhooks_dir = [\"{HOOKS_D}\"]\n"));
    machine.is_well();
    assert!(machine.said("not-applicable").contains(&"podman: not installed".to_owned()));
}

fn containerd_config(runtime: &str) -> String {
    format!(
        "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n{runtime}"
    )
}

#[test]
fn containerd_needs_a_base_specification_with_the_hook_and_pod_annotations() {
    const CONFIG: &str = "/etc/containerd/config.toml";
    const BASE: &str = "/etc/containerd/base.json";
    let machine = Machine::bare();
    machine.program("/usr/bin/containerd");
    machine.program(PROGRAM);
    assert_eq!(machine.said("warning").len(), 1, "{:?}", machine.said("warning"));
    let whole = "base_runtime_spec = '/etc/containerd/base.json'\npod_annotations = ['io.netlatch.*']\n";
    machine.write(CONFIG, &containerd_config(whole));
    machine.has_one_problem("its base_runtime_spec is not there", BASE);
    machine.write(BASE, r#"{"ociVersion": "1.0.2", "hooks": {}}"#);
    machine.has_one_problem("its base_runtime_spec calls no hook of netlatch's", BASE);
    machine.write(BASE, "{");
    machine.has_one_problem("its base_runtime_spec is not JSON", BASE);
    let call = json!({"path": PROGRAM, "args": ["netlatch", "createRuntime"], "timeout": 15});
    machine.write(BASE, &json!({"ociVersion": "1.0.2", "hooks": {"createRuntime": [call]}}).to_string());
    machine.is_well();
    // Version 2 has the same in another place.
    machine
        .write(CONFIG, &containerd_config(whole).replace("io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri"));
    machine.is_well();
    daemon(&machine, "containerd", 3600);
    machine.has_one_problem("started before its base_runtime_spec was written", BASE);
    machine.remove("/proc");
    for annotations in ["", "pod_annotations = ['io.netlatch.egress']\n", "pod_annotations = ['io.kubernetes.*']\n"] {
        let runtime = format!("base_runtime_spec = '/etc/containerd/base.json'\n{annotations}");
        machine.write(CONFIG, &containerd_config(&runtime));
        machine.has_one_problem("its pod_annotations do not name io.netlatch.*", CONFIG);
    }
    machine.remove(PROGRAM);
    machine.write(CONFIG, &containerd_config(whole));
    machine.has_one_problem("is not there", BASE);
    machine.write(CONFIG, "disabled_plugins = ['cri']\n");
    machine.is_well();
}

#[test]
fn docker_needs_the_cdi_device() {
    const DEVICE: &str = "/etc/cdi/netlatch.json";
    let call =
        json!({"hookName": "createRuntime", "path": PROGRAM, "args": ["netlatch", "createRuntime"], "timeout": 15});
    let device = json!({"cdiVersion": "0.3.0", "kind": "netlatch.io/net", "devices": [{"name": "on", "containerEdits": {"hooks": [call]}}]});
    let machine = Machine::bare();
    machine.program("/usr/bin/dockerd");
    assert!(machine.said("warning")[0].contains("there is no CDI device"), "{:?}", machine.said("warning"));
    machine.write(DEVICE, &device.to_string());
    machine.has_one_problem("is not there", DEVICE);
    machine.program(PROGRAM);
    machine.is_well();
    machine.write("/etc/docker/daemon.json", r#"{"features": {"cdi": false}}"#);
    machine.has_one_problem("CDI is off", "/etc/docker/daemon.json");
    machine.write("/etc/docker/daemon.json", "{");
    machine.has_one_problem("not JSON", "/etc/docker/daemon.json");
    machine.remove("/etc/docker/daemon.json");
    machine.write(DEVICE, "{");
    machine.has_one_problem("it is not JSON (line 1): engines pass over it", DEVICE);
    // podman too takes it, but nobody has to remember hook files.
    let machine = Machine::with_podman();
    machine.remove(HOOKS_D);
    machine.write(DEVICE, &device.to_string());
    assert_eq!(machine.said("problem"), [""; 0]);
    assert!(machine.said("warning")[0].contains("only containers with --device netlatch.io/net=on"));
}

#[test]
fn what_others_wrote_does_not_reach_the_terminal_raw() {
    let machine = Machine::with_podman();
    machine.edit(CREATE, |file| file["stages"] = json!(["createRuntime", "\u{1b}[31m\u{202e}x"]));
    for args in [&[][..], &["--json"]] {
        let output = machine.doctor(args);
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(!text.contains(['\u{1b}', '\u{202e}']) && text.contains("[31m"), "{text}");
    }
}

#[test]
fn a_folder_that_is_not_there_is_an_error_and_not_a_finding() {
    let output =
        Command::new(binary()).args(["doctor", "--root", "/nonexistent/tree"]).env_clear().output().expect("it runs");
    assert_eq!(output.status.code(), Some(42));
    assert!(output.stdout.is_empty());
}

#[test]
fn an_installed_machine_that_a_package_left_behind_is_a_problem() {
    // The package is gone, and its hook files are kept as configuration.
    let machine = Machine::with_podman();
    machine.remove("/usr/libexec");
    machine.has_one_problem("podman passes over the hook file in silence", CREATE);
}
