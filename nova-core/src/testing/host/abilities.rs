//! What an unreliable host can do besides, as unreliably.

use std::sync::Arc;

use async_trait::async_trait;

use super::{ChaosHost, unable};
use crate::domain::{GuestUser, InstanceId, Mac, Password};
use crate::port::{
    AskAgents, CacheImages, ConsoleStream, GuestChange, GuestUse, HearChanges, MeasureGuests, Nic,
    OpenConsoles, PlugInterfaces, ReadConsoles, SuspendGuests, TellChanges, VirtDriver, VirtError,
};
use crate::testing::fate::Fault;
use crate::testing::process::Process;

#[async_trait]
impl<D: VirtDriver + ?Sized> SuspendGuests for ChaosHost<D> {
    async fn suspend(&self, instance: InstanceId) -> Result<(), VirtError> {
        let suspending = self.driver.suspending().ok_or_else(unable)?;
        self.act("suspend", suspending.suspend(instance)).await
    }

    async fn resume(&self, instance: InstanceId) -> Result<(), VirtError> {
        let suspending = self.driver.suspending().ok_or_else(unable)?;
        self.act("resume", suspending.resume(instance)).await
    }
}

#[async_trait]
impl<D: VirtDriver + ?Sized> AskAgents for ChaosHost<D> {
    async fn answers(&self, instance: InstanceId) -> Result<bool, VirtError> {
        let agents = self.driver.agents().ok_or_else(unable)?;
        self.reach("ask an agent").await?;
        agents.answers(instance).await
    }

    async fn is_frozen(&self, instance: InstanceId) -> Result<bool, VirtError> {
        let agents = self.driver.agents().ok_or_else(unable)?;
        self.reach("ask an agent").await?;
        agents.is_frozen(instance).await
    }

    async fn set_password(
        &self,
        instance: InstanceId,
        user: &GuestUser,
        password: &Password,
    ) -> Result<(), VirtError> {
        let agents = self.driver.agents().ok_or_else(unable)?;
        self.act("set a password", agents.set_password(instance, user, password)).await
    }
}

impl<D: VirtDriver + ?Sized> TellChanges for ChaosHost<D> {
    fn changes(&self) -> Box<dyn HearChanges> {
        let heard = self.driver.telling().map(|telling| telling.changes());
        Box::new(ChaosChanges { heard, process: Arc::clone(&self.process) })
    }
}

/// What a host tells, of which some gets lost.
#[derive(Debug)]
struct ChaosChanges {
    heard: Option<Box<dyn HearChanges>>,
    process: Arc<Process>,
}

#[async_trait]
impl HearChanges for ChaosChanges {
    async fn next(&mut self) -> Option<GuestChange> {
        loop {
            let change = self.heard.as_mut()?.next().await?;
            self.process.pass().await;
            if self.process.fate().strikes(Fault::UntoldChange).is_none() {
                return Some(change);
            }
            self.process.note(format_args!("{change:?} is not told"));
        }
    }
}

#[async_trait]
impl<D: VirtDriver + ?Sized> CacheImages for ChaosHost<D> {
    async fn cached_images(&self) -> Result<Vec<String>, VirtError> {
        let caching = self.driver.caching().ok_or_else(unable)?;
        self.reach("list images").await?;
        caching.cached_images().await
    }
}

#[async_trait]
impl<D: VirtDriver + ?Sized> ReadConsoles for ChaosHost<D> {
    async fn console_log(&self, instance: InstanceId, bytes: usize) -> Result<Vec<u8>, VirtError> {
        let reading = self.driver.reading().ok_or_else(unable)?;
        self.reach("read a console").await?;
        reading.console_log(instance, bytes).await
    }
}

#[async_trait]
impl<D: VirtDriver + ?Sized> OpenConsoles for ChaosHost<D> {
    async fn open_console(&self, instance: InstanceId) -> Result<ConsoleStream, VirtError> {
        let talking = self.driver.talking().ok_or_else(unable)?;
        self.reach("open a console").await?;
        talking.open_console(instance).await
    }
}

#[async_trait]
impl<D: VirtDriver + ?Sized> MeasureGuests for ChaosHost<D> {
    async fn use_of(&self, instance: InstanceId) -> Result<GuestUse, VirtError> {
        let measuring = self.driver.measuring().ok_or_else(unable)?;
        self.reach("measure a guest").await?;
        measuring.use_of(instance).await
    }
}

#[async_trait]
impl<D: VirtDriver + ?Sized> PlugInterfaces for ChaosHost<D> {
    async fn plug(&self, instance: InstanceId, nic: &Nic) -> Result<(), VirtError> {
        let interfaces = self.driver.interfaces().ok_or_else(unable)?;
        self.act("plug an interface in", interfaces.plug(instance, nic)).await
    }

    async fn unplug(&self, instance: InstanceId, mac: Mac) -> Result<(), VirtError> {
        let interfaces = self.driver.interfaces().ok_or_else(unable)?;
        self.act("pull an interface out", interfaces.unplug(instance, mac)).await
    }

    async fn plugged(&self, instance: InstanceId) -> Result<Vec<Nic>, VirtError> {
        let interfaces = self.driver.interfaces().ok_or_else(unable)?;
        self.reach("look at a guest").await?;
        interfaces.plugged(instance).await
    }
}
