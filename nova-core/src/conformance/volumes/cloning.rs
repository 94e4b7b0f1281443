//! The laws of [`CloneVolumes`](crate::port::CloneVolumes).

use super::content::{MIDDLE, assert_holds, end_of, fill, holds, write};
use super::snapshots::{S, T};
use super::{EARLIER, HERE, LATER, NOW, V, W, done, facts, overtaken, size};
use crate::port::{CloneSource, VolumeDriver, VolumeError};

/// The volume as it is.
const ALL_OF_V: CloneSource = CloneSource { volume: V, snapshot: None };

/// Cloning again is success while the clone is there, though its source is gone; onto a volume of
/// another origin it is refused.
pub async fn cloning_is_repeatable(driver: impl VolumeDriver) {
    let Some(cloning) = driver.cloning() else { return };
    done(driver.create(V, size(2), NOW).await);
    for _ in 0..2 {
        done(cloning.clone_volume(W, ALL_OF_V, NOW).await);
        assert_eq!(done(driver.list().await), [facts(V, 2, None), facts(W, 2, None)]);
    }
    let other = cloning.clone_volume(V, CloneSource { volume: W, snapshot: None }, NOW).await;
    assert!(matches!(other, Err(VolumeError::Exists { volume: V })), "{other:?}");
    done(driver.remove(V, NOW).await);
    done(cloning.clone_volume(W, ALL_OF_V, NOW).await);
    assert_eq!(done(driver.list().await), [facts(W, 2, None)]);
}

/// Of a volume or a snapshot that is not there nothing is made.
pub async fn a_clone_is_of_something(driver: impl VolumeDriver) {
    let Some(cloning) = driver.cloning() else { return };
    let none = cloning.clone_volume(W, ALL_OF_V, NOW).await;
    assert!(matches!(none, Err(VolumeError::NoSuchVolume { volume: V })), "{none:?}");
    done(driver.create(V, size(1), NOW).await);
    let none = cloning.clone_volume(W, CloneSource { volume: V, snapshot: Some(S) }, NOW).await;
    let told = matches!(none, Err(VolumeError::NoSuchSnapshot { volume: V, snapshot: S }));
    assert!(told, "{driver}: {none:?}");
    assert_eq!(done(driver.list().await), [facts(V, 1, None)]);
}

/// Neither sees what is written to the other, and either may be removed.
pub async fn a_clone_is_independent(driver: impl VolumeDriver) {
    let Some(cloning) = driver.cloning() else { return };
    done(driver.create(V, size(1), NOW).await);
    fill(&driver, V, &[0, MIDDLE, end_of(1)], 1).await;
    done(cloning.clone_volume(W, ALL_OF_V, NOW).await);
    holds(&driver, W, &[0, MIDDLE, end_of(1)], 1).await;
    holds(&driver, W, &[MIDDLE + (100 << 20)], 0).await;
    fill(&driver, V, &[MIDDLE], 2).await;
    fill(&driver, W, &[end_of(1)], 3).await;
    holds(&driver, V, &[end_of(1)], 1).await;
    done(driver.remove(V, NOW).await);
    holds(&driver, W, &[0, MIDDLE], 1).await;
    holds(&driver, W, &[end_of(1)], 3).await;
    if let Some(extending) = driver.extending() {
        done(extending.extend(W, size(2), NOW).await);
        holds(&driver, W, &[end_of(2)], 0).await;
    }
}

/// It holds what was written before, or there is none while somebody writes.
pub async fn a_clone_of_a_connected_volume_is_made_or_refused(driver: impl VolumeDriver) {
    let Some(cloning) = driver.cloning() else { return };
    done(driver.create(V, size(1), NOW).await);
    let connection = done(driver.connect(V, HERE, NOW).await);
    write(&connection, &[MIDDLE], 1);
    match cloning.clone_volume(W, ALL_OF_V, NOW).await {
        Err(VolumeError::Connected { volume: V, host: HERE }) => {
            assert_eq!(done(driver.list().await), [facts(V, 1, Some(HERE))]);
            done(driver.disconnect(V, HERE, NOW).await);
            done(cloning.clone_volume(W, ALL_OF_V, NOW).await);
            assert_eq!(done(driver.list().await), [facts(V, 1, None), facts(W, 1, None)]);
        }
        other => {
            done(other);
            // The host has the one and not the other.
            let expected = [facts(V, 1, Some(HERE)), facts(W, 1, None)];
            assert_eq!(done(driver.list().await), expected);
        }
    }
    holds(&driver, W, &[MIDDLE], 1).await;
}

/// As large as the volume was, with what it held; and the snapshot may go when the clone is made.
pub async fn a_clone_of_a_snapshot_is_of_its_moment(driver: impl VolumeDriver) {
    let (Some(snapshots), Some(cloning)) = (driver.snapshots(), driver.cloning()) else { return };
    done(driver.create(V, size(1), NOW).await);
    fill(&driver, V, &[MIDDLE], 1).await;
    done(snapshots.make_snapshot(V, T, NOW).await);
    if let Some(extending) = driver.extending() {
        done(extending.extend(V, size(2), NOW).await);
    }
    let connection = done(driver.connect(V, HERE, NOW).await);
    write(&connection, &[MIDDLE], 2);
    // Nobody writes to a snapshot, whoever has its volume.
    let source = CloneSource { volume: V, snapshot: Some(T) };
    done(cloning.clone_volume(W, source, NOW).await);
    done(snapshots.remove_snapshot(V, T, NOW).await);
    assert_eq!(done(driver.list().await).last(), Some(&facts(W, 1, None)));
    let clone = done(driver.connect(W, HERE, NOW).await);
    assert_holds(&clone, MIDDLE, 1);
    assert_holds(&connection, MIDDLE, 2);
}

/// A volume that was removed is not made again of another one by a late call, and a clone is a
/// call of the new volume.
pub async fn a_clone_that_was_overtaken_is_not_made(driver: impl VolumeDriver) {
    let Some(cloning) = driver.cloning() else { return };
    let all_of_w = CloneSource { volume: W, snapshot: None };
    done(driver.create(W, size(1), NOW).await);
    done(driver.remove(V, NOW).await);
    overtaken(cloning.clone_volume(V, all_of_w, EARLIER).await, NOW);
    assert_eq!(done(driver.list().await), [facts(W, 1, None)]);
    done(cloning.clone_volume(V, all_of_w, NOW).await);
    // Also when it was there already.
    done(cloning.clone_volume(V, all_of_w, LATER).await);
    overtaken(driver.connect(V, HERE, NOW).await, LATER);
    overtaken(cloning.clone_volume(V, all_of_w, NOW).await, LATER);
    // Nothing happened to what it was made of.
    done(driver.connect(W, HERE, NOW).await);
}
