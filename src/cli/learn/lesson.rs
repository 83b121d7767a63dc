//! From what was seen to a list. No machine is asked.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::cli::inspect::denied::{Denied, Why, in_earnest, kernels_own};
use crate::cli::inspect::entry;
use crate::error::{Cause, Failure};
use crate::net::{Direction, Origin, Packet, Payload};
use crate::policy::cover::{Seen, Spoken, Widened, cover, widen};
use crate::policy::list::List;
use crate::settings::{LayerSource, ListLayer, Settings};

/// What may be allowed beyond what was seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Merge {
    pub(super) v4: Option<u8>,
    pub(super) v6: Option<u8>,
    /// Open what is always denied.
    pub(super) always_denied: bool,
}

/// A list, and what stands beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lesson {
    /// The entries of the list as it is.
    pub(super) kept: Vec<String>,
    /// Those that allow what was seen.
    pub(super) learned: Vec<String>,
    /// Where the list was written, where the container has none of its own.
    pub(super) admins: Option<String>,
    pub(super) widened: Vec<Widened>,
    /// What was seen and is in no entry, and why.
    pub(super) left_out: Vec<(String, String)>,
    /// What the list allows and something else denies.
    pub(super) still_denied: Vec<(String, String)>,
}

impl Lesson {
    /// What a list would have had to be. `None` where there is none.
    ///
    /// # Errors
    /// [`Cause::Internal`] where the list is not one, or does not allow what it was made for: a bug.
    pub(super) fn of(
        direction: Direction,
        settings: &Settings,
        host: &[IpAddr],
        seen: &[&Denied],
        merge: &Merge,
    ) -> Result<Option<Lesson>, Failure> {
        let of_source =
            |source| settings.lists.iter().find(|layer| layer.direction == direction && layer.source == source);
        let Some(layer) = of_source(LayerSource::Annotation).or_else(|| of_source(LayerSource::Baseline)) else {
            return Ok(None);
        };
        let mut lesson = Lesson {
            kept: layer.list.entries().map(|entry| entry.text().to_owned()).collect(),
            learned: Vec::new(),
            admins: (layer.source == LayerSource::Baseline).then(|| layer.origin.to_string()),
            widened: Vec::new(),
            left_out: Vec::new(),
            still_denied: Vec::new(),
        };
        let (mut wanted, mut opened, mut allowed) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        for one in seen {
            let packet = Packet { direction, peer: one.seen.address, payload: one.seen.payload() };
            match lesson.place(one, &packet, layer, settings, host, merge) {
                Place::Add(seen) => {
                    wanted.insert(seen);
                }
                Place::Open(seen) => {
                    opened.insert(seen);
                }
                Place::Allowed => {}
                Place::LeftOut => continue,
            }
            allowed.push((*one, packet));
        }
        let (wider, widened) = widen(&wanted, merge.v4, merge.v6);
        lesson.widened = widened;
        lesson.learned = cover(&wider).iter().map(ToString::to_string).collect();
        // An entry opens an address by naming it alone: never as a part of a block.
        let by_address: BTreeSet<_> = opened.iter().map(Seen::peer).collect();
        for peer in by_address {
            let of_this = opened.iter().filter(|seen| seen.peer() == peer).copied().collect();
            lesson.learned.extend(cover(&of_this).iter().map(ToString::to_string));
        }
        lesson.check(layer, settings, host, &allowed)?;
        Ok(Some(lesson))
    }

    /// The list, as it is written.
    pub(super) fn list(&self) -> String {
        let all: Vec<&str> = self.kept.iter().chain(&self.learned).map(String::as_str).collect();
        // Not by commas: podman 4.3.1 ends an annotation of its command line there.
        if all.is_empty() { "none".to_owned() } else { all.join(" ") }
    }

