//! The nf_tables socket: puts a table into the namespace, whole or not at all, and reads it back.

mod listing;

pub use listing::Differences;

use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use crate::error::{Cause, Failure};
use crate::kernel::checkpoint;
use crate::kernel::laps::lap;
use crate::kernel::link::Links;
use crate::kernel::netns::{Inside, Own};
use crate::kernel::process::Deadline;
use crate::kernel::socket::{BUFFER, Socket};
use crate::netlink::Message;
use crate::nft::build::HOST_TABLE;
use crate::nft::members::Change;
use crate::nft::ruleset::{TABLE, Table, TableFamily};
use crate::nft::wire::batch::{Batch, Head, Removing};
use crate::nft::wire::delta::Delta;
use crate::nft::wire::dump::Ask;
use crate::nft::wire::held::{Held, HeldSet, LARGE_SET};
use crate::nft::wire::reply::Answers;
use crate::nft::wire::uapi::NLM_F_DUMP_INTR;

/// One datagram above this size needs a larger send buffer; below it the default of net.core.wmem_default serves
/// (212,992 bytes where it was never changed, of which a datagram may take all but 32).
const SMALL: usize = 100_000;

/// A tree's dump walks it from its start for every datagram (`nft_rbtree_walk`), so large sets are read in few: the
/// kernel fills a datagram up to the length of the buffer last received into, and to 32 KiB at most (`netlink_recvmsg`).
const LARGE_BUFFER: usize = 32 << 10;

/// How often a dump that was changed under its reader is begun again.
const DUMP_TRIES: usize = 8;

/// How a table is read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// All of it.
    Whole,
    /// All of it, but for large hashes. Of these the kernel says how many elements there are (`NFTA_SET_COUNT`), and is asked for
    /// some of them one by one; where it does not count, all are read.
    ///
    /// This is for who has just loaded it by a batch that the kernel acknowledged as a whole. What was loaded is there then, or
    /// nothing is; a key that was written wrong would be wrong in all of them, and one that came twice would be missing in the
    /// number. What it does not see is somebody with CAP_NET_ADMIN over the namespace who takes one out and puts another in
    /// between the two: whoever could do that can do it a moment later, too, and poststart, `verify` and a table that is found
    /// there read everything. A dump of 100,000 takes the kernel as long as loading them: each datagram begins to count from the
    /// first (`nft_rhash_walk`, `nft_hash_walk`).
    Loaded,
}

/// What became of a table that was to be put in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    /// The kernel held it already, read back equal. Replacing it would have cost an RCU grace period.
    Unchanged,
    /// It was loaded, and read back equal.
    Loaded,
    /// The kernel held its rules already; only members of sets came and went.
    Reconciled(Reconciled),
}

/// How many members were put right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Missing ones that were added.
    pub added: usize,
    /// Those that did not belong there and were removed.
    pub removed: usize,
}

/// The nf_tables of one namespace.
#[derive(Debug)]
pub struct Tables<'i> {
    socket: Socket,
    /// Dumps fill datagrams up to the length of the buffer last received into.
    buffer: Vec<u8>,
    sequence: u32,
    deadline: Deadline,
    /// `None` for [`HostTables`].
    inside: Option<&'i Inside>,
    /// Opened when it is first needed.
    links: Option<Links<'i>>,
}

/// The tables of the host's own namespace: the one exception to "the host's is never touched". They can only be of family
/// netdev and of another name than a container's, so they hang on the devices that they name and on nothing else.
#[derive(Debug)]
pub struct HostTables {
    tables: Tables<'static>,
}

impl HostTables {
    /// Opens the socket on the host, before this thread joins another namespace.
    ///
    /// # Errors
    /// [`Cause::Netlink`]; [`Cause::Internal`] for a thread that is elsewhere already.
    pub fn open(own: &Own, deadline: Deadline) -> Result<HostTables, Failure> {
        own.still_here()?;
        Ok(HostTables { tables: Tables::on(None, deadline)? })
    }

