//! Cutting networks out of a range: the arithmetic that all topologies share.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::{IpNetwork, Ipv4Network};
use nova_core::domain::{
    InterfaceName, Invalid, Label, Network, NetworkId, NetworkKind, VlanId, Vni,
};
use nova_core::port::{NetError, NetworkSpec};

use crate::pool::{Exhausted, Use};
use crate::topology::Taken;

/// The most networks of one call: as many as there are VLANs, and what one transaction can hold.
pub const NETWORKS_MAX: u32 = VlanId::MAX as u32;

/// The size of a network when nothing is said and the range is larger.
pub const SIZE_DEFAULT: u32 = 256;

/// Where the choice of a VLAN begins when nothing is said.
pub const FIRST_VLAN_DEFAULT: u16 = 100;

/// A network to be made, with the addresses that it keeps for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Blueprint {
    /// The network.
    pub network: Network,
    /// Addresses that no guest gets, ascending.
    pub reserved: Vec<IpAddr>,
}

/// In which ways the networks of one topology differ from those of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shape {
    /// The kind.
    pub kind: NetworkKind,
    /// Whether the host answers DHCP, from the gateway's address.
    pub dhcp: bool,
    /// What keeps each network apart from all others, if anything does. Such a network keeps an
    /// address for a VPN gateway.
    pub segment: Option<Segment>,
}

/// What keeps the networks of projects apart between hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Segment {
    /// A VLAN each.
    Vlan,
    /// A VXLAN segment each.
    Vxlan,
}

/// Where the choice of a VXLAN segment begins: beyond what could be mistaken for a VLAN.
pub const FIRST_VNI: u32 = 4096;

/// Cuts the networks of `spec` out of its range.
///
/// Of each network the first addresses are reserved (network and gateway; for a VLAN also the
/// VPN gateway's), the last (broadcast), and the gateway's wherever it is. A subnet that exists
/// already, whole or in part, is skipped for the next free one of the range; one that lies
/// inside a larger network is a conflict. A VLAN is skipped when it is taken, and when a bridge
/// of its name exists.
///
/// # Errors
/// [`NetError::Invalid`] names the field; [`NetError::CidrConflict`] when no subnet of the range
/// is left; [`NetError::NoMoreVlans`].
pub fn blueprints(
    shape: Shape,
    spec: &NetworkSpec,
    taken: &Taken,
    id: &dyn Fn(u32) -> NetworkId,
) -> Result<Vec<Blueprint>, NetError> {
    let cidr = unicast_range("network.cidr", spec.cidr)?;
    let size = subnet_size(spec, cidr)?;
    let first_vlan = spec.first_vlan.map_or(VlanId::new(FIRST_VLAN_DEFAULT), Ok)?;
    match (shape.segment, spec.first_vlan) {
        (None | Some(Segment::Vxlan), Some(vlan)) => {
            let allowed = "none, as this kind of network has no VLAN";
            return Err(Invalid::new("network.first_vlan", vlan, allowed).into());
        }
        (Some(_), _) if spec.parent.is_none() => {
            let allowed = "the physical interface that carries the segments";
            return Err(Invalid::new("network.parent", "none", allowed).into());
        }
        _ => {}
    }
    if let (Some(gateway), 2..) = (spec.gateway, spec.count) {
        let allowed = "none for several networks: each has its own";
        return Err(Invalid::new("network.gateway", gateway, allowed).into());
    }
    let mut vlans = taken.vlans_from(first_vlan.get());
    if spec.bridge.is_none() {
        // A VLAN whose bridge would bear the name of one that exists is as good as taken.
        let bridges = taken.networks.iter().map(|network| network.bridge.as_str());
        let numbers = bridges.filter_map(|bridge| bridge.strip_prefix("br")?.parse().ok());
        numbers.for_each(|number| vlans.set(number, Use::Held));
    }
    let mut next_vlan = || match vlans.next(taken.now) {
        Err(Exhausted { .. }) => Err(NetError::NoMoreVlans { from: first_vlan }),
        Ok(pick) => {
            vlans.set(pick.number(), Use::Held);
            let vlan = u16::try_from(pick.number()).unwrap_or(u16::MAX);
            Ok(VlanId::new(vlan)?)
        }
    };

    // That networks are added one after the other, by the ledger of ranges, makes this enough.
    let mut vnis: BTreeSet<u32> =
        taken.networks.iter().filter_map(|network| network.vni).map(Vni::get).collect();
    let mut blueprints = Vec::new();
    let mut bridges = Wiring::of(&taken.networks);
    let ranges_v6 = spec.ranges_v6(&taken.networks)?;
    let ranges = subnets(cidr, size, spec.count, taken)?.into_iter().zip(ranges_v6);
    for (n, (range, cidr_v6)) in (0..).zip(ranges) {
        let (vlan, vni) = match shape.segment {
            None => (None, None),
            Some(Segment::Vlan) => (Some(next_vlan()?), None),
            Some(Segment::Vxlan) => (None, Some(next_vni(&mut vnis)?)),
        };
        let network = network(shape, spec, (n, id(n)), range, (vlan, vni))?;
        let network = Network { cidr_v6, ..network };
        bridges.connect(&network)?;
        let (reserved, first_guest) = reserved(shape, &network, range)?;
        let network = Network { first_guest, ..network };
        blueprints.push(Blueprint { network, reserved });
    }
    Ok(blueprints)
}

