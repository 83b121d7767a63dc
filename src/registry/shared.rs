//! Values that many subjects have in common, kept once.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, Range};
use std::rc::Rc;

/// A value that replicas share: cloning it is cheap, and it is stored once.
pub struct Shared<T>(Rc<Slot<T>>);

struct Slot<T> {
    /// Its place in the list that is being written. Says nothing in between.
    place: Cell<u32>,
    value: T,
    /// The file it was read from, and where it stands there: it is written as it was read.
    read_from: Option<(Rc<Vec<u8>>, Range<usize>)>,
}

impl<T> Shared<T> {
    /// Shares `value` with nobody yet.
    pub fn new(value: T) -> Shared<T> {
        Shared(Rc::new(Slot { place: Cell::new(0), value, read_from: None }))
    }

    /// A value as it was read: it stands at `range` of `file`.
    pub(super) fn read(value: T, file: &Rc<Vec<u8>>, range: Range<usize>) -> Shared<T> {
        Shared(Rc::new(Slot { place: Cell::new(0), value, read_from: Some((Rc::clone(file), range)) }))
    }

    /// The bytes it was read from; `None` where it was not read.
    pub(super) fn as_read(&self) -> Option<&[u8]> {
        let (file, range) = self.0.read_from.as_ref()?;
        file.get(range.clone())
    }

    /// Whether both are one: equal, and found out by looking at neither. Two that were made apart may still be equal.
    pub fn is(&self, other: &Shared<T>) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    /// Each of `all` once, in the order of the first.
    pub(super) fn distinct<'a>(all: impl Iterator<Item = &'a Shared<T>> + Clone) -> Vec<&'a Shared<T>> {
        const UNSEEN: u32 = u32::MAX;
        all.clone().for_each(|shared| shared.0.place.set(UNSEEN));
        let mut distinct: Vec<&Shared<T>> = Vec::new();
        for shared in all {
            if shared.0.place.get() == UNSEEN {
                shared.0.place.set(distinct.len() as u32);
                distinct.push(shared);
            }
        }
        distinct
    }

    /// Where [`distinct`](Self::distinct) has put it just now.
    pub(super) fn place(&self) -> u32 {
        self.0.place.get()
    }
}

impl<T: PartialEq> Shared<T> {
    /// `value`, as one with the equal one among `all` where there is one.
    pub(super) fn among<'a>(all: impl Iterator<Item = &'a Shared<T>> + Clone, value: T) -> Shared<T>
    where
        T: 'a,
    {
        match Shared::distinct(all).into_iter().find(|shared| ***shared == value) {
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
        assert_eq!(Shared::distinct(all.iter()), [&a, &b]);
        assert_eq!(all.each_ref().map(Shared::place), [0, 1, 0]);
        assert_eq!(Shared::new("a"), a);
        let mut apart = ["a", "b", "a"].map(Shared::new);
        Shared::unite(apart.iter_mut());
        assert!(apart[0].is(&apart[2]) && !apart[0].is(&apart[1]));
    }
}
