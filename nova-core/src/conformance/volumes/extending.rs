//! The laws of [`ExtendVolumes`](crate::port::ExtendVolumes).

use super::content::{MIDDLE, assert_holds, end_of, write};
use super::{EARLIER, HERE, LATER, NOW, V, done, facts, overtaken, size};
use crate::port::{VolumeDriver, VolumeError};

/// A volume that is as large as it should be is left as it is; one that is not there is missed.
pub async fn extending_is_repeatable(driver: impl VolumeDriver) {
    let Some(extending) = driver.extending() else { return };
    let missing = extending.extend(V, size(2), NOW).await;
    assert!(matches!(missing, Err(VolumeError::NoSuchVolume { volume: V })), "{missing:?}");
    done(driver.create(V, size(1), NOW).await);
    done(extending.extend(V, size(1), NOW).await);
    assert_eq!(done(driver.list().await), [facts(V, 1, None)]);
    for _ in 0..2 {
        done(extending.extend(V, size(2), NOW).await);
        assert_eq!(done(driver.list().await), [facts(V, 2, None)]);
    }
    // Its size is what it has, not what it began with.
    done(driver.create(V, size(2), NOW).await);
    let smaller = driver.create(V, size(1), NOW).await;
    assert!(matches!(smaller, Err(VolumeError::Exists { volume: V })), "{smaller:?}");
}

/// It is told that it would, and by how much.
pub async fn a_volume_does_not_shrink(driver: impl VolumeDriver) {
    let Some(extending) = driver.extending() else { return };
    done(driver.create(V, size(2), NOW).await);
    let refused = extending.extend(V, size(1), NOW).await;
    let is = size(2);
    let told = matches!(&refused, Err(VolumeError::WouldShrink { volume: V, size }) if *size == is);
    assert!(told, "{driver}: {refused:?}");
    assert_eq!(done(driver.list().await), [facts(V, 2, None)]);
}

/// The host keeps it, and its bytes; those behind them are zeros.
pub async fn a_connected_volume_is_extended(driver: impl VolumeDriver) {
    let Some(extending) = driver.extending() else { return };
    done(driver.create(V, size(1), NOW).await);
    let connection = done(driver.connect(V, HERE, NOW).await);
    write(&connection, &[0, MIDDLE, end_of(1)], 7);
    done(extending.extend(V, size(2), NOW).await);
    assert_eq!(done(driver.list().await), [facts(V, 2, Some(HERE))]);
    assert_eq!(done(driver.connect(V, HERE, NOW).await), connection);
    for place in [0, MIDDLE, end_of(1)] {
        assert_holds(&connection, place, 7);
    }
    assert_holds(&connection, end_of(1) + 4096, 0);
    assert_holds(&connection, end_of(2), 0);
}

/// Neither does an earlier extension grow what a later call has seen, nor does an earlier call
/// follow a later extension, though that had nothing to do.
pub async fn extending_that_was_overtaken_changes_nothing(driver: impl VolumeDriver) {
    let Some(extending) = driver.extending() else { return };
    done(driver.create(V, size(1), EARLIER).await);
    done(driver.connect(V, HERE, NOW).await);
    overtaken(extending.extend(V, size(2), EARLIER).await, NOW);
    assert_eq!(done(driver.list().await), [facts(V, 1, Some(HERE))]);
    done(extending.extend(V, size(1), LATER).await);
    overtaken(driver.disconnect(V, HERE, NOW).await, LATER);
    overtaken(extending.extend(V, size(2), NOW).await, LATER);
    assert_eq!(done(driver.list().await), [facts(V, 1, Some(HERE))]);
    done(driver.disconnect(V, HERE, LATER).await);
    done(driver.remove(V, LATER).await);
    overtaken(extending.extend(V, size(2), NOW).await, LATER);
}
