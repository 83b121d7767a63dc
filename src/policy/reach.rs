//! Who can reach whom, all of it: for every pod, every port and the world outside.
//!
//! Three things keep that small enough to read. Pods that no policy can tell apart are one line: they are governed by the
//! same policies, match the same peers and give the same numbers to the same port names. Ports that no policy and no
//! container mentions are one port. And the world outside is the blocks that policies name, each without the blocks in
//! it that they name too.
//!
//! Services are left out, being other names for pods. Who reaches a pod only because it is the pod's own node is left out: that holds for every pod, and would split every
//! line by its node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;

use super::lookup::World;
use super::model::{Action, Labels, Policies, Port, Rule, Who};
use super::verdict::{Flow, Judge, Peer, selects};
use super::world::Pod;
use crate::error::{Cause, Failure};
use crate::net::{AddrRange, Cidr, Direction, Family, Payload, PortRange, SELF_ASSIGNED, Transport, bits_of, merge};

/// Most blocks of the world outside that are looked at. They are lines for people to read.
pub const MAX_BLOCKS: usize = 64;
/// Most answers: ends that policies tell apart, times themselves, times what is spoken that they tell apart. A bit each, in
/// tables of which as many may differ.
pub const MAX_ANSWERS: usize = 2_000_000_000;

/// Everything there is to know.
#[derive(Debug)]
pub struct Reach<'w> {
    /// Whom the tables speak of.
    pub ends: Vec<Members<'w>>,
    /// What they say; no two hold the same.
    pub tables: Vec<Table>,
    /// Blocks that policies name beyond [`MAX_BLOCKS`].
    pub blocks_left_out: usize,
}

/// Ends that no policy can tell apart.
#[derive(Debug)]
pub enum Members<'w> {
    /// Pods, by namespace and name; at least one.
    Pods(Vec<&'w Pod>),
    /// Addresses of no pod: a block without those that policies name inside it; `None` for what is in no block.
    Outside(Family, Option<Cidr>),
}

/// Who can reach whom with what is spoken.
#[derive(Debug)]
pub struct Table {
    /// What is spoken, at least one.
    pub spoken: Vec<Spoken>,
    /// By source, then destination: indexes of [`Reach::ends`]. An end reaches its like, not only itself.
    pub reaches: Matrix,
}

/// A square of bits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Matrix {
    rows: Vec<Vec<u64>>,
}

impl Matrix {
    fn new(size: usize) -> Matrix {
        Matrix { rows: vec![vec![0; size.div_ceil(64)]; size] }
    }

    /// The bit of a row and column.
    pub fn is_set(&self, row: usize, column: usize) -> bool {
        self.rows[row][column / 64] >> (column % 64) & 1 == 1
    }

    fn set(&mut self, row: usize, column: usize) {
        self.rows[row][column / 64] |= 1 << (column % 64);
    }

    /// A row's bits.
    pub fn row(&self, row: usize) -> &[u64] {
        &self.rows[row]
    }

    /// Rows and columns exchanged.
    pub fn transposed(&self) -> Matrix {
        let mut other = Matrix::new(self.rows.len());
        for row in 0..self.rows.len() {
            (0..self.rows.len()).filter(|column| self.is_set(row, *column)).for_each(|column| other.set(column, row));
        }
        other
    }
}

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spoken {
    /// Ports that a container declares or a policy mentions.
    Ports(Transport, PortRange),
    /// All the others.
    OtherPorts(Transport),
    /// What has no ports: ICMP, and every other protocol.
    Portless,
}

