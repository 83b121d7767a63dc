//! A table in the kernel's terms: what it stores, and so what it is sent and what it dumps.

use super::expr::Expr;
use super::lower::lower;
use super::uapi::*;
use crate::net::AddrRange;
use crate::nft::ruleset::{Base, Chain, Hook, KeyType, Kind, Set, Table, TableFamily};
use crate::nft::text::comment;

/// From how many elements on a set is large. To read sixteen elements of a hash takes 22 µs, and to read all 0.29 µs for
/// each, so that somewhat fewer would be worth it too (Linux 6.18); those are compared in full.
pub const LARGE_SET: usize = 256;

/// How many of a large set's elements are asked for.
const SAMPLE: usize = 16;

/// Bytes of the widest key: an IPv6 address, a protocol and a port.
pub(super) const KEY_LEN: usize = 24;

/// One element as the kernel stores it: one end of a tree's interval, one hash key, or one box.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RawElement {
    pub(super) key: [u8; KEY_LEN],
    pub(super) end: Option<[u8; KEY_LEN]>,
    pub(super) is_interval_end: bool,
    /// It expires, or asks an expression before it matches: not an element of ours.
    pub(super) foreign: bool,
}

impl RawElement {
    pub(super) const fn plain(key: [u8; KEY_LEN]) -> RawElement {
        RawElement { key, end: None, is_interval_end: false, foreign: false }
    }
}

/// A chain as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeldChain {
    pub(super) name: String,
    pub(super) base: Option<HeldBase>,
    /// `NFTA_CHAIN_FLAGS` without `NFT_CHAIN_BASE`, which `base` tells.
    pub(super) flags: u32,
}

/// Where a base chain hangs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeldBase {
    pub(super) hooknum: u32,
    pub(super) priority: i32,
    pub(super) policy: u32,
    pub(super) kind: String,
    /// Of family netdev, sorted: the devices it hangs on.
    pub(super) devices: Vec<String>,
    /// Of an expected one: those that are there, without which it is not what was asked for.
    pub(super) present: Vec<String>,
}

impl HeldBase {
    fn of(base: &Base, links: &[String]) -> HeldBase {
        let mut devices: Vec<String> = base.devices.clone();
        if base.every_device {
            devices.extend_from_slice(links);
        }
        devices.sort_unstable();
        devices.dedup();
        let is_present = |device: &&String| !base.every_device || links.contains(device);
        let present = devices.iter().filter(is_present).cloned().collect();
        let policy = if base.accepts { NF_ACCEPT } else { NF_DROP };
        HeldBase { hooknum: hooknum(base.hook), priority: 0, policy, kind: "filter".to_owned(), devices, present }
    }
}

/// A rule as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeldRule {
    pub(super) chain: String,
    pub(super) exprs: Vec<Expr>,
    pub(super) comment: String,
}

/// A set as the kernel has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldSet {
    pub(super) name: String,
    pub(super) shape: Shape,
    pub(super) elements: Vec<RawElement>,
    /// How many the kernel says it has; `None` where it does not say, or was not asked.
    pub(super) count: Option<u32>,
    /// Whether `elements` are those of `HeldSet::sample` alone.
    pub(super) is_sample: bool,
}

impl HeldSet {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it has more elements than one wants to read back when some may do: `HeldSet::sample`.
    pub fn is_large(&self) -> bool {
        self.elements.len() > LARGE_SET
    }

    /// Some of its elements, the first and the last among them.
    pub(super) fn sample(&self) -> impl Iterator<Item = &RawElement> {
        let last = self.elements.len().saturating_sub(1);
        let mut places: Vec<usize> = (0..SAMPLE).map(|n| n * last / (SAMPLE - 1)).collect();
        places.dedup();
        places.into_iter().filter_map(|place| self.elements.get(place))
    }

    /// Whether the kernel's (`self`) is as `expected`, as far as it was read.
    pub(super) fn is_as(&self, expected: &HeldSet) -> bool {
        let elements = if self.is_sample {
            self.count.is_some_and(|count| count as usize == expected.elements.len())
                && self.elements.iter().eq(expected.sample())
        } else {
            expected.shape.is_open() || self.elements == expected.elements
        };
        self.shape == expected.shape && elements
    }

    /// Whether another holds the same elements.
    pub fn agrees_with(&self, other: &HeldSet) -> bool {
        self.elements == other.elements
    }

    fn of(set: &Set) -> HeldSet {
        let mut elements = if matches!(set.kind, Kind::Dynamic { .. }) { Vec::new() } else { raw_elements(set) };
        // They are, but for sets of ranges in several fields.
        if !elements.is_sorted() {
            elements.sort_unstable();
        }
        HeldSet { name: set.name.clone(), shape: Shape::of(set), elements, ..HeldSet::default() }
    }
}

