//! The world that the tests run in.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "libvirt-native")]
use nova_core::clock::ClockExt as _;
use nova_core::clock::SystemClock;
use nova_core::conformance::virt::{Plant, Subject};
use nova_core::domain::{
    GiB, Image, ImageFormat, ImageId, ImageProperties, ImageState, InstanceId, InterfaceName,
    Label, Mac, MiB, ProjectId, ServerName, Vcpus, VolumeId,
};
use nova_core::memory::MemoryImages;
#[cfg(feature = "libvirt-native")]
use nova_core::port::ReadConsoles as _;
use nova_core::port::{Connection, GuestSpec, ImageStore, Nic, VolumeLink};
use nova_virt::domain::{DomainOptions, DomainSpec, Hypervisor};
use nova_virt::libvirt::{LibvirtHost, Libvirtd};

/// A folder that ends with this world.
pub(crate) fn folder(name: &str) -> PathBuf {
    let number: u64 = std::fs::read_dir("/run/lab").map_or(0, |all| all.count() as u64);
    let made = tempfile::Builder::new().prefix(&format!("{name}-{number}-")).tempdir_in("/run/lab");
    made.unwrap().keep()
}

/// The files of the guest that `examples/guest/build` makes.
pub(crate) fn guest_file(name: &str) -> PathBuf {
    let folder = std::env::var_os("NOVA_GUEST").expect("NOVA_GUEST names the guest's folder");
    Path::new(&folder).join(name)
}

/// Whether this is such a world; says which test is skipped otherwise.
pub(crate) fn is_here(test: &str) -> bool {
    let here = std::env::var_os("NOVA_VIRT_LAB").is_some();
    if !here {
        eprintln!("skipped {test}: not in a world of its own (.ci/lab)");
    }
    here
}

/// The ways to a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    #[cfg(feature = "libvirt-native")]
    Native,
    #[cfg(feature = "libvirt")]
    Library,
}

impl Way {
    pub(crate) const ALL: &[Self] = &[
        #[cfg(feature = "libvirt-native")]
        Self::Native,
        #[cfg(feature = "libvirt")]
        Self::Library,
    ];

    pub(crate) fn to(self, uri: &str) -> Libvirtd {
        match self {
            #[cfg(feature = "libvirt-native")]
            Self::Native => Libvirtd::native(uri),
            #[cfg(feature = "libvirt")]
            Self::Library => Libvirtd::library(uri),
        }
    }
}

/// A host of this world's daemon.
pub(crate) fn host(libvirtd: Libvirtd, hypervisor: Hypervisor, patience: Duration) -> LibvirtHost {
    let directory = folder(hypervisor.name());
    let options = DomainOptions::new(hypervisor, directory.to_str().unwrap()).unwrap();
    let clock = Arc::new(SystemClock::new());
    LibvirtHost::new(libvirtd, options, clock).unwrap().with_patience(patience)
}

/// An image with these bytes.
pub(crate) async fn image(bytes: Vec<u8>, format: ImageFormat) -> (Arc<dyn ImageStore>, Image) {
    let images = MemoryImages::new();
    let id = ImageId::from_u128(7);
    let content = images.put(id, Box::new(std::io::Cursor::new(bytes))).await.unwrap();
    let image = Image {
        id,
        name: Label::new("guest").unwrap(),
        owner: None,
        format,
        content,
        min_memory: MiB::ZERO,
        min_disk: GiB::ZERO,
        properties: ImageProperties::default(),
        state: ImageState::Active,
        server: None,
    };
    (Arc::new(images), image)
}

/// A guest that is small, but boots.
pub(crate) fn spec(image: Image, memory: u64) -> GuestSpec {
    GuestSpec {
        root: None,
        instance: InstanceId::from_u128(1),
        project: ProjectId::new("lab").unwrap(),
        name: ServerName::new("guest").unwrap(),
        vcpus: Vcpus(1),
        memory: MiB(memory),
        root_disk: GiB(1),
        ephemeral_disk: GiB::ZERO,
        swap: MiB::ZERO,
        image,
        nics: Vec::new(),
        public_key: None,
        assigned: Default::default(),
    }
}

/// Two volumes in files.
pub(crate) fn volumes() -> [VolumeLink; 2] {
    let folder = folder("volumes");
    [1, 2].map(|number| {
        let path = folder.join(format!("{number}.volume"));
        std::fs::File::create(&path).unwrap().set_len(32 << 20).unwrap();
        let path = path.to_str().unwrap().to_owned();
        let connection = Connection::File { path };
        VolumeLink { volume: VolumeId::from_u128(number), connection }
    })
}

