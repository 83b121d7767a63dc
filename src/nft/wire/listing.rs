//! A table as it is shown to people: what the kernel holds, with what it has counted.
//!
//! [`Held`](super::held::Held) is for comparing and has nothing that changes by itself; this has little else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::attr::{self, Attrs};
use super::dump::{Ask, comment_of, key_of, shape_of};
use super::expr::Expr;
use super::held::KEY_LEN;
use super::raise::raise;
use super::uapi::*;
use crate::net::{Payload, Transport};
use crate::netlink::Message;
use crate::nft::build::refuses;
use crate::nft::ruleset::TABLE;

/// A table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Its comment, with the plan's digest.
    pub comment: String,
    /// Every chain is unhooked (`NFT_TABLE_F_DORMANT`).
    pub dormant: bool,
    /// In the order of the dump.
    pub chains: Vec<ListedChain>,
    /// In the order of the dump.
    pub sets: Vec<ListedSet>,
}

/// A chain with its rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListedChain {
    /// Its name.
    pub name: String,
    /// Where it hangs; `None` where rules lead to it.
    pub base: Option<ListedBase>,
    /// In order.
    pub rules: Vec<ListedRule>,
}

/// What makes a chain a base chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedBase {
    /// `output` and so on; the number where it has no such name.
    pub hook: String,
    /// Its priority among the chains of the hook.
    pub priority: i32,
    /// Whether what no rule decides passes.
    pub accepts: bool,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRule {
    /// As nft writes it, without the comment.
    pub text: String,
    /// Where it was written, or why it is there.
    pub comment: String,
    /// What has come as far as its counter; `None` where it has none.
    pub counted: Option<Counted>,
    /// What becomes of a packet that it takes.
    pub does: Does,
}

/// What a rule does with a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Does {
    /// It lets it through: this chain, or its layer.
    Allows,
    /// It ends it, or sends it where it is refused.
    Denies,
    /// It remembers that it would have been denied: `mode: audit`.
    WouldDeny,
    /// Other rules go on with it.
    #[default]
    GoesOn,
}

impl Does {
    fn of(exprs: &[Expr]) -> Does {
        match exprs.last() {
            Some(Expr::Verdict { code: NFT_JUMP | NFT_GOTO, chain: Some(chain) }) => match refuses(chain) {
                Some(does) => does,
                None => Does::GoesOn,
            },
            Some(Expr::Verdict { code: NFT_RETURN, .. }) => Does::Allows,
            Some(Expr::Verdict { code, .. }) if *code == NF_ACCEPT.cast_signed() => Does::Allows,
            Some(Expr::Verdict { code, .. }) if *code == NF_DROP.cast_signed() => Does::Denies,
            Some(Expr::Reject { .. }) => Does::Denies,
            Some(_) | None => Does::GoesOn,
        }
    }
}

/// What a counter says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Packets.
    pub packets: u64,
    /// Their bytes, network headers included.
    pub bytes: u64,
}

impl std::iter::Sum for Counted {
    fn sum<I: Iterator<Item = Counted>>(all: I) -> Counted {
        all.fold(Counted::default(), |sum, one| Counted {
            packets: sum.packets.saturating_add(one.packets),
            bytes: sum.bytes.saturating_add(one.bytes),
        })
    }
}

/// A set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListedSet {
    /// Its name.
    pub name: String,
    /// The types of its key, as nft's ids, first field first.
    pub key: Vec<u32>,
    /// Rules fill it as packets pass.
    pub dynamic: bool,
    /// How many elements it has: ranges count once.
    pub elements: usize,
    /// Of a dynamic one: what it remembers, the latest first.
    pub seen: Vec<Seen>,
}

/// What a rule has put into a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The other side.
    pub address: IpAddr,
    /// The protocol's number.
    pub protocol: u8,
    /// The port; 0 where the protocol has none.
    pub port: u16,
    /// Milliseconds until it is forgotten.
    pub expires_ms: u64,
}

