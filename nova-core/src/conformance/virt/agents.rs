//! The laws of hosts that ask the agents inside guests.
//!
//! What a [`Subject`]'s guests are made of has an agent, where its host asks for one.

use std::time::Duration;

use super::{Subject, World, done};
use crate::clock::{ClockExt as _, SystemClock};
use crate::domain::{GuestUser, ImageId, ImageProperties, InstanceId, Password};
use crate::port::{AGENT_PROPERTY, AskAgents, GuestSpec, VirtError};
use crate::seed::Seed;

/// How long a guest that really boots is left alone before its agent is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// The agent of a guest answers while that runs, does what it is told, and is there again after a
/// restart. A guest whose image asks for none has none, and one that is shut down or not here is
/// named.
pub async fn an_agent_answers_while_its_guest_runs(subject: impl Into<Subject>) {
    let world = World::new(subject, "an_agent_answers_while_its_guest_runs").await;
    let driver = world.driver();
    let Some(agents) = driver.agents() else { return };
    let guest = world.create_with_agent(0).await;
    let (user, password) = (valid(GuestUser::new("root")), valid(Password::new("secret")));
    for _ in 0..2 {
        world.hears(agents, guest).await;
        assert!(!done(agents.is_frozen(guest).await), "{driver}");
        done(agents.set_password(guest, &user, &password).await);
        done(driver.stop(guest).await);
        let refused = [
            agents.answers(guest).await.map(drop),
            agents.is_frozen(guest).await.map(drop),
            agents.set_password(guest, &user, &password).await,
        ];
        for refused in refused {
            let told = matches!(refused, Err(VirtError::WrongPower { instance, .. })
                if instance == guest);
            assert!(told, "{driver}: {refused:?}");
        }
        done(driver.start(guest).await);
    }
    done(driver.remove(guest).await);
    let missing = agents.answers(guest).await;
    let told = matches!(missing, Err(VirtError::NoSuchGuest { instance }) if instance == guest);
    assert!(told, "{driver}: {missing:?}");
    let spec = world.spec(1);
    let (image, instance) = (world.spec(1).image, spec.instance);
    let image = crate::domain::Image { properties: ImageProperties::default(), ..image };
    done(driver.create(&GuestSpec { image, ..spec }, &*world.images).await);
    assert!(!done(agents.answers(instance).await), "{driver}: nobody is there");
    let refused = [
        agents.is_frozen(instance).await.map(drop),
        agents.set_password(instance, &user, &password).await,
    ];
    for refused in refused {
        let told = matches!(refused, Err(VirtError::NoAgent { instance: i, .. }) if i == instance);
        assert!(told, "{driver}: {refused:?}");
    }
    world.clean().await;
}

/// After an image was taken of a guest, its agent answers and none of its file systems is frozen.
pub async fn a_snapshot_leaves_nothing_frozen(subject: impl Into<Subject>) {
    let world = World::new(subject, "a_snapshot_leaves_nothing_frozen").await;
    let driver = world.driver();
    let (Some(agents), Some(snapshots)) = (driver.agents(), driver.snapshots()) else { return };
    let guest = world.create_with_agent(0).await;
    world.hears(agents, guest).await;
    let seed = Seed::new(0).child_of("frozen", guest.as_u128());
    let image = ImageId::draw(&mut seed.chance());
    let format = world.spec(0).image.format;
    let taken = snapshots.snapshot(guest, image, format, &*world.images).await;
    done(taken);
    assert!(!done(agents.is_frozen(guest).await), "{driver}");
    assert!(done(agents.answers(guest).await), "{driver}");
    if let Err(error) = world.images.remove(image).await {
        panic!("no image is removed: {error:?}");
    }
    world.clean().await;
}

fn valid<T>(value: Result<T, crate::domain::Invalid>) -> T {
    value.unwrap_or_else(|error| panic!("{error}"))
}

impl World {
    /// Makes a guest whose image asks for an agent.
    async fn create_with_agent(&self, number: usize) -> InstanceId {
        let spec = self.spec(number);
        let asked = [(AGENT_PROPERTY, "yes")];
        let known = spec.image.properties.iter().filter(|(key, _)| *key != AGENT_PROPERTY);
        let properties = valid(ImageProperties::new(known.chain(asked)));
        let image = crate::domain::Image { properties, ..spec.image.clone() };
        let instance = spec.instance;
        done(self.driver().create(&GuestSpec { image, ..spec }, &*self.images).await);
        instance
    }

    /// Waits until the agent of a guest answers; one that is still booting may not have heard.
    async fn hears(&self, agents: &dyn AskAgents, guest: InstanceId) {
        let clock = SystemClock::new();
        while !done(agents.answers(guest).await) {
            clock.sleep(ASK_AGAIN).await;
        }
    }
}
