//! What an operator may do with networks and pools of floating IPs.

use crate::cloud::api::Plan;
use crate::cloud::api::admin::Admin;
use crate::cloud::api::views::{NetworkUse, PoolUse};
use crate::cloud::error::ApiError;
use crate::domain::{AddressState, FixedIp, FloatingPool, Network, NetworkId, PoolName, RequestId};
use crate::port::{FloatingIps, NetworkSpec};
use crate::store::StoreExt as _;
use crate::store::record::keys;

impl Admin {
    /// Makes networks.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] for a range that is none, [`ApiError::Network`] for one that is taken
    /// and when VLANs have run out.
    pub async fn create_networks(
        &self,
        request: RequestId,
        spec: &NetworkSpec,
    ) -> Result<Vec<Network>, ApiError> {
        accept!(self, request, "create networks", spec, {
            let draft = self.door.ports.network.create_networks(spec).await?;
            Ok(Plan::now(draft.value, draft.txn))
        })
    }

    /// Removes a network.
    ///
    /// # Errors
    /// [`ApiError::NotFound`]; [`ApiError::Network`] while a server has an address in it.
    pub async fn delete_network(&self, request: RequestId, id: NetworkId) -> Result<(), ApiError> {
        accept!(self, request, "delete network", &id, {
            let draft = self.door.ports.network.delete_network(id).await?;
            Ok(Plan::now((), draft.txn))
        })
    }

    /// All networks, sorted by id.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn networks(&self) -> Result<Vec<Network>, ApiError> {
        let view = self.door.fresh().await?;
        Ok(view.networks.values().map(|network| network.value.clone()).collect())
    }

    /// How full each network is, sorted by id.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn network_use(&self) -> Result<Vec<NetworkUse>, ApiError> {
        let mut all = Vec::new();
        for network in self.networks().await? {
            let taken = keys::fixed_ips_of(network.id);
            let taken = self.door.ports.store.read_all::<FixedIp>(&taken).await?;
            let now = self.door.now();
            let count = |wanted: fn(&AddressState<crate::domain::InstanceId>) -> bool| {
                taken.iter().filter(|address| wanted(&address.value.state)).count()
            };
            let resting = taken.iter().filter(|address| {
                matches!(address.value.state, AddressState::Quarantined { until } if until > now)
            });
            all.push(NetworkUse {
                network: network.id,
                name: network.name.clone(),
                owned: count(|state| matches!(state, AddressState::Owned(_))),
                resting: resting.count(),
                reserved: count(|state| matches!(state, AddressState::Reserved)),
            });
        }
        Ok(all)
    }

    /// How full each pool of floating IPs is, sorted by name.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn floating_pool_use(&self) -> Result<Vec<PoolUse>, ApiError> {
        let view = self.door.fresh().await?;
        let now = self.door.now();
        let uses = view.pools.values().map(|pool| {
            let pool = pool.value.clone();
            let mut count = PoolUse { pool, owned: 0, leading: 0, resting: 0 };
            let all = view.floating_ips.values().map(|floating| &floating.value);
            for floating in all.filter(|floating| floating.pool == count.pool.name) {
                match &floating.state {
                    AddressState::Owned(owner) => {
                        count.owned += 1;
                        count.leading += usize::from(owner.binding.is_some());
                    }
                    AddressState::Quarantined { until } if *until > now => count.resting += 1,
                    AddressState::Quarantined { .. } | AddressState::Reserved => {}
                }
            }
            count
        });
        Ok(uses.collect())
    }

    /// Makes a pool of floating IPs.
    ///
    /// # Errors
    /// [`ApiError::Unsuitable`] when the network manager has none; [`ApiError::Network`].
    pub async fn create_floating_pool(
        &self,
        request: RequestId,
        pool: &FloatingPool,
    ) -> Result<(), ApiError> {
        accept!(self, request, "create floating IP pool", pool, {
            let draft = self.door.floating()?.create_pool(pool).await?;
            Ok(Plan::now((), draft.txn))
        })
    }

    /// Removes a pool of floating IPs.
    ///
    /// # Errors
    /// [`ApiError::NotFound`]; [`ApiError::Network`] while a project holds an address of it.
    pub async fn delete_floating_pool(
        &self,
        request: RequestId,
        pool: &PoolName,
    ) -> Result<(), ApiError> {
        accept!(self, request, "delete floating IP pool", pool, {
            let draft = self.door.floating()?.delete_pool(pool).await?;
            Ok(Plan::now((), draft.txn))
        })
    }
}

impl crate::cloud::api::Door {
    /// The floating IPs of the network manager.
    pub(crate) fn floating(&self) -> Result<&dyn FloatingIps, ApiError> {
        self.ports.network.floating_ips().ok_or_else(|| ApiError::Unsuitable {
            what: self.ports.network.to_string(),
            reason: "it has no floating IPs".to_owned(),
        })
    }
}
