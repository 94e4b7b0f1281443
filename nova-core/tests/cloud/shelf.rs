//! Servers that are put aside and come back.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nova_core::cloud::{ApiError, CloudOptions, GroupSpec};
use nova_core::domain::{
    Admission, GroupPolicy, ImageState, InstanceId, OpState, PowerState, VmState, VolumeId,
};
use nova_core::port::VirtDriver as _;

use crate::anew::{slow, trouble_everywhere, until};
use crate::moves::{check_home, furnished, home};
use crate::snapshots::restart;
use crate::stubborn::Trouble;
use crate::world::{World, run};

/// The server is nowhere but in its image, and keeps what is its own.
async fn check_shelved(world: &World, id: InstanceId, volume: VolumeId) {
    let (admin, project) = (world.admin(), world.project());
    let server = project.server(id).await.unwrap();
    let record = &server.instance;
    assert_eq!((record.state, record.task), (VmState::ShelvedOffloaded, None));
    assert_eq!((record.host, record.power), (None, None));
    assert_eq!((server.ports.len(), server.floating_ips.len()), (1, 2));
    assert_eq!(server.volumes, [volume]);
    let image = project.images().await.unwrap();
    let image = image.iter().find(|image| Some(image.id) == record.shelf).unwrap();
    assert_eq!((image.state, image.server), (ImageState::Shelved, Some(id)));
    assert_eq!(world.guests().await, 0);
    assert!(admin.hosts().await.unwrap().iter().all(|host| host.instances.is_empty()));
    let real = world.cloud.ports().volumes.list().await.unwrap();
    assert!(real.iter().all(|volume| volume.connected_to.is_none()), "{real:?}");
    assert_eq!(project.quota().await.unwrap().1, 1, "it still counts");
    world.healthy().await;
}

async fn shelve(world: &World, id: InstanceId) {
    let project = world.project();
    world.done(project.shelve_server(project.new_request(), id).await).await;
}

async fn unshelve(world: &World, id: InstanceId) {
    let project = world.project();
    world.done(project.unshelve_server(project.new_request(), id).await).await;
}

#[test]
fn a_shelved_server_is_on_no_host_and_comes_back_with_everything() {
    for state in [VmState::Active, VmState::Paused, VmState::Stopped] {
        run(async |world: &mut World| {
            let project = world.project();
            let (id, volume) = furnished(world).await;
            match state {
                VmState::Paused => {
                    world.done(project.pause(project.new_request(), id).await).await;
                }
                VmState::Stopped => {
                    world.done(project.stop(project.new_request(), id).await).await;
                }
                _ => {}
            }
            let images = project.images().await.unwrap();
            let ports = project.server(id).await.unwrap().ports;
            for _ in 0..2 {
                shelve(world, id).await;
                check_shelved(world, id, volume).await;
                world.pass(CloudOptions::default().sweep_interval * 2).await;
                check_shelved(world, id, volume).await;
                unshelve(world, id).await;
                let server = project.server(id).await.unwrap();
                assert_eq!((server.instance.state, server.instance.shelf), (VmState::Active, None));
                assert_eq!(server.ports, ports);
                world.pass(CloudOptions::default().sweep_interval * 2).await;
                assert_eq!(project.images().await.unwrap(), images);
                check_home(world, id, volume, PowerState::Running, "written before").await;
            }
        });
    }
}

#[test]
fn an_unshelved_server_goes_where_there_is_room() {
    run(async |world: &mut World| {
        let admin = world.admin();
        let (id, volume) = furnished(world).await;
        let old = home(world, id).await;
        shelve(world, id).await;
        admin.set_admission(admin.new_request(), old, Admission::Disabled).await.unwrap();
        unshelve(world, id).await;
        assert_ne!(home(world, id).await, old);
        check_home(world, id, volume, PowerState::Running, "written before").await;
    });
}

#[test]
fn a_server_that_no_host_takes_stays_shelved() {
    for trouble in [None, Some(Trouble::NoCreate), Some(Trouble::NoPlug)] {
        run(async |world: &mut World| {
            let (admin, project) = (world.admin(), world.project());
            let (id, volume) = furnished(world).await;
            shelve(world, id).await;
            let census = admin.census().await.unwrap();
            match &trouble {
                Some(trouble) => trouble_everywhere(world, trouble).await,
                None => {
                    for host in admin.hosts().await.unwrap() {
                        let id = host.host.id;
                        admin
                            .set_admission(admin.new_request(), id, Admission::Disabled)
                            .await
                            .unwrap();
                    }
                }
            }
            let accepted = project.unshelve_server(project.new_request(), id).await.unwrap();
            let op = world.ended(accepted.operation).await;
            assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
            assert!(project.server(id).await.unwrap().instance.fault.is_some());
            check_shelved(world, id, volume).await;
            assert_eq!(admin.census().await.unwrap(), census);
            restart(world).await;
            for host in admin.hosts().await.unwrap() {
                admin
                    .set_admission(admin.new_request(), host.host.id, Admission::Enabled)
                    .await
                    .unwrap();
            }
            unshelve(world, id).await;
            check_home(world, id, volume, PowerState::Running, "written before").await;
        });
    }
}

