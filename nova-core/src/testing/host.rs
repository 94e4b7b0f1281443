//! A host that lies, refuses, hangs and loses power.

mod abilities;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::ClockExt as _;
use crate::domain::{
    HostFacts, Image, ImageContent, ImageFormat, ImageId, InstanceId, PowerState, Reboot, VolumeId,
};
use crate::port::{
    AskAgents, AttachVolumes, CacheImages, Guest, GuestSpec, ImageStore, Invitation, LiveMigrate,
    MeasureGuests, MoveGuests, OpenConsoles, Parcel, PauseGuests, PlugInterfaces, ReadConsoles,
    RescueGuests, SnapshotGuests, SuspendGuests, TellChanges, Transfer, VirtDriver, VirtError,
    VolumeLink,
};
use crate::testing::fate::Fault;
use crate::testing::process::Process;

/// A driver whose answers cannot be trusted, around one that keeps what is really there.
#[derive(Debug)]
pub struct ChaosHost<D: ?Sized> {
    driver: Arc<D>,
    process: Arc<Process>,
    powered: AtomicBool,
    changes: AtomicU64,
}

impl<D: VirtDriver + ?Sized> ChaosHost<D> {
    /// Stands between `process`, an agent, and `driver`.
    pub fn new(driver: Arc<D>, process: Arc<Process>) -> Self {
        let (powered, changes) = (AtomicBool::new(true), AtomicU64::new(0));
        Self { driver, process, powered, changes }
    }

    /// What is really there, and does not lie.
    pub fn truth(&self) -> &D {
        &self.driver
    }

    /// Whether it has power.
    pub fn is_powered(&self) -> bool {
        self.powered.load(Ordering::SeqCst)
    }

    /// How often something may have changed.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// Loses power: every guest stops, and nothing answers any more.
    pub async fn lose_power(&self) {
        self.powered.store(false, Ordering::SeqCst);
        self.process.note("power is lost");
        for guest in self.driver.guests().await.unwrap_or_default() {
            // What was put on disk before is there afterwards.
            if guest.power != PowerState::Suspended {
                drop(self.driver.stop(guest.instance).await);
            }
        }
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// Has power again. Its guests are shut down, or suspended as they were.
    pub fn regain_power(&self) {
        self.powered.store(true, Ordering::SeqCst);
        self.process.note("power is back");
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    fn error(operation: &'static str, source: &'static str) -> VirtError {
        VirtError::Host { operation, source: source.into() }
    }

    fn power(&self, operation: &'static str) -> Result<(), VirtError> {
        if self.is_powered() { Ok(()) } else { Err(Self::error(operation, "no power")) }
    }

    /// What happens before the host does or says anything.
    async fn reach(&self, operation: &'static str) -> Result<(), VirtError> {
        self.process.latency().await;
        self.power(operation)?;
        let fate = self.process.fate();
        if fate.strikes(Fault::Refusal).is_some() {
            return Err(Self::error(operation, "not now"));
        }
        if fate.strikes(Fault::Hang).is_some() {
            self.process.note(format_args!("{operation} hangs"));
            std::future::pending::<()>().await;
        }
        if let Some(mut strike) = fate.strikes(Fault::HostSlow) {
            // Some take longer than anybody waits.
            let slow = strike.time(Duration::from_millis(10), Duration::from_secs(15));
            self.process.world().sleep(slow).await;
            self.process.pass().await;
        }
        self.power(operation)
    }

    /// Does `work`, or not, and says so, or not.
    async fn act(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<(), VirtError>> + Send,
    ) -> Result<(), VirtError> {
        self.reach(operation).await?;
        let fate = self.process.fate();
        if fate.strikes(Fault::FalseYes).is_some() {
            self.process.note(format_args!("{operation} is only claimed"));
            return Ok(());
        }
        let done = work.await;
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.process.note(format_args!("{operation} was done: {}", done.is_ok()));
        if fate.strikes(Fault::FalseNo).is_some() {
            return Err(Self::error(operation, "something went wrong"));
        }
        self.process.latency().await;
        done
    }
}

impl<D: VirtDriver + ?Sized> std::fmt::Display for ChaosHost<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "unreliable {}", &*self.driver)
    }
}

