//! The reference driver: guests that are a power state and a list of volumes.

mod abilities;
mod agents;
mod booting;
mod live;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use self::agents::Agent;
use super::images::fetch;
use crate::domain::{
    Assigned, ClassStocks, GiB, GuestKind, HostFacts, Image, ImageContent, ImageFormat, ImageId,
    InstanceId, NumaTopology, PciDevice, PowerState, Reboot, ResourceClass, Resources, Stock,
    TraitName, Vcpus, VolumeId,
};
use crate::plant::{Bug, planted};
use crate::port::{
    AskAgents, AttachVolumes, CacheImages, Guest, GuestChange, GuestSpec, Herald, ImageError,
    ImageStore, ImageStoreExt as _, LiveMigrate, MeasureGuests, MoveGuests, Nic, OpenConsoles,
    Parcel, PauseGuests, PlugInterfaces, ReadConsoles, RescueGuests, SnapshotGuests, SuspendGuests,
    TellChanges, VirtDriver, VirtError,
};

/// A host on which everything works at once and for ever: no latency, no failure, no limit.
///
/// It says how much it has and never refuses for lack of it. The simulated host of `nova-virt`
/// is the one that can be full, slow, broken and restarted.
#[derive(Debug)]
pub struct MemoryHost {
    total: Resources,
    traits: BTreeSet<TraitName>,
    classes: ClassStocks,
    numa: Option<NumaTopology>,
    pci: Vec<PciDevice>,
    guests: Mutex<BTreeMap<InstanceId, Kept>>,
    herald: Herald,
    /// What was fetched, the one that was used last first.
    fetched: Mutex<Vec<String>>,
}

#[derive(Debug)]
struct Kept {
    power: PowerState,
    boot: u64,
    volumes: BTreeSet<VolumeId>,
    disk: String,
    /// The volume that is its root disk.
    root: Option<VolumeId>,
    passage: Passage,
    rescued: bool,
    assigned: Assigned,
    console: Vec<u8>,
    nics: Vec<Nic>,
    agent: Agent,
}

/// Whether a guest is on its way between two hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passage {
    None,
    /// It comes from elsewhere and is not complete.
    Expected,
    /// It was sent elsewhere, and had this state before.
    Sent(PowerState),
}

impl Kept {
    const NEW: Self = Self {
        power: PowerState::Running,
        boot: 0,
        volumes: BTreeSet::new(),
        disk: String::new(),
        root: None,
        passage: Passage::None,
        rescued: false,
        assigned: Assigned { cells: None, devices: Vec::new() },
        console: Vec::new(),
        nics: Vec::new(),
        agent: Agent::NONE,
    };
}

impl MemoryHost {
    /// A host without guests that says it has `total`.
    pub fn new(total: Resources) -> Self {
        let (traits, classes, guests, herald, fetched) = Default::default();
        Self { total, traits, classes, numa: None, pci: Vec::new(), guests, herald, fetched }
    }

    /// Sets which traits it says it has; none by default.
    #[must_use]
    pub fn with_traits(mut self, traits: impl IntoIterator<Item = TraitName>) -> Self {
        self.traits = traits.into_iter().collect();
        self
    }

    /// Sets how much it says it has of a resource class; of none by default.
    #[must_use]
    pub fn with_class(mut self, class: ResourceClass, stock: Stock<u64>) -> Self {
        self.classes.insert(class, stock);
        self
    }

    /// Sets which NUMA cells it says it has; by default it tells of none.
    #[must_use]
    pub fn with_numa(mut self, cells: NumaTopology) -> Self {
        self.numa = Some(cells);
        self
    }

    /// Sets which PCI devices it says it has for guests; none by default.
    #[must_use]
    pub fn with_pci(mut self, devices: impl IntoIterator<Item = PciDevice>) -> Self {
        self.pci = devices.into_iter().collect();
        self
    }

    /// Which cells, CPUs and devices a guest was made with; none when it is not here.
    pub fn assigned(&self, instance: InstanceId) -> Option<Assigned> {
        self.guests().get(&instance).map(|guest| guest.assigned.clone())
    }

    /// Starts a guest that no one asked the driver for, as an operator does with other tools.
    pub fn plant_guest(&self, instance: InstanceId) {
        self.put(instance, || Kept::NEW);
    }

    /// What is written on the disk of a guest; none when it is not here.
    pub fn disk(&self, instance: InstanceId) -> Option<String> {
        self.guests().get(&instance).map(|guest| guest.disk.clone())
    }

    /// Writes on the disk of a guest, as what runs in it does; a new disk is empty.
    pub fn write_disk(&self, instance: InstanceId, text: &str) {
        if let Some(guest) = self.guests().get_mut(&instance) {
            text.clone_into(&mut guest.disk);
        }
    }

