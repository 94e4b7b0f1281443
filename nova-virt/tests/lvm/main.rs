//! Logical volumes on a kernel with a device mapper, on a volume group of its own.
//!
//! It needs root, `lvm`, `losetup` and a kernel that knows thin volumes, and runs where
//! `NOVA_LVM_LAB` is set; elsewhere each of these says that it was skipped. One at a time. Where no
//! udev makes the nodes of devices, `DM_DISABLE_UDEV=1` lets the tools make them:
//!
//! ```text
//! KERNEL_MODULES='dm_mod dm_thin_pool loop' .ci/kernel \
//!     env NOVA_LVM_LAB=1 DM_DISABLE_UDEV=1 target/debug/deps/lvm-HASH --test-threads 1
//! ```

mod lab;

use std::fs::OpenOptions;
use std::io::ErrorKind;

use nova_core::domain::{Fence, GiB, HostId, SnapshotId, VolumeId, VolumeSize};
use nova_core::port::{Connection, VolumeDriver as _, VolumeError};
use nova_virt::{FileError, LvmVolumes};

use lab::{DIRECTORY, here, lvm, opened, pool, turn};

const VOLUME: VolumeId = VolumeId::from_u128(1);
const HOST: HostId = HostId::from_u128(1);

nova_core::volume_laws!(if here, async { lab::Subject::new().await });

#[test]
fn a_pool_and_its_directory_know_each_other() {
    check("a_pool_and_its_directory_know_each_other", |_| async {
        let other = tempfile::tempdir().unwrap();
        let refused = LvmVolumes::at(pool(), other.path());
        assert!(matches!(refused, Err(FileError::Foreign { .. })), "{refused:?}");
        // And a directory that described another pool is not one of this.
        std::fs::write(other.path().join(".pool.json"), r#"{"format":1,"pool":"x"}"#).unwrap();
        let refused = LvmVolumes::at(pool(), other.path());
        assert!(matches!(refused, Err(FileError::Foreign { .. })), "{refused:?}");
        LvmVolumes::at(pool(), DIRECTORY).unwrap();
    });
}

#[test]
fn a_pool_that_gives_out_old_bytes_is_refused() {
    check("a_pool_that_gives_out_old_bytes_is_refused", |_| async {
        lvm(&["lvchange", "--yes", "--zero", "n", "novalab/pool"]);
        let refused = LvmVolumes::at(pool(), DIRECTORY);
        lvm(&["lvchange", "--yes", "--zero", "y", "novalab/pool"]);
        assert!(matches!(refused, Err(FileError::Io { .. })), "{refused:?}");
    });
}

#[test]
fn what_an_interrupted_change_left_is_gone_and_what_is_not_ours_stays() {
    check(
        "what_an_interrupted_change_left_is_gone_and_what_is_not_ours_stays",
        |volumes| async move {
            volumes.create(VOLUME, size(1), Fence(1)).await.unwrap();
            let left = format!("nova.{:032x}", 2);
            for name in [&*left, "nova.mine"] {
                let thin = ["--type", "thin", "--virtualsize", "1g", "--thinpool", "novalab/pool"];
                lvm(&[&["lvcreate", "--yes", "--name", name][..], &thin].concat());
            }
            let reopened = opened();
            let names = lvm(&["lvs", "--noheadings", "--options", "lv_name", "novalab"]);
            let names: Vec<_> = names.split_whitespace().map(str::to_owned).collect();
            assert_eq!(names, [&*format!("nova.{:032x}", 1), "nova.mine", "pool"]);
            assert_eq!(reopened.list().await.unwrap().len(), 1);
            lvm(&["lvremove", "--yes", "novalab/nova.mine"]);
        },
    );
}

#[test]
fn a_volume_whose_device_is_open_is_not_free() {
    check("a_volume_whose_device_is_open_is_not_free", |volumes| async move {
        volumes.create(VOLUME, size(1), Fence(1)).await.unwrap();
        let Connection::Block { path } = volumes.connect(VOLUME, HOST, Fence(1)).await.unwrap()
        else {
            panic!("not a device");
        };
        let used = OpenOptions::new().write(true).open(&path).unwrap();
        let refused = volumes.disconnect(VOLUME, HOST, Fence(1)).await;
        assert!(matches!(refused, Err(VolumeError::Io { .. })), "{refused:?}");
        assert_eq!(volumes.list().await.unwrap()[0].connected_to, Some(HOST));
        drop(used);
        volumes.disconnect(VOLUME, HOST, Fence(1)).await.unwrap();
        assert!(!std::fs::exists(path).unwrap());
    });
}

#[test]
fn a_volume_that_was_lost_is_not_connected_and_does_not_stay_connected() {
    let name = "a_volume_that_was_lost_is_not_connected_and_does_not_stay_connected";
    check(name, |volumes| async move {
        volumes.create(VOLUME, size(1), Fence(1)).await.unwrap();
        volumes.connect(VOLUME, HOST, Fence(1)).await.unwrap();
        lvm(&["lvremove", "--yes", "--force", &format!("novalab/nova.{:032x}", 1)]);
        let lost = volumes.connect(VOLUME, HOST, Fence(1)).await;
        assert!(matches!(lost, Err(VolumeError::Io { .. })), "{lost:?}");
        volumes.disconnect(VOLUME, HOST, Fence(1)).await.unwrap();
        volumes.remove(VOLUME, Fence(1)).await.unwrap();
        assert_eq!(volumes.list().await.unwrap(), []);
    });
}

#[test]
fn volumes_and_snapshots_are_refused_beyond_the_size_of_the_pool() {
    check("volumes_and_snapshots_are_refused_beyond_the_size_of_the_pool", |volumes| async move {
        volumes.create(VOLUME, size(lab::POOL_GIB - 1), Fence(1)).await.unwrap();
        let snapshots = volumes.snapshots().unwrap();
        let snapshot = snapshots.make_snapshot(VOLUME, SnapshotId::from_u128(1), Fence(1)).await;
        let second = volumes.create(VolumeId::from_u128(2), size(2), Fence(1)).await;
        let extending = volumes.extending().unwrap();
        let larger = extending.extend(VOLUME, size(lab::POOL_GIB + 1), Fence(1)).await;
        for full in [snapshot, second, larger] {
            match full {
                Err(VolumeError::Io { source, .. }) => {
                    assert_eq!(source.kind(), ErrorKind::StorageFull);
                }
                other => panic!("{other:?}"),
            }
        }
        extending.extend(VOLUME, size(lab::POOL_GIB), Fence(1)).await.unwrap();
        let more = volumes.clone().with_limit(GiB(1000));
        more.create(VolumeId::from_u128(2), size(2), Fence(1)).await.unwrap();
    });
}

fn size(gib: u64) -> VolumeSize {
    VolumeSize::new(GiB(gib)).unwrap()
}

/// Runs a test on an empty pool, where it can be run.
fn check<F: Future<Output = ()>>(name: &str, test: impl FnOnce(LvmVolumes) -> F) {
    if here(name) {
        nova_core::conformance::run(async {
            let _turn = turn().await;
            test(lab::emptied()).await;
        });
    }
}
