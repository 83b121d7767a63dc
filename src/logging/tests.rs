//! The sinks, at places of the tests' own. `journal` here is a reader of the protocol that shares nothing with the writer.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

struct Scene {
    dir: tempfile::TempDir,
    sink: Sink,
}

fn scene() -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let places = Places { journal: at("journal"), syslog: at("dev-log"), file: at("run/log") };
    Scene { sink: Sink::new(places, "createRuntime"), dir }
}

impl Scene {
    fn listen(&self, name: &str) -> UnixDatagram {
        let socket = UnixDatagram::bind(self.dir.path().join(name)).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    fn file(&self) -> String {
        fs::read_to_string(self.dir.path().join("run/log")).unwrap_or_default()
    }

    fn warn(&self, message: &str) {
        self.sink.write(4, message, &[]);
    }
}

fn heard(socket: &UnixDatagram) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 18];
    let length = socket.recv(&mut bytes).expect("a datagram");
    bytes.truncate(length);
    bytes
}

/// Reads a datagram as the protocol's description says.
fn journal(mut bytes: &[u8]) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    while !bytes.is_empty() {
        let end = bytes.iter().position(|byte| *byte == b'\n').expect("a newline");
        let (name, value) = match bytes[..end].iter().position(|byte| *byte == b'=') {
            Some(equals) => {
                let field = (&bytes[..equals], &bytes[equals + 1..end]);
                bytes = &bytes[end + 1..];
                field
            }
            None => {
                let length = u64::from_le_bytes(bytes[end + 1..end + 9].try_into().unwrap()) as usize;
                let field = (&bytes[..end], &bytes[end + 9..end + 9 + length]);
                assert_eq!(bytes[end + 9 + length], b'\n');
                bytes = &bytes[end + 10 + length..];
                field
            }
        };
        let [name, value] = [name, value].map(|part| String::from_utf8(part.to_vec()).unwrap());
        // journal_field_valid(): others are dropped, and those with _ in front are the journal's own.
        assert!(name.len() <= 64 && name.starts_with(|c: char| c.is_ascii_uppercase()), "{name}");
        assert!(name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'), "{name}");
        assert!(fields.insert(name, value).is_none(), "twice");
    }
    fields
}

fn protected() -> Entry {
    let fields = vec![(Field::Rules, "14".to_owned()), (Field::Table, "netlatch 0.1.0 plan 0a".to_owned())];
    Entry { ending: Ending::Done, message: "container web: protected".to_owned(), fields }
}

#[test]
fn a_record_reaches_the_journal_with_its_fields_and_nobody_else() {
    let scene = scene();
    let (journald, syslogd) = (scene.listen("journal"), scene.listen("dev-log"));
    *scene.sink.whom.write().unwrap() = Whom { id: "0af1".to_owned(), name: Some("web".to_owned()) };
    scene.sink.tell(&protected());
    let said = journal(&heard(&journald));
    let pid = process::id().to_string();
    for (name, value) in [
        ("MESSAGE", "container web: protected"),
        ("MESSAGE_ID", Ending::Done.message_id()),
        ("PRIORITY", "6"),
        ("SYSLOG_IDENTIFIER", "netlatch"),
        ("SYSLOG_PID", &pid),
        ("CONTAINER_ID", "0af1"),
        ("CONTAINER_ID_FULL", "0af1"),
        ("CONTAINER_NAME", "web"),
        ("NETLATCH_STAGE", "createRuntime"),
        ("NETLATCH_RESULT", "done"),
        ("NETLATCH_RULES", "14"),
        ("NETLATCH_TABLE", "netlatch 0.1.0 plan 0a"),
    ] {
        assert_eq!(said.get(name).map(String::as_str), Some(value), "{name} in {said:?}");
    }
    assert!(said["NETLATCH_DURATION_USEC"].parse::<u64>().is_ok());
    assert!(syslogd.recv(&mut [0; 9]).is_err());
    assert_eq!(scene.file(), "");
}

