//! Servers on many ports of many namespaces, in one thread, and a record of whom they heard.

use std::collections::HashSet;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use netlatch::net::Transport;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, SockaddrStorage, bind, recvfrom, sendto};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};

use super::cluster::Cluster;
use super::sctp;

/// One port to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Service {
    /// The end's place in [`Cluster::ends`].
    pub(crate) end: usize,
    /// Address and port.
    pub(crate) at: SocketAddr,
    /// Protocol.
    pub(crate) transport: Transport,
}

/// What a server heard: protocol, sender, receiver.
type Heard = (Transport, SocketAddr, SocketAddr);

/// Servers that run until this is dropped.
pub(crate) struct Servers {
    heard: Arc<Mutex<HashSet<Heard>>>,
    stop: UnixStream,
    thread: Option<JoinHandle<()>>,
}

enum Server {
    Tcp(SocketAddr, TcpListener),
    Udp(SocketAddr, UdpSocket),
    /// All SCTP ports of an address.
    Sctp(IpAddr, HashSet<u16>, OwnedFd),
}

impl Servers {
    /// Serves. A TCP connection gets one byte and is closed, a datagram is sent back, an INIT is acknowledged.
    pub(crate) fn start(cluster: &Cluster, services: &[Service]) -> Servers {
        raise_descriptor_limit();
        let mut services = services.to_vec();
        services.sort_unstable();
        services.dedup();
        let servers = thread::scope(|scope| scope.spawn(|| listen(cluster, &services)).join());
        let servers = servers.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let heard = Arc::new(Mutex::new(HashSet::new()));
        let (stop, stopped) = UnixStream::pair().expect("a socket pair");
        let record = Arc::clone(&heard);
        let thread = thread::spawn(move || serve(&servers, &stopped, &record));
        Servers { heard, stop, thread: Some(thread) }
    }

    /// Whether a packet from `from` has reached the server at `to`: for TCP a whole handshake.
    pub(crate) fn heard(&self, transport: Transport, from: SocketAddr, to: SocketAddr) -> bool {
        self.heard.lock().expect("no panic").contains(&(transport, from, to))
    }

    /// Forgets whom they heard: a port may be used again.
    pub(crate) fn forget(&self) {
        self.heard.lock().expect("no panic").clear();
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let _ = self.stop.write_all(b"!");
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Many ends and ports take more descriptors than the usual 1024.
pub(crate) fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).expect("a limit");
}

/// A raw SCTP socket of `address`.
pub(crate) fn sctp_socket(address: IpAddr) -> OwnedFd {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::RAW, flags, Some(ipproto::SCTP)).expect("a raw socket");
    bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(address, 0))).expect("the address is the end's");
    socket
}

/// The next packet of a raw socket without its IP header, and who sent it.
pub(crate) fn sctp_receive(socket: &OwnedFd) -> Option<(IpAddr, sctp::Chunk)> {
    let mut buffer = [0; 2048];
    loop {
        let (len, from) = match recvfrom::<SockaddrStorage>(socket.as_raw_fd(), &mut buffer) {
            Ok(received) => received,
            Err(Errno::EAGAIN) => return None,
            // An ICMP error that came for some packet of this socket.
            Err(_) => continue,
        };
        let from = from.and_then(|from| {
            let v4 = from.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
            v4.or_else(|| from.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
        })?;
        // A raw IPv4 socket delivers the IP header too, an IPv6 one does not.
        let skip = if from.is_ipv4() { usize::from(buffer[0] & 15) * 4 } else { 0 };
        if let Some(chunk) = buffer[..len].get(skip..).and_then(sctp::read) {
            return Some((from, chunk));
        }
    }
}

/// Sends a packet on a raw socket.
pub(crate) fn sctp_send(socket: &OwnedFd, packet: &[u8], to: IpAddr) -> Result<(), Errno> {
    let to = SockaddrStorage::from(SocketAddr::new(to, 0));
    sendto(socket.as_raw_fd(), packet, &to, MsgFlags::empty()).map(drop)
}

/// Sockets stay in the namespace they were made in, whichever thread uses them later.
fn listen(cluster: &Cluster, services: &[Service]) -> Vec<Server> {
    let mut servers: Vec<Server> = Vec::new();
    let mut inside = None;
    for service in services {
        if inside != Some(service.end) {
            cluster.ends[service.end].namespace.enter();
            inside = Some(service.end);
        }
        let at = service.at;
        match service.transport {
            Transport::Tcp => {
                let listener = TcpListener::bind(at).unwrap_or_else(|e| panic!("tcp {at}: {e}"));
                listener.set_nonblocking(true).expect("a socket option");
                servers.push(Server::Tcp(at, listener));
            }
            Transport::Udp => {
                let socket = UdpSocket::bind(at).unwrap_or_else(|e| panic!("udp {at}: {e}"));
                socket.set_nonblocking(true).expect("a socket option");
                servers.push(Server::Udp(at, socket));
            }
            Transport::Sctp => {
                let same = servers.iter_mut().find_map(|server| match server {
                    Server::Sctp(address, ports, _) if *address == at.ip() => Some(ports),
                    Server::Sctp(..) | Server::Tcp(..) | Server::Udp(..) => None,
                });
                match same {
                    Some(ports) => drop(ports.insert(at.port())),
                    None => servers.push(Server::Sctp(at.ip(), HashSet::from([at.port()]), sctp_socket(at.ip()))),
                }
            }
        }
    }
    servers
}

fn serve(servers: &[Server], stopped: &UnixStream, heard: &Mutex<HashSet<Heard>>) {
    let fds: Vec<BorrowedFd> = servers
        .iter()
        .map(|server| match server {
            Server::Tcp(_, listener) => listener.as_fd(),
            Server::Udp(_, socket) => socket.as_fd(),
            Server::Sctp(_, _, socket) => socket.as_fd(),
        })
        .chain([stopped.as_fd()])
        .collect();
    let mut polled: Vec<PollFd> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    loop {
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => panic!("poll: {errno:?}"),
        }
        if polled.last().is_some_and(|stopped| stopped.any() == Some(true)) {
            return;
        }
        for (server, polled) in servers.iter().zip(&polled) {
            if polled.any() == Some(true) {
                answer(server, heard);
            }
        }
    }
}

fn answer(server: &Server, heard: &Mutex<HashSet<Heard>>) {
    let note = |transport, from, to| {
        heard.lock().expect("no panic").insert((transport, from, to));
    };
    match server {
        Server::Tcp(at, listener) => {
            while let Ok((mut stream, from)) = listener.accept() {
                note(Transport::Tcp, from, *at);
                // The client may be gone again.
                let _ = stream.write_all(b"!");
            }
        }
        Server::Udp(at, socket) => {
            let mut buffer = [0; 64];
            loop {
                match socket.recv_from(&mut buffer) {
                    Ok((len, from)) => {
                        note(Transport::Udp, from, *at);
                        let _ = socket.send_to(&buffer[..len], from);
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                    // An ICMP error for an earlier answer.
                    Err(_) => {}
                }
            }
        }
        Server::Sctp(at, ports, socket) => {
            while let Some((from, chunk)) = sctp_receive(socket) {
                if chunk.kind == sctp::Kind::Init && ports.contains(&chunk.to) {
                    note(Transport::Sctp, SocketAddr::new(from, chunk.from), SocketAddr::new(*at, chunk.to));
                    let _ = sctp_send(socket, &sctp::init_ack(&chunk), from);
                }
            }
        }
    }
}
