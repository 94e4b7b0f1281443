//! A guest as a hypervisor would define it, as a value.
//!
//! [`DomainSpec::derive`] turns what the cloud says of a guest ([`GuestSpec`]) into what a
//! hypervisor is told: disks with target names, interfaces with the names of their taps, a
//! console. It is a plain function; it opens no file and asks no hypervisor, and two equal guests
//! on hosts with equal options are defined equally. Nothing here writes XML.

mod device;
mod options;

use nova_core::domain::{
    Assigned, Flavor, GiB, ImageFormat, InstanceId, InterfaceName, Invalid, MiB, ProjectId,
    ServerName, Vcpus, VolumeId,
};
use nova_core::port::{AGENT_PROPERTY, GuestSpec, Nic};

pub use self::device::{
    Backing, Boot, Console, Disk, DiskBus, DiskFormat, DiskRole, Interface, NicModel, RootFs,
};
pub use self::options::{CpuMode, CpuModel, DomainOptions, Hypervisor, MachineType};

/// A definition of one guest, complete and consistent: targets, taps and MACs are each used once.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DomainSpec {
    hypervisor: Hypervisor,
    instance: InstanceId,
    project: ProjectId,
    title: ServerName,
    vcpus: Vcpus,
    memory: MiB,
    machine: Option<MachineType>,
    cpu: Option<CpuMode>,
    translation_cache: Option<MiB>,
    boot: Boot,
    disks: Vec<Disk>,
    root_fs: Option<RootFs>,
    interfaces: Vec<Interface>,
    console: Console,
    agent: bool,
    assigned: Assigned,
    /// The folder of its files.
    #[serde(skip)]
    folder: String,
    /// What disks are plugged into; none in a container.
    #[serde(skip)]
    bus: Option<DiskBus>,
    /// The volume that is its root disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    root: Option<VolumeId>,
}

impl DomainSpec {
    /// The most interfaces of one guest.
    pub const INTERFACES_MAX: usize = 32;

    /// What `guest` is on a host with these options.
    ///
    /// The image's properties `hw_disk_bus`, `hw_vif_model` and `hw_machine_type` go before the
    /// host's options; with `hw_qemu_guest_agent` a machine has a channel to an agent. A container's
    /// root file system is unpacked from its image, and it has no other disk. The first target of a
    /// guest whose root disk is a volume is kept for that.
    ///
    /// ```
    /// # use nova_core::port::GuestSpec;
    /// # use nova_core::domain::Invalid;
    /// use nova_virt::domain::{DomainOptions, DomainSpec, Hypervisor};
    ///
    /// # fn show(guest: &GuestSpec) -> Result<(), Invalid> {
    /// let options = DomainOptions::new(Hypervisor::Qemu, "/var/lib/cloud")?;
    /// let domain = DomainSpec::derive(guest, &options)?;
    /// assert_eq!(domain.disks()[0].target, "vda");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Invalid`] names what cannot be: no CPU or no memory, more than a flavor may have, less
    /// than the image needs, an image of a format that this hypervisor does not start, a property
    /// with an unknown value, a container on a volume, more disks than the bus takes, a MAC twice, too many interfaces, options
    /// that the hypervisor has no use for.
    pub fn derive(guest: &GuestSpec, options: &DomainOptions) -> Result<Self, Invalid> {
        check_size(guest)?;
        let container = options.hypervisor() == Hypervisor::Lxc;
        check_image(guest, container)?;
        let home = options.home_of(guest.instance);
        let bus = match guest.image.properties.get("hw_disk_bus") {
            _ if container => None,
            Some(bus) => Some(bus.parse()?),
            None => Some(options.disk_bus()),
        };
        let (boot, disks, root_fs) = match bus {
            None => {
                let root_fs = RootFs { source: format!("{home}/rootfs"), target: "/".to_owned() };
                (Boot::Init { path: "/sbin/init".to_owned() }, Vec::new(), Some(root_fs))
            }
            Some(bus) => (Boot::Disk, disks(guest, options, (bus, &home))?, None),
        };
        let machine = match guest.image.properties.get("hw_machine_type") {
            _ if container => None,
            Some(machine) => Some(MachineType::new(machine)?),
            None => options.machine().cloned(),
        };
        let log = format!("{home}/console.log");
        Ok(Self {
            hypervisor: options.hypervisor(),
            instance: guest.instance,
            project: guest.project.clone(),
            title: guest.name.clone(),
            vcpus: guest.vcpus,
            memory: guest.memory,
            machine,
            cpu: options.cpu()?,
            translation_cache: options.translation_cache()?,
            boot,
            disks,
            root_fs,
            interfaces: interfaces(guest, options, container)?,
            console: if container { Console::Container { log } } else { Console::Serial { log } },
            agent: !container && guest.image.properties.says(AGENT_PROPERTY)?,
            assigned: guest.assigned.clone(),
            folder: home,
            bus,
            root: guest.root,
        })
    }

