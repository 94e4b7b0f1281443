//! Networks, addresses, and what each host's network should look like.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Display};
use std::net::IpAddr;

use async_trait::async_trait;
use ipnetwork::{IpNetwork, Ipv6Network};

use crate::class::Class;
use crate::domain::{
    FloatingBinding, FloatingIp, FloatingPool, HostId, InstanceId, InterfaceName, Invalid, Label,
    Network, NetworkId, NetworkKind, PoolName, Port, ProjectId, SecurityGroupId, VlanId,
};
use crate::store::{Draft, StoreError};

/// Networks to be made.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct NetworkSpec {
    /// The name; several networks get `name_0`, `name_1` and so on.
    pub name: Label,
    /// How they reach their guests.
    pub kind: NetworkKind,
    /// The range that they are cut from.
    pub cidr: IpNetwork,
    /// The range that their ranges of IPv6 are cut from, when they have any.
    pub cidr_v6: Option<Ipv6Network>,
    /// How many.
    pub count: u32,
    /// Addresses of each, a power of two; when absent the range is shared out evenly, at most
    /// 256 addresses for each.
    pub size: Option<u32>,
    /// The bridge; when absent `br100`, or `br<vlan>` for VLAN networks.
    pub bridge: Option<InterfaceName>,
    /// The physical interface below.
    pub parent: Option<InterfaceName>,
    /// The VLAN of the first network; the following count up, skipping those that are taken.
    pub first_vlan: Option<VlanId>,
    /// The gateway, when it is not the first address of the network. Only for a single network.
    pub gateway: Option<IpAddr>,
    /// Name servers.
    pub dns: Vec<IpAddr>,
    /// The project they belong to from the start.
    pub project: Option<ProjectId>,
}

impl NetworkSpec {
    /// One network at the start of `cidr`: all of it, or its first 256 addresses when it is
    /// larger and no [`size`](Self::size) says otherwise.
    pub fn new(name: Label, kind: NetworkKind, cidr: IpNetwork) -> Self {
        Self {
            name,
            kind,
            cidr,
            cidr_v6: None,
            count: 1,
            size: None,
            bridge: None,
            parent: None,
            first_vlan: None,
            gateway: None,
            dns: Vec::new(),
            project: None,
        }
    }

    /// Makes `count` networks of `size` addresses each.
    #[must_use]
    pub fn with_subnets(self, count: u32, size: u32) -> Self {
        Self { count, size: Some(size), ..self }
    }

    /// Gives each network a range of IPv6, too: 64 bits of `cidr`, the first that is free.
    ///
    /// Guests make their addresses themselves, of what they hear from the gateway and of their
    /// Ethernet address (SLAAC); on [`Flat`](NetworkKind::Flat) networks the operator's router
    /// tells them. What comes to them is judged by their security groups and routed, never
    /// translated: the way to the range has to be known outside.
    #[must_use]
    pub fn with_ipv6(self, cidr: Ipv6Network) -> Self {
        Self { cidr_v6: Some(cidr), ..self }
    }

    /// The range of IPv6 of each network, beside those of `others`; none when nobody wants any.
    ///
    /// # Errors
    /// [`NetError::Invalid`] for a range that guests cannot have; [`NetError::CidrConflict`] when
    /// there are too few left in it.
    pub fn ranges_v6(&self, others: &[Network]) -> Result<Vec<Option<Ipv6Network>>, NetError> {
        let count = usize::try_from(self.count).unwrap_or(usize::MAX);
        let Some(cidr) = self.cidr_v6 else { return Ok(vec![None; count]) };
        let field = "network.cidr_v6";
        let bits = |range: Ipv6Network| u128::from(range.network()) >> 64;
        if cidr.prefix() > 64 || cidr.ip() != cidr.network() {
            let allowed = "a range of at least 64 bits, without bits behind its prefix";
            return Err(Invalid::new(field, cidr, allowed).into());
        }
        // Those that are global, and those that everybody may have (RFC 4193).
        let octet = cidr.network().octets()[0];
        if !(octet >> 5 == 1 && cidr.prefix() >= 3 || octet >> 1 == 0x7e && cidr.prefix() >= 7) {
            let allowed = "a range of unicast addresses: in 2000::/3 or fc00::/7";
            return Err(Invalid::new(field, cidr, allowed).into());
        }
        let whole = 1_u128 << (64 - cidr.prefix());
        if whole < count as u128 {
            let allowed = "as many as there are ranges of 64 bits";
            return Err(Invalid::new("network.count", self.count, allowed).into());
        }
        let others = others.iter().filter_map(|other| other.cidr_v6);
        let used: BTreeMap<u128, Ipv6Network> = others.map(|other| (bits(other), other)).collect();
        let first = bits(cidr);
        let free = (first..first + whole).filter(|range| !used.contains_key(range)).take(count);
        let ranges = free.filter_map(|bits| Ipv6Network::new((bits << 64).into(), 64).ok());
        let ranges: Vec<_> = ranges.map(Some).collect();
        match used.range(first..).next() {
            Some((_, other)) if ranges.len() < count => {
                Err(NetError::CidrConflict { cidr: cidr.into(), other: (*other).into() })
            }
            _ => Ok(ranges),
        }
    }

