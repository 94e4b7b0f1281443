//! Links and addresses, by netlink.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use futures_util::TryStreamExt as _;
use ipnetwork::IpNetwork;
use nova_core::domain::InterfaceName;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoBridge, InfoBridgePort, InfoData, InfoPortData, LinkAttribute, LinkInfo,
};
use rtnetlink::{Error, Handle, LinkBridge, LinkBridgePort, LinkUnspec, LinkVlan, LinkVxlan};

use super::switches::shows_bridges;
use crate::host::{Bridge, BridgeOrigin, Uplink, VlanInterface, VxlanInterface};

/// What the alias of a link says that is ours: only these are changed or removed.
const OURS: &str = "nova-net";

/// A link of the kernel.
#[derive(Debug, Clone)]
struct Link {
    index: u32,
    /// The index of the bridge it is plugged into.
    controller: Option<u32>,
    /// Whether its bridge gives frames back to it.
    reflects: bool,
    /// Whether it is a bridge that shows what crosses it to the tables of IP.
    shows: bool,
    ours: bool,
}

/// The links and addresses of a namespace at one moment.
#[derive(Debug, Default)]
pub(super) struct Seen {
    links: BTreeMap<String, Link>,
    addresses: Vec<(u32, IpAddr, u8)>,
}

/// What cannot be done to a link.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("there is no interface {0}")]
    Absent(InterfaceName),
    #[error("interface {0} is there and not ours")]
    Foreign(InterfaceName),
    #[error(
        "bridge {0} does not show what crosses it to nftables (its switch is nf_call_iptables)"
    )]
    Hides(InterfaceName),
    #[error("interface {interface} is part of another bridge")]
    Taken { interface: InterfaceName },
    #[error("the kernel refused to {what}")]
    Kernel { what: String, source: Box<Error> },
}

fn refused(what: impl Into<String>) -> impl FnOnce(Error) -> LinkError {
    |source| LinkError::Kernel { what: what.into(), source: Box::new(source) }
}

impl Seen {
    pub(super) async fn now(handle: &Handle) -> Result<Self, LinkError> {
        let mut seen = Self::default();
        let mut links = handle.link().get().execute();
        while let Some(link) = links.try_next().await.map_err(refused("list links"))? {
            let (mut name, mut controller) = (None, None);
            let (mut reflects, mut shows, mut ours) = (false, false, false);
            for attribute in link.attributes {
                match attribute {
                    LinkAttribute::IfName(text) => name = Some(text),
                    LinkAttribute::Controller(index) if index > 0 => controller = Some(index),
                    LinkAttribute::IfAlias(text) => ours = text == OURS,
                    LinkAttribute::LinkInfo(infos) => {
                        reflects = infos.iter().any(gives_back);
                        shows = infos.iter().any(shows_what_crosses);
                    }
                    _ => {}
                }
            }
            if let Some(name) = name {
                let index = link.header.index;
                seen.links.insert(name, Link { index, controller, reflects, shows, ours });
            }
        }
        let mut addresses = handle.address().get().execute();
        while let Some(message) = addresses.try_next().await.map_err(refused("list addresses"))? {
            let (index, prefix) = (message.header.index, message.header.prefix_len);
            let address = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            });
            seen.addresses.extend(address.map(|address| (index, address, prefix)));
        }
        Ok(seen)
    }

    fn link(&self, name: &InterfaceName) -> Option<&Link> {
        self.links.get(name.as_str())
    }

    fn must(&self, name: &InterfaceName) -> Result<&Link, LinkError> {
        self.link(name).ok_or(LinkError::Absent(*name))
    }

    /// Whether an interface of ours is there.
    pub(super) fn has_own(&self, name: &InterfaceName) -> bool {
        self.link(name).is_some_and(|link| link.ours)
    }

    /// The bridge as it is, when it is there.
    pub(super) fn bridge(&self, bridge: &Bridge) -> Option<Bridge> {
        let link = self.link(&bridge.name)?;
        if bridge.origin == BridgeOrigin::Operators {
            return Some(bridge.clone());
        }
        let plugged = |uplink: &Uplink| {
            self.link(uplink.name()).is_some_and(|uplink| uplink.controller == Some(link.index))
        };
        let uplink = bridge.uplink.clone().filter(plugged);
        link.ours.then(|| Bridge { uplink, ..bridge.clone() })
    }

    /// Whether a guest's port is plugged into a bridge as it should be; none when it is not
    /// there.
    pub(super) fn is_plugged(&self, port: &InterfaceName, bridge: &InterfaceName) -> Option<bool> {
        let port = self.link(port)?;
        let plugged = |bridge: &Link| port.controller == Some(bridge.index) && port.reflects;
        Some(self.link(bridge).is_some_and(plugged))
    }

    pub(super) fn has_address(&self, interface: &InterfaceName, address: IpNetwork) -> bool {
        let Some(link) = self.link(interface) else { return false };
        self.addresses.contains(&(link.index, address.ip(), address.prefix()))
    }
}

