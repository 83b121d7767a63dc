//! A table as `nft -f` reads it: what `netlatch plan --format nft` prints.
//!
//! Loaded with `nft -f` it gives the same listing as our own batch; tests/kernel_tables.rs holds the two against each
//! other. The first two lines make the file replace the table whether or not it is there.

use std::fmt::{self, Write};

use crate::net::{AddrRange, Family};
use crate::nft::ruleset::{
    Base, Chain, KeyType, Kind, Match, Rule, Set, Side, State, Statement, TABLE, Table, Verdict,
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
        writeln!(f, "table inet {TABLE}")?;
        writeln!(f, "delete table inet {TABLE}")?;
        writeln!(f, "table inet {TABLE} {{")?;
        writeln!(f, "\tcomment \"{}\"", comment(&self.comment))?;
        for set in &self.sets {
            f.write_char('\n')?;
            write_set(f, set)?;
        }
        for chain in &self.chains {
            f.write_char('\n')?;
            write_chain(f, chain)?;
        }
        writeln!(f, "}}")
    }
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
    }
}

fn write_span(f: &mut fmt::Formatter<'_>, span: AddrRange, key: KeyType) -> fmt::Result {
    let family = match key {
        KeyType::Ipv4Addr => Family::V4,
        KeyType::Ipv6Addr => Family::V6,
        KeyType::InetProto | KeyType::InetService => {
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
    if let Some(Base { hook, accepts }) = chain.base {
        let policy = if accepts { "accept" } else { "drop" };
        writeln!(f, "\t\ttype filter hook {} priority filter; policy {policy};", hook.name())?;
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
            Match::HopLimit(limit) => write!(f, "ip6 hoplimit {limit}"),
            Match::MidStream => f.write_str("tcp flags & (fin | syn | rst | ack) != syn"),
            Match::Address(side, family, range) => {
                write!(f, "{} ", address(*side, *family))?;
                write_span(f, *range, KeyType::address(*family))
            }
            Match::AddressIn(side, family, set) => write!(f, "{} @{set}", address(*side, *family)),
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

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Statement::Count => f.write_str("counter"),
            Statement::Remember { side, family, ports, set } => {
                let port = if *ports { "th dport" } else { "0" };
                write!(f, "update @{set} {{ {} . meta l4proto . {port} }}", address(*side, *family))
            }
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Accept => f.write_str("accept"),
            Verdict::Drop => f.write_str("drop"),
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
