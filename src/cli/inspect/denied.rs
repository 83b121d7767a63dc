//! Who was denied lately, and why: what the rules remembered, each put to the specification once more.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use crate::explain::{Container, Said};
use crate::net::Direction;
use crate::nft::build::{AUDIT_SIZE, AUDIT_TIMEOUT_S, DENIED_SIZE, DENIED_TIMEOUT_S};
use crate::nft::wire::listing::{ListedSet, Listing, Seen};
use crate::oci::Mode;
use crate::settings::Settings;

/// Most that are explained of each direction, the latest: asking policies takes its time.
const EXPLAINED: usize = 256;

/// Somebody who was denied, or would have been.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cli) struct Denied {
    pub(in crate::cli) direction: Direction,
    pub(in crate::cli) seen: Seen,
    /// Milliseconds since the last packet.
    pub(in crate::cli) ago_ms: u64,
    /// It passed, and would have been denied: `mode: audit`.
    pub(in crate::cli) audit: bool,
    pub(in crate::cli) why: Why,
}

/// What denies it.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cli) enum Why {
    /// These layers, in the order in which they are asked; at least one.
    Layers(Vec<Said>),
    /// None of today's: its rules were others then.
    Changed,
    /// The kernel itself sent it, for nobody.
    Kernels(&'static str),
    /// It was not asked.
    Unknown,
}

/// A set of those that remember.
struct Remembering {
    direction: Direction,
    audit: bool,
    timeout_ms: u64,
    size: u32,
}

fn remembering(set: &ListedSet) -> Option<Remembering> {
    let direction = Direction::BOTH.into_iter().find(|direction| set.name.starts_with(direction.name()))?;
    let stem = set.name.trim_end_matches(['4', '6']);
    let (audit, timeout_s, size) = match set.dynamic {
        true if stem.ends_with("_seen") => (true, AUDIT_TIMEOUT_S, AUDIT_SIZE),
        true if stem.ends_with("_denied") => (false, DENIED_TIMEOUT_S, DENIED_SIZE),
        true | false => return None,
    };
    Some(Remembering { direction, audit, timeout_ms: u64::from(timeout_s) * 1000, size })
}

/// The sets of a direction that can take nobody any more: who came later was forgotten at once.
pub(in crate::cli) fn full_sets(listing: &Listing, direction: Direction) -> Vec<String> {
    let full = |set: &&ListedSet| {
        remembering(set).is_some_and(|one| one.direction == direction && set.elements >= one.size as usize)
    };
    listing.sets.iter().filter(full).map(|set| set.name.clone()).collect()
}

/// Whether there is a set that would remember what a direction's rules deny, in audit or in earnest.
pub(in crate::cli) fn remembers(listing: &Listing, direction: Direction, audit: bool) -> bool {
    let mut sets = listing.sets.iter().filter_map(remembering);
    sets.any(|one| one.direction == direction && one.audit == audit)
}

/// Everybody whom the sets remember, the latest first, once each, without a reason.
pub(super) fn remembered(listing: &Listing) -> Vec<Denied> {
    let mut all: BTreeMap<_, Denied> = BTreeMap::new();
    for (set, of) in listing.sets.iter().filter_map(|set| remembering(set).map(|of| (set, of))) {
        for seen in &set.seen {
            let ago_ms = of.timeout_ms.saturating_sub(seen.expires_ms);
            let key = (of.direction, of.audit, seen.address, seen.protocol, seen.port);
            let denied = Denied { direction: of.direction, seen: *seen, ago_ms, audit: of.audit, why: Why::Unknown };
            let held = all.entry(key).or_insert(denied);
            if held.ago_ms > ago_ms {
                (held.ago_ms, held.seen) = (ago_ms, *seen);
            }
        }
    }
    let mut all: Vec<Denied> = all.into_values().collect();
    all.sort_by_key(|denied| (denied.ago_ms, denied.direction));
    all
}

/// Settings under which nothing passes for being audited.
pub(in crate::cli) fn in_earnest(settings: &Settings) -> Settings {
    let mut settings = settings.clone();
    settings.mode.value = Mode::Enforce;
    settings.lists.iter_mut().for_each(|layer| layer.mode = Mode::Enforce);
    settings
}

