//! What can fail, the exit code it ends with, and what the operator can do about it.
//!
//! This is the one place that chooses an exit code. crun shows a user nothing of a failed hook but that code, so
//! every cause has its own, between 10 and 63: clear of a shell's 1, 2, 126, 127 and of 128 + signal.
//!
//! A message is one line in three parts, what could not be done / where and why / what to do next. It never holds
//! the text of `strerror(3)`: podman (libpod/oci_util.go, `getOCIRuntimeError`) searches a failed hook's output for
//! such phrases and relabels what it finds. The kernel's errors are named instead: `EPERM`, `ENOENT`.

use std::fmt;

use nix::errno::Errno;

use crate::printable;

/// A thing that was not done, and what stopped it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What could not be done, worded to follow "cannot".
    pub doing: String,
    /// What stopped it.
    pub cause: Cause,
}

impl Failure {
    /// `doing` follows the word "cannot".
    pub fn new(doing: impl Into<String>, cause: Cause) -> Failure {
        Failure { doing: doing.into(), cause }
    }

    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        self.cause.exit().code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("cannot {}: {}; {}", self.doing, self.cause, self.cause.remedy());
        f.write_str(&printable::line(&text))
    }
}

impl std::error::Error for Failure {}

/// A problem in a document, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file, or `annotation KEY`, or `stdin`.
    pub file: String,
    /// Line and column counted from 1; `None` where the document has no lines (an annotation).
    pub position: Option<(u32, u32)>,
    /// The dotted path in the object, such as `egress.allow[2]`; may be empty.
    pub at: String,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some((line, column)) => write!(f, "{}:{line}:{column}:", printable::line(&self.file))?,
            // Of a file it is whole, for programs look for it there. The key of an annotation may be as long as the state.
            None => write!(f, "{}:", printable::path(&printable::line(&self.file)))?,
        }
        if !self.at.is_empty() {
            write!(f, " {}:", printable::line(&self.at))?;
        }
        write!(f, " {}", printable::line(&self.message))
    }
}

/// An object of a batch that the kernel refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The object, such as `rule 3 of chain output`.
    pub object: String,
    /// Where it was written, if it was.
    pub origin: Option<String>,
    /// The kernel's error.
    pub errno: Errno,
    /// The attribute the kernel pointed at (`NLMSGERR_ATTR_OFFS`), by its UAPI name.
    pub attribute: Option<&'static str>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} refused with {:?}", self.object, self.errno)?;
        if let Some(attribute) = self.attribute {
            write!(f, " at {attribute}")?;
        }
        if let Some(origin) = &self.origin {
            write!(f, " ({origin})")?;
        }
        Ok(())
    }
}

