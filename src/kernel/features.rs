//! What this kernel can, found out by asking for it: each kind of object that a container's tables are made of is loaded into
//! a network namespace of its own and read back. A version says little: distributions build without what others have, and
//! carry back what is newer.
//!
//! Nothing is changed for anybody else, but that the kernel may load modules, as a first container would make it do.

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::unistd::getpid;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::error::{Cause, Failure};
use crate::kernel::link::{Links, check_loopback};
use crate::kernel::netns::{Inside, unshared};
use crate::kernel::proc::Procfs;
use crate::kernel::process::Deadline;
use crate::kernel::tables::Tables;
use crate::net::{AddrRange, Family, Origin, PortRange};
use crate::nft::ruleset::{
    Base, Chain, Hook, KeyType, Kind, Match, Rule, Set, Side, State, Statement, Table, TableFamily, Verdict,
};
use crate::nft::wire::uapi::ETH_P_ARP;
use crate::sysctl::key::{Key, Setting};

/// Who cannot do without a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Every container that has rules.
    Rules,
    /// Every container that has rules, but where `net-raw: allow` stands in the configuration.
    Guard,
    /// Containers whose rules follow policies.
    Policies,
    /// Containers under `net-admin: host-side`.
    HostSide,
    /// Every container.
    Hook,
    /// Nobody: there is another way.
    Nobody,
}

/// One feature, and what came of trying it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// What it is.
    pub name: &'static str,
    /// What has to be built into the kernel, or loaded as a module; empty where it is no matter of that.
    pub symbol: &'static str,
    /// Who needs it.
    pub need: Need,
    /// What the kernel said, in words, where it refused.
    pub outcome: Result<(), String>,
}

/// Tries everything, on a thread of its own: that joins another namespace, and never comes back.
///
/// # Errors
/// [`Cause::CapabilityMissing`] and [`Cause::Join`] where no namespace can be made, so that nothing can be tried.
pub fn tried(deadline: Deadline) -> Result<Vec<Tried>, Failure> {
    let trying = std::thread::Builder::new().name("features".to_owned()).spawn(move || {
        // As in a start: opened where the host's /proc is, before anything is joined.
        let procfs = Procfs::open();
        let inside = unshared()?;
        let mut all: Vec<Tried> = features().into_iter().map(|feature| feature.tried(&inside, deadline)).collect();
        all.push(Tried {
            name: "sysctls of a namespace",
            symbol: "CONFIG_SYSCTL",
            need: Need::Hook,
            outcome: procfs.and_then(|procfs| write_sysctl(&procfs, &inside)).map_err(|failure| said(&failure)),
        });
        all.push(Tried {
            name: "loopback",
            symbol: "CONFIG_INET",
            need: Need::Hook,
            outcome: raise_loopback(&inside, deadline).map_err(|failure| said(&failure)),
        });
        // Last: it leads back to where the process is.
        drop(inside);
        all.push(Tried {
            name: "joining a namespace by pidfd",
            symbol: "Linux 5.8",
            need: Need::Nobody,
            outcome: join_by_pidfd(),
        });
        Ok(all)
    });
    let refused = |problem: &str| Failure::new("try what the kernel can", Cause::Internal(problem.to_owned()));
    trying.map_err(|_| refused("no thread could be started"))?.join().unwrap_or_else(|_| Err(refused("it panicked")))
}

/// What was refused, without what was tried: that is named beside it.
fn said(failure: &Failure) -> String {
    failure.cause.to_string()
}

struct Feature {
    name: &'static str,
    symbol: &'static str,
    need: Need,
    table: Table,
}

impl Feature {
    /// Each has a table of its own name, so that none has to be taken away before the next: that would take a grace period.
    fn tried(self, inside: &Inside, deadline: Deadline) -> Tried {
        let Feature { name, symbol, need, table } = self;
        let loaded = Tables::open(inside, deadline).and_then(|mut tables| tables.install(&table, None));
        Tried { name, symbol, need, outcome: loaded.map(drop).map_err(|failure| said(&failure)) }
    }
}

