//! The laws of volumes on what this crate has.

use std::sync::Arc;

use async_trait::async_trait;
use nova_core::domain::{Fence, HostId, Image, SnapshotId, VolumeId, VolumeSize};
use nova_core::port::{
    CloneSource, CloneVolumes, Connection, ExtendVolumes, FillVolumes, ImageStore, ShareVolumes,
    SnapshotFacts, SnapshotVolumes, VolumeDriver, VolumeError, VolumeFacts,
};
use nova_virt::{FileError, FileVolumes, ImageCache};

use crate::laws::{Kept, Reopened};
use crate::world::SkipClock;

mod file_volumes {
    use super::*;

    nova_core::volume_laws!(async { Kept::new(|path| volumes(&path)) });
}

mod file_volumes_reopened {
    use super::*;

    nova_core::volume_laws!(async { Reopened::new() });
}

/// Volumes in a directory, with a place for images in it.
fn volumes(directory: &std::path::Path) -> FileVolumes {
    let opened = FileVolumes::at(directory).unwrap();
    // A process that another test is just starting holds every open file for a moment.
    for _ in 0..1_000_000 {
        match ImageCache::at(directory.join("images"), Arc::new(SkipClock::default())) {
            Err(FileError::InUse { .. }) => std::thread::yield_now(),
            images => return opened.with_images(images.unwrap()),
        }
    }
    panic!("the images stay in use");
}

impl Reopened {
    fn file_volumes(&self) -> FileVolumes {
        FileVolumes::at(self.directory()).unwrap()
    }

    fn directory(&self) -> std::path::PathBuf {
        self.0.path().join("volumes")
    }
}

#[async_trait]
impl VolumeDriver for Reopened {
    async fn create(
        &self,
        volume: VolumeId,
        size: VolumeSize,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        self.file_volumes().create(volume, size, fence).await
    }

    async fn remove(&self, volume: VolumeId, fence: Fence) -> Result<(), VolumeError> {
        self.file_volumes().remove(volume, fence).await
    }

    async fn connect(
        &self,
        volume: VolumeId,
        host: HostId,
        fence: Fence,
    ) -> Result<Connection, VolumeError> {
        self.file_volumes().connect(volume, host, fence).await
    }

    async fn disconnect(
        &self,
        volume: VolumeId,
        host: HostId,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        self.file_volumes().disconnect(volume, host, fence).await
    }

    async fn list(&self) -> Result<Vec<VolumeFacts>, VolumeError> {
        self.file_volumes().list().await
    }

    fn sharing(&self) -> Option<&dyn ShareVolumes> {
        Some(self)
    }

    fn extending(&self) -> Option<&dyn ExtendVolumes> {
        Some(self)
    }

    fn snapshots(&self) -> Option<&dyn SnapshotVolumes> {
        Some(self)
    }

    fn cloning(&self) -> Option<&dyn CloneVolumes> {
        Some(self)
    }

    fn filling(&self) -> Option<&dyn FillVolumes> {
        Some(self)
    }
}

#[async_trait]
impl ShareVolumes for Reopened {
    async fn share(
        &self,
        volume: VolumeId,
        from: HostId,
        to: HostId,
        fence: Fence,
    ) -> Result<Connection, VolumeError> {
        self.file_volumes().sharing().unwrap().share(volume, from, to, fence).await
    }
}

#[async_trait]
impl ExtendVolumes for Reopened {
    async fn extend(
        &self,
        volume: VolumeId,
        size: VolumeSize,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        self.file_volumes().extending().unwrap().extend(volume, size, fence).await
    }
}

#[async_trait]
impl SnapshotVolumes for Reopened {
    async fn make_snapshot(
        &self,
        volume: VolumeId,
        snapshot: SnapshotId,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        let volumes = self.file_volumes();
        volumes.snapshots().unwrap().make_snapshot(volume, snapshot, fence).await
    }

    async fn remove_snapshot(
        &self,
        volume: VolumeId,
        snapshot: SnapshotId,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        let volumes = self.file_volumes();
        volumes.snapshots().unwrap().remove_snapshot(volume, snapshot, fence).await
    }

    async fn list_snapshots(&self) -> Result<Vec<SnapshotFacts>, VolumeError> {
        self.file_volumes().snapshots().unwrap().list_snapshots().await
    }
}

#[async_trait]
impl CloneVolumes for Reopened {
    async fn clone_volume(
        &self,
        volume: VolumeId,
        source: CloneSource,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        self.file_volumes().cloning().unwrap().clone_volume(volume, source, fence).await
    }
}

#[async_trait]
impl FillVolumes for Reopened {
    async fn fill(
        &self,
        volume: VolumeId,
        size: VolumeSize,
        image: &Image,
        images: &dyn ImageStore,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        // Alone: there is one place for images, and one who has it.
        let volumes = volumes(&self.directory());
        volumes.filling().unwrap().fill(volume, size, image, images, fence).await
    }
}

#[async_trait]
impl VolumeDriver for Kept<FileVolumes> {
    async fn create(
        &self,
        volume: VolumeId,
        size: VolumeSize,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        self.subject.create(volume, size, fence).await
    }

    async fn remove(&self, volume: VolumeId, fence: Fence) -> Result<(), VolumeError> {
        self.subject.remove(volume, fence).await
    }

    async fn connect(
        &self,
        volume: VolumeId,
        host: HostId,
        fence: Fence,
    ) -> Result<Connection, VolumeError> {
        self.subject.connect(volume, host, fence).await
    }

    async fn disconnect(
        &self,
        volume: VolumeId,
        host: HostId,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        self.subject.disconnect(volume, host, fence).await
    }

    async fn list(&self) -> Result<Vec<VolumeFacts>, VolumeError> {
        self.subject.list().await
    }

    fn sharing(&self) -> Option<&dyn ShareVolumes> {
        self.subject.sharing()
    }

    fn extending(&self) -> Option<&dyn ExtendVolumes> {
        self.subject.extending()
    }

    fn snapshots(&self) -> Option<&dyn SnapshotVolumes> {
        self.subject.snapshots()
    }

    fn cloning(&self) -> Option<&dyn CloneVolumes> {
        self.subject.cloning()
    }

    fn filling(&self) -> Option<&dyn FillVolumes> {
        self.subject.filling()
    }
}
