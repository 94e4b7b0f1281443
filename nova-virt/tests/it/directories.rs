//! Images and volumes in directories: what a kill leaves, and who else is there.

use std::io::Cursor;
use std::path::Path;

use nova_core::domain::{Fence, GiB, HostId, ImageId, SnapshotId, VolumeId, VolumeSize};
use nova_core::port::{CloneSource, Connection, ImageStore as _, VolumeDriver as _, VolumeError};
use nova_virt::{DirImageStore, FileVolumes};
use tokio::io::AsyncWriteExt as _;

use crate::world::run;

const IMAGE: ImageId = ImageId::from_u128(1);
const VOLUME: VolumeId = VolumeId::from_u128(1);
const HOST: HostId = HostId::from_u128(1);

fn size(gib: u64) -> VolumeSize {
    VolumeSize::new(GiB(gib)).unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}

#[test]
fn what_an_interrupted_put_left_is_gone_when_the_directory_is_opened() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let store = DirImageStore::at(directory.path()).unwrap();
        store.put(IMAGE, Box::new(Cursor::new(b"image"))).await.unwrap();
        let whole = names(directory.path());
        let other = ImageId::from_u128(2);
        for leftover in [format!("{other}.0.part"), format!("{other}.json"), "x.json.tmp".into()] {
            std::fs::write(directory.path().join(leftover), "half").unwrap();
        }
        std::fs::write(directory.path().join("README"), "not ours").unwrap();

        let store = DirImageStore::at(directory.path()).unwrap();
        let expected: Vec<String> = whole.into_iter().chain(["README".to_owned()]).collect();
        assert_eq!(names(directory.path()), expected);
        assert_eq!(store.list().await.unwrap(), [IMAGE]);
        // And the id whose put was interrupted can be put.
        store.put(other, Box::new(Cursor::new(b"again"))).await.unwrap();
    });
}

#[test]
fn what_an_interrupted_put_left_is_gone_after_the_next_put() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let store = DirImageStore::at(directory.path()).unwrap();
        // Another process dies while this one runs.
        let dead = directory.path().join(format!("{}.0.part", ImageId::from_u128(2)));
        std::fs::write(&dead, "half").unwrap();
        let (reader, mut writer) = tokio::io::duplex(16);
        let (put, ()) = tokio::join!(store.put(IMAGE, Box::new(reader)), async {
            writer.write_all(&[1; 1000]).await.unwrap();
            assert!(!dead.exists());
            // One that is under way is none.
            store.put(ImageId::from_u128(3), Box::new(Cursor::new(b"x"))).await.unwrap();
            drop(writer);
        });
        assert_eq!(put.unwrap().size_bytes, 1000);
        let parts = names(directory.path()).into_iter().filter(|name| name.ends_with(".part"));
        assert_eq!(parts.count(), 0);
    });
}

#[test]
fn a_put_that_failed_or_was_given_up_leaves_no_file() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let store = DirImageStore::at(directory.path()).unwrap();
        store.put(IMAGE, Box::new(Cursor::new(b"image"))).await.unwrap();
        let whole = names(directory.path());
        // Refused because the id is taken.
        store.put(IMAGE, Box::new(Cursor::new(b"again"))).await.unwrap_err();
        assert_eq!(names(directory.path()), whole);
        // Given up while the stream still goes on.
        let (reader, mut writer) = tokio::io::duplex(16);
        tokio::select! {
            biased;
            result = store.put(ImageId::from_u128(2), Box::new(reader)) => panic!("{result:?}"),
            // More than the pipe holds: when all of it is in, the put is reading.
            written = writer.write_all(&[1; 1000]) => written.unwrap(),
        }
        assert_eq!(names(directory.path()), whole);
    });
}

#[test]
fn a_put_under_way_is_not_a_leftover() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let store = DirImageStore::at(directory.path()).unwrap();
        let (reader, mut writer) = tokio::io::duplex(16);
        let (put, ()) = tokio::join!(store.put(IMAGE, Box::new(reader)), async {
            writer.write_all(&[1; 1000]).await.unwrap();
            let _second = DirImageStore::at(directory.path()).unwrap();
            writer.write_all(&[2; 1000]).await.unwrap();
            drop(writer);
        });
        assert_eq!(put.unwrap().size_bytes, 2000);
        assert_eq!(store.content(IMAGE).await.unwrap().map(|c| c.size_bytes), Some(2000));
    });
}

