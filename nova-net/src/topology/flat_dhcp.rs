//! Flat-DHCP: a bridge of ours, and one broadcast domain for all projects.

use std::net::IpAddr;

use ipnetwork::{IpNetwork, Ipv6Network};
use nova_core::domain::{Invalid, Network, NetworkId, NetworkKind, ProjectId};
use nova_core::port::{NetError, NetworkSpec};

use super::flat::guest_ports;
use crate::host::{
    Bridge, BridgeAddress, BridgeOrigin, DhcpServer, Lease, Nat, Part, RouterAdvertiser, Uplink,
};
use crate::topology::{
    Access, Blueprint, GuestOnHost, Shape, Taken, Topology, blueprints, shared_or_own,
};

/// A bridge of ours on a physical interface, if one is named, with gateway and DHCP on each host.
///
/// Every such network serves every project, or the one it belongs to. Guests of different
/// projects share a broadcast domain; who wants them apart takes [`Vlan`](crate::topology::Vlan).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)] // it has no options
pub struct FlatDhcp;

impl std::fmt::Display for FlatDhcp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("flat-dhcp topology")
    }
}

impl Topology for FlatDhcp {
    fn kind(&self) -> NetworkKind {
        NetworkKind::FlatDhcp
    }

    fn plan(
        &self,
        spec: &NetworkSpec,
        taken: &Taken,
        id: &dyn Fn(u32) -> NetworkId,
    ) -> Result<Vec<Blueprint>, NetError> {
        blueprints(
            Shape { kind: NetworkKind::FlatDhcp, dhcp: true, segment: None },
            spec,
            taken,
            id,
        )
    }

    fn access(&self, network: &Network, project: &ProjectId) -> Access {
        shared_or_own(network, project)
    }

    fn leads_floating_ips(&self) -> bool {
        true
    }

    fn parts(&self, network: &Network, guests: &[GuestOnHost<'_>]) -> Result<Vec<Part>, Invalid> {
        routed(network, network.parent.map(Uplink::Physical), None, guests)
    }
}

/// A bridge that the host itself is the gateway and the DHCP server of.
pub(super) fn routed(
    network: &Network,
    uplink: Option<Uplink>,
    mtu: Option<u16>,
    guests: &[GuestOnHost<'_>],
) -> Result<Vec<Part>, Invalid> {
    let bridge = || network.bridge;
    let mut parts: Vec<Part> =
        vec![Bridge { name: bridge(), uplink, origin: BridgeOrigin::Ours }.into()];
    if let Some(gateway) = network.gateway {
        let address = IpNetwork::new(gateway, network.cidr.prefix())
            .map_err(|_| Invalid::new("network.gateway", gateway, "an address of the network"))?;
        parts.push(BridgeAddress { bridge: bridge(), address }.into());
        parts.push(Nat { range: network.cidr, bridge: bridge() }.into());
    }
    if let Some(listen) = network.dhcp_server {
        parts.push(
            DhcpServer {
                network: network.id,
                bridge: bridge(),
                listen,
                range: network.cidr,
                gateway: network.gateway,
                dns: network.dns.iter().filter(|dns| dns.is_ipv4()).copied().collect(),
                mtu,
            }
            .into(),
        );
        parts.extend(guests.iter().map(|guest| {
            let (mac, address) = (guest.port.mac, guest.port.address);
            Lease { network: network.id, mac, address, name: guest.name.clone() }.into()
        }));
    }
    if let Some(address) = network.gateway_v6() {
        let dns = network.dns.iter().filter_map(|dns| match dns {
            IpAddr::V6(dns) => Some(*dns),
            IpAddr::V4(_) => None,
        });
        let dns = dns.collect();
        let gateway = Ipv6Network::new(address, 64)
            .map_err(|_| Invalid::new("network.cidr_v6", address, "a range of 64 bits"))?;
        let (network, bridge) = (network.id, bridge());
        parts.push(BridgeAddress { bridge, address: gateway.into() }.into());
        parts.push(RouterAdvertiser { network, bridge, gateway, dns, mtu }.into());
    }
    parts.extend(guest_ports(network, guests)?);
    Ok(parts)
}
