//! Policy layers in short: what tests of tables, packets and laws build theirs from.

use netlatch::net::{Direction, Family, Member, PortRange, Service, Transport, Transports, merge};
use netlatch::nft::filter::{
    Denial, Entry, Filter, Group, Ipv6Traffic, Otherwise, Peers, PolicyLayer, Ruling, Run, Tier,
};

/// A member: `10.0.0.1`, `10.0.0.1 tcp/80`.
pub(crate) fn member(text: &str) -> Member {
    let (address, port) = text.split_once(' ').map_or((text, None), |(address, port)| (address, Some(port)));
    let port = port.map(|port| {
        let (transport, port) = port.split_once('/').expect("transport/port");
        let transport = Transport::ALL.into_iter().find(|t| t.name() == transport).expect("a transport");
        (transport, port.parse().expect("a port"))
    });
    Member { address: address.parse().expect("an address"), port }
}

/// Sorted members.
pub(crate) fn members(texts: &[&str]) -> Vec<Member> {
    let mut members: Vec<Member> = texts.iter().map(|text| member(text)).collect();
    members.sort_unstable();
    members
}

/// One port, or all of one transport.
pub(crate) fn ports(transports: Transports, first: u16, last: u16) -> Service {
    Service::Ports { transports, ports: PortRange::new(first, last).expect("a range") }
}

pub(crate) const TCP: Transports = Transports::One(Transport::Tcp);

/// A group of peers with its service.
pub(crate) fn group(set: &str, service: Option<Service>, texts: &[&str]) -> Group {
    Group { set: set.to_owned(), service, members: members(texts), origin: format!("policy of {set}") }
}

/// Blocks with a service.
pub(crate) fn entry(service: Service, blocks: &[&str]) -> Entry {
    let of = |family| {
        let blocks = blocks.iter().map(|block| block.parse::<netlatch::net::Cidr>().expect("a block"));
        merge(blocks.filter(|block| block.family() == family).map(|block| block.range()).collect())
    };
    let origin = format!("policy of {}", blocks.join(" "));
    Entry { deny: false, peers: Peers::ranges(of(Family::V4), of(Family::V6)), service, origin: origin.into() }
}

pub(crate) fn run(ruling: Ruling, entries: Vec<Entry>, groups: Vec<Group>) -> Run {
    Run { ruling, entries, groups }
}

pub(crate) fn tier(name: &'static str, runs: Vec<Run>, otherwise: Otherwise) -> Tier {
    Tier { name, runs, otherwise, origin: format!("{name} policies") }
}

pub(crate) fn policy(direction: Direction, denial: Denial, tiers: Vec<Tier>) -> PolicyLayer {
    PolicyLayer { direction, denial, tiers }
}

/// A filter of policies alone.
pub(crate) fn filter(policies: Vec<PolicyLayer>) -> Filter {
    Filter { ipv6: Ipv6Traffic::Filtered, router_advertisements: false, layers: Vec::new(), policies }
}
