//! Resource classes beyond CPUs, memory and disk: counted like these, from the host's word to the
//! claim and back.

use std::sync::Arc;

use nova_core::cloud::{ApiError, FlavorSpec, HostSpec, HostStatus, ServerSpec, UnknownKeys};
use nova_core::domain::{
    FailedCheck, Fault, GiB, HostName, InstanceId, MiB, OpState, ResourceClass, ResourceKind,
    Stock, Units, Vcpus,
};
use nova_core::memory::MemoryHost;
use nova_core::port::Scheduler as _;

use crate::behind::Blind;
use crate::world::{HOST, World, run, run_with, spec};

fn licence() -> ResourceClass {
    "CUSTOM_LICENCE".parse().unwrap()
}

/// A cloud whose third host, `licensed`, has three licences, one of them by its driver's word and
/// all by its operator's; and flavors that ask for one, two or four.
async fn world_with_licences(world: &mut World) {
    let driver = MemoryHost::new(HOST).with_class(licence(), Stock::new(1));
    let licensed = spec("licensed").with_class(licence(), Stock::new(3));
    world.cloud.add_host(licensed, Arc::new(driver)).await.unwrap();
    let admin = world.admin();
    for (name, count) in [("one", "1"), ("two", "2"), ("four", "4")] {
        let flavor = FlavorSpec::new(name.parse().unwrap(), Vcpus(1), MiB(2048))
            .with_root_disk(GiB(10))
            .with_unknown_keys(UnknownKeys::Keep)
            .with_extra_spec("resources:CUSTOM_LICENCE", count);
        admin.create_flavor(admin.new_request(), &flavor).await.unwrap();
    }
}

async fn status(world: &World, name: &str) -> HostStatus {
    let name: HostName = name.parse().unwrap();
    let hosts = world.admin().hosts().await.unwrap();
    hosts.into_iter().find(|host| host.host.name == name).unwrap()
}

async fn used(world: &World) -> u64 {
    status(world, "licensed").await.used_classes.of(&licence())
}

async fn create(world: &World, name: &str, flavor: &str) -> Result<InstanceId, Fault> {
    let project = world.project();
    let spec: ServerSpec = world.server(name, flavor);
    let asked = project.create_server(project.new_request(), &spec).await.unwrap();
    match world.ended(asked.operation).await.state {
        OpState::Failed(fault) => Err(fault),
        _ => Ok(asked.id),
    }
}

#[test]
fn a_class_is_counted_where_it_is_and_given_back() {
    run(async |world: &mut World| {
        world_with_licences(world).await;
        let project = world.project();
        let two = create(world, "two", "two").await.unwrap();
        assert_eq!(used(world).await, 2);
        let refused = create(world, "too-many", "two").await.unwrap_err();
        assert!(refused.refusal.is_some(), "{refused:?}");
        create(world, "one", "one").await.unwrap();
        assert_eq!(used(world).await, 3);
        world.healthy().await;
        world.done(project.delete_server(project.new_request(), two).await).await;
        assert_eq!(used(world).await, 1);
        create(world, "again", "two").await.unwrap();
        world.healthy().await;
    });
}

#[test]
fn a_resize_claims_what_the_new_flavor_asks_for_and_gives_the_old_back() {
    run(async |world: &mut World| {
        world_with_licences(world).await;
        let project = world.project();
        let server = world.boot("web").await.instance.id;
        let to = "two".parse().unwrap();
        world.done(project.resize_server(project.new_request(), server, &to).await).await;
        assert_eq!(used(world).await, 2);
        world.healthy().await;
        world.done(project.revert_resize(project.new_request(), server).await).await;
        assert_eq!(used(world).await, 0);
        world.done(project.resize_server(project.new_request(), server, &to).await).await;
        world.done(project.confirm_resize(project.new_request(), server).await).await;
        assert_eq!(used(world).await, 2);
        world.healthy().await;
    });
}

#[test]
fn a_scheduler_that_does_not_count_them_is_refused_and_the_class_is_named() {
    run_with(
        |ports| ports.with_scheduler(Blind),
        async |world| {
            world_with_licences(world).await;
            let hosts = world.admin().hosts().await.unwrap();
            let first = hosts.iter().min_by_key(|host| host.host.id).unwrap().host.name.clone();
            let fault = create(world, "four", "four").await.unwrap_err();
            let check = FailedCheck::ClassCapacity { host: first, class: licence(), wanted: 4 };
            assert_eq!(fault.check.map(|check| *check), Some(check));
            world.healthy().await;
        },
    );
}

#[test]
fn a_host_gives_out_cpus_only_in_the_amounts_that_its_operator_names() {
    run(async |world: &mut World| {
        let project = world.project();
        for name in ["alpha", "beta"] {
            let name: HostName = name.parse().unwrap();
            let host = world.cloud.stop_host(&name).await;
            assert!(host);
            let units = Units { min: 4, max: None, step: 4 };
            let fours = HostSpec::new(name).with_units(ResourceKind::Vcpus, units);
            world.cloud.add_host(fours, Arc::new(MemoryHost::new(HOST))).await.unwrap();
        }
        // Two CPUs are no multiple of four.
        let small = world.server("web", "small");
        let asked = project.create_server(project.new_request(), &small).await.unwrap();
        assert!(matches!(world.ended(asked.operation).await.state, OpState::Failed(_)));
        let none = Units { min: 0, max: None, step: 1 };
        let wrong = spec("gamma").with_units(ResourceKind::Disk, none);
        let refused = world.cloud.add_host(wrong, Arc::new(MemoryHost::new(HOST))).await;
        assert!(matches!(refused, Err(ApiError::Invalid(_))), "{refused:?}");
    });
}

#[test]
fn a_flavor_that_asks_for_what_is_no_class_is_refused() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        for (name, key, value) in [
            ("vcpu", "resources:VCPU", "1"),
            ("lower", "resources:licence", "1"),
            ("some", "resources:CUSTOM_LICENCE", "some"),
        ] {
            let flavor = FlavorSpec::new(name.parse().unwrap(), Vcpus(1), MiB(512))
                .with_unknown_keys(UnknownKeys::Keep)
                .with_extra_spec(key, value);
            admin.create_flavor(admin.new_request(), &flavor).await.unwrap();
            let spec = world.server(name, name);
            let refused = project.create_server(project.new_request(), &spec).await;
            assert!(matches!(refused, Err(ApiError::Invalid(_))), "{refused:?}");
        }
        assert!(world.cloud.ports().scheduler.check_extra_spec("resources:VCPU", "1").is_err());
        world.healthy().await;
    });
}

#[test]
fn a_host_that_comes_to_have_fewer_keeps_the_claims_that_were_right() {
    run(async |world: &mut World| {
        world_with_licences(world).await;
        create(world, "two", "two").await.unwrap();
        let licensed = status(world, "licensed").await;
        world.cloud.stop_host(&licensed.host.name).await;
        // Its driver knows of one, and its operator of none any more.
        let driver = Arc::new(MemoryHost::new(HOST).with_class(licence(), Stock::new(1)));
        world.cloud.add_host(spec("licensed"), driver).await.unwrap();
        let checkup = world.admin().doctor().await.unwrap();
        let over =
            |finding: &nova_core::doctor::Finding| finding.invariant == "claims fit their host";
        assert!(!checkup.findings.iter().any(over), "{checkup:?}");
        assert!(create(world, "one", "one").await.is_err());
    });
}