#[test]
fn no_value_becomes_a_field() {
    let scene = scene();
    let journald = scene.listen("journal");
    let long = "x".repeat(1 << 16);
    let evil =
        ["a\nMESSAGE=b\nPRIORITY=0", "\nCONTAINER_ID\n\x01\0\0\0\0\0\0\0x\n", "\0", "=", "\u{1b}[2J\u{202e}", &long];
    for evil in evil {
        *scene.sink.whom.write().unwrap() = Whom { id: evil.to_owned(), name: Some(evil.to_owned()) };
        let fields = vec![(Field::Sysctls, evil.to_owned())];
        scene.sink.tell(&Entry { ending: Ending::Failed, message: evil.to_owned(), fields });
        let said = journal(&heard(&journald));
        assert_eq!(said.len(), 12, "{said:?}");
        assert_eq!(said["PRIORITY"], "3");
        let shown = &printable::line(evil)[..printable::line(evil).len().min(LONGEST)];
        for name in ["MESSAGE", "CONTAINER_ID", "CONTAINER_NAME", "NETLATCH_SYSCTLS"] {
            assert_eq!(said[name], shown, "{name}");
        }
    }
}

#[test]
fn without_a_journal_the_line_goes_to_the_log_socket_as_syslog_writes_it() {
    let scene = scene();
    let syslogd = scene.listen("dev-log");
    scene.warn("two\nlines");
    let line = format!("<28>netlatch[{}]: two\\u{{a}}lines", process::id());
    assert_eq!(String::from_utf8(heard(&syslogd)).unwrap(), line);
    assert_eq!(scene.file(), "");
}

#[test]
fn without_either_there_is_a_line_of_json_in_a_file_for_its_owner_alone() {
    let scene = scene();
    scene.sink.tell(&protected());
    scene.warn("\"quoted\" \\ and\nanother\u{7f}");
    let lines: Vec<serde_json::Value> = scene.file().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["NETLATCH_RULES"], "14");
    assert_eq!(lines[0]["PRIORITY"], "6");
    assert_eq!(lines[1]["MESSAGE"], "\"quoted\" \\ and\\u{a}another\\u{7f}");
    let time = lines[0]["TIME"].as_str().unwrap();
    assert!(time.len() == 27 && time.starts_with("20") && time.ends_with('Z'), "{time}");
    let mode = |name: &str| fs::metadata(scene.dir.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("run"), mode("run/log")), (0o700, 0o600));
}

#[test]
fn a_full_socket_is_passed_over_and_never_waited_for() {
    let scene = scene();
    let (journald, syslogd) = (scene.listen("journal"), scene.listen("dev-log"));
    // net.unix.max_dgram_qlen and the receiver's buffer end somewhere below this.
    let many = 2000;
    for number in 0..many {
        scene.warn(&number.to_string());
    }
    let count = |socket: &UnixDatagram| std::iter::from_fn(|| socket.recv(&mut [0; 1 << 12]).ok()).count();
    let (first, second, rest) = (count(&journald), count(&syslogd), scene.file().lines().count());
    assert!(first > 0 && second > 0 && rest > 0, "{first} {second} {rest}");
    assert_eq!(first + second + rest, many, "every record went somewhere, once");
}

#[test]
fn whatever_stands_in_a_sockets_place_is_passed_over() {
    let place = |make: &dyn Fn(&Path)| {
        let scene = scene();
        make(&scene.dir.path().join("journal"));
        make(&scene.dir.path().join("dev-log"));
        scene.warn("said");
        assert_eq!(scene.file().lines().count(), 1);
    };
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
    place(&|path| fs::write(path, "").unwrap());
    place(&|path| fs::create_dir(path).unwrap());
    place(&|path| nix::unistd::mkfifo(path, mode).unwrap());
    place(&|path| std::os::unix::fs::symlink("nowhere", path).unwrap());
    place(&|path| std::os::unix::fs::symlink(path, path).unwrap());
    // One that nobody listens on any more, and one that wants a stream.
    place(&|path| drop(UnixDatagram::bind(path).unwrap()));
    place(&|path| std::mem::forget(std::os::unix::net::UnixListener::bind(path).unwrap()));
}

#[test]
fn a_symbolic_link_to_a_socket_is_followed_as_dev_log_is_one_under_systemd() {
    let scene = scene();
    let syslogd = scene.listen("elsewhere");
    std::os::unix::fs::symlink("elsewhere", scene.dir.path().join("dev-log")).unwrap();
    scene.warn("said");
    assert!(heard(&syslogd).ends_with(b": said"));
}

