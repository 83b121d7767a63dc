//! `netlatch explain`: the verdict, the rule that decided, what came near, and the ruleset's own word.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use netlatch::kernel::netns::Target;
use netlatch::registry::started;
use serde_json::{Value, json};
use support::container::binary;
use support::schema::described;

/// Two namespaces of pods with both families, a node, a pod on its network, a service.
const INVENTORY: &str = "
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: blue}}}
- {apiVersion: v1, kind: Namespace, metadata: {name: ops, labels: {team: red}}}
- {apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: 10.0.0.1}]}}
- {apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: web, labels: {app: web, tier: back}}, spec: {nodeName: n1}, status: {podIPs: [{ip: 10.1.0.1}, {ip: 'fd00::1'}]}}
- apiVersion: v1
  kind: Pod
  metadata: {namespace: shop, name: db, labels: {app: db}}
  spec: {nodeName: n1, containers: [{name: c, ports: [{name: sql, containerPort: 5432}]}]}
  status: {podIPs: [{ip: 10.1.0.2}, {ip: 'fd00::2'}]}
- {apiVersion: v1, kind: Pod, metadata: {namespace: ops, name: probe, labels: {app: probe}}, status: {podIPs: [{ip: 10.1.0.3}]}}
- {apiVersion: v1, kind: Pod, metadata: {namespace: ops, name: agent}, spec: {nodeName: n1, hostNetwork: true}, status: {podIPs: [{ip: 10.0.0.1}]}}
- {apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: new, labels: {app: new}}, status: {phase: Pending}}
- {apiVersion: v1, kind: Service, metadata: {namespace: shop, name: db}, spec: {clusterIP: 10.96.0.1, selector: {app: db}, ports: [{port: 8000, targetPort: sql}]}}
";

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let place = Place { dir: tempfile::tempdir().expect("a directory") };
        fs::create_dir(place.dir.path().join("policies")).expect("a directory");
        place.write("inventory.yaml", INVENTORY);
        place
    }

    /// With a NetworkPolicy of `shop` that governs the pod db; its rules begin in line 5.
    fn with_rules(rules: &str) -> Place {
        let place = Place::new();
        place.write(
            "policy.yaml",
            &policy("shop", "db", &format!("podSelector: {{matchLabels: {{app: db}}}}, {rules}")),
        );
        place
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("a mode");
    }

    fn run(&self, command: &str, input: &str) -> Output {
        use std::io::Write;
        let mut child = Command::new(binary())
            .args(command.split(' '))
            .env_clear()
            // Sentences in one piece.
            .env("COLUMNS", "1000")
            .current_dir(self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
        child.wait_with_output().expect("the program ends")
    }

    /// `shop/web shop/db --port 80`.
    fn explain(&self, ends: &str) -> String {
        let (from, rest) = ends.split_once(' ').expect("two ends");
        let files =
            if self.dir.path().join("policy.yaml").exists() { "inventory.yaml policy.yaml" } else { "inventory.yaml" };
        done(&self.run(&format!("explain -f {files} --from {from} --to {rest}"), ""))
    }

    /// What came near, line by line.
    fn nearest(&self, ends: &str) -> Vec<String> {
        let said = self.explain(ends);
        assert!(said.starts_with("denied: "), "{said}");
        assert!(said.contains("ruleset: agrees, chain "), "{said}");
        let near = |line: &str| line.trim_start().strip_prefix("nearest: ").map(str::to_owned);
        said.lines().filter_map(near).collect()
    }

    /// Of a container with these annotations.
    fn with_state(&self, config: &str, annotations: Value, ends: &str) -> String {
        self.write("config.yaml", &format!("policies: {}\n{config}", self.dir.path().join("policies").display()));
        let state = json!({"ociVersion": "1.0.2", "id": "c1", "annotations": annotations});
        done(&self.run(&format!("explain --state - --config config.yaml {ends}"), &state.to_string()))
    }
}

fn policy(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{namespace: {namespace}, name: {name}}}\nspec:\n  {{{spec}}}\n"
    )
}

fn done(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), stderr.as_ref()), (Some(0), ""), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// The only near miss of a packet from web to db.
#[track_caller]
fn lacks(rules: &str, ends: &str, clause: &str) {
    let near = Place::with_rules(rules).nearest(ends);
    let direction = if rules.starts_with("policyTypes: [Egress]") { "egress" } else { "ingress" };
    assert_eq!(near, [format!("NetworkPolicy shop/db spec.{direction}[0] (policy.yaml:5): {clause}")]);
}