    fn guests(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Kept>> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(
        &self,
        instance: InstanceId,
        change: impl FnOnce(&mut Kept) -> Result<T, VirtError>,
    ) -> Result<T, VirtError> {
        let mut guests = self.guests();
        let guest = guests.get_mut(&instance).ok_or(VirtError::NoSuchGuest { instance })?;
        let before = guest.power;
        let done = change(guest);
        if guest.power != before {
            self.herald.tell(GuestChange::Guest(instance));
            if before == PowerState::Shutdown {
                guest.boots();
            }
        }
        done
    }

    /// Takes a guest in, unless it is here.
    fn put(&self, instance: InstanceId, make: impl FnOnce() -> Kept) {
        self.guests().entry(instance).or_insert_with(|| {
            let mut guest = make();
            if guest.power == PowerState::Running {
                guest.boots();
            }
            guest
        });
        self.herald.tell(GuestChange::Guest(instance));
    }

    /// Freezes a guest that is in memory, or lets it go on.
    fn turn(
        &self,
        instance: InstanceId,
        power: PowerState,
        operation: &'static str,
    ) -> Result<(), VirtError> {
        self.with(instance, |guest| {
            let off = matches!(guest.power, PowerState::Shutdown | PowerState::Suspended);
            if off || guest.passage == Passage::Expected {
                return Err(VirtError::WrongPower { instance, power: guest.power, operation });
            }
            (guest.power, guest.passage) = (power, Passage::None);
            Ok(())
        })
    }
}

/// A host with 16 CPUs, 64 GiB of memory and 1 TiB of disk.
impl Default for MemoryHost {
    fn default() -> Self {
        Self::new(Resources { vcpus: Vcpus(16), memory: GiB(64).to_mib(), disk: GiB(1024) })
    }
}

impl std::fmt::Display for MemoryHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("host in memory")
    }
}

#[async_trait]
impl VirtDriver for MemoryHost {
    async fn facts(&self) -> Result<HostFacts, VirtError> {
        let kind = |text: &str| text.to_owned();
        Ok(HostFacts {
            total: self.total,
            guest_kinds: vec![GuestKind {
                architecture: kind("x86_64"),
                hypervisor: kind("qemu"),
                vm_mode: kind("hvm"),
            }],
            hypervisor: kind("memory"),
            hypervisor_version: 0,
            traits: self.traits.clone(),
            classes: self.classes.clone(),
            numa: self.numa.clone(),
            pci: self.pci.clone(),
        })
    }

    async fn guests(&self) -> Result<Vec<Guest>, VirtError> {
        Ok(self.guests().iter().map(|(id, kept)| describe(*id, kept)).collect())
    }

    async fn guest(&self, instance: InstanceId) -> Result<Option<Guest>, VirtError> {
        Ok(self.guests().get(&instance).map(|kept| describe(instance, kept)))
    }

    async fn create(&self, spec: &GuestSpec, images: &dyn ImageStore) -> Result<(), VirtError> {
        let instance = spec.instance;
        if self.guests().contains_key(&instance) {
            return Ok(());
        }
        let (disk, power) = match spec.root {
            Some(_) => (String::new(), PowerState::Shutdown),
            None => {
                let fetched = written_on(&spec.image, images).await;
                let disk = fetched.map_err(|source| VirtError::Image { instance, source })?;
                self.keeps(&spec.image.content.sha256);
                (disk, PowerState::Running)
            }
        };
        self.put(instance, || Kept {
            power,
            disk,
            root: spec.root,
            assigned: spec.assigned.clone(),
            nics: spec.nics.clone(),
            agent: Agent::of(spec),
            ..Kept::NEW
        });
        Ok(())
    }

    async fn remove(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.guests().remove(&instance);
        self.herald.tell(GuestChange::Guest(instance));
        Ok(())
    }

    async fn start(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.with(instance, |guest| {
            if guest.passage == Passage::Expected {
                let (power, operation) = (guest.power, "start it");
                return Err(VirtError::WrongPower { instance, power, operation });
            }
            if guest.power == PowerState::Shutdown {
                guest.has_root(instance)?;
                guest.power = PowerState::Running;
            }
            Ok(())
        })
    }

    async fn stop(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.with(instance, |guest| {
            guest.power = PowerState::Shutdown;
            if guest.passage != Passage::Expected {
                guest.passage = Passage::None;
            }
            Ok(())
        })
    }

    async fn reboot(&self, instance: InstanceId, _: Reboot, boot: u64) -> Result<(), VirtError> {
        self.with(instance, |guest| {
            if guest.passage == Passage::Expected {
                let (power, operation) = (guest.power, "reboot it");
                return Err(VirtError::WrongPower { instance, power, operation });
            }
            if guest.boot < boot {
                guest.has_root(instance)?;
                guest.passage = Passage::None;
                guest.boot = boot;
                if guest.power != PowerState::Shutdown {
                    guest.boots();
                }
                guest.power = PowerState::Running;
            }
            Ok(())
        })
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
        Some(self)
    }

