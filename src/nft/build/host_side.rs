//! The same layers at the other end of the container's link, where the container cannot reach them.
//!
//! A container that holds CAP_NET_ADMIN can flush its own tables. What it sends comes out of the host's end of its veth all the
//! same, whatever it did to rules, routes, names and devices on its side, so the layers stand there, in a table of family
//! netdev of the host's namespace that hangs on that one device:
//!
//! ```text
//! ingress  what the container sent    ARP: of its own addresses; IPv4: goto leaves4; IPv6: goto leaves6; drop
//! leaves4  its own source: goto leaves4_own; drop
//! leaves4_own
//!          later fragments: of a packet that was let through, or drop
//!          [IPv6: neighbour discovery on the link; router advertisements, redirects, others' addresses: drop]
//!          replies to flows that were let in: accept, and remember that they are answered
//!          jump egress                the layers, as in the container's own table
//!          remember the flow: accept
//!
//! egress   what it is to receive      the same the other way round: enters4, enters6; remembered where it is to an
//!                                     address of its own
//! ```
//!
//! Where nothing judges a direction it has neither the fragments nor the replies, and where nothing judges the other one nothing is
//! remembered.
//!
//! Why it is so:
//!
//! * **No conntrack.** Family netdev has none, and a bridged packet meets none of the host's either. Sets remember which flows
//!   were let through ([`flows`]), under the peer's address, the protocol and both ports. A reply is what such a flow's key
//!   says; everything else is asked of the layers, each packet, not only the first. So nothing that the container makes its
//!   own conntrack believe counts here.
//! * **Its own source, or nothing.** The addresses are those that it had before its process ran. With any other source it could
//!   have a packet routed back to itself and so begin, from outside, a flow that it may then answer. An address that comes later
//!   is not believed.
//! * **A flow that may be answered was to the container.** A container can have a bridge send it its neighbours' frames, by
//!   their hardware addresses. Those come in as before, but nothing is remembered of them: their flows are not its own to
//!   go on with.
//! * **No port, no passage.** The first fragment of an IPv6 packet may end before the transport header (RFC 7112). What denies
//!   a port takes no notice of it, and the port comes in the next one.
//! * **The frame's own type, not the kernel's idea of it** ([`Match::FrameType`]): a VLAN tag makes it another frame.
//! * **Fragments** have no ports but in the first. That one is judged, and the others of the same packet follow it. The ports
//!   stand in the first eight bytes of the transport header, and fragments begin at multiples of eight, so no later one can
//!   replace a part of them.
//! * **ICMP errors** come in where they cite a packet of a flow that was let out, or of an answer; none goes out unless a layer
//!   lets it.
//! * **It speaks for itself alone** ([`neighbours`]): its neighbours believe whoever claims an address.
//! * **Denial is silence.** The container's own table, as long as it is there, answers before.
//!
//! A flow is remembered while packets come the way it was begun: TCP for two hours (RFC 5382, REQ-5, asks a NAT for no less), others
//! for three minutes, one that ends or has no answer for another minute.

use std::net::IpAddr;

use self::flows::Way;
use super::{Builder, counted, judges, rule, version};
use crate::error::{Cause, Failure};
use crate::net::{Direction, Family};
use crate::nft::filter::{Denial, Filter, Layer};
use crate::nft::ruleset::{Base, Chain, Hook, Match, Rule, Side, Statement, Table, TableFamily, Verdict};
use crate::nft::wire::uapi::{ETH_P_ARP, ETH_P_IP, ETH_P_IPV6};

mod flows;
mod neighbours;

/// How the names of the sets with the container's own addresses begin.
pub const OWN: &str = "own";

/// How the names of these tables begin.
pub const HOST_TABLE: &str = "netlatch-";

/// The name of a container's table: its id as an identifier of `nft` (scanner.l, `string`), which has no `+`. No two ids have
/// one name, or the second would replace the first one's rules.
///
/// # Errors
/// [`Cause::Limit`] for an id that comes to more than the 255 bytes of a table's name (`NFT_NAME_MAXLEN`).
pub fn host_table(id: &str) -> Result<String, Failure> {
    let name = format!("{HOST_TABLE}{}", id.replace('_', "__").replace('+', "_p"));
    if name.len() > NAME_LIMIT {
        let problem =
            format!("the container's id makes a table's name longer than {NAME_LIMIT} bytes (NFT_NAME_MAXLEN)");
        return Err(Failure::new("name the table at the host's side", Cause::Limit(problem)));
    }
    Ok(name)
}

/// The id of the container that a table of that name is of.
pub fn container_of(table: &str) -> Option<String> {
    let mut rest = table.strip_prefix(HOST_TABLE)?;
    let mut id = String::with_capacity(rest.len());
    while let Some((before, escaped)) = rest.split_once('_') {
        id.push_str(before);
        id.push(match escaped.chars().next()? {
            '_' => '_',
            'p' => '+',
            _ => return None,
        });
        rest = &escaped[1..];
    }
    id.push_str(rest);
    Some(id)
}

/// `NFT_NAME_MAXLEN` less the closing NUL.
const NAME_LIMIT: usize = 255;

