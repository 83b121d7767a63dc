//! The way in, and what a process without capabilities can make of a user namespace of its own.

mod support;

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{MsgFlags, recv};
use support::Namespace;
use support::fork::in_child;
use support::game::{ALLOWED, Arena, FORBIDDEN, LIST, Marker, NAIVE, at, link};
use support::link::{send_frame, socket_of};
use support::wire::{self, ACK};
use support::world::{CTR, FAR};

/// Ordinary sockets and raw ones: whatever IP delivers is heard.
struct InnerEar(Vec<OwnedFd>);

impl InnerEar {
    fn of(arena: &Arena) -> InnerEar {
        arena.world.ctr.within(|| {
            let raw = |family, protocol| socket_of(family, libc::SOCK_RAW, protocol).expect("a raw socket opens");
            let mut sockets: Vec<OwnedFd> = [libc::IPPROTO_UDP, libc::IPPROTO_TCP, libc::IPPROTO_ICMP, 253]
                .map(|protocol| raw(libc::AF_INET, protocol))
                .into();
            sockets.extend(
                [libc::IPPROTO_UDP, libc::IPPROTO_TCP, libc::IPPROTO_ICMPV6, 253]
                    .map(|protocol| raw(libc::AF_INET6, protocol)),
            );
            sockets.push(UdpSocket::bind("[::]:53").expect("a socket").into());
            InnerEar(sockets)
        })
    }

    /// How often something with the marker in it was delivered.
    fn delivered(&self, marker: &Marker) -> usize {
        let mut buffer = [0; 1 << 16];
        let mut count = 0;
        for socket in &self.0 {
            while let Ok(len) = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                count += usize::from(marker.is_in(&buffer[..len]));
            }
        }
        count
    }
}

/// What a neighbour sends in. The packet is whatever it likes: nothing of its own filters it.
#[derive(Debug, Clone)]
enum Intrusion {
    Udp(&'static str, &'static str),
    /// A segment of a flow that never began.
    MidStream(&'static str, &'static str),
    /// A protocol that no rule names.
    Unknown(&'static str, &'static str),
    /// An error about a flow of another pair of addresses.
    Error(&'static str, &'static str),
    /// An error about a flow that the container might have.
    ErrorAboutUs(&'static str, &'static str),
    /// Two fragments.
    Pieces(&'static str, &'static str),
    /// Dressed as neighbour discovery, from further away than the link.
    Discovery(&'static str, &'static str),
}

impl Intrusion {
    fn packets(&self, marker: &Marker) -> Vec<Vec<u8>> {
        let ends = |from, to| (at(from, 4242), at(to, 53));
        match *self {
            Intrusion::Udp(from, to) => {
                let (from, to) = ends(from, to);
                vec![wire::udp(from, to, marker.bytes())]
            }
            Intrusion::MidStream(from, to) => {
                let (from, to) = ends(from, to);
                vec![wire::tcp(from, to, ACK, marker.bytes())]
            }
            Intrusion::Unknown(from, to) => {
                let (from, to) = ends(from, to);
                vec![wire::ip(from.ip(), to.ip(), 253, marker.bytes())]
            }
            Intrusion::Error(from, to) | Intrusion::ErrorAboutUs(from, to) => {
                let (from, to) = ends(from, to);
                let quoted = match self {
                    Intrusion::ErrorAboutUs(..) => wire::udp(SocketAddr::new(to.ip(), 5555), from, &marker.times(40)),
                    _ => wire::udp(from, from, &marker.times(40)),
                };
                let kind = if from.is_ipv4() { 3 } else { 1 };
                vec![wire::icmp(from.ip(), to.ip(), 64, kind, 1, &[&[0; 4][..], &quoted].concat())]
            }
            Intrusion::Pieces(from, to) => {
                let (from, to) = ends(from, to);
                let whole = wire::udp_segment(from, to, &marker.times(64));
                let piece = |at, more, bytes: &[u8]| wire::fragment(from.ip(), to.ip(), wire::UDP, at, more, bytes);
                vec![piece(0, true, &whole[..8]), piece(8, false, &whole[8..])]
            }
            Intrusion::Discovery(from, to) => {
                let rest = [&[0; 20][..], marker.bytes(), marker.bytes(), marker.bytes()].concat();
                vec![wire::icmp(at(from, 0).ip(), at(to, 0).ip(), 64, 136, 0, &rest)]
            }
        }
    }

    fn send(&self, arena: &Arena, marker: &Marker) {
        self.packets(marker).iter().for_each(|packet| send_in(arena, packet));
    }
}

