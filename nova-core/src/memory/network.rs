//! The reference network manager: records only, no host is ever touched.
//!
//! Over 500 lines because the two traits it implements share every helper.
//!
//! It hands out addresses and floating IPs by the same laws as a real one and knows nothing of
//! bridges. Every kind of network is treated alike: a network without a project serves all of
//! them. It reads the store anew for every answer, which is simple and slow.

mod floating;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ipnetwork::{IpNetwork, Ipv4Network};

use crate::clock::{Clock, Timestamp};
use crate::domain::{
    AddressState, FixedIp, FloatingBinding, FloatingIp, FloatingOwner, FloatingPool, HostId,
    InstanceId, InterfaceName, Invalid, Label, Mac, MacClaim, Network, NetworkId, NetworkKind,
    PoolName, Port, VlanClaim, VlanId,
};
use crate::plant::{Bug, planted};
use crate::port::{
    FloatingIps, FloatingRequest, NetError, NetworkManager, NetworkSpec, PortRequest,
};
use crate::seed::{Chance, Seed};
use crate::store::record::{Ledger, keys};
use crate::store::{
    Draft, Guard, Key, Prefix, Record, Revision, Store, StoreError, StoreExt, Txn, Versioned,
};

/// Networks and floating IPs as records in a store, for tests and for trying things out.
///
/// ```
/// # use std::sync::Arc;
/// # use nova_core::{clock::SystemClock, memory::MemoryNetworks, seed::Seed, store::MemoryStore};
/// let clock = Arc::new(SystemClock::new());
/// let networks = MemoryNetworks::new(Arc::new(MemoryStore::new()), clock, Seed::new(1));
/// assert_eq!(networks.to_string(), "memory networks");
/// ```
#[derive(Debug)]
pub struct MemoryNetworks {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    seed: Seed,
    quarantine: Duration,
    converged: Mutex<BTreeMap<HostId, u64>>,
}

impl MemoryNetworks {
    /// How long an address rests unless told otherwise.
    pub const QUARANTINE: Duration = Duration::from_secs(60);

