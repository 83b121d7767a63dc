//! The nf_tables socket: puts a table into the namespace, whole or not at all, and reads it back.

mod listing;

use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use crate::error::{Cause, Failure};
use crate::kernel::netns::Inside;
use crate::kernel::process::Deadline;
use crate::kernel::socket::{BUFFER, Socket};
use crate::nft::members::Change;
use crate::nft::ruleset::Table;
use crate::nft::wire::batch::{Batch, Head, Removing};
use crate::nft::wire::delta::Delta;
use crate::nft::wire::dump::Ask;
use crate::nft::wire::held::{Held, HeldSet};
use crate::nft::wire::reply::Answers;
use crate::nft::wire::uapi::NLM_F_DUMP_INTR;

/// One datagram above this size needs a larger send buffer; below it the default of net.core.wmem_default serves
/// (212,992 bytes where it was never changed, of which a datagram may take all but 32).
const SMALL: usize = 100_000;

/// A tree's dump walks it from its start for every datagram (`nft_rbtree_walk`), so large sets are read in few: the
/// kernel fills a datagram up to the length of the buffer last received into, and to 32 KiB at most (`netlink_recvmsg`).
const LARGE_SET: usize = 500;
const LARGE_BUFFER: usize = 32 << 10;

/// How often a dump that was changed under its reader is begun again.
const DUMP_TRIES: usize = 8;

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
    _inside: &'i Inside,
}

