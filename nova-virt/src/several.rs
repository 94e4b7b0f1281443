//! One host with several hypervisors, such as one for whole machines and one for containers.

mod abilities;

use std::fmt::{Debug, Display, Formatter};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use nova_core::domain::{
    HostFacts, Image, ImageContent, ImageFormat, ImageId, InstanceId, Mac, Reboot, VolumeId,
};
use nova_core::port::{
    AskAgents, AttachVolumes, CACHED_IMAGES_MAX, CacheImages, ConsoleStream, Guest, GuestChange,
    GuestSpec, GuestUse, HearChanges, ImageStore, Invitation, LiveMigrate, MeasureGuests,
    MoveGuests, Nic, OpenConsoles, Parcel, PauseGuests, PlugInterfaces, ReadConsoles, RescueGuests,
    SnapshotGuests, SuspendGuests, TellChanges, Transfer, VirtDriver, VirtError, VolumeLink,
};

/// Which images a hypervisor starts.
type Takes = Box<dyn Fn(&Image) -> bool + Send + Sync>;

/// The hypervisors of one host, as one driver.
///
/// A new guest goes to the hypervisor that takes its image; what is asked of a guest is asked of
/// the one that has it. What the host can do is what one of them can: asked of a guest whose
/// hypervisor cannot, it is [`VirtError::Host`], and goals that hold already are success.
///
/// The totals, NUMA cells and devices are those of the first, because all of them are the same
/// machine's.
///
/// ```
/// use nova_virt::{Several, SimHost};
///
/// # fn show(machines: SimHost, containers: SimHost) {
/// let host = Several::new(machines).with_containers(containers);
/// # }
/// ```
pub struct Several {
    first: Arc<dyn VirtDriver>,
    others: Vec<(Takes, Arc<dyn VirtDriver>)>,
}

impl Several {
    /// A host on which `driver` starts every image that no other one takes.
    pub fn new(driver: impl VirtDriver) -> Self {
        Self { first: Arc::new(driver), others: Vec::new() }
    }

    /// And on which `driver` starts the images for which `takes` says so, unless one before it
    /// takes them. It has to say the same of an image always.
    #[must_use]
    pub fn with(
        mut self,
        takes: impl Fn(&Image) -> bool + Send + Sync + 'static,
        driver: impl VirtDriver,
    ) -> Self {
        self.others.push((Box::new(takes), Arc::new(driver)));
        self
    }

    /// And on which `driver` starts archives of root file systems.
    #[must_use]
    pub fn with_containers(self, driver: impl VirtDriver) -> Self {
        self.with(|image| image.format == ImageFormat::RootfsTar, driver)
    }

    fn all(&self) -> impl Iterator<Item = &dyn VirtDriver> {
        let others = self.others.iter().map(|(_, driver)| &**driver);
        std::iter::once(&*self.first).chain(others)
    }

    fn taking(&self, image: &Image) -> &dyn VirtDriver {
        let other = self.others.iter().find(|(takes, _)| takes(image));
        other.map_or(&*self.first, |(_, driver)| &**driver)
    }

    /// The driver that has a guest.
    async fn having(&self, instance: InstanceId) -> Result<Option<&dyn VirtDriver>, VirtError> {
        for driver in self.all() {
            if driver.guest(instance).await?.is_some() {
                return Ok(Some(driver));
            }
        }
        Ok(None)
    }

    /// The driver that has a guest, or the first one, which says that it is not there.
    async fn of(&self, instance: InstanceId) -> Result<&dyn VirtDriver, VirtError> {
        Ok(self.having(instance).await?.unwrap_or(&*self.first))
    }

    /// The driver that has a guest, or is to have it.
    async fn for_spec(&self, spec: &GuestSpec) -> Result<&dyn VirtDriver, VirtError> {
        let having = self.having(spec.instance).await?;
        Ok(having.unwrap_or_else(|| self.taking(&spec.image)))
    }

    fn can(&self, ability: impl Fn(&dyn VirtDriver) -> bool) -> bool {
        self.all().any(ability)
    }
}

impl Debug for Several {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.all()).finish()
    }
}

