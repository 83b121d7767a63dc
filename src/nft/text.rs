//! A table as `nft -f` reads it: what `netlatch plan --format nft` prints.
//!
//! Loaded with `nft -f` it gives the same listing as our own batch; tests/kernel_tables.rs holds the two against each
//! other. The first two lines make the file replace the table whether or not it is there.

use std::fmt::{self, Write};

use crate::net::{AddrRange, Family, mask};
use crate::nft::ruleset::{
    Base, Chain, GC_INTERVAL_S, KeyType, Kind, Match, Rule, Set, Side, State, Statement, Table, Verdict,
};

/// Longest comment `nft` takes (`NFTNL_UDATA_COMMENT_MAXLEN`), in bytes.
pub const MAX_COMMENT: usize = 128;

/// `text` as a comment that nft can print and read back: ASCII without quotes, backslashes and control characters,
/// at most [`MAX_COMMENT`] bytes.
pub fn comment(text: &str) -> String {
    let plain = |c: char| if c == ' ' || c.is_ascii_graphic() && c != '"' && c != '\\' { c } else { '?' };
    let mut comment: String = text.chars().map(plain).collect();
    if comment.len() > MAX_COMMENT {
        comment.truncate(MAX_COMMENT - 3);
        comment.push_str("...");
    }
    comment
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.parts() {
            let (family, name) = (part.family.name(), &part.name);
            writeln!(f, "table {family} {name}")?;
            writeln!(f, "delete table {family} {name}")?;
        }
        self.parts().try_for_each(|part| write_table(f, part))
    }
}

fn write_table(f: &mut fmt::Formatter<'_>, table: &Table) -> fmt::Result {
    writeln!(f, "table {} {} {{", table.family.name(), table.name)?;
    writeln!(f, "\tcomment \"{}\"", comment(&table.comment))?;
    for set in &table.sets {
        f.write_char('\n')?;
        write_set(f, set)?;
    }
    for chain in &table.chains {
        f.write_char('\n')?;
        write_chain(f, chain)?;
    }
    writeln!(f, "}}")
}

fn write_set(f: &mut fmt::Formatter<'_>, set: &Set) -> fmt::Result {
    writeln!(f, "\tset {} {{", set.name)?;
    let types: Vec<&str> = set.key.iter().map(|key| type_name(*key)).collect();
    writeln!(f, "\t\ttype {}", types.join(" . "))?;
    match set.kind {
        Kind::Hash => writeln!(f, "\t\tsize {}", set.len())?,
        Kind::Interval => writeln!(f, "\t\tflags interval")?,
        Kind::Dynamic { size, timeout_s } => {
            writeln!(f, "\t\tsize {size}\n\t\tflags dynamic,timeout\n\t\ttimeout {timeout_s}s")?;
            writeln!(f, "\t\tgc-interval {GC_INTERVAL_S}s")?;
        }
        Kind::Members => {}
    }
    if !set.is_empty() {
        f.write_str("\t\telements = { ")?;
        for (index, element) in set.elements().enumerate() {
            if index > 0 {
                f.write_str(",\n\t\t\t     ")?;
            }
            for (field, (span, key)) in element.iter().zip(&set.key).enumerate() {
                if field > 0 {
                    f.write_str(" . ")?;
                }
                write_span(f, *span, *key)?;
            }
        }
        f.write_str(" }\n")?;
    }
    writeln!(f, "\t}}")
}

const fn type_name(key: KeyType) -> &'static str {
    match key {
        KeyType::Ipv4Addr => "ipv4_addr",
        KeyType::Ipv6Addr => "ipv6_addr",
        KeyType::InetProto => "inet_proto",
        KeyType::InetService => "inet_service",
        KeyType::Mark => "mark",
    }
}

fn write_span(f: &mut fmt::Formatter<'_>, span: AddrRange, key: KeyType) -> fmt::Result {
    let family = match key {
        KeyType::Ipv4Addr => Family::V4,
        KeyType::Ipv6Addr => Family::V6,
        KeyType::InetProto | KeyType::InetService | KeyType::Mark => {
            return if span.first == span.last {
                write!(f, "{}", span.first)
            } else {
                write!(f, "{}-{}", span.first, span.last)
            };
        }
    };
    let (first, last) = (family.address(span.first), family.address(span.last));
    match span.prefix_len(family) {
        Some(len) if len == family.bits() => write!(f, "{first}"),
        Some(len) => write!(f, "{first}/{len}"),
        None => write!(f, "{first}-{last}"),
    }
}

