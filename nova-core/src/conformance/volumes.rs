//! The laws of a [`VolumeDriver`].
//!
//! A subject is a driver without volumes that can make a few of one and two gibibytes. The suite
//! asks it what it can do: the laws of an ability hold for a driver that does not have it. Where a
//! connection is a file or a device, it is one of this machine, and what it holds is looked at.

mod cloning;
mod content;
mod extending;
mod filling;
mod snapshots;

pub use cloning::*;
pub use extending::*;
pub use filling::*;
pub use snapshots::*;

use content::{MIDDLE, end_of};

use crate::domain::{Fence, GiB, HostId, VolumeId, VolumeSize};
use crate::port::{VolumeDriver, VolumeError, VolumeFacts};

/// One test for each law of a volume driver; the expression makes a driver without volumes. What
/// stands after an `if` before it says of each law's name whether it can be tested here; where it
/// cannot, it should say so.
///
/// ```
/// nova_core::volume_laws!(async { nova_core::memory::MemoryVolumes::new() });
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! volume_laws {
    (if $here:expr, $make:expr) => {
        $crate::laws!(
            volumes,
            if $here,
            $make,
            [
                create_is_repeatable,
                a_new_volume_is_empty,
                a_volume_is_connected_to_one_host,
                connect_is_repeatable,
                disconnect_is_repeatable,
                a_connected_volume_is_not_removed,
                remove_is_repeatable,
                list_is_sorted,
                a_call_that_was_overtaken_changes_nothing,
                finding_nothing_to_do_overtakes_too,
                a_removed_volume_is_not_made_again_by_a_late_call,
                a_shared_volume_is_connected_to_two_hosts,
                sharing_is_repeatable,
                sharing_ends_with_either_host,
                sharing_that_was_overtaken_changes_nothing,
                extending_is_repeatable,
                a_volume_does_not_shrink,
                a_connected_volume_is_extended,
                extending_that_was_overtaken_changes_nothing,
                making_a_snapshot_is_repeatable,
                a_snapshot_is_of_one_moment,
                a_snapshot_of_a_connected_volume_is_made_or_refused,
                removing_a_snapshot_is_repeatable,
                a_volume_with_snapshots_is_not_removed,
                snapshots_are_listed_in_order,
                a_snapshot_call_that_was_overtaken_changes_nothing,
                cloning_is_repeatable,
                a_clone_is_of_something,
                a_clone_is_independent,
                a_clone_of_a_connected_volume_is_made_or_refused,
                a_clone_of_a_snapshot_is_of_its_moment,
                a_clone_that_was_overtaken_is_not_made,
                filling_is_repeatable,
                a_filled_volume_holds_the_disk_of_its_image,
                of_a_wrong_image_no_volume_is_made,
                an_image_has_to_fit_into_its_volume,
                a_filling_that_was_overtaken_makes_nothing,
            ]
        );
    };
    ($make:expr) => {
        $crate::volume_laws!(if |_: &str| true, $make);
    };
}

const V: VolumeId = VolumeId::from_u128(0x5);
const W: VolumeId = VolumeId::from_u128(0x6);
const HERE: HostId = HostId::from_u128(0xA);
const THERE: HostId = HostId::from_u128(0xB);
const BEYOND: HostId = HostId::from_u128(0xC);
const EARLIER: Fence = Fence(4);
const NOW: Fence = Fence(5);
const LATER: Fence = Fence(600);

/// Making a volume again with its size changes nothing; with another size it is refused.
pub async fn create_is_repeatable(driver: impl VolumeDriver) {
    done(driver.create(V, size(1), NOW).await);
    done(driver.connect(V, HERE, NOW).await);
    done(driver.create(V, size(1), NOW).await);
    let larger = driver.create(V, size(2), NOW).await;
    assert!(matches!(larger, Err(VolumeError::Exists { volume: V })), "{larger:?}");
    assert_eq!(done(driver.list().await), [facts(V, 1, Some(HERE))]);
}

