//! From our matches to the kernel's expressions, guards included.
//!
//! The sequence is what `nft` 1.0.6 generates for the same text, so that both listings agree: an address load is
//! preceded by `meta nfproto`, once a rule.

use super::expr::Expr;
use super::uapi::*;
use crate::net::{AddrRange, Family, mask};
use crate::nft::ruleset::{Match, Rule, Side, State, Statement, TableFamily, Verdict};

/// The expressions of a rule, in order, in a table of a family.
pub fn lower(rule: &Rule, table: TableFamily) -> Vec<Expr> {
    let mut lowering = Lowering { exprs: Vec::with_capacity(8), table, family: None };
    for condition in &rule.matches {
        lowering.condition(condition);
    }
    for statement in &rule.statements {
        lowering.statement(statement);
    }
    if rule.verdict == Some(Verdict::Swallow) {
        lowering.push(Expr::Load { dreg: NFT_REG_1, data: NO_DEVICE.to_ne_bytes().to_vec() });
    }
    lowering.exprs.extend(rule.verdict.as_ref().map(verdict));
    lowering.exprs
}

/// An interface's index that none has: they count from 1.
const NO_DEVICE: u32 = 0;

struct Lowering {
    exprs: Vec<Expr>,
    table: TableFamily,
    /// The family the rule is known to be about so far.
    family: Option<Family>,
}

/// The second and third field of a concatenated key behind an address. Fields follow each other in 32-bit registers
/// from register 1 on, which is NFT_REG32_00.
const fn behind_address(family: Family) -> u32 {
    match family {
        Family::V4 => NFT_REG32_00 + 1,
        Family::V6 => NFT_REG32_00 + 4,
    }
}

impl Lowering {
    fn push(&mut self, expr: Expr) {
        self.exprs.push(expr);
    }

    fn meta(&mut self, key: u32) {
        self.push(Expr::Meta { key, dreg: NFT_REG_1 });
    }

    fn equals(&mut self, data: &[u8]) {
        self.push(Expr::Cmp { op: NFT_CMP_EQ, sreg: NFT_REG_1, data: data.to_vec() });
    }

    /// One value, or the first and last of a range.
    fn within(&mut self, first: &[u8], last: &[u8]) {
        if first == last {
            self.equals(first);
        } else {
            self.push(Expr::Cmp { op: NFT_CMP_GTE, sreg: NFT_REG_1, data: first.to_vec() });
            self.push(Expr::Cmp { op: NFT_CMP_LTE, sreg: NFT_REG_1, data: last.to_vec() });
        }
    }

    fn protocol(&mut self, number: u8) {
        self.meta(NFT_META_L4PROTO);
        self.equals(&[number]);
    }

    fn guard(&mut self, family: Family) {
        if self.family != Some(family) {
            match self.table {
                TableFamily::Inet => {
                    self.meta(NFT_META_NFPROTO);
                    self.equals(&[match family {
                        Family::V4 => NFPROTO_IPV4,
                        Family::V6 => NFPROTO_IPV6,
                    }]);
                }
                // The hook's own protocol family is no IP family there.
                TableFamily::Netdev => {
                    self.meta(NFT_META_PROTOCOL);
                    self.equals(&match family {
                        Family::V4 => ETH_P_IP.to_be_bytes(),
                        Family::V6 => ETH_P_IPV6.to_be_bytes(),
                    });
                }
            }
            self.family = Some(family);
        }
    }

    fn load(&mut self, base: u32, offset: u32, len: u32, dreg: u32) {
        self.push(Expr::Payload { base, offset, len, dreg });
    }

    fn load_port(&mut self, dreg: u32) {
        self.load(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, dreg);
    }

    fn load_address(&mut self, side: Side, family: Family) {
        self.load_front(side, family, u32::from(family.bits() / 8));
    }

