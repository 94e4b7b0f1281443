//! What the manager knows of the store: copies that follow it, and the indexes that decisions
//! need.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::{IpNetwork, Ipv4Network};
use nova_core::domain::{
    AddressState, FixedIp, FloatingIp, FloatingOwner, FloatingPool, HostId, InstanceId, Network,
    NetworkId, PoolName, Port,
};
use nova_core::store::record::keys;
use nova_core::store::{Key, Mirror, Record, Store, StoreError, Versioned};

use crate::manager::groups::Groups;
use crate::pool::{Pool, Use, number};

/// Copies of the manager's tables, caught up before each decision.
///
/// An index is built once and follows the changes, so that a decision costs the logarithm of
/// what there is. The copies may show different moments, and may be behind; that is why every
/// draft guards what it was decided on.
#[derive(Debug)]
pub(super) struct View {
    networks: Mirror<Network>,
    fixed: Mirror<FixedIp>,
    ports: Mirror<Port>,
    pools: Mirror<FloatingPool>,
    floating: Mirror<FloatingIp>,
    pub(super) groups: Groups,
    /// For each network, its addresses.
    addresses: BTreeMap<NetworkId, Pool>,
    /// For each floating IP pool, its addresses.
    public: BTreeMap<PoolName, Pool>,
    /// Which floating IPs lead to a server, and which a host answers for.
    led_to: BTreeMap<InstanceId, BTreeSet<IpAddr>>,
    answered_by: BTreeMap<HostId, BTreeSet<IpAddr>>,
    /// Which floating IPs were allocated with a server.
    allocated_with: BTreeMap<InstanceId, BTreeSet<IpAddr>>,
    /// What the three above say of a record, to take it out again.
    indexed: BTreeMap<Key, (IpAddr, FloatingOwner)>,
    /// The address of each floating IP record, to forget it when the record is gone.
    rows: BTreeMap<Key, IpAddr>,
}

impl View {
    pub(super) async fn new(store: &Arc<dyn Store>) -> Result<Self, StoreError> {
        let mut view = Self {
            networks: Mirror::new(Arc::clone(store)).await?,
            fixed: Mirror::new(Arc::clone(store)).await?,
            ports: Mirror::new(Arc::clone(store)).await?,
            pools: Mirror::new(Arc::clone(store)).await?,
            floating: Mirror::new(Arc::clone(store)).await?,
            groups: Groups::new(store).await?,
            addresses: BTreeMap::new(),
            public: BTreeMap::new(),
            led_to: BTreeMap::new(),
            answered_by: BTreeMap::new(),
            allocated_with: BTreeMap::new(),
            indexed: BTreeMap::new(),
            rows: BTreeMap::new(),
        };
        let networks = view.networks.iter().map(|network| network.value.key()).collect::<Vec<_>>();
        view.index_networks(&networks);
        let pools = view.pools.iter().map(|pool| pool.value.key()).collect::<Vec<_>>();
        view.index_pools(&pools);
        let floating =
            view.floating.iter().map(|floating| floating.value.key()).collect::<Vec<_>>();
        view.index_floating(&floating);
        let ports = view.ports.iter().map(|port| port.value.key()).collect::<Vec<_>>();
        view.groups.follow(&ports, &view.ports).await?;
        Ok(view)
    }

    /// Learns what has changed. After an error the view is good for nothing any more.
    pub(super) async fn catch_up(&mut self) -> Result<(), StoreError> {
        // Networks before addresses: an address is indexed when its network is known.
        let networks = self.networks.catch_up().await?;
        self.index_networks(&networks);
        let fixed = self.fixed.catch_up().await?;
        self.index_fixed(&fixed);
        let ports = self.ports.catch_up().await?;
        self.groups.follow(&ports, &self.ports).await?;
        let pools = self.pools.catch_up().await?;
        self.index_pools(&pools);
        let floating = self.floating.catch_up().await?;
        self.index_floating(&floating);
        Ok(())
    }