fn features() -> Vec<Feature> {
    let set = |name: &str, key: &[KeyType], kind: Kind, spans: &[(u128, u128)]| Set {
        name: name.to_owned(),
        key: key.to_vec(),
        kind,
        spans: spans.iter().map(|(first, last)| AddrRange { first: *first, last: *last }).collect(),
    };
    let (v4, v6) = (KeyType::Ipv4Addr, KeyType::Ipv6Addr);
    let (documentation, one) = (0xc000_0200_u128, 0x2001_0db8_u128 << 96);
    let of = |family| move |set: &str| Match::AddressIn(Side::Destination, family, set.to_owned());
    let (in_v4, in_v6) = (of(Family::V4), of(Family::V6));
    let remember =
        Statement::Remember { side: Side::Destination, family: Family::V4, ports: true, set: "seen".to_owned() };
    let bounded = Kind::Dynamic { size: 16, timeout_s: 60 };
    vec![
        inet("tables of both IP families", "CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET", Vec::new(), Vec::new()),
        inet("counters", "CONFIG_NF_TABLES", Vec::new(), vec![rule(&[], &[Statement::Count], None)]),
        inet(
            "connection tracking",
            "CONFIG_NF_CONNTRACK, CONFIG_NFT_CT",
            Vec::new(),
            vec![
                rule(&[Match::State(State::Established)], &[], Some(Verdict::Accept)),
                rule(&[Match::State(State::Related)], &[], Some(Verdict::Accept)),
            ],
        ),
        inet(
            "addresses of one's own",
            "CONFIG_NFT_FIB_INET",
            Vec::new(),
            vec![rule(&[Match::OutLoopback, Match::LocalSource, Match::LocalDestination], &[], Some(Verdict::Accept))],
        ),
        inet(
            "refusing with an answer",
            "CONFIG_NFT_REJECT_INET",
            Vec::new(),
            vec![
                rule(&[Match::Protocol(6)], &[], Some(Verdict::RejectWithReset)),
                rule(&[], &[], Some(Verdict::Reject)),
            ],
        ),
        inet(
            "sets of addresses and ports",
            "CONFIG_NF_TABLES (CONFIG_NFT_HASH before Linux 5.0)",
            vec![set("exact", &[v4], Kind::Hash, &[(documentation + 1, documentation + 1)])],
            vec![rule(&[in_v4("exact"), Match::Port(PortRange::ALL)], &[], Some(Verdict::Return))],
        ),
        inet(
            "sets of ranges",
            "CONFIG_NF_TABLES (CONFIG_NFT_RBTREE before Linux 5.0)",
            vec![set("ranges", &[v4], Kind::Interval, &[(documentation, documentation + 255)])],
            vec![rule(&[in_v4("ranges")], &[], Some(Verdict::Return))],
        ),
        inet(
            "sets of ranges of several fields",
            "CONFIG_NF_TABLES, Linux 5.6",
            vec![set(
                "boxes",
                &[v4, KeyType::InetService],
                Kind::Interval,
                &[(documentation, documentation + 255), (8000, 8999)],
            )],
            vec![rule(
                &[Match::AddressPortIn(Side::Destination, Family::V4, "boxes".to_owned())],
                &[],
                Some(Verdict::Return),
            )],
        ),
        inet(
            "sets that packets fill",
            "CONFIG_NF_TABLES",
            vec![set("seen", &[v4, KeyType::InetProto, KeyType::InetService], bounded, &[])],
            vec![rule(&[], &[remember, Statement::Count], None)],
        ),
        Feature {
            need: Need::Policies,
            ..inet(
                "sets whose members come and go",
                "CONFIG_NF_TABLES",
                vec![set("peers", &[v4], Kind::Members, &[(documentation + 1, documentation + 1)])],
                vec![rule(&[in_v4("peers")], &[], Some(Verdict::Return))],
            )
        },
        inet(
            "IPv6",
            "CONFIG_IPV6, CONFIG_NF_TABLES_IPV6",
            vec![set("six", &[v6], Kind::Hash, &[(one, one)])],
            vec![
                rule(&[in_v6("six")], &[], Some(Verdict::Return)),
                rule(&[Match::Icmpv6Type(135, 136), Match::HopLimit(255)], &[], Some(Verdict::Accept)),
            ],
        ),
        netdev("a filter behind every socket", "CONFIG_NF_TABLES_NETDEV, CONFIG_NETFILTER_EGRESS (Linux 5.16)", {
            vec![
                rule(&[Match::EtherType(ETH_P_ARP)], &[], Some(Verdict::Accept)),
                rule(&[Match::UserSocket], &[Statement::Count], Some(Verdict::Drop)),
            ]
        }),
        netdev("dropping ARP without telling", "CONFIG_NFT_FWD_NETDEV (Linux 5.18)", {
            vec![rule(&[Match::EtherType(ETH_P_ARP), Match::UserSocket], &[Statement::Count], Some(Verdict::Swallow))]
        }),
        netdev("telling what was routed", "CONFIG_IP_ROUTE_CLASSID", {
            vec![rule(&[Match::Routed], &[], Some(Verdict::Accept))]
        }),
        host_side(),
    ]
    .into_iter()
    .enumerate()
    .map(|(number, mut feature)| {
        // Members are looked for in the table that a container has.
        if feature.need != Need::Policies {
            feature.table.name = format!("netlatch-feature-{number}");
        }
        feature
    })
    .collect()
}

