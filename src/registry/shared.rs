//! Values that many subjects have in common, kept once.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::rc::Rc;

thread_local! {
    /// The round of [`Shared::distinct`] that began last. No other thread can have what is shared.
    static ROUND: Cell<u64> = const { Cell::new(0) };
}

/// A value that replicas share: cloning it is cheap, and it is stored once.
pub struct Shared<T>(Rc<Slot<T>>);

struct Slot<T> {
    /// The last round of [`Shared::distinct`] that has come by.
    round: Cell<u64>,
    /// Where it may be in a list, for who looks for it there.
    place: Cell<u32>,
    value: T,
}

impl<T> Shared<T> {
    /// Shares `value` with nobody yet.
    pub fn new(value: T) -> Shared<T> {
        Shared(Rc::new(Slot { round: Cell::new(0), place: Cell::new(0), value }))
    }

    /// Whether both are one: equal, and found out by looking at neither. Two that were made apart may still be equal.
    pub fn is(&self, other: &Shared<T>) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    /// Each of `all` once, in the order of the first.
    pub(super) fn distinct<'a>(all: impl Iterator<Item = &'a Shared<T>>) -> impl Iterator<Item = &'a Shared<T>>
    where
        T: 'a,
    {
        let round = ROUND.get() + 1;
        ROUND.set(round);
        all.filter(move |shared| shared.0.round.replace(round) != round)
    }

    /// Its place in `list`, where it was put by [`Shared::put_in`] most likely.
    pub(super) fn place_in(&self, list: &[Shared<T>]) -> Option<u32> {
        let place = self.0.place.get();
        if list.get(place as usize).is_some_and(|there| there.is(self)) {
            return Some(place);
        }
        list.iter().position(|there| there.is(self)).map(|place| place as u32)
    }

    /// Puts it behind the last of `list`, and returns its place there.
    pub(super) fn put_in(self, list: &mut Vec<Shared<T>>) -> u32 {
        let place = list.len() as u32;
        self.0.place.set(place);
        list.push(self);
        place
    }
}

impl<T: PartialEq> Shared<T> {
    /// `value`, as one with the equal one among `all` where there is one.
    pub(super) fn among<'a>(all: impl Iterator<Item = &'a Shared<T>>, value: T) -> Shared<T>
    where
        T: 'a,
    {
        match Shared::distinct(all).find(|shared| ***shared == value) {
            Some(equal) => equal.clone(),
            None => Shared::new(value),
        }
    }
}

impl<T: Eq + Hash> Shared<T> {
    /// Makes one of those that are equal.
    // What can change in a slot is no part of what is compared.
    #[allow(clippy::mutable_key_type)]
    pub(super) fn unite<'a>(all: impl Iterator<Item = &'a mut Shared<T>>)
    where
        T: 'a,
    {
        let mut known: HashSet<Shared<T>> = HashSet::new();
        for shared in all {
            match known.get(shared) {
                Some(equal) => *shared = equal.clone(),
                None => drop(known.insert(shared.clone())),
            }
        }
    }
}

impl<T: Hash> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Shared<T> {
        Shared(Rc::clone(&self.0))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Shared<T>) -> bool {
        self.is(other) || **self == **other
    }
}

impl<T: Eq> Eq for Shared<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_become_one_and_each_is_listed_once() {
        let (a, b) = (Shared::new("a"), Shared::new("b"));
        let all = [a.clone(), b.clone(), a.clone()];
        assert!(Shared::among(all.iter(), "b").is(&b));
        assert!(all.iter().all(|shared| !Shared::among(all.iter(), "c").is(shared)));
        assert_eq!(Shared::distinct(all.iter()).collect::<Vec<_>>(), [&a, &b]);
        assert_eq!(Shared::distinct(all.iter()).count(), 2, "each round anew");
        let (mut list, mut other) = (Vec::new(), vec![b.clone()]);
        assert_eq!([a.clone().put_in(&mut list), b.clone().put_in(&mut list)], [0, 1]);
        assert_eq!(a.clone().put_in(&mut other), 1);
        // Also where it was put elsewhere since.
        assert_eq!(all.each_ref().map(|shared| shared.place_in(&list)), [Some(0), Some(1), Some(0)]);
        assert_eq!((Shared::new("a").place_in(&list), b.place_in(&other)), (None, Some(0)));
        assert_eq!(Shared::new("a"), a);
        let mut apart = ["a", "b", "a"].map(Shared::new);
        Shared::unite(apart.iter_mut());
        assert!(apart[0].is(&apart[2]) && !apart[0].is(&apart[1]));
    }
}
