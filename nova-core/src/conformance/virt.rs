//! The laws of a [`VirtDriver`].
//!
//! A [`Subject`] is a host with room for three small guests at a time. The suite asks the driver
//! what it can do: the laws of an optional ability hold for a host that does not have it. Every
//! law draws ids of its own and removes what it made, so that a suite can run on a real host
//! where other guests live.

mod agents;
mod attaching;
mod booting;
mod caching;
mod consoles;
mod interfaces;
mod making;
mod measuring;
mod moving;
mod pausing;
mod rescuing;
mod snapshots;
mod subject;
mod suspending;
mod telling;

pub use agents::*;
pub use attaching::*;
pub use booting::*;
pub use caching::*;
pub use consoles::*;
pub use interfaces::*;
pub use measuring::*;
pub use moving::*;
pub use pausing::*;
pub use rescuing::*;
pub use snapshots::*;
pub use subject::*;
pub use suspending::*;
pub use telling::*;

use std::sync::Arc;

use crate::domain::{ImageId, InstanceId, PowerState, Reboot};
use crate::port::{
    AttachVolumes, Guest, GuestSpec, ImageError, ImageStore, Nic, VirtDriver, VirtError, VolumeLink,
};
use crate::seed::Seed;
use making::{small_guest, tiny_image};

/// One test for each law of a driver; the expression makes a [`Subject`], or a driver, of which a
/// subject with a tiny image in memory is made. What stands after an `if` before it says of each
/// law's name whether it can be tested here; where it cannot, it should say so.
///
/// ```
/// nova_core::virt_laws!(async { nova_core::memory::MemoryHost::default() });
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! virt_laws {
    (if $here:expr, $make:expr) => {
        $crate::laws!(
            virt,
            if $here,
            $make,
            [
                create_leaves_the_guest_running,
                create_is_repeatable,
                a_wrong_image_leaves_no_guest,
                remove_is_repeatable,
                start_and_stop_are_repeatable,
                a_reboot_happens_once_for_its_number,
                a_missing_guest_is_named,
                guests_lists_everything,
                paused_is_paused,
                suspended_is_suspended,
                a_suspended_guest_keeps_what_it_has,
                a_suspended_guest_goes_with_its_memory,
                attach_and_detach_are_repeatable,
                a_guest_boots_from_a_volume,
                a_guest_is_not_started_without_its_root_volume,
                a_root_volume_stays_in_a_guest_that_executes,
                a_root_volume_is_refused_by_its_name,
                a_guest_on_a_volume_is_unpacked_without_it,
                a_guest_on_a_volume_is_rescued,
                no_image_is_taken_of_a_volume,
                packing_changes_nothing,
                a_running_guest_is_not_packed,
                a_guest_is_unpacked_as_it_was_packed,
                unpack_is_repeatable,
                a_snapshot_changes_nothing,
                a_snapshot_is_repeatable,
                a_snapshot_makes_a_guest,
                a_snapshot_of_nothing_leaves_nothing,
                a_rescued_guest_runs,
                unrescue_is_repeatable,
                a_rescue_that_cannot_be_changes_nothing,
                a_change_is_told,
                a_console_log_goes_with_its_guest,
                a_console_log_is_as_long_as_was_asked,
                an_open_console_answers,
                what_a_guest_used_only_grows,
                plug_and_unplug_are_repeatable,
                the_image_of_a_guest_is_cached,
                an_agent_answers_while_its_guest_runs,
                a_snapshot_leaves_nothing_frozen,
            ]
        );
    };
    ($make:expr) => {
        $crate::virt_laws!(if |_: &str| true, $make);
    };
}

/// A guest that was made is there, runs, has had no reboot and no volume.
pub async fn create_leaves_the_guest_running(subject: impl Into<Subject>) {
    let world = World::new(subject, "create_leaves_the_guest_running").await;
    let guest = world.create(0).await;
    let expected =
        Guest { instance: guest, power: PowerState::Running, boot: 0, volumes: Vec::new() };
    assert_eq!(world.guest(guest).await, Some(expected));
    world.clean().await;
}