/// Everything that can stop a step. A variant holds what its message needs and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The command line is wrong.
    Usage(String),
    /// A stage that must not run this program.
    StageRefused(String),
    /// The document on stdin is not a container's state.
    State(String),
    /// config.json is there and cannot be used.
    Bundle {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Problems in the configuration file.
    Config(Vec<Finding>),
    /// Problems in annotations.
    Annotation(Vec<Finding>),
    /// Problems in policy documents.
    Policy(Vec<Finding>),
    /// A container asks for something that would loosen what the admin wrote, or that the admin does not permit.
    NotPermitted {
        /// What it asks for, with its key.
        asked: String,
        /// What stands against it, and where that is written.
        against: String,
    },
    /// Two sources want different values of one sysctl.
    Contradiction {
        /// The key.
        key: String,
        /// One side: value and origin.
        ours: String,
        /// The other side.
        theirs: String,
    },
    /// The state names no process and config.json no namespace.
    NoProcess,
    /// pid 0: what crun passes inside the container's pid namespace.
    PidZero,
    /// pid 1: what runc passes inside the container's pid namespace. Its namespace is the host's.
    PidOne,
    /// The process has ended.
    ProcessGone(i32),
    /// The namespace is our own or the host's.
    HostNamespace(String),
    /// What should be a network namespace is something else, or is not there.
    NotANamespace {
        /// The path.
        path: String,
        /// What was found.
        found: String,
    },
    /// setns was refused.
    Join {
        /// Which namespace.
        target: String,
        /// The kernel's error.
        errno: Errno,
    },
    /// A capability this process needs and lacks.
    CapabilityMissing(String),
    /// The container may undo everything we do.
    NetAdmin(String),
    /// The rules of a container that may undo those in its own namespace cannot be enforced outside it.
    HostSide(String),
    /// The same, for another container with this id runs, and has its own there.
    SameId(String),
    /// The container may send frames past the hooks of the IP stack, and the admin does not want one that may.
    NetRaw(String),
    /// A call that the kernel grants to every process was refused to this one. Holds its name and what it said.
    Confined(String),
    /// /proc/sys is not what it must be.
    Procfs(String),
    /// A sysctl could not be read or written.
    Sysctl {
        /// The key.
        key: String,
        /// The value wanted.
        value: String,
        /// What happened.
        problem: String,
    },
    /// A link operation failed.
    Link(String),
    /// The kernel refused objects of the ruleset, and with them the whole batch.
    Refused(Vec<Refusal>),
    /// What the kernel holds is not what was asked for.
    ReadBack(String),
    /// Netlink itself failed.
    Netlink {
        /// What was being done.
        call: &'static str,
        /// The kernel's error.
        errno: Errno,
    },
    /// The state directory cannot be used.
    RunDir {
        /// The path.
        path: String,
        /// What happened.
        problem: String,
    },
    /// Too many of something. The limit has a name.
    Limit(String),
    /// Not done in time.
    Deadline(String),
    /// A file or stream could not be read or written.
    Io {
        /// Which.
        path: String,
        /// The kernel's error.
        errno: Errno,
    },
    /// What this start was decided by is no more.
    Overtaken(String),
    /// Our own mistake.
    Internal(String),
}

/// An exit code with its meaning. The table is API: scripts and hook files outlive upgrades.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// The code, 10 to 63.
    pub code: u8,
    /// What it means, in the words of the guide's table.
    pub meaning: &'static str,
    /// What the operator can do.
    pub remedy: &'static str,
}

const fn exit(code: u8, meaning: &'static str, remedy: &'static str) -> Exit {
    Exit { code, meaning, remedy }
}

/// Every exit code but 0 (done), 1 (`check`: something was found; `last-error`: nothing is recorded) and 63.
pub const EXITS: [Exit; 31] = [
    exit(10, "usage: unknown stage, command or option", "see `netlatch --help`"),
    exit(
        11,
        "refused stage: createContainer or startContainer",
        "register the hook under createRuntime, poststart and poststop only",
    ),
    exit(12, "the state on stdin is not usable", "give the container's OCI state as one JSON object on stdin"),
    exit(
        13,
        "the bundle's config.json, or a base specification, is not usable",
        "repair it, or have its engine write it anew",
    ),
    exit(14, "the configuration file has errors", "mend it and run `netlatch check`"),
    exit(15, "an annotation has errors", "mend the annotation; `netlatch plan --state FILE` shows what it would do"),
    exit(16, "a policy document has errors", "mend it and run `netlatch check`"),
    exit(
        17,
        "an annotation asks for what the admin does not permit",
        "drop the annotation, or let the admin change the configuration file",
    ),
    exit(18, "two sources want different values of one sysctl", "make both sides agree, or remove one of them"),
    exit(
        19,
        "the rules cannot be enforced at the host's side",
        "attach the container's network by veth before createRuntime, give it a user namespace, or drop CAP_NET_ADMIN",
    ),
    exit(20, "the state names no process", "call the hook at createRuntime, where the runtime passes a pid"),
    exit(21, "the state names pid 0", "register the hook under createRuntime, not a stage inside the container"),
    exit(22, "the state names pid 1", "register the hook under createRuntime, not a stage inside the container"),
    exit(23, "the container's process is gone", "start the container again; the runtime's log says why it ended"),
    exit(
        24,
        "the namespace is the host's or our own",
        "give the container its own network, or remove the io.netlatch annotations",
    ),
    exit(25, "the namespace is not a network namespace", "check linux.namespaces in config.json"),
    exit(
        26,
        "the namespace could not be joined",
        "run the hook with CAP_SYS_ADMIN over the container's user namespace",
    ),
    exit(27, "a capability is missing", "run the hook as the runtime's root user with that capability"),
    exit(
        28,
        "the container holds CAP_NET_ADMIN",
        "drop CAP_NET_ADMIN from the container, or set `net-admin: allow` in the configuration file",
    ),
    exit(
        29,
        "the container holds CAP_NET_RAW, and `net-raw: refuse` stands in the configuration file",
        "drop CAP_NET_RAW from the container",
    ),
    exit(30, "/proc/sys cannot be trusted or used", "mount a procfs at /proc where the runtime runs"),
    exit(
        31,
        "a sysctl could not be set",
        "check the key and value; `netlatch plan --state FILE` lists them with their sources",
    ),
    exit(32, "a link could not be brought up", "check the container's network namespace with `ip -n`"),
    exit(33, "the kernel refused the ruleset", "check that the kernel has nf_tables (6.3 or later is best)"),
    exit(
        34,
        "the kernel holds something else than was asked for",
        "look for another program that changes this namespace",
    ),
    exit(35, "netlink failed", "check kernel memory and limits, then start the container again"),
    exit(
        36,
        "the system refuses this program a call that every program may make",
        "look for a seccomp filter or a security module that confines the runtime",
    ),
    exit(
        40,
        "the state directory cannot be used",
        "make it a directory of root's, or name another with --run-dir; remove what is damaged in it",
    ),
    exit(
        41,
        "a limit or the deadline was exceeded",
        "make the input smaller, or the machine less busy; the message names the limit",
    ),
    exit(42, "a file or stream could not be read or written", "check that the path exists and may be used so"),
    exit(43, "what decided this start has changed meanwhile", "start the container again"),
];