/// Our table of one family, in the kernel's terms: decoded from dumps, or derived from a [`Table`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub(super) name: String,
    pub(super) family: TableFamily,
    /// The tables that a dump told of: name and comment.
    pub(super) tables: Vec<(String, String)>,
    pub(super) comment: Option<String>,
    /// `NFTA_TABLE_FLAGS`: none are ours. `NFT_TABLE_F_DORMANT` unhooks every chain and leaves the listing as it was.
    pub(super) flags: u32,
    pub(super) chains: Vec<HeldChain>,
    pub(super) sets: Vec<HeldSet>,
    /// In the order of the table's chains, each with its rules in order.
    pub(super) rules: Vec<HeldRule>,
}

impl Held {
    /// Nothing, of the table of a name and a family.
    pub fn empty(name: &str, family: TableFamily) -> Held {
        let (chains, sets, rules) = (Vec::new(), Vec::new(), Vec::new());
        Held { name: name.to_owned(), family, tables: Vec::new(), comment: None, flags: 0, chains, sets, rules }
    }

    /// What the kernel should hold once `table` is loaded, its companion left out. `links` are the devices that are there:
    /// a chain that hangs on devices hangs on these too.
    pub fn expected(table: &Table, links: &[String]) -> Held {
        let chain = |chain: &Chain| HeldChain {
            name: chain.name.clone(),
            base: chain.base.as_ref().map(|base| HeldBase::of(base, links)),
            flags: 0,
        };
        let rules = table.chains.iter().flat_map(|chain| {
            chain.rules.iter().map(|rule| HeldRule {
                chain: chain.name.clone(),
                exprs: lower(rule, table.family),
                comment: comment(&rule.comment),
            })
        });
        Held {
            name: table.name.clone(),
            family: table.family,
            tables: Vec::new(),
            comment: Some(comment(&table.comment)),
            flags: 0,
            chains: table.chains.iter().map(chain).collect(),
            sets: table.sets.iter().map(HeldSet::of).collect(),
            rules: rules.collect(),
        }
    }

    /// The sets of `table` whose members come and go, and nothing else of it.
    pub fn members(table: &Table) -> Held {
        let sets = table.sets.iter().filter(|set| set.kind == Kind::Members).map(HeldSet::of);
        Held { sets: sets.collect(), ..Held::empty(&table.name, table.family) }
    }

    /// The sets whose elements are part of the rules. Rules fill the dynamic ones, and peers come and go
    /// in those of [`Held::open_sets`].
    pub fn fixed_sets(&self) -> impl Iterator<Item = &HeldSet> {
        let fixed = |set: &&HeldSet| set.shape.flags & NFT_SET_EVAL == 0 && !set.shape.is_open();
        self.sets.iter().filter(fixed)
    }

    /// Whether some elements of the set can stand for all of them, with what the kernel (`self`) has said of it: it was
    /// `expected` to be a large hash, and the kernel counts what is in there. Of a tree it would count intervals.
    pub fn can_sample(&self, expected: &HeldSet) -> bool {
        let is_counted = |set: &HeldSet| set.name == expected.name && set.count.is_some();
        expected.is_large() && expected.shape.flags == 0 && self.sets.iter().any(is_counted)
    }

    /// The sets whose members come and go.
    pub fn open_sets(&self) -> impl Iterator<Item = &HeldSet> {
        self.sets.iter().filter(|set| set.shape.is_open())
    }

    /// The elements of one set, where that is all that was asked for.
    pub fn into_set(mut self) -> HeldSet {
        self.sets.pop().unwrap_or_default()
    }

    /// Name and comment of the tables that [`Ask::Tables`](super::dump::Ask::Tables) was answered with.
    pub fn into_tables(self) -> Vec<(String, String)> {
        self.tables
    }

