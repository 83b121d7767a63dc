//! From the kernel's expressions back to text: the other way of [`lower`](super::lower), for people.
//!
//! What a rule says is read from what the kernel holds, not from what was sent, so a rule that somebody else put there reads as
//! what it does. The text is what `nft` takes; a guard that a match brings with it (`meta nfproto` before an address) is
//! left out, as nft does. What this reader does not know is shown in angle brackets, never left out.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::expr::Expr;
use super::uapi::*;

/// The text of a rule, without its comment.
pub fn raise(exprs: &[Expr]) -> String {
    let mut raising = Raising { words: Vec::new(), loaded: Vec::new(), family: None, protocol: None, held_back: None };
    let mut rest = exprs;
    while let Some((first, behind)) = rest.split_first() {
        rest = &behind[raising.take(first, behind)..];
    }
    raising.release();
    raising.words.join(" ")
}

/// What a register holds.
#[derive(Clone, Debug)]
struct Loaded {
    /// The first of its 32-bit registers, counted from `NFT_REG32_00`.
    slot: u32,
    text: String,
    kind: Kind,
    mask: Option<Vec<u8>>,
}

/// How a value in a register is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ipv4,
    Ipv6,
    /// A number in packet order.
    Packet,
    /// A number of the kernel's own, in its order.
    Host,
    Family,
    Protocol,
    Interface,
    State,
    AddressType,
    TcpFlags,
}

struct Raising {
    words: Vec<String>,
    /// Since they were last used.
    loaded: Vec<Loaded>,
    /// What the rule is known to be about: the family, and the protocol above it.
    family: Option<u8>,
    protocol: Option<u8>,
    /// A guard that the next match may say by itself.
    held_back: Option<String>,
}

const fn slot(register: u32) -> u32 {
    match register {
        NFT_REG32_00.. => register - NFT_REG32_00,
        NFT_REG_1.. => (register - NFT_REG_1) * 4,
        _ => u32::MAX,
    }
}

impl Raising {
    fn say(&mut self, word: impl Into<String>) {
        self.release();
        self.words.push(word.into());
    }

    fn release(&mut self) {
        self.words.extend(self.held_back.take());
    }

    fn load(&mut self, dreg: u32, text: impl Into<String>, kind: Kind) {
        let slot = slot(dreg);
        self.loaded.retain(|loaded| loaded.slot != slot);
        self.loaded.push(Loaded { slot, text: text.into(), kind, mask: None });
    }

