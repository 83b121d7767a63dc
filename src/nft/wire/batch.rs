//! Packs a [`Table`] into the one netlink datagram that replaces ours, or changes of its members into one.
//!
//! The kernel takes the whole datagram or none of it, so a container never sees half a policy.
//!
//! * Over a table that is there it begins with `NFT_MSG_DESTROYTABLE` (Linux 6.3). The older form,
//!   add, delete, add, makes the socket's close wait for an RCU grace period, ten times the cost of everything else
//!   this program does, even where there was nothing to delete.
//! * Only the end asks for an acknowledgement. One per message overflows the socket's receive buffer at 256.
//! * Objects are made in the order of `nft -f` (chains, sets, elements, rules), so handles agree with a table that
//!   `nft` loaded from our text.

use super::attr::{Header, Writer};
use super::delta::Delta;
use super::held::{Held, HeldChain, HeldRule, HeldSet, RawElement, nfproto};
use super::uapi::*;
use crate::nft::ruleset::{GC_INTERVAL_S, Set, TABLE, Table, TableFamily};
use crate::nft::text::comment;

/// How a batch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// `NEWTABLE` alone, which fails with EEXIST where somebody has made the table meanwhile.
    Fresh,
    /// `DESTROYTABLE`, `NEWTABLE`.
    Destroy,
    /// `NEWTABLE`, `DELTABLE`, `NEWTABLE`, for kernels before 6.3.
    AddDeleteAdd,
}

/// What one message of a batch is about, so that an error can be led back to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// The batch itself; commit-time errors carry its number or the first message's.
    Batch,
    /// Removing what was there.
    Removal,
    /// The table.
    Table,
    /// A chain, by index.
    Chain(usize),
    /// A set, by index.
    Set(usize),
    /// Elements of a set.
    Elements(usize),
    /// A rule: chain and place in it.
    Rule(usize, usize),
    /// Members of a set that come, by index in [`Batch::sets`].
    Added(usize),
    /// Members of a set that go.
    Removed(usize),
}

/// How members are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removing {
    /// `DESTROYSETELEM`: who is not there is no error.
    Destroy,
    /// `DELSETELEM`, for kernels before 6.3: who is not there fails the batch.
    Delete,
}

/// One message of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// What it is about.
    pub object: Object,
    /// Of which table of the batch, by index.
    pub part: usize,
    /// Its `nlmsg_type`, without the subsystem.
    pub kind: u16,
    /// Where it starts, in bytes.
    pub start: usize,
}

/// The datagram, and what each of its messages is.
#[derive(Debug)]
pub struct Batch {
    /// The bytes to send.
    pub bytes: Vec<u8>,
    /// Its messages; the index is the sequence number.
    pub objects: Vec<Sent>,
    /// The sets of an update, by name.
    pub sets: Vec<String>,
}

/// Elements are split over messages of about this many bytes: an attribute's length has 16 bits.
const ELEMENT_BYTES: usize = 60_000;

impl Batch {
    /// The batch that makes `tables`, one a family; each stands beside what the kernel will hold then ([`Held::expected`]), in
    /// which the rules are expressions already. A table of the same name and any other family is taken away.
    pub fn replace(tables: &[(&Table, &Held)], head: Head) -> Batch {
        let bytes = tables.iter().map(|(table, expected)| estimate(table, expected)).sum();
        let name = tables.first().map_or(TABLE, |(table, _)| &table.name);
        let mut packer = Packer::new(bytes, name);
        packer.frame(NFNL_MSG_BATCH_BEGIN, 0);
        for family in FAMILIES {
            let comes = tables.iter().any(|(table, _)| table.family == family);
            packer.family = family;
            match head {
                Head::Fresh => {}
                Head::Destroy => packer.table(Object::Removal, NFT_MSG_DESTROYTABLE, 0, None),
                Head::AddDeleteAdd if comes || family == TableFamily::Inet => packer.remove_before_6_3(),
                // Not every kernel that lacks the one has the other family.
                Head::AddDeleteAdd => {}
            }
        }
        for (part, (table, expected)) in tables.iter().enumerate() {
            packer.part = part;
            packer.family = table.family;
            packer.contents(table, expected);
        }
        packer.end(Vec::new())
    }

