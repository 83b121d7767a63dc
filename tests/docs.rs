//! README and the guides: every example does what it shows, every link leads somewhere, and the program prints all of it.
//!
//! Commands for a machine of their own, those of README and of the recipes, are run by runtimes_recipes.rs.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use netlatch::docs::{GUIDES, guide};
use netlatch::oci::{Bundle, Requests};
use regex::Regex;
use support::container::binary;
use support::examples::{Example, Mark, documents, examples, is_for_a_machine};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn netlatch(args: &[&str]) -> Output {
    Command::new(binary()).args(args).env_clear().stdin(Stdio::null()).output().expect("the program starts")
}

fn printed(args: &[&str]) -> String {
    let output = netlatch(args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn refused(args: &[&str]) -> String {
    let output = netlatch(args);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(10), 0), "{args:?}");
    String::from_utf8(output.stderr).expect("UTF-8")
}

// --- Examples -------------------------------------------------------------------------------------------------------

/// Those that nobody runs, with the reason that stands beside them in the document.
const NOT_RUN: [(&str, &str, &str); 29] = [
    ("README", "./scripts/demo.sh", "it builds for minutes, and is run by hand"),
    ("README", "./scripts/test.sh", "it is what runs the examples"),
    ("README", "cargo build --release", "it takes minutes, and the tests have a build"),
    (
        "README",
        "podman run --annotation io.netlatch.egress='10.2.0.0/16:5432 @internet:443' \\",
        "a first look; further down is one to run",
    ),
    (
        "commands",
        "netlatch createRuntime | prestart | poststart | poststop      a stage; the container's state on stdin",
        "the commands in one place",
    ),
    ("commands", "netlatch inspect", "needs running containers; recipe-podman has one to run"),
    ("commands", "netlatch verify --all", "needs running containers"),
    (
        "engines",
        "sudo ctr run --rm --config config.json mycontainer",
        "needs a running containerd; runtimes_containerd.rs does the same",
    ),
    ("engines", "sudo netlatch install", "recipe-podman has it, to be run"),
    ("engines", "sudo netlatch uninstall", "README has it, to be run"),
    (
        "exit-codes",
        "netlatch: cannot follow the container's annotations: annotation io.netlatch.egress: entry \"10.0.0.7/8\": …; mend the annotation; …",
        "the form of a line",
    ),
    ("lists", "[!] [protocol/] peer [:ports]", "the form of an entry"),
    ("logs", "journalctl -t netlatch -f", "there is no journal where the tests run"),
    ("packets", "sudo nsenter --net=/proc/<pid>/ns/net nft list ruleset", "needs a running container"),
    (
        "policies",
        "podman run --annotation io.netlatch.namespace=shop --annotation io.netlatch.labels=app=web \\",
        "recipe-policies has one to run",
    ),
    (
        "recipe-containerd",
        "kubectl apply -f web.yaml",
        "there is no cluster where the tests run; they ask containerd for this pod as a kubelet does",
    ),
    ("recipe-containerd", "sudo systemctl restart containerd", "there is no systemd where the tests run"),
    (
        "recipe-containerd",
        "sudo systemctl restart containerd",
        "there is no systemd where the tests run; they start containerd by themselves",
    ),
    ("recipe-cri-o", "kubectl apply -f web.yaml", "there is no cluster where the tests run"),
    ("recipe-cri-o", "sudo systemctl restart crio", "there is neither CRI-O nor systemd where the tests run"),
    ("recipe-cri-o", "sudo systemctl restart crio", "there is neither CRI-O nor systemd where the tests run"),
    ("recipe-cri-o", "sudo systemctl restart crio", "there is neither CRI-O nor systemd where the tests run"),
    (
        "timings",
        "netlatch createRuntime --timings --config … --run-dir … < state.json",
        "it takes a container that is being created",
    ),
    (
        "understanding",
        "3 s  denied: egress to 10.2.0.9, TCP port 5433: annotation: denied, no entry of the list allows it (annotation io.netlatch.egress)",
        "it takes a container that runs",
    ),
    ("understanding", "netlatch inspect web", "it takes a container that runs"),
    ("understanding", "netlatch inspect web --watch", "it takes a container that runs"),
    ("understanding", "netlatch learn web", "it takes a container that runs"),
    (
        "understanding",
        "podman run --annotation io.netlatch.egress='tcp/10.2.0.4/31:443 10.2.0.9:53 tcp/10.2.0.9:5432' ...",
        "what it runs is left open",
    ),
    (
        "understanding",
        "podman run --annotation io.netlatch.egress=none --annotation io.netlatch.mode=audit ...",
        "what it runs is left open",
    ),
];