    /// The first `len` bytes of an address.
    fn load_front(&mut self, side: Side, family: Family, len: u32) {
        self.guard(family);
        let offset = match (family, side) {
            (Family::V4, Side::Source) => 12,
            (Family::V4, Side::Destination) => 16,
            (Family::V6, Side::Source) => 8,
            (Family::V6, Side::Destination) => 24,
        };
        self.load(NFT_PAYLOAD_NETWORK_HEADER, offset, len, NFT_REG_1);
    }

    /// One address, block or range. A block is compared by its whole bytes where it has only such, else under a mask.
    fn address(&mut self, side: Side, family: Family, range: AddrRange) {
        let bytes = usize::from(family.bits() / 8);
        let octets = |bits: u128| bits.to_be_bytes()[16 - bytes..].to_vec();
        let first = octets(range.first);
        match range.prefix_len(family) {
            None | Some(0) => {
                self.load_address(side, family);
                self.within(&first, &octets(range.last));
            }
            Some(len) if len % 8 == 0 => {
                let whole = usize::from(len / 8);
                self.load_front(side, family, whole as u32);
                self.equals(&first[..whole]);
            }
            Some(_) => {
                self.load_address(side, family);
                self.push(Expr::Mask { reg: NFT_REG_1, mask: octets(!(range.last - range.first)) });
                self.equals(&first);
            }
        }
    }

    /// Whether an address is one of the namespace's own.
    fn address_type(&mut self, flags: u32, op: u32) {
        self.push(Expr::Fib { result: NFT_FIB_RESULT_ADDRTYPE, flags, dreg: NFT_REG_1 });
        self.push(Expr::Cmp { op, sreg: NFT_REG_1, data: RTN_LOCAL.to_ne_bytes().to_vec() });
    }

    fn lookup(&mut self, set: &str) {
        self.push(Expr::Lookup { set: set.to_owned(), sreg: NFT_REG_1 });
    }