/// It reads as zeros, also where another one was that held something.
pub async fn a_new_volume_is_empty(driver: impl VolumeDriver) {
    for _ in 0..2 {
        for volume in [V, W] {
            done(driver.create(volume, size(1), NOW).await);
            content::holds(&driver, volume, &[0, MIDDLE, end_of(1)], 0).await;
            content::fill(&driver, volume, &[0, MIDDLE, end_of(1)], 0xA5).await;
        }
        for volume in [V, W] {
            done(driver.remove(volume, NOW).await);
        }
    }
}

/// While one host has it, no other gets it, also when both ask at once.
pub async fn a_volume_is_connected_to_one_host(driver: impl VolumeDriver) {
    let missing = driver.connect(V, HERE, NOW).await;
    assert!(matches!(missing, Err(VolumeError::NoSuchVolume { volume: V })), "{missing:?}");

    done(driver.create(V, size(1), NOW).await);
    let (here, there) = tokio::join!(driver.connect(V, HERE, NOW), driver.connect(V, THERE, NOW));
    let (winner, loser) = match (&here, &there) {
        (Ok(_), Err(VolumeError::Connected { volume: V, host: HERE })) => (HERE, THERE),
        (Err(VolumeError::Connected { volume: V, host: THERE }), Ok(_)) => (THERE, HERE),
        other => panic!("{driver}: not exactly one host got it: {other:?}"),
    };
    assert_eq!(done(driver.list().await), [facts(V, 1, Some(winner))]);

    done(driver.disconnect(V, winner, NOW).await);
    done(driver.connect(V, loser, NOW).await);
    assert_eq!(done(driver.list().await), [facts(V, 1, Some(loser))]);
}

/// The same host asking again gets the same connection.
pub async fn connect_is_repeatable(driver: impl VolumeDriver) {
    done(driver.create(V, size(1), NOW).await);
    let first = done(driver.connect(V, HERE, NOW).await);
    assert_eq!(done(driver.connect(V, HERE, NOW).await), first);
    assert_eq!(done(driver.list().await), [facts(V, 1, Some(HERE))]);
}

/// Taking it away twice, from a host that never had it, or a volume that never was, is success;
/// and the host that has it keeps it.
pub async fn disconnect_is_repeatable(driver: impl VolumeDriver) {
    done(driver.disconnect(V, HERE, NOW).await);
    done(driver.create(V, size(1), NOW).await);
    done(driver.connect(V, HERE, NOW).await);
    done(driver.disconnect(V, THERE, NOW).await);
    assert_eq!(done(driver.list().await), [facts(V, 1, Some(HERE))]);
    for _ in 0..2 {
        done(driver.disconnect(V, HERE, NOW).await);
        assert_eq!(done(driver.list().await), [facts(V, 1, None)]);
    }
}

/// What a host uses is not destroyed under it.
pub async fn a_connected_volume_is_not_removed(driver: impl VolumeDriver) {
    done(driver.create(V, size(1), NOW).await);
    done(driver.connect(V, HERE, NOW).await);
    let refused = driver.remove(V, NOW).await;
    let told = matches!(refused, Err(VolumeError::Connected { volume: V, host: HERE }));
    assert!(told, "{driver}: {refused:?}");
    assert_eq!(done(driver.list().await), [facts(V, 1, Some(HERE))]);
    done(driver.disconnect(V, HERE, NOW).await);
    done(driver.remove(V, NOW).await);
    assert_eq!(done(driver.list().await), []);
}

/// Removing twice, or what never was, is success; the id is free afterwards.
pub async fn remove_is_repeatable(driver: impl VolumeDriver) {
    done(driver.create(V, size(1), NOW).await);
    for _ in 0..2 {
        done(driver.remove(V, NOW).await);
        assert_eq!(done(driver.list().await), []);
    }
    done(driver.create(V, size(2), NOW).await);
    assert_eq!(done(driver.list().await), [facts(V, 2, None)]);
}

/// The list holds every volume once, the lowest id first.
pub async fn list_is_sorted(driver: impl VolumeDriver) {
    assert_eq!(done(driver.list().await), []);
    for number in [3, 1, 2, u128::MAX] {
        done(driver.create(VolumeId::from_u128(number), size(1), NOW).await);
    }
    let expected = [1, 2, 3, u128::MAX].map(|n| facts(VolumeId::from_u128(n), 1, None));
    assert_eq!(done(driver.list().await), expected);
}

