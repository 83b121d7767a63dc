//! Where lists meet nftables: from what was written to the layers of a [`Filter`](crate::nft::filter::Filter).

use std::net::IpAddr;

use crate::net::{AddrRange, Cidr, Direction, Family, Service, merge, subtract};
use crate::nft::filter::{Denial, Entry, Layer, Otherwise};
use crate::policy::group::{Group, metadata};
use crate::policy::list::{List, Peer};

/// The layer of one list.
pub fn of_list(name: &'static str, direction: Direction, list: &List, denial: Denial, host: &[IpAddr]) -> Layer {
    let entries = list.entries().iter().map(|entry| Entry {
        deny: entry.deny,
        v4: entry.peer.ranges(Family::V4, host),
        v6: entry.peer.ranges(Family::V6, host),
        service: entry.service,
        origin: format!("{}: {}", entry.origin, entry.text),
    });
    let origin = list.entries().first().map_or_else(|| format!("{direction}: none"), |entry| entry.origin.to_string());
    Layer { name, direction, otherwise: Otherwise::Deny, denial, entries: entries.collect(), origin }
}

/// The layer of what is always denied: `groups`, less the addresses that one of `overriding` names exactly.
///
/// A list that names such an address still has to allow the packet, so an override opens what the list says and
/// nothing more. `None` where nothing is left to deny.
pub fn always_denied(
    groups: impl IntoIterator<Item = Group>,
    overriding: &[&List],
    denial: Denial,
    host: &[IpAddr],
    origin: &str,
) -> Option<Layer> {
    let entries: Vec<Entry> = groups
        .into_iter()
        .filter_map(|group| {
            let denied = |family| subtract(&group.ranges(family, host), &named(overriding, family));
            let entry = Entry {
                deny: true,
                v4: denied(Family::V4),
                v6: denied(Family::V6),
                service: Service::Everything,
                origin: format!("{origin}: {group}"),
            };
            (!entry.v4.is_empty() || !entry.v6.is_empty()).then_some(entry)
        })
        .collect();
    (!entries.is_empty()).then(|| Layer {
        name: "always",
        direction: Direction::Egress,
        otherwise: Otherwise::Continue,
        denial,
        entries,
        origin: origin.to_owned(),
    })
}

/// The single addresses that the lists name, merged.
fn named(lists: &[&List], family: Family) -> Vec<AddrRange> {
    let blocks =
        lists.iter().flat_map(|list| list.entries()).filter(|entry| !entry.deny).filter_map(|entry| match entry.peer {
            Peer::Block(block) if block.is_host() => Some(block),
            Peer::Any | Peer::Block(_) | Peer::Group(_) => None,
        });
    let metadata = metadata().filter(|_| lists.iter().any(|list| names_metadata(list))).map(Cidr::host);
    merge(blocks.chain(metadata).filter(|block| block.family() == family).map(|block| block.range()).collect())
}

fn names_metadata(list: &List) -> bool {
    list.entries().iter().any(|entry| !entry.deny && entry.peer == Peer::Group(Group::Metadata))
}