    fn condition(&mut self, condition: &Match) {
        match condition {
            Match::Family(family) => self.guard(*family),
            Match::InLoopback => {
                self.meta(NFT_META_IIF);
                self.equals(&LOOPBACK_IFINDEX.to_ne_bytes());
            }
            Match::OutLoopback => {
                self.meta(NFT_META_OIF);
                self.equals(&LOOPBACK_IFINDEX.to_ne_bytes());
            }
            Match::LocalDestination => self.address_type(NFTA_FIB_F_DADDR, NFT_CMP_EQ),
            Match::LocalSource => self.address_type(NFTA_FIB_F_SADDR, NFT_CMP_EQ),
            Match::ForeignSource => self.address_type(NFTA_FIB_F_SADDR, NFT_CMP_NEQ),
            Match::State(state) => {
                let bit = match state {
                    State::Invalid => NF_CT_STATE_INVALID_BIT,
                    State::Established => NF_CT_STATE_ESTABLISHED_BIT,
                    State::Related => NF_CT_STATE_RELATED_BIT,
                    State::New => NF_CT_STATE_NEW_BIT,
                };
                self.push(Expr::Ct { key: NFT_CT_STATE, dreg: NFT_REG_1 });
                self.equals(&bit.to_ne_bytes());
            }
            Match::Protocol(number) => self.protocol(*number),
            Match::ProtocolIn(set) => {
                self.meta(NFT_META_L4PROTO);
                self.lookup(set);
            }
            Match::Port(ports) => {
                self.load_port(NFT_REG_1);
                self.within(&ports.first().to_be_bytes(), &ports.last().to_be_bytes());
            }
            Match::PortIn(set) => {
                self.load_port(NFT_REG_1);
                self.lookup(set);
            }
            Match::Icmpv6Type(first, last) => {
                self.guard(Family::V6);
                self.protocol(58);
                self.load(NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1, NFT_REG_1);
                self.within(&[*first], &[*last]);
            }
            Match::UserSocket => {
                self.meta(NFT_META_SKUID);
                self.push(Expr::Cmp { op: NFT_CMP_NEQ, sreg: NFT_REG_1, data: vec![0xff; 4] });
            }
            Match::Routed => {
                self.meta(NFT_META_RTCLASSID);
                self.push(Expr::Cmp { op: NFT_CMP_GTE, sreg: NFT_REG_1, data: vec![0; 4] });
            }
            Match::EtherType(number) => {
                self.meta(NFT_META_PROTOCOL);
                self.equals(&number.to_be_bytes());
            }
            Match::HopLimit(limit) => {
                self.guard(Family::V6);
                self.load(NFT_PAYLOAD_NETWORK_HEADER, 7, 1, NFT_REG_1);
                self.equals(&[*limit]);
            }
            Match::MidStream => {
                self.protocol(IPPROTO_TCP);
                self.load(NFT_PAYLOAD_TRANSPORT_HEADER, TCP_FLAGS_OFFSET, 1, NFT_REG_1);
                self.push(Expr::Mask { reg: NFT_REG_1, mask: vec![TH_FIN | TH_SYN | TH_RST | TH_ACK] });
                self.push(Expr::Cmp { op: NFT_CMP_NEQ, sreg: NFT_REG_1, data: vec![TH_SYN] });
            }
            Match::TcpEnds => {
                self.protocol(IPPROTO_TCP);
                self.load(NFT_PAYLOAD_TRANSPORT_HEADER, TCP_FLAGS_OFFSET, 1, NFT_REG_1);
                self.any_bit(&[TH_FIN | TH_RST]);
            }
            Match::FrameType(number) => {
                self.load(NFT_PAYLOAD_LL_HEADER, 12, 2, NFT_REG_1);
                self.equals(&number.to_be_bytes());
            }
            Match::IcmpType(first, last) => {
                self.guard(Family::V4);
                self.protocol(1);
                self.load(NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1, NFT_REG_1);
                self.within(&[*first], &[*last]);
            }
            Match::LaterFragment(family) => self.fragment_bits(*family, [0x1f, 0xff], [0xff, 0xf8]),
            Match::MoreFragments(family) => self.fragment_bits(*family, [0x20, 0], [0, 1]),
            Match::KnownFragment(side, family, set) => {
                self.fragment_key(*side, *family);
                self.lookup(set);
            }
            Match::KnownFlow { side, family, ports, set } => {
                self.flow_key(*side, *family, *ports);
                self.lookup(set);
            }
            Match::KnownInner { family, ports, fragment, set } => {
                self.inner_flow_key(*family, *ports, *fragment);
                self.lookup(set);
            }
            Match::TcpOpensOrResets => {
                self.protocol(IPPROTO_TCP);
                self.load(NFT_PAYLOAD_TRANSPORT_HEADER, TCP_FLAGS_OFFSET, 1, NFT_REG_1);
                self.any_bit(&[TH_SYN | TH_RST]);
            }
            // struct arphdr: ar_hrd, ar_pro, ar_hln, ar_pln.
            Match::ArpOfIpv4 => {
                self.load(NFT_PAYLOAD_NETWORK_HEADER, 0, 6, NFT_REG_1);
                self.equals(&[0, ARPHRD_ETHER, 8, 0, 6, 4]);
            }
            Match::ArpSenderIn(set) => {
                self.load(NFT_PAYLOAD_NETWORK_HEADER, ARP_SENDER, 4, NFT_REG_1);
                self.lookup(set);
            }
            Match::ArpProbe => {
                self.load(NFT_PAYLOAD_NETWORK_HEADER, 6, 2, NFT_REG_1);
                self.equals(&[0, ARPOP_REQUEST]);
                self.load(NFT_PAYLOAD_NETWORK_HEADER, ARP_SENDER, 4, NFT_REG_1);
                self.equals(&[0; 4]);
            }
            Match::NeighbourTargetIn(set) => {
                self.guard(Family::V6);
                self.load(NFT_PAYLOAD_TRANSPORT_HEADER, 8, 16, NFT_REG_1);
                self.lookup(set);
            }
            // A byte that is not there ends the rule (`nft_payload_eval`), and any other is 0 at least.
            Match::LongerThan(bytes) => {
                self.load(NFT_PAYLOAD_NETWORK_HEADER, *bytes, 1, NFT_REG_1);
                self.push(Expr::Cmp { op: NFT_CMP_GTE, sreg: NFT_REG_1, data: vec![0] });
            }
            Match::Address(side, family, range) => self.address(*side, *family, *range),
            Match::AddressIn(side, family, set) => {
                self.load_address(*side, *family);
                self.lookup(set);
            }
            Match::BlockIn(side, family, length, set) => {
                self.load_address(*side, *family);
                let bytes = usize::from(family.bits() / 8);
                let mask = mask(*family, *length).to_be_bytes()[16 - bytes..].to_vec();
                self.push(Expr::Mask { reg: NFT_REG_1, mask });
                self.lookup(set);
            }
            Match::AddressProtocolPortIn(side, family, set) => {
                self.load_address(*side, *family);
                self.push(Expr::Meta { key: NFT_META_L4PROTO, dreg: behind(*family, 0) });
                self.load_port(behind(*family, 1));
                self.lookup(set);
            }
            Match::AddressPortIn(side, family, set) => {
                self.load_address(*side, *family);
                self.load_port(behind(*family, 0));
                self.lookup(set);
            }
        }
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Count => self.push(Expr::Counter),
            Statement::Remember { side, family, ports, set } => {
                self.load_address(*side, *family);
                self.push(Expr::Meta { key: NFT_META_L4PROTO, dreg: behind(*family, 0) });
                if *ports {
                    self.load_port(behind(*family, 1));
                } else {
                    self.push(Expr::Load { dreg: behind(*family, 1), data: vec![0; 2] });
                }
                self.update(set, 0);
            }
            Statement::RememberFlow { side, family, ports, set, timeout_s } => {
                self.flow_key(*side, *family, *ports);
                self.update(set, u64::from(*timeout_s) * 1000);
            }
            Statement::ForgetFlow { side, family, ports, set } => {
                self.flow_key(*side, *family, *ports);
                self.push(Expr::Delete { set: set.to_owned(), sreg: NFT_REG_1 });
            }
            Statement::RememberFragment(side, family, set) => {
                self.fragment_key(*side, *family);
                self.update(set, 0);
            }
            Statement::RememberAddress(side, family, set) => {
                self.load_address(*side, *family);
                self.update(set, 0);
            }
        }
    }

    fn update(&mut self, set: &str, timeout_ms: u64) {
        self.push(Expr::Update { set: set.to_owned(), sreg: NFT_REG_1, timeout_ms });
    }

    /// Whether any bit of `mask` is set in what was loaded.
    fn any_bit(&mut self, mask: &[u8]) {
        self.push(Expr::Mask { reg: NFT_REG_1, mask: mask.to_vec() });
        self.push(Expr::Cmp { op: NFT_CMP_NEQ, sreg: NFT_REG_1, data: vec![0; mask.len()] });
    }

    /// The flags and the offset of a fragment: `struct iphdr.frag_off`, `struct frag_hdr.frag_off`.
    fn fragment_bits(&mut self, family: Family, v4: [u8; 2], v6: [u8; 2]) {
        self.guard(family);
        match family {
            Family::V4 => {
                self.load(NFT_PAYLOAD_NETWORK_HEADER, 6, 2, NFT_REG_1);
                self.any_bit(&v4);
            }
            Family::V6 => {
                self.push(Expr::Exthdr { kind: IPPROTO_FRAGMENT, offset: 2, len: 2, dreg: NFT_REG_1 });
                self.any_bit(&v6);
            }
        }
    }

    fn fragment_key(&mut self, side: Side, family: Family) {
        self.load_address(side, family);
        match family {
            Family::V4 => self.load(NFT_PAYLOAD_NETWORK_HEADER, 4, 2, behind(family, 0)),
            Family::V6 => {
                self.push(Expr::Exthdr { kind: IPPROTO_FRAGMENT, offset: 4, len: 4, dreg: behind(family, 0) });
            }
        }
    }

    fn flow_key(&mut self, side: Side, family: Family, ports: bool) {
        self.load_address(side, family);
        self.push(Expr::Meta { key: NFT_META_L4PROTO, dreg: behind(family, 0) });
        // Where the ports of the peer and of the container are.
        let (peers, own) = match side {
            Side::Source => (0, 2),
            Side::Destination => (2, 0),
        };
        for (n, offset) in [(1, peers), (2, own)] {
            if ports {
                self.load(NFT_PAYLOAD_TRANSPORT_HEADER, offset, 2, behind(family, n));
            } else {
                self.push(Expr::Load { dreg: behind(family, n), data: vec![0; 2] });
            }
        }
    }

    /// The same of the packet that an ICMP error cites behind its own eight bytes. The container sent it, so the peer is its
    /// destination. An IPv4 header with options is no match, nor is an IPv6 one with other extensions than a fragment's.
    fn inner_flow_key(&mut self, family: Family, ports: bool, fragment: bool) {
        const INNER: u32 = 8;
        /// `struct ipv6hdr` and `struct frag_hdr`.
        const IPV6: u32 = 40;
        const FRAGMENT: u32 = 8;
        let th = NFT_PAYLOAD_TRANSPORT_HEADER;
        let next_header = INNER + 6;
        let (address, protocol, at) = match (family, fragment) {
            (Family::V4, _) => (INNER + 16, INNER + 9, INNER + 20),
            (Family::V6, false) => (INNER + 24, next_header, INNER + IPV6),
            (Family::V6, true) => (INNER + 24, INNER + IPV6, INNER + IPV6 + FRAGMENT),
        };
        match (family, fragment) {
            (Family::V4, _) => {
                self.load(th, INNER, 1, NFT_REG_1);
                self.equals(&[0x45]);
            }
            (Family::V6, false) => {}
            (Family::V6, true) => {
                self.load(th, next_header, 1, NFT_REG_1);
                self.equals(&[IPPROTO_FRAGMENT]);
            }
        }
        self.load(th, address, u32::from(family.bits() / 8), NFT_REG_1);
        self.load(th, protocol, 1, behind(family, 0));
        for (n, offset) in [(1, at + 2), (2, at)] {
            if ports {
                self.load(th, offset, 2, behind(family, n));
            } else {
                self.push(Expr::Load { dreg: behind(family, n), data: vec![0; 2] });
            }
        }
    }
}

