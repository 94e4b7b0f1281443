//! Servers whose root disk is a volume.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nova_core::cloud::{ApiError, FlavorSpec, ImageSpec, VolumeSpec};
use nova_core::doctor::Snapshot;
use nova_core::domain::{
    Attachment, GiB, ImageFormat, ImageProperties, InstanceId, Label, MiB, OpState, PowerState,
    Reboot, Vcpus, VmState, Volume, VolumeId, VolumeSize, VolumeState,
};
use nova_core::port::VirtDriver as _;

use crate::anew::{host_returns, lose_host};
use crate::elsewhere::restart;
use crate::moves::home;
use crate::stubborn::Trouble;
use crate::world::{World, run};

fn one_gib() -> VolumeSpec {
    VolumeSpec::new("system".parse().unwrap(), VolumeSize::new(GiB(1)).unwrap())
}

/// A volume that was made of the image.
async fn bootable(world: &World) -> VolumeId {
    let project = world.project();
    let spec = one_gib().with_image(world.image);
    world.done(project.create_volume(project.new_request(), &spec).await).await
}

/// A server that boots from a volume.
async fn boot_from(world: &World, volume: VolumeId) -> InstanceId {
    let project = world.project();
    let mut spec = world.server("web", "small");
    spec.boot = volume.into();
    world.done(project.create_server(project.new_request(), &spec).await).await
}

async fn volume(world: &World, id: VolumeId) -> Volume {
    let volumes = world.project().volumes().await.unwrap();
    volumes.into_iter().find(|volume| volume.id == id).unwrap()
}

/// It is free for anybody.
async fn is_free(world: &World, id: VolumeId) {
    let is = volume(world, id).await;
    assert_eq!((is.state, is.attachment), (VolumeState::Available, None));
    assert_eq!((is.operation, is.root_of), (None, None));
    let facts = world.cloud.ports().volumes.list().await.unwrap();
    let facts = facts.iter().find(|facts| facts.volume == id).unwrap();
    assert_eq!(facts.hosts().count(), 0, "{facts:?}");
}

/// The server's guest is on its host, in this state, with the volumes plugged in, and nowhere else;
/// and its host gives it no root disk.
async fn runs(world: &World, id: InstanceId, power: PowerState, volumes: &[VolumeId]) {
    let host = home(world, id).await;
    let guest = world.hosts[&host].guest(id).await.unwrap().unwrap();
    let mut volumes = volumes.to_vec();
    volumes.sort();
    assert_eq!((guest.power, guest.volumes), (power, volumes.clone()));
    for id_of in volumes {
        let is = volume(world, id_of).await;
        let expected = (VolumeState::InUse, Some(Attachment { instance: id, host }));
        assert_eq!((is.state, is.attachment), expected);
    }
    let snapshot = Snapshot::read(&*world.cloud.ports().store).await.unwrap();
    let disks: Vec<_> = snapshot.claims.iter().map(|claim| claim.amount.disk).collect();
    assert!(!disks.is_empty() && disks.iter().all(|disk| *disk == GiB(0)), "{disks:?}");
    world.healthy().await;
}

async fn delete(world: &World, id: InstanceId) {
    let project = world.project();
    world.done(project.delete_server(project.new_request(), id).await).await;
}

#[test]
fn a_server_has_its_volume_as_long_as_it_is_there_and_the_volume_stays() {
    run(async |world: &mut World| {
        let project = world.project();
        let system = bootable(world).await;
        let made = volume(world, system).await;
        assert_eq!(made.image.map(|image| image.id), Some(world.image));
        let first = boot_from(world, system).await;
        runs(world, first, PowerState::Running, &[system]).await;
        let server = project.server(first).await.unwrap().instance;
        assert_eq!((server.root, server.image), (Some(system), world.image));
        // What its image needs is not needed of a flavor's disk, and none of it counts.
        assert_eq!(server.flavor.root_disk(), GiB(0));

        let detached = project.detach_volume(project.new_request(), system).await;
        let told = matches!(
            &detached,
            Err(ApiError::OnVolume { id, volume, .. })
                if *id == first.to_string() && *volume == system.to_string()
        );
        assert!(told, "{detached:?}");
        let deleted = project.delete_volume(project.new_request(), system).await;
        assert!(matches!(deleted, Err(ApiError::VolumeState { .. })), "{deleted:?}");
        let mut second = world.server("other", "small");
        second.boot = system.into();
        let taken = project.create_server(project.new_request(), &second).await;
        let told = matches!(taken, Err(ApiError::VolumeState { state: VolumeState::InUse, .. }));
        assert!(told, "{taken:?}");

        delete(world, first).await;
        is_free(world, system).await;
        let second = boot_from(world, system).await;
        runs(world, second, PowerState::Running, &[system]).await;
        delete(world, second).await;
        world.done(project.delete_volume(project.new_request(), system).await).await;
        world.healthy().await;
    });
}

