//! Guests that go from one simulated host to another while they run.

use async_trait::async_trait;
use nova_core::domain::{InstanceId, PowerState, Resources};
use nova_core::port::{
    GuestSpec, Invitation, LiveMigrate, Parcel, Transfer, VirtError, VolumeLink,
};

use super::SimHost;
use super::options::{Capacity, Verb};
use super::state::{SimGuest, State, size};

/// Whether a guest is on its way between two hosts.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Passage {
    #[default]
    None,
    /// It comes from elsewhere and is not complete.
    Expected,
    /// Its memory is being copied while it goes on.
    Copied,
    /// It was sent elsewhere, and had this state before.
    Sent(PowerState),
}

impl State {
    fn expect(
        &mut self,
        spec: GuestSpec,
        links: Vec<VolumeLink>,
        total: &Resources,
        capacity: Capacity,
    ) -> Result<Invitation, VirtError> {
        self.has_room(&spec, total, capacity)?;
        let (instance, size) = (spec.instance, size(&spec));
        self.guests.entry(instance).or_insert_with(|| SimGuest {
            power: PowerState::Paused,
            volumes: links.into_iter().map(|link| (link.volume, link.connection)).collect(),
            passage: Passage::Expected,
            ..SimGuest::new(size, Some(spec))
        });
        Ok(Invitation { instance, address: self.host.to_string() })
    }

    /// A guest that runs takes two rounds: one in which its memory is copied, and a last one for
    /// what it changed meanwhile.
    fn send(&mut self, instance: InstanceId) -> Result<Transfer, VirtError> {
        let guest = self.existing(instance)?;
        match (guest.passage, guest.power) {
            (Passage::Expected, power)
            | (_, power @ (PowerState::Shutdown | PowerState::Suspended)) => {
                let operation = Verb::Send.name();
                return Err(VirtError::WrongPower { instance, power, operation });
            }
            (Passage::None, PowerState::Running) => {
                guest.passage = Passage::Copied;
                return Ok(Transfer::UnderWay);
            }
            (Passage::None | Passage::Copied, power) => guest.passage = Passage::Sent(power),
            (Passage::Sent(_), _) => {}
        }
        guest.power = PowerState::Paused;
        let (boot, disks) = (guest.boot, guest.disk.clone());
        Ok(Transfer::Complete(Parcel { instance, boot, disks }))
    }

    fn receive(&mut self, instance: InstanceId, parcel: Parcel) -> Result<(), VirtError> {
        let guest = self.existing(instance)?;
        if guest.passage == Passage::Expected {
            // What its memory was to be copied into is gone.
            if guest.power == PowerState::Shutdown {
                let (power, operation) = (guest.power, Verb::Receive.name());
                return Err(VirtError::WrongPower { instance, power, operation });
            }
            guest.passage = Passage::None;
            guest.boot = parcel.boot;
            guest.disk = parcel.disks;
        }
        Ok(())
    }

    fn recall(&mut self, instance: InstanceId) {
        let Some(guest) = self.guests.get_mut(&instance) else { return };
        match guest.passage {
            Passage::Sent(power) => (guest.power, guest.passage) = (power, Passage::None),
            Passage::Copied => guest.passage = Passage::None,
            Passage::None | Passage::Expected => {}
        }
    }
}

#[async_trait]
impl LiveMigrate for SimHost {
    async fn expect(
        &self,
        spec: &GuestSpec,
        links: &[VolumeLink],
    ) -> Result<Invitation, VirtError> {
        let (total, capacity) = (self.total, self.options.capacity);
        let (spec, links) = (spec.clone(), links.to_vec());
        let work = move |state: &mut State| state.expect(spec, links, &total, capacity);
        self.call(Verb::Expect, work).await
    }

    async fn send(&self, instance: InstanceId, _: &Invitation) -> Result<Transfer, VirtError> {
        self.call(Verb::Send, move |state| state.send(instance)).await
    }

    async fn receive(&self, instance: InstanceId, parcel: &Parcel) -> Result<(), VirtError> {
        let parcel = parcel.clone();
        self.call(Verb::Receive, move |state| state.receive(instance, parcel)).await
    }

    async fn is_complete(&self, instance: InstanceId) -> Result<bool, VirtError> {
        self.call(Verb::IsComplete, move |state| {
            let guest = state.guests.get(&instance);
            Ok(guest.is_some_and(|guest| guest.passage != Passage::Expected))
        })
        .await
    }

    async fn recall(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.call(Verb::Recall, move |state| {
            state.recall(instance);
            Ok(())
        })
        .await
    }
}
