//! Who a container is to policies, from files as the engines leave them: the hook's own reading, through `netlatch plan`.
//!
//! The states and config.json files are put together as these sources do it. CRI-O f954a17: internal/factory/container/
//! container.go (`SpecAddAnnotations`), server/sandbox_run_linux.go (`setupSandboxAnnotations`, and the loops over
//! `kubeAnnotations` and `labels` in `runPodSandbox`), server/container_create.go (`SaveToFile` into the run directory),
//! storage's store.go (`ContainerRunDirectory`). containerd 301026e: internal/cri/annotations/annotations.go
//! (`DefaultCRIAnnotations`), core/runtime/v2/bundle.go (`NewBundle`). The kubelet's part: pkg/kubelet/kuberuntime/labels.go.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

const SANDBOX: &str = "0e1ed1c29d5a0e1ed1c29d5a0e1ed1c29d5a0e1ed1c29d5a0e1ed1c29d5a0001";
const CONTAINER: &str = "c0ffee0000c0ffee0000c0ffee0000c0ffee0000c0ffee0000c0ffee0000c0ff";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Engine {
    CriO,
    Containerd,
}

/// A host on which one pod's sandbox runs and a container of it is about to.
struct Host {
    dir: TempDir,
    engine: Engine,
    sandbox: Value,
    container: Value,
}

impl Host {
    fn of(engine: Engine) -> Host {
        let (sandbox, container) = match engine {
            Engine::CriO => (crio_sandbox(), crio_container()),
            Engine::Containerd => (containerd("sandbox"), containerd("container")),
        };
        let host = Host { dir: tempfile::tempdir().expect("a directory"), engine, sandbox, container };
        fs::write(host.dir.path().join("config.yaml"), "").expect("a file");
        host.write();
        host
    }

    /// Where the engine keeps a container's bundle.
    fn bundle(&self, id: &str) -> PathBuf {
        match self.engine {
            Engine::CriO => self.dir.path().join("containers/storage/overlay-containers").join(id).join("userdata"),
            Engine::Containerd => self.dir.path().join("io.containerd.runtime.v2.task/k8s.io").join(id),
        }
    }

    /// Writes both config.json files.
    fn write(&self) {
        for (id, annotations) in [(SANDBOX, &self.sandbox), (CONTAINER, &self.container)] {
            let dir = self.bundle(id);
            fs::create_dir_all(&dir).expect("a directory");
            let config = json!({
                "ociVersion": "1.2.0", "process": {"args": ["x"], "cwd": "/", "capabilities": {"bounding": ["CAP_CHOWN"]}},
                "linux": {"namespaces": [{"type": "network", "path": "/run/netns/pod"}]}, "annotations": annotations,
            });
            write(&dir.join("config.json"), &config.to_string());
        }
    }

    /// What the runtime puts on the hook's standard input.
    fn state(&self, id: &str) -> Value {
        let annotations = if id == SANDBOX { &self.sandbox } else { &self.container };
        json!({"ociVersion": "1.2.0", "id": id, "status": "creating", "pid": 4242, "bundle": self.bundle(id),
               "annotations": annotations})
    }

    fn plan(&self, id: &str, format: &str) -> Output {
        self.write();
        self.plan_as_it_lies(id, format)
    }

