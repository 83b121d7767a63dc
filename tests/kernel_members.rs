//! Policy layers and sets whose members come and go, judged by the kernel and by `nft`.
//!
//! Every test makes a network namespace of its own on its own thread; `nft` runs as its child and so in it.

#[path = "support/judge.rs"]
mod judge;
// tests/support is for files with packets; this one needs its short words for policies only.
#[path = "support/tiers.rs"]
#[allow(dead_code)]
mod tiers;

use std::time::{Duration, Instant};

use judge::{listing, nft, table};

use netlatch::error::Cause;
use netlatch::kernel::netns::{Inside, unshared};
use netlatch::kernel::process::Deadline;
use netlatch::kernel::tables::{Installed, Reconciled, Tables};
use netlatch::net::{AddrRange, Direction, Family, Member, Service, Transports};
use netlatch::nft::filter::{Denial, Entry, Filter, Ipv6Traffic, Layer, Otherwise, PolicyLayer, Ruling};
use netlatch::nft::members::{Change, changes};
use netlatch::nft::ruleset::{Kind, Table};
use tiers::{TCP, entry, filter, group, member, members, policy, ports, run, tier};

/// The elements of one set as nft lists them, sorted.
fn elements(set: &str) -> Vec<String> {
    let text = nft(&["-j", "list", "set", "inet", "netlatch", set], "");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let set = json["nftables"].as_array().unwrap().iter().find_map(|object| object.get("set")).unwrap();
    let plain = |element: &serde_json::Value| match element.get("concat") {
        Some(fields) => {
            fields.as_array().unwrap().iter().map(|f| f.to_string().replace('"', "")).collect::<Vec<_>>().join(" ")
        }
        None => element.as_str().unwrap().to_owned(),
    };
    let mut elements: Vec<String> =
        set.get("elem").and_then(|elem| elem.as_array()).into_iter().flatten().map(plain).collect();
    elements.sort();
    elements.dedup();
    elements
}

/// What [`elements`] says, asked again for up to ten seconds until it is `expected`.
///
/// A dump of a hash that is rehashed meanwhile (`rht_deferred_worker`) says elements twice or passes them over, and
/// `nft list` prints what it was told.
fn elements_in_time(set: &str, expected: &[String]) -> Vec<String> {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let held = elements(set);
        if held == expected || Instant::now() > until {
            return held;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn in_own_namespace<T: Send + 'static>(work: impl FnOnce(&Inside) -> T + Send + 'static) -> T {
    std::thread::spawn(|| work(&unshared().unwrap())).join().unwrap()
}

fn open(inside: &Inside) -> Tables<'_> {
    Tables::open(inside, Deadline::after(Duration::from_secs(30))).unwrap()
}

fn install(tables: &mut Tables<'_>, table: &Table) -> Installed {
    let present = tables.comment().unwrap();
    tables.install(table, present.as_deref()).unwrap()
}

fn layer(name: &'static str, otherwise: Otherwise, denial: Denial, entries: Vec<Entry>) -> Layer {
    let origin = format!("list {name}");
    Layer { name, direction: Direction::Egress, otherwise, denial, exceptions: Vec::new(), entries, origin }
}

fn three_tiers(direction: Direction, denial: Denial) -> PolicyLayer {
    let set = |n: u8| format!("{direction}_{n}");
    let admin = vec![
        run(
            Ruling::Pass,
            vec![entry(Service::Icmp, &["10.3.0.0/16", "fd03::/16"])],
            vec![group(&set(1), Some(ports(TCP, 80, 90)), &[])],
        ),
        run(
            Ruling::Deny,
            vec![entry(Service::Everything, &["10.4.0.0/16"])],
            vec![group(&set(2), Some(Service::Everything), &["10.0.0.9", "fd00::9"])],
        ),
        run(Ruling::Accept, vec![], vec![group(&set(3), Some(Service::Icmp), &["10.0.0.10"])]),
    ];
    let network = vec![run(
        Ruling::Accept,
        vec![
            entry(ports(Transports::All, 0, 65535), &["10.5.0.0/16", "10.7.0.0/16", "10.9.0.0/16", "fd05::/16"]),
            entry(ports(TCP, 443, 443), &["10.6.0.1/32"]),
        ],
        vec![
            group(&set(4), None, &["10.0.0.1 tcp/80", "10.0.0.1 udp/53", "fd00::1 sctp/7"]),
            group(&set(5), Some(ports(Transports::TcpUdp, 53, 53)), &["10.0.0.2", "10.0.0.1", "fd00::2"]),
        ],
    )];
    let default = vec![run(Ruling::Deny, vec![], vec![group(&set(6), Some(Service::Everything), &["10.0.0.77"])])];
    policy(
        direction,
        denial,
        vec![
            tier("admin", admin, Otherwise::Continue),
            tier("network", network, Otherwise::Deny),
            tier("default", default, Otherwise::Continue),
        ],
    )
}