/// Makes a VLAN interface, up.
pub(super) async fn add_vlan(handle: &Handle, vlan: &VlanInterface) -> Result<(), LinkError> {
    let seen = Seen::now(handle).await?;
    match seen.link(&vlan.name) {
        Some(link) if !link.ours => return Err(LinkError::Foreign(vlan.name)),
        Some(_) => return Ok(()),
        None => {}
    }
    let parent = seen.must(&vlan.parent)?.index;
    let name = vlan.name.as_str();
    let new = LinkVlan::new(name, parent, vlan.vlan.get()).build();
    let what = format!("make VLAN interface {name}");
    handle.link().add(new).execute().await.map_err(refused(what))?;
    own(handle, &vlan.name).await
}

/// Makes an interface of a VXLAN segment, up.
pub(super) async fn add_vxlan(handle: &Handle, vxlan: &VxlanInterface) -> Result<(), LinkError> {
    /// What IANA has set aside for it.
    const PORT: u16 = 4789;
    let seen = Seen::now(handle).await?;
    match seen.link(&vxlan.name) {
        Some(link) if !link.ours => return Err(LinkError::Foreign(vxlan.name)),
        Some(_) => return Ok(()),
        None => {}
    }
    let parent = seen.must(&vxlan.parent)?.index;
    let [_, a, b, c] = vxlan.vni.get().to_be_bytes();
    // Of the addresses that are an organisation's own (RFC 2365), one for each segment.
    let group = Ipv4Addr::new(239, a, b, c);
    let new = LinkVxlan::new(vxlan.name.as_str(), vxlan.vni.get());
    let new = new.dev(parent).group(group).port(PORT).ttl(1).build();
    let what = format!("make VXLAN interface {}", vxlan.name);
    handle.link().add(new).execute().await.map_err(refused(what))?;
    own(handle, &vxlan.name).await
}

/// Makes a bridge of ours with its way out, or looks whether the operator's is there.
pub(super) async fn add_bridge(handle: &Handle, bridge: &Bridge) -> Result<(), LinkError> {
    let seen = Seen::now(handle).await?;
    if bridge.origin == BridgeOrigin::Operators {
        let shows = seen.must(&bridge.name)?.shows || shows_bridges().unwrap_or(false);
        return if shows { Ok(()) } else { Err(LinkError::Hides(bridge.name)) };
    }
    match seen.link(&bridge.name) {
        Some(link) if !link.ours => return Err(LinkError::Foreign(bridge.name)),
        Some(_) => {}
        None => {
            // What may come to guests is judged where all of IP is.
            let new = LinkBridge::new(bridge.name.as_str()).nf_call_iptables(true);
            let new = new.nf_call_ip6tables(true).build();
            let what = format!("make bridge {}", bridge.name);
            handle.link().add(new).execute().await.map_err(refused(what))?;
        }
    }
    own(handle, &bridge.name).await?;
    let Some(uplink) = bridge.uplink.as_ref().map(Uplink::name) else { return Ok(()) };
    let seen = Seen::now(handle).await?;
    plug(handle, &seen, uplink, seen.must(&bridge.name)?.index).await
}

/// Pulls an interface out of a bridge, when it is there and in it.
pub(super) async fn unplug(
    handle: &Handle,
    interface: &InterfaceName,
    bridge: &InterfaceName,
) -> Result<(), LinkError> {
    let seen = Seen::now(handle).await?;
    let Some((link, bridge)) = seen.link(interface).zip(seen.link(bridge)) else { return Ok(()) };
    if link.controller != Some(bridge.index) {
        return Ok(());
    }
    let free = LinkUnspec::new_with_index(link.index).nocontroller().build();
    let what = format!("pull {interface} out of its bridge");
    handle.link().set(free).execute().await.map_err(refused(what))
}

