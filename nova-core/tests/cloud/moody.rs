//! Hosts that misbehave in one way at a time, and can be told to stop.

use std::fmt::{Debug, Display};
use std::future::pending;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use nova_core::clock::Clock;
use nova_core::domain::{HostFacts, HostId, InstanceId, Reboot, VolumeId};
use nova_core::memory::{MemoryHost, VirtualClock};
use nova_core::port::{
    AskAgents, AttachVolumes, CacheImages, Guest, GuestSpec, ImageStore, MeasureGuests, MoveGuests,
    OpenConsoles, PauseGuests, PlugInterfaces, ReadConsoles, RescueGuests, SnapshotGuests,
    SuspendGuests, TellChanges, VirtDriver, VirtError, VolumeLink,
};

use crate::world::{World, spec};

/// What is wrong with a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Nothing.
    Well,
    /// It says that it has no guests; those that it has run on.
    Forgetful,
    /// It answers nothing.
    Hanging,
    /// It never answers this, and everything else as always: it still beats.
    Hangs(&'static str),
    /// It panics so many times when it has to make a guest.
    Panics(u32),
    /// It does not do this.
    Refuses(&'static str),
    /// It says that it has done this, and has not.
    Lies(&'static str),
    /// This takes twenty seconds. A list of guests is as old as that when it arrives.
    Slow(&'static str),
}

/// A host in memory with a mood.
#[derive(Debug)]
pub(crate) struct Moody {
    host: Arc<MemoryHost>,
    clock: Arc<VirtualClock>,
    mood: Mutex<Mood>,
    begun: AtomicU32,
}

impl Moody {
    /// A host of this world with a mood, that no agent works for yet.
    pub(crate) fn over(world: &World, host: &Arc<MemoryHost>, mood: Mood) -> Arc<Self> {
        Arc::new(Self {
            host: Arc::clone(host),
            clock: Arc::clone(&world.clock),
            mood: Mutex::new(mood),
            begun: AtomicU32::new(0),
        })
    }

    /// Starts the agent of a host again, over this driver.
    pub(crate) async fn on(world: &mut World, host: HostId, mood: Mood) -> Arc<Self> {
        let moody = Self::over(world, &world.hosts[&host], Mood::Well);
        let known = world.admin().hosts().await.unwrap();
        let name = known.iter().find(|status| status.host.id == host).unwrap().host.name.clone();
        world.cloud.add_host(spec(name.as_str()), Arc::clone(&moody)).await.unwrap();
        moody.turns(mood);
        moody
    }

    /// Every host of the world.
    pub(crate) async fn everywhere(world: &mut World, mood: Mood) -> Vec<Arc<Self>> {
        let hosts: Vec<HostId> = world.hosts.keys().copied().collect();
        let mut all = Vec::new();
        for host in hosts {
            all.push(Self::on(world, host, mood).await);
        }
        all
    }

    pub(crate) fn turns(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// Waits until what is slow has begun once more.
    pub(crate) async fn slow_begins(&self) {
        let before = self.begun.load(Ordering::SeqCst);
        while self.begun.load(Ordering::SeqCst) == before {
            tokio::task::yield_now().await;
        }
    }

    fn mood(&self) -> Mood {
        *self.mood.lock().unwrap()
    }

    async fn slowly(&self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.clock.sleep_until(self.clock.now().after(Duration::from_secs(20))).await;
    }

    /// Whether `verb` is to be done at all.
    async fn does(&self, verb: &'static str) -> Result<bool, VirtError> {
        match self.mood() {
            Mood::Hanging => pending().await,
            Mood::Hangs(hung) if hung == verb => pending().await,
            Mood::Panics(times) if times > 0 && verb == "create" => {
                self.turns(Mood::Panics(times - 1));
                panic!("the driver lost its mind");
            }
            Mood::Refuses(refused) if refused == verb => {
                Err(VirtError::Host { operation: verb, source: "not today".into() })
            }
            Mood::Lies(lied) => Ok(lied != verb),
            Mood::Slow(slow) if slow == verb => {
                self.slowly().await;
                Ok(true)
            }
            _ => Ok(true),
        }
    }
}

impl Display for Moody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("moody host")
    }
}

#[async_trait]
impl VirtDriver for Moody {
    async fn facts(&self) -> Result<HostFacts, VirtError> {
        self.does("facts").await?;
        self.host.facts().await
    }

    async fn guests(&self) -> Result<Vec<Guest>, VirtError> {
        match self.mood() {
            Mood::Forgetful => Ok(Vec::new()),
            _ => {
                let seen = self.host.guests().await;
                self.does("list").await?;
                seen
            }
        }
    }

    async fn guest(&self, instance: InstanceId) -> Result<Option<Guest>, VirtError> {
        match self.mood() {
            Mood::Forgetful => Ok(None),
            _ => {
                self.does("look").await?;
                self.host.guest(instance).await
            }
        }
    }

    async fn create(&self, spec: &GuestSpec, images: &dyn ImageStore) -> Result<(), VirtError> {
        match self.does("create").await? {
            true => self.host.create(spec, images).await,
            false => Ok(()),
        }
    }

    async fn remove(&self, instance: InstanceId) -> Result<(), VirtError> {
        match self.does("remove").await? {
            true => self.host.remove(instance).await,
            false => Ok(()),
        }
    }

    async fn start(&self, instance: InstanceId) -> Result<(), VirtError> {
        match self.does("start").await? {
            true => self.host.start(instance).await,
            false => Ok(()),
        }
    }

    async fn stop(&self, instance: InstanceId) -> Result<(), VirtError> {
        match self.does("stop").await? {
            true => self.host.stop(instance).await,
            false => Ok(()),
        }
    }

    /// What is slow about it comes when it is done: the answer is late.
    async fn reboot(&self, instance: InstanceId, how: Reboot, boot: u64) -> Result<(), VirtError> {
        self.host.reboot(instance, how, boot).await?;
        self.does("reboot").await.map(drop)
    }

    fn pausing(&self) -> Option<&dyn PauseGuests> {
        self.host.pausing()
    }

    fn suspending(&self) -> Option<&dyn SuspendGuests> {
        self.host.suspending()
    }

    fn volumes(&self) -> Option<&dyn AttachVolumes> {
        Some(self)
    }

    fn moving(&self) -> Option<&dyn MoveGuests> {
        self.host.moving()
    }

    fn live(&self) -> Option<&dyn nova_core::port::LiveMigrate> {
        self.host.live()
    }

    fn snapshots(&self) -> Option<&dyn SnapshotGuests> {
        self.host.snapshots()
    }

    fn rescuing(&self) -> Option<&dyn RescueGuests> {
        self.host.rescuing()
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
impl AttachVolumes for Moody {
    async fn attach(&self, instance: InstanceId, link: &VolumeLink) -> Result<(), VirtError> {
        match self.does("plug").await? {
            true => self.host.attach(instance, link).await,
            false => Ok(()),
        }
    }

    async fn detach(&self, instance: InstanceId, volume: VolumeId) -> Result<(), VirtError> {
        match self.does("unplug").await? {
            true => self.host.detach(instance, volume).await,
            false => Ok(()),
        }
    }
}
