//! Asking an installed program about itself: the one place where this program starts another. Only an operator's command does
//! so, by a path that was looked at before, without environment and with a limit on time and on what is said.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;

use super::MAX_SAID;
use super::tree::Tree;
use crate::error::errno_of;
use crate::kernel::process::Deadline;

/// How long a program may take to say what it is. podman reads its storage's configuration for that.
const PATIENCE: Duration = Duration::from_secs(5);

/// What came of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It was not asked: it is not this machine's, or others may have changed it.
    Unasked,
    /// The kernel does not start it.
    Unstartable(Errno),
    /// It fails, or says nothing in time.
    Silent,
    /// What it prints.
    Said(String),
}

/// Asks a program with these arguments.
pub(super) fn ask(tree: &Tree, path: &str, args: &[&str]) -> Answer {
    if !tree.is_live() || tree.changeable(path).is_some() {
        return Answer::Unasked;
    }
    let mut command = Command::new(path);
    command.args(args).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
    let mut child = match command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn() {
        Ok(child) => child,
        Err(error) => return Answer::Unstartable(errno_of(&error)),
    };
    let said = listen(&mut child);
    if said.is_none() {
        let _ = child.kill();
    }
    let succeeded = child.wait().is_ok_and(|status| status.success());
    said.filter(|_| succeeded).map_or(Answer::Silent, Answer::Said)
}

/// What it prints with these arguments, if it prints something.
pub(super) fn said(tree: &Tree, path: &str, args: &[&str]) -> Option<String> {
    match ask(tree, path, args) {
        Answer::Said(said) => Some(said),
        Answer::Unasked | Answer::Unstartable(_) | Answer::Silent => None,
    }
}

fn listen(child: &mut Child) -> Option<String> {
    let (mut stdout, deadline) = (child.stdout.take()?, Deadline::after(PATIENCE));
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        deadline.wait_readable(&stdout, "ask a program").ok()?;
        match stdout.read(&mut chunk).ok()? {
            0 => return String::from_utf8(bytes).ok(),
            read => bytes.extend_from_slice(&chunk[..read]),
        }
        if bytes.len() > MAX_SAID {
            return None;
        }
    }
}
