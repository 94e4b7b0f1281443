//! Rescued servers whose guest, host or operation is lost.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nova_core::cloud::CloudOptions;
use nova_core::domain::{InstanceId, OpState, PowerState, Reboot, VmState};
use nova_core::port::{RescueGuests as _, VirtDriver as _};

use crate::anew::{host_returns, lose_host, other_image, slow, trouble_everywhere, until};
use crate::moves::{check_home, furnished, home};
use crate::rescue::{is_rescued, rescue, unrescue};
use crate::snapshots::restart;
use crate::stubborn::Trouble;
use crate::world::{World, run};

async fn sweep(world: &World) {
    world.pass(CloudOptions::default().sweep_interval * 2).await;
}

/// The host boots the guest from a rescue disk, though nobody waits for it any more.
async fn boot_late(world: &World, id: InstanceId) {
    let host = &world.hosts[&home(world, id).await];
    let images = world.project().images().await.unwrap();
    let image = images.iter().find(|image| image.id == world.image).unwrap();
    host.rescue(id, image, &*world.cloud.ports().images).await.unwrap();
}

#[test]
fn a_rescued_server_whose_guest_comes_back_is_as_its_guest_is() {
    for still in [true, false] {
        run(async |world: &mut World| {
            let project = world.project();
            let id = world.boot("web").await.instance.id;
            rescue(world, id).await;
            let host = Arc::clone(&world.hosts[&home(world, id).await]);
            host.remove(id).await.unwrap();
            sweep(world).await;
            assert_eq!(project.server(id).await.unwrap().instance.state, VmState::Error);
            host.plant_guest(id);
            if still {
                boot_late(world, id).await;
            }
            sweep(world).await;
            let server = project.server(id).await.unwrap().instance;
            let expected = match still {
                true => (VmState::Rescued, Some(world.image)),
                false => (VmState::Active, None),
            };
            assert_eq!((server.state, server.rescue), expected);
            assert_eq!(server.fault, None);
            if still {
                unrescue(world, id).await;
                assert!(!is_rescued(world, id).await);
            }
            world.healthy().await;
        });
    }
}

#[test]
fn a_rescued_server_is_evacuated_and_runs_from_its_own_disk() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let (id, volume) = furnished(world).await;
        let image = other_image(world).await;
        world.done(project.rescue_server(project.new_request(), id, Some(image)).await).await;
        let lost = lose_host(world, id).await;
        world.done(admin.evacuate_server(admin.new_request(), id).await).await;
        let server = project.server(id).await.unwrap().instance;
        assert_ne!(server.host, Some(lost));
        assert_eq!((server.state, server.rescue), (VmState::Active, None));
        assert!(!is_rescued(world, id).await);
        check_home(world, id, volume, PowerState::Running, "").await;
        admin.delete_image(admin.new_request(), image).await.unwrap();
        host_returns(world, lost).await;
        assert_eq!(world.guests().await, 1);
        world.healthy().await;
    });
}

#[test]
fn a_rescue_whose_guest_is_gone_fails_and_says_so() {
    for (state, deed) in
        [(VmState::Active, "rescue"), (VmState::Stopped, "rescue"), (VmState::Rescued, "unrescue")]
    {
        run(async |world: &mut World| {
            let project = world.project();
            let id = world.boot("web").await.instance.id;
            match state {
                VmState::Stopped => {
                    world.done(project.stop(project.new_request(), id).await).await;
                }
                VmState::Rescued => rescue(world, id).await,
                _ => {}
            }
            world.hosts[&home(world, id).await].remove(id).await.unwrap();
            let accepted = match deed {
                "rescue" => project.rescue_server(project.new_request(), id, None).await,
                _ => project.unrescue_server(project.new_request(), id).await,
            };
            let op = world.ended(accepted.unwrap().operation).await;
            assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
            let server = project.server(id).await.unwrap().instance;
            assert_eq!((server.state, server.task), (VmState::Error, None));
            let fault = server.fault.unwrap().message;
            assert_eq!(fault, "the guest is not on its host any more");
            // It was there all the time.
            world.hosts[&home(world, id).await].plant_guest(id);
            sweep(world).await;
            let server = project.server(id).await.unwrap().instance;
            assert_eq!((server.state, server.rescue, server.fault), (VmState::Active, None, None));
            world.healthy().await;
        });
    }
}

