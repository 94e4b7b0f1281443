//! Servers whose memory is put on disk, and that go on from there.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nova_core::cloud::{ApiError, CloudOptions, VolumeSpec};
use nova_core::domain::{
    Action, GiB, InstanceId, OpState, PowerState, Reboot, VmState, VolumeId, VolumeSize,
};
use nova_core::port::{
    AttachVolumes as _, Connection, ReadConsoles as _, SuspendGuests as _, VirtDriver as _,
    VolumeLink,
};

use crate::anew::{leaves_nothing_when_deleted, slow, trouble_everywhere, until};
use crate::moves::{check_home, furnished, home};
use crate::snapshots::restart;
use crate::stubborn::Trouble;
use crate::world::{World, run};

async fn suspend(world: &World, id: InstanceId) {
    let project = world.project();
    world.done(project.suspend(project.new_request(), id).await).await;
}

async fn resume(world: &World, id: InstanceId) {
    let project = world.project();
    world.done(project.resume(project.new_request(), id).await).await;
}

async fn state(world: &World, id: InstanceId) -> VmState {
    let server = world.project().server(id).await.unwrap().instance;
    assert_eq!(server.task, None);
    server.state
}

async fn sweeps(world: &World) {
    world.pass(CloudOptions::default().sweep_interval * 2).await;
}

/// How often the guest of a server began from the start.
async fn boots(world: &World, id: InstanceId) -> usize {
    let log = world.hosts[&home(world, id).await].console_log(id, usize::MAX).await.unwrap();
    String::from_utf8(log).unwrap().lines().count()
}

#[test]
fn a_suspended_server_keeps_all_it_has_and_goes_on_where_it_was() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let (id, volume) = furnished(world).await;
        let (before, census) = (project.server(id).await.unwrap(), admin.census().await.unwrap());
        suspend(world, id).await;
        sweeps(world).await;
        let server = project.server(id).await.unwrap();
        assert_eq!(server.instance.state, VmState::Suspended);
        assert_eq!(server.instance.power, Some(PowerState::Suspended));
        assert_eq!((&server.host, &server.ports), (&before.host, &before.ports));
        assert_eq!(admin.census().await.unwrap().used, census.used);
        check_home(world, id, volume, PowerState::Suspended, "written before").await;
        resume(world, id).await;
        assert_eq!(state(world, id).await, VmState::Active);
        assert_eq!(boots(world, id).await, 1);
        check_home(world, id, volume, PowerState::Running, "written before").await;
    });
}

#[test]
fn a_suspended_server_is_neither_changed_nor_moved_and_the_refusal_says_why() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let (id, volume) = furnished(world).await;
        let size = VolumeSize::new(GiB(1)).unwrap();
        let more = VolumeSpec::new("more".parse().unwrap(), size);
        let new = || project.new_request();
        let more = world.done(project.create_volume(new(), &more).await).await;
        suspend(world, id).await;
        let large = "large".parse().unwrap();
        let refusals = [
            (Action::AttachVolume, project.attach_volume(new(), id, more).await.err()),
            (Action::DetachVolume, project.detach_volume(new(), volume).await.err()),
            (Action::Resize, project.resize_server(new(), id, &large).await.err()),
            (Action::Migrate, admin.migrate_server(new(), id).await.err()),
            (Action::LiveMigrate, admin.live_migrate_server(new(), id).await.err()),
            (Action::Shelve, project.shelve_server(new(), id).await.err()),
            (Action::Rescue, project.rescue_server(new(), id, None).await.err()),
            (Action::Rebuild, project.rebuild_server(new(), id, world.image).await.err()),
            (Action::Start, project.start(new(), id).await.err()),
            (Action::Stop, project.stop(new(), id).await.err()),
            (Action::Pause, project.pause(new(), id).await.err()),
            (Action::Suspend, project.suspend(new(), id).await.err()),
        ];
        for (wanted, refused) in refusals {
            let Some(ApiError::ServerState { action, state, .. }) = &refused else {
                panic!("{wanted}: {refused:?}")
            };
            assert_eq!((*action, *state), (wanted, VmState::Suspended));
            assert!(refused.unwrap().to_string().contains("suspended"));
        }
        world.done(project.delete_volume(new(), more).await).await;
        // An image of its disk changes nothing.
        let name = "image".parse().unwrap();
        world.done(project.snapshot_server(new(), id, &name).await).await;
        check_home(world, id, volume, PowerState::Suspended, "written before").await;
        assert_eq!(state(world, id).await, VmState::Suspended);
    });
}

#[test]
fn a_suspended_server_stays_so_when_everything_starts_again() {
    run(async |world: &mut World| {
        let (id, volume) = furnished(world).await;
        suspend(world, id).await;
        for _ in 0..2 {
            restart(world).await;
            sweeps(world).await;
            assert_eq!(state(world, id).await, VmState::Suspended);
            check_home(world, id, volume, PowerState::Suspended, "written before").await;
        }
        resume(world, id).await;
        check_home(world, id, volume, PowerState::Running, "written before").await;
    });
}

#[test]
fn a_server_that_is_deleted_while_or_after_it_is_suspended_leaves_nothing() {
    for verb in [None, Some("suspend"), Some("resume")] {
        run(async |world: &mut World| {
            let project = world.project();
            let (id, _) = furnished(world).await;
            if verb != Some("suspend") {
                suspend(world, id).await;
            }
            if let Some(verb) = verb {
                let begun = Arc::new(AtomicBool::new(false));
                trouble_everywhere(world, &slow(world, verb, &begun)).await;
                let accepted = match verb {
                    "suspend" => project.suspend(project.new_request(), id).await,
                    _ => project.resume(project.new_request(), id).await,
                };
                accepted.unwrap();
                until(&begun).await;
            }
            leaves_nothing_when_deleted(world, id, &verb).await;
        });
    }
}