    /// Puts `table` in place of whatever carries its name, and reads it back.
    ///
    /// # Errors
    /// As [`Tables::install`]; [`Cause::Internal`] for a table that has no place here.
    pub fn install(&mut self, table: &Table) -> Result<(), Failure> {
        const DOING: &str = "load the rules at the host's side";
        let devices = table.chains.iter().filter_map(|chain| chain.base.as_ref()).all(|base| !base.every_device);
        if table.family != TableFamily::Netdev || !is_host_tables(&table.name) || table.guard.is_some() || !devices {
            return Err(Failure::new(DOING, Cause::Internal(format!("table {} is none of the host's", table.name))));
        }
        self.tables.install(table, None).map(|_| ()).map_err(|failure| Failure::new(DOING, failure.cause))
    }

    /// Compares the kernel's table with `table`.
    ///
    /// # Errors
    /// As [`Tables::verify`].
    pub fn verify(&mut self, table: &Table) -> Result<(), Failure> {
        self.tables.verify(table)
    }

    /// Where the kernel's table differs from `table`, in words; empty where it does not.
    ///
    /// # Errors
    /// [`Cause::Netlink`]; [`Cause::ReadBack`] where the table keeps changing while it is read.
    pub fn compare(&mut self, table: &Table) -> Result<Vec<String>, Failure> {
        self.tables.differences(&[Held::expected(table, &[])], Reading::Whole)
    }

    /// Takes the table of a name away, if it is there.
    ///
    /// # Errors
    /// [`Cause::Refused`]; [`Cause::Internal`] for a name that is none of ours.
    pub fn remove(&mut self, name: &str) -> Result<(), Failure> {
        const DOING: &str = "remove the rules at the host's side";
        if !is_host_tables(name) {
            return Err(Failure::new(DOING, Cause::Internal(format!("table {name} is none of the host's"))));
        }
        self.tables.remove_named(name, DOING)
    }

    /// All such tables: name and comment.
    ///
    /// # Errors
    /// [`Cause::Netlink`].
    pub fn all(&mut self) -> Result<Vec<(String, String)>, Failure> {
        let mut held = Held::empty(TABLE, TableFamily::Netdev);
        self.tables.ask(&Ask::Tables, &mut held)?;
        Ok(held.into_tables().into_iter().filter(|(name, _)| is_host_tables(name)).collect())
    }

    /// The comment of the table of a name; `None` where there is none.
    ///
    /// # Errors
    /// [`Cause::Netlink`].
    pub fn comment(&mut self, name: &str) -> Result<Option<String>, Failure> {
        self.tables.comment_of(name, TableFamily::Netdev)
    }
}

/// Whether a name is one that [`host_table`](crate::nft::build::host_table) makes.
fn is_host_tables(name: &str) -> bool {
    name.strip_prefix(HOST_TABLE).is_some_and(|id| !id.is_empty())
}

