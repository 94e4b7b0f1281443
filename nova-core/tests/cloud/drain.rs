//! Hosts that are emptied.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nova_core::cloud::{ApiError, Cloud, CloudOptions};
use nova_core::domain::{Admission, HostId, InstanceId, OpId, OpState, PowerState, VmState};
use nova_core::port::VirtDriver;

use crate::anew::{slow, until};
use crate::elsewhere::{others, restart};
use crate::moves::{check_home, furnished, home};
use crate::stubborn::Trouble;
use crate::world::{World, run};

/// Servers on one host with room for all of them elsewhere: one with everything, one that runs,
/// one that is paused, and one that is stopped.
async fn inhabited(world: &mut World) -> (HostId, [InstanceId; 4], nova_core::domain::VolumeId) {
    let (admin, project) = (world.admin(), world.project());
    let (web, volume) = furnished(world).await;
    let host = home(world, web).await;
    for other in world.hosts.keys().copied().filter(|other| *other != host) {
        admin.set_admission(admin.new_request(), other, Admission::Disabled).await.unwrap();
    }
    let mut ids = [web; 4];
    for (at, name) in [(1, "runs"), (2, "paused"), (3, "stopped")] {
        ids[at] = world.boot(name).await.instance.id;
        assert_eq!(home(world, ids[at]).await, host);
    }
    for other in world.hosts.keys().copied().filter(|other| *other != host) {
        admin.set_admission(admin.new_request(), other, Admission::Enabled).await.unwrap();
    }
    world.done(project.pause(project.new_request(), ids[2]).await).await;
    world.done(project.stop(project.new_request(), ids[3]).await).await;
    (host, ids, volume)
}

async fn drain(world: &World, host: HostId) -> OpId {
    let admin = world.admin();
    admin.drain_host(admin.new_request(), host, "repair").await.unwrap().operation
}

/// Every server has left, is as it was, and nothing is wrong.
async fn check_left(
    world: &World,
    host: HostId,
    ids: &[InstanceId; 4],
    volume: nova_core::domain::VolumeId,
) {
    let states = [VmState::Active, VmState::Active, VmState::Paused, VmState::Stopped];
    let powers =
        [PowerState::Running, PowerState::Running, PowerState::Paused, PowerState::Shutdown];
    for (id, (state, power)) in ids.iter().zip(states.into_iter().zip(powers)) {
        let server = world.project().server(*id).await.unwrap().instance;
        assert_eq!((server.state, server.migration), (state, None));
        assert_ne!(server.host, Some(host));
        assert_eq!(world.power(*id).await, Some(power));
    }
    assert!(world.hosts[&host].guests().await.unwrap().is_empty());
    check_home(world, ids[0], volume, PowerState::Running, "written before").await;
}

#[test]
fn a_drained_host_is_empty_disabled_and_can_be_removed() {
    run(async |world: &mut World| {
        let admin = world.admin();
        let (host, ids, volume) = inhabited(world).await;
        let begun = Arc::new(AtomicBool::new(false));
        let op = begin(world, host, "send", &begun).await;
        let again = admin.drain_host(admin.new_request(), host, "repair").await;
        assert!(matches!(again, Err(ApiError::InUse { .. })), "{again:?}");
        let mut most = 0;
        while !admin.operation(op).await.unwrap().state.is_final() {
            let mut busy = 0;
            for id in ids {
                let server = world.project().server(id).await.unwrap().instance;
                busy += usize::from(server.task.is_some());
            }
            most = most.max(busy);
            world.pass(Duration::from_secs(1)).await;
        }
        let ended = world.admin().wait(op).await.unwrap();
        assert_eq!(ended.state, OpState::Done, "{ended:#?}");
        assert_eq!(most, 2, "several at a time, and not all at once");
        check_left(world, host, &ids, volume).await;
        let known = admin.hosts().await.unwrap();
        let known = known.into_iter().find(|known| known.host.id == host).unwrap();
        assert_eq!(known.host.admission, Admission::Disabled);
        assert_eq!(known.host.disabled_reason.as_deref(), Some("repair"));
        assert!(known.instances.is_empty());
        world.cloud.stop_host(&known.host.name).await;
        admin.remove_host(admin.new_request(), host).await.unwrap();
        world.healthy().await;
    });
}