    /// Uses this bridge.
    #[must_use]
    pub fn with_bridge(self, bridge: InterfaceName) -> Self {
        Self { bridge: Some(bridge), ..self }
    }

    /// Lies on this physical interface.
    #[must_use]
    pub fn with_parent(self, parent: InterfaceName) -> Self {
        Self { parent: Some(parent), ..self }
    }

    /// Begins with this VLAN.
    #[must_use]
    pub fn with_first_vlan(self, vlan: VlanId) -> Self {
        Self { first_vlan: Some(vlan), ..self }
    }

    /// Leaves through this gateway.
    #[must_use]
    pub fn with_gateway(self, gateway: IpAddr) -> Self {
        Self { gateway: Some(gateway), ..self }
    }

    /// Tells guests these name servers.
    #[must_use]
    pub fn with_dns(self, dns: Vec<IpAddr>) -> Self {
        Self { dns, ..self }
    }

    /// Belongs to this project.
    #[must_use]
    pub fn with_project(self, project: ProjectId) -> Self {
        Self { project: Some(project), ..self }
    }
}

/// Interfaces for one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRequest {
    /// The instance.
    pub instance: InstanceId,
    /// Whose it is.
    pub project: ProjectId,
    /// One interface in each of these, in this order; empty means what the manager gives by
    /// itself: every network that serves all projects, or the project's own.
    pub networks: Vec<NetworkId>,
    /// The security groups of all its interfaces.
    pub security_groups: BTreeSet<SecurityGroupId>,
    /// The host that it is about to be on: there the floating IPs are answered for that were
    /// allocated with it.
    pub host: HostId,
}

/// Hands out addresses and keeps each host's network as it should be.
///
/// Everything that changes records returns a [`Draft`]: nothing has happened until its
/// transaction is committed, alone or together with others. Two drafts that were made on the
/// same reading and take the same thing conflict when committed.
///
/// Laws:
/// - `an_address_has_one_owner`: of two drafts that hand out the same address, VLAN or MAC only
///   one commits;
/// - `reserve_twice_gives_the_same_ports`: an instance that has ports is given those;
/// - `a_floating_ip_of_a_server_comes_and_goes_with_it`;
/// - `release_is_repeatable`: holding nothing is success and changes nothing;
/// - `a_released_address_rests`: it is not handed out again before its quarantine has passed;
/// - `reserved_addresses_are_never_handed_out`;
/// - `an_exhausted_network_says_so`;
/// - `a_network_in_use_is_not_deleted`;
/// - `ports_are_in_the_groups_of_their_server`;
/// - `a_port_has_an_address_of_each_range_of_its_network`;
/// - `converge_is_repeatable`.
#[async_trait]
pub trait NetworkManager: Display + Debug + Send + Sync + 'static {
    /// Plans new networks.
    ///
    /// # Errors
    /// [`NetError::Invalid`], [`NetError::CidrConflict`], [`NetError::NoMoreVlans`].
    async fn create_networks(&self, spec: &NetworkSpec) -> Result<Draft<Vec<Network>>, NetError>;

    /// Removes a network with everything reserved for itself.
    ///
    /// # Errors
    /// [`NetError::NoSuchNetwork`]; [`NetError::InUse`] while a server has an address in it.
    async fn delete_network(&self, network: NetworkId) -> Result<Draft<()>, NetError>;

    /// Picks an address in each network for an instance, and leads the floating IPs that were
    /// allocated with it to the first of those that they can stand for.
    ///
    /// # Errors
    /// [`NetError::NoSuchNetwork`], also for a network of another project;
    /// [`NetError::NoMoreAddresses`]; [`NetError::Invalid`] when a floating IP was allocated with
    /// the instance and none of its networks has them.
    async fn reserve(&self, request: &PortRequest) -> Result<Draft<Vec<Port>>, NetError>;

    /// Gives back every address that `instance` holds, with the floating IPs that were allocated
    /// with it; others lead nowhere then.
    ///
    /// # Errors
    /// [`NetError::Store`] when reservations could not be read; nothing has been released then.
    async fn release(&self, instance: InstanceId) -> Result<Draft<()>, NetError>;

    /// Makes the network of `host` what the records say: bridges, VLANs, DHCP, floating IPs.
    ///
    /// # Errors
    /// [`NetError::Backend`] names what could not be done; the next call tries again.
    async fn converge(&self, host: HostId) -> Result<(), NetError>;

    /// Floating IPs, where this manager has them.
    fn floating_ips(&self) -> Option<&dyn FloatingIps>;
}

/// A floating IP for a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FloatingRequest {
    /// Whose it will be.
    pub project: ProjectId,
    /// From which pool.
    pub pool: PoolName,
    /// The server that it comes and goes with; none for one that stays until it is released.
    pub server: Option<InstanceId>,
}

