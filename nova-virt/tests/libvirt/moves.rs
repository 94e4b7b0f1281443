//! Guests that are shut down and taken to another host.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use nova_core::domain::{GiB, ImageFormat, InstanceId, MiB, PowerState};
use nova_core::port::{GuestSpec, Parcel, VirtDriver as _};
use nova_virt::libvirt::GuestFiles;

use crate::hosts::{Host, Pair, are_here, tool, two};
use crate::lab;

macro_rules! laws_with {
    ($name:ident, $pair:expr) => {
        mod $name {
            use crate::hosts;

            nova_core::laws!(
                virt,
                if hosts::are_here,
                hosts::neighbours($pair),
                [
                    create_leaves_the_guest_running,
                    remove_is_repeatable,
                    packing_changes_nothing,
                    a_running_guest_is_not_packed,
                    a_guest_is_unpacked_as_it_was_packed,
                    unpack_is_repeatable,
                    a_snapshot_makes_a_guest,
                    a_rescued_guest_runs,
                ]
            );
        }
    };
}

laws_with!(shared, hosts::Pair::Shared);
laws_with!(offered, hosts::Pair::Offered);

/// The only file of this name below a directory.
pub(crate) fn find(directory: &Path, name: &str) -> String {
    let found = tool("find", &[directory.to_str().unwrap(), "-name", name]);
    assert_eq!(found.lines().count(), 1, "{found}");
    found.trim().to_owned()
}

/// A packed guest that has something on its disks, and the larger guest that it is to become.
async fn packed(from: &Host, spec: &GuestSpec, images: &dyn nova_core::port::ImageStore) -> Parcel {
    from.driver.create(spec, images).await.unwrap();
    from.driver.stop(spec.instance).await.unwrap();
    let root = find(&from.directory, "disk");
    tool("qemu-io", &["-f", "qcow2", "-c", "write -P 0xab 700M 64k", &root]);
    let second = find(&from.directory, "disk.ephemeral");
    tool("qemu-io", &["-f", "raw", "-c", "write -P 0xcd 1000M 64k", &second]);
    from.driver.moving().unwrap().pack(spec.instance).await.unwrap()
}

#[tokio::test]
async fn what_was_written_goes_along_and_disks_grow() {
    if !are_here("what_was_written_goes_along_and_disks_grow") {
        return;
    }
    let [from, to] = two(Pair::Offered);
    let (images, image) = lab::image(lab::qcow2(), ImageFormat::Qcow2).await;
    let instance = nova_core::domain::InstanceId::from_u128(0x71);
    let small = GuestSpec { instance, ephemeral_disk: GiB(1), ..lab::spec(image, 128) };
    let parcel = packed(&from, &small, &*images).await;
    let large = GuestSpec { root_disk: GiB(3), ephemeral_disk: GiB(2), ..small.clone() };
    let unpacking = to.driver.moving().unwrap();
    unpacking.unpack(&large, &parcel, &*images).await.unwrap();
    let root = find(&to.directory, "disk");
    tool("qemu-io", &["-r", "-f", "qcow2", "-c", "read -P 0xab 700M 64k", &root]);
    let says = tool("qemu-img", &["info", "-f", "qcow2", &root]);
    assert!(says.contains("(3221225472 bytes)"), "{says}");
    let base = to.directory.join("base").display().to_string();
    assert!(says.contains(&format!("backing file: {base}/")), "{says}");
    let second = find(&to.directory, "disk.ephemeral");
    tool("qemu-io", &["-r", "-f", "raw", "-c", "read -P 0xcd 1000M 64k", &second]);
    let meta = std::fs::metadata(&second).unwrap();
    assert_eq!(meta.len(), 2 << 30);
    let blocks = std::os::unix::fs::MetadataExt::blocks(&meta);
    assert!(blocks * 512 < 1 << 20, "holes do not travel: {blocks}");
    to.driver.start(small.instance).await.unwrap();
    let guest = to.driver.guest(small.instance).await.unwrap().unwrap();
    assert_eq!(guest.power, PowerState::Running);
    for host in [from, to] {
        host.driver.remove(small.instance).await.unwrap();
    }
}

#[tokio::test]
async fn disks_are_only_for_who_has_the_parcel_and_only_as_they_were_packed() {
    if !are_here("disks_are_only_for_who_has_the_parcel_and_only_as_they_were_packed") {
        return;
    }
    let [from, to] = two(Pair::Offered);
    let (images, image) = lab::image(lab::qcow2(), ImageFormat::Qcow2).await;
    let instance = nova_core::domain::InstanceId::from_u128(0x72);
    let spec = GuestSpec { instance, ephemeral_disk: GiB(1), ..lab::spec(image, 128) };
    let parcel = packed(&from, &spec, &*images).await;
    let unpacking = to.driver.moving().unwrap();
    let changed = |what: &str, by: &str| {
        let disks = parcel.disks.replace(what, by);
        assert_ne!(disks, parcel.disks, "{what}");
        Parcel { disks, ..parcel.clone() }
    };
    let secret = parcel.disks.split("\"secret\":\"").nth(1).unwrap()[..64].to_owned();
    let other = nova_core::domain::InstanceId::from_u128(0x73);
    for (wrong, spec) in [
        (changed(&secret, &"0".repeat(64)), &spec),
        (changed("\"bytes\":1073741824", "\"bytes\":1073741823"), &spec),
        (changed("\"format\":1", "\"format\":2"), &spec),
        (changed(&spec.image.content.sha256, &"0".repeat(64)), &spec),
        (parcel.clone(), &GuestSpec { instance: other, ..spec.clone() }),
    ] {
        let refused = unpacking.unpack(spec, &wrong, &*images).await;
        assert!(refused.is_err(), "{wrong:?}");
        // Others may have guests there.
        for guest in [instance, other] {
            assert_eq!(to.driver.guest(guest).await.unwrap(), None);
        }
    }
    // A guest that runs again is not as it was packed.
    from.driver.start(spec.instance).await.unwrap();
    assert!(unpacking.unpack(&spec, &parcel, &*images).await.is_err());
    from.driver.stop(spec.instance).await.unwrap();
    unpacking.unpack(&spec, &parcel, &*images).await.unwrap();
    for host in [from, to] {
        host.driver.remove(spec.instance).await.unwrap();
    }
}