impl Display for Several {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        for (index, driver) in self.all().enumerate() {
            f.write_str(if index > 0 { " and " } else { "" })?;
            write!(f, "{driver}")?;
        }
        Ok(())
    }
}

/// An ability that the hypervisor of a guest does not have.
fn able<T>(ability: Option<T>, operation: &'static str) -> Result<T, VirtError> {
    let source = "the guest's hypervisor cannot".into();
    ability.ok_or(VirtError::Host { operation, source })
}

#[async_trait]
impl VirtDriver for Several {
    async fn facts(&self) -> Result<HostFacts, VirtError> {
        let mut facts = self.first.facts().await?;
        for (_, driver) in &self.others {
            for kind in driver.facts().await?.guest_kinds {
                if !facts.guest_kinds.contains(&kind) {
                    facts.guest_kinds.push(kind);
                }
            }
        }
        Ok(facts)
    }

    async fn guests(&self) -> Result<Vec<Guest>, VirtError> {
        let mut guests = Vec::new();
        for driver in self.all() {
            guests.extend(driver.guests().await?);
        }
        guests.sort_by_key(|guest| guest.instance);
        Ok(guests)
    }

    async fn guest(&self, instance: InstanceId) -> Result<Option<Guest>, VirtError> {
        for driver in self.all() {
            if let Some(guest) = driver.guest(instance).await? {
                return Ok(Some(guest));
            }
        }
        Ok(None)
    }

    async fn create(&self, spec: &GuestSpec, images: &dyn ImageStore) -> Result<(), VirtError> {
        self.for_spec(spec).await?.create(spec, images).await
    }

    async fn remove(&self, instance: InstanceId) -> Result<(), VirtError> {
        // Also what is left of one that is no guest any more.
        let mut result = Ok(());
        for driver in self.all() {
            let removed = driver.remove(instance).await;
            result = result.and(removed);
        }
        result
    }

    async fn start(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.of(instance).await?.start(instance).await
    }

    async fn stop(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.of(instance).await?.stop(instance).await
    }

    async fn reboot(&self, instance: InstanceId, how: Reboot, boot: u64) -> Result<(), VirtError> {
        self.of(instance).await?.reboot(instance, how, boot).await
    }

    fn pausing(&self) -> Option<&dyn PauseGuests> {
        self.can(|driver| driver.pausing().is_some()).then_some(self as &dyn PauseGuests)
    }

    fn suspending(&self) -> Option<&dyn SuspendGuests> {
        self.can(|driver| driver.suspending().is_some()).then_some(self as &dyn SuspendGuests)
    }

    fn volumes(&self) -> Option<&dyn AttachVolumes> {
        self.can(|driver| driver.volumes().is_some()).then_some(self as &dyn AttachVolumes)
    }

    fn moving(&self) -> Option<&dyn MoveGuests> {
        self.can(|driver| driver.moving().is_some()).then_some(self as &dyn MoveGuests)
    }

    fn live(&self) -> Option<&dyn LiveMigrate> {
        self.can(|driver| driver.live().is_some()).then_some(self as &dyn LiveMigrate)
    }

    fn snapshots(&self) -> Option<&dyn SnapshotGuests> {
        self.can(|driver| driver.snapshots().is_some()).then_some(self as &dyn SnapshotGuests)
    }

    fn rescuing(&self) -> Option<&dyn RescueGuests> {
        self.can(|driver| driver.rescuing().is_some()).then_some(self as &dyn RescueGuests)
    }

    fn telling(&self) -> Option<&dyn TellChanges> {
        self.can(|driver| driver.telling().is_some()).then_some(self as &dyn TellChanges)
    }

    fn reading(&self) -> Option<&dyn ReadConsoles> {
        self.can(|driver| driver.reading().is_some()).then_some(self as &dyn ReadConsoles)
    }

    fn talking(&self) -> Option<&dyn OpenConsoles> {
        self.can(|driver| driver.talking().is_some()).then_some(self as &dyn OpenConsoles)
    }

    fn measuring(&self) -> Option<&dyn MeasureGuests> {
        self.can(|driver| driver.measuring().is_some()).then_some(self as &dyn MeasureGuests)
    }