/// Asks about everyone and everything. `declared` are ports that are worth showing though no policy mentions them.
///
/// # Errors
/// [`Cause::Limit`] where more than [`MAX_ANSWERS`] would come of it.
pub fn reach<'w>(
    policies: &Policies,
    judge: &Judge<'_>,
    world: &'w World,
    declared: &BTreeSet<(Transport, u16)>,
) -> Result<Reach<'w>, Failure> {
    let (outside, blocks_left_out) = outside(policies, world);
    let mut ends = Vec::new();
    let mut known = Vec::new();
    for (traits, pods) in alike(policies, judge, world) {
        let pod = pods.first().map(|pod| Pod { node: None, ..Pod::clone(pod) });
        known.push(Known {
            addresses: pod.iter().flat_map(|pod| pod.addresses.clone()).map(Some).collect(),
            pod,
            traits,
        });
        ends.push(Members::Pods(pods));
    }
    for (family, block, address) in outside {
        known.push(Known { pod: None, addresses: vec![Some(address)], traits: Traits::default() });
        ends.push(Members::Outside(family, block));
    }
    // One that has no address yet is still judged once.
    known.iter_mut().filter(|end| end.addresses.is_empty()).for_each(|end| end.addresses.push(None));
    let asked = everything_spoken(policies, world, declared);
    check_answers(known.len(), 1)?;
    let halves = Direction::BOTH.map(|direction| Half::ask(judge, direction, &known, &asked));
    let mut tables: BTreeMap<Matrix, Vec<Spoken>> = BTreeMap::new();
    let apart = told_apart(&asked, &halves);
    check_answers(known.len(), apart.len())?;
    for same in apart {
        let mut reaches = Matrix::new(known.len());
        for (from, source) in known.iter().enumerate() {
            for (to, destination) in known.iter().enumerate() {
                let allowed = pairs(&source.addresses, &destination.addresses).any(|(out, back)| {
                    halves[0].allows(from, to, back, same[0]) && halves[1].allows(to, from, out, same[0])
                });
                if allowed {
                    reaches.set(from, to);
                }
            }
        }
        tables.entry(reaches).or_default().extend(same.iter().map(|index| asked[*index].0));
    }
    let mut tables: Vec<Table> = tables
        .into_iter()
        .map(|(reaches, mut spoken)| {
            spoken.sort();
            Table { spoken: joined(spoken), reaches }
        })
        .collect();
    tables.sort_by(|a, b| a.spoken.cmp(&b.spoken));
    Ok(Reach { ends, tables, blocks_left_out })
}

fn check_answers(ends: usize, spoken: usize) -> Result<(), Failure> {
    let answers = ends.saturating_mul(ends).saturating_mul(spoken);
    let problem =
        || format!("{ends} ends and {spoken} ways to speak come to more than {MAX_ANSWERS} answers (MAX_ANSWERS)");
    if answers > MAX_ANSWERS { Err(Failure::new("tell who reaches whom", Cause::Limit(problem()))) } else { Ok(()) }
}

/// A representative of ends that are alike.
struct Known {
    /// `None` outside.
    pod: Option<Pod>,
    /// At least one.
    addresses: Vec<Option<IpAddr>>,
    traits: Traits,
}

/// Indexes of addresses that a flow may use: those of one family, or any where there are none; see
/// [`flow`](super::flow).
fn pairs(from: &[Option<IpAddr>], to: &[Option<IpAddr>]) -> impl Iterator<Item = (usize, usize)> {
    let family = |address: Option<IpAddr>| address.map(Family::of);
    let alike = move |a: Option<IpAddr>, b: Option<IpAddr>| match (family(a), family(b)) {
        (Some(a), Some(b)) => a == b,
        (None, _) | (_, None) => true,
    };
    let none = !from.iter().any(|a| to.iter().any(|b| alike(*a, *b)));
    let all = (0..from.len()).flat_map(|out| (0..to.len()).map(move |back| (out, back)));
    all.filter(move |(out, back)| if none { (*out, *back) == (0, 0) } else { alike(from[*out], to[*back]) })
}

/// One half of every flow. Ends that are governed alike are asked once for all peers that their own rules cannot tell
/// apart: without that a large cluster takes minutes.
struct Half {
    /// Of each end, whose answers are its; `None` where nothing governs it.
    subject: Vec<Option<usize>>,
    /// By subject, peer and the peer's address: the answer.
    answers: Vec<Vec<Vec<usize>>>,
    /// Each answer for everything that was asked.
    allowed: Vec<Vec<bool>>,
}

