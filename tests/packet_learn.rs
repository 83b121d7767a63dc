//! `learn` and what `inspect` says of denials, with real packets: what was learned lets the same through and nothing else.

mod support;

use std::io::{BufRead, BufReader, Read};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use netlatch::net::{Direction, Origin, Packet, Payload, Transport};
use netlatch::policy::list::List;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use support::container::{Dialect, binary, hook_in};
use support::schema::{described, is_as_described};
use support::{Container, Namespace, Outcome, Probe, World};
use tempfile::TempDir;

const SILENCE: Duration = Duration::from_millis(300);
/// Long enough to call a line that does not come missing.
const PATIENCE_MS: u16 = 20_000;

/// A host's state directory around a container.
struct Scene {
    world: World,
    dir: TempDir,
    config: String,
    id: String,
}

impl Scene {
    fn new(config: &str, annotations: &[(&str, &str)]) -> Scene {
        let world = World::new();
        let id = Container::of(&world.ctr).id;
        let scene = Scene { world, dir: tempfile::tempdir().expect("a directory"), config: config.to_owned(), id };
        scene.start(annotations);
        scene
    }

    /// Starts it, in the place of what stood there.
    fn start(&self, annotations: &[(&str, &str)]) {
        let container = annotations
            .iter()
            .fold(Container::of(&self.world.ctr), |container, (key, value)| container.with(key, value));
        let output = hook_in(&self.dir, "createRuntime", &container.state(Dialect::Runc), Some(&self.config));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn send(&self, probe: &str) -> Outcome {
        probe.parse::<Probe>().expect("a probe").send(&self.world.ctr, SILENCE)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(args).arg("--config").arg(self.dir.path().join("config.yaml"));
        command.arg("--run-dir").arg(self.dir.path().join("run")).env_clear().stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("netlatch runs")
    }

    /// What `learn` prints on stdout and on stderr.
    fn learn(&self, args: &[&str]) -> (String, String) {
        let output = self.run(&[&["learn", self.id.as_str()], args].concat());
        let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
        assert_eq!(output.status.code(), Some(0), "{err}");
        let list = out.strip_suffix('\n').expect("a line").to_owned();
        assert!(!list.contains('\n'), "{list}");
        (list, err)
    }

    fn inspect(&self) -> Value {
        described("inspect", &String::from_utf8_lossy(&self.run(&["inspect", &self.id, "--json"]).stdout))
    }
}

#[test]
fn what_was_learned_lets_the_same_through_and_nothing_else() {
    let scene = Scene::new("", &[("egress", "none"), ("mode", "audit")]);
    let used = [
        "tcp 10.2.0.4:443",
        "tcp 10.2.0.5:443",
        "tcp 10.2.0.9:5432",
        "udp 10.2.0.9:53",
        "tcp 10.2.0.9:53",
        "tcp [2001:db8::7]:443",
        "icmp 192.0.2.9",
        "tcp 169.254.169.254:80",
    ];
    for probe in used {
        assert!(matches!(scene.send(probe), Outcome::Connected | Outcome::Sent | Outcome::Replied), "{probe}");
    }
    let (list, said) = scene.learn(&[]);
    assert_eq!(list, "tcp/10.2.0.4/31:443 10.2.0.9:53 tcp/10.2.0.9:5432 icmp/192.0.2.9 tcp/[2001:db8::7]:443");
    assert!(said.contains("left out: tcp/169.254.169.254:80: @metadata is always denied"), "{said}");

    scene.start(&[("egress", &list)]);
    for probe in &used[..7] {
        assert!(matches!(scene.send(probe), Outcome::Connected | Outcome::Sent | Outcome::Replied), "{probe}");
    }
    for other in ["tcp 10.2.0.6:443", "tcp 10.2.0.4:80", "tcp 10.2.0.9:54", "tcp [2001:db8::8]:443", used[7]] {
        assert_eq!(scene.send(other), Outcome::Refused, "{other}");
    }
    assert_ne!(scene.send("icmp 192.0.2.8"), Outcome::Replied);

    // From what is enforced, with what was denied on the way.
    let output = scene.run(&["learn", &scene.id]);
    assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(1), true));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--denied"), "{output:?}");
    let (more, _) = scene.learn(&["--denied", "--always-denied"]);
    assert!(more.starts_with(&format!("{list} ")), "{more}");
    scene.start(&[("egress", &more)]);
    for probe in ["tcp 10.2.0.6:443", "tcp 10.2.0.4:80", "tcp [2001:db8::8]:443", used[7]] {
        assert_eq!(scene.send(probe), Outcome::Connected, "{probe}");
    }
    assert_eq!(scene.send("tcp 10.2.0.7:443"), Outcome::Refused);
}

