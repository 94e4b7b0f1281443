//! What happens when parts fail.

use std::fmt::{Debug, Display};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use nova_core::cloud::{Cloud, CloudOptions, Ports};
use nova_core::domain::{InstanceId, Liveness, OpState, PowerState, VmState};
use nova_core::memory::{LocalBus, MemoryHost};
use nova_core::port::{BusError, Inbox, MessageBus, Payload, Topic, VirtDriver as _};

use crate::stubborn::{Stubborn, Trouble};
use crate::world::{HOST, World, run, run_with, spec};

/// A host that makes no guest.
fn barren() -> Stubborn {
    Stubborn::new(Arc::new(MemoryHost::new(HOST)), Trouble::NeverCreate)
}

/// A host that takes twenty seconds to make a guest; `begun` says that it has begun.
fn slow(world: &World, begun: &Arc<AtomicBool>) -> Stubborn {
    let (verb, time, begun) = ("create", Duration::from_secs(20), Arc::clone(begun));
    let slow = Trouble::Slow { verb, clock: Arc::clone(&world.clock), time, begun };
    Stubborn::new(Arc::new(MemoryHost::new(HOST)), slow)
}

#[test]
fn a_host_that_cannot_make_the_guest_is_left_for_another() {
    run(async |world: &mut World| {
        for name in ["alpha", "beta"] {
            world.cloud.add_host(spec(name), barren()).await.unwrap();
        }
        let good = world.add_host("gamma").await;
        let server = world.boot("web").await.instance;
        assert_eq!(server.host, Some(good));
        let claimed: usize =
            world.admin().hosts().await.unwrap().iter().map(|host| host.instances.len()).sum();
        assert_eq!(claimed, 1);
    });
}

#[test]
fn a_server_that_no_host_can_make_fails_and_holds_nothing() {
    run(async |world: &mut World| {
        for name in ["alpha", "beta"] {
            world.cloud.add_host(spec(name), barren()).await.unwrap();
        }
        let project = world.project();
        let before = world.admin().census().await.unwrap();
        let wanted = world.server("web", "small");
        let accepted = project.create_server(project.new_request(), &wanted).await.unwrap();
        let op = world.ended(accepted.operation).await;
        assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
        let server = project.server(accepted.id).await.unwrap();
        assert_eq!(server.instance.state, VmState::Error);
        assert_eq!(server.ports, []);
        assert_eq!(world.admin().census().await.unwrap().used, before.used);
    });
}

/// A bus that loses every cast.
#[derive(Debug)]
struct Deaf(LocalBus);

impl Display for Deaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("deaf bus")
    }
}

#[async_trait]
impl MessageBus for Deaf {
    async fn cast(&self, _: &Topic, _: Payload) -> Result<(), BusError> {
        Ok(())
    }

    async fn call(&self, to: &Topic, body: Payload, limit: Duration) -> Result<Payload, BusError> {
        self.0.call(to, body, limit).await
    }

    async fn serve(&self, at: &Topic) -> Result<Inbox, BusError> {
        self.0.serve(at).await
    }
}

#[test]
fn a_lost_wake_up_delays_an_operation_and_no_more() {
    let deaf = |ports: Ports| {
        let bus = Deaf(LocalBus::new(Arc::clone(&ports.clock)));
        ports.with_bus(bus)
    };
    run_with(deaf, async |world: &mut World| {
        assert_eq!(world.boot("web").await.instance.state, VmState::Active);
    });
}

#[test]
fn a_silent_host_counts_as_down_and_is_not_waited_for() {
    run(async |world: &mut World| {
        let project = world.project();
        let server = world.boot("web").await.instance;
        let lost = server.host.unwrap();
        let name = world.project().server(server.id).await.unwrap().host.unwrap();
        world.cloud.stop_host(&name).await;
        world.pass(CloudOptions::default().down_after * 2).await;
        let hosts = world.admin().hosts().await.unwrap();
        let down: Vec<_> =
            hosts.iter().filter(|h| h.liveness == Liveness::Down).map(|h| h.host.id).collect();
        assert_eq!(down, [lost]);
        world.done(project.delete_server(project.new_request(), server.id).await).await;
        assert_eq!(world.guests().await, 1, "nobody could reach the guest");
        // It comes back, with the guest that nobody owns any more.
        let driver = Arc::clone(&world.hosts[&lost]);
        world.cloud.add_host(spec(name.as_str()), driver).await.unwrap();
        assert_eq!(world.guests().await, 0);
    });
}