/// From the far side, past its own stack.
fn send_in(arena: &Arena, packet: &[u8]) {
    let (index, far_mac) = link(&arena.world.far, "eth0");
    let frame = wire::ethernet(far_mac, arena.eth0.1, wire::ether_type(packet), packet);
    arena.world.far.within(|| send_frame(index, &frame)).expect("a frame leaves the far side");
}

#[test]
fn nothing_comes_in_that_the_list_does_not_let_in() {
    let intrusions: Vec<Intrusion> = [(FORBIDDEN[0], CTR[0]), (FORBIDDEN[1], CTR[1])]
        .into_iter()
        .flat_map(|(from, to)| {
            [
                Intrusion::Udp(from, to),
                Intrusion::MidStream(from, to),
                Intrusion::Unknown(from, to),
                Intrusion::Error(from, to),
                Intrusion::ErrorAboutUs(from, to),
                Intrusion::Pieces(from, to),
            ]
        })
        .chain([
            Intrusion::Discovery(FORBIDDEN[1], CTR[1]),
            Intrusion::Udp(FORBIDDEN[1], "ff02::1"),
            Intrusion::Udp(FORBIDDEN[0], "224.0.0.1"),
            Intrusion::Udp(FORBIDDEN[0], "10.9.255.255"),
        ])
        .collect();
    // Forged on the link: what the kernel itself refuses to take is refused with and without rules.
    let refused_anyway = [
        Intrusion::Udp("127.0.0.1", CTR[0]),
        Intrusion::Udp(FORBIDDEN[0], "127.0.0.1"),
        Intrusion::Udp("::1", CTR[1]),
        Intrusion::Udp(FORBIDDEN[1], "::1"),
        Intrusion::Udp(CTR[0], CTR[0]),
    ];
    let arena = Arena::new();
    let ear = InnerEar::of(&arena);
    let delivered = |arena: &Arena, ear: &InnerEar, intrusion: &Intrusion| {
        let marker = arena.marker();
        intrusion.send(arena, &marker);
        std::thread::sleep(Duration::from_millis(20));
        ear.delivered(&marker)
    };
    let came = |arena: &Arena, ear: &InnerEar, intrusions: &[Intrusion]| -> Vec<String> {
        let came = intrusions.iter().filter(|intrusion| delivered(arena, ear, intrusion) > 0);
        came.map(|intrusion| format!("{intrusion:?}")).collect()
    };
    let all: Vec<String> = intrusions.iter().map(|intrusion| format!("{intrusion:?}")).collect();
    assert_eq!(came(&arena, &ear, &intrusions), all, "without rules everything comes in");
    assert_eq!(came(&arena, &ear, &refused_anyway), [""; 0]);

    for list in ["none", LIST] {
        let arena = Arena::ours(&[("ingress", list)]);
        let ear = InnerEar::of(&arena);
        assert_eq!(came(&arena, &ear, &intrusions), [""; 0], "under ingress {list}");
        assert_eq!(came(&arena, &ear, &refused_anyway), [""; 0], "under ingress {list}");
        // From whom the list lets in, it comes in.
        let friends = [(ALLOWED[0], CTR[0]), (ALLOWED[1], CTR[1])].map(|(from, to)| Intrusion::Udp(from, to));
        let came_in = came(&arena, &ear, &friends).len();
        assert_eq!(came_in, if list == "none" { 0 } else { 2 }, "under ingress {list}");
    }
}

#[test]
fn who_answers_a_forbidden_peer_that_spoke_first_is_closed_by_ingress() {
    // An egress list says whom the container may call. A peer that calls it is answered, as with every stateful filter, and the
    // answers carry what the process likes. Where that must not be, ingress says who may call.
    for (ingress, answered) in [(None, true), (Some("none"), false), (Some(LIST), false)] {
        let mut annotations = vec![("egress", LIST)];
        annotations.extend(ingress.map(|list| ("ingress", list)));
        let arena = Arena::ours(&annotations);
        arena.passes_what_is_allowed();
        for (own, peer) in CTR.into_iter().zip(FORBIDDEN) {
            let server = arena.with_nothing(|| UdpSocket::bind(at(own, 5353))).unwrap();
            server.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            let marker = arena.marker();
            let question = wire::udp(at(peer, 4242), at(own, 5353), b"question");
            send_in(&arena, &question);
            let got = server.recv_from(&mut [0; 64]);
            assert_eq!(got.is_ok(), answered, "{peer} under ingress {ingress:?}");
            let sent = server.send_to(marker.bytes(), at(peer, 4242));
            std::thread::sleep(Duration::from_millis(60));
            assert_eq!(arena.arrived(&marker) > 0, answered, "{peer} under ingress {ingress:?}: {sent:?}");
        }
    }
}

