//! What is true on a simulated host, and what each verb makes of it: plain functions.

use std::collections::{BTreeMap, BTreeSet};

use nova_core::domain::{
    AllocationRatio, HostName, ImageContent, ImageId, InstanceId, PowerState, Resources, VolumeId,
};
use nova_core::port::{
    CACHED_IMAGES_MAX, CONSOLE_BYTES_MAX, Connection, Guest, GuestSpec, Nic, Parcel, VirtError,
    VolumeLink,
};

use super::live::Passage;
use super::options::{Capacity, Verb};
use crate::files::FORMAT;

/// The state of a host, which is also what its file holds.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct State {
    format: u32,
    pub(super) host: HostName,
    pub(super) powered: bool,
    pub(super) guests: BTreeMap<InstanceId, SimGuest>,
    /// The images that were fetched, as they were measured.
    pub(super) images: BTreeMap<ImageId, ImageContent>,
    /// What is written on the disks that those of them hold that were taken of guests.
    #[serde(default)]
    pub(super) written: BTreeMap<ImageId, String>,
    /// What the images hold that guests were made of, the one that was used last first.
    #[serde(default)]
    pub(super) used_images: Vec<String>,
    /// How often power was lost: a call that began before did not survive it.
    #[serde(skip)]
    pub(super) outages: u64,
    #[serde(skip)]
    pub(super) boots: u64,
    #[serde(skip)]
    pub(super) image_downloads: u64,
}

/// A guest as the host has it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct SimGuest {
    pub(super) power: PowerState,
    pub(super) boot: u64,
    pub(super) size: Resources,
    pub(super) volumes: BTreeMap<VolumeId, Connection>,
    /// What is written on its disk.
    #[serde(default)]
    pub(super) disk: String,
    /// Whether it is on its way between two hosts.
    #[serde(default)]
    pub(super) passage: Passage,
    /// Whether it runs from a rescue disk.
    #[serde(default)]
    pub(super) rescued: bool,
    /// What it wrote to its console: a line for each boot.
    #[serde(default)]
    pub(super) console: String,
    /// Its interfaces.
    #[serde(default)]
    pub(super) nics: Vec<Nic>,
    /// What it was made from; none when somebody else started it.
    pub(super) spec: Option<GuestSpec>,
}

impl State {
    pub(super) fn new(host: HostName) -> Self {
        Self {
            format: FORMAT,
            host,
            powered: true,
            guests: BTreeMap::new(),
            images: BTreeMap::new(),
            written: BTreeMap::new(),
            used_images: Vec::new(),
            outages: 0,
            boots: 0,
            image_downloads: 0,
        }
    }

    pub(super) fn guest(&self, instance: InstanceId) -> Option<Guest> {
        self.guests.get(&instance).map(|guest| guest.describe(instance))
    }

    pub(super) fn guests(&self) -> Vec<Guest> {
        self.guests.iter().map(|(id, guest)| guest.describe(*id)).collect()
    }

    pub(super) fn used(&self) -> Resources {
        self.guests.values().map(|guest| guest.size).sum()
    }

    /// Whether the guest has a place, or is there already.
    pub(super) fn has_room(
        &self,
        spec: &GuestSpec,
        total: &Resources,
        capacity: Capacity,
    ) -> Result<(), VirtError> {
        let Capacity::Held { memory, disk } = capacity else { return Ok(()) };
        if self.guests.contains_key(&spec.instance) {
            return Ok(());
        }
        let wanted = self.used().saturating_add(size(spec));
        let within = |wanted: u64, total: u64, ratio: AllocationRatio| {
            wanted as f64 <= total as f64 * ratio.get()
        };
        if within(wanted.memory.0, total.memory.0, memory)
            && within(wanted.disk.0, total.disk.0, disk)
        {
            Ok(())
        } else {
            Err(VirtError::NoRoom { instance: spec.instance })
        }
    }

    pub(super) fn create(
        &mut self,
        spec: GuestSpec,
        total: &Resources,
        capacity: Capacity,
    ) -> Result<(), VirtError> {
        self.has_room(&spec, total, capacity)?;
        let instance = spec.instance;
        if !self.guests.contains_key(&instance) {
            if spec.root.is_some() {
                let guest = SimGuest::new(size(&spec), Some(spec));
                self.guests.insert(instance, SimGuest { power: PowerState::Shutdown, ..guest });
                return Ok(());
            }
            self.boots += 1;
            self.uses_image(&spec.image.content.sha256);
            let disk = self.written.get(&spec.image.id).cloned().unwrap_or_default();
            let mut guest = SimGuest { disk, ..SimGuest::new(size(&spec), Some(spec)) };
            guest.boots();
            self.guests.insert(instance, guest);
        }
        Ok(())
    }