fn worlds() -> Vec<Filter> {
    use Denial::{Audit, Drop, Reject};
    let everything = || entry(Service::Everything, &["0.0.0.0/0", "::/0"]);
    let both = |denial| vec![three_tiers(Direction::Egress, denial), three_tiers(Direction::Ingress, denial)];
    let always = || {
        let entry = Entry { deny: true, ..entry(Service::Everything, &["169.254.169.254", "fd00:ec2::254"]) };
        layer("always", Otherwise::Continue, Reject, vec![entry])
    };
    let list = |name, denial| {
        layer(name, Otherwise::Deny, denial, vec![entry(ports(TCP, 1, 1023), &["10.0.0.0/8", "fd00::/8"])])
    };
    vec![
        filter(both(Drop)),
        filter(vec![three_tiers(Direction::Ingress, Reject)]),
        filter(vec![three_tiers(Direction::Egress, Audit)]),
        Filter { layers: vec![always(), list("baseline", Reject), list("annotation", Audit)], ..filter(both(Drop)) },
        Filter { layers: vec![always()], ..filter(vec![three_tiers(Direction::Egress, Audit)]) },
        Filter { ipv6: Ipv6Traffic::Dropped, layers: vec![list("annotation", Reject)], ..filter(both(Drop)) },
        // Isolated, with nobody to accept; and everybody accepted.
        filter(vec![policy(Direction::Ingress, Drop, vec![tier("network", vec![], Otherwise::Deny)])]),
        filter(vec![policy(
            Direction::Egress,
            Drop,
            vec![
                tier("admin", vec![run(Ruling::Deny, vec![], vec![])], Otherwise::Continue),
                tier(
                    "network",
                    vec![run(Ruling::Accept, vec![everything()], vec![group("s", None, &[])])],
                    Otherwise::Deny,
                ),
            ],
        )]),
    ]
}

#[test]
fn what_we_load_lists_like_what_we_print_loaded_by_nft() {
    for (n, world) in worlds().into_iter().enumerate() {
        let table = table(&world);
        let text = table.to_string();
        let ours = in_own_namespace(move |inside| {
            assert_eq!(install(&mut open(inside), &table), Installed::Loaded);
            listing()
        });
        let theirs = in_own_namespace({
            let text = text.clone();
            move |_| {
                nft(&["-f", "-"], &text);
                listing()
            }
        });
        assert!(ours["nftables"].as_array().unwrap().len() > 3, "the listing is not empty");
        assert_eq!(ours, theirs, "world {n}:\n{text}");
    }
}

#[test]
fn a_table_of_policies_reads_back_equal_and_stays() {
    in_own_namespace(|inside| {
        let mut tables = open(inside);
        for world in worlds() {
            let table = table(&world);
            assert_eq!(install(&mut tables, &table), Installed::Loaded);
            let before = listing();
            assert_eq!(install(&mut tables, &table), Installed::Unchanged);
            tables.verify(&table).unwrap();
            assert_eq!(tables.reconcile(&table).unwrap(), Reconciled::default());
            assert_eq!(listing(), before);
        }
    });
}

/// A container with one set of addresses and one of addresses with ports.
fn peers(plain: &[&str], with_ports: &[&str]) -> Table {
    let groups = vec![group("a", Some(Service::Everything), plain), group("p", None, with_ports)];
    let tiers = vec![tier("network", vec![run(Ruling::Accept, vec![], groups)], Otherwise::Deny)];
    table(&filter(vec![policy(Direction::Egress, Denial::Drop, tiers)]))
}

