//! The laws of hosts that put the memory of guests on disk.

use super::{Subject, World, done};
use crate::domain::{InstanceId, PowerState, Reboot};
use crate::port::VirtError;

/// A suspended guest is neither running nor shut down until it is resumed, stopped or rebooted,
/// and a guest that is shut down can be neither suspended nor resumed. One that was paused before
/// runs when it is resumed.
pub async fn suspended_is_suspended(subject: impl Into<Subject>) {
    let world = World::new(subject, "suspended_is_suspended").await;
    let Some(suspending) = world.driver().suspending() else { return };
    let guest = world.create(0).await;
    for ending in 0..4 {
        done(suspending.resume(guest).await);
        assert_eq!(world.power(guest).await, PowerState::Running);
        if let (3, Some(pausing)) = (ending, world.driver().pausing()) {
            done(pausing.pause(guest).await);
            world.refuses(guest, PowerState::Paused, suspending.resume(guest).await);
            assert_eq!(world.power(guest).await, PowerState::Paused);
        }
        for _ in 0..2 {
            done(suspending.suspend(guest).await);
            assert_eq!(world.power(guest).await, PowerState::Suspended);
        }
        // To start means to start what is shut down.
        done(world.driver().start(guest).await);
        if let Some(pausing) = world.driver().pausing() {
            world.refuses(guest, PowerState::Suspended, pausing.pause(guest).await);
            world.refuses(guest, PowerState::Suspended, pausing.unpause(guest).await);
        }
        assert_eq!(world.power(guest).await, PowerState::Suspended);
        match ending {
            0 => done(world.driver().reboot(guest, Reboot::Hard, 1).await),
            1 => {
                done(world.driver().stop(guest).await);
                assert_eq!(world.power(guest).await, PowerState::Shutdown);
                world.refuses(guest, PowerState::Shutdown, suspending.suspend(guest).await);
                world.refuses(guest, PowerState::Shutdown, suspending.resume(guest).await);
                assert_eq!(world.power(guest).await, PowerState::Shutdown);
                done(world.driver().start(guest).await);
            }
            _ => done(suspending.resume(guest).await),
        }
        assert_eq!(world.power(guest).await, PowerState::Running);
    }
    world.clean().await;
}

/// While it is suspended, a guest keeps its boot number, its volumes and its interfaces, and has no
/// others: nothing is plugged in or pulled out, and it is not packed. What is in already, or not
/// there, is success as ever. It has all of it when it was resumed.
pub async fn a_suspended_guest_keeps_what_it_has(subject: impl Into<Subject>) {
    let world = World::new(subject, "a_suspended_guest_keeps_what_it_has").await;
    let driver = world.driver();
    let Some(suspending) = driver.suspending() else { return };
    let guest = world.create(0).await;
    done(driver.reboot(guest, Reboot::Hard, 2).await);
    let [first, second] = world.links();
    if let Some(volumes) = driver.volumes() {
        done(volumes.attach(guest, first).await);
    }
    let before = world.guest(guest).await;
    done(suspending.suspend(guest).await);
    let suspended =
        before.clone().map(|guest| crate::port::Guest { power: PowerState::Suspended, ..guest });
    if let Some(volumes) = driver.volumes() {
        let refused = volumes.attach(guest, second).await;
        world.refuses(guest, PowerState::Suspended, refused);
        let refused = volumes.detach(guest, first.volume).await;
        world.refuses(guest, PowerState::Suspended, refused);
        done(volumes.attach(guest, first).await);
        done(volumes.detach(guest, second.volume).await);
    }
    if let Some(interfaces) = driver.interfaces() {
        let made = done(interfaces.plugged(guest).await);
        let [plugged, _] = world.nics();
        world.refuses(guest, PowerState::Suspended, interfaces.plug(guest, plugged).await);
        done(interfaces.unplug(guest, plugged.mac).await);
        if let Some(own) = made.first() {
            world.refuses(guest, PowerState::Suspended, interfaces.unplug(guest, own.mac).await);
            done(interfaces.plug(guest, own).await);
        }
        assert_eq!(done(interfaces.plugged(guest).await), made);
    }
    if let Some(moving) = driver.moving() {
        world.refuses(guest, PowerState::Suspended, moving.pack(guest).await.map(drop));
    }
    assert_eq!(world.guest(guest).await, suspended);
    done(suspending.resume(guest).await);
    assert_eq!(world.guest(guest).await, before);
    if let Some(volumes) = driver.volumes() {
        // Whether what runs in it gives up a disk is its own affair.
        done(driver.stop(guest).await);
        done(volumes.detach(guest, first.volume).await);
    }
    world.clean().await;
}

/// A guest that is removed while it is suspended leaves nothing: one that is made in its place
/// begins from the start.
pub async fn a_suspended_guest_goes_with_its_memory(subject: impl Into<Subject>) {
    let world = World::new(subject, "a_suspended_guest_goes_with_its_memory").await;
    let Some(suspending) = world.driver().suspending() else { return };
    for _ in 0..2 {
        let guest = world.create(0).await;
        assert_eq!(world.power(guest).await, PowerState::Running);
        done(suspending.suspend(guest).await);
        done(world.driver().remove(guest).await);
        assert_eq!(world.guest(guest).await, None);
    }
    let guest = world.create(0).await;
    done(world.driver().stop(guest).await);
    // There is nothing to go on from.
    world.refuses(guest, PowerState::Shutdown, suspending.resume(guest).await);
    world.clean().await;
}

impl World {
    /// It was refused, because the guest is in this state.
    fn refuses(&self, guest: InstanceId, is: PowerState, refused: Result<(), VirtError>) {
        let told = matches!(
            refused,
            Err(VirtError::WrongPower { instance, power, .. }) if instance == guest && power == is
        );
        assert!(told, "{}: {refused:?}", self.driver);
    }
}
