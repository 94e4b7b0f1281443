//! The parts of a host's network, what each needs, and what only one of them may have.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv6Network};
use nova_core::domain::{
    InterfaceName, Mac, NetworkId, SecurityGroupId, ServerName, Traffic, VlanId, Vni,
};

macro_rules! parts {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)+ })+) => {$(
        $(#[$doc])*
        #[derive(
            Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
        )]
        #[allow(clippy::exhaustive_structs)] // parts are compared whole: a new field is a new meaning
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)+
        }

        impl From<$name> for Part {
            fn from(part: $name) -> Self {
                Self::$name(part)
            }
        }
    )+};
}

parts! {
    /// An interface for one VLAN of a physical interface.
    VlanInterface {
        /// Its name.
        name: InterfaceName,
        /// The physical interface. It is there already and never changed.
        parent: InterfaceName,
        /// The VLAN.
        vlan: VlanId,
    }
    /// An interface for one VXLAN segment, which other hosts reach by multicast.
    VxlanInterface {
        /// Its name.
        name: InterfaceName,
        /// The interface that carries it. It is there already and never changed.
        parent: InterfaceName,
        /// The segment.
        vni: Vni,
    }
    /// A bridge that guests are plugged into.
    Bridge {
        /// Its name.
        name: InterfaceName,
        /// What leads out of the host.
        uplink: Option<Uplink>,
        /// Who made it.
        origin: BridgeOrigin,
    }
    /// The gateway's address on a bridge.
    BridgeAddress {
        /// The bridge.
        bridge: InterfaceName,
        /// The address with its prefix length.
        address: IpNetwork,
    }
    /// A DHCP server for one network. It answers only to guests that have a [`Lease`].
    DhcpServer {
        /// The network.
        network: NetworkId,
        /// The bridge it listens on.
        bridge: InterfaceName,
        /// The address it answers from.
        listen: IpAddr,
        /// The range of the network.
        range: IpNetwork,
        /// The way out that guests are told.
        gateway: Option<IpAddr>,
        /// The name servers that guests are told.
        dns: Vec<IpAddr>,
        /// The longest packet that guests are told to send, in bytes; none is what they assume.
        mtu: Option<u16>,
    }
    /// What the DHCP server tells one guest.
    Lease {
        /// The network.
        network: NetworkId,
        /// The guest's MAC.
        mac: Mac,
        /// The address it gets.
        address: IpAddr,
        /// The name it gets. Checked text, so that no line can be slipped into a configuration.
        name: ServerName,
    }
    /// Tells the guests of one network with which range of IPv6 they make their addresses, and
    /// that the bridge is their way out. Guests make addresses of whatever they hear, so that
    /// there is one of it on a bridge.
    RouterAdvertiser {
        /// The network.
        network: NetworkId,
        /// The bridge it is heard on.
        bridge: InterfaceName,
        /// The gateway's address with the prefix length of the range.
        gateway: Ipv6Network,
        /// The name servers that guests are told.
        dns: Vec<Ipv6Addr>,
        /// The longest packet that guests are told to send, in bytes; none is what they assume.
        mtu: Option<u16>,
    }
    /// Guests of this range reach the outside under the host's own address.
    Nat {
        /// The range.
        range: IpNetwork,
        /// The bridge they are on.
        bridge: InterfaceName,
    }
    /// What may come to the guests that are in the same security groups.
    PortFilter {
        /// The groups. Guests that are in none may be sent nothing.
        groups: BTreeSet<SecurityGroupId>,
        /// What they may be sent, with the members of groups by their addresses.
        allows: BTreeSet<Allowed>,
    }
    /// A guest's interface.
    GuestPort {
        /// Its name on the host. The hypervisor makes it.
        tap: InterfaceName,
        /// The bridge it is plugged into.
        bridge: InterfaceName,
        /// The only MAC that may come from it.
        mac: Mac,
        /// The only address that may come from it.
        address: IpAddr,
        /// Whose [`PortFilter`] says what may come to it.
        groups: BTreeSet<SecurityGroupId>,
    }
    /// The IPv6 address of a guest's interface: with that of its link the only ones that may come
    /// from it.
    GuestIpv6 {
        /// The name of the interface.
        tap: InterfaceName,
        /// The network, whose DHCP server tells the name of the guest.
        network: NetworkId,
        /// The bridge it is plugged into.
        bridge: InterfaceName,
        /// The address.
        address: Ipv6Addr,
    }
    /// The service that tells guests about themselves; see [`metadata`](crate::metadata).
    MetadataService {
        /// Where guests ask.
        address: IpAddr,
    }
    /// A floating IP's address on the interface that faces the outside.
    PublicAddress {
        /// The address.
        address: IpAddr,
        /// The interface. It is there already and never changed.
        interface: InterfaceName,
    }
    /// Where a floating IP leads, in both directions.
    ///
    /// While a floating IP is being moved between two guests of a host there are two of them;
    /// the older one counts until it is removed.
    Floating {
        /// The floating IP.
        address: IpAddr,
        /// The guest's address.
        fixed: IpAddr,
        /// The bridge the guest is on.
        bridge: InterfaceName,
    }
}

