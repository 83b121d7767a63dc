//! Everything that one container's packet meets: what is always denied, the policies, the admin's list, its own.

use std::net::IpAddr;

use super::ruleset::{Ruleset, SEVERAL, compare, held_by_several};
use super::{Explanation, Half, Near, Said, policies_say};
use crate::net::{Cidr, Direction, Family, Origin, Packet, Payload};
use crate::nft::ruleset::Table;
use crate::oci::Mode;
use crate::policy::flow::Ways;
use crate::policy::list::Entry;
use crate::policy::lookup::{End, World};
use crate::policy::model::{Action, Policies, Port, Rule, Who};
use crate::policy::verdict::{Judge, Judgement, Peer, Why};
use crate::policy::world::Pod;
use crate::settings::{LayerSource, ListLayer, PolicyIcmp, Settings};
use crate::sysctl::Ipv6;

/// A container with what holds for it.
#[derive(Clone, Copy, Debug)]
pub struct Container<'a> {
    /// Its settings.
    pub settings: &'a Settings,
    /// The policies.
    pub policies: &'a Policies,
    /// Whom they speak of.
    pub world: &'a World,
    /// The container among them.
    pub subject: &'a Pod,
    /// The host's addresses, for `@host`.
    pub host: &'a [IpAddr],
    /// The table that a start would load; `None` where it would load none.
    pub table: Option<&'a Table>,
}

