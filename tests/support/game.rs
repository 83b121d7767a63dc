//! A game of the container's process against the rules: first against rules as people write them, where it must win, so that
//! the game is known to be one; then against ours. What is won or lost is told by the far side, which hears every frame.
//!
//! Ordinary packets are sent in each half too: one that is allowed must arrive, one that is forbidden must not.

use std::cell::RefCell;
use std::fmt::{self, Debug};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket, sockopt,
};

use super::container::Container;
use super::namespace::Namespace;
use super::probe;
use super::wire::Mac;
use super::world::{CTR, World};

/// The addresses that the lists of the games allow.
pub(crate) const ALLOWED: [&str; 2] = ["10.9.1.1", "2001:db8::1"];
/// Those that they do not.
pub(crate) const FORBIDDEN: [&str; 2] = ["10.9.9.9", "2001:db8::9"];
/// [`ALLOWED`] as a list.
pub(crate) const LIST: &str = "10.9.1.1 2001:db8::1";

/// Rules as people write them who think of ordinary sockets.
pub(crate) const NAIVE: &str = "\
table inet naive {
    chain output {
        type filter hook output priority 0; policy drop
        ct state established,related accept
        oif lo accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, mld2-listener-report } accept
        ip daddr 10.9.1.1 accept
        ip6 daddr 2001:db8::1 accept
    }
}
";

/// How often a game is played against our rules.
const ROUNDS: usize = 3;
/// Longer than a packet takes that must first ask for its neighbour.
const SILENCE: Duration = Duration::from_millis(60);
/// Long enough for a packet that must arrive.
const PATIENCE: Duration = Duration::from_secs(5);

/// The far side's ear for whole frames that come from the container.
pub(crate) struct Ear {
    socket: OwnedFd,
    frames: RefCell<Vec<Vec<u8>>>,
}

impl Ear {
    /// Listens in `namespace` from now on.
    pub(crate) fn new(namespace: &Namespace) -> Ear {
        namespace.within(Ear::here)
    }

    /// Listens in the calling thread's namespace.
    pub(crate) fn here() -> Ear {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll);
        let socket = socket.expect("AF_PACKET opens");
        // A test that sends much before it looks must not lose frames.
        setsockopt(&socket, sockopt::RcvBuf, &(4 << 20)).expect("a socket option");
        Ear { socket, frames: RefCell::default() }
    }

    /// How many of the frames heard so far are like that.
    pub(crate) fn count(&self, like: impl Fn(&[u8]) -> bool) -> usize {
        /// linux/if_packet.h: a frame that the listening side itself sends.
        const PACKET_OUTGOING: u8 = 4;
        let mut buffer = [0; 1 << 17];
        loop {
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Ok((len, from)) => {
                    if from.is_some_and(|from| from.pkttype() != PACKET_OUTGOING) {
                        self.frames.borrow_mut().push(buffer[..len].to_vec());
                    }
                }
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(errno) => panic!("the far side went deaf: {errno:?}"),
            }
        }
        self.frames.borrow().iter().filter(|frame| like(frame)).count()
    }
}

/// Eleven bytes that no other packet of a run has. A payload of several of them can be told in any fragment.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Marker([u8; 11]);

impl Marker {
    fn new() -> Marker {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let text = format!("nl-{:08x}", NEXT.fetch_add(1, Ordering::Relaxed));
        Marker(text.as_bytes().try_into().expect("eleven bytes"))
    }

    /// The marker once.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// `len` bytes full of it.
    pub(crate) fn times(&self, len: usize) -> Vec<u8> {
        self.0.iter().copied().cycle().take(len).collect()
    }

    /// Whether it is somewhere in `bytes`.
    pub(crate) fn is_in(&self, bytes: &[u8]) -> bool {
        bytes.windows(self.0.len()).any(|window| window == self.0)
    }
}

impl Debug for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// A container, its far side, and what a frame between them needs.
pub(crate) struct Arena {
    /// Both sides.
    pub(crate) world: World,
    /// The far side's ear.
    pub(crate) ear: Ear,
    /// The container's eth0: index and address.
    pub(crate) eth0: (u32, Mac),
    /// The link layer address of the other end.
    pub(crate) far_mac: Mac,
}

impl Arena {
    /// No rules yet; `lo` is up.
    pub(crate) fn new() -> Arena {
        Arena::around(World::new())
    }

    /// The same of a world that is there.
    pub(crate) fn around(world: World) -> Arena {
        world.ctr.ip_batch("link set lo up\n");
        let ear = Ear::new(&world.far);
        let (eth0, (_, far_mac)) = (link(&world.ctr, "eth0"), link(&world.far, "eth0"));
        Arena { world, ear, eth0, far_mac }
    }

    /// Under these rules, `nft -f`.
    pub(crate) fn naive(rules: &str) -> Arena {
        let arena = Arena::new();
        arena.world.ctr.nft_load(rules);
        arena
    }

    /// Under what the hook makes of these annotations.
    pub(crate) fn ours(annotations: &[(&str, &str)]) -> Arena {
        let arena = Arena::new();
        arena.lock(annotations);
        arena
    }

    /// Runs the hook with these annotations.
    pub(crate) fn lock(&self, annotations: &[(&str, &str)]) {
        let container = Container::of(&self.world.ctr);
        annotations.iter().fold(container, |container, (key, value)| container.with(key, value)).lock();
    }