/// Whatever verb came last, no earlier one is carried out; what comes with the same fence or a later
/// one is.
pub async fn a_call_that_was_overtaken_changes_nothing(driver: impl VolumeDriver) {
    done(driver.create(V, size(1), EARLIER).await);
    done(driver.connect(V, HERE, NOW).await);
    for _ in 0..2 {
        overtaken(driver.create(V, size(1), EARLIER).await, NOW);
        overtaken(driver.connect(V, HERE, EARLIER).await, NOW);
        overtaken(driver.disconnect(V, HERE, EARLIER).await, NOW);
        overtaken(driver.remove(V, EARLIER).await, NOW);
        assert_eq!(done(driver.list().await), [facts(V, 1, Some(HERE))]);
    }
    done(driver.disconnect(V, HERE, NOW).await);
    done(driver.connect(V, HERE, NOW).await);
    done(driver.disconnect(V, HERE, LATER).await);
    for host in [HERE, THERE] {
        overtaken(driver.connect(V, host, NOW).await, LATER);
    }
    assert_eq!(done(driver.list().await), [facts(V, 1, None)]);
    // Another volume's calls have nothing to do with it.
    let other = VolumeId::from_u128(0x6);
    done(driver.create(other, size(1), EARLIER).await);
    done(driver.connect(other, HERE, EARLIER).await);
}

/// A call that finds everything as it should be is one that was carried out: what it should have
/// found may still be on its way.
pub async fn finding_nothing_to_do_overtakes_too(driver: impl VolumeDriver) {
    done(driver.create(V, size(1), EARLIER).await);
    done(driver.disconnect(V, HERE, NOW).await);
    overtaken(driver.connect(V, HERE, EARLIER).await, NOW);
    done(driver.create(V, size(1), LATER).await);
    overtaken(driver.connect(V, HERE, NOW).await, LATER);
    done(driver.connect(V, HERE, LATER).await);
    let later = Fence(LATER.0 + 1);
    done(driver.connect(V, HERE, later).await);
    overtaken(driver.disconnect(V, HERE, LATER).await, later);
    assert_eq!(done(driver.list().await), [facts(V, 1, Some(HERE))]);
}

/// What was removed, or never was and was to be removed, stays away.
pub async fn a_removed_volume_is_not_made_again_by_a_late_call(driver: impl VolumeDriver) {
    done(driver.create(V, size(1), EARLIER).await);
    done(driver.remove(V, NOW).await);
    let never = VolumeId::from_u128(0x6);
    done(driver.remove(never, LATER).await);
    overtaken(driver.create(V, size(1), EARLIER).await, NOW);
    overtaken(driver.connect(V, HERE, EARLIER).await, NOW);
    let late = driver.create(never, size(1), NOW).await;
    assert!(matches!(late, Err(VolumeError::Overtaken { seen: LATER, .. })), "{late:?}");
    assert_eq!(done(driver.list().await), []);
    done(driver.create(V, size(1), NOW).await);
    assert_eq!(done(driver.list().await), [facts(V, 1, None)]);
}

/// It is shared by the host that has it with one other, and with no third; none of them can be
/// overlooked when it is removed.
pub async fn a_shared_volume_is_connected_to_two_hosts(driver: impl VolumeDriver) {
    let Some(sharing) = driver.sharing() else { return };
    let missing = sharing.share(V, HERE, THERE, NOW).await;
    assert!(matches!(missing, Err(VolumeError::NoSuchVolume { volume: V })), "{missing:?}");
    done(driver.create(V, size(1), NOW).await);
    let free = sharing.share(V, HERE, THERE, NOW).await;
    let told = matches!(free, Err(VolumeError::NotConnected { volume: V, host: HERE }));
    assert!(told, "{driver}: {free:?}");
    done(driver.connect(V, HERE, NOW).await);
    done(sharing.share(V, HERE, THERE, NOW).await);
    let shared = VolumeFacts { shared_with: Some(THERE), ..facts(V, 1, Some(HERE)) };
    assert_eq!(done(driver.list().await), std::slice::from_ref(&shared));
    let third = sharing.share(V, HERE, BEYOND, NOW).await;
    assert!(matches!(third, Err(VolumeError::Connected { .. })), "{driver}: {third:?}");
    let third = driver.connect(V, BEYOND, NOW).await;
    assert!(matches!(third, Err(VolumeError::Connected { .. })), "{driver}: {third:?}");
    let removed = driver.remove(V, NOW).await;
    assert!(matches!(removed, Err(VolumeError::Connected { .. })), "{driver}: {removed:?}");
    assert_eq!(done(driver.list().await), [shared]);
}