    fn interfaces(&self) -> Option<&dyn PlugInterfaces> {
        self.can(|driver| driver.interfaces().is_some()).then_some(self as &dyn PlugInterfaces)
    }

    fn caching(&self) -> Option<&dyn CacheImages> {
        self.can(|driver| driver.caching().is_some()).then_some(self as &dyn CacheImages)
    }

    fn agents(&self) -> Option<&dyn AskAgents> {
        self.can(|driver| driver.agents().is_some()).then_some(self as &dyn AskAgents)
    }
}

#[async_trait]
impl PauseGuests for Several {
    async fn pause(&self, instance: InstanceId) -> Result<(), VirtError> {
        let pausing = able(self.of(instance).await?.pausing(), "pause a guest")?;
        pausing.pause(instance).await
    }

    async fn unpause(&self, instance: InstanceId) -> Result<(), VirtError> {
        let pausing = able(self.of(instance).await?.pausing(), "unpause a guest")?;
        pausing.unpause(instance).await
    }
}

#[async_trait]
impl AttachVolumes for Several {
    async fn attach(&self, instance: InstanceId, link: &VolumeLink) -> Result<(), VirtError> {
        let volumes = able(self.of(instance).await?.volumes(), "plug a volume in")?;
        volumes.attach(instance, link).await
    }