#[test]
fn a_missing_label_is_named() {
    lacks(
        "ingress: [{from: [{podSelector: {matchLabels: {zone: a}}}]}]",
        "shop/web shop/db --port 80",
        "the source's labels lack zone=a",
    );
}

#[test]
fn another_value_of_a_label_is_named_with_what_was_asked_for() {
    lacks(
        "ingress: [{from: [{podSelector: {matchLabels: {tier: front}}}]}]",
        "shop/web shop/db --port 80",
        "the source's labels have tier=back, not tier=front",
    );
}

#[test]
fn a_peer_that_matches_with_another_port_is_near() {
    lacks(
        "ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 5432}, {port: 8000, endPort: 8010}]}]",
        "shop/web shop/db --port 80",
        "TCP 80 is not TCP 5432 or TCP 8000-8010",
    );
}

#[test]
fn another_protocol_is_near() {
    lacks("ingress: [{ports: [{port: 53, protocol: UDP}]}]", "shop/web shop/db --port 53", "TCP 53 is not UDP 53");
}

#[test]
fn icmp_is_near_to_a_rule_for_ports() {
    lacks(
        "ingress: [{ports: [{port: 53}]}]",
        "shop/web shop/db --protocol ICMP",
        "the rule is for ports, and ICMP has none",
    );
}

#[test]
fn a_namespace_that_is_not_selected_is_named_with_its_labels() {
    lacks(
        "ingress: [{from: [{namespaceSelector: {matchLabels: {team: blue}}}]}]",
        "ops/probe shop/db --port 80",
        "the labels of namespace ops have team=red, not team=blue",
    );
}

#[test]
fn a_pod_selector_without_a_namespace_selector_is_told() {
    lacks(
        "ingress: [{from: [{podSelector: {matchLabels: {app: probe}}}]}]",
        "ops/probe shop/db --port 80",
        "the source is not in namespace shop and there is no namespaceSelector",
    );
}

#[test]
fn an_except_block_is_named() {
    lacks(
        "ingress: [{from: [{ipBlock: {cidr: 8.0.0.0/8, except: [8.8.0.0/16]}}]}]",
        "8.8.8.8 shop/db --port 80",
        "8.8.8.8 is in the except block 8.8.0.0/16 of 8.0.0.0/8",
    );
}

#[test]
fn a_block_of_the_other_family_is_told() {
    lacks(
        "ingress: [{from: [{ipBlock: {cidr: '::/0'}}]}]",
        "8.8.8.8 shop/db --port 80",
        "8.8.8.8 is IPv4, and ::/0 is not",
    );
}

#[test]
fn a_block_that_an_address_is_outside_of_is_named() {
    lacks(
        "policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 9.0.0.0/8}}]}]",
        "shop/db 8.8.8.8 --port 80",
        "8.8.8.8 is not in 9.0.0.0/8",
    );
}

#[test]
fn a_port_name_that_the_pod_does_not_have_is_told() {
    lacks(
        "ingress: [{ports: [{port: http}]}]",
        "shop/web shop/db --port 80",
        "TCP 80 is not the port http, which shop/db does not have",
    );
}

#[test]
fn a_port_name_is_told_with_its_number() {
    lacks(
        "ingress: [{ports: [{port: sql}]}]",
        "shop/web shop/db --port 80",
        "TCP 80 is not the port sql, which is TCP 5432 at shop/db",
    );
}

#[test]
fn a_source_that_is_no_pod_or_on_the_hosts_network_is_told() {
    let anyone = "ingress: [{from: [{namespaceSelector: {}}]}]";
    lacks(anyone, "8.8.8.8 shop/db --port 80", "the source is no pod");
    let place = Place::with_rules("policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}}]}]");
    let near = place.nearest("shop/db ops/agent --port 80");
    assert_eq!(
        near,
        ["NetworkPolicy shop/db spec.egress[0] (policy.yaml:5): the destination is on the host's network"]
    );
}