/// What guests are told by one host, and not by another.
#[derive(Debug)]
struct Told(&'static str);

#[async_trait]
impl GuestFiles for Told {
    async fn files(
        &self,
        guest: &GuestSpec,
    ) -> Result<Option<BTreeMap<String, Vec<u8>>>, Box<dyn std::error::Error + Send + Sync>> {
        let text = format!("{{\"uuid\":\"{}\",\"by\":\"{}\"}}", guest.instance, self.0);
        let file = ("openstack/latest/meta_data.json".to_owned(), text.into_bytes());
        Ok(Some(BTreeMap::from([file])))
    }
}

/// Moves a guest to a host that tells guests something else, or nothing: it keeps what it was told
/// when it was made, also where it becomes larger and has a disk more.
async fn config_drive_goes_along(pair: Pair, number: u128, there: Option<Told>) {
    let [from, to] = two(pair);
    let from = Host { driver: from.driver.with_config_drives(Arc::new(Told("first"))), ..from };
    let to = match there {
        Some(told) => Host { driver: to.driver.with_config_drives(Arc::new(told)), ..to },
        None => to,
    };
    // Where disks are: both hosts see them where they are shared.
    let drives = |host: &Host, instance: InstanceId| {
        let name = nova_virt::domain::DomainSpec::name_of(instance);
        let number = pair.numbers()[usize::from(host.directory == to.directory)];
        let socket = format!("qemu:///system?socket=/run/lab/hosts/{number}/sock/libvirt-sock");
        let listed = tool("virsh", &["-q", "-c", &socket, "domblklist", "--inactive", &name]);
        let disks = listed.lines().filter_map(|line| line.trim().split_once(' '));
        let drives = disks.filter(|(_, path)| path.ends_with(".config"));
        let drives: Vec<_> =
            drives.map(|(target, path)| (target.to_owned(), path.trim().to_owned())).collect();
        let [(target, path)] = <[_; 1]>::try_from(drives).unwrap();
        (target, std::fs::read(path).unwrap())
    };
    let (images, image) = lab::image(lab::qcow2(), ImageFormat::Qcow2).await;
    let instance = InstanceId::from_u128(number);
    let small = GuestSpec { instance, ..lab::spec(image, 128) };
    from.driver.create(&small, &*images).await.unwrap();
    let (target, told) = drives(&from, instance);
    assert_eq!(target, "vdb");
    let has = |what: &str| told.windows(what.len()).any(|window| window == what.as_bytes());
    assert!(has(&format!("\"uuid\":\"{instance}\"")) && has("\"by\":\"first\""));
    from.driver.stop(instance).await.unwrap();
    let parcel = from.driver.moving().unwrap().pack(instance).await.unwrap();
    let large = GuestSpec { root_disk: GiB(2), swap: MiB(16), ..small.clone() };
    to.driver.moving().unwrap().unpack(&large, &parcel, &*images).await.unwrap();
    let (target, arrived) = drives(&to, instance);
    assert_eq!((target.as_str(), arrived == told), ("vdc", true));
    to.driver.start(instance).await.unwrap();
    let said = lab::booted(&to.driver, instance).await;
    for (disk, bytes) in [("vda", 2 << 30), ("vdb", 16 << 20), ("vdc", told.len())] {
        assert!(said.contains(&format!("GUEST-DISK {disk} {}", bytes / 512)), "{disk}: {said}");
    }
    // Nobody writes it anew when it starts again, or goes back.
    to.driver.stop(instance).await.unwrap();
    let back = to.driver.moving().unwrap().pack(instance).await.unwrap();
    from.driver.remove(instance).await.unwrap();
    from.driver.moving().unwrap().unpack(&large, &back, &*images).await.unwrap();
    assert_eq!(drives(&from, instance), ("vdc".to_owned(), told));
    for host in [from, to] {
        host.driver.remove(instance).await.unwrap();
    }
}

#[tokio::test]
async fn a_config_drive_goes_along_as_it_is_where_disks_are_offered() {
    if are_here("a_config_drive_goes_along_as_it_is_where_disks_are_offered") {
        config_drive_goes_along(Pair::Offered, 0x74, Some(Told("second"))).await;
    }
}

#[tokio::test]
async fn a_config_drive_goes_along_as_it_is_where_disks_are_shared() {
    if are_here("a_config_drive_goes_along_as_it_is_where_disks_are_shared") {
        config_drive_goes_along(Pair::Shared, 0x75, None).await;
    }
}
