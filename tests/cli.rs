//! The commands as a user and as a runtime meet them: no environment, one line on stderr, an exit code with one meaning.
//!
//! What needs a network namespace is in kernel_cli.rs.

mod support;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};
use std::thread;

use netlatch::docs::guide;
use netlatch::error::{EXIT_INTERNAL, EXITS};
use netlatch::oci::state::MAX_STATE;
use netlatch::plan::uncovered::{Gap, Weight};
use serde_json::{Value, json};
use support::container::binary;
use support::schema::described;

const STAGES: [&str; 4] = ["createRuntime", "prestart", "poststart", "poststop"];

/// What podman looks for in a failed hook's output, and then shows nothing else (libpod/oci_util.go,
/// `getOCIRuntimeError`).
const REWRITTEN: [&str; 5] = [
    "permission denied",
    "operation not permitted",
    "no such file or directory",
    "executable file not found",
    "open executable",
];

/// A directory for the configuration and the records of one test. The host's own are never looked at.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let place = Place { dir: tempfile::tempdir().expect("a directory") };
        fs::create_dir(place.path("policies")).expect("a directory");
        place.configure("");
        place
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn configure(&self, text: &str) {
        let policies = format!("policies: {}\n", self.path("policies").display());
        self.write("config.yaml", &format!("{policies}{text}"));
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).expect("a file");
        // Whatever the umask says: files that others may write are not believed.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("a mode");
        path.display().to_string()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(args).env_clear().current_dir(self.dir.path());
        command
    }

    fn run(&self, args: &[&str], stdin: &[u8]) -> Output {
        let (output, written) = fed(&mut self.command(args), stdin);
        written.unwrap_or_else(|e| panic!("{args:?} left its standard input unread: {e}"));
        output
    }

    fn stage(&self, stage: &str, stdin: &[u8]) -> Output {
        let (config, run_dir) = (self.path("config.yaml"), self.path("run"));
        let options = ["--config", config.to_str().unwrap(), "--run-dir", run_dir.to_str().unwrap()];
        self.run(&[&[stage], &options[..]].concat(), stdin)
    }

    fn plan(&self, format: &str, state: &Value) -> Output {
        let config = self.path("config.yaml");
        let options = ["--config", config.to_str().unwrap(), "--format", format];
        self.run(&[&["plan", "--state", "-"], &options[..]].concat(), state.to_string().as_bytes())
    }

    fn check(&self, args: &[&str]) -> Output {
        self.run(&[&["check"], args].concat(), b"")
    }

    fn last_error(&self, id: &[&str]) -> Output {
        let run_dir = self.path("run");
        self.run(&[&["last-error"], id, &["--run-dir", run_dir.to_str().unwrap()]].concat(), b"")
    }
}