    /// Takes one expression, and yields how many of those behind it went with it.
    fn take(&mut self, expr: &Expr, behind: &[Expr]) -> usize {
        match expr {
            Expr::Meta { key, dreg } => {
                let (text, kind) = meta(*key);
                self.load(*dreg, text, kind);
            }
            Expr::Payload { base, offset, len, dreg } => {
                let (text, kind) = self.payload(*base, *offset, *len);
                self.load(*dreg, text, kind);
            }
            Expr::Ct { key: NFT_CT_STATE, dreg } => self.load(*dreg, "ct state", Kind::State),
            Expr::Ct { key, dreg } => self.load(*dreg, format!("<ct key {key}>"), Kind::Host),
            Expr::Fib { result: NFT_FIB_RESULT_ADDRTYPE, flags, dreg } => {
                let side = match *flags {
                    NFTA_FIB_F_SADDR => "saddr",
                    NFTA_FIB_F_DADDR => "daddr",
                    _ => "<other>",
                };
                self.load(*dreg, format!("fib {side} type"), Kind::AddressType);
            }
            Expr::Fib { result, flags, dreg } => self.load(*dreg, format!("<fib {flags} {result}>"), Kind::Host),
            Expr::Load { dreg, data } => self.load(*dreg, number(data, false), Kind::Packet),
            Expr::Mask { reg, mask } => {
                let slot = slot(*reg);
                if let Some(loaded) = self.loaded.iter_mut().find(|loaded| loaded.slot == slot) {
                    loaded.mask = Some(mask.clone());
                }
            }
            Expr::Cmp { op, sreg, data } => return self.compare(*op, *sreg, data, behind),
            Expr::Lookup { set, sreg } => {
                let key = self.key(*sreg);
                self.implied(&key.1);
                match key.1.as_slice() {
                    [Loaded { mask: Some(mask), kind, .. }] => {
                        self.say(format!("{} & {} == @{set}", key.0, mask_text(*kind, mask)));
                    }
                    _ => self.say(format!("{} @{set}", key.0)),
                }
            }
            Expr::Exthdr { kind, offset, len, dreg } => {
                let (at, bits) = (u64::from(*offset) * 8, u64::from(*len) * 8);
                self.load(*dreg, format!("<exthdr {kind},{at},{bits}>"), Kind::Packet);
            }
            Expr::Update { set, sreg, timeout_ms } => {
                let key = self.key(*sreg);
                self.implied(&key.1);
                let timeout = if *timeout_ms > 0 { format!(" timeout {}s", timeout_ms / 1000) } else { String::new() };
                self.say(format!("update @{set} {{ {}{timeout} }}", key.0));
            }
            Expr::Delete { set, sreg } => {
                let key = self.key(*sreg);
                self.implied(&key.1);
                self.say(format!("delete @{set} {{ {} }}", key.0));
            }
            Expr::Counter => self.say("counter"),
            Expr::Verdict { code, chain } => {
                let to = chain.as_deref().unwrap_or("<nowhere>");
                self.say(match *code {
                    NFT_JUMP => format!("jump {to}"),
                    NFT_GOTO => format!("goto {to}"),
                    NFT_RETURN => "return".to_owned(),
                    code if code == NF_ACCEPT.cast_signed() => "accept".to_owned(),
                    code if code == NF_DROP.cast_signed() => "drop".to_owned(),
                    code => format!("<verdict {code}>"),
                });
            }
            Expr::Reject { kind: NFT_REJECT_TCP_RST, code: _ } => self.say("reject with tcp reset"),
            Expr::Reject { kind: NFT_REJECT_ICMPX_UNREACH, code: NFT_REJECT_ICMPX_PORT_UNREACH } => {
                self.say("reject with icmpx port-unreachable");
            }
            Expr::Reject { kind, code } => self.say(format!("<reject {kind} {code}>")),
            Expr::Forward { sreg } => {
                let (device, _) = self.key(*sreg);
                self.say(format!("fwd to {device}"));
            }
            Expr::Foreign(name) => self.say(format!("<{name}>")),
        }
        0
    }

    fn payload(&self, base: u32, offset: u32, len: u32) -> (String, Kind) {
        let known = match (base, self.family, self.protocol, offset, len) {
            (NFT_PAYLOAD_NETWORK_HEADER, Some(NFPROTO_IPV4), _, 12, 1..=4) => Some(("ip saddr", Kind::Ipv4)),
            (NFT_PAYLOAD_NETWORK_HEADER, Some(NFPROTO_IPV4), _, 16, 1..=4) => Some(("ip daddr", Kind::Ipv4)),
            (NFT_PAYLOAD_NETWORK_HEADER, Some(NFPROTO_IPV6), _, 8, 1..=16) => Some(("ip6 saddr", Kind::Ipv6)),
            (NFT_PAYLOAD_NETWORK_HEADER, Some(NFPROTO_IPV6), _, 24, 1..=16) => Some(("ip6 daddr", Kind::Ipv6)),
            (NFT_PAYLOAD_NETWORK_HEADER, Some(NFPROTO_IPV6), _, 7, 1) => Some(("ip6 hoplimit", Kind::Packet)),
            (NFT_PAYLOAD_TRANSPORT_HEADER, _, Some(58), 0, 1) => Some(("icmpv6 type", Kind::Packet)),
            (NFT_PAYLOAD_TRANSPORT_HEADER, _, Some(IPPROTO_TCP), TCP_FLAGS_OFFSET, 1) => {
                Some(("tcp flags", Kind::TcpFlags))
            }
            (NFT_PAYLOAD_TRANSPORT_HEADER, _, _, 0, 2) => Some(("th sport", Kind::Packet)),
            (NFT_PAYLOAD_TRANSPORT_HEADER, _, _, 2, 2) => Some(("th dport", Kind::Packet)),
            _ => None,
        };
        if let Some((text, kind)) = known {
            return (text.to_owned(), kind);
        }
        let base = match base {
            0 => "ll",
            NFT_PAYLOAD_NETWORK_HEADER => "nh",
            NFT_PAYLOAD_TRANSPORT_HEADER => "th",
            _ => "<other>",
        };
        (format!("@{base},{},{}", u64::from(offset) * 8, u64::from(len) * 8), Kind::Packet)
    }