#[test]
fn a_volume_is_a_sparse_file_of_its_size_that_keeps_its_bytes() {
    use std::os::unix::fs::MetadataExt as _;

    run(async {
        let directory = tempfile::tempdir().unwrap();
        let volumes = FileVolumes::at(directory.path()).unwrap();
        volumes.create(VOLUME, size(3), Fence(1)).await.unwrap();
        let Connection::File { path } = volumes.connect(VOLUME, HOST, Fence(1)).await.unwrap()
        else {
            panic!("not a file");
        };
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!(metadata.len(), 3 << 30);
        assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
        let written = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&written, b"kept", 1 << 30).unwrap();

        let volumes = FileVolumes::at(directory.path()).unwrap();
        volumes.create(VOLUME, size(3), Fence(1)).await.unwrap();
        let again = volumes.connect(VOLUME, HOST, Fence(1)).await.unwrap();
        assert_eq!(again, Connection::File { path: path.clone() });
        let mut bytes = [0; 4];
        let file = std::fs::File::open(&path).unwrap();
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 1 << 30).unwrap();
        assert_eq!(&bytes, b"kept");
    });
}

#[test]
fn a_clone_that_was_cut_short_is_no_volume_and_is_made_whole_when_it_is_asked_for_again() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let volumes = FileVolumes::at(directory.path()).unwrap();
        volumes.create(VOLUME, size(1), Fence(1)).await.unwrap();
        let source = std::fs::OpenOptions::new()
            .write(true)
            .open(directory.path().join(format!("{VOLUME}.volume")))
            .unwrap();
        std::os::unix::fs::FileExt::write_all_at(&source, b"all of it", 5000).unwrap();
        let (clone, snapshot) = (VolumeId::from_u128(2), SnapshotId::from_u128(3));
        let copies = [format!("{clone}.volume"), format!("{VOLUME}.{snapshot}.snapshot")];
        // As a process leaves them that is killed while it copies.
        for copy in &copies {
            std::fs::write(directory.path().join(copy), [7; 9000]).unwrap();
        }
        assert_eq!(volumes.list().await.unwrap().len(), 1);
        let whole = CloneSource { volume: VOLUME, snapshot: None };
        volumes.cloning().unwrap().clone_volume(clone, whole, Fence(1)).await.unwrap();
        let snapshots = volumes.snapshots().unwrap();
        assert_eq!(snapshots.list_snapshots().await.unwrap(), []);
        snapshots.make_snapshot(VOLUME, snapshot, Fence(1)).await.unwrap();
        for copy in copies {
            let copy = std::fs::File::open(directory.path().join(copy)).unwrap();
            assert_eq!(copy.metadata().unwrap().len(), 1 << 30);
            let mut bytes = [1; 9000];
            std::os::unix::fs::FileExt::read_exact_at(&copy, &mut bytes, 0).unwrap();
            assert_eq!((&bytes[5000..5009], bytes[4999], bytes[5009]), (&b"all of it"[..], 0, 0));
        }
    });
}

#[test]
fn a_volume_that_a_host_has_is_copied_only_where_files_share_what_they_have_in_common() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let (one, other) = (directory.path().join("one"), directory.path().join("other"));
        std::fs::write(&one, "shared").unwrap();
        let mut tool = std::process::Command::new("cp");
        tool.arg("--reflink=always").args([&one, &other]).stderr(std::process::Stdio::null());
        let can_share = tool.status().unwrap().success();

        let volumes = FileVolumes::at(directory.path()).unwrap();
        volumes.create(VOLUME, size(1), Fence(1)).await.unwrap();
        volumes.connect(VOLUME, HOST, Fence(1)).await.unwrap();
        let snapshots = volumes.snapshots().unwrap();
        let made = snapshots.make_snapshot(VOLUME, SnapshotId::from_u128(1), Fence(1)).await;
        let refused = matches!(made, Err(VolumeError::Connected { .. }));
        assert!(if can_share { made.is_ok() } else { refused }, "can share: {can_share}, {made:?}");
    });
}

#[test]
fn copies_of_a_volume_have_its_holes() {
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    run(async {
        let directory = tempfile::tempdir().unwrap();
        let volumes = FileVolumes::at(directory.path()).unwrap();
        volumes.create(VOLUME, size(1000), Fence(1)).await.unwrap();
        let path = directory.path().join(format!("{VOLUME}.volume"));
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        for place in [0, 500 << 30, (1000 << 30) - 4096] {
            file.write_all_at(&[9; 4096], place).unwrap();
        }
        let (clone, snapshot) = (VolumeId::from_u128(2), SnapshotId::from_u128(3));
        let snapshots = volumes.snapshots().unwrap();
        snapshots.make_snapshot(VOLUME, snapshot, Fence(1)).await.unwrap();
        let source = CloneSource { volume: VOLUME, snapshot: Some(snapshot) };
        volumes.cloning().unwrap().clone_volume(clone, source, Fence(1)).await.unwrap();
        let clone = std::fs::File::open(directory.path().join(format!("{clone}.volume"))).unwrap();
        let metadata = clone.metadata().unwrap();
        assert_eq!(metadata.len(), 1000 << 30);
        assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
        for place in [0, 500 << 30, (1000 << 30) - 4096] {
            let mut bytes = [0; 4096];
            clone.read_exact_at(&mut bytes, place).unwrap();
            assert_eq!(bytes, [9; 4096]);
        }
    });
}

