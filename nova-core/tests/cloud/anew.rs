//! Servers whose guests are made anew: evacuated from a host that is lost, rebuilt where they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nova_core::cloud::{ApiError, Cloud, CloudOptions, ImageSpec};
use nova_core::domain::{HostId, ImageFormat, ImageId, InstanceId, OpState, PowerState, VmState};
use nova_core::port::VirtDriver;

use crate::moves::{check_home, furnished, home, trouble_elsewhere};
use crate::stubborn::{Stubborn, Trouble};
use crate::world::{World, run, spec};

/// The host of a server loses its power, and an operator says so.
pub(crate) async fn lose_host(world: &mut World, id: InstanceId) -> HostId {
    let host = home(world, id).await;
    let name = world.project().server(id).await.unwrap().host.unwrap();
    world.cloud.stop_host(&name).await;
    for guest in world.hosts[&host].guests().await.unwrap() {
        world.hosts[&host].stop(guest.instance).await.unwrap();
    }
    let admin = world.admin();
    admin.force_down(admin.new_request(), host, "burnt").await.unwrap();
    host
}

pub(crate) async fn host_returns(world: &mut World, host: HostId) {
    let admin = world.admin();
    admin.clear_forced_down(admin.new_request(), host).await.unwrap();
    let known = admin.hosts().await.unwrap();
    let name = known.iter().find(|h| h.host.id == host).unwrap().host.name.clone();
    let driver = Arc::clone(&world.hosts[&host]);
    world.cloud.add_host(spec(name.as_str()), driver).await.unwrap();
}

#[test]
fn an_evacuated_server_has_everything_but_its_disk_and_its_old_host_lets_go_when_it_returns() {
    for stopped in [false, true] {
        run(async |world: &mut World| {
            let (admin, project) = (world.admin(), world.project());
            let (id, volume) = furnished(world).await;
            let state = if stopped { VmState::Stopped } else { VmState::Active };
            if stopped {
                world.done(project.stop(project.new_request(), id).await).await;
            }
            let ports = project.server(id).await.unwrap().ports;
            let lost = lose_host(world, id).await;
            world.done(admin.evacuate_server(admin.new_request(), id).await).await;
            let server = project.server(id).await.unwrap();
            assert_ne!(server.instance.host, Some(lost));
            assert_eq!((server.instance.state, server.instance.migration), (state, None));
            assert_eq!(server.ports, ports);
            let power = if stopped { PowerState::Shutdown } else { PowerState::Running };
            check_home(world, id, volume, power, "").await;
            host_returns(world, lost).await;
            assert_eq!(world.guests().await, 1);
            check_home(world, id, volume, power, "").await;
        });
    }
}

#[test]
fn a_server_is_evacuated_only_from_a_host_that_was_declared_down() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let (id, _) = furnished(world).await;
        let name = project.server(id).await.unwrap().host.unwrap();
        let refused = admin.evacuate_server(admin.new_request(), id).await;
        assert!(matches!(refused, Err(ApiError::Unsuitable { .. })), "{refused:?}");
        world.cloud.stop_host(&name).await;
        world.pass(CloudOptions::default().down_after * 2).await;
        let refused = admin.evacuate_server(admin.new_request(), id).await;
        assert!(matches!(refused, Err(ApiError::Unsuitable { .. })), "{refused:?}");
    });
}

#[test]
fn where_no_host_can_make_an_evacuated_server_it_stays_where_it_was() {
    for trouble in [Trouble::NoCreate, Trouble::NoPlug] {
        run(async |world: &mut World| {
            let (admin, project) = (world.admin(), world.project());
            let (id, volume) = furnished(world).await;
            let census = admin.census().await.unwrap();
            trouble_elsewhere(world, id, &trouble).await;
            let lost = lose_host(world, id).await;
            let accepted = admin.evacuate_server(admin.new_request(), id).await.unwrap();
            let op = world.ended(accepted.operation).await;
            assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
            let server = project.server(id).await.unwrap().instance;
            assert_eq!((server.host, server.task, server.migration), (Some(lost), None, None));
            assert_eq!(admin.census().await.unwrap(), census);
            world.healthy().await;
            host_returns(world, lost).await;
            world.pass(CloudOptions::default().sweep_interval * 2).await;
            world.done(project.start(project.new_request(), id).await).await;
            check_home(world, id, volume, PowerState::Running, "written before").await;
        });
    }
}

