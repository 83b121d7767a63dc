//! `io.netlatch.devconf`: what `net.core.devconf_inherit_init_net` = 1 or 2 would have put below `conf/all`,
//! `conf/default` and `conf/lo`, wherever the host's knob stood when the namespace was made.
//!
//! The kernel copies or resets both structures whole (`devinet_init_net`, net/ipv4/devinet.c; `addrconf_init_net`,
//! net/ipv6/addrconf.c); `lo` is made after that and takes `default`. This writes file by file, so it names what
//! it does not write: [`Reason`]. Two files the kernel never inherits in any mode, `default.disable_ipv6` and
//! `default.autoconf` (it resets them to the module parameters), and with them `lo`'s. [`Source::Host`] carries
//! these too: a host without IPv6 is to have containers without it (containerd#8958).
//!
//! Interfaces other than `lo` keep what they hold: an engine may have set it on purpose. Where writing `all`
//! reaches them ([`FOLLOWED`]) they get `default`'s value, which is what they would have been born with.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use super::defaults::{Compiled, IPV4, IPV6};
use super::ipv6::{DISABLE_IPV6, Ipv6, Write};
use super::key::{Key, Setting, is_leaf_name, word};
use crate::net::{Family, Origin};

/// What the container's per-interface defaults come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Devconf {
    /// What the kernel gave the namespace.
    #[default]
    Leave,
    /// The host's values: the knob's 1.
    Host,
    /// What the kernel compiles in: the knob's 2.
    KernelDefaults,
}

impl Devconf {
    /// Every mode, in the order of the documentation.
    pub const ALL: [Devconf; 3] = [Devconf::Leave, Devconf::Host, Devconf::KernelDefaults];

    /// The annotation's word.
    pub const fn name(self) -> &'static str {
        match self {
            Devconf::Leave => "leave",
            Devconf::Host => "host",
            Devconf::KernelDefaults => "kernel-defaults",
        }
    }
}

impl fmt::Display for Devconf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Not one of the words of [`Devconf`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of `leave`, `host`, `kernel-defaults`")]
pub struct DevconfError(pub String);

impl FromStr for Devconf {
    type Err = DevconfError;

    fn from_str(word: &str) -> Result<Devconf, DevconfError> {
        Devconf::ALL.into_iter().find(|mode| mode.name() == word).ok_or_else(|| DevconfError(word.to_owned()))
    }
}

/// A mode with what it needs to know of this host, read before the container's namespace is joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// Nothing is written.
    #[default]
    Leave,
    /// The host's values.
    Host(Snapshot),
    /// The files this kernel has.
    KernelDefaults(Present),
}

/// The host's `conf/all` and `conf/default`, without the files that [`is_carried`] denies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Below net/ipv4.
    pub ipv4: Conf,
    /// Below net/ipv6; empty on a kernel without IPv6.
    pub ipv6: Conf,
}

/// One family's `conf/all` and `conf/default`: file name to value, without the newline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conf {
    /// `conf/all`.
    pub all: BTreeMap<String, String>,
    /// `conf/default`.
    pub default: BTreeMap<String, String>,
}

/// The names of the files in `conf/default`, and the ipv6 module's parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Present {
    /// Below net/ipv4.
    pub ipv4: BTreeSet<String>,
    /// Below net/ipv6; empty on a kernel without IPv6.
    pub ipv6: BTreeSet<String>,
    /// `ipv6.disable_ipv6` as the kernel was booted with; `None` where it could not be read.
    pub boot_disable_ipv6: Option<String>,
    /// `ipv6.autoconf` likewise.
    pub boot_autoconf: Option<String>,
}

/// Why a file is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// `stable_secret`: the key of the host's own addresses. The kernel clears it in a new namespace too.
    Secret,
    /// `mc_forwarding`: mode 0444; set while a multicast routing socket exists.
    ReadOnly,
    /// `mtu` of `lo`: the device's, not inherited from `default` (`ipv6_add_dev`).
    Device,
    /// The compiled default of this file is not in our table: a newer kernel's.
    Unknown,
    /// The default is a boot parameter that could not be read.
    BootParameter,
    /// `addr_gen_mode` 2 on an interface is refused until there is a `stable_secret` (`check_stable_privacy`), which
    /// is never carried.
    NeedsSecret,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Secret => "a secret of the host's",
            Reason::ReadOnly => "read-only",
            Reason::Device => "follows the device",
            Reason::Unknown => "unknown to this version, so its compiled default is too",
            Reason::BootParameter => "set by a boot parameter that could not be read",
            Reason::NeedsSecret => "needs a stable_secret, which is not carried",
        })
    }
}

