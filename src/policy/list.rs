//! Plain egress and ingress lists: their grammar and what they mean for one packet.
//!
//! ```text
//! list  := "none" | entry { separator entry }       separators: commas and white space
//! entry := ["!"] [protocol "/"] peer [":" ports]
//! peer  := "*" | address | block | "[" IPv6 address or block "]" | "@" group
//! ports := port | port "-" port
//! ```
//!
//! A missing protocol means TCP and UDP where ports are given and everything where none are. `!` denies and wins
//! over every allow of its list, whatever the order.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::net::{
    AddrRange, Cidr, CidrError, Cited, Family, Origin, Packet, PortRange, Service, Transport, Transports, Writing,
    Written, plain_block,
};
use crate::policy::group::Group;
use crate::printable;

/// Most entries one list may have. Above it, 100,000 prefixes with room to spare, an input is a mistake.
pub const MAX_ENTRIES: usize = 200_000;

/// Bytes of an entry with what separates it from the next, as they come. A list of shorter ones grows.
const TYPICAL_ENTRY: usize = 16;

/// Who stands at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Anyone, in both families.
    Any,
    /// An address block.
    Block(Cidr),
    /// A group.
    Group(Group),
}

impl Peer {
    /// The addresses of `family`, merged.
    pub fn ranges(&self, family: Family, host: &[IpAddr]) -> Vec<AddrRange> {
        match self {
            Peer::Any => vec![AddrRange::everything(family)],
            Peer::Block(block) if block.family() == family => vec![block.range()],
            Peer::Block(_) => Vec::new(),
            Peer::Group(group) => group.ranges(family, host),
        }
    }

    fn contains(&self, addr: IpAddr, host: &[IpAddr]) -> bool {
        match self {
            Peer::Any => true,
            Peer::Block(block) => block.contains(addr),
            Peer::Group(group) => group.contains(addr, host),
        }
    }
}

/// One entry of a list.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    parsed: &'a Parsed,
    item: &'a Item,
    index: usize,
}

/// What an entry means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Item {
    deny: bool,
    peer: Peer,
    service: Service,
}

impl<'a> Entry<'a> {
    /// Whether it denies.
    pub fn deny(&self) -> bool {
        self.item.deny
    }

    /// Who.
    pub fn peer(&self) -> Peer {
        self.item.peer
    }

    /// What.
    pub fn service(&self) -> Service {
        self.item.service
    }

    /// As written, for messages and for the comments that `nft list ruleset` shows.
    pub fn text(&self) -> &'a str {
        self.parsed.written.text(self.index)
    }

    /// Where it was written.
    pub fn origin(&self) -> Origin {
        self.parsed.written.origin(self.index)
    }

    /// What was written and where.
    pub fn cited(&self) -> Cited {
        Cited::Entry(self.parsed.written.clone(), self.index as u32)
    }

    fn matches(&self, packet: &Packet, host: &[IpAddr]) -> bool {
        self.item.peer.contains(packet.peer, host) && self.item.service.contains(packet.payload)
    }
}

/// A parsed list. Without entries it allows nothing: `none`. Copies share what was parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List(Option<Arc<Parsed>>);

#[derive(Debug, PartialEq, Eq)]
struct Parsed {
    items: Vec<Item>,
    written: Written,
}

/// What is wrong with an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The entry as written; empty where the whole list is meant.
    pub entry: String,
    /// Which entry, counted from 0; `None` where the whole list is meant.
    pub index: Option<usize>,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.entry.is_empty() {
            f.write_str(&printable::line(&self.message))
        } else {
            write!(f, "entry {:?}: {}", self.entry, printable::line(&self.message))
        }
    }
}

impl List {
    /// The list that allows nothing.
    pub const NONE: List = List(None);

    /// Parses a whole list written in one place.
    ///
    /// # Errors
    /// Every problem of every entry.
    pub fn parse(text: &str, origin: &Origin) -> Result<List, Vec<Problem>> {
        let separator = |c: char| c == ',' || c.is_ascii_whitespace();
        let entries = text.split(separator).filter(|entry| !entry.is_empty());
        List::from_entries(entries.map(|entry| (entry, None)), text.len(), origin)
    }

    /// Parses a list whose entries were written apart, each in its own line; all of them at `origin`.
    ///
    /// # Errors
    /// As of [`List::parse`].
    pub fn parse_apart<'a>(
        entries: impl ExactSizeIterator<Item = (&'a str, u32)>,
        origin: &Origin,
    ) -> Result<List, Vec<Problem>> {
        let bytes = entries.len().min(MAX_ENTRIES) * TYPICAL_ENTRY;
        List::from_entries(entries.map(|(text, line)| (text, Some(line))), bytes, origin)
    }