    fn uses_image(&mut self, sha256: &str) {
        self.used_images.retain(|known| known != sha256);
        self.used_images.insert(0, sha256.to_owned());
        self.used_images.truncate(CACHED_IMAGES_MAX);
    }

    /// What the images hold that are here, those first of which guests were made last.
    pub(super) fn cached_images(&self) -> Vec<String> {
        let others = self.images.values().map(|content| content.sha256.as_str());
        let others: BTreeSet<&str> =
            others.filter(|other| self.used_images.iter().all(|used| used != other)).collect();
        let all = self.used_images.iter().map(String::as_str).chain(others);
        all.take(CACHED_IMAGES_MAX).map(str::to_owned).collect()
    }

    /// Starts a guest that nobody asked the driver for, unless it is there.
    pub(super) fn plant(&mut self, instance: InstanceId, size: Resources) {
        self.guests.entry(instance).or_insert_with(|| SimGuest::new(size, None));
    }

    pub(super) fn start(&mut self, instance: InstanceId) -> Result<(), VirtError> {
        let guest = self.complete(instance, Verb::Start)?;
        if guest.power == PowerState::Shutdown {
            guest.has_root(instance)?;
            guest.power = PowerState::Running;
            guest.boots();
            self.boots += 1;
        }
        Ok(())
    }

    pub(super) fn stop(&mut self, instance: InstanceId) -> Result<(), VirtError> {
        self.existing(instance)?.shut_down();
        Ok(())
    }

    pub(super) fn reboot(&mut self, instance: InstanceId, boot: u64) -> Result<(), VirtError> {
        let guest = self.complete(instance, Verb::Reboot)?;
        if guest.boot < boot {
            guest.has_root(instance)?;
            guest.boot = boot;
            guest.passage = Passage::None;
            guest.power = PowerState::Running;
            guest.boots();
            self.boots += 1;
        }
        Ok(())
    }

    /// Pauses or unpauses.
    pub(super) fn turn(&mut self, instance: InstanceId, verb: Verb) -> Result<(), VirtError> {
        let guest = self.complete(instance, verb)?;
        if matches!(guest.power, PowerState::Shutdown | PowerState::Suspended) {
            let (power, operation) = (guest.power, verb.name());
            return Err(VirtError::WrongPower { instance, power, operation });
        }
        guest.power = if verb == Verb::Pause { PowerState::Paused } else { PowerState::Running };
        guest.passage = Passage::None;
        Ok(())
    }

    pub(super) fn pack(&mut self, instance: InstanceId) -> Result<Parcel, VirtError> {
        let guest = self.existing(instance)?;
        match guest.power {
            PowerState::Shutdown => {
                Ok(Parcel { instance, boot: guest.boot, disks: guest.disk.clone() })
            }
            power => {
                let operation = Verb::Pack.name();
                Err(VirtError::WrongPower { instance, power, operation })
            }
        }
    }

    pub(super) fn unpack(
        &mut self,
        spec: GuestSpec,
        parcel: Parcel,
        total: &Resources,
        capacity: Capacity,
    ) -> Result<(), VirtError> {
        self.has_room(&spec, total, capacity)?;
        let (instance, size) = (spec.instance, size(&spec));
        self.guests.entry(instance).or_insert_with(|| SimGuest {
            power: PowerState::Shutdown,
            boot: parcel.boot,
            disk: parcel.disks,
            ..SimGuest::new(size, Some(spec))
        });
        Ok(())
    }

    pub(super) fn attach(
        &mut self,
        instance: InstanceId,
        link: VolumeLink,
    ) -> Result<(), VirtError> {
        let guest = self.existing(instance)?;
        if !guest.volumes.contains_key(&link.volume) {
            guest.changes(instance, Verb::Attach)?;
            guest.volumes.insert(link.volume, link.connection);
        }
        Ok(())
    }