/// A file that was not written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeftAlone {
    /// Below `net`, with `*` where it holds for several folders.
    pub name: String,
    /// Why.
    pub reason: Reason,
}

/// What a mode comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writes {
    /// In their order.
    pub writes: Vec<Write>,
    /// What is not among them.
    pub left_alone: Vec<LeftAlone>,
}

/// Files whose value in `all`, when written, goes to interfaces, and whether it goes to `default` too. Measured on
/// Linux 6.18 by writing each file alone and reading all others. They are written first: IPv4 `all.forwarding` also
/// resets `all.accept_redirects` (`inet_forward_change`).
pub const FOLLOWED: [(Family, &str, bool); 6] = [
    (Family::V4, "forwarding", true),
    (Family::V6, DISABLE_IPV6, true),
    (Family::V6, "forwarding", true),
    (Family::V6, "addr_gen_mode", true),
    (Family::V6, "ignore_routes_with_linkdown", true),
    (Family::V6, "force_forwarding", false),
];

/// What the kernel gives `lo` whatever `default` says: `inetdev_event` at `NETDEV_REGISTER` (net/ipv4/devinet.c) and
/// `ipv6_add_dev` (net/ipv6/addrconf.c).
const LO: [(Family, &str, &str); 4] = [
    (Family::V4, "disable_policy", "1"),
    (Family::V4, "disable_xfrm", "1"),
    (Family::V6, "accept_dad", "-1"),
    (Family::V6, "use_tempaddr", "-1"),
];

/// Why a file of `conf/all` and `conf/default` is never carried, if it is not.
fn exception(family: Family, leaf: &str) -> Option<Reason> {
    match (family, leaf) {
        (Family::V4 | Family::V6, "mc_forwarding") => Some(Reason::ReadOnly),
        (Family::V6, "stable_secret") => Some(Reason::Secret),
        (Family::V4 | Family::V6, _) => None,
    }
}

/// Whether a file of `conf/all` and `conf/default` is carried, so that a [`Snapshot`] needs its value.
pub fn is_carried(family: Family, leaf: &str) -> bool {
    exception(family, leaf).is_none()
}

/// The place of `leaf` in the order of writing: followed files first, in the order of [`FOLLOWED`].
fn rank(family: Family, leaf: &str) -> usize {
    FOLLOWED.iter().position(|(f, l, _)| *f == family && *l == leaf).unwrap_or(FOLLOWED.len())
}

/// The writes that bring a namespace to what `source` says: `all`, then `default`, then `lo` and what else followed
/// `all`, so that what one write reaches the next one corrects. Where `ipv6` is not left, it owns `disable_ipv6`.
pub fn writes(source: &Source, ipv6: Ipv6, origin: &Origin) -> Writes {
    let mut out = Writes::default();
    for family in Family::BOTH {
        let mut rows = match source {
            Source::Leave => Vec::new(),
            Source::Host(snapshot) => host_rows(family, snapshot),
            Source::KernelDefaults(present) => compiled_rows(family, present, &mut out.left_alone),
        };
        if !rows.is_empty() {
            note_exceptions(family, &mut out.left_alone);
        }
        if ipv6 != Ipv6::Leave {
            rows.retain(|row| (family, row.leaf) != (Family::V6, DISABLE_IPV6));
        }
        rows.sort_by_key(|row| (rank(family, row.leaf), row.leaf));
        family_writes(family, &rows, origin, &mut out);
    }
    out
}

/// A file's values in `all` and `default`.
struct Row<'a> {
    leaf: &'a str,
    all: &'a str,
    default: &'a str,
}

fn host_rows(family: Family, snapshot: &Snapshot) -> Vec<Row<'_>> {
    let conf = match family {
        Family::V4 => &snapshot.ipv4,
        Family::V6 => &snapshot.ipv6,
    };
    conf.default
        .iter()
        .filter(|(leaf, _)| is_carried(family, leaf) && is_leaf_name(leaf))
        .filter_map(|(leaf, default)| Some(Row { leaf, all: conf.all.get(leaf)?, default }))
        .collect()
}

