//! What engines are told where, and whether that brings the hook to their containers.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::support::installed::{CREATE, HOOKS_D, Machine, PROGRAM};

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
fn a_users_own_podman_is_asked_too() {
    const OWN: &str = "/home/bob/.config/containers/containers.conf";
    let machine = Machine::with_podman();
    machine.write(
        "/etc/passwd",
        "root:x:0:0::/root:/bin/sh\nbob:x:1000:1000:Bob:/home/bob:/bin/sh\nann:x:1001:1001::/home/ann:/bin/sh\n",
    );
    machine.is_well();
    // He uses podman, and so calls the hook that is meant for root.
    machine.write("/home/bob/.local/share/containers/storage/x", "");
    let said = machine.said("warning");
    let lacks =
        "podman of bob: it calls the hook without a --run-dir of the user's own: containers that call it do not start";
    assert_eq!(said, [lacks]);
    machine.write(OWN, "[engine]\nhooks_dir = [\"/home/bob/none\"]\n");
    machine.has_one_problem("it reads /home/bob/none (as ", CREATE);
    let told = |told: &[&str]| {
        machine.hook("/home/bob/hooks", "");
        for stage in ["createRuntime", "poststart", "poststop"] {
            let args: Vec<&str> = [&["netlatch", stage], told].concat();
            machine
                .edit(&format!("/home/bob/hooks/10-netlatch-{stage}.json"), |file| file["hook"]["args"] = json!(args));
        }
    };
    machine.write(OWN, "[engine]\nhooks_dir = [\"/home/bob/hooks\"]\n");
    told(&[]);
    assert_eq!(machine.said("warning"), [lacks]);
    told(&["--run-dir", "/home/bob/netlatch"]);
    machine.is_well();
    machine.write("/etc/netlatch/config.yaml", "egress: none\n");
    assert!(
        machine.said("warning")[0]
            .contains("without a --config of the user's own (/etc/netlatch/config.yaml is nobody's")
    );
    machine.write("/home/bob/netlatch.yaml", "egress: none\n");
    told(&["--run-dir", "/home/bob/netlatch", "--config", "/home/bob/netlatch.yaml"]);
    machine.is_well();
    // Nobody said that root's containers are to have it.
    machine.remove("/usr/share/containers");
    let said = machine.said("warning");
    assert!(said.len() == 1 && said[0].starts_with("podman: the hook files are in /home/bob/hooks"), "{said:?}");
    assert_eq!(machine.said("problem"), [""; 0]);
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
    // Every file below, whatever it is called; by name, and a folder where its name comes.
    machine.write("/etc/crio/crio.conf.d/30/more.toml", "[crio.runtime]\nhooks_dir = [\"/etc/hooks\"]\n");
    machine.has_one_problem("it reads /etc/hooks", CREATE);
    machine.write("/etc/crio/crio.conf.d/31", &format!("[crio.runtime]\nhooks_dir = [\"{HOOKS_D}\"]\n"));
    machine.is_well();
    // What has nothing to do with hooks may come later.
    daemon(&machine, "crio", -60);
    machine.write("/etc/crio/crio.conf.d/50-log.conf", "[crio.runtime]\nlog_level = \"debug\"\n");
    machine.is_well();
    // The daemon that runs may have been told something else, by its arguments or its environment.
    machine.write("/proc/77/cmdline", "/usr/bin/crio\0--hooks-dir\0/etc/hooks\0");
    machine.has_one_problem("it reads /etc/hooks (as the running daemon was told)", CREATE);
    machine.write("/proc/77/cmdline", "/usr/bin/crio\0");
    machine.write("/proc/77/environ", "PATH=/bin\0CONTAINER_HOOKS_DIR=/etc/hooks\0");
    machine.has_one_problem("it reads /etc/hooks (as the running daemon was told)", CREATE);
    // Configuration that a package left behind is no engine.
    machine.remove("/proc");
    machine.remove("/usr/bin/crio");
    assert!(machine.said("not-applicable").contains(&"CRI-O: not installed".to_owned()));
}

const CONFIG: &str = "/etc/containerd/config.toml";
const BASE: &str = "/etc/containerd/base.json";
const WHOLE: &str = "base_runtime_spec = '/etc/containerd/base.json'\npod_annotations = ['io.netlatch.*']\n";

fn containerd_config(runtime: &str) -> String {
    format!(
        "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n{runtime}"
    )
}