    /// Besides problems of entries there are those of the list: an empty one (write `none`), `none` beside other entries, and
    /// denials only: it would allow nothing, which nobody means by `!192.0.2.0/24`.
    fn from_entries<'a>(
        entries: impl Iterator<Item = (&'a str, Option<u32>)>,
        bytes: usize,
        origin: &Origin,
    ) -> Result<List, Vec<Problem>> {
        let about = (bytes / TYPICAL_ENTRY).min(MAX_ENTRIES);
        let mut items = Vec::with_capacity(about);
        let mut writing = Writing::new(origin, about, bytes);
        let mut problems = Vec::new();
        let (mut none, mut allows) = (None, false);
        let mut count = 0usize;
        for (index, (text, line)) in entries.enumerate() {
            count += 1;
            if count > MAX_ENTRIES {
                let message = format!("more than {MAX_ENTRIES} entries (MAX_ENTRIES)");
                problems.push(Problem { entry: String::new(), index: Some(index), message });
                break;
            }
            if text == "none" {
                none = Some(index);
                continue;
            }
            match parse_entry(text) {
                Ok((deny, peer, service)) => {
                    allows |= !deny;
                    items.push(Item { deny, peer, service });
                    writing.push(text, line);
                }
                Err(message) => problems.push(Problem { entry: text.to_owned(), index: Some(index), message }),
            }
        }
        if none.is_some() && count > 1 {
            let message = "\"none\" stands alone".to_owned();
            problems.push(Problem { entry: "none".to_owned(), index: none, message });
        }
        if count == 0 {
            let message = "the list is empty; write \"none\" to allow nothing".to_owned();
            problems.push(Problem { entry: String::new(), index: None, message });
        }
        let parsed = Parsed { items, written: writing.done() };
        if problems.is_empty() && !allows && !parsed.items.is_empty() {
            let message = "denies only, so the list would allow nothing; write \"*\" beside it, or \"none\"".to_owned();
            problems.push(Problem { entry: parsed.written.text(0).to_owned(), index: Some(0), message });
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(if parsed.items.is_empty() { List::NONE } else { List(Some(Arc::new(parsed))) })
    }

    /// The entries, as written.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = Entry<'_>> + Clone {
        Entries { parsed: self.0.as_deref(), next: 0 }
    }

    /// **The specification**: whether the list lets the first packet of a flow pass. `host` are the host's
    /// addresses, for `@host`.
    pub fn allows(&self, packet: &Packet, host: &[IpAddr]) -> bool {
        let mut matching = self.entries().filter(|entry| entry.matches(packet, host)).peekable();
        matching.peek().is_some() && matching.all(|entry| !entry.deny())
    }

    /// The entry that decides about a packet, a denying one before all others; `None` where none matches, which denies.
    pub fn deciding(&self, packet: &Packet, host: &[IpAddr]) -> Option<Entry<'_>> {
        let matching = || self.entries().filter(|entry| entry.matches(packet, host));
        matching().find(Entry::deny).or_else(|| matching().next())
    }

    /// The entries that let something else through to or from the packet's peer, in order.
    pub fn nearest(&self, packet: &Packet, host: &[IpAddr]) -> impl Iterator<Item = Entry<'_>> {
        let of_peer = |entry: &Entry<'_>| !entry.deny() && entry.peer().contains(packet.peer, host);
        self.entries().filter(of_peer).filter(|entry| !entry.service().contains(packet.payload))
    }

    /// Whether an allowing entry for what the packet carries names exactly its peer: the address itself, or `@metadata`
    /// where it belongs to it. Such an entry opens what is always denied, and of an address nothing but what it says; a wider
    /// block never does.
    pub fn opens(&self, packet: &Packet) -> bool {
        self.entries().any(|entry| {
            !entry.deny()
                && entry.service().contains(packet.payload)
                && match entry.peer() {
                    Peer::Block(block) => block == Cidr::host(packet.peer),
                    Peer::Group(Group::Metadata) => Group::Metadata.contains(packet.peer, &[]),
                    Peer::Any | Peer::Group(Group::Internet | Group::Private | Group::Host) => false,
                }
        })
    }

    /// Whether an entry of the list means the host's own addresses.
    pub fn mentions_host(&self) -> bool {
        self.entries().any(|entry| entry.peer() == Peer::Group(Group::Host))
    }
}

