//! The laws of guests whose root disk is a volume, of hosts that plug volumes and of those that do
//! not.

use super::{Subject, World, done};
use crate::domain::{ImageId, InstanceId, PowerState, Reboot};
use crate::port::{AttachVolumes, Guest, GuestSpec, ImageError, VirtError};
use crate::seed::Seed;

impl World {
    /// A guest whose root disk is the first of the volumes.
    pub(crate) fn spec_on_volume(&self) -> GuestSpec {
        GuestSpec { root: Some(self.links[0].volume), ..self.spec(0) }
    }

    /// Makes it; where it is there it is left as it is.
    async fn make_on_volume(&self) -> InstanceId {
        done(self.driver.create(&self.spec_on_volume(), self.images.as_ref()).await);
        self.id(0)
    }

    /// Makes it, plugs its root disk in and starts it.
    pub(crate) async fn boot_from_volume(&self, volumes: &dyn AttachVolumes) -> InstanceId {
        let guest = self.make_on_volume().await;
        done(volumes.attach(guest, &self.links[0]).await);
        done(self.driver.start(guest).await);
        guest
    }

    /// The guest in this state, which never had a reboot.
    fn new_guest(&self, power: PowerState, plugged: usize) -> Option<Guest> {
        let volumes = self.links[..plugged].iter().map(|link| link.volume).collect();
        Some(Guest { instance: self.id(0), power, boot: 0, volumes })
    }
}

/// It is made shut down and without its root disk, which is plugged in like any volume; it runs
/// when it is started then, and keeps the volume from start to start, and beside others.
pub async fn a_guest_boots_from_a_volume(subject: impl Into<Subject>) {
    let world = World::new(subject, "a_guest_boots_from_a_volume").await;
    let Some(volumes) = world.driver().volumes() else { return };
    for _ in 0..2 {
        let guest = world.make_on_volume().await;
        assert_eq!(world.guest(guest).await, world.new_guest(PowerState::Shutdown, 0));
    }
    let guest = world.id(0);
    for _ in 0..2 {
        done(volumes.attach(guest, &world.links[0]).await);
        assert_eq!(world.guest(guest).await, world.new_guest(PowerState::Shutdown, 1));
    }
    for _ in 0..2 {
        done(world.driver().start(guest).await);
        assert_eq!(world.guest(guest).await, world.new_guest(PowerState::Running, 1));
    }
    done(volumes.attach(guest, &world.links[1]).await);
    world.make_on_volume().await;
    assert_eq!(world.guest(guest).await, world.new_guest(PowerState::Running, 2));
    done(world.driver().reboot(guest, Reboot::Hard, 2).await);
    let rebooted = |plugged| {
        let guest = world.new_guest(PowerState::Running, plugged);
        guest.map(|guest| Guest { boot: 2, ..guest })
    };
    assert_eq!(world.guest(guest).await, rebooted(2));
    // A guest whose volume holds no system hears nobody who asks it to give a disk back.
    done(world.driver().stop(guest).await);
    done(volumes.detach(guest, world.links[1].volume).await);
    done(world.driver().start(guest).await);
    assert_eq!(world.guest(guest).await, rebooted(1));
    world.clean().await;
}

/// Nothing starts a guest that has nothing to boot from, not even another volume.
pub async fn a_guest_is_not_started_without_its_root_volume(subject: impl Into<Subject>) {
    let world = World::new(subject, "a_guest_is_not_started_without_its_root_volume").await;
    let Some(volumes) = world.driver().volumes() else { return };
    let guest = world.make_on_volume().await;
    let root = world.links[0].volume;
    for others in 0..2 {
        for refused in
            [world.driver().start(guest).await, world.driver().reboot(guest, Reboot::Hard, 1).await]
        {
            let told = matches!(
                refused,
                Err(VirtError::NoRootVolume { instance, volume })
                    if instance == guest && volume == root
            );
            assert!(told, "{}: {refused:?}", world.driver());
        }
        let is = world.guest(guest).await.map(|is| (is.power, is.boot, is.volumes.len()));
        assert_eq!(is, Some((PowerState::Shutdown, 0, others)));
        done(volumes.attach(guest, &world.links[1]).await);
    }
    done(volumes.attach(guest, &world.links[0]).await);
    done(world.driver().reboot(guest, Reboot::Hard, 1).await);
    assert_eq!(world.power(guest).await, PowerState::Running);
    world.clean().await;
}

