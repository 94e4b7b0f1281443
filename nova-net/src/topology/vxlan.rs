//! VXLAN: a network of its own for each project, of which there may be millions.

use nova_core::domain::{InterfaceName, Invalid, Network, NetworkId, NetworkKind, ProjectId};
use nova_core::port::{NetError, NetworkSpec};

use super::flat_dhcp::routed;
use crate::host::{Part, Uplink, VxlanInterface};
use crate::topology::{
    Access, Blueprint, GuestOnHost, Segment, Shape, Taken, Topology, blueprints, own_or_free,
};

/// What is left of an Ethernet frame of 1500 bytes: VXLAN takes 50 of them (RFC 7348).
const MTU: u16 = 1450;

/// A VXLAN segment, a bridge and a DHCP server for each project.
///
/// A network serves the project that it belongs to, as with [`Vlan`](crate::topology::Vlan). Hosts
/// find each other by multicast on the interface that carries the segments, whose frames are taken
/// to be at least 1500 bytes long: guests are told by DHCP that theirs are shorter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)] // it has no options
pub struct Vxlan;

impl std::fmt::Display for Vxlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("vxlan topology")
    }
}

impl Topology for Vxlan {
    fn kind(&self) -> NetworkKind {
        NetworkKind::Vxlan
    }

    fn plan(
        &self,
        spec: &NetworkSpec,
        taken: &Taken,
        id: &dyn Fn(u32) -> NetworkId,
    ) -> Result<Vec<Blueprint>, NetError> {
        let segment = Some(Segment::Vxlan);
        blueprints(Shape { kind: NetworkKind::Vxlan, dhcp: true, segment }, spec, taken, id)
    }

    fn access(&self, network: &Network, project: &ProjectId) -> Access {
        own_or_free(network, project)
    }

    fn leads_floating_ips(&self) -> bool {
        true
    }

    fn parts(&self, network: &Network, guests: &[GuestOnHost<'_>]) -> Result<Vec<Part>, Invalid> {
        let (Some(vni), Some(parent)) = (network.vni, network.parent) else {
            let allowed = "a VXLAN network, with a segment and an interface that carries it";
            return Err(Invalid::new("network", network.id, allowed));
        };
        let name = InterfaceName::new(format!("vxlan{vni}"))?;
        let mut parts = vec![VxlanInterface { name, parent, vni }.into()];
        parts.extend(routed(network, Some(Uplink::Vxlan(name)), Some(MTU), guests)?);
        Ok(parts)
    }
}
