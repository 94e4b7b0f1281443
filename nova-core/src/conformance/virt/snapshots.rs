//! The laws of hosts that take images of guests.

use super::{Subject, World, done};
use crate::domain::{Image, ImageFormat, ImageId, InstanceId, PowerState};
use crate::port::{GuestSpec, ImageError, VirtError};
use crate::seed::Seed;

/// A guest is as it was, running, shut down or paused, and the store has what was told.
pub async fn a_snapshot_changes_nothing(subject: impl Into<Subject>) {
    let world = World::new(subject, "a_snapshot_changes_nothing").await;
    let Some(snapshots) = world.driver().snapshots() else { return };
    let guest = world.create(0).await;
    for round in 0..3 {
        match (round, world.driver().pausing()) {
            (1, _) => done(world.driver().stop(guest).await),
            (2, Some(pausing)) => {
                done(world.driver().start(guest).await);
                done(pausing.pause(guest).await);
            }
            _ => {}
        }
        let before = world.guest(guest).await;
        let image = drawn(guest, round);
        let told = snapshots.snapshot(guest, image, format(&world), &*world.images).await;
        let stored = world.images.content(image).await.unwrap_or_default();
        assert_eq!(stored, Some(done(told)), "{}", world.driver());
        assert_eq!(world.guest(guest).await, before);
        forget(&world, image).await;
    }
    world.clean().await;
}

/// An image that was stored is told again and left as it is, whatever the guest does since.
pub async fn a_snapshot_is_repeatable(subject: impl Into<Subject>) {
    let world = World::new(subject, "a_snapshot_is_repeatable").await;
    let Some(snapshots) = world.driver().snapshots() else { return };
    let guest = world.create(0).await;
    let image = drawn(guest, 0);
    let first = done(snapshots.snapshot(guest, image, format(&world), &*world.images).await);
    done(world.driver().stop(guest).await);
    let again = done(snapshots.snapshot(guest, image, format(&world), &*world.images).await);
    assert_eq!(again, first, "{}", world.driver());
    forget(&world, image).await;
    world.clean().await;
}

/// What was stored is an image that a guest starts from, also when the first guest is gone.
pub async fn a_snapshot_makes_a_guest(subject: impl Into<Subject>) {
    let world = World::new(subject, "a_snapshot_makes_a_guest").await;
    let Some(snapshots) = world.driver().snapshots() else { return };
    let guest = world.create(0).await;
    let id = drawn(guest, 0);
    let content = done(snapshots.snapshot(guest, id, format(&world), &*world.images).await);
    done(world.driver().remove(guest).await);
    let spec = world.spec(1);
    let image = Image { id, content, server: Some(guest), ..spec.image.clone() };
    let spec = GuestSpec { image, ..spec };
    done(world.driver().create(&spec, &*world.images).await);
    assert_eq!(world.power(spec.instance).await, PowerState::Running);
    forget(&world, id).await;
    world.clean().await;
}

/// A guest that is not here is named, and no image is left.
pub async fn a_snapshot_of_nothing_leaves_nothing(subject: impl Into<Subject>) {
    let world = World::new(subject, "a_snapshot_of_nothing_leaves_nothing").await;
    let Some(snapshots) = world.driver().snapshots() else { return };
    let (guest, image) = (world.id(0), drawn(world.id(0), 0));
    let missing = snapshots.snapshot(guest, image, format(&world), &*world.images).await;
    let told = matches!(missing, Err(VirtError::NoSuchGuest { instance }) if instance == guest);
    assert!(told, "{}: {missing:?}", world.driver());
    let left = world.images.open(image).await.map(|_| ());
    assert!(matches!(left, Err(ImageError::NoSuchImage { .. })), "{}: {left:?}", world.driver());
    world.clean().await;
}

/// An image of the guest's own.
fn drawn(guest: InstanceId, number: u128) -> ImageId {
    ImageId::draw(&mut Seed::new(0).child_of("snapshot", guest.as_u128() ^ number).chance())
}

fn format(world: &World) -> ImageFormat {
    world.spec(0).image.format
}

async fn forget(world: &World, image: ImageId) {
    if let Err(error) = world.images.remove(image).await {
        panic!("no image is removed: {error:?}");
    }
}