    /// The same guest, started otherwise than from its root disk.
    #[must_use]
    pub fn booting(mut self, boot: Boot) -> Self {
        self.boot = boot;
        self
    }

    /// The same guest on the machine that it was first started on.
    #[must_use]
    pub fn on_machine(mut self, machine: MachineType) -> Self {
        self.machine = Some(machine);
        self
    }

    /// The same guest with another disk in place of its first, which comes second, beside the
    /// targets `taken`; it has no others.
    #[must_use]
    pub fn behind(mut self, first: Disk, taken: &[String]) -> Self {
        let second = self.disks.first().filter(|disk| disk.role == DiskRole::Root).cloned();
        self.disks = vec![first];
        // A volume is no disk of its own: whoever plugs it in finds its place taken.
        self.root = None;
        if let Some((root, target)) = second.zip(self.free_target(taken)) {
            self.disks.push(Disk { target, ..root });
        }
        self
    }

    /// What the name of a config drive's file ends with, after that of the root disk.
    pub(crate) const CONFIG_DRIVE: &str = ".config";

    /// The same guest with a config drive after its own disks, on the same bus, so that whoever
    /// reads the system can read it; none where there is no room, as in a container.
    #[must_use]
    pub fn with_config_drive(mut self) -> Self {
        if let Some((bus, target)) = self.bus.zip(self.free_target(&[])) {
            let path = self.beside_root(Self::CONFIG_DRIVE);
            let (role, format) = (DiskRole::Config, DiskFormat::Raw);
            let (size_bytes, backing) = (None, None);
            self.disks.push(Disk { role, target, bus, path, format, size_bytes, backing });
        }
        self
    }

    /// The same guest with its disks in another folder.
    #[must_use]
    pub fn with_disks_in(mut self, folder: &str) -> Self {
        for disk in &mut self.disks {
            let file = disk.path.rsplit('/').next().unwrap_or_default();
            disk.path = format!("{folder}/{file}");
        }
        folder.clone_into(&mut self.folder);
        self
    }

    /// The file of a disk that stands in for the root disk, or is there for its sake.
    pub(crate) fn beside_root(&self, ending: &str) -> String {
        format!("{}/{ROOT_DISK}{ending}", self.folder)
    }

    /// What executes it.
    pub fn hypervisor(&self) -> Hypervisor {
        self.hypervisor
    }

    /// The guest's id, which is also the domain's UUID.
    pub fn instance(&self) -> InstanceId {
        self.instance
    }

    /// The domain's name; see [`name_of`](Self::name_of).
    pub fn name(&self) -> String {
        Self::name_of(self.instance)
    }

    /// The name of a guest's domain: `nova-` and the id, so that no server's name can meet
    /// another's, and a host's other domains are told from a cloud's.
    pub fn name_of(instance: InstanceId) -> String {
        format!("nova-{instance}")
    }

    /// Whose it is.
    pub fn project(&self) -> &ProjectId {
        &self.project
    }

