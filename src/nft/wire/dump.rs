//! What the kernel holds of our table, decoded and compared with what was asked for.

use super::attr::{self, Attrs, Header, Writer};
use super::batch::write_element;
use super::expr::Expr;
use super::held::{Held, HeldBase, HeldChain, HeldRule, HeldSet, KEY_LEN, RawElement, Shape, nfproto};
use super::uapi::*;
use crate::netlink::Message;

/// A question to the kernel about our table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask<'a> {
    /// The table itself. Answered with one message, or `ENOENT`.
    Table,
    /// All tables of its family, whatever their names; see [`Held::into_tables`].
    Tables,
    /// Its chains. The kernel dumps those of all tables of the family.
    Chains,
    /// Its sets.
    Sets,
    /// Its rules.
    Rules,
    /// The elements of one set.
    Elements(&'a str),
    /// Of a set as it should be, those that `HeldSet::sample` picks. One that is not there is answered with `ENOENT`.
    Sample(&'a HeldSet),
}

impl Ask<'_> {
    /// The message that asks for it, of the table that `held` is of.
    pub fn message(&self, held: &Held, seq: u32) -> Vec<u8> {
        let (kind, flags) = match self {
            Ask::Table => (NFT_MSG_GETTABLE, 0),
            Ask::Tables => (NFT_MSG_GETTABLE, NLM_F_DUMP),
            Ask::Chains => (NFT_MSG_GETCHAIN, NLM_F_DUMP),
            Ask::Sets => (NFT_MSG_GETSET, NLM_F_DUMP),
            Ask::Rules => (NFT_MSG_GETRULE, NLM_F_DUMP),
            Ask::Elements(_) => (NFT_MSG_GETSETELEM, NLM_F_DUMP),
            // The acknowledgement ends the answer.
            Ask::Sample(_) => (NFT_MSG_GETSETELEM, NLM_F_ACK),
        };
        let kind = (NFNL_SUBSYS_NFTABLES << 8) | kind;
        let mut w = Writer::with_capacity(128);
        w.message(Header { kind, flags: NLM_F_REQUEST | flags, seq, family: nfproto(held.family), res_id: 0 }, |w| {
            match self {
                // NFTA_TABLE_NAME, NFTA_RULE_TABLE and NFTA_SET_TABLE are all 1.
                Ask::Table | Ask::Sets | Ask::Rules => w.str(NFTA_TABLE_NAME, &held.name),
                Ask::Tables | Ask::Chains => {}
                Ask::Elements(set) => {
                    w.str(NFTA_SET_ELEM_LIST_TABLE, &held.name);
                    w.str(NFTA_SET_ELEM_LIST_SET, set);
                }
                Ask::Sample(set) => {
                    w.str(NFTA_SET_ELEM_LIST_TABLE, &held.name);
                    w.str(NFTA_SET_ELEM_LIST_SET, &set.name);
                    w.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |w| {
                        set.sample().for_each(|element| write_element(w, element, set.shape.key_len));
                    });
                }
            }
        });
        w.into_bytes()
    }
}

impl Held {
    /// What the answer to one question is gathered in.
    pub fn for_answer(ask: &Ask<'_>, of: &Held) -> Held {
        let sets = match ask {
            Ask::Elements(name) => vec![HeldSet { name: (*name).to_owned(), ..HeldSet::default() }],
            Ask::Sample(set) => vec![HeldSet { name: set.name.clone(), ..HeldSet::default() }],
            Ask::Table | Ask::Tables | Ask::Chains | Ask::Sets | Ask::Rules => Vec::new(),
        };
        Held { sets, ..Held::empty(&of.name, of.family) }
    }