/// The segment after the highest one in use, so that one that was given back rests; when there is
/// none after it, the lowest that is free.
fn next_vni(used: &mut BTreeSet<u32>) -> Result<Vni, NetError> {
    let after = used.last().map_or(FIRST_VNI, |last| last + 1).max(FIRST_VNI);
    let mut free = (after..=Vni::MAX).chain(FIRST_VNI..=Vni::MAX).filter(|vni| !used.contains(vni));
    let none = || NetError::NoMoreAddresses { of: "VXLAN segments".to_owned() };
    let vni = free.next().ok_or_else(none)?;
    used.insert(vni);
    Ok(Vni::new(vni)?)
}

/// `range` as an IPv4 range that hosts can be in.
///
/// # Errors
/// [`Invalid`] for IPv6, for bits set behind the prefix, and for ranges that no host may use.
pub(crate) fn unicast_range(field: &'static str, range: IpNetwork) -> Result<Ipv4Network, Invalid> {
    let IpNetwork::V4(v4) = range else {
        return Err(Invalid::new(field, range, "an IPv4 range"));
    };
    if v4.ip() != v4.network() {
        return Err(Invalid::new(field, range, "a range without bits behind its prefix"));
    }
    // "This network", loopback, and everything from multicast on.
    let (first, last) = (v4.network().octets()[0], v4.broadcast().octets()[0]);
    if first == 0 || (first <= 127 && last >= 127) || last >= 224 {
        let allowed = "a range of unicast addresses: not in 0/8, 127/8, 224/4 or 240/4";
        return Err(Invalid::new(field, range, allowed));
    }
    Ok(v4)
}

fn subnet_size(spec: &NetworkSpec, cidr: Ipv4Network) -> Result<u32, Invalid> {
    let whole = 1_u64 << (32 - cidr.prefix());
    if !(1..=NETWORKS_MAX).contains(&spec.count) {
        return Err(Invalid::new("network.count", spec.count, "1 to 4094"));
    }
    let count = u64::from(spec.count);
    let size = match spec.size {
        Some(size) if !size.is_power_of_two() => {
            return Err(Invalid::new("network.size", size, "a power of two"));
        }
        Some(size) => size,
        None => {
            let share = u32::try_from(whole / count).unwrap_or(u32::MAX).min(SIZE_DEFAULT);
            share.checked_ilog2().map_or(0, |bits| 1 << bits)
        }
    };
    match size {
        0 => Err(Invalid::new("network.count", count, "at most one for each address of the range")),
        size if u64::from(size) > whole => {
            Err(Invalid::new("network.size", size, "at most the size of the range"))
        }
        size if u64::from(size) * count > whole => {
            Err(Invalid::new("network.count", count, "as many as fit into the range"))
        }
        size => Ok(size),
    }
}

