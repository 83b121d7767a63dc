//! A container's namespace and a far side that is the whole world to it.
//!
//! ```text
//! ctr  eth0 10.9.0.2/16, fd99::2/64  <--veth-->  eth0 10.9.0.1, fd99::1  far
//! ```
//!
//! The far side owns every address (AnyIP: a `local` default route) and answers on every TCP and UDP port but
//! [`CLOSED`]. So a test may use any address there is, and what fails to arrive was not sent.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use super::namespace::Namespace;
use super::sniffer::Sniffer;

/// Rules of somebody else's that carry what goes to a loopback address out of the namespace. The output hook still sees `lo` as
/// its way out.
pub(crate) const LOOPBACK_GOES_OUT: &str = "\
table ip evil { chain out { type nat hook output priority -100; \
    ip daddr 127.0.0.53 meta l4proto { tcp, udp } dnat to 10.9.9.9; }; }
table ip6 evil { chain out { type nat hook output priority -100; \
    ip6 daddr fd99::2 meta l4proto { tcp, udp } dnat to 2001:db8::9; }; }
";

/// The port on which the far side has no listener: TCP is reset, UDP is answered with "port unreachable".
pub(crate) const CLOSED: u16 = 9;

/// The container's addresses.
pub(crate) const CTR: [&str; 2] = ["10.9.0.2", "fd99::2"];
/// The far side's own addresses, the container's gateways.
pub(crate) const FAR: [&str; 2] = ["10.9.0.1", "fd99::1"];

/// Where every port of the far side leads.
const SERVER: u16 = 7;

/// Both namespaces and the far side's ears.
pub(crate) struct World {
    /// The container's side.
    pub(crate) ctr: Namespace,
    /// The other side.
    pub(crate) far: Namespace,
    sniffer: Sniffer,
    tcp: TcpListener,
    udp: UdpSocket,
}

impl World {
    /// A world around a fresh namespace whose `lo` is still down, as where the runtime was given a path.
    pub(crate) fn new() -> World {
        World::around(Namespace::new())
    }

    /// A world around `ctr`.
    pub(crate) fn around(ctr: Namespace) -> World {
        let far = Namespace::far_side();
        far.ip_batch(&format!("link add eth0 type veth peer name eth0 netns {}\n", ctr.pid()));
        World::between(ctr, far)
    }

    /// A far side to which nothing is connected yet. `ctr` stands for nobody; a runtime started with
    /// [`Namespace::within`] `far` makes the container, and [`attach_script`] connects it.
    pub(crate) fn waiting() -> World {
        World::waiting_on(Namespace::new())
    }

    /// The same, where `far` is to become the far side.
    pub(crate) fn waiting_on(far: Namespace) -> World {
        let (ctr, far) = (Namespace::new(), far.into_far_side());
        far.ip_batch("link set lo up\n");
        let sniffer = Sniffer::new(&far);
        let (tcp, udp) = serve(&far);
        World { ctr, far, sniffer, tcp, udp }
    }

    /// Gives the eth0 of both their addresses. They are a pair, or bridged.
    pub(crate) fn between(ctr: Namespace, far: Namespace) -> World {
        World::linked(ctr, far, CTR_ADDRESSES, FAR_ADDRESSES)
    }

    /// The same with other addresses: commands of `ip`.
    pub(crate) fn linked(ctr: Namespace, far: Namespace, ctr_addresses: &str, far_addresses: &str) -> World {
        far.ip_batch(far_addresses);
        ctr.ip_batch(ctr_addresses);
        let sniffer = Sniffer::new(&far);
        let (tcp, udp) = serve(&far);
        World { ctr, far, sniffer, tcp, udp }
    }

