//! What the kubelet says to containerd (cri-api, `runtime.v1.RuntimeService`), as far as a pod of one container needs it.
//! gRPC is HTTP/2 with a message of protobuf behind five bytes; curl speaks the one, and the other is a few numbers.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::containerd::{Containerd, IMAGE, SOCKET};
use super::machine::{Machine, cgroup};
use super::namespace::run_with_input;
use super::podman::Log;

/// A protobuf message in the making.
#[derive(Debug, Clone, Default)]
struct Message(Vec<u8>);

impl Message {
    fn number(&mut self, mut number: usize) {
        while number > 0x7f {
            self.0.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    /// A field that is a string, or a message.
    fn with(mut self, field: usize, value: impl AsRef<[u8]>) -> Message {
        self.number(field << 3 | 2);
        self.number(value.as_ref().len());
        self.0.extend(value.as_ref());
        self
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The kubelet of a machine whose containerd has our hooks in its base runtime spec, as the guide about engines tells.
pub(crate) struct Kubelet<'a> {
    containerd: Containerd<'a>,
}

/// A pod with its one container.
pub(crate) struct Pod {
    sandbox: String,
    config: Message,
    log: Log,
}

const NETWORK: &str = r#"{"cniVersion": "0.4.0", "name": "lab", "plugins": [{
    "type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": {
        "type": "host-local", "dataDir": "/run/cni-lab",
        "ranges": [[{"subnet": "10.12.0.0/16"}], [{"subnet": "fd96::/64"}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    }
}]}"#;

impl<'a> Kubelet<'a> {
    /// Starts containerd with that.
    pub(crate) fn new(machine: &'a Machine) -> Kubelet<'a> {
        let base = machine.path("base.json");
        let spec = machine.expect("ctr", &["oci", "spec"], b"");
        let mut spec: serde_json::Value = serde_json::from_str(&spec).expect("JSON");
        spec["hooks"] = json!({});
        for stage in ["createRuntime", "poststart", "poststop"] {
            spec["hooks"][stage] = json!([machine.entry(stage)]);
        }
        fs::write(&base, spec.to_string()).expect("a file");
        let networks = machine.path("net.d");
        fs::create_dir(&networks).expect("a directory");
        fs::write(networks.join("10-lab.conflist"), NETWORK).expect("a file");
        // A host may forbid to lower the score, which CRI otherwise does for a pause container.
        let config = format!(
            "[plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = '{IMAGE}'\nrestrict_oom_score_adj = true\n\
             [plugins.'io.containerd.grpc.v1.cri'.cni]\nbin_dir = '/usr/lib/cni'\nconf_dir = '{}'\n\
             [plugins.'io.containerd.grpc.v1.cri'.containerd]\nsnapshotter = 'native'\n\
             [plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n\
             base_runtime_spec = '{}'\npod_annotations = ['io.netlatch.*']\n",
            networks.display(),
            base.display()
        );
        Kubelet { containerd: Containerd::with(machine, &config) }
    }

    /// Calls a method; its first answer that is a string, or what went wrong.
    fn call(&self, method: &str, message: &Message) -> Result<String, String> {
        let mut frame = vec![0];
        frame.extend(u32::try_from(message.0.len()).expect("a short message").to_be_bytes());
        frame.extend(&message.0);
        let mut curl = self.containerd.machine.command("curl");
        curl.args(["--silent", "--show-error", "--http2-prior-knowledge", "--unix-socket", SOCKET]);
        curl.args(["--header", "content-type: application/grpc", "--header", "te: trailers", "--data-binary", "@-"]);
        // Headers and trailers come on stderr, with `<` before them.
        curl.args(["--verbose"]).arg(format!("http://localhost/runtime.v1.RuntimeService/{method}"));
        let output = run_with_input(&mut curl, &frame);
        let said = String::from_utf8_lossy(&output.stderr);
        if !said.contains("grpc-status: 0") {
            let why = said.lines().find(|line| line.contains("grpc-message"));
            return Err(why.unwrap_or(&said).to_owned());
        }
        // The frame's five bytes, the field's tag, its length, which is below 128 for an id.
        Ok(String::from_utf8_lossy(output.stdout.get(7..).unwrap_or_default()).into_owned())
    }

    /// Starts a pod and its container.
    pub(crate) fn start(&self, name: &str, annotations: &[&str], probes: &[&str]) -> Result<Pod, (Pod, String)> {
        let machine = self.containerd.machine;
        let logs = machine.path(&format!("logs-{name}"));
        fs::create_dir_all(&logs).expect("a directory");
        let metadata = Message::default().with(1, name).with(2, name).with(3, "shop");
        let mut config = Message::default().with(1, metadata).with(3, logs.to_str().expect("UTF-8"));
        for annotation in annotations {
            let (key, value) = annotation.split_once('=').expect("KEY=VALUE");
            config = config.with(7, Message::default().with(1, format!("io.netlatch.{key}")).with(2, value));
        }
        let parent = cgroup(&machine.path(""));
        let config = config.with(8, Message::default().with(1, parent));
        let sandbox = self.call("RunPodSandbox", &Message::default().with(1, &config)).expect("a pod");
        let mut container = Message::default().with(1, Message::default().with(1, name));
        container = container.with(2, Message::default().with(1, IMAGE)).with(3, "/prober").with(4, "patient");
        for probe in probes {
            container = container.with(4, probe);
        }
        let container = container.with(11, "log").with(15, Message::default());
        let pod = Pod { sandbox, config, log: Log::at(logs.join("log")) };
        let request = Message::default().with(1, &pod.sandbox).with(2, container).with(3, &pod.config);
        let started = self
            .call("CreateContainer", &request)
            .and_then(|id| self.call("StartContainer", &Message::default().with(1, id)));
        match started {
            Ok(_) => Ok(pod),
            Err(why) => Err((pod, why)),
        }
    }

    /// Stops and removes it, as often as it takes: where the container is just ending by itself, containerd 1.6 fails.
    pub(crate) fn remove(&self, pod: &Pod) {
        let deadline = Instant::now() + Duration::from_secs(10);
        for method in ["StopPodSandbox", "RemovePodSandbox"] {
            while let Err(why) = self.call(method, &Message::default().with(1, &pod.sandbox)) {
                assert!(Instant::now() < deadline, "{method}: {why}");
                thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

impl Pod {
    /// What its prober said.
    pub(crate) fn report(&self) -> serde_json::Value {
        self.log.report(1)
    }
}
