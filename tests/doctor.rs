//! `netlatch doctor --root`: machines as folders, whole and broken in each way in which an engine passes over the hook in
//! silence, or stops every start. What it says of the machine itself is in kernel_doctor.rs.

#[path = "doctor/engines.rs"]
mod engines;
mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::{Value, json};
use support::container::binary;
use support::installed::{CREATE, HOOKS_D, Machine, PROGRAM};

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
    let cases: [(Break, &str, &str); 20] = [
        (|m| m.remove(PROGRAM), "is not there: podman and CRI-O pass over the hook file in silence", CREATE),
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
            "`always` is false, which nothing meets: the hook is never called",
            CREATE,
        ),
        (
            |m| {
                m.edit(CREATE, |file| {
                    file.as_object_mut().map(|file| file.remove("when")).map(drop).expect("an object")
                })
            },
            "`when` has no condition: the hook is never called",
            CREATE,
        ),
        (
            |m| m.edit(CREATE, |file| file["when"]["always"] = json!(false)),
            "`always` is false, which nothing meets: the hook is never called",
            CREATE,
        ),
        (
            |m| m.edit(CREATE, |file| file["when"]["hasBindMounts"] = json!(false)),
            "`hasBindMounts` is false, which nothing meets",
            CREATE,
        ),
        (
            |m| m.edit(CREATE, |file| file["hook"]["path"] = json!("netlatch")),
            "\"netlatch\" is no absolute path: podman and CRI-O pass over the hook file in silence",
            CREATE,
        ),
        (
            |m| fs::rename(m.path(CREATE), m.path(&format!("{CREATE}.dpkg-dist"))).expect("a name"),
            "no hook file in /usr/share/containers/oci/hooks.d names createRuntime",
            "",
        ),
        (
            |m| {
                m.remove(HOOKS_D);
                m.write(&format!("{CREATE}.rpmsave"), "");
            },
            "(10-netlatch-createRuntime.json.rpmsave does not end in .json): every container starts without the hook",
            "/usr/share/containers/oci/hooks.d/10-netlatch-createRuntime.json.rpmsave",
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
    for (broken, says, file) in cases {
        let machine = Machine::with_podman();
        broken(&machine);
        if says.starts_with("names createRuntime") {
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
        (
            |m| {
                m.write(PROGRAM, "");
                m.mode(PROGRAM, 0o755);
            },
            "does not start: it is no program",
            CREATE,
        ),
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
    machine.has_one_problem("pass over the hook file in silence", CREATE);
}