#[test]
fn what_cannot_be_booted_from_is_refused_before_it_is_accepted() {
    run(async |world: &mut World| {
        let project = world.project();
        let empty =
            world.done(project.create_volume(project.new_request(), &one_gib()).await).await;
        let theirs = world.cloud.project("other".parse().unwrap());
        let spec = one_gib().with_image(world.image);
        let foreign = theirs.create_volume(theirs.new_request(), &spec).await.unwrap();
        let made = theirs.wait(foreign.operation).await.unwrap();
        assert_eq!(made.state, OpState::Done, "{made:#?}");
        let foreign = foreign.id;
        for (volume, expected) in [
            (empty, "volume {}: no server boots from a volume that was not made of an image"),
            (foreign, "no volume {}"),
            (VolumeId::from_u128(1), "no volume {}"),
        ] {
            let mut spec = world.server("web", "small");
            spec.boot = volume.into();
            let refused = project.create_server(project.new_request(), &spec).await.unwrap_err();
            assert_eq!(refused.to_string(), expected.replace("{}", &volume.to_string()));
        }
        assert_eq!(project.servers().await.unwrap().len(), 0);
        world.healthy().await;
    });
}

#[test]
fn what_is_none_of_a_volumes_is_refused_with_its_name() {
    run(async |world: &mut World| {
        let project = world.project();
        let system = bootable(world).await;
        let id = boot_from(world, system).await;
        let new = || project.new_request();
        let image = Label::new("image").unwrap();
        let refusals = [
            project.rebuild_server(new(), id, world.image).await.map(drop),
            project.snapshot_server(new(), id, &image).await.map(drop),
            project.shelve_server(new(), id).await.map(drop),
        ];
        for refused in refusals {
            let told = matches!(
                &refused,
                Err(ApiError::OnVolume { id: server, volume, .. })
                    if *server == id.to_string() && *volume == system.to_string()
            );
            assert!(told, "{refused:?}");
        }
        runs(world, id, PowerState::Running, &[system]).await;
    });
}

#[test]
fn a_server_on_a_volume_goes_through_its_life_beside_another_volume() {
    run(async |world: &mut World| {
        let (project, admin) = (world.project(), world.admin());
        let new = || project.new_request();
        let large = FlavorSpec::new("large".parse().unwrap(), Vcpus(4), MiB(4096));
        let large = large.with_root_disk(GiB(5));
        admin.create_flavor(admin.new_request(), &large).await.unwrap();
        let system = bootable(world).await;
        let data = world.done(project.create_volume(new(), &one_gib()).await).await;
        let id = boot_from(world, system).await;
        world.done(project.attach_volume(new(), id, data).await).await;
        // Its volume is all that it needs of the image.
        admin.delete_image(admin.new_request(), world.image).await.unwrap();
        let both = [system, data];
        runs(world, id, PowerState::Running, &both).await;

        world.done(project.stop(new(), id).await).await;
        runs(world, id, PowerState::Shutdown, &both).await;
        world.done(project.start(new(), id).await).await;
        world.done(project.reboot(new(), id, Reboot::Hard).await).await;
        world.done(project.pause(new(), id).await).await;
        world.done(project.unpause(new(), id).await).await;
        runs(world, id, PowerState::Running, &both).await;

        let first = home(world, id).await;
        world.done(project.resize_server(new(), id, &large.name).await).await;
        assert_ne!(home(world, id).await, first);
        runs(world, id, PowerState::Running, &both).await;
        world.done(project.revert_resize(new(), id).await).await;
        assert_eq!(home(world, id).await, first);
        runs(world, id, PowerState::Running, &both).await;
        world.done(project.resize_server(new(), id, &large.name).await).await;
        world.done(project.confirm_resize(new(), id).await).await;
        let flavor = project.server(id).await.unwrap().instance.flavor;
        assert_eq!((flavor.name(), flavor.root_disk()), (&large.name, GiB(0)));
        let again = project.resize_server(new(), id, &large.name).await;
        assert!(matches!(again, Err(ApiError::Unsuitable { .. })), "{again:?}");

        world.done(admin.migrate_server(admin.new_request(), id).await).await;
        world.done(project.confirm_resize(new(), id).await).await;
        assert_eq!(home(world, id).await, first);
        runs(world, id, PowerState::Running, &both).await;
        world.done(admin.live_migrate_server(admin.new_request(), id).await).await;
        assert_ne!(home(world, id).await, first);
        runs(world, id, PowerState::Running, &both).await;
        delete(world, id).await;
        is_free(world, system).await;
        is_free(world, data).await;
        world.healthy().await;
    });
}