    /// The batch that takes our tables of a name away.
    pub fn removal(name: &str, head: Head) -> Batch {
        let mut packer = Packer::new(256, name);
        packer.frame(NFNL_MSG_BATCH_BEGIN, 0);
        for family in FAMILIES {
            packer.family = family;
            match head {
                Head::Fresh => {}
                Head::Destroy => packer.table(Object::Removal, NFT_MSG_DESTROYTABLE, 0, None),
                Head::AddDeleteAdd => packer.remove_before_6_3(),
            }
        }
        packer.end(Vec::new())
    }

    /// The batch that hangs the base chains of a table on further devices (Linux 6.4). `expected` has them all: the
    /// kernel passes over those it knows (`nf_tables_updchain`).
    pub fn hang(table: &Table, expected: &Held) -> Batch {
        let mut packer = Packer::new(estimate(table, expected), &table.name);
        packer.family = table.family;
        packer.frame(NFNL_MSG_BATCH_BEGIN, 0);
        for (index, held) in expected.chains.iter().enumerate().filter(|(_, held)| held.base.is_some()) {
            packer.message(Object::Chain(index), NFT_MSG_NEWCHAIN, NLM_F_CREATE, |w| write_chain(w, &table.name, held));
        }
        packer.end(Vec::new())
    }

    /// The batch that changes the members of sets and leaves the rules as they are. Who goes is removed before anybody is
    /// added, so that an element of ours can take the place of one that somebody changed.
    pub fn update(deltas: &[Delta], removing: Removing) -> Batch {
        let bytes: usize = deltas.iter().map(|delta| 256 + (delta.add.len() + delta.remove.len()) * 48).sum();
        let mut packer = Packer::new(128 + bytes, TABLE);
        let kind = match removing {
            Removing::Destroy => NFT_MSG_DESTROYSETELEM,
            Removing::Delete => NFT_MSG_DELSETELEM,
        };
        packer.frame(NFNL_MSG_BATCH_BEGIN, 0);
        for (index, delta) in deltas.iter().enumerate() {
            packer.elements(Object::Removed(index), kind, &delta.set, delta.key_len, &delta.remove);
        }
        for (index, delta) in deltas.iter().enumerate() {
            packer.elements(Object::Added(index), NFT_MSG_NEWSETELEM, &delta.set, delta.key_len, &delta.add);
        }
        packer.end(deltas.iter().map(|delta| delta.set.clone()).collect())
    }

    /// The sequence number of the end, whose acknowledgement is the commit.
    pub fn end_seq(&self) -> u32 {
        self.objects.len() as u32 - 1
    }
}

/// About how many bytes a table takes, and of its elements rather too many than too few.
fn estimate(table: &Table, expected: &Held) -> usize {
    // The element, its key and the key's value, and what an interval's end takes.
    let element =
        |set: &HeldSet| 3 * 4 + set.shape.key_len.next_multiple_of(4) + if set.shape.flags == 0 { 0 } else { 32 };
    let elements: usize = expected.sets.iter().map(|set| set.elements.len() * element(set)).sum();
    let rules: usize = table.chains.iter().map(|chain| 128 + chain.rules.len() * 480).sum();
    1024 + elements + elements / 256 + rules + table.sets.len() * 128
}

/// The families in which we have tables.
const FAMILIES: [TableFamily; 2] = [TableFamily::Inet, TableFamily::Netdev];

struct Packer<'t> {
    w: Writer,
    objects: Vec<Sent>,
    /// The table that messages are about.
    part: usize,
    name: &'t str,
    family: TableFamily,
}