/// Making it again leaves it as it is, running, shut down or paused, rebooted or not.
pub async fn create_is_repeatable(subject: impl Into<Subject>) {
    let world = World::new(subject, "create_is_repeatable").await;
    let guest = world.create(0).await;
    done(world.driver().reboot(guest, Reboot::Hard, 3).await);
    world.stays_when_made_again(guest).await;
    done(world.driver().stop(guest).await);
    world.stays_when_made_again(guest).await;
    done(world.driver().start(guest).await);
    if let Some(suspending) = world.driver().suspending() {
        done(suspending.suspend(guest).await);
        world.stays_when_made_again(guest).await;
        done(suspending.resume(guest).await);
    }
    if let Some(pausing) = world.driver().pausing() {
        done(pausing.pause(guest).await);
        world.stays_when_made_again(guest).await;
    }
    world.clean().await;
}

/// An image that is not there, or not what was registered, is named, and no guest is left of it.
pub async fn a_wrong_image_leaves_no_guest(subject: impl Into<Subject>) {
    let world = World::new(subject, "a_wrong_image_leaves_no_guest").await;
    let mut chance = Seed::new(0).child("wrong images").chance();
    let mut missing = world.spec(0);
    missing.image.id = ImageId::draw(&mut chance);
    let mut shorter = world.spec(0);
    shorter.image.content.size_bytes += 1;
    let mut other = world.spec(0);
    other.image.content.sha256 = "0".repeat(64);
    for spec in [&missing, &shorter, &other] {
        let refused = world.driver().create(spec, world.images.as_ref()).await;
        match refused {
            Err(VirtError::Image { instance, source }) => {
                assert_eq!(instance, spec.instance);
                let named = match source {
                    ImageError::NoSuchImage { image } => spec == &missing && image == spec.image.id,
                    ImageError::Mismatch { image, .. } => {
                        spec != &missing && image == spec.image.id
                    }
                    _ => false,
                };
                assert!(named, "{}: {source:?}", world.driver());
            }
            other => panic!("{}: {other:?}", world.driver()),
        }
        assert_eq!(world.guest(spec.instance).await, None);
    }
    let guest = world.create(0).await;
    assert_eq!(world.power(guest).await, PowerState::Running);
    world.clean().await;
}

/// A guest is removed in whatever power state; removing again is success; made anew, it has
/// nothing of the old one.
pub async fn remove_is_repeatable(subject: impl Into<Subject>) {
    let world = World::new(subject, "remove_is_repeatable").await;
    let guest = world.id(0);
    for stopped in [false, true] {
        assert_eq!(world.create(0).await, guest);
        let fresh = world.guest(guest).await;
        assert_eq!(fresh.map(|g| (g.boot, g.volumes)), Some((0, vec![])));
        done(world.driver().reboot(guest, Reboot::Hard, 5).await);
        if let Some(volumes) = world.driver().volumes() {
            done(volumes.attach(guest, &world.links[0]).await);
        }
        if stopped {
            done(world.driver().stop(guest).await);
        }
        for _ in 0..2 {
            done(world.driver().remove(guest).await);
            assert_eq!(world.guest(guest).await, None);
            assert!(world.listed().await.iter().all(|g| g.instance != guest));
        }
    }
    world.clean().await;
}

/// Each ends in the state it names, however often, and keeps the boot number.
pub async fn start_and_stop_are_repeatable(subject: impl Into<Subject>) {
    let world = World::new(subject, "start_and_stop_are_repeatable").await;
    let guest = world.create(0).await;
    done(world.driver().start(guest).await);
    assert_eq!(world.power(guest).await, PowerState::Running);
    done(world.driver().reboot(guest, Reboot::Hard, 2).await);
    for _ in 0..2 {
        for _ in 0..2 {
            done(world.driver().stop(guest).await);
            assert_eq!(world.power(guest).await, PowerState::Shutdown);
        }
        for _ in 0..2 {
            done(world.driver().start(guest).await);
            assert_eq!(world.power(guest).await, PowerState::Running);
        }
    }
    assert_eq!(world.guest(guest).await.map(|g| g.boot), Some(2));
    world.clean().await;
}