#[test]
fn the_digest_tells_rules_apart_and_not_members() {
    let base = peers(&[], &[]);
    let more = peers(&["10.0.0.1", "fd00::1"], &["10.0.0.1 tcp/80"]);
    assert_ne!(base, more);
    assert_eq!(base.digest(), more.digest());
    let mut renamed = base.clone();
    renamed.sets[0].name.push('x');
    let mut sized = base.clone();
    sized.sets[0].kind = Kind::Hash;
    let mut ruled = base.clone();
    ruled.chains[0].rules.pop();
    for other in [renamed, sized, ruled] {
        assert_ne!(base.digest(), other.digest());
    }
    // A set that is not of members counts with all it holds.
    let list = |block| {
        table(&filter(vec![policy(
            Direction::Egress,
            Denial::Drop,
            vec![tier(
                "network",
                vec![run(
                    Ruling::Accept,
                    vec![entry(Service::Everything, &["10.1.0.0/16", "10.3.0.0/16", block])],
                    vec![],
                )],
                Otherwise::Deny,
            )],
        )]))
    };
    assert_ne!(list("10.5.0.0/16").digest(), list("10.7.0.0/16").digest());
}

#[test]
fn an_update_admits_and_removes_and_may_be_repeated() {
    in_own_namespace(|inside| {
        let mut tables = open(inside);
        let table = peers(&["10.0.0.1", "fd00::1"], &["10.0.0.1 tcp/80"]);
        install(&mut tables, &table);
        let mut change = changes(
            "a",
            &Family::BOTH,
            &members(&["10.0.0.2", "10.0.0.3", "fd00::2"]),
            &members(&["10.0.0.1", "10.0.0.99"]),
        );
        change.extend(changes(
            "p",
            &Family::BOTH,
            &members(&["10.0.0.1 udp/53", "fd00::1 sctp/7"]),
            &members(&["10.0.0.1 tcp/80", "10.0.0.1 tcp/81"]),
        ));
        for _ in 0..2 {
            tables.update(&change).unwrap();
            assert_eq!(elements("a_v4"), ["10.0.0.2", "10.0.0.3"]);
            assert_eq!(elements("a_v6"), ["fd00::1", "fd00::2"]);
            assert_eq!(elements("p_v4"), ["10.0.0.1 udp 53"]);
            assert_eq!(elements("p_v6"), ["fd00::1 sctp 7"]);
        }
        // The rules are as they were; and what is asked of nothing changes nothing.
        tables.verify(&table).unwrap();
        tables.update(&[]).unwrap();
        tables.update(&[Change { set: "nowhere".into(), ..Change::default() }]).unwrap();
    });
}

#[test]
fn an_update_that_is_refused_names_the_set_and_changes_nothing() {
    in_own_namespace(|inside| {
        let mut tables = open(inside);
        install(&mut tables, &peers(&["10.0.0.1"], &[]));
        let change = |set: &str, add: &str| Change { set: set.into(), add: members(&[add]), remove: vec![] };
        for (bad, errno) in [("nowhere", "ENOENT"), ("a_v6", "EINVAL"), ("p_v4", "EINVAL")] {
            let failure = tables.update(&[change("a_v4", "10.0.0.2"), change(bad, "10.0.0.3")]).unwrap_err();
            let line = failure.to_string();
            assert!(line.contains(bad) && line.contains(errno), "{line}");
            assert_eq!(elements("a_v4"), ["10.0.0.1"], "{line}");
        }
        // A member of another kind cannot be there; that is a mistake all the same, and no sign of an old kernel.
        let remove = members(&["fd00::2"]);
        let failure = tables.update(&[Change { set: "a_v4".into(), add: vec![], remove }]).unwrap_err();
        assert!(failure.to_string().contains("remove from set a_v4 refused with EINVAL"), "{failure}");
        let two_kinds = Change { set: "a_v4".into(), add: vec![member("10.0.0.2"), member("fd00::2")], remove: vec![] };
        assert!(matches!(tables.update(&[two_kinds]).unwrap_err().cause, Cause::Internal(_)));
        assert_eq!(elements("a_v4"), ["10.0.0.1"]);
    });
}