impl Half {
    fn ask(judge: &Judge<'_>, direction: Direction, known: &[Known], asked: &[(Spoken, Payload)]) -> Half {
        let index = match direction {
            Direction::Egress => 0,
            Direction::Ingress => 1,
        };
        let mut half = Half { subject: Vec::new(), answers: Vec::new(), allowed: Vec::new() };
        let mut subjects: BTreeMap<(&[usize], &Named), usize> = BTreeMap::new();
        for end in known {
            let governed = &end.traits.governed[index];
            let Some(pod) = end.pod.as_ref().filter(|_| !governed.is_empty()) else {
                half.subject.push(None);
                continue;
            };
            // The number of a named port is the subject's own only on the way in.
            let next = subjects.len();
            let named = if direction == Direction::Ingress { &end.traits.named } else { &NO_NAMES };
            let subject = *subjects.entry((governed.as_slice(), named)).or_insert(next);
            half.subject.push(Some(subject));
            if subject == next {
                half.ask_for(judge, direction, pod, known, asked);
            }
        }
        half
    }

    fn ask_for(
        &mut self,
        judge: &Judge<'_>,
        direction: Direction,
        subject: &Pod,
        known: &[Known],
        asked: &[(Spoken, Payload)],
    ) {
        let governing = judge.governing(direction, subject);
        let cluster = governing.admin.iter().chain(&governing.baseline).flat_map(|policy| policy.rules(direction));
        let network = governing.network.iter().flat_map(|policy| policy.rules(direction).unwrap_or_default());
        let whos: BTreeSet<&Who> = cluster.chain(network).flat_map(|rule| &rule.peers).map(|peer| &peer.who).collect();
        let mut seen: BTreeMap<(Vec<bool>, &Named, [bool; 2]), usize> = BTreeMap::new();
        let mut answers = Vec::with_capacity(known.len());
        for end in known {
            let host_network = end.pod.as_ref().is_some_and(|pod| pod.host_network);
            let mut of_end = Vec::with_capacity(end.addresses.len());
            for address in &end.addresses {
                let peer = Peer { pod: end.pod.as_ref(), address: *address };
                let flow = Flow { world: judge.world(), direction, subject, peer, payload: Payload::Other(0) };
                let matched: Vec<bool> = whos.iter().map(|who| flow.matches_peer(who)).collect();
                let next = self.allowed.len();
                let kind = [host_network, flow.is_unidentified()];
                let answer = *seen.entry((matched, &end.traits.named, kind)).or_insert(next);
                if answer == next {
                    let ask = |payload| judge.tiers(direction, subject, peer, payload).allowed();
                    self.allowed.push(asked.iter().map(|(_, payload)| ask(*payload)).collect());
                }
                of_end.push(answer);
            }
            answers.push(of_end);
        }
        self.answers.push(answers);
    }

    /// What the policies of `subject` say of `peer` at its address of that index.
    fn allows(&self, subject: usize, peer: usize, address: usize, asked: usize) -> bool {
        self.subject[subject].is_none_or(|subject| self.allowed[self.answers[subject][peer][address]][asked])
    }
}

static NO_NAMES: Named = BTreeSet::new();

/// Indexes of what is spoken, together where all answers are the same.
fn told_apart(asked: &[(Spoken, Payload)], halves: &[Half; 2]) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<Vec<bool>, Vec<usize>> = BTreeMap::new();
    for index in 0..asked.len() {
        let answers = halves.iter().flat_map(|half| &half.allowed).map(|allowed| allowed[index]).collect();
        groups.entry(answers).or_default().push(index);
    }
    groups.into_values().collect()
}

fn rules(policies: &Policies) -> impl Iterator<Item = &Rule> {
    let network = policies.network.iter().flat_map(|policy| [&policy.ingress, &policy.egress].into_iter().flatten());
    let cluster = policies.cluster.iter().flat_map(|policy| [&policy.ingress, &policy.egress]);
    network.chain(cluster).flatten()
}