/// Runs a command with `input` and says how writing it went.
fn fed(command: &mut Command, input: &[u8]) -> (Output, io::Result<()>) {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    thread::scope(|scope| {
        let writer = scope.spawn(move || stdin.write_all(input));
        let output = child.wait_with_output().expect("the program ends");
        (output, writer.join().expect("the writer ends"))
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// Success, and nothing on stderr. Returns stdout.
fn done(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    text(&output.stdout)
}

/// A failure as every failure has to look. Returns the line.
fn refused(output: &Output, code: i32) -> String {
    let line = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{line}");
    assert_eq!(text(&output.stdout), "", "what runc quotes is stdout before stderr");
    let body = line.strip_suffix('\n').unwrap_or_else(|| panic!("a whole line: {line:?}"));
    assert!(!body.contains(char::is_control), "one line, nothing that moves a terminal: {body:?}");
    assert!(body.starts_with("netlatch: cannot "), "{body}");
    let remedy = EXITS.iter().chain([&EXIT_INTERNAL]).find(|exit| i32::from(exit.code) == code).expect("listed").remedy;
    assert!(body.ends_with(remedy), "what to do next, last: {body}");
    assert!(body.len() > "netlatch: cannot : ; ".len() + remedy.len() + 10, "what and why, before it: {body}");
    let lower = body.to_lowercase();
    assert!(REWRITTEN.iter().all(|phrase| !lower.contains(phrase)), "podman would rewrite: {body}");
    body.to_owned()
}

fn state(annotations: &Value) -> Value {
    json!({"ociVersion": "1.0.2-dev", "id": "ohk1", "status": "creating", "pid": 18173, "bundle": "/run/bundles/none",
           "annotations": annotations})
}

fn asking(key: &str, value: &str) -> Value {
    state(&json!({format!("io.netlatch.{key}"): value}))
}

#[test]
fn without_a_stage_the_stages_are_named() {
    let line = refused(&Place::new().run(&[], b""), 10);
    assert!(STAGES.iter().all(|stage| line.contains(stage)), "{line}");
}

#[test]
fn an_unknown_stage_or_option_is_named_and_is_a_usage_error() {
    let place = Place::new();
    let cases: [(&[&str], &str); 13] = [
        (&["createruntime"], "createruntime"),
        (&["frobnicate"], "frobnicate"),
        (&["createRuntime", "--frob"], "--frob"),
        (&["createRuntime", "extra"], "extra"),
        (&["createRuntime", "--config"], "--config"),
        (&["createRuntime", "--config="], "--config"),
        (&["createRuntime", "--run-dir", "/a", "--run-dir", "/b"], "--run-dir"),
        (&["--config", "/x", "createRuntime"], "--config"),
        (&["plan", "--frob"], "--frob"),
        (&["plan"], "--state"),
        (&["plan", "--state", "-", "--format", "xml"], "xml"),
        (&["completions"], "SHELL"),
        (&["check", "--frob"], "--frob"),
    ];
    for (args, named) in cases {
        let line = refused(&place.run(args, b""), 10);
        assert!(line.contains(named), "{args:?}: {line}");
    }
}

#[test]
fn stages_inside_the_container_are_refused_by_name() {
    for stage in ["createContainer", "startContainer"] {
        let place = Place::new();
        let run_dir = place.path("run").display().to_string();
        let state = state(&json!({})).to_string();
        let line = refused(&place.run(&[stage, "--run-dir", &run_dir], state.as_bytes()), 11);
        assert!(line.contains(stage) && line.contains("createRuntime"), "{line}");
        // With crun an exit code is all that is seen; the reason is where a failed start's is.
        let told = done(&place.run(&["last-error", "--run-dir", &run_dir], b""));
        assert!(told.contains(stage) && told.contains("exited with 11"), "{told}");
    }
}

#[test]
fn standard_input_is_read_to_its_end_whatever_is_refused() {
    // crun before 1.17 fails a hook on EPIPE and shows that instead of the hook's own failure.
    let place = Place::new();
    let long = vec![b' '; 1 << 20];
    let run_dir = place.path("run").display().to_string();
    let cases: [(&[&str], i32); 7] = [
        (&[], 10),
        (&["createruntime"], 10),
        (&["createContainer", "--run-dir", &run_dir], 11),
        (&["startContainer", "--run-dir", &run_dir], 11),
        (&["createRuntime", "--frob"], 10),
        (&["poststop", "--config"], 10),
        (&["-x"], 10),
    ];
    for (args, code) in cases {
        refused(&place.run(args, &long), code);
    }
    for stage in STAGES {
        refused(&place.stage(stage, &long), 12);
        let mut garbage = b"garbage".to_vec();
        garbage.extend_from_slice(&long);
        refused(&place.stage(stage, &garbage), 12);
    }
}

#[test]
fn what_is_no_state_is_refused_at_every_stage() {
    let whole = state(&json!({})).to_string();
    let cases = [
        "",
        "{}",
        "null",
        "[]",
        "garbage",
        "\u{0}\u{1b}[2J",
        &whole[..whole.len() - 1],
        &whole[..whole.len() / 2],
        &format!("{whole}{whole}"),
        r#"{"ociVersion": "1.0.2"}"#,
        r#"{"ociVersion": "1.0.2", "id": ""}"#,
        r#"{"ociVersion": "1.0.2", "id": "../../etc/cron.d/x"}"#,
        r#"{"ociVersion": "1.0.2", "id": "a", "id": "b"}"#,
        r#"{"ociVersion": "1.0.2", "id": "a", "pid": -1}"#,
        r#"{"ociVersion": "1.0.2", "id": "a", "pid": "1"}"#,
        r#"{"ociVersion": "1.0.2", "id": "a", "pid": 4294967297}"#,
        r#"{"ociVersion": "1.0.2", "id": "a", "bundle": "relative"}"#,
        r#"{"ociVersion": "1.0.2", "id": "a", "annotations": {"k": 1}}"#,
    ];
    let place = Place::new();
    for stage in STAGES {
        for case in cases {
            refused(&place.stage(stage, case.as_bytes()), 12);
        }
        refused(&place.stage(stage, &[0xff, 0xfe, 0]), 12);
    }
    let deep = format!(r#"{{"ociVersion": "1.0.2", "id": "a", "x": {}}}"#, "[".repeat(1 << 16));
    refused(&place.stage("createRuntime", deep.as_bytes()), 12);
}

#[test]
fn a_state_of_eight_mebibytes_is_read_and_one_byte_more_is_too_long() {
    let place = Place::new();
    let state = state(&json!({})).to_string();
    let padded = |length: usize| format!("{state}{}", " ".repeat(length - state.len()));
    done(&place.stage("poststop", padded(MAX_STATE).as_bytes()));
    let line = refused(&place.stage("poststop", padded(MAX_STATE + 1).as_bytes()), 41);
    assert!(line.contains("8388608"), "{line}");
}

#[test]
fn closed_standard_streams_are_no_trouble() {
    let place = Place::new();
    let state = place.write("state.json", &asking("egress", "none").to_string());
    let shell = |script: &str| {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).arg(binary()).arg(&state).arg(place.path("config.yaml")).arg(place.path("run"));
        command.env_clear().stdin(Stdio::null()).output().expect("a shell")
    };
    let plan = r#"exec "$0" plan --state "$1" --config "$2""#;
    assert_eq!(shell(&format!("{plan} >&-")).status.code(), Some(0));
    assert_eq!(shell(r#"exec "$0" frobnicate 2>&-"#).status.code(), Some(10));
    refused(&shell(r#"exec "$0" createRuntime --config "$2" --run-dir "$3" <&-"#), 12);
    let line = refused(&shell(&format!("{plan} >/dev/full")), 42);
    assert!(line.contains("ENOSPC"), "{line}");
    // A reader that has gone away, as in `netlatch man | head -1`.
    for command in ["man", "completions bash", "--help"] {
        let output = shell(&format!("{{ sleep 0.2; exec \"$0\" {command}; }} | :"));
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""), "{command}");
    }
}

#[test]
fn an_unknown_annotation_is_refused_with_a_suggestion() {
    let place = Place::new();
    for stage in ["createRuntime", "prestart", "poststart"] {
        let line = refused(&place.stage(stage, asking("egres", "none").to_string().as_bytes()), 15);
        assert!(line.contains("io.netlatch.egres:") && line.contains("io.netlatch.egress"), "{line}");
    }
    let line =
        refused(&place.stage("createRuntime", asking("egress", "api.example.com:443").to_string().as_bytes()), 15);
    assert!(line.contains("names are not supported yet"), "{line}");
}

#[test]
fn poststop_forgets_whatever_the_annotations_say() {
    let place = Place::new();
    // As runc and as crun write it.
    for pid in ["", r#""pid":0,"root":"rootfs","#] {
        let state = format!(
            r#"{{"ociVersion":"1.0","id":"ohk1",{pid}"status":"stopped","bundle":"/run/bundles/b","annotations":{{"io.netlatch.egres":"?"}}}}"#
        );
        done(&place.stage("poststop", state.as_bytes()));
        done(&place.stage("poststop", state.as_bytes()));
    }
}

#[test]
fn a_named_configuration_that_is_missing_or_wrong_stops_a_start() {
    let place = Place::new();
    let state = state(&json!({})).to_string();
    place.configure("egres: none\n");
    let line = refused(&place.stage("createRuntime", state.as_bytes()), 14);
    assert!(line.contains("config.yaml:2:1:"), "{line}");
    fs::set_permissions(place.path("config.yaml"), fs::Permissions::from_mode(0o666)).unwrap();
    let line = refused(&place.stage("createRuntime", state.as_bytes()), 14);
    assert!(line.contains("0666"), "{line}");
    fs::remove_file(place.path("config.yaml")).unwrap();
    let line = refused(&place.stage("createRuntime", state.as_bytes()), 14);
    assert!(line.contains("ENOENT"), "{line}");
}

#[test]
fn a_mistake_in_a_policy_stops_every_start() {
    let place = Place::new();
    let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web}\nspec: {ingres: []}\n";
    place.write("policies/web.yaml", policy);
    let line = refused(&place.stage("createRuntime", state(&json!({})).to_string().as_bytes()), 16);
    assert!(line.contains("web.yaml:4:8: spec: unknown field \"ingres\"; did you mean ingress?"), "{line}");
}

#[test]
fn last_error_prints_what_failed() {
    let place = Place::new();
    let output = place.last_error(&[]);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), "no failure is recorded\n"));

    let line = refused(&place.stage("createRuntime", asking("egress", "10.0.0.7/8").to_string().as_bytes()), 15);
    let message = line.strip_prefix("netlatch: ").unwrap();
    refused(&place.stage("poststart", b"{}"), 12);
    let said = done(&place.last_error(&["ohk1"]));
    assert!(said.contains(message), "the line that went to stderr: {said}");
    assert!(said.contains("ohk1: createRuntime exited with 15"), "{said}");
    assert!(done(&place.last_error(&[])).contains("poststart exited with 12"), "the last one of any container");
    assert_eq!(place.last_error(&["other"]).status.code(), Some(1));
    // What cannot be read is not nothing.
    let kept = place.path("run/errors/ohk1.json");
    fs::write(&kept, "{").unwrap();
    assert!(refused(&place.last_error(&["ohk1"]), 40).contains("ohk1.json: it is damaged"));
    assert!(done(&place.last_error(&[])).contains("poststart exited with 12"), "another can be read");
    fs::remove_dir_all(place.path("run/errors")).unwrap();
    fs::write(place.path("run/errors"), "").unwrap();
    for id in [&[][..], &["ohk1"]] {
        assert!(refused(&place.last_error(id), 40).contains("ENOTDIR"));
    }
}

#[test]
fn a_bundle_with_an_endless_path_makes_no_endless_line() {
    let place = Place::new();
    let mut state = asking("egress", "10.0.0.0/8");
    state["bundle"] = json!(format!("{}/first/{}/last", place.dir.path().display(), "x".repeat(100_000)));
    fs::create_dir(place.path("first")).unwrap();
    let output = place.stage("createRuntime", state.to_string().as_bytes());
    let line = refused(&output, 13);
    assert!(line.len() < 500 && line.contains("/first/xxx") && line.contains("xxx/last/config.json"), "{line}");
    let line = refused(&place.stage("createRuntime", asking(&"k".repeat(100_000), "1").to_string().as_bytes()), 15);
    assert!(line.len() < 500, "{line}");
}

#[test]
fn the_help_of_reload_says_how_long_it_waits() {
    let help = done(&Place::new().run(&["reload", "--help"], b""));
    assert!(help.split_whitespace().collect::<Vec<_>>().join(" ").contains("more than 120 seconds"), "{help}");
}

#[test]
fn what_others_wrote_never_reaches_the_terminal_raw() {
    let place = Place::new();
    let hostile = "\u{1b}[2J\u{1b}]0;title\u{7}\r\n\u{202e}\u{2028}x";
    let states = [
        asking("egress", hostile),
        asking("egress", &format!("10.0.0.0/8, {hostile}")),
        asking("ipv6", hostile),
        asking(hostile, "none"),
        asking("labels", hostile),
        asking("sysctl.net.ipv4.tcp_rmem", hostile),
        asking(&format!("sysctl.{hostile}"), "1"),
    ];
    let raw = |text: &str| text.chars().any(|c| (c.is_control() && c != '\n') || "\u{202e}\u{2028}".contains(c));
    for state in &states {
        let line = refused(&place.stage("createRuntime", state.to_string().as_bytes()), 15);
        assert!(!raw(&line), "{line:?}");
        let said = done(&place.last_error(&["ohk1"]));
        assert!(!raw(&said), "{said:?}");
        let output = place.plan("text", state);
        assert!(!raw(&text(&output.stderr)) && !raw(&text(&output.stdout)), "{output:?}");
    }
    let mut state = state(&json!({}));
    state["id"] = hostile.into();
    assert!(!raw(&refused(&place.stage("createRuntime", state.to_string().as_bytes()), 12)));
    assert!(!raw(&refused(&place.run(&[hostile], b""), 10)));
    let file = place.write("bad.yaml", &format!("egress: {}\n", json!(hostile)));
    let output = place.check(&[&file]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!raw(&text(&output.stdout)), "{:?}", text(&output.stdout));
}

#[test]
fn check_is_silent_about_what_is_good() {
    let place = Place::new();
    let good = place.write("good.yaml", "egress: [10.0.0.0/8, \"*:443\"]\nipv6: disable\n");
    assert_eq!(done(&place.check(&[&good])), "");
    assert_eq!(done(&place.check(&[&place.write("empty.yaml", "")])), "");
}

#[test]
fn check_names_file_line_and_column_of_everything_that_is_wrong() {
    let place = Place::new();
    let bad = place.write("bad.yaml", "egres: none\nipv6: of\ningress:\n- 10.0.0.1/8\n");
    let output = place.check(&[&bad]);
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(1), ""));
    let said = text(&output.stdout);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    for (line, at) in lines.iter().zip(["1:1: ", "2:7: ipv6: ", "4:3: ingress[0]: "]) {
        assert!(line.starts_with(&format!("{bad}:{at}")), "{line}");
    }

    let missing = place.path("missing.yaml").display().to_string();
    let output = place.check(&[&missing]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), format!("{missing}: the file is missing (ENOENT)\n"));

    fs::remove_file(place.path("config.yaml")).unwrap();
    let folder = place.dir.path().display().to_string();
    assert_eq!(text(&place.check(&[&folder]).stdout), said, "a folder means the documents in it");
}

