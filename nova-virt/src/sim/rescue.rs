//! Rescuing simulated guests: a mark, and another boot.

use async_trait::async_trait;
use nova_core::domain::{Image, InstanceId, PowerState};
use nova_core::port::{ImageStore, RescueGuests, VirtError};

use super::SimHost;
use super::options::Verb;
use super::state::State;

#[async_trait]
impl RescueGuests for SimHost {
    async fn rescue(
        &self,
        instance: InstanceId,
        image: &Image,
        images: &dyn ImageStore,
    ) -> Result<(), VirtError> {
        let call = self.begin(Verb::Rescue).await?;
        self.commit(&call, move |state| state.existing(instance).map(|_| ())).await?;
        self.fetch(&call, instance, image, images).await?;
        self.commit(&call, move |state| state.rescue(instance)).await?;
        self.end(&call).await
    }

    async fn unrescue(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.call(Verb::Unrescue, move |state| state.unrescue(instance)).await
    }

    async fn rescued(&self, instance: InstanceId) -> Result<bool, VirtError> {
        self.call(Verb::Rescued, move |state| Ok(state.existing(instance)?.rescued)).await
    }
}

impl State {
    fn rescue(&mut self, instance: InstanceId) -> Result<(), VirtError> {
        let guest = self.existing(instance)?;
        if !guest.rescued || guest.power == PowerState::Shutdown {
            (guest.rescued, guest.power) = (true, PowerState::Running);
            guest.boots();
            self.boots += 1;
        }
        Ok(())
    }

    fn unrescue(&mut self, instance: InstanceId) -> Result<(), VirtError> {
        let guest = self.existing(instance)?;
        if guest.rescued {
            guest.rescued = false;
            if let Err(error) = guest.has_root(instance) {
                guest.rescued = true;
                return Err(error);
            }
            guest.power = PowerState::Running;
            guest.boots();
            self.boots += 1;
        }
        Ok(())
    }
}
