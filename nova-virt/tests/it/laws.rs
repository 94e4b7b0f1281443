//! The suites of the ports on what this crate has.

mod abilities;

use std::fmt::{Debug, Display, Formatter};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nova_core::conformance::virt::Subject;
use nova_core::domain::{
    HostFacts, Image, ImageContent, ImageFormat, ImageId, InstanceId, Reboot, VolumeId,
};
use nova_core::port::{
    AskAgents, AttachVolumes, CacheImages, Guest, GuestSpec, ImageBytes, ImageError, ImageStore,
    Invitation, LiveMigrate, MeasureGuests, MoveGuests, OpenConsoles, Parcel, PauseGuests,
    PlugInterfaces, ReadConsoles, RescueGuests, SnapshotGuests, SuspendGuests, TellChanges,
    Transfer, VirtDriver, VirtError, VolumeLink,
};
use nova_virt::sim::Latency;
use nova_virt::{DirImageStore, FileError, Several, SimHost, SimOptions};

use crate::world::{SkipClock, TOTAL, host};

mod sim_plain {
    use super::*;

    nova_core::virt_laws!(async { host("plain") });
}

/// Through a shared pointer, with guests that somebody else starts.
mod sim_shared {
    use super::*;

    nova_core::virt_laws!(async {
        let host = Arc::new(host("shared"));
        Subject::new(Arc::clone(&host)).with_plant(Box::new(move |instance| {
            host.plant_guest(instance, TOTAL).unwrap();
            Box::pin(async {})
        }))
    });
}

mod sim_slow {
    use super::*;

    nova_core::virt_laws!(async {
        let latency = Latency::between(Duration::from_millis(1), Duration::from_secs(90)).unwrap();
        host("slow")
            .with_options(SimOptions::default().with_latency(latency))
            .with_clock(Arc::new(SkipClock::default()))
    });
}

/// Every single call is made by a new process, so to say.
mod sim_reopened {
    use super::*;

    nova_core::virt_laws!(async { Reopened::new() });
}

/// Two hypervisors, each of which has some of the guests.
mod sim_several {
    use super::*;

    fn several(name: &str) -> Several {
        let parity = |image: &Image| image.id.as_u128().is_multiple_of(2);
        Several::new(host(name)).with(parity, host("other"))
    }

    nova_core::virt_laws!(async { several("first") });

    mod live {
        use super::*;

        nova_core::live_laws!(async { (several("here"), several("there")) });
    }
}

mod sim_live {
    use super::*;

    nova_core::live_laws!(async { (host("here"), host("there")) });
}

/// Hosts that really lose their power.
mod sim_live_dark {
    use super::*;

    fn dark(name: &str) -> Subject {
        let host = Arc::new(host(name));
        Subject::new(Arc::clone(&host)).with_outage(Box::new(move || {
            host.lose_power().unwrap();
            host.restore_power().unwrap();
            Box::pin(async {})
        }))
    }

    nova_core::live_laws!(async { (dark("here"), dark("there")) });
}

mod sim_live_reopened {
    use super::*;

    nova_core::live_laws!(async { (Reopened::new(), Reopened::new()) });
}

mod directory_images {
    use super::*;

    nova_core::image_laws!(async { Kept::new(|path| DirImageStore::at(path).unwrap()) });
}

mod directory_images_reopened {
    use super::*;

    nova_core::image_laws!(async { Reopened::new() });
}

/// Opens what it needs in its directory for every call.
#[derive(Debug)]
pub(crate) struct Reopened(pub(crate) tempfile::TempDir);

impl Reopened {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn host(&self) -> SimHost {
        let path = self.0.path().join("host.json");
        // A process that another test is just starting holds every open file for a moment.
        for _ in 0..1_000_000 {
            match SimHost::open(&path, "h".parse().unwrap(), TOTAL) {
                Err(FileError::InUse { .. }) => std::thread::yield_now(),
                opened => return opened.unwrap(),
            }
        }
        panic!("{path:?} stays in use")
    }

    fn images(&self) -> DirImageStore {
        DirImageStore::at(self.0.path().join("images")).unwrap()
    }
}

impl Display for Reopened {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("reopened for every call")
    }
}

#[async_trait]
impl VirtDriver for Reopened {
    async fn facts(&self) -> Result<HostFacts, VirtError> {
        self.host().facts().await
    }

    async fn guests(&self) -> Result<Vec<Guest>, VirtError> {
        self.host().guests().await
    }

    async fn guest(&self, instance: InstanceId) -> Result<Option<Guest>, VirtError> {
        self.host().guest(instance).await
    }

    async fn create(&self, spec: &GuestSpec, images: &dyn ImageStore) -> Result<(), VirtError> {
        self.host().create(spec, images).await
    }

    async fn remove(&self, instance: InstanceId) -> Result<(), VirtError> {
        VirtDriver::remove(&self.host(), instance).await
    }

    async fn start(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.host().start(instance).await
    }

    async fn stop(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.host().stop(instance).await
    }

    async fn reboot(&self, instance: InstanceId, how: Reboot, boot: u64) -> Result<(), VirtError> {
        self.host().reboot(instance, how, boot).await
    }

    fn pausing(&self) -> Option<&dyn PauseGuests> {
        Some(self)
    }

    fn suspending(&self) -> Option<&dyn SuspendGuests> {
        Some(self)
    }

    fn volumes(&self) -> Option<&dyn AttachVolumes> {
        Some(self)
    }

    fn moving(&self) -> Option<&dyn MoveGuests> {
        Some(self)
    }