#[test]
fn check_fails_on_warnings_only_when_told() {
    let place = Place::new();
    let audit = place.write("audit.yaml", "mode: audit\n");
    let output = place.check(&[&audit]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).starts_with(&format!("{audit}:1:7: mode: ")), "{}", text(&output.stdout));
    assert!(text(&output.stdout).ends_with("(warning)\n"), "{}", text(&output.stdout));
    assert_eq!(place.check(&["--strict", &audit]).status.code(), Some(1));
}

#[test]
fn plan_says_what_a_start_would_do() {
    let place = Place::new();
    place.configure("ipv6: disable\n");
    let state = asking("egress", "10.0.0.0/8:443, !10.1.0.0/16");
    let said = done(&place.plan("text", &state));
    let order: Vec<usize> = ["replace table inet netlatch", "disable_ipv6 = 1", "bring lo up", "!10.1.0.0/16"]
        .iter()
        .map(|part| said.find(part).unwrap_or_else(|| panic!("{part} is missing in {said}")))
        .collect();
    assert!(order.is_sorted(), "table, sysctls, lo: {said}");
    assert!(said.contains("config.yaml:2 ipv6"), "every value knows its place: {said}");

    let json = described("plan", &done(&place.plan("json", &state)));
    assert_eq!(json["id"], "ohk1");
    let steps: Vec<&str> =
        json["steps"].as_array().unwrap().iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["replace-table", "sysctls", "raise-loopback"]);

    let nft = done(&place.plan("nft", &state));
    assert!(nft.contains("table inet netlatch {") && nft.contains("10.1.0.0/16"), "{nft}");
    assert_eq!(json["steps"][0]["nft"], nft, "one table in every format");
}

