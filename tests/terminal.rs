//! What people see: on terminals of several widths and off them, in colour and without.

mod support;

use std::fs::{self, File};
use std::io::Read;
use std::process::{Command, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use support::container::binary;

const WORLD: &str = "
{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: web}, status: {podIPs: [{ip: 10.1.0.1}]}}
---
{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: db, labels: {app: db}}, status: {podIPs: [{ip: 10.1.0.2}]}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: a-policy-with-a-name-of-some-length}
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{ipBlock: {cidr: 10.9.0.0/16}}], ports: [{port: 80}]}]}
";

/// Files to ask about.
struct Place {
    dir: tempfile::TempDir,
}

/// What prints for people, and needs neither rights nor a kernel.
const COMMANDS: [&str; 7] = [
    "check bad.yaml world.yaml",
    "reach -f world.yaml",
    "reach -f many.yaml",
    "explain -f world.yaml --from shop/web --to shop/db --port 80",
    "explain -f world.yaml --from 10.9.0.1 --to shop/db --port 80",
    "doctor --root root",
    "last-error --run-dir run",
];

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("a file");
        let hooks = dir.path().join("root/usr/share/containers/oci/hooks.d");
        fs::create_dir_all(&hooks).expect("a folder");
        let ours = concat!(env!("CARGO_MANIFEST_DIR"), "/hooks.d/10-netlatch-createRuntime.json");
        fs::copy(ours, hooks.join("10-netlatch-createRuntime.json")).expect("a file");
        write("world.yaml", WORLD);
        write("bad.yaml", "egres: none\nmode: audit\ningress: [10.0.0.1/8, \"\\x1b[31mred\\x1b[0m\"]\n");
        let pods = (0..40).map(|n| {
            let labels = format!("{{n: \"{n}\"}}");
            let pod = format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{namespace: shop, name: p{n}, labels: {labels}}}, status: {{podIPs: [{{ip: 10.1.1.{n}}}]}}}}"
            );
            let policy = format!(
                "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{namespace: shop, name: n{n}}}, spec: {{podSelector: {{matchLabels: {labels}}}, ingress: [{{from: [{{ipBlock: {{cidr: 10.1.1.{}/32}}}}]}}]}}}}",
                n / 2
            );
            format!("{pod}\n---\n{policy}\n---\n")
        });
        write("many.yaml", &pods.collect::<String>());
        let place = Place { dir };
        let state = r#"{"ociVersion": "1", "id": "c", "annotations": {"io.netlatch.egress": "10.0.0.1/8"}}"#;
        fs::write(place.dir.path().join("state.json"), state).expect("a file");
        let stdin = File::open(place.dir.path().join("state.json")).expect("the file");
        let mut stage = place.command("createRuntime --run-dir run");
        let output = stage.env("CLICOLOR_FORCE", "1").env("COLUMNS", "40").stdin(stdin).output().expect("it runs");
        let line = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(
            line.lines().count() == 1 && line.len() > 80 && !line.contains('\u{1b}'),
            "no stage looks around: {line}"
        );
        place
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(binary());
        command.args(line.split(' ')).env_clear().current_dir(self.dir.path()).stdin(Stdio::null());
        command
    }

    fn piped(&self, line: &str, env: &[(&str, &str)]) -> String {
        let output = self.command(line).envs(env.iter().copied()).output().expect("it runs");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{line}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// The same on a terminal of `columns`.
    fn shown(&self, line: &str, columns: u16, env: &[(&str, &str)]) -> String {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&terminal).and_then(|()| unlockpt(&terminal)).expect("it may be opened");
        tcsetwinsize(&terminal, Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).expect("a size");
        let name = ptsname(&terminal, Vec::new()).expect("its name");
        let end = File::options().read(true).write(true).open(name.to_str().expect("UTF-8")).expect("its other end");
        let mut child = {
            let mut command = self.command(line);
            command.env("TERM", "xterm").envs(env.iter().copied()).stdout(end).spawn().expect("it runs")
        };
        let mut text = Vec::new();
        // EIO: nobody has the other end any more.
        let _ = File::from(terminal).read_to_end(&mut text);
        child.wait().expect("it ends");
        // The terminal's own doing (ONLCR).
        String::from_utf8(text).expect("UTF-8").replace("\r\n", "\n")
    }
}

/// Without our own codes.
fn bare(text: &str) -> String {
    let text = ["1", "31", "32", "33", "0"]
        .iter()
        .fold(text.to_owned(), |text, code| text.replace(&format!("\u{1b}[{code}m"), ""));
    assert!(!text.contains('\u{1b}'), "another code: {text:?}");
    text
}

