//! The laws of [`SnapshotVolumes`](crate::port::SnapshotVolumes).

use super::content::{MIDDLE, assert_holds, fill, write};
use super::{EARLIER, HERE, LATER, NOW, V, W, done, facts, overtaken, size};
use crate::domain::{SnapshotId, VolumeId};
use crate::port::{CloneSource, SnapshotFacts, VolumeDriver, VolumeError};

pub(super) const S: SnapshotId = SnapshotId::from_u128(0x1);
pub(super) const T: SnapshotId = SnapshotId::from_u128(0x2);

/// Making it again is success, also when the volume has grown since; of what is not there none is
/// made.
pub async fn making_a_snapshot_is_repeatable(driver: impl VolumeDriver) {
    let Some(snapshots) = driver.snapshots() else { return };
    let missing = snapshots.make_snapshot(V, S, NOW).await;
    assert!(matches!(missing, Err(VolumeError::NoSuchVolume { volume: V })), "{missing:?}");
    done(driver.create(V, size(1), NOW).await);
    for _ in 0..2 {
        done(snapshots.make_snapshot(V, S, NOW).await);
        assert_eq!(done(snapshots.list_snapshots().await), [taken(V, S, 1)]);
        if let Some(extending) = driver.extending() {
            done(extending.extend(V, size(2), NOW).await);
        }
    }
    // A snapshot is no volume, and leaves its volume as it is.
    assert_eq!(done(driver.list().await).len(), 1);
}

/// What is written later is not in it, also when it is made again.
pub async fn a_snapshot_is_of_one_moment(driver: impl VolumeDriver) {
    let (Some(snapshots), Some(cloning)) = (driver.snapshots(), driver.cloning()) else { return };
    done(driver.create(V, size(1), NOW).await);
    fill(&driver, V, &[0, MIDDLE], 1).await;
    done(snapshots.make_snapshot(V, S, NOW).await);
    fill(&driver, V, &[MIDDLE], 2).await;
    done(snapshots.make_snapshot(V, S, NOW).await);
    let source = CloneSource { volume: V, snapshot: Some(S) };
    done(cloning.clone_volume(W, source, NOW).await);
    let (then, now) =
        (done(driver.connect(W, HERE, NOW).await), done(driver.connect(V, HERE, NOW).await));
    assert_holds(&then, 0, 1);
    assert_holds(&then, MIDDLE, 1);
    assert_holds(&now, 0, 1);
    assert_holds(&now, MIDDLE, 2);
}

/// It holds what was written before, or there is none while somebody writes.
pub async fn a_snapshot_of_a_connected_volume_is_made_or_refused(driver: impl VolumeDriver) {
    let Some(snapshots) = driver.snapshots() else { return };
    done(driver.create(V, size(1), NOW).await);
    let connection = done(driver.connect(V, HERE, NOW).await);
    write(&connection, &[MIDDLE], 1);
    match snapshots.make_snapshot(V, S, NOW).await {
        Err(VolumeError::Connected { volume: V, host: HERE }) => {
            assert_eq!(done(snapshots.list_snapshots().await), []);
            done(driver.disconnect(V, HERE, NOW).await);
            done(snapshots.make_snapshot(V, S, NOW).await);
        }
        other => {
            done(other);
            assert_eq!(done(driver.list().await), [facts(V, 1, Some(HERE))]);
            write(&connection, &[MIDDLE], 2);
            done(driver.disconnect(V, HERE, NOW).await);
        }
    }
    assert_eq!(done(snapshots.list_snapshots().await), [taken(V, S, 1)]);
    let Some(cloning) = driver.cloning() else { return };
    let source = CloneSource { volume: V, snapshot: Some(S) };
    done(cloning.clone_volume(W, source, NOW).await);
    assert_holds(&done(driver.connect(W, HERE, NOW).await), MIDDLE, 1);
}

/// Removing it twice, or what never was, is success, and the others stay.
pub async fn removing_a_snapshot_is_repeatable(driver: impl VolumeDriver) {
    let Some(snapshots) = driver.snapshots() else { return };
    done(snapshots.remove_snapshot(V, S, NOW).await);
    done(driver.create(V, size(1), NOW).await);
    done(snapshots.make_snapshot(V, S, NOW).await);
    done(snapshots.make_snapshot(V, T, NOW).await);
    for _ in 0..2 {
        done(snapshots.remove_snapshot(V, S, NOW).await);
        assert_eq!(done(snapshots.list_snapshots().await), [taken(V, T, 1)]);
    }
    assert_eq!(done(driver.list().await), [facts(V, 1, None)]);
}

/// Whoever made a snapshot wanted to keep it; when the last one is gone, the volume may go.
pub async fn a_volume_with_snapshots_is_not_removed(driver: impl VolumeDriver) {
    let Some(snapshots) = driver.snapshots() else { return };
    done(driver.create(V, size(1), NOW).await);
    done(snapshots.make_snapshot(V, S, NOW).await);
    let refused = driver.remove(V, NOW).await;
    assert!(matches!(refused, Err(VolumeError::HasSnapshots { volume: V })), "{refused:?}");
    assert_eq!(done(driver.list().await), [facts(V, 1, None)]);
    assert_eq!(done(snapshots.list_snapshots().await), [taken(V, S, 1)]);
    done(snapshots.remove_snapshot(V, S, NOW).await);
    done(driver.remove(V, NOW).await);
    assert_eq!(done(driver.list().await), []);
}

/// The lowest volume first, and of each the lowest snapshot.
pub async fn snapshots_are_listed_in_order(driver: impl VolumeDriver) {
    let Some(snapshots) = driver.snapshots() else { return };
    assert_eq!(done(snapshots.list_snapshots().await), []);
    for volume in [W, V] {
        done(driver.create(volume, size(1), NOW).await);
        for snapshot in [T, S] {
            done(snapshots.make_snapshot(volume, snapshot, NOW).await);
        }
    }
    let expected = [taken(V, S, 1), taken(V, T, 1), taken(W, S, 1), taken(W, T, 1)];
    assert_eq!(done(snapshots.list_snapshots().await), expected);
}

/// An earlier call makes no snapshot of what somebody has by now, and takes none that was made
/// since; and both are calls of their volume.
pub async fn a_snapshot_call_that_was_overtaken_changes_nothing(driver: impl VolumeDriver) {
    let Some(snapshots) = driver.snapshots() else { return };
    done(driver.create(V, size(1), EARLIER).await);
    done(snapshots.make_snapshot(V, S, NOW).await);
    overtaken(driver.connect(V, HERE, EARLIER).await, NOW);
    overtaken(snapshots.make_snapshot(V, T, EARLIER).await, NOW);
    overtaken(snapshots.remove_snapshot(V, S, EARLIER).await, NOW);
    assert_eq!(done(snapshots.list_snapshots().await), [taken(V, S, 1)]);
    // Also when there was nothing to do.
    done(snapshots.remove_snapshot(V, T, LATER).await);
    overtaken(snapshots.make_snapshot(V, T, NOW).await, LATER);
    overtaken(snapshots.remove_snapshot(V, S, NOW).await, LATER);
    assert_eq!(done(snapshots.list_snapshots().await), [taken(V, S, 1)]);
    done(snapshots.remove_snapshot(V, S, LATER).await);
    overtaken(snapshots.make_snapshot(V, S, NOW).await, LATER);
    assert_eq!(done(snapshots.list_snapshots().await), []);
}

fn taken(volume: VolumeId, snapshot: SnapshotId, gib: u64) -> SnapshotFacts {
    SnapshotFacts { volume, snapshot, size: size(gib) }
}