#[test]
fn the_rule_that_lacks_least_comes_first_and_three_are_told() {
    let place = Place::with_rules(
        "ingress: [{from: [{podSelector: {matchLabels: {app: x, tier: y}}}]}, \
         {from: [{podSelector: {matchLabels: {app: x}}}], ports: [{port: 1}]}, \
         {from: [{podSelector: {matchLabels: {app: z}}}]}, {from: [{ipBlock: {cidr: 9.0.0.0/8}}]}]",
    );
    let near = place.nearest("shop/web shop/db --port 80");
    let rules: Vec<&str> =
        near.iter().map(|line| &line[line.find("spec.").unwrap()..line.find(" (").unwrap()]).collect();
    assert_eq!(rules, ["spec.ingress[2]", "spec.ingress[0]", "spec.ingress[1]"]);
    assert!(near[2].ends_with("have app=web, not app=x, and TCP 80 is not TCP 1"), "{near:?}");
}

#[test]
fn a_policy_for_other_pods_is_not_near_and_is_told_only_where_nothing_is() {
    let place = Place::new();
    let other = policy("shop", "other", "podSelector: {matchLabels: {app: bd}}, ingress: [{}]");
    let deny = policy("shop", "deny", "podSelector: {}");
    place.write("policy.yaml", &format!("{deny}---\n{other}"));
    let said = place.explain("shop/web shop/db --port 80");
    assert!(!said.contains("nearest: "), "{said}");
    let expected = "  for other pods: NetworkPolicy shop/other spec.ingress[0] (policy.yaml:11): its podSelector does not \
                    select shop/db: the labels have app=db, not app=bd\n";
    assert!(said.contains(expected), "{said}");
    let near = policy("shop", "near", "podSelector: {}, ingress: [{ports: [{port: 81}]}]");
    place.write("policy.yaml", &format!("{near}---\n{other}"));
    let said = place.explain("shop/web shop/db --port 80");
    assert!(said.contains("nearest: NetworkPolicy shop/near") && !said.contains("for other pods"), "{said}");
}

#[test]
fn behind_a_rule_that_denies_nothing_is_near_and_before_it_what_accepts_or_passes_on_is() {
    let place = Place::new();
    let cluster = |last: &str| {
        format!(
            "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: c}}\n\
             spec:\n  tier: Admin\n  priority: 1\n  subject: {{namespaces: {{}}}}\n  ingress:\n\
             {}{}{}{last}",
            "  - {action: Pass, from: [{namespaces: {matchLabels: {team: green}}}]}\n",
            "  - {action: Deny, name: no-one, from: [{namespaces: {}}]}\n",
            "  - {action: Accept, from: [{namespaces: {matchLabels: {team: x}}}]}\n"
        )
    };
    place.write("policy.yaml", &cluster(""));
    let said = place.explain("shop/web shop/db --port 80");
    assert!(
        said.contains("denied by ClusterNetworkPolicy c spec.ingress[1] (policy.yaml:10), rule \"no-one\""),
        "{said}"
    );
    assert_eq!(
        place.nearest("shop/web shop/db --port 80"),
        [
            "ClusterNetworkPolicy c spec.ingress[0] (policy.yaml:9): the labels of namespace shop have team=blue, not team=green"
        ]
    );
    // Passed on to network policies that would deny as well.
    place.write("policy.yaml", &cluster(&format!("---\n{}", policy("shop", "deny", "podSelector: {}"))));
    assert_eq!(place.nearest("shop/web shop/db --port 80"), Vec::<String>::new());
}

#[test]
fn the_rule_that_allows_is_told_with_its_place_at_both_ends() {
    let place = Place::with_rules("ingress: [{from: [{podSelector: {}}], ports: [{port: sql}]}]");
    assert_eq!(
        place.explain("shop/web shop/db --port 5432"),
        "allowed: TCP 5432 from shop/web to shop/db\n\n\
         egress of shop/web to shop/db (10.1.0.2), TCP 5432: allowed, no policy isolates it and no rule denies it\n  \
         ruleset: agrees, nothing is filtered\n\n\
         ingress of shop/db from shop/web (10.1.0.1), TCP 5432: allowed by NetworkPolicy shop/db spec.ingress[0] (policy.yaml:5)\n  \
         ruleset: agrees, chain ingress_network, rule \"policy.yaml:5 spec.ingress[0].from[0]\"\n"
    );
}

#[test]
fn a_denial_names_the_policy_that_isolates_and_the_rule_of_the_ruleset() {
    let said = Place::with_rules("ingress: []").explain("shop/web shop/db --port 1");
    assert!(said.starts_with("denied: TCP 1 from shop/web to shop/db\n"), "{said}");
    assert!(
        said.contains("denied, isolated by NetworkPolicy shop/db (policy.yaml:1) and no rule allows it\n"),
        "{said}"
    );
    assert!(
        said.contains("ruleset: agrees, chain ingress_network, rule \"NetworkPolicy shop/db at policy.yaml:1"),
        "{said}"
    );
}