/// Sharing again gives the same connection, and so does connecting to either of the two.
pub async fn sharing_is_repeatable(driver: impl VolumeDriver) {
    let Some(sharing) = driver.sharing() else { return };
    done(driver.create(V, size(1), NOW).await);
    let here = done(driver.connect(V, HERE, NOW).await);
    let there = done(sharing.share(V, HERE, THERE, NOW).await);
    assert_eq!(done(sharing.share(V, HERE, THERE, NOW).await), there);
    assert_eq!(done(driver.connect(V, THERE, NOW).await), there);
    assert_eq!(done(driver.connect(V, HERE, NOW).await), here);
    let shared = VolumeFacts { shared_with: Some(THERE), ..facts(V, 1, Some(HERE)) };
    assert_eq!(done(driver.list().await), [shared]);
}

/// Whichever of the two lets go, the other has it alone, also when it is shared anew after that.
pub async fn sharing_ends_with_either_host(driver: impl VolumeDriver) {
    let Some(sharing) = driver.sharing() else { return };
    done(driver.create(V, size(1), NOW).await);
    done(driver.connect(V, HERE, NOW).await);
    done(sharing.share(V, HERE, THERE, NOW).await);
    for _ in 0..2 {
        done(driver.disconnect(V, THERE, NOW).await);
        assert_eq!(done(driver.list().await), [facts(V, 1, Some(HERE))]);
    }
    done(sharing.share(V, HERE, THERE, NOW).await);
    for _ in 0..2 {
        done(driver.disconnect(V, HERE, NOW).await);
        assert_eq!(done(driver.list().await), [facts(V, 1, Some(THERE))]);
    }
    done(sharing.share(V, THERE, HERE, NOW).await);
    done(driver.disconnect(V, THERE, NOW).await);
    done(driver.disconnect(V, HERE, NOW).await);
    assert_eq!(done(driver.list().await), [facts(V, 1, None)]);
}

/// A volume that was given to a second host and taken back, or asked for by a later call, is not
/// given to it by an earlier one; and what was shared later is not ended by what came before.
pub async fn sharing_that_was_overtaken_changes_nothing(driver: impl VolumeDriver) {
    let Some(sharing) = driver.sharing() else { return };
    done(driver.create(V, size(1), EARLIER).await);
    done(driver.connect(V, HERE, EARLIER).await);
    done(driver.disconnect(V, THERE, NOW).await);
    overtaken(sharing.share(V, HERE, THERE, EARLIER).await, NOW);
    assert_eq!(done(driver.list().await), [facts(V, 1, Some(HERE))]);
    for fence in [LATER, LATER, Fence(LATER.0 + 1)] {
        done(sharing.share(V, HERE, THERE, fence).await);
        for host in [HERE, THERE] {
            overtaken(driver.disconnect(V, host, NOW).await, fence);
        }
        let shared = VolumeFacts { shared_with: Some(THERE), ..facts(V, 1, Some(HERE)) };
        assert_eq!(done(driver.list().await), [shared]);
    }
}

fn facts(volume: VolumeId, gib: u64, connected_to: Option<HostId>) -> VolumeFacts {
    VolumeFacts { volume, size: size(gib), connected_to, shared_with: None }
}

fn size(gib: u64) -> VolumeSize {
    VolumeSize::new(GiB(gib)).unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn done<T>(result: Result<T, VolumeError>) -> T {
    result.unwrap_or_else(|error| panic!("unexpected: {error:?}"))
}

/// The error names the volume, what was too late, and what it was too late for.
#[track_caller]
fn overtaken<T: std::fmt::Debug>(result: Result<T, VolumeError>, by: Fence) {
    let told = match &result {
        Err(VolumeError::Overtaken { volume: V, fence, seen }) => *seen == by && *fence < by,
        _ => false,
    };
    assert!(told, "not overtaken by {by}: {result:?}");
}
