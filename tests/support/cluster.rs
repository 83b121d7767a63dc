//! Many namespaces around a router, each an end with addresses of its own.
//!
//! ```text
//! pod a  eth0 10.244.1.10/32 --veth-- v0 |
//! pod b  eth0 10.244.2.26/32 --veth-- v1 | the host: routes to each address, and is where hooks run
//! ext    eth0 8.8.4.4/32     --veth-- v2 |
//! ```
//!
//! The host is a namespace of the test's, too: what a hook sees as the host's own addresses are those of that namespace.
//! Routed and not bridged, for every end then knows one neighbour and not all of them: the kernel has one neighbour table
//! for all namespaces, of 1024 entries (`gc_thresh3`).

use std::fmt::Write;
use std::net::IpAddr;
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
    /// Its link in the host's namespace.
    pub(crate) link: String,
}

/// The host's own addresses. The first is every end's gateway; that of IPv6 is `fe80::1` on each link.
pub(crate) const HOST: [&str; 2] = ["172.31.255.1", "fdff::1"];

/// The ends and the host between them.
pub(crate) struct Cluster {
    /// The namespace of the host.
    pub(crate) host: Namespace,
    /// The ends, in the order they were named.
    pub(crate) ends: Vec<End>,
    links: usize,
}

impl Cluster {
    /// A cluster of ends with these names and addresses, all connected.
    pub(crate) fn new(ends: &[(&str, &[IpAddr])]) -> Cluster {
        let host = Namespace::new();
        without_dad(&host);
        host.set_sysctl("net/ipv4/ip_forward", "1");
        host.set_sysctl("net/ipv6/conf/all/forwarding", "1");
        let [v4, v6] = HOST;
        host.ip_batch(&format!("link set lo up\naddr add {v4}/32 dev lo\naddr add {v6}/128 dev lo nodad\n"));
        let mut cluster = Cluster { host, ends: Vec::new(), links: 0 };
        cluster.add(ends);
        cluster
    }

    /// Adds ends.
    pub(crate) fn add(&mut self, ends: &[(&str, &[IpAddr])]) {
        let first = self.links;
        self.links += ends.len();
        let numbered: Vec<_> = ends.iter().zip(first..).collect();
        let made: Vec<End> = in_parallel(&numbered, |((name, addresses), number)| {
            let namespace = Namespace::new();
            without_dad(&namespace);
            End { name: (*name).to_owned(), addresses: addresses.to_vec(), namespace, link: format!("v{number}") }
        });
        self.connect(&made.iter().collect::<Vec<_>>());
        self.ends.extend(made);
    }

    /// Adds an end that is not connected yet, as under an engine that attaches the network after createRuntime.
    pub(crate) fn add_unconnected(&mut self, name: &str, addresses: &[IpAddr]) {
        let namespace = Namespace::new();
        without_dad(&namespace);
        let link = format!("v{}", self.links);
        self.links += 1;
        self.ends.push(End { name: name.to_owned(), addresses: addresses.to_vec(), namespace, link });
    }

    /// Gives ends their eth0 and addresses, and the host the routes to them. An address that another end had is this one's now.
    pub(crate) fn connect(&self, ends: &[&End]) {
        let mut commands = String::new();
        for End { link, namespace, .. } in ends {
            let _ = writeln!(commands, "link add {link} type veth peer name eth0 netns {}", namespace.pid());
            let _ = writeln!(commands, "addr add fe80::1/64 dev {link} nodad\nlink set {link} up");
        }
        for End { link, addresses, .. } in ends {
            for address in addresses {
                let _ = writeln!(commands, "route replace {address} dev {link}");
            }
        }
        self.host.ip_batch(&commands);
        in_parallel(ends, |end| give(&end.namespace, &end.addresses));
    }

    /// Ends what holds the namespace of an end, with SIGKILL, and what it was connected with.
    pub(crate) fn kill(&mut self, name: &str) {
        drop(self.ends.remove(self.index(name)));
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

fn give(namespace: &Namespace, addresses: &[IpAddr]) {
    let (mut commands, mut routes) = (String::new(), String::new());
    for address in addresses {
        // `nodad`: an address that is still tentative would make the first packets wait.
        let _ = match address {
            IpAddr::V4(v4) => {
                let _ = writeln!(routes, "route replace default via {} dev eth0 onlink", HOST[0]);
                writeln!(commands, "addr add {v4}/32 dev eth0")
            }
            IpAddr::V6(v6) => {
                let _ = writeln!(routes, "route replace ::/0 via fe80::1 dev eth0");
                writeln!(commands, "addr add {v6}/128 dev eth0 nodad")
            }
        };
    }
    namespace.ip_batch(&(commands + "link set eth0 up\n" + &routes));
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