    fn place(
        &mut self,
        one: &Denied,
        packet: &Packet,
        layer: &ListLayer,
        settings: &Settings,
        host: &[IpAddr],
        merge: &Merge,
    ) -> Place {
        let mut leave = |why: String| {
            self.left_out.push((entry(&one.seen), why));
            Place::LeftOut
        };
        if let Some(why) = kernels_own(one) {
            return leave(why.to_owned());
        }
        let group = settings.always_denied.value.iter().find(|group| group.contains(packet.peer, host));
        let group = group.filter(|_| packet.direction == Direction::Egress && !settings.opens(packet));
        if let (Some(group), false) = (group, merge.always_denied) {
            let origin = &settings.always_denied.origin;
            return leave(format!(
                "{group} is always denied ({origin}); an entry of its own would open it: --always-denied"
            ));
        }
        if group.is_none() && layer.list.allows(packet, host) {
            return Place::Allowed;
        }
        if let Some(denying) = layer.list.deciding(packet, host).filter(crate::policy::list::Entry::deny) {
            return leave(format!("the list's own {:?} denies it, whatever else allows it", denying.text()));
        }
        let spoken = match packet.payload {
            Payload::Transport { protocol, port } => Some(Spoken::Port(protocol, port)),
            Payload::Icmp { .. } => Some(Spoken::Icmp),
            Payload::Other(_) => None,
        };
        match (spoken.and_then(|spoken| Seen::new(packet.peer, spoken)), group) {
            (Some(seen), None) => Place::Add(seen),
            (Some(seen), Some(_)) => Place::Open(seen),
            (None, _) => leave(format!(
                "no entry says exactly this; one of the address alone ({}) would, and allow everything else to it",
                packet.peer
            )),
        }
    }

    /// Reads the list back, holds it against what it was made for, and finds what else denies.
    fn check(
        &mut self,
        layer: &ListLayer,
        settings: &Settings,
        host: &[IpAddr],
        allowed: &[(&Denied, Packet)],
    ) -> Result<(), Failure> {
        let bug = |problem: String| Failure::new("make a list of what was seen", Cause::Internal(problem));
        let text = self.list();
        let list = List::parse(&text, &Origin::Builtin("what was seen"))
            .map_err(|problems| bug(format!("{text:?} is no list: {problems:?}")))?;
        if let Some((one, _)) = allowed.iter().find(|(_, packet)| !list.allows(packet, host)) {
            return Err(bug(format!("{text:?} does not allow {}", entry(&one.seen))));
        }
        let mut then = in_earnest(settings);
        let place = then.lists.iter_mut().find(|one| (one.direction, one.source) == (layer.direction, layer.source));
        if let Some(place) = place {
            place.list = list;
        }
        for (one, packet) in allowed {
            let policies = match &one.why {
                Why::Layers(layers) => layers.iter().find(|said| said.layer == "policies"),
                Why::Changed | Why::Kernels(_) | Why::Unknown => None,
            };
            let others = match &one.why {
                Why::Layers(layers) => {
                    layers.iter().find(|said| said.layer != "policies" && said.layer != layer_name(layer))
                }
                Why::Changed | Why::Kernels(_) | Why::Unknown => None,
            };
            let why = match (then.passes(packet, host), others, policies) {
                (false, Some(said), _) | (true, _, Some(said)) => format!("{}: {}", said.layer, said.why),
                (false, None, _) => "another layer denies it".to_owned(),
                (true, _, None) => continue,
            };
            self.still_denied.push((entry(&one.seen), why));
        }
        Ok(())
    }
}

/// As [`explain`](crate::explain) calls it.
const fn layer_name(layer: &ListLayer) -> &'static str {
    match layer.source {
        LayerSource::Baseline => "baseline",
        LayerSource::Annotation => "annotation",
    }
}

/// What becomes of something that was seen.
enum Place {
    Add(Seen),
    /// It is always denied, and is to be opened.
    Open(Seen),
    /// The list allows it; something else denied it.
    Allowed,
    LeftOut,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::wire::listing;
    use crate::oci::Requests;
    use crate::settings::Config;

    fn denied(text: &str) -> Denied {
        let (protocol, rest) = text.split_once('/').unwrap();
        let protocol = match protocol {
            "icmp" => 1,
            "icmp6" => 58,
            "tcp" => 6,
            "udp" => 17,
            number => number.parse().unwrap(),
        };
        let to: Result<std::net::SocketAddr, _> = rest.parse();
        let (address, port) = to.map_or_else(|_| (rest.parse().unwrap(), 0), |to| (to.ip(), to.port()));
        let seen = listing::Seen { address, protocol, port, expires_ms: 1 };
        Denied { direction: Direction::Egress, seen, ago_ms: 0, audit: true, why: Why::Unknown }
    }