    /// Answers what has come: takes connections, sends datagrams back. Never waits.
    pub(crate) fn pump(&self) -> Vec<Datagram> {
        while self.tcp.accept().is_ok() {}
        let mut got = Vec::new();
        let mut buffer = [0; 65536];
        while let Ok((len, from)) = self.udp.recv_from(&mut buffer) {
            // Only a container whose rules forbid the answer cannot be answered.
            let _ = self.udp.send_to(&buffer[..len], from);
            got.push(Datagram { from, len });
        }
        got
    }

    /// How many packets to `addr` (and `port`, where the packet has one) have arrived so far.
    pub(crate) fn heard(&self, addr: IpAddr, port: Option<u16>) -> usize {
        self.sniffer.count(|packet| packet.to == addr && (port.is_none() || packet.port == port))
    }

    /// Waits until such a packet has arrived; false when none has within three seconds.
    pub(crate) fn hears(&self, addr: IpAddr, port: Option<u16>) -> bool {
        let deadline = Instant::now() + Duration::from_secs(3);
        loop {
            if self.heard(addr, port) > 0 {
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets packets under way arrive. veth delivers before the sender's call returns; only a packet that waits for
    /// its neighbour's address takes longer.
    pub(crate) fn settle(&self) {
        std::thread::sleep(Duration::from_millis(20));
    }

    /// The far side's record of packets.
    pub(crate) fn sniffer(&self) -> &Sniffer {
        &self.sniffer
    }
}

/// A hook that connects the container whose state it reads to the far side it runs in, as an engine does that attaches
/// the network after createRuntime.
pub(crate) fn attach_script() -> String {
    format!(
        "#!/bin/sh -e\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\npid=$(tr -d ' \\n' | sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/')\n\
         ip link add eth0 type veth peer name eth0 netns \"$pid\"\n\
         ip -batch - <<END\n{FAR_ADDRESSES}END\nnsenter -t \"$pid\" -n ip -batch - <<END\n{CTR_ADDRESSES}END\n"
    )
}

/// What the far side's UDP server received.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Datagram {
    /// Who sent it.
    pub(crate) from: SocketAddr,
    /// Bytes of payload.
    pub(crate) len: usize,
}

impl Namespace {
    /// A namespace that owns every address and answers on every port; not yet connected to anything.
    pub(crate) fn far_side() -> Namespace {
        Namespace::new().into_far_side()
    }

    fn into_far_side(self) -> Namespace {
        // Its own link-local address must be usable at once, not after duplicate address detection.
        self.set_sysctl("net/ipv6/conf/default/accept_dad", "0");
        self.nft_load(ANSWER_EVERYWHERE);
        self
    }
}

/// The far side is also a router (for path MTU tests) that keeps silent about shorter ways.
const FAR_ADDRESSES: &str = "\
link set lo up
addr add 10.9.0.1/32 dev eth0
addr add fd99::1/64 dev eth0 nodad
link set eth0 up
route add 10.9.0.2/32 dev eth0
route add local 0.0.0.0/0 dev lo table main
route add local ::/0 dev lo table main
";

/// `nodad`: an address that is still tentative would make the first IPv6 packet of every test wait.
const CTR_ADDRESSES: &str = "\
addr add 10.9.0.2/16 dev eth0
addr add fd99::2/64 dev eth0 nodad
link set eth0 up
route add default via 10.9.0.1
route add default via fd99::1
";

const ANSWER_EVERYWHERE: &str = "\
table inet far {
    chain everywhere {
        type nat hook prerouting priority dstnat
        meta l4proto { tcp, udp } th dport != 9 redirect to :7
    }
}
";

fn serve(far: &Namespace) -> (TcpListener, UdpSocket) {
    let (tcp, udp) = far.within(|| (TcpListener::bind(("::", SERVER)), UdpSocket::bind(("::", SERVER))));
    let (tcp, udp) = (tcp.expect("the far side listens"), udp.expect("the far side listens"));
    tcp.set_nonblocking(true).expect("a socket option");
    udp.set_nonblocking(true).expect("a socket option");
    (tcp, udp)
}
