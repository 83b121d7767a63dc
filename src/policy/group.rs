//! The address groups of the list grammar: `@internet`, `@private`, `@host`, `@metadata`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::LazyLock;

use crate::net::{AddrRange, Cidr, Family, bits_of, merge, subtract};

/// A named set of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// Globally reachable unicast, by the IANA special-purpose address registries.
    Internet,
    /// RFC 1918 and RFC 4193.
    Private,
    /// The addresses of the host the container runs on.
    Host,
    /// The cloud metadata services, and the same through NAT64.
    Metadata,
}

impl Group {
    /// Every group, in the order of the grammar.
    pub const ALL: [Group; 4] = [Group::Internet, Group::Private, Group::Host, Group::Metadata];

    /// The name, without the `@`.
    pub const fn name(self) -> &'static str {
        match self {
            Group::Internet => "internet",
            Group::Private => "private",
            Group::Host => "host",
            Group::Metadata => "metadata",
        }
    }

    /// The addresses of `family`, merged. `host` are the host's own, read before its namespace was left.
    pub fn ranges(self, family: Family, host: &[IpAddr]) -> Vec<AddrRange> {
        match self {
            Group::Internet => INTERNET[usize::from(family == Family::V6)].clone(),
            Group::Private => blocks(PRIVATE, family),
            Group::Host => merge(host.iter().filter(|a| Family::of(**a) == family).map(|a| single(*a)).collect()),
            Group::Metadata => merge(metadata().filter(|a| Family::of(*a) == family).map(single).collect()),
        }
    }

    /// Whether `addr` belongs to the group.
    pub fn contains(self, addr: IpAddr, host: &[IpAddr]) -> bool {
        let (bits, family) = (bits_of(addr), Family::of(addr));
        let within = |ranges: &[AddrRange]| ranges.iter().any(|r| r.first <= bits && bits <= r.last);
        match self {
            Group::Internet => within(&INTERNET[usize::from(family == Family::V6)]),
            Group::Private | Group::Host | Group::Metadata => within(&self.ranges(family, host)),
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.name())
    }
}

/// There is no group of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown group; the groups are @internet, @private, @host and @metadata")]
pub struct UnknownGroup;

impl FromStr for Group {
    type Err = UnknownGroup;

    /// Parses the name without the `@`.
    fn from_str(name: &str) -> Result<Group, UnknownGroup> {
        Group::ALL.into_iter().find(|group| group.name() == name).ok_or(UnknownGroup)
    }
}

const fn single(addr: IpAddr) -> AddrRange {
    Cidr::host(addr).range()
}

fn blocks(texts: &[&str], family: Family) -> Vec<AddrRange> {
    // The tables below are constants that a test parses; a typo there must not become a missing block here.
    #[allow(clippy::expect_used)]
    let parsed = texts.iter().map(|text| text.parse::<Cidr>().expect("a constant of this module parses"));
    merge(parsed.filter(|block| block.family() == family).map(|block| block.range()).collect())
}

/// RFC 1918 and RFC 4193. Not 100.64.0.0/10: RFC 6598 says that shared space is not private space.
const PRIVATE: &[&str] = &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];

/// What is not globally reachable unicast: the IANA IPv4 and IPv6 Special-Purpose Address Registries (rows with
/// "Globally Reachable: False" or "N/A", RFC 6890 and its successors), and multicast.
const NOT_GLOBAL: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24", // 6to4 relay anycast, deprecated by RFC 7526
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16", // 6to4 carries any IPv4 address, private ones too
    "3fff::/20",
];

/// Rows inside the blocks above that are globally reachable after all.
const GLOBAL_AFTER_ALL: &[&str] = &[
    "192.0.0.9/32",
    "192.0.0.10/32",
    "2001:1::1/128",
    "2001:1::2/128",
    "2001:1::3/128",
    "2001:3::/32",
    "2001:4:112::/48",
    "2001:20::/28",
    "2001:30::/28",
];

