//! Which sysctls a container's annotations may set.

use std::fmt;

use super::key::{Key, KeyError, is_per_interface, split};

/// The `net.*` part of the sysctls that Kubernetes calls safe: namespaced, and unable to harm a neighbour
/// (pkg/kubelet/sysctl/safe_sysctls.go, Kubernetes 1.32).
const KUBERNETES_SAFE: [&str; 11] = [
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// Keys and prefixes that the admin permits, as the kubelet's `--allowed-unsafe-sysctls` takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowList {
    patterns: Vec<Pattern>,
}

/// One entry of an [`AllowList`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// As the admin wrote it.
    text: String,
    /// A path below /proc/sys, or the beginning of one.
    path: String,
    prefix: bool,
}

impl Pattern {
    /// A sysctl name, or the beginning of one with `*` at its end: `net.core.somaxconn`, `net.ipv4.tcp_*`,
    /// `net.ipv6.conf.eth0.*`. Below `conf` and `neigh` the last dot ends the interface's name, as in a key; where a
    /// beginning of a dotted interface name is meant, `net/ipv4/conf/eth0.1*` says so.
    pub fn parse(text: &str) -> Result<Pattern, KeyError> {
        let Some(stem) = text.strip_suffix('*') else {
            return Ok(Pattern { text: text.to_owned(), path: Key::parse(text)?.path().to_owned(), prefix: false });
        };
        let (dotted, mut parts) = split(stem)?;
        if parts.len() < 2 || parts[0] != "net" {
            return Err(KeyError::NotNet(text.to_owned()));
        }
        // The last part is the beginning of a name and may be empty: `net.core.*`.
        let whole = &parts[..parts.len() - 1];
        if whole.iter().any(|p| p.is_empty()) {
            return Err(KeyError::Empty(text.to_owned()));
        }
        if parts.iter().any(|p| p == "." || p == "..") {
            return Err(KeyError::Traversal(text.to_owned()));
        }
        if dotted && is_per_interface(&parts) && parts.len() > 5 {
            let interface = parts[3..parts.len() - 1].join(".");
            parts.splice(3..parts.len() - 1, [interface.into()]);
        }
        Ok(Pattern { text: text.to_owned(), path: parts.join("/"), prefix: true })
    }

    fn permits(&self, key: &Key) -> bool {
        if self.prefix { key.path().starts_with(&self.path) } else { key.path() == self.path }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl AllowList {
    /// Exactly these.
    pub fn new(patterns: Vec<Pattern>) -> AllowList {
        AllowList { patterns }
    }

    /// Parses each entry; the first that is none is the error.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<AllowList, KeyError> {
        texts.into_iter().map(Pattern::parse).collect::<Result<_, _>>().map(AllowList::new)
    }

    /// The default: what Kubernetes lets any pod set.
    pub fn kubernetes_safe() -> AllowList {
        let pattern = |name: &&str| Pattern { text: (*name).to_owned(), path: name.replace('.', "/"), prefix: false };
        AllowList { patterns: KUBERNETES_SAFE.iter().map(pattern).collect() }
    }

    /// Whether an annotation may set `key`.
    pub fn permits(&self, key: &Key) -> bool {
        self.patterns.iter().any(|pattern| pattern.permits(key))
    }

    /// The entries, in the order in which they were written.
    pub fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }
}

impl Default for AllowList {
    fn default() -> AllowList {
        AllowList::kubernetes_safe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(pattern: &str, key: &str) -> bool {
        AllowList::parse([pattern]).unwrap().permits(&Key::parse(key).unwrap())
    }

    #[test]
    fn the_safe_set_parses_to_what_it_is() {
        let parsed = AllowList::parse(KUBERNETES_SAFE).unwrap();
        assert_eq!(parsed, AllowList::kubernetes_safe());
        assert!(parsed.permits(&Key::parse("net/ipv4/tcp_rmem").unwrap()));
        for key in ["net.ipv4.tcp_rmem2", "net.ipv4.ip_forward", "net.core.somaxconn", "net.ipv6.conf.all.disable_ipv6"]
        {
            assert!(!parsed.permits(&Key::parse(key).unwrap()), "{key}");
        }
    }

    #[test]
    fn a_prefix_reaches_as_far_as_it_says() {
        assert!(permits("net.ipv4.tcp_*", "net.ipv4.tcp_rmem"));
        assert!(!permits("net.ipv4.tcp_*", "net.ipv4.udp_rmem_min"));
        assert!(permits("net.core.*", "net.core.somaxconn"));
        assert!(!permits("net.core.*", "net.ipv4.ip_forward"));
        assert!(permits("net.*", "net.ipv4.ip_forward"));
        assert!(permits("net.ipv4.conf.eth0.*", "net.ipv4.conf.eth0.rp_filter"));
        assert!(permits("net.ipv4.conf.eth*", "net.ipv4.conf.eth0.rp_filter"));
    }

    #[test]
    fn an_interface_is_not_its_vlan() {
        assert!(!permits("net.ipv4.conf.eth0.*", "net.ipv4.conf.eth0.100.rp_filter"));
        assert!(permits("net.ipv4.conf.eth0.100.*", "net.ipv4.conf.eth0.100.rp_filter"));
        assert!(permits("net.ipv4.conf.eth0/100.rp*", "net/ipv4/conf/eth0.100/rp_filter"));
        assert!(!permits("net.ipv4.conf.eth0.100.*", "net.ipv4.conf.eth0.rp_filter"));
        assert!(permits("net/ipv4/conf/eth0.1*", "net.ipv4.conf.eth0.100.rp_filter"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["*", "", "net*", "kernel.*", "net.*.x", "net..*", "net.//.*", "net.ipv4.**", "net.ipv4.tcp_rmem "]
        {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }
}