    /// How many elements the largest set has.
    pub fn largest_set(&self) -> usize {
        self.sets.iter().map(|set| set.elements.len()).max().unwrap_or(0)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its family.
    pub fn family(&self) -> TableFamily {
        self.family
    }

    /// Leaves the chains on those devices alone that are there.
    pub fn keep_present_devices(&mut self) {
        for base in self.chains.iter_mut().filter_map(|chain| chain.base.as_mut()) {
            base.devices.clone_from(&base.present);
        }
    }

    /// The devices that its chains hang on.
    pub fn devices(&self) -> impl Iterator<Item = &str> {
        self.chains.iter().filter_map(|chain| chain.base.as_ref()).flat_map(|base| &base.devices).map(String::as_str)
    }

    /// Whether it has any chain: a table of ours without one is no table.
    pub fn has_chains(&self) -> bool {
        !self.chains.is_empty()
    }

    /// Whether every chain is unhooked.
    pub fn is_dormant(&self) -> bool {
        self.flags & NFT_TABLE_F_DORMANT != 0
    }

    /// The table's comment, if there is a table.
    pub fn comment(&self) -> Option<&str> {
        self.comment.as_deref()
    }
}

pub(super) const fn nfproto(family: TableFamily) -> u8 {
    match family {
        TableFamily::Inet => NFPROTO_INET,
        TableFamily::Netdev => NFPROTO_NETDEV,
    }
}

pub(super) const fn hooknum(hook: Hook) -> u32 {
    match hook {
        Hook::Input => NF_INET_LOCAL_IN,
        Hook::Forward => NF_INET_FORWARD,
        Hook::Output => NF_INET_LOCAL_OUT,
        Hook::Ingress => NF_NETDEV_INGRESS,
        Hook::Egress => NF_NETDEV_EGRESS,
    }
}

/// A set's declaration in the kernel's terms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) flags: u32,
    pub(super) key_type: u32,
    pub(super) key_len: usize,
    pub(super) size: u32,
    pub(super) timeout_ms: u64,
}

impl Shape {
    pub(super) fn of(set: &Set) -> Shape {
        let concat = set.key.len() > 1;
        let (flags, size, timeout_ms) = match set.kind {
            Kind::Hash => (0, set.len() as u32, 0),
            Kind::Members => (0, 0, 0),
            Kind::Interval => (NFT_SET_INTERVAL | if concat { NFT_SET_CONCAT } else { 0 }, 0, 0),
            Kind::Dynamic { size, timeout_s } => (NFT_SET_EVAL | NFT_SET_TIMEOUT, size, u64::from(timeout_s) * 1000),
        };
        let key_type = set.key.iter().fold(0, |id, key| (id << TYPE_BITS) | type_id(*key));
        let key_len = key_len(&set.key);
        Shape { flags, key_type, key_len, size, timeout_ms }
    }

    /// A hash without a size is one of [`Kind::Members`]: every other of ours has the size of its elements.
    pub(super) fn is_open(&self) -> bool {
        self.flags == 0 && self.size == 0
    }
}

const fn type_id(key: KeyType) -> u32 {
    match key {
        KeyType::Ipv4Addr => TYPE_IPADDR,
        KeyType::Ipv6Addr => TYPE_IP6ADDR,
        KeyType::InetProto => TYPE_INET_PROTOCOL,
        KeyType::InetService => TYPE_INET_SERVICE,
        KeyType::Mark => TYPE_MARK,
    }
}

/// Bytes of a field inside a concatenation: a whole number of 32-bit registers.
const fn padded(key: KeyType) -> usize {
    (key.width() + 3) & !3
}

fn key_len(key: &[KeyType]) -> usize {
    match key {
        [one] => one.width(),
        fields => fields.iter().map(|field| padded(*field)).sum(),
    }
}

/// The elements of a set as the kernel stores them.
fn raw_elements(set: &Set) -> Vec<RawElement> {
    let ranged = set.kind == Kind::Interval;
    let tree = ranged && set.key.len() == 1;
    let mut elements = Vec::with_capacity(set.len() * if tree { 2 } else { 1 });
    for element in set.elements() {
        let first = RawElement::plain(pack(element, &set.key, |span| span.first).0);
        if tree {
            elements.push(first);
            elements.extend(interval_end(element, set));
        } else if ranged {
            elements.push(RawElement { end: Some(pack(element, &set.key, |span| span.last).0), ..first });
        } else {
            elements.push(first);
        }
    }
    elements
}

/// A tree holds the first value behind an interval as its end, and none where the interval ends with the type.
fn interval_end(element: &[AddrRange], set: &Set) -> Option<RawElement> {
    let bits = set.key.first()?.width() as u32 * 8;
    let last = element.first()?.last;
    let greatest = if bits >= 128 { u128::MAX } else { (1 << bits) - 1 };
    (last < greatest).then(|| RawElement {
        is_interval_end: true,
        ..RawElement::plain(pack(element, &set.key, |span| span.last + 1).0)
    })
}

/// The key of an element, and how many of its bytes the kernel is sent.
pub(super) fn pack(
    element: &[AddrRange],
    key: &[KeyType],
    value: impl Fn(&AddrRange) -> u128,
) -> ([u8; KEY_LEN], usize) {
    let mut packed = [0; KEY_LEN];
    let mut at = 0;
    for (span, field) in element.iter().zip(key) {
        let bytes = value(span).to_be_bytes();
        packed[at..at + field.width()].copy_from_slice(&bytes[16 - field.width()..]);
        at += padded(*field);
    }
    (packed, key_len(key))
}
