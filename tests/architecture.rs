//! Who may know whom: reads every `crate::` path of src/ and names the rule that a line broke. src/lib.rs explains the
//! rules.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module with the modules it may name, least first. One that is not here does not belong to the house.
const MAY_KNOW: [(&str, &[&str]); 21] = [
    // What is written for people, and knows nothing.
    ("docs", &[]),
    ("schema", &[]),
    // The shared nouns.
    ("printable", &[]),
    ("net", &["printable"]),
    ("error", &["net", "printable"]),
    ("logging", &["printable"]),
    ("netlink", &[]),
    // Text and what it says. `policy` does not know nftables.
    ("document", &["error", "net"]),
    ("policy", &["document", "error", "net", "printable"]),
    ("sysctl", &["error", "net"]),
    ("oci", &["document", "error", "net", "policy", "sysctl"]),
    ("settings", &["document", "error", "net", "oci", "policy", "sysctl"]),
    // Rules. `nft` knows neither where they were written nor what a policy is; the two meet in `plan`.
    ("nft", &["error", "net", "netlink"]),
    ("plan", &["error", "net", "nft", "oci", "policy", "printable", "settings", "sysctl"]),
    // One packet, put to the specification and to a table.
    ("explain", &["error", "net", "nft", "oci", "plan", "policy", "settings", "sysctl"]),
    // What the kernel tracks, in the same netlink form, and what a table would say of it.
    ("conntrack", &["net", "netlink", "nft"]),
    // What touches the machine. It carries out plans and reads no settings.
    ("kernel", &["conntrack", "error", "net", "netlink", "nft", "plan", "sysctl"]),
    ("registry", &["error", "kernel", "net", "policy"]),
    // What follows for others when somebody comes or goes: two pictures of the host, and no machine.
    ("live", &["error", "kernel", "net", "nft", "policy", "registry"]),
    (
        "cli",
        &[
            "docs",
            "document",
            "error",
            "explain",
            "kernel",
            "live",
            "logging",
            "net",
            "nft",
            "oci",
            "plan",
            "policy",
            "printable",
            "registry",
            "schema",
            "settings",
            "sysctl",
        ],
    ),
    ("main", &["cli"]),
];

/// What only these modules may do; all others are functions of their input.
const TOUCH_THE_MACHINE: [&str; 5] = ["kernel", "registry", "logging", "cli", "main"];

/// Paths that reach the machine: files, clock, environment, processes, sockets. The harmless
/// ones are names of errors.
const MACHINE: [&str; 15] = [
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::time",
    "std::os",
    "std::io",
    "std::net::Tcp",
    "std::net::Udp",
    "std::net::ToSocketAddrs",
    "nix::",
    "rustix::",
    "netlink_sys",
    "caps::",
    "log::",
];
const HARMLESS: [&str; 2] = ["nix::errno::Errno", "std::io::Error"];

/// One line of a module's own code: comments, strings and tests are taken away.
struct Line {
    module: String,
    place: String,
    code: String,
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
}