#[test]
fn every_example_is_run_or_says_why_not() {
    let mut not_run = Vec::new();
    for (name, text) in documents() {
        let place = tempfile::tempdir().expect("a directory");
        for example in examples(&name, &text) {
            match (&example.mark, example.language.as_str()) {
                (Some(Mark::NotRun(why)), _) => {
                    let first = example.text.lines().next().unwrap_or_default().trim();
                    not_run.push((name.clone(), first.to_owned(), why.clone()));
                }
                (Some(Mark::File(_)), _) if is_for_a_machine(&name) => {}
                (None | Some(Mark::Fails), "sh") if is_for_a_machine(&name) => {}
                (Some(Mark::File(file)), _) => {
                    let file = place.path().join(file);
                    fs::create_dir_all(file.parent().expect("a folder")).expect("a directory");
                    fs::write(file, &example.text).expect("a file");
                }
                (None | Some(Mark::Fails), "sh") => example.judge(&run(place.path(), &example.text)),
                (None, "yaml") => is_good_yaml(&example),
                (None, "json") => is_good_json(&example),
                (None, "toml") => {
                    toml::from_str::<toml::Table>(&example.text)
                        .unwrap_or_else(|error| panic!("{}: {error}", example.place));
                }
                (mark, language) => panic!("{}: {language} {mark:?} is neither run nor marked", example.place),
            }
        }
    }
    let listed = NOT_RUN.map(|(name, first, why)| (name.to_owned(), first.to_owned(), why.to_owned()));
    not_run.sort();
    assert_eq!(not_run, listed);
}

/// An indented block has no language: it would be run by nobody, and rustdoc takes it for Rust.
#[test]
fn every_block_of_code_is_fenced_and_says_what_it_is() {
    for (name, text) in documents() {
        for (part, outside) in text.split("\n```").step_by(2).enumerate() {
            let mut lines = outside.lines().skip(usize::from(part > 0)).peekable();
            while let Some(line) = lines.next() {
                let begins = |next: &&str| line.is_empty() && next.starts_with("    ");
                assert!(!lines.peek().is_some_and(begins), "{name}: {:?}", lines.peek());
            }
        }
        assert!(examples(&name, &text).iter().all(|example| !example.language.is_empty()), "{name}");
    }
}

/// Commands in a folder, with the program in the path and nobody's privileges needed.
fn run(folder: &Path, commands: &str) -> Output {
    let programs = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", binary().parent().expect("a folder").display());
    let mut command = Command::new("sh");
    command.args(["-e", "-c", &format!("exec 2>&1\n{commands}")]).current_dir(folder);
    // Wide enough that no line is broken: guides are read at any width.
    command.env_clear().env("PATH", programs).env("COLUMNS", "1000").stdin(Stdio::null()).output().expect("sh")
}

