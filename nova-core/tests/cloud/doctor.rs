//! Examining a cloud while it works.

use std::sync::Arc;

use nova_core::cloud::HostSpec;
use nova_core::doctor::{Checkup, Strictness};
use nova_core::domain::{HostId, HostName, InstanceId, OpState, PowerState, Resources, Vcpus};
use nova_core::port::VirtDriver as _;
use nova_core::store::record::{Claim, keys};
use nova_core::store::{Store as _, StoreExt as _, Txn};

use crate::world::{World, run};

fn names(hosts: &[HostName]) -> Vec<&str> {
    hosts.iter().map(HostName::as_str).collect()
}

#[test]
fn a_cloud_at_rest_is_healthy_and_every_host_was_asked() {
    run(async |world: &mut World| {
        world.boot("web").await;
        let checkup = world.admin().doctor().await.unwrap();
        assert_eq!(checkup.findings, []);
        assert_eq!((checkup.strictness, checkup.operations_open), (Strictness::Idle, 0));
        assert_eq!((checkup.servers, checkup.guests), (1, 1));
        assert_eq!(names(&checkup.asked), ["alpha", "beta"]);
        assert!(checkup.unasked.is_empty() && checkup.volumes_unasked.is_none());
    });
}

#[test]
fn a_cloud_at_work_is_examined_as_such() {
    run(async |world: &mut World| {
        let project = world.project();
        let spec = world.server("web", "small");
        let accepted = project.create_server(project.new_request(), &spec).await.unwrap();
        let checkup = world.admin().doctor().await.unwrap();
        assert_eq!(checkup.findings, []);
        world.ended(accepted.operation).await;
    });
}

#[test]
fn a_guest_that_stopped_by_itself_is_found_until_its_agent_has_seen_it() {
    run(async |world: &mut World| {
        let server = world.boot("web").await.instance;
        world.hosts[&server.host.unwrap()].stop(server.id).await.unwrap();
        assert_eq!(world.power(server.id).await, Some(PowerState::Shutdown));
        let checkup = world.admin().doctor().await.unwrap();
        let found: Vec<_> = checkup.findings.iter().map(|finding| finding.invariant).collect();
        assert_eq!(found, ["a guest has a record, and a record its guest"]);
        world.pass(std::time::Duration::from_secs(20)).await;
        assert!(world.admin().doctor().await.unwrap().is_healthy());
    });
}

#[test]
fn a_host_whose_agent_is_gone_is_listed_as_not_asked() {
    run(async |world: &mut World| {
        world.boot("web").await;
        let beta: HostName = "beta".parse().unwrap();
        assert!(world.cloud.stop_host(&beta).await);
        let checkup = world.admin().doctor().await.unwrap();
        assert_eq!(names(&checkup.asked), ["alpha"]);
        assert!(checkup.unasked[&beta].contains("nobody serves"), "{:?}", checkup.unasked);
        world.pass(std::time::Duration::from_secs(20)).await;
        let checkup = world.admin().doctor().await.unwrap();
        assert_eq!(checkup.unasked[&beta], "it is down");
    });
}

/// Starts the agent of a host anew, which keeps so many virtual CPUs for itself.
async fn restart_with(world: &mut World, id: HostId, reserved: u32) {
    let name = world.admin().hosts().await.unwrap();
    let name = name.into_iter().find(|h| h.host.id == id).unwrap().host.name;
    world.cloud.stop_host(&name).await;
    let reserved = Resources { vcpus: Vcpus(reserved), ..Resources::ZERO };
    let spec = HostSpec::new(name).with_reserved(reserved);
    world.cloud.add_host(spec, Arc::clone(&world.hosts[&id])).await.unwrap();
}

fn over(checkup: &Checkup) -> bool {
    checkup.findings.iter().any(|finding| finding.invariant == "claims fit their host")
}

#[test]
fn what_was_claimed_before_a_host_came_to_offer_less_is_right_and_nothing_beside_it() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let host = world.boot("web0").await.instance.host.unwrap();
        let spare = *world.hosts.keys().find(|id| **id != host).unwrap();
        let drain = admin.drain_host(admin.new_request(), spare, "spare").await.unwrap();
        assert_eq!(admin.wait(drain.operation).await.unwrap().state, OpState::Done);
        for n in 1..3 {
            world.boot(&format!("web{n}")).await;
        }
        // Six virtual CPUs of eight are claimed; now four are left, and then two.
        for reserved in [4, 6] {
            restart_with(world, host, reserved).await;
            assert!(admin.doctor().await.unwrap().is_healthy());
        }
        let spec = world.server("more", "small");
        let more = project.create_server(project.new_request(), &spec).await.unwrap();
        assert!(matches!(world.ended(more.operation).await.state, OpState::Failed(_)));
        // Somebody claims all the same.
        let instance = InstanceId::from_u128(404);
        let (amount, classes, assigned) = Default::default();
        let mut txn = Txn::new();
        txn.create(&Claim { host, instance, amount, classes, assigned, kept: false });
        world.cloud.ports().store.commit(txn).await.unwrap();
        assert!(over(&admin.doctor().await.unwrap()));
        // What was wrong before does not become right by offering less still.
        restart_with(world, host, 7).await;
        assert!(over(&admin.doctor().await.unwrap()));
    });
}

#[test]
fn a_claim_that_was_given_back_is_not_kept_when_it_is_made_again() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let server = world.boot("web").await.instance;
        let host = server.host.unwrap();
        restart_with(world, host, 7).await;
        assert!(admin.doctor().await.unwrap().is_healthy());
        world.done(admin.migrate_server(admin.new_request(), server.id).await).await;
        world.done(project.confirm_resize(project.new_request(), server.id).await).await;
        restart_with(world, host, 0).await;
        world.done(admin.migrate_server(admin.new_request(), server.id).await).await;
        world.done(project.confirm_resize(project.new_request(), server.id).await).await;
        assert_eq!(project.server(server.id).await.unwrap().instance.host, Some(host));
        let store = &world.cloud.ports().store;
        let claims = store.read_all::<Claim>(&keys::claims_on(host)).await.unwrap();
        assert_eq!(claims.iter().map(|claim| claim.value.kept).collect::<Vec<_>>(), [false]);
    });
}
