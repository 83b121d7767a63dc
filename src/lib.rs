//! Netlatch: an OCI runtime hook that locks a container's network before its first instruction.
//!
//! A runtime (runc, crun; podman, CRI-O or containerd above them) calls the program while a container is being created,
//! with the container's state on stdin. It joins the container's network namespace, brings `lo` up as runc does, puts the
//! network sysctls where the operator wants them and installs rules. If any of it cannot be done, the container does not
//! start. README.md and the [guides](docs) are for those who use it; this page is for those who change it.
//!
//! # Words
//!
//! | word | meaning |
//! |---|---|
//! | stage | the hook stage that called us: [`cli::hook::Stage`] |
//! | state | the JSON document on stdin: [`oci::State`] |
//! | bundle | what concerns us of config.json. A hint, for it may be missing or not the container's: [`oci::Bundle`] |
//! | requests | what the container's annotations ask for: [`oci::Requests`] |
//! | settings | what holds for the container: built-in defaults < configuration file < annotations: [`settings::Settings`] |
//! | list | who may be reached, or may connect, as an operator writes it: [`policy::list::List`] |
//! | layer | one set of rules; **a packet passes only if every layer of its direction lets it**: [`nft::filter::Layer`] |
//! | table | our picture of the nftables table: [`nft::ruleset::Table`] |
//! | guard | its companion of family netdev, which lets out only what the IP stack routed: [`nft::build::guard`](nft::build::guard()) |
//! | host side | the same layers at the host's end of a container's links, where it cannot reach them: [`nft::build::host_side`](nft::build::host_side()) |
//! | plan | the ordered steps, a plain value that can be printed, compared and applied: [`plan::Plan`] |
//! | not covered | what a container can do that no rule governs, told from its bundle: [`plan::uncovered`] |
//! | flow | what the kernel tracks of a connection, and lets pass unasked once it began: [`conntrack::Flow`] |
//! | origin | where a value was written; it goes with the value into the kernel and back: [`net::Origin`] |
//! | inside | the proof that this thread is in a namespace that is not the host's: [`kernel::netns::Inside`] |
//! | record | what is known of a container on this host, below /run/netlatch: [`registry::Record`] |
//! | subject | a network namespace with the containers in it, what policies call a pod: [`registry::Subject`] |
//! | roster | all subjects of this host in one file: [`registry::Roster`] |
//!
//! # The way of the data
//!
//! ```text
//! bytes --parse--> State + Bundle + Requests + Config --decide--> Settings --plan--> Plan --apply--> Report
//!                                                                             |       (the kernel only here)
//!                                                                `netlatch plan` prints it
//! ```
//!
//! Everything left of *apply* is a function of its input: no clock, no file, no kernel. What has to be asked of the
//! machine first (the host's addresses for `@host`, its sysctls for `devconf`) goes in as [`plan::Facts`]. So `netlatch
//! plan` and `netlatch check` run without privileges on another machine, and are the hook's own code.
//!
//! A thing is parsed once, at the door, into a type that cannot hold a mistake. What we would have to obey and do not
//! understand is a failure. A table has readers that are tested against each other: [`nft::text`] prints what `nft -f` loads,
//! [`nft::wire`] sends the same to the kernel and reads it back, and [`nft::verdict`] says what it does to a packet, which
//! has to be what the specification says: [`policy::list::List::allows`], [`settings::Settings::passes`].
//!
//! # Who may know whom
//!
//! ```text
//! net   error   printable   logging   netlink              shared nouns; what can fail; foreign text; the log; datagrams
//! document   policy   sysctl   oci   settings             from text to what holds
//! nft                                                     from layers to a table, its text and its netlink form
//! plan   conntrack                                        where the two meet; flows, and what a table says of them
//! explain                                                 one packet, put to the specification and to a table
//! kernel   registry                                       what touches the machine
//! live                                                    what changes for those who run when one comes or goes
//! cli                                                     a file for each command
//! docs   schema                                           guides and JSON schemas, which know nothing and are printed
//! main                                                    arguments in, exit code out
//! ```
//!
//! Arrows point up only. `policy` does not know nftables, and `nft` does not know where a rule was written but as text to
//! cite. `kernel` carries out plans and never reads settings. tests/architecture.rs holds the exact table, reads the source and
//! names the rule that a line broke.
//! `registry` knows the words of `policy`, for it keeps what selectors see of a container and whom its sets follow; it
//! decides nothing by them.
//!
//! [`error`] alone chooses exit codes and remedies. [`kernel::netns::enter`] alone makes an `Inside`, by comparing
//! namespaces, and whatever changes a namespace asks for one: "applied to the host by mistake" does not compile.
//!
//! # The order of steps, and why
//!
//! [`cli::hook`] is the screenful to read first.
//!
//! 1. **Harden** ([`kernel::process`], [`kernel::capability`]): close inherited descriptors, reset the signal mask (crun
//!    blocks nearly all), give up every capability that is not needed. Then drain stdin, whatever comes of it: crun
//!    before 1.17 fails a hook that leaves the pipe unread.
//! 2. **Parse and decide** ([`oci`], [`settings`]), the id first, so that a failure is recorded under it.
//! 3. **Learn the facts** of the host while this thread is still there.
//! 4. **Join** ([`kernel::netns`]): pidfd, setns, and the comparison with our own namespace once more behind it, where
//!    nothing can be swapped. pid 0, pid 1 and our own namespace are refused. `CAP_SYS_ADMIN` goes.
//! 5. **Plan** ([`plan`]), which refuses what config.json contradicts: runc writes its sysctls after us.
//! 6. **Apply** ([`kernel::apply`]), closing before opening: the table with its guard in one batch, then sysctls (before `lo`, so that `::1`
//!    never appears where IPv6 is to be off), then `lo`. Whatever fails leaves the namespace filtered.
//! 7. **Read back** what was written, each step its own. A difference is a failure. (Of a large set that was loaded just now their
//!    number and some: [`kernel::tables`] says why that is enough.)
//! 8. **Record** ([`registry`]). No rule depends on a record.
//!
//! Where there are policies, others matter too ([`cli::hook`], [`live`]). Between joining and recording the registry's lock is
//! held: who runs is read from the roster, this container is entered among them, its rules are made from all of them, and
//! before it may run the sets of those that select it are changed, in their namespaces. `CAP_SYS_ADMIN` goes after that.
//! poststart makes known what addresses came since, poststop takes them back. `netlatch reload` plans everybody anew.
//!
//! A container that may undo its rules has them at the host's end of its links too, where the admin wants that (`net-admin:
//! host-side`, cli/host_side.rs): the sockets for it are opened in step 3, and the rules put there before step 6.
//!
//! poststart goes the same way, verifies the table instead of loading it, and brings sysctls about again. poststop forgets.
//! createRuntime may come again without a poststop, and once for every container that shares a namespace: a table that
//! carries the plan's digest and reads back equal stays, since a replacement costs an RCU grace period.
//!
//! # When it goes wrong
//!
//! A hook may be killed between any two of these steps, and any call may fail. Then the start has failed, and whoever comes
//! next puts right what was left: the same start again, the start or stop of anybody else, `netlatch reload`. What makes
//! that so is kept where it is done: rules in one batch, a roster that says that it is unfinished ([`registry`]), records of
//! those who run replaced as a whole, and nothing believed of the kernel that it has not said. tests/fault_*.rs kill and
//! fail debug builds at every point there is ([`kernel::checkpoint`]); release builds have no such points.
#![forbid(unsafe_code)]

pub mod cli;
pub mod conntrack;
pub mod docs;
pub mod document;
pub mod error;
pub mod explain;
pub mod kernel;
pub mod live;
pub mod logging;
pub mod net;
pub mod netlink;
pub mod nft;
pub mod oci;
pub mod plan;
pub mod policy;
pub mod printable;
pub mod registry;
pub mod schema;
pub mod settings;
pub mod sysctl;