/// Something that may be sent.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[allow(clippy::exhaustive_structs)] // part of a part
pub struct Allowed {
    /// What.
    pub traffic: Traffic,
    /// By whom: whoever has an address of this range.
    pub from: IpNetwork,
}

/// What a bridge is connected to the outside by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Uplink {
    /// An interface that is there already.
    Physical(InterfaceName),
    /// A [`VlanInterface`].
    Vlan(InterfaceName),
    /// A [`VxlanInterface`].
    Vxlan(InterfaceName),
}

impl Uplink {
    /// The name of the interface.
    pub fn name(&self) -> &InterfaceName {
        match self {
            Self::Physical(name) | Self::Vlan(name) | Self::Vxlan(name) => name,
        }
    }
}

/// Who made a bridge.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BridgeOrigin {
    /// It is ours to make and to remove.
    Ours,
    /// The operator made it. Adding it means checking that it is there; removing it means
    /// looking away.
    Operators,
}

/// One thing on a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "part")]
#[allow(clippy::exhaustive_enums)] // a backend that does not know a part must not compile
pub enum Part {
    /// A VLAN interface.
    VlanInterface(VlanInterface),
    /// A VXLAN interface.
    VxlanInterface(VxlanInterface),
    /// A bridge.
    Bridge(Bridge),
    /// A gateway's address.
    BridgeAddress(BridgeAddress),
    /// A DHCP server.
    DhcpServer(DhcpServer),
    /// A DHCP lease.
    Lease(Lease),
    /// What guests hear of IPv6.
    RouterAdvertiser(RouterAdvertiser),
    /// Translation of a network's way out.
    Nat(Nat),
    /// What may come to guests.
    PortFilter(PortFilter),
    /// A guest's interface.
    GuestPort(GuestPort),
    /// A guest's IPv6 address.
    GuestIpv6(GuestIpv6),
    /// The metadata service.
    MetadataService(MetadataService),
    /// A floating IP's address.
    PublicAddress(PublicAddress),
    /// A floating IP's destination.
    Floating(Floating),
}

/// What makes a part the same part when its other fields change.
///
/// They sort so that a part comes after everything it may need.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[allow(clippy::exhaustive_enums)] // one for each part
pub enum PartId {
    /// By its name.
    VlanInterface(InterfaceName),
    /// By its name.
    VxlanInterface(InterfaceName),
    /// By its name.
    Bridge(InterfaceName),
    /// By its address.
    BridgeAddress(IpAddr),
    /// By its network.
    DhcpServer(NetworkId),
    /// By its network and its guest.
    Lease(NetworkId, Mac),
    /// By its network.
    RouterAdvertiser(NetworkId),
    /// By its range.
    Nat(IpNetwork),
    /// By its groups.
    PortFilter(BTreeSet<SecurityGroupId>),
    /// By its name.
    GuestPort(InterfaceName),
    /// By the name of its interface.
    GuestIpv6(InterfaceName),
    /// There is only one.
    MetadataService,
    /// By its address.
    PublicAddress(IpAddr),
    /// By both its ends.
    Floating(IpAddr, IpAddr),
}

/// Something that only one part of a host may have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Slot {
    /// The name of an interface.
    Interface(InterfaceName),
    /// A VLAN of a physical interface.
    Tag(InterfaceName, VlanId),
    /// A VXLAN segment.
    Segment(Vni),
    /// Being the way out of a bridge.
    Uplink(InterfaceName),
    /// An address of the host.
    Address(IpAddr),
    /// Answering DHCP from this address.
    Listen(IpAddr),
    /// Being told this address of a network.
    Leased(NetworkId, IpAddr),
    /// Telling the guests of a bridge about IPv6.
    Advertiser(InterfaceName),
    /// A guest's MAC.
    Mac(Mac),
    /// A guest's address on a bridge.
    Guest(InterfaceName, IpAddr),
}