/// A configuration or manifests. What a pod says in annotations is what a container would.
fn is_good_yaml(example: &Example) {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("example.yaml");
    fs::write(&file, &example.text).expect("a file");
    let said = netlatch(&["check", "--strict", file.to_str().expect("UTF-8")]);
    assert_eq!(said.status.code(), Some(0), "{}: {}", example.place, String::from_utf8_lossy(&said.stdout));
    let annotation = Regex::new(r#"(?m)^ +(io\.netlatch[^:]*): *['"]?([^'"\n]*)['"]?$"#).expect("an expression");
    for found in annotation.captures_iter(&example.text) {
        are_good_annotations(&example.place, [(found[1].to_owned(), found[2].to_owned())].into());
    }
}

fn are_good_annotations(place: &str, annotations: BTreeMap<String, String>) {
    let requests = Requests::parse(&annotations).unwrap_or_else(|failure| panic!("{place}: {failure}"));
    assert!(!requests.given.is_empty(), "{place}: {annotations:?}");
}

/// A bundle's config.json, or a part of it.
fn is_good_json(example: &Example) {
    let value: serde_json::Value = serde_json::from_str(&example.text).expect("JSON");
    assert!(value.get("hooks").is_some() || value.get("annotations").is_some(), "{}: no bundle", example.place);
    Bundle::parse("config.json", example.text.as_bytes())
        .unwrap_or_else(|failure| panic!("{}: {failure}", example.place));
    if let Some(annotations) = value.get("annotations") {
        are_good_annotations(&example.place, serde_json::from_value(annotations.clone()).expect("strings"));
    }
}

#[test]
fn every_annotation_in_a_command_is_one() {
    let option = Regex::new(r#"--annotation[ =]"?(io\.netlatch[^=]*)=('[^']*'|[^ '"\n]*)"#).expect("an expression");
    let mut found = 0;
    for (name, mut text) in documents() {
        for fails in examples(&name, &text).iter().filter(|example| matches!(example.mark, Some(Mark::Fails))) {
            text = text.replace(&fails.text, "");
        }
        for annotation in option.captures_iter(&text) {
            let value = annotation[2].trim_matches('\'').to_owned();
            are_good_annotations(&name, [(annotation[1].to_owned(), value)].into());
            found += 1;
        }
    }
    assert!(found >= 5, "{found}");
}

#[test]
fn every_list_of_the_guide_is_one_and_what_it_calls_refused_is() {
    let text = guide("lists").expect("a guide").text;
    let (_, rows) = text.split_once("| list | meaning |\n|---|---|\n").expect("a table of examples");
    let (rows, rest) = rows.split_once("\n\n").expect("an end");
    let list = |list: &str| Requests::parse(&[("io.netlatch.egress".to_owned(), list.to_owned())].into());
    for row in rows.lines() {
        let (_, row) = row.split_once('`').expect("code");
        let (example, _) = row.split_once('`').expect("code");
        list(example).unwrap_or_else(|failure| panic!("{failure}"));
    }
    assert!(rows.lines().count() >= 10);
    let (_, rest) = rest.split_once("Refused, each with a message:").expect("what is refused");
    for refused in ["10.0.0.1/8", "api.example.com:443"] {
        assert!(rest.contains(&format!("`{refused}`")) && list(refused).is_err(), "{refused}");
    }
    for refused in ["2001:db8::1:443x", "10.0.0.0/8:0", "", "!10.0.0.0/8", "none, 10.0.0.0/8"] {
        assert!(list(refused).is_err(), "{refused}");
    }
}

// --- Links ----------------------------------------------------------------------------------------------------------

/// The name by which a heading is linked to, as code-hosting pages and rustdoc make it.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>();
    kept.replace(' ', "-")
}

fn anchors(text: &str) -> BTreeSet<String> {
    without_code(text)
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| anchor(line.trim_start_matches('#').trim()))
        .collect()
}

/// The text between its blocks of code, with words of code left out.
fn without_code(text: &str) -> String {
    let outside: String = text.split("\n```").step_by(2).collect::<Vec<_>>().join("\n");
    Regex::new("`[^`\n]*`").expect("an expression").replace_all(&outside, "`x`").into_owned()
}

