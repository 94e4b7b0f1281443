//! Networks and addresses: what the network manager hands out, as it is stored.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv6Network};

use crate::clock::Timestamp;
use crate::domain::{
    HostId, InstanceId, Invalid, Label, Mac, NetworkId, OpId, PoolName, ProjectId, SecurityGroupId,
    VlanId, Vni,
};

/// How a network reaches its guests (Nova's three managers).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum NetworkKind {
    /// A bridge that the operator made; addresses are put into the guest's disk. No DHCP, no
    /// gateway of ours, no floating IPs.
    Flat,
    /// A bridge of ours, one DHCP server, one broadcast domain for all projects.
    FlatDhcp,
    /// A VLAN, a bridge and a DHCP server for each project.
    Vlan,
    /// The same with a VXLAN segment in the place of the VLAN: there are 16 million of them, and
    /// they cross whatever carries IP multicast between hosts.
    Vxlan,
}

impl std::fmt::Display for NetworkKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Flat => "flat",
            Self::FlatDhcp => "flat-dhcp",
            Self::Vlan => "vlan",
            Self::Vxlan => "vxlan",
        })
    }
}

/// The name of a network interface as Linux accepts it: 1 to 15 bytes, no '/', no space.
///
/// The text is kept in place: a host's network has thousands of them, which are copied often.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceName {
    /// Zeros follow the text, so that names sort as their texts do.
    bytes: [u8; Self::LENGTH_MAX],
}

impl InterfaceName {
    const LENGTH_MAX: usize = 15;

    /// The interface that every machine has for itself.
    pub const LOOPBACK: Self = Self { bytes: *b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0" };

    /// The host's end of the guest's interface with this address: `tap` and the twelve digits.
    ///
    /// A MAC is unique in a cloud, so this is; whoever makes the interface and whoever filters
    /// what comes from it agree without asking each other.
    pub fn of_port(mac: Mac) -> Self {
        let mut bytes = *b"tap\0\0\0\0\0\0\0\0\0\0\0\0";
        let digits = mac.bytes().into_iter().flat_map(|byte| [byte >> 4, byte & 15]);
        for (place, digit) in bytes[3..].iter_mut().zip(digits) {
            *place = b"0123456789abcdef"[usize::from(digit)];
        }
        Self { bytes }
    }

    /// Checks `name`.
    ///
    /// # Errors
    /// [`Invalid`] unless it is 1 to 15 of `A-Z a-z 0-9 . _ -`, starting with a letter or digit.
    pub fn new(name: impl AsRef<str>) -> Result<Self, Invalid> {
        let name = name.as_ref();
        let good = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if (1..=Self::LENGTH_MAX).contains(&name.len())
            && name.as_bytes()[0].is_ascii_alphanumeric()
            && name.bytes().all(good)
        {
            let mut bytes = [0; Self::LENGTH_MAX];
            bytes[..name.len()].copy_from_slice(name.as_bytes());
            Ok(Self { bytes })
        } else {
            let allowed = "1 to 15 of A-Z, a-z, 0-9 and ._-, the first a letter or a digit";
            Err(Invalid::new("interface name", name, allowed))
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        let length = self.bytes.iter().position(|byte| *byte == 0).unwrap_or(Self::LENGTH_MAX);
        // It was made of ASCII alone.
        std::str::from_utf8(&self.bytes[..length]).unwrap_or_default()
    }
}

impl std::fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::fmt::Debug for InterfaceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "InterfaceName({:?})", self.as_str())
    }
}

impl TryFrom<String> for InterfaceName {
    type Error = Invalid;

    fn try_from(name: String) -> Result<Self, Invalid> {
        Self::new(name)
    }
}

impl From<InterfaceName> for String {
    fn from(name: InterfaceName) -> String {
        name.as_str().to_owned()
    }
}

/// A network as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Network {
    /// The id.
    pub id: NetworkId,
    /// The name.
    pub name: Label,
    /// How it reaches its guests.
    pub kind: NetworkKind,
    /// Its range of addresses.
    pub cidr: IpNetwork,
    /// Its range of IPv6 addresses, of 64 bits, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr_v6: Option<Ipv6Network>,
    /// The guests' way out.
    pub gateway: Option<IpAddr>,
    /// Who answers DHCP on it.
    pub dhcp_server: Option<IpAddr>,
    /// The first address that guests may get.
    pub first_guest: IpAddr,
    /// Name servers that guests are told.
    pub dns: Vec<IpAddr>,
    /// The bridge that guests are plugged into.
    pub bridge: InterfaceName,
    /// The physical interface below, where there is one.
    pub parent: Option<InterfaceName>,
    /// Its VLAN.
    pub vlan: Option<VlanId>,
    /// Its VXLAN segment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vni: Option<Vni>,
    /// An address that is kept for a VPN gateway.
    pub vpn: Option<IpAddr>,
    /// Which project owns it; networks without owner serve all projects, or wait for one.
    pub project: Option<ProjectId>,
}