impl Part {
    /// What makes it this part.
    pub fn id(&self) -> PartId {
        match self {
            Self::VlanInterface(p) => PartId::VlanInterface(p.name),
            Self::VxlanInterface(p) => PartId::VxlanInterface(p.name),
            Self::Bridge(p) => PartId::Bridge(p.name),
            Self::BridgeAddress(p) => PartId::BridgeAddress(p.address.ip()),
            Self::DhcpServer(p) => PartId::DhcpServer(p.network),
            Self::Lease(p) => PartId::Lease(p.network, p.mac),
            Self::RouterAdvertiser(p) => PartId::RouterAdvertiser(p.network),
            Self::Nat(p) => PartId::Nat(p.range),
            Self::PortFilter(p) => PartId::PortFilter(p.groups.clone()),
            Self::GuestPort(p) => PartId::GuestPort(p.tap),
            Self::GuestIpv6(p) => PartId::GuestIpv6(p.tap),
            Self::MetadataService(_) => PartId::MetadataService,
            Self::PublicAddress(p) => PartId::PublicAddress(p.address),
            Self::Floating(p) => PartId::Floating(p.address, p.fixed),
        }
    }

    /// The parts that must be there as long as this one is.
    pub fn needs(&self) -> Vec<PartId> {
        let bridge = |name: &InterfaceName| PartId::Bridge(*name);
        match self {
            Self::VlanInterface(_)
            | Self::VxlanInterface(_)
            | Self::PublicAddress(_)
            | Self::PortFilter(_)
            | Self::MetadataService(_) => Vec::new(),
            Self::Bridge(p) => match &p.uplink {
                Some(Uplink::Vlan(name)) => vec![PartId::VlanInterface(*name)],
                Some(Uplink::Vxlan(name)) => vec![PartId::VxlanInterface(*name)],
                Some(Uplink::Physical(_)) | None => Vec::new(),
            },
            Self::BridgeAddress(p) => vec![bridge(&p.bridge)],
            Self::DhcpServer(p) => vec![bridge(&p.bridge), PartId::BridgeAddress(p.listen)],
            Self::Lease(p) => vec![PartId::DhcpServer(p.network)],
            Self::RouterAdvertiser(p) => {
                vec![bridge(&p.bridge), PartId::BridgeAddress(p.gateway.ip().into())]
            }
            Self::Nat(p) => vec![bridge(&p.bridge)],
            Self::GuestPort(p) => {
                vec![bridge(&p.bridge), PartId::PortFilter(p.groups.clone())]
            }
            Self::GuestIpv6(p) => vec![PartId::GuestPort(p.tap)],
            Self::Floating(p) => vec![bridge(&p.bridge), PartId::PublicAddress(p.address)],
        }
    }

    /// What nobody else on the host may have.
    pub fn slots(&self) -> Vec<Slot> {
        let interface = |name: &InterfaceName| Slot::Interface(*name);
        match self {
            Self::VlanInterface(p) => {
                vec![interface(&p.name), Slot::Tag(p.parent, p.vlan)]
            }
            Self::VxlanInterface(p) => vec![interface(&p.name), Slot::Segment(p.vni)],
            Self::Bridge(p) => {
                let uplink = p.uplink.as_ref().map(|uplink| Slot::Uplink(*uplink.name()));
                [Some(interface(&p.name)), uplink].into_iter().flatten().collect()
            }
            Self::BridgeAddress(p) => vec![Slot::Address(p.address.ip())],
            Self::DhcpServer(p) => vec![Slot::Listen(p.listen)],
            Self::Lease(p) => vec![Slot::Leased(p.network, p.address)],
            Self::RouterAdvertiser(p) => vec![Slot::Advertiser(p.bridge)],
            Self::Nat(_) | Self::Floating(_) | Self::PortFilter(_) => Vec::new(),
            Self::GuestIpv6(p) => vec![Slot::Guest(p.bridge, p.address.into())],
            Self::GuestPort(p) => {
                vec![interface(&p.tap), Slot::Mac(p.mac), Slot::Guest(p.bridge, p.address)]
            }
            Self::MetadataService(p) => vec![Slot::Address(p.address)],
            Self::PublicAddress(p) => vec![Slot::Address(p.address)],
        }
    }

