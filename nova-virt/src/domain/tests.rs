use nova_core::domain::{Image, ImageContent, ImageId, ImageProperties, ImageState, Label};

use super::*;

fn guest(change: impl FnOnce(&mut GuestSpec)) -> GuestSpec {
    let mut guest = GuestSpec {
        root: None,
        instance: InstanceId::from_u128(0xabc),
        project: ProjectId::new("p").unwrap(),
        name: ServerName::new("web").unwrap(),
        vcpus: Vcpus(2),
        memory: MiB(512),
        root_disk: GiB(10),
        ephemeral_disk: GiB(0),
        swap: MiB(0),
        image: Image {
            id: ImageId::from_u128(7),
            name: Label::new("i").unwrap(),
            owner: None,
            format: ImageFormat::Qcow2,
            content: ImageContent { size_bytes: 3 << 30, sha256: "0".repeat(64) },
            min_memory: MiB(0),
            min_disk: GiB(0),
            properties: ImageProperties::default(),
            state: ImageState::Active,
            server: None,
        },
        nics: Vec::new(),
        public_key: None,
        assigned: Default::default(),
    };
    change(&mut guest);
    guest
}

fn nic(last: u8) -> Nic {
    Nic {
        mac: nova_core::domain::Mac::new([0xfa, 0x16, 0x3e, 0, 0, last]).unwrap(),
        bridge: InterfaceName::new("br100").unwrap(),
        address: [10, 0, 0, last].into(),
    }
}

fn derive(hypervisor: Hypervisor, guest: &GuestSpec) -> Result<DomainSpec, Invalid> {
    DomainSpec::derive(guest, &DomainOptions::new(hypervisor, "/srv/cloud")?)
}

/// The domain of the guest after `change` is refused for `field`; none means it is not.
#[track_caller]
fn refused(hypervisor: Hypervisor, field: Option<&str>, change: impl FnOnce(&mut GuestSpec)) {
    let result = derive(hypervisor, &guest(change));
    assert_eq!(result.err().map(|error| error.field), field);
}

fn property(key: &str, value: &str) -> ImageProperties {
    ImageProperties::new([(key, value)]).unwrap()
}

#[test]
fn disks_are_root_ephemeral_swap_with_targets_in_a_row() {
    let guest = guest(|g| (g.ephemeral_disk, g.swap) = (GiB(1), MiB(3)));
    let domain = derive(Hypervisor::Kvm, &guest).unwrap();
    let disks: Vec<_> =
        domain.disks().iter().map(|d| (d.role, d.target.as_str(), d.size_bytes)).collect();
    let expected = [
        (DiskRole::Root, "vda", Some(10 << 30)),
        (DiskRole::Ephemeral, "vdb", Some(1 << 30)),
        (DiskRole::Swap, "vdc", Some(3 << 20)),
    ];
    assert_eq!(disks, expected);
    assert_eq!(domain.free_target(&["vdd".to_owned()]).as_deref(), Some("vde"));
}

#[test]
fn a_root_disk_lies_over_the_image_in_its_stated_format() {
    for (format, expected) in
        [(ImageFormat::Raw, DiskFormat::Raw), (ImageFormat::Qcow2, DiskFormat::Qcow2)]
    {
        let domain = derive(Hypervisor::Qemu, &guest(|g| g.image.format = format)).unwrap();
        let root = &domain.disks()[0];
        let home = "/srv/cloud/instances/00000000-0000-0000-0000-000000000abc";
        assert_eq!(root.path, format!("{home}/disk"));
        assert_eq!(root.format, DiskFormat::Qcow2);
        let sha256 = &guest(|_| ()).image.content.sha256;
        let path = format!("/srv/cloud/base/{sha256}.image");
        assert_eq!(root.backing, Some(Backing { path, format: expected }));
        assert_eq!(domain.console(), &Console::Serial { log: format!("{home}/console.log") });
    }
}

#[test]
fn a_root_disk_of_zero_is_as_large_as_its_image() {
    let domain = derive(Hypervisor::Qemu, &guest(|g| g.root_disk = GiB(0))).unwrap();
    assert_eq!(domain.disks()[0].size_bytes, None);
}