impl Container<'_> {
    /// Explains a packet from (egress) or to (ingress) the container. What the policies of the other end say is not asked.
    pub fn explain(&self, direction: Direction, peer: IpAddr, payload: Payload) -> Explanation {
        let other = self.world.end_at(peer);
        let name = &self.subject.name;
        let (from, to) = match direction {
            Direction::Egress => (name.clone(), other.to_string()),
            Direction::Ingress => (other.to_string(), name.clone()),
        };
        let itself = peer.is_loopback()
            || self.subject.addresses.contains(&peer)
            || other.pod.is_some_and(|pod| pod.is(self.subject));
        let layers = if itself {
            vec![plain("loopback", true, "passes, a container always reaches itself".to_owned(), None)]
        } else {
            self.layers(direction, &other, peer, payload)
        };
        let allowed = layers.iter().all(|said| said.allowed);
        let ruleset = if itself {
            Ruleset::NotAsked("what a container sends to itself stays on lo".to_owned())
        } else if held_by_several(&self.world.inventory().peers()).contains(&peer) {
            Ruleset::NotAsked(SEVERAL.to_owned())
        } else {
            compare(allowed, self.table, &Packet { direction, peer, payload })
        };
        let peer = match other.pod {
            Some(pod) => format!("{pod} ({peer})"),
            None => peer.to_string(),
        };
        let half = Half { direction, of: name.clone(), peer, payload, allowed, layers, ruleset };
        let (egress, ingress) = match direction {
            Direction::Egress => (Some(allowed), None),
            Direction::Ingress => (None, Some(allowed)),
        };
        Explanation { from, to, payload, allowed, egress, ingress, notes: Vec::new(), halves: vec![half] }
    }

    fn layers(&self, direction: Direction, other: &End<'_>, peer: IpAddr, payload: Payload) -> Vec<Said> {
        let ipv6 = &self.settings.ipv6;
        let off = match ipv6.value {
            Ipv6::Disable | Ipv6::LoopbackOnly => Family::of(peer) == Family::V6,
            Ipv6::Leave | Ipv6::Enable => false,
        };
        if off {
            let why = format!("denied, IPv6 is off ({})", ipv6.origin);
            return vec![plain("ipv6", false, why, Some(ipv6.origin.clone()))];
        }
        let packet = Packet { direction, peer, payload };
        let judge = Judge::new(self.policies, self.world);
        let always = (direction == Direction::Egress).then(|| self.always_denied(&judge, &packet)).flatten();
        let lists = self.settings.lists.iter().filter(|layer| layer.direction == direction);
        let lists = lists.map(|layer| self.list(layer, &packet));
        always.into_iter().chain([self.policy(&judge, direction, other, peer, payload)]).chain(lists).collect()
    }

    /// The groups that egress never reaches, where egress is filtered at all: by a list, or by a policy.
    fn always_denied(&self, judge: &Judge<'_>, packet: &Packet) -> Option<Said> {
        const LAYER: &str = "always-denied";
        let settings = self.settings;
        let governed = self.governs_egress(judge).then_some(settings.mode.value);
        let mode = settings.denies_always().or(governed)?;
        let origin = &settings.always_denied.origin;
        let group = settings.always_denied.value.iter().find(|group| group.contains(packet.peer, self.host));
        let Some(group) = group else {
            return Some(plain(LAYER, true, "passes, of no group that is always denied".to_owned(), None));
        };
        if settings.opens(packet) || self.policies_open(judge, packet) {
            let why = format!("passes, of {group} ({origin}), which a rule of exactly this address opens");
            return Some(plain(LAYER, true, why, Some(origin.clone())));
        }
        let why = format!("denied as {group} ({origin}); only an entry of exactly this address opens what it names");
        Some(audited(mode, plain(LAYER, false, why, Some(origin.clone()))))
    }

    fn governs_egress(&self, judge: &Judge<'_>) -> bool {
        let governing = judge.governing(Direction::Egress, self.subject);
        let mut cluster = governing.admin.iter().chain(&governing.baseline);
        !governing.network.is_empty() || cluster.any(|policy| !policy.egress.is_empty())
    }

    /// Whether a rule for what the packet carries names exactly its peer, and not by ports that only pods have.
    fn policies_open(&self, judge: &Judge<'_>, packet: &Packet) -> bool {
        let Packet { peer, payload, .. } = *packet;
        let names = |rule: &Rule| {
            let spoken = |port: &Port| match (port, payload) {
                (Port::Number { transport, ports }, Payload::Transport { protocol, port }) => {
                    *transport == protocol && ports.contains(port)
                }
                (Port::Number { .. } | Port::Named { .. }, _) => false,
            };
            let ports = rule.ports.is_empty() || rule.ports.iter().any(spoken);
            let is_it = |who: &Who| match who {
                Who::Block { cidr, except } => {
                    *cidr == Cidr::host(peer) && !except.iter().any(|hole| hole.contains(peer))
                }
                Who::Pods { .. } | Who::Nodes(_) | Who::DomainNames(_) => false,
            };
            rule.action == Action::Accept && ports && rule.peers.iter().any(|peer| is_it(&peer.who))
        };
        let governing = judge.governing(Direction::Egress, self.subject);
        let network = governing.network.iter().flat_map(|policy| policy.rules(Direction::Egress)).flatten();
        // Where a network policy isolates, the Baseline tier is not asked.
        let baseline = governing.baseline.iter().filter(|_| governing.network.is_empty());
        let cluster = governing.admin.iter().chain(baseline).flat_map(|policy| &policy.egress);
        network.chain(cluster).any(names)
    }

    fn policy(&self, judge: &Judge<'_>, direction: Direction, other: &End<'_>, peer: IpAddr, payload: Payload) -> Said {
        let said = self.unaudited(judge, direction, other, peer, payload);
        if said.allowed { said } else { audited(self.settings.mode.value, said) }
    }

    fn unaudited<'a>(
        &self,
        judge: &Judge<'a>,
        direction: Direction,
        other: &End<'_>,
        peer: IpAddr,
        payload: Payload,
    ) -> Said {
        let subject = self.subject;
        let say = |judgement: &Judgement<'a>, peer: Peer<'_>, payload: Payload| {
            let icmp = &self.settings.policy_icmp;
            match (&judgement.why, payload, icmp.value) {
                // The API leaves it open; the admin says that network policies do not.
                (Why::Isolated(_), Payload::Icmp { .. }, PolicyIcmp::Accept) => {
                    plain("policies", true, format!("allowed, ICMP is ({})", icmp.origin), Some(icmp.origin.clone()))
                }
                _ => policies_say(judge, judgement, direction, Some(subject), peer, payload),
            }
        };
        let own = judge.world().end_of(subject);
        if direction == Direction::Egress
            && let Ways::Service(service, endpoints) = judge.flow(&own, other, payload).ways
        {
            // Whichever of them a connection gets.
            let denied = endpoints.iter().find(|(_, answer)| !answer.egress);
            let Some((endpoint, answer)) = denied.or(endpoints.first()) else {
                return plain("policies", true, "allowed, nobody is behind it".to_owned(), None);
            };
            let payload = super::at_port(payload, endpoint.port);
            if let Ways::Pairs(pairs, chosen) = &answer.ways {
                let peer = Peer { pod: endpoint.pod, address: Some(endpoint.address) };
                let mut said = say(&pairs[*chosen].egress, peer, payload);
                let at = format!("service {service}, {} port {}", endpoint.address, endpoint.port);
                said.why = format!("{} ({at})", said.why);
                return said;
            }
        }
        let peer = Peer { pod: other.pod, address: Some(peer) };
        say(&judge.decide(direction, subject, peer, payload), peer, payload)
    }

    fn list(&self, layer: &ListLayer, packet: &Packet) -> Said {
        let name = match layer.source {
            LayerSource::Baseline => "baseline",
            LayerSource::Annotation => "annotation",
        };
        let placed = |entry: &Entry<'_>| format!("{:?} ({})", entry.text(), entry.origin());
        match layer.list.deciding(packet, self.host) {
            Some(entry) if !entry.deny() => {
                plain(name, true, format!("allowed by {}", placed(&entry)), Some(entry.origin()))
            }
            Some(entry) => {
                let why = format!("denied by {}", placed(&entry));
                audited(layer.mode, plain(name, false, why, Some(entry.origin())))
            }
            None => {
                let why = format!("denied, no entry of the list allows it ({})", layer.origin);
                let nearest = layer.list.nearest(packet, self.host).map(|entry| Near {
                    rule: format!("{:?}", entry.text()),
                    origin: entry.origin(),
                    lacks: vec![format!(
                        "{} is not what it lets through to this peer",
                        super::print::spoken(packet.payload)
                    )],
                    governs: true,
                });
                let nearest = nearest.take(3).collect();
                audited(layer.mode, Said { nearest, ..plain(name, false, why, Some(layer.origin.clone())) })
            }
        }
    }
}

fn plain(layer: &'static str, allowed: bool, why: String, origin: Option<Origin>) -> Said {
    Said { layer, allowed, why, origin, nearest: Vec::new() }
}

/// In audit mode what is denied passes and is remembered.
fn audited(mode: Mode, said: Said) -> Said {
    match mode {
        Mode::Enforce => said,
        Mode::Audit => Said { allowed: true, why: format!("passes in audit mode; otherwise {}", said.why), ..said },
    }
}