#[test]
fn a_family_that_comes_to_another_end_is_told() {
    let said =
        Place::with_rules("ingress: [{from: [{ipBlock: {cidr: 'fd00::/64'}}]}]").explain("shop/web shop/db --port 1");
    assert!(said.starts_with("allowed: "), "{said}");
    assert!(said.contains("note: IPv4 is judged otherwise"), "{said}");
    let halves: Vec<&str> = said.lines().filter(|line| line.starts_with("ingress of shop/db from ")).collect();
    assert!(
        halves[0].contains("(fd00::1), TCP 1: allowed") && halves[1].contains("(10.1.0.1), TCP 1: denied"),
        "{said}"
    );
}

#[test]
fn a_service_is_explained_by_its_endpoints() {
    let place = Place::with_rules("ingress: [{ports: [{port: 1}]}]");
    let said = place.explain("shop/web 10.96.0.1 --port 8000");
    assert!(said.starts_with("denied: TCP 8000 from shop/web to 10.96.0.1\nnote: 10.96.0.1 is service shop/db with 1 endpoint behind the port, 1 denied\n"), "{said}");
    assert!(
        said.contains("egress of shop/web to 10.96.0.1, TCP 8000: allowed, every endpoint is (service shop/db)\n"),
        "{said}"
    );
    assert!(said.contains("ingress of shop/db from shop/web (10.1.0.1), TCP 5432: denied"), "{said}");
    let place = Place::new();
    place.write("policy.yaml", &policy("shop", "web", "podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: db}}}]}]"));
    let said = place.explain("shop/web 10.96.0.1 --port 8000");
    assert!(said.starts_with("allowed: "), "{said}");
    assert!(said.contains("ruleset: agrees, chain egress_service, rule \"services, by their endpoints\""), "{said}");
}

#[test]
fn what_the_ruleset_cannot_be_asked_is_said() {
    let place = Place::with_rules("ingress: [], egress: []");
    for (ends, verdict, why) in [
        ("shop/db shop/db --port 1", "allowed", "what a pod sends to itself stays on lo"),
        ("ops/agent shop/db --port 1", "allowed", "the host's network is never filtered"),
        ("8.8.8.8 shop/db --port 1", "denied", "there is no pod at this end"),
        ("shop/new shop/db --port 1", "denied", "the other end has no address yet"),
    ] {
        let said = place.explain(ends);
        assert!(said.starts_with(verdict) && said.contains(&format!("ruleset: not asked, {why}\n")), "{said}");
    }
}

#[test]
fn programs_get_the_documented_keys() {
    let place = Place::with_rules("ingress: [{from: [{podSelector: {matchLabels: {tier: front}}}]}]");
    let said = place.explain("shop/web shop/db --port 80 --output json");
    let answer = described("explain", &said);
    let head = ["from", "to", "proto", "port", "allowed", "egress", "ingress", "agrees", "notes"]
        .map(|key| answer[key].clone());
    assert_eq!(json!(head), json!(["shop/web", "shop/db", "TCP", 80, false, true, false, true, []]));
    let half = &answer["halves"][1];
    assert_eq!(
        json!([half["direction"], half["of"], half["peer"], half["proto"], half["port"], half["allowed"]]),
        json!(["ingress", "shop/db", "shop/web (10.1.0.1)", "TCP", 80, false])
    );
    assert_eq!(
        half["layers"],
        json!([{
            "layer": "policies", "allowed": false, "origin": "policy.yaml:1", "file": "policy.yaml", "line": 1, "at": "",
            "why": "denied, isolated by NetworkPolicy shop/db (policy.yaml:1) and no rule allows it",
            "nearest": [{
                "rule": "NetworkPolicy shop/db", "governs": true, "lacks": ["the source's labels have tier=back, not tier=front"],
                "origin": "policy.yaml:5 spec.ingress[0]", "file": "policy.yaml", "line": 5, "at": "spec.ingress[0]",
            }],
        }])
    );
    assert_eq!(
        json!([
            half["ruleset"]["asked"],
            half["ruleset"]["allowed"],
            half["ruleset"]["agrees"],
            half["ruleset"]["chain"]
        ]),
        json!([true, false, true, "ingress_network"])
    );
    let itself: Value = serde_json::from_str(&place.explain("shop/db shop/db --port 80 -o json")).expect("JSON");
    assert_eq!(
        itself["halves"][0]["ruleset"],
        json!({"asked": false, "why": "what a pod sends to itself stays on lo"})
    );
}

