//! README and the recipes, followed to the letter on a machine of their own each.
//!
//! Ignored unless asked for, because they need engines: scripts/test.sh runs them where these are. Of the recipe for CRI-O all
//! is done but what needs CRI-O itself, systemd or a cluster, which tests/docs.rs lists.

mod support;

use regex::Regex;
use support::cri::Kubelet;
use support::machine::outcome;
use support::newcomer::{Newcomer, steps};

const IMAGES: [&str; 1] = ["docker.io/library/busybox:latest"];

/// Follows a document in which nothing but commands and files is left to be done, and looks that nothing of ours stays.
fn follow_with_podman(document: &str) {
    let newcomer = Newcomer::new().with_podman(&IMAGES);
    newcomer.follow(document);
    newcomer.machine.is_clean(document);
}

#[test]
#[ignore = "needs podman and runc"]
fn podman_does_what_readme_says_from_installing_to_uninstalling() {
    let newcomer = Newcomer::new().with_podman(&IMAGES);
    newcomer.follow("README");
    newcomer.machine.is_clean("README");
    let left = newcomer.run("find /usr /etc /run -name '*netlatch*' -not -path '/run/usr*' -not -path '/run/etc*'");
    assert_eq!(String::from_utf8_lossy(&left.stdout), "", "uninstalled");
}

#[test]
#[ignore = "needs podman and runc"]
fn podman_does_what_the_recipe_of_one_container_and_two_hosts_says() {
    follow_with_podman("recipe-podman");
}

#[test]
#[ignore = "needs podman and runc"]
fn podman_does_what_the_recipe_of_untrusted_builds_says() {
    follow_with_podman("recipe-builds");
}

#[test]
#[ignore = "needs podman and runc"]
fn podman_does_what_the_recipe_of_policies_that_are_there_says() {
    follow_with_podman("recipe-policies");
}

/// Without CRI-O itself: what it reads is installed, and a state such as it gives is one that the hook can use.
#[test]
#[ignore = "needs podman and runc"]
fn podman_machine_follows_the_recipe_of_a_cri_o_node_but_for_cri_o() {
    follow_with_podman("recipe-cri-o");
}

/// The annotations of a pod, as `KEY=VALUE` without `io.netlatch.`.
fn annotations(pod: &str) -> Vec<String> {
    let annotation = Regex::new(r#"(?m)^ +io\.netlatch\.([^:]*): *"?([^"\n]*)"?$"#).expect("an expression");
    annotation.captures_iter(pod).map(|found| format!("{}={}", &found[1], &found[2])).collect()
}

#[test]
#[ignore = "needs containerd and runc"]
fn containerd_does_what_the_recipe_of_a_containerd_node_says() {
    let newcomer = Newcomer::new();
    let (mut runtime, mut pods) = (String::new(), 0);
    for step in steps("recipe-containerd") {
        match step.language.as_str() {
            "toml" => step.text.strip_prefix("version = 2\n").expect("a version").clone_into(&mut runtime),
            "yaml" => {
                let kubelet = Kubelet::with(&newcomer.machine, &runtime);
                let annotations = annotations(&step.text);
                let annotations: Vec<&str> = annotations.iter().map(String::as_str).collect();
                let probes = ["tcp:10.9.1.1:443", "udp:10.9.1.1:53", "tcp:10.9.1.1:80"];
                let pod = kubelet.start("web", &annotations, &probes).unwrap_or_else(|(_, why)| panic!("{why}"));
                let report = pod.report();
                for (probe, expected) in probes.into_iter().zip(["connected", "sent", "refused"]) {
                    assert_eq!(outcome(&report, probe), expected, "{probe}: {report}");
                }
                kubelet.remove(&pod);
                pods += 1;
            }
            _ => newcomer.step(&step),
        }
    }
    assert_eq!((newcomer.machine.forbidden_heard(), pods), (0, 1));
    newcomer.machine.is_clean("containerd");
}