#[test]
fn a_server_on_a_volume_is_rescued_beside_it() {
    run(async |world: &mut World| {
        let project = world.project();
        let system = bootable(world).await;
        let id = boot_from(world, system).await;
        world.done(project.rescue_server(project.new_request(), id, None).await).await;
        assert_eq!(project.server(id).await.unwrap().instance.state, VmState::Rescued);
        runs(world, id, PowerState::Running, &[system]).await;
        world.done(project.unrescue_server(project.new_request(), id).await).await;
        runs(world, id, PowerState::Running, &[system]).await;
    });
}

#[test]
fn an_evacuated_server_goes_on_with_its_volume() {
    for stopped in [false, true] {
        run(async |world: &mut World| {
            let (project, admin) = (world.project(), world.admin());
            let system = bootable(world).await;
            let id = boot_from(world, system).await;
            if stopped {
                world.done(project.stop(project.new_request(), id).await).await;
            }
            let lost = lose_host(world, id).await;
            world.done(admin.evacuate_server(admin.new_request(), id).await).await;
            assert_ne!(home(world, id).await, lost);
            let power = if stopped { PowerState::Shutdown } else { PowerState::Running };
            runs(world, id, power, &[system]).await;
            host_returns(world, lost).await;
            assert_eq!(world.guests().await, 1);
            runs(world, id, power, &[system]).await;
        });
    }
}

#[test]
fn an_evacuation_that_finds_no_host_leaves_the_volume_where_it_was() {
    for trouble in [Trouble::NeverCreate, Trouble::NoPlug, Trouble::NoStart] {
        run(async |world: &mut World| {
            let admin = world.admin();
            let system = bootable(world).await;
            let id = boot_from(world, system).await;
            let lost = lose_host(world, id).await;
            let hosts: Vec<_> = world.hosts.keys().copied().filter(|host| *host != lost).collect();
            for host in hosts {
                restart(world, host, Some(&trouble)).await;
            }
            let accepted = admin.evacuate_server(admin.new_request(), id).await.unwrap();
            let op = world.ended(accepted.operation).await;
            assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
            let is = volume(world, system).await;
            let at = Some(Attachment { instance: id, host: lost });
            assert_eq!((is.state, is.attachment, is.root_of), (VolumeState::InUse, at, Some(id)));
            host_returns(world, lost).await;
            let project = world.project();
            world.done(project.reboot(project.new_request(), id, Reboot::Hard).await).await;
            runs(world, id, PowerState::Running, &[system]).await;
        });
    }
}

#[test]
fn a_volume_is_free_when_no_server_came_of_it() {
    for trouble in [Trouble::NeverCreate, Trouble::NoPlug, Trouble::NoStart] {
        run(async |world: &mut World| {
            let project = world.project();
            let system = bootable(world).await;
            let hosts: Vec<_> = world.hosts.keys().copied().collect();
            for host in &hosts {
                restart(world, *host, Some(&trouble)).await;
            }
            let mut spec = world.server("web", "small");
            spec.boot = system.into();
            let created = project.create_server(project.new_request(), &spec).await.unwrap();
            let op = world.ended(created.operation).await;
            assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
            assert!(!op.tried.is_empty(), "{trouble:?}: no other host was tried");
            assert_eq!(project.server(created.id).await.unwrap().instance.state, VmState::Error);
            is_free(world, system).await;
            assert_eq!(world.guests().await, 0);
            // Somebody else may have it, and keeps it when the server is deleted.
            for host in hosts {
                restart(world, host, None).await;
            }
            let other = boot_from(world, system).await;
            delete(world, created.id).await;
            runs(world, other, PowerState::Running, &[system]).await;
        });
    }
}

