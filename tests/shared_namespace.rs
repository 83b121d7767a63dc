//! Containers that share a network namespace: the pod, `--network container:NAME`.

mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::json;
use support::container::binary;
use support::{Container, Namespace};
use tempfile::TempDir;

struct Pod {
    namespace: Namespace,
    dir: TempDir,
}

impl Pod {
    fn new(config: &str) -> Pod {
        let pod = Pod { namespace: Namespace::new(), dir: tempfile::tempdir().unwrap() };
        std::fs::write(pod.dir.path().join("config.yaml"), config).unwrap();
        pod
    }

    /// A container that joins the namespace by its path.
    fn container(&self, id: &str) -> Container {
        let mut container = Container::of(&self.namespace);
        container.id = id.to_owned();
        container.write_config(&json!({
            "linux": {"namespaces": [{"type": "network", "path": self.namespace.path()}]},
        }));
        container
    }

    /// Begins the stage on `container`, the state on its stdin.
    fn begin(&self, container: &Container, stage: &str) -> Child {
        let state = container.bundle().join("state.json");
        std::fs::write(&state, container.state(support::container::Dialect::Runc).to_string()).unwrap();
        Command::new(binary())
            .arg(stage)
            .args([Path::new("--config"), &self.dir.path().join("config.yaml")])
            .args([Path::new("--run-dir"), &self.dir.path().join("run")])
            .stdin(std::fs::File::open(state).unwrap())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn run(&self, container: &Container, stage: &str) {
        assert!(self.begin(container, stage).wait().unwrap().success(), "{stage} of {}", container.id);
    }

    fn rules(&self) -> String {
        self.namespace.run("nft", &["list", "table", "inet", "netlatch"], "")
    }
}

#[test]
fn a_neighbour_without_wishes_leaves_rules_and_sysctls_alone() {
    let pod = Pod::new("egress: \"*\"\nipv6: loopback-only\n");
    pod.run(&pod.container("a").with("egress", "none").with("ipv6", "disable"), "createRuntime");
    let before = pod.rules();
    for stage in ["createRuntime", "poststart"] {
        pod.run(&pod.container("b"), stage);
        assert_eq!(pod.rules(), before, "{stage}");
        assert_eq!(pod.namespace.sysctl("net/ipv6/conf/lo/disable_ipv6"), "1", "{stage}");
    }
}

#[test]
fn of_two_that_start_at_once_the_one_with_wishes_has_them() {
    for round in 0..40 {
        let pod = Pod::new("egress: \"*\"\n");
        let (a, b) = (pod.container("a").with("egress", "10.9.8.7"), pod.container("b"));
        let mut both = [pod.begin(&a, "createRuntime"), pod.begin(&b, "createRuntime")];
        assert!(both.iter_mut().all(|child| child.wait().unwrap().success()), "round {round}");
        assert!(pod.rules().contains("10.9.8.7"), "round {round}: b's rules took the place of a's");
    }
}
