//! What a start, a failure and `reload` leave in the log, as the other side hears it: from within the container's network
//! namespace, after capabilities were given up.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use support::container::{Dialect, binary};
use support::namespace::run_with_input;
use support::{Container, Namespace};

/// A host's folder: a state directory, and what is /run/systemd/journal for the hook. /dev is empty there.
struct Host {
    dir: tempfile::TempDir,
}

const SCRIPT: &str = "\
journal=$1; shift
mount -t tmpfs none /dev && mount -t tmpfs run /run && mkdir -p /run/systemd/journal
mount --bind $journal /run/systemd/journal && exec \"$@\"";

impl Host {
    fn new() -> Host {
        let host = Host { dir: tempfile::tempdir().expect("a directory") };
        fs::create_dir(host.path("journal")).expect("a directory");
        fs::write(host.path("config.yaml"), "").expect("a file");
        host
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn journald(&self) -> UnixDatagram {
        let socket = UnixDatagram::bind(self.path("journal/socket")).expect("a socket");
        socket.set_nonblocking(true).expect("a flag");
        socket
    }

    fn run(&self, word: &str, input: &str) -> Output {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-ec", SCRIPT, "sh"]).arg(self.path("journal")).arg(binary()).arg(word);
        command.arg("--config").arg(self.path("config.yaml")).arg("--run-dir").arg(self.path("run"));
        run_with_input(&mut command, input.as_bytes())
    }

    fn stage(&self, word: &str, state: &Value) -> i32 {
        self.run(word, &state.to_string()).status.code().expect("a code")
    }

    fn file(&self) -> Vec<Value> {
        let log = fs::read_to_string(self.path("run/log")).unwrap_or_default();
        log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

/// The records that came, read as the protocol's description says: a name, a newline, a length, a value.
fn heard(socket: &UnixDatagram) -> Vec<BTreeMap<String, String>> {
    let mut bytes = vec![0; 1 << 18];
    let datagrams = std::iter::from_fn(|| socket.recv(&mut bytes).ok().map(|length| bytes[..length].to_vec()));
    datagrams.map(|datagram| fields(&datagram)).collect()
}

fn fields(mut bytes: &[u8]) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
        let length = u64::from_le_bytes(bytes[end + 1..end + 9].try_into().expect("eight bytes"));
        let length = usize::try_from(length).expect("a length");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let value = text(&bytes[end + 9..end + 9 + length]);
        assert!(fields.insert(text(&bytes[..end]), value).is_none(), "twice");
        bytes = &bytes[end + 10 + length..];
    }
    fields
}

#[test]
fn each_stage_is_one_record_of_the_journal() {
    let (host, namespace) = (Host::new(), Namespace::in_user_namespace());
    let journald = host.journald();
    let mut container = Container::of(&namespace).with("egress", "10.0.0.0/8").with("ipv6", "disable");
    container.annotations.insert("nerdctl/name".to_owned(), json!("web"));
    let runc = Dialect::Runc;
    for (word, state, said) in [
        ("createRuntime", container.state(runc), "protected, "),
        ("createRuntime", container.state(runc), "protected, "),
        ("poststart", container.state(runc), "verified, "),
        ("reload", json!(null), "reload: nothing changed"),
        ("poststop", container.stopped(runc), "forgotten"),
    ] {
        if word == "poststop" {
            container.ended(runc);
        }
        assert_eq!(host.stage(word, &state), 0, "{word}");
        let mut records = heard(&journald);
        // What is said on the way has no result, such as that `reload` made the roster.
        records.retain(|record| record.contains_key("NETLATCH_RESULT"));
        let [record] = &records[..] else { panic!("{word}: {records:?}") };
        assert_eq!(record["NETLATCH_STAGE"], word);
        assert_eq!(record["NETLATCH_RESULT"], "done");
        assert_eq!(record["NETLATCH_EXIT_CODE"], "0");
        assert_eq!(record["PRIORITY"], "6");
        assert!(record["MESSAGE"].contains(said), "{record:?}");
        assert!(record["NETLATCH_DURATION_USEC"].parse::<u64>().expect("a number") > 0);
        let id = (word != "reload").then_some(&container.id);
        assert_eq!(record.get("CONTAINER_ID"), id, "{word}");
        assert_eq!(record.get("CONTAINER_NAME").is_some(), word != "reload", "{word}");
        if word == "createRuntime" {
            let rules: usize = record["NETLATCH_RULES"].parse().expect("a number");
            let held = namespace.nft_json().iter().filter(|object| object.get("rule").is_some()).count();
            assert_eq!(rules, held, "{record:?}");
            assert!(record["NETLATCH_TABLE"].starts_with("netlatch "), "{record:?}");
        }
    }
    assert!(host.file().is_empty());
}

#[test]
fn a_failure_is_a_record_with_its_code_and_its_line() {
    let (host, namespace) = (Host::new(), Namespace::new());
    let journald = host.journald();
    let container = Container::of(&namespace).with("egress", "nobody\nMESSAGE=forged");
    let code = host.stage("createRuntime", &container.state(Dialect::Runc));
    assert_ne!(code, 0);
    let records = heard(&journald);
    let [record] = &records[..] else { panic!("{records:?}") };
    assert_eq!(record["NETLATCH_RESULT"], "failed");
    assert_eq!(record["NETLATCH_EXIT_CODE"], code.to_string());
    assert_eq!(record["PRIORITY"], "3");
    assert_eq!(record["CONTAINER_ID"], container.id);
    let last = host.path("run");
    let last = Command::new(binary()).args(["last-error", "--run-dir"]).arg(last).output().expect("it runs");
    let last = String::from_utf8(last.stdout).expect("UTF-8");
    let line = last.lines().nth(1).expect("a second line");
    assert!(record["MESSAGE"].ends_with(line), "{record:?}\n{last}");
}

#[test]
fn without_a_log_service_there_is_one_line_for_each_stage_and_who_is_skipped_is_told() {
    let (host, namespace) = (Host::new(), Namespace::new());
    let container = Container::of(&namespace).with("egress", "10.0.0.0/8");
    assert_eq!(host.stage("createRuntime", &container.state(Dialect::Runc)), 0);
    assert_eq!(host.stage("poststop", &container.ended(Dialect::Runc)), 0);
    let mut alone = Container::of(&namespace);
    alone.pid = i32::try_from(std::process::id()).expect("a pid");
    assert_eq!(host.stage("createRuntime", &alone.state(Dialect::Runc)), 0);
    let said: Vec<_> =
        host.file().iter().map(|line| (line["NETLATCH_RESULT"].clone(), line["PRIORITY"].clone())).collect();
    assert_eq!(said, [("done", "6"), ("done", "6"), ("skipped", "4")].map(|(a, b)| (json!(a), json!(b))));
}

/// systemd's own journald, started by hand in mounts and processes of its own.
const JOURNALD: &str = "\
daemon=$1; shift
mount -t tmpfs run /run && mkdir -p /run/systemd/journal /run/id /run/log/journal
echo 0123456789abcdef0123456789abcdef >/run/id/machine-id
[ -e /etc/machine-id ] && mount --bind /run/id/machine-id /etc/machine-id
mkdir /run/log/journal/$(cat /etc/machine-id)
mount -t tmpfs none /var/log
$daemon 2>/dev/null & journald=$!
until [ -S /run/systemd/journal/socket ]; do sleep 0.1; done
cat | \"$@\"
journalctl -D /run/log/journal --flush --sync 2>/dev/null || true
until journalctl -D /run/log/journal -t netlatch -o json --no-pager | grep .; do sleep 0.1; done
kill $journald && wait $journald || true";

#[test]
#[ignore = "needs root and systemd's journald"]
fn as_the_hosts_root_systemds_own_journal_understands_what_is_said() {
    let daemon = "/lib/systemd/systemd-journald";
    assert!(Path::new(daemon).exists(), "{daemon} is not installed");
    let (host, namespace) = (Host::new(), Namespace::new());
    let mut container = Container::of(&namespace).with("egress", "\u{1b}");
    container.annotations.insert("nerdctl/name".to_owned(), json!("web\nMESSAGE=forged"));
    let mut command = Command::new("timeout");
    command.args(["20", "unshare", "--mount", "--pid", "--fork", "--kill-child"]);
    command.args(["sh", "-c", JOURNALD, "sh", daemon]).arg(binary()).arg("createRuntime");
    command.arg("--config").arg(host.path("config.yaml")).arg("--run-dir").arg(host.path("run"));
    let output = run_with_input(&mut command, container.state(Dialect::Runc).to_string().as_bytes());
    let said = String::from_utf8_lossy(&output.stdout);
    let records: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let [record] = &records[..] else { panic!("{said}\n{}", String::from_utf8_lossy(&output.stderr)) };
    for (name, value) in [
        ("CONTAINER_ID", container.id.as_str()),
        ("CONTAINER_NAME", "web\\u{a}MESSAGE=forged"),
        ("NETLATCH_STAGE", "createRuntime"),
        ("NETLATCH_RESULT", "failed"),
        ("PRIORITY", "3"),
        ("SYSLOG_IDENTIFIER", "netlatch"),
        ("_TRANSPORT", "journal"),
    ] {
        assert_eq!(record[name], value, "{name} in {record:#}");
    }
    assert!(record["MESSAGE"].as_str().expect("one line of text").contains("\\u{1b}"), "{record:#}");
}