    /// A manager of the networks in `store`; ids and MACs are drawn from `seed`.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, seed: Seed) -> Self {
        let converged = Mutex::default();
        Self { store, clock, seed, quarantine: Self::QUARANTINE, converged }
    }

    /// Lets released addresses rest for `quarantine`.
    #[must_use]
    pub fn with_quarantine(self, quarantine: Duration) -> Self {
        Self { quarantine, ..self }
    }

    /// How often each host was converged.
    pub fn converged(&self) -> BTreeMap<HostId, u64> {
        self.converged.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn get<R: Record>(&self, key: &Key) -> Result<Option<Versioned<R>>, NetError> {
        self.store.read(key).await.map_err(cannot)
    }

    async fn below<R: Record>(&self, prefix: &Prefix) -> Result<Vec<Versioned<R>>, NetError> {
        self.store.read_all(prefix).await.map_err(cannot)
    }

    async fn all<R: Record>(&self) -> Result<Vec<Versioned<R>>, NetError> {
        self.below(&R::all()).await
    }

    async fn addresses(&self, network: NetworkId) -> Result<Addresses<FixedIp>, NetError> {
        let rows = self.below::<FixedIp>(&keys::fixed_ips_of(network)).await?;
        Ok(rows.into_iter().map(|row| (row.value.address, row)).collect())
    }

    async fn floating(&self, address: IpAddr) -> Result<Held, NetError> {
        let row = self.get::<FloatingIp>(&keys::floating_ip(address)).await?;
        let held = row.and_then(|row| match row.value.state.clone() {
            AddressState::Owned(owner) => Some((row, owner)),
            _ => None,
        });
        held.ok_or(NetError::NoSuchFloatingIp { address })
    }

    async fn pool(&self, name: &PoolName) -> Result<Versioned<FloatingPool>, NetError> {
        let pool = self.get(&keys::floating_pool(name)).await?;
        pool.ok_or_else(|| NetError::NoSuchPool { pool: name.clone() })
    }

    async fn held(&self, pool: &PoolName) -> Result<Addresses<FloatingIp>, NetError> {
        let rows = self.all::<FloatingIp>().await?.into_iter();
        Ok(rows.filter(|r| r.value.pool == *pool).map(|r| (r.value.address, r)).collect())
    }

    /// Every range in use; call it after reading the ledger that adding one writes.
    async fn ranges(&self) -> Result<Vec<IpNetwork>, NetError> {
        let networks = self.all::<Network>().await?.into_iter().map(|n| n.value.cidr);
        let pools = self.all::<FloatingPool>().await?.into_iter().map(|p| p.value.range);
        Ok(networks.chain(pools).collect())
    }

    fn rested<Owner>(&self) -> AddressState<Owner> {
        let rest = if planted(Bug::NoQuarantine) { Duration::ZERO } else { self.quarantine };
        AddressState::Quarantined { until: self.clock.now().after(rest) }
    }

    /// The first MAC of the interface's own sequence that nobody has.
    async fn mac(&self, instance: InstanceId, index: u8) -> Result<Mac, NetError> {
        let seed = self.seed.child_of("mac", instance.as_u128()).child_of("port", index.into());
        let mut chance = seed.chance();
        for _ in 0..MAC_ATTEMPTS_MAX {
            let [a, b, c, ..] = chance.bytes();
            let mac = Mac::new([0xfa, 0x16, 0x3e, a, b, c])?;
            if self.get::<MacClaim>(&keys::mac(mac)).await?.is_none() {
                return Ok(mac);
            }
        }
        Err(NetError::NoMoreAddresses { of: "mac prefix fa:16:3e".to_owned() })
    }

    /// The networks of a request, each usable by its project.
    async fn usable(&self, request: &PortRequest) -> Result<Vec<Versioned<Network>>, NetError> {
        let all = self.all::<Network>().await?;
        let mut usable: Vec<_> = all
            .into_iter()
            .filter(|n| n.value.project.as_ref().is_none_or(|owner| *owner == request.project))
            .collect();
        if request.networks.is_empty() {
            usable.sort_by_key(|network| network.value.cidr);
            let none = || NetError::NoNetwork { project: request.project.clone() };
            return if usable.is_empty() { Err(none()) } else { Ok(usable) };
        }
        let mut chosen: Vec<Versioned<Network>> = Vec::with_capacity(request.networks.len());
        for id in &request.networks {
            let Some(network) = usable.iter().find(|network| network.value.id == *id) else {
                return Err(NetError::NoSuchNetwork { network: *id });
            };
            if chosen.iter().any(|earlier| earlier.value.id == *id) {
                return Err(Invalid::new("port request.networks", id, "each network once").into());
            }
            chosen.push(network.clone());
        }
        Ok(chosen)
    }
}

impl std::fmt::Display for MemoryNetworks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("memory networks")
    }
}

