//! Examining a cloud while it works.

use nova_core::doctor::Strictness;
use nova_core::domain::{HostName, PowerState};
use nova_core::port::VirtDriver as _;

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
