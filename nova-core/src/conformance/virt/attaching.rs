//! The law of hosts that plug volumes into guests.

use super::{Subject, World, done};

/// A volume is in once, or not at all, in whatever power state the guest is; volumes are sorted.
pub async fn attach_and_detach_are_repeatable(subject: impl Into<Subject>) {
    let world = World::new(subject, "attach_and_detach_are_repeatable").await;
    let Some(volumes) = world.driver().volumes() else { return };
    let guest = world.create(0).await;
    for running in [true, false] {
        if !running {
            done(world.driver().stop(guest).await);
        }
        world.takes_and_gives_back(volumes, guest).await;
    }
    done(volumes.attach(guest, &world.links[0]).await);
    done(world.driver().start(guest).await);
    let kept = world.guest(guest).await.map(|g| g.volumes);
    assert_eq!(kept, Some(vec![world.links[0].volume]), "a start loses no volume");
    done(volumes.detach(guest, world.links[0].volume).await);
    world.clean().await;
}
