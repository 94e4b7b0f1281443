//! Volumes in guests in memory, and guests that boot from one.

use async_trait::async_trait;

use super::{Kept, MemoryHost};
use crate::domain::{InstanceId, PowerState, VolumeId};
use crate::port::{AttachVolumes, VirtError, VolumeLink};

impl Kept {
    /// Whether it has something to boot from.
    pub(super) fn has_root(&self, instance: InstanceId) -> Result<(), VirtError> {
        match self.root.filter(|volume| !self.rescued && !self.volumes.contains(volume)) {
            Some(volume) => Err(VirtError::NoRootVolume { instance, volume }),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl AttachVolumes for MemoryHost {
    async fn attach(&self, instance: InstanceId, link: &VolumeLink) -> Result<(), VirtError> {
        self.with(instance, |guest| {
            if !guest.volumes.contains(&link.volume) {
                guest.changes(instance, "plug a volume in")?;
                guest.volumes.insert(link.volume);
            }
            Ok(())
        })
    }

    async fn detach(&self, instance: InstanceId, volume: VolumeId) -> Result<(), VirtError> {
        if let Some(guest) = self.guests().get_mut(&instance)
            && guest.volumes.contains(&volume)
        {
            guest.changes(instance, "pull a volume out")?;
            let power = guest.power;
            if guest.root == Some(volume) && power != PowerState::Shutdown {
                let operation = "pull its root disk out";
                return Err(VirtError::WrongPower { instance, power, operation });
            }
            guest.volumes.remove(&volume);
        }
        Ok(())
    }
}