#[test]
fn no_link_leads_nowhere() {
    let inline = Regex::new(r"\]\(([^)\s]+)\)").expect("an expression");
    let defined = Regex::new(r"(?m)^\[([a-z-]+)\]: (\S+)$").expect("an expression");
    let named = Regex::new(r"\]\[([a-z-]+)\]").expect("an expression");
    let mut followed = 0;
    let follow = |from: &str, base: &Path, target: &str| {
        let (file, heading) = target.split_once('#').map_or((target, None), |(file, heading)| (file, Some(heading)));
        let path = if file.is_empty() { base.to_owned() } else { base.parent().expect("a folder").join(file) };
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{from}: {target}: {error}"));
        if let Some(heading) = heading {
            assert!(anchors(&text).contains(heading), "{from}: {target}: no such heading");
        }
    };
    let files = GUIDES.iter().map(|guide| root().join(format!("src/docs/{}.md", guide.name)));
    for file in std::iter::once(root().join("README.md")).chain(files) {
        let from = file.file_name().expect("a name").to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).expect("a guide");
        let prose = without_code(&text);
        for link in inline.captures_iter(&prose).filter(|link| !link[1].starts_with("http")) {
            // In a guide such a link would not work on rustdoc's pages.
            assert!(from == "README.md" || link[1].starts_with('#'), "{from}: {}: give it a name", &link[1]);
            follow(&from, &file, &link[1]);
            followed += 1;
        }
        let mut names = BTreeSet::new();
        for link in defined.captures_iter(&text) {
            follow(&from, &file, &link[2]);
            assert!(names.insert(link[1].to_owned()), "{from}: {} twice", &link[1]);
            let uses = [format!("][{}]", &link[1]), format!("[{}]", &link[1])];
            assert!(
                uses.iter().any(|used| prose.matches(used.as_str()).count() > usize::from(used.starts_with('['))),
                "{from}: nobody uses {}",
                &link[1]
            );
            followed += 1;
        }
        for link in named.captures_iter(&prose) {
            assert!(names.contains(&link[1]), "{from}: {} is defined nowhere", &link[1]);
        }
    }
    assert!(followed > 20, "{followed}");
}

/// What a file's names of links lead to is what rustdoc's names lead to.
#[test]
fn links_lead_to_the_same_guides_in_rustdoc() {
    let module = fs::read_to_string(root().join("src/docs/mod.rs")).expect("a file");
    let line = Regex::new(r"(?m)^\s*\W*\[([a-z-]+)\]: crate::docs::([a-z_]+)(#[a-z-]+)?").expect("an expression");
    let known: BTreeMap<String, String> = line
        .captures_iter(&module)
        .map(|c| (c[1].to_owned(), format!("{}.md{}", c[2].replace('_', "-"), c.get(3).map_or("", |m| m.as_str()))))
        .collect();
    let defined = Regex::new(r"(?m)^\[([a-z-]+)\]: (\S+)$").expect("an expression");
    for guide in GUIDES {
        assert!(known.contains_key(guide.name), "{}: no name for rustdoc", guide.name);
        for link in defined.captures_iter(guide.text) {
            assert_eq!(known.get(&link[1]).map(String::as_str), Some(&link[2]), "{}", guide.name);
        }
    }
}

#[test]
fn readme_is_short_and_leads_to_every_guide() {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    assert!(readme.lines().count() < 200, "{}", readme.lines().count());
    for guide in GUIDES {
        assert!(readme.contains(&format!("| [{0}](src/docs/{0}.md) |", guide.name)), "{}", guide.name);
    }
    for heading in ["Install", "Security", "Uninstall"] {
        assert!(readme.contains(&format!("\n## {heading}\n")), "{heading}");
    }
    let files = fs::read_dir(root().join("src/docs")).expect("a folder").map(|entry| entry.expect("an entry").path());
    let guides = files.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    assert_eq!(guides.count(), GUIDES.len(), "a guide that nobody is shown");
}

