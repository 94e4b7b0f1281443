//! An independent judge of plans.
//!
//! [`check`] follows a plan step by step and holds every state in between against rules of its
//! own. It shares no code with [`diff`](crate::plan::diff) or with
//! [`HostNet`]'s own bookkeeping: what a part depends on and what may be
//! there only once is written down here a second time, so that a mistake has to be made twice.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use nova_core::domain::{InterfaceName, Mac, NetworkId, VlanId, Vni};

use crate::host::{Bridge, HostNet, Part, PartId, Uplink};
use crate::plan::{Action, Plan};

/// What is wrong with a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A step has another number than its place.
    #[error("step {place} bears number {number}")]
    Misnumbered {
        /// Where it is.
        place: usize,
        /// Which number it bears.
        number: usize,
    },
    /// A step adds what is there, or changes or removes what is not there.
    #[error("step {step}: {part} is {presence}")]
    Presence {
        /// The step.
        step: usize,
        /// The part.
        part: PartId,
        /// How the part was found.
        presence: &'static str,
    },
    /// A step changes what cannot change in use.
    #[error("step {step}: {part} cannot change in use")]
    Fixed {
        /// The step.
        step: usize,
        /// The part.
        part: PartId,
    },
    /// After a step something live uses what is not there.
    #[error("after step {step}: {part} uses {uses}, which is not there")]
    Dangling {
        /// The step.
        step: usize,
        /// Who uses it.
        part: PartId,
        /// What is used.
        uses: PartId,
    },
    /// After a step two parts have what only one may have.
    #[error("after step {step}: {part} and {other} have the same {what}")]
    Shared {
        /// The step.
        step: usize,
        /// The one.
        part: PartId,
        /// The other.
        other: PartId,
        /// What they both have.
        what: String,
    },
    /// After the last step something is not as it should be.
    #[error("at the end: {part} is not as it should be")]
    Unreached {
        /// The part.
        part: PartId,
    },
}

