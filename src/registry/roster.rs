//! The roster: every running container that can be somebody's peer, by network namespace, in one file.
//!
//! A start has to know all who run: whom its own rules let in, and whose sets it belongs in. A record for each would be
//! a thousand files to read; this is one. It is read before the lock is asked for, and under the lock only what came since;
//! what is written is what changed.
//!
//! # What a crash leaves
//!
//! The records are what counts; a roster that is missing, torn, damaged or another version's is made anew from them.
//! Before the first set of another container is changed, the roster is written as it will be then, *unfinished*
//! ([`Registry::begin`]); when the last set is done, one byte says so ([`Unfinished::finish`]). Who finds it unfinished,
//! or has to make it anew, knows that any set may be stale and brings all of them up to date.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::mem::ManuallyDrop;
use std::net::IpAddr;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::rc::Rc;

use nix::errno::Errno;

use super::alive::{Anchor, inhabitants};
use super::shared::Shared;
use super::stored::{HEADER, STATE_AT, State, Stored, Writing};
use super::{Lock, PLAIN, Record, Registry, open_limited, read_limited};
use crate::error::{Cause, Failure};
use crate::kernel::checkpoint;
use crate::kernel::netns::{Inside, NamespaceId, Own, Place, visit};
use crate::policy::model::Labels;
use crate::policy::watch::{Identity, Watch};

/// A container of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// What keeps its namespace in place.
    pub anchor: Anchor,
    /// Who it is itself. Its neighbours may be somebody else.
    pub identity: Shared<Identity>,
}

/// One network namespace with the containers in it: what policies call a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The namespace.
    pub netns: NamespaceId,
    /// Its cookie, where it was read.
    pub cookie: Option<u64>,
    /// Who lives there, at least one.
    pub containers: Vec<Container>,
    /// Its addresses, sorted.
    pub addresses: Vec<IpAddr>,
    /// What selectors see of it: of its containers that run. Namespace and labels are those of the last that came and is
    /// somebody in particular (the first container of a pod often is not), named ports are everybody's.
    pub identity: Shared<Identity>,
    /// The comment of its table, with the plan's digest; `None` where nothing is filtered.
    pub table: Option<Shared<String>>,
    /// Whom its named sets follow; `None` where nobody.
    pub watch: Option<Shared<Watch>>,
    /// Its sets could not be changed: they are tried again each time, whole.
    pub behind: bool,
}

/// A container as it enters the roster, with what its namespace has from now on.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The namespace.
    pub netns: NamespaceId,
    /// Its cookie, where it was read.
    pub cookie: Option<u64>,
    /// The container's id.
    pub id: String,
    /// What keeps its namespace in place.
    pub anchor: Anchor,
    /// All addresses of the namespace.
    pub addresses: Vec<IpAddr>,
    /// The container's own identity.
    pub identity: Identity,
    /// The comment of the table that the namespace has now.
    pub table: Option<String>,
    /// Whom the sets of that table follow.
    pub watch: Option<Watch>,
}

/// How a subject is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Not at all.
    Away,
    /// In the cheap way, which overlooks a process whose number was given to another ([`Anchor::may_hold`]).
    Cheaply,
    /// As it has to be who is let in, or has an address that a newcomer has ([`Anchor::holds`]).
    Closely,
}

/// Who was found dead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reaped {
    /// Namespaces without a container: their addresses have to leave all sets.
    pub subjects: Vec<Subject>,
    /// Every container that has ended, those of subjects that live on included.
    pub containers: Vec<Container>,
}

/// All subjects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// One for each namespace. Their order means nothing. Pictures of the host that differ in one container share all others,
    /// so that a thousand are neither copied nor compared.
    pub subjects: Vec<Rc<Subject>>,
    /// As long as it is unfinished, or a subject is behind: addresses that change hands. Flows with them may still have to
    /// end.
    pub moving: Vec<IpAddr>,
}

/// A roster as it was found.
#[derive(Debug)]
pub struct Loaded {
    /// Who is there.
    pub roster: Roster,
    /// Whether every set of every subject that is not [behind](Subject::behind) is as the roster says. Otherwise all have to
    /// be brought up to date.
    pub finished: bool,
    /// Whether it was made from the records just now. It is then not finished.
    pub rebuilt: bool,
    /// Whether it is the one that was glanced at.
    pub glanced: bool,
    /// What the file holds, for who writes it next.
    pub stored: Stored,
}

/// A roster that was read without the lock: who was there a moment ago. For plans that are looked at again under the lock.
///
/// It is never freed, nor are those who are shared with it: the process ends with its stage, and freeing a thousand takes it
/// 70 µs.
#[derive(Debug)]
pub struct Glance(ManuallyDrop<Stored>);

