//! What was done, or would be, a line each; with the lines that come and go where it is only looked at.

use std::fmt::Write as _;
use std::path::Path;

use crate::cli::{Outcome, print};
use crate::error::Failure;
use crate::kernel::files::place::Root;
use crate::oci::hooks::patch::Change;

/// What is printed at the end, and the exit code.
pub(super) struct Report {
    /// Nothing is done.
    pub(super) dry: bool,
    text: String,
    left: bool,
}

impl Report {
    pub(super) fn new(dry: bool) -> Report {
        Report { dry, text: String::new(), left: false }
    }

    fn line(&mut self, done: &str, to_do: &str, path: &Path) {
        let verb = if self.dry { to_do } else { done };
        writeln!(self.text, "{verb:<12} {}", path.display()).ok();
    }

    pub(super) fn unchanged(&mut self, path: &Path) {
        self.line("unchanged", "unchanged", path);
    }

    /// A whole file of ours.
    pub(super) fn wrote(&mut self, path: &Path, was: Option<&str>, text: &str) {
        self.line("wrote", "would write", path);
        if self.dry {
            let lines =
                |sign: char, text: &str| text.lines().map(|line| format!("{sign} {line}\n")).collect::<String>();
            self.text += &lines('-', was.unwrap_or_default());
            self.text += &lines('+', text);
        }
    }

    pub(super) fn wrote_program(&mut self, path: &Path, bytes: usize) {
        self.line("wrote", "would write", path);
        if self.dry {
            writeln!(self.text, "+ {bytes} bytes, this program").ok();
        }
    }

    /// A specification of somebody else's.
    pub(super) fn changed(&mut self, path: &Path, changes: &[Change]) {
        self.line("changed", "would change", path);
        for change in changes {
            let sign = if change.added { '+' } else { '-' };
            writeln!(self.text, "{sign} {} {}", change.at, change.entry).ok();
        }
    }

    pub(super) fn removed(&mut self, path: &Path) {
        self.line("removed", "would remove", path);
    }

    pub(super) fn left(&mut self, path: &Path, why: &str) {
        self.left = true;
        writeln!(self.text, "{:<12} {}: {why}", "left alone", path.display()).ok();
    }

    /// Whether something was left alone.
    pub(super) fn has_left(&self) -> bool {
        self.left
    }

    pub(super) fn note(&mut self, text: &str) {
        writeln!(self.text, "note: {text}").ok();
    }

    pub(super) fn lines(&mut self, text: &str) {
        self.text += text;
    }

    /// What else this machine has that the hook could be told to. Looked for by what an administrator puts there, and by
    /// where packages put programs; nothing is asked.
    pub(super) fn hints(&mut self, root: &Root) {
        let engines: [(&str, &[&str], &str); 3] = [
            ("CRI-O", &["/usr/bin/crio", "/etc/crio"], "it reads hook files when it starts: restart it"),
            (
                "containerd",
                &["/usr/bin/containerd", "/etc/containerd/config.toml"],
                "it reads no hook files: `ctr oci spec | netlatch install containerd --spec -`",
            ),
            (
                "Docker",
                &["/usr/bin/dockerd", "/etc/docker/daemon.json"],
                "it reads no hook files: `netlatch install cdi`, and `docker run --device netlatch.io/net=on`",
            ),
        ];
        for (engine, signs, what) in engines {
            if signs.iter().any(|sign| root.has(Path::new(sign))) {
                self.note(&format!("{engine} is here; {what}"));
            }
        }
    }

    /// Prints, also what was done before something failed.
    pub(super) fn finish(self, done: Result<(), Failure>) -> Result<Outcome, Failure> {
        let nothing = if done.is_ok() { "nothing is installed there\n" } else { "" };
        print(if self.text.is_empty() { nothing } else { &self.text })?;
        done?;
        Ok(if self.left { Outcome::Found } else { Outcome::Done })
    }
}
