//! The connection tracking entries of one namespace, by ctnetlink: read, and ended one by one.
//!
//! A dump walks the hash that all namespaces share and takes a lock for each bucket (11 ms for 262,144 of them, whatever
//! the namespace holds), so the number of entries is asked for first: a namespace without any costs one message.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::ControlFlow;
use std::time::Duration;

use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use crate::conntrack::Flow;
use crate::conntrack::wire::{self, Begun};
use crate::error::{Cause, Failure};
use crate::kernel::netns::Inside;
use crate::kernel::process::Deadline;
use crate::kernel::socket::{Closing, Socket};
use crate::netlink::Message;
use crate::nft::ruleset::Table;
use crate::nft::wire::attr::Writer;

/// The kernel fills a datagram of a dump up to the length of the buffer last received into, and to 32 KiB at most
/// (`netlink_recvmsg`).
const BUFFER: usize = 32 << 10;

/// How many deletions one datagram holds: their answers fit a socket's queue many times over.
const AT_ONCE: usize = 64;

/// How often flows are judged before those whose packets are still on their way are left to be.
const PASSES: usize = 4;
/// How long such a packet is given to come to its end.
const PAUSE: Duration = Duration::from_millis(1);

const COUNT: &str = "IPCTNL_MSG_CT_GET_STATS (nf_conntrack_netlink)";
const LIST: &str = "IPCTNL_MSG_CT_GET (nf_conntrack_netlink)";
const DELETE: &str = "IPCTNL_MSG_CT_DELETE (nf_conntrack_netlink)";

/// The tracked flows of one namespace.
#[derive(Debug)]
pub struct Flows<'i> {
    socket: Socket,
    buffer: Vec<u8>,
    sequence: u32,
    deadline: Deadline,
    inside: &'i Inside,
}

/// What judging flows anew came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rejudged {
    /// How many flows were asked about.
    pub seen: usize,
    /// How many of them the table would not let begin now, and are no more.
    pub ended: usize,
}