#[test]
fn the_older_form_of_an_update_removes_who_is_there() {
    in_own_namespace(|inside| {
        let mut tables = open(inside);
        install(&mut tables, &peers(&["10.0.0.1", "10.0.0.4"], &["10.0.0.1 tcp/80"]));
        let mut change = changes(
            "a",
            &Family::BOTH,
            &members(&["10.0.0.2", "10.0.0.4", "fd00::2"]),
            &members(&["10.0.0.1", "10.0.0.1", "10.0.0.99"]),
        );
        change.extend(changes("p", &Family::BOTH, &[], &members(&["10.0.0.1 tcp/80", "10.0.0.1 tcp/81"])));
        // What kernels before 6.3 are sent.
        for _ in 0..2 {
            tables.update_before_6_3(&change).unwrap();
            assert_eq!(elements("a_v4"), ["10.0.0.2", "10.0.0.4"]);
            assert_eq!(elements("a_v6"), ["fd00::2"]);
            assert_eq!(elements("p_v4"), [""; 0]);
        }
    });
}

#[test]
fn members_that_differ_are_put_right_without_another_table() {
    in_own_namespace(|inside| {
        let mut tables = open(inside);
        let table = peers(&["10.0.0.1", "10.0.0.2", "fd00::1"], &["10.0.0.1 tcp/80"]);
        install(&mut tables, &table);
        let loaded = listing();
        let tamperings = [
            ("add element inet netlatch a_v4 { 10.0.0.9 }", 0, 1),
            ("delete element inet netlatch a_v6 { fd00::1 }", 1, 0),
            (
                "add element inet netlatch p_v6 { fd00::9 . tcp . 80 }\nadd element inet netlatch p_v4 { 10.0.0.9 . 47 . 80 }",
                0,
                2,
            ),
            ("flush set inet netlatch a_v4\nadd element inet netlatch a_v4 { 10.0.0.3 }", 2, 1),
        ];
        for (tampering, added, removed) in tamperings {
            let put_right = Reconciled { added, removed };
            nft(&["-f", "-"], tampering);
            assert_ne!(listing(), loaded, "{tampering}");
            tables.verify(&table).expect("members are not what poststart verifies");
            assert_eq!(tables.reconcile(&table).unwrap(), put_right, "{tampering}");
            assert_eq!(listing(), loaded, "{tampering}");
            nft(&["-f", "-"], tampering);
            assert_eq!(install(&mut tables, &table), Installed::Reconciled(put_right), "{tampering}");
            assert_eq!(listing(), loaded, "handles and all: {tampering}");
        }
        // A rule that differs is another matter, whoever is in the sets.
        nft(&["-f", "-"], "add rule inet netlatch egress accept\nflush set inet netlatch a_v4");
        assert_eq!(install(&mut tables, &table), Installed::Loaded);
        nft(&["-f", "-"], "flush chain inet netlatch egress_network\ndelete set inet netlatch a_v4");
        let failure = tables.reconcile(&table).unwrap_err();
        assert!(matches!(&failure.cause, Cause::ReadBack(said) if said.contains("a_v4 is missing")), "{failure}");
    });
}

/// `count` addresses that differ everywhere.
fn many(count: u32) -> Vec<Member> {
    let address = |n: u32| std::net::Ipv4Addr::from_bits(0x0a00_0000 + n);
    (0..count).map(|n| Member { address: address(n).into(), port: None }).collect()
}

#[test]
fn a_set_of_members_grows_without_limit_and_reads_back_whole() {
    in_own_namespace(|inside| {
        let mut tables = open(inside);
        let of = |members: Vec<Member>| {
            let mut table = peers(&[], &[]);
            let set = table.sets.iter_mut().find(|set| set.name == "a_v4").unwrap();
            set.spans = members
                .iter()
                .map(|m| netlatch::net::bits_of(m.address))
                .map(|n| AddrRange { first: n, last: n })
                .collect();
            table
        };
        install(&mut tables, &of(Vec::new()));
        // Each reading follows its batch at once, while the kernel still rehashes what has grown.
        for count in [1, 10, 1_000, 20_000, 100_000, 300] {
            let table = of(many(count));
            tables.reconcile(&table).unwrap();
            let mut expected: Vec<String> = many(count).iter().map(|member| member.address.to_string()).collect();
            expected.sort();
            assert!(elements_in_time("a_v4", &expected) == expected, "{count}");
            assert_eq!(install(&mut tables, &table), Installed::Unchanged, "{count}");
        }
        let table = of(many(50_000));
        nft(&["-f", "-"], "delete table inet netlatch");
        assert_eq!(install(&mut tables, &table), Installed::Loaded);
    });
}