impl<'t> Packer<'t> {
    fn new(bytes: usize, name: &'t str) -> Packer<'t> {
        let objects = Vec::with_capacity(64);
        Packer { w: Writer::with_capacity(bytes), objects, part: 0, name, family: TableFamily::Inet }
    }

    /// What is in a table: chains before sets, elements and rules.
    fn contents(&mut self, table: &Table, expected: &Held) {
        let created = NLM_F_CREATE | NLM_F_EXCL;
        self.table(Object::Table, NFT_MSG_NEWTABLE, created, Some(&table.comment));
        for (index, chain) in expected.chains.iter().enumerate() {
            self.message(Object::Chain(index), NFT_MSG_NEWCHAIN, created, |w| write_chain(w, &table.name, chain));
        }
        for (index, (set, held)) in table.sets.iter().zip(&expected.sets).enumerate() {
            self.message(Object::Set(index), NFT_MSG_NEWSET, created, |w| {
                write_set(w, &table.name, set, held, index as u32 + 1)
            });
        }
        for (index, set) in expected.sets.iter().enumerate() {
            let object = Object::Elements(index);
            self.elements(object, NFT_MSG_NEWSETELEM, &set.name, set.shape.key_len, &set.elements);
        }
        let places = table.chains.iter().enumerate().flat_map(|(c, chain)| (0..chain.rules.len()).map(move |r| (c, r)));
        for ((c, r), rule) in places.zip(&expected.rules) {
            let flags = NLM_F_CREATE | NLM_F_APPEND;
            self.message(Object::Rule(c, r), NFT_MSG_NEWRULE, flags, |w| write_rule(w, &table.name, rule));
        }
    }

    /// Adds and deletes: a table that is not there cannot be deleted.
    fn remove_before_6_3(&mut self) {
        self.table(Object::Removal, NFT_MSG_NEWTABLE, NLM_F_CREATE, None);
        self.table(Object::Removal, NFT_MSG_DELTABLE, 0, None);
    }

    fn push(&mut self, object: Object, header: Header, body: impl FnOnce(&mut Writer)) {
        let seq = self.objects.len() as u32;
        self.objects.push(Sent { object, part: self.part, kind: header.kind & 0xff, start: self.w.len() });
        self.w.message(Header { seq, ..header }, body);
    }

    fn frame(&mut self, kind: u16, flags: u16) {
        let header =
            Header { kind, flags: NLM_F_REQUEST | flags, seq: 0, family: NFPROTO_UNSPEC, res_id: NFNL_SUBSYS_NFTABLES };
        self.push(Object::Batch, header, |_| {});
    }

    fn message(&mut self, object: Object, kind: u16, flags: u16, body: impl FnOnce(&mut Writer)) {
        let kind = (NFNL_SUBSYS_NFTABLES << 8) | kind;
        let header = Header { kind, flags: NLM_F_REQUEST | flags, seq: 0, family: nfproto(self.family), res_id: 0 };
        self.push(object, header, body);
    }

    fn table(&mut self, object: Object, kind: u16, flags: u16, said: Option<&str>) {
        let name = self.name;
        self.message(object, kind, flags, |w| {
            w.str(NFTA_TABLE_NAME, name);
            if let Some(said) = said {
                w.u32(NFTA_TABLE_FLAGS, 0);
                w.bytes(NFTA_TABLE_USERDATA, &userdata(&comment(said)));
            }
        });
    }

    fn elements(&mut self, object: Object, kind: u16, set: &str, key_len: usize, elements: &[RawElement]) {
        let (flags, name) = (if kind == NFT_MSG_NEWSETELEM { NLM_F_CREATE } else { 0 }, self.name);
        let mut elements = elements.iter().peekable();
        while elements.peek().is_some() {
            self.message(object, kind, flags, |w| {
                w.str(NFTA_SET_ELEM_LIST_TABLE, name);
                w.str(NFTA_SET_ELEM_LIST_SET, set);
                w.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |w| {
                    let start = w.len();
                    while let Some(element) = elements.next_if(|_| w.len() - start < ELEMENT_BYTES) {
                        write_element(w, element, key_len);
                    }
                });
            });
        }
    }