fn compiled_rows<'a>(family: Family, present: &'a Present, left_alone: &mut Vec<LeftAlone>) -> Vec<Row<'a>> {
    let (names, table): (_, &[Compiled]) = match family {
        Family::V4 => (&present.ipv4, &IPV4),
        Family::V6 => (&present.ipv6, &IPV6),
    };
    let mut rows = Vec::with_capacity(names.len());
    for leaf in names.iter().filter(|leaf| is_carried(family, leaf)) {
        let Ok(at) = table.binary_search_by(|row| row.leaf.cmp(leaf)) else {
            left_alone.push(LeftAlone { name: format!("net.{}.conf.*.{leaf}", word(family)), reason: Reason::Unknown });
            continue;
        };
        // `addrconf_init_net` takes these two from `ipv6_defaults`, which the module parameters set. Writing the
        // compiled 0 over a host booted with ipv6.disable_ipv6=1 would open what its admin closed.
        let boot = match (family, leaf.as_str()) {
            (Family::V6, DISABLE_IPV6) => Some(&present.boot_disable_ipv6),
            (Family::V6, "autoconf") => Some(&present.boot_autoconf),
            (Family::V4 | Family::V6, _) => None,
        };
        let default = match boot {
            None => table[at].default,
            Some(Some(value)) => value,
            Some(None) => {
                let name = format!("net.{}.conf.*.{leaf}", word(family));
                left_alone.push(LeftAlone { name, reason: Reason::BootParameter });
                continue;
            }
        };
        rows.push(Row { leaf, all: table[at].all, default });
    }
    rows
}

fn note_exceptions(family: Family, left_alone: &mut Vec<LeftAlone>) {
    let mut note = |folder: &str, leaf: &str, reason| {
        left_alone.push(LeftAlone { name: format!("net.{}.conf.{folder}.{leaf}", word(family)), reason });
    };
    note("*", "mc_forwarding", Reason::ReadOnly);
    match family {
        Family::V4 => {}
        Family::V6 => {
            note("*", "stable_secret", Reason::Secret);
            note("lo", "mtu", Reason::Device);
        }
    }
}

