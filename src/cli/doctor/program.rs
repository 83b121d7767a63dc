//! Asking an installed program about itself: the one place where this program starts another. Only an operator's command does
//! so, by a path that was looked at before, without environment and with a limit on time and on what is said.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::MAX_SAID;
use super::tree::Tree;
use crate::kernel::process::Deadline;

/// How long a program may take to say what it is. podman reads its storage's configuration for that.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a program prints with these arguments; `None` where it is not this machine's, others may have changed it, it fails or
/// says nothing in time.
pub(super) fn said(tree: &Tree, path: &str, args: &[&str]) -> Option<String> {
    if !tree.is_live() || tree.changeable(path).is_some() {
        return None;
    }
    let mut command = Command::new(path);
    command.args(args).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let said = listen(&mut child);
    if said.is_none() {
        let _ = child.kill();
    }
    let status = child.wait().ok()?;
    said.filter(|_| status.success())
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