    /// Adds the answer to one question.
    pub fn adopt(&mut self, ask: &Ask<'_>, answer: Held) {
        match ask {
            Ask::Table => (self.comment, self.flags) = (answer.comment, answer.flags),
            Ask::Tables => self.tables = answer.tables,
            Ask::Chains => self.chains = answer.chains,
            Ask::Rules => self.rules = answer.rules,
            Ask::Sets => {
                self.sets = answer.sets;
                self.sets.sort_by(|a, b| a.name.cmp(&b.name));
            }
            Ask::Sample(of) => {
                for (held, mut set) in self.sets.iter_mut().filter(|held| held.name == of.name).zip(answer.sets) {
                    set.elements.sort_unstable();
                    (held.elements, held.is_sample) = (set.elements, true);
                }
            }
            Ask::Elements(name) => {
                for mut set in answer.sets {
                    // A dump that a growing hash moved under may say an element twice.
                    set.elements.sort_unstable();
                    set.elements.dedup();
                    match self.sets.binary_search_by(|known| known.name.as_str().cmp(name)) {
                        Ok(at) => self.sets[at].elements = set.elements,
                        Err(at) => self.sets.insert(at, set),
                    }
                }
            }
        }
    }

    /// Takes one message of a dump.
    pub fn take(&mut self, message: &Message<'_>) {
        let attrs = attr::attrs(message);
        let text = |kind| attrs.find(kind).and_then(|attr| attr.str()).unwrap_or_default();
        // nfgenmsg.nfgen_family: tables of two families may have one name.
        if message.kind >> 8 != NFNL_SUBSYS_NFTABLES || message.payload.first() != Some(&nfproto(self.family)) {
            return;
        }
        if message.kind & 0xff == NFT_MSG_NEWTABLE {
            self.tables.push((text(NFTA_TABLE_NAME).to_owned(), comment_of(attrs, NFTA_TABLE_USERDATA)));
        }
        if text(NFTA_TABLE_NAME) != self.name {
            return;
        }
        match message.kind & 0xff {
            NFT_MSG_NEWTABLE => {
                self.comment = Some(comment_of(attrs, NFTA_TABLE_USERDATA));
                self.flags = attrs.find(NFTA_TABLE_FLAGS).and_then(|attr| attr.u32()).unwrap_or(u32::MAX);
            }
            NFT_MSG_NEWCHAIN => {
                let base = attrs.find(NFTA_CHAIN_HOOK).map(|hook| {
                    let number = |kind| hook.nest().find(kind).and_then(|attr| attr.u32()).unwrap_or(u32::MAX);
                    HeldBase {
                        hooknum: number(NFTA_HOOK_HOOKNUM),
                        priority: number(NFTA_HOOK_PRIORITY).cast_signed(),
                        policy: attrs.find(NFTA_CHAIN_POLICY).and_then(|attr| attr.u32()).unwrap_or(u32::MAX),
                        kind: text(NFTA_CHAIN_TYPE).to_owned(),
                        devices: devices_of(hook.nest()),
                        present: Vec::new(),
                    }
                });
                let flags = attrs.find(NFTA_CHAIN_FLAGS).and_then(|attr| attr.u32()).unwrap_or(0) & !NFT_CHAIN_BASE;
                self.chains.push(HeldChain { name: text(NFTA_CHAIN_NAME).to_owned(), base, flags });
            }
            NFT_MSG_NEWSET => self.sets.push(HeldSet {
                name: text(NFTA_SET_NAME).to_owned(),
                shape: shape_of(attrs),
                count: attrs.find(NFTA_SET_COUNT).and_then(|attr| attr.u32()),
                ..HeldSet::default()
            }),
            NFT_MSG_NEWRULE => {
                let exprs = attrs.find(NFTA_RULE_EXPRESSIONS).map_or(Attrs::new(&[]), |attr| attr.nest());
                self.rules.push(HeldRule {
                    chain: text(NFTA_RULE_CHAIN).to_owned(),
                    exprs: exprs.map(|elem| Expr::decode(elem.nest())).collect(),
                    comment: comment_of(attrs, NFTA_RULE_USERDATA),
                });
            }
            NFT_MSG_NEWSETELEM => {
                let name = text(NFTA_SET_ELEM_LIST_SET);
                let elements = attrs.find(NFTA_SET_ELEM_LIST_ELEMENTS).map_or(Attrs::new(&[]), |attr| attr.nest());
                if let Some(set) = self.sets.iter_mut().find(|set| set.name == name) {
                    set.elements.extend(elements.map(|elem| element_of(elem.nest())));
                }
            }
            _ => {}
        }
    }

