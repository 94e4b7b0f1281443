//! What the tests are made of: a clock on which nobody waits, guests, images.

use std::fmt::{Display, Formatter};
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use nova_core::clock::{Clock, Timestamp};
use nova_core::domain::{
    GiB, Image, ImageFormat, ImageId, ImageProperties, ImageState, InstanceId, Label, MiB,
    ProjectId, Resources, ServerName, Vcpus,
};
use nova_core::memory::MemoryImages;
use nova_core::port::{GuestSpec, ImageStore};
use nova_virt::SimHost;

/// A clock on which nobody waits: to sleep is to make it the later moment.
#[derive(Debug, Default)]
pub(crate) struct SkipClock(AtomicU64);

impl Display for SkipClock {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("skipping clock")
    }
}

#[async_trait]
impl Clock for SkipClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    async fn sleep_until(&self, moment: Timestamp) {
        tokio::task::yield_now().await;
        self.0.fetch_max(moment.0, Ordering::SeqCst);
    }
}

/// Lets everybody come to rest: after this, whoever waits waits for a clock.
pub(crate) async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// What the host of [`host`] has.
pub(crate) const TOTAL: Resources = Resources { vcpus: Vcpus(4), memory: MiB(4096), disk: GiB(40) };

pub(crate) fn host(name: &str) -> SimHost {
    SimHost::new(name.parse().unwrap(), TOTAL)
}

pub(crate) fn id(number: u128) -> InstanceId {
    InstanceId::from_u128(number)
}

/// A store with one image of 100 000 bytes.
pub(crate) async fn images() -> (MemoryImages, Image) {
    let images = MemoryImages::new();
    let id = ImageId::from_u128(1);
    let content = images.put(id, Box::new(std::io::Cursor::new(vec![5; 100_000]))).await.unwrap();
    let image = Image {
        id,
        name: Label::new("image").unwrap(),
        owner: None,
        format: ImageFormat::Raw,
        content,
        min_memory: MiB::ZERO,
        min_disk: GiB::ZERO,
        properties: ImageProperties::default(),
        state: ImageState::Active,
        server: None,
    };
    (images, image)
}

/// A guest that takes a quarter of [`TOTAL`].
pub(crate) fn guest(number: u128, image: &Image) -> GuestSpec {
    GuestSpec {
        root: None,
        instance: id(number),
        project: ProjectId::new("project").unwrap(),
        name: ServerName::new(format!("guest-{number}")).unwrap(),
        vcpus: Vcpus(1),
        memory: MiB(1024),
        root_disk: GiB(8),
        ephemeral_disk: GiB(1),
        swap: MiB(1),
        image: image.clone(),
        nics: Vec::new(),
        public_key: None,
        assigned: Default::default(),
    }
}

/// Runs a test to its end.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(test)
}
