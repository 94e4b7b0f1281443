//! Flat: a bridge of the operator's, and addresses that are put into the guest's disk.

use nova_core::domain::{InterfaceName, Invalid, Network, NetworkId, NetworkKind, ProjectId};
use nova_core::port::{NetError, NetworkSpec};

use crate::host::{Bridge, BridgeOrigin, GuestIpv6, GuestPort, Part};
use crate::topology::{
    Access, Blueprint, GuestOnHost, Shape, Taken, Topology, blueprints, shared_or_own,
};

/// The operator's own bridge. No DHCP, no gateway of ours, no floating IPs.
///
/// Every such network serves every project, or the one it belongs to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)] // it has no options
pub struct Flat;

impl std::fmt::Display for Flat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("flat topology")
    }
}

impl Topology for Flat {
    fn kind(&self) -> NetworkKind {
        NetworkKind::Flat
    }

    fn plan(
        &self,
        spec: &NetworkSpec,
        taken: &Taken,
        id: &dyn Fn(u32) -> NetworkId,
    ) -> Result<Vec<Blueprint>, NetError> {
        blueprints(Shape { kind: NetworkKind::Flat, dhcp: false, segment: None }, spec, taken, id)
    }

    fn access(&self, network: &Network, project: &ProjectId) -> Access {
        shared_or_own(network, project)
    }

    fn leads_floating_ips(&self) -> bool {
        false
    }

    fn parts(&self, network: &Network, guests: &[GuestOnHost<'_>]) -> Result<Vec<Part>, Invalid> {
        let (name, origin) = (network.bridge, BridgeOrigin::Operators);
        let mut parts = vec![Bridge { name, uplink: None, origin }.into()];
        parts.extend(guest_ports(network, guests)?);
        Ok(parts)
    }
}

/// The interfaces of these guests on the bridge of `network`.
pub(super) fn guest_ports(
    network: &Network,
    guests: &[GuestOnHost<'_>],
) -> Result<Vec<Part>, Invalid> {
    let mut parts = Vec::with_capacity(guests.len());
    for guest in guests {
        let (mac, address) = (guest.port.mac, guest.port.address);
        let (bridge, groups) = (network.bridge, guest.port.security_groups.clone());
        let tap = InterfaceName::of_port(mac);
        parts.push(GuestPort { tap, bridge, mac, address, groups }.into());
        let ipv6 = guest.port.address_v6;
        let network = network.id;
        parts.extend(ipv6.map(|address| Part::from(GuestIpv6 { tap, network, bridge, address })));
    }
    Ok(parts)
}