/// Addresses that reach servers from outside and can move between them.
///
/// Laws: `a_floating_ip_leads_to_one_server`; `associate_moves`: associating again moves it;
/// `disassociate_is_repeatable`; `a_released_floating_ip_rests`; `an_exhausted_pool_says_so`.
#[async_trait]
pub trait FloatingIps: Send + Sync {
    /// Plans a new pool.
    ///
    /// # Errors
    /// [`NetError::Invalid`]; [`NetError::CidrConflict`] when it overlaps another pool;
    /// [`NetError::Exists`] when the name is taken.
    async fn create_pool(&self, pool: &FloatingPool) -> Result<Draft<()>, NetError>;

    /// Removes a pool.
    ///
    /// # Errors
    /// [`NetError::NoSuchPool`]; [`NetError::InUse`] while a project holds an address of it.
    async fn delete_pool(&self, pool: &PoolName) -> Result<Draft<()>, NetError>;

    /// Picks an address.
    ///
    /// # Errors
    /// [`NetError::NoSuchPool`], [`NetError::NoMoreAddresses`].
    async fn allocate(&self, request: &FloatingRequest) -> Result<Draft<FloatingIp>, NetError>;

    /// Leads `address` to `binding`, from wherever it led before.
    ///
    /// # Errors
    /// [`NetError::NoSuchFloatingIp`]; [`NetError::Invalid`] when the server's network has none.
    async fn associate(
        &self,
        address: IpAddr,
        binding: FloatingBinding,
    ) -> Result<Draft<FloatingIp>, NetError>;

    /// Lets `address` lead nowhere.
    ///
    /// # Errors
    /// [`NetError::NoSuchFloatingIp`].
    async fn disassociate(&self, address: IpAddr) -> Result<Draft<FloatingIp>, NetError>;

    /// Gives `address` back to its pool.
    ///
    /// # Errors
    /// [`NetError::NoSuchFloatingIp`]; [`NetError::InUse`] while it leads to a server.
    async fn release(&self, address: IpAddr) -> Result<Draft<()>, NetError>;
}

/// What went wrong with networks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// A value is out of range.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// There is no such network, or the project may not use it.
    #[error("no network {network}")]
    NoSuchNetwork {
        /// The network.
        network: NetworkId,
    },
    /// The project has no network, and none is free for it.
    #[error("no network for project {project}")]
    NoNetwork {
        /// The project.
        project: ProjectId,
    },
    /// There is no such pool.
    #[error("no floating IP pool {pool}")]
    NoSuchPool {
        /// The pool.
        pool: PoolName,
    },
    /// Nobody holds this floating IP.
    #[error("no floating IP {address}")]
    NoSuchFloatingIp {
        /// The address.
        address: IpAddr,
    },
    /// The name is taken.
    #[error("{name} exists already")]
    Exists {
        /// The name.
        name: String,
    },
    /// The range overlaps one that is in use.
    #[error("{cidr} overlaps {other}")]
    CidrConflict {
        /// The range asked for.
        cidr: IpNetwork,
        /// The range in use.
        other: IpNetwork,
    },
    /// Every address is taken, reserved or in quarantine.
    #[error("no more addresses in {of}")]
    NoMoreAddresses {
        /// The network or the pool.
        of: String,
    },
    /// Every VLAN is taken or in quarantine.
    #[error("no more VLANs from {from} to 4094")]
    NoMoreVlans {
        /// Where the search began.
        from: VlanId,
    },
    /// Somebody uses it.
    #[error("{what} is in use by {by}")]
    InUse {
        /// What.
        what: String,
        /// By whom.
        by: String,
    },
    /// The store did not answer as it should.
    #[error("cannot {operation}")]
    Store {
        /// What was to be done.
        operation: &'static str,
        /// What the store said.
        source: StoreError,
    },
    /// The host's network could not be changed.
    #[error("host {host}: cannot {operation}")]
    Backend {
        /// The host.
        host: HostId,
        /// What was to be done.
        operation: String,
        /// Why it was not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl NetError {
    /// What a caller should do about it.
    pub const fn class(&self) -> Class {
        match self {
            Self::Store { source, .. } => source.class(),
            Self::Backend { .. } => Class::Retry,
            _ => Class::Permanent,
        }
    }
}

#[async_trait]
impl<N: NetworkManager + ?Sized> NetworkManager for std::sync::Arc<N> {
    async fn create_networks(&self, spec: &NetworkSpec) -> Result<Draft<Vec<Network>>, NetError> {
        (**self).create_networks(spec).await
    }

    async fn delete_network(&self, network: NetworkId) -> Result<Draft<()>, NetError> {
        (**self).delete_network(network).await
    }

    async fn reserve(&self, request: &PortRequest) -> Result<Draft<Vec<Port>>, NetError> {
        (**self).reserve(request).await
    }

    async fn release(&self, instance: InstanceId) -> Result<Draft<()>, NetError> {
        (**self).release(instance).await
    }

    async fn converge(&self, host: HostId) -> Result<(), NetError> {
        (**self).converge(host).await
    }

    fn floating_ips(&self) -> Option<&dyn FloatingIps> {
        (**self).floating_ips()
    }
}

const _: fn(Box<dyn NetworkManager>) = |port| {
    fn is_shared(_: impl Send + Sync + 'static) {}
    is_shared(port);
};
