//! The reference volume driver: volumes that are only counted.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::domain::{HostId, VolumeId, VolumeSize};
use crate::port::{Connection, VolumeDriver, VolumeError, VolumeFacts};

/// Volumes that hold nothing: they have a size and a host, and every connection to them is
/// [`Connection::Simulated`].
#[derive(Debug, Default)]
pub struct MemoryVolumes {
    volumes: Mutex<BTreeMap<VolumeId, Made>>,
}

#[derive(Debug)]
struct Made {
    size: VolumeSize,
    connected_to: Option<HostId>,
}

impl MemoryVolumes {
    /// A driver without volumes.
    pub fn new() -> Self {
        Self::default()
    }

    fn volumes(&self) -> MutexGuard<'_, BTreeMap<VolumeId, Made>> {
        self.volumes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Display for MemoryVolumes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("volumes in memory")
    }
}

#[async_trait]
impl VolumeDriver for MemoryVolumes {
    async fn create(&self, volume: VolumeId, size: VolumeSize) -> Result<(), VolumeError> {
        let mut volumes = self.volumes();
        let made = volumes.entry(volume).or_insert(Made { size, connected_to: None });
        if made.size == size { Ok(()) } else { Err(VolumeError::Exists { volume }) }
    }

    async fn remove(&self, volume: VolumeId) -> Result<(), VolumeError> {
        let mut volumes = self.volumes();
        if let Some(host) = volumes.get(&volume).and_then(|made| made.connected_to) {
            return Err(VolumeError::Connected { volume, host });
        }
        volumes.remove(&volume);
        Ok(())
    }

    async fn connect(&self, volume: VolumeId, host: HostId) -> Result<Connection, VolumeError> {
        let mut volumes = self.volumes();
        let made = volumes.get_mut(&volume).ok_or(VolumeError::NoSuchVolume { volume })?;
        match made.connected_to {
            Some(other) if other != host => Err(VolumeError::Connected { volume, host: other }),
            _ => {
                made.connected_to = Some(host);
                Ok(Connection::Simulated)
            }
        }
    }

    async fn disconnect(&self, volume: VolumeId, host: HostId) -> Result<(), VolumeError> {
        if let Some(made) = self.volumes().get_mut(&volume) {
            made.connected_to = made.connected_to.filter(|connected| *connected != host);
        }
        Ok(())
    }

    async fn list(&self) -> Result<Vec<VolumeFacts>, VolumeError> {
        let volumes = self.volumes();
        let facts = volumes.iter().map(|(volume, made)| VolumeFacts {
            volume: *volume,
            size: made.size,
            connected_to: made.connected_to,
        });
        Ok(facts.collect())
    }
}