    /// The server's name, for people who list domains.
    pub fn title(&self) -> &ServerName {
        &self.title
    }

    /// Virtual CPUs, at least one.
    pub fn vcpus(&self) -> Vcpus {
        self.vcpus
    }

    /// Memory, at least one mebibyte.
    pub fn memory(&self) -> MiB {
        self.memory
    }

    /// The machine that is emulated; none means the hypervisor's default.
    pub fn machine(&self) -> Option<&MachineType> {
        self.machine.as_ref()
    }

    /// The processor that it sees; none means the hypervisor's default, or no other than the
    /// host's.
    pub fn cpu(&self) -> Option<&CpuMode> {
        self.cpu.as_ref()
    }

    /// How much of translated instructions is kept; none means the hypervisor's default.
    pub fn translation_cache(&self) -> Option<MiB> {
        self.translation_cache
    }

    /// What is started first.
    pub fn boot(&self) -> &Boot {
        &self.boot
    }

    /// The disks that are files of the host, root first, then ephemeral, then swap; none in a
    /// container.
    pub fn disks(&self) -> &[Disk] {
        &self.disks
    }

    /// The volume that is the root disk; it is plugged in as [`root_target`](Self::root_target).
    pub fn root(&self) -> Option<VolumeId> {
        self.root
    }

    /// The target of the root disk; none in a container.
    pub fn root_target(&self) -> Option<String> {
        self.bus.and_then(|bus| bus.target(0))
    }

    /// What disks are plugged into; none in a container.
    pub fn bus(&self) -> Option<DiskBus> {
        self.bus
    }

    /// A container's root file system.
    pub fn root_fs(&self) -> Option<&RootFs> {
        self.root_fs.as_ref()
    }

    /// The interfaces, in the guest's order.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// Which of the host's NUMA cells, CPUs and devices it has.
    pub fn assigned(&self) -> &Assigned {
        &self.assigned
    }

    /// Where the guest's console goes.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// Whether it has a channel to an agent inside it.
    pub fn has_agent(&self) -> bool {
        self.agent
    }

    /// The target of the next disk that is plugged in, beside the guest's own and those `taken`;
    /// none when the bus is full or there is none, as in a container.
    pub fn free_target(&self, taken: &[String]) -> Option<String> {
        let bus = self.bus?;
        let kept = self.root.and_then(|_| self.root_target());
        let used = |target: &String| {
            let own = self.disks.iter().any(|disk| disk.target == *target);
            own || taken.contains(target) || kept.as_ref() == Some(target)
        };
        (0..bus.disks_max()).filter_map(|index| bus.target(index)).find(|target| !used(target))
    }
}

fn check_size(guest: &GuestSpec) -> Result<(), Invalid> {
    if guest.vcpus == Vcpus::ZERO || guest.vcpus > Flavor::VCPUS_MAX {
        return Err(Invalid::new("guest.vcpus", guest.vcpus.0, "1 to 4096"));
    }
    if guest.memory == MiB::ZERO || guest.memory > Flavor::MEMORY_MAX {
        return Err(Invalid::new("guest.memory", guest.memory, "1 MiB to 64 TiB"));
    }
    if guest.swap > Flavor::MEMORY_MAX {
        return Err(Invalid::new("guest.swap", guest.swap, "at most 64 TiB"));
    }
    for (field, size) in
        [("guest.root_disk", guest.root_disk), ("guest.ephemeral_disk", guest.ephemeral_disk)]
    {
        if size > Flavor::DISK_MAX {
            return Err(Invalid::new(field, size, "at most 1 PiB"));
        }
    }
    Ok(())
}

