//! Hundreds of probes at once: real connects and datagrams from many namespaces, in one thread.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use netlatch::net::Transport;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, bind, connect, getsockname, recv, send, socket,
};

use super::cluster::Cluster;
use super::sctp;
use super::servers::{Servers, sctp_receive, sctp_send, sctp_socket};

/// How many probes are under way at once.
const AT_ONCE: usize = 600;
/// How long an answer that must not come is waited for. What comes later is still in the server's record.
const SILENCE: Duration = Duration::from_millis(300);
/// How long an answer that must come is waited for, attempt by attempt. A lost SYN is sent again after a second.
const PATIENCE: [Duration; 3] = [Duration::from_millis(700), Duration::from_secs(3), Duration::from_secs(6)];

/// One question to the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Flow {
    /// The sending end's place in [`Cluster::ends`].
    pub(crate) end: usize,
    /// The sending address.
    pub(crate) from: IpAddr,
    /// Where to.
    pub(crate) to: SocketAddr,
    /// Over what.
    pub(crate) transport: Transport,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The server answered.
    Answered,
    /// Nothing came, and the server heard nothing.
    Silence,
    /// Nothing came back, but the server HEARD it.
    Heard,
    /// The kernel said no at once, as it does of a datagram that a rule of our own drops.
    NotPermitted,
    /// The other side, or a router, said no.
    Told(Errno),
}

impl Fate {
    /// Whether this is how a dropped packet looks, and nothing else.
    pub(crate) fn is_drop(self) -> bool {
        matches!(self, Fate::Silence | Fate::NotPermitted)
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} -> {}", self.transport, self.from, self.to)
    }
}

/// Sends what must arrive and what must not, and returns what went otherwise. What must arrive gets several attempts.
pub(crate) fn wrong(cluster: &Cluster, servers: &Servers, wanted: &[(Flow, bool)]) -> Vec<(usize, Fate)> {
    servers.forget();
    let mut wrong = Vec::new();
    let mut late: Vec<usize> = Vec::new();
    for chunk in (0..wanted.len()).collect::<Vec<_>>().chunks(AT_ONCE) {
        let flows: Vec<(Flow, Duration)> =
            chunk.iter().map(|&i| (wanted[i].0, if wanted[i].1 { PATIENCE[0] } else { SILENCE })).collect();
        for (&i, fate) in chunk.iter().zip(send_all(cluster, servers, &flows)) {
            match wanted[i].1 {
                true if fate != Fate::Answered => late.push(i),
                false if !fate.is_drop() => wrong.push((i, fate)),
                true | false => {}
            }
        }
    }
    for (attempt, patience) in PATIENCE.iter().enumerate().skip(1) {
        let mut still = Vec::new();
        for chunk in late.chunks(AT_ONCE) {
            let flows: Vec<(Flow, Duration)> = chunk.iter().map(|&i| (wanted[i].0, *patience)).collect();
            for (&i, fate) in chunk.iter().zip(send_all(cluster, servers, &flows)) {
                if fate == Fate::Answered {
                } else if attempt + 1 == PATIENCE.len() {
                    wrong.push((i, fate));
                } else {
                    still.push(i);
                }
            }
        }
        late = still;
    }
    wrong.sort_unstable_by_key(|(i, _)| *i);
    wrong
}

