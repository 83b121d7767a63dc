//! The host as it is now, to be compared with what it is later.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Everything a hook could have changed on the host by standing in the wrong namespace.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// `nft list ruleset`, handles included.
    pub(crate) rules: String,
    /// `ip -j -d addr`.
    pub(crate) links: String,
    /// `ip -j route` of both families.
    pub(crate) routes: [String; 2],
    /// Every readable file below /proc/sys/net.
    pub(crate) sysctls: BTreeMap<String, String>,
    /// What is in /run/netns.
    pub(crate) names: Vec<String>,
}

impl Snapshot {
    /// Of the calling thread's namespace, which in a test is the host's.
    pub(crate) fn take() -> Snapshot {
        let mut sysctls = BTreeMap::new();
        read_tree(Path::new("/proc/sys/net"), &mut sysctls);
        // Counts flows, which come and go by themselves.
        sysctls.remove("/proc/sys/net/netfilter/nf_conntrack_count");
        let mut names: Vec<String> = std::fs::read_dir("/run/netns")
            .map(|dir| dir.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
            .unwrap_or_default();
        names.sort();
        Snapshot {
            rules: print("nft", &["-a", "list", "ruleset"]),
            links: print("ip", &["-j", "-d", "addr"]),
            routes: [print("ip", &["-j", "-4", "route"]), print("ip", &["-j", "-6", "route"])],
            sysctls,
            names,
        }
    }

    /// What differs in `later`, a line each. Sysctls that a module brought along meanwhile are no difference.
    pub(crate) fn differences(&self, later: &Snapshot) -> Vec<String> {
        let mut found = Vec::new();
        let texts = [
            ("rules", &self.rules, &later.rules),
            ("links", &self.links, &later.links),
            ("IPv4 routes", &self.routes[0], &later.routes[0]),
            ("IPv6 routes", &self.routes[1], &later.routes[1]),
        ];
        for (what, before, after) in texts {
            if before != after {
                found.push(format!("{what}:\nbefore: {before}\nafter:  {after}"));
            }
        }
        for (key, before) in &self.sysctls {
            match later.sysctls.get(key) {
                Some(after) if after == before => {}
                after => found.push(format!("{key}: {before:?} became {after:?}")),
            }
        }
        if self.names != later.names {
            found.push(format!("/run/netns: {:?} became {:?}", self.names, later.names));
        }
        found
    }
}

fn print(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    // Lifetimes of addresses and routes count down by themselves.
    let text = String::from_utf8_lossy(&output.stdout);
    let mut kept = String::new();
    let mut rest = &*text;
    while let Some(at) = rest.find("_life_time\":") {
        let (before, after) = rest.split_at(at);
        kept.push_str(before);
        rest = after.trim_start_matches(|c| c != ',' && c != '}');
    }
    kept + rest
}

fn read_tree(dir: &Path, into: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())).flatten() {
        let path = entry.path();
        if path.is_dir() {
            read_tree(&path, into);
        } else if let Ok(text) = std::fs::read(&path) {
            into.insert(path.to_string_lossy().into_owned(), String::from_utf8_lossy(&text).into_owned());
        }
    }
}