/// IPv6 global unicast is what IANA allocates from 2000::/3 (IANA IPv6 address space registry).
const GLOBAL_UNICAST: &[&str] = &["0.0.0.0/0", "2000::/3"];

/// RFC 6052's well-known prefix. A translator turns the low 32 bits into an IPv4 destination, so this prefix is as
/// far-reaching as what it embeds: the internet's part of it only.
const NAT64_WELL_KNOWN: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0);
/// RFC 8215's prefix for translators inside one network, in its /96 form.
const NAT64_LOCAL: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0);

/// By family, IPv4 first. Made once: a list may name the group in each of its entries.
static INTERNET: LazyLock<[Vec<AddrRange>; 2]> = LazyLock::new(|| Family::BOTH.map(internet));

fn internet(family: Family) -> Vec<AddrRange> {
    let unicast = subtract(&blocks(GLOBAL_UNICAST, family), &blocks(NOT_GLOBAL, family));
    let mut all = [unicast, blocks(GLOBAL_AFTER_ALL, family)].concat();
    if family == Family::V6 {
        let prefix = NAT64_WELL_KNOWN.to_bits();
        all.extend(
            internet(Family::V4).into_iter().map(|r| AddrRange { first: prefix | r.first, last: prefix | r.last }),
        );
    }
    merge(all)
}

/// The metadata services: AWS, Azure, GCP and most others on 169.254.169.254; AWS over IPv6; AWS task and pod
/// credentials; Azure's wire server; Alibaba. (facts: peers.md, bypass 18)
const METADATA_V4: [Ipv4Addr; 5] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(100, 100, 100, 200),
];
const METADATA_V6: [Ipv6Addr; 1] = [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)];

/// Every address of `@metadata`.
pub fn metadata() -> impl Iterator<Item = IpAddr> {
    let translated = [NAT64_WELL_KNOWN, NAT64_LOCAL].into_iter().flat_map(|prefix| {
        METADATA_V4.into_iter().map(move |v4| Ipv6Addr::from_bits(prefix.to_bits() | u128::from(v4.to_bits())))
    });
    METADATA_V4.into_iter().map(IpAddr::V4).chain(METADATA_V6.into_iter().chain(translated).map(IpAddr::V6))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_group(group: Group, addr: &str) -> bool {
        group.contains(addr.parse().unwrap(), &["198.51.100.1".parse().unwrap(), "2001:db8::1".parse().unwrap()])
    }

    #[test]
    fn the_internet_is_global_unicast_and_nothing_else() {
        for inside in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.0.9",
            "223.255.255.255",
            "2000::",
            "2606:4700::1111",
            "2001:200::1",
            "2001:4:112::1",
            "64:ff9b::1.1.1.1",
        ] {
            assert!(in_group(Group::Internet, inside), "{inside}");
        }
        for outside in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.1",
            "192.168.1.1",
            "198.18.0.1",
            "203.0.113.5",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "2002:a9fe:a9fe::1",
            "::ffff:1.1.1.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::1.1.1.1",
            "4000::1",
            "3fff::1",
        ] {
            assert!(!in_group(Group::Internet, outside), "{outside}");
        }
    }

    #[test]
    fn the_other_groups_hold_what_they_say() {
        assert!(in_group(Group::Private, "172.31.255.255") && in_group(Group::Private, "fdff::1"));
        assert!(!in_group(Group::Private, "172.32.0.0") && !in_group(Group::Private, "100.64.0.1"));
        assert!(in_group(Group::Host, "198.51.100.1") && in_group(Group::Host, "2001:db8::1"));
        assert!(!in_group(Group::Host, "198.51.100.2"));
        for addr in ["169.254.169.254", "fd00:ec2::254", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:aa02", "168.63.129.16"]
        {
            assert!(in_group(Group::Metadata, addr), "{addr}");
        }
        assert!(!in_group(Group::Metadata, "169.254.169.253"));
    }
}