#[test]
fn a_move_whose_first_host_is_lost_is_undone_and_the_server_evacuated() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let (id, volume) = furnished(world).await;
        let old = trouble_elsewhere(world, id, &Trouble::NoPlug).await;
        let accepted = admin.migrate_server(admin.new_request(), id).await.unwrap();
        let handed_over = async || home(world, id).await != old;
        while !handed_over().await {
            tokio::task::yield_now().await;
        }
        let name = admin.hosts().await.unwrap();
        let name = name.iter().find(|h| h.host.id == old).unwrap().host.name.clone();
        world.cloud.stop_host(&name).await;
        admin.force_down(admin.new_request(), old, "burnt").await.unwrap();
        let op = world.ended(accepted.operation).await;
        assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
        let server = project.server(id).await.unwrap().instance;
        assert_eq!((server.host, server.task, server.migration), (Some(old), None, None));
        world.healthy().await;
        for host in admin.hosts().await.unwrap().iter().filter(|h| h.host.id != old) {
            let driver = Arc::clone(&world.hosts[&host.host.id]);
            world.cloud.add_host(spec(host.host.name.as_str()), driver).await.unwrap();
        }
        world.done(admin.evacuate_server(admin.new_request(), id).await).await;
        check_home(world, id, volume, PowerState::Running, "").await;
    });
}

pub(crate) fn slow(world: &World, verb: &'static str, begun: &Arc<AtomicBool>) -> Trouble {
    Trouble::Slow {
        verb,
        clock: Arc::clone(&world.clock),
        time: Duration::from_secs(20),
        begun: Arc::clone(begun),
    }
}

pub(crate) async fn until(begun: &AtomicBool) {
    while !begun.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
}

/// Deletes a server, after which nothing of it is left anywhere.
pub(crate) async fn leaves_nothing_when_deleted(
    world: &World,
    id: InstanceId,
    while_it: &dyn std::fmt::Debug,
) {
    let (admin, project) = (world.admin(), world.project());
    world.done(project.delete_server(project.new_request(), id).await).await;
    assert_eq!(world.guests().await, 0, "{while_it:?}");
    let hosts = admin.hosts().await.unwrap();
    assert!(hosts.iter().all(|host| host.instances.is_empty()), "{while_it:?}");
    world.healthy().await;
}

#[test]
fn a_server_that_is_deleted_while_it_is_evacuated_leaves_nothing() {
    for verb in ["create", "plug"] {
        run(async |world: &mut World| {
            let (admin, project) = (world.admin(), world.project());
            let (id, _) = furnished(world).await;
            let begun = Arc::new(AtomicBool::new(false));
            trouble_elsewhere(world, id, &slow(world, verb, &begun)).await;
            let lost = lose_host(world, id).await;
            admin.evacuate_server(admin.new_request(), id).await.unwrap();
            until(&begun).await;
            let early = admin.clear_forced_down(admin.new_request(), lost).await;
            assert!(matches!(early, Err(ApiError::InUse { .. })), "{early:?}");
            world.done(project.delete_server(project.new_request(), id).await).await;
            host_returns(world, lost).await;
            assert_eq!(world.guests().await, 0);
            assert!(admin.hosts().await.unwrap().iter().all(|host| host.instances.is_empty()));
            world.healthy().await;
        });
    }
}

/// Another image than that of the world.
pub(crate) async fn other_image(world: &World) -> ImageId {
    let admin = world.admin();
    let image = ImageSpec::new("other".parse().unwrap(), ImageFormat::Raw);
    let bytes = Box::new(&b"another disk"[..]);
    admin.register_image(admin.new_request(), &image, bytes).await.unwrap()
}