#[test]
fn plan_reads_a_file_as_well_and_refuses_as_a_start_would() {
    let place = Place::new();
    let file = place.write("state.json", &asking("egress", "none").to_string());
    let config = place.path("config.yaml").display().to_string();
    done(&place.run(&["plan", "--state", &file, "--config", &config], b""));
    refused(&place.plan("text", &asking("egress", "10.0.0.0/8:0")), 15);
    place.configure("ipv6: disable\n");
    let line = refused(&place.plan("text", &asking("ipv6", "enable")), 17);
    assert!(line.contains("config.yaml:2 ipv6") && line.contains("io.netlatch.ipv6"), "both sides: {line}");
    let missing = place.path("nothing.json").display().to_string();
    refused(&place.run(&["plan", "--state", &missing, "--config", &config], b""), 12);
}

#[test]
fn nothing_is_taken_from_the_environment() {
    let place = Place::new();
    let state = asking("egress", "10.0.0.7/8").to_string();
    let (config, run_dir) = (place.path("config.yaml"), place.path("run"));
    let mut hostile = place.command(&["createRuntime", "--config", config.to_str().unwrap()]);
    hostile.arg("--run-dir").arg(&run_dir);
    for name in ["LD_PRELOAD", "LD_LIBRARY_PATH", "PATH", "HOME", "NETLATCH_CONFIG", "RUST_LOG", "LC_ALL", "TMPDIR"] {
        hostile.env(name, "/proc/self/cwd/evil.so");
    }
    let (output, _) = fed(&mut hostile, state.as_bytes());
    assert!(run_dir.join("errors/ohk1.json").exists(), "kept where the arguments say");
    assert_eq!(refused(&output, 15), refused(&place.stage("createRuntime", state.as_bytes()), 15));
}

