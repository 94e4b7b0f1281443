//! Suspending guests and asking the agents inside them, where one of the hypervisors can.

use async_trait::async_trait;
use nova_core::domain::{GuestUser, InstanceId, Password};
use nova_core::port::{AskAgents, SuspendGuests, VirtError};

use super::{Several, able};

#[async_trait]
impl SuspendGuests for Several {
    async fn suspend(&self, instance: InstanceId) -> Result<(), VirtError> {
        let suspending = able(self.of(instance).await?.suspending(), "suspend a guest")?;
        suspending.suspend(instance).await
    }

    async fn resume(&self, instance: InstanceId) -> Result<(), VirtError> {
        let suspending = able(self.of(instance).await?.suspending(), "resume a guest")?;
        suspending.resume(instance).await
    }
}

#[async_trait]
impl AskAgents for Several {
    async fn answers(&self, instance: InstanceId) -> Result<bool, VirtError> {
        able(self.of(instance).await?.agents(), "ask an agent")?.answers(instance).await
    }

    async fn is_frozen(&self, instance: InstanceId) -> Result<bool, VirtError> {
        able(self.of(instance).await?.agents(), "ask an agent")?.is_frozen(instance).await
    }

    async fn set_password(
        &self,
        instance: InstanceId,
        user: &GuestUser,
        password: &Password,
    ) -> Result<(), VirtError> {
        let agents = able(self.of(instance).await?.agents(), "set a password")?;
        agents.set_password(instance, user, password).await
    }
}
