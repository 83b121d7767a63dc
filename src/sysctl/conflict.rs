//! Two sources that want different values of one sysctl.
//!
//! runc and youki write config.json's `linux.sysctl` after createRuntime hooks (crun before them), so what it says
//! would quietly undo what we did. It need not name the same file for that: `all` reaches interfaces.

use std::collections::BTreeMap;

use super::devconf::FOLLOWED;
use super::ipv6::Write;
use super::key::{Key, KeyError, Setting, conf_of, same_value, word};
use crate::error::{Cause, Failure};
use crate::net::{Family, Origin};

/// Refuses a `linux.sysctl` that would change what `planned` sets. `file` is config.json's path.
///
/// A key there that begins with `net` and that we cannot read is refused too: a runtime may read it otherwise.
pub fn contradictions(planned: &[Write], spec: &BTreeMap<String, String>, file: &str) -> Result<(), Failure> {
    if planned.is_empty() {
        return Ok(());
    }
    for (name, value) in spec {
        let key = match Key::parse(name) {
            Ok(key) => key,
            Err(KeyError::NotNet(_)) => continue,
            Err(error) => {
                let problem = format!("linux.sysctl: {error}");
                return Err(Failure::new(DOING, Cause::Bundle { file: file.to_owned(), problem }));
            }
        };
        let origin = Origin::Bundle { at: format!("linux.sysctl.{name}") };
        against(planned, &Setting { key, value: value.clone(), origin })?;
    }
    Ok(())
}

/// Refuses `settings` that would change what `planned` sets: an `io.netlatch.sysctl.*` against `io.netlatch.ipv6`.
pub fn disagreements(planned: &[Write], settings: &[Setting]) -> Result<(), Failure> {
    settings.iter().try_for_each(|setting| against(planned, setting))
}

/// Takes out of `writes` what `settings` set otherwise: a key that somebody named goes before a whole mode that
/// somebody chose (`io.netlatch.devconf`), and a plan that held both could not be verified.
pub fn give_way(writes: &mut Vec<Write>, settings: &[Setting]) {
    writes.retain(|write| {
        let changes = |setting: &Setting| reach(setting, write).is_some_and(|got| !same_value(got, value(write)));
        !settings.iter().any(changes)
    });
}

const DOING: &str = "settle the container's sysctls";

fn against(planned: &[Write], theirs: &Setting) -> Result<(), Failure> {
    for write in planned {
        let (Some(got), ours) = (reach(theirs, write), value(write)) else { continue };
        if same_value(got, ours) {
            continue;
        }
        let through = match write {
            Write::One(setting) if path(&setting.key) == path(&theirs.key) => String::new(),
            Write::One(_) | Write::EachInterface { .. } => format!(" through {}", theirs.key),
        };
        let cause = Cause::Contradiction {
            key: name(write),
            ours: format!("{ours} ({})", write.origin()),
            theirs: format!("{got}{through} ({})", theirs.origin),
        };
        return Err(Failure::new(DOING, cause));
    }
    Ok(())
}

fn value(write: &Write) -> &str {
    match write {
        Write::One(setting) => &setting.value,
        Write::EachInterface { value, .. } => value,
    }
}

fn name(write: &Write) -> String {
    match write {
        Write::One(setting) => setting.key.to_string(),
        Write::EachInterface { family, leaf, .. } => format!("net.{}.conf.*.{leaf}", word(*family)),
    }
}

/// The file a key means. `ip_forward` and `conf.all.forwarding` are one variable (`ctl_forward_entry`,
/// net/ipv4/devinet.c).
fn path(key: &Key) -> &str {
    match key.path() {
        "net/ipv4/ip_forward" => "net/ipv4/conf/all/forwarding",
        path => path,
    }
}

