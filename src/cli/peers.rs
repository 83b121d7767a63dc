//! The part of a stage that concerns other containers: their identities and addresses for this one's rules, and this one's
//! for their sets.
//!
//! Whoever changes who there is holds the registry's lock from the first look at the roster until every set that follows is
//! changed: of two starts at once each would otherwise miss the other.

use std::net::IpAddr;
use std::rc::Rc;

use crate::error::{Cause, Failure};
use crate::kernel::checkpoint;
use crate::kernel::conntrack::forget_peer;
use crate::kernel::laps::lap;
use crate::kernel::link::global_addresses;
use crate::kernel::netns::{Inside, NamespaceId, Own, cookie};
use crate::kernel::process::Deadline;
use crate::kernel::socket::Closing;
use crate::kernel::tables::Tables;
use crate::live::{self, Update};
use crate::nft::ruleset::Table;
use crate::policy::lookup::World;
use crate::policy::parse::Manifests;
use crate::policy::watch::{Holders, Identity, Watch};
use crate::policy::world::Inventory;
use crate::registry::{Arrival, Container, Glance, Lock, Look, Record, Registry, Roster, Stored, Subject, boot_ms};

/// How many subjects are asked each time whether they live, one after another, so that it costs the same among any number: half
/// a microsecond each. A thousand have been asked after eight starts and stops.
const ASKED_EACH_TIME: usize = 128;
/// How many of these are looked at closely, whoever they are: 15 µs each.
const CLOSELY_EACH_TIME: usize = 4;

/// Everybody who runs on this host, and the lock.
pub(super) struct Peers<'r> {
    registry: &'r Registry,
    pub(super) lock: Lock,
    /// As the sets of running containers have it.
    before: Roster,
    /// As it is to be.
    pub(super) roster: Roster,
    /// As its file has it.
    pub(super) stored: Stored,
    /// Whether any set may be wrong: an earlier change was cut off, or the roster had to be made anew.
    pub(super) unsettled: bool,
    /// Addresses that changed hands in a change that was cut off, or that somebody has not heard of: flows with them may not
    /// have been ended.
    pub(super) owed: Vec<IpAddr>,
    /// Whether addresses have to be asked for: the roster was made from records, and not all have them.
    pub(super) rebuilt: bool,
    /// Whether they are who was glanced at before the lock was there, and all of them live.
    pub(super) glanced: bool,
    /// Whether not all who count are known: what is changed now has to be looked at again.
    pub(super) partial: bool,
    /// The record of who has been entered. It is written when the roster names it already, so that whoever finds the
    /// container dead forgets the record as well.
    pub(super) recording: Option<Record>,
    deadline: Deadline,
    /// Closed behind the lock: who waits for that need not wait for a grace period as well.
    pub(super) closing: Closing,
}

