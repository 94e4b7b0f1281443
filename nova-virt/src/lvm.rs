//! Volumes as logical volumes.
//!
//! All of them come from one thin pool. What is known of each lies in a directory, as it does for
//! [volumes in files](crate::volumes).

mod pool;
mod tools;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use nova_core::domain::{Fence, GiB, HostId, VolumeId, VolumeSize};
use nova_core::port::{
    CloneVolumes, Connection, ExtendVolumes, FillVolumes, ShareVolumes, SnapshotVolumes,
    VolumeDriver, VolumeError, VolumeFacts,
};

use crate::cache::ImageCache;
use crate::files::{self, FORMAT, FileError};
use crate::volumes::ledger::Ledger;
pub use pool::LvmPool;
use tools::Lvm;

/// Keeps each volume as a thin logical volume of one pool, and each snapshot as another one; a
/// host reaches a volume by its device. Needs the tools of LVM (`lvm`) and the right to use them.
///
/// What is known of the volumes is in a directory that belongs to the pool and is as precious: a
/// logical volume whose description is lost is a leftover. So the two know each other, and neither
/// is used with another one. One process at a time changes something; the pool is on one host,
/// because a thin pool can be used by one at a time.
///
/// A new volume reads as zeros: a thin volume has no blocks before it is written to, and the pool
/// fills those that it gets with zeros first. A pool that does not is refused. A snapshot or a
/// clone is made at once, also while a host has the volume.
///
/// All volumes and snapshots together are at most as large as the pool, so that it cannot run
/// full under those who use it, unless [`with_limit`](Self::with_limit) says otherwise.
///
/// ```no_run
/// use nova_virt::{LvmPool, LvmVolumes};
///
/// // Made before: vgcreate cloud /dev/sdb; lvcreate --type thin-pool -l 95%FREE -n volumes cloud
/// let pool = LvmPool::new("cloud", "volumes")?;
/// let volumes = LvmVolumes::at(pool, "/var/lib/cloud/volumes")?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct LvmVolumes {
    ledger: Ledger,
}

/// Which pool a directory belongs to.
#[derive(serde::Serialize, serde::Deserialize)]
struct Owner {
    format: u32,
    pool: String,
}

/// The file that says so.
const OWNER: &str = ".pool.json";

impl LvmVolumes {
    /// The volumes in `pool`, which are described in `directory`; it is made when it is not there.
    /// Leftovers of changes that were interrupted are removed, on the calling thread.
    ///
    /// # Errors
    /// [`FileError::Foreign`] when the directory and the pool do not belong together;
    /// [`FileError::Io`], also when there is no such pool or it does not fill new blocks with
    /// zeros.
    pub fn at(pool: LvmPool, directory: impl AsRef<Path>) -> Result<Self, FileError> {
        let directory: Arc<Path> = files::directory(directory.as_ref())?.into();
        let lvm = Arc::new(Lvm::new(pool.clone()));
        let ledger = Ledger::new(Arc::clone(&directory), Arc::<Lvm>::clone(&lvm) as Arc<_>);
        let lock = ledger.lock()?;
        belong_together(&directory, &lvm, &pool)?;
        ledger.clean(&lock)?;
        Ok(Self { ledger })
    }

    /// Refuses a volume, an extension, a snapshot or a clone with which all of them together
    /// would be larger than `limit`. Above the size of the pool, somebody has to watch how full
    /// it is: what is written to a pool that is full is lost.
    #[must_use]
    pub fn with_limit(self, limit: GiB) -> Self {
        Self { ledger: self.ledger.with_limit(limit) }
    }

    /// Makes volumes of images, too: an image comes to `images` once, is measured and inspected
    /// there, and its disk is copied into each volume that is made of it. `qemu-img` and `prlimit`
    /// have to be installed where images are not raw.
    #[must_use]
    pub fn with_images(self, images: ImageCache) -> Self {
        Self { ledger: self.ledger.with_images(images) }
    }
}

/// Notes in each of the two which the other one is, where neither has another one.
fn belong_together(directory: &Path, lvm: &Lvm, pool: &LvmPool) -> Result<(), FileError> {
    let device = PathBuf::from(pool.to_string());
    let asked = FileError::io(&device, "ask for the pool");
    let facts = lvm.pool().map_err(asked)?;
    let file = directory.join(OWNER);
    match files::load::<Owner>(&file)? {
        Some(owner) if owner.pool == facts.id => {}
        Some(owner) => {
            return Err(FileError::Foreign { path: file, found: owner.pool, expected: facts.id });
        }
        None if facts.is_taken => {
            let found = "the descriptions in another directory".to_owned();
            let expected = directory.display().to_string();
            return Err(FileError::Foreign { path: device, found, expected });
        }
        None => files::save(&file, &Owner { format: FORMAT, pool: facts.id })?,
    }
    if facts.is_taken {
        return Ok(());
    }
    lvm.take().map_err(FileError::io(&device, "mark the pool"))
}

impl std::fmt::Display for LvmVolumes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.ledger.fmt(f)
    }
}

#[async_trait]
impl VolumeDriver for LvmVolumes {
    async fn create(
        &self,
        volume: VolumeId,
        size: VolumeSize,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        self.ledger.create(volume, size, fence).await
    }

    async fn remove(&self, volume: VolumeId, fence: Fence) -> Result<(), VolumeError> {
        self.ledger.remove(volume, fence).await
    }

    async fn connect(
        &self,
        volume: VolumeId,
        host: HostId,
        fence: Fence,
    ) -> Result<Connection, VolumeError> {
        self.ledger.connect(volume, host, fence).await
    }

    async fn disconnect(
        &self,
        volume: VolumeId,
        host: HostId,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        self.ledger.disconnect(volume, host, fence).await
    }

    async fn list(&self) -> Result<Vec<VolumeFacts>, VolumeError> {
        self.ledger.list().await
    }

    /// Never: there is one host.
    fn sharing(&self) -> Option<&dyn ShareVolumes> {
        None
    }

    fn extending(&self) -> Option<&dyn ExtendVolumes> {
        Some(&self.ledger)
    }

    fn snapshots(&self) -> Option<&dyn SnapshotVolumes> {
        Some(&self.ledger)
    }

    fn cloning(&self) -> Option<&dyn CloneVolumes> {
        Some(&self.ledger)
    }

    fn filling(&self) -> Option<&dyn FillVolumes> {
        self.ledger.filling()
    }
}
