//! Other parts that misbehave in one way at a time.

use std::collections::BTreeSet;
use std::fmt::{Debug, Display};
use std::future::pending;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use nova_core::cloud::Ports;
use nova_core::domain::{
    Fence, FloatingBinding, FloatingIp, FloatingPool, HostId, InstanceId, Network, NetworkId,
    PoolName, Port, VlanId, VolumeId, VolumeSize,
};
use nova_core::memory::MemoryVolumes;
use nova_core::port::{
    Connection, FloatingIps, FloatingRequest, NetError, NetworkManager, NetworkSpec, PortRequest,
    VolumeDriver, VolumeError, VolumeFacts,
};
use nova_core::seed::Seed;
use nova_core::store::{
    Draft, Entry, Event, Feed, Key, Page, Prefix, Revision, Scan, Store, StoreError, Txn, Watch,
};

use crate::world::World;

/// Volumes whose making and destroying fail on demand.
#[derive(Debug, Default)]
pub(super) struct MoodyVolumes {
    volumes: MemoryVolumes,
    /// They are made, and the process dies before it hears of it.
    pub(super) silent: AtomicBool,
    /// None is made.
    pub(super) barren: AtomicBool,
    /// None is destroyed, and none ever will be.
    pub(super) sticky: AtomicBool,
}

impl Display for MoodyVolumes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("moody volumes")
    }
}

#[async_trait]
impl VolumeDriver for MoodyVolumes {
    async fn create(
        &self,
        volume: VolumeId,
        size: VolumeSize,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        if self.barren.load(Ordering::SeqCst) {
            let source = std::io::Error::other("not today");
            return Err(VolumeError::Io { volume, operation: "make it", source });
        }
        self.volumes.create(volume, size, fence).await?;
        if self.silent.load(Ordering::SeqCst) {
            pending::<()>().await;
        }
        Ok(())
    }

    async fn remove(&self, volume: VolumeId, fence: Fence) -> Result<(), VolumeError> {
        if self.sticky.load(Ordering::SeqCst) {
            return Err(VolumeError::Connected { volume, host: HostId::from_u128(404) });
        }
        self.volumes.remove(volume, fence).await
    }

    async fn connect(
        &self,
        volume: VolumeId,
        host: HostId,
        fence: Fence,
    ) -> Result<Connection, VolumeError> {
        self.volumes.connect(volume, host, fence).await
    }

    async fn disconnect(
        &self,
        volume: VolumeId,
        host: HostId,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        self.volumes.disconnect(volume, host, fence).await
    }

    async fn list(&self) -> Result<Vec<VolumeFacts>, VolumeError> {
        self.volumes.list().await
    }

    fn sharing(&self) -> Option<&dyn nova_core::port::ShareVolumes> {
        self.volumes.sharing()
    }

    fn extending(&self) -> Option<&dyn nova_core::port::ExtendVolumes> {
        self.volumes.extending()
    }

    fn snapshots(&self) -> Option<&dyn nova_core::port::SnapshotVolumes> {
        self.volumes.snapshots()
    }

    fn cloning(&self) -> Option<&dyn nova_core::port::CloneVolumes> {
        self.volumes.cloning()
    }

    fn filling(&self) -> Option<&dyn nova_core::port::FillVolumes> {
        self.volumes.filling()
    }
}

/// What is wrong with networks.
#[derive(Debug, Default)]
pub(super) struct Whims {
    /// They lead no floating IP anywhere.
    pub(super) unleading: AtomicBool,
    /// They give no addresses of a server back.
    pub(super) unreleasing: AtomicBool,
    /// They change nothing on these hosts.
    pub(super) stuck: Mutex<BTreeSet<HostId>>,
    /// Where they were asked to change something, in order.
    pub(super) asked: Mutex<Vec<HostId>>,
    /// They refuse for good to let a floating IP lead nowhere.
    pub(super) clinging: AtomicBool,
    /// What somebody else commits between the moment at which it is decided where this floating
    /// IP leads and the moment at which the networks look.
    pub(super) meanwhile: Mutex<Option<Surprise>>,
}

/// About which floating IP, where it is committed, and what.
type Surprise = (IpAddr, Arc<dyn Store>, Txn);

impl Whims {
    async fn meanwhile(&self, about: IpAddr) {
        let planned = self.meanwhile.lock().unwrap().take_if(|planned| planned.0 == about);
        if let Some((_, store, txn)) = planned {
            store.commit(txn).await.unwrap();
        }
    }
}

/// Networks with whims.
#[derive(Debug)]
pub(super) struct MoodyNetworks {
    networks: Arc<dyn NetworkManager>,
    whims: Arc<Whims>,
}

impl MoodyNetworks {
    pub(super) fn over(ports: Ports, whims: &Arc<Whims>) -> Ports {
        let networks = Arc::clone(&ports.network);
        ports.with_network(Self { networks, whims: Arc::clone(whims) })
    }

    fn floating(&self) -> &dyn FloatingIps {
        self.networks.floating_ips().unwrap()
    }
}

impl Display for MoodyNetworks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("moody networks")
    }
}

#[async_trait]
impl NetworkManager for MoodyNetworks {
    async fn create_networks(&self, spec: &NetworkSpec) -> Result<Draft<Vec<Network>>, NetError> {
        self.networks.create_networks(spec).await
    }

    async fn delete_network(&self, network: NetworkId) -> Result<Draft<()>, NetError> {
        self.networks.delete_network(network).await
    }

