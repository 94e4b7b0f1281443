//! One volume group for all of these, on a file with holes, and one pool in it.

use std::fmt::{Display, Formatter};
use std::fs::File;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use nova_core::domain::{Fence, HostId, VolumeId, VolumeSize};
use nova_core::memory::VirtualClock;
use nova_core::port::{
    CloneVolumes, Connection, ExtendVolumes, FillVolumes, ShareVolumes, SnapshotVolumes,
    VolumeDriver, VolumeError, VolumeFacts,
};
use nova_virt::{ImageCache, LvmPool, LvmVolumes};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// Where the volumes are described.
pub(crate) const DIRECTORY: &str = "/run/novalab/volumes";

/// What is on the file.
const DISK: &str = "/run/novalab/disk";

/// The size of the pool.
pub(crate) const POOL_GIB: u64 = 8;

/// Whether these can run here; what cannot says so.
pub(crate) fn here(name: &str) -> bool {
    let here = std::env::var_os("NOVA_LVM_LAB").is_some();
    if !here {
        println!("skipped: {name}: NOVA_LVM_LAB does not say that volume groups may be made here");
    }
    here
}

/// Whose turn it is: there is one pool.
pub(crate) async fn turn() -> OwnedMutexGuard<()> {
    static TURN: OnceLock<Arc<Mutex<()>>> = OnceLock::new();
    Arc::clone(TURN.get_or_init(Arc::default)).lock_owned().await
}

pub(crate) fn pool() -> LvmPool {
    LvmPool::new("novalab", "pool").unwrap()
}

/// Has the tools do something.
pub(crate) fn lvm(arguments: &[&str]) -> String {
    tool("lvm", arguments)
}

fn tool(name: &str, arguments: &[&str]) -> String {
    let output = Command::new(name).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn opened() -> LvmVolumes {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| {
        std::fs::create_dir_all(DIRECTORY).unwrap();
        File::create(DISK).unwrap().set_len((POOL_GIB + 1) << 30).unwrap();
        let device = tool("losetup", &["--find", "--show", DISK]);
        lvm(&["vgcreate", "--yes", "novalab", device.trim()]);
        let size = format!("{POOL_GIB}g");
        lvm(&[
            "lvcreate",
            "--yes",
            "--type",
            "thin-pool",
            "--size",
            &size,
            "--name",
            "pool",
            "novalab",
        ]);
    });
    LvmVolumes::at(pool(), DIRECTORY).unwrap().with_images(images())
}

/// Where images come to of which volumes are made: one place for all who open the pool.
fn images() -> ImageCache {
    static IMAGES: OnceLock<ImageCache> = OnceLock::new();
    let images = IMAGES.get_or_init(|| {
        ImageCache::at("/run/novalab/images", Arc::new(VirtualClock::new())).unwrap()
    });
    images.clone()
}

/// The volumes of the pool, without any: what is not described is a leftover.
pub(crate) fn emptied() -> LvmVolumes {
    for entry in std::fs::read_dir(DIRECTORY).into_iter().flatten() {
        let path = entry.unwrap().path();
        if ![".pool.json", ".lock"].iter().any(|kept| path.ends_with(kept)) {
            std::fs::remove_file(path).unwrap();
        }
    }
    // Also the devices that a law left open to its host.
    opened()
}

/// An empty pool that is nobody else's meanwhile.
#[derive(Debug)]
pub(crate) struct Subject {
    volumes: LvmVolumes,
    _turn: OwnedMutexGuard<()>,
}

impl Subject {
    pub(crate) async fn new() -> Self {
        let turn = turn().await;
        Self { volumes: emptied(), _turn: turn }
    }
}

impl Display for Subject {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        Display::fmt(&self.volumes, f)
    }
}

#[async_trait]
impl VolumeDriver for Subject {
    async fn create(
        &self,
        volume: VolumeId,
        size: VolumeSize,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        self.volumes.create(volume, size, fence).await
    }

    async fn remove(&self, volume: VolumeId, fence: Fence) -> Result<(), VolumeError> {
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

    fn sharing(&self) -> Option<&dyn ShareVolumes> {
        self.volumes.sharing()
    }

    fn extending(&self) -> Option<&dyn ExtendVolumes> {
        self.volumes.extending()
    }

    fn snapshots(&self) -> Option<&dyn SnapshotVolumes> {
        self.volumes.snapshots()
    }

    fn cloning(&self) -> Option<&dyn CloneVolumes> {
        self.volumes.cloning()
    }

    fn filling(&self) -> Option<&dyn FillVolumes> {
        self.volumes.filling()
    }
}
