//! Tracked flows: listed, ended one by one, judged anew. The judges are `conntrack` and the packets.

mod support;

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use netlatch::conntrack::{Ends, Flow, Tuple};
use netlatch::kernel::conntrack::{Flows, Rejudged, forget_peer, rejudge};
use netlatch::kernel::netns::{self, Inside, Own, Target};
use netlatch::kernel::process::Deadline;
use netlatch::kernel::socket::Closing;
use netlatch::kernel::tables::Tables;
use netlatch::net::{Direction, Origin};
use netlatch::nft::build::build;
use netlatch::nft::filter::{Denial, Filter, Ipv6Traffic};
use netlatch::nft::ruleset::Table;
use netlatch::plan::layers;
use netlatch::policy::list::List;
use support::world::CTR;
use support::{Namespace, World, raw};

const PATIENCE: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(300);

/// The far side sends every other port to its own listener (see `World`).
const PORT: u16 = support::world::CLOSED;

const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn deadline() -> Deadline {
    Deadline::after(PATIENCE)
}

fn own() -> Vec<IpAddr> {
    CTR.map(address).to_vec()
}

/// Does `work` inside, as the hook does.
fn inside<T: Send>(namespace: &Namespace, work: impl FnOnce(&Inside) -> T + Send) -> T {
    thread::scope(|scope| {
        let joined = scope.spawn(|| {
            let target = Target::Process(namespace.pid());
            work(&netns::enter(&target, &Own::read().unwrap()).unwrap())
        });
        joined.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn table(egress: &str, ingress: &str) -> Table {
    let origin = Origin::Builtin("test");
    let layer = |direction, text: &str| {
        let list = List::parse(text, &origin).unwrap();
        layers::of_list("baseline", direction, &list, Denial::Drop, &[], &origin)
    };
    let layers = [layer(Direction::Egress, egress), layer(Direction::Ingress, ingress)].into_iter().collect();
    let filter = Filter { ipv6: Ipv6Traffic::Filtered, router_advertisements: false, layers, policies: Vec::new() };
    build(&filter, format!("{egress}; {ingress}")).unwrap()
}

/// Puts the table in force.
fn load(namespace: &Namespace, table: &Table) {
    inside(namespace, |inside| {
        let mut tables = Tables::open(inside, deadline()).unwrap();
        let present = tables.comment().unwrap();
        tables.install(table, present.as_deref()).map(drop).unwrap();
    });
}

fn flows(namespace: &Namespace) -> Vec<Flow> {
    inside(namespace, |inside| Flows::open(inside, deadline()).unwrap().list().unwrap())
}

/// A world where everything may pass and is tracked.
fn tracked() -> World {
    let world = World::new();
    world.ctr.ip_batch("link set lo up\n");
    // The far side owns every address; of IPv6 only so can it use any as its own.
    world.far.set_sysctl("net/ipv6/ip_nonlocal_bind", "1");
    load(&world.ctr, &table("*", "*"));
    world
}

/// A connection that stands, with both of its ends.
struct Connection {
    here: TcpStream,
    there: TcpStream,
}

impl Connection {
    /// From `from`, with the source address `source` where one is chosen, to `to` in `into`.
    fn new(from: &Namespace, source: Option<&str>, into: &Namespace, to: &str) -> Connection {
        let listener = into.within(|| TcpListener::bind((to, PORT))).unwrap();
        let to = listener.local_addr().unwrap();
        let here = from.within(|| match source {
            Some(source) => raw::connected_from(SocketAddr::new(address(source), 0), to),
            None => TcpStream::connect_timeout(&to, PATIENCE).unwrap(),
        });
        let (there, _) = listener.accept().unwrap();
        Connection { here, there }
    }

    /// Whether a byte from one end reaches the other.
    fn carries(mut from: &TcpStream, mut to: &TcpStream, patience: Duration) -> bool {
        to.set_read_timeout(Some(patience)).unwrap();
        from.write_all(b"x").unwrap();
        match to.read(&mut [0]) {
            Ok(n) => n == 1,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => panic!("{error}"),
        }
    }

    fn is_alive(&self) -> bool {
        Connection::carries(&self.here, &self.there, PATIENCE) && Connection::carries(&self.there, &self.here, PATIENCE)
    }

    /// Whether nothing passes, from neither end.
    fn is_dead(&self) -> bool {
        !Connection::carries(&self.here, &self.there, SILENCE) && !Connection::carries(&self.there, &self.here, SILENCE)
    }
}

/// As `conntrack -o id` prints it, from the first address on.
fn printed(flow: &Flow) -> String {
    let tuple = |tuple: &Tuple| {
        let ends = match tuple.ends {
            Ends::Ports { source, destination } => format!(" sport={source} dport={destination}"),
            Ends::Icmp { kind, code, id } => format!(" type={kind} code={code} id={id}"),
            Ends::Nothing => String::new(),
        };
        format!("{} src={} dst={}{ends}", tuple.protocol, tuple.source, tuple.destination)
    };
    format!("{} | {} | entry={}", tuple(&flow.original), tuple(&flow.reply), flow.id)
}

/// What `conntrack` says, in the same form.
fn as_conntrack_sees(namespace: &Namespace) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for family in ["ipv4", "ipv6"] {
        for line in namespace.run("conntrack", &["-L", "-f", family, "-o", "id"], "").lines() {
            let mut words = line.split_whitespace();
            let protocol = words.nth(1).unwrap();
            let fields: Vec<&str> = words.filter(|word| word.contains('=')).collect();
            let second = fields.iter().rposition(|field| field.starts_with("src=")).unwrap();
            let end = fields.iter().position(|field| field.starts_with("mark=")).unwrap();
            let id = fields.last().unwrap().strip_prefix("id=").unwrap();
            let [first, second] = [&fields[..second], &fields[second..end]].map(|fields| fields.join(" "));
            seen.insert(format!("{protocol} {first} | {protocol} {second} | entry={id}"));
        }
    }
    seen
}

#[test]
fn flows_are_listed_as_conntrack_lists_them() {
    let world = tracked();
    let _connections = ["10.9.1.1", "2001:db8::1"].map(|to| Connection::new(&world.ctr, None, &world.far, to));
    let _answered = CTR.map(|to| Connection::new(&world.far, None, &world.ctr, to));
    for to in ["10.9.1.2", "2001:db8::2"].map(address) {
        support::probe::udp_send(&world.ctr, SocketAddr::new(to, 53), b"?");
        raw::icmp_echo(&world.ctr, to, PATIENCE);
    }
    let listed = flows(&world.ctr);
    let shown: BTreeSet<String> = listed.iter().map(printed).collect();
    assert_eq!(shown, as_conntrack_sees(&world.ctr));
    let of = |protocol| listed.iter().filter(|flow| flow.original.protocol == protocol).count();
    assert_eq!([IPPROTO_TCP, IPPROTO_UDP, 1, 58].map(of)[..2], [4, 2]);
    let echoes =
        listed.iter().filter(|flow| matches!(flow.original.ends, Ends::Icmp { kind: 8 | 128, code: 0, id: 0x6e6c }));
    assert_eq!(echoes.count(), 2);
}

#[test]
fn one_flow_is_ended_and_no_other() {
    let world = tracked();
    let connections: Vec<Connection> = ["10.9.1.1", "10.9.1.2", "2001:db8::1", "2001:db8::2"]
        .iter()
        .map(|to| Connection::new(&world.ctr, None, &world.far, to))
        .collect();
    for to in ["10.9.1.3", "2001:db8::3"].map(address) {
        raw::icmp_echo(&world.ctr, to, PATIENCE);
    }
    let mut expected = as_conntrack_sees(&world.ctr);
    assert!(expected.len() >= 6, "{expected:?}");
    for flow in flows(&world.ctr) {
        assert!(expected.remove(&printed(&flow)));
        let delete = || inside(&world.ctr, |inside| Flows::open(inside, deadline()).unwrap().delete(&flow).unwrap());
        assert!(delete());
        assert_eq!(as_conntrack_sees(&world.ctr), expected);
        assert!(!delete(), "it has ended, which is no error");
    }
    drop(connections);
}

#[test]
fn a_connection_that_a_stricter_table_forbids_stops_and_another_goes_on() {
    for [allowed, denied] in [["10.9.1.1", "10.9.1.2"], ["2001:db8::1", "2001:db8::2"]] {
        for egress in [true, false] {
            let (world, neighbour) = (tracked(), tracked());
            let connect = |world: &World, peer: &str| {
                if egress {
                    Connection::new(&world.ctr, None, &world.far, peer)
                } else {
                    Connection::new(&world.far, Some(peer), &world.ctr, CTR[usize::from(peer.contains(':'))])
                }
            };
            let [kept, ended, elsewhere] =
                [connect(&world, allowed), connect(&world, denied), connect(&neighbour, denied)];
            let stricter = match egress {
                true => table(&SocketAddr::new(address(allowed), PORT).to_string(), "none"),
                false => table("none", allowed),
            };
            load(&world.ctr, &stricter);
            assert!([&kept, &ended].iter().all(|connection| connection.is_alive()), "rules judge first packets only");

            let rejudged = inside(&world.ctr, |inside| {
                rejudge(inside, &stricter, &own(), &mut Closing::default(), deadline()).unwrap()
            });
            assert_eq!(rejudged.ended, 1, "{denied}, egress {egress}");
            assert!(rejudged.seen >= 2);
            assert!(kept.is_alive(), "{allowed}, egress {egress}");
            assert!(ended.is_dead(), "{denied}, egress {egress}");
            assert!(elsewhere.is_alive(), "another namespace's flow");
            let again = inside(&world.ctr, |inside| {
                rejudge(inside, &stricter, &own(), &mut Closing::default(), deadline()).unwrap()
            });
            assert_eq!(again.ended, 0);
        }
    }
}

#[test]
fn a_namespace_without_flows_has_nothing_to_judge() {
    let namespace = Namespace::new();
    let closed = table("none", "none");
    load(&namespace, &closed);
    inside(&namespace, |inside| {
        assert_eq!(Flows::open(inside, deadline()).unwrap().entries().unwrap(), 0);
        assert_eq!(rejudge(inside, &closed, &own(), &mut Closing::default(), deadline()).unwrap(), Rejudged::default());
        assert_eq!(forget_peer(inside, &own(), &mut Closing::default(), deadline()), Ok(()));
    });
}

#[test]
fn a_peer_that_is_forgotten_cannot_go_on_and_others_can() {
    for (gone, here, older) in [
        ("10.9.1.1", "10.9.1.2", false),
        ("2001:db8::1", "2001:db8::2", false),
        ("10.9.1.1", "10.9.1.2", true),
        ("2001:db8::1", "2001:db8::2", true),
    ] {
        let world = tracked();
        let own = CTR[usize::from(gone.contains(':'))];
        let to_gone = Connection::new(&world.ctr, None, &world.far, gone);
        let from_gone = Connection::new(&world.far, Some(gone), &world.ctr, own);
        let kept = Connection::new(&world.ctr, None, &world.far, here);
        let also_kept = Connection::new(&world.far, Some(here), &world.ctr, own);
        load(&world.ctr, &table("none", "none"));
        let expected: BTreeSet<String> =
            as_conntrack_sees(&world.ctr).into_iter().filter(|line| !line.contains(&format!("={gone} "))).collect();
        inside(&world.ctr, |inside| match older {
            false => forget_peer(inside, &[address(gone)], &mut Closing::default(), deadline()).unwrap(),
            true => Flows::open(inside, deadline()).unwrap().forget_listed(&[address(gone)]).unwrap(),
        });
        assert_eq!(as_conntrack_sees(&world.ctr), expected);
        assert!(expected.iter().filter(|line| line.contains(&format!("={here} "))).count() == 2, "{expected:?}");
        for ended in [to_gone, from_gone] {
            assert!(ended.is_dead(), "{gone}");
        }
        assert!(kept.is_alive() && also_kept.is_alive(), "{here}");
    }
}

#[test]
fn the_far_end_of_an_ended_connection_cannot_begin_it_anew_in_its_middle() {
    let world = tracked();
    let connection = Connection::new(&world.ctr, None, &world.far, "10.9.1.1");
    // Here the peer may begin connections, so nothing but the state of this one tells its segments from a first one.
    let stricter = table("none", "*");
    load(&world.ctr, &stricter);
    world.ctr.nft_load(
        "table inet first { chain input { type filter hook input priority -1; \
         tcp flags & (fin | syn | rst | ack) != syn ct state new drop; }; }\n",
    );
    let rejudged =
        inside(&world.ctr, |inside| rejudge(inside, &stricter, &own(), &mut Closing::default(), deadline()).unwrap());
    assert_eq!(rejudged.ended, 1);
    assert!(connection.is_dead());
    assert!(connection.is_dead(), "after the far end has sent");
}

#[test]
fn datagrams_of_an_ended_flow_are_first_ones_again() {
    for to in ["10.9.1.1", "2001:db8::1"].map(address) {
        let world = tracked();
        let far = world.far.within(|| UdpSocket::bind((to, PORT))).unwrap();
        let udp = world.ctr.within(|| UdpSocket::bind(support::probe::any(SocketAddr::new(to, 0)))).unwrap();
        let carries = |patience| {
            far.set_read_timeout(Some(patience)).unwrap();
            udp.set_read_timeout(Some(patience)).unwrap();
            let sent = udp.send_to(b"?", (to, PORT)).is_ok();
            sent && far.recv_from(&mut [0; 8]).is_ok_and(|(_, from)| {
                far.send_to(b"!", from).unwrap();
                udp.recv(&mut [0; 8]).is_ok()
            })
        };
        assert!(carries(PATIENCE));
        let allows = SocketAddr::new(to, PORT).to_string();
        for (egress, ended) in [(allows.as_str(), 0), ("none", 1)] {
            let stricter = table(egress, "none");
            load(&world.ctr, &stricter);
            assert!(carries(PATIENCE), "{egress}: rules judge first packets only");
            let rejudged = inside(&world.ctr, |inside| {
                rejudge(inside, &stricter, &own(), &mut Closing::default(), deadline()).unwrap()
            });
            assert_eq!(rejudged.ended, ended, "{egress}");
            assert_eq!(carries(if ended == 0 { PATIENCE } else { SILENCE }), ended == 0, "{egress}");
        }
        // Nor can the far end go on.
        far.send_to(b"!", (if to.is_ipv4() { CTR[0] } else { CTR[1] }, udp.local_addr().unwrap().port())).unwrap();
        assert!(udp.recv(&mut [0; 8]).is_err());
    }
}

#[test]
fn who_may_not_ask_is_told_what_could_not_be_asked() {
    let namespace = Namespace::new();
    let closed = table("none", "none");
    let failure = inside(&namespace, |inside| {
        caps::drop(None, caps::CapSet::Effective, caps::Capability::CAP_NET_ADMIN).unwrap();
        rejudge(inside, &closed, &own(), &mut Closing::default(), deadline()).unwrap_err()
    });
    assert_eq!(failure.exit_code(), 35);
    for part in ["tracked flows of the network namespace of process", "nf_conntrack_netlink", "EPERM"] {
        assert!(failure.to_string().contains(part), "{failure}");
    }
}
