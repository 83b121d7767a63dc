//! The batch we send and the text we print, judged by the kernel and by `nft`.
//!
//! Every test makes a network namespace of its own on its own thread; `nft` runs as its child and so in it.

#[path = "support/judge.rs"]
mod judge;

use std::process::Command;
use std::time::Duration;

use judge::{listing, nft, table};

use netlatch::error::Failure;
use netlatch::kernel::netns::{Own, unshared};
use netlatch::kernel::process::Deadline;
use netlatch::kernel::tables::{HostTables, Installed, Tables};
use netlatch::net::{Direction, Origin};
use netlatch::nft::build::{self, signed};
use netlatch::nft::filter::{Denial, Filter, Ipv6Traffic};
use netlatch::nft::ruleset::{Table, TableFamily};
use netlatch::plan::layers;
use netlatch::policy::group::Group;
use netlatch::policy::list::List;

fn origin() -> Origin {
    Origin::Annotation { key: "io.netlatch.egress".into() }
}

fn list(text: &str) -> List {
    List::parse(text, &origin()).unwrap()
}

fn filter(egress: &[(&str, Denial)], ingress: &[(&str, Denial)], ipv6: Ipv6Traffic) -> Filter {
    let host = ["198.51.100.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    let names = ["baseline", "annotation"];
    let of = |direction, lists: &[(&str, Denial)]| {
        lists
            .iter()
            .zip(names)
            .map(|((text, denial), name)| layers::of_list(name, direction, &list(text), *denial, &host, &origin()))
            .collect::<Vec<_>>()
    };
    let always = layers::always_denied([Group::Metadata], &[], &[], Denial::Reject, &host, "built-in always-denied");
    let layers: Vec<_> = always
        .filter(|_| !egress.is_empty())
        .into_iter()
        .chain(of(Direction::Egress, egress))
        .chain(of(Direction::Ingress, ingress))
        .collect();
    Filter { ipv6, router_advertisements: false, layers, policies: Vec::new() }
}

fn install(tables: &mut Tables<'_>, table: &Table) -> Result<Installed, Failure> {
    let present = tables.comment()?;
    tables.install(table, present.as_deref())
}

fn deadline() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

fn in_own_namespace<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::spawn(work).join().unwrap()
}

fn worlds() -> Vec<Filter> {
    use Denial::{Audit, Drop, Reject};
    use Ipv6Traffic::{Dropped, Filtered, LoopbackOnly};
    vec![
        filter(&[], &[], Dropped),
        filter(&[], &[], LoopbackOnly),
        filter(&[("none", Reject)], &[], Filtered),
        filter(&[("none", Drop)], &[("none", Drop)], Dropped),
        filter(&[("*", Reject)], &[("*:80", Reject)], Filtered),
        filter(&[("10.0.0.0/8 192.0.2.7:443 [2001:db8::/32]:8443 *:53 @internet:443", Reject)], &[], Filtered),
        filter(
            &[("tcp/203.0.113.0/24:8000-8999 udp/1.1.1.1:53 udp/[2001:db8::5]:53 icmp/* sctp/10.0.0.0/8:7", Drop)],
            &[],
            Filtered,
        ),
        filter(
            &[("@internet !203.0.113.0/24 !*:25 !udp/@private:53 @private", Reject)],
            &[("@host", Drop)],
            LoopbackOnly,
        ),
        filter(
            &[("*:1-1023 *:8080 tcp/*:9000-9010", Audit), ("* !10.9.0.0/16", Reject)],
            &[("10.0.0.0/8:80-90 10.1.0.0/16:85-100", Reject)],
            Filtered,
        ),
        filter(
            &[("0.0.0.0/0 [::/0]:443 [::/1] [8000::/1]:80", Reject)],
            &[("@metadata:80 255.255.255.255 *:65535", Drop)],
            Filtered,
        ),
        filter(&[(&many_blocks(), Reject)], &[(&many_blocks(), Drop)], Filtered),
    ]
}

/// So many blocks that each length of prefix has a set of its own; with ports, and in both families.
fn many_blocks() -> String {
    let v4 = |n: u32| {
        let net = std::net::Ipv4Addr::from_bits(0x0b00_0000 + 1024 * n);
        format!("{net}/{} tcp/{}/{}:443 ", 24 + n % 9, std::net::Ipv4Addr::from_bits(net.to_bits() + 512), 24 + n % 8)
    };
    let v6 = |n: u32| format!("2001:db8:{:x}::/{} ", 2 * n, 48 + n % 7);
    (0..400).map(|n| v4(n) + &v6(n)).collect()
}

