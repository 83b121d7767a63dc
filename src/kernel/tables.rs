//! The nf_tables socket: puts a table into the namespace, whole or not at all, and reads it back.

use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use crate::error::{Cause, Failure};
use crate::kernel::netns::Inside;
use crate::kernel::process::Deadline;
use crate::kernel::socket::{BUFFER, Socket};
use crate::nft::ruleset::Table;
use crate::nft::wire::batch::{Batch, Head};
use crate::nft::wire::dump::Ask;
use crate::nft::wire::held::Held;
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
    /// left alone where it is equal.
    ///
    /// # Errors
    /// [`Cause::Refused`] with each object the kernel did not take; nothing is changed then. [`Cause::ReadBack`] where
    /// the kernel holds something else afterwards.
    pub fn install(&mut self, table: &Table, present: Option<&str>) -> Result<Installed, Failure> {
        let expected = Held::expected(table);
        if present.is_some() && present == expected.comment() && self.differences(&expected)?.is_empty() {
            return Ok(Installed::Unchanged);
        }
        self.load(table, &expected)?;
        self.verify_against(&expected, "load the rules")?;
        Ok(Installed::Loaded)
    }

    /// Takes our table away.
    ///
    /// # Errors
    /// [`Cause::Refused`].
    pub fn remove(&mut self) -> Result<(), Failure> {
        let batch = Batch::removal();
        let answers = self.send(&batch)?;
        if answers.is_refused() {
            let none = Table { comment: String::new(), sets: Vec::new(), chains: Vec::new() };
            return Err(Failure::new("remove the old rules", Cause::Refused(answers.refusals(&none, &batch))));
        }
        Ok(())
    }

    /// Compares the kernel's table with `table`.
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
            Err(Failure { cause: Cause::Netlink { errno: Errno::ENOENT, .. }, .. }) => Ok(None),
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
        let absent = |failure: &Failure| matches!(failure.cause, Cause::Netlink { errno: Errno::ENOENT, .. });
        match self.ask(&Ask::Table, &mut held) {
            Err(failure) if absent(&failure) => return Ok(vec!["there is no table".to_owned()]),
            other => other?,
        }
        for ask in [Ask::Chains, Ask::Sets, Ask::Rules] {
            self.ask(&ask, &mut held)?;
        }
        if expected.largest_set() > LARGE_SET {
            self.buffer.resize(LARGE_BUFFER, 0);
        }
        for set in expected.static_sets() {
            match self.ask(&Ask::Elements(&set), &mut held) {
                Err(failure) if absent(&failure) => return Ok(vec![format!("set {set} is missing")]),
                other => other?,
            }
        }
        Ok(held.differences(expected))
    }

    fn load(&mut self, table: &Table, expected: &Held) -> Result<(), Failure> {
        let batch = Batch::replace(table, expected, Head::Destroy);
        let answers = self.send(&batch)?;
        let (batch, answers) = if answers.lacks_destroy(&batch) {
            let older = Batch::replace(table, expected, Head::AddDeleteAdd);
            let answers = self.send(&older)?;
            (older, answers)
        } else {
            (batch, answers)
        };
        if answers.is_refused() {
            return Err(Failure::new("load the rules", Cause::Refused(answers.refusals(table, &batch))));
        }
        // Kernels before 6.10 do not acknowledge the end. No error is their way to say yes; reading back follows.
        Ok(())
    }

    /// Sends a batch and takes every answer that is there when the call returns: the kernel has worked by then.
    fn send(&mut self, batch: &Batch) -> Result<Answers, Failure> {
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
        received.map_err(|cause| Failure::new("load the rules", cause))?;
        log::debug!("batch of {} bytes: committed {}, answers lost {lost}", batch.bytes.len(), answers.committed);
        Ok(answers)
    }

    /// Asks one question and gives every message of the answer to `held`.
    fn ask(&mut self, ask: &Ask<'_>, held: &mut Held) -> Result<(), Failure> {
        for _ in 0..DUMP_TRIES {
            let mut attempt = held.clone_for(ask);
            if self.ask_once(ask, &mut attempt)? {
                held.adopt(attempt);
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
