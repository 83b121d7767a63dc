//! What the kernel holds, for people: read without a thought to what it should be.

use super::{DUMP_TRIES, LARGE_BUFFER, Reading, Tables, is_absent};
use crate::error::{Cause, Failure};
use crate::nft::ruleset::{TABLE, Table, TableFamily};
use crate::nft::wire::dump::Ask;
use crate::nft::wire::held::Held;
use crate::nft::wire::listing::Listing;

const DOING: &str = "list the rules";

/// Where the kernel's tables differ from what is expected, in words; empty where they do not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// The rules, members of sets that come and go included.
    pub rules: Vec<String>,
    /// Their guard.
    pub guard: Vec<String>,
}

impl Tables<'_> {
    /// Our table with everything in it and what it has counted; `None` where there is none.
    ///
    /// # Errors
    /// [`Cause::Netlink`]; [`Cause::ReadBack`] where the table keeps changing while it is read.
    pub fn listing(&mut self) -> Result<Option<Listing>, Failure> {
        self.buffer.resize(LARGE_BUFFER, 0);
        let mut listing = Listing::default();
        match self.list(&Ask::Table, &mut listing) {
            Err(failure) if is_absent(&failure) => return Ok(None),
            other => other?,
        }
        for ask in [Ask::Chains, Ask::Rules, Ask::Sets] {
            self.list(&ask, &mut listing)?;
        }
        let sets: Vec<String> = listing.sets.iter().map(|set| set.name.clone()).collect();
        for set in &sets {
            self.list(&Ask::Elements(set), &mut listing)?;
        }
        listing.settle();
        Ok(Some(listing))
    }

    /// Where the kernel's tables differ from `table` and its guard.
    ///
    /// # Errors
    /// [`Cause::Netlink`]; [`Cause::ReadBack`] where the table keeps changing while it is read.
    pub fn compare(&mut self, table: &Table) -> Result<Differences, Failure> {
        let expected = self.expected(table)?;
        let mut found = Differences::default();
        for (part, family) in expected.iter().map(|part| (part, part.family())) {
            let part = std::slice::from_ref(part);
            let mut of_part = self.differences(part, Reading::Whole)?;
            // A set that is missing is found already, and has no members to ask for.
            if of_part.is_empty() {
                let deltas = self.deltas(part, "compare the rules")?;
                of_part.extend(deltas.iter().map(|delta| format!("set {} has other members", delta.set())));
            }
            match family {
                TableFamily::Inet => found.rules = of_part,
                TableFamily::Netdev => found.guard = of_part,
            }
        }
        Ok(found)
    }

    /// The devices that the guard hangs on, and those of its names that have not come yet; `None` where there is no guard, or
    /// one that was put to sleep.
    ///
    /// # Errors
    /// [`Cause::Netlink`]; [`Cause::ReadBack`] where the table keeps changing while it is read.
    pub fn guarded(&mut self) -> Result<Option<Vec<String>>, Failure> {
        let mut held = Held::empty(TABLE, TableFamily::Netdev);
        match self.ask(&Ask::Table, &mut held) {
            Err(failure) if is_absent(&failure) => return Ok(None),
            other => other?,
        }
        if held.is_dormant() {
            return Ok(None);
        }
        self.ask(&Ask::Chains, &mut held)?;
        Ok(Some(held.devices().map(str::to_owned).collect()))
    }

    fn list(&mut self, ask: &Ask<'_>, listing: &mut Listing) -> Result<(), Failure> {
        let ours = Held::empty(TABLE, TableFamily::Inet);
        for _ in 0..DUMP_TRIES {
            listing.forget(ask);
            if self.ask_once(ask, &ours, DOING, |message| listing.take(message))? {
                return Ok(());
            }
        }
        Err(Failure::new(DOING, Cause::ReadBack("the table keeps changing while it is read".to_owned())))
    }
}
