//! What the commands say of containers that run: what the kernel holds and not what a file says, nothing passed over in
//! silence, and each case told from its neighbour.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use nix::unistd::{Uid, chown};
use serde_json::{Value, json};
use support::container::{Dialect, binary, hook_in};
use support::fault::{Change, a_file, a_link};
use support::outside::{Scene, Wire};
use support::schema::described;
use support::{Container, Namespace};
use tempfile::TempDir;

/// A host with its state directory, and a configuration that changes.
struct Host {
    dir: TempDir,
}

impl Host {
    fn new(config: &str) -> Host {
        let host = Host { dir: tempfile::tempdir().expect("a directory") };
        host.configure(config);
        host
    }

    fn config(&self) -> String {
        fs::read_to_string(self.dir.path().join("config.yaml")).expect("the configuration")
    }

    fn configure(&self, config: &str) {
        let none = self.dir.path().join("policies");
        let text = format!("policies: {}\n{config}", none.display());
        fs::write(self.dir.path().join("config.yaml"), text).expect("the configuration is written");
    }

    fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    fn record(&self, id: &str) -> PathBuf {
        self.run_dir().join(format!("containers/{id}.json"))
    }

    fn stage(&self, stage: &str, state: &Value) -> Output {
        hook_in(&self.dir, stage, state, Some(&self.config()))
    }

    fn start(&self, container: &Container) {
        let output = self.stage("createRuntime", &container.state(Dialect::Runc));
        assert!(output.status.success(), "{}", text(&output.stderr));
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.args(args).arg("--config").arg(self.dir.path().join("config.yaml"));
        command.arg("--run-dir").arg(self.run_dir()).env_clear().output().expect("netlatch runs")
    }

    fn json(&self, id: &str) -> Value {
        answer(&self.run(&["inspect", id, "--output", "json"]))
    }

