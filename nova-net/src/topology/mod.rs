//! Topologies: how a kind of network is cut out of a range, who may use it, and what it takes on
//! a host.
//!
//! [`Topology`] is an extension point: plain functions from values to values, so that another
//! way of building networks needs no store, no kernel and no await. The three that Nova had are
//! [`Flat`], [`FlatDhcp`] and [`Vlan`]; [`Vxlan`] is for more projects than there are VLANs.
//!
//! # IPv6
//! A network may have a range of 64 bits beside its IPv4, cut from that of the call like the other.
//! Its guests make their addresses of it and of their MACs, as Nova's did, so that no pool is kept:
//! the address of a guest is known before it boots. Where the host is the gateway it advertises the
//! range and itself, at the first address of the range; on Flat networks the operator's router
//! does.
//!
//! # Differences from Nova
//! The arithmetic is that of Nova's `create_networks`. Where Nova had a trap, it is closed:
//!
//! | Nova | here |
//! |---|---|
//! | without a size, a range that is shared by several networks went to each of them whole | it is shared out evenly, at most 256 addresses each, rounded down to a power of two |
//! | a size that is no power of two was rounded up silently | refused |
//! | only VLAN networks were checked to fit into the range; others became fewer | always checked |
//! | the broadcast address of a flat network was handed out (until 2012) | always reserved |
//! | a VLAN could be chosen beyond 4094 | [`NetError::NoMoreVlans`] |
//! | several networks made at once could get the same VLAN | each takes what is free after the one before |
//! | a network could overlap a floating IP pool | networks and pools never overlap |
//! | a network without a guest address could be made | refused |
//! | two kinds of network could share a bridge or an interface | refused, as a host could only serve one of them |

mod blueprint;
mod flat;
mod flat_dhcp;
mod vlan;
mod vxlan;

use std::fmt::{Debug, Display};

use nova_core::clock::Timestamp;
use nova_core::domain::{
    FloatingPool, Invalid, Network, NetworkId, NetworkKind, Port, ProjectId, ServerName,
};
use nova_core::port::{NetError, NetworkSpec};

pub(crate) use blueprint::unicast_range;
pub use blueprint::{
    Blueprint, FIRST_VLAN_DEFAULT, FIRST_VNI, NETWORKS_MAX, SIZE_DEFAULT, Segment, Shape,
    blueprints,
};
pub use flat::Flat;
pub use flat_dhcp::FlatDhcp;
pub use vlan::Vlan;
pub use vxlan::Vxlan;

use crate::host::Part;
use crate::pool::Pool;

/// What is in use when networks are to be made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Taken {
    /// Every network.
    pub networks: Vec<Network>,
    /// Every floating IP pool.
    pub pools: Vec<FloatingPool>,
    /// VLAN ids: those held, and those resting.
    pub vlans: std::collections::BTreeMap<u16, crate::pool::Use>,
    /// The present moment.
    pub now: Timestamp,
}

impl Taken {
    /// Nothing is in use.
    pub fn nothing(now: Timestamp) -> Self {
        Self { networks: Vec::new(), pools: Vec::new(), vlans: Default::default(), now }
    }

    /// The VLANs from `first` on.
    pub(crate) fn vlans_from(&self, first: u16) -> Pool {
        let mut pool = Pool::new(first.into(), nova_core::domain::VlanId::MAX.into());
        for (vlan, usage) in &self.vlans {
            pool.set((*vlan).into(), *usage);
        }
        pool
    }
}

/// Whether a project may have interfaces in a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)] // the manager must know what to do about each
pub enum Access {
    /// It may.
    Granted,
    /// It may once the network is its own, and the network is free to become so.
    Claimable,
    /// It may not.
    Denied,
}

/// A guest of a network on one host.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct GuestOnHost<'a> {
    /// Its interface.
    pub port: &'a Port,
    /// What DHCP calls it.
    pub name: &'a ServerName,
}

impl<'a> GuestOnHost<'a> {
    /// A guest with this interface and this name.
    pub const fn new(port: &'a Port, name: &'a ServerName) -> Self {
        Self { port, name }
    }
}

/// How one kind of network is made, who may use it, and what it takes on a host.
///
/// All methods are pure: the same values in, the same values out.
pub trait Topology: Display + Debug + Send + Sync + 'static {
    /// The kind of network it is responsible for.
    fn kind(&self) -> NetworkKind;

    /// Networks as `spec` wants them, beside those that are `taken`; `id` names the first,
    /// second and so on.
    ///
    /// # Errors
    /// [`NetError::Invalid`], [`NetError::CidrConflict`], [`NetError::NoMoreVlans`].
    fn plan(
        &self,
        spec: &NetworkSpec,
        taken: &Taken,
        id: &dyn Fn(u32) -> NetworkId,
    ) -> Result<Vec<Blueprint>, NetError>;

    /// Whether `project` may have interfaces in `network`.
    fn access(&self, network: &Network, project: &ProjectId) -> Access;

    /// Whether a floating IP can lead to a guest of such a network: only where the host is the
    /// guests' gateway.
    fn leads_floating_ips(&self) -> bool;

    /// What a host needs so that these guests, at least one, are on `network`. What others need
    /// comes before it. The [filters](crate::host::PortFilter) of their security groups are there.
    ///
    /// # Errors
    /// [`Invalid`] when the network cannot be what this topology makes.
    fn parts(&self, network: &Network, guests: &[GuestOnHost<'_>]) -> Result<Vec<Part>, Invalid>;
}

/// Nova's three topologies, and VXLAN.
pub fn standard() -> Vec<std::sync::Arc<dyn Topology>> {
    use std::sync::Arc;
    vec![Arc::new(Flat), Arc::new(FlatDhcp), Arc::new(Vlan), Arc::new(Vxlan)]
}

/// The rule of networks that are each a project's own. One that belongs to nobody yet becomes the
/// property of the first project that has none.
fn own_or_free(network: &Network, project: &ProjectId) -> Access {
    match &network.project {
        None => Access::Claimable,
        Some(owner) if owner == project => Access::Granted,
        Some(_) => Access::Denied,
    }
}

/// The rule of networks that serve everybody, or one project.
fn shared_or_own(network: &Network, project: &ProjectId) -> Access {
    match &network.project {
        Some(owner) if owner != project => Access::Denied,
        _ => Access::Granted,
    }
}