#[async_trait]
impl<D: VirtDriver + ?Sized> VirtDriver for ChaosHost<D> {
    async fn facts(&self) -> Result<HostFacts, VirtError> {
        self.reach("say what it is").await?;
        self.driver.facts().await
    }

    async fn guests(&self) -> Result<Vec<Guest>, VirtError> {
        self.reach("list guests").await?;
        self.driver.guests().await
    }

    async fn guest(&self, instance: InstanceId) -> Result<Option<Guest>, VirtError> {
        self.reach("look at a guest").await?;
        self.driver.guest(instance).await
    }

    async fn create(&self, spec: &GuestSpec, images: &dyn ImageStore) -> Result<(), VirtError> {
        self.act("create", self.driver.create(spec, images)).await
    }

    async fn remove(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.act("remove", self.driver.remove(instance)).await
    }

    async fn start(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.act("start", self.driver.start(instance)).await
    }

    async fn stop(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.act("stop", self.driver.stop(instance)).await
    }

    async fn reboot(&self, instance: InstanceId, how: Reboot, boot: u64) -> Result<(), VirtError> {
        self.act("reboot", self.driver.reboot(instance, how, boot)).await
    }

    fn pausing(&self) -> Option<&dyn PauseGuests> {
        self.driver.pausing().is_some().then_some(self as &dyn PauseGuests)
    }

    fn suspending(&self) -> Option<&dyn SuspendGuests> {
        self.driver.suspending().is_some().then_some(self as &dyn SuspendGuests)
    }

    fn volumes(&self) -> Option<&dyn AttachVolumes> {
        self.driver.volumes().is_some().then_some(self as &dyn AttachVolumes)
    }

    fn moving(&self) -> Option<&dyn MoveGuests> {
        self.driver.moving().is_some().then_some(self as &dyn MoveGuests)
    }

    fn live(&self) -> Option<&dyn LiveMigrate> {
        self.driver.live().is_some().then_some(self as &dyn LiveMigrate)
    }

    fn snapshots(&self) -> Option<&dyn SnapshotGuests> {
        self.driver.snapshots().is_some().then_some(self as &dyn SnapshotGuests)
    }

    fn rescuing(&self) -> Option<&dyn RescueGuests> {
        self.driver.rescuing().is_some().then_some(self as &dyn RescueGuests)
    }

    fn telling(&self) -> Option<&dyn TellChanges> {
        self.driver.telling().is_some().then_some(self as &dyn TellChanges)
    }

    fn reading(&self) -> Option<&dyn ReadConsoles> {
        self.driver.reading().is_some().then_some(self as &dyn ReadConsoles)
    }

    fn talking(&self) -> Option<&dyn OpenConsoles> {
        self.driver.talking().is_some().then_some(self as &dyn OpenConsoles)
    }

    fn measuring(&self) -> Option<&dyn MeasureGuests> {
        self.driver.measuring().is_some().then_some(self as &dyn MeasureGuests)
    }

    fn interfaces(&self) -> Option<&dyn PlugInterfaces> {
        self.driver.interfaces().is_some().then_some(self as &dyn PlugInterfaces)
    }

    fn caching(&self) -> Option<&dyn CacheImages> {
        self.driver.caching().is_some().then_some(self as &dyn CacheImages)
    }

    fn agents(&self) -> Option<&dyn AskAgents> {
        self.driver.agents().is_some().then_some(self as &dyn AskAgents)
    }
}

fn unable() -> VirtError {
    VirtError::Host { operation: "do this", source: "this host cannot".into() }
}

#[async_trait]
impl<D: VirtDriver + ?Sized> PauseGuests for ChaosHost<D> {
    async fn pause(&self, instance: InstanceId) -> Result<(), VirtError> {
        let pausing = self.driver.pausing().ok_or_else(unable)?;
        self.act("pause", pausing.pause(instance)).await
    }

    async fn unpause(&self, instance: InstanceId) -> Result<(), VirtError> {
        let pausing = self.driver.pausing().ok_or_else(unable)?;
        self.act("unpause", pausing.unpause(instance)).await
    }
}

#[async_trait]
impl<D: VirtDriver + ?Sized> AttachVolumes for ChaosHost<D> {
    async fn attach(&self, instance: InstanceId, link: &VolumeLink) -> Result<(), VirtError> {
        let volumes = self.driver.volumes().ok_or_else(unable)?;
        self.act("attach", volumes.attach(instance, link)).await
    }