fn check_image(guest: &GuestSpec, container: bool) -> Result<(), Invalid> {
    let image = &guest.image;
    if let Some(volume) = guest.root.filter(|_| container) {
        return Err(Invalid::new("guest.root", volume, "none: a container boots from no volume"));
    }
    let archive = image.format == ImageFormat::RootfsTar;
    if container != archive {
        let allowed = if container { "an archive of a root file system" } else { "a disk" };
        return Err(Invalid::new("image.format", format!("{:?}", image.format), allowed));
    }
    let sha256 = &image.content.sha256;
    if !crate::cache::is_checksum(sha256) {
        // It names a file.
        return Err(Invalid::new("image.content.sha256", sha256, "64 lower-case hex digits"));
    }
    if guest.memory < image.min_memory {
        let allowed = "at least what the image needs";
        return Err(Invalid::new("guest.memory", guest.memory, allowed));
    }
    if container {
        for (field, disk) in [
            ("guest.ephemeral_disk", guest.ephemeral_disk),
            ("guest.swap", guest.swap.to_gib_ceil()),
        ] {
            if disk > GiB::ZERO {
                return Err(Invalid::new(field, disk, "none: a container has no second disk"));
            }
        }
    }
    // A root disk of zero is as large as the image.
    let too_small = guest.root_disk < image.min_disk
        || (image.format == ImageFormat::Raw
            && guest.root_disk.to_bytes() < image.content.size_bytes);
    if guest.root_disk > GiB::ZERO && too_small {
        let allowed = "zero, or at least the size and the least disk of the image";
        return Err(Invalid::new("guest.root_disk", guest.root_disk, allowed));
    }
    Ok(())
}

/// The name of the root disk's file.
const ROOT_DISK: &str = "disk";

fn disks(
    guest: &GuestSpec,
    options: &DomainOptions,
    (bus, home): (DiskBus, &str),
) -> Result<Vec<Disk>, Invalid> {
    let base = Backing {
        path: options.base_of(&guest.image.content),
        format: DiskFormat::of(guest.image.format),
    };
    let root = (guest.root_disk > GiB::ZERO).then(|| guest.root_disk.to_bytes());
    let mut wanted = vec![(DiskRole::Root, ROOT_DISK, DiskFormat::Qcow2, root, Some(base))];
    if guest.ephemeral_disk > GiB::ZERO {
        let size = Some(guest.ephemeral_disk.to_bytes());
        wanted.push((DiskRole::Ephemeral, "disk.ephemeral", DiskFormat::Raw, size, None));
    }
    if guest.swap > MiB::ZERO {
        let size = Some(guest.swap.0.saturating_mul(1 << 20));
        wanted.push((DiskRole::Swap, "disk.swap", DiskFormat::Raw, size, None));
    }
    // A volume in its place is plugged in by whoever knows how the host reaches it.
    let skipped = usize::from(guest.root.is_some());
    let numbered = wanted.into_iter().enumerate().skip(skipped);
    let disks = numbered.map(|(index, (role, file, format, size_bytes, backing))| {
        let full = || Invalid::new("guest.disks", index + 1, "as many as the bus takes");
        let target = bus.target(index).ok_or_else(full)?;
        Ok(Disk { role, target, bus, path: format!("{home}/{file}"), format, size_bytes, backing })
    });
    disks.collect()
}

fn interfaces(
    guest: &GuestSpec,
    options: &DomainOptions,
    container: bool,
) -> Result<Vec<Interface>, Invalid> {
    if guest.nics.len() > DomainSpec::INTERFACES_MAX {
        return Err(Invalid::new("guest.nics", guest.nics.len(), "at most 32"));
    }
    let model = match guest.image.properties.get("hw_vif_model") {
        _ if container => None,
        Some(model) => Some(model.parse()?),
        None => Some(options.nic_model()),
    };
    let mut interfaces: Vec<Interface> = Vec::with_capacity(guest.nics.len());
    for Nic { mac, bridge, address } in &guest.nics {
        if interfaces.iter().any(|before| before.mac == *mac) {
            return Err(Invalid::new("guest.nics.mac", mac, "an address that no other nic has"));
        }
        interfaces.push(Interface {
            tap: InterfaceName::of_port(*mac),
            mac: *mac,
            bridge: *bridge,
            address: *address,
            model,
        });
    }
    Ok(interfaces)
}

#[cfg(test)]
mod tests;