fn rule(matches: &[Match], statements: &[Statement], verdict: Option<Verdict>) -> Rule {
    Rule { matches: matches.to_vec(), statements: statements.to_vec(), verdict, comment: "tried".to_owned() }
}

fn inet(name: &'static str, symbol: &'static str, sets: Vec<Set>, rules: Vec<Rule>) -> Feature {
    let chain = |hook: Hook, rules| Chain {
        name: hook.name().to_owned(),
        base: Some(Base { hook, accepts: true, devices: Vec::new(), every_device: false }),
        rules,
    };
    let chains = vec![chain(Hook::Output, rules), chain(Hook::Input, Vec::new()), chain(Hook::Forward, Vec::new())];
    Feature { name, symbol, need: Need::Rules, table: Table { sets, chains, ..Table::empty(TableFamily::Inet) } }
}

fn netdev(name: &'static str, symbol: &'static str, rules: Vec<Rule>) -> Feature {
    Feature { name, symbol, need: Need::Guard, table: at_lo(Hook::Egress, rules) }
}

fn host_side() -> Feature {
    let symbol = "CONFIG_NF_TABLES_NETDEV, CONFIG_NETFILTER_INGRESS";
    let rules = vec![rule(&[Match::FrameType(ETH_P_ARP)], &[], Some(Verdict::Accept))];
    Feature { name: "rules at the host's side", symbol, need: Need::HostSide, table: at_lo(Hook::Ingress, rules) }
}

/// A chain on the one device that every namespace has.
fn at_lo(hook: Hook, rules: Vec<Rule>) -> Table {
    let base = Some(Base { hook, accepts: true, devices: vec!["lo".to_owned()], every_device: false });
    Table { chains: vec![Chain { name: hook.name().to_owned(), base, rules }], ..Table::empty(TableFamily::Netdev) }
}

/// Writes a sysctl that is another than it was, and reads it back.
fn write_sysctl(procfs: &Procfs, inside: &Inside) -> Result<(), Failure> {
    let ours = |problem: String| Failure::new("name a sysctl", Cause::Internal(problem));
    let key = Key::parse("net.ipv4.ip_default_ttl").map_err(|error| ours(error.to_string()))?;
    let value = if procfs.read(inside, &key)?.as_deref() == Some("63") { "64" } else { "63" };
    let setting = Setting::new(key, value, Origin::Builtin("doctor")).map_err(|error| ours(error.to_string()))?;
    procfs.write(inside, &setting).map(drop)
}

fn raise_loopback(inside: &Inside, deadline: Deadline) -> Result<(), Failure> {
    check_loopback(&Links::open(inside)?.raise_loopback(&deadline)?)
}

/// Joins the namespace that this process is in, as the hook joins a container's.
fn join_by_pidfd() -> Result<(), String> {
    let said = |call: &str, errno: Errno| format!("{call} said {errno:?}");
    let own = Pid::from_raw(getpid().as_raw()).ok_or_else(|| "this process has no number".to_owned())?;
    let pidfd = pidfd_open(own, PidfdFlags::empty())
        .map_err(|error| said("pidfd_open", Errno::from_raw(error.raw_os_error())))?;
    setns(pidfd, CloneFlags::CLONE_NEWNET).map_err(|errno| said("setns on a pidfd", errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_has_a_name_and_a_table_of_its_own() {
        let all = features();
        for (index, feature) in all.iter().enumerate() {
            let others = &all[index + 1..];
            assert!(others.iter().all(|other| other.name != feature.name && other.table.name != feature.table.name));
            assert!(feature.symbol.contains("CONFIG_"), "{}", feature.name);
        }
    }
}