    fn live(&self) -> Option<&dyn LiveMigrate> {
        Some(self)
    }

    fn snapshots(&self) -> Option<&dyn SnapshotGuests> {
        Some(self)
    }

    fn rescuing(&self) -> Option<&dyn RescueGuests> {
        Some(self)
    }

    fn telling(&self) -> Option<&dyn TellChanges> {
        // Nothing lives long enough to tell of anything.
        None
    }

    fn reading(&self) -> Option<&dyn ReadConsoles> {
        Some(self)
    }

    fn talking(&self) -> Option<&dyn OpenConsoles> {
        Some(self)
    }

    fn measuring(&self) -> Option<&dyn MeasureGuests> {
        Some(self)
    }

    fn interfaces(&self) -> Option<&dyn PlugInterfaces> {
        Some(self)
    }

    fn caching(&self) -> Option<&dyn CacheImages> {
        Some(self)
    }

    fn agents(&self) -> Option<&dyn AskAgents> {
        Some(self)
    }
}

#[async_trait]
impl CacheImages for Reopened {
    async fn cached_images(&self) -> Result<Vec<String>, VirtError> {
        self.host().cached_images().await
    }
}

#[async_trait]
impl LiveMigrate for Reopened {
    async fn expect(
        &self,
        spec: &GuestSpec,
        links: &[VolumeLink],
    ) -> Result<Invitation, VirtError> {
        self.host().expect(spec, links).await
    }

    async fn send(&self, instance: InstanceId, to: &Invitation) -> Result<Transfer, VirtError> {
        self.host().send(instance, to).await
    }

    async fn receive(&self, instance: InstanceId, parcel: &Parcel) -> Result<(), VirtError> {
        self.host().receive(instance, parcel).await
    }

    async fn is_complete(&self, instance: InstanceId) -> Result<bool, VirtError> {
        self.host().is_complete(instance).await
    }

    async fn recall(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.host().recall(instance).await
    }
}

#[async_trait]
impl RescueGuests for Reopened {
    async fn rescue(
        &self,
        instance: InstanceId,
        image: &Image,
        images: &dyn ImageStore,
    ) -> Result<(), VirtError> {
        self.host().rescue(instance, image, images).await
    }

    async fn unrescue(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.host().unrescue(instance).await
    }

    async fn rescued(&self, instance: InstanceId) -> Result<bool, VirtError> {
        self.host().rescued(instance).await
    }
}

#[async_trait]
impl SnapshotGuests for Reopened {
    async fn snapshot(
        &self,
        instance: InstanceId,
        image: ImageId,
        format: ImageFormat,
        images: &dyn ImageStore,
    ) -> Result<ImageContent, VirtError> {
        self.host().snapshot(instance, image, format, images).await
    }
}

#[async_trait]
impl MoveGuests for Reopened {
    async fn pack(&self, instance: InstanceId) -> Result<Parcel, VirtError> {
        self.host().pack(instance).await
    }

    async fn unpack(
        &self,
        spec: &GuestSpec,
        parcel: &Parcel,
        images: &dyn ImageStore,
    ) -> Result<(), VirtError> {
        self.host().unpack(spec, parcel, images).await
    }
}

#[async_trait]
impl PauseGuests for Reopened {
    async fn pause(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.host().pause(instance).await
    }

    async fn unpause(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.host().unpause(instance).await
    }
}

#[async_trait]
impl AttachVolumes for Reopened {
    async fn attach(&self, instance: InstanceId, link: &VolumeLink) -> Result<(), VirtError> {
        self.host().attach(instance, link).await
    }

    async fn detach(&self, instance: InstanceId, volume: VolumeId) -> Result<(), VirtError> {
        self.host().detach(instance, volume).await
    }
}

#[async_trait]
impl ImageStore for Reopened {
    async fn put(&self, image: ImageId, bytes: ImageBytes) -> Result<ImageContent, ImageError> {
        self.images().put(image, bytes).await
    }

    async fn content(&self, image: ImageId) -> Result<Option<ImageContent>, ImageError> {
        self.images().content(image).await
    }

    async fn open(&self, image: ImageId) -> Result<ImageBytes, ImageError> {
        self.images().open(image).await
    }

    async fn remove(&self, image: ImageId) -> Result<(), ImageError> {
        self.images().remove(image).await
    }

    async fn list(&self) -> Result<Vec<ImageId>, ImageError> {
        self.images().list().await
    }
}

/// A subject with the directory in which it lives.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    pub(crate) subject: T,
    _directory: tempfile::TempDir,
}

impl<T> Kept<T> {
    pub(crate) fn new(open: impl FnOnce(PathBuf) -> T) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { subject: open(directory.path().join("new")), _directory: directory }
    }
}

impl<T: Display> Display for Kept<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        Display::fmt(&self.subject, f)
    }
}

#[async_trait]
impl ImageStore for Kept<DirImageStore> {
    async fn put(&self, image: ImageId, bytes: ImageBytes) -> Result<ImageContent, ImageError> {
        self.subject.put(image, bytes).await
    }

    async fn content(&self, image: ImageId) -> Result<Option<ImageContent>, ImageError> {
        self.subject.content(image).await
    }

    async fn open(&self, image: ImageId) -> Result<ImageBytes, ImageError> {
        self.subject.open(image).await
    }

    async fn remove(&self, image: ImageId) -> Result<(), ImageError> {
        self.subject.remove(image).await
    }

    async fn list(&self) -> Result<Vec<ImageId>, ImageError> {
        self.subject.list().await
    }
}