/// Panics on a line that is too long and could be broken.
#[track_caller]
fn fits(text: &str, columns: usize) {
    for line in bare(text).lines().filter(|line| line.chars().count() > columns) {
        let longest = line.split(' ').map(|word| word.chars().count()).max().unwrap_or(0);
        assert!(longest + 14 > columns, "{columns} columns: {line}");
    }
}

#[test]
fn no_line_is_longer_than_the_terminal_where_it_can_be_broken() {
    let place = Place::new();
    for command in COMMANDS {
        for columns in [40, 80, 200] {
            let shown = place.shown(command, columns, &[]);
            assert!(!shown.is_empty(), "{command}");
            fits(&shown, columns.into());
            // The same words, wherever lines end. (Tables of who reaches whom have another form where there is no room.)
            let words = |text: &str| bare(text).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            if !command.starts_with("reach") && !command.starts_with("doctor") {
                assert_eq!(words(&shown), words(&place.shown(command, 1000, &[])), "{command}");
            }
        }
    }
    for command in ["--help", "doctor --help", "explain --help"] {
        fits(&place.shown(command, 40, &[]), 40);
        assert!(place.shown(command, 300, &[]).lines().any(|line| line.chars().count() > 80));
    }
}

#[test]
fn columns_are_as_somebody_says_then_as_the_terminal_does_then_eighty() {
    let place = Place::new();
    let longest = |text: String| bare(&text).lines().map(|line| line.chars().count()).max().unwrap_or(0);
    let explain = COMMANDS[4];
    assert!((100..=120).contains(&longest(place.shown(explain, 60, &[("COLUMNS", "120")]))));
    assert!((45..=60).contains(&longest(place.shown(explain, 60, &[]))));
    assert!((60..=80).contains(&longest(place.piped(explain, &[]))));
    assert!((60..=80).contains(&longest(place.shown(explain, 0, &[("COLUMNS", "x")]))));
    // Lines that programs read are whole in a pipe.
    for command in [COMMANDS[0], COMMANDS[6]] {
        let piped = place.piped(command, &[("COLUMNS", "40")]);
        assert!(longest(piped.clone()) > 80, "{piped}");
        assert!(longest(place.shown(command, 40, &[])) < longest(piped));
    }
}

#[test]
fn colour_is_for_terminals_and_for_those_who_ask() {
    let place = Place::new();
    for command in COMMANDS {
        let colours = |text: &str| text.contains("\u{1b}[");
        let on_terminal = |env: &[(&str, &str)]| place.shown(command, 1000, env);
        let in_pipe = |env: &[(&str, &str)]| place.piped(command, &[&[("COLUMNS", "1000")], env].concat());
        let coloured = on_terminal(&[]);
        let plain = in_pipe(&[]);
        assert!(colours(&coloured), "{command}: {coloured}");
        assert!(!colours(&plain), "{command}");
        assert_eq!(bare(&coloured), plain, "{command}: nothing is said by colour alone");
        assert_eq!(in_pipe(&[("CLICOLOR_FORCE", "1")]), coloured);
        assert_eq!(
            place.piped(&format!("{command} --color always"), &[("COLUMNS", "1000"), ("NO_COLOR", "1")]),
            coloured
        );
        assert_eq!(on_terminal(&[("NO_COLOR", "")]), coloured);
        for env in [("NO_COLOR", "1"), ("TERM", "dumb"), ("TERM", "")] {
            assert_eq!(on_terminal(&[env]), plain, "{command}: {env:?}");
        }
        assert_eq!(in_pipe(&[("CLICOLOR_FORCE", "0")]), plain);
        assert_eq!(in_pipe(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]), plain);
        assert_eq!(place.shown(&format!("{command} --color never"), 1000, &[("CLICOLOR_FORCE", "1")]), plain);
        // JSON is never coloured.
        if !command.contains("bad.yaml") {
            let json = place.shown(&format!("{command} --json --color always"), 40, &[("CLICOLOR_FORCE", "1")]);
            assert!(!colours(&json), "{command}");
            assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{command}: {json}");
        }
    }
    let help = |env: &[(&str, &str)]| place.shown("doctor --help", 100, env);
    assert!(help(&[]).contains("\u{1b}[1mUsage:"), "{}", help(&[]));
    assert_eq!(bare(&help(&[])), help(&[("NO_COLOR", "1")]));
    assert!(!place.piped("doctor --help", &[]).contains('\u{1b}'));
}

#[test]
fn what_others_wrote_colours_nothing() {
    let shown = Place::new().shown(&format!("{} --color always", COMMANDS[0]), 1000, &[]);
    assert!(bare(&shown).contains("\\u{1b}[31mred"), "{shown:?}");
}