    fn settings(config: &str, annotations: &[(&str, &str)]) -> Settings {
        let annotations =
            annotations.iter().map(|(key, value)| (format!("io.netlatch.{key}"), (*value).to_owned())).collect();
        let config = Config::parse("c.yaml", config.as_bytes()).unwrap();
        Settings::decide(Some(config), Requests::parse(&annotations).unwrap()).unwrap()
    }

    fn lesson(settings: &Settings, seen: &[&str], merge: Merge) -> Lesson {
        let seen: Vec<Denied> = seen.iter().map(|text| denied(text)).collect();
        let seen: Vec<&Denied> = seen.iter().collect();
        Lesson::of(Direction::Egress, settings, &[], &seen, &merge).unwrap().unwrap()
    }

    #[test]
    fn what_was_seen_is_added_to_what_the_list_says() {
        let none = settings("", &[("egress", "none"), ("mode", "audit")]);
        let both = ["tcp/10.0.0.1:53", "udp/10.0.0.1:53", "icmp/10.0.0.1"];
        assert_eq!(lesson(&none, &both, Merge::default()).list(), "10.0.0.1:53 icmp/10.0.0.1");
        assert_eq!(lesson(&none, &[], Merge::default()).list(), "none");
        let some = settings("", &[("egress", "@internet:443, !203.0.113.0/24"), ("mode", "audit")]);
        let lesson = lesson(&some, &["tcp/10.0.0.1:80", "tcp/203.0.113.9:443"], Merge::default());
        assert_eq!(lesson.list(), "@internet:443 !203.0.113.0/24 tcp/10.0.0.1:80");
        assert_eq!(lesson.left_out.len(), 1);
        assert!(lesson.left_out[0].1.contains("\"!203.0.113.0/24\" denies it"), "{lesson:?}");
    }

    #[test]
    fn what_is_always_denied_is_opened_by_its_own_name_and_only_where_asked() {
        let none = settings("", &[("egress", "none"), ("mode", "audit")]);
        let seen = ["tcp/169.254.169.254:80", "tcp/169.254.169.255:80"];
        let first = lesson(&none, &seen, Merge::default());
        assert_eq!(first.list(), "tcp/169.254.169.255:80");
        assert_eq!(first.left_out[0].0, "tcp/169.254.169.254:80");
        let asked = lesson(&none, &seen, Merge { always_denied: true, ..Merge::default() });
        assert_eq!(asked.list(), "tcp/169.254.169.255:80 tcp/169.254.169.254:80");
        assert!(asked.still_denied.is_empty() && asked.left_out.is_empty());
        // The admin's word is not undone by an annotation.
        let admins = settings("always-denied: [metadata]\n", &[("egress", "none"), ("mode", "audit")]);
        let asked = lesson(&admins, &seen, Merge { always_denied: true, ..Merge::default() });
        assert_eq!(asked.still_denied[0].0, "tcp/169.254.169.254:80");
    }

    #[test]
    fn what_the_admins_list_denies_stays_denied_and_is_said() {
        let both = settings("egress: 10.0.0.0/8\nmode: audit\n", &[("egress", "none")]);
        let lesson = lesson(&both, &["tcp/10.0.0.1:80", "tcp/192.0.2.1:80"], Merge::default());
        assert_eq!(lesson.list(), "tcp/10.0.0.1:80 tcp/192.0.2.1:80");
        assert_eq!((lesson.still_denied.len(), lesson.admins), (1, None));
        let alone = settings("egress: 10.0.0.0/8\nmode: audit\n", &[]);
        let lesson = super::tests::lesson(&alone, &["tcp/192.0.2.1:80"], Merge::default());
        assert_eq!((lesson.list().as_str(), lesson.admins.is_some()), ("10.0.0.0/8 tcp/192.0.2.1:80", true));
    }

    #[test]
    fn what_no_entry_says_and_what_nobody_asked_for_is_left_out() {
        let none = settings("", &[("egress", "none"), ("mode", "audit")]);
        let lesson = lesson(&none, &["47/192.0.2.1", "icmp6/ff02::2", "tcp/192.0.2.1:0"], Merge::default());
        assert_eq!((lesson.list().as_str(), lesson.left_out.len()), ("none", 3));
    }

    #[test]
    fn without_a_list_there_is_none_to_add_to() {
        let free = settings("", &[("mode", "audit")]);
        assert_eq!(Lesson::of(Direction::Egress, &free, &[], &[], &Merge::default()).unwrap(), None);
    }
}
