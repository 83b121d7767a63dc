//! Many namespaces on one link, each an end with addresses of its own.
//!
//! ```text
//! pod a  eth0 10.244.1.10/32 --veth--+
//! pod b  eth0 10.244.2.26/32 --veth--+-- br0  the host: where hooks run
//! ext    eth0 8.8.4.4/32     --veth--+
//! ```
//!
//! Every end takes every address for its neighbour (`default dev eth0`), so that any addresses will do. The host is a
//! namespace of the test's, too: what a hook sees as the host's own addresses are those of `br0`.

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::namespace::Namespace;

/// One end: a pod, a machine elsewhere, a node.
pub(crate) struct End {
    /// What cases call it.
    pub(crate) name: String,
    /// Its addresses; may be empty.
    pub(crate) addresses: Vec<IpAddr>,
    /// Its namespace.
    pub(crate) namespace: Namespace,
}

/// The ends and the host between them.
pub(crate) struct Cluster {
    /// The namespace of the bridge.
    pub(crate) host: Namespace,
    /// The ends, in the order they were named.
    pub(crate) ends: Vec<End>,
    ports: AtomicUsize,
}

impl Cluster {
    /// A cluster of ends with these names and addresses, all connected.
    pub(crate) fn new(ends: &[(&str, &[IpAddr])]) -> Cluster {
        let host = Namespace::new();
        without_dad(&host);
        host.set_sysctl("net/bridge/bridge-nf-call-iptables", "0");
        host.set_sysctl("net/bridge/bridge-nf-call-ip6tables", "0");
        host.ip_batch(
            "link set lo up\nlink add br0 type bridge forward_delay 0 mcast_snooping 0\nlink set br0 up\n\
             route add default dev br0\nroute add ::/0 dev br0\n",
        );
        let mut cluster = Cluster { host, ends: Vec::new(), ports: AtomicUsize::new(0) };
        cluster.add(ends);
        cluster
    }

    /// Adds ends.
    pub(crate) fn add(&mut self, ends: &[(&str, &[IpAddr])]) {
        let made: Vec<End> = in_parallel(ends, |(name, addresses)| {
            let namespace = Namespace::new();
            without_dad(&namespace);
            End { name: (*name).to_owned(), addresses: addresses.to_vec(), namespace }
        });
        let namespaces: Vec<&Namespace> = made.iter().map(|end| &end.namespace).collect();
        self.plug_in(&namespaces);
        in_parallel(&made, |end| give(&end.namespace, &end.addresses));
        self.ends.extend(made);
    }

    /// Gives namespaces an eth0 whose other end is on the bridge.
    pub(crate) fn plug_in(&self, namespaces: &[&Namespace]) {
        let mut links = String::new();
        for namespace in namespaces {
            let port = self.ports.fetch_add(1, Ordering::Relaxed);
            let _ = writeln!(links, "link add v{port} type veth peer name eth0 netns {}", namespace.pid());
            let _ = writeln!(links, "link set v{port} master br0 up");
        }
        self.host.ip_batch(&links);
    }

    /// The end of that name.
    pub(crate) fn end(&self, name: &str) -> &End {
        &self.ends[self.index(name)]
    }

    /// The place of the end of that name in [`Cluster::ends`].
    pub(crate) fn index(&self, name: &str) -> usize {
        self.ends.iter().position(|end| end.name == name).unwrap_or_else(|| panic!("no end is named {name}"))
    }
}

/// Gives a namespace that has an eth0 its addresses, and takes all others for neighbours.
pub(crate) fn give(namespace: &Namespace, addresses: &[IpAddr]) {
    let mut commands = String::new();
    for address in addresses {
        // `nodad`: an address that is still tentative would make the first packets wait.
        let _ = match address {
            IpAddr::V4(v4) => writeln!(commands, "addr add {v4}/32 dev eth0"),
            IpAddr::V6(v6) => writeln!(commands, "addr add {v6}/128 dev eth0 nodad"),
        };
    }
    commands.push_str("link set eth0 up\nroute replace default dev eth0\nroute replace ::/0 dev eth0\n");
    namespace.ip_batch(&commands);
}

/// The link-local address must be usable at once, too: neighbours are asked for with it.
fn without_dad(namespace: &Namespace) {
    namespace.set_sysctl("net/ipv6/conf/default/accept_dad", "0");
}

/// Does `work` for all at once; the results in the order of `all`.
pub(crate) fn in_parallel<A: Sync, B: Send>(all: &[A], work: impl Fn(&A) -> B + Sync) -> Vec<B> {
    thread::scope(|scope| {
        let threads: Vec<_> = all.iter().map(|one| scope.spawn(|| work(one))).collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}