impl Glance {
    /// Who was there.
    pub fn roster(&self) -> &Roster {
        &self.0.roster
    }
}

impl Container {
    /// Its id and what keeps its namespace in place.
    pub fn held(&self) -> (&str, &Anchor) {
        (&self.id, &self.anchor)
    }
}

impl Subject {
    /// Says anew who it is, after its containers or what is known of them have changed.
    pub fn name(&mut self) {
        if let Some(identity) = together(&self.containers)
            && *identity != *self.identity
        {
            self.identity = identity;
        }
    }

    /// Whether one of its containers runs: three system calls and 15 µs for each until one does.
    pub fn is_alive(&self) -> bool {
        self.containers.iter().any(|container| container.anchor.holds(self.netns))
    }

    /// Whether its namespace is the one with this number and cookie.
    pub fn is_at(&self, netns: NamespaceId, cookie: Option<u64>) -> bool {
        self.netns == netns && self.cookie.is_none_or(|ours| cookie.is_none_or(|theirs| ours == theirs))
    }

    /// Joins its namespace; `None` where none of its containers is there any more. See [`visit`].
    ///
    /// A container whose first process lives and went elsewhere is looked for among all processes of the host.
    ///
    /// # Errors
    /// [`visit`]'s. [`Cause::Join`] with ENOENT where such a namespace has no process: sockets may still hold it.
    pub fn visit(&self, own: &Own) -> Result<Option<Inside>, Failure> {
        let visit_by = |target| visit(&Place { target, id: self.netns, cookie: self.cookie }, own);
        for container in &self.containers {
            if let Some(inside) = visit_by(container.anchor.target(self.netns))? {
                return Ok(Some(inside));
            }
        }
        let mut left = self.containers.iter().filter(|container| container.anchor.is_living_process());
        let Some(left) = left.next() else { return Ok(None) };
        // Without a cookie its number may be another's by now.
        for target in inhabitants(self.netns).filter(|_| self.cookie.is_some()) {
            if let Some(inside) = visit_by(target)? {
                return Ok(Some(inside));
            }
        }
        let target = format!("the network namespace that the first process of container {} left", left.id);
        Err(Failure::new("find a container's network", Cause::Join { target, errno: Errno::ENOENT }))
    }
}

impl Roster {
    /// The subject of a namespace.
    pub fn find(&self, netns: NamespaceId) -> Option<&Subject> {
        self.subjects.iter().find(|subject| subject.netns == netns).map(|subject| &**subject)
    }

    /// The subject that a container belongs to.
    pub fn subject_of(&self, id: &str) -> Option<&Subject> {
        let lives_in = |subject: &&Rc<Subject>| subject.containers.iter().any(|container| container.id == id);
        self.subjects.iter().find(lives_in).map(|subject| &**subject)
    }

    /// Every watch once, however many subjects share it ([`Shared::is`] tells whose it is).
    pub fn watches(&self) -> Vec<&Shared<Watch>> {
        Shared::distinct(self.subjects.iter().filter_map(|subject| subject.watch.as_ref())).collect()
    }

    /// Makes one of what is equal, where many were given a value of their own at once.
    pub fn share(&mut self) {
        Shared::unite(self.subjects.iter_mut().flat_map(|subject| {
            let Subject { identity, containers, .. } = Rc::make_mut(subject);
            std::iter::once(identity).chain(containers.iter_mut().map(|container| &mut container.identity))
        }));
        Shared::unite(self.subjects.iter_mut().filter_map(|subject| Rc::make_mut(subject).table.as_mut()));
        Shared::unite(self.subjects.iter_mut().filter_map(|subject| Rc::make_mut(subject).watch.as_mut()));
    }

