//! The parts that a cloud is composed of.

use std::sync::Arc;

use crate::clock::{Clock, SystemClock};
use crate::memory::{FirstFit, LocalBus, MemoryImages, MemoryNetworks, MemoryVolumes};
use crate::port::{ImageStore, MessageBus, NetworkManager, Scheduler, VolumeDriver};
use crate::seed::Seed;
use crate::store::{MemoryStore, Store};

/// One implementation of each port; a driver for each host comes with the host.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Ports {
    /// Where the truth is.
    pub store: Arc<dyn Store>,
    /// How parts wake each other.
    pub bus: Arc<dyn MessageBus>,
    /// Who decides where servers go.
    pub scheduler: Arc<dyn Scheduler>,
    /// Who hands out addresses.
    pub network: Arc<dyn NetworkManager>,
    /// Where the bytes of images are.
    pub images: Arc<dyn ImageStore>,
    /// Who makes volumes.
    pub volumes: Arc<dyn VolumeDriver>,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where chance comes from.
    pub seed: Seed,
}

impl Ports {
    /// The reference implementations, all in memory, on the machine's clock.
    pub fn memory(seed: Seed) -> Self {
        Self::over(Arc::new(MemoryStore::new()), Arc::new(SystemClock::new()), seed)
    }

    /// The reference implementations over this store and this clock.
    pub fn over(store: Arc<dyn Store>, clock: Arc<dyn Clock>, seed: Seed) -> Self {
        Self {
            bus: Arc::new(LocalBus::new(Arc::clone(&clock))),
            scheduler: Arc::new(FirstFit),
            network: Arc::new(MemoryNetworks::new(
                Arc::clone(&store),
                Arc::clone(&clock),
                seed.child("network"),
            )),
            images: Arc::new(MemoryImages::new()),
            volumes: Arc::new(MemoryVolumes::new()),
            store,
            clock,
            seed,
        }
    }

    /// Uses this bus.
    #[must_use]
    pub fn with_bus(self, bus: impl MessageBus) -> Self {
        Self { bus: Arc::new(bus), ..self }
    }

    /// Uses this scheduler.
    #[must_use]
    pub fn with_scheduler(self, scheduler: impl Scheduler) -> Self {
        Self { scheduler: Arc::new(scheduler), ..self }
    }

    /// Uses this network manager; it has to work on the same store.
    #[must_use]
    pub fn with_network(self, network: impl NetworkManager) -> Self {
        Self { network: Arc::new(network), ..self }
    }

    /// Uses this image store.
    #[must_use]
    pub fn with_images(self, images: impl ImageStore) -> Self {
        Self { images: Arc::new(images), ..self }
    }

    /// Uses this volume driver.
    #[must_use]
    pub fn with_volumes(self, volumes: impl VolumeDriver) -> Self {
        Self { volumes: Arc::new(volumes), ..self }
    }
}
