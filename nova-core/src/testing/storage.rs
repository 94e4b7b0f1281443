//! Stores of volumes and of images that refuse, take their time and do what they say they
//! did not do.

use std::fmt::{Display, Formatter};
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::ClockExt as _;
use crate::domain::{
    Fence, HostId, Image, ImageContent, ImageId, SnapshotId, VolumeId, VolumeSize,
};
use crate::port::{
    CloneSource, CloneVolumes, Connection, ExtendVolumes, FillVolumes, ImageBytes, ImageError,
    ImageStore, ShareVolumes, SnapshotFacts, SnapshotVolumes, VolumeDriver, VolumeError,
    VolumeFacts,
};
use crate::testing::fate::Fault;
use crate::testing::process::Process;

/// One process's way to where volumes or images lie.
#[derive(Debug)]
pub struct ChaosStorage<S: ?Sized> {
    storage: Arc<S>,
    process: Arc<Process>,
}

/// Longer than anybody waits.
const SLOW_MAX: Duration = Duration::from_secs(15);

impl<S: ?Sized> ChaosStorage<S> {
    /// The way of `process` to `storage`.
    pub fn new(storage: Arc<S>, process: Arc<Process>) -> Self {
        Self { storage, process }
    }

    /// What happens before anything is done. The error is not done.
    async fn reach(&self) -> Result<(), std::io::Error> {
        self.process.latency().await;
        let fate = self.process.fate();
        if fate.strikes(Fault::StorageRefusal).is_some() {
            return Err(std::io::Error::other("not now"));
        }
        if let Some(mut strike) = fate.strikes(Fault::StorageSlow) {
            self.process.world().sleep(strike.time(Duration::ZERO, SLOW_MAX)).await;
            self.process.pass().await;
        }
        Ok(())
    }

    /// What happens after something was done. The error is a lie.
    async fn leave(&self) -> Result<(), std::io::Error> {
        if self.process.fate().strikes(Fault::StorageFalseNo).is_some() {
            return Err(std::io::Error::other("something went wrong"));
        }
        self.process.latency().await;
        Ok(())
    }
}

impl<S: Display + ?Sized> Display for ChaosStorage<S> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "unreliable {}", &*self.storage)
    }
}

impl<S: ?Sized> ChaosStorage<S> {
    async fn change<T: Send>(
        &self,
        volume: VolumeId,
        operation: &'static str,
        work: impl Future<Output = Result<T, VolumeError>> + Send,
    ) -> Result<T, VolumeError> {
        let failed = |source| VolumeError::Io { volume, operation, source };
        self.reach().await.map_err(failed)?;
        let done = work.await;
        self.process.note(format_args!("{operation} {volume} was done: {}", done.is_ok()));
        self.leave().await.map_err(failed)?;
        done
    }

    async fn handle<T: Send>(
        &self,
        image: ImageId,
        operation: &'static str,
        work: impl Future<Output = Result<T, ImageError>> + Send,
    ) -> Result<T, ImageError> {
        let failed = |source| ImageError::Io { image, operation, source };
        self.reach().await.map_err(failed)?;
        let done = work.await;
        self.process.note(format_args!("{operation} {image} was done: {}", done.is_ok()));
        self.leave().await.map_err(failed)?;
        done
    }
}

#[async_trait]
impl<D: VolumeDriver + ?Sized> VolumeDriver for ChaosStorage<D> {
    async fn create(
        &self,
        volume: VolumeId,
        size: VolumeSize,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        self.change(volume, "create", self.storage.create(volume, size, fence)).await
    }

    async fn remove(&self, volume: VolumeId, fence: Fence) -> Result<(), VolumeError> {
        self.change(volume, "remove", self.storage.remove(volume, fence)).await
    }

    async fn connect(
        &self,
        volume: VolumeId,
        host: HostId,
        fence: Fence,
    ) -> Result<Connection, VolumeError> {
        self.change(volume, "connect", self.storage.connect(volume, host, fence)).await
    }

    async fn disconnect(
        &self,
        volume: VolumeId,
        host: HostId,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        self.change(volume, "disconnect", self.storage.disconnect(volume, host, fence)).await
    }

    async fn list(&self) -> Result<Vec<VolumeFacts>, VolumeError> {
        self.reach().await.map_err(|source| VolumeError::List { source })?;
        self.storage.list().await
    }

    fn sharing(&self) -> Option<&dyn ShareVolumes> {
        self.storage.sharing().is_some().then_some(self as &dyn ShareVolumes)
    }