    fn text(&self, id: &str) -> String {
        let output = self.run(&["inspect", id]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn answer(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    described("inspect", &text(&output.stdout))
}

/// A failure with this code, said in one line, which is returned.
fn refused(output: &Output, code: i32) -> String {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.starts_with("netlatch: cannot ") && said.lines().count() == 1, "{said}");
    said
}

fn not_covered(said: &Value) -> Vec<&str> {
    said["not-covered"].as_array().expect("a list").iter().map(|one| one["name"].as_str().expect("a name")).collect()
}

fn holding(container: &Container, capabilities: &[&str]) {
    container.write_config(&json!({
        "ociVersion": "1.0.2",
        "process": {"capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities}},
        "linux": {"namespaces": [{"type": "user"}, {"type": "pid"}, {"type": "network"}]},
    }));
}

fn named(id: &str, namespace: &Namespace) -> Container {
    let mut container = Container::of(namespace).with("egress", "10.0.0.0/8:443");
    container.id = id.to_owned();
    container
}

fn connected() -> Namespace {
    let namespace = Namespace::new();
    namespace.ip_batch("link add eth0 type veth peer name far\nlink set eth0 up\nlink set far up\n");
    namespace
}

fn inspected(scene: &Scene, args: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(["inspect", &scene.container.id]).args(args).arg("--run-dir").arg(scene.run_dir());
    command.arg("--config").arg(scene.run_dir().with_file_name("config.yaml")).env_clear();
    scene.host.within(|| command.output().expect("netlatch runs"))
}

#[test]
fn the_rules_at_the_hosts_side_are_compared_and_every_veth_is_looked_at() {
    let scene = Scene::started(Wire::Routed, "host-side", &[("egress", "10.9.1.1")]);
    let name = format!("netlatch-{}", scene.container.id);
    let said = || answer(&inspected(&scene, &["-o", "json"]));
    let before = said();
    let side = json!({
        "table": name, "there": true, "compared": {"result": "equal", "details": []},
        "veths": [{"name": "ctr0", "state": "judged"}],
    });
    assert_eq!((&before["host-side"], &before["rules"]), (&side, &json!("as recorded")), "{before:#}");
    assert!(!not_covered(&before).contains(&"net-admin"), "{before:#}");
    let shown = text(&inspected(&scene, &[]).stdout);
    assert!(shown.contains(&format!("\n  host side  table netdev {name}, on ctr0\n")), "{shown}");

    // A way in past the rules.
    let pid = scene.arena.world.ctr.pid();
    scene.host.ip_batch(&format!("link add late0 type veth peer name eth1 netns {pid}\n"));
    let late = said();
    assert_eq!(late["host-side"]["veths"][1], json!({"name": "late0", "state": "past-the-rules"}), "{late:#}");
    assert_eq!(late["rules"], "differ");
    let shown = text(&inspected(&scene, &[]).stdout);
    assert!(shown.contains("             late0 leads into the container, past these rules\n"), "{shown}");
    scene.host.ip_batch("link del late0\n");

    scene.host.nft_load(&format!("insert rule netdev {name} from_ingress accept\n"));
    let changed = said();
    assert_eq!((&changed["host-side"]["compared"]["result"], &changed["rules"]), (&json!("differs"), &json!("differ")));
    assert_eq!(changed["compared"]["result"], "equal", "{changed:#}");

    scene.host.run("nft", &["delete", "table", "netdev", &name], "");
    let gone = said();
    assert_eq!((&gone["host-side"]["there"], &gone["rules"]), (&json!(false), &json!("differ")), "{gone:#}");
    assert_eq!(not_covered(&gone)[0], "net-admin");
    let shown = text(&inspected(&scene, &[]).stdout);
    assert!(shown.contains(&format!("\n  host side  table netdev {name} is missing\n")), "{shown}");

    scene.host.ip_batch("link del ctr0\n");
    assert_eq!(said()["host-side"]["veths"], json!([{"name": "ctr0", "state": "gone"}]));
}

#[test]
fn the_guard_is_shown_with_its_links_and_told_from_the_rules() {
    let (host, namespace) = (Host::new(""), connected());
    let container = named("web", &namespace);
    host.start(&container);
    let said = host.json("web");
    let guard = json!({
        "there": true, "on": ["lo", "far", "eth0"], "not-on": [], "compared": {"result": "equal", "details": []},
    });
    assert_eq!(said["guard"], guard, "{said:#}");
    assert!(host.text("web").contains("\n  guard      on lo, far, eth0\n"), "{}", host.text("web"));

    namespace.ip_batch("link add strange0 type veth peer name lo0\n");
    let said = host.json("web");
    assert_eq!((&said["guard"]["not-on"], &said["rules"]), (&json!(["lo0", "strange0"]), &json!("differ")));
    assert!(host.text("web").contains("; not on lo0, strange0\n"), "{}", host.text("web"));
    namespace.ip_batch("link del strange0\n");

    namespace.run("nft", &["delete", "table", "netdev", "netlatch"], "");
    let said = host.json("web");
    assert_eq!((&said["guard"]["there"], &said["compared"]["result"]), (&json!(false), &json!("equal")), "{said:#}");
    assert_eq!(said["guard"]["compared"]["details"], json!(["there is no table netdev netlatch, the guard"]));
    assert!(host.text("web").contains("\n  guard      missing\n"), "{}", host.text("web"));
    let output = host.stage("poststart", &container.state(Dialect::Runc));
    assert!(refused(&output, 34).contains("there is no table netdev netlatch, the guard"), "{}", text(&output.stderr));

    namespace.run("nft", &["delete", "table", "inet", "netlatch"], "");
    assert_eq!(host.json("web")["compared"]["details"], json!(["there is no table inet netlatch"]));
}

#[test]
fn what_a_container_may_do_is_judged_by_the_kernel_and_not_by_todays_file() {
    let (host, namespace, other) = (Host::new("net-admin: allow\nnet-raw: allow\n"), connected(), connected());
    let (container, neighbour) = (named("web", &namespace), named("plain", &other));
    holding(&container, &["CAP_NET_ADMIN", "CAP_NET_RAW"]);
    host.start(&container);
    host.start(&neighbour);
    for config in ["", "net-admin: host-side\n", "net-raw: allow\n"] {
        host.configure(config);
        let said = host.json("web");
        assert_eq!(not_covered(&said)[..2], ["net-admin", "packet-sockets"], "{config}: {said:#}");
    }
    // All that can be done is done, and the rest is said.
    for (config, code) in [("egress: 10.2.0.0/16\n", 28), ("egress: 10.3.0.0/16\nnet-admin: host-side\n", 19)] {
        host.configure(config);
        let output = host.run(&["reload"]);
        let said = refused(&output, code);
        assert!(said.contains("container web, which would not start today: "), "{said}");
        let done = text(&output.stdout);
        assert!(done.contains("web: rules replaced") && done.contains("plain: rules replaced"), "{done}");
    }
    // By then it has a guard.
    assert_eq!(not_covered(&host.json("web")), ["net-admin", "af-xdp", "af-vsock", "raw-sockets"]);
    host.configure("net-admin: allow\nnet-raw: refuse\n");
    assert!(refused(&host.run(&["reload"]), 29).contains("container web, "));
    host.configure("net-admin: allow\n");
    assert!(host.run(&["reload"]).status.success());
}

#[test]
fn a_record_that_is_damaged_is_named_when_all_else_is_done() {
    let (host, first, second) = (Host::new(""), connected(), connected());
    let (web, db) = (named("web", &first), named("db", &second));
    host.start(&web);
    host.start(&db);
    fs::write(host.record("web"), "{").expect("a file");
    let output = host.run(&["inspect"]);
    let said = refused(&output, 40);
    assert!(said.contains("containers/web.json: it is damaged"), "{said}");
    assert!(text(&output.stdout).contains("\ndb "), "{}", text(&output.stdout));
    refused(&host.run(&["inspect", "web"]), 40);
    assert!(host.run(&["inspect", "db"]).status.success(), "it was not asked for");
    host.configure("egress: 10.2.0.0/16\n");
    let output = host.run(&["reload"]);
    assert!(refused(&output, 40).contains("containers/web.json: it is damaged"));
    assert!(text(&output.stdout).contains("db: rules replaced"), "{}", text(&output.stdout));
    fs::write(host.record("db"), "[]").expect("a file");
    for command in ["inspect", "reload"] {
        let output = host.run(&[command]);
        assert!(refused(&output, 40).contains("the records of db, web are damaged"), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "", "{command}: it is not said that there is nobody");
    }
}

#[test]
fn as_the_hosts_root_a_state_directory_that_cannot_be_used_is_not_taken_for_an_empty_one() {
    let changes: [(&str, &Change); 5] = [
        ("a file", &a_file),
        ("a link", &a_link),
        ("another user's", &|dir| {
            fs::create_dir(dir).unwrap();
            chown(dir, Some(Uid::from_raw(65533)), None).unwrap();
        }),
        ("everybody's", &|dir| {
            fs::create_dir(dir).unwrap();
            fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).unwrap();
        }),
        ("one whose folder of records is a file", &|dir| {
            fs::create_dir(dir).unwrap();
            fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).unwrap();
            fs::write(dir.join("containers"), "").unwrap();
        }),
    ];
    for (case, change) in changes {
        let host = Host::new("");
        change(&host.run_dir());
        for args in [&["inspect"][..], &["inspect", "web"], &["reload"]] {
            let output = host.run(args);
            assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(40), ""), "{case}: {args:?}");
            refused(&output, 40);
        }
    }
}

