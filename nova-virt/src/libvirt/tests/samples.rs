//! A handful of guests that have everything that a guest can have, each a little of it.

use std::collections::{BTreeMap, BTreeSet};

use nova_core::domain::{
    Assigned, AssignedCells, CellFit, CpuPolicy, GiB, GuestCell, GuestTopology, Image,
    ImageContent, ImageFormat, ImageId, ImageProperties, ImageState, InstanceId, InterfaceName,
    Label, Mac, MiB, NumaFit, PciAddress, ProjectId, ServerName, Vcpus, VolumeId,
};
use nova_core::port::{GuestSpec, Nic};

use crate::domain::{Boot, CpuMode, CpuModel, DomainOptions, DomainSpec, Hypervisor};
use crate::libvirt::definition::{Extras, VolumeDisk, VolumeSource};
use crate::libvirt::record::Rescue;
use crate::libvirt::rescue::rescued;

/// A guest with a name.
pub(super) struct Sample {
    pub(super) name: &'static str,
    pub(super) domain: DomainSpec,
    pub(super) extras: Extras,
}

pub(super) const DIRECTORY: &str = "/var/lib/cloud";

fn image(format: ImageFormat) -> Image {
    Image {
        id: ImageId::from_u128(7),
        name: Label::new("image").unwrap(),
        owner: None,
        format,
        content: ImageContent { size_bytes: 1 << 20, sha256: "7".repeat(64) },
        min_memory: MiB::ZERO,
        min_disk: GiB::ZERO,
        properties: ImageProperties::default(),
        state: ImageState::Active,
        server: None,
    }
}

fn nic(last: u8) -> Nic {
    Nic {
        mac: Mac::new([0xfa, 0x16, 0x3e, 0, 0, last]).unwrap(),
        bridge: InterfaceName::new("br100").unwrap(),
        address: [10, 0, 0, last].into(),
    }
}

/// A small guest; containers start from an archive.
pub(super) fn guest(hypervisor: Hypervisor) -> GuestSpec {
    let container = hypervisor == Hypervisor::Lxc;
    GuestSpec {
        root: None,
        instance: InstanceId::from_u128(0xabc),
        project: ProjectId::new("project").unwrap(),
        name: ServerName::new("web-1").unwrap(),
        vcpus: Vcpus(1),
        memory: MiB(128),
        root_disk: GiB(1),
        ephemeral_disk: GiB::ZERO,
        swap: MiB::ZERO,
        image: image(if container { ImageFormat::RootfsTar } else { ImageFormat::Qcow2 }),
        nics: vec![nic(1)],
        public_key: None,
        assigned: Assigned::default(),
    }
}

pub(super) fn options(hypervisor: Hypervisor) -> DomainOptions {
    DomainOptions::new(hypervisor, DIRECTORY).unwrap()
}

pub(super) fn volume(number: u128, target: &str) -> VolumeDisk {
    let (volume, target) = (VolumeId::from_u128(number), target.to_owned());
    let source = match number % 2 {
        1 => VolumeSource::File(format!("/var/lib/volumes/{number}.volume")),
        _ => VolumeSource::Device(format!("/dev/cloud/volume-{number}")),
    };
    VolumeDisk { volume, source, target }
}

/// Two cells of two CPUs, on huge pages, and a device.
fn assigned() -> Assigned {
    let cell = |id: u32| GuestCell {
        id,
        memory: 512,
        dedicated_vcpus: BTreeSet::from([2 * id, 2 * id + 1]),
        cpu_policy: Some(CpuPolicy::Dedicated),
        ..GuestCell::default()
    };
    let fit = |id: u32| CellFit {
        host_cell: 1 - id,
        page_size_kb: Some(if id == 0 { 2048 } else { 4 }),
        pins: BTreeMap::from([(2 * id, 8 + 2 * id), (2 * id + 1, 9 + 2 * id)]),
    };
    let guest = GuestTopology { cells: vec![cell(0), cell(1)] };
    let cells = Some(AssignedCells { guest, fit: NumaFit { cells: vec![fit(0), fit(1)] } });
    Assigned { cells, devices: vec![PciAddress::new("0000:3b:00.1").unwrap()] }
}

