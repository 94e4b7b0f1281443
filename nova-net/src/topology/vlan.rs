//! VLAN: a network of its own for each project.

use nova_core::domain::{InterfaceName, Invalid, Network, NetworkId, NetworkKind, ProjectId};
use nova_core::port::{NetError, NetworkSpec};

use super::flat_dhcp::routed;
use crate::host::{Part, Uplink, VlanInterface};
use crate::topology::{
    Access, Blueprint, GuestOnHost, Segment, Shape, Taken, Topology, blueprints, own_or_free,
};

/// A VLAN, a bridge and a DHCP server for each project.
///
/// A network serves the project that it belongs to. One that belongs to nobody yet becomes the
/// property of the first project that has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)] // it has no options
pub struct Vlan;

impl std::fmt::Display for Vlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("vlan topology")
    }
}

impl Topology for Vlan {
    fn kind(&self) -> NetworkKind {
        NetworkKind::Vlan
    }

    fn plan(
        &self,
        spec: &NetworkSpec,
        taken: &Taken,
        id: &dyn Fn(u32) -> NetworkId,
    ) -> Result<Vec<Blueprint>, NetError> {
        blueprints(
            Shape { kind: NetworkKind::Vlan, dhcp: true, segment: Some(Segment::Vlan) },
            spec,
            taken,
            id,
        )
    }

    fn access(&self, network: &Network, project: &ProjectId) -> Access {
        own_or_free(network, project)
    }

    fn leads_floating_ips(&self) -> bool {
        true
    }

    fn parts(&self, network: &Network, guests: &[GuestOnHost<'_>]) -> Result<Vec<Part>, Invalid> {
        let (Some(vlan), Some(parent)) = (network.vlan, network.parent) else {
            let allowed = "a VLAN network, with a VLAN and an interface that carries it";
            return Err(Invalid::new("network", network.id, allowed));
        };
        let name = InterfaceName::new(format!("vlan{vlan}"))?;
        let mut parts = vec![VlanInterface { name, parent, vlan }.into()];
        parts.extend(routed(network, Some(Uplink::Vlan(name)), None, guests)?);
        Ok(parts)
    }
}
