//! `netlatch install` and `netlatch uninstall`, below folders that stand for `/`: what is written, what is left alone, and
//! that nothing else happens.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use netlatch::docs::guide;
use serde_json::{Value, json};

const HOOKS_D: &str = "usr/share/containers/oci/hooks.d";
const PROGRAM: &str = "usr/libexec/oci/hooks.d/netlatch";
const BASE: &str = "etc/containerd/netlatch-base-spec.json";
const STAGES: [&str; 3] = ["createRuntime", "poststart", "poststop"];

/// A folder that stands for `/`.
struct Image {
    dir: tempfile::TempDir,
}

impl Image {
    fn new() -> Image {
        Image { dir: tempfile::tempdir().expect("a directory") }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    fn write(&self, below: &str, text: &str) -> PathBuf {
        let path = self.path(below);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a directory");
        fs::write(&path, text).expect("a file");
        path
    }

    fn read(&self, below: &str) -> String {
        fs::read_to_string(self.path(below)).unwrap_or_else(|error| panic!("{below}: {error}"))
    }

    fn run(&self, line: &str) -> Output {
        let mut command = netlatch(line);
        command.arg("--destdir").arg(self.dir.path());
        command.output().expect("the program starts")
    }

    /// Runs a line that ends well, and returns what it printed.
    fn done(&self, line: &str) -> String {
        printed(line, &self.run(line), 0)
    }

    /// Every file with its content, mode and age, and every link and folder.
    fn everything(&self) -> BTreeMap<PathBuf, (u32, Option<u64>, Vec<u8>)> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.dir.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
                let metadata = fs::symlink_metadata(&path).expect("metadata");
                let (number, bytes) = if metadata.is_dir() {
                    folders.push(path.clone());
                    (None, Vec::new())
                } else if metadata.is_symlink() {
                    (None, fs::read_link(&path).expect("a link").into_os_string().into_encoded_bytes())
                } else {
                    // The program is compared by its number alone: it is big.
                    let short = metadata.len() < 1 << 20;
                    (Some(metadata.ino()), if short { fs::read(&path).expect("a file") } else { Vec::new() })
                };
                found.insert(path, (metadata.mode(), number, bytes));
            }
        }
        found
    }

    /// The files, by their paths below the folder.
    fn files(&self) -> Vec<String> {
        let files = self.everything().into_iter().filter(|(_, (mode, ..))| mode & 0o170_000 != 0o040_000);
        files.map(|(path, _)| path.strip_prefix(self.dir.path()).expect("below").display().to_string()).collect()
    }
}

fn netlatch(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netlatch"));
    command.args(line.split(' ')).env_clear().stdin(Stdio::null());
    command
}

fn printed(line: &str, output: &Output, code: i32) -> String {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{line}: {stdout}{stderr}");
    assert_eq!(stderr.is_empty(), code < 10, "{line}: {stderr}");
    stdout.into_owned()
}

/// A failure's one line.
fn refused(line: &str, output: &Output, code: i32) -> String {
    printed(line, output, code);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.starts_with("netlatch: cannot ") && stderr.lines().count() == 1, "{line}: {stderr}");
    stderr
}