#[test]
fn help_man_page_and_guide_show_the_exit_codes_of_the_table() {
    let place = Place::new();
    let help = done(&place.run(&["--help"], b""));
    let man = done(&place.run(&["man"], b""));
    for exit in EXITS.iter().chain([&EXIT_INTERNAL]) {
        assert!(help.contains(&format!("  {}  {}\n", exit.code, exit.meaning)), "{help}");
        let page = man.replace("\\-", "-").replace("\\(aq", "'").replace("\\(ga", "`");
        assert!(page.contains(exit.meaning), "{}: {man}", exit.meaning);
    }

    let rows: Vec<&str> = guide("exit-codes")
        .unwrap()
        .text
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| code"))
        .collect();
    let row = |code: u8, meaning: &str, remedy: &str| format!("| {code} | {meaning} | {remedy} |");
    let mut expected = vec![
        row(0, "done", ""),
        row(
            1,
            "check: something was found; inspect, learn: no such container runs, or nothing was recorded; last-error: nothing is recorded; install, uninstall: something was left alone; doctor, verify: something is wrong",
            "",
        ),
    ];
    expected.extend(EXITS.iter().chain([&EXIT_INTERNAL]).map(|exit| row(exit.code, exit.meaning, exit.remedy)));
    assert_eq!(rows, expected);
}

