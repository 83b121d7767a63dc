//! The kernel, and what this process may do: tried, and only on the machine itself.

use super::report::{Group, Report};
use super::tree::Tree;
use crate::error::Cause;
use crate::kernel::capability::{self, BEFORE_JOIN, REQUIRED};
use crate::kernel::features::{Need, Tried, tried};
use crate::kernel::proc::Procfs;
use crate::kernel::process::Deadline;

/// How long trying may take. Each table is loaded in less than a millisecond.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(30);

pub(super) fn kernel(tree: &Tree, report: &mut Report) {
    const GROUP: Group = Group::Kernel;
    if !tree.is_live() {
        return report.not_applicable(GROUP, "kernel", "not asked: the files are another machine's");
    }
    match tried(Deadline::after(DEADLINE)) {
        Ok(all) => all.iter().for_each(|one| feature(one, report)),
        Err(failure) if matches!(failure.cause, Cause::CapabilityMissing(_)) => {
            let finding = format!("nothing could be tried: {}", failure.cause);
            report.warning(GROUP, "features", finding, "run this as root");
        }
        Err(failure) => {
            let finding = format!("nothing could be tried: {}", failure.cause);
            report.problem(
                GROUP,
                "features",
                finding,
                "is CONFIG_NET_NS built in, and does no seccomp filter forbid unshare(2)?",
            );
        }
    }
    proc_sys(report);
    user_namespaces(tree, report);
}

fn feature(tried: &Tried, report: &mut Report) {
    const GROUP: Group = Group::Kernel;
    let Err(why) = &tried.outcome else { return report.ok(GROUP, tried.name, tried.symbol) };
    let finding = format!("{why}; needs {}", tried.symbol);
    let build = format!("use a kernel with {}, or load the module", tried.symbol);
    match tried.need {
        Need::Rules | Need::Hook => report.problem(GROUP, tried.name, finding, &build),
        Need::Guard => {
            let remedy = format!("{build}; or write `net-raw: allow` and drop CAP_NET_RAW from all containers");
            report.problem(GROUP, tried.name, finding, &remedy);
        }
        // /proc/PID/ns serves as well, where a pid cannot be given out again meanwhile.
        Need::Nobody => report.warning(GROUP, tried.name, format!("{finding}; /proc is used instead"), &build),
        Need::Policies => report.warning(GROUP, tried.name, format!("{finding}, where there are policies"), &build),
        Need::HostSide => report.warning(GROUP, tried.name, format!("{finding}, for `net-admin: host-side`"), &build),
    }
}

fn proc_sys(report: &mut Report) {
    const GROUP: Group = Group::Kernel;
    const KNOB: &str = "net.core.devconf_inherit_init_net";
    let procfs = match Procfs::open() {
        Ok(procfs) => procfs,
        Err(failure) => {
            let remedy = "mount a procfs at /proc, and nothing over /proc/sys but itself";
            return report.problem(GROUP, "/proc/sys", failure.cause.to_string(), remedy);
        }
    };
    report.ok(GROUP, "/proc/sys", "a real procfs");
    let meaning = match procfs.knob() {
        Err(failure) => return report.warning(GROUP, KNOB, failure.cause.to_string(), "look at it as root"),
        Ok(None) => {
            return report.not_applicable(
                GROUP,
                KNOB,
                "not seen: this is not the first network namespace, or the kernel is older",
            );
        }
        Ok(Some(0)) => "new containers take IPv4's conf from the host, IPv6's from the kernel",
        Ok(Some(1)) => "new containers take IPv4's and IPv6's conf from the host",
        Ok(Some(2)) => "new containers take the kernel's defaults",
        Ok(Some(3)) => "new containers take the conf of whoever makes their namespace",
        Ok(Some(_)) => "a position that this program does not know",
    };
    let value = procfs.knob().ok().flatten().unwrap_or_default();
    report.ok(GROUP, KNOB, format!("{value}: {meaning}; `devconf` decides for each container, wherever it stands"));
}

fn user_namespaces(tree: &Tree, report: &mut Report) {
    const GROUP: Group = Group::Kernel;
    const QUESTION: &str = "user namespaces";
    let most = tree.read("/proc/sys/user/max_user_namespaces").ok();
    match most.as_deref().map(str::trim) {
        None => report.not_applicable(GROUP, QUESTION, "this kernel has none"),
        Some("0") => report.not_applicable(GROUP, QUESTION, "switched off: no rootless containers, no --userns"),
        Some(_) => report.ok(GROUP, QUESTION, "there are; such containers are joined as others are"),
    }
}

pub(super) fn capabilities(tree: &Tree, report: &mut Report) {
    const GROUP: Group = Group::Capabilities;
    if !tree.is_live() {
        return report.not_applicable(GROUP, "held", "not asked: the files are another machine's");
    }
    for needed in BEFORE_JOIN {
        let name = needed.to_string();
        match capability::require(&[needed], "look") {
            Ok(()) => report.ok(GROUP, &name, "held"),
            Err(_) if REQUIRED.contains(&needed) => {
                let finding = "not held by whoever asks; a hook without it protects nothing";
                report.warning(GROUP, &name, finding, "run this as the runtime's root user does");
            }
            Err(_) => {
                let finding = "not held by whoever asks; some containers cannot be joined without it";
                report.warning(GROUP, &name, finding, "run this as the runtime's root user does");
            }
        }
    }
}
