//! Servers that are deleted, or whose move ends, while a host of theirs is silent.

use std::sync::Arc;
use std::time::Duration;

use nova_core::cloud::{ApiError, CloudOptions};
use nova_core::domain::{HostId, InstanceId, OpId, OpState, PowerState, Resources, Vcpus, VmState};
use nova_core::port::VirtDriver;

use crate::anew::{slow, until};
use crate::elsewhere::{others, restart};
use crate::live;
use crate::moves::home;
use crate::world::{World, run, spec};

/// Boots a server, lets its host fall silent, and deletes the server.
async fn deleted_in_silence(world: &mut World) -> (HostId, InstanceId, std::net::IpAddr) {
    let server = world.boot("web").await;
    let (id, host) = (server.instance.id, server.instance.host.unwrap());
    let name = server.host.unwrap();
    assert!(world.cloud.stop_host(&name).await);
    world.pass(Duration::from_secs(10)).await;
    let project = world.project();
    world.done(project.delete_server(project.new_request(), id).await).await;
    assert!(project.server(id).await.is_err());
    (host, id, server.ports[0].address)
}

/// What the network has owned and resting, and what is claimed on a host.
async fn held(world: &World, host: HostId) -> (usize, usize, Resources) {
    let admin = world.admin();
    let uses = admin.network_use().await.unwrap();
    let hosts = admin.hosts().await.unwrap();
    let used = hosts.iter().find(|row| row.host.id == host).unwrap().used;
    (uses[0].owned, uses[0].resting, used)
}

#[test]
fn what_a_guest_on_a_silent_host_may_still_use_is_nobody_elses_until_the_host_is_back() {
    run(async |world: &mut World| {
        let (host, id, address) = deleted_in_silence(world).await;
        // Much longer than any quarantine.
        world.pass(Duration::from_secs(600)).await;
        let (owned, resting, used) = held(world, host).await;
        assert_eq!((owned, resting, used.vcpus), (1, 0, Vcpus(2)));
        assert!(world.hosts[&host].guest(id).await.unwrap().is_some());
        let other = world.boot("other").await;
        assert_ne!(other.ports[0].address, address);
        world.healthy_but_for(host).await;

        let name = world.admin().hosts().await.unwrap();
        let name = name.into_iter().find(|row| row.host.id == host).unwrap().host.name;
        let driver = Arc::clone(&world.hosts[&host]);
        assert_eq!(world.cloud.add_host(spec(name.as_str()), driver).await.unwrap(), host);
        assert_eq!(world.hosts[&host].guest(id).await.unwrap(), None);
        assert_eq!(held(world, host).await, (1, 1, Resources::ZERO));
        // The quarantine begins when the guest is gone.
        world.pass(Duration::from_secs(50)).await;
        assert_ne!(world.boot("third").await.ports[0].address, address);
        world.healthy().await;
    });
}

#[test]
fn an_operators_word_frees_what_a_guest_on_a_silent_host_may_still_use() {
    run(async |world: &mut World| {
        let (host, ..) = deleted_in_silence(world).await;
        world.pass(Duration::from_secs(120)).await;
        assert_eq!(held(world, host).await.0, 1);
        let admin = world.admin();
        let refused = admin.remove_host(admin.new_request(), host).await.unwrap_err();
        assert!(refused.to_string().contains("in use"), "{refused}");
        admin.force_down(admin.new_request(), host, "switched off").await.unwrap();
        world.pass(Duration::from_secs(10)).await;
        assert_eq!(held(world, host).await, (0, 1, Resources::ZERO));
        admin.remove_host(admin.new_request(), host).await.unwrap();
        world.healthy_but_for(host).await;
    });
}

/// The agent of a host is gone, its guests stay as they are, and everybody sees it.
pub(crate) async fn silence(world: &mut World, host: HostId) {
    let known = world.admin().hosts().await.unwrap();
    let name = known.iter().find(|row| row.host.id == host).unwrap().host.name.clone();
    assert!(world.cloud.stop_host(&name).await);
    world.pass(CloudOptions::default().down_after * 2).await;
}

/// A move of a server, and where the guest is when one of its ends falls silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It is shut down on the way to the other host.
    Cold,
    /// It is expected, frozen, at the other host.
    Live,
}

/// Begins a move and lets the host that it goes to fall silent with a guest of it.
async fn half_moved(world: &mut World, way: Way) -> (InstanceId, OpId, HostId) {
    let id = world.boot("web").await.instance.id;
    let there = others(world, id).await[0];
    let op = match way {
        Way::Live => live::begin(world, id, "send").await,
        Way::Cold => {
            let begun = Arc::default();
            restart(world, there, Some(&slow(world, "start", &begun))).await;
            let admin = world.admin();
            let moved = admin.migrate_server(admin.new_request(), id).await.unwrap();
            until(&begun).await;
            moved.operation
        }
    };
    let guest = world.hosts[&there].guest(id).await.unwrap().unwrap();
    assert_ne!(guest.power, PowerState::Running);
    (id, op, there)
}

/// A live migration that was given up while the host that it went to was silent.
async fn given_up(world: &mut World) -> (InstanceId, HostId) {
    let (id, op, there) = half_moved(world, Way::Live).await;
    silence(world, there).await;
    let op = live::watched(world, op).await;
    assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
    (id, there)
}

