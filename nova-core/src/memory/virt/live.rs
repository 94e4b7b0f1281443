//! Guests in memory that go from one such host to another.

use async_trait::async_trait;

use super::{Agent, Kept, MemoryHost, Passage};
use crate::domain::{InstanceId, PowerState};
use crate::port::{GuestSpec, Invitation, LiveMigrate, Parcel, Transfer, VirtError, VolumeLink};

#[async_trait]
impl LiveMigrate for MemoryHost {
    async fn expect(
        &self,
        spec: &GuestSpec,
        links: &[VolumeLink],
    ) -> Result<Invitation, VirtError> {
        let instance = spec.instance;
        self.put(instance, || Kept {
            power: PowerState::Paused,
            volumes: links.iter().map(|link| link.volume).collect(),
            passage: Passage::Expected,
            root: spec.root,
            assigned: spec.assigned.clone(),
            nics: spec.nics.clone(),
            agent: Agent::of(spec),
            ..Kept::NEW
        });
        Ok(Invitation { instance, address: String::new() })
    }

    async fn send(&self, instance: InstanceId, _: &Invitation) -> Result<Transfer, VirtError> {
        self.with(instance, |guest| {
            let operation = "send it";
            match (guest.passage, guest.power) {
                (Passage::Expected, power)
                | (_, power @ (PowerState::Shutdown | PowerState::Suspended)) => {
                    return Err(VirtError::WrongPower { instance, power, operation });
                }
                (Passage::Sent(_), _) => {}
                (Passage::None, power) => guest.passage = Passage::Sent(power),
            }
            guest.power = PowerState::Paused;
            let (boot, disks) = (guest.boot, guest.disk.clone());
            Ok(Transfer::Complete(Parcel { instance, boot, disks }))
        })
    }

    async fn receive(&self, instance: InstanceId, parcel: &Parcel) -> Result<(), VirtError> {
        self.with(instance, |guest| {
            if guest.passage == Passage::Expected {
                if guest.power == PowerState::Shutdown {
                    let (power, operation) = (guest.power, "receive it");
                    return Err(VirtError::WrongPower { instance, power, operation });
                }
                guest.passage = Passage::None;
                guest.boot = parcel.boot;
                guest.disk.clone_from(&parcel.disks);
            }
            Ok(())
        })
    }

    async fn is_complete(&self, instance: InstanceId) -> Result<bool, VirtError> {
        let guests = self.guests();
        Ok(guests.get(&instance).is_some_and(|guest| guest.passage != Passage::Expected))
    }

    async fn recall(&self, instance: InstanceId) -> Result<(), VirtError> {
        if let Some(guest) = self.guests().get_mut(&instance)
            && let Passage::Sent(power) = guest.passage
        {
            (guest.power, guest.passage) = (power, Passage::None);
        }
        Ok(())
    }
}