#[test]
fn a_user_namespace_of_its_own_gives_a_process_nothing_over_the_containers_network() {
    let arena = Arena::ours(&[("egress", LIST)]);
    let rules =
        || arena.world.ctr.run("nft", &["list", "ruleset"], "").lines().filter(|l| !l.contains("counter")).count();
    let before = rules();
    // Every capability, in a user namespace that the network namespace does not belong to.
    let inside = |work: fn() -> Result<(), Errno>| {
        move || {
            unshare(CloneFlags::CLONE_NEWUSER)?;
            work()
        }
    };
    let packet_socket = || socket_of(libc::AF_PACKET, libc::SOCK_RAW, 0).map(drop);
    let raw_socket = || socket_of(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW).map(drop);
    let raw_socket_v6 = || socket_of(libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_RAW).map(drop);
    let mark = || {
        let socket = socket_of(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
        support::link::set(&socket, libc::SOL_SOCKET, libc::SO_MARK, &1i32)
    };
    for (what, work) in [
        ("a packet socket", packet_socket as fn() -> Result<(), Errno>),
        ("a raw socket", raw_socket),
        ("a raw IPv6 socket", raw_socket_v6),
        ("a mark", mark),
    ] {
        assert_eq!(arena.with_nothing(|| in_child(inside(work))), Err(Errno::EPERM), "{what}");
        // It is the capability over this namespace that counts.
        assert_eq!(arena.with_net_raw(|| in_child(work)), Ok(()), "{what}");
    }
    // Nor can it come back from a network namespace of its own, where it may do everything.
    let back = std::fs::File::open(arena.world.ctr.path()).unwrap();
    let returns = || {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)?;
        packet_socket()?;
        setns(&back, CloneFlags::CLONE_NEWNET)
    };
    assert_eq!(arena.with_nothing(|| in_child(returns)), Err(Errno::EPERM));
    // By the programs that an intruder would use.
    let elsewhere = Namespace::new();
    let pid_elsewhere = elsewhere.pid().to_string();
    let commands: [&[&str]; 9] = [
        &["nft", "add", "table", "inet", "intruder"],
        &["nft", "delete", "table", "inet", "netlatch"],
        &["nft", "flush", "ruleset"],
        &["ip", "route", "add", "10.10.0.0/16", "via", "10.9.0.1"],
        &["ip", "link", "add", "ghost", "type", "veth"],
        &["ip", "link", "add", "ghosts", "link", "eth0", "type", "macvlan"],
        &["ip", "neigh", "add", "10.9.1.7", "lladdr", "02:00:00:00:00:01", "dev", "eth0"],
        &["ip", "link", "set", "eth0", "down"],
        &["ip", "link", "set", "eth0", "netns", &pid_elsewhere],
    ];
    // The capabilities outlive the program's start: --keep-caps. (Root of the outer namespace may not be mapped without any.)
    let unshared = |network: bool, command: &[&str]| {
        arena.with_nothing(|| {
            let mut process = std::process::Command::new("unshare");
            process.args(["--user", "--keep-caps"]).args(network.then_some("--net")).arg("--").args(command);
            process.output().unwrap().status.success()
        })
    };
    assert!(unshared(false, &["true"]) && unshared(true, &["ip", "link", "set", "lo", "up"]));
    for command in commands {
        assert!(!unshared(false, command), "{command:?}");
    }
    // Nor does a cable reach over from a network namespace of its own.
    let pid = arena.world.ctr.pid().to_string();
    assert!(!unshared(true, &["ip", "link", "add", "a", "type", "veth", "peer", "name", "b", "netns", &pid]));
    assert!(!arena.world.ctr.try_run("ip", &["link", "show", "b"], "").status.success());
    assert_eq!(rules(), before);
    arena.stops_what_is_forbidden(&FORBIDDEN);
    arena.passes_what_is_allowed();
    // With CAP_NET_ADMIN over it each of them works.
    for command in commands {
        arena.world.ctr.run(command[0], &command[1..], "");
    }
}

