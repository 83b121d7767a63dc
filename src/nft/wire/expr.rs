//! Expressions as the kernel has them, each encoding beside its decoding.
//!
//! Data in registers is in packet order for addresses and ports and in host order where the kernel compares a number
//! of its own (conntrack state, interface index, address type).

use super::attr::{Attrs, Writer};
use super::uapi::*;

/// Bytes compared, masked or loaded: at most an IPv6 address.
pub type Data = Vec<u8>;

/// One expression of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// `meta load key => reg`.
    Meta {
        /// `NFT_META_*`.
        key: u32,
        /// Destination register.
        dreg: u32,
    },
    /// `payload load len @ base + offset => reg`.
    Payload {
        /// `NFT_PAYLOAD_*_HEADER`.
        base: u32,
        /// Bytes.
        offset: u32,
        /// Bytes.
        len: u32,
        /// Destination register.
        dreg: u32,
    },
    /// `cmp op reg data`.
    Cmp {
        /// `NFT_CMP_*`.
        op: u32,
        /// Source register.
        sreg: u32,
        /// What with.
        data: Data,
    },
    /// `bitwise reg = (reg & mask) ^ 0`.
    Mask {
        /// Source and destination.
        reg: u32,
        /// The mask.
        mask: Data,
    },
    /// `ct load key => reg`.
    Ct {
        /// `NFT_CT_*`.
        key: u32,
        /// Destination register.
        dreg: u32,
    },
    /// `fib flags result => reg`.
    Fib {
        /// `NFT_FIB_RESULT_*`.
        result: u32,
        /// `NFTA_FIB_F_*`.
        flags: u32,
        /// Destination register.
        dreg: u32,
    },
    /// `lookup reg set`.
    Lookup {
        /// The set.
        set: String,
        /// Source register.
        sreg: u32,
    },
    /// `immediate reg data`.
    Load {
        /// Destination register.
        dreg: u32,
        /// The value.
        data: Data,
    },
    /// `immediate reg 0 verdict`.
    Verdict {
        /// `NF_ACCEPT`, `NF_DROP` or a negative `NFT_*`.
        code: i32,
        /// Target of a jump or goto.
        chain: Option<String>,
    },
    /// `counter`; what it has counted is not part of the rule.
    Counter,
    /// `reject`.
    Reject {
        /// `NFT_REJECT_*`.
        kind: u32,
        /// ICMP code.
        code: u8,
    },
    /// `fwd sreg_dev reg`.
    Forward {
        /// Register of the device's index.
        sreg: u32,
    },
    /// `dynset update`.
    Update {
        /// The set.
        set: String,
        /// Register of the key.
        sreg: u32,
        /// Milliseconds; 0 is the set's own.
        timeout_ms: u64,
    },
    /// `dynset delete`.
    Delete {
        /// The set.
        set: String,
        /// Register of the key.
        sreg: u32,
    },
    /// `exthdr load len @ type + offset => reg`, of an IPv6 extension header.
    Exthdr {
        /// Its protocol number.
        kind: u8,
        /// Bytes.
        offset: u32,
        /// Bytes.
        len: u32,
        /// Destination register.
        dreg: u32,
    },
    /// Something we never write: somebody else's rule in our table.
    Foreign(String),
}

impl Expr {
    /// The kernel's name of the expression.
    pub fn name(&self) -> &str {
        match self {
            Expr::Meta { .. } => "meta",
            Expr::Payload { .. } => "payload",
            Expr::Cmp { .. } => "cmp",
            Expr::Mask { .. } => "bitwise",
            Expr::Ct { .. } => "ct",
            Expr::Fib { .. } => "fib",
            Expr::Lookup { .. } => "lookup",
            Expr::Load { .. } | Expr::Verdict { .. } => "immediate",
            Expr::Counter => "counter",
            Expr::Reject { .. } => "reject",
            Expr::Forward { .. } => "fwd",
            Expr::Update { .. } | Expr::Delete { .. } => "dynset",
            Expr::Exthdr { .. } => "exthdr",
            Expr::Foreign(name) => name,
        }
    }

    /// Writes the expression as one `NFTA_LIST_ELEM`.
    pub fn encode(&self, w: &mut Writer) {
        w.nest(NFTA_LIST_ELEM, |w| {
            w.str(NFTA_EXPR_NAME, self.name());
            w.nest(NFTA_EXPR_DATA, |w| self.encode_data(w));
        });
    }