#[test]
fn a_container_is_asked_every_layer_of_its_own() {
    let place = Place::new();
    let web = policy(
        "shop",
        "web",
        "podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{ports: [{port: 443}]}]",
    );
    place.write("policies/web.yaml", &web);
    let annotations = || json!({"io.netlatch.namespace": "shop", "io.netlatch.labels": "app=web", "io.netlatch.egress": "192.0.2.0/24:443"});
    let config = "egress: ['*', '!192.0.2.9']\n";
    let explain = |ends: &str| place.with_state(config, annotations(), ends);
    let said = explain("--to 192.0.2.7 --port 443");
    assert!(said.starts_with("allowed: TCP 443 from c1 to 192.0.2.7\n\negress of c1 to 192.0.2.7, TCP 443: allowed\n  always-denied: passes"), "{said}");
    assert!(
        said.contains("\n  policies: allowed by NetworkPolicy shop/web spec.egress[0] (")
            && said.contains("web.yaml:5)\n"),
        "{said}"
    );
    assert!(said.contains("\n  baseline: allowed by \"*\" (config.yaml:2 egress[0])\n"), "{said}");
    assert!(said.contains("\n  annotation: allowed by \"192.0.2.0/24:443\" (annotation io.netlatch.egress)\n  ruleset: agrees, chain egress, rule \"annotation io.netlatch.egress: 192.0.2.0/24:443\""), "{said}");

    let said = explain("--to 192.0.2.9 --port 443");
    assert!(
        said.starts_with("denied")
            && said.contains("\n  baseline: denied by \"!192.0.2.9\" (config.yaml:2 egress[1])\n"),
        "{said}"
    );
    let said = explain("--to 192.0.2.7 --port 80");
    assert!(
        said.contains("\n    nearest: NetworkPolicy shop/web spec.egress[0]")
            && said.contains("TCP 80 is not TCP 443\n"),
        "{said}"
    );
    assert!(said.contains("annotation: denied, no entry of the list allows it (annotation io.netlatch.egress)\n    nearest: \"192.0.2.0/24:443\""), "{said}");
    let said = explain("--to 169.254.169.254 --port 443");
    assert!(said.contains("\n  always-denied: denied as @metadata (built-in always-denied)"), "{said}");
    let said = explain("--from 192.0.2.7 --port 1");
    assert!(
        said.starts_with("allowed: TCP 1 from 192.0.2.7 to c1\n") && said.contains("no policy isolates it"),
        "{said}"
    );
    let said = place.with_state("ipv6: disable\n", annotations(), "--to 2001:db8::1 --port 443");
    assert!(said.contains("denied, IPv6 is off (config.yaml:2 ipv6)\n  ruleset: agrees"), "{said}");
    let said = place.with_state("mode: audit\n", annotations(), "--to 8.8.8.8 --port 1");
    assert!(
        said.starts_with("allowed") && said.contains("annotation: passes in audit mode; otherwise denied, no entry"),
        "{said}"
    );
    let said = place.with_state("", annotations(), "--to 127.0.0.1 --port 1");
    assert!(
        said.starts_with("allowed")
            && said.contains("ruleset: not asked, what a container sends to itself stays on lo"),
        "{said}"
    );
}

