//! Metadata from the records of a cloud.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use nova_core::domain::{
    AddressState, FloatingIp, Instance, InstanceId, Mac, MacClaim, Network, NetworkId, Port,
    SecurityGroup,
};
use nova_core::store::record::keys;
use nova_core::store::{Mirror, Store, StoreError, StoreExt as _};
use tokio::sync::Mutex;

use crate::metadata::{Interface, Metadata, MetadataSource};

/// Reads a cloud's store.
#[derive(Debug)]
pub struct Records {
    store: Arc<dyn Store>,
    /// Floating IPs are found by their address and sought by their server. None before the first
    /// question, and after an error.
    floating: Mutex<Option<Mirror<FloatingIp>>>,
}

impl Records {
    /// A source that reads this store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, floating: Mutex::new(None) }
    }

    /// The floating IPs that lead to a server, by the addresses that they stand for.
    async fn led_to(&self, server: InstanceId) -> Result<BTreeMap<IpAddr, IpAddr>, StoreError> {
        let mut slot = self.floating.lock().await;
        let mut floating = match slot.take() {
            Some(floating) => floating,
            None => Mirror::new(Arc::clone(&self.store)).await?,
        };
        floating.catch_up().await?;
        let floating = slot.insert(floating);
        let bound = floating.iter().filter_map(|row| match &row.value.state {
            AddressState::Owned(owner) => Some((row.value.address, owner.binding.clone()?)),
            _ => None,
        });
        let mine = bound.filter(|(_, binding)| binding.instance == server);
        Ok(mine.map(|(address, binding)| (binding.fixed, address)).collect())
    }

    async fn interface(&self, port: Port) -> Result<Option<Interface>, StoreError> {
        let network: NetworkId = port.network;
        let network = self.store.read::<Network>(&keys::network(network)).await?;
        Ok(network.map(|network| Interface {
            mac: port.mac,
            network: port.network,
            range: network.value.cidr,
            address: port.address,
            address_v6: port.address_v6,
            gateway: network.value.gateway,
            dns: network.value.dns,
            dhcp: network.value.dhcp_server.is_some(),
            floating: None,
        }))
    }
}

impl std::fmt::Display for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "metadata from {}", self.store)
    }
}

#[async_trait]
impl MetadataSource for Records {
    async fn about(&self, mac: Mac) -> Result<Option<Metadata>, StoreError> {
        let Some(claim) = self.store.read::<MacClaim>(&keys::mac(mac)).await? else {
            return Ok(None);
        };
        let key = keys::instance(claim.value.instance);
        let Some(server) = self.store.read::<Instance>(&key).await? else { return Ok(None) };
        let server = server.value;
        let led_to = self.led_to(server.id).await?;
        let mut interfaces = Vec::new();
        for port in self.store.read_all::<Port>(&keys::ports_of(server.id)).await? {
            if let Some(interface) = self.interface(port.value).await? {
                let floating = led_to.get(&interface.address).copied();
                interfaces.push(Interface { floating, ..interface });
            }
        }
        let mut security_groups = Vec::new();
        for id in &server.security_groups {
            let group = self.store.read::<SecurityGroup>(&keys::security_group(*id)).await?;
            let group =
                group.map_or_else(|| SecurityGroup::default_of(&server.project), |g| g.value);
            security_groups.push(group.name);
        }
        Ok(Some(Metadata {
            id: server.id,
            name: server.name,
            project: server.project,
            flavor: server.flavor.name().clone(),
            image: server.image,
            zone: server.zone.unwrap_or_default(),
            key: server.key_pair.map(|pair| (pair.name, pair.public_key)),
            security_groups,
            interfaces,
            user_data: server.user_data,
        }))
    }
}