#[test]
fn containerd_needs_a_base_specification_with_the_hook_and_pod_annotations() {
    let machine = Machine::bare();
    machine.program("/usr/bin/containerd");
    machine.program(PROGRAM);
    assert_eq!(machine.said("warning").len(), 1, "{:?}", machine.said("warning"));
    machine.write(CONFIG, &containerd_config(WHOLE));
    machine.has_one_problem("its base_runtime_spec is not there", BASE);
    machine.write(BASE, r#"{"ociVersion": "1.0.2", "hooks": {}}"#);
    machine.has_one_problem("its base_runtime_spec calls no hook of netlatch's", BASE);
    machine.write(BASE, "{");
    machine.has_one_problem("its base_runtime_spec is not JSON", BASE);
    let call = json!({"path": PROGRAM, "args": ["netlatch", "createRuntime"], "timeout": 15});
    machine.write(BASE, &json!({"ociVersion": "1.0.2", "hooks": {"createRuntime": [call]}}).to_string());
    machine.is_well();
    // Version 2 has the same in another place.
    let version_2 = containerd_config(WHOLE).replace("io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri");
    machine.write(CONFIG, &version_2.replace("version = 3", "version = 2"));
    machine.is_well();
    daemon(&machine, "containerd", 3600);
    machine.has_one_problem("started before its base_runtime_spec was written", BASE);
    machine.remove("/proc");
    for (annotations, lacks) in [
        ("", "io.netlatch.*"),
        ("pod_annotations = ['io.netlatch.egress']\n", "io.netlatch.ingress, io.netlatch.ipv6, "),
        ("pod_annotations = ['io.kubernetes.*']\n", "io.netlatch.*"),
        ("pod_annotations = ['io.netlatch.[a-i]*']\n", "io.netlatch.sysctl.net.core.somaxconn, "),
    ] {
        let runtime = format!("base_runtime_spec = '/etc/containerd/base.json'\n{annotations}");
        machine.write(CONFIG, &containerd_config(&runtime));
        machine.has_one_problem(&format!("its pod_annotations do not name {lacks}"), CONFIG);
    }
    for annotations in ["['*']", "['io.netlatch*']", "['io.kubernetes.*', 'io.netl?tch.*']", "['io.netlatch.[^A-Z]*']"]
    {
        let runtime = format!("base_runtime_spec = '/etc/containerd/base.json'\npod_annotations = {annotations}\n");
        machine.write(CONFIG, &containerd_config(&runtime));
        machine.is_well();
    }
    machine.remove(PROGRAM);
    machine.write(CONFIG, &containerd_config(WHOLE));
    machine.has_one_problem("is not there", BASE);
    machine.write(CONFIG, "disabled_plugins = ['cri']\n");
    machine.is_well();
}

/// A machine with containerd and a base specification with the hook.
fn with_containerd(config: &str) -> Machine {
    let machine = Machine::bare();
    machine.program("/usr/bin/containerd");
    machine.program(PROGRAM);
    let call = json!({"path": PROGRAM, "args": ["netlatch", "createRuntime"], "timeout": 15});
    machine.write(BASE, &json!({"ociVersion": "1.0.2", "hooks": {"createRuntime": [call]}}).to_string());
    machine.write(CONFIG, config);
    machine
}

#[test]
fn containerd_passes_over_runtimes_that_another_version_names_so() {
    let section = |name: &str| format!("[plugins.'{name}'.containerd.runtimes.runc]\n{WHOLE}");
    for (version, name, well) in [
        ("", "cri", true),
        ("version = 1\n", "io.containerd.grpc.v1.cri", false),
        ("", "io.containerd.grpc.v1.cri", false),
        ("version = 2\n", "io.containerd.grpc.v1.cri", true),
        ("version = 2\n", "io.containerd.cri.v1.runtime", false),
        ("version = 3\n", "io.containerd.grpc.v1.cri", false),
        ("version = 3\n", "io.containerd.cri.v1.runtime", true),
    ] {
        let machine = with_containerd(&format!("{version}{}", section(name)));
        if well {
            machine.is_well();
        } else {
            machine.has_one_problem("containerd passes over them", CONFIG);
        }
    }
}

#[test]
fn containerds_imports_are_read_as_it_does() {
    const IMPORT: &str = "/etc/containerd/conf.d/50-mine.toml";
    let runc = |version: u32| {
        let name = if version == 2 { "io.containerd.grpc.v1.cri" } else { "io.containerd.cri.v1.runtime" };
        format!("[plugins.'{name}'.containerd.runtimes.runc]\n")
    };
    for version in [2, 3] {
        for imports in ["'/etc/containerd/conf.d/*.toml'", "'conf.d/*.toml'", "'conf.d/50-mine.toml'"] {
            let machine = with_containerd(&format!("version = {version}\nimports = [{imports}]\n"));
            if imports.contains('*') {
                assert!(machine.said("warning")[0].contains("no runtime of its configuration has"));
            } else {
                machine.has_one_problem("it is imported and not there", IMPORT);
            }
            machine.write(IMPORT, &format!("version = {version}\n{}{WHOLE}", runc(version)));
            machine.is_well();
        }
        // An import that has to do with something else in the same section.
        let imports = "imports = ['conf.d/*.toml']\n";
        let machine = with_containerd(&format!("version = {version}\n{imports}{}{WHOLE}", runc(version)));
        let cni = runc(version).replace("containerd.runtimes.runc", "cni");
        machine.write(IMPORT, &format!("version = {version}\n{cni}bin_dir = '/opt'\n"));
        if version == 2 {
            // containerd 1 takes it for the whole section.
            assert!(machine.said("warning")[0].contains("no runtime of its configuration has"));
        } else {
            machine.is_well();
        }
    }
}

#[test]
fn containerds_other_runtimes_are_looked_at_too() {
    let runtime =
        |name: &str, keys: &str| format!("[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.{name}]\n{keys}");
    let version = "version = 3\n";
    let machine = with_containerd(&format!("{version}{}{}", runtime("runc", WHOLE), runtime("crun", "")));
    assert_eq!(
        machine.said("warning"),
        ["containerd, crun: it has no base_runtime_spec: pods of its RuntimeClass start without the hook"]
    );
    let usual = "[plugins.'io.containerd.cri.v1.runtime'.containerd]\ndefault_runtime_name = 'crun'\n";
    machine.write(CONFIG, &format!("{version}{usual}{}{}", runtime("runc", WHOLE), runtime("crun", "")));
    machine.has_one_problem("pods without a RuntimeClass start without the hook", CONFIG);
    machine.write(CONFIG, &format!("{version}{}", runtime("crun", WHOLE)));
    machine.has_one_problem("pods without a RuntimeClass start without the hook", CONFIG);
    // The wrong stage.
    machine.write(CONFIG, &format!("{version}{}", runtime("runc", WHOLE)));
    machine.is_well();
    machine.edit(BASE, |spec| {
        spec["hooks"] = json!({"createContainer": [{"path": PROGRAM, "args": ["netlatch", "createContainer"]}]});
    });
    machine.has_one_problem("calls the hook at createContainer, and not at createRuntime", BASE);
}

#[test]
fn the_containerd_that_runs_is_asked() {
    let config = containerd_config(WHOLE);
    let machine = with_containerd("");
    machine.write("/etc/other.toml", &config);
    daemon(&machine, "containerd", -60);
    machine.write("/proc/77/cmdline", "/usr/bin/containerd\0--config=/etc/other.toml\0");
    machine.is_well();
    // dockerd's own is no affair of pods.
    machine.write(CONFIG, &config);
    machine.write("/proc/77/cmdline", "containerd\0--config\0/var/run/docker/containerd/containerd.toml\0");
    machine.is_well();
    // Configuration that it has not read.
    machine.write("/proc/77/cmdline", "containerd\0");
    daemon(&machine, "containerd", 3600);
    machine.has_one_problem("started before its base_runtime_spec was written", BASE);
}

#[test]
fn a_device_in_yaml_is_one_too() {
    const DEVICE: &str = "/etc/cdi/mine.yaml";
    let device = format!(
        "cdiVersion: 0.3.0\nkind: netlatch.io/net\ndevices:\n- name: \"on\"\n  containerEdits:\n    hooks:\n    - hookName: createRuntime\n      path: {PROGRAM}\n      args: [netlatch, createRuntime]\n      timeout: 15\n"
    );
    let machine = Machine::bare();
    machine.program("/usr/bin/dockerd");
    machine.program(PROGRAM);
    machine.write(DEVICE, &device);
    machine.is_well();
    machine.remove(PROGRAM);
    machine.has_one_problem("is not there: every start that calls it fails", DEVICE);
    machine.program(PROGRAM);
    let broken = [
        ("kind: netlatch.io/net\n", "", "it has no kind"),
        ("cdiVersion: 0.3.0", "cdiVersion: 0.3", "it has no cdiVersion"),
        ("hooks:", "hooks: [", "its YAML"),
    ];
    for (from, to, says) in broken {
        machine.write(DEVICE, &device.replace(from, to));
        machine.has_one_problem(says, DEVICE);
    }
    machine.write(DEVICE, &device.replace("createRuntime", "poststart"));
    machine.has_one_problem("calls the hook at poststart, and not at createRuntime", DEVICE);
    // Engines do not read what ends so.
    machine.remove(DEVICE);
    machine.write("/etc/cdi/mine.yml", &device);
    machine.has_one_problem("engines read .json and .yaml, and pass over it", "/etc/cdi/mine.yml");
    machine.remove("/etc/cdi");
    machine.write("/opt/cdi/mine.yaml", &device);
    assert!(machine.said("warning")[0].contains("there is no CDI device"));
    // Somebody else's is somebody else's.
    machine.write(DEVICE, &device);
    machine.write("/etc/cdi/gpu.yaml", "kind: [\n");
    machine.write("/etc/cdi/gpu.json", "{");
    machine.is_well();
    machine.write("/etc/docker/daemon.json", r#"{"cdi-spec-dirs": ["/opt/cdi"]}"#);
    assert!(machine.said("warning")[0].contains("there is no CDI device"));
    machine.write("/etc/docker/daemon.json", r#"{"cdi-spec-dirs": ["/etc/cdi/"]}"#);
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