/// The first `count` subnets of `cidr` that are free.
fn subnets(
    cidr: Ipv4Network,
    size: u32,
    count: u32,
    taken: &Taken,
) -> Result<Vec<Ipv4Network>, NetError> {
    let prefix = 32 - u8::try_from(size.ilog2()).unwrap_or(32);
    let used: BTreeMap<u64, Ipv4Network> = taken
        .networks
        .iter()
        .map(|network| network.cidr)
        .chain(taken.pools.iter().map(|pool| pool.range))
        .filter_map(|range| match range {
            IpNetwork::V4(v4) => Some((u64::from(u32::from(v4.network())), v4)),
            IpNetwork::V6(_) => None,
        })
        .collect();
    let last = u64::from(u32::from(cidr.broadcast()));
    let size = u64::from(size);
    let mut next = u64::from(u32::from(cidr.network()));
    let mut subnets = Vec::new();
    let mut skipped = None;
    while subnets.len() < count as usize {
        let end = next + size - 1;
        let candidate = u32::try_from(next).ok().filter(|_| end <= last);
        let Some(first) = candidate else {
            // Without anything in the way they would all have fitted.
            let other = skipped.unwrap_or(cidr).into();
            return Err(NetError::CidrConflict { cidr: cidr.into(), other });
        };
        let range = Ipv4Network::new(first.into(), prefix)
            .map_err(|_| Invalid::new("network.cidr", cidr, "an IPv4 range"))?;
        // Ranges in use do not overlap each other: the last one that begins before the end of
        // the candidate is the only one that need be looked at.
        let before = used.range(..=end).next_back().map(|(_, other)| *other);
        match before.filter(|other| other.overlaps(range)) {
            None => {
                subnets.push(range);
                next += size;
            }
            Some(other) if other.prefix() < prefix => {
                return Err(NetError::CidrConflict { cidr: range.into(), other: other.into() });
            }
            Some(other) => {
                skipped = Some(other);
                next += size;
            }
        }
    }
    Ok(subnets)
}

fn network(
    shape: Shape,
    spec: &NetworkSpec,
    (n, id): (u32, NetworkId),
    range: Ipv4Network,
    (vlan, vni): (Option<VlanId>, Option<Vni>),
) -> Result<Network, Invalid> {
    let name = match spec.count {
        1 => spec.name.clone(),
        _ => Label::new(format!("{}_{n}", spec.name))?,
    };
    let bridge = match (&spec.bridge, vlan, vni) {
        (Some(bridge), ..) => *bridge,
        (None, Some(vlan), _) => InterfaceName::new(format!("br{vlan}"))?,
        (None, None, Some(vni)) => InterfaceName::new(format!("brx{vni}"))?,
        (None, None, None) => InterfaceName::new("br100")?,
    };
    let first = u32::from(range.network());
    let second = first.saturating_add(1);
    let gateway = match spec.gateway {
        None => second,
        Some(gateway) => match gateway {
            IpAddr::V4(v4) if range.contains(v4) => v4.into(),
            _ => return Err(Invalid::new("network.gateway", gateway, "an address of the network")),
        },
    };
    if range.prefix() < 31 && [first, u32::from(range.broadcast())].contains(&gateway) {
        let allowed = "neither the first nor the last address of the network";
        return Err(Invalid::new("network.gateway", Ipv4Addr::from(gateway), allowed));
    }
    let vpn = second.saturating_add(u32::from(gateway == second));
    let ip = |number: u32| IpAddr::from(Ipv4Addr::from(number));
    Ok(Network {
        id,
        name,
        kind: shape.kind,
        cidr: range.into(),
        cidr_v6: None,
        gateway: Some(ip(gateway)),
        dhcp_server: shape.dhcp.then(|| ip(gateway)),
        // Known only when it is known what is reserved.
        first_guest: ip(first),
        dns: spec.dns.clone(),
        bridge,
        parent: spec.parent,
        vlan,
        vni,
        vpn: shape.segment.map(|_| ip(vpn)),
        project: spec.project.clone(),
    })
}