// --- What the program prints ----------------------------------------------------------------------------------------

#[test]
fn help_prints_each_guide_and_what_each_command_is_about() {
    let all = printed(&["help"]);
    assert_eq!(all, printed(&["--help"]));
    for guide in GUIDES {
        assert!(all.contains(&format!("\n  {} ", guide.name)), "{}: {all}", guide.name);
        let text = printed(&["help", guide.name]);
        let (title, _) = guide.text.trim_start_matches("# ").split_once('\n').expect("a title");
        assert!(text.starts_with(&format!("{title}\n=")) && !text.contains(['\u{1b}', '\u{0}']), "{text}");
        assert_eq!(printed(&["help", guide.name, "--markdown"]), guide.text);
        // A command of that name could not be asked about.
        assert_eq!(netlatch(&[guide.name, "--help"]).status.code(), Some(10), "{}", guide.name);
    }
    assert_eq!(printed(&["help", "check"]), printed(&["check", "--help"]));
    assert_eq!(printed(&["help", "install", "cdi"]), printed(&["install", "cdi", "--help"]));
    assert_eq!(printed(&["help", "createRuntime"]), printed(&["createRuntime", "--help"]));
}

#[test]
fn what_help_does_not_know_is_named_with_what_is_near() {
    for (words, near) in [
        (&["exit"][..], "no guide and no command exit; did you mean exit-codes?"),
        (&["lsits"], "did you mean lists?"),
        (&["chek"], "did you mean check?"),
        (&["install", "cdo"], "no command cdo; did you mean cdi?"),
        (&["frobnicate"], "no command frobnicate; see `netlatch --help`"),
        (&["\u{1b}[2J"], "\\u{1b}[2J"),
    ] {
        let line = refused(&[&["help"], words].concat());
        assert!(line.contains(near) && line.lines().count() == 1, "{line}");
    }
}

#[test]
fn man_prints_lists_and_writes_a_page_for_each_command_and_guide() {
    let list = printed(&["man", "--list"]);
    let files: Vec<&str> = list.lines().collect();
    let dir = tempfile::tempdir().expect("a directory");
    printed(&["man", "--dir", dir.path().join("new").to_str().expect("UTF-8")]);
    for file in &files {
        let text = fs::read_to_string(dir.path().join("new").join(file)).expect("a page");
        assert_eq!(printed(&["man", file]), text);
        // Nothing but requests that man-db and mandoc both know, and no text that they could take for one.
        for line in text.lines().filter(|line| line.starts_with(['.', '\''])) {
            let request = line.trim_start_matches(['.', '\'']).split([' ', '\t']).next().unwrap_or_default();
            let known =
                ["TH", "SH", "SS", "PP", "TP", "IP", "RS", "RE", "PD", "nf", "fi", "br", "nh", "ad", "ie", "el", "ds"];
            assert!(known.contains(&request), "{file}: {line}");
        }
        assert!(text.is_ascii() && text.contains(".SH NAME\n") && text.contains(".SH \"SEE ALSO\"\n"), "{file}");
    }
    let page = |file: &str| assert!(files.contains(&file), "{file}: {files:?}");
    for file in ["man1/netlatch.1", "man1/netlatch-check.1", "man1/netlatch-install-cdi.1", "man5/netlatch.yaml.5"] {
        page(file);
    }
    for guide in GUIDES.iter().filter(|guide| guide.name != "configuration") {
        page(&format!("man7/netlatch-{}.7", guide.name));
    }
    let main = printed(&["man"]);
    for name in ["netlatch", "netlatch.1"] {
        assert_eq!(printed(&["man", name]), main);
    }
    assert_eq!(printed(&["man", "check"]), printed(&["man", "netlatch-check"]));
    assert_eq!(printed(&["man", "configuration"]), printed(&["man", "netlatch.yaml"]));
    assert!(refused(&["man", "polices"]).contains("there is no page polices; did you mean policies?"));
}