#[async_trait]
impl NetworkManager for MemoryNetworks {
    async fn create_networks(&self, spec: &NetworkSpec) -> Result<Draft<Vec<Network>>, NetError> {
        let cidr = v4("network.cidr", spec.cidr)?;
        let size = subnet_size(spec, cidr)?;
        let ledger = self.get::<Ledger>(&Ledger::for_ranges().key()).await?;
        let others: Vec<_> = self.all::<Network>().await?.into_iter().map(|n| n.value).collect();
        let ranges = self.ranges().await?;
        let ranges_v6 = spec.ranges_v6(&others)?;
        let vlans = self.all::<VlanClaim>().await?;
        let vlans: BTreeMap<_, _> = vlans.into_iter().map(|row| (row.value.vlan, row)).collect();
        let now = self.clock.now();
        let from = spec.first_vlan.map_or(VlanId::new(100), Ok)?;
        let mut free_vlans = (from.get()..=VlanId::MAX)
            .filter_map(|id| VlanId::new(id).ok())
            .filter(|vlan| vlans.get(vlan).is_none_or(|row| has_rested(&row.value.state, now)));

        // Every commit of this ledger has a revision of its own, and so has each network an id.
        let made_on = ledger.as_ref().map_or(Revision(0), |ledger| ledger.revision);
        let seed = self.seed.child_of("network", made_on.0.into());
        let mut txn = Txn::new();
        txn.touch(ledger.as_ref(), &Ledger::for_ranges());
        let mut networks = Vec::new();
        for (n, cidr_v6) in (0..).zip(ranges_v6) {
            let first = u32::from(cidr.network()) + n * size;
            let prefix = 32 - u8::try_from(size.ilog2()).unwrap_or(32);
            let range = Ipv4Network::new(first.into(), prefix)
                .map_err(|_| Invalid::new("network.cidr", cidr, "an IPv4 range"))?;
            if let Some(other) = ranges.iter().find(|other| overlap(range, **other)) {
                return Err(NetError::CidrConflict { cidr: range.into(), other: *other });
            }
            let vlan = match spec.kind {
                NetworkKind::Vlan => Some(free_vlans.next().ok_or(NetError::NoMoreVlans { from })?),
                _ => None,
            };
            let id = NetworkId::draw(&mut seed.child_of("nth", n.into()).chance());
            let network = Network { cidr_v6, ..network(spec, n, id, range, vlan)? };
            for address in [first, first + 1, first + size - 1] {
                let address = Ipv4Addr::from(address).into();
                txn.create(&FixedIp { network: id, address, state: AddressState::Reserved });
            }
            if let Some(vlan) = vlan {
                let claim = VlanClaim { vlan, state: AddressState::Owned(id) };
                txn.touch(vlans.get(&vlan), &claim);
            }
            txn.create(&network);
            networks.push(network);
        }
        Ok(Draft { value: networks, txn })
    }

    async fn delete_network(&self, id: NetworkId) -> Result<Draft<()>, NetError> {
        let network = self.get::<Network>(&keys::network(id)).await?;
        let network = network.ok_or(NetError::NoSuchNetwork { network: id })?;
        let rows = self.addresses(id).await?;
        let mut txn = Txn::new();
        txn.remove(&network);
        for row in rows.values() {
            if let AddressState::Owned(owner) = &row.value.state {
                let (what, by) = (network.value.name.to_string(), owner.to_string());
                return Err(NetError::InUse { what, by });
            }
            txn.remove(row);
        }
        // Whoever takes an address after this reading takes one that is guarded: a row above, or
        // one of the first addresses without a row.
        for fresh in never_used(v4("network.cidr", network.value.cidr)?, &rows) {
            txn.guard(Guard::Absent(keys::fixed_ip(id, fresh)));
        }
        if let Some(vlan) = network.value.vlan
            && let Some(claim) = self.get::<VlanClaim>(&keys::vlan(vlan)).await?
        {
            txn.replace(&claim, &VlanClaim { vlan, state: self.rested() });
        }
        Ok(Draft { value: (), txn })
    }

