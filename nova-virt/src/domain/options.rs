//! What all domains of a host have in common.

use nova_core::domain::{ImageContent, InstanceId, Invalid, MiB};

use super::device::{DiskBus, NicModel};

/// What executes a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Hypervisor {
    /// The processor itself, through the kernel.
    Kvm,
    /// QEMU, translating instructions: slow, everywhere.
    Qemu,
    /// The host's kernel: containers.
    Lxc,
    /// Nothing: libvirt's own driver for tests, which only remembers what it was told.
    Test,
}

impl Hypervisor {
    /// The word that hypervisors, image properties and filters use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Qemu => "qemu",
            Self::Lxc => "lxc",
            Self::Test => "test",
        }
    }

    /// What a guest of it starts: `hvm`, a whole machine, or `exe`, a program.
    pub const fn vm_mode(self) -> &'static str {
        match self {
            Self::Kvm | Self::Qemu | Self::Test => "hvm",
            Self::Lxc => "exe",
        }
    }
}

/// The machine that is emulated, such as `q35` or `pc-i440fx-7.2`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct MachineType(String);

impl MachineType {
    /// Checks `name`.
    ///
    /// # Errors
    /// [`Invalid`] unless it is 1 to 64 of `A-Z a-z 0-9 . _ -`, the first a letter or a digit.
    pub fn new(name: impl Into<String>) -> Result<Self, Invalid> {
        word("machine type", name.into()).map(Self)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The processor that a guest sees.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CpuMode {
    /// The host's, as far as it can be described, so that another host can be compared with it.
    HostModel,
    /// The host's, with all that it has: the fastest, and a guest can only go to a host that has
    /// the very same.
    HostPassthrough,
    /// A model of which several hosts have at least what it has.
    Named(CpuModel),
}

/// A processor that hypervisors know by name, such as `Skylake-Server`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct CpuModel(String);

impl CpuModel {
    /// Checks `name`.
    ///
    /// # Errors
    /// [`Invalid`] unless it is 1 to 64 of `A-Z a-z 0-9 . _ -`, the first a letter or a digit.
    pub fn new(name: impl Into<String>) -> Result<Self, Invalid> {
        word("cpu model", name.into()).map(Self)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn word(field: &'static str, name: String) -> Result<String, Invalid> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins && name.len() <= 64 && name.bytes().all(good) {
        Ok(name)
    } else {
        let allowed = "1 to 64 of A-Z, a-z, 0-9 and ._-, the first a letter or a digit";
        Err(Invalid::new(field, name, allowed))
    }
}

/// How a host defines its guests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainOptions {
    hypervisor: Hypervisor,
    directory: String,
    disk_bus: DiskBus,
    nic_model: NicModel,
    machine: Option<MachineType>,
    cpu: Option<CpuMode>,
    translation_cache: Option<MiB>,
    shared: Option<String>,
}

impl DomainOptions {
    /// The longest path of a directory, in bytes; what is put below it must still be a path.
    pub const DIRECTORY_BYTES_MAX: usize = 3072;

    /// Guests of `hypervisor` with their files below `directory`: bases of images in `base`, what
    /// belongs to a guest in `instances/<id>`. Virtio disks and interfaces, the hypervisor's
    /// default machine.
    ///
    /// # Errors
    /// [`Invalid`] unless the directory is an absolute path without `.`, `..`, empty parts and
    /// control characters.
    pub fn new(hypervisor: Hypervisor, directory: impl Into<String>) -> Result<Self, Invalid> {
        let directory = plain("domain.directory", directory.into())?;
        let (disk_bus, nic_model) = (DiskBus::Virtio, NicModel::Virtio);
        let (machine, cpu, translation_cache, shared) = (None, None, None, None);
        Ok(Self {
            hypervisor,
            directory,
            disk_bus,
            nic_model,
            machine,
            cpu,
            translation_cache,
            shared,
        })
    }

    /// Puts the disks of guests below this directory instead, which other hosts reach by the same
    /// path: an NFS mount, say. Whole machines only.
    ///
    /// # Errors
    /// [`Invalid`] as for [`new`](Self::new).
    pub fn with_shared(self, directory: impl Into<String>) -> Result<Self, Invalid> {
        Ok(Self { shared: Some(plain("domain.shared", directory.into())?), ..self })
    }

    /// Plugs disks into this bus, where the image does not ask for another.
    #[must_use]
    pub fn with_disk_bus(mut self, bus: DiskBus) -> Self {
        self.disk_bus = bus;
        self
    }

    /// Emulates this network card, where the image does not ask for another.
    #[must_use]
    pub fn with_nic_model(mut self, model: NicModel) -> Self {
        self.nic_model = model;
        self
    }

    /// Emulates this machine, where the image does not ask for another.
    #[must_use]
    pub fn with_machine(mut self, machine: MachineType) -> Self {
        self.machine = Some(machine);
        self
    }

    /// Shows guests this processor, instead of [`CpuMode::HostModel`] under KVM and the
    /// hypervisor's default under QEMU. Nothing else has one of its own, and QEMU cannot show what
    /// it does not execute on: [`DomainSpec::derive`](super::DomainSpec::derive) refuses those.
    #[must_use]
    pub fn with_cpu(mut self, cpu: CpuMode) -> Self {
        self.cpu = Some(cpu);
        self
    }

    /// Lets QEMU keep at most so much of translated instructions for each guest, beside the guest's
    /// memory: at least 1 MiB, and less is slower. Nothing else translates, and
    /// [`DomainSpec::derive`](super::DomainSpec::derive) refuses it there.
    #[must_use]
    pub fn with_translation_cache(mut self, size: MiB) -> Self {
        self.translation_cache = Some(size);
        self
    }

    /// What executes the guests.
    pub fn hypervisor(&self) -> Hypervisor {
        self.hypervisor
    }

    pub(super) fn disk_bus(&self) -> DiskBus {
        self.disk_bus
    }

    pub(super) fn nic_model(&self) -> NicModel {
        self.nic_model
    }

    pub(super) fn machine(&self) -> Option<&MachineType> {
        self.machine.as_ref()
    }

    /// The processor that guests see, if they see another than the hypervisor's default.
    pub(super) fn cpu(&self) -> Result<Option<CpuMode>, Invalid> {
        let allowed = match (self.hypervisor, &self.cpu) {
            (Hypervisor::Kvm, cpu) => return Ok(Some(cpu.clone().unwrap_or(CpuMode::HostModel))),
            (_, None) => return Ok(None),
            (Hypervisor::Qemu, Some(CpuMode::HostPassthrough)) => {
                "a model: instructions are translated, whatever the host executes"
            }
            (Hypervisor::Qemu, Some(cpu)) => return Ok(Some(cpu.clone())),
            (Hypervisor::Lxc | Hypervisor::Test, Some(_)) => "none: guests have no other processor",
        };
        Err(Invalid::new("domain.cpu", format!("{:?}", self.cpu), allowed))
    }

    pub(super) fn translation_cache(&self) -> Result<Option<MiB>, Invalid> {
        match self.translation_cache {
            Some(size) if self.hypervisor != Hypervisor::Qemu || size == MiB::ZERO => {
                let allowed = "at least 1 MiB, for guests of QEMU";
                Err(Invalid::new("domain.translation_cache", size, allowed))
            }
            cache => Ok(cache),
        }
    }

    /// The directory of disks that other hosts reach as well.
    pub fn shared(&self) -> Option<&str> {
        self.shared.as_deref()
    }

    /// The directory of what belongs to guests.
    pub fn homes(&self) -> String {
        format!("{}/instances", self.directory)
    }

    /// The directory of everything that belongs to a guest.
    pub fn home_of(&self, instance: InstanceId) -> String {
        format!("{}/{instance}", self.homes())
    }

    /// The directory of images, which is an [image cache](crate::cache)'s.
    pub fn bases(&self) -> String {
        format!("{}/base", self.directory)
    }

    /// The file of an image, which root disks lie over.
    pub fn base_of(&self, content: &ImageContent) -> String {
        format!("{}/{}.image", self.bases(), content.sha256)
    }
}

/// A path that means the same to everybody who is told it.
fn plain(field: &'static str, directory: String) -> Result<String, Invalid> {
    let part = |part: &str| !["", ".", ".."].contains(&part);
    let plain = !directory.chars().any(char::is_control)
        && directory.len() <= DomainOptions::DIRECTORY_BYTES_MAX
        && directory.strip_prefix('/').is_some_and(|rest| rest.split('/').all(part));
    let allowed = "an absolute path without '.', '..', empty parts, control characters";
    if plain { Ok(directory) } else { Err(Invalid::new(field, directory, allowed)) }
}
