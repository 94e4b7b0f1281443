//! Guests that boot from images of other clouds' formats.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nova_core::domain::{GiB, ImageFormat, ImageId, InstanceId};
use nova_core::memory::MemoryImages;
use nova_core::port::{
    GuestSpec, ImageStore as _, RescueGuests as _, SnapshotGuests as _, VirtDriver as _, VirtError,
};
use nova_virt::cache::Conversion;
use nova_virt::domain::Hypervisor;

use crate::hosts::tool;
use crate::lab::{self, Way};

/// The guest's disk in another format.
fn converted(name: &str, options: &str) -> Vec<u8> {
    let folder = lab::folder("foreign");
    let (from, into) = (lab::guest_file("disk.raw"), folder.join(name));
    let mut tool = Command::new("qemu-img");
    tool.args(["convert", "-f", "raw", "-O", name, "-o", options]).args([&from, &into]);
    assert!(tool.status().unwrap().success());
    std::fs::read(into).unwrap()
}

fn host() -> nova_virt::libvirt::LibvirtHost {
    lab::host(Way::Native.to("qemu:///system"), Hypervisor::Qemu, Duration::from_secs(60))
}

async fn boots(number: u128, format: ImageFormat, name: &str, options: &str) {
    let host = host();
    let (images, image) = lab::image(converted(name, options), format).await;
    let one = InstanceId::from_u128(number);
    let two = InstanceId::from_u128(number + 1);
    let spec = GuestSpec { instance: one, ..lab::spec(image, 128) };
    let other = GuestSpec { instance: two, root_disk: GiB::ZERO, ..spec.clone() };
    let (made, too) = tokio::join!(host.create(&spec, &*images), host.create(&other, &*images));
    made.and(too).unwrap();
    for (guest, sectors) in [(one, 1 << 21), (two, 24 << 11)] {
        let said = lab::booted(&host, guest).await;
        assert!(said.contains(&format!("GUEST-DISK vda {sectors}")), "{name}: {said}");
    }
    let cached = host.images().images().await.unwrap();
    assert_eq!((cached.len(), &cached[0].content), (1, &spec.image.content));
    // An image is taken of it in a format that hypervisors start from, and it is rescued with what
    // it came from.
    let copy = ImageId::from_u128(number);
    let taken = MemoryImages::new();
    host.snapshot(one, copy, format.on_hosts(), &taken).await.unwrap();
    assert!(taken.content(copy).await.unwrap().is_some());
    host.rescue(one, &spec.image, &*images).await.unwrap();
    let name = nova_virt::domain::DomainSpec::name_of(one);
    let xml = tool("virsh", &["-c", "qemu:///system", "dumpxml", "--inactive", &name]);
    assert!(xml.contains("disk.rescue") && !xml.contains(&format!("type='{}'", "raw")), "{xml}");
    host.unrescue(one).await.unwrap();
    for guest in [one, two] {
        host.remove(guest).await.unwrap();
    }
}

#[tokio::test]
async fn a_guest_boots_from_a_disk_of_vmware() {
    if lab::is_here("a_guest_boots_from_a_disk_of_vmware") {
        boots(0xf01, ImageFormat::Vmdk, "vmdk", "subformat=streamOptimized").await;
    }
}

#[tokio::test]
async fn a_guest_boots_from_a_disk_of_hyper_v() {
    if lab::is_here("a_guest_boots_from_a_disk_of_hyper_v") {
        boots(0xf11, ImageFormat::Vhdx, "vhdx", "subformat=dynamic").await;
    }
}

#[tokio::test]
async fn what_takes_too_much_to_convert_makes_no_guest() {
    if !lab::is_here("what_takes_too_much_to_convert_makes_no_guest") {
        return;
    }
    let host = host().with_conversion(Conversion::default().with_size_max(20 << 20));
    let (images, image) = lab::image(converted("vdi", "static=off"), ImageFormat::Vdi).await;
    let spec = GuestSpec { instance: InstanceId::from_u128(0xf21), ..lab::spec(image, 128) };
    let refused = host.create(&spec, &*images).await;
    assert!(matches!(refused, Err(VirtError::Image { .. })), "{refused:?}");
    assert_eq!(host.guest(spec.instance).await.unwrap(), None);
    assert_eq!(host.images().images().await.unwrap(), []);
    let host = self::host().with_conversion(Conversion::default().with_memory(64 << 20));
    let refused = host.create(&spec, &*images).await;
    assert!(matches!(refused, Err(VirtError::Image { .. })), "{refused:?}");
    let left = |folder: &Path| std::fs::read_dir(folder).unwrap().count();
    // The lock of the cache.
    let cached = host.images().to_string();
    let folder = cached.rsplit(' ').next().unwrap();
    assert_eq!(left(Path::new(folder)), 1, "{folder}");
}