#[test]
fn a_server_whose_host_cannot_send_it_alive_leaves_with_an_interruption() {
    run(async |world: &mut World| {
        let admin = world.admin();
        let (web, volume) = furnished(world).await;
        let host = home(world, web).await;
        restart(world, host, Some(&Trouble::NotLive)).await;
        let op = drain(world, host).await;
        let ended = world.admin().wait(op).await.unwrap();
        assert_eq!(ended.state, OpState::Done, "{ended:#?}");
        let server = world.project().server(web).await.unwrap().instance;
        assert_eq!((server.state, server.migration), (VmState::Active, None));
        assert_ne!(server.host, Some(host));
        check_home(world, web, volume, PowerState::Running, "written before").await;
        admin.enable_host(admin.new_request(), host).await.unwrap();
        let known = admin.hosts().await.unwrap();
        let known = known.into_iter().find(|known| known.host.id == host).unwrap();
        assert_eq!((known.host.admission, known.host.disabled_reason), (Admission::Enabled, None));
    });
}

#[test]
fn servers_that_cannot_leave_are_named_and_the_others_leave() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let (host, ids, _) = inhabited(world).await;
        // One waits for its owner's word: its old place is on the host that is drained.
        world.done(admin.migrate_server(admin.new_request(), ids[1]).await).await;
        let op = drain(world, host).await;
        let ended = world.admin().wait(op).await.unwrap();
        let OpState::Failed(fault) = &ended.state else { panic!("{ended:#?}") };
        assert!(fault.message.contains(&ids[1].to_string()), "{fault:?}");
        assert!(!fault.message.contains(&ids[0].to_string()), "{fault:?}");
        for id in [ids[0], ids[2], ids[3]] {
            assert_ne!(home(world, id).await, host);
        }
        let known = admin.hosts().await.unwrap();
        let known = known.into_iter().find(|known| known.host.id == host).unwrap();
        assert_eq!((known.host.admission, known.instances), (Admission::Disabled, vec![ids[1]]));
        // When its owner has spoken, another drain has nothing to wait for.
        world.done(project.confirm_resize(project.new_request(), ids[1]).await).await;
        let op = drain(world, host).await;
        assert_eq!(world.admin().wait(op).await.unwrap().state, OpState::Done);
        world.healthy().await;
    });
}

#[test]
fn with_nowhere_to_go_everything_stays_as_it_is() {
    run(async |world: &mut World| {
        let admin = world.admin();
        let (host, ids, _) = inhabited(world).await;
        for other in world.hosts.keys().copied().filter(|other| *other != host) {
            admin.set_admission(admin.new_request(), other, Admission::Disabled).await.unwrap();
        }
        let op = drain(world, host).await;
        let ended = world.admin().wait(op).await.unwrap();
        // It is the cloud's own, whatever a project may be called.
        assert_eq!(ended.project, None);
        let namesake = world.cloud.project("admin".parse().unwrap());
        assert!(matches!(namesake.operation(op).await, Err(ApiError::NotFound { .. })));
        let OpState::Failed(fault) = &ended.state else { panic!("{ended:#?}") };
        for id in ids {
            assert!(fault.message.contains(&id.to_string()), "{fault:?}");
            assert_eq!(home(world, id).await, host);
        }
        assert_eq!(world.power(ids[0]).await, Some(PowerState::Running));
        world.healthy().await;
    });
}

#[test]
fn a_host_that_is_down_is_not_drained_and_one_that_dies_ends_its_drain() {
    run(async |world: &mut World| {
        let admin = world.admin();
        let (host, ids, _) = inhabited(world).await;
        let missing = admin.drain_host(admin.new_request(), HostId::from_u128(9), "repair").await;
        assert!(matches!(missing, Err(ApiError::Unsuitable { .. } | ApiError::NotFound { .. })));
        let long = admin.drain_host(admin.new_request(), host, &"x".repeat(256)).await;
        assert!(matches!(long, Err(ApiError::Invalid(_))), "{long:?}");
        let begun = Arc::new(AtomicBool::new(false));
        let op = begin(world, host, "send", &begun).await;
        let known = admin.hosts().await.unwrap();
        let name = known.iter().find(|h| h.host.id == host).unwrap().host.name.clone();
        world.cloud.stop_host(&name).await;
        for guest in world.hosts[&host].guests().await.unwrap() {
            world.hosts[&host].stop(guest.instance).await.unwrap();
        }
        admin.force_down(admin.new_request(), host, "burnt").await.unwrap();
        let ended = world.admin().wait(op).await.unwrap();
        let OpState::Failed(fault) = &ended.state else { panic!("{ended:#?}") };
        assert!(fault.message.contains(&ids[0].to_string()), "{fault:?}");
        let refused = admin.drain_host(admin.new_request(), host, "repair").await;
        assert!(matches!(refused, Err(ApiError::Unsuitable { .. })), "{refused:?}");
        world.healthy().await;
        world.done(admin.evacuate_server(admin.new_request(), ids[0]).await).await;
        assert_ne!(home(world, ids[0]).await, host);
    });
}

