//! The laws of hosts that rescue guests.

use super::{Subject, World, done};
use crate::domain::{Image, ImageId, PowerState, Reboot};
use crate::port::{ImageError, VirtError};
use crate::seed::Seed;

/// From whatever power state, also when it is asked again; volumes and the boot number stay.
pub async fn a_rescued_guest_runs(subject: impl Into<Subject>) {
    let world = World::new(subject, "a_rescued_guest_runs").await;
    let Some(rescuing) = world.driver().rescuing() else { return };
    let image = world.spec(0).image;
    let guest = world.create(0).await;
    done(world.driver().reboot(guest, Reboot::Hard, 3).await);
    let before = world.guest(guest).await;
    assert!(!done(rescuing.rescued(guest).await), "{}: a new guest is rescued", world.driver());
    done(world.driver().stop(guest).await);
    for _ in 0..2 {
        done(rescuing.rescue(guest, &image, &*world.images).await);
        assert!(done(rescuing.rescued(guest).await), "{}: it is not rescued", world.driver());
        assert_eq!(world.guest(guest).await, before);
    }
    // One that was shut down meanwhile is started again, and is still rescued.
    done(world.driver().stop(guest).await);
    assert!(done(rescuing.rescued(guest).await));
    done(rescuing.rescue(guest, &image, &*world.images).await);
    assert_eq!(world.power(guest).await, PowerState::Running);
    // A guest that is made anew is not rescued.
    done(world.driver().remove(guest).await);
    world.create(0).await;
    assert!(!done(rescuing.rescued(guest).await));
    world.clean().await;
}

/// It runs from its own disk afterwards; a guest that is not rescued is left as it is.
pub async fn unrescue_is_repeatable(subject: impl Into<Subject>) {
    let world = World::new(subject, "unrescue_is_repeatable").await;
    let Some(rescuing) = world.driver().rescuing() else { return };
    let image = world.spec(0).image;
    let guest = world.create(0).await;
    done(world.driver().stop(guest).await);
    done(rescuing.unrescue(guest).await);
    assert_eq!(world.power(guest).await, PowerState::Shutdown, "nothing was rescued");
    done(rescuing.rescue(guest, &image, &*world.images).await);
    done(world.driver().stop(guest).await);
    for _ in 0..2 {
        done(rescuing.unrescue(guest).await);
        assert!(!done(rescuing.rescued(guest).await));
        assert_eq!(world.power(guest).await, PowerState::Running);
    }
    world.clean().await;
}

/// A rescue image that is missing, and a guest that is, are named.
pub async fn a_rescue_that_cannot_be_changes_nothing(subject: impl Into<Subject>) {
    let world = World::new(subject, "a_rescue_that_cannot_be_changes_nothing").await;
    let Some(rescuing) = world.driver().rescuing() else { return };
    let guest = world.create(0).await;
    done(world.driver().stop(guest).await);
    let before = world.guest(guest).await;
    let id = ImageId::draw(&mut Seed::new(0).child("missing rescue image").chance());
    let mut missing = Image { id, ..world.spec(0).image };
    // Not what the host has already.
    missing.content.sha256 = "0".repeat(64);
    let refused = rescuing.rescue(guest, &missing, &*world.images).await;
    let told = matches!(
        refused,
        Err(VirtError::Image { source: ImageError::NoSuchImage { image }, .. }) if image == id
    );
    assert!(told, "{}: {refused:?}", world.driver());
    assert!(!done(rescuing.rescued(guest).await));
    assert_eq!(world.guest(guest).await, before);
    let (gone, image) = (world.id(1), world.spec(0).image);
    let refusals = [
        rescuing.rescue(gone, &image, &*world.images).await,
        rescuing.unrescue(gone).await,
        rescuing.rescued(gone).await.map(drop),
    ];
    for refused in refusals {
        let told = matches!(refused, Err(VirtError::NoSuchGuest { instance }) if instance == gone);
        assert!(told, "{}: {refused:?}", world.driver());
    }
    world.clean().await;
}
