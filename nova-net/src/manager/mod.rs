//! The network manager: records in the store, networks on hosts.
//!
//! [`Networks`] decides in plain functions ([`pool`](crate::pool), [`topology`](crate::topology),
//! [`plan`](crate::plan)) and acts through a store and a [`NetBackend`].
//!
//! # Why nothing gets two owners
//! Whatever is handed out has a record that the draft creates (never used: its key must still be
//! absent) or replaces (rested: its record must be unchanged). Two drafts that hand out the same
//! thing write the same key, and only one of them commits. Networks and pools are different:
//! two that overlap have no key in common. So each that is added also writes the ledger of
//! ranges, which makes adding them one after the other the only way.
//!
//! # Why a network that is used cannot be deleted
//! A reservation guards that its network is unchanged, so it fails when the deletion was first.
//! The other way round, the deletion has to fail when a reservation was first. It guards every
//! address record that it saw, and that the lowest address without a record still has none. The
//! next reservation takes that very address, or one of those that rested: there is no third. So
//! the deletion fails, and no reservation has to write a record only for the sake of deletions.
//! The price is paid by the deletion, whose transaction is as long as the network has records.
//! Pools are deleted by the same rule. Both end the quarantine of what they contained; VLANs
//! rest on.

mod converge;
mod floating;
mod groups;
mod networks;
mod ports;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nova_core::clock::Clock;
use nova_core::domain::{AddressState, HostId, InstanceId, Network, NetworkId, NetworkKind, Port};
use nova_core::port::{FloatingIps, NetError, NetworkManager, NetworkSpec, PortRequest};
use nova_core::seed::Seed;
use nova_core::store::{Draft, Store, StoreError};
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

use crate::backend::NetBackend;
use crate::dns::Dns;
use crate::pool::MacPrefix;
use crate::topology::{Topology, standard};
use view::View;

/// Networks, addresses and floating IPs in a store, and on hosts through a backend.
///
/// ```
/// # use std::{sync::Arc, time::Duration};
/// # use nova_core::{clock::SystemClock, seed::Seed, store::MemoryStore};
/// use nova_net::{Networks, backend::Recorder};
///
/// let store = Arc::new(MemoryStore::new());
/// let clock = Arc::new(SystemClock::new());
/// let networks = Networks::new(store, clock, Seed::new(7), Arc::new(Recorder::new()))
///     .with_quarantine(Duration::from_secs(300));
/// assert_eq!(networks.to_string(), "flat, flat-dhcp, vlan and vxlan networks on network recorder");
/// ```
#[derive(Debug)]
pub struct Networks {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    seed: Seed,
    backend: Arc<dyn NetBackend>,
    topologies: BTreeMap<NetworkKind, Arc<dyn Topology>>,
    quarantine: Duration,
    mac_prefix: MacPrefix,
    metadata: bool,
    dns: Option<Arc<dyn Dns>>,
    /// None before the first use, and after an error until the next one.
    view: Mutex<Option<View>>,
}

impl Networks {
    /// How long released addresses and VLANs rest unless told otherwise: longer than ARP caches
    /// and connection tracking remember.
    pub const QUARANTINE: Duration = Duration::from_secs(60);

    /// A manager of the networks in `store`, of all kinds, that changes hosts through
    /// `backend`. Ids and MACs are drawn from `seed`.
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        seed: Seed,
        backend: Arc<dyn NetBackend>,
    ) -> Self {
        Self {
            store,
            clock,
            seed,
            backend,
            topologies: BTreeMap::new(),
            quarantine: Self::QUARANTINE,
            mac_prefix: MacPrefix::FA_16_3E,
            metadata: false,
            dns: None,
            view: Mutex::new(None),
        }
        .with_topologies(standard())
    }

    /// Knows these topologies and no others; of two for one kind the later. Where none of them
    /// leads floating IPs, this manager has none.
    #[must_use]
    pub fn with_topologies(self, topologies: impl IntoIterator<Item = Arc<dyn Topology>>) -> Self {
        let topologies = topologies.into_iter().map(|topology| (topology.kind(), topology));
        Self { topologies: topologies.collect(), ..self }
    }

    /// Lets released addresses and VLANs rest for `quarantine`.
    #[must_use]
    pub fn with_quarantine(self, quarantine: Duration) -> Self {
        Self { quarantine, ..self }
    }

    /// Hands out MACs that begin with `prefix`.
    #[must_use]
    pub fn with_mac_prefix(self, prefix: MacPrefix) -> Self {
        Self { mac_prefix: prefix, ..self }
    }

    /// Lets hosts tell the guests of which they are the gateway about themselves, where their
    /// backend can.
    #[must_use]
    pub fn with_metadata(self) -> Self {
        Self { metadata: true, ..self }
    }

    /// Tells the names of a host's guests whenever the host has converged.
    #[must_use]
    pub fn with_dns(self, dns: Arc<dyn Dns>) -> Self {
        Self { dns: Some(dns), ..self }
    }

    fn topology(&self, network: &Network) -> Option<&Arc<dyn Topology>> {
        self.topologies.get(&network.kind)
    }

    fn resting<Owner>(&self) -> AddressState<Owner> {
        AddressState::Quarantined { until: self.clock.now().after(self.quarantine) }
    }

    /// What is known of the store, caught up, for one decision at a time.
    async fn view(&self) -> Result<MappedMutexGuard<'_, View>, NetError> {
        let mut slot = self.view.lock().await;
        // Taken out while it changes: after an error, or when the caller goes away meanwhile,
        // an index may be incomplete, and the next call begins anew.
        let mut view = match slot.take() {
            Some(view) => view,
            None => View::new(&self.store).await.map_err(cannot(READ))?,
        };
        view.catch_up().await.map_err(cannot(READ))?;
        Ok(MutexGuard::map(slot, |slot| slot.insert(view)))
    }
}

impl std::fmt::Display for Networks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, kind) in self.topologies.keys().enumerate() {
            let joint = match (at, self.topologies.len() - at) {
                (0, _) => "",
                (_, 1) => " and ",
                _ => ", ",
            };
            write!(f, "{joint}{kind}")?;
        }
        write!(f, " networks on {}", self.backend)
    }
}

#[async_trait]
impl NetworkManager for Networks {
    async fn create_networks(&self, spec: &NetworkSpec) -> Result<Draft<Vec<Network>>, NetError> {
        self.draft_networks(spec).await
    }

    async fn delete_network(&self, network: NetworkId) -> Result<Draft<()>, NetError> {
        self.draft_deletion(network).await
    }

    async fn reserve(&self, request: &PortRequest) -> Result<Draft<Vec<Port>>, NetError> {
        self.draft_ports(request).await
    }

    async fn release(&self, instance: InstanceId) -> Result<Draft<()>, NetError> {
        self.draft_release(instance).await
    }

    async fn converge(&self, host: HostId) -> Result<(), NetError> {
        self.converge_host(host).await
    }

    fn floating_ips(&self) -> Option<&dyn FloatingIps> {
        let some = self.topologies.values().any(|topology| topology.leads_floating_ips());
        some.then_some(self)
    }
}

const READ: &str = "read the network records";

fn cannot(operation: &'static str) -> impl Fn(StoreError) -> NetError {
    move |source| NetError::Store { operation, source }
}
