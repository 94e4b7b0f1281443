//! The reference volume driver: volumes that are only counted.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::images::fetch;
use crate::domain::{Fence, HostId, Image, RemovedFences, SnapshotId, VolumeId, VolumeSize};
use crate::port::{
    CloneSource, CloneVolumes, Connection, ExtendVolumes, FillVolumes, ImageStore, ShareVolumes,
    SnapshotFacts, SnapshotVolumes, VolumeDriver, VolumeError, VolumeFacts,
};

/// Volumes that hold nothing: they have a size and a host, and every connection to them is
/// [`Connection::Simulated`].
#[derive(Debug, Default)]
pub struct MemoryVolumes {
    volumes: Mutex<Volumes>,
}

#[derive(Debug, Default)]
struct Volumes {
    made: BTreeMap<VolumeId, Made>,
    removed: RemovedFences,
}

#[derive(Debug)]
struct Made {
    size: VolumeSize,
    connected_to: Option<HostId>,
    shared_with: Option<HostId>,
    origin: Option<Origin>,
    snapshots: BTreeMap<SnapshotId, VolumeSize>,
    /// The highest of the calls that were carried out.
    fence: Fence,
}

/// What a volume was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    Volume(CloneSource),
    /// An image with this checksum.
    Image(String),
}

impl MemoryVolumes {
    /// A driver without volumes.
    pub fn new() -> Self {
        Self::default()
    }

    fn volumes(&self) -> MutexGuard<'_, Volumes> {
        self.volumes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Made {
    fn new(size: VolumeSize, fence: Fence) -> Self {
        let snapshots = BTreeMap::new();
        Self { size, connected_to: None, shared_with: None, origin: None, snapshots, fence }
    }
}

impl Volumes {
    /// A volume, if it is there, for a call that was not overtaken.
    fn volume(&mut self, volume: VolumeId, fence: Fence) -> Result<Option<&mut Made>, VolumeError> {
        let made = self.made.get_mut(&volume);
        let seen = made.as_ref().map_or_else(|| self.removed.seen(volume), |made| made.fence);
        VolumeError::if_overtaken(volume, fence, seen)?;
        Ok(made)
    }
}

impl std::fmt::Display for MemoryVolumes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("volumes in memory")
    }
}

#[async_trait]
impl VolumeDriver for MemoryVolumes {
    async fn create(
        &self,
        volume: VolumeId,
        size: VolumeSize,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        let mut volumes = self.volumes();
        match volumes.volume(volume, fence)? {
            Some(made) if made.size != size => return Err(VolumeError::Exists { volume }),
            Some(made) => made.fence = fence,
            None => {
                volumes.made.insert(volume, Made::new(size, fence));
            }
        }
        Ok(())
    }

    async fn remove(&self, volume: VolumeId, fence: Fence) -> Result<(), VolumeError> {
        let mut volumes = self.volumes();
        match volumes.volume(volume, fence)? {
            Some(Made { connected_to: Some(host), .. }) => {
                return Err(VolumeError::Connected { volume, host: *host });
            }
            Some(made) if !made.snapshots.is_empty() => {
                return Err(VolumeError::HasSnapshots { volume });
            }
            _ => {}
        }
        volumes.made.remove(&volume);
        volumes.removed.note(volume, fence);
        Ok(())
    }

    async fn connect(
        &self,
        volume: VolumeId,
        host: HostId,
        fence: Fence,
    ) -> Result<Connection, VolumeError> {
        let mut volumes = self.volumes();
        let made = volumes.volume(volume, fence)?.ok_or(VolumeError::NoSuchVolume { volume })?;
        match made.connected_to {
            Some(_) if made.shared_with == Some(host) => {}
            Some(other) if other != host => {
                return Err(VolumeError::Connected { volume, host: other });
            }
            _ => made.connected_to = Some(host),
        }
        made.fence = fence;
        Ok(Connection::Simulated)
    }

    async fn disconnect(
        &self,
        volume: VolumeId,
        host: HostId,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        if let Some(made) = self.volumes().volume(volume, fence)? {
            made.shared_with = made.shared_with.filter(|connected| *connected != host);
            if made.connected_to == Some(host) {
                made.connected_to = made.shared_with.take();
            }
            made.fence = fence;
        }
        Ok(())
    }