    /// Whether this part can become `other` while it is in use. Otherwise it has to be removed
    /// and made anew, with everything that needs it.
    pub fn changes_in_place_to(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bridge(old), Self::Bridge(new)) => {
                old.name == new.name && old.origin == new.origin
            }
            (Self::DhcpServer(old), Self::DhcpServer(new)) => {
                old.network == new.network && old.bridge == new.bridge && old.listen == new.listen
            }
            (Self::Lease(old), Self::Lease(new)) => {
                old.network == new.network && old.mac == new.mac
            }
            (Self::RouterAdvertiser(old), Self::RouterAdvertiser(new)) => {
                old.network == new.network && old.bridge == new.bridge && old.gateway == new.gateway
            }
            (Self::PortFilter(old), Self::PortFilter(new)) => old.groups == new.groups,
            (Self::GuestPort(old), Self::GuestPort(new)) => {
                let there =
                    |port: &GuestPort| GuestPort { groups: BTreeSet::new(), ..port.clone() };
                there(old) == there(new)
            }
            _ => false,
        }
    }
}

impl std::fmt::Display for Allowed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} from {}", self.traffic, self.from)
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.id())?;
        match self {
            Self::VlanInterface(p) => write!(f, " (vlan {} of {})", p.vlan, p.parent),
            Self::VxlanInterface(p) => write!(f, " (segment {} over {})", p.vni, p.parent),
            Self::Bridge(p) => match (&p.uplink, p.origin) {
                (Some(uplink), BridgeOrigin::Ours) => write!(f, " (uplink {})", uplink.name()),
                (None, BridgeOrigin::Ours) => write!(f, " (no uplink)"),
                (_, BridgeOrigin::Operators) => write!(f, " (the operator's)"),
            },
            Self::BridgeAddress(p) => write!(f, "/{} on {}", p.address.prefix(), p.bridge),
            Self::DhcpServer(p) => write!(f, " at {} on {}", p.listen, p.bridge),
            Self::Lease(p) => write!(f, " ({}, {})", p.address, p.name),
            Self::RouterAdvertiser(p) => write!(f, " ({} on {})", p.gateway, p.bridge),
            Self::Nat(p) => write!(f, " from {}", p.bridge),
            Self::PortFilter(p) => match p.allows.len() {
                0 => write!(f, " (lets nothing in)"),
                1 => p.allows.iter().try_for_each(|allowed| write!(f, " (lets in {allowed})")),
                rules => write!(f, " (lets in {rules} kinds of traffic)"),
            },
            Self::GuestPort(p) => write!(f, " on {} ({}, {})", p.bridge, p.mac, p.address),
            Self::GuestIpv6(p) => write!(f, " on {} ({})", p.bridge, p.address),
            Self::MetadataService(p) => write!(f, " at {}", p.address),
            Self::PublicAddress(p) => write!(f, " on {}", p.interface),
            Self::Floating(p) => write!(f, " on {}", p.bridge),
        }
    }
}

impl std::fmt::Display for PartId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::VlanInterface(name) => write!(f, "vlan interface {name}"),
            Self::VxlanInterface(name) => write!(f, "vxlan interface {name}"),
            Self::Bridge(name) => write!(f, "bridge {name}"),
            Self::BridgeAddress(address) => write!(f, "gateway address {address}"),
            Self::DhcpServer(network) => write!(f, "dhcp server of network {network}"),
            Self::Lease(network, mac) => write!(f, "dhcp lease of {mac} in network {network}"),
            Self::RouterAdvertiser(network) => write!(f, "router advertiser of network {network}"),
            Self::Nat(range) => write!(f, "nat of {range}"),
            Self::PortFilter(groups) => {
                write!(f, "filter of security groups [")?;
                for (at, group) in groups.iter().enumerate() {
                    write!(f, "{}{group}", if at == 0 { "" } else { ", " })?;
                }
                write!(f, "]")
            }
            Self::GuestPort(tap) => write!(f, "guest port {tap}"),
            Self::GuestIpv6(tap) => write!(f, "ipv6 of guest port {tap}"),
            Self::MetadataService => write!(f, "metadata service"),
            Self::PublicAddress(address) => write!(f, "public address {address}"),
            Self::Floating(address, fixed) => write!(f, "floating ip {address} to {fixed}"),
        }
    }
}