    /// Enters a container. What is returned is gone by that: the namespace whose number this one has now, and the one
    /// that a container of this id had before, which started anew without a poststop.
    ///
    /// Addresses, table and watch are the namespace's and replace what was known. Identities of several containers add
    /// up, see [`Subject::identity`].
    pub fn enter(&mut self, arrival: Arrival) -> Vec<Subject> {
        let Arrival { netns, cookie, id, anchor, mut addresses, identity, table, watch } = arrival;
        let other = |subject: &mut Rc<Subject>| subject.netns == netns && !subject.is_at(netns, cookie);
        let mut gone: Vec<Subject> = self.subjects.extract_if(.., other).map(Rc::unwrap_or_clone).collect();
        let before = self
            .subjects
            .iter()
            .position(|subject| subject.netns != netns && subject.containers.iter().any(|other| other.id == id));
        gone.extend(before.and_then(|index| self.remove_from(index, &id)));

        addresses.sort_unstable();
        addresses.dedup();
        let table = table.map(|table| Shared::among(self.subjects.iter().filter_map(|s| s.table.as_ref()), table));
        let watch = watch.map(|watch| Shared::among(self.subjects.iter().filter_map(|s| s.watch.as_ref()), watch));
        let identity = {
            let all = self.subjects.iter().flat_map(|subject| &subject.containers);
            Shared::among(all.map(|container| &container.identity), identity)
        };
        let container = Container { id, anchor, identity: identity.clone() };
        let there = self.subjects.iter_mut().find(|subject| subject.netns == netns);
        match there.map(Rc::make_mut) {
            Some(subject) => {
                subject.containers.retain(|other| other.id != container.id);
                subject.containers.push(container);
                subject.cookie = cookie.or(subject.cookie);
                (subject.addresses, subject.table, subject.watch) = (addresses, table, watch);
                subject.name();
            }
            None => {
                let containers = vec![container];
                let behind = false;
                let subject = Subject { netns, cookie, containers, addresses, identity, table, watch, behind };
                self.subjects.push(Rc::new(subject));
            }
        }
        gone
    }

    /// Removes a container. The subject is returned where it was the last one there.
    pub fn remove(&mut self, id: &str) -> Option<Subject> {
        let lives_in = |subject: &Rc<Subject>| subject.containers.iter().any(|container| container.id == id);
        let index = self.subjects.iter().position(lives_in)?;
        self.remove_from(index, id)
    }

    fn remove_from(&mut self, index: usize, id: &str) -> Option<Subject> {
        let subject = Rc::make_mut(&mut self.subjects[index]);
        subject.containers.retain(|container| container.id != id);
        subject.name();
        let empty = subject.containers.is_empty();
        empty.then(|| Rc::unwrap_or_clone(self.subjects.swap_remove(index)))
    }

    /// Removes the subject of a namespace that was found to be gone when it was to be visited.
    pub fn remove_subject(&mut self, netns: NamespaceId) -> Option<Subject> {
        let index = self.subjects.iter().position(|subject| subject.netns == netns)?;
        Some(Rc::unwrap_or_clone(self.subjects.swap_remove(index)))
    }

    /// Removes who has ended, as far as `look` has them looked at: by the place of a subject, and the subject.
    ///
    /// Whose place becomes free is filled from behind: others stay where they are.
    pub fn reap(&mut self, look: impl Fn(usize, &Subject) -> Look) -> Reaped {
        let mut reaped = Reaped::default();
        // From behind: who fills a place has been asked.
        for place in (0..self.subjects.len()).rev() {
            let subject = &self.subjects[place];
            let (look, netns) = (look(place, subject), subject.netns);
            let lives = |container: &Container| match look {
                Look::Away => true,
                Look::Cheaply => container.anchor.may_hold(netns),
                Look::Closely => container.anchor.holds(netns),
            };
            let each: Vec<bool> = match &subject.containers[..] {
                [only] if lives(only) => continue,
                all => all.iter().map(lives).collect(),
            };
            if each.iter().all(|lives| *lives) {
                continue;
            }
            let of = |living| {
                let containers = subject.containers.iter().zip(&each).filter(move |(_, lives)| **lives == living);
                containers.map(|(container, _)| container.clone()).collect::<Vec<_>>()
            };
            let (living, dead) = (of(true), of(false));
            reaped.containers.extend(dead);
            if living.is_empty() {
                reaped.subjects.push(Rc::unwrap_or_clone(self.subjects.swap_remove(place)));
                continue;
            }
            let subject = Rc::make_mut(&mut self.subjects[place]);
            subject.containers = living;
            subject.name();
        }
        reaped
    }
}

/// What selectors see of these together, see [`Subject::identity`]; `None` where there is nobody.
pub(super) fn together(containers: &[Container]) -> Option<Shared<Identity>> {
    let [first, .., last] = containers else { return containers.first().map(|only| only.identity.clone()) };
    let mut named = containers.iter().rev().map(|container| &container.identity);
    let named = named.find(|identity| !identity.is_anybody()).unwrap_or(&first.identity);
    let mut ports: Vec<_> = containers.iter().flat_map(|container| &container.identity.ports).cloned().collect();
    ports.sort();
    ports.dedup();
    let all = Identity { ports, ..(**named).clone() };
    Some(Shared::among([named, &last.identity].into_iter(), all))
}

