//! Servers that go to another host: resized, migrated, confirmed, reverted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nova_core::cloud::{ApiError, Cloud, CloudOptions, FlavorSpec, VolumeSpec};
use nova_core::domain::{
    AddressState, FloatingPool, GiB, HostId, InstanceId, InterfaceName, Limit, MiB, OpState,
    PowerState, Quota, Vcpus, VmState, VolumeId, VolumeSize,
};
use nova_core::memory::MemoryHost;
use nova_core::port::VirtDriver;

use crate::stubborn::{Stubborn, Trouble};
use crate::world::{HOST, World, run, spec};

/// A server with a volume, a floating IP and something on its disk.
pub(crate) async fn furnished(world: &World) -> (InstanceId, VolumeId) {
    let (admin, project) = (world.admin(), world.project());
    let new = || project.new_request();
    let id = world.boot("web").await.instance.id;
    let size = VolumeSize::new(GiB(5)).unwrap();
    let data = VolumeSpec::new("data".parse().unwrap(), size);
    let volume = world.done(project.create_volume(new(), &data).await).await;
    world.done(project.attach_volume(new(), id, volume).await).await;
    let pool = FloatingPool {
        name: "public".parse().unwrap(),
        range: "198.51.100.0/28".parse().unwrap(),
        interface: InterfaceName::new("eth0").unwrap(),
    };
    admin.create_floating_pool(admin.new_request(), &pool).await.unwrap();
    for _ in 0..2 {
        let address = project.allocate_floating_ip(new(), &pool.name).await.unwrap();
        world.done(project.associate_floating_ip(new(), address, id).await).await;
    }
    let large =
        FlavorSpec::new("large".parse().unwrap(), Vcpus(4), MiB(4096)).with_root_disk(GiB(20));
    admin.create_flavor(admin.new_request(), &large).await.unwrap();
    world.hosts[&home(world, id).await].write_disk(id, "written before");
    (id, volume)
}

pub(crate) async fn home(world: &World, id: InstanceId) -> HostId {
    world.project().server(id).await.unwrap().instance.host.unwrap()
}

/// Everything of a server is on the host that its record names, and runs there or not.
pub(crate) async fn check_home(
    world: &World,
    id: InstanceId,
    volume: VolumeId,
    power: PowerState,
    disk: &str,
) {
    let server = world.project().server(id).await.unwrap();
    let host = server.instance.host.unwrap();
    let guest = world.hosts[&host].guest(id).await.unwrap().unwrap();
    assert_eq!((guest.power, guest.volumes), (power, vec![volume]));
    assert_eq!(world.hosts[&host].disk(id).unwrap(), disk);
    let volumes = world.project().volumes().await.unwrap();
    assert_eq!(volumes[0].attachment.unwrap().host, host);
    for floating in world.project().floating_ips().await.unwrap() {
        let AddressState::Owned(owner) = floating.state else { panic!("{floating:?}") };
        assert_eq!(owner.binding.unwrap().host, host);
    }
    world.healthy().await;
}

#[test]
fn a_resized_server_is_elsewhere_and_both_places_are_claimed_until_it_is_confirmed() {
    run(async |world: &mut World| {
        let project = world.project();
        let (id, volume) = furnished(world).await;
        let old = home(world, id).await;
        let large = "large".parse().unwrap();
        let resized = project.resize_server(project.new_request(), id, &large);
        world.done(resized.await).await;
        let server = project.server(id).await.unwrap().instance;
        assert_eq!((server.state, server.flavor.vcpus()), (VmState::Resized, Vcpus(4)));
        assert_ne!(server.host, Some(old));
        check_home(world, id, volume, PowerState::Running, "written before").await;
        let used: Vec<u32> =
            world.admin().hosts().await.unwrap().iter().map(|h| h.used.vcpus.0).collect();
        assert_eq!(used.iter().sum::<u32>(), 2 + 4);
        assert_eq!(project.quota().await.unwrap().2.vcpus, Vcpus(4));
        // Sweeps leave the place that it may go back to.
        world.pass(CloudOptions::default().sweep_interval * 3).await;
        assert_eq!(world.guests().await, 2);

        world.done(project.confirm_resize(project.new_request(), id).await).await;
        let server = project.server(id).await.unwrap().instance;
        assert_eq!((server.state, server.migration), (VmState::Active, None));
        assert_eq!(world.guests().await, 1);
        check_home(world, id, volume, PowerState::Running, "written before").await;
        world.done(project.delete_server(project.new_request(), id).await).await;
        assert_eq!(world.guests().await, 0);
        world.healthy().await;
    });
}