#[test]
fn every_family_of_sockets_is_one_that_was_thought_about() {
    /// How what a family sends leaves.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Leaves {
        /// It does not.
        Not,
        /// By IP, so by the output hook.
        Ip,
        /// By `dev_queue_xmit` without a route, so by netdev egress and no further.
        Frames,
        /// By nothing that rules inside the namespace see.
        Unseen,
    }
    use Leaves::{Frames, Ip, Not, Unseen};
    const FAMILIES: [(i32, Leaves); 36] = [
        (libc::AF_UNIX, Not),
        (libc::AF_INET, Ip),
        (libc::AF_AX25, Frames),
        (libc::AF_IPX, Frames),
        (libc::AF_APPLETALK, Frames),
        (libc::AF_NETROM, Frames),
        (libc::AF_ATMPVC, Unseen),
        (libc::AF_X25, Frames),
        (libc::AF_INET6, Ip),
        (libc::AF_ROSE, Frames),
        (libc::AF_KEY, Not),
        (libc::AF_NETLINK, Not),
        (libc::AF_PACKET, Frames),
        (libc::AF_ATMSVC, Unseen),
        (libc::AF_RDS, Unseen),
        (libc::AF_PPPOX, Frames),
        (libc::AF_LLC, Frames),
        (libc::AF_IB, Unseen),
        (libc::AF_CAN, Frames),
        (libc::AF_TIPC, Frames),
        (libc::AF_BLUETOOTH, Unseen),
        (libc::AF_IUCV, Unseen),
        (libc::AF_RXRPC, Ip),
        (libc::AF_ISDN, Unseen),
        (libc::AF_PHONET, Frames),
        (libc::AF_IEEE802154, Frames),
        (libc::AF_CAIF, Frames),
        (libc::AF_ALG, Not),
        (libc::AF_NFC, Unseen),
        (libc::AF_VSOCK, Unseen),
        // KCM: over TCP.
        (41, Ip),
        // QRTR, over MHI and the like.
        (42, Unseen),
        // SMC: RDMA, or TCP.
        (43, Unseen),
        (libc::AF_XDP, Unseen),
        // MCTP.
        (45, Frames),
        (libc::AF_DECnet, Frames),
    ];
    let arena = Arena::naive(NAIVE);
    let opens = |family: i32| {
        let kinds = [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_RAW, libc::SOCK_SEQPACKET, libc::SOCK_RDM];
        kinds.into_iter().any(|kind| (0..3).any(|protocol| socket_of(family, kind, protocol).is_ok()))
    };
    let open: Vec<i32> = arena.with_net_raw(|| (1..64).filter(|family| opens(*family)).collect());
    let of = |family: &i32| FAMILIES.iter().find(|(known, _)| known == family).map(|(_, leaves)| *leaves);
    let unknown: Vec<&i32> = open.iter().filter(|family| of(family).is_none()).collect();
    assert!(unknown.is_empty(), "families of this kernel that nobody thought about: {unknown:?}");
    // Those that this file's neighbours play games with are there.
    for family in [libc::AF_INET, libc::AF_INET6, libc::AF_PACKET] {
        assert!(open.contains(&family), "{family}");
    }
}

#[test]
fn rules_hold_whatever_the_sysctls_say() {
    // Root inside may write these where /proc/sys is not read-only, without any capability.
    const SETTINGS: [(&str, &str); 14] = [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv4/ip_nonlocal_bind", "1"),
        ("net/ipv4/conf/all/route_localnet", "1"),
        ("net/ipv4/conf/all/accept_local", "1"),
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/all/accept_source_route", "1"),
        ("net/ipv4/conf/all/accept_redirects", "1"),
        ("net/ipv4/conf/all/proxy_arp", "1"),
        ("net/ipv6/conf/all/forwarding", "1"),
        ("net/ipv6/conf/all/proxy_ndp", "1"),
        ("net/ipv6/conf/eth0/accept_ra", "2"),
        ("net/ipv6/ip_nonlocal_bind", "1"),
        ("net/netfilter/nf_conntrack_tcp_be_liberal", "1"),
        ("net/netfilter/nf_conntrack_checksum", "0"),
    ];
    for locked in [false, true] {
        let arena = if locked { Arena::ours(&[("egress", LIST), ("ingress", "none")]) } else { Arena::new() };
        for (key, value) in SETTINGS {
            arena.world.ctr.set_sysctl(key, value);
        }
        arena.passes_what_is_allowed();
        for (from, to) in [("127.0.0.1", ALLOWED[0]), ("2001:db8::77", ALLOWED[1])] {
            let marker = arena.marker();
            let sent = arena.with_nothing(|| UdpSocket::bind(at(from, 0))?.send_to(marker.bytes(), at(to, 53)));
            std::thread::sleep(Duration::from_millis(60));
            let arrived = if locked { arena.arrived(&marker) > 0 } else { arena.hears(&marker) };
            assert_eq!(arrived, !locked, "{from} to {to}: {sent:?}");
        }
        // Nor does anybody come in: not to a loopback address from the link, not as the container itself.
        let ear = InnerEar::of(&arena);
        for intrusion in [Intrusion::Udp(FAR[0], "127.0.0.1"), Intrusion::Udp(CTR[0], CTR[0])] {
            let marker = arena.marker();
            intrusion.send(&arena, &marker);
            std::thread::sleep(Duration::from_millis(20));
            assert_eq!(ear.delivered(&marker) > 0, !locked, "{intrusion:?}");
        }
    }
}