    async fn detach(&self, instance: InstanceId, volume: VolumeId) -> Result<(), VirtError> {
        let volumes = self.driver.volumes().ok_or_else(unable)?;
        self.act("detach", volumes.detach(instance, volume)).await
    }
}

#[async_trait]
impl<D: VirtDriver + ?Sized> RescueGuests for ChaosHost<D> {
    async fn rescue(
        &self,
        instance: InstanceId,
        image: &Image,
        images: &dyn ImageStore,
    ) -> Result<(), VirtError> {
        let rescuing = self.driver.rescuing().ok_or_else(unable)?;
        self.act("rescue", rescuing.rescue(instance, image, images)).await
    }

    async fn unrescue(&self, instance: InstanceId) -> Result<(), VirtError> {
        let rescuing = self.driver.rescuing().ok_or_else(unable)?;
        self.act("unrescue", rescuing.unrescue(instance)).await
    }

    async fn rescued(&self, instance: InstanceId) -> Result<bool, VirtError> {
        let rescuing = self.driver.rescuing().ok_or_else(unable)?;
        self.reach("look at a guest").await?;
        rescuing.rescued(instance).await
    }
}

#[async_trait]
impl<D: VirtDriver + ?Sized> SnapshotGuests for ChaosHost<D> {
    async fn snapshot(
        &self,
        instance: InstanceId,
        image: ImageId,
        format: ImageFormat,
        images: &dyn ImageStore,
    ) -> Result<ImageContent, VirtError> {
        let snapshots = self.driver.snapshots().ok_or_else(unable)?;
        self.reach("snapshot").await?;
        let stored = snapshots.snapshot(instance, image, format, images).await;
        if self.process.fate().strikes(Fault::FalseNo).is_some() {
            return Err(Self::error("snapshot", "something went wrong"));
        }
        stored
    }
}

#[async_trait]
impl<D: VirtDriver + ?Sized> MoveGuests for ChaosHost<D> {
    async fn pack(&self, instance: InstanceId) -> Result<Parcel, VirtError> {
        let moving = self.driver.moving().ok_or_else(unable)?;
        self.reach("pack").await?;
        moving.pack(instance).await
    }

    async fn unpack(
        &self,
        spec: &GuestSpec,
        parcel: &Parcel,
        images: &dyn ImageStore,
    ) -> Result<(), VirtError> {
        let moving = self.driver.moving().ok_or_else(unable)?;
        self.act("unpack", moving.unpack(spec, parcel, images)).await
    }
}

#[async_trait]
impl<D: VirtDriver + ?Sized> LiveMigrate for ChaosHost<D> {
    async fn expect(
        &self,
        spec: &GuestSpec,
        links: &[VolumeLink],
    ) -> Result<Invitation, VirtError> {
        let live = self.driver.live().ok_or_else(unable)?;
        // What a host that only claims to have done it would say.
        let instance = spec.instance;
        let mut invitation = Invitation { instance, address: String::new() };
        let work = async {
            invitation = live.expect(spec, links).await?;
            Ok(())
        };
        self.act("expect", work).await?;
        Ok(invitation)
    }

    async fn send(&self, instance: InstanceId, to: &Invitation) -> Result<Transfer, VirtError> {
        let live = self.driver.live().ok_or_else(unable)?;
        let mut transfer = Transfer::UnderWay;
        let work = async {
            transfer = live.send(instance, to).await?;
            Ok(())
        };
        self.act("send", work).await?;
        Ok(transfer)
    }

    async fn receive(&self, instance: InstanceId, parcel: &Parcel) -> Result<(), VirtError> {
        let live = self.driver.live().ok_or_else(unable)?;
        self.act("receive", live.receive(instance, parcel)).await
    }

    async fn is_complete(&self, instance: InstanceId) -> Result<bool, VirtError> {
        let live = self.driver.live().ok_or_else(unable)?;
        self.reach("look at a guest").await?;
        live.is_complete(instance).await
    }

    async fn recall(&self, instance: InstanceId) -> Result<(), VirtError> {
        let live = self.driver.live().ok_or_else(unable)?;
        self.act("recall", live.recall(instance)).await
    }
}