    async fn reserve(&self, request: &PortRequest) -> Result<Draft<Vec<Port>>, NetError> {
        self.networks.reserve(request).await
    }

    async fn release(&self, id: InstanceId) -> Result<Draft<()>, NetError> {
        if self.whims.unreleasing.load(Ordering::SeqCst) {
            let (host, operation) = (HostId::from_u128(404), "give back".to_owned());
            return Err(NetError::Backend { host, operation, source: "not today".into() });
        }
        self.networks.release(id).await
    }

    async fn converge(&self, host: HostId) -> Result<(), NetError> {
        self.whims.asked.lock().unwrap().push(host);
        if self.whims.stuck.lock().unwrap().contains(&host) {
            let operation = "change the network".to_owned();
            return Err(NetError::Backend { host, operation, source: "no cable".into() });
        }
        self.networks.converge(host).await
    }

    fn floating_ips(&self) -> Option<&dyn FloatingIps> {
        Some(self)
    }
}

#[async_trait]
impl FloatingIps for MoodyNetworks {
    async fn create_pool(&self, pool: &FloatingPool) -> Result<Draft<()>, NetError> {
        self.floating().create_pool(pool).await
    }

    async fn delete_pool(&self, pool: &PoolName) -> Result<Draft<()>, NetError> {
        self.floating().delete_pool(pool).await
    }

    async fn allocate(&self, request: &FloatingRequest) -> Result<Draft<FloatingIp>, NetError> {
        self.floating().allocate(request).await
    }

    async fn associate(
        &self,
        address: IpAddr,
        binding: FloatingBinding,
    ) -> Result<Draft<FloatingIp>, NetError> {
        if self.whims.unleading.load(Ordering::SeqCst) {
            return Err(NetError::NoSuchFloatingIp { address });
        }
        self.whims.meanwhile(address).await;
        self.floating().associate(address, binding).await
    }

    async fn disassociate(&self, address: IpAddr) -> Result<Draft<FloatingIp>, NetError> {
        self.whims.meanwhile(address).await;
        if self.whims.clinging.load(Ordering::SeqCst) {
            return Err(NetError::NoMoreVlans { from: VlanId::new(2).unwrap() });
        }
        self.floating().disassociate(address).await
    }

    async fn release(&self, address: IpAddr) -> Result<Draft<()>, NetError> {
        self.floating().release(address).await
    }
}

/// A store that gives everybody else a turn around each call, and tells its watches late while it
/// is told so.
#[derive(Debug)]
pub(super) struct LateStore {
    store: Arc<dyn Store>,
    feed: Feed,
    news: Mutex<Option<Watch>>,
    late: AtomicBool,
    unhurried: AtomicBool,
}

impl LateStore {
    /// Puts one between a cloud and its store.
    pub(super) fn under(ports: Ports) -> (Ports, Arc<Self>) {
        let late = Arc::new(Self {
            store: Arc::clone(&ports.store),
            feed: Feed::new(Revision::default()),
            news: Mutex::new(None),
            late: AtomicBool::new(false),
            unhurried: AtomicBool::new(false),
        });
        let store = Arc::clone(&late) as Arc<dyn Store>;
        (Ports::over(store, Arc::clone(&ports.clock), Seed::new(7)), late)
    }

    /// Other tasks get a turn before and after each call.
    pub(super) fn takes_its_time(&self) {
        self.unhurried.store(true, Ordering::SeqCst);
    }

    /// From now on watches hear of a commit only when [`deliver`](Self::deliver) says so.
    pub(super) fn falls_behind(&self) {
        self.late.store(true, Ordering::SeqCst);
    }

    pub(super) fn deliver(&self) {
        let mut changes = Vec::new();
        let mut news = self.news.lock().unwrap();
        while let Some(event) = news.as_mut().and_then(Watch::try_next) {
            let Event::Changed(change) = event else { panic!("too far behind for this test") };
            changes.push(change);
        }
        self.feed.publish(changes);
    }

    async fn breathe(&self) {
        if self.unhurried.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    }
}

impl Display for LateStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "late {}", self.store)
    }
}

#[async_trait]
impl Store for LateStore {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.breathe().await;
        self.store.get(key).await
    }

    async fn scan(&self, scan: Scan) -> Result<Page, StoreError> {
        self.breathe().await;
        self.store.scan(scan).await
    }

    async fn commit(&self, txn: Txn) -> Result<Revision, StoreError> {
        self.breathe().await;
        let open = self.news.lock().unwrap().is_some();
        if !open {
            let watch = self.store.watch(&Prefix::all(), Revision::default()).await?;
            *self.news.lock().unwrap() = Some(watch);
        }
        let done = self.store.commit(txn).await;
        if !self.late.load(Ordering::SeqCst) {
            self.deliver();
        }
        self.breathe().await;
        done
    }

    async fn watch(&self, prefix: &Prefix, after: Revision) -> Result<Watch, StoreError> {
        Ok(self.feed.watch(prefix, after))
    }
}

/// Runs a test over such a store, which is like any other until it is told.
pub(super) fn run_late(test: impl AsyncFnOnce(&mut World, Arc<LateStore>)) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut store = None;
        let mut world = World::new(|ports| {
            let (ports, late) = LateStore::under(ports);
            store = Some(late);
            ports
        })
        .await;
        let clock = Arc::clone(&world.clock);
        let late = store.unwrap();
        clock.drive(test(&mut world, late)).await;
    });
}