impl Seen {
    /// What the packet carried. Of ICMP the type is not remembered: an echo request stands for all.
    pub fn payload(&self) -> Payload {
        let transport = Transport::ALL.into_iter().find(|transport| transport.number() == self.protocol);
        match (transport, self.protocol, self.address) {
            (Some(protocol), ..) => Payload::Transport { protocol, port: self.port },
            (None, 1, IpAddr::V4(_)) => Payload::Icmp { kind: 8 },
            (None, 58, IpAddr::V6(_)) => Payload::Icmp { kind: 128 },
            (None, other, _) => Payload::Other(other),
        }
    }
}

impl Listing {
    /// Begins the answer to one question, which is repeated where the table changed meanwhile.
    pub fn forget(&mut self, ask: &Ask<'_>) {
        match ask {
            Ask::Table => *self = Listing::default(),
            // Not asked here: those of other names, and some elements of many.
            Ask::Tables | Ask::Sample(_) => {}
            Ask::Chains => self.chains.clear(),
            Ask::Sets => self.sets.clear(),
            Ask::Rules => self.chains.iter_mut().for_each(|chain| chain.rules.clear()),
            Ask::Elements(name) => {
                for set in self.sets.iter_mut().filter(|set| set.name == *name) {
                    (set.elements, set.seen) = (0, Vec::new());
                }
            }
        }
    }

    /// Takes one message of an answer.
    pub fn take(&mut self, message: &Message<'_>) {
        let attrs = attr::attrs(message);
        let text = |kind| attrs.find(kind).and_then(|attr| attr.str()).unwrap_or_default();
        if message.kind >> 8 != NFNL_SUBSYS_NFTABLES || text(NFTA_TABLE_NAME) != TABLE {
            return;
        }
        match message.kind & 0xff {
            NFT_MSG_NEWTABLE => {
                self.comment = comment_of(attrs, NFTA_TABLE_USERDATA);
                self.dormant =
                    attrs.find(NFTA_TABLE_FLAGS).and_then(|attr| attr.u32()).unwrap_or(0) & NFT_TABLE_F_DORMANT != 0;
            }
            NFT_MSG_NEWCHAIN => {
                let base = attrs.find(NFTA_CHAIN_HOOK).map(|hook| base_of(hook.nest(), attrs));
                self.chains.push(ListedChain { name: text(NFTA_CHAIN_NAME).to_owned(), base, rules: Vec::new() });
            }
            NFT_MSG_NEWSET => {
                let shape = shape_of(attrs);
                let key = (0..4).rev().map(|n| (shape.key_type >> (n * TYPE_BITS)) & ((1 << TYPE_BITS) - 1));
                self.sets.push(ListedSet {
                    name: text(NFTA_SET_NAME).to_owned(),
                    key: key.filter(|id| *id != 0).collect(),
                    dynamic: shape.flags & NFT_SET_EVAL != 0,
                    ..ListedSet::default()
                });
            }
            NFT_MSG_NEWRULE => {
                let exprs = attrs.find(NFTA_RULE_EXPRESSIONS).map_or(Attrs::new(&[]), |attr| attr.nest());
                let name = text(NFTA_RULE_CHAIN);
                let decoded: Vec<Expr> = exprs.map(|elem| Expr::decode(elem.nest())).collect();
                if let Some(chain) = self.chains.iter_mut().find(|chain| chain.name == name) {
                    chain.rules.push(ListedRule {
                        text: raise(&decoded),
                        does: Does::of(&decoded),
                        comment: comment_of(attrs, NFTA_RULE_USERDATA),
                        counted: exprs.into_iter().find_map(|elem| counted(elem.nest())),
                    });
                }
            }
            NFT_MSG_NEWSETELEM => {
                let name = text(NFTA_SET_ELEM_LIST_SET);
                let elements = attrs.find(NFTA_SET_ELEM_LIST_ELEMENTS).map_or(Attrs::new(&[]), |attr| attr.nest());
                if let Some(set) = self.sets.iter_mut().find(|set| set.name == name) {
                    elements.for_each(|elem| set.take(elem.nest()));
                }
            }
            _ => {}
        }
    }