    /// A marker that nothing has carried yet.
    pub(crate) fn marker(&self) -> Marker {
        Marker::new()
    }

    /// Runs `work` as a process of the container that has CAP_NET_RAW and nothing else.
    pub(crate) fn with_net_raw<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.with_capabilities(&[Capability::CAP_NET_RAW], work)
    }

    /// Runs `work` as a process of the container that has no capability.
    pub(crate) fn with_nothing<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.with_capabilities(&[], work)
    }

    /// The thread loses all capabilities but these. They are gone for what it executes too: the bounding set is a limit
    /// even for root.
    pub(crate) fn with_capabilities<T: Send>(&self, kept: &[Capability], work: impl FnOnce() -> T + Send) -> T {
        self.world.ctr.within(|| {
            let kept = kept.iter().copied().collect();
            for capability in caps::read(None, CapSet::Bounding).expect("capget").difference(&kept) {
                caps::drop(None, CapSet::Bounding, *capability).expect("a capability drops");
            }
            for set in [CapSet::Effective, CapSet::Permitted] {
                caps::set(None, set, &kept).expect("capset");
            }
            work()
        })
    }

    /// How many frames have arrived with the marker in them.
    pub(crate) fn arrived(&self, marker: &Marker) -> usize {
        self.ear.count(|frame| marker.is_in(frame))
    }

    /// Waits for one; false when there was none for five seconds.
    pub(crate) fn hears(&self, marker: &Marker) -> bool {
        self.hears_frame(|frame| marker.is_in(frame))
    }

    /// The same of any kind of frame.
    pub(crate) fn hears_frame(&self, like: impl Fn(&[u8]) -> bool) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while self.ear.count(&like) == 0 {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// The control: an ordinary datagram to each allowed address arrives.
    pub(crate) fn passes_what_is_allowed(&self) {
        for to in ALLOWED {
            let marker = self.marker();
            let deadline = Instant::now() + PATIENCE;
            loop {
                let sent = self.with_nothing(|| datagram(at(to, 53), &marker));
                std::thread::sleep(Duration::from_millis(5));
                if self.arrived(&marker) > 0 {
                    break;
                }
                // An address that came a moment ago has its route in the table `local` a moment later.
                assert!(Instant::now() < deadline, "an ordinary datagram to {to} must arrive; its sender saw {sent:?}");
            }
        }
    }

    /// And one to a forbidden address does not.
    pub(crate) fn stops_what_is_forbidden(&self, addresses: &[&str]) {
        for to in addresses {
            let marker = self.marker();
            let sent = self.with_nothing(|| datagram(at(to, 53), &marker));
            std::thread::sleep(SILENCE);
            assert_eq!(self.arrived(&marker), 0, "an ordinary datagram to {to} arrived; its sender saw {sent:?}");
        }
    }
}

/// The index and the link layer address of an interface.
pub(crate) fn link(namespace: &Namespace, name: &str) -> (u32, Mac) {
    let shown = namespace.ip_json(&["link", "show", name]);
    let mac = shown[0]["address"].as_str().expect("an address").split(':');
    let mac: Vec<u8> = mac.map(|byte| u8::from_str_radix(byte, 16).expect("a byte")).collect();
    let index = shown[0]["ifindex"].as_u64().expect("an index");
    (u32::try_from(index).expect("an index"), mac.try_into().expect("six bytes"))
}

/// An address with a port.
pub(crate) fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().expect("an address"), port)
}

/// Of two addresses the one of the same family.
pub(crate) fn like(other: IpAddr, addresses: [&str; 2]) -> &str {
    addresses[usize::from(other.is_ipv6())]
}

/// The container's own address of that family.
pub(crate) fn own(other: IpAddr) -> IpAddr {
    like(other, CTR).parse().expect("an address")
}

/// An ordinary datagram.
pub(crate) fn datagram(to: SocketAddr, marker: &Marker) -> std::io::Result<usize> {
    UdpSocket::bind(probe::any(to))?.send_to(marker.bytes(), to)
}

/// Plays each of `games` against the naive rules, which it must get around, and then against ours, which it must not.
/// `shoot` tries to get the marker to where it must not go and says what its sender saw.
pub(crate) fn play<G: Debug + Sync, S: Debug>(
    naive: &str,
    annotations: &[(&str, &str)],
    games: &[G],
    shoot: impl Fn(&Arena, &G, &Marker) -> S,
) {
    let arena = Arena::naive(naive);
    arena.passes_what_is_allowed();
    for game in games {
        let mut sent = None;
        // A link that came up a moment ago may not take everything yet.
        let won = (0..5).any(|_| {
            let marker = arena.marker();
            sent = Some(shoot(&arena, game, &marker));
            arena.hears(&marker)
        });
        assert!(won, "{game:?} gets around the naive rules; its sender saw {sent:?}");
    }
    let arena = Arena::ours(annotations);
    arena.passes_what_is_allowed();
    let mut lost = Vec::new();
    for game in games {
        for _ in 0..ROUNDS {
            let marker = arena.marker();
            let sent = shoot(&arena, game, &marker);
            std::thread::sleep(SILENCE);
            if arena.arrived(&marker) > 0 {
                lost.push(format!("{game:?} ARRIVED; its sender saw {sent:?}"));
            }
        }
    }
    assert!(lost.is_empty(), "\n{}", lost.join("\n"));
    arena.stops_what_is_forbidden(&FORBIDDEN);
    arena.passes_what_is_allowed();
}