#[test]
fn a_rebuilt_server_has_a_new_disk_and_keeps_its_place_addresses_and_volumes() {
    run(async |world: &mut World| {
        let project = world.project();
        let (id, volume) = furnished(world).await;
        let before = project.server(id).await.unwrap();
        let image = other_image(world).await;
        world.done(project.rebuild_server(project.new_request(), id, image).await).await;
        let after = project.server(id).await.unwrap();
        assert_eq!((after.instance.state, after.instance.image), (VmState::Active, image));
        assert_eq!((after.host, after.ports), (before.host, before.ports));
        check_home(world, id, volume, PowerState::Running, "").await;
        world.done(project.stop(project.new_request(), id).await).await;
        world.done(project.rebuild_server(project.new_request(), id, image).await).await;
        assert_eq!(project.server(id).await.unwrap().instance.state, VmState::Stopped);
        check_home(world, id, volume, PowerState::Shutdown, "").await;
    });
}

#[test]
fn a_server_that_cannot_be_rebuilt_is_in_error_and_can_be_rebuilt_later() {
    run(async |world: &mut World| {
        let project = world.project();
        let (id, volume) = furnished(world).await;
        let (host, name) = (home(world, id).await, project.server(id).await.unwrap().host);
        let (driver, name) = (Arc::clone(&world.hosts[&host]), name.unwrap());
        let barren = Stubborn::new(Arc::clone(&driver), Trouble::NoCreate);
        world.cloud.add_host(spec(name.as_str()), barren).await.unwrap();
        let image = world.image;
        let accepted = project.rebuild_server(project.new_request(), id, image).await.unwrap();
        let op = world.ended(accepted.operation).await;
        assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
        let server = project.server(id).await.unwrap().instance;
        assert_eq!((server.state, server.task, server.host), (VmState::Error, None, Some(host)));
        world.healthy().await;
        world.cloud.add_host(spec(name.as_str()), driver).await.unwrap();
        world.done(project.rebuild_server(project.new_request(), id, image).await).await;
        check_home(world, id, volume, PowerState::Running, "").await;
    });
}

/// Every host of the world gets this trouble.
pub(crate) async fn trouble_everywhere(world: &mut World, trouble: &Trouble) {
    for host in world.admin().hosts().await.unwrap() {
        let driver = Stubborn::new(Arc::clone(&world.hosts[&host.host.id]), trouble.clone());
        world.cloud.add_host(spec(host.host.name.as_str()), driver).await.unwrap();
    }
}

#[test]
fn a_server_that_is_deleted_while_it_is_rebuilt_leaves_nothing() {
    for verb in ["remove", "create", "plug"] {
        run(async |world: &mut World| {
            let project = world.project();
            let (id, _) = furnished(world).await;
            let begun = Arc::new(AtomicBool::new(false));
            trouble_everywhere(world, &slow(world, verb, &begun)).await;
            let image = world.image;
            project.rebuild_server(project.new_request(), id, image).await.unwrap();
            until(&begun).await;
            leaves_nothing_when_deleted(world, id, &verb).await;
        });
    }
}

#[test]
fn evacuating_and_rebuilding_go_on_after_a_restart_in_any_of_their_steps() {
    let steps = [("evacuate", "create"), ("evacuate", "plug"), ("rebuild", "remove")];
    for (what, verb) in steps.into_iter().chain([("rebuild", "create"), ("rebuild", "plug")]) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new(|ports| ports).await;
            let clock = Arc::clone(&world.clock);
            let work = async {
                let (id, volume) = furnished(&world).await;
                let begun = Arc::new(AtomicBool::new(false));
                let trouble = slow(&world, verb, &begun);
                trouble_everywhere(&mut world, &trouble).await;
                let (admin, project) = (world.admin(), world.project());
                let mut lost = None;
                let accepted = if what == "evacuate" {
                    lost = Some(lose_host(&mut world, id).await);
                    admin.evacuate_server(admin.new_request(), id).await
                } else {
                    project.rebuild_server(project.new_request(), id, world.image).await
                };
                until(&begun).await;
                let ports = world.cloud.ports().clone();
                let cloud = Cloud::start(ports, CloudOptions::default()).await.unwrap();
                std::mem::replace(&mut world.cloud, cloud).stop().await;
                for host in world.admin().hosts().await.unwrap() {
                    if Some(host.host.id) != lost {
                        let driver = Arc::clone(&world.hosts[&host.host.id]);
                        let name = host.host.name.as_str();
                        world.cloud.add_host(spec(name), driver).await.unwrap();
                    }
                }
                world.done(accepted).await;
                check_home(&world, id, volume, PowerState::Running, "").await;
            };
            clock.drive(work).await;
        });
    }
}