#[test]
fn guides_describe_every_annotation_and_every_key_of_the_configuration() {
    for (name, _) in netlatch::oci::Annotation::ALL {
        assert!(guide("annotations").unwrap().text.contains(&format!("| `io.netlatch.{name}")), "{name}");
    }
    // The example of the whole file is a file that is understood, and holds every key.
    let blocks =
        guide("configuration").unwrap().text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let whole = blocks.max_by_key(|block| block.len()).expect("an example of the configuration");
    let (config, errors, _) = netlatch::settings::check("configuration.md", whole.as_bytes());
    assert!(errors.is_empty(), "{errors:?}");
    let shown = format!("{:?}", config.expect("a configuration"));
    assert!(!shown.contains(": None") && !shown.contains("sysctls: []"), "every key: {shown}");
}

#[test]
fn the_guide_lists_what_no_rule_covers_as_the_code_does() {
    let section = guide("not-covered").unwrap().text;
    let rows =
        section.lines().skip_while(|line| !line.starts_with("|---")).skip(1).take_while(|line| line.starts_with("| "));
    let ends: Vec<(&str, &str)> = rows
        .map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
            assert_eq!(cells.len(), 4, "{row}");
            (cells[0], cells[3])
        })
        .collect();
    let names: Vec<String> = Gap::ALL.iter().map(|gap| format!("`{}`", gap.name())).collect();
    let wanted: Vec<(&str, &str)> =
        names.iter().map(String::as_str).zip(Gap::ALL.iter().map(|gap| gap.remedy())).collect();
    assert_eq!(ends, wanted);
    // Those that the log passes over are named in the text.
    for gap in Gap::ALL.iter().filter(|gap| gap.weight() != Weight::Grave) {
        let text = section.split("|---").next().unwrap_or_default();
        assert!(text.contains(&format!("`{}`", gap.name())), "{}", gap.name());
    }
}