fn write_chain(f: &mut fmt::Formatter<'_>, chain: &Chain) -> fmt::Result {
    writeln!(f, "\tchain {} {{", chain.name)?;
    if let Some(Base { hook, accepts, devices, every_device: _ }) = &chain.base {
        let policy = if *accepts { "accept" } else { "drop" };
        write!(f, "\t\ttype filter hook {}", hook.name())?;
        if !devices.is_empty() {
            write!(f, " devices = {{ {} }}", devices.join(", "))?;
        }
        writeln!(f, " priority filter; policy {policy};")?;
    }
    for rule in &chain.rules {
        writeln!(f, "\t\t{rule}")?;
    }
    writeln!(f, "\t}}")
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for condition in &self.matches {
            write!(f, "{condition} ")?;
        }
        for statement in &self.statements {
            write!(f, "{statement} ")?;
        }
        if let Some(verdict) = &self.verdict {
            write!(f, "{verdict} ")?;
        }
        write!(f, "comment \"{}\"", comment(&self.comment))
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Match::Family(Family::V4) => f.write_str("meta nfproto ipv4"),
            Match::Family(Family::V6) => f.write_str("meta nfproto ipv6"),
            Match::InLoopback => f.write_str("iif \"lo\""),
            Match::OutLoopback => f.write_str("oif \"lo\""),
            Match::LocalDestination => f.write_str("fib daddr type local"),
            Match::LocalSource => f.write_str("fib saddr type local"),
            Match::ForeignSource => f.write_str("fib saddr type != local"),
            Match::State(State::Invalid) => f.write_str("ct state == invalid"),
            Match::State(State::Established) => f.write_str("ct state == established"),
            Match::State(State::Related) => f.write_str("ct state == related"),
            Match::State(State::New) => f.write_str("ct state == new"),
            Match::Protocol(number) => write!(f, "meta l4proto {number}"),
            Match::ProtocolIn(set) => write!(f, "meta l4proto @{set}"),
            Match::Port(ports) => write!(f, "th dport {ports}"),
            Match::PortIn(set) => write!(f, "th dport @{set}"),
            Match::Icmpv6Type(first, last) if first == last => write!(f, "icmpv6 type {first}"),
            Match::Icmpv6Type(first, last) => write!(f, "icmpv6 type {first}-{last}"),
            Match::UserSocket => f.write_str("meta skuid != 4294967295"),
            Match::Routed => f.write_str("meta rtclassid >= 0"),
            Match::EtherType(number) => write!(f, "meta protocol {number:#06x}"),
            Match::HopLimit(limit) => write!(f, "ip6 hoplimit {limit}"),
            Match::MidStream => f.write_str("tcp flags & (fin | syn | rst | ack) != syn"),
            Match::TcpEnds => f.write_str("tcp flags & (fin | rst) != 0"),
            Match::FrameType(number) => write!(f, "ether type {number:#06x}"),
            Match::IcmpType(first, last) if first == last => write!(f, "icmp type {first}"),
            Match::IcmpType(first, last) => write!(f, "icmp type {first}-{last}"),
            Match::LaterFragment(Family::V4) => f.write_str("ip frag-off & 0x1fff != 0"),
            Match::LaterFragment(Family::V6) => f.write_str("frag frag-off != 0"),
            Match::MoreFragments(Family::V4) => f.write_str("ip frag-off & 0x2000 != 0"),
            Match::MoreFragments(Family::V6) => f.write_str("frag more-fragments 1"),
            Match::KnownFragment(side, family, set) => write!(f, "{} @{set}", fragment_key(*side, *family)),
            Match::KnownFlow { side, family, ports, set } => {
                write!(f, "{} @{set}", flow_key(*side, *family, *ports))
            }
            // In words: nft has none for what an ICMP error cites.
            Match::KnownInner { family, ports, fragment, set } => {
                let (guard, front, at) = match (family, fragment) {
                    (Family::V4, _) => ("@th,64,8 0x45 ", "@th,192,32 . @th,136,8", 224),
                    (Family::V6, false) => ("", "@th,256,128 . @th,112,8", 384),
                    (Family::V6, true) => ("@th,112,8 44 ", "@th,256,128 . @th,384,8", 448),
                };
                match ports {
                    true => write!(f, "{guard}{front} . @th,{},16 . @th,{at},16 @{set}", at + 16),
                    false => write!(f, "{guard}{front} . 0 . 0 @{set}"),
                }
            }
            Match::TcpOpensOrResets => f.write_str("tcp flags & (syn | rst) != 0"),
            Match::ArpOfIpv4 => f.write_str("@nh,0,48 0x000108000604"),
            Match::ArpSenderIn(set) => write!(f, "arp saddr ip @{set}"),
            Match::ArpProbe => f.write_str("arp operation request arp saddr ip 0.0.0.0"),
            Match::NeighbourTargetIn(set) => write!(f, "@th,64,128 @{set}"),
            Match::LongerThan(bytes) => write!(f, "@nh,{},8 >= 0", u64::from(*bytes) * 8),
            Match::Address(side, family, range) => {
                write!(f, "{} ", address(*side, *family))?;
                write_span(f, *range, KeyType::address(*family))
            }
            Match::AddressIn(side, family, set) => write!(f, "{} @{set}", address(*side, *family)),
            Match::BlockIn(side, family, length, set) => {
                write!(f, "{} & ", address(*side, *family))?;
                let mask = mask(*family, *length);
                write_span(f, AddrRange { first: mask, last: mask }, KeyType::address(*family))?;
                write!(f, " == @{set}")
            }
            Match::AddressPortIn(side, family, set) => write!(f, "{} . th dport @{set}", address(*side, *family)),
            Match::AddressProtocolPortIn(side, family, set) => {
                write!(f, "{} . meta l4proto . th dport @{set}", address(*side, *family))
            }
        }
    }
}

