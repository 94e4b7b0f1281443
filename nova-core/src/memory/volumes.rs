//! The reference volume driver: volumes that are only counted.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::domain::{HostId, VolumeId, VolumeSize};
use crate::port::{Connection, ShareVolumes, VolumeDriver, VolumeError, VolumeFacts};

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
    shared_with: Option<HostId>,
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
        let made =
            volumes.entry(volume).or_insert(Made { size, connected_to: None, shared_with: None });
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
            Some(_) if made.shared_with == Some(host) => Ok(Connection::Simulated),
            Some(other) if other != host => Err(VolumeError::Connected { volume, host: other }),
            _ => {
                made.connected_to = Some(host);
                Ok(Connection::Simulated)
            }
        }
    }

    async fn disconnect(&self, volume: VolumeId, host: HostId) -> Result<(), VolumeError> {
        if let Some(made) = self.volumes().get_mut(&volume) {
            made.shared_with = made.shared_with.filter(|connected| *connected != host);
            if made.connected_to == Some(host) {
                made.connected_to = made.shared_with.take();
            }
        }
        Ok(())
    }

    async fn list(&self) -> Result<Vec<VolumeFacts>, VolumeError> {
        let volumes = self.volumes();
        let facts = volumes.iter().map(|(volume, made)| VolumeFacts {
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
}

#[async_trait]
impl ShareVolumes for MemoryVolumes {
    async fn share(
        &self,
        volume: VolumeId,
        from: HostId,
        to: HostId,
    ) -> Result<Connection, VolumeError> {
        let mut volumes = self.volumes();
        let made = volumes.get_mut(&volume).ok_or(VolumeError::NoSuchVolume { volume })?;
        let has = |host| made.connected_to == Some(host) || made.shared_with == Some(host);
        match made.shared_with {
            _ if !has(from) => Err(VolumeError::NotConnected { volume, host: from }),
            _ if has(to) => Ok(Connection::Simulated),
            Some(host) => Err(VolumeError::Connected { volume, host }),
            None => {
                made.shared_with = Some(to);
                Ok(Connection::Simulated)
            }
        }
    }
}