    async fn reserve(&self, request: &PortRequest) -> Result<Draft<Vec<Port>>, NetError> {
        let mut txn = Txn::new();
        let had = self.below::<Port>(&keys::ports_of(request.instance)).await?;
        if !had.is_empty() {
            for port in &had {
                txn.unchanged(port);
            }
            let ports: Vec<Port> = had.into_iter().map(|port| port.value).collect();
            self.lead_there(request, &ports, &mut txn).await?;
            return Ok(Draft { value: ports, txn });
        }
        let mut ports = Vec::new();
        for (index, network) in self.usable(request).await?.iter().enumerate() {
            let index = u8::try_from(index)
                .map_err(|_| Invalid::new("port request.networks", index, "at most 256"))?;
            let id = network.value.id;
            let rows = self.addresses(id).await?;
            let range = v4("network.cidr", network.value.cidr)?;
            let seed = self.seed.child_of("address", request.instance.as_u128());
            let mut chance = seed.child_of("port", index.into()).chance();
            let address = next(range, &rows, self.clock.now(), |row| &row.state, &mut chance)
                .ok_or_else(|| NetError::NoMoreAddresses { of: network.value.name.to_string() })?;
            let state = AddressState::Owned(request.instance);
            txn.unchanged(network);
            txn.touch(rows.get(&address), &FixedIp { network: id, address, state });
            let mac = self.mac(request.instance, index).await?;
            txn.create(&MacClaim { mac, instance: request.instance });
            let security_groups = request.security_groups.clone();
            let instance = request.instance;
            let address_v6 = network.value.cidr_v6.map(|range| mac.address_in(range));
            let network = id;
            let port = Port { instance, index, network, mac, address, address_v6, security_groups };
            txn.create(&port);
            ports.push(port);
        }
        self.lead_there(request, &ports, &mut txn).await?;
        Ok(Draft { value: ports, txn })
    }

    async fn release(&self, instance: InstanceId) -> Result<Draft<()>, NetError> {
        let mut txn = Txn::new();
        let ports = self.below::<Port>(&keys::ports_of(instance)).await?;
        if ports.is_empty() {
            txn.guard(Guard::Absent(keys::port(instance, 0)));
        }
        for port in &ports {
            let Port { network, address, mac, .. } = port.value;
            txn.remove(port);
            // The port owns both; that it is unchanged is guard enough.
            txn.put(&FixedIp { network, address, state: self.rested() });
            txn.write(crate::store::Write::Remove(keys::mac(mac)));
        }
        for floating in self.all::<FloatingIp>().await? {
            let AddressState::Owned(owner) = &floating.value.state else { continue };
            if owner.server == Some(instance) {
                let rested = FloatingIp { state: self.rested(), ..floating.value.clone() };
                txn.replace(&floating, &rested);
            } else if owner.binding.as_ref().is_some_and(|to| to.instance == instance)
                && !planted(Bug::LeadNowhere)
            {
                txn.replace(&floating, &leading(&floating.value, owner, None));
            }
        }
        Ok(Draft { value: (), txn })
    }

    async fn converge(&self, host: HostId) -> Result<(), NetError> {
        let mut converged = self.converged.lock().unwrap_or_else(PoisonError::into_inner);
        *converged.entry(host).or_default() += 1;
        Ok(())
    }

    fn floating_ips(&self) -> Option<&dyn FloatingIps> {
        Some(self)
    }
}

/// The rows of a range, by address.
type Addresses<R> = BTreeMap<IpAddr, Versioned<R>>;

/// A floating IP that somebody holds, and who.
type Held = (Versioned<FloatingIp>, FloatingOwner);

fn cannot(source: StoreError) -> NetError {
    NetError::Store { operation: "read the network records", source }
}

fn leading(
    floating: &FloatingIp,
    owner: &FloatingOwner,
    binding: Option<FloatingBinding>,
) -> FloatingIp {
    FloatingIp { state: AddressState::Owned(owner.led(binding)), ..floating.clone() }
}

fn v4(field: &'static str, cidr: IpNetwork) -> Result<Ipv4Network, Invalid> {
    match cidr {
        IpNetwork::V4(v4) if v4.ip() == v4.network() => Ok(v4),
        _ => Err(Invalid::new(field, cidr, "an IPv4 range without host bits")),
    }
}

fn overlap(range: Ipv4Network, other: IpNetwork) -> bool {
    matches!(other, IpNetwork::V4(other) if range.overlaps(other))
}