/// What the network keeps for itself, and the first address that is left.
fn reserved(
    shape: Shape,
    network: &Network,
    range: Ipv4Network,
) -> Result<(Vec<IpAddr>, IpAddr), Invalid> {
    let (first, last) = (u32::from(range.network()), u32::from(range.broadcast()));
    let bottom = if shape.segment.is_some() { 3 } else { 2 };
    let kept: BTreeSet<u32> = (0..bottom)
        .map(|offset| first.saturating_add(offset))
        .filter(|address| *address <= last)
        .chain([last])
        .chain(network.gateway.and_then(crate::pool::number))
        .collect();
    // Fewer than five are kept, so that this looks at five addresses at most.
    match (first..=last).find(|address| !kept.contains(address)) {
        None => {
            let allowed = "a network with an address left for a guest";
            Err(Invalid::new("network.size", network.cidr, allowed))
        }
        Some(guest) => {
            let kept = kept.into_iter().map(crate::pool::address).collect();
            Ok((kept, crate::pool::address(guest)))
        }
    }
}

/// Which bridge and which physical interface is used for what.
#[derive(Default)]
struct Wiring {
    bridges: BTreeMap<InterfaceName, (NetworkKind, Option<InterfaceName>)>,
    /// Those whose networks have IPv6.
    with_ipv6: BTreeSet<InterfaceName>,
    uplinks: BTreeMap<InterfaceName, InterfaceName>,
}

impl Wiring {
    fn of(networks: &[Network]) -> Self {
        let mut wiring = Self::default();
        for network in networks {
            // What is there was checked when it was made.
            let _ = wiring.connect(network);
        }
        wiring
    }

    /// Connects `network`, if a host can have it beside those connected before.
    fn connect(&mut self, network: &Network) -> Result<(), Invalid> {
        let meaning = (network.kind, network.parent);
        let bridge = &network.bridge;
        let ipv6 = network.cidr_v6.is_some() || self.with_ipv6.contains(bridge);
        let allowed = match self.bridges.get(bridge) {
            // Guests make addresses of every range that they hear of.
            Some(_) if ipv6 => Some("a bridge of its own for a network with IPv6"),
            // A VLAN's bridge is its own; others may carry several networks of one kind.
            Some(_) if network.vlan.is_some() || network.vni.is_some() => {
                Some("a bridge of its own for each segment")
            }
            Some(present) if *present != meaning => {
                Some("a bridge without networks of another kind or on another interface")
            }
            _ => None,
        };
        if let Some(allowed) = allowed {
            return Err(Invalid::new("network.bridge", network.bridge, allowed));
        }
        // The operator's own bridges are the operator's own business.
        let ours =
            network.kind != NetworkKind::Flat && network.vlan.is_none() && network.vni.is_none();
        if let Some(parent) = network.parent.as_ref().filter(|_| ours) {
            let bridge = self.uplinks.entry(*parent).or_insert(network.bridge);
            if *bridge != network.bridge {
                let allowed = "an interface that is not in another bridge";
                return Err(Invalid::new("network.parent", parent, allowed));
            }
        }
        self.bridges.insert(network.bridge, meaning);
        if ipv6 {
            self.with_ipv6.insert(network.bridge);
        }
        Ok(())
    }
}