impl<'r> Peers<'r> {
    /// Takes the lock and reads who there is. Those that ended without a word are left out from here on, and those that
    /// `closely` names are looked at closely. `leaving` says so itself. What was glanced at is not read again where it still holds.
    pub(super) fn meet(
        registry: &'r Registry,
        glance: Option<&Glance>,
        inventory: &Inventory,
        closely: impl Fn(&Subject) -> bool,
        leaving: Option<&str>,
        deadline: &Deadline,
    ) -> Result<Peers<'r>, Failure> {
        let lock = registry.lock(deadline)?;
        let mut loaded = registry.roster_since(&lock, glance, |namespace| inventory.namespace_labels(namespace))?;
        lap("read the roster");
        let moving = std::mem::take(&mut loaded.roster.moving);
        let owes = !loaded.finished || loaded.roster.subjects.iter().any(|subject| subject.behind);
        let owed = if owes { moving } else { Vec::new() };
        let mut roster = loaded.roster.clone();
        // Who ended without a word is looked for among some, the next time among others. A process that got the number of one
        // that ended is not told from it in the cheap way: a few of them are looked at closely, by chance.
        let everybody = roster.subjects.len().max(1);
        let turn = loaded.stored.turn() as usize % everybody;
        let shares = (everybody.min(ASKED_EACH_TIME) / CLOSELY_EACH_TIME).max(1);
        let share = boot_ms() as usize % shares;
        let reaped = roster.reap(|place, subject| match (place + everybody - turn) % everybody < ASKED_EACH_TIME {
            true if place % shares == share => Look::Closely,
            _ if closely(subject) => Look::Closely,
            true => Look::Cheaply,
            false => Look::Away,
        });
        loaded.stored.set_turn(((turn + ASKED_EACH_TIME) % everybody) as u32);
        for container in reaped.containers.iter().filter(|container| Some(container.id.as_str()) != leaving) {
            log::warn!("container {}: it ended without a poststop; its addresses are withdrawn", container.id);
        }
        registry.forget_dead(&lock, reaped.containers.iter().map(Container::held));
        lap("see who lives");
        Ok(Peers {
            registry,
            lock,
            before: loaded.roster,
            stored: loaded.stored,
            roster,
            unsettled: !loaded.finished,
            owed,
            rebuilt: loaded.rebuilt,
            glanced: loaded.glanced && reaped.containers.is_empty(),
            partial: false,
            recording: None,
            deadline: *deadline,
            closing: Closing::default(),
        })
    }

    /// What selectors see of a namespace that a container with `identity` is in or joins.
    ///
    /// # Errors
    /// [`Cause::NotPermitted`] where others live there under another name: a container that joins a pod's network must
    /// not give the pod another identity.
    pub(super) fn join(
        &self,
        id: &str,
        (netns, cookie): (NamespaceId, Option<u64>),
        identity: &Identity,
    ) -> Result<(), Failure> {
        // Who has the number of a namespace that is gone, its first process being elsewhere, does not live there.
        let Some(subject) = self.roster.find(netns).filter(|subject| subject.is_at(netns, cookie)) else {
            return Ok(());
        };
        let others = subject.containers.iter().find(|container| container.id != id);
        let same = identity.namespace == subject.identity.namespace && identity.labels == subject.identity.labels;
        match others {
            Some(other) if !same && !identity.is_anybody() && !subject.identity.is_anybody() => Err(Failure::new(
                "protect the container",
                Cause::NotPermitted {
                    asked: format!("container {id} says it is {}", shown(identity)),
                    against: format!(
                        "shares its network with container {}, which is {}",
                        other.id,
                        shown(&subject.identity)
                    ),
                },
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// Enters a container. Whoever is gone by that is no peer any more.
    pub(super) fn enter(&mut self, arrival: Arrival) {
        let gone = self.roster.enter(arrival);
        let containers = gone.iter().flat_map(|subject| &subject.containers);
        self.registry.forget_dead(&self.lock, containers.map(Container::held));
    }

    /// The subject of a namespace as it was found.
    pub(super) fn known(&self, netns: NamespaceId, cookie: Option<u64>) -> Option<&Subject> {
        self.before.find(netns).filter(|subject| subject.is_at(netns, cookie))
    }

    /// Notes the addresses that a namespace has now.
    pub(super) fn found_at(&mut self, netns: NamespaceId, addresses: &[IpAddr]) {
        if let Some(subject) = self.roster.subjects.iter_mut().find(|subject| subject.netns == netns) {
            Rc::make_mut(subject).addresses = addresses.to_vec();
        }
    }

    /// Brings the sets of running containers about: those whose peers changed and those that are behind, or all of them
    /// where any may be wrong. `but` is the namespace whose table was made from the new picture, and where nobody was before.
    ///
    /// # Errors
    /// [`Cause::RunDir`] where the roster cannot be written, [`Cause::Limit`] where services have grown past what can be asked:
    /// nothing was changed then. A container that cannot be visited
    /// does not hold this one up: its sets stay as they were, the log says so, and the next change tries again.
    pub(super) fn settle(
        mut self,
        own: &Own,
        manifests: &Manifests,
        but: Option<NamespaceId>,
    ) -> Result<Vec<String>, Failure> {
        let elsewhere = &manifests.inventory.peers();
        if self.rebuilt {
            self.ask_addresses(own, but);
        }
        let (mut first, mut visited) = (true, Vec::new());
        loop {
            let mut updates = live::updates(&self.before, &self.roster, elsewhere, but);
            updates.extend(live::service_updates(&self.before, &self.roster, manifests, but)?);
            let everybody = std::mem::take(&mut self.unsettled) && !self.partial;
            let whole = |subject: &Subject| (everybody && Some(subject.netns) != but) || (first && subject.behind);
            let anew = match self.partial {
                true => Vec::new(),
                false => places(&self.roster, |subject| subject.watch.is_some() && whole(subject)),
            };
            if updates.is_empty() && anew.is_empty() && !everybody && self.before == self.roster {
                if let Some(record) = self.recording {
                    self.registry.put(&record)?;
                }
                return Ok(visited);
            }
            let mut moving = live::moved(&self.before, &self.roster);
            moving.extend(self.owed.iter().copied());
            self.owed = moving.into_iter().collect();
            self.roster.moving.clone_from(&self.owed);
            lap("find who follows");
            let unfinished = self.registry.begin(&self.lock, &self.roster, &mut self.stored)?;
            if let Some(record) = self.recording.take() {
                self.registry.put(&record)?;
                checkpoint::step("recorded")?;
            }
            lap("write roster and record");
            let mut visits = Vec::new();
            if !anew.is_empty() {
                let pods = live::holders(&self.roster, elsewhere);
                let world = live::world(&self.roster, &manifests.inventory);
                for index in &anew {
                    let subject = &self.roster.subjects[*index];
                    let visit = whole_sets(subject, &pods, &world, manifests).and_then(|sets| {
                        visit(subject, own, self.deadline, |inside, tables| {
                            put_right(inside, tables, &sets, &self.owed, &mut self.closing, self.deadline)
                        })
                    });
                    visits.push((*index, visit));
                }
            }
            for (index, update) in updates.iter().filter(|(index, _)| anew.binary_search(index).is_err()) {
                let subject = &self.roster.subjects[*index];
                // Tried already.
                if subject.behind {
                    continue;
                }
                let visit = visit(subject, own, self.deadline, |inside, tables| {
                    change(inside, tables, update, &mut self.closing, self.deadline)
                });
                visits.push((*index, visit));
            }
            let names = visits.iter().filter_map(|(index, _)| self.roster.subjects[*index].containers.first());
            visited.extend(names.map(|container| container.id.to_string()));
            lap("tell those who follow");
            self.before = self.roster.clone();
            note(self.registry, &self.lock, &mut self.roster, visits);
            if self.before == self.roster {
                if !self.partial {
                    unfinished.finish()?;
                }
                return Ok(visited);
            }
            first = false;
        }
    }

    /// Reads the addresses of everybody anew.
    pub(super) fn ask_addresses(&mut self, own: &Own, but: Option<NamespaceId>) {
        let deadline = self.deadline;
        for subject in self.roster.subjects.iter_mut().filter(|subject| Some(subject.netns) != but) {
            let found = subject.visit(own).and_then(|inside| match inside {
                Some(inside) => Ok((global_addresses(&inside, &deadline)?, cookie(&inside)?)),
                None => Ok((Vec::new(), None)),
            });
            match found {
                Ok((addresses, cookie)) => {
                    let subject = Rc::make_mut(subject);
                    subject.addresses = addresses;
                    // Not all records have it.
                    subject.cookie = subject.cookie.or(cookie);
                }
                Err(failure) => log::error!("{failure}"),
            }
        }
        self.rebuilt = false;
    }
}

/// The places of those that are meant, ascending.
fn places(roster: &Roster, meant: impl Fn(&Subject) -> bool) -> Vec<usize> {
    let numbered = roster.subjects.iter().enumerate();
    numbered.filter(|(_, subject)| meant(subject)).map(|(index, _)| index).collect()
}

/// All sets of a subject as they should be.
fn whole_sets(subject: &Subject, pods: &Holders<'_>, world: &World, manifests: &Manifests) -> Result<Table, Failure> {
    let nobody = Watch::default();
    let watch = subject.watch.as_deref().unwrap_or(&nobody);
    let mut sets = live::sets(watch, pods)?;
    live::service_sets(&mut sets, watch, &manifests.policies, world, subject)?;
    Ok(sets)
}

/// What the visits say of those that were visited. Whoever could not be is behind from here on.
fn note(registry: &Registry, lock: &Lock, roster: &mut Roster, visits: Vec<(usize, Result<Visit, Failure>)>) {
    let mut gone: Vec<NamespaceId> = Vec::new();
    for (index, visit) in visits {
        let subject = &mut roster.subjects[index];
        let id = subject.containers.first().map_or("", |container| &container.id);
        match visit {
            Ok(Visit::Done) if subject.behind => Rc::make_mut(subject).behind = false,
            Ok(Visit::Done) => {}
            Ok(Visit::Gone) => gone.push(subject.netns),
            Ok(Visit::Lost) => {
                log::error!("container {id}: somebody took its rules away; run `netlatch reload`");
                // Asked for again and again it would keep every start busy; `netlatch reload` gives it rules anew.
                let subject = Rc::make_mut(subject);
                (subject.table, subject.watch, subject.behind) = (None, None, false);
            }
            Err(failure) => {
                log::error!("container {id}: its sets of peers could not be changed: {failure}");
                if !subject.behind {
                    Rc::make_mut(subject).behind = true;
                }
            }
        }
    }
    for netns in gone {
        let subject = roster.remove_subject(netns);
        let containers = subject.iter().flat_map(|subject| &subject.containers);
        registry.forget_dead(lock, containers.map(Container::held));
    }
}

/// What became of a visit.
enum Visit {
    /// The sets are as they should be.
    Done,
    /// There is no such namespace any more.
    Gone,
    /// Somebody took the rules away.
    Lost,
}

/// Does `work` on a subject's rules, in its namespace.
fn visit(
    subject: &Subject,
    own: &Own,
    deadline: Deadline,
    work: impl FnOnce(&Inside, Tables<'_>) -> Result<(), Failure>,
) -> Result<Visit, Failure> {
    let Some(inside) = subject.visit(own)? else { return Ok(Visit::Gone) };
    let mut tables = Tables::open(&inside, deadline)?;
    // Another table of ours is what a reload left that was cut off: then the sets are tried, and asked for until they are
    // there.
    if tables.comment()?.is_none() {
        return Ok(Visit::Lost);
    }
    work(&inside, tables).map(|()| Visit::Done)
}

fn change(
    inside: &Inside,
    mut tables: Tables<'_>,
    update: &Update,
    closing: &mut Closing,
    deadline: Deadline,
) -> Result<(), Failure> {
    tables.update(&update.changes)?;
    closing.add(tables.into_socket());
    if update.tightened.is_empty() { Ok(()) } else { forget_peer(inside, &update.tightened, closing, deadline) }
}

/// Whether a flow of an address that moved should have ended is not known any more: all of them do. Those that may be
/// begin anew, but for TCP.
fn put_right(
    inside: &Inside,
    mut tables: Tables<'_>,
    sets: &Table,
    moving: &[IpAddr],
    closing: &mut Closing,
    deadline: Deadline,
) -> Result<(), Failure> {
    tables.reconcile(sets)?;
    closing.add(tables.into_socket());
    if moving.is_empty() { Ok(()) } else { forget_peer(inside, moving, closing, deadline) }
}

fn shown(identity: &Identity) -> String {
    let labels: Vec<String> = identity.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let labels = if labels.is_empty() { "without labels".to_owned() } else { labels.join(",") };
    format!("of namespace {}, {labels}", identity.namespace)
}

/// Whether a subject has any of these addresses.
pub(super) fn has_any(subject: &Subject, addresses: &[IpAddr]) -> bool {
    subject.addresses.iter().any(|address| addresses.contains(address))
}
