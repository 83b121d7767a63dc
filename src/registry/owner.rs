//! Whose a table in the host's namespace is. It stands in the table's comment, so that no rule depends on a record: with the
//! directory lost a table still is a running container's, and is nobody's once that has ended.

use std::fmt;
use std::time::Duration;

use super::Record;
use super::alive::{Anchor, is_deserted, started};
use crate::kernel::netns::NamespaceId;

/// A container's first process and its network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Number and start; `None` where the runtime named no process.
    process: Option<(i32, u64)>,
    netns: NamespaceId,
}

impl Owner {
    /// Of a container that is being created.
    pub fn of(pid: Option<i32>, netns: NamespaceId) -> Owner {
        Owner { process: pid.and_then(|pid| Some((pid, started(pid)?))), netns }
    }

    /// The owner that a comment names.
    pub fn in_comment(comment: &str) -> Option<Owner> {
        let (before, place) = comment.rsplit_once(" in ")?;
        let (dev, ino) = place.split_once(':')?;
        let netns = NamespaceId { dev: dev.parse().ok()?, ino: ino.parse().ok()? };
        let process = match before.rsplit_once(" of process ") {
            Some((_, process)) => {
                let (pid, started) = process.split_once(' ')?;
                Some((pid.parse().ok()?, started.parse().ok()?))
            }
            None => None,
        };
        Some(Owner { process, netns })
    }

    fn anchor(&self) -> Option<Anchor> {
        self.process.map(|(pid, started)| Anchor::Process { pid, started })
    }

    /// Whether its first process lives and goes on for as long as `patience`.
    pub fn goes_on(&self, patience: Duration) -> bool {
        self.anchor().is_some_and(|anchor| anchor.goes_on(patience))
    }

    /// Whether nobody is left. The first process counts, and so does any other that is still in the namespace: with the host's
    /// pid namespace they outlive it, and could undo their rules as it could. Where there was no process the record says.
    pub fn is_gone(&self, record: Option<&Record>) -> bool {
        let lives = match self.anchor() {
            Some(anchor) => anchor.holds(self.netns),
            None => record.is_some_and(|record| self.is_at(record) && record.is_alive()),
        };
        !lives && is_deserted(self.netns)
    }

    fn is_at(&self, record: &Record) -> bool {
        record.netns == (self.netns.dev, self.netns.ino)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((pid, started)) = self.process {
            write!(f, "of process {pid} {started} ")?;
        }
        write!(f, "in {}:{}", self.netns.dev, self.netns.ino)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::netns::Target;

    fn here() -> (i32, NamespaceId) {
        let pid = std::process::id() as i32;
        (pid, Target::Process(pid).namespace().unwrap())
    }

    #[test]
    fn an_owner_is_read_out_of_a_comment() {
        let netns = NamespaceId { dev: 4, ino: 4_026_532_000 };
        for (owner, text) in [
            (Owner { process: Some((42, 9)), netns }, "of process 42 9 in 4:4026532000"),
            (Owner { process: None, netns }, "in 4:4026532000"),
        ] {
            assert_eq!(owner.to_string(), text);
            assert_eq!(Owner::in_comment(&format!("netlatch 0.1.0 plan 0123456789abcdef {text}")), Some(owner));
        }
        for text in ["", "in", "netlatch 0.1.0 plan 0", "x in 4", "x in 4:", "x in a:b", "x of process 1 in 4:5"] {
            assert_eq!(Owner::in_comment(text), None, "{text}");
        }
    }

    #[test]
    fn the_longest_fits_a_comment() {
        let netns = NamespaceId { dev: u64::MAX, ino: u64::MAX };
        let owner = Owner { process: Some((i32::MAX, u64::MAX)), netns };
        let comment = format!("{} {owner}", crate::nft::build::table_comment(u64::MAX));
        // NFTNL_UDATA_COMMENT_MAXLEN.
        assert!(comment.len() <= 128, "{}", comment.len());
    }

    #[test]
    fn who_lives_is_not_gone_and_neither_are_those_it_left() {
        let (pid, netns) = here();
        let (owner, elsewhere) = (Owner::of(Some(pid), netns), NamespaceId { dev: netns.dev, ino: 1 });
        assert!(owner.goes_on(Duration::ZERO) && !owner.is_gone(None));
        assert!(!Owner { netns: elsewhere, ..owner }.is_gone(None), "the process lives");
        let dead = Some((4_194_305, 1));
        assert!(!Owner { process: dead, netns }.is_gone(None), "others are in there");
        assert!(Owner { process: dead, netns: elsewhere }.is_gone(None));
        let another = owner.process.map(|(pid, started)| (pid, started + 1));
        assert!(Owner { process: another, netns: elsewhere }.is_gone(None), "its number is another's");
    }
}
