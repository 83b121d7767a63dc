//! What the kernel holds, for people: read without a thought to what it should be.

use super::{DUMP_TRIES, LARGE_BUFFER, Tables, is_absent};
use crate::error::{Cause, Failure};
use crate::nft::ruleset::{TABLE, Table, TableFamily};
use crate::nft::wire::dump::Ask;
use crate::nft::wire::held::Held;
use crate::nft::wire::listing::Listing;

const DOING: &str = "list the rules";

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

    /// Where the kernel's table differs from `table`, in words, members of sets that come and go included; empty where it
    /// does not.
    ///
    /// # Errors
    /// [`Cause::Netlink`]; [`Cause::ReadBack`] where the table keeps changing while it is read.
    pub fn compare(&mut self, table: &Table) -> Result<Vec<String>, Failure> {
        let expected = self.expected(table)?;
        let mut found = self.differences(&expected)?;
        // A set that is missing is found already, and has no members to ask for.
        if found.is_empty() {
            let deltas = self.deltas(&expected, "compare the rules")?;
            found.extend(deltas.iter().map(|delta| format!("set {} has other members", delta.set())));
        }
        Ok(found)
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