const fn address(side: Side, family: Family) -> &'static str {
    match (side, family) {
        (Side::Source, Family::V4) => "ip saddr",
        (Side::Source, Family::V6) => "ip6 saddr",
        (Side::Destination, Family::V4) => "ip daddr",
        (Side::Destination, Family::V6) => "ip6 daddr",
    }
}

/// The key under which a flow is remembered: the peer's address, the protocol, the peer's port and ours.
fn flow_key(side: Side, family: Family, ports: bool) -> String {
    let ports = match (ports, side) {
        (false, _) => "0 . 0",
        (true, Side::Destination) => "th dport . th sport",
        (true, Side::Source) => "th sport . th dport",
    };
    format!("{} . meta l4proto . {ports}", address(side, family))
}

fn fragment_key(side: Side, family: Family) -> String {
    let id = match family {
        Family::V4 => "ip id",
        Family::V6 => "frag id",
    };
    format!("{} . {id}", address(side, family))
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Statement::Count => f.write_str("counter"),
            Statement::Remember { side, family, ports, set } => {
                let port = if *ports { "th dport" } else { "0" };
                write!(f, "update @{set} {{ {} . meta l4proto . {port} }}", address(*side, *family))
            }
            Statement::RememberFlow { side, family, ports, set, timeout_s } => {
                write!(f, "update @{set} {{ {} timeout {timeout_s}s }}", flow_key(*side, *family, *ports))
            }
            Statement::ForgetFlow { side, family, ports, set } => {
                write!(f, "delete @{set} {{ {} }}", flow_key(*side, *family, *ports))
            }
            Statement::RememberFragment(side, family, set) => {
                write!(f, "update @{set} {{ {} }}", fragment_key(*side, *family))
            }
            Statement::RememberAddress(side, family, set) => {
                write!(f, "update @{set} {{ {} }}", address(*side, *family))
            }
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Accept => f.write_str("accept"),
            Verdict::Drop => f.write_str("drop"),
            Verdict::Swallow => f.write_str("fwd to 0"),
            Verdict::Return => f.write_str("return"),
            Verdict::Jump(chain) => write!(f, "jump {chain}"),
            Verdict::Goto(chain) => write!(f, "goto {chain}"),
            Verdict::RejectWithReset => f.write_str("reject with tcp reset"),
            Verdict::Reject => f.write_str("reject with icmpx port-unreachable"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::PortRange;

    #[test]
    fn a_comment_is_what_nft_can_read_back() {
        assert_eq!(comment("a \"b\"\\\n\u{202e}c"), "a ?b????c");
        assert_eq!(comment(&"x".repeat(500)).len(), MAX_COMMENT);
    }

    #[test]
    fn a_range_of_ports_prints_like_nft_takes_it() {
        let ports = PortRange::new(80, 90).unwrap();
        assert_eq!(Match::Port(ports).to_string(), "th dport 80-90");
    }
}