/// A number that was used, or a lower one, does nothing: a guest that was stopped since stays so.
pub async fn a_reboot_happens_once_for_its_number(subject: impl Into<Subject>) {
    let world = World::new(subject, "a_reboot_happens_once_for_its_number").await;
    let guest = world.create(0).await;
    for (how, boot) in [(Reboot::Soft, 1), (Reboot::Hard, 4)] {
        done(world.driver().reboot(guest, how, boot).await);
        let expected = (PowerState::Running, boot);
        assert_eq!(world.guest(guest).await.map(|g| (g.power, g.boot)), Some(expected));

        done(world.driver().stop(guest).await);
        for used in [boot, boot - 1, 0] {
            done(world.driver().reboot(guest, how, used).await);
            let expected = (PowerState::Shutdown, boot);
            assert_eq!(world.guest(guest).await.map(|g| (g.power, g.boot)), Some(expected));
        }
    }
    done(world.driver().reboot(guest, Reboot::Hard, 5).await);
    assert_eq!(world.power(guest).await, PowerState::Running);
    world.clean().await;
}

/// Every verb says which guest is not there, except those for which absence is the goal.
pub async fn a_missing_guest_is_named(subject: impl Into<Subject>) {
    let world = World::new(subject, "a_missing_guest_is_named").await;
    let guest = world.id(0);
    assert_eq!(world.guest(guest).await, None);
    done(world.driver().remove(guest).await);
    let named = |result: Result<(), VirtError>| {
        let told = matches!(result, Err(VirtError::NoSuchGuest { instance }) if instance == guest);
        assert!(told, "{}: {result:?}", world.driver());
    };
    named(world.driver().start(guest).await);
    named(world.driver().stop(guest).await);
    named(world.driver().reboot(guest, Reboot::Soft, 1).await);
    named(world.driver().reboot(guest, Reboot::Hard, 1).await);
    if let Some(pausing) = world.driver().pausing() {
        named(pausing.pause(guest).await);
        named(pausing.unpause(guest).await);
    }
    if let Some(suspending) = world.driver().suspending() {
        named(suspending.suspend(guest).await);
        named(suspending.resume(guest).await);
    }
    if let Some(volumes) = world.driver().volumes() {
        named(volumes.attach(guest, &world.links[0]).await);
        done(volumes.detach(guest, world.links[0].volume).await);
    }
    world.clean().await;
}

/// The list is sorted, says the same as `guest`, and has what others started.
pub async fn guests_lists_everything(subject: impl Into<Subject>) {
    let world = World::new(subject, "guests_lists_everything").await;
    let mut made = vec![world.create(1).await, world.create(0).await];
    done(world.driver().stop(made[0]).await);
    if let Some(plant) = &world.plant {
        plant(world.id(2)).await;
        made.push(world.id(2));
    }
    let listed = world.listed().await;
    assert!(listed.is_sorted_by(|a, b| a.instance < b.instance), "{listed:?}");
    for guest in &made {
        let in_list = listed.iter().find(|g| g.instance == *guest).cloned();
        assert_eq!(world.guest(*guest).await, in_list);
        assert!(in_list.is_some(), "{}: {guest} is not listed", world.driver());
    }
    // What others started is removed like everything else.
    world.clean().await;
    assert!(world.listed().await.iter().all(|g| !made.contains(&g.instance)));
}

/// A subject with the ids of one law.
pub(crate) struct World {
    driver: Arc<dyn VirtDriver>,
    images: Arc<dyn ImageStore>,
    template: GuestSpec,
    links: [VolumeLink; 2],
    nics: [Nic; 2],
    plant: Option<Plant>,
    outage: Option<Outage>,
    neighbour: Option<Arc<dyn VirtDriver>>,
    ids: [InstanceId; 3],
}

