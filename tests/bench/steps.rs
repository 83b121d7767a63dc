//! Which parts of the program a hook's stages run: for scripts/hot.sh, which lays them side by side.
//!
//! `steps NETLATCH` steps through the stages of a container without policies, and of one among peers under policies, one
//! instruction at a time, and prints the address of every sixteen bytes of the program that were run. A step takes long and a
//! stage ends by its deadline, so each stage is run several times over, stepped through from a later call on each time.

#[path = "../support/namespace.rs"]
#[allow(dead_code)]
mod namespace;
#[allow(dead_code)]
mod rig;

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sched::{CloneFlags, unshare};
use nix::sys::ptrace;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use rig::{End, Rig};

/// System calls between the places where stepping begins.
const STRIDE: usize = 20;
/// A program that is linked at a fixed address lies below this one; nothing else does.
const PROGRAM: u64 = 0x0100_0000;

fn main() {
    let netlatch = std::env::args().nth(1).expect("usage: steps NETLATCH, see scripts/hot.sh");
    unshare(CloneFlags::CLONE_NEWNET).expect("root, or a user namespace");
    let mut run = BTreeSet::new();
    let (alone, among) = (Rig::new(Path::new(&netlatch)), Rig::new(Path::new(&netlatch)));
    let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\nspec:\n  \
                  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from: [{podSelector: {matchLabels: {app: web}}}, \
                  {ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]\n    ports: [{port: 443}]\n  egress:\n  - to:\n    - \
                  namespaceSelector: {}\n      podSelector: {matchExpressions: [{key: app, operator: In, values: [web]}]}\n";
    for n in 0..20 {
        among.write(&format!("{n}.yaml"), &policy.replace("name: web", &format!("name: web-{n}")));
    }
    let peer = End::new(1, "app=web");
    among.stage("createRuntime", &peer);
    let mut number = 2;
    for (rig, annotations) in [(&alone, ASKED), (&among, "{}")] {
        for stage in ["createRuntime", "poststart", "poststop"] {
            let mut skipped = 0;
            loop {
                let end = End::new(number, "app=web");
                number += 1;
                if stage != "createRuntime" {
                    rig.stage("createRuntime", &end);
                }
                let input = rig.state(stage, &end, annotations);
                if !stepped(&mut rig.command(stage), &input, skipped, &mut run) {
                    break;
                }
                skipped += STRIDE;
            }
            eprintln!("{stage}: {} of the program's sixteen bytes", run.len());
        }
    }
    run.iter().for_each(|block| println!("{:x}", block * 16));
}

/// One of each sort of what annotations can ask for.
const ASKED: &str = r#"{"io.netlatch.egress":"10.0.0.0/8:5432, 192.0.2.7:443, tcp/203.0.113.0/24:8000-8999, udp/1.1.1.1:53, [2001:db8::/32]:8443, 198.51.100.0/24, icmp/192.0.2.0/24, *:123, @internet:443, !192.0.2.9","io.netlatch.ingress":"none","io.netlatch.sysctl.net.ipv4.tcp_fin_timeout":"30"}"#;

/// Steps through a program from its `skipped`th call on and adds what it ran. `false` where it had ended by then.
// waitpid(2) waits for it, and tells where it stops on its way.
#[allow(clippy::zombie_processes)]
fn stepped(command: &mut Command, input: &Path, skipped: usize, run: &mut BTreeSet<u64>) -> bool {
    command.env_clear().stdin(File::open(input).expect("the input opens")).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: between fork and exec one system call is made and nothing else touched.
    unsafe { command.pre_exec(|| ptrace::traceme().map_err(Into::into)) };
    let child = command.spawn().expect("it starts");
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    let stopped = || matches!(waitpid(pid, None), Ok(WaitStatus::Stopped(..)));
    assert!(stopped(), "it stops at exec");
    for _ in 0..skipped * 2 {
        ptrace::syscall(pid, None).expect("it goes on");
        if !stopped() {
            return false;
        }
    }
    // Behind the deadline it does nothing but end.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(9) {
        ptrace::step(pid, None).expect("it goes on");
        if !stopped() {
            return true;
        }
        let offset = std::mem::offset_of!(libc::user_regs_struct, rip) as ptrace::AddressType;
        let address = ptrace::read_user(pid, offset).expect("its registers").cast_unsigned();
        if address < PROGRAM {
            run.insert(address / 16);
        }
    }
    ptrace::kill(pid).expect("it ends");
    while waitpid(pid, None).is_ok_and(|status| !matches!(status, WaitStatus::Signaled(..) | WaitStatus::Exited(..))) {}
    true
}