    /// What stands in the registers from `sreg` on, and the loads it came by.
    fn key(&mut self, sreg: u32) -> (String, Vec<Loaded>) {
        let from = slot(sreg);
        let used: Vec<Loaded> = self.loaded.extract_if(.., |loaded| loaded.slot >= from).collect();
        let texts: Vec<&str> = used.iter().map(|loaded| loaded.text.as_str()).collect();
        (if texts.is_empty() { "<nothing>".to_owned() } else { texts.join(" . ") }, used)
    }

    /// Drops a guard that what is said next says by itself.
    fn implied(&mut self, used: &[Loaded]) {
        let says =
            |loaded: &Loaded| ["ip ", "ip6 ", "icmpv6 ", "tcp "].iter().any(|start| loaded.text.starts_with(start));
        if used.iter().any(says) {
            self.held_back = None;
        }
    }

    fn compare(&mut self, op: u32, sreg: u32, data: &[u8], behind: &[Expr]) -> usize {
        let slot = slot(sreg);
        let Some(at) = self.loaded.iter().position(|loaded| loaded.slot == slot) else {
            self.say("<comparison>");
            return 0;
        };
        let loaded = self.loaded.remove(at);
        if op == NFT_CMP_EQ && loaded.mask.is_none() {
            match (loaded.kind, data) {
                (Kind::Family, [family @ (NFPROTO_IPV4 | NFPROTO_IPV6)]) => {
                    self.family = Some(*family);
                    let name = if *family == NFPROTO_IPV4 { "ipv4" } else { "ipv6" };
                    self.release();
                    self.held_back = Some(format!("meta nfproto {name}"));
                    return 0;
                }
                (Kind::Protocol, [protocol]) => {
                    self.protocol = Some(*protocol);
                    // With the family's guard before it: both go where a match says both.
                    let icmpv6 = *protocol == 58 && self.held_back.as_deref() == Some("meta nfproto ipv6");
                    let text = format!("meta l4proto {protocol}");
                    let text = if icmpv6 { format!("meta nfproto ipv6 {text}") } else { text };
                    if icmpv6 {
                        self.held_back = None;
                    }
                    if says_its_protocol(*protocol, behind) {
                        self.release();
                        self.held_back = Some(text);
                    } else {
                        self.say(text);
                    }
                    return 0;
                }
                _ => {}
            }
        }
        self.implied(std::slice::from_ref(&loaded));
        // The two ends of a range.
        if let (NFT_CMP_GTE, Some(Expr::Cmp { op: NFT_CMP_LTE, sreg: second, data: last })) = (op, behind.first())
            && *second == sreg
        {
            self.say(format!("{} {}-{}", loaded.text, value(&loaded, data), value(&loaded, last)));
            return 1;
        }
        let sign = match op {
            // nft reads a state without a sign as a bit of a mask.
            NFT_CMP_EQ if loaded.kind == Kind::State => " ==",
            NFT_CMP_EQ => "",
            NFT_CMP_NEQ => " !=",
            2 => " <",
            NFT_CMP_LTE => " <=",
            4 => " >",
            NFT_CMP_GTE => " >=",
            _ => " <other>",
        };
        self.say(match masked(&loaded) {
            Some(mask) => format!(
                "{} & {mask}{} {}",
                loaded.text,
                if sign.is_empty() { " ==" } else { sign },
                value(&loaded, data)
            ),
            None => format!("{}{sign} {}", loaded.text, value(&loaded, data)),
        });
        0
    }
}

/// Whether the next load is of a field that names the protocol in its text.
fn says_its_protocol(protocol: u8, behind: &[Expr]) -> bool {
    matches!(
        (protocol, behind.first()),
        (58, Some(Expr::Payload { base: NFT_PAYLOAD_TRANSPORT_HEADER, offset: 0, len: 1, dreg: _ }))
            | (
                IPPROTO_TCP,
                Some(Expr::Payload { base: NFT_PAYLOAD_TRANSPORT_HEADER, offset: TCP_FLAGS_OFFSET, len: 1, dreg: _ })
            )
    )
}

