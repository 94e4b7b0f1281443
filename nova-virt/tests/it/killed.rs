//! A process that is killed while it writes: the next one finds everything that was answered.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nova_core::domain::{
    Fence, GiB, HostId, ImageId, PowerState, SnapshotId, VolumeId, VolumeSize,
};
use nova_core::port::{
    CloneSource, ImageStore as _, VirtDriver as _, VolumeDriver as _, VolumeFacts,
};
use nova_virt::sim::Capacity;
use nova_virt::{DirImageStore, FileVolumes, SimHost, SimOptions};

use crate::world::{TOTAL, guest, id, images, run};

const DIRECTORY: &str = "NOVA_VIRT_TEST_DIRECTORY";
const ROUNDS: usize = 6;

/// Behind all others.
fn clone_of(number: u128) -> VolumeId {
    VolumeId::from_u128(number | 1 << 100)
}

fn size(gib: u64) -> VolumeSize {
    VolumeSize::new(GiB(gib)).unwrap()
}

fn open(directory: &Path) -> (SimHost, DirImageStore, FileVolumes) {
    let host = SimHost::open(directory.join("host.json"), "h".parse().unwrap(), TOTAL).unwrap();
    let options = SimOptions::default().with_capacity(Capacity::Unlimited);
    (
        host.with_options(options),
        DirImageStore::at(directory.join("images")).unwrap(),
        FileVolumes::at(directory.join("volumes")).unwrap(),
    )
}

/// What the other test starts and kills; on its own it does nothing.
#[test]
fn the_process_that_is_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    run(async {
        let (host, store, volumes) = open(&directory);
        let (images, image) = images().await;
        let first = host.guests().await.unwrap().len() as u128;
        // Far more than any round waits for: a child that nobody kills ends nevertheless.
        for number in first..first + 10_000 {
            let bytes = std::io::Cursor::new(vec![7; 1 << 20]);
            store.put(ImageId::from_u128(number), Box::new(bytes)).await.ok();
            let (volume, snapshot) = (VolumeId::from_u128(number), SnapshotId::from_u128(number));
            volumes.create(volume, size(1), Fence(1)).await.unwrap();
            volumes.extending().unwrap().extend(volume, size(2), Fence(1)).await.unwrap();
            let snapshots = volumes.snapshots().unwrap();
            snapshots.make_snapshot(volume, snapshot, Fence(1)).await.unwrap();
            let source = CloneSource { volume, snapshot: Some(snapshot) };
            let cloning = volumes.cloning().unwrap();
            cloning.clone_volume(clone_of(number), source, Fence(1)).await.unwrap();
            host.create(&guest(number, &image), &images).await.unwrap();
            // Everything for this number was answered.
            std::fs::write(directory.join(format!("answered-{number}")), "").unwrap();
        }
    });
}

#[test]
fn what_was_answered_is_there_after_a_kill_and_the_rest_is_whole_or_absent() {
    let directory = tempfile::tempdir().unwrap();
    let mut answered = 0;
    for round in 0..ROUNDS {
        let mut child = start(directory.path());
        // Not at a moment of ours: the child goes on writing until it is dead.
        let wanted = answered + 1 + round as u128;
        while !directory.path().join(format!("answered-{wanted}")).exists() {
            assert_eq!(child.0.try_wait().unwrap(), None, "the child ended by itself");
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(child);
        answered = (wanted..).take_while(|n| has_answered(directory.path(), *n)).last().unwrap();
        run(check(directory.path(), answered));
    }
}

/// A process that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(directory: &Path) -> Killed {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::the_process_that_is_killed", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    Killed(child)
}

fn has_answered(directory: &Path, number: u128) -> bool {
    directory.join(format!("answered-{number}")).exists()
}

/// Everything up to and with `answered` is there, and at most one thing of each kind besides.
async fn check(directory: &Path, answered: u128) {
    let (host, store, volumes) = open(directory);
    let guests = host.guests().await.unwrap();
    let images = store.list().await.unwrap();
    let listed = volumes.list().await.unwrap();
    let (clones, made): (Vec<_>, Vec<_>) =
        listed.into_iter().partition(|facts| facts.volume >= clone_of(0));
    let snapshots = volumes.snapshots().unwrap().list_snapshots().await.unwrap();
    for count in [guests.len(), images.len(), made.len(), clones.len(), snapshots.len()] {
        let count = count as u128;
        assert!(count == answered + 1 || count == answered + 2, "{count} for {answered}");
    }
    let whole = size(2);
    for VolumeFacts { volume, size, .. } in &clones {
        assert_eq!(*size, whole);
        // There, and as long as it should be.
        volumes.connect(*volume, HostId::from_u128(1), Fence(1)).await.unwrap();
    }
    assert!(snapshots.iter().all(|snapshot| snapshot.size == whole), "{snapshots:?}");
    for (number, found) in guests.iter().enumerate() {
        assert_eq!((found.instance, found.power), (id(number as u128), PowerState::Running));
    }
    for image in images {
        assert_eq!(store.content(image).await.unwrap().map(|c| c.size_bytes), Some(1 << 20));
    }
}