/// The first folder or file below src/ that a path goes through.
fn module_of(below_src: &Path) -> String {
    let first = below_src.iter().next().expect("a part").to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// The module's own code, line by line. Tests may look wherever they like, and stand at the end of a file.
fn own_code(text: &str) -> impl Iterator<Item = (usize, String)> {
    let tests =
        ["#[cfg(test)]\nmod tests {", "#[cfg(test)]\nmod tests;"].iter().filter_map(|mark| text.find(mark)).min();
    let code = &text[..tests.unwrap_or(text.len())];
    code.lines().enumerate().filter_map(|(index, line)| {
        let line = line.trim_start();
        let comment = line.starts_with("//");
        // A path never stands in a string here; a URL in one must not look like a comment, so strings go first.
        let bare: String = line.split('"').step_by(2).collect();
        let bare = bare.split("//").next().unwrap_or_default().to_owned();
        (!comment && !bare.trim().is_empty()).then_some((index + 1, bare))
    })
}

fn lines() -> Vec<Line> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&src, &mut paths);
    paths.sort();
    let mut lines = Vec::new();
    for path in paths {
        let below = path.strip_prefix(&src).expect("below src");
        let module = module_of(below);
        // Tests in a file of their own (`mod tests;`) and the crate's documentation.
        if below.ends_with("tests.rs") || module == "lib" {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a source file");
        lines.extend(own_code(&text).map(|(number, code)| Line {
            module: module.clone(),
            place: format!("src/{}:{number}", below.display()),
            code,
        }));
    }
    lines
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The modules of ours that a line of code names: `crate::MODULE`, or `netlatch::MODULE` in main.
fn known_by(code: &str) -> Vec<String> {
    let mut known = Vec::new();
    for root in ["crate::", "netlatch::"] {
        for (at, _) in code.match_indices(root) {
            if code[..at].ends_with(is_word) {
                continue;
            }
            let rest = &code[at + root.len()..];
            let name = |text: &str| text.chars().take_while(|c| is_word(*c)).collect::<String>();
            match rest.strip_prefix('{') {
                Some(group) => {
                    known.extend(group.split(',').map(|part| name(part.trim_start())).filter(|n| !n.is_empty()))
                }
                None => known.push(name(rest)),
            }
        }
    }
    known
}

/// Why a line may not be as it is.
fn broken(line: &Line) -> Vec<String> {
    let allowed: BTreeMap<&str, &[&str]> = MAY_KNOW.into_iter().collect();
    let Some(may_know) = allowed.get(line.module.as_str()) else {
        return vec![format!("{}: {} is no module of tests/architecture.rs", line.place, line.module)];
    };
    let mut broken = Vec::new();
    for known in known_by(&line.code) {
        if known != line.module && !may_know.contains(&known.as_str()) {
            let only = if may_know.is_empty() { "nobody".to_owned() } else { may_know.join(", ") };
            broken.push(format!("{}: {} knows {known}, and may know {only} only", line.place, line.module));
        }
    }
    if !TOUCH_THE_MACHINE.contains(&line.module.as_str()) {
        let code = HARMLESS.iter().fold(line.code.clone(), |code, harmless| code.replace(harmless, ""));
        for path in MACHINE {
            let named = code.match_indices(path).any(|(at, _)| !code[..at].ends_with(is_word));
            if named {
                broken
                    .push(format!("{}: {} is a function of its input, and this names {path}", line.place, line.module));
            }
        }
    }
    broken
}

#[test]
fn every_line_keeps_to_who_may_know_whom() {
    let broken: Vec<String> = lines().iter().flat_map(broken).collect();
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn the_rules_have_no_circle_and_name_every_module() {
    // A module may only name those above it in the table, so arrows never point back.
    for (index, (module, may_know)) in MAY_KNOW.iter().enumerate() {
        for known in *may_know {
            assert!(MAY_KNOW[..index].iter().any(|(above, _)| above == known), "{module} -> {known}");
        }
    }
    let mut there: Vec<String> = lines().into_iter().map(|line| line.module).collect();
    there.dedup();
    for (module, _) in MAY_KNOW {
        assert!(there.iter().any(|found| found == module), "{module} is gone from src/");
    }
}

#[test]
fn nothing_takes_the_long_way_round_the_rules() {
    // `super::super::` out of a module, or a glob of the whole crate, would hide from the reader above.
    for line in lines() {
        assert!(!line.code.contains("super::super"), "{}: name it from crate::", line.place);
        assert!(
            !line.code.contains("crate::*") && !line.code.trim_end().ends_with("crate::{"),
            "{}: name it",
            line.place
        );
        // src/net.rs is its module's root, so is src/nft/mod.rs: there `super` is the crate.
        let file = line.place.split(':').next().unwrap_or_default();
        let root = file == format!("src/{}.rs", line.module) || file == format!("src/{}/mod.rs", line.module);
        assert!(!(root && line.code.contains("super::")), "{}: name it from crate::", line.place);
    }
}

#[test]
fn unsafe_code_stands_in_main_alone() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).expect("src/lib.rs");
    assert!(lib.contains("#![forbid(unsafe_code)]"));
    for line in lines().iter().filter(|line| line.module != "main") {
        assert!(!line.code.split(|c| !is_word(c)).any(|word| word == "unsafe"), "{}", line.place);
    }
}

#[test]
fn no_other_program_is_called() {
    // nft, ip and sysctl are judges in tests; the hook has no PATH to find them by. `doctor`, which no runtime calls, asks
    // runtimes and engines what they are.
    for line in lines().iter().filter(|line| !line.place.starts_with("src/cli/doctor/program.rs:")) {
        for call in ["process::Command", "Command::new", "execv", "posix_spawn"] {
            assert!(!line.code.contains(call), "{}: {call}", line.place);
        }
    }
}

#[test]
fn the_reader_sees_what_it_is_there_to_see() {
    let line = |module: &str, code: &str| Line { module: module.into(), place: "src/x.rs:1".into(), code: code.into() };
    let why = |module: &str, code: &str| broken(&line(module, code)).join("; ");
    assert_eq!(why("nft", "use crate::net::Cidr;"), "");
    assert_eq!(
        why("nft", "use crate::policy::list::List;"),
        "src/x.rs:1: nft knows policy, and may know error, net, netlink only"
    );
    assert_eq!(
        why("net", "fn f(x: &crate::error::Failure) {}"),
        "src/x.rs:1: net knows error, and may know printable only"
    );
    assert!(why("policy", "use crate::{net, nft::build};").contains("policy knows nft"));
    assert!(why("plan", "use std::fs;").contains("names std::fs"));
    assert!(why("settings", "let now = std::time::Instant::now();").contains("names std::time"));
    assert!(why("oci", "nix::unistd::getpid()").contains("names nix::"));
    assert_eq!(why("nft", "use nix::errno::Errno;"), "");
    assert_eq!(why("kernel", "use std::fs;"), "");
    assert!(why("utils", "fn f() {}").contains("is no module"));
    let code: Vec<(usize, String)> =
        own_code("//! use crate::a;\nuse crate::b; // crate::c\nlet s = \"crate::d\";\n#[cfg(test)]\nmod tests {\nuse crate::e;\n")
            .collect();
    assert_eq!(code, [(2, "use crate::b; ".to_owned()), (3, "let s = ;".to_owned())]);
}