    /// Where the kernel's table (`self`) differs from `expected`, in words; empty when it does not. Peers that come and
    /// go are not compared: [`Delta::between`](super::delta::Delta::between).
    pub fn differences(&self, expected: &Held) -> Vec<String> {
        let mut found = Vec::new();
        if self.comment != expected.comment {
            found.push("the table's comment is another".to_owned());
        }
        if self.flags != expected.flags {
            found.push("the table has flags, such as dormant".to_owned());
        }
        compare(&mut found, "chain", &self.chains, &expected.chains, |chain| &chain.name, hangs_as);
        compare(&mut found, "set", &self.sets, &expected.sets, |set| &set.name, HeldSet::is_as);
        for chain in &expected.chains {
            let (held, wanted) = (rules_of(&self.rules, chain), rules_of(&expected.rules, chain));
            if held != wanted {
                let at = held.iter().zip(&wanted).position(|(a, b)| a != b).unwrap_or(held.len().min(wanted.len()));
                found.push(format!(
                    "chain {} has {} rules where {} were loaded, first difference at rule {}",
                    chain.name,
                    held.len(),
                    wanted.len(),
                    at + 1
                ));
            }
        }
        found
    }
}

/// Whether a chain is as expected. It may hang on devices that are not there, or on fewer of those: a kernel before 6.16
/// takes none that does not exist.
fn hangs_as(held: &HeldChain, expected: &HeldChain) -> bool {
    let base = match (&held.base, &expected.base) {
        (None, None) => true,
        (Some(held), Some(expected)) => {
            (held.hooknum, held.priority, held.policy, &held.kind)
                == (expected.hooknum, expected.priority, expected.policy, &expected.kind)
                && expected.present.iter().all(|name| held.devices.binary_search(name).is_ok())
        }
        (None, Some(_)) | (Some(_), None) => false,
    };
    base && held.flags == expected.flags
}

/// `NFTA_HOOK_DEVS`: names, and nothing else of ours. A prefix (`NFTA_DEVICE_PREFIX`) is somebody else's.
fn devices_of(hook: Attrs<'_>) -> Vec<String> {
    let Some(list) = hook.find(NFTA_HOOK_DEVS) else { return Vec::new() };
    let names = list.nest().filter(|attr| attr.kind == NFTA_DEVICE_NAME).filter_map(|attr| attr.str());
    let mut devices: Vec<String> = names.map(str::to_owned).collect();
    devices.sort_unstable();
    devices
}

fn rules_of<'h>(rules: &'h [HeldRule], chain: &HeldChain) -> Vec<&'h HeldRule> {
    rules.iter().filter(|rule| rule.chain == chain.name).collect()
}

/// Compares two lists of named things, whatever their order.
fn compare<T>(
    found: &mut Vec<String>,
    noun: &str,
    held: &[T],
    wanted: &[T],
    name: impl Fn(&T) -> &String,
    same: impl Fn(&T, &T) -> bool,
) {
    let by_name = |items: &[T]| -> Vec<usize> {
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.sort_by(|a, b| name(&items[*a]).cmp(name(&items[*b])));
        order
    };
    let (held_order, wanted_order) = (by_name(held), by_name(wanted));
    let find = |items: &[T], order: &[usize], sought: &String| {
        order.binary_search_by(|index| name(&items[*index]).cmp(sought)).ok().map(|at| order[at])
    };
    for item in wanted {
        match find(held, &held_order, name(item)) {
            None => found.push(format!("{noun} {} is missing", name(item))),
            Some(other) if !same(&held[other], item) => found.push(format!("{noun} {} differs", name(item))),
            Some(_) => {}
        }
    }
    for item in held {
        if find(wanted, &wanted_order, name(item)).is_none() {
            found.push(format!("{noun} {} is not ours", name(item)));
        }
    }
}

