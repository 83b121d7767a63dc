//! What the kernel answered to a batch, led back to the objects it is about.

use nix::errno::Errno;

use super::attr::{self, Attrs, NLMSG_HDRLEN};
use super::batch::{Batch, Object, Sent};
use super::uapi::*;
use crate::error::Refusal;
use crate::netlink::{Message, Messages, NLMSG_ERROR};
use crate::nft::ruleset::{Table, TableFamily};

/// The answers to a batch so far.
#[derive(Debug, Default)]
pub struct Answers {
    /// The end was acknowledged: everything is in place, unless an error came too.
    pub committed: bool,
    errors: Vec<(u32, i32, Option<usize>)>,
}

impl Answers {
    /// Takes one message. The kernel goes on reading behind a refused message and reports each, so there may be
    /// many; it may even acknowledge the end although it committed nothing.
    pub fn take(&mut self, message: &Message<'_>, batch: &Batch) {
        if message.kind != NLMSG_ERROR {
            return;
        }
        let code = message.payload.first_chunk().map_or(-(Errno::EPROTO as i32), |bytes| i32::from_ne_bytes(*bytes));
        if code == 0 {
            self.committed |= message.sequence == batch.end_seq();
        } else {
            self.errors.push((message.sequence, code.saturating_neg(), offset(message)));
        }
    }