#[test]
fn a_rescue_that_was_abandoned_leaves_no_guest_on_a_rescue_disk() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let id = world.boot("web").await.instance.id;
        let image = other_image(world).await;
        trouble_everywhere(world, &Trouble::NeverUnrescue).await;
        let accepted = project.rescue_server(project.new_request(), id, Some(image)).await.unwrap();
        let op = world.ended(accepted.operation).await;
        assert!(matches!(op.state, OpState::NeedsOperator(_)), "{op:#?}");
        assert!(is_rescued(world, id).await);
        admin.abandon_operation(admin.new_request(), accepted.operation).await.unwrap();
        let server = project.server(id).await.unwrap().instance;
        assert_eq!((server.state, server.rescue), (VmState::Error, Some(image)));
        restart(world).await;
        sweep(world).await;
        assert!(!is_rescued(world, id).await);
        assert_eq!(project.server(id).await.unwrap().instance.rescue, None);
        admin.delete_image(admin.new_request(), image).await.unwrap();
        let rebooted = project.reboot(project.new_request(), id, Reboot::Hard).await;
        world.done(rebooted).await;
        assert_eq!(project.server(id).await.unwrap().instance.state, VmState::Active);
        world.healthy().await;
    });
}

#[test]
fn a_host_that_was_lost_in_the_middle_of_a_rescue_boots_the_guest_from_its_own_disk_again() {
    for stopped in [false, true] {
        run(async |world: &mut World| {
            let project = world.project();
            let id = world.boot("web").await.instance.id;
            if stopped {
                world.done(project.stop(project.new_request(), id).await).await;
            }
            let begun = Arc::new(AtomicBool::new(false));
            let trouble = slow(world, "rescue", &begun);
            trouble_everywhere(world, &trouble).await;
            let accepted = project.rescue_server(project.new_request(), id, None).await.unwrap();
            until(&begun).await;
            boot_late(world, id).await;
            let lost = lose_host(world, id).await;
            let op = world.ended(accepted.operation).await;
            assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
            assert!(is_rescued(world, id).await);
            host_returns(world, lost).await;
            sweep(world).await;
            sweep(world).await;
            assert!(!is_rescued(world, id).await);
            let server = project.server(id).await.unwrap().instance;
            let (state, power) = match stopped {
                true => (VmState::Stopped, PowerState::Shutdown),
                false => (VmState::Active, PowerState::Running),
            };
            assert_eq!((server.state, server.rescue, server.task), (state, None, None));
            assert_eq!(world.power(id).await, Some(power));
            world.healthy().await;
        });
    }
}

#[test]
fn a_server_in_error_leaves_its_old_rescue_disk_before_it_is_rescued_from_another() {
    for leaves in [true, false] {
        run(async |world: &mut World| {
            let project = world.project();
            let id = world.boot("web").await.instance.id;
            rescue(world, id).await;
            let host = Arc::clone(&world.hosts[&home(world, id).await]);
            host.remove(id).await.unwrap();
            sweep(world).await;
            if !leaves {
                trouble_everywhere(world, &Trouble::NeverUnrescue).await;
            }
            let image = other_image(world).await;
            host.plant_guest(id);
            boot_late(world, id).await;
            let asked = project.rescue_server(project.new_request(), id, Some(image)).await;
            let op = world.ended(asked.unwrap().operation).await;
            assert_eq!(op.state == OpState::Done, leaves, "{op:#?}");
            if leaves {
                let server = project.server(id).await.unwrap().instance;
                assert_eq!((server.state, server.rescue), (VmState::Rescued, Some(image)));
                world.healthy().await;
            }
        });
    }
}