/// The text of nft's comment in an object's user data; empty without one.
pub(super) fn comment_of(attrs: Attrs<'_>, kind: u16) -> String {
    let data = attrs.find(kind).map_or(&[][..], |attr| attr.value);
    let text = data.get(2..).filter(|_| data.first() == Some(&NFTNL_UDATA_COMMENT)).unwrap_or_default();
    String::from_utf8_lossy(text.split(|b| *b == 0).next().unwrap_or_default()).into_owned()
}

pub(super) fn shape_of(attrs: Attrs<'_>) -> Shape {
    let number = |kind| attrs.find(kind).and_then(|attr| attr.u32()).unwrap_or(0);
    let size = attrs.find(NFTA_SET_DESC).and_then(|desc| desc.nest().find(NFTA_SET_DESC_SIZE));
    Shape {
        flags: number(NFTA_SET_FLAGS),
        key_type: number(NFTA_SET_KEY_TYPE),
        key_len: number(NFTA_SET_KEY_LEN) as usize,
        size: size.and_then(|attr| attr.u32()).unwrap_or(0),
        timeout_ms: attrs.find(NFTA_SET_TIMEOUT).and_then(|attr| attr.u64()).unwrap_or(0),
    }
}

/// A key of an element, or the end of its range.
pub(super) fn key_of(elem: Attrs<'_>, kind: u16) -> Option<[u8; KEY_LEN]> {
    key_in(elem.find(kind)?.nest())
}

/// The bytes of a key.
fn key_in(data: Attrs<'_>) -> Option<[u8; KEY_LEN]> {
    let value = data.find(NFTA_DATA_VALUE)?.value;
    let mut packed = [0; KEY_LEN];
    packed.get_mut(..value.len())?.copy_from_slice(value);
    Some(packed)
}

/// In one pass: a large set has 100,000 of them.
fn element_of(attrs: Attrs<'_>) -> RawElement {
    // An element without a readable key is nobody's: all ones is no key of ours (its padding would be zero).
    let mut element = RawElement::plain([0xff; KEY_LEN]);
    for attr in attrs {
        match attr.kind {
            NFTA_SET_ELEM_KEY => element.key = key_in(attr.nest()).unwrap_or([0xff; KEY_LEN]),
            NFTA_SET_ELEM_KEY_END => element.end = key_in(attr.nest()),
            NFTA_SET_ELEM_FLAGS => {
                element.is_interval_end = attr.u32().is_some_and(|flags| flags & NFT_SET_ELEM_INTERVAL_END != 0);
            }
            // What expires, or asks an expression before it matches, is not an element of ours.
            NFTA_SET_ELEM_DATA
            | NFTA_SET_ELEM_TIMEOUT
            | NFTA_SET_ELEM_EXPIRATION
            | NFTA_SET_ELEM_EXPR
            | NFTA_SET_ELEM_OBJREF
            | NFTA_SET_ELEM_EXPRESSIONS => element.foreign = true,
            _ => {}
        }
    }
    element
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(more: impl FnOnce(&mut Writer)) -> RawElement {
        let mut w = Writer::default();
        w.nest(NFTA_SET_ELEM_KEY, |w| w.bytes(NFTA_DATA_VALUE, &[10, 0, 0, 1]));
        more(&mut w);
        element_of(Attrs::new(&w.into_bytes()))
    }

    #[test]
    fn an_element_that_holds_more_than_its_key_is_another() {
        let plain = element(|_| {});
        assert_eq!(plain.key[..4], [10, 0, 0, 1]);
        for kind in [NFTA_SET_ELEM_TIMEOUT, NFTA_SET_ELEM_EXPR, NFTA_SET_ELEM_EXPRESSIONS, NFTA_SET_ELEM_OBJREF] {
            assert_ne!(element(|w| w.bytes(kind, &[0; 8])), plain, "attribute {kind}");
        }
    }
}
