//! Hosts that tell of their guests, long before anybody looks by themselves.

use std::sync::Arc;
use std::time::Duration;

use nova_core::cloud::CloudOptions;
use nova_core::domain::{Instance, InstanceId, PowerState, VmState};
use nova_core::port::VirtDriver as _;

use crate::world::{World, run_over};

/// Nobody looks by themselves while a test runs.
fn without_sweeps() -> CloudOptions {
    CloudOptions::default().with_sweep_interval(Duration::from_secs(24 * 3600))
}

/// Long enough for whoever was told.
const AT_ONCE: Duration = Duration::from_secs(1);

async fn record(world: &World, id: InstanceId) -> Instance {
    world.project().server(id).await.unwrap().instance
}

#[test]
fn a_guest_that_ends_by_itself_is_noticed_at_once() {
    run_over(
        |ports| ports,
        without_sweeps(),
        async |world: &mut World| {
            let server = world.boot("web").await.instance;
            let host = Arc::clone(&world.hosts[&server.host.unwrap()]);
            host.stop(server.id).await.unwrap();
            world.pass(AT_ONCE).await;
            let seen = record(world, server.id).await;
            assert_eq!((seen.state, seen.power), (VmState::Stopped, Some(PowerState::Shutdown)));
            // Its owner starts it again, and somebody destroys it.
            let project = world.project();
            world.done(project.start(project.new_request(), server.id).await).await;
            host.remove(server.id).await.unwrap();
            world.pass(AT_ONCE).await;
            assert_eq!(record(world, server.id).await.state, VmState::Error);
        },
    );
}

#[test]
fn a_guest_that_nobody_asked_for_is_removed_at_once() {
    run_over(
        |ports| ports,
        without_sweeps(),
        async |world: &mut World| {
            let host = world.hosts.values().next().unwrap();
            host.plant_guest(InstanceId::from_u128(99));
            world.pass(AT_ONCE).await;
            assert_eq!(world.guests().await, 0);
        },
    );
}

/// The orders of the cloud itself are told of as well, and nobody falls over them.
#[test]
fn what_the_cloud_does_itself_is_not_taken_for_something_that_happened() {
    run_over(
        |ports| ports,
        without_sweeps(),
        async |world: &mut World| {
            let server = world.boot("web").await.instance;
            let project = world.project();
            for state in [VmState::Stopped, VmState::Active, VmState::Paused, VmState::Active] {
                let request = project.new_request();
                let accepted = match (record(world, server.id).await.state, state) {
                    (VmState::Paused, _) => project.unpause(request, server.id).await,
                    (_, VmState::Stopped) => project.stop(request, server.id).await,
                    (_, VmState::Paused) => project.pause(request, server.id).await,
                    _ => project.start(request, server.id).await,
                };
                world.done(accepted).await;
                world.pass(AT_ONCE).await;
                assert_eq!(record(world, server.id).await.state, state);
            }
            world.healthy().await;
        },
    );
}
