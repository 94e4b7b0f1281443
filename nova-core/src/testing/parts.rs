//! What a simulated cloud is made of: the reference parts, or those of whoever brings their own.

use std::fmt::Debug;
use std::sync::Arc;

use crate::clock::Clock;
use crate::domain::{NumaCell, NumaTopology, PciAddress, PciDevice, Resources};
use crate::memory::{FirstFit, MemoryHost, MemoryNetworks, MemoryVolumes};
use crate::port::{NetworkManager, Scheduler, VirtDriver, VolumeDriver};
use crate::seed::Seed;
use crate::store::{MemoryStore, Store};
use crate::testing::world::CARD;

type Make<T> = Arc<dyn Fn() -> Arc<T> + Send + Sync>;
type MakeHost = Arc<dyn Fn(&str, Resources) -> Arc<dyn VirtDriver> + Send + Sync>;
type MakeNetwork =
    Arc<dyn Fn(Arc<dyn Store>, Arc<dyn Clock>, Seed) -> Arc<dyn NetworkManager> + Send + Sync>;

/// How to make each part of a simulated cloud. Every run makes its own.
///
/// What is handed in has to keep the laws of its port, and must ask nobody but its arguments for
/// time and chance, or a seed is not the same run twice.
///
/// ```
/// use std::sync::Arc;
/// use nova_core::memory::{FirstFit, MemoryHost};
/// use nova_core::testing::{Parts, Simulation};
///
/// let parts = Parts::default()
///     .with_scheduler(|| Arc::new(FirstFit))
///     .with_driver(|_name, total| Arc::new(MemoryHost::new(total)));
/// let outcome = Simulation::new(parts).run(1);
/// assert_eq!(outcome.findings, []);
/// ```
#[derive(Clone)]
pub struct Parts {
    pub(crate) store: Make<dyn Store>,
    pub(crate) driver: MakeHost,
    pub(crate) scheduler: Make<dyn Scheduler>,
    pub(crate) network: MakeNetwork,
    pub(crate) volumes: Make<dyn VolumeDriver>,
}

impl Parts {
    /// Records lie in this store; all processes share one.
    #[must_use]
    pub fn with_store(self, make: impl Fn() -> Arc<dyn Store> + Send + Sync + 'static) -> Self {
        Self { store: Arc::new(make), ..self }
    }

    /// A host of this name and size runs guests with this driver. It keeps them while it lives:
    /// that is the truth that answers and records are compared with.
    #[must_use]
    pub fn with_driver(
        self,
        make: impl Fn(&str, Resources) -> Arc<dyn VirtDriver> + Send + Sync + 'static,
    ) -> Self {
        Self { driver: Arc::new(make), ..self }
    }

    /// Servers are placed by this scheduler.
    #[must_use]
    pub fn with_scheduler(
        self,
        make: impl Fn() -> Arc<dyn Scheduler> + Send + Sync + 'static,
    ) -> Self {
        Self { scheduler: Arc::new(make), ..self }
    }

    /// Addresses are handed out by this network manager; each process has one, over its own way
    /// to the store and its own clock, and all have the same seed.
    #[must_use]
    pub fn with_network(
        self,
        make: impl Fn(Arc<dyn Store>, Arc<dyn Clock>, Seed) -> Arc<dyn NetworkManager>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self { network: Arc::new(make), ..self }
    }

    /// Volumes are made by this driver; all processes share one.
    #[must_use]
    pub fn with_volumes(
        self,
        make: impl Fn() -> Arc<dyn VolumeDriver> + Send + Sync + 'static,
    ) -> Self {
        Self { volumes: Arc::new(make), ..self }
    }
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            store: Arc::new(|| Arc::new(MemoryStore::new())),
            driver: Arc::new(|_, total| Arc::new(machine(total))),
            scheduler: Arc::new(|| Arc::new(FirstFit)),
            network: Arc::new(|store, clock, seed| {
                Arc::new(MemoryNetworks::new(store, clock, seed))
            }),
            volumes: Arc::new(|| Arc::new(MemoryVolumes::new())),
        }
    }
}

/// A host with two NUMA cells and with a card for every two CPUs, beside one cell and the other.
fn machine(total: Resources) -> MemoryHost {
    let half = total.vcpus.0 / 2;
    let cell = |id: u32, cpus: std::ops::Range<u32>| NumaCell {
        id,
        dedicated_cpus: cpus.collect(),
        memory: total.memory.0 / 2,
        ..NumaCell::default()
    };
    let cells = vec![cell(0, 0..half), cell(1, half..total.vcpus.0)];
    let host = MemoryHost::new(total).with_numa(NumaTopology { cells });
    let card = |n: u32| {
        let address = PciAddress::new(format!("0000:01:{n:02x}.0")).ok()?;
        Some(PciDevice { numa_node: Some(n % 2), ..PciDevice::new(address, CARD[0], CARD[1]) })
    };
    host.with_pci((0..half).filter_map(card))
}

impl Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}
