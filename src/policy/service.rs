//! Services as a pod that sends to them sees them: by their virtual addresses.
//!
//! A packet to a virtual address does not say who will get it, so a port of one is let through where every endpoint behind
//! it is. One with nobody behind it is an address like any other, and not told of here.

use super::compile::size_of_rules;
use super::lookup::World;
use super::model::Policies;
use super::verdict::Judge;
use super::watch::{MAX_QUESTIONS, too_many_questions};
use super::world::{Inventory, Pod};
use crate::error::Failure;
use crate::net::{Direction, Member, Payload};

/// Ports of virtual addresses with somebody behind them, sorted, none twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// Those that the pod may send to.
    pub accepted: Vec<Member>,
    /// Those that it may not.
    pub denied: Vec<Member>,
}

/// What `subject` may send to, asked of the specification.
///
/// # Errors
/// [`Cause::Limit`](crate::error::Cause::Limit) where that would take too long: each endpoint of each port is put to each
/// rule.
pub fn ports(policies: &Policies, world: &World, subject: &Pod) -> Result<Ports, Failure> {
    let judge = Judge::new(policies, world);
    let governing = judge.governing(Direction::Egress, subject);
    let network = governing.network.iter().filter_map(|policy| policy.rules(Direction::Egress));
    let cluster = governing.admin.iter().chain(&governing.baseline).map(|policy| policy.rules(Direction::Egress));
    let each = 1 + size_of_rules(network.chain(cluster).flatten());
    let mut questions = 0usize;
    let mut count = |more: usize| {
        questions = questions.saturating_add(more);
        if questions > MAX_QUESTIONS { Err(too_many_questions("the services")) } else { Ok(()) }
    };
    let mut found = Ports::default();
    for service in &world.inventory().services {
        let all = service.addresses.iter().flat_map(|address| service.ports.iter().map(move |port| (*address, port)));
        for (address, port) in all {
            count(world.questions(service))?;
            let endpoints = world.endpoints(address, port.transport, port.port).len();
            if endpoints == 0 {
                continue;
            }
            count(endpoints.saturating_mul(each))?;
            let payload = Payload::Transport { protocol: port.transport, port: port.port };
            let member = Member { address, port: Some((port.transport, port.port)) };
            if judge.packet(Direction::Egress, subject, address, payload) {
                found.accepted.push(member);
            } else {
                found.denied.push(member);
            }
        }
    }
    for members in [&mut found.accepted, &mut found.denied] {
        members.sort_unstable();
        members.dedup();
    }
    Ok(found)
}

impl Inventory {
    /// Whether there is a virtual address at all.
    pub fn has_services(&self) -> bool {
        self.services.iter().any(|service| !service.addresses.is_empty())
    }

    /// Whether a pod of this namespace and with these labels stands behind a virtual address by its labels alone.
    pub fn is_selected_by_service(&self, namespace: &str, labels: &super::model::Labels) -> bool {
        let listed = |name: &str| self.slices.iter().any(|slice| slice.namespace == namespace && slice.service == name);
        self.services.iter().any(|service| {
            service.namespace == namespace
                && !service.addresses.is_empty()
                && service.selector.as_ref().is_some_and(|selector| selector.selects(labels))
                && !listed(&service.name)
        })
    }
}