/// Sends all at once, each once, and says what became of each after its time.
pub(crate) fn send_all(cluster: &Cluster, servers: &Servers, flows: &[(Flow, Duration)]) -> Vec<Fate> {
    thread::scope(|scope| {
        let sent = scope.spawn(|| Batch::send(cluster, flows).wait(servers));
        sent.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// What became of one flow.
pub(crate) fn fate(cluster: &Cluster, servers: &Servers, flow: Flow, patience: Duration) -> Fate {
    send_all(cluster, servers, &[(flow, patience)])[0]
}

struct Sent {
    flow: Flow,
    /// The sender's port.
    port: u16,
    until: Instant,
    fate: Option<Fate>,
    /// TCP and UDP; SCTP flows of an address share a socket.
    socket: Option<OwnedFd>,
}

struct Batch {
    sent: Vec<Sent>,
    raw: HashMap<IpAddr, OwnedFd>,
}

impl Batch {
    fn send(cluster: &Cluster, flows: &[(Flow, Duration)]) -> Batch {
        let mut order: Vec<usize> = (0..flows.len()).collect();
        order.sort_by_key(|&i| flows[i].0.end);
        let mut batch = Batch { sent: Vec::new(), raw: HashMap::new() };
        let mut sent: Vec<(usize, Sent)> = Vec::new();
        let mut inside = None;
        for i in order {
            let (flow, patience) = flows[i];
            if inside != Some(flow.end) {
                cluster.ends[flow.end].namespace.enter();
                inside = Some(flow.end);
            }
            sent.push((i, batch.begin(flow, patience)));
        }
        sent.sort_by_key(|(i, _)| *i);
        batch.sent = sent.into_iter().map(|(_, sent)| sent).collect();
        batch
    }

    fn begin(&mut self, flow: Flow, patience: Duration) -> Sent {
        let mut sent = Sent { flow, port: 0, until: Instant::now() + patience, fate: None, socket: None };
        let begun = match flow.transport {
            Transport::Tcp => begin_ordinary(&mut sent, SockType::Stream),
            Transport::Udp => begin_ordinary(&mut sent, SockType::Datagram),
            Transport::Sctp => {
                // Below the ephemeral ports, and never the same twice in a row.
                static PORT: AtomicU16 = AtomicU16::new(0);
                sent.port = 10_000 + PORT.fetch_add(1, Ordering::Relaxed) % 20_000;
                let raw = self.raw.entry(flow.from).or_insert_with(|| sctp_socket(flow.from));
                let tag = 0x0100_0000 | u32::from(sent.port);
                sctp_send(raw, &sctp::init(sent.port, flow.to.port(), tag), flow.to.ip())
            }
        };
        if let Err(errno) = begun {
            sent.fate = Some(told(errno));
        }
        sent
    }

    fn wait(mut self, servers: &Servers) -> Vec<Fate> {
        loop {
            let now = Instant::now();
            for sent in self.sent.iter_mut().filter(|sent| sent.fate.is_none() && sent.until <= now) {
                sent.fate = Some(Fate::Silence);
            }
            let waiting: Vec<usize> = (0..self.sent.len()).filter(|&i| self.sent[i].fate.is_none()).collect();
            let Some(until) = waiting.iter().map(|&i| self.sent[i].until).min() else { break };
            let ordinary: Vec<usize> = waiting.into_iter().filter(|&i| self.sent[i].socket.is_some()).collect();
            let mut polled: Vec<PollFd> = ordinary
                .iter()
                .filter_map(|&i| self.sent[i].socket.as_ref())
                .chain(self.raw.values())
                .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
                .collect();
            let wait = until.saturating_duration_since(now).as_millis() as u16 + 1;
            match poll(&mut polled, PollTimeout::from(wait)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => panic!("poll: {errno:?}"),
            }
            let ready: Vec<bool> = polled.iter().map(|polled| polled.any() == Some(true)).collect();
            for (&i, _) in ordinary.iter().zip(&ready).filter(|(_, ready)| **ready) {
                self.sent[i].receive();
            }
            if ready[ordinary.len()..].contains(&true) {
                self.receive_sctp();
            }
        }
        self.sent.iter().map(|sent| sent.fate_by(servers)).collect()
    }

    fn receive_sctp(&mut self) {
        for (own, socket) in &self.raw {
            while let Some((from, chunk)) = sctp_receive(socket) {
                let to = SocketAddr::new(from, chunk.from);
                let asked = self.sent.iter_mut().find(|sent| {
                    let flow = sent.flow;
                    (flow.transport, flow.from, sent.port, flow.to) == (Transport::Sctp, *own, chunk.to, to)
                });
                if let (sctp::Kind::InitAck, Some(asked)) = (chunk.kind, asked) {
                    asked.fate.get_or_insert(Fate::Answered);
                }
            }
        }
    }
}

impl Sent {
    fn receive(&mut self) {
        let Some(socket) = &self.socket else { return };
        self.fate = match recv(socket.as_raw_fd(), &mut [0; 64], MsgFlags::empty()) {
            Ok(1..) => Some(Fate::Answered),
            // The server sends before it closes, so it was somebody else who did.
            Ok(0) => Some(Fate::Told(Errno::ECONNRESET)),
            Err(Errno::EAGAIN) => None,
            Err(errno) => Some(told(errno)),
        };
    }

    fn fate_by(&self, servers: &Servers) -> Fate {
        let from = SocketAddr::new(self.flow.from, self.port);
        match self.fate.unwrap_or(Fate::Silence) {
            Fate::Silence if servers.heard(self.flow.transport, from, self.flow.to) => Fate::Heard,
            fate => fate,
        }
    }
}

fn told(errno: Errno) -> Fate {
    match errno {
        Errno::EPERM => Fate::NotPermitted,
        errno => Fate::Told(errno),
    }
}

fn begin_ordinary(sent: &mut Sent, kind: SockType) -> Result<(), Errno> {
    let family = if sent.flow.to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    let fd = socket.as_raw_fd();
    bind(fd, &SockaddrStorage::from(SocketAddr::new(sent.flow.from, 0)))?;
    let own: SockaddrStorage = getsockname(fd)?;
    let v6 = own.as_sockaddr_in6().map(|v6| v6.port());
    sent.port = own.as_sockaddr_in().map(|v4| v4.port()).or(v6).unwrap_or(0);
    sent.socket = Some(socket);
    match connect(fd, &SockaddrStorage::from(sent.flow.to)) {
        Ok(()) | Err(Errno::EINPROGRESS) => {}
        Err(errno) => return Err(errno),
    }
    if kind == SockType::Datagram { send(fd, b"probe", MsgFlags::empty()).map(drop) } else { Ok(()) }
}