fn subnet_size(spec: &NetworkSpec, cidr: Ipv4Network) -> Result<u32, Invalid> {
    let whole = 1_u64 << (32 - cidr.prefix());
    if spec.count == 0 || spec.count > VlanId::MAX.into() {
        return Err(Invalid::new("network.count", spec.count, "1 to 4094"));
    }
    let even = (whole / u64::from(spec.count)).min(256);
    let size = match spec.size {
        Some(size) => size,
        None => u32::try_from(even.checked_ilog2().map_or(0, |bits| 1 << bits)).unwrap_or(0),
    };
    if !size.is_power_of_two() || size < 4 {
        return Err(Invalid::new("network.size", size, "a power of two, at least 4"));
    }
    if u64::from(size) * u64::from(spec.count) > whole {
        return Err(Invalid::new("network.count", spec.count, "as many as the range holds"));
    }
    Ok(size)
}

fn network(
    spec: &NetworkSpec,
    n: u32,
    id: NetworkId,
    range: Ipv4Network,
    vlan: Option<VlanId>,
) -> Result<Network, Invalid> {
    let name = match spec.count {
        1 => spec.name.clone(),
        _ => Label::new(format!("{}_{n}", spec.name))?,
    };
    let bridge = match (&spec.bridge, vlan) {
        (Some(bridge), _) => *bridge,
        (None, Some(vlan)) => InterfaceName::new(format!("br{vlan}"))?,
        (None, None) => InterfaceName::new("br100")?,
    };
    let first = u32::from(range.network());
    let gateway = Some(Ipv4Addr::from(first + 1).into());
    Ok(Network {
        id,
        name,
        kind: spec.kind,
        cidr: range.into(),
        cidr_v6: None,
        gateway,
        dhcp_server: gateway,
        first_guest: Ipv4Addr::from(first + 2).into(),
        dns: spec.dns.clone(),
        bridge,
        parent: spec.parent,
        vlan,
        vni: None,
        vpn: None,
        project: spec.project.clone(),
    })
}

fn has_rested<Owner>(state: &AddressState<Owner>, now: Timestamp) -> bool {
    matches!(state, AddressState::Quarantined { until } if *until <= now)
}

/// MACs that are tried for one interface.
const MAC_ATTEMPTS_MAX: usize = 16;

/// Addresses among which chance decides, so that many who take one at the same time seldom take
/// the same; with 16 of them at once, one in 17 does.
const WINDOW: usize = 256;

/// The same among those that have rested: few, so that each rests for as long as it can.
const RESTED_WINDOW: usize = 16;

/// The first [`WINDOW`] hosts of `range` without a row.
fn never_used<R>(range: Ipv4Network, rows: &Addresses<R>) -> impl Iterator<Item = IpAddr> {
    let (first, last) = (u32::from(range.network()), u32::from(range.broadcast()));
    // A range of one or two addresses has no network and broadcast address.
    let edge = u32::from(range.prefix() < 31);
    (first + edge..=last - edge)
        .map(|address| IpAddr::from(Ipv4Addr::from(address)))
        .filter(|address| !rows.contains_key(address))
        .take(WINDOW)
}

/// The address to hand out: one never used before, or else one of those that rested longest.
fn next<R, Owner>(
    range: Ipv4Network,
    rows: &Addresses<R>,
    now: Timestamp,
    state: impl Fn(&R) -> &AddressState<Owner>,
    chance: &mut Chance,
) -> Option<IpAddr> {
    let mut choice: Vec<IpAddr> = never_used(range, rows).collect();
    if choice.is_empty() {
        let rested = rows.iter().filter_map(|(address, row)| match state(&row.value) {
            AddressState::Quarantined { until } if *until <= now => Some((*until, *address)),
            _ => None,
        });
        let rested: BTreeSet<_> = rested.collect();
        choice = rested.into_iter().take(RESTED_WINDOW).map(|(_, address)| address).collect();
    }
    (!choice.is_empty()).then(|| choice.swap_remove(chance.index(choice.len())))
}