#[test]
fn a_move_that_is_given_up_leaves_the_claim_of_its_silent_end_until_the_host_has_spoken() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let (id, there) = given_up(world).await;
        let server = project.server(id).await.unwrap().instance;
        assert_eq!((server.state, server.migration.as_ref()), (VmState::Active, None));
        world.pass(Duration::from_secs(600)).await;
        let frozen = world.hosts[&there].guest(id).await.unwrap().unwrap();
        assert_eq!(frozen.power, PowerState::Paused);
        live::check_moment(world).await;
        assert_eq!(held(world, there).await.2.vcpus, Vcpus(2));
        assert_eq!(world.power(id).await, Some(PowerState::Running));
        let refused = admin.remove_host(admin.new_request(), there).await;
        assert!(matches!(refused, Err(ApiError::InUse { .. })), "{refused:?}");

        restart(world, there, None).await;
        assert_eq!(world.hosts[&there].guest(id).await.unwrap(), None);
        assert_eq!(held(world, there).await, (1, 0, Resources::ZERO));
        world.healthy().await;
        // Nothing of it is left that would keep the server away.
        world.done(admin.live_migrate_server(admin.new_request(), id).await).await;
        assert_eq!(home(world, id).await, there);
        world.healthy().await;
    });
}

#[test]
fn an_operators_word_frees_what_a_move_has_left_on_a_silent_host() {
    run(async |world: &mut World| {
        let admin = world.admin();
        let (_, there) = given_up(world).await;
        assert_eq!(held(world, there).await.2.vcpus, Vcpus(2));
        admin.force_down(admin.new_request(), there, "switched off").await.unwrap();
        world.pass(CloudOptions::default().sweep_interval * 2).await;
        // The server lives on, and keeps its address.
        assert_eq!(held(world, there).await, (1, 0, Resources::ZERO));
        live::check_moment(world).await;
        admin.remove_host(admin.new_request(), there).await.unwrap();
    });
}

#[test]
fn a_move_whose_end_was_declared_down_leaves_nothing_there() {
    for way in [Way::Cold, Way::Live] {
        run(async |world: &mut World| {
            let (admin, project) = (world.admin(), world.project());
            let (id, op, there) = half_moved(world, way).await;
            silence(world, there).await;
            admin.force_down(admin.new_request(), there, "burnt").await.unwrap();
            let op = live::watched(world, op).await;
            assert!(matches!(op.state, OpState::Failed(_)), "{way:?}: {op:#?}");
            assert_eq!(held(world, there).await, (1, 0, Resources::ZERO), "{way:?}");
            assert_eq!(project.server(id).await.unwrap().instance.state, VmState::Active);
        });
    }
}

#[test]
fn a_move_that_is_over_leaves_the_claim_of_the_silent_host_that_the_server_was_on() {
    for way in [Way::Cold, Way::Live] {
        run(async |world: &mut World| {
            let (admin, project) = (world.admin(), world.project());
            let id = world.boot("web").await.instance.id;
            let old = home(world, id).await;
            let op = match way {
                Way::Cold => {
                    world.done(admin.migrate_server(admin.new_request(), id).await).await;
                    silence(world, old).await;
                    project.confirm_resize(project.new_request(), id).await.unwrap().operation
                }
                Way::Live => {
                    let op = live::begin(world, id, "unpause").await;
                    silence(world, old).await;
                    op
                }
            };
            let op = live::watched(world, op).await;
            assert_eq!(op.state, OpState::Done, "{way:?}: {op:#?}");
            assert!(world.hosts[&old].guest(id).await.unwrap().is_some());
            assert_eq!(held(world, old).await.2.vcpus, Vcpus(2), "{way:?}");
            world.healthy_but_for(old).await;
            // Where it may still be it does not go.
            let moved = admin.migrate_server(admin.new_request(), id).await.unwrap();
            assert!(matches!(world.ended(moved.operation).await.state, OpState::Failed(_)));

            restart(world, old, None).await;
            assert_eq!(world.hosts[&old].guest(id).await.unwrap(), None);
            assert_eq!(held(world, old).await, (1, 0, Resources::ZERO), "{way:?}");
            world.done(admin.migrate_server(admin.new_request(), id).await).await;
            assert_eq!(home(world, id).await, old);
            world.healthy().await;
        });
    }
}

#[test]
fn a_server_that_is_shelved_or_deleted_meanwhile_keeps_or_frees_its_address_as_it_lives_or_not() {
    for shelved in [true, false] {
        run(async |world: &mut World| {
            let project = world.project();
            let (id, there) = given_up(world).await;
            if shelved {
                world.done(project.shelve_server(project.new_request(), id).await).await;
            } else {
                world.done(project.delete_server(project.new_request(), id).await).await;
            }
            live::check_moment(world).await;
            // What is on the silent host may use the address, whatever became of the server.
            assert_eq!(
                (held(world, there).await.0, held(world, there).await.2.vcpus),
                (1, Vcpus(2))
            );
            restart(world, there, None).await;
            let left = if shelved { (1, 0, Resources::ZERO) } else { (0, 1, Resources::ZERO) };
            assert_eq!(held(world, there).await, left);
            if shelved {
                world.done(project.unshelve_server(project.new_request(), id).await).await;
            }
            world.healthy().await;
        });
    }
}