#[test]
fn blocks_are_merged_where_somebody_asks_and_it_is_said_how_wide() {
    let scene = Scene::new("", &[("egress", "none"), ("mode", "audit")]);
    for probe in ["tcp 10.2.0.4:443", "tcp 10.2.0.77:443", "tcp 10.3.0.1:443"] {
        assert_eq!(scene.send(probe), Outcome::Connected);
    }
    let exact = "tcp/10.2.0.4:443 tcp/10.2.0.77:443 tcp/10.3.0.1:443";
    assert_eq!(scene.learn(&[]).0, exact);
    let (list, said) = scene.learn(&["--merge", "24"]);
    assert_eq!(list, "tcp/10.2.0.0/24:443 tcp/10.3.0.1:443");
    assert!(said.contains("10.2.0.0/24 is 256 addresses, and 2 of them were seen"), "{said}");

    let output = scene.run(&["learn", &scene.id, "--json", "--merge", "24"]);
    assert!(output.stderr.is_empty());
    let said = described("learn", &String::from_utf8_lossy(&output.stdout));
    assert_eq!((&said["list"], &said["kept"]), (&json!(list), &json!([])));
    assert_eq!(said["widened"], json!([{"block": "10.2.0.0/24", "seen": 2}]));
    assert_eq!(said["seen"].as_array().map(Vec::len), Some(3), "{said:#}");
}