/// Starts a domain without asking the driver.
pub(crate) fn plant(uri: &str, name: &str, instance: InstanceId) {
    let rootfs = folder("planted");
    let inside = match uri.split(':').next() {
        Some("lxc") => {
            let archive = guest_file("rootfs.tar");
            let mut tar = std::process::Command::new("tar");
            assert!(tar.arg("-C").arg(&rootfs).arg("-xf").arg(archive).status().unwrap().success());
            format!(
                "<os><type>exe</type><init>/sbin/init</init></os><devices><console type='pty'/>\
                 <filesystem type='mount'><source dir='{}'/><target dir='/'/></filesystem></devices>",
                rootfs.display()
            )
        }
        _ => "<os><type>hvm</type></os>".to_owned(),
    };
    let kind = uri.split([':', '+']).next().unwrap();
    let text = format!(
        "<domain type='{kind}'><name>{name}</name><uuid>{instance}</uuid><memory unit='MiB'>16</memory>\
         {inside}</domain>"
    );
    let file = rootfs.with_extension("xml");
    std::fs::write(&file, text).unwrap();
    let mut virsh = std::process::Command::new("virsh");
    virsh.args(["-q", "-c", uri, "create"]).arg(file);
    assert!(virsh.status().unwrap().success());
}

#[cfg(feature = "libvirt-native")]
const TEST_OF_THE_DAEMON: &str = "test+unix:///default?socket=/run/libvirt/libvirt-sock";

/// A way to do that for the suite.
fn planting(uri: &'static str) -> Plant {
    Box::new(move |instance| {
        plant(uri, &DomainSpec::name_of(instance), instance);
        Box::pin(async {})
    })
}

/// Two interfaces on a bridge that leads nowhere, with addresses that only this kind of host has.
fn nics(kind: u8) -> [Nic; 2] {
    let mut tool = std::process::Command::new("ip");
    // Another test may have made it.
    let made = tool.args(["link", "add", "br-lab", "type", "bridge"]).output().unwrap();
    let there = String::from_utf8_lossy(&made.stderr).contains("exists");
    assert!(made.status.success() || there, "{made:?}");
    [1, 2].map(|number| Nic {
        mac: Mac::new([0xfa, 0x16, 0x3e, 0, kind, number]).unwrap(),
        bridge: InterfaceName::new("br-lab").unwrap(),
        address: [10, 9, kind, number].into(),
    })
}

/// The guest's disk, without its holes.
pub(crate) fn qcow2() -> Vec<u8> {
    std::fs::read(guest_file("disk.qcow2")).unwrap()
}

/// A host whose guests boot the guest's disk under QEMU, and what such a guest is.
pub(crate) async fn qemu_host(way: Way) -> (LibvirtHost, Arc<dyn ImageStore>, GuestSpec) {
    let host = host(way.to("qemu:///system"), Hypervisor::Qemu, Duration::from_secs(60));
    let (images, image) = image(qcow2(), ImageFormat::Qcow2).await;
    (host, images, spec(image, 128))
}

/// Waits until a guest of the guest's disk has booted: what it said until then.
#[cfg(feature = "libvirt-native")]
pub(crate) async fn booted(host: &LibvirtHost, guest: InstanceId) -> String {
    let clock = SystemClock::new();
    let boots = async {
        loop {
            let log = host.console_log(guest, usize::MAX).await.unwrap();
            let said = String::from_utf8_lossy(&log).into_owned();
            if said.contains("GUEST-READY") {
                return said;
            }
            clock.sleep(Duration::from_millis(100)).await;
        }
    };
    let booted = clock.within(Duration::from_secs(120), boots).await;
    booted.unwrap_or_else(|| panic!("guest {guest} never booted"))
}

/// Boots the guest's disk under QEMU.
pub(crate) async fn qemu(way: Way) -> Subject {
    let (host, images, template) = qemu_host(way).await;
    let subject = Subject::new(host).with_image(images, template.image.clone());
    let subject =
        subject.with_template(template).with_volumes(volumes()).with_nics(nics(way as u8));
    subject.with_plant(planting("qemu:///system"))
}

/// Boots nothing: libvirt's driver for tests.
pub(crate) async fn test(way: Way) -> Subject {
    let host = host(way.to("test:///default"), Hypervisor::Test, Duration::from_secs(5));
    match way {
        // The daemon's driver: by default, every program that uses the library has one of its own.
        #[cfg(feature = "libvirt-native")]
        Way::Native => Subject::new(host).with_plant(planting(TEST_OF_THE_DAEMON)),
        #[cfg(feature = "libvirt")]
        Way::Library => Subject::new(host),
    }
}

/// Starts a container.
pub(crate) async fn lxc(way: Way) -> Subject {
    let host = host(way.to("lxc:///system"), Hypervisor::Lxc, Duration::from_secs(5));
    containers(host, 0x10 + way as u8).await
}

/// Starts a container whose users are nobody on the host.
pub(crate) async fn lxc_of_nobody(way: Way) -> Subject {
    let host = host(way.to("lxc:///system"), Hypervisor::Lxc, Duration::from_secs(5));
    containers(host.with_users(1_000_000), 0x20).await
}

async fn containers(host: LibvirtHost, kind: u8) -> Subject {
    let archive = std::fs::read(guest_file("rootfs.tar")).unwrap();
    let (images, image) = image(archive, ImageFormat::RootfsTar).await;
    let template = spec(image.clone(), 64);
    let subject =
        Subject::new(host).with_image(images, image).with_template(template).with_nics(nics(kind));
    subject.with_plant(planting("lxc:///system"))
}