fn family_writes(family: Family, rows: &[Row<'_>], origin: &Origin, out: &mut Writes) {
    let one = |interface: &str, leaf: &str, value: &str| {
        Write::One(Setting {
            key: Key::of_conf(family, interface, leaf),
            value: value.to_owned(),
            origin: origin.clone(),
        })
    };
    out.writes.extend(rows.iter().map(|row| one("all", row.leaf, row.all)));
    out.writes.extend(rows.iter().map(|row| one("default", row.leaf, row.default)));
    for row in rows {
        if (family, row.leaf) == (Family::V6, "mtu") {
            continue;
        }
        if (family, row.leaf, row.default) == (Family::V6, "addr_gen_mode", "2") && row.all != "2" {
            let name = format!("net.{}.conf.lo.{}", word(family), row.leaf);
            out.left_alone.push(LeftAlone { name, reason: Reason::NeedsSecret });
            continue;
        }
        let own = LO.iter().find(|(f, leaf, _)| *f == family && *leaf == row.leaf).map(|(_, _, value)| *value);
        out.writes.push(one("lo", row.leaf, own.unwrap_or(row.default)));
        if rank(family, row.leaf) < FOLLOWED.len() {
            out.writes.push(Write::EachInterface {
                family,
                leaf: row.leaf.to_owned(),
                value: row.default.to_owned(),
                origin: origin.clone(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin::Builtin("test")
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn present() -> Present {
        Present {
            ipv4: IPV4.iter().map(|row| row.leaf.to_owned()).collect(),
            ipv6: IPV6.iter().map(|row| row.leaf.to_owned()).collect(),
            boot_disable_ipv6: Some("0".to_owned()),
            boot_autoconf: Some("1".to_owned()),
        }
    }

    fn text(writes: &Writes) -> Vec<String> {
        writes.writes.iter().map(Write::to_string).collect()
    }

    #[test]
    fn words_and_modes_are_one_to_one() {
        for mode in Devconf::ALL {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert!("default".parse::<Devconf>().is_err());
    }

    #[test]
    fn the_host_s_values_go_to_all_then_default_then_lo() {
        let conf = Conf {
            all: map(&[("accept_redirects", "2"), ("forwarding", "1")]),
            default: map(&[("accept_redirects", "1"), ("forwarding", "0")]),
        };
        let source = Source::Host(Snapshot { ipv4: conf, ipv6: Conf::default() });
        assert_eq!(
            text(&writes(&source, Ipv6::Leave, &origin())),
            [
                "net.ipv4.conf.all.forwarding = 1",
                "net.ipv4.conf.all.accept_redirects = 2",
                "net.ipv4.conf.default.forwarding = 0",
                "net.ipv4.conf.default.accept_redirects = 1",
                "net.ipv4.conf.lo.forwarding = 0",
                "net.ipv4.conf.*.forwarding = 0",
                "net.ipv4.conf.lo.accept_redirects = 1",
            ]
        );
    }

    #[test]
    fn a_host_without_ipv6_has_containers_without_it() {
        let conf = Conf {
            all: map(&[("disable_ipv6", "0"), ("stable_secret", "::1"), ("mc_forwarding", "1")]),
            default: map(&[("disable_ipv6", "1"), ("stable_secret", "::1"), ("mc_forwarding", "1")]),
        };
        let source = Source::Host(Snapshot { ipv4: Conf::default(), ipv6: conf });
        assert_eq!(
            text(&writes(&source, Ipv6::Leave, &origin())),
            [
                "net.ipv6.conf.all.disable_ipv6 = 0",
                "net.ipv6.conf.default.disable_ipv6 = 1",
                "net.ipv6.conf.lo.disable_ipv6 = 1",
                "net.ipv6.conf.*.disable_ipv6 = 1",
            ]
        );
        assert_eq!(text(&writes(&source, Ipv6::LoopbackOnly, &origin())), [""; 0]);
    }

    #[test]
    fn lo_keeps_what_the_kernel_gives_every_lo() {
        let text = text(&writes(&Source::KernelDefaults(present()), Ipv6::Leave, &origin()));
        for line in [
            "net.ipv4.conf.lo.disable_xfrm = 1",
            "net.ipv4.conf.lo.disable_policy = 1",
            "net.ipv6.conf.lo.accept_dad = -1",
            "net.ipv6.conf.lo.use_tempaddr = -1",
            "net.ipv6.conf.default.accept_dad = 1",
        ] {
            assert!(text.contains(&line.to_owned()), "{line}");
        }
        assert!(!text.iter().any(|line| line.contains("lo.mtu") || line.contains("secret") || line.contains("mc_f")));
    }

    #[test]
    fn a_file_of_a_newer_kernel_is_left_alone_and_named() {
        let mut present = present();
        present.ipv4.insert("quantum_filter".to_owned());
        present.ipv6.remove("accept_ra");
        let writes = writes(&Source::KernelDefaults(present), Ipv6::Leave, &origin());
        let unknown = LeftAlone { name: "net.ipv4.conf.*.quantum_filter".to_owned(), reason: Reason::Unknown };
        assert!(writes.left_alone.contains(&unknown), "{:?}", writes.left_alone);
        assert!(!text(&writes).iter().any(|line| line.contains("quantum") || line.ends_with(".accept_ra = 1")));
    }

    #[test]
    fn what_the_kernel_was_booted_with_is_its_default() {
        let mut booted = present();
        booted.boot_disable_ipv6 = Some("1".to_owned());
        let lines = text(&writes(&Source::KernelDefaults(booted.clone()), Ipv6::Leave, &origin()));
        assert!(lines.contains(&"net.ipv6.conf.default.disable_ipv6 = 1".to_owned()));
        assert!(lines.contains(&"net.ipv6.conf.lo.disable_ipv6 = 1".to_owned()));
        booted.boot_disable_ipv6 = None;
        let unread = writes(&Source::KernelDefaults(booted), Ipv6::Leave, &origin());
        assert!(!text(&unread).iter().any(|line| line.contains("disable_ipv6")));
        assert!(unread.left_alone.iter().any(|left| left.reason == Reason::BootParameter));
    }
}