#[test]
fn an_image_chooses_bus_card_and_machine_before_the_host_does() {
    let options = DomainOptions::new(Hypervisor::Qemu, "/x").unwrap();
    let options = options.with_disk_bus(DiskBus::Sata).with_nic_model(NicModel::E1000e);
    let options = options.with_machine(MachineType::new("q35").unwrap());
    let show = |properties| {
        let guest = guest(|g| (g.image.properties, g.nics) = (properties, vec![nic(1)]));
        let domain = DomainSpec::derive(&guest, &options).unwrap();
        let (target, model) = (domain.disks()[0].target.clone(), domain.interfaces()[0].model);
        (target, model, domain.machine().map(|m| m.as_str().to_owned()))
    };
    let host = ("sda".to_owned(), Some(NicModel::E1000e), Some("q35".to_owned()));
    assert_eq!(show(ImageProperties::default()), host);
    let wishes = [("hw_disk_bus", "ide"), ("hw_vif_model", "rtl8139"), ("hw_machine_type", "pc")];
    let image = ("hda".to_owned(), Some(NicModel::Rtl8139), Some("pc".to_owned()));
    assert_eq!(show(ImageProperties::new(wishes).unwrap()), image);
}

#[test]
fn taps_are_named_from_their_addresses() {
    let domain = derive(Hypervisor::Qemu, &guest(|g| g.nics = vec![nic(1), nic(0xab)])).unwrap();
    let taps: Vec<&str> = domain.interfaces().iter().map(|i| i.tap.as_str()).collect();
    assert_eq!(taps, ["tapfa163e000001", "tapfa163e0000ab"]);
}

#[test]
fn a_container_has_a_root_file_system_and_no_disk() {
    let tar = guest(|g| (g.image.format, g.nics) = (ImageFormat::RootfsTar, vec![nic(1)]));
    let domain = derive(Hypervisor::Lxc, &tar).unwrap();
    assert!(domain.disks().is_empty());
    assert_eq!(domain.free_target(&[]), None);
    assert_eq!(domain.boot(), &Boot::Init { path: "/sbin/init".to_owned() });
    assert_eq!(domain.root_fs().map(|fs| fs.target.as_str()), Some("/"));
    assert_eq!(domain.interfaces()[0].model, None);
}

#[test]
fn what_cannot_be_is_named() {
    use Hypervisor::{Lxc, Qemu};
    refused(Qemu, None, |_| ());
    refused(Qemu, Some("guest.vcpus"), |g| g.vcpus = Vcpus(0));
    refused(Qemu, Some("guest.vcpus"), |g| g.vcpus = Vcpus(4097));
    refused(Qemu, Some("guest.memory"), |g| g.memory = MiB(0));
    refused(Qemu, Some("guest.memory"), |g| g.memory = MiB(u64::MAX));
    refused(Qemu, Some("guest.memory"), |g| g.image.min_memory = MiB(513));
    refused(Qemu, Some("guest.swap"), |g| g.swap = MiB(u64::MAX));
    refused(Qemu, Some("guest.root_disk"), |g| g.root_disk = GiB(u64::MAX));
    refused(Qemu, Some("guest.root_disk"), |g| g.image.min_disk = GiB(11));
    refused(Qemu, Some("guest.root_disk"), |g| {
        (g.image.format, g.root_disk) = (ImageFormat::Raw, GiB(2));
    });
    refused(Qemu, Some("guest.ephemeral_disk"), |g| g.ephemeral_disk = GiB(u64::MAX));
    refused(Qemu, Some("guest.nics"), |g| g.nics = (0..33).map(nic).collect());
    refused(Qemu, Some("guest.nics.mac"), |g| g.nics = vec![nic(1), nic(1)]);
    refused(Qemu, Some("image.content.sha256"), |g| g.image.content.sha256 = "../x".to_owned());
    refused(Qemu, Some("image.format"), |g| g.image.format = ImageFormat::RootfsTar);
    refused(Lxc, Some("image.format"), |_| ());
    let container = |g: &mut GuestSpec| g.image.format = ImageFormat::RootfsTar;
    refused(Lxc, Some("guest.swap"), |g| (container(g), g.swap = MiB(1)).1);
    refused(Lxc, Some("guest.ephemeral_disk"), |g| (container(g), g.ephemeral_disk = GiB(1)).1);
}

#[test]
fn a_hostile_property_is_refused_and_never_passed_on() {
    for (key, field) in [
        ("hw_disk_bus", "image.hw_disk_bus"),
        ("hw_vif_model", "image.hw_vif_model"),
        ("hw_machine_type", "machine type"),
    ] {
        for value in ["", "virtio'/>", "../x", "VIRTIO ", "a b"] {
            refused(Hypervisor::Qemu, Some(field), |g| {
                // A card that no interface has is refused as well.
                g.image.properties = property(key, value);
            });
        }
    }
}