#[test]
fn a_guest_that_was_stopped_behind_our_back_is_recorded_as_stopped() {
    run(async |world: &mut World| {
        let server = world.boot("web").await.instance;
        world.hosts[&server.host.unwrap()].stop(server.id).await.unwrap();
        world.pass(CloudOptions::default().sweep_interval * 2).await;
        let server = world.project().server(server.id).await.unwrap().instance;
        assert_eq!((server.state, server.power), (VmState::Stopped, Some(PowerState::Shutdown)));
    });
}

#[test]
fn a_guest_without_owner_is_removed() {
    run(async |world: &mut World| {
        let host = world.hosts.values().next().unwrap();
        host.plant_guest(InstanceId::from_u128(99));
        world.pass(CloudOptions::default().sweep_interval * 2).await;
        assert_eq!(world.guests().await, 0);
    });
}

#[test]
fn what_was_accepted_before_a_restart_is_done_after_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut world = World::new(|ports| ports).await;
        let project = world.project();
        let wanted = world.server("web", "small");
        let accepted = project.create_server(project.new_request(), &wanted).await.unwrap();
        // Nobody had a turn since: the operation has not begun. The process ends here.
        let (ports, clock) = (world.cloud.ports().clone(), Arc::clone(&world.clock));
        world.cloud.stop().await;
        world.cloud = Cloud::start(ports, CloudOptions::default()).await.unwrap();
        let work = async {
            for name in ["alpha", "beta"] {
                world.add_host(name).await;
            }
            let op = world.ended(accepted.operation).await;
            assert_eq!(op.state, OpState::Done, "{op:#?}");
        };
        clock.drive(work).await;
    });
}

#[test]
fn a_server_that_is_deleted_while_it_is_made_leaves_nothing() {
    run(async |world: &mut World| {
        let entered = Arc::new(AtomicBool::new(false));
        let mut drivers = Vec::new();
        for name in ["alpha", "beta"] {
            let driver = Arc::new(slow(world, &entered));
            world.cloud.add_host(spec(name), Arc::clone(&driver)).await.unwrap();
            drivers.push(driver);
        }
        let project = world.project();
        let wanted = world.server("web", "small");
        let created = project.create_server(project.new_request(), &wanted).await.unwrap();
        while !entered.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        world.done(project.delete_server(project.new_request(), created.id).await).await;
        let op = world.ended(created.operation).await;
        assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
        for driver in drivers {
            assert_eq!(driver.guests().await.unwrap(), []);
        }
        let hosts = world.admin().hosts().await.unwrap();
        assert!(hosts.iter().all(|host| host.instances.is_empty()));
        assert_eq!(project.servers().await.unwrap(), []);
    });
}

#[test]
fn what_was_begun_before_a_restart_waits_for_its_host() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut world = World::new(|ports| ports).await;
        let begun = Arc::new(AtomicBool::new(false));
        for name in ["alpha", "beta"] {
            world.cloud.add_host(spec(name), slow(&world, &begun)).await.unwrap();
        }
        let project = world.project();
        let wanted = world.server("web", "small");
        let accepted = project.create_server(project.new_request(), &wanted).await.unwrap();
        while !begun.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        // The process ends while the host makes the guest, and comes back some time later,
        // without its hosts at first.
        let (ports, clock) = (world.cloud.ports().clone(), Arc::clone(&world.clock));
        world.cloud.stop().await;
        world.cloud = Cloud::start(ports, CloudOptions::default()).await.unwrap();
        let work = async {
            world.pass(CloudOptions::default().down_after / 2).await;
            for name in ["alpha", "beta"] {
                world.add_host(name).await;
            }
            let op = world.ended(accepted.operation).await;
            assert_eq!(op.state, OpState::Done, "{op:#?}");
            assert_eq!(op.tried, std::collections::BTreeSet::new());
        };
        clock.drive(work).await;
    });
}
