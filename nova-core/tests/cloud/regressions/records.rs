//! What peers did wrong with journals, images and volumes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nova_core::clock::{Clock, ClockExt};
use nova_core::cloud::{ApiError, CloudOptions, ImageSpec, VolumeSpec};
use nova_core::doctor::{Snapshot, Strictness, examine};
use nova_core::domain::{
    GiB, ImageFormat, OpState, PowerState, Quota, Reboot, VmState, VolumeSize, VolumeState,
};
use nova_core::port::{VirtDriver, VolumeDriver};
use nova_core::store::Scan;
use nova_core::store::record::keys;

use super::hosts::{agents_return, crash};
use super::parts::MoodyVolumes;
use crate::anew::{host_returns, lose_host};
use crate::moody::{Mood, Moody};
use crate::moves::{check_home, furnished, home};
use crate::older::rewrite;
use crate::world::{World, run, run_with};

fn data() -> VolumeSpec {
    VolumeSpec::new("data".parse().unwrap(), VolumeSize::new(GiB(1)).unwrap())
}

async fn snapshot(world: &World) -> Snapshot {
    Snapshot::read(&*world.cloud.ports().store).await.unwrap()
}

/// omicron#5948.
#[test]
fn a_restart_takes_up_more_operations_than_a_page_holds() {
    let volumes = Arc::new(MoodyVolumes::default());
    let with = Arc::clone(&volumes);
    run_with(
        |ports| ports.with_volumes(with),
        async |world: &mut World| {
            let (admin, project) = (world.admin(), world.project());
            let unlimited = Quota::UNLIMITED;
            admin.set_quota(admin.new_request(), project.id(), unlimited).await.unwrap();
            volumes.silent.store(true, Ordering::SeqCst);
            let mut accepted = Vec::new();
            for _ in 0..Scan::LIMIT_MAX + 5 {
                let made = project.create_volume(project.new_request(), &data()).await.unwrap();
                accepted.push(made.operation);
            }
            assert_eq!(snapshot(world).await.open.len(), accepted.len());
            // Nobody looks for what was left later than at the start.
            let never = Duration::from_secs(365 * 24 * 60 * 60);
            crash(world, CloudOptions::default().with_sweep_interval(never)).await;
            volumes.silent.store(false, Ordering::SeqCst);
            let limit = world.clock.now().after(never / 2);
            let project = world.project();
            for operation in &accepted {
                let ended =
                    world.clock.within(limit.since(world.clock.now()), project.wait(*operation));
                let op = ended.await.expect("somebody took it up").unwrap();
                assert_eq!(op.state, OpState::Done);
            }
            assert_eq!(project.volumes().await.unwrap().len(), accepted.len());
        },
    );
}

/// omicron#10581, the other way round: what a newer release left is not guessed at.
#[test]
fn an_operation_of_a_newer_release_calls_for_a_person_and_changes_nothing() {
    run(async |world: &mut World| {
        let project = world.project();
        let volume = project.create_volume(project.new_request(), &data()).await.unwrap();
        let store = Arc::clone(&world.cloud.ports().store);
        rewrite(&*store, &keys::operation(volume.operation), |op| {
            op["steps_version"] = 999.into();
            op["step"] = 77.into();
        })
        .await;
        crash(world, CloudOptions::default()).await;
        let op = world.ended(volume.operation).await;
        let OpState::NeedsOperator(fault) = &op.state else { panic!("{op:#?}") };
        assert!(fault.message.contains("999"), "{fault:?}");
        assert_eq!(world.cloud.ports().volumes.list().await.unwrap(), []);
        agents_return(world).await;
        world.boot("web").await;
    });
}

