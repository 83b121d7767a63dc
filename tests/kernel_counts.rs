//! Which system calls the stages of a typical container make, against tests/counts/system_calls.txt. tests/counts.rs does
//! the same for instructions.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use support::container::{Container, Dialect, binary};
use support::counted::Counted;
use support::engine::Engine;
use support::namespace::{Namespace, run_with_input};

/// What a build without optimization asks more or less of than what is installed: memory, and whether a descriptor that is
/// closed was open.
const OF_THE_BUILD: [&str; 7] = ["brk", "fcntl", "madvise", "mmap", "mprotect", "mremap", "munmap"];

/// Ten entries of every sort there is.
const EGRESS: &str = "10.0.0.0/8:5432, 192.0.2.7:443, tcp/203.0.113.0/24:8000-8999, udp/1.1.1.1:53, tcp/1.1.1.1:53, \
                      [2001:db8::/32]:8443, 198.51.100.0/24, icmp/192.0.2.0/24, *:123, @internet:443";

/// Adds the calls of a stage to `counts`, from main's first on.
fn count(engine: &Engine, stage: &str, state: &str, counts: &mut BTreeMap<String, u64>) {
    let trace = engine.path().join("trace");
    // Without /dev/log there is one way to log.
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "mount -t tmpfs none /dev && exec \"$@\"", "sh"]);
    command.args(["strace", "-qq", "-f", "-o"]).arg(&trace).arg(binary()).arg(stage);
    command.arg("--config").arg(engine.config()).arg("--run-dir").arg(engine.run_dir()).env_clear();
    command.env("PATH", std::env::var_os("PATH").expect("a PATH"));
    let output = run_with_input(&mut command, state.as_bytes());
    assert!(output.status.success(), "{stage}: {}", String::from_utf8_lossy(&output.stderr));
    let trace = fs::read_to_string(trace).expect("a trace");
    // A line is `PID NAME(ARGUMENTS`.
    let calls = trace.lines().filter_map(|line| {
        let (name, arguments) = line.split_once('(')?;
        // One C library has the older names of what the other calls by the newer ones.
        let name = match name.split_whitespace().last()? {
            "open" => "openat",
            "stat" => "newfstatat",
            name => name,
        };
        Some((name, arguments))
    });
    for (name, arguments) in calls.skip_while(|(name, _)| *name != "close_range") {
        // How deep the folders of tests lie is no matter of ours: each above a file is looked at.
        let path = arguments.split('"').nth(1).filter(|path| path.starts_with('/')).unwrap_or("-");
        if !OF_THE_BUILD.contains(&name) && !std::env::temp_dir().starts_with(path) {
            *counts.entry(format!("{stage} {name}")).or_default() += 1;
        }
    }
}

#[test]
fn no_stage_of_a_typical_container_makes_more_system_calls_than_it_did() {
    let (engine, namespace) = (Engine::new(), Namespace::new());
    let mut container = Container::of(&namespace).with("egress", EGRESS).with("ingress", "none");
    container.id = "typical".to_owned();
    let mut counts = BTreeMap::new();
    for stage in ["createRuntime", "poststart"] {
        count(&engine, stage, &container.state(Dialect::Runc).to_string(), &mut counts);
    }
    count(&engine, "poststop", &container.ended(Dialect::Runc).to_string(), &mut counts);
    let head = "System calls of each stage, of a container with a list of ten entries and no policies, but for those about \
                memory and folders above the files.\nUPDATE=1 cargo test --test kernel_counts writes them anew.";
    Counted { file: "system_calls.txt", tolerance: 0.0 }.compare(head, &counts);
}