impl World {
    pub(crate) async fn new(subject: impl Into<Subject>, law: &str) -> Self {
        let Subject { driver, images, template, links, nics, plant, outage, neighbour } =
            subject.into();
        // Laws run at the same time, perhaps on one host, and of several drivers of it: each has
        // guests of its own.
        let mut chance = Seed::new(0).child(law).child(&driver.to_string()).chance();
        let mut ids = [(); 3].map(|()| InstanceId::draw(&mut chance));
        ids.sort();
        let (images, image) = match images {
            Some(given) => given,
            None => tiny_image(&mut chance).await,
        };
        let template = template.unwrap_or_else(|| small_guest(ids[0], image.clone()));
        let template = GuestSpec { image, ..template };
        Self { driver, images, template, links, nics, plant, outage, neighbour, ids }
    }

    pub(crate) fn driver(&self) -> &dyn VirtDriver {
        self.driver.as_ref()
    }

    /// The host that guests are taken to, where it is another one.
    fn neighbour(&self) -> Option<&dyn VirtDriver> {
        self.neighbour.as_deref()
    }

    pub(crate) fn id(&self, number: usize) -> InstanceId {
        self.ids[number]
    }

    pub(crate) fn spec(&self, number: usize) -> GuestSpec {
        GuestSpec { instance: self.id(number), ..self.template.clone() }
    }

    pub(crate) async fn create(&self, number: usize) -> InstanceId {
        done(self.driver.create(&self.spec(number), self.images.as_ref()).await);
        self.id(number)
    }

    pub(crate) async fn guest(&self, instance: InstanceId) -> Option<Guest> {
        done(self.driver.guest(instance).await)
    }

    pub(crate) async fn power(&self, instance: InstanceId) -> PowerState {
        let guest = self.guest(instance).await;
        let listed = self.listed().await.into_iter().find(|g| g.instance == instance);
        assert_eq!(guest, listed, "{}: the list says something else", self.driver);
        match guest {
            Some(guest) => guest.power,
            None => panic!("{}: guest {instance} is gone", self.driver),
        }
    }

    /// The volumes that may be plugged in.
    pub(crate) fn links(&self) -> &[VolumeLink; 2] {
        &self.links
    }

    /// The interfaces that may be plugged in.
    pub(crate) fn nics(&self) -> &[Nic; 2] {
        &self.nics
    }

    async fn listed(&self) -> Vec<Guest> {
        done(self.driver.guests().await)
    }

    async fn stays_when_made_again(&self, instance: InstanceId) {
        let before = self.guest(instance).await;
        self.create(0).await;
        assert_eq!(self.guest(instance).await, before);
    }

    async fn takes_and_gives_back(&self, volumes: &dyn AttachVolumes, guest: InstanceId) {
        let [first, second] = &self.links;
        let (low, high) = (first.volume, second.volume);
        let plugged = async || self.guest(guest).await.map(|g| g.volumes);
        let power = self.power(guest).await;
        done(volumes.detach(guest, low).await);
        for _ in 0..2 {
            done(volumes.attach(guest, second).await);
            assert_eq!(plugged().await, Some(vec![high]));
        }
        done(volumes.attach(guest, first).await);
        assert_eq!(plugged().await, Some(vec![low, high]));
        for _ in 0..2 {
            done(volumes.detach(guest, high).await);
            assert_eq!(plugged().await, Some(vec![low]));
        }
        done(volumes.detach(guest, low).await);
        assert_eq!(plugged().await, Some(vec![]));
        assert_eq!(self.power(guest).await, power, "plugging changes no power state");
    }

    /// The host loses power, where the suite has a way to do that; otherwise, and elsewhere, the
    /// guest is only shut down.
    pub(crate) async fn lose_power(&self, instance: InstanceId) {
        match &self.outage {
            Some(outage) => outage().await,
            None => done(self.driver.stop(instance).await),
        }
        assert_eq!(self.power(instance).await, PowerState::Shutdown);
    }

    pub(crate) async fn clean(&self) {
        for instance in self.ids {
            done(self.driver.remove(instance).await);
            if let Some(neighbour) = self.neighbour() {
                done(neighbour.remove(instance).await);
            }
        }
    }
}

fn valid<T>(value: Result<T, crate::domain::Invalid>) -> T {
    value.unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
pub(crate) fn done<T>(result: Result<T, VirtError>) -> T {
    result.unwrap_or_else(|error| panic!("unexpected: {error:?}"))
}