/// steno#66.
#[test]
fn an_effect_that_a_crash_hid_is_undone_when_its_step_fails_later() {
    let volumes = Arc::new(MoodyVolumes::default());
    let with = Arc::clone(&volumes);
    run_with(
        |ports| ports.with_volumes(with),
        async |world: &mut World| {
            volumes.silent.store(true, Ordering::SeqCst);
            let project = world.project();
            let made = project.create_volume(project.new_request(), &data()).await.unwrap();
            let driver = Arc::clone(&world.cloud.ports().volumes);
            while driver.list().await.unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
            crash(world, CloudOptions::default()).await;
            volumes.barren.store(true, Ordering::SeqCst);
            let op = world.ended(made.operation).await;
            assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
            assert_eq!(driver.list().await.unwrap(), [], "nobody remembers it, and it is there");
        },
    );
}

/// steno#138, steno#26.
#[test]
fn an_operation_that_can_go_neither_on_nor_back_calls_for_a_person_and_holds_up_nobody() {
    let volumes = Arc::new(MoodyVolumes::default());
    let with = Arc::clone(&volumes);
    run_with(
        |ports| ports.with_volumes(with),
        async |world: &mut World| {
            volumes.barren.store(true, Ordering::SeqCst);
            volumes.sticky.store(true, Ordering::SeqCst);
            let project = world.project();
            let made = project.create_volume(project.new_request(), &data()).await.unwrap();
            let op = world.ended(made.operation).await;
            let OpState::NeedsOperator(fault) = &op.state else { panic!("{op:#?}") };
            assert!(fault.message.contains("volume"), "{fault:?}");
            let findings = examine(&snapshot(world).await, Strictness::Idle);
            let stuck = "no operation waits for a person";
            assert!(findings.iter().any(|f| f.invariant == stuck), "{findings:#?}");
            assert_eq!(project.volumes().await.unwrap().len(), 1, "it is not forgotten");
            world.boot("web").await;
        },
    );
}

#[test]
fn a_volume_whose_making_can_go_neither_on_nor_back_is_retried_or_abandoned() {
    for abandoned in [false, true] {
        let volumes = Arc::new(MoodyVolumes::default());
        let with = Arc::clone(&volumes);
        run_with(
            |ports| ports.with_volumes(with),
            async |world: &mut World| {
                let (admin, project) = (world.admin(), world.project());
                volumes.barren.store(true, Ordering::SeqCst);
                volumes.sticky.store(true, Ordering::SeqCst);
                let made = project.create_volume(project.new_request(), &data()).await.unwrap();
                let op = world.ended(made.operation).await;
                assert!(matches!(op.state, OpState::NeedsOperator(_)), "{op:#?}");
                volumes.barren.store(false, Ordering::SeqCst);
                if abandoned {
                    admin.abandon_operation(admin.new_request(), op.id).await.unwrap();
                    volumes.sticky.store(false, Ordering::SeqCst);
                } else {
                    volumes.sticky.store(false, Ordering::SeqCst);
                    admin.retry_operation(admin.new_request(), op.id).await.unwrap();
                }
                // It was going back, and does not go on although it could by now.
                let op = world.ended(op.id).await;
                assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
                let known = project.volumes().await.unwrap();
                assert_eq!((known[0].state, known[0].operation), (VolumeState::Error, None));
                assert_eq!(volumes.list().await.unwrap(), []);
                let gone = project.delete_volume(project.new_request(), made.id).await;
                world.done(gone).await;
                assert_eq!(project.volumes().await.unwrap(), []);
                world.healthy().await;
            },
        );
    }
}