fn tree(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("hooks.d").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What `ctr oci spec` and `runc spec` are like, with a number that is longer than a float.
const SPEC: &str = "{\n\t\"ociVersion\": \"1.0.2\",\n\t\"process\": {\n\t\t\"args\": [\"sh\"],\n\t\t\"rlimits\": \
    [{\"soft\": 18446744073709551615}]\n\t},\n\t\"root\": {\n\t\t\"path\": \"rootfs\"\n\t}\n}\n";

fn ours(stage: &str) -> Value {
    let file: Value = serde_json::from_str(&tree(&format!("always/10-netlatch-{stage}.json"))).expect("JSON");
    file["hook"].clone()
}

#[test]
fn what_is_written_is_what_the_project_has_in_hooks_d() {
    let image = Image::new();
    for (line, folder) in [("install hooks.d", ""), ("install hooks.d --always", "always/")] {
        image.done(line);
        for stage in STAGES {
            let name = format!("10-netlatch-{stage}.json");
            assert_eq!(image.read(&format!("{HOOKS_D}/{name}")), tree(&format!("{folder}{name}")), "{line}");
            let mode = fs::metadata(image.path(&format!("{HOOKS_D}/{name}"))).unwrap().mode();
            assert_eq!(mode & 0o7777, 0o644);
        }
    }
    image.done("install cdi");
    assert_eq!(image.read("etc/cdi/netlatch.json"), tree("cdi/netlatch.json"));
    image.done("install cdi --dir /var/run/cdi");
    assert_eq!(image.read("var/run/cdi/netlatch.json"), tree("cdi/netlatch.json"));
    assert_eq!(image.files().len(), 5, "and nothing else: {:?}", image.files());
}

#[test]
fn without_a_target_the_program_and_the_hook_files_are_put_in_place_and_taken_away() {
    let image = Image::new();
    let said = image.done("install");
    assert_eq!(said.matches("wrote ").count(), 4, "{said}");
    let program = image.path(PROGRAM);
    assert_eq!(fs::read(&program).unwrap(), fs::read(env!("CARGO_BIN_EXE_netlatch")).unwrap());
    assert_eq!(fs::metadata(&program).unwrap().mode() & 0o7777, 0o755);
    let version = Command::new(&program).arg("--version").output().expect("it runs");
    assert!(version.status.success());
    assert_eq!(image.files().len(), 4);

    // An older build is replaced, not written into: who runs it goes on.
    let before = fs::metadata(&program).unwrap().ino();
    fs::write(&program, "an older build").unwrap();
    image.done("install");
    assert_ne!(fs::metadata(&program).unwrap().ino(), before);
    image.done("install cdi");
    let said = image.done("uninstall");
    assert_eq!(said.matches("removed ").count(), 5, "{said}");
    assert_eq!(image.files(), Vec::<String>::new());
    assert_eq!(image.done("uninstall"), "nothing is installed there\n");
}

/// Every way to install, with what it needs.
fn ways(image: &Image) -> Vec<(String, String)> {
    let spec = image.write("given/spec.json", SPEC);
    image.write("b/config.json", SPEC);
    [
        ("install".to_owned(), "uninstall"),
        ("install program".to_owned(), "uninstall program"),
        ("install hooks.d".to_owned(), "uninstall hooks.d"),
        ("install hooks.d --always --dir /x/hooks.d".to_owned(), "uninstall hooks.d --dir /x/hooks.d"),
        ("install cdi".to_owned(), "uninstall cdi"),
        (format!("install containerd --spec {}", spec.display()), "uninstall containerd"),
        ("install bundle /b".to_owned(), "uninstall bundle /b"),
        (
            "install bundle /b --path /opt/netlatch --config /etc/c.yaml --run-dir /run/x".to_owned(),
            "uninstall bundle /b",
        ),
        ("install cdi --config /etc/c.yaml".to_owned(), "uninstall cdi"),
    ]
    .into_iter()
    .map(|(install, uninstall)| (install, uninstall.to_owned()))
    .collect()
}

#[test]
fn every_way_is_idempotent_and_goes_back_to_what_was() {
    let image = Image::new();
    for (install, uninstall) in ways(&image) {
        let before = image.files();
        let config = image.read("b/config.json");
        image.done(&install);
        let between = image.everything();
        let again = image.done(&install);
        let touched = |line: &str| ["wrote ", "changed ", "removed "].iter().any(|verb| line.starts_with(verb));
        assert!(again.contains("unchanged ") && !again.lines().any(touched), "{again}");
        assert_eq!(image.everything(), between, "{install}: nothing is so much as written again");
        image.done(&uninstall);
        let after = image.everything();
        image.done(&uninstall);
        assert_eq!(image.everything(), after, "{uninstall}");
        assert_eq!(image.files(), before, "{uninstall}");
        assert_eq!(image.read("b/config.json"), config, "{uninstall}: byte for byte");
    }
}

#[test]
fn a_dry_run_says_what_a_run_then_does_and_changes_nothing() {
    let image = Image::new();
    for (install, uninstall) in ways(&image) {
        for line in [install, uninstall] {
            let before = image.everything();
            let would = image.done(&format!("{line} --dry-run"));
            assert_eq!(image.everything(), before, "{line}: {would}");
            let did = image.done(&line);
            let paths = |said: &str| {
                let lines = said.lines().filter(|line| ["w", "c", "r"].iter().any(|verb| line.starts_with(verb)));
                let path = |line: &str| line.split(' ').next_back().expect("a path").to_owned();
                lines.map(path).filter(|path| path.starts_with('/')).collect::<Vec<_>>()
            };
            assert!(!paths(&did).is_empty(), "{line}: {did}");
            assert_eq!(paths(&would), paths(&did), "{line}");
            let lines = would.lines().filter(|line| line.starts_with("would ")).count();
            assert_eq!(lines, paths(&did).len(), "{line}: {would}");
        }
    }
    // Whole files with their lines, entries on one line each.
    let would = image.done("install cdi --dry-run");
    assert!(would.contains("\n+   \"kind\": \"netlatch.io/net\",\n"), "{would}");
    let would = image.done("install bundle /b --dry-run");
    let entry = r#"+ hooks.poststart[0] {"path":"/usr/libexec/oci/hooks.d/netlatch","args":["netlatch","poststart"]}"#;
    assert!(would.contains(entry), "{would}");
    // A folder that is to stand for / is not made either.
    let nowhere = image.path("nowhere");
    let output = netlatch("install --dry-run --destdir").arg(&nowhere).output().unwrap();
    printed("install --dry-run", &output, 0);
    assert!(!nowhere.exists());
}

#[test]
fn other_hooks_of_a_bundle_stay_and_ours_come_behind_them_but_first_at_poststop() {
    let image = Image::new();
    let other = |name: &str| json!({"path": format!("/usr/bin/{name}"), "args": [name]});
    // As nerdctl writes it: its createRuntime hook attaches the network.
    let spec = json!({
        "ociVersion": "1.0.2",
        "hooks": {
            "createRuntime": [other("nerdctl")], "poststop": [other("nerdctl")],
            "createContainer": [other("ldconfig")],
        },
    });
    image.write("b/config.json", &spec.to_string());
    image.done("install bundle /b");
    let after: Value = serde_json::from_str(&image.read("b/config.json")).unwrap();
    let expected = json!({
        "createRuntime": [other("nerdctl"), ours("createRuntime")],
        "poststart": [ours("poststart")],
        "poststop": [ours("poststop"), other("nerdctl")],
        "createContainer": [other("ldconfig")],
    });
    assert_eq!(after["hooks"], expected);
    assert_eq!(after["ociVersion"], "1.0.2");
    image.done("uninstall bundle /b");
    assert_eq!(image.read("b/config.json"), spec.to_string());
}

#[test]
fn a_bundle_keeps_the_owner_and_the_mode_of_its_configuration() {
    let image = Image::new();
    let path = image.write("b/config.json", SPEC);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let root = nix::unistd::geteuid().is_root();
    if root {
        std::os::unix::fs::chown(&path, Some(200_000), Some(200_001)).unwrap();
    }
    let standing = || {
        let metadata = fs::metadata(&path).unwrap();
        (metadata.mode(), metadata.uid(), metadata.gid())
    };
    let before = standing();
    image.done("install bundle /b");
    assert_eq!(standing(), before);
    assert_ne!(image.read("b/config.json"), SPEC);
}

#[test]
fn a_broken_specification_is_named_with_its_place_and_stays() {
    let image = Image::new();
    let given = image.path("given.json");
    for (text, place) in [
        ("{\n  \"hooks\": {\n    \"createRuntime\": [}\n", "line 3 column 23"),
        ("{\"hooks\": 7}", "line 1 column 11"),
        ("\u{feff}{}", "line 1 column 1"),
        ("", "line 1 column 0"),
    ] {
        image.write("b/config.json", text);
        fs::write(&given, text).unwrap();
        for line in [
            "install bundle /b".to_owned(),
            "uninstall bundle /b".to_owned(),
            format!("install containerd --spec {}", given.display()),
        ] {
            let before = image.everything();
            let said = refused(&line, &image.run(&line), 13);
            let file = if line.contains("bundle") { "/b/config.json: " } else { "/given.json: " };
            assert!(said.contains(file) && said.contains(place), "{line}: {said}");
            assert_eq!(image.everything(), before);
        }
    }
    fs::write(image.path("b/config.json"), b"{\"a\": \"\xff\"}").unwrap();
    assert!(refused("bytes", &image.run("install bundle /b"), 13).contains("is not UTF-8 behind byte 7"));
    assert!(refused("none", &image.run("install bundle /none"), 13).contains("/none/config.json: the file is missing"));
}

#[test]
fn links_and_folders_in_the_place_of_a_file_are_refused_and_nothing_is_written() {
    for (line, place, code) in [
        ("install hooks.d", format!("{HOOKS_D}/10-netlatch-poststop.json"), 42),
        ("install", format!("{HOOKS_D}/10-netlatch-poststop.json"), 42),
        ("install cdi", "etc/cdi/netlatch.json".to_owned(), 42),
        ("install program", PROGRAM.to_owned(), 42),
        ("install bundle /b", "b/config.json".to_owned(), 13),
        ("uninstall bundle /b", "b/config.json".to_owned(), 13),
        ("uninstall cdi", "etc/cdi/netlatch.json".to_owned(), 42),
    ] {
        let image = Image::new();
        let target = image.write("elsewhere", "{}");
        let path = image.path(&place);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(&target, &path).unwrap();
        let before = image.everything();
        let said = refused(line, &image.run(line), code);
        assert!(said.contains("symbolic link") && said.contains(&place), "{said}");
        assert_eq!(image.everything(), before, "{line}");

        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let before = image.everything();
        refused(line, &image.run(line), code);
        assert_eq!(image.everything(), before, "{line}");
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error() {
    let image = Image::new();
    // A file in the folder's place: so for root as well.
    image.write("etc/cdi", "");
    let before = image.everything();
    let said = refused("install cdi", &image.run("install cdi"), 42);
    assert!(said.contains("etc/cdi/netlatch.json: ENOTDIR"), "{said}");
    assert_eq!(image.everything(), before);
    // procfs takes no files from anybody.
    let output = netlatch("install hooks.d --path /bin/sh --dir /proc/self").output().unwrap();
    let said = refused("install hooks.d", &output, 42);
    assert!(said.contains("/proc/self/10-netlatch-createRuntime.json: "), "{said}");
}

#[test]
fn an_absolute_link_in_an_image_leads_into_the_image() {
    let image = Image::new();
    // A folder of the host that is in the image as well, as /run is.
    let host = tempfile::tempdir().unwrap();
    let below = host.path().strip_prefix("/").unwrap().display().to_string();
    fs::create_dir_all(image.path(&below)).unwrap();
    fs::create_dir_all(image.path("var")).unwrap();
    symlink(host.path(), image.path("var/run")).unwrap();
    image.done("install cdi --dir /var/run/cdi");
    assert!(image.path(&below).join("cdi/netlatch.json").exists());
    assert_eq!(fs::read_dir(host.path()).unwrap().count(), 0);
}

#[test]
fn a_hook_is_not_named_before_its_program_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let (hooks, program) = (dir.path().join("hooks.d"), dir.path().join("netlatch"));
    let line = format!("install hooks.d --dir {} --path {}", hooks.display(), program.display());
    let run = |line: &str| netlatch(line).output().unwrap();
    let said = refused(&line, &run(&line), 42);
    assert!(said.contains("`netlatch install program`") && said.contains("ENOENT"), "{said}");
    assert!(!hooks.exists());
    let said = printed(&line, &run(&format!("{line} --dry-run")), 0);
    assert!(said.contains("note: no program is at "), "{said}");
    // What cannot be executed is none.
    fs::write(&program, "").unwrap();
    refused(&line, &run(&line), 42);

    let put = format!("install program --path {}", program.display());
    fs::remove_file(&program).unwrap();
    printed(&put, &run(&put), 0);
    printed(&line, &run(&line), 0);
    let file: Value = serde_json::from_slice(&fs::read(hooks.join("10-netlatch-poststart.json")).unwrap()).unwrap();
    assert_eq!(file["hook"]["path"], json!(program));
    assert!(printed(&put, &run(&put), 0).starts_with("unchanged "));
}

#[test]
fn what_somebody_changed_is_left_alone_and_named() {
    let image = Image::new();
    image.done("install");
    let file = format!("{HOOKS_D}/10-netlatch-createRuntime.json");
    let changed = image.read(&file).replace("15", "20");
    image.write(&file, &changed);
    for line in ["install", "install hooks.d --always", "uninstall hooks.d"] {
        let said = printed(line, &image.run(line), 1);
        assert!(said.contains("left alone") && said.contains(&file), "{said}");
        assert_eq!(image.read(&file), changed);
    }
    // And so is the program, which that file calls: podman would pass over it in silence.
    let said = printed("uninstall", &image.run("uninstall"), 1);
    assert!(said.contains("netlatch: what else was left alone may call it"), "{said}");
    assert_eq!(image.files(), [PROGRAM, file.as_str()]);
    fs::remove_file(image.path(&file)).unwrap();

    // Another build, of which nobody knows whose it is.
    fs::write(image.path(PROGRAM), "#!/bin/sh\n").unwrap();
    let said = printed("uninstall", &image.run("uninstall"), 1);
    assert!(said.contains("is another build than this program"), "{said}");

    // The same of a CDI specification and of a bundle.
    image.write("etc/cdi/netlatch.json", &tree("cdi/netlatch.json").replace("\"on\"", "\"always\""));
    let mut spec: Value = serde_json::from_str(SPEC).unwrap();
    spec["hooks"] =
        json!({"createRuntime": [{"path": "/usr/bin/netlatch", "args": ["netlatch", "createRuntime", "-v"]}]});
    image.write("b/config.json", &spec.to_string());
    for line in ["install cdi", "uninstall cdi", "install bundle /b", "uninstall bundle /b"] {
        let said = printed(line, &image.run(line), 1);
        assert!(said.contains("is not as an installation writes it"), "{line}: {said}");
    }
    assert_eq!(image.read("b/config.json"), spec.to_string());
}

#[test]
fn a_configuration_that_the_hook_was_told_is_not_lost_by_installing_again() {
    let image = Image::new();
    image.done("install hooks.d --config /etc/strict.yaml --run-dir /run/strict");
    let file = format!("{HOOKS_D}/10-netlatch-createRuntime.json");
    let value: Value = serde_json::from_str(&image.read(&file)).unwrap();
    let args = json!(["netlatch", "createRuntime", "--config", "/etc/strict.yaml", "--run-dir", "/run/strict"]);
    assert_eq!(value["hook"]["args"], args);
    let said = printed("install", &image.run("install"), 1);
    assert_eq!(said.matches("calls netlatch with arguments of its own; uninstall it first").count(), 3, "{said}");
    assert_eq!(serde_json::from_str::<Value>(&image.read(&file)).unwrap(), value);
    image.done("uninstall hooks.d");
    // Another path alone is no loss.
    image.done("install hooks.d --path /opt/netlatch");
    image.done("install hooks.d");
    assert_eq!(image.read(&file), tree("10-netlatch-createRuntime.json"));
}

#[test]
fn a_base_specification_is_made_once_and_kept_while_it_is_named() {
    let image = Image::new();
    let spec = image.write("spec.json", SPEC);
    let line = format!("install containerd --spec {}", spec.display());
    let said = refused("install containerd", &image.run("install containerd"), 10);
    assert!(said.contains("ctr oci spec | netlatch install containerd --spec -"), "{said}");
    let said = image.done(&line);
    assert!(said.contains("base_runtime_spec = \"/etc/containerd/netlatch-base-spec.json\""), "{said}");
    let base = image.read(BASE);
    let mut value: Value = serde_json::from_str(&base).unwrap();
    for stage in STAGES {
        assert_eq!(value["hooks"][stage], json!([ours(stage)]));
    }
    value.as_object_mut().unwrap().remove("hooks");
    assert_eq!(value, serde_json::from_str::<Value>(SPEC).unwrap());

    // From stdin, and from what is there.
    let mut command = netlatch("install containerd --spec -");
    command.arg("--destdir").arg(image.dir.path()).stdin(fs::File::open(&spec).unwrap());
    assert!(printed("stdin", &command.output().unwrap(), 0).contains("unchanged "));
    assert!(image.done("install containerd").contains("unchanged "));

    // A newer containerd prints another one.
    fs::write(&spec, SPEC.replace("1.0.2", "1.1.0")).unwrap();
    image.done(&line);
    assert_eq!(image.read(BASE), base.replace("1.0.2", "1.1.0"));

    // containerd loads no CRI plugin without a file that its configuration names.
    let config =
        image.write("etc/containerd/config.toml", "base_runtime_spec = \"/etc/containerd/netlatch-base-spec.json\"\n");
    for _ in 0..2 {
        let said = printed("uninstall", &image.run("uninstall containerd"), 1);
        assert!(said.contains("etc/containerd/config.toml names it"), "{said}");
        assert_eq!(image.read(BASE), SPEC.replace("1.0.2", "1.1.0"));
    }
    // What holds no hooks is somebody's own.
    let said = printed(&line, &image.run(&line), 1);
    assert!(said.contains("holds no hooks of netlatch's"), "{said}");
    image.done("install containerd");
    fs::remove_file(config).unwrap();
    image.done("uninstall containerd");
    assert!(!image.path(BASE).exists());

    // Another name is the admin's: only the hooks go.
    image.write("etc/containerd/mine.json", SPEC);
    image.done("install containerd --output /etc/containerd/mine.json");
    assert_ne!(image.read("etc/containerd/mine.json"), SPEC);
    image.done("uninstall containerd --output /etc/containerd/mine.json");
    assert_eq!(image.read("etc/containerd/mine.json"), SPEC);
}

#[test]
fn other_engines_that_are_there_are_named_with_what_they_need() {
    let image = Image::new();
    assert!(!image.done("install --dry-run").contains("note: "));
    image.write("etc/docker/daemon.json", "{}");
    image.write("etc/containerd/config.toml", "");
    image.write("usr/bin/crio", "");
    let said = image.done("install");
    for named in ["Docker is here", "containerd is here", "CRI-O is here"] {
        assert!(said.contains(named), "{said}");
    }
}

#[test]
fn a_path_that_no_engine_could_follow_is_a_usage_error() {
    let image = Image::new();
    for line in [
        "install --path netlatch",
        "install --path /usr/../netlatch",
        "install hooks.d --config c.yaml",
        "install cdi --run-dir run",
        "uninstall --path netlatch",
        "install everything",
        "install bundle",
        "install bundle /b /c",
        "uninstall hooks.d --always",
        "uninstall cdi --config /c",
    ] {
        refused(line, &image.run(line), 10);
    }
    assert!(image.everything().is_empty());
}

// --- scripts/install.sh ---------------------------------------------------------------------------------------------

fn script(image: &Image, args: &[&str]) -> (i32, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/install.sh");
    let mut command = Command::new("sh");
    command.arg(script).arg("--destdir").arg(image.dir.path()).args(args).stdin(Stdio::null());
    let output = command.output().expect("sh");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().expect("a code"), said)
}

#[test]
fn the_script_installs_upgrades_and_takes_away() {
    let image = Image::new();
    let binary = env!("CARGO_BIN_EXE_netlatch");
    let (code, said) = script(&image, &["--dry-run", binary]);
    assert_eq!((code, image.files().len()), (0, 0), "{said}");

    let (code, said) = script(&image, &[binary]);
    assert_eq!(code, 0, "{said}");
    let everything = [
        "etc/netlatch/config.yaml",
        "usr/bin/netlatch",
        PROGRAM,
        "usr/share/bash-completion/completions/netlatch",
        "usr/share/containers/oci/hooks.d/10-netlatch-createRuntime.json",
        "usr/share/containers/oci/hooks.d/10-netlatch-poststart.json",
        "usr/share/containers/oci/hooks.d/10-netlatch-poststop.json",
        "usr/share/fish/vendor_completions.d/netlatch.fish",
        "usr/share/man/man1/netlatch.1",
        "usr/share/netlatch/config.schema.json",
        "usr/share/zsh/site-functions/_netlatch",
    ];
    assert_eq!(image.files(), everything);
    assert_eq!(fs::read_link(image.path("usr/bin/netlatch")).unwrap(), Path::new("/").join(PROGRAM));
    assert!(image.read("usr/share/man/man1/netlatch.1").contains(".TH"));
    let names_its_schema = || {
        let text = image.read("etc/netlatch/config.yaml");
        let path = text.lines().next().and_then(|line| line.strip_prefix("# yaml-language-server: $schema=/"));
        assert!(image.read(path.expect("a schema")).contains("urn:netlatch:schema:config"));
    };
    names_its_schema();

    // An upgrade: another file in the same place, an edited configuration as it was.
    let before = fs::metadata(image.path(PROGRAM)).unwrap().ino();
    image.write("etc/netlatch/config.yaml", "egress: none\n");
    let (code, said) = script(&image, &[binary]);
    assert_eq!(code, 0, "{said}");
    assert_ne!(fs::metadata(image.path(PROGRAM)).unwrap().ino(), before);
    assert_eq!(image.read("etc/netlatch/config.yaml"), "egress: none\n");
    assert_eq!(image.files(), everything);

    let (code, said) = script(&image, &["--uninstall"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(image.files(), ["etc/netlatch/config.yaml"], "{said}");
    let (code, said) = script(&image, &["--uninstall"]);
    assert_eq!(code, 0, "{said}");

    // Untouched, the configuration goes as well; another prefix leaves the hook files where engines look.
    fs::remove_file(image.path("etc/netlatch/config.yaml")).unwrap();
    let (code, said) = script(&image, &["--prefix", "/usr/local", binary]);
    assert_eq!(code, 0, "{said}");
    let file: Value = serde_json::from_str(&image.read(&format!("{HOOKS_D}/10-netlatch-poststart.json"))).unwrap();
    assert_eq!(file["hook"]["path"], "/usr/local/libexec/oci/hooks.d/netlatch");
    names_its_schema();
    let (code, said) = script(&image, &["--prefix=/usr/local", "--uninstall"]);
    assert_eq!((code, image.files().len()), (0, 0), "{said}");
    assert_eq!(script(&image, &["--unknown"]).0, 2);
}

#[test]
fn the_shipped_configuration_is_good_as_it_is_and_with_every_line_taken_in() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/config.yaml");
    let text = fs::read_to_string(&path).unwrap();
    let taken_in: String = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(option) if option.starts_with(|first: char| first.is_ascii_lowercase()) => format!("{option}\n"),
            Some(_) | None => format!("{line}\n"),
        })
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("config.yaml");
    fs::write(&whole, &taken_in).unwrap();
    for file in [&path, &whole] {
        let output = netlatch("check --strict").arg(file).output().unwrap();
        assert_eq!(printed("check", &output, 0), "");
    }
    let keys = guide("configuration")
        .unwrap()
        .text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once(" | ").map(|(keys, _)| keys));
    let keys: Vec<&str> = keys.flat_map(|keys| keys.split(", ")).map(|key| key.trim_matches('`')).collect();
    assert!(keys.len() > 10, "{keys:?}");
    for key in keys {
        assert!(taken_in.lines().any(|line| line.starts_with(&format!("{key}:"))), "{key}");
    }
}