/// Whether a bridge gives frames back to this port of it.
fn gives_back(info: &LinkInfo) -> bool {
    let LinkInfo::PortData(InfoPortData::BridgePort(all)) = info else { return false };
    all.contains(&InfoBridgePort::HairpinMode(true))
}

/// Whether a bridge shows what crosses it to the tables of IP.
fn shows_what_crosses(info: &LinkInfo) -> bool {
    let LinkInfo::Data(InfoData::Bridge(all)) = info else { return false };
    all.contains(&InfoBridge::NfCallIpTables(true))
        && all.contains(&InfoBridge::NfCallIp6Tables(true))
}

/// Plugs those interfaces of guests that are there into their bridges. A guest that asks for a
/// floating IP that is its own gets its frames back, where the kernel does not route them.
pub(super) async fn plug_guests<'a>(
    handle: &Handle,
    ports: impl IntoIterator<Item = (&'a InterfaceName, &'a InterfaceName)>,
) -> Result<(), LinkError> {
    let seen = Seen::now(handle).await?;
    for (port, bridge) in ports {
        if let Some((link, bridge)) = seen.link(port).zip(seen.link(bridge)) {
            plug(handle, &seen, port, bridge.index).await?;
            let reflect = LinkBridgePort::new(link.index).hairpin(true).build();
            let what = format!("let the bridge give frames back to {port}");
            handle.link().set_port(reflect).execute().await.map_err(refused(what))?;
        }
    }
    Ok(())
}

async fn plug(
    handle: &Handle,
    seen: &Seen,
    interface: &InterfaceName,
    bridge: u32,
) -> Result<(), LinkError> {
    let link = seen.must(interface)?;
    match link.controller {
        Some(other) if other != bridge => {
            return Err(LinkError::Taken { interface: *interface });
        }
        Some(_) => return Ok(()),
        None => {}
    }
    let set = LinkUnspec::new_with_index(link.index).controller(bridge).up().build();
    let what = format!("plug {interface} into its bridge");
    handle.link().set(set).execute().await.map_err(refused(what))
}

/// Marks a link as ours, and brings it up.
async fn own(handle: &Handle, name: &InterfaceName) -> Result<(), LinkError> {
    let set = LinkUnspec::new_with_name(name.as_str()).alias(OURS).up().build();
    let what = format!("bring {name} up");
    handle.link().set(set).execute().await.map_err(refused(what))
}

/// Removes a link of ours, if it is there.
pub(super) async fn remove(handle: &Handle, name: &InterfaceName) -> Result<(), LinkError> {
    let seen = Seen::now(handle).await?;
    let Some(link) = seen.link(name) else { return Ok(()) };
    if !link.ours {
        return Err(LinkError::Foreign(*name));
    }
    let what = format!("remove {name}");
    handle.link().del(link.index).execute().await.map_err(refused(what))
}

/// Adds an address to an interface.
pub(super) async fn add_address(
    handle: &Handle,
    interface: &InterfaceName,
    address: IpNetwork,
) -> Result<(), LinkError> {
    let seen = Seen::now(handle).await?;
    if seen.has_address(interface, address) {
        return Ok(());
    }
    let index = seen.must(interface)?.index;
    let what = format!("add {address} to {interface}");
    let mut add = handle.address().add(index, address.ip(), address.prefix());
    if address.is_ipv6() {
        // Every host has it, and none hears of the others.
        let flags = AddressAttribute::Flags(AddressFlags::Nodad);
        add.message_mut().attributes.push(flags);
    }
    add.execute().await.map_err(refused(what))
}

/// Takes an address from an interface, if it is there.
pub(super) async fn remove_address(
    handle: &Handle,
    interface: &InterfaceName,
    address: IpNetwork,
) -> Result<(), LinkError> {
    let seen = Seen::now(handle).await?;
    let Some(link) = seen.link(interface) else { return Ok(()) };
    if !seen.has_address(interface, address) {
        return Ok(());
    }
    let mut all = handle.address().get().set_link_index_filter(link.index).execute();
    let is_it = |message: &AddressMessage| {
        message.header.prefix_len == address.prefix()
            && message.attributes.contains(&AddressAttribute::Address(address.ip()))
    };
    let what = || format!("take {address} from {interface}");
    while let Some(message) = all.try_next().await.map_err(refused(what()))? {
        if is_it(&message) {
            handle.address().del(message).execute().await.map_err(refused(what()))?;
        }
    }
    Ok(())
}