#[derive(Clone)]
struct Entries<'a> {
    parsed: Option<&'a Parsed>,
    next: usize,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let (parsed, index) = (self.parsed?, self.next);
        let item = parsed.items.get(index)?;
        self.next += 1;
        Some(Entry { parsed, item, index })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.parsed.map_or(0, |parsed| parsed.items.len() - self.next);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Entries<'_> {}

fn parse_entry(text: &str) -> Result<(bool, Peer, Service), String> {
    // Long lists are of these. Everything below would come to the same, but an IPv6 address may be an ambiguous one.
    if let Some(block) = plain_block(text)
        && (block.family() == Family::V4 || !block.is_host() && !is_mapped(block))
    {
        return Ok((false, Peer::Block(block), Service::Everything));
    }
    let (deny, rest) = match text.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if rest.is_empty() {
        return Err("\"!\" stands directly before what it denies, without a space".to_owned());
    }
    let (protocol, rest) = split_protocol(rest)?;
    let (peer, ports) = split_ports(rest)?;
    let ports = ports.map(parse_ports).transpose()?;
    let service = match (protocol, ports) {
        (None, None) => Service::Everything,
        (None, Some(ports)) => Service::Ports { transports: Transports::TcpUdp, ports },
        (Some(Protocol::Transport(transport)), ports) => {
            Service::Ports { transports: Transports::One(transport), ports: ports.unwrap_or(PortRange::ALL) }
        }
        (Some(Protocol::Icmp), None) => Service::Icmp,
        (Some(Protocol::Icmp), Some(_)) => return Err("ICMP has no ports".to_owned()),
    };
    Ok((deny, parse_peer(peer)?, service))
}

enum Protocol {
    Transport(Transport),
    Icmp,
}

fn split_protocol(text: &str) -> Result<(Option<Protocol>, &str), String> {
    let Some((word, rest)) = text.split_once('/') else { return Ok((None, text)) };
    let protocol = match word {
        "tcp" => Protocol::Transport(Transport::Tcp),
        "udp" => Protocol::Transport(Transport::Udp),
        "sctp" => Protocol::Transport(Transport::Sctp),
        "icmp" => Protocol::Icmp,
        _ if !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && !all_digits(word) => {
            return Err(format!(
                "unknown protocol {word:?}; known are tcp, udp, sctp and icmp (which means ICMPv6 for IPv6 peers)"
            ));
        }
        _ => return Ok((None, text)),
    };
    Ok((Some(protocol), rest))
}

fn all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Splits `peer[:ports]`. The peer keeps its brackets.
fn split_ports(text: &str) -> Result<(&str, Option<&str>), String> {
    if text.starts_with('[') {
        let Some(end) = text.find(']') else { return Err("the bracket is not closed".to_owned()) };
        let (peer, rest) = text.split_at(end + 1);
        return match rest.strip_prefix(':') {
            Some(ports) => Ok((peer, Some(ports))),
            None if rest.is_empty() => Ok((peer, None)),
            None if rest.starts_with('/') => {
                Err("the prefix length belongs inside the brackets: [2001:db8::/32]".to_owned())
            }
            None => Err(format!("expected \":port\" after the bracket, found {rest:?}")),
        };
    }
    match text.bytes().filter(|b| *b == b':').count() {
        0 => Ok((text, None)),
        1 => Ok(text.split_once(':').map_or((text, None), |(peer, ports)| (peer, Some(ports)))),
        // IPv6 without brackets. Where cutting off the last group leaves an address too, as in 2001:db8::1:443, a
        // reader cannot know whether 443 is a port: that must not be guessed.
        _ => match text.rsplit_once(':') {
            Some((front, port)) if !text.contains('/') && all_digits(port) && front.parse::<IpAddr>().is_ok() => Err(
                format!("ambiguous without brackets; write [{text}] for the address or [{front}]:{port} for the port"),
            ),
            Some((front, port)) if front.parse::<Cidr>().is_ok() && front.contains('/') => {
                Err(format!("an IPv6 block with ports needs brackets: [{front}]:{port}"))
            }
            _ => Ok((text, None)),
        },
    }
}