/// The value that writing `setting` puts where `write` puts its own; `None` where it does not reach.
fn reach<'a>(setting: &'a Setting, write: &Write) -> Option<&'a str> {
    let value = setting.value.as_str();
    let (family, interface, leaf) = conf_of(path(&setting.key)).unwrap_or((Family::V4, "", ""));
    let followed = FOLLOWED.iter().find(|(f, l, _)| interface == "all" && *f == family && *l == leaf);
    match write {
        Write::One(ours) => {
            if path(&ours.key) == path(&setting.key) {
                return Some(value);
            }
            match (conf_of(path(&ours.key))?, followed?) {
                // `inet_forward_change`
                ((Family::V4, "all", "accept_redirects"), (Family::V4, "forwarding", _)) => {
                    Some(if same_value(value, "0") { "1" } else { "0" })
                }
                ((_, "all", _), _) => None,
                ((f, "default", l), (_, _, to_default)) => (f == family && l == leaf && *to_default).then_some(value),
                ((f, _, l), _) => (f == family && l == leaf).then_some(value),
            }
        }
        Write::EachInterface { family: f, leaf: l, .. } => {
            let one_of_them = !matches!(interface, "" | "all" | "default" | "lo");
            (*f == family && l == leaf && (one_of_them || followed.is_some())).then_some(value)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sysctl::ipv6::{Ipv6, steps};

    fn ours(mode: Ipv6) -> Vec<Write> {
        steps(mode, &Origin::Annotation { key: "io.netlatch.ipv6".to_owned() })
    }

    fn against(planned: &[Write], name: &str, value: &str) -> Result<(), Failure> {
        contradictions(planned, &BTreeMap::from([(name.to_owned(), value.to_owned())]), "/b/config.json")
    }

    fn one(key: &str, value: &str) -> Write {
        Write::One(Setting::new(Key::parse(key).unwrap(), value, Origin::Builtin("test")).unwrap())
    }

    #[test]
    fn every_spelling_and_every_way_round_is_seen() {
        for (mode, name, value) in [
            (Ipv6::Disable, "net.ipv6.conf.all.disable_ipv6", "0"),
            (Ipv6::Disable, "net/ipv6/conf/all/disable_ipv6", "0"),
            (Ipv6::Disable, "net.ipv6.conf.default.disable_ipv6", "0"),
            (Ipv6::Disable, "net.ipv6.conf.lo.disable_ipv6", "0"),
            (Ipv6::Disable, "net.ipv6.conf.eth0.disable_ipv6", "0"),
            (Ipv6::Disable, "net.ipv6.conf.eth0/100.disable_ipv6", "0"),
            (Ipv6::LoopbackOnly, "net.ipv6.conf.all.disable_ipv6", "0"),
            (Ipv6::LoopbackOnly, "net.ipv6.conf.all.disable_ipv6", "1"),
            (Ipv6::LoopbackOnly, "net.ipv6.conf.lo.disable_ipv6", "1"),
            (Ipv6::Enable, "net.ipv6.conf.all.disable_ipv6", "1"),
            (Ipv6::Enable, "net.ipv6.conf.eth0.disable_ipv6", "1"),
        ] {
            let error = against(&ours(mode), name, value).unwrap_err();
            assert_eq!(error.exit_code(), 18, "{error}");
            let text = error.to_string();
            assert!(text.contains("annotation io.netlatch.ipv6"), "{text}");
            assert!(text.contains(&format!("config.json linux.sysctl.{name}")), "{text}");
        }
    }

    #[test]
    fn agreement_and_strangers_pass() {
        for (mode, name, value) in [
            (Ipv6::Disable, "net.ipv6.conf.all.disable_ipv6", "1\n"),
            (Ipv6::Disable, "net.ipv6.conf.all.forwarding", "0"),
            (Ipv6::Disable, "net.ipv4.ping_group_range", "0 0"),
            (Ipv6::Disable, "kernel.shm_rmid_forced", "1"),
            (Ipv6::LoopbackOnly, "net.ipv6.conf.lo.disable_ipv6", "0"),
            (Ipv6::LoopbackOnly, "net.ipv6.conf.eth0.disable_ipv6", "1"),
            (Ipv6::Leave, "net.ipv6.conf.all.disable_ipv6", "1"),
            (Ipv6::Leave, "net..nonsense", "1"),
        ] {
            assert_eq!(against(&ours(mode), name, value), Ok(()), "{mode} {name}");
        }
    }

    #[test]
    fn a_network_key_that_cannot_be_read_is_refused() {
        for name in ["net.ipv6..conf.all.disable_ipv6", "net.ipv6.conf.IFNAME.disable_ipv6", "net/../net/core/x"] {
            let error = against(&ours(Ipv6::Disable), name, "1").unwrap_err();
            assert_eq!(error.exit_code(), 13, "{error}");
        }
    }

    #[test]
    fn one_variable_under_two_names_is_one() {
        let planned = [one("net.ipv4.conf.all.forwarding", "0")];
        assert_eq!(against(&planned, "net.ipv4.ip_forward", "1").unwrap_err().exit_code(), 18);
        assert_eq!(against(&planned, "net.ipv4.ip_forward", "0"), Ok(()));
        let planned = [one("net.ipv4.ip_forward", "0")];
        assert_eq!(against(&planned, "net.ipv4.conf.all.forwarding", "1").unwrap_err().exit_code(), 18);
        for planned in [one("net.ipv4.conf.lo.forwarding", "0"), one("net.ipv4.conf.default.forwarding", "0")] {
            assert_eq!(against(&[planned], "net.ipv4.ip_forward", "1").unwrap_err().exit_code(), 18);
        }
    }

    #[test]
    fn forwarding_takes_accept_redirects_with_it() {
        let planned = [one("net.ipv4.conf.all.accept_redirects", "1")];
        assert_eq!(against(&planned, "net.ipv4.ip_forward", "1").unwrap_err().exit_code(), 18);
        assert_eq!(against(&planned, "net.ipv4.ip_forward", "0"), Ok(()));
        assert_eq!(against(&planned, "net.ipv6.conf.all.forwarding", "1"), Ok(()));
    }

    #[test]
    fn force_forwarding_does_not_reach_default() {
        let planned = [one("net.ipv6.conf.default.force_forwarding", "0")];
        assert_eq!(against(&planned, "net.ipv6.conf.all.force_forwarding", "1"), Ok(()));
        let planned = [one("net.ipv6.conf.eth0.force_forwarding", "0")];
        assert_eq!(against(&planned, "net.ipv6.conf.all.force_forwarding", "1").unwrap_err().exit_code(), 18);
    }

    #[test]
    fn a_mode_gives_way_to_a_key_that_somebody_named() {
        let names = ["net.ipv4.conf.all.rp_filter", "net.ipv4.conf.lo.rp_filter", "net.ipv4.conf.default.forwarding"];
        let mut writes: Vec<Write> = names.iter().map(|name| one(name, "0")).collect();
        let settings = [("net.ipv4.conf.all.rp_filter", "1"), ("net.ipv4.ip_forward", "1"), ("net.core.x", "1")]
            .map(|(name, value)| Setting::new(Key::parse(name).unwrap(), value, Origin::Builtin("test")).unwrap());
        give_way(&mut writes, &settings);
        assert_eq!(writes, [one("net.ipv4.conf.lo.rp_filter", "0")]);
    }

    #[test]
    fn an_annotation_may_disagree_with_another() {
        let Write::One(setting) = one("net.ipv6.conf.eth0.disable_ipv6", "0") else { panic!() };
        assert_eq!(disagreements(&ours(Ipv6::Disable), std::slice::from_ref(&setting)).unwrap_err().exit_code(), 18);
        assert_eq!(disagreements(&ours(Ipv6::Enable), &[setting]), Ok(()));
    }
}