/// What a guest runs from is not pulled out under it; when it is shut down it is, and nothing of
/// the volume is left in it.
pub async fn a_root_volume_stays_in_a_guest_that_executes(subject: impl Into<Subject>) {
    let world = World::new(subject, "a_root_volume_stays_in_a_guest_that_executes").await;
    let Some(volumes) = world.driver().volumes() else { return };
    let guest = world.boot_from_volume(volumes).await;
    let root = world.links[0].volume;
    let refused = volumes.detach(guest, root).await;
    let told = matches!(refused, Err(VirtError::WrongPower { instance, .. }) if instance == guest);
    assert!(told, "{}: {refused:?}", world.driver());
    assert_eq!(world.guest(guest).await, world.new_guest(PowerState::Running, 1));
    done(world.driver().stop(guest).await);
    for _ in 0..2 {
        done(volumes.detach(guest, root).await);
        assert_eq!(world.guest(guest).await, world.new_guest(PowerState::Shutdown, 0));
    }
    // The same volume can be had again, as the same disk.
    done(volumes.attach(guest, &world.links[0]).await);
    done(world.driver().start(guest).await);
    assert_eq!(world.guest(guest).await, world.new_guest(PowerState::Running, 1));
    world.clean().await;
}

/// A host that plugs no volumes names the one from which a guest was to boot, and makes nothing.
pub async fn a_root_volume_is_refused_by_its_name(subject: impl Into<Subject>) {
    let world = World::new(subject, "a_root_volume_is_refused_by_its_name").await;
    if world.driver().volumes().is_some() {
        return;
    }
    let (guest, root) = (world.id(0), world.links[0].volume);
    let refused = world.driver().create(&world.spec_on_volume(), world.images.as_ref()).await;
    let told = matches!(
        refused,
        Err(VirtError::NoBootVolumes { instance, volume }) if instance == guest && volume == root
    );
    assert!(told, "{}: {refused:?}", world.driver());
    assert_eq!(world.guest(guest).await, None);
    world.clean().await;
}

/// On the host that it is taken to it is without its root disk, until that is plugged in there.
pub async fn a_guest_on_a_volume_is_unpacked_without_it(subject: impl Into<Subject>) {
    let world = World::new(subject, "a_guest_on_a_volume_is_unpacked_without_it").await;
    let (Some(moving), Some(volumes)) = (world.driver().moving(), world.driver().volumes()) else {
        return;
    };
    let guest = world.boot_from_volume(volumes).await;
    done(world.driver().stop(guest).await);
    let parcel = done(moving.pack(guest).await);
    done(volumes.detach(guest, world.links[0].volume).await);
    let there = match world.neighbour() {
        Some(there) => there,
        None => {
            done(world.driver().remove(guest).await);
            world.driver()
        }
    };
    let unpacking = there.moving().unwrap_or_else(|| panic!("{there} takes no guests"));
    done(unpacking.unpack(&world.spec_on_volume(), &parcel, world.images.as_ref()).await);
    assert_eq!(done(there.guest(guest).await), world.new_guest(PowerState::Shutdown, 0));
    let refused = there.start(guest).await;
    assert!(matches!(refused, Err(VirtError::NoRootVolume { .. })), "{there}: {refused:?}");
    let plugging = there.volumes().unwrap_or_else(|| panic!("{there} plugs no volumes"));
    done(plugging.attach(guest, &world.links[0]).await);
    done(there.start(guest).await);
    assert_eq!(done(there.guest(guest).await), world.new_guest(PowerState::Running, 1));
    world.clean().await;
}

/// It runs from a rescue disk with its volume beside it, and from its volume afterwards.
pub async fn a_guest_on_a_volume_is_rescued(subject: impl Into<Subject>) {
    let world = World::new(subject, "a_guest_on_a_volume_is_rescued").await;
    let (Some(rescuing), Some(volumes)) = (world.driver().rescuing(), world.driver().volumes())
    else {
        return;
    };
    let image = world.spec(0).image;
    let guest = world.boot_from_volume(volumes).await;
    done(rescuing.rescue(guest, &image, &*world.images).await);
    assert!(done(rescuing.rescued(guest).await));
    assert_eq!(world.guest(guest).await, world.new_guest(PowerState::Running, 1));
    done(rescuing.unrescue(guest).await);
    assert!(!done(rescuing.rescued(guest).await));
    assert_eq!(world.guest(guest).await, world.new_guest(PowerState::Running, 1));
    world.clean().await;
}

/// There is no disk of the host's to take an image of, and none is stored.
pub async fn no_image_is_taken_of_a_volume(subject: impl Into<Subject>) {
    let world = World::new(subject, "no_image_is_taken_of_a_volume").await;
    let (Some(snapshots), Some(volumes)) = (world.driver().snapshots(), world.driver().volumes())
    else {
        return;
    };
    let guest = world.boot_from_volume(volumes).await;
    let seed = Seed::new(0).child_of("no image", guest.as_u128());
    let (image, format) = (ImageId::draw(&mut seed.chance()), world.spec(0).image.format);
    let refused = snapshots.snapshot(guest, image, format, &*world.images).await;
    let told = matches!(
        refused,
        Err(VirtError::OnVolume { instance, volume, .. })
            if instance == guest && volume == world.links[0].volume
    );
    assert!(told, "{}: {refused:?}", world.driver());
    let left = world.images.open(image).await.map(|_| ());
    assert!(matches!(left, Err(ImageError::NoSuchImage { .. })), "{}: {left:?}", world.driver());
    assert_eq!(world.guest(guest).await, world.new_guest(PowerState::Running, 1));
    world.clean().await;
}