    fn end(mut self, sets: Vec<String>) -> Batch {
        self.frame(NFNL_MSG_BATCH_END, NLM_F_ACK);
        Batch { bytes: self.w.into_bytes(), objects: self.objects, sets }
    }
}

fn write_chain(w: &mut Writer, table: &str, chain: &HeldChain) {
    w.str(NFTA_CHAIN_TABLE, table);
    w.str(NFTA_CHAIN_NAME, &chain.name);
    if let Some(base) = &chain.base {
        w.nest(NFTA_CHAIN_HOOK, |w| {
            w.u32(NFTA_HOOK_HOOKNUM, base.hooknum);
            w.u32(NFTA_HOOK_PRIORITY, base.priority.cast_unsigned());
            if !base.devices.is_empty() {
                w.nest(NFTA_HOOK_DEVS, |w| base.devices.iter().for_each(|name| w.str(NFTA_DEVICE_NAME, name)));
            }
        });
        w.u32(NFTA_CHAIN_POLICY, base.policy);
        w.str(NFTA_CHAIN_TYPE, &base.kind);
    }
}

fn write_set(w: &mut Writer, table: &str, set: &Set, held: &HeldSet, id: u32) {
    let shape = &held.shape;
    w.str(NFTA_SET_TABLE, table);
    w.str(NFTA_SET_NAME, &set.name);
    w.u32(NFTA_SET_FLAGS, shape.flags);
    w.u32(NFTA_SET_KEY_TYPE, shape.key_type);
    w.u32(NFTA_SET_KEY_LEN, shape.key_len as u32);
    w.u32(NFTA_SET_ID, id);
    if shape.timeout_ms > 0 {
        w.u64(NFTA_SET_TIMEOUT, shape.timeout_ms);
        w.u32(NFTA_SET_GC_INTERVAL, GC_INTERVAL_S * 1000);
    }
    let ranged_concat = shape.flags & NFT_SET_CONCAT != 0;
    if shape.size > 0 || ranged_concat {
        w.nest(NFTA_SET_DESC, |w| {
            if shape.size > 0 {
                w.u32(NFTA_SET_DESC_SIZE, shape.size);
            }
            if ranged_concat {
                w.nest(NFTA_SET_DESC_CONCAT, |w| {
                    for key in &set.key {
                        w.nest(NFTA_LIST_ELEM, |w| w.u32(NFTA_SET_FIELD_LEN, key.width() as u32));
                    }
                });
            }
        });
    }
}

pub(super) fn write_element(w: &mut Writer, element: &RawElement, key_len: usize) {
    if element.end.is_none() && !element.is_interval_end {
        return w.bytes_in(NFTA_LIST_ELEM, NFTA_SET_ELEM_KEY, NFTA_DATA_VALUE, &element.key[..key_len]);
    }
    w.nest(NFTA_LIST_ELEM, |w| {
        w.nest(NFTA_SET_ELEM_KEY, |w| w.bytes(NFTA_DATA_VALUE, &element.key[..key_len]));
        if let Some(end) = &element.end {
            w.nest(NFTA_SET_ELEM_KEY_END, |w| w.bytes(NFTA_DATA_VALUE, &end[..key_len]));
        }
        if element.is_interval_end {
            w.u32(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
        }
    });
}

fn write_rule(w: &mut Writer, table: &str, rule: &HeldRule) {
    w.str(NFTA_RULE_TABLE, table);
    w.str(NFTA_RULE_CHAIN, &rule.chain);
    w.nest(NFTA_RULE_EXPRESSIONS, |w| rule.exprs.iter().for_each(|expr| expr.encode(w)));
    w.bytes(NFTA_RULE_USERDATA, &userdata(&rule.comment));
}

/// nft's user data with a comment, [`comment`] already: type, length, text and NUL.
fn userdata(text: &str) -> Vec<u8> {
    let mut data = Vec::with_capacity(text.len() + 3);
    data.extend_from_slice(&[NFTNL_UDATA_COMMENT, text.len() as u8 + 1]);
    data.extend_from_slice(text.as_bytes());
    data.push(0);
    data
}
