//! The law of hosts that plug interfaces into guests.

use super::{Subject, World, done};
use crate::domain::{InstanceId, PowerState};
use crate::port::{Nic, PlugInterfaces, VirtError};

/// An interface is in once, or not at all, in whatever power state the guest is; those that are in
/// stay in their order, and over a restart.
pub async fn plug_and_unplug_are_repeatable(subject: impl Into<Subject>) {
    let world = World::new(subject, "plug_and_unplug_are_repeatable").await;
    let Some(interfaces) = world.driver().interfaces() else { return };
    let guest = world.create(0).await;
    let made = world.spec(0).nics;
    let [first, second] = world.nics().clone();
    world.has(interfaces, guest, &made).await;
    for running in [true, false] {
        if !running {
            done(world.driver().stop(guest).await);
        }
        done(interfaces.unplug(guest, first.mac).await);
        for _ in 0..2 {
            done(interfaces.plug(guest, &second).await);
            let all = [&made[..], std::slice::from_ref(&second)].concat();
            world.has(interfaces, guest, &all).await;
        }
        done(interfaces.plug(guest, &first).await);
        let all = [&made[..], &[second.clone(), first.clone()]].concat();
        world.has(interfaces, guest, &all).await;
        for _ in 0..2 {
            done(interfaces.unplug(guest, second.mac).await);
            let all = [&made[..], std::slice::from_ref(&first)].concat();
            world.has(interfaces, guest, &all).await;
        }
        if running {
            done(interfaces.unplug(guest, first.mac).await);
        }
    }
    done(world.driver().start(guest).await);
    world.has(interfaces, guest, &[&made[..], std::slice::from_ref(&first)].concat()).await;
    done(interfaces.unplug(guest, first.mac).await);
    world.has(interfaces, guest, &made).await;
    assert_eq!(world.power(guest).await, PowerState::Running, "plugging changes no power state");
    let gone = world.id(1);
    done(interfaces.unplug(gone, first.mac).await);
    let missing = [interfaces.plug(gone, &first).await, interfaces.plugged(gone).await.map(drop)];
    for refused in missing {
        let told = matches!(refused, Err(VirtError::NoSuchGuest { instance }) if instance == gone);
        assert!(told, "{}: {refused:?}", world.driver());
    }
    world.clean().await;
}

impl World {
    /// The guest has these interfaces, whoever is asked.
    async fn has(&self, interfaces: &dyn PlugInterfaces, guest: InstanceId, nics: &[Nic]) {
        assert_eq!(done(interfaces.plugged(guest).await), nics, "{}", self.driver());
        let Some(measuring) = self.driver().measuring() else { return };
        if self.power(guest).await == PowerState::Running {
            let used = done(measuring.use_of(guest).await);
            let macs: Vec<_> = used.nics.iter().map(|nic| nic.mac).collect();
            let wanted: Vec<_> = nics.iter().map(|nic| nic.mac).collect();
            assert_eq!(macs, wanted, "{}", self.driver());
        }
    }
}
