//! What a host in memory can do besides: suspend guests, tell of changes, keep consoles, count, plug interfaces,
//! remember images.

use std::sync::PoisonError;

use async_trait::async_trait;
use tokio::io::SimplexStream;

use super::{Kept, MemoryHost, Passage};
use crate::domain::{InstanceId, Mac, PowerState};
use crate::port::{
    CACHED_IMAGES_MAX, CONSOLE_BYTES_MAX, CacheImages, ConsoleStream, GuestUse, HearChanges,
    MeasureGuests, Nic, NicUse, OpenConsoles, PlugInterfaces, ReadConsoles, SuspendGuests,
    TellChanges, VirtError,
};

/// Bytes that were typed at a console and not read yet; who types more waits.
const TYPED_MAX: usize = 4096;

impl Kept {
    /// It begins from the start, and says so.
    pub(super) fn boots(&mut self) {
        self.writes(b"the guest boots\n");
    }

    /// What it has can be changed: its memory, if that is on disk, counts on it.
    pub(super) fn changes(
        &self,
        instance: InstanceId,
        operation: &'static str,
    ) -> Result<(), VirtError> {
        match self.power {
            power @ PowerState::Suspended => {
                Err(VirtError::WrongPower { instance, power, operation })
            }
            _ => Ok(()),
        }
    }

    fn writes(&mut self, bytes: &[u8]) {
        self.console.extend(bytes);
        let old = self.console.len().saturating_sub(CONSOLE_BYTES_MAX);
        self.console.drain(..old);
    }
}

impl MemoryHost {
    /// Writes to the console of a guest, as what runs in it does.
    pub fn write_console(&self, instance: InstanceId, bytes: &[u8]) {
        if let Some(guest) = self.guests().get_mut(&instance) {
            guest.writes(bytes);
        }
    }
}

impl MemoryHost {
    /// Remembers that it has fetched an image.
    pub(super) fn keeps(&self, sha256: &str) {
        let mut fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        fetched.retain(|known| known != sha256);
        fetched.insert(0, sha256.to_owned());
        fetched.truncate(CACHED_IMAGES_MAX);
    }
}

#[async_trait]
impl CacheImages for MemoryHost {
    async fn cached_images(&self) -> Result<Vec<String>, VirtError> {
        Ok(self.fetched.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl TellChanges for MemoryHost {
    fn changes(&self) -> Box<dyn HearChanges> {
        self.herald.listen()
    }
}

#[async_trait]
impl ReadConsoles for MemoryHost {
    async fn console_log(&self, instance: InstanceId, bytes: usize) -> Result<Vec<u8>, VirtError> {
        self.with(instance, |guest| {
            let old = guest.console.len().saturating_sub(bytes);
            Ok(guest.console[old..].to_vec())
        })
    }
}

/// A console gives back what is typed.
#[async_trait]
impl OpenConsoles for MemoryHost {
    async fn open_console(&self, instance: InstanceId) -> Result<ConsoleStream, VirtError> {
        self.with(instance, |guest| match guest.power {
            power @ (PowerState::Shutdown | PowerState::Suspended) => {
                Err(VirtError::WrongPower { instance, power, operation: "open its console" })
            }
            _ => Ok(Box::new(SimplexStream::new_unsplit(TYPED_MAX)) as ConsoleStream),
        })
    }
}

/// Nothing executes and no packet flows: what is counted stays at nothing.
#[async_trait]
impl MeasureGuests for MemoryHost {
    async fn use_of(&self, instance: InstanceId) -> Result<GuestUse, VirtError> {
        self.with(instance, |guest| {
            if matches!(guest.power, PowerState::Shutdown | PowerState::Suspended) {
                return Ok(GuestUse::default());
            }
            let nics = guest.nics.iter().map(|nic| NicUse::none(nic.mac)).collect();
            Ok(GuestUse { nics, ..GuestUse::default() })
        })
    }
}

#[async_trait]
impl SuspendGuests for MemoryHost {
    async fn suspend(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.with(instance, |guest| {
            if guest.power == PowerState::Shutdown || guest.passage == Passage::Expected {
                let (power, operation) = (guest.power, "suspend it");
                return Err(VirtError::WrongPower { instance, power, operation });
            }
            (guest.power, guest.passage) = (PowerState::Suspended, Passage::None);
            Ok(())
        })
    }

    async fn resume(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.with(instance, |guest| match guest.power {
            PowerState::Suspended | PowerState::Running => {
                guest.power = PowerState::Running;
                Ok(())
            }
            power => Err(VirtError::WrongPower { instance, power, operation: "resume it" }),
        })
    }
}

#[async_trait]
impl PlugInterfaces for MemoryHost {
    async fn plug(&self, instance: InstanceId, nic: &Nic) -> Result<(), VirtError> {
        self.with(instance, |guest| {
            if guest.nics.iter().all(|other| other.mac != nic.mac) {
                guest.changes(instance, "plug an interface in")?;
                guest.nics.push(nic.clone());
            }
            Ok(())
        })
    }

    async fn unplug(&self, instance: InstanceId, mac: Mac) -> Result<(), VirtError> {
        if let Some(guest) = self.guests().get_mut(&instance)
            && guest.nics.iter().any(|nic| nic.mac == mac)
        {
            guest.changes(instance, "pull an interface out")?;
            guest.nics.retain(|nic| nic.mac != mac);
        }
        Ok(())
    }

    async fn plugged(&self, instance: InstanceId) -> Result<Vec<Nic>, VirtError> {
        self.with(instance, |guest| Ok(guest.nics.clone()))
    }
}