/// The table `name` for the host's ends `devices` of a container's links; `own` are the container's addresses. `None` where
/// `filter` denies nothing in earnest. Its comment is the caller's.
///
/// # Errors
/// As [`build`](super::build()).
pub fn host_side(filter: &Filter, name: String, devices: &[String], own: &[IpAddr]) -> Result<Option<Table>, Failure> {
    // What is only audited, is so in the container's own table.
    let earnest = |denial: Denial| denial != Denial::Audit;
    let layers: Vec<Layer> = filter.layers.iter().filter(|layer| earnest(layer.denial)).cloned().collect();
    let policies: Vec<_> = filter.policies.iter().filter(|policy| earnest(policy.denial)).cloned().collect();
    let mut filter = Filter { layers, policies, ..filter.clone() };
    filter.layers.iter_mut().for_each(|layer| layer.denial = Denial::Drop);
    filter.policies.iter_mut().for_each(|policy| policy.denial = Denial::Drop);
    if !Direction::BOTH.into_iter().any(|direction| judges(&filter, direction)) && filter.families() == Family::BOTH {
        return Ok(None);
    }
    let mut builder = Builder::new(filter.families());
    for direction in Direction::BOTH {
        builder.direction(&filter, direction)?;
    }
    for family in filter.families() {
        builder.own_addresses(*family, own);
        for direction in Direction::BOTH {
            builder.remembering(&filter, direction, *family);
        }
    }
    for direction in Direction::BOTH {
        builder.device(&filter, direction, devices);
    }
    let (sets, chains) = (builder.sets, builder.chains);
    Ok(Some(Table { name, sets, chains, ..Table::empty(TableFamily::Netdev) }))
}

/// The set of the container's own addresses.
fn own(family: Family) -> String {
    format!("{OWN}{}", version(family))
}

const fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::Egress => Direction::Ingress,
        Direction::Ingress => Direction::Egress,
    }
}

fn all_of(statements: Vec<Statement>, matches: Vec<Match>, verdict: Option<Verdict>, comment: &str) -> Rule {
    Rule { matches, statements, verdict, comment: comment.to_owned() }
}

impl Builder {
    /// The base chain of a direction, and its chain for each family.
    fn device(&mut self, filter: &Filter, direction: Direction, devices: &[String]) {
        let (hook, verb) = match direction {
            Direction::Egress => (Hook::Ingress, "leaves"),
            Direction::Ingress => (Hook::Egress, "enters"),
        };
        let arp = match direction {
            Direction::Egress => self.arp(),
            Direction::Ingress => Verdict::Accept,
        };
        let mut rules = vec![rule(vec![Match::FrameType(ETH_P_ARP)], arp, "ARP")];
        for family in self.families {
            let (number, chain) = match family {
                Family::V4 => (ETH_P_IP, format!("{verb}4")),
                Family::V6 => (ETH_P_IPV6, format!("{verb}6")),
            };
            rules.push(rule(vec![Match::FrameType(number)], Verdict::Goto(chain.clone()), chain.as_str()));
            self.family_chain(filter, direction, *family, chain);
        }
        rules.push(counted(Vec::new(), Verdict::Drop, "a frame of another kind"));
        let base = Some(Base { hook, accepts: false, devices: devices.to_vec(), every_device: false });
        self.chains.push(Chain { name: format!("from_{}", hook.name()), base, rules });
    }

    fn family_chain(&mut self, filter: &Filter, direction: Direction, family: Family, name: String) {
        let judged = match direction {
            Direction::Egress => {
                let own = Match::AddressIn(Side::Source, family, own(family));
                let judged = format!("{name}_own");
                let mut rules = vec![rule(vec![own], Verdict::Goto(judged.clone()), "an address of the container")];
                if family == Family::V6 {
                    rules.extend(neighbours::unspecified_source());
                }
                rules.push(counted(Vec::new(), Verdict::Drop, "not an address of the container"));
                self.chains.push(Chain { name, base: None, rules });
                judged
            }
            Direction::Ingress => name,
        };
        let way =
            Way { direction, family, judged: judges(filter, direction), answered: judges(filter, opposite(direction)) };
        let mut rules = Vec::new();
        if way.judged {
            rules.extend(way.later_fragments());
        }
        if family == Family::V6 {
            rules.extend(self.neighbours(filter, &way));
        }
        if way.judged {
            if direction == Direction::Ingress {
                rules.extend(self.errors(&way));
            }
            rules.extend(self.answers(&way, &judged));
            rules.push(rule(Vec::new(), Verdict::Jump(direction.name().to_owned()), "layers"));
        }
        if way.answered && direction == Direction::Ingress {
            let to_it = Match::AddressIn(Side::Destination, family, own(family));
            let begins = format!("{judged}_own");
            rules.push(rule(vec![to_it], Verdict::Goto(begins.clone()), "to the container"));
            rules.extend(self.passes(&Way { answered: false, ..way }, &judged));
            let passes = self.passes(&way, &begins);
            self.chains.push(Chain { name: begins, base: None, rules: passes });
        } else {
            rules.extend(self.passes(&way, &judged));
        }
        self.chains.push(Chain { name: judged, base: None, rules });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tables_name_says_whose_it_is() {
        for (id, name) in [("web.1-a", "netlatch-web.1-a"), ("a_b+c", "netlatch-a__b_pc"), ("_p+_", "netlatch-__p_p__")]
        {
            assert_eq!(host_table(id).unwrap(), name);
            assert_eq!(container_of(name).as_deref(), Some(id));
        }
        for name in ["netlatch", "filter", "netlatch-a_b", "netlatch-a_", "netlatch-_\u{e9}"] {
            assert_eq!(container_of(name), None, "{name}");
        }
        assert!(host_table(&"a".repeat(247)).is_err());
        assert!(host_table(&"a".repeat(246)).is_ok());
    }
}