#[test]
fn a_running_container_is_an_end_by_its_id() {
    let place = Place::with_rules("ingress: [{from: [{podSelector: {matchLabels: {tier: front}}}]}]");
    let pid = std::process::id() as i32;
    let netns = Target::Process(pid).namespace().expect("a namespace");
    let record = json!({
        "id": "c1", "pid": pid, "started": started(pid), "netns": [netns.dev, netns.ino], "table": null, "explicit": true,
        "namespace": "shop", "labels": {"tier": "front"}, "recorded_ms": 1, "addresses": ["10.1.0.7"],
    });
    fs::create_dir_all(place.dir.path().join("run/containers")).expect("a directory");
    place.write("run/containers/c1.json", &record.to_string());
    let said = place.explain("container:c1 shop/db --port 80 --run-dir run");
    assert!(said.starts_with("allowed: TCP 80 from shop/c1 to shop/db\n"), "{said}");
    assert!(
        said.contains("ingress of shop/db from shop/c1 (10.1.0.7), TCP 80: allowed by NetworkPolicy shop/db"),
        "{said}"
    );
    // The directory makes it a pod like any other; without, its address is anybody's.
    assert!(place.explain("10.1.0.7 shop/db --port 80 --run-dir run").starts_with("allowed: "));
    assert!(place.explain("10.1.0.7 shop/db --port 80").starts_with("denied: "));
    // Two that selectors tell apart have one address.
    place.write(
        "other.yaml",
        "{apiVersion: v1, kind: Pod, metadata: {namespace: ops, name: other}, status: {podIP: 10.1.0.7}}",
    );
    let said = done(&place.run("explain -f . --from 10.1.0.7 --to shop/db --port 80 --run-dir run", ""));
    assert!(said.contains("ruleset: not asked, several pods have the other end's address\n"), "{said}");
    fs::remove_file(place.dir.path().join("other.yaml")).expect("a file");
    // As a peer of a container with a state; its own address is itself.
    place.write("policies/policy.yaml", &fs::read_to_string(place.dir.path().join("policy.yaml")).expect("a file"));
    let db = || json!({"io.netlatch.namespace": "shop", "io.netlatch.labels": "app=db"});
    assert!(place.with_state("", db(), "--from 10.1.0.7 --port 80 --run-dir run").starts_with("allowed: "));
    assert!(place.with_state("", db(), "--from 10.1.0.7 --port 80").starts_with("denied: "));
    let own =
        json!({"io.netlatch.namespace": "shop", "io.netlatch.labels": "tier=front", "io.netlatch.egress": "none"});
    let said = place.with_state("", own, "--to 10.1.0.7 --port 80 --run-dir run");
    assert!(said.starts_with("allowed: ") && said.contains("a container always reaches itself\n"), "{said}");
    // One that has ended is nobody.
    let mut ended = record;
    ended["started"] = json!(1);
    place.write("run/containers/c1.json", &ended.to_string());
    assert!(place.explain("10.1.0.7 shop/db --port 80 --run-dir run").starts_with("denied: "));
}

#[test]
fn what_cannot_be_asked_is_refused_with_its_place() {
    let place = Place::new();
    for (command, code, said) in [
        ("--from shop/web --to shop/nobody --port 1", 16, "--to: there is no pod \"shop/nobody\" in these manifests"),
        (
            "--from web --to shop/db --port 1",
            16,
            "--from: expected NAMESPACE/POD, an address or container:ID, found \"web\"",
        ),
        (
            "--from container:nobody --to shop/db --port 1 --run-dir run",
            16,
            "--from: no running container \"nobody\" is recorded in run",
        ),
        ("--from shop/web --to shop/db", 10, "--port is missing"),
        ("--from shop/web --to shop/db --port 1 --protocol icmp", 10, "ICMP has no ports"),
        ("--from shop/web --to shop/db --port 0", 10, "0 is not in 1..="),
        ("--from shop/web --port 1", 10, "--from and --to"),
        ("--from shop/web --to shop/db --port 1 --state x", 10, "cannot be used with"),
    ] {
        let output = place.run(&format!("explain -f inventory.yaml {command}"), "");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), stderr.lines().count()), (Some(code), 1), "{command}: {stderr}");
        assert!(stderr.contains(said), "{command}: {stderr}");
    }
    assert!(!place.dir.path().join("run").exists(), "who asks makes nothing");
    place.write("bad.yaml", &policy("shop", "x", "podSelektor: {}"));
    let output = place.run("explain -f bad.yaml --from shop/web --to shop/db --port 1", "");
    assert_eq!(output.status.code(), Some(16));
    assert!(String::from_utf8_lossy(&output.stderr).contains("bad.yaml:5:"), "{output:?}");
}

#[test]
fn a_denial_of_whom_nobody_can_identify_says_so() {
    let place = Place::new();
    place.write(
        "policy.yaml",
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: no-ops}\nspec:\n  \
         {tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {matchLabels: {team: red}}}]}]}\n",
    );
    let said = place.explain("fe80::1 shop/db --port 80");
    assert!(said.contains("(policy.yaml:5), for nobody can say whose a link-local address is\n"), "{said}");
    assert!(said.contains("ruleset: agrees, chain ingress_admin, "), "{said}");
    assert!(!place.explain("ops/probe shop/db --port 80").contains("nobody can say"));
}
