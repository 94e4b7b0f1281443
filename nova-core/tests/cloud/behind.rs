//! Ways in whose view of the store is behind: what somebody was told already, nobody is told
//! otherwise.

use std::sync::Arc;

use nova_core::cloud::{Admin, ApiError, Cloud, CloudOptions, Ports};
use nova_core::domain::{
    Action, FloatingPool, InterfaceName, Limit, OpState, Quantum, Quota, VmState,
};
use nova_core::port::NetError;
use nova_core::seed::Seed;
use nova_core::testing::LateStore;

use crate::world::{World, run};

/// Another way in to the same cloud, which hears of everything late.
async fn late(world: &World, name: &str) -> Admin {
    let (ports, seed) = (world.cloud.ports(), Seed::new(9).child(name));
    let late = LateStore::new(&ports.store, &world.clock, seed).await.unwrap();
    let late = Arc::new(late);
    tokio::spawn(Arc::clone(&late).tell());
    let mut over = Ports::over(late, Arc::clone(&ports.clock), seed);
    (over.images, over.bus) = (Arc::clone(&ports.images), Arc::clone(&ports.bus));
    Cloud::handles(over, CloudOptions::default()).await.unwrap()
}

fn only(servers: u64) -> Quota {
    Quota { instances: Limit::AtMost(servers), ..Quota::UNLIMITED }
}

#[test]
fn a_server_that_somebody_was_told_of_is_there_for_everybody() {
    run(async |world| {
        let there = late(world, "late").await.project("demo".parse().unwrap());
        let server = world.boot("one").await.instance.id;
        assert_eq!(there.server(server).await.unwrap().instance.id, server);
        let server = world.boot("two").await.instance.id;
        let stopped = there.stop(there.new_request(), server).await;
        world.done(stopped).await;
        // The next one knows that it is stopped, though it has not heard of it.
        let again = there.stop(there.new_request(), server).await;
        let Err(ApiError::ServerState { action, state, task, .. }) = again else {
            panic!("{again:?}");
        };
        assert_eq!((action, state, task), (Action::Stop, VmState::Stopped, None));
        world.healthy().await;
    });
}

#[test]
fn what_was_given_back_is_there_for_everybody() {
    run(async |world| {
        let (admin, project) = (world.admin(), world.project());
        admin.set_quota(admin.new_request(), project.id(), only(1)).await.unwrap();
        let first = world.boot("one").await.instance.id;
        let there = late(world, "late").await.project(project.id().clone());
        world.done(project.delete_server(project.new_request(), first).await).await;
        let spec = world.server("two", "small");
        world.done(there.create_server(there.new_request(), &spec).await).await;
        world.healthy().await;
    });
}

#[test]
fn of_two_who_take_the_last_of_a_quota_one_is_told_which() {
    run(async |world| {
        let (admin, project) = (world.admin(), world.project());
        admin.set_quota(admin.new_request(), project.id(), only(1)).await.unwrap();
        let id = || project.id().clone();
        let one = late(world, "one").await.project(id());
        let two = late(world, "two").await.project(id());
        let (a, b) = (world.server("a", "small"), world.server("b", "small"));
        let (a, b) = tokio::join!(
            one.create_server(one.new_request(), &a),
            two.create_server(two.new_request(), &b),
        );
        let (Ok(taken), Err(ApiError::OverQuota(over))) = (if a.is_ok() { (a, b) } else { (b, a) })
        else {
            panic!("both or none");
        };
        assert_eq!((over.quantum, over.used, over.wanted), (Quantum::Instances, 1, 1));
        assert_eq!(over.limit, Limit::AtMost(1));
        assert_eq!(world.ended(taken.operation).await.state, OpState::Done);
        world.healthy().await;
    });
}

#[test]
fn of_two_who_take_the_last_address_one_is_told_which_pool_is_empty() {
    run(async |world| {
        let (admin, project) = (world.admin(), world.project());
        let pool = FloatingPool {
            name: "public".parse().unwrap(),
            range: "203.0.113.7/32".parse().unwrap(),
            interface: InterfaceName::new("eth0").unwrap(),
        };
        admin.create_floating_pool(admin.new_request(), &pool).await.unwrap();
        let id = || project.id().clone();
        let one = late(world, "one").await.project(id());
        let two = late(world, "two").await.project(id());
        let (a, b) = tokio::join!(
            one.allocate_floating_ip(one.new_request(), &pool.name),
            two.allocate_floating_ip(two.new_request(), &pool.name),
        );
        let (taken, refused, other) = if a.is_ok() { (a, b, two) } else { (b, a, one) };
        assert!(taken.is_ok(), "{taken:?}");
        let Err(ApiError::Network { source: NetError::NoMoreAddresses { of } }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(of, "public");
        // It is the project's, whichever way in it came through.
        other.release_floating_ip(other.new_request(), taken.unwrap()).await.unwrap();
        world.healthy().await;
    });
}
