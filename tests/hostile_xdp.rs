//! AF_XDP: frames from user memory to the driver. Rules inside the namespace do not govern it, whichever they are, so this
//! says what does.

mod support;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use support::fork::in_child;
use support::game::{Arena, FORBIDDEN, LIST, Marker, NAIVE, at, own};
use support::wire;
use support::xdp::Xdp;

/// netdev egress on both interfaces and nothing allowed but ARP and what IP has routed, as well as the ordinary rules.
const CLOSED_EGRESS: &str = "
table netdev closed {
    chain egress_eth0 { type filter hook egress device \"eth0\" priority 0; policy drop; meta rtclassid >= 0 accept; meta protocol arp accept; }
}
";

/// A frame to the forbidden addresses of both families.
fn frames(arena: &Arena, marker: &Marker) -> [Vec<u8>; 2] {
    FORBIDDEN.map(|to| {
        let to = at(to, 53);
        let packet = wire::udp(std::net::SocketAddr::new(own(to.ip()), 4242), to, marker.bytes());
        wire::ethernet(arena.eth0.1, arena.far_mac, wire::ether_type(&packet), &packet)
    })
}

/// Sends with CAP_NET_RAW alone; how many frames arrived.
fn sent(arena: &Arena) -> usize {
    let marker = arena.marker();
    let (frames, (index, _)) = (frames(arena, &marker), arena.eth0);
    for frame in &frames {
        // The kernel lets go of a queue some time after its socket is closed.
        let opened = || {
            (0..1000).find_map(|_| match Xdp::open(index) {
                Err(Errno::EBUSY) => {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                    None
                }
                other => Some(other),
            })
        };
        let sent = arena.with_net_raw(|| opened().expect("the queue becomes free").and_then(|xdp| xdp.send(frame)));
        assert_eq!(sent, Ok(frame.len()));
    }
    std::thread::sleep(std::time::Duration::from_millis(60));
    arena.arrived(&marker)
}

#[test]
fn a_frame_from_an_xdp_socket_is_not_governed_by_rules_inside_the_namespace() {
    // __xsk_generic_xmit calls __dev_direct_xmit; unlike packet_direct_xmit, that asks neither `nf_hook_egress` nor tc.
    let arena = Arena::naive(NAIVE);
    assert_eq!(sent(&arena), 2, "past the output hook");
    arena.world.ctr.nft_load(CLOSED_EGRESS);
    assert_eq!(sent(&arena), 2, "past netdev egress");
    let arena = Arena::ours(&[("egress", LIST)]);
    arena.passes_what_is_allowed();
    arena.stops_what_is_forbidden(&FORBIDDEN);
    assert_eq!(sent(&arena), 2, "past ours: what `plan` and `inspect` list as not covered");
}

#[test]
fn a_frame_from_an_xdp_socket_is_stopped_at_the_other_end_of_the_link() {
    let arena = Arena::ours(&[("egress", LIST)]);
    // The ear hears what comes before netdev ingress, so this counts what comes after it.
    let host_side = "table netdev host {
        chain ingress { type filter hook ingress device \"eth0\" priority 0; policy drop;
            meta protocol arp accept; ip daddr 10.9.1.1 accept; ip6 daddr 2001:db8::1 accept
            ip6 nexthdr ipv6-icmp accept; }
        chain behind { type filter hook ingress device \"eth0\" priority 10; policy accept;
            ip daddr 10.9.9.9 counter; ip6 daddr 2001:db8::9 counter; }
    }";
    let behind = || {
        let listed = arena.world.far.run("nft", &["list", "chain", "netdev", "host", "behind"], "");
        listed.matches("packets 1 ").count()
    };
    arena.world.far.nft_load(&host_side.replace("policy drop", "policy accept"));
    assert_eq!((sent(&arena), behind()), (2, 2), "open: they come through");
    arena.world.far.run("nft", &["flush", "ruleset"], "");
    arena.world.far.nft_load(host_side);
    assert_eq!((sent(&arena), behind()), (2, 0), "closed: they come no further");
    arena.passes_what_is_allowed();
}

#[test]
fn an_xdp_socket_needs_cap_net_raw_over_the_namespace() {
    let arena = Arena::naive(NAIVE);
    let (index, _) = arena.eth0;
    let open = || Xdp::open(index).map(drop);
    assert_eq!(arena.with_nothing(|| in_child(open)), Err(Errno::EPERM));
    // In a user namespace of its own a process has every capability, but over nothing of ours.
    let in_user_namespace = || unshare(CloneFlags::CLONE_NEWUSER).and_then(|()| open());
    assert_eq!(arena.with_nothing(|| in_child(in_user_namespace)), Err(Errno::EPERM));
    assert_eq!(arena.with_net_raw(|| in_child(in_user_namespace)), Err(Errno::EPERM));
    assert_eq!(arena.with_net_raw(|| in_child(open)), Ok(()));
}

#[test]
fn an_xdp_socket_needs_locked_memory() {
    // One page at least, counted for the user: xdp_umem_account_pages. A container whose config.json sets RLIMIT_MEMLOCK to
    // 0, and that has no CAP_IPC_LOCK, gets none.
    let arena = Arena::naive(NAIVE);
    let (index, _) = arena.eth0;
    let limited = |bytes| {
        move || {
            setrlimit(Resource::RLIMIT_MEMLOCK, bytes, bytes)?;
            Xdp::open(index).map(drop)
        }
    };
    assert_eq!(arena.with_net_raw(|| in_child(limited(0))), Err(Errno::ENOBUFS));
    assert_eq!(arena.with_net_raw(|| in_child(limited(1 << 20))), Ok(()));
}

#[test]
fn an_xdp_socket_has_its_queue_alone() {
    // What a resident process of ours could do: sit on every queue of the interface.
    let arena = Arena::naive(NAIVE);
    let (index, _) = arena.eth0;
    let second = arena.with_net_raw(|| {
        let _seat = Xdp::open(index).unwrap();
        Xdp::open(index).map(drop)
    });
    assert_eq!(second, Err(Errno::EBUSY));
}
