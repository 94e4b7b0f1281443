//! Servers that are booted from a rescue disk, and from their own again.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nova_core::cloud::{ApiError, CloudOptions};
use nova_core::domain::{InstanceId, OpState, PowerState, VmState};
use nova_core::port::{RescueGuests as _, VirtDriver as _};

use crate::anew::{leaves_nothing_when_deleted, other_image, slow, trouble_everywhere, until};
use crate::moves::{check_home, furnished, home};
use crate::snapshots::restart;
use crate::stubborn::Trouble;
use crate::world::{World, run};

pub(crate) async fn is_rescued(world: &World, id: InstanceId) -> bool {
    world.hosts[&home(world, id).await].rescued(id).await.unwrap()
}

pub(crate) async fn rescue(world: &World, id: InstanceId) {
    let project = world.project();
    world.done(project.rescue_server(project.new_request(), id, None).await).await;
}

pub(crate) async fn unrescue(world: &World, id: InstanceId) {
    let project = world.project();
    world.done(project.unrescue_server(project.new_request(), id).await).await;
}

#[test]
fn a_rescued_server_runs_from_another_disk_and_then_from_its_own() {
    for stopped in [false, true] {
        run(async |world: &mut World| {
            let (admin, project) = (world.admin(), world.project());
            let (id, volume) = furnished(world).await;
            if stopped {
                world.done(project.stop(project.new_request(), id).await).await;
            }
            let image = other_image(world).await;
            let rescued = project.rescue_server(project.new_request(), id, Some(image)).await;
            world.done(rescued).await;
            let server = project.server(id).await.unwrap().instance;
            assert_eq!((server.state, server.task), (VmState::Rescued, None));
            assert_eq!((server.rescue, server.lent), (Some(image), None));
            assert!(is_rescued(world, id).await);
            check_home(world, id, volume, PowerState::Running, "written before").await;
            world.pass(CloudOptions::default().sweep_interval * 2).await;
            let refused = admin.delete_image(admin.new_request(), image).await;
            assert!(matches!(refused, Err(ApiError::InUse { .. })), "{refused:?}");
            let refused = project.stop(project.new_request(), id).await;
            assert!(matches!(refused, Err(ApiError::ServerState { .. })), "{refused:?}");
            unrescue(world, id).await;
            let server = project.server(id).await.unwrap().instance;
            assert_eq!((server.state, server.rescue), (VmState::Active, None));
            assert!(!is_rescued(world, id).await);
            check_home(world, id, volume, PowerState::Running, "written before").await;
            admin.delete_image(admin.new_request(), image).await.unwrap();
        });
    }
}

#[test]
fn a_server_that_cannot_be_rescued_is_as_it_was() {
    for (stopped, trouble) in [
        (false, Trouble::NoRescue),
        (true, Trouble::NoRescue),
        (false, Trouble::RescuesNone),
        (true, Trouble::RescuesNone),
    ] {
        run(async |world: &mut World| {
            let project = world.project();
            let (id, volume) = furnished(world).await;
            if stopped {
                world.done(project.stop(project.new_request(), id).await).await;
            }
            let before = project.server(id).await.unwrap().instance;
            trouble_everywhere(world, &trouble).await;
            let accepted = project.rescue_server(project.new_request(), id, None).await.unwrap();
            let op = world.ended(accepted.operation).await;
            assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
            let server = project.server(id).await.unwrap().instance;
            assert_eq!((server.state, server.rescue), (before.state, None));
            assert!(server.task.is_none() && server.fault.is_some());
            let power = if stopped { PowerState::Shutdown } else { PowerState::Running };
            check_home(world, id, volume, power, "written before").await;
        });
    }
}

#[test]
fn a_server_whose_rescue_cannot_end_stays_rescued() {
    run(async |world: &mut World| {
        let project = world.project();
        let (id, volume) = furnished(world).await;
        rescue(world, id).await;
        trouble_everywhere(world, &Trouble::NoUnrescue).await;
        let accepted = project.unrescue_server(project.new_request(), id).await.unwrap();
        let op = world.ended(accepted.operation).await;
        assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
        assert_eq!(project.server(id).await.unwrap().instance.state, VmState::Rescued);
        assert!(is_rescued(world, id).await);
        world.healthy().await;
        restart(world).await;
        unrescue(world, id).await;
        check_home(world, id, volume, PowerState::Running, "written before").await;
    });
}

#[test]
fn a_server_that_is_deleted_while_or_after_it_is_rescued_leaves_nothing() {
    for verb in [None, Some("rescue"), Some("unrescue")] {
        run(async |world: &mut World| {
            let project = world.project();
            let (id, _) = furnished(world).await;
            if verb != Some("rescue") {
                rescue(world, id).await;
            }
            if let Some(verb) = verb {
                let begun = Arc::new(AtomicBool::new(false));
                trouble_everywhere(world, &slow(world, verb, &begun)).await;
                let accepted = match verb {
                    "rescue" => project.rescue_server(project.new_request(), id, None).await,
                    _ => project.unrescue_server(project.new_request(), id).await,
                };
                accepted.unwrap();
                until(&begun).await;
            }
            leaves_nothing_when_deleted(world, id, &verb).await;
        });
    }
}

#[test]
fn a_rescued_server_whose_guest_is_gone_is_in_error() {
    run(async |world: &mut World| {
        let project = world.project();
        let (id, _) = furnished(world).await;
        rescue(world, id).await;
        world.hosts[&home(world, id).await].remove(id).await.unwrap();
        world.pass(CloudOptions::default().sweep_interval * 2).await;
        let server = project.server(id).await.unwrap().instance;
        assert_eq!((server.state, server.rescue), (VmState::Error, Some(world.image)));
    });
}

#[test]
fn rescuing_goes_on_after_a_restart() {
    for verb in ["rescue", "unrescue"] {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new(|ports| ports).await;
            let clock = Arc::clone(&world.clock);
            let work = async {
                let project = world.project();
                let (id, volume) = furnished(&world).await;
                if verb == "unrescue" {
                    rescue(&world, id).await;
                }
                let begun = Arc::new(AtomicBool::new(false));
                let trouble = slow(&world, verb, &begun);
                trouble_everywhere(&mut world, &trouble).await;
                let accepted = match verb {
                    "rescue" => project.rescue_server(project.new_request(), id, None).await,
                    _ => project.unrescue_server(project.new_request(), id).await,
                };
                until(&begun).await;
                restart(&mut world).await;
                world.done(accepted).await;
                assert_eq!(is_rescued(&world, id).await, verb == "rescue");
                check_home(&world, id, volume, PowerState::Running, "written before").await;
            };
            clock.drive(work).await;
        });
    }
}