/// Ports by name, transport and number.
type Named = BTreeSet<(String, Transport, u16)>;

/// What distinguishes one pod from another.
#[derive(Default, PartialEq, Eq, PartialOrd, Ord)]
struct Traits {
    host_network: bool,
    /// Places of the policies in memory, which are as good as their names.
    governed: [Vec<usize>; 2],
    /// Which peers of rules it is, by its labels.
    selected: Rc<Vec<bool>>,
    /// And by its addresses, each with its family and whether it says who has it.
    addressed: Vec<(Family, bool, Vec<bool>)>,
    /// Ports whose names rules use.
    named: Named,
}

/// Groups of pods that policies cannot tell apart, by their first pod.
fn alike<'w>(policies: &Policies, judge: &Judge<'_>, world: &'w World) -> Vec<(Traits, Vec<&'w Pod>)> {
    let whos: BTreeSet<&Who> = rules(policies).flat_map(|rule| &rule.peers).map(|peer| &peer.who).collect();
    let (by_labels, by_address): (Vec<&Who>, Vec<&Who>) = whos.into_iter().partition(|who| match who {
        Who::Pods { .. } | Who::DomainNames(_) => true,
        Who::Block { .. } | Who::Nodes(_) => false,
    });
    let names: BTreeSet<&str> = rules(policies)
        .flat_map(|rule| &rule.ports)
        .filter_map(|port| match port {
            Port::Named { name, .. } => Some(name.as_str()),
            Port::Number { .. } => None,
        })
        .collect();
    let is_peer = |pod: &Pod, address: Option<IpAddr>, whos: &[&Who]| -> Vec<bool> {
        let (direction, payload) = (Direction::Ingress, Payload::Other(0));
        let flow = Flow { world, direction, subject: pod, peer: Peer { pod: Some(pod), address }, payload };
        whos.iter().map(|who| flow.matches_peer(who)).collect()
    };
    let mut known: BTreeMap<(bool, &str, &Labels), Rc<Vec<bool>>> = BTreeMap::new();
    let mut groups: BTreeMap<Traits, Vec<&Pod>> = BTreeMap::new();
    let mut pods: Vec<&Pod> = world.inventory().pods.iter().collect();
    pods.sort_by_key(|pod| (&pod.namespace, &pod.name));
    for pod in pods {
        let selected = known.entry((pod.host_network, pod.namespace.as_str(), &pod.labels));
        let selected = selected.or_insert_with(|| Rc::new(is_peer(pod, None, &by_labels))).clone();
        let governed = Direction::BOTH.map(|direction| {
            if pod.host_network {
                return Vec::new();
            }
            let governing = judge.governing(direction, pod);
            let cluster =
                governing.admin.iter().chain(&governing.baseline).map(|policy| std::ptr::from_ref(*policy).addr());
            cluster.chain(governing.network.iter().map(|policy| std::ptr::from_ref(*policy).addr())).collect()
        });
        let addressed = pod.addresses.iter().map(|address| {
            let says_who = !SELF_ASSIGNED.contains(*address);
            (Family::of(*address), says_who, is_peer(pod, Some(*address), &by_address))
        });
        let addressed = addressed.collect();
        let named = pod.ports.iter().filter(|port| names.contains(port.name.as_str()));
        let named = named.map(|port| (port.name.clone(), port.protocol, port.port)).collect();
        let traits = Traits { host_network: pod.host_network, governed, selected, addressed, named };
        groups.entry(traits).or_default().push(pod);
    }
    let mut groups: Vec<(Traits, Vec<&Pod>)> = groups.into_iter().collect();
    groups.sort_by_key(|(_, pods)| pods.first().map(|pod| (&pod.namespace, &pod.name)));
    groups
}