/// A roster that was written and whose sets are being brought up to date. Dropped, it stays unfinished.
#[derive(Debug)]
#[must_use = "the roster stays unfinished, and the next start repairs what was not broken"]
pub struct Unfinished<'l> {
    file: File,
    registry: Registry,
    /// Only as long as nobody else changes it.
    _lock: &'l Lock,
}

impl Unfinished<'_> {
    /// Says that every set is as the roster says. One byte in place: cheap, and never half written.
    ///
    /// # Errors
    /// [`Cause::RunDir`].
    pub fn finish(self) -> Result<(), Failure> {
        checkpoint::step("finish")?;
        self.file
            .write_all_at(&[State::Finished.byte()], STATE_AT)
            .map_err(|error| Failure::new("finish the roster", self.registry.cause(&error)))
    }
}

/// What the records tell of: the roster, who has ended with what held his namespace, and records that name nobody.
type OfRecords = (Roster, Vec<(String, Anchor)>, Vec<String>);

impl Registry {
    /// Whether there is a roster, or might be. See [`Registry::put_alone`] for why this can be asked without the lock.
    pub fn roster_exists(&self) -> bool {
        match fs::symlink_metadata(self.dir.join("roster")) {
            Ok(_) => true,
            Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
        }
    }

    /// Reads the roster, or makes it from the records: then `labels_of` is asked for the labels of the namespaces that
    /// no record has.
    ///
    /// # Errors
    /// [`Cause::RunDir`] where it can neither be read nor created.
    pub fn roster(&self, lock: &Lock, labels_of: impl Fn(&str) -> Labels) -> Result<Loaded, Failure> {
        self.roster_since(lock, None, labels_of)
    }

    /// The roster without the lock; `None` where there is none that can be used.
    pub fn glance(&self) -> Option<Glance> {
        self.check().ok()?;
        // Two tries more, where somebody writes it whole just now.
        (0..3)
            .find_map(|_| Stored::read(&read_limited(&self.dir.join("roster")).ok()?).ok())
            .map(ManuallyDrop::new)
            .map(Glance)
    }

    /// [`Registry::roster`] behind a glance: of it only what came since is read, and those who are as they were are shared with
    /// it.
    ///
    /// # Errors
    /// As there.
    pub fn roster_since(
        &self,
        lock: &Lock,
        glance: Option<&Glance>,
        labels_of: impl Fn(&str) -> Labels,
    ) -> Result<Loaded, Failure> {
        let failed = |error| Failure::new("read the roster", self.cause(&error));
        self.check().map_err(|cause| Failure::new("read the roster", cause))?;
        let loaded = |stored: Stored| Loaded {
            roster: stored.roster.clone(),
            finished: stored.is_finished(),
            rebuilt: false,
            glanced: glance.is_some_and(|glance| stored.is(&glance.0)),
            stored,
        };
        if let Some(stored) = glance.and_then(|glance| self.stored_since(glance)) {
            return Ok(loaded(stored));
        }
        let problem = match read_limited(&self.dir.join("roster")) {
            Ok(bytes) => match Stored::read(&bytes) {
                Ok(stored) if stored.is_all_of(bytes.len() as u64) => return Ok(loaded(stored)),
                Ok(_) => "it is torn or damaged",
                Err(problem) => problem,
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // Empty, and so unfinished. It has to be there before the records are listed.
                self.roster_file().map_err(failed)?;
                "there is none yet"
            }
            Err(error) if error.kind() == ErrorKind::FileTooLarge => "it is too long",
            Err(error) => return Err(failed(error)),
        };
        let roster = self.rebuild(lock, labels_of)?;
        log::info!("the roster was made from the records ({problem}): {} namespaces", roster.subjects.len());
        Ok(Loaded { roster, finished: false, rebuilt: true, glanced: false, stored: Stored::default() })
    }