/// `ARPHRD_ETHER`, `ARPOP_REQUEST` (include/uapi/linux/if_arp.h), and where the sender's address is behind that of its hardware.
const ARPHRD_ETHER: u8 = 1;
const ARPOP_REQUEST: u8 = 1;
const ARP_SENDER: u32 = 14;

/// The register of the n-th field behind an address, under the number the kernel dumps it with.
const fn behind(family: Family, n: u32) -> u32 {
    let register = behind_address(family) + n;
    // NFT_REG32_04 is NFT_REG_2 (nft_dump_register).
    if (register - NFT_REG32_00).is_multiple_of(4) { NFT_REG_1 + (register - NFT_REG32_00) / 4 } else { register }
}

fn verdict(verdict: &Verdict) -> Expr {
    let plain = |code| Expr::Verdict { code, chain: None };
    match verdict {
        Verdict::Accept => plain(NF_ACCEPT.cast_signed()),
        Verdict::Drop => plain(NF_DROP.cast_signed()),
        Verdict::Swallow => Expr::Forward { sreg: NFT_REG_1 },
        Verdict::Return => plain(NFT_RETURN),
        Verdict::Jump(chain) => Expr::Verdict { code: NFT_JUMP, chain: Some(chain.clone()) },
        Verdict::Goto(chain) => Expr::Verdict { code: NFT_GOTO, chain: Some(chain.clone()) },
        Verdict::RejectWithReset => Expr::Reject { kind: NFT_REJECT_TCP_RST, code: 0 },
        Verdict::Reject => Expr::Reject { kind: NFT_REJECT_ICMPX_UNREACH, code: NFT_REJECT_ICMPX_PORT_UNREACH },
    }
}