/// Blocks that policies name, and what is in none, with an address of each; and how many blocks were too many.
fn outside(policies: &Policies, world: &World) -> (Vec<(Family, Option<Cidr>, IpAddr)>, usize) {
    let mut blocks: BTreeSet<Cidr> = BTreeSet::new();
    for peer in rules(policies).flat_map(|rule| &rule.peers) {
        if let Who::Block { cidr, except } = &peer.who {
            blocks.insert(*cidr);
            blocks.extend(except);
        }
    }
    // Nobody there is known, which matters to who denies by labels.
    let feared = |rule: &Rule| rule.action == Action::Deny && rule.peers.iter().any(|peer| selects(&peer.who));
    blocks.extend(rules(policies).any(feared).then_some(SELF_ASSIGNED));
    let left_out = blocks.len().saturating_sub(MAX_BLOCKS);
    let blocks: Vec<Cidr> = blocks.into_iter().filter(|block| block.prefix_len() > 0).take(MAX_BLOCKS).collect();
    let pods = &world.inventory().pods;
    let mut families: BTreeSet<Family> =
        pods.iter().flat_map(|pod| &pod.addresses).map(|address| Family::of(*address)).collect();
    if families.is_empty() {
        families.insert(Family::V4);
    }
    let mut found = Vec::new();
    for family in families {
        let known: Vec<Cidr> = blocks.iter().copied().filter(|block| block.family() == family).collect();
        let everything = Cidr::everything(family);
        for block in std::iter::once(everything).chain(known.iter().copied()) {
            let inner: Vec<Cidr> =
                known.iter().copied().filter(|other| *other != block && block.contains(other.first())).collect();
            let inner: Vec<Cidr> = inner.into_iter().filter(|other| other.prefix_len() > block.prefix_len()).collect();
            if let Some(address) = free_address(block, &inner, world) {
                found.push((family, (block != everything).then_some(block), address));
            }
        }
    }
    (found, left_out)
}

/// An address of `block` that is in none of `inner`, and neither a pod's nor a node's nor a service's.
fn free_address(block: Cidr, inner: &[Cidr], world: &World) -> Option<IpAddr> {
    let family = block.family();
    let rims = inner.iter().flat_map(|inner| {
        let range = inner.range();
        [range.first.checked_sub(1), range.last.checked_add(1)].into_iter().flatten()
    });
    // Pods may stand at the very edge: a few steps on from there.
    let starts = [bits_of(block.first()), block.range().last].into_iter().chain(rims);
    let near =
        starts.flat_map(|start| (0..64u128).flat_map(move |step| [start.checked_add(step), start.checked_sub(step)]));
    let mut candidates = near.flatten().filter(|bits| *bits <= family.max()).map(|bits| family.address(bits));
    candidates.find(|address| {
        block.contains(*address)
            && !inner.iter().any(|inner| inner.contains(*address))
            && world.pod_at(*address).is_none()
            && world.node_at(*address).is_none()
            && world.service_at(*address).is_none()
    })
}