#[test]
fn suspending_and_resuming_go_on_after_a_restart() {
    for verb in ["suspend", "resume"] {
        run(async |world: &mut World| {
            let project = world.project();
            let (id, volume) = furnished(world).await;
            if verb == "resume" {
                suspend(world, id).await;
            }
            let begun = Arc::new(AtomicBool::new(false));
            let trouble = slow(world, verb, &begun);
            trouble_everywhere(world, &trouble).await;
            let accepted = match verb {
                "suspend" => project.suspend(project.new_request(), id).await,
                _ => project.resume(project.new_request(), id).await,
            };
            until(&begun).await;
            restart(world).await;
            world.done(accepted).await;
            let power = match verb {
                "suspend" => PowerState::Suspended,
                _ => PowerState::Running,
            };
            check_home(world, id, volume, power, "written before").await;
        });
    }
}

#[test]
fn what_does_not_work_leaves_the_server_as_it_was() {
    for (verb, was) in [("suspend", VmState::Active), ("resume", VmState::Suspended)] {
        run(async |world: &mut World| {
            let project = world.project();
            let (id, volume) = furnished(world).await;
            if verb == "resume" {
                suspend(world, id).await;
            }
            trouble_everywhere(world, &Trouble::No(verb)).await;
            let accepted = match verb {
                "suspend" => project.suspend(project.new_request(), id).await,
                _ => project.resume(project.new_request(), id).await,
            };
            let op = world.ended(accepted.unwrap().operation).await;
            assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
            let server = project.server(id).await.unwrap().instance;
            assert_eq!((server.state, server.task), (was, None));
            assert!(server.fault.is_some());
            restart(world).await;
            if verb == "suspend" {
                suspend(world, id).await;
            }
            resume(world, id).await;
            check_home(world, id, volume, PowerState::Running, "written before").await;
        });
    }
}

#[test]
fn a_reboot_by_force_gives_the_memory_up() {
    for interrupts in [None, Some("suspend"), Some("resume")] {
        run(async |world: &mut World| {
            let project = world.project();
            let new = || project.new_request();
            let (id, volume) = furnished(world).await;
            if interrupts != Some("suspend") {
                suspend(world, id).await;
            }
            if let Some(verb) = interrupts {
                let begun = Arc::new(AtomicBool::new(false));
                trouble_everywhere(world, &slow(world, verb, &begun)).await;
                let accepted = match verb {
                    "suspend" => project.suspend(new(), id).await,
                    _ => project.resume(new(), id).await,
                };
                accepted.unwrap();
                until(&begun).await;
            }
            let refused = project.reboot(new(), id, Reboot::Soft).await;
            assert!(matches!(refused, Err(ApiError::ServerState { .. })), "{refused:?}");
            world.done(project.reboot(new(), id, Reboot::Hard).await).await;
            assert_eq!(state(world, id).await, VmState::Active);
            assert_eq!(boots(world, id).await, 2, "{interrupts:?}");
            check_home(world, id, volume, PowerState::Running, "written before").await;
        });
    }
}

/// What was given away while the guest could not be asked must not be reached from its memory.
#[test]
fn a_guest_does_not_go_on_with_a_volume_that_is_not_its_own() {
    run(async |world: &mut World| {
        let project = world.project();
        let (id, volume) = furnished(world).await;
        let host = Arc::clone(&world.hosts[&home(world, id).await]);
        let foreign = VolumeId::from_u128(99);
        let link = VolumeLink { volume: foreign, connection: Connection::Simulated };
        host.attach(id, &link).await.unwrap();
        host.suspend(id).await.unwrap();
        sweeps(world).await;
        assert_eq!(state(world, id).await, VmState::Suspended);
        let accepted = project.resume(project.new_request(), id).await.unwrap();
        let op = world.ended(accepted.operation).await;
        let OpState::Failed(fault) = &op.state else { panic!("{op:#?}") };
        assert!(fault.message.contains("suspended: cannot pull a volume out"), "{fault:?}");
        assert_eq!(world.power(id).await, Some(PowerState::Suspended));
        assert_eq!(state(world, id).await, VmState::Suspended);
        world.done(project.reboot(project.new_request(), id, Reboot::Hard).await).await;
        check_home(world, id, volume, PowerState::Running, "written before").await;
    });
}

#[test]
fn what_happens_to_a_guest_behind_our_back_is_recorded_and_loses_no_memory() {
    run(async |world: &mut World| {
        let (id, _) = furnished(world).await;
        let host = Arc::clone(&world.hosts[&home(world, id).await]);
        // As a host does that saves its guests before it is switched off.
        host.suspend(id).await.unwrap();
        sweeps(world).await;
        assert_eq!(state(world, id).await, VmState::Suspended);
        host.resume(id).await.unwrap();
        sweeps(world).await;
        assert_eq!(state(world, id).await, VmState::Active);
        host.suspend(id).await.unwrap();
        host.stop(id).await.unwrap();
        sweeps(world).await;
        assert_eq!(state(world, id).await, VmState::Stopped);
        host.start(id).await.unwrap();
        host.suspend(id).await.unwrap();
        sweeps(world).await;
        assert_eq!(state(world, id).await, VmState::Suspended);
        assert_eq!(world.power(id).await, Some(PowerState::Suspended));
        host.remove(id).await.unwrap();
        sweeps(world).await;
        assert_eq!(state(world, id).await, VmState::Error);
        world.healthy().await;
    });
}