#[test]
fn a_server_that_cannot_be_shelved_goes_on_as_it_was() {
    for trouble in [Trouble::NoStop, Trouble::NoRemove] {
        run(async |world: &mut World| {
            let (admin, project) = (world.admin(), world.project());
            let (id, volume) = furnished(world).await;
            let census = admin.census().await.unwrap();
            let old = home(world, id).await;
            trouble_everywhere(world, &trouble).await;
            let accepted = project.shelve_server(project.new_request(), id).await.unwrap();
            let op = world.ended(accepted.operation).await;
            assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
            let server = project.server(id).await.unwrap().instance;
            assert_eq!((server.state, server.host), (VmState::Active, Some(old)));
            assert_eq!((server.task, server.shelf), (None, None));
            assert_eq!(admin.census().await.unwrap(), census);
            check_home(world, id, volume, PowerState::Running, "written before").await;
        });
    }
}

#[test]
fn a_server_that_is_deleted_while_or_after_it_is_shelved_leaves_nothing() {
    let verbs = [None, Some((false, "stop")), Some((false, "snapshot")), Some((false, "remove"))];
    let back = [Some((true, "create")), Some((true, "plug"))];
    for verb in verbs.into_iter().chain(back) {
        run(async |world: &mut World| {
            let (admin, project) = (world.admin(), world.project());
            let (id, _) = furnished(world).await;
            let begun = Arc::new(AtomicBool::new(false));
            if verb.is_none_or(|(back, _)| back) {
                shelve(world, id).await;
                let shelf = project.server(id).await.unwrap().instance.shelf.unwrap();
                let refused = project.delete_image(project.new_request(), shelf).await;
                assert!(matches!(refused, Err(ApiError::InUse { .. })), "{refused:?}");
                let spec = nova_core::cloud::ServerSpec::new(
                    "copy".parse().unwrap(),
                    "small".parse().unwrap(),
                    shelf,
                );
                let refused = project.create_server(project.new_request(), &spec).await;
                assert!(matches!(refused, Err(ApiError::Unsuitable { .. })), "{refused:?}");
            }
            if let Some((back, verb)) = verb {
                trouble_everywhere(world, &slow(world, verb, &begun)).await;
                let accepted = match back {
                    true => project.unshelve_server(project.new_request(), id).await,
                    false => project.shelve_server(project.new_request(), id).await,
                };
                accepted.unwrap();
                until(&begun).await;
            }
            world.done(project.delete_server(project.new_request(), id).await).await;
            assert_eq!(world.guests().await, 0, "{verb:?}");
            assert_eq!(project.images().await.unwrap().len(), 1, "{verb:?}");
            assert!(admin.hosts().await.unwrap().iter().all(|host| host.instances.is_empty()));
            let volumes = project.volumes().await.unwrap();
            assert!(volumes.iter().all(|volume| volume.attachment.is_none()));
            world.healthy().await;
        });
    }
}

#[test]
fn a_shelved_server_is_deleted_although_its_last_host_is_silent() {
    run(async |world: &mut World| {
        let project = world.project();
        let (id, _) = furnished(world).await;
        let name = project.server(id).await.unwrap().host.unwrap();
        shelve(world, id).await;
        world.cloud.stop_host(&name).await;
        world.pass(CloudOptions::default().down_after * 2).await;
        world.done(project.delete_server(project.new_request(), id).await).await;
        world.healthy().await;
    });
}

#[test]
fn shelving_and_unshelving_go_on_after_a_restart_in_any_of_their_steps() {
    let steps = [(false, "stop"), (false, "snapshot"), (false, "remove")];
    for (back, verb) in steps.into_iter().chain([(true, "create"), (true, "plug")]) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new(|ports| ports).await;
            let clock = Arc::clone(&world.clock);
            let work = async {
                let project = world.project();
                let (id, volume) = furnished(&world).await;
                if back {
                    shelve(&world, id).await;
                }
                let begun = Arc::new(AtomicBool::new(false));
                let trouble = slow(&world, verb, &begun);
                trouble_everywhere(&mut world, &trouble).await;
                let accepted = match back {
                    true => project.unshelve_server(project.new_request(), id).await,
                    false => project.shelve_server(project.new_request(), id).await,
                };
                until(&begun).await;
                restart(&mut world).await;
                world.done(accepted).await;
                if !back {
                    check_shelved(&world, id, volume).await;
                    unshelve(&world, id).await;
                }
                check_home(&world, id, volume, PowerState::Running, "written before").await;
            };
            clock.drive(work).await;
        });
    }
}

#[test]
fn the_rule_of_a_group_holds_for_who_comes_back() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let apart = GroupSpec::new("apart".parse().unwrap(), GroupPolicy::AntiAffinity);
        let group = project.create_group(project.new_request(), &apart).await.unwrap();
        let mut servers = Vec::new();
        for name in ["one", "two"] {
            let spec = world.server(name, "small").with_group(group);
            let made = project.create_server(project.new_request(), &spec).await;
            servers.push(world.done(made).await);
        }
        let (back, stays) = (servers[0], servers[1]);
        let old = home(world, back).await;
        shelve(world, back).await;
        admin.set_admission(admin.new_request(), old, Admission::Disabled).await.unwrap();
        let accepted = project.unshelve_server(project.new_request(), back).await.unwrap();
        let op = world.ended(accepted.operation).await;
        assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
        admin.set_admission(admin.new_request(), old, Admission::Enabled).await.unwrap();
        unshelve(world, back).await;
        assert_ne!(home(world, back).await, home(world, stays).await);
        assert_eq!(world.hosts[&old].guests().await.unwrap().len(), 1);
        world.healthy().await;
    });
}