    fn plan_as_it_lies(&self, id: &str, format: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_netlatch"));
        command.args(["plan", "--state", "-", "--format", format, "--config"]).arg(self.dir.path().join("config.yaml"));
        let pipes = command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().expect("the program starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(self.state(id).to_string().as_bytes()).expect("the state is read");
        drop(stdin);
        child.wait_with_output().expect("the program ends")
    }

    fn identity(&self, id: &str) -> Value {
        identity(&self.plan(id, "json"))
    }

    /// The line of a plan that is refused.
    fn refused(&self, code: i32) -> String {
        let output = self.plan(CONTAINER, "json");
        let line = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{line}");
        line
    }
}

fn write(path: &Path, content: &str) {
    fs::write(path, content).expect("a file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("a mode");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn identity(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let plan: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    plan["identity"].clone()
}

/// The kubelet's labels of a sandbox: the pod's, and three of its own.
fn kubelet_pod_labels() -> Value {
    json!({"app": "web", "tier": "front", "io.kubernetes.pod.name": "web-1", "io.kubernetes.pod.namespace": "shop",
           "io.kubernetes.pod.uid": "7b4e"})
}

fn kubelet_container_labels() -> Value {
    json!({"io.kubernetes.container.name": "nginx", "io.kubernetes.pod.name": "web-1",
           "io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.uid": "7b4e"})
}

fn kubelet_container_annotations() -> Value {
    let ports = json!([{"name": "http", "containerPort": 8080, "protocol": "TCP"},
                       {"name": "dns", "containerPort": 53, "protocol": "UDP"}, {"containerPort": 9000}]);
    json!({"io.kubernetes.container.hash": "a9166cd8", "io.kubernetes.container.restartCount": "0",
           "io.kubernetes.container.ports": ports.to_string(),
           "io.kubernetes.container.terminationMessagePath": "/dev/termination-log"})
}

fn pod_annotations() -> Value {
    json!({"kubernetes.io/config.source": "api"})
}

/// One object after the other, the later over the earlier, as `AddAnnotation` does.
fn merged(objects: &[Value]) -> Value {
    let each = objects.iter().flat_map(|object| object.as_object().expect("an object").clone());
    Value::Object(each.collect())
}

fn crio_container() -> Value {
    let own = json!({
        "io.container.manager": "cri-o",
        "io.kubernetes.cri-o.Annotations": kubelet_container_annotations().to_string(),
        "io.kubernetes.cri-o.ContainerID": CONTAINER,
        "io.kubernetes.cri-o.ContainerType": "container",
        "io.kubernetes.cri-o.Image": "docker.io/library/nginx:latest",
        "io.kubernetes.cri-o.Labels": kubelet_container_labels().to_string(),
        "io.kubernetes.cri-o.Metadata": r#"{"name":"nginx"}"#,
        "io.kubernetes.cri-o.Name": "k8s_nginx_web-1_shop_7b4e_0",
        "io.kubernetes.cri-o.SandboxID": SANDBOX,
        "io.kubernetes.cri-o.SandboxName": "k8s_web-1_shop_7b4e_0",
        "io.kubernetes.cri-o.IP.0": "10.85.0.7",
        "io.kubernetes.cri-o.TTY": "false",
    });
    merged(&[pod_annotations(), own, kubelet_container_annotations(), kubelet_container_labels()])
}

fn crio_sandbox() -> Value {
    let own = json!({
        "io.container.manager": "cri-o",
        "io.kubernetes.cri-o.Annotations": pod_annotations().to_string(),
        "io.kubernetes.cri-o.ContainerID": SANDBOX,
        "io.kubernetes.cri-o.ContainerName": "k8s_POD_web-1_shop_7b4e_0",
        "io.kubernetes.cri-o.ContainerType": "sandbox",
        "io.kubernetes.cri-o.HostNetwork": "false",
        "io.kubernetes.cri-o.KubeName": "web-1",
        "io.kubernetes.cri-o.Labels": merged(&[kubelet_pod_labels(), json!({"io.kubernetes.container.name": "POD"})]).to_string(),
        "io.kubernetes.cri-o.Namespace": "shop",
        "io.kubernetes.cri-o.SandboxID": SANDBOX,
        "io.kubernetes.cri-o.SandboxName": "k8s_web-1_shop_7b4e_0",
    });
    let plain = merged(&[kubelet_pod_labels(), json!({"io.kubernetes.container.name": "POD"})]);
    merged(&[own, pod_annotations(), plain])
}

fn containerd(kind: &str) -> Value {
    let all = json!({
        "io.kubernetes.cri.container-type": kind,
        "io.kubernetes.cri.sandbox-id": SANDBOX,
        "io.kubernetes.cri.sandbox-name": "web-1",
        "io.kubernetes.cri.sandbox-namespace": "shop",
        "io.kubernetes.cri.sandbox-uid": "7b4e",
    });
    let own = match kind {
        "sandbox" => json!({"io.kubernetes.cri.sandbox-log-directory": "/var/log/pods/shop_web-1_7b4e",
                            "io.kubernetes.cri.sandbox-cpu-shares": "2",
                            "io.kubernetes.cri.podsandbox.image-name": "registry.k8s.io/pause:3.10"}),
        _ => json!({"io.kubernetes.cri.container-name": "nginx", "io.kubernetes.cri.image-name": "nginx:latest"}),
    };
    merged(&[all, own])
}

#[test]
fn a_crio_container_is_its_pod() {
    let host = Host::of(Engine::CriO);
    let identity = host.identity(CONTAINER);
    assert_eq!(
        identity,
        json!({
            "namespace": {"value": "shop", "origin": "annotation io.kubernetes.pod.namespace"},
            "pod": {"value": "web-1", "origin": "annotation io.kubernetes.pod.name"},
            "labels": {"value": {"app": "web", "tier": "front"},
                       "origin": "annotation io.kubernetes.cri-o.Labels of sandbox 0e1ed1c29d5a"},
            "ports": {"value": [{"name": "dns", "port": 53, "protocol": "udp"}, {"name": "http", "port": 8080, "protocol": "tcp"}],
                      "origin": "annotation io.kubernetes.cri-o.Annotations io.kubernetes.container.ports"},
            "labels-unknown": null,
        })
    );
    let said = text(&host.plan(CONTAINER, "text").stdout);
    for line in [
        "  namespace  shop    (annotation io.kubernetes.pod.namespace)\n",
        "  pod        web-1    (annotation io.kubernetes.pod.name)\n",
        "  labels     app=web,tier=front    (annotation io.kubernetes.cri-o.Labels of sandbox 0e1ed1c29d5a)\n",
        "  ports      dns=53/udp,http=8080/tcp    (annotation io.kubernetes.cri-o.Annotations io.kubernetes.container.ports)\n",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
}

#[test]
fn a_sandbox_is_its_pod() {
    let crio = Host::of(Engine::CriO).identity(SANDBOX);
    assert_eq!(crio["labels"]["value"], json!({"app": "web", "tier": "front"}));
    assert_eq!(crio["labels"]["origin"], "annotation io.kubernetes.cri-o.Labels");
    let containerd = Host::of(Engine::Containerd).identity(SANDBOX);
    for identity in [crio, containerd] {
        assert_eq!((&identity["namespace"]["value"], &identity["pod"]["value"]), (&json!("shop"), &json!("web-1")));
    }
}

#[test]
fn a_containerd_container_has_what_is_passed_to_it_or_to_its_sandbox() {
    let mut host = Host::of(Engine::Containerd);
    let identity = host.identity(CONTAINER);
    assert_eq!(identity["namespace"]["origin"], "annotation io.kubernetes.cri.sandbox-namespace");
    assert_eq!(identity["pod"], json!({"value": "web-1", "origin": "annotation io.kubernetes.cri.sandbox-name"}));
    assert_eq!(identity["labels"], json!({"value": {}, "origin": "built-in labels"}));
    assert_eq!(identity["labels-unknown"], Value::Null);

    host.sandbox["io.netlatch.labels"] = "app=web".into();
    host.sandbox["io.netlatch.ports"] = "http=8080".into();
    let identity = host.identity(CONTAINER);
    assert_eq!(identity["labels"]["value"], json!({"app": "web"}));
    assert_eq!(identity["ports"]["origin"], "annotation io.netlatch.ports of sandbox 0e1ed1c29d5a");
    host.container["io.netlatch.labels"] = "app=own".into();
    assert_eq!(host.identity(CONTAINER)["labels"]["value"], json!({"app": "own"}));
}

#[test]
fn a_sandbox_that_is_gone_leaves_the_labels_of_crio_unknown() {
    for (engine, known) in [(Engine::CriO, false), (Engine::Containerd, true)] {
        let host = Host::of(engine);
        fs::remove_dir_all(host.bundle(SANDBOX)).expect("it was there");
        let identity = identity(&host.plan_as_it_lies(CONTAINER, "json"));
        assert_eq!(identity["labels-unknown"].is_null(), known, "{identity}");
        assert_eq!(identity["pod"]["value"], "web-1");
        let said = text(&host.plan_as_it_lies(CONTAINER, "text").stdout);
        assert_eq!(said.contains("the labels may be others: "), !known, "{said}");
    }
}

#[test]
fn what_contradicts_the_engine_stops_the_start() {
    for (key, value, wanted) in [
        ("io.netlatch.labels", "app=db", "of sandbox 0e1ed1c29d5a says app=web"),
        ("io.netlatch.namespace", "kube-system", "io.kubernetes.pod.namespace"),
        ("io.netlatch.ports", "http=22", "says http=8080/tcp"),
        ("io.kubernetes.cri.sandbox-id", SANDBOX, "one engine cannot have written both"),
        ("io.kubernetes.cri-o.SandboxID", "../../etc", "io.kubernetes.cri-o.SandboxID"),
        ("io.kubernetes.cri-o.Namespace", "kube-system", "says kube-system"),
    ] {
        let mut host = Host::of(Engine::CriO);
        host.container[key] = value.into();
        let line = host.refused(15);
        assert!(line.contains(wanted), "{key}: {line}");
    }
}

#[test]
fn a_sandboxs_file_is_believed_as_the_containers_own() {
    let host = Host::of(Engine::CriO);
    let file = host.bundle(SANDBOX).join("config.json");
    let refused = |why: &str| {
        let output = host.plan_as_it_lies(CONTAINER, "json");
        let line = text(&output.stderr);
        assert_eq!(output.status.code(), Some(13), "{line}");
        assert!(line.contains(why) && line.contains(file.to_str().unwrap()), "{line}");
    };
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    refused("may be written by others");
    write(&file, "[]");
    refused("expected a JSON object");
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(host.bundle(CONTAINER).join("config.json"), &file).unwrap();
    refused("is a symbolic link");
    fs::remove_file(&file).unwrap();
    // Long, and no byte of it written.
    fs::File::create(&file).unwrap().set_len((8 << 20) + 1).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    refused("MAX_BUNDLE");
}

#[test]
fn the_admin_says_whether_a_sandbox_may_say_who_its_containers_are() {
    let mut host = Host::of(Engine::Containerd);
    host.sandbox["io.netlatch.labels"] = "app=web".into();
    write(&host.dir.path().join("config.yaml"), "allow-annotations: [egress]\n");
    assert!(host.refused(17).contains("io.netlatch.labels of sandbox 0e1ed1c29d5a"));
    // What the engine says itself needs nobody's permission.
    let crio = Host::of(Engine::CriO);
    write(&crio.dir.path().join("config.yaml"), "allow-annotations: []\n");
    assert_eq!(crio.identity(CONTAINER)["labels"]["value"]["app"], "web");
}
