//! `inspect --watch`: the same look again and again, and what changed between two of them.
//!
//! Each look is a thread of its own: it begins in the host's network, where this one stays, and ends in the container's.

use std::io::IsTerminal;
use std::num::NonZeroU32;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::denied::{Denied, Why};
use super::layers::{LayerNow, layers};
use super::looking::Looking;
use super::report::{Now, Report, Running};
use super::{Question, json, known, text};
use crate::cli::output::Output;
use crate::cli::{Outcome, is_read};
use crate::error::{Cause, Failure};
use crate::nft::wire::listing::{Counted, Does};
use crate::printable;
use crate::registry::{Record, Records, Registry};

const DOING: &str = "watch the container";

/// Watches until there is nothing more to see, or nobody who sees it.
pub(super) fn watch(question: &Question, id: &str, seconds: NonZeroU32) -> Result<Outcome, Failure> {
    let registry = Registry::at(&question.run_dir);
    let Some(Records { read, damaged }) = known(&registry, id, &question.run_dir)? else { return Ok(Outcome::Found) };
    registry.none_damaged(&damaged)?;
    let Some(record) = read.into_iter().next() else { return Ok(Outcome::Found) };
    let signals = Signals::open()?;
    let (began, every) = (Instant::now(), Duration::from_secs(u64::from(seconds.get())));
    let mut before: Option<(Report, Instant)> = None;
    loop {
        let at = Instant::now();
        let report = look(question, &registry, record.clone())?;
        let heard = match (question.printed.output(), std::io::stdout().is_terminal()) {
            (Output::Json, _) => is_read(&printable::json(&format!("{}\n", json::whole(&report))))?,
            (Output::Text, true) => paint(question, &report)?,
            (Output::Text, false) => match &before {
                None => is_read(&whole(question, &report))?,
                Some((before, then)) => {
                    let since = at.duration_since(*then);
                    let lines = changes(before, &report, since);
                    let at = began.elapsed().as_secs();
                    let text: String = lines.iter().map(|line| format!("{at:>5} s  {line}\n")).collect();
                    is_read(&printable::lines(&text))?
                }
            },
        };
        let ended = matches!(report.now, Now::Ended);
        before = Some((report, at));
        if !heard {
            return Ok(Outcome::Done);
        }
        if ended {
            return Ok(Outcome::Found);
        }
        if signals.come_within(every.saturating_sub(at.elapsed()))? {
            return Ok(Outcome::Done);
        }
    }
}

fn look(question: &Question, registry: &Registry, record: Record) -> Result<Report, Failure> {
    let (registry, config) = (registry.clone(), question.config.clone());
    let looking = std::thread::Builder::new().spawn(move || {
        // What changed on the host since is asked anew as well: the configuration, the policies, who else runs.
        let mut looking = Looking::begin(registry, config, std::slice::from_ref(&record))?;
        Ok(looking.report(record))
    });
    let failed = |problem: String| Failure::new(DOING, Cause::Internal(problem));
    let looking = looking.map_err(|error| failed(format!("a thread: {:?}", crate::error::errno_of(&error))))?;
    looking.join().map_err(|_| failed("a look at it panicked".to_owned()))?
}

fn whole(question: &Question, report: &Report) -> String {
    let mut page = question.look.page();
    text::whole(&mut page, report, question.rules);
    page.into_text()
}

/// As much as the terminal shows at once, in the place of what it showed.
fn paint(question: &Question, report: &Report) -> Result<bool, Failure> {
    // Cursor to the corner, and everything behind it away (ECMA-48, 8.3.21 and 8.3.39). The last line stays free for the cursor.
    const ANEW: &str = "\u{1b}[H\u{1b}[J";
    let rows = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(24, |size| usize::from(size.ws_row)).max(2);
    let text = whole(question, report);
    let lines: Vec<&str> = text.lines().collect();
    let shown = if lines.len() < rows { lines.len() } else { rows - 2 };
    let mut painted = format!("{ANEW}{}\n", lines[..shown].join("\n"));
    if shown < lines.len() {
        painted.push_str(&format!("({} more lines; a larger window shows them)\n", lines.len() - shown));
    }
    is_read(&painted)
}

/// What ends a watch from outside, read from a descriptor: a handler could do nothing but that.
struct Signals(SignalFd);

impl Signals {
    fn open() -> Result<Signals, Failure> {
        let failed = |call: &str, errno: Errno| Failure::new(DOING, Cause::Confined(format!("{call} said {errno:?}")));
        let mut set = SigSet::empty();
        [Signal::SIGINT, Signal::SIGTERM].into_iter().for_each(|signal| set.add(signal));
        set.thread_block().map_err(|errno| failed("sigprocmask", errno))?;
        SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map(Signals)
            .map_err(|errno| failed("signalfd", errno))
    }

    /// Waits so long, or until one comes.
    fn come_within(&self, time: Duration) -> Result<bool, Failure> {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let mut polled = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            match poll(&mut polled, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
                Ok(0) if left.is_zero() => return Ok(false),
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(true),
                Err(errno) => {
                    return Err(Failure::new(DOING, Cause::Confined(format!("poll said {errno:?}"))));
                }
            }
        }
    }
}