#[test]
fn a_reverted_server_is_as_it_was() {
    run(async |world: &mut World| {
        let project = world.project();
        let (id, volume) = furnished(world).await;
        let old = home(world, id).await;
        let census = world.admin().census().await.unwrap();
        let large = "large".parse().unwrap();
        let resized = project.resize_server(project.new_request(), id, &large);
        world.done(resized.await).await;
        world.done(project.revert_resize(project.new_request(), id).await).await;
        let server = project.server(id).await.unwrap().instance;
        assert_eq!((server.state, server.host), (VmState::Active, Some(old)));
        assert_eq!((server.flavor.vcpus(), server.migration), (Vcpus(2), None));
        assert_eq!(world.admin().census().await.unwrap(), census);
        assert_eq!(world.guests().await, 1);
        check_home(world, id, volume, PowerState::Running, "written before").await;
    });
}

#[test]
fn a_stopped_server_is_migrated_and_stays_stopped() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let (id, volume) = furnished(world).await;
        world.done(project.stop(project.new_request(), id).await).await;
        world.done(admin.migrate_server(admin.new_request(), id).await).await;
        check_home(world, id, volume, PowerState::Shutdown, "written before").await;
        world.done(project.confirm_resize(project.new_request(), id).await).await;
        assert_eq!(project.server(id).await.unwrap().instance.state, VmState::Stopped);
        check_home(world, id, volume, PowerState::Shutdown, "written before").await;
    });
}

#[test]
fn what_cannot_be_resized_is_refused_and_unchanged() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let (id, _) = furnished(world).await;
        let before = project.server(id).await.unwrap();
        let thin =
            FlavorSpec::new("thin".parse().unwrap(), Vcpus(4), MiB(4096)).with_root_disk(GiB(1));
        admin.create_flavor(admin.new_request(), &thin).await.unwrap();
        for flavor in ["small", "thin"] {
            let flavor = flavor.parse().unwrap();
            let refused = project.resize_server(project.new_request(), id, &flavor).await;
            assert!(matches!(refused, Err(ApiError::Unsuitable { .. })), "{refused:?}");
        }
        let refused = project.confirm_resize(project.new_request(), id).await;
        assert!(matches!(refused, Err(ApiError::ServerState { .. })), "{refused:?}");
        let quota = Quota { vcpus: Limit::AtMost(3), ..Quota::default() };
        admin.set_quota(admin.new_request(), project.id(), quota).await.unwrap();
        let large = "large".parse().unwrap();
        let refused = project.resize_server(project.new_request(), id, &large).await;
        assert!(matches!(refused, Err(ApiError::OverQuota(_))), "{refused:?}");
        assert_eq!(project.server(id).await.unwrap(), before);
    });
}

/// Puts trouble on every host but the one that the server is on.
pub(crate) async fn trouble_elsewhere(
    world: &mut World,
    id: InstanceId,
    trouble: &Trouble,
) -> HostId {
    let old = home(world, id).await;
    for name in ["alpha", "beta"] {
        let at = world.hosts.iter().find(|(host, _)| **host != old).map(|(_, d)| Arc::clone(d));
        let known = world.admin().hosts().await.unwrap();
        let here = known.iter().find(|h| h.host.name.as_str() == name).unwrap().host.id;
        if here != old {
            let driver = Stubborn::new(at.unwrap(), trouble.clone());
            world.cloud.add_host(spec(name), driver).await.unwrap();
        }
    }
    old
}

#[test]
fn where_the_other_host_cannot_take_it_everything_is_as_before() {
    for trouble in [Trouble::NoUnpack, Trouble::NoStart, Trouble::NoPlug] {
        run(async |world: &mut World| {
            let (admin, project) = (world.admin(), world.project());
            let (id, volume) = furnished(world).await;
            let old = trouble_elsewhere(world, id, &trouble).await;
            let census = admin.census().await.unwrap();
            let accepted = admin.migrate_server(admin.new_request(), id).await.unwrap();
            let op = world.ended(accepted.operation).await;
            assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
            let server = project.server(id).await.unwrap().instance;
            assert_eq!((server.state, server.host), (VmState::Active, Some(old)));
            assert_eq!((server.task, server.migration), (None, None));
            assert_eq!(admin.census().await.unwrap(), census);
            assert_eq!(world.guests().await, 1, "{trouble:?}");
            check_home(world, id, volume, PowerState::Running, "written before").await;
        });
    }
}

#[test]
fn a_server_whose_guest_is_lost_is_not_moved_nor_shelved_and_calls_for_nobody() {
    for verb in ["migrate", "shelve"] {
        lost(verb);
    }
}

