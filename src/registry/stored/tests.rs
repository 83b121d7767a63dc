use proptest::prelude::*;

use super::header::VERSION;
use super::*;
use crate::kernel::netns::NamespaceId;
use crate::net::{PortRange, Transport};
use crate::policy::model::{Action, Namespaces, Operator, Port, Requirement, Selector};
use crate::policy::names::NamedPort;
use crate::policy::watch::{WatchedGroup, WatchedPeer};
use crate::registry::{Anchor, Container};

/// The file, as it is on a disk.
#[derive(Clone, Debug, Default)]
struct File(Vec<u8>);

impl File {
    /// All that the writes of a change leave when it is interrupted behind each of them, or within.
    fn write(&mut self, writing: &Writing) -> Vec<File> {
        let mut on_the_way = Vec::new();
        let mut put = |place: usize, bytes: &[u8]| {
            for count in 0..=bytes.len() {
                let mut file = self.clone();
                file.0.resize(file.0.len().max(place + count), 0);
                file.0[place..place + count].copy_from_slice(&bytes[..count]);
                on_the_way.push(file);
            }
            *self = on_the_way.last().unwrap().clone();
        };
        match writing {
            Writing::Whole(bytes) => {
                put(0, bytes);
                self.0.truncate(bytes.len());
            }
            Writing::Behind(place, more, header) => {
                put(*place as usize, more);
                put(0, header);
            }
        }
        on_the_way
    }

    fn finish(&mut self) {
        self.0[STATE_AT as usize] = State::Finished.byte();
    }