#[test]
fn who_connects_is_learned_for_ingress() {
    let scene = Scene::new("", &[("ingress", "none"), ("mode", "audit")]);
    let server = scene.world.ctr.within(|| std::net::TcpListener::bind(("10.9.0.2", 8080))).expect("a port");
    assert_eq!(
        support::probe::tcp_connect(&scene.world.far, "10.9.0.2:8080".parse().unwrap(), SILENCE),
        Outcome::Connected
    );
    drop(server);
    assert_eq!(scene.learn(&["--ingress"]).0, "tcp/10.9.0.1:8080");
    // There is no list of the other direction, and nobody remembers.
    let output = scene.run(&["learn", &scene.id]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no rule judges its egress"), "{output:?}");
}

/// The list of what `seen` says parses, and allows exactly that.
#[test]
fn a_learned_list_allows_exactly_what_it_says_was_seen() {
    let scene = Scene::new("", &[("egress", "10.2.0.0/30:443, !10.2.0.3"), ("mode", "audit")]);
    for port in [443u16, 444, 446] {
        for host in 0..6 {
            scene.send(&format!("udp 10.2.0.{host}:{port}"));
        }
    }
    let output = scene.run(&["learn", &scene.id, "--json"]);
    let said = described("learn", &String::from_utf8_lossy(&output.stdout));
    let parse = |text: &str| List::parse(text, &Origin::Builtin("test")).unwrap_or_else(|p| panic!("{text}: {p:?}"));
    let (list, before) = (parse(said["list"].as_str().unwrap()), parse("10.2.0.0/30:443, !10.2.0.3"));
    for host in 0..8u8 {
        for port in 440..450 {
            for protocol in Transport::ALL {
                let peer: IpAddr = [10, 2, 0, host].into();
                let packet =
                    Packet { direction: Direction::Egress, peer, payload: Payload::Transport { protocol, port } };
                let seen = protocol == Transport::Udp && host < 6 && host != 3 && [443, 444, 446].contains(&port);
                assert_eq!(list.allows(&packet, &[]), seen || before.allows(&packet, &[]), "{packet:?}: {said:#}");
            }
        }
    }
    assert_eq!(said["left-out"].as_array().map(Vec::len), Some(3), "{said:#}");
}

#[test]
fn a_stranger_is_told_why_an_address_cannot_be_reached() {
    let config = "egress: 10.0.0.0/8 192.0.2.0/24 198.18.0.0/15\n";
    let scene = Scene::new(config, &[("egress", "10.2.0.0/16:5432, 192.0.2.1:443"), ("ingress", "10.9.0.1:80")]);
    assert_eq!(scene.send("tcp 10.2.0.9:5432"), Outcome::Connected);
    for probe in ["tcp 10.2.0.9:5433", "tcp 198.51.100.1:443", "tcp 169.254.169.254:80"] {
        assert_eq!(scene.send(probe), Outcome::Refused, "{probe}");
    }
    let closed = support::probe::tcp_connect(&scene.world.far, "10.9.0.2:8080".parse().unwrap(), SILENCE);
    assert_eq!(closed, Outcome::TimedOut);
    let said = scene.inspect();
    let denied = |entry: &str| -> &Value {
        let all = said["denied-lately"].as_array().unwrap();
        all.iter().find(|one| one["entry"] == entry).unwrap_or_else(|| panic!("{entry}: {said:#}"))
    };
    let layers = |entry: &str| -> Vec<&str> {
        denied(entry)["by"].as_array().unwrap().iter().map(|by| by["layer"].as_str().unwrap()).collect()
    };
    assert_eq!(layers("tcp/10.2.0.9:5433"), ["annotation"]);
    let near = &denied("tcp/10.2.0.9:5433")["by"][0]["nearest"][0];
    assert_eq!(near["rule"], "\"10.2.0.0/16:5432\"", "{said:#}");
    assert_eq!(layers("tcp/198.51.100.1:443"), ["baseline", "annotation"]);
    assert_eq!(layers("tcp/169.254.169.254:80"), ["always-denied", "baseline", "annotation"]);
    assert_eq!(
        (layers("tcp/10.9.0.1:8080"), &denied("tcp/10.9.0.1:8080")["direction"]),
        (vec!["annotation"], &json!("ingress"))
    );
    assert!(denied("tcp/10.2.0.9:5433")["ago-ms"].as_u64().unwrap() < 60_000);

    let layer = |direction: &str, name: &str| -> &Value {
        let all = said["layers"].as_array().unwrap();
        all.iter()
            .find(|one| one["direction"] == direction && one["layer"] == name)
            .unwrap_or_else(|| panic!("{said:#}"))
    };
    // One SYN each; what follows is of established flows.
    let packets = |direction, name| {
        let layer = layer(direction, name);
        (layer["allowed"]["packets"].clone(), layer["denied"]["packets"].clone())
    };
    assert_eq!(packets("egress", "always-denied"), (json!(0), json!(1)));
    assert_eq!(packets("egress", "baseline"), (json!(2), json!(1)));
    assert_eq!(packets("egress", "annotation"), (json!(1), json!(1)));
    let rules = layer("egress", "annotation")["rules"].as_array().unwrap();
    let first = rules
        .iter()
        .find(|rule| rule["does"] == "allows" && rule["packets"] == 1)
        .expect("the rule that let it through");
    assert_eq!(
        (&first["entry"], &first["from"]),
        (&json!("10.2.0.0/16:5432"), &json!("annotation io.netlatch.egress"))
    );

    // Two entries of the admin's that became one rule.
    let both = layer("egress", "baseline")["rules"].as_array().unwrap().iter().find(|rule| rule["does"] == "allows");
    assert_eq!(both.expect("a rule")["entries"], json!(["10.0.0.0/8", "192.0.2.0/24", "198.18.0.0/15"]), "{said:#}");

    let text = String::from_utf8(scene.run(&["inspect", &scene.id]).stdout).unwrap();
    for line in text.lines() {
        assert!(line.chars().count() <= 80 || !line.trim().contains("  "), "{line}");
    }
    for part in
        [" ago  to 10.2.0.9, TCP port 5433\n", " ago  from 10.9.0.1, TCP port 8080\n", "nearest: \"10.2.0.0/16:5432\""]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("\nchain "), "{text}");
}

