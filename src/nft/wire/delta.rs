//! What a set's elements are to become, in the kernel's terms.

use std::collections::HashSet;

use super::held::{HeldSet, KEY_LEN, RawElement, pack};
use crate::error::Failure;
use crate::net::{AddrRange, Family, Member};
use crate::nft::members::{Change, fields, key, misfit};

/// What one set is to gain and to lose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    pub(super) set: String,
    pub(super) key_len: usize,
    pub(super) add: Vec<RawElement>,
    pub(super) remove: Vec<RawElement>,
}

impl Delta {
    /// A change in the kernel's terms.
    ///
    /// # Errors
    /// [`Cause::Internal`](crate::error::Cause::Internal) where its members are not of one family, or some have a port
    /// and others none. Whether the set is of that kind the kernel says.
    pub fn of(change: &Change) -> Result<Delta, Failure> {
        let mut key_len = 0;
        let mut raw = |members: &[Member]| -> Result<Vec<RawElement>, Failure> {
            members.iter().map(|member| raw_member(member, &mut key_len)).collect()
        };
        let (remove, add) = (raw(&change.remove)?, raw(&change.add)?);
        Ok(Delta { set: change.set.clone(), key_len, add, remove })
    }

    /// How many elements it adds and removes.
    pub fn counts(&self) -> (usize, usize) {
        (self.add.len(), self.remove.len())
    }

    /// The set's name.
    pub fn set(&self) -> &str {
        &self.set
    }

    /// Without the removals of what `held` does not have: `NFT_MSG_DELSETELEM` refuses those.
    pub fn that_finds(&self, held: &HeldSet) -> Delta {
        // Both may hold everybody.
        let there: HashSet<[u8; KEY_LEN]> = held.elements.iter().map(|element| element.key).collect();
        let is_there = |element: &&RawElement| there.contains(&element.key);
        let mut remove: Vec<RawElement> = self.remove.iter().filter(is_there).copied().collect();
        remove.sort_unstable();
        remove.dedup();
        Delta { remove, ..self.clone() }
    }

    /// Whether `held` is as it is once this has been carried out: who was to come is there, who was to go is not.
    pub fn is_done_in(&self, held: &HeldSet) -> bool {
        // The dump is sorted, and by the key first.
        let has = |element: &RawElement| {
            let at = held.elements.partition_point(|held| held.key < element.key);
            held.elements.get(at).is_some_and(|held| held.key == element.key)
        };
        let comes = |element: &RawElement| self.add.iter().any(|added| added.key == element.key);
        self.add.iter().all(has) && self.remove.iter().all(|element| !has(element) || comes(element))
    }

    /// What makes the elements that the kernel holds those of `expected`; `None` where they are.
    pub fn between(held: &HeldSet, expected: &HeldSet) -> Option<Delta> {
        // Both are sorted.
        let missing = |from: &HeldSet, of: &HeldSet| -> Vec<RawElement> {
            of.elements.iter().filter(|element| from.elements.binary_search(element).is_err()).copied().collect()
        };
        let (add, remove) = (missing(held, expected), missing(expected, held));
        let differ = !add.is_empty() || !remove.is_empty();
        differ.then(|| Delta { set: expected.name.clone(), key_len: expected.shape.key_len, add, remove })
    }
}

/// A member as an element; `key_len` is that of the members before it, or 0.
fn raw_member(member: &Member, key_len: &mut usize) -> Result<RawElement, Failure> {
    let types = key(Family::of(member.address), member.port.is_some());
    let spans: Vec<AddrRange> = fields(member).map(|value| AddrRange { first: value, last: value }).collect();
    let (packed, len) = pack(&spans, &types, |span| span.first);
    if *key_len != 0 && *key_len != len {
        return Err(misfit(member));
    }
    *key_len = len;
    Ok(RawElement::plain(packed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Transport;

    fn member(address: &str, port: Option<u16>) -> Member {
        Member { address: address.parse().unwrap(), port: port.map(|port| (Transport::Tcp, port)) }
    }

    #[test]
    fn a_change_of_two_kinds_of_members_is_an_error() {
        let of = |add: Vec<Member>| Delta::of(&Change { set: "s".into(), add, remove: Vec::new() });
        assert_eq!(of(vec![member("10.0.0.1", None), member("10.0.0.2", None)]).unwrap().key_len, 4);
        assert_eq!(of(vec![member("fd00::1", Some(80))]).unwrap().key_len, 24);
        assert!(of(vec![member("10.0.0.1", None), member("fd00::1", None)]).is_err());
        assert!(of(vec![member("10.0.0.1", None), member("10.0.0.2", Some(80))]).is_err());
    }

    #[test]
    fn an_element_that_holds_more_than_its_key_is_replaced() {
        let [one, two] = [1, 2].map(|last| {
            let mut key = [0; super::super::held::KEY_LEN];
            key[..4].copy_from_slice(&[10, 0, 0, last]);
            RawElement::plain(key)
        });
        let set = |elements: &[RawElement]| HeldSet { elements: elements.to_vec(), ..HeldSet::default() };
        let changed = RawElement { foreign: true, ..one };
        let delta = Delta::between(&set(&[changed, two]), &set(&[one, two])).unwrap();
        assert_eq!((delta.remove, delta.add), (vec![changed], vec![one]));
        assert_eq!(Delta::between(&set(&[one, two]), &set(&[one, two])), None);
    }

    #[test]
    fn a_change_is_done_when_all_have_come_and_all_have_gone() {
        let change = |add: &[&str], remove: &[&str]| {
            let members = |all: &[&str]| all.iter().map(|address| member(address, None)).collect();
            Delta::of(&Change { set: "s".into(), add: members(add), remove: members(remove) }).unwrap()
        };
        let held = |all: &[&str]| {
            let mut elements = change(all, &[]).add;
            elements.sort_unstable();
            HeldSet { elements, ..HeldSet::default() }
        };
        let delta = change(&["10.0.0.2", "10.0.0.3"], &["10.0.0.1", "10.0.0.3"]);
        assert!(delta.is_done_in(&held(&["10.0.0.2", "10.0.0.3"])));
        assert!(delta.is_done_in(&held(&["10.0.0.9", "10.0.0.3", "10.0.0.2"])));
        assert!(!delta.is_done_in(&held(&["10.0.0.2"])), "one has not come");
        assert!(!delta.is_done_in(&held(&["10.0.0.1", "10.0.0.2", "10.0.0.3"])), "one has not gone");
        assert!(!delta.is_done_in(&held(&[])));
    }

    #[test]
    fn a_member_with_a_port_is_packed_in_whole_registers() {
        let change = Change { set: "s".into(), add: vec![member("10.0.0.1", Some(443))], remove: Vec::new() };
        assert_eq!(Delta::of(&change).unwrap().add[0].key[..12], [10, 0, 0, 1, 6, 0, 0, 0, 1, 0xbb, 0, 0]);
    }
}