/// Whether `plan` leads from `from` to `to` without ever breaking a rule on the way.
///
/// The rules: no step uses what does not exist; nothing is removed that something live depends
/// on; no address, interface name, VLAN, uplink, MAC or lease is in two places at once; what
/// cannot change in use is not changed; after the last step the network is `to`.
///
/// # Errors
/// Every [`Violation`], in the order in which they happen.
pub fn check(from: &HostNet, plan: &Plan, to: &HostNet) -> Result<(), Vec<Violation>> {
    let mut live = Live::default();
    from.parts().for_each(|(_, part)| live.add(part));
    let mut wrong = Vec::new();
    for (place, step) in plan.steps().iter().enumerate() {
        if step.number != place {
            wrong.push(Violation::Misnumbered { place, number: step.number });
        }
        live.follow(place, &step.action, &mut wrong);
    }
    let goal: BTreeMap<PartId, &Part> = to.parts().map(|(id, p)| (id.clone(), p)).collect();
    let ids: BTreeSet<&PartId> = live.parts.keys().chain(goal.keys()).collect();
    for part in ids {
        if live.parts.get(part) != goal.get(part) {
            wrong.push(Violation::Unreached { part: part.clone() });
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// What is there between two steps.
#[derive(Default)]
struct Live<'a> {
    parts: BTreeMap<PartId, &'a Part>,
    owners: BTreeMap<Thing<'a>, BTreeSet<PartId>>,
}

impl<'a> Live<'a> {
    fn add(&mut self, part: &'a Part) {
        for thing in things(part) {
            self.owners.entry(thing).or_default().insert(part.id());
        }
        self.parts.insert(part.id(), part);
    }

    fn remove(&mut self, id: &PartId) {
        for thing in self.parts.remove(id).into_iter().flat_map(things) {
            self.owners.entry(thing).or_default().remove(id);
        }
    }

    /// Takes a step, and notes what it breaks.
    fn follow(&mut self, step: usize, action: &'a Action, wrong: &mut Vec<Violation>) {
        let part = action.part();
        let id = part.id();
        let presence = match (action, self.parts.get(&id)) {
            (Action::Add(_), Some(_)) => Some("there already"),
            (Action::Change(_) | Action::Remove(_), None) => Some("not there"),
            (Action::Remove(_), Some(found)) if *found != part => Some("another one"),
            (Action::Change(_), Some(found)) if !may_change(found, part) => {
                wrong.push(Violation::Fixed { step, part: id.clone() });
                None
            }
            _ => None,
        };
        if let Some(presence) = presence {
            wrong.push(Violation::Presence { step, part: id.clone(), presence });
        }
        self.remove(&id);
        if let Action::Add(_) | Action::Change(_) = action {
            self.add(part);
            self.missed_by(step, part, wrong);
            for thing in things(part) {
                for other in self.owners.get(&thing).into_iter().flatten().filter(|o| **o != id) {
                    let (part, other, what) = (id.clone(), other.clone(), format!("{thing:?}"));
                    wrong.push(Violation::Shared { step, part, other, what });
                }
            }
        } else {
            self.parts.values().for_each(|part| self.missed_by(step, part, wrong));
        }
    }

    /// Notes what `part` uses and does not find.
    fn missed_by(&self, step: usize, part: &Part, wrong: &mut Vec<Violation>) {
        for uses in uses(part) {
            if !self.parts.contains_key(&uses) {
                wrong.push(Violation::Dangling { step, part: part.id(), uses });
            }
        }
    }
}

/// What may change while guests go on: where a bridge leads, what DHCP tells, what may come in, and
/// whose rules say so.
fn may_change(old: &Part, new: &Part) -> bool {
    match (old, new) {
        (Part::Bridge(old), Part::Bridge(new)) => old.origin == new.origin,
        (Part::DhcpServer(old), Part::DhcpServer(new)) => {
            (&old.bridge, old.listen) == (&new.bridge, new.listen)
        }
        (Part::RouterAdvertiser(old), Part::RouterAdvertiser(new)) => {
            (&old.bridge, old.gateway) == (&new.bridge, new.gateway)
        }
        (Part::Lease(_), Part::Lease(_)) | (Part::PortFilter(_), Part::PortFilter(_)) => true,
        (Part::GuestPort(old), Part::GuestPort(new)) => {
            (&old.bridge, old.mac, old.address) == (&new.bridge, new.mac, new.address)
        }
        _ => false,
    }
}

/// What `part` would stop working without.
fn uses(part: &Part) -> Vec<PartId> {
    let bridge = match part {
        Part::VlanInterface(_)
        | Part::VxlanInterface(_)
        | Part::Bridge(_)
        | Part::Lease(_)
        | Part::GuestIpv6(_)
        | Part::PublicAddress(_)
        | Part::PortFilter(_)
        | Part::MetadataService(_) => None,
        Part::BridgeAddress(address) => Some(&address.bridge),
        Part::DhcpServer(server) => Some(&server.bridge),
        Part::RouterAdvertiser(advertiser) => Some(&advertiser.bridge),
        Part::Nat(nat) => Some(&nat.bridge),
        Part::GuestPort(port) => Some(&port.bridge),
        Part::Floating(floating) => Some(&floating.bridge),
    };
    let besides = match part {
        Part::Bridge(Bridge { uplink: Some(Uplink::Vlan(name)), .. }) => {
            Some(PartId::VlanInterface(*name))
        }
        Part::Bridge(Bridge { uplink: Some(Uplink::Vxlan(name)), .. }) => {
            Some(PartId::VxlanInterface(*name))
        }
        Part::DhcpServer(server) => Some(PartId::BridgeAddress(server.listen)),
        Part::RouterAdvertiser(advertiser) => {
            Some(PartId::BridgeAddress(advertiser.gateway.ip().into()))
        }
        Part::Lease(lease) => Some(PartId::DhcpServer(lease.network)),
        Part::GuestPort(port) => Some(PartId::PortFilter(port.groups.clone())),
        Part::GuestIpv6(guest) => Some(PartId::GuestPort(guest.tap)),
        Part::Floating(floating) => Some(PartId::PublicAddress(floating.address)),
        _ => None,
    };
    bridge.map(|name| PartId::Bridge(*name)).into_iter().chain(besides).collect()
}

/// Something that a host has only one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Thing<'a> {
    Interface(&'a InterfaceName),
    Vlan(&'a InterfaceName, VlanId),
    Segment(Vni),
    UplinkOfABridge(&'a InterfaceName),
    Address(IpAddr),
    DhcpSource(IpAddr),
    Lease(NetworkId, IpAddr),
    Advertiser(&'a InterfaceName),
    Mac(Mac),
    GuestAddress(&'a InterfaceName, IpAddr),
}

/// What nobody may have besides `part`.
fn things(part: &Part) -> Vec<Thing<'_>> {
    match part {
        Part::VlanInterface(vlan) => {
            vec![Thing::Interface(&vlan.name), Thing::Vlan(&vlan.parent, vlan.vlan)]
        }
        Part::VxlanInterface(vxlan) => {
            vec![Thing::Interface(&vxlan.name), Thing::Segment(vxlan.vni)]
        }
        Part::Bridge(bridge) => match &bridge.uplink {
            None => vec![Thing::Interface(&bridge.name)],
            Some(Uplink::Physical(uplink) | Uplink::Vlan(uplink) | Uplink::Vxlan(uplink)) => {
                vec![Thing::Interface(&bridge.name), Thing::UplinkOfABridge(uplink)]
            }
        },
        Part::BridgeAddress(address) => vec![Thing::Address(address.address.ip())],
        Part::PublicAddress(address) => vec![Thing::Address(address.address)],
        Part::MetadataService(service) => vec![Thing::Address(service.address)],
        Part::DhcpServer(server) => vec![Thing::DhcpSource(server.listen)],
        Part::RouterAdvertiser(advertiser) => vec![Thing::Advertiser(&advertiser.bridge)],
        Part::GuestIpv6(guest) => vec![Thing::GuestAddress(&guest.bridge, guest.address.into())],
        Part::Lease(lease) => vec![Thing::Lease(lease.network, lease.address)],
        Part::GuestPort(port) => vec![
            Thing::Interface(&port.tap),
            Thing::Mac(port.mac),
            Thing::GuestAddress(&port.bridge, port.address),
        ],
        Part::Nat(_) | Part::Floating(_) | Part::PortFilter(_) => Vec::new(),
    }
}