    /// As who holds the lock reads it.
    fn read(&self) -> Result<Stored, &'static str> {
        let stored = Stored::read(&self.0)?;
        if stored.is_all_of(self.0.len() as u64) { Ok(stored) } else { Err("it is torn or damaged") }
    }

    fn since(&self, earlier: &Stored) -> Option<Stored> {
        let first = self.0.first_chunk()?;
        earlier.continued(first, self.0.len() as u64, |place, bytes| {
            let there = self.0.get(place as usize..).unwrap_or_default();
            bytes.copy_from_slice(there.get(..bytes.len()).ok_or(std::io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn of(roster: &Roster) -> (File, Stored) {
        let (mut file, mut stored) = (File::default(), Stored::default());
        file.write(&stored.change_to(roster).unwrap());
        (file, stored)
    }
}

/// One of everything that can be stored.
fn roster() -> Roster {
    let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let identity = Shared::new(Identity {
        namespace: "shop".into(),
        namespace_labels: labels(&[("kubernetes.io/metadata.name", "shop")]),
        labels: labels(&[("app", "web"), ("tier", "front")]),
        ports: vec![NamedPort { name: "http".into(), port: 8080, protocol: Transport::Tcp }],
    });
    let requirement = |operator| Requirement { key: "app".into(), operator, values: vec!["web".into()] };
    let peer = |namespaces| WatchedPeer {
        namespaces,
        pods: Selector {
            requirements: [Operator::In, Operator::NotIn, Operator::Exists, Operator::DoesNotExist]
                .map(requirement)
                .into(),
        },
        within: Some(("10.0.0.0/8".parse().unwrap(), vec!["10.1.0.0/16".parse().unwrap()])),
        ports: vec![
            Port::Number { transport: Transport::Sctp, ports: PortRange::new(80, 90).unwrap() },
            Port::Named { transport: Some(Transport::Udp), name: "dns".into() },
        ],
    };
    let group = |action| WatchedGroup {
        set: "egress_network_1".into(),
        action,
        peers: vec![peer(Namespaces::Own("shop".into())), peer(Namespaces::Selected(Selector::default()))],
    };
    let watch = Shared::new(Watch {
        ipv6: true,
        services: true,
        groups: [Action::Accept, Action::Deny, Action::Pass].map(group).into(),
    });
    let subject = |ino, anchor, table: Option<&str>, watch: Option<&Shared<Watch>>| {
        Rc::new(Subject {
            netns: NamespaceId { dev: 4, ino },
            cookie: (ino > 1).then_some(ino << 40),
            containers: vec![Container { id: format!("container-{ino}"), anchor, identity: identity.clone() }],
            addresses: vec!["10.1.2.3".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            identity: identity.clone(),
            table: table.map(|table| Shared::new(table.to_owned())),
            watch: watch.cloned(),
            behind: ino == 2,
        })
    };
    let mut roster = Roster {
        subjects: vec![
            subject(1, Anchor::Process { pid: 42, started: 1_000_000 }, Some("netlatch 0 plan 1"), Some(&watch)),
            subject(2, Anchor::Path("/run/netns/a".into()), None, Some(&watch)),
            subject(3, Anchor::Process { pid: 43, started: u64::MAX }, None, None),
        ],
        moving: vec!["10.1.2.4".parse().unwrap(), "2001:db8::2".parse().unwrap()],
    };
    // Two in one namespace who are not the same.
    let last = Rc::make_mut(&mut roster.subjects[2]);
    let ports = vec![NamedPort { name: "dns".into(), port: 53, protocol: Transport::Udp }];
    let identity = Shared::new(Identity { namespace: "default".into(), ports, ..Identity::default() });
    let anchor = Anchor::Process { pid: 44, started: 1 };
    last.containers.push(Container { id: "sidecar".into(), anchor, identity });
    last.name();
    roster
}

#[test]
fn what_is_stored_comes_back_and_is_shared_again() {
    let (mut file, _) = File::of(&roster());
    for finished in [false, true] {
        let read = file.read().unwrap();
        assert_eq!((&read.roster, read.is_finished()), (&roster(), finished));
        let subjects = &read.roster.subjects;
        assert!(subjects[0].identity.is(&subjects[1].identity));
        assert!(subjects[0].identity.is(&subjects[2].containers[0].identity));
        assert_eq!(read.roster.watches().len(), 1);
        file.finish();
    }
    assert_eq!(File::of(&Roster::default()).0.read().unwrap().roster, Roster::default());
}

#[test]
fn what_changes_is_written_behind_and_who_is_as_before_is_shared_with_the_earlier_reading() {
    let (mut file, mut stored) = File::of(&roster());
    let earlier = file.read().unwrap();
    assert!(file.since(&earlier).unwrap().is(&earlier));
    let mut change = |change: &dyn Fn(&mut Roster)| {
        let (before, mut now) = (file.0.len(), stored.roster.clone());
        change(&mut now);
        let writing = stored.change_to(&now).unwrap();
        let Writing::Behind(place, more, _) = &writing else { panic!("{writing:?}") };
        assert_eq!(*place as usize, before);
        let more = more.len();
        file.write(&writing);
        let since = file.since(&earlier).unwrap();
        assert_eq!((&since.roster, &file.read().unwrap().roster, since.is(&earlier)), (&now, &now, false));
        let both = since.roster.subjects.iter().zip(&earlier.roster.subjects);
        (more, both.map(|(now, then)| Rc::ptr_eq(now, then)).collect::<Vec<_>>())
    };
    // Somebody new, with an identity of his own, behind the others.
    let (more, shared) = change(&|now| {
        let mut new = Subject::clone(&now.subjects[0]);
        new.netns.ino = 9;
        new.containers[0].identity = Shared::new(Identity { namespace: "new".into(), ..Identity::default() });
        new.name();
        now.subjects.push(Rc::new(new));
    });
    assert_eq!(shared, [true; 3]);
    assert!((100..200).contains(&more), "{more}");
    // The second is behind no more.
    let (more, shared) = change(&|now| Rc::make_mut(&mut now.subjects[1]).behind = false);
    assert_eq!(shared, [true, false, true]);
    assert!(more < 150, "{more}");
    // The first is gone, and the last is in its place.
    let (_, shared) = change(&|now| drop(now.subjects.swap_remove(0)));
    assert_eq!(shared, [false, false, true]);
    // Nothing at all.
    assert_eq!(change(&|_| ()).0, 0);
    let (_, shared) = change(&|now| now.moving.clear());
    assert_eq!(shared, [false, false, true]);
    let (more, _) = change(&|now| now.subjects.clear());
    assert_eq!(more, 16);
}

#[test]
fn what_was_outweighs_what_is_until_all_is_written_anew() {
    let (mut file, mut stored) = File::of(&roster());
    let (mut longest, mut anew) = (0, 0);
    for n in 0..4000 {
        let mut now = stored.roster.clone();
        Rc::make_mut(&mut now.subjects[0]).netns.ino = 100 + n;
        let earlier = stored.clone();
        let writing = stored.change_to(&now).unwrap();
        if let Writing::Whole(_) = writing {
            anew += 1;
            file.write(&writing);
            // What was read before says nothing of it.
            assert!(file.since(&earlier).is_none());
        } else if let Writing::Behind(place, more, header) = writing {
            file.0.truncate(place as usize);
            file.0.extend(more);
            file.0[..HEADER].copy_from_slice(&header);
        }
        longest = longest.max(file.0.len());
    }
    assert_eq!(file.read().unwrap().roster, stored.roster);
    assert!(longest < 70_000 && (4..20).contains(&anew), "{longest} {anew}");
}

#[test]
fn whose_turn_it_is_is_kept() {
    let (mut file, mut stored) = File::of(&roster());
    assert_eq!(file.read().unwrap().turn(), 0);
    stored.set_turn(77);
    file.write(&stored.change_to(&roster()).unwrap());
    assert_eq!(file.read().unwrap().turn(), 77);
    let mut unknown = Stored::default();
    unknown.set_turn(78);
    file.write(&unknown.change_to(&roster()).unwrap());
    assert_eq!(file.read().unwrap().turn(), 78);
}

#[test]
fn what_is_stored_changes_only_with_the_version() {
    // When this fails, raise VERSION, and then write here what it is now.
    let (file, stored) = File::of(&roster());
    assert_eq!((VERSION, file.0.len(), stored.header.checksum), (5, 1144, 6_435_460_401_577_903_211));
}

#[test]
fn what_cannot_be_used_is_told_from_what_can() {
    let (good, _) = File::of(&roster());
    let with = |at: usize, byte: u8| {
        let mut file = good.clone();
        file.0[at] = byte;
        file.read().unwrap_err()
    };
    assert_eq!(File::default().read().unwrap_err(), "it is empty");
    assert_eq!(File(good.0[..20].to_vec()).read().unwrap_err(), "it is cut off");
    assert_eq!(with(0, 0), "it is something else");
    assert_eq!(with(8, 99), "another version wrote it");
    assert_eq!(with(12, 0), "its state is none");
    assert_eq!(File(good.0[..good.0.len() - 1].to_vec()).read().unwrap_err(), "it is torn or damaged");
    assert_eq!(with(good.0.len() - 1, 0xff), "it is torn or damaged");
    assert_eq!(with(16, 0xff), "it is torn or damaged");
    let longer = File([&good.0[..], &[0]].concat());
    assert_eq!(longer.read().unwrap_err(), "it is torn or damaged");
    assert_eq!(Stored::read(&longer.0).unwrap().roster, roster(), "without the lock somebody may be writing");
}

/// Entries behind a header that fits them.
fn fitting(content: &[u8]) -> Result<Roster, &'static str> {
    let header = Header::default().and(content);
    File([&header.bytes()[..], content].concat()).read().map(|stored| stored.roster)
}

#[test]
fn places_that_are_none_are_refused() {
    let (good, _) = File::of(&roster());
    let content = &good.0[HEADER..];
    assert_eq!(fitting(content), Ok(roster()));
    // Every entry in turn is left out, made another kind, or cut.
    let mut begin = 0;
    let mut kinds = Vec::new();
    while begin < content.len() {
        let length = u32::from_le_bytes(*content[begin + 4..].first_chunk().unwrap()) as usize;
        let end = begin + 8 + length.next_multiple_of(8);
        kinds.push(content[begin]);
        let without = [&content[..begin], &content[end..]].concat();
        let last = end == content.len();
        assert!(fitting(&without) != Ok(roster()), "{begin}");
        assert!(last || fitting(&without).is_err() || kinds.last() == Some(&4), "{begin}");
        for kind in [0, 7, 255] {
            let mut other = content.to_vec();
            other[begin] = kind;
            assert_eq!(fitting(&other), Err("it does not hang together"), "kind {kind} at {begin}");
        }
        for shift in [-8_i32, 8] {
            let mut other = content.to_vec();
            other[begin + 4..begin + 8].copy_from_slice(&(length as i32 + shift).to_le_bytes());
            assert!(fitting(&other).is_err(), "a length {shift} at {begin}");
        }
        begin = end;
    }
    kinds.sort_unstable();
    assert_eq!(kinds, [1, 1, 2, 3, 4, 4, 4, 6]);
    // More subjects left than there are, and one behind the next.
    let mut more = content.to_vec();
    entries::put(&mut more, Kind::Count, |body| body.extend(4_u32.to_le_bytes()));
    assert!(fitting(&more).is_err());
    let mut less = content.to_vec();
    entries::put(&mut less, Kind::Count, |body| body.extend(2_u32.to_le_bytes()));
    assert_eq!(fitting(&less).unwrap().subjects[..], roster().subjects[..2]);
    let mut next = content.to_vec();
    entries::put_subject(&mut next, 4, &roster().subjects[0], &[0], None, None);
    assert!(fitting(&next).is_err());
}

/// Some of four subjects at some places.
fn some(places: &[usize]) -> Roster {
    let mut some = Roster::default();
    let all = roster();
    for (place, which) in places.iter().enumerate() {
        let mut subject = Subject::clone(&all.subjects[which % 3]);
        subject.netns.ino = 10 * (place as u64 + 1) + *which as u64;
        some.subjects.push(Rc::new(subject));
    }
    some.moving.extend(all.moving.iter().take(places.len() % 3));
    some
}

proptest! {
    #[test]
    fn a_write_that_was_interrupted_is_seen(
        before in proptest::collection::vec(0_usize..4, 0..4),
        after in proptest::collection::vec(0_usize..4, 0..4),
        behind in any::<bool>(),
    ) {
        let (before, mut after) = (some(&before), some(&after));
        let (mut file, mut stored) = File::of(&before);
        file.finish();
        let old = file.read().unwrap();
        // Who stays the same is shared, as a start finds it.
        for (now, then) in after.subjects.iter_mut().zip(&before.subjects) {
            if now == then {
                *now = Rc::clone(then);
            }
        }
        if !behind {
            stored = Stored::default();
        }
        let on_the_way = file.write(&stored.change_to(&after).unwrap());
        prop_assert_eq!(&file.read().unwrap().roster, &after);
        for cut in on_the_way {
            match cut.read() {
                // Nothing was written, or the state alone: no set has been changed yet.
                Ok(read) if read.roster == before && read.is_finished() => {
                    prop_assert!(after == before || cut.0[16..HEADER] == old.header.bytes()[16..]);
                }
                Ok(read) => prop_assert!(!read.is_finished() && (read.roster == after || read.roster == before)),
                Err(_) => {}
            }
            // Who glanced at it before knows no less.
            if let Some(since) = cut.since(&old) {
                prop_assert_eq!(cut.read().ok().map(|read| read.roster), Some(since.roster));
            }
        }
    }

    #[test]
    fn one_change_after_another_is_read_as_it_was_written(
        changes in proptest::collection::vec(proptest::collection::vec(0_usize..4, 0..6), 1..12),
        glance in 0_usize..12,
    ) {
        let (mut file, mut stored) = File::of(&Roster::default());
        let mut glanced = None;
        for (number, change) in changes.iter().enumerate() {
            let mut now = some(change);
            for (now, then) in now.subjects.iter_mut().zip(&stored.roster.subjects) {
                if *now == *then {
                    *now = Rc::clone(then);
                }
            }
            file.write(&stored.change_to(&now).unwrap());
            prop_assert_eq!(&file.read().unwrap().roster, &now);
            prop_assert_eq!(&stored.roster, &now);
            if number == glance {
                glanced = Some(file.read().unwrap());
            }
            if let Some(glanced) = &glanced {
                prop_assert_eq!(&file.since(glanced).unwrap().roster, &now);
            }
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = File(bytes.clone()).read();
        let _ = fitting(&bytes);
    }
}