#[test]
fn many_blocks_are_asked_for_by_length_of_prefix() {
    let table = table(&filter(&[(&many_blocks(), Denial::Reject)], &[], Ipv6Traffic::Filtered));
    let text = table.to_string();
    for asked in [
        "ip daddr & 255.255.255.128 == @",
        "ip6 daddr & ffff:ffff:ffff:: == @",
        "dport 443 ip daddr & 255.255.255.0 == @",
    ] {
        assert!(text.contains(asked), "{asked}:\n{text}");
    }
}

#[test]
fn what_we_load_lists_like_what_we_print_loaded_by_nft() {
    for (n, world) in worlds().into_iter().enumerate() {
        let table = table(&world);
        let text = table.to_string();
        let ours = in_own_namespace(move || {
            let inside = unshared().unwrap();
            let mut tables = Tables::open(&inside, deadline()).unwrap();
            assert_eq!(install(&mut tables, &table).unwrap(), Installed::Loaded);
            listing()
        });
        let theirs = in_own_namespace({
            let text = text.clone();
            move || {
                let _inside = unshared().unwrap();
                nft(&["-f", "-"], &text);
                listing()
            }
        });
        assert!(ours["nftables"].as_array().unwrap().len() > 3, "the listing is not empty");
        assert_eq!(ours, theirs, "world {n}:\n{text}");
    }
}

#[test]
fn installing_twice_changes_nothing_and_tampering_is_seen_and_mended() {
    in_own_namespace(|| {
        let inside = unshared().unwrap();
        let mut tables = Tables::open(&inside, deadline()).unwrap();
        for world in worlds() {
            let table = table(&world);
            assert_eq!(install(&mut tables, &table).unwrap(), Installed::Loaded);
            let before = listing();
            assert_eq!(install(&mut tables, &table).unwrap(), Installed::Unchanged);
            assert_eq!(listing(), before);
            tables.verify(&table).unwrap();
        }
        let table = table(&filter(
            &[("10.0.0.0/8 172.16.0.0/12 192.0.2.0/24", Denial::Reject)],
            &[("10.0.0.0/8:80-90 10.1.0.0/16:85", Denial::Drop)],
            Ipv6Traffic::Filtered,
        ));
        install(&mut tables, &table).unwrap();
        let first_set = table.sets.iter().find(|s| s.name.contains("allow4")).unwrap().name.clone();
        for tampering in [
            "add rule inet netlatch egress accept",
            "insert rule inet netlatch output counter accept",
            "add chain inet netlatch output { policy accept; }",
            "add chain inet netlatch extra { type filter hook output priority -1; }",
            &format!("add element inet netlatch {first_set} {{ 11.0.0.0/8 }}"),
            &format!("delete element inet netlatch {first_set} {{ 10.0.0.0/8 }}"),
            "flush chain inet netlatch output",
            "add table inet netlatch { flags dormant; }",
            "add set inet netlatch extra { type ipv4_addr; }",
            "delete table inet netlatch",
            "insert rule netdev netlatch egress accept",
            "flush chain netdev netlatch egress",
            "add chain netdev netlatch egress { policy accept; }",
            "add table netdev netlatch { flags dormant; }",
            "delete table netdev netlatch",
        ] {
            install(&mut tables, &table).unwrap();
            nft(&["-f", "-"], tampering);
            let failure = tables.verify(&table).expect_err(tampering);
            assert_eq!(failure.exit_code(), 34, "{tampering}: {failure}");
            assert_eq!(install(&mut tables, &table).unwrap(), Installed::Loaded, "{tampering}");
            tables.verify(&table).unwrap();
        }
    });
}

#[test]
fn the_guard_hangs_on_what_is_there_and_on_what_comes_later() {
    in_own_namespace(|| {
        let inside = unshared().unwrap();
        let ip = |args: &str| {
            let status = Command::new("ip").args(args.split(' ')).status().unwrap();
            assert!(status.success(), "ip {args}");
        };
        ip("link add wan0 type veth peer name wan1");
        let mut tables = Tables::open(&inside, deadline()).unwrap();
        let table = table(&worlds()[2]);
        install(&mut tables, &table).unwrap();
        let hung = |name: &str| {
            let text = nft(&["list", "table", "netdev", "netlatch"], "");
            let (_, devices) = text.split_once("devices = {").expect("a chain on devices");
            devices.split('}').next().unwrap().split(", ").any(|device| device.trim() == name)
        };
        assert!(["lo", "wan0", "wan1", "eth0", "net1"].into_iter().all(hung));
        // One that is known by name from the beginning, and one that is not.
        assert!(!hung("lan0"));
        ip("link add eth0 type veth peer name lan0");
        let failure = tables.verify(&table).unwrap_err();
        assert_eq!(failure.exit_code(), 34, "{failure}");
        assert_eq!(tables.guard_late(&table), Ok(vec!["lan0".to_owned()]));
        assert!(hung("lan0"));
        tables.verify(&table).unwrap();
        assert_eq!(tables.guard_late(&table), Ok(Vec::new()));
        // What has gone may stay on the list.
        ip("link del wan0");
        tables.verify(&table).unwrap();
    });
}

