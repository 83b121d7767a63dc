//! Where lists meet nftables: from what was written to the layers of a [`Filter`](crate::nft::filter::Filter).

use std::net::IpAddr;

use crate::net::{AddrRange, Cidr, Cited, Direction, Family, Origin, Service, bits_of, merge, subtract};
use crate::nft::filter::{Denial, Entry, Layer, Otherwise, Peers};
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
    let entries = list.entries().map(|entry| Entry {
        deny: entry.deny(),
        peers: match entry.peer() {
            Peer::Block(block) => Peers::Block(block),
            peer => Peers::ranges(peer.ranges(Family::V4, host), peer.ranges(Family::V6, host)),
        },
        service: entry.service(),
        origin: entry.cited(),
    });
    Layer {
        name,
        direction,
        otherwise: Otherwise::Deny,
        denial,
        exceptions: Vec::new(),
        entries: entries.collect(),
        origin: origin.to_string(),
    }
}

/// An address that a rule names exactly, and what it lets be spoken to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The address.
    pub address: IpAddr,
    /// What is spoken.
    pub service: Service,
    /// Where it was written.
    pub origin: String,
}

/// The layer of what is always denied: `groups`, less what an entry of `lists` that names an address exactly says of it,
/// and what `opened_by_policies` says.
///
/// An address of which everything is opened is not in the groups any more. Of another the layer has exceptions, for which
/// it needs a chain of its own. Either way the list or the policy still has to let the packet pass, so that an override
/// opens what was written and nothing more. `None` where nothing is left to deny.
pub fn always_denied(
    groups: impl IntoIterator<Item = Group>,
    lists: &[&List],
    opened_by_policies: &[Opening],
    denial: Denial,
    host: &[IpAddr],
    origin: &str,
) -> Option<Layer> {
    let is_whole = |service: Service| matches!(service, Service::Everything);
    // Of 200,000 entries hardly any opens anything.
    let opening = || lists.iter().flat_map(|list| list.entries().filter(opens));
    let groups: Vec<Group> = groups.into_iter().collect();
    let of_groups =
        Family::BOTH.map(|family| merge(groups.iter().flat_map(|group| group.ranges(family, host)).collect()));
    // A list may name 200,000 addresses, of which hardly any is in the groups.
    let is_denied = |address: &IpAddr| contains(&of_groups[usize::from(address.is_ipv6())], *address);
    let whole: Vec<IpAddr> = opening()
        .filter(|entry| is_whole(entry.service()))
        .flat_map(|entry| named(&entry))
        .chain(opened_by_policies.iter().filter(|opening| is_whole(opening.service)).map(|opening| opening.address))
        .filter(is_denied)
        .collect();
    let opened = Family::BOTH.map(|family| hosts(&whole, family));
    let mut denied = [Vec::new(), Vec::new()];
    let entry = |group: Group| {
        let [v4, v6] = [0, 1].map(|i| subtract(&group.ranges(Family::BOTH[i], host), &opened[i]));
        denied[0].extend(&v4);
        denied[1].extend(&v6);
        let any = !v4.is_empty() || !v6.is_empty();
        let origin = Cited::from(format!("{origin}: {group}"));
        any.then(|| Entry { deny: true, peers: Peers::ranges(v4, v6), service: Service::Everything, origin })
    };
    let denying: Vec<Entry> = groups.into_iter().filter_map(entry).collect();
    let denied = denied.map(merge);
    let exception = |mut addresses: Vec<IpAddr>, service, origin: &dyn Fn() -> Cited| {
        addresses.retain(|address| contains(&denied[usize::from(address.is_ipv6())], *address));
        let [v4, v6] = Family::BOTH.map(|family| hosts(&addresses, family));
        (!addresses.is_empty()).then(|| Entry { deny: false, peers: Peers::ranges(v4, v6), service, origin: origin() })
    };
    let of_lists = opening()
        .filter(|entry| !is_whole(entry.service()))
        .filter_map(|entry| exception(named(&entry).collect(), entry.service(), &|| entry.cited()));
    let of_policies = opened_by_policies.iter().filter(|opening| !is_whole(opening.service));
    let of_policies = of_policies
        .filter_map(|opening| exception(vec![opening.address], opening.service, &|| opening.origin.as_str().into()));
    let exceptions = of_lists.chain(of_policies).collect();
    (!denying.is_empty()).then(|| Layer {
        name: "always",
        direction: Direction::Egress,
        otherwise: Otherwise::Continue,
        denial,
        exceptions,
        entries: denying,
        origin: origin.to_owned(),
    })
}

/// The addresses of a family, merged.
fn hosts(addresses: &[IpAddr], family: Family) -> Vec<AddrRange> {
    let own = addresses.iter().filter(|address| Family::of(**address) == family);
    merge(own.map(|address| Cidr::host(*address).range()).collect())
}

/// Whether an address is in merged ranges of its family.
fn contains(ranges: &[AddrRange], address: IpAddr) -> bool {
    let bits = bits_of(address);
    let at = ranges.partition_point(|range| range.last < bits);
    ranges.get(at).is_some_and(|range| range.first <= bits)
}

/// Whether an entry opens addresses, as [`List::opens`] says: blocks of one, and the metadata services.
fn opens(entry: &crate::policy::list::Entry<'_>) -> bool {
    let names = match entry.peer() {
        Peer::Block(block) => block.is_host(),
        Peer::Group(Group::Metadata) => true,
        Peer::Any | Peer::Group(Group::Internet | Group::Private | Group::Host) => false,
    };
    names && !entry.deny()
}

/// The addresses of an entry that [opens](opens) some.
fn named(entry: &crate::policy::list::Entry<'_>) -> impl Iterator<Item = IpAddr> + use<> {
    let one = match entry.peer() {
        Peer::Block(block) => Some(block.first()),
        Peer::Any | Peer::Group(_) => None,
    };
    one.into_iter().chain(one.is_none().then(metadata).into_iter().flatten())
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
            .chain(["169.254.169.254".to_owned()])
            .collect();
        let list = List::parse(&text.join(","), &Origin::Builtin("test")).unwrap();
        let layer = always_denied([Group::Metadata], &[&list], &[], Denial::Reject, &[], "test").unwrap();
        let named = Cidr::host("169.254.169.254".parse().unwrap()).range();
        assert!(!layer.entries[0].ranges(Family::V4).contains(&named) && layer.exceptions.is_empty());
        let all = always_denied([Group::Metadata], &[], &[], Denial::Reject, &[], "test").unwrap();
        assert_eq!(all.entries[0].ranges(Family::V4).len(), layer.entries[0].ranges(Family::V4).len() + 1);
        // With ports each is an exception, where it is denied at all.
        let text = text.join(":80,").replace("169.254.169.254", "169.254.169.254:80");
        let list = List::parse(&text, &Origin::Builtin("test")).unwrap();
        let layer = always_denied([Group::Metadata], &[&list], &[], Denial::Reject, &[], "test").unwrap();
        assert_eq!((layer.entries, layer.exceptions.len()), (all.entries, 1));
        let layer = always_denied([Group::Internet], &[&list], &[], Denial::Reject, &[], "test").unwrap();
        assert!(layer.exceptions.len() > MAX_ENTRIES / 2, "{}", layer.exceptions.len());
    }
}