    async fn list(&self) -> Result<Vec<VolumeFacts>, VolumeError> {
        let volumes = self.volumes();
        let facts = volumes.made.iter().map(|(volume, made)| VolumeFacts {
            volume: *volume,
            size: made.size,
            connected_to: made.connected_to,
            shared_with: made.shared_with,
        });
        Ok(facts.collect())
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
impl ShareVolumes for MemoryVolumes {
    async fn share(
        &self,
        volume: VolumeId,
        from: HostId,
        to: HostId,
        fence: Fence,
    ) -> Result<Connection, VolumeError> {
        let mut volumes = self.volumes();
        let made = volumes.volume(volume, fence)?.ok_or(VolumeError::NoSuchVolume { volume })?;
        let has = |host| made.connected_to == Some(host) || made.shared_with == Some(host);
        match made.shared_with {
            _ if !has(from) => return Err(VolumeError::NotConnected { volume, host: from }),
            _ if has(to) => {}
            Some(host) => return Err(VolumeError::Connected { volume, host }),
            None => made.shared_with = Some(to),
        }
        made.fence = fence;
        Ok(Connection::Simulated)
    }
}

#[async_trait]
impl ExtendVolumes for MemoryVolumes {
    async fn extend(
        &self,
        volume: VolumeId,
        size: VolumeSize,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        let mut volumes = self.volumes();
        let made = volumes.volume(volume, fence)?.ok_or(VolumeError::NoSuchVolume { volume })?;
        if made.size > size {
            return Err(VolumeError::WouldShrink { volume, size: made.size });
        }
        made.size = size;
        made.fence = fence;
        Ok(())
    }
}

#[async_trait]
impl SnapshotVolumes for MemoryVolumes {
    async fn make_snapshot(
        &self,
        volume: VolumeId,
        snapshot: SnapshotId,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        let mut volumes = self.volumes();
        let made = volumes.volume(volume, fence)?.ok_or(VolumeError::NoSuchVolume { volume })?;
        made.snapshots.entry(snapshot).or_insert(made.size);
        made.fence = fence;
        Ok(())
    }

    async fn remove_snapshot(
        &self,
        volume: VolumeId,
        snapshot: SnapshotId,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        if let Some(made) = self.volumes().volume(volume, fence)? {
            made.snapshots.remove(&snapshot);
            made.fence = fence;
        }
        Ok(())
    }

    async fn list_snapshots(&self) -> Result<Vec<SnapshotFacts>, VolumeError> {
        let volumes = self.volumes();
        let facts = volumes.made.iter().flat_map(|(volume, made)| {
            let of = |(snapshot, size): (&SnapshotId, &VolumeSize)| SnapshotFacts {
                volume: *volume,
                snapshot: *snapshot,
                size: *size,
            };
            made.snapshots.iter().map(of)
        });
        Ok(facts.collect())
    }
}

#[async_trait]
impl CloneVolumes for MemoryVolumes {
    async fn clone_volume(
        &self,
        volume: VolumeId,
        source: CloneSource,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        let mut volumes = self.volumes();
        if let Some(made) = volumes.volume(volume, fence)? {
            if made.origin != Some(Origin::Volume(source)) {
                return Err(VolumeError::Exists { volume });
            }
            made.fence = fence;
            return Ok(());
        }
        let CloneSource { volume: from, snapshot } = source;
        let of = volumes.made.get(&from).ok_or(VolumeError::NoSuchVolume { volume: from })?;
        let size = match snapshot {
            None => of.size,
            Some(snapshot) => {
                let none = VolumeError::NoSuchSnapshot { volume: from, snapshot };
                *of.snapshots.get(&snapshot).ok_or(none)?
            }
        };
        let made = Made { origin: Some(Origin::Volume(source)), ..Made::new(size, fence) };
        volumes.made.insert(volume, made);
        Ok(())
    }
}

impl Volumes {
    /// Whether there is nothing to fill, because it was; a volume that is not there is to be.
    fn is_filled(
        &mut self,
        volume: VolumeId,
        size: VolumeSize,
        origin: &Origin,
        fence: Fence,
    ) -> Result<bool, VolumeError> {
        let Some(made) = self.volume(volume, fence)? else { return Ok(false) };
        if made.size != size || made.origin.as_ref() != Some(origin) {
            return Err(VolumeError::Exists { volume });
        }
        made.fence = fence;
        Ok(true)
    }
}

/// The disk in an image is taken to be as large as the image: nothing here reads formats.
#[async_trait]
impl FillVolumes for MemoryVolumes {
    async fn fill(
        &self,
        volume: VolumeId,
        size: VolumeSize,
        image: &Image,
        images: &dyn ImageStore,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        let origin = Origin::Image(image.content.sha256.clone());
        if self.volumes().is_filled(volume, size, &origin, fence)? {
            return Ok(());
        }
        let bytes = image.content.size_bytes;
        if bytes > size.get().to_bytes() {
            return Err(VolumeError::TooSmall { volume, size, bytes });
        }
        let fetched = fetch(image, images).await;
        fetched.map_err(|source| VolumeError::Image { volume, source })?;
        let mut volumes = self.volumes();
        // Somebody else may have been faster, or later.
        if !volumes.is_filled(volume, size, &origin, fence)? {
            let made = Made { origin: Some(origin), ..Made::new(size, fence) };
            volumes.made.insert(volume, made);
        }
        Ok(())
    }
}