#[test]
fn a_host_that_cannot_boot_from_a_volume_is_left_for_one_that_can() {
    for trouble in [Trouble::NoPlug, Trouble::NoStart] {
        run(async |world: &mut World| {
            let system = bootable(world).await;
            // The host that is chosen when nothing is the matter.
            let usual = boot_from(world, system).await;
            let host = home(world, usual).await;
            delete(world, usual).await;
            restart(world, host, Some(&trouble)).await;
            let id = boot_from(world, system).await;
            assert_ne!(home(world, id).await, host, "{trouble:?}");
            assert_eq!(world.guests().await, 1);
            runs(world, id, PowerState::Running, &[system]).await;
        });
    }
}

#[test]
fn a_server_that_is_deleted_while_it_boots_frees_its_volume() {
    for verb in [None, Some("create"), Some("plug"), Some("start")] {
        run(async |world: &mut World| {
            let project = world.project();
            let system = bootable(world).await;
            let begun = Arc::new(AtomicBool::new(false));
            if let Some(verb) = verb {
                let (clock, time) = (Arc::clone(&world.clock), Duration::from_secs(3));
                let trouble = Trouble::Slow { verb, clock, time, begun: Arc::clone(&begun) };
                let hosts: Vec<_> = world.hosts.keys().copied().collect();
                for host in hosts {
                    restart(world, host, Some(&trouble)).await;
                }
            }
            let mut spec = world.server("web", "small");
            spec.boot = system.into();
            let created = project.create_server(project.new_request(), &spec).await.unwrap();
            while verb.is_some() && !begun.load(Ordering::SeqCst) {
                world.pass(Duration::from_millis(10)).await;
            }
            delete(world, created.id).await;
            world.ended(created.operation).await;
            is_free(world, system).await;
            assert_eq!(world.guests().await, 0);
            world.healthy().await;
        });
    }
}

#[test]
fn a_volume_is_made_of_an_image_that_fits_and_is_there() {
    run(async |world: &mut World| {
        let (project, admin) = (world.project(), world.admin());
        let mut images = Vec::new();
        for (format, least) in [(ImageFormat::Raw, GiB(2)), (ImageFormat::RootfsTar, GiB(0))] {
            let spec = ImageSpec::new("image".parse().unwrap(), format);
            let spec = spec.with_minimum(MiB(0), least);
            let bytes = Box::new(&b"a disk"[..]);
            let id = admin.register_image(admin.new_request(), &spec, bytes).await.unwrap();
            images.push(id);
        }
        for image in images {
            let spec = one_gib().with_image(image);
            let refused = project.create_volume(project.new_request(), &spec).await;
            assert!(matches!(refused, Err(ApiError::Unsuitable { .. })), "{refused:?}");
        }
        assert_eq!(project.volumes().await.unwrap(), []);

        // Its bytes were lost.
        let stored = ImageSpec::new("lost".parse().unwrap(), ImageFormat::Raw);
        let stored = stored.with_properties(ImageProperties::default());
        let bytes = Box::new(&b"another disk"[..]);
        let lost = admin.register_image(admin.new_request(), &stored, bytes).await.unwrap();
        world.cloud.ports().images.remove(lost).await.unwrap();
        let spec = one_gib().with_image(lost);
        let accepted = project.create_volume(project.new_request(), &spec).await.unwrap();
        let op = world.ended(accepted.operation).await;
        let OpState::Failed(fault) = &op.state else { panic!("{op:#?}") };
        assert!(fault.message.contains(&lost.to_string()), "{fault:?}");
        let failed = volume(world, accepted.id).await;
        assert_eq!(failed.state, VolumeState::Error);
        world.done(project.delete_volume(project.new_request(), accepted.id).await).await;
        assert_eq!(world.cloud.ports().volumes.list().await.unwrap(), []);
    });
}