    /// Puts what was remembered in order.
    pub fn settle(&mut self) {
        for set in &mut self.sets {
            set.seen.sort_by_key(|seen| std::cmp::Reverse(seen.expires_ms));
        }
    }

    /// What was denied, or would have been in audit: everything that rules have counted that do so.
    pub fn denied(&self) -> Counted {
        let rules = self.chains.iter().flat_map(|chain| &chain.rules);
        let denying = rules.filter(|rule| matches!(rule.does, Does::Denies | Does::WouldDeny));
        denying.filter_map(|rule| rule.counted).sum()
    }
}

impl ListedSet {
    /// The types of its key as nft writes them.
    pub fn types(&self) -> String {
        let name = |id: &u32| match *id {
            TYPE_IPADDR => "ipv4_addr".to_owned(),
            TYPE_IP6ADDR => "ipv6_addr".to_owned(),
            TYPE_INET_PROTOCOL => "inet_proto".to_owned(),
            TYPE_INET_SERVICE => "inet_service".to_owned(),
            other => format!("<type {other}>"),
        };
        self.key.iter().map(name).collect::<Vec<_>>().join(" . ")
    }

    fn take(&mut self, elem: Attrs<'_>) {
        let flags = elem.find(NFTA_SET_ELEM_FLAGS).and_then(|attr| attr.u32()).unwrap_or(0);
        if flags & NFT_SET_ELEM_INTERVAL_END != 0 {
            return;
        }
        self.elements += 1;
        if self.dynamic
            && let Some(key) = key_of(elem, NFTA_SET_ELEM_KEY)
        {
            let expires_ms = elem.find(NFTA_SET_ELEM_EXPIRATION).and_then(|attr| attr.u64()).unwrap_or(0);
            self.seen.extend(self.seen_of(key, expires_ms));
        }
    }

    /// A key of the sets that our rules fill: address, protocol, port.
    fn seen_of(&self, key: [u8; KEY_LEN], expires_ms: u64) -> Option<Seen> {
        let (address, at) = match self.key.as_slice() {
            [TYPE_IPADDR, TYPE_INET_PROTOCOL, TYPE_INET_SERVICE] => {
                (IpAddr::V4(Ipv4Addr::from(*key.first_chunk::<4>()?)), 4)
            }
            [TYPE_IP6ADDR, TYPE_INET_PROTOCOL, TYPE_INET_SERVICE] => {
                (IpAddr::V6(Ipv6Addr::from(*key.first_chunk::<16>()?)), 16)
            }
            _ => return None,
        };
        let port = u16::from_be_bytes(*key.get(at + 4..)?.first_chunk::<2>()?);
        Some(Seen { address, protocol: *key.get(at)?, port, expires_ms })
    }
}

fn base_of(hook: Attrs<'_>, attrs: Attrs<'_>) -> ListedBase {
    let number = |kind| hook.find(kind).and_then(|attr| attr.u32()).unwrap_or(u32::MAX);
    let hook = match number(NFTA_HOOK_HOOKNUM) {
        NF_INET_LOCAL_IN => "input".to_owned(),
        NF_INET_FORWARD => "forward".to_owned(),
        NF_INET_LOCAL_OUT => "output".to_owned(),
        other => format!("hook {other}"),
    };
    let policy = attrs.find(NFTA_CHAIN_POLICY).and_then(|attr| attr.u32());
    ListedBase { hook, priority: number(NFTA_HOOK_PRIORITY).cast_signed(), accepts: policy == Some(NF_ACCEPT) }
}

/// What an expression has counted, if it is a counter.
fn counted(elem: Attrs<'_>) -> Option<Counted> {
    let name = elem.find(NFTA_EXPR_NAME)?.str()?;
    let data = elem.find(NFTA_EXPR_DATA)?.nest();
    let number = |kind| data.find(kind).and_then(|attr| attr.u64()).unwrap_or(0);
    (name == "counter").then(|| Counted { packets: number(NFTA_COUNTER_PACKETS), bytes: number(NFTA_COUNTER_BYTES) })
}
