//! A host on which one verb is in trouble.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use nova_core::clock::Clock;
use nova_core::domain::{
    HostFacts, Image, ImageContent, ImageFormat, ImageId, InstanceId, Reboot, VolumeId,
};
use nova_core::memory::{MemoryHost, VirtualClock};
use nova_core::port::{
    AskAgents, AttachVolumes, CacheImages, Guest, GuestSpec, ImageStore, Invitation, LiveMigrate,
    MeasureGuests, MoveGuests, OpenConsoles, Parcel, PauseGuests, PlugInterfaces, ReadConsoles,
    RescueGuests, SnapshotGuests, SuspendGuests, TellChanges, Transfer, VirtDriver, VirtError,
    VolumeLink,
};

/// What goes wrong.
#[derive(Debug, Clone)]
pub(crate) enum Trouble {
    /// It makes no guest.
    NoCreate,
    /// It makes no guest, and will not, however often it is asked.
    NeverCreate,
    /// It takes no guest of another host.
    NoUnpack,
    /// It starts none.
    NoStart,
    /// It knows nothing of live migration.
    NotLive,
    /// This verb of live migration, of suspending, or unpausing, never works.
    No(&'static str),
    /// It says that it received a guest, and did not.
    FalseReceipt,
    /// It takes a guest in that its host has shut down meanwhile.
    DeadReceipt,
    /// It plugs no volume in.
    NoPlug,
    /// It takes no image.
    NoSnapshot,
    /// It stops none.
    NoStop,
    /// It rescues none.
    NoRescue,
    /// It ends no rescue.
    NoUnrescue,
    /// It knows nothing of rescuing.
    RescuesNone,
    /// A guest that it rescues does not come up, and it ends no rescue, however often it is asked.
    NeverUnrescue,
    /// It removes none.
    NoRemove,
    /// It removes none, and will not, however often it is asked.
    NeverRemove,
    /// It pulls no volume out, and will not.
    NeverUnplug,
    /// This verb takes this long; the flag says that it has begun.
    Slow { verb: &'static str, clock: Arc<VirtualClock>, time: Duration, begun: Arc<AtomicBool> },
}

#[derive(Debug)]
pub(crate) struct Stubborn {
    host: Arc<MemoryHost>,
    trouble: Trouble,
}

impl Stubborn {
    pub(crate) fn new(host: Arc<MemoryHost>, trouble: Trouble) -> Self {
        Self { host, trouble }
    }

    async fn pass(&self, verb: &'static str) -> Result<(), VirtError> {
        let refused = match &self.trouble {
            Trouble::NoCreate | Trouble::NeverCreate => "create",
            Trouble::NoUnpack => "unpack",
            Trouble::NoStart => "start",
            Trouble::NoPlug => "plug",
            Trouble::NotLive
            | Trouble::RescuesNone
            | Trouble::FalseReceipt
            | Trouble::DeadReceipt => return Ok(()),
            Trouble::No(verb) => verb,
            Trouble::NoSnapshot => "snapshot",
            Trouble::NoRescue => "rescue",
            Trouble::NoUnrescue | Trouble::NeverUnrescue => "unrescue",
            Trouble::NoStop => "stop",
            Trouble::NoRemove | Trouble::NeverRemove => "remove",
            Trouble::NeverUnplug => "unplug",
            Trouble::Slow { verb: slow, clock, time, begun } => {
                if *slow == verb {
                    begun.store(true, Ordering::SeqCst);
                    clock.sleep_until(clock.now().after(*time)).await;
                }
                return Ok(());
            }
        };
        let never = matches!(
            self.trouble,
            Trouble::NeverCreate
                | Trouble::NeverRemove
                | Trouble::NeverUnplug
                | Trouble::NeverUnrescue
        );
        if refused == verb && never {
            let instance = InstanceId::from_u128(0);
            return Err(VirtError::NoRoom { instance });
        }
        if refused == verb {
            return Err(VirtError::Host { operation: verb, source: "trouble".into() });
        }
        Ok(())
    }
}

impl std::fmt::Display for Stubborn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("stubborn host")
    }
}

#[async_trait]
impl VirtDriver for Stubborn {
    async fn facts(&self) -> Result<HostFacts, VirtError> {
        self.host.facts().await
    }

    async fn guests(&self) -> Result<Vec<Guest>, VirtError> {
        self.host.guests().await
    }

    async fn guest(&self, instance: InstanceId) -> Result<Option<Guest>, VirtError> {
        self.host.guest(instance).await
    }

    async fn create(&self, spec: &GuestSpec, images: &dyn ImageStore) -> Result<(), VirtError> {
        self.pass("create").await?;
        self.host.create(spec, images).await
    }

    async fn remove(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.pass("remove").await?;
        self.host.remove(instance).await
    }

    async fn start(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.pass("start").await?;
        self.host.start(instance).await
    }

    async fn stop(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.pass("stop").await?;
        self.host.stop(instance).await
    }

    async fn reboot(&self, instance: InstanceId, how: Reboot, boot: u64) -> Result<(), VirtError> {
        self.pass("reboot").await?;
        self.host.reboot(instance, how, boot).await
    }

    fn pausing(&self) -> Option<&dyn PauseGuests> {
        Some(self)
    }

    fn suspending(&self) -> Option<&dyn SuspendGuests> {
        Some(self)
    }