    async fn detach(&self, instance: InstanceId, volume: VolumeId) -> Result<(), VirtError> {
        for driver in self.all() {
            // A hypervisor that plugs none in has none to pull out.
            if let Some(volumes) = driver.volumes() {
                volumes.detach(instance, volume).await?;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl MoveGuests for Several {
    async fn pack(&self, instance: InstanceId) -> Result<Parcel, VirtError> {
        let moving = able(self.of(instance).await?.moving(), "pack a guest")?;
        moving.pack(instance).await
    }

    async fn unpack(
        &self,
        spec: &GuestSpec,
        parcel: &Parcel,
        images: &dyn ImageStore,
    ) -> Result<(), VirtError> {
        let moving = able(self.for_spec(spec).await?.moving(), "unpack a guest")?;
        moving.unpack(spec, parcel, images).await
    }
}

#[async_trait]
impl LiveMigrate for Several {
    async fn expect(
        &self,
        spec: &GuestSpec,
        links: &[VolumeLink],
    ) -> Result<Invitation, VirtError> {
        let live = able(self.for_spec(spec).await?.live(), "expect a guest")?;
        live.expect(spec, links).await
    }

    async fn send(&self, instance: InstanceId, to: &Invitation) -> Result<Transfer, VirtError> {
        let live = able(self.of(instance).await?.live(), "send a guest")?;
        live.send(instance, to).await
    }

    async fn receive(&self, instance: InstanceId, parcel: &Parcel) -> Result<(), VirtError> {
        let live = able(self.of(instance).await?.live(), "receive a guest")?;
        live.receive(instance, parcel).await
    }

    async fn is_complete(&self, instance: InstanceId) -> Result<bool, VirtError> {
        match self.having(instance).await? {
            None => Ok(false),
            Some(driver) => match driver.live() {
                Some(live) => live.is_complete(instance).await,
                None => Ok(true),
            },
        }
    }

    async fn recall(&self, instance: InstanceId) -> Result<(), VirtError> {
        match self.of(instance).await?.live() {
            Some(live) => live.recall(instance).await,
            None => Ok(()),
        }
    }
}

#[async_trait]
impl SnapshotGuests for Several {
    async fn snapshot(
        &self,
        instance: InstanceId,
        image: ImageId,
        format: ImageFormat,
        images: &dyn ImageStore,
    ) -> Result<ImageContent, VirtError> {
        let snapshots = able(self.of(instance).await?.snapshots(), "take an image of a guest")?;
        snapshots.snapshot(instance, image, format, images).await
    }
}

#[async_trait]
impl RescueGuests for Several {
    async fn rescue(
        &self,
        instance: InstanceId,
        image: &Image,
        images: &dyn ImageStore,
    ) -> Result<(), VirtError> {
        let rescuing = able(self.of(instance).await?.rescuing(), "rescue a guest")?;
        rescuing.rescue(instance, image, images).await
    }

    async fn unrescue(&self, instance: InstanceId) -> Result<(), VirtError> {
        match self.of(instance).await?.rescuing() {
            Some(rescuing) => rescuing.unrescue(instance).await,
            None => Ok(()),
        }
    }

    async fn rescued(&self, instance: InstanceId) -> Result<bool, VirtError> {
        match self.of(instance).await?.rescuing() {
            Some(rescuing) => rescuing.rescued(instance).await,
            None => Ok(false),
        }
    }
}

impl TellChanges for Several {
    fn changes(&self) -> Box<dyn HearChanges> {
        let telling = self.all().filter_map(|driver| driver.telling());
        Box::new(Hearing(telling.map(|telling| telling.changes()).collect()))
    }
}

/// Hears all of them, as long as one of them tells.
#[derive(Debug)]
struct Hearing(Vec<Box<dyn HearChanges>>);

#[async_trait]
impl HearChanges for Hearing {
    async fn next(&mut self) -> Option<GuestChange> {
        while !self.0.is_empty() {
            let mut waiting: Vec<_> = self.0.iter_mut().map(|one| one.next()).collect();
            let (index, heard) = poll_fn(|context| {
                // In their order, so that two runs hear the same.
                for (index, one) in waiting.iter_mut().enumerate() {
                    if let Poll::Ready(heard) = one.as_mut().poll(context) {
                        return Poll::Ready((index, heard));
                    }
                }
                Poll::Pending
            })
            .await;
            drop(waiting);
            match heard {
                Some(change) => return Some(change),
                None => drop(self.0.remove(index)),
            }
        }
        None
    }
}

/// The newest ones of each, in turns.
#[async_trait]
impl CacheImages for Several {
    async fn cached_images(&self) -> Result<Vec<String>, VirtError> {
        let mut lists = Vec::new();
        for caching in self.all().filter_map(|driver| driver.caching()) {
            lists.push(caching.cached_images().await?);
        }
        let mut all: Vec<String> = Vec::new();
        for turn in 0..lists.iter().map(Vec::len).max().unwrap_or(0) {
            for image in lists.iter().filter_map(|list| list.get(turn)) {
                if !all.contains(image) {
                    all.push(image.clone());
                }
            }
        }
        all.truncate(CACHED_IMAGES_MAX);
        Ok(all)
    }
}

#[async_trait]
impl ReadConsoles for Several {
    async fn console_log(&self, instance: InstanceId, bytes: usize) -> Result<Vec<u8>, VirtError> {
        let reading = able(self.of(instance).await?.reading(), "read a guest's console")?;
        reading.console_log(instance, bytes).await
    }
}

#[async_trait]
impl OpenConsoles for Several {
    async fn open_console(&self, instance: InstanceId) -> Result<ConsoleStream, VirtError> {
        let talking = able(self.of(instance).await?.talking(), "open a guest's console")?;
        talking.open_console(instance).await
    }
}

#[async_trait]
impl MeasureGuests for Several {
    async fn use_of(&self, instance: InstanceId) -> Result<GuestUse, VirtError> {
        let measuring = able(self.of(instance).await?.measuring(), "measure a guest")?;
        measuring.use_of(instance).await
    }
}

#[async_trait]
impl PlugInterfaces for Several {
    async fn plug(&self, instance: InstanceId, nic: &Nic) -> Result<(), VirtError> {
        let interfaces = able(self.of(instance).await?.interfaces(), "plug an interface in")?;
        interfaces.plug(instance, nic).await
    }

    async fn unplug(&self, instance: InstanceId, mac: Mac) -> Result<(), VirtError> {
        match self.of(instance).await?.interfaces() {
            Some(interfaces) => interfaces.unplug(instance, mac).await,
            None => Ok(()),
        }
    }

    async fn plugged(&self, instance: InstanceId) -> Result<Vec<Nic>, VirtError> {
        let interfaces = able(self.of(instance).await?.interfaces(), "list its interfaces")?;
        interfaces.plugged(instance).await
    }
}