    pub(super) fn networks(&self) -> impl Iterator<Item = &Versioned<Network>> {
        self.networks.iter()
    }

    pub(super) fn network(&self, id: NetworkId) -> Option<&Versioned<Network>> {
        self.networks.get(&keys::network(id))
    }

    /// The addresses of a network, as far as they are known.
    pub(super) fn addresses(&self, network: NetworkId) -> Option<&Pool> {
        self.addresses.get(&network)
    }

    pub(super) fn fixed(&self, network: NetworkId, address: IpAddr) -> Option<&Versioned<FixedIp>> {
        self.fixed.get(&keys::fixed_ip(network, address))
    }

    pub(super) fn fixed_of(&self, network: NetworkId) -> impl Iterator<Item = &Versioned<FixedIp>> {
        self.fixed.range(&keys::fixed_ips_of(network))
    }

    pub(super) fn ports_of(&self, instance: InstanceId) -> impl Iterator<Item = &Versioned<Port>> {
        self.ports.range(&keys::ports_of(instance))
    }

    pub(super) fn pool(&self, name: &PoolName) -> Option<&Versioned<FloatingPool>> {
        self.pools.get(&keys::floating_pool(name))
    }

    /// The addresses of a floating IP pool.
    pub(super) fn public(&self, pool: &PoolName) -> Option<&Pool> {
        self.public.get(pool)
    }

    pub(super) fn floating(&self, address: IpAddr) -> Option<&Versioned<FloatingIp>> {
        self.floating.get(&keys::floating_ip(address))
    }

    pub(super) fn floating_of(
        &self,
        pool: &PoolName,
    ) -> impl Iterator<Item = &Versioned<FloatingIp>> {
        self.floating.iter().filter(move |floating| floating.value.pool == *pool)
    }

    /// The floating IPs that lead to `instance`, with their owners.
    pub(super) fn led_to(
        &self,
        instance: InstanceId,
    ) -> impl Iterator<Item = (&Versioned<FloatingIp>, &FloatingOwner)> {
        self.owned(self.led_to.get(&instance))
    }

    /// The floating IPs that `host` answers for, with their owners.
    pub(super) fn answered_by(
        &self,
        host: HostId,
    ) -> impl Iterator<Item = (&Versioned<FloatingIp>, &FloatingOwner)> {
        self.owned(self.answered_by.get(&host))
    }

    /// The floating IPs that were allocated with `instance`, with their owners.
    pub(super) fn allocated_with(
        &self,
        instance: InstanceId,
    ) -> impl Iterator<Item = (&Versioned<FloatingIp>, &FloatingOwner)> {
        self.owned(self.allocated_with.get(&instance))
    }

