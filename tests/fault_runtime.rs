//! Real containers whose hook is killed: either the hook was done, or the container never runs.
//!
//! Ignored unless asked for, because it needs a runtime: scripts/test.sh runs it where there is one.

mod support;

use std::net::IpAddr;

use serde_json::Value;
use support::World;
use support::bundle::{Bundle, Runtime};
use support::container::binary;
use support::dice::Dice;
use support::fault::rules;

const FORBIDDEN: [&str; 2] = ["10.9.9.9", "2001:db8::9"];

fn bundle(world: &World) -> Bundle {
    let mut bundle = Bundle::new(&["tcp:10.9.1.1:443", "tcp:10.9.1.1:80"]);
    bundle.join(&world.ctr.path());
    bundle.annotate("egress", "10.9.1.1:443");
    bundle.annotate("ingress", "none");
    bundle
}

fn forbidden_heard(world: &World) -> usize {
    world.settle();
    FORBIDDEN.iter().map(|to| world.heard(to.parse::<IpAddr>().unwrap(), None)).sum()
}

fn is_protected(case: &str, world: &World, stdout: &[u8]) {
    let report: Value = serde_json::from_slice(stdout).unwrap_or_else(|e| panic!("{case}: {e}"));
    let outcome = |probe: &str| {
        let probes = report["probes"].as_array().unwrap();
        probes.iter().find(|entry| entry["probe"] == probe).unwrap()["outcome"].as_str().unwrap().to_owned()
    };
    assert_eq!(outcome("tcp:10.9.1.1:443"), "connected", "{case}: {report}");
    assert_eq!(outcome("tcp:10.9.1.1:80"), "refused", "{case}: {report}");
    assert_eq!(forbidden_heard(world), 0, "{case}: {report}");
}

/// The stage, ended with SIGKILL after this many microseconds unless it is done by then.
fn killer(bundle: &Bundle, stage: &str, after: usize) -> String {
    let (hook, dir) = (binary(), bundle.path());
    format!(
        "#!/bin/sh\nexec 3<&0\n{} {stage} --config {}/netlatch.yaml --run-dir {} <&3 3<&- &\n\
         hook=$!\n/bin/sleep {:.6}\nkill -9 $hook\nwait $hook\n",
        hook.display(),
        dir.display(),
        bundle.run_dir().display(),
        after as f64 / 1e6
    )
}

/// Starts whose hook is killed at moments that chance picks.
const KILLS: usize = 50;
/// Microseconds in which a start under a runtime is done in most runs.
const A_START: usize = 12_000;

#[test]
#[ignore = "needs runc"]
fn runc_never_runs_a_container_whose_hook_was_killed() {
    let mut dice = Dice::new("when the hook of a real container is killed");
    let mut killed = 0;
    for round in 0..KILLS {
        let (world, id) = (World::new(), format!("netlatch-killed-{}-{round}", std::process::id()));
        let mut victim = bundle(&world);
        let script = killer(&victim, "createRuntime", dice.below(A_START));
        victim.add_script("createRuntime", &script);
        let poststop = victim.entry("poststop");
        victim.add_hook("poststop", poststop);
        let output = victim.runtime(Runtime::Runc, "run", &id);
        let case = format!("round {round}: {}", String::from_utf8_lossy(&output.stderr));
        if output.status.success() {
            is_protected(&case, &world, &output.stdout);
        } else {
            killed += 1;
            assert!(output.stdout.is_empty(), "{case}: the container ran");
            assert_eq!(forbidden_heard(&world), 0, "{case}");
            assert!(!victim.remembers(&id), "{case}: poststop forgets");
        }
        if round % 5 == 0 {
            // Started again in the same namespace, it has what it asked for.
            victim.config["hooks"] = serde_json::json!({});
            victim.protect();
            let again = victim.runtime(Runtime::Runc, "run", &id);
            let case = format!("{case}, again: {}", String::from_utf8_lossy(&again.stderr));
            assert!(again.status.success(), "{case}");
            is_protected(&case, &world, &again.stdout);
            assert!(!rules(&world.ctr).is_empty(), "{case}");
        }
    }
    println!("{killed} of {KILLS} hooks were killed before they were done");
    assert!(killed > 0, "nothing was killed in time: this shows nothing");
}

#[test]
#[ignore = "needs runc"]
fn runc_ends_a_container_whose_poststart_was_killed() {
    for round in 0..5 {
        let (world, id) = (World::new(), format!("netlatch-late-{}-{round}", std::process::id()));
        let mut victim = bundle(&world);
        let entry = victim.entry("createRuntime");
        victim.add_hook("createRuntime", entry);
        let script = killer(&victim, "poststart", 0);
        victim.add_script("poststart", &script);
        let output = victim.runtime(Runtime::Runc, "run", &id);
        // runc up to 1.5 runs poststart before the process begins, or beside it: whatever it sent met the rules.
        assert_eq!(forbidden_heard(&world), 0, "round {round}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(!rules(&world.ctr).is_empty(), "round {round}");
    }
}
