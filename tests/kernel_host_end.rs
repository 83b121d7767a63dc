//! The host's ends of a container's network, with one namespace as the host and others as containers.
//!
//! Every link is made by `ip`, which is also the judge of names and indexes.

mod support;

use std::collections::BTreeSet;
use std::thread;

use netlatch::error::{Cause, Failure};
use netlatch::kernel::host_end::{End, HostSide};
use netlatch::kernel::link;
use netlatch::kernel::netns::{Inside, Own, Target, enter};
use netlatch::kernel::process::{DEADLINE, Deadline};
use support::Namespace;

/// A host and a container of it.
struct Pair {
    host: Namespace,
    container: Namespace,
}

impl Pair {
    fn new() -> Pair {
        Pair { host: Namespace::new(), container: Namespace::new() }
    }

    /// Does `work` as the hook would, standing in the container with a socket of the host.
    fn hook<T: Send>(&self, work: impl FnOnce(&mut HostSide, &Inside, &Deadline) -> T + Send) -> T {
        thread::scope(|scope| {
            let hook = scope.spawn(|| {
                self.host.enter();
                let own = Own::read().unwrap();
                let mut side = HostSide::open(&own).unwrap();
                let inside = enter(&Target::Process(self.container.pid()), &own).unwrap();
                work(&mut side, &inside, &Deadline::after(DEADLINE))
            });
            hook.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn ends(&self) -> Result<Vec<End>, Failure> {
        self.hook(|side, inside, deadline| side.ends(inside, deadline))
    }

    fn veths_into(&self) -> Vec<End> {
        self.hook(|side, inside, deadline| side.veths_into(inside, deadline)).unwrap()
    }

    /// Why the container is refused.
    fn refused(&self) -> String {
        let failure = self.ends().unwrap_err();
        assert_eq!(failure.exit_code(), 19, "{failure}");
        match failure.cause {
            Cause::HostSide(problem) => problem,
            other => panic!("{other:?}"),
        }
    }

    /// A veth from the host into the container.
    fn veth(&self, outside: &str, inside: &str) {
        veth(&self.host, outside, &self.container, inside, "");
    }

    /// What must be told of a veth between the two names.
    fn expected(&self, outside: &str, inside: &str) -> End {
        End {
            name: outside.to_owned(),
            index: index(&self.host, outside),
            inside_index: index(&self.container, inside),
            inside_name: Some(inside.to_owned()),
        }
    }

    /// All of it proven, from both directions.
    fn assert_ends(&self, expected: &[(&str, &str)]) {
        let mut expected: Vec<End> = expected.iter().map(|(outside, inside)| self.expected(outside, inside)).collect();
        expected.sort_by_key(|end| end.inside_index);
        assert_eq!(self.ends().unwrap(), expected);
        expected.sort_by_key(|end| end.index);
        expected.iter_mut().for_each(|end| end.inside_name = None);
        assert_eq!(self.veths_into(), expected);
    }
}

/// `options` follow the name inside: `index N`.
fn veth(host: &Namespace, outside: &str, container: &Namespace, inside: &str, options: &str) {
    let pid = container.pid();
    host.ip_batch(&format!("link add {outside} type veth peer name {inside} netns {pid} {options}\n"));
}

fn index(namespace: &Namespace, name: &str) -> u32 {
    let links = namespace.ip_json(&["link", "show", name]);
    u32::try_from(links[0]["ifindex"].as_u64().expect("an index")).unwrap()
}

#[test]
fn the_end_of_a_veth_is_found_whether_or_not_it_is_in_a_bridge() {
    let pair = Pair::new();
    pair.veth("veth1", "eth0");
    pair.assert_ends(&[("veth1", "eth0")]);
    pair.host.ip_batch("link add br0 type bridge\nlink set veth1 master br0\nlink set veth1 up\nlink set br0 up\n");
    pair.assert_ends(&[("veth1", "eth0")]);
}

#[test]
fn each_interface_has_its_own_end() {
    let pair = Pair::new();
    // Made in the other order, and between strangers.
    pair.host.ip_batch("link add stranger type veth peer name strangers\n");
    pair.veth("veth2", "eth1");
    pair.host.ip_batch("link add more type veth peer name mores\n");
    pair.veth("veth1", "eth0");
    pair.assert_ends(&[("veth2", "eth1"), ("veth1", "eth0")]);
}

#[test]
fn names_tell_nothing() {
    let pair = Pair::new();
    pair.veth("veth1", "eth0");
    veth(&pair.host, "veth2", &Namespace::new(), "eth0", "");
    pair.container.ip_batch("link set eth0 name veth2\nlink set lo name eth0\n");
    pair.host.ip_batch("link set veth1 name other\n");
    pair.assert_ends(&[("other", "veth2")]);
}

#[test]
fn both_ends_may_have_the_same_index() {
    let pair = Pair::new();
    pair.host.ip_batch("link add veth1 index 77 type veth peer name tmp\n");
    pair.host.ip_batch("link del veth1\n");
    let pid = pair.container.pid();
    pair.host.ip_batch(&format!("link add veth1 index 77 type veth peer name eth0 index 77 netns {pid}\n"));
    assert_eq!((index(&pair.host, "veth1"), index(&pair.container, "eth0")), (77, 77));
    pair.assert_ends(&[("veth1", "eth0")]);
}

#[test]
fn the_number_of_a_namespace_is_the_one_it_has_on_the_host() {
    let pair = Pair::new();
    // The host numbers its neighbours as links to them are looked at: the container becomes the third here, and the host
    // the first there.
    let neighbours = [Namespace::new(), Namespace::new()];
    for (n, neighbour) in neighbours.iter().enumerate() {
        veth(&pair.host, &format!("other{n}"), neighbour, "eth0", "");
        pair.host.ip_json(&["link", "show", &format!("other{n}")]);
    }
    pair.veth("veth1", "eth0");
    pair.assert_ends(&[("veth1", "eth0")]);
    let number = |namespace: &Namespace, name: &str| {
        let links = namespace.ip_json(&["link", "show", name]);
        links[0]["link_netnsid"].as_i64().expect("a number")
    };
    assert_eq!((number(&pair.host, "veth1"), number(&pair.container, "eth0")), (2, 0));
}

#[test]
fn many_interfaces_have_many_ends() {
    let pair = Pair::new();
    let names: Vec<(String, String)> = (0..40).map(|n| (format!("veth{n}"), format!("eth{n}"))).collect();
    let pid = pair.container.pid();
    let add =
        |(outside, inside): &(String, String)| format!("link add {outside} type veth peer name {inside} netns {pid}\n");
    pair.host.ip_batch(&names.iter().map(add).collect::<String>());
    let ends = pair.ends().unwrap();
    let found: BTreeSet<(String, String)> =
        ends.into_iter().map(|end| (end.name, end.inside_name.expect("a name"))).collect();
    assert_eq!(found, names.into_iter().collect());
    assert_eq!(pair.veths_into().len(), 40);
}

#[test]
fn a_container_without_an_interface_is_refused() {
    let pair = Pair::new();
    // Whatever else is on the host.
    pair.host.ip_batch("link add strange type veth peer name stranger\n");
    assert!(pair.refused().ends_with("has no interface but lo yet"), "{}", pair.refused());
    assert_eq!(pair.veths_into(), []);
}

#[test]
fn an_end_that_was_moved_to_a_third_namespace_is_refused() {
    let pair = Pair::new();
    pair.veth("veth1", "eth0");
    pair.assert_ends(&[("veth1", "eth0")]);
    let third = Namespace::new();
    pair.host.ip_batch(&format!("link set veth1 netns {}\n", third.pid()));
    let refused = pair.refused();
    assert!(
        refused.ends_with("eth0 is a veth whose other end is not in the namespace this hook was called in"),
        "{refused}"
    );
    assert_eq!(pair.veths_into(), []);
}

#[test]
fn the_end_of_another_container_with_the_same_indexes_is_not_taken() {
    let pair = Pair::new();
    let (third, neighbour) = (Namespace::new(), Namespace::new());
    // eth0 of the container is link 50, and its other end link 60, but of a third namespace; link 60 of the host is a
    // veth as well, and its other end is link 50 too, but of another container.
    let (container, third_pid) = (pair.container.pid(), third.pid());
    third.ip_batch(&format!("link add veth1 index 60 type veth peer name eth0 index 50 netns {container}\n"));
    let neighbour_pid = neighbour.pid();
    pair.host.ip_batch(&format!("link add veth1 index 60 type veth peer name eth0 index 50 netns {neighbour_pid}\n"));
    assert!(pair.refused().contains("eth0 is a veth whose other end is not in"), "{}", pair.refused());
    // Nor where the host has a number for the container by another way.
    pair.veth("veth2", "eth1");
    assert!(pair.refused().contains("eth0 is a veth whose other end is not in"), "{}", pair.refused());
    assert_eq!(pair.veths_into(), [End { inside_name: None, ..pair.expected("veth2", "eth1") }]);
    // The same links are fine where they lead to: the host of the container's eth0 is the third.
    let swapped = Pair { host: third, container: pair.container };
    assert_eq!(swapped.host.pid(), third_pid);
    let ends = swapped.hook(|side, inside, deadline| side.veths_into(inside, deadline)).unwrap();
    assert_eq!(ends, [End { inside_name: None, ..swapped.expected("veth1", "eth0") }]);
}

#[test]
fn the_end_of_one_interface_is_not_taken_for_anothers() {
    let pair = Pair::new();
    let third = Namespace::new();
    let pid = pair.container.pid();
    // Both interfaces say that their other end is link 60. The host's is eth1's.
    third.ip_batch(&format!("link add veth1 index 60 type veth peer name eth0 index 50 netns {pid}\n"));
    pair.host.ip_batch(&format!("link add veth1 index 60 type veth peer name eth1 index 51 netns {pid}\n"));
    let refused = pair.refused();
    assert!(
        refused.ends_with("eth0 is a veth whose other end is not in the namespace this hook was called in"),
        "{refused}"
    );
    assert_eq!(pair.veths_into(), [End { inside_name: None, ..pair.expected("veth1", "eth1") }]);
}

#[test]
fn a_veth_with_both_ends_inside_is_refused_beside_one_that_is_fine() {
    let pair = Pair::new();
    let pid = pair.container.pid();
    pair.host.ip_batch(&format!("link add veth1 index 60 type veth peer name eth0 index 50 netns {pid}\n"));
    // The other end of `two` has the number of a veth of the host's that does lead here.
    pair.container.ip_batch("link add one index 60 type veth peer name two index 90\n");
    let refused = pair.refused();
    assert!(refused.ends_with("one is a veth with both ends there, and 1 more like it"), "{refused}");
    assert_eq!(pair.veths_into(), [End { inside_name: None, ..pair.expected("veth1", "eth0") }]);
}

#[test]
fn interfaces_of_other_kinds_are_refused_by_their_kind() {
    for (commands, refusal) in [
        (
            "link add below type veth peer name b2\nlink add m0 link below netns PID type macvlan\n",
            "m0 is a macvlan and no veth",
        ),
        ("link add br0 netns PID type bridge\n", "br0 is a bridge and no veth"),
        ("link add f0 type ifb\nlink set f0 netns PID\n", "f0 is a ifb and no veth"),
        (
            "link add x0 type vxlan id 7 local 192.0.2.1 dstport 4789\nlink set x0 netns PID\n",
            "x0 is a vxlan and no veth",
        ),
    ] {
        let pair = Pair::new();
        pair.veth("veth1", "eth0");
        pair.host.ip_batch(&commands.replace("PID", &pair.container.pid().to_string()));
        let refused = pair.refused();
        assert!(refused.ends_with(refusal), "{commands}: {refused}");
        assert_eq!(pair.veths_into().len(), 1, "{commands}");
    }
}

#[test]
fn a_tap_as_slirp4netns_and_pasta_make_it_is_refused() {
    let pair = Pair::new();
    pair.container.ip_batch("tuntap add tap0 mode tap\n");
    assert!(pair.refused().ends_with("tap0 is a tun and no veth"), "{}", pair.refused());
}

#[test]
fn a_macvlan_that_has_the_index_of_the_other_end_is_none() {
    let pair = Pair::new();
    let third = Namespace::new();
    let pid = pair.container.pid();
    // Links 60 of the host and of the third namespace: a macvlan above the container's own device, and the real end.
    third.ip_batch(&format!("link add veth1 index 60 type veth peer name eth0 index 50 netns {pid}\n"));
    pair.container.ip_batch(&format!("link add m0 index 60 link eth0 netns {} type macvlan\n", pair.host.pid()));
    let seen = pair.host.ip_json(&["-d", "link", "show", "m0"]);
    assert_eq!((seen[0]["ifindex"].as_u64(), seen[0]["link_index"].as_u64()), (Some(60), Some(50)), "{seen}");
    assert!(pair.refused().contains("eth0 is a veth whose other end is not in"), "{}", pair.refused());
    assert_eq!(pair.veths_into(), []);
}

#[test]
fn what_was_moved_on_into_a_nested_namespace_leads_into_the_container_no_more() {
    let pair = Pair::new();
    pair.veth("veth1", "eth0");
    let nested = Namespace::new();
    pair.container.ip_batch(&format!("link set eth0 netns {}\n", nested.pid()));
    assert!(pair.refused().ends_with("has no interface but lo yet"), "{}", pair.refused());
    assert_eq!(pair.veths_into(), []);
    let there = Pair { host: pair.host, container: nested };
    there.assert_ends(&[("veth1", "eth0")]);
}

#[test]
fn a_containers_own_addresses_are_all_but_loopbacks() {
    let pair = Pair::new();
    pair.veth("veth1", "eth0");
    pair.host.ip_batch("link set veth1 up\n");
    pair.container.ip_batch(
        "link set lo up\nlink set eth0 addrgenmode none\nlink set eth0 up\n\
         address add 192.0.2.7/24 dev eth0\naddress add 192.0.2.7/32 dev lo\naddress add 169.254.3.4/16 dev eth0\n\
         address add 198.51.100.1 peer 198.51.100.2/32 dev eth0\n\
         address add 2001:db8::7/64 dev eth0\naddress add fe80::7/64 dev eth0\n",
    );
    let own = pair.hook(|_, inside, deadline| link::own_addresses(inside, deadline)).unwrap();
    let expected = ["169.254.3.4", "192.0.2.7", "198.51.100.1", "2001:db8::7", "fe80::7"];
    assert_eq!(own.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
}

#[test]
fn a_socket_of_the_hosts_is_not_opened_elsewhere() {
    let pair = Pair::new();
    pair.hook(|_, inside, _| {
        // What this thread took for its own before it joined the container.
        let own = pair.host.within(|| Own::read().unwrap());
        let failure = HostSide::open(&own).unwrap_err();
        assert_eq!(failure.exit_code(), 63, "{failure}");
        assert!(failure.to_string().contains(&inside.id().to_string()), "{failure}");
    });
}

#[test]
fn an_unprivileged_look_suffices() {
    use netlatch::kernel::capability;
    let pair = Pair::new();
    pair.veth("veth1", "eth0");
    let ends = pair.hook(|side, inside, deadline| {
        capability::keep_only(&[]).unwrap();
        side.ends(inside, deadline)
    });
    assert_eq!(ends.unwrap(), [pair.expected("veth1", "eth0")]);
}