/// A packet came since the last look, where what is left of its time says so. Clocks and looks are not exact to this.
const SLACK: Duration = Duration::from_millis(250);

/// What is different after `since`, each in a line.
fn changes(before: &Report, after: &Report, since: Duration) -> Vec<String> {
    let id = &after.record.id;
    match (&before.now, &after.now) {
        (Now::Runs(before), Now::Runs(after)) => of_running(before, after, since),
        (Now::Ended, Now::Ended) => Vec::new(),
        (_, Now::Ended) => vec![format!("container {id} has ended")],
        (Now::Unknown(old), Now::Unknown(new)) if old == new => Vec::new(),
        (_, Now::Unknown(why)) => vec![format!("container {id}: {why}")],
        (Now::Unknown(_) | Now::Ended, Now::Runs(_)) => vec![format!("container {id} can be looked at again")],
    }
}

fn of_running(before: &Running, after: &Running, since: Duration) -> Vec<String> {
    let mut lines = Vec::new();
    if before.verdict() != after.verdict() {
        lines.push(format!("rules: {}, were {}", after.verdict(), before.verdict()));
    } else if before.listing.as_ref().map(|l| &l.comment) != after.listing.as_ref().map(|l| &l.comment) {
        let comment = after.listing.as_ref().map_or("no table", |listing| &listing.comment);
        lines.push(format!("rules: replaced ({comment})"));
    }
    lines.extend(denials(&before.denied, &after.denied, since));
    lines.extend(counters(before, after));
    for now in &after.sysctls {
        let was = before.sysctls.iter().find(|was| was.key == now.key);
        if was.is_some_and(|was| was.found != now.found) {
            let found = now.found.as_deref().unwrap_or("not there");
            let ok = if now.ok { "as planned" } else { "not as planned" };
            lines.push(format!("sysctl {} is {found}, {ok}", now.key));
        }
    }
    lines
}

/// Who came to be denied, and who was denied again, the earliest first.
fn denials(before: &[Denied], after: &[Denied], since: Duration) -> Vec<String> {
    let word = |denied: &Denied| if denied.audit { "would be denied" } else { "denied" };
    let key =
        |denied: &Denied| (denied.direction, denied.audit, denied.seen.address, denied.seen.protocol, denied.seen.port);
    let mut lines = Vec::new();
    for now in after.iter().rev() {
        let again = match before.iter().find(|was| key(was) == key(now)) {
            None => "",
            Some(was) => {
                let unchanged = Duration::from_millis(was.ago_ms) + since;
                if Duration::from_millis(now.ago_ms) + SLACK >= unchanged {
                    continue;
                }
                " again"
            }
        };
        let end = match now.direction {
            crate::net::Direction::Egress => "to",
            crate::net::Direction::Ingress => "from",
        };
        let why = match &now.why {
            Why::Layers(layers) => {
                layers.iter().map(|said| format!("{}: {}", said.layer, said.why)).collect::<Vec<_>>().join("; ")
            }
            other @ (Why::Changed | Why::Kernels(_) | Why::Unknown) => text::note(other).unwrap_or_default().to_owned(),
        };
        let (direction, shown) = (now.direction, text::shown(&now.seen));
        // Why has been said.
        let why = if again.is_empty() { format!(": {why}") } else { String::new() };
        lines.push(format!("{}{again}: {direction} {end} {shown}{why}", word(now)));
    }
    lines
}

/// Which rules counted more than they had.
fn counters(before: &Running, after: &Running) -> Vec<String> {
    let of = |running: &Running| running.listing.as_ref().map(|held| layers(held, &running.cited)).unwrap_or_default();
    let (before, after): (Vec<LayerNow>, Vec<LayerNow>) = (of(before), of(after));
    let mut lines = Vec::new();
    for layer in &after {
        let old = before.iter().find(|old| (old.direction, old.kind) == (layer.direction, layer.kind));
        for rule in &layer.rules {
            let was = old.and_then(|old| {
                old.rules.iter().find(|old| (&old.entry, &old.from, old.does) == (&rule.entry, &rule.from, rule.does))
            });
            let was = was.map_or(Counted::default(), |was| was.counted);
            let more = rule.counted.packets.saturating_sub(was.packets);
            if more == 0 {
                continue;
            }
            let bytes = rule.counted.bytes.saturating_sub(was.bytes);
            let word = match rule.does {
                Does::Allows => "let through",
                Does::Denies => "denied",
                Does::WouldDeny => "would be denied",
                Does::GoesOn => "passed on",
            };
            let direction = layer.direction.map_or(String::new(), |direction| format!("{direction}, "));
            let packets = if more == 1 { "packet" } else { "packets" };
            let from = if rule.from.is_empty() { String::new() } else { format!(" from {}", rule.from) };
            let title = layer.kind.title();
            lines.push(format!("+{more} {packets}, +{bytes} bytes {word}: {direction}{title}: {}{from}", rule.entry));
        }
    }
    lines
}