/// Drains a host on which `verb` takes long, and waits until it has begun.
async fn begin(
    world: &mut World,
    host: HostId,
    verb: &'static str,
    begun: &Arc<AtomicBool>,
) -> OpId {
    let slow = Trouble::Slow {
        verb,
        clock: Arc::clone(&world.clock),
        time: Duration::from_secs(20),
        begun: Arc::clone(begun),
    };
    for host in world.hosts.keys().copied().collect::<Vec<_>>() {
        restart(world, host, Some(&slow)).await;
    }
    let op = drain(world, host).await;
    while !begun.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
    op
}

#[test]
fn enabling_a_host_ends_its_drain_and_what_is_leaving_leaves() {
    run(async |world: &mut World| {
        let admin = world.admin();
        let (host, ids, _) = inhabited(world).await;
        let begun = Arc::new(AtomicBool::new(false));
        let op = begin(world, host, "send", &begun).await;
        admin.enable_host(admin.new_request(), host).await.unwrap();
        let ended = world.admin().wait(op).await.unwrap();
        let OpState::Failed(fault) = &ended.state else { panic!("{ended:#?}") };
        assert!(fault.message.contains("enabled"), "{fault:?}");
        world.pass(Duration::from_secs(120)).await;
        let mut stayed = 0;
        for id in ids {
            stayed += usize::from(home(world, id).await == host);
        }
        assert_eq!(stayed, 2);
        world.healthy().await;
    });
}

#[test]
fn a_drain_goes_on_after_a_restart_in_the_middle() {
    for verb in ["send", "unpause", "unpack"] {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new(|ports| ports).await;
            let clock = Arc::clone(&world.clock);
            let work = async {
                let (host, ids, volume) = inhabited(&mut world).await;
                let begun = Arc::new(AtomicBool::new(false));
                let op = begin(&mut world, host, verb, &begun).await;
                let ports = world.cloud.ports().clone();
                let cloud = Cloud::start(ports, CloudOptions::default()).await.unwrap();
                std::mem::replace(&mut world.cloud, cloud).stop().await;
                for host in world.hosts.keys().copied().collect::<Vec<_>>() {
                    restart(&mut world, host, None).await;
                }
                let ended = world.admin().wait(op).await.unwrap();
                assert_eq!(ended.state, OpState::Done, "{verb}: {ended:#?}");
                check_left(&world, host, &ids, volume).await;
            };
            clock.drive(work).await;
        });
    }
}

#[test]
fn a_drain_lends_what_it_moves_their_images() {
    for (verb, trouble) in [("send", None), ("unpack", Some(Trouble::NotLive))] {
        run(async |world: &mut World| {
            let admin = world.admin();
            let (web, _) = furnished(world).await;
            let host = home(world, web).await;
            let begun = Arc::new(AtomicBool::new(false));
            let op = match trouble {
                None => begin(world, host, verb, &begun).await,
                Some(trouble) => {
                    let other = others(world, web).await[0];
                    let slow = slow(world, verb, &begun);
                    restart(world, other, Some(&slow)).await;
                    restart(world, host, Some(&trouble)).await;
                    let op = drain(world, host).await;
                    until(&begun).await;
                    op
                }
            };
            let refused = admin.delete_image(admin.new_request(), world.image).await;
            assert!(matches!(refused, Err(ApiError::InUse { .. })), "{verb}: {refused:?}");
            let ended = admin.wait(op).await.unwrap();
            assert_eq!(ended.state, OpState::Done, "{ended:#?}");
            admin.delete_image(admin.new_request(), world.image).await.unwrap();
            world.healthy().await;
        });
    }
}

#[test]
fn a_server_whose_image_is_gone_is_named_and_not_begun_with() {
    run(async |world: &mut World| {
        let admin = world.admin();
        let web = world.boot("web").await.instance.id;
        admin.delete_image(admin.new_request(), world.image).await.unwrap();
        let op = drain(world, home(world, web).await).await;
        let ended = admin.wait(op).await.unwrap();
        let OpState::Failed(fault) = &ended.state else { panic!("{ended:#?}") };
        assert!(fault.message.contains("image"), "{fault:?}");
        assert!(fault.message.contains(&web.to_string()), "{fault:?}");
        assert!(ended.journal.iter().all(|record| !format!("{record:?}").contains("begins")));
        world.healthy().await;
    });
}