#[test]
fn as_the_hosts_root_last_error_without_rights_says_so() {
    let host = Host::new("");
    fs::set_permissions(host.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let bad = Container::of(&Namespace::new()).with("egres", "none");
    assert_eq!(host.stage("createRuntime", &bad.state(Dialect::Runc)).status.code(), Some(15));
    // Where others can start it.
    let program = host.dir.path().join("netlatch");
    fs::copy(binary(), &program).unwrap();
    let ask = |args: &[&str]| {
        let mut command = Command::new(&program);
        command.arg("last-error").args(args).arg("--run-dir").arg(host.run_dir()).env_clear();
        command.uid(65534).gid(65534).output().expect("netlatch runs")
    };
    for args in [&[][..], &[bad.id.as_str()], &["nobody"]] {
        let output = ask(args);
        assert_eq!(text(&output.stdout), "");
        assert!(refused(&output, 42).contains("EACCES"), "{}", text(&output.stderr));
    }
    // The same directory, once it may be looked into.
    fs::set_permissions(host.run_dir(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(host.run_dir().join("errors"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(ask(&["nobody"]).status.code(), Some(1));
    refused(&ask(&[&bad.id]), 42);
}

#[test]
fn poststart_says_what_changed_since_create_runtime() {
    let (host, namespace) = (Host::new(""), connected());
    let container = named("web", &namespace);
    host.start(&container);
    host.configure("egress: 10.2.0.0/16\n");
    let said = refused(&host.stage("poststart", &container.state(Dialect::Runc)), 34);
    let wanted = "the configuration file, the policies or the container's annotations changed since createRuntime (then \
                  netlatch ";
    assert!(said.contains(wanted) && said.contains(", now netlatch "), "{said}");
}

#[test]
fn what_a_missed_stop_left_goes_with_the_next_reload() {
    let (host, namespace) = (Host::new(""), connected());
    let container = named("web", &namespace);
    host.start(&container);
    drop(namespace);
    assert_eq!(host.run(&["inspect", "web"]).status.code(), Some(1));
    assert!(host.run(&["reload"]).status.success());
    assert!(!host.record("web").exists());
    assert_eq!(text(&host.run(&["inspect"]).stdout), "no container is recorded\n");
}

#[test]
fn what_inspect_prints_fits_a_terminal_wherever_a_line_can_be_broken() {
    let (host, namespace, other) = (Host::new(""), connected(), connected());
    let long = "0123456789abcdef".repeat(4);
    let lists = "10.0.0.0/8:443, @internet:443, 192.0.2.0/24:53-60, udp/[2001:db8::/32]:53, !10.9.9.0/24";
    let mut container = named(&long, &namespace).with("egress", lists).with("labels", "app=web");
    holding(&container, &["CAP_NET_RAW"]);
    container.annotations.insert("io.netlatch.ingress".into(), lists.into());
    host.start(&container);
    host.start(&named(&long.replace("def", "fff"), &other));
    namespace.run("nft", &["insert", "rule", "inet", "netlatch", "output", "meta", "mark", "7", "accept"], "");
    let shown = host.text(&long);
    for line in shown.lines().chain(text(&host.run(&["inspect"]).stdout).lines()) {
        let fits = line.chars().count() <= 80 || line.trim().split(' ').count() <= 2;
        assert!(fits, "{line}");
    }
    assert!(text(&host.run(&["inspect"]).stdout).contains(&long[..14]), "one is told from the other");
}