impl<'i> Tables<'i> {
    /// Opens the socket in the namespace `inside` proves this thread to be in.
    ///
    /// # Errors
    /// [`Cause::Netlink`], with `EPROTONOSUPPORT` where the kernel has no nfnetlink.
    pub fn open(inside: &'i Inside, deadline: Deadline) -> Result<Tables<'i>, Failure> {
        Tables::on(Some(inside), deadline)
    }

    fn on(inside: Option<&'i Inside>, deadline: Deadline) -> Result<Tables<'i>, Failure> {
        let socket = Socket::open(NETLINK_NETFILTER)?;
        socket.explain_errors()?;
        // Past the sequence numbers of any batch, so that no answer is taken for another's.
        Ok(Tables { socket, buffer: vec![0; BUFFER], sequence: 0x4000_0000, deadline, inside, links: None })
    }

    /// Puts `table` in place of whatever carries its name, and reads it back.
    ///
    /// `present` is what [`Tables::comment`] said. A table whose comment carries the same digest is compared first and
    /// left alone where it is equal; where only members of sets differ, they are put right under the same rules.
    ///
    /// # Errors
    /// [`Cause::Refused`] with each object the kernel did not take; nothing is changed then. [`Cause::Overtaken`] where
    /// `present` is `None` and there is another table by now, which stays. [`Cause::ReadBack`] where the kernel holds
    /// something else afterwards.
    pub fn install(&mut self, table: &Table, present: Option<&str>) -> Result<Installed, Failure> {
        const DOING: &str = "load the rules";
        let expected = self.expected(table)?;
        let whole = |part: &[Held]| part.first().and_then(Held::comment).map(str::to_owned);
        if present.is_some()
            && present == whole(&expected).as_deref()
            && self.differences(&expected, Reading::Whole)?.is_empty()
        {
            let put_right = self.put_right(&expected, DOING)?;
            let nothing = put_right == Reconciled::default();
            return Ok(if nothing { Installed::Unchanged } else { Installed::Reconciled(put_right) });
        }
        let head = if present.is_some() { Head::Destroy } else { Head::Fresh };
        lap("list the interfaces");
        let (expected, reading) = self.load(table, expected, head)?;
        lap("load the rules");
        checkpoint::step("loaded")?;
        self.verify_against(&expected, reading, DOING)?;
        lap("read the rules back");
        self.verify_members(&expected, DOING)?;
        Ok(Installed::Loaded)
    }

    /// Puts right whose members come and go: who is missing in a set of `table` is added, who does not belong there is
    /// removed, in one batch, and the sets are read back. The rules are not looked at.
    ///
    /// # Errors
    /// [`Cause::Refused`]; nothing is changed then. [`Cause::ReadBack`] where a set is missing, or holds something else
    /// afterwards.
    pub fn reconcile(&mut self, table: &Table) -> Result<Reconciled, Failure> {
        self.put_right(&[Held::members(table)], "put the members of sets right")
    }

    /// Changes members of sets, all in one batch or none. Where the kernel acknowledges the whole batch (from Linux 6.10 on)
    /// nothing is read back; where that is missing, or was lost, the sets are. Who is to come and is there, or to go and is not, is no error, so an update may be repeated.
    ///
    /// Adding takes some 40 µs, and 100 members 150. Removing makes the socket's close wait for an RCU grace period
    /// (`nft_rcv_nl_event`), 10 ms and more here, however many there are: whoever changes several namespaces keeps the
    /// sockets until all are changed, since grace periods that run at the same time are waited for together (ten
    /// namespaces: 12 ms, and 150 one after the other).
    ///
    /// # Errors
    /// [`Cause::Refused`], with `ENOENT` where there is no such set; nothing is changed then. [`Cause::ReadBack`] where
    /// nobody said that it was done and it was not. [`Cause::Internal`] where the members of a change are of two kinds.
    pub fn update(&mut self, changes: &[Change]) -> Result<(), Failure> {
        let deltas = changes.iter().map(Delta::of).collect::<Result<Vec<_>, _>>()?;
        self.alter(&deltas, "change the members of sets")
    }

    /// Makes the members of sets those of `is`, where they are those of `was`: the two
    /// [differ in nothing else](Table::differs_in_members_alone). As with [`Tables::update`] the kernel's word is taken for it.
    ///
    /// # Errors
    /// As there.
    pub fn catch_up(&mut self, was: &Table, is: &Table) -> Result<(), Failure> {
        let (was, is) = (Held::members(was), Held::members(is));
        let pairs = was.open_sets().zip(is.open_sets());
        let deltas: Vec<Delta> = pairs.filter_map(|(was, is)| Delta::between(was, is)).collect();
        self.alter(&deltas, "bring the members of sets up to date")
    }

    /// The socket alone, to be closed later: see [`Tables::update`] on what closing may wait for.
    pub fn into_socket(self) -> Socket {
        self.socket
    }

    /// Takes our tables away.
    ///
    /// # Errors
    /// [`Cause::Refused`]; [`Cause::ReadBack`] where it is still there.
    pub fn remove(&mut self) -> Result<(), Failure> {
        self.remove_named(TABLE, "remove the old rules")
    }

    fn remove_named(&mut self, name: &str, doing: &str) -> Result<(), Failure> {
        let mut batch = Batch::removal(name, Head::Destroy);
        let mut answers = self.send(&batch, doing)?;
        if answers.lacks_destroy(&batch) {
            batch = Batch::removal(name, Head::AddDeleteAdd);
            answers = self.send(&batch, doing)?;
        }
        if accepted(&answers, &batch, doing)? || !self.is_there(name)? {
            return Ok(());
        }
        Err(Failure::new(doing, Cause::ReadBack("the table is still there".to_owned())))
    }

    /// Whether there is a table of a name, in any family of ours.
    fn is_there(&mut self, name: &str) -> Result<bool, Failure> {
        for family in [TableFamily::Inet, TableFamily::Netdev] {
            match self.ask(&Ask::Table, &mut Held::empty(name, family)) {
                Ok(()) => return Ok(true),
                Err(failure) if is_absent(&failure) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(false)
    }

    /// Hangs the guard of `table` on devices that came since it was loaded, and says which: those that bear a name of
    /// [`LATE_DEVICES`](crate::nft::build::LATE_DEVICES) it has from the beginning, where the kernel can.
    ///
    /// # Errors
    /// [`Cause::Refused`]. [`Cause::ReadBack`] where there is no guard, or it is another.
    pub fn guard_late(&mut self, table: &Table) -> Result<Vec<String>, Failure> {
        const DOING: &str = "guard an interface that came later";
        let Some(guard) = &table.guard else { return Ok(Vec::new()) };
        let held = self.chains(TableFamily::Netdev)?;
        let mut expected = Held::expected(guard, &self.interfaces()?);
        expected.keep_present_devices();
        let is_late = |device: &&str| !held.devices().any(|known| known == *device);
        let late: Vec<String> = expected.devices().filter(is_late).map(str::to_owned).collect();
        if late.is_empty() {
            return Ok(late);
        }
        if !held.has_chains() {
            let problem = format!("the kernel's table differs: {}", no_table(&expected));
            return Err(Failure::new("verify the rules", Cause::ReadBack(problem)));
        }
        let batch = Batch::hang(guard, &expected);
        let answers = self.send(&batch, DOING)?;
        // Where nobody confirms it, the caller's reading back decides.
        accepted(&answers, &batch, DOING)?;
        Ok(late)
    }

    /// Compares the kernel's table with `table`, but for members of sets that come and go.
    ///
    /// # Errors
    /// [`Cause::ReadBack`] with the first differences; also where there is no table.
    pub fn verify(&mut self, table: &Table) -> Result<(), Failure> {
        let expected = self.expected(table)?;
        self.verify_against(&expected, Reading::Whole, "verify the rules")
    }

    /// The comment of our table; `None` where the namespace has no such table.
    ///
    /// # Errors
    /// [`Cause::Netlink`].
    pub fn comment(&mut self) -> Result<Option<String>, Failure> {
        self.comment_of(TABLE, TableFamily::Inet)
    }

    fn comment_of(&mut self, name: &str, family: TableFamily) -> Result<Option<String>, Failure> {
        let mut held = Held::empty(name, family);
        match self.ask(&Ask::Table, &mut held) {
            Ok(()) => Ok(held.comment().map(str::to_owned)),
            Err(failure) if is_absent(&failure) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// What the kernel is to hold of each part of `table`.
    fn expected(&mut self, table: &Table) -> Result<Vec<Held>, Failure> {
        let mut bases = table.parts().flat_map(|part| &part.chains).filter_map(|chain| chain.base.as_ref());
        let links = if bases.any(|base| base.every_device) { self.interfaces()? } else { Vec::new() };
        Ok(table.parts().map(|part| Held::expected(part, &links)).collect())
    }

    /// The namespace's links: one socket, opened by the first who asks, for the rules and for what is done beside them.
    ///
    /// # Errors
    /// [`Cause::Netlink`]; [`Cause::Internal`] at the host's side, whose links are nobody's business here.
    pub fn links(&mut self) -> Result<&mut Links<'i>, Failure> {
        let links = match (self.links.take(), self.inside) {
            (Some(links), _) => links,
            (None, Some(inside)) => Links::open(inside)?,
            (None, None) => {
                let problem = "the host's links are asked for".to_owned();
                return Err(Failure::new("list the links", Cause::Internal(problem)));
            }
        };
        Ok(self.links.insert(links))
    }

    /// The names of the interfaces that are here; none at the host's side.
    fn interfaces(&mut self) -> Result<Vec<String>, Failure> {
        if self.inside.is_none() {
            return Ok(Vec::new());
        }
        let deadline = self.deadline;
        Ok(self.links()?.links(&deadline)?.into_iter().map(|link| link.name).collect())
    }

    fn chains(&mut self, family: TableFamily) -> Result<Held, Failure> {
        let mut held = Held::empty(TABLE, family);
        self.ask(&Ask::Chains, &mut held)?;
        Ok(held)
    }

    fn verify_against(&mut self, expected: &[Held], reading: Reading, doing: &str) -> Result<(), Failure> {
        let found = self.differences(expected, reading)?;
        if found.is_empty() {
            return Ok(());
        }
        let shown = found.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
        Err(Failure::new(doing, Cause::ReadBack(format!("the kernel's table differs: {shown}"))))
    }

    /// A difference is believed when the next reading says the same. A dump in several datagrams finds its place again by
    /// counting (`__nf_tables_dump_rules`), and counts the rules of a batch that is not committed yet. Where that is refused
    /// at its end, as the second of two hooks at once is, rules come twice or are passed over, and nothing says that the
    /// answer was interrupted, since no generation has ended.
    fn differences(&mut self, expected: &[Held], reading: Reading) -> Result<Vec<String>, Failure> {
        for part in expected {
            let read = |tables: &mut Self| tables.differences_of(part, reading);
            // Where each reading finds others, there are some.
            let (Ok(found) | Err(found)) = self.settled(read, Vec::is_empty, Vec::eq)?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }

    /// Reads until the answer is what is `wanted`, or two readings say the `same`; `Err` with the last where neither comes about.
    fn settled<T>(
        &mut self,
        read: impl Fn(&mut Self) -> Result<T, Failure>,
        wanted: impl Fn(&T) -> bool,
        same: impl Fn(&T, &T) -> bool,
    ) -> Result<Result<T, T>, Failure> {
        let mut answer = read(self)?;
        for _ in 0..DUMP_TRIES {
            if wanted(&answer) {
                return Ok(Ok(answer));
            }
            let again = read(self)?;
            if same(&again, &answer) {
                return Ok(Ok(again));
            }
            answer = again;
        }
        Ok(Err(answer))
    }

    fn differences_of(&mut self, expected: &Held, reading: Reading) -> Result<Vec<String>, Failure> {
        let mut held = Held::empty(expected.name(), expected.family());
        match self.ask(&Ask::Table, &mut held) {
            Err(failure) if is_absent(&failure) => return Ok(vec![no_table(expected)]),
            other => other?,
        }
        for ask in [Ask::Chains, Ask::Sets, Ask::Rules] {
            self.ask(&ask, &mut held)?;
        }
        self.widen(expected);
        for set in expected.fixed_sets() {
            let (ask, absent) = if reading == Reading::Loaded && held.can_sample(set) {
                (Ask::Sample(set), "lacks an element")
            } else {
                (Ask::Elements(set.name()), "is missing")
            };
            match self.ask(&ask, &mut held) {
                Err(failure) if is_absent(&failure) => return Ok(vec![format!("set {} {absent}", set.name())]),
                other => other?,
            }
        }
        Ok(held.differences(expected))
    }

    fn widen(&mut self, expected: &Held) {
        if expected.largest_set() > LARGE_SET {
            self.buffer.resize(LARGE_BUFFER, 0);
        }
    }

    /// What makes the members that the kernel holds those of `expected`.
    ///
    /// A hash that has grown is rehashed behind the writer's back (`rht_deferred_worker`), and a dump in several datagrams
    /// finds its place again by counting (`nft_rhash_walk`), so it may pass elements over meanwhile. A reading that is not
    /// what is expected is believed when the next one says the same.
    fn deltas(&mut self, expected: &[Held], doing: &str) -> Result<Vec<Delta>, Failure> {
        expected.iter().for_each(|part| self.widen(part));
        let mut deltas = Vec::new();
        for set in expected.iter().flat_map(Held::open_sets) {
            let missing = |failure: Failure| match is_absent(&failure) {
                true => Failure::new(doing, Cause::ReadBack(format!("set {} is missing", set.name()))),
                false => failure,
            };
            let read = |tables: &mut Self| tables.elements(set.name()).map_err(missing);
            let held = self.settled(read, |held| held.agrees_with(set), HeldSet::agrees_with)?.map_err(|_| {
                let said = format!("set {} keeps changing while it is read", set.name());
                Failure::new(doing, Cause::ReadBack(said))
            })?;
            deltas.extend(Delta::between(&held, set));
        }
        Ok(deltas)
    }

    fn elements(&mut self, set: &str) -> Result<HeldSet, Failure> {
        let mut held = Held::empty(TABLE, TableFamily::Inet);
        self.ask(&Ask::Elements(set), &mut held)?;
        Ok(held.into_set())
    }

    fn put_right(&mut self, expected: &[Held], doing: &str) -> Result<Reconciled, Failure> {
        let deltas = self.deltas(expected, doing)?;
        if deltas.is_empty() {
            return Ok(Reconciled::default());
        }
        self.alter(&deltas, doing)?;
        self.verify_members(expected, doing)?;
        let counts = deltas.iter().map(Delta::counts);
        Ok(counts.fold(Reconciled::default(), |sum, (added, removed)| Reconciled {
            added: sum.added + added,
            removed: sum.removed + removed,
        }))
    }

    fn verify_members(&mut self, expected: &[Held], doing: &str) -> Result<(), Failure> {
        match self.deltas(expected, doing)?.as_slice() {
            [] => Ok(()),
            [first, ..] => {
                let said = format!("the kernel's table differs: set {} has other members", first.set());
                Err(Failure::new(doing, Cause::ReadBack(said)))
            }
        }
    }

    /// Sends the batch that changes members.
    fn alter(&mut self, deltas: &[Delta], doing: &str) -> Result<(), Failure> {
        if deltas.iter().all(|delta| delta.counts() == (0, 0)) {
            return Ok(());
        }
        let batch = Batch::update(deltas, Removing::Destroy);
        let answers = self.send(&batch, doing)?;
        if answers.lacks_destroy(&batch) {
            return self.alter_before_6_3(deltas, doing);
        }
        if accepted(&answers, &batch, doing)? { Ok(()) } else { self.confirm(deltas, doing) }
    }

    /// [`Tables::update`] as kernels before 6.3 take it.
    ///
    /// # Errors
    /// As there; also where somebody removes a member between our reading and our batch.
    pub fn update_before_6_3(&mut self, changes: &[Change]) -> Result<(), Failure> {
        let deltas = changes.iter().map(Delta::of).collect::<Result<Vec<_>, _>>()?;
        self.alter_before_6_3(&deltas, "change the members of sets")
    }

    /// What kernels without `DESTROYSETELEM` are sent: only who is there can be removed.
    fn alter_before_6_3(&mut self, deltas: &[Delta], doing: &str) -> Result<(), Failure> {
        let mut there = Vec::with_capacity(deltas.len());
        for delta in deltas {
            let held = if delta.counts().1 > 0 { self.elements(delta.set())? } else { HeldSet::default() };
            there.push(delta.that_finds(&held));
        }
        let batch = Batch::update(&there, Removing::Delete);
        let answers = self.send(&batch, doing)?;
        if accepted(&answers, &batch, doing)? { Ok(()) } else { self.confirm(deltas, doing) }
    }

    /// Reads back what a batch has changed that nobody said was done. As in [`Tables::deltas`] a reading may pass elements
    /// over, so that there are two.
    fn confirm(&mut self, deltas: &[Delta], doing: &str) -> Result<(), Failure> {
        for delta in deltas {
            let done = |held: HeldSet| delta.is_done_in(&held);
            if !done(self.elements(delta.set())?) && !done(self.elements(delta.set())?) {
                let said = format!("the kernel's table differs: the members of set {} were not changed", delta.set());
                return Err(Failure::new(doing, Cause::ReadBack(said)));
            }
        }
        Ok(())
    }

    /// Loads a table with its companion, and returns what the kernel is to hold then, and how that is to be read back.
    fn load(
        &mut self,
        table: &Table,
        mut expected: Vec<Held>,
        mut head: Head,
    ) -> Result<(Vec<Held>, Reading), Failure> {
        const DOING: &str = "load the rules";
        // Before Linux 5.18, or without CONFIG_NETFILTER_EGRESS, CONFIG_NFT_FWD_NETDEV or CONFIG_IP_ROUTE_CLASSID.
        const GUARDING: &str = "load the guard against packet sockets, without which `net-raw: allow` would do";
        let parts: Vec<&Table> = table.parts().collect();
        let mut tried_fewer = false;
        loop {
            let both: Vec<(&Table, &Held)> = parts.iter().copied().zip(&expected).collect();
            let batch = Batch::replace(&both, head);
            lap("encode the rules");
            let answers = self.send(&batch, DOING)?;
            if !answers.is_refused() {
                // Kernels before 6.10 do not acknowledge the end. No error is their way to say yes; reading back follows.
                let reading = if answers.committed { Reading::Loaded } else { Reading::Whole };
                return Ok((expected, reading));
            }
            if head == Head::Fresh && answers.found_table(&batch) {
                // Two hooks at once, and nothing that kept one of them waiting. The same rules serve both; they are read back.
                match self.comment()? {
                    Some(held) if held == table.comment => return Ok((expected, Reading::Whole)),
                    Some(held) => {
                        let problem = format!("somebody else has put a table there meanwhile ({held})");
                        return Err(Failure::new(DOING, Cause::Overtaken(problem)));
                    }
                    // A guard that stayed behind alone, or a table at the host's side.
                    None => head = Head::Destroy,
                }
            } else if head != Head::AddDeleteAdd && answers.lacks_destroy(&batch) {
                head = Head::AddDeleteAdd;
            } else if !tried_fewer && answers.lacks_devices(&batch) {
                // Before 6.16 a chain hangs on devices that are there and on no others. poststart adds those that come.
                tried_fewer = true;
                expected.iter_mut().for_each(Held::keep_present_devices);
            } else {
                let doing = if answers.refuses_only_part(1, &batch) { GUARDING } else { DOING };
                return Err(Failure::new(doing, Cause::Refused(answers.refusals(&parts, &batch))));
            }
        }
    }

    /// Sends a batch and takes every answer that is there when the call returns: the kernel has worked by then.
    fn send(&mut self, batch: &Batch, doing: &str) -> Result<Answers, Failure> {
        if batch.bytes.len() > SMALL {
            self.socket.make_room_to_send(batch.bytes.len() * 2)?;
        }
        self.socket.send(&batch.bytes)?;
        let mut answers = Answers::default();
        let mut lost = false;
        let mut buffer = std::mem::take(&mut self.buffer);
        let received = loop {
            match self.socket.receive_queued(&mut buffer) {
                Ok(Some(messages)) => {
                    for message in messages.flatten() {
                        answers.take(&message, batch);
                    }
                    // The end's acknowledgement comes last, and only where everything was committed.
                    if answers.committed && !answers.is_refused() {
                        break Ok(());
                    }
                }
                Ok(None) => break Ok(()),
                // Answers were lost, not the batch; what is still queued can be read, and reading back decides.
                Err(Errno::ENOBUFS) => lost = true,
                Err(errno) => break Err(Cause::Netlink { call: "receive the answers to a batch", errno }),
            }
        };
        self.buffer = buffer;
        received.map_err(|cause| Failure::new(doing, cause))?;
        // Among those that were lost there may have been an error.
        answers.committed &= !lost;
        log::debug!("batch of {} bytes: committed {}, answers lost {lost}", batch.bytes.len(), answers.committed);
        Ok(answers)
    }

    /// Asks one question and gives every message of the answer to `held`.
    fn ask(&mut self, ask: &Ask<'_>, held: &mut Held) -> Result<(), Failure> {
        const DOING: &str = "read the rules";
        for _ in 0..DUMP_TRIES {
            let mut attempt = Held::for_answer(ask, held);
            if self.ask_once(ask, held, DOING, |message| attempt.take(message))? {
                held.adopt(ask, attempt);
                return Ok(());
            }
        }
        Err(Failure::new(DOING, Cause::ReadBack("the table keeps changing while it is read".to_owned())))
    }

    /// Asks one question and gives every message of the answer to `take`. `false` where the answer was interrupted by a
    /// change (`NLM_F_DUMP_INTR`) and must be asked for again.
    fn ask_once(
        &mut self,
        ask: &Ask<'_>,
        of: &Held,
        doing: &str,
        mut take: impl FnMut(&Message<'_>),
    ) -> Result<bool, Failure> {
        self.sequence += 1;
        self.socket.send(&ask.message(of, self.sequence))?;
        let mut whole = true;
        loop {
            let messages = self.socket.receive(&mut self.buffer, &self.deadline, doing)?;
            for message in messages {
                let failed = |errno| Failure::new(doing, Cause::Netlink { call: "reading a table", errno });
                let message = message.map_err(failed)?;
                if message.sequence != self.sequence {
                    continue;
                }
                whole &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.verdict() {
                    Some(Ok(())) => return Ok(whole),
                    Some(Err(errno)) => return Err(failed(errno)),
                    None => take(&message),
                }
                if *ask == Ask::Table {
                    return Ok(whole);
                }
            }
        }
    }
}

/// Whether the kernel says that a batch was carried out. Kernels before 6.10 do not acknowledge the end, and an answer
/// may be lost: without a word it has to be looked at.
fn accepted(answers: &Answers, batch: &Batch, doing: &str) -> Result<bool, Failure> {
    if answers.is_refused() {
        return Err(Failure::new(doing, Cause::Refused(answers.refusals(&[], batch))));
    }
    Ok(answers.committed)
}

/// Which is missing: of a container's two one may be.
fn no_table(expected: &Held) -> String {
    let (family, name) = (expected.family(), expected.name());
    let guard = if (family, name) == (TableFamily::Netdev, TABLE) { ", the guard" } else { "" };
    format!("there is no table {} {name}{guard}", family.name())
}

fn is_absent(failure: &Failure) -> bool {
    matches!(failure.cause, Cause::Netlink { errno: Errno::ENOENT, .. })
}