pub(super) fn all() -> Vec<Sample> {
    use Hypervisor::{Kvm, Lxc, Qemu, Test};
    let derive =
        |guest: &GuestSpec, options: &DomainOptions| DomainSpec::derive(guest, options).unwrap();
    let plain = |hypervisor| derive(&guest(hypervisor), &options(hypervisor));
    let bare = Extras::default;

    let mut full = guest(Qemu);
    (full.ephemeral_disk, full.swap) = (GiB(2), MiB(64));
    full.nics.push(nic(2));
    let small = options(Qemu).with_translation_cache(MiB(32)).with_cpu(CpuMode::HostModel);
    let volumes = vec![volume(1, "vde"), volume(2, "vdf")];

    let kernel = Boot::Kernel {
        kernel: options(Qemu).base_of(&image(ImageFormat::Raw).content),
        ramdisk: Some(format!("{DIRECTORY}/base/{}.image", "8".repeat(64))),
        command_line: "console=ttyS0 root=/dev/vda \"quoted <&>\"".to_owned(),
    };

    let mut cells = guest(Kvm);
    (cells.vcpus, cells.memory, cells.assigned) = (Vcpus(4), MiB(1024), assigned());
    cells.image.properties = ImageProperties::new([("hw_machine_type", "q35")]).unwrap();
    let passthrough = options(Kvm).with_cpu(CpuMode::HostPassthrough);
    let model = CpuMode::Named(CpuModel::new("Nehalem").unwrap());

    let mut sata = guest(Kvm);
    sata.image.format = ImageFormat::Raw;
    let wishes = [("hw_disk_bus", "sata"), ("hw_vif_model", "e1000e"), ("hw_machine_type", "q35")];
    sata.image.properties = ImageProperties::new(wishes).unwrap();

    let mut agent = guest(Qemu);
    agent.image.properties = ImageProperties::new([("hw_qemu_guest_agent", "yes")]).unwrap();

    let rescue = Rescue { image: image(ImageFormat::Raw), kernel: None };
    let taken = ["vdb".to_owned()];
    let behind = rescued(plain(Qemu), &rescue, &options(Qemu), &taken);

    let mut on_volume = full.clone();
    on_volume.root = Some(VolumeId::from_u128(4));
    let on_volume = derive(&on_volume, &options(Qemu)).with_config_drive();
    // In the order of their ids, as they are kept.
    let its_volumes = vec![volume(3, "vde"), volume(4, "vda")];

    let mut two_cpus = guest(Lxc);
    two_cpus.vcpus = Vcpus(2);
    let users = Extras { first_user: Some(1_000_000), ..bare() };
    let confined = |extras: Extras| Extras { confined_by: Some("apparmor".to_owned()), ..extras };

    let sample = |name, domain, extras| Sample { name, domain, extras };
    vec![
        sample("qemu", plain(Qemu), bare()),
        sample(
            "qemu-full",
            derive(&full, &small).with_config_drive(),
            Extras { volumes, ..bare() },
        ),
        sample("qemu-kernel", plain(Qemu).booting(kernel), bare()),
        sample("qemu-rescue", behind, Extras { volumes: vec![volume(1, "vdb")], ..bare() }),
        sample("qemu-agent", derive(&agent, &options(Qemu)), bare()),
        sample("qemu-volume", on_volume, Extras { volumes: its_volumes, ..bare() }),
        sample("kvm", plain(Kvm), bare()),
        sample("kvm-confined", derive(&sata, &options(Kvm).with_cpu(model)), confined(bare())),
        sample("kvm-cells", derive(&cells, &passthrough), bare()),
        sample("lxc", plain(Lxc), bare()),
        // What confines machines is not for containers.
        sample("lxc-users", derive(&two_cpus, &options(Lxc)), confined(users)),
        sample("test", plain(Test), Extras { volumes: vec![volume(1, "vdb")], ..bare() }),
    ]
}