    fn volumes(&self) -> Option<&dyn AttachVolumes> {
        Some(self)
    }

    fn moving(&self) -> Option<&dyn MoveGuests> {
        Some(self)
    }

    fn live(&self) -> Option<&dyn LiveMigrate> {
        match self.trouble {
            Trouble::NotLive => None,
            _ => Some(self),
        }
    }

    fn snapshots(&self) -> Option<&dyn SnapshotGuests> {
        Some(self)
    }

    fn rescuing(&self) -> Option<&dyn RescueGuests> {
        (!matches!(self.trouble, Trouble::RescuesNone)).then_some(self as &dyn RescueGuests)
    }

    fn telling(&self) -> Option<&dyn TellChanges> {
        self.host.telling()
    }

    fn reading(&self) -> Option<&dyn ReadConsoles> {
        self.host.reading()
    }

    fn talking(&self) -> Option<&dyn OpenConsoles> {
        self.host.talking()
    }

    fn measuring(&self) -> Option<&dyn MeasureGuests> {
        self.host.measuring()
    }

    fn interfaces(&self) -> Option<&dyn PlugInterfaces> {
        self.host.interfaces()
    }

    fn caching(&self) -> Option<&dyn CacheImages> {
        self.host.caching()
    }

    fn agents(&self) -> Option<&dyn AskAgents> {
        self.host.agents()
    }
}

#[async_trait]
impl AttachVolumes for Stubborn {
    async fn attach(&self, instance: InstanceId, link: &VolumeLink) -> Result<(), VirtError> {
        self.pass("plug").await?;
        self.host.attach(instance, link).await
    }

    async fn detach(&self, instance: InstanceId, volume: VolumeId) -> Result<(), VirtError> {
        self.pass("unplug").await?;
        self.host.detach(instance, volume).await
    }
}

#[async_trait]
impl RescueGuests for Stubborn {
    async fn rescue(
        &self,
        instance: InstanceId,
        image: &Image,
        images: &dyn ImageStore,
    ) -> Result<(), VirtError> {
        self.pass("rescue").await?;
        self.host.rescue(instance, image, images).await?;
        if matches!(self.trouble, Trouble::NeverUnrescue) {
            self.host.stop(instance).await?;
            return Err(VirtError::NoRoom { instance });
        }
        Ok(())
    }

    async fn unrescue(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.pass("unrescue").await?;
        self.host.unrescue(instance).await
    }

    async fn rescued(&self, instance: InstanceId) -> Result<bool, VirtError> {
        self.host.rescued(instance).await
    }
}

#[async_trait]
impl SnapshotGuests for Stubborn {
    async fn snapshot(
        &self,
        instance: InstanceId,
        image: ImageId,
        format: ImageFormat,
        images: &dyn ImageStore,
    ) -> Result<ImageContent, VirtError> {
        // The bytes are there before the trouble is: what an answer that is lost looks like.
        let stored = self.host.snapshot(instance, image, format, images).await;
        self.pass("snapshot").await?;
        stored
    }
}

#[async_trait]
impl MoveGuests for Stubborn {
    async fn pack(&self, instance: InstanceId) -> Result<Parcel, VirtError> {
        self.pass("pack").await?;
        self.host.pack(instance).await
    }

    async fn unpack(
        &self,
        spec: &GuestSpec,
        parcel: &Parcel,
        images: &dyn ImageStore,
    ) -> Result<(), VirtError> {
        self.pass("unpack").await?;
        self.host.unpack(spec, parcel, images).await
    }
}

#[async_trait]
impl SuspendGuests for Stubborn {
    async fn suspend(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.pass("suspend").await?;
        self.host.suspend(instance).await
    }

    async fn resume(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.pass("resume").await?;
        self.host.resume(instance).await
    }
}

#[async_trait]
impl PauseGuests for Stubborn {
    async fn pause(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.pass("pause").await?;
        self.host.pausing().unwrap().pause(instance).await
    }

    async fn unpause(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.pass("unpause").await?;
        self.host.pausing().unwrap().unpause(instance).await
    }
}

#[async_trait]
impl LiveMigrate for Stubborn {
    async fn expect(
        &self,
        spec: &GuestSpec,
        links: &[VolumeLink],
    ) -> Result<Invitation, VirtError> {
        self.pass("expect").await?;
        self.host.expect(spec, links).await
    }

    async fn send(&self, instance: InstanceId, to: &Invitation) -> Result<Transfer, VirtError> {
        // What goes wrong afterwards is the worse: the guest is frozen by then.
        let sent = self.host.send(instance, to).await;
        self.pass("send").await?;
        sent
    }

    async fn receive(&self, instance: InstanceId, parcel: &Parcel) -> Result<(), VirtError> {
        self.pass("receive").await?;
        match self.trouble {
            Trouble::FalseReceipt => return Ok(()),
            Trouble::DeadReceipt => {
                self.host.plant_guest(instance);
                return self.host.stop(instance).await;
            }
            _ => {}
        }
        self.host.receive(instance, parcel).await
    }

    async fn is_complete(&self, instance: InstanceId) -> Result<bool, VirtError> {
        self.host.is_complete(instance).await
    }

    async fn recall(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.pass("recall").await?;
        self.host.recall(instance).await
    }
}
