//! Ways in whose view of the store is behind: what somebody was told already, nobody is told
//! otherwise.

use std::sync::Arc;

use nova_core::cloud::{Admin, ApiError, Cloud, CloudOptions, GroupSpec, Ports, ServerSpec};
use nova_core::domain::{
    Action, FailedCheck, FloatingPool, GroupPolicy, HostTable, InterfaceName, Invalid, Limit,
    NetworkKind, OpState, Placement, Quantum, Quota, Refusal, RequestSpec, ResourceKind, VmState,
};
use nova_core::memory::FirstFit;
use nova_core::port::{NetError, NetworkSpec, NoValidHost, Scheduler};
use nova_core::seed::Seed;
use nova_core::testing::LateStore;

use crate::world::{World, run, run_with};

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

/// Chooses the first host, whatever is asked.
#[derive(Debug)]
pub(crate) struct Blind;

impl std::fmt::Display for Blind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("blind")
    }
}

impl Scheduler for Blind {
    fn select(
        &self,
        hosts: &HostTable,
        request: &RequestSpec,
        _: Seed,
    ) -> Result<Placement, NoValidHost> {
        let first = hosts.rows().map(|host| host.id).take(1);
        let mut placement = FirstFit
            .select(hosts, request, Seed::new(1))
            .unwrap_or_else(|_| Placement { hosts: Vec::new() });
        placement.hosts = first.collect();
        Ok(placement)
    }

    fn explain(&self, hosts: &HostTable, request: &RequestSpec) -> Refusal {
        FirstFit.explain(hosts, request)
    }

    fn check_extra_spec(&self, key: &str, value: &str) -> Result<(), Invalid> {
        FirstFit.check_extra_spec(key, value)
    }

    fn check_hint(&self, name: &str, words: &[String]) -> Result<(), Invalid> {
        FirstFit.check_hint(name, words)
    }
}

#[test]
fn a_claim_that_may_not_be_made_names_the_check_that_failed() {
    run_with(
        |ports| ports.with_scheduler(Blind),
        async |world| {
            let project = world.project();
            let check = async |spec: &ServerSpec| {
                let asked = project.create_server(project.new_request(), spec).await.unwrap();
                let op = world.ended(asked.operation).await;
                let OpState::Failed(fault) = op.state else { panic!("{op:#?}") };
                *fault.check.unwrap()
            };
            let hosts = world.admin().hosts().await.unwrap();
            let first = hosts.iter().min_by_key(|host| host.host.id).unwrap().host.name.clone();
            let huge = FailedCheck::Capacity {
                host: first.clone(),
                resource: ResourceKind::Vcpus,
                wanted: 16,
            };
            assert_eq!(check(&world.server("big", "huge")).await, huge);

            let apart = GroupSpec::new("apart".parse().unwrap(), GroupPolicy::AntiAffinity);
            let group = project.create_group(project.new_request(), &apart).await.unwrap();
            let member = |name| {
                let mut spec = world.server(name, "small");
                spec.group = Some(group);
                spec
            };
            world.done(project.create_server(project.new_request(), &member("a")).await).await;
            let policy = GroupPolicy::AntiAffinity;
            let broken = FailedCheck::GroupRule { group, policy, host: first };
            assert_eq!(check(&member("b")).await, broken);
        },
    );
}

#[test]
fn a_network_without_addresses_is_named() {
    run(async |world| {
        let (admin, project) = (world.admin(), world.project());
        let range = "10.9.0.0/30".parse().unwrap();
        let spec = NetworkSpec::new("narrow".parse().unwrap(), NetworkKind::FlatDhcp, range);
        let narrow = admin.create_networks(admin.new_request(), &spec).await.unwrap()[0].id;
        let mut failed = Vec::new();
        for name in ["a", "b", "c"] {
            let mut spec = world.server(name, "small");
            spec.networks = vec![narrow];
            let asked = project.create_server(project.new_request(), &spec).await.unwrap();
            if let OpState::Failed(fault) = world.ended(asked.operation).await.state {
                failed.push(*fault.check.unwrap());
            }
        }
        let narrow = FailedCheck::Addresses { of: "narrow".to_owned() };
        assert!(!failed.is_empty() && failed.iter().all(|check| *check == narrow), "{failed:?}");
    });
}