    /// Writes the roster as it will be, before any set is changed. The records of those in it who run come first: out of them
    /// it is made again should this be interrupted. Of who is about to start the record comes after: interrupted, that
    /// start has failed.
    ///
    /// It is written over what is there, or behind it: `stored` is what is there, and holds what was written from then on.
    /// Interrupted, it does not fit its checksum or its length, which is as good as unfinished; a file renamed into place would be
    /// whole but older, at the price of another file.
    ///
    /// # Errors
    /// [`Cause::RunDir`]. What `stored` holds is nothing then, and who writes next writes all.
    pub fn begin<'l>(&self, lock: &'l Lock, roster: &Roster, stored: &mut Stored) -> Result<Unfinished<'l>, Failure> {
        const DOING: &str = "write the roster";
        let mut next = std::mem::take(stored);
        let writing = next.change_to(roster);
        let writing = writing.map_err(|problem| Failure::new(DOING, Cause::Internal(problem.to_string())))?;
        self.check().map_err(|cause| Failure::new(DOING, cause))?;
        let written = self.roster_file().and_then(|file| {
            checkpoint::reach("roster-open")?;
            match writing {
                Writing::Whole(bytes) => {
                    file.write_all_at(&bytes, 0)?;
                    checkpoint::reach("roster-written")?;
                    let length = bytes.len() as u64;
                    if file.metadata()?.len() != length {
                        file.set_len(length)?;
                    }
                }
                Writing::Behind(place, more, header) => {
                    file.write_all_at(&more, place)?;
                    checkpoint::reach("roster-written")?;
                    file.write_all_at(&header, 0)?;
                }
            }
            Ok(file)
        });
        match written {
            Ok(file) => {
                *stored = next;
                Ok(Unfinished { file, registry: self.clone(), _lock: lock })
            }
            Err(error) => Err(Failure::new(DOING, self.cause(&error))),
        }
    }

    /// Removes the roster where nobody follows anybody any more: starts without policies need no lock then.
    ///
    /// # Errors
    /// [`Cause::RunDir`].
    pub fn disband(&self, _: &Lock) -> Result<(), Failure> {
        match fs::remove_file(self.dir.join("roster")) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Failure::new("remove the roster", self.cause(&error)))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// What is in the roster's place, behind a glance at it; `None` where all of it has to be read.
    fn stored_since(&self, Glance(earlier): &Glance) -> Option<Stored> {
        let (file, length) = open_limited(&self.dir.join("roster")).ok()?;
        let mut first = [0; HEADER];
        file.read_exact_at(&mut first, 0).ok()?;
        earlier.continued(&first, length, |place, bytes| file.read_exact_at(bytes, place))
    }

    fn roster_file(&self) -> std::io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(PLAIN);
        options.open(self.dir.join("roster"))
    }

    /// Who runs, by the records alone: whoever asks changes nothing. `labels_of` as in [`Registry::roster`].
    ///
    /// # Errors
    /// As [`Registry::records`].
    pub fn who_runs(&self, labels_of: impl Fn(&str) -> Labels) -> Result<Roster, Failure> {
        Ok(self.of_records(labels_of)?.0)
    }

    /// The roster that the records tell of. Records of containers that have ended are removed.
    fn rebuild(&self, lock: &Lock, labels_of: impl Fn(&str) -> Labels) -> Result<Roster, Failure> {
        let (roster, dead, unknown) = self.of_records(labels_of)?;
        self.forget_dead(lock, dead.iter().map(|(id, anchor)| (id.as_str(), anchor)));
        for id in unknown {
            self.forget(&id).unwrap_or_else(|failure| log::warn!("{failure}"));
        }
        Ok(roster)
    }

    /// Who runs, who has ended, and the ids of those of whom nothing can be known.
    ///
    /// A namespace has the table of the last of its containers that asked for rules of its own: one that did not leaves
    /// a neighbour's alone.
    fn of_records(&self, labels_of: impl Fn(&str) -> Labels) -> Result<OfRecords, Failure> {
        let (mut roster, mut dead, mut unknown) = (Roster::default(), Vec::new(), Vec::new());
        let mut records = self.records()?.read;
        records.sort_by_key(|record| record.explicit);
        for record in records {
            let netns = NamespaceId { dev: record.netns.0, ino: record.netns.1 };
            let Some(anchor) = record.anchor() else {
                if record.is_hidden() {
                    log::warn!("container {}: its process is hidden (hidepid), so that no policy sees it", record.id);
                } else {
                    unknown.push(record.id);
                }
                continue;
            };
            if !anchor.holds(netns) {
                dead.push((record.id, anchor));
                continue;
            }
            let gone = roster.enter(arrival(record, netns, anchor, &labels_of));
            let gone = gone.into_iter().flat_map(|subject| subject.containers);
            dead.extend(gone.map(|container| (container.id, container.anchor)));
        }
        Ok((roster, dead, unknown))
    }
}

fn arrival(record: Record, netns: NamespaceId, anchor: Anchor, labels_of: &impl Fn(&str) -> Labels) -> Arrival {
    let namespace_labels = record.namespace_labels.unwrap_or_else(|| labels_of(&record.namespace));
    Arrival {
        netns,
        cookie: record.cookie,
        id: record.id,
        anchor,
        addresses: record.addresses,
        identity: Identity {
            namespace: record.namespace,
            namespace_labels,
            labels: record.labels,
            ports: record.ports,
        },
        table: record.table,
        watch: record.watch,
    }
}

#[cfg(test)]
mod tests;
