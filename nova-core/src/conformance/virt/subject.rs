//! A driver under test, and what it can be given for the test.

use std::pin::Pin;
use std::sync::Arc;

use super::making;
use crate::domain::{Image, InstanceId, VolumeId};
use crate::port::{Connection, GuestSpec, ImageStore, Nic, VirtDriver, VolumeLink};

/// Starts a guest with this id on the host without asking the driver.
pub type Plant = Box<dyn Fn(InstanceId) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Lets the host lose its power and have it again.
pub type Outage = Box<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// A driver under test, with what a guest on its host is made of.
pub struct Subject {
    pub(super) driver: Arc<dyn VirtDriver>,
    pub(super) images: Option<(Arc<dyn ImageStore>, Image)>,
    pub(super) template: Option<GuestSpec>,
    pub(super) links: [VolumeLink; 2],
    pub(super) nics: [Nic; 2],
    pub(super) plant: Option<Plant>,
    pub(super) outage: Option<Outage>,
    pub(super) neighbour: Option<Arc<dyn VirtDriver>>,
}

impl Subject {
    /// A subject whose guests start from a tiny image that boots nothing.
    pub fn new(driver: impl VirtDriver) -> Self {
        let link = |bits| VolumeLink {
            volume: VolumeId::from_u128(bits),
            connection: Connection::Simulated,
        };
        Self {
            driver: Arc::new(driver),
            images: None,
            template: None,
            links: [link(1), link(2)],
            nics: [1, 2].map(making::nic),
            plant: None,
            outage: None,
            neighbour: None,
        }
    }

    /// Starts guests from `image`, whose bytes `images` has, for hosts that really boot.
    #[must_use]
    pub fn with_image(mut self, images: Arc<dyn ImageStore>, image: Image) -> Self {
        self.images = Some((images, image));
        self
    }

    /// Makes guests like `template`; id and image are set by the suite.
    #[must_use]
    pub fn with_template(mut self, template: GuestSpec) -> Self {
        self.template = Some(template);
        self
    }

    /// Plugs these volumes, of which the first has the lower id, for hosts that really plug.
    #[must_use]
    pub fn with_volumes(mut self, links: [VolumeLink; 2]) -> Self {
        self.links = links;
        self
    }

    /// Plugs these interfaces, for hosts that really plug.
    #[must_use]
    pub fn with_nics(mut self, nics: [Nic; 2]) -> Self {
        self.nics = nics;
        self
    }

    /// Has a way to start guests behind the driver's back.
    #[must_use]
    pub fn with_plant(mut self, plant: Plant) -> Self {
        self.plant = Some(plant);
        self
    }

    /// Has a way to lose power. Nothing else may run on the host: every guest is shut down by it.
    #[must_use]
    pub fn with_outage(mut self, outage: Outage) -> Self {
        self.outage = Some(outage);
        self
    }

    /// Takes guests to this other host, for drivers whose parcels say where the disks are and do
    /// not hold them: such a parcel is worth nothing when its guest was removed.
    #[must_use]
    pub fn with_neighbour(mut self, driver: impl VirtDriver) -> Self {
        self.neighbour = Some(Arc::new(driver));
        self
    }
}

impl<D: VirtDriver> From<D> for Subject {
    fn from(driver: D) -> Self {
        Self::new(driver)
    }
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Subject").field(&self.driver).finish()
    }
}