/// Every kind of traffic that could be judged differently, with a packet of it.
fn everything_spoken(
    policies: &Policies,
    world: &World,
    declared: &BTreeSet<(Transport, u16)>,
) -> Vec<(Spoken, Payload)> {
    let mut mentioned: BTreeMap<Transport, Vec<PortRange>> = BTreeMap::new();
    let named = world.inventory().pods.iter().flat_map(|pod| &pod.ports).map(|port| (port.protocol, port.port));
    for (transport, port) in named.collect::<BTreeSet<_>>().union(declared) {
        mentioned.entry(*transport).or_default().extend(PortRange::new(*port, *port));
    }
    for port in rules(policies).flat_map(|rule| &rule.ports) {
        match port {
            Port::Number { transport, ports } if *ports != PortRange::ALL => {
                mentioned.entry(*transport).or_default().push(*ports);
            }
            // What the name stands for is among the containers' ports.
            Port::Number { .. } | Port::Named { .. } => {}
        }
    }
    let mut spoken = Vec::new();
    for transport in Transport::ALL {
        let ranges = mentioned.remove(&transport).unwrap_or_default();
        let mut other = None;
        // Cut wherever a range begins or ends: between two cuts all ports are the same to everyone.
        let cuts: BTreeSet<u32> = ranges
            .iter()
            .flat_map(|range| [u32::from(range.first()).max(1), u32::from(range.last()) + 1])
            .chain([1, 1 << 16])
            .collect();
        let cuts: Vec<u32> = cuts.into_iter().collect();
        let span = |range: &PortRange| AddrRange { first: range.first().into(), last: range.last().into() };
        let merged = merge(ranges.iter().map(span).collect());
        let is_mentioned = |port: u16| {
            let at = merged.partition_point(|range| range.last < port.into());
            merged.get(at).is_some_and(|range| range.first <= port.into())
        };
        for pair in cuts.windows(2) {
            let (Ok(first), Ok(last)) = (u16::try_from(pair[0]), u16::try_from(pair[1] - 1)) else { continue };
            let payload = Payload::Transport { protocol: transport, port: first };
            match PortRange::new(first, last) {
                Some(range) if is_mentioned(first) => {
                    spoken.push((Spoken::Ports(transport, range), payload));
                }
                _ => other = Some((Spoken::OtherPorts(transport), payload)),
            }
        }
        spoken.extend(other);
    }
    spoken.push((Spoken::Portless, Payload::Other(0)));
    spoken
}

/// Joins ranges that touch, of what is sorted.
pub fn joined(spoken: Vec<Spoken>) -> Vec<Spoken> {
    let mut joined: Vec<Spoken> = Vec::new();
    for next in spoken {
        if let (Some(Spoken::Ports(before, left)), Spoken::Ports(transport, right)) = (joined.last().copied(), next)
            && before == transport
            && left.last().checked_add(1) == Some(right.first())
            && let (Some(range), Some(last)) = (PortRange::new(left.first(), right.last()), joined.last_mut())
        {
            *last = Spoken::Ports(transport, range);
        } else {
            joined.push(next);
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_a_most() {
        assert_eq!(check_answers(1000, MAX_ANSWERS / 1_000_000), Ok(()));
        for (ends, spoken) in [(1000, MAX_ANSWERS / 1_000_000 + 1), (usize::MAX, 1)] {
            let failure = check_answers(ends, spoken).unwrap_err();
            assert!(failure.exit_code() == 41 && failure.to_string().contains("(MAX_ANSWERS)"), "{failure}");
        }
    }

    #[test]
    fn ranges_that_touch_are_one_and_transports_stay_apart() {
        let ports = |transport, first, last| Spoken::Ports(transport, PortRange::new(first, last).unwrap());
        let (tcp, udp) = (Transport::Tcp, Transport::Udp);
        let spoken =
            vec![ports(tcp, 80, 80), ports(tcp, 81, 89), ports(tcp, 91, 95), ports(udp, 96, 99), Spoken::Portless];
        let expected = [ports(tcp, 80, 89), ports(tcp, 91, 95), ports(udp, 96, 99), Spoken::Portless];
        assert_eq!(joined(spoken), expected);
    }

    #[test]
    fn a_free_address_is_in_its_block_and_in_none_inside() {
        let block: Cidr = "10.0.0.0/24".parse().unwrap();
        let inner = ["10.0.0.0/26", "10.0.0.64/26", "10.0.0.128/25"].map(|text| text.parse::<Cidr>().unwrap());
        let world = World::default();
        assert_eq!(free_address(block, &inner, &world), None);
        let found = free_address(block, &inner[..2], &world).unwrap();
        assert!(inner[2].contains(found), "{found}");
        assert!(free_address(Cidr::everything(Family::V6), &[], &world).is_some());
    }

    #[test]
    fn a_matrix_remembers_and_turns() {
        let mut matrix = Matrix::new(130);
        matrix.set(1, 129);
        assert!(matrix.is_set(1, 129) && !matrix.is_set(129, 1));
        assert!(matrix.transposed().is_set(129, 1));
        assert_eq!(matrix.transposed().transposed(), matrix);
    }
}