    /// Whether an error came.
    pub fn is_refused(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Whether the table that was to be made is there already.
    pub fn found_table(&self, batch: &Batch) -> bool {
        self.errors.iter().any(|(seq, errno, _)| {
            let object = batch.objects.get(*seq as usize).map(|sent| sent.object);
            Errno::from_raw(*errno) == Errno::EEXIST && object == Some(Object::Table)
        })
    }

    /// Whether the kernel does not know `NFT_MSG_DESTROYTABLE` and its kin: before 6.3. Then it has not looked at the
    /// message (`nfnetlink_rcv_batch`) and points at no attribute of it.
    pub fn lacks_destroy(&self, batch: &Batch) -> bool {
        self.errors.iter().any(|(seq, errno, offset)| {
            let unknown = [Errno::EINVAL, Errno::EOPNOTSUPP].contains(&Errno::from_raw(*errno));
            unknown
                && offset.is_none()
                && batch
                    .objects
                    .get(*seq as usize)
                    .is_some_and(|sent| [NFT_MSG_DESTROYTABLE, NFT_MSG_DESTROYSETELEM].contains(&sent.kind))
        })
    }

    /// Whether the kernel misses a device that a chain is to hang on: before 6.16 (`nft_netdev_hook_alloc`).
    pub fn lacks_devices(&self, batch: &Batch) -> bool {
        self.errors.iter().any(|(seq, errno, _)| {
            let chain = |sent: &Sent| matches!(sent.object, Object::Chain(_)) && sent.part > 0;
            Errno::from_raw(*errno) == Errno::ENOENT && batch.objects.get(*seq as usize).is_some_and(chain)
        })
    }

    /// Whether everything that was refused is of one table.
    pub fn refuses_only_part(&self, part: usize, batch: &Batch) -> bool {
        let of_part = |(seq, _, _): &(u32, i32, Option<usize>)| {
            batch.objects.get(*seq as usize).is_some_and(|sent| sent.part == part && sent.object != Object::Batch)
        };
        self.is_refused() && self.errors.iter().all(of_part)
    }

    /// The refusals, each with its object. `tables` are those of the batch.
    pub fn refusals(&self, tables: &[&Table], batch: &Batch) -> Vec<Refusal> {
        let none = Table::empty(TableFamily::Inet);
        let refusal = |(seq, errno, offset): &(u32, i32, Option<usize>)| {
            let whole = Sent { object: Object::Batch, part: 0, kind: 0, start: 0 };
            let sent = batch.objects.get(*seq as usize).copied().unwrap_or(whole);
            let attribute = offset.and_then(|offset| attribute_at(&batch.bytes, sent.start, offset));
            let table = tables.get(sent.part).copied().unwrap_or(&none);
            Refusal {
                object: describe(sent.object, table, batch),
                origin: origin(sent.object, table),
                errno: Errno::from_raw(*errno),
                attribute: attribute.and_then(|attribute| name(sent.kind, attribute)),
            }
        };
        self.errors.iter().map(refusal).collect()
    }
}

/// `NLMSGERR_ATTR_OFFS`: where in our message the attribute is that the kernel did not like. nf_tables sends no text.
fn offset(message: &Message<'_>) -> Option<usize> {
    if message.flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let echoed = message.payload.get(4..)?;
    // With NLM_F_CAPPED only the header of our message is repeated.
    let skip = if message.flags & NLM_F_CAPPED != 0 {
        NLMSG_HDRLEN
    } else {
        u32::from_ne_bytes(echoed.get(..4)?.try_into().ok()?) as usize
    };
    let value = Attrs::new(echoed.get(skip..)?).find(NLMSGERR_ATTR_OFFS)?.value;
    Some(u32::from_ne_bytes(value.try_into().ok()?) as usize)
}

/// The top-level attribute of the message at `start` in which `offset` lies.
fn attribute_at(bytes: &[u8], start: usize, offset: usize) -> Option<u16> {
    let message = Messages::new(bytes.get(start..)?).next()?.ok()?;
    let mut at = NLMSG_HDRLEN + super::attr::NFGENMSG_LEN;
    for attr in attr::attrs(&message) {
        let end = at + ((4 + attr.value.len() + 3) & !3);
        if (at..end).contains(&offset) {
            return Some(attr.kind);
        }
        at = end;
    }
    None
}

fn name(kind: u16, attribute: u16) -> Option<&'static str> {
    Some(match (kind, attribute) {
        (NFT_MSG_NEWTABLE, NFTA_TABLE_NAME) => "NFTA_TABLE_NAME",
        (NFT_MSG_NEWCHAIN, NFTA_CHAIN_NAME) => "NFTA_CHAIN_NAME",
        (NFT_MSG_NEWCHAIN, NFTA_CHAIN_HOOK) => "NFTA_CHAIN_HOOK",
        (NFT_MSG_NEWCHAIN, NFTA_CHAIN_TYPE) => "NFTA_CHAIN_TYPE",
        (NFT_MSG_NEWSET, NFTA_SET_NAME) => "NFTA_SET_NAME",
        (NFT_MSG_NEWSET, NFTA_SET_DESC) => "NFTA_SET_DESC",
        (NFT_MSG_NEWSETELEM | NFT_MSG_DELSETELEM | NFT_MSG_DESTROYSETELEM, list) => match list {
            NFTA_SET_ELEM_LIST_SET => "NFTA_SET_ELEM_LIST_SET",
            NFTA_SET_ELEM_LIST_ELEMENTS => "NFTA_SET_ELEM_LIST_ELEMENTS",
            _ => return None,
        },
        (NFT_MSG_NEWRULE, NFTA_RULE_CHAIN) => "NFTA_RULE_CHAIN",
        (NFT_MSG_NEWRULE, NFTA_RULE_EXPRESSIONS) => "NFTA_RULE_EXPRESSIONS",
        _ => return None,
    })
}

fn describe(object: Object, table: &Table, batch: &Batch) -> String {
    let chain = |index: usize| table.chains.get(index).map_or("?", |chain| chain.name.as_str());
    let set = |index: usize| table.sets.get(index).map_or("?", |set| set.name.as_str());
    let changed = |index: usize| batch.sets.get(index).map_or("?", String::as_str);
    match object {
        Object::Batch => "the batch".to_owned(),
        Object::Removal => "removing the old table".to_owned(),
        Object::Table => "the table".to_owned(),
        Object::Chain(index) if table.family == TableFamily::Netdev => format!("netdev chain {}", chain(index)),
        Object::Chain(index) => format!("chain {}", chain(index)),
        Object::Set(index) => format!("set {}", set(index)),
        Object::Elements(index) => format!("elements of set {}", set(index)),
        Object::Added(index) => format!("members to add to set {}", changed(index)),
        Object::Removed(index) => format!("members to remove from set {}", changed(index)),
        Object::Rule(c, r) => format!("rule {} of chain {}", r + 1, chain(c)),
    }
}

fn origin(object: Object, table: &Table) -> Option<String> {
    let Object::Rule(c, r) = object else { return None };
    table.chains.get(c)?.rules.get(r).map(|rule| rule.comment.clone())
}
