//! What a host can do besides when every call is made by a new process.

use async_trait::async_trait;
use nova_core::domain::{GuestUser, InstanceId, Mac, Password};
use nova_core::port::{
    AskAgents, ConsoleStream, GuestUse, MeasureGuests, Nic, OpenConsoles, PlugInterfaces,
    ReadConsoles, SuspendGuests, VirtError,
};

use super::Reopened;

#[async_trait]
impl SuspendGuests for Reopened {
    async fn suspend(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.host().suspend(instance).await
    }

    async fn resume(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.host().resume(instance).await
    }
}

#[async_trait]
impl AskAgents for Reopened {
    async fn answers(&self, instance: InstanceId) -> Result<bool, VirtError> {
        self.host().answers(instance).await
    }

    async fn is_frozen(&self, instance: InstanceId) -> Result<bool, VirtError> {
        self.host().is_frozen(instance).await
    }

    async fn set_password(
        &self,
        instance: InstanceId,
        user: &GuestUser,
        password: &Password,
    ) -> Result<(), VirtError> {
        self.host().set_password(instance, user, password).await
    }
}

#[async_trait]
impl ReadConsoles for Reopened {
    async fn console_log(&self, instance: InstanceId, bytes: usize) -> Result<Vec<u8>, VirtError> {
        self.host().console_log(instance, bytes).await
    }
}

#[async_trait]
impl OpenConsoles for Reopened {
    async fn open_console(&self, instance: InstanceId) -> Result<ConsoleStream, VirtError> {
        self.host().open_console(instance).await
    }
}

#[async_trait]
impl MeasureGuests for Reopened {
    async fn use_of(&self, instance: InstanceId) -> Result<GuestUse, VirtError> {
        self.host().use_of(instance).await
    }
}

#[async_trait]
impl PlugInterfaces for Reopened {
    async fn plug(&self, instance: InstanceId, nic: &Nic) -> Result<(), VirtError> {
        self.host().plug(instance, nic).await
    }

    async fn unplug(&self, instance: InstanceId, mac: Mac) -> Result<(), VirtError> {
        self.host().unplug(instance, mac).await
    }

    async fn plugged(&self, instance: InstanceId) -> Result<Vec<Nic>, VirtError> {
        self.host().plugged(instance).await
    }
}