#[test]
fn sysctls_are_told_against_the_plan() {
    let scene = Scene::new("", &[("egress", "none"), ("ipv6", "disable")]);
    let wrong = |said: &Value| -> Vec<String> {
        let all = said["sysctls"].as_array().unwrap().clone();
        assert!(all.len() > 3, "{said:#}");
        all.iter().filter(|one| one["ok"] == false).map(|one| one["key"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(wrong(&scene.inspect()), [""; 0]);
    scene.world.ctr.set_sysctl("net/ipv6/conf/eth0/disable_ipv6", "0");
    assert_eq!(wrong(&scene.inspect()), ["net.ipv6.conf.eth0.disable_ipv6"]);
    let text = String::from_utf8(scene.run(&["inspect", &scene.id]).stdout).unwrap();
    assert!(text.contains("  wrong  net.ipv6.conf.eth0.disable_ipv6 = 0, planned 1 ("), "{text}");
}

/// A watch that is ended with its test.
struct Watch {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Watch {
    fn of(scene: &Scene, args: &[&str]) -> Watch {
        let mut command = scene.command(&[&["inspect", scene.id.as_str(), "--watch=1"], args].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("netlatch runs");
        let lines = BufReader::new(child.stdout.take().expect("a pipe"));
        Watch { child, lines }
    }

    /// Reads until a line has `part`.
    fn until(&mut self, part: &str) -> String {
        let mut read = String::new();
        loop {
            let mut line = String::new();
            if self.lines.buffer().is_empty() {
                let mut polled = [PollFd::new(self.lines.get_ref().as_fd(), PollFlags::POLLIN)];
                let ready = poll(&mut polled, PollTimeout::from(PATIENCE_MS)).expect("poll");
                assert_eq!(ready, 1, "{part} did not come: {read}");
            }
            assert_ne!(self.lines.read_line(&mut line).expect("UTF-8"), 0, "{part} did not come: {read}");
            if line.contains(part) {
                return line;
            }
            read.push_str(&line);
        }
    }

    fn code(mut self) -> Option<i32> {
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).expect("UTF-8");
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_watch_says_what_changes_until_it_is_told_to_end() {
    let scene = Scene::new("", &[("egress", "10.2.0.0/16")]);
    let mut watch = Watch::of(&scene, &[]);
    watch.until("links");
    assert_eq!(scene.send("tcp 198.51.100.1:443"), Outcome::Refused);
    let line = watch.until(" s  denied: ");
    assert!(line.contains("denied: egress to 198.51.100.1, TCP port 443: annotation: denied, no entry"), "{line}");
    watch.until("+1 packet, +");
    assert_eq!(scene.send("tcp 198.51.100.1:443"), Outcome::Refused);
    watch.until(" s  denied again: egress to 198.51.100.1, TCP port 443\n");
    assert_eq!(scene.send("tcp 10.2.0.1:443"), Outcome::Connected);
    assert!(watch.until("let through").contains("10.2.0.0/16 from annotation io.netlatch.egress"));
    kill(Pid::from_raw(watch.child.id() as i32), Signal::SIGINT).expect("it runs");
    assert_eq!(watch.code(), Some(0));
}

#[test]
fn a_watch_ends_with_its_container() {
    let mut scene = Scene::new("", &[("egress", "10.2.0.0/16")]);
    let (mut lines, mut objects) = (Watch::of(&scene, &[]), Watch::of(&scene, &["--json"]));
    lines.until("links");
    let first: Value = serde_json::from_str(&objects.until("{")).expect("an object in a line");
    is_as_described("inspect", &first);
    assert_eq!(first["running"], true);
    let id = scene.id.clone();
    drop(std::mem::replace(&mut scene.world.ctr, Namespace::new()));
    lines.until(&format!("container {id} has ended"));
    let last: Value = serde_json::from_str(&objects.until("\"running\":false")).expect("an object in a line");
    is_as_described("inspect", &last);
    assert_eq!((lines.code(), objects.code()), (Some(1), Some(1)));
}