    fn snapshots(&self) -> Option<&dyn SnapshotGuests> {
        Some(self)
    }

    fn rescuing(&self) -> Option<&dyn RescueGuests> {
        Some(self)
    }

    fn telling(&self) -> Option<&dyn TellChanges> {
        Some(self)
    }

    fn reading(&self) -> Option<&dyn ReadConsoles> {
        Some(self)
    }

    fn talking(&self) -> Option<&dyn OpenConsoles> {
        Some(self)
    }

    fn measuring(&self) -> Option<&dyn MeasureGuests> {
        Some(self)
    }

    fn interfaces(&self) -> Option<&dyn PlugInterfaces> {
        Some(self)
    }

    fn caching(&self) -> Option<&dyn CacheImages> {
        Some(self)
    }

    fn agents(&self) -> Option<&dyn AskAgents> {
        Some(self)
    }
}

#[async_trait]
impl RescueGuests for MemoryHost {
    async fn rescue(
        &self,
        instance: InstanceId,
        image: &Image,
        images: &dyn ImageStore,
    ) -> Result<(), VirtError> {
        self.with(instance, |_| Ok(()))?;
        let fetched = written_on(image, images).await;
        fetched.map_err(|source| VirtError::Image { instance, source })?;
        self.with(instance, |guest| {
            if !guest.rescued || guest.power == PowerState::Shutdown {
                guest.power = PowerState::Running;
            }
            guest.rescued = true;
            Ok(())
        })
    }

    async fn unrescue(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.with(instance, |guest| {
            if guest.rescued {
                guest.rescued = false;
                let has_root = guest.has_root(instance);
                guest.rescued = has_root.is_err();
                has_root?;
                guest.power = PowerState::Running;
            }
            Ok(())
        })
    }

    async fn rescued(&self, instance: InstanceId) -> Result<bool, VirtError> {
        self.with(instance, |guest| Ok(guest.rescued))
    }
}

#[async_trait]
impl SnapshotGuests for MemoryHost {
    async fn snapshot(
        &self,
        instance: InstanceId,
        image: ImageId,
        _: ImageFormat,
        images: &dyn ImageStore,
    ) -> Result<ImageContent, VirtError> {
        let disk = self.with(instance, |guest| match guest.root {
            Some(volume) => {
                let operation = "take an image of it";
                Err(VirtError::OnVolume { instance, volume, operation })
            }
            None => Ok(guest.disk.clone()),
        })?;
        let bytes = std::io::Cursor::new([WRITTEN, disk.as_bytes()].concat());
        let stored = images.ensure(image, Box::new(bytes)).await;
        stored.map_err(|source| VirtError::Image { instance, source })
    }
}

#[async_trait]
impl MoveGuests for MemoryHost {
    async fn pack(&self, instance: InstanceId) -> Result<Parcel, VirtError> {
        self.with(instance, |guest| match guest.power {
            power if power != PowerState::Shutdown && !planted(Bug::RunTwice) => {
                Err(VirtError::WrongPower { instance, power, operation: "pack it" })
            }
            _ => Ok(Parcel { instance, boot: guest.boot, disks: guest.disk.clone() }),
        })
    }

    async fn unpack(
        &self,
        spec: &GuestSpec,
        parcel: &Parcel,
        _: &dyn ImageStore,
    ) -> Result<(), VirtError> {
        self.put(spec.instance, || Kept {
            power: PowerState::Shutdown,
            boot: parcel.boot,
            disk: parcel.disks.clone(),
            root: spec.root,
            assigned: spec.assigned.clone(),
            nics: spec.nics.clone(),
            agent: Agent::of(spec),
            ..Kept::NEW
        });
        Ok(())
    }
}

#[async_trait]
impl PauseGuests for MemoryHost {
    async fn pause(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.turn(instance, PowerState::Paused, "pause it")
    }

    async fn unpause(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.turn(instance, PowerState::Running, "unpause it")
    }
}

fn describe(instance: InstanceId, kept: &Kept) -> Guest {
    Guest {
        instance,
        power: kept.power,
        boot: kept.boot,
        volumes: kept.volumes.iter().copied().collect(),
    }
}

/// What an image of a guest's disk begins with; what was written on the disk follows. Other images
/// are disks on which nothing was written.
const WRITTEN: &[u8] = b"written on a disk in memory:";

/// Reads the guest's image, and says what is written on it.
async fn written_on(image: &Image, images: &dyn ImageStore) -> Result<String, ImageError> {
    let bytes = fetch(image, images).await?;
    let written = bytes.strip_prefix(WRITTEN).unwrap_or_default();
    Ok(String::from_utf8_lossy(written).into_owned())
}
