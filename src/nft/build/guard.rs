//! The table of family netdev that closes what the IP stack's hooks never see.
//!
//! A packet socket (AF_PACKET) hands its frames to the device itself, past `output` and, with `PACKET_QDISC_BYPASS`, past
//! traffic control too. The egress hook of netdev sees both (`__dev_queue_xmit`; `packet_direct_xmit` calls
//! `nf_hook_direct_egress`). It lets out only what has passed the IP stack:
//!
//! ```text
//! egress   routed: accept            what IP sends or forwards, whose hooks have judged it
//!          a process's own: drop     packet sockets, and the likes of PPPoE and LLC sockets; ARP without telling
//!          ARP: accept               the kernel's own, which nobody routes
//!          drop
//! ```
//!
//! **Why it is sound.** `meta rtclassid` reads the realm of the packet's route, `skb_dst(skb)`, and where there is no route
//! the expression does not match (`nft_meta_get_eval_rtclassid`). A route is given to a packet by the IP stack alone, on
//! the way to LOCAL_OUT or FORWARD, where our chains are: raw IP sockets, `IP_HDRINCL` included, TCP's resets, ICMP errors,
//! IGMP, MLD and neighbour discovery all go that way. Nothing a process can set turns a frame without a route into one with:
//! there is no number to guess, as a mark would be, which `SO_MARK` sets with CAP_NET_RAW since Linux 5.17. A frame that is bridged or
//! mirrored inside the namespace has none either, and no hook of ours has judged it.
//!
//! **Why ARP is dropped without telling.** Docker 28 announces a container's addresses by a packet socket in its namespace, before the
//! process runs, and starts no container where that fails (moby, `l2disco.UnsolARP`). Nothing tells its frame from
//! one that the container sends to claim a neighbour's address, so it cannot leave; but who sent it may believe that it did. Docker up
//! to 27 announced nothing.
//!
//! The chain hangs on `lo` as well. A frame sent there arrives as if from anywhere: it could make connection tracking take
//! a forbidden flow for the reply to one that never was. That concerns what comes in too, so that `lo` is guarded
//! where only ingress is filtered.
//!
//! **What it costs.** One expression, a comparison and a verdict for each packet that leaves. sendto(2) of 16 bytes over a veth,
//! on Linux 6.18, took 1.06 times as long with it as under our rules without it (median of 120 interleaved pairs, from
//! the 10th to the 90th percentile 0.84 to 1.36: a pair says little), and a start 1.06 times as long (150 pairs).
//!
//! **What passes it.** AF_XDP sockets, which need CAP_NET_RAW: `xsk_generic_xmit` calls `__dev_direct_xmit`, which has no hook.
//! See `netlatch plan`, "not covered".

use super::enforces;
use crate::net::Direction;
use crate::nft::build::{counted, rule};
use crate::nft::filter::{Filter, Ipv6Traffic};
use crate::nft::ruleset::{Base, Chain, Hook, Match, Table, TableFamily, Verdict};
use crate::nft::wire::uapi::ETH_P_ARP;

/// Names that engines give to a container's interfaces: docker, podman and CNI `eth0` and on, Multus `net1` and on,
/// slirp4netns `tap0`. The
/// chain hangs on these from the beginning, so that one that comes later is guarded from its first frame (Linux 6.16; before,
/// poststart adds it). A prefix that takes in every name (`NFTA_DEVICE_PREFIX`, Linux 6.17) would be better, but `nft` up to
/// 1.1.3 never ends a listing that has one (seen with 1.0.6).
pub const LATE_DEVICES: [&str; 17] = [
    "eth0", "eth1", "eth2", "eth3", "eth4", "eth5", "eth6", "eth7", "net1", "net2", "net3", "net4", "net5", "net6",
    "net7", "net8", "tap0",
];

/// The table that guards what `filter` decides; `None` where it denies nothing in earnest. Its comment is the caller's.
pub fn guard(filter: &Filter) -> Option<Table> {
    let egress = enforces(filter, Direction::Egress) || filter.ipv6 != Ipv6Traffic::Filtered;
    if !egress && !enforces(filter, Direction::Ingress) {
        return None;
    }
    let rules = vec![
        rule(vec![Match::Routed], Verdict::Accept, "routed, so judged by output or forward"),
        counted(vec![Match::EtherType(ETH_P_ARP), Match::UserSocket], Verdict::Swallow, "an announcement by hand"),
        counted(vec![Match::UserSocket], Verdict::Drop, "a packet socket's own frame"),
        rule(vec![Match::EtherType(ETH_P_ARP)], Verdict::Accept, "the kernel asks for its neighbours"),
        counted(Vec::new(), Verdict::Drop, "a frame that nobody routed"),
    ];
    let late = if egress { &LATE_DEVICES[..] } else { &[] };
    let devices = std::iter::once("lo").chain(late.iter().copied()).map(str::to_owned).collect();
    let base = Some(Base { hook: Hook::Egress, accepts: false, devices, every_device: egress });
    let chains = vec![Chain { name: Hook::Egress.name().to_owned(), base, rules }];
    Some(Table { chains, ..Table::empty(TableFamily::Netdev) })
}