#[test]
fn whatever_stands_in_the_files_place_is_left_alone() {
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
    let place = |make: &dyn Fn(&Path)| {
        let scene = scene();
        fs::create_dir(scene.dir.path().join("run")).unwrap();
        make(&scene.dir.path().join("run/log"));
        scene.warn("said");
        scene
    };
    place(&|path| fs::create_dir(path).unwrap());
    place(&|path| nix::unistd::mkfifo(path, mode).unwrap());
    // With a reader it opens.
    let scene = place(&|path| {
        nix::unistd::mkfifo(path, mode).unwrap();
        let flags = nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_NONBLOCK;
        std::mem::forget(nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty()).unwrap());
    });
    let pipe =
        std::os::unix::fs::OpenOptionsExt::custom_flags(fs::OpenOptions::new().read(true), nix::libc::O_NONBLOCK)
            .open(scene.dir.path().join("run/log"));
    assert_eq!(std::io::Read::read(&mut pipe.unwrap(), &mut [0; 9]).unwrap_or(0), 0, "nothing was written");
    // Neither a link nor what anybody could have put there.
    let scene = place(&|path| std::os::unix::fs::symlink("../victim", path).unwrap());
    assert!(!scene.dir.path().join("victim").exists());
    let scene = place(&|path| {
        fs::set_permissions(path.parent().unwrap(), fs::Permissions::from_mode(0o777)).unwrap();
    });
    assert!(!scene.dir.path().join("run/log").exists());
}

#[test]
fn a_device_in_the_files_place_is_refused() {
    // Opened for appending it takes whatever is written.
    assert!(file::append(Path::new("/dev/null"), "x\n").is_err());
}

#[test]
fn a_full_file_is_begun_anew_and_the_one_before_is_kept() {
    let scene = scene();
    scene.warn("first");
    let path = scene.dir.path().join("run/log");
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(MAX_LOG + 1).unwrap();
    scene.warn("second");
    assert_eq!(fs::metadata(path.with_extension("1")).unwrap().len(), MAX_LOG + 1);
    assert!(scene.file().contains("second") && scene.file().lines().count() == 1);
}

#[test]
fn many_at_once_lose_nothing_when_the_file_is_turned() {
    // Some lines more than one file holds: it is turned once, by whoever comes first, however many see that it is full.
    let (scene, lost) = (scene(), AtomicUsize::new(0));
    let (threads, each) = (8, 180);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (scene, lost) = (&scene, &lost);
            scope.spawn(move || {
                for number in 0..each {
                    let line = format!("{thread} {number} {}\n", "x".repeat(1000));
                    let path = scene.dir.path().join("run/log");
                    lost.fetch_add(usize::from(file::append(&path, &line).is_err()), Ordering::Relaxed);
                }
            });
        }
    });
    let before = fs::read_to_string(scene.dir.path().join("run/log.1")).unwrap();
    let all = before + &scene.file();
    let mut lines: Vec<&str> = all.lines().map(|line| line.trim_end_matches('x')).collect();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!((lines.len(), lost.into_inner()), (threads * each, 0));
}

#[test]
fn names_are_told_apart() {
    let mut names: Vec<&str> = Field::ALL.iter().map(|field| field.name()).collect();
    names.extend(Ending::ALL.map(Ending::message_id));
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(Ending::ALL.iter().all(|ending| ending.message_id().len() == 32));
}

#[test]
fn the_guide_has_a_row_for_every_field_and_every_message_id() {
    let guide = include_str!("../docs/logs.md");
    let rows: Vec<&str> = guide.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let fixed = ["MESSAGE", "MESSAGE_ID", "PRIORITY", "SYSLOG_IDENTIFIER", "SYSLOG_PID"];
    let fields = fixed.into_iter().chain(Field::ALL.map(Field::name));
    let ids = std::iter::once("MESSAGE_ID").chain(Ending::ALL.map(Ending::message_id));
    assert_eq!(rows[1..], fields.chain(ids).collect::<Vec<_>>());
}
