//! The laws of hosts that take guests to other hosts.
//!
//! A guest is taken to the neighbour that the subject has. Without one it is taken to the host that
//! it was on, after it was removed there: that says nothing about the way between hosts, but what
//! a parcel holds.

use super::{Subject, World, done};
use crate::domain::{PowerState, Reboot};
use crate::port::{Guest, VirtError};

/// A guest that was packed is where it was and as it was, and packed again gives the same.
pub async fn packing_changes_nothing(subject: impl Into<Subject>) {
    let world = World::new(subject, "packing_changes_nothing").await;
    let Some(moving) = world.driver().moving() else { return };
    let guest = world.create(0).await;
    done(world.driver().reboot(guest, Reboot::Hard, 2).await);
    done(world.driver().stop(guest).await);
    let before = world.guest(guest).await;
    let parcel = done(moving.pack(guest).await);
    assert_eq!((parcel.instance, parcel.boot), (guest, 2));
    assert_eq!(done(moving.pack(guest).await), parcel);
    assert_eq!(world.guest(guest).await, before);
    world.clean().await;
}

/// A guest that runs changes under the hands of whoever packs it; one that is not there is named.
pub async fn a_running_guest_is_not_packed(subject: impl Into<Subject>) {
    let world = World::new(subject, "a_running_guest_is_not_packed").await;
    let Some(moving) = world.driver().moving() else { return };
    let guest = world.create(0).await;
    let refused = moving.pack(guest).await;
    let told = matches!(
        refused,
        Err(VirtError::WrongPower { instance, power: PowerState::Running, .. })
            if instance == guest
    );
    assert!(told, "{}: {refused:?}", world.driver());
    let missing = moving.pack(world.id(1)).await;
    let told = matches!(
        missing,
        Err(VirtError::NoSuchGuest { instance }) if instance == world.id(1)
    );
    assert!(told, "{}: {missing:?}", world.driver());
    world.clean().await;
}

/// It comes out shut down, with its boot number and without volumes, and can be started.
pub async fn a_guest_is_unpacked_as_it_was_packed(subject: impl Into<Subject>) {
    let world = World::new(subject, "a_guest_is_unpacked_as_it_was_packed").await;
    let Some(moving) = world.driver().moving() else { return };
    let guest = world.create(0).await;
    done(world.driver().reboot(guest, Reboot::Hard, 3).await);
    done(world.driver().stop(guest).await);
    let parcel = done(moving.pack(guest).await);
    let expected =
        Guest { instance: guest, power: PowerState::Shutdown, boot: 3, volumes: Vec::new() };
    let there = match world.neighbour() {
        Some(there) => there,
        None => {
            done(world.driver().remove(guest).await);
            world.driver()
        }
    };
    let unpacking = there.moving().unwrap_or_else(|| panic!("{there} takes no guests"));
    done(unpacking.unpack(&world.spec(0), &parcel, world.images.as_ref()).await);
    assert_eq!(done(there.guest(guest).await), Some(expected.clone()));
    if world.neighbour().is_some() {
        // Where it was it is as it was, and what it has there is its own: either goes without the
        // other.
        assert_eq!(world.guest(guest).await, Some(expected));
        done(world.driver().start(guest).await);
        assert_eq!(world.power(guest).await, PowerState::Running);
        done(world.driver().remove(guest).await);
    }
    done(there.start(guest).await);
    assert_eq!(done(there.guest(guest).await).map(|guest| guest.power), Some(PowerState::Running));
    world.clean().await;
}

/// A guest that is here is left as it is, running or not.
pub async fn unpack_is_repeatable(subject: impl Into<Subject>) {
    let world = World::new(subject, "unpack_is_repeatable").await;
    let Some(moving) = world.driver().moving() else { return };
    let guest = world.create(0).await;
    done(world.driver().stop(guest).await);
    let parcel = done(moving.pack(guest).await);
    done(world.driver().start(guest).await);
    done(world.driver().reboot(guest, Reboot::Hard, 4).await);
    let before = world.guest(guest).await;
    done(moving.unpack(&world.spec(0), &parcel, world.images.as_ref()).await);
    assert_eq!(world.guest(guest).await, before);
    world.clean().await;
}