impl<'i> Tables<'i> {
    /// Opens the socket in the namespace `inside` proves this thread to be in.
    ///
    /// # Errors
    /// [`Cause::Netlink`], with `EPROTONOSUPPORT` where the kernel has no nfnetlink.
    pub fn open(inside: &'i Inside, deadline: Deadline) -> Result<Tables<'i>, Failure> {
        let socket = Socket::open(NETLINK_NETFILTER)?;
        socket.explain_errors()?;
        // Past the sequence numbers of any batch, so that no answer is taken for another's.
        Ok(Tables { socket, buffer: vec![0; BUFFER], sequence: 0x4000_0000, deadline, _inside: inside })
    }

    /// Puts `table` in place of whatever carries its name, and reads it back.
    ///
    /// `present` is what [`Tables::comment`] said. A table whose comment carries the same digest is compared first and
    /// left alone where it is equal; where only members of sets differ, they are put right under the same rules.
    ///
    /// # Errors
    /// [`Cause::Refused`] with each object the kernel did not take; nothing is changed then. [`Cause::ReadBack`] where
    /// the kernel holds something else afterwards.
    pub fn install(&mut self, table: &Table, present: Option<&str>) -> Result<Installed, Failure> {
        const DOING: &str = "load the rules";
        let expected = Held::expected(table);
        if present.is_some() && present == expected.comment() && self.differences(&expected)?.is_empty() {
            let put_right = self.put_right(&expected, DOING)?;
            let nothing = put_right == Reconciled::default();
            return Ok(if nothing { Installed::Unchanged } else { Installed::Reconciled(put_right) });
        }
        self.load(table, &expected)?;
        self.verify_against(&expected, DOING)?;
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
        self.put_right(&Held::members(table), "put the members of sets right")
    }

    /// Changes members of sets, all in one batch or none. Nothing is read back: the kernel's acknowledgement is that of
    /// the whole batch. Who is to come and is there, or to go and is not, is no error, so an update may be repeated.
    ///
    /// Adding takes some 40 µs, and 100 members 150. Removing makes the socket's close wait for an RCU grace period
    /// (`nft_rcv_nl_event`), 10 ms and more here, however many there are: whoever changes several namespaces keeps the
    /// sockets until all are changed, since grace periods that run at the same time are waited for together (ten
    /// namespaces: 12 ms, and 150 one after the other).
    ///
    /// # Errors
    /// [`Cause::Refused`], with `ENOENT` where there is no such set; nothing is changed then. [`Cause::Internal`] where
    /// the members of a change are of two kinds.
    pub fn update(&mut self, changes: &[Change]) -> Result<(), Failure> {
        let deltas = changes.iter().map(Delta::of).collect::<Result<Vec<_>, _>>()?;
        self.alter(&deltas, "change the members of sets")
    }

    /// The socket alone, to be closed later: see [`Tables::update`] on what closing may wait for.
    pub fn into_socket(self) -> Socket {
        self.socket
    }

    /// Takes our table away.
    ///
    /// # Errors
    /// [`Cause::Refused`].
    pub fn remove(&mut self) -> Result<(), Failure> {
        let batch = Batch::removal();
        const DOING: &str = "remove the old rules";
        let answers = self.send(&batch, DOING)?;
        accepted(&answers, &batch, DOING)
    }

    /// Compares the kernel's table with `table`, but for members of sets that come and go.
    ///
    /// # Errors
    /// [`Cause::ReadBack`] with the first differences; also where there is no table.
    pub fn verify(&mut self, table: &Table) -> Result<(), Failure> {
        self.verify_against(&Held::expected(table), "verify the rules")
    }

    /// The comment of our table; `None` where the namespace has no such table.
    ///
    /// # Errors
    /// [`Cause::Netlink`].
    pub fn comment(&mut self) -> Result<Option<String>, Failure> {
        let mut held = Held::default();
        match self.ask(&Ask::Table, &mut held) {
            Ok(()) => Ok(held.comment().map(str::to_owned)),
            Err(failure) if is_absent(&failure) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    fn verify_against(&mut self, expected: &Held, doing: &str) -> Result<(), Failure> {
        let found = self.differences(expected)?;
        if found.is_empty() {
            return Ok(());
        }
        let shown = found.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
        Err(Failure::new(doing, Cause::ReadBack(format!("the kernel's table differs: {shown}"))))
    }

    fn differences(&mut self, expected: &Held) -> Result<Vec<String>, Failure> {
        let mut held = Held::default();
        match self.ask(&Ask::Table, &mut held) {
            Err(failure) if is_absent(&failure) => return Ok(vec!["there is no table".to_owned()]),
            other => other?,
        }
        for ask in [Ask::Chains, Ask::Sets, Ask::Rules] {
            self.ask(&ask, &mut held)?;
        }
        self.widen(expected);
        for set in expected.fixed_sets() {
            match self.ask(&Ask::Elements(&set), &mut held) {
                Err(failure) if is_absent(&failure) => return Ok(vec![format!("set {set} is missing")]),
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
    fn deltas(&mut self, expected: &Held, doing: &str) -> Result<Vec<Delta>, Failure> {
        self.widen(expected);
        let mut deltas = Vec::new();
        for set in expected.open_sets() {
            let missing = |failure: Failure| match is_absent(&failure) {
                true => Failure::new(doing, Cause::ReadBack(format!("set {} is missing", set.name()))),
                false => failure,
            };
            let mut held = self.elements(set.name()).map_err(missing)?;
            let mut tries = DUMP_TRIES;
            while !held.agrees_with(set) {
                let again = self.elements(set.name())?;
                if again.agrees_with(&held) {
                    break;
                }
                tries -= 1;
                if tries == 0 {
                    let said = format!("set {} keeps changing while it is read", set.name());
                    return Err(Failure::new(doing, Cause::ReadBack(said)));
                }
                held = again;
            }
            deltas.extend(Delta::between(&held, set));
        }
        Ok(deltas)
    }

    fn elements(&mut self, set: &str) -> Result<HeldSet, Failure> {
        let mut held = Held::default();
        self.ask(&Ask::Elements(set), &mut held)?;
        Ok(held.into_set())
    }

    fn put_right(&mut self, expected: &Held, doing: &str) -> Result<Reconciled, Failure> {
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

    fn verify_members(&mut self, expected: &Held, doing: &str) -> Result<(), Failure> {
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
        if !answers.lacks_destroy(&batch) {
            return accepted(&answers, &batch, doing);
        }
        self.alter_before_6_3(deltas, doing)
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
        accepted(&answers, &batch, doing)
    }

    fn load(&mut self, table: &Table, expected: &Held) -> Result<(), Failure> {
        const DOING: &str = "load the rules";
        let batch = Batch::replace(table, expected, Head::Destroy);
        let answers = self.send(&batch, DOING)?;
        let (batch, answers) = if answers.lacks_destroy(&batch) {
            let older = Batch::replace(table, expected, Head::AddDeleteAdd);
            let answers = self.send(&older, DOING)?;
            (older, answers)
        } else {
            (batch, answers)
        };
        if answers.is_refused() {
            return Err(Failure::new(DOING, Cause::Refused(answers.refusals(table, &batch))));
        }
        // Kernels before 6.10 do not acknowledge the end. No error is their way to say yes; reading back follows.
        Ok(())
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
        log::debug!("batch of {} bytes: committed {}, answers lost {lost}", batch.bytes.len(), answers.committed);
        Ok(answers)
    }

    /// Asks one question and gives every message of the answer to `held`.
    fn ask(&mut self, ask: &Ask<'_>, held: &mut Held) -> Result<(), Failure> {
        for _ in 0..DUMP_TRIES {
            let mut attempt = Held::for_answer(ask);
            if self.ask_once(ask, &mut attempt)? {
                held.adopt(ask, attempt);
                return Ok(());
            }
        }
        Err(Failure::new("read the rules", Cause::ReadBack("the table keeps changing while it is read".to_owned())))
    }

    /// `false` where the answer was interrupted by a change (`NLM_F_DUMP_INTR`) and must be asked for again.
    fn ask_once(&mut self, ask: &Ask<'_>, held: &mut Held) -> Result<bool, Failure> {
        const DOING: &str = "read the rules";
        self.sequence += 1;
        self.socket.send(&ask.message(self.sequence))?;
        let mut whole = true;
        loop {
            let messages = self.socket.receive(&mut self.buffer, &self.deadline, DOING)?;
            for message in messages {
                let failed = |errno| Failure::new(DOING, Cause::Netlink { call: "reading a table", errno });
                let message = message.map_err(failed)?;
                if message.sequence != self.sequence {
                    continue;
                }
                whole &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.verdict() {
                    Some(Ok(())) => return Ok(whole),
                    Some(Err(errno)) => return Err(failed(errno)),
                    None => held.take(&message),
                }
                if *ask == Ask::Table {
                    return Ok(whole);
                }
            }
        }
    }
}

/// Kernels before 6.10 do not acknowledge the end: no error is their way to say yes.
fn accepted(answers: &Answers, batch: &Batch, doing: &str) -> Result<(), Failure> {
    if answers.is_refused() {
        let none = Table { comment: String::new(), sets: Vec::new(), chains: Vec::new() };
        return Err(Failure::new(doing, Cause::Refused(answers.refusals(&none, batch))));
    }
    Ok(())
}

fn is_absent(failure: &Failure) -> bool {
    matches!(failure.cause, Cause::Netlink { errno: Errno::ENOENT, .. })
}