fn lost(verb: &'static str) {
    run(async move |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let id = world.boot("web").await.instance.id;
        let host = home(world, id).await;
        world.hosts[&host].remove(id).await.unwrap();
        let accepted = match verb {
            "shelve" => project.shelve_server(project.new_request(), id).await.unwrap(),
            _ => admin.migrate_server(admin.new_request(), id).await.unwrap(),
        };
        let op = world.ended(accepted.operation).await;
        assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
        world.pass(Duration::from_secs(20)).await;
        let server = project.server(id).await.unwrap().instance;
        assert_eq!((server.state, server.host), (VmState::Error, Some(host)));
        assert_eq!((server.task, server.migration), (None, None));
        world.done(project.delete_server(project.new_request(), id).await).await;
        world.healthy().await;
    });
}

#[test]
fn a_server_that_is_deleted_while_it_moves_leaves_nothing_on_either_host() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let (id, _) = furnished(world).await;
        for begun_in in ["unpack", "start", "plug"] {
            let id = match begun_in {
                "unpack" => id,
                _ => world.boot("next").await.instance.id,
            };
            let begun = Arc::new(AtomicBool::new(false));
            let slow = Trouble::Slow {
                verb: begun_in,
                clock: Arc::clone(&world.clock),
                time: Duration::from_secs(20),
                begun: Arc::clone(&begun),
            };
            if begun_in == "plug" {
                let volume = project.volumes().await.unwrap()[0].id;
                world.done(project.attach_volume(project.new_request(), id, volume).await).await;
            }
            trouble_elsewhere(world, id, &slow).await;
            let moved = admin.migrate_server(admin.new_request(), id).await.unwrap();
            while !begun.load(Ordering::SeqCst) {
                tokio::task::yield_now().await;
            }
            world.done(project.delete_server(project.new_request(), id).await).await;
            let op = world.ended(moved.operation).await;
            assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
            assert_eq!(world.guests().await, 0, "{begun_in}");
            world.healthy().await;
        }
        assert!(admin.hosts().await.unwrap().iter().all(|host| host.instances.is_empty()));
    });
}

#[test]
fn a_move_goes_on_after_a_restart_in_any_of_its_steps() {
    for verb in ["stop", "pack", "unpack", "plug", "start"] {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new(|ports| ports).await;
            let clock = Arc::clone(&world.clock);
            let work = async {
                let (id, volume) = furnished(&world).await;
                let begun = Arc::new(AtomicBool::new(false));
                let slow = Trouble::Slow {
                    verb,
                    clock: Arc::clone(&world.clock),
                    time: Duration::from_secs(20),
                    begun: Arc::clone(&begun),
                };
                let hosts = world.admin().hosts().await.unwrap();
                for host in &hosts {
                    let driver = Arc::clone(&world.hosts[&host.host.id]);
                    let driver = Stubborn::new(driver, slow.clone());
                    world.cloud.add_host(spec(host.host.name.as_str()), driver).await.unwrap();
                }
                let admin = world.admin();
                let moved = admin.migrate_server(admin.new_request(), id).await.unwrap();
                while !begun.load(Ordering::SeqCst) {
                    tokio::task::yield_now().await;
                }
                let ports = world.cloud.ports().clone();
                let cloud = Cloud::start(ports.clone(), CloudOptions::default()).await.unwrap();
                std::mem::replace(&mut world.cloud, cloud).stop().await;
                for host in &hosts {
                    let driver: Arc<MemoryHost> = Arc::clone(&world.hosts[&host.host.id]);
                    world.cloud.add_host(spec(host.host.name.as_str()), driver).await.unwrap();
                }
                let op = world.ended(moved.operation).await;
                assert_eq!(op.state, OpState::Done, "{verb}: {op:#?}");
                check_home(&world, id, volume, PowerState::Running, "written before").await;
            };
            clock.drive(work).await;
        });
    }
}

#[test]
fn a_server_group_that_stays_apart_stays_apart_while_a_member_moves() {
    run(async |world: &mut World| {
        use nova_core::cloud::GroupSpec;
        use nova_core::domain::GroupPolicy;
        let (admin, project) = (world.admin(), world.project());
        let apart = GroupSpec::new("apart".parse().unwrap(), GroupPolicy::AntiAffinity);
        let group = project.create_group(project.new_request(), &apart).await.unwrap();
        let wanted = world.server("a", "small").with_group(group);
        let created = project.create_server(project.new_request(), &wanted).await;
        let id = world.done(created).await;
        world.done(admin.migrate_server(admin.new_request(), id).await).await;
        // Both hosts are taken until it is confirmed: it may still go back.
        let created = project.create_server(project.new_request(), &wanted).await.unwrap();
        let op = world.ended(created.operation).await;
        assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
        world.done(project.confirm_resize(project.new_request(), id).await).await;
        world.done(project.create_server(project.new_request(), &wanted).await).await;
        assert_eq!(HOST.vcpus, Vcpus(8));
        world.healthy().await;
    });
}