#[test]
fn what_an_interrupted_create_or_remove_left_is_gone_and_holds_no_old_bytes() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let volumes = FileVolumes::at(directory.path()).unwrap();
        let file = directory.path().join(format!("{VOLUME}.volume"));
        // Made, or no longer described, when the process was killed.
        std::fs::write(&file, "secret of another project").unwrap();
        volumes.create(VOLUME, size(1), Fence(1)).await.unwrap();
        let mut bytes = [1; 6];
        let made = std::fs::File::open(&file).unwrap();
        std::os::unix::fs::FileExt::read_exact_at(&made, &mut bytes, 0).unwrap();
        assert_eq!(bytes, [0; 6]);

        let dead = VolumeId::from_u128(2);
        std::fs::write(directory.path().join(format!("{dead}.volume")), "x").unwrap();
        std::fs::write(directory.path().join(format!("{VOLUME}.{dead}.snapshot")), "x").unwrap();
        std::fs::write(directory.path().join(format!("{VOLUME}.json.tmp")), "x").unwrap();
        FileVolumes::at(directory.path()).unwrap();
        assert_eq!(names(directory.path()), [format!("{VOLUME}.json"), format!("{VOLUME}.volume")]);
    });
}

#[test]
fn volumes_are_refused_beyond_the_limit_and_what_the_file_system_can_hold() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let volumes = FileVolumes::at(directory.path()).unwrap().with_limit(GiB(3));
        volumes.create(VOLUME, size(2), Fence(1)).await.unwrap();
        let second = VolumeId::from_u128(2);
        match volumes.create(second, size(2), Fence(1)).await {
            Err(VolumeError::Io { volume, source, .. }) => {
                assert_eq!(volume, second);
                assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(volumes.list().await.unwrap().len(), 1);
        volumes.create(VOLUME, size(2), Fence(1)).await.unwrap();
        let full = |result: Result<(), VolumeError>| {
            assert!(matches!(result, Err(VolumeError::Io { .. })), "{result:?}");
        };
        // Whatever makes them more counts.
        full(volumes.extending().unwrap().extend(VOLUME, size(4), Fence(1)).await);
        let snapshots = volumes.snapshots().unwrap();
        full(snapshots.make_snapshot(VOLUME, SnapshotId::from_u128(1), Fence(1)).await);
        let source = CloneSource { volume: VOLUME, snapshot: None };
        full(volumes.cloning().unwrap().clone_volume(second, source, Fence(1)).await);
        volumes.create(second, size(1), Fence(1)).await.unwrap();
    });
}

#[test]
fn a_volume_whose_file_was_lost_is_not_connected() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let volumes = FileVolumes::at(directory.path()).unwrap();
        volumes.create(VOLUME, size(1), Fence(1)).await.unwrap();
        let file = directory.path().join(format!("{VOLUME}.volume"));
        std::fs::write(&file, "short").unwrap();
        let short = volumes.connect(VOLUME, HOST, Fence(1)).await;
        assert!(matches!(short, Err(VolumeError::Io { .. })), "{short:?}");
        std::fs::remove_file(&file).unwrap();
        let lost = volumes.connect(VOLUME, HOST, Fence(1)).await;
        assert!(matches!(lost, Err(VolumeError::Io { .. })), "{lost:?}");
        volumes.remove(VOLUME, Fence(1)).await.unwrap();
        assert_eq!(names(directory.path()), [""; 0]);
    });
}

#[test]
fn two_processes_that_connect_at_once_do_not_both_win() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let one = FileVolumes::at(directory.path()).unwrap();
        let two = FileVolumes::at(directory.path()).unwrap();
        for number in 0..20 {
            let volume = VolumeId::from_u128(number);
            one.create(volume, size(1), Fence(1)).await.unwrap();
            let (a, b) = tokio::join!(
                one.connect(volume, HOST, Fence(1)),
                two.connect(volume, HostId::from_u128(2), Fence(1))
            );
            assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
        }
    });
}
