//! What `inspect` finds of a container: plain values, which [`text`](super::text) and [`json`](super::json) show.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::denied::Denied;
use crate::kernel::proc::Reading;
use crate::nft::wire::listing::Listing;
use crate::plan::uncovered::NotCovered;
use crate::registry::Record;
use crate::settings::Settings;

/// What is known of one container.
#[derive(Debug)]
pub(in crate::cli) struct Report {
    pub(in crate::cli) record: Record,
    pub(in crate::cli) now: Now,
}

/// What became of a recorded container.
#[derive(Debug)]
pub(in crate::cli) enum Now {
    /// It is gone, or its namespace is.
    Ended,
    /// It cannot be looked at.
    Unknown(String),
    /// It runs.
    Runs(Box<Running>),
}

/// What the kernel says of a running container's network.
#[derive(Debug)]
pub(in crate::cli) struct Running {
    /// What holds for the container whose record decides; why that cannot be told otherwise.
    pub(in crate::cli) settings: Result<Settings, String>,
    /// The host's addresses, for `@host`.
    pub(in crate::cli) host: Vec<IpAddr>,
    /// The table; `None` where there is none.
    pub(in crate::cli) listing: Option<Listing>,
    /// The comment that the table should have, by the record that decides in this namespace.
    pub(in crate::cli) recorded: Option<String>,
    /// Whose record that is, where it is another container's.
    pub(in crate::cli) decided_by: Option<String>,
    /// The table's rules.
    pub(in crate::cli) compared: Compared,
    pub(in crate::cli) guard: Guard,
    /// What stands at the host's end of its links; `None` where nothing was put there.
    pub(in crate::cli) host_side: Option<Outer>,
    /// The entries that became one rule with others, by the rule's comment.
    pub(in crate::cli) cited: BTreeMap<String, Vec<String>>,
    /// The sysctls of its plan, as they are now.
    pub(in crate::cli) sysctls: Vec<Reading>,
    /// Whom the rules remember, the latest first.
    pub(in crate::cli) denied: Vec<Denied>,
    pub(in crate::cli) links: Vec<LinkNow>,
    pub(in crate::cli) not_covered: Vec<NotCovered>,
    /// What could not be looked at.
    pub(in crate::cli) notes: Vec<String>,
}

/// What the kernel holds against what a start would load today.
#[derive(Clone, Debug)]
pub(in crate::cli) enum Compared {
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
    pub(in crate::cli) fn unasked(noun: &str, there: bool) -> Compared {
        if there {
            Compared::Differs(vec![format!("there is a {noun}, and nothing asks for one")])
        } else {
            Compared::Equal
        }
    }
}

/// The guard against packet sockets.
#[derive(Debug)]
pub(in crate::cli) struct Guard {
    /// Whether there is one.
    pub(in crate::cli) there: bool,
    /// The links that it hangs on.
    pub(in crate::cli) on: Vec<String>,
    /// Those that it does not hang on.
    pub(in crate::cli) not_on: Vec<String>,
    pub(in crate::cli) compared: Compared,
}

/// The table at the host's end of a container's links.
#[derive(Debug)]
pub(in crate::cli) struct Outer {
    /// Its name.
    pub(in crate::cli) table: String,
    /// Whether the kernel has one of that name.
    pub(in crate::cli) there: bool,
    pub(in crate::cli) compared: Compared,
    pub(in crate::cli) veths: Vec<Veth>,
}

/// One of the host's veths, and what it is to the container.
#[derive(Debug)]
pub(in crate::cli) struct Veth {
    pub(in crate::cli) name: String,
    pub(in crate::cli) state: VethState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum VethState {
    /// It leads into the container, and was there when the rules were made.
    Judged,
    /// The rules were made for it, and it does not lead into the container any more.
    Gone,
    /// It leads into the container, and no rule was made for it.
    Past,
}

impl VethState {
    /// The word for programs.
    pub(in crate::cli) const fn name(self) -> &'static str {
        match self {
            VethState::Judged => "judged",
            VethState::Gone => "gone",
            VethState::Past => "past-the-rules",
        }
    }
}

/// A link, as it is now.
#[derive(Debug)]
pub(in crate::cli) struct LinkNow {
    pub(in crate::cli) name: String,
    pub(in crate::cli) up: bool,
    pub(in crate::cli) addresses: Vec<(IpAddr, u8)>,
    /// Its `disable_ipv6`; `None` where there is no such file.
    pub(in crate::cli) disable_ipv6: Option<String>,
}

impl Running {
    /// The word for the container's rules, in a column and for programs.
    pub(in crate::cli) fn verdict(&self) -> &'static str {
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