/// Says of each who denies it. `container` has settings [`in_earnest`].
pub(super) fn explain(denied: &mut [Denied], container: &Container<'_>) {
    for direction in Direction::BOTH {
        for one in denied.iter_mut().filter(|one| one.direction == direction).take(EXPLAINED) {
            one.why = why(one, container);
        }
    }
}

fn why(denied: &Denied, container: &Container<'_>) -> Why {
    let Seen { address, .. } = denied.seen;
    if let Some(who) = kernels_own(denied) {
        return Why::Kernels(who);
    }
    let explanation = container.explain(denied.direction, address, denied.seen.payload());
    let layers = explanation.halves.into_iter().flat_map(|half| half.layers);
    let denying: Vec<Said> = layers.filter(|said| !said.allowed).collect();
    if denying.is_empty() { Why::Changed } else { Why::Layers(denying) }
}

/// What the kernel sends by itself and no program asked for. (RFC 4861, 4.1; RFC 3810, 5.2.14)
pub(in crate::cli) fn kernels_own(denied: &Denied) -> Option<&'static str> {
    const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
    const LISTENER_REPORTS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
    match (denied.direction, denied.seen.protocol, denied.seen.address) {
        (Direction::Egress, 58, IpAddr::V6(ALL_ROUTERS)) => Some(
            "the kernel looks for IPv6 routers by itself, and their answers are not let in; no program is kept from anything",
        ),
        (Direction::Egress, 58, IpAddr::V6(LISTENER_REPORTS)) => {
            Some("the kernel reports its multicast groups by itself; no program is kept from anything")
        }
        (Direction::Egress | Direction::Ingress, ..) => None,
    }
}

/// `12 s`, `3 min`, `2 h`.
pub(super) fn ago(ms: u64) -> String {
    match ms / 1000 {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, expires_ms: &[u64]) -> ListedSet {
        let seen = |(n, expires_ms): (usize, &u64)| Seen {
            address: IpAddr::from([10, 0, 0, n as u8]),
            protocol: 6,
            port: 80,
            expires_ms: *expires_ms,
        };
        let seen: Vec<Seen> = expires_ms.iter().enumerate().map(seen).collect();
        ListedSet { name: name.to_owned(), dynamic: true, elements: seen.len(), seen, ..ListedSet::default() }
    }

    #[test]
    fn the_latest_comes_first_and_everybody_once() {
        let sets = vec![
            set("egress_denied4", &[3_599_000, 1_000]),
            set("egress_always_seen4", &[86_399_500]),
            set("egress_annotation_seen4", &[86_399_900]),
            set("ingress_denied6", &[]),
            ListedSet { dynamic: false, ..set("egress_annotation_allow4", &[9]) },
        ];
        let listing = Listing { sets, ..Listing::default() };
        let all = remembered(&listing);
        let told: Vec<(bool, u64)> = all.iter().map(|one| (one.audit, one.ago_ms)).collect();
        assert_eq!(told, [(true, 100), (false, 1000), (false, 3_599_000)]);
        assert!(remembers(&listing, Direction::Ingress, false) && !remembers(&listing, Direction::Ingress, true));
    }

    #[test]
    fn a_set_is_full_where_it_has_as_many_as_it_takes() {
        let mut full = set("egress_denied4", &[]);
        full.elements = DENIED_SIZE as usize;
        let mut nearly = set("egress_annotation_seen6", &[]);
        nearly.elements = AUDIT_SIZE as usize - 1;
        let listing = Listing { sets: vec![full, nearly], ..Listing::default() };
        assert_eq!(full_sets(&listing, Direction::Egress), ["egress_denied4"]);
        assert!(full_sets(&listing, Direction::Ingress).is_empty());
    }

    #[test]
    fn times_are_told_as_people_do() {
        for (ms, text) in
            [(0, "0 s"), (119_999, "119 s"), (120_000, "2 min"), (7_199_000, "119 min"), (7_200_000, "2 h")]
        {
            assert_eq!(ago(ms), text);
        }
    }
}