#[test]
fn a_directory_is_absolute_and_plain() {
    for bad in ["", "/", "x", "/a/../b", "/a/./b", "/a//b", "/a/", "/a\nb", &"/x".repeat(2000)] {
        let options = DomainOptions::new(Hypervisor::Kvm, bad);
        assert_eq!(options.map_err(|e| e.field), Err("domain.directory"), "{bad:?}");
    }
}

#[test]
fn targets_go_on_with_two_letters_and_end_where_the_bus_does() {
    let name = |bus: DiskBus, index| bus.target(index);
    assert_eq!(name(DiskBus::Virtio, 25).as_deref(), Some("vdz"));
    assert_eq!(name(DiskBus::Virtio, 26).as_deref(), Some("vdaa"));
    assert_eq!(name(DiskBus::Scsi, 701).as_deref(), Some("sdzz"));
    assert_eq!(name(DiskBus::Virtio, 702), None);
    assert_eq!(name(DiskBus::Ide, 4), None);
}

#[test]
fn a_processor_and_a_translation_cache_are_refused_where_there_is_none() {
    use Hypervisor::{Kvm, Lxc, Qemu, Test};
    let check = |hypervisor, change: &dyn Fn(DomainOptions) -> DomainOptions| {
        let guest = guest(|g| {
            if hypervisor == Lxc {
                g.image.format = ImageFormat::RootfsTar;
            }
        });
        let options = change(DomainOptions::new(hypervisor, "/srv/cloud").unwrap());
        let domain = DomainSpec::derive(&guest, &options).map_err(|error| error.field)?;
        Ok((domain.cpu().cloned(), domain.translation_cache()))
    };
    let plain = |options| options;
    assert_eq!(check(Kvm, &plain), Ok((Some(CpuMode::HostModel), None)));
    for hypervisor in [Qemu, Lxc, Test] {
        assert_eq!(check(hypervisor, &plain), Ok((None, None)));
    }
    let named = CpuMode::Named(CpuModel::new("Skylake-Server").unwrap());
    for mode in [CpuMode::HostModel, CpuMode::HostPassthrough, named] {
        let with = |options: DomainOptions| options.with_cpu(mode.clone());
        assert_eq!(check(Kvm, &with), Ok((Some(mode.clone()), None)));
        let translated = match mode {
            CpuMode::HostPassthrough => Err("domain.cpu"),
            _ => Ok((Some(mode.clone()), None)),
        };
        assert_eq!(check(Qemu, &with), translated);
        assert_eq!(check(Lxc, &with), Err("domain.cpu"));
        assert_eq!(check(Test, &with), Err("domain.cpu"));
    }
    let cache = |size| move |options: DomainOptions| options.with_translation_cache(MiB(size));
    assert_eq!(check(Qemu, &cache(32)), Ok((None, Some(MiB(32)))));
    assert_eq!(check(Qemu, &cache(0)), Err("domain.translation_cache"));
    for hypervisor in [Kvm, Lxc, Test] {
        assert_eq!(check(hypervisor, &cache(32)), Err("domain.translation_cache"));
    }
}

#[test]
fn a_volume_that_is_the_root_disk_has_the_first_target_and_no_file() {
    let on_volume = guest(|g| {
        g.root = Some(VolumeId::from_u128(9));
        (g.root_disk, g.ephemeral_disk, g.swap) = (GiB(0), GiB(5), MiB(64));
    });
    let domain = derive(Hypervisor::Qemu, &on_volume).unwrap().with_config_drive();
    let disks: Vec<_> = domain.disks().iter().map(|d| (d.role, d.target.as_str())).collect();
    let expected =
        [(DiskRole::Ephemeral, "vdb"), (DiskRole::Swap, "vdc"), (DiskRole::Config, "vdd")];
    assert_eq!(disks, expected);
    assert!(domain.disks().iter().all(|disk| disk.backing.is_none()), "{disks:?}");
    assert_eq!(domain.root(), on_volume.root);
    assert_eq!(domain.root_target().as_deref(), Some("vda"));
    assert_eq!(domain.free_target(&[]).as_deref(), Some("vde"));
    let alone = guest(|g| (g.root, g.root_disk) = (on_volume.root, GiB(0)));
    let alone = derive(Hypervisor::Qemu, &alone).unwrap();
    assert!(alone.disks().is_empty());
    assert_eq!(alone.free_target(&[]).as_deref(), Some("vdb"));
    refused(Hypervisor::Lxc, Some("guest.root"), |g| {
        g.image.format = ImageFormat::RootfsTar;
        g.root = Some(VolumeId::from_u128(9));
    });
}