fn parse_ports(text: &str) -> Result<PortRange, String> {
    let port = |text: &str| {
        let number = Some(text).filter(|t| all_digits(t) && !t.starts_with('0')).and_then(|t| t.parse::<u16>().ok());
        number.ok_or_else(|| format!("expected a port from 1 to 65535 or a range such as 8000-8999, found {text:?}"))
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    PortRange::new(first, last).ok_or_else(|| format!("the port range ends at {last}, below its start {first}"))
}

fn parse_peer(text: &str) -> Result<Peer, String> {
    if text == "*" {
        return Ok(Peer::Any);
    }
    if let Some(name) = text.strip_prefix('@') {
        return name.parse().map(Peer::Group).map_err(|error: crate::policy::group::UnknownGroup| error.to_string());
    }
    let bracketed = text.strip_prefix('[').map(|rest| rest.trim_end_matches(']'));
    let block = bracketed.unwrap_or(text).parse::<Cidr>();
    match block {
        Ok(block) if bracketed.is_some() && block.family() == Family::V4 => {
            Err("brackets are for IPv6 addresses".to_owned())
        }
        Ok(block) if is_mapped(block) => {
            Err("an IPv4-mapped address never appears in a packet; write the IPv4 address".to_owned())
        }
        Ok(block) => Ok(Peer::Block(block)),
        Err(CidrError::Syntax(_)) if bracketed.is_none() && is_name(text) => {
            Err("names are not supported yet; write addresses".to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Whether a block is of IPv4-mapped IPv6 addresses alone.
fn is_mapped(block: Cidr) -> bool {
    matches!(block.first(), IpAddr::V6(addr) if addr.to_ipv4_mapped().is_some() && block.prefix_len() >= 96)
}

/// Whether `text` looks like a DNS name: an operator who writes one deserves to hear that names come later.
fn is_name(text: &str) -> bool {
    text.trim_start_matches("*.").bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.' || b == b'_')
        && text.bytes().any(|b| b.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Direction, Payload};

    fn origin() -> Origin {
        Origin::Annotation { key: "io.netlatch.egress".into() }
    }

    fn list(text: &str) -> List {
        List::parse(text, &origin()).unwrap_or_else(|problems| panic!("{text}: {problems:?}"))
    }

    fn problem(text: &str) -> String {
        let problems = List::parse(text, &origin()).expect_err(text);
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ")
    }

    fn packet(peer: &str, payload: Payload) -> Packet {
        Packet { direction: Direction::Egress, peer: peer.parse().unwrap(), payload }
    }

    fn tcp(port: u16) -> Payload {
        Payload::Transport { protocol: Transport::Tcp, port }
    }

    fn udp(port: u16) -> Payload {
        Payload::Transport { protocol: Transport::Udp, port }
    }

    const PING: Payload = Payload::Icmp { kind: 8 };

    fn allows(text: &str, peer: &str, payload: Payload) -> bool {
        list(text).allows(&packet(peer, payload), &["198.51.100.1".parse().unwrap()])
    }

    #[test]
    fn every_form_of_the_grammar_means_what_the_design_says() {
        for (text, peer, payload, expected) in [
            ("10.0.0.0/8", "10.255.255.255", tcp(1), true),
            ("10.0.0.0/8", "10.0.0.1", PING, true),
            ("10.0.0.0/8", "10.0.0.1", Payload::Other(47), true),
            ("10.0.0.0/8", "11.0.0.0", tcp(1), false),
            ("192.0.2.7:443", "192.0.2.7", tcp(443), true),
            ("192.0.2.7:443", "192.0.2.7", udp(443), true),
            ("192.0.2.7:443", "192.0.2.7", tcp(444), false),
            ("192.0.2.7:443", "192.0.2.7", PING, false),
            ("[2001:db8::/32]:8443", "2001:db8:ffff::1", tcp(8443), true),
            ("[2001:db8::/32]:8443", "2001:db9::1", tcp(8443), false),
            ("[2001:db8::1]", "2001:db8::1", PING, true),
            ("2001:db8::/32", "2001:db8::5", udp(9), true),
            ("fd00:ec2::254", "fd00:ec2::254", udp(9), true),
            ("tcp/203.0.113.0/24:8000-8999", "203.0.113.9", tcp(8000), true),
            ("tcp/203.0.113.0/24:8000-8999", "203.0.113.9", tcp(8999), true),
            ("tcp/203.0.113.0/24:8000-8999", "203.0.113.9", tcp(9000), false),
            ("tcp/203.0.113.0/24:8000-8999", "203.0.113.9", udp(8000), false),
            ("tcp/203.0.113.0/24", "203.0.113.9", tcp(1), true),
            ("tcp/203.0.113.0/24", "203.0.113.9", PING, false),
            ("udp/1.1.1.1:53", "1.1.1.1", udp(53), true),
            ("udp/1.1.1.1:53", "1.1.1.1", tcp(53), false),
            ("icmp/192.0.2.0/24", "192.0.2.1", PING, true),
            ("icmp/192.0.2.0/24", "192.0.2.1", udp(1), false),
            ("icmp/[2001:db8::/32]", "2001:db8::1", Payload::Icmp { kind: 128 }, true),
            ("*:443", "8.8.8.8", tcp(443), true),
            ("*:443", "2001:db8::1", udp(443), true),
            ("*:443", "2001:db8::1", udp(53), false),
            ("*", "2001:db8::1", Payload::Other(50), true),
            ("@internet:443", "1.1.1.1", tcp(443), true),
            ("@internet:443", "10.0.0.1", tcp(443), false),
            ("@host", "198.51.100.1", tcp(443), true),
            ("tcp/@private:22", "192.168.0.1", tcp(22), true),
            ("sctp/192.0.2.1:7", "192.0.2.1", Payload::Transport { protocol: Transport::Sctp, port: 7 }, true),
            ("@internet, !203.0.113.0/24", "203.0.113.5", tcp(1), false),
            ("!9.9.9.9 @internet", "9.9.9.9", tcp(1), false),
            ("@internet, !9.9.9.9", "9.9.9.8", tcp(1), true),
            ("* !udp/*:53", "9.9.9.9", udp(53), false),
            ("* !udp/*:53", "9.9.9.9", tcp(53), true),
            ("none", "9.9.9.9", tcp(53), false),
            ("10.0.0.1,\n 10.0.0.2\t10.0.0.3,", "10.0.0.3", tcp(53), true),
        ] {
            assert_eq!(allows(text, peer, payload), expected, "{text} on {peer} {payload:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_about_the_entry_that_is_wrong() {
        for (text, part) in [
            ("", "empty"),
            (" , ", "empty"),
            ("none, 10.0.0.1", "stands alone"),
            ("!10.0.0.1", "denies only"),
            ("! 10.0.0.1", "without a space"),
            ("10.0.0.7/8", "10.0.0.0/8"),
            ("10.0.0.0/33", "0 to 32"),
            ("10.0.0.1:0", "1 to 65535"),
            ("10.0.0.1:65536", "1 to 65535"),
            ("10.0.0.1:", "1 to 65535"),
            ("10.0.0.1:+80", "1 to 65535"),
            ("10.0.0.1:90-80", "below its start"),
            ("icmp/10.0.0.1:80", "no ports"),
            ("http/10.0.0.1", "unknown protocol"),
            ("TCP/10.0.0.1", "unknown protocol"),
            ("[10.0.0.1]:80", "brackets are for IPv6"),
            ("[2001:db8::1]/64", "inside the brackets"),
            ("[2001:db8::1", "not closed"),
            ("[2001:db8::1]80", "after the bracket"),
            ("2001:db8::1:443", "ambiguous"),
            ("2001:db8::/32:443", "needs brackets"),
            ("::ffff:10.0.0.1", "IPv4-mapped"),
            ("api.example.com:443", "names are not supported yet"),
            ("*.example.com", "names are not supported yet"),
            ("@cluster", "unknown group"),
            ("10.0.0.0/8/8", "prefix length"),
            ("tcp/", "IP address"),
            ("fe80::1%eth0", "IP address"),
        ] {
            let said = problem(text);
            assert!(said.contains(part), "{text}: {said}");
        }
        assert_eq!(problem("a:1 b:2").matches("names are").count(), 2, "all problems at once");
    }

    #[test]
    fn only_an_exact_entry_opens_an_address_and_only_for_what_it_says() {
        let opens = |text: &str, port| {
            let payload = Payload::Transport { protocol: Transport::Tcp, port };
            let peer = "169.254.169.254".parse().unwrap();
            list(text).opens(&Packet { direction: Direction::Egress, peer, payload })
        };
        assert!(opens("* 169.254.169.254:80", 80) && !opens("* 169.254.169.254:80", 81));
        assert!(opens("@metadata", 80) && opens("@metadata:80", 80) && !opens("@metadata:80", 81));
        assert!(!opens("* udp/169.254.169.254", 80) && !opens("* icmp/169.254.169.254", 80));
        assert!(!opens("* 169.254.0.0/16", 80));
        assert!(!opens("* !169.254.169.254", 80));
    }
}
