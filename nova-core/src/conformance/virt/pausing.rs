//! The law of hosts that freeze guests.

use super::{Subject, World, done};
use crate::domain::{InstanceId, PowerState, Reboot};
use crate::port::{PauseGuests, VirtError};

/// A paused guest is neither running nor shut down until it is unpaused, stopped or rebooted, and
/// a guest that is shut down can be neither paused nor unpaused.
pub async fn paused_is_paused(subject: impl Into<Subject>) {
    let world = World::new(subject, "paused_is_paused").await;
    let Some(pausing) = world.driver().pausing() else { return };
    let guest = world.create(0).await;
    for ending in 0..3 {
        done(pausing.unpause(guest).await);
        assert_eq!(world.power(guest).await, PowerState::Running);
        for _ in 0..2 {
            done(pausing.pause(guest).await);
            assert_eq!(world.power(guest).await, PowerState::Paused);
        }
        // To start means to start what is shut down.
        done(world.driver().start(guest).await);
        assert_eq!(world.power(guest).await, PowerState::Paused);
        match ending {
            0 => done(pausing.unpause(guest).await),
            1 => done(world.driver().reboot(guest, Reboot::Hard, 1).await),
            _ => {
                done(world.driver().stop(guest).await);
                assert_eq!(world.power(guest).await, PowerState::Shutdown);
                world.refuses_for_power(pausing, guest).await;
                assert_eq!(world.power(guest).await, PowerState::Shutdown);
                done(world.driver().start(guest).await);
            }
        }
        assert_eq!(world.power(guest).await, PowerState::Running);
    }
    world.clean().await;
}

impl World {
    async fn refuses_for_power(&self, pausing: &dyn PauseGuests, guest: InstanceId) {
        for refused in [pausing.pause(guest).await, pausing.unpause(guest).await] {
            let told = matches!(
                refused,
                Err(VirtError::WrongPower { instance, power: PowerState::Shutdown, .. })
                    if instance == guest
            );
            assert!(told, "{}: {refused:?}", self.driver);
        }
    }
}
