//! A store, a clock that stands still, and a manager over both.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use nova_core::clock::{Clock, Timestamp};
use nova_core::domain::{
    FloatingBinding, FloatingPool, HostId, InstanceId, InterfaceName, Label, Network, NetworkId,
    NetworkKind, PoolName, Port, ProjectId,
};
use nova_core::port::{
    FloatingIps, FloatingRequest, NetError, NetworkManager, NetworkSpec, PortRequest,
};
use nova_core::seed::Seed;
use nova_core::store::record::Claim;
use nova_core::store::{Draft, MemoryStore, Store, Txn};
use nova_net::Networks;
use nova_net::backend::Recorder;
use nova_net::host::HostNet;
use nova_net::topology::Topology;

#[derive(Debug, Default)]
pub(crate) struct HandClock(AtomicU64);

impl HandClock {
    pub(crate) fn advance(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap();
        self.0.fetch_add(nanos, Ordering::SeqCst);
    }
}

impl std::fmt::Display for HandClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("hand clock")
    }
}

#[async_trait]
impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    async fn sleep_until(&self, moment: Timestamp) {
        self.0.fetch_max(moment.0, Ordering::SeqCst);
    }
}

pub(crate) struct World {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<HandClock>,
    pub(crate) backend: Arc<Recorder>,
    pub(crate) networks: Arc<Networks>,
}

impl World {
    pub(crate) fn new() -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let clock = Arc::new(HandClock::default());
        let backend = Arc::new(Recorder::new());
        let networks = Arc::new(Networks::new(
            Arc::clone(&store),
            clock.clone(),
            Seed::new(1),
            backend.clone(),
        ));
        Self { store, clock, backend, networks }
    }

    pub(crate) fn of(topology: Arc<dyn Topology>) -> Self {
        let world = Self::new();
        let (store, clock) = (Arc::clone(&world.store), world.clock.clone());
        let networks = Networks::new(store, clock, Seed::new(1), world.backend.clone());
        Self { networks: Arc::new(networks.with_topologies([topology])), ..world }
    }

    pub(crate) async fn commit<T>(&self, draft: Result<Draft<T>, NetError>) -> T {
        let draft = draft.unwrap();
        self.store.commit(draft.txn).await.unwrap();
        draft.value
    }

    pub(crate) async fn make(&self, spec: NetworkSpec) -> Vec<Network> {
        self.commit(self.networks.create_networks(&spec).await).await
    }

    pub(crate) async fn ports(&self, n: u128, project: &str, networks: &[NetworkId]) -> Vec<Port> {
        self.commit(self.networks.reserve(&request(n, project, networks)).await).await
    }

    pub(crate) async fn release(&self, n: u128) {
        self.commit(self.networks.release(instance(n)).await).await;
    }

    /// Puts an instance on a host, or takes it away.
    pub(crate) async fn claim(&self, n: u128, on: u128) {
        let (host, instance) = (host(on), instance(n));
        let (amount, classes, assigned) = Default::default();
        let claim = Claim { host, instance, amount, classes, assigned, kept: false };
        let mut txn = Txn::new();
        txn.put(&claim);
        self.store.commit(txn).await.unwrap();
    }

    pub(crate) async fn unclaim(&self, n: u128, on: u128) {
        let mut txn = Txn::new();
        let key = nova_core::store::record::keys::claim(host(on), instance(n));
        txn.write(nova_core::store::Write::Remove(key));
        self.store.commit(txn).await.unwrap();
    }

    pub(crate) async fn converge(&self, on: u128) -> HostNet {
        self.networks.converge(host(on)).await.unwrap();
        self.backend.net(host(on))
    }

    pub(crate) fn floating(&self) -> &dyn FloatingIps {
        self.networks.floating_ips().unwrap()
    }

    pub(crate) async fn make_pool(&self, range: &str) {
        self.commit(self.floating().create_pool(&pool(range)).await).await;
    }

    pub(crate) async fn allocate(&self) -> IpAddr {
        let request = FloatingRequest { project: project("demo"), pool: pool_name(), server: None };
        self.commit(self.floating().allocate(&request).await).await.address
    }

    pub(crate) async fn lead(&self, address: IpAddr, to: &Port, on: u128) {
        let binding = FloatingBinding { instance: to.instance, fixed: to.address, host: host(on) };
        self.commit(self.floating().associate(address, binding).await).await;
    }
}

pub(crate) fn spec(kind: NetworkKind, cidr: &str) -> NetworkSpec {
    let spec = NetworkSpec::new(Label::new("net").unwrap(), kind, cidr.parse().unwrap());
    match kind {
        NetworkKind::Vlan | NetworkKind::Vxlan => spec.with_parent(interface("eth1")),
        _ => spec,
    }
}

pub(crate) fn request(n: u128, of: &str, networks: &[NetworkId]) -> PortRequest {
    let (project, networks) = (project(of), networks.to_vec());
    let (security_groups, host) = (BTreeSet::new(), host(n));
    PortRequest { instance: instance(n), project, networks, security_groups, host }
}

pub(crate) fn instance(n: u128) -> InstanceId {
    InstanceId::from_u128(n)
}

pub(crate) fn host(n: u128) -> HostId {
    HostId::from_u128(n)
}

pub(crate) fn project(name: &str) -> ProjectId {
    ProjectId::new(name).unwrap()
}

pub(crate) fn interface(name: &str) -> InterfaceName {
    InterfaceName::new(name).unwrap()
}

pub(crate) fn pool_name() -> PoolName {
    PoolName::new("public").unwrap()
}

pub(crate) fn pool(range: &str) -> FloatingPool {
    FloatingPool { name: pool_name(), range: range.parse().unwrap(), interface: interface("eth0") }
}