impl Network {
    /// The guests' way out with IPv6, when we are it: the first address of the range.
    pub fn gateway_v6(&self) -> Option<Ipv6Addr> {
        let routed = self.kind != NetworkKind::Flat;
        self.cidr_v6.filter(|_| routed).map(|range| Ipv6Addr::from(u128::from(range.network()) + 1))
    }
}

/// One interface of a server: the network it is in, with the addresses it was given.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Port {
    /// Whose interface it is.
    pub instance: InstanceId,
    /// Which of its interfaces: 0 is the first.
    pub index: u8,
    /// The network.
    pub network: NetworkId,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its fixed IP.
    pub address: IpAddr,
    /// Its IPv6 address, where its network has a range of them: the one that the guest makes of
    /// its Ethernet address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_v6: Option<Ipv6Addr>,
    /// The security groups that say what may come to it: those of its server.
    #[serde(default)]
    pub security_groups: BTreeSet<SecurityGroupId>,
}

/// One address of a network that is not free. A free address has no record.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FixedIp {
    /// The network.
    pub network: NetworkId,
    /// The address.
    pub address: IpAddr,
    /// Why it is not free.
    pub state: AddressState<InstanceId>,
}

/// Why an address is not free.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AddressState<Owner> {
    /// Kept for the network itself: network, gateway, DHCP, VPN, broadcast.
    Reserved,
    /// Somebody has it.
    Owned(Owner),
    /// Given back, and not handed out again before `until`: others may still remember its last
    /// owner (ARP, connection tracking, DHCP leases).
    Quarantined {
        /// When it is free again.
        until: Timestamp,
    },
}

/// A VLAN id that is taken or quarantined. A free one has no record.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct VlanClaim {
    /// The id.
    pub vlan: VlanId,
    /// Why it is not free.
    pub state: AddressState<NetworkId>,
}

/// An Ethernet address that is taken. A free one has no record.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MacClaim {
    /// The address.
    pub mac: Mac,
    /// Who has it.
    pub instance: InstanceId,
}

/// A range of addresses that reach servers from outside.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FloatingPool {
    /// The name, unique in the cloud.
    pub name: PoolName,
    /// The addresses: all hosts of this range.
    pub range: IpNetwork,
    /// The interface on each host that carries them.
    pub interface: InterfaceName,
}

/// An address of a pool that is not free. A free one has no record.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FloatingIp {
    /// The address, unique in the cloud.
    pub address: IpAddr,
    /// Its pool.
    pub pool: PoolName,
    /// Why it is not free.
    pub state: AddressState<FloatingOwner>,
}

/// Who holds a floating IP, and where it leads.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FloatingOwner {
    /// The project.
    pub project: ProjectId,
    /// The server it leads to.
    pub binding: Option<FloatingBinding>,
    /// The server that it was allocated with. It is given back with that server, unless it has
    /// been led to another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<InstanceId>,
    /// The last operation that was accepted for it and has not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<OpId>,
}

impl FloatingOwner {
    /// The same holder when it leads to `binding`. Once it leads to another server than the one
    /// that it was allocated with, it is its project's to keep.
    #[must_use]
    pub fn led(&self, binding: Option<FloatingBinding>) -> Self {
        let stays = |server: &InstanceId| binding.as_ref().is_none_or(|b| b.instance == *server);
        Self { server: self.server.filter(stays), binding, ..self.clone() }
    }
}

/// Where a floating IP leads.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FloatingBinding {
    /// The server.
    pub instance: InstanceId,
    /// The server's address that it stands for.
    pub fixed: IpAddr,
    /// The host that answers for it.
    pub host: HostId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_name_fits_the_kernel() {
        for good in ["br100", "eth0.12", "vlan4094", "a", "fifteen-bytes-x"] {
            assert_eq!(InterfaceName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "a/b", "a b", "..", "sixteen-bytes-xx", "a\n", "-a"] {
            assert!(InterfaceName::new(bad).is_err(), "{bad:?}");
        }
    }
}
