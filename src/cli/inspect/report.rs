//! What `inspect` finds of a container: plain values, which [`text`](super::text) and [`json`](super::json) show.

use std::net::IpAddr;

use crate::nft::wire::listing::Listing;
use crate::plan::uncovered::NotCovered;
use crate::registry::Record;

/// What is known of one container.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) record: Record,
    pub(super) now: Now,
}

/// What became of a recorded container.
#[derive(Debug)]
pub(super) enum Now {
    /// It is gone, or its namespace is.
    Ended,
    /// It cannot be looked at.
    Unknown(String),
    /// It runs.
    Runs(Box<Running>),
}

/// What the kernel says of a running container's network.
#[derive(Debug)]
pub(super) struct Running {
    /// The table; `None` where there is none.
    pub(super) listing: Option<Listing>,
    /// The comment that the table should have, by the record that decides in this namespace.
    pub(super) recorded: Option<String>,
    /// Whose record that is, where it is another container's.
    pub(super) decided_by: Option<String>,
    /// The table's rules.
    pub(super) compared: Compared,
    pub(super) guard: Guard,
    /// What stands at the host's end of its links; `None` where nothing was put there.
    pub(super) host_side: Option<Outer>,
    pub(super) links: Vec<LinkNow>,
    pub(super) not_covered: Vec<NotCovered>,
    /// What could not be looked at.
    pub(super) notes: Vec<String>,
}

/// What the kernel holds against what a start would load today.
#[derive(Clone, Debug)]
pub(super) enum Compared {
    /// They are the same.
    Equal,
    /// They differ, in words.
    Differs(Vec<String>),
    /// It cannot be told.
    Unknown(String),
}

impl From<Vec<String>> for Compared {
    fn from(differences: Vec<String>) -> Compared {
        if differences.is_empty() { Compared::Equal } else { Compared::Differs(differences) }
    }
}

impl Compared {
    /// Of something that nothing asks for.
    pub(super) fn unasked(noun: &str, there: bool) -> Compared {
        if there {
            Compared::Differs(vec![format!("there is a {noun}, and nothing asks for one")])
        } else {
            Compared::Equal
        }
    }
}

/// The guard against packet sockets.
#[derive(Debug)]
pub(super) struct Guard {
    /// Whether there is one.
    pub(super) there: bool,
    /// The links that it hangs on.
    pub(super) on: Vec<String>,
    /// Those that it does not hang on.
    pub(super) not_on: Vec<String>,
    pub(super) compared: Compared,
}

/// The table at the host's end of a container's links.
#[derive(Debug)]
pub(super) struct Outer {
    /// Its name.
    pub(super) table: String,
    /// Whether the kernel has one of that name.
    pub(super) there: bool,
    pub(super) compared: Compared,
    pub(super) veths: Vec<Veth>,
}

/// One of the host's veths, and what it is to the container.
#[derive(Debug)]
pub(super) struct Veth {
    pub(super) name: String,
    pub(super) state: VethState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VethState {
    /// It leads into the container, and was there when the rules were made.
    Judged,
    /// The rules were made for it, and it does not lead into the container any more.
    Gone,
    /// It leads into the container, and no rule was made for it.
    Past,
}

impl VethState {
    /// The word for programs.
    pub(super) const fn name(self) -> &'static str {
        match self {
            VethState::Judged => "judged",
            VethState::Gone => "gone",
            VethState::Past => "past-the-rules",
        }
    }
}

/// A link, as it is now.
#[derive(Debug)]
pub(super) struct LinkNow {
    pub(super) name: String,
    pub(super) up: bool,
    pub(super) addresses: Vec<(IpAddr, u8)>,
    /// Its `disable_ipv6`; `None` where there is no such file.
    pub(super) disable_ipv6: Option<String>,
}

impl Running {
    /// The word for the container's rules, in a column and for programs.
    pub(super) fn verdict(&self) -> &'static str {
        let held = self.listing.as_ref().map(|listing| listing.comment.as_str());
        match (&self.listing, self.recorded.as_deref()) {
            (None, None) => "none",
            (None, Some(_)) => "missing",
            (Some(listing), _) if listing.dormant => "dormant",
            (Some(_), recorded) if held != recorded => "not as recorded",
            (Some(_), _) if self.differs() => "differ",
            (Some(_), _) if self.compared().any(|one| matches!(one, Compared::Unknown(_))) => {
                "as recorded, not compared"
            }
            (Some(_), _) => "as recorded",
        }
    }

    fn compared(&self) -> impl Iterator<Item = &Compared> {
        [&self.compared, &self.guard.compared].into_iter().chain(self.host_side.as_ref().map(|outer| &outer.compared))
    }

    fn differs(&self) -> bool {
        let past = self.host_side.iter().flat_map(|outer| &outer.veths).any(|veth| veth.state == VethState::Past);
        past || self.compared().any(|one| matches!(one, Compared::Differs(_)))
    }
}