/// Our own mistake: what no input should lead to.
pub const EXIT_INTERNAL: Exit = exit(63, "a bug in netlatch", "please report it with this line");

impl Cause {
    /// The code, its meaning and the remedy. No wildcard: a new cause must choose.
    pub fn exit(&self) -> Exit {
        let code = match self {
            Cause::Usage(_) => 10,
            Cause::StageRefused(_) => 11,
            Cause::State(_) => 12,
            Cause::Bundle { .. } => 13,
            Cause::Config(_) => 14,
            Cause::Annotation(_) => 15,
            Cause::Policy(_) => 16,
            Cause::NotPermitted { .. } => 17,
            Cause::Contradiction { .. } => 18,
            Cause::NoProcess => 20,
            Cause::PidZero => 21,
            Cause::PidOne => 22,
            Cause::ProcessGone(_) => 23,
            Cause::HostNamespace(_) => 24,
            Cause::NotANamespace { .. } => 25,
            Cause::Join { .. } => 26,
            Cause::CapabilityMissing(_) => 27,
            Cause::HostSide(_) | Cause::SameId(_) => 19,
            Cause::NetAdmin(_) => 28,
            Cause::NetRaw(_) => 29,
            Cause::Confined(_) => 36,
            Cause::Procfs(_) => 30,
            Cause::Sysctl { .. } => 31,
            Cause::Link(_) => 32,
            Cause::Refused(_) => 33,
            Cause::ReadBack(_) => 34,
            Cause::Netlink { .. } => 35,
            Cause::RunDir { .. } => 40,
            Cause::Limit(_) | Cause::Deadline(_) => 41,
            Cause::Io { .. } => 42,
            Cause::Overtaken(_) => 43,
            Cause::Internal(_) => return EXIT_INTERNAL,
        };
        EXITS.into_iter().find(|exit| exit.code == code).unwrap_or(EXIT_INTERNAL)
    }

    /// What to do next.
    pub fn remedy(&self) -> &'static str {
        match self {
            // Its link and its capabilities are none of it.
            Cause::SameId(_) => "stop that container first, or give this one another id",
            other => other.exit().remedy,
        }
    }
}

/// At most this many findings go into the one line; `check` prints them all.
const SHOWN: usize = 3;

