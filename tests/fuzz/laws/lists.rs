//! Egress and ingress lists. The input is one list.

use std::net::IpAddr;

use netlatch::net::{Direction, Family, Origin, Packet, Payload, Service, Transport};
use netlatch::nft::build::build;
use netlatch::nft::filter::{Denial, Filter, Ipv6Traffic};
use netlatch::nft::ruleset::Table;
use netlatch::plan::layers;
use netlatch::policy::list::List;

/// Packets are made from this many entries at most, for each is put to every entry.
const ASKED: usize = 12;

/// A list is the same when it is written again, whatever the order, and the ruleset does what the list says: at the edges of
/// every block and every range of ports.
pub(crate) fn holds(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let origin = Origin::Annotation { key: "io.netlatch.egress".into() };
    let list = match List::parse(text, &origin) {
        Ok(list) => list,
        Err(problems) => {
            assert!(!problems.is_empty());
            return problems.iter().for_each(|problem| {
                let told = netlatch::document::clipped(problem.to_string());
                super::assert_line(&told);
            });
        }
    };
    super::annotations::assert_same_again(&list, &origin);
    let host: Vec<IpAddr> = ["198.51.100.1", "2001:db8::1"].map(|text| text.parse().expect("an address")).to_vec();
    for direction in Direction::BOTH {
        let Some(table) = table(&list, direction, &host, &origin) else { continue };
        super::assert_loads(&table);
        for packet in packets(&list, direction, &host) {
            let passes = table.decide(&packet).outcome.passes();
            assert_eq!(passes, list.allows(&packet, &host), "{packet:?}\n{table}");
            assert_eq!(passes, list.deciding(&packet, &host).is_some_and(|entry| !entry.deny()));
        }
    }
}

fn table(list: &List, direction: Direction, host: &[IpAddr], origin: &Origin) -> Option<Table> {
    let layer = layers::of_list("annotation", direction, list, Denial::Reject, host, origin);
    let filter =
        Filter { ipv6: Ipv6Traffic::Filtered, router_advertisements: false, layers: vec![layer], policies: Vec::new() };
    match build(&filter, String::new()) {
        Ok(table) => Some(table),
        Err(failure) => {
            super::assert_failure(&failure, &[41]);
            None
        }
    }
}

/// Packets from and to the edges of what the first entries name.
fn packets(list: &List, direction: Direction, host: &[IpAddr]) -> Vec<Packet> {
    let (mut addresses, mut payloads) = (Vec::new(), vec![Payload::Icmp { kind: 8 }, Payload::Other(47)]);
    for entry in list.entries().take(ASKED) {
        for family in Family::BOTH {
            let ranges = entry.peer().ranges(family, host);
            for range in ranges.first().into_iter().chain(ranges.last()) {
                let edges = [range.first, range.last, range.first.saturating_sub(1), range.last.saturating_add(1)];
                addresses.extend(edges.map(|bits| family.address(bits.min(family.max()))));
            }
        }
        if let Service::Ports { ports, .. } = entry.service() {
            let edges = [ports.first(), ports.last(), ports.first().saturating_sub(1), ports.last().saturating_add(1)];
            payloads.extend(
                edges.into_iter().flat_map(|port| Transport::ALL.map(|protocol| Payload::Transport { protocol, port })),
            );
        }
    }
    addresses.sort_unstable();
    addresses.dedup();
    let packet = |peer: &IpAddr| {
        payloads.iter().map(|payload| Packet { direction, peer: *peer, payload: *payload }).collect::<Vec<_>>()
    };
    addresses.iter().flat_map(packet).collect()
}