fn meta(key: u32) -> (String, Kind) {
    let (text, kind) = match key {
        NFT_META_IIF => ("iif", Kind::Interface),
        NFT_META_OIF => ("oif", Kind::Interface),
        NFT_META_SKUID => ("meta skuid", Kind::Host),
        NFT_META_NFPROTO => ("meta nfproto", Kind::Family),
        NFT_META_L4PROTO => ("meta l4proto", Kind::Protocol),
        other => return (format!("<meta key {other}>"), Kind::Host),
    };
    (text.to_owned(), kind)
}

/// The mask as text; `None` where there is none, or where it is the length of a prefix, which the value shows.
fn masked(loaded: &Loaded) -> Option<String> {
    let mask = loaded.mask.as_deref()?;
    match loaded.kind {
        Kind::Ipv4 | Kind::Ipv6 if prefix(mask).is_some() => None,
        Kind::TcpFlags => Some(format!("({})", flags(mask))),
        kind => Some(number(mask, is_host(kind))),
    }
}

/// A mask as such, where no value beside it shows its length.
fn mask_text(kind: Kind, mask: &[u8]) -> String {
    match (kind, <[u8; 4]>::try_from(mask), <[u8; 16]>::try_from(mask)) {
        (Kind::Ipv4, Ok(octets), _) => Ipv4Addr::from(octets).to_string(),
        (Kind::Ipv6, _, Ok(octets)) => Ipv6Addr::from(octets).to_string(),
        _ => number(mask, is_host(kind)),
    }
}

const fn is_host(kind: Kind) -> bool {
    match kind {
        Kind::Host | Kind::Interface | Kind::State | Kind::AddressType => true,
        Kind::Ipv4 | Kind::Ipv6 | Kind::Packet | Kind::Family | Kind::Protocol | Kind::TcpFlags => false,
    }
}

/// The length of a mask whose set bits all come first.
fn prefix(mask: &[u8]) -> Option<u32> {
    let ones: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
    let leading = mask.iter().take_while(|byte| **byte == 0xff).count();
    let next = mask.get(leading).map_or(0, |byte| byte.leading_ones());
    (leading as u32 * 8 + next == ones).then_some(ones)
}

fn value(loaded: &Loaded, data: &[u8]) -> String {
    let len = match &loaded.mask {
        Some(mask) => prefix(mask),
        None => Some(data.len() as u32 * 8),
    };
    match (loaded.kind, data) {
        (Kind::Ipv4, data) if data.len() <= 4 => {
            let mut octets = [0; 4];
            octets[..data.len()].copy_from_slice(data);
            with_length(Ipv4Addr::from(octets).to_string(), len, 32)
        }
        (Kind::Ipv6, data) if data.len() <= 16 => {
            let mut octets = [0; 16];
            octets[..data.len()].copy_from_slice(data);
            with_length(Ipv6Addr::from(octets).to_string(), len, 128)
        }
        (Kind::Interface, data) if data == LOOPBACK_IFINDEX.to_ne_bytes() => "\"lo\"".to_owned(),
        (Kind::State, data) => match data.try_into().map(u32::from_ne_bytes) {
            Ok(NF_CT_STATE_INVALID_BIT) => "invalid".to_owned(),
            Ok(NF_CT_STATE_ESTABLISHED_BIT) => "established".to_owned(),
            Ok(NF_CT_STATE_RELATED_BIT) => "related".to_owned(),
            Ok(NF_CT_STATE_NEW_BIT) => "new".to_owned(),
            Ok(_) | Err(_) => number(data, true),
        },
        (Kind::AddressType, data) if data == RTN_LOCAL.to_ne_bytes() => "local".to_owned(),
        (Kind::TcpFlags, data) => flags(data),
        (kind, data) => number(data, is_host(kind)),
    }
}

fn with_length(address: String, len: Option<u32>, whole: u32) -> String {
    match len {
        Some(len) if len < whole => format!("{address}/{len}"),
        Some(_) | None => address,
    }
}