    fn extending(&self) -> Option<&dyn ExtendVolumes> {
        self.storage.extending().is_some().then_some(self as &dyn ExtendVolumes)
    }

    fn snapshots(&self) -> Option<&dyn SnapshotVolumes> {
        self.storage.snapshots().is_some().then_some(self as &dyn SnapshotVolumes)
    }

    fn cloning(&self) -> Option<&dyn CloneVolumes> {
        self.storage.cloning().is_some().then_some(self as &dyn CloneVolumes)
    }

    fn filling(&self) -> Option<&dyn FillVolumes> {
        self.storage.filling().is_some().then_some(self as &dyn FillVolumes)
    }
}

/// An ability that was there when it was asked for.
fn able<T>(ability: Option<T>, volume: VolumeId) -> Result<T, VolumeError> {
    let (operation, source) = ("find out what can be done with", ErrorKind::Unsupported.into());
    ability.ok_or(VolumeError::Io { volume, operation, source })
}

#[async_trait]
impl<D: VolumeDriver + ?Sized> ShareVolumes for ChaosStorage<D> {
    async fn share(
        &self,
        volume: VolumeId,
        from: HostId,
        to: HostId,
        fence: Fence,
    ) -> Result<Connection, VolumeError> {
        let sharing = able(self.storage.sharing(), volume)?;
        self.change(volume, "share", sharing.share(volume, from, to, fence)).await
    }
}

#[async_trait]
impl<D: VolumeDriver + ?Sized> ExtendVolumes for ChaosStorage<D> {
    async fn extend(
        &self,
        volume: VolumeId,
        size: VolumeSize,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        let extending = able(self.storage.extending(), volume)?;
        self.change(volume, "extend", extending.extend(volume, size, fence)).await
    }
}

#[async_trait]
impl<D: VolumeDriver + ?Sized> SnapshotVolumes for ChaosStorage<D> {
    async fn make_snapshot(
        &self,
        volume: VolumeId,
        snapshot: SnapshotId,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        let snapshots = able(self.storage.snapshots(), volume)?;
        let work = snapshots.make_snapshot(volume, snapshot, fence);
        self.change(volume, "make a snapshot of", work).await
    }

    async fn remove_snapshot(
        &self,
        volume: VolumeId,
        snapshot: SnapshotId,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        let snapshots = able(self.storage.snapshots(), volume)?;
        let work = snapshots.remove_snapshot(volume, snapshot, fence);
        self.change(volume, "remove a snapshot of", work).await
    }

    async fn list_snapshots(&self) -> Result<Vec<SnapshotFacts>, VolumeError> {
        self.reach().await.map_err(|source| VolumeError::List { source })?;
        let unable = || VolumeError::List { source: ErrorKind::Unsupported.into() };
        self.storage.snapshots().ok_or_else(unable)?.list_snapshots().await
    }
}

#[async_trait]
impl<D: VolumeDriver + ?Sized> CloneVolumes for ChaosStorage<D> {
    async fn clone_volume(
        &self,
        volume: VolumeId,
        source: CloneSource,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        let cloning = able(self.storage.cloning(), volume)?;
        self.change(volume, "clone into", cloning.clone_volume(volume, source, fence)).await
    }
}

#[async_trait]
impl<D: VolumeDriver + ?Sized> FillVolumes for ChaosStorage<D> {
    async fn fill(
        &self,
        volume: VolumeId,
        size: VolumeSize,
        image: &Image,
        images: &dyn ImageStore,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        let filling = able(self.storage.filling(), volume)?;
        self.change(volume, "fill", filling.fill(volume, size, image, images, fence)).await
    }
}

#[async_trait]
impl<I: ImageStore + ?Sized> ImageStore for ChaosStorage<I> {
    async fn put(&self, image: ImageId, bytes: ImageBytes) -> Result<ImageContent, ImageError> {
        self.handle(image, "store", self.storage.put(image, bytes)).await
    }

    async fn content(&self, image: ImageId) -> Result<Option<ImageContent>, ImageError> {
        self.handle(image, "look at", self.storage.content(image)).await
    }

    async fn open(&self, image: ImageId) -> Result<ImageBytes, ImageError> {
        self.handle(image, "read", self.storage.open(image)).await
    }

    async fn remove(&self, image: ImageId) -> Result<(), ImageError> {
        self.handle(image, "remove", self.storage.remove(image)).await
    }

    async fn list(&self) -> Result<Vec<ImageId>, ImageError> {
        self.reach().await.map_err(|source| ImageError::List { source })?;
        self.storage.list().await
    }
}