    pub(super) fn detach(
        &mut self,
        instance: InstanceId,
        volume: VolumeId,
    ) -> Result<(), VirtError> {
        let Some(guest) = self.guests.get_mut(&instance) else { return Ok(()) };
        if !guest.volumes.contains_key(&volume) {
            return Ok(());
        }
        guest.changes(instance, Verb::Detach)?;
        let power = guest.power;
        if guest.root() == Some(volume) && power != PowerState::Shutdown {
            return Err(VirtError::WrongPower { instance, power, operation: Verb::Detach.name() });
        }
        guest.volumes.remove(&volume);
        Ok(())
    }

    /// Everything that was in memory is gone; disks, memory that was put there, and what is plugged
    /// into guests stay.
    pub(super) fn lose_power(&mut self) {
        self.powered = false;
        self.outages += 1;
        for guest in self.guests.values_mut() {
            if guest.power != PowerState::Suspended {
                guest.shut_down();
            }
        }
    }

    pub(super) fn existing(&mut self, instance: InstanceId) -> Result<&mut SimGuest, VirtError> {
        self.guests.get_mut(&instance).ok_or(VirtError::NoSuchGuest { instance })
    }

    /// A guest of which nothing is still to come.
    pub(super) fn complete(
        &mut self,
        instance: InstanceId,
        verb: Verb,
    ) -> Result<&mut SimGuest, VirtError> {
        let guest = self.existing(instance)?;
        match guest.passage {
            Passage::Expected => {
                let (power, operation) = (guest.power, verb.name());
                Err(VirtError::WrongPower { instance, power, operation })
            }
            _ => Ok(guest),
        }
    }
}

impl SimGuest {
    pub(super) fn new(size: Resources, spec: Option<GuestSpec>) -> Self {
        let (volumes, disk, passage) = (BTreeMap::new(), String::new(), Passage::None);
        Self {
            power: PowerState::Running,
            boot: 0,
            size,
            volumes,
            disk,
            passage,
            rescued: false,
            console: String::new(),
            nics: spec.as_ref().map(|spec| spec.nics.clone()).unwrap_or_default(),
            spec,
        }
    }

    /// The volume that is its root disk.
    pub(super) fn root(&self) -> Option<VolumeId> {
        self.spec.as_ref().and_then(|spec| spec.root)
    }

    /// Whether it has something to boot from.
    pub(super) fn has_root(&self, instance: InstanceId) -> Result<(), VirtError> {
        match self.root().filter(|root| !self.rescued && !self.volumes.contains_key(root)) {
            Some(volume) => Err(VirtError::NoRootVolume { instance, volume }),
            None => Ok(()),
        }
    }

    /// It begins from the start, and says so.
    pub(super) fn boots(&mut self) {
        self.console.push_str("the guest boots\n");
        let old = self.console.len().saturating_sub(CONSOLE_BYTES_MAX);
        self.console.drain(..old);
    }

    /// What it has can be changed: its memory, if that is on disk, counts on it.
    pub(super) fn changes(&self, instance: InstanceId, verb: Verb) -> Result<(), VirtError> {
        match self.power {
            power @ PowerState::Suspended => {
                Err(VirtError::WrongPower { instance, power, operation: verb.name() })
            }
            _ => Ok(()),
        }
    }

    /// What was being sent is not sent any more; what was to come may still come.
    pub(super) fn shut_down(&mut self) {
        self.power = PowerState::Shutdown;
        if self.passage != Passage::Expected {
            self.passage = Passage::None;
        }
    }

    pub(super) fn links(&self) -> Vec<VolumeLink> {
        let links = self.volumes.iter();
        let link = |(volume, connection): (&VolumeId, &Connection)| VolumeLink {
            volume: *volume,
            connection: connection.clone(),
        };
        links.map(link).collect()
    }

    fn describe(&self, instance: InstanceId) -> Guest {
        Guest {
            instance,
            power: self.power,
            boot: self.boot,
            volumes: self.volumes.keys().copied().collect(),
        }
    }
}

/// What a guest takes from its host, counted as its flavor is, so that a host is full exactly when
/// a scheduler that promises what exists thinks so.
pub(super) fn size(spec: &GuestSpec) -> Resources {
    let disk = spec.root_disk.saturating_add(spec.ephemeral_disk);
    Resources {
        vcpus: spec.vcpus,
        memory: spec.memory,
        disk: disk.saturating_add(spec.swap.to_gib_ceil()),
    }
}
