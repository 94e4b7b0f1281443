//! The law of hosts that tell of changes.

use super::{Subject, World};
use crate::domain::PowerState;
use crate::port::{GuestChange, TellChanges};

/// Whatever is done to a guest, who only looks when something was told of it sees it.
pub async fn a_change_is_told(subject: impl Into<Subject>) {
    let world = World::new(subject, "a_change_is_told").await;
    let (driver, guest) = (world.driver(), world.id(0));
    let Some(telling) = driver.telling() else { return };
    let made = async { driver.create(&world.spec(0), world.images.as_ref()).await };
    world.sees(telling, made, Some(PowerState::Running)).await;
    world.sees(telling, driver.stop(guest), Some(PowerState::Shutdown)).await;
    world.sees(telling, driver.start(guest), Some(PowerState::Running)).await;
    if let Some(pausing) = driver.pausing() {
        world.sees(telling, pausing.pause(guest), Some(PowerState::Paused)).await;
        world.sees(telling, pausing.unpause(guest), Some(PowerState::Running)).await;
    }
    if let Some(suspending) = driver.suspending() {
        world.sees(telling, suspending.suspend(guest), Some(PowerState::Suspended)).await;
        world.sees(telling, suspending.resume(guest), Some(PowerState::Running)).await;
    }
    world.sees(telling, driver.remove(guest), None).await;
    world.clean().await;
}

impl World {
    /// Does `work`, and waits until somebody who looks only when told sees the guest like this.
    async fn sees(
        &self,
        telling: &dyn TellChanges,
        work: impl Future<Output = Result<(), crate::port::VirtError>>,
        power: Option<PowerState>,
    ) {
        let mut changes = telling.changes();
        let seen = async {
            loop {
                match changes.next().await {
                    Some(GuestChange::Guest(other)) if other != self.id(0) => {}
                    Some(_) => {
                        if self.guest(self.id(0)).await.map(|guest| guest.power) == power {
                            return;
                        }
                    }
                    None => panic!("{}: nothing more is told", self.driver()),
                }
            }
        };
        let (done, ()) = tokio::join!(work, seen);
        super::done(done);
    }
}