/// The table at the host's side of a filter, signed; `None` where there is none.
fn host_table(filter: &Filter) -> Option<Table> {
    let own = ["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap(), "fe80::2".parse().unwrap()];
    let name = build::host_table("web_1+x").unwrap();
    let table = build::host_side(filter, name, &["p0".to_owned(), "p1".to_owned()], &own).unwrap();
    table.map(|table| signed(table, None))
}

#[test]
fn the_hosts_side_loads_reads_back_and_goes() {
    let mut loaded = 0;
    for world in worlds() {
        let Some(table) = host_table(&world) else { continue };
        loaded += 1;
        in_own_namespace(move || {
            let _inside = unshared().unwrap();
            let mut tables = HostTables::open(&Own::read().unwrap(), deadline()).unwrap();
            tables.install(&table).unwrap();
            tables.verify(&table).unwrap();
            let all = vec![("netlatch-web__1_px".to_owned(), table.comment.clone())];
            assert_eq!(tables.all(), Ok(all));
            assert_eq!(tables.comment(&table.name), Ok(Some(table.comment.clone())));
            assert_eq!(tables.comment("netlatch-x"), Ok(None));
            let listed = nft(&["list", "ruleset"], "");
            assert!(listed.contains("hook ingress devices = { p0, p1 }"), "{listed}");
            nft(&["-f", "-"], "insert rule netdev netlatch-web__1_px from_ingress accept");
            assert_eq!(tables.verify(&table).unwrap_err().exit_code(), 34);
            tables.install(&table).unwrap();
            tables.remove(&table.name).unwrap();
            tables.remove(&table.name).unwrap();
            assert_eq!(nft(&["list", "ruleset"], ""), "");
        });
    }
    assert!(loaded > 3);
}

#[test]
fn nothing_else_of_the_hosts_can_be_touched() {
    in_own_namespace(|| {
        let _inside = unshared().unwrap();
        let mut tables = HostTables::open(&Own::read().unwrap(), deadline()).unwrap();
        let world = &worlds()[2];
        let good = host_table(world).unwrap();
        for table in [
            table(world),
            Table { name: "netlatch".to_owned(), ..good.clone() },
            Table { name: "filter".to_owned(), ..good.clone() },
            Table { family: TableFamily::Inet, ..good },
        ] {
            assert_eq!(tables.install(&table).unwrap_err().exit_code(), 63);
        }
        assert_eq!(tables.remove("filter").unwrap_err().exit_code(), 63);
        assert_eq!(nft(&["list", "ruleset"], ""), "");
    });
}

#[test]
fn a_plan_without_rules_takes_both_tables_away() {
    in_own_namespace(|| {
        let inside = unshared().unwrap();
        let mut tables = Tables::open(&inside, deadline()).unwrap();
        let table = table(&worlds()[2]);
        install(&mut tables, &table).unwrap();
        assert_eq!(listing()["nftables"].to_string().matches("\"table\":{").count(), 2);
        tables.remove().unwrap();
        assert_eq!(nft(&["list", "ruleset"], ""), "");
        // And rules without a guard take an earlier one away.
        install(&mut tables, &table).unwrap();
        install(&mut tables, &signed(table, None)).unwrap();
        assert!(!nft(&["list", "ruleset"], "").contains("netdev"));
    });
}

#[test]
fn the_older_form_of_a_batch_replaces_a_table_too() {
    use netlatch::kernel::socket::Socket;
    use netlatch::nft::wire::batch::{Batch, Head};
    use netlatch::nft::wire::held::Held;
    in_own_namespace(|| {
        let inside = unshared().unwrap();
        let mut tables = Tables::open(&inside, deadline()).unwrap();
        let worlds = worlds();
        // Into an empty namespace, and over another table: what kernels before 6.3 are sent.
        for world in [&worlds[2], &worlds[7]] {
            let table = table(world);
            let socket = Socket::open(netlink_sys::protocols::NETLINK_NETFILTER).unwrap();
            let expected: Vec<Held> = table.parts().map(|part| Held::expected(part, &[])).collect();
            let parts: Vec<_> = table.parts().zip(&expected).collect();
            socket.send(&Batch::replace(&parts, Head::AddDeleteAdd).bytes).unwrap();
            tables.verify(&table).unwrap();
        }
    });
}

#[test]
fn a_table_that_somebody_has_put_there_meanwhile_is_not_replaced() {
    in_own_namespace(|| {
        let inside = unshared().unwrap();
        let worlds = worlds();
        let (ours, theirs) = (table(&worlds[2]), table(&worlds[7]));
        let mut tables = Tables::open(&inside, deadline()).unwrap();
        let seen = tables.comment().unwrap();
        assert_eq!(seen, None);
        assert_eq!(install(&mut Tables::open(&inside, deadline()).unwrap(), &theirs).unwrap(), Installed::Loaded);
        let before = listing();
        let failure = tables.install(&ours, seen.as_deref()).unwrap_err();
        assert_eq!(failure.exit_code(), 43, "{failure}");
        assert_eq!(listing(), before);
        // The same rules serve both.
        tables.install(&theirs, seen.as_deref()).unwrap();
        assert_eq!(listing(), before);
        install(&mut tables, &ours).unwrap();
    });
}

#[test]
fn another_tables_rules_are_left_alone() {
    in_own_namespace(|| {
        let inside = unshared().unwrap();
        nft(
            &["-f", "-"],
            "table inet other {\nchain c {\ntype filter hook output priority 5\ncounter\n}\n}\ntable ip netlatch {\nset s {\ntype ipv4_addr\n}\n}\n",
        );
        let before =
            nft(&["-s", "list", "table", "inet", "other"], "") + &nft(&["list", "table", "ip", "netlatch"], "");
        let mut tables = Tables::open(&inside, deadline()).unwrap();
        let table = table(&filter(&[("none", Denial::Drop)], &[], Ipv6Traffic::Dropped));
        install(&mut tables, &table).unwrap();
        assert_eq!(install(&mut tables, &table).unwrap(), Installed::Unchanged);
        let after = nft(&["-s", "list", "table", "inet", "other"], "") + &nft(&["list", "table", "ip", "netlatch"], "");
        assert_eq!(before, after);
    });
}

#[test]
fn a_refused_batch_names_the_object_and_leaves_the_old_table_whole() {
    in_own_namespace(|| {
        let inside = unshared().unwrap();
        let mut tables = Tables::open(&inside, deadline()).unwrap();
        let good = table(&filter(&[("10.0.0.0/8", Denial::Reject)], &[], Ipv6Traffic::Filtered));
        install(&mut tables, &good).unwrap();
        let before = listing();
        let mut bad = good.clone();
        bad.comment = "another".into();
        let layer = bad.chains.iter_mut().find(|c| c.name == "egress").unwrap();
        layer.rules[2].verdict = Some(netlatch::nft::ruleset::Verdict::Jump("nowhere".into()));
        let failure = install(&mut tables, &bad).unwrap_err();
        let line = failure.to_string();
        assert_eq!(failure.exit_code(), 33);
        for part in
            ["rule 3 of chain egress", "ENOENT", "NFTA_RULE_EXPRESSIONS", "annotation io.netlatch.egress: 10.0.0.0/8"]
        {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert_eq!(listing(), before);
    });
}

#[test]
fn a_hundred_thousand_prefixes_load_and_read_back() {
    in_own_namespace(|| {
        let inside = unshared().unwrap();
        let mut tables = Tables::open(&inside, deadline()).unwrap();
        let blocks: Vec<String> = (0..100_000u32)
            .map(|n| format!("{}.{}.{}.{}/31", 1 + (n >> 16), (n >> 8) & 255, n & 255, 4 * (n & 1)))
            .collect();
        let table = table(&filter(&[(&blocks.join(","), Denial::Reject)], &[], Ipv6Traffic::Filtered));
        assert_eq!(install(&mut tables, &table).unwrap(), Installed::Loaded);
        assert_eq!(install(&mut tables, &table).unwrap(), Installed::Unchanged);
        nft(&["-f", "-"], "delete element inet netlatch egress_baseline_allow4 { 1.1.1.4 }");
        assert!(tables.verify(&table).is_err());
    });
}
