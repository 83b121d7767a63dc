//! Sets whose members come and go while the rules stay: what they are called, what is in them, how they change.
//!
//! A [`Group`](super::filter::Group) is one set for each family. Both are declared even where nobody is in them, so
//! that a peer can be admitted later by one message to the kernel.

use crate::error::{Cause, Failure};
use crate::net::{AddrRange, Family, Member, bits_of};
use crate::nft::ruleset::{KeyType, Kind, Set};

/// What one set is to gain and to lose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The set's whole name, family included: [`set_name`].
    pub set: String,
    /// Who comes. Who is there already stays.
    pub add: Vec<Member>,
    /// Who goes. Who is not there is no error.
    pub remove: Vec<Member>,
}

/// The name of a group's set of one family.
pub fn set_name(stem: &str, family: Family) -> String {
    match family {
        Family::V4 => format!("{stem}_v4"),
        Family::V6 => format!("{stem}_v6"),
    }
}

/// The changes of a group's sets, one for each family that has any. `families` are those that the container's table
/// has sets for: [`Filter::families`](super::filter::Filter::families).
pub fn changes(stem: &str, families: &[Family], add: &[Member], remove: &[Member]) -> Vec<Change> {
    let of = |members: &[Member], family| members.iter().filter(|m| Family::of(m.address) == family).copied().collect();
    let change =
        |family: &Family| Change { set: set_name(stem, *family), add: of(add, *family), remove: of(remove, *family) };
    families.iter().map(change).filter(|change| !change.add.is_empty() || !change.remove.is_empty()).collect()
}

/// The sets of a group.
///
/// # Errors
/// [`Cause::Internal`] where a member has a port and the set has none, or the other way round.
pub fn sets(stem: &str, families: &[Family], with_port: bool, members: &[Member]) -> Result<Vec<Set>, Failure> {
    let set = |family: &Family| {
        let spans = spans(members, *family, with_port)?;
        Ok(Set { name: set_name(stem, *family), key: key(*family, with_port), kind: Kind::Members, spans })
    };
    families.iter().map(set).collect()
}

/// The key of a set that holds such members.
pub(super) fn key(family: Family, with_port: bool) -> Vec<KeyType> {
    let address = KeyType::address(family);
    if with_port { vec![address, KeyType::InetProto, KeyType::InetService] } else { vec![address] }
}

/// The elements of a set of one family, sorted, nobody twice: one range a field, as [`key`] has them.
///
/// # Errors
/// [`Cause::Internal`] where a member has a port and the set has none, or the other way round.
fn spans(members: &[Member], family: Family, with_port: bool) -> Result<Vec<AddrRange>, Failure> {
    let mut sorted: Vec<&Member> = members.iter().filter(|member| Family::of(member.address) == family).collect();
    sorted.sort_unstable();
    sorted.dedup();
    let mut spans = Vec::with_capacity(sorted.len() * if with_port { 3 } else { 1 });
    for member in sorted {
        if member.port.is_some() != with_port {
            return Err(misfit(member));
        }
        fields(member).for_each(|value| spans.push(AddrRange { first: value, last: value }));
    }
    Ok(spans)
}

/// The values of a member's fields.
pub(super) fn fields(member: &Member) -> impl Iterator<Item = u128> {
    let port = member.port.map(|(transport, port)| [transport.number().into(), port.into()]);
    std::iter::once(bits_of(member.address)).chain(port.into_iter().flatten())
}

pub(super) fn misfit(member: &Member) -> Failure {
    let Member { address, port } = member;
    let held = match port {
        Some((transport, port)) => format!("{address} {transport}/{port}"),
        None => address.to_string(),
    };
    Failure::new("fill a set of peers", Cause::Internal(format!("{held} is of another kind than its set")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Transport;

    fn member(address: &str, port: Option<u16>) -> Member {
        Member { address: address.parse().unwrap(), port: port.map(|port| (Transport::Tcp, port)) }
    }

    #[test]
    fn a_change_is_split_by_family_and_says_nothing_of_sets_that_stay() {
        let add = [member("10.0.0.1", None), member("fd00::1", None)];
        let remove = [member("10.0.0.2", None)];
        let split = changes("egress_network_1", &Family::BOTH, &add, &remove);
        assert_eq!(split.len(), 2);
        assert_eq!(split[0].set, "egress_network_1_v4");
        assert_eq!((&split[0].add[..], &split[0].remove[..]), (&add[..1], &remove[..]));
        assert_eq!((split[1].set.as_str(), &split[1].add[..]), ("egress_network_1_v6", &add[1..]));
        assert_eq!(changes("s", &[Family::V4], &add[1..], &[]), [], "a container without IPv6 has no such set");
    }

    #[test]
    fn tables_that_differ_in_members_alone_are_told_from_others() {
        use crate::nft::ruleset::{Table, TableFamily};
        let table = |address: &str| {
            let mut table = Table::empty(TableFamily::Inet);
            table.sets = sets("ingress_network_1", &Family::BOTH, false, &[member(address, None)]).unwrap();
            table
        };
        let (one, two) = (table("10.0.0.1"), table("10.0.0.2"));
        assert!(one != two && one.differs_in_members_alone(&two));
        let fixed = |mut table: Table| {
            table.sets.iter_mut().for_each(|set| set.kind = Kind::Hash);
            table
        };
        assert!(!one.differs_in_members_alone(&fixed(two.clone())));
        assert!(!fixed(one.clone()).differs_in_members_alone(&fixed(two.clone())), "there they are part of the rules");
        assert!(!one.differs_in_members_alone(&Table { comment: "another plan".into(), ..two.clone() }));
        assert!(!one.differs_in_members_alone(&Table { guard: Some(Box::new(one.clone())), ..two.clone() }));
        assert!(!one.differs_in_members_alone(&Table { sets: two.sets[..1].to_vec(), ..two }));
    }

    #[test]
    fn elements_are_sorted_and_nobody_is_in_twice() {
        let members = [member("10.0.0.2", None), member("10.0.0.1", None), member("10.0.0.2", None)];
        let spans = spans(&members, Family::V4, false).unwrap();
        assert_eq!(spans.iter().map(|span| span.first & 0xff).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn a_member_of_another_kind_than_its_set_is_an_error() {
        for (port, with_port) in [(None, true), (Some(80), false)] {
            let failure = spans(&[member("10.0.0.1", port)], Family::V4, with_port).unwrap_err();
            assert!(matches!(failure.cause, Cause::Internal(_)), "{failure}");
        }
    }
}