fn flags(data: &[u8]) -> String {
    const NAMES: [(u8, &str); 4] = [(TH_FIN, "fin"), (TH_SYN, "syn"), (TH_RST, "rst"), (TH_ACK, "ack")];
    let [byte] = data else { return number(data, false) };
    let names: Vec<&str> = NAMES.into_iter().filter(|(bit, _)| byte & bit != 0).map(|(_, name)| name).collect();
    let known = NAMES.into_iter().fold(0, |sum, (bit, _)| sum | bit);
    if names.is_empty() || byte & !known != 0 { number(data, false) } else { names.join(" | ") }
}

/// Up to eight bytes as a number, more as they are.
fn number(data: &[u8], host: bool) -> String {
    if data.len() > 8 {
        return data.iter().fold("0x".to_owned(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
    }
    let sum = |sum: u64, byte: &u8| (sum << 8) | u64::from(*byte);
    let little = host && cfg!(target_endian = "little");
    if little { data.iter().rev().fold(0, sum) } else { data.iter().fold(0, sum) }.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{AddrRange, Cidr, Family, PortRange};
    use crate::nft::ruleset::{Match, Rule, Side, State, Statement, TableFamily, Verdict};
    use crate::nft::wire::lower::lower;

    fn text_of(rule: &Rule) -> String {
        let text = rule.to_string();
        text.strip_suffix(" comment \"\"").or(text.strip_suffix("comment \"\"")).unwrap().to_owned()
    }

    fn comes_back(matches: Vec<Match>, statements: Vec<Statement>, verdict: Option<Verdict>) {
        let rule = Rule { matches, statements, verdict, comment: String::new() };
        let exprs = lower(&rule, TableFamily::Inet);
        assert_eq!(raise(&exprs), text_of(&rule), "{exprs:?}");
    }

    fn block(text: &str) -> AddrRange {
        text.parse::<Cidr>().unwrap().range()
    }

    #[test]
    fn every_match_of_ours_comes_back_as_it_was_written() {
        use Side::{Destination, Source};
        let set = || "s".to_owned();
        let ports = |first, last| PortRange::new(first, last).unwrap();
        let v4 = |text| Match::Address(Destination, Family::V4, block(text));
        let v6 = |text| Match::Address(Source, Family::V6, block(text));
        let odd = AddrRange { first: 0x0a00_0001, last: 0x0a00_0005 };
        let matches = [
            vec![Match::Family(Family::V4)],
            vec![Match::Family(Family::V6)],
            vec![Match::InLoopback],
            vec![Match::OutLoopback],
            vec![Match::LocalDestination],
            vec![Match::LocalSource, Match::LocalDestination],
            vec![Match::ForeignSource],
            vec![Match::State(State::Invalid)],
            vec![Match::State(State::Established)],
            vec![Match::State(State::Related), Match::Protocol(1)],
            vec![Match::State(State::New)],
            vec![Match::Family(Family::V6), Match::Protocol(58)],
            vec![Match::Protocol(6)],
            vec![Match::ProtocolIn(set())],
            vec![Match::Protocol(6), Match::Port(ports(443, 443))],
            vec![Match::ProtocolIn(set()), Match::Port(ports(80, 90))],
            vec![Match::Protocol(17), Match::PortIn(set())],
            vec![Match::Icmpv6Type(134, 134)],
            vec![Match::Icmpv6Type(133, 136), Match::HopLimit(255)],
            vec![Match::UserSocket],
            vec![Match::MidStream],
            vec![Match::TcpEnds],
            vec![Match::TcpOpensOrResets],
            vec![v4("10.0.0.0/8")],
            vec![v4("10.128.0.0/9"), Match::Protocol(6), Match::Port(ports(1, 2))],
            vec![v4("192.0.2.7/32")],
            vec![Match::Address(Source, Family::V4, odd)],
            vec![v6("2001:db8::/32")],
            vec![v6("fe80::/10")],
            vec![v6("2001:db8::1/128"), Match::AddressIn(Destination, Family::V6, set())],
            vec![Match::AddressIn(Source, Family::V4, set())],
            vec![Match::BlockIn(Source, Family::V4, 23, set())],
            vec![Match::BlockIn(Destination, Family::V6, 48, set())],
            vec![Match::Protocol(6), Match::AddressPortIn(Destination, Family::V4, set())],
            vec![Match::AddressPortIn(Source, Family::V6, set())],
            vec![Match::AddressProtocolPortIn(Destination, Family::V4, set())],
            vec![Match::AddressProtocolPortIn(Destination, Family::V6, set()), Match::OutLoopback],
        ];
        for matches in matches {
            comes_back(matches.clone(), vec![], Some(Verdict::Accept));
            comes_back(matches, vec![Statement::Count], None);
        }
    }

    #[test]
    fn every_statement_and_verdict_comes_back() {
        for family in [Family::V4, Family::V6] {
            for ports in [true, false] {
                let forget = Statement::ForgetFlow { side: Side::Source, family, ports, set: "seen".into() };
                comes_back(vec![Match::Protocol(6)], vec![forget], Some(Verdict::Accept));
                let remember = Statement::Remember { side: Side::Destination, family, ports, set: "seen".into() };
                comes_back(vec![Match::Protocol(6)], vec![remember, Statement::Count], Some(Verdict::Reject));
            }
        }
        for verdict in [
            Verdict::Accept,
            Verdict::Drop,
            Verdict::Swallow,
            Verdict::Return,
            Verdict::Jump("a".into()),
            Verdict::Goto("b".into()),
            Verdict::RejectWithReset,
            Verdict::Reject,
        ] {
            comes_back(vec![], vec![], Some(verdict));
        }
    }

    #[test]
    fn what_is_not_ours_is_shown_and_never_left_out() {
        let drop = Expr::Verdict { code: 0, chain: None };
        assert_eq!(raise(&[Expr::Foreign("limit".into()), drop.clone()]), "<limit> drop");
        assert_eq!(raise(&[Expr::Lookup { set: "s".into(), sreg: 1 }]), "<nothing> @s");
        assert_eq!(raise(&[Expr::Cmp { op: 0, sreg: 1, data: vec![1] }]), "<comparison>");
        let mark = [Expr::Meta { key: 3, dreg: 1 }, Expr::Cmp { op: 1, sreg: 1, data: 7u32.to_ne_bytes().to_vec() }];
        assert_eq!(raise(&mark), "<meta key 3> != 7");
        // An address load without the family that says whose address it is.
        let bare = [
            Expr::Payload { base: 1, offset: 16, len: 4, dreg: 1 },
            Expr::Cmp { op: 0, sreg: 1, data: vec![10, 0, 0, 1] },
        ];
        assert_eq!(raise(&bare), "@nh,128,32 167772161");
        let long = [Expr::Meta { key: 3, dreg: 1 }, Expr::Cmp { op: 9, sreg: 1, data: vec![0xab; 9] }];
        assert_eq!(raise(&long), "<meta key 3> <other> 0xababababababababab");
    }

    proptest::proptest! {
        #[test]
        fn no_expressions_panic(numbers in proptest::collection::vec((0u32..13, proptest::num::u32::ANY, 0usize..20), 0..12)) {
            let exprs: Vec<Expr> = numbers.iter().map(|(kind, n, len)| match kind {
                0 => Expr::Meta { key: n % 20, dreg: n % 26 },
                1 => Expr::Payload { base: n % 4, offset: *n, len: n % 20, dreg: n % 26 },
                2 => Expr::Cmp { op: n % 7, sreg: n % 26, data: vec![0xff; *len] },
                3 => Expr::Mask { reg: n % 26, mask: vec![0xf0; *len] },
                4 => Expr::Ct { key: n % 3, dreg: n % 26 },
                5 => Expr::Fib { result: n % 5, flags: n % 5, dreg: n % 26 },
                6 => Expr::Lookup { set: "s".into(), sreg: n % 26 },
                7 => Expr::Load { dreg: n % 26, data: vec![7; *len] },
                8 => Expr::Verdict { code: n.cast_signed() % 7, chain: None },
                9 => Expr::Reject { kind: n % 4, code: 3 },
                10 => Expr::Update { set: "s".into(), sreg: *n, timeout_ms: 0 },
                11 => Expr::Forward { sreg: n % 26 },
                _ => Expr::Foreign("x".into()),
            }).collect();
            let _ = raise(&exprs);
        }
    }
}
