//! Where lists meet nftables: from what was written to the layers of a [`Filter`](crate::nft::filter::Filter).

use std::net::IpAddr;

use crate::net::{Cidr, Direction, Family, Origin, Service, merge, subtract};
use crate::nft::filter::{Denial, Entry, Layer, Otherwise};
use crate::policy::group::{Group, metadata};
use crate::policy::list::{List, Peer};

/// The layer of one list.
pub fn of_list(
    name: &'static str,
    direction: Direction,
    list: &List,
    denial: Denial,
    host: &[IpAddr],
    origin: &Origin,
) -> Layer {
    let entries = list.entries().iter().map(|entry| Entry {
        deny: entry.deny,
        v4: entry.peer.ranges(Family::V4, host),
        v6: entry.peer.ranges(Family::V6, host),
        service: entry.service,
        origin: format!("{}: {}", entry.origin, entry.text),
    });
    Layer {
        name,
        direction,
        otherwise: Otherwise::Deny,
        denial,
        entries: entries.collect(),
        origin: origin.to_string(),
    }
}

/// The layer of what is always denied: `groups`, less the addresses that an entry of `lists` names exactly, and those in
/// `named_by_policies`.
///
/// A list or policy that names such an address still has to allow the packet, so an override opens what the list says and
/// nothing more. `None` where nothing is left to deny.
pub fn always_denied(
    groups: impl IntoIterator<Item = Group>,
    lists: &[&List],
    named_by_policies: &[IpAddr],
    denial: Denial,
    host: &[IpAddr],
    origin: &str,
) -> Option<Layer> {
    let opened = |family| {
        let candidates = lists.iter().flat_map(|list| named(list)).chain(named_by_policies.iter().copied());
        let blocks = candidates.filter(|addr| Family::of(*addr) == family).map(Cidr::host);
        merge(blocks.map(|block| block.range()).collect())
    };
    let (v4, v6) = (opened(Family::V4), opened(Family::V6));
    let entry = |group: Group| {
        let entry = Entry {
            deny: true,
            v4: subtract(&group.ranges(Family::V4, host), &v4),
            v6: subtract(&group.ranges(Family::V6, host), &v6),
            service: Service::Everything,
            origin: format!("{origin}: {group}"),
        };
        (!entry.v4.is_empty() || !entry.v6.is_empty()).then_some(entry)
    };
    let entries: Vec<Entry> = groups.into_iter().filter_map(entry).collect();
    (!entries.is_empty()).then(|| Layer {
        name: "always",
        direction: Direction::Egress,
        otherwise: Otherwise::Continue,
        denial,
        entries,
        origin: origin.to_owned(),
    })
}

/// The addresses that [`List::names`] is true of: blocks of one, and the metadata services. All at once, for a list may
/// have 200,000 entries.
fn named(list: &List) -> Vec<IpAddr> {
    let of = |entry: &crate::policy::list::Entry| match entry.peer {
        Peer::Block(block) if block.is_host() => vec![block.first()],
        Peer::Group(Group::Metadata) => metadata().collect(),
        Peer::Any | Peer::Block(_) | Peer::Group(Group::Internet | Group::Private | Group::Host) => Vec::new(),
    };
    list.entries().iter().filter(|entry| !entry.deny).flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::list::MAX_ENTRIES;

    #[test]
    fn the_longest_list_opens_what_it_names() {
        // Compared one by one, these would take minutes.
        let text: Vec<String> = (1..MAX_ENTRIES as u32)
            .map(|n| std::net::Ipv4Addr::from_bits(0x0b00_0000 + 3 * n).to_string())
            .chain(["169.254.169.254:80".to_owned()])
            .collect();
        let list = List::parse(&text.join(","), &Origin::Builtin("test")).unwrap();
        let layer = always_denied([Group::Metadata], &[&list], &[], Denial::Reject, &[], "test").unwrap();
        let named = Cidr::host("169.254.169.254".parse().unwrap()).range();
        assert!(!layer.entries[0].v4.contains(&named));
        let all = always_denied([Group::Metadata], &[], &[], Denial::Reject, &[], "test").unwrap();
        assert_eq!(all.entries[0].v4.len(), layer.entries[0].v4.len() + 1);
    }
}