fn some_of<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: &[T], noun: &str) -> fmt::Result {
    for (i, item) in items.iter().take(SHOWN).enumerate() {
        if i > 0 {
            f.write_str(" | ")?;
        }
        write!(f, "{item}")?;
    }
    match items.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => write!(f, " | and {more} more {noun}"),
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Usage(problem) | Cause::State(problem) => f.write_str(problem),
            Cause::StageRefused(stage) => {
                write!(
                    f,
                    "{stage} runs inside the container's namespaces, where its files and environment are in reach"
                )
            }
            Cause::Bundle { file, problem } => write!(f, "{}: {problem}", printable::path(file)),
            Cause::Config(findings) | Cause::Annotation(findings) | Cause::Policy(findings) => {
                some_of(f, findings, "problems")
            }
            Cause::NotPermitted { asked, against } => write!(f, "{asked}, but {against}; a container can only tighten"),
            Cause::Contradiction { key, ours, theirs } => write!(f, "{key} is {ours} and {theirs}"),
            Cause::NoProcess => f.write_str("the state has no pid and config.json names no network namespace by path"),
            Cause::PidZero => {
                f.write_str("pid 0 is what a stage inside the container sees, never a process of this host")
            }
            Cause::PidOne => f.write_str("pid 1 is the host's init here; its network namespace is not a container's"),
            Cause::ProcessGone(pid) => write!(f, "process {pid} has ended (ESRCH)"),
            Cause::HostNamespace(what) => f.write_str(what),
            Cause::NotANamespace { path, found } => {
                write!(f, "{} is not a network namespace: {found}", printable::path(path))
            }
            Cause::Join { target, errno } => write!(f, "{target} refused with {errno:?}"),
            Cause::CapabilityMissing(which) => write!(f, "this process lacks {which}"),
            Cause::NetAdmin(set) => {
                write!(f, "the container's {set} holds CAP_NET_ADMIN, with which it can remove every rule")
            }
            Cause::NetRaw(set) => {
                write!(f, "the container's {set} holds CAP_NET_RAW, with which it can send past the IP stack")
            }
            Cause::HostSide(problem)
            | Cause::SameId(problem)
            | Cause::Procfs(problem)
            | Cause::Link(problem)
            | Cause::ReadBack(problem) => f.write_str(problem),
            Cause::Sysctl { key, value, problem } => write!(f, "{key} = {value}: {problem}"),
            Cause::Refused(refusals) => some_of(f, refusals, "objects"),
            Cause::Netlink { call, errno } => write!(f, "{call} failed with {errno:?}"),
            Cause::Confined(call) => write!(f, "{call}"),
            Cause::RunDir { path, problem } => write!(f, "{}: {problem}", printable::path(path)),
            Cause::Limit(what) | Cause::Deadline(what) | Cause::Overtaken(what) => f.write_str(what),
            Cause::Io { path, errno } => write!(f, "{}: {errno:?}", printable::path(path)),
            Cause::Internal(what) => write!(f, "{what} (a bug)"),
        }
    }
}

/// The kernel's error behind a `std::io::Error`; `EIO` where there is none.
pub fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_distinct_ascending_and_between_10_and_63() {
        assert!(EXITS.windows(2).all(|pair| pair[0].code < pair[1].code));
        assert!(EXITS.iter().all(|exit| (10..63).contains(&exit.code)));
    }

    #[test]
    fn a_message_has_three_parts_on_one_line_and_no_strerror_text() {
        let failure = Failure::new(
            "join the network namespace of process 42",
            Cause::Join { target: "setns".into(), errno: Errno::EPERM },
        );
        let line = failure.to_string();
        assert_eq!(failure.exit_code(), 26);
        assert!(
            line.starts_with("cannot join the network namespace of process 42: setns refused with EPERM; "),
            "{line}"
        );
        assert!(!line.contains('\n'));
        assert!(!line.to_lowercase().contains("not permitted"), "{line}");
    }

    #[test]
    fn long_lists_of_findings_stay_short() {
        let finding = |n: u32| Finding {
            file: "c.yaml".into(),
            position: Some((n, 1)),
            at: "egress".into(),
            message: "wrong".into(),
        };
        let cause = Cause::Config((1..=5).map(finding).collect());
        assert_eq!(
            cause.to_string(),
            "c.yaml:1:1: egress: wrong | c.yaml:2:1: egress: wrong | c.yaml:3:1: egress: wrong | and 2 more problems"
        );
    }
}