impl<'i> Flows<'i> {
    /// Opens the socket in the namespace `inside` proves this thread to be in.
    ///
    /// # Errors
    /// [`Cause::Netlink`], with `EPROTONOSUPPORT` where the kernel has no nfnetlink.
    pub fn open(inside: &'i Inside, deadline: Deadline) -> Result<Flows<'i>, Failure> {
        let socket = Socket::open(NETLINK_NETFILTER)?;
        Ok(Flows { socket, buffer: vec![0; BUFFER], sequence: 0, deadline, inside })
    }

    /// How many entries the namespace has, those of packets still on their way through the hooks included.
    ///
    /// # Errors
    /// [`Cause::Netlink`], with `EINVAL` where the kernel has no nf_conntrack_netlink.
    pub fn entries(&mut self) -> Result<u32, Failure> {
        self.sequence += 1;
        let mut entries = 0;
        self.exchange(COUNT, &wire::ask_entries(self.sequence), self.sequence, |message| match message.verdict() {
            Some(Err(errno)) => Err(errno),
            Some(Ok(())) => Ok(ControlFlow::Break(())),
            None => {
                entries = wire::entries(message).ok_or(Errno::EPROTO)?;
                Ok(ControlFlow::Break(()))
            }
        })?;
        Ok(entries)
    }

    /// Every flow of both families that was let through.
    ///
    /// # Errors
    /// [`Cause::Netlink`], with `EINVAL` where the kernel has no nf_conntrack_netlink and `EPROTO` for an entry that
    /// cannot be read. [`Cause::Deadline`].
    pub fn list(&mut self) -> Result<Vec<Flow>, Failure> {
        let mut flows = Vec::new();
        self.walk(|flow| flows.push(flow))?;
        Ok(flows)
    }

    /// Ends a flow: its next packet is a first one. `false` where it had ended already.
    ///
    /// # Errors
    /// [`Cause::Netlink`].
    pub fn delete(&mut self, flow: &Flow) -> Result<bool, Failure> {
        Ok(self.delete_all(std::slice::from_ref(flow))? == 1)
    }

    fn walk(&mut self, mut take: impl FnMut(Flow)) -> Result<(), Failure> {
        self.sequence += 1;
        self.exchange(LIST, &wire::ask_flows(self.sequence), self.sequence, |message| match message.verdict() {
            Some(Err(errno)) => Err(errno),
            Some(Ok(())) => Ok(ControlFlow::Break(())),
            None => {
                take(wire::flow(message).ok_or(Errno::EPROTO)?);
                Ok(ControlFlow::Continue(()))
            }
        })
    }

    /// How many there still were.
    fn delete_all(&mut self, flows: &[Flow]) -> Result<usize, Failure> {
        let mut ended = 0;
        for some in flows.chunks(AT_ONCE) {
            let mut writer = Writer::with_capacity(AT_ONCE * 128);
            let first = self.sequence + 1;
            for flow in some {
                self.sequence += 1;
                wire::delete(&mut writer, self.sequence, flow);
            }
            ended += self.carry_out(writer, first)?;
        }
        Ok(ended)
    }

    /// Ends every flow with one of `addresses` at the other end; the kernel looks for them (since Linux 6.10). Its walk
    /// skips empty buckets without a lock, where a dump takes one for each: measured with 262,144 of them 0.2 ms for each
    /// address and side, against 11 ms. IPv4 alone: `ctnetlink_filter_match_tuple` has the comparison of IPv6 addresses
    /// the wrong way round, which ends every flow but those meant (seen on 6.18).
    ///
    /// # Errors
    /// [`Cause::Netlink`], with `EINVAL` where the kernel cannot; [`Flows::forget_listed`] can.
    fn forget_v4(&mut self, addresses: &[Ipv4Addr]) -> Result<(), Failure> {
        for some in addresses.chunks(AT_ONCE / 2) {
            let mut writer = Writer::default();
            let first = self.sequence + 1;
            for address in some {
                for begun in [Begun::ByPeer, Begun::TowardsPeer] {
                    self.sequence += 1;
                    wire::delete_all_of(&mut writer, self.sequence, *address, begun);
                }
            }
            self.carry_out(writer, first)?;
        }
        Ok(())
    }

    /// Ends every flow with one of `addresses` at the other end: a dump, and a request for each flow found.
    ///
    /// # Errors
    /// Those of [`Flows::list`] and [`Flows::delete`].
    pub fn forget_listed(&mut self, addresses: &[IpAddr]) -> Result<(), Failure> {
        let mut found = Vec::new();
        self.walk(|flow| {
            if addresses.iter().any(|address| flow.touches(*address)) {
                found.push(flow);
            }
        })?;
        self.delete_all(&found).map(drop)
    }

    /// Sends the requests numbered from `first` on and takes the answer to each. How many found something to delete.
    fn carry_out(&mut self, requests: Writer, first: u32) -> Result<usize, Failure> {
        let mut found = 0;
        let mut open = self.sequence + 1 - first;
        self.exchange(DELETE, &requests.into_bytes(), first, |message| {
            match message.verdict().ok_or(Errno::EPROTO)? {
                Ok(()) => found += 1,
                // It ended meanwhile.
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno),
            }
            open -= 1;
            Ok(if open == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(found)
    }

    /// Sends a datagram and hands every message that answers a request from number `first` on to `take`, until it says
    /// that it was the last.
    fn exchange(
        &mut self,
        call: &'static str,
        datagram: &[u8],
        first: u32,
        mut take: impl FnMut(&Message<'_>) -> Result<ControlFlow<()>, Errno>,
    ) -> Result<(), Failure> {
        let doing = || format!("read or end the tracked flows of {}", self.inside.target());
        self.socket.send(datagram)?;
        loop {
            for message in self.socket.receive(&mut self.buffer, &self.deadline, &doing())? {
                let taken = match message {
                    // What is left of an exchange that failed.
                    Ok(message) if message.sequence < first => continue,
                    Ok(message) => take(&message),
                    Err(errno) => Err(errno),
                };
                match taken {
                    Ok(ControlFlow::Continue(())) => {}
                    Ok(ControlFlow::Break(())) => return Ok(()),
                    Err(errno) => return Err(Failure::new(doing(), Cause::Netlink { call, errno })),
                }
            }
        }
    }
}

/// Ends every flow that `table`, which is in force already, would not let begin now. `own` are the namespace's addresses;
/// see [`Flow::may_begin`] for what is asked, and [`Closing`] for `closing`. Sets whose members come and go must hold in `table` whom they hold in the
/// kernel: who is missing loses its flows, who is gone there and not here keeps them.
///
/// What keeps a packet from getting through, and what does not:
///
/// * **Between two tables.** The new one is in place before flows are read, so what begins meanwhile was judged by it.
/// * **On their way.** An entry is in the hash from the end of the last hook on (`nf_conntrack_confirm`). A packet that the
///   old table let pass may still be between the two, when its sender was preempted there. The kernel counts its entry and
///   does not list it, so as long as there are more entries than listed flows, all are judged again, a millisecond
///   later and `PASSES` times at most. A packet that is held up longer leaves a flow that nobody judges.
/// * **The other end goes on.** The next packet of an ended flow may come from the peer and begin the flow the other way
///   round, if the other direction's rules let the peer begin one; answers then pass. Of TCP no flow may begin in its
///   middle (the rules drop a first segment that is no SYN), or the connection would live on. Of UDP there is nothing to tell
///   such a packet from a first one, and no need: the policy lets this peer send from there to here, and answers to
///   whom one must listen to are what a stateful policy permits.
/// * **NAT** within the namespace is seen as the chains see it. **Expected flows** (helpers) are entries like any other; no
///   helper is ever assigned here.
///
/// # Errors
/// Those of [`Flows::list`] and [`Flows::delete`]. Flows that the table forbids may live on then, while everything new is
/// judged by it: who changed the policy has to be told that established flows were not judged anew.
pub fn rejudge(
    inside: &Inside,
    table: &Table,
    own: &[IpAddr],
    closing: &mut Closing,
    deadline: Deadline,
) -> Result<Rejudged, Failure> {
    let mut flows = Flows::open(inside, deadline)?;
    let rejudged = rejudge_all(&mut flows, table, own);
    closing.add(flows.socket);
    rejudged
}

fn rejudge_all(flows: &mut Flows<'_>, table: &Table, own: &[IpAddr]) -> Result<Rejudged, Failure> {
    let mut ended = 0;
    let mut kept = 0;
    for pass in 0..PASSES {
        if pass > 0 {
            std::thread::sleep(PAUSE);
        }
        if flows.entries()? == 0 {
            return Ok(Rejudged { seen: ended, ended });
        }
        kept = 0;
        let mut forbidden = Vec::new();
        flows.walk(|flow| if flow.may_begin(table, own) { kept += 1 } else { forbidden.push(flow) })?;
        ended += flows.delete_all(&forbidden)?;
        // Expired entries do not count: a dump takes those away that it comes across (`nf_ct_kill`).
        if flows.entries()? as usize <= kept {
            break;
        }
    }
    Ok(Rejudged { seen: kept + ended, ended })
}

/// Ends every flow with one of `addresses` at the other end, whoever began it.
///
/// For a peer that is gone: its address may be given to another container, whose packets an old entry would let pass as
/// answers. The addresses must have left the sets before, so that no flow with them begins anew.
///
/// # Errors
/// Those of [`Flows::list`] and [`Flows::delete`].
pub fn forget_peer(
    inside: &Inside,
    addresses: &[IpAddr],
    closing: &mut Closing,
    deadline: Deadline,
) -> Result<(), Failure> {
    let mut flows = Flows::open(inside, deadline)?;
    let forgotten = forget(&mut flows, addresses);
    closing.add(flows.socket);
    forgotten
}

fn forget(flows: &mut Flows<'_>, addresses: &[IpAddr]) -> Result<(), Failure> {
    if addresses.is_empty() || flows.entries()? == 0 {
        return Ok(());
    }
    let v4 = |address: &IpAddr| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    };
    let Some(all_v4) = addresses.iter().map(v4).collect::<Option<Vec<_>>>() else {
        return flows.forget_listed(addresses);
    };
    match flows.forget_v4(&all_v4) {
        Err(Failure { cause: Cause::Netlink { call: DELETE, errno: Errno::EINVAL }, .. }) => {
            flows.forget_listed(addresses)
        }
        other => other,
    }
}
