//! What a simulated host can do besides: suspend guests, tell of changes, keep consoles, count, plug interfaces,
//! tell which images it has.

use async_trait::async_trait;
use nova_core::domain::{InstanceId, Mac, PowerState};
use nova_core::port::{
    CacheImages, ConsoleStream, GuestUse, HearChanges, MeasureGuests, Nic, NicUse, OpenConsoles,
    PlugInterfaces, ReadConsoles, SuspendGuests, TellChanges, VirtError,
};
use tokio::io::SimplexStream;

use super::SimHost;
use super::live::Passage;
use super::options::Verb;

/// Bytes that were typed at a console and not read yet; who types more waits.
const TYPED_MAX: usize = 4096;

impl TellChanges for SimHost {
    fn changes(&self) -> Box<dyn HearChanges> {
        self.machine.herald.listen()
    }
}

#[async_trait]
impl CacheImages for SimHost {
    async fn cached_images(&self) -> Result<Vec<String>, VirtError> {
        self.call(Verb::CachedImages, |state| Ok(state.cached_images())).await
    }
}

#[async_trait]
impl ReadConsoles for SimHost {
    async fn console_log(&self, instance: InstanceId, bytes: usize) -> Result<Vec<u8>, VirtError> {
        self.call(Verb::ReadConsole, move |state| {
            let console = state.existing(instance)?.console.as_bytes();
            Ok(console[console.len().saturating_sub(bytes)..].to_vec())
        })
        .await
    }
}

/// A console gives back what is typed.
#[async_trait]
impl OpenConsoles for SimHost {
    async fn open_console(&self, instance: InstanceId) -> Result<ConsoleStream, VirtError> {
        let verb = Verb::OpenConsole;
        self.call(verb, move |state| match state.existing(instance)?.power {
            power @ (PowerState::Shutdown | PowerState::Suspended) => {
                Err(VirtError::WrongPower { instance, power, operation: verb.name() })
            }
            _ => Ok(()),
        })
        .await?;
        Ok(Box::new(SimplexStream::new_unsplit(TYPED_MAX)))
    }
}

/// Memory is what the guest was made with; nothing executes, and no packet flows.
#[async_trait]
impl MeasureGuests for SimHost {
    async fn use_of(&self, instance: InstanceId) -> Result<GuestUse, VirtError> {
        self.call(Verb::Used, move |state| {
            let guest = state.existing(instance)?;
            if matches!(guest.power, PowerState::Shutdown | PowerState::Suspended) {
                return Ok(GuestUse::default());
            }
            let nics = guest.nics.iter().map(|nic| NicUse::none(nic.mac)).collect();
            let memory_bytes = Some(guest.size.memory.0.saturating_mul(1 << 20));
            Ok(GuestUse { memory_bytes, nics, ..GuestUse::default() })
        })
        .await
    }
}

/// What is on disk is there when the host was switched off meanwhile.
#[async_trait]
impl SuspendGuests for SimHost {
    async fn suspend(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.call(Verb::Suspend, move |state| {
            let guest = state.complete(instance, Verb::Suspend)?;
            if guest.power == PowerState::Shutdown {
                let (power, operation) = (guest.power, Verb::Suspend.name());
                return Err(VirtError::WrongPower { instance, power, operation });
            }
            (guest.power, guest.passage) = (PowerState::Suspended, Passage::None);
            Ok(())
        })
        .await
    }

    async fn resume(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.call(Verb::Resume, move |state| {
            let guest = state.existing(instance)?;
            match guest.power {
                PowerState::Suspended | PowerState::Running => {
                    guest.power = PowerState::Running;
                    Ok(())
                }
                power => {
                    let operation = Verb::Resume.name();
                    Err(VirtError::WrongPower { instance, power, operation })
                }
            }
        })
        .await
    }
}

#[async_trait]
impl PlugInterfaces for SimHost {
    async fn plug(&self, instance: InstanceId, nic: &Nic) -> Result<(), VirtError> {
        let nic = nic.clone();
        self.call(Verb::Plug, move |state| {
            let guest = state.existing(instance)?;
            if guest.nics.iter().all(|other| other.mac != nic.mac) {
                guest.changes(instance, Verb::Plug)?;
                guest.nics.push(nic);
            }
            Ok(())
        })
        .await
    }

    async fn unplug(&self, instance: InstanceId, mac: Mac) -> Result<(), VirtError> {
        self.call(Verb::Unplug, move |state| {
            if let Some(guest) = state.guests.get_mut(&instance)
                && guest.nics.iter().any(|nic| nic.mac == mac)
            {
                guest.changes(instance, Verb::Unplug)?;
                guest.nics.retain(|nic| nic.mac != mac);
            }
            Ok(())
        })
        .await
    }

    async fn plugged(&self, instance: InstanceId) -> Result<Vec<Nic>, VirtError> {
        self.call(Verb::Plugged, move |state| Ok(state.existing(instance)?.nics.clone())).await
    }
}