/// OSSA-2017-005, OSSA-2017-006.
#[test]
fn a_rebuild_takes_no_image_that_the_server_could_not_be_created_from_and_claims_nothing_more() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let (id, volume) = furnished(world).await;
        let (before, census) = (project.server(id).await.unwrap(), admin.census().await.unwrap());
        let quota = project.quota().await.unwrap();
        let mut greedy = ImageSpec::new("greedy".parse().unwrap(), ImageFormat::Raw);
        greedy.min_disk = GiB(500);
        let bytes = Box::new(&b"a disk for a larger machine"[..]);
        let greedy = admin.register_image(admin.new_request(), &greedy, bytes).await.unwrap();
        let refused = project.rebuild_server(project.new_request(), id, greedy).await;
        assert!(matches!(refused, Err(ApiError::Unsuitable { .. })), "{refused:?}");
        assert_eq!(project.server(id).await.unwrap(), before);
        for _ in 0..3 {
            let rebuilt = project.rebuild_server(project.new_request(), id, world.image).await;
            world.done(rebuilt).await;
        }
        assert_eq!(admin.census().await.unwrap().used, census.used);
        assert_eq!(project.quota().await.unwrap(), quota);
        check_home(world, id, volume, PowerState::Running, "").await;
    });
}

/// OSSA-2020-006.
#[test]
fn a_server_that_starts_where_it_was_before_has_no_volume_that_somebody_else_got_meanwhile() {
    for how in ["start", "reboot"] {
        run(async |world: &mut World| starts_without(world, how).await);
    }
}

async fn starts_without(world: &mut World, how: &str) {
    let (admin, project) = (world.admin(), world.project());
    let new = || project.new_request();
    let (id, volume) = furnished(world).await;
    let lost = lose_host(world, id).await;
    world.done(project.detach_volume(new(), volume).await).await;
    let other = world.boot("other").await.instance;
    assert_ne!(other.host, Some(lost));
    world.done(project.attach_volume(new(), other.id, volume).await).await;
    host_returns(world, lost).await;
    let left = world.hosts[&lost].guest(id).await.unwrap().unwrap();
    assert_eq!(left.volumes, [volume], "the host was never asked to take it out");
    world.pass(CloudOptions::default().sweep_interval * 2).await;
    assert_eq!(project.server(id).await.unwrap().instance.state, VmState::Stopped);
    world
        .done(match how {
            "start" => project.start(new(), id).await,
            _ => project.reboot(new(), id, Reboot::Hard).await,
        })
        .await;
    let started = world.hosts[&lost].guest(id).await.unwrap().unwrap();
    assert_eq!((started.power, started.volumes), (PowerState::Running, vec![]));
    world.healthy().await;
    // The same when it moves away and comes back.
    world.done(admin.migrate_server(admin.new_request(), id).await).await;
    world.done(project.revert_resize(new(), id).await).await;
    assert_eq!(home(world, id).await, lost);
    let back = world.hosts[&lost].guest(id).await.unwrap().unwrap();
    assert_eq!(back.volumes, []);
    world.healthy().await;
}

/// OSSA-2023-003.
#[test]
fn a_volume_is_nobody_elses_until_its_host_has_really_let_go() {
    run(async |world: &mut World| {
        let project = world.project();
        let new = || project.new_request();
        let (id, volume) = furnished(world).await;
        let other = world.boot("other").await.instance.id;
        let host = home(world, id).await;
        let moody = Moody::on(world, host, Mood::Lies("unplug")).await;
        let detached = project.detach_volume(new(), volume).await.unwrap();
        world.pass(Duration::from_secs(300)).await;
        let known = project.volumes().await.unwrap().remove(0);
        assert_eq!(known.state, VolumeState::Detaching);
        assert_eq!(known.attachment.map(|at| at.host), Some(host));
        let facts = world.cloud.ports().volumes.list().await.unwrap();
        assert_eq!(facts[0].connected_to, Some(host));
        let refused = project.attach_volume(new(), other, volume).await;
        assert!(matches!(refused, Err(ApiError::VolumeState { .. })), "{refused:?}");
        let refused = project.delete_volume(new(), volume).await;
        assert!(matches!(refused, Err(ApiError::VolumeState { .. })), "{refused:?}");
        moody.turns(Mood::Well);
        let op = world.ended(detached.operation).await;
        assert_eq!(op.state, OpState::Done, "{op:#?}");
        world.done(project.attach_volume(new(), other, volume).await).await;
        world.healthy().await;
    });
}