    fn encode_data(&self, w: &mut Writer) {
        match self {
            Expr::Meta { key, dreg } => {
                w.u32(NFTA_META_KEY, *key);
                w.u32(NFTA_META_DREG, *dreg);
            }
            Expr::Payload { base, offset, len, dreg } => {
                w.u32(NFTA_PAYLOAD_DREG, *dreg);
                w.u32(NFTA_PAYLOAD_BASE, *base);
                w.u32(NFTA_PAYLOAD_OFFSET, *offset);
                w.u32(NFTA_PAYLOAD_LEN, *len);
            }
            Expr::Cmp { op, sreg, data } => {
                w.u32(NFTA_CMP_SREG, *sreg);
                w.u32(NFTA_CMP_OP, *op);
                w.nest(NFTA_CMP_DATA, |w| w.bytes(NFTA_DATA_VALUE, data));
            }
            Expr::Mask { reg, mask } => {
                w.u32(NFTA_BITWISE_SREG, *reg);
                w.u32(NFTA_BITWISE_DREG, *reg);
                w.u32(NFTA_BITWISE_LEN, mask.len() as u32);
                w.nest(NFTA_BITWISE_MASK, |w| w.bytes(NFTA_DATA_VALUE, mask));
                w.nest(NFTA_BITWISE_XOR, |w| w.bytes(NFTA_DATA_VALUE, &vec![0; mask.len()]));
            }
            Expr::Ct { key, dreg } => {
                w.u32(NFTA_CT_KEY, *key);
                w.u32(NFTA_CT_DREG, *dreg);
            }
            Expr::Fib { result, flags, dreg } => {
                w.u32(NFTA_FIB_FLAGS, *flags);
                w.u32(NFTA_FIB_RESULT, *result);
                w.u32(NFTA_FIB_DREG, *dreg);
            }
            Expr::Lookup { set, sreg } => {
                w.str(NFTA_LOOKUP_SET, set);
                w.u32(NFTA_LOOKUP_SREG, *sreg);
            }
            Expr::Load { dreg, data } => {
                w.u32(NFTA_IMMEDIATE_DREG, *dreg);
                w.nest(NFTA_IMMEDIATE_DATA, |w| w.bytes(NFTA_DATA_VALUE, data));
            }
            Expr::Verdict { code, chain } => {
                w.u32(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
                w.nest(NFTA_IMMEDIATE_DATA, |w| {
                    w.nest(NFTA_DATA_VERDICT, |w| {
                        w.bytes(NFTA_VERDICT_CODE, &code.to_be_bytes());
                        if let Some(chain) = chain {
                            w.str(NFTA_VERDICT_CHAIN, chain);
                        }
                    });
                });
            }
            Expr::Counter | Expr::Foreign(_) => {}
            Expr::Reject { kind, code } => {
                w.u32(NFTA_REJECT_TYPE, *kind);
                w.bytes(NFTA_REJECT_ICMP_CODE, &[*code]);
            }
            Expr::Forward { sreg } => w.u32(NFTA_FWD_SREG_DEV, *sreg),
            Expr::Exthdr { kind, offset, len, dreg } => {
                w.u32(NFTA_EXTHDR_DREG, *dreg);
                w.bytes(NFTA_EXTHDR_TYPE, &[*kind]);
                w.u32(NFTA_EXTHDR_OFFSET, *offset);
                w.u32(NFTA_EXTHDR_LEN, *len);
            }
            Expr::Update { set, sreg, timeout_ms } => {
                w.str(NFTA_DYNSET_SET_NAME, set);
                w.u32(NFTA_DYNSET_SREG_KEY, *sreg);
                w.u32(NFTA_DYNSET_OP, NFT_DYNSET_OP_UPDATE);
                if *timeout_ms > 0 {
                    w.u64(NFTA_DYNSET_TIMEOUT, *timeout_ms);
                }
            }
            Expr::Delete { set, sreg } => {
                w.str(NFTA_DYNSET_SET_NAME, set);
                w.u32(NFTA_DYNSET_SREG_KEY, *sreg);
                w.u32(NFTA_DYNSET_OP, NFT_DYNSET_OP_DELETE);
            }
        }
    }

    /// Reads one `NFTA_LIST_ELEM`. What we never write comes back as [`Expr::Foreign`], never as an error: a dump
    /// must be readable whatever somebody else put into our table.
    pub fn decode(elem: Attrs<'_>) -> Expr {
        let name = elem.find(NFTA_EXPR_NAME).and_then(|attr| attr.str()).unwrap_or_default();
        let data = elem.find(NFTA_EXPR_DATA).map_or(Attrs::new(&[]), |attr| attr.nest());
        Expr::decode_data(name, data).unwrap_or_else(|| Expr::Foreign(name.to_owned()))
    }

    fn decode_data(name: &str, data: Attrs<'_>) -> Option<Expr> {
        let number = |kind| data.find(kind).and_then(|attr| attr.u32());
        let text = |kind| data.find(kind).and_then(|attr| attr.str()).map(str::to_owned);
        let value =
            |kind| data.find(kind).and_then(|attr| attr.nest().find(NFTA_DATA_VALUE)).map(|attr| attr.value.to_vec());
        Some(match name {
            "meta" => Expr::Meta { key: number(NFTA_META_KEY)?, dreg: canonical(number(NFTA_META_DREG)?) },
            "payload" => Expr::Payload {
                base: number(NFTA_PAYLOAD_BASE)?,
                offset: number(NFTA_PAYLOAD_OFFSET)?,
                len: number(NFTA_PAYLOAD_LEN)?,
                dreg: canonical(number(NFTA_PAYLOAD_DREG)?),
            },
            "cmp" => Expr::Cmp {
                op: number(NFTA_CMP_OP)?,
                sreg: canonical(number(NFTA_CMP_SREG)?),
                data: value(NFTA_CMP_DATA)?,
            },
            "bitwise" => {
                let (sreg, dreg) = (number(NFTA_BITWISE_SREG)?, number(NFTA_BITWISE_DREG)?);
                let xor = value(NFTA_BITWISE_XOR)?;
                let other = number(NFTA_BITWISE_OP).is_some_and(|op| op != NFT_BITWISE_MASK_XOR);
                if other || sreg != dreg || xor.iter().any(|b| *b != 0) {
                    return None;
                }
                Expr::Mask { reg: canonical(sreg), mask: value(NFTA_BITWISE_MASK)? }
            }
            "ct" if data.find(NFTA_CT_DIRECTION).is_some() => return None,
            "ct" => Expr::Ct { key: number(NFTA_CT_KEY)?, dreg: canonical(number(NFTA_CT_DREG)?) },
            "fib" => Expr::Fib {
                result: number(NFTA_FIB_RESULT)?,
                flags: number(NFTA_FIB_FLAGS)?,
                dreg: canonical(number(NFTA_FIB_DREG)?),
            },
            "lookup" => {
                // A destination register (a map) or the inversion flag would be another expression.
                let inverted = number(NFTA_LOOKUP_FLAGS).is_some_and(|flags| flags != 0);
                if inverted || number(NFTA_LOOKUP_DREG).is_some() {
                    return None;
                }
                Expr::Lookup { set: text(NFTA_LOOKUP_SET)?, sreg: canonical(number(NFTA_LOOKUP_SREG)?) }
            }
            "immediate" => {
                let dreg = number(NFTA_IMMEDIATE_DREG)?;
                let verdict = data.find(NFTA_IMMEDIATE_DATA)?.nest().find(NFTA_DATA_VERDICT);
                match verdict {
                    Some(verdict) => Expr::Verdict {
                        code: verdict.nest().find(NFTA_VERDICT_CODE)?.u32()?.cast_signed(),
                        chain: verdict.nest().find(NFTA_VERDICT_CHAIN).and_then(|a| a.str()).map(str::to_owned),
                    },
                    None => Expr::Load { dreg: canonical(dreg), data: value(NFTA_IMMEDIATE_DATA)? },
                }
            }
            "counter" => Expr::Counter,
            "reject" => Expr::Reject {
                kind: number(NFTA_REJECT_TYPE)?,
                // The kernel does not dump a code for resets.
                code: data.find(NFTA_REJECT_ICMP_CODE).and_then(|a| a.value.first().copied()).unwrap_or(0),
            },
            // With an address it would go to a neighbour.
            "fwd" if data.find(NFTA_FWD_SREG_ADDR).is_some() => return None,
            "fwd" => Expr::Forward { sreg: canonical(number(NFTA_FWD_SREG_DEV)?) },
            "dynset" => {
                // A flag would invert it or hang an expression on each element.
                let more = [NFTA_DYNSET_SREG_DATA, NFTA_DYNSET_EXPR, NFTA_DYNSET_EXPRESSIONS];
                let timeout_ms = data.find(NFTA_DYNSET_TIMEOUT).and_then(|attr| attr.u64()).unwrap_or(0);
                let inverted = number(NFTA_DYNSET_FLAGS).is_some_and(|flags| flags != 0);
                if inverted || more.iter().any(|kind| data.find(*kind).is_some()) {
                    return None;
                }
                let (set, sreg) = (text(NFTA_DYNSET_SET_NAME)?, canonical(number(NFTA_DYNSET_SREG_KEY)?));
                match number(NFTA_DYNSET_OP)? {
                    NFT_DYNSET_OP_UPDATE => Expr::Update { set, sreg, timeout_ms },
                    NFT_DYNSET_OP_DELETE if timeout_ms == 0 => Expr::Delete { set, sreg },
                    _ => return None,
                }
            }
            "exthdr" => {
                // Flags and operations ask for presence, or for options of TCP, IPv4 and SCTP.
                let other = |kind| number(kind).is_some_and(|value| value != 0);
                if other(NFTA_EXTHDR_FLAGS) || other(NFTA_EXTHDR_OP) {
                    return None;
                }
                Expr::Exthdr {
                    kind: data.find(NFTA_EXTHDR_TYPE).and_then(|attr| attr.value.first().copied())?,
                    offset: number(NFTA_EXTHDR_OFFSET)?,
                    len: number(NFTA_EXTHDR_LEN)?,
                    dreg: canonical(number(NFTA_EXTHDR_DREG)?),
                }
            }
            _ => return None,
        })
    }
}

/// The kernel dumps a 4-byte register that begins a 16-byte one under the latter's number (`nft_dump_register`).
fn canonical(register: u32) -> u32 {
    match register {
        NFT_REG32_00.. if (register - NFT_REG32_00).is_multiple_of(4) => NFT_REG_1 + (register - NFT_REG32_00) / 4,
        other => other,
    }
}
