//! Probes of `netlatch reach`.

use std::sync::LazyLock;

use netlatch::cli::reach::answer_all;
use netlatch::policy::lookup::World;
use netlatch::policy::model::Policies;
use netlatch::policy::parse::Collector;
use netlatch::policy::verdict::Judge;
use serde_json::Value;

/// A small cluster: two pods, a policy, a service.
const MANIFESTS: &str = "\
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: web, labels: {app: web}}
status: {podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: db, labels: {app: db}}
status: {podIPs: [{ip: 10.0.0.2}]}
---
apiVersion: v1
kind: Service
metadata: {namespace: shop, name: db}
spec: {clusterIP: 10.96.0.1, selector: {app: db}, ports: [{port: 443, targetPort: 5432}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: db}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 5432}]}]
";

static CLUSTER: LazyLock<(Policies, World)> = LazyLock::new(|| {
    let mut collector = Collector::new();
    collector.read("p.yaml", MANIFESTS.as_bytes());
    let manifests = collector.finish().manifests.expect("the manifests above");
    (manifests.policies, World::new(manifests.inventory))
});

/// Every answer is the probe with its answer, one line each, and an answer is a probe that is answered the same.
pub(crate) fn holds(bytes: &[u8]) {
    let (policies, world) = &*CLUSTER;
    let judge = Judge::new(policies, world);
    let answers = match answer_all(&judge, "stdin", bytes) {
        Ok(answers) => answers,
        Err(findings) => {
            assert!(!findings.is_empty());
            return super::assert_findings(&findings);
        }
    };
    let probes = bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).count();
    assert_eq!(answers.lines().count(), probes);
    super::assert_text(&answers);
    for answer in answers.lines() {
        let object: Value = serde_json::from_str(answer).expect("an answer is an object");
        let half = |name: &str| object[name].as_bool().expect("a boolean");
        assert_eq!(half("allowed"), half("egress") && half("ingress"));
        assert!(object["why"].as_str().is_some_and(|why| !why.is_empty()));
    }
    assert_eq!(answer_all(&judge, "stdin", answers.as_bytes()).as_ref(), Ok(&answers));
}