/// A state whose bundle lies in `place`, with this config.json.
fn with_bundle(place: &Place, config: &Value) -> Value {
    place.write("config.json", &config.to_string());
    let mut state = asking("egress", "10.0.0.0/8");
    state["bundle"] = json!(place.path(""));
    state
}

#[test]
fn plan_lists_what_its_rules_do_not_cover() {
    let place = Place::new();
    let hostile = "/run/user/\u{1b}[2J\u{202e}/bus";
    let state = with_bundle(
        &place,
        &json!({
            "mounts": [{"destination": "/x", "type": "bind", "source": hostile}],
            "linux": {"namespaces": [{"type": "network"}, {"type": "pid"}]},
        }),
    );
    let text = done(&place.plan("text", &state));
    let (_, section) = text.split_once("\nnot covered (what the rules do not govern)\n").expect("the section");
    let names: Vec<&str> = section
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split_once(": ").filter(|_| !line.starts_with("   ")))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["engine-socket", "af-vsock"], "{section}");
    assert!(!text.contains(['\u{1b}', '\u{202e}']) && section.contains("(mounts[0])"), "{section:?}");

    let json = described("plan", &done(&place.plan("json", &state)));
    let keys = ["name", "remedy", "weight", "what", "where"];
    let listed = json["not-covered"].as_array().expect("an array");
    assert!(listed.iter().all(|one| one.as_object().unwrap().keys().eq(keys)), "{json:#}");
    assert_eq!(
        (&listed[0]["name"], &listed[0]["weight"], &listed[0]["where"]),
        (&json!("engine-socket"), &json!("grave"), &json!("mounts[0]"))
    );

    // Without a bundle that is what there is to say; without rules there is nothing to cover.
    let mut missing = state.clone();
    missing["bundle"] = json!("/nowhere");
    assert!(done(&place.plan("text", &missing)).contains("\n  bundle-missing: "));
    let mut nothing = state;
    nothing["annotations"] = json!({});
    assert!(!done(&place.plan("text", &nothing)).contains("not covered"));
    assert!(done(&place.plan("nft", &nothing)).is_empty());
}

#[test]
fn what_cannot_be_understood_in_a_bundle_stops_a_plan() {
    let place = Place::new();
    for (part, named) in [
        (json!({"mounts": [{"destination": 7}]}), "expected a string"),
        (json!({"mounts": {}}), "expected a sequence"),
        (json!({"linux": {"devices": [{"path": "/dev/x", "major": "10"}]}}), "expected i64"),
        (json!({"linux": {"resources": {"devices": [{"type": "c"}]}}}), "missing field `allow`"),
        (json!({"linux": {"seccomp": {"syscalls": [{"names": "socket"}]}}}), "names of system calls"),
        (json!({"linux": {"seccomp": {"syscalls": [{"names": [1]}]}}}), "the name of a system call"),
        (
            json!({"linux": {"seccomp": {"syscalls": [{"names": ["socket"], "args": [{"index": 0}]}]}}}),
            "missing field `value`",
        ),
        (json!({"process": {"noNewPrivileges": "yes"}}), "expected a boolean"),
    ] {
        let line = refused(&place.plan("text", &with_bundle(&place, &part)), 13);
        assert!(line.contains(named), "{part}: {line}");
    }
}

/// The names of all tests in the project.
fn tests_of_the_project() -> std::collections::BTreeSet<String> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("tests"), root.join("src")];
    let mut names = std::collections::BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&entry).unwrap();
                let behind = text.split("#[test]").skip(1).filter_map(|rest| rest.split_once("fn "));
                names.extend(behind.filter_map(|(_, name)| Some(name.split_once('(')?.0.to_owned())));
            }
        }
    }
    names
}

#[test]
fn every_sentence_about_security_names_a_test_that_there_is() {
    let tests = tests_of_the_project();
    let (section, _) = guide("security").unwrap().text.split_once("Know the limits:").expect("its tables");
    let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| |")).collect();
    assert!(rows.len() > 20, "{rows:?}");
    for row in rows {
        let named = row.trim_end_matches(" |").rsplit_once(" | ").expect("a cell with tests").1;
        for name in named.split(", ").map(|name| name.trim_matches('`')) {
            assert!(tests.contains(name), "{name} is no test: {row}");
        }
    }
}