    fn owned<'a>(
        &'a self,
        addresses: Option<&'a BTreeSet<IpAddr>>,
    ) -> impl Iterator<Item = (&'a Versioned<FloatingIp>, &'a FloatingOwner)> {
        addresses.into_iter().flatten().filter_map(|address| {
            let floating = self.floating(*address)?;
            owner(&floating.value).map(|owner| (floating, owner))
        })
    }

    fn index_networks(&mut self, changed: &[Key]) {
        if changed.is_empty() {
            return;
        }
        let known: BTreeMap<NetworkId, Ipv4Network> = self
            .networks
            .iter()
            .filter_map(|network| Some((network.value.id, v4(network.value.cidr)?)))
            .collect();
        self.addresses.retain(|id, _| known.contains_key(id));
        for (id, range) in known {
            if !self.addresses.contains_key(&id) {
                self.addresses.insert(id, self.pool_of_network(id, range));
            }
        }
    }

    fn pool_of_network(&self, id: NetworkId, range: Ipv4Network) -> Pool {
        let mut pool = Pool::of_range(range);
        for row in self.fixed_of(id) {
            if let Some(number) = number(row.value.address) {
                pool.set(number, Use::from(&row.value.state));
            }
        }
        pool
    }

    fn index_fixed(&mut self, changed: &[Key]) {
        let mut anew = BTreeSet::new();
        for key in changed {
            match self.fixed.get(key) {
                Some(row) => {
                    let pool = self.addresses.get_mut(&row.value.network);
                    if let Some((pool, number)) = pool.zip(number(row.value.address)) {
                        pool.set(number, Use::from(&row.value.state));
                    }
                }
                // Rows go when their network goes, which has taken the index along already; only
                // when the news arrive between the two is there one to be built again.
                None => anew.extend(
                    self.addresses.keys().filter(|id| keys::fixed_ips_of(**id).covers(key)),
                ),
            }
        }
        for id in anew {
            let range = self.network(id).and_then(|network| v4(network.value.cidr));
            if let Some(range) = range {
                self.addresses.insert(id, self.pool_of_network(id, range));
            }
        }
    }

    fn index_pools(&mut self, changed: &[Key]) {
        if changed.is_empty() {
            return;
        }
        let known: BTreeMap<PoolName, Ipv4Network> = self
            .pools
            .iter()
            .filter_map(|pool| Some((pool.value.name.clone(), v4(pool.value.range)?)))
            .collect();
        // There are few pools; all of them are built again when one comes or goes, since the
        // same name may have come back with another range.
        self.public = known
            .into_iter()
            .map(|(name, range)| {
                let mut pool = Pool::of_hosts(range);
                for row in self.floating.iter().filter(|row| row.value.pool == name) {
                    if let Some(number) = number(row.value.address) {
                        pool.set(number, Use::from(&row.value.state));
                    }
                }
                (name, pool)
            })
            .collect();
    }

    fn index_floating(&mut self, changed: &[Key]) {
        for key in changed {
            if let Some((address, owner)) = self.indexed.remove(key) {
                if let Some(binding) = &owner.binding {
                    take(&mut self.led_to, &binding.instance, address);
                    take(&mut self.answered_by, &binding.host, address);
                }
                if let Some(server) = &owner.server {
                    take(&mut self.allocated_with, server, address);
                }
            }
            let Some(row) = self.floating.get(key) else {
                let gone = self.rows.remove(key).and_then(number);
                // Pools do not overlap, so that only its own knows the address.
                for (pool, gone) in self.public.values_mut().zip(std::iter::repeat(gone)) {
                    gone.into_iter().for_each(|number| pool.forget(number));
                }
                continue;
            };
            let address = row.value.address;
            self.rows.insert(key.clone(), address);
            let pool = self.public.get_mut(&row.value.pool);
            if let Some((pool, number)) = pool.zip(number(address)) {
                pool.set(number, Use::from(&row.value.state));
            }
            let Some(owner) = owner(&row.value) else { continue };
            if let Some(binding) = &owner.binding {
                self.led_to.entry(binding.instance).or_default().insert(address);
                self.answered_by.entry(binding.host).or_default().insert(address);
            }
            if let Some(server) = owner.server {
                self.allocated_with.entry(server).or_default().insert(address);
            }
            self.indexed.insert(key.clone(), (address, owner.clone()));
        }
    }
}

/// Who holds a floating IP.
pub(super) fn owner(floating: &FloatingIp) -> Option<&FloatingOwner> {
    match &floating.state {
        AddressState::Owned(owner) => Some(owner),
        _ => None,
    }
}

/// A range as the pools count it. Others are refused when they are made.
fn v4(range: IpNetwork) -> Option<Ipv4Network> {
    match range {
        IpNetwork::V4(v4) => Some(v4),
        IpNetwork::V6(_) => None,
    }
}

fn take<K: Ord>(index: &mut BTreeMap<K, BTreeSet<IpAddr>>, key: &K, address: IpAddr) {
    if let Some(addresses) = index.get_mut(key) {
        addresses.remove(&address);
        if addresses.is_empty() {
            index.remove(key);
        }
    }
}
